// What is said on the pictures: what each camera does, why there is no picture, what can be done.
import { CANNOT, GAP, MISSING, OFF, PLAYS, WAITS } from "./angle.mjs";
import * as moments from "./moment.mjs";
import { card } from "./notices.mjs";
import { orderLink } from "./order.mjs";
import { outageAt } from "./outages.mjs";
import { $, here, within } from "./page.mjs";
import { Still } from "./still.mjs";
import * as text from "./text.mjs";
import { player } from "./watching.mjs";

/** @import { Angle } from "./angle.mjs" */
/** @import { Lists } from "./lists.mjs" */
/** @import { Way } from "./notices.mjs" */
/** @import { Outage } from "./outages.mjs" */
/** @typedef {{ figure: HTMLElement, video: HTMLVideoElement, angle: Angle, camera: Camera }} Figure */
/** @typedef {ReturnType<typeof moments.asked>} Asked */

const { say, put } = text;
const SLATE_MS = 700; // loading for longer is said
const AROUND_MS = 300_000; // of a copy of a moment that cannot be watched

export class Shown {
  /**
   * @param {Figure[]} figures in the order of the cameras
   * @param {Lists} lists
   * @param {{ live: () => void, seek: (moment: number) => void }} acts
   */
  constructor(figures, lists, { live, seek }) {
    this.figures = figures;
    /** @type {Map<Angle, Still>} */
    this.stills = new Map();
    for (const { angle, figure } of figures) {
      /** @type {HTMLImageElement} */
      const image = within(figure, ".still");
      this.stills.set(angle, new Still(image));
    }
    this.lists = lists;
    this.live = live;
    this.seek = seek;
  }

  /**
   * @param {number} now the moment that is shown
   * @param {Asked | null} refused what the address asked for and cannot be shown
   */
  draw(now, refused) {
    this.figures.forEach((one, n) => this.figure(one, n, now));
    const said = refused ? this.refused(refused) : this.trouble() ?? this.gap(now);
    card(said?.words ?? "", said?.ways);
  }

  /**
   * @param {Figure} figure
   * @param {number} n its place
   * @param {number} now
   */
  figure({ figure, video, angle }, n, now) {
    const { state, listing } = angle;
    const words = this.slate(angle, n, now);
    const slate = within(figure, ".slate");
    put(slate, words);
    slate.hidden = !words;
    const waits = player.begun && state === WAITS && angle.waited > SLATE_MS; // else nothing is asked for
    if (angle === player.main) {
      $("wait").hidden = !waits || Boolean(player.stands);
      put($("wait"), say("loading"));
    }
    const seen = video.readyState >= 2 && (state === PLAYS || state === WAITS || state === MISSING);
    const still = here(this.stills.get(angle), "a still");
    const wanted = (player.live || !player.begun) && state !== GAP && state !== CANNOT;
    figure.dataset.shown = still.shows({ seen, wanted, off: player.begun && state === OFF });
    figure.dataset.state = state;
    figure.toggleAttribute("data-waits", waits);
    const away = waits && listing?.away ? say("away") : "";
    put(figure.querySelector(".words"), (state === OFF && this.ofNow(angle)) || away);
  }

  /**
   * Returns what is said instead of a picture; "" where there is one, or soon will be.
   * @param {Angle} angle
   * @param {number} n its place
   * @param {number} now
   */
  slate(angle, n, now) {
    const { state, since } = angle;
    if (state === CANNOT) return say("cannot");
    if (state === OFF && player.begun && !player.live) return say("offBack");
    if (state === MISSING && performance.now() - since > SLATE_MS) return say("missing");
    if (state !== GAP) return "";
    const outage = outageAt(this.lists.outages, n, now);
    return outage ? gapWords(outage) : this.ofNow(angle) || this.lists.record.goneAt(angle.id, now) || say("nothing");
  }

  // Returns why a camera has no picture now; "" back in time.
  ofNow(/** @type {Angle} */ { id }) { return player.live ? this.lists.record.angles.get(id)?.words ?? "" : ""; }

  /**
   * @param {Asked} asked
   * @returns {{ words: string, ways: Way[] }}
   */
  refused({ state, moment }) {
    const toLive = { text: say("watchLive"), act: this.live };
    if (state === moments.FUTURE) return { words: say("future"), ways: [toLive] };
    if (state !== moments.TOO_OLD) return { words: say("malformed"), ways: [toLive] };
    const [[begins]] = [...text.told.windows, [-Infinity]];
    const whole = (/** @type {number} */ ms) => `${text.day(ms)}, ${text.clock(ms)}`;
    if (moment < begins) return { words: say("before", { time: whole(begins) }), ways: [toLive] };
    const copy = { text: say("orderCopy"), href: orderLink([moment - AROUND_MS, moment + AROUND_MS]) };
    return { words: say("tooOldLink", { time: whole(moment) }), ways: document.getElementById("order") ? [copy, toLive] : [toLive] };
  }

  // Returns what is said when nothing has moved for a while that should; null while all is well.
  trouble() {
    const { stands, main, live } = player;
    if (!stands) return null;
    const why = !navigator.onLine ? "offline" : main.listing?.away ? "away" : "stands";
    const again = { text: say("tryAgain"), act: () => player.again() };
    const ways = live ? [again] : [again, { text: say("watchLive"), act: this.live }];
    return { words: say(why), ways };
  }

  /**
   * Returns how to get out of a gap, back in time; null where there is none.
   * @param {number} now
   */
  gap(now) {
    const { main, live } = player;
    if (live || (main.state !== GAP && main.state !== MISSING)) return null;
    const place = this.figures.findIndex(({ angle }) => angle === main);
    const next = outageAt(this.lists.outages, place, now)?.to ?? main.listing?.nextAfter(now);
    if (!next) return null;
    return { words: "", ways: [{ text: say("skipTo", { time: text.clock(next) }), act: () => this.seek(next) }] };
  }
}

/** @param {Outage} outage */
function gapWords({ from, to, causes }) {
  const values = { ...text.ends(from, to), cause: causes.join("; ") };
  return say(to === null ? "noPictureSince" : "noPicture", values);
}
