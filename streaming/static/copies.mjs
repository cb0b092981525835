// Looks whether an order has moved on, and shows the page anew when it has.
const state = document.getElementById("state");
const LOOK_MS = 3000;

async function look() {
  try {
    const answer = await fetch(state.dataset.order, { headers: { Accept: "application/json" } });
    if (answer.ok) {
      const order = await answer.json();
      if (order.state !== state.dataset.state) return location.reload();
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
