// An angle where the browser plays HLS by itself and has no Media Source Extensions: iPhones.
//
// It is given one stretch after the other, each with an end: with these the video's time line begins
// at the first segment in every browser. With a playlist that grows Chromium counts from where it
// joined, and breaks off when it is paused; GStreamer leaves its pictures out. So such a playlist is
// only for browsers that tell the date their time line begins with (Safari), and tell it right.
import { Angle, WELL_MS } from "./angle.mjs";
import { canFeed } from "./feed.mjs";
import { ahead, rangesOf } from "./ranges.mjs";
import { SEEK_S, steer } from "./steering.mjs";

const STRETCH_MS = 600_000;
const BEHIND = 5; // target durations behind the end of what is recorded, in live
const GROWS_MS = 65_000; // what begins nearer to the end than this may grow
const RUN_S = 4; // where it cannot jump, what is nearer to the clock than this runs there
const RUN = 1.5; // times the rate
const STUCK_MS = 6000; // so long it may stand still while it should play, or jump
const END_S = 0.1;
const AGAIN_MS = 500; // between two beginnings
const SPARE_MS = 2500; // what is recorded before a segment is listed, and the reserve of live

export class NativeAngle extends Angle {
  given = false; // the video has a stretch to play
  dated = false; // the browser tells the date with which its time line begins
  grows = false; // what it was given is a playlist that grows
  over = 0; // what begins later is not in what it was given
  /** @type {Segment | null} at 0 on the video's time line */
  first = null;
  moved = [0, 0]; // where the video was, and since when

  get behindMs() { return BEHIND * 1000 * (this.listing?.target ?? 2); }

  /**
   * Also begins anew: the segment from which the video's time line is counted may be listed no more.
   * @param {number | null} moment
   */
  open(moment) {
    if (this.given) this.drop();
    super.open(moment);
  }

  start() {
    const { listing, video, page } = this;
    const segment = listing?.at(page.clock.now());
    const now = performance.now();
    if (this.given || !listing || !segment || now < this.blocked) return;
    this.first = segment;
    this.moved = [0, now];
    this.given = true;
    video.onerror = () => this.fail(this.pause());
    const well = this.failures < 2 || now > this.failed + WELL_MS;
    this.grows = this.dated && well && listing.live && segment.at > listing.end - GROWS_MS;
    const from = Math.floor(segment.at) + 1;
    const last = listing.segments.findLast((one) => one.at < from + STRETCH_MS) ?? segment;
    const to = this.grows ? from + STRETCH_MS : Math.max(from + 1, Math.floor(last.end) - 1);
    this.over = this.grows ? to : last.end;
    video.src = `${this.base}index.m3u8?from=${from}&to=${to}`;
  }

  drop() {
    this.given = false;
    this.video.onerror = null;
    this.video.removeAttribute("src");
    this.video.load();
  }

  // A browser that plays HLS by itself loads by itself, and measures nothing.
  load() {}

  cannot() { return false; }

  misses() { return false; }

  /** @param {boolean} on */
  setSound(on) { this.video.muted = !on; }

  /**
   * Gaps are left out of the video's time line: what counts is the footage since its beginning.
   * @param {Segment} segment
   * @param {number} moment
   */
  position(segment, moment) {
    const { first, listing } = this;
    if (!first || !listing) return null;
    if (segment.no < first.no || segment.at >= this.over) {
      this.fail(0);
      return null;
    }
    if (this.video.readyState < 1) return null;
    const told = this.video.getStartDate?.().getTime() ?? NaN;
    this.dated ||= Math.abs(told - first.at) < 1000;
    return listing.offset(moment) - listing.offset((this.grows && told) || first.at);
  }

  /**
   * Brings the video to a moment; where it cannot jump, it runs there or begins anew.
   * @param {Segment} segment
   * @param {number} moment
   * @param {boolean} moving
   * @param {number} rate
   */
  show(segment, moment, moving, rate) {
    const position = this.given ? this.position(segment, moment) : null;
    if (position === null) {
      this.stand();
      return false;
    }
    const { video } = this;
    const error = position - video.currentTime;
    const near = Math.abs(error) < (moving ? SEEK_S * Math.max(1, rate / 2) : 0.02);
    if (near && video.ended) return true; // played again, it would begin anew
    if (!this.stuck(moving)) {
      if (near || video.seeking || this.reaches(position)) return this.steered(position, moving, rate);
      if (this.grows && Math.abs(error) < RUN_S) {
        if (moving) {
          video.playbackRate = error > 0 ? rate * RUN : rate / RUN;
          this.go();
        } else this.stand();
        return video.readyState >= 2;
      }
    }
    this.fail(AGAIN_MS);
    return false;
  }

  /**
   * WebKitGTK says nothing of what is buffered: then there is enough as long as there is a picture;
   * and so there is at the end of a stretch, which is to be played out. A browser that loads by itself
   * is sent to where it holds nothing, so that it loads it.
   * @param {number} position
   * @param {boolean} moving
   * @param {number} rate
   */
  steered(position, moving, rate) {
    const { video } = this;
    const { currentTime: at, paused, seeking, readyState: ready } = video;
    const told = video.buffered.length && (this.grows || position < video.duration - 1);
    const ranges = told ? rangesOf(video.buffered) : ready >= 2 ? /** @type {[number, number][]} */ ([[at - 1, at + 1]]) : [];
    const { play, jump, speed, shows } = steer({ position, moving, rate, comes: true, ranges, at, paused, seeking, ready });
    if (jump !== undefined) this.jump(jump);
    else if (ahead(ranges, position) === 0 && Math.abs(position - at) > SEEK_S && !seeking) this.jump(position);
    if (speed !== undefined && video.playbackRate !== speed) video.playbackRate = speed;
    if (play) this.go();
    else if (play === false) this.stand();
    return shows;
  }

  /** @param {number} position */
  jump(position) { // never to the very end: Chromium would wait there for ever
    const { video } = this;
    const to = Math.min(position, video.duration - END_S);
    if (Math.abs(to - video.currentTime) > 0.02) video.currentTime = to;
  }

  /** @param {number} position */
  reaches(position) {
    const { seekable } = this.video;
    for (let n = 0; n < seekable.length; n += 1) {
      if (seekable.start(n) <= position + 0.05 && seekable.end(n) >= position - 0.05) return true;
    }
    return false;
  }

  /**
   * Tells whether it stands still although nothing keeps it from playing.
   * @param {boolean} moving
   */
  stuck(moving) {
    const { currentTime, paused, seeking } = this.video;
    const now = performance.now();
    const should = (seeking || (moving && !paused)) && !this.listing?.away;
    if (currentTime !== this.moved[0] || !should) this.moved = [currentTime, now];
    return now - this.moved[1] > STUCK_MS;
  }

  get ready() { return (this.listing?.end ?? 0) - this.behindMs + SPARE_MS; }

  nextReady() { return Infinity; }

  /** @param {number} moment */
  into(moment) {
    const segment = this.listing?.at(moment);
    const position = segment && this.given ? this.position(segment, moment) : null;
    const { shown, pictureMs, video } = this;
    const jumps = position === null || Math.abs(position - video.currentTime) * 1000 > pictureMs / 2;
    return shown === null || jumps ? pictureMs / 2 : (position - shown) * 1000;
  }
}

/**
 * Returns the angle that this browser can play.
 * @param {ConstructorParameters<typeof Angle>} parameters
 */
export function makeAngle(...parameters) {
  return new (canFeed() ? Angle : NativeAngle)(...parameters);
}
