//! For each rule of sessions on KV the schedule that needs it, told step by step.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::Future;

use edge_session::store::simulated_kv::Ordered;
use edge_session::{
    Error, Incoming, KvFailure, KvNamespace, KvStore, Outcome, Platform, Session, SessionParameters, Sessions, Signer,
};

use crate::browser::Browser;
use crate::clock::IsolateClock;
use crate::stage::{Reply, SECRET, Stage, Visit, count};

#[test]
fn a_reload_elsewhere_shows_what_was_written_here() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    assert_eq!((stage.count(&here), stage.count(&here)), (Ok(1), Ok(2)));
    assert_eq!(stage.look(&elsewhere), Ok(2));
    assert_eq!(stage.count(&elsewhere), Ok(3));
    assert_eq!(stage.look(&here), Ok(3), "and back again");
}

#[test]
fn ten_counts_in_two_seconds_are_one_to_ten_and_two_or_three_writes() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.wait(5_000);
    let before = stage.kv.written();
    for expected in 2..=11 {
        assert_eq!(stage.count(&here), Ok(expected));
        stage.wait(180);
    }
    stage.wait(10_000);
    let written = stage.kv.written() - before;
    assert!((2..=3).contains(&written), "{written}");
    assert_eq!(stage.kv.refused(), 0);
    stage.kv.come_to_rest();
    assert_eq!(stage.id_alone(2), Ok(11));
}

/// One name for each write: a cookie that stands for all is what the reply that arrives last says.
#[test]
fn a_reply_that_arrives_late_takes_nothing_back() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.count(&here).unwrap();
    let slow = stage.send(&here, &stage.header(), count);
    let fast = stage.send(&here, &stage.header(), count);
    assert_eq!((&slow.count, &fast.count), (&Ok(2), &Ok(3)));
    stage.arrives(&fast);
    stage.arrives(&slow);
    assert_eq!(stage.look(&elsewhere), Ok(3));
}

/// What is only read is carried as well: the reply that wrote it may be lost.
#[test]
fn what_was_only_shown_is_shown_elsewhere_too() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.count(&here).unwrap();
    let lost = stage.send(&here, &stage.header(), count);
    assert_eq!(lost.count, Ok(2));
    assert_eq!(stage.look(&here), Ok(2));
    assert_eq!(stage.look(&elsewhere), Ok(2));
}

/// Two writes that met: the later one counts, although the other one's branch is longer. What comes after is built on it.
#[test]
fn of_two_branches_the_later_one_counts_and_the_longer_one_does_not_come_back() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.count(&here).unwrap();
    let before = stage.header();
    for _ in 0..3 {
        stage.count(&here).unwrap();
    }
    stage.wait(50);
    let other = stage.send(&elsewhere, &before, |session| session.count = 100);
    stage.arrives(&other);
    assert_eq!(stage.look(&elsewhere), Ok(100));
    assert_eq!(stage.count(&stage.isolate(2, 2)), Ok(101));
    assert_eq!(stage.look(&here), Ok(101));
    stage.wait(60_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.id_alone(0), Ok(101));
}

#[test]
fn what_is_too_large_for_a_cookie_is_waited_for_and_then_refused_but_never_older() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.visit(&here, |session| session.pad = "x".repeat(5_000)).unwrap();
    stage.count(&here).unwrap();
    assert_eq!(stage.look(&here), Ok(1), "this isolate knows it");
    stage.wait(2_000);
    assert_eq!(stage.look(&elsewhere), Err(503));
    stage.kv.come_to_rest();
    assert_eq!(stage.look(&elsewhere), Ok(1));
}

#[test]
fn what_is_too_large_for_a_cookie_is_stored_before_its_reply_leaves() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.visit(&here, |session| session.pad = "x".repeat(5_000)).unwrap();
    stage.wait(5_000);
    let before = stage.kv.written();
    stage.count(&here).unwrap();
    assert_eq!(stage.kv.written(), before + 1);
}

