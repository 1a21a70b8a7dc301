//! The two halves of a request, for callers without a handler: `open` and `commit`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may fail")]

mod support;

use std::cell::{Cell, RefCell};

use edge_session::{ErrorKind, Incoming, Opened, Session};

use pollster::block_on;
use support::{Interference, KEY, NOW, Reply, Rig, Visit, Visitor, known, stored};

fn open(rig: &Rig, visitor: &Visitor) -> Session<Visit> {
    let incoming = Incoming::new().cookie(visitor.cookie.as_deref());
    match block_on(rig.sessions.open(&incoming)).unwrap() {
        Opened::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_that_is_opened_and_committed_is_stored_and_its_cookie_is_due_once() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    let mut session = open(&rig, &visitor);
    session.count += 1;
    let set_cookie = block_on(rig.sessions.commit(&mut session)).unwrap();
    assert_eq!(set_cookie.len(), 1);
    visitor.cookie = set_cookie[0].split(';').next().map(str::to_owned);
    assert_eq!(visitor.read(&rig), Reply::Ok(1));

    let mut session = open(&rig, &visitor);
    session.count += 1;
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap(), Vec::<String>::new());
    assert_eq!(visitor.read(&rig), Reply::Ok(2));
}

#[test]
fn who_drops_a_session_changes_nothing() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let before = stored(&rig, &visitor);
    let mut session = open(&rig, &visitor);
    session.count += 1;
    session.kill();
    drop(session);
    assert_eq!(stored(&rig, &visitor), before);
    assert_eq!(visitor.count(&rig), Reply::Ok(2));
}

#[test]
fn a_lost_race_is_contended_and_opened_again_it_is_won() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut session = open(&rig, &visitor);
    session.count += 1;
    assert_eq!(visitor.twin().count(&rig), Reply::Ok(2));
    let lost = block_on(rig.sessions.commit(&mut session)).unwrap_err();
    assert_eq!((lost.kind(), lost.status()), (ErrorKind::Contended, 503));

    let mut session = block_on(rig.sessions.reopen(session)).unwrap();
    assert_eq!(session.count, 2, "of the newer data");
    session.count += 1;
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap(), Vec::<String>::new());
    assert_eq!(visitor.read(&rig), Reply::Ok(3));
}

/// It was in use as the request began, however long that has waited for its turn.
#[test]
fn a_session_that_is_in_use_does_not_end_while_a_lost_race_is_run_again() {
    for (runs, waits, is_alive) in [(0, 5, true), (5, 0, true), (0, 101, false)] {
        let rig = Rig::with(r#"{"timeout": 100, "touch_after": 50}"#);
        let mut visitor = known(&rig);
        rig.platform.advance(98);
        let mut session = open(&rig, &visitor);
        session.count += 1;
        rig.platform.advance(runs);
        rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
        assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap_err().kind(), ErrorKind::Contended);
        rig.platform.advance(waits);
        let mut session = block_on(rig.sessions.reopen(session)).unwrap();
        session.count += 1;
        assert_eq!(
            block_on(session.save()).map_err(|error| error.kind()),
            is_alive.then_some(()).ok_or(ErrorKind::Ended)
        );
        assert_eq!(visitor.read(&rig), Reply::Ok(if is_alive { 11 } else { 0 }));
    }
    // And so for one step alone.
    let rig = Rig::with(r#"{"timeout": 100, "touch_after": 50}"#);
    let mut visitor = known(&rig);
    rig.platform.advance(98);
    let mut session = open(&rig, &visitor);
    rig.store.slow_down(&rig.platform, 2);
    rig.store.tell_no_winner();
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    block_on(session.update(|visit| visit.count += 1)).unwrap();
    assert_eq!(visitor.read(&rig), Reply::Ok(11));
}

#[test]
fn a_cookie_that_is_to_be_renewed_still_is_when_the_session_is_opened_again() {
    let rig = Rig::with(r#"{"persistent": true, "timeout": 1000, "touch_after": 100}"#);
    let mut visitor = known(&rig);
    rig.platform.advance(200);
    let mut session = open(&rig, &visitor);
    block_on(session.update(|visit| visit.count += 1)).unwrap();
    let mut session = block_on(rig.sessions.reopen(session)).unwrap();
    let set_cookie = block_on(rig.sessions.commit(&mut session)).unwrap();
    assert!(set_cookie[0].contains("Max-Age=1000"), "{set_cookie:?}");
    assert_eq!(visitor.read(&rig), Reply::Ok(2));
}

#[test]
fn a_session_is_opened_again_thirty_times_and_no_more() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let mut session = open(&rig, &visitor);
    for _ in 1..30 {
        session = block_on(rig.sessions.reopen(session)).unwrap();
    }
    assert_eq!(block_on(rig.sessions.reopen(session)).unwrap_err().kind(), ErrorKind::Contended);
}

#[test]
fn a_new_session_that_is_opened_again_after_its_commit_still_owes_its_cookie() {
    let rig = Rig::new();
    let mut session = open(&rig, &Visitor::default());
    session.count += 1;
    let first = block_on(rig.sessions.commit(&mut session)).unwrap();
    let mut session = block_on(rig.sessions.reopen(session)).unwrap();
    assert_eq!(session.count, 1);
    session.count += 1;
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap(), first, "of the same id");
    let mut visitor = Visitor::with(first[0].split(';').next().unwrap());
    assert_eq!(visitor.read(&rig), Reply::Ok(2));
}

