// From a server to a video, all in small: real playlists and MP4, a browser's buffer that is made up.
import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { held, pass, sleep } from "./virtual_time.mjs";

held();
const UTC0 = Math.floor((Date.now() - 600_000) / 600_000) * 600_000; // whole ten minutes
const SECONDS = 2;
const RATE = 10; // pictures a second

const bytes = (...parts) => Buffer.concat(parts.map((one) => (typeof one === "string" ? Buffer.from(one) : one)));
const word = (...values) => {
  const made = Buffer.alloc(4 * values.length);
  values.forEach((value, n) => made.writeUInt32BE(value >>> 0, 4 * n));
  return made;
};
const box = (type, ...parts) => {
  const body = bytes(...parts);
  return bytes(word(8 + body.length), type, body);
};

function track(id, entry) {
  const tkhd = box("tkhd", word(3, 0, 0, id, 0), Buffer.alloc(60));
  const mdhd = box("mdhd", word(0, 0, 0, 90_000, 0), Buffer.alloc(4));
  const stsd = box("stsd", word(0, 1), entry);
  return box("trak", tkhd, box("mdia", mdhd, box("minf", box("stbl", stsd))));
}

function init(codec = "avc1", sound = true) {
  const config = codec === "avc1" ? box("avcC", Buffer.from([1, 0x64, 0, 0x1f])) : box("hvcC", Buffer.alloc(13));
  const trex = (id) => box("trex", word(0, id, 1, 0, 0, 0));
  return bytes(box("ftyp", "iso5"), box("moov", box("mvhd", Buffer.alloc(100)),
    track(1, box(codec, Buffer.alloc(78), config)), ...(sound ? [track(2, box("mp4a", Buffer.alloc(28)))] : []),
    box("mvex", trex(1), ...(sound ? [trex(2)] : []))));
}

/** A segment of the run that begins at UTC0, of 2 s of pictures; with `key` false none is whole. */
function segment(n, { key = true } = {}) {
  const rows = Array.from({ length: SECONDS * RATE }, (_, m) => (
    word(90_000 / RATE, m ? 100 : 2000, m || !key ? 0x1010000 : 0x2000000, 0)));
  const trun = (at) => box("trun", word(0x1000f01, rows.length, at), ...rows);
  const traf = (at) => box("traf", box("tfhd", word(0x20000, 1)), box("tfdt", word(0x1000000, 0, n * SECONDS * 90_000)), trun(at));
  const moof = (at) => box("moof", box("mfhd", word(0, n)), traf(at));
  const data = Buffer.alloc(2000 + 100 * (rows.length - 1), n);
  return bytes(moof(moof(0).length + 8), box("mdat", data));
}

let browser = {}; // what a test's browser does not take
class SourceBuffer extends EventTarget {
  updating = false;
  timestampOffset = 0;
  ranges = [];
  takes = [];
  changeType() {}
  appendBuffer(data) {
    const held = ranges.amount(this.ranges, 0, Infinity);
    if (held + SECONDS > (browser.room ?? Infinity)) throw Object.assign(new Error("full"), { name: "QuotaExceededError" });
    this.#later(() => {
      if (browser.refuses === data.at(-1)) {
        this.dispatchEvent(new Event("error"));
        setTimeout(() => browser.video.onerror?.(), 1);
        return;
      }
      if (String.fromCharCode(...data.subarray(4, 8)) !== "moof") return;
      const said = mp4.readSegment(data, { video: 1, defaults: [0, 0, 0] });
      const from = this.timestampOffset + said.tfdt / 90_000;
      const length = said.rows.reduce((sum, one) => sum + one[0], 0) / 90_000;
      if (!said.independent && !this.ranges.some(([, to]) => Math.abs(to - from) < 0.01)) return; // thrown away
      this.takes.push(said.rows.length);
      this.ranges = ranges.bridged([...this.ranges, [from, from + length]].sort((a, b) => a[0] - b[0]), 0.001);
    });
  }
  remove(from, to) {
    this.#later(() => {
      this.ranges = this.ranges.flatMap(([a, b]) => [[a, Math.min(b, from)], [Math.max(a, to), b]].filter(([x, y]) => y > x));
    });
  }
  #later(act) {
    assert.equal(this.updating, false, "two things at once");
    this.updating = true;
    setTimeout(() => {
      act();
      this.updating = false;
      this.dispatchEvent(new Event("updateend"));
    }, 1);
  }
}

