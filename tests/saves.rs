//! Saves that tell the truth: what was asked to be saved, and what of it is stored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use std::cell::Cell;
use std::rc::Rc;

use edge_session::{Effect, Error, ErrorKind, Incoming, Outcome, Session, Store, Updated};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use support::{Interference, KEY, Reply, Rig, Visit, Visitor, key_of, known, stored};

fn expired<R>() -> Reply<R> {
    Reply::Expired("Session expired".to_owned())
}

// A session that ends while a handler asks for a save.

#[test]
fn a_save_or_an_update_of_a_session_killed_meanwhile_says_ended_and_is_answered_401() {
    for save in [true, false] {
        let rig = Rig::with(r#"{"expired_message": "Bye"}"#);
        let mut visitor = known(&rig);
        rig.store.interfere(&[Interference::Delete]);
        let delivered = Cell::new(0);
        let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
            if save {
                session.count += 1;
                session.save().await?;
            } else {
                session.update(|visit| visit.count += 1).await?;
            }
            delivered.set(delivered.get() + 1);
            Ok(())
        });
        assert_eq!(
            (reply, set_cookie),
            (Reply::Expired("Bye".to_owned()), None),
            "its cookie is another reply's matter"
        );
        assert_eq!(delivered.get(), 0, "what follows the save does not happen");
        assert!(rig.store.inside.is_empty());
        assert_eq!(visitor.timing.effect, Effect::Created, "no reply of the handler's");
    }
}

#[test]
fn what_a_handler_did_not_ask_to_be_saved_is_dropped_when_the_session_was_killed_and_its_reply_goes_out() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Delete]);
    assert_eq!(visitor.ask(&rig, support::count), (Reply::Ok(2), None));
    let log = rig.platform.logged();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].starts_with("changes_dropped: RecordKey("), "{log:?}");
}

#[test]
fn a_session_that_ended_stays_ended_for_the_rest_of_the_handler() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Delete]);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        for _ in 0..2 {
            assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Ended);
            assert_eq!(session.update(|_| panic!("it has ended")).await.unwrap_err().kind(), ErrorKind::Ended);
        }
        assert!(session.record().is_none());
        session.kill();
        session.save().await
    });
    assert!(rig.store.inside.is_empty());
}

/// The second run of its handler finds that the session has ended, and its reply goes out.
#[test]
fn what_a_handler_wants_of_a_session_that_has_ended_is_dropped_and_the_log_says_so() {
    enum Wants {
        AnUpdate,
        ANewId,
        ALabel,
    }
    for wants in [Wants::AnUpdate, Wants::ANewId, Wants::ALabel] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        rig.store.interfere(&[Interference::UpdateAndDelete(r#"{"count":10}"#)]);
        let is_first = Cell::new(true);
        let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
            if is_first.replace(false) {
                session.count += 1;
                return Ok(());
            }
            match wants {
                Wants::AnUpdate => drop(session.update(|_| panic!("it has ended")).await),
                Wants::ANewId => session.cycle_id(),
                Wants::ALabel => session.set_label("Firefox"),
            }
            Ok(())
        });
        assert_eq!((reply, visitor.timing.effect), (Reply::Ok(()), Effect::Dropped));
        let log = rig.platform.logged();
        assert_eq!(log.iter().filter(|line| line.starts_with("changes_dropped: ")).count(), 1, "{log:?}");
    }
}

#[test]
fn an_update_after_a_kill_says_ended() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.kill();
        assert_eq!(session.update(|visit| visit.count += 1).await.unwrap_err().kind(), ErrorKind::Ended);
        Ok(())
    });
    assert_eq!(reply, Reply::Ok(()));
    assert!(rig.store.inside.is_empty());
}

