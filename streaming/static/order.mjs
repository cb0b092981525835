// Marks a stretch of the timeline, of which a copy can be ordered, and says what it would cost.
import { written } from "./moment.mjs";
import { $ } from "./page.mjs";
import { existing, ordered, price } from "./price.mjs";
import { clock, length, money, put, say, told } from "./text.mjs";

/** @import { DayRecord } from "./record.mjs" */
/** @import { Timeline } from "./timeline.mjs" */

const link = (/** @type {string} */ id) => /** @type {HTMLAnchorElement} */ ($(id));

/**
 * Returns the address at which a copy of a stretch is ordered; of no stretch where none is given.
 * @param {Stretch} [stretch]
 */
export function orderLink(stretch) {
  const query = new URLSearchParams({ station: told.station, cameras: told.cameras.map((one) => one.id).join(",") });
  if (stretch) {
    const [from, to] = ordered(stretch);
    query.set("from", written(from));
    query.set("to", written(to));
  }
  if (told.chosen) query.set("lang", told.lang);
  return `/copies/new?${query}`;
}

export class Marks {
  /** @type {number | null} */
  from = null;
  /** @type {number | null} */
  to = null;

  /**
   * @param {Timeline} timeline
   * @param {DayRecord} record
   * @param {Teller} clock tells the moment shown
   */
  constructor(timeline, record, clock) {
    this.timeline = timeline;
    this.record = record;
    this.clock = clock;
    if (!document.getElementById("marked")) return; // copies cannot be ordered here
    $("mark-from").addEventListener("click", () => this.begin());
    $("mark-to").addEventListener("click", () => this.end());
    $("unmark").addEventListener("click", () => this.mark(null));
    link("order").href = orderLink();
  }

  begin() {
    this.from = this.clock.now();
    if (this.to !== null && this.to <= this.from) this.to = null;
    this.show();
  }

  end() {
    if (this.from === null) return;
    this.to = this.clock.now();
    if (this.to < this.from) [this.from, this.to] = [this.to, this.from];
    this.show();
  }

  /** @param {Stretch | null} stretch */
  mark(stretch) {
    [this.from, this.to] = stretch ?? [null, null];
    this.show();
  }

  show() {
    const { from, to, timeline } = this;
    const whole = from !== null && to !== null && to > from;
    timeline.setMark(whole ? [from, to] : null);
    if (!document.getElementById("marked")) return;
    /** @type {HTMLButtonElement} */ ($("mark-to")).disabled = from === null;
    $("marked").hidden = from === null;
    const footage = whole ? this.footage(...ordered([from, to])) : [];
    $("marked-order").hidden = !footage.some((ms) => ms > 0);
    put($("marked-words"), whole ? words(from, to, footage) : from === null ? "" : say("marked", { from: clock(from) }));
    if (whole) link("marked-order").href = orderLink([from, to]);
  }

  /**
   * Returns how much of each camera was recorded, in ms.
   * @param {number} from
   * @param {number} to
   */
  footage(from, to) { return told.cameras.map(({ id }) => existing(this.record.angles.get(id)?.stretches ?? [], from, to)); }
}

/**
 * @param {number} from
 * @param {number} to
 * @param {number[]} footage of each camera, ms
 */
function words(from, to, footage) {
  const values = { from: clock(from), to: clock(to), length: length(to - from) };
  if (!footage.some((ms) => ms > 0)) return say("stretchEmpty", values);
  if (!told.prices) return say("stretch", values);
  return say("stretchFor", { ...values, price: money(price(told.prices, footage), told.prices) });
}
