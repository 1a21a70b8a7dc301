// Where the objects live: edge-session's class, over a storage that counts the rows it writes. A reply waits until what was
// written is durable, as the runtime has it wait in production.
import { SessionObject } from "./index.js";
import { drawing, wait } from "./delay.js";

let rows = 0;
let draw;

// The object itself, but for some of its members. What is native wants its own `this`.
const over = (object, members) => new Proxy(object, {
  get(target, name) {
    if (name in members) return members[name];
    const value = Reflect.get(target, name, target);
    return typeof value === "function" ? value.bind(target) : value;
  },
});

// An alarm that is set is billed as a row.
function counting(storage, write) {
  const noted = (call) => (...values) => {
    write(1);
    return call(...values);
  };
  const { kv, sql } = storage;
  return over(storage, {
    kv: over(kv, { put: noted((...values) => kv.put(...values)), delete: noted((key) => kv.delete(key)) }),
    sql: over(sql, {
      exec(...values) {
        const cursor = sql.exec(...values);
        write(cursor.rowsWritten);
        return cursor;
      },
    }),
    put: noted((...values) => storage.put(...values)),
    setAlarm: noted((...values) => storage.setAlarm(...values)),
    deleteAll: noted(() => storage.deleteAll()),
  });
}

export class Counted {
  #object;
  #env;
  #written = 0;
  constructor(state, env) {
    draw ??= drawing(env.seed);
    this.#env = env;
    const write = (many) => {
      rows += many;
      this.#written += many;
    };
    this.#object = new SessionObject(over(state, { storage: counting(state.storage, write) }), env);
  }
  async fetch(request) {
    const before = this.#written;
    const response = await this.#object.fetch(request);
    if (this.#written > before) await wait(draw(this.#env.delays["object, a write made durable"]));
    return response;
  }
  alarm() {
    return this.#object.alarm();
  }
}

export default {
  fetch() {
    const answer = Response.json({ rows });
    rows = 0;
    return answer;
  },
};
