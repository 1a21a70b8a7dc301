// KV's central store, in memory: it takes one write a second under a name, and answers the next with 429.
const values = new Map();
const written = new Map();
const ONE_SECOND = 1000;

export default {
  async fetch(request) {
    const key = decodeURIComponent(new URL(request.url).pathname.slice(1));
    if (request.method === "POST") {
      const { keys } = await request.json();
      return Response.json(Object.fromEntries(keys.map((key) => [key, values.get(key) ?? null])));
    }
    const now = Date.now();
    if (now - (written.get(key) ?? 0) < ONE_SECOND) return new Response(null, { status: 429, statusText: "Too Many Requests" });
    written.set(key, now);
    if (request.method === "DELETE") values.delete(key);
    else values.set(key, await request.text());
    return new Response();
  },
};
