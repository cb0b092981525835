// The page of a station: puts player, timeline, lists and buttons together.
/** @import { Angle } from "./angle.mjs" */
import { CANNOT, GAP, OFF, PLAYS } from "./angle.mjs";
import { ServerClock } from "./clock.mjs";
import { makeAngle } from "./native.mjs";
import { Lists } from "./lists.mjs";
import { orders } from "./order.mjs";
import { Player } from "./player.mjs";
import { DayRecord } from "./record.mjs";
import { Meter, hinted } from "./saving.mjs";
import * as text from "./text.mjs";
import { Timeline } from "./timeline.mjs";

const { told, say, put } = text;
const RECORD_MS = 4000; // between questions about recordings and gaps
const STILL_MS = 5000; // between pictures in low-data mode
const LINK_MS = 1000; // browsers refuse to change the address more often than some times a second
const SLATE_MS = 700; // loading for longer is said

const $ = (/** @type {string} */ id) => document.getElementById(id);
const field = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ ($(id));
const dialog = (/** @type {string} */ id) => /** @type {HTMLDialogElement} */ ($(id));
const server = new ServerClock(told.now_ms);
const player = new Player(server, told.rewind_ms);
const watch = $("watch");
const record = new DayRecord(told.station, server);
/** @typedef {{ figure: HTMLElement, video: HTMLVideoElement, angle: Angle, camera: Camera }} Figure */
/** @type {Map<string, Figure>} */
const figures = new Map();
let low = "";
/** @type {Stretch} */
let day = [0, 0];
let shownSecond = 0;

function begin() {
  for (const camera of told.cameras) {
    /** @type {HTMLElement} */
    const figure = watch.querySelector(`[data-camera="${camera.id}"]`);
    const video = figure.querySelector("video");
    const angle = makeAngle(camera.id, video, `/live/${told.station}/${camera.id}/`, server, player.clock, told.rewind_ms);
    angle.onLoaded = (bytes, ms, seconds) => meter.loaded(bytes, ms, seconds);
    figures.set(camera.id, { figure, video, angle, camera });
    player.add(angle);
  }
  buttons();
  keys();
  orders(player, timeline);
  player.onTick = tick;
  const hint = told.cameras.length > 1 ? hinted() : "";
  if (hint) save(hint);
  if (told.t_ms) player.seek(told.t_ms);
  else player.goLive();
  if (figures.has(told.angle)) lead(told.angle);
  ask();
  setInterval(stills, STILL_MS);
}

const meter = new Meter(told.cameras.length, () => { if (!low && told.cameras.length > 1 && !unsaved) save("lowSlow"); });
let unsaved = false; // a person turned low-data mode off

// -- what is seen ------------------------------------------------------------------------

/** @param {string} id */
function lead(id) {
  for (const [other, one] of figures) {
    one.figure.classList.toggle("lead", other === id);
    one.figure.querySelector(".pick").ariaPressed = String(other === id);
  }
  const before = player.main;
  player.main = figures.get(id).angle;
  if (before !== player.main && !before.video.muted) {
    before.video.muted = true;
    player.main.video.muted = false;
  }
  if (low) {
    for (const one of figures.values()) player.want(one.angle, one.angle === player.main);
  }
  linkNow();
}

function tick() {
  const now = player.now;
  for (const one of figures.values()) draw(one, now);
  const second = Math.floor(now / 1000);
  const { live, paused } = player;
  $("live").ariaPressed = String(live && !paused);
  icon(paused);
  if (field("rate").value !== String(player.rate)) field("rate").value = String(player.rate);
  if (second === shownSecond) return;
  shownSecond = second;
  put($("now"), text.clock(now));
  /** @type {HTMLTimeElement} */ ($("now")).dateTime = new Date(now).toISOString();
  put($("zone"), `${text.day(now)}, ${text.zone.offset(now)}`);
  const late = server.now() - now;
  put($("delay"), live ? say("behind", { seconds: Math.round(late / 1000) }) : say("back", { ago: text.length(late) }));
  if (!document.activeElement?.closest("#jump")) {
    const at = text.zone.local(now);
    field("day").value = at.day;
    field("time").value = at.time;
  }
  if (now < day[0] || now >= day[1]) ask();
  timeline.show(now);
  if (Math.floor(performance.now() / LINK_MS) !== linked) linkNow();
}

/** @param {boolean} paused */
function icon(paused) {
  const wanted = paused ? "play" : "pause";
  if ($("play").dataset.icon === wanted) return;
  $("play").dataset.icon = wanted;
  $("play").ariaLabel = say(wanted);
}

/**
 * @param {Figure} figure
 * @param {number} now
 */
