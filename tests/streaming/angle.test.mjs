// A camera's video without a browser: which data it wants, what it does while none comes.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { stopped } from "./virtual_time.mjs";

stopped();

const fetched = [];
class FakeSource extends EventTarget {
  static isTypeSupported() { return true; }
}
Object.assign(globalThis, {
  MediaSource: FakeSource,
  addEventListener() {},
  removeEventListener() {},
  fetch(address) {
    fetched.push(String(address));
    return Promise.reject(new TypeError("nothing comes"));
  },
});
URL.createObjectURL = () => "blob:x";
URL.revokeObjectURL = () => {};
const { Angle, GAP, OFF, WAITS } = await import("../../streaming/static/angle.mjs");
const { Link } = await import("../../streaming/static/link.mjs");
const { NativeAngle } = await import("../../streaming/static/native.mjs");
const { Player } = await import("../../streaming/static/player.mjs");

const UTC0 = Date.parse("2026-11-29T04:00:00Z");

const players = [];
function playing(...parameters) {
  players.push(new Player(...parameters));
  return players.at(-1);
}

afterEach(() => {
  for (const one of players.splice(0)) clearInterval(one.ticking);
  delete globalThis.document;
});

function fakeVideo() {
  const video = Object.assign(new EventTarget(), {
    currentTime: 0, paused: true, seeking: false, readyState: 0, playbackRate: 1, muted: true, src: "", error: null,
    buffered: { length: 0 }, loads: 0,
    play: () => Promise.resolve(), pause() {}, removeAttribute() { video.src = ""; }, load() { video.loads += 1; },
  });
  return video;
}

function made(now = UTC0 + 600_000) {
  const clock = { at: now, now: () => clock.at };
  const page = { server: { now: () => now }, clock, rewindMs: 3_600_000, origin: UTC0 - 7_200_000, link: new Link() };
  const video = fakeVideo();
  return { clock, video, angle: new Angle("c", video, "/live/s/c/", page) };
}

function listed(angle, count, { from = 0, at = UTC0 } = {}) {
  const { listing } = angle;
  listing.add(Array.from({ length: count }, (_, n) => (
    { no: from + n, run: 1, at: at + n * 2000, end: at + (n + 1) * 2000, seconds: 2 })));
  Object.assign(listing, { opened: true, from: UTC0, until: UTC0 + 600_000, live: false });
}

test("the same again is no reason to load anything anew", () => {
  const { angle } = made();
  angle.open(UTC0);
  listed(angle, 10);
  angle.follow(UTC0 + 1000, true, 1);
  angle.loading.took(angle.listing.segments[0], 2);
  angle.take("/live/s/c/", 0);
  assert.equal(angle.loading.of(angle.listing.segments[0]).held, 2);
  angle.take("/live/s/c/", 2);
  assert.equal(angle.loading.of(angle.listing.segments[0]).held, -1, "single pictures are another kind");
  angle.loading.took(angle.listing.segments[0], 4);
  angle.take("/live/s/c/", 3);
  assert.equal(angle.loading.of(angle.listing.segments[0]).held, 4);
  angle.shut();
});

test("another stream has playlists and numbers of its own", () => {
  const { angle, clock } = made();
  angle.open(UTC0);
  listed(angle, 10);
  clock.at = UTC0 + 5000;
  const before = angle.listing;
  angle.take("/live/s/c.low/", 0);
  assert.equal(before.closed, true);
  assert.notEqual(angle.listing, before);
  assert.equal(angle.listing.base, "/live/s/c.low/");
  assert.equal(fetched.at(-1).startsWith("/live/s/c.low/index.m3u8?from="), true);
  angle.shut();
});

test("a jump asks for what there is, and keeps what the browser holds", () => {
  const { angle, video } = made();
  angle.open(UTC0 + 300_000);
  listed(angle, 10, { at: UTC0 + 300_000 });
  angle.follow(UTC0 + 301_000, true, 1);
  assert.equal(angle.state, WAITS);
  const { feed } = angle;
  angle.follow(UTC0 - 100_000, true, 1);
  assert.equal(angle.feed, feed);
  assert.equal(video.loads, 0);
  angle.shut();
  assert.equal(angle.state, OFF);
});

