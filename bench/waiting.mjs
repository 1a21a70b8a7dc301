// How long a visitor waits where the stores take as long as in production, and whether they are answered rightly:
// `make bench-waiting`. Writes bench/results/waiting.md and www/waiting.svg. ROUNDS and VISITORS make it shorter.
import { writeFileSync } from "node:fs";
import { EDGE_ON_KV, FLOOR, REACT_ROUTER, edge, peersOnKv } from "./contestants.mjs";
import { DELAYS, PUTS } from "./delays.mjs";
import { median, pause, percentile, progress, show, table, write } from "./numbers.mjs";
import { picture } from "./picture.mjs";
import { startPlaces } from "./places.mjs";
import { Visitor } from "./visitor.mjs";

const rounds = Number(process.env.ROUNDS ?? 4);
const visitors = Number(process.env.VISITORS ?? 16);
const STORED_AFTER = 5000;
const PICTURED = 150;

// Who is measured at the same time, under the same conditions.
const groups = [
  ...PUTS.map((put) => ({
    title: `On KV, whose writes take ${put} ms`,
    put,
    contestants: [...peersOnKv(), edge("kv")].map((contestant) => ({ ...contestant, write: `KV write, ${put}` })),
  })),
  {
    title: "On D1 and Durable Objects",
    contestants: ["near", "far"].flatMap((way) => [
      { ...edge("d1"), name: `edge-session, d1, ${way}`, d1: `D1, ${way}` },
      { ...edge("object"), name: `edge-session, object, ${way}`, object: `object, ${way}` },
    ]),
  },
];

// A bit more than a second, for KV takes one write a second under a name.
const aMoment = () => pause(1050 + 200 * Math.random());

async function visit({ home, away, new: fresh, cookie }, times) {
  const visitor = new Visitor();
  await pause(2000 * Math.random());
  await visitor.count(home);
  for (let n = 0; n < 3; n += 1) {
    await aMoment();
    times.read.push(await visitor.look(home));
    await aMoment();
    times.count.push(await visitor.count(home));
  }
  await aMoment();
  times.cold.push(await visitor.look(away));
  const began = performance.now();
  for (let n = 0; n < 10; n += 1) await visitor.count(home);
  times.ten.push(performance.now() - began);
  // The visitor moves to another network, and so to a place where they have been before.
  await visitor.look(away);
  await aMoment();
  await visitor.count(away);
  for (let n = 0; n < 2; n += 1) {
    await aMoment();
    times.login.push(await visitor.login(away));
  }
  await pause(STORED_AFTER);
  await visitor.lookInStore(fresh, cookie);
  return visitor;
}

// V8 compiles a Worker's functions when they turn out to be busy: these visits are not counted.
async function warmUp({ home, away, new: fresh }) {
  await Promise.all(Array.from({ length: 25 }, async () => {
    const visitor = new Visitor();
    await visitor.count(home);
    for (const place of [home, away, fresh, home, away, fresh]) await visitor.look(place);
  }));
}

const KINDS = ["read", "cold", "count", "login", "ten"];

async function measured(server) {
  const times = Object.fromEntries(KINDS.map((kind) => [kind, []]));
  const all = await Promise.all(Array.from({ length: visitors }, () => visit(server, times)));
  const sum = (of) => all.reduce((total, visitor) => total + of(visitor), 0);
  return { times, asked: sum(({ asked }) => asked), ...Object.fromEntries(["older", "lost", "errors"].map((kind) => [kind, sum(({ wrong }) => wrong[kind])])) };
}

const servers = new Map();
for (const [seed, group] of groups.entries()) {
  servers.set(group, await Promise.all(group.contestants.map((contestant) => startPlaces({ ...contestant, seed: 1000 * (seed + 1) }))));
}
console.error("waiting: warming up");
for (let n = 0; n < 2; n += 1) await Promise.all([...servers.values()].flat().map(warmUp));
const results = new Map(groups.flatMap((group) => group.contestants.map((contestant) => [contestant, []])));
const say = progress("waiting", rounds * groups.length);
for (let round = 0; round < rounds; round += 1) {
  for (const group of groups) {
    const of = await Promise.all(servers.get(group).map(measured));
    for (const [number, contestant] of group.contestants.entries()) results.get(contestant).push(of[number]);
    say(`round ${round + 1} of ${rounds}, ${group.title}`, 1);
  }
}
await Promise.all([...servers.values()].flat().map((server) => server.stop()));

