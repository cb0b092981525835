// Time that goes on only when a test says so: a machine that stands still for seconds changes nothing.
import { mock } from "node:test";

const STEP_MS = 5;
let now = 1000;

// Stops the clock by which scripts measure.
export function stopped() {
  performance.now = () => now;
}

// Stops it and what waits for it.
export function held() {
  stopped();
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
}

/**
 * Waits, unless that is broken off.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 */
export const sleep = (ms, signal) => new Promise((done, fail) => {
  setTimeout(done, ms);
  signal?.addEventListener("abort", () => fail(signal.reason));
});

/**
 * Lets so much time go by, and all be done that waits for it.
 * @param {number} ms
 */
export async function pass(ms) {
  for (const end = now + ms; now < end;) {
    now += STEP_MS;
    mock.timers.tick(STEP_MS);
    for (let n = 0; n < 3; n += 1) await new Promise((done) => { setImmediate(done); });
  }
}
