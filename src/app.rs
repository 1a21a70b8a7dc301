//! This repository's Worker: web.py's session counter. `GET /count` adds one, `GET /reset` ends the
//! session, a cron trigger frees the space of expired ones. Nothing below knows it.

use serde::{Deserialize, Serialize};
use worker::{Context, Env, Request, Response, ScheduleContext, ScheduledEvent, event};

use crate::http::{set, text};
use crate::{Platform, Session, Sessions, js};

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

/// Answers every request itself: an `Err` from here would be a bare 500 without a header.
#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> worker::Result<Response> {
    Ok(answer(&request, &env).await.unwrap_or_else(|error| {
        log(&error);
        text(500, "Something went wrong. Nothing was changed.\n")
    }))
}

async fn answer(request: &Request, env: &Env) -> worker::Result<Response> {
    #[cfg(feature = "conformance")]
    if let Some(response) = test_routes::answer(request, env).await {
        return response;
    }
    let route = match request.path().as_str() {
        "/count" => Route::Count,
        "/reset" => Route::Reset,
        _ => return Ok(text(404, "not found\n")),
    };
    // The runtime's word for it: worker's `Method` takes every method that it does not know for GET.
    match request.inner().method().as_str() {
        "GET" => {}
        // A look at the headers counts no visit and ends no session.
        "HEAD" => return Ok(text(200, "")),
        _ => {
            let response = text(405, "method not allowed\n");
            set(response.headers(), "Allow", "GET, HEAD");
            return Ok(response);
        }
    }
    crate::serve(request, env, async |session: &mut Session<Visit>| match route {
        Route::Count => {
            session.count = session.count.saturating_add(1);
            Response::ok(session.count.to_string())
        }
        Route::Reset => {
            session.kill();
            Response::ok("")
        }
    })
    .await
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

fn log(error: &worker::Error) {
    crate::http::WorkerPlatform.log(format_args!("{}", js::message(error)));
}
