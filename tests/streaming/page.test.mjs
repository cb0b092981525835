// What a station's page decides without a page: moments in addresses, keys, outages, prices.
import assert from "node:assert/strict";
import { test } from "node:test";

import { wantedBy } from "../../streaming/static/keys.mjs";
import { asked, judge, parse, written } from "../../streaming/static/moment.mjs";
import { outageAt, outages } from "../../streaming/static/outages.mjs";
import { existing, ordered, price } from "../../streaming/static/price.mjs";

const NOW = Date.parse("2026-11-29T09:40:00Z");
const HOUR = 3_600_000;

test("a moment in an address, in every form that the server takes", () => {
  for (const text of ["2026-11-29T09:40:00Z", "2026-11-29T14:40:00+05:00", "2026-11-29T14:40:00 05:00",
    "2026-11-29t09:40:00.000z", String(NOW)]) assert.equal(parse(text), NOW, text);
  for (const text of ["", "tomorrow", "2026-11-29", "2026-13-01T00:00:00Z", "2026-11-29T09:40:00", "1e3", "-5"]) {
    assert.ok(Number.isNaN(parse(text)), text);
  }
  assert.equal(written(NOW + 480), "2026-11-29T09:40:00Z");
});

test("a link to a moment shows it or says why not", () => {
  const look = (search, said = {}) => asked(said, search, NOW, 2 * HOUR).state;
  assert.equal(look(""), "live");
  assert.equal(look("?angle=d"), "live");
  assert.equal(look("?t=2026-11-29T09:00:00Z"), "shown");
  assert.equal(look("?t=2026-11-29T07:00:00Z"), "too_old");
  assert.equal(look("?t=2999-01-01T00:00:00Z"), "future");
  assert.equal(look("?t=tomorrow"), "malformed");
  assert.equal(look("?t="), "malformed");
  assert.equal(judge(NOW, NOW, HOUR), "shown");
  // what the server said counts: it knows its window
  const said = asked({ momentMs: String(NOW - HOUR), momentState: "too_old" }, "?t=x", NOW, 2 * HOUR);
  assert.deepEqual(said, { state: "too_old", moment: NOW - HOUR });
});

test("keys are found by their place: Latin, Russian and Kazakh layouts do the same", () => {
  const press = (code, key, more = {}) => wantedBy({
    code, key, shiftKey: false, ctrlKey: false, altKey: false, metaKey: false, ...more,
  });
  for (const [latin, russian, code, wanted] of [
    ["k", "л", "KeyK", "toggle"], ["l", "д", "KeyL", "live"], ["f", "а", "KeyF", "full"], ["m", "ь", "KeyM", "sound"],
    ["g", "п", "KeyG", "layout"], ["s", "ы", "KeyS", "share"], [",", "б", "Comma", "pictureBack"],
    [".", "ю", "Period", "pictureOn"], ["[", "х", "BracketLeft", "gapBefore"], ["]", "ъ", "BracketRight", "gapAfter"],
    ["i", "ш", "KeyI", "markFrom"], ["o", "щ", "KeyO", "markTo"],
  ]) {
    assert.equal(press(code, latin), wanted);
    assert.equal(press(code, russian), wanted, `${russian} on a Russian keyboard`);
  }
  assert.equal(press("Digit3", "3"), 3);
  assert.equal(press("Digit3", "і"), 3, "the row of digits has letters in a Kazakh layout");
  assert.equal(press("Numpad2", "2"), 2);
  assert.equal(press("Slash", "?", { shiftKey: true }), "help");
  assert.equal(press("Digit7", "?", { shiftKey: true }), "help", "a Russian layout has it there");
  assert.equal(press("Period", "Ю", { shiftKey: true }), "faster");
  assert.equal(press("KeyS", "s", { ctrlKey: true }), null, "the browser's own");
  assert.equal(press("KeyQ", "q"), null);
  assert.equal(press("Digit3", "#", { shiftKey: true }), null);
});

const gap = (from, to, words = "away") => ({ no: from, from: from * 1000, to: to === null ? null : to * 1000, words });

test("neighbouring causes of one outage are one event, and so are cameras that went together", () => {
  const one = [gap(100, 104, "no data"), gap(104, 130, "no answer"), gap(133, 160, "no data"), gap(900, 960)];
  const other = [gap(101, 103, "no data"), gap(103, 131, "no answer"), gap(134, 158, "no data"), gap(902, 955)];
  const found = outages([one, other]);
  assert.deepEqual(found, [
    { from: 100_000, to: 160_000, cameras: [0, 1], causes: ["no data", "no answer"] },
    { from: 900_000, to: 960_000, cameras: [0, 1], causes: ["away"] },
  ]);
  assert.equal(outageAt(found, 1, 132_000), found[0], "the second or two between them belong to it");
  assert.equal(outageAt(found, 0, 500_000), null);
});

test("outages apart stay apart, and one that lasts has no end", () => {
  const found = outages([[gap(10, 20), gap(60, null)], [gap(60, 200)], []]);
  assert.deepEqual(found.map(({ from, to, cameras }) => [from, to, cameras]), [
    [10_000, 20_000, [0]], [60_000, null, [0]], [60_000, 200_000, [1]],
  ]);
  assert.equal(outageAt(found, 0, 1e12), found[1]);
});

test("a copy costs what the server says it does", () => {
  const prices = { currency: "KZT", per_minute: 3333, minimum: 0, tax: 1600, decimals: 2 };
  // the same numbers as in tests/copies: 1:10 of a camera and 0:20 of another, rounded down
  assert.equal(price(prices, [70_000, 20_000]), 3888 + 1111 + Math.floor((3888 + 1111) * 0.16));
  assert.equal(price({ ...prices, minimum: 100_000, tax: 0 }, [1000]), 100_000);
  assert.equal(price(prices, [0, 0]), 0);
  assert.equal(existing([[0, 10], [20, 50]], 5, 25), 10);
});

test("what a marked stretch costs at most is what its form asks for, in whole seconds", () => {
  const stretch = ordered([10_400, 70_600]);
  assert.deepEqual(stretch, [10_000, 71_000]);
  assert.deepEqual(ordered(stretch), stretch);
  assert.equal(existing([[0, 100_000]], ...stretch), 61_000);
});
