// D1 in memory, as workerd's binding speaks to it: one SQLite object behind the binding's HTTP. It counts the calls, and the rows
// that are billed.
import { DurableObject } from "cloudflare:workers";

export class Database extends DurableObject {
  calls = {};
  rows = { read: 0, written: 0 };

  async fetch(request) {
    const url = new URL(request.url);
    const { sql } = this.ctx.storage;
    if (url.pathname === "/fill") {
      sql.exec(
        `WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?1)
         INSERT INTO sessions (session_id, version, nonce, created_at, atime, expires_at, ip, successor, successor_until, data)
         SELECT printf('%064d', n), 1, 7, 1764000000, 1764000000, 4764086400 + n, NULL, NULL, NULL,
         '{"count":1}' FROM numbers`, Number(url.searchParams.get("n")));
      return new Response();
    }
    if (url.pathname === "/calls") {
      const calls = this.calls;
      this.calls = {};
      return Response.json(calls);
    }
    if (url.pathname === "/rows") {
      const rows = this.rows;
      this.rows = { read: 0, written: 0 };
      return Response.json(rows);
    }
    const body = await request.json();
    const answers = [body].flat().map(({ sql: text, params }) => {
      const call = text.split(" ")[0].toLowerCase();
      this.calls[call] = (this.calls[call] ?? 0) + 1;
      const cursor = sql.exec(text, ...(params ?? []));
      const rows = [...cursor.raw()];
      this.rows.read += cursor.rowsRead;
      this.rows.written += cursor.rowsWritten;
      const meta = { duration: 0, changes: 0, last_row_id: 0, changed_db: false, size_after: 0, rows_read: cursor.rowsRead, rows_written: cursor.rowsWritten };
      return { success: true, results: { columns: cursor.columnNames, rows }, meta };
    });
    return Response.json(answers);
  }
}

export default {
  fetch(request, env) {
    return env.DATABASE.getByName("one").fetch(request);
  },
};
