//! A new id, and what the old one is worth after.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use edge_session::{Error, ErrorKind, Incoming, Record, Session, Store, Updated};
use pollster::block_on;
use support::{Interference, NOW, Reply, Rig, Visit, Visitor, key_of, known, stored};

#[test]
fn a_new_id_keeps_the_data_and_leaves_the_old_id_nothing() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let thief = visitor.twin();
    let (_, set_cookie) = visitor.log_in(&rig);
    assert_eq!(rig.store.calls(), "load create update", "create, then retire");
    assert!(set_cookie.is_some() && visitor.cookie != thief.cookie);
    assert_eq!(stored(&rig, &visitor).unwrap().version, 1);
    assert_eq!(visitor.count(&rig), Reply::Ok(102));
    let retired = stored(&rig, &thief).unwrap();
    assert!(!retired.data.contains("101"), "no copy of the data stays behind");
    for seconds in [0, 29, 1, 100] {
        rig.platform.advance(seconds);
        assert_eq!(thief.twin().read(&rig), Reply::Ok(0), "it reads nothing");
        thief.twin().count(&rig);
        let (_, given) = thief.twin().log_in(&rig);
        let mut own = Visitor::with(given.unwrap().split(';').next().unwrap());
        assert_eq!(own.read(&rig), Reply::Ok(100), "a session of its own, from Default");
        assert_eq!(visitor.read(&rig), Reply::Ok(102), "it changes nothing");
    }
}

#[test]
fn for_thirty_seconds_a_straggler_gets_an_empty_session_that_stores_nothing() {
    for parameters in ["{}", r#"{"ignore_expiry": false}"#] {
        let rig = Rig::with(parameters);
        let mut visitor = known(&rig);
        let straggler = visitor.twin();
        visitor.log_in(&rig);
        let records = rig.store.inside.len();
        rig.platform.advance(29);
        rig.store.calls();
        assert_eq!(straggler.twin().ask(&rig, support::count), (Reply::Ok(1), None), "{parameters}");
        let is_new = async |session: &mut Session<Visit>| Ok((session.is_new(), session.record().is_none()));
        assert_eq!(straggler.twin().ask(&rig, is_new), (Reply::Ok((true, true)), None));
        for save in [true, false] {
            let (reply, set_cookie) = straggler.twin().ask(&rig, async |session: &mut Session<Visit>| {
                let kind = if save { session.save().await } else { session.update(|visit| visit.count += 1).await };
                assert_eq!(kind.as_ref().unwrap_err().kind(), ErrorKind::Ended);
                kind
            });
            assert_eq!((reply, set_cookie), (Reply::Expired("Session expired".to_owned()), None));
        }
        assert_eq!(rig.store.calls(), "load load load load", "nothing is written");
        assert_eq!(rig.store.inside.len(), records);
    }
}

#[test]
fn after_thirty_seconds_the_old_id_is_an_unknown_one_and_its_use_is_logged_once() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let thief = visitor.twin();
    visitor.log_in(&rig);
    rig.platform.advance(29);
    thief.twin().read(&rig);
    assert_eq!(rig.platform.logged(), Vec::<String>::new(), "a straggler is no thief");
    rig.platform.advance(1);
    assert_eq!(thief.twin().count(&rig), Reply::Ok(1));
    thief.twin().read(&rig);
    let log = rig.platform.logged();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(
        log[0].starts_with("retired_id_used: RecordKey(") && log[0].contains("possibly a stolen cookie"),
        "{log:?}"
    );

    let other = known(&rig);
    other.twin().log_in(&rig);
    rig.platform.advance(30);
    other.twin().read(&rig);
    assert_eq!(rig.platform.logged().len(), 2, "and so is that of another one");

    let strict = rig.redeployed(support::KEY, r#"{"ignore_expiry": false}"#);
    assert_eq!(thief.twin().read(&strict), Reply::Expired("Session expired".to_owned()));
}

