// The embedded player: one camera, live or from the moment in its address.
import { CANNOT, GAP, MISSING, PLAYS, WAITS } from "./angle.mjs";
import * as moments from "./moment.mjs";
import { $, within } from "./page.mjs";
import { Quality } from "./quality.mjs";
import { Still } from "./still.mjs";
import { clock, length, put, say, told } from "./text.mjs";
import { player, server, watch } from "./watching.mjs";

const ASK_MS = 5000;
const BACK_MS = 10_000;
const main = within(document, "main");
const angle = watch(told.angle, within(main, "video"));
/** @type {HTMLImageElement} */
const image = within(main, ".still"); // of the page
const still = new Still(image);
let words = ""; // why there is no picture now
let refused = "";
const notice = document.getElementById("notice"); // the server's words where the moment asked for cannot be shown

async function ask() {
  if (player.rests) { // nobody looks
    setTimeout(ask, ASK_MS);
    return;
  }
  try {
    const answer = await fetch(`/api/v1/stations/${told.station}?lang=${told.lang}`, { signal: AbortSignal.timeout(ASK_MS * 2) });
    const came = performance.now();
    if (!answer.ok) throw new Error(answer.statusText);
    const data = await answer.json();
    server.learn(data.now_ms, came); // our own clock stood still if the machine slept
    words = data.cameras.find((/** @type {Camera} */ one) => one.id === told.angle).words;
  } catch {
    words = say("away");
  }
  setTimeout(ask, ASK_MS);
}

// Returns what is said over the picture.
function slate() {
  const { state } = angle;
  if (refused) return notice ? "" : refused;
  if (state === CANNOT) return say("cannot");
  if (state === MISSING) return say("missing");
  if (state === GAP) return (player.live && words) || say("nothing");
  return player.stands ? say(angle.listing?.away ? "away" : "stands") : "";
}

player.onTick = () => {
  const said = slate();
  const { state, video } = angle;
  put($("why"), said);
  $("slate").hidden = !said;
  $("again").hidden = !player.stands;
  const seen = video.readyState >= 2 && (state === PLAYS || state === WAITS);
  main.dataset.shown = still.shows({ seen, wanted: player.live && !said, off: false });
  main.dataset.state = state;
  const late = Math.max(0, server.now() - player.now);
  const isLive = player.isLive(late);
  $("live").ariaPressed = String(isLive);
  put($("now"), player.settled ? clock(player.now) : "");
  put($("late"), player.settled && !isLive && !player.empty ? say("back", { ago: length(late) }) : "");
  $("slow").hidden = !angle.stride;
  $("play").dataset.icon = player.paused ? "play" : "pause";
  $("play").ariaLabel = say(player.paused ? "play" : "pause");
  const link = /** @type {HTMLAnchorElement} */ ($("station"));
  const url = new URL(link.href);
  if (player.live) url.searchParams.delete("t");
  else if (player.settled) url.searchParams.set("t", moments.written(player.now));
  if (url.href !== link.href) link.href = url.href;
};

// Leaves the moment that cannot be shown.
function begin() {
  refused = "";
  if (notice) notice.hidden = true;
}

function live() {
  begin();
  player.goLive();
}

$("play").addEventListener("click", () => {
  if (!player.paused) player.pause();
  else if (player.begun) player.play();
  else live();
});
$("back").addEventListener("click", () => {
  begin();
  player.seek((player.settled ? player.now : server.now()) - BACK_MS);
});
$("live").addEventListener("click", live);
$("again").addEventListener("click", () => player.again());
$("sound").addEventListener("click", () => {
  const on = angle.video.muted;
  angle.setSound(on);
  $("sound").ariaPressed = String(on);
  $("sound").dataset.icon = on ? "sound" : "muted";
});
if (document.fullscreenEnabled) {
  $("full").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.documentElement.requestFullscreen();
  });
} else $("full").hidden = true; // the page around it does not allow it

new Quality([{ figure: main, angle, camera: told.cameras[0] }]);
const wanted = moments.asked(document.documentElement.dataset, location.search, server.now(), told.rewind_ms);
if (wanted.state === moments.LIVE) player.goLive();
else if (wanted.state === moments.SHOWN) player.seek(wanted.moment);
else {
  const { state, moment } = wanted;
  refused = say(state === moments.TOO_OLD ? "tooOldLink" : state === moments.FUTURE ? "future" : "malformed", {
    time: state === moments.TOO_OLD ? clock(moment) : "",
  });
  player.paused = true;
  player.live = false;
}
ask();
