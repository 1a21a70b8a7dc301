use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use worker::Env;
use worker::js_sys::{Array, Promise};

use super::js::{self, Declared};
use super::platform::WorkerPlatform;
use super::promise::Settled;
use crate::store::repeat::{Answered, repeated};
use crate::{Claim, Error, ErrorKind, Extensions, Platform, Record, RecordKey, Store, Successor, Swept, Updated};
#[cfg(feature = "users")]
use crate::{SessionHandle, Spared, UserKey, UserStore, Users};

/// Records in D1, web.py's `DBStore`: one row per session, in the table `sessions` unless said otherwise.
///
/// Each act is one statement on the primary key, and D1 runs one statement at a time: an update
/// names the version that it replaces, so no concurrent update is lost, and it never inserts, so a
/// killed session stays killed. A change of id is one transaction.
///
/// The table comes from `migrations/`. D1 does not expire rows by itself:
/// [`Sessions::delete_expired`](crate::Sessions::delete_expired), called by a cron trigger, does.
#[derive(Debug)]
pub struct D1Store {
    database: Database,
    binding: String,
    /// The table's name as a statement has it, and that of the table beside it.
    table: String,
    revocations: String,
}

#[wasm_bindgen]
extern "C" {
    /// The binding itself; worker's wrapper brings its own error type, and the parts that are not used.
    #[derive(Debug)]
    type Database;
    #[wasm_bindgen(method, catch)]
    fn prepare(this: &Database, sql: &str) -> Result<Statement, JsValue>;
    /// Runs statements in one transaction.
    #[wasm_bindgen(method, catch)]
    fn batch(this: &Database, statements: &JsValue) -> Result<Promise, JsValue>;

    type Statement;
    #[wasm_bindgen(method, catch, variadic)]
    fn bind(this: &Statement, values: &[JsValue]) -> Result<Statement, JsValue>;
    /// The rows that it answers, each an array of its columns.
    #[wasm_bindgen(method, catch)]
    fn raw(this: &Statement) -> Result<Promise, JsValue>;

    /// What a statement of a batch answered.
    type Answer;
    #[wasm_bindgen(method, getter)]
    fn results(this: &Answer) -> Option<Array>;
}

/// The columns of a record, in the order in which [`record_in`] reads them and [`values`] gives them.
const COLUMNS: &str = "version, nonce, created_at, atime, expires_at, ip, successor, successor_until, extensions, data";

const DECLARED: Declared = Declared { table: "[[d1_databases]]", named_by: "binding", with: "", method: "prepare" };

/// The table, where it is not said.
const TABLE: &str = "sessions";

/// Rows deleted by one statement: small enough not to hold up the visitors' statements.
const SWEEP_CHUNK: u32 = 1000;

/// Statements in one sweep, well under the 50 that a Worker on the free plan may run.
const SWEEP_STATEMENTS: u32 = 40;

/// After so many milliseconds a sweep leaves the rest to the next one.
const SWEEP_TIME: u64 = 20_000;

/// For how many seconds it is noted that a user's sessions were ended: longer than a request takes.
const REVOCATIONS_FOR: u64 = 24 * 60 * 60;

/// As many as it counts of those that are left.
const SWEEP_COUNTS: u32 = 100_000;

impl D1Store {
    /// A store in the table `sessions` of the database that the environment binds to this name.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when there is no such binding.
    pub fn from_env(env: &Env, binding: &str) -> Result<Self, Error> {
        let database = js::binding(env, binding, &DECLARED)?;
        let (table, revocations) = tables(TABLE);
        Ok(Self { database, binding: binding.to_owned(), table, revocations })
    }

