// Takes the README's picture of the page, after three counts and a race: `make screenshot`.
import { start } from "./browser.mjs";

const { browser, origin, stop } = await start();
const viewport = { width: 1180, height: 900 };
const page = await browser.newPage({ locale: "en-GB", colorScheme: "light", reducedMotion: "reduce", viewport });
await page.goto(origin);
await page.waitForSelector("html[data-ready]");
const counter = page.locator("#counter:not([data-busy])");
for (let clicks = 0; clicks < 3; clicks += 1) await page.locator("#counter").getByRole("button", { name: "Count" }).click();
await counter.waitFor();
await page.getByRole("button", { name: "All three: 20 counts at once" }).click();
await page.locator('article[data-path="/object"] svg').waitFor({ timeout: 60_000 });
await page.evaluate(() => document.activeElement.blur());
await page.screenshot({ path: "docs/page.png", fullPage: true });
await stop();
process.exit(0);
