// Nothing may freeze a video: what is loaded and where it is moved follow from what the browser
// holds, whatever it threw away, refused, or left out.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Loading } from "../../streaming/static/loading.mjs";
import { ahead, amount, bridged, nextStart } from "../../streaming/static/ranges.mjs";
import { HOLE_S, Watch, steer } from "../../streaming/static/steering.mjs";

const UTC0 = Date.parse("2026-11-29T04:00:00Z");
const ORIGIN = UTC0 - 3_600_000;
const still = { moving: true, rate: 1, comes: true, paused: true, seeking: false, ready: 4 };

function segments(count, { run = 1, from = 0, at = UTC0, seconds = 2 } = {}) {
  return Array.from({ length: count }, (_, n) => ({
    no: from + n, run, at: at + n * seconds * 1000, end: at + (n + 1) * seconds * 1000, seconds,
  }));
}

test("a playhead in front of what is held, as it stood for ever: it jumps to where the clock is", () => {
  const ranges = [[11.533, 32.867]];
  assert.equal(steer({ ...still, position: 11.6, at: 10.186, ranges }).jump, 11.6);
  // the clock is where nothing is held: the video is not sent there, and what is missing is loaded
  const waits = steer({ ...still, position: 10.186, at: 10.186, ranges });
  assert.deepEqual([waits.jump, waits.shows], [undefined, false]);
  const loading = new Loading(UTC0);
  const listed = segments(20, { at: UTC0 + 9533 - 8000 });
  for (const one of listed.slice(4)) loading.took(one, 2);
  const lacks = loading.next(listed, ranges, { moment: UTC0 + 10_186, horizonMs: 20_000, now: 0 });
  assert.equal(lacks.at, UTC0 + 9533, "what the browser was given and holds no more is loaded again");
});

test("a video is never sent to where nothing is held", () => {
  let seed = 7;
  const random = () => { seed = (seed * 48_271) % 2_147_483_647; return seed / 2_147_483_647; };
  for (let n = 0; n < 20_000; n += 1) {
    const ranges = [];
    for (let at = random() * 4; at < 40 && ranges.length < 5; at += random() * 6) {
      const to = at + random() * 9;
      ranges.push([at, to]);
      at = to;
    }
    const { jump } = steer({
      position: random() * 40, at: random() * 40, ranges, moving: random() < 0.8, rate: [0.5, 1, 2, 4, 8][n % 5],
      comes: random() < 0.5, paused: random() < 0.5, seeking: random() < 0.2, ready: 4,
    });
    if (jump !== undefined) assert.ok(ahead(ranges, jump) > 0, `${jump} of ${JSON.stringify(ranges)}`);
  }
});

test("the last moment before a gap is played out: nothing more is to come", () => {
  const ranges = [[0, 10]];
  assert.equal(steer({ ...still, position: 9.9, at: 9.9, ranges }).play, undefined, "more may come");
  assert.equal(steer({ ...still, position: 9.9, at: 9.9, ranges, comes: false }).play, true);
});

test("small holes are jumped over, and do not look like the end", () => {
  const ranges = [[0, 10], [10.3, 20]];
  assert.equal(steer({ ...still, position: 9.95, at: 9.95, ranges }).play, true);
  assert.equal(steer({ ...still, position: 10.1, at: 10, ranges, paused: false }).jump > 10.3, true);
  assert.equal(steer({ ...still, position: 10.1, at: 10, ranges, moving: false }).jump, 10.31);
  assert.deepEqual(bridged([[0, 1], [1.2, 2], [5, 6]], HOLE_S), [[0, 2], [5, 6]]);
});

test("it runs to the clock where it is near, and stands where the clock stands", () => {
  const ranges = [[0, 30]];
  const near = steer({ ...still, position: 10.2, at: 10, ranges, paused: false });
  assert.ok(near.speed > 1.05 && near.speed <= 1.1 && near.jump === undefined);
  assert.equal(steer({ ...still, position: 10, at: 10.005, ranges, paused: false }).speed, 1);
  assert.deepEqual(steer({ ...still, position: 10, at: 10.01, ranges, moving: false }), { play: false, shows: true });
  assert.equal(steer({ ...still, position: 10, at: 11, ranges, moving: false }).jump, 10);
});

