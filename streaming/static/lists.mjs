// The timeline for who does not see it: outages and recordings of the day, with a way to each.
import { outages } from "./outages.mjs";
import { within } from "./page.mjs";
import * as text from "./text.mjs";

/** @import { Outage } from "./outages.mjs" */
/** @import { DayRecord } from "./record.mjs" */
/** @typedef {{ from: number, to: number | null, who: string, why: string }} Row */

export class Lists {
  /** @type {Outage[]} */
  outages = [];
  #shown = "";

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
  }

  /** @param {number} now */
  show(now) {
    const days = this.cameras.map(({ id }) => this.record.angles.get(id));
    this.outages = outages(days.map((day) => day?.gaps ?? []));
    const gaps = this.outages.map(({ from, to, cameras, causes }) => ({ from, to, who: this.names(cameras), why: causes.join("; ") }));
    const recordings = days
      .flatMap((day, n) => [
        ...(day?.stretches ?? []).map(([from, to]) => ({ from, to, who: this.names([n]), why: "" })),
        ...(day?.gone ?? []).map(({ from, to, words: why }) => ({ from, to, who: this.names([n]), why })),
      ])
      .sort((a, b) => a.from - b.from);
    text.put(this.root.querySelector("#gaps summary"), text.say("gaps", { count: gaps.length }));
    text.put(this.root.querySelector("#recordings summary"), text.say("recordings", { count: recordings.length }));
    const incomplete = within(this.root, "#incomplete");
    incomplete.hidden = this.record.complete;
    text.put(incomplete, text.say("incomplete"));
    const shown = JSON.stringify([gaps, recordings.map(({ from, who }) => [from, who])]);
    const again = shown !== this.#shown; // an end that moves on is no reason to begin anew
    this.#shown = shown;
    this.fill("#gaps", gaps, "noGaps", now, again);
    this.fill("#recordings", recordings, "noRecordings", now, again);
  }

  /** @param {number[]} cameras their places */
  names(cameras) {
    if (cameras.length === this.cameras.length && cameras.length > 1) return text.say("allCameras");
    return cameras.map((n) => `${n + 1} ${this.cameras[n].title}`).join(", ");
  }

  /**
   * Returns an outage in a line.
   * @param {Outage} outage
   */
  line({ from, to, causes }) { return text.say("gapLine", { ...text.ends(from, to), cause: causes[0] }); }

  /**
   * @param {string} where
   * @param {Row[]} rows
   * @param {string} none
   * @param {number} now
   * @param {boolean} again
   */
  fill(where, rows, none, now, again) {
    const list = within(this.root, `${where} ul`);
    if (again) list.replaceChildren(...(rows.length ? rows.map((row) => this.row(row)) : [this.none(none)]));
    rows.forEach(({ from, to }, n) => {
      const one = list.children[n];
      const ends = text.ends(from, to);
      text.put(one?.querySelector("button"), `${ends.from} – ${ends.to}`);
      text.put(one?.querySelector(".long"), text.length((to ?? now) - from));
    });
  }

  /** @param {Row} row */
  row({ from, who, why }) {
    const row = document.createElement("li");
    const go = document.createElement("button");
    go.type = "button";
    go.className = "number";
    go.addEventListener("click", () => this.seek(from - 3000)); // some seconds before, to see it come
    const long = document.createElement("span");
    long.className = "long";
    const words = document.createElement("span");
    words.className = "who";
    words.textContent = why ? `${who}: ${why}` : who;
    row.append(go, long, words);
    return row;
  }

  /** @param {string} key of what is said where there are no rows */
  none(key) {
    const row = document.createElement("li");
    row.textContent = text.say(key);
    return row;
  }
}
