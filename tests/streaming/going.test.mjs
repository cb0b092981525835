// Where people go, and what the whole screen does, on a page that is made up.
import assert from "node:assert/strict";
import { afterEach, mock, test } from "node:test";
import { stopped } from "./virtual_time.mjs";

stopped();

const NOW = Date.parse("2026-11-29T09:40:00Z");
const HOUR = 3_600_000;
const words = new Proxy({}, { get: (_all, key) => `${String(key)} {time}` });

class Element extends EventTarget {
  dataset = {};
  hidden = false;
  textContent = "";
  style = {};
  #classes = new Set();
  classList = {
    add: (one) => this.#classes.add(one), remove: (one) => this.#classes.delete(one),
    contains: (one) => this.#classes.has(one),
    toggle: (one, on) => (on ? this.#classes.add(one) : this.#classes.delete(one)),
  };
  querySelector() { return null; }
}
const elements = new Map();
const told = {
  station: "s", lang: "en", zone: "Asia/Almaty", months: [], now_ms: NOW, rewind_ms: 2 * HOUR, windows: [[NOW - 9 * HOUR, NOW + HOUR]], angle: null, chosen: false,
  number: "117", cameras: [{ id: "c" }, { id: "d" }], words,
};
const root = new Element();
const place = { pathname: "/stations/s", search: "", href: "http://h/stations/s" };
const sideways = Object.assign(new EventTarget(), { matches: false });
Object.assign(globalThis, {
  document: Object.assign(new Element(), {
    documentElement: root,
    getElementById: (id) => {
      if (id === "told") return { textContent: JSON.stringify({ ...told, words: {} }) };
      return elements.get(id) ?? null;
    },
  }),
  location: place,
  matchMedia: () => sideways,
});
const text = await import("../../streaming/static/text.mjs");
Object.assign(text.told, { words });
const { player, server } = await import("../../streaming/static/watching.mjs");
const going = await import("../../streaming/static/going.mjs");
const { address } = await import("../../streaming/static/share.mjs");
const { Lists } = await import("../../streaming/static/lists.mjs");
const { Shown } = await import("../../streaming/static/shown.mjs");
const { Timeline } = await import("../../streaming/static/timeline.mjs");
const { Screen } = await import("../../streaming/static/screen.mjs");
clearInterval(player.ticking);

const opened = [];
const angle = (id) => ({
  id, wanted: true, active: false, state: "waits", waited: 0, behindMs: 2400, listing: null, video: { muted: true },
  open(moment) { opened.push(moment); }, follow() {}, stand() {},
});
for (const { id } of told.cameras) player.add(angle(id));
elements.set("said", new Element());
const said = () => elements.get("said").textContent;

afterEach(() => {
  mock.timers.reset();
  opened.length = 0;
  elements.delete("order");
  going.going.refused = null;
  Object.assign(player, { begun: false, settled: false, live: true, paused: false });
});

function asked(search) {
  place.search = search;
  going.begin();
}

test("a link to a moment begins there, and one without begins live", () => {
  asked("?t=2026-11-29T09:00:00Z");
  assert.equal(player.live, false);
  assert.equal(going.moment(), Date.parse("2026-11-29T09:00:00Z"));
  assert.equal(address(), "/stations/s?t=2026-11-29T09%3A00%3A00Z");
  asked("");
  assert.equal(player.live, true);
  assert.equal(address(), "/stations/s");
});

test("what cannot be shown plays nothing, and its address stays true until somebody goes elsewhere", () => {
  asked("?t=2026-11-29T05:00:00Z");
  assert.deepEqual([player.begun, player.live, player.paused], [false, false, true]);
  assert.equal(address(true), "/stations/s?t=2026-11-29T05%3A00%3A00Z");
  assert.match(going.seek(going.moment() + 10_000), /^tooOld/);
  elements.set("order", new Element());
  assert.match(going.seek(going.moment() + 10_000), /toCopy/, "where copies are sold");
  assert.equal(going.going.refused.state, "too_old");
  assert.deepEqual(opened, []);
  going.live();
  assert.equal(going.going.refused, null);
  assert.equal(player.live, true);
});

test("no copy is offered of a moment before recording began", () => {
  elements.set("order", new Element());
  const refused = (search) => {
    asked(search);
    return new Shown([], null, { live() {}, seek() {} }).refused(going.going.refused);
  };
  const ways = (said) => said.ways.map((one) => one.text.split(" ")[0]);
  const old = refused("?t=2026-11-29T05:00:00Z");
  assert.match(old.words, /^tooOldLink/);
  assert.deepEqual(ways(old), ["orderCopy", "watchLive"]);
  const before = refused("?t=2026-11-28T05:00:00Z");
  assert.match(before.words, /^before/);
  assert.deepEqual(ways(before), ["watchLive"]);
});

test("from a moment that is none, ten seconds back are ten seconds ago", () => {
  asked("?t=tomorrow");
  assert.equal(going.going.refused.state, "malformed");
  assert.equal(going.seek(going.moment() - 10_000), "");
  assert.ok(Math.abs(player.now - (server.now() - 10_000)) < 1000);
  assert.equal(going.going.refused, null);
  assert.match(going.seek(server.now() + HOUR), /^future/);
});

test("live that is paused while it loads is not said to be paused in 1970", () => {
  player.clock.set(0);
  asked("");
  going.toggle();
  assert.equal(player.paused, true);
  assert.equal(said(), `paused ${text.clock(server.now())}`);
});

test("at the end of the window the moment that is shown is said, not the one asked for", () => {
  const asks = server.now() - told.rewind_ms + 3000;
  assert.equal(going.seek(asks), "");
  assert.ok(player.now > asks + 5000);
  assert.equal(said(), `jumped ${text.clock(player.now)}`);
});

test("to the gap before and the one after, some seconds before each; where there is none that is said", () => {
  asked("?t=2026-11-29T09:00:00Z");
  const outages = ["08:30", "09:10"].map((at) => ({ from: Date.parse(`2026-11-29T${at}:00Z`) }));
  going.toGap(outages, 1);
  assert.equal(player.now, outages[1].from - 3000);
  going.toGap(outages, 1);
  assert.match(said(), /^noGapAfter/);
  going.toGap(outages, -1);
  assert.equal(player.now, outages[0].from - 3000);
  going.toGap(outages, -1);
  assert.match(said(), /^noGapBefore/);
});

test("live is not said to be shown where nothing is recorded now", () => {
  for (const one of player.angles) one.state = "gap";
  going.live();
  assert.match(said(), /^noPictureNow/);
  player.live = false; // the gap is one of the past
  going.live();
  assert.match(said(), /^isLive/);
  for (const one of player.angles) one.state = "waits";
});

test("a gap is told to the second, and one that is shorter to the thousandth, wherever it is told", () => {
  const from = Date.parse("2026-11-29T03:46:07.250Z");
  const lists = new Lists(root, null, told.cameras, () => {});
  const line = (/** @type {number | null} */ to) => lists.line({ from, to, cameras: [0], causes: ["away"] });
  Object.assign(text.told, { words: { gapLine: "{from}–{to}: {cause}", until: "now", seconds: "{seconds} s" } });
  assert.equal(line(from + 4000), "08:46:07–08:46:11: away");
  assert.equal(line(from + 400), "08:46:07.250–08:46:07.650: away");
  assert.equal(line(null), "08:46:07–now: away");
  assert.equal(text.length(400), "0.4 s");
  assert.equal(text.length(4000), "4 s");
  Object.assign(text.told, { words });
});

test("controls fade on the whole screen only; a tap hides them, another shows them", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const stage = new Element();
  const screen = new Screen(stage, new Element());
  const idle = () => stage.classList.contains("idle");
  mock.timers.tick(5000);
  assert.equal(idle(), false, "on the page they stay");
  const tap = () => {
    stage.dispatchEvent(new Event("pointerdown"));
    screen.tap();
  };
  tap();
  assert.equal(idle(), true);
  tap();
  assert.equal(idle(), false);
  sideways.matches = true; // a phone is turned
  sideways.dispatchEvent(new Event("change"));
  assert.equal(screen.whole, true);
  mock.timers.tick(5000);
  assert.equal(idle(), true);
  stage.dispatchEvent(new Event("pointermove"));
  assert.equal(idle(), false);
});

