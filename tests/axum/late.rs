//! What goes on when its layer has answered, or does not wait for what it has begun.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use edge_session::tower::{Session, SessionLayer};
use pollster::block_on;
use tower::{Layer, Service, ServiceExt};
use worker::send::SendWrapper;

use crate::support::{Interference, Rig, Visit, Visitor, known, stored};
use crate::{Basket, RIVAL, ask, below, count, request, send};

#[test]
fn a_body_that_asks_for_the_session_when_it_is_saved_is_refused_and_logged() {
    struct Late(Option<Parts>);
    impl futures_core::Stream for Late {
        type Item = Result<Bytes, std::convert::Infallible>;

        fn poll_next(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            let Some(mut parts) = self.0.take() else { return Poll::Ready(None) };
            let session = block_on(<Session<Visit> as FromRequestParts<()>>::from_request_parts(&mut parts, &()));
            Poll::Ready(Some(Ok(session.map_or_else(|refused| refused.status().to_string(), |_| "had".into()).into())))
        }
    }
    let rig = Rig::new();
    let mut visitor = known(&rig);
    for is_asked_before in [false, true] {
        let router = Router::new()
            .route(
                "/",
                get(move |request: Request| async move {
                    let mut parts = request.into_parts().0;
                    if is_asked_before {
                        drop(<Session<Visit> as FromRequestParts<()>>::from_request_parts(&mut parts, &()).await);
                    }
                    Body::from_stream(Late(Some(parts)))
                }),
            )
            .layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
        assert_eq!(ask(&router, &mut visitor, "GET", "/").brief(), (200, "500 Internal Server Error"));
    }
    let log = rig.platform.logged();
    assert!(log.len() == 2 && log.iter().all(|line| line.contains("after its layer had answered")), "{log:?}");
}

