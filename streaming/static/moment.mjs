// The moment that an address asks for, and what can be done about it: `t` is milliseconds of UTC or
// a time with its zone, as 2026-11-29T09:40:00Z or 2026-11-29T14:40:00.5+05:00 (RFC 3339).

export const LIVE = "live"; // no moment was asked for
export const SHOWN = "shown";
export const TOO_OLD = "too_old"; // further back than what can be watched
export const FUTURE = "future";
export const MALFORMED = "malformed";

const FORM = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)$/i;

/**
 * Returns a moment in UTC ms; NaN for what is none.
 * @param {string} text
 */
export function parse(text) {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  const whole = text.replace(" ", "+"); // a plus that was not encoded
  return FORM.test(whole) ? Date.parse(whole.toUpperCase()) : NaN;
}

/**
 * Returns what is asked for, and whether it can be shown: as the server said, where it did, else by
 * the address and the window that can be watched.
 * @param {{ momentMs?: string, momentState?: string }} said `data-` attributes of the page
 * @param {string} search the address's
 * @param {number} now UTC ms
 * @param {number} rewindMs
 */
export function asked(said, search, now, rewindMs) {
  const text = new URLSearchParams(search).get("t");
  const moment = said.momentMs ? Number(said.momentMs) : text === null ? NaN : parse(text);
  if (said.momentState) return { state: said.momentState, moment };
  if (text === null) return { state: LIVE, moment };
  return { state: judge(moment, now, rewindMs), moment };
}

/**
 * @param {number} moment
 * @param {number} now UTC ms
 * @param {number} rewindMs
 */
export function judge(moment, now, rewindMs) {
  if (Number.isNaN(moment)) return MALFORMED;
  if (moment > now) return FUTURE;
  return moment < now - rewindMs ? TOO_OLD : SHOWN;
}

/**
 * Returns a moment as addresses have it, in whole seconds.
 * @param {number} moment
 */
export const written = (moment) => new Date(moment).toISOString().replace(/\.\d+/, "");
