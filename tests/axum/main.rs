//! The session layer under axum's router, natively: what it loads, saves, runs again and refuses.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may fail")]

mod answers;
mod late;
mod nested;
mod runs;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use edge_session::tower::{FromAnywhere, REPLAY_LIMIT, Session, SessionLayer};
use edge_session::{Error, ErrorKind, Refusal};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use support::{Interference, Rig, Visit, Visitor, known, stored};
use tower::ServiceExt;
use worker::send::{SendFuture, SendWrapper};

async fn count(mut session: Session<Visit>) -> String {
    session.count += 1;
    session.count.to_string()
}

/// Counts by what the body says.
async fn add(mut session: Session<Visit>, body: String) -> String {
    session.count += body.len() as u64;
    session.count.to_string()
}

async fn look(session: Session<Visit>) -> String {
    session.count.to_string()
}

async fn maybe(session: Option<Session<Visit>>) -> String {
    session.map_or_else(|| "nobody".to_owned(), |session| session.count.to_string())
}

async fn answer(status: StatusCode, mut session: Session<Visit>) -> StatusCode {
    session.count += 1;
    status
}

async fn save(mut session: Session<Visit>) -> Result<String, Error> {
    session.count += 1;
    session.save().await?;
    Ok(session.count.to_string())
}

async fn update(mut session: Session<Visit>) -> Result<String, Error> {
    let count = session
        .update(|visit| {
            visit.count += 1;
            visit.count
        })
        .await?;
    Ok(count.to_string())
}

async fn login(mut session: Session<Visit>) {
    session.cycle_id();
}

async fn returned(FromAnywhere(mut session): FromAnywhere<Session<Visit>>) -> String {
    session.count += 1;
    session.count.to_string()
}

/// What it saved stays, and nothing else that it did.
async fn login_then_fail(mut session: Session<Visit>) -> Result<StatusCode, Error> {
    session.cycle_id();
    session.save().await?;
    session.count += 10;
    session.kill();
    Ok(StatusCode::BAD_GATEWAY)
}

async fn logout_then_fail(mut session: Session<Visit>) -> Result<StatusCode, Error> {
    session.kill();
    session.save().await?;
    Ok(StatusCode::BAD_GATEWAY)
}

async fn logout(mut session: Session<Visit>) {
    session.kill();
}

fn router() -> Router {
    Router::new()
        .route("/count", get(count))
        .route("/add", post(add))
        .route("/look", get(look))
        .route("/maybe", get(maybe))
        .route("/save", get(save))
        .route("/update", get(update))
        .route("/login", post(login))
        .route("/login-then-fail", post(login_then_fail))
        .route("/logout", post(logout))
        .route("/logout-then-fail", post(logout_then_fail))
        .route("/free", post(|| async { "free" }))
        .route("/untouched", get(|| async { "untouched" }))
        .route("/500", get(|session| answer(StatusCode::INTERNAL_SERVER_ERROR, session)))
        .route("/404", get(|session| answer(StatusCode::NOT_FOUND, session)))
        .route("/forgets", get(|session: Session<Visit>| async { std::mem::forget(session) }))
        .route("/returned", post(returned))
        .route("/twice", get(|_one: Session<Visit>, _other: Session<Visit>| async { "both" }))
}

fn below(rig: &Rig) -> Router {
    router().layer(SessionLayer::<Visit>::over(rig.sessions.clone()))
}

#[derive(Debug)]
struct Reply {
    status: u16,
    body: String,
    headers: header::HeaderMap,
}

impl Reply {
    fn brief(&self) -> (u16, &str) {
        (self.status, &self.body)
    }

    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn send(router: &Router, request: Request) -> Reply {
    block_on(async {
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
        Reply { status: parts.status.as_u16(), body, headers: parts.headers }
    })
}

fn request(visitor: &Visitor, method: &str, path: &str) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(format!("https://example.com{path}"));
    match &visitor.cookie {
        Some(cookie) => request.header(header::COOKIE, cookie),
        None => request,
    }
}

/// Asks, and keeps the session's cookie.
fn ask(router: &Router, visitor: &mut Visitor, method: &str, path: &str) -> Reply {
    let reply = send(router, request(visitor, method, path).body(Body::empty()).unwrap());
    let mut lines = reply.headers.get_all(header::SET_COOKIE).into_iter().map(|line| line.to_str().unwrap());
    if let Some(set_cookie) = lines.find(|line| !line.contains(".told=")) {
        let pair = set_cookie.split(';').next().unwrap().to_owned();
        visitor.cookie = (!set_cookie.contains("Max-Age=0")).then_some(pair);
    }
    reply
}

