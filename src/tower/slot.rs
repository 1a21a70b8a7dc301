use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::mem;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::stack::{Layered, Neighbours, log};
use crate::arrival::Arrival;
use crate::cross_origin::Senders;
use crate::log::log_ignored;
use crate::timing::Stopwatch;
use crate::{Effect, Error, ErrorKind, Opened, Session, Sessions, Timing};

/// Where one request's session is while its handler runs.
pub(super) struct Slot<T> {
    pub(super) sessions: Sessions,
    pub(super) arrival: Rc<Arrival>,
    place: RefCell<Place<T>>,
    pub(super) timing: RefCell<Timing>,
    neighbours: Neighbours,
    /// Whether something is stored of it while a handler has it.
    is_stored: Cell<bool>,
}

/// Where a session is.
pub(super) enum Place<T> {
    /// Nobody has asked for it, and no store was.
    Unopened,
    /// With a handler.
    Out,
    /// Here: nobody has it at the moment.
    In(Session<T>),
    /// Here, with the changes of a run that lost its race: to be opened again when it is asked for.
    Lost(Session<T>),
    /// It is being opened again.
    Reopening,
    /// It could not be opened: the next run tries again.
    Unavailable(Error),
    /// It could not be opened again.
    Failed(Error),
    /// There is none to be had: it expired, and the parameters ask to say so.
    Expired(Expiry),
    /// Likewise, and a handler that asked for it was refused.
    Told(Expiry),
}

/// While it lives, a lost session is being opened again. Who gives up on that has lost the race.
struct Reopening<'a, T>(&'a Slot<T>);

impl<T> Drop for Reopening<'_, T> {
    fn drop(&mut self) {
        let place = match self.0.replace(Place::Out) {
            Place::Reopening => Place::Failed(Error::contended()),
            other => other,
        };
        self.0.replace(place);
    }
}

/// The reply to one whose session has expired.
#[derive(Clone)]
pub(super) struct Expiry {
    pub(super) message: String,
    pub(super) set_cookie: Vec<String>,
}

/// What is given to a handler that asks for its session.
pub(super) enum Taken<S> {
    Session(S),
    Expired { message: String },
}

impl<T: Default + Serialize + DeserializeOwned> Slot<T> {
    pub(super) fn new(sessions: &Sessions, arrival: Rc<Arrival>, neighbours: Neighbours) -> Rc<Self> {
        Rc::new(Self {
            sessions: sessions.clone(),
            arrival,
            place: RefCell::new(Place::Unopened),
            timing: RefCell::default(),
            neighbours,
            is_stored: Cell::new(false),
        })
    }

    /// The session, loaded at its first use in a run. Work that went on from an earlier run gets none of a later one.
    pub(super) async fn take(&self, run: u32, senders: Senders) -> Result<Taken<Session<T>>, Error> {
        self.check_run(run)?;
        if senders == Senders::ThisSite {
            self.sessions.check_site(&self.arrival)?;
        }
        let place = match self.replace(Place::Out) {
            Place::Unopened => {
                // Another extractor may ask for it meanwhile, or this one be dropped.
                self.replace(Place::Unopened);
                let opened = self.timed(self.sessions.open_for(&self.arrival)).await;
                self.check_run(run)?;
                match (self.replace(Place::Out), opened) {
                    (Place::Unopened, Ok(Opened::Session(session))) => Place::In(session),
                    (Place::Unopened, Ok(Opened::Expired { message, set_cookie })) => {
                        Place::Expired(Expiry { message, set_cookie })
                    }
                    (Place::Unopened, Err(error)) => Place::Unavailable(error.traced()),
                    (other, _) => other,
                }
            }
            Place::Lost(session) => {
                self.replace(Place::Reopening);
                let reopening = Reopening(self);
                let reopened = self.timed(self.sessions.reopen(session)).await;
                drop(reopening);
                if let Err(late) = self.check_run(run) {
                    if let (Place::Failed(_), Ok(session)) = (self.replace(Place::Out), reopened) {
                        self.replace(Place::Lost(session));
                    }
                    return Err(late);
                }
                self.replace(Place::Out);
                match reopened {
                    Ok(session) => Place::In(session),
                    Err(error) => Place::Failed(error.traced()),
                }
            }
            other => other,
        };
        match place {
            Place::In(session) => {
                self.timing.borrow_mut().loaded = !session.is_new();
                Ok(Taken::Session(session))
            }
            Place::Expired(Expiry { ref message, .. }) | Place::Told(Expiry { ref message, .. }) => {
                let message = message.clone();
                self.replace(place);
                Ok(Taken::Expired { message })
            }
            Place::Unavailable(ref error) | Place::Failed(ref error) => {
                let error = error.clone();
                self.replace(place);
                Err(error)
            }
            Place::Reopening => {
                self.replace(place);
                Err(self.asked_for_twice())
            }
            Place::Unopened | Place::Lost(_) | Place::Out => Err(self.asked_for_twice()),
        }
    }

