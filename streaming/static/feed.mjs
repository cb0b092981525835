// Gives a video what it shows: segments of a stream, by Media Source Extensions.
//
// The video's time line is UTC, counted from `loading.origin`: every run is put where it belongs, gaps are
// gaps, and a second stream or single pictures fit between segments of the first one.
import { Away, Failed } from "./loads.mjs";
import * as mp4 from "./mp4.mjs";
import { amount, rangesOf } from "./ranges.mjs";
import { Segments } from "./segments.mjs";

/** @import { Link } from "./link.mjs" */
/** @import { Loading } from "./loading.mjs" */
/** @import { Listing } from "./playlist.mjs" */
/** @import { Init } from "./segments.mjs" */
/**
 * What is wanted: `stride` is of single pictures, as in Loading, and 0 for video.
 * @typedef {{ moment: number, horizonMs: number, stride: number }} Wish
 */

const RETRY_MS = [500, 1000, 2000, 4000];
const STUCK_MS = 12_000; // longer than a load may be silent: the browser does not answer
const LENGTH_S = 30 * 86_400; // of the time line: a page is not watched for longer

const MediaSource = globalThis.ManagedMediaSource ?? globalThis.MediaSource;

export const canFeed = () => Boolean(MediaSource);

// The browser did not take what it was given, and takes nothing any more.
class Refused extends Error {}

export class Feed {
  #source = new MediaSource();
  #opened;
  /** @type {SourceBuffer | null} */
  #buffer = null;
  #sounds = false; // it was made for pictures with sound
  /** @type {Map<string, number>} when each run began, UTC ms, by the address of its init */
  #began = new Map();
  #appended = ""; // the address of the init that was given last
  #mime = "";
  /** @type {{ segment: Segment, abort: AbortController, over: boolean, since: number } | null} what is being loaded */
  #busy = null;
  #failures = 0;
  #blocked = 0;
  /** @type {Set<number>} runs that this browser cannot show */
  cannot = new Set();
  /** @type {Set<number>} runs with sound where it has none, or without where it has some */
  apart = new Set();
  broken = ""; // why it has to begin anew
  came = performance.now(); // when the last bytes came