const RIVAL: Interference = Interference::Update(r#"{"count":10}"#);

#[test]
fn a_handlers_session_is_saved_before_its_response_leaves() {
    let rig = Rig::new();
    let router = below(&rig);
    let mut visitor = Visitor::default();
    for expected in ["1", "2", "3"] {
        let reply = ask(&router, &mut visitor, "GET", "/count");
        assert_eq!(reply.brief(), (200, expected));
        assert_eq!(reply.header(header::CACHE_CONTROL), Some("private, no-store"));
        assert_eq!(reply.header(header::VARY), Some("Cookie"));
    }
    assert_eq!(stored(&rig, &visitor).unwrap().data, r#"{"count":3}"#);
    assert_eq!(ask(&router, &mut visitor, "POST", "/logout").status, 200);
    assert_eq!(visitor.cookie, None);
    assert_eq!(ask(&router, &mut visitor, "GET", "/count").brief(), (200, "1"));
}

#[test]
fn a_route_that_does_not_ask_for_its_session_costs_no_store_call() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.calls();
    let reply = ask(&below(&rig), &mut visitor, "GET", "/untouched");
    assert_eq!(reply.brief(), (200, "untouched"));
    assert_eq!((reply.header(header::CACHE_CONTROL), reply.header(header::VARY)), (None, None), "and may be cached");
    assert_eq!(rig.store.calls(), "");
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/look").brief(), (200, "1"));
    assert_eq!(rig.store.calls(), "load", "and a look no write");
}

#[test]
fn a_response_of_5xx_saves_nothing_and_any_other_saves() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/500").status, 500);
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/look").body, "1");
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/404").status, 404);
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/look").body, "2");
}

#[test]
fn a_handler_that_loses_its_race_runs_again_on_the_newer_data() {
    for (path, expected) in [("/count", "11"), ("/save", "11"), ("/update", "11")] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        rig.store.interfere(&[RIVAL; 3]);
        assert_eq!(ask(&below(&rig), &mut visitor, "GET", path).brief(), (200, expected), "{path}");
        assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/look").body, expected, "{path}");
    }
}

#[test]
fn a_request_with_a_body_of_a_known_length_finds_it_again() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let router = below(&rig);
    for length in [0, 5, REPLAY_LIMIT] {
        rig.store.interfere(&[RIVAL; 2]);
        let body = "x".repeat(length);
        let request = request(&visitor, "POST", "/add").header(header::CONTENT_LENGTH, length);
        let reply = send(&router, request.body(Body::from(body)).unwrap());
        let due = if length == 0 { 1 } else { 10 + length };
        assert!(reply.status == 200 && (length == 0 || reply.body == due.to_string()), "{length}: {reply:?}");
    }
}

/// As that of a middleware, which has left the header as it was.
#[test]
fn a_body_that_knows_its_length_is_as_long_as_that() {
    let rig = Rig::new();
    let visitor = known(&rig);
    for length in [None, Some(2)] {
        rig.store.interfere(&[RIVAL]);
        let mut sent = request(&visitor, "POST", "/add");
        if let Some(length) = length {
            sent = sent.header(header::CONTENT_LENGTH, length);
        }
        assert_eq!(send(&below(&rig), sent.body(Body::from("12345")).unwrap()).brief(), (200, "15"), "{length:?}");
    }
}

