mod commit;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::commit::to_json;
pub(crate) use self::commit::unsure;
use crate::arrival::Arrival;
use crate::backing::Backing;
use crate::cookie::SignedId;
use crate::log;
use crate::parameters::LONGEST;
use crate::sign_in::SignIn;
#[cfg(feature = "users")]
use crate::{Claim, Spared, UserKey};
use crate::{Effect, Error, ErrorKind, Record, RecordKey, SessionHandle, SessionId};

/// One visitor's session during one request: the data, and what is to become of it.
///
/// It stands for its data: `session.count += 1` reaches the field `count` of `T`. `T`'s `Default` is
/// what a new visitor starts with (web.py's `initializer`), made anew for each.
///
/// Changed means that the handler borrowed the data mutably, and that its JSON differs from that of the loaded data;
/// there is no flag to set. A session that changed is saved when the handler is done and before its reply leaves. A
/// map that iterates in random order, as `HashMap`, can look changed when it is not, at the cost of a write;
/// `BTreeMap` does not. Only [`save`](Self::save) sees what changed through a shared borrow, inside a `Cell`.
///
/// To add a field to `T` when sessions are already stored, give it `#[serde(default)]`. While an older release answers
/// beside the new one, its saves drop the fields that it does not know.
pub struct Session<T> {
    data: T,
    state: State,
    intent: Intent,
    /// Whose session it is, as the store has it.
    signed_in: Option<SignIn>,
    /// Who is to be signed in, with the next commit.
    signing_in: Option<SignIn>,
    /// What its user is to know it by.
    label: Option<String>,
    /// The data as it was loaded, once something else was saved.
    loaded: Option<String>,
    /// The data's JSON before its first mutable borrow since it was loaded or saved; `None` until then.
    unchanged: Option<String>,
    /// What leads to it: of the visitor's cookies the one that did, or the id that it was given since.
    signed: Option<SignedId>,
    /// Whether it is to be bound to the visitor's address.
    is_bound: bool,
    /// What was done in the store.
    effect: Effect,
    progress: Progress,
    /// Who asked for the last commit.
    asked: Asked,
    /// The errors of each [`save`](Self::save) and [`update`](Self::update) that its handler was given.
    refused: Vec<Error>,
    backing: Rc<Backing>,
}

/// Where the session stands in the store.
enum State {
    /// Nothing stored. `presented` is what the visitor's cookie leads to: a session that is not there, or
    /// cannot be read. Never one that moved: who comes with its id may be a thief, whose logout ends nothing.
    New { presented: Option<RecordKey> },
    /// Loaded or created; `record` is what the store holds under `key`, as far as we know.
    Stored { id: SessionId, key: RecordKey, record: Record, cookie: Cookie },
    /// The visitor's id was changed a moment ago. The data is made by `Default`, and nothing of it is stored. `kept`: the data
    /// from before a sign-in, for one that is sent twice.
    Retired { key: RecordKey, kept: Option<String> },
    /// Ended, by this request or by another one: nothing will be stored any more. `key` is what it was known by, if it
    /// may have gone on under another one: a logout follows.
    Ended { key: Option<RecordKey> },
}

/// Whether the visitor has to be sent the id; the later, the sooner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cookie {
    /// The visitor came with it.
    Known,
    /// The visitor came with it, and it is worth sending again when the use is noted: it has a `Max-Age`, or was signed
    /// by a key that is being retired.
    Ageing,
    /// Likewise, and the use was noted, or it is time. It is to be sent if the session is still there after the handler: sent in
    /// any case, it could arrive after the reply to a login and take the place of the new id.
    Noted,
    /// It is to be sent.
    Due,
}

/// What the handler wants to become of the session beside its data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intent {
    Keep,
    NewId,
    End,
}

/// What of the handler's work is stored already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing, so that the handler may run again.
    Open,
    /// Something: to run the handler again would do that twice.
    Saved,
    /// A write failed that may have been stored all the same, and the handler was told. There is no other, for it could apply the
    /// change twice.
    Unsure,
    /// Likewise, and nobody was told: the handler did not wait for its answer, or is done. Who commits next is told so.
    Untold,
}

