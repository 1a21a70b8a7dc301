// The Worker as it is shipped, or another one, in workerd, and a Chromium to look at it: CHROME, a path.
import { chromium } from "playwright-core";
import { createTestHarness } from "wrangler";

export async function start({ config = "wrangler.toml", dist = "dist", vars, faulty = false } = {}) {
  const secrets = { SECRET_KEY: "first-key-0123456789abcdef012345" };
  const stores = faulty ? [{ configPath: "tests/worker/faulty.toml" }] : [];
  const harness = createTestHarness({ workers: [{ configPath: config, prebuiltWorkerDir: dist, vars, secrets }, ...stores] });
  const { url } = await harness.listen();
  await harness.getWorker(faulty ? "faulty" : undefined).applyD1Migrations("DB");
  // Chromium's own sandbox needs what containers and root do not have; the only page it opens is ours.
  const browser = await chromium.launch({ executablePath: process.env.CHROME, args: ["--no-sandbox"] });
  const stop = async () => {
    await browser.close();
    await harness.close();
  };
  return { harness, browser, origin: url.origin, stop };
}
