// One camera: a video that shows what it recorded at the moment of the page's clock.
import { Feed, canFeed } from "./feed.mjs";
import { Loading } from "./loading.mjs";
import { Listing } from "./playlist.mjs";
import { ahead, bridged, nextStart } from "./ranges.mjs";
import { HOLE_S, Watch, steer } from "./steering.mjs";

const BUFFER_MS = 20_000; // loaded ahead of the clock
const PICTURES_MS = 6000; // the same, of single pictures: the link is slow
const START_MS = 2400; // behind the newest segment's end, to begin with in live
const KEEPS_MS = 2000; // of what is there is shown before a better stream begins
const OLD_PICTURE_MS = 20_000; // an older one is not what is shown
const RETRY_MS = [500, 1000, 2000, 4000, 8000];
export const WELL_MS = 30_000; // trouble after so long without any begins the ladder anew

// What an angle does: it plays, waits for data, is in a gap, has something that cannot be had, or the
// browser cannot show it; or nobody wants it.
export const PLAYS = "plays";
export const WAITS = "waits";
export const GAP = "gap";
export const MISSING = "missing";
export const CANNOT = "cannot";
export const OFF = "off";

/** @import { Link } from "./link.mjs" */
/**
 * What all angles of a page share.
 * @typedef {{ server: Teller, clock: Teller, rewindMs: number, origin: number, link: Link }} Page
 */

export class Angle {
  /** @type {Listing | null} */
  listing = null;
  /** @type {Feed | null} what the video is given by Media Source Extensions */
  feed = null;
  state = WAITS;
  since = performance.now(); // of the state
  wanted = true; // nobody turned it off
  active = false;
  late = false; // it waits for the camera, not for the network
  sound = false;
  stride = 0; // of single pictures; 0 for video
  ahead = 0; // ms that are loaded ahead of the clock; 0 for as much as makes sense
  bits = 0; // of its video, bit/s, once that is known
  failures = 0;
  failed = -Infinity;
  blocked = 0; // no new beginning before this
  pictureMs = 40; // from one picture to the next
  // where on the video's time line the picture on the screen begins; null while it jumps
  /** @type {number | null} */
  shown = null;
  watch = new Watch();
  onRefused = () => {}; // the browser wants a person to press play

  /**
   * @param {string} id of the camera
   * @param {HTMLVideoElement} video
   * @param {string} base the address of the camera's playlists
   * @param {Page} page
   */
  constructor(id, video, base, page) {
    this.id = id;
    this.video = video;
    this.base = base;
    this.page = page;
    this.loading = new Loading(page.origin);
    this.watchPictures();
  }

