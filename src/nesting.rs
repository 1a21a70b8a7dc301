use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use crate::cookie::SignedId;
use crate::{Error, ErrorKind};

/// Which requests' handlers are being polled at this moment, from the outermost to the innermost.
///
/// A request that begins while the handler of another one with the same cookie is polled was begun by that handler. The
/// two would load one session and race each other to the store, each running again because of the other. Concurrent
/// requests are not polled within each other, and other kinds of session have a list of their own.
#[derive(Default)]
pub(crate) struct Nesting {
    polled: RefCell<Vec<Rc<[SignedId]>>>,
}

impl Nesting {
    /// Refuses a request with these ids that is made by a handler which runs for them.
    ///
    /// # Errors
    ///
    /// `Nested`.
    pub(crate) fn check(&self, ids: &[SignedId]) -> Result<(), Error> {
        let is_same =
            |outer: &Rc<[SignedId]>| outer.iter().any(|id| ids.contains(id)) || outer.is_empty() && ids.is_empty();
        if self.polled.borrow().iter().any(is_same) {
            return Err(Error::new(
                ErrorKind::Nested,
                "a handler called `serve` or `run` for the request that it is answering: the two sessions would overwrite \
                 each other; pass the handler's `&mut Session` on instead",
            ));
        }
        Ok(())
    }

    /// Runs a handler for these ids.
    pub(crate) async fn within<F: Future>(&self, ids: &Rc<[SignedId]>, handler: F) -> F::Output {
        let mut handler = pin!(handler);
        poll_fn(|context| {
            self.polled.borrow_mut().push(Rc::clone(ids));
            let _left = Left(self);
            handler.as_mut().poll(context)
        })
        .await
    }
}

/// Takes the mark away when the poll ends, by a panic too.
struct Left<'a>(&'a Nesting);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.polled.borrow_mut().pop();
    }
}