impl Progress {
    /// Whether it is known what is stored.
    fn is_sure(self) -> bool {
        matches!(self, Self::Open | Self::Saved)
    }
}

/// Who asks for a commit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Nobody: the handler is done.
    AtTheEnd,
    ByUpdate,
    BySave,
}

/// What a retired record has in place of data.
pub(crate) const NOTHING: &str = "null";

/// What a session is opened again by.
pub(crate) struct Origin {
    pub(crate) backing: Rc<Backing>,
    pub(crate) signed: Option<SignedId>,
    pub(crate) cookie: Cookie,
    /// The version that it has. Where it has none, as after its end, what other requests have met says nothing of it.
    pub(crate) seen: Option<u64>,
    /// Whether a write of it failed that may have been stored all the same.
    pub(crate) is_unsure: bool,
}

/// What the reply's cookie has to say.
pub(crate) enum CookieChange<'a> {
    Keep,
    /// `is_kept`: also when the browser is closed, whatever the parameters say.
    Set {
        id: &'a SessionId,
        key: &'a RecordKey,
        expires_at: u64,
        is_kept: bool,
    },
    Expire,
}

impl<T> Session<T> {
    /// Ends the session: deletes its record and takes the visitor's cookie away.
    ///
    /// The handler can still read and change the data, but nothing of that is stored. Like every
    /// change, the end takes effect when the handler has answered (or at [`save`](Self::save)), and
    /// not at all if it fails. If the session's id changes meanwhile, the session ends under the new id.
    #[doc(alias = "destroy")]
    #[doc(alias = "delete")]
    #[doc(alias = "flush")]
    #[doc(alias = "invalidate")]
    #[doc(alias = "purge")]
    pub fn kill(&mut self) {
        self.intent = Intent::End;
    }

    /// [`kill`](Self::kill), for a session that was [signed in](Self::sign_in).
    #[doc(alias = "log_out")]
    #[doc(alias = "logout")]
    pub fn sign_out(&mut self) {
        self.kill();
    }

    /// Whose session it is: who was [signed in](Self::sign_in), by this request or before. `None` for a visitor who is not.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.sign_in_by_now().map(|sign_in| sign_in.user.as_str())
    }

    /// When its user was signed in, in seconds since 1970 UTC: for what asks for a password that was given a moment ago
    /// (step-up, ASVS 5.0, 7.5.3).
    #[must_use]
    pub fn authenticated_at(&self) -> Option<u64> {
        self.sign_in_by_now().map(|sign_in| sign_in.at)
    }

    /// What it is called in the list of its user's sessions, if it has one.
    #[must_use]
    pub fn handle(&self) -> Option<&SessionHandle> {
        self.sign_in_by_now().map(|sign_in| &sign_in.handle)
    }

    fn sign_in_by_now(&self) -> Option<&SignIn> {
        let has_ended = self.intent == Intent::End || matches!(self.state, State::Ended { .. });
        self.signing_in.as_ref().or(self.signed_in.as_ref()).filter(|_| !has_ended)
    }

    /// Whether it belongs to a user, also to one whom only another release can name.
    fn is_somebodys(&self) -> bool {
        self.record().is_some_and(SignIn::is_noted_in)
    }

    /// What its user knows it by where it is listed, as the name of a browser: 128 bytes at most, the rest is cut off. It is
    /// saved like a change of the data, and only of a session that is somebody's.
    pub fn set_label(&mut self, label: impl Into<String>) {
        self.label = Some(label.into());
    }

    /// Gives the session a new id and keeps its data: for every change of privilege, a login above all,
    /// so that an id which somebody else knew before is worthless after (OWASP ASVS 5.0, 7.2.4).
    ///
    /// Like every change it takes effect when the handler has answered, or at [`save`](Self::save). The old id ends
    /// with it. For thirty seconds a request that still comes with it gets a session made by `Default`, of which
    /// nothing is stored, and no cookie, so that it neither sees the login nor overwrites its cookie. After that its use
    /// is logged as a possible theft.
    ///
    /// Called by such a late request itself (a login form that was sent twice), it begins a session of that
    /// request's own, from its own data.
    #[doc(alias = "regenerate")]
    #[doc(alias = "renew")]
    pub fn cycle_id(&mut self) {
        if self.intent == Intent::Keep {
            self.intent = Intent::NewId;
        }
    }

    /// Whether this visitor has no stored session: a first visit, or one after an expiry or a
    /// reset, or a straggler with a [retired](Self::cycle_id) id. False once something was saved.
    #[must_use]
    pub fn is_new(&self) -> bool {
        matches!(self.state, State::New { .. } | State::Retired { .. })
    }

    /// What is stored of this session, as it was loaded or last saved: when it began, when its use was
    /// last noted, when it ends. `None` while nothing is stored, and after its end.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match &self.state {
            State::Stored { record, .. } => Some(record),
            State::New { .. } | State::Retired { .. } | State::Ended { .. } => None,
        }
    }
}