test("a browser that plays HLS by itself counts from nothing that is listed no more", () => {
  const { angle: { page }, clock, video } = made();
  const one = new NativeAngle("c", video, "/live/s/c/", page);
  one.open(UTC0);
  listed(one, 10);
  clock.at = UTC0 + 1000;
  one.follow(clock.at, true, 1);
  assert.equal(video.src.startsWith("/live/s/c/index.m3u8?from="), true);
  one.open(null); // as when somebody looks at live again: of the minutes between nothing is listed
  assert.equal(video.src, "", "else what it holds of minutes ago would be shown as live");
  assert.equal(one.given, false);
  one.shut();
});

test("a gap is a gap, and holds nobody", () => {
  const { angle } = made();
  angle.open(UTC0);
  listed(angle, 3);
  listed(angle, 3, { from: 20, at: UTC0 + 60_000 });
  angle.follow(UTC0 + 30_000, true, 1);
  assert.equal(angle.state, GAP);
  assert.equal(angle.waited, 0);
  angle.shut();
});

test("no camera holds another for longer than 2 s", () => {
  const player = playing({ now: () => UTC0 + 600_000 }, 3_600_000);
  const states = [{ state: "plays", waited: 0 }, { state: "waits", waited: 500, late: false }];
  player.angles = states;
  assert.equal(player.mustWait(), true);
  states[1].waited = 2500;
  assert.equal(player.mustWait(), false, "the others go on");
  states[0].state = "waits";
  states[0].waited = 9000;
  assert.equal(player.mustWait(), true, "nobody has a picture");
  states[0].stride = 1;
  states[1].state = "gap";
  assert.equal(player.mustWait(), false, "single pictures and gaps hold nobody");
  [states[0].state, states[0].stride] = ["missing", 0];
  assert.equal(player.mustWait(), false, "what cannot be had is not waited for");
});

test("live that fell behind jumps to what happens, and is never said where it is not", () => {
  const player = playing({ now: () => UTC0 + 600_000 }, 3_600_000);
  player.angles = [{ behindMs: 2400, state: "plays", listing: { live: true, end: UTC0 + 599_000, target: 2, opened: true } }];
  player.settled = true;
  player.clock.set(UTC0 + 592_000);
  player.keepUp();
  assert.equal(player.settled, true);
  player.clock.set(UTC0 + 586_000);
  player.keepUp();
  assert.equal(player.settled, false, "it looks for live anew");
  player.angles[0].active = true;
  player.settle();
  assert.equal(player.settled, true);
  assert.equal(player.now, UTC0 + 599_000 - 2400);
  player.since = performance.now();
  assert.deepEqual([19_000, 25_000].map((late) => player.isLive(late)), [true, false]);
  player.angles[0].behindMs = 20_000; // the browser plays HLS by itself, and a segment takes 4 s
  assert.deepEqual([25_000, 29_000].map((late) => player.isLive(late)), [true, false]);
  player.angles[0].state = "gap"; // as before recording begins
  assert.deepEqual([player.isLive(5000), player.empty], [false, true]);
  player.angles.push({ state: "off", behindMs: 2400 });
  assert.equal(player.isLive(5000), false);
  player.angles.push({ state: "plays", behindMs: 2400 });
  assert.deepEqual([player.isLive(5000), player.empty], [true, false], "one camera is live");
});

test("what is held further on is gone on with, and said", () => {
  const player = playing({ now: () => UTC0 + 600_000 }, 3_600_000);
  const angle = { state: "waits", nextReady: () => UTC0 + 11_533, feed: { came: -Infinity } };
  player.angles = [angle];
  player.settled = true;
  player.clock.set(UTC0 + 10_186);
  let skipped = null;
  player.onSkip = (from, to) => { skipped = [from, to]; };
  player.goOn();
  assert.equal(player.now, UTC0 + 11_533);
  assert.deepEqual(skipped, [UTC0 + 10_186, UTC0 + 11_533]);
  angle.nextReady = () => Infinity;
  player.goOn();
  assert.equal(player.now, UTC0 + 11_533, "nothing to go on with");
});

