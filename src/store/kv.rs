use std::fmt;

use crate::platform::random_pause;
use crate::{Error, ErrorKind, Extensions, Platform, Record, RecordKey, Store, Successor, Updated};

/// Records in Workers KV, web.py's `DiskStore`: one value per session, under `session:<record key>`,
/// which expires by itself.
///
/// For sessions that are read much more than written. What KV cannot do, this store cannot:
///
/// - **Concurrent updates can be lost.** KV has no compare-and-set: an update overwrites whatever is there,
///   and the last writer wins.
/// - **Other locations see a write up to 60 seconds later**, and a missing key stays missing there as long.
/// - **One write per second and key**: KV answers more with 429. Such a write is tried again, up to three times, a
///   second or more apart, as long as the request's deadline lets it.
///
/// (Cloudflare, "How KV works" and "Write key-value pairs".) `D1Store` has none of these limits.
///
/// All the same, a logout is final, and the id from before a login is worthless, once that has reached a location. Both
/// leave tombstones (in the code: marks), keys beside the record, which no late write of the record can undo:
///
/// - `ended:<record key>`: one call reads it together with the record. It says that the session was killed, or holds
///   the retired record, which says where it moved to.
/// - `killed:<record key>`: only a kill writes it, so that a late change of id cannot hide the kill. The record of a
///   session that moved names the keys that it had during the last two minutes (in the [extension](Extensions)
///   `predecessors`), and is dead if one of them was killed.
///
/// This type has the rules. A [`KvNamespace`] has the values: a Worker's binding, or a model in a test.
#[derive(Debug)]
pub struct KvStore<N, P> {
    namespace: N,
    platform: P,
}

/// Where a [`KvStore`] keeps its values: what it needs of Workers KV.
#[expect(async_fn_in_trait, reason = "no Send bound: a Worker has one thread")]
pub trait KvNamespace {
    /// The values under these names, in their order, `None` for one that is not there. By one call.
    ///
    /// # Errors
    ///
    /// When KV could not be asked. A name that is not there is *not* an error.
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure>;

    /// Stores a value that expires at this time, in seconds since 1970 UTC, 60 seconds ahead at the least.
    ///
    /// # Errors
    ///
    /// When KV did not take it, or its answer was lost.
    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure>;

    /// Removes a value.
    ///
    /// # Errors
    ///
    /// When KV did not do it, or its answer was lost. A name that is not there is *not* an error.
    async fn delete(&self, name: &str) -> Result<(), KvFailure>;
}

/// Why KV did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvFailure {
    /// 429: the name was written less than a second ago. This write was not stored.
    TooManyWrites,
    /// Anything else, with KV's message. A write may have been stored.
    Other(String),
}

impl fmt::Display for KvFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyWrites => formatter.write_str("KV: 429, more than one write a second under one name"),
            Self::Other(message) => write!(formatter, "KV: {message}"),
        }
    }
}

impl From<KvFailure> for Error {
    fn from(failure: KvFailure) -> Self {
        Self::new(ErrorKind::Unavailable, failure)
    }
}

/// KV refuses an expiration less than 60 seconds ahead; this leaves its clock a minute to differ from ours.
const LEAST_LIFE: u64 = 120;

/// Marks are kept for at least so many seconds, 90 days, and for twice as long as the record would have lived: longer
/// than any record that a writer who comes late could leave, also one of a release with another `timeout`.
const LEAST_LIFE_OF_A_MARK: u64 = 90 * 24 * 60 * 60;

/// For so many seconds after a change of id a request may be under way that kills the session under its old id.
const PREDECESSORS_FOR: u64 = 120;

/// The predecessors that a record can name: KV reads 100 names by one call.
const MOST_PREDECESSORS: usize = 100;

/// Which extension names them, as `<record key>:<when its id was changed>`, with commas between.
const PREDECESSORS: &str = "predecessors";

/// How often a write that met 429 is tried again.
const REPETITIONS: u32 = 3;

/// The mark of a killed session. (An empty one is of a release before 1.)
const KILLED: &str = "killed";

