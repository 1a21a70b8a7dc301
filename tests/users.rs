//! A user's sessions: listed, ended one by one, the others, and all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use std::cell::RefCell;

use edge_session::{
    ErrorKind, KvStore, Session, SessionId, SessionParameters, Sessions, Signer, Store, TestPlatform, UserSession,
};
use pollster::block_on;
use support::kv::ModelKv;
use support::{KEY, NOW, Reply, Rig, Visit, Visitor, known, log_in};

fn signed_in(rig: &Rig, user: &str) -> Visitor {
    let mut visitor = known(rig);
    assert_eq!(sign_in(rig, &mut visitor, user), Reply::Ok(()));
    visitor
}

fn sign_in(rig: &Rig, visitor: &mut Visitor, user: &str) -> Reply<()> {
    visitor.ask(rig, async |session: &mut Session<Visit>| session.sign_in(user)).0
}

fn list(rig: &Rig, user: &str) -> Vec<UserSession> {
    block_on(rig.sessions.of(user).list()).unwrap()
}

fn is_in(rig: &Rig, visitor: &Visitor) -> bool {
    let reply = visitor.twin().ask(rig, async |session: &mut Session<Visit>| Ok(session.user().is_some())).0;
    reply == Reply::Ok(true)
}

#[test]
fn each_is_listed_with_its_times_and_the_last_used_first() {
    let rig = Rig::with(r#"{"timeout": 100, "touch_after": 10}"#);
    let mut one = known(&rig);
    rig.platform.advance(20);
    one.ask(&rig, async |session: &mut Session<Visit>| {
        session.set_label("Firefox on Linux");
        session.sign_in("ada")
    });
    rig.platform.advance(5);
    signed_in(&rig, "ada");
    signed_in(&rig, "grace");
    rig.platform.advance(10);
    assert!(is_in(&rig, &one));
    let listed = list(&rig, "ada");
    assert_eq!(listed.len(), 2);
    let first = &listed[0];
    assert_eq!(first.label.as_deref(), Some("Firefox on Linux"));
    let times = (first.began_at, first.authenticated_at, first.used_at, first.ends_at);
    assert_eq!(times, (NOW, NOW + 20, NOW + 35, NOW + 135));
    assert_eq!((listed[1].used_at, &listed[1].label), (NOW + 25, &None));
    let own = one.ask(&rig, async |session: &mut Session<Visit>| Ok(session.handle().cloned())).0;
    assert_eq!(own, Reply::Ok(Some(first.handle.clone())), "this one is told by its handle");
    for _ in 0..8 {
        rig.platform.advance(1);
        signed_in(&rig, "ada");
    }
    assert!(list(&rig, "ada").is_sorted_by_key(|listed| std::cmp::Reverse(listed.used_at)));
    rig.platform.advance(87);
    assert_eq!(list(&rig, "ada").len(), 9, "one that has expired is not listed");
    assert_eq!(list(&rig, "nobody"), Vec::new());
}

#[test]
fn one_is_ended_by_its_handle_and_another_users_is_not_found() {
    let rig = Rig::new();
    let (ada, other, grace) = (signed_in(&rig, "ada"), signed_in(&rig, "ada"), signed_in(&rig, "grace"));
    let of_grace = &list(&rig, "grace")[0].handle;
    assert!(!block_on(rig.sessions.of("ada").end(of_grace)).unwrap());
    assert!(is_in(&rig, &grace));
    let handle = other.twin().ask(&rig, async |session: &mut Session<Visit>| Ok(session.handle().cloned())).0;
    let Reply::Ok(Some(handle)) = handle else { panic!() };
    assert!(block_on(rig.sessions.of("ada").end(&handle)).unwrap());
    assert_eq!((is_in(&rig, &ada), is_in(&rig, &other)), (true, false));
    assert!(!block_on(rig.sessions.of("ada").end(&handle)).unwrap(), "it is gone");
}

#[test]
fn a_change_of_password_ends_the_others_and_not_this_one_whatever_another_tab_does_to_it() {
    let rig = Rig::new();
    let (mine, other, grace) = (RefCell::new(signed_in(&rig, "ada")), signed_in(&rig, "ada"), signed_in(&rig, "grace"));
    let elsewhere = rig.redeployed(KEY, "{}");
    let mut tab = mine.borrow().twin();
    let ended = tab.ask(&rig, async |session: &mut Session<Visit>| {
        mine.borrow_mut().ask(&elsewhere, log_in);
        rig.sessions.of("ada").end_others(session).await
    });
    assert_eq!(ended.0, Reply::Ok(1));
    assert_eq!((is_in(&rig, &mine.borrow()), is_in(&rig, &other), is_in(&rig, &grace)), (true, false, true));
}

#[test]
fn a_sign_in_under_way_does_not_survive_the_end_of_all() {
    for knows_the_visitor in [false, true] {
        for spares in [false, true] {
            let rig = Rig::new();
            let (mut late, mine) = (Visitor::default(), signed_in(&rig, "ada"));
            if knows_the_visitor {
                late = known(&rig);
            }
            let elsewhere = rig.redeployed(KEY, "{}");
            let (reply, set_cookie) = late.ask(&rig, async |session: &mut Session<Visit>| {
                // The old password was right a moment ago.
                if spares {
                    mine.twin().ask(&elsewhere, async |session: &mut Session<Visit>| {
                        elsewhere.sessions.of("ada").end_others(session).await
                    });
                } else {
                    elsewhere.sessions.of("ada").end_all().await?;
                }
                session.sign_in("ada")
            });
            assert_eq!((reply, set_cookie), (Reply::Expired("Session expired".to_owned()), None));
            assert_eq!(list(&rig, "ada").len(), usize::from(spares), "only the one that was spared");
            rig.platform.advance(1);
            assert_eq!(sign_in(&rig, &mut late, "ada"), Reply::Ok(()), "with the new password");
        }
    }
}

#[test]
fn a_forgotten_password_ends_the_others_and_signs_in_by_one_request() {
    let rig = Rig::new();
    let other = signed_in(&rig, "ada");
    let mut mine = Visitor::default();
    let reset = async |session: &mut Session<Visit>| {
        let ended = rig.sessions.of("ada").end_others(session).await?;
        session.sign_in("ada")?;
        Ok(ended)
    };
    assert_eq!(mine.ask(&rig, reset).0, Reply::Ok(1));
    assert_eq!((is_in(&rig, &mine), is_in(&rig, &other)), (true, false));
    // And again, by who is signed in.
    assert_eq!(mine.ask(&rig, reset).0, Reply::Ok(0));
    assert!(is_in(&rig, &mine));
}

#[test]
fn who_has_one_session_too_many_loses_the_oldest() {
    let rig = Rig::with(r#"{"max_sessions": 2}"#);
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            rig.platform.advance(1);
            signed_in(&rig, "ada")
        })
        .collect();
    let left: Vec<_> = visitors.iter().map(|visitor| is_in(&rig, visitor)).collect();
    assert_eq!(left, [false, false, true, true]);
    rig.store.fail("end_oldest");
    let one_more = signed_in(&rig, "ada");
    assert!(is_in(&rig, &one_more), "also where the oldest could not be ended");
    assert!(rig.platform.logged()[0].starts_with("oldest_not_ended: the oldest sessions of "));
    // Those of one second, and without a parameter those that the store can hold.
    for _ in 0..8 {
        let rig = Rig::new();
        rig.store.hold_sessions(1);
        let (first, second) = (signed_in(&rig, "ada"), signed_in(&rig, "ada"));
        assert_eq!((is_in(&rig, &first), is_in(&rig, &second)), (false, true));
    }
    let unlimited = Rig::new();
    (0..40).for_each(|_| drop(signed_in(&unlimited, "ada")));
    assert_eq!(list(&unlimited, "ada").len(), 40);
}

