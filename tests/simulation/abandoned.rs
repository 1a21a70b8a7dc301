//! Requests that are dropped half-way or never go on, and puts that hang, fail, or die with their isolate.

use std::cell::Cell;

use edge_session::store::simulated_kv::Ordered;
use edge_session::{Incoming, KvStore, Platform, Record, SessionId, Sessions, Store, Updated};

use crate::clock::NOW;
use crate::stage::{LARGE, Reply, Stage, Visit, count, log_in, save};

/// A request that counts, and waits until that is stored if it `saves`.
fn counts(stage: &Stage, isolate: &Sessions, cookie: &str, saves: bool) -> Reply {
    if saves { stage.run(stage.ask_to(isolate, cookie, save)) } else { stage.send(isolate, cookie, count) }
}

/// The client goes away while a put (a save's) is under way, and the page is loaded again at once.
#[test]
fn a_put_whose_request_is_gone_does_not_give_the_next_write_up() {
    for saves in [false, true] {
        let stage = Stage::new();
        let here = stage.isolate(0, 0);
        stage.begins(&here, 0);
        let sent = stage.header();
        stage.kv.order("put session:", Ordered::Takes(150));
        let gone = stage.run(stage.clock.within(60, stage.ask_to(&here, &sent, save)));
        assert!(gone.is_none(), "dropped in its put");
        stage.wait(200);
        let reply = counts(&stage, &here, &sent, saves);
        assert!(reply.count.is_ok(), "saves: {saves}");
        stage.arrives(&reply);
        assert_eq!(stage.at_rest(), reply.count, "saves: {saves}: acknowledged, and lost");
    }
}

/// Two is stored, and a save of three is dropped while it waits for the second to pass.
fn leaves_a_save_that_waits(stage: &Stage, here: &Sessions) {
    assert_eq!(stage.count(here), Ok(2));
    stage.wait(300);
    assert!(stage.run(stage.clock.within(100, stage.ask_to(here, &stage.header(), save))).is_none());
}

/// What is shown so many milliseconds after a save was dropped, whose write nobody stores any more.
fn is_shown_and_stored(milliseconds: u64) {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    leaves_a_save_that_waits(&stage, &here);
    stage.wait(milliseconds);
    let shown = stage.look(&here);
    assert!(shown.is_ok(), "{milliseconds} ms later");
    assert_eq!(stage.at_rest(), shown, "what was shown, {milliseconds} ms later");
}

/// A save that waits for its second is dropped; its write is shown, and nobody stores it.
#[test]
fn a_save_whose_request_is_gone_is_stored_if_it_is_shown() {
    is_shown_and_stored(100);
}

#[test]
fn an_orphan_that_is_shown_after_five_seconds_is_stored() {
    for milliseconds in [3_000, 5_000, 20_000] {
        is_shown_and_stored(milliseconds);
    }
}

/// ... and from then on no use is noted in this isolate.
#[test]
fn after_that_uses_are_still_noted() {
    for is_control in [true, false] {
        let stage = Stage::new();
        let here = stage.isolate_with(0, 0, r#"{"timeout": 3600}"#);
        stage.begins(&here, 0);
        if is_control {
            assert_eq!(stage.count(&here), Ok(2));
        } else {
            leaves_a_save_that_waits(&stage, &here);
        }
        // The visitor reads each four minutes, so that the isolate forgets nothing.
        for minute in (4..180).step_by(4) {
            stage.wait(240_000);
            let seen = stage.send(&here, &stage.header(), |_| {}).count;
            assert!(seen.is_ok_and(|count| count > 0), "after {minute} minutes: {seen:?}, is control: {is_control}");
        }
    }
}

#[test]
fn a_login_whose_request_is_gone_locks_nobody_out() {
    for seed in 0..20 {
        let stage = Stage::seeded(seed);
        let here = stage.isolate(0, 0);
        stage.begins(&here, 0);
        let sent = stage.header();
        stage.kv.order("put session:", Ordered::Takes(150));
        assert!(stage.run(stage.clock.within(80, stage.ask(&here, &sent, &log_in))).is_none(), "dropped in its put");
        stage.wait(200);
        let before = stage.clock.milliseconds();
        assert!(stage.send(&here, &sent, count).count.is_ok(), "seed {seed}");
        let took = stage.clock.milliseconds() - before;
        assert!(took < 6_000, "seed {seed}: {took} ms");
    }
}

/// A touch is dropped, as a page that is left; then a write.
#[test]
fn a_touch_whose_request_is_gone_does_not_give_the_next_write_up() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.wait(20_000_000);
    stage.kv.order("put session:", Ordered::Takes(150));
    let gone = stage.run(stage.clock.within(100, stage.ask(&here, &stage.header(), &|_| {})));
    assert!(gone.is_none(), "in its touch");
    stage.wait(100);
    assert_eq!(stage.count(&here), Ok(2));
    assert_eq!(stage.at_rest(), Ok(2), "acknowledged, and lost");
}

