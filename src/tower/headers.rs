use std::any::TypeId;

use axum_core::body::Body;
use axum_core::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SET_COOKIE, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, StatusCode};

use crate::caching::{self, TARGETED, keeps_shared_caches_out, varies_by_cookie};
use crate::{Error, Refusal, SessionHeaders};

/// Noted in a response that was made of an error, for the layers.
#[derive(Clone)]
pub(super) struct Answered {
    pub(super) error: Error,
    /// Whose layer it is for, if an extractor failed.
    pub(super) asked_for: Option<TypeId>,
}

/// Noted in a response to one whose session, of this type, has expired.
#[derive(Clone)]
pub(super) struct Expired(pub(super) TypeId);

/// Noted in the response of a layer that refused its handler's work: those around it save nothing of it either.
#[derive(Clone)]
pub(super) struct Refused;

/// The response that a visitor may see of an error: its status, `Retry-After` with a 503, and not a word of the message.
///
/// A [`SessionLayer`](super::SessionLayer) around it logs the error; where there is none, log it yourself.
#[must_use]
pub fn response(error: &Error) -> Response {
    made_of(error, None)
}

/// The response of an extractor for a session of `T`.
pub(super) fn rejection<T: 'static>(error: &Error) -> Response {
    made_of(error, Some(TypeId::of::<T>()))
}

fn made_of(error: &Error, asked_for: Option<TypeId>) -> Response {
    let mut response = refused(&Refusal::from(error));
    response.extensions_mut().insert(Answered { error: error.clone(), asked_for });
    response
}

/// The response to one whose session has expired.
pub(super) fn expired<T: 'static>(message: &str) -> Response {
    let mut response = refused(&Refusal::expired(message));
    response.extensions_mut().insert(Expired(TypeId::of::<T>()));
    response
}

/// What a visitor is told by default.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let mut response = Response::new(Body::from(refusal.text.clone()));
    *response.status_mut() = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(seconds) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

impl SessionHeaders<'_> {
    /// The same for a map of headers. Values of ours are well formed; one that is not would not be sent.
    pub(super) fn add_to_map(&self, headers: &mut HeaderMap) {
        let texts = |name: HeaderName, headers: &HeaderMap| {
            let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
            values.collect::<Vec<_>>().join(",")
        };
        if !varies_by_cookie(&texts(VARY, headers)) {
            headers.append(VARY, HeaderValue::from_static("Cookie"));
        }
        if !self.set_cookie.is_empty() || !keeps_shared_caches_out(&texts(CACHE_CONTROL, headers)) {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching::CACHE_CONTROL));
        }
        for name in TARGETED {
            headers.remove(name);
        }
        for line in self.set_cookie {
            if let Ok(line) = HeaderValue::from_str(line) {
                headers.append(SET_COOKIE, line);
            }
        }
        if let Some(Ok(timing)) = self.server_timing.map(HeaderValue::from_str) {
            headers.append("Server-Timing", timing);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
}
