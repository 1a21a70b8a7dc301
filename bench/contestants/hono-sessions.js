// hono-sessions over KV: it has no KV store, so this is the one that its interface asks for.
import { Hono } from "hono";
import { sessionMiddleware } from "hono-sessions";

class KvStore {
  constructor(namespace) {
    this.namespace = namespace;
  }
  getSessionById(id) {
    return this.namespace.get(id, "json");
  }
  createSession(id, data) {
    return this.persistSessionData(id, data);
  }
  persistSessionData(id, data) {
    return this.namespace.put(id, JSON.stringify(data), { expirationTtl: 86400 });
  }
  deleteSession(id) {
    return this.namespace.delete(id);
  }
}

const app = new Hono();
let middleware;
app.use("*", (context, next) => {
  middleware ??= sessionMiddleware({
    store: new KvStore(context.env.SESSIONS),
    encryptionKey: context.env.SECRET_KEY,
    expireAfterSeconds: 86400,
    cookieOptions: { sameSite: "Lax", path: "/", httpOnly: true },
  });
  return middleware(context, next);
});
app.get("/count", (context) => {
  const session = context.get("session");
  const count = (session.get("count") ?? 0) + 1;
  session.set("count", count);
  return context.text(String(count));
});
// As its documentation has it: the key is rotated at a login.
app.post("/login", (context) => {
  const session = context.get("session");
  const count = (session.get("count") ?? 0) + 1;
  context.set("session_key_rotation", true);
  session.set("user", "ada");
  session.set("count", count);
  return context.text(String(count));
});
app.get("/read", (context) => context.text(String(context.get("session").get("count") ?? 0)));

export default app;
