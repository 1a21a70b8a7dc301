use std::fmt;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arrival::Arrival;
use crate::backing::{Backing, Loaded, Shared};
use crate::cookie::{self, SignedId};
use crate::log::{Event, Said};
use crate::nesting::Nesting;
use crate::queue::Queues;
use crate::session::{Cookie, CookieChange, NOTHING, Origin, unsure};
use crate::sign_in;
use crate::timing::Stopwatch;
use crate::{
    Error, ErrorKind, Incoming, Jar, Platform, Record, RecordKey, Session, SessionParameters, Signer, Store, Swept,
    Timing,
};

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
}

/// What [`Sessions::open`] found.
#[derive(Debug)]
#[non_exhaustive]
pub enum Opened<T> {
    /// The visitor's session, or a new one in memory.
    Session(Session<T>),
    /// Status 401. The session has expired, or belongs to another address, and the parameters ask to say so.
    Expired {
        /// The body: `expired_message`.
        message: String,
        /// The `Set-Cookie` headers to send with it: the visitor's next request starts anew.
        set_cookie: Vec<String>,
    },
}

/// The result of a request.
#[derive(Debug)]
#[non_exhaustive]
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
        /// decided about its cookie, but for what the handler had saved before. Otherwise the visitor's next request starts anew.
        set_cookie: Vec<String>,
    },
    /// The handler failed. Nothing was stored, except what it [saved](Session::save) itself.
    Failed(E),
    /// The session layer failed, but what the handler had saved before is stored, and its browser is to be told of it: a new id,
    /// for instance. Otherwise such a failure is the `Err` of [`run`](Sessions::run).
    Refused {
        /// What went wrong. Its [status](Error::status) is the reply's.
        error: Error,
        /// The `Set-Cookie` headers to send with the reply, each as a header of its own.
        set_cookie: Vec<String>,
    },
}

