use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backing::{ATTEMPTS, Backing, Loaded};
use crate::{Effect, Error, ErrorKind, Record, RecordKey, SessionId, Successor, Updated};

/// One visitor's session during one request: the data, and what is to become of it.
///
/// It stands for its data: `session.count += 1` reaches the field `count` of `T`. `T`'s `Default` is
/// what a new visitor starts with (web.py's `initializer`), made anew for each.
///
/// Changed means that the data's JSON changed; there is no flag to set. What changed is saved when
/// the handler is done and before its reply leaves. A map that iterates in random order, as
/// `HashMap`, can look changed when it is not, at the cost of a write; `BTreeMap` does not.
///
/// To add a field to `T` when sessions are already stored, give it `#[serde(default)]`.
pub struct Session<T> {
    data: T,
    state: State,
    /// The address to bind a new session to, where sessions are bound.
    ip: Option<String>,
    killed: bool,
    /// The id is to be changed.
    cycling: bool,
    /// What was done in the store.
    effect: Effect,
    /// A [`save`](Self::save) or [`update`](Self::update) has had its effect, so that the handler must not run again.
    saved: bool,
    /// Why the last one did not go through.
    refused: Option<Error>,
    backing: Rc<Backing>,
}

/// Where the session stands in the store.
enum State {
    /// Nothing stored. `pristine` is the initial data, which alone is not worth a record. `presented`
    /// is what the visitor's cookie leads to: a session that is not there, or cannot be read.
    New { pristine: String, presented: Option<RecordKey> },
    /// Loaded or created; `record` is what the store holds under `key`, as far as we know. `id` is the
    /// id that `key` is the hash of, unless the visitor came with the one before it.
    Stored { id: Option<SessionId>, key: RecordKey, record: Record },
    /// Killed, by this request or by another one: nothing will be stored any more.
    Ended,
}

/// For how many seconds an old id leads to the session after [`Session::cycle_id`]: long enough for
/// the requests of one page, short for a thief.
const GRACE: u64 = 10;

/// What came of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is done, or there was nothing to do, or nothing left to do it to.
    Done,
    /// Another request stored its version first.
    LostRace,
}

/// What the reply's cookie has to say.
pub(crate) enum CookieChange<'a> {
    Keep,
    Set { id: &'a SessionId, expires_at: u64 },
    Expire,
}

impl<T> Session<T> {
    /// Ends the session: its record is deleted and the visitor's cookie taken away.
    ///
    /// The data can still be read and changed until the handler is done; it goes nowhere. Like every
    /// change, the end takes effect when the handler has answered (or at [`save`](Self::save)), and
    /// not at all if it fails.
    #[doc(alias = "destroy")]
    #[doc(alias = "delete")]
    #[doc(alias = "flush")]
    #[doc(alias = "invalidate")]
    #[doc(alias = "purge")]
    pub fn kill(&mut self) {
        self.killed = true;
    }

    /// Gives the session a new id and keeps its data: for every change of privilege, a login above all,
    /// so that an id that somebody else knew from before is worth nothing after (OWASP ASVS 5.0, 7.2.4).
    ///
    /// Like every change it takes effect when the handler has answered, or at [`save`](Self::save): the
    /// record is created under the new id, then the old one retired. For ten seconds the old id still
    /// leads to the session, so that requests of the same page that are under way are not logged out.
    /// After that its use is logged as a possible theft, and gets nothing.
    #[doc(alias = "regenerate")]
    #[doc(alias = "renew")]
    pub fn cycle_id(&mut self) {
        self.cycling = true;
    }

    /// Whether this visitor has no stored session yet: a first visit, or one after an expiry or a
    /// reset. False once something was saved.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self.state, State::New { .. })
    }

    /// What is stored of this session, as it was loaded or last saved: when it began, when its use was
    /// last noted, when it ends. `None` while nothing is stored, and after its end.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match &self.state {
            State::Stored { record, .. } => Some(record),
            State::New { .. } | State::Ended => None,
        }
    }
}

impl<T: Serialize> Session<T> {
    /// Commits at once, for handlers with effects outside the session: what follows a `save` that
    /// went through runs once. (On KV, which cannot tell who was first, once for each request that met.)
    ///
    /// What was saved stays, also when the handler fails after it; but an `Err` carries no cookie. After
    /// the `save` of a new session, or of a new id, answer with a reply that says what went wrong, or the
    /// visitor never learns of the id.
    ///
    /// A new session is stored even if nothing in it was changed, and a killed one deleted. Without
    /// a call, the session is saved when the handler is done, if it changed.
    ///
    /// # Errors
    ///
    /// `Contended` when another request stored its version first: return the error with `?`, and
    /// the handler is run again on the newer data. `Unavailable` when the store failed, and
    /// `Unserializable` when the data has no JSON form. A session that was killed meanwhile is *not*
    /// an error: its changes are dropped and logged.
    pub async fn save(&mut self) -> Result<(), Error> {
        let saved = match self.commit(true).await {
            Ok(Committed::Done) => Ok(()),
            Ok(Committed::LostRace) => Err(contended()),
            Err(error) => Err(error),
        };
        self.conclude(saved)
    }

