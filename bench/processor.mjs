// What a session costs in processor time, beside what others cost: `make bench-processor`. Writes bench/results/processor.md.
// ROUNDS and SECONDS make it shorter. AGAINST=FOLDER, where worker-build left README's Worker of another commit,
// compares only the two, to that one's cost, and writes nothing.
import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { CookieJar } from "tough-cookie";
import { EDGE_ON_KV, FLOOR, REACT_ROUTER, edge, peersOnKv, withoutStore } from "./contestants.mjs";
import { median, pause, progress, show, table, write } from "./numbers.mjs";
import { built, bundled, processorTime, start, weight } from "./workerd.mjs";

const rounds = Number(process.env.ROUNDS ?? 7);
const seconds = Number(process.env.SECONDS ?? 2);
const warmUp = 4 * seconds;
const CONNECTIONS = 8;
// As many as that no two requests in flight meet in one session.
const SESSIONS = 64;

const CONSTANT = "a constant, in Rust";
const [floor, ...peers] = peersOnKv();
const contestants = [
  floor,
  { name: "edge-session's calls, in JavaScript", modules: bundled("calls") },
  ...peers, withoutStore(),
  edge("kv"), edge("d1"), edge("object"),
  { name: "a constant, in JavaScript", modules: bundled("constant"), constant: true },
  { name: CONSTANT, modules: built("bench/constant/build"), constant: true },
];

const against = process.env.AGAINST;
const STORES = ["kv", "d1", "object"];
const before = (store) => ({ ...edge(store), name: `before, ${store}`, modules: built(against) });

mkdirSync("target/bench", { recursive: true });

// A visit with a browser's jar of cookies, which keeps what the reply sets. Gives the reply's body.
async function visit(server, path, jar, body) {
  const url = `${server.origin}${path}`;
  const response = await fetch(url, { method: body ? "POST" : "GET", headers: { cookie: await jar.getCookieString(url) }, body });
  for (const line of response.headers.getSetCookie()) await jar.setCookie(line, url);
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${server.name}: ${path} is ${response.status}: ${text}`);
  return text;
}

// Who cannot count to three is out.
async function countsToThree(server) {
  const jar = new CookieJar();
  for (const expected of ["1", "2", "3"]) {
    const counted = await visit(server, "/count", jar);
    if (counted !== expected) throw new Error(`${server.name} counted ${counted}, not ${expected}`);
  }
}

const newJars = (many = SESSIONS) => Array.from({ length: many }, () => new CookieJar());

// The cookies of visitors who have just counted: on KV they bring what they wrote last, and for 90 seconds only. Of visitors who are
// new, unless they are named: the jar of one for whom wrk has counted since lacks what those replies gave and took away.
async function freshCookies(server, jars = newJars()) {
  const cookies = [];
  for (const jar of jars) {
    await visit(server, "/count", jar);
    await visit(server, "/count", jar);
    cookies.push(await jar.getCookieString(server.origin));
  }
  return cookies;
}

// The last characters of the session's cookie, which are the signature's or the seal's, are others.
const forged = (server) => (cookies) =>
  cookies.split("; ").map((cookie) => (cookie.startsWith(`${server.cookie}=`) ? cookie.replace(/.{8}$/, (end) => (end === "00000000" ? "11111111" : "00000000")) : cookie)).join("; ");
const asTheyAre = () => (cookies) => cookies;

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

// The calls since the last look, by the stores' own count, for each of so many requests.
async function callsFor(server, requests) {
  const all = { ...(await (await fetch(server.kv)).json()), ...(await (await fetch(`${server.d1}/calls`)).json()) };
  const each = Object.entries(all).map(([call, times]) => [call, (times / requests).toFixed(2).replace(/\.?0+$/, "")]);
  return each.filter(([, times]) => times !== "0").map(([call, times]) => `${times} ${call}`).join(", ") || "none";
}

// The kinds of request: by whom, and to whose cost.
const SESSIONS_ALONE = (server) => !server.constant;
const KINDS = [
  { kind: "count", path: "/count", cookies: asTheyAre, base: FLOOR, who: SESSIONS_ALONE },
  { kind: "read", path: "/read", cookies: asTheyAre, base: FLOOR, who: SESSIONS_ALONE },
  { kind: "forged", path: "/read", cookies: forged, base: CONSTANT, who: () => true },
];
const secondsOf = (racers) => racers * (warmUp + rounds * seconds);

// Gives for each kind a table, and any one's processor time as a ratio to any other's.
async function throughput(racers, kinds, say) {
  const servers = [];
  for (const contestant of racers) {
    const server = { ...contestant, ...(await start(contestant)) };
    if (!server.constant) await countsToThree(server);
    servers.push(server);
  }
  const texts = [];
  for (const { kind, path, cookies, base, who } of kinds) {
    const racing = servers.filter(who);
    const results = new Map(racing.map((server) => [server, []]));
    const fresh = async (server) => (await freshCookies(server)).map(cookies(server));
    const calls = new Map();
    // V8 compiles a Worker's functions as they turn out to be busy, and some thousands of requests go by until all are.
    for (const server of racing) {
      const file = cookieFile(server.name, await fresh(server));
      await callsFor(server, 1);
      const { requests } = load(server, path, file, { duration: warmUp });
      calls.set(server, server.constant ? "" : await callsFor(server, requests));
      say(`${kind}, warming up`, warmUp);
    }
    for (let round = 0; round < rounds; round += 1) {
      // To and fro, so that who comes after whom is not always the same.
      for (const server of round % 2 ? racing.toReversed() : racing) results.get(server).push(load(server, path, cookieFile(server.name, await fresh(server))));
      say(`${kind}, round ${round + 1} of ${rounds}`, racing.length * seconds);
    }
    const baseResults = results.get(racing.find(({ name }) => name === base));
    const rows = racing.map((server) => {
      const own = results.get(server);
      const ratio = (value) => show(median(own.map((result, round) => value(result) / value(baseResults[round]))), 2);
      const refused = own.reduce((sum, result) => sum + result.refused, 0);
      return [
        server.name, show(median(own.map(({ cpu }) => cpu)), 0), show(Math.min(...own.map(({ cpu }) => cpu)), 0), ratio(({ cpu }) => cpu),
        show(median(own.map(({ rps }) => rps)), 0), ratio(({ rps }) => rps),
        show(median(own.map(({ p50 }) => p50)), 2), ratio(({ p50 }) => p50), show(median(own.map(({ p99 }) => p99)), 2), ratio(({ p99 }) => p99),
        server.name.endsWith("object") ? "see below" : calls.get(server), refused || "",
      ];
    });
    const head = ["", "CPU µs", "least", `to ${base}`, "requests/s", "ratio", "p50 ms", "ratio", "p99 ms", "ratio", "store calls", "refused"];
    // One's processor time to another's.
    const cpusOf = (name) => results.get(racing.find((server) => server.name === name)).map(({ cpu }) => cpu);
    const toOther = (name, other) => median(cpusOf(name).map((cpu, round) => cpu / cpusOf(other)[round]));
    texts.push({ text: `### ${kind}\n\n${table(head, rows)}`, toOther });
  }
  for (const server of servers) await server.stop();
  return texts;
}

