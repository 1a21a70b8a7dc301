//! One run of a handler and the next: what goes on from the one gets nothing of the other, and a race that is lost between them
//! is run again for all, or for none and said once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use edge_session::tower::{Session, SessionLayer};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use tower::{Layer, Service, ServiceExt};

use crate::nested::RIVAL_BASKET;
use crate::support::{Interference, Rig, Visit, Visitor, both, known, step_aside, stored};
use crate::{Basket, RIVAL, Reply, count, request, send};

type Work<R> = Pin<Box<dyn Future<Output = R> + Send>>;
/// Of a session that a handler has asked for, and not waited for.
type Load = Work<Result<Session<Visit>, Response>>;

#[derive(Default, Serialize, Deserialize)]
struct Choice {
    is_dark: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Theme {
    hue: u64,
}

async fn visit_of(mut parts: Parts) -> Result<Session<Visit>, Response> {
    <Session<Visit> as FromRequestParts<()>>::from_request_parts(&mut parts, &()).await
}

/// A platform on which no deadline is ever over, and a pause always.
#[derive(Clone, Default)]
struct Calm {
    logged: Arc<Mutex<Vec<String>>>,
}

impl edge_session::Platform for Calm {
    fn now(&self) -> u64 {
        crate::support::NOW
    }

    fn sleep(&self, milliseconds: u32) -> edge_session::Sleep {
        Box::pin(async move {
            if milliseconds >= 5000 {
                std::future::pending::<()>().await;
            }
        })
    }

