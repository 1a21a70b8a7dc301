use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::rc::Rc;
use std::task::Poll;

use crate::arrival::Arrival;
use crate::log::{self, Event, Said};
use crate::nesting::Nesting;
use crate::platform::{Sleep, random_pause};
use crate::queue::{Place, Queues};
use crate::session::NOTHING;
use crate::sign_in::SignIn;
use crate::store::repeat::PAUSES;
use crate::store::{Answer, AnyStore, Claim, RequestStore};
#[cfg(feature = "users")]
use crate::store::{AnyUserStore, Spared};
use crate::{
    Effect, Error, ErrorKind, Incoming, Jar, Platform, Record, RecordKey, SessionHandle, SessionId, SessionParameters,
    Signer, Successor, Updated, UserKey,
};

/// What sessions stand on, shared by all requests.
pub(crate) struct Shared {
    pub(crate) store: Box<dyn AnyStore>,
    pub(crate) platform: Box<dyn Platform>,
    pub(crate) parameters: SessionParameters,
    pub(crate) said: Said,
    pub(crate) nesting: Nesting,
    pub(crate) queues: Queues,
    pub(crate) signer: Rc<Signer>,
    /// Whether the store keeps something with the visitors' browsers; other ones cost a request nothing for it.
    pub(crate) keeps_with_browsers: bool,
    pub(crate) no_jar: Rc<Jar>,
}

impl Shared {
    /// What a request's browser keeps for the store.
    pub(crate) fn jar(&self, incoming: &Incoming<'_>) -> Rc<Jar> {
        if !self.keeps_with_browsers {
            return Rc::clone(&self.no_jar);
        }
        Rc::new(Jar::of(incoming.cookie, &self.parameters.cookie_name, &self.signer, incoming.has_reply))
    }

    pub(crate) fn log(&self, event: Event, sentence: fmt::Arguments<'_>) {
        log::log(&*self.platform, event, sentence);
    }

    /// Once in the life of an isolate, or once for a key if there is one.
    pub(crate) fn log_once(&self, event: Event, key: Option<&RecordKey>, sentence: fmt::Arguments<'_>) {
        log::log_once(&*self.platform, &self.said, event, key, sentence);
    }
}

/// What one request's session stands on: the store, reached within a deadline, the platform, and the
/// parameters.
pub(crate) struct Backing {
    shared: Rc<Shared>,
    /// The store as this request reaches it, if it is another than that of all.
    for_request: Option<RequestStore>,
    /// The request that it is for.
    pub(crate) arrival: Rc<Arrival>,
    /// The deadline that runs. It is left running from one call to the next, since setting and
    /// clearing it would cost more than all our own work on a request.
    timer: RefCell<Option<Sleep>>,
    /// How often it was tried again since it last won its race.
    attempt: Cell<u32>,
    /// Whether somebody runs its handler again where a race is lost.
    pub(crate) is_in_a_run: Cell<bool>,
    /// What its session is called in the list of the user that it is signed in for next, also when its handler runs again.
    pub(crate) next_handle: RefCell<Option<SessionHandle>>,
    /// What it waits by, from a lost race to the next one that it wins.
    place: RefCell<Option<Rc<Place>>>,
    /// The record that its last race was lost to, if the store said so, and when, in milliseconds since 1970 UTC.
    lost_to: RefCell<Option<(Box<Record>, u64)>>,
    /// The record under a new id that the store has, or may have, and that no reply has told its visitor.
    pub(crate) untold: RefCell<Option<RecordKey>>,
}

/// A request that ends with a new id untold is in the log, however it ends: also by a time limit around it.
impl Drop for Backing {
    fn drop(&mut self) {
        if let Some(key) = self.untold.take() {
            let sentence = format_args!(
                "{key:?} was stored under a new id, or may have been, and its visitor has not been told the id"
            );
            self.log(Event::IdUntold, sentence);
        }
    }
}

