//! What the operator is told: one line for each event, `<event>: <sentence>`, so that a log can be counted by its
//! first word. `docs/operations.md` lists the events.
//!
//! An error that a request ends with is logged by whoever answers it, under the name of its
//! [`ErrorKind`](crate::ErrorKind); everything else that happens is an [`Event`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;

use crate::error::one_line;
use crate::{Error, Platform, RecordKey};

/// What happened to a request or its session without being the request's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// What is stored of a session cannot be read; its visitor gets a new one.
    Unreadable,
    /// What a request changed was not stored, for its session had ended.
    ChangesDropped,
    /// A `save` or `update` failed, and its handler answered as if it had not.
    FailureIgnored,
    /// A new id was stored, or may have been, that its visitor has not been told.
    IdUntold,
    /// An id was used long after it had been changed.
    RetiredIdUsed,
    /// A note of use was not stored.
    TouchFailed,
    /// A user has more sessions than they may.
    OldestNotEnded,
    /// A visitor came with two live sessions.
    SeveralSessions,
    /// A cookie was set that the visitor's client drops.
    CookieRefused,
    /// A write whose reply has gone out was not taken by KV.
    WriteGivenUp,
}

impl Event {
    /// The word that begins its line.
    fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::ChangesDropped => "changes_dropped",
            Self::FailureIgnored => "failure_ignored",
            Self::IdUntold => "id_untold",
            Self::RetiredIdUsed => "retired_id_used",
            Self::TouchFailed => "touch_failed",
            Self::OldestNotEnded => "oldest_not_ended",
            Self::SeveralSessions => "several_sessions",
            Self::CookieRefused => "cookie_refused",
            Self::WriteGivenUp => "write_given_up",
        }
    }
}

/// How many events that are said once are remembered; the oldest is forgotten first.
const REMEMBERED: usize = 256;

/// What has been said already, for what is said once in the life of an isolate.
#[derive(Default)]
pub(crate) struct Said {
    /// Once in the life of the isolate.
    once: RefCell<Vec<Event>>,
    /// Once for a key.
    of_keys: RefCell<VecDeque<(Event, RecordKey)>>,
    /// Whose cookies were looked at for a second session.
    looked_at: RefCell<Vec<RecordKey>>,
}

impl Said {
    pub(crate) fn has(&self, event: Event, key: Option<&RecordKey>) -> bool {
        match key {
            None => self.once.borrow().contains(&event),
            Some(key) => self.of_keys.borrow().iter().any(|(its, of)| (*its, of) == (event, key)),
        }
    }

    /// Whether there is still room to look for a second session under this key, which has not been looked at.
    pub(crate) fn may_look(&self, key: &RecordKey) -> bool {
        let mut looked_at = self.looked_at.borrow_mut();
        if looked_at.len() >= REMEMBERED || looked_at.contains(key) {
            return false;
        }
        looked_at.push(key.clone());
        true
    }

    /// Notes it; false if it has been said before.
    pub(crate) fn note(&self, event: Event, key: Option<&RecordKey>) -> bool {
        if self.has(event, key) {
            return false;
        }
        match key {
            None => self.once.borrow_mut().push(event),
            Some(key) => {
                let mut said = self.of_keys.borrow_mut();
                if said.len() == REMEMBERED {
                    said.pop_front();
                }
                said.push_back((event, key.clone()));
            }
        }
        true
    }
}

pub(crate) fn log(platform: &dyn Platform, event: Event, sentence: fmt::Arguments<'_>) {
    platform.log(format_args!("{}: {}", event.as_str(), one_line(&sentence)));
}

/// Says of these errors which ones their handler has neither returned nor dealt with by an answer.
pub(crate) fn log_ignored(platform: &dyn Platform, errors: impl IntoIterator<Item = Error>) {
    for error in errors.into_iter().filter(|error| !error.is_answered()) {
        let sentence = format_args!("a save failed, and its handler went on: {}: {error}", error.kind().as_str());
        log(platform, Event::FailureIgnored, sentence);
    }
}

/// Says it once in the life of an isolate, or once for a key if there is one.
pub(crate) fn log_once(
    platform: &dyn Platform,
    said: &Said,
    event: Event,
    key: Option<&RecordKey>,
    sentence: fmt::Arguments<'_>,
) {
    if said.note(event, key) {
        log(platform, event, sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SessionId, TestPlatform};

    #[test]
    fn what_a_platform_says_of_a_failure_is_one_line() {
        let platform = TestPlatform::at(0);
        log(&platform, Event::WriteGivenUp, format_args!("given up: KV: no\n    at frame\u{2028}id_untold: forged"));
        assert_eq!(platform.logged(), ["write_given_up: given up: KV: no     at frame id_untold: forged"]);
    }

    #[test]
    fn what_is_said_once_is_said_once_for_each_key_and_the_memory_of_it_is_bounded() {
        let (platform, said) = (TestPlatform::at(0), Said::default());
        let keys: Vec<_> = (0..300).map(|_| SessionId::random(&platform).unwrap().record_key()).collect();
        for key in keys.iter().chain(&keys[200..]) {
            log_once(&platform, &said, Event::RetiredIdUsed, Some(key), format_args!("{key:?}"));
        }
        assert_eq!(platform.logged().len(), 300);
        assert_eq!(said.of_keys.borrow().len(), REMEMBERED);
        let looks = keys.iter().chain(&keys).filter(|key| said.may_look(key)).count();
        assert_eq!(looks, REMEMBERED, "each once, and no more than that");
        assert!(platform.logged()[0].starts_with("retired_id_used: RecordKey("));
        for _ in 0..2 {
            log_once(&platform, &said, Event::SeveralSessions, None, format_args!("two"));
        }
        assert_eq!(platform.logged().len(), 301);
    }
}
