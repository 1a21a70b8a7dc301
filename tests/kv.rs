//! The rules on Workers KV, over a model of it in which the last write wins.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use edge_session::store::conformance::{Abilities, check};
use edge_session::{
    ErrorKind, Incoming, KvFailure, KvNamespace, KvStore, Outcome, Platform, Record, RecordKey, Session, SessionId,
    SessionParameters, Sessions, Signer, Store, TestPlatform, Updated,
};
use pollster::block_on;
use support::kv::ModelKv;
use support::{KEY, NOW, Visit};

type Kv = ModelKv<TestPlatform>;

fn rig() -> (KvStore<Kv, TestPlatform>, Kv, TestPlatform) {
    let platform = TestPlatform::at(NOW);
    let kv = Kv::new(platform.clone());
    (KvStore::new(kv.clone(), platform.clone()), kv, platform)
}

fn key() -> RecordKey {
    SessionId::random(&TestPlatform::at(0)).unwrap().record_key()
}

fn record(version: u64, count: u64) -> Record {
    let expires_at = NOW + 86_400;
    Record::from_text(&format!(
        "edge-session/1 {version} {version} {NOW} {NOW} {expires_at} - 0 -\n{{\"count\":{count}}}"
    ))
    .unwrap()
}

/// The records of a change of id, as a session makes them.
fn new_id(stored: &Record, to: &RecordKey, now: u64) -> (Record, Record) {
    let next = stored.clone().with(|next| {
        next.version += 1;
        next.nonce = 77;
    });
    let text = format!(
        "edge-session/1 {} 77 {NOW} {NOW} {} {} {} -\nnull",
        next.version,
        next.expires_at,
        to.as_str(),
        now + 30
    );
    (Record::from_text(&text).unwrap(), next.with(|next| next.version = 1))
}

#[test]
fn kv_store_conforms_but_for_what_kv_cannot_do() {
    let (store, kv, platform) = rig();
    let abilities = Abilities { insert_only: false, compare_and_set: false };
    block_on(check(&store, &platform, abilities)).unwrap();
    let left = kv.names();
    assert!(left.iter().all(|name| name == "ended" || name == "killed"), "{left:?}");
}

#[test]
fn a_used_key_is_overwritten_by_a_create() {
    let (store, kv, platform) = rig();
    let key = key();
    block_on(async {
        store.create(&key, &record(3, 3)).await.unwrap();
        platform.advance(2);
        store.create(&key, &record(1, 70)).await.unwrap();
        for isolate in [&store, &KvStore::new(kv.clone(), platform.clone())] {
            assert_eq!(isolate.load(&key).await.unwrap().unwrap().data, record(1, 70).data);
        }
    });
}

/// What an isolate has met of it, it asks for no more: another of KV's machines may show the record still.
#[test]
fn who_has_seen_that_a_session_has_ended_does_not_look_again() {
    let (store, kv, platform) = rig();
    let key = key();
    block_on(async {
        store.create(&key, &record(1, 1)).await.unwrap();
        store.delete(&key).await.unwrap();
        let elsewhere = KvStore::new(kv.clone(), platform.clone());
        assert_eq!(elsewhere.load(&key).await.unwrap(), None);
        kv.calls();
        assert_eq!(elsewhere.load(&key).await.unwrap(), None);
        assert_eq!(kv.calls(), "");
    });
}

/// Whatever the mark is: only the retired record of a session that moved is one that is looked at.
#[test]
fn a_session_under_a_mark_is_dead() {
    let (store, kv, platform) = rig();
    let key = key();
    block_on(async {
        for mark in ["", "killed", "of a later release", &record(7, 7).to_text()] {
            store.create(&key, &record(1, 1)).await.unwrap();
            platform.advance(2);
            kv.put(&format!("ended:{}", key.as_str()), mark, NOW + 86_400).await.unwrap();
            let elsewhere = KvStore::new(kv.clone(), platform.clone());
            assert_eq!(elsewhere.load(&key).await.unwrap(), None, "{mark}");
        }
    });
}

