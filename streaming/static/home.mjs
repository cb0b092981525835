// The home page: answers while typing, stations of one's own, counts and pictures that renew.
import { mine, toggle } from "./mine.mjs";
import { $, field as input, here, within } from "./page.mjs";

const words = JSON.parse($("words").textContent);
const WAIT_MS = 120; // after a letter, for the next one
const RENEW_MS = 15_000;
const SHOWN = 8;
const TIMEOUT_MS = 15_000;
const field = input("q");
const list = $("found");
const count = $("count");
const carried = new URLSearchParams(location.search).has("lang") ? `?lang=${words.lang}` : "";
let timer = 0;
let asked = 0;
let chosen = -1;

/**
 * @param {string} text
 * @param {Values} values
 */
function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_all, name) => String(values[name]));
}

/**
 * @param {string} name
 * @param {(Node | string)[]} children
 */
function element(name, ...children) {
  const one = document.createElement(name);
  one.append(...children);
  return one;
}

function close() {
  list.hidden = true;
  list.replaceChildren(); // what nobody sees cannot be chosen
  field.ariaExpanded = "false";
  choose(-1);
}

/** @param {number} n */
function choose(n) {
  const options = [...list.children];
  chosen = options.length ? Math.max(-1, Math.min(n, options.length - 1)) : -1;
  options.forEach((one, at) => { one.ariaSelected = String(at === chosen); });
  if (chosen < 0) field.removeAttribute("aria-activedescendant");
  else {
    field.setAttribute("aria-activedescendant", options[chosen].id);
    options[chosen].scrollIntoView({ block: "nearest" });
  }
}

/** @param {FoundStation} station */
const addressOf = (station) => `/stations/${station.id}${carried}`;

/** Returns the address of the station that is chosen, if one is. */
const selected = () => /** @type {HTMLElement | undefined} */ (list.children[chosen])?.dataset.href;