/// Where nothing has changed, what is asked of the store is a note, if one is due: of a use, or of the visitor's address. At the
/// end nobody asks, and nothing is dropped.
#[test]
fn a_save_that_finds_by_its_note_that_the_session_was_killed_says_ended() {
    enum Asks {
        ToSave,
        ToUpdate,
        Nothing,
    }
    for parameters in [r#"{"touch_after": 10}"#, r#"{"ignore_change_ip": false}"#] {
        for asks in [Asks::ToSave, Asks::ToUpdate, Asks::Nothing] {
            for between_load_and_update in [false, true] {
                let rig = Rig::new();
                let mut visitor = Visitor::at("192.0.2.1");
                visitor.count(&rig);
                rig.platform.advance(10);
                let (rig, elsewhere) = (rig.redeployed(KEY, parameters), rig.redeployed(KEY, "{}"));
                let (reply, _) = visitor.twin().ask(&rig, async |session: &mut Session<Visit>| {
                    if between_load_and_update {
                        rig.store.interfere(&[Interference::Delete]);
                        rig.store.interfere_on_touch();
                    } else {
                        visitor.twin().reset(&elsewhere);
                    }
                    match asks {
                        Asks::ToSave => session.save().await,
                        Asks::ToUpdate => session.update(|_| ()).await,
                        Asks::Nothing => Ok(()),
                    }
                });
                let is_asked = !matches!(asks, Asks::Nothing);
                assert_eq!(reply, if is_asked { expired() } else { Reply::Ok(()) }, "{parameters}");
                let log = rig.platform.logged();
                assert_eq!(log.iter().any(|line| line.starts_with("changes_dropped: ")), is_asked, "{log:?}");
            }
        }
    }
}

#[test]
fn a_save_after_the_absolute_timeout_says_ended_and_the_handlers_reply_goes_out() {
    for asks in [true, false] {
        let rig = Rig::with(r#"{"timeout": 100, "absolute_timeout": 150}"#);
        let mut visitor = known(&rig);
        rig.platform.advance(90);
        let clock = rig.platform.clone();
        let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
            clock.advance(60);
            session.count += 1;
            if asks { session.save().await } else { Ok(()) }
        });
        assert_eq!(reply, if asks { expired() } else { Reply::Ok(()) });
        assert_eq!(visitor.timing.effect, if asks { Effect::Created } else { Effect::Dropped });
    }
}