/// By a client that keeps cookies for longer than it is told.
#[test]
fn after_ninety_seconds_no_carried_write_is_believed() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.wait(5_000);
    stage.kv.come_to_rest();
    stage.kv.order("put session:", Ordered::Fails(KvFailure::Other("down".to_owned())));
    stage.count(&here).unwrap();
    stage.clock.kill(0);
    let kept = stage.header();
    let with_all = |isolate: &Sessions| stage.send(isolate, &kept, |_| {}).count;
    assert_eq!(with_all(&stage.isolate(1, 1)), Ok(2), "it is what this browser has seen");
    stage.wait(91_000);
    assert_eq!(with_all(&stage.isolate(2, 2)), Ok(1));
}

/// The put of the write that it is built on is slow, and lands after its own: KV keeps what arrives last.
#[test]
fn what_is_built_on_a_write_that_is_under_way_is_stored_once_more() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.count(&here).unwrap();
    stage.wait(5_000);
    stage.kv.order("put session:", Ordered::Takes(4_000));
    assert_eq!(stage.count(&here), Ok(2));
    assert_eq!(stage.count(&elsewhere), Ok(3));
    stage.wait(20_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.id_alone(2), Ok(3));
}

#[test]
fn a_write_whose_isolate_died_is_stored_by_the_next_one_that_is_brought_it() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.count(&here).unwrap();
    stage.wait(5_000);
    assert_eq!(stage.count(&here), Ok(2));
    assert!(stage.clock.kill(0), "it had a write to store");
    drop(here);
    stage.wait(30_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.id_alone(2), Ok(1), "KV has it not");
    assert_eq!(stage.look(&elsewhere), Ok(2), "and is given it only when it has had its time");
    stage.wait(2_000);
    assert_eq!(stage.kv.written(), 1);
    stage.wait(10_000);
    assert_eq!(stage.look(&elsewhere), Ok(2));
    stage.wait(2_000);
    assert_eq!(stage.kv.written(), 2);
    stage.kv.come_to_rest();
    stage.wait(31_000);
    assert_eq!(stage.id_alone(2), Ok(2));
}

/// Its own reply was lost, and the isolate died when another one had shown it.
#[test]
fn also_where_another_reply_has_shown_it() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.count(&here).unwrap();
    stage.wait(5_000);
    stage.kv.order("put session:", Ordered::Takes(4_000));
    stage.kv.order("put session:", Ordered::Fails(KvFailure::Other("down".to_owned())));
    let lost = stage.send(&here, &stage.header(), count);
    assert_eq!((lost.count, stage.look(&here)), (Ok(2), Ok(2)));
    stage.clock.kill(0);
    drop(here);
    stage.wait(40_000);
    assert_eq!(stage.look(&elsewhere), Ok(2));
    stage.wait(2_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.id_alone(2), Ok(2));
}

#[test]
fn who_brings_more_than_eight_carried_writes_waits_for_the_next_one() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.wait(5_000);
    // Replies that take nothing away, as if they had crossed.
    let before = stage.header();
    let replies: Vec<_> = (0..9).map(|_| stage.send(&here, &before, count)).collect();
    replies.iter().for_each(|reply| stage.arrives(reply));
    let waits = |header: &str| {
        stage.wait(5_000);
        stage.kv.order("put session:", Ordered::Takes(1_000));
        let began = stage.clock.milliseconds();
        let reply = stage.send(&here, header, count);
        stage.arrives(&reply);
        stage.clock.milliseconds() - began > 500
    };
    assert!(waits(&stage.header()));
    assert!(!waits(&stage.header()), "its reply took away what it is built on");
}

/// Only what the layer saves by itself is behind the reply.
#[test]
fn what_a_handler_asks_for_is_in_kv_when_it_is_told_so() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.wait(5_000);
    let header = stage.header();
    for is_asked_for in [true, false] {
        let before = stage.kv.written();
        let told = RefCell::new(0);
        stage.clock.run(vec![Box::pin(async {
            let incoming = Incoming::new().cookie(&*header).with_reply();
            let handler = async |session: &mut Session<Visit>| {
                session.count += 1;
                if is_asked_for {
                    session.save().await?;
                }
                Ok::<_, Error>(())
            };
            here.run(&incoming, handler).await.unwrap();
            *told.borrow_mut() = stage.kv.written();
        })]);
        assert_eq!(told.into_inner() > before, is_asked_for);
        stage.wait(5_000);
    }
}