#[test]
fn a_login_that_is_sent_twice_begins_two_sessions_and_the_second_from_default() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut twice = visitor.twin();
    visitor.log_in(&rig);
    let (_, set_cookie) = twice.log_in(&rig);
    assert!(set_cookie.is_some() && twice.cookie != visitor.cookie);
    assert_eq!(visitor.read(&rig), Reply::Ok(101));
    assert_eq!(twice.read(&rig), Reply::Ok(100));
    assert_eq!(twice.count(&rig), Reply::Ok(101));
    assert_eq!(visitor.read(&rig), Reply::Ok(101), "they do not meet");
}

/// The handler runs again, on an empty session.
#[test]
fn a_request_under_way_when_the_id_is_changed_stores_nothing_any_more() {
    let rig = Rig::new();
    let visitor = RefCell::new(known(&rig));
    let mut late = visitor.borrow().twin();
    let elsewhere = rig.redeployed(support::KEY, "{}");
    let is_first = Cell::new(true);
    let (reply, set_cookie) = late.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        if is_first.replace(false) {
            visitor.borrow_mut().log_in(&elsewhere);
        }
        Ok(session.count)
    });
    assert_eq!((reply, set_cookie), (Reply::Ok(1), None));
    assert_eq!(visitor.borrow_mut().read(&rig), Reply::Ok(101));
}

#[test]
fn a_logout_ends_the_session_under_both_ids() {
    for by_the_old_id in [false, true] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        let mut old = visitor.twin();
        visitor.log_in(&rig);
        let mut leaving = if by_the_old_id { old.twin() } else { visitor.twin() };
        let (reply, set_cookie) = leaving.reset(&rig);
        assert_eq!(reply, Reply::Ok(()));
        assert!(set_cookie.unwrap().contains("Max-Age=0"));
        assert_eq!(visitor.read(&rig), Reply::Ok(0));
        assert_eq!(old.read(&rig), Reply::Ok(0));
    }
}

#[test]
fn a_logout_follows_the_session_through_several_new_ids() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut old = visitor.twin();
    for _ in 0..5 {
        visitor.log_in(&rig);
    }
    assert_eq!(old.reset(&rig).0, Reply::Ok(()));
    assert_eq!(visitor.read(&rig), Reply::Ok(0));
}

/// A logout that failed half-way, or whose answer was lost, is done by the next click. The sign to where the session went
/// stays until it has ended there.
#[test]
fn a_logout_that_has_to_be_tried_again_ends_the_session_that_moved() {
    for (after, is_done) in [(0, false), (0, true), (1, false), (1, true)] {
        for within_the_request in [false, true] {
            let rig = Rig::new();
            let mut visitor = known(&rig);
            let mut old = visitor.twin();
            visitor.log_in(&rig);
            rig.store.fail_once("delete", after, is_done);
            let (reply, _) = old.ask(&rig, async |session: &mut Session<Visit>| {
                session.kill();
                if within_the_request && session.save().await.is_err() {
                    session.save().await?;
                }
                Ok(())
            });
            if !within_the_request {
                assert_eq!(reply, Reply::Error(ErrorKind::Unavailable));
                assert_eq!(old.reset(&rig).0, Reply::Ok(()));
            }
            assert_eq!(visitor.read(&rig), Reply::Ok(0), "{after} {is_done} {within_the_request}");
        }
    }
}

/// What it asked to be stored has ended; a new id does not save it after all.
#[test]
fn a_change_of_id_after_an_update_that_met_a_login_begins_nothing() {
    let rig = Rig::new();
    let visitor = RefCell::new(known(&rig));
    let mut late = visitor.borrow().twin();
    let elsewhere = rig.redeployed(support::KEY, "{}");
    let records = Cell::new(0);
    let (reply, set_cookie) = late.ask(&rig, async |session: &mut Session<Visit>| {
        visitor.borrow_mut().log_in(&elsewhere);
        records.set(rig.store.inside.len());
        drop(session.update(|visit| visit.count += 10).await);
        session.cycle_id();
        Ok(())
    });
    assert_eq!((reply, set_cookie), (Reply::Ok(()), None));
    assert_eq!(rig.store.inside.len(), records.get(), "no second session with the first one's data");
}

