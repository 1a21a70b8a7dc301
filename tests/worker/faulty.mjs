// Stores that fail on order, for the tests of what the Worker makes of it: between the Worker and its real KV, D1 and
// objects, by service bindings. POST / gives the faults of the next calls, one word each; GET / the calls that were made.
import { RpcTarget, WorkerEntrypoint } from "cloudflare:workers";

let faults = [];
let calls = [];

const thrown = (message, flags = {}) => Object.assign(new Error(message), flags);

// What each store throws when something passes by itself, when it has too much to do, and for good.
const errors = {
  kv: { passing: () => thrown("KV GET failed: 503"), overloaded: () => thrown("KV PUT failed: 429 Too Many Requests") },
  d1: {
    passing: () => thrown("D1_ERROR: Network connection lost."),
    overloaded: () => thrown("D1_ERROR: D1 DB is overloaded. Too many requests queued."),
  },
  object: {
    passing: () => thrown("Network connection lost.", { retryable: true }),
    overloaded: () => thrown("Durable Object is overloaded.", { retryable: true, overloaded: true }),
  },
};

// Makes the call, or does what was ordered instead.
async function made(store, name, call) {
  calls.push(name);
  const fault = faults.shift() ?? "none";
  if (fault === "none") return call();
  if (fault === "hang") return new Promise((resolve) => setTimeout(resolve, 20_000));
  if (fault === "lost") {
    await call();
    throw errors[store].passing();
  }
  // Anything else that the object of another release might say.
  if (!(fault in errors[store])) return new Response(fault);
  throw errors[store][fault]();
}

export class Kv extends WorkerEntrypoint {
  get(key, options) {
    return made("kv", "get", () => this.env.SESSIONS.get(key, options));
  }
  put(key, value, options) {
    return made("kv", "put", () => this.env.SESSIONS.put(key, value, options));
  }
  delete(key) {
    return made("kv", "delete", () => this.env.SESSIONS.delete(key));
  }
}

class Statement extends RpcTarget {
  #statement;
  #name;
  constructor(statement, name) {
    super();
    this.#statement = statement;
    this.#name = name;
  }
  bind(...values) {
    return new Statement(this.#statement.bind(...values), this.#name);
  }
  raw() {
    return made("d1", this.#name, () => this.#statement.raw());
  }
}

export class D1 extends WorkerEntrypoint {
  prepare(sql) {
    return new Statement(this.env.DB.prepare(sql), sql.split(" ")[0].toLowerCase());
  }
}

class Stub extends RpcTarget {
  #stub;
  constructor(stub) {
    super();
    this.#stub = stub;
  }
  fetch(url, init) {
    return made("object", init.body.split("\n")[0].split(" ")[1], () => this.#stub.fetch(url, init));
  }
}

export class Objects extends WorkerEntrypoint {
  getByName(name) {
    calls.push("stub");
    return new Stub(this.env.SESSION_OBJECTS.getByName(name));
  }
}

export default {
  async fetch(request) {
    if (request.method !== "POST") return Response.json(calls);
    faults = await request.json();
    calls = [];
    return new Response();
  },
};
