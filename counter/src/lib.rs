//! The Worker that this repository deploys: web.py's session counter. `GET /count` adds one, `GET /reset` ends the
//! session, `GET /session` tells of it; a cron trigger frees the space of expired ones.

use edge_session::{Error, Platform, Record, Session, SessionParameters, Sessions, StoreKind, Swept, WorkerPlatform};
use serde::{Deserialize, Serialize};
use worker::{Context, Env, Request, Response, Result, ScheduleContext, ScheduledEvent, event};

mod compare;

/// The Durable Object that `wrangler.toml` declares.
pub use edge_session::SessionObject;

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

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    let response = answer(&request, &env).await?;
    // Nothing of what it says is a page.
    let headers = response.headers();
    headers.set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")?;
    headers.set("X-Content-Type-Options", "nosniff")?;
    Ok(response)
}

async fn answer(request: &Request, env: &Env) -> Result<Response> {
    let path = request.path();
    let (store, path) = compare::store_of(&path);
    let route = match path {
        "/count" => Route::Count,
        "/reset" => Route::Reset,
        "/session" => Route::Session,
        _ => return Response::error("not found\n", 404),
    };
    let sessions = match store {
        None => Sessions::from_env(env).map(Some),
        Some(store) => compare::sessions(env, store),
    };
    let sessions = match sessions {
        Ok(Some(sessions)) => sessions,
        Ok(None) => return Response::error("not found\n", 404),
        Err(error) => return Ok(error.into_reply()),
    };
    // By its own word: to worker's `Method` a method that it does not know is GET.
    match request.inner().method().as_str() {
        "GET" => {}
        // A look at the headers counts no visit and ends no session.
        "HEAD" => return Response::empty(),
        _ => return Response::builder().with_status(405).with_header("Allow", "GET, HEAD")?.ok("method not allowed\n"),
    }
    let response = sessions
        .serve(request, async |session: &mut Session<Visit>| match route {
            Route::Count => {
                session.count = session.count.saturating_add(1);
                Response::ok(session.count.to_string())
            }
            Route::Reset => {
                session.kill();
                Response::ok("")
            }
            Route::Session => Response::from_json(&facts(session, sessions.parameters())),
        })
        .await?;
    if store.is_some() && compare::keeps_cookie(&request.inner().url()) {
        response.headers().delete("Set-Cookie")?;
    }
    Ok(response)
}

/// What visitors may know of their session: all but its id and the hash of it. Times are seconds since 1970 UTC.
#[derive(Serialize)]
#[serde(untagged)]
enum Facts {
    New {
        store: &'static str,
        now: u64,
        new: bool,
    },
    Stored {
        store: &'static str,
        now: u64,
        new: bool,
        created_at: u64,
        last_used_at: u64,
        idle_expires_at: u64,
        absolute_expires_at: Option<u64>,
        bytes: usize,
        count: u64,
    },
}

fn facts(session: &Session<Visit>, parameters: &SessionParameters) -> Facts {
    let (store, now) = (parameters.store.as_str(), WorkerPlatform.now());
    let Some(record) = session.record() else { return Facts::New { store, now, new: true } };
    let Record { created_at, touched_at, .. } = record;
    Facts::Stored {
        store,
        now,
        new: false,
        created_at: *created_at,
        last_used_at: *touched_at,
        idle_expires_at: parameters.idle_expires_at(*touched_at),
        absolute_expires_at: parameters.absolute_expires_at(*created_at),
        bytes: record.data.len(),
        count: session.count,
    }
}

/// By the clock. Nobody sees what a cron run returns, so it logs.
#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    match sweep(&env).await {
        Ok(Swept { deleted: 0, left: 0 }) => {}
        Ok(Swept { deleted, left }) => {
            worker::console_log!(
                "edge-session: swept: deleted {deleted} expired sessions, {left} are left for the next time"
            );
        }
        Err(error) => WorkerPlatform.log(format_args!("{}: the sweep failed: {error}", error.kind().as_str())),
    }
}

async fn sweep(env: &Env) -> std::result::Result<Swept, Error> {
    let sessions = Sessions::from_env(env)?;
    let swept = sessions.delete_expired().await?;
    // The comparison's sessions lie in the same table of D1.
    if sessions.parameters().store == StoreKind::D1 {
        return Ok(swept);
    }
    Ok(swept.and(compare::sweep(env).await?))
}
