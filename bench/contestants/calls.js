// What edge-session asks of the runtime, and nothing that it does itself: the floor with a logout's mark read beside the
// session, a deadline, and the headers of a session's reply (but no `waitUntil`). So much of its cost is what it promises.
const READ = { cacheTtl: 30 };
const headers = new Headers({
  "Content-Type": "text/plain; charset=utf-8",
  "Cache-Control": "private, no-store",
  "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
  "Vary": "Cookie",
  "X-Content-Type-Options": "nosniff",
});

export default {
  async fetch(request, env) {
    const counts = request.url.endsWith("/count");
    const sent = /(?:^|; )sid=([0-9a-f-]+)/.exec(request.headers.get("Cookie") ?? "");
    const id = sent ? sent[1] : crypto.randomUUID();
    const [session, ended] = [`session:${id}`, `ended:${id}`];
    setTimeout(() => {}, 5000);
    const found = sent && (await env.SESSIONS.get([session, ended], READ));
    let count = found?.get(ended) === null ? Number(found.get(session) ?? 0) : 0;
    if (counts) {
      count += 1;
      await env.SESSIONS.put(session, String(count), { expiration: Math.floor(Date.now() / 1000) + 86400 });
    }
    const response = new Response(String(count), { headers });
    if (counts) response.headers.append("Set-Cookie", `sid=${id}; HttpOnly; Path=/; SameSite=Lax`);
    return response;
  },
};
