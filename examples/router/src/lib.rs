//! worker's `Router`, with the sessions in its data.

use edge_session::{Session, Sessions};
use serde::{Deserialize, Serialize};
use worker::{Context, Env, Request, Response, Result, RouteContext, Router, event};

/// The Durable Object, where `store = "object"`.
pub use edge_session::SessionObject;

#[derive(Default, Serialize, Deserialize)]
struct Visit {
    count: u64,
}

/// A route that needs no session does not call `serve`, and costs no store call.
#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    let sessions = match Sessions::from_env(&env) {
        Ok(sessions) => sessions,
        Err(error) => return Ok(error.into_reply()),
    };
    Router::with_data(sessions)
        .get("/", |_, _| Response::ok("/count, /reset, /add/5"))
        .get_async("/count", count)
        .get_async("/add/:number", add)
        .get_async("/reset", reset)
        .run(request, env)
        .await
}

async fn count(request: Request, context: RouteContext<Sessions>) -> Result<Response> {
    context
        .data
        .serve(&request, async |session: &mut Session<Visit>| {
            session.count = session.count.saturating_add(1);
            Response::ok(session.count.to_string())
        })
        .await
}

/// With a parameter of the route.
async fn add(request: Request, context: RouteContext<Sessions>) -> Result<Response> {
    let Some(number) = context.param("number").and_then(|number| number.parse::<u64>().ok()) else {
        return Response::error("a number, please", 400);
    };
    context
        .data
        .serve(&request, async |session: &mut Session<Visit>| {
            session.count = session.count.saturating_add(number);
            Response::ok(session.count.to_string())
        })
        .await
}

async fn reset(request: Request, context: RouteContext<Sessions>) -> Result<Response> {
    context
        .data
        .serve(&request, async |session: &mut Session<Visit>| {
            session.kill();
            Response::ok("")
        })
        .await
}