#[test]
fn one_that_cannot_be_given_again_is_a_503_and_loses_nothing() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let router = below(&rig);
    let large = request(&visitor, "POST", "/add").header(header::CONTENT_LENGTH, REPLAY_LIMIT + 1);
    let of_unknown_length = request(&visitor, "POST", "/add");
    let stream = Body::new(http_body_util::StreamBody::new(Once(Some("12345"))));
    let upgrade = request(&visitor, "GET", "/count").header(header::UPGRADE, "websocket");
    // Of which the first counts (RFC 9112, section 6.3).
    let of_two_lengths = request(&visitor, "POST", "/add").header(header::TRANSFER_ENCODING, "chunked");
    let of_two_lengths = of_two_lengths.header(header::CONTENT_LENGTH, 5);
    for request in [
        large.body(Body::from("x".repeat(REPLAY_LIMIT + 1))).unwrap(),
        of_unknown_length.body(stream).unwrap(),
        upgrade.body(Body::empty()).unwrap(),
        of_two_lengths.body(Body::from("12345")).unwrap(),
    ] {
        rig.store.interfere(&[RIVAL]);
        let reply = send(&router, request);
        assert_eq!(reply.brief(), (503, "Service unavailable. Please try again in a moment.\n"));
        assert_eq!(reply.header(header::RETRY_AFTER), Some("1"));
        assert_eq!(ask(&router, &mut visitor, "GET", "/look").body, "10", "what the other request stored");
    }
    assert!(rig.platform.logged().iter().all(|line| line.starts_with("contended: ")), "{:?}", rig.platform.logged());
    // Without a race it is taken as it is.
    let large = request(&visitor, "POST", "/add").body(Body::from("x".repeat(REPLAY_LIMIT + 1))).unwrap();
    assert_eq!(send(&router, large).body, (10 + REPLAY_LIMIT + 1).to_string());
}

/// A body of one piece, whose length nobody says.
struct Once(Option<&'static str>);

impl futures_core::Stream for Once {
    type Item = Result<http_body::Frame<axum::body::Bytes>, std::convert::Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.take().map(|text| Ok(http_body::Frame::data(text.into()))))
    }
}

#[test]
fn a_store_that_fails_is_a_503_and_the_cookie_stays() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    for call in ["load", "update"] {
        rig.store.fail(call);
        let reply = ask(&below(&rig), &mut visitor, "GET", "/count");
        assert_eq!((reply.status, reply.header(header::SET_COOKIE)), (503, None), "{call}");
        rig.store.fail("");
        assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/look").body, "1");
    }
}

#[test]
fn a_save_of_a_session_that_has_ended_is_a_401_and_a_count_that_nobody_asked_to_save_is_not() {
    let rig = Rig::with(r#"{"expired_message": "gone"}"#);
    let visitor = known(&rig);
    rig.store.interfere(&[Interference::Delete]);
    let reply = ask(&below(&rig), &mut visitor.clone(), "GET", "/save");
    assert_eq!((reply.brief(), reply.header(header::SET_COOKIE)), ((401, "gone"), None));
    let logged = rig.platform.logged();
    assert!(logged.len() == 1 && logged[0].starts_with("changes_dropped: "), "it is no failure: {logged:?}");
    let visitor = known(&rig);
    rig.store.interfere(&[Interference::Delete]);
    assert_eq!(ask(&below(&rig), &mut visitor.clone(), "GET", "/count").status, 200);
    assert_eq!(stored(&rig, &visitor), None);
}

#[test]
fn an_expired_session_is_said_to_be_where_the_parameters_ask_for_it() {
    let rig = Rig::with(r#"{"ignore_expiry": false, "expired_message": "gone"}"#);
    let mut visitor = known(&rig);
    rig.platform.advance(100_000);
    assert_eq!(ask(&below(&rig), &mut visitor.clone(), "GET", "/untouched").status, 200);
    let maybe = ask(&below(&rig), &mut visitor, "GET", "/maybe");
    assert_eq!((maybe.brief(), maybe.header(header::SET_COOKIE)), ((200, "nobody"), None), "which tells nobody");
    assert_eq!(maybe.header(header::VARY), Some("Cookie"));
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/count").brief(), (401, "gone"));
    assert_eq!(visitor.cookie, None);
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/count").brief(), (200, "1"));
}

#[test]
fn an_optional_session_is_none_where_no_live_one_is_and_creates_none() {
    let rig = Rig::new();
    let mut nobody = Visitor::default();
    assert_eq!(ask(&below(&rig), &mut nobody, "GET", "/maybe").brief(), (200, "nobody"));
    assert_eq!((nobody.cookie, rig.store.inside.len()), (None, 0));
    assert_eq!(ask(&below(&rig), &mut known(&rig), "GET", "/maybe").brief(), (200, "1"));
}

#[test]
fn a_login_leaves_the_old_id_nothing() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut thief = visitor.twin();
    assert_eq!(ask(&below(&rig), &mut visitor, "POST", "/login").status, 200);
    assert_ne!(visitor.cookie, thief.cookie);
    assert_eq!(ask(&below(&rig), &mut thief, "GET", "/look").body, "0");
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/look").body, "1");
}

#[test]
fn what_a_handler_saved_before_it_failed_is_told_with_its_reply() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let before = visitor.cookie.clone();
    assert_eq!(ask(&below(&rig), &mut visitor, "POST", "/login-then-fail").status, 502);
    assert_ne!(visitor.cookie, before);
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/look").body, "1");
    assert_eq!(ask(&below(&rig), &mut visitor, "POST", "/logout-then-fail").status, 502);
    assert_eq!(visitor.cookie, None);
    assert_eq!(rig.platform.logged(), Vec::<String>::new());
}

