// React Router's sessions in Workers KV, signed, as its documentation has them.
import { createWorkersKVSessionStorage } from "@react-router/cloudflare";
import { createCookie } from "react-router";

let storage;

export default {
  async fetch(request, env) {
    storage ??= createWorkersKVSessionStorage({
      kv: env.SESSIONS,
      cookie: createCookie("__session", {
        secrets: [env.SECRET_KEY], httpOnly: true, path: "/", sameSite: "lax", maxAge: 86400,
      }),
    });
    const path = new URL(request.url).pathname;
    const session = await storage.getSession(request.headers.get("Cookie"));
    const headers = new Headers({ "Content-Type": "text/plain" });
    let count = session.get("count") ?? 0;
    // Its documentation's login keeps the id, and sets who it is.
    if (path === "/login") session.set("userId", "ada");
    if (path === "/count" || path === "/login") {
      count += 1;
      session.set("count", count);
      headers.set("Set-Cookie", await storage.commitSession(session));
    }
    return new Response(String(count), { headers });
  },
};
