// Timelines: which part of a day is in view, what is drawn in it, what is known of a day.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ServerClock } from "../../streaming/static/clock.mjs";
import { DayView, pieces, ticks } from "../../streaming/static/day_view.mjs";
import { DayRecord } from "../../streaming/static/record.mjs";
import { Zone } from "../../streaming/static/zone.mjs";

const HOUR = 3_600_000;
const DAY0 = Date.parse("2026-11-28T19:00:00Z"); // midnight in Almaty

function view(now = DAY0 + 12 * HOUR, first = DAY0 + 2 * HOUR) {
  return new DayView(() => [DAY0, now], () => first);
}

test("a day begins with its first recording and ends a little after now", () => {
  const one = view();
  one.follow(DAY0 + 12 * HOUR, false);
  const [from, to] = one.range;
  assert.equal(from, DAY0 + 2 * HOUR);
  assert.equal(to, DAY0 + 12 * HOUR + 0.03 * 10 * HOUR);
  one.follow(DAY0 + HOUR, false); // what is shown is always in view
  assert.equal(one.range[0], DAY0 + HOUR);
});

test("a day that has only begun is ten minutes wide", () => {
  const one = view(DAY0 + 60_000, null);
  assert.equal(one.range[0], DAY0 + 60_000 - 600_000);
});

test("places and moments are each other's inverse", () => {
  const one = view();
  for (const share of [0, 0.25, 0.5, 1]) assert.ok(Math.abs(one.share(one.at(share)) - share) < 1e-9);
});

test("zooming leaves the moment under the finger where it is", () => {
  const one = view();
  const around = DAY0 + 5 * HOUR;
  const before = one.share(around);
  one.zoom(0.5, around);
  assert.ok(Math.abs(one.share(around) - before) < 1e-9);
  for (let n = 0; n < 40; n += 1) one.zoom(0.5, around);
  assert.ok(Math.abs(one.range[1] - one.range[0] - 60_000) < 1e-3, "a minute at least");
  for (let n = 0; n < 40; n += 1) one.zoom(2, around);
  assert.equal(one.chosen, null, "the whole day at most");
});

test("what is in view goes with the clock, but not under a finger", () => {
  const one = view();
  one.follow(DAY0 + 5 * HOUR, false);
  one.zoom(0.1);
  const [from, to] = one.range;
  one.follow(to + 1000, true);
  assert.deepEqual(one.range, [from, to]);
  one.follow(to + 1000, false);
  assert.equal((one.range[0] + one.range[1]) / 2, to + 1000);
  one.pan(-5000);
  assert.equal((one.range[0] + one.range[1]) / 2, to - 4000);
});

test("nobody goes outside of the day", () => {
  const one = view();
  assert.equal(one.within(DAY0 - 1), DAY0);
  assert.equal(one.within(DAY0 + 20 * HOUR), DAY0 + 12 * HOUR);
  assert.equal(one.within(DAY0 + HOUR), DAY0 + HOUR);
});

test("marks stand at whole steps of the local day, wide enough to be read", () => {
  const range = [DAY0 + 2 * HOUR + 1, DAY0 + 12 * HOUR];
  const { step, found } = ticks(range, 800, DAY0);
  assert.equal(step, HOUR);
  assert.equal(found[0], DAY0 + 3 * HOUR);
  assert.equal(found.length, 9);
  for (const width of [100, 320, 1000, 4000]) {
    const marks = ticks(range, width, DAY0);
    assert.ok((width * marks.step) / (range[1] - range[0]) > 76 || marks.step === 6 * HOUR);
  }
});

test("pieces are within the range, a pixel wide at least, and know what is too old", () => {
  const gap = { no: 1, from: 60, to: 61, words: "away" };
  const lasting = { no: 2, from: 90, to: null, words: "away" };
  const day = { stretches: [[0, 50], [61, 90]], gaps: [gap, lasting], gone: [{ from: 150, to: 160, words: "removed" }] };
  const found = pieces(day, [10, 200], { oldest: 30, now: 100, pixel: 5 });
  assert.deepEqual(found.map(({ kind, from, to }) => [kind, from, to]), [
    ["is-old", 10, 30], ["is-recorded", 30, 50], ["is-recorded", 61, 90],
    ["is-old", 150, 160], ["is-gap", 60, 65], ["is-gap", 90, 100],
  ]);
  assert.equal(found[4].gap, gap);
  assert.deepEqual(pieces(day, [300, 400], { oldest: 30, now: 100, pixel: 5 }), []);
});

test("a day's record joins recordings, and forgets a gap that ended earlier than it seemed", () => {
  const record = new DayRecord("s", new ServerClock(0, 0, () => 0));
  const camera = (recordings, gaps) => ({
    id: "c", state: "recording", words: "",
    recordings: recordings.map(([start_ms, end_ms]) => ({ start_ms, end_ms })),
    gaps: gaps.map(([gap_no, start_ms, end_ms]) => ({ gap_no, start_ms, end_ms, words: "away" })),
  });
  record.merge(camera([[0, 60_000], [60_010, 120_000]], [[1, 120_000, null]]), 0);
  assert.deepEqual(record.angles.get("c").stretches, [[0, 120_000]]);
  assert.equal(record.gapAt("c", 500_000).no, 1);
  record.merge(camera([[130_000, 190_000]], [[1, 120_000, 130_000]]), 100_000);
  assert.deepEqual(record.angles.get("c").stretches, [[0, 120_000], [130_000, 190_000]]);
  assert.equal(record.gapAt("c", 129_999).no, 1);
  assert.equal(record.gapAt("c", 130_000), undefined);
  assert.equal(record.first, 0);
});

