// One angle: a video that shows what its camera recorded at the moment of the page's clock.
import Hls from "./hls.mjs";
import { Listing, loaderFor } from "./playlist.mjs";

export const SEEK_S = 0.5; // what is further from the clock jumps there, what is nearer runs there
const CLOSE_S = 0.012;
const MOST = 0.1; // of the rate, to run there
const HOLE_S = 0.5; // what is shorter, as where a microphone left out a moment, is jumped over
const NEEDED_S = 0.15; // in the buffer before it plays, at normal speed
const BUFFER_S = 20;
const START_MS = 2400; // behind the newest segment's end, to begin with in live
const LATE_MS = 5000; // when no segment is listed for so long, the camera is out
const RETRY_MS = [1000, 2000, 4000, 8000];
export const WELL_MS = 30_000; // trouble after so long without any begins the ladder anew

// What an angle does: it plays, waits for data, is in a gap, or the browser cannot show it.
export const PLAYS = "plays";
export const WAITS = "waits";
export const GAP = "gap";
export const CANNOT = "cannot";
export const OFF = "off";

/** @import { ErrorData, LevelDetails } from "./hls.mjs" */

export class Angle {
  /**
   * @param {string} id of the camera
   * @param {HTMLVideoElement} video
   * @param {string} base the address of the camera's playlists
   * @param {Teller} server
   * @param {Teller} clock which moment is shown
   * @param {number} rewindMs how far back the public can go
   */
  constructor(id, video, base, server, clock, rewindMs) {
    this.id = id;
    this.video = video;
    this.base = base;
    this.server = server;
    this.clock = clock;
    this.rewindMs = rewindMs;
    this.state = WAITS;
    this.wanted = true; // nobody turned it off
    this.since = performance.now(); // of the state
    this.active = false;
    /** @type {Listing | null} */
    this.listing = null;
    /** @type {{ destroy(): void } | null} */
    this.hls = null;
    /** @type {LevelDetails | null} */
    this.details = null;
    this.failures = 0;
    this.failed = -Infinity;
    /** @type {(bytes: number, ms: number, seconds: number) => void} */
    this.onLoaded = () => {}; // for who measures the link
    this.onRefused = () => {}; // the browser wants a person to press play
    this.blocked = 0; // no new beginning before this
    this.watchPictures();
    this.pictureMs = 40; // from one picture to the next
    // where on the video's time line the picture on the screen begins; null while it jumps
    /** @type {number | null} */
    this.shown = null;
    this.late = false; // it waits for the camera, not for the network
  }

  // Learns how far pictures are apart: a busy browser, or a fast one, leaves some out.
  watchPictures() {
    const { video } = this;
    /** @type {number[]} */
    const steps = [];
    const next = (/** @type {number} */ _now, /** @type {{ mediaTime: number }} */ { mediaTime }) => {
      const apart = this.shown === null ? 0 : Math.round((mediaTime - this.shown) * 1000);
      if (apart > 5 && apart < 500 && !video.seeking && video.playbackRate < 1.2) {
        steps.push(apart);
        if (steps.length > 25) steps.shift();
        this.pictureMs = Math.min(...steps);
      }
      this.shown = video.seeking ? null : mediaTime;
      video.requestVideoFrameCallback(next);
    };
    video.requestVideoFrameCallback?.(next);
    video.addEventListener("seeking", () => { this.shown = null; });
  }

  /**
   * Begins anew at a moment, or at what is recorded now where it is null.
   * @param {number | null} moment
   */
  open(moment) {
    this.shut();
    this.active = true;
    this.become(WAITS);
    const listing = new Listing(this.base, this.server, this.clock, this.rewindMs);
    this.listing = listing;
    listing.open(moment);
  }

  shut() {
    this.active = false;
    this.listing?.close();
    this.listing = null;
    this.drop();
    this.become(OFF);
  }

  drop() {
    this.hls?.destroy();
    this.hls = null;
    this.details = null;
  }

