// Gaps as people count them: what follows at once is one outage, whatever its causes and however
// many cameras it takes.

const JOIN_MS = 10_000; // a camera that was back for less was not back
const SAME_MS = 15_000; // cameras that went and came so near to each other went together

/**
 * One outage: the cameras by their places, the causes in their order, the gaps it is made of.
 * @typedef {{ from: number, to: number | null, cameras: number[], causes: string[] }} Outage
 */

/**
 * Returns the outages of cameras, by when they began.
 * @param {Gap[][]} gaps of each camera
 * @returns {Outage[]}
 */
export function outages(gaps) {
  /** @type {Outage[]} */
  const found = [];
  const all = gaps.flatMap((one, n) => joined(one, n)).sort((a, b) => a.from - b.from);
  for (const one of all) {
    const same = found.find((other) => near(other.from, one.from) && near(other.to, one.to)
      && other.causes.join() === one.causes.join() && !other.cameras.includes(one.cameras[0]));
    if (same) {
      same.cameras.push(...one.cameras);
      same.cameras.sort((a, b) => a - b);
      if (one.to !== null && same.to !== null) same.to = Math.max(same.to, one.to);
    } else found.push(one);
  }
  return found;
}

/**
 * @param {number | null} one
 * @param {number | null} other
 */
function near(one, other) {
  return one === null || other === null ? one === other : Math.abs(one - other) <= SAME_MS;
}

/**
 * @param {Gap[]} gaps of a camera
 * @param {number} n its place
 */
function joined(gaps, n) {
  /** @type {Outage[]} */
  const found = [];
  for (const gap of [...gaps].sort((a, b) => a.from - b.from)) {
    const last = found.at(-1);
    if (last && (last.to === null || gap.from - last.to <= JOIN_MS)) {
      if (last.to !== null) last.to = gap.to === null ? null : Math.max(last.to, gap.to);
      if (!last.causes.includes(gap.words)) last.causes.push(gap.words);
    } else found.push({ from: gap.from, to: gap.to, cameras: [n], causes: [gap.words] });
  }
  return found;
}

/**
 * Returns the outage of a camera that holds a moment.
 * @param {Outage[]} all
 * @param {number} n the camera's place
 * @param {number} moment
 */
export function outageAt(all, n, moment) {
  return all.findLast((one) => one.cameras.includes(n) && one.from <= moment && (one.to === null || moment < one.to)) ?? null;
}
