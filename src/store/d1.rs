use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use worker::Env;
use worker::js_sys::{Array, Promise};

use crate::js::{self, Answered};
use crate::promise::Settled;
use crate::{Error, ErrorKind, Record, RecordKey, Store, Successor, Updated};

/// Records in D1, web.py's `DBStore`: the table `sessions`, one row per session.
///
/// Each act is one statement on the primary key, and D1 runs one statement at a time: an update
/// names the version that it replaces, so no concurrent update is lost, and it never inserts, so a
/// killed session stays killed.
///
/// The table comes from `migrations/`. D1 does not expire rows by itself:
/// [`Sessions::delete_expired`](crate::Sessions::delete_expired), called by a cron trigger, does.
#[derive(Debug)]
pub struct D1Store {
    database: Database,
}

#[wasm_bindgen(module = "/src/store/d1.js")]
extern "C" {
    /// The binding itself; worker's wrapper brings its own error type, and the parts that are not used.
    #[derive(Debug)]
    type Database;
    /// The rows that the statement answers, each an array of its columns.
    fn rows(database: &Database, sql: &str, values: &[JsValue]) -> Promise;
}

/// The columns of a record, in the order in which [`record`] reads them and [`values`] gives them.
macro_rules! columns {
    () => {
        "version, nonce, created_at, atime, expires_at, ip, successor, successor_until, data"
    };
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
        Ok(Self { database: js::binding(env, binding, "[[d1_databases]]")? })
    }

    /// The rows that the statement answers, each an array of its columns.
    async fn rows(&self, sql: &str, values: &[JsValue]) -> Result<Array, Error> {
        self.answered(sql, values).await.map(|answer| answer.value.unchecked_into())
    }

    /// A statement whose answer was lost is sent again: it recognises its own write, or does the
    /// same thing twice to the same end. D1 itself repeats only reads.
    async fn answered(&self, sql: &str, values: &[JsValue]) -> Result<Answered, Error> {
        let send = async || Settled::of(&rows(&self.database, sql, values)).await;
        let answered = js::retried(send, |thrown| is_retryable(&js::thrown(thrown))).await;
        answered.map_err(|thrown| failed(&js::thrown(&thrown)))
    }
}

/// What Cloudflare's "Retry queries" lists as passing by itself. An overloaded database is not among
/// it, for retries are what it has too many of; nor is a used-up quota.
fn is_retryable(message: &str) -> bool {
    [
        "Network connection lost",
        "storage caused object to be reset",
        "reset because its code was updated",
        "Cannot resolve D1 DB due to transient issue on remote node",
    ]
    .iter()
    .any(|passing| message.contains(passing))
}

/// The record in a row of these columns.
fn record(row: JsValue) -> Option<Record> {
    let columns: Array = row.dyn_into().ok()?;
    let successor = match columns.get(6).as_string() {
        None => None,
        Some(key) => Some(Successor { key: RecordKey::from_stored(&key)?, until: whole(&columns.get(7))? }),
    };
    Some(Record {
        version: whole(&columns.get(0))?,
        nonce: whole(&columns.get(1))?.try_into().ok()?,
        created_at: whole(&columns.get(2))?,
        touched_at: whole(&columns.get(3))?,
        expires_at: whole(&columns.get(4))?,
        ip: columns.get(5).as_string(),
        successor,
        data: columns.get(8).as_string()?,
    })
}

/// A record's values: the key, and the columns in their order.
fn values(key: &RecordKey, record: &Record) -> [JsValue; 10] {
    let text = |text: &str| JsValue::from_str(text);
    [
        text(key.as_str()),
        js::number(record.version),
        record.nonce.into(),
        js::number(record.created_at),
        js::number(record.touched_at),
        js::number(record.expires_at),
        record.ip.as_deref().map_or(JsValue::NULL, text),
        record.successor.as_ref().map_or(JsValue::NULL, |successor| text(successor.key.as_str())),
        record.successor.as_ref().map_or(JsValue::NULL, |successor| js::number(successor.until)),
        text(&record.data),
    ]
}