    /// Stores what changed, or a use that is due to be noted. `explicit`: also a new session's initial data.
    pub(crate) async fn commit(&mut self, explicit: bool) -> Result<Committed, Error> {
        if self.killed {
            self.delete().await?;
            return Ok(Committed::Done);
        }
        let now = self.backing.platform.now();
        match &self.state {
            State::Ended => Ok(Committed::Done),
            State::New { pristine, .. } => {
                let data = self.json()?;
                if explicit || data != *pristine {
                    self.create(data, now).await?;
                }
                Ok(Committed::Done)
            }
            State::Stored { key, record, .. } => {
                let data = self.json()?;
                let touch = self.backing.parameters.touch_is_due(record, now);
                if !touch && !self.cycling && data == record.data {
                    return Ok(Committed::Done);
                }
                let touched_at = if touch { now } else { record.touched_at };
                let next = Record {
                    version: record.version.saturating_add(1),
                    nonce: self.backing.nonce()?,
                    touched_at,
                    expires_at: self.backing.parameters.expires_at(record.created_at, touched_at),
                    data,
                    ..record.clone()
                };
                let key = key.clone();
                if self.cycling { self.move_to_new_id(key, next).await } else { self.replace(&key, next).await }
            }
        }
    }

    fn json(&self) -> Result<String, Error> {
        to_json(&self.data)
    }

    async fn create(&mut self, data: String, now: u64) -> Result<(), Error> {
        let record = Record {
            version: 1,
            nonce: self.backing.nonce()?,
            created_at: now,
            touched_at: now,
            expires_at: self.backing.parameters.expires_at(now, now),
            ip: self.ip.clone(),
            successor: None,
            data,
        };
        let id = SessionId::random(&*self.backing.platform)?;
        let key = id.record_key();
        self.backing.create(&key, &record).await?;
        self.stored_as(id, key, record, Effect::Created);
        Ok(())
    }

    async fn replace(&mut self, key: &RecordKey, next: Record) -> Result<Committed, Error> {
        match self.backing.update(key, &next).await? {
            Updated::Done => {
                if let State::Stored { record, .. } = &mut self.state {
                    self.effect = if record.data == next.data { Effect::Touched } else { Effect::Saved };
                    *record = next;
                }
                Ok(Committed::Done)
            }
            Updated::Stale => Ok(Committed::LostRace),
            Updated::Gone => {
                self.end(key);
                Ok(Committed::Done)
            }
        }
    }

    /// Creates the record under a new id, then retires the old one. In this order, a failure between
    /// leaves a record that nobody knows the id of; in the other, it would have lost the session.
    async fn move_to_new_id(&mut self, old: RecordKey, next: Record) -> Result<Committed, Error> {
        let id = SessionId::random(&*self.backing.platform)?;
        let key = id.record_key();
        let moved = Record { version: 1, ..next.clone() };
        self.backing.create(&key, &moved).await?;
        let until = self.backing.platform.now().saturating_add(GRACE);
        let retired = Record {
            successor: Some(Successor { key: key.clone(), until }),
            // The data has moved; a copy of it would outlive a logout.
            data: "null".to_owned(),
            ..next
        };
        match self.backing.update(&old, &retired).await? {
            Updated::Done => {
                self.cycling = false;
                self.stored_as(id, key, moved, Effect::Moved);
                Ok(Committed::Done)
            }
            Updated::Stale => {
                self.backing.delete(&key).await?;
                Ok(Committed::LostRace)
            }
            Updated::Gone => {
                // A killed session does not live on under another id either.
                self.backing.delete(&key).await?;
                self.end(&old);
                Ok(Committed::Done)
            }
        }
    }

    fn stored_as(&mut self, id: SessionId, key: RecordKey, record: Record, effect: Effect) {
        self.state = State::Stored { id: Some(id), key, record };
        self.effect = effect;
    }

    /// Another request killed the session.
    fn end(&mut self, key: &RecordKey) {
        self.backing
            .platform
            .log(format_args!("{key:?} ended while a request was in flight; the request's changes are dropped"));
        self.state = State::Ended;
        self.effect = Effect::Dropped;
    }

    /// Deletes what the visitor's cookie leads to, also when it could not be read.
    async fn delete(&mut self) -> Result<(), Error> {
        let key = match &self.state {
            State::New { presented, .. } => presented.as_ref(),
            State::Stored { key, .. } => Some(key),
            State::Ended => None,
        };
        if let Some(key) = key {
            self.backing.delete(key).await?;
            self.effect = Effect::Killed;
        }
        self.state = State::Ended;
        Ok(())
    }
}

