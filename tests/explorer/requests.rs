//! What requests do to a session, what their handlers saw, and what was answered.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use edge_session::{Effect, Error, ErrorKind, Incoming, Opened, Outcome, Platform, Session, Sessions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::world::World;

/// The data of a session, as each release has it: which writes it is made of, who is logged in, and a voucher.
pub trait Data: Default + Serialize + DeserializeOwned {
    fn writes(&mut self) -> &mut Vec<u32>;
    fn user_mut(&mut self) -> &mut Option<u32>;
    fn vouchers(&mut self) -> &mut u32;
    fn seen(&self) -> Seen;
}

/// What a handler sees of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub writes: Vec<u32>,
    pub user: Option<u32>,
}

macro_rules! release {
    ($name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty),* }) => {
        #[derive(Default, Serialize, Deserialize)]
        pub struct $name {
            writes: Vec<u32>,
            user: Option<u32>,
            #[serde(default)]
            vouchers: u32,
            $($(#[$attribute])* $field: $type,)*
        }

        impl Data for $name {
            fn writes(&mut self) -> &mut Vec<u32> {
                &mut self.writes
            }
            fn user_mut(&mut self) -> &mut Option<u32> {
                &mut self.user
            }
            fn vouchers(&mut self) -> &mut u32 {
                &mut self.vouchers
            }
            fn seen(&self) -> Seen {
                Seen { writes: self.writes.clone(), user: self.user }
            }
        }
    };
}

release!(First {});
// A field was added, and what is stored looks different.
release!(Second { #[serde(default)] theme: f64, #[serde(default)] notes: Vec<String> });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Look,
    Count,
    CountByUpdate,
    /// Counts, saves, and does what is to be done once.
    CountAndDeliver,
    /// Saves, hides that it failed, and counts once more.
    CountAndGoOn,
    /// Begins a save, waits for something else, and counts once more.
    CountAndLeaveTheSave,
    /// Takes the voucher, and delivers for it.
    Take,
    TakeAndSave,
    /// Saves, and has changed nothing.
    Save,
    Reset,
    /// Ends the session at once, and once more if that failed.
    ResetAndSave,
    LogIn,
    LogInAndSave,
    /// Saves the new id, and counts after that.
    LogInAndCount,
    /// Counts by an update, hides what came of it, and logs in.
    UpdateAndLogIn,
    /// Signs a user in, always the same one; or another one, in the same browser.
    SignIn,
    SignInOther,
    /// Looks at the list of that user's sessions.
    List,
    /// Ends all of the user's sessions, or all but this one.
    EndAll,
    EndOthers,
}

impl Act {
    pub fn logs_in(self) -> bool {
        matches!(self, Self::LogIn | Self::LogInAndSave | Self::LogInAndCount | Self::UpdateAndLogIn) || self.signs_in()
    }

    pub fn signs_in(self) -> bool {
        matches!(self, Self::SignIn | Self::SignInOther)
    }

    pub fn logs_out(self) -> bool {
        matches!(self, Self::Reset | Self::ResetAndSave)
    }

    /// Whether a session may have ended after it.
    pub fn ends_sessions(self) -> bool {
        self.logs_out() || matches!(self, Self::SignInOther | Self::EndAll | Self::EndOthers)
    }

    /// Whether its handler changes the session's data.
    pub fn changes_data(self) -> bool {
        let is_other = matches!(self, Self::Look | Self::Save | Self::List | Self::EndAll | Self::EndOthers);
        !is_other && !self.logs_out()
    }
}

/// What a handler saw and did, all its runs together.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    pub runs: u32,
    pub saw: Vec<Seen>,
    /// What `Debug` said of the session at the beginning of each run, and when.
    pub states: Vec<(String, u64)>,
    /// When its last run began, in the order of events.
    pub ran: usize,
    /// How often it did what follows a save.
    pub delivered: u32,
    /// The handles of the sessions that were listed.
    pub listed: Vec<String>,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Replied { effect: Effect, attempts: u32 },
    Expired,
    Failed(ErrorKind),
}

#[derive(Clone, Debug)]
pub struct Got {
    pub act: Act,
    pub number: u32,
    pub browser: usize,
    /// The `Cookie` header that it was sent with.
    pub cookie: Option<String>,
    /// When it began and ended, in the order of events.
    pub began: usize,
    pub ended: Option<usize>,
    /// By the clock.
    pub began_at: u64,
    pub ended_at: u64,
    /// `None` while it runs, and if its visitor left.
    pub answer: Option<Answer>,
    pub set_cookie: Vec<String>,
    pub notes: Rc<RefCell<Notes>>,
}

impl Got {
    pub fn replied(&self) -> Option<Effect> {
        match self.answer {
            Some(Answer::Replied { effect, .. }) => Some(effect),
            _ => None,
        }
    }
}

/// Whose sessions are ended.
pub const USER: &str = "ada";
const OTHER: &str = "grace";

async fn handle<T: Data>(
    sessions: &Sessions,
    session: &mut Session<T>,
    act: Act,
    number: u32,
    notes: &RefCell<Notes>,
    world: &World,
) -> Result<(), Error> {
    {
        let mut notes = notes.borrow_mut();
        notes.runs += 1;
        notes.saw.push(session.seen());
        notes.states.push((format!("{session:?}"), world.now()));
        notes.ran = world.event();
    }
    match act {
        Act::Look => {}
        Act::Count => session.writes().push(number),
        Act::CountByUpdate => session.update(|data| data.writes().push(number)).await?,
        Act::CountAndDeliver => {
            session.writes().push(number);
            session.save().await?;
            notes.borrow_mut().delivered += 1;
        }
        Act::CountAndGoOn => {
            session.writes().push(number);
            drop(session.save().await);
            session.writes().push(number + 1000);
        }
        Act::CountAndLeaveTheSave => {
            session.writes().push(number);
            poll_once(session.save()).await;
            session.writes().push(number + 1000);
        }
        Act::Take => {
            let took = session
                .update(|data| {
                    let one = (*data.vouchers()).min(1);
                    *data.vouchers() -= one;
                    one
                })
                .await?;
            notes.borrow_mut().delivered += took;
        }
        Act::TakeAndSave => {
            let took = std::mem::take(session.vouchers());
            session.save().await?;
            notes.borrow_mut().delivered += took;
        }
        Act::Save => session.save().await?,
        Act::Reset => session.kill(),
        Act::ResetAndSave => {
            session.kill();
            if session.save().await.is_err() {
                session.save().await?;
            }
        }
        Act::SignIn | Act::SignInOther => {
            session.sign_in(if act == Act::SignIn { USER } else { OTHER })?;
            session.writes().push(number);
            *session.user_mut() = Some(number);
        }
        Act::List => {
            let listed = sessions.of(USER).list().await?;
            notes.borrow_mut().listed = listed.iter().map(|session| session.handle.as_str().to_owned()).collect();
        }
        Act::EndAll => drop(sessions.of(USER).end_all().await?),
        Act::EndOthers => drop(sessions.of(USER).end_others(session).await?),
        Act::LogIn | Act::LogInAndSave | Act::LogInAndCount | Act::UpdateAndLogIn => {
            if act == Act::UpdateAndLogIn {
                drop(session.update(|data| data.writes().push(number + 1000)).await);
            }
            session.writes().push(number);
            *session.user_mut() = Some(number);
            session.cycle_id();
            if matches!(act, Act::LogInAndSave | Act::LogInAndCount) {
                session.save().await?;
            }
            if act == Act::LogInAndCount {
                session.writes().push(number + 1000);
            }
        }
    }
    Ok(())
}

async fn poll_once<R>(future: impl Future<Output = R>) {
    let mut future = pin!(future);
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await;
}

/// Who makes the two halves of a request one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Run,
    /// A caller without a handler, who opens the session, changes it and commits it, and opens it again after a lost race.
    Halves,
}

