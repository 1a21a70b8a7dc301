//! A login form: a new id at every change of privilege, and a body that is read in the handler.
//!
//! The handler may run more than once, so it reads a copy of the request: each run finds the body.

use edge_session::Session;
use serde::{Deserialize, Serialize};
use worker::{Context, Env, FormEntry, Method, Request, Response, Result, event};

/// The Durable Object, where `store = "object"`.
pub use edge_session::SessionObject;

/// What else is known of a visitor. Whose session it is stands beside it.
#[derive(Default, Serialize, Deserialize)]
struct Visitor {}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    edge_session::serve(&request, &env, async |session: &mut Session<Visitor>| {
        match (request.method(), request.path().as_str()) {
            (Method::Get, "/") => Response::ok(session.user().unwrap_or("nobody")),
            (Method::Post, "/login") => {
                let Ok(form) = request.clone()?.form_data().await else {
                    return Response::error("a form, please", 400);
                };
                let (Some(FormEntry::Field(user)), Some(FormEntry::Field(password))) =
                    (form.get("user"), form.get("password"))
                else {
                    return Response::error("user and password, please", 400);
                };
                if !is_right(&user, &password) {
                    return Response::error("wrong user or password", 403);
                }
                // The old id ends with this, so that whoever knows it gets nothing. A form that is sent twice logs in
                // twice: the second login comes with the retired id, and is a session of its own.
                session.sign_in(&user)?;
                Response::ok("welcome")
            }
            // By POST: a link on another site must not log anybody out.
            (Method::Post, "/logout") => {
                session.sign_out();
                Response::ok("goodbye")
            }
            _ => Response::error("not found", 404),
        }
    })
    .await
}

/// Stands for your own check, against a hash and in constant time.
fn is_right(user: &str, password: &str) -> bool {
    (user, password) == ("ada", "lovelace")
}