/// KV reads a hundred names by one call.
#[test]
fn more_changes_of_one_id_than_can_be_looked_for_are_refused() {
    let (store, _, platform) = rig();
    block_on(async {
        let mut key = key();
        let mut live = record(1, 1);
        store.create(&key, &live).await.unwrap();
        for change in 1..=101 {
            let to = self::key();
            let (retired, mut moved) = new_id(&live, &to, platform.now());
            let changed = store.change_id(&key, &retired, &to, &mut moved).await;
            if change == 101 {
                assert_eq!(changed.unwrap_err().kind(), ErrorKind::Unavailable);
                assert!(store.load(&key).await.unwrap().is_some(), "it stays where it is");
            } else {
                assert_eq!(changed.unwrap(), Updated::Done, "{change}");
                (key, live) = (to, moved);
            }
        }
    });
}

/// The change of the id is a mark, and no record that a `put` could overwrite.
#[test]
fn a_write_that_comes_after_the_change_of_the_id_does_not_bring_the_old_id_back() {
    let (store, kv, platform) = rig();
    let (old, new) = (key(), key());
    block_on(async {
        store.create(&old, &record(1, 1)).await.unwrap();
        let (retired, mut moved) = new_id(&record(1, 1), &new, NOW);
        kv.calls();
        assert_eq!(store.change_id(&old, &retired, &new, &mut moved).await.unwrap(), Updated::Done);
        assert_eq!(kv.calls(), "get session ended, put session, put ended, delete session");
        assert_eq!(store.update(&old, &record(2, 2)).await.unwrap(), Updated::Gone, "this isolate knows");
        let elsewhere = KvStore::new(kv.clone(), platform.clone());
        assert_eq!(elsewhere.update(&old, &record(2, 2)).await.unwrap(), Updated::Done, "KV takes it");
        for isolate in [&store, &elsewhere] {
            assert_eq!(isolate.load(&old).await.unwrap(), Some(retired.clone()), "in vain");
            assert_eq!(isolate.touch(&old, &record(2, 2)).await.unwrap(), Updated::Gone);
        }
        store.delete(&new).await.unwrap();
        platform.advance(80 * 86_400);
        let later = KvStore::new(kv.clone(), platform.clone());
        assert_eq!(later.load(&new).await.unwrap(), None);
        assert_eq!(later.load(&old).await.unwrap(), Some(retired), "for longer than any record lives");
    });
}

/// The mark of a session that moved stays for months, and what was in a basket before the sign-in does not.
#[test]
fn what_is_kept_for_a_form_that_is_sent_twice_is_gone_in_minutes() {
    let (store, kv, platform) = rig();
    let (old, new) = (key(), key());
    block_on(async {
        store.create(&old, &record(1, 1)).await.unwrap();
        let (retired, mut moved) = new_id(&record(1, 1), &new, NOW);
        let retired = retired.with(|retired| retired.data = "{\"basket\":7}".to_owned());
        kv.calls();
        assert_eq!(store.change_id(&old, &retired, &new, &mut moved).await.unwrap(), Updated::Done);
        assert_eq!(kv.calls(), "get session ended, put kept, put session, put ended, delete session");
        let mark = || async { kv.get(&[format!("ended:{}", old.as_str())]).await.unwrap().remove(0).unwrap() };
        assert!(mark().await.ends_with("\nnull"), "{}", mark().await);
        let elsewhere = || KvStore::new(kv.clone(), platform.clone());
        assert_eq!(elsewhere().load(&old).await.unwrap(), Some(retired.clone()));
        platform.advance(29);
        assert_eq!(elsewhere().load(&old).await.unwrap(), Some(retired.clone()));
        platform.advance(1);
        assert_eq!(elsewhere().load(&old).await.unwrap().unwrap().data, "null");
        platform.advance(120);
        assert!(!kv.names().contains(&"kept".to_owned()), "{:?}", kv.names());
        assert!(mark().await.starts_with("edge-session/1 "));
    });
}

