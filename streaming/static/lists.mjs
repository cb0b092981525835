// The timeline for who does not see it: gaps and recordings of the day as tables, with what to do.
import * as text from "./text.mjs";

/** @import { DayRecord } from "./record.mjs" */
/** @typedef {[n: number, from: number, to: number | null, words?: string]} Row of angle n */

export class Lists {
  /**
   * @param {Element} root
   * @param {DayRecord} record
   * @param {Camera[]} cameras
   * @param {(moment: number) => void} seek
   */
  constructor(root, record, cameras, seek) {
    this.root = root;
    this.record = record;
    this.cameras = cameras;
    this.seek = seek;
    this.shown = "";
  }

  /** @param {number} now */
  show(now) {
    const gaps = this.rows((angle) => angle.gaps.map((gap) => [gap.from, gap.to, gap.words]));
    const recordings = this.rows((angle) => angle.stretches.map(([from, to]) => [from, to]));
    text.put(this.root.querySelector("#gaps summary"), text.say("gaps", { count: gaps.length }));
    /** @type {HTMLElement} */
    const incomplete = this.root.querySelector("#incomplete");
    incomplete.hidden = this.record.complete;
    text.put(incomplete, text.say("incomplete"));
    const shown = JSON.stringify([gaps, recordings.map(([n, from]) => [n, from])]);
    const again = shown !== this.shown; // an end that moves on is no reason to begin anew
    this.shown = shown;
    this.fill("#gaps", gaps, "noGaps", now, again);
    this.fill("#recordings", recordings, "noRecordings", now, again);
  }

  /**
   * @param {(day: AngleDay) => [number, number | null, string?][]} of
   * @returns {Row[]}
   */
  rows(of) {
    return this.cameras
      .flatMap((camera, n) => of(this.record.angles.get(camera.id) ?? { stretches: [], gaps: [] }).map((row) => /** @type {Row} */ ([n, ...row])))
      .sort((a, b) => a[1] - b[1]);
  }

  /**
   * @param {string} where
   * @param {Row[]} rows
   * @param {string} none
   * @param {number} now
   * @param {boolean} again
   */
  fill(where, rows, none, now, again) {
    const body = this.root.querySelector(`${where} tbody`);
    if (again) {
      body.replaceChildren(...(rows.length ? rows.map((row) => this.row(row)) : [this.none(none)]));
    }
    rows.forEach(([, from, to], n) => {
      const cells = body.children[n]?.children;
      if (!cells) return;
      text.put(cells[2], to === null ? text.say("until") : text.clock(to));
      text.put(cells[3], text.length((to ?? now) - from));
    });
  }

  /** @param {Row} row */
  row([n, from, , words]) {
    const row = document.createElement("tr");
    const cell = (/** @type {(Node | string)[]} */ ...content) => {
      const one = document.createElement("td");
      one.append(...content);
      row.append(one);
    };
    const go = document.createElement("button");
    go.type = "button";
    go.textContent = text.clock(from);
    go.setAttribute("aria-label", text.say("watchFrom", { time: text.clock(from) }));
    go.addEventListener("click", () => this.seek(from));
    cell(`${n + 1} ${this.cameras[n].title}`);
    cell(go);
    cell("");
    cell("");
    if (words) cell(words);
    return row;
  }

  /** @param {string} key of what is said where there are no rows */
  none(key) {
    const row = document.createElement("tr");
    const cell = document.createElement("td");
    cell.colSpan = 5;
    cell.textContent = text.say(key);
    row.append(cell);
    return row;
  }
}
