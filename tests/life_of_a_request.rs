//! What a request does to the session, to the store and to the cookie.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use edge_session::{
    Error, ErrorKind, Incoming, Outcome, Platform, Record, RecordKey, Session, SessionId, SessionParameters, Sessions,
    Signer, Sleep, Store, Successor, Updated,
};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use support::{Interference, KEY, NOW, Reply, Rig, SpyStore, Visit, Visitor, key_of, known, stored};

#[test]
fn a_session_counts_and_a_reset_starts_anew() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    assert_eq!(visitor.count(&rig), Reply::Ok(1));
    assert_eq!(visitor.count(&rig), Reply::Ok(2));
    assert_eq!(visitor.count(&rig), Reply::Ok(3));
    let mut old = visitor.twin();
    assert_eq!(visitor.reset(&rig).0, Reply::Ok(()));
    assert_eq!(visitor.cookie, None);
    assert!(rig.store.inside.is_empty());
    assert_eq!(visitor.count(&rig), Reply::Ok(1));
    assert!(!rig.store.inside.is_empty());
    assert_eq!(old.count(&rig), Reply::Ok(1), "the old cookie is worth nothing");
    assert_ne!(key_of(&old), key_of(&visitor));
}

#[test]
fn two_visitors_have_two_sessions() {
    let rig = Rig::new();
    let (mut first, mut second) = (known(&rig), known(&rig));
    assert_eq!(first.count(&rig), Reply::Ok(2));
    assert_eq!(second.count(&rig), Reply::Ok(2));
}

// Store calls: nothing for nothing.

#[test]
fn an_untouched_visitor_costs_nothing_and_gets_no_cookie() {
    let rig = Rig::new();
    let (reply, set_cookie) = Visitor::default().ask(&rig, async |session: &mut Session<Visit>| {
        assert!(session.is_new());
        Ok(session.count)
    });
    assert_eq!((reply, set_cookie), (Reply::Ok(0), None));
    assert_eq!(rig.store.calls(), "");
}

#[test]
fn a_forged_cookie_costs_no_store_call() {
    let rig = Rig::new();
    let mut cookie = known(&rig).cookie.unwrap();
    let last = cookie.pop().unwrap();
    cookie.push(if last == '0' { '1' } else { '0' });
    let mut forger = Visitor { cookie: Some(cookie), ..Visitor::default() };
    assert_eq!(forger.read(&rig), Reply::Ok(0));
    assert_eq!(rig.store.calls(), "");
    assert_eq!(forger.reset(&rig).0, Reply::Ok(()));
    assert_eq!(rig.store.calls(), "", "nor has it anything to end");
    assert_eq!(forger.cookie, None, "but its cookie is taken away");
}

#[test]
fn a_session_that_is_only_read_costs_one_load_and_sets_no_cookie() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| Ok(session.count));
    assert_eq!((reply, set_cookie), (Reply::Ok(1), None));
    assert_eq!(rig.store.calls(), "load");
}

#[test]
fn a_changed_session_costs_one_load_and_one_save() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    assert_eq!(visitor.count(&rig), Reply::Ok(2));
    assert_eq!(rig.store.calls(), "load update");
}

#[test]
fn a_session_set_back_to_its_initial_value_is_saved_all_the_same() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count = 0;
        Ok(())
    });
    assert_eq!(rig.store.calls(), "load update");
    assert_eq!(visitor.read(&rig), Reply::Ok(0));
}

#[test]
fn a_change_that_is_taken_back_is_no_change() {
    let rig = Rig::new();
    known(&rig).ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.count -= 1;
        Ok(())
    });
    assert_eq!(rig.store.calls(), "load");
}

#[test]
fn a_reset_costs_one_load_and_one_delete() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.reset(&rig);
    assert_eq!(rig.store.calls(), "load delete");
}

#[test]
fn a_reset_without_a_cookie_does_nothing_at_all() {
    let rig = Rig::new();
    assert_eq!(Visitor::default().reset(&rig), (Reply::Ok(()), None));
    assert_eq!(rig.store.calls(), "");
}

