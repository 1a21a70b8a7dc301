//! What the native tests share: sessions over a store that is watched, and a visitor with a cookie jar.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod kv;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use edge_session::{
    Claim, Error, ErrorKind, Incoming, MemoryStore, Outcome, Platform, Record, RecordKey, Session, SessionHandle,
    SessionParameters, Sessions, Signer, Sleep, Spared, Store, Successor, Swept, TestPlatform, Timing, Updated,
    UserKey, UserStore, Users,
};
use serde::{Deserialize, Serialize};

pub const NOW: u64 = 1_764_000_000;
pub const KEY: &str = "first-key-0123456789abcdef012345";

/// A store that notes each call, and fails or interferes when told to. A clone is another handle.
#[derive(Clone, Default)]
pub struct SpyStore {
    pub inside: MemoryStore,
    calls: Rc<RefCell<Vec<&'static str>>>,
    failing: Rc<Cell<&'static str>>,
    hanging: Rc<Cell<&'static str>>,
    before_update: Rc<RefCell<Vec<Interference>>>,
    before_load: Rc<RefCell<Option<Interference>>>,
    interferes_on_touch: Rc<Cell<bool>>,
    garbled: Rc<RefCell<Option<RecordKey>>>,
    most_sessions: Rc<Cell<Option<u64>>>,
    updated_to: Rc<RefCell<Option<Record>>>,
    tells_no_winner: Rc<Cell<bool>>,
    losing: Rc<Cell<&'static str>>,
    /// A call of this name fails after so many others of it, before or after its work.
    failing_once: Rc<RefCell<Option<FailingOnce>>>,
    loses_connections: Rc<Cell<bool>>,
    claims: Rc<RefCell<Vec<Claim>>>,
    /// Whether the next change of id of a user's session is late, and what is late by now.
    is_late: Rc<Cell<bool>>,
    late: Rc<RefCell<Option<Late>>>,
    slow: Rc<RefCell<Option<(TestPlatform, u64)>>>,
    unhurried: Rc<Cell<bool>>,
}

/// What takes effect when it has been given up.
type Late = Box<dyn FnOnce()>;