#[test]
fn after_a_write_that_may_be_stored_a_session_is_not_opened_again() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut session = open(&rig, &visitor);
    session.count += 1;
    rig.store.lose("update");
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap_err().kind(), ErrorKind::Unavailable);
    rig.store.lose("");
    session.count += 1;
    for _ in 0..2 {
        let committed = block_on(rig.sessions.commit(&mut session));
        assert_eq!(committed.unwrap_err().kind(), ErrorKind::Unavailable, "nor committed, however often it is tried");
    }
    assert_eq!(block_on(rig.sessions.reopen(session)).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(visitor.read(&rig), Reply::Ok(2), "counted once");
}

#[test]
fn a_message_of_a_socket_whose_session_ended_is_told_so_by_save_and_not_by_commit() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let (mut asks, mut asks_not) = (open(&rig, &visitor), open(&rig, &visitor));
    visitor.twin().reset(&rig);
    asks.count += 1;
    assert_eq!(block_on(asks.save()).unwrap_err().kind(), ErrorKind::Ended);
    asks_not.count += 1;
    assert_eq!(block_on(rig.sessions.commit(&mut asks_not)).unwrap(), Vec::<String>::new());
    assert_eq!(stored(&rig, &visitor), None);
    // Opened again, it is no other session.
    let mut session = block_on(rig.sessions.reopen(asks_not)).unwrap();
    session.count += 1;
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap(), Vec::<String>::new());
    assert_eq!(rig.store.inside.len(), 0);
}

