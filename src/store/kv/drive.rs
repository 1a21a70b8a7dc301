//! Puts what waits to be stored: done by whoever waits for it, in their own request.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::known::Awaited;
use super::marks::session;
use super::puts::{Step, Task, Turn};
use super::write::Write;
use super::{Kv, KvFailure, KvNamespace};
use crate::log::{self, Event};
use crate::platform::random_pause;
use crate::{Error, ErrorKind, Platform, Record, RecordKey};

/// KV refuses an expiration less than 60 seconds ahead; this leaves its clock a minute to differ from ours.
const LEAST_LIFE: u64 = 120;

/// Behind a reply, a call that takes longer, in milliseconds, has failed.
const CALL_TAKES: u32 = 5_000;

/// How often the write of a mark that met 429 is tried again.
pub(super) const REPETITIONS: u32 = 3;

/// Why a write is not stored.
pub(super) enum NotStored {
    /// It was tried.
    GivenUp {
        error: Error,
        /// Whether it may be stored all the same.
        is_unsure: bool,
    },
    /// Its session has ended meanwhile: killed, or moved, with the version of the retired record.
    Ended(Option<u64>),
}

impl NotStored {
    pub(super) fn unknown() -> Self {
        Self::GivenUp { error: Error::new(ErrorKind::Unavailable, "KV has not taken a write"), is_unsure: true }
    }
}

impl<N: KvNamespace, P: Platform> Kv<N, P> {
    /// When KV may forget what expires then. A request may have taken so long that its session's time is over.
    pub(super) fn expiration(&self, expires_at: u64) -> u64 {
        expires_at.max(self.platform.now()).saturating_add(LEAST_LIFE)
    }

    /// Waits until a write, or a newer one of the session, is stored: whoever waits stores the newest, when its time has come.
    /// `task`: the one that does so behind a reply, where nobody waits for this.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub(super) async fn stored(&self, key: &RecordKey, mut number: u64, task: Option<Task>) -> Result<(), NotStored> {
        // A platform whose sleep takes no time has a clock that stands.
        let mut now = self.platform.milliseconds();
        loop {
            let awaited = self.known.borrow_mut().step(key, number, task, now);
            match awaited {
                Awaited::Ended(moved) => return Err(NotStored::Ended(moved)),
                Awaited::Step(Step::Done) => {
                    let newer = task.and_then(|task| self.known.borrow_mut().goes_on(key, task, now));
                    let Some(newer) = newer else { return Ok(()) };
                    number = newer;
                }
                Awaited::Step(Step::GaveUp { failure: None, is_unsure }) => {
                    let error = Error::new(ErrorKind::Unavailable, "KV has not taken a write");
                    return Err(NotStored::GivenUp { error, is_unsure });
                }
                // Of the work behind replies only the first that is told knows why, and says it, where nothing newer was stored.
                Awaited::Step(Step::GaveUp { failure: Some(failure), is_unsure }) => {
                    if task.is_some() {
                        let sentence = format_args!("a write of {key:?} behind a reply is given up: {failure}");
                        log::log(&self.platform, Event::WriteGivenUp, sentence);
                    }
                    if task.is_none() {
                        return Err(NotStored::GivenUp { error: failure.into(), is_unsure });
                    }
                }
                Awaited::Step(Step::Wait(milliseconds)) => {
                    let then = now.saturating_add(milliseconds);
                    if task.is_some_and(|task| then > task.until) {
                        return Ok(());
                    }
                    self.platform.sleep(u32::try_from(milliseconds).unwrap_or(u32::MAX)).await;
                    now = then;
                }
                Awaited::Step(Step::Put { turn: Turn::OnceMore, number, text, .. })
                    if self.is_outrun(key, &text).await || !self.known.borrow().waits(key, number) =>
                {
                    self.known.borrow_mut().is_outrun(key, number);
                }
                Awaited::Step(Step::Put { text, expires_at, number, .. }) => {
                    let (name, expiration) = (session(key), self.expiration(expires_at));
                    let put = self.namespace.put(&name, &text, expiration);
                    let answer = match task {
                        // Its visitor's request has a deadline.
                        None => Some(put.await),
                        Some(_) => within(&self.platform, put).await,
                    };
                    now = now.max(self.platform.milliseconds());
                    match answer {
                        Some(answer) => self.known.borrow_mut().answered(key, number, answer, now),
                        None => self.known.borrow_mut().is_broken_off(key, number, now),
                    }
                }
            }
            now = now.max(self.platform.milliseconds());
        }
    }

    /// Writes a name that is no session's record.
    pub(super) async fn put(&self, name: &str, value: &str, expires_at: u64) -> Result<(), KvFailure> {
        let mut repetitions = 0..REPETITIONS;
        loop {
            match self.namespace.put(name, value, self.expiration(expires_at)).await {
                Err(KvFailure::TooManyWrites) if repetitions.next().is_some() => self.wait_a_second().await,
                settled => return settled,
            }
        }
    }

    /// So that a name can be written again, and not by all at once who wait for it.
    pub(super) async fn wait_a_second(&self) {
        random_pause(&self.platform, 1000, 500).await;
    }

    /// Whether KV shows what is built on this already: to store it once more would take that back.
    async fn is_outrun(&self, key: &RecordKey, text: &str) -> bool {
        let names = [session(key)];
        let Some(Ok(shown)) = within(&self.platform, self.namespace.get(&names)).await else { return false };
        let write = |text: &str| Record::from_text(text).ok().map(|record| Write::of(record).0);
        let shown = shown.into_iter().next().flatten().and_then(|shown| write(&shown));
        match (shown, write(text)) {
            (Some(shown), Some(own)) => !shown.is(&own) && shown.has(&own),
            _ => false,
        }
    }
}

/// The answer to a call, if it comes in time.
async fn within<R>(platform: &impl Platform, call: impl Future<Output = R>) -> Option<R> {
    let mut call = pin!(call);
    let mut timer = None;
    poll_fn(|context| {
        if let Poll::Ready(answer) = call.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        let timer = timer.get_or_insert_with(|| platform.sleep(CALL_TAKES));
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}