/// A sign-in that came to nothing may have left a basket beside the mark of the next one, which could leave none.
/// It is looked at while the old id is a straggler's. The mark stays for 90 days.
#[test]
fn an_address_is_kept_beside_a_mark_and_not_in_it() {
    let (store, kv, platform) = rig();
    let (old, new) = (key(), key());
    let address = Some("192.0.2.1".to_owned());
    block_on(async {
        let bound = record(1, 1).with(|record| record.ip = address.clone());
        store.create(&old, &bound).await.unwrap();
        let (retired, mut moved) = new_id(&bound, &new, NOW);
        let retired = retired.with(|record| record.ip = address.clone());
        assert_eq!(store.change_id(&old, &retired, &new, &mut moved).await.unwrap(), Updated::Done);
        let mark = kv.get(&[format!("ended:{}", old.as_str())]).await.unwrap().remove(0).unwrap();
        assert!(mark.starts_with("edge-session/1 ") && !mark.contains("192.0.2.1"), "{mark}");
        let elsewhere = KvStore::new(kv.clone(), platform.clone());
        assert_eq!(elsewhere.load(&old).await.unwrap().unwrap().ip, address);
        // Where it is not there, no address is the right one.
        kv.delete(&format!("kept:{}", old.as_str())).await.unwrap();
        let third = KvStore::new(kv.clone(), platform.clone());
        assert_eq!(third.load(&old).await.unwrap().unwrap().ip.as_deref(), Some(""));
    });
}

#[test]
fn what_another_change_of_the_id_has_kept_is_not_shown_under_a_mark() {
    let (store, kv, platform) = rig();
    let (old, new, nowhere) = (key(), key(), key());
    let retired_with = |to: &RecordKey, basket: &str, nonce| {
        let (retired, moved) = new_id(&record(1, 1), to, NOW);
        (retired.with(|retired| (retired.data, retired.nonce) = (basket.to_owned(), nonce)), moved)
    };
    block_on(async {
        store.create(&old, &record(1, 1)).await.unwrap();
        let (retired, mut moved) = retired_with(&nowhere, "\"of the first\"", 7);
        let elsewhere = KvStore::new(kv.clone(), platform.clone());
        kv.fail("put ended", KvFailure::Other("500".to_owned()));
        elsewhere.change_id(&old, &retired, &nowhere, &mut moved).await.unwrap_err();
        let (retired, mut moved) = retired_with(&new, "\"of the second\"", 8);
        kv.fail("put kept", KvFailure::Other("500".to_owned()));
        assert_eq!(store.change_id(&old, &retired, &new, &mut moved).await.unwrap(), Updated::Done);
        assert!(kv.names().contains(&"kept".to_owned()), "that of the first");
        let shown = KvStore::new(kv.clone(), platform.clone()).load(&old).await.unwrap().unwrap();
        assert_eq!((shown.nonce, &*shown.data), (8, "null"), "it moved by the second, which kept nothing");
    });
}

/// What is retired with data ends after a day, and the mark stands for the session that moved.
#[test]
fn a_mark_lives_as_long_as_what_a_late_writer_may_leave() {
    let (store, kv, platform) = rig();
    let (old, new) = (key(), key());
    let days = |days: u64| days * 86_400;
    block_on(async {
        let stored = record(1, 1).with(|record| record.expires_at = NOW + days(200));
        store.create(&old, &stored).await.unwrap();
        let (retired, mut moved) = new_id(&stored, &new, NOW);
        let retired = retired.with(|retired| (retired.data, retired.expires_at) = ("7".to_owned(), NOW + days(1)));
        assert_eq!(store.change_id(&old, &retired, &new, &mut moved).await.unwrap(), Updated::Done);
        let elsewhere = KvStore::new(kv.clone(), platform.clone());
        assert_eq!(elsewhere.update(&old, &stored.clone().with(|late| late.version = 2)).await.unwrap(), Updated::Done);
        platform.advance(days(150));
        let third = KvStore::new(kv.clone(), platform.clone());
        assert!(third.load(&old).await.unwrap().is_none_or(|record| record.successor.is_some()), "it is not alive");
    });
}

