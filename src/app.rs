//! This repository's Worker: web.py's session counter. `GET /count` adds one, `GET /reset` ends the
//! session, `GET /session` tells of it; a cron trigger frees the space of expired ones. Nothing below
//! knows it.

#![allow(unreachable_pub, reason = "the runtime calls what #[wasm_bindgen] exports")]

use std::borrow::Cow;
use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::{Env, web_sys};

use crate::http::{HttpRequest, WorkerPlatform, json, set, text};
use crate::{Error, Platform, Record, Session, SessionParameters, Sessions, StoreKind, Swept, task};

mod compare;
#[cfg(feature = "conformance")]
mod test_routes;

#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: rlsf::GlobalTlsf = rlsf::GlobalTlsf::new();

/// web.py's `initializer={'count': 0}`.
#[derive(Default, Serialize, Deserialize)]
struct Visit {
    #[serde(default)]
    count: u64,
}

enum Route {
    Count,
    Reset,
    Session,
}

/// Called by the runtime. It is worker's `#[event(fetch)]` without its conversions, for the runtime's own
/// request and response.
#[wasm_bindgen]
pub fn fetch(request: web_sys::Request, env: Env, _context: &JsValue) -> JsValue {
    let url = request.url();
    task::run(async move { Ok(answer(&Asked { request, url }, &env).await.into()) })
}

/// A request whose URL has been asked for.
struct Asked {
    request: web_sys::Request,
    url: String,
}

impl HttpRequest for Asked {
    fn raw(&self) -> &web_sys::Request {
        &self.request
    }

    fn url(&self) -> Cow<'_, str> {
        Cow::Borrowed(&self.url)
    }
}

async fn answer(request: &Asked, env: &Env) -> web_sys::Response {
    let Asked { request: raw, url } = request;
    let path = path_of(url);
    #[cfg(feature = "conformance")]
    if let Some(response) = test_routes::answer(raw, path, env).await {
        return response;
    }
    let (store, path) = compare::store_of(path);
    let route = match path {
        "/count" => Route::Count,
        "/reset" => Route::Reset,
        "/session" => Route::Session,
        _ => return text(404, "not found\n"),
    };
    match raw.method().as_str() {
        "GET" => {}
        // A look at the headers counts no visit and ends no session.
        "HEAD" => return text(200, ""),
        _ => {
            let response = text(405, "method not allowed\n");
            set(&response, "Allow", "GET, HEAD");
            return response;
        }
    }
    let sessions = match store {
        None => Sessions::from_env(env).map(Some),
        Some(store) => compare::sessions(env, store),
    };
    let sessions = match sessions {
        Ok(Some(sessions)) => sessions,
        Ok(None) => return text(404, "not found\n"),
        Err(error) => return error.into_response(),
    };
    let handler = async |session: &mut Session<Visit>| {
        Ok::<_, Infallible>(match route {
            Route::Count => {
                session.count = session.count.saturating_add(1);
                text(200, &session.count.to_string())
            }
            Route::Reset => {
                session.kill();
                text(200, "")
            }
            Route::Session => json(&facts(session, sessions.parameters())),
        })
    };
    let Ok(response) = sessions.serve(request, handler).await;
    if store.is_some() && compare::keeps_cookie(url) {
        drop(response.headers().delete("Set-Cookie"));
    }
    response
}

/// What visitors may know of their session, as JSON: all but its id and the hash of it.
fn facts(session: &Session<Visit>, parameters: &SessionParameters) -> String {
    let store = parameters.store.as_str();
    let now = WorkerPlatform.now();
    let Some(record) = session.record() else {
        return format!(r#"{{"store":"{store}","now":{now},"new":true}}"#);
    };
    let Record { created_at, touched_at, .. } = record;
    let idle = parameters.idle_expires_at(*touched_at);
    let absolute = parameters.absolute_expires_at(*created_at);
    let absolute = absolute.map_or_else(|| "null".to_owned(), |time| time.to_string());
    let (bytes, count) = (record.data.len(), session.count);
    format!(
        r#"{{"store":"{store}","now":{now},"new":false,"created_at":{created_at},"last_used_at":{touched_at},"idle_expires_at":{idle},"absolute_expires_at":{absolute},"bytes":{bytes},"count":{count}}}"#
    )
}

/// The path of a request's URL, as the runtime wrote it: never empty.
fn path_of(url: &str) -> &str {
    let start = url.find("://").and_then(|scheme| url.get(scheme.saturating_add(3)..)).unwrap_or(url);
    let path = start.find('/').and_then(|path| start.get(path..)).unwrap_or("/");
    path.split(['?', '#']).next().unwrap_or(path)
}

/// Called by the runtime, by the clock. Nobody sees what a cron run returns, so it logs.
#[wasm_bindgen]
pub fn scheduled(_event: &JsValue, env: Env, _context: &JsValue) -> JsValue {
    task::run(async move {
        match sweep(&env).await {
            Ok(Swept { deleted: 0, left: 0 }) => {}
            Ok(Swept { deleted, left }) => {
                worker::console_log!(
                    "edge-session: swept: deleted {deleted} expired sessions, {left} are left for the next time"
                );
            }
            Err(error) => WorkerPlatform.log(format_args!("{}: the sweep failed: {error}", error.kind().as_str())),
        }
        Ok(JsValue::UNDEFINED)
    })
}

async fn sweep(env: &Env) -> Result<Swept, Error> {
    let sessions = Sessions::from_env(env)?;
    let swept = sessions.delete_expired().await?;
    // The comparison's sessions lie in the same table of D1.
    if sessions.parameters().store == StoreKind::D1 {
        return Ok(swept);
    }
    Ok(swept.and(compare::sweep(env).await?))
}
