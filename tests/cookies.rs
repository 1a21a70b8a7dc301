//! When a reply sets the cookie, and which of a request's cookies counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use std::cell::{Cell, RefCell};

use edge_session::{Incoming, Outcome, Session, Signer};
use pollster::block_on;
use support::{KEY, Reply, Rig, Visit, Visitor, known};

const NEXT_KEY: &str = "second-key-123456789abcdef012345";

// A reply may arrive late, after a login's: what it sets then takes the place of the new id.

#[test]
fn a_save_of_a_known_session_sets_no_cookie() {
    for parameters in ["{}", r#"{"persistent": true}"#] {
        let rig = Rig::with(parameters);
        let mut visitor = known(&rig);
        rig.platform.advance(1);
        assert_eq!(visitor.ask(&rig, support::count), (Reply::Ok(2), None));
        let (_, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
            session.count += 1;
            session.save().await?;
            session.update(|visit| visit.count += 1).await
        });
        assert_eq!(set_cookie, None, "{parameters}");
    }
}

#[test]
fn a_touch_renews_a_persistent_cookie() {
    let rig = Rig::with(r#"{"timeout": 100, "touch_after": 10, "persistent": true}"#);
    let mut visitor = known(&rig);
    let look = async |session: &mut Session<Visit>| Ok(session.count);
    rig.platform.advance(9);
    assert_eq!(visitor.ask(&rig, look), (Reply::Ok(1), None), "not due");
    rig.platform.advance(1);
    rig.store.calls();
    let (_, set_cookie) = visitor.ask(&rig, look);
    assert!(set_cookie.unwrap().contains("; Max-Age=100;"));
    assert_eq!(rig.store.calls(), "load touch", "which looks whether the session is still there");
    for save in [false, true] {
        rig.platform.advance(10);
        rig.store.calls();
        let (_, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
            session.count += 1;
            if save { session.save().await } else { Ok(()) }
        });
        assert!(set_cookie.unwrap().contains("; Max-Age=100;"), "the note of use goes with the save");
        assert_eq!(rig.store.calls(), "load update load", "and it looks whether the session is still there");
    }
}