test("what cannot be had any more is no footage of which a copy can be ordered", () => {
  const record = new DayRecord("s", new ServerClock(0, 0, () => 0));
  const one = (start_ms, words) => ({ start_ms, end_ms: start_ms + 60_000, ...(words && { words }) });
  const camera = {
    id: "c", state: "idle", words: "", gaps: [],
    recordings: [
      one(0, "removed"), one(60_000, "removed"), one(120_000, "on a machine that is away"),
      one(180_000), { ...one(180_000, "on a machine that is away"), second: true },
    ],
  };
  for (const since of [0, 100_000]) { // the second time only the end of it is told anew
    record.merge({ ...camera, recordings: camera.recordings.filter(({ end_ms }) => end_ms > since) }, since);
    const { stretches, gone } = record.angles.get("c");
    assert.deepEqual(stretches, [[180_000, 240_000]]);
    assert.deepEqual(gone, [
      { from: 0, to: 120_000, words: "removed" },
      { from: 120_000, to: 180_000, words: "on a machine that is away" },
    ]);
    const at = (moment) => record.goneAt("c", moment);
    assert.deepEqual([0, 119_999, 120_000, 180_000].map(at), ["removed", "removed", "on a machine that is away", ""]);
  }
  assert.equal(record.first, 0);
});

test("what the catalogue did not say of a day is asked for again once it answers", async (t) => {
  const record = new DayRecord("s", new ServerClock(DAY0 + 12 * HOUR, 0, () => 0));
  const known = { start_ms: DAY0 + HOUR, end_ms: DAY0 + 2 * HOUR }; // by the catalogue alone
  const asked = [];
  let answers = false;
  t.mock.method(globalThis, "fetch", async (address) => {
    const since = Number(new URL(address, "http://k").searchParams.get("from"));
    asked.push(since - DAY0);
    const recordings = answers && since < known.end_ms ? [known] : [];
    const camera = { id: "c", state: "recording", words: "", recordings, gaps: [] };
    return Response.json({ now_ms: DAY0 + 12 * HOUR, complete: answers, words: "", cameras: [camera] });
  });
  const load = () => record.load(DAY0, DAY0 + 24 * HOUR, "en");
  await load();
  await load();
  assert.equal(record.complete, false);
  answers = true;
  await load();
  assert.equal(record.complete, false, "of most of the day nothing was said yet");
  await load();
  assert.equal(record.complete, true);
  assert.equal(record.first, known.start_ms);
  answers = false; // for a moment: nothing of before is lost by that
  await load();
  assert.equal(record.complete, false);
  answers = true;
  await load();
  assert.equal(record.complete, true);
  assert.deepEqual(asked.map((ms) => ms === 0), [true, false, false, true, false, false]);
});

test("what was not said while the catalogue was away for long is asked for again, too", async (t) => {
  let own = 0;
  const record = new DayRecord("s", new ServerClock(DAY0 + 12 * HOUR, 0, () => own));
  const asked = [];
  let complete = true;
  t.mock.method(globalThis, "fetch", async (address) => {
    asked.push(Number(new URL(address, "http://k").searchParams.get("from")) - DAY0);
    return Response.json({ now_ms: DAY0 + 12 * HOUR + own, complete, words: "", cameras: [] });
  });
  t.mock.method(performance, "now", () => own);
  const load = () => record.load(DAY0, DAY0 + 24 * HOUR, "en");
  await load();
  complete = false;
  for (let n = 0; n < 5; n += 1) {
    own += 300_000;
    await load();
  }
  complete = true;
  own += 300_000;
  await load();
  assert.ok(asked.at(-1) > 0 && asked.at(-1) <= 12 * HOUR, "from before it was away");
  assert.equal(record.complete, true);
  await load();
  assert.ok(asked.at(-1) > 12 * HOUR, "then only the end");
});

test("local times are those of the station's zone", () => {
  const almaty = new Zone("Asia/Almaty");
  assert.deepEqual(almaty.local(DAY0), { day: "2026-11-29", time: "00:00:00" });
  assert.equal(almaty.utc("2026-11-29", "00:00"), DAY0);
  assert.equal(almaty.offset(DAY0), "UTC+5");
  assert.deepEqual(almaty.dayOf(DAY0 + 5 * HOUR), [DAY0, DAY0 + 24 * HOUR]);
});

test("days of 23 and 25 hours, times that come twice, and times that never come", () => {
  const berlin = new Zone("Europe/Berlin");
  const [long, end] = berlin.dayOf(Date.parse("2026-10-25T12:00:00Z"));
  assert.equal(end - long, 25 * HOUR);
  const [short, over] = berlin.dayOf(Date.parse("2026-03-29T12:00:00Z"));
  assert.equal(over - short, 23 * HOUR);
  assert.equal(berlin.utc("2026-10-25", "02:30"), Date.parse("2026-10-25T00:30:00Z"));
  const never = berlin.utc("2026-03-29", "02:30");
  assert.equal(Math.abs(never - Date.parse("2026-03-29T01:00:00Z")), HOUR / 2);
});

test("an empty or a broken field is no time, and nothing fails by it", () => {
  const almaty = new Zone("Asia/Almaty");
  for (const [day, time] of [["", "14:00:00"], ["2026-11-29", ""], ["12026-11-29", "14:00"], ["2026-11-29", "25:00"]]) {
    assert.ok(Number.isNaN(almaty.utc(day, time)), `${day} ${time}`);
  }
});
