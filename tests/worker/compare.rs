//! The stores side by side, and what a visitor may know of a session.

use serde_json::{Value, json};

use crate::launcher::{KEY, Store, Worker};
use crate::visitor::{Reply, Visitor, without_times};

#[test]
fn each_store_has_a_counter_and_a_cookie_of_its_own() {
    let worker = Worker::shared(Store::D1);
    let mut main = Visitor::default();
    assert_eq!(main.count(worker), 1);
    for name in ["kv", "d1", "object"] {
        let mut visitor = main.clone();
        let reply = visitor.get(worker, &format!("{name}/count"));
        assert_eq!(reply.brief(), (200, "1"), "{name}: not the session of /count");
        let cookie = reply.set_cookie().unwrap();
        assert!(cookie.starts_with(&format!("{name}_session_id=")), "{cookie}");
        assert!(cookie.contains(&format!("; Path=/{name};")), "{cookie}");
        assert_eq!(visitor.get(worker, &format!("{name}/count")).body, "2");
        assert_eq!(facts(&visitor.get(worker, &format!("{name}/session")))["store"], name);
        assert_eq!(visitor.get(worker, &format!("{name}/reset")).brief(), (200, ""));
        assert_eq!(visitor.get(worker, &format!("{name}/count")).body, "1");
    }
    assert_eq!(main.count(worker), 2);
    assert_eq!(main.get(worker, "kv").status, 404);
    assert_eq!(main.get(worker, "kvx/count").status, 404);
    assert_eq!(main.get(worker, "kv/d1/count").status, 404);
}

#[test]
fn a_race_can_keep_the_old_cookie_and_see_what_it_is_worth() {
    let worker = Worker::shared(Store::D1);
    for name in ["kv", "d1", "object"] {
        let mut visitor = Visitor::default();
        visitor.get(worker, &format!("{name}/count"));
        let old = visitor.cookie.clone();
        for path in ["count", "reset", "count"] {
            let reply = visitor.get(worker, &format!("{name}/{path}?keep_cookie"));
            assert_eq!((reply.status, reply.set_cookie()), (200, None), "{name}/{path}");
        }
        assert_eq!(visitor.cookie, old);
        assert_eq!(facts(&visitor.get(worker, &format!("{name}/session")))["new"], true, "{name}: nothing");
    }
    let mut main = Visitor::default();
    assert!(main.get(worker, "count?keep_cookie").set_cookie().is_some(), "nowhere else");
}

/// A Worker whose variables are these and the session parameters.
fn with_variable(value: &Value) -> Worker {
    let vars = json!({ "session_parameters": { "store": "d1" }, "compare_stores": value });
    Worker::start(Store::D1, &vars, Some(KEY), true)
}

#[test]
fn the_stores_are_compared_only_where_that_is_asked_for() {
    for off in [json!(false), json!(null)] {
        let worker = with_variable(&off);
        assert_eq!(Visitor::default().get(&worker, "kv/count").brief(), (404, "not found\n"), "{off}");
        for method in ["HEAD", "POST"] {
            assert_eq!(Visitor::default().ask(&worker, method, "kv/count", b"").status, 404, "{method} {off}");
        }
        assert_eq!(Visitor::default().count(&worker), 1);
    }
}

#[test]
fn a_compare_stores_that_is_neither_true_nor_false_is_refused_with_the_repair() {
    let worker = with_variable(&json!("yes"));
    assert_eq!(Visitor::default().get(&worker, "kv/count").status, 500);
    let repair = "`compare_stores` in [vars] must be true or false, without quotes";
    worker.has_logged(repair);
}

#[test]
fn what_was_stored_for_the_comparison_is_swept_too() {
    let vars = json!({ "session_parameters": { "store": "kv" }, "compare_stores": true });
    let worker = Worker::start(Store::D1, &vars, Some(KEY), true);
    Visitor::default().get(&worker, "d1/count");
    worker.sweep();
    assert_eq!(worker.keys().len(), 1);
    worker.age(90_000);
    worker.sweep();
    assert_eq!(worker.keys().len(), 0);
}

fn facts(reply: &Reply) -> Value {
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")), "{reply:?}");
    serde_json::from_str(&reply.body).unwrap()
}

on_each_store! {
    fn a_visitor_may_know_all_of_a_session_but_its_id(store: Store) {
        let worker = Worker::with(store, json!({"timeout": 600, "absolute_timeout": 7200}));
        let mut visitor = Visitor::default();
        let reply = visitor.get(&worker, "session");
        let now = facts(&reply)["now"].as_u64().unwrap();
        assert_eq!(facts(&reply), json!({"store": store.name(), "now": now, "new": true}));
        assert_eq!(reply.set_cookie(), None, "a look makes no session");

        visitor.count(&worker);
        let reply = visitor.get(&worker, "session");
        let facts = facts(&reply);
        let began = facts["created_at"].as_u64().unwrap();
        assert!((now..now + 60).contains(&began), "{facts}");
        assert_eq!(facts, json!({
            "store": store.name(), "now": facts["now"], "new": false, "created_at": began, "last_used_at": began,
            "idle_expires_at": began + 600, "absolute_expires_at": began + 7200, "bytes": r#"{"count":1}"#.len(),
            "count": 1,
        }));
        let id = visitor.value().split('.').next().unwrap();
        assert!(!reply.body.contains(id) && !format!("{reply:?}").contains("version"), "{reply:?}");
    }

    fn server_timing_tells_what_was_done_where_it_is_asked_for(store: Store) {
        let worker = Worker::with(store, json!({"server_timing": true}));
        let mut visitor = Visitor::default();
        for (path, expected) in [
            ("session", "load;desc=new;dur=N, handler;dur=N, save;desc=nothing;dur=N, attempts;desc=1"),
            ("count", "load;desc=new;dur=N, handler;dur=N, save;desc=created;dur=N, attempts;desc=1"),
            ("count", "load;desc=loaded;dur=N, handler;dur=N, save;desc=saved;dur=N, attempts;desc=1"),
            ("session", "load;desc=loaded;dur=N, handler;dur=N, save;desc=nothing;dur=N, attempts;desc=1"),
            ("reset", "load;desc=loaded;dur=N, handler;dur=N, save;desc=killed;dur=N, attempts;desc=1"),
        ] {
            let reply = visitor.get(&worker, path);
            let timing = reply.header("server-timing").unwrap_or_else(|| panic!("{reply:?}"));
            assert_eq!(without_times(timing), expected, "{path}");
        }
        let silent = Worker::with(store, json!({}));
        assert_eq!(Visitor::default().get(&silent, "count").header("server-timing"), None, "and not otherwise");
    }
}

#[test]
fn nothing_that_the_worker_says_is_a_page() {
    let worker = Worker::shared(Store::Kv);
    let broken = Worker::without_bindings(&json!({}), None);
    for (worker, method, path, status) in [
        (worker, "GET", "count", 200),
        (worker, "GET", "reset", 200),
        (worker, "GET", "session", 200),
        (worker, "HEAD", "count", 200),
        (worker, "POST", "count", 405),
        (worker, "GET", "nosuch", 404),
        (&broken, "GET", "count", 500),
    ] {
        let reply = Visitor::default().ask(worker, method, path, b"");
        assert_eq!(reply.status, status, "{method} {path}");
        let policy = reply.header("content-security-policy");
        assert_eq!(policy, Some("default-src 'none'; frame-ancestors 'none'"), "{method} {path}");
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{method} {path}");
    }
}