/// Twenty counts elsewhere, of a session that is too large for a cookie and that this isolate knows by an old write. An hour later
/// the id alone leads to the last of them in both.
fn goes_on_elsewhere(stage: &Stage, here: &Sessions, elsewhere: &Sessions) {
    for expected in 2..=21 {
        stage.wait(2_000);
        assert_eq!(stage.count(elsewhere), Ok(expected));
    }
    stage.wait(3_600_000);
    stage.kv.come_to_rest();
    let id = stage.id();
    for isolate in [elsewhere, here] {
        assert_eq!(stage.send(isolate, &id, |_| {}).count, Ok(21), "an hour later");
    }
}

/// One holds a session open (a WebSocket) in an isolate that knows an old write of large data.
#[test]
fn a_large_session_that_is_held_for_long_locks_nobody_out() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate_with(0, 0, LARGE), stage.isolate_with(1, 1, LARGE));
    stage.begins(&here, 70_000);
    stage.kv.come_to_rest();
    let id = stage.id();
    let held = stage.run(here.open::<Visit>(&Incoming::new().cookie(&*id))).unwrap();
    goes_on_elsewhere(&stage, &here, &elsewhere);
    drop(held);
}

/// The futures of requests that workerd broke off are neither driven nor dropped.
#[test]
fn requests_that_are_never_dropped_leave_nothing_behind() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate_with(0, 0, LARGE), stage.isolate_with(1, 1, LARGE));
    stage.begins(&here, 70_000);
    stage.kv.come_to_rest();
    let id = stage.id();
    let mut forgotten = Box::pin(stage.ask_to(&here, &id, async |_| {
        stage.clock.pause(2_000).await;
        Ok(())
    }));
    assert!(stage.run(stage.clock.within(500, forgotten.as_mut())).is_none(), "it has the session");
    std::mem::forget(forgotten);
    goes_on_elsewhere(&stage, &here, &elsewhere);
}

/// One put hangs; what waits behind it is given up without having been tried.
#[test]
fn what_waits_behind_a_put_that_hangs_is_tried() {
    for saves in [true, false] {
        let stage = Stage::new();
        let here = stage.isolate(0, 0);
        stage.begins(&here, 0);
        stage.kv.order("put session:", Ordered::Hangs);
        assert_eq!(stage.count(&here), Ok(2));
        stage.wait(100);
        let sent = stage.header();
        let reply = counts(&stage, &here, &sent, saves);
        assert_eq!((reply.count, stage.at_rest()), (Ok(3), Ok(3)), "saves: {saves}");
    }
}

/// ... and so is what waits behind one that takes its time.
#[test]
fn what_waits_behind_a_slow_put_is_tried() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.kv.order("put session:", Ordered::Takes(4_300));
    assert_eq!(stage.count(&here), Ok(2));
    stage.wait(100);
    let reply = counts(&stage, &here, &stage.header(), true);
    assert_eq!((reply.count, stage.at_rest()), (Ok(3), Ok(3)));
}

/// Another isolate has written meanwhile.
#[test]
fn what_waits_behind_a_put_is_not_given_up_by_a_429() {
    for (hangs, refused) in [false, true].into_iter().flat_map(|hangs| (0..=4).map(move |refused| (hangs, refused))) {
        let stage = Stage::new();
        let here = stage.isolate(0, 0);
        stage.begins(&here, 0);
        let sent = stage.header();
        stage.kv.order("put session:", if hangs { Ordered::Hangs } else { Ordered::Takes(3_900) });
        stage.puts(refused, &Stage::refused());
        let saved = Cell::new(None);
        stage.clock.run(vec![
            Box::pin(async {
                if hangs {
                    assert!(stage.clock.within(300, stage.ask_to(&here, &sent, save)).await.is_none());
                } else {
                    assert_eq!(stage.ask(&here, &sent, &count).await.count, Ok(2));
                }
            }),
            Box::pin(async {
                stage.clock.pause(400).await;
                saved.set(Some(stage.ask_to(&here, &sent, save).await.count));
            }),
        ]);
        assert_eq!(saved.get(), Some(Ok(3)), "hangs: {hangs}, refused: {refused}");
    }
}