    /// The same store in another table, which has the columns that `migrations/` gives `sessions`. For users' sessions there is also
    /// one with `_revocations` behind that name.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when `table` is not 1 to 60 letters, digits and `_`, beginning with a letter.
    pub fn with_table(mut self, table: &str) -> Result<Self, Error> {
        let is_name = table.starts_with(|c: char| c.is_ascii_alphabetic())
            && table.len() <= 60
            && table.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            return Err(Error::misconfigured(
                "the name of D1's table must be 1 to 60 letters, digits and _, beginning with a letter",
            ));
        }
        (self.table, self.revocations) = tables(table);
        Ok(self)
    }

    /// The rows that the statement answers, each an array of its columns.
    ///
    /// A statement whose answer was lost is sent again: it recognises its own write, or does the
    /// same thing twice to the same end. D1 itself repeats only reads.
    async fn rows(&self, sql: &str, values: &[JsValue]) -> Result<Answered<Array>, Error> {
        repeated(&WorkerPlatform, async || self.rows_once(sql, values).await, Error::passes)
            .await
            .map_err(Error::lasting)
    }

    /// Those of a statement that is sent once: [`Store::create`].
    async fn rows_once(&self, sql: &str, values: &[JsValue]) -> Result<Array, Error> {
        let answer = self.statement(sql, values).and_then(|statement| statement.raw());
        self.answered(Settled::of_call(answer).await)
    }

    /// The row of this key, if there is one.
    async fn select(&self, key: &RecordKey) -> Result<Array, Error> {
        let sql = format!("SELECT {COLUMNS} FROM {} WHERE session_id = ?1", self.table);
        Ok(self.rows(&sql, &[key.as_str().into()]).await?.answer)
    }

    fn statement(&self, sql: &str, values: &[JsValue]) -> Result<Statement, JsValue> {
        self.database.prepare(sql)?.bind(values)
    }

    fn answered(&self, answer: Result<JsValue, JsValue>) -> Result<Array, Error> {
        answer.map(JsCast::unchecked_into).map_err(|thrown| {
            let message = js::thrown(&thrown);
            let failure = self.failed(&message);
            if is_retryable(&message) { failure.passing() } else { failure }
        })
    }

    /// Sets all columns of a row to the values of [`values`], if the row is of the version before, or is this very
    /// write, `and` if this holds. A later touch stays, but of a record that is retired.
    fn update_statement(&self, and: &str) -> String {
        let table = &self.table;
        format!(
            "UPDATE {table} SET ({COLUMNS}) = (?2, ?3, ?4, max(atime, ?5), iif(?8 IS NULL, max(expires_at, ?6), ?6), \
             ?7, ?8, ?9, ?10, ?11) WHERE session_id = ?1 AND (version = ?2 - 1 OR version = ?2 AND nonce = ?3){and} RETURNING version"
        )
    }

    fn failed(&self, message: &str) -> Error {
        failed(message, &self.binding, self.table.trim_matches('"'))
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
fn record_in(row: JsValue) -> Option<Record> {
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
        extensions: Extensions::from_text(&columns.get(8).as_string().unwrap_or_default()).ok()?,
        data: columns.get(9).as_string()?,
    })
}

/// A record's values: the key, and the columns in their order.
fn values(key: &RecordKey, record: &Record) -> [JsValue; 11] {
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
        if record.extensions.is_empty() { JsValue::NULL } else { text(&record.extensions.to_text()) },
        text(&record.data),
    ]
}

/// An INTEGER column, which the table's STRICT keeps whole.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and cut at the ends")]
fn whole(value: &JsValue) -> Option<u64> {
    value.as_f64().filter(|number| *number >= 0.0).map(|number| number as u64)
}

