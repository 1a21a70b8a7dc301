//! One visitor's browser, Workers at several places whose isolates come and go, and KV between them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use edge_session::store::simulated_kv::{Ordered, SimulatedKv};
use edge_session::{
    Error, Incoming, KvFailure, KvStore, Outcome, Platform, Session, SessionParameters, Sessions, Signer,
};

use crate::browser::{Browser, State};
use crate::clock::{Clock, IsolateClock, NOW, Random};
use crate::stage::{COOKIE, SECRET};

const PLACES: u64 = 3;
/// In milliseconds; the clocks may differ.
const CARRIED_FOR: u64 = 90_000;
const LATE: u64 = 35_000;

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
    /// One in so many requests meets a KV call that fails, or is slow. As for the others below, 0 is never.
    pub faults: u64,
    /// One in so many replies never arrives.
    pub lost_replies: u64,
    /// One in so many requests is given up by its client.
    pub aborts: u64,
    /// Before one in so many requests an isolate dies, or its work behind replies ends.
    pub deaths: u64,
    /// By how many milliseconds the clocks of two isolates differ at the most.
    pub skew: u64,
    /// Whether the visitor logs in, and out.
    pub logs_in: bool,
    pub logs_out: bool,
}

/// What was seen in one run, or in several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub requests: u32,
    /// Writes of which a reply that arrived told.
    pub acknowledged: u32,
    /// Requests that were answered by an error.
    pub refused: u32,
    /// Requests whose handler saw a state that lacks a write which their visitor had been shown.
    pub older: u32,
    /// Likewise, but each write that it lacks had met another one, in another isolate.
    pub overlapped: u32,
    /// Likewise, but what it lacks is older than what browsers carry: KV has not shown it yet.
    pub late: u32,
    /// Runs that can promise it in which an acknowledged write is not found at rest, with the id alone.
    pub lost: u32,
    /// Runs in which one is not found that cannot promise it, or where two writes had met.
    pub lost_otherwise: u32,
    /// Cookies that lead to a session after its logout, or after a login of its visitor, when all has come to rest.
    pub revived: u32,
    /// Runs at whose end the visitor has no session, although nobody logged out.
    pub logged_out: u32,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        let Self {
            requests,
            acknowledged,
            refused,
            older,
            overlapped,
            late,
            lost,
            lost_otherwise,
            revived,
            logged_out,
        } = other;
        self.requests += requests;
        self.acknowledged += acknowledged;
        self.refused += refused;
        self.older += older;
        self.overlapped += overlapped;
        self.late += late;
        self.lost += lost;
        self.lost_otherwise += lost_otherwise;
        self.revived += revived;
        self.logged_out += logged_out;
    }
}

struct Isolate {
    number: u32,
    place: u64,
    sessions: Sessions,
    /// How many requests it answers at the moment.
    busy: Cell<u32>,
    /// When it was given the last one.
    used: Cell<u64>,
}

/// A request that wrote, or may have: in which isolate, and when: until its browser learned of it.
struct Span {
    write: u32,
    isolate: u32,
    sent: u64,
    learned: u64,
}

pub struct World {
    pub clock: Clock,
    random: Random,
    kv: SimulatedKv<Clock>,
    conditions: Conditions,
    isolates: RefCell<Vec<std::rc::Rc<Isolate>>>,
    born: Cell<u32>,
    browser: RefCell<Browser>,
    acknowledged: RefCell<State>,
    spans: RefCell<Vec<Span>>,
    /// Whether an isolate died with work behind its replies, or a request was given up, or a call failed.
    is_disturbed: Cell<bool>,
    /// What the visitor came with who logged in, or out.
    ended: RefCell<Vec<String>>,
    /// Logins that are under way, and whether two ever were.
    logins: Cell<u32>,
    logged_in_twice: Cell<bool>,
    tally: Cell<Tally>,
    pub story: RefCell<Vec<String>>,
}

impl World {
    pub fn new(seed: u64, conditions: Conditions) -> Self {
        let clock = Clock::new(seed);
        let kv = SimulatedKv::new(clock.clone(), seed);
        kv.take(20, 150);
        Self {
            random: Random::new(seed),
            clock,
            kv,
            conditions,
            isolates: RefCell::default(),
            born: Cell::default(),
            browser: RefCell::default(),
            acknowledged: RefCell::default(),
            spans: RefCell::default(),
            is_disturbed: Cell::default(),
            ended: RefCell::default(),
            logins: Cell::default(),
            logged_in_twice: Cell::default(),
            tally: Cell::default(),
            story: RefCell::default(),
        }
    }