#[test]
fn a_logout_by_a_thief_with_the_old_id_ends_nothing() {
    for seconds in [30, 31] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        let mut thief = visitor.twin();
        visitor.log_in(&rig);
        rig.platform.advance(seconds);
        thief.reset(&rig);
        assert_eq!(visitor.read(&rig), Reply::Ok(101));
    }
}

/// The sign to the new id is judged by when the logout loaded its session.
#[test]
fn a_logout_that_takes_longer_than_the_grace_ends_the_session_that_moved_meanwhile() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut leaving = visitor.twin();
    let (clock, elsewhere) = (rig.platform.clone(), rig.redeployed(support::KEY, "{}"));
    let moving = RefCell::new(&mut visitor);
    let (reply, _) = leaving.ask(&rig, async |session: &mut Session<Visit>| {
        moving.borrow_mut().log_in(&elsewhere);
        clock.advance(3600);
        session.kill();
        Ok(())
    });
    assert_eq!(reply, Reply::Ok(()));
    assert_eq!(visitor.read(&rig), Reply::Ok(0), "ended under the new id");
}

/// It began before the login, or the logout, and its handler runs again when the grace is over: it must not set a cookie in
/// place of the login's.
#[test]
fn a_request_that_was_under_way_at_a_login_or_a_logout_is_a_straggler_however_long_it_takes() {
    for parameters in ["{}", r#"{"ignore_expiry": false}"#] {
        for logs_out in [false, true] {
            let rig = Rig::with(parameters);
            let visitor = RefCell::new(known(&rig));
            let mut late = visitor.borrow().twin();
            let (elsewhere, clock) = (rig.redeployed(support::KEY, parameters), rig.platform.clone());
            let is_first = Cell::new(true);
            let (reply, set_cookie) = late.ask(&rig, async |session: &mut Session<Visit>| {
                session.count += 1;
                if is_first.replace(false) {
                    let mut visitor = visitor.borrow_mut();
                    if logs_out {
                        visitor.count(&elsewhere);
                        rig.store.interfere_on_load(Interference::Delete);
                    } else {
                        visitor.log_in(&elsewhere);
                    }
                    clock.advance(60);
                }
                Ok(session.count)
            });
            assert_eq!((reply, set_cookie), (Reply::Ok(1), None), "{parameters} {logs_out}");
        }
    }
}

/// The second run of its handler logs out: the session ends where it went, however late that is.
#[test]
fn a_logout_in_a_second_run_after_the_grace_follows_the_session() {
    let rig = Rig::new();
    let visitor = RefCell::new(known(&rig));
    let mut leaving = visitor.borrow().twin();
    let (elsewhere, clock, is_first) = (rig.redeployed(support::KEY, "{}"), rig.platform.clone(), Cell::new(true));
    leaving.ask(&rig, async |session: &mut Session<Visit>| {
        if is_first.replace(false) {
            session.count += 1;
            visitor.borrow_mut().log_in(&elsewhere);
            clock.advance(60);
        } else {
            session.kill();
        }
        Ok(())
    });
    assert_eq!(visitor.borrow_mut().read(&rig), Reply::Ok(0));
}

/// The handler hides that its update met a login, and logs out.
#[test]
fn a_logout_after_an_update_that_met_a_login_ends_the_session_that_moved() {
    let rig = Rig::new();
    let visitor = RefCell::new(known(&rig));
    let mut leaving = visitor.borrow().twin();
    let elsewhere = rig.redeployed(support::KEY, "{}");
    let (reply, _) = leaving.ask(&rig, async |session: &mut Session<Visit>| {
        visitor.borrow_mut().log_in(&elsewhere);
        for _ in 0..2 {
            assert_eq!(session.update(|visit| visit.count += 1).await.unwrap_err().kind(), ErrorKind::Ended);
        }
        session.kill();
        Ok(())
    });
    assert_eq!(reply, Reply::Ok(()));
    assert_eq!(visitor.borrow_mut().read(&rig), Reply::Ok(0));
    let log = rig.platform.logged();
    assert_eq!(log.iter().filter(|line| line.starts_with("changes_dropped: ")).count(), 1, "{log:?}");
}

