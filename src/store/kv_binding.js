// What src/store/kv_binding.rs asks of a KV namespace.

// The least that KV takes, in seconds. Half of KV's own default, and so half the time for which a location may go on
// showing an old session.
const READ = { cacheTtl: 30 };

// The values under names that stand in lines, with U+0001 between two: "=" and the value, or nothing. A foreign value
// that has that character itself loses it, and is no record then.
export async function get(namespace, names) {
  const all = names.split("\n");
  const found = await namespace.get(all, READ);
  let values = "";
  for (const name of all) {
    const value = found.get(name);
    if (name !== all[0]) values += "\u0001";
    if (value !== null) values += value.includes("\u0001") ? `=${value.replaceAll("\u0001", "")}` : `=${value}`;
  }
  return values;
}

export async function put(namespace, name, value, expiration) {
  await namespace.put(name, value, { expiration });
}

export async function remove(namespace, name) {
  await namespace.delete(name);
}
