use std::any::{TypeId, type_name};
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum_core::extract::Request;
use axum_core::response::Response;
use http::header::{COOKIE, UPGRADE};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_layer::Layer;
use tower_service::Service;
use worker::Env;

use super::extractor::Handle;
use super::headers::{Answered, Expired, Refused, refused};
use super::replay::{self, Replay};
use super::send::{SendFuture, SendWrapper};
use super::settle::Settled;
use super::slot::{Expiry, Slot};
use super::stack::{self, Answering, Layered, Neighbours, NextRun};
use crate::arrival::Arrival;
use crate::{Error, ErrorKind, Incoming, Refusal, SessionHeaders, Sessions};

type Reply = Arc<dyn Fn(&Refusal) -> Response + Send + Sync>;

/// Gives the handlers below it their [`Session<T>`](super::Session), and commits it before the response leaves.
///
/// It is for one type of session; layers for several are put around each other, each with a cookie name of its own.
///
/// What the session layer's [`run`](Sessions::run) does for a handler, this does for the service inside:
///
/// - A response of 5xx saves nothing, nor does an [`Error`], or what a layer within refused. Any other saves. (What the handler
///   has saved itself stays, and a response of its own carries the cookie for it.)
/// - A handler that loses its race to another request on the session runs again on the newer data, where the request can
///   be given again: without a body, or with one of a known length up to [`REPLAY_LIMIT`](super::REPLAY_LIMIT), and no
///   upgrade. Otherwise the visitor is answered 503 with `Retry-After`. So effects outside the session come after
///   `session.save().await?`.
/// - Below several layers each commits by itself, the innermost first. A lost race runs the handler again for all of them,
///   as long as nothing is stored: one that is lost after a layer within has stored its session is a 503. So a handler
///   that changes two sessions uses [`update`](super::Session::update) for both.
/// - A middleware that gives up on its handler or tries it again, for a time limit or after an error, belongs around this
///   layer. Within it, what half a handler did to the session is saved with the response that the middleware makes, unless
///   that is a 5xx.
/// - An [`Error`] of the session layer as the response is answered as what it is.
pub struct SessionLayer<T> {
    sessions: SendWrapper<Sessions>,
    reply: Reply,
    data: PhantomData<fn() -> T>,
}

impl<T> SessionLayer<T> {
    /// The sessions that the Worker's environment describes.
    ///
    /// # Errors
    ///
    /// `Misconfigured`, as [`Sessions::from_env`].
    pub fn new(env: &Env) -> Result<Self, Error> {
        Sessions::from_env(env).map(Self::over)
    }

    /// These sessions.
    #[must_use]
    pub fn over(sessions: Sessions) -> Self {
        Self { sessions: SendWrapper(sessions), reply: Arc::new(refused), data: PhantomData }
    }

    /// With replies of your own in place of our 401, 403, 503 and 500. (A body that breaks off, or is longer than its length says, is a
    /// plain 400, as from axum's own extractors.)
    #[must_use]
    pub fn with_reply(self, reply: impl Fn(&Refusal) -> Response + Send + Sync + 'static) -> Self {
        Self { reply: Arc::new(reply), ..self }
    }
}

impl<T> Clone for SessionLayer<T> {
    fn clone(&self) -> Self {
        Self { sessions: self.sessions.clone(), reply: Arc::clone(&self.reply), data: PhantomData }
    }
}

impl<T> fmt::Debug for SessionLayer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SessionLayer").field("sessions", &self.sessions.0).finish_non_exhaustive()
    }
}

impl<S, T> Layer<S> for SessionLayer<T> {
    type Service = SessionService<S, T>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionService { inner, layer: self.clone() }
    }
}

/// A service within a [`SessionLayer`].
#[derive(Debug)]
pub struct SessionService<S, T> {
    inner: S,
    layer: SessionLayer<T>,
}