/// All orders of the steps of a login and of a logout that began before it.
#[test]
fn a_login_and_a_logout_in_any_order_leave_no_session_alive() {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};
    for order in 0_u32..1 << 10 {
        let platform = TestPlatform::at(NOW);
        let kv = Kv::new(platform.clone());
        let store = KvStore::new(support::kv::Aside(kv.clone()), platform.clone());
        let direct = KvStore::new(kv, platform.clone());
        let (old, new) = (key(), key());
        block_on(direct.create(&old, &record(1, 1))).unwrap();
        let (retired, mut moved) = new_id(&record(1, 1), &new, NOW);
        let mut login = Box::pin(store.change_id(&old, &retired, &new, &mut moved));
        let mut logout = Box::pin(store.delete(&old));
        let (mut logged_in, mut logged_out) = (None, None);
        let mut context = Context::from_waker(Waker::noop());
        for step in 0.. {
            let logins = logged_in.is_none() && (logged_out.is_some() || order >> (step % 10) & 1 == 1);
            if logins {
                if let Poll::Ready(done) = login.as_mut().poll(&mut context) {
                    logged_in = Some(done.unwrap());
                }
            } else if logged_out.is_none() {
                if let Poll::Ready(done) = logout.as_mut().poll(&mut context) {
                    logged_out = Some(done.unwrap());
                }
            } else {
                break;
            }
        }
        // What the session layer does with where it went.
        if let Some(successor) = logged_out.flatten() {
            block_on(direct.delete(&successor.key)).unwrap();
        }
        for key in [&old, &new] {
            let left = block_on(direct.load(key)).unwrap();
            assert!(left.is_none_or(|left| left.successor.is_some()), "alive after {order:b}");
        }
    }
}

#[test]
fn a_session_that_moved_dies_by_a_kill_of_any_of_its_keys_of_the_last_two_minutes() {
    for killed in 0..3 {
        let (store, kv, platform) = rig();
        let keys = [key(), key(), key(), key()];
        block_on(async {
            store.create(&keys[0], &record(1, 1)).await.unwrap();
            for pair in keys.windows(2) {
                let stored = store.load(&pair[0]).await.unwrap().unwrap();
                let (retired, mut moved) = new_id(&stored, &pair[1], NOW);
                assert_eq!(store.change_id(&pair[0], &retired, &pair[1], &mut moved).await.unwrap(), Updated::Done);
            }
            kv.calls();
            assert!(store.load(&keys[3]).await.unwrap().is_some());
            assert_eq!(kv.calls(), "get session ended, get killed killed killed");
            // The kill of one who does not see that it moved: the marks alone.
            let name = format!("killed:{}", keys[killed].as_str());
            edge_session::KvNamespace::put(&kv, &name, "killed", u64::MAX).await.unwrap();
            assert_eq!(store.load(&keys[3]).await.unwrap(), None, "{killed}");
            platform.advance(119);
            assert_eq!(store.load(&keys[3]).await.unwrap(), None, "{killed}");
        });
    }
}

#[test]
fn two_minutes_after_a_change_of_id_a_load_is_one_read_again() {
    let (store, kv, platform) = rig();
    let (old, new) = (key(), key());
    block_on(async {
        store.create(&old, &record(1, 1)).await.unwrap();
        let (retired, mut moved) = new_id(&record(1, 1), &new, NOW);
        assert_eq!(store.change_id(&old, &retired, &new, &mut moved).await.unwrap(), Updated::Done);
        platform.advance(119);
        let young = store.load(&new).await.unwrap().unwrap();
        assert!(young.extensions.get("predecessors").is_some(), "kept in what is written next");
        platform.advance(1);
        let old_enough = store.load(&new).await.unwrap().unwrap();
        assert!(old_enough.extensions.is_empty(), "dropped from it");
        assert_eq!(store.update(&new, &old_enough.with(|next| next.version = 2)).await.unwrap(), Updated::Done);
        kv.calls();
        store.load(&new).await.unwrap().unwrap();
        assert_eq!(kv.calls(), "get session ended");
    });
}

