// What a copy would cost, as copies/orders/prices.py says it; a quote counts once more.

const MINUTE_MS = 60_000;

/**
 * Returns the stretch that is ordered where one is marked: forms take whole seconds.
 * @param {Stretch} marked
 * @returns {Stretch}
 */
export const ordered = ([from, to]) => [Math.floor(from / 1000) * 1000, Math.ceil(to / 1000) * 1000];

/**
 * Returns how much footage of a stretch exists, in ms.
 * @param {Stretch[]} stretches that were recorded
 * @param {number} from
 * @param {number} to
 */
export function existing(stretches, from, to) {
  return stretches.reduce((sum, [start, end]) => sum + Math.max(0, Math.min(end, to) - Math.max(start, from)), 0);
}

/**
 * Returns the sum in the smallest unit of the currency, at most: free minutes may be used up.
 * @param {Prices} prices
 * @param {number[]} footage that exists of each camera, ms
 */
export function price({ per_minute: perMinute, minimum, tax }, footage) {
  const net = footage.reduce((sum, ms) => sum + Math.floor((ms * perMinute) / MINUTE_MS), 0);
  const least = Math.max(minimum, Math.min(1, perMinute));
  const whole = footage.some((ms) => ms > 0) ? Math.max(net, least) : 0;
  return whole + Math.floor((whole * tax) / 10_000);
}
