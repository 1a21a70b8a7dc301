use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::{Env, web_sys};

use super::platform::WorkerPlatform;
use super::request::HttpRequest;
use super::response::{HttpResponse, SessionHeaders, refused};
use crate::connection::Connection;
use crate::cross_origin::Senders;
use crate::{Error, Incoming, Outcome, Platform, Refusal, Session, Sessions};

/// Runs `handler` on the session of `request`, with the settings of the Worker's environment: the
/// whole of this crate in one call.
///
/// ```no_run
/// use edge_session::Session;
/// use serde::{Deserialize, Serialize};
/// use worker::{Context, Env, Request, Response, Result, event};
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Visit {
///     count: u64,
/// }
///
/// #[event(fetch)]
/// async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
///     edge_session::serve(&request, &env, async |session: &mut Session<Visit>| match request.path().as_str() {
///         "/count" => {
///             session.count += 1;
///             Response::ok(session.count.to_string())
///         }
///         "/reset" => {
///             session.kill();
///             Response::ok("")
///         }
///         _ => Response::error("not found", 404),
///     })
///     .await
/// }
/// # fn main() {}
/// ```
///
/// It is [`Sessions::from_env`] and [`Sessions::serve`]. If either fails, it logs the error and replies by
/// [`Error::into_reply`]; [`serve_with`] makes replies of your own.
///
/// # Errors
///
/// Those of `handler`, and no others.
pub async fn serve<T, R, E>(
    request: &impl HttpRequest,
    env: &Env,
    handler: impl AsyncFn(&mut Session<T>) -> Result<R, E>,
) -> Result<R, E>
where
    T: Default + Serialize + DeserializeOwned,
    R: HttpResponse,
{
    serve_with(request, env, refused, handler).await
}

/// [`serve`], with replies of your own for an expired session and for failures: `reply` makes them of a [`Refusal`].
///
/// ```no_run
/// use edge_session::{Refusal, Session};
/// # use serde::{Deserialize, Serialize};
/// # use worker::{Context, Env, Request, Response, Result, event};
/// # #[derive(Default, Serialize, Deserialize)] struct Visit { user: Option<String> }
///
/// /// To the login where a session is over, and JSON for what is wrong here.
/// fn reply(refusal: &Refusal) -> Response {
///     let json = || Response::from_json(&serde_json::json!({ "error": refusal.kind.as_str() }));
///     match refusal.status {
///         401 => Response::builder().with_status(303).with_header("Location", "/login").map(|reply| reply.empty()),
///         status => json().map(|reply| reply.with_status(status)),
///     }
///     .unwrap_or_else(|_| Response::builder().with_status(500).empty())
/// }
///
/// #[event(fetch)]
/// async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
///     edge_session::serve_with(&request, &env, reply, async |session: &mut Session<Visit>| {
///         Response::ok(session.user.as_deref().unwrap_or("nobody"))
///     })
///     .await
/// }
/// # fn main() {}
/// ```
///
/// The reply gets the session's cookies and headers, as any other reply does.
///
/// # Errors
///
/// Those of `handler`, and no others.
pub async fn serve_with<T, R, E>(
    request: &impl HttpRequest,
    env: &Env,
    reply: impl FnOnce(&Refusal) -> R,
    handler: impl AsyncFn(&mut Session<T>) -> Result<R, E>,
) -> Result<R, E>
where
    T: Default + Serialize + DeserializeOwned,
    R: HttpResponse,
{
    match Sessions::from_env(env) {
        Ok(sessions) => sessions.serve_with(request, reply, handler).await,
        Err(error) => Ok(answer(&logged(&error), &[], reply)),
    }
}

/// [`serve`] for a route that pages of other sites may send to, as the return from a payment or a login elsewhere (OAuth's
/// `form_post`, SAML): the handler has to see for itself who sent what.
///
/// Whoever knows the origins names them in [`trusted_origins`](crate::SessionParameters::trusted_origins) instead.
///
/// # Errors
///
/// Those of `handler`, and no others.
pub async fn serve_from_anywhere<T, R, E>(
    request: &impl HttpRequest,
    env: &Env,
    handler: impl AsyncFn(&mut Session<T>) -> Result<R, E>,
) -> Result<R, E>
where
    T: Default + Serialize + DeserializeOwned,
    R: HttpResponse,
{
    match Sessions::from_env(env) {
        Ok(sessions) => sessions.serve_from_anywhere(request, handler).await,
        Err(error) => Ok(answer(&logged(&error), &[], refused)),
    }
}

impl Sessions {
    /// [`run`](Self::run) for a Worker's request. The handler's response leaves with the session's
    /// cookie, if there is one to set, and with `Cache-Control: private, no-store` and
    /// `Vary: Cookie`, for it depends on who asked. (The handler's own `Cache-Control` stays if it says `private` or
    /// `no-store`, and no cookie is set.)
    ///
    /// A failure of the session layer is no `Err`: `serve` logs it and replies 503 with
    /// `Retry-After`, or 500 if only the operator can repair it. The visitor's cookie stays as
    /// it is, unless the handler had saved the session under a new id. If the session ended while the handler ran, and the
    /// handler returned the error of its `save`, the reply is a 401. A request that another site made the visitor's browser send is answered 403 before the handler runs,
    /// unless it is a `GET`, `HEAD` or `OPTIONS` that opens no WebSocket.
    ///
    /// # Errors
    ///
    /// Those of `handler`, and no others. Nothing was stored then, but for what it saved itself.
    pub async fn serve<T, R, E>(
        &self,
        request: &impl HttpRequest,
        handler: impl AsyncFn(&mut Session<T>) -> Result<R, E>,
    ) -> Result<R, E>
    where
        T: Default + Serialize + DeserializeOwned,
        R: HttpResponse,
    {
        self.serve_with(request, refused, handler).await
    }

    /// [`serve`](Self::serve), with [replies of your own](serve_with) for an expired session and for failures.
    ///
    /// # Errors
    ///
    /// Those of `handler`, and no others.
    pub async fn serve_with<T, R, E>(
        &self,
        request: &impl HttpRequest,
        reply: impl FnOnce(&Refusal) -> R,
        handler: impl AsyncFn(&mut Session<T>) -> Result<R, E>,
    ) -> Result<R, E>
    where
        T: Default + Serialize + DeserializeOwned,
        R: HttpResponse,
    {
        self.serve_as(Senders::ThisSite, request, reply, handler).await
    }

    /// [`serve`](Self::serve), for a route that [pages of other sites](serve_from_anywhere) may send to.
    ///
    /// # Errors
    ///
    /// Those of `handler`, and no others.
    pub async fn serve_from_anywhere<T, R, E>(
        &self,
        request: &impl HttpRequest,
        handler: impl AsyncFn(&mut Session<T>) -> Result<R, E>,
    ) -> Result<R, E>
    where
        T: Default + Serialize + DeserializeOwned,
        R: HttpResponse,
    {
        self.serve_as(Senders::AnySite, request, refused, handler).await
    }

    async fn serve_as<T, R, E>(
        &self,
        senders: Senders,
        request: &impl HttpRequest,
        reply: impl FnOnce(&Refusal) -> R,
        handler: impl AsyncFn(&mut Session<T>) -> Result<R, E>,
    ) -> Result<R, E>
    where
        T: Default + Serialize + DeserializeOwned,
        R: HttpResponse,
    {
        let url = request.url();
        let cookie = cookie(request.raw());
        // Others are asked for only where they are looked at: what crosses into the runtime is what a request costs.
        let header = |name: &str| request.raw().headers().get(name).ok().flatten();
        let parameters = self.parameters();
        let asks_for_ip =
            !parameters.ignore_change_ip || parameters.cookie_domain.is_some() || Connection::asks_for_ip(&url);
        let ip = if asks_for_ip { header("CF-Connecting-IP") } else { None };
        let mut incoming = Incoming::new().cookie(cookie.as_deref()).ip(ip.as_deref()).url(&*url).with_reply();
        let is_judged = senders == Senders::ThisSite && !is_for_looking(request.raw());
        let sent = is_judged.then(|| Sent::of(request, header));
        if let Some(sent) = &sent {
            incoming = sent.added_to(incoming);
        }
        let (refusal, set_cookie) = match self.run(&incoming, handler).await {
            Ok(Outcome::Replied { reply, set_cookie, timing }) => {
                let timing = parameters.server_timing.then(|| timing.to_string());
                let headers =
                    SessionHeaders { set_cookie: &set_cookie, server_timing: timing.as_deref(), retry_after: None };
                return Ok(reply.with_session_headers(&headers));
            }
            Ok(Outcome::Expired { message, set_cookie }) => (Refusal::expired(&message), set_cookie),
            Ok(Outcome::Failed(error)) => return Err(error),
            Ok(Outcome::Refused { error, set_cookie }) => (logged(&error), set_cookie),
            Err(error) => (logged(&error), Vec::new()),
        };
        Ok(answer(&refusal, &set_cookie, reply))
    }
}

#[wasm_bindgen(module = "/src/worker/http.js")]
extern "C" {
    #[wasm_bindgen(js_name = isForLooking)]
    fn is_for_looking(request: &web_sys::Request) -> bool;
    fn cookie(request: &web_sys::Request) -> Option<String>;
}

/// What tells of the site that a request was sent by.
struct Sent {
    method: String,
    opens_socket: bool,
    fetch_site: Option<String>,
    origin: Option<String>,
}

impl Sent {
    /// Of a request that is not for looking alone.
    fn of(request: &impl HttpRequest, header: impl Fn(&str) -> Option<String>) -> Self {
        let method = request.raw().method();
        let opens_socket = method == "GET";
        Self { method, opens_socket, fetch_site: header("Sec-Fetch-Site"), origin: header("Origin") }
    }

    fn added_to<'a>(&'a self, incoming: Incoming<'a>) -> Incoming<'a> {
        incoming
            .method(&*self.method)
            .opens_socket(self.opens_socket)
            .fetch_site(self.fetch_site.as_deref())
            .origin(self.origin.as_deref())
    }
}

impl Error {
    /// Logs the error, and gives the reply that a visitor may see: its status, `Retry-After` with a
    /// 503, and not a word of the message.
    #[must_use]
    pub fn into_reply<R: HttpResponse>(self) -> R {
        answer(&logged(&self), &[], refused)
    }
}

/// The error, which goes to the log, as its visitor is told of it.
fn logged(error: &Error) -> Refusal {
    error.answered();
    WorkerPlatform.log(format_args!("{}: {error}", error.kind().as_str()));
    Refusal::from(error)
}

/// The reply in the handler's place, which tells the visitor's browser this.
fn answer<R: HttpResponse>(refusal: &Refusal, set_cookie: &[String], reply: impl FnOnce(&Refusal) -> R) -> R {
    let headers = SessionHeaders { set_cookie, retry_after: refusal.retry_after, ..SessionHeaders::default() };
    reply(refusal).with_session_headers(&headers)
}

/// So that `session.save().await?` works in a handler. The error stays inside, by which [`Sessions::serve`] knows
/// that it was returned, and answers it as what it is.
impl From<Error> for worker::Error {
    fn from(error: Error) -> Self {
        let message = format!("{}: {error}", error.kind().as_str());
        Self::UnknownJsError {
            original: thrown(&message),
            name: Some("edge-session".to_owned()),
            message,
            code: None,
            cause: Some(Box::new(Self::Io(std::io::Error::other(error)))),
        }
    }
}

/// What JavaScript gets of the error, where it leaves Rust.
#[cfg(target_family = "wasm")]
fn thrown(message: &str) -> JsValue {
    worker::js_sys::Error::new(message).into()
}

/// There is no JavaScript.
#[cfg(not(target_family = "wasm"))]
fn thrown(_message: &str) -> JsValue {
    JsValue::UNDEFINED
}
