// The floor: no session logic at all. One read, one write, a cookie that anybody could forge.
const TTL = { expirationTtl: 86400 };

export default {
  async fetch(request, env) {
    const path = new URL(request.url).pathname;
    const sent = /(?:^|; )sid=([0-9a-f-]+)/.exec(request.headers.get("Cookie") ?? "");
    const id = sent ? sent[1] : crypto.randomUUID();
    let count = Number((sent && (await env.SESSIONS.get(id))) ?? 0);
    const headers = new Headers({ "Content-Type": "text/plain" });
    if (path === "/count") {
      count += 1;
      await env.SESSIONS.put(id, String(count), TTL);
      headers.set("Set-Cookie", `sid=${id}; HttpOnly; Path=/; SameSite=Lax`);
    }
    return new Response(String(count), { headers });
  },
};
