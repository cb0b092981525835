// The page of a station: puts player, timeline, lists and buttons together.
import { control } from "./controls.mjs";
import { begin, going, live, moment, seek, tooOld } from "./going.mjs";
import { Lists } from "./lists.mjs";
import { toast } from "./notices.mjs";
import { Marks } from "./order.mjs";
import { Quality } from "./quality.mjs";
import { $, field, here, within } from "./page.mjs";
import { DayRecord } from "./record.mjs";
import { Screen } from "./screen.mjs";
import { Bubble } from "./scrub.mjs";
import { address, sharing } from "./share.mjs";
import { Shown } from "./shown.mjs";
import * as text from "./text.mjs";
import { Timeline } from "./timeline.mjs";
import { player, server, watch as watchCamera } from "./watching.mjs";

/** @import { Figure } from "./shown.mjs" */

const { told, say, put } = text;
const RECORD_MS = 4000; // between questions about recordings and gaps
const MOTION_MS = 60_000; // and about what moves
const LINK_MS = 1000; // browsers refuse to change the address more often than some times a second

const watch = $("watch");
const record = new DayRecord(told.station, server);
/** @type {Map<string, Figure>} */
const figures = new Map();
/** @type {Stretch} */
let day = [0, 0];
let drawn = ""; // what changes once a second, or when somebody does something
/** @type {Lists} */
let lists;
/** @type {Timeline} */
let timeline;
/** @type {Shown} */
let shown;
/** @type {Quality} */
let quality;
/** @type {Bubble} */
let bubble;

function show() {
  for (const camera of told.cameras) {
    const figure = within(watch, `[data-camera="${camera.id}"]`);
    /** @type {HTMLVideoElement} */
    const video = within(figure, "video");
    figures.set(camera.id, { figure, video, angle: watchCamera(camera.id, video), camera });
  }
  lists = new Lists(watch, record, told.cameras, seek);
  timeline = new Timeline($("timeline"), record, told.cameras.map((one) => one.id), {
    seek,
    bounds: () => [day[0], Math.min(day[1], Math.max(server.now(), day[0] + 1000))],
    oldest: () => server.now() - told.rewind_ms,
    hover: over,
    select: (stretch) => marks.mark(stretch),
  });
  const marks = new Marks(timeline, record, { now: moment });
  const screen = new Screen($("stage"), $("full"));
  shown = new Shown([...figures.values()], lists, { live, seek });
  bubble = new Bubble($("bubble"), () => player.main.base);
  sharing();
  player.onTick = tick;
  player.onSkip = (from, to) => toast(say("leftOut", { length: text.length(to - from), time: text.clock(from) }));
  player.onOld = () => toast(tooOld());
  if (figures.has(told.angle)) lead(told.angle);
  quality = new Quality([...figures.values()]);
  control({ lists, marks, quality, screen, timeline, lead });
  begin();
  const notice = document.getElementById("notice");
  if (going.refused && notice) notice.hidden = true; // the card says it, and what can be done
  ask();
}

// -- what is seen ------------------------------------------------------------------------

/** @param {string} id */
function lead(id) {
  for (const [other, one] of figures) {
    one.figure.classList.toggle("lead", other === id);
    within(one.figure, ".pick").ariaPressed = String(other === id);
    within(watch, `[data-line="${other}"]`).classList.toggle("is-lead", other === id);
  }
  const before = player.main;
  player.main = here(figures.get(id), id).angle;
  if (before !== player.main && !before.video.muted) {
    before.setSound(false);
    player.main.setSound(true);
  }
  quality?.apply();
  if (player.begun) linkNow();
}