  /**
   * @param {HTMLVideoElement} video
   * @param {Loading} loading what is known of segments
   * @param {boolean} sound whether it is wanted, where there is any
   * @param {Link} link measures
   */
  constructor(video, loading, sound, link) {
    this.video = video;
    this.loading = loading;
    this.sound = sound;
    this.segments = new Segments(link);
    this.#opened = new Promise((done) => { this.#source.addEventListener("sourceopen", done, { once: true }); });
    video.disableRemotePlayback = true; // else a ManagedMediaSource does not open
    video.onerror = () => { this.broken ||= "decode"; };
    video.src = URL.createObjectURL(this.#source);
  }

  destroy() {
    this.broken = "gone";
    this.#busy?.abort.abort();
    const { video } = this;
    video.onerror = null;
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
    video.load();
  }

  /**
   * Another stream is wanted: its segments and runs are others, whatever their numbers are.
   * @param {Loading} loading
   */
  follow(loading) {
    if (loading === this.loading) return;
    this.loading = loading;
    this.cannot.clear();
    this.apart.clear();
    this.segments.bits = 0;
  }

  // Returns what the browser holds, in s of the time line.
  get ranges() { return rangesOf(this.video.buffered); }

  /**
   * Loads what is wanted, one segment after the other. Called several times a second.
   * @param {Listing} listing
   * @param {Wish} wish
   */
  tick(listing, wish) {
    const now = performance.now();
    if (this.#busy) {
      const { segment, abort, since } = this.#busy;
      if (now - Math.max(since, this.came) > STUCK_MS) this.broken ||= "stuck";
      const until = segment.at + segment.seconds * 1000 * (wish.stride || 1);
      if (until < wish.moment - 2000 || segment.at > wish.moment + wish.horizonMs + 5000) {
        this.#busy.over = true;
        abort.abort();
      }
      return;
    }
    if (this.broken || now < this.#blocked) return;
    const segment = this.loading.next(listing.segments, this.ranges, { ...wish, now });
    if (segment) this.#load(listing.base, segment, wish);
  }

  /**
   * @param {string} base
   * @param {Segment} segment
   * @param {Wish} wish
   */
  async #load(base, segment, wish) {
    if (this.cannot.has(segment.run)) {
      this.loading.took(segment, 0);
      return;
    }
    const abort = new AbortController();
    const busy = { segment, abort, over: false, since: performance.now() };
    this.#busy = busy;
    try {
      const address = `${base}init-${segment.run}.mp4`;
      const how = { abort, onBytes: () => { this.came = performance.now(); } };
      const init = this.segments.init(address);
      if (this.#buffer && !this.#takes(await init, segment, wish)) return; // else both are asked for at once
      const data = await (wish.stride
        ? this.segments.picture(base, segment, init, how)
        : this.segments.whole(base, segment, how));
      await this.#give(address, await init, segment, data, wish);
      this.#failures = 0;
    } catch (error) {
      if (this.broken !== "gone" && !busy.over) this.#fail(segment, error);
    } finally {
      this.#busy = null;
    }
  }

  /**
   * Notes what went wrong. What was not there, or could not be read, is the segment's fault; else it
   * is asked for again, after a pause; where the server answers with an error, what comes after it first.
   * @param {Segment} segment
   * @param {unknown} error
   */
  #fail(segment, error) {
    const now = performance.now();
    if (error instanceof Refused) this.broken = "refused";
    if (!(error instanceof Away || error instanceof Failed)) {
      this.loading.failed(segment, now);
      return;
    }
    this.#failures += 1;
    this.#blocked = now + RETRY_MS[Math.min(this.#failures, RETRY_MS.length) - 1];
    if (error instanceof Failed) this.loading.erred(segment, now, this.#blocked);
  }

  /**
   * Tells whether a segment can be given now. A buffer has sound or has none: where that changes it
   * is made anew, but not before the clock is there.
   * @param {Init} init
   * @param {Segment} segment
   * @param {Wish} wish
   */
  #takes(init, segment, wish) {
    const { mime, sounds } = this.#kind(init, wish);
    if (!MediaSource.isTypeSupported(mime)) {
      this.cannot.add(segment.run);
      this.loading.took(segment, 0);
      return false;
    }
    if (!this.#buffer || this.#sounds === sounds) return true;
    if (wish.moment >= segment.at) this.broken = "sound";
    this.apart.add(segment.run);
    this.#blocked = performance.now() + 100;
    return false;
  }

  /**
   * Returns which data is given: single pictures have no sound, and a buffer that waits for some
   * would show none of them.
   * @param {Init} init
   * @param {Wish} wish
   */
  #kind(init, { stride }) {
    const sounds = this.sound && init.sounds && !stride;
    return { ...(sounds ? init.whole : init.silent), sounds };
  }

  /**
   * Gives the browser what was loaded.
   * @param {string} address of the init
   * @param {Init} init
   * @param {Segment} segment
   * @param {Uint8Array} data
   * @param {Wish} wish
   */
  async #give(address, init, segment, data, wish) {
    if (!this.#takes(init, segment, wish)) return;
    const said = mp4.readSegment(data, init);
    if (!said) throw new Error("there is no picture in it");
    const known = this.loading.of(segment);
    if (!said.independent && !known.dependent && !wish.stride) {
      known.dependent = true; // what it depends on is loaded first
      return;
    }
    // `at` was rounded down to a whole ms (docs/formats.md); the run began at one
    if (!this.#began.has(address)) this.#began.set(address, Math.ceil(segment.at - (said.tfdt * 1000) / init.timescale - 0.005));
    const span = segment.seconds * (wish.stride || 1);
    const fragment = wish.stride ? mp4.firstPicture(data, init, Math.round(span * init.timescale))
      : this.#kind(init, wish).sounds ? data : mp4.silent(data, init);
    if (!fragment) throw new Error("the picture is not whole");
    try {
      await this.#put(address, init, fragment, wish);
    } catch (error) {
      throw new Refused(String(error));
    }
    const from = this.loading.position(segment.at);
    this.loading.took(segment, amount(this.ranges, from, from + span));
  }

  /**
   * @param {string} address of the init
   * @param {Init} init
   * @param {Uint8Array} fragment
   * @param {Wish} wish
   */
  async #put(address, init, fragment, wish) {
    const { mime, data: head, sounds } = this.#kind(init, wish);
    await this.#opened;
    const buffer = this.#buffer ?? this.#begin(mime, sounds);
    if (mime !== this.#mime) buffer.changeType(mime);
    this.#mime = mime;
    await this.#makeRoom(buffer, wish);
    if (this.#appended !== address) await this.#append(buffer, head, wish);
    this.#appended = address;
    const offset = (/** @type {number} */ (this.#began.get(address)) - this.loading.origin) / 1000;
    if (buffer.timestampOffset !== offset) buffer.timestampOffset = offset;
    await this.#append(buffer, fragment, wish);
  }

  /**
   * @param {string} mime
   * @param {boolean} sounds
   */
  #begin(mime, sounds) {
    this.#source.duration = LENGTH_S;
    this.#mime = mime;
    this.#sounds = sounds;
    this.#buffer = this.#source.addSourceBuffer(mime);
    return this.#buffer;
  }

  /**
   * @param {SourceBuffer} buffer
   * @param {Wish} wish
   */
  async #makeRoom(buffer, { moment, horizonMs }) {
    const where = { position: this.loading.position(moment), shown: this.video.currentTime, horizon: horizonMs / 1000 };
    for (const [from, to] of this.loading.surplus(this.ranges, where)) {
      buffer.remove(from, to);
      await updated(buffer);
    }
  }

  /**
   * Where the browser has no room, less is kept and loaded from now on.
   * @param {SourceBuffer} buffer
   * @param {Uint8Array} data
   * @param {Wish} wish
   */
  async #append(buffer, data, wish) {
    for (;;) {
      try {
        buffer.appendBuffer(/** @type {Uint8Array<ArrayBuffer>} */ (data));
        break;
      } catch (error) {
        if (/** @type {Error} */ (error).name !== "QuotaExceededError" || !this.loading.tighten()) throw error;
        await this.#makeRoom(buffer, wish);
      }
    }
    await updated(buffer);
  }
}

/** @param {SourceBuffer} buffer */
function updated(buffer) {
  return new Promise((/** @type {(value?: unknown) => void} */ done, fail) => {
    let failed = false;
    const error = () => { failed = true; };
    buffer.addEventListener("error", error);
    buffer.addEventListener("updateend", () => {
      buffer.removeEventListener("error", error);
      if (failed) fail(new Error("the browser did not take it"));
      else done();
    }, { once: true });
  });
}
