// All angles of a page on one clock: live, back in time, at any speed.
import { Clock } from "./clock.mjs";
import { GAP, OFF, PLAYS, WAITS } from "./angle.mjs";
import { here } from "./page.mjs";

const TICK_MS = 50;
const PATIENCE_MS = 2000; // so long all wait for an angle that has to load
const EDGE_MS = 10_000; // what is so near to the end of the window is not begun with
const OVER_MS = 60_000; // what is held that much further on may be gone on with
const SAID_MS = 5000; // without a movement, before that is said
const FIRST_MS = 1500; // for the playlists of all angles, before live begins with those there are
const BEHIND_MS = 8000; // an angle further back than this is not waited for in live
const LATE_MS = 8000; // and two segments: live is no further behind the newest footage
const TRUE_MS = 20_000; // what is further back is not live, whatever was pressed
const COMES_MS = 1000; // bytes that came since then are what is waited for
const SLEPT_MS = 10_000; // without a look at the clock: the page, or its machine, slept
const LOOK_MS = 6000; // how long the reserve is looked at
const RESERVE = { least: 500, most: 6000, more: 800, less: 5 }; // ms; less a second

/** @import { Angle } from "./angle.mjs" */

export class Player {
  /** @type {Angle | null} the camera that is large: the first one at first */
  #main = null;

  /**
   * @param {Teller} server
   * @param {number} rewindMs how far back the public can go
   */
  constructor(server, rewindMs) {
    this.clock = new Clock();
    this.server = server;
    this.rewindMs = rewindMs;
    /** @type {Angle[]} */
    this.angles = [];
    this.live = true;
    this.paused = false;
    this.rate = 1;
    this.slew = 1; // a small correction of the rate, to stay at the right distance from now
    this.begun = false; // somebody said what to show
    this.settled = false; // where the clock is in live is known
    this.opened = 0;
    this.reserve = RESERVE.least;
    /** @type {[at: number, reserve: number][]} */
    this.looks = [];
    this.held = false;
    this.since = 0; // when all began to wait
    this.refused = false; // the browser wants a person to press play
    this.rests = false; // nobody sees or hears anything
    this.ticked = { at: performance.now(), moment: 0 }; // the last look at the clock
    this.onTick = () => {};
    this.onStall = () => {};
    this.onOld = () => {}; // the window left the moment behind
    /** @type {(from: number, to: number) => void} what could not be loaded was left out */
    this.onSkip = () => {};
    this.ticking = setInterval(() => this.tick(), TICK_MS);
  }

  /** @param {Angle} angle */
  add(angle) {
    this.angles.push(angle);
    this.#main ??= angle;
    angle.onRefused = () => {
      this.refused ||= this.live;
      this.pause();
    };
  }

  get now() { return this.clock.now(); }

