//! Stores that fail on order (`faulty.mjs`), between the Worker and its real ones.

use crate::launcher::{Store, Worker, eventually};
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
        let (reply, calls) = with_faults(&worker, &mut visitor, "count", &["lost", "none", "lost"]);
        assert_eq!((reply.brief(), calls), ((200, "1"), 5), "created under a third id, and the first two deleted");
        let (reply, calls) = with_faults(&worker, &mut visitor, "count", &["none", "lost", "lost"]);
        assert_eq!((reply.brief(), calls), ((200, "2"), 4), "counted once");
        assert_eq!(visitor.count(&worker), 3);
    }

    /// Another request stores its version, or deletes the session, before the write is sent again. Nobody knows then
    /// whether the first one was stored: it is not done twice.
    fn a_write_whose_answer_is_lost_and_that_then_meets_another_is_a_503(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        let (reply, _) = with_faults(&worker, &mut visitor, "count", &["none", "lost-then-updated"]);
        reply.is_unavailable();
        worker.has_logged("unavailable: the answer to a write was lost");
        assert_eq!(visitor.count(&worker), 3, "counted once, and the rival's version on top of it");
        let (reply, _) = with_faults(&worker, &mut visitor, "count", &["none", "lost-then-deleted"]);
        reply.is_unavailable();
        assert_eq!(visitor.count(&worker), 1);
    }

    fn a_login_whose_answer_is_lost_is_done_once(store: Store) {
        let worker = Worker::over_faulty_stores_with_routes(store);
        let mut visitor = Visitor::default();
        visitor.count(&worker);
        let mut old = visitor.clone();
        let (reply, _) = with_faults(&worker, &mut visitor, "login", &["none", "lost", "lost"]);
        assert_eq!(reply.brief(), (200, "101"));
        assert_eq!(visitor.count(&worker), 102);
        assert_eq!(old.get(&worker, "whoami").body, "0");
    }

    /// The store has changed the id, and says so to nobody; a logout with the old id follows, and then the change is sent again.
    fn a_login_that_is_sent_again_revives_nothing(store: Store) {
        let worker = Worker::over_faulty_stores_with_routes(store);
        let mut visitor = Visitor::default();
        visitor.count(&worker);
        let mut old = visitor.clone();
        let before: &[&str] = if matches!(store, Store::D1) { &["none"] } else { &["none", "none"] };
        let (reply, _) = with_faults(&worker, &mut visitor, "login", &[before, &["lost-then-logged-out"]].concat());
        assert_eq!(reply.brief(), (200, "101"));
        assert_ne!(visitor.cookie, old.cookie);
        for visitor in [&mut visitor, &mut old] {
            assert_eq!(visitor.get(&worker, "whoami").body, "0");
        }
    }

    /// Its visitor would come with the old id otherwise, which is worth nothing by then.
    fn a_login_that_was_saved_before_the_store_failed_is_told(store: Store) {
        let worker = Worker::over_faulty_stores_with_routes(store);
        let mut visitor = Visitor::default();
        visitor.count(&worker);
        let old = visitor.cookie.clone();
        let before = if matches!(store, Store::D1) { 2 } else { 3 };
        let faults: Vec<_> = std::iter::repeat_n("none", before).chain(["broken"]).collect();
        let (reply, _) = with_faults(&worker, &mut visitor, "login-saved-at-once", &faults);
        assert_eq!(reply.status, 503);
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert!(visitor.cookie.is_some() && visitor.cookie != old);
        assert_eq!(visitor.count(&worker), 2);
    }

    /// What was given up arrives when its session, which was stored by a second message, has ended.
    fn what_arrives_after_a_logout_brings_nothing_back(store: Store) {
        let worker = Worker::over_faulty_stores_with_routes(store);
        for path in ["count", "login"] {
            let mut visitor = Visitor::default();
            let faults: &[&str] = if path == "count" { &["late"] } else { &["none", "late"] };
            if path == "login" {
                visitor.count(&worker);
            }
            let (reply, _) = with_faults(&worker, &mut visitor, path, faults);
            assert_eq!(reply.status, 200);
            let mut thief = visitor.clone();
            assert_ne!(thief.get(&worker, "whoami").body, "0");
            visitor.get(&worker, "reset");
            worker.order(&["arrive"]);
            assert_eq!(thief.get(&worker, "whoami").body, "0", "{path}");
        }
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
        worker.has_logged("overloaded");
        assert_eq!(visitor.count(&worker), 2);
    }

    /// A delete can be done twice: a session that has moved leaves behind where it went.
    fn a_logout_whose_answer_is_lost_is_done(store: Store) {
        let worker = Worker::over_faulty_stores_with_routes(store);
        let mut visitor = Visitor::default();
        for logs_in in [false, true] {
            visitor.count(&worker);
            let mut leaving = visitor.clone();
            if logs_in {
                visitor.get(&worker, "login");
            }
            let (reply, _) = with_faults(&worker, &mut leaving, "reset", &["none", "lost", "lost"]);
            assert_eq!((reply.brief(), leaving.cookie), ((200, ""), None));
            assert_eq!(visitor.get(&worker, "whoami").body, "0", "{logs_in}");
        }
    }

    fn a_logout_that_did_not_arrive_is_tried_again(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        let mut old = visitor.clone();
        let (reply, calls) = with_faults(&worker, &mut visitor, "reset", &["none", "passing"]);
        assert_eq!((reply.brief(), calls), ((200, ""), 3));
        assert_eq!(old.count(&worker), 1, "it is dead");
    }
}

