//! Stores that fail, records that cannot be read.

use std::thread;
use std::time::UNIX_EPOCH;

use serde_json::json;

use crate::gate::Gate;
use crate::launcher::{KEY, Store, Worker, eventually};
use crate::visitor::Visitor;

on_each_store! {
    /// With the Worker's instance the objects' halves in it are gone; what they know is stored.
    fn after_a_panic_the_next_request_finds_a_new_instance_and_its_session(store: Store) {
        let worker = Worker::with_routes(store);
        let mut visitor = Visitor::default();
        for expected in [1, 3, 5] {
            assert_eq!(visitor.count(&worker), expected);
            // At once, or when a promise has settled.
            let panic = if expected == 3 { "panic-in-the-handler" } else { "panic" };
            assert_eq!(visitor.get(&worker, panic).status, 500);
            assert_eq!(visitor.count(&worker), expected + 1);
        }
        let instances = || worker.log().matches("Reinitializing Wasm application").count();
        eventually("each panic is followed by a new instance", || instances() >= 3);
        worker.has_logged("Rust panic: ");
        worker.has_logged("as it was asked to");
        assert_eq!(instances(), 3, "{}", worker.log());
    }
}

#[test]
fn a_request_that_is_under_way_when_the_instance_ends_does_not_wait_for_ever() {
    let worker = &Worker::with_routes(Store::Kv);
    let mut visitor = Visitor::default();
    for (end, expected) in ["panic", "panic-in-the-handler"].into_iter().zip(1..) {
        assert_eq!(visitor.count(worker), expected);
        thread::scope(|scope| {
            let gate = Gate::new(worker);
            let path = gate.before("slow-count");
            let mut other = visitor.clone();
            let other = scope.spawn(move || other.get(worker, &path).status);
            gate.has(1);
            assert_eq!(Visitor::default().get(worker, end).status, 500);
            assert_eq!(other.join().unwrap(), 500);
        });
    }
    assert_eq!(visitor.count(worker), 3);
}

/// A visitor with an id of this number in whose session's place KV holds this text: its isolate has never met that.
fn holding(worker: &Worker, number: usize, text: &str) -> Visitor {
    let signer = edge_session::Signer::from_secret(KEY).unwrap();
    let id = format!("{number:032x}");
    let cookie = format!("webpy_session_id={}", signer.sign("webpy_session_id", &id));
    let visitor = Visitor::with_cookie(cookie);
    worker.kv_put(&visitor.kv_name(), text.into());
    visitor
}

on_kv_and_d1! {
    fn an_unreadable_record_is_a_new_session_and_a_log_line(store: Store) {
        let worker = Worker::with(store, json!({}));
        let texts = ["gASVZwAAAAAAAAB9lCiMCnNlc3Npb25faWSU", "", "{}x", "{\"count\":\"many\"}", "[true]"];
        for (number, text) in texts.into_iter().enumerate() {
            let mut visitor = if store == Store::Kv {
                let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
                let record = edge_session::Record::new(now, now + 86_400, text).to_text();
                holding(&worker, number, if text.starts_with(['{', '[']) { &record } else { text })
            } else {
                let mut visitor = Visitor::default();
                assert_eq!(visitor.count(&worker), 1);
                worker.sql(&format!("UPDATE sessions SET data = '{text}'"));
                visitor
            };
            let mut leaving = visitor.clone();
            let old = visitor.cookie.clone();
            // D1 has the same name without KV's prefix.
            let name = visitor.kv_name();
            let is_stored = || worker.keys().iter().any(|key| name.ends_with(key));
            assert_eq!(visitor.count(&worker), 1, "{text:?}");
            assert_ne!(visitor.cookie, old);
            assert_eq!(visitor.count(&worker), 2);
            assert!(is_stored(), "{text:?}");
            assert_eq!(leaving.get(&worker, "reset").brief(), (200, ""), "{text:?}");
            assert!(!is_stored(), "the reset removed it: {text:?}");
        }
        worker.has_logged("cannot be read, so its visitor gets a new session");
    }
}

/// Its bookkeeping, and not its data: of a row that was retired as well.
#[test]
fn a_row_that_is_not_of_the_tables_form_is_a_new_session_and_a_logout_removes_it() {
    let worker = Worker::with(Store::D1, json!({}));
    for spoilt in ["extensions = 'no word'", "successor = 'no key', successor_until = 1", "version = -1"] {
        let mut visitor = Visitor::default();
        assert_eq!(visitor.count(&worker), 1);
        worker.sql(&format!("UPDATE sessions SET {spoilt}"));
        let mut leaving = visitor.clone();
        assert_eq!(visitor.count(&worker), 1, "{spoilt}");
        visitor.get(&worker, "reset");
        assert_eq!(worker.keys().len(), 1, "it may be a later release's: {spoilt}");
        assert_eq!(leaving.get(&worker, "reset").brief(), (200, ""), "{spoilt}");
        assert_eq!(worker.keys(), Vec::<String>::new(), "{spoilt}");
    }
    worker.has_logged("the row is not of this table's form");
}