#[test]
fn a_change_that_is_too_large_is_taken_back_and_the_handlers_own_reply_goes_out() {
    let rig = Rig::with(r#"{"max_data": 30}"#);
    let mut visitor = Visitor::default();
    let add = async |shop: &mut Session<Shop>| match shop.update(|shop| shop.basket.push("x".repeat(9))).await {
        Err(error) if error.kind() == ErrorKind::TooLarge => Ok(("the basket is full", shop.basket.len())),
        added => added.map(|()| ("added", shop.basket.len())),
    };
    assert_eq!(visitor.ask(&rig, add).0, Reply::Ok(("added", 1)));
    assert_eq!(visitor.ask(&rig, add).0, Reply::Ok(("the basket is full", 1)));
}

/// It was about to be applied again to what another request had stored; of it nothing is stored.
#[test]
fn a_handler_whose_update_was_too_large_in_the_end_may_run_again() {
    let rig = Rig::with(r#"{"max_data": 30}"#);
    let mut visitor = Visitor::default();
    visitor.ask(&rig, async |shop: &mut Session<Shop>| {
        shop.basket.push("a".to_owned());
        Ok(())
    });
    let runs = Cell::new(0);
    rig.store.interfere(&[Interference::Update(r#"{"basket":["abcdefgh"]}"#)]);
    let (reply, _) = visitor.ask(&rig, async |shop: &mut Session<Shop>| {
        runs.set(runs.get() + 1);
        let added = shop.update(|shop| shop.basket.push("x".repeat(9))).await;
        assert_eq!(added.unwrap_err().kind(), ErrorKind::TooLarge);
        if runs.get() == 1 {
            rig.store.interfere(&[Interference::Update(r#"{"basket":["abcdefghi"]}"#)]);
        }
        shop.basket.pop();
        Ok("full")
    });
    assert_eq!((reply, runs.get()), (Reply::Ok("full"), 2));
}

#[derive(Default, Serialize, Deserialize)]
struct Shop {
    basket: Vec<String>,
}

/// The cookbook's order, while the visitor logs out: the goods are delivered at most once, and never after the logout.
#[test]
fn an_order_under_way_when_the_visitor_logs_out_delivers_nothing() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    visitor.ask(&rig, async |shop: &mut Session<Shop>| {
        shop.basket.push("tea".to_owned());
        Ok(())
    });
    let elsewhere = rig.redeployed(KEY, "{}");
    let (delivered, is_first) = (Cell::new(0), Cell::new(true));
    let mut ordering = visitor.twin();
    let (reply, _) = ordering.ask(&rig, async |shop: &mut Session<Shop>| {
        let basket = std::mem::take(&mut shop.basket);
        if is_first.replace(false) {
            visitor.twin().reset(&elsewhere);
        }
        shop.save().await?;
        delivered.set(delivered.get() + basket.len());
        Ok(())
    });
    assert_eq!((reply, delivered.get()), (expired(), 0));
}

/// One voucher, ten requests that have loaded it, and a logout at half time.
#[test]
fn a_voucher_is_spent_at_most_once() {
    for with_a_logout in [false, true] {
        let rig = Rig::new();
        let mut visitor = Visitor::default();
        visitor.ask(&rig, async |session: &mut Session<Visit>| {
            session.count = 1;
            Ok(())
        });
        let goods = Cell::new(0);
        let rigs: Vec<Rig> = (0..10).map(|_| rig.redeployed(KEY, "{}")).collect();
        /// Loads, lets the others load (within its handler, each by sessions of its own), then takes.
        fn order(rigs: &[Rig], visitor: &Visitor, goods: &Cell<u32>, logout: &Rig, with_a_logout: bool) {
            let Some((rig, rest)) = rigs.split_first() else {
                if with_a_logout {
                    visitor.twin().reset(logout);
                }
                return;
            };
            let has_gone_on = Cell::new(false);
            visitor.twin().ask(rig, async |session: &mut Session<Visit>| {
                if !has_gone_on.replace(true) {
                    order(rest, visitor, goods, logout, with_a_logout);
                }
                let took = session
                    .update(|visit| {
                        let one = visit.count.min(1);
                        visit.count -= one;
                        one
                    })
                    .await?;
                goods.set(goods.get() + u32::try_from(took).unwrap());
                Ok(())
            });
        }
        order(&rigs, &visitor, &goods, &rig, with_a_logout);
        assert_eq!(goods.get(), u32::from(!with_a_logout));
    }
}

// A write of which nobody knows whether it was stored.

/// A visitor whose next `update` loses its race, to what cannot be loaded then.
fn loses_and_cannot_load() -> (Rig, Visitor) {
    let rig = Rig::new();
    let visitor = known(&rig);
    rig.store.tell_no_winner();
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    rig.store.fail_once("load", 1, false);
    (rig, visitor)
}

/// The handler is told, and runs once, and no part of its change is left for the commit at the end.
#[test]
fn an_update_that_could_not_load_the_session_again_runs_its_handler_once() {
    let ((rig, mut visitor), runs) = (loses_and_cannot_load(), Cell::new(0));
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        let refused = session.update(|visit| visit.count += 1).await.unwrap_err();
        assert_eq!((refused.kind(), session.count), (ErrorKind::Unavailable, 1));
        Ok("later")
    });
    assert_eq!((reply, runs.get()), (Reply::Ok("later"), 1));
    assert_eq!(stored(&rig, &visitor).unwrap().data, r#"{"count":10}"#);
}

/// What it changes after that would be stored over what it has not seen, and is refused.
#[test]
fn a_handler_that_goes_on_after_such_an_update_runs_once_as_well() {
    let ((rig, mut visitor), runs) = (loses_and_cannot_load(), Cell::new(0));
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        session.update(|visit| visit.count += 1).await.unwrap_err();
        session.count = 7;
        Ok(())
    });
    assert_eq!((reply, runs.get()), (Reply::Error(ErrorKind::Contended), 1));
    assert_eq!(stored(&rig, &visitor).unwrap().data, r#"{"count":10}"#);
}

/// A handler may have a time limit of its own.
#[test]
fn an_update_that_its_handler_waits_for_no_longer_runs_its_handler_once() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let runs = Cell::new(0);
    rig.store.tell_no_winner();
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    let store = rig.store.clone();
    let patient = rig.patient();
    let handler = async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        // The answer to its second load does not come.
        store.hang("load");
        support::begin_and_leave(session.update(|visit| visit.count += 1));
        store.hang("");
        Ok::<_, Error>(session.count)
    };
    let outcome = block_on(patient.run(&Incoming::new().cookie(visitor.cookie.as_deref()), handler));
    assert!(matches!(outcome, Ok(Outcome::Replied { reply: 1, .. })), "{outcome:?}");
    assert_eq!(runs.get(), 1);
    assert_eq!(stored(&rig, &visitor).unwrap().data, r#"{"count":10}"#);
    assert_eq!(visitor.count(&rig), Reply::Ok(11));
}

/// Nobody has told it what became of the save, so that its visitor is.
#[test]
fn a_save_that_its_handler_waits_for_no_longer_is_a_503() {
    for later in [0, 100] {
        for known_before in [true, false] {
            let rig = Rig::new();
            let visitor = if known_before { known(&rig) } else { Visitor::default() };
            let (store, patient) = (rig.store.clone(), rig.patient());
            let handler = async |session: &mut Session<Visit>| {
                session.count += 1;
                store.hang(if known_before { "update" } else { "create" });
                support::begin_and_leave(session.save());
                store.hang("");
                session.count += later;
                Ok::<_, Error>(())
            };
            let outcome = block_on(patient.run(&Incoming::new().cookie(visitor.cookie.as_deref()), handler));
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
        }
    }
}

/// The second save has told it.
#[test]
fn a_handler_that_is_told_by_another_save_answers_as_it_likes() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let (store, patient) = (rig.store.clone(), rig.patient());
    let handler = async |session: &mut Session<Visit>| {
        session.count += 1;
        store.hang("update");
        support::begin_and_leave(session.save());
        store.hang("");
        Ok::<_, Error>(session.save().await.is_err())
    };
    let outcome = block_on(patient.run(&Incoming::new().cookie(visitor.cookie.as_deref()), handler));
    assert!(matches!(outcome, Ok(Outcome::Replied { reply: true, .. })), "{outcome:?}");
}

/// What was never sent is not pending.
#[test]
fn an_update_that_fails_before_its_write_is_taken_back() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let is_over = Rc::new(Cell::new(false));
    let ends = Rc::clone(&is_over);
    let drawing = rig.drawing(move |bytes| {
        bytes.fill(7);
        if ends.get() { Err(Error::new(ErrorKind::Unavailable, "no random bytes")) } else { Ok(()) }
    });
    let (reply, _) = visitor.ask(&drawing, async |session: &mut Session<Visit>| {
        is_over.set(true);
        let refused = session.update(|visit| visit.count += 1).await.unwrap_err();
        is_over.set(false);
        Ok((refused.kind(), session.count))
    });
    assert_eq!(reply, Reply::Ok((ErrorKind::Unavailable, 1)));
    assert_eq!(visitor.read(&rig), Reply::Ok(1));
}

/// It may be the next release's.
#[test]
fn an_update_that_meets_data_that_cannot_be_read_stores_nothing_over_it() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":"ten"}"#)]);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        let refused = session.update(|visit| visit.count += 1).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unreadable);
        assert!(refused.to_string().starts_with("RecordKey("), "{refused}");
        session.count = 7;
        Ok("mended")
    });
    assert_eq!(reply, Reply::Ok("mended"));
    let log = rig.platform.logged().join("\n");
    assert!(!log.contains("ended while a request was in flight"), "it has not: {log}");
    assert_eq!(stored(&rig, &visitor).unwrap().data, r#"{"count":"ten"}"#);
}