impl Sessions {
    /// Sessions in `store`. The [crate's documentation](crate) has an example.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when the parameters do not pass their [check](SessionParameters::check), or allow more data than
    /// the store can hold, or limit a user's sessions where the store does not find them.
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
                "session parameters: `max_data` is {}, and must be at most {most} bytes, which the store can hold",
                parameters.max_data
            )));
        }
        if let Some(given) = parameters.max_sessions {
            let Some(users) = store.users() else {
                return Err(Error::misconfigured(
                    "session parameters: `max_sessions` needs a store that finds a user's sessions: D1 or Durable Objects, with \
                     edge-session's feature `users`; leave it out otherwise",
                ));
            };
            if let Some(most) = users.0.max_sessions().filter(|most| given > *most) {
                return Err(Error::misconfigured(format_args!(
                    "session parameters: `max_sessions` is {given}, and must be at most {most}, which the store can end in one request"
                )));
            }
        }
        let signer = Rc::new(signer);
        let no_jar = Rc::new(Jar::of(None, &parameters.cookie_name, &signer, false));
        Ok(Self {
            shared: Rc::new(Shared {
                keeps_with_browsers: store.for_request(&no_jar).is_some(),
                no_jar,
                store: Box::new(store),
                platform: Box::new(platform),
                parameters,
                said: Said::default(),
                nesting: Nesting::default(),
                queues: Queues::default(),
                signer,
            }),
        })
    }

    /// The parameters that these sessions go by.
    #[must_use]
    pub fn parameters(&self) -> &SessionParameters {
        &self.shared.parameters
    }

    #[cfg(feature = "axum")]
    pub(crate) fn platform(&self) -> &dyn Platform {
        &*self.shared.platform
    }

    #[cfg(any(feature = "axum", feature = "users"))]
    pub(crate) fn nesting(&self) -> &Nesting {
        &self.shared.nesting
    }

    /// The life of a request: finds the visitor's session, runs `handler` on it, and stores what changed.
    ///
    /// A request is a transaction on its session. When another request stored a newer version in the
    /// meantime, `run` runs `handler` again on that one, at most thirty times. The requests of one isolate that lost take
    /// turns, for ten seconds at the longest. So a handler may run more than once. Effects outside the session belong
    /// after `session.save().await?`: what follows a save that went through runs once.
    ///
    /// A visitor whose session was not changed gets no record and no cookie, and one without a valid
    /// cookie costs no store call.
    ///
    /// It is a loop over [`open`](Self::open) and [`commit`](Self::commit), for callers that have a handler to run.
    ///
    /// # Errors
    ///
    /// - `Unavailable` when the store failed, `Contended` when the race was lost too often. The visitor's cookie
    ///   stays as it is. The record is untouched, unless the store did what it was asked and only its answer was lost:
    ///   a change of id may then have ended the visitor's id without telling the new one, which is logged. (Where the handler had
    ///   saved something that the browser is to be told, such a failure is [`Outcome::Refused`].)
    /// - `Unserializable` and `TooLarge` when the data cannot be stored; the record is untouched.
    /// - `Unreadable` when the handler returned that of an [`update`](Session::update).
    /// - `CrossOrigin` when another site made the visitor's browser send the request, if the
    ///   [method](Incoming::method) is known.
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
        let mut stopwatch = Stopwatch::started(&*self.shared.platform, self.parameters().server_timing);
        let mut timing = Timing::default();
        let arrival = self.arrival(incoming)?;
        self.check_site(&arrival)?;
        let mut session = match self.open_for::<T>(&arrival).await? {
            Opened::Session(session) => session,
            Opened::Expired { message, set_cookie } => return Ok(Outcome::Expired { message, set_cookie }),
        };
        session.is_in_a_run();
        loop {
            timing.attempts = timing.attempts.saturating_add(1);
            timing.loaded = !session.is_new();
            timing.load = timing.load.saturating_add(stopwatch.lap());

            let answer = self.shared.nesting.within(&arrival, handler(&mut session)).await;
            timing.handler = timing.handler.saturating_add(stopwatch.lap());

            let refusal = match answer {
                Ok(reply) => {
                    let committed = self.commit(&mut session).await;
                    timing.save = timing.save.saturating_add(stopwatch.lap());
                    match committed {
                        Ok(set_cookie) => {
                            timing.effect = session.effect();
                            return Ok(Outcome::Replied { reply, set_cookie, timing });
                        }
                        Err(refusal) => refusal,
                    }
                }
                Err(error) => match session.returned_refusal() {
                    Some(refusal) => refusal,
                    None => return Ok(Outcome::Failed(error)),
                },
            };
            if refusal.kind() == ErrorKind::Contended && session.may_run_again() {
                session = self.reopen(session).await?;
                continue;
            }
            let set_cookie = if session.may_run_again() { Vec::new() } else { self.set_cookie_of_saved(&mut session) };
            return match refusal.kind() {
                ErrorKind::Ended => {
                    Ok(Outcome::Expired { message: self.parameters().expired_message.clone(), set_cookie })
                }
                _ if set_cookie.is_empty() => Err(refusal),
                _ => Ok(Outcome::Refused { error: refusal, set_cookie }),
            };
        }
    }

    /// The first half of a request: loads the session that the cookies lead to, or makes a new one in memory. For
    /// callers without a handler to [run](Self::run): a message of a WebSocket or of a queue, or middleware.
    ///
    /// Nothing is stored until [`commit`](Self::commit). To drop the session changes nothing.
    ///
    /// ```
    /// use edge_session::{Incoming, MemoryStore, Opened, SessionParameters, Sessions, Signer, TestPlatform};
    ///
    /// # pollster::block_on(async {
    /// let signer = Signer::from_secret("0123456789abcdef0123456789abcdef")?;
    /// let sessions = Sessions::new(MemoryStore::default(), TestPlatform::at(0), signer, SessionParameters::default())?;
    /// let Opened::Session(mut session) = sessions.open::<u64>(&Incoming::new()).await? else { return Ok(()) };
    /// *session += 1;
    /// let set_cookie = sessions.commit(&mut session).await?;
    /// assert!(set_cookie[0].starts_with("webpy_session_id="));
    /// # Ok::<(), edge_session::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// - `Unavailable` when the store failed.
    /// - `CrossOrigin`, as for [`run`](Self::run).
    /// - `Nested` when a handler makes this call for the request that it is answering.
    ///
    /// A cookie that is forged or expired is *not* an error, as for [`run`](Self::run).
    pub async fn open<T>(&self, incoming: &Incoming<'_>) -> Result<Opened<T>, Error>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let arrival = self.arrival(incoming)?;
        self.check_site(&arrival)?;
        self.open_for(&arrival).await
    }

    /// The second half: stores what changed, and gives the values of the `Set-Cookie` headers to send with the reply,
    /// each a header of its own. Mostly there is none.
    ///
    /// The reply to the upgrade of a WebSocket has gone before the first message, and can carry none: give the visitor
    /// a session before that.
    ///
    /// # Errors
    ///
    /// - `Contended` when another request stored its version first: [reopen](Self::reopen) the session and change it
    ///   again, or answer 503. [`Session::update`] does that by itself.
    /// - `Unavailable`, `Unserializable` and `TooLarge`, as for [`run`](Self::run).
    ///
    /// What was saved before is stored all the same, and to be [told](Self::set_cookie_of_saved).
    ///
    /// `Ended` where a user was to be signed in, and is not.
    ///
    /// Otherwise a session that ended meanwhile is *not* an error: `commit` drops its changes, and logs that. ([`Session::save`]
    /// fails with `Ended`.)
    pub async fn commit<T>(&self, session: &mut Session<T>) -> Result<Vec<String>, Error>
    where
        T: Serialize + DeserializeOwned,
    {
        session.commit_at_the_end().await?;
        Ok(Self::set_cookie(session))
    }

    /// Ends a request that fails, since its [`commit`](Self::commit) did or by a reply of its own: the values of the `Set-Cookie` headers for
    /// what was [saved](Session::save) before, which is stored: a new id, for instance, by which alone the visitor has the
    /// session now. Mostly there is none. What was wanted and not saved, a [`kill`](Session::kill) for instance, does not happen.
    ///
    /// [`run`](Self::run) asks for them by itself, for [`Outcome::Refused`].
    ///
    /// ```
    /// use edge_session::{Incoming, MemoryStore, Opened, SessionParameters, Sessions, Signer, TestPlatform};
    ///
    /// # pollster::block_on(async {
    /// let signer = Signer::from_secret("0123456789abcdef0123456789abcdef")?;
    /// let sessions = Sessions::new(MemoryStore::default(), TestPlatform::at(0), signer, SessionParameters::default())?;
    /// let Opened::Session(mut session) = sessions.open::<u64>(&Incoming::new()).await? else { return Ok(()) };
    /// *session += 1;
    /// session.save().await?;
    /// // Here something else fails, and a page says so. Its visitor has a session all the same.
    /// let set_cookie = sessions.set_cookie_of_saved(&mut session);
    /// assert!(set_cookie[0].starts_with("webpy_session_id="));
    /// # Ok::<(), edge_session::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_cookie_of_saved<T>(&self, session: &mut Session<T>) -> Vec<String> {
        session.drop_intent();
        Self::set_cookie(session)
    }

    /// Opens a session that lost a race again, as it is by then, without the changes that were not saved. First it waits for its
    /// turn among the requests of this isolate that lost one on the same session: that lasts until its next
    /// [`commit`](Self::commit), and for a second at the longest.
    ///
    /// It stays the same session, whatever other cookies the visitor has. If it ended meanwhile, a commit stores
    /// nothing and gives no `Set-Cookie`: a login may have set another cookie meanwhile.
    ///
    /// # Errors
    ///
    /// `Contended` after thirty attempts, or when its turn has not come after ten seconds. `Unavailable` when the store failed,
    /// or when an earlier write of this session failed and may have been stored all the same: to change it again could apply
    /// the change twice.
    pub async fn reopen<T>(&self, session: Session<T>) -> Result<Session<T>, Error>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let Origin { backing, signed, cookie, seen, is_unsure } = session.into_origin();
        if is_unsure {
            return Err(unsure());
        }
        backing.wait_for_another_attempt(signed.as_ref().map(|signed| &signed.key)).await?;
        let Some(signed) = signed else {
            // Nothing led to it and it was not stored, so that no other request can have changed it.
            return Ok(Session::new(&backing, None));
        };
        let key = || Some(signed.key.clone());
        let session: Session<T> = match backing.load_again(&signed.key, seen.unwrap_or(u64::MAX)).await? {
            // Bound to another address meanwhile.
            Loaded::Live(Record { ip, .. }) | Loaded::Retired { ip, .. } if !backing.admits(ip.as_ref()) => {
                Session::ended(&backing, signed.key.clone())
            }
            Loaded::Live(record) => {
                self.stored(&backing, &signed, record).unwrap_or_else(|| Session::new(&backing, key()))
            }
            Loaded::Unreadable => Session::new(&backing, key()),
            Loaded::Retired { kept, .. } => Session::retired(&backing, signed.key.clone(), kept),
            Loaded::Former => Session::retired(&backing, signed.key.clone(), NOTHING.to_owned()),
            Loaded::Absent => Session::ended(&backing, signed.key.clone()),
        };
        Ok(self.bound(session.opened_by(signed).owing_its_cookie(cookie)))
    }

    /// Frees the space of expired sessions, for stores that do not do so by themselves. Gives how many it deleted, and
    /// how many are left for the next time. Whether a session has expired never depends on it.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the store failed.
    pub async fn delete_expired(&self) -> Result<Swept, Error> {
        // Without a deadline: nobody waits for it.
        self.shared.store.delete_expired(self.shared.platform.now()).await
    }

    /// A request that has come in, if no handler makes it that answers it.
    pub(crate) fn arrival(&self, incoming: &Incoming<'_>) -> Result<Rc<Arrival>, Error> {
        let arrival = self.arrived(incoming);
        self.shared.nesting.check(&arrival)?;
        Ok(Rc::new(arrival))
    }

    fn arrived(&self, incoming: &Incoming<'_>) -> Arrival {
        let Shared { parameters, signer, platform, .. } = &*self.shared;
        Arrival::of(incoming, parameters, signer, self.shared.jar(incoming), platform.milliseconds())
    }

    /// What a call stands on that is of no request.
    #[cfg(feature = "users")]
    pub(crate) fn backing(&self, incoming: &Incoming<'_>) -> Rc<Backing> {
        Backing::new(&self.shared, &Rc::new(self.arrived(incoming)))
    }

    /// Refuses a request that another site made the visitor's browser send.
    pub(crate) fn check_site(&self, arrival: &Arrival) -> Result<(), Error> {
        arrival.elsewhere.as_ref().map_or(Ok(()), |origin| Err(Error::cross_origin(origin)))
    }

    /// The first live session that the cookies lead to, or a new one in memory.
    pub(crate) async fn open_for<T>(&self, arrival: &Rc<Arrival>) -> Result<Opened<T>, Error>
    where
        T: Default + Serialize + DeserializeOwned,
    {
        let backing = &Backing::new(&self.shared, arrival);
        let mut live = None;
        let mut retired = None;
        // What a logout has to remove, although it leads to no session: never another's that is alive.
        let mut dead = None;
        let mut is_refused = false;
        for signed in &arrival.ids {
            if live.is_some() {
                self.look_for_another(backing, signed).await;
                continue;
            }
            match backing.load(&signed.key).await? {
                Loaded::Live(Record { ip, .. }) | Loaded::Retired { ip, .. } if !backing.admits(ip.as_ref()) => {
                    is_refused = true;
                }
                Loaded::Live(record) => match self.stored(backing, signed, record) {
                    Some(session) => live = Some(session),
                    None => dead = dead.or(Some(signed)),
                },
                Loaded::Retired { kept, .. } => retired = Some((signed, kept)),
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
        let session: Session<T> = match (live, retired) {
            (Some(session), _) => session,
            (None, Some((signed, kept))) => {
                Session::<T>::retired(backing, signed.key.clone(), kept).opened_by(signed.clone())
            }
            (None, None) if is_refused && !arrival.was_told => return Ok(self.expired(arrival)),
            (None, None) => match dead {
                Some(signed) => Session::<T>::new(backing, Some(signed.key.clone())).opened_by(signed.clone()),
                None => Session::new(backing, None),
            },
        };
        Ok(Opened::Session(self.bound(session)))
    }

    /// The session in a record; `None`, and a log line, if its data is not of the type.
    fn stored<T>(&self, backing: &Rc<Backing>, signed: &SignedId, record: Record) -> Option<Session<T>>
    where
        T: DeserializeOwned,
    {
        match serde_json::from_str::<T>(&record.data) {
            Ok(data) => {
                let cookie = match signed.is_current {
                    // Also where its use was noted by a request without a reply, as a WebSocket's message.
                    false if backing.arrival.has_reply => Cookie::Noted,
                    false => Cookie::Ageing,
                    true if self.parameters().persistent || sign_in::outlives_a_cookie(&record) => Cookie::Ageing,
                    true => Cookie::Known,
                };
                Some(Session::stored(backing, signed, record, data, cookie).opened_by(signed.clone()))
            }
            Err(error) => {
                backing.log_unreadable(&signed.key, &Error::data_unreadable(&error));
                None
            }
        }
    }

    /// An address is personal data: it is kept only where it is needed.
    fn bound<T>(&self, mut session: Session<T>) -> Session<T> {
        if !self.parameters().ignore_change_ip {
            session.bind_to_address();
        }
        session
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

    /// What its visitor is told, by the parameters that it was opened with.
    fn set_cookie<T>(session: &Session<T>) -> Vec<String> {
        Self::lines(session.backing(), session.cookie_change())
    }

    fn lines(backing: &Backing, change: CookieChange<'_>) -> Vec<String> {
        let (parameters, arrival) = (&backing.parameters, &backing.arrival);
        let mut lines = Vec::new();
        if let CookieChange::Set { id, key, expires_at, is_kept } = change {
            let connection = arrival.connection();
            if let Some(objection) = cookie::objection(parameters, &connection) {
                let sentence = format_args!("browsers will not keep the session's cookie: {objection}");
                backing.log_once(Event::CookieRefused, None, sentence);
            }
            let lifetime = expires_at.saturating_sub(backing.platform.now());
            let lifetime = Some(lifetime).filter(|_| is_kept || parameters.persistent);
            backing.is_told(key);
            lines.push(cookie::set(parameters, &backing.signer, id, lifetime, &connection));
        }
        let given = arrival.jar.given();
        // How the request came is found out only where a cookie is set: most replies set none.
        if !given.is_empty() {
            let connection = arrival.connection();
            lines.extend(given.iter().map(|given| cookie::given(parameters, given, &connection)));
        }
        // A cookie that was not sent needs no taking away. It comes last, as in `Jar::given`.
        if matches!(change, CookieChange::Expire) && arrival.has_cookie {
            lines.push(cookie::expire(parameters, &arrival.connection()));
        }
        lines
    }

    /// The reply to one who came with a dead session's cookie. It takes the cookie away, and notes that it did.
    fn expired<T>(&self, arrival: &Arrival) -> Opened<T> {
        let (parameters, connection) = (self.parameters(), arrival.connection());
        Opened::Expired {
            message: parameters.expired_message.clone(),
            // What is taken away comes last, as in `Jar::given`.
            set_cookie: vec![cookie::told(parameters, &connection), cookie::expire(parameters, &connection)],
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").field("parameters", &self.shared.parameters).finish_non_exhaustive()
    }
}
