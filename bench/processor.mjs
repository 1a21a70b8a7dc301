// What a session costs, beside what others cost: `make bench`. Prints a table and writes bench/RESULTS.md.
// ROUNDS and SECONDS make it shorter. AGAINST=FOLDER, where worker-build left README's Worker of another commit,
// compares only the two, to that one's cost, and writes nothing.
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { built, bundled, processorTime, start, weight } from "./workerd.mjs";

const rounds = Number(process.env.ROUNDS ?? 10);
const seconds = Number(process.env.SECONDS ?? 2);
const warmUp = 4 * seconds;
const CONNECTIONS = 8;
// As many as that no two requests in flight meet in one session.
const SESSIONS = 64;

const edge = (store, extra = {}) => ({ name: `edge-session, ${store}`, modules: built("bench/edge-session/build"), parameters: { store, ...extra }, read: "/read" });
const contestants = [
  { name: "the floor", modules: bundled("floor"), read: "/read" },
  { name: "edge-session's calls, in JavaScript", modules: bundled("calls"), read: "/read" },
  { name: "React Router", modules: bundled("react-router"), read: "/read" },
  { name: "hono-sessions", modules: bundled("hono-sessions"), read: "/read" },
  { name: "iron-session", modules: bundled("iron-session"), read: "/read" },
  edge("kv"), edge("d1"), edge("object"),
  { name: "a constant, in JavaScript", modules: bundled("constant"), read: "/read", constant: true },
  { name: "a constant, in Rust", modules: built("bench/constant/build"), read: "/read", constant: true },
];

const against = process.env.AGAINST;
const STORES = ["kv", "d1", "object"];
const before = (store) => ({ ...edge(store), name: `before, ${store}`, modules: built(against) });

mkdirSync("target/bench", { recursive: true });

async function visit(server, path, cookie) {
  const response = await fetch(`${server.origin}${path}`, { headers: cookie ? { cookie } : {} });
  const set = response.headers.get("set-cookie");
  const body = await response.text();
  if (response.status !== 200) throw new Error(`${server.name}: ${path} is ${response.status}: ${body}`);
  return { body, cookie: set ? set.split(";")[0] : cookie };
}

// Who cannot count to three is out.
async function countsToThree(server) {
  let cookie;
  for (const expected of ["1", "2", "3"]) {
    const reply = await visit(server, "/count", cookie);
    if (reply.body !== expected) throw new Error(`${server.name} counted ${reply.body}, not ${expected}`);
    cookie = reply.cookie;
  }
}

async function warmCookies(server, many = SESSIONS) {
  const cookies = [];
  for (let n = 0; n < many; n += 1) cookies.push((await visit(server, "/count")).cookie ?? `none=${"1".repeat(32)}`);
  return cookies;
}

// The value's last characters, which are the signature's or the seal's, are others.
const forged = (cookie) => cookie.replace(/.{8}$/, (end) => (end === "00000000" ? "11111111" : "00000000"));

function cookieFile(name, cookies) {
  const file = `target/bench/${name.replaceAll(/\W+/g, "-")}.cookies`;
  writeFileSync(file, `${cookies.join("\n")}\n`);
  return file;
}

// One bounded load by wrk on the second core, and the processor time that the server took for it.
function load(server, path, file, { connections = CONNECTIONS, duration = seconds, attempts = false } = {}) {
  const before = processorTime(server.pid);
  const command = ["-c", "1", "wrk", "-t1", `-c${connections}`, `-d${duration}s`, "--timeout", "30s", "-s", "bench/load.lua", `${server.origin}${path}`, "--", file, ...(attempts ? ["attempts"] : [])];
  const printed = execFileSync("taskset", command, { encoding: "utf8" });
  const result = JSON.parse(printed.trim().split("\n").at(-1));
  if (result.broken) throw new Error(`${server.name}: ${result.broken} connections broke`);
  return { ...result, cpu: ((processorTime(server.pid) - before) / result.requests) * 1e6, rps: result.requests / result.seconds };
}

