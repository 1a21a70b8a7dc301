// Stores that fail on order, for the tests of what the Worker makes of it: between the Worker and its real KV, D1 and
// objects, by service bindings. POST / gives the faults of the next calls, one word each, or how KV behaves, or lets what is late
// `arrive`; GET / the calls that were made.
import { RpcTarget, WorkerEntrypoint } from "cloudflare:workers";

let faults = [];
let calls = [];
// What was given up and has not arrived yet: each from a request of its own, by whose bindings it is made again.
let late = [];

// How KV behaves from now on: `limited` to one write a second and name, `frozen` at what was read first, as in a place that
// sees no newer value, how many milliseconds a put takes, and whether it is `held` until the next order.
let kv = {};
let written = new Map();
let read = new Map();

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const thrown = (message, flags = {}) => Object.assign(new Error(message), flags);

// What each store throws when something passes by itself, when it has too much to do, and for good.
const errors = {
  kv: {
    passing: () => thrown("KV GET failed: 503"),
    overloaded: (name) => thrown(`KV ${name.toUpperCase()} failed: 429 Too Many Requests`),
    broken: () => thrown("KV PUT failed: 500 Internal Server Error"),
  },
  d1: {
    passing: () => thrown("D1_ERROR: Network connection lost."),
    overloaded: () => thrown("D1_ERROR: D1 DB is overloaded. Too many requests queued."),
    broken: () => thrown("D1_ERROR: Your account has exceeded D1's free tier daily row write limit"),
  },
  object: {
    passing: () => thrown("Network connection lost.", { retryable: true }),
    overloaded: () => thrown("Durable Object is overloaded.", { retryable: true, overloaded: true }),
    broken: () => thrown("rows written limit exceeded"),
  },
};

// Makes the call, or does what was ordered instead. The rival is another request, between a lost answer and the
// repetition; `arrives` makes the call when it is late, by these bindings.
async function made(store, name, call, rival, arrives) {
  calls.push(name);
  const fault = faults.shift() ?? "none";
  if (fault === "none") return call();
  if (fault === "hang") return pause(20_000);
  if (fault === "late") {
    late.push(arrives);
    throw errors[store].passing();
  }
  if (fault.startsWith("lost")) {
    await call();
    if (fault !== "lost") await rival(fault);
    throw errors[store].passing();
  }
  // Anything else that the object of another release might say.
  if (!(fault in errors[store])) return new Response(fault);
  throw errors[store][fault](name);
}

export class Kv extends WorkerEntrypoint {
  get(keys, options) {
    return made("kv", "get", async () => {
      const found = await this.env.SESSIONS.get(keys, options);
      if (!kv.frozen || !Array.isArray(keys)) return found;
      for (const key of keys) if (!read.has(key)) read.set(key, found.get(key));
      return new Map(keys.map((key) => [key, read.get(key)]));
    });
  }
  async #write(name, key, write) {
    if (kv.limited && Date.now() - (written.get(key) ?? 0) < 1000) throw errors.kv.overloaded(name);
    if (kv.limited) written.set(key, Date.now());
    if (kv.putTakes) await pause(kv.putTakes);
    while (kv.held) await pause(20);
    return write();
  }
  put(key, value, options) {
    return made("kv", "put", () => this.#write("put", key, () => this.env.SESSIONS.put(key, value, options)));
  }
  delete(key) {
    return made("kv", "delete", () => this.#write("delete", key, () => this.env.SESSIONS.delete(key)));
  }
}

class Statement extends RpcTarget {
  #statement;
  #name;
  #inside;
  #rival;
  constructor(statement, name, inside, rival) {
    super();
    this.#statement = statement;
    this.#name = name;
    this.#inside = inside;
    this.#rival = rival;
  }
  bind(...values) {
    return new Statement(this.#statement.bind(...values), this.#name, { ...this.#inside, values }, this.#rival);
  }
  raw() {
    const { sql, values } = this.#inside;
    return made("d1", this.#name, () => this.#statement.raw(), this.#rival, ({ DB }) => DB.prepare(sql).bind(...values).raw());
  }
  // What `batch` needs of it on this side.
  async inside() {
    return this.#inside;
  }
}

export class D1 extends WorkerEntrypoint {
  async #rival(fault) {
    const statements = {
      "lost-then-updated": ["UPDATE sessions SET version = version + 1, nonce = 0"],
      "lost-then-deleted": ["DELETE FROM sessions"],
      "lost-then-logged-out": ["DELETE FROM sessions WHERE successor IS NULL"],
      "lost-then-all-ended": [
        `INSERT INTO sessions_revocations SELECT DISTINCT owner, ${Date.now() + 1}, NULL FROM sessions WHERE owner IS NOT NULL`,
        "DELETE FROM sessions WHERE owner IS NOT NULL",
      ],
    };
    for (const statement of statements[fault]) await this.env.DB.prepare(statement).run();
  }
  prepare(sql) {
    const rival = (fault) => this.#rival(fault);
    return new Statement(this.env.DB.prepare(sql), sql.split(" ")[0].toLowerCase(), { sql }, rival);
  }
  async batch(statements) {
    const inside = await Promise.all(statements.map((statement) => statement.inside()));
    const run = ({ DB }) => DB.batch(inside.map(({ sql, values }) => DB.prepare(sql).bind(...values)));
    return made("d1", "batch", () => run(this.env), (fault) => this.#rival(fault), run);
  }
}

class Stub extends RpcTarget {
  #name;
  #objects;
  #stub;
  constructor(name, objects) {
    super();
    [this.#name, this.#objects, this.#stub] = [name, objects, objects.getByName(name)];
  }
  fetch(url, init) {
    const ask = (body) => this.#stub.fetch(url, { ...init, body });
    const rival = async (fault) => {
      if (fault === "lost-then-deleted") return ask("edge-session/1 delete\n");
      if (fault === "lost-then-logged-out") {
        // As a logout does, which follows the session to its new id.
        const [successor] = (await (await ask("edge-session/1 delete\n")).text()).match(/\b[0-9a-f]{64}\b/);
        return this.#objects.getByName(successor).fetch(url, { ...init, body: "edge-session/1 delete\n" });
      }
      const record = (await (await ask("edge-session/1 load\n")).text()).replace("record\n", "");
      const next = record.replace(/^(\S+) (\d+) (\d+)/, (_, format, version) => `${format} ${Number(version) + 1} 0`);
      return ask(`edge-session/1 update\n${next}`);
    };
    const [name, act] = [this.#name, init.body.split("\n")[0].split(" ")[1]];
    const arrives = ({ SESSION_OBJECTS }) => SESSION_OBJECTS.getByName(name).fetch(url, init);
    return made("object", act, () => ask(init.body), rival, arrives);
  }
}

export class Objects extends WorkerEntrypoint {
  getByName(name) {
    calls.push("stub");
    return new Stub(name, this.env.SESSION_OBJECTS);
  }
}

export default {
  async fetch(request, env) {
    if (request.method !== "POST") return Response.json(calls);
    const order = await request.json();
    if (order[0] === "arrive") {
      order.shift();
      for (const arrives of late.splice(0)) await arrives(env);
    }
    if (Array.isArray(order)) faults = order;
    else [kv, written, read] = [order, new Map(), new Map()];
    calls = [];
    return new Response();
  },
};
