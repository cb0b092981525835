// The page of an order: looks whether it has moved on, and copies its link.
const state = document.getElementById("state");
const LOOK_MS = 3000;

async function look() {
  try {
    const answer = await fetch(state.dataset.order, { headers: { Accept: "application/json" } });
    if (answer.ok) {
      const order = await answer.json();
      const moved = order.state !== state.dataset.state || order.received !== Number(state.dataset.received);
      if (moved) return location.reload();
      const bar = state.querySelector("progress");
      if (bar) {
        bar.value = order.hashed_bytes;
        bar.nextElementSibling.textContent = `${order.hashed_words} / ${order.bytes_words}`;
      }
    }
  } catch {
    // the next look may be answered
  }
  setTimeout(look, document.hidden ? 10 * LOOK_MS : LOOK_MS);
}

if (state.dataset.order) setTimeout(look, LOOK_MS);

const copy = /** @type {HTMLButtonElement | null} */ (document.querySelector("[data-copy]"));

if (copy) {
  const field = /** @type {HTMLInputElement} */ (document.getElementById(copy.dataset.copy));
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch { // not over plain HTTP
      if (!document.execCommand("copy")) return; // it stays selected
    }
    document.getElementById("copied").textContent = copy.textContent = copy.dataset.done;
  });
}
