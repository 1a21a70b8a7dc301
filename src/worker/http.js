// What src/worker/serve.rs and src/worker/response.rs ask of the runtime by one call where they would need several: each call
// from the Worker's wasm costs a request about a microsecond (bench/NOTES.md).

// Whether the request's method is safe (RFC 9110, section 9.2.1), and it opens no WebSocket.
export function isForLooking(request) {
  const { method } = request;
  return method === "HEAD" || method === "OPTIONS" || (method === "GET" && !request.headers.has("Upgrade"));
}

// The header with the visitor's cookies, if there is one.
export function cookie(request) {
  return request.headers.get("Cookie");
}

// Says of a reply that it depends on its visitor, if it says nothing of that yet, and takes away what some caches ask first
// (src/caching.rs has the same words). Throws where headers cannot be changed.
export function addIfSilent(headers) {
  headers.delete("CDN-Cache-Control");
  headers.delete("Cloudflare-CDN-Cache-Control");
  headers.delete("Surrogate-Control");
  if (headers.has("Vary") || headers.has("Cache-Control")) return false;
  headers.set("Vary", "Cookie");
  headers.set("Cache-Control", "private, no-store");
  return true;
}
