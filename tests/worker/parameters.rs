//! Each session parameter, from `[vars.session_parameters]` to what a visitor sees.

use serde_json::json;

use crate::launcher::{KEY, Store, Worker};
use crate::visitor::Visitor;

on_kv_and_d1! {
    fn timeout_ends_an_unused_session(store: Store) {
        let worker = Worker::with(store, json!({"timeout": 1000}));
        let mut visitor = Visitor::default();
        assert_eq!((visitor.count(&worker), visitor.count(&worker)), (1, 2));
        let old = visitor.cookie.clone();
        worker.age(1000);
        assert_eq!(visitor.count(&worker), 1);
        assert_ne!(visitor.cookie, old, "a new session, and the record is still there: nothing was swept");
        assert_eq!(worker.keys().len(), 2);
    }
}

on_kv_and_d1! {
    fn ignore_expiry_false_says_401_once(store: Store) {
        let worker = Worker::with(store, json!({"timeout": 1000, "ignore_expiry": false, "expired_message": "Zu spät"}));
        let mut visitor = Visitor::default();
        assert_eq!(visitor.count(&worker), 1);
        let mut unknown = visitor.clone();
        unknown.get(&worker, "reset");
        unknown.cookie = visitor.cookie.clone();
        let reply = unknown.get(&worker, "count");
        assert_eq!(reply.brief(), (401, "Zu spät"), "unknown");

        assert_eq!(visitor.get(&worker, "count").status, 401);
        assert_eq!(visitor.count(&worker), 1);
        worker.age(1000);
        let reply = visitor.get(&worker, "count");
        assert_eq!(reply.brief(), (401, "Zu spät"), "expired");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.header("cache-control"), Some("private, no-store"));
        assert!(reply.set_cookie().unwrap().starts_with("webpy_session_id=; Max-Age=0;"));
        assert_eq!(visitor.count(&worker), 1, "never locked out");
    }
}

#[test]
fn the_401_of_a_worker_with_worker_s_own_response_is_the_same() {
    let worker = Worker::with_routes_and(Store::Kv, json!({"ignore_expiry": false}));
    let mut visitor = Visitor::default();
    visitor.count(&worker);
    let mut late = visitor.clone();
    visitor.get(&worker, "reset");
    let reply = late.get(&worker, "fetched-by-worker");
    assert_eq!(reply.brief(), (401, "Session expired"));
    assert_eq!(reply.header("vary"), Some("Cookie"));
    assert_eq!(reply.header("cache-control"), Some("private, no-store"));
    assert!(reply.set_cookie().unwrap().contains("Max-Age=0"));
}

