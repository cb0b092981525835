// Words, times and sums as people of the page's language and of the station's zone write them.
import { $ } from "./page.mjs";
import { Zone } from "./zone.mjs";

/** @type {Told} */
export const told = JSON.parse($("told").textContent);
export const zone = new Zone(told.zone);
const locale = told.lang === "en" ? "en-GB" : told.lang;
const minutes = /** @type {const} */ ({ hourCycle: "h23", hour: "2-digit", minute: "2-digit" });
const seconds = /** @type {const} */ ({ ...minutes, second: "2-digit" });
/** @type {Map<string, Intl.DateTimeFormat>} */
const formats = new Map();
/** @type {Map<string, Zone>} */
const zones = new Map([[told.zone, zone]]);

/**
 * @param {string} name
 * @param {string} timeZone
 * @param {Intl.DateTimeFormatOptions} options
 */
function format(name, timeZone, options) {
  const key = `${name} ${timeZone}`;
  const found = formats.get(key) ?? new Intl.DateTimeFormat(locale, { ...options, timeZone });
  formats.set(key, found);
  return found;
}

/**
 * @param {string} key of a sentence that the page was told
 * @param {Values} values of its {names}
 */
export function say(key, values = {}) {
  return told.words[key].replace(/\{(\w+)\}/g, (_all, name) => String(values[name]));
}

/** @param {number} ms */
export const clock = (ms) => format("clock", told.zone, seconds).format(ms);
/** @param {number} ms */
export const minute = (ms) => format("minute", told.zone, minutes).format(ms);
/**
 * With thousandths, for who goes from picture to picture.
 * @param {number} ms
 */
export const exact = (ms) => format("exact", told.zone, { ...seconds, fractionalSecondDigits: 3 }).format(ms);

/**
 * Returns both ends of a gap or a recording to the second; with thousandths where seconds would not
 * tell them apart.
 * @param {number} from
 * @param {number | null} to null while it lasts
 * @returns {{ from: string, to: string }}
 */
export function ends(from, to) {
  if (to === null) return { from: clock(from), to: say("until") };
  const as = to - from < 1000 ? exact : clock;
  return { from: as(from), to: as(to) };
}

/**
 * Returns a moment by the clock of another zone, with its offset; "" where that clock shows the same.
 * @param {number} ms
 * @param {string | null | undefined} name IANA
 */
export function elsewhere(ms, name) {
  if (!name) return "";
  const other = zones.get(name) ?? new Zone(name);
  zones.set(name, other);
  const offset = other.offset(ms);
  return offset === zone.offset(ms) ? "" : `${format("clock", name, seconds).format(ms)} ${offset}`;
}

/**
 * Not every browser knows the months in Kazakh.
 * @param {number} ms
 */
export function day(ms) {
  const [, month, number] = zone.local(ms).day.split("-").map(Number);
  return `${number} ${told.months[month - 1]}`;
}

/** @param {number} ms */
export function length(ms) {
  if (ms < 1000) return say("seconds", { seconds: number(ms / 1000) });
  const whole = Math.round(ms / 1000);
  if (whole < 60) return say("seconds", { seconds: whole });
  const whole60 = Math.floor(whole / 60);
  if (whole60 < 60) return say("minutes", { minutes: whole60, seconds: whole % 60 });
  return say("hours", { hours: Math.floor(whole60 / 60), minutes: whole60 % 60 });
}

/**
 * @param {number} minor in the smallest unit of the currency
 * @param {Prices} prices
 */
export function money(minor, { currency, decimals }) {
  const options = /** @type {const} */ ({ style: "currency", currencyDisplay: "narrowSymbol" });
  return new Intl.NumberFormat(locale, { ...options, currency }).format(minor / 10 ** decimals);
}

/** @param {number} value */
export const number = (value) => new Intl.NumberFormat(locale, { maximumFractionDigits: value < 10 ? 1 : 0 }).format(value);

/**
 * @param {Element | null} element
 * @param {string} text
 */
export function put(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}
