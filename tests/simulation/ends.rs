//! Logouts and changes of id that an isolate, a place or a request under way does not see yet.

use std::cell::{Cell, RefCell};

use edge_session::store::simulated_kv::Ordered;
use edge_session::{KvFailure, KvNamespace, KvStore, Record, Session, SessionId, Store, Updated};

use crate::browser::Browser;
use crate::clock::NOW;
use crate::stage::{COOKIE, Stage, Visit, count, log_in, save};

fn log_out(session: &mut Session<Visit>) {
    session.kill();
}

/// A save that waits for its second, and what another request does meanwhile.
fn saves_while(other: impl Fn(&mut Session<Visit>)) -> Result<u64, u16> {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    assert_eq!(stage.count(&here), Ok(2));
    stage.wait(300);
    let sent = stage.header();
    let saved = RefCell::new(None);
    stage.clock.run(vec![
        Box::pin(async { *saved.borrow_mut() = Some(stage.ask_to(&here, &sent, save).await) }),
        Box::pin(async {
            stage.clock.pause(100).await;
            assert!(stage.ask(&here, &sent, &other).await.count.is_ok());
        }),
    ]);
    saved.into_inner().unwrap().count
}

#[test]
fn a_save_that_waits_while_its_session_is_killed_is_told_so() {
    assert_eq!(saves_while(log_out), Err(401));
}

#[test]
fn a_save_that_waits_while_the_id_is_changed_is_done() {
    assert_eq!(saves_while(log_in), Ok(3), "it went along");
}

/// A load that began before a logout, and whose answer comes after it.
#[test]
fn a_late_load_does_not_undo_an_end() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    let sent = stage.header();
    stage.kv.order("get session:", Ordered::Takes(2_000));
    stage.clock.run(vec![
        Box::pin(async { drop(stage.ask(&here, &sent, &|_| {}).await) }),
        Box::pin(async {
            stage.clock.pause(100).await;
            // This place does not see the mark at once.
            stage.kv.freeze(0);
            assert!(stage.ask(&here, &sent, &log_out).await.count.is_ok());
        }),
    ]);
    // The logout's reply has come; this isolate made it.
    assert_eq!(stage.send(&here, &stage.id(), |_| {}).count, Ok(0));
    let saved = stage.run(stage.ask_to(&here, &sent, save)).count;
    assert_ne!(saved, Ok(2), "alive again in the isolate of its logout");
}

#[test]
fn a_late_load_does_not_undo_a_change_of_id() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    let sent = stage.header();
    let saved = RefCell::new(None);
    stage.kv.order("get session:", Ordered::Takes(2_000));
    stage.clock.run(vec![
        Box::pin(async { *saved.borrow_mut() = Some(stage.ask_to(&here, &sent, save).await) }),
        Box::pin(async {
            stage.clock.pause(100).await;
            // So that the answer of that load is from before.
            stage.kv.freeze(0);
            stage.arrives(&stage.ask(&here, &sent, &log_in).await);
        }),
    ]);
    stage.kv.come_to_rest();
    let seen = stage.look(&here);
    assert!(seen.is_ok());
    let saved = saved.into_inner().unwrap().count;
    let is_in_its_place = saved.is_err() || seen == Ok(2);
    assert!(is_in_its_place, "the save said {saved:?}, and the session under its new id has {seen:?}");
}

/// The second tab of who has just logged in. KV shows nothing of that yet, and the isolate knows.
#[test]
fn a_logout_with_the_id_from_before_follows_where_only_the_isolate_knows_that_it_moved() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.kv.come_to_rest();
    let sent = stage.header();
    assert_eq!(stage.look(&here), Ok(1));
    stage.kv.freeze(0);
    assert!(stage.visit(&here, log_in).is_ok());
    assert!(stage.send(&here, &sent, log_out).count.is_ok());
    stage.kv.come_to_rest();
    assert_eq!(stage.look(&stage.isolate(1, 1)), Ok(0), "the session under its new id has ended");
}

/// A logout at a place that does not see the record yet, while its last put is on its way.
#[test]
fn the_mark_of_a_record_that_is_not_seen_lives_long_enough() {
    let stage = Stage::new();
    let year = r#"{"timeout": 31536000}"#;
    let (here, elsewhere) = (stage.isolate_with(0, 0, year), stage.isolate_with(1, 1, year));
    stage.begins(&here, 0);
    let stolen = stage.id();
    stage.kv.order("put session:", Ordered::Takes(3_800));
    assert_eq!(stage.count(&here), Ok(2));
    stage.visit(&elsewhere, log_out).unwrap();
    is_never_alive_again(&stage, &stolen);
}

