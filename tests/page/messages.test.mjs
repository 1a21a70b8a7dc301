// The example of WebSockets and queues, in a real Chromium, on each store.
import assert from "node:assert/strict";
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
    const talk = (page, messages) => page.evaluate((messages) => new Promise((done) => {
      const socket = new WebSocket(`ws://${location.host}/socket`);
      const answers = [];
      socket.onopen = () => socket.send("hello");
      socket.onmessage = ({ data }) => {
        answers.push(data);
        if (answers.length === messages) done(answers);
        else socket.send("again");
      };
      socket.onclose = ({ code }) => done(`closed: ${code}`);
    }), messages);

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

    test("of a socket without a session close it", async () => {
      const page = await visit();
      await page.context().clearCookies();
      assert.equal(await talk(page, 1), "closed: 4401");
    });

    test("of a queue are counted in the session of the cookie that they carry", async () => {
      const page = await visit();
      const text = async (path) => page.evaluate(async (path) => (await fetch(path)).text(), path);
      assert.equal(await text("/later"), "later");
      const until = Date.now() + 30_000;
      while ((await text("/")) !== "1" && Date.now() < until) await new Promise((done) => setTimeout(done, 200));
      assert.equal(await text("/"), "1");
    });
  });
}
