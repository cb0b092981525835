import { Angle } from "./angle.mjs";
import { Player } from "./player.mjs";
import { ServerClock } from "./clock.mjs";
const root = document.getElementById("station");
const server = new ServerClock(Date.now());
const player = new Player(server, 7200000);
for (const figure of root.querySelectorAll("figure")) {
  const id = figure.dataset.camera;
  player.add(new Angle(id, figure.querySelector("video"), `/live/${root.dataset.station}/${id}/`, server, player.clock, 7200000));
}
player.onTick = () => {
  document.getElementById("clock").textContent = new Date(player.now).toISOString();
};
player.goLive();
window.player = player;
