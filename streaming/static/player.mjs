// Plays every angle of a station and goes on by itself after a gap, however long it lasts.
import Hls from "/static/hls.mjs";

const RETRY_MS = [1000, 2000, 4000, 8000, 15000];
const WELL_MS = 30000; // trouble after so long without any begins the ladder anew
const STUCK_MS = 4000;
const RELOAD_MS = 15000;
const TELL_MS = 4000;

// Pauses between tries: longer and longer, and not the same for all viewers of a camera.
function ladder() {
  let rung = 0;
  let last = -Infinity;
  return () => {
    const now = performance.now();
    if (now - last > WELL_MS) rung = 0;
    last = now;
    const pause = RETRY_MS[Math.min(rung, RETRY_MS.length - 1)];
    rung += 1;
    return { pause: pause * (0.75 + Math.random() / 2), rung };
  };
}

// Calls `jump` while the picture stands although nobody paused it, with how long it has stood.
function whenStuck(video, jump) {
  let last = -1;
  let since = performance.now();
  setInterval(() => {
    const now = performance.now();
    if (video.currentTime !== last || (video.paused && !video.ended && video.readyState > 2)) {
      last = video.currentTime;
      since = now;
    } else if (now - since > STUCK_MS) {
      jump(now - since);
    }
  }, 1000);
}

function seek(video, position) {
  video.currentTime = position;
  video.play().catch(() => {});
}

function playNative(video, source) { // iPhones have no Media Source Extensions, and play HLS
  const next = ladder();
  let timer = 0;
  const again = () => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      video.src = source;
      video.play().catch(() => {});
    }, next().pause);
  };
  video.addEventListener("error", again);
  video.addEventListener("ended", again);
  whenStuck(video, (stood) => {
    const edge = video.seekable.length ? video.seekable.end(video.seekable.length - 1) - 6 : 0;
    if (edge > video.currentTime + 1) seek(video, edge);
    else if (stood > RELOAD_MS) again();
  });
  video.src = source;
  video.play().catch(() => {});
  return () => {
    const begun = video.getStartDate ? video.getStartDate().getTime() : NaN;
    return Number.isNaN(begun) ? null : new Date(begun + video.currentTime * 1000);
  };
}

function playHls(video, source, cannot) {
  const hls = new Hls({
    liveSyncDurationCount: 3,
    liveMaxLatencyDurationCount: 8,
    backBufferLength: 30,
  });
  const next = ladder();
  let timer = 0;
  let edge = -1; // number of the newest segment of the playlist
  let edgeWhenPlaying = -1;

  hls.on(Hls.Events.ERROR, (_event, data) => {
    if (/codec/i.test(data.details)) cannot();
    if (!data.fatal || timer) return;
    const { pause, rung } = next();
    timer = setTimeout(() => {
      timer = 0;
      if (data.type === Hls.ErrorTypes.MEDIA_ERROR && rung <= 2) hls.recoverMediaError();
      else if (data.type === Hls.ErrorTypes.NETWORK_ERROR && edge >= 0 && rung <= 2) hls.startLoad(-1);
      else hls.loadSource(source); // not recorded yet, the web process died, or nothing else helped
    }, pause);
  });
  hls.on(Hls.Events.LEVEL_UPDATED, (_event, data) => { edge = data.details.endSN; });
  hls.on(Hls.Events.MANIFEST_PARSED, () => video.play().catch(() => {}));
  video.addEventListener("timeupdate", () => { edgeWhenPlaying = edge; });
  video.addEventListener("ended", () => hls.loadSource(source));

  let reloaded = 0;
  whenStuck(video, (stood) => {
    for (let n = 0; n < video.buffered.length; n += 1) { // before a hole in the buffer
      if (video.buffered.start(n) > video.currentTime) {
        seek(video, video.buffered.start(n) + 0.05);
        return;
      }
    }
    if (hls.liveSyncPosition > video.currentTime + 1) seek(video, hls.liveSyncPosition);
    const now = performance.now();
    if (stood > RELOAD_MS && edge > edgeWhenPlaying && !timer && now - reloaded > RELOAD_MS) {
      reloaded = now; // there are new segments, and still no picture
      hls.loadSource(source);
    }
  });
  hls.loadSource(source);
  hls.attachMedia(video);
  return () => hls.playingDate;
}

const angles = document.getElementById("angles");
const { station, zone, lang } = angles.dataset;
const clock = new Intl.DateTimeFormat(lang, {
  timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "shortOffset",
});
const figures = new Map();

for (const figure of angles.querySelectorAll("figure")) {
  const video = figure.querySelector("video");
  const one = { figure, own: "" };
  const cannot = () => { one.own = angles.dataset.cannot; };
  video.muted = true;
  one.date = Hls.isSupported()
    ? playHls(video, figure.dataset.src, cannot)
    : playNative(video, figure.dataset.src);
  video.addEventListener("playing", () => { one.own = ""; });
  figures.set(figure.dataset.camera, one);
}

function say(one, text) {
  const words = one.figure.querySelector(".words");
  if (words.textContent !== text) words.textContent = text;
}

async function tell() {
  try {
    const answer = await fetch(`/api/v1/stations/${station}`);
    if (!answer.ok) throw new Error(answer.statusText);
    for (const camera of (await answer.json()).cameras) {
      const one = figures.get(camera.id);
      if (one) say(one, one.own || camera.words);
    }
  } catch {
    for (const one of figures.values()) say(one, angles.dataset.away);
  }
  setTimeout(tell, TELL_MS);
}
tell();

setInterval(() => { // the time of the picture, not of the viewer's clock
  for (const one of figures.values()) {
    const at = one.date();
    const time = one.figure.querySelector("time");
    if (!at || Number.isNaN(at.getTime())) continue;
    time.dateTime = at.toISOString();
    time.textContent = clock.format(at);
  }
}, 500);
