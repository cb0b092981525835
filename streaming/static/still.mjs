// The picture of a camera that stands where its video is not: of now, or not shown.
const RENEWS_MS = 5000;
const FRESH_MS = 20_000; // an older one is not of now

/** @typedef {Pick<HTMLImageElement, "src" | "complete" | "addEventListener">} Picture */

export class Still {
  #image;
  #ticks;
  #asked;
  #comes;
  #came = -Infinity;
  #played = false;

  /**
   * @param {Picture} image that came with the page
   * @param {() => number} ticks counts milliseconds
   */
  constructor(image, ticks = () => performance.now()) {
    this.#image = image;
    this.#ticks = ticks;
    this.#asked = ticks();
    this.#comes = !image.complete;
    if (image.complete) this.#came = ticks();
    image.addEventListener("load", () => {
      this.#came = ticks();
      this.#comes = false;
    });
    image.addEventListener("error", () => { this.#comes = false; });
  }

  /**
   * Returns what stands there: the video where it is seen, else the picture where it is wanted and of
   * now. Where it does not stand, nothing is asked for.
   * @param {{ seen: boolean, wanted: boolean, off: boolean }} now `off`: no video is loaded
   */
  shows({ seen, wanted, off }) {
    if (seen) this.#played = true; // what came with the page is not of now any more
    if (seen) return "video";
    return wanted && this.#isOfNow(off) ? "still" : "none";
  }

  /**
   * Tells whether it is of now, and has it renewed in time. Before there was a video nothing takes
   * the link from that, and what came with the page stands.
   * @param {boolean} off
   */
  #isOfNow(off) {
    if (!off && !this.#played) return true;
    const now = this.#ticks();
    if (!this.#comes && now - Math.max(this.#came, this.#asked) >= RENEWS_MS) {
      const url = new URL(this.#image.src);
      url.searchParams.set("n", String(Math.floor(Date.now() / RENEWS_MS)));
      this.#asked = now;
      this.#comes = true;
      this.#image.src = url.href;
    }
    return now - this.#came < FRESH_MS;
  }
}
