//! web.py's `/count` and `/reset`, and what surrounds them.

use serde_json::json;

use crate::launcher::{Store, Worker};
use crate::visitor::Visitor;

on_each_store! {
    fn counts_one_two_three_and_a_reset_starts_anew(store: Store) {
        let worker = Worker::shared(store);
        let mut visitor = Visitor::default();
        let first = visitor.get(worker, "count");
        assert_eq!(first.brief(), (200, "1"));
        assert_eq!(first.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(first.header("cache-control"), Some("private, no-store"));
        assert_eq!(first.header("vary"), Some("Cookie"));
        let (pair, attributes) = first.set_cookie().unwrap().split_once("; ").unwrap();
        assert_eq!(attributes, "HttpOnly; Path=/; SameSite=Lax");
        let (id, mac) = pair.strip_prefix("webpy_session_id=").unwrap().split_once('.').unwrap();
        assert!(id.len() == 32 && mac.len() == 64 && format!("{id}{mac}").bytes().all(|b| b.is_ascii_hexdigit()));

        assert_eq!(visitor.get(worker, "count").brief(), (200, "2"));
        assert_eq!(visitor.get(worker, "count").brief(), (200, "3"));

        let mut old = visitor.clone();
        let reset = visitor.get(worker, "reset");
        assert_eq!(reset.brief(), (200, ""));
        assert_eq!(
            reset.set_cookie(),
            Some("webpy_session_id=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Path=/; SameSite=Lax")
        );
        assert_eq!(visitor.count(worker), 1);
        assert_eq!(old.count(worker), 1, "the old cookie is worth nothing");
        assert_ne!(old.cookie, visitor.cookie);
    }

    fn visitors_do_not_meet(store: Store) {
        let worker = Worker::shared(store);
        let (mut first, mut second) = (Visitor::default(), Visitor::default());
        assert_eq!((first.count(worker), second.count(worker)), (1, 1));
        assert_eq!((first.count(worker), first.count(worker), second.count(worker)), (2, 3, 2));
        first.get(worker, "reset");
        assert_eq!(second.count(worker), 3);
    }

    fn a_reset_without_a_session_is_an_empty_200(store: Store) {
        let worker = Worker::shared(store);
        let none = Visitor::default().get(worker, "reset");
        assert_eq!((none.brief(), none.set_cookie()), ((200, ""), None));
        let forged = Visitor::with_cookie("webpy_session_id=00").get(worker, "reset");
        assert_eq!(forged.brief(), (200, ""));
        assert!(forged.set_cookie().unwrap().starts_with("webpy_session_id=; Max-Age=0;"));
    }
}

on_kv_and_d1! {
    fn nothing_but_a_count_creates_a_session(store: Store) {
        let worker = Worker::with(store, json!({}));
        let mut visitor = Visitor::default();
        for path in ["", "nosuch", "count/", "COUNT", "/count", "count/x", "%63ount", "reset/", "favicon.ico"] {
            let reply = visitor.get(&worker, path);
            assert_eq!(reply.status, if path.is_empty() { 200 } else { 404 }, "{path}: {reply:?}");
            assert_eq!(reply.set_cookie(), None, "{path}");
        }
        for path in ["count", "reset"] {
            for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND"] {
                let reply = visitor.ask(&worker, method, path, b"");
                assert_eq!(reply.brief(), (405, "method not allowed\n"), "{method} {path}");
                assert_eq!(reply.header("allow"), Some("GET, HEAD"));
                assert_eq!(reply.set_cookie(), None);
            }
            let head = visitor.ask(&worker, "HEAD", path, b"");
            assert_eq!((head.brief(), head.set_cookie()), ((200, ""), None));
        }
        assert_eq!(visitor.ask(&worker, "HEAD", "nosuch", b"").brief(), (404, ""));
        visitor.get(&worker, "reset");
        assert_eq!(worker.keys(), Vec::<String>::new());
        visitor.count(&worker);
        assert_eq!(worker.keys().len(), 1);
    }
}

on_each_store! {
    fn other_methods_and_paths_leave_a_known_session_alone(store: Store) {
        let worker = Worker::shared(store);
        let mut visitor = Visitor::default();
        visitor.count(worker);
        for (method, path) in [("POST", "count"), ("DELETE", "reset"), ("HEAD", "count"), ("HEAD", "reset"), ("GET", "x")] {
            assert_eq!(visitor.ask(worker, method, path, b"").set_cookie(), None, "{method} {path}");
        }
        assert_eq!(visitor.count(worker), 2);
    }

    fn query_strings_and_a_body_do_not_matter(store: Store) {
        let worker = Worker::shared(store);
        let mut visitor = Visitor::default();
        assert_eq!(visitor.get(worker, "count?x=1").body, "1");
        assert_eq!(visitor.get(worker, "count?session_id=deadbeef&clear=1").body, "2");
        assert_eq!(visitor.ask(worker, "GET", "count", b"count=99").body, "3");
        assert_eq!(visitor.get(worker, "count?").body, "4");
        assert_eq!(visitor.get(worker, "reset?x").brief(), (200, ""));
        assert_eq!(visitor.count(worker), 1);
    }
}