// What a contestant's rounds come to.
function summary(contestant, base) {
  const own = results.get(contestant);
  const times = (kind) => own.flatMap((round) => round.times[kind]);
  const sum = (kind) => own.reduce((total, round) => total + round[kind], 0);
  const to = (kind) => median(own.map((round, n) => median(round.times[kind]) / median(results.get(base)[n].times[kind])));
  return {
    name: contestant.name,
    ...Object.fromEntries(KINDS.map((kind) => [kind, { p50: median(times(kind)), p99: percentile(times(kind), 0.99), to: base && to(kind) }])),
    asked: sum("asked"), older: sum("older"), lost: sum("lost"), errors: sum("errors"),
  };
}

const two = ({ p50, p99 }) => `${show(p50, 0)} / ${show(p99, 0)}`;
const summaries = groups.map(({ contestants }) => {
  const base = contestants.find(({ name }) => name === REACT_ROUTER);
  return contestants.map((contestant) => summary(contestant, base));
});
const texts = groups.map(({ title, put }, number) => {
  const ratio = (what) => (put ? [show(what.to, 2)] : []);
  const heads = (name) => (put ? [name, "ratio"] : [name]);
  const rows = summaries[number].map((all) => [
    all.name, two(all.read), two(all.cold), two(all.count), ...ratio(all.count), two(all.login), ...ratio(all.login), two(all.ten), ...ratio(all.ten),
    all.older, all.lost, all.errors, all.asked,
  ]);
  const head = ["", "*read*", "*read*, cold", ...heads("*count*"), ...heads("*login*"), ...heads("ten counts"), "older", "lost", "errors", "of requests"];
  return `### ${title}\n\n${table(head, rows)}`;
});

const pictured = summaries[groups.findIndex(({ put }) => put === PICTURED)];
writeFileSync("www/waiting.svg", picture(pictured, PICTURED));

const edgeHere = pictured.find(({ name }) => name === EDGE_ON_KV);
const met = (is) => (is ? "met" : "**missed**");
const expected = `Expected of edge-session on KV, with writes of ${PICTURED} ms: a *count* takes what its *read* takes, up to 2 ms (${met(edgeHere.count.p50 - edgeHere.read.p50 <= 2)}:
${show(edgeHere.count.p50)} and ${show(edgeHere.read.p50)} ms), at most a third of React Router's (${met(edgeHere.count.to <= 1 / 3)}: ${show(edgeHere.count.to, 2)}), and no answer is
wrong (${met(edgeHere.older + edgeHere.lost + edgeHere.errors === 0)}).`;

write("waiting", `## Waiting

${expected}

What a visitor waits for, p50 / p99 in milliseconds, by HTTP with a browser's cookies. The stores take as long as in production (below);
the processor's work is little beside it. ${rounds} rounds of ${visitors} visitors, who are under way at the same time with all contestants of a table; each
looks and counts three times in turn, more than a second apart, looks at another place ("cold"), and then counts ten times without a
pause, which is one figure. Then the visitor moves to that other place: looks there at once, counts a second later, and logs in twice. A ratio is to React Router's p50: the median over the rounds. React Router's login keeps the session's id, as its documentation has it.

Wrong answers: **older** is a number below what this visitor had been told; such a look follows the ten counts, from the other place. **Lost** are
counts that the visitor was told of and that are gone when they count or log in, or that the store does not
have ${STORED_AFTER / 1000} seconds after the last login, when it is asked from a third place with the session's cookie alone. **Errors** are replies other than 200.

${texts.join("\n\n")}

### How the stores behave

${table(["", "p50, ms", "p99, ms", "source"], Object.entries(DELAYS).map(([name, { p50, p99, source }]) => [name, p50, p99, source]))}

Each wait is drawn, with a seed, from a log-normal distribution with these percentiles: half of it before the store does what it was asked
for, half after. KV takes one write a second under a name and refuses the next (429), after as long a wait. What is read is cached at
the place where it was read, for the read's \`cacheTtl\` (edge-session's is 30 seconds, others leave KV's 60), and so is that nothing was
there. A write is seen at its own place as soon as KV has it, which is more than KV promises, and elsewhere when what is cached there is too old, which is as early as can be.
D1 and objects show each write at once.
`);
process.exit(0);