/// The visitor's old id is worth nothing then.
#[test]
fn so_it_is_where_the_layer_answers_in_the_handlers_place() {
    async fn welcome(mut session: Session<Visit>) -> Result<&'static str, Error> {
        session.cycle_id();
        session.save().await?;
        session.count += 1;
        Ok("welcome")
    }
    async fn log_in(FromAnywhere(mut session): FromAnywhere<Session<Visit>>, request: Request, next: Next) -> Response {
        session.cycle_id();
        session.save().await.unwrap();
        drop(session);
        next.run(request).await
    }
    async fn log_out(
        FromAnywhere(mut session): FromAnywhere<Session<Visit>>,
        request: Request,
        next: Next,
    ) -> Response {
        session.kill();
        session.save().await.unwrap();
        drop(session);
        next.run(request).await
    }
    let rig = Rig::new();
    let refused = || post(|_: Session<Visit>| async {});
    let router = Router::new()
        .route("/commit", post(welcome))
        .route("/login", refused().layer(from_fn(log_in)))
        .route("/logout", refused().layer(from_fn(log_out)))
        .layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    for (path, site, status, is_in) in [
        ("/commit", "same-origin", 503, true),
        ("/login", "cross-site", 403, true),
        ("/logout", "cross-site", 403, false),
    ] {
        let visitor = known(&rig);
        // What is stored under the new id, and what is left under the old one, come before it.
        rig.store.fail_once("update", 1, false);
        let sent = request(&visitor, "POST", path).header("sec-fetch-site", site).body(Body::empty()).unwrap();
        let reply = send(&router, sent);
        let told = reply.header(header::SET_COOKIE).map(|line| !line.contains("Max-Age=0"));
        assert_eq!((reply.status, told), (status, Some(is_in)), "{path}");
        rig.store.fail("");
        rig.store.fail_once("", 0, false);
    }
    assert!(!rig.platform.logged().iter().any(|line| line.starts_with("id_untold: ")), "{:?}", rig.platform.logged());
}

#[test]
fn a_middleware_and_the_handler_have_one_session() {
    async fn counts_too(mut session: Session<Visit>, request: Request, next: Next) -> Response {
        session.count += 100;
        drop(session);
        next.run(request).await
    }
    async fn keeps_it(session: Session<Visit>, request: Request, next: Next) -> Response {
        let response = next.run(request).await;
        drop(session);
        response
    }
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.calls();
    let layer = SessionLayer::<Visit>::over(rig.sessions.clone());
    let counts = router().layer(from_fn(counts_too)).layer(layer.clone());
    assert_eq!(ask(&counts, &mut visitor, "GET", "/count").body, "102");
    assert_eq!(rig.store.calls(), "load update");
    let keeps = router().layer(from_fn(keeps_it)).layer(layer);
    assert_eq!(ask(&keeps, &mut visitor, "GET", "/count").status, 500);
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/twice").status, 500);
    let log = rig.platform.logged().join("\n");
    assert_eq!(log.matches(" was asked for while a handler").count(), 2, "{log}");
    assert_eq!(ask(&counts, &mut visitor, "GET", "/look").body, "202");
}

#[test]
fn a_session_that_is_asked_for_twice_at_once_is_had_once() {
    async fn twice(request: Request) -> String {
        let mut one = request.into_parts().0;
        let mut other = one.clone();
        let both = support::both(
            <Session<Visit> as FromRequestParts<()>>::from_request_parts(&mut one, &()),
            <Session<Visit> as FromRequestParts<()>>::from_request_parts(&mut other, &()),
        );
        let (one, other) = worker::send::SendFuture::new(both).await;
        format!("{} {}", one.is_ok(), other.is_ok())
    }
    let rig = Rig::new();
    let router = Router::new().route("/", get(twice)).layer(SessionLayer::<Visit>::over(rig.patient()));
    let mut visitor = known(&rig);
    rig.store.take_your_time();
    assert_eq!(ask(&router, &mut visitor, "GET", "/").body, "true false");
}

