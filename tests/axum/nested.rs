//! Layers for several types of session around one handler.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

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
pub(crate) struct Nested {
    pub(crate) visits: Rig,
    pub(crate) baskets: Rig,
    pub(crate) router: Router,
    pub(crate) visitor: Visitor,
}

impl Nested {
    /// With a visitor who has one of each.
    pub(crate) fn new() -> Self {
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

    pub(crate) fn visitor_without_a_basket(&self) -> Visitor {
        let cookie = self.visitor.cookie.as_deref().unwrap();
        Visitor::with(cookie.split("; ").find(|pair| !pair.starts_with("basket")).unwrap())
    }

    /// Its layers around something else.
    pub(crate) fn around(&self, inner: Router) -> Router {
        inner
            .layer(SessionLayer::<Basket>::over(self.baskets.sessions.clone()))
            .layer(SessionLayer::<Visit>::over(self.visits.sessions.clone()))
    }

    pub(crate) fn ask(&mut self, method: &str, path: &str) -> Reply {
        let reply = send(&self.router, request(&self.visitor, method, path).body(Body::empty()).unwrap());
        let cookies: Vec<_> = reply.headers.get_all(header::SET_COOKIE).into_iter().collect();
        if !cookies.is_empty() {
            let pairs: Vec<_> = cookies.iter().map(|line| line.to_str().unwrap().split(';').next().unwrap()).collect();
            self.visitor.cookie = Some(pairs.join("; "));
        }
        reply
    }

    /// What is stored of the visits and of the baskets.
    pub(crate) fn stored(&self) -> [String; 2] {
        [&self.visits, &self.baskets]
            .map(|rig| stored(rig, &self.visitor).map(|record| record.data).unwrap_or_default())
    }
}

pub(crate) fn see_other(place: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
}

pub(crate) async fn change(mut visit: Session<Visit>, mut basket: Session<Basket>, visits: u64, things: u64) -> String {
    if visits > 0 {
        visit.count += visits;
    }
    if things > 0 {
        basket.things += things;
    }
    format!("{} {}", visit.count, basket.things)
}

pub(crate) const RIVAL_BASKET: Interference = Interference::Update(r#"{"things":10}"#);

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
    nested.visitor = nested.visitor_without_a_basket();
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
pub(crate) struct Theme {}

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

/// What a middleware does that sends a request once more where it is answered by a 5xx.
pub(crate) async fn with_a_second_try(inner: Router, request: Request) -> Response {
    let parts = request.into_parts().0;
    let send = |parts| inner.clone().oneshot(Request::from_parts(parts, Body::empty()));
    let response = send(parts.clone()).await.unwrap();
    if response.status().is_server_error() { send(parts).await.unwrap() } else { response }
}

#[test]
fn a_middleware_that_tries_again_and_wins_is_not_overruled() {
    let mut nested = Nested::new();
    let inner = Router::new()
        .route("/", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 0, 1)))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    let retry = move |request: Request| with_a_second_try(inner.clone(), request);
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

/// Visits > Themes > Baskets, and a middleware between Visits and Themes that tries again once.
fn retried_in_three(theme_is_open: bool) {
    let mut nested = Nested::new();
    let themes = Rig::with(r#"{"cookie_name": "theme"}"#);
    let handler = move |theme: Option<Session<Theme>>, mut basket: Session<Basket>| async move {
        drop(theme);
        basket.things += 1;
        basket.things.to_string()
    };
    let lean = |mut basket: Session<Basket>| async move {
        basket.things += 1;
        basket.things.to_string()
    };
    let inner = Router::new();
    let inner = if theme_is_open { inner.route("/", post(handler)) } else { inner.route("/", post(lean)) };
    let inner = inner
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
        .layer(SessionLayer::<Theme>::over(themes.sessions));
    let retry = move |mut visit: Session<Visit>, request: Request| {
        visit.count += 1;
        drop(visit);
        with_a_second_try(inner.clone(), request)
    };
    nested.router =
        Router::new().route("/", post(retry)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    let reply = nested.ask("POST", "/");
    assert_eq!(reply.brief(), (200, "11"));
    assert_eq!(nested.stored(), [r#"{"count":2}"#, r#"{"things":11}"#]);
    assert_eq!(nested.visits.platform.logged(), Vec::<String>::new());
}

#[test]
fn a_second_try_wins_where_a_layer_between_has_no_session() {
    retried_in_three(false);
}

#[test]
fn a_second_try_wins_where_a_layer_between_has_one() {
    retried_in_three(true);
}

#[test]
fn a_page_in_place_of_a_lost_race_that_is_not_run_again_is_saved_and_not_shared() {
    let page = move |request: Request, next: Next| async move {
        let response = next.run(request).await;
        if response.status().is_server_error() {
            ([("cache-control", "public, max-age=60")], "our page").into_response()
        } else {
            response
        }
    };
    let mut nested = Nested::new();
    nested.router = Router::new()
        .route("/both", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 1, 1)))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
        .layer(from_fn(page))
        .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    let request = request(&nested.visitor, "POST", "/both").header(header::CONTENT_LENGTH, 70_000);
    let reply = send(&nested.router, request.body(Body::from("x".repeat(70_000))).unwrap());
    assert_eq!(reply.header(header::CACHE_CONTROL), Some("private, no-store"), "shared caches");
    assert_eq!((reply.brief(), nested.stored()[0].as_str()), ((200, "our page"), r#"{"count":2}"#));
}

/// Work that a middleware has begun, and that goes on when it has answered.
type Work = Pin<Box<dyn Future<Output = Response> + Send>>;

/// For a middleware that counts a visit, and answers before what it has begun is done: begins it, at most `most` times.
async fn put_off(
    works: Arc<Mutex<Vec<Work>>>,
    most: usize,
    mut visit: Session<Visit>,
    request: Request,
    next: Next,
) -> &'static str {
    visit.count += 1;
    drop(visit);
    if works.lock().unwrap().len() < most {
        let mut work: Work = Box::pin(next.run(request));
        poll_fn(|context| {
            assert!(work.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        works.lock().unwrap().push(work);
    }
    "accepted"
}

#[test]
fn work_that_goes_on_beside_a_second_run_keeps_its_change() {
    let mut nested = Nested::new();
    let works: Arc<Mutex<Vec<Work>>> = Arc::default();
    let put_off = {
        let works = Arc::clone(&works);
        move |visit, request, next| put_off(Arc::clone(&works), 1, visit, request, next)
    };
    nested.router = Router::new()
        .route(
            "/",
            post(|mut basket: Session<Basket>| async move {
                basket.things += 1;
                drop(basket);
                step_aside().await;
                "done"
            }),
        )
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
        .layer(from_fn(put_off))
        .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.visits.store.interfere(&[RIVAL]);
    assert_eq!(nested.ask("POST", "/").brief(), (200, "accepted"));
    let work = works.lock().unwrap().remove(0);
    let response = pollster::block_on(work);
    assert_eq!(response.status(), 200);
    assert_eq!(nested.stored(), [r#"{"count":11}"#, r#"{"things":2}"#]);
}

#[test]
fn a_lost_race_of_one_of_two_calls_is_not_forgotten() {
    let mut nested = Nested::new();
    let inner = Router::new()
        .route("/a", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .route("/b", post(|basket: Session<Basket>| async move { basket.things.to_string() }))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    let batch = move |mut visit: Session<Visit>, request: Request| {
        let inner = inner.clone();
        visit.count += 1;
        drop(visit);
        async move {
            let parts = request.into_parts().0;
            let send = |path: &'static str| {
                let mut parts = parts.clone();
                parts.uri = path.parse().unwrap();
                inner.clone().oneshot(Request::from_parts(parts, Body::empty()))
            };
            let one = send("/a").await.unwrap();
            let _other = send("/b").await.unwrap();
            one
        }
    };
    nested.router =
        Router::new().route("/", post(batch)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    let reply = nested.ask("POST", "/");
    let log = [nested.visits.platform.logged(), nested.baskets.platform.logged()].concat();
    assert_eq!((reply.status, log.len()), (503, 1), "{reply:?} {log:?}");
}

/// Two calls at once, of which one loses after the other has begun.
#[test]
fn a_hedge_that_wins_is_saved() {
    let mut nested = Nested::new();
    let inner = Router::new()
        .route("/", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .layer(from_fn(|request: Request, next: Next| async move {
            step_aside().await;
            next.run(request).await
        }))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    let hedge = move |mut visit: Session<Visit>, request: Request| {
        let inner = inner.clone();
        visit.count += 1;
        drop(visit);
        async move {
            let parts = request.into_parts().0;
            let send = |parts| inner.clone().oneshot(Request::from_parts(parts, Body::empty()));
            let (one, other) = SendFuture::new(both(send(parts.clone()), send(parts))).await;
            let (one, other) = (one.unwrap(), other.unwrap());
            if one.status().is_success() { one } else { other }
        }
    };
    nested.router =
        Router::new().route("/", post(hedge)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    let reply = nested.ask("POST", "/");
    assert_eq!((reply.status, nested.stored()[0].as_str()), (200, r#"{"count":2}"#));
}

#[test]
fn work_that_goes_on_and_the_second_runs_have_a_session_each() {
    let mut nested = Nested::new();
    let works: Arc<Mutex<Vec<Work>>> = Arc::default();
    let put_off = {
        let works = Arc::clone(&works);
        move |visit, request, next| put_off(Arc::clone(&works), 9, visit, request, next)
    };
    nested.router = Router::new()
        .route("/", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .layer(from_fn(|request: Request, next: Next| async move {
            step_aside().await;
            next.run(request).await
        }))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
        .layer(from_fn(put_off))
        .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.visits.store.interfere(&[RIVAL]);
    assert_eq!(nested.ask("POST", "/").brief(), (200, "accepted"));
    let works = std::mem::take(&mut *works.lock().unwrap());
    let statuses: Vec<_> = works.into_iter().map(|work| pollster::block_on(work).status().as_u16()).collect();
    assert_eq!(statuses, [200, 200]);
}

#[test]
fn a_race_that_is_lost_while_the_layer_around_commits_is_not_left_to_it() {
    let mut nested = Nested::new();
    let works: Arc<Mutex<Vec<Work>>> = Arc::default();
    let put_off = {
        let works = Arc::clone(&works);
        move |visit, request, next| put_off(Arc::clone(&works), 1, visit, request, next)
    };
    nested.router = Router::new()
        .route("/", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .layer(from_fn(|request: Request, next: Next| async move {
            step_aside().await;
            next.run(request).await
        }))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
        .layer(from_fn(put_off))
        .layer(SessionLayer::<Visit>::over(nested.visits.patient()));
    nested.visits.store.take_your_time();
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    let request = request(&nested.visitor, "POST", "/").body(Body::empty()).unwrap();
    let mut answer = Box::pin(nested.router.clone().oneshot(request));
    let mut context = Context::from_waker(Waker::noop());
    while works.lock().unwrap().is_empty() {
        assert!(answer.as_mut().poll(&mut context).is_pending());
    }
    let work = works.lock().unwrap().remove(0);
    pollster::block_on(work);
    assert_eq!(pollster::block_on(answer).unwrap().status(), 200);
    assert!(
        nested.stored()[1] == r#"{"things":11}"# || !nested.baskets.platform.logged().is_empty(),
        "neither run again nor logged"
    );
}

#[derive(Default, Serialize, Deserialize)]
struct Choice {
    is_dark: bool,
}

/// Visits > Choices > Baskets, where a middleware around the inner two has saved the visit, so that nothing runs again.
#[test]
fn a_session_between_is_saved_where_the_outermost_cannot_run_the_handler_again() {
    let mut nested = Nested::new();
    let choices = Rig::with(r#"{"cookie_name": "choice"}"#);
    let page = |request: Request, next: Next| async move {
        let response = next.run(request).await;
        if response.status().is_server_error() { "our page".into_response() } else { response }
    };
    let saves = |mut visit: Session<Visit>, request: Request, next: Next| async move {
        visit.count += 1;
        visit.save().await?;
        drop(visit);
        Ok::<_, edge_session::Error>(next.run(request).await)
    };
    let handler = |mut choice: Session<Choice>, mut basket: Session<Basket>| async move {
        choice.is_dark = true;
        basket.things += 1;
    };
    nested.router = Router::new()
        .route("/", post(handler))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
        .layer(from_fn(page))
        .layer(SessionLayer::<Choice>::over(choices.sessions.clone()))
        .layer(from_fn(saves))
        .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    let reply = send(&nested.router, request(&nested.visitor, "POST", "/").body(Body::empty()).unwrap());
    assert_eq!(reply.brief(), (200, "our page"));
    assert_eq!(choices.store.inside.len(), 1, "the answer counts for the session between");
    assert_eq!(nested.stored(), [r#"{"count":2}"#, r#"{"things":10}"#]);
    let log = nested.baskets.platform.logged();
    assert!(log.len() == 1 && log[0].starts_with("contended: "), "{log:?}");
}

#[test]
fn a_session_that_could_not_be_loaded_is_asked_for_again_in_the_next_run() {
    let mut nested = Nested::new();
    let handler = |visit: Result<Session<Visit>, Response>, mut basket: Session<Basket>| async move {
        basket.things += 1;
        format!("{} {}", visit.is_ok(), basket.things)
    };
    nested.router = Router::new()
        .route("/", post(handler))
        .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    nested.visits.store.fail_once("load", 0, false);
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    assert_eq!(nested.ask("POST", "/").brief(), (200, "true 11"));
    assert_eq!(nested.visits.platform.logged(), ["unavailable: disk on fire in rack 7"]);
}

/// By a save within it, after which what it did to the other one is not stored.
#[test]
fn a_handler_that_returns_a_lost_race_of_the_outer_session_runs_again_on_both() {
    let mut nested = Nested::new();
    let handler = |mut visit: Session<Visit>, mut basket: Session<Basket>| async move {
        basket.things += 1;
        visit.count += 1;
        visit.save().await
    };
    nested.router = nested.around(Router::new().route("/", post(handler)));
    nested.visits.store.interfere(&[RIVAL]);
    assert_eq!(nested.ask("POST", "/").status, 200);
    assert_eq!(nested.stored(), [r#"{"count":11}"#, r#"{"things":2}"#]);
}

/// It holds it while its handler runs. What it has saved of it, or may have, is not done twice.
#[test]
fn what_a_middleware_does_to_the_session_that_it_holds_decides_whether_a_lost_race_within_runs_again() {
    #[derive(Clone, Copy, PartialEq)]
    enum Does {
        Nothing,
        WhatIsTooLarge,
        ASave,
        WhatItDoesNotWaitFor,
    }
    for does in [Does::Nothing, Does::WhatIsTooLarge, Does::ASave, Does::WhatItDoesNotWaitFor] {
        let nested = Nested::new();
        let visits = nested.visits.redeployed(crate::support::KEY, r#"{"max_data": 20}"#);
        let sessions =
            if does == Does::WhatItDoesNotWaitFor { nested.visits.patient() } else { visits.sessions.clone() };
        let (store, runs) = (worker::send::SendWrapper::new(visits.store.clone()), Arc::<Mutex<u32>>::default());
        let holds = move |mut visit: Session<Visit>, request: Request, next: Next| {
            let store = store.clone();
            async move {
                match does {
                    Does::Nothing => {}
                    Does::WhatIsTooLarge => drop(visit.update(|visit| visit.count = u64::MAX).await),
                    Does::ASave => drop(visit.update(|visit| visit.count += 1).await),
                    Does::WhatItDoesNotWaitFor => {
                        store.hang("update");
                        let mut work: Pin<Box<dyn Future<Output = _> + Send>> =
                            Box::pin(visit.update(|visit| visit.count += 1));
                        assert!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                        drop(work);
                        store.hang("");
                    }
                }
                let response = next.run(request).await;
                drop(visit);
                response
            }
        };
        let handler = {
            let runs = Arc::clone(&runs);
            move |mut basket: Session<Basket>| async move {
                *runs.lock().unwrap() += 1;
                basket.things += 1;
            }
        };
        let router = Router::new()
            .route("/", post(handler))
            .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
            .layer(from_fn(holds))
            .layer(SessionLayer::<Visit>::over(sessions));
        nested.baskets.store.interfere(&[RIVAL_BASKET]);
        let reply = send(&router, request(&nested.visitor, "POST", "/").body(Body::empty()).unwrap());
        let again = matches!(does, Does::Nothing | Does::WhatIsTooLarge);
        assert_eq!((reply.status, *runs.lock().unwrap()), if again { (200, 2) } else { (503, 1) });
    }
}

/// Two layers side by side: a race that the one has lost is not forgotten when a request comes to the other.
#[test]
fn a_lost_race_is_not_forgotten_for_a_call_of_another_layer() {
    let mut nested = Nested::new();
    let themes = Rig::with(r#"{"cookie_name": "theme"}"#);
    let of_baskets = Router::new()
        .route("/", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    let of_themes = Router::new()
        .route("/", post(|_: Session<Theme>| async {}))
        .layer(SessionLayer::<Theme>::over(themes.sessions.clone()));
    let batch = move |mut visit: Session<Visit>, request: Request| {
        let (of_baskets, of_themes) = (of_baskets.clone(), of_themes.clone());
        visit.count += 1;
        drop(visit);
        async move {
            let parts = request.into_parts().0;
            let send = |router: Router| router.oneshot(Request::from_parts(parts.clone(), Body::empty()));
            let response = send(of_baskets).await.unwrap();
            drop(send(of_themes).await);
            response
        }
    };
    nested.router =
        Router::new().route("/", post(batch)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    assert_eq!(nested.ask("POST", "/").status, 200);
    assert_eq!(nested.stored(), [r#"{"count":2}"#, r#"{"things":11}"#]);
}
