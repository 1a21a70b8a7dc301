//! What a visitor's form says.

use worker::{FormData, Request};

/// None of ours sends as much: who sends more is told so.
const LONGEST: usize = 48 * 1024;

/// Of a form that is longer, this much is still read and thrown away. workerd, where it meets its visitor without Cloudflare's
/// network between them, now and then ends the connection in the middle of an answer whose request nobody has read.
const MOST_READ_AWAY: usize = 1024 * 1024;

fn length_of(request: &Request) -> Option<usize> {
    request.headers().get("Content-Length").ok().flatten().and_then(|length| length.parse().ok())
}

/// Whether it says that it sends more than a form may. Its body is read then, so that its visitor gets the answer.
pub(crate) async fn is_too_long(request: &Request) -> bool {
    let Some(length) = length_of(request).filter(|length| *length > LONGEST) else { return false };
    if length <= MOST_READ_AWAY
        && let Ok(mut copy) = request.clone()
    {
        // Who breaks it off hears nothing anyway.
        copy.bytes().await.ok();
    }
    true
}

/// A form that cannot be read is an empty one: its visitor is told what is missing.
pub(crate) struct Form(Option<FormData>);

impl Form {
    /// Of a copy of the request, for the handler may run again, and then needs the body again.
    pub(crate) async fn of(request: &Request) -> Self {
        if length_of(request).is_none_or(|length| length > LONGEST) {
            return Self(None);
        }
        let Ok(mut copy) = request.clone() else { return Self(None) };
        Self(copy.form_data().await.ok())
    }

    /// Empty where there is none, or a file.
    pub(crate) fn field(&self, name: &str) -> String {
        self.0.as_ref().and_then(|form| form.get_field(name)).unwrap_or_default()
    }
}
