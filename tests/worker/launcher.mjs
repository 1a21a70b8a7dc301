// Runs the built Worker in workerd for the tests in Rust: one JSON command a line on standard input,
// one JSON answer a line on standard output, of the same number. Ends when its input does.
import { createInterface } from "node:readline";
import { createTestHarness } from "wrangler";

const harnesses = new Map();

const commands = {
  // Starts a Worker of its own, with storage of its own, which may lie behind stores that fail on order.
  async start({ config, dist, vars, secrets, migrate, faulty }) {
    // Which rule is taken out of it, where that is asked for (tests/mutants.mjs).
    const { TAKEN_OUT } = process.env;
    const worker = { configPath: config, prebuiltWorkerDir: dist, vars: { ...vars, ...(TAKEN_OUT && { TAKEN_OUT }) }, secrets };
    const stores = faulty ? [{ configPath: "tests/worker/faulty.toml" }] : [];
    const harness = createTestHarness({ workers: [worker, ...stores] });
    const { url } = await harness.listen();
    if (migrate) await harness.getWorker(faulty ? "faulty" : undefined).applyD1Migrations("DB");
    const id = String(url);
    harnesses.set(id, harness);
    return id;
  },
  async stop({ id }) {
    const harness = harnesses.get(id);
    // Another may be given its port before it is closed altogether.
    harnesses.delete(id);
    await harness.close();
  },
  logs: ({ id }) => harnesses.get(id).getLogs().map((log) => log.message),
  scheduled: async ({ id }) => (await harnesses.get(id).getWorker().scheduled({ cron: "17 * * * *" })).outcome,
  // One that nobody has asked for a while is not there: then it has been evicted already.
  evict: ({ id, name }) => harnesses.get(id).getWorker().evictDurableObject("SESSION_OBJECTS", { name }).catch((error) => {
    if (!/not currently running/.test(error.message)) throw error;
  }),
  // The next calls of the stores of faulty.mjs go wrong like this, one word each.
  async order({ id, faults }) {
    await harnesses.get(id).getWorker("faulty").fetch("http://faulty/", { method: "POST", body: JSON.stringify(faults) });
  },
  calls: async ({ id }) => (await harnesses.get(id).getWorker("faulty").fetch("http://faulty/")).json(),
  // What an object answers to a message as it is.
  async message({ id, name, message }) {
    const { SESSION_OBJECTS } = await harnesses.get(id).getWorker().getEnv();
    return (await SESSION_OBJECTS.getByName(name).fetch("https://session/", { method: "POST", body: message })).text();
  },
  async d1({ id, sql }) {
    const { DB } = await harnesses.get(id).getWorker().getEnv();
    return (await DB.prepare(sql).all()).results;
  },
  async kvKeys({ id }) {
    const { SESSIONS } = await harnesses.get(id).getWorker().getEnv();
    return (await SESSIONS.list()).keys;
  },
  async kvGet({ id, key }) {
    const { SESSIONS } = await harnesses.get(id).getWorker().getEnv();
    return SESSIONS.get(key);
  },
  migrate: ({ id }) => harnesses.get(id).getWorker().applyD1Migrations("DB"),
  async kvPut({ id, key, value }) {
    const { SESSIONS } = await harnesses.get(id).getWorker().getEnv();
    await SESSIONS.put(key, value);
  },
};

async function answer({ command, number, ...values }) {
  let outcome;
  try {
    outcome = { Ok: (await commands[command](values)) ?? null };
  } catch (error) {
    outcome = { Err: String(error?.stack ?? error) };
  }
  process.stdout.write(`\n\u0001${JSON.stringify({ number, outcome })}\n`);
}

for await (const line of createInterface({ input: process.stdin })) answer(JSON.parse(line));
await Promise.all([...harnesses.values()].map((harness) => harness.close()));
process.exit(0);
