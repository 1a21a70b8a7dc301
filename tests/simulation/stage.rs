//! What the schedules are played on: isolates of a Worker at several places, KV between them, and one visitor's browser.

use std::cell::{Cell, RefCell};
use std::future::Future;

use edge_session::store::simulated_kv::{Ordered, SimulatedKv};
use edge_session::{
    Error, Incoming, KvFailure, KvStore, Outcome, Platform, Session, SessionParameters, Sessions, Signer,
};
use serde::{Deserialize, Serialize};

use crate::browser::Browser;
use crate::clock::{Clock, IsolateClock};

pub const COOKIE: &str = "webpy_session_id";

/// Parameters of sessions that may be too large for a cookie by far.
pub const LARGE: &str = r#"{"max_data": 1000000}"#;

/// What the cookies are signed with.
pub const SECRET: &str = "first-key-0123456789abcdef012345";

#[derive(Default, Serialize, Deserialize)]
pub struct Visit {
    pub count: u64,
    /// Makes it larger than a cookie.
    #[serde(default)]
    pub pad: String,
}

/// KV with its places, and a visitor's browser.
pub struct Stage {
    pub clock: Clock,
    pub kv: SimulatedKv<Clock>,
    pub browser: RefCell<Browser>,
}

/// What a request came to: what its handler left, or the status of an error, and the cookies that its reply sets.
pub struct Reply {
    pub count: Result<u64, u16>,
    pub set_cookie: Vec<String>,
}

impl Stage {
    pub fn new() -> Self {
        Self::seeded(1)
    }

    pub fn seeded(seed: u64) -> Self {
        let clock = Clock::new(seed);
        let kv = SimulatedKv::new(clock.clone(), seed);
        kv.take(10, 100);
        // So that a write arrives elsewhere when a test says so.
        kv.travel(10_000_000);
        Self { clock, kv, browser: RefCell::default() }
    }

    pub fn isolate(&self, number: u32, place: usize) -> Sessions {
        self.isolate_ahead(number, place, 0)
    }

    /// One whose clock is ahead by so many milliseconds.
    pub fn isolate_ahead(&self, number: u32, place: usize, ahead: i64) -> Sessions {
        let clock = IsolateClock { clock: self.clock.clone(), isolate: number, ahead };
        self.sessions(clock, place, SessionParameters::default())
    }

    /// One whose sessions have these parameters.
    pub fn isolate_with(&self, number: u32, place: usize, parameters: &str) -> Sessions {
        let clock = IsolateClock { clock: self.clock.clone(), isolate: number, ahead: 0 };
        self.sessions(clock, place, SessionParameters::from_json(parameters).unwrap())
    }

    fn sessions(&self, clock: IsolateClock, place: usize, parameters: SessionParameters) -> Sessions {
        let store = KvStore::new(self.kv.at(place), clock.clone());
        Sessions::new(store, clock, Signer::from_secret(SECRET).unwrap(), parameters).unwrap()
    }

    /// What becomes of the next puts of sessions.
    pub fn puts(&self, times: usize, outcome: &Ordered) {
        for _ in 0..times {
            self.kv.order("put session:", outcome.clone());
        }
    }

    /// KV was written under that name less than a second ago.
    pub fn refused() -> Ordered {
        Ordered::Fails(KvFailure::TooManyWrites)
    }

    pub fn failed() -> Ordered {
        Ordered::Fails(KvFailure::Other("KV PUT failed: 500".to_owned()))
    }

    /// Runs one to its end, by the clock.
    pub fn run<R>(&self, future: impl Future<Output = R>) -> R {
        let result = Cell::new(None);
        self.clock.run(vec![Box::pin(async { result.set(Some(future.await)) })]);
        result.into_inner().unwrap()
    }

    pub fn wait(&self, milliseconds: u64) {
        self.run(self.clock.pause(milliseconds));
    }

    /// A request with this `Cookie` header, whose reply does not arrive yet.
    pub fn send(&self, isolate: &Sessions, cookie: &str, change: impl Fn(&mut Session<Visit>)) -> Reply {
        self.run(self.ask(isolate, cookie, &change))
    }

    pub async fn ask(&self, isolate: &Sessions, cookie: &str, change: &impl Fn(&mut Session<Visit>)) -> Reply {
        let act = async |session: &mut Session<Visit>| {
            change(session);
            Ok(())
        };
        self.ask_to(isolate, cookie, act).await
    }