/// The call, how many of it go well before, and whether its work is done.
type FailingOnce = (&'static str, u32, bool);

/// What another request does between our load and our update.
#[derive(Clone, Copy)]
pub enum Interference {
    Update(&'static str),
    Delete,
    /// An update, and a logout before the next load.
    UpdateAndDelete(&'static str),
}

impl SpyStore {
    /// The calls since the last time that this was asked, as in `"load update"`.
    pub fn calls(&self) -> String {
        self.calls.take().join(" ")
    }

    /// Makes each call of this name fail from now on; `""` ends it.
    pub fn fail(&self, call: &'static str) {
        self.failing.set(call);
    }

    /// Makes each call of this name do its work and fail all the same: its answer is lost. `""` ends it.
    pub fn lose(&self, call: &'static str) {
        self.losing.set(call);
    }

    /// Makes each call of this name never answer from now on; `""` ends it.
    pub fn hang(&self, call: &'static str) {
        self.hanging.set(call);
    }

    /// Makes each call take so many seconds of this clock.
    pub fn slow_down(&self, platform: &TestPlatform, seconds: u64) {
        *self.slow.borrow_mut() = Some((platform.clone(), seconds));
    }

    /// Makes each call answer at the second look.
    pub fn take_your_time(&self) {
        self.unhurried.set(true);
    }

    /// Another request gets in before the next update; with several, one before each.
    pub fn interfere(&self, interferences: &[Interference]) {
        *self.before_update.borrow_mut() = interferences.to_vec();
    }

    /// Makes one call of this name fail, after so many others of it, with its work done or not.
    pub fn fail_once(&self, call: &'static str, after: u32, is_done: bool) {
        *self.failing_once.borrow_mut() = Some((call, after, is_done));
    }

    /// What signed users in, or was to.
    pub fn claims(&self) -> Vec<Claim> {
        self.claims.take()
    }

    /// From now on what fails has lost its connection, and may work at once.
    pub fn lose_connections(&self) {
        self.loses_connections.set(true);
    }

    /// The next `change_id_for` fails, and takes effect, if it can, after the one that follows it.
    pub fn be_late(&self) {
        self.is_late.set(true);
    }

    fn failure(&self, message: &str) -> Error {
        let error = Error::new(ErrorKind::Unavailable, message);
        if self.loses_connections.get() { error.passing() } else { error }
    }

    /// Whether this is the call that fails.
    fn fails_now(&self, call: &'static str, is_done: bool) -> bool {
        let mut failing = self.failing_once.borrow_mut();
        match failing.as_mut() {
            Some((name, left, done)) if *name == call && *done == is_done => {
                if *left > 0 {
                    *left -= 1;
                    return false;
                }
                *failing = None;
                true
            }
            _ => false,
        }
    }

    /// From now on it does not say to which record a race was lost, and a note of use gives way, as on KV.
    pub fn tell_no_winner(&self) {
        self.tells_no_winner.set(true);
    }

    /// Another request gets in before the next load, which there is: a lost race does not say what is there then.
    pub fn interfere_on_load(&self, interference: Interference) {
        *self.before_load.borrow_mut() = Some(interference);
    }

    /// What another request does before an update it does before a note of use as well.
    pub fn interfere_on_touch(&self) {
        self.interferes_on_touch.set(true);
    }

    /// What the last update was to store. Most stores keep the later of two times; on KV it takes the place of what is there.
    pub fn updated_to(&self) -> Record {
        self.updated_to.borrow().clone().expect("an update")
    }

    /// What is under this key cannot be read.
    pub fn garble(&self, key: &RecordKey) {
        *self.garbled.borrow_mut() = Some(key.clone());
    }

    /// It holds so many sessions of a user and no more.
    pub fn hold_sessions(&self, most: u64) {
        self.most_sessions.set(Some(most));
    }

    fn as_said(&self, updated: Updated) -> Updated {
        match updated {
            Updated::Stale(_) if self.tells_no_winner.get() || self.before_load.borrow().is_some() => {
                Updated::Stale(None)
            }
            updated => updated,
        }
    }

    /// The answer, unless it is lost.
    fn answered<A>(&self, call: &'static str, answer: A) -> Result<A, Error> {
        if self.losing.get() == call || self.fails_now(call, true) {
            return Err(self.failure("the answer is lost"));
        }
        Ok(answer)
    }

    /// What another request does before this one's write.
    async fn let_another_in(&self, key: &RecordKey) -> Result<(), Error> {
        let interference = self.before_update.borrow_mut().pop();
        match interference {
            None => {}
            Some(Interference::Delete) => drop(self.inside.delete(key).await?),
            Some(Interference::Update(data) | Interference::UpdateAndDelete(data)) => {
                if let Some(Interference::UpdateAndDelete(_)) = interference {
                    self.interfere_on_load(Interference::Delete);
                }
                let mut stored = self.inside.load(key).await?.expect("it was loaded");
                stored.version += 1;
                data.clone_into(&mut stored.data);
                assert_eq!(self.inside.update(key, &stored).await?, Updated::Done);
            }
        }
        Ok(())
    }

    async fn note(&self, call: &'static str) -> Result<(), Error> {
        self.calls.borrow_mut().push(call);
        if let Some((platform, seconds)) = &*self.slow.borrow() {
            platform.advance(*seconds);
        }
        if self.unhurried.get() {
            step_aside().await;
        }
        if self.hanging.get() == call {
            std::future::pending::<()>().await;
        }
        if self.failing.get() == call || self.fails_now(call, false) {
            return Err(self.failure("disk on fire in rack 7"));
        }
        Ok(())
    }
}

/// Both futures at once, as two requests are.
pub async fn both<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    poll_fn(move |context| {
        if one.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            one = Some(output);
        }
        if other.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            other = Some(output);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            unfinished => {
                (one, other) = unfinished;
                Poll::Pending
            }
        }
    })
    .await
}

