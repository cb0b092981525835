// How fast the viewer's link is, and what of the cameras it can carry.

const SAMPLES = 6; // loads that are looked at
const LEAST_BYTES = 12_000; // a load that says anything
const BURST_BYTES = 24_000; // so many at once came over a fast link
const OLD_MS = 60_000;
const SPARE = 1.3; // times what is needed: less than this, and pictures would stand still
const UP = 1.8; // times what is needed, before more is tried
const STOOD = 0.7; // of what was measured is believed after pictures stood still
const FIRST_UP_MS = 15_000; // after each step down twice as long, up to
const LAST_UP_MS = 240_000;
const STILLS_BIT_S = 20_000; // small pictures of the cameras that do not play
const WORST_BIT_S = 600_000; // what is not known to be faster begins with pictures
const SLOW_BIT_S = 1_500_000; // and here with one camera

/** What is played of the large camera and of the others. */
/** @typedef {{ main: "full" | "low" | "pictures", others: "full" | "low" | "off" }} Level */

// Measures loads as they come: bytes by the time in which any of them came. What is waited for
// before the first bytes is no matter of the link's speed. Of what comes in one piece nobody knows
// how long it took to come; the link is as fast as it was with the waiting, or faster: that counts
// where less was believed.
export class Link {
  #ticks;
  /** @type {{ bytes: number, ms: number, at: number }[]} */
  #loads = [];
  #coming = 0;
  #since = 0;
  #ms = 0;
  #bytes = 0;
  #pieces = { bytes: 0, ms: 0 };

