//! Layers for several types of session around one handler.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use edge_session::tower::{Session, SessionLayer};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use worker::send::SendFuture;

use crate::support::{Interference, Rig, Visit, Visitor, both, step_aside, stored};
use crate::{Basket, RIVAL, Reply, ask, count, request, save, send};

#[test]
fn two_layers_nest_each_with_a_cookie_of_its_own() {
    let rig = Rig::new();
    let other = Rig::with(r#"{"cookie_name": "basket"}"#);
    let both = |mut visit: Session<Visit>, mut basket: Session<Basket>| async move {
        visit.count += 1;
        basket.things += 2;
        format!("{} {}", visit.count, basket.things)
    };
    let router = Router::new()
        .route("/both", get(both))
        .layer(SessionLayer::<Basket>::over(other.sessions))
        .layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    let reply = ask(&router, &mut Visitor::default(), "GET", "/both");
    assert_eq!(reply.brief(), (200, "1 2"));
    let cookies: Vec<_> = reply.headers.get_all(header::SET_COOKIE).into_iter().collect();
    assert_eq!(cookies.len(), 2);
    let pairs: Vec<_> = cookies.iter().map(|cookie| cookie.to_str().unwrap().split(';').next().unwrap()).collect();
    let mut visitor = Visitor::with(pairs.join("; "));
    assert_eq!(ask(&router, &mut visitor, "GET", "/both").brief(), (200, "2 4"));
}

/// A layer for a basket within a layer for visits.
struct Nested {
    visits: Rig,
    baskets: Rig,
    router: Router,
    visitor: Visitor,
}

impl Nested {
    /// With a visitor who has one of each.
    fn new() -> Self {
        let (visits, baskets) = (Rig::new(), Rig::with(r#"{"cookie_name": "basket"}"#));
        let router = Router::new()
            .route("/both", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 1, 1)))
            .route("/visit", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 1, 0)))
            .route("/basket", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 0, 1)))
            .route("/count", get(count))
            .route("/save", get(save))
            .route("/put", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
            .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()).with_reply(|_| see_other("/baskets")))
            .layer(SessionLayer::<Visit>::over(visits.sessions.clone()).with_reply(|_| see_other("/visits")));
        let mut nested = Self { visits, baskets, router, visitor: Visitor::default() };
        assert_eq!(nested.ask("POST", "/both").brief(), (200, "1 1"));
        nested
    }

    fn ask(&mut self, method: &str, path: &str) -> Reply {
        let reply = send(&self.router, request(&self.visitor, method, path).body(Body::empty()).unwrap());
        let cookies: Vec<_> = reply.headers.get_all(header::SET_COOKIE).into_iter().collect();
        if !cookies.is_empty() {
            let pairs: Vec<_> = cookies.iter().map(|line| line.to_str().unwrap().split(';').next().unwrap()).collect();
            self.visitor.cookie = Some(pairs.join("; "));
        }
        reply
    }

    /// What is stored of the visits and of the baskets.
    fn stored(&self) -> [String; 2] {
        [&self.visits, &self.baskets]
            .map(|rig| stored(rig, &self.visitor).map(|record| record.data).unwrap_or_default())
    }
}

fn see_other(place: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
}

async fn change(mut visit: Session<Visit>, mut basket: Session<Basket>, visits: u64, things: u64) -> String {
    if visits > 0 {
        visit.count += visits;
    }
    if things > 0 {
        basket.things += things;
    }
    format!("{} {}", visit.count, basket.things)
}

