//! Sessions on a KV that is slow, limited and shows old values, as in production.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::launcher::{Store, Worker, eventually};
use crate::visitor::Visitor;

#[test]
#[allow(clippy::disallowed_methods, reason = "it is on this machine that time passes")]
fn ten_counts_in_two_seconds_are_one_to_ten_on_a_kv_that_takes_one_write_a_second() {
    let worker = Worker::over_faulty_stores(Store::Kv);
    worker.kv_behaves(json!({"limited": true, "putTakes": 150}));
    let mut visitor = Visitor::default();
    let began = Instant::now();
    for expected in 1..=10 {
        assert_eq!(visitor.count(&worker), expected);
        thread::sleep(Duration::from_millis(180));
    }
    // Two seconds; more on a machine that needs longer for ten counts.
    let took = usize::try_from(began.elapsed().as_secs()).unwrap();
    visitor.comes_to_be_in_kv(&worker, r#"{"count":10}"#);
    let puts = worker.calls().iter().filter(|call| *call == "put").count();
    assert!((2..=took + 2).contains(&puts), "{puts} in {took} seconds");
}

/// Another isolate, in a place that has read the session before and sees nothing newer.
#[test]
fn a_reload_elsewhere_shows_what_was_written_here() {
    let worker = Worker::over_faulty_stores_with_routes(Store::Kv);
    let mut visitor = Visitor::default();
    assert_eq!(visitor.count(&worker), 1);
    visitor.comes_to_be_in_kv(&worker, r#"{"count":1}"#);
    worker.kv_behaves(json!({"frozen": true}));
    let elsewhere = || assert_eq!(Visitor::default().get(&worker, "panic").status, 500);
    assert_eq!(visitor.count(&worker), 2);
    elsewhere();
    let mut without = Visitor { carried: std::collections::BTreeMap::new(), ..visitor.clone() };
    assert_eq!(without.get(&worker, "whoami").body, "1", "what KV shows here");
    assert_eq!(visitor.get(&worker, "whoami").body, "2");
    assert_eq!(visitor.count(&worker), 3);
    elsewhere();
    assert_eq!(visitor.get(&worker, "whoami").body, "3");
}

/// Its client is gone before it is answered.
#[test]
fn the_first_of_ten_counts_is_given_up_and_the_tenth_is_in_kv() {
    let worker = Worker::over_faulty_stores(Store::Kv);
    let mut visitor = Visitor::default();
    assert_eq!(visitor.count(&worker), 1);
    visitor.comes_to_be_in_kv(&worker, r#"{"count":1}"#);
    worker.kv_behaves(json!({"limited": true, "putTakes": 400}));
    let authority = worker.url.strip_prefix("http://").unwrap().trim_end_matches('/').to_owned();
    let mut given_up = TcpStream::connect(&authority).unwrap();
    let cookie = visitor.cookie.clone().unwrap();
    write!(given_up, "GET /count HTTP/1.1\r\nHost: {authority}\r\nCookie: {cookie}\r\n\r\n").unwrap();
    drop(given_up);
    let mut last = 1;
    for _ in 0..9 {
        let number = visitor.count(&worker);
        assert!(number > last, "{number} after {last}");
        last = number;
    }
    worker.settle();
    visitor.comes_to_be_in_kv(&worker, &format!("{{\"count\":{last}}}"));
}

#[test]
fn a_count_waits_for_one_read_and_for_no_write() {
    let worker = Worker::over_faulty_stores(Store::Kv);
    let mut visitor = Visitor::default();
    assert_eq!(visitor.count(&worker), 1);
    worker.settle();
    worker.kv_behaves(json!({"held": true}));
    assert_eq!(visitor.count(&worker), 2);
    // The put begins by itself, and does not end. Who looks late may find it begun anew.
    eventually("a put has begun", || worker.calls().iter().any(|call| call == "put"));
    assert_eq!(worker.calls().iter().filter(|call| *call != "put").collect::<Vec<_>>(), ["get"]);
    let before = worker.kv_get(&visitor.kv_name());
    assert!(before.as_str().unwrap().ends_with(r#"{"count":1}"#), "{before}");
    worker.kv_behaves(json!({}));
    visitor.comes_to_be_in_kv(&worker, r#"{"count":2}"#);
}