#[test]
fn a_logout_is_done_with_its_marks_and_what_follows_them_may_fail() {
    let (store, kv, _) = rig();
    let key = key();
    kv.is_limited.set(true);
    block_on(async {
        store.create(&key, &record(1, 1)).await.unwrap();
        kv.calls();
        // Within a second of the save, so that the delete meets 429; and twice, so that the second marks do.
        store.delete(&key).await.unwrap();
        assert_eq!(kv.calls(), "get session ended, put ended, put killed, delete session");
        assert_eq!(store.load(&key).await.unwrap(), None);
        kv.calls();
        store.delete(&key).await.unwrap();
        let looks = "get session ended, put ended, get ended, put killed, get killed, delete session";
        assert_eq!(kv.calls(), looks, "the marks are there");
        // A mark that met 429 and is not there is left a second later, or the logout is not done.
        let other = self::key();
        store.create(&other, &record(1, 1)).await.unwrap();
        for (refusals, is_done) in [(4, false), (1, true)] {
            for _ in 0..refusals {
                kv.fail("put killed", KvFailure::TooManyWrites);
            }
            assert_eq!(store.delete(&other).await.is_ok(), is_done, "{refusals}");
        }
        for failing in ["put killed", "put ended", "get session"] {
            kv.fail(failing, KvFailure::Other("500 Internal Error".to_owned()));
            assert_eq!(store.delete(&key).await.unwrap_err().kind(), ErrorKind::Unavailable, "{failing}");
        }
        kv.fail("delete session", KvFailure::Other("500 Internal Error".to_owned()));
        store.delete(&key).await.unwrap();
    });
}

#[test]
fn a_write_that_kv_does_not_take_is_tried_again_for_less_than_five_seconds() {
    let (store, kv, platform) = rig();
    let key = key();
    block_on(async {
        store.create(&key, &record(1, 1)).await.unwrap();
        for failure in [KvFailure::TooManyWrites, KvFailure::Other("500".to_owned())] {
            for (failures, is_stored) in [(1, true), (3, true), (60, false)] {
                for _ in 0..failures {
                    kv.fail("put session", failure.clone());
                }
                let store = KvStore::new(kv.clone(), platform.clone());
                let before = platform.slept().len();
                let updated = store.update(&key, &record(2, failures)).await;
                assert_eq!(updated.is_ok(), is_stored, "{failures}");
                let slept = platform.slept()[before..].to_vec();
                assert!(slept.iter().all(|pause| (100..1300).contains(pause)), "{slept:?}");
                assert!(slept.iter().sum::<u32>() < 5_000 && slept.len() >= 3.min(failures as usize), "{slept:?}");
                kv.heal();
            }
        }
    });
}

#[test]
fn a_touch_gives_way_to_who_wrote_meanwhile() {
    let (store, kv, platform) = rig();
    let key = key();
    block_on(async {
        let first = record(1, 1);
        store.create(&key, &first).await.unwrap();
        let touched = first.with(|touched| {
            touched.touched_at = NOW + 10;
            touched.expires_at = NOW + 86_410;
        });
        kv.fail("put session", KvFailure::TooManyWrites);
        assert_eq!(store.touch(&key, &touched).await.unwrap(), Updated::Stale(None), "429: somebody wrote just now");
        assert_eq!(platform.slept(), Vec::<u32>::new());
        assert_eq!(store.update(&key, &record(2, 2)).await.unwrap(), Updated::Done);
        assert_eq!(store.touch(&key, &touched).await.unwrap(), Updated::Stale(None));
        assert_eq!(store.load(&key).await.unwrap(), Some(record(2, 2)), "nothing is rolled back");
    });
}

