use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What went wrong in the session layer, in one line for the operator's log.
///
/// One type for the whole crate: a caller can log it, answer with it, or try again, and
/// [`Error::kind`] says which. The text may name tables, bindings and settings: write it to the log
/// and never to a reply. It holds no visitor's data.
///
/// An absent, expired, forged or unreadable session is *not* an error: it is a new session.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// Shared by all copies of an error that a session gave its handler, so that the session can tell whether the
    /// handler still has one: see [`is_held_elsewhere`](Self::is_held_elsewhere). Whether it has been answered.
    copies: Option<Arc<AtomicBool>>,
    /// Whether the same may work at once, if it is done again.
    passes: bool,
}

/// What can be done about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A parameter, key or binding is missing or impossible. The message names the repair.
    Misconfigured,
    /// The store, or the source of random bytes, did not do its work this time. A write may have been
    /// stored all the same, when only its answer was lost.
    Unavailable,
    /// Other requests on the same session won every race; nothing of this one was saved.
    Contended,
    /// [`Store::create`](crate::Store::create) met a record under its key.
    Duplicate,
    /// A stored record is not one of ours, or its data is not the session's type.
    Unreadable,
    /// The session's data has no JSON form that could be read again, so it cannot be saved.
    Unserializable,
    /// The session's data is larger than `max_data` allows.
    TooLarge,
    /// The session ended while the request was under way, so its changes are lost.
    Ended,
    /// Another site made the visitor's browser send the request, which therefore reached no session.
    CrossOrigin,
    /// A handler ran a second handler on its own session; the two could only race each other.
    Nested,
}

impl ErrorKind {
    /// The word that begins the log line of such an error: `unavailable`, for instance.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Misconfigured => "misconfigured",
            Self::Unavailable => "unavailable",
            Self::Contended => "contended",
            Self::Duplicate => "duplicate",
            Self::Unreadable => "unreadable",
            Self::Unserializable => "unserializable",
            Self::TooLarge => "too_large",
            Self::Ended => "ended",
            Self::CrossOrigin => "cross_origin",
            Self::Nested => "nested",
        }
    }
}

/// A message longer than this many characters is cut: it may hold a platform's stack trace.
const MESSAGE_LIMIT: usize = 500;