#[test]
fn work_that_goes_on_when_the_layer_around_has_answered_wins_its_races_by_itself() {
    type Later = Pin<Box<dyn Future<Output = Response> + Send>>;
    let (visits, baskets) = (Rig::new(), Rig::with(r#"{"cookie_name": "basket"}"#));
    let later: Arc<Mutex<Option<Later>>> = Arc::default();
    let put_off = {
        let later = Arc::clone(&later);
        move |basket: Session<Basket>, request: Request, next: Next| {
            drop(basket);
            *later.lock().unwrap() = Some(Box::pin(next.run(request)));
            std::future::ready("accepted")
        }
    };
    let router = Router::new()
        .route("/count", get(count))
        .layer(SessionLayer::<Visit>::over(visits.sessions.clone()))
        .layer(from_fn(put_off))
        .layer(SessionLayer::<Basket>::over(baskets.sessions));
    let mut visitor = known(&visits);
    visits.store.interfere(&[RIVAL]);
    assert_eq!(ask(&router, &mut visitor, "GET", "/count").brief(), (200, "accepted"));
    let work = later.lock().unwrap().take().unwrap();
    assert_eq!(block_on(work).status(), 200);
    assert_eq!(stored(&visits, &visitor).unwrap().data, r#"{"count":11}"#);
}

/// Answers 408 if its handler is not done at the third look.
async fn in_time(request: Request, next: Next) -> Response {
    let mut handler = Box::pin(next.run(request));
    let mut looks = 0;
    poll_fn(|context| match handler.as_mut().poll(context) {
        Poll::Pending if looks == 3 => Poll::Ready(StatusCode::REQUEST_TIMEOUT.into_response()),
        Poll::Pending => {
            looks += 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }
        ready => ready,
    })
    .await
}

#[test]
fn a_second_run_that_is_not_waited_for_is_answered_as_its_middleware_says() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let runs = Arc::new(AtomicU32::new(0));
    let store = SendWrapper::new(rig.store.clone());
    let hangs = move |request: Request, next: Next| {
        if runs.fetch_add(1, Ordering::Relaxed) == 1 {
            store.hang("load");
        }
        next.run(request)
    };
    let router = Router::new()
        .route("/count", get(count))
        .layer(from_fn(hangs))
        .layer(from_fn(in_time))
        .layer(SessionLayer::<Visit>::over(rig.patient()));
    rig.store.interfere(&[RIVAL]);
    rig.store.tell_no_winner();
    assert_eq!(ask(&router, &mut visitor, "GET", "/count").status, 408);
    rig.store.hang("");
    assert_eq!(ask(&below(&rig), &mut visitor, "GET", "/look").body, "10");
}

/// A service that takes one request at a time, until its response's body is gone.
#[derive(Clone)]
struct OneAtATime {
    inner: Router,
    is_busy: Arc<AtomicBool>,
}

struct Permit(Arc<AtomicBool>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Service<Request> for OneAtATime {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        if self.is_busy.load(Ordering::Relaxed) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.is_busy.store(true, Ordering::Relaxed);
        let permit = Permit(Arc::clone(&self.is_busy));
        let inner = self.inner.clone();
        Box::pin(async move {
            let mut response = inner.oneshot(request).await?;
            response.extensions_mut().insert(Arc::new(permit));
            Ok(response)
        })
    }
}

#[test]
fn a_service_that_is_ready_when_its_response_is_gone_runs_again() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let one = OneAtATime { inner: Router::new().route("/count", get(count)), is_busy: Arc::default() };
    let service = SessionLayer::<Visit>::over(rig.sessions.clone()).layer(one);
    rig.store.interfere(&[RIVAL]);
    let request = request(&visitor, "GET", "/count").body(Body::empty()).unwrap();
    let mut answer = Box::pin(service.oneshot(request));
    let mut context = Context::from_waker(Waker::noop());
    assert!((0..1000).any(|_| answer.as_mut().poll(&mut context).is_ready()));
}

/// Also where it is around the layer that lost.
#[test]
fn so_does_one_between_two_layers() {
    let (visits, baskets) = (Rig::new(), Rig::with(r#"{"cookie_name": "basket"}"#));
    let handler = |_: Session<Visit>, mut basket: Session<Basket>| async move { basket.things += 1 };
    let inner = Router::new().route("/", get(handler)).layer(SessionLayer::<Basket>::over(baskets.sessions.clone()));
    let layer = SessionLayer::<Visit>::over(visits.sessions.clone());
    let service = layer.layer(OneAtATime { inner, is_busy: Arc::default() });
    let sent = |visitor: &Visitor| request(visitor, "GET", "/").body(Body::empty()).unwrap();
    let response = pollster::block_on(service.clone().oneshot(sent(&Visitor::default()))).unwrap();
    let pair = response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    drop(response);
    baskets.store.interfere(&[Interference::Update(r#"{"things":10}"#)]);
    let mut answer = Box::pin(service.oneshot(sent(&Visitor::with(pair))));
    let mut context = Context::from_waker(Waker::noop());
    assert!((0..1000).any(|_| answer.as_mut().poll(&mut context).is_ready()));
}

#[test]
fn a_reply_is_made_only_where_it_is_sent() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let made = Arc::new(AtomicU32::new(0));
    let layer = SessionLayer::<Visit>::over(rig.sessions.clone()).with_reply({
        let made = Arc::clone(&made);
        move |_| {
            made.fetch_add(1, Ordering::Relaxed);
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    });
    let router = Router::new().route("/count", get(count)).layer(layer);
    rig.store.interfere(&[RIVAL; 3]);
    assert_eq!(ask(&router, &mut visitor, "GET", "/count").status, 200);
    assert_eq!(made.load(Ordering::Relaxed), 0);
}

#[test]
fn who_goes_on_without_a_session_that_could_not_be_loaded_is_logged_and_its_reply_is_not_shared() {
    async fn goes_on(session: Result<Session<Visit>, Response>) -> impl IntoResponse {
        ([("cache-control", "public, max-age=60")], if session.is_ok() { "somebody" } else { "nobody" })
    }
    let rig = Rig::new();
    let visitor = known(&rig);
    let router = Router::new().route("/", get(goes_on)).layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    rig.store.fail("load");
    let reply = send(&router, request(&visitor, "GET", "/").body(Body::empty()).unwrap());
    assert_eq!(reply.brief(), (200, "nobody"));
    assert_eq!(reply.headers["cache-control"], "private, no-store");
    assert_eq!(rig.platform.logged(), ["unavailable: disk on fire in rack 7"]);
}

#[test]
fn work_that_goes_on_from_a_lost_run_gets_no_session_of_the_next_one() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let kept: Arc<Mutex<Option<Parts>>> = Arc::default();
    let handler = move |mut visit: Session<Visit>, request: Request| {
        let before = kept.lock().unwrap().replace(request.into_parts().0);
        async move {
            visit.count += 1;
            let Some(mut parts) = before else { return String::new() };
            drop(visit);
            let late = <Session<Visit> as FromRequestParts<()>>::from_request_parts(&mut parts, &()).await;
            late.map_or_else(|refused| refused.status().to_string(), |_| "had".to_owned())
        }
    };
    let router = Router::new().route("/", get(handler)).layer(SessionLayer::<Visit>::over(rig.sessions.clone()));
    rig.store.interfere(&[RIVAL]);
    assert_eq!(ask(&router, &mut visitor, "GET", "/").brief(), (200, "500 Internal Server Error"));
    assert_eq!(stored(&rig, &visitor).unwrap().data, r#"{"count":11}"#);
}