on_each_store! {
    fn ignore_change_ip_false_admits_only_the_creators_address(store: Store) {
        let worker = Worker::with(store, json!({"ignore_change_ip": false}));
        let mut visitor = Visitor { ip: Some("192.0.2.1"), ..Visitor::default() };
        assert_eq!(visitor.count(&worker), 1);
        let mut thief = Visitor { ip: Some("192.0.2.2"), ..visitor.clone() };
        let reply = thief.get(&worker, "count");
        assert_eq!(reply.brief(), (401, "Session expired"));
        assert!(reply.set_cookie().unwrap().contains("Max-Age=0"));
        assert_eq!(visitor.count(&worker), 2, "the session stays");
    }

    fn ignore_change_ip_true_admits_every_address(store: Store) {
        let worker = Worker::shared(store);
        let mut visitor = Visitor { ip: Some("192.0.2.1"), ..Visitor::default() };
        assert_eq!(visitor.count(worker), 1);
        visitor.ip = Some("192.0.2.2");
        assert_eq!(visitor.count(worker), 2);
    }

    fn the_cookies_attributes_are_as_set_and_the_same_when_it_is_taken_away(store: Store) {
        let worker = Worker::with(
            store,
            json!({
                "cookie_name": "sid", "cookie_domain": "example.com", "cookie_path": "/app", "samesite": "strict",
                "httponly": false, "secure": false, "persistent": true, "timeout": 600,
            }),
        );
        let mut visitor = Visitor::default();
        let set = visitor.get(&worker, "count");
        let (pair, attributes) = set.set_cookie().unwrap().split_once("; ").unwrap();
        assert!(pair.starts_with("sid="), "{pair}");
        // The whole seconds that are left: the save may have taken some.
        let (max_age, rest) = attributes.split_once("; ").unwrap();
        let left: u64 = max_age.strip_prefix("Max-Age=").unwrap().parse().unwrap();
        assert!((540..=600).contains(&left), "{attributes}");
        assert_eq!(rest, "Path=/app; SameSite=Strict", "no domain on this machine");
        let reset = visitor.get(&worker, "reset");
        assert_eq!(
            reset.set_cookie(),
            Some("sid=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Path=/app; SameSite=Strict")
        );
    }

    fn a_host_prefix_and_samesite_none_stay_secure_even_on_loopback(store: Store) {
        let worker = Worker::with(store, json!({"cookie_name": "__Host-sid", "samesite": "none"}));
        let mut visitor = Visitor::default();
        let set_cookie = visitor.get(&worker, "count");
        let set_cookie = set_cookie.set_cookie().unwrap();
        assert!(set_cookie.starts_with("__Host-sid="), "{set_cookie}");
        assert!(set_cookie.ends_with("; HttpOnly; Path=/; Secure; SameSite=None"), "{set_cookie}");
        assert_eq!(visitor.count(&worker), 2);
    }
}

on_kv_and_d1! {
    fn absolute_timeout_ends_a_session_in_use(store: Store) {
        let worker = Worker::with(store, json!({"timeout": 1000, "absolute_timeout": 2500}));
        let mut visitor = Visitor::default();
        let mut counted = 0;
        for _ in 0..3 {
            counted += 1;
            assert_eq!(visitor.count(&worker), counted);
            worker.age(800);
        }
        assert_eq!(visitor.count(&worker), 4);
        let first = visitor.cookie.clone();
        worker.age(150);
        assert_eq!(visitor.count(&worker), 1, "used 150 seconds ago, and over all the same");
        assert_ne!(visitor.cookie, first);
    }
}

on_kv_and_d1! {
    fn touch_after_says_how_often_a_use_is_noted(store: Store) {
        let worker = Worker::with(store, json!({"timeout": 1000, "touch_after": 500}));
        let mut visitor = Visitor::default();
        assert_eq!(visitor.count(&worker), 1);
        worker.age(400);
        assert_eq!(visitor.count(&worker), 2, "too early to be noted");
        worker.age(550);
        assert_eq!(visitor.count(&worker), 3, "950 seconds after the last note, and noted");
        worker.age(950);
        assert_eq!(visitor.count(&worker), 4);
        worker.age(400);
        assert_eq!(visitor.count(&worker), 5, "not noted");
        worker.age(650);
        assert_eq!(visitor.count(&worker), 1, "650 seconds unused, but 1050 since the last note");
    }
}

#[test]
fn the_store_is_kv_unless_said_otherwise() {
    let without_a_store = Worker::start(Store::Kv, &json!({"session_parameters": {}}), Some(KEY), false);
    let without_parameters = Worker::with_routes_and_vars(Store::Kv, &json!({}));
    for worker in [without_a_store, without_parameters] {
        Visitor::default().count(&worker);
        assert_eq!(worker.keys().len(), 1);
    }
}

/// Everything that the operator can get wrong ends the same way for the visitor, and in the log with its repair.
fn is_out_of_order(worker: &Worker, expected: &str) {
    for path in ["count", "reset"] {
        let reply = Visitor::default().get(worker, path);
        let body = "This service is out of order. Its operator finds the reason in its log.\n";
        assert_eq!(reply.brief(), (500, body), "{expected}");
        assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(reply.header("cache-control"), Some("private, no-store"));
        assert_eq!(reply.set_cookie(), None);
    }
    let log = worker.has_logged(expected);
    assert!(!log.contains("fLjUfxqXtfNoIldA0A0J") && !log.contains(KEY), "a key is in the log: {log}");
}