test("what should move and does not is pushed, then begun anew", () => {
  const watch = new Watch();
  const look = (now, at, more = {}) => watch.look({ should: true, seeking: false, at, ...more }, now);
  assert.equal(look(0, 5), "");
  assert.equal(look(600, 5), "");
  assert.equal(look(800, 5), "push");
  assert.equal(look(850, 5.05), "", "where it was pushed to is no movement");
  assert.equal(look(1500, 5.05), "");
  assert.equal(look(1650, 5.05), "anew");
  assert.equal(look(1700, 6), "");
  assert.equal(look(5000, 6, { should: false }), "", "what stands as it should");
  assert.equal(look(5600, 6), "");
  assert.equal(look(7000, 6, { seeking: true }), "push", "a jump may take longer");
});

test("a segment that begins without a keyframe is loaded after those it needs", () => {
  const loading = new Loading(ORIGIN);
  const listed = segments(6);
  const asked = { moment: UTC0 + 8500, horizonMs: 3000, now: 0 };
  assert.equal(loading.next(listed, [], asked).no, 4);
  loading.of(listed[4]).dependent = true;
  loading.of(listed[3]).dependent = true;
  assert.equal(loading.next(listed, [], asked).no, 2);
  loading.took(listed[2], 2);
  assert.equal(loading.next(listed, [[3604, 3606]], asked).no, 3);
});

test("what the server lacks or the browser refuses is given up, and the next one loaded", () => {
  const loading = new Loading(ORIGIN);
  const listed = segments(5);
  const asked = { moment: UTC0, horizonMs: 10_000, now: 0 };
  assert.equal(loading.next(listed, [], asked).no, 0);
  loading.failed(listed[0], 0);
  assert.equal(loading.next(listed, [], asked).no, 1, "what comes after it is loaded meanwhile");
  assert.equal(loading.next(listed, [], { ...asked, now: 800 }).no, 0, "once may be an accident");
  loading.failed(listed[0], 800);
  assert.equal(loading.lost(listed[0], 900), true);
  assert.equal(loading.next(listed, [], { ...asked, now: 1700 }).no, 1);
  loading.took(listed[1], 0); // no picture came of it
  assert.equal(loading.next(listed, [], { ...asked, now: 1700 }).no, 2);
  assert.equal(loading.lost(listed[0], 60_000), false, "it is tried again later");
});

test("another kind of data is loaded from a moment on, and what is held before it stays", () => {
  const loading = new Loading(ORIGIN);
  const listed = segments(10);
  loading.begin(UTC0 + 4000);
  const asked = { moment: UTC0, horizonMs: 10_000, now: 0 };
  assert.equal(loading.next(listed, [[3600, 3612]], asked).no, 2);
  loading.begin(-Infinity);
  assert.equal(loading.next(listed, [[3600, 3612]], asked).no, 0);
});

test("single pictures: one of so many segments, the same ones for all viewers", () => {
  const loading = new Loading(ORIGIN);
  const listed = segments(12, { from: 100 });
  const asked = { moment: UTC0 + 5000, horizonMs: 9000, now: 0, stride: 4 };
  const first = loading.next(listed, [], asked);
  assert.equal(first.no, 100);
  loading.took(first, 8);
  assert.equal(loading.next(listed, [[3600, 3608]], asked).no, 104);
});

test("what is far from the clock is thrown away, but not what is on the screen", () => {
  const loading = new Loading(ORIGIN);
  const ranges = [[100, 200], [900, 1000]];
  const gone = loading.surplus(ranges, { position: 950, shown: 150, horizon: 20 });
  assert.deepEqual(gone, [[0, 148], [152, 920], [990, Infinity]]);
  assert.deepEqual(loading.surplus([[940, 960]], { position: 950, shown: 950, horizon: 20 }), []);
});

