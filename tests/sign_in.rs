//! Signing in and out: whose session it is, since when, and for how long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use std::time::Duration;

use edge_session::{ErrorKind, Session, Store, Updated};
use support::{Interference, NOW, Reply, Rig, Visit, Visitor, known, log_in, stored};

async fn sign_in(session: &mut Session<Visit>) -> Result<u64, edge_session::Error> {
    session.sign_in("ada@example.com")?;
    Ok(session.count)
}

async fn who(session: &mut Session<Visit>) -> Result<Option<String>, edge_session::Error> {
    Ok(session.user().map(str::to_owned))
}

const ADA: Reply<Option<&str>> = Reply::Ok(Some("ada@example.com"));

fn as_text(reply: &Reply<Option<String>>) -> Reply<Option<&str>> {
    match reply {
        Reply::Ok(user) => Reply::Ok(user.as_deref()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_sign_in_gives_the_session_a_new_id_and_an_owner() {
    for mut visitor in [Visitor::default(), known(&Rig::new())] {
        let rig = Rig::new();
        if visitor.cookie.is_some() {
            visitor = known(&rig);
        }
        let before = visitor.cookie.clone();
        let (reply, set_cookie) = visitor.ask(&rig, sign_in);
        assert_eq!(reply, Reply::Ok(u64::from(before.is_some())), "with its data");
        assert!(set_cookie.is_some() && visitor.cookie != before);
        assert_eq!(as_text(&visitor.ask(&rig, who).0), ADA);
        let record = stored(&rig, &visitor).unwrap();
        assert_eq!(record.extensions.get("user"), Some("ada@example.com"), "in the record as it is");
    }
}

#[test]
fn within_the_handler_it_is_theirs_at_once_and_after_a_sign_out_nobodys() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let seen = async |session: &mut Session<Visit>| {
        let before = session.user().map(str::to_owned);
        session.sign_in("ada")?;
        Ok((before, session.user().map(str::to_owned), session.authenticated_at()))
    };
    assert_eq!(visitor.ask(&rig, seen).0, Reply::Ok((None, Some("ada".to_owned()), Some(NOW))));
    let out = async |session: &mut Session<Visit>| {
        session.sign_out();
        Ok(session.user().is_none())
    };
    let cookie = visitor.cookie.clone();
    assert_eq!(visitor.ask(&rig, out).0, Reply::Ok(true));
    assert_eq!(Visitor::with(cookie.unwrap()).ask(&rig, who).0, Reply::Ok(None));
}

#[test]
fn a_sign_in_costs_what_a_change_of_id_costs() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.ask(&rig, sign_in);
    assert_eq!(rig.store.calls(), "load change_id_for");
    let mut other = Visitor::default();
    other.ask(&rig, sign_in);
    assert_eq!(rig.store.calls(), "create_for");
}

#[test]
fn who_signs_in_again_has_another_id_the_same_handle_and_a_later_time() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    let known_by = async |session: &mut Session<Visit>| {
        Ok((session.handle().map(|handle| handle.as_str().to_owned()), session.authenticated_at()))
    };
    visitor.ask(&rig, sign_in);
    let (first, cookie) = (visitor.ask(&rig, known_by).0, visitor.cookie.clone());
    rig.platform.advance(50);
    visitor.ask(&rig, sign_in);
    let second = visitor.ask(&rig, known_by).0;
    let (Reply::Ok((Some(first), first_at)), Reply::Ok((Some(second), second_at))) = (first, second) else { panic!() };
    assert_eq!((first, first_at, second_at), (second, Some(NOW), Some(NOW + 50)));
    assert_ne!(visitor.cookie, cookie);
    // A change of id is no sign-in.
    rig.platform.advance(5);
    visitor.ask(&rig, log_in);
    assert_eq!(
        visitor.ask(&rig, async |session: &mut Session<Visit>| Ok(session.authenticated_at())).0,
        Reply::Ok(Some(NOW + 50))
    );
    assert_eq!(as_text(&visitor.ask(&rig, who).0), ADA);
}

