// What src/worker/kv.rs asks of a namespace by few calls where it would need several: each call from the Worker's wasm, and each text
// that goes with it, costs a request about a microsecond (bench/NOTES.md).

// `cacheTtl`: for how many seconds a location may keep what it read. 30 is the least that KV takes. It is half of KV's own default, and
// so half the time for which a location may go on showing an old session.
const READ = { cacheTtl: 30 };

// The values under these names, which have a blank between them, in their order; null for one that is not there.
export async function get(namespace, names) {
  const list = names.split(" ");
  const found = await namespace.get(list, READ);
  return list.map((name) => found.get(name));
}

// The value in this place.
export function value(found, place) {
  return found[place];
}

export async function put(namespace, name, value, expiration) {
  await namespace.put(name, value, { expiration });
}

export async function remove(namespace, name) {
  await namespace.delete(name);
}
