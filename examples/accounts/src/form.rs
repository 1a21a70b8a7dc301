//! What a visitor's form says.

use worker::{FormData, Request};

/// None of ours sends as much. Who sends more is answered before it is read: workerd takes another 64 KiB of it, and may then end
/// the connection before its visitor has the answer.
const LONGEST: usize = 48 * 1024;

fn length_of(request: &Request) -> Option<usize> {
    request.headers().get("Content-Length").ok().flatten().and_then(|length| length.parse().ok())
}

/// Whether it says that it sends more.
pub(crate) fn is_too_long(request: &Request) -> bool {
    length_of(request).is_some_and(|length| length > LONGEST)
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