#[test]
fn without_a_reply_each_commit_waits() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.wait(5_000);
    let header = stage.header();
    let before = stage.kv.written();
    stage.clock.run(vec![Box::pin(async {
        let message = Incoming::new().cookie(&*header);
        let handler = async |session: &mut Session<Visit>| {
            session.count += 1;
            Ok::<_, Error>(())
        };
        here.run(&message, handler).await.unwrap();
        assert_eq!(stage.kv.written(), before + 1);
    })]);
}

#[test]
fn a_hundred_counts_at_once_in_one_isolate_are_all_counted() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    let header = stage.header();
    let numbers = RefCell::new(BTreeSet::new());
    let one = async || {
        let reply = stage.ask(&here, &header, &count).await;
        numbers.borrow_mut().insert(reply.count.unwrap());
    };
    stage.clock.run((0..100).map(|_| -> std::pin::Pin<Box<dyn Future<Output = ()>>> { Box::pin(one()) }).collect());
    assert_eq!(numbers.into_inner().len(), 100);
    assert_eq!(stage.send(&here, &header, |_| {}).count, Ok(101));
}

/// Their handlers wait for something between the load and the change.
#[test]
fn two_requests_that_meet_in_one_isolate_are_both_counted() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    let header = stage.header();
    let one = async || {
        let handler = async |session: &mut Session<Visit>| {
            stage.clock.pause(50).await;
            session.count += 1;
            Ok::<_, Error>(())
        };
        here.run(&Incoming::new().cookie(&*header).with_reply(), handler).await.unwrap();
    };
    stage.clock.run((0..2).map(|_| -> std::pin::Pin<Box<dyn Future<Output = ()>>> { Box::pin(one()) }).collect());
    assert_eq!(stage.send(&here, &header, |_| {}).count, Ok(3));
}

/// What KV shows is older than the sixteen writes that a record names, and is the isolate's own all the same.
#[test]
fn many_counts_in_one_isolate_are_no_more_than_a_write_a_second() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.wait(5_000);
    let (before, began) = (stage.kv.written(), stage.clock.milliseconds());
    for _ in 0..200 {
        stage.count(&here).unwrap();
    }
    let seconds = (stage.clock.milliseconds() - began) / 1000;
    stage.wait(60_000);
    let written = u64::from(stage.kv.written() - before);
    assert!(written <= seconds + 2, "{written} in {seconds} seconds");
}

/// A change of id takes some calls. What is told meanwhile that it is saved goes along, or it is not told so.
#[test]
fn what_is_saved_while_the_id_is_changed_is_not_left_behind() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.wait(5_000);
    let header = stage.header();
    stage.kv.order("put session:", Ordered::Takes(400));
    let moved = RefCell::new(None);
    let saved = RefCell::new(None);
    stage.clock.run(vec![
        Box::pin(async { *moved.borrow_mut() = Some(stage.ask(&here, &header, &|session| session.cycle_id()).await) }),
        Box::pin(async {
            stage.clock.pause(150).await;
            let handler = async |session: &mut Session<Visit>| {
                session.count = 70;
                session.save().await
            };
            *saved.borrow_mut() = Some(here.run(&Incoming::new().cookie(&*header).with_reply(), handler).await);
        }),
    ]);
    stage.arrives(&moved.into_inner().unwrap());
    let is_told = matches!(saved.into_inner(), Some(Ok(Outcome::Replied { .. })));
    assert_eq!(stage.look(&here) == Ok(70), is_told);
}

/// A change of id that takes some calls, and 150 ms after it a request that came with the old id. What that was answered, how often
/// its handler ran, and the cookies that it was given.
fn meets_a_move(stage: &Stage, leaves: bool, act: &impl Fn(&mut Session<Visit>)) -> (Reply, u32) {
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.wait(5_000);
    let header = stage.header();
    stage.kv.order("put session:", Ordered::Takes(2_000));
    let (runs, answer) = (Cell::new(0), RefCell::new(None));
    let counted = |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        act(session);
    };
    stage.clock.run(vec![
        Box::pin(async {
            let moves = |session: &mut Session<Visit>| session.cycle_id();
            let mut login = Box::pin(stage.ask(&here, &header, &moves));
            if !leaves {
                return stage.arrives(&login.await);
            }
            // The runtime goes on with nothing of a request whose visitor has left, and ends nothing either.
            stage.clock.within(100, login.as_mut()).await;
            std::mem::forget(login);
        }),
        Box::pin(async {
            stage.clock.pause(150).await;
            *answer.borrow_mut() = Some(stage.ask(&here, &header, &counted).await);
        }),
    ]);
    (answer.into_inner().unwrap(), runs.get())
}

