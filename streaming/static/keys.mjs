// Keys by where they are on the keyboard (`event.code`): they do the same in a Kazakh, a Russian and
// a Latin layout.

/** @type {Record<string, string>} */
const PLAIN = {
  Space: "toggle", KeyK: "toggle", KeyL: "live", KeyF: "full", KeyM: "sound", KeyG: "layout",
  KeyS: "share", KeyI: "markFrom", KeyO: "markTo", KeyT: "jump",
  ArrowLeft: "back", ArrowRight: "on", PageUp: "hourBack", PageDown: "hourOn",
  Comma: "pictureBack", Period: "pictureOn", BracketLeft: "gapBefore", BracketRight: "gapAfter",
  Slash: "help",
};
/** @type {Record<string, string>} */
const SHIFTED = {
  ArrowLeft: "minuteBack", ArrowRight: "minuteOn", Comma: "slower", Period: "faster", Slash: "help",
};

/**
 * Returns what a key asks for, or the number of a camera; null for nothing.
 * @param {Pick<KeyboardEvent, "code" | "key" | "shiftKey" | "ctrlKey" | "altKey" | "metaKey">} event
 */
export function wantedBy({ code, key, shiftKey, ctrlKey, altKey, metaKey }) {
  if (ctrlKey || altKey || metaKey) return null;
  if (key === "?") return "help"; // where it is depends on the layout, and it is on the list of keys
  if (shiftKey) return SHIFTED[code] ?? null;
  const digit = /^(?:Digit|Numpad)([1-9])$/.exec(code);
  return digit ? Number(digit[1]) : PLAIN[code] ?? null;
}

/**
 * Calls `act` for keys that are not meant for what has the focus.
 * @param {Document} page
 * @param {(wanted: string | number) => boolean} act false where it has nothing to do
 */
export function listen(page, act) {
  // Who clicked a button and then presses the space bar means to pause, not to click once more.
  /** @type {Element | null} */
  let clicked = null;
  page.addEventListener("click", ({ detail, target }) => {
    clicked = detail ? /** @type {Element} */ (target).closest("button") : null;
  });
  page.addEventListener("focusout", () => { clicked = null; });
  page.addEventListener("keyup", (event) => {
    if (event.code === "Space" && event.target === clicked) event.preventDefault(); // Firefox clicks here
  });
  page.addEventListener("keydown", (event) => {
    if (page.querySelector("dialog[open]")) return;
    const target = /** @type {Element} */ (event.target);
    // What was closed keeps the focus until the next picture of the page.
    const inside = target.closest("dialog") ? null : target.closest("input, select, textarea, a, button, summary");
    const typing = inside?.matches("input, select, textarea");
    if (typing || (inside && inside !== clicked && event.code === "Space")) return;
    const wanted = wantedBy(event);
    if (wanted !== null && act(wanted)) event.preventDefault();
  });
}
