// What src/store/kv_binding.rs asks of a KV namespace.

// The least that KV takes, in seconds. Half of KV's own default, and so half the time for which a location may go on
// showing an old session.
const READ = { cacheTtl: 30 };

// The values under names that stand in lines, with U+0001 between two: "=" and the value, or nothing. A foreign value
// that has that character itself loses it, and is no record then.
export async function get(namespace, names) {
  const all = names.split("\n");
  const found = await namespace.get(all, READ);
  const text = (value) => (value === null ? "" : `=${value.replaceAll("\u0001", "")}`);
  return all.map((name) => text(found.get(name))).join("\u0001");
}

export async function put(namespace, name, value, expiration) {
  await namespace.put(name, value, { expiration });
}

export async function remove(namespace, name) {
  await namespace.delete(name);
}
