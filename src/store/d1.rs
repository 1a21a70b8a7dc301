use std::fmt;

use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::Array;
use worker::{D1Database, Env};

use crate::{Error, ErrorKind, Record, RecordKey, Store, Updated, js};

/// Records in D1, web.py's `DBStore`: the table `sessions`, one row per session.
///
/// Each act is one statement on the primary key, and D1 runs one statement at a time: an update
/// names the version that it replaces, so no concurrent update is lost, and it never inserts, so a
/// killed session stays killed.
///
/// The table comes from `migrations/`. D1 does not expire rows by itself:
/// [`Sessions::delete_expired`](crate::Sessions::delete_expired), called by a cron trigger, does.
pub struct D1Store {
    database: D1Database,
}

/// Rows deleted by one statement: small enough not to hold up the visitors' statements.
const SWEEP_CHUNK: u32 = 500;

/// Statements in one sweep, well under the 50 that a Worker on the free plan may run. What is left
/// then is for the next.
const SWEEP_STATEMENTS: u32 = 40;

impl D1Store {
    /// A store in the table `sessions` of the database that the environment binds to this name.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when there is no such binding.
    pub fn from_env(env: &Env, binding: &str) -> Result<Self, Error> {
        match env.d1(binding) {
            Ok(database) => Ok(Self { database }),
            Err(_) => Err(js::misbound("[[d1_databases]]", binding)),
        }
    }

    /// The rows that the statement answers, each an array of its columns.
    async fn rows(&self, sql: &str, values: &[JsValue]) -> Result<Vec<JsValue>, Error> {
        let rows = match self.database.prepare(sql).bind(values) {
            Ok(statement) => statement.raw_js_value().await,
            Err(error) => Err(error),
        };
        rows.map_err(|error| failed(&js::message(&error)))
    }
}

/// The record in a row of `SELECT version, created_at, atime, expires_at, ip, data`.
fn record(row: JsValue) -> Option<Record> {
    let columns: Array = row.dyn_into().ok()?;
    Some(Record {
        version: whole(&columns.get(0))?,
        created_at: whole(&columns.get(1))?,
        touched_at: whole(&columns.get(2))?,
        expires_at: whole(&columns.get(3))?,
        ip: columns.get(4).as_string(),
        data: columns.get(5).as_string()?,
    })
}

/// An INTEGER column, which the table's STRICT keeps whole.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and cut at the ends")]
fn whole(value: &JsValue) -> Option<u64> {
    value.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64)
}

impl Store for D1Store {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let sql = "SELECT version, created_at, atime, expires_at, ip, data FROM sessions WHERE session_id = ?1";
        match self.rows(sql, &[key.as_str().into()]).await?.pop() {
            None => Ok(None),
            Some(row) => {
                record(row).map(Some).ok_or_else(|| Error::unreadable("D1: the row is not of this table's form"))
            }
        }
    }

    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        let sql = "INSERT INTO sessions (session_id, version, created_at, atime, expires_at, ip, data) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let values = [
            key.as_str().into(),
            js::number(record.version),
            js::number(record.created_at),
            js::number(record.touched_at),
            js::number(record.expires_at),
            record.ip.as_deref().map_or(JsValue::NULL, JsValue::from),
            record.data.as_str().into(),
        ];
        self.rows(sql, &values).await.map(|_| ())
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let sql = "UPDATE sessions SET version = ?2, atime = ?3, expires_at = ?4, data = ?5 \
                   WHERE session_id = ?1 AND version = ?2 - 1 RETURNING version";
        let values = [
            key.as_str().into(),
            js::number(record.version),
            js::number(record.touched_at),
            js::number(record.expires_at),
            record.data.as_str().into(),
        ];
        if !self.rows(sql, &values).await?.is_empty() {
            return Ok(Updated::Done);
        }
        // Nothing was changed, and the reason is still to be seen: a version that was passed does
        // not come back, and no more does a deleted row.
        let sql = "SELECT version FROM sessions WHERE session_id = ?1";
        let gone = self.rows(sql, &[key.as_str().into()]).await?.is_empty();
        Ok(if gone { Updated::Gone } else { Updated::Stale })
    }

    async fn delete(&self, key: &RecordKey) -> Result<(), Error> {
        let sql = "DELETE FROM sessions WHERE session_id = ?1";
        self.rows(sql, &[key.as_str().into()]).await.map(|_| ())
    }

    /// Deletes by chunks, at most 20 000 rows a call; what is left is for the next.
    async fn delete_expired(&self, now: u64) -> Result<u64, Error> {
        let sql = "DELETE FROM sessions WHERE session_id IN \
                   (SELECT session_id FROM sessions WHERE expires_at <= ?1 LIMIT ?2) RETURNING 1";
        let mut deleted = 0_usize;
        for _ in 0..SWEEP_STATEMENTS {
            let rows = self.rows(sql, &[js::number(now), SWEEP_CHUNK.into()]).await?.len();
            deleted = deleted.saturating_add(rows);
            if rows == 0 {
                break;
            }
        }
        Ok(deleted.try_into().unwrap_or(u64::MAX))
    }
}

/// D1 tells its errors apart by their text alone.
fn failed(message: &str) -> Error {
    if message.contains("no such table: sessions") {
        return Error::new(
            ErrorKind::Unavailable,
            "D1 has no table `sessions`; run `npx wrangler d1 migrations apply DB --remote` \
             for the deployed Worker, or with `--local` for `wrangler dev`",
        );
    }
    let kind = if message.contains("UNIQUE constraint failed") { ErrorKind::Duplicate } else { ErrorKind::Unavailable };
    Error::new(kind, format_args!("D1: {message}"))
}

impl fmt::Debug for D1Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("D1Store")
    }
}
