// The clock of a page: which moment is shown. All angles follow it.

export class Clock {
  #wall = 0;
  #since = 0;
  #rate = 1;
  #slew = 1;
  #moving = false;

  now() {
    if (!this.#moving) return this.#wall;
    return this.#wall + (performance.now() - this.#since) * this.#rate * this.#slew;
  }

  set(wall) {
    this.#wall = wall;
    this.#since = performance.now();
  }

  // `slew` is a small correction on top of the rate that people chose.
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
  constructor(now) { this.ahead = now - Date.now(); }

  now() { return Date.now() + this.ahead; }

  learn(now) { this.ahead = now - Date.now(); }
}
