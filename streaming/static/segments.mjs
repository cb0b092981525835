// Loads inits and segments of a stream, whole or down to the first picture; learns how large they are.
import { joined, load } from "./loads.mjs";
import * as mp4 from "./mp4.mjs";

/** @import { Link } from "./link.mjs" */
/** @typedef {ReturnType<typeof mp4.readInit>} Init */
/** @typedef {{ abort: AbortController, onBytes: () => void }} How */

const PICTURE_BYTES = 40_000; // asked for at first, to have the first picture of a segment
const LEARNS = 0.3; // of what is new in what is known

export class Segments {
  /** @type {Map<string, Promise<Init>>} */
  #inits = new Map();
  bits = 0; // of the stream, bit/s, once that is known
  pictureBytes = PICTURE_BYTES;

  /** @param {Link} link measures */
  constructor(link) { this.link = link; }

  /**
   * Returns what the init at an address says; it is asked for once.
   * @param {string} address
   */
  init(address) {
    let found = this.#inits.get(address);
    if (!found) {
      found = load(address, { link: this.link }).then(({ data }) => mp4.readInit(data));
      this.#inits.set(address, found);
      found.catch(() => this.#inits.delete(address));
    }
    return found;
  }

  /**
   * @param {string} base the address of the stream
   * @param {Segment} segment
   * @param {How} how
   */
  async whole(base, segment, how) {
    const { data, total } = await load(`${base}${segment.no}.m4s`, { ...how, link: this.link });
    this.#learn(total, segment);
    return data;
  }

  /**
   * Returns the beginning of a segment, down to the end of its first picture.
   * @param {string} base the address of the stream
   * @param {Segment} segment
   * @param {Promise<Init>} init may come meanwhile
   * @param {How} how
   */
  async picture(base, segment, init, how) {
    const part = (/** @type {[number, number]} */ ...range) => load(`${base}${segment.no}.m4s`, { ...how, link: this.link, range });
    const { data, total } = await part(0, this.pictureBytes);
    this.#learn(total, segment);
    const length = mp4.pictureLength(data, await init) || 2 * data.length;
    this.pictureBytes = Math.round(Math.max(length * 1.1, this.pictureBytes * 0.9));
    if (length <= data.length || data.length === total) return data;
    const { data: more } = await part(data.length, Math.min(length, total));
    return joined([data, more]);
  }

  /**
   * @param {number} bytes
   * @param {Segment} segment
   */
  #learn(bytes, segment) {
    const bits = (bytes * 8) / segment.seconds;
    this.bits = this.bits ? this.bits + LEARNS * (bits - this.bits) : bits;
  }
}
