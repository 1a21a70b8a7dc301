//! Stores that fail on order (`faulty.mjs`), between the Worker and its real ones.

use crate::launcher::{Store, Worker};
use crate::visitor::{Reply, Visitor};

/// A Worker over faulty stores, and a visitor who has counted to 1.
fn counted_to_one(store: Store) -> (Worker, Visitor) {
    let worker = Worker::over_faulty_stores(store);
    let mut visitor = Visitor::default();
    assert_eq!(visitor.count(&worker), 1);
    (worker, visitor)
}

/// What these faults make of a visitor's request, and how often the store was called.
fn with_faults(worker: &Worker, visitor: &mut Visitor, path: &str, faults: &[&str]) -> (Reply, usize) {
    worker.order(faults);
    let reply = visitor.get(worker, path);
    let calls = worker.calls().iter().filter(|call| *call != "stub").count();
    worker.order(&[]);
    (reply, calls)
}

on_d1_and_object! {
    fn a_write_whose_answer_is_lost_is_recognised(store: Store) {
        let worker = Worker::over_faulty_stores(store);
        let mut visitor = Visitor::default();
        let (reply, calls) = with_faults(&worker, &mut visitor, "count", &["lost", "lost"]);
        assert_eq!((reply.brief(), calls), ((200, "1"), 3), "created once");
        let (reply, calls) = with_faults(&worker, &mut visitor, "count", &["none", "lost", "lost"]);
        assert_eq!((reply.brief(), calls), ((200, "2"), 4), "counted once");
        assert_eq!(visitor.count(&worker), 3);
    }

    fn what_passes_by_itself_is_tried_again_twice(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        let (reply, calls) = with_faults(&worker, &mut visitor, "count", &["passing", "passing"]);
        assert_eq!((reply.brief(), calls), ((200, "2"), 4), "loaded at the third attempt, and saved");
        let (reply, calls) = with_faults(&worker, &mut visitor, "count", &["passing", "passing", "passing"]);
        reply.is_unavailable();
        assert_eq!(calls, 3);
        assert_eq!(visitor.count(&worker), 3, "and nothing is lost");
    }

    fn an_overloaded_store_is_left_alone(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        for (faults, expected) in [(&["overloaded"][..], 1), (&["none", "overloaded"], 2)] {
            let (reply, calls) = with_faults(&worker, &mut visitor, "count", faults);
            reply.is_unavailable();
            assert_eq!(calls, expected);
        }
        assert!(worker.log().contains("overloaded"), "{}", worker.log());
        assert_eq!(visitor.count(&worker), 2);
    }

    /// It may have removed a record that had just moved, and nobody knows any more where to.
    fn a_logout_whose_answer_is_lost_is_not_called_done(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        let (reply, calls) = with_faults(&worker, &mut visitor, "reset", &["none", "lost"]);
        reply.is_unavailable();
        assert_eq!(calls, 3);
        assert_eq!(visitor.get(&worker, "reset").brief(), (200, ""), "and can be done again");
        assert_eq!(visitor.cookie, None);
    }

    fn a_logout_that_did_not_arrive_is_tried_again(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        let mut old = visitor.clone();
        let (reply, calls) = with_faults(&worker, &mut visitor, "reset", &["none", "passing"]);
        assert_eq!((reply.brief(), calls), ((200, ""), 3));
        assert_eq!(old.count(&worker), 1, "it is dead");
    }
}

on_each_store! {
    fn each_request_asks_the_store_as_little_as_can_be(store: Store) {
        let worker = Worker::over_faulty_stores(store);
        let mut visitor = Visitor::default();
        let (load, create, update, delete) = match store {
            Store::Kv => ("get", "put", "put", "get put delete"),
            Store::D1 => ("select", "insert", "update", "delete"),
            Store::Object => ("load", "create", "update", "delete"),
        };
        let asked = |visitor: &mut Visitor, path: &str| {
            worker.order(&[]);
            assert_eq!(visitor.get(&worker, path).status, 200);
            worker.calls().into_iter().filter(|call| call != "stub").collect::<Vec<_>>().join(" ")
        };
        assert_eq!(asked(&mut visitor, "session"), "", "nothing for nothing");
        assert_eq!(asked(&mut Visitor::with_cookie("webpy_session_id=forged"), "session"), "");
        assert_eq!(asked(&mut visitor, "count"), create);
        assert_eq!(asked(&mut visitor, "count"), format!("{load} {update}"));
        assert_eq!(asked(&mut visitor, "session"), load);
        assert_eq!(asked(&mut visitor, "reset"), format!("{load} {delete}"));
    }

    fn a_store_that_hangs_is_a_503_and_not_a_hung_visitor(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        let (reply, _) = with_faults(&worker, &mut visitor, "count", &["hang"]);
        reply.is_unavailable();
        assert!(worker.log().contains("no answer within 5000 ms"), "{}", worker.log());
        assert_eq!(visitor.count(&worker), 2);
    }

    fn a_store_that_fails_is_a_503_and_loses_nothing(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        for path in ["count", "reset"] {
            for faults in [&["overloaded"][..], &["none", "overloaded"]] {
                with_faults(&worker, &mut visitor, path, faults).0.is_unavailable();
            }
        }
        with_faults(&worker, &mut Visitor::default(), "count", &["overloaded"]).0.is_unavailable();
        assert_eq!(visitor.count(&worker), 2);
    }
}

#[test]
fn each_attempt_has_a_new_stub() {
    let (worker, mut visitor) = counted_to_one(Store::Object);
    worker.order(&["passing", "none", "passing"]);
    assert_eq!(visitor.count(&worker), 2);
    let calls = worker.calls();
    assert_eq!(calls, ["stub", "load", "stub", "load", "stub", "update", "stub", "update"]);
}

#[test]
fn an_object_of_another_release_is_a_503_and_loses_nothing() {
    let (worker, mut visitor) = counted_to_one(Store::Object);
    let refusal = "this object does not speak edge-session/1";
    for (path, faults) in [
        ("count", &[refusal][..]),
        ("count", &[""]),
        ("count", &["done"]),
        ("count", &["none", refusal]),
        ("count", &["none", ""]),
        ("count", &["none", "record"]),
        ("reset", &["none", refusal]),
        ("reset", &["none", ""]),
        ("reset", &["none", "done"]),
    ] {
        with_faults(&worker, &mut visitor, path, faults).0.is_unavailable();
    }
    assert!(worker.log().contains("object: this object does not speak edge-session/1"), "{}", worker.log());
    assert_eq!(visitor.count(&worker), 2);
}
