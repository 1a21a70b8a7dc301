//! One run: requests of browsers and of one who knows an old id, at once, by a schedule.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use edge_session::{Incoming, KvStore, Platform, RecordKey, SessionParameters, Sessions, Signer};
use pollster::block_on;

use crate::requests::{Act, By, First, Got, Notes, Second, Seen, ask};
use crate::stores::{Exact, Flaw, Inside, Keys, Kind, Lists, ScheduledKv};
use crate::world::{Choices, Faults, Turn, World};

const KEY: &str = "first-key-0123456789abcdef012345";
/// The one that comes after it.
const NEXT_KEY: &str = "next-key-0123456789abcdef0123456";

/// The visitor's browser.
pub const VISITOR: usize = 0;
/// Who knows the id from before, and has a browser of their own.
pub const ADVERSARY: usize = 1;
/// Where each of them is.
const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

/// What is explored.
#[derive(Clone)]
pub struct Scenario {
    pub name: &'static str,
    /// Who does what. All may be under way at once.
    pub acts: Vec<(usize, Act)>,
    pub kinds: &'static [Kind],
    pub parameters: &'static str,
    /// How far the clock moves, at any moments, in this order.
    pub jumps: Vec<u64>,
    pub faults: Faults,
    /// How many visitors leave, at any moments.
    pub leaves: usize,
    /// Whether replies may be lost.
    pub loses_replies: bool,
    /// Whether requests meet two releases in turn.
    pub releases: bool,
    pub by: By,
    /// Whether requests say that a reply sets their cookies, so that those which age are renewed.
    pub replies: bool,
    /// Whether the key that signed the first cookie is being retired.
    pub rotates: bool,
    /// Whether a browser sends a request when the reply to its one before has arrived, or is lost.
    pub in_turn: bool,
    /// How many of the acts are over, and their replies have arrived, before any other begins.
    pub first: usize,
    /// Seconds since the session began.
    pub age: u64,
    pub flaw: Flaw,
}

impl Scenario {
    pub fn of(name: &'static str, acts: &[(usize, Act)]) -> Self {
        Self {
            name,
            acts: acts.to_vec(),
            kinds: &Kind::ALL,
            parameters: r#"{"timeout": 100, "touch_after": 10}"#,
            jumps: Vec::new(),
            faults: Faults::OfWrites(0),
            leaves: 0,
            loses_replies: false,
            releases: false,
            by: By::Run,
            replies: false,
            rotates: false,
            in_turn: false,
            first: 0,
            age: 0,
            flaw: Flaw::None,
        }
    }

    /// Whether the cookie of a session that goes on is given again.
    pub fn renews_cookies(&self) -> bool {
        self.rotates || self.parameters.contains("persistent")
    }

    /// Whether a session is its visitor's at their address alone.
    pub fn binds_to_address(&self) -> bool {
        self.parameters.contains("ignore_change_ip")
    }

    fn signer(&self) -> Signer {
        let keys = if self.rotates { format!("{NEXT_KEY},{KEY}") } else { KEY.to_owned() };
        Signer::from_secret(&keys).unwrap()
    }
}

pub struct Run {
    pub scenario: Scenario,
    pub kind: Kind,
    pub world: World,
    pub inside: Inside,
    pub keys: Keys,
    sessions: Sessions,
    jars: [RefCell<Option<String>>; 2],
    /// The cookie that all began with.
    pub cookie: String,
    pub got: RefCell<Vec<Got>>,
    /// Replies that were lost on their way.
    pub lost_replies: Cell<usize>,
}

type Request<'a> = (Arc<Turn>, Option<Pin<Box<dyn Future<Output = ()> + 'a>>>);

#[derive(Clone, Copy)]
enum Move {
    Poll(usize),
    Land(usize),
    Deliver(usize),
    LoseReply(usize),
    Leave(usize),
    Jump,
}

fn sessions(scenario: &Scenario, world: &World, kind: Kind, inside: &Inside, keys: &Keys) -> Sessions {
    let parameters = SessionParameters::from_json(scenario.parameters).unwrap();
    let signer = scenario.signer();
    let (world, keys) = (world.clone(), Rc::clone(keys));
    match inside.clone() {
        Inside::Memory(inside) => {
            let flaw = scenario.flaw;
            let (unanswered, lists) = (Keys::default(), Lists::default());
            let store = Exact { inside, world: world.clone(), kind, flaw, keys, unanswered, lists };
            Sessions::new(store, world, signer, parameters)
        }
        Inside::Kv(inside) => {
            let namespace = ScheduledKv { inside, world: world.clone(), keys };
            Sessions::new(KvStore::new(namespace, world.clone()), world, signer, parameters)
        }
    }
    .unwrap()
}