impl<T: Default + Serialize + DeserializeOwned> Session<T> {
    /// Signs a user in, after your own check of who they are: gives the session a new id, as [`cycle_id`](Self::cycle_id) does,
    /// and makes it theirs. `user` is any text of 1 to 256 bytes by which your application knows them.
    ///
    /// From then on [`user`](Self::user) says who it is, `absolute_timeout` counts from now (ASVS 5.0, 7.3.2), and
    /// `Sessions::of`, by the feature `users`, lists and ends it. It takes effect when the handler has answered, or at
    /// [`save`](Self::save). The data stays as it is, a visitor's basket for one; but where another user was signed in before, it begins
    /// from `Default`.
    ///
    /// A form that is sent twice signs in twice. The second request comes with the id from before: it finds the data from before
    /// the sign-in again, if that belonged to nobody and it calls this first, and is a session of its own.
    ///
    /// ```
    /// # use edge_session::{Error, Session};
    /// # #[derive(Default, serde::Serialize, serde::Deserialize)] struct Visit { basket: Vec<String> }
    /// # fn is_right(user: &str, password: &str) -> bool { true }
    /// async fn log_in(session: &mut Session<Visit>, user: &str, password: &str) -> Result<&'static str, Error> {
    ///     if !is_right(user, password) {
    ///         return Ok("wrong user or password");
    ///     }
    ///     session.sign_in(user)?;
    ///     Ok("welcome")
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// `Unserializable` for a name that is empty or longer than 256 bytes, `Unavailable` without random bytes.
    ///
    /// `Ended` after a [`kill`](Self::kill).
    ///
    /// That the user's sessions were all ended since the request began is no error of this call,
    /// but of the commit: `Ended`, a 401.
    #[doc(alias = "log_in")]
    #[doc(alias = "login")]
    pub fn sign_in(&mut self, user: &str) -> Result<(), Error> {
        let begun = self.begin_sign_in(user, None);
        self.noted(begun)
    }

    /// [`sign_in`](Self::sign_in) for so long, in whole seconds, used or not, and also when the browser is closed: "remember me".
    /// Neither `timeout` nor `absolute_timeout` ends it. At most a hundred years.
    ///
    /// # Errors
    ///
    /// As [`sign_in`](Self::sign_in).
    pub fn sign_in_for(&mut self, user: &str, lifetime: Duration) -> Result<(), Error> {
        let begun = self.begin_sign_in(user, Some(lifetime.as_secs().clamp(1, LONGEST)));
        self.noted(begun)
    }

    fn begin_sign_in(&mut self, user: &str, lifetime: Option<u64>) -> Result<(), Error> {
        SignIn::check(user)?;
        if self.intent == Intent::End {
            return Err(Error::ended());
        }
        if let State::Retired { kept, .. } = &mut self.state
            && self.unchanged.is_none()
            // What cannot be read is none.
            && let Some(Ok(data)) = kept.take().map(|kept| serde_json::from_str(&kept))
        {
            self.data = data;
        }
        // It stays the same session of the same user.
        let handle = self.handle_for(user)?;
        let is_anothers = self.sign_in_by_now().map_or(self.is_somebodys(), |before| before.user != user);
        if is_anothers {
            **self = T::default();
        }
        let at = self.backing.platform.now();
        self.signing_in = Some(SignIn { user: user.to_owned(), at, lifetime, handle });
        self.intent = Intent::NewId;
        Ok(())
    }
}