#[test]
fn a_write_whose_answer_is_lost_is_not_done_again_by_the_same_request() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let spy = rig.store.clone();
    for swallows in [false, true] {
        rig.store.calls();
        let before = stored(&rig, &visitor).unwrap().version;
        let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
            session.count += 1;
            spy.lose("update");
            let saved = session.save().await;
            spy.lose("");
            assert_eq!(saved.as_ref().unwrap_err().kind(), ErrorKind::Unavailable);
            if !swallows {
                return saved;
            }
            session.count += 100;
            assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Unavailable);
            assert_eq!(session.update(|visit| visit.count += 100).await.unwrap_err().kind(), ErrorKind::Unavailable);
            Ok(())
        });
        assert_eq!(reply, if swallows { Reply::Ok(()) } else { Reply::Error(ErrorKind::Unavailable) });
        assert_eq!(rig.store.calls(), "load update");
        assert_eq!(stored(&rig, &visitor).unwrap().version, before + 1, "applied once");
    }
    assert_eq!(visitor.read(&rig), Reply::Ok(3));
}

#[test]
fn a_logout_is_possible_after_a_failed_save() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let spy = rig.store.clone();
    let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        spy.lose("update");
        drop(session.save().await);
        spy.lose("");
        session.kill();
        Ok(())
    });
    assert_eq!(reply, Reply::Ok(()));
    assert!(set_cookie.unwrap().contains("Max-Age=0"));
    assert!(rig.store.inside.is_empty());
}

