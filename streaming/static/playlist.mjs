// What is known of a camera's segments: pieces of playlists, put together by segment number. So
// watching live, pausing, and going on from there need no new beginning, and nobody ever loads the
// playlist of a whole day.

const CELL_MS = 600_000; // stretches begin at whole ten minutes: all viewers ask for the same
const AHEAD_MS = 60_000; // the next stretch is asked for when the clock is this near its beginning
const KEPT_MS = 600_000; // of what lies behind the clock
const RETRY_MS = [500, 1000, 2000, 4000];
const MISS_MS = [250, 400, 700, 1000, 2000]; // pauses while there is no new segment
const TIMEOUT_MS = 8000;
const REST_MS = 500; // until it is seen that somebody looks again
const LATE_MS = 5000; // when no segment is listed for so long, the camera is out;
const OVERDUE_MS = 2000; // where segments are long, when the next one should have been there for so long
const EDGE_MS = 3000; // what is so near to the end of the window is gone before it was loaded
const FIRST_LAG_MS = 300; // from the end of a segment until it is listed; learned

/** @param {number} ms */
export const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });

/**
 * Waits, but not when the network comes back.
 * @param {number} ms
 */
function patience(ms) {
  return new Promise((/** @type {(event?: Event) => void} */ done) => {
    addEventListener("online", done, { once: true });
    setTimeout(() => {
      removeEventListener("online", done);
      done();
    }, ms);
  });
}

/**
 * Returns the segments of a playlist, and its target duration in seconds.
 * @param {string} text
 */
export function parse(text) {
  /** @type {Segment[]} */
  const found = [];
  let run = 0;
  let at = 0;
  let seconds = 0;
  let target = 2;
  for (const line of text.split("\n")) {
    if (line.startsWith("#EXT-X-MAP")) run = Number(/init-(\d+)/.exec(line)?.[1]);
    else if (line.startsWith("#EXT-X-PROGRAM-DATE-TIME:")) at = Date.parse(line.slice(25));
    else if (line.startsWith("#EXTINF:")) seconds = parseFloat(line.slice(8));
    else if (line.startsWith("#EXT-X-TARGETDURATION:")) target = Number(line.slice(22));
    else if (line && !line.startsWith("#")) {
      found.push({ no: parseInt(line, 10), run, at, end: at + seconds * 1000, seconds });
    }
  }
  return { found, target };
}

export class Listing {
  /**
   * @param {string} base the address of the playlists and segments of a stream
   * @param {Teller} server
   * @param {Teller} clock tells which moment is shown
   * @param {number} rewindMs how far back the public can go
   */
  constructor(base, server, clock, rewindMs) {
    this.base = base;
    this.server = server;
    this.clock = clock;
    this.rewindMs = rewindMs;
    /** @type {Segment[]} */
    this.segments = [];
    this.opened = false; // what there is at the moment that it was opened at is known
    this.target = 2;
    this.from = 0; // all that was recorded between these two is known
    this.until = 0;
    this.live = false; // it has reached what is being recorded now
    this.away = 0; // requests that failed, one after the other
    this.lag = FIRST_LAG_MS;
    this.rests = false; // nobody looks: nothing is asked for
    this.closed = false;
  }

  get end() { return this.segments.at(-1)?.end ?? 0; }

  // Returns the first moment that can be asked for.
  get oldest() { return this.server.now() - this.rewindMs + EDGE_MS; }

  /**
   * Learns what there is at a moment, or now where it is null, and then goes on by itself.
   * @param {number | null} moment
   */
  async open(moment) {
    if (moment === null) {
      this.live = true;
      const piece = await this.insist("");
      this.add(piece);
      this.from = piece[0]?.at ?? this.server.now();
      this.until = this.server.now();
    } else {
      await this.stretch(moment);
    }
    this.opened = true;
    this.grow();
  }

  close() { this.closed = true; }

  /**
   * Tells whether all that was recorded at a moment is known, or will be by itself.
   * @param {number} moment
   */
  covers(moment) {
    return moment >= this.from && (this.live || moment < this.until + AHEAD_MS);
  }

