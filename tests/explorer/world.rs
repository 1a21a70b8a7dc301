//! What is chosen in a run: whose turn it is, when a store call takes effect, whether its answer is lost, how far the
//! clock moves, who leaves, and in which order replies arrive. All by one list of numbers, which replays the run.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};

use edge_session::{Error, ErrorKind, Platform, Sleep};

pub const NOW: u64 = 1_764_000_000;

/// splitmix64: a well-mixed number for each number.
pub fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A run's choices: given ones first, then the first of what there is, or random ones.
#[derive(Default)]
pub struct Choices {
    pub given: Vec<usize>,
    pub seed: Option<u64>,
    /// What was chosen, of how many.
    pub made: Vec<(usize, usize)>,
}

impl Choices {
    fn choose(&mut self, of: usize) -> usize {
        let place = self.made.len();
        let chosen = match (self.given.get(place), &mut self.seed) {
            (Some(given), _) => (*given).min(of - 1),
            (None, Some(seed)) => {
                *seed = scramble(seed.wrapping_add(1));
                usize::try_from(*seed % of as u64).unwrap()
            }
            (None, None) => 0,
        };
        self.made.push((chosen, of));
        chosen
    }
}

/// A store call that was sent and has not taken effect yet.
struct Sent {
    name: String,
    lands: Lands,
}

enum Lands {
    As(Box<dyn FnOnce(Fate) -> Option<Effect>>),
    /// Its sender has given it up.
    Late(Effect),
}

type Effect = Box<dyn FnOnce()>;

/// How many store calls may be lost, or their answers.
#[derive(Clone, Copy)]
pub enum Faults {
    OfWrites(u32),
    OfAnything(u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    AnswerLost,
    Lost,
    /// It takes effect later, when it has been given up.
    Late,
    /// By KV, which takes one write a second under one name.
    Refused,
}

/// What is said of such a call.
pub const REFUSED: &str = "429";

/// An answer, once it is there, and who waits for it.
type Awaited<A> = (Option<Result<A, Error>>, Option<Waker>);

/// A clone is another handle.
#[derive(Clone, Default)]
pub struct World(Rc<Shared>);

#[derive(Default)]
struct Shared {
    now: Cell<u64>,
    drawn: Cell<u64>,
    choices: RefCell<Choices>,
    sent: RefCell<Vec<Sent>>,
    faults_left: Cell<u32>,
    spares_reads: Cell<bool>,
    /// Who waits for the clock.
    waiting: RefCell<Vec<Waker>>,
    /// How many store calls have taken effect, and who waits for the next one.
    landed: Cell<u32>,
    resting: RefCell<Vec<Waker>>,
    /// Whether a pause is longer than what is under way takes.
    rests: Cell<bool>,
    /// The request that is polled.
    current: Cell<usize>,
    calls: RefCell<Vec<(usize, String)>>,
    story: RefCell<Vec<String>>,
    log: RefCell<Vec<String>>,
    events: Cell<usize>,
}

impl World {
    pub fn new(choices: Choices, faults: Faults) -> Self {
        let world = Self::default();
        world.0.now.set(NOW);
        let (left, spares_reads) = match faults {
            Faults::OfWrites(left) => (left, true),
            Faults::OfAnything(left) => (left, false),
        };
        world.0.faults_left.set(left);
        world.0.spares_reads.set(spares_reads);
        *world.0.choices.borrow_mut() = choices;
        world
    }

    pub fn choose(&self, of: usize) -> usize {
        if of == 1 { 0 } else { self.0.choices.borrow_mut().choose(of) }
    }

    pub fn made(&self) -> Vec<(usize, usize)> {
        self.0.choices.borrow().made.clone()
    }

    pub fn tell(&self, what: impl fmt::Display) {
        self.0.story.borrow_mut().push(format!("{:>4} s  {what}", self.now() - NOW));
    }

    pub fn story(&self) -> String {
        self.0.story.borrow().join("\n")
    }

    pub fn advance(&self, seconds: u64) {
        self.0.now.set(self.now() + seconds);
        self.tell(format_args!("{seconds} seconds later"));
        for waker in self.0.waiting.take() {
            waker.wake();
        }
    }

    /// Counts what happens: of two events the later one has the greater number.
    pub fn event(&self) -> usize {
        self.0.events.set(self.0.events.get() + 1);
        self.0.events.get()
    }

    /// From now on no pause ends before one of the calls that are under way has taken effect: who waits for another request
    /// looks again and again, which is no new order each time.
    pub fn rest(&self) {
        self.0.rests.set(true);
    }

    pub fn fail_no_more(&self) {
        self.0.faults_left.set(0);
    }

    pub fn poll_as(&self, request: usize) {
        self.0.current.set(request);
    }

    /// The store calls that a request made, by name.
    pub fn calls_of(&self, request: usize) -> Vec<String> {
        self.0.calls.borrow().iter().filter(|(of, _)| *of == request).map(|(_, name)| name.clone()).collect()
    }