impl Deref for Backing {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// The record of a session that gets a new id.
pub(crate) struct Retiring<'a> {
    pub(crate) key: &'a RecordKey,
    /// What is left of it, but for where it went.
    pub(crate) retired: Record,
    /// Until when who comes with it is a straggler.
    pub(crate) until: u64,
}

/// What a key leads to.
pub(crate) enum Loaded {
    /// A live record.
    Live(Record),
    /// The id was changed a moment ago: a request of the same page is late. With what is kept for it, and the address that the
    /// session was bound to.
    Retired { ip: Option<String>, kept: String },
    /// The id was changed long ago: who comes with it may be a thief, whose logout ends nothing.
    Former,
    /// No record, or one whose time is over.
    Absent,
    /// Something that is no record; it has been logged.
    Unreadable,
}

/// How a request comes to a session.
#[derive(Clone, Copy)]
enum Use {
    /// It has not used it yet.
    Begins,
    /// It has, and looks at it again.
    GoesOn,
}

/// A store call that takes longer than this many milliseconds, and at the latest twice as many, has
/// failed: a visitor is told so, and not kept waiting by a store that hangs.
pub(crate) const DEADLINE: u32 = 5000;

/// How often a request is tried when others on its session keep winning the race to the store. Those of its own isolate
/// [wait for it](Queues).
pub(crate) const ATTEMPTS: u32 = 30;

impl Backing {
    pub(crate) fn new(shared: &Rc<Shared>, arrival: &Rc<Arrival>) -> Rc<Self> {
        Rc::new(Self {
            shared: Rc::clone(shared),
            for_request: shared.store.for_request(&arrival.jar),
            arrival: Rc::clone(arrival),
            timer: RefCell::new(None),
            attempt: Cell::new(0),
            is_in_a_run: Cell::new(false),
            next_handle: RefCell::default(),
            place: RefCell::default(),
            lost_to: RefCell::default(),
            untold: RefCell::default(),
        })
    }

    /// What is under this key needs not be told its visitor any more: it is, or it has ended.
    pub(crate) fn is_told(&self, key: &RecordKey) {
        self.untold.borrow_mut().take_if(|untold| untold == key);
    }

    /// Whether the visitor may use a session that is bound to this address: one that is bound to none yet is bound by this use.
    pub(crate) fn admits(&self, bound_to: Option<&String>) -> bool {
        self.parameters.ignore_change_ip || bound_to.is_none() || bound_to == self.arrival.ip.as_ref()
    }

    fn store(&self) -> &dyn AnyStore {
        self.for_request.as_ref().map_or(&*self.shared.store, RequestStore::inside)
    }

