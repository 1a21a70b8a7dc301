// The example of accounts in a real Chromium: people with several browsers, and the form of another site. The cookie's name is
// the one of its wrangler.toml, `__Host-session`, which Chromium takes over plain http from localhost.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { chromium } from "playwright-core";
import { start } from "./browser.mjs";

const FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0";
const SAFARI =
  "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1";
const EDGE =
  "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0";
const OLD = "correct horse battery";
const NEW = "staple, and a new one";

let browser, harness, origin, stop;

const begin = async (vars) => {
  ({ browser, harness, origin, stop } = await start({
    config: "examples/accounts/wrangler.toml", dist: "examples/accounts/dist", vars,
  }));
  // The example looks at a host's own name: 127.0.0.1 and localhost are two sites.
  origin = origin.replace("127.0.0.1", "localhost");
};

// A browser of its own, which somebody sits at.
const sit = async (options) => (await browser.newContext(options)).newPage();
const text = (page) => page.innerText("body");
const path = (page) => new URL(page.url()).pathname;
const sessionCookie = async (page) => (await page.context().cookies()).find(({ name }) => name === "__Host-session");

// Clicks a button, and gives the reply to its form.
const press = async (page, button) => {
  const [reply] = await Promise.all([
    page.waitForResponse((response) => response.request().method() === "POST"),
    page.waitForNavigation(),
    button.click(),
  ]);
  return reply.status();
};
const pressed = (page, name) => press(page, page.getByRole("button", { name, exact: true }));

const fill = async (page, where, fields) => {
  await page.goto(`${origin}${where}`);
  for (const [name, value] of Object.entries(fields)) await page.fill(`input[name=${name}]`, value);
};
const signUp = async (page, name, password = OLD) => {
  await fill(page, "/sign-up", { name, password });
  return pressed(page, "Sign up");
};
const signIn = async (page, name, password = OLD, { stay = false } = {}) => {
  await fill(page, "/sign-in", { name, password });
  if (stay) await page.check("input[name=stay]");
  return pressed(page, "Sign in");
};
const changePassword = async (page, old, wanted) => {
  await fill(page, "/password", { old, new: wanted });
  return pressed(page, "Change your password");
};
const isSignedIn = async (page) => {
  await page.goto(`${origin}/`);
  return (await text(page)).includes("You are signed in as");
};
// What the list of devices says of each.
const devices = async (page) => {
  await page.goto(`${origin}/devices`);
  return page.locator("li").allInnerTexts();
};
const device = (page, label) => page.locator("li", { hasText: label });