  /**
   * Returns the segment that holds a moment; null in a gap.
   * @param {number} moment
   */
  at(moment) {
    const list = this.segments;
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (list[middle].end > moment) high = middle;
      else low = middle + 1;
    }
    return low < list.length && list[low].at <= moment + 1 ? list[low] : null;
  }

  /**
   * Returns how many seconds were recorded from the first segment until a moment.
   * @param {number} moment
   */
  offset(moment) {
    let seconds = 0;
    for (const one of this.segments) {
      if (one.end > moment) return seconds + Math.max(0, moment - one.at) / 1000;
      seconds += one.seconds;
    }
    return seconds;
  }

  /**
   * Tells whether nothing was recorded at a moment; in live it is known some seconds later.
   * @param {number} moment that is in no segment
   */
  gapAt(moment) {
    const { segments, live, until, end, target } = this;
    if ((segments.at(-1)?.at ?? Infinity) > moment) return true;
    return live ? until > end + Math.max(LATE_MS, target * 1000 + OVERDUE_MS) : moment < until;
  }

  /**
   * Learns what was recorded around a moment. What the window left behind before there was an answer
   * is refused like what was never recorded: then it is asked what is there of the rest.
   * @param {number} moment
   */
  async stretch(moment) {
    const to = (Math.floor(moment / CELL_MS) + 1) * CELL_MS;
    for (;;) {
      const now = this.server.now();
      const from = Math.max(Math.floor(moment / CELL_MS) * CELL_MS, Math.ceil(this.oldest));
      const piece = from < Math.min(now, to) ? await this.insist(`?from=${from}&to=${to}`) : [];
      if (!piece.length && !this.closed && from < Math.min(to, this.oldest - EDGE_MS)) continue;
      this.add(piece);
      this.from ||= from;
      this.until = Math.min(to, now);
      this.live = to > now;
      return;
    }
  }

  /**
   * Asks until there is an answer: none recorded is one.
   * @param {string} query
   * @returns {Promise<Segment[]>}
   */
  async insist(query) {
    for (;;) {
      try {
        return await this.fetch(query);
      } catch {
        if (this.closed) return [];
        await patience(this.pause());
      }
    }
  }

  pause() { // longer and longer, and not the same for all viewers of a camera
    this.away += 1;
    const pause = RETRY_MS[Math.min(this.away, RETRY_MS.length) - 1];
    return pause * (0.75 + Math.random() / 2);
  }

  /** @param {string} query */
  async fetch(query) {
    const answer = await fetch(`${this.base}index.m3u8${query}`, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (answer.status !== 404 && !answer.ok) throw new Error(answer.statusText);
    this.away = 0;
    if (answer.status === 404) return [];
    const { found, target } = parse(await answer.text());
    this.target = target;
    return found;
  }

  /** @param {Segment[]} piece */
  add(piece) {
    const last = this.segments.at(-1)?.no ?? -1;
    const fresh = piece.filter((one) => one.no > last);
    this.segments.push(...fresh);
    return fresh.length > 0;
  }

  async grow() {
    let misses = 0;
    while (!this.closed) {
      try {
        if (this.rests) await sleep(REST_MS);
        else if (!this.live) {
          if (this.clock.now() > this.until - AHEAD_MS) await this.stretch(this.until);
          else await sleep(500);
        } else {
          await sleep(misses ? MISS_MS[Math.min(misses, MISS_MS.length) - 1] : this.expected());
          if (this.closed || this.rests) continue;
          if (await this.refresh()) {
            if (!misses) this.lag = Math.max(0, this.lag - 15);
            misses = 0;
            this.trim();
          } else {
            this.lag = Math.min(2000, this.lag + (misses === 0 ? 60 : 0));
            misses += 1;
          }
        }
      } catch {
        await patience(this.pause());
      }
    }
  }

  // How long until the next segment should be listed: one request a segment, and no time lost.
  expected() {
    const last = this.segments.at(-1);
    if (!last) return 2000;
    const due = last.end + last.seconds * 1000 + this.lag - this.server.now();
    return Math.min(Math.max(due, 100), 4000);
  }

  // Learns what was recorded since; what is too long ago to be learned with it is not known any more.
  async refresh() {
    const piece = await this.fetch("");
    const last = this.segments.at(-1);
    const known = last ? last.end : this.until; // of a camera that was out nothing may be listed yet
    const asked = this.server.now();
    if (piece.length && (last ? piece[0].no > last.no + 1 : piece[0].at > known)) { // away for longer than it holds
      const to = Math.ceil(piece[0].at);
      const from = Math.max(Math.floor(known), to - CELL_MS, Math.ceil(this.oldest));
      const between = to > from ? await this.fetch(`?from=${from}&to=${to}`) : [];
      if (from > known) {
        this.segments = [];
        this.from = Math.min(from, to);
      }
      this.add(between);
    }
    this.until = asked;
    return this.add(piece);
  }

  trim() {
    const old = this.clock.now() - KEPT_MS;
    const first = this.segments.findIndex((one) => one.end > old);
    if (first > 60) { // not at every segment
      this.segments.splice(0, first);
      this.from = this.segments[0].at;
    }
  }

  /**
   * Returns where the recording goes on after a moment; null where that is not known.
   * @param {number} moment
   */
  nextAfter(moment) { return this.segments.find((one) => one.at > moment)?.at ?? null; }
}

/**
 * Returns the streams that a multivariant playlist offers (RFC 8216, 4.3.4.2), the least first:
 * addresses of their playlists, and what each needs in bit/s.
 * @param {string} text
 */
export function variants(text) {
  /** @type {{ uri: string, bits: number }[]} */
  const found = [];
  let bits = 0;
  for (const line of text.split("\n").map((one) => one.trim())) {
    if (line.startsWith("#EXT-X-STREAM-INF:")) {
      const said = /[:,]AVERAGE-BANDWIDTH=(\d+)/.exec(line) ?? /[:,]BANDWIDTH=(\d+)/.exec(line);
      bits = Number(said?.[1] ?? 0);
    } else if (line && !line.startsWith("#") && bits) {
      found.push({ uri: line, bits });
      bits = 0;
    }
  }
  return found.sort((a, b) => a.bits - b.bits);
}
