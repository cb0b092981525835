// Where people go: to a moment, to live, to a gap; said in words, also why not.
import * as moments from "./moment.mjs";
import { toast } from "./notices.mjs";
import { clock, number, say, told } from "./text.mjs";
import { player, server } from "./watching.mjs";

/** @import { Outage } from "./outages.mjs" */
/** @typedef {ReturnType<typeof moments.asked>} Asked */

const SOON_MS = 2000; // the server's clock is known as well as that
const BEFORE_MS = 3000; // a gap, to see it come

/** @type {{ refused: Asked | null }} what the address asks for and cannot be shown */
export const going = { refused: null };

// Begins with what the address asks for, or says why it cannot be shown.
export function begin() {
  const wanted = moments.asked(document.documentElement.dataset, location.search, server.now(), told.rewind_ms);
  if (wanted.state === moments.SHOWN) player.seek(wanted.moment);
  else if (wanted.state === moments.LIVE) player.goLive();
  else {
    going.refused = wanted;
    player.paused = true;
    player.live = false;
  }
}

// Returns the moment that the page is about.
export function moment() {
  if (player.settled) return player.now;
  return going.refused?.state === moments.TOO_OLD ? going.refused.moment : server.now();
}

// Returns that a moment cannot be watched any more, and what can be done, where copies are sold.
export function tooOld() {
  return document.getElementById("order") ? `${say("tooOld")} ${say("toCopy")}` : say("tooOld");
}

/**
 * Shows a moment; returns why not where it cannot be shown.
 * @param {number} wanted
 */
export function seek(wanted) {
  const state = moments.judge(wanted, server.now() + SOON_MS, told.rewind_ms);
  if (state !== moments.SHOWN) {
    const words = state === moments.TOO_OLD ? tooOld() : say(state);
    toast(words);
    return words;
  }
  going.refused = null;
  const { empty } = player;
  player.seek(wanted);
  const shown = clock(player.now); // at the end of the window a little later than asked
  toast(player.live ? say(empty ? "noPictureNow" : "isLive") : say("jumped", { time: shown }));
  return "";
}

export function live() {
  going.refused = null;
  const { empty } = player; // live was on already, and showed nothing
  player.goLive();
  toast(say(empty ? "noPictureNow" : "isLive"));
}

export function toggle() {
  going.refused = null;
  if (player.paused) player.play();
  else player.pause();
  toast(player.paused ? say("paused", { time: clock(moment()) }) : say(player.live ? "isLive" : "play"));
}

/**
 * @param {Outage[]} outages
 * @param {1 | -1} direction
 */
export function toGap(outages, direction) {
  const now = moment();
  const starts = outages.map(({ from }) => from - BEFORE_MS);
  const found = direction > 0 ? starts.find((at) => at > now + 500) : starts.findLast((at) => at < now - 4000);
  if (found === undefined) toast(say(direction > 0 ? "noGapAfter" : "noGapBefore"));
  else seek(found);
}

/** @param {number} rate */
export function speed(rate) {
  player.setRate(rate);
  toast(say("speed", { rate: number(rate) }));
}
