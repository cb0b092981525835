// What a page's own template gives to its scripts: an element that is not there is a fault of ours.

/**
 * Returns the element of an id.
 * @param {string} id
 */
export const $ = (id) => here(document.getElementById(id), `#${id}`);
/** @param {string} id */
export const field = (id) => /** @type {HTMLInputElement} */ ($(id));

/**
 * Returns the first element below another one that a selector names.
 * @template {Element} [T=HTMLElement]
 * @param {ParentNode} root
 * @param {string} selector
 */
export const within = (root, selector) => here(/** @type {T | null} */ (root.querySelector(selector)), selector);

/**
 * Returns what has to be there.
 * @template T
 * @param {T} one
 * @param {string} name
 * @returns {NonNullable<T>}
 */
export function here(one, name) {
  if (one === null || one === undefined) throw new Error(`${name} is not there`);
  return one;
}
