//! One visitor's browser, Workers at several places, and KV between them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use edge_session::store::simulated_kv::{Ordered, SimulatedKv};
use edge_session::{Error, Incoming, KvFailure, KvStore, Outcome, Session, SessionParameters, Sessions, Signer};

use crate::clock::{Clock, Random};

const PLACES: usize = 3;
const KEY: &str = "first-key-0123456789abcdef012345";

/// The writes that a session's state is made of.
type State = BTreeSet<u32>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Look,
    Write,
    LogIn,
    LogOut,
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    pub requests: u32,
    /// One in so many KV calls fails, or is slow.
    pub faults: u64,
    /// One in so many replies never arrives.
    pub lost_replies: u64,
    /// Whether the visitor logs in and out.
    pub logs_in_and_out: bool,
}

/// What was seen in one run, or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: u32,
    /// Writes that were answered 200.
    pub acknowledged: u32,
    /// Requests that were answered by an error.
    pub refused: u32,
    /// Requests whose handler saw a state that lacks a write which their visitor had been shown.
    pub older: u32,
    /// Acknowledged writes that are not found when all has come to rest.
    pub lost: u32,
    /// Cookies that lead to a session after its logout, when all has come to rest.
    pub revived: u32,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        let Self { requests, acknowledged, refused, older, lost, revived } = other;
        self.requests += requests;
        self.acknowledged += acknowledged;
        self.refused += refused;
        self.older += older;
        self.lost += lost;
        self.revived += revived;
    }
}

/// A browser: what it has been given and shown so far.
#[derive(Default)]
struct Browser {
    cookie: Option<String>,
    shown: State,
    /// All cookies that it ever had.
    had: BTreeSet<String>,
}

