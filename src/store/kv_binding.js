// What src/store/kv_binding.rs asks of a KV namespace.

// The least that KV takes, in seconds. Half of KV's own default, and so half the time for which a location may go on
// showing an old session.
const READ = { cacheTtl: 30 };

// The values under names that stand in lines, null for one that is not there. Mostly only the first is there, and then
// that value is the answer: a list costs the Worker a crossing for each element.
export async function get(namespace, names) {
  const all = names.split("\n");
  const found = await namespace.get(all, READ);
  const [first, ...others] = all.map((name) => found.get(name) ?? null);
  return others.every((value) => value === null) ? first : [first, ...others];
}

export async function put(namespace, name, value, expiration) {
  await namespace.put(name, value, { expiration });
}

export async function remove(namespace, name) {
  await namespace.delete(name);
}
