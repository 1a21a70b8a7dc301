//! A session counter: `/count` adds one to this visitor's number, `/reset` ends the session.

use edge_session::Session;
use serde::{Deserialize, Serialize};
use worker::{Context, Env, Request, Response, Result, event};

#[rustfmt::skip]
#[derive(Default, Serialize, Deserialize)]
struct Visit { count: u64 } // Default is web.py's initializer

#[rustfmt::skip]
#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    edge_session::serve(&request, &env, async |session: &mut Session<Visit>| match request.path().as_str() {
        "/count" => { session.count += 1; Response::ok(session.count.to_string()) }
        "/reset" => { session.kill();     Response::ok("") }
        _        => Response::error("not found", 404),
    })
    .await
}