/// It waits for what comes of the change, and then comes late: its data is made by `Default`, and nothing of it is stored.
#[test]
fn who_counts_while_the_id_is_changed_is_not_refused() {
    let stage = Stage::new();
    let (reply, runs) = meets_a_move(&stage, false, &count);
    assert_eq!((reply.count, runs), (Ok(1), 2));
    assert_eq!(reply.set_cookie, Vec::<String>::new());
    assert_eq!(stage.look(&stage.isolate(1, 0)), Ok(1));
}

/// A login that is sent twice at once: the second is a session of its own.
#[test]
fn who_logs_in_while_the_id_is_changed_is_not_refused() {
    let stage = Stage::new();
    let login = |session: &mut Session<Visit>| {
        session.count = 50;
        session.cycle_id();
    };
    let (reply, runs) = meets_a_move(&stage, false, &login);
    assert_eq!((&reply.count, runs), (&Ok(50), 2));
    let mut browser = Browser::default();
    reply.set_cookie.iter().for_each(|line| browser.set(line, stage.clock.milliseconds()));
    let cookie = browser.header(stage.clock.milliseconds());
    assert_eq!(stage.send(&stage.isolate(1, 0), &cookie, |_| {}).count, Ok(50));
    assert_eq!(stage.look(&stage.isolate(1, 0)), Ok(1), "and the first one's is as it was");
}

/// Its visitor has left, and nobody says so.
#[test]
fn a_change_of_the_id_that_was_abandoned_holds_up_the_next_requests_for_seconds_only() {
    let stage = Stage::new();
    let (reply, runs) = meets_a_move(&stage, true, &count);
    assert_eq!((&reply.count, runs), (&Ok(2), 4));
    stage.arrives(&reply);
    assert_eq!(stage.count(&stage.isolate(1, 0)), Ok(3));
}

/// A logout takes the carried writes away, and a client that keeps them all the same brings nothing back.
#[test]
fn carried_writes_bring_no_ended_session_back() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.count(&here).unwrap();
    stage.count(&here).unwrap();
    let kept = stage.header();
    assert!(kept.contains("webpy_session_id."), "{kept}");
    stage.visit(&here, |session| session.kill()).unwrap();
    assert_eq!(stage.header(), "");
    assert_eq!(stage.send(&here, &kept, |_| {}).count, Ok(0), "this isolate knows");
    stage.kv.come_to_rest();
    assert_eq!(stage.send(&elsewhere, &kept, |_| {}).count, Ok(0));

    // The id from before a login.
    stage.count(&here).unwrap();
    let old = stage.header();
    stage
        .visit(&here, |session| {
            session.cycle_id();
            session.count = 1000;
        })
        .unwrap();
    assert_eq!(stage.look(&elsewhere), Ok(1000), "although KV shows nothing of it there");
    for isolate in [&here, &elsewhere] {
        stage.kv.come_to_rest();
        assert_eq!(stage.send(isolate, &old, |_| {}).count, Ok(0));
    }
}

/// Forged, replayed, of another session, cut short, or a thousand of them.
#[test]
fn what_a_client_makes_up_is_ignored() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    let mine = stage.header();
    let (name, value) = mine
        .split("; ")
        .find_map(|pair| pair.starts_with("webpy_session_id.").then(|| pair.split_once('=').unwrap()))
        .unwrap();
    let id = stage.id();
    let other = Stage::new();
    other.count(&other.isolate(5, 0)).unwrap();
    let (prefix, _) = name.rsplit_once('.').unwrap();
    let made_up = [
        format!("{name}="),
        format!("{name}={}", &value[..value.len() - 2]),
        format!("{name}=A{}", &value[1..]),
        format!("{prefix}.9-00000001={value}"),
        format!("{prefix}.18446744073709551616-00000001={value}"),
        format!("{prefix}.-={value}"),
        format!("{prefix}.+1-1={value}"),
        other.header(),
        (0..1000).map(|number| format!("{prefix}.{number}-{number:08x}={value}")).collect::<Vec<_>>().join("; "),
    ];
    for cookies in made_up {
        let header = format!("{id}; {cookies}");
        assert_eq!(stage.send(&stage.isolate(7, 0), &header, |_| {}).count, Ok(1), "{cookies:.60}");
    }
}