impl<T: Serialize + DeserializeOwned> Session<T> {
    /// Applies a small change and commits it at once, in a step of its own: when another request was
    /// faster, the session is loaded again and `change` applied again, and not the whole handler.
    ///
    /// For handlers that must run once. Gives back what `change` gave on the data that was stored:
    ///
    /// ```
    /// # use edge_session::{Error, Session};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Visit { count: u64 }
    /// async fn count(session: &mut Session<Visit>) -> Result<u64, Error> {
    ///     session
    ///         .update(|visit| {
    ///             visit.count += 1;
    ///             visit.count
    ///         })
    ///         .await
    /// }
    /// ```
    ///
    /// Changes that the handler made before are committed with it. When the race is lost with such
    /// changes pending, they cannot be applied again, and it ends as a [`save`](Self::save) does.
    ///
    /// # Errors
    ///
    /// Those of [`save`](Self::save), `Contended` only after many lost races. A session that was
    /// killed meanwhile is *not* an error: the change is dropped and logged.
    pub async fn update<R>(&mut self, change: impl FnMut(&mut T) -> R) -> Result<R, Error> {
        let updated = self.apply(change).await;
        self.conclude(updated)
    }

    async fn apply<R>(&mut self, mut change: impl FnMut(&mut T) -> R) -> Result<R, Error> {
        let pending = self.has_changes()?;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.backing.back_off(attempt).await?;
                self.reload().await?;
            }
            let answer = change(&mut self.data);
            match self.commit(false).await? {
                Committed::Done => return Ok(answer),
                Committed::LostRace if pending => return Err(contended()),
                Committed::LostRace => {}
            }
        }
        // Not to be tried again by running the handler, which called this to run once.
        self.saved = true;
        Err(contended())
    }

    /// Whether there is anything that only the handler could do again.
    fn has_changes(&self) -> Result<bool, Error> {
        Ok(match &self.state {
            State::Stored { record, .. } => self.cycling || self.json()? != record.data,
            // Neither can lose a race.
            State::New { .. } | State::Ended => false,
        })
    }

    /// Takes the data that another request stored.
    async fn reload(&mut self) -> Result<(), Error> {
        let State::Stored { id, key, record } = &mut self.state else {
            return Ok(());
        };
        match self.backing.load(key).await? {
            Loaded::Record(found, newer) => {
                self.data = serde_json::from_str(&newer.data)
                    .map_err(|error| Error::unreadable(format_args!("its data is not the session's type: {error}")))?;
                if found != *key {
                    // Another request changed the id, and its visitor has the cookie.
                    *id = None;
                    *key = found;
                }
                *record = newer;
            }
            Loaded::Absent | Loaded::Unreadable => {
                let key = key.clone();
                self.end(&key);
            }
        }
        Ok(())
    }
}

impl<T: Default + Serialize> Session<T> {
    /// A session of which nothing is stored. `presented` is the id that led nowhere, if one did.
    pub(crate) fn new(backing: &Rc<Backing>, ip: Option<String>, presented: Option<RecordKey>) -> Result<Self, Error> {
        let data = T::default();
        let pristine = to_json(&data)?;
        Ok(Self::open(backing, data, State::New { pristine, presented }, ip))
    }
}

impl<T> Session<T> {
    /// The session that `record` holds, with its data already read.
    pub(crate) fn stored(
        backing: &Rc<Backing>,
        id: Option<SessionId>,
        key: RecordKey,
        record: Record,
        data: T,
    ) -> Self {
        Self::open(backing, data, State::Stored { id, key, record }, None)
    }

    fn open(backing: &Rc<Backing>, data: T, state: State, ip: Option<String>) -> Self {
        Self {
            data,
            state,
            ip,
            killed: false,
            cycling: false,
            effect: Effect::Nothing,
            saved: false,
            refused: None,
            backing: Rc::clone(backing),
        }
    }

    /// Notes what a commit inside the handler came to, for the handler may hide it.
    fn conclude<R>(&mut self, result: Result<R, Error>) -> Result<R, Error> {
        self.saved |= result.is_ok();
        self.refused = result.as_ref().err().cloned();
        result
    }

    pub(crate) fn cookie_change(&self) -> CookieChange<'_> {
        match &self.state {
            _ if self.killed => CookieChange::Expire,
            State::Stored { id: Some(id), record, .. } if self.effect != Effect::Nothing => {
                CookieChange::Set { id, expires_at: record.expires_at }
            }
            _ => CookieChange::Keep,
        }
    }

    /// What was done in the store.
    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    /// A [`save`](Self::save) went through.
    pub(crate) fn was_saved(&self) -> bool {
        self.saved
    }

    /// The error of a [`save`](Self::save) that did not.
    pub(crate) fn refusal(&self) -> Option<&Error> {
        self.refused.as_ref()
    }
}

fn to_json(data: &impl Serialize) -> Result<String, Error> {
    serde_json::to_string(data).map_err(|error| {
        Error::new(ErrorKind::Unserializable, format_args!("the session's data has no JSON form: {error}"))
    })
}

/// What is said when other requests keep winning.
pub(crate) fn contended() -> Error {
    Error::new(ErrorKind::Contended, "other requests on the same session were faster")
}

impl<T> Deref for Session<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Session<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}

impl<T> fmt::Debug for Session<T> {
    /// Shows neither the id nor the data, for both may be secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.killed, &self.state) {
            (true, _) | (_, State::Ended) => "ended",
            (_, State::New { .. }) => "new",
            (_, State::Stored { .. }) => "stored",
        };
        write!(formatter, "Session({state})")
    }
}