const median = (numbers) => numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)];
const show = (number, digits = 1) => (number === undefined || Number.isNaN(number) ? "" : number.toFixed(digits));
const table = (head, rows) => [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");

// The calls that a kind of request makes, by the stores' own count.
async function callsOf(server, path, cookies) {
  const counted = async () => {
    const all = { ...(await (await fetch(server.kv)).json()), ...(await (await fetch(`${server.d1}/calls`)).json()) };
    return Object.entries(all).map(([call, times]) => `${times / cookies.length} ${call}`).join(", ");
  };
  await counted();
  for (const cookie of cookies) await visit(server, path, cookie);
  return (await counted()) || "none";
}

async function throughput(racers = contestants, kindsOfRace) {
  const servers = [];
  for (const contestant of racers) {
    const server = { ...contestant, ...(await start(contestant)) };
    if (!server.constant) await countsToThree(server);
    const cookies = await warmCookies(server);
    server.files = {
      count: cookieFile(server.name, cookies),
      forged: cookieFile(`${server.name} forged`, cookies.map(forged)),
    };
    if (!server.constant) {
      server.calls = {
        count: await callsOf(server, "/count", cookies),
        read: await callsOf(server, server.read, cookies),
        forged: await callsOf(server, server.read, cookies.map(forged)),
      };
    }
    servers.push(server);
  }
  const kinds = kindsOfRace ?? [
    { kind: "count", path: () => "/count", file: "count", floor: "the floor", who: (server) => !server.constant },
    { kind: "read", path: (server) => server.read, file: "count", floor: "the floor", who: (server) => !server.constant },
    { kind: "forged", path: (server) => server.read, file: "forged", floor: "a constant, in Rust", who: () => true },
  ];
  const texts = [];
  for (const { kind, path, file, floor, who } of kinds) {
    const racing = servers.filter(who);
    const results = new Map(racing.map((server) => [server, []]));
    // V8 compiles a Worker's functions as they turn out to be busy, and some thousands of requests go by until all are.
    for (const server of racing) load(server, path(server), server.files[file], { duration: warmUp });
    for (let round = 0; round < rounds; round += 1) {
      // To and fro, so that who comes after whom is not always the same.
      for (const server of round % 2 ? racing.toReversed() : racing) results.get(server).push(load(server, path(server), server.files[file]));
      console.error(`${kind}: round ${round + 1} of ${rounds}`);
    }
    const base = results.get(racing.find(({ name }) => name === floor));
    const rows = racing.map((server) => {
      const own = results.get(server);
      const ratio = (value) => show(median(own.map((result, round) => value(result) / value(base[round]))), 2);
      const refused = own.reduce((sum, result) => sum + result.refused, 0);
      return [
        server.name, show(median(own.map(({ cpu }) => cpu)), 0), show(Math.min(...own.map(({ cpu }) => cpu)), 0), ratio(({ cpu }) => cpu),
        show(median(own.map(({ rps }) => rps)), 0), ratio(({ rps }) => rps),
        show(median(own.map(({ p50 }) => p50)), 2), ratio(({ p50 }) => p50), show(median(own.map(({ p99 }) => p99)), 2), ratio(({ p99 }) => p99),
        server.constant ? "" : server.name.endsWith("object") ? "see below" : server.calls[kind.split(",")[0]], refused || "",
      ];
    });
    const head = ["", "CPU µs", "least", `to ${floor}`, "requests/s", "ratio", "p50 ms", "ratio", "p99 ms", "ratio", "store calls", "refused"];
    texts.push(`### ${kind}\n\n${table(head, rows)}`);
  }
  for (const server of servers) await server.stop();
  return texts;
}

// 50 clients on one session.
async function contention() {
  const rows = [];
  for (const store of ["d1", "object"]) {
    const server = { ...(await start(edge(store, { server_timing: true }))), name: store };
    const [cookie] = await warmCookies(server, 1);
    const result = load(server, "/count", cookieFile("contended", [cookie]), { connections: 50, duration: 5, attempts: true });
    const count = Number((await visit(server, "/read", cookie)).body);
    const completed = result.requests - result.refused;
    // wrk lets go of the requests that are in flight when its time is over: they may be counted, and nobody told.
    const exact = count - 1 >= completed && count - 1 <= completed + 50;
    rows.push([store, show(completed / result.seconds, 0), show(result.attempts / result.told, 2), result.refused, completed, count - 1, exact ? "yes" : "NO"]);
    await server.stop();
  }
  return table(["store", "completed/s", "attempts per success", "refused", "told", "stored", "exact"], rows);
}

// More sessions in the store, and more data in a session.
async function growth() {
  const sessions = [];
  const fill = async (server, many) => {
    if (server.name !== "object") {
      const filled = await fetch(`${server[server.name]}/fill?n=${many}`);
      if (!filled.ok) throw new Error(`${server.name} could not be filled: ${filled.status}`);
      return;
    }
    // An object that nobody has asked for a while is a file, and here one file under many names.
    await visit(server, "/count");
    const folder = `${server.disk}/session`;
    const file = readdirSync(folder).find((name) => /^[0-9a-f]{64}\.sqlite$/.test(name));
    for (let n = 0; n < many; n += 1) linkSync(`${folder}/${file}`, `${folder}/${String(n).padStart(64, "0")}.sqlite`);
  };
  for (const store of ["kv", "d1", "object"]) {
    const row = [store];
    for (const many of [1, 1000, 100_000]) {
      const server = { ...(await start(edge(store))), name: store };
      await fill(server, many);
      const file = cookieFile("grown", await warmCookies(server));
      load(server, "/count", file, { duration: warmUp });
      row.push(show(median([1, 2, 3].map(() => load(server, "/count", file).cpu)), 0));
      await server.stop();
    }
    sessions.push([...row, show(Number(row[3]) / Number(row[1]), 2)]);
  }
  const data = [];
  for (const store of ["kv", "d1", "object"]) {
    const row = [store];
    for (const bytes of [100, 10_000, 100_000]) {
      const contestant = { ...edge(store), modules: built("tests/worker/routes/build") };
      const server = { ...(await start(contestant)), name: store };
      const filled = await fetch(`${server.origin}/notes`, { method: "POST", body: "x".repeat(bytes) });
      const cookie = filled.headers.get("set-cookie").split(";")[0];
      await filled.text();
      const file = cookieFile("filled", [cookie]);
      load(server, "/notes", file, { duration: warmUp });
      row.push(show(median([1, 2, 3].map(() => load(server, "/notes", file).cpu)), 0));
      await server.stop();
    }
    data.push([...row, show((Number(row[3]) - Number(row[1])) / 99.9, 2)]);
  }
  return [
    table(["store", "1 session", "1 000", "100 000", "100 000 to 1"], sessions),
    table(["store", "100 B", "10 KB", "100 KB", "µs more for each KB"], data),
  ];
}

async function weights() {
  const rows = [];
  for (const contestant of contestants) {
    const starts = [];
    for (let n = 0; n < 20; n += 1) {
      const server = await start(contestant);
      starts.push(server.startUp);
      await server.stop();
    }
    rows.push([contestant.name, weight(contestant.modules, "wasm") || "", weight(contestant.modules, "esModule"), show(median(starts), 0), show(Math.min(...starts), 0)]);
  }
  return table(["", "wasm, gzipped", "JavaScript, gzipped", "cold start, ms", "least"], rows);
}

if (against) {
  const everyone = () => true;
  for (const store of (process.env.STORES ?? STORES.join()).split(",")) {
    const floor = `before, ${store}`;
    const kinds = [
      { kind: `count, ${store}`, path: () => "/count", file: "count", floor, who: everyone },
      { kind: `read, ${store}`, path: (server) => server.read, file: "count", floor, who: everyone },
    ];
    for (const text of await throughput([before(store), edge(store)], kinds)) console.log(`${text}\n`);
  }
  process.exit(0);
}

const version = (name) => JSON.parse(readFileSync(`bench/node_modules/${name}/package.json`, "utf8")).version;
const peers = ["react-router", "@react-router/cloudflare", "hono-sessions", "hono", "iron-session"].map((name) => `${name} ${version(name)}`);
const workerd = execFileSync("node_modules/.bin/workerd", ["--version"], { encoding: "utf8" }).trim();
const rust = execFileSync("rustc", ["--version"], { encoding: "utf8" }).trim();

const [count, read, forgery] = await throughput();
const contended = await contention();
const [sessions, data] = await growth();
const weighed = await weights();
const notes = readFileSync("bench/NOTES.md", "utf8");
const results = `# What a session costs

Written by \`make bench\` on ${new Date().toISOString().slice(0, 10)}; ${cpus().length} cores (${cpus()[0].model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GB; ${workerd}; ${rust}; ${peers.join(", ")}.

Each contestant runs in a workerd of its own (the npm package's binary, by a capnp configuration) on the first core, with the
same KV in memory behind its binding, whose work is counted in; wrk on the second, ${CONNECTIONS} connections, ${SESSIONS} warm sessions in
turn. After ${warmUp} seconds each, which are not counted, ${rounds} rounds of ${seconds} seconds, the contestants interleaved. Figures are medians over the rounds; a ratio is the
median of the rounds' ratios. CPU is the processor time of the workerd process (its own and the kernel's for it) for each request
that it answered. Machines are noisy: compare ratios, and only within one file.

${count}

${read}

${forgery}

An object's calls are not seen by the benchmark; \`each_request_asks_the_store_as_little_as_can_be\` in \`tests/worker/faults.rs\`
counts them: one to load, one to save. iron-session asks no store, and so can neither end a session nor keep two requests apart.

## Contention: 50 clients on one session

${contended}

"Told" are the requests that were answered; "stored" is the session's number at the end. Up to 50 more may be stored than were told:
those in flight when the time was over.

## Growth

CPU µs for each count, with more sessions in the store:

${sessions}

(Objects that nobody asks for are files: for the last row, one object's file under that many names.)

CPU µs for each read of a session that holds more (the reply holds it too; by the tests' Worker, which is built without link-time optimisation):

${data}

## Weight

${weighed}

A cold start is from the start of the process to the first answer, the median of 20: workerd's own start is in it, for all alike.

${notes}`;
writeFileSync("bench/RESULTS.md", results);
console.log(results);
process.exit(0);