#[test]
fn a_key_that_is_being_retired_still_opens_what_it_sealed() {
    let stage = Stage::new();
    let (here, clock) = (stage.isolate(0, 0), stage.clock.clone());
    stage.count(&here).unwrap();
    stage.count(&here).unwrap();
    let clock = IsolateClock { clock, isolate: 1, ahead: 0 };
    let store = KvStore::new(stage.kv.at(1), clock.clone());
    let rotated = Signer::from_secret(&format!("second-key-123456789abcdef012345,{SECRET}")).unwrap();
    let elsewhere = Sessions::new(store, clock, rotated, SessionParameters::default()).unwrap();
    assert_eq!(stage.count(&elsewhere), Ok(3));
}

/// A release that does not know what a record notes of its write makes its own from it, and keeps the note.
#[test]
fn a_write_of_another_release_counts_as_built_on_what_it_was_made_from() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.count(&here).unwrap();
    stage.wait(5_000);
    stage.clock.run(vec![Box::pin(async {
        let name = stage.name();
        let place = stage.kv.at(0);
        let text = place.get(std::slice::from_ref(&name)).await.unwrap()[0].clone().unwrap();
        let record = edge_session::Record::from_text(&text).unwrap();
        let next = record.clone().with(|next| {
            next.version += 1;
            next.nonce = 77;
            next.data = r#"{"count":40}"#.to_owned();
        });
        assert!(next.extensions.get("writes").is_some());
        place.put(&name, &next.to_text(), next.expires_at).await.unwrap();
    })]);
    assert_eq!(stage.look(&stage.isolate(1, 0)), Ok(40), "although the browser brings what it was made from");
    assert_eq!(stage.count(&stage.isolate(2, 0)), Ok(41));
}

#[test]
fn an_error_that_names_what_is_wrong_is_all_that_a_visitor_of_a_kv_that_is_down_gets() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    stage.kv.order("get", Ordered::Fails(KvFailure::Other("KV GET failed: 500".to_owned())));
    assert_eq!(stage.look(&here), Err(503));
    assert_eq!(stage.look(&here), Ok(1));
}

/// KV shows what was written two seconds and hundreds of counts ago, which is none of another isolate's.
#[test]
fn hundreds_of_counts_in_a_second_are_stored_and_not_once_more() {
    let stage = Stage::new();
    stage.kv.take(0, 900);
    let here = stage.isolate(0, 0);
    stage.count(&here).unwrap();
    for expected in 2..=1_000 {
        assert_eq!(stage.count(&here), Ok(expected));
        stage.wait(2);
    }
    stage.wait(5_000);
    let written = stage.kv.written();
    stage.wait(30_000);
    assert_eq!(stage.kv.written(), written);
}

/// Their versions are higher than that of the write which counts.
#[test]
fn the_newest_of_fifty_carried_writes_is_opened_whatever_its_version() {
    let stage = Stage::new();
    let [here, elsewhere, third] = [0, 1, 2].map(|n| stage.isolate(n, n as usize));
    stage.begins(&here, 0);
    stage.wait(5_000);
    stage.kv.come_to_rest();
    (0..3).for_each(|place| stage.kv.freeze(place));
    let sent = stage.header();
    let replies: Vec<_> = (0..49).map(|_| stage.send(&here, &sent, count)).collect();
    let other = stage.send(&elsewhere, &sent, |session| session.count = 1000);
    replies.iter().chain([&other]).for_each(|reply| stage.arrives(reply));
    stage.wait(5_000);
    assert_eq!(stage.count(&elsewhere), Ok(1001));
    stage.wait(2_000);
    assert_eq!(stage.look(&third), Ok(1001));
}
