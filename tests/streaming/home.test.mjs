// The home page's search by keyboard, and places, on a page that is made up.
import assert from "node:assert/strict";
import { mock, test } from "node:test";

mock.timers.enable({ apis: ["setTimeout", "setInterval"] });

class Element extends EventTarget {
  dataset = {};
  hidden = true;
  value = "";
  textContent = "";
  children = [];
  append(...more) { this.children.push(...more); }
  replaceChildren(...more) { this.children = more; }
  scrollIntoView() {}
  setAttribute(name, value) { this[name] = value; }
  removeAttribute(name) { delete this[name]; }
}
const words = { lang: "en", live: "{live} of {count}", found: "{count}", none: "none", nowhere: "nowhere" };
const elements = Object.fromEntries(["q", "found", "count", "still", "near", "near-hint"].map((id) => [id, new Element()]));
elements.words = { textContent: JSON.stringify(words) };
const place = { search: "", href: "" };
const located = [];
const globals = {
  document: { getElementById: (id) => elements[id] ?? null, querySelectorAll: () => [], createElement: () => new Element() },
  location: place, matchMedia: () => ({ matches: false }), localStorage: { getItem: () => null },
  navigator: { geolocation: { getCurrentPosition: (...how) => located.push(how) } },
  fetch: async () => Response.json({ stations: [{ id: "s", number: "117", name: "School", live: 1, cameras: [1] }], total: 1 }),
};
for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true });
await import("../../streaming/static/home.mjs");
const { q: field, found: list } = elements;

const answered = async () => {
  for (let n = 0; n < 5; n += 1) await new Promise((done) => { setImmediate(done); });
};
async function types(text) {
  field.value = text;
  field.dispatchEvent(new Event("input"));
  mock.timers.tick(200);
  await answered();
}
const press = (key) => field.dispatchEvent(Object.assign(new Event("keydown", { cancelable: true }), { key }));

test("only a station that is seen can be chosen; the arrow opens the list again", async () => {
  await types("117");
  assert.equal(list.hidden, false);
  await types("");
  press("ArrowDown");
  press("Enter");
  assert.equal(place.href, "", "of an empty field nothing is listed");
  await types("117");
  press("Escape");
  assert.equal(list.hidden, true);
  press("ArrowDown");
  await answered();
  assert.equal(list.hidden, false);
  assert.equal(field["aria-activedescendant"], undefined);
  press("ArrowDown");
  assert.equal(field["aria-activedescendant"], "found-0");
  press("Enter");
  assert.equal(place.href, "/stations/s");
});

test("a device that does not find where it is says so in the end", () => {
  elements.near.dispatchEvent(new Event("click"));
  const [[, failed, { timeout }]] = located;
  assert.ok(timeout <= 30_000);
  failed();
  assert.equal(elements["near-hint"].textContent, "nowhere");
});
