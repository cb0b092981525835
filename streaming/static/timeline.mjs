// The timeline of a day: a row for each angle, gaps as gaps; dragged, clicked, pinched, keyed.
import * as text from "./text.mjs";

const STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600].map((s) => s * 1000);
const LEAST_MS = 60_000; // in view
const LEAST_DAY_MS = 600_000; // of a day that has only begun
const TICK_PX = 76;
const KEYS = {
  ArrowLeft: -5000, ArrowRight: 5000, ArrowDown: -5000, ArrowUp: 5000, PageUp: -3_600_000, PageDown: 3_600_000,
};
const SLOP_PX = 6; // a press that moves less is a click

export class Timeline {
  // `seek` is called with a moment; `bounds` returns the day as [from, to], to being now at most.
  constructor(root, record, ids, { seek, bounds, oldest }) {
    Object.assign(this, { record, ids, seek, bounds, oldest });
    this.track = root.querySelector("#track");
    this.ticks = root.querySelector("#ticks");
    this.lines = [...root.querySelectorAll(".line")];
    this.needle = root.querySelector("#needle");
    this.mark = root.querySelector("#mark");
    this.view = null; // [from, to]; null for the whole day
    this.moment = 0;
    this.pointers = new Map();
    this.drawn = "";
    this.listen();
    new ResizeObserver(() => this.draw()).observe(this.track);
  }

  get range() {
    const [from, to] = this.bounds();
    if (!this.view) {
      const first = Math.max(from, Math.min(this.record.first ?? from, this.moment));
      const begin = Math.min(first, to - LEAST_DAY_MS);
      return [begin, to + (to - begin) * 0.03];
    }
    return this.view;
  }

  at(x) {
    const box = this.track.getBoundingClientRect();
    const [from, to] = this.range;
    return from + ((x - box.left) / box.width) * (to - from);
  }

  show(moment) {
    this.moment = moment;
    const [day, now] = this.bounds();
    if (this.view && !this.pointers.size && (moment < this.view[0] || moment > this.view[1])) {
      const width = this.view[1] - this.view[0];
      this.view = [moment - width / 2, moment + width / 2]; // it goes with the clock
    }
    this.draw();
    this.place(this.needle, moment, moment);
    this.track.ariaValueMin = Math.round(day / 1000);
    this.track.ariaValueMax = Math.round(now / 1000);
    this.track.ariaValueNow = Math.round(moment / 1000);
    this.track.ariaValueText = `${text.clock(moment)} ${text.offset(moment)}`;
  }

  place(element, start, end) {
    const [from, to] = this.range;
    element.style.left = `${((start - from) / (to - from)) * 100}%`;
    if (end !== start) element.style.width = `${((end - start) / (to - from)) * 100}%`;
  }

  // Draws what is in view; nothing where it is drawn already.
  draw() {
    const [from, to] = this.range;
    const width = this.track.clientWidth;
    const oldest = this.oldest();
    const angles = this.ids.map((id) => this.record.angles.get(id) ?? { stretches: [], gaps: [] });
    const pixel = (to - from) / Math.max(width, 1);
    const snap = (ms) => Math.round(ms / pixel);
    const drawn = JSON.stringify([
      snap(from), snap(to), width, snap(oldest),
      angles.map(({ stretches, gaps }) => [stretches.map((one) => one.map(snap)), gaps.map((g) => [snap(g.from), snap(g.to ?? to)])]),
    ]);
    if (drawn === this.drawn || !width) return;
    this.drawn = drawn;
    this.drawTicks(from, to, width);
    angles.forEach((angle, n) => this.drawLine(this.lines[n], angle, from, to, oldest, pixel));
    if (this.marked) this.setMark(this.marked);
  }

  drawTicks(from, to, width) {
    const step = STEPS_MS.find((one) => (width * one) / (to - from) > TICK_PX) ?? STEPS_MS.at(-1);
    const day = text.utc(text.local(from).day, "00:00:00");
    const found = [];
    for (let at = day + Math.ceil((from - day) / step) * step; at < to; at += step) {
      const tick = document.createElement("span");
      tick.className = "tick";
      tick.textContent = step < 60_000 ? text.clock(at) : text.minute(at);
      this.place(tick, at, at);
      found.push(tick);
    }
    this.ticks.replaceChildren(...found);
  }

  drawLine(line, { stretches, gaps }, from, to, oldest, pixel) {
    const found = [];
    const piece = (kind, start, end, title) => {
      if (end <= from || start >= to) return;
      const one = document.createElement("span");
      one.className = `piece ${kind}`;
      if (title) one.title = title;
      this.place(one, Math.max(start, from), Math.max(Math.min(end, to), Math.max(start, from) + pixel));
      found.push(one);
    };
    for (const [start, end] of stretches) {
      if (start < oldest) piece("is-old", start, Math.min(end, oldest));
      if (end > oldest) piece("is-recorded", Math.max(start, oldest), end);
    }
    for (const gap of gaps) {
      const end = gap.to ?? this.bounds()[1];
      const key = gap.to === null ? "noPictureSince" : "noPicture";
      piece("is-gap", gap.from, end, text.say(key, { from: text.clock(gap.from), to: text.clock(end), cause: gap.words }));
    }
    line.replaceChildren(line.firstElementChild, ...found);
  }

  setMark(marked) { // [from, to] of a copy to order
    this.marked = marked;
    this.mark.hidden = !marked;
    if (marked) this.place(this.mark, ...marked);
  }

  // Shows `factor` times as much, around a moment.
  zoom(factor, around = this.moment) {
    const [from, to] = this.range;
    const [first, last] = this.bounds();
    const width = Math.max(LEAST_MS, (to - from) * factor);
    if (width >= (last - first) * 1.05 && width >= LEAST_DAY_MS * 1.05) this.view = null;
    else this.view = [around - (around - from) * (width / (to - from)), around + (to - around) * (width / (to - from))];
    this.show(this.moment);
  }

  whole() {
    this.view = null;
    this.show(this.moment);
  }

  go(moment) {
    const [from, to] = this.bounds();
    this.seek(Math.min(Math.max(moment, from), to));
  }

  listen() {
    const { track } = this;
    track.addEventListener("keydown", (event) => {
      const by = KEYS[event.key] * (event.shiftKey && event.key.startsWith("Arrow") ? 12 : 1);
      if (by) this.go(this.moment + by);
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
      else this.pan((event.deltaX / track.clientWidth) * (this.range[1] - this.range[0]));
    }, { passive: false });
    track.addEventListener("pointerdown", (event) => {
      track.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, { x: event.clientX, begun: event.clientX, moved: false });
    });
    track.addEventListener("pointermove", (event) => this.move(event));
    const up = (event) => {
      const one = this.pointers.get(event.pointerId);
      this.pointers.delete(event.pointerId);
      if (one && event.type === "pointerup" && !one.pinched) this.go(this.at(event.clientX));
    };
    track.addEventListener("pointerup", up);
    track.addEventListener("pointercancel", up);
  }

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
      one.moved = true;
    }
    one.x = event.clientX;
  }

  pan(by) {
    const [from, to] = this.range;
    this.view = [from + by, to + by];
    this.draw();
    this.place(this.needle, this.moment, this.moment);
  }
}