#[test]
fn a_d1_without_its_table_is_a_503_and_the_log_names_the_command() {
    let parameters = json!({"session_parameters": {"store": "d1"}});
    let worker = Worker::start(Store::D1, &parameters, Some(KEY), false);
    let mut visitor = Visitor::default();
    visitor.get(&worker, "count").is_unavailable();
    worker.has_logged("npx wrangler d1 migrations apply DB --remote");
    worker.migrate();
    assert_eq!(visitor.count(&worker), 1, "and then it works");
}

#[test]
fn a_store_that_fails_on_load_loses_nothing() {
    let worker = Worker::with(Store::D1, json!({}));
    let mut visitor = Visitor::default();
    assert_eq!(visitor.count(&worker), 1);
    worker.sql("ALTER TABLE sessions RENAME TO elsewhere");
    visitor.get(&worker, "count").is_unavailable();
    visitor.get(&worker, "reset").is_unavailable();
    worker.sql("ALTER TABLE elsewhere RENAME TO sessions");
    assert_eq!(visitor.count(&worker), 2);
}

#[test]
fn a_store_that_fails_on_save_loses_nothing() {
    let worker = Worker::with(Store::D1, json!({}));
    let mut visitor = Visitor::default();
    assert_eq!(visitor.count(&worker), 1);
    for (event, name) in [("UPDATE", "u"), ("INSERT", "i"), ("DELETE", "d")] {
        worker.sql(&format!(
            "CREATE TRIGGER fail_{name} BEFORE {event} ON sessions BEGIN SELECT RAISE(ABORT, 'rack 7 is on fire'); END"
        ));
    }
    visitor.get(&worker, "count").is_unavailable();
    visitor.get(&worker, "reset").is_unavailable();
    Visitor::default().get(&worker, "count").is_unavailable();
    worker.has_logged("D1_ERROR: rack 7 is on fire");
    for name in ["u", "i", "d"] {
        worker.sql(&format!("DROP TRIGGER fail_{name}"));
    }
    assert_eq!(visitor.count(&worker), 2, "nothing was overwritten, and nobody logged out");
}

on_each_store! {
    fn data_that_could_not_be_read_again_is_a_500_and_the_session_stays(store: Store) {
        let worker = Worker::with_routes(store);
        let mut visitor = Visitor::default();
        assert_eq!(visitor.count(&worker), 1);
        let reply = visitor.get(&worker, "nan");
        assert_eq!((reply.status, reply.set_cookie()), (500, None));
        // No page, whatever its Worker adds.
        assert_eq!(reply.header("content-security-policy"), Some("default-src 'none'; frame-ancestors 'none'"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        worker.has_logged("unserializable: the session's data was not saved");
        assert_eq!(visitor.count(&worker), 2);
    }

    fn a_handler_that_serves_its_own_request_is_a_500_at_once(store: Store) {
        let worker = Worker::with_routes(store);
        let mut visitor = Visitor::default();
        assert_eq!(visitor.get(&worker, "nested").status, 500);
        worker.has_logged("nested: a handler called `serve`");
        assert_eq!(visitor.count(&worker), 1 + u64::from(visitor.cookie.is_some()));
    }

    fn data_larger_than_max_data_is_a_500_that_names_the_parameter(store: Store) {
        let worker = Worker::with_routes_and(store, json!({"max_data": 20}));
        let mut visitor = Visitor::default();
        assert_eq!(visitor.ask(&worker, "POST", "notes", b"short").status, 200);
        assert_eq!(visitor.ask(&worker, "POST", "notes", &[b'x'; 100]).status, 500);
        worker.has_logged("more than `max_data` = 20 allows");
        assert_eq!(visitor.get(&worker, "notes").brief(), (200, "short"));
    }
}

#[test]
fn a_reply_that_depends_on_the_session_is_kept_by_no_shared_cache() {
    let worker = Worker::with_routes(Store::Kv);
    for (path, expected) in [
        ("public", "private, no-store"),
        ("public?private,max-age=60", "private,max-age=60"),
        ("public?no-store", "no-store"),
        ("public?max-age=60", "private, no-store"),
        ("public?public,private=%22set-cookie%22", "private, no-store"),
        ("public?private,s-maxage=60", "private, no-store"),
    ] {
        let reply = Visitor::default().get(&worker, path);
        assert_eq!(reply.header("cache-control"), Some(expected), "{path}");
        assert_eq!(reply.header("vary"), Some("Accept-Encoding, cookie"), "{path}: said once");
        assert_eq!(reply.header("cdn-cache-control"), None, "{path}");
    }
    // One that sets the cookie is for nobody to keep.
    let mut visitor = Visitor::default();
    let reply = visitor.get(&worker, "public-count");
    assert!(reply.set_cookie().is_some());
    assert_eq!(reply.header("cache-control"), Some("private, no-store"));
    assert_eq!(reply.header("vary"), Some("Accept-Encoding, Cookie"));
    assert_eq!((reply.header("cloudflare-cdn-cache-control"), reply.header("surrogate-control")), (None, None));
}
