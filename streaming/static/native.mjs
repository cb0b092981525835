// An angle where the browser plays HLS by itself and has no Media Source Extensions: iPhones.
//
// It is given one stretch after the other, each with an end: with these the video's time line begins
// at the first segment in every browser. With a playlist that grows Chromium counts from where it
// joined, and breaks off when it is paused; GStreamer leaves its pictures out. So such a playlist is
// only for browsers that tell the date their time line begins with (Safari), and tell it right.
import { Angle, SEEK_S, WELL_MS, canPlay } from "./angle.mjs";

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
  dated = false; // the browser tells the date with which its time line begins
  grows = false; // what it was given is a playlist that grows
  over = 0; // what begins later is not in what it was given
  /** @type {Segment | null} at 0 on the video's time line */
  first = null;
  moved = [0, 0]; // where the video was, and since when

  get behindMs() { return BEHIND * 1000 * (this.listing?.target ?? 2); }

  start() {
    const { listing, video } = this;
    const segment = listing.at(this.clock.now());
    const now = performance.now();
    if (!segment || now < this.blocked) return;
    this.first = segment;
    this.moved = [0, now];
    this.hls = { destroy: () => this.unload() };
    video.onerror = () => this.fail();
    const well = this.failures < 2 || now > this.failed + WELL_MS;
    this.grows = this.dated && well && listing.live && segment.at > listing.end - GROWS_MS;
    const from = Math.floor(segment.at) + 1;
    const last = listing.segments.findLast((one) => one.at < from + STRETCH_MS);
    const to = this.grows ? from + STRETCH_MS : Math.max(from + 1, Math.floor(last.end) - 1);
    this.over = this.grows ? to : last.end;
    video.src = `${this.base}index.m3u8?from=${from}&to=${to}`;
  }

  unload() {
    this.video.onerror = null;
    this.video.removeAttribute("src");
    this.video.load();
  }

  /** @param {number} pause ms */
  again(pause) {
    this.blocked = performance.now() + pause;
    this.drop();
  }

  /**
   * Gaps are left out of the video's time line: what counts is the footage since its beginning.
   * @param {Segment} segment
   * @param {number} moment
   */
  position(segment, moment) {
    if (segment.place < this.first.place || segment.at >= this.over) {
      this.again(0);
      return null;
    }
    if (this.video.readyState < 1) return null;
    const told = this.video.getStartDate?.().getTime();
    this.dated ||= Math.abs(told - this.first.at) < 1000;
    return this.listing.offset(moment) - this.listing.offset((this.grows && told) || this.first.at);
  }

  /**
   * Brings the video to a position; where it cannot jump, it runs there or begins anew.
   * @param {number} position
   * @param {boolean} moving
   * @param {number} rate
   */
  steer(position, moving, rate) {
    const { video } = this;
    const error = position - video.currentTime;
    const near = Math.abs(error) < (moving ? SEEK_S * Math.max(1, rate / 2) : 0.02);
    if (near && video.ended) return true; // played again, it would begin anew
    if (!this.stuck(moving)) {
      if (near || video.seeking || this.reaches(position)) return super.steer(position, moving, rate);
      if (this.grows && Math.abs(error) < RUN_S) {
        if (moving) {
          video.playbackRate = error > 0 ? rate * RUN : rate / RUN;
          this.go();
        } else this.stand();
        return video.readyState >= 2;
      }
    }
    this.again(AGAIN_MS);
    return false;
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
    const should = (seeking || (moving && !paused)) && !this.listing.away;
    if (currentTime !== this.moved[0] || !should) this.moved = [currentTime, now];
    return now - this.moved[1] > STUCK_MS;
  }

  /**
   * WebKitGTK says nothing of what is buffered: then there is enough as long as there is a picture;
   * and so there is at the end of a stretch, which is to be played out.
   * @param {number} position
   */
  buffered(position) {
    const { video } = this;
    if (video.buffered.length && (this.grows || position < video.duration - 1)) return super.buffered(position);
    return video.readyState >= 2 && Math.abs(position - video.currentTime) < 1 ? 1 : 0;
  }

  get ready() { return this.listing.end - this.behindMs + SPARE_MS; }
}

/**
 * Returns the angle that this browser can play.
 * @param {ConstructorParameters<typeof Angle>} parameters
 */
export function makeAngle(...parameters) {
  return new (canPlay() ? Angle : NativeAngle)(...parameters);
}