impl<T: Serialize + DeserializeOwned> Session<T> {
    /// Commits at once, for handlers with effects outside the session: what follows a successful `save`
    /// runs once. (On KV within one isolate: of requests that met in two, each may run it.)
    ///
    /// Wait for its answer: whoever drops the future before, for a time limit of their own, does not know whether it is stored, nor
    /// do we, so that the reply is a 503. What was saved stays, also if the handler fails after it; but an `Err` carries no cookie. After
    /// the `save` of a new session, or of a new id, answer with a reply that says what went wrong. Otherwise
    /// the visitor never learns of the id.
    ///
    /// It stores a new session even if nothing in it changed, and deletes a killed one. Without
    /// a call, the session is saved when the handler is done, if it changed.
    ///
    /// # Errors
    ///
    /// Return each with `?`: [`Sessions::run`](crate::Sessions::run) does what is due.
    ///
    /// - `Contended` when another request stored its version first: the handler runs again on the newer data.
    /// - `Ended` when the session was killed, has expired or got a new id meanwhile: nothing is stored, and the visitor
    ///   gets a 401.
    /// - `Unavailable` when the store failed, also if the data may have been stored all the same. After that, nothing
    ///   more of this request is saved.
    /// - `Unserializable` when the data has no JSON form, or none that could be read again, and `TooLarge` when it is
    ///   larger than `max_data`.
    pub async fn save(&mut self) -> Result<(), Error> {
        let saved = self.commit_as(Asked::BySave).await;
        self.conclude(saved)
    }

    /// Applies a small change and commits it at once, in a step of its own: if another request was
    /// faster, `update` applies the change again to the newer data, while the rest of the handler runs once.
    ///
    /// For handlers that must run once. Gives what `change` gave for the data that was stored:
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
    /// It commits changes that the handler made before as well. If it loses the race with such changes
    /// pending, it cannot apply them again, and fails as a [`save`](Self::save) does.
    ///
    /// # Errors
    ///
    /// Those of [`save`](Self::save), `Contended` only after many lost races, and `Ended` after a
    /// [`kill`](Self::kill). `Unreadable` where another release has stored data meanwhile that this one cannot read: that stays as it
    /// is. After an error the change is undone, if nothing was changed before it: the data is then what its JSON says,
    /// without what serde skips.
    pub async fn update<R>(&mut self, change: impl FnMut(&mut T) -> R) -> Result<R, Error> {
        let updated = self.apply(change).await;
        self.conclude(updated)
    }

    async fn apply<R>(&mut self, mut change: impl FnMut(&mut T) -> R) -> Result<R, Error> {
        let pending = self.intent == Intent::NewId || self.changed(false)?.is_some();
        loop {
            if self.intent == Intent::End {
                return Err(Error::ended());
            }
            if self.has_ended() {
                self.backing.at_rest();
                self.drop_changes();
                return Err(Error::ended());
            }
            let answer = change(&mut *self);
            let Err(error) = self.commit_as(Asked::ByUpdate).await else { return Ok(answer) };
            if pending {
                return Err(error);
            }
            // The commit at the end is to know nothing of it, also where the handler waits no longer.
            self.undo();
            if error.kind() != ErrorKind::Contended {
                return Err(error);
            }
            // If it does not come to another attempt, the handler is not to run again either, which called this to run once.
            let progress = std::mem::replace(&mut self.progress, Progress::Saved);
            self.take_the_newer().await.inspect_err(|_| self.backing.stop_waiting())?;
            self.progress = progress;
        }
    }

    /// Waits for its turn, and takes what another request has stored.
    async fn take_the_newer(&mut self) -> Result<(), Error> {
        let key = match &self.state {
            State::Stored { key, .. } => Some(key),
            State::New { .. } | State::Retired { .. } | State::Ended { .. } => None,
        };
        self.backing.wait_for_another_attempt(key).await?;
        self.reload().await
    }

    /// Takes a change back.
    fn undo(&mut self) {
        if let Some(Ok(data)) = self.unchanged.as_deref().map(serde_json::from_str) {
            (self.data, self.unchanged) = (data, None);
        }
    }

