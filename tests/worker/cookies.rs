//! Cookies as visitors, neighbours and attackers send them.

use serde_json::json;

use crate::launcher::{Store, Worker};
use crate::visitor::{Visitor, raw_count, raw_upgrade};

/// The body and the status line of a raw answer.
fn brief(answer: &str) -> (&str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    (head.lines().next().unwrap(), body)
}

on_each_store! {
    fn a_cookie_that_we_did_not_sign_is_a_new_visitor(store: Store) {
        let worker = Worker::shared(store);
        let mut visitor = Visitor::default();
        visitor.count(worker);
        let signed = visitor.value().to_owned();
        let (id, mac) = signed.split_once('.').unwrap();
        let other_digit = if signed.ends_with('0') { "1" } else { "0" };
        for value in [
            String::new(),
            "zzzz".to_owned(),
            "../x".to_owned(),
            "a".to_owned(),
            id.to_owned(),
            format!("{id}."),
            format!(".{mac}"),
            format!("{}{other_digit}", &signed[..signed.len() - 1]),
            signed[..50].to_owned(),
            format!("{signed}0"),
            format!("{signed}%0A"),
            signed.to_uppercase(),
            "a".repeat(8 * 1024),
            format!("{}.{mac}", "0".repeat(8 * 1024)),
            "Jürgen 名前".to_owned(),
        ] {
            let mut forger = Visitor::with_cookie(format!("webpy_session_id={value}"));
            let reply = forger.get(worker, "count");
            assert_eq!(reply.brief(), (200, "1"), "{value}");
            assert!(reply.set_cookie().is_some() && forger.value() != signed, "{value}: a new id");
        }
        for header in [
            "webpy_session_id".to_owned(),
            format!("WEBPY_SESSION_ID={signed}"),
            format!("webpy_session_idx={signed}"),
            format!("\u{2000}webpy_session_id={signed}"),
            format!("x=1, webpy_session_id={signed}"),
        ] {
            assert_eq!(Visitor::with_cookie(header.clone()).get(worker, "count").brief(), (200, "1"), "{header}");
        }
        assert_eq!(visitor.count(worker), 2, "and none of them touched the real session");
    }

    fn foreign_cookies_lose_no_session(store: Store) {
        let worker = Worker::shared(store);
        let mut visitor = Visitor::default();
        visitor.count(worker);
        let pair = visitor.cookie.clone().unwrap();
        let value = visitor.value().to_owned();
        let mut expected = 1;
        for header in [
            format!("a=b; {pair}; c=\"q;x\""),
            format!("prefs={{\"theme\":\"dark\"}}; {pair}"),
            format!("bad[name]=1; {pair}; q=\"1\""),
            format!("x=\"unterminated; {pair}"),
            format!("é=ü; {pair}"),
            format!("webpy_session_id=0000; {pair}"),
            format!("{pair}; webpy_session_id=0000"),
            format!("webpy_session_id=\"{value}\""),
            format!("webpy_session_id = {value}"),
            (0..100).map(|n| format!("foreign{n}={{\"n\":{n}}}; ")).collect::<String>() + &pair,
        ] {
            expected += 1;
            assert_eq!(Visitor::with_cookie(header.clone()).count(worker), expected, "{header}");
        }
    }

    fn bytes_that_no_client_sends_are_answered(store: Store) {
        let worker = Worker::shared(store);
        let mut visitor = Visitor::default();
        visitor.count(worker);
        let pair = visitor.cookie.clone().unwrap();
        let not_utf_8 = raw_count(worker, b"Cookie: webpy_session_id=\xff\xfe\xe9");
        assert_eq!(brief(&not_utf_8), ("HTTP/1.1 200 OK", "1"));
        assert_eq!(brief(&raw_count(worker, &[b"Cookie: x=\xff\xe9; ", pair.as_bytes()].concat())).1, "2");
        // HTTP itself forbids a NUL (RFC 9110, section 5.5): the server in front of the Worker says so.
        assert_eq!(brief(&raw_count(worker, b"Cookie: webpy_session_id=a\0b")).0, "HTTP/1.1 400 Bad Request");
        assert_eq!(visitor.count(worker), 3);
    }
}

#[test]
fn a_response_that_was_fetched_gets_the_cookie_and_keeps_what_it_had() {
    let worker = Worker::shared_routes(Store::Kv);
    for path in ["fetched", "fetched-by-worker"] {
        let mut visitor = Visitor::default();
        let reply = visitor.get(worker, path);
        assert_eq!(reply.brief(), (200, "this object does not speak "), "{path}");
        assert_eq!(reply.header("content-type"), Some("text/plain;charset=UTF-8"), "{path}");
        assert_eq!(reply.header("cache-control"), Some("private, no-store"), "{path}");
        assert_eq!(visitor.count(worker), 2, "{path}: the cookie arrived");
    }
}

#[test]
fn a_reply_that_opens_a_socket_carries_the_cookie_and_the_socket() {
    let worker = Worker::shared_routes(Store::Kv);
    for path in ["socket", "socket-of-a-room", "socket-of-a-room-by-worker"] {
        let reply = raw_upgrade(worker, path);
        assert!(reply.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{path}: {reply}");
        let line = reply.lines().find_map(|line| line.strip_prefix("Set-Cookie: ")).unwrap();
        assert_eq!(Visitor::with_cookie(line.split(';').next().unwrap()).count(worker), 2, "{path}");
    }
}

on_each_store! {
    fn what_a_page_of_another_site_sends_is_a_403_and_the_session_is_as_it_was(store: Store) {
        let worker = Worker::shared_routes(store);
        let mut visitor = Visitor::default();
        visitor.count(worker);
        let from = |site, origin| vec![("Sec-Fetch-Site", site), ("Origin", origin)];
        let evil = from("cross-site", "https://evil.example");
        for (path, headers) in [("reset", &evil), ("reset", &vec![("Origin", "https://evil.example")])] {
            let reply = visitor.ask_with(worker, "POST", path, headers);
            let text = "Another site sent this request, so nothing was done. Please go back and try again here.\n";
            assert_eq!(reply.brief(), (403, text));
            assert_eq!((reply.set_cookie(), reply.header("cache-control")), (None, Some("private, no-store")));
        }
        worker.has_logged("cross_origin: a page of another site sent this request: https://evil.example;");
        let socket = visitor.ask_with(worker, "GET", "socket", &[&evil[..], &[("Upgrade", "websocket")]].concat());
        assert_eq!(socket.status, 403);
        assert_eq!(visitor.ask_with(worker, "POST", "returned", &evil).brief(), (200, "2"));
        assert_eq!(visitor.ask_with(worker, "GET", "count", &evil).brief(), (200, "3"), "a link");
        assert_eq!(visitor.ask_with(worker, "POST", "count", &from("same-origin", "null")).brief(), (200, "4"));
        let own = worker.url.trim_end_matches('/').to_owned();
        assert_eq!(visitor.ask_with(worker, "POST", "count", &[("Origin", &*own)]).brief(), (200, "5"));
    }
}

#[test]
fn what_a_page_of_a_trusted_site_sends_is_none_of_another_sites() {
    let trusted = "https://app.example.com";
    let worker = Worker::with_routes_and(Store::D1, json!({"trusted_origins": [trusted, "https://other.example.com"]}));
    let mut visitor = Visitor::default();
    visitor.count(&worker);
    for (origin, status) in [(trusted, 200), ("https://app.example.org", 403)] {
        let headers = [("Sec-Fetch-Site", "cross-site"), ("Origin", origin)];
        assert_eq!(visitor.ask_with(&worker, "POST", "count", &headers).status, status, "{origin}");
    }
}