#[test]
fn a_session_that_outlives_its_handler_is_a_logged_500() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/forgets").status, 500);
    let log = rig.platform.logged().join("\n");
    assert!(log.contains("outlived its handler"), "{log}");
}

#[derive(Default, Serialize, Deserialize)]
struct Basket {
    things: u64,
}

#[test]
fn a_type_without_its_layer_is_a_500_that_names_it() {
    let rig = Rig::new();
    let router = Router::new()
        .route("/basket", get(|session: Session<Basket>| async move { session.things.to_string() }))
        .layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    assert_eq!(ask(&router, &mut Visitor::default(), "GET", "/basket").status, 500);
    let log = rig.platform.logged().join("\n");
    assert!(log.contains("misconfigured: a handler asks for a Session<axum::Basket>"), "{log}");
}

/// By a middleware of its own, which tells nobody what it was about.
#[test]
fn what_an_error_page_hides_is_in_the_log_once() {
    async fn page(request: Request, next: Next) -> Response {
        let response = next.run(request).await;
        if response.status().is_client_error() || response.status().is_server_error() {
            return (StatusCode::IM_A_TEAPOT, "sorry").into_response();
        }
        response
    }
    async fn holds_it(session: Session<Visit>, request: Request, next: Next) -> Response {
        let response = next.run(request).await;
        drop(session);
        response
    }
    let rig = Rig::new();
    let of_users = SendWrapper::new(rig.sessions.clone());
    let router = Router::new()
        .route("/basket", get(|session: Session<Basket>| async move { session.things.to_string() }))
        .route("/twice", get(|_: Session<Visit>, _: Session<Visit>| async {}))
        .route("/held", get(|_: Session<Visit>| async {}).layer(from_fn(holds_it)))
        .route("/post", post(|_: Session<Visit>| async {}))
        .route(
            "/users",
            get(move || {
                let sessions = of_users.clone();
                SendFuture::new(async move { drop(sessions.of("ada").list().await) })
            }),
        )
        .layer(from_fn(page))
        .layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    let mut visitor = known(&rig);
    let logged = |visitor: &mut Visitor, method: &str, path: &str, status: u16| {
        let before = rig.platform.logged().len();
        let mut sent = request(visitor, method, path);
        if method == "POST" {
            sent = sent.header("sec-fetch-site", "cross-site");
        }
        assert_eq!(send(&router, sent.body(Body::empty()).unwrap()).status, status, "{path}");
        rig.platform.logged().split_off(before)
    };
    for (method, path, line) in [
        ("GET", "/basket", "misconfigured: a handler asks for a Session<axum::Basket>"),
        ("GET", "/twice", "nested: "),
        ("GET", "/held", "nested: "),
        ("POST", "/post", "cross_origin: "),
    ] {
        let log = logged(&mut visitor, method, path, 418);
        assert!(log.len() == 1 && log[0].starts_with(line), "{path}: {log:?}");
    }
    rig.store.fail("load");
    let log = logged(&mut visitor, "GET", "/twice", 418);
    assert!(log.len() == 1 && log[0].starts_with("unavailable: "), "{log:?}");
    rig.store.fail("list");
    let log = logged(&mut visitor, "GET", "/users", 200);
    assert!(log.len() == 1 && log[0].starts_with("failure_ignored: "), "{log:?}");
}

#[test]
fn a_lost_race_on_a_session_that_is_no_layers_runs_nothing_again() {
    let rig = Rig::new();
    let runs = Arc::new(AtomicU32::new(0));
    let router = Router::new()
        .route(
            "/",
            get({
                let runs = Arc::clone(&runs);
                |mut session: Session<Visit>| async move {
                    session.count += 1;
                    runs.fetch_add(1, Ordering::Relaxed);
                    Error::new(ErrorKind::Contended, "another's")
                }
            }),
        )
        .layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    let mut visitor = known(&rig);
    assert_eq!(ask(&router, &mut visitor, "GET", "/").status, 503);
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    assert_eq!(rig.platform.logged(), ["contended: another's"]);
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/look").body, "1");
}

