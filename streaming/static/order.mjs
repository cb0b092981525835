// Marks a stretch of the timeline, of which a copy can be ordered.
import { clock, length, put, say, told } from "./text.mjs";

/** @import { Player } from "./player.mjs" */
/** @import { Timeline } from "./timeline.mjs" */

/**
 * @param {Player} player
 * @param {Timeline} timeline
 */
export function orders(player, timeline) {
  const $ = (/** @type {string} */ id) => document.getElementById(id);
  const order = /** @type {HTMLAnchorElement | null} */ ($("order"));
  if (!order) return; // copies cannot be ordered here
  /** @type {number | null} */
  let from = null;
  /** @type {number | null} */
  let to = null;

  const show = () => {
    const whole = from !== null && to !== null && to > from;
    /** @type {HTMLButtonElement} */ ($("mark-to")).disabled = from === null;
    timeline.setMark(whole ? [from, to] : null);
    put($("marked"), whole ? say("stretch", { from: clock(from), to: clock(to), length: length(to - from) })
      : from === null ? "" : say("marked", { from: clock(from) }));
    const query = new URLSearchParams({ station: told.station, cameras: told.cameras.map((one) => one.id).join(",") });
    if (whole) {
      query.set("from", new Date(from).toISOString());
      query.set("to", new Date(to).toISOString());
    }
    if (told.chosen) query.set("lang", told.lang);
    order.href = `/copies/new?${query}`;
  };
  $("mark-from").addEventListener("click", () => {
    from = player.now;
    if (to !== null && to <= from) to = null;
    show();
  });
  $("mark-to").addEventListener("click", () => {
    to = player.now;
    if (to < from) [from, to] = [to, from];
    show();
  });
  show();
}
