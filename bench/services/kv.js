// Workers KV in memory, as workerd's binding speaks to it, for every contestant alike. It counts the calls.
const values = new Map();
let calls = {};

export default {
  async fetch(request) {
    const url = new URL(request.url);
    const key = decodeURIComponent(url.pathname.slice(1));
    const call = { GET: "get", PUT: "put", DELETE: "delete", POST: "get" }[request.method];
    calls[call] = (calls[call] ?? 0) + 1;
    if (request.method === "PUT") {
      values.set(key, await request.text());
      return new Response();
    }
    if (request.method === "DELETE") {
      values.delete(key);
      return new Response();
    }
    if (request.method === "POST" && key === "bulk/get") {
      const { keys } = await request.json();
      return Response.json(Object.fromEntries(keys.map((key) => [key, values.get(key) ?? null])));
    }
    const value = values.get(key);
    return value === undefined ? new Response(null, { status: 404 }) : new Response(value);
  },
};

// For the benchmark: the calls since the last look, and a store with so many other sessions in it.
export const control = {
  fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/fill") {
      const value = "edge-session/1 1 7 1764000000 1764000000 4764086400 - 0 -\n{\"count\":1}";
      for (let n = 0; n < Number(searchParams.get("n")); n += 1) values.set(`session:${String(n).padStart(64, "0")}`, value);
      return new Response(String(values.size));
    }
    const answer = Response.json(calls);
    calls = {};
    return answer;
  },
};
