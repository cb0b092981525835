// Buttons and keys of a station's page.
import * as going from "./going.mjs";
import { listen } from "./keys.mjs";
import { toast } from "./notices.mjs";
import { $, field, here, within } from "./page.mjs";
import { share } from "./share.mjs";
import { put, say, told, zone } from "./text.mjs";
import { player } from "./watching.mjs";

/** @import { Lists } from "./lists.mjs" */
/** @import { Marks } from "./order.mjs" */
/** @import { Quality } from "./quality.mjs" */
/** @import { Screen } from "./screen.mjs" */
/** @import { Timeline } from "./timeline.mjs" */
/**
 * @typedef {object} Parts of the page
 * @property {Lists} lists
 * @property {Marks} marks
 * @property {Quality} quality
 * @property {Screen} screen
 * @property {Timeline} timeline
 * @property {(id: string) => void} lead shows a camera large
 */

const RATES = [0.5, 1, 2, 4, 8];
const STEPS = { back: -5000, on: 5000, minuteBack: -60_000, minuteOn: 60_000, hourBack: -3_600_000, hourOn: 3_600_000 };
const NARROW = matchMedia("(max-width: 63.99rem)");

const details = (/** @type {string} */ id) => /** @type {HTMLDetailsElement} */ ($(id));

function sound() {
  const { main } = player;
  const on = main.video.muted;
  main.setSound(on);
  $("sound").ariaPressed = String(on);
  $("sound").dataset.icon = on ? "sound" : "muted";
}

function layout() {
  const watch = $("watch");
  const equal = watch.dataset.layout !== "equal";
  watch.dataset.layout = equal ? "equal" : "one";
  const button = document.getElementById("layout"); // of several cameras
  if (button) button.ariaPressed = String(equal);
}

/** @param {SubmitEvent} event */
function jump(event) {
  event.preventDefault();
  const at = zone.utc(field("day").value, field("time").value);
  const wrong = Number.isNaN(at) ? say("malformedTime") : going.seek(at);
  put($("jump-wrong"), wrong);
  $("jump-wrong").hidden = !wrong;
  field("time").setAttribute("aria-invalid", String(Boolean(wrong)));
  if (wrong) return;
  details("menu").open = false;
  $("time").blur();
}

// Returns what each key does, by the names of keys.mjs.
function acts(/** @type {Parts} */ { lists, marks, screen }) {
  const faster = (/** @type {1 | -1} */ by) => going.speed(RATES[RATES.indexOf(player.rate) + by] ?? player.rate);
  /** @type {Record<string, () => void>} */
  const found = {
    toggle: going.toggle, live: going.live, sound, layout, share: () => share(), full: () => screen.toggle(),
    pictureBack: () => player.step(-1), pictureOn: () => player.step(1),
    gapBefore: () => going.toGap(lists.outages, -1), gapAfter: () => going.toGap(lists.outages, 1),
    markFrom: () => marks.begin(), markTo: () => marks.end(),
    slower: () => faster(-1), faster: () => faster(1),
    help: () => /** @type {HTMLDialogElement} */ ($("keys")).showModal(),
    jump: () => {
      details("menu").open = true;
      $("time").focus();
    },
  };
  for (const [name, ms] of Object.entries(STEPS)) found[name] = () => going.seek(going.moment() + ms);
  return found;
}

// Makes buttons do what keys do, and what only they do.
function buttons(/** @type {Record<string, () => void>} */ does, /** @type {Parts} */ { quality, timeline, screen, lead }) {
  const on = (/** @type {string} */ id, /** @type {() => void} */ act) => document.getElementById(id)?.addEventListener("click", act);
  for (const [id, act] of Object.entries({
    play: "toggle", live: "live", sound: "sound", layout: "layout", help: "help", before: "pictureBack", after: "pictureOn",
    "gap-before": "gapBefore", "gap-after": "gapAfter",
  })) on(id, does[act]);
  on("back", () => going.seek(going.moment() - 10_000));
  on("on", () => going.seek(going.moment() + 10_000));
  on("saving", () => quality.choose(quality.chooser.wanted === "saving" ? "auto" : "saving"));
  on("nearer", () => timeline.zoom(0.5));
  on("further", () => timeline.zoom(2));
  on("whole", () => timeline.whole());
  on("nearest", () => {
    details("gaps").open = true;
    $("gaps").scrollIntoView({ block: "nearest" });
  });
  $("rate").addEventListener("change", () => going.speed(Number(field("rate").value)));
  $("jump").addEventListener("submit", jump);
  for (const { id } of told.cameras) {
    within(document, `[data-camera="${id}"] .pick`).addEventListener("click", () => {
      if (player.main.id === id) screen.tap();
      else lead(id);
    });
  }
}

// The menu closes by Escape and by a press elsewhere; on a phone it keeps what is used less.
function menu() {
  const zooms = here($("whole").parentElement, "a place");
  const under = here(zooms.parentElement, "a place");
  const beside = here($("live").parentElement, "a place");
  const place = () => {
    const narrow = NARROW.matches;
    (narrow ? $("fine-here") : beside).insertBefore($("fine"), narrow ? null : $("live"));
    (narrow ? $("fine-here") : under).append(zooms);
  };
  NARROW.addEventListener("change", place);
  place();
  $("menu").addEventListener("keydown", ({ key }) => {
    if (key !== "Escape") return;
    details("menu").open = false;
    within($("menu"), "summary").focus();
  });
  document.addEventListener("click", ({ target }) => {
    if (!/** @type {Element} */ (target).closest("#menu")) details("menu").open = false;
  });
}

/** @param {Parts} parts */
export function control(parts) {
  const does = acts(parts);
  buttons(does, parts);
  menu();
  listen(document, (wanted) => {
    parts.screen.wake();
    if (typeof wanted === "string") {
      does[wanted]();
      return true;
    }
    const one = told.cameras[wanted - 1];
    if (!one) return false;
    parts.lead(one.id);
    toast(say("angle", { number: wanted, title: one.title }));
    return true;
  });
}
