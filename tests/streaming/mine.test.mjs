// Stations of one's own: kept in the browser, whatever is in there already.
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { mine, toggle } from "../../streaming/static/mine.mjs";

const KEY = "kuager-stations";

/** @param {string | null} kept */
function browser(kept) {
  const items = new Map(kept === null ? [] : [[KEY, kept]]);
  globalThis.localStorage = /** @type {Storage} */ ({
    getItem: (key) => items.get(key) ?? null,
    setItem: (key, value) => { items.set(key, value); },
  });
}

beforeEach(() => browser(null));

test("a station is added, and taken out again", () => {
  assert.deepEqual(mine(), []);
  toggle("s117");
  toggle("s204");
  assert.deepEqual(mine(), ["s117", "s204"]);
  toggle("s117");
  assert.deepEqual(mine(), ["s204"]);
});

test("the oldest go where there are too many", () => {
  for (let n = 0; n < 40; n += 1) toggle(`s${n}`);
  assert.equal(mine().length, 30);
  assert.equal(mine()[0], "s10");
});

test("what is no list of ids is none", () => {
  for (const kept of ["", "null", "{}", "[1, null, {}]", '["<b>", "s,1", ""]', "not JSON"]) {
    browser(kept);
    assert.deepEqual(mine(), [], kept);
  }
});

test("a browser that keeps nothing does no harm", () => {
  globalThis.localStorage = undefined;
  toggle("s117");
  assert.deepEqual(mine(), []);
});
