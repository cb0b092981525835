// How fast a link is, and what it can carry.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Chooser, Link, levels, pageBits } from "../../streaming/static/link.mjs";

const MBIT = 1_000_000;

test("a link's speed is bytes by the time in which they came, not by what was waited for", () => {
  let now = 0;
  const link = new Link(() => now);
  assert.equal(link.bits, 0);
  const load = link.begin();
  now += 300; // on the way
  load.got(10_000);
  for (let n = 0; n < 5; n += 1) {
    now += 200;
    load.got(10_000);
  }
  load.end();
  assert.equal(link.bits, 400_000);
});

test("what comes at once came over a fast link, where it is enough to say so", () => {
  let now = 0;
  const link = new Link(() => now);
  for (const bytes of [5000, 40_000]) {
    const load = link.begin();
    now += 300;
    load.head();
    now += 4;
    load.got(bytes);
    load.end();
    assert.equal(link.bits, bytes > 20_000 ? 80 * MBIT : 0);
  }
});

test("what comes in single pieces raises what is believed of the link, and never lowers it", () => {
  let now = 0;
  const link = new Link(() => now);
  link.saw(25_000, 1000);
  const piece = (ms) => {
    const load = link.begin();
    now += ms;
    load.head();
    load.got(6000);
    load.end();
  };
  for (let n = 0; n < 4; n += 1) piece(900);
  assert.equal(link.bits, 200_000, "the link is faster than that: it was waited, too");
  for (let n = 0; n < 12; n += 1) piece(60);
  assert.equal(link.bits, 800_000);
});

test("loads side by side share the link, and count once", () => {
  let now = 0;
  const link = new Link(() => now);
  const [one, other] = [link.begin(), link.begin()];
  one.got(1000);
  other.got(1000);
  for (let n = 0; n < 10; n += 1) {
    now += 100;
    one.got(10_000);
    other.got(10_000);
  }
  one.end();
  other.end();
  assert.equal(link.bits, 1.6 * MBIT);
});

test("what is measured is forgotten, and a load that failed harms nothing", () => {
  let now = 0;
  const link = new Link(() => now);
  link.saw(50_000, 1000);
  assert.equal(link.bits, 400_000);
  link.begin().end();
  now += 70_000;
  link.saw(500_000, 1000);
  assert.equal(link.bits, 4 * MBIT);
});

test("the page itself tells how fast the link is, where it came over it", () => {
  const one = { transferSize: 20_000, responseStart: 100, responseEnd: 500 };
  assert.equal(pageBits([one, { transferSize: 20_000, responseStart: 200, responseEnd: 900 }]), 400_000);
  assert.equal(pageBits([{ ...one, transferSize: 0 }]), 0);
});

test("what can be played, what costs most first", () => {
  const of = (streams) => levels(streams).map(({ level }) => `${level.main}+${level.others}`);
  assert.deepEqual(of({ need: 600_000, low: 0, cameras: 3 }), ["full+full", "full+off", "pictures+off"]);
  assert.deepEqual(
    of({ need: 2 * MBIT, low: 150_000, cameras: 3 }),
    ["full+full", "full+low", "full+off", "low+low", "low+off", "pictures+off"],
  );
  assert.deepEqual(of({ need: 600_000, low: 0, cameras: 1 }), ["full+off", "pictures+off"]);
});

test("less is played at once, more after a while, and after a longer while the more often", () => {
  let now = 0;
  const one = new Chooser(() => now);
  const streams = { need: 600_000, low: 0, cameras: 3 };
  const look = (bits) => { const { main, others } = one.look(bits, streams); return `${main}+${others}`; };
  assert.equal(look(0), "full+full", "nothing is known yet");
  assert.equal(look(5 * MBIT), "full+full");
  assert.equal(look(MBIT), "full+off");
  assert.equal(look(400_000), "pictures+off");
  now += 10_000;
  assert.equal(look(5 * MBIT), "pictures+off");
  now += 21_000;
  assert.equal(look(700_000), "pictures+off", "it must be worth it");
  assert.equal(look(5 * MBIT), "full+full");
  now += 1000;
  assert.equal(look(400_000), "pictures+off");
  now += 31_000;
  assert.equal(look(5 * MBIT), "pictures+off", "twice as long");
  now += 30_000;
  assert.equal(look(5 * MBIT), "full+full");
});

test("what is measured first is believed: nothing was known when the page began", () => {
  const one = new Chooser(() => 0);
  const streams = { need: 164_000, low: 0, cameras: 2 };
  one.begin(300_000, false);
  assert.deepEqual(one.look(300_000, streams), { main: "full", others: "off" }); // 1.3 times 184,000
  assert.deepEqual(one.look(9 * MBIT, streams), { main: "full", others: "off" }, "after a while");
});

test("what stood still is believed to be less than was measured", () => {
  const one = new Chooser(() => 0);
  const streams = { need: 600_000, low: 0, cameras: 1 };
  one.level = { main: "full", others: "off" };
  assert.equal(one.look(900_000, streams).main, "full");
  one.stalled();
  assert.equal(one.look(900_000, streams).main, "pictures");
});

test("a slow link begins with pictures, a slower one than 1.5 Mbit/s with one camera", () => {
  assert.deepEqual(new Chooser().begin(400_000, false), { main: "pictures", others: "off" });
  assert.deepEqual(new Chooser().begin(MBIT, false), { main: "full", others: "off" });
  assert.deepEqual(new Chooser().begin(0, true), { main: "full", others: "off" });
  assert.deepEqual(new Chooser().begin(9 * MBIT, false), { main: "full", others: "full" });
});

test("a person's choice counts more than what is measured", () => {
  const one = new Chooser(() => 0);
  const streams = { need: 600_000, low: 0, cameras: 3 };
  one.wanted = "saving";
  assert.equal(one.look(9 * MBIT, streams).others, "off");
  one.wanted = "video";
  assert.equal(one.look(100_000, streams).main, "full");
});