  get main() { return here(this.#main, "a camera"); }

  set main(angle) { this.#main = angle; }

  // Returns the first moment that can be watched.
  get oldest() { return this.server.now() - this.rewindMs + EDGE_MS; }

  get behindMs() { return Math.max(...this.angles.map((one) => one.behindMs)); }

  goLive() {
    this.begun = true;
    this.live = true;
    this.paused = false;
    this.rate = 1;
    this.settled = false;
    this.opened = performance.now();
    for (const one of this.angles) {
      if (one.wanted && !one.listing?.live) one.open(null);
    }
  }

  // Begins anew at the moment that is shown, all angles.
  again() {
    for (const one of this.angles) {
      if (!one.wanted) continue;
      one.drop();
      one.open(this.live || !this.settled ? null : this.now);
    }
    this.since = performance.now();
    if (this.live) this.settled = false;
  }

  /** @param {number} moment */
  seek(moment) {
    const wanted = Math.max(moment, this.oldest);
    if (wanted > this.server.now() - 3000) {
      this.goLive();
      return;
    }
    this.look();
    this.begun = true;
    this.live = false;
    this.settled = true;
    this.clock.set(wanted);
    for (const one of this.angles) {
      if (one.wanted && !one.active) one.open(wanted);
    }
    this.tick();
  }

  play() {
    if (this.refused || !this.settled) this.goLive();
    this.refused = false;
    this.paused = false;
  }

  pause() { // who goes on later goes on from there
    this.paused = true;
    this.live = false;
  }

  /** @param {number} rate */
  setRate(rate) {
    this.rate = rate;
    if (rate !== 1) this.live = false;
  }

  /**
   * One picture on (1) or back (-1), while the clock stands: into the middle of that picture of the
   * main angle, or half a picture further where the camera left out the one expected there.
   * @param {1 | -1} way
   */
  step(way) {
    this.paused = true;
    this.live = false;
    this.held = true; // until the angles are there
    this.clock.run(false, this.rate);
    const { main: { pictureMs }, now } = this;
    const into = this.main.into(now);
    const apart = Math.max(pictureMs / 2, way > 0 ? 1.5 * pictureMs - into : into + pictureMs / 2);
    this.clock.set(Math.min(now + way * apart, this.server.now()));
    this.tick();
  }

  /**
   * Turns an angle off, or on again.
   * @param {Angle} angle
   * @param {boolean} wanted
   */
  want(angle, wanted) {
    if (angle.wanted === wanted) return;
    angle.wanted = wanted;
    if (!wanted) angle.shut();
    else if (this.begun) angle.open(this.live || !this.settled ? null : this.now);
  }

  // Tells whether nobody sees or hears the page: a hidden one without sound loads nothing.
  get unseen() {
    return Boolean(globalThis.document?.hidden) && !document.pictureInPictureElement
      && this.angles.every(({ video }) => video.muted);
  }

  // Stands still; what was live is so again when somebody looks.
  rest() {
    if (!this.rests) this.clock.run(false, this.rate);
    for (const one of this.angles) {
      one.stand();
      if (one.listing) one.listing.rests = true;
    }
    this.rests = true;
    this.since = performance.now();
  }

  wake() {
    this.rests = false;
    this.opened = performance.now();
    if (this.live) this.settled = false;
    const old = this.server.now() - SLEPT_MS;
    for (const one of this.angles) {
      if (!one.listing) continue;
      one.listing.rests = false;
      if (this.live && one.listing.until < old) one.open(null); // what came meanwhile is not asked for
    }
  }

  // What was paused for hours, or is played slowly at the end of the window, cannot be watched any more.
  keepIn() {
    if (this.now > this.oldest - EDGE_MS) return;
    this.clock.set(this.oldest);
    this.onOld();
  }

  // Who watches back in time goes on where he was when the page slept, as while another one was there.
  look() {
    const at = performance.now();
    if (!this.live && at - this.ticked.at > SLEPT_MS) this.clock.set(this.ticked.moment);
    this.ticked = { at, moment: this.now };
  }

  tick() {
    this.look();
    if (this.unseen) {
      this.rest();
      return;
    }
    if (this.rests) this.wake();
    if ((this.live || this.begun) && !this.settled) this.settle(); // also where it was paused before
    if (this.settled) {
      if (!this.live && !this.paused) this.keepIn();
      const moment = this.now;
      const moving = !this.paused && !this.held;
      for (const one of this.angles) one.follow(moment, moving, this.rate * this.slew);
      const wait = this.mustWait();
      if (wait && !this.held && this.live && this.looks.length) { // it stalled
        this.reserve = Math.min(RESERVE.most, this.reserve + RESERVE.more);
        this.onStall();
      }
      this.held = wait;
      this.slew = this.live && !wait ? this.approach(moment) : 1;
      this.clock.run(!this.paused && !this.held, this.rate, this.slew);
      if (this.live && !this.paused) this.keepUp();
      if (!this.live && !this.paused && this.rate >= 1) this.meet(moment);
    }
    const now = performance.now();
    if (!this.begun || this.paused || (this.settled && !this.held)) this.since = now;
    else if (now - this.since > PATIENCE_MS) this.goOn();
    this.onTick();
  }

  /**
   * Tells whether what is shown is live. A browser that plays HLS by itself is five target durations
   * behind: of a camera with long ones that is more than it would be else.
   * @param {number} late how far behind now it is, in ms
   */
  isLive(late) {
    const most = Math.max(TRUE_MS, this.behindMs + LATE_MS);
    return this.live && !this.paused && this.settled && !this.stands && !this.empty && late < most;
  }

  // Tells whether live has nothing to show: nothing is recorded now of any camera that is played.
  get empty() { return this.live && this.angles.every(({ state }) => state === GAP || state === OFF); }

  // Returns for how long nothing moves that should, in ms; 0 while that is not worth a word.
  get stands() {
    const ms = Math.max(performance.now() - this.since, this.#main?.stride ? this.#main.waited : 0);
    return ms > SAID_MS ? ms : 0;
  }

  // The clock waits for what is loading, but not long for one while another plays; and for cameras
  // only while none has a picture.
  mustWait() {
    const on = this.angles.filter((one) => !one.stride && (one.state === PLAYS || one.state === WAITS));
    const loading = on.filter((one) => one.state === WAITS && !one.late);
    if (loading.some((one) => one.waited < PATIENCE_MS)) return true;
    return on.length > 0 && on.every((one) => one.state === WAITS);
  }

  // Goes on with what the browser holds, where it does not get what comes before.
  goOn() {
    const { now } = this;
    const waiting = this.angles.filter((one) => one.state === WAITS);
    const next = Math.min(...waiting.map((one) => one.nextReady(now)));
    if (!this.settled || next > now + OVER_MS) return;
    const ms = performance.now();
    const comes = waiting.some((one) => ms - (one.feed?.came ?? 0) < COMES_MS);
    if (comes && ms - this.since < SAID_MS) return;
    this.clock.set(next);
    this.since = ms;
    this.onSkip(now, next);
  }

  // Live stays near what happens: what fell behind jumps there.
  keepUp() {
    const live = this.angles.flatMap(({ listing }) => (listing?.live ? [listing] : []));
    const newest = Math.max(0, ...live.map(({ end }) => end));
    const most = Math.max(LATE_MS + 2000 * Math.max(0, ...live.map(({ target }) => target)), this.behindMs + LATE_MS);
    if (newest - this.now < most) return;
    this.settled = false;
    this.opened = performance.now();
    this.onStall();
  }

  // Finds where live is: as near to now as all angles that are live can play.
  settle() {
    const on = this.angles.flatMap(({ active, listing }) => (active && listing ? [listing] : []));
    const ready = on.filter((one) => one.opened);
    if (ready.length < on.length && (!ready.length || performance.now() - this.opened < FIRST_MS)) return;
    if (!on.length) return;
    const newest = Math.max(0, ...ready.map(({ end }) => end));
    const ends = ready.map(({ end }) => end).filter((end) => end > newest - BEHIND_MS);
    const now = this.server.now();
    const lives = newest > now - 20_000;
    this.clock.set(lives ? Math.min(...ends) - this.behindMs : now - 5000);
    this.settled = true;
    this.looks = [];
  }

  /**
   * Returns how much faster or slower the clock runs, so that the reserve is just enough.
   * @param {number} moment
   */
  approach(moment) {
    const live = this.angles.filter((one) => one.state === PLAYS && !one.stride);
    const newest = Math.max(...live.map((one) => one.listing?.end ?? 0));
    const ready = live.filter((one) => (one.listing?.end ?? 0) > newest - BEHIND_MS).map((one) => one.ready);
    if (!ready.length) return 1;
    const now = performance.now();
    this.looks.push([now, Math.min(...ready) - moment]);
    while (this.looks[0][0] < now - LOOK_MS) this.looks.shift();
    this.reserve = Math.max(RESERVE.least, this.reserve - RESERVE.less * TICK_MS / 1000);
    const spare = Math.min(...this.looks.map(([, reserve]) => reserve)) - this.reserve;
    if (now - this.looks[0][0] < LOOK_MS / 2) return 1;
    if (spare > 6000) { // far behind: after a long wait
      this.clock.set(moment + spare);
      this.looks = [];
      return 1;
    }
    if (spare > 2000) return 1.1;
    if (spare > 250) return 1.05;
    return spare < -250 ? 0.97 : 1;
  }

  /**
   * Who catches up with what is being recorded now goes on live.
   * @param {number} moment
   */
  meet(moment) {
    const newest = Math.max(0, ...this.angles.map((one) => (one.listing?.live ? one.listing.end : 0)));
    if (newest && moment > newest - this.behindMs && newest > this.server.now() - 20_000) {
      this.live = true;
      this.rate = 1;
      this.looks = [];
    }
  }
}