  // Learns how far pictures are apart: a busy browser, or a fast one, leaves some out.
  watchPictures() {
    const { video } = this;
    /** @type {number[]} */
    const steps = [];
    const next = (/** @type {number} */ _now, /** @type {{ mediaTime: number }} */ { mediaTime }) => {
      const apart = this.shown === null || this.stride ? 0 : Math.round((mediaTime - this.shown) * 1000);
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
   * Learns what there is at a moment, or what is recorded now where it is null, and shows it from
   * then on. What the browser holds already stays.
   * @param {number | null} moment
   */
  open(moment) {
    this.listing?.close();
    this.active = true;
    this.become(WAITS);
    const { server, clock, rewindMs } = this.page;
    const listing = new Listing(this.base, server, clock, rewindMs);
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

  // Throws away what the browser holds; it begins anew where the clock is.
  drop() {
    this.feed?.destroy();
    this.feed = null;
    this.loading.begin(-Infinity);
  }

  start() {
    if (performance.now() < this.blocked) return;
    this.feed = new Feed(this.video, this.loading, this.sound, this.page.link);
    this.watch = new Watch();
  }

  /**
   * Another stream of the camera, or single pictures of it, is wanted from now on.
   * @param {string} base
   * @param {number} stride
   */
  take(base, stride) {
    const same = base === this.base && Boolean(this.stride) === Boolean(stride);
    this.stride = stride;
    if (same) return;
    const now = this.page.clock.now();
    const { video, feed } = this;
    const left = feed ? ahead(feed.ranges, video.currentTime) * 1000 : 0;
    if (base !== this.base) this.loading = new Loading(this.page.origin); // its numbers are others
    feed?.follow(this.loading);
    this.loading.begin(now + Math.min(left, stride ? Infinity : KEEPS_MS));
    if (base === this.base) return;
    this.base = base;
    this.bits = 0;
    if (this.active) this.open(this.listing?.live && !this.listing.opened ? null : now);
  }

  /** @param {boolean} on */
  setSound(on) {
    this.video.muted = !on;
    if (!on || this.sound) return; // what has sound may go on with it, unheard
    this.sound = true;
    if (canFeed()) this.drop();
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
    const { listing } = this;
    if (!this.active || !listing) return;
    if (listing.opened && !listing.covers(moment)) {
      if (moment >= listing.oldest) this.open(moment);
      else { // nobody can have it any more
        this.stand();
        this.become(MISSING);
      }
      return;
    }
    if (!this.feed && listing.segments.length) this.start();
    this.late = false;
    this.load(moment, rate);
    const segment = listing.at(moment);
    if (!segment) {
      this.stand();
      const gap = listing.opened && listing.gapAt(moment);
      this.late = listing.opened && !gap && !listing.away;
      this.become(gap ? GAP : WAITS);
    } else if (this.cannot(segment)) {
      this.stand();
      this.become(CANNOT);
    } else {
      const shows = this.show(segment, moment, moving, rate);
      this.become(shows ? PLAYS : this.misses(segment, moment) ? MISSING : WAITS);
      this.late = !shows && listing.live && !listing.away && moment + 300 * rate > listing.end;
    }
  }

  /**
   * @param {number} moment
   * @param {number} rate
   */
  load(moment, rate) {
    const { feed, listing, stride } = this;
    if (!feed || !listing) return;
    const horizonMs = this.ahead || (stride ? PICTURES_MS : BUFFER_MS * Math.max(1, rate / 2));
    feed.tick(listing, { moment, horizonMs, stride });
    this.bits = feed.segments.bits || this.bits;
    if (!feed.broken) return;
    const stood = listing.at(this.loading.moment(this.video.currentTime));
    if (feed.broken === "decode" && stood) this.loading.failed(stood, performance.now());
    this.fail(feed.broken === "sound" ? 0 : this.pause());
  }

  /** @param {Segment} segment */
  cannot(segment) { return Boolean(this.feed?.cannot.has(segment.run)); }

  /**
   * Tells whether what was recorded at a moment is not to be had: the browser was given it, or it was
   * asked for as often as makes sense.
   * @param {Segment} segment
   * @param {number} moment
   */
  misses(segment, moment) {
    const { feed, loading } = this;
    if (!feed || this.stride || ahead(feed.ranges, loading.position(moment)) > 0) return false;
    return loading.lost(segment, performance.now()) || loading.has(segment, feed.ranges);
  }

  /**
   * Tells whether more is to come after what the browser holds from a moment on.
   * @param {number} moment
   */
  comes(moment) {
    const { feed, loading, listing } = this;
    if (this.stride || !feed || !listing) return false;
    const { apart, ranges } = feed;
    const after = moment + ahead(bridged(ranges, HOLE_S), loading.position(moment)) * 1000 + 30;
    const next = listing.at(after);
    if (!next) return !listing.gapAt(after);
    return !apart.has(next.run) && !loading.lost(next, performance.now()) && !loading.has(next, ranges);
  }

  /**
   * Brings the video to a moment; false while there is nothing to show there.
   * @param {Segment} _segment that holds it
   * @param {number} moment
   * @param {boolean} moving
   * @param {number} rate
   */
  show(_segment, moment, moving, rate) {
    const { feed, video } = this;
    if (!feed) return false;
    const position = this.loading.position(moment);
    const { currentTime: at, paused, seeking, readyState: ready } = video;
    const wanted = steer({ position, moving, rate, comes: this.comes(moment), ranges: feed.ranges, at, paused, seeking, ready });
    this.apply(wanted, position);
    if (this.stride) return ready >= 2 && at > position - OLD_PICTURE_MS / 1000 && at < position + 1;
    return wanted.shows;
  }

  /**
   * @param {ReturnType<typeof steer>} wanted
   * @param {number} position
   */
  apply({ play, jump, speed }, position) {
    const { video } = this;
    if (jump !== undefined) video.currentTime = jump;
    if (speed !== undefined && video.playbackRate !== speed) video.playbackRate = speed;
    if (play) this.go();
    else if (play === false) this.stand();
    const should = ahead(this.feed?.ranges ?? [], position) > 0 && (Boolean(play) || video.seeking);
    const help = this.watch.look({ should, seeking: video.seeking, at: video.currentTime }, performance.now());
    if (help === "push") video.currentTime += 0.05;
    else if (help === "anew") this.fail(this.pause() - RETRY_MS[0]); // the first time at once
  }

  go() {
    if (!this.video.paused) return;
    this.video.play().catch((/** @type {Error} */ error) => { if (error.name === "NotAllowedError") this.onRefused(); });
  }

  stand() {
    if (!this.video.paused) this.video.pause();
  }

  // Returns up to which moment there is something to show without another request; 0 for none.
  get ready() {
    const { feed, video: { currentTime }, loading } = this;
    return feed ? loading.moment(currentTime + ahead(feed.ranges, currentTime)) : 0;
  }

  /**
   * Returns from which moment on the browser holds something, where it holds nothing of one.
   * @param {number} moment
   */
  nextReady(moment) {
    const { feed, loading } = this;
    return feed ? loading.moment(nextStart(feed.ranges, loading.position(moment))) : Infinity;
  }

  // Returns the moment of the picture on the screen; null where nobody knows.
  get picture() { return this.shown === null || !this.feed ? null : this.loading.moment(this.shown); }

  /**
   * Returns how many ms a moment is after the beginning of the picture on the screen; half a
   * picture where that is not known, as while it jumps or is about to: steps end in the middle.
   * @param {number} moment
   */
  into(moment) {
    const { picture, video, loading, pictureMs } = this;
    const jumps = Math.abs(loading.position(moment) - video.currentTime) * 1000 > pictureMs / 2;
    return picture === null || jumps ? pictureMs / 2 : moment - picture;
  }

  // Returns how long to wait after a failure: the longer the more often it fails.
  pause() {
    const now = performance.now();
    this.failures = now - this.failed > WELL_MS ? 1 : this.failures + 1;
    this.failed = now;
    return RETRY_MS[Math.min(this.failures, RETRY_MS.length) - 1];
  }

  /**
   * Begins anew where the clock is, after a pause.
   * @param {number} pause ms
   */
  fail(pause) {
    this.blocked = performance.now() + pause;
    this.drop();
  }
}
