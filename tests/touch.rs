//! Notes of use: they change no version, fail nobody, and take nothing back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use std::cell::Cell;

use edge_session::{Effect, Session};
use support::{Interference, KEY, NOW, Reply, Rig, Visit, known, stored};

const DUE: &str = r#"{"timeout": 100, "touch_after": 10}"#;

#[test]
fn a_note_of_use_that_fails_is_a_log_line_and_nobodys_error() {
    for hang in [false, true] {
        let rig = Rig::with(DUE);
        let mut visitor = known(&rig);
        rig.platform.advance(10);
        if hang {
            rig.store.hang("touch")
        } else {
            rig.store.fail("touch")
        }
        assert_eq!(visitor.ask(&rig, async |session: &mut Session<Visit>| Ok(session.count)), (Reply::Ok(1), None));
        assert_eq!(visitor.timing.effect, Effect::Nothing);
        let log = rig.platform.logged();
        assert_eq!(log.len(), 1, "{log:?}");
        assert!(log[0].starts_with("touch_failed: the use of RecordKey("), "{log:?}");
    }
}

/// Six looks at once when a note of use is due: each runs once.
#[test]
fn a_note_of_use_runs_no_handler_again() {
    let rig = Rig::with(DUE);
    let visitor = known(&rig);
    rig.platform.advance(10);
    let runs = Cell::new(0);
    fn looks(rigs: &[Rig], visitor: &support::Visitor, runs: &Cell<u32>) {
        let Some((rig, rest)) = rigs.split_first() else { return };
        let has_gone_on = Cell::new(false);
        let (reply, _) = visitor.twin().ask(rig, async |session: &mut Session<Visit>| {
            runs.set(runs.get() + 1);
            if !has_gone_on.replace(true) {
                looks(rest, visitor, runs);
            }
            Ok(session.count)
        });
        assert_eq!(reply, Reply::Ok(1));
    }
    let rigs: Vec<_> = (0..6).map(|_| rig.redeployed(KEY, DUE)).collect();
    looks(&rigs, &visitor, &runs);
    assert_eq!(runs.get(), 6);
    assert_eq!(stored(&rig, &visitor).unwrap().touched_at, NOW + 10);
}

#[test]
fn a_slow_look_takes_back_neither_a_count_nor_a_later_note() {
    let rig = Rig::with(DUE);
    let visitor = known(&rig);
    rig.platform.advance(10);
    let elsewhere = rig.redeployed(KEY, DUE);
    let (clock, is_first) = (rig.platform.clone(), Cell::new(true));
    visitor.twin().ask(&rig, async |session: &mut Session<Visit>| {
        assert!(is_first.replace(false), "it runs once");
        clock.advance(20);
        assert_eq!(visitor.twin().count(&elsewhere), Reply::Ok(2));
        Ok(session.count)
    });
    let record = stored(&rig, &visitor).unwrap();
    assert_eq!((record.data.as_str(), record.version, record.touched_at), (r#"{"count":2}"#, 2, NOW + 30));
}

#[test]
fn a_raised_timeout_counts_at_once() {
    let rig = Rig::with(r#"{"timeout": 600}"#);
    let mut visitor = known(&rig);
    let raised = rig.redeployed(KEY, r#"{"timeout": 86400}"#);
    for minute in 0..30 {
        rig.platform.advance(60);
        assert_eq!(visitor.read(&raised), Reply::Ok(1), "minute {minute}");
    }
    rig.platform.advance(80_000);
    assert_eq!(visitor.read(&raised), Reply::Ok(1));
}

/// Beside a release that knows the new timeout already: what it does shortens no session.
#[test]
fn a_release_with_a_shorter_timeout_takes_no_time_away() {
    let rig = Rig::with(r#"{"timeout": 86400}"#);
    let shorter = rig.redeployed(KEY, r#"{"timeout": 600}"#);
    let mut visitor = known(&rig);
    for seconds in [10, 100] {
        rig.platform.advance(seconds);
        assert!(matches!(visitor.count(&shorter), Reply::Ok(2 | 3)));
        assert_eq!(rig.store.updated_to().expires_at, NOW + 86_400);
    }
    rig.platform.advance(700);
    assert_eq!(visitor.twin().read(&shorter), Reply::Ok(0), "by its own timeout it is over");
    assert_eq!(visitor.read(&rig), Reply::Ok(3), "and not by the longer one");
}

#[test]
fn the_note_of_use_of_a_session_that_is_gone_is_silent() {
    for new_id in [true, false] {
        let rig = Rig::with(DUE);
        let visitor = known(&rig);
        rig.platform.advance(10);
        let elsewhere = rig.redeployed(KEY, DUE);
        let reply = visitor.twin().ask(&rig, async |session: &mut Session<Visit>| {
            if new_id {
                visitor.twin().log_in(&elsewhere).0
            } else {
                visitor.twin().reset(&elsewhere).0
            };
            Ok(session.count)
        });
        assert_eq!(reply.1, None);
        assert!(rig.store.calls().ends_with(" touch"));
        assert_eq!(rig.platform.logged(), Vec::<String>::new());
    }
}

#[test]
fn what_was_done_is_the_save_where_a_note_of_use_follows() {
    let rig = Rig::with(DUE);
    let mut visitor = known(&rig);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.save().await?;
        rig.platform.advance(20);
        Ok(())
    });
    assert!(rig.store.calls().ends_with("update touch"));
    assert_eq!(visitor.timing.effect, Effect::Saved);
}

#[test]
fn an_update_does_not_lose_its_race_to_a_note_of_use() {
    let rig = Rig::with(DUE);
    let visitor = known(&rig);
    rig.platform.advance(10);
    let elsewhere = rig.redeployed(KEY, DUE);
    let runs = Cell::new(0);
    let (reply, _) = visitor.twin().ask(&rig, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        visitor.twin().read(&elsewhere);
        session.count += 1;
        Ok(session.count)
    });
    assert_eq!((reply, runs.get()), (Reply::Ok(2), 1));
    rig.store.interfere(&[Interference::Update(r#"{"count":7}"#)]);
    assert_eq!(visitor.twin().count(&rig), Reply::Ok(8), "as it does to a change");
}