impl Store for D1Store {
    /// A row may have 2 MB.
    fn max_data(&self) -> u64 {
        1_900_000
    }

    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let rows = self.select(key).await?;
        if rows.length() == 0 {
            return Ok(None);
        }
        match record_in(rows.get(0)) {
            Some(record) => Ok(Some(record)),
            None => Err(Error::unreadable("D1: the row is not of this table's form")),
        }
    }

    /// The `UPDATE` changes nothing; it answers a row if the one that is there is this very write.
    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        let table = &self.table;
        let sql = format!(
            "INSERT INTO {table} (session_id, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
             ON CONFLICT (session_id) DO UPDATE SET version = version \
             WHERE version = excluded.version AND nonce = excluded.nonce RETURNING version"
        );
        if self.rows_once(&sql, &values(key, record)).await?.length() == 0 {
            return Err(Error::new(ErrorKind::Duplicate, "D1: the key is used"));
        }
        Ok(())
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let Answered { answer, repeated } = self.rows(&self.update_statement(""), &values(key, record)).await?;
        if answer.length() > 0 {
            return Ok(Updated::Done);
        }
        // Nothing was changed, and the reason is still to be seen: a version that was passed does
        // not come back, and no more does a deleted row.
        let rows = self.select(key).await?;
        let answer =
            if rows.length() == 0 { Updated::Gone } else { Updated::Stale(record_in(rows.get(0)).map(Box::new)) };
        Answered { answer, repeated }.sure()
    }

    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let table = &self.table;
        let sql = format!(
            "UPDATE {table} SET atime = max(atime, ?2), expires_at = max(expires_at, ?3) \
             WHERE session_id = ?1 AND successor IS NULL RETURNING version"
        );
        let values = [key.as_str().into(), js::number(record.touched_at), js::number(record.expires_at)];
        let found = self.rows(&sql, &values).await?.answer.length() > 0;
        Ok(if found { Updated::Done } else { Updated::Gone })
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        let table = &self.table;
        let sql = format!("DELETE FROM {table} WHERE session_id = ?1 AND successor IS NULL RETURNING version");
        if self.rows(&sql, &[key.as_str().into()]).await?.answer.length() > 0 {
            return Ok(None);
        }
        match self.load(key).await {
            Ok(left) => Ok(left.and_then(|record| record.successor)),
            Err(error) if error.kind() != ErrorKind::Unreadable => Err(error),
            Err(_) => {
                let sql = format!("DELETE FROM {table} WHERE session_id = ?1 RETURNING version");
                self.rows(&sql, &[key.as_str().into()]).await.map(|_| None)
            }
        }
    }

    async fn change_id(
        &self,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        self.moved(None, from, retired, to, moved).await
    }

    #[cfg(feature = "users")]
    fn users(&self) -> Option<Users<'_>> {
        Some(Users::of(self))
    }

    async fn delete_expired(&self, now: u64) -> Result<Swept, Error> {
        let swept = self.swept(now).await?;
        let sql = format!("DELETE FROM {} WHERE revoked_at < ?1 RETURNING 1", self.revocations);
        let oldest = now.saturating_sub(REVOCATIONS_FOR).saturating_mul(1000);
        match self.rows(&sql, &[js::number(oldest)]).await {
            // Nobody was ever signed in, or ended: a table of one's own may do without.
            Err(error) if error.to_string().contains("has no table") => Ok(swept),
            answer => answer.map(|_| swept),
        }
    }
}

impl D1Store {
    /// Deletes by chunks until nothing is left, or its time is over, and counts what is left then.
    async fn swept(&self, now: u64) -> Result<Swept, Error> {
        let table = &self.table;
        let delete = format!(
            "DELETE FROM {table} WHERE session_id IN \
             (SELECT session_id FROM {table} WHERE expires_at <= ?1 LIMIT ?2) RETURNING 1"
        );
        let end = WorkerPlatform.milliseconds().saturating_add(SWEEP_TIME);
        let mut swept = Swept::default();
        for _ in 0..SWEEP_STATEMENTS {
            let rows = self.rows(&delete, &[js::number(now), SWEEP_CHUNK.into()]).await?.answer.length();
            swept.deleted = swept.deleted.saturating_add(rows.into());
            if rows < SWEEP_CHUNK {
                return Ok(swept);
            }
            if WorkerPlatform.milliseconds() >= end {
                break;
            }
        }
        // Not all of them, if they are very many: each that is counted is a row read.
        let count = format!("SELECT count(*) FROM (SELECT 1 FROM {table} WHERE expires_at <= ?1 LIMIT {SWEEP_COUNTS})");
        let counted = self.rows(&count, &[js::number(now)]).await?.answer.get(0);
        swept.left = counted.dyn_into().ok().and_then(|row: Array| whole(&row.get(0))).unwrap_or_default();
        Ok(swept)
    }
}

impl D1Store {
    /// The row is copied under its new key, and retired under the old one, both only if it is of the version before, and if
    /// no [`Claim`] is refused.
    async fn moved(
        &self,
        claim: Option<&Claim>,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &Record,
    ) -> Result<Updated, Error> {
        let table = &self.table;
        let is_claimed = |first| claim.map_or_else(String::new, |_| format!(" AND {}", self.is_not_revoked(first)));
        // ?1 to ?11 are the retired row's, ?12 to ?22 the new one's.
        let insert = format!(
            "INSERT INTO {table} (session_id, {COLUMNS}) \
             SELECT ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22 \
             WHERE EXISTS (SELECT 1 FROM {table} WHERE session_id = ?1 AND version = ?2 - 1){}",
            is_claimed(23)
        );
        let update = self.update_statement(&is_claimed(12));
        let look = format!("SELECT version FROM {table} WHERE session_id = ?1{}", is_claimed(2));
        let claimed: Vec<JsValue> = claim.map(claimed).into_iter().flatten().collect();
        let (old, new) = (values(from, retired), values(to, moved));
        let with_claim = |values: &[JsValue]| values.iter().chain(&claimed).cloned().collect::<Vec<_>>();
        let both: Vec<JsValue> = old.iter().chain(&new).cloned().collect();
        let statements =
            [(insert, with_claim(&both)), (update, with_claim(&old)), (look, with_claim(&[from.as_str().into()]))];
        let Answered { answer, repeated } = self.transaction(&statements).await?;
        let answer = match (rows_of(&answer, 1), rows_of(&answer, 2)) {
            (1.., _) => Updated::Done,
            (0, 1..) => Updated::Stale(None),
            (0, 0) => Updated::Gone,
        };
        Answered { answer, repeated }.sure()
    }

