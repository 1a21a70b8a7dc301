// The floor: no session logic at all. One read, one write, a cookie that anybody could forge.
const TTL = { expirationTtl: 86400 };

export default {
  async fetch(request, env) {
    const path = new URL(request.url).pathname;
    const sent = /(?:^|; )sid=([0-9a-f-]+)/.exec(request.headers.get("Cookie") ?? "");
    let id = sent ? sent[1] : crypto.randomUUID();
    let count = Number((sent && (await env.SESSIONS.get(id))) ?? 0);
    const headers = new Headers({ "Content-Type": "text/plain" });
    const save = async () => {
      count += 1;
      await env.SESSIONS.put(id, String(count), TTL);
      headers.set("Set-Cookie", `sid=${id}; HttpOnly; Path=/; SameSite=Lax`);
    };
    if (path === "/count") await save();
    if (path === "/login") {
      const old = env.SESSIONS.delete(id);
      id = crypto.randomUUID();
      await Promise.all([old, save()]);
    }
    return new Response(String(count), { headers });
  },
};
