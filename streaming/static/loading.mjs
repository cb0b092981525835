// Which segment is to be loaded next, and what is to be thrown away: said by what the browser holds
// now, never by what it once was given. It may throw away what it likes, and it is loaded again.
import { amount } from "./ranges.mjs";

/** @import { Ranges } from "./ranges.mjs" */

const BEHIND_S = 30; // of what was shown, for short jumps back
const SPARE_S = 20; // more than what is loaded ahead, before it is thrown away
const AROUND_S = 2; // what is on the screen stays until something else is
const LACKS_S = 0.1; // a segment of which less is gone is still there
const TRIES = 2; // of a segment, before it is given up
const AGAIN_MS = 700; // between them: what comes after it is loaded meanwhile
const FORGET_MS = 30_000; // then it may be tried again
const LEAST_ROOM = 1 / 8; // of what is kept and loaded ahead, where the browser has little room
const MANY = 1000; // segments of which something is known

/**
 * What came of a segment: how many seconds of it the browser held when it was given (-1: it was not),
 * how often and when it failed, when it may be tried again; how many had come when the server first
 * answered with an error (-1: it did not); whether it begins without a keyframe.
 * @typedef {{ held: number, failed: number, at: number, again: number, others: number, dependent: boolean }} Known
 */

export class Loading {
  /** @type {Map<number, Known>} by number */
  known = new Map();
  #came = 0; // how many segments did
  #room = 1; // how much of what it should keep the browser can hold
  since = -Infinity; // what ends before this moment need not be of the kind that is wanted now

  /** @param {number} origin UTC ms of the beginning of the video's time line */
  constructor(origin) { this.origin = origin; }

  /**
   * Returns where a moment is on the video's time line, in s.
   * @param {number} moment
   */
  position(moment) { return (moment - this.origin) / 1000; }

  /**
   * Returns the moment of a place on the video's time line.
   * @param {number} position s
   */
  moment(position) { return this.origin + position * 1000; }

  /**
   * @param {Segment} segment
   * @returns {Known}
   */
  of({ no }) {
    const found = this.known.get(no) ?? { held: -1, failed: 0, at: 0, again: 0, others: -1, dependent: false };
    this.known.set(no, found);
    return found;
  }

  /**
   * Tells whether the browser still holds of a segment what it once took.
   * @param {Segment} segment
   * @param {Ranges} ranges
   * @param {number} stands for how many seconds it is shown
   */
  has(segment, ranges, stands = segment.seconds) {
    const { held } = this.of(segment);
    const from = this.position(segment.at);
    const least = held >= 0 ? Math.min(held, stands) : segment.end <= this.since ? stands : Infinity;
    return amount(ranges, from, from + stands) >= least - LACKS_S;
  }

  /**
   * Tells whether a segment is given up: the server does not have it, or the browser cannot make
   * pictures of it.
   * @param {Segment} segment
   * @param {number} now ms
   */
  lost(segment, now) {
    const { failed, at, held } = this.of(segment);
    return (failed >= TRIES && now - at < FORGET_MS) || (held >= 0 && held < LACKS_S);
  }

  /**
   * @param {Segment} segment
   * @param {number} now ms
   */
  #rests(segment, now) { return now < this.of(segment).again; }

  /**
   * Returns the segment to load next, for what is shown from a moment on; null for none.
   *
   * A segment that begins without a keyframe needs those before it, down to one with a keyframe.
   * @param {Segment[]} segments in order
   * @param {Ranges} ranges
   * @param {{ moment: number, horizonMs: number, now: number, stride?: number }} what one picture of
   *   every so many segments where `stride` is given
   */
  next(segments, ranges, { moment, horizonMs, now, stride = 0 }) {
    let n = segments.findIndex((one) => one.end > moment);
    if (n < 0) return null;
    if (this.known.size > MANY) this.#forget(segments);
    if (stride) n = Math.max(0, n - (segments[n].no % stride)); // the same pictures for all viewers
    for (; n < segments.length && segments[n].at < moment + horizonMs * this.#room; n += stride || 1) {
      const one = segments[n];
      if (this.#rests(one, now) || this.lost(one, now) || this.has(one, ranges, one.seconds * (stride || 1))) continue;
      return stride ? one : segments[this.#first(segments, n, ranges, now)];
    }
    return null;
  }

  /**
   * @param {Segment[]} segments
   * @param {number} n
   * @param {Ranges} ranges
   * @param {number} now
   */
  #first(segments, n, ranges, now) {
    let at = n;
    while (this.of(segments[at]).dependent) {
      const before = segments[at - 1];
      if (before?.run !== segments[at].run || this.has(before, ranges) || this.lost(before, now)) break;
      at -= 1;
    }
    return at;
  }

  /** @param {Segment[]} segments that are listed: nobody asks for others any more */
  #forget(segments) {
    const listed = new Set(segments.map(({ no }) => no));
    for (const no of this.known.keys()) if (!listed.has(no)) this.known.delete(no);
  }

  // Less is kept and loaded from now on; false where that makes no sense any more.
  tighten() {
    if (this.#room <= LEAST_ROOM) return false;
    this.#room /= 2;
    return true;
  }

  /**
   * A segment was given to the browser, which now holds so many seconds of it.
   * @param {Segment} segment
   * @param {number} held
   */
  took(segment, held) {
    if (held > 0) this.#came += 1;
    Object.assign(this.of(segment), { held, failed: 0, others: -1 });
  }

  /**
   * @param {Segment} segment
   * @param {number} now ms
   */
  failed(segment, now) {
    const known = this.of(segment);
    known.failed = now - known.at > FORGET_MS ? 1 : known.failed + 1;
    known.at = now;
    known.again = now + AGAIN_MS;
  }

  /**
   * The server answered with an error. Where other segments came meanwhile it is this one's fault;
   * else the server is away, and nothing is given up.
   * @param {Segment} segment
   * @param {number} now ms
   * @param {number} blocked ms, until when nothing is asked for
   */
  erred(segment, now, blocked) {
    const known = this.of(segment);
    if (known.others < 0) known.others = this.#came;
    else if (this.#came > known.others) this.failed(segment, now);
    known.again = blocked + AGAIN_MS; // others are tried first
  }

  /**
   * Another kind of data is wanted from a moment on, or the browser's buffer was emptied (-Infinity).
   * @param {number} since
   */
  begin(since) {
    this.since = since;
    for (const one of this.known.values()) one.held = -1;
  }

  /**
   * Returns what is to be thrown away, as stretches of the time line.
   * @param {Ranges} ranges
   * @param {{ position: number, shown: number, horizon: number }} where what is wanted, and what is
   *   on the screen, in s
   */
  surplus(ranges, { position, shown, horizon }) {
    /** @type {Ranges} */
    const kept = [[position - BEHIND_S * this.#room, position + (horizon + SPARE_S) * this.#room], [shown - AROUND_S, shown + AROUND_S]];
    kept.sort((a, b) => a[0] - b[0]);
    const [[first, one], [two, last]] = kept;
    /** @type {Ranges} */
    const gone = [[0, first], [one, two], [Math.max(one, last), Infinity]];
    return gone.filter(([from, to]) => amount(ranges, from, to) > 0);
  }
}