#[test]
fn another_users_sign_in_has_a_handle_and_a_label_of_its_own() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    let known_by = async |session: &mut Session<Visit>| Ok(session.handle().map(|handle| handle.as_str().to_owned()));
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.set_label("Firefox");
        session.sign_in("ada")
    });
    let first = visitor.ask(&rig, known_by).0;
    assert_eq!(stored(&rig, &visitor).unwrap().extensions.get("label"), Some("Firefox"));
    visitor.ask(&rig, async |session: &mut Session<Visit>| session.sign_in("ada"));
    assert_eq!(stored(&rig, &visitor).unwrap().extensions.get("label"), Some("Firefox"), "ada's still");
    visitor.ask(&rig, async |session: &mut Session<Visit>| session.sign_in("grace"));
    assert_ne!(visitor.ask(&rig, known_by).0, first);
    assert_eq!(stored(&rig, &visitor).unwrap().extensions.get("label"), None);
}

/// In one browser, without a sign-out between the two.
#[test]
fn who_signs_in_after_another_user_finds_nothing_of_theirs() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    assert_eq!(visitor.ask(&rig, sign_in).0, Reply::Ok(1), "what was nobody's is theirs");
    assert_eq!(visitor.ask(&rig, sign_in).0, Reply::Ok(1), "and stays so at another sign-in of theirs");
    let grace = async |session: &mut Session<Visit>| {
        session.sign_in("grace")?;
        Ok(session.count)
    };
    assert_eq!(visitor.ask(&rig, grace).0, Reply::Ok(0));
    assert_eq!(stored(&rig, &visitor).unwrap().data, r#"{"count":0}"#);
    let both = async |session: &mut Session<Visit>| {
        session.sign_in("ada")?;
        session.count = 7;
        session.sign_in("grace")?;
        Ok(session.count)
    };
    assert_eq!(Visitor::default().ask(&rig, both).0, Reply::Ok(0), "also of one who was signed in a moment ago");
}

#[test]
fn a_label_is_saved_like_a_change_and_only_of_a_session_that_is_somebodys() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let name = async |session: &mut Session<Visit>| {
        session.set_label("Firefox");
        Ok(())
    };
    visitor.ask(&rig, name);
    assert_eq!(rig.store.calls(), "load", "nobody's");
    visitor.ask(&rig, sign_in);
    rig.store.calls();
    visitor.ask(&rig, name);
    assert_eq!(rig.store.calls(), "load update");
    visitor.ask(&rig, name);
    assert_eq!(rig.store.calls(), "load", "it is called so already");
}

#[test]
fn two_users_whom_one_request_signs_in_have_a_handle_each() {
    let rig = Rig::new();
    let (reply, _) = Visitor::default().ask(&rig, async |session: &mut Session<Visit>| {
        let mut handles = Vec::new();
        for user in ["ada", "grace"] {
            session.sign_in(user)?;
            session.save().await?;
            handles.extend(session.handle().cloned());
        }
        Ok(handles)
    });
    let Reply::Ok(handles) = reply else { panic!("{reply:?}") };
    assert!(handles.len() == 2 && handles[0] != handles[1], "{handles:?}");
}

