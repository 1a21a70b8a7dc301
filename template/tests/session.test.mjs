// The Worker in workerd, with the stores of wrangler.toml, which live for this run only. `make test` builds it first.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { createTestHarness } from "wrangler";

const harness = createTestHarness({
  workers: [{
    configPath: "wrangler.toml",
    prebuiltWorkerDir: "dist",
    secrets: { SECRET_KEY: "a-key-for-tests-of-32-bytes-or-more" },
  }],
});

before(async () => {
  await harness.listen();
  if (existsSync("migrations")) await harness.getWorker().applyD1Migrations("DB");
});
after(() => harness.close());

/** Keeps its cookies, as a browser does: the session's, and on KV also the writes that it carries. */
class Visitor {
  cookies = new Map();

  /** The body of the reply. */
  async get(path) {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const reply = await harness.fetch(path, { headers: cookie ? { cookie } : {} });
    for (const set of reply.headers.getSetCookie()) {
      const [, name, value] = set.match(/^([^=]+)=([^;]*)/);
      if (set.includes("Max-Age=0")) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
    // A Worker says in its log what is wrong, and not to its visitors.
    assert.equal(reply.status, 200, harness.getLogs().map((log) => log.message).join("\n"));
    return reply.text();
  }
}

test("a visitor's counts are one after the other, and begin anew after a reset", async () => {
  const ada = new Visitor();
  assert.equal(await ada.get("/count"), "1");
  assert.equal(await ada.get("/count"), "2");
  assert.equal(await ada.get("/count"), "3");
  assert.equal(await ada.get("/reset"), "");
  assert.equal(await ada.get("/count"), "1");
});

test("another visitor has a count of their own", async () => {
  const [ada, ben] = [new Visitor(), new Visitor()];
  assert.equal(await ada.get("/count"), "1");
  assert.equal(await ada.get("/count"), "2");
  assert.equal(await ben.get("/count"), "1");
});
