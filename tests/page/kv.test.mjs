// What a real Chromium carries for a KV that shows old values, whatever the order in which replies arrive. `make test-page`.
import assert from "node:assert/strict";
import { createServer, request as ask } from "node:http";
import { after, before, test } from "node:test";
import { start } from "./browser.mjs";

let browser, origin, harness, stop, proxy;
// The reply to a request whose query is `held` waits here.
let held = Promise.withResolvers();
let isHeld = Promise.withResolvers();

before(async () => {
  const vars = { session_parameters: { store: "kv" } };
  const dist = "tests/worker/routes/dist";
  ({ browser, origin, harness, stop } = await start({ config: "tests/worker/over-faulty-stores.toml", dist, vars, faulty: true }));
  proxy = createServer((incoming, outgoing) => {
    const { method, url, headers } = incoming;
    ask(new URL(url, origin), { method, headers: { ...headers, host: new URL(origin).host } }, async (reply) => {
      if (url.endsWith("?held")) {
        isHeld.resolve();
        await held.promise;
      }
      outgoing.writeHead(reply.statusCode, reply.headers);
      reply.pipe(outgoing);
    }).end();
  });
  await new Promise((resolve) => proxy.listen(0, "localhost", resolve));
});
after(async () => {
  proxy?.closeAllConnections();
  proxy?.close();
  await stop?.();
});

const behaves = (how) => harness.getWorker("faulty").fetch("http://faulty/", { method: "POST", body: JSON.stringify(how) });
// What an isolate knows is gone with its instance.
const elsewhere = () => fetch(`${origin}/panic`);

test("a reply that is held back takes nothing back, and a place that KV has not reached shows the newest", async () => {
  const page = await (await browser.newContext({ bypassCSP: true })).newPage();
  const get = (path) => page.evaluate(async (path) => (await fetch(path)).text(), path);
  await page.goto(`http://localhost:${proxy.address().port}/whoami`);
  assert.equal(await get("/count"), "1");
  // From here on KV shows what it showed first.
  await behaves({ frozen: true });
  const late = get("/count?held");
  await isHeld.promise;
  assert.equal(await get("/count"), "3");
  held.resolve();
  assert.equal(await late, "2");
  const carried = async () => (await page.context().cookies()).map(({ name }) => name).filter((name) => name.split(".").length === 3);
  assert.equal((await carried()).length, 2, "each write has a name of its own");
  await elsewhere();
  assert.equal(await get("/whoami"), "3");
  assert.equal(await get("/count"), "4");
  assert.equal((await carried()).length, 1, "a reply takes away what its own is built on");
  await elsewhere();
  assert.equal(await get("/whoami"), "4");
  // Who has the id alone is shown what KV shows.
  await page.context().clearCookies({ name: /\..*\./ });
  await elsewhere();
  assert.equal(await get("/whoami"), "1");
});
