// The example of WebSockets and queues, in a real Chromium, on each store.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { start } from "./browser.mjs";

for (const store of ["kv", "d1", "object"]) {
  describe(`messages on ${store}`, () => {
    let browser, origin, stop;

    before(async () => {
      const vars = { session_parameters: { store } };
      ({ browser, origin, stop } = await start({ config: "examples/messages/wrangler.toml", dist: "examples/messages/dist", vars }));
    });
    after(() => stop?.());

    // What a socket answers to so many messages, one after the other, and with what code it is closed, if it is.
    const talk = (page, messages, to = origin) => page.evaluate(([messages, to]) => new Promise((done) => {
      const socket = new WebSocket(`${to.replace("http", "ws")}/socket`);
      const answers = [];
      socket.onopen = () => socket.send("hello");
      socket.onmessage = ({ data }) => {
        answers.push(data);
        if (answers.length === messages) done(answers);
        else socket.send("again");
      };
      socket.onclose = ({ code }) => done(`closed: ${code}`);
    }), [messages, to]);

    const visit = async () => {
      const page = await (await browser.newContext({ bypassCSP: true })).newPage();
      await page.goto(`${origin}/`);
      return page;
    };

    test("of a socket are counted in the session of its upgrade", async () => {
      const page = await visit();
      assert.deepEqual(await talk(page, 3), ["1", "2", "3"]);
      assert.deepEqual(await talk(page, 1), ["4"]);
      await page.goto(`${origin}/`);
      assert.equal(await page.innerText("body"), "4");
    });

    // A page beside it, to whose requests the browser adds the cookie.
    test("of a socket that another site's page opens are none", async () => {
      const page = await visit();
      const evil = createServer((_, reply) => reply.end("<title>evil</title>"));
      await new Promise((listening) => evil.listen(0, listening));
      try {
        const { hostname } = new URL(origin);
        await page.goto(`http://${hostname}:${evil.address().port}/`);
        assert.equal(await talk(page, 1, origin), "closed: 1006", "refused before it is opened");
      } finally {
        evil.close();
      }
      await page.goto(`${origin}/`);
      assert.deepEqual(await talk(page, 1), ["1"]);
    });

    test("of a socket without a session close it", async () => {
      const page = await visit();
      await page.context().clearCookies();
      assert.equal(await talk(page, 1), "closed: 4401");
    });

    test("of a queue are counted in the session of the cookie that they carry", async () => {
      const page = await visit();
      const text = (path, method) => page.evaluate(async ([path, method]) => (await fetch(path, { method })).text(), [path, method]);
      assert.equal(await text("/later", "POST"), "later");
      const until = Date.now() + 30_000;
      while ((await text("/")) !== "1" && Date.now() < until) await new Promise((done) => setTimeout(done, 200));
      assert.equal(await text("/"), "1");
    });
  });
}
