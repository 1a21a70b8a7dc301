//! axum: a login, a logout by POST, and a count.

use axum::extract::Form;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Router, body::Bytes};
use edge_session::Error;
use edge_session::tower::{Session, SessionLayer, response};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use worker::{Context, Env, HttpRequest, Result, event};

/// The Durable Object, where `store = "object"`.
pub use edge_session::SessionObject;

#[derive(Default, Serialize, Deserialize)]
struct Visitor {
    count: u64,
}

#[event(fetch)]
async fn fetch(request: HttpRequest, env: Env, _context: Context) -> Result<Response> {
    let sessions = match SessionLayer::<Visitor>::new(&env) {
        Ok(sessions) => sessions,
        Err(error) => {
            worker::console_error!("edge-session: {}: {error}", error.kind().as_str());
            return Ok(response(&error));
        }
    };
    let router = Router::new()
        .route("/", get(who))
        .route("/count", get(count))
        .route("/upload", post(upload))
        .route("/login", post(login))
        .route("/logout", post(logout))
        // Asks for no session, and so costs no store call.
        .route("/about", get(|| async { "an example of sessions for axum" }))
        .layer(sessions);
    Ok(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
}

/// `None` is a visitor without a session.
async fn who(session: Option<Session<Visitor>>) -> String {
    let user = session.as_ref().and_then(|session| session.user());
    user.unwrap_or("nobody").to_owned()
}

/// What is changed is saved when the handler has answered. It runs again where another request was faster.
async fn count(mut session: Session<Visitor>) -> String {
    session.count = session.count.saturating_add(1);
    session.count.to_string()
}

/// With a body: one of up to 64 KiB is there again in a second run. With a larger one, a lost race is a 503.
async fn upload(mut session: Session<Visitor>, body: Bytes) -> String {
    session.count = session.count.saturating_add(1);
    format!("{} bytes", body.len())
}

#[derive(Deserialize)]
struct Login {
    user: String,
    password: String,
}

async fn login(
    mut session: Session<Visitor>,
    Form(login): Form<Login>,
) -> std::result::Result<(StatusCode, &'static str), Error> {
    if !is_right(&login.user, &login.password) {
        return Ok((StatusCode::FORBIDDEN, "wrong user or password"));
    }
    // It has a new id, and an owner: the old id ends with it.
    session.sign_in(&login.user)?;
    Ok((StatusCode::OK, "welcome"))
}

/// Stands for your own check, against a hash and in constant time.
fn is_right(user: &str, password: &str) -> bool {
    (user, password) == ("ada", "lovelace")
}

/// By POST: a link on another site must not log anybody out. With `save`, the logout is stored before what follows it.
async fn logout(mut session: Session<Visitor>) -> std::result::Result<&'static str, Error> {
    session.sign_out();
    session.save().await?;
    Ok("goodbye")
}
