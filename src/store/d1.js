// What src/store/d1.rs asks of a D1 database.

// Each row an array of its columns.
export async function rows(database, sql, values) {
  return database.prepare(sql).bind(...values).raw();
}