#[test]
fn a_new_id_for_a_session_killed_meanwhile_revives_nothing() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Delete]);
    let (reply, set_cookie) = visitor.log_in(&rig);
    assert_eq!((reply, set_cookie), (Reply::Ok(()), None));
    assert!(rig.store.inside.is_empty());
    let log = rig.platform.logged();
    assert!(log.len() == 1 && log[0].starts_with("changes_dropped: "), "and there is no id to tell: {log:?}");
}

#[test]
fn a_new_id_takes_no_kill_back() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.kill();
        session.cycle_id();
        Ok(())
    });
    assert!(rig.store.inside.is_empty() && visitor.cookie.is_none());
}

#[test]
fn a_new_id_that_loses_the_race_is_taken_again_and_leaves_nothing_behind() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    visitor.log_in(&rig);
    assert_eq!(visitor.read(&rig), Reply::Ok(110));
    assert_eq!(rig.store.inside.len(), 2, "the session, and what is left of the old id");
}

#[test]
fn a_new_session_has_a_new_id_anyway() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    visitor.log_in(&rig);
    assert_eq!(rig.store.calls(), "create");
    assert_eq!(visitor.read(&rig), Reply::Ok(100));
}

#[test]
fn a_new_session_that_is_saved_before_the_handler_is_done_is_created_once_and_not_moved() {
    let rig = Rig::new();
    let gone = known(&rig);
    gone.twin().reset(&rig);
    for (mut visitor, calls) in [(Visitor::default(), "create update"), (gone, "load create update")] {
        rig.store.calls();
        visitor.ask(&rig, async |session: &mut Session<Visit>| {
            session.cycle_id();
            session.save().await?;
            session.count += 1;
            session.save().await
        });
        assert_eq!(rig.store.calls(), calls);
    }
}

#[test]
fn a_new_id_without_another_change_leaves_the_stored_data_as_it_is() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let text = r#"{ "count":1, "of_another_release":[true] }"#;
    let record = stored(&rig, &visitor).unwrap().with(|record| {
        record.version = 2;
        record.data = text.to_owned();
    });
    assert_eq!(block_on(rig.store.inside.update(&key_of(&visitor), &record)).unwrap(), Updated::Done);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.cycle_id();
        Ok(())
    });
    assert_eq!(stored(&rig, &visitor).unwrap().data, text);
}

#[test]
fn a_handler_that_fails_gets_no_new_id() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.cycle_id();
        Err::<(), _>(Error::new(ErrorKind::Unavailable, "no"))
    });
    assert_eq!(rig.store.calls(), "load");
    assert_eq!(visitor.read(&rig), Reply::Ok(1));
}

/// What arrives late is under an id then that nobody was told, and that no logout has to find.
#[test]
fn a_session_whose_creation_has_no_answer_is_created_under_another_id() {
    for is_done in [true, false] {
        let rig = Rig::new();
        rig.store.lose_connections();
        rig.store.fail_once("create", 0, is_done);
        let mut visitor = Visitor::default();
        assert_eq!(visitor.count(&rig), Reply::Ok(1));
        assert_eq!(rig.store.calls(), "create delete create", "what the first one may have left is deleted");
        assert_eq!((rig.store.inside.len(), visitor.read(&rig)), (1, Reply::Ok(1)));
        let before = visitor.twin();
        rig.store.calls();
        rig.store.fail_once("create", 0, is_done);
        assert_eq!(visitor.log_in(&rig).0, Reply::Ok(()));
        assert_eq!(rig.store.calls(), "load create load delete create update");
        let successor = stored(&rig, &before).unwrap().successor.unwrap();
        assert_eq!((rig.store.inside.len(), successor.key), (2, key_of(&visitor)));
        assert_eq!(before.twin().reset(&rig).0, Reply::Ok(()), "a logout finds it");
        assert_eq!(visitor.read(&rig), Reply::Ok(0));
        assert_eq!(rig.platform.logged(), Vec::<String>::new());
    }
}

