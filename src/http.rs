//! Sessions for a Worker's requests: where `Sessions` meets `worker`.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;
use std::thread::LocalKey;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::{Array, JSON, Object};
use worker::{Env, Request, Response, web_sys};

use crate::connection::Connection;
use crate::parameters::Setting;
use crate::platform::Sleep;
use crate::promise::Settled;
use crate::{
    D1Store, Error, Incoming, KvStore, Outcome, Platform, Session, SessionParameters, Sessions, Signer, StoreKind, js,
};

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
/// It is [`Sessions::from_env`] and [`Sessions::serve`]; what goes wrong in either is logged and
/// answered by [`Error::into_response`].
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
    match Sessions::from_env(env) {
        Ok(sessions) => sessions.serve(request, handler).await,
        Err(error) => Ok(error.into_response()),
    }
}

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

/// A response: worker's, or the runtime's own.
pub trait HttpResponse: Sized {
    /// The runtime's response as one of these.
    fn from_raw(response: web_sys::Response) -> Self;

    /// This response with the session's headers: `Vary`, `Cache-Control`, and these: `Set-Cookie`, as often as there are
    /// some, and `Server-Timing`.
    #[must_use]
    fn with_session_headers(self, set_cookie: &[String], server_timing: Option<&str>) -> Self;
}

impl HttpResponse for Response {
    fn from_raw(response: web_sys::Response) -> Self {
        response.into()
    }

    /// The headers of a response that was fetched cannot be changed; those of their copy can.
    fn with_session_headers(self, set_cookie: &[String], server_timing: Option<&str>) -> Self {
        let headers = self.headers().clone();
        add_session_headers(&headers.0, lines(set_cookie).as_deref(), server_timing);
        self.with_headers(headers)
    }
}

impl HttpResponse for web_sys::Response {
    fn from_raw(response: web_sys::Response) -> Self {
        response
    }

    fn with_session_headers(self, set_cookie: &[String], server_timing: Option<&str>) -> Self {
        with_session_headers(&self, lines(set_cookie).as_deref(), server_timing)
    }
}

/// The bindings that [`Sessions::from_env`] looks for.
const PARAMETERS: &str = "session_parameters";
const SECRET: &str = "SECRET_KEY";
const KV_NAMESPACE: &str = "SESSIONS";
const D1_DATABASE: &str = "DB";
#[cfg(feature = "object")]
const OBJECTS: &str = "SESSION_OBJECTS";

thread_local! {
    /// Parameters and keys are read and checked once in the life of an isolate. Only what passed is
    /// kept, and it is never needed to be: after a panic the instance starts anew without it.
    static SESSIONS: OnceCell<Sessions> = const { OnceCell::new() };
}

impl Sessions {
    /// The sessions that the Worker's environment describes: the parameters in the table
    /// `[vars.session_parameters]`, the keys in the secret `SECRET_KEY`, and, as `store` says, the KV
    /// namespace `SESSIONS`, the D1 database `DB` or the Durable Objects `SESSION_OBJECTS`.
    ///
    /// # Errors
    ///
    /// `Misconfigured`; the message names what is wrong and how to repair it. A missing table of
    /// parameters is *not* an error: each parameter has its default.
    pub fn from_env(env: &Env) -> Result<Self, Error> {
        Self::kept(&SESSIONS, || Self::from_env_with(env, |_| {}))
    }

    /// What is in `place`, or what `read` puts there, if it does not fail.
    pub(crate) fn kept(
        place: &'static LocalKey<OnceCell<Self>>,
        read: impl FnOnce() -> Result<Self, Error>,
    ) -> Result<Self, Error> {
        place.with(|place| match place.get() {
            Some(sessions) => Ok(sessions.clone()),
            None => read().map(|sessions| place.get_or_init(|| sessions).clone()),
        })
    }

