use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use crate::arrival::Arrival;
use crate::{Error, ErrorKind};

/// Which requests' handlers are being polled at this moment, from the outermost to the innermost.
///
/// A request that begins while the handler of another one on the same session is polled was begun by that handler. The
/// two would load one session and race each other to the store, each running again because of the other. Concurrent
/// requests are not polled within each other, and other kinds of session have a list of their own.
#[derive(Default)]
pub(crate) struct Nesting {
    polled: RefCell<Vec<Rc<Arrival>>>,
}

impl Nesting {
    /// Refuses a request that is made by a handler which runs for the same one.
    ///
    /// # Errors
    ///
    /// `Nested`.
    pub(crate) fn check(&self, arrival: &Arrival) -> Result<(), Error> {
        if self.polled.borrow().iter().any(|outer| outer.is_same(arrival)) {
            return Err(Error::new(
                ErrorKind::Nested,
                "a handler called `serve` or `run` for the session that it has: the two would overwrite each other; \
                 pass the handler's `&mut Session` on instead",
            ));
        }
        Ok(())
    }

    /// The request whose handler is being polled at this moment, the innermost one.
    #[cfg(feature = "users")]
    pub(crate) fn current(&self) -> Option<Rc<Arrival>> {
        self.polled.borrow().last().cloned()
    }

    /// Runs a handler for this request.
    pub(crate) async fn within<F: Future>(&self, arrival: &Rc<Arrival>, handler: F) -> F::Output {
        let mut handler = pin!(handler);
        poll_fn(|context| {
            self.polled.borrow_mut().push(Rc::clone(arrival));
            let _left = Left(self);
            handler.as_mut().poll(context)
        })
        .await
    }
}

/// Takes the request from the list when the poll ends, by a panic too.
struct Left<'a>(&'a Nesting);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.polled.borrow_mut().pop();
    }
}
