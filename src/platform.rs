use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::{Error, ErrorKind};

/// What the session layer asks of the world around it: the time, randomness, a pause and a log.
///
/// In a Worker it is the runtime's; in tests it is a [`TestPlatform`], whose clock is the test's.
pub trait Platform {
    /// Seconds since 1970-01-01 UTC.
    fn now(&self) -> u64;

    /// Milliseconds since 1970-01-01 UTC, for measuring how long something takes.
    ///
    /// The default is as coarse as [`now`](Self::now). (In a Worker the clock stands still between
    /// two calls to the outside, so that computing takes no time there.)
    fn milliseconds(&self) -> u64 {
        self.now().saturating_mul(1000)
    }

    /// Fills `bytes` from a cryptographically secure source.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the source has none to give.
    fn fill_random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(bytes)
            .map_err(|error| Error::new(ErrorKind::Unavailable, format_args!("no random bytes: {error}")))
    }

    /// Waits, without holding up other requests.
    fn sleep(&self, milliseconds: u32) -> Sleep;

    /// Work that a reply need not wait for, and that must be done all the same. What is given back is for the caller to
    /// await before it replies: the default gives all of it back. A platform that goes on after the reply, as a Worker
    /// with `waitUntil`, takes the work and gives back a future that is ready.
    fn wait_until(&self, work: Work) -> Work {
        work
    }

    /// One line for the operator. It never holds an id, a cookie or a key.
    fn log(&self, line: fmt::Arguments<'_>);
}

/// A pause, which ends by itself, or when it is dropped.
pub type Sleep = Pin<Box<dyn Future<Output = ()>>>;

/// Something to be done, of which nobody awaits a result.
pub type Work = Pin<Box<dyn Future<Output = ()>>>;

/// Waits for `least` milliseconds and a random part of `longest`, so that those who failed together do not return
/// together. Without random bytes the pause is the longest.
pub(crate) async fn random_pause(platform: &(impl Platform + ?Sized), least: u32, longest: u32) {
    let mut random = [u8::MAX; 1];
    drop(platform.fill_random(&mut random));
    let [random] = random;
    let part = longest.saturating_mul(u32::from(random)) >> 8;
    platform.sleep(part.saturating_add(least)).await;
}

/// A platform for tests: the clock stands until it is moved, sleeping takes no time, the log is kept.
///
/// A clone is another handle on the same platform.
///
/// ```
/// use edge_session::{Platform, TestPlatform};
///
/// let platform = TestPlatform::at(1_764_000_000);
/// platform.advance(60);
/// platform.log(format_args!("tick"));
/// assert_eq!(platform.now(), 1_764_000_060);
/// assert_eq!(platform.logged(), ["tick"]);
/// ```
#[derive(Clone, Debug)]
pub struct TestPlatform {
    now: Rc<Cell<u64>>,
    slept: Rc<RefCell<Vec<u32>>>,
    log: Rc<RefCell<Vec<String>>>,
}

impl TestPlatform {
    /// A platform whose clock shows `now`, in seconds since 1970-01-01 UTC.
    #[must_use]
    pub fn at(now: u64) -> Self {
        Self { now: Rc::new(Cell::new(now)), slept: Rc::default(), log: Rc::default() }
    }

    /// Moves the clock forward.
    pub fn advance(&self, seconds: u64) {
        self.now.set(self.now.get().saturating_add(seconds));
    }

    /// The pauses asked for so far, in milliseconds. A store call's deadline is one of them.
    #[must_use]
    pub fn slept(&self) -> Vec<u32> {
        self.slept.borrow().clone()
    }

    /// The lines logged so far.
    #[must_use]
    pub fn logged(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

impl Platform for TestPlatform {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn sleep(&self, milliseconds: u32) -> Sleep {
        self.slept.borrow_mut().push(milliseconds);
        Box::pin(std::future::ready(()))
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        self.log.borrow_mut().push(line.to_string());
    }
}
