use std::fmt;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backing::{ATTEMPTS, Backing, Loaded, Shared};
use crate::cookie::{self, Presented};
use crate::session::{Committed, CookieChange, contended};
use crate::timing::Stopwatch;
use crate::{Error, ErrorKind, Platform, Record, RecordKey, Session, SessionParameters, Signer, Store, Timing};

/// All sessions of a Worker: a store, a signer and the parameters, and what happens in a request.
///
/// ```text
/// Request ─ cookie ─ verify ─ load ─ expired? ─ handler ─ changed? ─ save ─ Set-Cookie ─ Response
///             │         │        │                 ▲                   │
///           none      forged   absent              └── lost a race ────┘   (load again, run again)
///             └─────────┴────────┴── a new session in memory, nothing stored
/// ```
///
/// [`run`](Self::run) is that picture, free of HTTP types; [`serve`](Self::serve) is the same for a
/// Worker's requests. A clone is another handle on the same sessions.
#[derive(Clone)]
pub struct Sessions {
    shared: Rc<Shared>,
    signer: Rc<Signer>,
}

/// What a session needs to know of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Incoming<'a> {
    /// The `Cookie` header.
    pub cookie: Option<&'a str>,
    /// The visitor's address, from a source that visitors cannot write to: `CF-Connecting-IP`.
    pub ip: Option<&'a str>,
    /// Plain http to a loopback address, where the cookie goes without `Secure`.
    pub plain_loopback: bool,
}

/// What came of a request.
#[derive(Debug)]
pub enum Outcome<R, E> {
    /// The handler answered, and what it did to the session is stored.
    Replied {
        /// The handler's reply.
        reply: R,
        /// The `Set-Cookie` header to send with it, if any.
        set_cookie: Option<String>,
        /// What was done; the times are 0 unless `server_timing` asks for them.
        timing: Timing,
    },
    /// The session has expired, or belongs to another address, and the parameters ask to say so:
    /// status 401. The handler did not run.
    Expired {
        /// The body: `expired_message`.
        message: String,
        /// The `Set-Cookie` header to send with it; the visitor's next request starts anew.
        set_cookie: String,
    },
    /// The handler failed. Nothing was stored, except what it [saved](Session::save) itself.
    Failed(E),
}

impl Sessions {
    /// Sessions in `store`. The [crate's documentation](crate) has an example.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when the parameters do not pass their [check](SessionParameters::check).
    pub fn new(
        store: impl Store + 'static,
        platform: impl Platform + 'static,
        signer: Signer,
        parameters: SessionParameters,
    ) -> Result<Self, Error> {
        parameters.check()?;
        Ok(Self {
            shared: Rc::new(Shared { store: Box::new(store), platform: Box::new(platform), parameters }),
            signer: Rc::new(signer),
        })
    }

    /// The parameters that these sessions go by.
    #[must_use]
    pub fn parameters(&self) -> &SessionParameters {
        &self.shared.parameters
    }

