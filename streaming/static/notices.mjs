// What the page says over the pictures: a word for some seconds, and a card with what can be done.
import { $ } from "./page.mjs";
import { put } from "./text.mjs";

const TOAST_MS = 6000;

/** @typedef {{ text: string, act?: () => void, href?: string }} Way what can be done: a button or a link */

let over = 0;

/**
 * Says something for some seconds, for eyes and for screen readers.
 * @param {string} words
 */
export function toast(words) {
  const place = document.getElementById("said"); // not where a camera is embedded
  clearTimeout(over);
  if (!place) return;
  put(place, "");
  put(place, words);
  over = setTimeout(() => put(place, ""), TOAST_MS);
}

let carded = "";

/**
 * Shows a card, or takes it away where there is neither a word nor a way.
 * @param {string} words
 * @param {Way[]} ways
 */
export function card(words, ways = []) {
  const place = $("card");
  place.hidden = !words && !ways.length;
  place.dataset.words = String(Boolean(words));
  put($("card-words"), words);
  const key = JSON.stringify(ways.map((one) => [one.text, one.href]));
  if (key === carded) return;
  carded = key;
  $("card-acts").replaceChildren(...ways.map((one, n) => button(one, n === 0)));
}

/**
 * @param {Way} way
 * @param {boolean} first
 */
function button({ text, act = () => {}, href }, first) {
  const made = document.createElement(href ? "a" : "button");
  made.textContent = text;
  made.className = `button${first ? " primary" : ""}`;
  if (href) /** @type {HTMLAnchorElement} */ (made).href = href;
  else {
    /** @type {HTMLButtonElement} */ (made).type = "button";
    made.addEventListener("click", act);
  }
  return made;
}
