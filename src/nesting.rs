use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use crate::cookie::SignedId;
use crate::{Error, ErrorKind};

/// Which requests' handlers are being polled at this moment, from the outermost to the innermost.
///
/// A request that begins while the handler of another one on the same session is polled was begun by that handler. The
/// two would load one session and race each other to the store, each running again because of the other. Concurrent
/// requests are not polled within each other, and other kinds of session have a list of their own.
#[derive(Default)]
pub(crate) struct Nesting {
    polled: RefCell<Vec<Rc<Mark>>>,
}

/// What a request is known by: its ids, or where it brings none, its URL.
pub(crate) struct Mark {
    pub(crate) ids: Vec<SignedId>,
    url: Option<String>,
}

impl Mark {
    pub(crate) fn of(ids: Vec<SignedId>, url: Option<&str>) -> Rc<Self> {
        let url = url.filter(|_| ids.is_empty()).map(str::to_owned);
        Rc::new(Self { ids, url })
    }

    fn is_same(&self, other: &Self) -> bool {
        self.ids.iter().any(|id| other.ids.contains(id)) || self.url.is_some() && self.url == other.url
    }
}

impl Nesting {
    /// Refuses a request that is made by a handler which runs for the same one.
    ///
    /// # Errors
    ///
    /// `Nested`.
    pub(crate) fn check(&self, mark: &Mark) -> Result<(), Error> {
        if self.polled.borrow().iter().any(|outer| outer.is_same(mark)) {
            return Err(Error::new(
                ErrorKind::Nested,
                "a handler called `serve` or `run` for the session that it has: the two would overwrite each other; \
                 pass the handler's `&mut Session` on instead",
            ));
        }
        Ok(())
    }

    /// Runs a handler for the request of this mark.
    pub(crate) async fn within<F: Future>(&self, mark: &Rc<Mark>, handler: F) -> F::Output {
        let mut handler = pin!(handler);
        poll_fn(|context| {
            self.polled.borrow_mut().push(Rc::clone(mark));
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
