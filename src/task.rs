//! Futures for the runtime to wait for.
//!
//! wasm-bindgen's `future_to_promise` makes a promise for each future, and polls by `queueMicrotask`, which in a
//! Worker costs as much as a signature each time (`bench/RESULTS.md`). Here a future is polled at once: one that asks
//! nobody, as a request without a valid cookie, is done with that, and makes no promise.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::js_sys::Promise;

use crate::js;
use crate::promise::{Numbered, Outcome};

#[wasm_bindgen]
extern "C" {
    /// A promise, and how to settle it.
    type Deferred;
    #[wasm_bindgen(js_namespace = Promise, js_name = withResolvers)]
    fn deferred() -> Deferred;
    #[wasm_bindgen(method, getter)]
    fn promise(this: &Deferred) -> JsValue;
    #[wasm_bindgen(method)]
    fn resolve(this: &Deferred, value: &JsValue);
    #[wasm_bindgen(method)]
    fn reject(this: &Deferred, error: &JsValue);
}

type Running = Pin<Box<dyn Future<Output = Outcome>>>;

#[derive(Default)]
struct Task {
    /// `None` while it is polled.
    future: Option<Running>,
    /// Woken while it was polled, so that it is to be polled again.
    woken: bool,
    /// `None` during the first poll.
    deferred: Option<Deferred>,
}

thread_local! {
    static TASKS: RefCell<Numbered<Task>> = const { RefCell::new(Numbered::new()) };
    /// When there were last too many, and the number of the youngest then.
    static LOOKED: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// More tasks than this at once, and it is looked whether some of them will never end: those of requests that the
/// platform broke off, of which it tells nobody.
const MANY: usize = 256;

/// In milliseconds: longer than any request of ours takes, and than the platform lets a cron run take.
const LONG: u64 = 20 * 60 * 1000;

/// Lets go of tasks that have been there for too long.
fn forget_broken_off(now: u64) {
    let (looked_at, youngest) = LOOKED.get();
    if now.saturating_sub(looked_at) < LONG {
        return;
    }
    let old = TASKS.with_borrow_mut(|tasks| {
        LOOKED.set((now, tasks.last()));
        if looked_at == 0 { Vec::new() } else { tasks.remove_until(youngest) }
    });
    // Dropped after the borrow, for a future may end others.
    drop(old);
}

/// What `future` comes to: the value itself, if it is there at once, or a promise of it.
pub(crate) fn run(future: impl Future<Output = Outcome> + 'static) -> JsValue {
    if TASKS.with_borrow(|tasks| tasks.len() > MANY) {
        forget_broken_off(js::milliseconds());
    }
    let number = TASKS.with_borrow_mut(|tasks| tasks.insert(Task::default()));
    match poll(number, Box::pin(future)) {
        Some((_, Ok(value))) => value,
        Some((_, Err(error))) => Promise::reject(&error).into(),
        None => {
            let waiting = deferred();
            let promise = waiting.promise();
            TASKS.with_borrow_mut(|tasks| {
                if let Some(task) = tasks.get_mut(number) {
                    task.deferred = Some(waiting);
                }
            });
            promise
        }
    }
}

/// Polls until there is something to wait for, or an outcome, which ends the task.
fn poll(number: u32, mut future: Running) -> Option<(Task, Outcome)> {
    let waker = Waker::from(Arc::new(Wakeup(number)));
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            let task = TASKS.with_borrow_mut(|tasks| tasks.remove(number))?;
            return Some((task, outcome));
        }
        future = TASKS.with_borrow_mut(|tasks| {
            let task = tasks.get_mut(number)?;
            if mem::take(&mut task.woken) {
                return Some(future);
            }
            task.future = Some(future);
            None
        })?;
    }
}

/// Polls the task of this number.
struct Wakeup(u32);

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        let future = TASKS.with_borrow_mut(|tasks| {
            let task = tasks.get_mut(self.0)?;
            let future = task.future.take();
            task.woken = future.is_none();
            future
        });
        match future.and_then(|future| poll(self.0, future)) {
            Some((Task { deferred: Some(deferred), .. }, Ok(value))) => deferred.resolve(&value),
            Some((Task { deferred: Some(deferred), .. }, Err(error))) => deferred.reject(&error),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_were_there_twenty_minutes_ago_are_forgotten_and_later_ones_are_not() {
        let begin = || TASKS.with_borrow_mut(|tasks| tasks.insert(Task::default()));
        let are_there = |number| TASKS.with_borrow_mut(|tasks| tasks.get_mut(number).is_some());
        let old = begin();
        forget_broken_off(LONG);
        let later = begin();
        assert!(are_there(old), "how long it has been there is not known yet");
        forget_broken_off(2 * LONG - 1);
        assert!(are_there(old));
        forget_broken_off(2 * LONG);
        assert!(!are_there(old) && are_there(later));
        forget_broken_off(3 * LONG);
        assert!(!are_there(later));
    }
}
