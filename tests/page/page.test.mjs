// The page at /, in a real Chromium, against the Worker in workerd: `make test-page`.
import assert from "node:assert/strict";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { start } from "./browser.mjs";

const axe = readFileSync("node_modules/axe-core/axe.min.js", "utf8");

let browser, origin, stop;

before(async () => {
  ({ browser, origin, stop } = await start());
});

after(() => stop?.());

// A visitor with a browser window of their own, in which nothing may go wrong that the test does not expect.
async function visit(options = {}, path = "/") {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${origin}/`)) complaints.push(`a request to ${request.url()}`);
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`CSP: ${event.violatedDirective}`));
  });
  await page.goto(`${origin}${path}`);
  if (options.javaScriptEnabled !== false) await page.waitForSelector("html[data-ready]");
  return { page, context, complaints, main: page.locator("#counter") };
}

const number = (place) => place.locator("[data-number]").textContent();
const store = (page, path) => page.locator(`article[data-path="${path}"]`);

// Clicks, and waits until what that began is done.
async function click(place, name) {
  await place.getByRole("button", { name, exact: true }).click();
  await idle(place);
}

const idle = (place) => place.and(place.page().locator(":not([data-busy])")).waitFor({ timeout: 60_000 });

describe("the counter", () => {
  test("counts, resets, and finds its number again after a reload", async () => {
    const { page, main, complaints } = await visit();
    assert.equal(await number(main), "0");
    for (const expected of ["1", "2", "3"]) {
      await click(main, "Count");
      assert.equal(await number(main), expected);
    }
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    assert.equal(await number(main), "3");
    await click(main, "Count");
    assert.equal(await number(main), "4");
    await click(main, "Reset");
    assert.equal(await number(main), "0");
    await click(main, "Count");
    assert.equal(await number(main), "1");
    assert.deepEqual(complaints, []);
  });

  test("takes clicks that come faster than the answers, each in its turn", async () => {
    const { main } = await visit();
    const count = main.getByRole("button", { name: "Count" });
    for (let clicks = 0; clicks < 5; clicks += 1) await count.click();
    await idle(main);
    assert.equal(await number(main), "5");
  });

  test("tells what the server did for each click", async () => {
    const { main } = await visit();
    const did = () => main.locator("[data-did]").textContent();
    await click(main, "Count");
    assert.match(await did(), /^The server found no session and stored a new one\. Load \d+ ms, handler \d+ ms, save \d+ ms; there and back \d+ ms\.$/);
    await click(main, "Count");
    assert.match(await did(), /^The server found your session and saved it\./);
    await click(main, "Reset");
    assert.match(await did(), /^The server found your session and deleted it\./);
    await click(main, "Reset");
    assert.match(await did(), /^The server found no session and wrote nothing\./);
  });

  test("shows the session, with a clock running down", async () => {
    const { page, main } = await visit();
    const fact = (name) => page.locator(`[data-fact="${name}"]`).textContent();
    assert.equal(await fact("state"), "new: nothing is stored");
    await click(main, "Count");
    assert.equal(await fact("state"), "known");
    assert.equal(await fact("store"), "Workers KV");
    assert.equal(await fact("bytes"), `${'{"count":1}'.length} bytes`);
    assert.equal(await fact("absolute_expires_at"), "never");
    const first = await fact("idle_expires_at");
    assert.match(first, /^in (1 d 00:00:00|23:59:\d\d)$/);
    await page.waitForFunction((shown) => document.querySelector('[data-fact="idle_expires_at"]').textContent !== shown, first);
  });

  test("works by keyboard alone", async () => {
    const { page, main, complaints } = await visit();
    const press = async (name, key) => {
      for (let tabs = 0; tabs < 20; tabs += 1) {
        await page.keyboard.press("Tab");
        if ((await page.evaluate(() => document.activeElement.textContent)) === name) break;
      }
      await page.keyboard.press(key);
    };
    await press("Count", "Enter");
    await page.keyboard.press("Space");
    await idle(main);
    assert.equal(await number(main), "2");
    await press("Reset", "Space");
    await idle(main);
    assert.equal(await number(main), "0");
    assert.deepEqual(complaints, []);
  });

  test("without JavaScript has links that count and reset", async () => {
    const { page } = await visit({ javaScriptEnabled: false });
    for (const [name, body] of [["Count", "1"], ["Count", "2"], ["Reset", ""], ["Count", "1"]]) {
      await page.goto(`${origin}/`);
      await page.locator("#counter").getByRole("link", { name }).click();
      assert.equal(await page.locator("body").textContent(), body);
    }
  });
});

describe("trouble", () => {
  test("offline is a message and a retry, which works once online again", async () => {
    const { context, main } = await visit();
    await click(main, "Count");
    await context.setOffline(true);
    await click(main, "Count");
    const trouble = main.getByRole("alert");
    assert.match(await trouble.textContent(), /^No answer: either you are offline/);
    assert.equal(await number(main), "1");
    await context.setOffline(false);
    await trouble.getByRole("button", { name: "Try again" }).click();
    await main.locator("[data-number]", { hasText: "2" }).waitFor();
    assert.equal(await trouble.textContent(), "");
  });

  test("a page that could not ask at first shows the number after a retry", async () => {
    const { page, main } = await visit();
    await click(main, "Count");
    await page.route("**/session", (route) => route.fulfill({ status: 503 }), { times: 1 });
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    assert.equal(await number(main), "–");
    await main.getByRole("button", { name: "Try again" }).click();
    await main.locator("[data-number]", { hasText: "1" }).waitFor();
  });

  for (const [status, message] of [[503, /^The store did not answer in time/], [500, /^The server is out of order/], [418, /^The server answered 418/]]) {
    test(`a ${status} is a message and a retry`, async () => {
      const { page, main } = await visit();
      await page.route("**/count", (route) => route.fulfill({ status }), { times: 1 });
      await click(main, "Count");
      assert.match(await main.getByRole("alert").textContent(), message);
      await main.getByRole("button", { name: "Try again" }).click();
      await main.locator("[data-number]", { hasText: "1" }).waitFor();
    });
  }

  test("a store that is down says so in its column, and the others go on", async () => {
    const { page } = await visit();
    await page.route("**/d1/**", (route) => route.fulfill({ status: 503 }));
    await page.getByRole("button", { name: "All three: 20 counts at once" }).click();
    await store(page, "/object").locator("svg").waitFor({ timeout: 60_000 });
    assert.match(await store(page, "/d1").getByRole("alert").textContent(), /^The store did not answer in time/);
    assert.equal(await store(page, "/d1").locator("svg").count(), 0);
  });

  test("where the stores are not compared the page says so", async () => {
    const { page, main } = await visit();
    await page.route(/\/(kv|d1|object)\//, (route) => route.fulfill({ status: 404 }));
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    assert.ok(await page.locator("#off").isVisible());
    assert.ok(await page.locator(".stores").isHidden());
    assert.ok(await main.locator("[data-number]").isVisible(), "the counter above stays");
    assert.ok(await page.locator('[data-fact="state"]').isVisible());
    await click(main, "Count");
    assert.equal(await number(main), "1");
  });
});

describe("the stores side by side", () => {
  // What the page says came of a race, and what the dots say, read from the page.
  async function twenty(place) {
    await click(place, "20 counts at once");
    const outcome = await place.locator("[data-outcome]").innerText();
    const [, answered, due, real] = outcome.match(/(\d+) of 20 were answered\. Due: (\d+)\. Stored: (\d+)\./).map(Number);
    const told = (await place.locator("details li").allTextContents()).map((text) => text.split(",")[0]);
    const dots = { once: await place.locator("circle.once").count(), again: await place.locator("circle.again").count() };
    return { outcome, answered, due, real, told, dots };
  }

  for (const path of ["/d1", "/object"]) {
    test(`twenty at once lose nothing at ${path}`, async () => {
      const { page, complaints } = await visit();
      const place = store(page, path);
      await click(place, "Count");
      const { outcome, answered, due, real, told, dots } = await twenty(place);
      assert.deepEqual([answered, due, real], [20, 21, 21]);
      assert.match(outcome, /No update was lost\./);
      assert.deepEqual(told.toSorted((a, b) => a - b), Array.from({ length: 20 }, (_, index) => String(index + 2)));
      assert.deepEqual(dots, { once: 20, again: 0 });
      assert.equal(await number(place), "21");
      assert.deepEqual(complaints, []);
    });
  }

  test("at KV the page shows what really happened, to the last reply", async () => {
    const { page, context, complaints } = await visit();
    const place = store(page, "/kv");
    await click(place, "Count");
    const { outcome, answered, due, real, told, dots } = await twenty(place);
    // What lies in the store, asked behind the page's back.
    const { count } = await (await context.request.get(`${origin}/kv/session`)).json();
    assert.equal(real, count);
    assert.equal(due, 1 + answered);
    const numbers = told.filter((text) => text !== "refused").map(Number);
    assert.equal(numbers.length, answered);
    const once = numbers.filter((number) => numbers.filter((other) => other === number).length === 1).length;
    assert.deepEqual(dots, { once, again: answered - once });
    if (real < due) assert.match(outcome, new RegExp(`^${due - real} updates? w(as|ere) lost`, "m"));
    else assert.match(outcome, /No update was lost\./);
    assert.equal(await number(place), String(count));
    assert.deepEqual(complaints, []);
  });

  test("each has a number of its own, which a reload finds again", async () => {
    const { page, main } = await visit();
    await click(store(page, "/kv"), "Count");
    for (let clicks = 0; clicks < 2; clicks += 1) await click(store(page, "/d1"), "Count");
    for (let clicks = 0; clicks < 3; clicks += 1) await click(store(page, "/object"), "Count");
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    const numbers = await Promise.all(["/kv", "/d1", "/object"].map((path) => number(store(page, path))));
    assert.deepEqual([await number(main), ...numbers], ["0", "1", "2", "3"]);
    await click(store(page, "/d1"), "Reset");
    assert.equal(await number(store(page, "/d1")), "0");
  });

  for (const path of ["/d1", "/object"]) {
    test(`a logout amid counts is final at ${path}`, async () => {
      const { page } = await visit();
      const place = store(page, path);
      for (let round = 0; round < 5; round += 1) {
        await click(place, "Count");
        await click(place, "Log out amid counts");
        assert.match(await place.locator("[data-outcome]").innerText(), /^The old cookie is dead: the logout was final\.$/m);
      }
    });
  }

  test("a logout that was undone at KV is told", async () => {
    const { page } = await visit();
    const place = store(page, "/kv");
    await click(place, "Count");
    // As in a place that the logout has not reached: the second look finds what the first one found. (This isolate knows.)
    let first;
    await page.route("**/kv/session", async (route) => {
      if (first) return route.fulfill(first);
      const response = await route.fetch();
      first = { status: response.status(), headers: response.headers(), body: await response.body() };
      return route.fulfill(first);
    });
    await click(place, "Log out amid counts");
    assert.match(await place.locator("[data-outcome]").innerText(), /^The old cookie came back to life, at number \d+/m);
  });
});

describe("language", () => {
  test("is the browser's, and can be switched and is remembered", async () => {
    const { page, main, complaints } = await visit({ locale: "zh-CN" });
    assert.equal(await page.getAttribute("html", "lang"), "zh-CN");
    await click(main, "计数");
    assert.match(await main.locator("[data-did]").textContent(), /^服务器没有找到会话，存下了一个新会话。/);
    await page.getByRole("button", { name: "English" }).click();
    assert.equal(await page.getAttribute("html", "lang"), "en");
    assert.match(await main.locator("[data-did]").textContent(), /^The server found no session and stored a new one\./, "what was said is said again");
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    assert.equal(await page.locator("h2").first().textContent(), "Your number");
    await page.getByRole("button", { name: "中文" }).click();
    assert.equal(await page.locator("h2").first().textContent(), "你的数字");
    assert.deepEqual(complaints, []);
  });

  test("has the same things to say in both", async () => {
    const { page } = await visit();
    const [english, chinese] = await page.evaluate(async () => {
      const { texts } = await import("/page.js");
      const keys = (said) => Object.entries(said).flatMap(([key, value]) =>
        typeof value === "object" ? keys(value).map((below) => `${key}.${below}`) : [`${key} ${typeof value} ${value.length && typeof value === "function" ? value.length : ""}`]);
      return [keys(texts.en).sort(), keys(texts.zh).sort()];
    });
    assert.deepEqual(chinese, english);
    assert.ok(english.length > 50);
  });

  test("everything that is said is said in both", async () => {
    const { page } = await visit({ locale: "zh-CN" });
    const english = await page.evaluate(() => {
      const shown = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT, (node) =>
        node.parentElement.closest("script, noscript, [lang=en], code, dd, h1, .stores h3") ? NodeFilter.FILTER_REJECT : NodeFilter.FILTER_ACCEPT);
      const found = [];
      while (shown.nextNode()) if (/[a-z]{4}/i.test(shown.currentNode.textContent)) found.push(shown.currentNode.textContent);
      return found;
    });
    const names = /compare_stores|wrangler\.toml|edge-session|session|cookie|Rust|Cloudflare Workers|web\.py/g;
    assert.deepEqual(english.filter((text) => /[a-z]{4}/i.test(text.replace(names, ""))), []);
  });
});

describe("for everybody", () => {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [320, 1280]) {
      test(`axe finds nothing serious, ${colorScheme}, ${width} pixels wide, and nothing sticks out`, async () => {
        const { page, main } = await visit({ colorScheme, viewport: { width, height: 800 } });
        await click(main, "Count");
        for (const path of ["/kv", "/d1", "/object"]) await click(store(page, path), "20 counts at once");
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => axe.run());
        const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
        assert.deepEqual(serious.map(({ id, nodes }) => `${id}: ${nodes[0].html}`), []);
        const needed = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(needed <= width, `it needs ${needed} pixels`);
      });
    }
  }

  test("nothing moves where reduced motion is asked for", async () => {
    const moving = (page) => page.evaluate(() => getComputedStyle(document.querySelector(".number.new")).animationName);
    const still = await visit({ reducedMotion: "reduce" });
    await click(still.main, "Count");
    assert.equal(await moving(still.page), "none");
    const lively = await visit({ reducedMotion: "no-preference" });
    await click(lively.main, "Count");
    assert.equal(await moving(lively.page), "new");
  });

  test("the benchmark's picture is shown, and said in both languages", async () => {
    const { page, complaints } = await visit();
    const picture = page.locator("#waiting img");
    assert.equal(await picture.evaluate(async (image) => (await image.decode(), image.naturalWidth)), 720);
    assert.match(await picture.getAttribute("alt"), /a count takes about ten milliseconds/);
    await page.getByRole("button", { name: "中文" }).click();
    assert.match(await picture.getAttribute("alt"), /一次计数约十毫秒/);
    assert.deepEqual(complaints, []);
  });

  test("a screen reader is told the number and the trouble", async () => {
    const { main } = await visit();
    assert.equal(await main.locator("output[aria-live=polite]").count(), 1);
    assert.equal(await main.getByRole("alert").count(), 1);
  });

  test("the page's files are static, strictly sent, and weigh less than 40 KB in all", async () => {
    const files = readdirSync("www");
    const weight = files.reduce((sum, file) => sum + statSync(`www/${file}`).size, 0);
    assert.ok(weight < 40_000, `${weight} bytes`);
    for (const file of files.filter((file) => file !== "_headers")) {
      const response = await fetch(`${origin}/${file === "index.html" ? "" : file}`);
      assert.equal(response.status, 200, file);
      const policy = response.headers.get("content-security-policy");
      assert.match(policy, /^default-src 'none'; .*frame-ancestors 'none'$/, file);
      assert.doesNotMatch(policy, /unsafe|\*|https?:/, file);
      assert.equal(response.headers.get("x-content-type-options"), "nosniff", file);
      assert.equal(response.headers.get("server-timing"), null, `${file}: no Worker was called`);
    }
  });
});
