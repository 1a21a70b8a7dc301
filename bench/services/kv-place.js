// Workers KV as it is at one place, and as workerd's binding speaks to it.
//
// A read that this place has cached is hot. Any other goes to the central store, and is then cached here for the read's
// `cacheTtl`, also where nothing was found. A write goes to the central store. Here it is seen as soon as it has arrived
// there, which is more than KV promises; at another place when what is cached there is too old, which is as early as can be. A
// refused write takes as long as any other.
import { drawing, wait } from "./delay.js";

const DEFAULT_CACHE_TTL = 60;
const cached = new Map();
const nothing = () => ({ read: 0, written: 0, deleted: 0, refused: 0 });
let counted = nothing();
let draw;

function remember(key, text, ttl = DEFAULT_CACHE_TTL) {
  cached.set(key, { text, until: Date.now() + ttl * 1000 });
}

const hot = (key) => {
  const found = cached.get(key);
  return found && found.until > Date.now() ? found : undefined;
};

async function read(keys, ttl, env) {
  counted.read += keys.length;
  const cold = keys.filter((key) => !hot(key));
  const before = new Map(keys.map((key) => [key, cached.get(key)]));
  await wait(draw(env.delays[cold.length ? "KV read, cold" : "KV read, hot"]));
  if (cold.length) {
    const asked = await env.CENTRAL.fetch("http://central/", { method: "POST", body: JSON.stringify({ keys: cold }) });
    const found = await asked.json();
    // Unless a write came by meanwhile.
    for (const key of cold) if (cached.get(key) === before.get(key)) remember(key, found[key], ttl);
  }
  return Object.fromEntries(keys.map((key) => [key, cached.get(key).text]));
}

async function write(request, key, env) {
  counted[request.method === "PUT" ? "written" : "deleted"] += 1;
  const text = request.method === "PUT" ? await request.text() : null;
  const way = draw(env.delays[env.write]) / 2;
  await wait(way);
  const { status, statusText } = await env.CENTRAL.fetch(`http://central/${encodeURIComponent(key)}`, { method: request.method, body: text });
  if (status === 200) remember(key, text);
  else counted.refused += 1;
  await wait(way);
  return new Response(null, { status, statusText });
}

export default {
  async fetch(request, env) {
    draw ??= drawing(env.seed);
    const url = new URL(request.url);
    const key = decodeURIComponent(url.pathname.slice(1));
    if (request.method === "POST") {
      const { keys, cacheTtl } = await request.json();
      return Response.json(await read(keys, Number(cacheTtl ?? DEFAULT_CACHE_TTL), env));
    }
    if (request.method !== "GET") return write(request, key, env);
    const found = await read([key], Number(url.searchParams.get("cache_ttl") ?? DEFAULT_CACHE_TTL), env);
    return found[key] === null ? new Response(null, { status: 404 }) : new Response(found[key]);
  },
};

// What was billed at this place since the last look.
export const control = {
  fetch() {
    const answer = Response.json(counted);
    counted = nothing();
    return answer;
  },
};