#[test]
fn two_types_on_one_cookie_are_refused() {
    let rig = Rig::new();
    let router = router()
        .layer(SessionLayer::<Basket>::over(rig.sessions.clone()))
        .layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    assert_eq!(ask(&router, &mut Visitor::default(), "GET", "/untouched").status, 500);
    let log = rig.platform.logged().join("\n");
    assert!(log.contains("a `cookie_name` of its own") && log.contains("axum::Basket"), "{log}");
}

#[test]
fn the_replies_of_the_layer_can_be_replaced() {
    let rig = Rig::with(r#"{"ignore_expiry": false}"#);
    let layer = SessionLayer::<Visit>::over(rig.sessions.clone()).with_reply(|refusal: &Refusal| match refusal.kind {
        ErrorKind::Ended => (StatusCode::SEE_OTHER, [(header::LOCATION, "/login")]).into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "{}").into_response(),
    });
    let router = router().layer(layer);
    let mut visitor = known(&rig);
    rig.store.fail("load");
    let reply = ask(&router, &mut visitor, "GET", "/count");
    assert_eq!((reply.brief(), reply.header(header::RETRY_AFTER)), ((503, "{}"), Some("1")));
    rig.store.fail("");
    rig.platform.advance(100_000);
    let reply = ask(&router, &mut visitor, "GET", "/count");
    assert_eq!((reply.status, reply.header(header::LOCATION)), (303, Some("/login")));
    assert_eq!(visitor.cookie, None, "and the dead cookie is taken away all the same");
}

#[test]
fn a_session_is_signed_in_under_a_label_and_signed_out() {
    async fn sign_in(mut session: Session<Visit>) -> Result<(), Error> {
        session.set_label("Firefox");
        session.sign_in("ada")
    }
    let rig = Rig::new();
    let router = Router::new()
        .route("/", get(|session: Session<Visit>| async move { session.user().unwrap_or("nobody").to_owned() }))
        .route("/in", post(sign_in))
        .route("/out", post(|mut session: Session<Visit>| async move { session.sign_out() }))
        .layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    let mut visitor = Visitor::default();
    assert_eq!(ask(&router, &mut visitor, "POST", "/in").status, 200);
    assert_eq!(ask(&router, &mut visitor, "GET", "/").body, "ada");
    assert_eq!(stored(&rig, &visitor).unwrap().extensions.get("label"), Some("Firefox"));
    assert_eq!(ask(&router, &mut visitor, "POST", "/out").status, 200);
    assert!(visitor.cookie.is_none() && rig.store.inside.is_empty());
}

/// For a Worker whose layer could not be made.
#[test]
fn the_response_to_an_error_says_what_it_is_and_when_to_come_again() {
    for (kind, status, seconds) in [(ErrorKind::Unavailable, 503, Some("1")), (ErrorKind::Misconfigured, 500, None)] {
        let response = edge_session::tower::response(&Error::new(kind, "disk on fire"));
        let header = |name| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(response.status(), status);
        assert_eq!(header(header::CONTENT_TYPE), Some("text/plain; charset=utf-8"));
        assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), Some("nosniff"));
        assert_eq!(header(header::RETRY_AFTER), seconds);
    }
}

#[test]
fn what_a_handler_tells_caches_stays_where_it_keeps_shared_ones_out() {
    let rig = Rig::new();
    let headers =
        [("vary", "accept, cookie"), ("cache-control", "private, max-age=5"), ("cdn-cache-control", "max-age=60")];
    let router =
        Router::new()
            .route("/", get(move |_: Session<Visit>| async move { headers }))
            .layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    let reply = ask(&router, &mut known(&rig), "GET", "/");
    assert_eq!(reply.headers.get_all(header::VARY).into_iter().collect::<Vec<_>>(), ["accept, cookie"]);
    assert_eq!(reply.header(header::CACHE_CONTROL), Some("private, max-age=5"));
    assert_eq!(reply.headers.get("cdn-cache-control"), None);
}