/// Sends a request, and says what was answered.
pub async fn ask<T: Data>(
    by: By,
    sessions: &Sessions,
    incoming: &Incoming<'_>,
    act: Act,
    number: u32,
    notes: &RefCell<Notes>,
    world: &World,
) -> (Answer, Vec<String>) {
    let handler = async |session: &mut Session<T>| handle(sessions, session, act, number, notes, world).await;
    let failed = |error: Error| (Answer::Failed(error.kind()), Vec::new());
    if by == By::Halves {
        return by_halves(sessions, incoming, act, handler).await.unwrap_or_else(failed);
    }
    match sessions.run(incoming, handler).await {
        Ok(Outcome::Replied { set_cookie, timing, .. }) => {
            (Answer::Replied { effect: timing.effect, attempts: timing.attempts }, set_cookie)
        }
        Ok(Outcome::Expired { set_cookie, .. }) => (Answer::Expired, set_cookie),
        Ok(Outcome::Failed(error)) => panic!("the handler returns what its save said, and nothing else: {error}"),
        Ok(Outcome::Refused { error, set_cookie }) => (Answer::Failed(error.kind()), set_cookie),
        Err(error) => failed(error),
        Ok(_) => panic!("this release has no other outcome"),
    }
}

async fn by_halves<T: Data>(
    sessions: &Sessions,
    incoming: &Incoming<'_>,
    act: Act,
    handler: impl AsyncFn(&mut Session<T>) -> Result<(), Error>,
) -> Result<(Answer, Vec<String>), Error> {
    let mut session = match sessions.open::<T>(incoming).await? {
        Opened::Session(session) => session,
        Opened::Expired { set_cookie, .. } => return Ok((Answer::Expired, set_cookie)),
        _ => panic!("this release finds nothing else"),
    };
    let mut attempts = 0;
    loop {
        attempts += 1;
        let committed = match handler(&mut session).await {
            Ok(()) => sessions.commit(&mut session).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok(set_cookie) => {
                let effect = match session.record() {
                    _ if act.logs_out() => Effect::Killed,
                    None => Effect::Dropped,
                    Some(_) if act.changes_data() => Effect::Saved,
                    Some(_) => Effect::Nothing,
                };
                return Ok((Answer::Replied { effect, attempts }, set_cookie));
            }
            Err(error) if error.kind() == ErrorKind::Contended => session = sessions.reopen(session).await?,
            Err(error) if error.kind() == ErrorKind::Ended => return Ok((Answer::Expired, Vec::new())),
            Err(error) => return Ok((Answer::Failed(error.kind()), sessions.set_cookie_of_saved(&mut session))),
        }
    }
}
