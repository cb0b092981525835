// The stations that somebody keeps in this browser, and nowhere else.

const KEY = "kuager-stations";
const MOST = 30;
const ID = /^[a-z0-9][a-z0-9_-]{0,63}$/;

/**
 * Returns their ids, the newest last; none where the browser keeps nothing.
 * @returns {string[]}
 */
export function mine() {
  try {
    const ids = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(ids) ? ids.filter((id) => typeof id === "string" && ID.test(id)).slice(-MOST) : [];
  } catch {
    return [];
  }
}

/**
 * Adds a station, or takes it out.
 * @param {string} id
 */
export function toggle(id) {
  const known = mine();
  const ids = known.includes(id) ? known.filter((one) => one !== id) : [...known, id].slice(-MOST);
  try {
    localStorage.setItem(KEY, JSON.stringify(ids));
  } catch { /* a browser that keeps nothing, as in a private window of some */ }
}
