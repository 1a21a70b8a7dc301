// What src/store/d1.rs asks of a D1 database.

// Each row an array of its columns.
export async function rows(database, sql, values) {
  return database.prepare(sql).bind(...values).raw();
}

// Three statements in one transaction (D1's batch), each with as many of the values as it has places for. How many rows
// the last two answered.
export async function transaction(database, first, second, third, values) {
  const places = (sql) => Math.max(...[...sql.matchAll(/\?(\d+)/g)].map((place) => Number(place[1])));
  const statements = [first, second, third].map((sql) => database.prepare(sql).bind(...values.slice(0, places(sql))));
  const results = await database.batch(await Promise.all(statements));
  return results.slice(1).map(({ results }) => results.length);
}