    /// What `key` leads to, by the time before the store was asked: a store that is slow makes nobody late.
    pub(crate) fn load<'a>(&'a self, key: &'a RecordKey) -> impl Future<Output = Result<Loaded, Error>> {
        self.load_for(key, Use::Begins)
    }

    async fn load_for(&self, key: &RecordKey, its_use: Use) -> Result<Loaded, Error> {
        let now = self.platform.now();
        match self.stored(key).await {
            Ok(Some(record)) => self.loaded(record, now, its_use).await,
            Ok(None) => Ok(Loaded::Absent),
            Err(error) if error.kind() == ErrorKind::Unreadable => {
                self.log_unreadable(key, &error);
                Ok(Loaded::Unreadable)
            }
            Err(error) => Err(error),
        }
    }

    /// What is under `key`, whatever the time is.
    pub(crate) fn stored<'a>(&'a self, key: &'a RecordKey) -> impl Future<Output = Result<Option<Record>, Error>> {
        self.within_deadline(self.store().load(key))
    }

    /// What a record is, and nothing kept in it of a session that has ended since: no old id brings that back.
    async fn loaded(&self, record: Record, now: u64, its_use: Use) -> Result<Loaded, Error> {
        let successor = record.successor.as_ref().filter(|_| record.data != NOTHING).map(|next| next.key.clone());
        match (self.what_is(record, now, its_use), successor) {
            (Loaded::Retired { ip, .. }, Some(successor)) if !self.is_there(&successor, now).await? => {
                Ok(Loaded::Retired { ip, kept: NOTHING.to_owned() })
            }
            (loaded, _) => Ok(loaded),
        }
    }

    /// Whether a session is alive, here or where it has moved.
    async fn is_there(&self, key: &RecordKey, now: u64) -> Result<bool, Error> {
        let there = self.followed(key).await?;
        Ok(there.is_some_and(|record| !self.parameters.has_expired(&record, now)))
    }

    /// The record of a session, here or where it has moved; none also where that cannot be read. It is not to be this request's: its
    /// browser is given nothing of it.
    async fn followed(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let mut key = key.clone();
        loop {
            match self.within_deadline(self.shared.store.load(&key)).await {
                Ok(Some(Record { successor: Some(successor), .. })) => key = successor.key,
                Err(error) if error.kind() == ErrorKind::Unreadable => return Ok(None),
                found => return found,
            }
        }
    }

    fn what_is(&self, record: Record, now: u64, its_use: Use) -> Loaded {
        match &record.successor {
            Some(successor) if now < successor.until => Loaded::Retired { ip: record.ip, kept: record.data },
            Some(_) => Loaded::Former,
            None if now >= self.ends_at(&record, its_use) => Loaded::Absent,
            None => Loaded::Live(record),
        }
    }

    fn ends_at(&self, record: &Record, its_use: Use) -> u64 {
        let ends_at = self.parameters.ends_at(record);
        match its_use {
            Use::Begins => ends_at,
            // It was used as the request began, however long that has waited since.
            Use::GoesOn => self.parameters.expires_at(record, self.arrival.began_at / 1000).max(ends_at),
        }
    }

    /// What `key` leads to after a lost race: the record that it was lost to, or the newest that a request of this isolate has
    /// stored since, if that was a moment ago, and is newer than the version that this one has `seen`. Otherwise the store is asked.
    pub(crate) async fn load_again(&self, key: &RecordKey, seen: u64) -> Result<Loaded, Error> {
        let newest = self.place.borrow().as_ref().and_then(|place| place.newest());
        match newest.filter(|newest| newest.version > seen) {
            Some(newest) => self.loaded(newest, self.platform.now(), Use::GoesOn).await,
            None => self.load_for(key, Use::GoesOn).await,
        }
    }

    /// Whether requests that lost a race on this session wait for their turn, and this one has not waited yet: if it can be run
    /// again, it does not try, for it would be in the way of one that has. Who has waited tries in any case, also when its turn
    /// was over before its handler was done: otherwise nobody would store anything.
    pub(crate) fn gives_way(&self, key: &RecordKey) -> bool {
        self.is_in_a_run.get() && self.place.borrow().is_none() && self.queues.are_waiting(key, &*self.platform)
    }

    /// This session's race is lost, perhaps to this record.
    pub(crate) fn lost(&self, to: Option<Box<Record>>) -> Error {
        self.lost_to.replace(to.map(|record| (record, self.platform.milliseconds())));
        Error::contended()
    }

    /// What it waits for, it does not try again for now.
    pub(crate) fn stop_waiting(&self) {
        self.place.take();
        self.lost_to.take();
    }

    /// No race of this session is under way: the next one is another, with attempts of its own.
    pub(crate) fn at_rest(&self) {
        self.attempt.set(0);
        self.stop_waiting();
    }

    pub(crate) async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.within_deadline(self.store().update(key, record)).await
    }

    /// An update at the end of a request, of which the reply's cookies may tell.
    pub(crate) async fn update_behind(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.within_deadline(self.store().update_behind(key, record)).await
    }

    pub(crate) async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.within_deadline(self.store().touch(key, record)).await
    }

    /// An update that binds a session to an address, where it is as it was `before` but for notes of use.
    pub(crate) async fn bind(&self, key: &RecordKey, before: &Record, next: &mut Record) -> Result<Updated, Error> {
        // On KV an update does not look, and would take back what another request has stored meanwhile. Whatever the time is by now: the
        // request is a use of it as it began.
        match self.stored(key).await? {
            Some(there) if there.is_same_write(before) => {
                *next = next.touched_by(&there);
                self.update(key, next).await
            }
            None | Some(Record { successor: Some(_), .. }) => Ok(Updated::Gone),
            // The next use binds it.
            Some(_) => Ok(Updated::Stale(None)),
        }
    }

    /// Stores a record under a new id, and says which: of a session that begins, or in place of the one that is retired; by a sign-in,
    /// perhaps. `Gone` also if the user's sessions were ended since the request began.
    ///
    /// Where the answer is lost, it is stored under another id: what arrives late is under one that nobody was told, and that no
    /// logout has to find.
    pub(crate) async fn store_under_new_id(
        &self,
        record: &mut Record,
        mut retiring: Option<Retiring<'_>>,
        sign_in: Option<&SignIn>,
    ) -> Result<(Updated, SessionId, RecordKey), Error> {
        let mut users = sign_in.and_then(|sign_in| Some((self.store().users()?, self.claim(sign_in))));
        let mut pauses = PAUSES.into_iter();
        let attempts = async {
            loop {
                let id = SessionId::random(&*self.platform)?;
                let key = id.record_key();
                // Each attempt is another write: one under another id is not taken for it.
                record.nonce = self.nonce()?;
                if let Some(Retiring { retired, until, .. }) = &mut retiring {
                    retired.nonce = record.nonce;
                    retired.successor = Some(Successor { key: key.clone(), until: *until });
                }
                if retiring.is_some() || sign_in.is_some() {
                    self.untold.replace(Some(key.clone()));
                }
                let stored = match (&users, &retiring) {
                    (None, None) => self.store().create(&key, record),
                    (None, Some(Retiring { key: from, retired, .. })) => {
                        self.store().change_id(from, retired, &key, record)
                    }
                    (Some((users, claim)), None) => users.create_for(claim, &key, record),
                    (Some((users, claim)), Some(Retiring { key: from, retired, .. })) => {
                        users.change_id_for(claim, from, retired, &key, record)
                    }
                };
                match (stored.await, pauses.next()) {
                    (Err(error), Some(longest)) if error.passes() => random_pause(&*self.platform, 0, longest).await,
                    (stored, _) => return Ok((stored?, id, key)),
                }
                if let Some(Retiring { key: from, .. }) = &retiring
                    && let Some(Record { successor: Some(successor), .. }) = self.store().load(from).await?
                    && successor.key == key
                {
                    // Of a store that says so all the same.
                    return Ok((Updated::Done, id, key));
                }
                // Where it was stored all the same, it would be in the way. A store that cannot even do this is not asked again.
                self.store().delete(&key).await?;
                if let Some((_, claim)) = &mut users {
                    claim.lost.push(key);
                }
            }
        };
        let (updated, id, key) = self.within_deadline(Box::pin(attempts)).await?;
        if let (Updated::Done, Some((users, claim))) = (&updated, &users)
            && let Some(most) = self.parameters.max_sessions.or(users.max_sessions())
            // They are signed in; who has one too many is told so at the next sign-in.
            && let Err(error) =
                self.within_deadline(users.end_oldest(claim, most, self.platform.milliseconds())).await
        {
            let sentence = format_args!("the oldest sessions of {:?} were not ended: {error}", claim.user);
            self.log(Event::OldestNotEnded, sentence);
        }
        Ok((updated, id, key))
    }

    /// What this request claims that signs a user in.
    fn claim(&self, sign_in: &SignIn) -> Claim {
        Claim::new(UserKey::of(&sign_in.user), sign_in.handle.clone(), self.arrival.began_at)
    }

    #[cfg(feature = "users")]
    fn users(&self) -> Result<&dyn AnyUserStore, Error> {
        self.store().users().ok_or_else(|| {
            Error::misconfigured(
                "this store cannot list a user's sessions: use D1 or Durable Objects, or compare a part of the credential's hash \
                 at each load (docs/cookbook.md)",
            )
        })
    }

    #[cfg(feature = "users")]
    pub(crate) async fn list(&self, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error> {
        self.within_deadline(self.users()?.list(user)).await
    }

    #[cfg(feature = "users")]
    pub(crate) async fn end(&self, user: &UserKey, handle: &SessionHandle) -> Result<bool, Error> {
        self.within_deadline(self.users()?.end(user, handle)).await
    }

    #[cfg(feature = "users")]
    pub(crate) async fn end_all(&self, user: &UserKey, spared: &Spared) -> Result<u64, Error> {
        self.within_deadline(self.users()?.end_all(user, self.platform.milliseconds(), spared)).await
    }

    /// Ends a session, wherever it has moved, and says what was done. One that is bound to another address by now, here or there, stays:
    /// only that may end it. (Of a retired record a store need not keep the address.)
    pub(crate) async fn kill(&self, key: &RecordKey) -> Result<Effect, Error> {
        if !self.parameters.ignore_change_ip
            && let Some(record) = self.followed(key).await?
            && !self.parameters.has_expired(&record, self.platform.now())
            && !self.admits(record.ip.as_ref())
        {
            return Ok(Effect::Dropped);
        }
        self.delete(key).await?;
        Ok(Effect::Killed)
    }

    /// Deletes what is under `key`, and the session where it has moved to since this request looked, however often.
    async fn delete(&self, key: &RecordKey) -> Result<(), Error> {
        let mut next = Some(key.clone());
        while let Some(key) = next {
            let successor = self.within_deadline(self.store().delete(&key)).await?;
            self.is_told(&key);
            next = successor.map(|successor| successor.key);
        }
        Ok(())
    }

    pub(crate) fn log_unreadable(&self, key: &RecordKey, reason: &impl fmt::Display) {
        self.log_once(
            Event::Unreadable,
            Some(key),
            format_args!("{key:?} cannot be read, so its visitor gets a new session: {reason}"),
        );
    }

    /// A number that no other write has.
    pub(crate) fn nonce(&self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.platform.fill_random(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Counts the attempts on the session of `key`, and waits for its turn among the requests of this isolate.
    ///
    /// # Errors
    ///
    /// `Contended` after the last, or when it has waited too long.
    pub(crate) async fn wait_for_another_attempt(&self, key: Option<&RecordKey>) -> Result<(), Error> {
        let attempt = self.attempt.get().saturating_add(1);
        self.attempt.set(attempt);
        if attempt >= ATTEMPTS {
            return Err(Error::contended());
        }
        if let Some(key) = key {
            let place = self.place.take().unwrap_or_else(|| Rc::new(Place::at_the_end(&self.shared, key)));
            self.place.replace(Some(Rc::clone(&place)));
            place.turn().await?;
            if let Some((lost_to, lost_at)) = self.lost_to.take() {
                place.lost_to(&lost_to, lost_at);
            }
        }
        Ok(())
    }

    async fn within_deadline<T>(&self, mut answer: Answer<'_, T>) -> Result<T, Error> {
        // Whether the timer that runs was set during this call. One that was set before would end it early.
        let mut is_own = false;
        poll_fn(|context| {
            if let Poll::Ready(result) = answer.as_mut().poll(context) {
                return Poll::Ready(result);
            }
            let mut timer = self.timer.borrow_mut();
            loop {
                let running = timer.get_or_insert_with(|| {
                    is_own = true;
                    self.platform.sleep(DEADLINE)
                });
                if running.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                *timer = None;
                if is_own {
                    let message = format_args!("the store gave no answer within {DEADLINE} ms");
                    return Poll::Ready(Err(Error::new(ErrorKind::Unavailable, message)));
                }
            }
        })
        .await
    }
}