    fn now(&self) -> u64 {
        self.clock.milliseconds()
    }

    fn tell(&self, line: String) {
        self.story.borrow_mut().push(format!("{:>8} ms {line}", self.now() - NOW * 1000));
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        change(&mut tally);
        self.tally.set(tally);
    }

    fn one_in(&self, of: u64) -> bool {
        of > 0 && self.random.one_in(of)
    }

    /// Plays it to its end.
    pub fn play(&self) -> Tally {
        // Two requests of a visitor who has no session yet begin two.
        let mut first = 1_000;
        while self.browser.borrow().id_alone(COOKIE).is_empty() {
            self.clock.run(vec![Box::pin(self.request(first, Act::Write, 0, 0))]);
            first += 1;
        }
        let mut at = 0;
        let mut place = 0;
        let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
        for number in 0..self.conditions.requests {
            // Bursts of a page, pauses of a reader, and now and then a journey.
            at += match self.random.below(10) {
                0 => self.random.below(120_000),
                1..5 => self.random.below(5_000),
                _ => self.random.below(100),
            };
            if self.random.one_in(5) {
                place = self.random.below(PLACES);
            }
            let act = match self.random.below(12) {
                0 if self.conditions.logs_in => Act::LogIn,
                1 if self.conditions.logs_out && number > 5 => Act::LogOut,
                0..6 => Act::Write,
                _ => Act::Look,
            };
            tasks.push(Box::pin(self.request(number, act, place, at)));
        }
        self.clock.run(tasks);
        self.clock.run(vec![Box::pin(self.come_to_rest())]);
        self.tally.get()
    }

    /// An isolate at this place: one that is there, or a new one.
    fn isolate(&self, place: u64) -> std::rc::Rc<Isolate> {
        let mut isolates = self.isolates.borrow_mut();
        if self.one_in(self.conditions.deaths)
            && let Some(idle) = isolates.iter().position(|isolate| isolate.busy.get() == 0)
        {
            // The runtime may break off the work behind replies alone.
            let lives_on = self.random.one_in(2);
            let number = isolates[idle].number;
            let had_work = self.clock.kill(number);
            self.is_disturbed.set(self.is_disturbed.get() | had_work);
            let what = if lives_on { "goes on without its work" } else { "dies" };
            self.tell(format!("isolate {number} {what}{}", if had_work { ", of which there was some" } else { "" }));
            if !lives_on {
                isolates.remove(idle);
            }
        }
        // A connection mostly stays where it is.
        let here: Vec<_> = isolates.iter().filter(|isolate| isolate.place == place).cloned().collect();
        let (stays, is_new) = (!self.random.one_in(5), here.len() < 3 && self.random.one_in(3));
        if let Some(last) = here.iter().max_by_key(|isolate| isolate.used.get())
            && (stays || !is_new)
        {
            let other = here[usize::try_from(self.random.below(here.len() as u64)).unwrap()].clone();
            return if stays { last.clone() } else { other };
        }
        let number = self.born.replace(self.born.get() + 1);
        let ahead = i64::try_from(self.random.below(self.conditions.skew + 1)).unwrap();
        let clock = IsolateClock { clock: self.clock.clone(), isolate: number, ahead };
        let store = KvStore::new(self.kv.at(usize::try_from(place).unwrap()), clock.clone());
        let signer = Signer::from_secret(SECRET).unwrap();
        let sessions = Sessions::new(store, clock, signer, SessionParameters::default()).unwrap();
        let isolate = std::rc::Rc::new(Isolate { number, place, sessions, busy: Cell::new(0), used: Cell::new(0) });
        isolates.push(isolate.clone());
        isolate
    }