impl Error {
    /// An error of `kind`. The message becomes one line of at most 500 characters.
    ///
    /// For stores of your own: [`ErrorKind::Unavailable`] for a failed call,
    /// [`ErrorKind::Duplicate`] and [`ErrorKind::Unreadable`] as the
    /// [`Store`](crate::Store) contract says.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self::of(kind, &message)
    }

    /// The same error, of a call whose connection was lost, or whose other end was just started anew: it may work at once if it is
    /// made again.
    ///
    /// For stores of your own: a [`Store::create`](crate::Store::create) that fails so is made again, under another id. So is a
    /// [change of id](crate::Store::change_id), of which it says besides that nothing of it will take effect any more.
    ///
    /// ```
    /// use edge_session::{Error, ErrorKind};
    ///
    /// let failure = Error::new(ErrorKind::Unavailable, "the connection was lost").passing();
    /// assert_eq!(failure.status(), 503);
    /// ```
    #[must_use]
    pub fn passing(self) -> Self {
        Self { passes: true, ..self }
    }

    /// Whether it may work at once, if it is done again.
    pub(crate) fn passes(&self) -> bool {
        self.passes
    }

    /// Of what is not to be done again: it was, or it is not known what it did.
    pub(crate) fn lasting(self) -> Self {
        Self { passes: false, ..self }
    }

    /// One function for all kinds of messages, which weighs less than one for each.
    #[cold]
    fn of(kind: ErrorKind, message: &dyn fmt::Display) -> Self {
        Self { kind, message: one_line(message), copies: None, passes: false }
    }

    pub(crate) fn misconfigured(message: impl fmt::Display) -> Self {
        Self::of(ErrorKind::Misconfigured, &message)
    }

    pub(crate) fn unreadable(message: impl fmt::Display) -> Self {
        Self::of(ErrorKind::Unreadable, &message)
    }

    /// Data that could not be parsed as the session's type. serde's own message would quote the data.
    pub(crate) fn data_unreadable(error: &serde_json::Error) -> Self {
        Self::unreadable(format_args!("its data is not of the session's type: {}", Place(error)))
    }

    /// The same for data that was about to be stored.
    pub(crate) fn data_would_be_lost(error: &serde_json::Error) -> Self {
        let message = format_args!(
            "the session's data was not saved, for it could not be read again: {}; \
             a number that is NaN or infinite, for instance, becomes null in JSON",
            Place(error)
        );
        Self::of(ErrorKind::Unserializable, &message)
    }

    /// When another site made a visitor's browser send the request.
    pub(crate) fn cross_origin(origin: &str) -> Self {
        let message = format_args!(
            "a page of another site sent this request: {origin}; if it may, name an origin in `trusted_origins` (`null` is none), or \
             let the route be asked from anywhere"
        );
        Self::of(ErrorKind::CrossOrigin, &message)
    }

    /// When other requests keep winning.
    pub(crate) fn contended() -> Self {
        Self::of(ErrorKind::Contended, &"other requests on the same session were faster")
    }

    /// When the session of a handler that asks for a save is no more.
    pub(crate) fn ended() -> Self {
        Self::of(ErrorKind::Ended, &"the session ended while the request was under way; nothing was saved")
    }

    /// Makes this and all its copies known to each other.
    pub(crate) fn traced(mut self) -> Self {
        self.copies.get_or_insert_default();
        self
    }

    /// Whether somebody has a copy of this error, or has wrapped one: a handler that returns it, and not one that
    /// has dropped it and gone on.
    pub(crate) fn is_held_elsewhere(&self) -> bool {
        self.copies.as_ref().is_some_and(|copies| Arc::strong_count(copies) > 1)
    }

    /// Notes that a reply was made of it.
    #[cfg(feature = "worker")]
    pub(crate) fn answered(&self) {
        if let Some(copies) = &self.copies {
            copies.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_answered(&self) -> bool {
        self.copies.as_ref().is_some_and(|copies| copies.load(Ordering::Relaxed))
    }

    /// What can be done about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The status that a reply should carry: 503 when the same request may work a moment later,
    /// 401 when the session has ended, 403 when another site sent the request, 500 when somebody has to repair something first.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            ErrorKind::Unavailable | ErrorKind::Contended | ErrorKind::Duplicate => 503,
            ErrorKind::Ended => 401,
            ErrorKind::CrossOrigin => 403,
            ErrorKind::Misconfigured
            | ErrorKind::Unreadable
            | ErrorKind::Unserializable
            | ErrorKind::TooLarge
            | ErrorKind::Nested => 500,
        }
    }
}

/// A text as one line of bounded length, whatever a platform, a client or a store has said in it.
pub(crate) fn one_line(text: &dyn fmt::Display) -> String {
    text.to_string().chars().take(MESSAGE_LIMIT).map(|c| if ends_line(c) { ' ' } else { c }).collect()
}

/// What would begin a new line in some log viewer, or control a terminal.
fn ends_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Where JSON is wrong and in what way, without a word of the JSON.
struct Place<'a>(&'a serde_json::Error);

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.0.classify() {
            serde_json::error::Category::Data => "a value of the wrong kind, or one that is missing,",
            serde_json::error::Category::Eof => "an early end",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "no JSON",
        };
        write!(formatter, "{what} at line {} column {}", self.0.line(), self.0.column())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_of_bounded_length() {
        let stack = format!("D1_ERROR: no\n    at frame\u{2028}\u{85}\n{}", "x ".repeat(10_000));
        let message = Error::new(ErrorKind::Unavailable, stack).to_string();
        assert!(message.starts_with("D1_ERROR: no     at frame   x x"), "{message}");
        assert_eq!(message.chars().count(), MESSAGE_LIMIT);
    }

    #[test]
    fn an_error_knows_whether_a_copy_of_it_is_still_held() {
        let kept = Error::contended().traced();
        assert!(!kept.is_held_elsewhere());
        let copy = kept.clone();
        assert!(kept.is_held_elsewhere());
        let wrapped: Box<dyn std::error::Error> = Box::new(copy);
        assert!(kept.is_held_elsewhere());
        drop(wrapped);
        assert!(!kept.is_held_elsewhere());
    }

    #[test]
    fn what_is_said_of_unreadable_data_quotes_none_of_it() {
        #[derive(Debug, serde::Deserialize)]
        enum Level {
            Low,
        }
        let text = r#""x\nedge-session: misconfigured: forged line""#;
        let error = serde_json::from_str::<Level>(text).map(|Level::Low| ()).unwrap_err();
        assert!(error.to_string().contains("forged"), "serde's own message quotes it: {error}");
        let message = Error::data_unreadable(&error).to_string();
        assert!(!message.contains("forged") && message.contains("line 1 column"), "{message}");
    }
}