for (const store of ["d1", "object"]) {
  describe(`accounts with their sessions in ${store}`, () => {
    before(() => begin({ session_parameters: { store, cookie_name: "__Host-session" } }));
    after(() => stop?.());

    test("a visitor signs up, out and in", async () => {
      const page = await sit();
      assert.equal(await isSignedIn(page), false);
      assert.equal(await sessionCookie(page), undefined, "who only looks gets no session");
      assert.equal(await signUp(page, "  grace "), 303);
      assert.match(await text(page), /You are signed in as grace\./);
      const before = await sessionCookie(page);
      assert.deepEqual([before.secure, before.httpOnly, before.sameSite, before.expires], [true, true, "Lax", -1]);
      assert.equal(await pressed(page, "Sign out"), 303);
      assert.match(await text(page), /You are not signed in/);
      assert.equal(await sessionCookie(page), undefined);
      assert.equal(await signIn(page, "GRACE"), 303);
      assert.match(await text(page), /You are signed in as grace\./, "one name, however it is spelled");
      assert.notEqual((await sessionCookie(page)).value, before.value);
    });

    test("a sign-up that is sent twice makes one account, and both times its visitor is signed in", async () => {
      const page = await sit({ bypassCSP: true });
      await page.goto(`${origin}/sign-up`);
      const replies = await page.evaluate((password) => {
        const send = async () => {
          const reply = await fetch("/sign-up", { method: "POST", body: new URLSearchParams({ name: "twice", password }) });
          return reply.text();
        };
        return Promise.all([send(), send()]);
      }, OLD);
      for (const reply of replies) assert.match(reply, /You are signed in as <strong>twice/);
      assert.equal(await isSignedIn(page), true);
    });

    test("two browsers see each other, and one ends the other", async () => {
      const [desk, phone] = [await sit({ userAgent: FIREFOX }), await sit({ userAgent: SAFARI })];
      await signUp(desk, "ada");
      await signIn(phone, "ada");
      const stranger = await sit();
      await signUp(stranger, "stranger");
      const listed = await devices(desk);
      assert.equal(listed.length, 2);
      const [own, other] = [/Firefox on Linux/, /Safari on iPhone/].map((label) => listed.find((entry) => label.test(entry)));
      assert.match(own, /this one/);
      assert.doesNotMatch(other, /this one/);
      for (const entry of listed) assert.match(entry, /signed in just now, last used just now/);
      assert.equal(await press(desk, device(desk, "Safari on iPhone").getByRole("button")), 303);
      assert.equal(path(desk), "/devices");
      assert.equal((await devices(desk)).length, 1);
      await phone.goto(`${origin}/devices`);
      assert.equal(path(phone), "/sign-in", "signed out at its next click");
      assert.equal(await isSignedIn(phone), false);
      assert.equal(await isSignedIn(stranger), true);
      assert.equal((await devices(stranger)).length, 1);
      // Its own it may end there as well.
      await devices(desk);
      await press(desk, device(desk, "this one").getByRole("button"));
      assert.equal(await isSignedIn(desk), false);
    });

    test("another user's session cannot be ended", async () => {
      const [page, other] = [await sit(), await sit()];
      await signUp(page, "mallory");
      await signUp(other, "bob");
      await devices(other);
      const handle = await other.getAttribute("input[name=handle]", "value");
      await devices(page);
      await page.locator("input[name=handle]").evaluate((input, handle) => { input.value = handle; }, handle);
      assert.equal(await press(page, device(page, "this one").getByRole("button")), 303);
      assert.equal(await isSignedIn(page), true);
      assert.equal(await isSignedIn(other), true);
    });

    test("all others are ended at once", async () => {
      const [desk, phone, other] = [await sit(), await sit({ userAgent: SAFARI }), await sit({ userAgent: EDGE })];
      await signUp(desk, "hedy");
      await signIn(phone, "hedy");
      await signIn(other, "hedy");
      assert.ok((await devices(desk)).some((entry) => entry.startsWith("Edge on Windows")));
      await pressed(desk, "Sign out all others");
      assert.match(await text(desk), /2 others were signed out/);
      await desk.reload();
      assert.doesNotMatch(await text(desk), /signed out\./, "it is said once");
      assert.deepEqual([await isSignedIn(desk), await isSignedIn(phone), await isSignedIn(other)], [true, false, false]);
    });

    test("a change of the password signs out all others and not this one", async () => {
      const [desk, phone] = [await sit({ userAgent: FIREFOX }), await sit({ userAgent: SAFARI })];
      await signUp(desk, "emmy");
      await signIn(phone, "emmy");
      const before = await sessionCookie(desk);
      for (const [old, wanted, sentence] of [[NEW, NEW, /not your password/], [OLD, "short", /too short/]]) {
        assert.equal(await changePassword(desk, old, wanted), 422);
        assert.match(await desk.innerText("[role=alert]"), sentence);
      }
      assert.equal(await isSignedIn(phone), true);
      assert.equal(await changePassword(desk, OLD, NEW), 303);
      assert.equal(path(desk), "/devices");
      assert.match(await text(desk), /Your password is changed\. 1 other was signed out\./);
      const listed = await devices(desk);
      assert.equal(listed.length, 1);
      assert.match(listed[0], /Firefox on Linux – this one/);
      assert.equal(await isSignedIn(desk), true);
      assert.notEqual((await sessionCookie(desk)).value, before.value, "a new id");
      assert.equal(await isSignedIn(phone), false);
      assert.equal(await signIn(phone, "emmy", OLD), 422, "the old password no longer works");
      assert.equal(await signIn(phone, "emmy", NEW), 303);
    });

    test("a change of the password that was cut short can be sent again, and then signs out all others", async () => {
      const [desk, phone] = [await sit(), await sit()];
      await signUp(desk, "irene");
      await signIn(phone, "irene");
      // As it is where the password was changed, and nothing after it was done.
      await signUp(await sit(), "irenes-next", NEW);
      const { DB } = await harness.getWorker().getEnv();
      const changed = "UPDATE users SET hash = (SELECT hash FROM users WHERE name = 'irenes-next') WHERE name = 'irene'";
      assert.equal((await DB.prepare(changed).run()).meta.changes, 1);
      assert.equal(await isSignedIn(phone), true);
      assert.equal(await changePassword(desk, OLD, NEW), 303);
      assert.match(await text(desk), /Your password is changed\. 1 other was signed out\./);
      assert.equal(await isSignedIn(desk), true);
      assert.equal(await isSignedIn(phone), false);
      assert.equal(await changePassword(desk, OLD, NEW), 303);
      assert.match(await text(desk), /Your password is changed\. There were no others to sign out\./);
      assert.equal(await changePassword(desk, OLD, "a third one"), 422, "who knows neither changes nothing");
      assert.equal(await signIn(phone, "irene", NEW), 303);
    });

    test("a change of the password that meets other requests of its session is done once, and is told", async () => {
      const page = await sit({ bypassCSP: true });
      await signUp(page, "joan");
      const passwords = [OLD, NEW, "a third one", "a fourth one"];
      for (const [index, wanted] of passwords.slice(1).entries()) {
        await page.goto(`${origin}/devices`);
        const told = await page.evaluate(async ([old, wanted]) => {
          const send = (path, fields) => fetch(path, { method: "POST", body: new URLSearchParams(fields), redirect: "manual" });
          // Each of these changes the session, for its notice.
          const others = [0, 10, 20, 40, 60].map((delay) =>
            new Promise((done) => setTimeout(done, delay)).then(() => send("/devices/end-others", {})));
          const change = await fetch("/password", { method: "POST", body: new URLSearchParams({ old, new: wanted }) });
          await Promise.all(others);
          return [change.status, new URL(change.url).pathname];
        }, [passwords[index], wanted]);
        assert.deepEqual(told, [200, "/devices"], "not that the old password is wrong, and no failure");
        assert.equal(await isSignedIn(page), true);
        const other = await sit();
        assert.equal(await signIn(other, "joan", passwords[index]), 422);
        assert.equal(await signIn(other, "joan", wanted), 303);
      }
    });

    test("“stay signed in” survives the browser's closing, and otherwise nobody stays signed in", async () => {
      await signUp(await sit(), "rosa");
      const days = (cookie) => Math.round((cookie.expires - Date.now() / 1000) / 86_400);
      for (const stay of [true, false]) {
        const folder = await mkdtemp(join(tmpdir(), "accounts-"));
        const open = () => chromium.launchPersistentContext(folder, { executablePath: process.env.CHROME, args: ["--no-sandbox"] });
        let context = await open();
        try {
          let page = await context.newPage();
          await signIn(page, "rosa", OLD, { stay });
          assert.equal(await isSignedIn(page), true);
          if (stay) assert.equal(days(await sessionCookie(page)), 30);
          // Also after a change of the password, which is a sign-in.
          if (stay) {
            await changePassword(page, OLD, OLD);
            assert.equal(days(await sessionCookie(page)), 30);
          }
          await context.close();
          context = await open();
          page = await context.newPage();
          assert.equal(await isSignedIn(page), stay);
        } finally {
          await context.close();
          await rm(folder, { recursive: true, force: true });
        }
      }
    });
  });
}