/// By the test's own clock: each call of the store takes a second, the handler two. It runs twice.
#[test]
fn server_timing_counts_all_runs() {
    let rig = Rig::with(r#"{"server_timing": true}"#);
    let visitor = known(&rig);
    let clock = SendWrapper::new(rig.platform.clone());
    let handler = move |mut session: Session<Visit>| async move {
        clock.advance(2);
        session.count += 1;
    };
    let router = Router::new().route("/", get(handler)).layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    rig.store.slow_down(&rig.platform, 1);
    rig.store.interfere(&[RIVAL]);
    rig.store.tell_no_winner();
    let reply = send(&router, request(&visitor, "GET", "/").body(Body::empty()).unwrap());
    let timing = reply.headers["server-timing"].to_str().unwrap();
    assert_eq!(timing, "load;desc=loaded;dur=2000, handler;dur=4000, save;desc=saved;dur=2000, attempts;desc=2");
}

#[test]
fn server_timing_tells_what_was_done_where_it_is_asked_for() {
    let rig = Rig::with(r#"{"server_timing": true}"#);
    let mut visitor = known(&rig);
    rig.store.interfere(&[RIVAL]);
    let reply = ask(&below(&rig), &mut visitor, "GET", "/count");
    let timing = reply.headers.get("server-timing").unwrap().to_str().unwrap();
    assert!(
        timing.contains("desc=loaded") && timing.contains("desc=saved") && timing.ends_with("attempts;desc=2"),
        "{timing}"
    );
}

#[test]
fn a_neighbours_cookie_of_whatever_bytes_hides_no_session() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let cookie = format!("name=J\u{f6}rg; {}", visitor.cookie.unwrap());
    let request = Request::builder().uri("https://example.com/count").header(header::COOKIE, cookie.as_bytes());
    let reply = send(&below(&rig), request.body(Body::empty()).unwrap());
    assert_eq!((reply.brief(), reply.header(header::SET_COOKIE)), ((200, "2"), None));
}

#[test]
fn what_a_page_of_another_site_sends_is_refused_where_a_handler_asks_for_its_session() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let below = below(&rig);
    let sent = |method, path: &str, site, origin: Option<&str>| {
        let request = request(&visitor, method, path).header("sec-fetch-site", site);
        let request = origin.into_iter().fold(request, |request, origin| request.header(header::ORIGIN, origin));
        send(&below, request.body(Body::empty()).unwrap())
    };
    let reply = sent("POST", "/logout", "cross-site", Some("https://evil.example"));
    assert_eq!(reply.status, 403, "{reply:?}");
    assert_eq!(reply.header(header::SET_COOKIE), None);
    assert_eq!(rig.store.calls(), "", "the store was not asked");
    let log = rig.platform.logged();
    assert!(
        log.len() == 1 && log[0].starts_with("cross_origin: ") && log[0].contains("https://evil.example"),
        "{log:?}"
    );
    assert_eq!(sent("POST", "/add", "same-site", None).status, 403);
    // A route without a session is not judged, and a look never.
    assert_eq!(sent("POST", "/free", "cross-site", None).brief(), (200, "free"));
    assert_eq!(sent("GET", "/look", "cross-site", None).brief(), (200, "1"));
    assert_eq!(sent("POST", "/returned", "cross-site", Some("null")).brief(), (200, "2"));
    assert_eq!(sent("POST", "/logout", "same-origin", None).status, 200);
    assert_eq!(stored(&rig, &visitor), None);
}

/// A page of another site can open one, and a socket can do everything.
#[test]
fn a_socket_that_another_sites_page_opens_is_refused() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let upgrade = request(&visitor, "GET", "/count").header(header::UPGRADE, "websocket");
    let reply = send(&below(&rig), upgrade.header(header::ORIGIN, "https://evil.example").body(Body::empty()).unwrap());
    assert_eq!(reply.status, 403);
    let upgrade = request(&visitor, "GET", "/count").header(header::UPGRADE, "websocket");
    let reply = send(&below(&rig), upgrade.header(header::ORIGIN, "https://example.com").body(Body::empty()).unwrap());
    assert_eq!(reply.brief(), (200, "2"));
}

#[test]
fn headers_that_are_not_ascii_or_come_twice_are_not_absent() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let post = || request(&visitor, "POST", "/logout");
    let origin = http::HeaderValue::from_bytes(b"https://\xc3\xa9vil.example").unwrap();
    assert_eq!(send(&below(&rig), post().header(header::ORIGIN, origin).body(Body::empty()).unwrap()).status, 403);
    let twice = post().header("sec-fetch-site", "same-origin").header("sec-fetch-site", "cross-site");
    assert_eq!(send(&below(&rig), twice.body(Body::empty()).unwrap()).status, 403);
}