/// The end of all of a user's sessions comes between a sign-in and its repetition, which then does not know that it was done.
#[test]
fn a_sign_in_on_d1_that_is_sent_again_after_the_end_of_all_is_a_503() {
    let worker = Worker::over_faulty_stores_with_routes(Store::D1);
    let mut visitor = Visitor::default();
    visitor.count(&worker);
    let (reply, _) = with_faults(&worker, &mut visitor, "user?act=sign-in&user=ada", &["none", "lost-then-all-ended"]);
    reply.is_unavailable();
    worker.has_logged("id_untold: ");
    assert_eq!(visitor.get(&worker, "user?act=list&user=ada").body, "");
    assert_eq!(visitor.get(&worker, "whoami").body, "0");
}

on_d1_and_object! {
    /// On D1 a sign-in is the transaction that a change of id is, and no statement more.
    fn a_sign_in_asks_the_store_as_little_as_can_be(store: Store) {
        let worker = Worker::over_faulty_stores_with_routes(store);
        let mut visitor = Visitor::default();
        visitor.count(&worker);
        let mut asked = |act: &str| {
            worker.order(&[]);
            assert_eq!(visitor.get(&worker, &format!("user?act={act}&user=ada")).status, 200);
            worker.calls().into_iter().filter(|call| call != "stub").collect::<Vec<_>>().join(" ")
        };
        let all = ["login", "sign-in", "count", "login", "list", "end-others", "end-all"].map(&mut asked);
        let expected = match store {
            Store::D1 => [
                "select batch", "select batch", "select update", "select batch", "select select", "select batch", "select batch",
            ],
            _ => [
                "load create update", "load register create update confirm list", "load update",
                "load move create update confirm", "load list load", "load load revoke", "load revoke delete forget",
            ],
        };
        assert_eq!(all, expected);
    }
}

on_each_store! {
    fn each_request_asks_the_store_as_little_as_can_be(store: Store) {
        let worker = Worker::over_faulty_stores(store);
        let mut visitor = Visitor::default();
        let (load, create, update, delete) = match store {
            Store::Kv => ("get", "put", "put", "get put put delete"),
            Store::D1 => ("select", "insert", "update", "delete"),
            Store::Object => ("load", "create", "update", "delete"),
        };
        let asked = |visitor: &mut Visitor, path: &str| {
            worker.order(&[]);
            assert_eq!(visitor.get(&worker, path).status, 200);
            worker.settle();
            worker.calls().into_iter().filter(|call| call != "stub").collect::<Vec<_>>().join(" ")
        };
        assert_eq!(asked(&mut visitor, "session"), "", "nothing for nothing");
        assert_eq!(asked(&mut Visitor::with_cookie("webpy_session_id=forged"), "session"), "");
        assert_eq!(asked(&mut visitor, "count"), create);
        assert_eq!(asked(&mut visitor, "count"), format!("{load} {update}"));
        assert_eq!(asked(&mut visitor, "session"), load);
        assert_eq!(asked(&mut visitor, "reset"), format!("{load} {delete}"));
    }

    /// Looking is not writing: a note of use that cannot be stored is a log line.
    fn a_page_that_looks_is_answered_although_the_store_takes_no_writes(store: Store) {
        let worker = Worker::over_faulty_stores_and(store, serde_json::json!({"touch_after": 1}));
        let mut visitor = Visitor::default();
        visitor.count(&worker);
        std::thread::sleep(std::time::Duration::from_millis(2100));
        let touches: &[&str] = if store == Store::Kv { &["none", "none", "broken"] } else { &["none", "broken"] };
        let (reply, calls) = with_faults(&worker, &mut visitor, "session", touches);
        assert_eq!((reply.status, calls), (200, touches.len()), "{reply:?}");
        worker.has_logged("touch_failed: the use of RecordKey(");
        std::thread::sleep(std::time::Duration::from_millis(1100));
        worker.order(&[]);
        assert_eq!(visitor.get(&worker, "session").status, 200);
        let expected = match store {
            Store::Kv => "get get put",
            Store::D1 => "select update",
            Store::Object => "load touch",
        };
        let calls: Vec<_> = worker.calls().into_iter().filter(|call| call != "stub").collect();
        assert_eq!(calls.join(" "), expected, "a note of use is an act of its own");
    }

    /// By an error of worker's, which holds the session's: dropped, it is not the one that is returned.
    fn a_handler_that_hides_a_failed_save_has_its_own_error(store: Store) {
        let worker = Worker::over_faulty_stores_with_routes(store);
        let mut visitor = Visitor::default();
        visitor.count(&worker);
        let (reply, _) = with_faults(&worker, &mut visitor, "swallow", &[&["none"][..], &["broken"; 9]].concat());
        assert_eq!(reply.status, 418, "{reply:?}");
        assert!(reply.body.starts_with("the handler's own, after: edge-session: "), "{reply:?}");
        worker.has_logged("failure_ignored: a save failed, and its handler went on");
    }

    fn a_store_that_hangs_is_a_503_and_not_a_hung_visitor(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        let (reply, _) = with_faults(&worker, &mut visitor, "count", &["hang"]);
        reply.is_unavailable();
        worker.has_logged("no answer within 5000 ms");
        assert_eq!(visitor.count(&worker), 2);
    }

    fn a_store_that_fails_is_a_503_and_loses_nothing(store: Store) {
        let (worker, mut visitor) = counted_to_one(store);
        for path in ["count", "reset"] {
            for faults in [&["broken"][..], &["none", "broken"]] {
                // A count's write goes to KV behind the reply.
                if (store, path, faults.len()) != (Store::Kv, "count", 2) {
                    with_faults(&worker, &mut visitor, path, faults).0.is_unavailable();
                }
            }
        }
        with_faults(&worker, &mut Visitor::default(), "count", &["broken"; 9]).0.is_unavailable();
        assert_eq!(visitor.count(&worker), 2);
    }
}