#[test]
fn a_wrong_parameter_is_refused_and_the_log_names_the_repair() {
    for (parameters, expected) in [
        (json!({"timout": 1}), "session_parameters: unknown name `timout`; the names are absolute_timeout,"),
        (json!({"timeout": 0}), "session parameters: `timeout` must be 1 to"),
        (json!({"timeout": [86400]}), "`timeout` must be a whole number of seconds, without quotes, and is [86400]"),
        (json!({"timeout": 1.5}), "without quotes, and is 1.5"),
        (json!({"samesite": "None", "secure": false}), "needs `secure = true`"),
        (json!({"store": "disk"}), "`store` must be \"kv\", \"d1\" or \"object\", and is \"disk\""),
        (json!({"httponly": {"a": null}}), "and is {\"a\":null}"),
        (json!({"secret_key": KEY}), "wrangler secret put SECRET_KEY"),
        (json!([1]), "session_parameters must be a table"),
        (json!("kv"), "session_parameters must be a table"),
        (json!({"store": "kv"}), "needs the binding SESSIONS; add [[kv_namespaces]] with `binding = \"SESSIONS\"`"),
        (
            json!({"store": "object"}),
            "needs the binding SESSION_OBJECTS; add [[durable_objects.bindings]] with `name = \"SESSION_OBJECTS\"` and `class_name = \"SessionObject\"`, and [exports.SessionObject] with `type = \"durable-object\"` and `storage = \"sqlite\"`, to wrangler.toml",
        ),
        (json!({"store": "d1"}), "needs the binding DB; add [[d1_databases]] with `binding = \"DB\"`"),
    ] {
        is_out_of_order(&Worker::without_bindings(&parameters, Some(KEY)), expected);
    }
}

#[test]
fn a_max_data_that_the_store_cannot_hold_is_refused() {
    for (store, most) in [(Store::D1, 1_900_000), (Store::Object, 950_000), (Store::Kv, 10_000_000)] {
        is_out_of_order(&Worker::with(store, json!({"max_data": most + 1})), &format!("must be at most {most} bytes"));
        assert_eq!(Visitor::default().count(&Worker::with(store, json!({"max_data": most}))), 1);
    }
}

#[test]
fn bindings_a_table_a_key_and_parameters_may_have_other_names() {
    let vars = json!({
        "session_parameters": { "store": "kv" },
        "shop": { "cookie_name": "shop", "timeout": 60 },
        "SHOP_KEY": "second-key-123456789abcdef012345",
    });
    let worker = Worker::with_routes_and_vars(Store::D1, &vars);
    let (_, columns) =
        include_str!("../../migrations/0001_sessions.sql").split_once("CREATE TABLE sessions (").unwrap();
    let (columns, _) = columns.split_once("\n) STRICT").unwrap();
    worker.sql(&format!(
        "CREATE TABLE \"order\" ({}, extensions TEXT) STRICT, WITHOUT ROWID",
        columns.replace('\n', " ")
    ));
    let mut visitor = Visitor::default();
    // Also a word of SQL's own.
    for expected in ["1", "2"] {
        assert_eq!(visitor.get(&worker, "shop").brief(), (200, expected));
    }
    assert!(visitor.cookie.unwrap().starts_with("shop="));
    assert_eq!(worker.sql("SELECT expires_at - atime AS life FROM \"order\""), json!([{"life": 60}]));
    assert_eq!(worker.keys(), Vec::<String>::new(), "nothing is in the table of the other name");
    for (name, said) in [
        ("order", "accepted"),
        ("a_1", "accepted"),
        ("", "misconfigured"),
        ("1a", "misconfigured"),
        ("a-b", "misconfigured"),
        ("a%22;--", "misconfigured"),
        (&"a".repeat(61), "misconfigured"),
    ] {
        assert_eq!(Visitor::default().get(&worker, &format!("table?{name}")).body, said, "{name}");
    }
}

