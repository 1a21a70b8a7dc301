use std::any::Any;
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use axum_core::extract::Request;

use super::send::SendWrapper;
use crate::{Error, Sessions};

/// One layer's part of a request, as the layers for other types around it and within it see it.
///
/// Their sessions are committed one by one, but a handler that lost a race runs again for all of them or not at all:
/// what it did to the others' sessions in its first run must not be stored beside what it does in the second.
pub(super) trait Layered: Any {
    fn cookie_name(&self) -> &str;
    fn type_name(&self) -> &'static str;
    fn neighbours(&self) -> &Neighbours;

    /// Whether a handler has its session, or had it.
    fn is_open(&self) -> bool;

    /// Whether nothing of what the handler did to its session is stored.
    fn may_run_again(&self) -> bool;

    fn log(&self, error: &Error);

    /// The errors of calls on other sessions than its own, by handlers within it.
    fn take_ignored(&self) -> Vec<Error>;

    /// Says which of these were not answered.
    fn log_ignored(&self, ignored: Vec<Error>);

    /// Drops what the handler did: its session is loaded again when the next run asks for it.
    fn forget_run(&self);
}

/// Where a layer is with its request.
enum Standing {
    /// Its handler runs.
    Running,
    /// Its handler has answered.
    Answered,
    /// It has answered for the time being: it lost this race, and leaves it to a layer around it to run the handler again.
    /// (Not noted in its response, which a middleware between them may replace.)
    Lost(Error),
    /// The request comes to it once more, in another run of the handler.
    Awaited,
}

/// Who runs the handler again after a lost race.
pub(super) enum NextRun {
    /// The layer itself.
    Here,
    /// A layer around it: the outermost that has a session open.
    Around,
    /// Nobody can.
    Nowhere,
}

/// The layers next to one, in a request.
pub(super) struct Neighbours {
    standing: RefCell<Standing>,
    /// Which run of its handler it is, from 0.
    run: Cell<u32>,
    /// Whether its request can be given again.
    is_replayable: Cell<bool>,
    around: Option<Weak<dyn Layered>>,
    /// The run of the one around that it is part of.
    around_run: Cell<u32>,
    within: RefCell<Vec<Rc<dyn Layered>>>,
    /// The `Set-Cookie` lines that this one gave its reply, which goes if a layer around puts another in its place.
    set_cookie: RefCell<Vec<String>>,
    /// The errors that extractors within it were refused by. (A middleware between them may put a page of its own in the place of
    /// what tells of them.)
    rejected: RefCell<Vec<Error>>,
    /// Those of calls on other sessions than its own, by handlers within a layer within it.
    ignored: RefCell<Vec<Error>>,
}

impl Neighbours {
    /// Those of a layer that the request now reaches.
    pub(super) fn of(request: &Request) -> Self {
        let innermost = request.extensions().get::<Innermost>();
        let around = innermost.map(|innermost| innermost.layer.0.clone());
        let around_run = Cell::new(innermost.map_or(0, |innermost| innermost.run));
        Self {
            standing: RefCell::new(Standing::Running),
            run: Cell::new(0),
            is_replayable: Cell::new(false),
            around,
            around_run,
            within: RefCell::default(),
            set_cookie: RefCell::default(),
            rejected: RefCell::default(),
            ignored: RefCell::default(),
        }
    }

