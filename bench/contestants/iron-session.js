// iron-session: no store at all, the data travels in a sealed cookie.
import { getIronSession } from "iron-session";

export default {
  async fetch(request, env) {
    const response = new Response(null, { headers: { "Content-Type": "text/plain" } });
    const options = { password: env.SECRET_KEY, cookieName: "iron", ttl: 86400 };
    const session = await getIronSession(request, response, options);
    let count = session.count ?? 0;
    if (new URL(request.url).pathname === "/count") {
      count += 1;
      session.count = count;
      await session.save();
    }
    return new Response(String(count), response);
  },
};