    /// The life of a request: finds the visitor's session, runs `handler` on it, and stores what changed.
    ///
    /// A request is a transaction on its session. When another request stored a newer version in the
    /// meantime, the session is loaded again and `handler` runs again, a bounded number of times with
    /// a random pause between. So a handler may run more than once. Effects outside the session belong
    /// after `session.save().await?`: what follows a save that went through runs once.
    ///
    /// A visitor whose session was not changed gets no record and no cookie, and one without a valid
    /// cookie costs no store call.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the store failed, `Contended` when the race was lost too often,
    /// `Unserializable` when the data has no JSON form. The visitor's cookie and record are untouched
    /// then. Cookies that are forged, expired, or lead to a record that cannot be read are *not*
    /// errors: their visitors get a new session.
    pub async fn run<T, R, E>(
        &self,
        incoming: &Incoming<'_>,
        handler: impl AsyncFn(&mut Session<T>) -> Result<R, E>,
    ) -> Result<Outcome<R, E>, Error>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let presented = self.presented(incoming);
        let backing = Backing::new(&self.shared);
        let mut stopwatch = Stopwatch::started(&*self.shared.platform, self.parameters().server_timing);
        let mut timing = Timing::default();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                backing.back_off(attempt).await?;
            }
            let Some(mut session) = self.open::<T>(&backing, incoming, &presented).await? else {
                return Ok(self.expired(incoming));
            };
            timing.attempts = timing.attempts.saturating_add(1);
            timing.loaded = !session.is_new();
            timing.load = timing.load.saturating_add(stopwatch.lap());

            let answer = handler(&mut session).await;
            timing.handler = timing.handler.saturating_add(stopwatch.lap());

            let lost_in_save = session.refusal().is_some_and(|error| error.kind() == ErrorKind::Contended);
            if !lost_in_save {
                match answer {
                    Ok(reply) => {
                        let committed = session.commit(false).await;
                        let committed = committed.inspect_err(|_| self.log_untold(&presented, &session))?;
                        timing.save = timing.save.saturating_add(stopwatch.lap());
                        timing.effect = session.effect();
                        match committed {
                            Committed::Done => {
                                let set_cookie = self.set_cookie(incoming, &presented, &session);
                                return Ok(Outcome::Replied { reply, set_cookie, timing });
                            }
                            Committed::LostRace => {}
                        }
                    }
                    Err(error) => {
                        self.log_untold(&presented, &session);
                        return match session.refusal() {
                            // The handler failed because its save did.
                            Some(refusal) => Err(refusal.clone()),
                            None => Ok(Outcome::Failed(error)),
                        };
                    }
                }
            }
            if session.was_saved() {
                // Part of the handler's work is stored: to run it again would do that part twice.
                self.log_untold(&presented, &session);
                break;
            }
        }
        Err(contended())
    }

    /// Frees the space of expired sessions, for stores that do not do so by themselves; says how many.
    /// Whether a session has expired never depends on it.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the store failed.
    pub async fn delete_expired(&self) -> Result<u64, Error> {
        // Without a deadline: nobody waits for it.
        self.shared.store.delete_expired(self.shared.platform.now()).await
    }

    fn presented(&self, incoming: &Incoming<'_>) -> Presented {
        match incoming.cookie {
            None => Presented::Nothing,
            Some(header) => cookie::read(header, &self.parameters().cookie_name, &self.signer),
        }
    }

    /// The session that the cookie leads to, or a new one in memory; `None` to answer with the expiry reply.
    async fn open<T>(
        &self,
        backing: &Rc<Backing>,
        incoming: &Incoming<'_>,
        presented: &Presented,
    ) -> Result<Option<Session<T>>, Error>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let Presented::Verified(id) = presented else {
            return self.new_session(backing, incoming, None);
        };
        let key = id.record_key();
        match backing.load(&key).await? {
            Loaded::Record(_, record) if !self.admits(incoming, &record) => Ok(None),
            Loaded::Record(found, record) => match serde_json::from_str(&record.data) {
                Ok(data) => {
                    let id = (found == key).then(|| id.clone());
                    Ok(Some(Session::stored(backing, id, found, record, data)))
                }
                Err(error) => {
                    let reason = format_args!("its data is not the session's type: {error}");
                    backing.log_unreadable(&found, &reason);
                    self.new_session(backing, incoming, Some(found))
                }
            },
            Loaded::Absent if !self.parameters().ignore_expiry => Ok(None),
            Loaded::Absent | Loaded::Unreadable => self.new_session(backing, incoming, Some(key)),
        }
    }

    fn admits(&self, incoming: &Incoming<'_>, record: &Record) -> bool {
        self.parameters().ignore_change_ip || record.ip.as_deref() == incoming.ip
    }

    fn new_session<T>(
        &self,
        backing: &Rc<Backing>,
        incoming: &Incoming<'_>,
        presented: Option<RecordKey>,
    ) -> Result<Option<Session<T>>, Error>
    where
        T: Default + Serialize,
    {
        // An address is personal data: it is kept only where it is needed.
        let bound = !self.parameters().ignore_change_ip;
        let ip = incoming.ip.filter(|_| bound).map(str::to_owned);
        Session::new(backing, ip, presented).map(Some)
    }

    fn set_cookie<T>(&self, incoming: &Incoming<'_>, presented: &Presented, session: &Session<T>) -> Option<String> {
        match session.cookie_change() {
            CookieChange::Set { id, expires_at } => {
                let lifetime = expires_at.saturating_sub(self.shared.platform.now());
                let parameters = self.parameters();
                Some(cookie::set(parameters, &self.signer, id, lifetime, incoming.plain_loopback))
            }
            // A cookie that was not sent needs no taking away.
            CookieChange::Expire if *presented != Presented::Nothing => Some(self.expired_cookie(incoming)),
            CookieChange::Expire | CookieChange::Keep => None,
        }
    }

    /// A request that fails has no reply of ours, and so no cookie. If it has stored the session under a new
    /// id before, its visitor does not learn of that id: the operator at least is told.
    fn log_untold<T>(&self, presented: &Presented, session: &Session<T>) {
        let CookieChange::Set { id, .. } = session.cookie_change() else { return };
        if *presented != Presented::Verified(id.clone()) {
            let key = id.record_key();
            self.shared.platform.log(format_args!(
                "{key:?} was saved under a new id by a request that failed after it: its visitor has not been told the id"
            ));
        }
    }

    fn expired<R, E>(&self, incoming: &Incoming<'_>) -> Outcome<R, E> {
        Outcome::Expired {
            message: self.parameters().expired_message.clone(),
            set_cookie: self.expired_cookie(incoming),
        }
    }

    fn expired_cookie(&self, incoming: &Incoming<'_>) -> String {
        cookie::expire(self.parameters(), incoming.plain_loopback)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").field("parameters", &self.shared.parameters).finish_non_exhaustive()
    }
}
