use std::borrow::Cow;

use worker::{Request, web_sys};

/// A request: worker's, or the runtime's own inside it, which spares the Worker the former's making.
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