/// KV refuses an expiration less than 60 seconds ahead.
#[test]
fn a_request_that_outlives_its_session_is_still_stored() {
    let (store, _, platform) = rig();
    let key = key();
    platform.advance(86_400 + 3600);
    block_on(store.create(&key, &record(1, 1))).unwrap();
}

#[test]
fn marks_of_an_earlier_release_count() {
    let (store, kv, _) = rig();
    let key = key();
    block_on(async {
        store.create(&key, &record(1, 1)).await.unwrap();
        edge_session::KvNamespace::put(&kv, &format!("ended:{}", key.as_str()), "", u64::MAX).await.unwrap();
        assert_eq!(store.load(&key).await.unwrap(), None);
    });
}

// With the session layer.

/// What an act of a visitor with this cookie is told, and the cookie that it is given.
fn act(
    sessions: &Sessions,
    cookie: Option<&str>,
    act: impl AsyncFn(&mut Session<Visit>),
) -> (Option<u64>, Option<String>) {
    let incoming = Incoming::new().cookie(cookie);
    let outcome = block_on(sessions.run(&incoming, async |session: &mut Session<Visit>| {
        act(session).await;
        Ok::<_, edge_session::Error>(session.count)
    }));
    match outcome {
        Ok(Outcome::Replied { reply, set_cookie, .. }) => {
            (Some(reply), set_cookie.first().map(|line| line.split(';').next().unwrap().to_owned()))
        }
        _ => (None, None),
    }
}

/// A logout that does not see the login yet; and a login whose own handler saves once more.
#[test]
fn what_is_saved_after_a_change_of_id_still_names_the_predecessor() {
    let platform = TestPlatform::at(NOW);
    let kv = Kv::new(platform.clone());
    let sessions = sessions(&kv, &platform);
    let old = act(&sessions, None, async |session| session.count += 1).1.unwrap();
    let (_, new) = act(&sessions, Some(&old), async |session| {
        session.cycle_id();
        session.save().await.unwrap();
        session.count += 1;
    });
    let new = new.unwrap();
    assert_eq!(act(&sessions, Some(&new), async |session| session.count += 1).0, Some(3));
    let signed = edge_session::cookie::read(&old, "webpy_session_id", &Signer::from_secret(KEY).unwrap());
    let mark = format!("killed:{}", signed.ids()[0].key.as_str());
    block_on(edge_session::KvNamespace::put(&kv, &mark, "killed", u64::MAX)).unwrap();
    assert_eq!(act(&sessions, Some(&new), async |_| ()).0, Some(0), "dead");
}

#[test]
fn a_logout_that_failed_between_its_marks_does_not_end_the_next_login() {
    for failing in ["put ended", "put killed"] {
        let platform = TestPlatform::at(NOW);
        let kv = Kv::new(platform.clone());
        let sessions = sessions(&kv, &platform);
        let mut cookie = act(&sessions, None, async |session| session.count += 1).1.unwrap();
        kv.fail(failing, KvFailure::Other("500".to_owned()));
        assert_eq!(act(&sessions, Some(&cookie), async |session| session.kill()).0, None, "503");
        platform.advance(600);
        let (_, new) = act(&sessions, Some(&cookie), async |session| {
            session.count += 10;
            session.cycle_id();
        });
        cookie = new.unwrap();
        assert!(act(&sessions, Some(&cookie), async |_| ()).0 >= Some(10), "the login lasts");
    }
}

/// After the grace a logout with the old id leaves no mark that the session's new record would find.
#[test]
fn a_logout_by_a_thief_with_the_old_id_ends_nothing() {
    for (seconds, is_alive) in [(29, false), (30, true), (100, true), (200, true)] {
        let platform = TestPlatform::at(NOW);
        let kv = Kv::new(platform.clone());
        let sessions = sessions(&kv, &platform);
        let ask = |cookie: Option<&str>, act: u8| {
            let incoming = Incoming::new().cookie(cookie);
            let outcome = block_on(sessions.run(&incoming, async |session: &mut Session<Visit>| {
                match act {
                    0 => session.count += 1,
                    1 => session.cycle_id(),
                    2 => session.kill(),
                    _ => {}
                }
                Ok::<_, edge_session::Error>(session.count)
            }));
            let Outcome::Replied { reply, set_cookie, .. } = outcome.unwrap() else { panic!() };
            (reply, set_cookie.first().map(|line| line.split(';').next().unwrap().to_owned()))
        };
        let old = ask(None, 0).1.unwrap();
        let new = ask(Some(&old), 1).1.unwrap();
        platform.advance(seconds);
        ask(Some(&old), 2);
        assert_eq!(ask(Some(&new), 3).0, u64::from(is_alive), "{seconds}");
    }
}