test("a page that nobody sees or hears loads nothing, and is live again when somebody looks", () => {
  const player = playing({ now: () => UTC0 + 600_000 }, 3_600_000);
  const did = [];
  player.angles = [{
    behindMs: 2400, state: "plays", active: true, waited: 0, video: { muted: true }, ready: UTC0 + 599_000,
    listing: { live: true, end: UTC0 + 599_000, target: 2, opened: true, until: UTC0 + 600_000 },
    stand: () => did.push("stand"), follow: () => did.push("follow"), open: (moment) => did.push(moment),
  }];
  globalThis.document = { hidden: true };
  player.settled = true;
  player.clock.set(UTC0 + 500_000);
  player.tick();
  assert.deepEqual(did, ["stand"]);
  assert.equal(player.clock.moving, false);
  assert.equal(player.angles[0].listing.rests, true, "no playlist is asked for");
  player.angles[0].video.muted = false;
  assert.equal(player.unseen, false, "it is heard");
  document.hidden = false;
  player.tick();
  assert.equal(Math.round(player.now / 1000), Math.round(UTC0 / 1000 + 596.6));
  assert.deepEqual(did, ["stand", "follow"]);
  assert.equal(player.angles[0].listing.rests, false);
  document.hidden = true;
  player.angles[0].video.muted = true;
  player.tick();
  document.hidden = false;
  player.angles[0].listing.until = UTC0;
  player.tick();
  assert.deepEqual(did.slice(2, 4), ["stand", null], "of hours that nobody saw nothing is loaded");
});

test("live that is paused while it loads shows where it is, and stands there", () => {
  const player = playing({ now: () => UTC0 + 600_000 }, 3_600_000);
  const listing = { live: true, end: 0, target: 2, opened: false };
  player.angles = [{
    wanted: true, active: true, state: "waits", behindMs: 2400, video: { muted: true }, listing, waited: 0, follow() {}, nextReady: () => Infinity,
  }];
  player.goLive();
  player.tick();
  player.pause();
  Object.assign(listing, { opened: true, end: UTC0 + 599_000 });
  player.tick();
  assert.equal(player.settled, true, "else it would say that it loads for ever");
  assert.equal(player.now, UTC0 + 599_000 - 2400);
  assert.deepEqual([player.clock.moving, player.live], [false, false]);
});

test("who watches back in time goes on where he was when the page or its machine slept, or goes where he wants", () => {
  const own = performance.now;
  const player = playing({ now: () => UTC0 + 3_600_000 }, 3_600_000);
  player.angles = [{ wanted: true, active: true, state: "plays", behindMs: 2400, video: { muted: true }, listing: null, waited: 0, follow() {} }];
  const sleeps = (ms) => {
    const woke = performance.now() + ms;
    performance.now = () => woke;
  };
  const moment = UTC0 + 600_000;
  player.seek(moment);
  sleeps(50);
  player.tick();
  assert.equal(player.now, moment + 50);
  sleeps(300_000); // another page was looked at, and the clock of the browser went on
  player.tick();
  assert.equal(player.now, moment + 50);
  sleeps(300_000);
  player.seek(moment + 5000);
  assert.equal(player.now, moment + 5000);
  player.live = true; // live goes on with what happens
  sleeps(300_000);
  player.look();
  assert.equal(player.now, moment + 305_000);
  performance.now = own;
});

test("what the window left behind while it was paused is not played: the first moment that can be", () => {
  const server = { at: UTC0 + 3_600_000, now: () => server.at };
  const player = playing(server, 3_600_000);
  let told = 0;
  player.onOld = () => { told += 1; };
  player.begun = true;
  player.seek(UTC0 + 60_000);
  player.pause();
  server.at += 3_600_000;
  player.tick();
  assert.equal(Math.round(player.now), UTC0 + 60_000, "what is paused stays on the screen");
  player.play();
  player.tick();
  assert.deepEqual([Math.round(player.now / 1000), told], [UTC0 / 1000 + 3610, 1]);
});