/// Whose change of id passes for one that has done nothing: it is asked what became of it.
#[test]
fn a_sign_in_of_a_store_that_says_too_much_is_done_once() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.lose_connections();
    rig.store.fail_once("change_id_for", 0, true);
    assert_eq!(sign_in(&rig, &mut visitor, "ada"), Reply::Ok(()));
    assert_eq!(rig.store.calls(), "load change_id_for load");
    assert_eq!((list(&rig, "ada").len(), is_in(&rig, &visitor), visitor.read(&rig)), (1, true, Reply::Ok(1)));
}

/// Another tab has changed the id meanwhile.
#[test]
fn what_another_did_is_not_taken_for_its_own() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let (elsewhere, tab, before) = (rig.redeployed(KEY, "{}"), RefCell::new(visitor.twin()), visitor.cookie.clone());
    rig.store.lose_connections();
    rig.store.fail_once("change_id_for", 0, false);
    let signed_in = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        if tab.borrow().cookie == before {
            tab.borrow_mut().log_in(&elsewhere);
        }
        session.sign_in("ada")
    });
    assert_eq!(signed_in.0, Reply::Ok(()));
    assert!(is_in(&rig, &visitor));
    assert_eq!(tab.borrow_mut().read(&rig), Reply::Ok(101));
}