#[test]
fn nothing_is_created_again_that_failed_otherwise_and_nothing_more_than_twice() {
    for (loses_connections, calls) in [(false, "create"), (true, "create delete create delete create")] {
        let rig = Rig::new();
        if loses_connections {
            rig.store.lose_connections();
        }
        rig.store.fail("create");
        let mut visitor = Visitor::default();
        assert_eq!(visitor.count(&rig), Reply::Error(ErrorKind::Unavailable));
        assert_eq!((rig.store.calls().as_str(), visitor.cookie), (calls, None));
    }
    let rig = Rig::new();
    rig.store.lose_connections();
    rig.store.fail_once("create", 0, true);
    rig.store.fail("delete");
    assert_eq!(Visitor::default().count(&rig), Reply::Error(ErrorKind::Unavailable));
    assert_eq!(rig.store.calls(), "create delete", "nor where nothing can be deleted");
    let rig = Rig::new();
    rig.store.lose_connections();
    rig.store.fail_once("create", 0, false);
    rig.store.hang("delete");
    let incoming = Incoming::new();
    let count = pin!(rig.sessions.run(&incoming, support::count));
    let Poll::Ready(counted) = count.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("nor does anybody wait for what hangs")
    };
    assert_eq!(counted.unwrap_err().kind(), ErrorKind::Unavailable);
    let deadlines = rig.platform.slept().into_iter().filter(|pause| *pause == 5000).count();
    assert!(deadlines <= 2, "or for longer than for one call");
}

/// The old id may be retired already, in favour of the first new one.
#[test]
fn a_change_of_id_whose_second_step_has_no_answer_is_not_done_again() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.lose_connections();
    rig.store.lose("update");
    assert_eq!(visitor.log_in(&rig).0, Reply::Error(ErrorKind::Unavailable));
    assert_eq!(rig.store.calls(), "load create update");
}

/// The session may have moved; its visitor comes with the old id, which is worth nothing then.
#[test]
fn a_login_whose_answer_is_lost_is_an_error_and_the_log_says_so() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.lose("update");
    assert_eq!(visitor.log_in(&rig), (Reply::Error(ErrorKind::Unavailable), None));
    rig.store.lose("");
    let log = rig.platform.logged();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(
        log[0].starts_with("id_untold: RecordKey(") && log[0].contains("its visitor has not been told the id"),
        "{log:?}"
    );
    assert_eq!(visitor.read(&rig), Reply::Ok(0), "they log in again");
    assert_eq!(visitor.log_in(&rig).0, Reply::Ok(()));
    assert_eq!(visitor.read(&rig), Reply::Ok(100));
}

/// A record that the first release retired leads nowhere either, but for a logout.
#[test]
fn a_record_that_an_earlier_release_retired_is_retired() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let mut old = visitor.twin();
    visitor.log_in(&rig);
    let retired = stored(&rig, &old).unwrap();
    let until = NOW + 10;
    let text = retired.to_text().replace(&format!(" {} ", NOW + 30), &format!(" {until} "));
    let of_before = Record::from_text(&text).unwrap().with(|record| record.version = retired.version + 1);
    assert_eq!(block_on(rig.store.inside.update(&key_of(&old), &of_before)).unwrap(), Updated::Done);
    assert_eq!(old.twin().ask(&rig, support::count), (Reply::Ok(1), None));
    old.reset(&rig);
    assert_eq!(visitor.read(&rig), Reply::Ok(0));
}

/// The handler's own error has no reply of ours to carry the cookie.
#[test]
fn a_failure_after_the_save_of_a_new_id_tells_the_id_or_is_logged() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Failure {
        Handler,
        Store,
        Race,
        /// The handler's `Err` undoes the end as well.
        End,
        EndOfStore,
    }
    for begin in [known, |_: &Rig| Visitor::default()] {
        for failure in [Failure::Handler, Failure::Store, Failure::Race, Failure::End, Failure::EndOfStore] {
            let rig = Rig::new();
            let mut visitor = begin(&rig);
            let spy = rig.store.clone();
            let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
                session.cycle_id();
                session.save().await?;
                session.count += 1;
                match failure {
                    Failure::Handler => return Err(Error::new(ErrorKind::Unavailable, "no")),
                    Failure::Store => spy.fail("update"),
                    Failure::Race => spy.interfere(&[Interference::Update(r#"{"count":10}"#)]),
                    Failure::End => {
                        session.kill();
                        return Err(Error::new(ErrorKind::Unavailable, "no"));
                    }
                    Failure::EndOfStore => {
                        session.kill();
                        spy.fail("delete");
                    }
                }
                Ok(())
            });
            assert_ne!(reply, Reply::Ok(()));
            let is_told = set_cookie.is_some();
            let is_by_handler = matches!(failure, Failure::Handler | Failure::End);
            let log = rig.platform.logged().join("\n");
            assert_eq!(is_told, !is_by_handler, "{failure:?}");
            assert_eq!(log.contains("its visitor has not been told the id"), !is_told, "{failure:?}: {log}");
            spy.fail("");
            if is_told {
                assert!(stored(&rig, &visitor).unwrap().successor.is_none(), "{failure:?}: it is the new one");
            }
        }
    }
}