    /// A request, from the moment at which it is sent until its reply arrives.
    async fn request(&self, number: u32, act: Act, place: u64, at: u64) {
        self.clock.pause(at).await;
        let sent = self.now();
        let header = self.browser.borrow().header(sent);
        let shown = self.browser.borrow().shown.clone();
        self.order_faults();
        self.logins.set(self.logins.get() + u32::from(act == Act::LogIn));
        self.logged_in_twice.set(self.logged_in_twice.get() | (self.logins.get() > 1));
        let isolate = self.isolate(place);
        self.tell(format!("request {number}: {act:?} in isolate {} at place {place}", isolate.number));
        // Others meet it from now on, whenever it is answered.
        if act == Act::Write || self.may_store_once_more(sent) {
            let span = Span { write: number, isolate: isolate.number, sent, learned: u64::MAX };
            self.spans.borrow_mut().push(span);
        }
        isolate.busy.set(isolate.busy.get() + 1);
        isolate.used.set(sent);
        let patience = if self.one_in(self.conditions.aborts) { self.random.below(400) } else { 60_000 };
        let answer = self.clock.within(patience, self.ask(&isolate, &header, act, number)).await;
        isolate.busy.set(isolate.busy.get() - 1);
        let (status, state, set_cookie) = answer.unwrap_or_else(|| {
            self.is_disturbed.set(true);
            (0, State::new(), Vec::new())
        });
        self.tell(format!("request {number}: {status}, saw {state:?}"));
        // Whom KV has shown no session, or none any more at the login, has ended none.
        let is_told = set_cookie.iter().any(|line| line.starts_with(&format!("{COOKIE}=")));
        if status == 200 && matches!(act, Act::LogIn | Act::LogOut) && !state.is_empty() && is_told {
            self.ended.borrow_mut().push(header);
        }
        let is_late = self.tally.get().late > 0;
        // A write may grow too old while the request runs.
        let now = self.now();
        let (young, old): (State, State) = shown
            .difference(&state)
            .copied()
            .partition(|write| self.made_at(*write) + CARRIED_FOR - self.conditions.skew > now);
        // Whom KV has shown no session is given another one.
        let lacks = if is_late { State::new() } else { young };
        let met = !lacks.is_empty() && lacks.iter().all(|write| self.has_met_another(*write));
        self.count(|tally| {
            tally.requests += 1;
            tally.refused += u32::from(status != 200 && status != 0);
            tally.older += u32::from(status == 200 && !lacks.is_empty() && !met);
            tally.overlapped += u32::from(status == 200 && met);
            tally.late += u32::from(status == 200 && lacks.is_empty() && !old.is_empty());
        });
        self.clock.pause(self.random.below(if self.random.one_in(10) { 3_000 } else { 100 })).await;
        if status != 0 && !self.one_in(self.conditions.lost_replies) {
            self.arrives(number, act, status, state, &set_cookie);
        }
        self.logins.set(self.logins.get() - u32::from(act == Act::LogIn));
    }

    fn arrives(&self, number: u32, act: Act, status: u16, state: State, set_cookie: &[String]) {
        self.tell(format!("the reply to request {number} arrives"));
        let mut browser = self.browser.borrow_mut();
        for line in set_cookie {
            browser.set(line, self.now());
        }
        if status != 200 {
            return;
        }
        if act == Act::LogOut {
            // What comes after is another session.
            browser.shown.clear();
            self.acknowledged.borrow_mut().clear();
            return;
        }
        for span in
            self.spans.borrow_mut().iter_mut().filter(|span| span.write == number || state.contains(&span.write))
        {
            span.learned = span.learned.min(self.now());
        }
        browser.shown.extend(state);
        if act == Act::Write {
            self.acknowledged.borrow_mut().insert(number);
            self.count(|tally| tally.acknowledged += 1);
        }
    }

    /// Whether a request that is sent now may bring a write that KV is late to show, and which it stores once more. So it counts
    /// as one that writes.
    fn may_store_once_more(&self, sent: u64) -> bool {
        let spans = self.spans.borrow();
        let ages = LATE - self.conditions.skew..CARRIED_FOR + self.conditions.skew;
        spans.iter().any(|span| ages.contains(&(sent - span.sent.min(sent))))
    }

    fn made_at(&self, write: u32) -> u64 {
        self.spans.borrow().iter().find(|span| span.write == write).map_or(0, |span| span.sent)
    }

    /// Whether it is one of several writes that were made at the same time, and not all in one isolate: then each of them
    /// may be lost.
    fn has_met_another(&self, write: u32) -> bool {
        let spans = self.spans.borrow();
        let meets = |one: &Span, other: &Span| other.sent <= one.learned && one.sent <= other.learned;
        let Some(one) = spans.iter().find(|span| span.write == write) else { return false };
        spans.iter().any(|other| other.isolate != one.isolate && meets(one, other))
    }