#[test]
fn what_is_wrong_under_another_name_is_repaired_under_that() {
    for (vars, expected) in [
        (
            json!({"shop": {}}),
            "SHOP_KEY is missing; make a new one with `openssl rand -hex 32 | npx wrangler secret put SHOP_KEY`",
        ),
        (json!({"shop": {}, "SHOP_KEY": "short"}), "SHOP_KEY: key 1 has 5 bytes"),
        (json!({"shop": {"timout": 1}, "SHOP_KEY": KEY}), "shop: unknown name `timout`"),
        (json!({"shop": 1, "SHOP_KEY": KEY}), "shop must be a table, as in `[vars.shop]`"),
        (
            json!({"shop": {"max_data": 2_000_000}, "SHOP_KEY": KEY}),
            "misconfigured: session parameters: `max_data` is 2000000",
        ),
    ] {
        let worker = Worker::with_routes_and_vars(Store::D1, &vars);
        assert_eq!(Visitor::default().get(&worker, "shop").status, 500, "{vars}");
        worker.has_logged(expected);
    }
}

#[test]
fn what_is_bound_as_something_else_is_named_as_such() {
    let parameters = json!({"store": "kv"});
    for (vars, expected) in [
        (
            json!({"session_parameters": parameters, "SECRET_KEY": {"get": "later"}}),
            "SECRET_KEY is bound as an object, as a secret of the Secrets Store is, and must be a plain secret",
        ),
        (
            json!({"session_parameters": parameters, "SECRET_KEY": KEY, "SESSIONS": {"a": "table"}}),
            "the binding SESSIONS is of another kind than the sessions' store needs: bind it in [[kv_namespaces]]",
        ),
        (
            json!({"session_parameters": {"store": "d1"}, "SECRET_KEY": KEY, "DB": {"a": "table"}}),
            "the binding DB is of another kind than the sessions' store needs: bind it in [[d1_databases]]",
        ),
        (
            json!({"session_parameters": {"store": "object"}, "SECRET_KEY": KEY, "SESSION_OBJECTS": {"a": "table"}}),
            "the binding SESSION_OBJECTS is of another kind than the sessions' store needs: bind it in [[durable_objects",
        ),
        (
            json!({"session_parameters": parameters, "SECRET_KEY": KEY, "SESSIONS": "a text"}),
            "needs the binding SESSIONS; add [[kv_namespaces]]",
        ),
    ] {
        is_out_of_order(&Worker::without_bindings_but(&vars), expected);
    }
}

/// It has methods of the same names, and none of what a session needs.
#[test]
fn a_bucket_that_is_bound_in_place_of_kv_is_named_as_such() {
    let expected =
        "the binding SESSIONS is of another kind than the sessions' store needs: bind it in [[kv_namespaces]]";
    is_out_of_order(&Worker::with_a_bucket(), expected);
}

#[test]
fn objects_without_sqlite_are_named_as_such() {
    let worker = Worker::without_sqlite();
    assert_eq!(Visitor::default().get(&worker, "count").status, 500);
    worker.has_logged(
        "misconfigured: the class SessionObject has no SQLite storage: declare it with `storage = \"sqlite\"`",
    );
}

#[test]
fn a_missing_short_or_published_key_is_refused_and_the_log_names_the_command() {
    for (secret, expected) in [
        (
            None,
            "SECRET_KEY is missing; make a new one with `openssl rand -hex 32 | npx wrangler secret put SECRET_KEY`",
        ),
        (Some(""), "SECRET_KEY: key 1 has 0 bytes, fewer than 32; make a new one with `openssl"),
        (Some("too short"), "SECRET_KEY: key 1 has 9 bytes"),
        (Some("fLjUfxqXtfNoIldA0A0J"), "SECRET_KEY: key 1 is published"),
        (Some("first-key-0123456789abcdef012345,x"), "SECRET_KEY: key 2 has 1 bytes"),
    ] {
        is_out_of_order(&Worker::without_bindings(&json!({}), secret), expected);
    }
}