describe("accounts as wrangler.toml has them", () => {
  before(() => begin());
  after(() => stop?.());

  test("a sign-up says what to mend", async () => {
    const [first, page] = [await sit(), await sit()];
    await signUp(first, "taken");
    for (const [name, password, sentence] of [
      ["Taken", NEW, /That name is taken/],
      ["", OLD, /Please choose a name/],
      [" ", OLD, /Please choose a name/],
      ["n".repeat(65), OLD, /That name is too long/],
      ["somebody", "", /Please choose a password/],
      ["somebody", "1234567", /too short/],
      ["somebody", "p".repeat(1001), /too long/],
    ]) {
      assert.equal(await signUp(page, name, password), 422);
      assert.match(await page.innerText("[role=alert]"), sentence);
      assert.equal(await page.inputValue("input[name=name]"), name.trim(), "what was typed is still there");
      assert.equal(await page.inputValue("input[name=password]"), "", "and no password");
    }
    assert.equal(await isSignedIn(page), false);
    assert.equal(await signIn(page, "taken", NEW), 422, "the first one's password is as it was");
    assert.equal(await signUp(page, "somebody", "é".repeat(8)), 303, "characters are counted, not bytes");
    assert.equal(await signUp(await sit(), "n".repeat(64), "p".repeat(1000)), 303);
  });

  test("a wrong name and a wrong password are told the same", async () => {
    const page = await sit();
    await signUp(await sit(), "known");
    const told = [];
    for (const [name, password] of [["known", NEW], ["unknown", OLD]]) {
      assert.equal(await signIn(page, name, password), 422);
      told.push(await page.innerText("[role=alert]"));
    }
    assert.deepEqual(told, Array(2).fill("The name or the password is wrong."));
    assert.equal(await signIn(page, "known", ""), 422);
    assert.match(await page.innerText("[role=alert]"), /both fields/);
  });

  test("a name is shown as it was written, and is no HTML", async () => {
    const page = await sit();
    const name = `<b>x</b>"'&`;
    assert.equal(await signUp(page, name, "short"), 422);
    assert.equal(await page.inputValue("input[name=name]"), name);
    assert.equal(await signUp(page, name), 303);
    assert.equal(await page.innerText("strong"), name);
    assert.equal(await page.locator("b").count(), 0);
  });

  test("who signed in long ago is asked for the password before others are ended", async () => {
    const [desk, phone] = [await sit(), await sit()];
    await signUp(desk, "mary");
    await signIn(phone, "mary");
    const { DB } = await harness.getWorker().getEnv();
    const { results } = await DB.prepare("SELECT session_id, extensions FROM sessions WHERE extensions LIKE '%user=mary %'").all();
    for (const { session_id, extensions } of results) {
      const earlier = extensions.replace(/signed-in=(\d+)/, (_, at) => `signed-in=${at - 3 * 3600}`);
      await DB.prepare("UPDATE sessions SET extensions = ?2 WHERE session_id = ?1").bind(session_id, earlier).run();
    }
    assert.match((await devices(desk))[0], /signed in 3 hours ago/);
    await pressed(desk, "Sign out all others");
    assert.equal(path(desk), "/sign-in");
    assert.match(await text(desk), /give your password again/);
    assert.equal(await isSignedIn(phone), true);
    await signIn(desk, "mary");
    await devices(desk);
    await pressed(desk, "Sign out all others");
    assert.match(await text(desk), /1 other was signed out/);
    assert.equal(await isSignedIn(phone), false);
  });

  test("a form that a page of another origin sends is refused, and the session is as it was", async () => {
    const page = await sit();
    await signUp(page, "lise");
    const before = await sessionCookie(page);
    const evil = createServer((_, reply) => {
      reply.setHeader("Content-Type", "text/html");
      reply.end(`<form method="post" action="${origin}/sign-out"><button>Win a prize</button></form>
        <form method="post" action="${origin}/sign-in"><input name="name" value="eve"><input name="password" value="${OLD}">
        <button>Win another</button></form>`);
    });
    await new Promise((listening) => evil.listen(0, listening));
    try {
      await signUp(await sit(), "eve");
      // Another site, whose form comes without the cookie; and a neighbour on the same site, whose form comes with it.
      for (const host of ["127.0.0.1", "localhost"]) {
        for (const button of ["Win a prize", "Win another"]) {
          await page.goto(`http://${host}:${evil.address().port}/`);
          assert.equal(await pressed(page, button), 403, `${host}: ${button}`);
          assert.match(await text(page), /Another site sent this request, so nothing was done/);
          assert.equal((await sessionCookie(page)).value, before.value);
          await page.goto(`${origin}/`);
          assert.match(await text(page), /You are signed in as lise/);
        }
      }
    } finally {
      evil.close();
    }
  });

  test("what is no form of ours is answered by a page", async () => {
    const page = await sit({ bypassCSP: true });
    await page.goto(`${origin}/sign-in`);
    const status = (where, options) => page.evaluate(async ([where, options]) => {
      const reply = await fetch(where, { method: "POST", ...options });
      return [reply.status, (await reply.text()).startsWith("<!doctype html>")];
    }, [where, options]);
    for (const options of [
      {},
      { body: "{" },
      { body: "--", headers: { "Content-Type": "multipart/form-data; boundary=x" } },
      { body: "name=%ff%00&password=%ff", headers: { "Content-Type": "application/x-www-form-urlencoded" } },
    ]) {
      for (const where of ["/sign-up", "/sign-in"]) assert.deepEqual(await status(where, options), [422, true]);
    }
    const long = { body: "x".repeat(50_000), headers: { "Content-Type": "application/x-www-form-urlencoded" } };
    for (const where of ["/sign-up", "/sign-in", "/password"]) assert.deepEqual(await status(where, long), [413, true]);
    assert.deepEqual(await status("/nosuch", {}), [404, true]);
    await signUp(page, "ida");
    for (const handle of ["", "x", "0".repeat(16)]) {
      const body = `handle=${handle}`;
      const headers = { "Content-Type": "application/x-www-form-urlencoded" };
      assert.deepEqual(await status("/devices/end", { body, headers }), [200, true], "nothing is ended, and the list is shown");
    }
    assert.deepEqual(await status("/password", {}), [422, true]);
    assert.equal(await isSignedIn(page), true);
  });

  test("its database holds neither a password nor an id", async () => {
    const page = await sit();
    await signUp(page, "vera", "like-no-other");
    const { DB } = await harness.getWorker().getEnv();
    const dump = JSON.stringify([
      (await DB.prepare("SELECT * FROM users").all()).results,
      (await DB.prepare("SELECT * FROM sessions").all()).results,
    ]);
    assert.match(dump, /\$argon2id\$v=19\$m=19456,t=2,p=1\$/);
    assert.doesNotMatch(dump, /like-no-other/);
    assert.ok(!dump.includes((await sessionCookie(page)).value.split(".")[0]));
  });
});

describe("accounts with their sessions on KV", () => {
  before(() => begin({ session_parameters: { store: "kv", cookie_name: "__Host-session" } }));
  after(() => stop?.());

  test("a change of the password signs out all others and not this one", async () => {
    const [desk, phone] = [await sit(), await sit()];
    await signUp(desk, "emmy");
    await signIn(phone, "emmy");
    assert.equal(await isSignedIn(phone), true);
    await changePassword(desk, OLD, NEW);
    assert.match(await text(desk), /Your password is changed\. All others will be signed out\./);
    assert.equal(await isSignedIn(desk), true);
    await phone.goto(`${origin}/devices`);
    assert.equal(path(phone), "/sign-in");
    assert.equal(await isSignedIn(phone), false);
    assert.equal(await signIn(phone, "emmy", NEW), 303);
    assert.equal(await isSignedIn(phone), true);
  });
});
