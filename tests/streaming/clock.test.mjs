// The clocks of a page: what is shown, and what is now by the server.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Clock, ServerClock } from "../../streaming/static/clock.mjs";

function standing() {
  const time = { at: 1000 };
  return { time, clock: new Clock(() => time.at) };
}

test("a clock stands until it is run, and runs at a rate", () => {
  const { time, clock } = standing();
  clock.set(50_000);
  time.at += 400;
  assert.equal(clock.now(), 50_000);
  clock.run(true, 2);
  time.at += 400;
  assert.equal(clock.now(), 50_800);
  clock.run(false, 2);
  time.at += 400;
  assert.equal(clock.now(), 50_800);
  assert.equal(clock.moving, false);
});

test("a change of rate or a correction takes effect from then on", () => {
  const { time, clock } = standing();
  clock.run(true, 1);
  time.at += 1000;
  clock.run(true, 4);
  time.at += 1000;
  assert.equal(clock.now(), 5000);
  clock.run(true, 4, 1.5);
  time.at += 1000;
  assert.equal(clock.now(), 11_000);
});

test("to say the same again changes nothing", () => {
  const { time, clock } = standing();
  clock.set(7);
  clock.run(true, 1);
  for (let n = 0; n < 100; n += 1) {
    time.at += 0.1;
    clock.run(true, 1);
  }
  assert.ok(Math.abs(clock.now() - 17) < 1e-6);
});

test("what is now is what the server said latest, and never before it", () => {
  let own = 4000; // the page was written 4 s before its scripts ran, on a slow link
  const server = new ServerClock(5_000_000, 500, () => own);
  assert.equal(server.now(), 5_003_500);
  own = 6000;
  server.learn(5_005_000); // an answer out of a cache is older than it seems
  assert.equal(server.now(), 5_005_500);
  server.learn(5_006_300); // and one that came fast is nearer to the truth
  assert.equal(server.now(), 5_006_300);
});

test("a clock of the server that was set back is believed after some answers", () => {
  let own = 0;
  const server = new ServerClock(9_000_000, 0, () => own);
  for (let n = 0; n < 20; n += 1) {
    own += 4000;
    server.learn(5_000_000 + own);
  }
  assert.equal(server.now(), 5_000_000 + own);
});