/// By the end of somebody's sessions that it asks for, and not by that of its own.
#[test]
fn who_is_told_that_a_session_has_ended_is_told_what_was_saved_before() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let reply = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.cycle_id();
        session.save().await?;
        rig.platform.advance(1);
        rig.sessions.of("ada").end_all().await?;
        rig.sessions.of("ada").end_others(session).await
    });
    assert!(matches!(reply, (Reply::Expired(_), Some(_))), "{reply:?}");
    assert_eq!((visitor.read(&rig), rig.platform.logged()), (Reply::Ok(1), Vec::new()));
    // And that it has ended it itself.
    let ended = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.kill();
        session.save().await?;
        session.update(|visit| visit.count += 1).await
    });
    assert!(matches!(ended.0, Reply::Expired(_)), "{ended:?}");
    assert_eq!(visitor.cookie, None);
}

#[test]
fn each_attempt_to_sign_in_knows_the_keys_that_were_lost() {
    for begin in [known, |_: &Rig| Visitor::default()] {
        let rig = Rig::new();
        let mut visitor = begin(&rig);
        rig.store.lose_connections();
        rig.store.fail(if visitor.cookie.is_some() { "change_id_for" } else { "create_for" });
        assert_eq!(sign_in(&rig, &mut visitor, "ada"), Reply::Error(ErrorKind::Unavailable));
        let claims = rig.store.claims();
        let lost: Vec<_> = claims.iter().map(|claim| claim.lost.clone()).collect();
        assert_eq!(lost.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(lost[1][..], lost[2][..1]);
    }
}

/// Otherwise the old id would lead to the first new one, and a logout with it would end nothing.
#[test]
fn a_change_of_id_that_comes_late_changes_nothing() {
    let rig = Rig::new();
    let mut visitor = signed_in(&rig, "ada");
    let old = visitor.twin();
    rig.store.lose_connections();
    rig.store.be_late();
    assert_eq!(sign_in(&rig, &mut visitor, "ada"), Reply::Ok(()));
    assert!(is_in(&rig, &visitor));
    assert_eq!(visitor.read(&rig), Reply::Ok(1));
    assert_eq!(old.twin().reset(&rig).0, Reply::Ok(()));
    assert_eq!(visitor.read(&rig), Reply::Ok(0));
}

/// By the same handle: one of them is under an id that nobody was told.
#[test]
fn a_sign_in_that_was_stored_twice_is_one_session() {
    // Whichever of the two keys is the lesser.
    for is_labelled in [true, false].repeat(16) {
        let rig = Rig::with(r#"{"max_sessions": 2, "timeout": 100, "touch_after": 1}"#);
        let first = signed_in(&rig, "ada");
        rig.platform.advance(1);
        let mut twice = signed_in(&rig, "ada");
        let record = support::stored(&rig, &twice).unwrap();
        let other = SessionId::random(&rig.platform).unwrap().record_key();
        block_on(rig.store.inside.create(&other, &record)).unwrap();
        if is_labelled {
            twice.ask(&rig, async |session: &mut Session<Visit>| {
                session.set_label("Firefox on Linux");
                Ok(())
            });
        } else {
            rig.platform.advance(5);
            assert!(is_in(&rig, &twice));
        }
        let listed = list(&rig, "ada");
        assert_eq!(listed.len(), 2);
        let (used_at, label) = if is_labelled { (1, Some("Firefox on Linux")) } else { (6, None) };
        assert_eq!((listed[0].used_at - NOW, listed[0].label.as_deref()), (used_at, label), "by the id that is known");
        sign_in(&rig, &mut twice, "ada");
        assert!(is_in(&rig, &first), "it is not one too many");
        let own = twice.twin().ask(&rig, async |session: &mut Session<Visit>| Ok(session.handle().cloned())).0;
        let Reply::Ok(Some(own)) = own else { panic!("{own:?}") };
        assert!(block_on(rig.sessions.of("ada").end(&own)).unwrap());
        assert_eq!((list(&rig, "ada").len(), is_in(&rig, &twice)), (1, false), "and it ends as one");
    }
}

#[test]
fn what_does_not_list_costs_no_call_more_than_before() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    for (act, calls) in
        [("count", "load update"), ("look", "load"), ("login", "load create update"), ("reset", "load delete")]
    {
        match act {
            "count" => drop(visitor.count(&rig)),
            "look" => drop(visitor.read(&rig)),
            "login" => drop(visitor.log_in(&rig)),
            _ => drop(visitor.reset(&rig)),
        }
        assert_eq!(rig.store.calls(), calls, "{act}");
    }
    let mut owned = signed_in(&rig, "ada");
    rig.store.calls();
    owned.count(&rig);
    assert_eq!(rig.store.calls(), "load update");
}

#[test]
fn a_store_that_cannot_list_says_so_and_signs_in_all_the_same() {
    let platform = TestPlatform::at(NOW);
    let store = KvStore::new(ModelKv::new(platform.clone()), platform.clone());
    let signer = Signer::from_secret(KEY).unwrap();
    let sessions = Sessions::new(store, platform.clone(), signer, SessionParameters::default()).unwrap();
    for refused in
        [block_on(sessions.of("ada").list()).unwrap_err(), block_on(sessions.of("ada").end_all()).unwrap_err()]
    {
        assert_eq!(refused.kind(), ErrorKind::Misconfigured);
        assert!(refused.to_string().contains("cannot list a user's sessions: use D1 or Durable Objects"), "{refused}");
    }
    let store = KvStore::new(ModelKv::new(platform.clone()), platform.clone());
    let limited = SessionParameters { max_sessions: Some(2), ..SessionParameters::default() };
    let refused = Sessions::new(store, platform, Signer::from_secret(KEY).unwrap(), limited).unwrap_err();
    assert!(refused.to_string().contains("`max_sessions` needs a store that finds a user's sessions"), "{refused}");
    let incoming = edge_session::Incoming::new();
    let signed_in = block_on(sessions.run(&incoming, async |session: &mut Session<Visit>| session.sign_in("ada")));
    assert!(matches!(signed_in, Ok(edge_session::Outcome::Replied { .. })), "{signed_in:?}");
}

#[test]
fn a_failure_that_its_handler_returns_is_answered_as_what_it_is() {
    for call in ["end_all", "list"] {
        let rig = Rig::new();
        let mut mine = signed_in(&rig, "ada");
        rig.store.fail(call);
        let asked = async |session: &mut Session<Visit>| match call {
            "end_all" => rig.sessions.of("ada").end_others(session).await,
            _ => rig.sessions.of("ada").list().await.map(|listed| listed.len() as u64),
        };
        assert_eq!(
            mine.ask(&rig, asked).0,
            Reply::Error(ErrorKind::Unavailable),
            "a 503, and not the handler's own error"
        );
        assert_eq!(rig.platform.logged(), Vec::<String>::new(), "which is logged by whoever answers it");
        let hidden = async |session: &mut Session<Visit>| Ok(asked(session).await.is_err());
        assert_eq!(mine.ask(&rig, hidden).0, Reply::Ok(true));
        assert!(rig.platform.logged()[0].starts_with("failure_ignored: "), "{:?}", rig.platform.logged());
    }
}

#[test]
fn what_began_before_an_end_of_all_neither_ends_others_nor_signs_in_after_it() {
    let rig = Rig::new();
    let (owner, thief) = (signed_in(&rig, "ada"), signed_in(&rig, "ada"));
    let elsewhere = rig.redeployed(KEY, "{}");
    let (reply, _) = thief.twin().ask(&rig, async |session: &mut Session<Visit>| {
        rig.platform.advance(1);
        owner.twin().ask(&elsewhere, async |session: &mut Session<Visit>| {
            elsewhere.sessions.of("ada").end_others(session).await
        });
        rig.platform.advance(1);
        assert_eq!(rig.sessions.of("ada").end_others(session).await.unwrap_err().kind(), ErrorKind::Ended);
        session.sign_in("ada")
    });
    assert_eq!(reply, Reply::Expired("Session expired".to_owned()));
    assert_eq!((is_in(&rig, &owner), list(&rig, "ada").len()), (true, 1));
}

/// Its session is there, and nobody has the id of it.
#[test]
fn a_sign_in_that_is_refused_after_a_save_is_in_the_log() {
    let rig = Rig::new();
    let (reply, _) = Visitor::default().ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.save().await?;
        rig.platform.advance(1);
        rig.sessions.of("ada").end_all().await?;
        session.sign_in("ada")
    });
    assert_eq!(reply, Reply::Expired("Session expired".to_owned()));
    let log = rig.platform.logged().join("\n");
    assert!(log.contains("id_untold: ") && log.contains("its visitor has not been told"), "{log}");
}