/// By a time limit around it, or within it.
#[test]
fn a_request_that_is_given_up_with_a_new_id_is_logged() {
    for signs_in in [false, true] {
        for within_the_write in [false, true] {
            let rig = Rig::new();
            let visitor = known(&rig);
            let (store, patient) = (rig.store.clone(), rig.patient());
            let handler = async |session: &mut Session<Visit>| {
                if signs_in {
                    session.sign_in("ada")?;
                } else {
                    session.cycle_id();
                }
                if within_the_write {
                    store.hang(if signs_in { "change_id_for" } else { "update" });
                }
                session.save().await?;
                pending::<()>().await;
                Ok::<_, Error>(())
            };
            support::begin_and_leave(patient.run(&Incoming::new().cookie(visitor.cookie.as_deref()), handler));
            let log = rig.platform.logged();
            assert!(log.len() == 1 && log[0].starts_with("id_untold: "), "{log:?}");
        }
    }
}

#[test]
fn a_new_id_that_was_told_or_has_ended_is_not_logged() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    for ends in [false, true] {
        visitor.ask(&rig, async |session: &mut Session<Visit>| {
            session.cycle_id();
            session.save().await?;
            if ends {
                session.kill();
            }
            Ok(())
        });
    }
    assert_eq!(rig.platform.logged(), Vec::<String>::new());
}

/// What the reply tells is one id, and what the store may have another.
#[test]
fn what_is_told_or_ended_of_one_id_says_nothing_of_another() {
    // The first id is told, and is retired by then.
    let rig = Rig::new();
    let spy = rig.store.clone();
    let (reply, set_cookie) = Visitor::default().ask(&rig, async |session: &mut Session<Visit>| {
        session.save().await?;
        session.cycle_id();
        spy.lose("update");
        drop(session.save().await);
        spy.lose("");
        Ok(())
    });
    assert!(reply == Reply::Ok(()) && set_cookie.is_some());
    assert!(rig.platform.logged().iter().any(|line| line.starts_with("id_untold: ")), "{:?}", rig.platform.logged());
    // A dead session is ended, and a new one may have begun.
    let rig = Rig::new();
    let spy = rig.store.clone();
    let mut visitor = known(&rig);
    visitor.twin().reset(&rig);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.sign_in("ada")?;
        spy.lose(if cfg!(feature = "users") { "create_for" } else { "create" });
        drop(session.save().await);
        spy.lose("");
        session.kill();
        Ok(())
    });
    assert!(rig.platform.logged().iter().any(|line| line.starts_with("id_untold: ")), "{:?}", rig.platform.logged());
    // One that has ended elsewhere is none that its visitor is to be told.
    let rig = Rig::new();
    let spy = rig.store.clone();
    Visitor::default().ask(&rig, async |session: &mut Session<Visit>| {
        session.save().await?;
        spy.interfere(&[Interference::Delete]);
        session.count += 1;
        Ok(())
    });
    assert!(rig.platform.logged().iter().all(|line| !line.starts_with("id_untold: ")), "{:?}", rig.platform.logged());
}

#[test]
fn a_failure_after_a_save_under_the_visitors_own_id_is_the_handlers_matter() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.save().await?;
        Err::<(), _>(Error::new(ErrorKind::Unavailable, "no"))
    });
    assert_eq!(visitor.read(&rig), Reply::Ok(2), "what was saved stays");
    assert!(rig.platform.logged().is_empty());
}
