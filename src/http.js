// What src/http.rs asks of the runtime. Each call across the border between wasm and JavaScript costs a request as much
// as most of its own work, so that what belongs together crosses together.

export const cookie = (request) => request.headers.get("Cookie");
export const address = (request) => request.headers.get("CF-Connecting-IP");

// Made once and copied for each response: to make one header costs as much as a signature. They are a session's reply's
// already, for our few texts are for nobody else's eyes anyway.
const init = (type) => ({
  status: 200,
  headers: new Headers({
    "Content-Type": type,
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Vary": "Cookie",
    "X-Content-Type-Options": "nosniff",
  }),
});
const AS_TEXT = init("text/plain; charset=utf-8");
const AS_JSON = init("application/json");
const OWN = Symbol("made here");

function own(body, init) {
  const response = new Response(body, init);
  response[OWN] = true;
  return response;
}

export const text = (status, body) => own(body, status === 200 ? AS_TEXT : { ...AS_TEXT, status });
export const json = (body) => own(body, AS_JSON);

// Whether a Cache-Control keeps shared caches out: "private" or "no-store", and nothing that lets them in again. With a
// value, as private="Set-Cookie", it is about one header alone (RFC 9111, section 5.2.2.7).
function keepsOut(control) {
  const directives = control.toLowerCase().replaceAll(/"[^"]*"/g, '""').split(",").map((directive) => directive.trim());
  const has = (name) => directives.includes(name);
  return (has("private") || (has("no-store") && !has("must-understand"))) && !has("public") && !directives.some((directive) => directive.startsWith("s-maxage"));
}

// What some caches ask before Cache-Control (RFC 9213).
const TARGETED = ["CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "Surrogate-Control"];

// A reply that depends on the session is kept by no cache but the visitor's own, and by none if it sets a cookie. The
// cookies stand in lines.
export function addSessionHeaders(headers, setCookie, timing) {
  const varies = (headers.get("Vary") ?? "").toLowerCase().split(",").map((name) => name.trim());
  if (!varies.includes("cookie") && !varies.includes("*")) headers.append("Vary", "Cookie");
  if (setCookie !== undefined || !keepsOut(headers.get("Cache-Control") ?? "")) headers.set("Cache-Control", "private, no-store");
  for (const name of TARGETED) headers.delete(name);
  addOfThisRequest(headers, setCookie, timing);
}

function addOfThisRequest(headers, setCookie, timing) {
  if (setCookie !== undefined) for (const line of setCookie.split("\n")) headers.append("Set-Cookie", line);
  if (timing !== undefined) headers.append("Server-Timing", timing);
}

export function withSessionHeaders(response, setCookie, timing) {
  if (response[OWN]) {
    if (setCookie !== undefined || timing !== undefined) addOfThisRequest(response.headers, setCookie, timing);
    return response;
  }
  try {
    addSessionHeaders(response.headers, setCookie, timing);
    return response;
  } catch {
    return copied(response, setCookie, timing);
  }
}

// The headers of a response that was fetched cannot be changed; those of its copy can.
function copied(response, setCookie, timing) {
  try {
    const copy = new Response(response.body, response);
    addSessionHeaders(copy.headers, setCookie, timing);
    return copy;
  } catch (error) {
    console.error(`edge-session: headers_lost: a response goes without its session's headers: ${error}`);
    return response;
  }
}
