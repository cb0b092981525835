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

// The server's clock, as far as it told: what is now does not depend on the viewer's own clock.
export class ServerClock {
  /**
   * @param {number} now UTC ms, by the server
   * @param {() => number} own the viewer's own clock, UTC ms
   */
  constructor(now, own = Date.now) {
    this.own = own;
    this.learn(now);
  }

  now() { return this.own() + this.ahead; }

  /** @param {number} now UTC ms, by the server */
  learn(now) { this.ahead = now - this.own(); }
}
