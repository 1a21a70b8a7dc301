//! Requests that wait for each other, whatever the machine's speed.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::launcher::{Worker, eventually};
use crate::visitor::Visitor;

/// Where the handlers of slow routes wait until it opens.
pub struct Gate<'worker> {
    worker: &'worker Worker,
    name: usize,
}

impl<'worker> Gate<'worker> {
    pub fn new(worker: &'worker Worker) -> Self {
        static NAMES: AtomicUsize = AtomicUsize::new(0);
        Self { worker, name: NAMES.fetch_add(1, Ordering::Relaxed) }
    }

    /// This route, whose handler waits here.
    pub fn before(&self, route: &str) -> String {
        format!("{route}?gate={}", self.name)
    }

    /// Until so many handlers wait here: each has loaded its session.
    pub fn has(&self, handlers: usize) {
        let waiting = || Visitor::default().get(self.worker, &self.before("gate")).body;
        eventually("the handlers have come to their gate", || waiting() == handlers.to_string());
    }

    pub fn open(&self) {
        assert_eq!(Visitor::default().post_form(self.worker, &self.before("gate"), b"").status, 200);
    }
}