/// KV takes one write a second under one name.
#[test]
fn a_write_that_meets_429_is_tried_again_behind_its_reply_and_nobody_is_refused() {
    let (worker, mut visitor) = counted_to_one(Store::Kv);
    worker.settle();
    worker.order(&["none", "overloaded", "overloaded"]);
    assert_eq!(visitor.count(&worker), 2);
    eventually("the put is tried a third time", || worker.calls() == ["get", "put", "put", "put"]);
    visitor.comes_to_be_in_kv(&worker, r#"{"count":2}"#);
    // What is read meanwhile is this test's look at KV.
    assert_eq!(worker.calls().iter().filter(|call| *call == "put").count(), 3, "and no more");
}

/// The visitor's browser has the write. A write that is given up behind a reply is a log line; the next one is waited for.
#[test]
fn where_kv_takes_no_writes_one_reply_leaves_before_that_is_known_and_the_next_are_503() {
    let (worker, mut visitor) = counted_to_one(Store::Kv);
    worker.settle();
    worker.order(&[&["none"][..], &["broken"; 20]].concat());
    assert_eq!(visitor.count(&worker), 2);
    worker.has_logged("write_given_up: a write of RecordKey(");
    worker.order(&[&["none"][..], &["broken"; 20]].concat());
    visitor.get(&worker, "count").is_unavailable();
    worker.order(&[]);
    assert_eq!(visitor.count(&worker), 3, "what its reply told is there, and what was refused is not");
    visitor.comes_to_be_in_kv(&worker, r#"{"count":3}"#);
}

/// Of a logout the marks decide. 429 on one of them mostly means that it is there; it is looked whether it is.
#[test]
fn a_logout_within_a_second_of_another_write_is_done_and_no_other_is_called_so() {
    let (worker, mut visitor) = counted_to_one(Store::Kv);
    let mut old = visitor.clone();
    // Two loads, then the marks.
    let (reply, _) = with_faults(&worker, &mut visitor, "reset", &["none", "none", "broken"]);
    reply.is_unavailable();
    let refused = [&["none", "none"][..], &["overloaded", "none"].repeat(9)].concat();
    let (reply, calls) = with_faults(&worker, &mut visitor, "reset", &refused);
    reply.is_unavailable();
    assert!((6..=10).contains(&calls), "tried until its time was over: {calls}");
    assert_eq!(old.clone().count(&worker), 2, "it is not called done, and is not");
    let once = ["none", "none", "overloaded", "none", "none", "none", "overloaded"];
    let (reply, calls) = with_faults(&worker, &mut visitor, "reset", &once);
    assert_eq!((reply.brief(), calls), ((200, ""), 7), "a look, and a second try a second later");
    assert_eq!(old.count(&worker), 1, "it is dead");
    // Twice: the marks are there.
    let (reply, calls) = with_faults(&worker, &mut visitor, "reset", &["none"]);
    assert_eq!((reply.brief(), calls), ((200, ""), 0), "nothing to end");
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
    worker.has_logged("object: this object does not speak edge-session/1");
    assert_eq!(visitor.count(&worker), 2);
}