    /// Runs these statements in one transaction. What each of them answered.
    async fn transaction(&self, statements: &[(String, Vec<JsValue>)]) -> Result<Answered<Array>, Error> {
        let call = async || {
            let prepared = Array::new();
            for (sql, values) in statements {
                let statement: JsValue = self.statement(sql, values)?.into();
                prepared.push(&statement);
            }
            // A database behind a service binding makes its statements elsewhere.
            let prepared = Settled::of(&Promise::all(&prepared)).await?;
            Settled::of_call(self.database.batch(&prepared)).await
        };
        repeated(&WorkerPlatform, async || self.answered(call().await), Error::passes).await.map_err(Error::lasting)
    }

    /// Whether nothing refuses a claim, whose [values](claimed) have numbers from this one on.
    fn is_not_revoked(&self, first: u32) -> String {
        let (revocations, second, third) = (&self.revocations, first.saturating_add(1), first.saturating_add(2));
        format!(
            "NOT EXISTS (SELECT 1 FROM {revocations} \
             WHERE owner = ?{first} AND revoked_at >= ?{second} AND spared IS NOT ?{third})"
        )
    }
}

/// A claim's values.
fn claimed(claim: &Claim) -> [JsValue; 3] {
    [claim.user.as_str().into(), js::number(claim.began_at), claim.handle.as_str().into()]
}

/// How many rows the statement at this place of a transaction answered.
fn rows_of(answers: &Array, place: u32) -> u32 {
    let answer: Answer = answers.get(place).unchecked_into();
    answer.results().map_or(0, |rows| rows.length())
}

#[cfg(feature = "users")]
impl UserStore for D1Store {
    async fn create_for(&self, claim: &Claim, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let is_not_revoked = self.is_not_revoked(12);
        let table = &self.table;
        let sql = format!(
            "INSERT INTO {table} (session_id, {COLUMNS}) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11 \
             WHERE {is_not_revoked} ON CONFLICT (session_id) DO UPDATE SET version = version \
             WHERE version = excluded.version AND nonce = excluded.nonce RETURNING version"
        );
        let all: Vec<JsValue> = values(key, record).into_iter().chain(claimed(claim)).collect();
        if self.rows_once(&sql, &all).await?.length() > 0 {
            return Ok(Updated::Done);
        }
        let sql = format!("SELECT 1 WHERE {}", self.is_not_revoked(1));
        if self.rows(&sql, &claimed(claim)).await?.answer.length() == 0 {
            return Ok(Updated::Gone);
        }
        Err(Error::new(ErrorKind::Duplicate, "D1: the key is used"))
    }

    async fn change_id_for(
        &self,
        claim: &Claim,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        self.moved(Some(claim), from, retired, to, moved).await
    }

