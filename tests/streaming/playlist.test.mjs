// Playlists in the browser: read, and put together by number.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Listing, parse, variants } from "../../streaming/static/playlist.mjs";

const UTC0 = Date.parse("2026-11-29T04:00:00Z");

function pieces(from, count, { run = 1, at = UTC0 + from * 2000 } = {}) {
  return Array.from({ length: count }, (_, n) => (
    { no: from + n, run, at: at + n * 2000, end: at + (n + 1) * 2000, seconds: 2 }));
}

function listing(now = UTC0) {
  const time = { server: now, shown: now };
  const one = new Listing("/live/s/c/", { now: () => time.server }, { now: () => time.shown }, 3_600_000);
  return { time, one };
}

test("a playlist is read: numbers, runs, times, target duration", () => {
  const { found, target } = parse(`#EXTM3U
#EXT-X-TARGETDURATION:3
#EXT-X-MEDIA-SEQUENCE:41
#EXT-X-MAP:URI="init-7.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T04:00:00.250Z
#EXTINF:2.040000,
41.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI="init-8.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-11-29T04:01:00.000Z
#EXTINF:1.5,
45.m4s
`);
  assert.equal(target, 3);
  assert.deepEqual(found, [
    { no: 41, run: 7, at: UTC0 + 250, end: UTC0 + 2290, seconds: 2.04 },
    { no: 45, run: 8, at: UTC0 + 60_000, end: UTC0 + 61_500, seconds: 1.5 },
  ]);
});

test("pieces that overlap are put together once", () => {
  const { one } = listing();
  assert.equal(one.add(pieces(10, 5)), true);
  assert.equal(one.add(pieces(12, 3)), false);
  assert.equal(one.add([...pieces(13, 2), ...pieces(20, 2, { run: 2 })]), true);
  assert.deepEqual(one.segments.map(({ no }) => no), [10, 11, 12, 13, 14, 20, 21]);
});

test("a multivariant playlist offers streams, the least first", () => {
  assert.deepEqual(variants(`#EXTM3U
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-STREAM-INF:BANDWIDTH=2100000,AVERAGE-BANDWIDTH=1500000,RESOLUTION=1920x1080,CODECS="avc1.640028"
index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=200000,RESOLUTION=640x360
low/index.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=90000,URI="iframes.m3u8"
`), [{ uri: "low/index.m3u8", bits: 200_000 }, { uri: "index.m3u8", bits: 1_500_000 }]);
});

test("a moment is in a segment, or in a gap", () => {
  const { one } = listing();
  one.add([...pieces(0, 3), ...pieces(5, 2)]); // 0-6 s, 10-14 s
  assert.equal(one.at(UTC0).no, 0);
  assert.equal(one.at(UTC0 + 1999).no, 0);
  assert.equal(one.at(UTC0 + 2000).no, 1);
  assert.equal(one.at(UTC0 + 7000), null);
  assert.equal(one.at(UTC0 + 9999).no, 5); // a millisecond is not a gap
  assert.equal(one.at(UTC0 + 13_999).no, 6);
  assert.equal(one.at(UTC0 + 14_000), null);
});

test("in a gap nothing was recorded; in live that is known some seconds later", () => {
  const { time, one } = listing();
  Object.assign(one, { from: UTC0, until: UTC0 + 60_000 });
  one.add([...pieces(0, 3), ...pieces(5, 2)]);
  assert.equal(one.gapAt(UTC0 + 7000), true);
  assert.equal(one.gapAt(UTC0 + 14_500), true);
  assert.equal(one.nextAfter(UTC0 + 7000), UTC0 + 10_000);
  assert.equal(one.nextAfter(UTC0 + 15_000), null);
  Object.assign(one, { live: true, until: UTC0 + 15_000 });
  assert.equal(one.gapAt(UTC0 + 14_500), false);
  one.until = UTC0 + 20_000;
  assert.equal(one.gapAt(UTC0 + 14_500), true);
  time.server = one.until;
});

test("gaps take no footage", () => {
  const { one } = listing();
  one.add([...pieces(0, 3), ...pieces(5, 2)]);
  assert.equal(one.offset(UTC0 + 2500), 2.5);
  assert.equal(one.offset(UTC0 + 7000), 6);
  assert.equal(one.offset(UTC0 + 11_000), 7);
  assert.equal(one.offset(UTC0 + 99_000), 10);
});

test("what lies far behind the clock is forgotten", () => {
  const { time, one } = listing();
  one.add(pieces(0, 500));
  time.shown = UTC0 + 1_000_000;
  one.trim();
  assert.equal(one.segments[0].no, 200);
  assert.equal(one.from, UTC0 + 400_000);
});