    /// A commit that the handler asked for: that nothing was stored, since the session has ended, is its error.
    async fn commit_as(&mut self, asked: Asked) -> Result<(), Error> {
        match self.commit(asked).await? {
            // Nothing is dropped of what is to end.
            Effect::Dropped if self.intent != Intent::End => Err(Error::ended()),
            _ => Ok(()),
        }
    }

    /// Notes what a commit inside the handler came to, for the handler may hide it.
    fn conclude<R>(&mut self, result: Result<R, Error>) -> Result<R, Error> {
        match result {
            Ok(done) => {
                self.progress = Progress::Saved;
                // What the handler has dealt with.
                self.refused.retain(Error::is_held_elsewhere);
                Ok(done)
            }
            Err(error) => self.noted(Err(error)),
        }
    }

    /// Notes an error that the handler is given, by which it is known whether it was returned.
    fn noted<R>(&mut self, result: Result<R, Error>) -> Result<R, Error> {
        result.map_err(|error| {
            let error = error.traced();
            self.refused.push(error.clone());
            error
        })
    }
}

impl<T> Session<T> {
    /// What it is called, or will be, if it is this user's.
    pub(crate) fn handle_for(&self, user: &str) -> Result<SessionHandle, Error> {
        if let Some(sign_in) = self.sign_in_by_now().filter(|sign_in| sign_in.user == user) {
            return Ok(sign_in.handle.clone());
        }
        if let Some(next) = &*self.backing.next_handle.borrow() {
            return Ok(next.clone());
        }
        let handle = SessionHandle::random(&*self.backing.platform)?;
        self.backing.next_handle.replace(Some(handle.clone()));
        Ok(handle)
    }

    /// What an end of all of this user's sessions is to spare.
    #[cfg(feature = "users")]
    pub(crate) fn spared_for(&self, user: &str) -> Result<Spared, Error> {
        let claim = |handle| Claim::new(UserKey::of(user), handle, self.arrival().began_at);
        match (&self.state, self.signed_in.as_ref().filter(|sign_in| sign_in.user == user)) {
            (State::Ended { .. }, _) => Err(Error::ended()),
            // Also where this request is to end it, or to sign in somebody else.
            (State::Stored { key, .. }, Some(sign_in)) => {
                Ok(Spared::Session(claim(sign_in.handle.clone()), key.clone()))
            }
            _ => Ok(Spared::SigningIn(claim(self.handle_for(user)?))),
        }
    }

    /// A session of which nothing is stored. `presented` is the id that led nowhere, if one did.
    pub(crate) fn new(backing: &Rc<Backing>, presented: Option<RecordKey>) -> Self
    where
        T: Default,
    {
        Self::in_state(backing, T::default(), State::New { presented })
    }

    /// A session for one who came with an id that was changed a moment ago. `kept` is the retired record's data.
    pub(crate) fn retired(backing: &Rc<Backing>, key: RecordKey, kept: String) -> Self
    where
        T: Default,
    {
        let kept = Some(kept).filter(|kept| kept != NOTHING);
        Self::in_state(backing, T::default(), State::Retired { key, kept })
    }

    /// For a request whose session ended while it was under way, or is another address's by now. A logout follows `key`.
    pub(crate) fn ended(backing: &Rc<Backing>, key: RecordKey) -> Self
    where
        T: Default,
    {
        Self::in_state(backing, T::default(), State::Ended { key: Some(key) })
    }

    /// The session that `record` holds, with its data already read. `cookie`: whether that is to be sent again when
    /// its use is noted.
    pub(crate) fn stored(backing: &Rc<Backing>, signed: &SignedId, record: Record, data: T, cookie: Cookie) -> Self {
        let (id, key) = (signed.id.clone(), signed.key.clone());
        let signed_in = SignIn::of(&record);
        Self { signed_in, ..Self::in_state(backing, data, State::Stored { id, key, record, cookie }) }
    }

    fn in_state(backing: &Rc<Backing>, data: T, state: State) -> Self {
        Self {
            data,
            state,
            intent: Intent::Keep,
            signed_in: None,
            signing_in: None,
            label: None,
            loaded: None,
            unchanged: None,
            signed: None,
            is_bound: false,
            effect: Effect::Nothing,
            progress: Progress::Open,
            asked: Asked::AtTheEnd,
            refused: Vec::new(),
            backing: Rc::clone(backing),
        }
    }