  /** @param {string} state */
  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.since = performance.now();
  }

  // Returns how far behind the newest segment's end live begins, in ms.
  get behindMs() { return START_MS; }

  get waited() { return this.state === WAITS ? performance.now() - this.since : 0; }

  /**
   * Makes the video show a moment; says what it does. Called several times a second.
   * @param {number} moment
   * @param {boolean} moving
   * @param {number} rate
   */
  follow(moment, moving, rate) {
    if (!this.active || this.state === CANNOT) return;
    if (this.listing.opened && !this.listing.covers(moment)) this.open(moment);
    const segment = this.listing.at(moment);
    this.late = false;
    if (!segment) {
      this.stand();
      const gap = this.listing.opened && this.gapAt(moment);
      this.late = this.listing.opened && !gap && !this.listing.away;
      this.become(gap ? GAP : WAITS);
      if (!this.hls && this.listing.segments.length) this.start();
      return;
    }
    if (!this.hls) this.start();
    const position = this.position(segment, moment);
    if (position === null) {
      this.stand();
      this.become(WAITS);
      return;
    }
    const shown = this.steer(position, moving, rate);
    this.late = !shown && this.listing.live && !this.listing.away && moment + 2000 * NEEDED_S * rate > this.listing.end;
    this.become(shown ? PLAYS : WAITS);
  }

  /**
   * Tells whether nothing was recorded at a moment; in live it is known some seconds later.
   * @param {number} moment
   */
  gapAt(moment) {
    const { segments, live, until, end } = this.listing;
    if (!segments.length || segments.at(-1).at > moment) return true;
    return live ? until > end + LATE_MS : moment < until;
  }

  /**
   * Brings the video to a position; false while there is nothing to show there.
   * @param {number} wanted s on the video's time line
   * @param {boolean} moving
   * @param {number} rate
   */
  steer(wanted, moving, rate) {
    const { video } = this;
    const position = this.afterHole(wanted);
    const needed = moving ? NEEDED_S * rate : 0.02;
    const error = position - video.currentTime;
    if (this.buffered(position) < needed) {
      if (Math.abs(error) > SEEK_S && !video.seeking) this.jump(position);
      const left = this.buffered(video.currentTime);
      if (!moving || left < 0.05 || Math.abs(error) > SEEK_S) this.stand();
      return video.readyState >= 2 && !video.paused;
    }
    if (video.seeking) return video.readyState >= 2;
    if (!moving) {
      this.stand();
      if (Math.abs(error) > 0.02) this.jump(position);
      return video.readyState >= 2;
    }
    if (Math.abs(error) > SEEK_S * Math.max(1, rate / 2)) {
      this.jump(position + (video.paused ? 0 : 0.1 * rate));
    } else {
      const slew = Math.abs(error) < CLOSE_S ? 0 : Math.max(-MOST, Math.min(MOST, error * 1.2 / rate));
      const speed = rate * (1 + Math.round(slew * 200) / 200);
      if (video.playbackRate !== speed) video.playbackRate = speed;
    }
    this.go();
    return video.readyState >= 2;
  }

  /** @param {number} position */
  jump(position) { this.video.currentTime = position; }

  go() {
    if (!this.video.paused) return;
    this.video.play().catch((/** @type {Error} */ error) => { if (error.name === "NotAllowedError") this.onRefused(); });
  }

  stand() {
    if (!this.video.paused) this.video.pause();
  }

  /**
   * Returns a position, or where it goes on after a hole: what it lacks does not come.
   * @param {number} position
   */
  afterHole(position) {
    const { buffered } = this.video;
    for (let n = 1; n < buffered.length; n += 1) {
      const [from, to] = [buffered.end(n - 1), buffered.start(n)];
      if (position >= from - 0.02 && position < to && to - from < HOLE_S) return to + 0.01;
    }
    return position;
  }

  /**
   * Returns how many seconds are buffered from a position on.
   * @param {number} position
   */
  buffered(position) {
    const { buffered } = this.video;
    for (let n = 0; n < buffered.length; n += 1) {
      if (buffered.start(n) <= position + 0.05 && buffered.end(n) > position) return buffered.end(n) - position;
    }
    return 0;
  }

  // Returns up to which moment there is something to show without another request; 0 for none.
  get ready() {
    const { video } = this;
    const end = video.currentTime + this.buffered(video.currentTime);
    const fragments = this.details?.fragments ?? [];
    for (let n = fragments.length - 1; n >= 0; n -= 1) {
      if (fragments[n].start < end - 0.05) {
        return fragments[n].programDateTime + (end - fragments[n].start) * 1000;
      }
    }
    return 0;
  }

  /**
   * Returns where a moment is on the video's own time line; null while hls.js does not know.
   * @param {Segment} segment
   * @param {number} moment
   */
  position(segment, moment) {
    const fragments = this.details?.fragments;
    if (!fragments?.length) return null;
    const one = fragments[segment.place - fragments[0].sn];
    if (!one || one.sn !== segment.place) return null;
    return one.start + Math.min(Math.max(0, (moment - segment.at) / 1000), one.duration);
  }

  /**
   * Returns how many ms a moment is after the beginning of the picture on the screen; half a
   * picture where that is not known, as while it jumps or is about to: steps end in the middle.
   * @param {number} moment
   */
  into(moment) {
    const segment = this.listing?.at(moment);
    const position = segment ? this.position(segment, moment) : null;
    if (position === null || this.shown === null) return this.pictureMs / 2;
    if (Math.abs(position - this.video.currentTime) * 1000 > this.pictureMs / 2) return this.pictureMs / 2;
    return (position - this.shown) * 1000;
  }

  start() {
    if (performance.now() < this.blocked) return;
    const hls = new Hls({
      autoStartLoad: false,
      enableWorker: false, // segments are fMP4: there is nothing to transmux
      pLoader: loaderFor(this.listing),
      liveMaxUnchangedPlaylistRefresh: Infinity, // a camera may be out for hours
      maxBufferLength: BUFFER_S,
      maxMaxBufferLength: 60,
      backBufferLength: 30,
      maxBufferHole: 0.05,
      nudgeMaxRetry: 1000,
    });
    this.hls = hls;
    hls.on(Hls.Events.LEVEL_UPDATED, (_event, data) => { this.details = data.details; });
    hls.on(Hls.Events.MANIFEST_PARSED, () => hls.startLoad(this.listing.offset(this.clock.now())));
    hls.on(Hls.Events.FRAG_LOADED, (_event, { frag }) => {
      const { loaded, loading } = frag.stats;
      if (frag.sn !== "initSegment") this.onLoaded(loaded, loading.end - loading.start, frag.duration);
    });
    hls.on(Hls.Events.ERROR, (_event, data) => this.error(hls, data));
    hls.loadSource(new URL(`${this.base}index.m3u8`, location.href).href);
    hls.attachMedia(this.video);
  }

  /**
   * @param {Hls} hls
   * @param {ErrorData} data
   */
  error(hls, data) {
    if (hls !== this.hls) return;
    if (/codec/i.test(data.details)) {
      this.shut();
      this.active = true;
      this.become(CANNOT);
    } else if (data.fatal) {
      this.fail();
    }
  }

  // Begins anew where the clock is, after a pause that is longer the more often it fails.
  fail() {
    const now = performance.now();
    this.failures = now - this.failed > WELL_MS ? 1 : this.failures + 1;
    this.failed = now;
    this.blocked = now + RETRY_MS[Math.min(this.failures, RETRY_MS.length) - 1];
    this.drop();
  }
}

export const canPlay = () => Hls.isSupported();