function draw({ figure, video, angle }, now) {
  const { state } = angle;
  const gap = state === GAP || state === CANNOT ? record.gapAt(angle.id, now) : null;
  let words = "";
  if (state === CANNOT) words = say("cannot");
  else if (state === GAP) words = gap ? gapWords(gap) : ofNow(angle.id) || say("nothing");
  else if (state !== PLAYS && state !== OFF && angle.waited > SLATE_MS) words = angle.listing?.away ? say("away") : say("loading");
  /** @type {HTMLElement} */
  const slate = figure.querySelector(".slate");
  put(slate, words);
  slate.hidden = !words;
  const shown = state === PLAYS || (words && video.readyState >= 2 && state !== GAP) ? "video" : "still";
  figure.dataset.shown = state === GAP ? "slate" : shown;
  figure.dataset.state = state;
  put(figure.querySelector(".words"), (state === OFF && ofNow(angle.id)) || "");
}

/** @param {string} id */
function ofNow(id) {
  return player.live ? record.angles.get(id)?.words : "";
}

/** @param {Gap} gap */
function gapWords(gap) {
  const from = text.clock(gap.from);
  if (gap.to === null) return say("noPictureSince", { from, cause: gap.words });
  return say("noPicture", { from, to: text.clock(gap.to), cause: gap.words });
}

// -- recordings and gaps -----------------------------------------------------------------

let asking = 0;
async function ask() {
  clearTimeout(asking);
  day = text.zone.dayOf(player.now || server.now());
  await record.load(...day, told.lang);
  lists.show(server.now());
  timeline.draw();
  const live = [...record.angles.values()].filter((one) => one.state === "recording").length;
  if (live && !$("state").hidden && record.angles.size) $("state").hidden = true;
  asking = setTimeout(ask, RECORD_MS);
}

const timeline = new Timeline($("timeline"), record, told.cameras.map((one) => one.id), {
  seek,
  bounds: () => [day[0], Math.min(day[1], Math.max(server.now(), day[0] + 1000))],
  oldest: () => server.now() - told.rewind_ms,
});
const lists = new Lists(watch, record, told.cameras, seek);

/** @param {number} moment */
function seek(moment) {
  if (moment < server.now() - told.rewind_ms) {
    announce(say("tooOld"));
    return;
  }
  player.seek(moment);
  announce(player.live ? say("isLive") : say("jumped", { time: text.clock(moment) }));
  shownSecond = 0;
}

/** @param {string} words */
function announce(words) { put($("said"), words); }

// -- link ----------------------------------------------------------------------------------

let linked = 0;
function address() {
  const query = new URLSearchParams();
  if (!player.live) query.set("t", new Date(player.now).toISOString().replace(/\.\d+/, ""));
  if (player.main.id !== told.cameras[0].id || told.angle) query.set("angle", player.main.id);
  if (told.chosen) query.set("lang", told.lang);
  return `${location.pathname}${query.size ? `?${query}` : ""}`;
}

function linkNow() {
  linked = Math.floor(performance.now() / LINK_MS);
  const wanted = address();
  if (wanted !== location.pathname + location.search) history.replaceState(null, "", wanted);
  for (const one of document.querySelectorAll(".languages a")) {
    const link = /** @type {HTMLAnchorElement} */ (one);
    const url = new URL(wanted, location.href);
    url.searchParams.set("lang", link.lang);
    link.href = url.pathname + url.search;
  }
}

async function share() {
  const url = new URL(address(), location.href);
  if (player.live) url.searchParams.set("t", new Date(player.now).toISOString().replace(/\.\d+/, ""));
  $("link").hidden = false;
  put(document.querySelector("label[for=address]"), say("copy"));
  field("address").value = url.href;
  field("address").select();
  try {
    await navigator.clipboard.writeText(url.href);
    put(document.querySelector("label[for=address]"), say("copied"));
  } catch { /* the field holds it */ }
  announce(say("copied"));
}

// -- low data --------------------------------------------------------------------------------

/** @param {string} why a sentence's key; "" to end it */
function save(why) {
  low = why;
  $("saving").ariaPressed = String(Boolean(why));
  $("low").hidden = !why;
  if (why) put($("low"), why === "asked" ? say("lowOn") : `${say("lowOn")} ${say(why)}`);
  for (const { angle } of figures.values()) player.want(angle, !why || angle === player.main);
  stills();
}

function stills() {
  if (document.hidden) return;
  for (const { figure, angle, camera } of figures.values()) {
    if (angle.state !== OFF) continue;
    /** @type {HTMLImageElement} */ (figure.querySelector(".still")).src = `${camera.picture}?n=${Math.floor(server.now() / STILL_MS)}`;
  }
}

// -- buttons and keys --------------------------------------------------------------------------

function toggle() {
  if (player.paused) player.play();
  else player.pause();
  icon(player.paused);
  announce(player.paused ? say("paused", { time: text.clock(player.now) }) : say(player.live ? "isLive" : "play"));
}

