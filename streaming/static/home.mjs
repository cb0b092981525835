// The home page: answers while typing, and pictures that are renewed.

const words = JSON.parse(document.getElementById("words").textContent);
const WAIT_MS = 120; // after a letter, for the next one
const RENEW_MS = 10_000;
const SHOWN = 8;
const field = /** @type {HTMLInputElement} */ (document.getElementById("q"));
const list = document.getElementById("found");
const count = document.getElementById("count");
const carried = new URLSearchParams(location.search).has("lang") ? `?lang=${words.lang}` : "";
let timer = 0;
let asked = 0;
let chosen = -1;

/**
 * @param {string} text
 * @param {Values} values
 */
function fill(text, values) {
  return text.replace(/\{(\w+)\}/g, (_all, name) => String(values[name]));
}

/**
 * @param {string} name
 * @param {(Node | string)[]} children
 */
function element(name, ...children) {
  const one = document.createElement(name);
  one.append(...children);
  return one;
}

function close() {
  list.hidden = true;
  field.ariaExpanded = "false";
  choose(-1);
}

/** @param {number} n */
function choose(n) {
  const options = [...list.children];
  chosen = options.length ? Math.max(-1, Math.min(n, options.length - 1)) : -1;
  options.forEach((one, at) => { one.ariaSelected = String(at === chosen); });
  if (chosen < 0) field.removeAttribute("aria-activedescendant");
  else {
    field.setAttribute("aria-activedescendant", options[chosen].id);
    options[chosen].scrollIntoView({ block: "nearest" });
  }
}

async function search() {
  const query = field.value.trim();
  asked += 1;
  const mine = asked;
  if (!query) {
    close();
    return;
  }
  try {
    const parameters = new URLSearchParams({ q: query, limit: String(SHOWN), lang: words.lang });
    const answer = await fetch(`/api/v1/stations?${parameters}`);
    if (!answer.ok) return;
    const found = await answer.json();
    if (mine === asked) show(found);
  } catch { /* the button searches, too */ }
}

/** @param {{ stations: FoundStation[], total: number, suggestions?: FoundStation[] }} found */
function show({ stations, total, suggestions = [] }) {
  const shown = stations.length ? stations : suggestions.slice(0, SHOWN);
  list.replaceChildren(...shown.map((one, n) => {
    const where = [one.address, one.district, one.region].filter(Boolean).join(", ");
    const number = element("strong", one.number);
    const option = element("li", element("span", number, ` ${one.name}`, element("small", where)),
      element("span", fill(words.live, { live: one.live, count: one.cameras.length })));
    option.lastElementChild.className = "count";
    option.role = "option";
    option.id = `found-${n}`;
    option.dataset.href = `/stations/${one.id}${carried}`;
    option.addEventListener("mousedown", (event) => event.preventDefault()); // the field keeps the focus
    option.addEventListener("click", () => { location.href = option.dataset.href; });
    return option;
  }));
  list.hidden = !shown.length;
  field.ariaExpanded = String(!list.hidden);
  count.textContent = stations.length ? fill(words.found, { count: total.toLocaleString(words.lang) }) : words.none;
  choose(-1);
}

field.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(search, WAIT_MS);
});
field.addEventListener("blur", close);
field.addEventListener("keydown", (event) => {
  if (event.key === "Escape") close();
  else if (event.key === "ArrowDown") choose(chosen + 1);
  else if (event.key === "ArrowUp") choose(chosen - 1);
  else if (event.key === "Enter" && chosen >= 0) location.href = /** @type {HTMLElement} */ (list.children[chosen]).dataset.href;
  else return;
  event.preventDefault();
});

// -- counts ------------------------------------------------------------------------------

const RECOUNT_MS = 15_000;

async function recount() {
  if (document.hidden) return;
  const query = `?lang=${words.lang}`;
  const paths = [`/api/v1/election${query}`];
  if (words.region) paths.push(`/api/v1/regions/${encodeURIComponent(words.region)}${query}`);
  try {
    const [all, region] = await Promise.all(paths.map(async (path) => (await fetch(path)).json()));
    document.getElementById("recorded").textContent = all.words;
    for (const area of region?.districts ?? all.regions) {
      const one = document.querySelector(`[data-area="${CSS.escape(area.id)}"]`);
      if (!one) continue;
      one.textContent = area.words;
      one.classList.toggle("some", area.stations_live < area.stations);
    }
  } catch { /* the ones there stay */ }
}

setInterval(recount, RECOUNT_MS);

// -- pictures ------------------------------------------------------------------------------

const wall = document.getElementById("wall");
const still = document.getElementById("still");
let held = matchMedia("(prefers-reduced-motion: reduce)").matches;

function say() {
  still.ariaPressed = String(held);
  still.textContent = words.hold;
}

/**
 * @param {Element} item
 * @param {Shown} one
 */
function renew(item, one) {
  const link = item.querySelector("a");
  const image = item.querySelector("img");
  const fresh = `${one.picture}?n=${Math.floor(Date.now() / RENEW_MS)}`;
  const next = new Image();
  next.onload = () => { // never an empty place while it loads
    image.src = fresh;
    const query = new URLSearchParams({ angle: one.camera });
    if (carried) query.set("lang", words.lang);
    link.href = `/stations/${one.station}?${query}`;
    link.querySelector("span").replaceChildren(element("strong", one.number), ` ${one.name} · ${one.title}`);
  };
  next.src = fresh;
}

async function turn() {
  if (held || document.hidden || !wall || wall.matches(":focus-within, :hover")) return;
  const items = [...wall.querySelectorAll("li:not(.none)")];
  if (!items.length) return;
  try {
    const answer = await fetch(`/api/v1/wall?limit=${items.length}&lang=${words.lang}`);
    (await answer.json()).wall.forEach((/** @type {Shown} */ one, /** @type {number} */ n) => { if (items[n]) renew(items[n], one); });
  } catch { /* the ones there stay */ }
}

if (wall && !wall.querySelector(".none")) {
  still.hidden = false;
  say();
  still.addEventListener("click", () => {
    held = !held;
    say();
  });
  setInterval(turn, RENEW_MS);
}
