use axum_core::body::Body;
use axum_core::extract::Request;
use axum_core::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};

/// The largest body, in bytes, that is kept so that a request whose race was lost can be given again: 64 KiB. A request
/// with a larger one, or with one of unknown length, is given once, and answered 503 if it loses.
pub const REPLAY_LIMIT: usize = 64 * 1024;

/// A request that is given to a service once, or again.
pub(super) enum Replay {
    /// It can be given as often as need be.
    Again { parts: Parts, body: bytes::Bytes },
    /// It has been given, and is gone.
    Once,
}

impl Replay {
    /// What can be given again of a request, and the request.
    ///
    /// # Errors
    ///
    /// When its body does not arrive, or is longer than its `Content-Length` says.
    pub(super) async fn of(request: Request) -> Result<(Self, Request), axum_core::Error> {
        let (parts, body) = request.into_parts();
        if parts.headers.contains_key(UPGRADE) {
            return Ok((Self::Once, Request::from_parts(parts, body)));
        }
        let bytes = match length(&parts, &body) {
            Some(length) if length <= REPLAY_LIMIT => {
                let collected = Limited::new(body, length).collect().await.map_err(axum_core::Error::new)?;
                collected.to_bytes()
            }
            _ => return Ok((Self::Once, Request::from_parts(parts, body))),
        };
        let again = Self::Again { parts, body: bytes };
        let request = again.request();
        Ok((again, request.unwrap_or_default()))
    }

    /// The request once more, if it can be given again.
    pub(super) fn request(&self) -> Option<Request> {
        match self {
            Self::Again { parts, body } => Some(Request::from_parts(parts.clone(), Body::from(body.clone()))),
            Self::Once => None,
        }
    }
}

/// The response to a request whose body did not arrive in full: as axum's own extractors give it.
pub(super) fn refused() -> Response {
    (StatusCode::BAD_REQUEST, "The request's body did not arrive as its length says.\n").into_response()
}

/// How long the body is, if that is known.
fn length(parts: &Parts, body: &Body) -> Option<usize> {
    if body.is_end_stream() {
        return Some(0);
    }
    if parts.headers.contains_key(TRANSFER_ENCODING) {
        return None;
    }
    // A middleware may have put it in the place of the one that the header is of.
    if let Some(length) = body.size_hint().exact() {
        return usize::try_from(length).ok();
    }
    let said = parts.headers.get(CONTENT_LENGTH)?;
    said.to_str().ok()?.parse().ok()
}
