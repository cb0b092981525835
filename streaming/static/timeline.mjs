// The timeline of a day: a row for each angle, gaps as gaps; dragged, clicked, pinched, keyed.
import { DayView, pieces, ticks } from "./day_view.mjs";
import * as text from "./text.mjs";

/** @type {Record<string, number>} */
const KEYS = {
  ArrowLeft: -5000, ArrowRight: 5000, ArrowDown: -5000, ArrowUp: 5000, PageUp: -3_600_000, PageDown: 3_600_000,
};
const SLOP_PX = 6; // a press that moves less is a click

/** @import { DayRecord } from "./record.mjs" */
/** @typedef {{ x: number, begun: number, pinched: boolean }} Pointer */

export class Timeline {
  /**
   * @param {Element} root
   * @param {DayRecord} record
   * @param {string[]} ids of angles
   * @param {{ seek: (moment: number) => void, bounds: () => Stretch, oldest: () => number }} page
   *   `bounds` tells the day, to being now at most; `oldest`, what can still be watched
   */
  constructor(root, record, ids, { seek, bounds, oldest }) {
    this.record = record;
    this.ids = ids;
    this.seek = seek;
    this.bounds = bounds;
    this.oldest = oldest;
    this.view = new DayView(bounds, () => record.first);
    /** @type {HTMLElement} */
    this.track = root.querySelector("#track");
    this.ticks = root.querySelector("#ticks");
    this.lines = [...root.querySelectorAll(".line")].map((one) => /** @type {HTMLElement} */ (one));
    /** @type {HTMLElement} */
    this.needle = root.querySelector("#needle");
    /** @type {HTMLElement} */
    this.mark = root.querySelector("#mark");
    /** @type {Map<number, Pointer>} */
    this.pointers = new Map();
    /** @type {Stretch | null} */
    this.marked = null;
    this.drawn = "";
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.track);
  }

  /**
   * Returns the moment at a place of the page.
   * @param {number} x px
   */
  at(x) {
    const box = this.track.getBoundingClientRect();
    return this.view.at((x - box.left) / box.width);
  }

  /** @param {number} moment */
  show(moment) {
    const [day, now] = this.bounds();
    this.view.follow(moment, this.pointers.size > 0);
    this.draw();
    this.place(this.needle, moment, moment);
    this.track.ariaValueMin = String(Math.round(day / 1000));
    this.track.ariaValueMax = String(Math.round(now / 1000));
    this.track.ariaValueNow = String(Math.round(moment / 1000));
    this.track.ariaValueText = `${text.clock(moment)} ${text.zone.offset(moment)}`;
  }

  /**
   * @param {HTMLElement} element
   * @param {number} start
   * @param {number} end
   */
  place(element, start, end) {
    const left = this.view.share(start);
    element.style.left = `${left * 100}%`;
    if (end !== start) element.style.width = `${(this.view.share(end) - left) * 100}%`;
  }

  // Draws what is in view; nothing where it is drawn already.
  draw() {
    const { range } = this.view;
    const [from, to] = range;
    const width = this.track.clientWidth;
    const oldest = this.oldest();
    const angles = this.ids.map((id) => this.record.angles.get(id) ?? { stretches: [], gaps: [] });
    const pixel = (to - from) / Math.max(width, 1);
    const snap = (/** @type {number} */ ms) => Math.round(ms / pixel);
    const drawn = JSON.stringify([
      snap(from), snap(to), width, snap(oldest),
      angles.map(({ stretches, gaps }) => [stretches.map((one) => one.map(snap)), gaps.map((g) => [snap(g.from), snap(g.to ?? to)])]),
    ]);
    if (drawn === this.drawn || !width) return;
    this.drawn = drawn;
    this.drawTicks(range, width);
    const [, now] = this.bounds();
    angles.forEach((angle, n) => this.drawLine(this.lines[n], angle, range, { oldest, now, pixel }));
    if (this.marked) this.setMark(this.marked);
  }

  /**
   * @param {Stretch} range
   * @param {number} width px
   */
  drawTicks(range, width) {
    const midnight = text.zone.utc(text.zone.local(range[0]).day, "00:00:00");
    const { step, found } = ticks(range, width, midnight);
    this.ticks.replaceChildren(...found.map((at) => {
      const tick = document.createElement("span");
      tick.className = "tick";
      tick.textContent = step < 60_000 ? text.clock(at) : text.minute(at);
      this.place(tick, at, at);
      return tick;
    }));
  }

  /**
   * @param {Element} line
   * @param {AngleDay} day
   * @param {Stretch} range
   * @param {{ oldest: number, now: number, pixel: number }} more
   */
  drawLine(line, day, range, more) {
    line.replaceChildren(line.firstElementChild, ...pieces(day, range, more).map(({ kind, from, to, gap }) => {
      const one = document.createElement("span");
      one.className = `piece ${kind}`;
      if (gap) {
        const key = gap.to === null ? "noPictureSince" : "noPicture";
        one.title = text.say(key, { from: text.clock(gap.from), to: text.clock(gap.to ?? more.now), cause: gap.words });
      }
      this.place(one, from, to);
      return one;
    }));
  }

  /** @param {Stretch | null} marked of a copy to order */
  setMark(marked) {
    this.marked = marked;
    this.mark.hidden = !marked;
    if (marked) this.place(this.mark, ...marked);
  }

  /**
   * Shows `factor` times as much, around a moment.
   * @param {number} factor
   * @param {number} [around]
   */
  zoom(factor, around) {
    this.view.zoom(factor, around);
    this.show(this.view.moment);
  }

  whole() {
    this.view.whole();
    this.show(this.view.moment);
  }

  /** @param {number} moment */
  go(moment) { this.seek(this.view.within(moment)); }

  listen() {
    const { track } = this;
    track.addEventListener("keydown", (event) => {
      const by = KEYS[event.key] * (event.shiftKey && event.key.startsWith("Arrow") ? 12 : 1);
      if (by) this.go(this.view.moment + by);
      else if (event.key === "Home") this.go(Math.max(this.record.first ?? 0, this.bounds()[0]));
      else if (event.key === "End") this.go(this.bounds()[1]);
      else if (event.key === "+" || event.key === "=") this.zoom(0.5);
      else if (event.key === "-") this.zoom(2);
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    track.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && Math.abs(event.deltaY) > Math.abs(event.deltaX)) return; // the page's
      event.preventDefault();
      if (event.ctrlKey) this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.at(event.clientX));
      else this.pan((event.deltaX / track.clientWidth) * (this.view.range[1] - this.view.range[0]));
    }, { passive: false });
    track.addEventListener("pointerdown", (event) => {
      track.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.clientX, begun: event.clientX, pinched: false });
    });
    track.addEventListener("pointermove", (event) => this.move(event));
    const up = (/** @type {PointerEvent} */ event) => {
      const one = this.pointers.get(event.pointerId);
      this.pointers.delete(event.pointerId);
      if (one && event.type === "pointerup" && !one.pinched) this.go(this.at(event.clientX));
    };
    track.addEventListener("pointerup", up);
    track.addEventListener("pointercancel", up);
  }

  /** @param {PointerEvent} event */
  move(event) {
    const one = this.pointers.get(event.pointerId);
    if (!one) return;
    const others = [...this.pointers.values()].filter((other) => other !== one);
    if (others.length === 1) { // pinched: the two moments stay under the two fingers
      const [other] = others;
      const before = Math.abs(one.x - other.x);
      const after = Math.abs(event.clientX - other.x);
      one.pinched = true;
      other.pinched = true;
      if (before > 10 && after > 10) this.zoom(before / after, this.at(other.x));
    } else if (Math.abs(event.clientX - one.begun) > SLOP_PX && !one.pinched) {
      this.place(this.needle, this.at(event.clientX), this.at(event.clientX)); // goes there when it is let go
    }
    one.x = event.clientX;
  }

  /** @param {number} by ms */
  pan(by) {
    this.view.pan(by);
    this.draw();
    this.place(this.needle, this.view.moment, this.view.moment);
  }
}