    /// Whether its handler runs.
    pub(super) fn is_running(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Running)
    }

    /// The next one around, unless it has answered: work that goes on after that is on its own.
    fn around(&self) -> Option<Rc<dyn Layered>> {
        let around = self.around.as_ref().and_then(Weak::upgrade);
        around.filter(|around| around.neighbours().is_running() && around.neighbours().run() == self.around_run.get())
    }

    fn is_awaited(&self) -> bool {
        matches!(*self.standing.borrow(), Standing::Awaited)
    }

    fn lost(&self) -> Option<Error> {
        match &*self.standing.borrow() {
            Standing::Lost(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Its handler has answered: what still goes on within it is on its own.
    pub(super) fn handler_is_done(&self) {
        self.standing.replace(Standing::Answered);
    }

    /// Its handler runs again.
    pub(super) fn handler_runs(&self) {
        self.run.set(self.run.get().saturating_add(1));
        self.standing.replace(Standing::Running);
    }

    pub(super) fn run(&self) -> u32 {
        self.run.get()
    }

    pub(super) fn note_replayable(&self, is_replayable: bool) {
        self.is_replayable.set(is_replayable);
    }

    /// Leaves this race to a layer around it.
    pub(super) fn leave(&self, lost: Error) {
        self.standing.replace(Standing::Lost(lost));
    }

    /// From the next one around outwards.
    fn all_around(&self) -> impl Iterator<Item = Rc<dyn Layered>> {
        std::iter::successors(self.around(), |outer| outer.neighbours().around())
    }

    /// Checks that no layer around gives sessions of this cookie, or for this type.
    ///
    /// # Errors
    ///
    /// `Misconfigured`: the two would overwrite each other's.
    pub(super) fn check<S: Layered>(&self, cookie_name: &str, type_name: &str) -> Result<(), Error> {
        let mut twins = self.all_around().filter(|outer| outer.cookie_name() == cookie_name || is::<S>(outer));
        match twins.next() {
            None => Ok(()),
            Some(outer) => Err(Error::misconfigured(format_args!(
                "a SessionLayer::<{type_name}> with the cookie `{cookie_name}` stands within a SessionLayer::<{}>: each type of \
                 session needs a layer and a `cookie_name` of its own",
                outer.type_name()
            ))),
        }
    }

    /// This layer's part of the run before, which nobody else takes, if one around it runs its handler again.
    pub(super) fn run_before<S: Layered>(&self, cookie_name: &str) -> Option<Rc<S>> {
        let around = self.around()?;
        let within = around.neighbours().within.borrow();
        let mut same =
            within.iter().filter(|inner| inner.neighbours().is_awaited() && inner.cookie_name() == cookie_name);
        let same: Rc<dyn Any> = Rc::<dyn Layered>::clone(same.next()?);
        let same: Rc<S> = same.downcast().ok()?;
        same.neighbours().around_run.set(self.around_run.get());
        same.neighbours().handler_runs();
        Some(same)
    }

    /// An extractor is refused by this.
    pub(super) fn note_rejected(&self, error: &Error) {
        self.rejected.borrow_mut().push(error.clone());
    }

    pub(super) fn note_set_cookie(&self, lines: &[String]) {
        lines.clone_into(&mut self.set_cookie.borrow_mut());
    }
}

/// The innermost layer that a request has reached.
#[derive(Clone)]
struct Innermost {
    layer: SendWrapper<Weak<dyn Layered>>,
    run: u32,
}

/// Makes a layer known to those around it, and to those that the request reaches after it.
pub(super) fn enter(request: &mut Request, layer: &Rc<dyn Layered>) {
    if let Some(outer) = layer.neighbours().around() {
        let mut within = outer.neighbours().within.borrow_mut();
        // A middleware that tries again has heard of a race that was lost before.
        for twin in within.iter().filter(|known| known.cookie_name() == layer.cookie_name()) {
            twin.give_up_lost();
        }
        if !within.iter().any(|known| Rc::ptr_eq(known, layer)) {
            within.push(Rc::clone(layer));
        }
    }
    leave_in(request, layer);
}

pub(super) fn leave_in(request: &mut Request, layer: &Rc<dyn Layered>) {
    let run = layer.neighbours().run();
    request.extensions_mut().insert(Innermost { layer: SendWrapper(Rc::downgrade(layer)), run });
}

/// While it lives, the layer has not answered.
pub(super) struct Answering<'a>(pub(super) &'a dyn Layered);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        let neighbours = self.0.neighbours();
        if neighbours.is_running() {
            neighbours.handler_is_done();
        }
        let (rejected, mut ignored) = (neighbours.rejected.take(), neighbours.ignored.take());
        ignored.append(&mut self.0.take_ignored());
        // A layer around may still answer them.
        if let Some(outer) = neighbours.around() {
            outer.neighbours().rejected.borrow_mut().extend(rejected);
            outer.neighbours().ignored.borrow_mut().extend(ignored);
            return;
        }
        // What nobody has answered, nobody else says.
        for error in rejected.iter().filter(|error| !error.is_answered()) {
            self.0.log(error);
        }
        self.0.log_ignored(ignored);
    }
}

