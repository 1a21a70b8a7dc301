//! What only Durable Objects do: they are evicted, and expire by alarm.

use std::thread::sleep;
use std::time::Duration;

use edge_session::cookie::read;
use edge_session::{Record, Signer};
use serde_json::json;

use crate::launcher::{KEY, Store, Worker};
use crate::visitor::Visitor;

/// The name of the object that holds this visitor's session.
fn name_of(visitor: &Visitor) -> String {
    let signer = Signer::from_secret(KEY).unwrap();
    read(visitor.cookie.as_deref().unwrap(), "webpy_session_id", &signer).ids()[0].key.as_str().to_owned()
}

#[test]
fn an_eviction_loses_nothing() {
    let worker = Worker::with(Store::Object, json!({}));
    let mut visitor = Visitor::default();
    for expected in [1, 3, 5] {
        assert_eq!(visitor.count(&worker), expected);
        assert_eq!(visitor.count(&worker), expected + 1);
        worker.evict(&name_of(&visitor));
    }
    visitor.get(&worker, "reset");
    assert_eq!(visitor.count(&worker), 1);
}

#[test]
fn a_killed_object_stays_killed_although_it_is_empty() {
    let worker = Worker::with(Store::Object, json!({}));
    let mut visitor = Visitor::default();
    visitor.count(&worker);
    let mut old = visitor.clone();
    visitor.get(&worker, "reset");
    worker.evict(&name_of(&old));
    assert_eq!(old.get(&worker, "reset").brief(), (200, ""));
    assert_eq!(old.cookie, None);
    assert_eq!(visitor.count(&worker), 1);
}

#[test]
fn an_object_refuses_a_message_that_it_does_not_know_and_keeps_its_record() {
    let worker = Worker::with(Store::Object, json!({}));
    let mut visitor = Visitor::default();
    visitor.count(&worker);
    let name = name_of(&visitor);
    let stored = worker.message(&name, "edge-session/1 load\n");
    let (word, record) = stored.split_once('\n').unwrap();
    assert_eq!(word, "record");
    let next = record.replace("edge-session/1 1 ", "edge-session/1 2 ");
    let newer = next.replace("edge-session/1", "edge-session/2");
    for (message, answer) in [
        ("", "this object does not speak "),
        ("edge-session/2 load\n", "this object does not speak edge-session/2 load"),
        ("edge-session/10 load\n", "this object does not speak edge-session/10 load"),
        ("edge-session/1\n", "this object does not know how to "),
        ("edge-session/1 merge\n", "this object does not know how to merge"),
        ("edge-session/1 touch\n", "this object does not know how to touch"),
        (&format!("edge-session/1 update\n{newer}"), "this object does not know how to update"),
        (&format!("edge-session/1 create\n{newer}"), "this object does not know how to create"),
    ] {
        assert_eq!(worker.message(&name, message), answer, "{message}");
    }
    assert_eq!(worker.message(&name, &format!("edge-session/1 update\n{next}")), "done", "as it is meant to be");
    assert_eq!(visitor.count(&worker), 2);
}

#[test]
fn an_unused_object_empties_itself_and_a_used_one_lives_on() {
    let worker = Worker::with_routes_and(Store::Object, json!({"timeout": 10, "touch_after": 1}));
    let (mut used, mut unused) = (Visitor::default(), Visitor::default());
    unused.count(&worker);
    let path = format!("stored/{}", name_of(&unused));
    assert_eq!(Visitor::default().get(&worker, &path).body, "a record");
    for expected in 1..=15 {
        assert_eq!(used.count(&worker), expected, "its alarm found it used, and was set again");
        sleep(Duration::from_secs(1));
    }
    empties_itself(&worker, &path);
}

/// What an update leaves may be gone before what it replaces: a session that moved leaves a day of its old id, whatever `timeout`
/// its alarm was set by.
#[test]
fn an_object_whose_session_has_moved_empties_itself_when_the_retired_record_ends() {
    let worker = Worker::with_routes_and(Store::Object, json!({"timeout": 86_400}));
    let mut visitor = Visitor::default();
    visitor.count(&worker);
    let name = name_of(&visitor);
    let stored = worker.message(&name, "edge-session/1 load\n");
    let record = Record::from_text(stored.strip_prefix("record\n").unwrap()).unwrap();
    // As the text of a record has it: version, nonce, when it began, was used and ends, where it went, and until when that is told.
    let retired = format!(
        "edge-session/1 {} 7 {} {} {} {name} {} -\nnull",
        record.version + 1,
        record.created_at,
        record.touched_at,
        record.touched_at + 4,
        record.touched_at + 3
    );
    let path = format!("stored/{name}");
    assert_eq!(Visitor::default().get(&worker, &path).body, "a record");
    assert_eq!(worker.message(&name, &format!("edge-session/1 update\n{retired}")), "done");
    empties_itself(&worker, &path);
}

/// Only its alarm can do that: nobody asks for the session.
fn empties_itself(worker: &Worker, path: &str) {
    for _ in 0..60 {
        if Visitor::default().get(worker, path).body == "nothing" {
            return;
        }
        sleep(Duration::from_secs(1));
    }
    panic!("the record is still there");
}