#[test]
fn a_forgotten_password_whose_race_is_lost_signs_in_all_the_same() {
    let rig = Rig::new();
    let other = signed_in(&rig, "ada");
    let mut mine = known(&rig);
    rig.store.interfere(&[support::Interference::Update(r#"{"count":7}"#)]);
    let reset = async |session: &mut Session<Visit>| {
        rig.sessions.of("ada").end_others(session).await?;
        session.sign_in("ada")
    };
    assert_eq!(mine.ask(&rig, reset).0, Reply::Ok(()));
    assert_eq!((is_in(&rig, &mine), is_in(&rig, &other)), (true, false));
}

#[test]
fn one_that_was_ended_by_its_handle_meanwhile_ends_no_others() {
    let rig = Rig::new();
    let (owner, thief) = (signed_in(&rig, "ada"), signed_in(&rig, "ada"));
    let (reply, _) = thief.twin().ask(&rig, async |session: &mut Session<Visit>| {
        let handle = session.handle().unwrap().clone();
        // By the owner, elsewhere.
        assert!(rig.sessions.of("ada").end(&handle).await?);
        rig.sessions.of("ada").end_others(session).await
    });
    assert_eq!(reply, Reply::Expired("Session expired".to_owned()));
    assert!(is_in(&rig, &owner));
}

#[test]
fn the_end_of_one_ends_no_session_that_is_another_users_by_now() {
    let rig = Rig::new();
    let ada = signed_in(&rig, "ada");
    let handle = list(&rig, "ada")[0].handle.clone();
    let mut grace = ada.twin();
    grace.ask(&rig, async |session: &mut Session<Visit>| session.sign_in("grace"));
    assert!(!block_on(rig.sessions.of("ada").end(&handle)).unwrap(), "it is no more hers");
    assert!(is_in(&rig, &grace));
}

#[test]
fn one_that_has_expired_counts_no_more() {
    let rig = Rig::with(r#"{"timeout": 100, "max_sessions": 2}"#);
    let mut remembered = known(&rig);
    remembered.ask(&rig, async |session: &mut Session<Visit>| {
        session.sign_in_for("ada", std::time::Duration::from_secs(100_000))
    });
    rig.platform.advance(1);
    signed_in(&rig, "ada");
    rig.platform.advance(500);
    signed_in(&rig, "ada");
    assert!(is_in(&rig, &remembered), "there are two alive");
}

#[test]
fn one_that_was_ended_ends_no_others_either_when_it_has_noticed() {
    let rig = Rig::new();
    let (mut mine, other) = (signed_in(&rig, "ada"), signed_in(&rig, "ada"));
    let elsewhere = rig.redeployed(support::KEY, "{}");
    let handle = mine.ask(&rig, async |session: &mut Session<Visit>| Ok(session.handle().cloned())).0;
    let Reply::Ok(Some(handle)) = handle else { panic!() };
    mine.ask(&rig, async |session: &mut Session<Visit>| {
        elsewhere.sessions.of("ada").end(&handle).await?;
        let _ = session.update(|visit| visit.count += 1).await;
        rig.sessions.of("ada").end_others(session).await
    });
    assert!(is_in(&rig, &other), "the others stay");
}

#[test]
fn a_save_before_the_sign_in_takes_nothing_from_what_is_spared() {
    let rig = Rig::new();
    signed_in(&rig, "ada");
    let mut mine = Visitor::default();
    let reply = mine.ask(&rig, async |session: &mut Session<Visit>| {
        rig.sessions.of("ada").end_others(session).await?;
        session.count += 1;
        session.save().await?;
        session.sign_in("ada")
    });
    assert_eq!(reply.0, Reply::Ok(()));
}

#[test]
fn one_that_is_to_end_with_its_request_can_end_the_others() {
    let rig = Rig::new();
    let (mut mine, other) = (signed_in(&rig, "ada"), signed_in(&rig, "ada"));
    let reply = mine.ask(&rig, async |session: &mut Session<Visit>| {
        session.kill();
        rig.sessions.of("ada").end_others(session).await
    });
    assert_eq!(reply.0, Reply::Ok(1));
    assert!(!is_in(&rig, &other) && !is_in(&rig, &mine) && list(&rig, "ada").is_empty());
}
