// The page of an order: looks whether it has moved on, and copies its link.
const $ = (/** @type {string} */ id) => /** @type {HTMLInputElement} */ (document.getElementById(id));
const state = $("state");
const LOOK_MS = 3000;
const TIMEOUT_MS = 15_000;

/** @param {string} address of the order */
async function look(address) {
  try {
    const answer = await fetch(address, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (answer.ok) {
      const order = await answer.json();
      const moved = order.state !== state.dataset.state || order.received !== Number(state.dataset.received);
      if (moved) return location.replace(state.dataset.page ?? ""); // an answer to a form, loaded again, sends it again
      const bar = state.querySelector("progress");
      if (bar) {
        bar.value = order.hashed_bytes;
        /** @type {Element} */ (bar.nextElementSibling).textContent = `${order.hashed_words} / ${order.bytes_words}`;
      }
    }
  } catch {
    // the next look may be answered
  }
  setTimeout(look, document.hidden ? 10 * LOOK_MS : LOOK_MS, address);
}

if (state.dataset.order) setTimeout(look, LOOK_MS, state.dataset.order);

const copy = /** @type {HTMLButtonElement | null} */ (document.querySelector("[data-copy]"));

if (copy) {
  const { copy: id = "", done = "" } = copy.dataset;
  const link = $(id);
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    link.select();
    try {
      await navigator.clipboard.writeText(link.value);
    } catch { // not over plain HTTP
      if (!document.execCommand("copy")) return; // it stays selected
    }
    $("copied").textContent = copy.textContent = done;
  });
}