function sound() {
  const { video } = player.main;
  video.muted = !video.muted;
  $("sound").ariaPressed = String(!video.muted);
  put($("sound"), say(video.muted ? "sound" : "mute"));
}

async function full() {
  if (document.fullscreenElement) await document.exitFullscreen();
  else if (watch.requestFullscreen) await watch.requestFullscreen();
  else player.main.video.webkitEnterFullscreen?.(); // iPhones
}

function layout() {
  const equal = watch.dataset.layout !== "equal";
  watch.dataset.layout = equal ? "equal" : "one";
  $("layout").ariaPressed = String(equal);
}

/** @param {1 | -1} direction */
function toGap(direction) {
  const now = player.now;
  const starts = record.gapStarts.map((at) => at - 3000); // some seconds before, to see it come
  const found = direction > 0 ? starts.find((at) => at > now + 500) : starts.findLast((at) => at < now - 4000);
  if (found === undefined) announce(say("noGaps"));
  else seek(found);
}

function live() {
  player.goLive();
  announce(say("isLive"));
}

function buttons() {
  const on = (/** @type {string} */ id, /** @type {() => void} */ act) => $(id)?.addEventListener("click", act);
  on("play", toggle);
  on("back", () => seek(player.now - 10_000));
  on("on", () => seek(player.now + 10_000));
  on("live", live);
  on("before", () => player.step(-1));
  on("after", () => player.step(1));
  on("sound", sound);
  on("full", full);
  on("layout", layout);
  on("more", () => { $("more").ariaExpanded = String(watch.classList.toggle("has-more")); });
  on("saving", () => {
    unsaved = Boolean(low);
    save(low ? "" : "asked");
  });
  on("help", () => dialog("keys").showModal());
  on("nearer", () => timeline.zoom(0.5));
  on("further", () => timeline.zoom(2));
  on("whole", () => timeline.whole());
  on("gap-before", () => toGap(-1));
  on("gap-after", () => toGap(1));
  on("share", share);
  on("embed", embed);
  $("rate").addEventListener("change", () => {
    player.setRate(Number(field("rate").value));
    announce(say("speed", { rate: player.rate }));
  });
  $("jump").addEventListener("submit", (event) => {
    event.preventDefault();
    const moment = text.zone.utc(field("day").value, field("time").value);
    if (moment > server.now()) announce(say("future"));
    else seek(moment);
    $("time").blur();
  });
  document.addEventListener("fullscreenchange", () => {
    put($("full"), say(document.fullscreenElement ? "leave" : "full"));
  });
  for (const [id, { figure }] of figures) {
    figure.querySelector(".pick").addEventListener("click", () => lead(id));
  }
}

function embed() {
  const { main } = player;
  const frame = document.createElement("iframe");
  frame.src = new URL(`/embed/${told.station}/${main.id}`, location.href).href;
  frame.width = "640";
  frame.height = "360";
  frame.allow = "fullscreen";
  frame.title = document.title;
  frame.setAttribute("loading", "lazy");
  field("code").value = frame.outerHTML;
  dialog("embedding").showModal();
  field("code").select();
}

function keys() {
  /** @type {Record<string, (event: KeyboardEvent) => void>} */
  const acts = {
    " ": toggle,
    k: toggle,
    ArrowLeft: (event) => seek(player.now - (event.shiftKey ? 60_000 : 5000)),
    ArrowRight: (event) => seek(player.now + (event.shiftKey ? 60_000 : 5000)),
    PageUp: () => seek(player.now - 3_600_000),
    PageDown: () => seek(player.now + 3_600_000),
    ",": () => player.step(-1),
    ".": () => player.step(1),
    f: full,
    m: sound,
    l: live,
    "?": () => dialog("keys").showModal(),
  };
  // Who clicked a button and then presses the space bar means to pause, not to click once more.
  /** @type {Element | null} */
  let clicked = null;
  document.addEventListener("click", ({ detail, target }) => {
    clicked = detail ? /** @type {Element} */ (target).closest("button") : null;
  });
  document.addEventListener("focusout", () => { clicked = null; });
  document.addEventListener("keyup", (event) => {
    if (event.key === " " && event.target === clicked) event.preventDefault(); // Firefox clicks here
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog[open]")) return;
    const inside = /** @type {Element} */ (event.target).closest("input, select, textarea, a, button, summary");
    const typing = inside?.matches("input, select, textarea");
    if (typing || (inside && inside !== clicked && event.key === " ")) return;
    const one = told.cameras[Number(event.key) - 1];
    const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) act(event);
    else if (one && /^[1-9]$/.test(event.key)) {
      lead(one.id);
      announce(say("angle", { number: event.key, title: one.title }));
    } else return;
    event.preventDefault();
  });
}

if (watch) begin();