fn sessions(kv: &Kv, platform: &TestPlatform) -> Sessions {
    let parameters = SessionParameters::from_json(r#"{"timeout": 1000, "touch_after": 10}"#).unwrap();
    let store = KvStore::new(kv.clone(), platform.clone());
    Sessions::new(store, platform.clone(), Signer::from_secret(KEY).unwrap(), parameters).unwrap()
}

#[test]
fn a_look_of_a_second_and_a_half_does_not_roll_a_count_back() {
    let platform = TestPlatform::at(NOW);
    let kv = Kv::new(platform.clone());
    let run = |cookie: Option<String>, act: u8| {
        let (kv, platform) = (kv.clone(), platform.clone());
        let cookie_of = cookie.clone();
        let result = block_on(sessions(&kv, &platform).run(
            &Incoming::new().cookie(cookie.as_deref()),
            async |session: &mut Session<Visit>| {
                match act {
                    0 => session.count += 1,
                    1 => {
                        platform.advance(2);
                        let incoming = Incoming::new().cookie(cookie_of.as_deref());
                        sessions(&kv, &platform).run(&incoming, support::count).await.map(|_| ())?;
                    }
                    _ => {}
                }
                Ok::<_, edge_session::Error>(session.count)
            },
        ));
        match result.unwrap() {
            Outcome::Replied { reply, set_cookie, .. } => {
                (reply, set_cookie.first().map(|line| line.split(';').next().unwrap().to_owned()).or(cookie))
            }
            other => panic!("{other:?}"),
        }
    };
    let (first, cookie) = run(None, 0);
    assert_eq!(first, 1);
    platform.advance(10);
    kv.calls();
    assert_eq!(run(cookie.clone(), 1).0, 1, "it saw what was there when it began");
    assert_eq!(kv.calls(), "get session ended, get session ended, put session, get session ended", "and noted nothing");
    assert_eq!(run(cookie, 2).0, 2, "the count stays");
    assert_eq!(platform.now(), NOW + 12);
}

/// curl, with one file to read and to write, heeds only the last line of a reply that takes cookies away.
#[test]
fn a_logout_takes_the_sessions_own_cookie_away_last() {
    let (store, _, platform) = rig();
    let signer = Signer::from_secret(KEY).unwrap();
    let sessions = Sessions::new(store, platform, signer, SessionParameters::default()).unwrap();
    let request = |cookie: &str, kills: bool| {
        let incoming = Incoming::new().cookie(cookie).with_reply();
        let handler = async |session: &mut Session<Visit>| -> Result<(), ()> {
            session.count += 1;
            if kills {
                session.kill();
            }
            Ok(())
        };
        match block_on(sessions.run(&incoming, handler)) {
            Ok(Outcome::Replied { set_cookie, .. }) => set_cookie,
            other => panic!("{other:?}"),
        }
    };
    let given = request("", false);
    let cookies: Vec<_> = given.iter().filter_map(|line| line.split(';').next()).collect();
    let lines = request(&cookies.join("; "), true);
    let names: Vec<_> =
        lines.iter().map(|line| (line.split('=').next().unwrap(), line.contains("Max-Age=0"))).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].0.starts_with("webpy_session_id.") && names.iter().all(|(_, is_gone)| *is_gone), "{names:?}");
    assert_eq!(names[1].0, "webpy_session_id");
}