test("what nobody asks for any more is forgotten", () => {
  const loading = new Loading(ORIGIN);
  for (const one of segments(5000)) loading.took(one, 2);
  const listed = segments(300, { from: 4700, at: UTC0 + 9_400_000 });
  loading.next(listed, [], { moment: UTC0 + 9_500_000, horizonMs: 20_000, now: 0 });
  assert.ok(loading.known.size <= 300);
  assert.equal(loading.of(listed[0]).held, 2);
});

test("a browser without room is asked to hold less, down to what still plays", () => {
  const loading = new Loading(ORIGIN);
  const where = { position: 950, shown: 950, horizon: 20 };
  assert.equal(loading.tighten(), true);
  assert.deepEqual(loading.surplus([[900, 1000]], where), [[0, 935], [970, Infinity]]);
  while (loading.tighten());
  assert.deepEqual(loading.surplus([[900, 1000]], where), [[0, 946.25], [955, Infinity]]);
  const asked = { moment: UTC0, horizonMs: 20_000, now: 0 };
  const listed = segments(10);
  for (const one of listed.slice(0, 2)) loading.took(one, 2);
  assert.equal(loading.next(listed, [[3600, 3604]], asked), null, "2.5 s ahead are enough");
});

test("ranges: how much there is, and where it goes on", () => {
  const ranges = [[1, 3], [5, 9]];
  assert.equal(ahead(ranges, 2), 1);
  assert.equal(ahead(ranges, 0.96), 2.04);
  assert.equal(ahead(ranges, 3), 0);
  assert.equal(nextStart(ranges, 3.5), 5);
  assert.equal(nextStart(ranges, 6), Infinity);
  assert.equal(amount(ranges, 2, 6), 2);
});

// A whole player in small: a browser that throws away what it likes, a link that is slow or fails,
// a server that lacks something; the clock runs where there is a picture, as in player.mjs.
test("a hundred walks through a browser that forgets: the clock goes on within 2 s of data being there", () => {
  let seed = 11;
  const random = () => { seed = (seed * 48_271) % 2_147_483_647; return seed / 2_147_483_647; };
  for (let walk = 0; walk < 100; walk += 1) {
    const loading = new Loading(ORIGIN);
    const listed = [...segments(30), ...segments(30, { run: 2, from: 40, at: UTC0 + 75_000 })];
    const lacking = new Set(listed.filter(() => random() < 0.03));
    let ranges = [];
    let moment = UTC0 + random() * 120_000;
    let at = 0;
    let busy = null;
    let stood = 0;
    for (let now = 0; now < 30_000; now += 50) {
      if (random() < 0.002) ranges = ranges.filter(() => random() < 0.5); // the browser needs room
      if (random() < 0.002) moment = UTC0 + random() * 120_000;
      if (busy && now >= busy.until) {
        if (lacking.has(busy.segment)) loading.failed(busy.segment, now);
        else {
          const from = loading.position(busy.segment.at);
          ranges = bridged([...ranges, [from, from + 2 - (random() < 0.1 ? 0.3 : 0)]].sort((a, b) => a[0] - b[0]), 0.001);
          loading.took(busy.segment, amount(ranges, from, from + 2));
        }
        busy = null;
      }
      if (!busy) {
        const segment = loading.next(listed, ranges, { moment, horizonMs: 20_000, now });
        if (segment) busy = { segment, until: now + 100 + random() * 700 };
      }
      const segment = listed.find((one) => one.at <= moment + 1 && one.end > moment);
      const position = loading.position(moment);
      const after = moment + ahead(bridged(ranges, HOLE_S), position) * 1000 + 30;
      const next = listed.find((one) => one.at <= after && one.end > after);
      const comes = Boolean(next && !loading.lost(next, now) && !loading.has(next, ranges));
      const { play, jump } = steer({ ...still, position, at, ranges, comes, paused: stood > 0 });
      if (jump !== undefined) at = jump;
      else if (play) at += 0.05;
      const missing = segment && !play && ahead(ranges, position) === 0
        && (loading.lost(segment, now) || loading.has(segment, ranges));
      if (!segment || play || missing) {
        moment += 50;
        stood = 0;
      } else stood += 50;
      assert.ok(stood < 4000, `walk ${walk}: it stands at ${position} of ${JSON.stringify(ranges)}`);
    }
  }
});
