use std::fmt;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backing::{ATTEMPTS, Backing, Loaded, Shared};
use crate::connection::Connection;
use crate::cookie::{self, Presented, SignedId};
use crate::log::{Event, Said};
use crate::nesting::{Mark, Nesting};
use crate::session::CookieChange;
use crate::timing::Stopwatch;
use crate::{Error, ErrorKind, Platform, Record, RecordKey, Session, SessionParameters, Signer, Store, Swept, Timing};

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
    /// The request's URL, as the runtime wrote it: on plain http to a loopback address the cookie goes without `Secure`.
    /// Without one, the request is taken to have come by https.
    pub url: Option<&'a str>,
}

/// What came of a request.
#[derive(Debug)]
pub enum Outcome<R, E> {
    /// The handler answered, and what it did to the session is stored.
    Replied {
        /// The handler's reply.
        reply: R,
        /// The `Set-Cookie` headers to send with it, if any, each as a header of its own.
        set_cookie: Vec<String>,
        /// What was done; the times are 0 unless `server_timing` asks for them.
        timing: Timing,
    },
    /// Status 401. The session has expired, or belongs to another address, and the parameters ask to say so: the handler
    /// did not run. Or it ended while the handler ran, and the handler returned the [`Ended`](ErrorKind::Ended) of its save.
    Expired {
        /// The body: `expired_message`.
        message: String,
        /// The `Set-Cookie` headers to send with it: none if the session ended meanwhile, for another reply has
        /// decided about its cookie. Otherwise the visitor's next request starts anew.
        set_cookie: Vec<String>,
    },
    /// The handler failed. Nothing was stored, except what it [saved](Session::save) itself.
    Failed(E),
}

impl Sessions {
    /// Sessions in `store`. The [crate's documentation](crate) has an example.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when the parameters do not pass their [check](SessionParameters::check), or allow more data than
    /// the store can hold.
    pub fn new(
        store: impl Store + 'static,
        platform: impl Platform + 'static,
        signer: Signer,
        parameters: SessionParameters,
    ) -> Result<Self, Error> {
        parameters.check()?;
        let most = store.max_data();
        if parameters.max_data > most {
            return Err(Error::misconfigured(format_args!(
                "session_parameters: `max_data` is {}, and must be at most {most} bytes, which the store can hold",
                parameters.max_data
            )));
        }
        Ok(Self {
            shared: Rc::new(Shared {
                store: Box::new(store),
                platform: Box::new(platform),
                parameters,
                said: Said::default(),
                nesting: Nesting::default(),
            }),
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
    /// - `Unavailable` when the store failed, `Contended` when the race was lost too often. The visitor's cookie
    ///   stays as it is. The record is untouched, unless the store did what it was asked and only its answer was lost:
    ///   a change of id may then have ended the visitor's id without telling the new one, which is logged.
    /// - `Unserializable` and `TooLarge` when the data cannot be stored; the record is untouched.
    /// - `Nested` when a handler makes this call for the request that it is answering.
    ///
    /// Cookies that are forged, expired, or lead to a record that cannot be read are *not* errors: their visitors get a
    /// new session. Nor is a note of use that could not be stored, or a session that ended while the handler ran: what
    /// the handler did not ask to be saved is dropped, and logged.
    pub async fn run<T, R, E>(
        &self,
        incoming: &Incoming<'_>,
        handler: impl AsyncFn(&mut Session<T>) -> Result<R, E>,
    ) -> Result<Outcome<R, E>, Error>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let presented = self.presented(incoming);
        let has_cookie = presented != Presented::Nothing;
        let mark = Mark::of(presented.into_ids(), incoming.url);
        let ids = &mark.ids;
        self.shared.nesting.check(&mark)?;
        let backing = Backing::new(&self.shared);
        let mut stopwatch = Stopwatch::started(&*self.shared.platform, self.parameters().server_timing);
        let mut timing = Timing::default();
        let mut had = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                backing.back_off(attempt).await?;
            }
            let opened = match had {
                None => self.open::<T>(&backing, incoming, ids).await?,
                Some(signed) => Some(self.reopen(&backing, incoming, signed).await?),
            };
            let Some(mut session) = opened else { return Ok(self.expired(incoming)) };
            had = ids.iter().find(|signed| session.is_stored_under(&signed.key)).or(had);
            timing.attempts = timing.attempts.saturating_add(1);
            timing.loaded = !session.is_new();
            timing.load = timing.load.saturating_add(stopwatch.lap());

            let answer = self.shared.nesting.within(&mark, handler(&mut session)).await;
            timing.handler = timing.handler.saturating_add(stopwatch.lap());

            let refusal = match answer {
                Ok(reply) => {
                    let committed = session.commit_at_the_end().await;
                    timing.save = timing.save.saturating_add(stopwatch.lap());
                    match committed {
                        Ok(effect) => {
                            timing.effect = effect;
                            let set_cookie = self.set_cookie(incoming, has_cookie, &session);
                            return Ok(Outcome::Replied { reply, set_cookie, timing });
                        }
                        Err(refusal) => refusal,
                    }
                }
                Err(error) => match session.returned_refusal() {
                    Some(refusal) => refusal,
                    None => {
                        self.log_untold(ids, &session);
                        return Ok(Outcome::Failed(error));
                    }
                },
            };
            if refusal.kind() == ErrorKind::Contended && session.may_run_again() {
                continue;
            }
            self.log_untold(ids, &session);
            return match refusal.kind() {
                ErrorKind::Ended => Ok(self.ended()),
                _ => Err(refusal),
            };
        }
        Err(Error::contended())
    }