    /// Binds it to the visitor's address when it is stored, if it is bound to none.
    pub(crate) fn bind_to_address(&mut self) {
        self.is_bound = true;
    }

    /// The address to bind it to.
    fn ip(&self) -> Option<&String> {
        self.backing.arrival.ip.as_ref().filter(|_| self.is_bound)
    }

    /// Notes which cookie led to it, also if it is no more.
    pub(crate) fn opened_by(self, signed: SignedId) -> Self {
        Self { signed: Some(signed), ..self }
    }

    /// What it is opened again by: the id that it has now, or had when it was opened.
    pub(crate) fn into_origin(self) -> Origin {
        let is_unsure = !self.progress.is_sure();
        let seen = self.record().map(|record| record.version);
        let cookie = match self.state {
            State::Stored { cookie, .. } => cookie,
            State::New { .. } | State::Retired { .. } | State::Ended { .. } => Cookie::Known,
        };
        Origin { backing: self.backing, signed: self.signed, cookie, seen, is_unsure }
    }

    /// Whether its id is still to be sent, as was found before it was opened again.
    pub(crate) fn owing_its_cookie(mut self, found: Cookie) -> Self {
        if let State::Stored { cookie, .. } = &mut self.state {
            *cookie = (*cookie).max(found);
        }
        self
    }

    /// Somebody runs its handler again where a race is lost.
    pub(crate) fn is_in_a_run(&self) {
        self.backing.is_in_a_run.set(true);
    }

    pub(crate) fn arrival(&self) -> &Arrival {
        &self.backing.arrival
    }

    pub(crate) fn backing(&self) -> &Backing {
        &self.backing
    }

    /// What was done in the store.
    pub(crate) fn effect(&self) -> Effect {
        self.effect
    }

    pub(crate) fn cookie_change(&self) -> CookieChange<'_> {
        match &self.state {
            _ if self.intent == Intent::End => CookieChange::Expire,
            State::Stored { id, key, record, cookie: Cookie::Due } => {
                let is_kept = self.signed_in.as_ref().is_some_and(|sign_in| sign_in.lifetime.is_some());
                CookieChange::Set { id, key, expires_at: record.expires_at, is_kept }
            }
            _ => CookieChange::Keep,
        }
    }

    /// What the handler wanted to become of it, and has not saved, does not.
    pub(crate) fn drop_intent(&mut self) {
        if !matches!(self.state, State::Ended { key: None }) {
            self.intent = Intent::Keep;
        }
    }

    /// Whether nothing of the handler's work is stored, so that it may run again.
    pub(crate) fn may_run_again(&self) -> bool {
        self.progress == Progress::Open
    }

    /// The error of a [`save`](Self::save) or [`update`](Self::update) that the handler still has: it returned it.
    pub(crate) fn returned_refusal(&mut self) -> Option<Error> {
        let elsewhere = self.backing.arrival.refused.borrow();
        let returned = self.refused.iter().chain(&*elsewhere).find(|refused| refused.is_held_elsewhere()).cloned();
        drop(elsewhere);
        if returned.is_none() {
            self.log_ignored();
        }
        returned
    }

    /// Nobody else says it: the handler went on as if nothing were.
    fn log_ignored(&mut self) {
        let elsewhere = self.backing.arrival.refused.take();
        log::log_ignored(&*self.backing.platform, self.refused.drain(..).chain(elsewhere));
    }
}

impl<T> Deref for Session<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

/// Notes what the data is before it can change.
impl<T: Serialize> DerefMut for Session<T> {
    fn deref_mut(&mut self) -> &mut T {
        if self.unchanged.is_none() {
            // Data without a JSON form is like none: the commit says so.
            self.unchanged = Some(to_json(&self.data).unwrap_or_default());
        }
        &mut self.data
    }
}

impl<T> fmt::Debug for Session<T> {
    /// Shows neither the id nor the data, for both may be secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (self.intent, &self.state) {
            (Intent::End, _) | (_, State::Ended { .. }) => "ended",
            (_, State::New { .. }) => "new",
            (_, State::Retired { .. }) => "retired",
            (_, State::Stored { .. }) => "stored",
        };
        write!(formatter, "Session({state})")
    }
}
