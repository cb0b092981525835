// Plays every angle of a station and goes on by itself after a gap, however long it lasts.
import Hls from "/static/hls.mjs";

const RETRY_MS = 2000;
const STUCK_MS = 6000;

function play(figure) {
  const video = figure.querySelector("video");
  const source = figure.dataset.src;
  video.muted = true;
  if (!Hls.isSupported()) {
    video.src = source; // Safari on iPhone plays HLS itself
    video.addEventListener("error", () => setTimeout(() => { video.src = source; video.play(); }, RETRY_MS));
    video.play().catch(() => {});
    return;
  }
  const hls = new Hls({
    liveSyncDurationCount: 3,
    liveMaxLatencyDurationCount: 8,
    backBufferLength: 30,
  });
  hls.on(Hls.Events.ERROR, (_event, data) => {
    if (!data.fatal) return;
    if (data.type === Hls.ErrorTypes.MEDIA_ERROR) {
      hls.recoverMediaError();
    } else {
      setTimeout(() => hls.loadSource(source), RETRY_MS); // not recorded yet, or the web process died
    }
  });
  hls.on(Hls.Events.MANIFEST_PARSED, () => video.play().catch(() => {}));
  hls.loadSource(source);
  hls.attachMedia(video);

  // A player may stand before a hole in its buffer while newer pictures lie behind it.
  let last = -1;
  let since = performance.now();
  setInterval(() => {
    const now = performance.now();
    if (video.currentTime !== last || (video.paused && !video.ended && last > 0)) {
      last = video.currentTime;
      since = now;
      return;
    }
    if (now - since < STUCK_MS) return;
    since = now;
    const ranges = video.buffered;
    for (let n = 0; n < ranges.length; n += 1) {
      if (ranges.start(n) > video.currentTime) {
        video.currentTime = ranges.start(n) + 0.05;
        video.play().catch(() => {});
        return;
      }
    }
    if (hls.liveSyncPosition && hls.liveSyncPosition > video.currentTime + 1) {
      video.currentTime = hls.liveSyncPosition;
      video.play().catch(() => {});
    }
  }, 1000);
}

async function tell(station, figures) {
  try {
    const answer = await fetch(`/api/v1/stations/${station}/timeline`);
    const { cameras } = await answer.json();
    for (const camera of cameras) {
      const words = figures.get(camera.id)?.querySelector(".words");
      const text = camera.state === "recording" ? "" : camera.words ?? camera.state;
      if (words && words.textContent !== text) words.textContent = text;
    }
  } catch { /* asked again in a moment */ }
}

const angles = document.getElementById("angles");
const figures = new Map([...angles.querySelectorAll("figure")].map((f) => [f.dataset.camera, f]));
for (const figure of figures.values()) play(figure);
setInterval(() => tell(angles.dataset.station, figures), 5000);