function tick() {
  const now = moment();
  shown.draw(now, going.refused);
  const { paused } = player;
  const late = server.now() - (player.main.stride ? player.main.picture ?? now : now);
  const isLive = player.isLive(late);
  $("live").ariaPressed = String(isLive);
  icon(paused);
  if (field("rate").value !== String(player.rate)) field("rate").value = String(player.rate);
  if (paused && player.settled) put($("now"), text.exact(now));
  const draws = [Math.floor(now / 1000), paused, isLive, player.main.id].join();
  if (draws === drawn) return;
  drawn = draws;
  if (!paused || !player.settled) put($("now"), text.clock(now));
  /** @type {HTMLTimeElement} */ ($("now")).dateTime = player.settled ? new Date(now).toISOString() : "";
  put($("zone"), `${text.day(now)}, ${text.zone.offset(now)}`);
  const { picture_zone: zone } = here(figures.get(player.main.id), "a camera").camera;
  const other = text.elsewhere(now, zone);
  put($("burned"), other && say("burned", { time: other }));
  $("status").dataset.live = String(isLive);
  put($("status"), status(isLive, late));
  if (!document.activeElement?.closest("#jump")) {
    const at = text.zone.local(now);
    field("day").value = at.day;
    field("time").value = at.time;
  }
  if (now < day[0] || now >= day[1]) ask();
  timeline.show(now);
  nearest(now);
  if (player.begun && Math.floor(performance.now() / LINK_MS) !== linked) linkNow();
}

/**
 * @param {boolean} isLive
 * @param {number} late ms
 */
function status(isLive, late) {
  if (isLive) return say("behind", { seconds: Math.max(0, Math.round(late / 1000)) });
  if (!player.begun) return say("notShown");
  if (!player.settled) return say("loading");
  if (player.empty) return say("noPictureNow");
  return say("back", { ago: text.length(Math.max(0, late)) });
}

/** @param {boolean} paused */
function icon(paused) {
  const wanted = paused ? "play" : "pause";
  if ($("play").dataset.icon === wanted) return;
  $("play").dataset.icon = wanted;
  $("play").ariaLabel = say(wanted);
}

// -- recordings and gaps -----------------------------------------------------------------

let asking = 0;
let moved = -Infinity; // when it was asked what moves
async function ask() {
  clearTimeout(asking);
  if (player.rests) { // nobody looks
    asking = setTimeout(ask, RECORD_MS);
    return;
  }
  day = text.zone.dayOf(moment());
  await record.load(...day, told.lang);
  lists.show(server.now());
  timeline.draw();
  if (record.words) put($("count"), record.words);
  const recording = [...record.angles.values()].some((one) => one.state === "recording");
  if (recording) $("state").hidden = true;
  asking = setTimeout(ask, RECORD_MS);
  if (performance.now() - moved > MOTION_MS && quality.chooser.level.main !== "pictures") {
    moved = performance.now();
    await record.loadMotion();
    timeline.draw();
  }
}

/**
 * @param {number | null} at the moment under the pointer
 * @param {number} share
 */
function over(at, share) {
  if (at === null) {
    bubble.hide();
    return;
  }
  const { stretches = [], gaps = [] } = record.angles.get(player.main.id) ?? {};
  const gap = gaps.find((one) => one.from <= at && at < (one.to ?? Infinity));
  const old = at < server.now() - told.rewind_ms;
  const recorded = stretches.some(([from, to]) => from <= at && at < to);
  const lost = record.goneAt(player.main.id, at);
  const why = gap?.words || lost || (recorded ? old ? say("onlyCopy") : "" : say("nothing"));
  bubble.show(at, share, why ? `${text.clock(at)} · ${why}` : text.clock(at), recorded && !old && !lost);
}

/**
 * Says the nearest gap of the large camera; where it has none, of any.
 * @param {number} now
 */
function nearest(now) {
  const place = told.cameras.findIndex(({ id }) => id === player.main.id);
  const own = lists.outages.filter(({ cameras }) => cameras.includes(place));
  const found = (own.length ? own : lists.outages).map((one) => ({ one, far: Math.max(one.from - now, now - (one.to ?? now), 0) }));
  found.sort((a, b) => a.far - b.far);
  $("nearest").hidden = !found.length;
  if (found.length) put($("nearest"), lists.line(found[0].one));
}

// -- address -------------------------------------------------------------------------------

let linked = 0;
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

if (document.getElementById("stage")) show(); // a station without cameras has none
