use std::fmt;

/// What went wrong in the session layer, in one line for the operator's log.
///
/// One type for the whole crate: a caller has three things to do with it (log it, answer with it,
/// or try again), and [`Error::kind`] says which. The text may name tables, bindings and settings,
/// so it belongs into the log and never into a reply.
///
/// An absent, expired, forged or unreadable session is *not* an error: it is a new session.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What can be done about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A parameter, key or binding is missing or impossible. The message names the repair.
    Misconfigured,
    /// The store, or the source of random bytes, did not do its work this time.
    Unavailable,
    /// Other requests on the same session won every race; nothing of this one was saved.
    Contended,
    /// [`Store::create`](crate::Store::create) met a record under its key.
    Duplicate,
    /// A stored record is not one of ours, or its data is not the session's type.
    Unreadable,
    /// The session's data has no JSON form, so that it cannot be saved.
    Unserializable,
}

/// A message longer than this many characters is cut: it may hold a platform's stack trace.
const MESSAGE_LIMIT: usize = 500;

impl Error {
    /// An error of `kind`. The message is brought to one line of at most 500 characters.
    ///
    /// For stores of your own: [`ErrorKind::Unavailable`] for a failed call,
    /// [`ErrorKind::Duplicate`] and [`ErrorKind::Unreadable`] as the
    /// [`Store`](crate::Store) contract says.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl fmt::Display) -> Self {
        Self::of(kind, &message)
    }

    /// One function for all kinds of messages, which weighs less than one for each.
    #[cold]
    fn of(kind: ErrorKind, message: &dyn fmt::Display) -> Self {
        let text = message.to_string();
        let line = text.chars().take(MESSAGE_LIMIT).map(|c| if c.is_ascii_control() { ' ' } else { c });
        Self { kind, message: line.collect() }
    }

    pub(crate) fn misconfigured(message: impl fmt::Display) -> Self {
        Self::of(ErrorKind::Misconfigured, &message)
    }

    pub(crate) fn unreadable(message: impl fmt::Display) -> Self {
        Self::of(ErrorKind::Unreadable, &message)
    }

    /// What can be done about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The status that a reply should carry: 503 when the same request may work a moment later,
    /// 500 when somebody has to repair something first.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            ErrorKind::Unavailable | ErrorKind::Contended | ErrorKind::Duplicate => 503,
            ErrorKind::Misconfigured | ErrorKind::Unreadable | ErrorKind::Unserializable => 500,
        }
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
        let stack = format!("D1_ERROR: no\n    at frame\n{}", "x ".repeat(10_000));
        let message = Error::new(ErrorKind::Unavailable, stack).to_string();
        assert!(message.starts_with("D1_ERROR: no     at frame x x"), "{message}");
        assert!(!message.contains('\n'));
        assert_eq!(message.len(), MESSAGE_LIMIT);
    }
}