/// It is too new to be seen, and the client keeps the id alone.
#[test]
fn so_does_that_of_one_that_only_the_isolate_knows() {
    let stage = Stage::new();
    let here = stage.isolate_with(0, 0, r#"{"timeout": 31536000}"#);
    stage.kv.freeze(0);
    stage.begins(&here, 0);
    let stolen = stage.id();
    stage.kv.order("delete session:", Ordered::Fails(KvFailure::Other("500".to_owned())));
    assert!(stage.send(&here, &stolen, log_out).count.is_ok());
    is_never_alive_again(&stage, &stolen);
}

fn is_never_alive_again(stage: &Stage, stolen: &str) {
    let year = r#"{"timeout": 31536000}"#;
    stage.wait(60_000);
    stage.kv.come_to_rest();
    for ten_days in 0..10 {
        for _ in 0..10 {
            stage.wait(86_400_000 - 1_000);
        }
        let seen = stage.send(&stage.isolate_with(3, 3, year), stolen, |_| {}).count;
        assert!(!matches!(seen, Ok(count) if count > 0), "after {ten_days} times ten days: alive again with {seen:?}");
    }
}

/// Each request takes them along.
#[test]
fn a_change_of_id_takes_the_carried_writes_of_the_old_one_away() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    let of_old = format!("{COOKIE}.{}", &stage.name()["session:".len()..][..8]);
    assert!(stage.header().contains(&of_old));
    assert!(stage.visit(&here, log_in).is_ok());
    assert!(!stage.header().contains(&of_old), "{}", stage.header());
}

/// Somebody has just written under the name of the mark.
#[test]
fn a_login_whose_mark_meets_429_is_done() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    let old = stage.id();
    stage.kv.order("put ended:", Ordered::Fails(KvFailure::TooManyWrites));
    assert_eq!(stage.visit(&here, log_in), Ok(1));
    assert_eq!(stage.look(&here), Ok(1));
    stage.wait(60_000);
    assert_eq!(stage.send(&stage.isolate(1, 1), &old, |_| {}).count, Ok(0));
}

/// By who has the id from before the login; it is known when the request runs again.
#[test]
fn nor_of_one_that_was_killed_under_its_id_from_before() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    let old = stage.name().replace("session:", "killed:");
    stage.visit(&here, log_in).unwrap();
    stage.wait(2_000);
    let its = format!("{COOKIE}.{}", &stage.name()["session:".len()..][..8]);
    let (id, runs) = (stage.id(), Cell::new(0));
    let replied = RefCell::new(None);
    stage.clock.run(vec![
        Box::pin(async {
            let handler = async |session: &mut Session<Visit>| {
                runs.set(runs.get() + 1);
                stage.clock.pause(300).await;
                drop(save(session).await);
                Ok(())
            };
            *replied.borrow_mut() = Some(stage.ask_to(&here, &id, handler).await);
        }),
        Box::pin(async {
            stage.clock.pause(100).await;
            assert_eq!(stage.ask(&here, &id, &count).await.count, Ok(2));
            stage.kv.at(0).put(&old, "killed", NOW + 86_400).await.unwrap();
            // What a place has not found it does not look for again at once.
            stage.kv.come_to_rest();
        }),
    ]);
    assert_eq!(runs.get(), 2);
    let reply = replied.into_inner().unwrap();
    assert!(reply.set_cookie.iter().filter(|line| line.starts_with(&its)).all(|line| line.contains("Max-Age=0")));
}