/// Another request was faster, which is enough to know that the session is still there.
#[test]
fn so_does_one_that_gives_way() {
    let rig = Rig::with(r#"{"timeout": 100, "touch_after": 10, "persistent": true}"#);
    let visitor = known(&rig);
    rig.platform.advance(10);
    rig.store.tell_no_winner();
    let elsewhere = rig.redeployed(KEY, r#"{"timeout": 100, "touch_after": 99}"#);
    let (_, set_cookie) = visitor.twin().ask(&rig, async |_: &mut Session<Visit>| {
        visitor.twin().count(&elsewhere);
        rig.store.calls();
        Ok(())
    });
    assert!(set_cookie.is_some());
    assert_eq!(rig.store.calls(), "touch");
}

#[test]
fn a_touch_without_a_reason_to_renew_the_cookie_sets_none() {
    let rig = Rig::with(r#"{"timeout": 100, "touch_after": 10}"#);
    let mut visitor = known(&rig);
    rig.platform.advance(10);
    assert_eq!(visitor.ask(&rig, async |session: &mut Session<Visit>| Ok(session.count)), (Reply::Ok(1), None));
    assert_eq!(rig.store.calls(), "load touch");
    rig.platform.advance(10);
    assert_eq!(visitor.ask(&rig, support::count), (Reply::Ok(2), None));
    assert_eq!(rig.store.calls(), "load update");
}

/// While the handler ran, another request changed the id: this reply would put the old one back.
#[test]
fn a_cookie_is_not_renewed_when_the_id_was_changed_meanwhile() {
    for changes in [false, true] {
        let rig = Rig::with(r#"{"timeout": 100, "touch_after": 10, "persistent": true}"#);
        let visitor = RefCell::new(known(&rig));
        let mut late = visitor.borrow().twin();
        rig.platform.advance(10);
        let elsewhere = rig.redeployed(KEY, r#"{"timeout": 100, "touch_after": 10, "persistent": true}"#);
        let (_, set_cookie) = late.ask(&rig, async |session: &mut Session<Visit>| {
            if changes {
                session.count += 1;
                session.save().await?;
            }
            visitor.borrow_mut().log_in(&elsewhere);
            Ok(())
        });
        assert_eq!(set_cookie, None, "{changes}");
    }
    // Nor is one that is to be signed anew.
    let rig = Rig::new();
    let visitor = RefCell::new(known(&rig));
    let mut late = visitor.borrow().twin();
    let rotated = rig.redeployed(&format!("{NEXT_KEY},{KEY}"), "{}");
    let (_, set_cookie) = late.ask(&rotated, async |_: &mut Session<Visit>| {
        visitor.borrow_mut().log_in(&rig);
        Ok(())
    });
    assert_eq!(set_cookie, None);
}

/// No browser keeps a cookie for more than 400 days.
#[test]
fn a_persistent_cookie_of_a_session_of_years_is_renewed_in_time() {
    let day = 86_400;
    let rig = Rig::with(&format!(r#"{{"timeout": {}, "persistent": true}}"#, 20 * 365 * day));
    let mut visitor = known(&rig);
    let mut renewed = 0;
    for _ in 0..399 {
        rig.platform.advance(day);
        let (_, set_cookie) = visitor.ask(&rig, async |session: &mut Session<Visit>| Ok(session.count));
        renewed += u32::from(set_cookie.is_some());
    }
    assert_eq!(renewed, 9, "every forty days");
}

// Several cookies of the name.

/// Live under another path: 2 3 4, in whatever order the browser sends them.
#[test]
fn a_dead_cookie_beside_a_live_one_hides_nothing() {
    for parameters in ["{}", r#"{"ignore_expiry": false}"#] {
        let rig = Rig::with(parameters);
        let dead = known(&rig).cookie.unwrap();
        Visitor::with(dead.clone()).reset(&rig);
        let visitor = known(&rig);
        let live = visitor.cookie.clone().unwrap();
        for (header, expected) in [
            (format!("{dead}; {live}"), 2),
            (format!("{live}; {dead}"), 3),
            (format!("{dead}; webpy_session_id=forged; {live}"), 4),
        ] {
            assert_eq!(Visitor::with(header).count(&rig), Reply::Ok(expected), "{parameters}");
        }
    }
}

/// Of another release's type: it stays where it is, and 1 2 3 is counted beside it.
#[test]
fn a_cookie_whose_data_cannot_be_read_hides_no_live_one() {
    let rig = Rig::new();
    let mut other = Visitor::default();
    other.ask(&rig, async |session: &mut Session<Vec<String>>| {
        session.push("of another type".to_owned());
        Ok(())
    });
    let unreadable = other.cookie.unwrap();
    let mut visitor = Visitor::with(unreadable.clone());
    for expected in [1, 2, 3] {
        assert_eq!(visitor.count(&rig), Reply::Ok(expected));
        let live = visitor.cookie.as_ref().unwrap().rsplit("; ").next().unwrap().to_owned();
        visitor.cookie = Some(format!("{unreadable}; {live}"));
    }
    let log = rig.platform.logged();
    assert_eq!(log.iter().filter(|line| line.starts_with("unreadable: ")).count(), 1, "said once: {log:?}");
}

/// Its handler has run on the one; it must not do its work on the other.
#[test]
fn a_request_that_runs_again_stays_with_its_session() {
    let rig = Rig::new();
    let (first, mut second) = (known(&rig), known(&rig));
    let header = format!("{}; {}", first.cookie.as_ref().unwrap(), second.cookie.as_ref().unwrap());
    let (elsewhere, is_first) = (rig.redeployed(KEY, "{}"), Cell::new(true));
    let (reply, set_cookie) = Visitor::with(header).ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        if is_first.replace(false) {
            first.twin().count(&elsewhere);
            rig.store.interfere_on_load(support::Interference::Delete);
        }
        Ok(session.count)
    });
    assert_eq!((reply, set_cookie), (Reply::Ok(1), None));
    assert_eq!(second.read(&rig), Reply::Ok(1));
    assert_eq!(rig.platform.logged().iter().filter(|line| line.starts_with("changes_dropped: ")).count(), 1);
}

#[test]
fn a_cookie_behind_the_live_one_costs_a_store_call_once_in_the_life_of_an_isolate() {
    let rig = Rig::new();
    let dead = known(&rig).cookie.unwrap();
    Visitor::with(dead.clone()).reset(&rig);
    let mut visitor = known(&rig);
    visitor.cookie = Some(format!("{}; {dead}", visitor.cookie.as_ref().unwrap()));
    rig.store.calls();
    for _ in 0..3 {
        assert_eq!(visitor.twin().read(&rig), Reply::Ok(1));
    }
    assert_eq!(rig.store.calls(), "load load load load");
}

#[test]
fn a_retired_cookie_beside_a_live_one_is_not_the_live_one() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let old = visitor.cookie.clone().unwrap();
    visitor.log_in(&rig);
    let live = visitor.cookie.clone().unwrap();
    for header in [format!("{old}; {live}"), format!("{live}; {old}")] {
        assert_eq!(Visitor::with(header).read(&rig), Reply::Ok(101));
    }
}

#[test]
fn of_two_live_sessions_the_first_counts_and_the_log_says_so_once() {
    let rig = Rig::new();
    let (mut first, mut second) = (known(&rig), known(&rig));
    second.count(&rig);
    second.count(&rig);
    let header = format!("{}; {}", first.cookie.as_ref().unwrap(), second.cookie.as_ref().unwrap());
    assert_eq!(Visitor::with(header.clone()).read(&rig), Reply::Ok(1));
    rig.store.calls();
    assert_eq!(Visitor::with(header).count(&rig), Reply::Ok(2));
    assert_eq!(rig.store.calls(), "load update", "said once, looked for once");
    assert_eq!((first.read(&rig), second.read(&rig)), (Reply::Ok(2), Reply::Ok(3)));
    let log = rig.platform.logged();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].starts_with("several_sessions: "), "{log:?}");
}

#[test]
fn no_more_than_three_signed_cookies_cost_a_store_call() {
    let rig = Rig::new();
    let dead: Vec<_> = (0..5).map(|_| known(&rig)).collect();
    for visitor in &dead {
        visitor.twin().reset(&rig);
    }
    rig.store.calls();
    let header: Vec<_> = dead.iter().map(|visitor| visitor.cookie.clone().unwrap()).collect();
    Visitor::with(header.join("; ")).read(&rig);
    assert_eq!(rig.store.calls(), "load load load");
}

/// A browser keeps it beside the one that we set: it was set for another path.
#[test]
fn a_dead_cookie_that_cannot_be_taken_away_locks_nobody_out() {
    let rig = Rig::with(r#"{"ignore_expiry": false}"#);
    let dead = known(&rig).cookie.unwrap();
    Visitor::with(dead.clone()).reset(&rig);
    let incoming = Incoming::new().cookie(&*dead);
    let Ok(Outcome::Expired { set_cookie, .. }) = block_on(rig.sessions.run(&incoming, support::count)) else {
        panic!()
    };
    assert!(set_cookie[1].starts_with("webpy_session_id=; Max-Age=0;"), "what is taken away comes last");
    let told = set_cookie[0].split(';').next().unwrap();
    let mut visitor = Visitor::with(format!("{dead}; {told}"));
    assert_eq!(visitor.count(&rig), Reply::Ok(1), "told once, and then let in");
    let live = visitor.cookie.unwrap();
    assert_eq!(Visitor::with(format!("{dead}; {live}")).count(&rig), Reply::Ok(2), "for good");
}

// Where a client keeps a cookie.

fn set_cookie_at(url: &str, ip: Option<&str>, parameters: &str) -> (String, Vec<String>) {
    let rig = Rig::with(parameters);
    let incoming = Incoming::new().url(url).ip(ip);
    for _ in 0..2 {
        block_on(rig.sessions.run(&incoming, support::count)).unwrap();
    }
    match block_on(rig.sessions.run(&incoming, support::count)).unwrap() {
        Outcome::Replied { set_cookie, .. } => (set_cookie[0].clone(), rig.platform.logged()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn on_this_machine_the_cookie_is_one_that_every_client_keeps() {
    let domain = r#"{"cookie_domain": "example.com"}"#;
    for (url, ip) in [
        ("http://localhost:8787/count", None),
        ("http://127.0.0.1:8787/count", None),
        // `wrangler dev` of a Worker with routes.
        ("http://shop.example.com/count", Some("127.0.0.1")),
    ] {
        let (set_cookie, log) = set_cookie_at(url, ip, domain);
        assert!(set_cookie.ends_with("; HttpOnly; Path=/; SameSite=Lax"), "{set_cookie}");
        assert_eq!(log, Vec::<String>::new());
    }
}

#[test]
fn a_cookie_that_clients_drop_is_said_once_with_its_repair() {
    for (url, ip, parameters, reason) in [
        ("http://192.168.1.5:8787/", Some("192.168.1.7"), "{}", "came by plain http to 192.168.1.5"),
        ("http://127.evil.example/", Some("192.0.2.1"), "{}", "came by plain http to 127.evil.example"),
        ("https://shop.workers.dev/", None, r#"{"cookie_domain": "example.com"}"#, "`cookie_domain` is example.com"),
    ] {
        let (set_cookie, log) = set_cookie_at(url, ip, parameters);
        assert!(set_cookie.contains("; Secure"), "{set_cookie}");
        assert_eq!(log.len(), 1, "once for an isolate: {log:?}");
        assert!(log[0].starts_with("cookie_refused: ") && log[0].contains(reason), "{log:?}");
    }
    assert_eq!(set_cookie_at("https://example.com/", None, "{}").1, Vec::<String>::new());
}

// Keys that are being retired.

/// Both versions of a deployment answer side by side, and a visitor meets one or the other.
#[test]
fn keys_rotate_in_three_steps_without_logging_anybody_out() {
    let parameters = r#"{"timeout": 100}"#;
    let rig = Rig::with(parameters);
    let (mut visitor, mut newcomer) = (known(&rig), Visitor::default());
    let mut counted = 1;
    let steps: Vec<Rig> = [KEY, &format!("{KEY},{NEXT_KEY}"), &format!("{NEXT_KEY},{KEY}"), NEXT_KEY]
        .iter()
        .map(|keys| rig.redeployed(keys, parameters))
        .collect();
    let mut arrived = 0;
    for both in steps.windows(2) {
        for version in [1, 0, 1, 0, 1] {
            counted += 1;
            assert_eq!(visitor.count(&both[version]), Reply::Ok(counted));
            arrived += 1;
            assert_eq!(newcomer.count(&both[version]), Reply::Ok(arrived));
            rig.platform.advance(9);
        }
        // The last but one key may go when `timeout` has passed. Use has the cookie signed anew.
        for _ in 0..12 {
            rig.platform.advance(9);
            assert_eq!(visitor.read(&both[1]), Reply::Ok(counted));
            assert_eq!(newcomer.read(&both[1]), Reply::Ok(arrived));
        }
    }
    let value = visitor.cookie.as_deref().unwrap().strip_prefix("webpy_session_id=").unwrap();
    assert!(Signer::from_secret(NEXT_KEY).unwrap().verify("webpy_session_id", value).is_some());
}

/// So a key that is being retired may go although messages have noted each use.
#[test]
fn a_cookie_of_a_key_that_is_being_retired_goes_again_with_the_next_reply() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let rotated = rig.redeployed(&format!("{NEXT_KEY},{KEY}"), "{}");
    let (_, set_cookie) = visitor.ask(&rotated, async |session: &mut Session<Visit>| Ok(session.count));
    assert!(set_cookie.is_some());
    assert_eq!(rotated.store.calls(), "load load", "it looks whether the session is still there");
    let (_, set_cookie) = visitor.ask(&rotated, async |session: &mut Session<Visit>| Ok(session.count));
    assert_eq!(set_cookie, None, "once");
    assert_eq!(visitor.read(&rig.redeployed(NEXT_KEY, "{}")), Reply::Ok(1));
}

#[test]
fn the_new_key_at_once_loses_what_it_signs_while_the_old_version_answers() {
    let rig = Rig::new();
    let rotated = rig.redeployed(&format!("{NEXT_KEY},{KEY}"), "{}");
    let mut visitor = Visitor::default();
    visitor.count(&rotated);
    assert_eq!(visitor.count(&rig), Reply::Ok(1), "which is why there are three steps");
}
