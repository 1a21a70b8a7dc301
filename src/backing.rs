use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::rc::Rc;
use std::task::Poll;

use crate::platform::{Sleep, part_of};
use crate::record::Successor;
use crate::store::{Answer, AnyStore};
use crate::{Error, ErrorKind, Platform, Record, RecordKey, SessionParameters, Updated};

/// What sessions stand on, shared by all requests.
pub(crate) struct Shared {
    pub(crate) store: Box<dyn AnyStore>,
    pub(crate) platform: Box<dyn Platform>,
    pub(crate) parameters: SessionParameters,
}

/// What one request's session stands on: the store, reached within a deadline, the platform, and the
/// parameters.
pub(crate) struct Backing {
    shared: Rc<Shared>,
    /// The deadline that runs. It is left running from one call to the next, since setting and
    /// clearing it would cost more than all our own work on a request.
    timer: RefCell<Option<Sleep>>,
}

impl Deref for Backing {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// What a key leads to.
pub(crate) enum Loaded {
    /// A live record, under this key: another one than was asked for, if the id was changed.
    Record(RecordKey, Record),
    /// No record, or one whose time is over.
    Absent,
    /// Something that is no record; it has been logged.
    Unreadable,
}

/// A store call that takes longer than this many milliseconds, and at the latest twice as many, has
/// failed: a visitor is told so, and not kept waiting by a store that hangs.
pub(crate) const DEADLINE: u32 = 5000;

/// How often a request is tried when others on its session keep winning the race to the store.
pub(crate) const ATTEMPTS: u32 = 30;

/// How many changes of id within their grace are followed.
const HOPS: u32 = 4;

impl Backing {
    pub(crate) fn new(shared: &Rc<Shared>) -> Rc<Self> {
        Rc::new(Self { shared: Rc::clone(shared), timer: RefCell::new(None) })
    }

    /// The record that `key` leads to: what is stored, past a change of id, and by the clock.
    pub(crate) async fn load(&self, key: &RecordKey) -> Result<Loaded, Error> {
        let now = self.platform.now();
        let mut key = key.clone();
        for _ in 0..HOPS {
            let record = match self.within_deadline(self.store.load(&key)).await {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(Loaded::Absent),
                Err(error) if error.kind() == ErrorKind::Unreadable => {
                    self.log_unreadable(&key, &error);
                    return Ok(Loaded::Unreadable);
                }
                Err(error) => return Err(error),
            };
            match &record.successor {
                Some(Successor { key: next, until }) if now < *until => key = next.clone(),
                Some(_) => {
                    self.platform.log(format_args!(
                        "{key:?} was used after its id had been changed: possibly a stolen cookie; it gets nothing"
                    ));
                    return Ok(Loaded::Absent);
                }
                None if self.parameters.has_expired(&record, now) => return Ok(Loaded::Absent),
                None => return Ok(Loaded::Record(key, record)),
            }
        }
        Ok(Loaded::Absent)
    }

    pub(crate) async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        self.within_deadline(self.store.create(key, record)).await
    }

    pub(crate) async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.within_deadline(self.store.update(key, record)).await
    }

    /// Deletes the session under `key`, and where it has moved to since it was loaded. What moved
    /// longer ago is another's: the one who comes with the old id then may be a thief.
    pub(crate) async fn delete(&self, key: &RecordKey) -> Result<(), Error> {
        let now = self.platform.now();
        let mut next = Some(key.clone());
        while let Some(key) = next {
            let record = self.within_deadline(self.store.delete(&key)).await?;
            next = record.and_then(|record| record.successor).filter(|moved| now < moved.until).map(|moved| moved.key);
        }
        Ok(())
    }

    pub(crate) fn log_unreadable(&self, key: &RecordKey, reason: &impl fmt::Display) {
        self.platform.log(format_args!("{key:?} cannot be read, so its visitor gets a new session: {reason}"));
    }

    /// A number that no other write has.
    pub(crate) fn nonce(&self) -> Result<u32, Error> {
        let mut bytes = [0; 4];
        self.platform.fill_random(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Waits a random while, on average longer with each lost race, so that those who lost do not meet again.
    pub(crate) async fn back_off(&self, attempt: u32) -> Result<(), Error> {
        let mut random = [0; 1];
        self.platform.fill_random(&mut random)?;
        let [random] = random;
        let longest = 8_u32.saturating_mul(1 << attempt.min(7));
        self.platform.sleep(part_of(longest, random)).await;
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