#[test]
fn a_handler_that_goes_on_after_a_failed_save_has_its_own_error_and_the_log_has_both() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.fail("update");
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        if session.save().await.is_err() {
            return Err(Error::new(ErrorKind::Unreadable, "the handler's own"));
        }
        Ok(())
    });
    assert_eq!(reply, Reply::Failed("the handler's own".to_owned()));
    let log = rig.platform.logged();
    assert_eq!(log, ["failure_ignored: a save failed, and its handler went on: unavailable: disk on fire in rack 7"]);
}

/// Also in an error type of its own, or one that takes any.
#[test]
fn a_failed_save_that_the_handler_returns_is_answered_as_what_it_is() {
    #[derive(Debug)]
    enum Own {
        #[expect(dead_code, reason = "it is held, and not looked at")]
        Session(Error),
    }
    let rig = Rig::new();
    let visitor = known(&rig);
    rig.store.fail("update");
    let incoming = Incoming::new().cookie(visitor.cookie.as_deref());
    let own = block_on(rig.sessions.run(&incoming, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.save().await.map_err(Own::Session)
    }));
    assert_eq!(own.unwrap_err().kind(), ErrorKind::Unavailable);
    let any = block_on(rig.sessions.run(&incoming, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.save().await?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
    }));
    assert_eq!(any.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(rig.platform.logged(), Vec::<String>::new(), "whoever answers it logs it");
}

/// Whichever of several it returns.
#[test]
fn the_first_of_two_failed_saves_that_the_handler_returns_is_answered_as_what_it_is() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.fail("update");
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        let Err(first) = session.save().await else { return Ok(()) };
        if session.save().await.is_err() { Err(first) } else { Ok(()) }
    });
    assert_eq!(reply, Reply::Error(ErrorKind::Unavailable));
    rig.store.fail("");
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        let Err(first) = session.save().await else { return Ok(session.count) };
        if session.save().await.is_err() { Err(first) } else { Ok(0) }
    });
    assert_eq!(reply, Reply::Ok(11), "run again");
}

#[test]
fn a_failed_save_that_the_handler_has_dealt_with_is_no_log_line() {
    let rig = Rig::with(r#"{"max_data": 20}"#);
    let mut visitor = known(&rig);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count = u64::MAX;
        assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::TooLarge);
        session.count = 7;
        session.save().await
    });
    assert_eq!(reply, Reply::Ok(()));
    assert_eq!(rig.platform.logged(), Vec::<String>::new());
    assert_eq!(visitor.read(&rig), Reply::Ok(7));
}