test("on the timeline, too, keys with Ctrl, Alt or Command are the browser's: its zoom, its way back", () => {
  globalThis.ResizeObserver = class { observe() {} };
  const parts = Object.fromEntries(["#track", "#ticks", "#needle", "#mark"].map((id) => [id, new Element()]));
  const page = Object.assign(new Element(), { querySelector: (id) => parts[id], querySelectorAll: () => [] });
  const went = [];
  const timeline = new Timeline(page, { angles: new Map(), first: null }, [], {
    seek: (at) => went.push(at), bounds: () => [NOW - 9 * HOUR, NOW], oldest: () => NOW - 2 * HOUR, hover() {}, select() {},
  });
  timeline.show(NOW - HOUR);
  const press = (key, more = {}) => {
    const event = Object.assign(new Event("keydown", { cancelable: true }), { key, ...more });
    parts["#track"].dispatchEvent(event);
    return event.defaultPrevented;
  };
  for (const more of [{ ctrlKey: true }, { altKey: true }, { metaKey: true }]) {
    for (const key of ["ArrowLeft", "Home", "+", "=", "-"]) assert.equal(press(key, more), false, key);
  }
  assert.deepEqual([went, timeline.view.chosen], [[], null]);
  assert.equal(press("ArrowLeft"), true);
  assert.equal(press("+"), true);
  assert.deepEqual(went, [NOW - HOUR - 5000]);
  assert.notEqual(timeline.view.chosen, null);
});