/// Sessions that no schedule holds up, on the same store and clock.
fn undisturbed(world: &World, inside: &Inside, parameters: &str, signer: Signer) -> Sessions {
    let parameters = SessionParameters::from_json(parameters).unwrap();
    match inside.clone() {
        Inside::Memory(inside) => Sessions::new(inside, world.clone(), signer, parameters),
        Inside::Kv(kv) => Sessions::new(KvStore::new(kv, world.clone()), world.clone(), signer, parameters),
    }
    .unwrap()
}

impl Run {
    /// A visitor's session with the write 0 and a voucher, and somebody else who knows its id.
    pub fn new(scenario: &Scenario, kind: Kind, choices: Choices) -> Self {
        let world = World::new(choices, scenario.faults);
        if kind == Kind::Kv {
            world.rest();
        }
        let inside = Inside::new(kind, &world);
        let keys = Keys::default();
        let first = Signer::from_secret(KEY).unwrap();
        let still = undisturbed(&world, &inside, scenario.parameters, first.clone());
        let begun = block_on(still.run(
            &Incoming::new().ip(ADDRESSES[VISITOR]),
            async |session: &mut edge_session::Session<First>| {
                use crate::requests::Data;
                session.writes().push(0);
                *session.vouchers() = 1;
                Ok::<_, edge_session::Error>(())
            },
        ));
        let Ok(edge_session::Outcome::Replied { set_cookie, .. }) = begun else { panic!() };
        let cookie = pair_of(&set_cookie[0]);
        let signed = edge_session::cookie::read(&cookie, "webpy_session_id", &first);
        keys.borrow_mut().push(signed.ids()[0].key.clone());
        if scenario.age > 0 {
            world.advance(scenario.age);
        }
        let sessions = sessions(scenario, &world, kind, &inside, &keys);
        let jars = [RefCell::new(Some(cookie.clone())), RefCell::new(Some(cookie.clone()))];
        Self {
            scenario: scenario.clone(),
            kind,
            world,
            inside,
            keys,
            sessions,
            jars,
            cookie,
            got: RefCell::default(),
            lost_replies: Cell::new(0),
        }
    }

    /// A request from its first step, at which its browser looks into its jar, to its reply.
    async fn request(&self, place: usize) {
        let (browser, act) = self.scenario.acts[place];
        let number = u32::try_from(place).unwrap() + 1;
        let cookie = self.jars[browser].borrow().clone();
        let notes = Rc::new(RefCell::new(Notes::default()));
        self.world.tell(format_args!("request {place}: browser {browser}, {act:?}"));
        self.got.borrow_mut().push(Got {
            act,
            number,
            browser,
            cookie: cookie.clone(),
            began: self.world.event(),
            ended: None,
            began_at: self.now(),
            ended_at: u64::MAX,
            answer: None,
            set_cookie: Vec::new(),
            notes: Rc::clone(&notes),
        });
        let by = self.scenario.by;
        let incoming = Incoming::new().cookie(cookie.as_deref()).ip(ADDRESSES[browser]);
        let incoming = if self.scenario.replies { incoming.with_reply() } else { incoming };
        let (answer, set_cookie) = if self.scenario.releases && place % 2 == 1 {
            ask::<Second>(by, &self.sessions, &incoming, act, number, &notes, &self.world).await
        } else {
            ask::<First>(by, &self.sessions, &incoming, act, number, &notes, &self.world).await
        };
        self.world.tell(format_args!("request {place} is answered: {answer:?} {set_cookie:?}"));
        let ended = self.world.event();
        let mut got = self.got.borrow_mut();
        let mine = got.iter_mut().find(|got| got.number == number).unwrap();
        (mine.answer, mine.set_cookie, mine.ended, mine.ended_at) = (Some(answer), set_cookie, Some(ended), self.now());
    }