/// It returns the first of two errors, of which the second one said that the session has ended.
#[test]
fn a_handler_that_runs_again_for_a_race_that_was_lost_before_the_end_finds_the_end() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.ask(&rig, async |session: &mut Session<Visit>| session.sign_in("ada"));
    let (elsewhere, is_first) = (rig.redeployed(KEY, "{}"), Cell::new(true));
    let (reply, _) = visitor.twin().ask(&rig, async |session: &mut Session<Visit>| {
        if !is_first.replace(false) {
            return Ok(session.user().map(str::to_owned));
        }
        session.count += 1;
        visitor.twin().count(&elsewhere);
        let lost = session.save().await.unwrap_err();
        visitor.twin().reset(&elsewhere);
        assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Ended);
        Err(lost)
    });
    assert_eq!(reply, Reply::Ok(None));
}

#[test]
fn a_lost_race_that_the_handler_hides_is_found_at_its_end() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":10}"#)]);
    let runs = Cell::new(0);
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        session.count += 1;
        drop(session.save().await);
        Ok(session.count)
    });
    assert_eq!((reply, runs.get()), (Reply::Ok(11), 2));
    assert_eq!(visitor.read(&rig), Reply::Ok(11));
}

// A handler within a handler.

#[test]
fn a_handler_that_serves_its_own_request_once_more_is_told_so_at_once() {
    let rig = Rig::new();
    for visitor in [known(&rig), Visitor::default()] {
        rig.store.calls();
        let url = Some("https://example.com/");
        let incoming = Incoming::new().cookie(visitor.cookie.as_deref()).url(url);
        let outcome = block_on(rig.sessions.run(&incoming, async |session: &mut Session<Visit>| {
            session.count += 1;
            rig.sessions.run(&incoming, support::count).await.map(|_| ())
        }));
        let Ok(Outcome::Failed(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((error.kind(), error.status()), (ErrorKind::Nested, 500));
        assert!(matches!(rig.store.calls().as_str(), "load" | ""), "nothing is written, and nothing runs again");
    }
}

#[test]
fn concurrent_requests_and_other_kinds_of_session_are_no_nesting() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let other_kind = rig.redeployed(KEY, r#"{"cookie_name": "other"}"#);
    let incoming = Incoming::new().cookie(visitor.cookie.as_deref());
    let outcome = block_on(rig.sessions.run(&incoming, async |session: &mut Session<Visit>| {
        session.count += 1;
        other_kind.sessions.run(&incoming, support::count).await.map(|_| ())
    }));
    assert!(matches!(outcome, Ok(Outcome::Replied { .. })), "{outcome:?}");
    // A first visit's handler that begins another visitor's session.
    let outcome = block_on(rig.sessions.run(&Incoming::default(), async |session: &mut Session<Visit>| {
        session.count += 1;
        rig.sessions.run(&Incoming::default(), support::count).await.map(|_| ())
    }));
    assert!(matches!(outcome, Ok(Outcome::Replied { .. })), "{outcome:?}");
    // Two requests at once, each of which waits in its handler while the other one runs.
    let request = async || {
        let waits = async |session: &mut Session<Visit>| {
            session.count += 1;
            support::step_aside().await;
            Ok::<_, Error>(session.count)
        };
        rig.sessions.run(&incoming, waits).await
    };
    let both = block_on(support::both(request(), request()));
    assert!(matches!(both, (Ok(Outcome::Replied { .. }), Ok(Outcome::Replied { .. }))), "{both:?}");
    // After a handler that was dropped while it waited, no mark is left.
    support::begin_and_leave(request());
    assert!(matches!(block_on(request()), Ok(Outcome::Replied { .. })));
}

#[test]
fn an_update_that_another_release_makes_meanwhile_is_kept() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let first = stored(&rig, &visitor).unwrap();
    let mut next = first.with(|next| next.version = 2);
    next.extensions.set("owner", "7").unwrap();
    assert_eq!(block_on(rig.store.inside.update(&key_of(&visitor), &next)).unwrap(), Updated::Done);
    visitor.count(&rig);
    assert_eq!(stored(&rig, &visitor).unwrap().extensions.get("owner"), Some("7"), "what it noted is written back");
    visitor.log_in(&rig);
    assert_eq!(stored(&rig, &visitor).unwrap().extensions.get("owner"), Some("7"), "and goes with the session");
}
