use std::any::TypeId;

use axum_core::response::Response;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::headers::{Answered, Refused};
use super::slot::{Expiry, Place, Slot};
use super::stack::{Layered, NextRun};
use crate::timing::Stopwatch;
use crate::{Error, ErrorKind};

/// What a handler's answer came to.
pub(super) enum Settled {
    /// It has not asked for its session.
    Untouched,
    /// What it did to its session is stored. The `Set-Cookie` lines.
    Stored(Vec<String>),
    /// It was told that the session has expired.
    Expired(Expiry),
    /// It failed by itself. The `Set-Cookie` lines for what it has saved before.
    Failed(Vec<String>),
    /// There is no session to store: since this error, of which it has not answered.
    Unsaved(Option<Error>),
    /// It failed by an error of ours. The `Set-Cookie` lines for what it has saved before.
    Refused(Error, Vec<String>),
    /// It lost a race on its session, and may run again.
    Lost(Error),
    /// It lost a race on the session of a layer within this one.
    LostWithin(Error),
}

impl<T: Default + Serialize + DeserializeOwned + 'static> Slot<T> {
    /// Commits the session, or not, by what its handler answered.
    pub(super) async fn settle(&self, response: &Response) -> Settled {
        let answered = response.extensions().get::<Answered>();
        let rejected = answered.filter(|answered| answered.asked_for == Some(TypeId::of::<T>()));
        let rejected = rejected.map(|answered| answered.error.clone());
        let this: &dyn Layered = self;
        if this.is_open()
            && let Some(error) = this.lost_within()
        {
            if !matches!(this.next_run(), NextRun::Nowhere) {
                return Settled::LostWithin(error);
            }
            // The handler does not run again, so that its answer counts.
            this.give_up_lost_within();
        }
        let mut session = match self.replace(Place::Out) {
            Place::In(session) => session,
            Place::Out => {
                let error = self.nested(
                    "outlived its handler, so that nothing more of it was saved: drop it before the response leaves",
                );
                return Settled::Refused(error, Vec::new());
            }
            Place::Told(expiry) => {
                self.replace(Place::Told(expiry.clone()));
                return Settled::Expired(expiry);
            }
            other => {
                let unsaved = match &other {
                    Place::Unavailable(error) | Place::Failed(error) => Settled::Unsaved(Some(error.clone())),
                    // By a handler that did not wait for it.
                    Place::Reopening => Settled::Unsaved(Some(Error::contended())),
                    Place::Expired(_) => Settled::Unsaved(None),
                    _ => Settled::Untouched,
                };
                self.replace(other);
                return rejected.map_or(unsaved, |error| Settled::Refused(error, Vec::new()));
            }
        };
        let has_failed = answered.is_some()
            || response.extensions().get::<Refused>().is_some()
            || response.status().is_server_error();
        let refusal = if has_failed && rejected.is_some() {
            session.returned_refusal()
        } else if has_failed {
            let Some(returned) = session.returned_refusal() else {
                let set_cookie = self.sessions.set_cookie_of_saved(&mut session);
                self.put(session);
                return Settled::Failed(set_cookie);
            };
            Some(returned)
        } else {
            match self.sessions.commit(&mut session).await {
                Ok(set_cookie) => {
                    self.timing.borrow_mut().effect = session.effect();
                    self.put(session);
                    return Settled::Stored(set_cookie);
                }
                Err(refusal) => Some(refusal),
            }
        };
        let is_stored = !Self::may_run_again_on(&session);
        let set_cookie = if is_stored { self.sessions.set_cookie_of_saved(&mut session) } else { Vec::new() };
        self.put(session);
        match refusal {
            Some(refusal) if refusal.kind() == ErrorKind::Contended && self.may_run_again() => Settled::Lost(refusal),
            Some(refusal) => Settled::Refused(refusal, set_cookie),
            None => rejected.map_or(Settled::Unsaved(None), |error| Settled::Refused(error, set_cookie)),
        }
    }

    pub(super) fn stopwatch(&self) -> Stopwatch<'_> {
        Stopwatch::started(self.sessions.platform(), self.sessions.parameters().server_timing)
    }

    /// Notes how long a run took, but for what its loads took.
    pub(super) fn note_run(&self, lap: u64, loads_before: u64) {
        let mut timing = self.timing.borrow_mut();
        let loads = timing.load.saturating_sub(loads_before);
        timing.handler = timing.handler.saturating_add(lap.saturating_sub(loads));
        timing.attempts = timing.attempts.saturating_add(1);
    }

    pub(super) fn note_save(&self, lap: u64) {
        let mut timing = self.timing.borrow_mut();
        timing.save = timing.save.saturating_add(lap);
    }

    pub(super) fn server_timing(&self) -> Option<String> {
        self.sessions.parameters().server_timing.then(|| self.timing.borrow().to_string())
    }

    /// Ends a run whose answer is not its handler's.
    pub(super) fn abandon(&self) {
        match self.replace(Place::Out) {
            Place::In(mut session) => {
                drop(session.returned_refusal());
                self.put(session);
            }
            other => drop(self.replace(other)),
        }
    }
}