const RIVAL_BASKET: Interference = Interference::Update(r#"{"things":10}"#);

#[test]
fn a_handler_that_loses_a_race_on_one_of_two_sessions_runs_again_on_both() {
    for (path, expected) in [("/both", "2 11"), ("/basket", "1 11")] {
        let mut nested = Nested::new();
        nested.baskets.store.interfere(&[RIVAL_BASKET; 3]);
        assert_eq!(nested.ask("POST", path).brief(), (200, expected), "{path}: the inner one's");
    }
    let mut nested = Nested::new();
    nested.visits.store.interfere(&[RIVAL; 3]);
    assert_eq!(nested.ask("POST", "/visit").brief(), (200, "11 1"), "the outer one's");
    assert_eq!(nested.stored(), [r#"{"count":11}"#, r#"{"things":1}"#]);
    // The inner one's, while nobody has asked for the outer one.
    nested.baskets.store.interfere(&[RIVAL_BASKET; 3]);
    nested.visits.store.calls();
    assert_eq!(nested.ask("POST", "/put").status, 200);
    assert_eq!(nested.visits.store.calls(), "");
    assert_eq!(nested.stored(), [r#"{"count":11}"#, r#"{"things":11}"#]);
    // And the outer one's, while nobody has asked for the inner one.
    for (path, expected) in [("/count", "11"), ("/save", "11")] {
        nested.visits.store.interfere(&[RIVAL; 3]);
        assert_eq!(nested.ask("GET", path).brief(), (200, expected), "{path}");
    }
    let log = [nested.visits.platform.logged(), nested.baskets.platform.logged()].concat();
    assert_eq!(log, Vec::<String>::new());
}

#[test]
fn a_race_that_is_lost_after_the_inner_session_is_stored_runs_nothing_twice() {
    let mut nested = Nested::new();
    nested.visits.store.interfere(&[RIVAL]);
    let reply = nested.ask("POST", "/both");
    assert_eq!((reply.status, reply.header(header::LOCATION)), (303, Some("/visits")), "by the outer layer");
    assert_eq!(reply.header(header::RETRY_AFTER), Some("1"));
    assert_eq!(nested.stored(), [r#"{"count":10}"#, r#"{"things":2}"#]);

    // Its visitor learns of an inner session that has just begun.
    let mut nested = Nested::new();
    let visit =
        nested.visitor.cookie.take().unwrap().split("; ").find(|pair| !pair.starts_with("basket")).map(str::to_owned);
    nested.visitor.cookie = visit;
    nested.visits.store.interfere(&[RIVAL]);
    let reply = nested.ask("POST", "/both");
    assert_eq!(reply.status, 303);
    assert!(reply.header(header::SET_COOKIE).is_some_and(|line| line.starts_with("basket=")), "{reply:?}");
}

#[test]
fn what_a_layer_refuses_is_not_saved_by_those_around_it_and_is_answered_once() {
    for (fails, replies) in [("update", "/baskets"), ("load", "/baskets")] {
        let mut nested = Nested::new();
        nested.baskets.store.fail(fails);
        let reply = nested.ask("POST", "/both");
        assert_eq!((reply.status, reply.header(header::LOCATION)), (303, Some(replies)), "{fails}");
        nested.baskets.store.fail("");
        assert_eq!(nested.stored(), [r#"{"count":1}"#, r#"{"things":1}"#], "{fails}");
        assert_eq!((nested.baskets.platform.logged().len(), nested.visits.platform.logged().len()), (1, 0), "{fails}");
    }
    // The error of the outer session passes the inner layer.
    let mut nested = Nested::new();
    nested.visits.store.fail("update");
    assert_eq!(nested.ask("GET", "/save").header(header::LOCATION), Some("/visits"));
    assert_eq!((nested.baskets.platform.logged().len(), nested.visits.platform.logged().len()), (0, 1));
}

#[test]
fn a_session_that_was_killed_between_two_runs_of_its_handler_is_not_begun_anew() {
    let mut nested = Nested::new();
    nested.baskets.store.interfere(&[Interference::UpdateAndDelete(r#"{"things":10}"#)]);
    let reply = nested.ask("POST", "/both");
    assert_eq!((reply.brief(), reply.header(header::SET_COOKIE)), ((200, "2 1"), None));
    assert_eq!(nested.stored(), [r#"{"count":2}"#, ""]);
}

#[derive(Default, Serialize, Deserialize)]
struct Theme {}

#[test]
fn nor_where_a_layer_between_has_no_session() {
    let mut nested = Nested::new();
    let themes = Rig::with(r#"{"cookie_name": "theme"}"#);
    nested.router = Router::new()
        .route("/both", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 1, 1)))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
        .layer(SessionLayer::<Theme>::over(themes.sessions))
        .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[Interference::UpdateAndDelete(r#"{"things":10}"#)]);
    let reply = nested.ask("POST", "/both");
    assert_eq!((reply.brief(), reply.header(header::SET_COOKIE)), ((200, "2 1"), None));
    assert_eq!(nested.stored(), [r#"{"count":2}"#, ""]);
}

#[test]
fn a_page_that_a_middleware_makes_of_a_503_hides_no_lost_race() {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK] {
        let page = move |request: Request, next: Next| async move {
            let response = next.run(request).await;
            if response.status().is_server_error() { (status, "our page").into_response() } else { response }
        };
        let mut nested = Nested::new();
        nested.router = Router::new()
            .route("/both", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 1, 1)))
            .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
            .layer(from_fn(page))
            .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
        nested.baskets.store.interfere(&[RIVAL_BASKET]);
        assert_eq!(nested.ask("POST", "/both").brief(), (200, "2 11"), "{status}");
        assert_eq!(nested.stored(), [r#"{"count":2}"#, r#"{"things":11}"#], "{status}");
    }
}

#[test]
fn a_middleware_that_tries_again_and_wins_is_not_overruled() {
    let mut nested = Nested::new();
    let inner = Router::new()
        .route("/", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 0, 1)))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    let retry = move |request: Request| {
        let inner = inner.clone();
        async move {
            let parts = request.into_parts().0;
            let send = |parts| inner.clone().oneshot(Request::from_parts(parts, Body::empty()));
            let response = send(parts.clone()).await.unwrap();
            if response.status().is_server_error() { send(parts).await.unwrap() } else { response }
        }
    };
    nested.router =
        Router::new().route("/", post(retry)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    nested.visits.store.calls();
    assert_eq!(nested.ask("POST", "/").brief(), (200, "1 11"));
    assert_eq!(nested.visits.store.calls(), "load", "once");
    assert_eq!(nested.visits.platform.logged(), Vec::<String>::new());
}

#[test]
fn an_inner_service_that_is_called_twice_at_once_has_a_session_for_each() {
    let nested = Nested::new();
    let inner = Router::new()
        .route("/", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .layer(from_fn(|request: Request, next: Next| async move {
            step_aside().await;
            next.run(request).await
        }))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    let statuses = Arc::new(Mutex::new(Vec::new()));
    let hedge = {
        let statuses = Arc::clone(&statuses);
        move |visit: Session<Visit>, request: Request| async move {
            drop(visit);
            let parts = request.into_parts().0;
            let send = |parts| inner.clone().oneshot(Request::from_parts(parts, Body::empty()));
            let (one, other) = SendFuture::new(both(send(parts.clone()), send(parts))).await;
            let (one, other) = (one.unwrap(), other.unwrap());
            statuses.lock().unwrap().push((one.status().as_u16(), other.status().as_u16()));
            one
        }
    };
    let router =
        Router::new().route("/", post(hedge)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[RIVAL_BASKET; 2]);
    send(&router, request(&nested.visitor, "POST", "/").body(Body::empty()).unwrap());
    let statuses = statuses.lock().unwrap();
    assert!(statuses.len() > 1 && statuses.iter().all(|(one, other)| *one != 500 && *other != 500), "{statuses:?}");
    let log = nested.baskets.platform.logged();
    assert_eq!(log.iter().filter(|line| line.starts_with("nested")).count(), 0, "{log:?}");
}
