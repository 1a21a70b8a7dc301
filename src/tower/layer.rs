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
use http::header::COOKIE;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_layer::Layer;
use tower_service::Service;
use worker::Env;

use super::extractor::Handle;
use super::headers::{Answered, Expired, refused};
use super::replay::Replay;
use super::send::{SendFuture, SendWrapper};
use super::slot::{Place, Slot};
use crate::{Error, ErrorKind, Incoming, Refusal, SessionHeaders, Sessions};

type Reply = Arc<dyn Fn(&Refusal) -> Response + Send + Sync>;

/// Gives the handlers below it their [`Session<T>`](super::Session), and commits it before the response leaves.
///
/// It is for one type of session; layers for several are put around each other, each with a cookie name of its own.
///
/// What the session layer's [`run`](Sessions::run) does for a handler, this does for the service inside:
///
/// - A response of 5xx saves nothing, any other saves.
/// - A handler that loses its race to another request on the session runs again on the newer data, where the request can
///   be given again: without a body, or with one of a known length up to [`REPLAY_LIMIT`](super::REPLAY_LIMIT), and no
///   upgrade. Otherwise the visitor is answered 503 with `Retry-After`. So effects outside the session come after
///   `session.save().await?`.
/// - Below several layers each commits by itself, the innermost first: a lost race of one runs the handler again although
///   the other's changes of the first run may be kept. A handler that changes two sessions uses
///   [`update`](super::Session::update) for both.
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

    /// With replies of your own in place of our 401, 503 and 500.
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

