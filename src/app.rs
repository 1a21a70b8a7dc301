//! This repository's Worker: web.py's session counter. `GET /count` adds one, `GET /reset` ends the
//! session, a cron trigger frees the space of expired ones. Nothing below knows it.

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use worker::{Context, Env, ScheduleContext, ScheduledEvent, event, web_sys};

use crate::http::{set, text};
use crate::{Platform, Session, Sessions};

#[cfg(feature = "conformance")]
mod test_routes;

/// web.py's `initializer={'count': 0}`.
#[derive(Default, Serialize, Deserialize)]
struct Visit {
    #[serde(default)]
    count: u64,
}

enum Route {
    Count,
    Reset,
}

/// The runtime's own request and response, of which nothing need be converted.
#[event(fetch)]
async fn fetch(request: web_sys::Request, env: Env, _context: Context) -> Result<web_sys::Response, Infallible> {
    Ok(answer(&request, &env).await)
}

async fn answer(request: &web_sys::Request, env: &Env) -> web_sys::Response {
    let url = request.url();
    let path = path_of(&url);
    #[cfg(feature = "conformance")]
    if let Some(response) = test_routes::answer(request, path, env).await {
        return response;
    }
    let route = match path {
        "/count" => Route::Count,
        "/reset" => Route::Reset,
        _ => return text(404, "not found\n"),
    };
    match request.method().as_str() {
        "GET" => {}
        // A look at the headers counts no visit and ends no session.
        "HEAD" => return text(200, ""),
        _ => {
            let response = text(405, "method not allowed\n");
            set(&response, "Allow", "GET, HEAD");
            return response;
        }
    }
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
        })
    };
    let Ok(response) = crate::serve(request, env, handler).await;
    response
}

/// The path of a request's URL, as the runtime wrote it: never empty.
fn path_of(url: &str) -> &str {
    let start = url.find("://").and_then(|scheme| url.get(scheme.saturating_add(3)..)).unwrap_or(url);
    let path = start.find('/').and_then(|path| start.get(path..)).unwrap_or("/");
    path.split(['?', '#']).next().unwrap_or(path)
}

/// Nobody sees what a cron run returns, so it logs.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    let swept = match Sessions::from_env(&env) {
        Ok(sessions) => sessions.delete_expired().await,
        Err(error) => Err(error),
    };
    match swept {
        Ok(0) => {}
        Ok(sessions) => worker::console_log!("edge-session: deleted {sessions} expired sessions"),
        Err(error) => crate::http::WorkerPlatform.log(format_args!("sweeping: {error}")),
    }
}
