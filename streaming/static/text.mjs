// Words and times as people of the page's language and of the station's zone write them.
import { Zone } from "./zone.mjs";

/** @type {Told} */
export const told = JSON.parse(document.getElementById("told").textContent);
export const zone = new Zone(told.zone);
const locale = told.lang === "en" ? "en-GB" : told.lang;
const minutes = /** @type {const} */ ({
  timeZone: told.zone, hourCycle: "h23", hour: "2-digit", minute: "2-digit",
});
const formats = {
  clock: new Intl.DateTimeFormat(locale, { ...minutes, second: "2-digit" }),
  minute: new Intl.DateTimeFormat(locale, minutes),
};

/**
 * @param {string} key of a sentence that the page was told
 * @param {Values} values of its {names}
 */
export function say(key, values = {}) {
  return told.words[key].replace(/\{(\w+)\}/g, (_all, name) => String(values[name]));
}

/** @param {number} ms */
export const clock = (ms) => formats.clock.format(ms);
/** @param {number} ms */
export const minute = (ms) => formats.minute.format(ms);

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
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return say("seconds", { seconds });
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return say("minutes", { minutes, seconds: seconds % 60 });
  return say("hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 });
}

/**
 * @param {Element | null} element
 * @param {string} text
 */
export function put(element, text) {
  if (element && element.textContent !== text) element.textContent = text;
}
