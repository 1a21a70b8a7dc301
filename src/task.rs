//! Futures for the runtime to wait for.
//!
//! wasm-bindgen's `future_to_promise` makes a promise for each future, and polls by `queueMicrotask`, which in a
//! Worker costs as much as a signature each time (`bench/RESULTS.md`). Here a future is polled at once: one that asks
//! nobody, as a request without a valid cookie, is done with that, and makes no promise.

use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::js_sys::Promise;

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
}

/// What `future` comes to: the value itself, if it is there at once, or a promise of it.
pub(crate) fn run(future: impl Future<Output = Outcome> + 'static) -> JsValue {
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
