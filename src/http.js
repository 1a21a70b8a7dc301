// What src/http.rs asks of the runtime. Each call across the border between wasm and JavaScript costs a request as much
// as most of its own work, so that what belongs together crosses together.

export const cookie = (request) => request.headers.get("Cookie");
export const address = (request) => request.headers.get("CF-Connecting-IP");

// Made once: a header costs as much as a signature.
const init = (status, type) => ({
  status,
  headers: {
    "Content-Type": type,
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
  },
});
const TEXT = init(200, "text/plain; charset=utf-8");
const JSON = init(200, "application/json");

export const text = (status, body) => new Response(body, status === 200 ? TEXT : { ...TEXT, status });
export const json = (body) => new Response(body, JSON);

// Throws where the headers cannot be changed.
export function addSessionHeaders(headers, setCookie, timing) {
  headers.append("Vary", "Cookie");
  if (setCookie !== undefined || !headers.has("Cache-Control")) headers.set("Cache-Control", "private, no-store");
  if (setCookie !== undefined) headers.append("Set-Cookie", setCookie);
  if (timing !== undefined) headers.append("Server-Timing", timing);
}