impl<S: Clone, T> Clone for SessionService<S, T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, T, B> Service<http::Request<B>> for SessionService<S, T>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    T: Default + Serialize + DeserializeOwned + Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<axum_core::BoxError>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        // The one that is ready.
        let inner = self.inner.clone();
        let inner = mem::replace(&mut self.inner, inner);
        let request = request.map(axum_core::body::Body::new);
        Box::pin(SendFuture::new(answer(self.layer.clone(), inner, request)))
    }
}

/// The life of a request: what [`Sessions::run`] is for a handler.
async fn answer<S, T>(layer: SessionLayer<T>, mut inner: S, mut request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
    T: Default + Serialize + DeserializeOwned + Send + 'static,
{
    let slot = match layer.enter(&mut request) {
        Ok(slot) => slot,
        Err(error) => {
            stack::log(&layer.sessions, &error);
            return Ok(layer.reply_with(&error, &[]));
        }
    };
    let this: &dyn Layered = &*slot;
    let _answering = Answering(this);
    let (replay, mut request) = match Replay::of(request).await {
        Ok(replay) => replay,
        Err(_) => return Ok(replay::refused()),
    };
    this.neighbours().note_replayable(matches!(replay, Replay::Again { .. }));
    loop {
        let mut stopwatch = slot.stopwatch();
        let loads = slot.timing.borrow().load;
        let answered = slot.sessions.nesting().within(&slot.arrival, inner.call(request)).await;
        this.neighbours().handler_is_done();
        let Ok(mut response) = answered else {
            this.give_up_lost_within();
            slot.abandon();
            return answered;
        };
        slot.note_run(stopwatch.lap(), loads);

        let settled = slot.settle(&response).await;
        slot.note_save(stopwatch.lap());
        let (lost, is_own) = match settled {
            Settled::Untouched => return Ok(layer.replaced(response, this)),
            Settled::Stored(set_cookie) => {
                let timing = slot.server_timing();
                let headers =
                    SessionHeaders { set_cookie: &set_cookie, server_timing: timing.as_deref(), retry_after: None };
                headers.add_to_map(response.headers_mut());
                this.neighbours().note_set_cookie(&set_cookie);
                return Ok(response);
            }
            Settled::Expired(Expiry { message, set_cookie }) => {
                if let Some(Expired(of)) = response.extensions().get()
                    && *of == TypeId::of::<T>()
                {
                    response = (layer.reply)(&Refusal::expired(&message));
                    let headers = SessionHeaders { set_cookie: &this.set_cookie_within(), ..SessionHeaders::default() };
                    headers.add_to_map(response.headers_mut());
                } else {
                    response = layer.replaced(response, this);
                }
                return Ok(telling(response, &set_cookie, this));
            }
            Settled::Failed(set_cookie) => return Ok(telling(layer.replaced(response, this), &set_cookie, this)),
            Settled::Unsaved(ignored) => {
                if let Some(error) = ignored {
                    this.log(&error);
                }
                let mut response = layer.replaced(response, this);
                SessionHeaders::default().add_to_map(response.headers_mut());
                return Ok(response);
            }
            Settled::Refused(refusal, set_cookie) => {
                return Ok(telling(layer.refuse(&refusal, this), &set_cookie, this));
            }
            Settled::Lost(refusal) => (refusal, true),
            Settled::LostWithin(refusal) => (refusal, false),
        };
        // A service may be ready again only when its response is gone.
        drop(response);
        let again = match this.next_run() {
            NextRun::Here => replay.request(),
            NextRun::Around => {
                // Also where one within it lost, for nothing is stored of its own session either.
                let reply = layer.reply(&lost, this);
                // That one is found through it.
                if is_own {
                    this.neighbours().leave(lost);
                }
                return Ok(reply);
            }
            NextRun::Nowhere => None,
        };
        let Some(again) = again else { return Ok(layer.refuse(&lost, this)) };
        this.forget_run_of_all();
        this.neighbours().handler_runs();
        request = again;
        let layered: Rc<dyn Layered> = Rc::<Slot<T>>::clone(&slot);
        stack::leave_in(&mut request, &layered);
        Handle::leave_in(&mut request, &slot);
        if let Err(error) = poll_fn(|context| inner.poll_ready(context)).await {
            this.log(&lost);
            return Err(error);
        }
    }
}

/// A response that tells the visitor's browser this, which layers around may have to tell in another.
fn telling(mut response: Response, set_cookie: &[String], this: &dyn Layered) -> Response {
    let headers = SessionHeaders { set_cookie, ..SessionHeaders::default() };
    headers.add_to_map(response.headers_mut());
    this.neighbours().note_set_cookie(set_cookie);
    response
}

/// All `Cookie` headers in one: HTTP/2 lets a client split them (RFC 9113, section 8.2.3).
fn cookies(request: &Request) -> Option<String> {
    // A neighbour's cookie may hold anything, and hides none of ours.
    let mut headers =
        request.headers().get_all(COOKIE).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = headers.next()?.into_owned();
    Some(headers.fold(first, |all, more| [all.as_str(), "; ", &more].concat()))
}

impl<T> SessionLayer<T> {
    /// Where the request's session is: the one of the run before, if a layer around this one runs its handler again.
    fn enter(&self, request: &mut Request) -> Result<Rc<Slot<T>>, Error>
    where
        T: Default + Serialize + DeserializeOwned + 'static,
    {
        let sessions = &self.sessions.0;
        let cookie_name = &sessions.parameters().cookie_name;
        let neighbours = Neighbours::of(request);
        neighbours.check::<Slot<T>>(cookie_name, type_name::<T>())?;
        let slot = match neighbours.run_before(cookie_name) {
            Some(slot) => slot,
            None => Slot::<T>::new(sessions, arrival(sessions, request)?, neighbours),
        };
        let layered: Rc<dyn Layered> = Rc::<Slot<T>>::clone(&slot);
        stack::enter(request, &layered);
        Handle::leave_in(request, &slot);
        Ok(slot)
    }

    /// The error in the log, and the reply to it. That a session ended while its handler ran is no failure.
    fn refuse(&self, error: &Error, this: &dyn Layered) -> Response {
        match error.kind() {
            ErrorKind::Ended => error.answered(),
            _ => this.log(error),
        }
        self.reply(error, this)
    }

    /// The reply in the handler's place. What layers within it have told the visitor's browser, it is still told.
    fn reply(&self, error: &Error, this: &dyn Layered) -> Response {
        self.reply_with(error, &this.set_cookie_within())
    }

    fn reply_with(&self, error: &Error, set_cookie: &[String]) -> Response {
        let refusal = match error.kind() {
            ErrorKind::Ended => Refusal::expired(&self.sessions.parameters().expired_message),
            _ => Refusal::from(error),
        };
        let mut response = (self.reply)(&refusal);
        let headers = SessionHeaders { retry_after: refusal.retry_after, set_cookie, ..SessionHeaders::default() };
        headers.add_to_map(response.headers_mut());
        response.extensions_mut().insert(Refused);
        response
    }

    /// The response to an error that is no layer's is the outermost's.
    fn replaced(&self, mut response: Response, this: &dyn Layered) -> Response {
        if !this.is_outermost() {
            return response;
        }
        match response.extensions_mut().remove::<Answered>() {
            Some(Answered { error, .. }) => self.refuse(&error, this),
            None => response,
        }
    }
}

/// What the sessions have to know of a request.
fn arrival(sessions: &Sessions, request: &Request) -> Result<Rc<Arrival>, Error> {
    // One that comes twice, or is not text, is another than any that is looked for, and not absent.
    let header = |name| {
        let values = request.headers().get_all(name).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        Some(values.join(", ")).filter(|_| !values.is_empty())
    };
    let (ip, fetch_site, origin) = (header("CF-Connecting-IP"), header("Sec-Fetch-Site"), header("Origin"));
    let url = request.uri().to_string();
    let cookie = cookies(request);
    let incoming = Incoming::new()
        .cookie(cookie.as_deref())
        .ip(ip.as_deref())
        .url(&*url)
        .with_reply()
        .method(request.method().as_str())
        .opens_socket(request.headers().contains_key(UPGRADE))
        .fetch_site(fetch_site.as_deref())
        .origin(origin.as_deref());
    sessions.arrival(&incoming)
}