    fn log(&self, line: std::fmt::Arguments<'_>) {
        self.logged.lock().unwrap().push(line.to_string());
    }
}

fn calm(rig: &Rig) -> edge_session::Sessions {
    on(&Calm::default(), rig)
}

fn on(platform: &Calm, rig: &Rig) -> edge_session::Sessions {
    let signer = edge_session::Signer::from_secret(crate::support::KEY).unwrap();
    edge_session::Sessions::new(rig.store.clone(), platform.clone(), signer, Default::default()).unwrap()
}

/// Looks at it once.
async fn begin<R>(work: &mut Work<R>) {
    poll_fn(|context| {
        assert!(work.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
}

/// A visitor with a visit of 1 and a basket of 1.
pub(crate) fn visitor(visits: &Rig, baskets: &Rig) -> Visitor {
    let router = Router::new()
        .route(
            "/",
            post(|mut visit: Session<Visit>, mut basket: Session<Basket>| async move {
                visit.count += 1;
                basket.things += 1;
            }),
        )
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    let reply = send(&router, request(&Visitor::default(), "POST", "/").body(Body::empty()).unwrap());
    let lines = reply.headers.get_all(header::SET_COOKIE).into_iter();
    let pairs: Vec<_> = lines.map(|line| line.to_str().unwrap().split(';').next().unwrap()).collect();
    Visitor::with(pairs.join("; "))
}

fn both_rigs() -> (Rig, Rig, Visitor) {
    let (visits, baskets) = (Rig::new(), Rig::with(r#"{"cookie_name": "basket"}"#));
    let visitor = visitor(&visits, &baskets);
    (visits, baskets, visitor)
}

fn post_to(router: &Router, visitor: &Visitor) -> Reply {
    send(router, request(visitor, "POST", "/").body(Body::empty()).unwrap())
}

fn data(rig: &Rig, visitor: &Visitor) -> String {
    stored(rig, visitor).map(|record| record.data).unwrap_or_default()
}

/// It was asked for in time, and is had when its layer has answered.
#[test]
fn a_load_that_ends_after_the_answer_gives_no_session() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let later: Arc<Mutex<Option<Load>>> = Arc::default();
    let handler = {
        let later = Arc::clone(&later);
        move |request: Request| async move {
            let mut work: Work<_> = Box::pin(visit_of(request.into_parts().0));
            begin(&mut work).await;
            *later.lock().unwrap() = Some(work);
            "accepted"
        }
    };
    let router = Router::new().route("/", post(handler)).layer(SessionLayer::<Visit>::over(calm(&rig)));
    rig.store.take_your_time();
    assert_eq!(post_to(&router, &visitor).brief(), (200, "accepted"));
    let work = later.lock().unwrap().take().unwrap();
    let late = block_on(work).map(|mut visit| visit.count += 1);
    assert!(late.is_err() || data(&rig, &visitor) == r#"{"count":2}"#, "had, changed, never saved and never said");
}

/// A load of the first run that ends in the second: before the second asks, or after. What the second was answered, and
/// whether the first run's work got a session.
fn ends_in_the_second_run(before: bool) -> (Reply, String, bool) {
    let rig = Rig::new();
    let visitor = known(&rig);
    let later: Arc<Mutex<Option<Load>>> = Arc::default();
    let had: Arc<AtomicBool> = Arc::default();
    let handler = {
        let had = Arc::clone(&had);
        move |request: Request| async move {
            let parts = request.into_parts().0;
            let stale = later.lock().unwrap().take();
            let is_second = stale.is_some();
            let finish = async |work: Work<Result<Session<Visit>, Response>>| {
                if let Ok(mut visit) = work.await {
                    had.store(true, Ordering::Relaxed);
                    visit.count += 100;
                }
            };
            let mut stale = stale;
            if !is_second {
                let mut work: Work<_> = Box::pin(visit_of(parts.clone()));
                begin(&mut work).await;
                *later.lock().unwrap() = Some(work);
            } else if before {
                finish(stale.take().unwrap()).await;
            }
            let mut visit = visit_of(parts).await?;
            visit.count += 1;
            drop(visit);
            if let Some(work) = stale {
                finish(work).await;
            }
            Ok::<_, Response>("done")
        }
    };
    let router = Router::new().route("/", post(handler)).layer(SessionLayer::<Visit>::over(calm(&rig)));
    rig.store.take_your_time();
    rig.store.interfere(&[RIVAL]);
    let reply = post_to(&router, &visitor);
    (reply, data(&rig, &visitor), had.load(Ordering::Relaxed))
}

/// It ends before the second run asks.
#[test]
fn a_load_of_the_first_run_takes_nothing_away_from_the_second() {
    let (reply, data, had) = ends_in_the_second_run(true);
    assert_eq!((reply.brief(), data.as_str(), had), ((200, "done"), r#"{"count":11}"#, false));
}

/// It ends after that.
#[test]
fn a_load_of_the_first_run_gets_no_session_of_the_second() {
    let (reply, data, had) = ends_in_the_second_run(false);
    assert_eq!((reply.brief(), data.as_str(), had), ((200, "done"), r#"{"count":11}"#, false));
}

/// A handler whose first run loses its race, and whose second one does this with its session. What that was answered, and what the
/// log says.
fn in_the_second_run<R: Future<Output = Response> + Send + 'static>(
    does: impl Fn(Parts) -> R + Clone + Send + Sync + 'static,
) -> (Reply, String, Vec<String>) {
    let (rig, platform, runs) = (Rig::new(), Calm::default(), Arc::<AtomicU32>::default());
    let visitor = known(&rig);
    let handler = move |request: Request| {
        let (runs, does) = (Arc::clone(&runs), does.clone());
        async move {
            let parts = request.into_parts().0;
            if runs.fetch_add(1, Ordering::Relaxed) == 0 {
                visit_of(parts).await?.count += 1;
                return Ok("first".into_response());
            }
            Ok::<_, Response>(does(parts).await)
        }
    };
    let router = Router::new().route("/", post(handler)).layer(SessionLayer::<Visit>::over(on(&platform, &rig)));
    rig.store.take_your_time();
    rig.store.interfere(&[RIVAL]);
    rig.store.tell_no_winner();
    let reply = post_to(&router, &visitor);
    let logged = platform.logged.lock().unwrap().clone();
    (reply, data(&rig, &visitor), logged)
}

/// As in the first run: it is a mistake of the handler's, and no lost race.
#[test]
fn a_session_that_is_asked_for_twice_at_once_in_a_second_run_is_had_once() {
    let (reply, data, logged) = in_the_second_run(async |parts| {
        let both = both(visit_of(parts.clone()), visit_of(parts));
        let (one, other) = worker::send::SendFuture::new(both).await;
        one.unwrap().count += 1;
        other.unwrap_err().status().to_string().into_response()
    });
    assert_eq!(reply.brief(), (200, "500 Internal Server Error"), "{logged:?}");
    assert_eq!(data, r#"{"count":11}"#);
}

#[test]
fn and_who_asks_for_it_while_the_handler_has_it_is_told_so() {
    let (reply, data, logged) = in_the_second_run(async |parts| {
        let mut visit = visit_of(parts.clone()).await.unwrap();
        visit.count += 1;
        visit_of(parts).await.unwrap_err().status().to_string().into_response()
    });
    assert_eq!((reply.brief(), data.as_str()), ((200, "500 Internal Server Error"), r#"{"count":11}"#), "{logged:?}");
}

#[test]
fn who_asks_again_for_a_session_that_could_not_be_loaded_is_told_the_same() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let handler = |request: Request| async move {
        let parts = request.into_parts().0;
        let status = async |parts| visit_of(parts).await.unwrap_err().status().as_u16();
        format!("{} {}", status(parts.clone()).await, status(parts).await)
    };
    let router = Router::new().route("/", post(handler)).layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    rig.store.fail("load");
    rig.store.calls();
    assert_eq!(post_to(&router, &visitor).brief(), (200, "503 503"));
    assert_eq!(rig.store.calls(), "load");
}

/// Its layer has not answered, and never will.
#[test]
fn work_of_a_request_that_was_given_up_gets_no_session() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let kept: Arc<Mutex<Option<Parts>>> = Arc::default();
    let handler = {
        let kept = Arc::clone(&kept);
        move |visit: Session<Visit>, request: Request| async move {
            drop(visit);
            *kept.lock().unwrap() = Some(request.into_parts().0);
            std::future::pending::<()>().await;
        }
    };
    let router = Router::new().route("/", post(handler)).layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    let sent = request(&visitor, "POST", "/").body(Body::empty()).unwrap();
    crate::support::begin_and_leave(router.oneshot(sent));
    let parts = kept.lock().unwrap().take().unwrap();
    assert_eq!(block_on(visit_of(parts)).unwrap_err().status(), 500);
}

/// It was loading its session again when its run was over; the run after that has it.
#[test]
fn a_load_of_the_second_run_takes_nothing_away_from_the_third() {
    let (visits, baskets, visitor) = both_rigs();
    let (later, runs): (Arc<Mutex<Option<Load>>>, Arc<AtomicU32>) = Default::default();
    let handler = move |mut basket: Session<Basket>, request: Request| {
        let (later, run) = (Arc::clone(&later), runs.fetch_add(1, Ordering::Relaxed));
        async move {
            let parts = request.into_parts().0;
            basket.things += 1;
            drop(basket);
            if run == 1 {
                let mut work: Work<_> = Box::pin(visit_of(parts));
                begin(&mut work).await;
                *later.lock().unwrap() = Some(work);
                return Ok("second");
            }
            let stale = later.lock().unwrap().take();
            if let Some(work) = stale {
                assert!(work.await.is_err());
            }
            visit_of(parts).await?.count += 1;
            Ok::<_, Response>("done")
        }
    };
    let router = Router::new()
        .route("/", post(handler))
        .layer(SessionLayer::<Visit>::over(calm(&visits)))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()));
    visits.store.take_your_time();
    visits.store.tell_no_winner();
    visits.store.interfere(&[RIVAL]);
    baskets.store.fail_once("update", 9, false);
    baskets.store.interfere(&[RIVAL_BASKET]);
    let reply = post_to(&router, &visitor);
    assert_eq!(reply.brief(), (200, "done"));
    assert_eq!([data(&visits, &visitor), data(&baskets, &visitor)], [r#"{"count":11}"#, r#"{"things":11}"#]);
}

#[test]
fn a_second_run_that_gives_up_on_its_session_has_lost_its_race() {
    let (reply, data, logged) = in_the_second_run(async |parts| {
        let mut work: Work<_> = Box::pin(visit_of(parts.clone()));
        begin(&mut work).await;
        drop(work);
        visit_of(parts).await.unwrap_err()
    });
    assert_eq!(reply.status, 503, "{logged:?}");
    assert_eq!(data, r#"{"count":10}"#);
}

#[test]
fn a_lost_race_that_no_second_run_waits_for_is_logged() {
    let kept: Arc<Mutex<Option<Load>>> = Arc::default();
    let (reply, data, logged) = in_the_second_run({
        let kept = Arc::clone(&kept);
        move |parts| {
            let kept = Arc::clone(&kept);
            async move {
                let mut work: Work<_> = Box::pin(visit_of(parts));
                begin(&mut work).await;
                *kept.lock().unwrap() = Some(work);
                "accepted".into_response()
            }
        }
    });
    assert_eq!(reply.brief(), (200, "accepted"));
    assert_eq!(data, r#"{"count":10}"#, "the first run's count is not there");
    assert!(logged.iter().any(|line| line.starts_with("contended: ")), "{logged:?}");
}

/// Work of the first run that loses its race while the second runs.
#[test]
fn work_of_a_lost_run_leaves_its_race_to_nobody() {
    let (visits, baskets, visitor) = both_rigs();
    let works: Arc<Mutex<Vec<Work<Response>>>> = Arc::default();
    let runs: Arc<AtomicU32> = Arc::default();
    let put_off = move |mut visit: Session<Visit>, request: Request, next: Next| {
        let (works, runs) = (Arc::clone(&works), Arc::clone(&runs));
        async move {
            visit.count += 1;
            drop(visit);
            if runs.fetch_add(1, Ordering::Relaxed) == 0 {
                let mut work: Work<Response> = Box::pin(next.run(request));
                begin(&mut work).await;
                works.lock().unwrap().push(work);
            } else {
                let work = works.lock().unwrap().remove(0);
                work.await;
            }
            "accepted"
        }
    };
    let router = Router::new()
        .route("/", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .layer(from_fn(|request: Request, next: Next| async move {
            step_aside().await;
            next.run(request).await
        }))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
        .layer(from_fn(put_off))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    visits.store.interfere(&[RIVAL]);
    baskets.store.interfere(&[RIVAL_BASKET]);
    assert_eq!(post_to(&router, &visitor).brief(), (200, "accepted"));
    assert_eq!(data(&visits, &visitor), r#"{"count":11}"#);
    let log = [baskets.platform.logged(), visits.platform.logged()].concat();
    assert!(
        data(&baskets, &visitor) == r#"{"things":11}"# || !log.is_empty(),
        "neither run again nor logged: {}",
        data(&baskets, &visitor)
    );
}

/// A request of the first run that reaches an inner layer only in the second.
#[test]
fn a_request_of_a_lost_run_takes_no_session_of_the_second() {
    let (visits, baskets, visitor) = both_rigs();
    let inner = Router::new()
        .route("/", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .route("/look", post(|basket: Session<Basket>| async move { basket.things.to_string() }))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()));
    let kept: Arc<Mutex<Option<Parts>>> = Arc::default();
    let middle = move |mut visit: Session<Visit>, request: Request| {
        let (inner, kept) = (inner.clone(), Arc::clone(&kept));
        visit.count += 1;
        drop(visit);
        async move {
            let parts = request.into_parts().0;
            let send = |mut parts: Parts, path: &'static str| {
                parts.uri = path.parse().unwrap();
                inner.clone().oneshot(Request::from_parts(parts, Body::empty()))
            };
            let stale = kept.lock().unwrap().replace(parts.clone());
            if let Some(stale) = stale {
                send(stale, "/look").await.unwrap();
            }
            send(parts, "/").await.unwrap()
        }
    };
    let router = Router::new().route("/", post(middle)).layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    baskets.store.interfere(&[Interference::UpdateAndDelete(r#"{"things":10}"#)]);
    let reply = post_to(&router, &visitor);
    assert_eq!((reply.status, reply.header(header::SET_COOKIE)), (200, None), "a killed session is begun anew");
    assert_eq!(baskets.store.inside.len(), 0);
}

/// As a_session_between_is_saved_where_the_outermost_cannot_run_the_handler_again, but the middleware still holds it. Where it has
/// not waited for its save, nobody knows whether that is stored: a 503.
#[test]
fn a_session_between_is_saved_where_a_middleware_has_saved_and_holds_the_outermost() {
    for waits in [true, false] {
        let (visits, baskets, visitor) = both_rigs();
        let choices = Rig::with(r#"{"cookie_name": "choice"}"#);
        let page = |request: Request, next: Next| async move {
            let response = next.run(request).await;
            if response.status().is_server_error() { "our page".into_response() } else { response }
        };
        let store = worker::send::SendWrapper::new(visits.store.clone());
        let saves = move |mut visit: Session<Visit>, request: Request, next: Next| {
            let store = store.clone();
            async move {
                visit.count += 1;
                if waits {
                    visit.save().await?;
                } else {
                    store.hang("update");
                    let mut work: Pin<Box<dyn Future<Output = _> + Send + '_>> = Box::pin(visit.save());
                    assert!(work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                    drop(work);
                    store.hang("");
                }
                let response = next.run(request).await;
                drop(visit);
                Ok::<_, edge_session::Error>(response)
            }
        };
        let handler = |mut choice: Session<Choice>, mut basket: Session<Basket>| async move {
            choice.is_dark = true;
            basket.things += 1;
        };
        let router = Router::new()
            .route("/", post(handler))
            .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
            .layer(from_fn(page))
            .layer(SessionLayer::<Choice>::over(choices.sessions.clone()))
            .layer(from_fn(saves))
            .layer(SessionLayer::<Visit>::over(calm(&visits)));
        baskets.store.interfere(&[RIVAL_BASKET]);
        assert_eq!(post_to(&router, &visitor).status, if waits { 200 } else { 503 });
        assert_eq!(choices.store.inside.len(), 1, "the answer counts for the session between");
    }
}

/// Visits > Choices > Themes > Baskets, where the choice is saved: a layer between, whose handler still runs.
#[test]
fn a_stored_session_of_a_layer_between_is_seen_by_those_within_it() {
    let (visits, baskets, visitor) = both_rigs();
    let choices = Rig::with(r#"{"cookie_name": "choice"}"#);
    let themes = Rig::with(r#"{"cookie_name": "theme"}"#);
    let page = |request: Request, next: Next| async move {
        let response = next.run(request).await;
        if response.status().is_server_error() { "our page".into_response() } else { response }
    };
    let saves = |mut choice: Session<Choice>, request: Request, next: Next| async move {
        choice.is_dark = true;
        choice.save().await?;
        drop(choice);
        Ok::<_, edge_session::Error>(next.run(request).await)
    };
    let handler = |mut visit: Session<Visit>, mut theme: Session<Theme>, mut basket: Session<Basket>| async move {
        visit.count += 1;
        theme.hue = 7;
        basket.things += 1;
    };
    let router = Router::new()
        .route("/", post(handler))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
        .layer(from_fn(page))
        .layer(SessionLayer::<Theme>::over(themes.sessions.clone()))
        .layer(from_fn(saves))
        .layer(SessionLayer::<Choice>::over(choices.sessions.clone()))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    baskets.store.interfere(&[RIVAL_BASKET]);
    assert_eq!(post_to(&router, &visitor).brief(), (200, "our page"));
    let saved = (data(&visits, &visitor), choices.store.inside.len(), themes.store.inside.len());
    assert_eq!(saved, (r#"{"count":2}"#.to_owned(), 1, 1), "the answer counts for all");
}

/// Three deep.
#[test]
fn a_lost_race_that_nobody_can_run_again_is_logged_once() {
    let (visits, baskets, visitor) = both_rigs();
    let choices = Rig::with(r#"{"cookie_name": "choice"}"#);
    let handler = |mut visit: Session<Visit>, mut choice: Session<Choice>, mut basket: Session<Basket>| async move {
        visit.count += 1;
        choice.is_dark = true;
        choice.save().await?;
        basket.things += 1;
        Ok::<_, edge_session::Error>(())
    };
    let router = Router::new()
        .route("/", post(handler))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
        .layer(SessionLayer::<Choice>::over(choices.sessions.clone()))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    baskets.store.interfere(&[RIVAL_BASKET]);
    let reply = post_to(&router, &visitor);
    let log = [visits.platform.logged(), choices.platform.logged(), baskets.platform.logged()].concat();
    let log: Vec<_> = log.into_iter().filter(|line| line.starts_with("contended")).collect();
    assert_eq!((reply.status, log.len()), (503, 1), "{log:?}");
}

/// Visits > a second try > Choices (open) > Baskets.
#[test]
fn a_lost_race_that_a_second_try_won_is_logged_once() {
    let (visits, baskets, visitor) = both_rigs();
    let choices = Rig::with(r#"{"cookie_name": "choice"}"#);
    let inner = Router::new()
        .route(
            "/",
            post(|choice: Session<Choice>, mut basket: Session<Basket>| async move {
                drop(choice);
                basket.things += 1;
            }),
        )
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
        .layer(SessionLayer::<Choice>::over(choices.sessions.clone()));
    let retry = move |mut visit: Session<Visit>, request: Request| {
        let inner = inner.clone();
        visit.count += 1;
        drop(visit);
        async move {
            let parts = request.into_parts().0;
            let send = |parts| inner.clone().oneshot(Request::from_parts(parts, Body::empty()));
            let response = send(parts.clone()).await.unwrap();
            if response.status().is_server_error() { send(parts).await.unwrap() } else { response }
        }
    };
    let router = Router::new().route("/", post(retry)).layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    baskets.store.interfere(&[RIVAL_BASKET]);
    let reply = post_to(&router, &visitor);
    let log = [visits.platform.logged(), choices.platform.logged(), baskets.platform.logged()].concat();
    assert_eq!((reply.status, log.len()), (200, 1), "{log:?}");
}

/// Nothing of the inner session is stored: it has expired.
#[test]
fn who_was_told_of_an_expiry_runs_again_for_the_session_around() {
    let (visits, baskets) = (Rig::new(), Rig::with(r#"{"cookie_name": "basket", "ignore_expiry": false}"#));
    let visitor = visitor(&visits, &baskets);
    baskets.platform.advance(100_000);
    let handler = |mut visit: Session<Visit>, basket: Result<Session<Basket>, Response>| async move {
        assert!(basket.is_err());
        visit.count += 1;
        visit.count.to_string()
    };
    let router = Router::new()
        .route("/", post(handler))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    visits.store.interfere(&[RIVAL]);
    assert_eq!(post_to(&router, &visitor).brief(), (200, "11"));
}

#[derive(Debug)]
struct Broken;

/// The inner session was not even asked for.
#[test]
fn an_inner_error_that_is_mended_runs_again_for_the_session_around() {
    let (visits, baskets, visitor) = both_rigs();
    let fails = tower::service_fn(|_request: Request| async { Err::<Response, Broken>(Broken) });
    let inner = SessionLayer::<Basket>::over(baskets.sessions.clone()).layer(fails);
    let inner = axum::error_handling::HandleError::new(inner, |_: Broken| async { "mended" });
    let counts = |mut visit: Session<Visit>, request: Request, next: Next| async move {
        visit.count += 1;
        drop(visit);
        next.run(request).await
    };
    let router = Router::new()
        .fallback_service(inner)
        .layer(from_fn(counts))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    visits.store.interfere(&[RIVAL]);
    assert_eq!(post_to(&router, &visitor).brief(), (200, "mended"));
    assert_eq!(data(&visits, &visitor), r#"{"count":11}"#);
}

/// Ready once.
#[derive(Clone)]
struct ReadyOnce(Router, Arc<AtomicBool>);

impl Service<Request> for ReadyOnce {
    type Response = Response;
    type Error = Broken;
    type Future = Work<Result<Response, Broken>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(if self.1.load(Ordering::Relaxed) { Err(Broken) } else { Ok(()) })
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.1.store(true, Ordering::Relaxed);
        let inner = self.0.clone();
        Box::pin(async move { inner.oneshot(request).await.map_err(|never| match never {}) })
    }
}

#[test]
fn a_lost_race_whose_service_is_ready_no_more_is_logged() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let once = ReadyOnce(Router::new().route("/count", get(count)), Arc::default());
    let service = SessionLayer::<Visit>::over(rig.sessions.clone()).layer(once);
    rig.store.interfere(&[RIVAL]);
    let answer = block_on(service.oneshot(request(&visitor, "GET", "/count").body(Body::empty()).unwrap()));
    assert!(answer.is_err());
    assert_eq!(rig.platform.logged().len(), 1);
}

/// Visits > Choices (open) > two calls at once > Baskets, of which one loses and the other one is stored.
#[test]
fn the_lost_race_of_a_hedge_is_said_once() {
    let (visits, baskets, visitor) = both_rigs();
    let choices = Rig::with(r#"{"cookie_name": "choice"}"#);
    let inner = Router::new()
        .route("/", post(|mut basket: Session<Basket>| async move { basket.things += 1 }))
        .layer(from_fn(|request: Request, next: Next| async move {
            step_aside().await;
            next.run(request).await
        }))
        .layer(SessionLayer::<Basket>::over(baskets.sessions.clone()));
    let hedge = move |mut choice: Session<Choice>, request: Request| {
        let inner = inner.clone();
        choice.is_dark = true;
        drop(choice);
        async move {
            let parts = request.into_parts().0;
            let send = |parts| inner.clone().oneshot(Request::from_parts(parts, Body::empty()));
            let (one, other) = worker::send::SendFuture::new(both(send(parts.clone()), send(parts))).await;
            let (one, other) = (one.unwrap(), other.unwrap());
            if one.status().is_success() { one } else { other }
        }
    };
    let router = Router::new()
        .route("/", post(hedge))
        .layer(SessionLayer::<Choice>::over(choices.sessions.clone()))
        .layer(from_fn(|mut visit: Session<Visit>, request: Request, next: Next| {
            visit.count += 1;
            drop(visit);
            next.run(request)
        }))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()));
    baskets.store.interfere(&[RIVAL_BASKET]);
    assert_eq!(post_to(&router, &visitor).status, 200);
    assert_eq!((data(&visits, &visitor).as_str(), choices.store.inside.len()), (r#"{"count":2}"#, 1));
    let log = [visits.platform.logged(), choices.platform.logged(), baskets.platform.logged()].concat();
    assert!(log.len() == 1 && log[0].starts_with("contended: "), "{log:?}");
}
