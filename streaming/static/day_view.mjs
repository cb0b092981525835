// Which part of a day a timeline shows, and what is to be drawn in it: arithmetic without a page.

const STEPS_MS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600].map((s) => s * 1000);
const LEAST_MS = 60_000; // in view
const LEAST_DAY_MS = 600_000; // of a day that has only begun
const TICK_PX = 76;

export class DayView {
  /**
   * @param {() => Stretch} bounds the day, to being now at most
   * @param {() => number | null} first when the first recording of the day begins
   */
  constructor(bounds, first) {
    this.bounds = bounds;
    this.first = first;
    /** @type {Stretch | null} null for the whole day */
    this.chosen = null;
    this.moment = 0;
  }

  /** @returns {Stretch} */
  get range() {
    if (this.chosen) return this.chosen;
    const [from, to] = this.bounds();
    const first = Math.max(from, Math.min(this.first() ?? from, this.moment));
    const begin = Math.min(first, to - LEAST_DAY_MS);
    return [begin, to + (to - begin) * 0.03];
  }

  /**
   * Returns the moment at a share of the width.
   * @param {number} share 0 to 1
   */
  at(share) {
    const [from, to] = this.range;
    return from + share * (to - from);
  }

  /**
   * Returns at which share of the width a moment is.
   * @param {number} moment
   */
  share(moment) {
    const [from, to] = this.range;
    return (moment - from) / (to - from);
  }

  /**
   * Notes which moment is shown; what is in view goes with it unless somebody holds it.
   * @param {number} moment
   * @param {boolean} held
   */
  follow(moment, held) {
    this.moment = moment;
    if (this.chosen && !held && (moment < this.chosen[0] || moment > this.chosen[1])) {
      const width = this.chosen[1] - this.chosen[0];
      this.chosen = [moment - width / 2, moment + width / 2];
    }
  }

  /**
   * Shows `factor` times as much, around a moment that stays where it is.
   * @param {number} factor
   * @param {number} around
   */
  zoom(factor, around = this.moment) {
    const [from, to] = this.range;
    const [first, last] = this.bounds();
    const width = Math.max(LEAST_MS, (to - from) * factor);
    if (width >= (last - first) * 1.05 && width >= LEAST_DAY_MS * 1.05) this.chosen = null;
    else this.chosen = [around - (around - from) * (width / (to - from)), around + (to - around) * (width / (to - from))];
  }

  /**
   * Moves what is in view.
   * @param {number} by ms
   */
  pan(by) {
    const [from, to] = this.range;
    this.chosen = [from + by, to + by];
  }

  whole() { this.chosen = null; }

  /**
   * Returns a moment, or the nearest one of the day.
   * @param {number} moment
   */
  within(moment) {
    const [from, to] = this.bounds();
    return Math.min(Math.max(moment, from), to);
  }
}

/**
 * Returns the moments to mark below a range, at whole steps since midnight, and that step.
 * @param {Stretch} range
 * @param {number} width px
 * @param {number} midnight that the day begins with
 */
export function ticks([from, to], width, midnight) {
  const step = STEPS_MS.find((one) => (width * one) / (to - from) > TICK_PX) ?? STEPS_MS[STEPS_MS.length - 1];
  const found = [];
  for (let at = midnight + Math.ceil((from - midnight) / step) * step; at < to; at += step) found.push(at);
  return { step, found };
}

/**
 * Returns what is to be drawn of an angle within a range: each piece a pixel wide at least.
 * @param {AngleDay} day
 * @param {Stretch} range
 * @param {{ oldest: number, now: number, pixel: number, motion?: Stretch[] }} more what is older than
 *   `oldest` cannot be watched any more; a pixel is in ms; when something moved
 */
export function pieces({ stretches, gaps, gone }, [from, to], { oldest, now, pixel, motion = [] }) {
  /** @type {{ kind: string, from: number, to: number, gap: Gap | null }[]} */
  const found = [];
  const add = (/** @type {string} */ kind, /** @type {number} */ start, /** @type {number} */ end, /** @type {Gap | null} */ gap = null) => {
    if (end <= from || start >= to) return;
    const left = Math.max(start, from);
    found.push({ kind, from: left, to: Math.max(Math.min(end, to), left + pixel), gap });
  };
  for (const [start, end] of stretches) {
    if (start < oldest) add("is-old", start, Math.min(end, oldest));
    if (end > oldest) add("is-recorded", Math.max(start, oldest), end);
  }
  for (const one of gone) add("is-old", one.from, one.to);
  for (const [start, end] of motion) add("is-motion", start, end);
  for (const gap of gaps) add("is-gap", gap.from, gap.to ?? now, gap);
  return found;
}