    /// [`from_env`](Self::from_env) with parameters that the environment's are changed to: for a second
    /// kind of session in one Worker, which needs a cookie name of its own.
    ///
    /// It reads and checks the environment at each call; keep what it gives in a `thread_local!`.
    ///
    /// # Errors
    ///
    /// `Misconfigured`, as [`from_env`](Self::from_env).
    pub fn from_env_with(env: &Env, change: impl FnOnce(&mut SessionParameters)) -> Result<Self, Error> {
        let mut parameters = SessionParameters::from_env(env, PARAMETERS)?;
        change(&mut parameters);
        in_store(env, Signer::from_env(env, SECRET)?, parameters)
    }

    /// [`run`](Self::run) for a Worker's request. The handler's response leaves with the session's
    /// cookie, if there is one to set, and with `Cache-Control: private, no-store` and
    /// `Vary: Cookie`, for it depends on who asked. (A `Cache-Control` of the handler's own stays if it says `private` or
    /// `no-store`, and no cookie is set.)
    ///
    /// What goes wrong with the session is no `Err`: it is logged and answered 503 with
    /// `Retry-After`, or 500 when only the operator can repair it, and the visitor's cookie stays as
    /// it is. A session that ended while the handler ran, and whose `save` said so, is answered 401.
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
        let url = request.url();
        let request = request.raw();
        let cookie = cookie(request);
        // Asked for only where it is looked at: what crosses into the runtime is what a request costs.
        let parameters = self.parameters();
        let asks_for_ip =
            !parameters.ignore_change_ip || parameters.cookie_domain.is_some() || Connection::asks_for_ip(&url);
        let ip = asks_for_ip.then(|| address(request)).flatten();
        let incoming = Incoming { cookie: cookie.as_deref(), ip: ip.as_deref(), url: Some(&url) };
        match self.run(&incoming, handler).await {
            Ok(Outcome::Replied { reply, set_cookie, timing }) => {
                let timing = self.parameters().server_timing.then(|| timing.to_string());
                Ok(reply.with_session_headers(&set_cookie, timing.as_deref()))
            }
            Ok(Outcome::Expired { message, set_cookie }) => {
                Ok(R::from_raw(text(401, &message).with_session_headers(&set_cookie, None)))
            }
            Ok(Outcome::Failed(error)) => Err(error),
            Err(error) => Ok(error.into_response()),
        }
    }
}

impl SessionParameters {
    /// The parameters in a table of the environment, `[vars.<name>]` in `wrangler.toml`.
    ///
    /// # Errors
    ///
    /// `Misconfigured`, as [`from_json`](Self::from_json). A missing table is *not* an error: each parameter has its
    /// default.
    pub fn from_env(env: &Env, name: &str) -> Result<Self, Error> {
        match js::variable(env, name) {
            None => Ok(Self::default()),
            Some(table) => Self::from_settings(settings(table)?),
        }
    }
}

impl Signer {
    /// The keys in a secret of the environment.
    ///
    /// # Errors
    ///
    /// `Misconfigured`, as [`from_secret`](Self::from_secret), or if there is no such secret, or it is bound as an object.
    pub fn from_env(env: &Env, name: &str) -> Result<Self, Error> {
        let secret = js::variable(env, name).ok_or_else(Self::missing)?;
        Self::from_secret(&secret.as_string().ok_or_else(Self::bound_as_an_object)?)
    }
}