    /// Frees the space of expired sessions, for stores that do not do so by themselves; says how many, and how many are
    /// left for the next time. Whether a session has expired never depends on it.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the store failed.
    pub async fn delete_expired(&self) -> Result<Swept, Error> {
        // Without a deadline: nobody waits for it.
        self.shared.store.delete_expired(self.shared.platform.now()).await
    }

    fn presented(&self, incoming: &Incoming<'_>) -> Presented {
        match incoming.cookie {
            None => Presented::Nothing,
            Some(header) => cookie::read(header, &self.parameters().cookie_name, &self.signer),
        }
    }

    /// The first live session that the cookies lead to, or a new one in memory; `None` to answer with the expiry reply.
    async fn open<T>(
        &self,
        backing: &Rc<Backing>,
        incoming: &Incoming<'_>,
        ids: &[SignedId],
    ) -> Result<Option<Session<T>>, Error>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let mut live = None;
        let mut retired = None;
        // What a logout has to remove, although it leads to no session: never another's that is alive.
        let mut dead = None;
        let mut is_refused = false;
        for signed in ids {
            if live.is_some() {
                self.look_for_another(backing, signed).await;
                continue;
            }
            match backing.load(&signed.key).await? {
                Loaded::Live(record) if !self.admits(incoming, &record) => is_refused = true,
                Loaded::Live(record) => match self.stored(backing, signed, record) {
                    Some(session) => live = Some(session),
                    None => dead = dead.or(Some(signed)),
                },
                Loaded::Retired => retired = Some(signed),
                Loaded::Former => {
                    self.log_former(&signed.key);
                    is_refused |= !self.parameters().ignore_expiry;
                }
                Loaded::Absent => {
                    is_refused |= !self.parameters().ignore_expiry;
                    dead = dead.or(Some(signed));
                }
                Loaded::Unreadable => dead = dead.or(Some(signed)),
            }
        }
        let mut session = match (live, retired) {
            (Some(session), _) => session,
            (None, Some(signed)) => Session::retired(backing, signed.key.clone()),
            (None, None) if is_refused && !self.was_told(incoming) => return Ok(None),
            (None, None) => Session::new(backing, dead.map(|signed| signed.key.clone())),
        };
        self.bind(incoming, &mut session);
        Ok(Some(session))
    }

    /// The session that a handler has run on already, as it is now: the same one, whatever else the visitor has cookies
    /// of. If it is gone, it ended while the request was under way, whose reply must neither begin another one nor touch
    /// the cookie, which a login may have set meanwhile.
    async fn reopen<T>(
        &self,
        backing: &Rc<Backing>,
        incoming: &Incoming<'_>,
        signed: &SignedId,
    ) -> Result<Session<T>, Error>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let key = || Some(signed.key.clone());
        let mut session = match backing.load(&signed.key).await? {
            // Bound to another address meanwhile, which alone may end it.
            Loaded::Live(record) if !self.admits(incoming, &record) => Session::ended(backing, None),
            Loaded::Live(record) => {
                self.stored(backing, signed, record).unwrap_or_else(|| Session::new(backing, key()))
            }
            Loaded::Unreadable => Session::new(backing, key()),
            Loaded::Retired | Loaded::Former => Session::retired(backing, signed.key.clone()),
            Loaded::Absent => Session::ended(backing, key()),
        };
        self.bind(incoming, &mut session);
        Ok(session)
    }

    /// The session in a record; `None`, and a log line, if its data is not of the type.
    fn stored<T>(&self, backing: &Rc<Backing>, signed: &SignedId, record: Record) -> Option<Session<T>>
    where
        T: DeserializeOwned,
    {
        match serde_json::from_str(&record.data) {
            Ok(data) => {
                let is_ageing = self.parameters().persistent || !signed.is_current;
                Some(Session::stored(backing, signed, record, data, is_ageing))
            }
            Err(error) => {
                backing.log_unreadable(&signed.key, &Error::data_unreadable(&error));
                None
            }
        }
    }

    /// An address is personal data: it is kept only where it is needed.
    fn bind<T>(&self, incoming: &Incoming<'_>, session: &mut Session<T>) {
        if !self.parameters().ignore_change_ip {
            session.bind_to(incoming.ip);
        }
    }

    /// Whether a visitor has a second live session, which is only worth a line in the log: so each cookie is looked at
    /// once, and not more than some hundred in the life of an isolate.
    async fn look_for_another(&self, backing: &Rc<Backing>, signed: &SignedId) {
        let shared = &self.shared;
        if shared.said.has(Event::SeveralSessions, None) || !shared.said.may_look(&signed.key) {
            return;
        }
        if let Ok(Loaded::Live(_)) = backing.load(&signed.key).await {
            let sentence = format_args!(
                "a visitor has cookies of several live sessions, perhaps since `cookie_path` or `cookie_domain` was changed; \
                 the first one counts"
            );
            shared.log_once(Event::SeveralSessions, None, sentence);
        }
    }

    fn log_former(&self, key: &RecordKey) {
        let sentence =
            format_args!("{key:?} was used after its id had been changed: possibly a stolen cookie; it gets nothing");
        self.shared.log_once(Event::RetiredIdUsed, Some(key), sentence);
    }

    /// Whether the visitor may use the session: one that is bound to no address yet is bound by this use.
    fn admits(&self, incoming: &Incoming<'_>, record: &Record) -> bool {
        self.parameters().ignore_change_ip || record.ip.is_none() || record.ip.as_deref() == incoming.ip
    }

    /// Whether the visitor's browser was told of an expiry a moment ago, and has a dead cookie all the same.
    fn was_told(&self, incoming: &Incoming<'_>) -> bool {
        incoming.cookie.is_some_and(|header| cookie::was_told(header, &self.parameters().cookie_name))
    }

    fn set_cookie<T>(&self, incoming: &Incoming<'_>, has_cookie: bool, session: &Session<T>) -> Vec<String> {
        match session.cookie_change() {
            CookieChange::Set { id, expires_at } => {
                let (parameters, connection) = (self.parameters(), Connection::of(incoming.url, incoming.ip));
                if let Some(objection) = cookie::objection(parameters, &connection) {
                    let sentence = format_args!("browsers will not keep the session's cookie: {objection}");
                    self.shared.log_once(Event::CookieRefused, None, sentence);
                }
                let lifetime = expires_at.saturating_sub(self.shared.platform.now());
                vec![cookie::set(parameters, &self.signer, id, lifetime, &connection)]
            }
            // A cookie that was not sent needs no taking away.
            CookieChange::Expire if has_cookie => {
                vec![cookie::expire(self.parameters(), &Connection::of(incoming.url, incoming.ip))]
            }
            CookieChange::Expire | CookieChange::Keep => Vec::new(),
        }
    }

    /// A request that fails has no reply of ours, and so no cookie. If it has stored the session under a new
    /// id before, its visitor does not learn of that id: the operator at least is told.
    fn log_untold<T>(&self, ids: &[SignedId], session: &Session<T>) {
        let CookieChange::Set { id, .. } = session.cookie_change() else { return };
        if ids.iter().all(|known| known.id != *id) {
            self.shared.log(
                Event::IdUntold,
                format_args!(
                    "{:?} was saved under a new id by a request that failed after it: its visitor has not been told the id",
                    id.record_key()
                ),
            );
        }
    }

    /// The reply to one who came with a dead session's cookie. It takes the cookie away, and notes that it did.
    fn expired<R, E>(&self, incoming: &Incoming<'_>) -> Outcome<R, E> {
        let (parameters, connection) = (self.parameters(), Connection::of(incoming.url, incoming.ip));
        Outcome::Expired {
            message: parameters.expired_message.clone(),
            set_cookie: vec![cookie::expire(parameters, &connection), cookie::told(parameters, &connection)],
        }
    }

    /// The reply to one whose session ended while the handler ran: what ended it has decided about the cookie.
    fn ended<R, E>(&self) -> Outcome<R, E> {
        Outcome::Expired { message: self.parameters().expired_message.clone(), set_cookie: Vec::new() }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").field("parameters", &self.shared.parameters).finish_non_exhaustive()
    }
}
