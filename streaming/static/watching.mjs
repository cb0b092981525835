// What a station's page and an embedded camera begin with: clocks, the measure of the link, a player.
import { ServerClock } from "./clock.mjs";
import { Link, pageBits } from "./link.mjs";
import { makeAngle } from "./native.mjs";
import { Player } from "./player.mjs";
import { told } from "./text.mjs";

const BEFORE_MS = 3_600_000; // the rewind window, before the time line of the videos begins

/** @type {PerformanceNavigationTiming[]} */
const [came] = /** @type {any} */ (performance.getEntriesByType("navigation"));
export const server = new ServerClock(told.now_ms, came?.responseStart ?? 0);
export const link = new Link();
export const player = new Player(server, told.rewind_ms);
// how fast the page itself came, in bit/s; 0 where nobody knows
export const cameWith = pageBits(/** @type {PerformanceResourceTiming[]} */ (performance.getEntriesByType("resource")));

const origin = Math.floor((server.now() - told.rewind_ms - BEFORE_MS) / 1000) * 1000;

/**
 * @param {string} id of a camera
 * @param {HTMLVideoElement} video
 */
export function watch(id, video) {
  const page = { server, clock: player.clock, rewindMs: told.rewind_ms, origin, link };
  const angle = makeAngle(id, video, `/live/${told.station}/${id}/`, page);
  player.add(angle);
  return angle;
}

/**
 * Returns an angle that shows single pictures at a moment of its own, beside the player.
 * @param {HTMLVideoElement} video
 * @param {Teller} clock
 */
export function preview(video, clock) {
  return makeAngle("", video, "", { server, clock, rewindMs: told.rewind_ms, origin, link });
}