    /// One whose handler waits for something.
    pub async fn ask_to(
        &self,
        isolate: &Sessions,
        cookie: &str,
        act: impl AsyncFn(&mut Session<Visit>) -> Result<(), Error>,
    ) -> Reply {
        self.handle(isolate, &Incoming::new().cookie(cookie).with_reply(), act).await
    }

    pub async fn handle(
        &self,
        isolate: &Sessions,
        incoming: &Incoming<'_>,
        act: impl AsyncFn(&mut Session<Visit>) -> Result<(), Error>,
    ) -> Reply {
        let handler = async |session: &mut Session<Visit>| {
            act(session).await?;
            Ok::<_, Error>(session.count)
        };
        match isolate.run(incoming, handler).await {
            Ok(Outcome::Replied { reply, set_cookie, .. }) => Reply { count: Ok(reply), set_cookie },
            Ok(Outcome::Failed(error)) | Err(error) => Reply { count: Err(error.status()), set_cookie: Vec::new() },
            Ok(Outcome::Refused { error, set_cookie }) => Reply { count: Err(error.status()), set_cookie },
            Ok(Outcome::Expired { .. }) => Reply { count: Err(401), set_cookie: Vec::new() },
            Ok(_) => panic!("not expected"),
        }
    }

    pub fn header(&self) -> String {
        self.browser.borrow().header(self.clock.milliseconds())
    }

    /// The reply, which must be that of a handler.
    pub fn arrives(&self, reply: &Reply) {
        assert!(reply.count.is_ok(), "{:?}", reply.count);
        for line in &reply.set_cookie {
            self.browser.borrow_mut().set(line, self.clock.milliseconds());
        }
    }

    /// A request of the browser, and its reply.
    pub fn visit(&self, isolate: &Sessions, change: impl Fn(&mut Session<Visit>)) -> Result<u64, u16> {
        let reply = self.send(isolate, &self.header(), change);
        if reply.count.is_ok() {
            self.arrives(&reply);
        }
        reply.count
    }

    pub fn count(&self, isolate: &Sessions) -> Result<u64, u16> {
        self.visit(isolate, count)
    }

    pub fn look(&self, isolate: &Sessions) -> Result<u64, u16> {
        self.visit(isolate, |_| {})
    }

    /// A session begins, with a count of one and so many bytes beside it.
    pub fn begins(&self, isolate: &Sessions, bytes: usize) {
        let begun = self.visit(isolate, |session| {
            session.count = 1;
            session.pad = "x".repeat(bytes);
        });
        assert_eq!(begun, Ok(1));
        self.wait(2_000);
    }

    /// A session begins, and counts to two when KV has had its time for the beginning.
    pub fn counts_twice(&self, isolate: &Sessions) {
        self.count(isolate).unwrap();
        self.wait(5_000);
        assert_eq!(self.count(isolate), Ok(2));
    }

    /// What the id alone leads to when all is stored, and every place has forgotten what it knew.
    pub fn at_rest(&self) -> Result<u64, u16> {
        self.wait(40_000);
        self.kv.come_to_rest();
        self.wait(60_000);
        self.id_alone(2)
    }

    /// The session's own cookie, and nothing else.
    pub fn id(&self) -> String {
        self.browser.borrow().id_alone(COOKIE)
    }

    /// The name of the session's record in KV.
    pub fn name(&self) -> String {
        name(&self.id())
    }

    /// What a client that keeps the id alone sees, at a place.
    pub fn id_alone(&self, place: usize) -> Result<u64, u16> {
        self.send(&self.isolate(99, place), &self.id(), |_| {}).count
    }
}

pub fn count(session: &mut Session<Visit>) {
    session.count += 1;
}

pub fn log_in(session: &mut Session<Visit>) {
    session.cycle_id();
}

/// Counts, and waits until that is stored.
pub async fn save(session: &mut Session<Visit>) -> Result<(), Error> {
    count(session);
    session.save().await
}

/// Counts once more after a save.
pub async fn save_and_count(session: &mut Session<Visit>) -> Result<(), Error> {
    save(session).await?;
    count(session);
    Ok(())
}

/// The name in KV of the record that this `Cookie` header leads to.
pub fn name(cookie: &str) -> String {
    let signed = edge_session::cookie::read(cookie, COOKIE, &Signer::from_secret(SECRET).unwrap());
    format!("session:{}", signed.ids()[0].key.as_str())
}
