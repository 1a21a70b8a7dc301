//! A session counter in axum: `/count` adds one to this visitor's number, `/reset` ends the session.

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use edge_session::tower::{Session, SessionLayer, response};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use worker::{Context, Env, HttpRequest, Result, event};

#[derive(Default, Serialize, Deserialize)]
struct Visit {
    count: u64,
}

async fn count(mut session: Session<Visit>) -> String {
    session.count += 1;
    session.count.to_string()
}

async fn reset(mut session: Session<Visit>) {
    session.kill();
}

#[event(fetch)]
async fn fetch(request: HttpRequest, env: Env, _context: Context) -> Result<Response> {
    let sessions = match SessionLayer::<Visit>::new(&env) {
        Ok(sessions) => sessions,
        Err(error) => {
            worker::console_error!("edge-session: {}: {error}", error.kind().as_str());
            return Ok(response(&error));
        }
    };
    let router = Router::new().route("/count", get(count)).route("/reset", get(reset)).layer(sessions);
    Ok(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
}
