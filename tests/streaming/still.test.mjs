// The picture that stands where a video is not: it is of now, or it is not shown.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Still } from "../../streaming/static/still.mjs";

const SEEN = { seen: true, wanted: true, off: false };
const LOADS = { seen: false, wanted: true, off: false };
const OFF = { seen: false, wanted: true, off: true };
const PAGE = "http://k/live/s/c/thumb.jpg?lang=ru";

/** A picture of a page, and a clock. */
function picture() {
  const heard = {};
  const one = { src: PAGE, complete: true, at: 0, addEventListener: (type, act) => { heard[type] = act; } };
  const still = new Still(one, () => one.at);
  return { one, still, hear: (type) => heard[type]() };
}

test("what came with the page stands until there was a video, and takes nothing from its link", () => {
  const { one, still } = picture();
  one.at = 60_000;
  assert.equal(still.shows(LOADS), "still");
  assert.equal(one.src, PAGE);
});

test("after hours of video a picture of the page's beginning is not shown as one of now", () => {
  const { one, still, hear } = picture();
  assert.equal(still.shows(SEEN), "video");
  one.at = 10_800_000; // the video begins anew: sound was wanted, or the browser could not read it
  assert.equal(still.shows(LOADS), "none");
  const asked = one.src;
  assert.match(asked, /thumb\.jpg\?lang=ru&n=\d+$/);
  one.at += 7_000;
  assert.equal(still.shows(LOADS), "none");
  assert.equal(one.src, asked, "it comes yet");
  hear("load");
  assert.equal(still.shows(LOADS), "still");
});

test("that of a camera that does not play is renewed, and not shown once it is old", () => {
  const { one, still, hear } = picture();
  assert.equal(still.shows(OFF), "still");
  assert.equal(one.src, PAGE);
  one.at = 5_000;
  assert.equal(still.shows(OFF), "still", "the last one, while it comes");
  assert.notEqual(one.src, PAGE);
  hear("error");
  one.at = 20_000;
  assert.equal(still.shows(OFF), "none");
  hear("load");
  assert.equal(still.shows(OFF), "still");
});

test("beside a video that is seen, or where none is wanted, no pictures are asked for", () => {
  const { one, still } = picture();
  for (one.at = 0; one.at < 60_000; one.at += 200) {
    assert.equal(still.shows(SEEN), "video");
    assert.equal(still.shows({ ...OFF, wanted: false }), "none");
  }
  assert.equal(one.src, PAGE);
});