fn session(key: &RecordKey) -> String {
    ["session:", key.as_str()].concat()
}

fn ended(key: &RecordKey) -> String {
    ["ended:", key.as_str()].concat()
}

fn killed(key: &RecordKey) -> String {
    ["killed:", key.as_str()].concat()
}

impl<N: KvNamespace, P: Platform> KvStore<N, P> {
    /// A store in `namespace`, by the platform's clock and pauses.
    pub fn new(namespace: N, platform: P) -> Self {
        Self { namespace, platform }
    }

    /// The values under two names.
    async fn pair(&self, names: [String; 2]) -> Result<[Option<String>; 2], KvFailure> {
        let mut values = self.namespace.get(&names).await?.into_iter();
        Ok([values.next().flatten(), values.next().flatten()])
    }

    /// When KV may forget what expires then. A request may have taken so long that its session's time is over.
    fn expiration(&self, expires_at: u64) -> u64 {
        expires_at.max(self.platform.now()).saturating_add(LEAST_LIFE)
    }

    async fn put(&self, name: &str, value: &str, expires_at: u64) -> Result<(), KvFailure> {
        let mut repetitions = 0..REPETITIONS;
        loop {
            match self.namespace.put(name, value, self.expiration(expires_at)).await {
                Err(KvFailure::TooManyWrites) if repetitions.next().is_some() => self.wait_a_second().await,
                settled => return settled,
            }
        }
    }

    /// So that a name can be written again, and not by all at once who wait for it.
    async fn wait_a_second(&self) {
        random_pause(&self.platform, 1000, 500).await;
    }

    async fn put_record(&self, key: &RecordKey, record: &Record) -> Result<(), KvFailure> {
        self.put(&session(key), &record.to_text(), record.expires_at).await
    }

    /// Until when a mark stays that stands for this record.
    fn end_of_mark(&self, record: Option<&Record>) -> u64 {
        let life = record.map_or(0, |record| record.expires_at.saturating_sub(record.touched_at));
        self.platform.now().saturating_add(life.saturating_mul(2).max(LEAST_LIFE_OF_A_MARK))
    }

    /// Leaves the mark of a kill. 429 mostly means that it, or one that serves as well, is there: then a look is enough. It
    /// may as well be of a write that failed.
    async fn mark(&self, name: String, until: u64) -> Result<(), KvFailure> {
        let mut repetitions = 0..REPETITIONS;
        loop {
            match self.namespace.put(&name, KILLED, until).await {
                Err(KvFailure::TooManyWrites) => {}
                settled => return settled,
            }
            if self.namespace.get(std::slice::from_ref(&name)).await?.iter().any(Option::is_some) {
                return Ok(());
            }
            if repetitions.next().is_none() {
                return Err(KvFailure::TooManyWrites);
            }
            self.wait_a_second().await;
        }
    }

    /// Whether one of the keys that the record had before was killed. Those that it had too long ago for that are
    /// taken from its list.
    async fn was_killed_before(&self, record: &mut Record) -> Result<bool, Error> {
        let Some(word) = record.extensions.get(PREDECESSORS) else { return Ok(false) };
        let predecessors = predecessors(word)?;
        let names: Vec<_> = predecessors.iter().map(|(key, _)| killed(key)).collect();
        if self.namespace.get(&names).await?.iter().any(Option::is_some) {
            return Ok(true);
        }
        let now = self.platform.now();
        let young = |moved_at: u64| now < moved_at.saturating_add(PREDECESSORS_FOR);
        name(&mut record.extensions, predecessors.into_iter().filter(|(_, moved_at)| young(*moved_at)))?;
        Ok(false)
    }
}

type Predecessor = (RecordKey, u64);

fn predecessors(word: &str) -> Result<Vec<Predecessor>, Error> {
    let read = |part: &str| {
        let (key, moved_at) = part.split_once(':')?;
        Some((RecordKey::from_stored(key)?, moved_at.parse().ok()?))
    };
    let predecessors: Option<Vec<_>> = word.split(',').map(read).collect();
    predecessors.ok_or_else(|| Error::unreadable("a record's predecessors are not of the form that this release knows"))
}