on_kv_and_d1! {
    fn the_store_holds_the_hash_of_the_id_and_no_more_than_it_must(store: Store) {
        let worker = Worker::with(store, json!({}));
        let mut visitor = Visitor { ip: Some("192.0.2.1"), ..Visitor::default() };
        visitor.count(&worker);
        visitor.count(&worker);
        worker.settle();
        let [key] = &worker.keys()[..] else { panic!("one session") };
        let (id, _) = visitor.value().split_once('.').unwrap();
        let hash = key.trim_start_matches("session:");
        assert!(hash.len() == 64 && !hash.contains(id), "{key}");
        match store {
            Store::Kv => {
                let text = worker.kv_get(key);
                let text = text.as_str().unwrap();
                let record = edge_session::Record::from_text(text).unwrap();
                assert_eq!((record.version, record.ip, record.data.as_str()), (2, None, r#"{"count":2}"#));
                assert!(!text.contains("192.0.2.1") && !text.contains(id), "{text}");
                let expiration = worker.kv_keys()[0]["expiration"].as_u64().unwrap();
                assert_eq!(expiration, record.expires_at + 120, "KV expires it by itself");
            }
            Store::Object => panic!("not among these"),
            Store::D1 => {
                let rows = worker.sql("SELECT version, ip, data, expires_at - atime AS life, typeof(atime) AS kind FROM sessions");
                assert_eq!(
                    rows,
                    json!([{"version": 2, "ip": null, "data": r#"{"count":2}"#, "life": 86400, "kind": "integer"}])
                );
            }
        }
    }
}

#[test]
fn the_page_says_what_this_is_and_links_both() {
    let worker = Worker::shared(Store::Kv);
    let page = Visitor::default().get(worker, "");
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").unwrap().starts_with("text/html"));
    assert_eq!(page.set_cookie(), None);
    for expected in ["edge-session", "href=\"/count\"", "href=\"/reset\""] {
        assert!(page.body.contains(expected), "{expected}");
    }
}

#[test]
fn the_sweep_frees_expired_rows_by_chunks_and_no_live_one() {
    let worker = Worker::with(Store::D1, json!({}));
    let mut visitor = Visitor::default();
    visitor.count(&worker);
    worker.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1750) \
         INSERT INTO sessions (session_id, version, nonce, created_at, atime, expires_at, data) \
         SELECT 'expired-' || i, 1, 0, 0, 0, 1, '{}' FROM n",
    );
    assert_eq!(worker.keys().len(), 1751);
    worker.sweep();
    assert_eq!(worker.keys().len(), 1);
    worker.has_logged("swept: deleted 1750 expired sessions, 0 are left for the next time");
    assert_eq!(visitor.count(&worker), 2);
}

/// A Worker on the free plan may run 50 statements for a request.
#[test]
fn a_sweep_says_what_it_leaves_to_the_next_one() {
    let worker = Worker::with(Store::D1, json!({}));
    worker.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40123) \
         INSERT INTO sessions (session_id, version, nonce, created_at, atime, expires_at, data) \
         SELECT 'expired-' || i, 1, 0, 0, 0, 1, '{}' FROM n",
    );
    worker.sweep();
    worker.has_logged("swept: deleted 40000 expired sessions, 123 are left for the next time");
    worker.sweep();
    worker.has_logged("swept: deleted 123 expired sessions, 0 are left for the next time");
}

/// What notes the end of all of a user's sessions is needed for as long as a request takes. A table of one's own may do without.
#[test]
fn a_sweep_takes_old_notes_of_ended_users_along() {
    let worker = Worker::with(Store::D1, json!({}));
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    worker.sql(&format!("INSERT INTO sessions_revocations VALUES ('old', 1, NULL), ('new', {now}, NULL)"));
    worker.sweep();
    assert_eq!(worker.sql("SELECT owner FROM sessions_revocations"), json!([{"owner": "new"}]));
    worker.sql("DROP TABLE sessions_revocations");
    Visitor::default().count(&worker);
    worker.sql("UPDATE sessions SET expires_at = 1");
    worker.sweep();
    worker.has_logged("swept: deleted 1 expired sessions, 0 are left");
}

/// Rows of the first release, before the column `extensions` was there.
#[test]
fn rows_of_the_first_release_are_read() {
    let worker = Worker::with(Store::D1, json!({}));
    let mut visitor = Visitor::default();
    visitor.count(&worker);
    worker.sql("UPDATE sessions SET extensions = NULL, data = '{\"count\":41}'");
    assert_eq!(visitor.count(&worker), 42);
    worker.sql("UPDATE sessions SET extensions = 'later=1 other=a:b'");
    assert_eq!(visitor.count(&worker), 43);
    assert_eq!(worker.sql("SELECT extensions FROM sessions"), json!([{"extensions": "later=1 other=a:b"}]), "kept");
}