  // `ticks` counts milliseconds.
  constructor(ticks = () => performance.now()) { this.#ticks = ticks; }

  // Returns what is told of a load: that its answer begins, how many bytes came, that it is over.
  begin() {
    const asked = this.#ticks();
    let head = 0;
    let first = 0;
    let chunks = 0;
    return {
      head: () => { head = this.#ticks(); },
      /** @param {number} bytes */
      got: (bytes) => {
        chunks += 1;
        if (chunks > 1) this.#bytes += bytes; // the first ones came in a time that nobody knows
        else {
          first = bytes;
          if (!this.#coming) this.#since = this.#ticks();
          this.#coming += 1;
        }
      },
      end: () => {
        if (!chunks) return;
        this.#end();
        if (chunks === 1 && first >= BURST_BYTES) this.saw(first, Math.max(1, this.#ticks() - head));
        else if (chunks === 1) this.#piece(first, this.#ticks() - asked);
        chunks = 0;
      },
    };
  }

  #end() {
    const now = this.#ticks();
    this.#ms += now - this.#since;
    this.#since = now;
    this.#coming -= 1;
    if (this.#bytes >= LEAST_BYTES) {
      this.saw(this.#bytes, Math.max(1, this.#ms));
      this.#bytes = 0;
      this.#ms = 0;
    }
  }

  /**
   * @param {number} bytes
   * @param {number} ms with the waiting
   */
  #piece(bytes, ms) {
    const both = this.#pieces;
    both.bytes += bytes;
    both.ms += ms;
    if (both.bytes < LEAST_BYTES) return;
    this.#pieces = { bytes: 0, ms: 0 };
    const { bits } = this;
    if (bits && both.bytes * 8000 > bits * both.ms) this.saw(both.bytes, Math.max(1, both.ms));
  }

  /**
   * So many bytes came in so long.
   * @param {number} bytes
   * @param {number} ms
   */
  saw(bytes, ms) {
    const at = this.#ticks();
    this.#loads.push({ bytes, ms, at });
    this.#loads = this.#loads.filter((one) => at - one.at < OLD_MS).slice(-SAMPLES);
  }

  // Returns bit/s; 0 while nothing is known.
  get bits() {
    const sum = (/** @type {"bytes" | "ms"} */ key) => this.#loads.reduce((all, one) => all + one[key], 0);
    return this.#loads.length ? (sum("bytes") * 8000) / sum("ms") : 0;
  }
}

/**
 * Returns what can be played, what costs most first, and what each costs in bit/s.
 * @param {{ need: number, low: number, cameras: number }} streams bit/s of a camera's stream and of
 *   its second one, 0 where there is none
 */
export function levels({ need, low, cameras }) {
  const others = cameras - 1;
  /** @type {(main: Level["main"], rest: Level["others"], cost: number) => { level: Level, cost: number }} */
  const one = (main, rest, cost) => ({ level: { main, others: rest }, cost });
  const found = [one("full", "off", need + others * STILLS_BIT_S), one("pictures", "off", 0)];
  if (others) found.push(one("full", "full", cameras * need));
  if (low) found.push(one("low", "off", low + others * STILLS_BIT_S));
  if (low && others) found.push(one("full", "low", need + others * low), one("low", "low", cameras * low));
  return found.sort((a, b) => b.cost - a.cost);
}

// Chooses what is played: less at once when the link does not carry it, more only after a while.
export class Chooser {
  #ticks;
  #changed = -Infinity;
  #pause = FIRST_UP_MS;
  #stood = false; // what is played stood still
  wanted = "auto"; // or "saving": what a person chose; "video": the large camera in any case

  constructor(ticks = () => performance.now()) {
    this.#ticks = ticks;
    /** @type {Level} */
    this.level = { main: "full", others: "full" };
  }

  /**
   * Begins with what a page knows before anything was loaded.
   * @param {number} bits of the page itself, or 0
   * @param {boolean} saving the browser asks to save data, or says that its link is slow
   */
  begin(bits, saving) {
    if (bits && bits < WORST_BIT_S) this.level = { main: "pictures", others: "off" };
    else if (saving || (bits && bits < SLOW_BIT_S)) this.level = { main: "full", others: "off" };
    return this.level;
  }

  // What plays stood still: the link carries less than was measured.
  stalled() { this.#stood = true; }

  /**
   * Returns what to play.
   * @param {number} bits of the link, 0 while unknown
   * @param {{ need: number, low: number, cameras: number }} streams
   */
  look(bits, streams) {
    const all = levels(streams).filter(({ level }) => this.#allowed(level, streams.cameras));
    const now = all.findIndex(({ level }) => level.main === this.level.main && level.others === this.level.others);
    const known = streams.need > 0 && bits > 0;
    if (now < 0) return this.#take(all.find(({ cost }) => !known || cost * SPARE <= bits) ?? all[all.length - 1]);
    if (!known) return this.level;
    const spare = this.#stood ? bits * STOOD : bits;
    const fits = all.findIndex(({ cost }) => cost * SPARE <= spare);
    const target = fits < 0 ? all.length - 1 : fits;
    const first = this.#changed === -Infinity; // nothing was measured when the page began
    if (target > now) {
      if (!first) this.#pause = Math.min(LAST_UP_MS, this.#pause * 2);
      return this.#take(all[target]);
    }
    const up = first ? fits : all.findIndex(({ cost }) => cost * UP <= bits);
    if (up >= 0 && up < now && (first || this.#ticks() - this.#changed > this.#pause)) {
      this.#stood = false;
      return this.#take(all[up]);
    }
    return this.level;
  }

  /**
   * @param {Level} level
   * @param {number} cameras
   */
  #allowed({ main, others }, cameras) {
    if (this.wanted === "video") return main !== "pictures";
    return this.wanted !== "saving" || (others === "off" && (cameras > 1 || main !== "full"));
  }

  /** @param {{ level: Level }} one */
  #take({ level }) {
    this.#changed = this.#ticks();
    this.level = level;
    return level;
  }
}

/**
 * Returns how fast the page's files came, all together, in bit/s; 0 where they came from the
 * browser's own store. Each alone is too small to tell.
 * @param {Pick<PerformanceResourceTiming, "transferSize" | "responseStart" | "responseEnd">[]} entries
 */
export function pageBits(entries) {
  const came = entries.filter((one) => one.transferSize > 0 && one.responseEnd > 0);
  const bytes = came.reduce((sum, one) => sum + one.transferSize, 0);
  if (bytes < 2 * LEAST_BYTES) return 0;
  const ms = Math.max(...came.map((one) => one.responseEnd)) - Math.min(...came.map((one) => one.responseStart));
  return (bytes * 8000) / Math.max(ms, 1);
}

// Tells whether the browser itself asks for little data.
export function saving() {
  const link = navigator.connection;
  return Boolean(link && (link.saveData || /2g|3g/.test(link.effectiveType)));
}