    fn check_run(&self, run: u32) -> Result<(), Error> {
        if self.neighbours.is_running() && run == self.neighbours.run() {
            return Ok(());
        }
        let error =
            self.nested("was asked for after its layer had answered, so that nothing of it would be saved").traced();
        log(&self.sessions, &error);
        Err(error)
    }

    fn asked_for_twice(&self) -> Error {
        self.nested("was asked for while a handler, or a middleware around it, had it already: pass it on instead")
    }

    pub(super) fn nested(&self, what: &str) -> Error {
        Error::new(ErrorKind::Nested, format_args!("a Session<{}> {what}", type_name::<T>()))
    }

    async fn timed<R>(&self, load: impl Future<Output = R>) -> R {
        let mut stopwatch = Stopwatch::started(self.sessions.platform(), self.sessions.parameters().server_timing);
        let loaded = load.await;
        let mut timing = self.timing.borrow_mut();
        timing.load = timing.load.saturating_add(stopwatch.lap());
        loaded
    }
}

impl<T> Slot<T> {
    /// A write of its session by who has it: until it is done, and where it was, nothing runs again.
    pub(super) async fn written<R>(
        &self,
        session: &mut Session<T>,
        write: impl AsyncFnOnce(&mut Session<T>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.is_stored.set(true);
        let written = write(session).await;
        self.is_stored.set(!Self::may_run_again_on(session));
        written
    }

    /// Whether nothing of what the handler did to it is stored.
    pub(super) fn may_run_again_on(session: &Session<T>) -> bool {
        let is_stored = matches!(session.effect(), Effect::Created | Effect::Saved | Effect::Moved | Effect::Killed);
        !is_stored && session.may_run_again()
    }

    /// Takes the session back.
    pub(super) fn put(&self, session: Session<T>) {
        self.replace(Place::In(session));
    }

    /// A handler that asked for it is refused.
    pub(super) fn tell(&self) {
        let place = match self.replace(Place::Out) {
            Place::Expired(expiry) => Place::Told(expiry),
            other => other,
        };
        self.replace(place);
    }

    pub(super) fn replace(&self, place: Place<T>) -> Place<T> {
        mem::replace(&mut *self.place.borrow_mut(), place)
    }
}

impl<T: 'static> Layered for Slot<T> {
    fn cookie_name(&self) -> &str {
        &self.sessions.parameters().cookie_name
    }

    fn type_name(&self) -> &'static str {
        type_name::<T>()
    }

    fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    fn is_open(&self) -> bool {
        matches!(*self.place.borrow(), Place::In(_) | Place::Out)
    }

    fn may_run_again(&self) -> bool {
        match &*self.place.borrow() {
            Place::In(session) => Self::may_run_again_on(session),
            // While its handler runs, a middleware has it, and gives it back.
            Place::Out => self.neighbours.is_running() && !self.is_stored.get(),
            _ => true,
        }
    }

    fn log(&self, error: &Error) {
        log(&self.sessions, error);
    }

    fn take_ignored(&self) -> Vec<Error> {
        self.arrival.refused.take()
    }

    fn log_ignored(&self, ignored: Vec<Error>) {
        log_ignored(self.sessions.platform(), ignored);
    }

    fn forget_run(&self) {
        let place = match self.replace(Place::Out) {
            Place::In(session) => Place::Lost(session),
            Place::Told(expiry) => Place::Expired(expiry),
            Place::Unavailable(_) => Place::Unopened,
            other => other,
        };
        self.replace(place);
    }
}