const CLIENTS = [50, 200, 1000];
const CONTENTION_ROUNDS = 2;
// Longer than a request may wait for its turn.
const CONTENTION_SECONDS = 10;

// The session's number when no request is under way any more.
async function settled(server, jar) {
  for (let before = -1; ; ) {
    const count = Number(await visit(server, "/read", jar));
    if (count === before) return count;
    before = count;
    await pause(500);
  }
}

// Many clients on one session.
async function contention(say) {
  const servers = await Promise.all(["d1", "object"].map(async (store) => ({ ...(await start(edge(store, { server_timing: true }))), name: store })));
  const results = new Map();
  for (let round = 0; round < CONTENTION_ROUNDS; round += 1) {
    for (const clients of CLIENTS) {
      for (const server of servers) {
        const [jar] = newJars(1);
        const result = load(server, "/count", cookieFile("contended", await freshCookies(server, [jar])), { connections: clients, duration: CONTENTION_SECONDS, attempts: true });
        const stored = (await settled(server, jar)) - 1;
        const told = result.requests - result.refused;
        const key = `${server.name}, ${clients}`;
        results.set(key, [...(results.get(key) ?? []), {
          ...result, told, stored,
          rate: told / result.seconds,
          tries: result.attempts / result.told,
          refusedShare: result.refused / result.requests,
          // wrk lets go of the requests that are in flight when its time is over: they may be counted, and nobody told.
          exact: stored >= told && stored <= told + clients,
        }]);
        say(`contention, ${key} clients`, CONTENTION_SECONDS);
      }
    }
  }
  for (const server of servers) await server.stop();
  const rows = [...results].map(([key, runs]) => {
    const middle = (value, digits) => show(median(runs.map(value)), digits);
    const sum = (value) => runs.reduce((total, run) => total + value(run), 0);
    return [
      ...key.split(", "), middle(({ rate }) => rate, 0), middle(({ tries }) => tries, 2), `${middle(({ refusedShare }) => 100 * refusedShare, 1)} %`,
      middle(({ p50 }) => p50, 0), middle(({ p99 }) => p99, 0), sum(({ told }) => told), sum(({ stored }) => stored), runs.every(({ exact }) => exact) ? "yes" : "NO",
    ];
  });
  return table(["store", "clients", "completed/s", "attempts per success", "refused", "p50 ms", "p99 ms", "told", "stored", "exact"], rows);
}

