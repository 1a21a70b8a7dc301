use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use worker::{Headers, Response, web_sys};

use crate::Refusal;
use crate::caching::{CACHE_CONTROL, keeps_shared_caches_out, varies_by_cookie};
use crate::error::one_line;

/// A response: worker's, or the runtime's own.
pub trait HttpResponse: Sized {
    /// The runtime's response as one of these.
    fn from_raw(response: web_sys::Response) -> Self;

    /// This response with these headers, and with `Vary` and `Cache-Control`, since it depends on its visitor.
    #[must_use]
    fn with_session_headers(self, headers: &SessionHeaders<'_>) -> Self;
}

/// The headers that the session layer adds to a reply; those that are empty or `None` it does not add.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SessionHeaders<'a> {
    /// Each is a header of its own.
    pub set_cookie: &'a [String],
    /// The value of `Server-Timing`.
    pub server_timing: Option<&'a str>,
    /// The seconds of `Retry-After`.
    pub retry_after: Option<u32>,
}

impl HttpResponse for Response {
    fn from_raw(response: web_sys::Response) -> Self {
        response.into()
    }

    fn with_session_headers(self, headers: &SessionHeaders<'_>) -> Self {
        if headers.add_to(&self.headers().0).is_ok() {
            return self;
        }
        // The headers of a response that was fetched cannot be changed; those of their copy can.
        let copy = Headers::clone(self.headers());
        note_loss(headers.add_to(&copy.0));
        self.with_headers(copy)
    }
}

impl HttpResponse for web_sys::Response {
    fn from_raw(response: web_sys::Response) -> Self {
        response
    }

    fn with_session_headers(self, headers: &SessionHeaders<'_>) -> Self {
        if headers.add_to(&self.headers()).is_ok() {
            return self;
        }
        match Self::new_with_opt_readable_stream_and_init(self.body().as_ref(), self.unchecked_ref()) {
            Ok(copy) => {
                note_loss(headers.add_to(&copy.headers()));
                copy
            }
            Err(thrown) => {
                note_loss(Err(thrown));
                self
            }
        }
    }
}

#[wasm_bindgen(module = "/src/worker/http.js")]
extern "C" {
    #[wasm_bindgen(catch, js_name = addIfSilent)]
    fn add_if_silent(headers: &web_sys::Headers) -> Result<bool, JsValue>;
}

impl SessionHeaders<'_> {
    fn add_to(&self, headers: &web_sys::Headers) -> Result<(), JsValue> {
        // Mostly the handler has said nothing of it, which one call finds out.
        if !add_if_silent(headers)? {
            if !headers.get("Vary")?.is_some_and(|vary| varies_by_cookie(&vary)) {
                headers.append("Vary", "Cookie")?;
            }
            let keeps_out = headers.get("Cache-Control")?.is_some_and(|control| keeps_shared_caches_out(&control));
            if !keeps_out || !self.set_cookie.is_empty() {
                headers.set("Cache-Control", CACHE_CONTROL)?;
            }
        }
        for line in self.set_cookie {
            headers.append("Set-Cookie", line)?;
        }
        if let Some(timing) = self.server_timing {
            headers.append("Server-Timing", timing)?;
        }
        if let Some(seconds) = self.retry_after {
            headers.set("Retry-After", &seconds.to_string())?;
        }
        Ok(())
    }
}

fn note_loss(result: Result<(), JsValue>) {
    if let Err(thrown) = result {
        let reason = one_line(&super::js::thrown(&thrown));
        worker::console_error!("edge-session: headers_lost: a response goes without its session's headers: {reason}");
    }
}

/// What a visitor is told by default.
pub(crate) fn refused<R: HttpResponse>(refusal: &Refusal) -> R {
    R::from_raw(text(refusal.status, &refusal.text))
}

/// A plain-text response that nobody can show as a page.
pub(crate) fn text(status: u16, body: &str) -> web_sys::Response {
    let init = web_sys::ResponseInit::new();
    init.set_status(status);
    let response = web_sys::Response::new_with_opt_str_and_init(Some(body), &init).unwrap_or_else(|_| bare());
    for (name, value) in [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        // Names and values of ours are well formed, so that it cannot fail.
        drop(response.headers().set(name, value));
    }
    response
}

/// A response that cannot fail to be made.
fn bare() -> web_sys::Response {
    web_sys::Response::error()
}