#[test]
fn a_reset_of_an_unknown_session_takes_its_cookie_away() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.twin().reset(&rig);
    rig.store.calls();
    let (_, set_cookie) = visitor.reset(&rig);
    assert!(set_cookie.unwrap().starts_with("webpy_session_id=; Max-Age=0;"));
    assert_eq!(rig.store.calls(), "load delete", "and ends it: a store may not show it yet");
}

// The handler.

#[test]
fn a_handler_that_fails_changes_nothing() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let fail = || Error::new(ErrorKind::Unavailable, "the handler's own");
    for kill in [false, true] {
        let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
            session.count += 1;
            if kill {
                session.kill();
            }
            Err::<(), _>(fail())
        });
        assert_eq!((reply, set_cookie), (Reply::Failed("the handler's own".to_owned()), None));
        assert_eq!(rig.store.calls(), "load");
    }
    assert_eq!(visitor.read(&rig), Reply::Ok(1));
}

#[test]
fn a_new_visitor_whose_handler_fails_gets_no_session() {
    let rig = Rig::new();
    Visitor::default().ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        Err::<(), _>(Error::new(ErrorKind::Unavailable, "no"))
    });
    assert_eq!(rig.store.calls(), "");
}

#[test]
fn after_a_kill_the_rest_of_the_handler_goes_nowhere() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.kill();
        session.count += 1;
        Ok(session.count)
    });
    assert_eq!(reply, Reply::Ok(2));
    assert!(set_cookie.unwrap().contains("Max-Age=0"));
    assert!(rig.store.inside.is_empty());
}

#[test]
fn save_commits_at_once_and_is_not_repeated() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let spy = rig.store.clone();
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.save().await?;
        assert_eq!(spy.calls(), "load update");
        Ok(())
    });
    assert_eq!(rig.store.calls(), "");
    assert_eq!(visitor.read(&rig), Reply::Ok(2));
}

#[test]
fn save_keeps_a_new_session_with_its_initial_data() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.save().await?;
        assert!(!session.is_new());
        Ok(())
    });
    assert_eq!(rig.store.calls(), "create");
    assert!(visitor.cookie.is_some());
}

#[test]
fn a_killed_session_can_be_ended_at_once() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let spy = rig.store.clone();
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.kill();
        session.save().await?;
        assert!(spy.inside.is_empty());
        Ok(())
    });
    assert_eq!(rig.store.calls(), "load delete");
    assert_eq!(visitor.cookie, None);
}

// Other requests on the same session.

#[test]
fn a_request_that_loses_the_race_runs_again_on_the_newer_data() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    let runs = Cell::new(0);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        session.count += 1;
        Ok(session.count)
    });
    assert_eq!((reply, runs.get()), (Reply::Ok(11), 2));
    assert_eq!(rig.store.calls(), "load update update", "the store said what is there");
    assert_eq!(rig.platform.slept(), Vec::<u32>::new(), "nobody else waits: it need not either");
    assert_eq!(visitor.read(&rig), Reply::Ok(11));
}

/// What it runs again on is what was there when it lost, and not what is there when it is done.
#[test]
fn a_session_that_ends_after_a_lost_race_drops_what_is_made_of_it() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    // The last one first.
    rig.store.interfere(&[Interference::Delete, Interference::Update(r#"{"count":10}"#)]);
    let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        Ok(session.count)
    });
    assert_eq!((reply, set_cookie), (Reply::Ok(11), None));
    assert_eq!(rig.store.calls(), "load update update");
    assert!(rig.platform.logged()[0].starts_with("changes_dropped: "));
    assert_eq!(visitor.read(&rig), Reply::Ok(0), "nothing is revived");
}