// More sessions in the store, and more data in a session.
const MANY = [1, 1000, 100_000];
const SIZES = [100, 10_000, 100_000];
const GROWTH_WARM_UP = 2 * seconds;
const GROWTH_SECONDS = STORES.length * (MANY.length + SIZES.length) * (GROWTH_WARM_UP + 3 * seconds);

async function growth(say) {
  const sessions = [];
  const fill = async (server, many) => {
    if (server.name !== "object") {
      const filled = await fetch(`${server[server.name]}/fill?n=${many}`);
      if (!filled.ok) throw new Error(`${server.name} could not be filled: ${filled.status}`);
      return;
    }
    // An object that nobody has asked for a while is a file, and here one file under many names.
    await visit(server, "/count", new CookieJar());
    const folder = `${server.disk}/session`;
    const file = readdirSync(folder).find((name) => /^[0-9a-f]{64}\.sqlite$/.test(name));
    for (let n = 0; n < many; n += 1) linkSync(`${folder}/${file}`, `${folder}/${String(n).padStart(64, "0")}.sqlite`);
  };
  for (const store of STORES) {
    const row = [store];
    for (const many of MANY) {
      const server = { ...(await start(edge(store))), name: store };
      await fill(server, many);
      const file = cookieFile("grown", await freshCookies(server));
      load(server, "/count", file, { duration: GROWTH_WARM_UP });
      row.push(show(median([1, 2, 3].map(() => load(server, "/count", file).cpu)), 0));
      await server.stop();
      say(`growth, ${store}`, GROWTH_WARM_UP + 3 * seconds);
    }
    sessions.push([...row, show(Number(row[3]) / Number(row[1]), 2)]);
  }
  const data = [];
  for (const store of STORES) {
    const row = [store];
    for (const bytes of SIZES) {
      const contestant = { ...edge(store), modules: built("tests/worker/routes/build") };
      const server = { ...(await start(contestant)), name: store };
      const [jar] = newJars(1);
      await visit(server, "/notes", jar, "x".repeat(bytes));
      const file = cookieFile("filled", [await jar.getCookieString(server.origin)]);
      load(server, "/notes", file, { duration: GROWTH_WARM_UP });
      row.push(show(median([1, 2, 3].map(() => load(server, "/notes", file).cpu)), 0));
      await server.stop();
      say(`growth, ${store}`, GROWTH_WARM_UP + 3 * seconds);
    }
    data.push([...row, show((Number(row[3]) - Number(row[1])) / 99.9, 2)]);
  }
  return [
    table(["store", "1 session", "1 000", "100 000", "100 000 to 1"], sessions),
    table(["store", "100 B", "10 KB", "100 KB", "µs more for each KB"], data),
  ];
}

const STARTS = 20;

async function coldStarts(say) {
  const rows = [];
  for (const contestant of contestants) {
    const starts = [];
    for (let n = 0; n < STARTS; n += 1) {
      const server = await start(contestant);
      starts.push(server.startUp);
      await server.stop();
    }
    rows.push([contestant.name, weight(contestant.modules, "wasm") || "", weight(contestant.modules, "esModule"), show(median(starts), 0), show(Math.min(...starts), 0)]);
    say(`cold start, ${contestant.name}`, 4);
  }
  return table(["", "wasm, gzipped", "JavaScript, gzipped", "cold start, ms", "least"], rows);
}

// What each feature weighs.
function weights() {
  const of = (folder) => weight(built(folder), "wasm");
  const whole = of("bench/edge-session/build");
  const rows = [
    ["all stores", whole],
    ["without `object`: KV and D1", of("target/bench/weight/plain")],
    ["all stores, with `users`", of("target/bench/weight/users")],
    ["for axum, without `object`", of("target/bench/weight/axum")],
  ];
  return table(["README's Worker", "wasm, gzipped", "to the first"], rows.map(([name, bytes]) => [name, bytes, bytes === whole ? "" : `${bytes > whole ? "+" : "−"}${Math.abs(bytes - whole)}`]));
}