#[test]
fn an_update_between_the_halves_wins_its_race_by_itself() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut session = open(&rig, &visitor);
    rig.store.interfere(&[Interference::Update(r#"{"count":20}"#); 2]);
    let count = block_on(session.update(|visit| {
        visit.count += 1;
        visit.count
    }));
    assert_eq!(count.unwrap(), 21);
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap(), Vec::<String>::new());
    assert_eq!(visitor.read(&rig), Reply::Ok(21));
}

#[test]
fn an_expired_session_is_said_to_be_where_the_parameters_ask_for_it() {
    let rig = Rig::with(r#"{"ignore_expiry": false}"#);
    let visitor = known(&rig);
    rig.platform.advance(100_000);
    let incoming = Incoming::new().cookie(visitor.cookie.as_deref());
    match block_on(rig.sessions.open::<Visit>(&incoming)).unwrap() {
        Opened::Expired { message, set_cookie } => {
            assert_eq!(message, "Session expired");
            assert!(set_cookie[1].contains("Max-Age=0"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_save_that_is_dropped_under_way_may_be_stored_and_is_not_done_again() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let sessions = rig.patient();
    let incoming = Incoming::new().cookie(visitor.cookie.as_deref());
    let Opened::Session(mut session) = block_on(sessions.open::<Visit>(&incoming)).unwrap() else { panic!() };
    session.count += 1;
    rig.store.hang("update");
    support::begin_and_leave(session.save());
    rig.store.hang("");
    assert_eq!(block_on(session.save()).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(block_on(sessions.reopen(session)).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(visitor.read(&rig), Reply::Ok(1), "as the store has it, which never did it here");
}

/// Others were told that it had expired.
#[test]
fn a_session_that_was_held_for_longer_than_its_timeout_has_ended() {
    // For the one the request is a use at the time when it began; the other one counts from the session's beginning.
    for (lasts, parameters) in [(100, r#"{"timeout": 100}"#), (90, r#"{"timeout": 1000, "absolute_timeout": 100}"#)] {
        let rig = Rig::with(parameters);
        let visitor = known(&rig);
        rig.platform.advance(10);
        let mut session = open(&rig, &visitor);
        rig.platform.advance(lasts - 1);
        session.count += 1;
        block_on(session.save()).unwrap();
        rig.platform.advance(100);
        session.count += 1;
        assert_eq!(block_on(session.save()).unwrap_err().kind(), ErrorKind::Ended);
        assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap(), Vec::<String>::new());
        assert_eq!(visitor.twin().read(&rig), Reply::Ok(0));
    }
    // Whoever is remembered is so for a time that no use changes.
    let rig = Rig::with(r#"{"timeout": 100}"#);
    let mut visitor = known(&rig);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.sign_in_for("ada", std::time::Duration::from_secs(1000))
    });
    let mut session = open(&rig, &visitor);
    rig.platform.advance(999);
    session.count += 1;
    block_on(session.save()).unwrap();
    rig.platform.advance(1);
    session.count += 1;
    assert_eq!(block_on(session.save()).unwrap_err().kind(), ErrorKind::Ended);
}

/// Somebody else has noted a use, which makes no new version.
#[test]
fn a_session_that_is_used_elsewhere_meanwhile_has_not_ended() {
    for by_save in [false, true] {
        let rig = Rig::with(r#"{"timeout": 100, "touch_after": 10}"#);
        let visitor = known(&rig);
        let mut held = open(&rig, &visitor);
        rig.platform.advance(60);
        assert_eq!(visitor.twin().read(&rig), Reply::Ok(1));
        rig.platform.advance(60);
        held.count += 1;
        if by_save {
            block_on(held.save()).unwrap();
        }
        block_on(rig.sessions.commit(&mut held)).unwrap();
        assert_eq!(visitor.twin().read(&rig), Reply::Ok(2));
    }
}

/// By a release that knows a longer timeout already.
#[test]
fn and_loses_nothing_of_the_time_that_it_was_given_meanwhile() {
    let rig = Rig::with(r#"{"timeout": 100}"#);
    let visitor = known(&rig);
    let mut held = open(&rig, &visitor);
    rig.platform.advance(60);
    visitor.twin().read(&rig.redeployed(KEY, r#"{"timeout": 86400}"#));
    rig.platform.advance(60);
    held.count += 1;
    block_on(rig.sessions.commit(&mut held)).unwrap();
    assert_eq!(rig.store.updated_to().expires_at, NOW + 60 + 86_400);
}

#[test]
fn a_look_that_was_held_for_long_asks_the_store_nothing() {
    let rig = Rig::with(r#"{"timeout": 100}"#);
    let mut held = open(&rig, &known(&rig));
    rig.platform.advance(100);
    rig.store.fail("load");
    assert_eq!(block_on(rig.sessions.commit(&mut held)).unwrap(), Vec::<String>::new());
}

/// Two kinds of session in one Worker may share their store.
#[test]
fn the_cookie_is_set_by_the_parameters_that_the_session_was_opened_with() {
    let rig = Rig::new();
    let admins =
        rig.redeployed("other-key-0123456789abcdef01234567", r#"{"cookie_name": "admin", "persistent": true}"#);
    let mut session = open(&rig, &Visitor::default());
    session.count += 1;
    let set_cookie = block_on(admins.sessions.commit(&mut session)).unwrap();
    assert!(set_cookie[0].starts_with("webpy_session_id=") && !set_cookie[0].contains("Max-Age"), "{set_cookie:?}");
    assert_eq!(Visitor::with(set_cookie[0].split(';').next().unwrap()).read(&rig), Reply::Ok(1));
}

#[test]
fn a_straggler_that_is_opened_again_is_a_straggler_still() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let old = visitor.twin();
    visitor.log_in(&rig);
    let mut session = block_on(rig.sessions.reopen(open(&rig, &old))).unwrap();
    session.count += 1;
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap(), Vec::<String>::new());
    assert_eq!(rig.store.inside.len(), 2, "the session and what is left under its old id");
}

#[test]
fn who_commits_again_after_a_commit_that_was_dropped_is_told_so() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let sessions = rig.patient();
    let incoming = Incoming::new().cookie(visitor.cookie.as_deref());
    let Opened::Session(mut session) = block_on(sessions.open::<Visit>(&incoming)).unwrap() else { panic!() };
    session.count += 1;
    rig.store.hang("update");
    support::begin_and_leave(sessions.commit(&mut session));
    rig.store.hang("");
    assert_eq!(block_on(sessions.commit(&mut session)).unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_kill_is_done_by_the_next_commit_whatever_failed_before() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let mut session = open(&rig, &visitor);
    session.count += 1;
    rig.store.fail("update");
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap_err().kind(), ErrorKind::Unavailable);
    rig.store.fail("delete");
    session.kill();
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap_err().kind(), ErrorKind::Unavailable);
    rig.store.fail("");
    block_on(rig.sessions.commit(&mut session)).unwrap();
    assert_eq!(stored(&rig, &visitor), None);
}

/// Its caller has no handler to run again, and so it tries: others may be waiting for their turn all the time.
#[test]
fn a_commit_without_a_run_waits_for_nobody() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let (mut waits, mut comes) = (open(&rig, &visitor), open(&rig, &visitor));
    waits.count += 1;
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    assert_eq!(block_on(rig.sessions.commit(&mut waits)).unwrap_err().kind(), ErrorKind::Contended);
    let waits = block_on(rig.sessions.reopen(waits)).unwrap();
    assert_eq!(waits.count, 10, "it has its turn");
    comes.count += 1;
    rig.store.calls();
    assert_eq!(block_on(rig.sessions.commit(&mut comes)).unwrap_err().kind(), ErrorKind::Contended);
    assert_eq!(rig.store.calls(), "update");
}

/// Its visitor would come with the old id, which is worth nothing by now. What was not saved is not told, nor done.
#[test]
fn what_was_saved_before_a_commit_that_failed_can_be_told() {
    for saves in [true, false] {
        let rig = Rig::new();
        let visitor = known(&rig);
        let mut session = open(&rig, &visitor);
        session.cycle_id();
        if saves {
            block_on(session.save()).unwrap();
        }
        session.kill();
        rig.store.fail("delete");
        assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap_err().kind(), ErrorKind::Unavailable);
        rig.store.fail("");
        let told = rig.sessions.set_cookie_of_saved(&mut session);
        assert_eq!(told.len(), usize::from(saves));
        let cookie = told.first().map_or(visitor.cookie.unwrap(), |line| line.split(';').next().unwrap().to_owned());
        assert_eq!(Visitor::with(cookie).read(&rig), Reply::Ok(1), "it lives");
        drop(session);
        assert_eq!(rig.platform.logged(), Vec::<String>::new());
    }
}

#[test]
fn who_has_stored_or_failed_is_in_nobodys_way() {
    for fails in [false, true] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        let mut session = open(&rig, &visitor);
        session.count += 1;
        rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
        assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap_err().kind(), ErrorKind::Contended);
        let mut session = block_on(rig.sessions.reopen(session)).unwrap();
        session.count += 1;
        rig.store.fail(if fails { "update" } else { "" });
        assert_eq!(block_on(rig.sessions.commit(&mut session)).is_err(), fails);
        rig.store.fail("");
        rig.store.calls();
        assert_eq!(visitor.count(&rig), Reply::Ok(if fails { 11 } else { 12 }));
        assert_eq!(rig.store.calls(), "load update", "at once");
    }
    // Nor who could not load what it lost to, or may not change it.
    for is_readable in [true, false] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        let mut session = open(&rig, &visitor);
        rig.store.tell_no_winner();
        rig.store.interfere(&[Interference::Update(if is_readable {
            r#"{"count":10}"#
        } else {
            r#"{"count":"ten"}"#
        })]);
        if is_readable {
            rig.store.fail_once("load", 0, false);
        }
        block_on(session.update(|visit| visit.count += 1)).unwrap_err();
        rig.store.calls();
        visitor.count(&rig);
        assert_eq!(rig.store.calls(), if is_readable { "load update" } else { "load create" });
    }
    // Nor who has lost too often.
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut session = open(&rig, &visitor);
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#); 30]);
    assert_eq!(block_on(session.update(|visit| visit.count += 1)).unwrap_err().kind(), ErrorKind::Contended);
    rig.store.interfere(&[]);
    rig.store.calls();
    assert_eq!(visitor.count(&rig), Reply::Ok(11));
    assert_eq!(rig.store.calls(), "load update");
    // Nor who found that it has ended, or cannot be read.
    for (meets, kind) in [
        (Interference::UpdateAndDelete(r#"{"count":10}"#), ErrorKind::Ended),
        (Interference::Update(r#"{"count":"ten"}"#), ErrorKind::Unreadable),
    ] {
        let rig = Rig::new();
        let visitor = known(&rig);
        let (waits, is_first) = (RefCell::new(open(&rig, &visitor)), Cell::new(true));
        visitor.twin().ask(&rig, async |session: &mut Session<Visit>| {
            if is_first.replace(false) {
                session.count += 1;
                rig.store.interfere(&[meets]);
                let refused = block_on(waits.borrow_mut().update(|visit| visit.count += 1));
                assert_eq!(refused.unwrap_err().kind(), kind);
                rig.store.calls();
            }
            Ok(())
        });
        assert!(rig.store.calls().starts_with("update"), "{kind:?}");
    }
}

/// By what another one lost its race to, a moment before.
#[test]
fn a_session_that_has_ended_is_not_alive_for_who_opens_it_again() {
    for by_update in [false, true] {
        let rig = Rig::new();
        let visitor = known(&rig);
        let mut waits = open(&rig, &visitor);
        waits.count += 1;
        rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
        block_on(rig.sessions.commit(&mut waits)).unwrap_err();
        let _waits = block_on(rig.sessions.reopen(waits)).unwrap();
        let mut ends = open(&rig, &visitor);
        if by_update {
            rig.store.interfere(&[Interference::UpdateAndDelete(r#"{"count":11}"#)]);
            block_on(ends.update(|visit| visit.count += 1)).unwrap_err();
        } else {
            rig.store.interfere(&[Interference::Delete]);
            ends.count += 1;
            block_on(ends.save()).unwrap_err();
        }
        let ends = block_on(rig.sessions.reopen(ends)).unwrap();
        assert_eq!((ends.count, ends.record().is_some()), (0, false));
    }
}

/// It lost a race, and was told then that the session had ended, or ended it.
#[test]
fn what_a_race_was_lost_to_is_forgotten_when_the_session_has_ended() {
    for by_itself in [false, true] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        visitor.ask(&rig, async |session: &mut Session<Visit>| session.sign_in("ada"));
        let mut session = open(&rig, &visitor);
        session.count += 1;
        visitor.twin().count(&rig);
        assert_eq!(block_on(session.save()).unwrap_err().kind(), ErrorKind::Contended);
        if by_itself {
            session.kill();
            block_on(rig.sessions.commit(&mut session)).unwrap();
        } else {
            visitor.twin().reset(&rig);
            assert_eq!(block_on(session.save()).unwrap_err().kind(), ErrorKind::Ended);
        }
        let session = block_on(rig.sessions.reopen(session)).unwrap();
        assert_eq!((session.user(), session.record().is_some()), (None, false));
    }
}

/// Nor is it what another one finds that comes after.
#[test]
fn nor_does_another_find_it_then() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let (mut session, mut other) = (open(&rig, &visitor), open(&rig, &visitor));
    visitor.count(&rig);
    session.count += 1;
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap_err().kind(), ErrorKind::Contended);
    rig.store.tell_no_winner();
    other.count += 1;
    assert_eq!(block_on(rig.sessions.commit(&mut other)).unwrap_err().kind(), ErrorKind::Contended);
    visitor.reset(&rig);
    block_on(rig.sessions.commit(&mut session)).unwrap();
    let _waits = block_on(rig.sessions.reopen(session)).unwrap();
    assert!(block_on(rig.sessions.reopen(other)).unwrap().record().is_none());
}

/// Under the id that it was given meanwhile.
#[test]
fn a_session_that_began_here_and_has_ended_since_is_opened_again_as_one_that_has_ended() {
    for was_known in [false, true] {
        let rig = Rig::new();
        let mut visitor = if was_known { known(&rig) } else { Visitor::default() };
        let mut session = open(&rig, &visitor);
        session.sign_in("ada").unwrap();
        let set_cookie = block_on(rig.sessions.commit(&mut session)).unwrap();
        visitor.cookie = set_cookie[0].split(';').next().map(str::to_owned);
        visitor.reset(&rig);
        session.count += 1;
        assert_eq!(block_on(session.save()).unwrap_err().kind(), ErrorKind::Ended);
        let records = rig.store.inside.len();
        let mut session = block_on(rig.sessions.reopen(session)).unwrap();
        session.count += 1;
        assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap(), Vec::<String>::new());
        assert_eq!(rig.store.inside.len(), records);
    }
}

#[test]
fn a_session_that_is_opened_again_is_not_older_than_what_it_has_stored() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let (mut stores, mut loses) = (open(&rig, &visitor), open(&rig, &visitor));
    stores.count = 2;
    block_on(rig.sessions.commit(&mut stores)).unwrap();
    loses.count += 1;
    block_on(rig.sessions.commit(&mut loses)).unwrap_err();
    stores.count = 3;
    block_on(rig.sessions.commit(&mut stores)).unwrap();
    let _waits = block_on(rig.sessions.reopen(loses)).unwrap();
    assert_eq!(block_on(rig.sessions.reopen(stores)).unwrap().count, 3);
}

/// What a request of this isolate lost to a moment ago is known; what another isolate has stored since is not.
#[test]
fn a_request_that_runs_again_finds_nothing_older_than_it_has_seen() {
    for updates in [false, true] {
        let rig = Rig::new();
        let visitor = known(&rig);
        let mut early = open(&rig, &visitor);
        let mut waits = open(&rig, &visitor);
        waits.count += 1;
        rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
        block_on(rig.sessions.commit(&mut waits)).unwrap_err();
        let waits = block_on(rig.sessions.reopen(waits)).unwrap();
        assert_eq!(waits.count, 10, "as it was told");
        let elsewhere = rig.redeployed(KEY, "{}");
        assert_eq!(visitor.twin().count(&elsewhere), Reply::Ok(11));
        rig.store.tell_no_winner();
        if updates {
            // It finds the one that is known, then what is there.
            assert_eq!(block_on(early.update(|visit| std::mem::replace(&mut visit.count, 0))).unwrap(), 11);
        } else {
            let mut comes = open(&rig, &visitor);
            comes.count += 1;
            assert_eq!(visitor.twin().count(&elsewhere), Reply::Ok(12));
            block_on(rig.sessions.commit(&mut comes)).unwrap_err();
            assert_eq!(block_on(rig.sessions.reopen(comes)).unwrap().count, 12);
        }
    }
}

/// On KV a write is made from what its request has loaded.
#[test]
fn a_store_that_does_not_say_what_is_there_is_asked_after_each_lost_race() {
    let rig = Rig::new();
    let visitor = known(&rig);
    rig.store.tell_no_winner();
    let elsewhere = rig.redeployed(KEY, "{}");
    let lost: Vec<_> = (0..3)
        .map(|_| {
            let mut session = open(&rig, &visitor);
            session.count += 1;
            visitor.twin().count(&elsewhere);
            block_on(rig.sessions.commit(&mut session)).unwrap_err();
            session
        })
        .collect();
    let [first, second, third] = <[_; 3]>::try_from(lost).unwrap();
    let mut first = block_on(rig.sessions.reopen(first)).unwrap();
    let _waits = block_on(rig.sessions.reopen(second)).unwrap();
    first.count += 1;
    block_on(rig.sessions.commit(&mut first)).unwrap();
    rig.store.calls();
    block_on(rig.sessions.reopen(third)).unwrap();
    assert_eq!(rig.store.calls(), "load");
}

#[test]
fn a_lost_race_of_long_ago_says_nothing() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut session = open(&rig, &visitor);
    session.count += 1;
    visitor.count(&rig);
    assert_eq!(block_on(rig.sessions.commit(&mut session)).unwrap_err().kind(), ErrorKind::Contended);
    rig.platform.advance(600);
    visitor.reset(&rig);
    let session = block_on(rig.sessions.reopen(session)).unwrap();
    assert!(session.record().is_none(), "as it is now: killed");
}

/// A WebSocket's message notes a use and renews no cookie: it leaves that to a reply, for a while.
#[test]
fn messages_without_a_reply_take_no_renewal_from_a_reply() {
    let rig = Rig::with(r#"{"persistent": true, "timeout": 100, "touch_after": 10}"#);
    let mut visitor = known(&rig);
    let mut renewed = 0;
    for _ in 0..9 {
        rig.platform.advance(10);
        block_on(rig.sessions.commit(&mut open(&rig, &visitor))).unwrap();
        let (_, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| Ok(session.count));
        renewed += u32::from(set_cookie.is_some());
    }
    assert_eq!(renewed, 9, "each reply came after `touch_after`");
    // Who only sends messages keeps the session, though not to the second.
    for seconds in [19, 80, 21, 79, 20, 80] {
        rig.platform.advance(seconds);
        block_on(rig.sessions.commit(&mut open(&rig, &visitor))).unwrap();
    }
    assert_eq!(visitor.read(&rig), Reply::Ok(1));
    // Also where there is not twice as long as `touch_after`; but not before that.
    let rig = Rig::with(r#"{"persistent": true, "timeout": 100, "touch_after": 60}"#);
    let mut visitor = known(&rig);
    for (seconds, calls) in [(55, "load"), (5, "load touch"), (59, "load"), (1, "load touch")] {
        rig.platform.advance(seconds);
        rig.store.calls();
        block_on(rig.sessions.commit(&mut open(&rig, &visitor))).unwrap();
        assert_eq!(rig.store.calls(), calls);
    }
    assert_eq!(visitor.read(&rig), Reply::Ok(1));
}

/// It could not be sent.
#[test]
fn nor_is_a_cookie_of_a_key_that_is_being_retired_set_anew_without_a_reply() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let rotated = rig.redeployed(&format!("next-key-0123456789abcdef01234567,{KEY}"), "{}");
    rig.store.calls();
    assert_eq!(block_on(rotated.sessions.commit(&mut open(&rotated, &visitor))).unwrap(), Vec::<String>::new());
    assert_eq!(rig.store.calls(), "load");
}
