// What a thousand requests cost, as the stores count their calls: `make bench-bill`. Writes bench/results/bill.md. VISITORS, in
// per cent, makes it shorter.
import { readFileSync } from "node:fs";
import { edge, peersOnKv, withoutStore } from "./contestants.mjs";
import { pause, progress, show, table, write } from "./numbers.mjs";
import { startPlaces } from "./places.mjs";
import { Visitor } from "./visitor.mjs";

const share = Number(process.env.VISITORS ?? 100) / 100;

// Cloudflare's prices of November 2026 beyond what is included: of a million, in dollars, and how many are free each day. The
// Worker's own requests, and an object's duration, are apart.
const PRICES = {
  "keys read": { price: 0.5, free: 100_000 },
  writes: { price: 5, free: 1000 },
  deletes: { price: 5, free: 1000 },
  "rows read": { price: 0.001, free: 5_000_000 },
  "rows written": { price: 1, free: 100_000 },
  requests: { price: 0.15, free: 100_000 },
};
// The Worker itself has so many requests a day on the free plan.
const FREE_REQUESTS = 100_000;

const SITES = [
  { name: "a counter", visitors: 100, visits: 10, changesEvery: 1 },
  { name: "a hundred looks for each change", visitors: 10, visits: 100, changesEvery: 100 },
];

const json = async (url) => (await fetch(url)).json();
const onKv = async ({ kv }) => {
  const { read, written, deleted } = await json(kv);
  return { "keys read": read, writes: written, deletes: deleted };
};
const onD1 = async ({ d1 }) => {
  const { read, written } = await json(`${d1}/rows`);
  return { "rows read": read, "rows written": written };
};
const onObjects = async ({ objects }) => {
  const { requests, rows } = await json(objects);
  return { requests, "rows written": rows };
};

const contestants = [
  ...[...peersOnKv(), withoutStore(), edge("kv")].map((contestant) => ({ ...contestant, counted: onKv })),
  { ...edge("d1"), counted: onD1 },
  { ...edge("object"), counted: onObjects },
];

// A bit more than a second, for KV takes one write a second under a name.
const aMoment = () => pause(1100 + 200 * Math.random());

async function visits({ home }, { visits: many, changesEvery }) {
  const visitor = new Visitor();
  await aMoment();
  for (let visit = 0; visit < many; visit += 1) {
    if (visit % changesEvery === 0) await visitor.count(home);
    else await visitor.look(home);
    await aMoment();
  }
  return visitor.wrong.errors;
}

// What is billed for a thousand requests of a site.
async function bill(server, site) {
  await server.counted(server);
  const visitors = Math.max(1, Math.round(site.visitors * share));
  const errors = await Promise.all(Array.from({ length: visitors }, () => visits(server, site)));
  // A write behind a reply is over by then.
  await pause(3000);
  const counted = Object.entries(await server.counted(server)).filter(([, many]) => many);
  const thousand = counted.map(([what, many]) => [what, (many * 1000) / (visitors * site.visits)]);
  return {
    what: thousand.map(([what, many]) => `${Math.round(many)} ${what}`).join(", ") || "nothing",
    price: thousand.reduce((sum, [what, many]) => sum + (many / 1000) * PRICES[what].price, 0),
    free: thousand.reduce((least, [what, many]) => Math.min(least, (PRICES[what].free * 1000) / many), FREE_REQUESTS),
    errors: errors.reduce((sum, many) => sum + many, 0),
  };
}

// What docs/operations.md says of a site on a store.
function documented(site, { parameters }) {
  const store = { kv: "KV", d1: "D1", object: "Durable Objects" }[parameters?.store];
  const line = readFileSync("docs/operations.md", "utf8").split("\n").find((line) => line.startsWith(`| ${site.name} | ${store} |`));
  return line?.split("|")[3].trim();
}

const say = progress("bill", SITES.reduce((sum, { visits }) => sum + visits, 0));
const rows = [];
const differing = [];
for (const site of SITES) {
  const servers = await Promise.all(contestants.map((contestant) => startPlaces(contestant)));
  const bills = await Promise.all(servers.map((server) => bill(server, site)));
  await Promise.all(servers.map((server) => server.stop()));
  for (const [number, { what, price, free, errors }] of bills.entries()) {
    const told = documented(site, contestants[number]);
    rows.push([site.name, contestants[number].name, what, `$${show(price, 2)}`, show(free, 0), errors || "", told ?? ""]);
    if (told && told !== what) differing.push(`${site.name} by ${contestants[number].name}: ${what}, where it says ${told}`);
  }
  say(site.name, site.visits);
}

write("bill", `## Bill

What the stores counted for 1 000 requests, and what a million of them cost by Cloudflare's prices of November 2026, beyond what is
included and beside the Worker's own requests and an object's duration. The counter has 100 visitors with ten counts each; the other
site ten with a hundred visits, of which the first changes something. A visitor comes again a bit more than a second after
each answer; the stores take as long as in production, a write to KV 150 ms. Rows are those that SQLite's cursor tells; on objects each value
that is put is one, and so is an alarm that is set.

${table(["site", "", "for 1 000 requests", "a million cost", "requests a day on the free plan", "errors", "docs/operations.md says"], rows)}

Expected: what \`docs/operations.md\` says, which \`tests/costs.rs\` counts in a simulation of visitors who come every ten seconds.
${differing.length ? `Here it is otherwise (a session's writes within a second are stored as one, and here some come as soon):\n\n${differing.map((line) => `- ${line}`).join("\n")}` : "It is so."}
`);
process.exit(0);