/// The reply of a request during whose life its session ended, in one of its runs or in its save, and whose handler does not mind.
#[test]
fn a_reply_gives_the_browser_nothing_of_a_session_that_has_ended() {
    for (at, loses) in [0, 150, 400].into_iter().flat_map(|at| [(at, false), (at, true)]) {
        let stage = Stage::new();
        let here = stage.isolate(0, 0);
        stage.begins(&here, 0);
        let its = format!("{COOKIE}.{}", &stage.name()["session:".len()..][..8]);
        let id = stage.id();
        let (replied, runs) = (RefCell::new(None), Cell::new(0));
        stage.kv.order("get session:", Ordered::Takes(50));
        stage.kv.order("put session:", Ordered::Takes(500));
        stage.clock.run(vec![
            Box::pin(async {
                let handler = async |session: &mut Session<Visit>| {
                    runs.set(runs.get() + 1);
                    stage.clock.pause(200).await;
                    if loses && runs.get() == 1 {
                        // It loads again, and meanwhile the session ends.
                        stage.kv.order("get session:", Ordered::Takes(800));
                    }
                    drop(save(session).await);
                    Ok(())
                };
                *replied.borrow_mut() = Some(stage.ask_to(&here, &id, handler).await);
            }),
            Box::pin(async {
                stage.clock.pause(60).await;
                if loses {
                    // So that the other one runs again.
                    assert_eq!(stage.ask(&here, &id, &count).await.count, Ok(2));
                }
                stage.clock.pause(at).await;
                assert!(stage.ask(&here, &id, &log_out).await.count.is_ok());
            }),
        ]);
        let reply = replied.into_inner().unwrap();
        let given: Vec<_> = reply.set_cookie.iter().filter(|line| line.starts_with(&its)).collect();
        assert!(given.iter().all(|line| line.contains("Max-Age=0")), "{at} ms: {given:?}");
    }
}

/// The isolate of the change knows of neither branch, and is brought the one that counts while a request that was brought the longer
/// one is about to change the id.
#[test]
fn a_change_of_id_by_a_longer_branch_takes_no_update_along_in_one_isolate() {
    let stage = Stage::new();
    let (here, long_home, short_home) = (stage.isolate(0, 0), stage.isolate(1, 1), stage.isolate(2, 2));
    stage.begins(&here, 0);
    stage.kv.come_to_rest();
    (0..3).for_each(|place| stage.kv.freeze(place));
    let first = stage.browser.borrow().clone();
    for expected in 2..=5 {
        assert_eq!(stage.count(&long_home), Ok(expected));
    }
    let long = stage.header();
    *stage.browser.borrow_mut() = first;
    assert_eq!(stage.visit(&short_home, |session| session.count = 100), Ok(100));
    let short = stage.header();
    let moved = Cell::new(None);
    let log_in_slowly = async |session: &mut Session<Visit>| {
        stage.clock.pause(500).await;
        session.cycle_id();
        Ok(())
    };
    stage.clock.run(vec![
        Box::pin(async { moved.set(Some(stage.ask_to(&here, &long, log_in_slowly).await)) }),
        Box::pin(async {
            stage.clock.pause(100).await;
            stage.ask_to(&here, &short, save).await.count.unwrap();
        }),
    ]);
    *stage.browser.borrow_mut() = Browser::default();
    stage.arrives(&moved.into_inner().unwrap());
    assert_eq!(stage.look(&here), Ok(101));
}

/// A load sees the mark before the change of id is told that it is done, and its answer comes after that. What is kept beside the
/// mark was never stored.
#[test]
fn a_late_load_takes_nothing_of_what_the_isolate_knows_of_a_change_of_id() {
    let stage = Stage::new();
    let store = KvStore::new(stage.kv.at(0), stage.clock.clone());
    let key = || SessionId::random(&stage.clock).unwrap().record_key();
    let (old, new) = (key(), key());
    let record = |words: &str, data: &str| {
        let end = NOW + 86_400;
        Record::from_text(&format!("edge-session/1 2 2 {NOW} {NOW} {end} {words} -\n{data}")).unwrap()
    };
    let begun = record("- 0", "1").with(|record| record.version = 1);
    stage.run(store.create(&old, &begun)).unwrap();
    stage.wait(2_000);
    let retired = record(&format!("{} {}", new.as_str(), NOW + 60), "7");
    stage.kv.order("put kept:", Ordered::Fails(KvFailure::Other("500".to_owned())));
    stage.kv.order("put ended:", Ordered::Takes(1_000));
    stage.clock.run(vec![
        Box::pin(async {
            let mut moved = begun.clone();
            assert_eq!(store.change_id(&old, &retired, &new, &mut moved).await.unwrap(), Updated::Done);
        }),
        Box::pin(async {
            stage.clock.pause(400).await;
            stage.kv.order("get session:", Ordered::Takes(1_400));
            let late = store.load(&old).await.unwrap().unwrap();
            assert!(late.successor.is_some());
        }),
    ]);
    assert_eq!(stage.run(store.load(&old)).unwrap(), Some(retired));
}
