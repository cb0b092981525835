// Shares what is shown: a link to the moment, code for other pages, the picture with its time on it.
import { moment } from "./going.mjs";
import { written } from "./moment.mjs";
import { $, field, here } from "./page.mjs";
import { put, say, told, zone } from "./text.mjs";
import { player } from "./watching.mjs";

const STRIP = 0.08; // of the picture's height, below it: nothing of the picture is covered


/**
 * Returns the address of what is shown.
 * @param {boolean} exactly with the moment also where it is live
 */
export function address(exactly = false) {
  const query = new URLSearchParams();
  if (exactly || !player.live) query.set("t", written(moment()));
  if (player.main.id !== told.cameras[0].id || told.angle) query.set("angle", player.main.id);
  if (told.chosen) query.set("lang", told.lang);
  return `${location.pathname}?${query}`.replace(/\?$/, "");
}

// Returns an iframe with the camera that is large, at the moment that is shown, as wide as its page.
function frame() {
  const { main, live } = player;
  const made = document.createElement("iframe");
  const url = new URL(`/embed/${told.station}/${main.id}`, location.href);
  if (!live) url.searchParams.set("t", written(moment()));
  if (told.chosen) url.searchParams.set("lang", told.lang);
  made.src = url.href;
  made.title = document.title;
  made.allow = "fullscreen";
  made.setAttribute("loading", "lazy");
  // written into the text: to set it on an element is against the policy of this page
  return made.outerHTML.replace("<iframe ", '<iframe style="width:100%;aspect-ratio:16/10;border:0" ');
}

/** @param {"address" | "code"} first the field that is looked for */
export function share(first = "address") {
  field("address").value = new URL(address(true), location.href).href;
  field("code").value = frame();
  put($("shared"), "");
  $("send").hidden = !navigator.share;
  /** @type {HTMLDialogElement} */ ($("sharing")).showModal();
  field(first).select();
}

/** @param {HTMLInputElement} from */
async function copy(from) {
  from.select();
  try {
    await navigator.clipboard.writeText(from.value);
  } catch {
    if (!document.execCommand("copy")) { // pages without TLS have no clipboard
      put($("shared"), say("copyYourself"));
      return;
    }
  }
  put($("shared"), say("copied"));
}

// Returns the large camera's picture with station, camera and time below it.
async function stamped() {
  const { video, picture } = player.main;
  const title = told.cameras.find((one) => one.id === player.main.id)?.title ?? "";
  const at = picture ?? moment();
  const { day, time } = zone.local(at);
  const canvas = document.createElement("canvas");
  const strip = Math.max(28, Math.round(video.videoHeight * STRIP));
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight + strip;
  const context = here(canvas.getContext("2d"), "a canvas");
  context.fillStyle = "#0b0d0f";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(video, 0, 0);
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  context.font = `${Math.round(strip * 0.5)}px system-ui, sans-serif`;
  const ms = String(Math.floor(at) % 1000).padStart(3, "0");
  const words = `${say("station", { number: told.number })} · ${title} · ${day} ${time}.${ms} ${zone.offset(at)} · ${location.host}`;
  context.fillText(words, strip * 0.4, video.videoHeight + strip / 2, canvas.width - strip * 0.8);
  const blob = await new Promise((/** @type {BlobCallback} */ done) => { canvas.toBlob(done, "image/jpeg", 0.92); });
  return new File([here(blob, "a picture")], `${told.number}-${player.main.id}-${day}-${time.replaceAll(":", "")}.jpg`, { type: "image/jpeg" });
}

async function still() {
  if (player.main.video.readyState < 2) {
    put($("shared"), say("noStill"));
    return;
  }
  const file = await stamped();
  if (navigator.canShare?.({ files: [file] }) && matchMedia("(pointer: coarse)").matches) {
    await navigator.share({ files: [file], title: document.title }).catch(() => {});
    return;
  }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = file.name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function sharing() {
  $("share").addEventListener("click", () => share());
  $("embed").addEventListener("click", () => share("code"));
  $("still").addEventListener("click", still);
  $("send").addEventListener("click", () => {
    navigator.share({ title: document.title, url: field("address").value }).catch(() => {});
  });
  for (const one of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".copies"))) {
    one.addEventListener("click", () => copy(field(one.dataset.copies ?? "")));
  }
}
