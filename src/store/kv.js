// What src/store/kv.rs asks of a KV namespace.

// What a session is stored under, and what says that it has ended. The prefixes keep sessions apart from what else the
// namespace holds, and let an operator list them.
const session = (key) => `session:${key}`;
const ended = (key) => `ended:${key}`;

// The least that KV takes, in seconds. Half of KV's own default, and so half the time for which a location may go on
// showing an old session.
const READ = { cacheTtl: 30 };

// The record's text, or null. Both keys by one call.
export async function load(namespace, key) {
  const names = [session(key), ended(key)];
  const found = await namespace.get(names, READ);
  return found.get(names[1]) === null ? found.get(names[0]) : null;
}

export async function put(namespace, key, text, expiration) {
  await namespace.put(session(key), text, { expiration });
}

// The mark first: a writer who comes between finds it.
export async function end(namespace, key, expirationTtl) {
  await namespace.put(ended(key), "", { expirationTtl });
  await namespace.delete(session(key));
}
