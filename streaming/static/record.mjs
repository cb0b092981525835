// What is known of a day: stretches that were recorded and gaps, of each angle; asked for again
// while it goes on, but only the end of it.

const JOIN_MS = 20; // recordings that are nearer to each other are one stretch
const MINUTE_MS = 60_000; // all viewers of a station ask for the same, and caches answer
const TIMEOUT_MS = 15_000;
const OVERLAP_MS = 180_000; // of what is asked for again: gaps may end earlier than it seemed

/** @import { ServerClock } from "./clock.mjs" */

export class DayRecord {
  /**
   * @param {string} station
   * @param {ServerClock} server
   */
  constructor(station, server) {
    this.station = station;
    this.server = server;
    /** @type {Map<string, AngleDay>} */
    this.angles = new Map();
    this.from = 0;
    this.to = 0;
    this.known = 0; // until here
    this.complete = true;
    this.whole = true; // else the catalogue did not say all of the day; once it answers, all is asked for again
    this.words = ""; // how many cameras are live
    this.away = false;
    /** @type {Map<string, Stretch[]>} when something moved before a camera */
    this.motion = new Map();
    this.motionVersion = 0; // tells what was learned from what is drawn
  }

  /**
   * Learns a day.
   * @param {number} from
   * @param {number} to
   * @param {string} lang
   */
  async load(from, to, lang) {
    if (from !== this.from) {
      this.angles = new Map();
      Object.assign(this, { from, to, known: 0 });
    }
    const now = this.server.now();
    const since = this.known ? Math.max(from, Math.floor(this.known / MINUTE_MS) * MINUTE_MS - OVERLAP_MS) : from;
    const asks = Math.min(to, Math.ceil((now + 5000) / MINUTE_MS) * MINUTE_MS);
    if (since >= Math.min(now, asks)) return;
    const query = new URLSearchParams({ from: String(since), to: String(asks), lang });
    try {
      const answer = await fetch(`/api/v1/stations/${this.station}/timeline?${query}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
      const came = performance.now();
      if (!answer.ok) throw new Error(answer.statusText);
      const data = await answer.json();
      this.away = false;
      if (from !== this.from) return; // another day was asked for meanwhile
      this.server.learn(data.now_ms, came);
      if (since === from) this.whole = data.complete;
      this.complete = data.complete && this.whole;
      this.words = data.words;
      for (const camera of data.cameras) this.merge(camera, since);
      const until = Math.min(to, data.now_ms);
      if (data.complete) this.known = this.whole ? until : 0;
      else if (!this.whole) this.known = until; // else it is asked for from where all was said
    } catch {
      this.away = true;
    }
  }

  // Learns when something moved before the cameras, of what can still be watched.
  async loadMotion() {
    try {
      const answer = await fetch(`/api/v1/stations/${this.station}/motion`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (!answer.ok) return;
      /** @type {{ cameras: { id: string, motion: { start_ms: number, end_ms: number }[] }[] }} */
      const { cameras } = await answer.json();
      for (const { id, motion } of cameras) this.motion.set(id, motion.map((one) => [one.start_ms, one.end_ms]));
      this.motionVersion += 1;
    } catch { /* marks of motion are missing, nothing else */ }
  }

  /**
   * @param {TimelineCamera} camera what there is from a moment on
   * @param {number} since
   */
  merge(camera, since) {
    /** @type {AngleDay} */
    const before = this.angles.get(camera.id) ?? { stretches: [], gaps: [], gone: [] };
    /** @type {Stretch[]} */
    const stretches = before.stretches.filter(([from]) => from < since).map(([from, to]) => [from, to]);
    const gone = before.gone.filter(({ from }) => from < since).map((one) => ({ ...one }));
    for (const { start_ms: from, end_ms: to, words, second } of camera.recordings) {
      if (words) { // nobody can have it: it was removed, or its machine is away
        if (second) continue; // and nobody misses it
        const lost = gone.at(-1);
        if (lost?.words === words && from <= lost.to + JOIN_MS) lost.to = Math.max(lost.to, to);
        else gone.push({ from, to, words });
        continue;
      }
      const last = stretches.at(-1);
      if (last && from <= last[1] + JOIN_MS) last[1] = Math.max(last[1], to);
      else stretches.push([from, to]);
    }
    const seen = new Set(camera.gaps.map((gap) => gap.gap_no));
    const gaps = before.gaps.filter((gap) => gap.to !== null && gap.to < since && !seen.has(gap.no));
    for (const gap of camera.gaps) {
      if (gap.end_ms === null || gap.end_ms > gap.start_ms) {
        gaps.push({ no: gap.gap_no, from: gap.start_ms, to: gap.end_ms, words: gap.words });
      }
    }
    this.angles.set(camera.id, { stretches, gaps, gone, state: camera.state, words: camera.words });
  }

  /**
   * Returns the gap of an angle that holds a moment.
   * @param {string} id
   * @param {number} moment
   */
  gapAt(id, moment) {
    const found = this.angles.get(id)?.gaps ?? [];
    return found.findLast((gap) => gap.from <= moment && (gap.to === null || moment < gap.to));
  }

  /**
   * Returns why nobody can have what an angle recorded at a moment; "" where that is not so.
   * @param {string} id
   * @param {number} moment
   */
  goneAt(id, moment) {
    return this.angles.get(id)?.gone.find((one) => one.from <= moment && moment < one.to)?.words ?? "";
  }

  // Returns when the first recording of the day begins; null for none.
  get first() {
    const found = [...this.angles.values()]
      .flatMap(({ stretches, gone }) => [...stretches.slice(0, 1).map(([from]) => from), ...gone.slice(0, 1).map(({ from }) => from)]);
    return found.length ? Math.min(...found) : null;
  }
}
