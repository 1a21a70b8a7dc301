//! Virtual time: whoever waits is woken when the clock has moved to its moment, and nobody waits for real.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use edge_session::{Error, Platform, Sleep, Work};

pub const NOW: u64 = 1_764_000_000;

/// A number that is well mixed after each number: splitmix64.
#[derive(Clone, Debug)]
pub struct Random(Rc<Cell<u64>>);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(Cell::new(seed)))
    }

    pub fn draw(&self) -> u64 {
        let next = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&self, end: u64) -> u64 {
        self.draw() % end
    }

    pub fn one_in(&self, of: u64) -> bool {
        self.below(of) == 0
    }
}

/// A clone is another handle on the same clock.
#[derive(Clone, Debug)]
pub struct Clock {
    milliseconds: Rc<Cell<u64>>,
    random: Random,
    /// Who waits, by the moment and in the order of asking.
    waiting: Rc<RefCell<BTreeMap<(u64, u64), Waker>>>,
    asked: Rc<Cell<u64>>,
    /// Work behind replies, and how much of it the platform has broken off.
    works: Rc<RefCell<Vec<Behind>>>,
    broken_off: Rc<Cell<usize>>,
    pub log: Rc<RefCell<Vec<String>>>,
}

/// The platform gives work behind a reply so many milliseconds, and breaks it off then.
const BEHIND_FOR: u64 = 30_000;

/// Work behind a reply, in the isolate that gave it.
#[derive(Debug)]
struct Behind {
    isolate: u32,
    ends: u64,
    work: Task<'static>,
}

/// What is run by the clock.
struct Task<'a> {
    turn: Arc<Turn>,
    /// `None` when it is done.
    future: Option<Pin<Box<dyn Future<Output = ()> + 'a>>>,
}

impl<'a> Task<'a> {
    fn new(future: Pin<Box<dyn Future<Output = ()> + 'a>>) -> Self {
        Self { turn: Arc::new(Turn(AtomicBool::new(true))), future: Some(future) }
    }

    fn is_done(&self) -> bool {
        self.future.is_none()
    }

    /// Goes on, if it was woken. Whether it was.
    fn poll(&mut self) -> bool {
        let Some(future) = &mut self.future else { return false };
        if !self.turn.0.swap(false, Ordering::Relaxed) {
            return false;
        }
        let waker = Waker::from(Arc::clone(&self.turn));
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.future = None;
        }
        true
    }
}

impl fmt::Debug for Task<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Task")
    }
}

impl Clock {
    pub fn new(seed: u64) -> Self {
        Self {
            milliseconds: Rc::new(Cell::new(NOW * 1000)),
            random: Random::new(seed ^ 0x5EED),
            waiting: Rc::default(),
            asked: Rc::default(),
            works: Rc::default(),
            broken_off: Rc::default(),
            log: Rc::default(),
        }
    }

    pub async fn pause(&self, milliseconds: u64) {
        let until = self.milliseconds.get() + milliseconds;
        let place = (until, self.asked.replace(self.asked.get() + 1));
        poll_fn(|context| {
            if self.milliseconds.get() >= until {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().insert(place, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// What comes of it within so many milliseconds. `None` where it is given up then: a visitor who leaves.
    pub async fn within<R>(&self, milliseconds: u64, future: impl Future<Output = R>) -> Option<R> {
        let (mut future, mut end) = (pin!(future), pin!(self.pause(milliseconds)));
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => end.as_mut().poll(context).map(|()| None),
        })
        .await
    }

    /// Moves the clock to the next moment for which somebody waits. Not beyond `end`.
    fn advance(&self, end: u64) -> bool {
        let first = self.waiting.borrow_mut().pop_first();
        let Some(((moment, _), waker)) = first else { return false };
        if moment > end {
            return false;
        }
        self.milliseconds.set(self.milliseconds.get().max(moment));
        waker.wake();
        true
    }

    /// Runs all of these to their ends, by the clock. Work behind replies goes on beside them.
    pub fn run(&self, tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
        let end = self.milliseconds.get() + 24 * 60 * 60 * 1000;
        let mut tasks: Vec<_> = tasks.into_iter().map(Task::new).collect();
        loop {
            let mut moved = false;
            for task in &mut tasks {
                moved |= task.poll();
            }
            // What is begun meanwhile is taken up at the next look.
            let mut works = self.works.take();
            let begun = works.len();
            works.retain(|behind| self.milliseconds.get() < behind.ends);
            self.broken_off.set(self.broken_off.get() + begun - works.len());
            for behind in &mut works {
                moved |= behind.work.poll();
            }
            works.retain(|behind| !behind.work.is_done());
            works.append(&mut self.works.borrow_mut());
            self.works.replace(works);
            if tasks.iter().all(Task::is_done) {
                return;
            }
            assert!(moved || self.advance(end), "a request hangs");
        }
    }

    /// How many works are under way behind replies.
    pub fn works(&self) -> usize {
        self.works.borrow().len()
    }

    /// How many the platform has broken off, since they took too long.
    pub fn broken_off(&self) -> usize {
        self.broken_off.get()
    }

    /// An isolate is no more, and with it what it was doing behind replies. Whether that was something.
    pub fn kill(&self, isolate: u32) -> bool {
        let mut works = self.works.borrow_mut();
        let before = works.len();
        works.retain(|behind| behind.isolate != isolate);
        works.len() < before
    }
}

/// One isolate's clock, which may be ahead of the others or behind them.
#[derive(Clone, Debug)]
pub struct IsolateClock {
    pub clock: Clock,
    pub isolate: u32,
    pub ahead: i64,
}

impl Platform for IsolateClock {
    fn now(&self) -> u64 {
        self.milliseconds() / 1000
    }

    fn milliseconds(&self) -> u64 {
        self.clock.milliseconds.get().checked_add_signed(self.ahead).unwrap()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        self.clock.fill_random(bytes)
    }

    fn sleep(&self, milliseconds: u32) -> Sleep {
        self.clock.sleep(milliseconds)
    }

    fn wait_until(&self, work: Work) -> Work {
        let ends = self.clock.milliseconds.get() + BEHIND_FOR;
        self.clock.works.borrow_mut().push(Behind { isolate: self.isolate, ends, work: Task::new(work) });
        Box::pin(std::future::ready(()))
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        self.clock.log(line);
    }
}

#[derive(Debug)]
struct Turn(AtomicBool);

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Platform for Clock {
    fn now(&self) -> u64 {
        self.milliseconds.get() / 1000
    }

    fn milliseconds(&self) -> u64 {
        self.milliseconds.get()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.random.draw().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }

    fn sleep(&self, milliseconds: u32) -> Sleep {
        let clock = self.clone();
        Box::pin(async move { clock.pause(u64::from(milliseconds)).await })
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        self.log.borrow_mut().push(line.to_string());
    }
}
