use crate::{Error, ErrorKind};

/// A reply that the session layer gives in the handler's place: 401, 403, 503 or 500.
///
/// With `serve_with` a function of yours makes another reply of it: a page, JSON or a redirect to the login. The reason
/// is in the log already; it may name tables and bindings, and is not for visitors.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// `Ended` with 401; otherwise what went wrong.
    pub kind: ErrorKind,
    /// 401 for a session that has expired or ended, 403 for a request that another site made the browser send, 503 if the same request may work a moment later, 500 if somebody
    /// has to repair something first.
    pub status: u16,
    /// What visitors are told: `expired_message`, or a sentence of ours.
    pub text: String,
    /// In seconds, for the header `Retry-After`. The session layer adds it to the reply.
    pub retry_after: Option<u32>,
}

#[cfg(feature = "worker")]
impl Refusal {
    /// Of a session that has expired or ended.
    pub(crate) fn expired(message: &str) -> Self {
        Self { kind: ErrorKind::Ended, status: 401, text: message.to_owned(), retry_after: None }
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let status = error.status();
        let (text, retry_after) = match status {
            401 => ("Session expired", None),
            403 => ("Another site sent this request, so nothing was done. Please go back and try again here.\n", None),
            503 => ("Service unavailable. Please try again in a moment.\n", Some(1)),
            _ => ("This service is out of order. Its operator finds the reason in its log.\n", None),
        };
        Self { kind: error.kind(), status, text: text.to_owned(), retry_after }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_not_a_word_of_its_reason() {
        for (kind, status, retry_after) in [
            (ErrorKind::Unavailable, 503, Some(1)),
            (ErrorKind::Contended, 503, Some(1)),
            (ErrorKind::Misconfigured, 500, None),
            (ErrorKind::Ended, 401, None),
            (ErrorKind::CrossOrigin, 403, None),
        ] {
            let refusal = Refusal::from(&Error::new(kind, "the secret table"));
            assert_eq!((refusal.kind, refusal.status, refusal.retry_after), (kind, status, retry_after));
            assert!(!refusal.text.contains("table") && !refusal.text.is_empty());
        }
    }
}
