use std::borrow::Cow;

use worker::{Request, web_sys};

/// A request: worker's type, or the runtime's own, `web_sys::Request`, which costs nothing to make.
pub trait HttpRequest {
    /// The runtime's request.
    fn raw(&self) -> &web_sys::Request;

    /// Its URL, as the runtime wrote it.
    fn url(&self) -> Cow<'_, str> {
        self.raw().url().into()
    }
}

impl HttpRequest for Request {
    fn raw(&self) -> &web_sys::Request {
        self.inner()
    }
}

impl HttpRequest for web_sys::Request {
    fn raw(&self) -> &web_sys::Request {
        self
    }
}
