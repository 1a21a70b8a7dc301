use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use serde::Serialize;

use crate::store::AnyStore;
use crate::{Error, ErrorKind, Platform, Record, SessionId, SessionParameters, Updated};

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
    /// Something was stored, so that the cookie is due.
    written: bool,
    /// A [`save`](Self::save) went through, so that the handler must not run again.
    saved: bool,
    /// Why a [`save`](Self::save) did not go through.
    refused: Option<Error>,
    backing: Rc<Backing>,
}

/// What sessions stand on: shared by all requests of a [`Sessions`](crate::Sessions).
pub(crate) struct Backing {
    pub(crate) store: Box<dyn AnyStore>,
    pub(crate) platform: Box<dyn Platform>,
    pub(crate) parameters: SessionParameters,
}

/// Where the session stands in the store.
enum State {
    /// Nothing stored. `pristine` is the initial data, which alone is not worth a record. `presented`
    /// is the id that the visitor came with, of a session that is not there (or not readable).
    New { pristine: String, presented: Option<SessionId> },
    /// Loaded or created; `record` is what the store holds as far as we know.
    Stored { id: SessionId, record: Record },
    /// Killed, by this request or by another one: nothing will be stored any more.
    Ended,
}

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

    /// Whether this visitor has no stored session yet: a first visit, or one after an expiry or a
    /// reset. False once something was saved.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self.state, State::New { .. })
    }
}

impl<T: Serialize> Session<T> {
    /// Commits at once, for handlers with effects outside the session: what follows a `save` that
    /// went through runs once.
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
        let result = match self.commit(true).await {
            Ok(Committed::Done) => {
                self.saved = true;
                return Ok(());
            }
            Ok(Committed::LostRace) => contended(),
            Err(error) => error,
        };
        self.refused = Some(result.clone());
        Err(result)
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
            State::Stored { record, .. } => {
                let data = self.json()?;
                let touch = self.backing.parameters.touch_is_due(record, now);
                if !touch && data == record.data {
                    return Ok(Committed::Done);
                }
                let touched_at = if touch { now } else { record.touched_at };
                let next = Record {
                    version: record.version.saturating_add(1),
                    created_at: record.created_at,
                    touched_at,
                    expires_at: self.backing.parameters.expires_at(record.created_at, touched_at),
                    ip: record.ip.clone(),
                    data,
                };
                self.update(next).await
            }
        }
    }

    fn json(&self) -> Result<String, Error> {
        to_json(&self.data)
    }

    async fn create(&mut self, data: String, now: u64) -> Result<(), Error> {
        let record = Record {
            version: 1,
            created_at: now,
            touched_at: now,
            expires_at: self.backing.parameters.expires_at(now, now),
            ip: self.ip.clone(),
            data,
        };
        let id = SessionId::random(&*self.backing.platform)?;
        self.backing.store.create(&id.record_key(), &record).await?;
        self.state = State::Stored { id, record };
        self.written = true;
        Ok(())
    }

    async fn update(&mut self, next: Record) -> Result<Committed, Error> {
        let State::Stored { id, record } = &mut self.state else {
            return Ok(Committed::Done);
        };
        let key = id.record_key();
        match self.backing.store.update(&key, &next).await? {
            Updated::Done => {
                *record = next;
                self.written = true;
                Ok(Committed::Done)
            }
            Updated::Stale => Ok(Committed::LostRace),
            Updated::Gone => {
                self.backing.platform.log(format_args!(
                    "{key:?} ended while a request was in flight; the request's changes are dropped"
                ));
                self.state = State::Ended;
                Ok(Committed::Done)
            }
        }
    }

    /// Deletes what the visitor's cookie leads to, also when it could not be read.
    async fn delete(&mut self) -> Result<(), Error> {
        let id = match &self.state {
            State::New { presented, .. } => presented.as_ref(),
            State::Stored { id, .. } => Some(id),
            State::Ended => None,
        };
        if let Some(id) = id {
            self.backing.store.delete(&id.record_key()).await?;
        }
        self.state = State::Ended;
        Ok(())
    }
}

impl<T: Default + Serialize> Session<T> {
    /// A session of which nothing is stored. `presented` is the id that led nowhere, if one did.
    pub(crate) fn new(backing: &Rc<Backing>, ip: Option<String>, presented: Option<SessionId>) -> Result<Self, Error> {
        let data = T::default();
        let pristine = to_json(&data)?;
        Ok(Self::open(backing, data, State::New { pristine, presented }, ip))
    }
}

impl<T> Session<T> {
    /// The session that `record` holds, with its data already read.
    pub(crate) fn stored(backing: &Rc<Backing>, id: SessionId, record: Record, data: T) -> Self {
        Self::open(backing, data, State::Stored { id, record }, None)
    }

    fn open(backing: &Rc<Backing>, data: T, state: State, ip: Option<String>) -> Self {
        Self {
            data,
            state,
            ip,
            killed: false,
            written: false,
            saved: false,
            refused: None,
            backing: Rc::clone(backing),
        }
    }

    pub(crate) fn cookie_change(&self) -> CookieChange<'_> {
        match &self.state {
            _ if self.killed => CookieChange::Expire,
            State::Stored { id, record } if self.written => CookieChange::Set { id, expires_at: record.expires_at },
            _ => CookieChange::Keep,
        }
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
