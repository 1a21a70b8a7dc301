//! What is answered where several layers are around one handler, and told to the browser and to the log.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use edge_session::tower::{Session, SessionLayer};
use serde::{Deserialize, Serialize};
use tower::ServiceExt;
use worker::send::SendFuture;

use crate::nested::{Nested, RIVAL_BASKET, Theme, change, see_other, with_a_second_try};
use crate::support::{Interference, Rig, Visit, Visitor};
use crate::{Basket, RIVAL, Reply, ask, count, request, send};

fn names_of(reply: &Reply) -> Vec<&str> {
    let lines = reply.headers.get_all(header::SET_COOKIE).into_iter();
    lines.map(|line| line.to_str().unwrap().split('=').next().unwrap()).collect()
}

/// Both have expired, and a handler is refused by the outer one's layer.
#[test]
fn an_expiry_is_answered_by_the_layer_whose_session_it_is() {
    let rigs = ["visit", "basket"].map(|name| {
        Rig::with(&format!(r#"{{"ignore_expiry": false, "cookie_name": "{name}", "expired_message": "no {name}"}}"#))
    });
    let [visits, baskets] = &rigs;
    let handler = |_: Result<Session<Basket>, Response>, _: Session<Visit>| async { "never" };
    let router = Router::new()
        .route("/", get(handler))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    let visitor = crate::runs::visitor(visits, baskets);
    rigs.iter().for_each(|rig| rig.platform.advance(100_000));
    let reply = send(&router, request(&visitor, "GET", "/").body(Body::empty()).unwrap());
    assert_eq!(reply.brief(), (401, "no visit"));
}

/// What it told the browser goes with the reply that is put in the place of its own.
#[test]
fn what_an_inner_layer_has_told_the_browser_it_is_still_told_when_an_outer_one_refuses() {
    // Saved before the handler failed by the outer session's error.
    let nested = Nested::new();
    let handler = |mut visit: Session<Visit>, mut basket: Session<Basket>| async move {
        basket.cycle_id();
        basket.save().await?;
        visit.count += 1;
        visit.save().await
    };
    let router = nested.around(Router::new().route("/", post(handler)));
    nested.visits.store.fail("update");
    let reply = send(&router, request(&nested.visitor, "POST", "/").body(Body::empty()).unwrap());
    assert_eq!((reply.status, names_of(&reply)), (503, vec!["basket"]));
    // Expired.
    let nested = Nested::new();
    let strict = nested.baskets.redeployed(crate::support::KEY, r#"{"cookie_name": "basket", "ignore_expiry": false}"#);
    let handler = |mut visit: Session<Visit>, _: Session<Basket>| async move { visit.count += 1 };
    let router = Router::new()
        .route("/", post(handler))
        .layer(SessionLayer::<Basket>::over(strict.sessions.clone()))
        .layer(from_fn(|mut visit: Session<Visit>, request: Request, next: Next| {
            visit.count += 1;
            drop(visit);
            next.run(request)
        }))
        .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    strict.platform.advance(100_000);
    nested.visits.store.fail("update");
    let reply = send(&router, request(&nested.visitor, "POST", "/").body(Body::empty()).unwrap());
    assert_eq!((reply.status, names_of(&reply)), (503, vec!["basket.told", "basket"]));
    // Through a layer between that has no session.
    let nested = Nested::new();
    let themes = Rig::with(r#"{"cookie_name": "theme"}"#);
    let router = Router::new()
        .route("/both", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 1, 1)))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
        .layer(SessionLayer::<Theme>::over(themes.sessions))
        .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    let visitor = nested.visitor_without_a_basket();
    nested.visits.store.fail("update");
    let reply = send(&router, request(&visitor, "POST", "/both").body(Body::empty()).unwrap());
    assert_eq!((reply.status, names_of(&reply)), (503, vec!["basket"]));
}

/// And once, also where the handler ran again; and nothing of a run that came to nothing.
#[test]
fn what_is_told_is_that_of_the_last_run() {
    let first = |runs: &Arc<Mutex<u32>>| {
        let mut runs = runs.lock().unwrap();
        *runs += 1;
        *runs == 1
    };
    // Its basket begins in the second run.
    let nested = Nested::new();
    let runs: Arc<Mutex<u32>> = Arc::default();
    let handler = move |mut visit: Session<Visit>, mut basket: Session<Basket>| async move {
        visit.count += 1;
        basket.things += 1;
        if first(&runs) { visit.save().await } else { Ok(()) }
    };
    let router = nested.around(Router::new().route("/", post(handler)));
    let visitor = nested.visitor_without_a_basket();
    nested.visits.store.interfere(&[RIVAL]);
    nested.visits.store.fail_once("update", 1, false);
    let reply = send(&router, request(&visitor, "POST", "/").body(Body::empty()).unwrap());
    assert_eq!((reply.status, names_of(&reply)), (503, vec!["basket"]));
    // Its basket is renewed in the first run, and another request may log in before the second.
    let nested = Nested::new();
    let lasting = r#"{"cookie_name": "basket", "persistent": true, "timeout": 1000, "touch_after": 10}"#;
    let lasting = nested.baskets.redeployed(crate::support::KEY, lasting);
    lasting.platform.advance(20);
    let runs: Arc<Mutex<u32>> = Arc::default();
    let handler = move |mut visit: Session<Visit>, request: Request| async move {
        visit.count += 1;
        if first(&runs) {
            let mut parts = request.into_parts().0;
            drop(<Session<Basket> as FromRequestParts<()>>::from_request_parts(&mut parts, &()).await);
        }
    };
    let router = Router::new()
        .route("/", post(handler))
        .layer(SessionLayer::<Basket>::over(lasting.sessions.clone()))
        .layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.visits.store.interfere(&[RIVAL]);
    nested.visits.store.fail_once("update", 1, false);
    let reply = send(&router, request(&nested.visitor, "POST", "/").body(Body::empty()).unwrap());
    assert_eq!((reply.status, names_of(&reply)), (503, vec![]));
}

/// Whichever of them knows of it.
#[test]
fn what_an_error_page_hides_from_two_layers_is_in_the_log_once() {
    let page = |request: Request, next: Next| async move {
        let response = next.run(request).await;
        if response.status().is_success() { response } else { "our page".into_response() }
    };
    let nested = Nested::new();
    let of_users = worker::send::SendWrapper::new(nested.baskets.sessions.clone());
    let list = move || {
        let sessions = of_users.clone();
        SendFuture::new(async move { drop(sessions.of("ada").list().await) })
    };
    let inner = Router::new().route("/post", post(|_: Session<Basket>| async {})).route("/users", post(list));
    let router = nested.around(inner.layer(from_fn(page)));
    nested.baskets.store.fail("list");
    for (path, site, line) in
        [("/post", "cross-site", "cross_origin: "), ("/users", "same-origin", "failure_ignored: ")]
    {
        let before = [&nested.visits, &nested.baskets].map(|rig| rig.platform.logged().len());
        let sent = request(&nested.visitor, "POST", path).header("sec-fetch-site", site);
        assert_eq!(send(&router, sent.body(Body::empty()).unwrap()).status, 200);
        let log: Vec<_> = [&nested.visits, &nested.baskets]
            .into_iter()
            .zip(before)
            .flat_map(|(rig, before)| rig.platform.logged().split_off(before))
            .collect();
        assert!(log.len() == 1 && log[0].starts_with(line), "{path}: {log:?}");
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Failed;

impl From<std::convert::Infallible> for Failed {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

/// Its handler has ignored that a save failed.
#[test]
fn a_service_that_fails_leaves_what_its_handler_ignored_in_the_log() {
    use tower::Layer;
    let nested = Nested::new();
    let fails = tower::service_fn(|request: Request| async move {
        let mut parts = request.into_parts().0;
        let mut visit = <Session<Visit> as FromRequestParts<()>>::from_request_parts(&mut parts, &()).await.unwrap();
        visit.count += 1;
        drop(visit.save().await);
        Err::<Response, Failed>(Failed)
    });
    let service = SessionLayer::<Visit>::over(nested.visits.sessions.clone()).layer(fails);
    nested.visits.store.fail("update");
    let sent = request(&nested.visitor, "POST", "/").body(Body::empty()).unwrap();
    assert_eq!(pollster::block_on(service.oneshot(sent)).map(|response| response.status()), Err(Failed));
    let log = nested.visits.platform.logged();
    assert!(log.len() == 1 && log[0].starts_with("failure_ignored: "), "{log:?}");
}

/// A middleware between two layers makes a page of it.
#[test]
fn a_service_that_fails_keeps_no_session_around_it_from_another_run() {
    use tower::Layer;
    let mut nested = Nested::new();
    let fails = tower::service_fn(|request: Request| async move {
        let mut parts = request.into_parts().0;
        let mut basket = <Session<Basket> as FromRequestParts<()>>::from_request_parts(&mut parts, &()).await.unwrap();
        basket.things += 1;
        Err::<Response, Failed>(Failed)
    });
    let inner = SessionLayer::<Basket>::over(nested.baskets.sessions.clone()).layer(fails);
    let page = move |mut visit: Session<Visit>, request: Request| {
        let inner = inner.clone();
        visit.count += 1;
        drop(visit);
        async move { inner.oneshot(request).await.unwrap_or_else(|Failed| "our page".into_response()) }
    };
    nested.router =
        Router::new().route("/", post(page)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.visits.store.interfere(&[RIVAL]);
    assert_eq!(nested.ask("POST", "/").brief(), (200, "our page"));
    assert_eq!(nested.stored(), [r#"{"count":11}"#, r#"{"things":1}"#]);
}

#[test]
fn a_service_that_makes_an_error_of_a_503_leaves_the_lost_race_in_the_log() {
    use tower::{Layer, Service};
    let nested = Nested::new();
    let inner = Router::new()
        .route("/both", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 1, 1)))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    #[derive(Debug, PartialEq)]
    struct Broken;
    impl From<std::convert::Infallible> for Broken {
        fn from(never: std::convert::Infallible) -> Self {
            match never {}
        }
    }
    let inner =
        ServiceExt::<Request>::map_result(inner, |result: Result<Response, std::convert::Infallible>| match result {
            Ok(response) if response.status().is_server_error() => Err(Broken),
            Ok(response) => Ok(response),
            Err(never) => match never {},
        });
    let mut service = SessionLayer::<Visit>::over(nested.visits.sessions.clone()).layer(inner);
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    let answer =
        pollster::block_on(service.call(request(&nested.visitor, "POST", "/both").body(Body::empty()).unwrap()));
    let answer = answer.map(|response| response.status().as_u16());
    assert_eq!(answer, Err(Broken), "which is the service's own");
    let log = nested.baskets.platform.logged();
    assert!(log.len() == 1 && log[0].starts_with("contended: "), "{log:?}");
}

/// The layer that lost is two within.
#[test]
fn a_service_that_makes_an_error_of_a_503_leaves_the_lost_race_of_any_layer_within_in_the_log() {
    use tower::Layer;
    let nested = Nested::new();
    let themes = Rig::with(r#"{"cookie_name": "theme"}"#);
    let inner = Router::new()
        .route("/both", post(|visit: Session<Visit>, basket: Session<Basket>| change(visit, basket, 1, 1)))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
        .layer(SessionLayer::<Theme>::over(themes.sessions));
    let inner = ServiceExt::<Request>::map_result(inner, |result: Result<Response, std::convert::Infallible>| {
        result.map_err(|never| match never {}).and_then(|response| match response.status().is_server_error() {
            true => Err(Failed),
            false => Ok(response),
        })
    });
    let service = SessionLayer::<Visit>::over(nested.visits.sessions.clone()).layer(inner);
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    let sent = request(&nested.visitor, "POST", "/both").body(Body::empty()).unwrap();
    assert_eq!(pollster::block_on(service.oneshot(sent)).map(|response| response.status()), Err(Failed));
    let log = nested.baskets.platform.logged();
    assert!(log.len() == 1 && log[0].starts_with("contended: "), "{log:?}");
}

#[test]
fn an_expiry_of_the_outer_session_leaves_the_inner_ones_cookie() {
    let visits = Rig::with(r#"{"ignore_expiry": false, "expired_message": "gone"}"#);
    let baskets = Rig::with(r#"{"cookie_name": "basket"}"#);
    let router = Router::new()
        .route("/", get(count))
        .layer(from_fn(|mut basket: Session<Basket>, request: Request, next: Next| {
            basket.things += 1;
            drop(basket);
            next.run(request)
        }))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    let visitor = crate::support::known(&visits);
    visits.platform.advance(100_000);
    let reply = send(&router, request(&visitor, "GET", "/").body(Body::empty()).unwrap());
    assert_eq!(reply.brief(), (401, "gone"));
    assert_eq!(baskets.store.inside.len(), 1);
    assert!(
        reply.headers.get_all(header::SET_COOKIE).iter().any(|line| line.to_str().unwrap().starts_with("basket=")),
        "the basket's id is never told"
    );
}

#[test]
fn an_error_beside_an_expiry_is_logged() {
    let rig = Rig::with(r#"{"ignore_expiry": false, "expired_message": "gone"}"#);
    let router = Router::new()
        .route("/", get(|_visit: Result<Session<Visit>, Response>, _basket: Session<Basket>| async { "never" }))
        .layer(SessionLayer::<Visit>::over(rig.sessions.clone()).with_reply(|_| see_other("/visits")));
    let visitor = crate::support::known(&rig);
    rig.platform.advance(100_000);
    let reply = send(&router, request(&visitor, "GET", "/").body(Body::empty()).unwrap());
    assert_eq!((reply.status, rig.platform.logged().len()), (303, 1));
}

/// Of the outermost, which answers it: a layer within leaves it to that.
#[test]
fn an_error_that_a_layer_around_answers_is_in_the_log_once() {
    let (visits, baskets) = (Rig::new(), Rig::with(r#"{"cookie_name": "basket"}"#));
    let of_users = worker::send::SendWrapper::new(baskets.sessions.clone());
    let list = move || {
        let sessions = of_users.clone();
        SendFuture::new(async move { sessions.of("ada").list().await.map(drop) })
    };
    let router = Router::new()
        .route("/nowhere", get(|_: Session<Option<u8>>| async {}))
        .route("/users", get(list.clone()))
        .route("/users-of-a-visitor", get(move |_: Session<Visit>| list()))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    for (number, (path, status, line)) in [
        ("/nowhere", 500, "misconfigured: "),
        ("/users", 503, "unavailable: "),
        ("/users-of-a-visitor", 503, "unavailable: "),
    ]
    .into_iter()
    .enumerate()
    {
        baskets.store.fail("list");
        assert_eq!(ask(&router, &mut Visitor::default(), "GET", path).status, status, "{path}");
        let log = visits.platform.logged();
        assert!(log.len() == number + 1 && log[number].starts_with(line), "{path}: {log:?}");
        assert_eq!(baskets.platform.logged(), Vec::<String>::new(), "{path}");
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Choice {
    is_dark: bool,
}

async fn page(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if response.status().is_server_error() { "our page".into_response() } else { response }
}

/// A layer around them has another answer in their place, or none can run the handler again: what is not stored is not answered as if
/// it were. Visits > what is between > Choices > a page > Baskets.
#[test]
fn a_session_between_is_not_said_to_be_saved_where_its_commit_was_left_to_a_layer_around() {
    for is_batch in [false, true] {
        let nested = Nested::new();
        let choices = Rig::with(r#"{"cookie_name": "choice"}"#);
        let handler = |mut choice: Session<Choice>, mut basket: Session<Basket>| async move {
            choice.is_dark = true;
            basket.things += 1;
        };
        let inner = Router::new()
            .route("/", post(handler))
            .route("/other", post(|| async {}))
            .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()))
            .layer(from_fn(page))
            .layer(SessionLayer::<Choice>::over(choices.sessions.clone()));
        let around = move |mut visit: Session<Visit>, request: Request| {
            let inner = inner.clone();
            async move {
                let parts = request.into_parts().0;
                let send = |path: &'static str| {
                    let mut parts = parts.clone();
                    parts.uri = path.parse().unwrap();
                    inner.clone().oneshot(Request::from_parts(parts, Body::empty()))
                };
                visit.count += 1;
                if is_batch {
                    drop(visit);
                    let response = send("/").await.unwrap();
                    drop(send("/other").await);
                    return Ok(response);
                }
                let response = send("/").await.unwrap();
                visit.save().await?;
                Ok::<_, edge_session::Error>(response)
            }
        };
        let router =
            Router::new().route("/", post(around)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
        nested.baskets.store.interfere(&[RIVAL_BASKET]);
        let reply = send(&router, request(&nested.visitor, "POST", "/").body(Body::empty()).unwrap());
        assert_eq!((reply.status, choices.store.inside.len()), (503, 0), "{is_batch}");
    }
}

#[test]
fn each_of_two_lost_races_that_are_given_up_is_in_the_log() {
    let nested = Nested::new();
    let choices = Rig::with(r#"{"cookie_name": "choice"}"#);
    let of_choices = Router::new()
        .route("/", post(|mut choice: Session<Choice>| async move { choice.is_dark = !choice.is_dark }))
        .layer(SessionLayer::<Choice>::over(choices.sessions.clone()));
    let first = send(&of_choices, request(&Visitor::default(), "POST", "/").body(Body::empty()).unwrap());
    let pair = first.header(header::SET_COOKIE).unwrap().split(';').next().unwrap();
    let visitor = Visitor::with(format!("{}; {pair}", nested.visitor.cookie.as_deref().unwrap()));
    let of_baskets = Router::new()
        .route("/", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    let batch = move |mut visit: Session<Visit>, request: Request| {
        let both = [of_choices.clone(), of_baskets.clone()];
        async move {
            let parts = request.into_parts().0;
            for router in both {
                drop(router.oneshot(Request::from_parts(parts.clone(), Body::empty())).await);
            }
            visit.count += 1;
            visit.save().await
        }
    };
    let router =
        Router::new().route("/", post(batch)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    nested.baskets.store.interfere(&[RIVAL_BASKET]);
    choices.store.interfere(&[Interference::Update(r#"{"is_dark":false}"#)]);
    assert_eq!(send(&router, request(&visitor, "POST", "/").body(Body::empty()).unwrap()).status, 200);
    let log = [nested.visits.platform.logged(), choices.platform.logged(), nested.baskets.platform.logged()].concat();
    assert_eq!(log.iter().filter(|line| line.starts_with("contended: ")).count(), 2, "{log:?}");
}

/// Each began a session, and the outer layer refuses.
#[test]
fn of_two_tries_the_cookie_of_the_later_one_is_told() {
    let nested = Nested::new();
    let tries: Arc<Mutex<Vec<String>>> = Arc::default();
    let handler = {
        let tries = Arc::clone(&tries);
        move |mut basket: Session<Basket>| {
            let tries = Arc::clone(&tries);
            async move {
                basket.save().await?;
                let mut tries = tries.lock().unwrap();
                tries.push(format!("{:?}", basket.record()));
                let status = if tries.len() == 1 { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
                Ok::<_, edge_session::Error>(status)
            }
        }
    };
    let inner =
        Router::new().route("/", post(handler)).layer(SessionLayer::<Basket>::over(nested.baskets.sessions.clone()));
    let retry = move |mut visit: Session<Visit>, request: Request| {
        visit.count += 1;
        drop(visit);
        with_a_second_try(inner.clone(), request)
    };
    let router =
        Router::new().route("/", post(retry)).layer(SessionLayer::<Visit>::over(nested.visits.sessions.clone()));
    let visitor = nested.visitor_without_a_basket();
    nested.visits.store.fail("update");
    let reply = send(&router, request(&visitor, "POST", "/").body(Body::empty()).unwrap());
    assert_eq!((reply.status, names_of(&reply), tries.lock().unwrap().len()), (503, vec!["basket"], 2));
}
