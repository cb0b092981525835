// What is played of each camera, on a page that is made up.
import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { held } from "./virtual_time.mjs";

held();

const NOW = Date.parse("2026-11-29T09:40:00Z");
const words = new Proxy({}, { get: (_all, key) => `${String(key)} {rate}` });
const told = {
  station: "s", lang: "ru", zone: "Asia/Almaty", months: [], now_ms: NOW, rewind_ms: 7_200_000, words: {},
  cameras: [{ id: "c", low: true, takes: { minute: null } }],
};
const said = { textContent: "" };
const element = Object.assign(new EventTarget(), { hidden: false, textContent: "", dataset: {} });
class FakeSource extends EventTarget {}
Object.assign(globalThis, {
  MediaSource: FakeSource,
  document: Object.assign(new EventTarget(), {
    getElementById: (id) => (id === "told" ? { textContent: JSON.stringify(told) } : id === "said" ? said : element),
  }),
  location: { href: "http://h/stations/s" },
  navigator: {},
});
const text = await import("../../streaming/static/text.mjs");
Object.assign(text.told, { words });
const { player } = await import("../../streaming/static/watching.mjs");
const going = await import("../../streaming/static/going.mjs");
const { Quality } = await import("../../streaming/static/quality.mjs");
clearInterval(player.ticking);

const BOTH = `#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=2000000
index.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=200000
../c-low/index.m3u8
`;

test("a second stream is found also where the first question was lost, or it began later", async () => {
  const asked = [];
  const answers = [() => { throw new TypeError("nothing comes"); }, () => new Response("", { status: 404 }), () => new Response(BOTH)];
  globalThis.fetch = async (address) => {
    asked.push(address);
    return answers[asked.length - 1]();
  };
  const angle = {
    id: "c", wanted: true, base: "/live/s/c/", state: "waits", bits: 0, stride: 0, feed: null, listing: null, picture: null, video: { muted: true },
    take() {}, open() {}, shut() {}, follow() {}, stand() {},
  };
  player.add(angle);
  const quality = new Quality([{ figure: element, angle, camera: told.cameras[0] }]);
  const counts = [];
  for (let n = 0; n < 6; n += 1) {
    player.rests = n === 0; // nobody looks for half a minute
    await new Promise((done) => { setImmediate(done); });
    counts.push(asked.length);
    mock.timers.tick(30_000);
  }
  assert.deepEqual(counts, [1, 1, 2, 3, 3, 3]);
  assert.deepEqual(asked, Array(3).fill("/live/s/c/all.m3u8"));
  assert.equal(quality.main.low, "/live/s/c-low/");
  assert.equal(quality.main.lowBits, 200_000);
});

test("a speed is said as the language of the page writes numbers", () => {
  going.speed(0.5);
  assert.equal(said.textContent, "speed 0,5");
  going.speed(8);
  assert.equal(said.textContent, "speed 8");
});