if (against) {
  const everyone = () => true;
  const stores = (process.env.STORES ?? STORES.join()).split(",");
  const say = progress("processor", stores.length * 2 * secondsOf(2));
  for (const store of stores) {
    const base = `before, ${store}`;
    const kinds = ["count", "read"].map((kind) => ({ kind: `${kind}, ${store}`, path: `/${kind}`, cookies: asTheyAre, base, who: everyone }));
    for (const { text } of await throughput([before(store), edge(store)], kinds, say)) console.log(`${text}\n`);
  }
  process.exit(0);
}

const sessionsAlone = contestants.filter(SESSIONS_ALONE).length;
const say = progress("processor", 2 * secondsOf(sessionsAlone) + secondsOf(contestants.length)
  + CONTENTION_ROUNDS * CLIENTS.length * 2 * CONTENTION_SECONDS + GROWTH_SECONDS + 4 * contestants.length);
const [count, read, forgery] = await throughput(contestants, KINDS, say);
const contended = await contention(say);
const [sessions, data] = await growth(say);
const started = await coldStarts(say);

const met = (is) => (is ? "met" : "**missed**");
const toReactRouter = ({ toOther }) => Number(show(toOther(EDGE_ON_KV, REACT_ROUTER), 2));
const [ownCount, ownRead] = [count, read].map(toReactRouter);
// To the least that somebody else who keeps sessions takes.
const others = [floor, ...peers, withoutStore()];
const ownForged = Number(show(Math.max(...others.map(({ name }) => forgery.toOther(EDGE_ON_KV, name))), 2));
const expected = `Expected of edge-session on KV: a *count* costs at most 0.95 times React Router's (${met(ownCount <= 0.95)}: ${ownCount}), a *read* no more than
its (${met(ownRead <= 1)}: ${ownRead}), and a *forged* request less than everybody's (${met(ownForged < 1)}: ${ownForged} of the least).`;

write("processor", `## Processor time

${expected}

*count* adds one to a session, *read* looks at it, *forged* comes with a cookie whose signature is wrong. Each contestant runs in a
workerd of its own (the npm package's binary, by a capnp configuration) on the first core, with the same KV in memory behind its
binding, which answers at once and whose work is counted in; wrk on the second, ${CONNECTIONS} connections, ${SESSIONS} warm sessions in turn,
with the cookies of browsers that have just counted. After ${warmUp} seconds each, which are not counted, ${rounds}
rounds of ${seconds} seconds, the contestants interleaved. Figures are medians over the rounds; a ratio is the median of the rounds' ratios, of the
column before it, to the one that the first of them names; "least" is the least CPU of a round, "store calls" are those of one request. CPU
is the processor time of the workerd process (its own and the kernel's for it) for each request that it answered. Machines are
noisy: compare ratios, and only within one file.

${count.text}

${read.text}

${forgery.text}

An object's calls are not seen here; \`each_request_asks_the_store_as_little_as_can_be\` in \`tests/worker/faults.rs\`
counts them: one to load, one to save. iron-session asks no store, and so can neither end a session nor keep two requests apart.

### Contention: many clients on one session

${contended}

Medians of ${CONTENTION_ROUNDS} rounds of ${CONTENTION_SECONDS} seconds, interleaved. "Told" are the requests that were answered, of all rounds; "stored" is by how much the session's number grew. Up to as many more
as there are clients may be stored in a round than were told: those in flight when the time was over. An attempt is a run of the handler: who comes while others wait has run it
before it learns of them, and runs it again in its turn, on what the one before it stored.

### Growth

CPU µs for each count, with more sessions in the store:

${sessions}

(Objects that nobody asks for are files: for the last row, one object's file under that many names.)

CPU µs for each read of a session that holds more (the reply holds it too; by the tests' Worker, which is built without link-time optimisation):

${data}

### Cold start

${started}

A cold start is from the start of the process to the first answer, the median of ${STARTS}: workerd's own start is in it, for all alike.

### Weight

${weights()}

Bytes by \`gzip -9\`. README's Worker has a look and a login besides; with \`users\`, a list of devices and an end of the others; for axum it is that of \`make new AXUM=1\`.
`);
process.exit(0);