async function search() {
  const query = field.value.trim();
  asked += 1;
  const turn = asked;
  if (!query) {
    count.textContent = "";
    close();
    return;
  }
  try {
    const parameters = new URLSearchParams({ q: query, limit: String(SHOWN), lang: words.lang });
    const answer = await fetch(`/api/v1/stations?${parameters}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) return;
    const found = await answer.json();
    if (turn === asked) show(found);
  } catch { /* the button searches, too */ }
}

/** @param {{ stations: FoundStation[], total: number, suggestions?: FoundStation[] }} found */
function show({ stations, total, suggestions = [] }) {
  const shown = stations.length ? stations : suggestions.slice(0, SHOWN);
  const had = selected();
  list.replaceChildren(...shown.map((one, n) => {
    const where = [one.address, one.district, one.region].filter(Boolean).join(", ");
    const number = element("strong", one.number);
    const live = element("span", fill(words.live, { live: one.live, count: one.cameras.length }));
    live.className = "count";
    const option = element("li", element("span", number, ` ${one.name}`, element("small", where)), live);
    const href = addressOf(one);
    option.role = "option";
    option.id = `found-${n}`;
    option.dataset.href = href;
    option.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
    option.addEventListener("click", () => { location.href = href; });
    return option;
  }));
  list.hidden = !shown.length;
  field.ariaExpanded = String(!list.hidden);
  count.textContent = stations.length ? fill(words.found, { count: total.toLocaleString(words.lang) }) : words.none;
  choose(shown.findIndex((one) => addressOf(one) === had)); // a late answer takes no choice away
}

field.addEventListener("input", () => {
  choose(-1);
  clearTimeout(timer);
  timer = setTimeout(search, WAIT_MS);
});
field.addEventListener("blur", close);
field.addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
  else if (event.key === "ArrowDown" && list.hidden) search();
  else if (event.key === "ArrowDown") choose(chosen + 1);
  else if (event.key === "ArrowUp") choose(chosen - 1);
  else if (event.key === "Enter" && chosen >= 0) location.href = here(selected(), "a link");
  else return;
  event.preventDefault();
});

// -- what is so now ------------------------------------------------------------------------
//
// The page is asked for again, whole: all that it counts is of one moment, and never disagrees.

const still = $("still");
let held = matchMedia("(prefers-reduced-motion: reduce)").matches || !!navigator.connection?.saveData;
let asking = false;
let again = false; // once this answer is there

async function pageOfNow() {
  const query = new URLSearchParams(location.search);
  const own = mine();
  if (own.length) query.set("mine", own.join(","));
  const answer = await fetch(`/?${query}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok) throw new Error(String(answer.status));
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

/** @param {ParentNode} place */
const items = (place) => /** @type {HTMLElement[]} */ ([...place.querySelectorAll("[data-station]")]);
/** @param {ParentNode} place */
const ids = (place) => items(place).map((one) => one.dataset.station).join();

/**
 * @param {HTMLElement | null} old
 * @param {HTMLElement | null} fresh
 */
function retell(old, fresh) {
  if (!old || !fresh) return;
  old.textContent = fresh.textContent;
  old.className = fresh.className;
  old.hidden = fresh.hidden;
}

/**
 * Shows the newest picture of a station once it has come: never an empty place while it loads.
 * @param {HTMLElement} item
 */
function repaint(item) {
  const image = item.querySelector("img");
  const { top, bottom } = item.getBoundingClientRect();
  if (held || !image || bottom < 0 || top > innerHeight) return;
  const next = new Image();
  next.onload = () => { image.src = next.src; };
  const url = new URL(image.src);
  url.searchParams.set("n", String(Math.floor(Date.now() / RENEW_MS)));
  next.src = url.href;
}

/**
 * Returns what tells anew of the stations of a list.
 * @param {HTMLElement} old
 * @param {HTMLElement} fresh the same stations
 */
function renewed(old, fresh) {
  const after = items(fresh);
  return () => items(old).forEach((item, n) => {
    for (const part of [".count", ".silent"]) {
      const [was, is] = [item, after[n]].map((one) => /** @type {HTMLElement | null} */ (one.querySelector(part)));
      if (was && is) retell(was, is);
      else if (was) was.remove();
      else if (is) item.append(document.importNode(is, true));
    }
    repaint(item);
  });
}

/**
 * Returns what shows other stations in a list, once their pictures have come.
 * @param {HTMLElement} old
 * @param {HTMLElement} fresh
 */
async function replaced(old, fresh) {
  const came = fresh.querySelector("ul");
  const list = came && document.importNode(came, true);
  const images = [...(list?.querySelectorAll("img") ?? [])];
  for (const image of images) image.loading = "eager";
  const late = new Promise((done) => { setTimeout(done, TIMEOUT_MS); });
  await Promise.race([Promise.allSettled(images.map((image) => image.decode())), late]);
  return () => {
    old.querySelector("ul")?.remove();
    if (list) old.append(list);
    old.hidden = fresh.hidden;
    items(old).forEach(addStar);
  };
}

async function look(asked = false) {
  if (asking) again ||= asked;
  if (asking || document.hidden || (held && !asked)) return;
  asking = true;
  try {
    const fresh = await pageOfNow();
    const changes = [];
    for (const id of ["mine", "stations"]) {
      const [old, is] = [document, fresh].map((one) => one.getElementById(id));
      if (!old || !is) continue;
      const same = ids(old) === ids(is);
      if (!same && id === "stations" && old.matches(":hover, :focus-within")) { // nothing moves under a finger
        if (asked) changes[0](); // but what was starred is seen at once
        return;
      }
      changes.push(same ? renewed(old, is) : await replaced(old, is));
    }
    for (const change of changes) change();
    for (const id of ["tally", "state", "faulty"]) retell(document.getElementById(id), fresh.getElementById(id));
    for (const one of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-area]"))) {
      const { area = "" } = one.dataset;
      retell(one, fresh.querySelector(`[data-area="${CSS.escape(area)}"]`));
    }
  } catch { /* what is there stays */ } finally {
    asking = false;
  }
  if (again) {
    again = false;
    look(true);
  }
}

setInterval(look, RENEW_MS);
if (document.getElementById("stations")) {
  still.hidden = false;
  still.ariaPressed = String(held);
  still.addEventListener("click", () => {
    held = !held;
    still.ariaPressed = String(held);
  });
}

// -- stations of one's own --------------------------------------------------------------------

/** @param {HTMLElement} item */
function addStar(item) {
  const button = document.createElement("button");
  const { station = "" } = item.dataset;
  const title = within(item, "a").textContent.replace(/\s+/g, " ").trim();
  const show = () => {
    const kept = mine().includes(station);
    button.textContent = kept ? "★" : "☆";
    button.ariaLabel = fill(kept ? words.remove : words.add, { title });
  };
  button.type = "button";
  button.className = "star";
  button.dataset.star = station;
  button.addEventListener("click", () => {
    toggle(station);
    for (const other of document.querySelectorAll(`[data-star="${CSS.escape(station)}"]`)) other.dispatchEvent(new Event("kept"));
    look(true);
  });
  button.addEventListener("kept", show);
  show();
  item.append(button);
}

items(document).forEach(addStar);
if (mine().length) look(true);

// -- near me ------------------------------------------------------------------------------------

const near = document.getElementById("near");

if (near && navigator.geolocation) {
  const hint = $("near-hint");
  near.hidden = hint.hidden = false;
  near.addEventListener("click", () => {
    navigator.geolocation.getCurrentPosition(({ coords }) => {
      const query = new URLSearchParams(carried);
      query.set("near", [coords.latitude, coords.longitude].map((one) => one.toFixed(3)).join(","));
      location.href = `/?${query}`;
    }, () => { hint.textContent = words.nowhere; }, { timeout: 20_000, maximumAge: 600_000 }); // else some wait for ever
  });
}
