// The bubble over the timeline: the time under the pointer, and the picture of that moment.
import { within } from "./page.mjs";
import { put } from "./text.mjs";
import { preview } from "./watching.mjs";

const TICK_MS = 100;
const RESTS_MS = 120; // a pointer that moves on asks for nothing
const CLOSES_MS = 4000; // without a pointer

export class Bubble {
  #moment = 0;
  #since = 0;
  #timer = 0;
  #base = "";

  /**
   * @param {HTMLElement} place
   * @param {() => string} base the address of the camera that is shown
   */
  constructor(place, base) {
    this.place = place;
    this.base = base;
    /** @type {HTMLVideoElement} */
    this.video = within(place, "video");
    this.words = within(place, "span");
    this.angle = preview(this.video, { now: () => this.#moment });
    this.angle.stride = 1;
    this.angle.ahead = 1;
  }

  /**
   * @param {number} moment
   * @param {number} share of the timeline's width
   * @param {string} words
   * @param {boolean} pictured there is a picture of it
   */
  show(moment, share, words, pictured) {
    this.#moment = moment;
    this.#since = performance.now();
    this.place.hidden = false;
    this.place.style.left = `clamp(var(--half), ${share * 100}%, 100% - var(--half))`;
    put(this.words, words);
    this.video.hidden = !pictured;
    if (pictured && !this.#timer) this.#timer = setInterval(() => this.#tick(), TICK_MS);
  }

  hide() {
    this.place.hidden = true;
    this.#since = performance.now();
  }

  #tick() {
    const rests = performance.now() - this.#since;
    const { angle } = this;
    if (this.place.hidden && rests > CLOSES_MS) {
      clearInterval(this.#timer);
      this.#timer = 0;
      angle.shut();
    } else if (!this.place.hidden && !this.video.hidden && rests > RESTS_MS) {
      if (this.base() !== this.#base) {
        this.#base = this.base();
        angle.drop();
        angle.take(this.#base, 1);
      }
      if (!angle.active) angle.open(this.#moment);
      angle.follow(this.#moment, false, 1);
    }
    const old = angle.picture === null || Math.abs(angle.picture - this.#moment) > 15_000;
    this.video.classList.toggle("old", old);
  }
}