impl Error {
    /// Logs the error, and gives the reply that a visitor may see: its status, `Retry-After` with a
    /// 503, and not a word of the message.
    #[must_use]
    pub fn into_response<R: HttpResponse>(self) -> R {
        self.answered();
        WorkerPlatform.log(format_args!("{}: {self}", self.kind().as_str()));
        let status = self.status();
        R::from_raw(match status {
            503 => {
                let response = text(status, "Service unavailable. Please try again in a moment.\n");
                set(&response, "Retry-After", "1");
                response
            }
            401 => text(status, "Session expired"),
            _ => text(status, "This service is out of order. Its operator finds the reason in its log.\n"),
        })
    }
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

/// Cookies cross in one text, a line each; none crosses as nothing.
fn lines(set_cookie: &[String]) -> Option<String> {
    (!set_cookie.is_empty()).then(|| set_cookie.join("\n"))
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

#[wasm_bindgen(module = "/src/http.js")]
extern "C" {
    fn cookie(request: &web_sys::Request) -> Option<String>;
    fn address(request: &web_sys::Request) -> Option<String>;

    /// A plain-text response that no cache keeps, and that nobody can show as a page.
    pub(crate) fn text(status: u16, body: &str) -> web_sys::Response;

    /// The same for JSON.
    pub(crate) fn json(body: &str) -> web_sys::Response;

    #[wasm_bindgen(js_name = addSessionHeaders)]
    fn add_session_headers(headers: &web_sys::Headers, set_cookie: Option<&str>, server_timing: Option<&str>);

    #[wasm_bindgen(js_name = withSessionHeaders)]
    fn with_session_headers(
        response: &web_sys::Response,
        set_cookie: Option<&str>,
        server_timing: Option<&str>,
    ) -> web_sys::Response;
}

/// Sets a header of our own to a value of our own: both are well formed, so that it cannot fail.
pub(crate) fn set(response: &web_sys::Response, name: &str, value: &str) {
    drop(response.headers().set(name, value));
}

/// Sessions in the store that the parameters name.
fn in_store(env: &Env, signer: Signer, parameters: SessionParameters) -> Result<Sessions, Error> {
    match parameters.store {
        StoreKind::Kv => Sessions::new(KvStore::from_env(env, KV_NAMESPACE)?, WorkerPlatform, signer, parameters),
        StoreKind::D1 => Sessions::new(D1Store::from_env(env, D1_DATABASE)?, WorkerPlatform, signer, parameters),
        #[cfg(feature = "object")]
        StoreKind::Object => {
            Sessions::new(crate::ObjectStore::from_env(env, OBJECTS)?, WorkerPlatform, signer, parameters)
        }
        #[cfg(not(feature = "object"))]
        StoreKind::Object => {
            Err(Error::misconfigured("session_parameters: `store = \"object\"` needs edge-session's feature `object`"))
        }
    }
}

/// The entries of a `[vars]` table.
fn settings(table: JsValue) -> Result<impl Iterator<Item = (String, Setting)>, Error> {
    let table = table
        .dyn_into::<Object>()
        .ok()
        .filter(|table| !Array::is_array(table))
        .ok_or_else(SessionParameters::no_table)?;
    Ok(Object::entries(&table).into_iter().map(|entry| {
        let entry = Array::from(&entry);
        (entry.get(0).as_string().unwrap_or_default(), setting(&entry.get(1)))
    }))
}

fn setting(value: &JsValue) -> Setting {
    if let Some(text) = value.as_string() {
        Setting::Text(text)
    } else if let Some(flag) = value.as_bool() {
        Setting::Flag(flag)
    } else if let Some(number) = value.as_f64() {
        Setting::Number(number)
    } else {
        let json = JSON::stringify(value).ok().and_then(|json| json.as_string());
        Setting::Other(json.unwrap_or_default())
    }
}

/// The Workers runtime: for [`Sessions::new`] over a store of your own, or bindings of other names.
///
/// ```no_run
/// use edge_session::{D1Store, Error, SessionParameters, Sessions, Signer, WorkerPlatform};
///
/// fn sessions(env: &worker::Env) -> Result<Sessions, Error> {
///     let store = D1Store::from_env(env, "SHOP_DB")?.with_table("shop_sessions")?;
///     Sessions::new(store, WorkerPlatform, Signer::from_env(env, "SHOP_KEY")?, SessionParameters::from_env(env, "shop")?)
/// }
/// # fn main() {}
/// ```
///
/// It reads and checks the environment at each call; keep what it gives in a `thread_local!`.
#[derive(Clone, Copy, Debug)]
pub struct WorkerPlatform;

impl Platform for WorkerPlatform {
    fn now(&self) -> u64 {
        self.milliseconds() / 1000
    }

    fn milliseconds(&self) -> u64 {
        js::milliseconds()
    }

    fn sleep(&self, milliseconds: u32) -> Sleep {
        Box::pin(async move { drop(Settled::after(milliseconds).await) })
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        worker::console_error!("edge-session: {line}");
    }
}