#[test]
fn a_session_that_moved_before_a_lost_race_is_found_so_without_a_load_and_one_that_expired_by_one() {
    for moves in [true, false] {
        let rig = Rig::with(r#"{"timeout": 100}"#);
        let mut visitor = known(&rig);
        let other = RefCell::new(visitor.twin());
        let (elsewhere, clock, is_first) =
            (rig.redeployed(KEY, r#"{"timeout": 100}"#), rig.platform.clone(), Cell::new(true));
        rig.store.calls();
        let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
            session.count += 1;
            if is_first.replace(false) {
                if moves {
                    other.borrow_mut().log_in(&elsewhere);
                } else {
                    other.borrow_mut().count(&elsewhere);
                    clock.advance(100);
                }
            }
            session.save().await.map(|()| session.count)
        });
        assert_eq!((reply, set_cookie), (Reply::Expired("Session expired".to_owned()), None), "{moves}");
        // One each; and whether the other has noted a use.
        let loads = rig.store.calls().split(' ').filter(|call| *call == "load").count();
        assert_eq!(loads, if moves { 2 } else { 3 }, "{moves}");
    }
}

#[test]
fn a_race_lost_in_save_runs_the_handler_again_too() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    let effects = Cell::new(0);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.save().await?;
        effects.set(effects.get() + 1);
        Ok(session.count)
    });
    assert_eq!((reply, effects.get()), (Reply::Ok(11), 1), "what follows a save runs once");
}

#[test]
fn what_was_saved_is_not_done_twice_when_a_later_change_loses() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let runs = Cell::new(0);
    let spy = rig.store.clone();
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        session.count += 1;
        session.save().await?;
        spy.interfere(&[Interference::Update(r#"{"count":10}"#)]);
        session.count += 1;
        Ok(())
    });
    assert_eq!((reply, runs.get()), (Reply::Error(ErrorKind::Contended), 1));
}

#[test]
fn a_race_lost_every_time_ends_in_an_error_and_changes_nothing() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#); 1000]);
    let before = visitor.cookie.clone();
    assert_eq!(visitor.count(&rig), Reply::Error(ErrorKind::Contended));
    assert_eq!(visitor.cookie, before);
    let updates = rig.store.calls().matches("update").count();
    assert!((2..=40).contains(&updates), "{updates} attempts");
    assert_eq!(visitor.read(&rig), Reply::Ok(10), "the others' data stands");
}

#[test]
fn a_session_killed_while_a_request_is_in_flight_stays_dead_and_the_request_is_answered() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Delete]);
    let (reply, set_cookie) = visitor.ask(&rig, support::count);
    assert_eq!((reply, set_cookie), (Reply::Ok(2), None));
    assert_eq!(rig.store.calls(), "load update", "neither created anew nor run again");
    assert!(rig.store.inside.is_empty());
    let log = rig.platform.logged().join("\n");
    assert!(log.contains("ended while a request was in flight"), "{log}");
    assert_eq!(visitor.count(&rig), Reply::Ok(1), "the cookie is worth nothing");
}

#[test]
fn update_applies_a_change_again_and_not_the_handler() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":20}"#), Interference::Update(r#"{"count":10}"#)]);
    let (runs, changes) = (Cell::new(0), Cell::new(0));
    let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        session
            .update(|visit| {
                changes.set(changes.get() + 1);
                visit.count += 1;
                visit.count
            })
            .await
    });
    assert_eq!(reply, Reply::Ok(21));
    assert_eq!((runs.get(), changes.get()), (1, 3));
    assert_eq!(set_cookie, None, "the visitor has it");
    assert_eq!(rig.store.calls(), "load update update update");
    assert_eq!(visitor.read(&rig), Reply::Ok(21));
}

#[test]
fn an_update_of_a_new_session_creates_it_and_one_that_changes_nothing_does_not() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    visitor.ask(&rig, async |session: &mut Session<Visit>| session.update(|_| ()).await);
    assert_eq!((rig.store.calls().as_str(), &visitor.cookie), ("", &None));
    visitor.ask(&rig, async |session: &mut Session<Visit>| session.update(|visit| visit.count = 5).await);
    assert_eq!(rig.store.calls(), "create");
    assert_eq!(visitor.read(&rig), Reply::Ok(5));
}

#[test]
fn an_update_that_loses_with_other_changes_pending_runs_the_handler_again() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 100;
        session.update(|visit| visit.count += 1).await?;
        Ok(session.count)
    });
    assert_eq!(reply, Reply::Ok(111));
}

#[test]
fn an_update_that_always_loses_is_an_error_and_the_handler_runs_once() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#); 1000]);
    let runs = Cell::new(0);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        session.update(|visit| visit.count += 1).await
    });
    assert_eq!((reply, runs.get()), (Reply::Error(ErrorKind::Contended), 1));
}