/// Begins it, and does not wait for it to end.
pub fn begin_and_leave<R>(future: impl Future<Output = R>) {
    let mut future = pin!(future);
    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

/// Lets another go first.
pub async fn step_aside() {
    let mut aside = false;
    poll_fn(|context| {
        if std::mem::replace(&mut aside, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Store for SpyStore {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        self.note("load").await?;
        if let Some(Interference::Delete) = self.before_load.take() {
            self.inside.delete(key).await?;
        }
        if self.garbled.borrow().as_ref() == Some(key) {
            return Err(Error::new(ErrorKind::Unreadable, "something else"));
        }
        self.inside.load(key).await
    }

    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        self.note("create").await?;
        self.inside.create(key, record).await?;
        self.answered("create", ())
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.note("update").await?;
        *self.updated_to.borrow_mut() = Some(record.clone());
        self.let_another_in(key).await?;
        let updated = self.inside.update(key, record).await?;
        self.answered("update", self.as_said(updated))
    }

    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.note("touch").await?;
        if self.interferes_on_touch.get() {
            self.let_another_in(key).await?;
        }
        let stored = self.inside.load(key).await?;
        if self.tells_no_winner.get() && stored.is_some_and(|stored| stored.version > record.version) {
            return Ok(Updated::Stale(None));
        }
        self.inside.touch(key, record).await
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        self.note("delete").await?;
        let deleted = self.inside.delete(key).await?;
        self.answered("delete", deleted)
    }

    fn users(&self) -> Option<Users<'_>> {
        Some(Users::of(self))
    }

    async fn delete_expired(&self, now: u64) -> Result<Swept, Error> {
        self.note("delete_expired").await?;
        self.inside.delete_expired(now).await
    }
}

impl UserStore for SpyStore {
    async fn create_for(&self, claim: &Claim, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.claims.borrow_mut().push(claim.clone());
        self.note("create_for").await?;
        let created = self.inside.create_for(claim, key, record).await?;
        self.answered("create_for", created)
    }

    async fn change_id_for(
        &self,
        claim: &Claim,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        self.claims.borrow_mut().push(claim.clone());
        self.note("change_id_for").await?;
        if self.is_late.take() {
            let (inside, claim, from, retired) = (self.inside.clone(), claim.clone(), from.clone(), retired.clone());
            let (to, mut moved) = (to.clone(), moved.clone());
            self.late.replace(Some(Box::new(move || {
                drop(pollster::block_on(inside.change_id_for(&claim, &from, &retired, &to, &mut moved)));
            })));
            return Err(self.failure("it is late"));
        }
        self.let_another_in(from).await?;
        let changed = self.inside.change_id_for(claim, from, retired, to, moved).await?;
        if let Some(late) = self.late.take() {
            late();
        }
        self.answered("change_id_for", self.as_said(changed))
    }

    async fn list(&self, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error> {
        self.note("list").await?;
        self.inside.list(user).await
    }

    async fn end(&self, user: &UserKey, handle: &SessionHandle) -> Result<bool, Error> {
        self.note("end").await?;
        self.inside.end(user, handle).await
    }

    async fn end_all(&self, user: &UserKey, now: u64, spared: &Spared) -> Result<u64, Error> {
        self.note("end_all").await?;
        self.inside.end_all(user, now, spared).await
    }

    async fn end_oldest(&self, claim: &Claim, most: u64, now: u64) -> Result<u64, Error> {
        self.note("end_oldest").await?;
        self.inside.end_oldest(claim, most, now).await
    }

    fn max_sessions(&self) -> Option<u64> {
        self.most_sessions.get()
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Visit {
    pub count: u64,
}

/// Sessions over a spy, and the handles to steer them.
#[derive(Clone)]
pub struct Rig {
    pub store: SpyStore,
    pub platform: TestPlatform,
    pub sessions: Sessions,
}

impl Rig {
    pub fn new() -> Self {
        Self::with("{}")
    }

    pub fn with(parameters: &str) -> Self {
        Self::over(&SpyStore::default(), &TestPlatform::at(NOW), KEY, parameters)
    }

    /// The same store and clock, under other keys or parameters: a deployment.
    pub fn redeployed(&self, secret: &str, parameters: &str) -> Self {
        Self::over(&self.store, &self.platform, secret, parameters)
    }

    /// The same store, for which these sessions wait as long as it takes.
    pub fn patient(&self) -> Sessions {
        let signer = Signer::from_secret(KEY).unwrap();
        Sessions::new(self.store.clone(), Patient(self.platform.clone()), signer, SessionParameters::default()).unwrap()
    }

    /// The same store and clock, with random bytes of the test's own.
    pub fn drawing(&self, random: impl Fn(&mut [u8]) -> Result<(), Error> + 'static) -> Self {
        let (platform, signer) = (Drawing(self.platform.clone(), random), Signer::from_secret(KEY).unwrap());
        let sessions = Sessions::new(self.store.clone(), platform, signer, SessionParameters::default()).unwrap();
        Self { sessions, ..self.clone() }
    }

    fn over(store: &SpyStore, platform: &TestPlatform, secret: &str, parameters: &str) -> Self {
        let signer = Signer::from_secret(secret).unwrap();
        let parameters = SessionParameters::from_json(parameters).unwrap();
        Self {
            store: store.clone(),
            platform: platform.clone(),
            sessions: Sessions::new(store.clone(), platform.clone(), signer, parameters).unwrap(),
        }
    }
}

/// A platform on which no deadline is ever over.
struct Patient(TestPlatform);

impl Platform for Patient {
    fn now(&self) -> u64 {
        self.0.now()
    }

    fn sleep(&self, _milliseconds: u32) -> Sleep {
        Box::pin(std::future::pending())
    }

    fn log(&self, line: std::fmt::Arguments<'_>) {
        self.0.log(line);
    }
}

/// A platform with random bytes of the test's own.
pub struct Drawing<F>(pub TestPlatform, pub F);

impl<F: Fn(&mut [u8]) -> Result<(), Error>> Platform for Drawing<F> {
    fn now(&self) -> u64 {
        self.0.now()
    }

    fn sleep(&self, milliseconds: u32) -> Sleep {
        self.0.sleep(milliseconds)
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        self.1(bytes)
    }

    fn log(&self, line: std::fmt::Arguments<'_>) {
        self.0.log(line);
    }
}

/// A browser: it keeps the cookie that it is given, and drops it when told.
#[derive(Clone, Default)]
pub struct Visitor {
    pub cookie: Option<String>,
    pub ip: Option<&'static str>,
    /// What the last reply said that was done.
    pub timing: Timing,
}

/// What a visitor got.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply<R> {
    Ok(R),
    Expired(String),
    Failed(String),
    Error(ErrorKind),
}

impl Visitor {
    pub fn at(ip: &'static str) -> Self {
        Self { ip: Some(ip), ..Self::default() }
    }

    /// One who comes with this `Cookie` header.
    pub fn with(cookie: impl Into<String>) -> Self {
        Self { cookie: Some(cookie.into()), ..Self::default() }
    }

    /// The same request again, as another one in flight: the same cookie, in a jar of its own.
    pub fn twin(&self) -> Self {
        self.clone()
    }

    pub fn ask<T, R>(
        &mut self,
        rig: &Rig,
        handler: impl AsyncFn(&mut Session<T>) -> Result<R, Error>,
    ) -> (Reply<R>, Option<String>)
    where
        T: Default + Serialize + for<'a> Deserialize<'a>,
    {
        let incoming = Incoming::new().cookie(self.cookie.as_deref()).ip(self.ip).with_reply();
        let (reply, set_cookie) = match pollster::block_on(rig.sessions.run(&incoming, handler)) {
            Ok(Outcome::Replied { reply, set_cookie, timing }) => {
                self.timing = timing;
                (Reply::Ok(reply), set_cookie)
            }
            Ok(Outcome::Expired { message, set_cookie }) => (Reply::Expired(message), set_cookie),
            Ok(Outcome::Failed(error)) => (Reply::Failed(error.to_string()), Vec::new()),
            Ok(Outcome::Refused { error, set_cookie }) => (Reply::Error(error.kind()), set_cookie),
            Ok(_) => panic!("this release has no other outcome"),
            Err(error) => (Reply::Error(error.kind()), Vec::new()),
        };
        let name = format!("{}=", rig.sessions.parameters().cookie_name);
        let set_cookie = set_cookie.into_iter().find(|line| line.starts_with(&name));
        if let Some(set_cookie) = &set_cookie {
            let pair = set_cookie.split(';').next().unwrap().to_owned();
            self.cookie = (!set_cookie.contains("Max-Age=0")).then_some(pair);
        }
        (reply, set_cookie)
    }

    /// `/count`.
    pub fn count(&mut self, rig: &Rig) -> Reply<u64> {
        self.ask(rig, count).0
    }

    /// A handler that looks and touches nothing.
    pub fn read(&mut self, rig: &Rig) -> Reply<u64> {
        self.ask(rig, async |session: &mut Session<Visit>| Ok(session.count)).0
    }

    /// What `/login` does: a hundred more, and a new id.
    pub fn log_in(&mut self, rig: &Rig) -> (Reply<()>, Option<String>) {
        self.ask(rig, log_in)
    }

    /// `/reset`.
    pub fn reset(&mut self, rig: &Rig) -> (Reply<()>, Option<String>) {
        self.ask(rig, async |session: &mut Session<Visit>| {
            session.kill();
            Ok(())
        })
    }
}

/// A visitor whose session counted to one.
pub fn known(rig: &Rig) -> Visitor {
    let mut visitor = Visitor::default();
    rig.store.calls();
    assert_eq!(visitor.count(rig), Reply::Ok(1));
    assert_eq!(rig.store.calls(), "create");
    visitor
}

/// The key under which this visitor's record is stored.
pub fn key_of(visitor: &Visitor) -> RecordKey {
    key_in(visitor, "webpy_session_id")
}

fn key_in(visitor: &Visitor, cookie_name: &str) -> RecordKey {
    let cookie = visitor.cookie.as_deref().unwrap();
    let presented = edge_session::cookie::read(cookie, cookie_name, &Signer::from_secret(KEY).unwrap());
    presented.ids()[0].key.clone()
}

pub fn stored(rig: &Rig, visitor: &Visitor) -> Option<Record> {
    let key = key_in(visitor, &rig.sessions.parameters().cookie_name);
    pollster::block_on(rig.store.inside.load(&key)).unwrap()
}

pub async fn log_in(session: &mut Session<Visit>) -> Result<(), Error> {
    session.count += 100;
    session.cycle_id();
    Ok(())
}

pub async fn count(session: &mut Session<Visit>) -> Result<u64, Error> {
    session.count += 1;
    Ok(session.count)
}