fn name(extensions: &mut Extensions, predecessors: impl Iterator<Item = Predecessor>) -> Result<(), Error> {
    let words: Vec<_> = predecessors.map(|(key, moved_at)| format!("{}:{moved_at}", key.as_str())).collect();
    if words.is_empty() {
        extensions.remove(PREDECESSORS);
        return Ok(());
    }
    extensions.set(PREDECESSORS, &words.join(","))
}

impl<N: KvNamespace, P: Platform> Store for KvStore<N, P> {
    /// A value may have 25 MiB, and a Worker has 128 MB for all that it holds at once, a value several times over.
    fn max_data(&self) -> u64 {
        10_000_000
    }

    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let [stored, mark] = self.pair([session(key), ended(key)]).await?;
        if let Some(mark) = mark {
            // The retired record of a session that moved; anything else stands for a killed one.
            return Ok(Record::from_text(&mark).ok().filter(|retired| retired.successor.is_some()));
        }
        let Some(stored) = stored else { return Ok(None) };
        let mut record = Record::from_text(&stored)?;
        Ok(if self.was_killed_before(&mut record).await? { None } else { Some(record) })
    }

    /// Overwrites a used key: KV cannot insert only. It does not look first either, for KV would
    /// remember that the key was missing and show the new session late.
    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        Ok(self.put_record(key, record).await?)
    }

    /// Without a look at what is there, which would cost each save a read, and guard a moment only.
    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.put_record(key, record).await?;
        Ok(Updated::Done)
    }

    /// Writes the whole record, since KV can do no less; so it looks first, and a newer version stays as it is.
    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let stored = match self.load(key).await? {
            Some(stored) if stored.successor.is_none() => stored,
            _ => return Ok(Updated::Gone),
        };
        if !stored.is_same_write(record) {
            return Ok(Updated::Stale);
        }
        let touched = stored.touched_by(record);
        // One attempt: 429 means that another has written just now, to whom it gives way.
        let expiration = self.expiration(touched.expires_at);
        match self.namespace.put(&session(key), &touched.to_text(), expiration).await {
            Err(KvFailure::TooManyWrites) => Ok(Updated::Stale),
            settled => Ok(settled.map(|()| Updated::Done)?),
        }
    }

    /// The marks decide, and what follows them may fail: a record under a mark is not read, and expires. The mark of a
    /// session that moved stays, and says where it went.
    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        let record = match self.load(key).await {
            Err(error) if error.kind() != ErrorKind::Unreadable => return Err(error),
            loaded => loaded.ok().flatten(),
        };
        let until = self.end_of_mark(record.as_ref());
        let successor = record.and_then(|record| record.successor);
        // In this order, for one that is under the second mark alone would live, and die with its next change of id.
        if successor.is_none() {
            self.mark(ended(key), until).await?;
        }
        self.mark(killed(key), until).await?;
        drop(self.namespace.delete(&session(key)).await);
        Ok(successor)
    }

    /// The new record first, then the mark that retires the old one. A look before it, for a change of id is rare and
    /// must not carry a session past its logout.
    async fn change_id(
        &self,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        match self.load(from).await? {
            None => return Ok(Updated::Gone),
            // KV may still show a version before the one that was loaded, but not a later one that is not there.
            Some(stored) if stored.successor.is_some() || stored.version >= retired.version => {
                return Ok(Updated::Stale);
            }
            Some(_) => {}
        }
        let mut before = moved.extensions.get(PREDECESSORS).map(predecessors).transpose()?.unwrap_or_default();
        before.push((from.clone(), self.platform.now()));
        if before.len() > MOST_PREDECESSORS {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "KV: more than 100 changes of one session's id in two minutes",
            ));
        }
        name(&mut moved.extensions, before.into_iter())?;
        self.put_record(to, moved).await?;
        self.put(&ended(from), &retired.to_text(), self.end_of_mark(Some(retired))).await?;
        drop(self.namespace.delete(&session(from)).await);
        Ok(Updated::Done)
    }
}
