// What to do with a video element, so that it shows a position: decided from what the browser holds.
//
// It is moved only to where there is something to show: a browser that was sent elsewhere waits for
// it, some for ever. What should move and does not is pushed, then begun anew.
import { ahead, bridged, nextStart } from "./ranges.mjs";

/** @import { Ranges } from "./ranges.mjs" */

export const SEEK_S = 0.5; // what is further from the clock jumps there, what is nearer runs there
const CLOSE_S = 0.012;
const STANDS_S = 0.02; // the same, while the clock stands
const MOST = 0.1; // of the rate, to run there
export const HOLE_S = 0.5; // what is shorter, as where a camera left out a moment, is jumped over
const NEEDED_S = 0.15; // in the buffer before it plays, at normal speed
// so long nothing moves that should: then it is pushed, then begun anew; to jump takes longer
const STANDS_MS = { push: 700, anew: 1600 };
const SEEKS_MS = { push: 1800, anew: 5000 };

/**
 * @typedef {object} Seen
 * @property {number} position s on the video's time line, that should be shown
 * @property {boolean} moving
 * @property {number} rate
 * @property {boolean} comes more is to come after what is held from there on
 * @property {Ranges} ranges that the browser holds
 * @property {number} at where the video is
 * @property {boolean} paused
 * @property {boolean} seeking
 * @property {number} ready the video's readyState
 *
 * @typedef {{ shows: boolean, play?: boolean, jump?: number, speed?: number }} Wanted
 *   `play` is undefined where the video stays as it is
 */

/**
 * Returns what to do with the video.
 * @param {Seen} seen
 * @returns {Wanted}
 */
export function steer({ position: asked, moving, rate, comes, ranges, at, paused, seeking, ready }) {
  const whole = bridged(ranges, HOLE_S);
  const position = ahead(whole, asked) > 0 && ahead(ranges, asked) === 0 ? nextStart(ranges, asked) + 0.01 : asked;
  const left = ahead(whole, position);
  const error = position - at;
  const shown = ready >= 2;
  if (left === 0 || (comes && left < (moving ? NEEDED_S * rate : STANDS_S))) {
    const goes = moving && Math.abs(error) <= SEEK_S && ahead(ranges, at) >= 0.05;
    return { play: goes ? undefined : false, shows: goes && shown && !paused };
  }
  if (seeking) return { shows: shown };
  if (!moving) {
    return Math.abs(error) > STANDS_S ? { play: false, jump: position, shows: shown } : { play: false, shows: shown };
  }
  if (Math.abs(error) > SEEK_S * Math.max(1, rate / 2) || ahead(ranges, at) === 0) {
    const sooner = paused ? 0 : Math.min(0.1 * rate, ahead(ranges, position) / 2); // it goes on while the video jumps
    return { play: true, jump: position + sooner, shows: shown };
  }
  const slew = Math.abs(error) < CLOSE_S ? 0 : Math.max(-MOST, Math.min(MOST, error * 1.2 / rate));
  return { play: true, speed: rate * (1 + Math.round(slew * 200) / 200), shows: shown };
}

// Watches a video that should move: the browser holds what it should show, and it stands.
export class Watch {
  #at = -1;
  #since = 0;
  #pushed = false;

  /**
   * Returns "push" once when it stands, "anew" when that did not help, else "".
   * @param {{ should: boolean, seeking: boolean, at: number }} seen it has something to show, and is
   *   to move or to jump; it jumps; where it is, in s
   * @param {number} now ms
   */
  look({ should, seeking, at }, now) {
    const { push, anew } = seeking ? SEEKS_MS : STANDS_MS;
    const moved = at !== this.#at && !(this.#pushed && this.#at < 0);
    this.#at = at;
    if (!should || moved) {
      this.#since = now;
      this.#pushed = false;
      return "";
    }
    if (now - this.#since > anew) {
      this.#since = now;
      return "anew";
    }
    if (now - this.#since <= push || this.#pushed) return "";
    this.#pushed = true;
    this.#at = -1; // where it was pushed to is no movement of its own
    return "push";
  }
}
