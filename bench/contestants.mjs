// Who takes part: each is a Worker with /count, /read and /login, and the name of its session's cookie.
import { built, bundled } from "./workerd.mjs";

const peer = (name, module, cookie) => ({ name, modules: bundled(module), cookie });

export const edge = (store, extra = {}) => ({
  name: `edge-session, ${store}`,
  modules: built("bench/edge-session/build"),
  cookie: "webpy_session_id",
  parameters: { store, ...extra },
});

export const FLOOR = "the floor";
export const REACT_ROUTER = "React Router";
export const EDGE_ON_KV = "edge-session, kv";

// Those on KV which others than us have written, and the floor.
export const peersOnKv = () => [
  peer(FLOOR, "floor", "sid"),
  peer(REACT_ROUTER, "react-router", "__session"),
  peer("hono-sessions", "hono-sessions", "session"),
];
export const withoutStore = () => peer("iron-session", "iron-session", "iron");
