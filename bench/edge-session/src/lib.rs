//! README's Worker, a route that only reads, and a login.
#![allow(missing_docs, reason = "#[event] exports functions without documentation")]

use edge_session::Session;
use serde::{Deserialize, Serialize};
use worker::{Context, Env, Request, Response, Result, event};

#[cfg(feature = "object")]
pub use edge_session::SessionObject;

#[derive(Default, Serialize, Deserialize)]
struct Visit {
    count: u64,
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    edge_session::serve(&request, &env, async |session: &mut Session<Visit>| match request.path().as_str() {
        "/count" => {
            session.count += 1;
            Response::ok(session.count.to_string())
        }
        "/reset" => {
            session.kill();
            Response::ok("")
        }
        // As at a login: a new id, an owner, and a change.
        "/login" => {
            session.sign_in("ada")?;
            session.count += 1;
            Response::ok(session.count.to_string())
        }
        #[cfg(feature = "users")]
        "/devices" => {
            let sessions = edge_session::Sessions::from_env(&env)?;
            let user = sessions.of("ada");
            let listed = user.list().await?.len();
            let ended = user.end_others(session).await?;
            Response::ok(format!("{ended} of {listed}"))
        }
        "/read" => Response::ok(session.count.to_string()),
        _ => Response::error("not found", 404),
    })
    .await
}