    /// Whether the visitor's writes went from isolate to isolate faster than KV comes to rest: each may arrive after the next
    /// one for seven seconds, and is then stored once more, but not later than 18 seconds after it was made.
    fn is_hurried(&self) -> bool {
        let spans = self.spans.borrow();
        let mut settles_at = 0;
        (1..spans.len()).any(|number| {
            let (before, span) = (&spans[number - 1], &spans[number]);
            settles_at = settles_at.max(before.sent + 7_000);
            // What is built on two that met, in two isolates, is stored once more as well.
            let is_elsewhere = |one: &Span| one.isolate != span.isolate && one.learned >= before.sent;
            let again_at = if spans[..number].iter().any(is_elsewhere) { settles_at } else { 0 };
            if again_at > span.sent {
                settles_at = again_at + 7_000;
            }
            again_at > span.sent + 18_000
        })
    }

    fn order_faults(&self) {
        if !self.one_in(self.conditions.faults) {
            return;
        }
        self.is_disturbed.set(true);
        let call = ["get", "put session:", "put"][usize::try_from(self.random.below(3)).unwrap()];
        let failure = KvFailure::Other(format!("{call} failed: 500"));
        let outcome = match self.random.below(4) {
            0 => Ordered::Fails(failure),
            1 => Ordered::Loses(failure),
            2 => Ordered::Takes(u32::try_from(self.random.below(9_000)).unwrap()),
            _ => Ordered::Hangs,
        };
        self.kv.order(call, outcome);
    }

    async fn ask(&self, isolate: &Isolate, cookie: &str, act: Act, number: u32) -> (u16, State, Vec<String>) {
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
        let incoming = Incoming::new().cookie(cookie).with_reply();
        let (status, set_cookie) = match isolate.sessions.run(&incoming, handler).await {
            Ok(Outcome::Replied { set_cookie, .. }) => (200, set_cookie),
            Ok(Outcome::Expired { set_cookie, .. }) => (401, set_cookie),
            Ok(Outcome::Refused { error, set_cookie }) => (error.status(), set_cookie),
            Ok(_) => (500, Vec::new()),
            Err(error) => {
                self.tell(format!("request {number}: {error}"));
                (error.status(), Vec::new())
            }
        };
        (status, saw.into_inner(), set_cookie)
    }

    /// Ten minutes after the last request, what the id alone leads to; and an hour after a logout, too.
    async fn come_to_rest(&self) {
        self.clock.pause(600_000).await;
        if std::env::var("SIMULATION_SEED").is_ok() {
            println!("{:#?}", self.kv);
        }
        self.kv.come_to_rest();
        let cookie = self.browser.borrow().id_alone(COOKIE);
        let mut state = State::new();
        let mut lost = BTreeSet::new();
        for place in 0..PLACES {
            (_, state, _) = self.ask(&self.isolate(place), &cookie, Act::Look, 0).await;
            lost.extend(self.acknowledged.borrow().difference(&state));
        }
        self.tell(format!("at rest: {state:?}, and {lost:?} are lost"));
        let is_excused = self.is_disturbed.get()
            || self.is_hurried()
            || self.tally.get().late > 0
            || lost.iter().all(|write| self.has_met_another(*write));
        if !lost.is_empty() {
            self.count(|tally| *(if is_excused { &mut tally.lost_otherwise } else { &mut tally.lost }) += 1);
        }
        // A login that is sent twice begins a session of its own; so does one whom KV has shown none.
        if !self.conditions.logs_out && state.is_empty() && !self.logged_in_twice.get() && self.tally.get().late == 0 {
            self.count(|tally| tally.logged_out += 1);
        }
        if !self.conditions.logs_in {
            return;
        }
        let (status, state, _) = self.ask(&self.isolate(0), &cookie, Act::LogOut, 0).await;
        if status == 200 && !state.is_empty() {
            self.ended.borrow_mut().push(cookie);
        }
        self.clock.pause(3_600_000).await;
        if std::env::var("SIMULATION_SEED").is_ok() {
            println!("{:#?}", self.kv);
        }
        self.kv.come_to_rest();
        for ended in &self.ended.take() {
            for place in 0..PLACES {
                let (_, state, _) = self.ask(&self.isolate(place), ended, Act::Look, 0).await;
                self.count(|tally| tally.revived += u32::from(!state.is_empty()));
            }
        }
    }
}