    async fn list(&self, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error> {
        let sql = format!("SELECT {COLUMNS}, session_id FROM {} WHERE owner = ?1", self.table);
        let rows = self.rows(&sql, &[user.as_str().into()]).await?.answer;
        let keyed = |row: JsValue| {
            let key = row.dyn_ref::<Array>()?.get(10).as_string()?;
            Some((RecordKey::from_stored(&key)?, record_in(row)?))
        };
        Ok(rows.iter().filter_map(keyed).collect())
    }

    async fn end(&self, user: &UserKey, handle: &SessionHandle) -> Result<bool, Error> {
        let sql = format!("DELETE FROM {} WHERE owner = ?1 AND handle = ?2 RETURNING 1", self.table);
        Ok(self.rows(&sql, &[user.as_str().into(), handle.as_str().into()]).await?.answer.length() > 0)
    }

    /// First the sessions, and then the note of it, each only if what is spared is not refused itself.
    async fn end_all(&self, user: &UserKey, now: u64, spared: &Spared) -> Result<u64, Error> {
        let (table, revocations) = (&self.table, &self.revocations);
        let (is_not_refused, but) = match spared {
            Spared::None => ("?1 = ?1 AND ?2 = 0 AND ?3 IS NULL".to_owned(), ""),
            Spared::SigningIn(_) => (self.is_not_revoked(1), "AND handle IS NOT ?3"),
            Spared::Session(..) => {
                let is_there = format!("EXISTS (SELECT 1 FROM {table} WHERE owner = ?1 AND handle = ?3)");
                (format!("{} AND {is_there}", self.is_not_revoked(1)), "AND handle IS NOT ?3")
            }
        };
        let end = format!("DELETE FROM {table} WHERE owner = ?1 {but} AND {is_not_refused} RETURNING 1");
        let revoke = format!(
            "INSERT INTO {revocations} (owner, revoked_at, spared) SELECT ?1, ?4, ?3 WHERE {is_not_refused} \
             ON CONFLICT (owner) DO UPDATE SET revoked_at = max(revoked_at, excluded.revoked_at), spared = excluded.spared \
             RETURNING 1"
        );
        let claimed = match spared.claim() {
            Some(claim) => claimed(claim),
            None => [user.as_str().into(), 0.into(), JsValue::NULL],
        };
        let with_now = claimed.iter().cloned().chain([js::number(now)]).collect();
        let ended = self.transaction(&[(end, claimed.to_vec()), (revoke, with_now)]).await?.answer;
        if rows_of(&ended, 1) == 0 {
            return Err(Error::ended());
        }
        Ok(rows_of(&ended, 0).into())
    }

    async fn end_oldest(&self, claim: &Claim, most: u64, now: u64) -> Result<u64, Error> {
        let table = &self.table;
        let sql = format!(
            "DELETE FROM {table} WHERE owner = ?1 AND expires_at > ?4 AND handle IN \
             (SELECT handle FROM {table} WHERE owner = ?1 AND expires_at > ?4 GROUP BY handle \
             ORDER BY max(signed_in) DESC, handle IS ?3 DESC LIMIT -1 OFFSET ?2) RETURNING 1"
        );
        let [user, _, handle] = claimed(claim);
        let values = [user, js::number(most), handle, js::number(now / 1000)];
        Ok(self.rows(&sql, &values).await?.answer.length().into())
    }
}

/// A table, and the one beside it, in quotation marks: their names may be words of SQL's own.
fn tables(name: &str) -> (String, String) {
    (format!("\"{name}\""), format!("\"{name}_revocations\""))
}

/// D1 tells its errors apart by their text alone.
fn failed(message: &str, binding: &str, table: &str) -> Error {
    // Our statements name no columns but the table's own.
    let needs_migration = [&format!("no such table: {table}"), "no such column: ", "no column named "];
    if needs_migration.iter().any(|text| message.contains(*text)) {
        return Error::new(
            ErrorKind::Unavailable,
            format_args!(
                "D1 has no table `{table}`, or one of an earlier release; with all files of edge-session's `migrations/`, run \
                 `npx wrangler d1 migrations apply {binding} --remote` for the deployed Worker, or with `--local` for `wrangler dev`. \
                 Where the table is another program's, as web.py's: take another database, or another name, by `D1Store::with_table` and \
                 in your copy of the migrations ({message})"
            ),
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
    fn a_missing_table_or_column_names_the_command_that_makes_it() {
        for message in [
            "D1_ERROR: no such table: sessions: SQLITE_ERROR",
            "D1_ERROR: no such column: extensions at offset 80: SQLITE_ERROR",
            "D1_ERROR: table sessions has no column named extensions: SQLITE_ERROR",
            "D1_ERROR: no such column: owner at offset 47: SQLITE_ERROR",
            "D1_ERROR: no such column: version at offset 7: SQLITE_ERROR",
            "D1_ERROR: no such table: sessions_revocations: SQLITE_ERROR",
        ] {
            let error = failed(message, "DB", "sessions");
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.to_string().contains("wrangler d1 migrations apply DB"), "{error}");
        }
        for message in ["D1_ERROR: no such table: baskets: SQLITE_ERROR", "D1_ERROR: D1 DB is overloaded."] {
            assert!(!failed(message, "DB", "sessions").to_string().contains("migrations"), "{message}");
        }
    }
}