/// An INTEGER column, which the table's STRICT keeps whole.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and cut at the ends")]
fn whole(value: &JsValue) -> Option<u64> {
    value.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64)
}

impl Store for D1Store {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let sql = concat!("SELECT ", columns!(), " FROM sessions WHERE session_id = ?1");
        let rows = self.rows(sql, &[key.as_str().into()]).await?;
        if rows.length() == 0 {
            return Ok(None);
        }
        match record(rows.get(0)) {
            Some(record) => Ok(Some(record)),
            None => Err(Error::unreadable("D1: the row is not of this table's form")),
        }
    }

    /// The `UPDATE` changes nothing; it answers a row if the one that is there is this very write.
    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        let sql = concat!(
            "INSERT INTO sessions (session_id, ",
            columns!(),
            ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
             ON CONFLICT (session_id) DO UPDATE SET version = version \
             WHERE version = excluded.version AND nonce = excluded.nonce RETURNING version"
        );
        if self.rows(sql, &values(key, record)).await?.length() == 0 {
            return Err(Error::new(ErrorKind::Duplicate, "D1: the key is used"));
        }
        Ok(())
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let sql = concat!(
            "UPDATE sessions SET (",
            columns!(),
            ") = (?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) WHERE session_id = ?1 \
             AND (version = ?2 - 1 OR version = ?2 AND nonce = ?3) RETURNING version"
        );
        if self.rows(sql, &values(key, record)).await?.length() > 0 {
            return Ok(Updated::Done);
        }
        // Nothing was changed, and the reason is still to be seen: a version that was passed does
        // not come back, and no more does a deleted row.
        let sql = "SELECT version FROM sessions WHERE session_id = ?1";
        let gone = self.rows(sql, &[key.as_str().into()]).await?.length() == 0;
        Ok(if gone { Updated::Gone } else { Updated::Stale })
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let sql = concat!("DELETE FROM sessions WHERE session_id = ?1 RETURNING ", columns!());
        let Answered { value, repeated } = self.answered(sql, &[key.as_str().into()]).await?;
        let rows: Array = value.unchecked_into();
        if repeated && rows.length() == 0 {
            return Err(js::unsure_what_was_deleted());
        }
        Ok(record(rows.get(0)))
    }

    /// Deletes by chunks, at most 20 000 rows a call; what is left is for the next.
    async fn delete_expired(&self, now: u64) -> Result<u64, Error> {
        let sql = "DELETE FROM sessions WHERE session_id IN \
                   (SELECT session_id FROM sessions WHERE expires_at <= ?1 LIMIT ?2) RETURNING 1";
        let mut deleted = 0_u32;
        for _ in 0..SWEEP_STATEMENTS {
            let rows = self.rows(sql, &[js::number(now), SWEEP_CHUNK.into()]).await?.length();
            deleted = deleted.saturating_add(rows);
            if rows == 0 {
                break;
            }
        }
        Ok(deleted.into())
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
    Error::new(ErrorKind::Unavailable, format_args!("D1: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_tried_again_and_nothing_else() {
        for message in [
            "D1_ERROR: Network connection lost.",
            "D1_ERROR: Internal error in D1 DB storage caused object to be reset.",
            "D1_ERROR: D1 DB reset because its code was updated.",
        ] {
            assert!(is_retryable(message), "{message}");
        }
        for message in [
            "D1_ERROR: D1 DB is overloaded. Requests queued for too long.",
            "D1_ERROR: D1 DB is overloaded. Too many requests queued.",
            "D1_ERROR: D1 DB exceeded its CPU time limit and was reset.",
            "D1_ERROR: Your account has exceeded D1's free tier daily row write limit",
            "D1_ERROR: no such table: sessions: SQLITE_ERROR",
            "",
        ] {
            assert!(!is_retryable(message), "{message}");
        }
    }

    #[test]
    fn a_missing_table_names_the_command_that_makes_it() {
        let error = failed("D1_ERROR: no such table: sessions: SQLITE_ERROR");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("wrangler d1 migrations apply DB"), "{error}");
    }
}