#[test]
fn attempts_are_counted_for_each_race() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        for _ in 0..40 {
            rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
            session.update(|visit| visit.count += 1).await?;
        }
        Ok(session.count)
    });
    assert_eq!(reply, Reply::Ok(11));
}

// Time.

#[test]
fn an_unused_session_ends_after_timeout() {
    let rig = Rig::with(r#"{"timeout": 100}"#);
    let mut visitor = known(&rig);
    rig.platform.advance(99);
    assert_eq!(visitor.twin().read(&rig), Reply::Ok(1));
    // That was a use: it counts from there.
    rig.platform.advance(99);
    assert_eq!(visitor.twin().read(&rig), Reply::Ok(1));
    rig.platform.advance(100);
    let old = key_of(&visitor);
    assert_eq!(visitor.count(&rig), Reply::Ok(1), "a new session, by the clock and without any cleanup");
    assert_ne!(key_of(&visitor), old);
}

#[test]
fn a_used_session_is_touched_at_most_once_per_touch_after() {
    let rig = Rig::with(r#"{"timeout": 100, "touch_after": 10}"#);
    let mut visitor = known(&rig);
    let mut calls = Vec::new();
    for _ in 0..21 {
        rig.platform.advance(1);
        assert_eq!(visitor.read(&rig), Reply::Ok(1));
        calls.push(rig.store.calls());
    }
    let touched: Vec<_> = (0..21).filter(|&second| calls[second] == "load touch").collect();
    assert_eq!(touched, [9, 19]);
    assert_eq!(stored(&rig, &visitor).unwrap().expires_at, NOW + 20 + 100);
}

#[test]
fn a_session_in_use_ends_at_its_absolute_timeout() {
    let rig = Rig::with(r#"{"timeout": 100, "absolute_timeout": 250, "touch_after": 0}"#);
    let mut visitor = known(&rig);
    for count in 2..=5 {
        rig.platform.advance(50);
        assert_eq!(visitor.count(&rig), Reply::Ok(count));
    }
    assert_eq!(stored(&rig, &visitor).unwrap().expires_at, NOW + 250);
    rig.platform.advance(49);
    assert_eq!(visitor.read(&rig), Reply::Ok(5));
    rig.platform.advance(1);
    assert_eq!(visitor.count(&rig), Reply::Ok(1));
}

#[test]
fn a_session_in_use_lives_on_under_a_shortened_timeout() {
    let rig = Rig::with(r#"{"timeout": 1000}"#);
    let mut visitor = known(&rig);
    let shorter = rig.redeployed(KEY, r#"{"timeout": 100}"#);
    for _ in 0..5 {
        rig.platform.advance(60);
        assert_eq!(visitor.read(&shorter), Reply::Ok(1));
    }
}

#[test]
fn with_ignore_expiry_false_an_expired_session_is_told_so_once() {
    let rig = Rig::with(r#"{"timeout": 100, "ignore_expiry": false, "expired_message": "Gone"}"#);
    let mut visitor = known(&rig);
    rig.platform.advance(100);
    let mut same_page = visitor.twin();
    assert_eq!(visitor.count(&rig), Reply::Expired("Gone".to_owned()));
    assert_eq!(same_page.count(&rig), Reply::Expired("Gone".to_owned()));
    assert_eq!(visitor.cookie, None);
    assert_eq!(visitor.count(&rig), Reply::Ok(1), "and never locked out");
}

#[test]
fn with_ignore_expiry_false_an_unknown_session_is_told_so_and_a_first_visit_is_not() {
    let rig = Rig::with(r#"{"ignore_expiry": false}"#);
    let mut visitor = known(&rig);
    visitor.twin().reset(&rig);
    assert_eq!(visitor.count(&rig), Reply::Expired("Session expired".to_owned()));
    assert_eq!(visitor.count(&rig), Reply::Ok(1));
}

#[test]
fn expired_records_are_freed_and_live_ones_are_not() {
    let rig = Rig::with(r#"{"timeout": 100}"#);
    known(&rig);
    rig.platform.advance(50);
    let mut live = known(&rig);
    rig.platform.advance(50);
    assert_eq!(rig.store.inside.len(), 2);
    assert_eq!(block_on(rig.sessions.delete_expired()).unwrap().deleted, 1);
    assert_eq!(rig.store.inside.len(), 1);
    assert_eq!(live.read(&rig), Reply::Ok(1));
}

// The visitor's address.

#[test]
fn with_ignore_change_ip_false_only_the_creators_address_may_use_the_session() {
    let rig = Rig::with(r#"{"ignore_change_ip": false}"#);
    let mut visitor = Visitor::at("192.0.2.1");
    assert_eq!(visitor.count(&rig), Reply::Ok(1));
    let mut thief = visitor.twin();
    thief.ip = Some("192.0.2.2");
    assert_eq!(thief.count(&rig), Reply::Expired("Session expired".to_owned()));
    assert_eq!(thief.cookie, None);
    let mut nowhere = visitor.twin();
    nowhere.ip = None;
    assert_eq!(nowhere.count(&rig), Reply::Expired("Session expired".to_owned()));
    assert_eq!(visitor.count(&rig), Reply::Ok(2), "the session stays");
}

#[test]
fn with_ignore_change_ip_true_the_address_is_neither_checked_nor_stored() {
    let rig = Rig::new();
    let mut visitor = Visitor::at("192.0.2.1");
    visitor.count(&rig);
    visitor.ip = Some("192.0.2.2");
    assert_eq!(visitor.count(&rig), Reply::Ok(2));
    assert_eq!(stored(&rig, &visitor).unwrap().ip, None);
}

// Failure.

#[test]
fn a_store_that_fails_is_an_error_and_never_an_empty_session() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let cookie = visitor.cookie.clone();
    for (failing, calls) in [("load", "load"), ("update", "load update")] {
        rig.store.fail(failing);
        assert_eq!(visitor.count(&rig), Reply::Error(ErrorKind::Unavailable), "{failing}");
        assert_eq!(rig.store.calls(), calls);
        assert_eq!(visitor.cookie, cookie, "the cookie is untouched");
    }
    rig.store.fail("delete");
    assert_eq!(visitor.reset(&rig), (Reply::Error(ErrorKind::Unavailable), None));
    rig.store.fail("create");
    assert_eq!(Visitor::default().count(&rig), Reply::Error(ErrorKind::Unavailable));
    rig.store.fail("");
    assert_eq!(visitor.count(&rig), Reply::Ok(2), "nothing was overwritten");
}

#[test]
fn a_failed_save_in_a_handler_is_the_stores_failure_and_not_the_handlers() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.fail("update");
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.save().await?;
        Ok(())
    });
    assert_eq!(reply, Reply::Error(ErrorKind::Unavailable));
}

#[test]
fn a_store_that_hangs_is_an_error_and_no_hung_visitor() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    for hanging in ["load", "update"] {
        rig.store.hang(hanging);
        assert_eq!(visitor.count(&rig), Reply::Error(ErrorKind::Unavailable), "{hanging}");
    }
    rig.store.hang("");
    assert_eq!(visitor.read(&rig), Reply::Ok(1));
}

/// A platform whose pauses end when the test says so: those that have begun until then.
#[derive(Clone, Default)]
struct Bell {
    rung: Rc<Cell<u32>>,
}

impl Platform for Bell {
    fn now(&self) -> u64 {
        NOW
    }
    fn sleep(&self, _milliseconds: u32) -> Sleep {
        let (rung, before) = (Rc::clone(&self.rung), self.rung.get());
        Box::pin(poll_fn(move |_| if rung.get() > before { Poll::Ready(()) } else { Poll::Pending }))
    }
    fn log(&self, _line: fmt::Arguments<'_>) {}
}

#[test]
fn a_handler_that_takes_longer_than_the_stores_deadline_is_saved_all_the_same() {
    let bell = Bell::default();
    let signer = Signer::from_secret(KEY).unwrap();
    let store = SpyStore::default();
    store.take_your_time();
    let sessions = Sessions::new(store, bell.clone(), signer, SessionParameters::default()).unwrap();
    let slow = async |session: &mut Session<Visit>| {
        bell.rung.set(bell.rung.get() + 1);
        support::count(session).await
    };
    let mut cookie = None;
    for expected in [1, 2, 3] {
        let incoming = Incoming::new().cookie(cookie.as_deref());
        let Ok(Outcome::Replied { reply, set_cookie, .. }) = block_on(sessions.run(&incoming, slow)) else {
            panic!("saved");
        };
        assert_eq!(reply, expected);
        if let Some(line) = set_cookie.first() {
            cookie = Some(line.split(';').next().unwrap().to_owned());
        }
    }
}

/// A store in which something else lies under every key.
struct Garbage(SpyStore);

impl Store for Garbage {
    async fn load(&self, _key: &RecordKey) -> Result<Option<Record>, Error> {
        Record::from_text("gASVZwAAAAAAAAB9lCiMCnNlc3Npb25faWSU").map(Some)
    }
    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        self.0.create(key, record).await
    }
    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.0.update(key, record).await
    }
    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.0.touch(key, record).await
    }
    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        self.0.delete(key).await
    }
}

#[test]
fn an_unreadable_record_is_a_new_session_and_a_log_line() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let old = key_of(&visitor);
    let garbage = Rig {
        sessions: edge_session::Sessions::new(
            Garbage(rig.store.clone()),
            rig.platform.clone(),
            Signer::from_secret(KEY).unwrap(),
            edge_session::SessionParameters::from_json(r#"{"ignore_expiry": false}"#).unwrap(),
        )
        .unwrap(),
        ..rig.clone()
    };
    assert_eq!(visitor.twin().reset(&garbage).0, Reply::Ok(()), "a reset works");
    assert_eq!(rig.store.calls(), "delete");
    assert_eq!(visitor.count(&garbage), Reply::Ok(1));
    assert_ne!(key_of(&visitor), old);
    let log = rig.platform.logged().join("\n");
    assert!(log.contains(&format!("{old:?} cannot be read")), "{log}");
}

#[test]
fn data_of_another_type_is_a_new_session_and_a_log_line() {
    #[derive(Default, Serialize, Deserialize)]
    struct Other {
        count: Vec<String>,
    }
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut later = visitor.twin();
    let (reply, _) = later.ask(&rig, async |session: &mut Session<Other>| {
        session.count.push("a".to_owned());
        Ok(session.count.len())
    });
    assert_eq!(reply, Reply::Ok(1));
    assert!(rig.platform.logged().join("\n").contains("its data is not of the session's type"));
    let mut another = known(&rig);
    another.ask(&rig, async |_: &mut Session<Other>| Ok(()));
    assert_eq!(rig.platform.logged().len(), 2, "one for each session");
    assert_eq!(visitor.read(&rig), Reply::Ok(1), "the old record is still there for the old type");
}

#[test]
fn data_without_a_json_form_is_refused_and_stored_data_kept() {
    #[derive(Default, Serialize, Deserialize)]
    struct Pairs {
        by_pair: BTreeMap<(u8, u8), u8>,
    }
    let rig = Rig::new();
    let (reply, set_cookie) = Visitor::default().ask(&rig, async |session: &mut Session<Pairs>| {
        session.by_pair.insert((1, 2), 3);
        Ok(())
    });
    assert_eq!((reply, set_cookie), (Reply::Error(ErrorKind::Unserializable), None));
    assert_eq!(rig.store.calls(), "");
}

// Keys and ids.

#[test]
fn an_unknown_id_is_replaced_and_never_adopted() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut replayed = visitor.twin();
    visitor.reset(&rig);
    assert_eq!(replayed.count(&rig), Reply::Ok(1));
    assert_ne!(replayed.cookie, visitor.twin().cookie);
    assert_eq!(rig.store.inside.len(), 1);
}

