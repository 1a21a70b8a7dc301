// A login in a real Chromium, on each store: a browser keeps the cookie of the reply that arrives last, whatever was sent
// first. `make test-page`.
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { start } from "./browser.mjs";

// Beside it, the browser may carry writes for KV.
const sessionCookie = async (page) => (await page.context().cookies()).find(({ name }) => name === "webpy_session_id");

for (const store of ["kv", "d1", "object"]) {
  describe(`a login on ${store}`, () => {
    let browser, origin, stop;

    before(async () => {
      const vars = { session_parameters: { store, touch_after: 0 } };
      ({ browser, origin, stop } = await start({ config: "tests/worker/routes/wrangler.toml", dist: "tests/worker/routes/dist", vars }));
    });
    after(() => stop?.());

    // A page of its own visitor, and what its fetches are answered.
    async function visit() {
      // The Worker's replies allow no scripts; the requests are what is looked at.
      const page = await (await browser.newContext({ bypassCSP: true })).newPage();
      await page.goto(`${origin}/whoami`);
      const get = (path) => page.evaluate(async (path) => (await fetch(path)).text(), `/${path}`);
      const cookie = async () => (await sessionCookie(page))?.value;
      return { page, get, cookie };
    }

    for (const slow of ["slow-count", "slow-look"]) {
      test(`is not undone by the reply to /${slow}, which was sent before it and arrives after it`, async () => {
        const { page, get, cookie } = await visit();
        assert.equal(await get("count"), "1");
        const before = await cookie();
        const order = await page.evaluate(async (slow) => {
          const order = [];
          const gate = `/gate?gate=${slow}`;
          const late = fetch(`${slow}?gate=${slow}`).then((reply) => order.push(`slow ${reply.status}`));
          // Until its handler runs, as long as a busy machine may need.
          for (let tries = 0; tries < 600 && (await (await fetch(gate)).text()) !== "1"; tries += 1) {
            await new Promise((resolve) => setTimeout(resolve, 50));
          }
          await fetch("/login").then((reply) => order.push(`login ${reply.status}`));
          await fetch(gate, { method: "POST" });
          await late;
          return order;
        }, `/${slow}`);
        assert.deepEqual(order, ["login 200", "slow 200"]);
        assert.notEqual(await cookie(), before);
        assert.equal(await get("whoami"), "101");
      });
    }

    test("leaves nothing to whoever knew the id from before", async () => {
      const [victim, thief] = [await visit(), await visit()];
      await victim.get("count");
      const known = await sessionCookie(victim.page);
      await victim.get("login");
      await thief.page.context().addCookies([known]);
      assert.equal(await thief.get("whoami"), "0");
      assert.equal(await thief.get("count"), "1");
      assert.equal(await thief.cookie(), known.value, "it is given no other");
      assert.equal(await thief.get("login"), "100", "a session of its own");
      assert.equal(await victim.get("whoami"), "101");
    });

    test("twice, by a double click, leaves the visitor logged in", async () => {
      const { page, get } = await visit();
      await get("count");
      await page.evaluate(() => Promise.all([fetch("/login"), fetch("/login")]));
      assert.ok(["100", "101"].includes(await get("whoami")));
    });
  });

  describe(`the login example on ${store}`, () => {
    let browser, origin, stop;

    before(async () => {
      const vars = { session_parameters: { store } };
      ({ browser, origin, stop } = await start({ config: "examples/login/wrangler.toml", dist: "examples/login/dist", vars }));
    });
    after(() => stop?.());

    test("logs in and out, whatever reply arrives last", async () => {
      const page = await (await browser.newContext({ bypassCSP: true })).newPage();
      await page.goto(`${origin}/`);
      const login = () => page.evaluate(async () => {
        const body = new URLSearchParams({ user: "ada", password: "lovelace" });
        return (await fetch("/login", { method: "POST", body })).text();
      });
      const who = () => page.evaluate(async () => (await fetch("/")).text());
      const cookie = async () => (await sessionCookie(page))?.value;
      assert.equal(await login(), "welcome");
      const before = await cookie();
      // The reply to a request that was sent before the second login is held back until after it.
      const [answered, loggedIn] = [Promise.withResolvers(), Promise.withResolvers()];
      await page.route("**/?late", async (route) => {
        const response = await route.fetch();
        answered.resolve();
        await loggedIn.promise;
        await route.fulfill({ response });
      });
      const late = page.evaluate(async () => (await fetch("/?late")).text());
      await answered.promise;
      assert.equal(await login(), "welcome");
      const own = await cookie();
      assert.notEqual(own, before);
      loggedIn.resolve();
      assert.equal(await late, "ada");
      assert.equal(await cookie(), own);
      assert.equal(await who(), "ada");
      // A thief's browser, with the id from before.
      const thief = await browser.newContext({ bypassCSP: true });
      await thief.addCookies([{ ...(await sessionCookie(page)), value: before }]);
      const thiefs = await thief.newPage();
      await thiefs.goto(`${origin}/`);
      assert.equal(await thiefs.innerText("body"), "nobody");
      assert.equal(await page.evaluate(async () => (await fetch("/logout", { method: "POST" })).text()), "goodbye");
      assert.equal(await cookie(), undefined);
      assert.equal(await who(), "nobody");
    });
  });
}
