// An angle where the browser plays HLS by itself and has no Media Source Extensions: iPhones.
// It is given stretches, which grow where they reach now: of these the moment they begin with is
// known, of a live playlist it is not.
import { Angle, canPlay } from "./angle.mjs";

const STRETCH_MS = 600_000;
const SETTLED_MS = 65_000; // a stretch that ends before this is finished: an iPhone loads it once
const RETRY_MS = 3000;

export class NativeAngle extends Angle {
  start() {
    const segment = this.listing.at(this.clock.now());
    if (!segment || performance.now() < this.blocked) return;
    this.first = segment; // at 0 on the video's time line
    this.hls = { destroy: () => this.unload() };
    this.video.onended = () => this.again(0); // the stretch is over
    this.video.onerror = () => this.again(RETRY_MS);
    const from = Math.floor(segment.at) + 1;
    const settled = Math.floor(this.server.now() - SETTLED_MS);
    const to = settled > from + 30_000 ? Math.min(settled, from + STRETCH_MS) : from + STRETCH_MS;
    this.video.src = `${this.base}index.m3u8?from=${from}&to=${to}`;
  }

  unload() {
    this.video.onended = null;
    this.video.onerror = null;
    this.video.removeAttribute("src");
    this.video.load();
  }

  again(pause) {
    this.blocked = performance.now() + pause;
    this.drop();
  }

  // Gaps are left out of the video's time line: what counts is the footage since its beginning.
  position(segment, moment) {
    if (segment.place < this.first.place) {
      this.again(0);
      return null;
    }
    if (this.video.readyState < 1) return null;
    return this.listing.offset(moment) - this.listing.offset(this.first.at);
  }

  get ready() {
    return this.clock.now() + this.buffered(this.video.currentTime) * 1000;
  }
}

// Returns the angle that this browser can play.
export function makeAngle(...parameters) {
  return canPlay() ? new Angle(...parameters) : new NativeAngle(...parameters);
}
