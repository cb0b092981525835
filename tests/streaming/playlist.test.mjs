// Playlists in the browser: read, put together by number, and written for hls.js.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Listing, parse } from "../../streaming/static/playlist.mjs";

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

test("pieces that overlap are put together once, and places have no holes", () => {
  const { one } = listing();
  assert.equal(one.add(pieces(10, 5)), true);
  assert.equal(one.add(pieces(12, 3)), false);
  assert.equal(one.add([...pieces(13, 2), ...pieces(20, 2, { run: 2 })]), true);
  assert.deepEqual(one.segments.map(({ no }) => no), [10, 11, 12, 13, 14, 20, 21]);
  assert.deepEqual(one.segments.map(({ place }) => place), [0, 1, 2, 3, 4, 5, 6]);
  assert.deepEqual(one.segments.map(({ part }) => part), [0, 0, 0, 0, 0, 1, 1]);
});

test("what is written is what is read again", () => {
  const { one } = listing();
  one.target = 4;
  one.add([...pieces(3, 4), ...pieces(9, 3, { run: 2 })]);
  const text = one.text();
  const { found, target } = parse(text);
  assert.equal(target, 4);
  assert.deepEqual(found, one.segments.map(({ no, run, at, end, seconds }) => ({ no, run, at, end, seconds })));
  assert.match(text, /#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n/);
  assert.equal(text.match(/#EXT-X-DISCONTINUITY\n/g).length, 1);
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

test("gaps take no time in the playlist", () => {
  const { one } = listing();
  one.add([...pieces(0, 3), ...pieces(5, 2)]);
  assert.equal(one.offset(UTC0 + 2500), 2.5);
  assert.equal(one.offset(UTC0 + 7000), 6);
  assert.equal(one.offset(UTC0 + 11_000), 7);
  assert.equal(one.offset(UTC0 + 99_000), 10);
});

test("what lies far behind the clock is forgotten, and what is left keeps its place", () => {
  const { time, one } = listing();
  one.add(pieces(0, 500));
  time.shown = UTC0 + 1_000_000;
  one.trim();
  assert.equal(one.segments[0].no, 200);
  assert.equal(one.segments[0].place, 200);
  assert.equal(one.from, UTC0 + 400_000);
  assert.match(one.text(), /MEDIA-SEQUENCE:200\n/);
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

test("who waits for what is new is told once there is", async () => {
  const { one } = listing();
  let told = 0;
  const waiting = one.newer(one.version).then(() => { told += 1; });
  await Promise.resolve();
  assert.equal(told, 0);
  one.change();
  await waiting;
  assert.equal(told, 1);
  await one.newer(0); // what it knew is old already
});
