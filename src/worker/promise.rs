//! The runtime's promises as futures.
//!
//! wasm-bindgen's `JsFuture` makes two closures into the Worker for each promise, which cost it more than a request's
//! signatures do (`bench/RESULTS.md`). Here one callback serves all promises, told apart by numbers.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::{Closure, wasm_bindgen};
use worker::js_sys::{Function, Promise};

/// What a promise came to, or what it was rejected with.
pub(crate) type Outcome = Result<JsValue, JsValue>;

#[wasm_bindgen(module = "/src/worker/promise.js")]
extern "C" {
    fn settle(promise: &Promise, number: u32, settled: &Function);
    fn after(milliseconds: u32, number: u32, settled: &Function);
}

thread_local! {
    static AWAITED: RefCell<Numbered<Awaited>> = const { RefCell::new(Numbered::new()) };
    /// The one callback of all promises.
    static SETTLED: Function = Closure::<dyn Fn(u32, bool, JsValue)>::new(settled).into_js_value().into();
}

/// A promise that a future waits for.
#[derive(Default)]
struct Awaited {
    waker: Option<Waker>,
    outcome: Option<Outcome>,
}

/// The runtime calls this. If nobody waits for the promise any more, it does nothing.
fn settled(number: u32, fulfilled: bool, value: JsValue) {
    let waker = AWAITED.with_borrow_mut(|all| {
        let awaited = all.get_mut(number)?;
        awaited.outcome = Some(if fulfilled { Ok(value) } else { Err(value) });
        awaited.waker.take()
    });
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// What a promise comes to.
///
/// One that never settles, because the runtime broke its request off, leaves an entry of some hundred bytes
/// behind when its future is not dropped either.
pub(crate) struct Settled {
    number: u32,
}

impl Settled {
    pub(crate) fn of(promise: &Promise) -> Self {
        Self::by(|number, settled| settle(promise, number, settled))
    }

    /// What a call comes to that throws or answers a promise.
    pub(crate) async fn of_call(call: Result<Promise, JsValue>) -> Outcome {
        Self::of(&call?).await
    }

    /// A pause. Its timer is not taken back when it is dropped, which would cost as much as setting it: it ends with
    /// the request, or finds that nobody waits.
    pub(crate) fn after(milliseconds: u32) -> Self {
        Self::by(|number, settled| after(milliseconds, number, settled))
    }

    fn by(ask: impl FnOnce(u32, &Function)) -> Self {
        let number = AWAITED.with_borrow_mut(|all| all.insert(Awaited::default()));
        SETTLED.with(|settled| ask(number, settled));
        Self { number }
    }
}

impl Future for Settled {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        AWAITED.with_borrow_mut(|all| {
            // It is there as long as this is.
            let Some(awaited) = all.get_mut(self.number) else { return Poll::Pending };
            match awaited.outcome.take() {
                Some(outcome) => Poll::Ready(outcome),
                None => {
                    awaited.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }
}

impl Drop for Settled {
    fn drop(&mut self) {
        // Dropped after the borrow, for the last waker may drop a task, and with it others of these.
        let awaited = AWAITED.with_borrow_mut(|all| all.remove(self.number));
        drop(awaited);
    }
}

/// A small map from numbers to things. It holds few at a time, so that a search costs less than a `HashMap` weighs.
struct Numbered<T> {
    last: u32,
    all: Vec<(u32, T)>,
}

impl<T> Numbered<T> {
    const fn new() -> Self {
        Self { last: 0, all: Vec::new() }
    }

    fn insert(&mut self, thing: T) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.all.push((self.last, thing));
        self.last
    }

    fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.all.iter_mut().find(|(its, _)| *its == number).map(|(_, thing)| thing)
    }

    fn remove(&mut self, number: u32) -> Option<T> {
        let place = self.all.iter().position(|(its, _)| *its == number)?;
        Some(self.all.swap_remove(place).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_leads_to_its_own_until_that_is_removed() {
        let mut numbered = Numbered::new();
        let [a, b, c] = ["a", "b", "c"].map(|thing| numbered.insert(thing));
        assert_eq!(numbered.remove(a), Some("a"));
        assert_eq!(numbered.remove(a), None);
        assert_eq!(numbered.get_mut(a), None);
        let d = numbered.insert("d");
        assert!(![a, b, c].contains(&d), "a number is not given again");
        assert_eq!([b, c, d].map(|number| numbered.get_mut(number).copied()), [Some("b"), Some("c"), Some("d")]);
    }
}
