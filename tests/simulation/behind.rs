//! Who stores what is written behind replies: not each of many requests, and always somebody.

use std::cell::Cell;

use edge_session::store::simulated_kv::Ordered;
use edge_session::{Incoming, KvStore, Platform, Session, SessionParameters, Sessions, Signer};

use crate::stage::{SECRET, Stage, Visit, count};

/// A page of many requests costs one task behind its replies, not one for each.
#[test]
fn ten_counts_that_wait_for_the_same_put_leave_one_work_behind() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    assert_eq!(stage.count(&here), Ok(1));
    for number in 2..=11 {
        assert_eq!(stage.count(&here), Ok(number));
        assert_eq!(stage.clock.works(), 1, "after {number}");
    }
    stage.wait(2_000);
    assert_eq!((stage.clock.works(), stage.kv.written()), (0, 2), "the first, and the last");
    assert_eq!(stage.at_rest(), Ok(11));
}

/// The put that is under way has an older write in it.
#[test]
fn a_count_while_a_put_is_under_way_is_stored_as_well() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.counts_twice(&here);
    stage.wait(5_000);
    stage.kv.order("put session:", Ordered::Takes(600));
    assert_eq!(stage.count(&here), Ok(3));
    stage.wait(100);
    assert_eq!(stage.count(&here), Ok(4));
    assert_eq!(stage.at_rest(), Ok(4));
}

/// The runtime does not say that it broke work off.
#[test]
fn where_the_work_behind_a_reply_was_broken_off_a_later_count_has_its_own() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    assert_eq!(stage.count(&here), Ok(1));
    assert_eq!(stage.count(&here), Ok(2));
    assert!(stage.clock.kill(0), "it had a write to store");
    for number in 3..=5 {
        stage.wait(800);
        assert_eq!(stage.count(&here), Ok(number));
    }
    stage.wait(2_000);
    assert_eq!(stage.kv.written(), 2, "by the fifth, for nobody had looked after it for two seconds");
    assert_eq!(stage.at_rest(), Ok(5));
}

/// Whoever meets it first, the work of the reply that had gone out or the request that waits for its own save.
#[test]
fn a_write_whose_reply_had_gone_out_is_not_given_up_without_a_line_in_the_log() {
    for seed in 1..=20 {
        let stage = Stage::seeded(seed);
        let here = stage.isolate(0, 0);
        stage.counts_twice(&here);
        stage.wait(5_000);
        let header = stage.header();
        stage.puts(10, &Stage::failed());
        stage.clock.run(vec![
            Box::pin(async {
                let handler = async |session: &mut Session<Visit>| {
                    session.count = 70;
                    session.save().await
                };
                assert!(here.run(&Incoming::new().cookie(&*header).with_reply(), handler).await.is_err());
            }),
            Box::pin(async {
                stage.clock.pause(400 + 173 * seed).await;
                assert!(stage.ask(&here, &header, &count).await.count.is_ok(), "its write is in the reply");
            }),
        ]);
        stage.wait(10_000);
        let log = stage.clock.log.take();
        assert_eq!(log.iter().filter(|line| line.starts_with("write_given_up: ")).count(), 1, "{seed}: {log:?}");
    }
}

/// The platform breaks work off after thirty seconds; whoever looks after the writes of all has to end before that.
#[test]
fn counts_that_go_on_for_longer_than_work_behind_a_reply_are_all_stored() {
    for last in (29_000..33_000).step_by(250) {
        let stage = Stage::new();
        let here = stage.isolate(0, 0);
        stage.begins(&here, 0);
        let began = stage.clock.milliseconds();
        let mut count = 1;
        while stage.clock.milliseconds() < began + last {
            count += 1;
            assert_eq!(stage.count(&here), Ok(count));
            // So often that there is always one more to be stored.
            stage.wait(5);
        }
        assert_eq!(stage.at_rest(), Ok(count), "for {last} ms");
    }
}

/// KV takes calls and fails each: what was given up behind a reply is waited for by the next.
#[test]
fn after_a_write_that_was_given_up_replies_wait_until_kv_takes_one() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.puts(20, &Stage::failed());
    assert_eq!(stage.count(&here), Ok(2), "nobody knows yet");
    stage.wait(10_000);
    assert_eq!(stage.count(&here), Err(503));
    while stage.count(&here).is_err() {}
    assert_eq!(stage.count(&here), Ok(4), "on what its browser carries");
    stage.wait(2_000);
    assert!(leaves_before_its_write(&stage, &here), "KV takes writes again");
    assert_eq!(stage.at_rest(), Ok(5));
}

/// Whether the reply to a count, whose put takes a second, has left by then.
fn leaves_before_its_write(stage: &Stage, here: &Sessions) -> bool {
    stage.kv.order("put session:", Ordered::Takes(1_000));
    let began = stage.clock.milliseconds();
    assert!(stage.count(here).is_ok());
    stage.clock.milliseconds() < began + 1_000
}

/// KV takes the writes of that one.
#[test]
fn after_a_write_that_was_given_up_beside_an_isolate_that_writes_no_reply_waits() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.puts(60, &Stage::refused());
    assert_eq!(stage.count(&here), Ok(2));
    stage.wait(8_000);
    assert_eq!(stage.clock.log.take().len(), 1, "it is given up");
    stage.kv.forget_orders();
    assert!(leaves_before_its_write(&stage, &here));
    assert_eq!(stage.at_rest(), Ok(3));
}

