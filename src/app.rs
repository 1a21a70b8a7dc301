//! This repository's Worker: web.py's session counter. `GET /count` adds one, `GET /reset` ends the
//! session, a cron trigger frees the space of expired ones. Nothing below knows it.

use serde::{Deserialize, Serialize};
use worker::{Context, Env, Request, Response, ScheduleContext, ScheduledEvent, event};

use crate::http::{set, text};
use crate::{Platform, Session, Sessions, js};

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
    let route = match request.path().as_str() {
        "/count" => Route::Count,
        "/reset" => Route::Reset,
        #[cfg(feature = "conformance")]
        "/conformance" => return Ok(conformance(env).await),
        #[cfg(feature = "conformance")]
        "/notes" => return notes(request, env).await,
        #[cfg(feature = "conformance")]
        "/login" => return login(request, env).await,
        #[cfg(feature = "conformance")]
        path if path.starts_with("/stored/") => return stored(path, env).await,
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

/// Runs the store conformance suite on the configured store. Only the tests' build has it.
#[cfg(feature = "conformance")]
async fn conformance(env: &Env) -> Response {
    use crate::store::conformance::{Abilities, check};
    use crate::{D1Store, KvStore, ObjectStore, StoreKind};

    let platform = &crate::http::WorkerPlatform;
    let verdict = async {
        let store = Sessions::from_env(env)?.parameters().store;
        match store {
            StoreKind::Kv => {
                // What KV cannot do, and KvStore's documentation says so.
                let abilities = Abilities { insert_only: false, compare_and_set: false };
                check(&KvStore::from_env(env, "SESSIONS")?, platform, abilities).await
            }
            StoreKind::D1 => check(&D1Store::from_env(env, "DB")?, platform, Abilities::ALL).await,
            StoreKind::Object => check(&ObjectStore::from_env(env, "SESSION_OBJECTS")?, platform, Abilities::ALL).await,
        }
    };
    match verdict.await {
        Ok(()) => text(200, "the store conforms\n"),
        Err(violation) => text(500, &violation.to_string()),
    }
}

/// Whether an object holds a record, expired or not, for the tests of its alarm.
#[cfg(feature = "conformance")]
async fn stored(path: &str, env: &Env) -> worker::Result<Response> {
    use crate::{ObjectStore, RecordKey, Store};

    let key = path.strip_prefix("/stored/").and_then(RecordKey::from_stored).ok_or("no key")?;
    let record = ObjectStore::from_env(env, "SESSION_OBJECTS")?.load(&key).await?;
    Ok(text(200, if record.is_some() { "a record" } else { "nothing" }))
}

/// Changes the id, for the tests of what the old one is worth then.
#[cfg(feature = "conformance")]
async fn login(request: &Request, env: &Env) -> worker::Result<Response> {
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(100);
        session.cycle_id();
        Response::ok(session.count.to_string())
    })
    .await
}

/// Appends the request's body to the session, for the tests of handlers that run again: the body is
/// there each time, since each run reads a copy.
#[cfg(feature = "conformance")]
async fn notes(request: &Request, env: &Env) -> worker::Result<Response> {
    crate::serve(request, env, async |session: &mut Session<Vec<String>>| {
        let note = request.clone()?.text().await?;
        if !note.is_empty() {
            session.push(note);
        }
        Response::ok(session.join(" "))
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