#[test]
fn the_store_sees_the_hash_of_the_id_and_never_the_id() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let cookie = visitor.cookie.clone().unwrap();
    let id = cookie.split_once('=').unwrap().1.split_once('.').unwrap().0.to_owned();
    assert_eq!(id.len(), 32);
    assert_ne!(key_of(&visitor).as_str()[..32], id);
    assert!(!format!("{:?}", stored(&rig, &visitor)).contains(&id));
}

#[test]
fn an_id_drawn_twice_is_an_error_and_no_takeover() {
    let rig = Rig::new();
    let nonces = Cell::new(0);
    let drawing = rig.drawing(move |bytes| {
        nonces.set(nonces.get() + 1);
        bytes.fill(if bytes.len() == 4 { nonces.get() } else { 7 });
        Ok(())
    });
    let mut visitor = known(&drawing);
    let before = stored(&rig, &visitor);
    assert_eq!(Visitor::default().count(&drawing), Reply::Error(ErrorKind::Duplicate));
    assert_eq!((rig.store.calls().as_str(), stored(&rig, &visitor)), ("create", before));
    assert_eq!(visitor.count(&rig), Reply::Ok(2));
}

#[test]
fn bookkeeping_and_data_share_no_names() {
    #[derive(Default, Serialize, Deserialize, PartialEq, Debug, Clone)]
    struct Reserved {
        session_id: String,
        ip: String,
        version: u64,
        expires_at: u64,
        _killed: bool,
        clear: String,
        store: String,
    }
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    let wanted = Reserved {
        session_id: "deadbeef".to_owned(),
        ip: "x".to_owned(),
        version: 99,
        expires_at: 1,
        _killed: true,
        clear: "y".to_owned(),
        store: "z".to_owned(),
    };
    visitor.ask(&rig, async |session: &mut Session<Reserved>| {
        **session = wanted.clone();
        Ok(())
    });
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Reserved>| Ok((**session).clone()));
    assert_eq!(reply, Reply::Ok(wanted));
    assert_eq!(stored(&rig, &visitor).unwrap().version, 1);
}