    /// Makes all moves that there are, in the order that is chosen.
    pub fn play(&self) {
        let mut requests: Vec<Request<'_>> = (0..self.scenario.acts.len())
            .map(|place| -> Request<'_> { (Turn::first(), Some(Box::pin(self.request(place)))) })
            .collect();
        let mut on_their_way: Vec<(usize, Vec<String>)> = Vec::new();
        let (mut jumps, mut leaves) = (self.scenario.jumps.iter(), self.scenario.leaves);
        for _ in 0..10_000 {
            let mut moves: Vec<Move> = Vec::new();
            for (place, (turn, request)) in requests.iter().enumerate() {
                let is_of_same = |browser: usize| browser == self.scenario.acts[place].0;
                let is_over = |before: usize| requests[before].1.is_none();
                let is_its_turn = || {
                    let is_awaited =
                        (0..place).any(|before| is_of_same(self.scenario.acts[before].0) && !is_over(before));
                    !is_awaited && !on_their_way.iter().any(|(browser, _)| is_of_same(*browser))
                };
                let first = self.scenario.first;
                let has_any_begun = |from: usize, to: usize| {
                    self.got.borrow().iter().any(|got| (from + 1..=to).contains(&(got.number as usize)))
                };
                let is_after = || {
                    let others_have = has_any_begun(first, requests.len());
                    place < first || others_have || (0..first).all(is_over) && on_their_way.is_empty()
                };
                let may_begin =
                    has_any_begun(place, place + 1) || is_after() && (!self.scenario.in_turn || is_its_turn());
                if request.is_some() && turn.is_due() && may_begin {
                    moves.push(Move::Poll(place));
                }
            }
            moves.extend((0..self.world.under_way()).map(Move::Land));
            for reply in 0..on_their_way.len() {
                moves.push(Move::Deliver(reply));
                if self.scenario.loses_replies {
                    moves.push(Move::LoseReply(reply));
                }
            }
            if moves.is_empty() {
                let is_stuck = requests.iter().any(|(_, request)| request.is_some());
                assert!(!is_stuck || jumps.len() > 0, "a request hangs:\n{}", self.world.story());
                if !is_stuck {
                    return;
                }
            }
            if jumps.len() > 0 {
                moves.push(Move::Jump);
            }
            if leaves > 0 {
                let began = |place: &usize| self.got.borrow().iter().any(|got| got.number as usize == place + 1);
                moves.extend(
                    (0..requests.len()).filter(|place| requests[*place].1.is_some()).filter(began).map(Move::Leave),
                );
            }
            match moves[self.world.choose(moves.len())] {
                Move::Poll(place) => {
                    let (turn, request) = &mut requests[place];
                    turn.take();
                    self.world.poll_as(place);
                    let waker = Waker::from(Arc::clone(turn));
                    if request.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                        *request = None;
                        let got = self.got.borrow();
                        let got = got.iter().find(|got| got.number as usize == place + 1).unwrap();
                        if !got.set_cookie.is_empty() {
                            on_their_way.push((got.browser, got.set_cookie.clone()));
                        }
                    }
                }
                Move::Land(place) => self.world.land(place),
                Move::Deliver(reply) => {
                    let (browser, set_cookie) = on_their_way.remove(reply);
                    for line in &set_cookie {
                        self.world.tell(format_args!("browser {browser} is given {line}"));
                        if line.starts_with("webpy_session_id=") {
                            *self.jars[browser].borrow_mut() = (!line.contains("Max-Age=0")).then(|| pair_of(line));
                        }
                    }
                }
                Move::LoseReply(reply) => {
                    let (browser, set_cookie) = on_their_way.remove(reply);
                    self.lost_replies.set(self.lost_replies.get() + 1);
                    self.world.tell(format_args!("browser {browser} is not given {set_cookie:?}"));
                }
                Move::Leave(place) => {
                    leaves -= 1;
                    requests[place].1 = None;
                    self.world.tell(format_args!("the visitor of request {place} leaves"));
                }
                Move::Jump => self.world.advance(*jumps.next().unwrap()),
            }
        }
        panic!("it does not end:\n{}", self.world.story());
    }

    /// What comes of this when all requests are done, and each store call takes effect at once.
    pub fn calmly<R>(&self, does: impl AsyncFnOnce(&Sessions) -> R) -> R {
        self.world.fail_no_more();
        let mut future = Box::pin(does(&self.sessions));
        let turn = Turn::first();
        let waker = Waker::from(Arc::clone(&turn));
        loop {
            if let Poll::Ready(done) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return done;
            }
            assert!(self.world.under_way() > 0, "it hangs:\n{}", self.world.story());
            self.world.land(0);
        }
    }

    /// What one who comes later with this cookie is shown, by nobody disturbed.
    pub fn seen_by(&self, cookie: Option<&str>) -> Seen {
        let notes = RefCell::new(Notes::default());
        let still = undisturbed(&self.world, &self.inside, self.scenario.parameters, self.scenario.signer());
        let incoming = Incoming::new().cookie(cookie).ip(ADDRESSES[VISITOR]);
        block_on(ask::<First>(By::Run, &still, &incoming, Act::Look, 999, &notes, &self.world));
        notes.into_inner().saw.pop().unwrap_or_default()
    }

    /// What the session of this cookie is stored under.
    pub fn key_of(&self, cookie: &str) -> RecordKey {
        edge_session::cookie::read(cookie, "webpy_session_id", &self.scenario.signer()).ids()[0].key.clone()
    }

    pub fn jar(&self, browser: usize) -> Option<String> {
        self.jars[browser].borrow().clone()
    }

    /// The data of each session that is alive in the store, whoever knows its id.
    pub fn alive(&self) -> Vec<Seen> {
        let mut keys = self.keys.borrow().clone();
        keys.sort();
        keys.dedup();
        let records = keys.iter().filter_map(|key| self.inside.load(key, &self.world));
        records
            .filter(|record| record.successor.is_none())
            .map(|record| {
                use crate::requests::Data;
                serde_json::from_str::<First>(&record.data).unwrap().seen()
            })
            .collect()
    }

    /// The seconds that went by.
    pub fn now(&self) -> u64 {
        self.world.now()
    }
}

fn pair_of(line: &str) -> String {
    line.split(';').next().unwrap().to_owned()
}