#[test]
fn a_label_that_was_saved_is_not_given_again_over_a_later_one() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.ask(&rig, sign_in);
    let elsewhere = rig.redeployed(support::KEY, "{}");
    visitor.twin().ask(&rig, async |session: &mut Session<Visit>| {
        session.set_label("Firefox");
        session.save().await?;
        visitor.twin().ask(&elsewhere, async |session: &mut Session<Visit>| {
            session.set_label("Chrome");
            Ok(())
        });
        session.update(|visit| visit.count += 1).await
    });
    let record = stored(&rig, &visitor).unwrap();
    assert_eq!((record.extensions.get("label"), &*record.data), (Some("Chrome"), r#"{"count":2}"#));
}

#[test]
fn a_name_that_is_none_is_an_error_and_signs_nobody_in() {
    let rig = Rig::new();
    for name in [String::new(), "x".repeat(257)] {
        let mut visitor = known(&rig);
        let refused = visitor.ask(&rig, async |session: &mut Session<Visit>| session.sign_in(&name)).0;
        assert_eq!(refused, Reply::Error(ErrorKind::Unserializable), "a 500 with a reason, and not the handler's own");
        let went_on = visitor.ask(&rig, async |session: &mut Session<Visit>| {
            drop(session.sign_in(&name));
            Ok(session.user().is_some())
        });
        assert_eq!(went_on, (Reply::Ok(false), None));
    }
    assert!(rig.platform.logged().iter().any(|line| line.starts_with("failure_ignored: ")));
}

#[test]
fn its_end_counts_from_the_sign_in() {
    let rig = Rig::with(r#"{"timeout": 1000, "absolute_timeout": 100}"#);
    let mut visitor = known(&rig);
    rig.platform.advance(90);
    visitor.ask(&rig, sign_in);
    assert_eq!(stored(&rig, &visitor).unwrap().touched_at, NOW + 90, "and is a use");
    rig.platform.advance(99);
    assert_eq!(as_text(&visitor.ask(&rig, who).0), ADA);
    rig.platform.advance(1);
    assert_eq!(visitor.ask(&rig, who).0, Reply::Ok(None));
}

#[test]
fn one_that_is_remembered_outlives_the_timeouts_and_the_browser() {
    let rig = Rig::with(r#"{"timeout": 100, "absolute_timeout": 200}"#);
    let mut visitor = Visitor::default();
    let remember =
        async |session: &mut Session<Visit>| session.sign_in_for("ada@example.com", Duration::from_secs(1000));
    let (_, set_cookie) = visitor.ask(&rig, remember);
    assert!(set_cookie.unwrap().contains("; Max-Age=1000;"));
    rig.platform.advance(999);
    assert_eq!(as_text(&visitor.ask(&rig, who).0), ADA);
    assert_eq!(stored(&rig, &visitor).unwrap().touched_at, NOW + 999, "and its use is noted");
    // A new id has what is left of the time.
    let (_, set_cookie) = visitor.ask(&rig, log_in);
    assert!(set_cookie.unwrap().contains("; Max-Age=1;"));
    rig.platform.advance(1);
    assert_eq!(visitor.ask(&rig, who).0, Reply::Ok(None));
    // And a plain sign-in is for the browser's time again.
    let (_, set_cookie) = visitor.ask(&rig, sign_in);
    assert!(!set_cookie.unwrap().contains("Max-Age"));
}

#[test]
fn a_sign_in_that_is_sent_twice_finds_the_basket_again() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let (mut first, mut second) = (visitor.twin(), visitor.twin());
    let sign_in_and_count = async |session: &mut Session<Visit>| {
        session.sign_in("ada@example.com")?;
        session.count += 10;
        Ok(session.count)
    };
    assert_eq!(first.ask(&rig, sign_in_and_count).0, Reply::Ok(11));
    assert_eq!(
        second.ask(&rig, sign_in_and_count).0,
        Reply::Ok(11),
        "as it was loaded, without what the first one did"
    );
    assert_ne!(first.cookie, second.cookie);
    assert_eq!(as_text(&second.ask(&rig, who).0), ADA);
    // What a request has changed before is its own.
    let count_and_sign_in = async |session: &mut Session<Visit>| {
        session.count += 100;
        session.sign_in("ada@example.com")?;
        Ok(session.count)
    };
    assert_eq!(visitor.twin().ask(&rig, count_and_sign_in).0, Reply::Ok(100));
    // Whoever only looks with the old id finds nothing of it.
    assert_eq!(visitor.twin().read(&rig), Reply::Ok(0));
    assert_eq!(visitor.twin().ask(&rig, log_in).0, Reply::Ok(()));
    // Nor does anybody after the grace.
    rig.platform.advance(30);
    assert_eq!(visitor.twin().ask(&rig, sign_in_and_count).0, Reply::Ok(10));
}

/// What is left under an id that was only changed is no data.
#[test]
fn a_straggler_begins_from_default_also_where_nothing_could_be_read_as_data() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Points(Option<u64>);
    impl Default for Points {
        fn default() -> Self {
            Self(Some(7))
        }
    }
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    visitor.ask(&rig, async |session: &mut Session<Points>| session.save().await);
    let late = visitor.twin();
    visitor.ask(&rig, async |session: &mut Session<Points>| {
        session.cycle_id();
        Ok(())
    });
    let (reply, _) = late.twin().ask(&rig, async |session: &mut Session<Points>| {
        session.sign_in("ada")?;
        Ok(session.0)
    });
    assert_eq!(reply, Reply::Ok(Some(7)));
}

/// Nor is it known then whether the session still lives.
#[test]
fn nor_does_a_straggler_find_the_basket_where_the_session_cannot_be_read() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let late = visitor.twin();
    visitor.ask(&rig, sign_in);
    rig.store.garble(&support::key_of(&visitor));
    assert_eq!(late.twin().ask(&rig, sign_in).0, Reply::Ok(0));
}

