// A visitor who wanders between two places within seconds, on KV: `node bench/wander.mjs [SECONDS]`. Prints what was answered wrongly,
// and how many counts the store does not have so long after the last visit, for the session's cookie alone.
import { edge } from "./contestants.mjs";
import { PUTS } from "./delays.mjs";
import { pause } from "./numbers.mjs";
import { startPlaces } from "./places.mjs";
import { Visitor } from "./visitor.mjs";

const seconds = Number(process.argv[2] ?? 8);
const VISITORS = 40;
const VISITS = 25;
const PAUSES = [0, 0, 50, 300, 1200];
const oneOf = (list) => list[Math.floor(Math.random() * list.length)];

async function wander({ home, away, new: fresh, cookie }) {
  const visitor = new Visitor();
  await pause(3000 * Math.random());
  await visitor.count(home);
  for (let visit = 0; visit < VISITS; visit += 1) {
    await pause(oneOf(PAUSES));
    const place = oneOf([home, home, home, away]);
    await (Math.random() < 0.6 ? visitor.count(place) : visitor.look(place));
  }
  await pause(seconds * 1000);
  const shown = { ...visitor.wrong };
  await visitor.lookInStore(fresh, cookie);
  return { ...shown, notStored: visitor.wrong.lost - shown.lost, asked: visitor.asked };
}

const add = (sum, one) => Object.fromEntries(Object.entries(one).map(([name, many]) => [name, many + (sum[name] ?? 0)]));
await Promise.all(PUTS.map(async (put) => {
  const server = await startPlaces({ ...edge("kv"), name: `wandering ${put}`, write: `KV write, ${put}`, seed: put });
  const all = await Promise.all(Array.from({ length: VISITORS }, () => wander(server)));
  console.log(`a write to KV takes ${put} ms:`, all.reduce(add, {}));
  await server.stop();
}));
process.exit(0);