/// A put that was given up arrives after the next one, which KV has accepted meanwhile.
#[test]
fn what_follows_a_put_that_hangs_is_stored_once_more() {
    for (saves, pause) in [100, 3_000, 7_000].into_iter().flat_map(|pause| [(true, pause), (false, pause)]) {
        let stage = Stage::new();
        let here = stage.isolate(0, 0);
        stage.begins(&here, 0);
        stage.kv.order("put session:", Ordered::Takes(18_000));
        assert_eq!(stage.count(&here), Ok(2));
        stage.wait(pause);
        let sent = stage.header();
        let reply = counts(&stage, &here, &sent, saves);
        assert_eq!((reply.count, stage.at_rest()), (Ok(3), Ok(3)), "saves: {saves}, after {pause} ms");
    }
}

/// What it is itself built on has a turn already, before the put that hangs can have arrived.
#[test]
fn a_turn_that_comes_before_it_is_put_off() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&elsewhere, 0);
    stage.wait(5_000);
    assert_eq!(stage.count(&elsewhere), Ok(2));
    stage.wait(10);
    stage.kv.order("put session:", Ordered::Takes(18_000));
    assert_eq!(stage.count(&here), Ok(3), "once more after seven seconds");
    stage.wait(3_000);
    assert_eq!(stage.count(&here), Ok(4));
    assert_eq!(stage.at_rest(), Ok(4));
}

fn renewed(parameters: &str) -> Result<u64, u16> {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate_with(0, 0, parameters), stage.isolate_with(1, 1, parameters));
    stage.begins(&here, 0);
    stage.kv.come_to_rest();
    stage.wait(1_800_000);
    stage.kv.order("put session:", Ordered::Takes(6_000));
    assert_eq!(stage.count(&here), Ok(2));
    assert!(stage.clock.kill(0));
    stage.wait(40_000);
    assert_eq!(stage.send(&elsewhere, &stage.header(), |_| {}).count, Ok(2));
    stage.at_rest()
}

#[test]
fn a_cookie_that_is_renewed_does_not_say_that_the_write_is_stored() {
    assert_eq!(renewed(r#"{"timeout": 3600}"#), Ok(2), "control");
    assert_eq!(renewed(r#"{"timeout": 3600, "persistent": true}"#), Ok(2));
}

/// The client of a save goes away in its put, which hangs and arrives at last, after the put of a count.
#[test]
fn what_follows_a_put_whose_request_is_gone_is_stored_once_more() {
    for pause in [100, 6_500] {
        let stage = Stage::new();
        let here = stage.isolate(0, 0);
        stage.begins(&here, 0);
        let sent = stage.header();
        stage.kv.order("put session:", Ordered::Takes(18_000));
        assert!(stage.run(stage.clock.within(60, stage.ask_to(&here, &sent, save))).is_none());
        stage.wait(pause);
        assert_eq!(stage.count(&here), Ok(3), "after {pause} ms");
        assert_eq!(stage.at_rest(), Ok(3), "after {pause} ms");
    }
}

/// Of who has no request, and so no time limit. The first put counts as abandoned, and its answer comes during the second.
#[test]
fn an_answer_that_comes_late_is_of_its_own_put() {
    let stage = Stage::new();
    let store = KvStore::new(stage.kv.at(0), stage.clock.clone());
    let key = SessionId::random(&stage.clock).unwrap().record_key();
    let record = |version: u64| {
        let end = NOW + 86_400;
        Record::from_text(&format!("edge-session/1 {version} {version} {NOW} {NOW} {end} - 0 -\n{version}")).unwrap()
    };
    stage.run(store.create(&key, &record(1))).unwrap();
    stage.wait(2_000);
    for takes in [8_000, 8_000, 10] {
        stage.kv.order("put session:", Ordered::Takes(takes));
    }
    let update = async |after: u64, version: u64| {
        stage.clock.pause(after).await;
        assert_eq!(store.update(&key, &record(version)).await.unwrap(), Updated::Done);
    };
    stage.clock.run(vec![Box::pin(update(0, 2)), Box::pin(update(6_500, 3)), Box::pin(update(8_200, 4))]);
    stage.wait(5_000);
    let last = stage.kv.at_last(&format!("session:{}", key.as_str())).unwrap();
    assert!(last.ends_with("\n4"), "{last}");
}