/// The cookies whose sessions layers around give, and for what types.
#[derive(Clone, Default)]
struct Given(Vec<(String, TypeId, &'static str)>);

/// The life of a request: what [`Sessions::run`] is for a handler.
async fn answer<S, T>(layer: SessionLayer<T>, mut inner: S, mut request: Request) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
    T: Default + Serialize + DeserializeOwned + Send + 'static,
{
    let sessions = &layer.sessions.0;
    if let Err(error) = give::<T>(&mut request, &sessions.parameters().cookie_name) {
        return Ok(layer.answered(&error));
    }
    let arrival = {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let url = request.uri().to_string();
        let cookie = cookies(&request);
        let incoming = Incoming::new().cookie(cookie.as_deref()).ip(header("CF-Connecting-IP")).url(&*url);
        match sessions.arrival(&incoming) {
            Ok(arrival) => arrival,
            Err(error) => return Ok(layer.answered(&error)),
        }
    };
    let slot = Slot::<T>::new(sessions, &arrival);
    request.extensions_mut().insert(Handle(SendWrapper(Rc::clone(&slot))));
    let (replay, mut request) = match Replay::of(request).await {
        Ok(replay) => replay,
        Err(error) => {
            let error = Error::new(ErrorKind::Unavailable, format_args!("the request's body did not arrive: {error}"));
            return Ok(layer.answered(&error));
        }
    };
    loop {
        let answered = sessions.nesting().within(&arrival, inner.call(request)).await;
        let mut response = match answered {
            Ok(response) => response,
            Err(error) => {
                slot.abandon();
                return Err(error);
            }
        };
        let refusal = match slot.settle(&mut response).await {
            Settled::Untouched => return Ok(layer.replaced(response)),
            Settled::Stored { set_cookie, timing } => {
                let headers =
                    SessionHeaders { set_cookie: &set_cookie, server_timing: timing.as_deref(), retry_after: None };
                headers.add_to_map(response.headers_mut());
                return Ok(response);
            }
            Settled::Expired { message, set_cookie } => {
                if response.extensions_mut().remove::<Expired>().is_some() {
                    response = (layer.reply)(&Refusal::expired(&message));
                }
                let headers = SessionHeaders { set_cookie: &set_cookie, ..SessionHeaders::default() };
                headers.add_to_map(response.headers_mut());
                return Ok(response);
            }
            Settled::Failed => {
                SessionHeaders::default().add_to_map(response.headers_mut());
                return Ok(response);
            }
            Settled::Refused(refusal) => refusal,
        };
        let again =
            if refusal.kind() == ErrorKind::Contended && slot.may_run_again() { replay.request() } else { None };
        request = match again {
            None => return Ok(layer.answered(&refusal)),
            Some(request) => request,
        };
        if let Err(refusal) = slot.reopen().await {
            return Ok(layer.answered(&refusal));
        }
        poll_fn(|context| inner.poll_ready(context)).await?;
    }
}

/// All `Cookie` headers in one: HTTP/2 lets a client split them (RFC 9113, section 8.2.3).
fn cookies(request: &Request) -> Option<String> {
    // A neighbour's cookie may hold anything, and hides none of ours.
    let mut headers =
        request.headers().get_all(COOKIE).into_iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let first = headers.next()?.into_owned();
    Some(headers.fold(first, |all, more| [all.as_str(), "; ", &more].concat()))
}

/// Notes that this layer gives the sessions of a cookie.
///
/// # Errors
///
/// `Misconfigured` where another layer around it does: the two would overwrite each other's sessions.
fn give<T: 'static>(request: &mut Request, cookie_name: &str) -> Result<(), Error> {
    let given = request.extensions_mut().get_or_insert_default::<Given>();
    if let Some((_, _, other)) = given.0.iter().find(|(name, id, _)| name == cookie_name || *id == TypeId::of::<T>()) {
        return Err(Error::misconfigured(format_args!(
            "a SessionLayer::<{}> with the cookie `{cookie_name}` stands within a SessionLayer::<{other}>: each type of session \
             needs a layer and a `cookie_name` of its own",
            type_name::<T>()
        )));
    }
    given.0.push((cookie_name.to_owned(), TypeId::of::<T>(), type_name::<T>()));
    Ok(())
}

/// Whether there is a layer around, for whatever type.
#[cfg(target_family = "wasm")]
pub(super) fn is_within_a_layer(parts: &http::request::Parts) -> bool {
    parts.extensions.get::<Given>().is_some()
}

impl<T> SessionLayer<T> {
    /// The error in the log, and the reply to it.
    fn answered(&self, error: &Error) -> Response {
        error.answered();
        self.sessions.platform().log(format_args!("{}: {error}", error.kind().as_str()));
        let refusal = Refusal::from(error);
        let mut response = (self.reply)(&refusal);
        let headers = SessionHeaders { retry_after: refusal.retry_after, ..SessionHeaders::default() };
        headers.add_to_map(response.headers_mut());
        response
    }

    /// A response of a handler that had no session, which may be an error of ours all the same.
    fn replaced(&self, mut response: Response) -> Response {
        match response.extensions_mut().remove::<Answered>() {
            Some(Answered(error)) => self.answered(&error),
            None => response,
        }
    }
}

/// What a handler's answer came to.
enum Settled {
    /// It has not asked for its session.
    Untouched,
    /// What it did to its session is stored.
    Stored { set_cookie: Vec<String>, timing: Option<String> },
    /// It was told that the session has expired.
    Expired { message: String, set_cookie: Vec<String> },
    /// It failed by itself, and nothing is stored.
    Failed,
    /// It failed by an error of ours.
    Refused(Error),
}

impl<T: Default + Serialize + DeserializeOwned> Slot<T> {
    async fn settle(&self, response: &mut Response) -> Settled {
        let place = mem::replace(&mut *self.place.borrow_mut(), Place::Out);
        let mut session = match place {
            Place::In(session) => session,
            Place::Unopened => {
                *self.place.borrow_mut() = Place::Unopened;
                return Settled::Untouched;
            }
            Place::Expired { message, set_cookie } => return Settled::Expired { message, set_cookie },
            Place::Out => {
                return Settled::Refused(Error::new(
                    ErrorKind::Nested,
                    format_args!(
                        "a Session<{}> outlived its handler, so that it was not saved: drop it before the response leaves",
                        type_name::<T>()
                    ),
                ));
            }
        };
        let error = response.extensions_mut().get::<Answered>().map(|answered| answered.0.clone());
        let settled = if error.is_some() || response.status().is_server_error() {
            match self.sessions.abandon(&mut session).or(error) {
                Some(refusal) => Settled::Refused(refusal),
                None => Settled::Failed,
            }
        } else {
            match self.sessions.commit(&mut session).await {
                Ok(set_cookie) => {
                    let mut timing = self.timing.borrow_mut();
                    timing.effect = session.effect();
                    timing.attempts = timing.attempts.saturating_add(1);
                    let timing = self.sessions.parameters().server_timing.then(|| timing.to_string());
                    Settled::Stored { set_cookie, timing }
                }
                Err(refusal) => Settled::Refused(refusal),
            }
        };
        self.put(session);
        settled
    }

    fn may_run_again(&self) -> bool {
        matches!(&*self.place.borrow(), Place::In(session) if session.may_run_again())
    }

    /// The session on the newer data, for another run.
    async fn reopen(&self) -> Result<(), Error> {
        let place = mem::replace(&mut *self.place.borrow_mut(), Place::Out);
        let Place::In(session) = place else { return Err(Error::contended()) };
        let session = self.sessions.reopen(session).await?;
        self.put(session);
        let mut timing = self.timing.borrow_mut();
        timing.attempts = timing.attempts.saturating_add(1);
        Ok(())
    }

    fn abandon(&self) {
        let place = mem::replace(&mut *self.place.borrow_mut(), Place::Out);
        if let Place::In(mut session) = place {
            drop(self.sessions.abandon(&mut session));
        }
    }
}