test("the next question comes when the next segment should be listed", () => {
  const { time, one } = listing();
  assert.equal(one.expected(), 2000);
  one.add(pieces(0, 1)); // ends at 2 s; the next one is whole at 4 s
  time.server = UTC0 + 2500;
  assert.equal(one.expected(), 1500 + one.lag);
  time.server = UTC0 + 60_000;
  assert.equal(one.expected(), 100);
});

test("it tells what is known, or will be by itself", () => {
  const { one } = listing();
  Object.assign(one, { from: UTC0, until: UTC0 + 600_000, live: false });
  assert.equal(one.covers(UTC0 - 1), false);
  assert.equal(one.covers(UTC0 + 659_000), true);
  assert.equal(one.covers(UTC0 + 700_000), false);
  one.live = true;
  assert.equal(one.covers(UTC0 + 700_000), true);
});

test("who was away for hours knows nothing of the time between, and says nothing of it", async () => {
  const { time, one } = listing(UTC0 + 60_000);
  Object.assign(one, { from: UTC0, until: UTC0 + 60_000, live: true, opened: true });
  one.add(pieces(0, 30));
  const now = UTC0 + 3_000_000;
  time.server = now;
  const asked = [];
  one.fetch = async (query) => {
    asked.push(query);
    return query ? pieces(1200, 285) : pieces(1485, 15);
  };
  await one.refresh();
  assert.deepEqual(asked, ["", `?from=${UTC0 + 2_370_000}&to=${UTC0 + 2_970_000}`]);
  assert.equal(one.covers(UTC0 + 1_000_000), false, "it has to ask first");
  assert.equal(one.covers(UTC0 + 2_400_000), true);
  assert.equal(one.segments[0].no, 1200);
});

test("what left the window while its playlist was waited for is asked for anew: nobody says of the rest that nothing was recorded", async () => {
  const { time, one } = listing(UTC0 + 3_700_000);
  const asked = [];
  const waits = [20_000, 100]; // the network was away at first
  one.fetch = async (query) => {
    const from = Number(/from=(\d+)/.exec(query)[1]);
    asked.push(from - UTC0);
    time.server += waits[asked.length - 1];
    return from < time.server - one.rewindMs ? [] : pieces(61, 200); // 404 of what is before the window
  };
  const moment = UTC0 + 125_000;
  await one.stretch(moment);
  assert.deepEqual(asked, [103_000, 123_000]);
  assert.equal(one.at(moment).no, 62);
  assert.equal(one.covers(moment), true);
});

test("a stretch that left the window whole is not asked for without end", async () => {
  const { time, one } = listing(UTC0 + 4_190_000);
  let asked = 0;
  one.fetch = async () => {
    asked += 1;
    time.server += 20_000;
    return [];
  };
  await one.stretch(UTC0 + 595_000);
  assert.equal(asked, 1);
  assert.equal(one.covers(UTC0 + 595_000), false);
});

test("of a camera that was out, what was recorded while the page was away is asked for, too", async () => {
  const { time, one } = listing(UTC0 + 60_000);
  Object.assign(one, { from: UTC0 + 60_000, until: UTC0 + 60_000, live: true, opened: true });
  time.server = UTC0 + 360_000;
  const asked = [];
  one.fetch = async (query) => {
    asked.push(query);
    return query ? pieces(50, 115) : pieces(165, 15);
  };
  await one.refresh();
  assert.deepEqual(asked, ["", `?from=${UTC0 + 60_000}&to=${UTC0 + 330_000}`]);
  assert.equal(one.at(UTC0 + 200_000)?.no, 100, "it is no gap");
  await one.refresh();
  assert.equal(asked.length, 3, "once");
});

test("nothing is asked for while nobody looks", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { one } = listing(UTC0 + 60_000);
  let asked = 0;
  one.fetch = async () => {
    asked += 1;
    return pieces(0, 30);
  };
  one.add(pieces(0, 30));
  Object.assign(one, { live: true, opened: true, rests: true });
  one.grow();
  const pass = async () => {
    for (let n = 0; n < 40; n += 1) {
      t.mock.timers.tick(250);
      await new Promise((done) => { setImmediate(done); });
    }
  };
  await pass();
  assert.equal(asked, 0);
  one.rests = false;
  await pass();
  assert.ok(asked > 1);
  one.rests = true;
  const before = asked;
  await pass();
  assert.ok(asked <= before + 1, "but for what was on its way");
  one.close();
  await pass();
});

test("a camera with long segments is not out while its next one is being recorded", () => {
  const { one } = listing();
  one.add([{ no: 0, run: 1, at: UTC0, end: UTC0 + 8000, seconds: 8 }]);
  Object.assign(one, { from: UTC0, live: true, target: 8, until: UTC0 + 16_900 });
  assert.equal(one.gapAt(UTC0 + 8500), false);
  one.until = UTC0 + 18_100;
  assert.equal(one.gapAt(UTC0 + 8500), true);
});
