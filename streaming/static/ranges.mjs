// What a browser holds of a video, as stretches of its time line in seconds, in order.

/** @typedef {[from: number, to: number][]} Ranges */

const EDGE_S = 0.05; // a picture begins so near to where it should

/**
 * @param {TimeRanges} found
 * @returns {Ranges}
 */
export const rangesOf = (found) => Array.from({ length: found.length }, (_, n) => [found.start(n), found.end(n)]);

/**
 * Returns how many seconds there are from a position on without a hole.
 * @param {Ranges} ranges
 * @param {number} position
 */
export function ahead(ranges, position) {
  const found = ranges.find(([from, to]) => from <= position + EDGE_S && to > position);
  return found ? found[1] - position : 0;
}

/**
 * Returns the ranges with their small holes closed.
 * @param {Ranges} ranges
 * @param {number} hole s
 */
export function bridged(ranges, hole) {
  /** @type {Ranges} */
  const found = [];
  for (const [from, to] of ranges) {
    const last = found.at(-1);
    if (last && from - last[1] < hole) last[1] = Math.max(last[1], to);
    else found.push([from, to]);
  }
  return found;
}

/**
 * Returns where it goes on after a position that is in no range; Infinity for nowhere.
 * @param {Ranges} ranges
 * @param {number} position
 */
export function nextStart(ranges, position) {
  return ranges.find(([from]) => from > position)?.[0] ?? Infinity;
}

/**
 * Returns how many seconds of a stretch there are.
 * @param {Ranges} ranges
 * @param {number} from
 * @param {number} to
 */
export function amount(ranges, from, to) {
  return ranges.reduce((sum, [start, end]) => sum + Math.max(0, Math.min(end, to) - Math.max(start, from)), 0);
}
