use std::cell::RefCell;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arrival::Arrival;
use crate::timing::Stopwatch;
use crate::{Error, ErrorKind, Opened, Session, Sessions, Timing};

/// Where one request's session is while its handler runs.
pub(super) struct Slot<T> {
    pub(super) sessions: Sessions,
    pub(super) arrival: Rc<Arrival>,
    pub(super) place: RefCell<Place<T>>,
    pub(super) timing: RefCell<Timing>,
}

/// Where a session is.
pub(super) enum Place<T> {
    /// Nobody has asked for it, and no store was.
    Unopened,
    /// With a handler.
    Out,
    /// Here: nobody has it at the moment.
    In(Session<T>),
    /// There is none to be had: it expired, and the parameters ask to say so.
    Expired { message: String, set_cookie: Vec<String> },
}

/// What is given to a handler that asks for its session.
pub(super) enum Taken<S> {
    Session(S),
    Expired { message: String },
}

impl<T: Default + Serialize + DeserializeOwned> Slot<T> {
    pub(super) fn new(sessions: &Sessions, arrival: &Rc<Arrival>) -> Rc<Self> {
        Rc::new(Self {
            sessions: sessions.clone(),
            arrival: Rc::clone(arrival),
            place: RefCell::new(Place::Unopened),
            timing: RefCell::default(),
        })
    }

    /// The session, loaded at its first use.
    pub(super) async fn take(&self) -> Result<Taken<Session<T>>, Error> {
        let is_unopened = matches!(*self.place.borrow(), Place::Unopened);
        let opened = if is_unopened { Some(self.open().await?) } else { None };
        let mut place = self.place.borrow_mut();
        // Another extractor may have opened it meanwhile.
        if let (Place::Unopened, Some(opened)) = (&*place, opened) {
            *place = match opened {
                Opened::Session(session) => Place::In(session),
                Opened::Expired { message, set_cookie } => Place::Expired { message, set_cookie },
            };
        }
        match std::mem::replace(&mut *place, Place::Out) {
            Place::In(session) => Ok(Taken::Session(session)),
            Place::Expired { message, set_cookie } => {
                *place = Place::Expired { message: message.clone(), set_cookie };
                Ok(Taken::Expired { message })
            }
            Place::Unopened | Place::Out => Err(Error::new(
                ErrorKind::Nested,
                format_args!(
                    "a handler asked for its Session<{}> while it, or a middleware around it, had it already: pass it on instead",
                    std::any::type_name::<T>()
                ),
            )),
        }
    }

    async fn open(&self) -> Result<Opened<T>, Error> {
        let mut stopwatch = Stopwatch::started(self.sessions.platform(), self.sessions.parameters().server_timing);
        let opened = self.sessions.open_for::<T>(&self.arrival).await;
        let mut timing = self.timing.borrow_mut();
        timing.load = timing.load.saturating_add(stopwatch.lap());
        timing.loaded = matches!(&opened, Ok(Opened::Session(session)) if !session.is_new());
        opened
    }
}

impl<T> Slot<T> {
    /// Takes the session back.
    pub(super) fn put(&self, session: Session<T>) {
        *self.place.borrow_mut() = Place::In(session);
    }
}
