// Low-data mode: whether the link is too slow for all angles.

const SAMPLES = 6; // segments that are looked at
const SLOW = 1.3; // times what all angles need: less than this and they would stand still
const SLOWEST_MBIT = 0.7; // what browsers say of 3G

// Returns "lowSaver" or "lowSlow" where the browser itself says so; "" otherwise.
export function hinted() {
  const link = navigator.connection;
  if (!link) return "";
  if (link.saveData) return "lowSaver";
  return /2g|3g/.test(link.effectiveType) || (link.downlink > 0 && link.downlink < SLOWEST_MBIT) ? "lowSlow" : "";
}

// Measures segments as they are loaded; `slow` is called once when they take too long.
export class Meter {
  /**
   * @param {number} angles how many are played
   * @param {() => void} slow
   */
  constructor(angles, slow) {
    this.angles = angles;
    this.slow = slow;
    /** @type {{ bytes: number, ms: number, seconds: number }[]} */
    this.loads = [];
  }

  /**
   * A segment of so many bytes and seconds of footage took so long.
   * @param {number} bytes
   * @param {number} ms
   * @param {number} seconds
   */
  loaded(bytes, ms, seconds) {
    this.loads.push({ bytes, ms: Math.max(ms, 1), seconds });
    if (this.loads.length > SAMPLES * this.angles) this.loads.shift();
    if (this.loads.length < SAMPLES) return;
    const total = (/** @type {"bytes" | "ms" | "seconds"} */ key) => this.loads.reduce((sum, one) => sum + one[key], 0);
    // several are loaded side by side and share the link
    const rate = (total("bytes") / total("ms")) * 1000 * Math.min(this.angles, 3);
    const needed = (total("bytes") / total("seconds")) * this.angles;
    if (rate < needed * SLOW) this.slow();
  }
}
