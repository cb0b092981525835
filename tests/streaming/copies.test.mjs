// The page of an order looks whether it has moved on, on a page that is made up.
import assert from "node:assert/strict";
import { mock, test } from "node:test";

mock.timers.enable({ apis: ["setTimeout"] });

test("an order that has moved on is shown by its own address: the page may be the answer to a form", async () => {
  const order = { state: "awaiting_payment", received: 0 };
  const dataset = { order: "/api/v1/copies/orders/x?lang=ru", page: "/copies/x?lang=ru", state: order.state, received: "0" };
  const went = [];
  Object.assign(globalThis, {
    document: { getElementById: () => ({ dataset, querySelector: () => null }), querySelector: () => null, hidden: false },
    location: { replace: (to) => went.push(to), reload: () => went.push("the form is sent again") },
    fetch: async () => Response.json(order),
  });
  await import("../../streaming/static/copies.mjs");
  const looks = async () => {
    mock.timers.tick(3000);
    for (let n = 0; n < 5; n += 1) await new Promise((done) => { setImmediate(done); });
  };
  await looks();
  assert.deepEqual(went, []);
  order.received = 5000;
  await looks();
  assert.deepEqual(went, ["/copies/x?lang=ru"]);
});
