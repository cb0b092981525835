// What is played of each camera: as much as the link carries, or what a person chose.
import { CANNOT } from "./angle.mjs";
import { canFeed } from "./feed.mjs";
import { Chooser, saving } from "./link.mjs";
import { toast } from "./notices.mjs";
import { $, here } from "./page.mjs";
import { variants } from "./playlist.mjs";
import { clock, number, put, say, told } from "./text.mjs";
import { cameWith, link, player } from "./watching.mjs";

/** @import { Angle } from "./angle.mjs" */

const LOOK_MS = 1000;
const LEARN_MS = 30_000; // until a second stream that was not found is looked for again
const TIMEOUT_MS = 15_000;
const PICTURE_SHARE = 0.7; // of the link, for single pictures
const LONGEST_STRIDE = 15; // segments

/**
 * A camera with the addresses of its streams and what they need, in bit/s, 0 while unknown; `unfit`:
 * this browser cannot show the first one.
 * @typedef {{ figure: HTMLElement, angle: Angle, camera: Camera, full: string, low: string, need: number, lowBits: number, unfit: boolean }} One
 */

export class Quality {
  chooser = new Chooser();
  said = ""; // of what is played

  /** @param {{ figure: HTMLElement, angle: Angle, camera: Camera }[]} figures */
  constructor(figures) {
    /** @type {One[]} */
    this.all = figures.map((one) => ({ ...one, full: one.angle.base, low: "", need: ((one.camera.takes.minute ?? 0) * 8) / 60, lowBits: 0, unfit: false }));
    if (canFeed()) {
      const { main, others } = this.chooser.begin(cameWith, saving());
      // single pieces, if only those come, say nothing where nothing was believed
      if (cameWith && (main === "pictures" || others === "off")) link.saw(cameWith / 8, 1000);
    } else if (saving() && figures.length > 1) this.chooser.level = { main: "full", others: "off" };
    player.onStall = () => this.chooser.stalled();
    $("video").addEventListener("click", () => this.choose("video"));
    for (const one of this.all) if (one.camera.low && canFeed()) this.#learn(one);
    this.apply();
    setInterval(() => this.look(), LOOK_MS);
  }

  /**
   * Finds the second stream of a camera, once it is recorded, the server answers, and somebody looks.
   * @param {One} one
   */
  async #learn(one) {
    if (player.rests || !(await this.#finds(one))) setTimeout(() => this.#learn(one), LEARN_MS);
  }

  /**
   * Tells whether the second stream of a camera is there, and learns its address.
   * @param {One} one
   */
  async #finds(one) {
    try {
      const answer = await fetch(`${one.full}all.m3u8`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
      const [least, ...more] = variants(await answer.text()).filter(({ uri }) => /(^|\/)index\.m3u8$/.test(uri));
      if (!more.length) return false;
      one.low = new URL(least.uri.replace(/index\.m3u8$/, ""), new URL(one.full, location.href)).pathname;
      one.lowBits = least.bits;
      return true;
    } catch {
      return false; // asked again
    }
  }

  /** @param {"auto" | "saving" | "video"} wanted */
  choose(wanted) {
    this.chooser.wanted = wanted;
    this.look();
  }

  look() {
    const { all, chooser } = this;
    for (const one of all) {
      if (one.angle.base === one.low) one.lowBits = one.angle.bits || one.lowBits;
      else one.need = one.angle.bits || one.need;
    }
    const { need, lowBits: low } = this.main;
    if (canFeed()) chooser.look(link.bits, { need: need || Math.max(...all.map((one) => one.need)), low, cameras: all.length });
    this.apply();
    this.show();
  }

  get main() { return here(this.all.find(({ angle }) => angle === player.main), "a camera"); }

  apply() {
    const { main, others } = this.chooser.level;
    for (const one of this.all) {
      const wanted = one.angle === player.main ? main : others;
      player.want(one.angle, wanted !== "off");
      one.unfit ||= one.angle.state === CANNOT && one.angle.base === one.full;
      if (wanted !== "off" && canFeed()) {
        one.angle.take((wanted === "low" || one.unfit) && one.low ? one.low : one.full, wanted === "pictures" ? this.#stride(one.angle) : 0);
      }
    }
  }

  /**
   * Returns one picture of how many segments the link carries.
   * @param {Angle} angle
   */
  #stride({ feed, listing, stride }) {
    if (!feed || !link.bits) return stride || 1;
    const perPicture = (feed.segments.pictureBytes * 8) / (link.bits * PICTURE_SHARE);
    const found = Math.min(LONGEST_STRIDE, Math.max(1, Math.ceil(perPicture / (listing?.segments.at(-1)?.seconds ?? 2))));
    return found === stride - 1 ? stride : found; // not back and forth
  }

  // Says in one line what is played, over the picture: nothing moves for it.
  show() {
    const { level: { main, others }, wanted } = this.chooser;
    const place = $("quality");
    const button = $("video");
    const { picture } = player.main;
    const { need: bits } = this.main;
    let said = "";
    if (main === "pictures") said = say("pictures");
    else if (main === "low") said = say("lowStream");
    else if (others === "off" && told.cameras.length > 1) said = say("oneCamera");
    else if (others === "low") said = say("othersLow");
    if (said && said !== this.said) toast(said);
    this.said = said;
    place.hidden = !said;
    put(place, main === "pictures" && picture !== null ? say("picture", { time: clock(picture) }) : said);
    button.hidden = main !== "pictures";
    put(button, bits ? say("videoCosts", { size: number((bits * 60) / 8e6) }) : say("videoInstead"));
    const saver = document.getElementById("saving"); // not where a camera is embedded
    if (saver) saver.ariaPressed = String(wanted === "saving");
  }
}