#[test]
fn a_first_sign_in_whose_answer_is_lost_is_said_for_nobody_knows_the_id() {
    let rig = Rig::new();
    rig.store.lose(if cfg!(feature = "users") { "create_for" } else { "create" });
    assert_eq!(Visitor::default().ask(&rig, sign_in).0, Reply::Error(ErrorKind::Unavailable));
    let log = rig.platform.logged();
    assert!(
        log.len() == 1 && log[0].starts_with("id_untold: RecordKey(") && log[0].contains("or may have been"),
        "{log:?}"
    );
}

#[test]
fn after_a_logout_an_old_id_finds_the_basket_no_more() {
    for by_old_id in [false, true] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        let late = visitor.twin();
        visitor.ask(&rig, sign_in);
        let mut leaves = if by_old_id { late.twin() } else { visitor };
        let out = async |session: &mut Session<Visit>| {
            session.sign_out();
            Ok(())
        };
        assert_eq!(leaves.ask(&rig, out).0, Reply::Ok(()));
        assert_eq!(late.twin().ask(&rig, sign_in).0, Reply::Ok(0), "by the old id: {by_old_id}");
    }
}

#[test]
fn while_the_session_lives_on_under_a_third_id_the_basket_is_found() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let late = visitor.twin();
    visitor.ask(&rig, sign_in);
    visitor.ask(&rig, sign_in);
    assert_eq!(late.twin().ask(&rig, sign_in).0, Reply::Ok(1));
}

#[test]
fn whether_the_basket_is_still_there_is_asked_of_the_store_and_its_failure_is_a_503() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let late = visitor.twin();
    visitor.ask(&rig, sign_in);
    rig.store.fail_once("load", 1, false);
    assert_eq!(late.twin().ask(&rig, sign_in).0, Reply::Error(ErrorKind::Unavailable));
    assert_eq!(late.twin().ask(&rig, sign_in).0, Reply::Ok(1));
}

#[test]
fn an_id_that_had_an_owner_leaves_nothing_to_who_signs_in_with_it() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.ask(&rig, sign_in);
    let thief = visitor.twin();
    visitor.ask(&rig, sign_in);
    let sign_in_as_another = async |session: &mut Session<Visit>| {
        session.sign_in("mallory")?;
        Ok(session.count)
    };
    assert_eq!(thief.twin().ask(&rig, sign_in_as_another).0, Reply::Ok(0));
}

#[test]
fn a_sign_in_of_a_session_that_ends_meanwhile_is_a_401_and_not_a_welcome() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Delete]);
    let (reply, set_cookie) = visitor.ask(&rig, sign_in);
    assert_eq!((reply, set_cookie), (Reply::Expired("Session expired".to_owned()), None));
}

#[test]
fn a_sign_in_that_loses_its_race_runs_again() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Update(r#"{"count":7}"#)]);
    assert_eq!(visitor.ask(&rig, sign_in).0, Reply::Ok(7));
    assert_eq!(as_text(&visitor.ask(&rig, who).0), ADA);
}