let buffers = [];
class MediaSource extends EventTarget {
  static isTypeSupported(mime) { return !mime.includes("hvc1"); }
  constructor() {
    super();
    setTimeout(() => this.dispatchEvent(new Event("sourceopen")), 1);
  }
  addSourceBuffer(mime) {
    const made = Object.assign(new SourceBuffer(), { mime });
    buffers.push(made);
    return made;
  }
}
Object.assign(globalThis, { MediaSource, addEventListener() {}, removeEventListener() {} });
URL.createObjectURL = () => "blob:x";
URL.revokeObjectURL = () => {};
const mp4 = await import("../../streaming/static/mp4.mjs");
const ranges = await import("../../streaming/static/ranges.mjs");
const { Angle } = await import("../../streaming/static/angle.mjs");
const { Clock } = await import("../../streaming/static/clock.mjs");
const { Link } = await import("../../streaming/static/link.mjs");

class Video extends EventTarget {
  paused = true;
  seeking = false;
  playbackRate = 1;
  muted = true;
  error = null;
  jumps = 0;
  #at = 0;
  #since = 0;
  get held() { return buffers.at(-1)?.ranges ?? []; }
  get buffered() {
    const { held } = this;
    return { length: held.length, start: (n) => held[n][0], end: (n) => held[n][1] };
  }
  get readyState() { return ranges.ahead(this.held, this.#at) > 0 ? 4 : 0; }
  get currentTime() {
    const now = performance.now();
    const left = ranges.ahead(this.held, this.#at);
    if (!this.paused) this.#at += Math.min(left, ((now - this.#since) / 1000) * this.playbackRate);
    this.#since = now;
    return this.#at;
  }
  set currentTime(to) {
    assert.ok(ranges.ahead(this.held, to) > 0, `sent to ${to}, where nothing is held`);
    this.jumps += 1;
    this.#at = to;
  }
  play() {
    this.#since = performance.now();
    this.paused = false;
    return Promise.resolve();
  }
  pause() { this.paused = true; }
  removeAttribute() {}
  load() { buffers.push(Object.assign(new SourceBuffer(), { mime: "" })); }
}

/**
 * A server with segments: `lacks` those numbers, has `spoilt` ones, answers `fails` with 503, each
 * `delay` ms later; the first `silent` are of a run without sound.
 */
function serve(count, { lacks = [], spoilt = [], fails = [], keys = () => true, codec = "avc1", delay = 1, silent = 0 } = {}) {
  const asked = [];
  const lines = Array.from({ length: count }, (_, n) => [
    ...(n === 0 || n === silent ? [`#EXT-X-MAP:URI="init-${n < silent ? 1 : 2}.mp4"`] : []),
    `#EXT-X-PROGRAM-DATE-TIME:${new Date(UTC0 + n * SECONDS * 1000).toISOString()}`, `#EXTINF:${SECONDS},`, `${n}.m4s`,
  ]);
  const playlist = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", ...lines.flat(), ""].join("\n");
  globalThis.fetch = async (address, { headers = {}, signal } = {}) => {
    asked.push(`${address} ${headers.Range ?? ""}`.trim());
    await sleep(delay, signal);
    if (address.includes("m3u8")) return new Response(playlist);
    if (address.includes("init-") && codec === "spoilt") return new Response(Buffer.alloc(500));
    if (address.includes("init-")) return new Response(init(address.includes("/low/") ? "avc1" : codec, !address.includes("init-1")));
    const n = Number(/(\d+)\.m4s/.exec(address)[1]);
    if (fails.includes(n)) return new Response("", { status: 503 });
    if (lacks.includes(n)) return new Response("", { status: 404 });
    const data = spoilt.includes(n) ? Buffer.alloc(3000) : segment(n, { key: keys(n) });
    const range = /bytes=(\d+)-(\d+)/.exec(headers.Range ?? "");
    if (!range) return new Response(data);
    const part = data.subarray(Number(range[1]), Number(range[2]) + 1);
    return new Response(part, { status: 206, headers: { "Content-Range": `bytes ${range[1]}-${range[2]}/${data.length}` } });
  };
  return asked;
}

let ends = () => {};
afterEach(() => {
  ends();
  browser = {};
});

/** Shows a moment, as a player would: the clock runs while there is a picture, or none to be had. */
function shown(moment) {
  const clock = new Clock();
  clock.set(moment);
  buffers = [];
  const video = new Video();
  browser.video = video;
  const page = { server: { now: () => UTC0 + 599_000 }, clock, rewindMs: 3_600_000, origin: UTC0 - 3_600_000, link: new Link() };
  const angle = new Angle("c", video, "/live/s/c/", page);
  angle.open(moment);
  const ticking = setInterval(() => {
    const runs = angle.state !== "waits";
    angle.follow(clock.now(), runs, 1);
    clock.run(runs, 1);
  }, 5);
  ends = () => {
    clearInterval(ticking);
    angle.shut();
  };
  return { angle, clock, video };
}

async function until(what, why) {
  for (let n = 0; n < 4000; n += 1) {
    if (what()) return;
    await pass(5);
  }
  assert.fail(why);
}

test("a moment is shown: where the run puts it on a time line of UTC, the picture without the sound", async () => {
  const asked = serve(60);
  const { angle, clock, video } = shown(UTC0 + 31_000);
  await until(() => angle.state === "plays" && clock.now() > UTC0 + 31_200, "it does not play");
  assert.ok(Math.abs(video.currentTime - (3600 + (clock.now() - UTC0) / 1000)) < 0.3);
  assert.equal(asked.filter((one) => one.endsWith("/15.m4s")).length, 1);
  await until(() => ranges.ahead(video.held, video.currentTime) > 18, "it loads nothing ahead");
  assert.ok(video.held[0][0] >= 3600 + 29.9, "what is before the moment is not loaded");
});

test("what the browser throws away is loaded again, and the video goes on", async () => {
  const asked = serve(60);
  const { angle, clock, video } = shown(UTC0 + 31_000);
  await until(() => angle.state === "plays" && ranges.ahead(video.held, video.currentTime) > 15, "it does not play");
  buffers.at(-1).ranges = buffers.at(-1).ranges.map(([from, to]) => [from + 8, to]);
  const { length } = asked;
  const before = clock.now();
  await until(() => angle.state === "plays" && clock.now() > before + 300, "it stands");
  assert.ok(asked.slice(length).some((one) => one.endsWith("/15.m4s") || one.endsWith("/16.m4s")));
});

test("a segment that the server lacks is left out, and said; the clock goes on", async () => {
  serve(60, { lacks: [16] });
  const { angle, clock } = shown(UTC0 + 31_500);
  const states = new Set();
  await until(() => { states.add(angle.state); return angle.state === "plays" && clock.now() > UTC0 + 34_200; }, "it stands");
  assert.ok(states.has("missing"));
});

test("a segment without a keyframe is given after the one before it", async () => {
  serve(60, { keys: (n) => n % 3 === 0 });
  const { angle, clock, video } = shown(UTC0 + 35_000); // in segment 17
  await until(() => angle.state === "plays" && clock.now() > UTC0 + 35_200, "it stands");
  assert.ok(video.held[0][0] <= 3600 + 30.1, "from segment 15 on");
});

test("single pictures: the beginning of a segment, standing for as long as is asked", async () => {
  const asked = serve(60);
  const { angle, clock, video } = shown(UTC0 + 31_000);
  angle.take("/live/s/c/", 3);
  await until(() => angle.state === "plays" && clock.now() > UTC0 + 31_100, "no picture");
  assert.ok(asked.some((one) => /15\.m4s bytes=0-\d+/.test(one)), asked.join("\n"));
  assert.ok(buffers.at(-1).takes.every((count) => count === 1));
  assert.equal(video.held[0][0], 3630);
  assert.equal(Math.round(angle.bits), Math.round((segment(1).length * 8) / SECONDS), "what video would need is known");
  angle.take("/live/s/c/", 0);
  await until(() => buffers.at(-1).takes.at(-1) > 1, "no video");
});

test("what the browser cannot show is said, and nothing of it is loaded", async () => {
  const asked = serve(60, { codec: "hvc1" });
  const { angle } = shown(UTC0 + 31_000);
  await until(() => angle.state === "cannot", "it is not said");
  await pass(100);
  assert.ok(asked.filter((one) => one.includes(".m4s")).length <= 2, asked.join("\n"));
});

test("with sound everything is given; who mutes again loses nothing", async () => {
  serve(60);
  const { angle, clock, video } = shown(UTC0 + 31_000);
  await until(() => angle.state === "plays", "it does not play");
  angle.setSound(true);
  assert.equal(video.muted, false);
  const before = clock.now();
  await until(() => angle.state === "plays" && clock.now() > before + 100, "it stands");
  const { feed } = angle;
  angle.setSound(false);
  assert.equal(angle.feed, feed);
});

test("a picture that stands for long is loaded whole, however late in its time the clock is", async () => {
  const asked = serve(60, { delay: 40 });
  const { angle, video } = shown(UTC0 + 35_500);
  angle.take("/live/s/c/", 6);
  await until(() => angle.state === "plays", `no picture: ${asked.join("\n")}`);
  assert.equal(video.held[0][0], 3624, "that of the 12th segment, for all viewers");
  assert.equal(asked.filter((one) => one.includes("/12.m4s")).length, 1);
});

test("what the browser refuses is left out, and nothing else", async () => {
  serve(60);
  browser.refuses = 17;
  const { angle, clock } = shown(UTC0 + 32_500);
  const missing = [];
  await until(() => {
    if (angle.state === "missing") missing.push(clock.now() - UTC0);
    return angle.state === "plays" && clock.now() > UTC0 + 36_200;
  }, "it stands");
  assert.ok(missing.length && missing.every((at) => at > 33_900 && at < 36_100), missing.join());
});

test("a browser with little room is given less, and nothing again and again", async () => {
  const asked = serve(60);
  browser.room = 12;
  const { angle, clock, video } = shown(UTC0 + 31_000);
  await until(() => angle.state === "plays" && clock.now() > UTC0 + 33_000, "it stands");
  assert.ok(ranges.ahead(video.held, video.currentTime) > 1);
  assert.ok(asked.filter((one) => one.includes(".m4s")).length < 16, asked.join("\n"));
});

test("a segment that the server answers with an error is left out, where others come", async () => {
  const asked = serve(60, { fails: [16] });
  const { angle, clock } = shown(UTC0 + 31_500);
  const states = new Set();
  await until(() => { states.add(angle.state); return angle.state === "plays" && clock.now() > UTC0 + 34_200; }, "it stands");
  assert.ok(states.has("missing"));
  assert.equal(asked.filter((one) => one.endsWith("/16.m4s")).length, 3);
});

test("a server that answers all with an error is waited for: nothing is left out", async () => {
  const fails = Array.from({ length: 60 }, (_, n) => n);
  const asked = serve(60, { fails });
  const { angle, clock } = shown(UTC0 + 31_500);
  const states = new Set();
  await until(() => { states.add(angle.state); return asked.filter((one) => one.includes(".m4s")).length > 2; }, "it asks no more");
  fails.length = 0;
  await until(() => { states.add(angle.state); return angle.state === "plays" && clock.now() > UTC0 + 31_700; }, "it stands");
  assert.deepEqual([...states], ["waits", "plays"]);
});

test("where sound begins, the browser gets it from there on, and what is before is played out", async () => {
  serve(60, { silent: 17 });
  const { angle, clock } = shown(UTC0 + 33_000);
  angle.setSound(true);
  const states = new Set();
  await until(() => { states.add(angle.state); return angle.state === "plays" && clock.now() > UTC0 + 34_300; }, "it stands");
  assert.ok(!states.has("missing"));
  assert.equal(angle.feed.apart.size, 0, "it has sound now");
});

test("single pictures are shown also where sound is wanted", async () => {
  serve(60);
  const { angle, clock } = shown(UTC0 + 31_000);
  angle.setSound(true);
  await until(() => angle.state === "plays" && buffers.at(-1).mime.includes("mp4a"), "no sound");
  angle.take("/live/s/c/", 3);
  clock.set(UTC0 + 91_000); // further on than what is held
  await until(() => angle.state === "plays" && buffers.at(-1).takes.at(-1) === 1, "no picture");
  assert.ok(!buffers.at(-1).mime.includes("mp4a"), "a buffer with sound waits for some");
  angle.take("/live/s/c/", 0);
  await until(() => angle.state === "plays" && buffers.at(-1).mime.includes("mp4a"), "no sound again");
});

test("a second stream that the browser can show is shown, though its numbers are those of the first", async () => {
  serve(60, { codec: "hvc1" });
  const { angle, clock } = shown(UTC0 + 31_000);
  await until(() => angle.state === "cannot", "it is not said");
  angle.take("/live/s/c/low/", 0);
  await until(() => angle.state === "plays" && clock.now() > UTC0 + 31_200, "it does not play");
});

test("what cannot be read is left out, also of single pictures, and of a run without an init", async () => {
  const asked = serve(60, { spoilt: [15] });
  const { angle } = shown(UTC0 + 31_000);
  angle.take("/live/s/c/", 3);
  await until(() => asked.some((one) => one.includes("/18.m4s")), "it asks for nothing else");
  await until(() => angle.loading.lost(angle.listing.at(UTC0 + 30_500), performance.now()), "it is asked for for ever");
  ends();
  serve(60, { codec: "spoilt" });
  const other = shown(UTC0 + 31_000).angle;
  await until(() => other.state === "missing", "it is not said");
});