/// What a visitor is not told, to the operator.
pub(super) fn log(sessions: &Sessions, error: &Error) {
    error.answered();
    sessions.platform().log(format_args!("{}: {error}", error.kind().as_str()));
}

/// The innermost layer that a request is in, for whatever type.
pub(super) fn innermost(parts: &http::request::Parts) -> Option<Rc<dyn Layered>> {
    parts.extensions.get::<Innermost>().and_then(|innermost| innermost.layer.0.upgrade())
}

fn is<S: Any>(layer: &Rc<dyn Layered>) -> bool {
    let layer: &dyn Any = &**layer;
    layer.is::<S>()
}

impl dyn Layered {
    /// Whether there is no layer around it.
    pub(super) fn is_outermost(&self) -> bool {
        self.neighbours().around().is_none()
    }

    /// Who runs the handler again: the outermost layer with an open session, if it can.
    pub(super) fn next_run(&self) -> NextRun {
        let mut all_may = true;
        let mut around = None;
        for outer in self.neighbours().all_around() {
            all_may &= outer.may_all_run_again();
            if outer.is_open() {
                around = Some(all_may && outer.neighbours().is_replayable.get());
            }
        }
        match around {
            Some(true) => NextRun::Around,
            None if self.can_run_again() => NextRun::Here,
            _ => NextRun::Nowhere,
        }
    }

    fn can_run_again(&self) -> bool {
        self.neighbours().is_replayable.get() && self.may_all_run_again()
    }

    /// Whether the handler may run again for it and for all layers within it. One within it that still runs is work that
    /// nobody waited for.
    fn may_all_run_again(&self) -> bool {
        let within = self.neighbours().within.borrow();
        self.may_run_again() && within.iter().all(|inner| inner.neighbours().is_running() || inner.may_all_run_again())
    }

    /// Drops what the handler did to the sessions of it and of all layers within it.
    pub(super) fn forget_run_of_all(&self) {
        self.forget_run();
        self.neighbours().set_cookie.borrow_mut().clear();
        // One that still runs is work that nobody waited for: it is on its own.
        self.neighbours().within.borrow_mut().retain(|inner| !inner.neighbours().is_running());
        for inner in self.neighbours().within.borrow().iter() {
            inner.neighbours().standing.replace(Standing::Awaited);
            inner.forget_run_of_all();
        }
    }

    /// Nobody runs its handler again for a race that it lost, or one within it, which each says.
    fn give_up_lost(&self) {
        if let Some(error) = self.neighbours().lost() {
            self.log(&error);
            self.neighbours().handler_is_done();
        }
        self.give_up_lost_within();
    }

    pub(super) fn give_up_lost_within(&self) {
        self.neighbours().within.borrow().iter().for_each(|inner| inner.give_up_lost());
    }

    /// The race that a layer within it lost, and left to it.
    pub(super) fn lost_within(&self) -> Option<Error> {
        let within = self.neighbours().within.borrow();
        within.iter().find_map(|inner| inner.neighbours().lost().or_else(|| inner.lost_within()))
    }

    /// The `Set-Cookie` lines that the layers within it have given their replies.
    pub(super) fn set_cookie_within(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let within = self.neighbours().within.borrow();
        for (place, inner) in within.iter().enumerate() {
            lines.extend(inner.set_cookie_within());
            // Of two tries the later one counts.
            let is_twin = |later: &&Rc<dyn Layered>| later.cookie_name() == inner.cookie_name();
            let mut later = within.iter().skip(place.saturating_add(1)).filter(is_twin);
            if later.all(|later| later.neighbours().set_cookie.borrow().is_empty()) {
                lines.extend_from_slice(&inner.neighbours().set_cookie.borrow());
            }
        }
        lines
    }
}