    pub fn logged(&self) -> Vec<String> {
        self.0.log.borrow().clone()
    }

    /// How many store calls are under way.
    pub fn under_way(&self) -> usize {
        self.0.sent.borrow().len()
    }

    /// The call at this place takes effect, or not, and is answered, or not.
    pub fn land(&self, place: usize) {
        let sent = self.0.sent.borrow_mut().remove(place);
        match sent.lands {
            Lands::As(lands) => {
                let fate = self.fate_of(&sent.name);
                self.tell(format_args!("{} takes effect: {fate:?}", sent.name));
                if let Some(effect) = lands(fate) {
                    self.0.sent.borrow_mut().push(Sent { lands: Lands::Late(effect), ..sent });
                }
            }
            Lands::Late(effect) => {
                self.tell(format_args!("{} takes effect: late", sent.name));
                effect();
            }
        }
        self.0.landed.set(self.0.landed.get() + 1);
        for waker in self.0.resting.take() {
            waker.wake();
        }
    }

    fn fate_of(&self, name: &str) -> Fate {
        let is_read = name.starts_with("load") || name.starts_with("get");
        if self.0.faults_left.get() == 0 || is_read && self.0.spares_reads.get() {
            return Fate::Answered;
        }
        let is_kv_write = name.starts_with("put ") || name.starts_with("delete session");
        let last = match (is_kv_write, is_read) {
            (true, _) => Some(Fate::Refused),
            (false, true) => None,
            (false, false) => Some(Fate::Late),
        };
        let fates: Vec<_> = [Fate::Answered, Fate::AnswerLost, Fate::Lost].into_iter().chain(last).collect();
        let fate = fates[self.choose(fates.len())];
        if fate != Fate::Answered {
            self.0.faults_left.set(self.0.faults_left.get() - 1);
        }
        fate
    }

    /// Sends a store call. It takes effect some time later, also when nobody waits for its answer any more.
    pub fn send<A: 'static>(
        &self,
        name: &str,
        effect: impl FnOnce() -> Result<A, Error> + 'static,
    ) -> Pin<Box<dyn Future<Output = Result<A, Error>>>> {
        let name = name.to_owned();
        let request = self.0.current.get();
        self.tell(format_args!("request {request} sends {name}"));
        self.0.calls.borrow_mut().push((request, name.clone()));
        let answer: Rc<RefCell<Awaited<A>>> = Rc::new(RefCell::new((None, None)));
        let slot = Rc::clone(&answer);
        let lands = move |fate| {
            let failed = |message| (Err(Error::new(ErrorKind::Unavailable, message)), None);
            let (told, left): (_, Option<Effect>) = match fate {
                Fate::Answered => (effect(), None),
                Fate::AnswerLost => {
                    drop(effect());
                    failed("the answer is lost")
                }
                Fate::Lost => failed("the answer is lost"),
                Fate::Refused => failed(REFUSED),
                Fate::Late => (failed("the answer is lost").0, Some(Box::new(|| drop(effect())))),
            };
            let mut slot = slot.borrow_mut();
            slot.0 = Some(told);
            if let Some(waker) = slot.1.take() {
                waker.wake();
            }
            left
        };
        let lands = Lands::As(Box::new(lands));
        self.0.sent.borrow_mut().push(Sent { name: format!("{name} of {request}"), lands });
        Box::pin(poll_fn(move |context| {
            let mut slot = answer.borrow_mut();
            match slot.0.take() {
                Some(told) => Poll::Ready(told),
                None => {
                    slot.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

/// In which a deadline passes when the clock has moved far enough, and any shorter pause lets others go first.
impl Platform for World {
    fn now(&self) -> u64 {
        self.0.now.get()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        for chunk in bytes.chunks_mut(8) {
            self.0.drawn.set(self.0.drawn.get() + 1);
            chunk.copy_from_slice(&scramble(self.0.drawn.get()).to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }

    fn sleep(&self, milliseconds: u32) -> Sleep {
        let world = self.clone();
        let end = self.now() + u64::from(milliseconds) / 1000;
        let mut began = None;
        Box::pin(poll_fn(move |context| {
            let rests = world.0.rests.get() && world.under_way() > 0;
            let has_waited = began.is_some_and(|began| !rests || world.0.landed.get() != began);
            let is_over = if milliseconds < 5000 { has_waited } else { world.now() >= end };
            if is_over {
                return Poll::Ready(());
            }
            if milliseconds < 5000 {
                began.get_or_insert(world.0.landed.get());
                if rests {
                    world.0.resting.borrow_mut().push(context.waker().clone());
                } else {
                    context.waker().wake_by_ref();
                }
            } else {
                world.0.waiting.borrow_mut().push(context.waker().clone());
            }
            Poll::Pending
        }))
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        self.tell(format_args!("log: {line}"));
        self.0.log.borrow_mut().push(line.to_string());
    }
}

/// Whether a request has something to do.
#[derive(Default)]
pub struct Turn(AtomicBool);

impl Turn {
    pub fn first() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub fn is_due(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn take(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