/// However it comes that nothing is stored: a reply that says welcome must not leave.
#[test]
fn a_sign_in_that_came_to_nothing_is_never_a_welcome() {
    // Lost its race, and then its session was ended, before it was loaded again or after.
    for ends in [
        &[Interference::UpdateAndDelete(r#"{"count":7}"#)][..],
        &[Interference::Delete, Interference::Update(r#"{"count":7}"#)],
    ] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        rig.store.interfere(ends);
        assert_eq!(visitor.ask(&rig, sign_in), (Reply::Expired("Session expired".to_owned()), None));
    }
    // Its absolute timeout came while the handler ran.
    let rig = Rig::with(r#"{"timeout": 1000, "absolute_timeout": 100}"#);
    let mut visitor = known(&rig);
    rig.platform.advance(99);
    let late = async |session: &mut Session<Visit>| {
        rig.platform.advance(2);
        session.sign_in("ada")
    };
    assert_eq!(visitor.ask(&rig, late), (Reply::Expired("Session expired".to_owned()), None));
    // After a save that may have been stored.
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.fail_once("update", 0, false);
    let after_a_failure = async |session: &mut Session<Visit>| {
        session.count += 1;
        drop(session.save().await);
        session.sign_in("ada")
    };
    assert_eq!(visitor.ask(&rig, after_a_failure).0, Reply::Error(ErrorKind::Unavailable));
    // A refusal that the handler hides.
    let rig = Rig::new();
    let mut visitor = known(&rig);
    rig.store.interfere(&[Interference::Delete]);
    let hides = async |session: &mut Session<Visit>| {
        session.sign_in("ada")?;
        drop(session.save().await);
        Ok(session.user().map(str::to_owned))
    };
    assert_eq!(visitor.ask(&rig, hides), (Reply::Expired("Session expired".to_owned()), None));
    // After a sign-out.
    let signs_out = async |session: &mut Session<Visit>| {
        session.sign_out();
        session.sign_in("grace")
    };
    assert_eq!(known(&rig).ask(&rig, signs_out).0, Reply::Expired("Session expired".to_owned()));
}

#[test]
fn a_sign_in_whose_race_outlasts_the_grace_begins_from_default() {
    let rig = Rig::new();
    let visitor = std::cell::RefCell::new(known(&rig));
    let elsewhere = rig.redeployed(support::KEY, "{}");
    let is_first = std::cell::Cell::new(true);
    let mut late = visitor.borrow().twin();
    let (reply, _) = late.ask(&rig, async |session: &mut Session<Visit>| {
        if is_first.replace(false) {
            visitor.borrow_mut().log_in(&elsewhere);
            rig.platform.advance(31);
        }
        session.sign_in("ada@example.com")?;
        Ok(session.count)
    });
    assert_eq!(reply, Reply::Ok(0));
    assert_eq!(as_text(&late.ask(&rig, who).0), ADA);
}

#[test]
fn what_is_bound_to_an_address_is_kept_for_nobody() {
    let rig = Rig::with(r#"{"ignore_change_ip": false}"#);
    let mut visitor = Visitor::at("192.0.2.1");
    visitor.count(&rig);
    let mut elsewhere = Visitor { ip: Some("198.51.100.9"), ..visitor.twin() };
    visitor.ask(&rig, sign_in);
    let signs_in = async |session: &mut Session<Visit>| {
        session.sign_in("mallory")?;
        Ok(session.count)
    };
    assert_eq!(elsewhere.ask(&rig, signs_in).0, Reply::Expired("Session expired".to_owned()));
    // Also for who asks nobody for their address, as a release before this one with a retired record.
    let incautious = rig.redeployed(support::KEY, "{}");
    let (reply, _) = elsewhere.ask(&incautious, signs_in);
    assert_eq!(reply, Reply::Ok(0));
}

/// A later release may note it in other words.
#[test]
fn a_sign_in_that_this_release_cannot_read_is_another_users() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.set_label("ada's phone");
        sign_in(session).await
    });
    let record = stored(&rig, &visitor).unwrap();
    let later = record.with(|record| {
        record.version += 1;
        record.extensions.set("handle", &"0".repeat(32)).unwrap();
    });
    let updated = pollster::block_on(rig.store.inside.update(&support::key_of(&visitor), &later)).unwrap();
    assert_eq!(updated, Updated::Done);
    let old = visitor.twin();
    let as_grace = async |session: &mut Session<Visit>| {
        session.sign_in("grace")?;
        Ok(session.count)
    };
    assert_eq!(visitor.ask(&rig, as_grace).0, Reply::Ok(0));
    assert_eq!(stored(&rig, &old).unwrap().data, "null", "and nothing of it is kept");
    assert_eq!(stored(&rig, &visitor).unwrap().extensions.get("label"), None);
}

/// Nothing is there that it could fail to end.
#[test]
fn a_sign_out_of_what_a_refused_sign_in_has_left_is_no_error() {
    let rig = Rig::new();
    let (reply, _) = Visitor::default().ask(&rig, async |session: &mut Session<Visit>| {
        rig.platform.advance(1);
        rig.sessions.of("ada").end_all().await?;
        session.sign_in("ada")?;
        assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Ended);
        assert_eq!(session.user(), None);
        session.sign_out();
        session.save().await
    });
    assert_eq!(reply, Reply::Ok(()));
    let log = rig.platform.logged();
    assert!(log.iter().all(|line| !line.starts_with("id_untold: ")), "no id is to be told: {log:?}");
}

/// And what was there before it, it ends as if nobody had been signed in.
#[test]
fn a_sign_out_after_a_refused_sign_in_ends_what_the_visitors_cookie_leads_to() {
    for is_straggler in [true, false] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        let late = visitor.twin();
        if is_straggler {
            visitor.ask(&rig, log_in);
        } else {
            let garbled = stored(&rig, &visitor).unwrap().with(|record| {
                record.version += 1;
                record.data = r#"{"count":"one"}"#.to_owned();
            });
            let key = support::key_of(&visitor);
            let updated = pollster::block_on(rig.store.inside.update(&key, &garbled)).unwrap();
            assert_eq!(updated, Updated::Done);
        }
        let (reply, _) = late.twin().ask(&rig, async |session: &mut Session<Visit>| {
            rig.sessions.of("ada").end_all().await?;
            session.sign_in("ada")?;
            assert_eq!(session.save().await.unwrap_err().kind(), ErrorKind::Ended);
            session.sign_out();
            session.save().await
        });
        assert_eq!(reply, Reply::Ok(()));
        assert_eq!(stored(&rig, &visitor), None, "{is_straggler}");
    }
}

