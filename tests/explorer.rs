//! A deterministic explorer of concurrent requests: two to four at once on one session, over a store
//! that lets another request go first at each call, in every order there is, or in as many random ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, reason = "likewise")]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use edge_session::{
    Error, Incoming, MemoryStore, Outcome, Platform, Record, RecordKey, Session, SessionParameters, Sessions, Signer,
    Sleep, Store, Updated,
};
use serde::{Deserialize, Serialize};

const NOW: u64 = 1_764_000_000;

/// Lets another request go first.
async fn step_aside() {
    let mut aside = false;
    poll_fn(|_| if std::mem::replace(&mut aside, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// A memory store at each call of which another request may go first.
#[derive(Clone, Default)]
struct Interleaved {
    inside: MemoryStore,
    /// The mutant: updates whatever version there is.
    ignores_versions: bool,
    /// The mutant: an update inserts.
    inserts: bool,
}

impl Store for Interleaved {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        step_aside().await;
        self.inside.load(key).await
    }

    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        step_aside().await;
        self.inside.create(key, record).await
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        step_aside().await;
        let stored = self.inside.load(key).await?;
        if self.ignores_versions && stored.is_some() || self.inserts && stored.is_none() {
            self.inside.delete(key).await?;
            self.inside.create(key, record).await?;
            return Ok(Updated::Done);
        }
        self.inside.update(key, record).await
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        step_aside().await;
        self.inside.delete(key).await
    }
}

/// A clock that stands, random bytes that are the same in each run, and a pause that is a step aside.
#[derive(Clone)]
struct Frozen {
    now: Rc<Cell<u64>>,
    drawn: Rc<Cell<u64>>,
}

impl Platform for Frozen {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        for chunk in bytes.chunks_mut(8) {
            self.drawn.set(self.drawn.get() + 1);
            chunk.copy_from_slice(&scramble(self.drawn.get()).to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }

    fn sleep(&self, milliseconds: u32) -> Sleep {
        if milliseconds >= 5000 {
            // The store's deadline: here, no store hangs.
            Box::pin(std::future::pending())
        } else {
            Box::pin(step_aside())
        }
    }

    fn log(&self, _line: fmt::Arguments<'_>) {}
}

/// splitmix64: a well-mixed number for each number.
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[derive(Default, Serialize, Deserialize)]
struct Visit {
    count: u64,
}

/// What one of the requests does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Count,
    CountByUpdate,
    Read,
    Reset,
    /// Counts, and takes a new id.
    LogIn,
}

/// What one of the requests got.
#[derive(Clone, Debug)]
struct Got {
    act: Act,
    /// The count that it was told, if it was answered.
    answer: Option<u64>,
    set_cookie: Option<String>,
}

struct World {
    sessions: Sessions,
    store: Interleaved,
    platform: Frozen,
    cookie: String,
}

impl World {
    /// A visitor whose count is 1, under this store.
    fn new(store: Interleaved) -> Self {
        let platform = Frozen { now: Rc::new(Cell::new(NOW)), drawn: Rc::default() };
        let sessions = Sessions::new(
            Interleaved { inside: store.inside.clone(), ..store },
            platform.clone(),
            Signer::from_secret("first-key-0123456789abcdef012345").unwrap(),
            SessionParameters::from_json(r#"{"timeout": 100, "touch_after": 10}"#).unwrap(),
        )
        .unwrap();
        let mut world = Self { sessions, store, platform, cookie: String::new() };
        let got = pollster_like(world.request(Act::Count));
        assert_eq!(got.answer, Some(1));
        world.cookie = cookie_of(&got).unwrap();
        world
    }

    async fn request(&self, act: Act) -> Got {
        let cookie = (!self.cookie.is_empty()).then_some(self.cookie.as_str());
        let incoming = Incoming { cookie, ..Incoming::default() };
        let outcome = self
            .sessions
            .run(&incoming, async |session: &mut Session<Visit>| {
                match act {
                    Act::Count => session.count += 1,
                    Act::CountByUpdate => session.update(|visit| visit.count += 1).await?,
                    Act::Read => {}
                    Act::Reset => session.kill(),
                    Act::LogIn => {
                        session.count += 1;
                        session.cycle_id();
                    }
                }
                Ok::<_, Error>(session.count)
            })
            .await;
        match outcome {
            Ok(Outcome::Replied { reply, set_cookie, .. }) => Got { act, answer: Some(reply), set_cookie },
            Ok(other) => panic!("{other:?}"),
            Err(_) => Got { act, answer: None, set_cookie: None },
        }
    }

    /// What a visitor with this cookie is told, later.
    fn seen_by(&self, cookie: &str) -> u64 {
        let visitor = Self {
            sessions: self.sessions.clone(),
            store: self.store.clone(),
            platform: self.platform.clone(),
            cookie: cookie.to_owned(),
        };
        pollster_like(visitor.request(Act::Read)).answer.unwrap()
    }
}

fn cookie_of(got: &Got) -> Option<String> {
    got.set_cookie.as_ref().map(|cookie| cookie.split(';').next().unwrap().to_owned())
}

/// Runs a future that nothing competes with.
fn pollster_like<T>(future: impl Future<Output = T>) -> T {
    let mut future = Box::pin(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

/// In which order the requests take their steps.
trait Order {
    /// Which of so many requests takes the next step.
    fn choose(&mut self, of: usize) -> usize;
}

/// Runs the acts as concurrent requests of one visitor, in this order of steps.
fn run(world: &World, acts: &[Act], order: &mut dyn Order) -> Vec<Got> {
    let done: RefCell<Vec<Got>> = RefCell::default();
    let mut requests: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
    for act in acts {
        let done = &done;
        requests.push(Box::pin(async move {
            let got = world.request(*act).await;
            done.borrow_mut().push(got);
        }));
    }
    while !requests.is_empty() {
        let next = order.choose(requests.len());
        if requests[next].as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            drop(requests.remove(next));
        }
    }
    done.take()
}

/// The orders one after another, as a tree's leaves: all choices up to a depth, the first one beyond.
#[derive(Default)]
struct Exhaustive {
    /// What was chosen of how many, in this run.
    path: Vec<(usize, usize)>,
    step: usize,
}

const DEPTH: usize = 14;

impl Order for Exhaustive {
    fn choose(&mut self, of: usize) -> usize {
        if self.step == DEPTH {
            return 0;
        }
        if self.step == self.path.len() {
            self.path.push((0, of));
        }
        self.step += 1;
        self.path[self.step - 1].0
    }
}

impl Exhaustive {
    /// Turns to the next order; false when there is none.
    fn advance(&mut self) -> bool {
        self.step = 0;
        while let Some((chosen, of)) = self.path.pop() {
            if chosen + 1 < of {
                self.path.push((chosen + 1, of));
                return true;
            }
        }
        false
    }
}

struct Random(u64);

impl Order for Random {
    fn choose(&mut self, of: usize) -> usize {
        self.0 = scramble(self.0.wrapping_add(1));
        usize::try_from(self.0 % of as u64).unwrap()
    }
}

/// How many orders a scenario is tried in, at most: exhaustively first, then at random.
const MOST: usize = 6_000;
const RANDOM: u64 = 1_000;

/// Tries the acts in all orders, until `check` finds something wrong; says in how many.
fn explore(
    store: impl Fn() -> Interleaved,
    acts: &[Act],
    check: impl Fn(&World, &[Got]) -> Result<(), String>,
) -> Result<usize, String> {
    let mut tried = 0;
    let mut attempt = |order: &mut dyn Order| {
        let world = World::new(store());
        // The session was used a while ago, so that a use is due to be noted.
        world.platform.now.set(NOW + 20);
        let got = run(&world, acts, order);
        tried += 1;
        check(&world, &got).map_err(|wrong| format!("{wrong}: {got:?}"))
    };
    let mut exhaustive = Exhaustive::default();
    for _ in 0..MOST {
        attempt(&mut exhaustive)?;
        if !exhaustive.advance() {
            break;
        }
    }
    for seed in 0..RANDOM {
        attempt(&mut Random(seed))?;
    }
    Ok(tried)
}

/// The last number that the increments were told, when each was told another and none is left out.
fn counted(got: &[Got]) -> Result<u64, String> {
    let mut told: Vec<u64> = got.iter().filter(|got| got.act != Act::Read).filter_map(|got| got.answer).collect();
    told.sort_unstable();
    let expected: Vec<u64> = (2..).take(told.len()).collect();
    if told == expected { Ok(1 + told.len() as u64) } else { Err(format!("told {told:?}")) }
}

/// Every acknowledged increment is in the final count, and each reply told the number that it wrote.
fn exact(world: &World, got: &[Got]) -> Result<(), String> {
    let last = counted(got)?;
    let cookie = got.iter().rev().find_map(cookie_of).unwrap_or_else(|| world.cookie.clone());
    match world.seen_by(&cookie) {
        count if count == last => Ok(()),
        count => Err(format!("ended at {count}")),
    }
}

/// No state is left after a kill: not under the old cookie, and not under one that was given meanwhile.
fn dead(world: &World, got: &[Got]) -> Result<(), String> {
    if got.iter().any(|got| got.act == Act::Reset && got.answer.is_none()) {
        return Err("a logout was refused".to_owned());
    }
    let given = got.iter().filter_map(cookie_of).filter(|cookie| !cookie.ends_with('='));
    for cookie in given.chain([world.cookie.clone()]) {
        // A request that came after the kill may have begun a new session, which starts at 1.
        let count = world.seen_by(&cookie);
        let fresh = got.iter().any(|got| got.answer == Some(count) && count <= 1 && cookie != world.cookie);
        if count != 0 && !fresh {
            return Err(format!("alive at {count}"));
        }
    }
    Ok(())
}

/// The use at this time is noted, whoever noted it.
fn touched(world: &World, got: &[Got]) -> Result<(), String> {
    exact(world, got)?;
    world.platform.now.set(NOW + 20 + 99);
    match world.seen_by(&world.cookie) {
        0 => Err("expired: the touch was lost".to_owned()),
        _ => Ok(()),
    }
}

fn sound() -> Interleaved {
    Interleaved::default()
}

#[test]
fn no_acknowledged_increment_is_lost() {
    for acts in [
        &[Act::Count, Act::Count][..],
        &[Act::Count, Act::CountByUpdate, Act::Count],
        &[Act::Count, Act::Read, Act::Count, Act::CountByUpdate],
        &[Act::Count; 4],
    ] {
        let tried = explore(sound, acts, exact).unwrap();
        assert!(tried > 1000, "{tried}");
    }
}

#[test]
fn no_state_is_left_after_a_kill() {
    for acts in [
        &[Act::Count, Act::Reset][..],
        &[Act::Count, Act::CountByUpdate, Act::Reset],
        &[Act::Count, Act::Reset, Act::Count, Act::Reset],
    ] {
        explore(sound, acts, dead).unwrap();
    }
}

#[test]
fn a_logout_while_the_id_is_changing_ends_the_session_under_both() {
    for acts in
        [&[Act::LogIn, Act::Reset][..], &[Act::LogIn, Act::Reset, Act::Count], &[Act::LogIn, Act::LogIn, Act::Reset]]
    {
        explore(sound, acts, dead).unwrap();
    }
}

#[test]
fn a_change_of_id_loses_no_increment() {
    for acts in
        [&[Act::LogIn, Act::Count][..], &[Act::LogIn, Act::CountByUpdate, Act::Count], &[Act::LogIn, Act::LogIn]]
    {
        explore(sound, acts, |world, got| {
            let last = counted(got)?;
            // Within the grace, every cookie leads to the session.
            let seen: Vec<u64> = got.iter().filter_map(cookie_of).map(|cookie| world.seen_by(&cookie)).collect();
            if seen.iter().all(|&count| count == last) && world.seen_by(&world.cookie) == last {
                Ok(())
            } else {
                Err(format!("{last} counted, seen {seen:?}"))
            }
        })
        .unwrap();
    }
}

#[test]
fn no_touch_is_lost() {
    for acts in [&[Act::Read, Act::Read][..], &[Act::Read, Act::Count, Act::Read]] {
        explore(sound, acts, touched).unwrap();
    }
}

/// The mutants: the explorer must find what the version check and the rule against inserting are for.
#[test]
fn without_the_version_check_the_explorer_finds_a_lost_update() {
    let mutant = || Interleaved { ignores_versions: true, ..Interleaved::default() };
    let found = explore(mutant, &[Act::Count, Act::Count], exact).unwrap_err();
    assert!(found.starts_with("told [2, 2]"), "{found}");
}

#[test]
fn with_an_update_that_inserts_the_explorer_finds_a_session_risen_from_the_dead() {
    let mutant = || Interleaved { inserts: true, ..Interleaved::default() };
    let found = explore(mutant, &[Act::Count, Act::Reset], dead).unwrap_err();
    assert!(found.starts_with("alive at"), "{found}");
}
