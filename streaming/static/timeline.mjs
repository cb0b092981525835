// The timeline of a day: a row for each angle, gaps as gaps; dragged, clicked, pinched, keyed.
import { DayView, pieces, ticks } from "./day_view.mjs";
import { within } from "./page.mjs";
import * as text from "./text.mjs";

/** @type {Record<string, number>} */
const KEYS = {
  ArrowLeft: -5000, ArrowRight: 5000, ArrowDown: -5000, ArrowUp: 5000, PageUp: -3_600_000, PageDown: 3_600_000,
};
const SLOP_PX = 6; // a press that moves less is a click
const GRIP_PX = 10; // so near to the needle a mouse takes hold of it

/** @import { DayRecord } from "./record.mjs" */
/** @typedef {{ x: number, begun: number, does: "" | "scrub" | "select" | "pinch" }} Pointer */
/**
 * @typedef {object} Around what a timeline needs of its page
 * @property {(moment: number) => void} seek
 * @property {() => Stretch} bounds the day, to being now at most
 * @property {() => number} oldest what can still be watched
 * @property {(moment: number | null, share: number) => void} hover a pointer is over a moment
 * @property {(stretch: Stretch) => void} select somebody dragged over a stretch
 */

export class Timeline {
  /**
   * @param {Element} root
   * @param {DayRecord} record
   * @param {string[]} ids of angles
   * @param {Around} around
   */
  constructor(root, record, ids, around) {
    this.record = record;
    this.ids = ids;
    this.around = around;
    this.bounds = around.bounds;
    this.oldest = around.oldest;
    this.view = new DayView(this.bounds, () => record.first);
    this.track = within(root, "#track");
    this.ticks = within(root, "#ticks");
    this.lines = [...root.querySelectorAll(".line")].map((one) => /** @type {HTMLElement} */ (one));
    this.needle = within(root, "#needle");
    this.mark = within(root, "#mark");
    /** @type {Map<number, Pointer>} */
    this.pointers = new Map();
    /** @type {Stretch | null} */
    this.marked = null;
    this.drawn = "";
    this.keys();
    this.wheel();
    this.drag();
    new ResizeObserver(() => this.draw()).observe(this.track);
  }

  /**
   * Returns at which share of the width a place of the page is.
   * @param {number} x px
   */
  share(x) {
    const box = this.track.getBoundingClientRect();
    return Math.min(1, Math.max(0, (x - box.left) / box.width));
  }

  /**
   * Returns the moment at a place of the page.
   * @param {number} x px
   */
  at(x) { return this.view.at(this.share(x)); }

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
    const angles = this.ids.map((id) => this.record.angles.get(id) ?? { stretches: [], gaps: [], gone: [] });
    const pixel = (to - from) / Math.max(width, 1);
    const snap = (/** @type {number} */ ms) => Math.round(ms / pixel);
    const drawn = JSON.stringify([
      snap(from), snap(to), width, snap(oldest), this.record.motionVersion,
      angles.map(({ stretches, gaps, gone }) => [
        stretches.map((one) => one.map(snap)), [...gaps, ...gone].map((one) => [snap(one.from), snap(one.to ?? to)]),
      ]),
    ]);
    if (drawn === this.drawn || !width) return;
    this.drawn = drawn;
    this.drawTicks(range, width);
    const [, now] = this.bounds();
    angles.forEach((angle, n) => this.drawLine(this.lines[n], angle, range, {
      oldest, now, pixel, motion: this.record.motion.get(this.ids[n]) ?? [],
    }));
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
   * @param {Parameters<typeof pieces>[2]} more
   */
  drawLine(line, day, range, more) {
    line.replaceChildren(within(line, ".name"), ...pieces(day, range, more).map(({ kind, from, to, gap }) => {
      const one = document.createElement("span");
      one.className = `piece ${kind}`;
      if (gap) {
        const key = gap.to === null ? "noPictureSince" : "noPicture";
        one.title = text.say(key, { ...text.ends(gap.from, gap.to), cause: gap.words });
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
  go(moment) { this.around.seek(this.view.within(moment)); }

  keys() {
    this.track.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return; // the browser's own
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
  }

  // A wheel zooms, sideways it moves what is in view.
  wheel() {
    const { track } = this;
    track.addEventListener("wheel", (event) => {
      event.preventDefault();
      const sideways = !event.ctrlKey && (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY));
      const by = event.shiftKey ? event.deltaY + event.deltaX : event.deltaX;
      if (sideways) this.pan((by / track.clientWidth) * (this.view.range[1] - this.view.range[0]));
      else this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.at(event.clientX));
    }, { passive: false });
  }

  // A finger drags the needle; a mouse drags it where it is, elsewhere it selects a stretch.
  drag() {
    const { track } = this;
    track.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      track.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.clientX, begun: event.clientX, does: "" });
    });
    track.addEventListener("pointermove", (event) => this.move(event));
    track.addEventListener("pointerleave", () => this.around.hover(null, 0));
    const up = (/** @type {PointerEvent} */ event) => {
      const one = this.pointers.get(event.pointerId);
      this.pointers.delete(event.pointerId);
      if (event.pointerType !== "mouse") this.around.hover(null, 0);
      if (!one || event.type !== "pointerup") return;
      if (one.does === "select") this.around.select(this.stretch(one, event.clientX));
      else if (one.does !== "pinch") this.go(this.at(event.clientX));
    };
    track.addEventListener("pointerup", up);
    track.addEventListener("pointercancel", up);
  }

  /**
   * @param {Pointer} one
   * @param {number} x px
   * @returns {Stretch}
   */
  stretch(one, x) {
    const [from, to] = [this.at(one.begun), this.at(x)].sort((a, b) => a - b);
    return [this.view.within(from), this.view.within(to)];
  }

  /** @param {PointerEvent} event */
  move(event) {
    const one = this.pointers.get(event.pointerId);
    const others = [...this.pointers.values()].filter((other) => other !== one);
    if (!one || !others.length) this.around.hover(this.at(event.clientX), this.share(event.clientX));
    if (!one) return;
    if (others.length === 1) this.pinch(one, others[0], event.clientX);
    else if (!one.does && Math.abs(event.clientX - one.begun) > SLOP_PX) {
      const needle = this.view.share(this.view.moment) * this.track.clientWidth + this.track.getBoundingClientRect().left;
      one.does = event.pointerType === "mouse" && Math.abs(one.begun - needle) > GRIP_PX ? "select" : "scrub";
    }
    if (one.does === "scrub") this.place(this.needle, this.at(event.clientX), this.at(event.clientX)); // goes there when it is let go
    else if (one.does === "select") this.setMark(this.stretch(one, event.clientX));
    one.x = event.clientX;
  }

  /**
   * The two moments stay under the two fingers.
   * @param {Pointer} one
   * @param {Pointer} other
   * @param {number} x px
   */
  pinch(one, other, x) {
    const before = Math.abs(one.x - other.x);
    const after = Math.abs(x - other.x);
    one.does = "pinch";
    other.does = "pinch";
    this.around.hover(null, 0);
    if (before > 10 && after > 10) this.zoom(before / after, this.at(other.x));
  }

  /** @param {number} by ms */
  pan(by) {
    this.view.pan(by);
    this.draw();
    this.place(this.needle, this.view.moment, this.view.moment);
  }
}