#[test]
fn what_is_kept_for_a_sign_in_that_is_sent_twice_is_gone_in_a_day() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let old = visitor.twin();
    visitor.ask(&rig, async |session: &mut Session<Visit>| session.sign_in_for("ada", Duration::MAX));
    assert!(stored(&rig, &old).unwrap().expires_at <= NOW + 24 * 60 * 60);
    let hundred_years = NOW + 100 * 365 * 24 * 60 * 60;
    assert_eq!(stored(&rig, &visitor).unwrap().expires_at, hundred_years, "as long as any time may be");
}

#[test]
fn what_is_kept_is_kept_for_a_day_also_where_sessions_live_longer() {
    let rig = Rig::with(r#"{"timeout": 2592000}"#);
    let mut visitor = known(&rig);
    let old = visitor.twin();
    visitor.ask(&rig, sign_in);
    let left = stored(&rig, &old).unwrap();
    assert_eq!((left.expires_at, &*left.data), (NOW + 24 * 60 * 60, r#"{"count":1}"#));
}

#[test]
fn what_is_kept_is_the_data_as_loaded_and_not_as_the_login_saved_it() {
    let rig = Rig::new();
    let visitor = known(&rig);
    visitor.twin().ask(&rig, async |session: &mut Session<Visit>| {
        // What only ada may see.
        session.update(|visit| visit.count += 1000).await?;
        session.update(|visit| visit.count += 1000).await?;
        session.sign_in("ada")
    });
    let somebody = visitor.twin().ask(&rig, async |session: &mut Session<Visit>| {
        session.sign_in("mallory")?;
        Ok(session.count)
    });
    assert_eq!(somebody.0, Reply::Ok(1));
}

/// No browser keeps a cookie for more than 400 days.
#[test]
fn one_that_is_remembered_for_longer_than_a_browser_keeps_a_cookie_has_it_renewed() {
    let days = |days: u64| days * 86_400;
    for (lifetime, is_renewed) in [(400, false), (500, true)] {
        let rig = Rig::new();
        let mut visitor = known(&rig);
        let remember =
            async |session: &mut Session<Visit>| session.sign_in_for("ada", Duration::from_secs(days(lifetime)));
        visitor.ask(&rig, remember);
        rig.platform.advance(days(399));
        let (reply, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| Ok(session.user().is_some()));
        assert_eq!(reply, Reply::Ok(true));
        assert_eq!(set_cookie.is_some(), is_renewed, "{lifetime}");
        let left = format!("Max-Age={}", days(101));
        assert!(set_cookie.is_none_or(|line| line.contains(&left)), "{lifetime}");
    }
}