/// It would be in the middle of a put.
#[test]
fn no_work_behind_a_reply_goes_on_until_the_platform_breaks_it_off() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.puts(2_000, &Stage::refused());
    for expected in 2..=80 {
        assert_eq!(stage.count(&here), Ok(expected));
        stage.wait(500);
    }
    assert_eq!(stage.clock.broken_off(), 0);
    stage.kv.forget_orders();
    assert_eq!(stage.at_rest(), Ok(80));
}

#[test]
fn where_the_platform_has_no_behind_a_write_that_is_given_up_is_an_error() {
    let stage = Stage::new();
    let here = without_behind(&stage);
    assert_eq!(stage.count(&here), Ok(1));
    stage.puts(10, &Stage::failed());
    assert_eq!(stage.count(&here), Err(503));
}

/// KV shows a write that is built on it: to store it once more would take that back. Its isolate goes on at once.
#[test]
fn what_is_outrun_is_looked_for_once() {
    let stage = Stage::new();
    stage.kv.travel(0);
    let [a, b, c] = [0, 1, 2].map(|number| stage.isolate(number, number as usize));
    stage.begins(&a, 0);
    stage.kv.come_to_rest();
    stage.kv.order("put session:", Ordered::Takes(3_000));
    assert_eq!(stage.count(&a), Ok(2));
    stage.kv.order("put session:", Ordered::Takes(3_100));
    assert_eq!(stage.count(&b), Ok(3), "once more after seven seconds");
    stage.wait(5_000);
    assert_eq!(stage.count(&c), Ok(4));
    stage.wait(1_500);
    stage.kv.come_to_rest();
    assert_eq!(stage.clock.works(), 2, "of the last two");
    stage.wait(1_500);
    assert_eq!(stage.clock.works(), 1, "of the last one");
    assert_eq!(stage.count(&b), Ok(5));
    stage.wait(1_500);
    let stored = stage.kv.at_last(&stage.name()).unwrap();
    assert!(stored.contains("\"count\":5"), "{stored}");
}

/// An isolate whose platform has no work behind replies.
fn without_behind(stage: &Stage) -> Sessions {
    let signer = Signer::from_secret(SECRET).unwrap();
    let store = KvStore::new(stage.kv.at(0), stage.clock.clone());
    Sessions::new(store, stage.clock.clone(), signer, SessionParameters::default()).unwrap()
}

/// Who waits for a write may be broken off, and then nobody stores what relied on them.
#[test]
fn where_the_platform_has_no_behind_each_waits_for_their_own_write() {
    let stage = Stage::new();
    let here = without_behind(&stage);
    assert_eq!(stage.count(&here), Ok(1));
    let cookie = stage.header();
    let is_told = &Cell::new(false);
    let leaves = async { drop(stage.clock.within(300, stage.ask(&here, &cookie, &count)).await) };
    let stays = async {
        stage.clock.sleep(200).await;
        is_told.set(stage.ask(&here, &cookie, &count).await.count == Ok(3));
        assert_eq!(stage.kv.written(), 3, "it is stored when that is told, and what it is built on");
    };
    stage.clock.run(vec![Box::pin(leaves), Box::pin(stays)]);
    assert!(is_told.get());
}

#[test]
fn one_put_that_hangs_is_tried_once_more_and_nobody_waits_for_it() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.wait(5_000);
    stage.kv.order("put session:", Ordered::Hangs);
    assert_eq!(stage.count(&here), Ok(2));
    stage.wait(12_000);
    assert!(stage.clock.log.take().is_empty(), "it is not given up");
    stage.kv.come_to_rest();
    assert_eq!(stage.id_alone(1), Ok(2));
    assert_eq!(stage.count(&here), Ok(3));
}

/// Its puts have no answer, each for as long as a call may take.
#[test]
fn a_kv_that_hangs_is_known_to_take_no_writes() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.wait(5_000);
    stage.puts(100, &Ordered::Hangs);
    assert_eq!(stage.count(&here), Ok(2), "the browser has it");
    stage.wait(40_000);
    assert_eq!(stage.count(&here), Err(503));
    let log = stage.clock.log.take();
    assert!(log.iter().any(|line| line.starts_with("write_given_up: ")), "{log:?}");
}

/// Whose put was abandoned: the look that stores it does so once.
#[test]
fn where_the_platform_has_no_behind_a_look_stores_a_write_once() {
    let stage = Stage::new();
    let here = without_behind(&stage);
    assert_eq!(stage.count(&here), Ok(1));
    stage.wait(3_000);
    let sent = stage.header();
    stage.kv.order("put session:", Ordered::Hangs);
    assert!(stage.run(stage.clock.within(300, stage.ask(&here, &sent, &count))).is_none());
    stage.wait(4_700);
    let before = stage.kv.written();
    assert_eq!((stage.look(&here), stage.kv.written()), (Ok(2), before + 1));
}

/// It has tried to store what it shows, and the browser carries that.
#[test]
fn where_the_platform_has_no_behind_a_look_is_answered_while_kv_takes_no_writes() {
    for milliseconds in [4_700, 5_200] {
        let stage = Stage::new();
        let here = without_behind(&stage);
        assert_eq!(stage.count(&here), Ok(1));
        stage.wait(3_000);
        let sent = stage.header();
        stage.kv.order("put session:", Ordered::Hangs);
        assert!(stage.run(stage.clock.within(300, stage.ask(&here, &sent, &count))).is_none());
        stage.puts(30, &Stage::failed());
        stage.wait(milliseconds);
        assert_eq!(stage.look(&here), Ok(2), "{milliseconds} ms");
    }
}