#[test]
fn each_new_session_starts_from_a_default_of_its_own() {
    #[derive(Default, Serialize, Deserialize)]
    struct Cart {
        items: Vec<u32>,
    }
    let rig = Rig::new();
    let add = async |session: &mut Session<Cart>| {
        let next = u32::try_from(session.items.len()).unwrap();
        session.items.push(next);
        Ok(session.items.clone())
    };
    let mut first = Visitor::default();
    assert_eq!(first.ask(&rig, add).0, Reply::Ok(vec![0]));
    assert_eq!(first.ask(&rig, add).0, Reply::Ok(vec![0, 1]));
    assert_eq!(Visitor::default().ask(&rig, add).0, Reply::Ok(vec![0]));
}

#[test]
fn any_text_survives_being_stored() {
    #[derive(Default, Serialize, Deserialize)]
    struct Named {
        name: String,
    }
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    let name = "Jürgen 名前 \u{1F980} \u{0} \"quoted\" \u{10FFFF}";
    visitor.ask(&rig, async |session: &mut Session<Named>| {
        name.clone_into(&mut session.name);
        Ok(())
    });
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Named>| Ok(session.name.clone()));
    assert_eq!(reply, Reply::Ok(name.to_owned()));
}

#[test]
fn debug_output_shows_neither_id_nor_data() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| Ok(format!("{session:?}")));
    assert_eq!(reply, Reply::Ok("Session(stored)".to_owned()));
    let sessions = format!("{:?}", rig.sessions);
    assert!(
        sessions.starts_with("Sessions { parameters: SessionParameters {") && !sessions.contains(KEY),
        "{sessions}"
    );
    let id = SessionId::random(&rig.platform).unwrap();
    assert_eq!(format!("{id:?}"), "SessionId(…)");
}

#[test]
fn attempts_are_counted_whatever_the_handler_tries() {
    for tries in [false, true] {
        let rig = Rig::with(r#"{"max_data": 20}"#);
        let mut visitor = known(&rig);
        rig.store.interfere(&[Interference::Update(r#"{"count":10}"#); 200]);
        let runs = Cell::new(0);
        visitor.ask(&rig, async |session: &mut Session<Visit>| {
            runs.set(runs.get() + 1);
            if tries {
                // Too large, which the handler knows how to do without.
                drop(session.update(|visit| visit.count = u64::MAX).await);
            }
            session.count += 1;
            Ok(session.count)
        });
        assert!(runs.get() <= 30, "{tries}");
    }
}
