// The clock of a page: which moment is shown. All angles follow it.

export class Clock {
  #ticks;
  #wall = 0;
  #since = 0;
  #rate = 1;
  #slew = 1;
  #moving = false;

  // `ticks` counts milliseconds and is never set.
  constructor(ticks = () => performance.now()) { this.#ticks = ticks; }

  now() {
    if (!this.#moving) return this.#wall;
    return this.#wall + (this.#ticks() - this.#since) * this.#rate * this.#slew;
  }

  /** @param {number} wall UTC ms */
  set(wall) {
    this.#wall = wall;
    this.#since = this.#ticks();
  }

  /**
   * @param {boolean} moving
   * @param {number} rate that people chose
   * @param {number} slew a small correction on top of it
   */
  run(moving, rate, slew = 1) {
    if (moving === this.#moving && rate === this.#rate && slew === this.#slew) return;
    this.set(this.now());
    this.#moving = moving;
    this.#rate = rate;
    this.#slew = slew;
  }

  get moving() { return this.#moving; }
}

const SAMPLES = 20; // of what the server said, before an old one is forgotten

// The server's clock, as far as it told: what is now does not depend on the viewer's own clock. Each
// answer comes later than it was written, so the one that makes it latest is the nearest to the truth.
export class ServerClock {
  #own;
  /** @type {number[]} how far the server's clock is ahead of ours, by each answer */
  #told = [];

  /**
   * @param {number} now UTC ms, by the server
   * @param {number} since ms by our own clock, when that came
   * @param {() => number} own our own clock: it goes on evenly, and is never set
   */
  constructor(now, since, own = () => performance.now()) {
    this.#own = own;
    this.learn(now, since);
  }

  now() { return this.#own() + Math.max(...this.#told); }

  /**
   * @param {number} now UTC ms, by the server
   * @param {number} since ms by our own clock, when the answer began to come
   */
  learn(now, since = this.#own()) {
    this.#told.push(now - since);
    if (this.#told.length > SAMPLES) this.#told.shift();
  }
}