pub struct World {
    pub clock: Clock,
    random: Random,
    kv: SimulatedKv<Clock>,
    places: Vec<Sessions>,
    conditions: Conditions,
    browser: RefCell<Browser>,
    acknowledged: RefCell<State>,
    tally: Cell<Tally>,
    pub story: RefCell<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        let clock = Clock::new(seed);
        let kv = SimulatedKv::new(clock.clone(), seed);
        let sessions = |place| {
            let store = KvStore::new(kv.at(place), clock.clone());
            let signer = Signer::from_secret(KEY).unwrap();
            Sessions::new(store, clock.clone(), signer, SessionParameters::default()).unwrap()
        };
        Self {
            random: Random::new(seed),
            places: (0..PLACES).map(sessions).collect(),
            clock,
            kv,
            conditions,
            browser: RefCell::default(),
            acknowledged: RefCell::default(),
            tally: Cell::default(),
            story: RefCell::default(),
        }
    }

    fn tell(&self, line: String) {
        let at = edge_session::Platform::milliseconds(&self.clock) - crate::clock::NOW * 1000;
        self.story.borrow_mut().push(format!("{at:>8} ms {line}"));
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        change(&mut tally);
        self.tally.set(tally);
    }

    /// Plays it to its end.
    pub fn play(&self) -> Tally {
        let mut at = 0;
        let mut place = 0;
        let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
        for number in 0..self.conditions.requests {
            // Bursts of a page, pauses of a reader, and now and then a journey.
            at += match self.random.below(10) {
                0 => self.random.below(120_000),
                1..5 => self.random.below(5_000),
                _ => self.random.below(200),
            };
            if self.random.one_in(5) {
                place = usize::try_from(self.random.below(PLACES as u64)).unwrap();
            }
            let act = match self.random.below(12) {
                0 if self.conditions.logs_in_and_out => Act::LogIn,
                1 if self.conditions.logs_in_and_out && number > 5 => Act::LogOut,
                0..6 => Act::Write,
                _ => Act::Look,
            };
            tasks.push(Box::pin(self.request(number, act, place, at)));
        }
        self.clock.run(tasks);
        self.clock.run(vec![Box::pin(self.come_to_rest())]);
        self.tally.get()
    }

    /// A request, from the moment at which it is sent until its reply arrives.
    async fn request(&self, number: u32, act: Act, place: usize, at: u64) {
        self.clock.pause(at).await;
        let cookie = self.browser.borrow().cookie.clone();
        let shown = self.browser.borrow().shown.clone();
        self.order_faults();
        self.tell(format!("request {number}: {act:?} at place {place}"));
        let (status, state, set_cookie) = self.ask(place, cookie.as_deref(), act, number).await;
        self.tell(format!("request {number}: {status}, saw {state:?}"));
        self.count(|tally| {
            tally.requests += 1;
            tally.refused += u32::from(status != 200);
            tally.older += u32::from(status == 200 && !shown.is_subset(&state));
        });
        if status == 200 && act == Act::Write {
            self.acknowledged.borrow_mut().insert(number);
            self.count(|tally| tally.acknowledged += 1);
        }
        self.clock.pause(self.random.below(if self.random.one_in(10) { 3_000 } else { 100 })).await;
        if self.conditions.lost_replies > 0 && self.random.one_in(self.conditions.lost_replies) {
            return;
        }
        let mut browser = self.browser.borrow_mut();
        for line in set_cookie {
            let pair = line.split(';').next().unwrap().to_owned();
            browser.cookie = (!line.contains("Max-Age=0")).then_some(pair);
            if let Some(cookie) = browser.cookie.clone() {
                browser.had.insert(cookie);
            }
        }
        if act == Act::LogOut && status == 200 {
            // What comes after is another session.
            browser.shown.clear();
            self.acknowledged.borrow_mut().clear();
        } else if status == 200 {
            browser.shown.extend(state);
        }
    }

    fn order_faults(&self) {
        if self.conditions.faults == 0 || !self.random.one_in(self.conditions.faults) {
            return;
        }
        let call = ["get", "put session:", "put"][usize::try_from(self.random.below(3)).unwrap()];
        let failure = KvFailure::Other(format!("{call} failed: 500"));
        let outcome = match self.random.below(3) {
            0 => Ordered::Fails(failure),
            1 => Ordered::Loses(failure),
            _ => Ordered::Takes(u32::try_from(self.random.below(2_000)).unwrap()),
        };
        self.kv.order(call, outcome);
    }

    async fn ask(&self, place: usize, cookie: Option<&str>, act: Act, number: u32) -> (u16, State, Vec<String>) {
        let saw = RefCell::new(State::new());
        let handler = async |session: &mut Session<State>| {
            *saw.borrow_mut() = (**session).clone();
            match act {
                Act::Look => {}
                Act::Write => {
                    session.insert(number);
                    saw.borrow_mut().insert(number);
                }
                Act::LogIn => session.cycle_id(),
                Act::LogOut => session.kill(),
            }
            Ok::<_, Error>(())
        };
        let incoming = Incoming::new().cookie(cookie);
        let (status, set_cookie) = match self.places[place].run(&incoming, handler).await {
            Ok(Outcome::Replied { set_cookie, .. }) => (200, set_cookie),
            Ok(Outcome::Expired { set_cookie, .. }) => (401, set_cookie),
            Ok(_) => (500, Vec::new()),
            Err(error) => (error.status(), Vec::new()),
        };
        (status, saw.into_inner(), set_cookie)
    }

    /// Ten minutes after the last request, what each cookie leads to; and an hour after a logout, too.
    async fn come_to_rest(&self) {
        self.clock.pause(600_000).await;
        let cookie = self.browser.borrow().cookie.clone();
        let (_, state, _) = self.ask(0, cookie.as_deref(), Act::Look, 0).await;
        let lost = self.acknowledged.borrow().difference(&state).count();
        self.tell(format!("at rest: {state:?}, and {lost} are lost"));
        self.count(|tally| tally.lost += u32::try_from(lost).unwrap());
        if !self.conditions.logs_in_and_out {
            return;
        }
        let (status, ..) = self.ask(1, cookie.as_deref(), Act::LogOut, 0).await;
        self.clock.pause(3_600_000).await;
        for place in 0..PLACES {
            let (_, state, _) = self.ask(place, cookie.as_deref(), Act::Look, 0).await;
            let is_revived = status == 200 && !state.is_empty();
            self.count(|tally| tally.revived += u32::from(is_revived));
        }
    }
}
