// The embedded player: one angle, live.
import { CANNOT, GAP, PLAYS } from "./angle.mjs";
import { makeAngle } from "./native.mjs";
import { ServerClock } from "./clock.mjs";
import { Player } from "./player.mjs";
import { told, say, put, clock } from "./text.mjs";

const ASK_MS = 5000;
const server = new ServerClock(told.now_ms);
const player = new Player(server, told.rewind_ms);
const main = document.querySelector("main");
const play = document.getElementById("play");
const angle = makeAngle(
  told.angle, main.querySelector("video"), `/live/${told.station}/${told.angle}/`, server, player.clock, told.rewind_ms,
);
let words = "";

async function ask() {
  try {
    const answer = await fetch(`/api/v1/stations/${told.station}?lang=${told.lang}`);
    words = (await answer.json()).cameras.find((/** @type {Camera} */ one) => one.id === told.angle).words;
  } catch {
    words = say("away");
  }
  setTimeout(ask, ASK_MS);
}

player.add(angle);
player.onTick = () => {
  const { state } = angle;
  /** @type {HTMLElement} */
  const slate = main.querySelector(".slate");
  put(slate, state === CANNOT ? say("cannot") : state === GAP ? words || say("nothing") : "");
  slate.hidden = !slate.textContent;
  main.dataset.shown = state === PLAYS ? "video" : "still";
  put(document.getElementById("now"), clock(player.now));
  play.dataset.icon = player.paused ? "play" : "pause";
  play.ariaLabel = say(player.paused ? "play" : "pause");
};
play.addEventListener("click", () => { if (player.paused) player.goLive(); else player.pause(); });
player.goLive();
ask();
