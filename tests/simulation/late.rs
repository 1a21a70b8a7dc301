//! What is stored late, or once more, and what is built on it meanwhile.

use edge_session::store::simulated_kv::Ordered;
use edge_session::{Incoming, KvFailure, Platform, Session, Sessions};

use crate::stage::{Stage, Visit, count, save, save_and_count};

/// The news of it would not reach what is built on it meanwhile.
#[test]
fn what_is_not_carried_for_long_any_more_is_not_stored_once_more() {
    let stage = Stage::new();
    let (here, other_home, elsewhere) = (stage.isolate(0, 0), stage.isolate(2, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    stage.wait(87_000);
    stage.kv.order("put session:", Ordered::Takes(9_400));
    assert_eq!(stage.look(&elsewhere), Ok(2));
    stage.wait(3_000);
    stage.kv.order("put session:", Ordered::Takes(100));
    assert_eq!(stage.count(&other_home), Ok(3));
    assert_eq!(stage.at_rest(), Ok(3));
}

/// Work behind a reply may end before it is done: the isolate goes on without it.
#[test]
fn what_nobody_stores_is_not_stored_once_a_newer_write_is_brought() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    assert!(stage.clock.kill(0), "it had a write to store");
    stage.wait(8_000);
    assert_eq!(stage.count(&elsewhere), Ok(3));
    stage.wait(20_000);
    let before = stage.kv.written();
    assert_eq!(stage.look(&here), Ok(3));
    stage.wait(10_000);
    assert_eq!(stage.kv.written(), before);
    stage.kv.come_to_rest();
    stage.wait(60_000);
    assert_eq!(stage.id_alone(2), Ok(3));
}

#[test]
fn what_nobody_stores_is_stored_by_the_next_look() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.counts_twice(&here);
    assert!(stage.clock.kill(0), "it had a write to store");
    stage.wait(15_000);
    assert_eq!(stage.kv.written(), 1);
    assert_eq!(stage.look(&here), Ok(2));
    stage.wait(2_000);
    assert_eq!(stage.kv.written(), 2);
}

/// Its put was broken off long ago, and can arrive no more.
#[test]
fn what_is_stored_a_minute_late_is_not_given_up() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.kv.order("put session:", Ordered::Takes(300));
    assert_eq!(stage.count(&here), Ok(2));
    stage.wait(10);
    assert!(stage.clock.kill(0), "in its put");
    assert_eq!(stage.count(&here), Ok(3), "which relies on the work that is no more");
    stage.wait(56_000);
    assert_eq!(stage.look(&here), Ok(3));
    stage.wait(5_000);
    assert_eq!(stage.clock.log.take(), Vec::<String>::new());
    assert_eq!(stage.at_rest(), Ok(3));
}

/// It has it as its own, and the browser brings that it is stored just now by another.
#[test]
fn what_another_isolate_stores_late_is_known_to_who_made_it() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    assert!(stage.clock.kill(0), "it had a write to store");
    stage.wait(40_000);
    stage.kv.order("put session:", Ordered::Takes(4_000));
    assert_eq!(stage.look(&elsewhere), Ok(2), "and stores it");
    assert_eq!(stage.count(&here), Ok(3));
    assert_eq!(stage.at_rest(), Ok(3));
}

#[test]
fn what_is_built_on_it_meanwhile_knows_of_that() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    assert!(stage.clock.kill(0), "it had a write to store");
    stage.wait(15_000);
    stage.kv.order("put session:", Ordered::Takes(9_000));
    assert_eq!(stage.look(&here), Ok(2));
    stage.wait(1_000);
    stage.kv.order("put session:", Ordered::Takes(100));
    assert_eq!(stage.count(&elsewhere), Ok(3));
    assert_eq!(stage.at_rest(), Ok(3));
}

fn fate_run(look_arrives: bool) -> u32 {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.count(&here).unwrap();
    stage.wait(5_000);
    stage.kv.order("put session:", Ordered::Takes(4_000));
    let before = stage.header();
    let wrote = stage.send(&here, &before, count);
    let looked = stage.send(&here, &before, |_| {});
    assert_eq!((wrote.count, looked.count), (Ok(2), Ok(2)));
    stage.arrives(&wrote);
    if look_arrives {
        stage.arrives(&looked);
    }
    assert!(stage.clock.kill(0));
    drop(here);
    stage.wait(40_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.look(&elsewhere), Ok(2));
    stage.wait(5_000);
    stage.kv.written()
}

#[test]
fn parallel_look_marks_a_pending_write_as_stored() {
    assert_eq!(fate_run(false), 2, "control");
    assert_eq!(fate_run(true), 2);
}

fn told_again(own: bool) -> Result<u64, u16> {
    let stage = Stage::new();
    let (here, other_home, elsewhere) = (stage.isolate(0, 0), stage.isolate(2, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    stage.wait(40_000);
    stage.kv.order("put session:", Ordered::Takes(3_000));
    assert_eq!(stage.look(&elsewhere), Ok(2), "stores it late, slowly");
    assert_eq!(stage.count(if own { &here } else { &other_home }), Ok(3));
    stage.at_rest()
}

#[test]
fn what_is_told_of_a_late_store_is_heeded_own() {
    assert_eq!(told_again(true), Ok(3));
}

#[test]
fn what_is_told_of_a_late_store_is_heeded_in_kv() {
    assert_eq!(told_again(false), Ok(3));
}

#[test]
fn a_late_store_leaves_a_write_whole() {
    let mut tried = 0;
    for pad in 1_850..2_300 {
        let stage = Stage::new();
        let (here, elsewhere, third) = (stage.isolate(0, 0), stage.isolate(1, 1), stage.isolate(2, 2));
        stage.visit(&here, |session| session.pad = "x".repeat(pad)).unwrap();
        stage.wait(5_000);
        stage.kv.come_to_rest();
        stage.kv.order("put session:", Ordered::Takes(4_000));
        let reply = stage.send(&here, &stage.header(), count);
        let line =
            reply.set_cookie.iter().find(|line| line.len() > 200).map(|l| l.split(';').next().unwrap().len() - 1);
        let Some(length) = line else { continue };
        assert!(length <= 3_072, "pad {pad}: no cookie is longer than three kilobytes");
        if !(3_040..=3_072).contains(&length) {
            continue;
        }
        tried += 1;
        stage.arrives(&reply);
        assert!(stage.clock.kill(0));
        stage.wait(40_000);
        stage.puts(8, &Stage::failed());
        let seen = stage.look(&elsewhere);
        stage.wait(8_000);
        let then = stage.look(&third);
        println!("pad {pad}, {length} bytes: {seen:?} then {then:?}");
        assert_eq!((seen, then), (Ok(2 - 1), Ok(2 - 1)), "pad {pad}, {length} bytes");
    }
    assert!(tried > 0);
}

#[test]
fn what_nobody_looks_after_is_still_stored_once_more() {
    let stage = Stage::new();
    let (a, b, c) = (stage.isolate(0, 0), stage.isolate(1, 1), stage.isolate(2, 2));
    stage.counts_twice(&a);
    assert_eq!(stage.count(&b), Ok(3), "once more after 7 s");
    assert_eq!(stage.count(&c), Ok(4), "once more after 14 s");
    assert!(stage.clock.kill(2));
    stage.wait(6_300);
    assert_eq!(stage.look(&c), Ok(4), "forgotten, and so stored by this");
    assert_eq!(stage.at_rest(), Ok(4));
}

fn failing(forgotten: bool) -> Result<u64, u16> {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.counts_twice(&here);
    stage.wait(400);
    if forgotten {
        assert_eq!(stage.count(&here), Ok(3));
        assert!(stage.clock.kill(0), "while it waits for its second");
    }
    stage.wait(10_000);
    stage.puts(3, &Stage::failed());
    assert_eq!(if forgotten { stage.look(&here) } else { stage.count(&here) }, Ok(3));
    stage.wait(10_000);
    stage.kv.come_to_rest();
    stage.id_alone(2)
}

#[test]
fn what_nobody_looks_after_is_tried_for_as_long_as_another() {
    assert_eq!(failing(false), Ok(3), "control");
    assert_eq!(failing(true), Ok(3));
}

fn told(how: &str) -> Result<u64, u16> {
    let stage = Stage::new();
    let (here, other_home, elsewhere) = (stage.isolate(0, 0), stage.isolate(2, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    stage.wait(40_000);
    stage.kv.order("put session:", Ordered::Takes(4_000));
    match how {
        "look" => assert_eq!(stage.look(&elsewhere), Ok(2)),
        _ => {
            drop(stage.send(&elsewhere, &stage.header(), |_| {}));
            stage.wait(300);
            assert_eq!(stage.look(&elsewhere), Ok(2));
        }
    }
    assert_eq!(stage.count(&other_home), Ok(3));
    stage.at_rest()
}

#[test]
fn a_second_look_tells_what_the_first_one_did_whose_reply_is_lost() {
    assert_eq!(told("lost, and again"), Ok(3));
}

/// In each direction of the clocks.
fn skewed(late: i64, then: i64) -> Result<u64, u16> {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    let (other_home, elsewhere) = (stage.isolate_ahead(2, 0, then), stage.isolate_ahead(1, 1, late));
    stage.counts_twice(&here);
    stage.wait(50_000);
    stage.kv.order("put session:", Ordered::Takes(4_000));
    assert_eq!(stage.look(&elsewhere), Ok(2));
    assert_eq!(stage.count(&other_home), Ok(3));
    stage.at_rest()
}

#[test]
fn so_it_is_by_clocks_that_are_three_seconds_behind() {
    assert_eq!(skewed(-3_000, 0), Ok(3));
}

/// A save that hangs, shown meanwhile, and then put by whoever showed it. What is made from it by who has met it before, or has not.
fn made_from_what_was_abandoned(has_met_it: bool) -> Result<u64, u16> {
    let stage = Stage::new();
    let (a, b) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&a, 0);
    stage.kv.order("put session:", Ordered::Hangs);
    assert_eq!(stage.count(&a), Ok(2));
    stage.wait(10);
    assert!(stage.clock.kill(0), "in its put");
    stage.wait(1_000);
    if has_met_it {
        assert_eq!(stage.look(&b), Ok(2));
    }
    stage.wait(4_900);
    stage.kv.order("put session:", Ordered::Takes(4_500));
    assert_eq!(stage.look(&a), Ok(2), "takes over when the put counts as abandoned, at 6 s");
    stage.wait(1_200);
    assert_eq!(stage.count(&b), Ok(3));
    stage.at_rest()
}

#[test]
fn what_was_abandoned_is_told_of_as_well() {
    assert_eq!(made_from_what_was_abandoned(false), Ok(3));
}

#[test]
fn what_another_isolate_has_met_it_does_not_know_by_heart() {
    assert_eq!(made_from_what_was_abandoned(true), Ok(3));
}

#[test]
fn what_it_met_is_still_waited_for() {
    let stage = Stage::new();
    let [a, x, y, z] = [0, 1, 2, 3].map(|n| stage.isolate(n, n as usize));
    stage.counts_twice(&a);
    assert_eq!(stage.count(&x), Ok(3), "once more after 7 s");
    let before = stage.header();
    assert_eq!(stage.count(&y), Ok(4), "once more after 14 s");
    stage.wait(10);
    let beside = stage.send(&z, &before, count);
    assert_eq!(beside.count, Ok(4));
    stage.arrives(&beside);
    assert!(stage.clock.kill(3));
    stage.wait(6_200);
    assert_eq!(stage.count(&z), Ok(5), "its own update; the reply has arrived");
    assert_eq!(stage.at_rest(), Ok(5));
}

fn shown_before_its_isolate_died(saves: bool, looks: bool) -> Result<u64, u16> {
    let stage = Stage::new();
    let (a, b, c) = (stage.isolate(0, 0), stage.isolate(1, 1), stage.isolate(2, 2));
    stage.count(&a).unwrap();
    stage.wait(5_000);
    stage.kv.order("put session:", Ordered::Takes(4_900));
    assert_eq!(stage.count(&a), Ok(2));
    if saves {
        let reply = stage.run(stage.ask_to(&b, &stage.header(), save));
        assert_eq!(reply.count, Ok(3));
        stage.arrives(&reply);
    } else {
        let reply = stage.send(&b, &stage.header(), count);
        if looks {
            stage.wait(400);
            assert_eq!(stage.look(&b), Ok(3));
        } else {
            stage.arrives(&reply);
            stage.wait(400);
        }
    }
    assert!(stage.clock.kill(1), "with its once more to do");
    stage.wait(40_000);
    assert_eq!(stage.look(&c), Ok(3));
    stage.wait(5_000);
    stage.kv.come_to_rest();
    stage.wait(60_000);
    stage.id_alone(2)
}

#[test]
fn what_is_to_be_stored_once_more_is_not_yet_stored() {
    assert_eq!(shown_before_its_isolate_died(false, false), Ok(3), "control");
    assert_eq!(shown_before_its_isolate_died(false, true), Ok(3), "its reply lost, and shown by a look");
}

#[test]
fn nor_is_what_was_saved() {
    assert_eq!(shown_before_its_isolate_died(true, false), Ok(3), "saved");
}

/// A logout, or a change of id, while a late store is under way.
#[test]
fn an_end_beats_what_is_stored_late() {
    for moves in [false, true] {
        let stage = Stage::new();
        let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
        stage.counts_twice(&here);
        stage.wait(40_000);
        stage.kv.order("put session:", Ordered::Takes(4_000));
        let old = stage.header();
        let looked = stage.send(&elsewhere, &old, |_| {});
        stage.visit(&here, |session| if moves { session.cycle_id() } else { session.kill() }).unwrap();
        stage.arrives(&looked);
        stage.wait(25_000);
        stage.kv.come_to_rest();
        for n in 0..3 {
            assert_eq!(stage.send(&stage.isolate(10 + n, n as usize), &old, |_| {}).count, Ok(0));
        }
        assert_eq!(stage.look(&elsewhere), Ok(if moves { 2 } else { 0 }));
    }
}

/// Answers that are lost after their effect, and memory pressure is none.
#[test]
fn what_is_stored_late_and_whose_answers_are_lost_takes_no_newer_ones_place() {
    let stage = Stage::new();
    let (here, other_home, elsewhere) = (stage.isolate(0, 0), stage.isolate(2, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    stage.wait(40_000);
    stage.puts(2, &Ordered::Loses(KvFailure::Other("lost".to_owned())));
    assert_eq!(stage.look(&elsewhere), Ok(2));
    stage.wait(500);
    assert_eq!(stage.count(&other_home), Ok(3));
    assert_eq!(stage.at_rest(), Ok(3));
}

/// Two isolates store late, their replies cross.
#[test]
fn of_two_isolates_that_store_late_the_news_may_cross() {
    let stage = Stage::new();
    let [here, other_home, b, d] = [(0, 0), (2, 0), (1, 1), (3, 2)].map(|(n, p)| stage.isolate(n, p));
    stage.counts_twice(&here);
    stage.wait(40_000);
    let header = stage.header();
    let first = stage.send(&b, &header, |_| {});
    stage.wait(3_000);
    stage.kv.order("put session:", Ordered::Takes(4_900));
    let second = stage.send(&d, &header, |_| {});
    stage.arrives(&second);
    stage.arrives(&first);
    assert_eq!(stage.count(&other_home), Ok(3));
    assert_eq!(stage.at_rest(), Ok(3));
}

/// Stored late, and changed, by one request.
#[test]
fn what_is_stored_late_may_be_changed_by_the_same_request() {
    for saves in [false, true] {
        let stage = Stage::new();
        let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
        stage.counts_twice(&here);
        stage.wait(40_000);
        stage.kv.order("put session:", Ordered::Takes(4_000));
        let looked = stage.send(&stage.isolate(4, 1), &stage.header(), |_| {});
        if saves {
            let reply = stage.run(stage.ask_to(&elsewhere, &stage.header(), save_and_count));
            assert_eq!(reply.count, Ok(4));
            stage.arrives(&reply);
        } else {
            assert_eq!(stage.visit(&elsewhere, |session| session.count = 4), Ok(4));
        }
        stage.arrives(&looked);
        assert_eq!(stage.look(&here), Ok(4));
        stage.wait(25_000);
        stage.kv.come_to_rest();
        stage.wait(60_000);
        assert_eq!(stage.id_alone(2), Ok(4), "{saves}");
    }
}

/// Each write may arrive after the next one, and is stored once more; so is what the other place made in between. The last one
/// has to be the last of these, too.
#[test]
fn who_goes_to_and_fro_within_seconds_finds_the_last_write_at_rest() {
    for seed in 0..300 {
        let stage = Stage::seeded(seed);
        stage.kv.take(20, 200);
        let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
        let random = crate::clock::Random::new(seed);
        let hops = 4 + random.below(12);
        for hop in 0..hops {
            let isolate = if random.one_in(3) { &elsewhere } else { &here };
            assert_eq!(stage.count(isolate), Ok(hop + 1));
            stage.wait([0, 0, 50, 300, 1_200][usize::try_from(random.below(5)).unwrap()]);
        }
        assert_eq!(stage.at_rest(), Ok(hops), "seed {seed}");
    }
}

/// It is tried for less than five seconds, however long each of its puts takes: what is built on it is stored once more after that.
#[test]
fn a_write_whose_puts_take_long_is_given_up_in_time() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&here, 0);
    stage.wait(5_000);
    stage.kv.come_to_rest();
    for takes in [4_400, 3_000, 4_000, 4_000, 4_000, 100] {
        stage.kv.order("put session:", Ordered::Takes(takes));
    }
    assert_eq!(stage.count(&here), Ok(2));
    let reply = stage.run(stage.ask_to(&elsewhere, &stage.header(), save_and_count));
    assert_eq!(reply.count, Ok(4));
    stage.arrives(&reply);
    assert_eq!(stage.at_rest(), Ok(4));
}

/// What it is made from was in the browser alone when it was loaded.
#[test]
fn a_long_request_whose_base_is_stored_late_meanwhile_is_stored_once_more() {
    let stage = Stage::new();
    let (here, slow, other) = (stage.isolate(0, 0), stage.isolate(1, 1), stage.isolate(2, 2));
    stage.counts_twice(&here);
    assert!(stage.clock.kill(0));
    let sent = stage.header();
    let counted = std::cell::RefCell::new(None);
    stage.clock.run(vec![
        Box::pin(async {
            let slowly = async |session: &mut Session<Visit>| {
                count(session);
                stage.clock.pause(42_000).await;
                Ok(())
            };
            *counted.borrow_mut() = Some(stage.ask_to(&slow, &sent, slowly).await);
        }),
        Box::pin(async {
            stage.clock.pause(41_000).await;
            stage.kv.order("put session:", Ordered::Takes(4_900));
            assert_eq!(stage.ask(&other, &sent, &|_| {}).await.count, Ok(2));
            stage.kv.order("put session:", Ordered::Takes(10));
        }),
    ]);
    let reply = counted.into_inner().unwrap();
    assert_eq!(reply.count, Ok(3));
    stage.arrives(&reply);
    assert_eq!(stage.at_rest(), Ok(3));
}

/// Its work behind the reply was broken off after the first put.
#[test]
fn what_nobody_stores_once_more_is_so_by_a_look_when_it_is_due() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    assert_eq!(stage.count(&elsewhere), Ok(3), "once more after seven seconds");
    stage.wait(2_000);
    assert!(stage.clock.kill(1));
    let written = || {
        stage.wait(500);
        stage.kv.written()
    };
    let before = written();
    stage.wait(2_500);
    assert_eq!((stage.look(&elsewhere), written()), (Ok(3), before), "after five seconds");
    stage.wait(2_500);
    assert_eq!((stage.look(&elsewhere), written()), (Ok(3), before + 1), "after eight");
}

#[test]
fn a_look_at_what_is_to_be_stored_once_more_has_nothing_to_tell() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    assert_eq!(stage.count(&elsewhere), Ok(3), "once more after seven seconds");
    for milliseconds in [1_500, 4_000] {
        stage.wait(milliseconds);
        let works = stage.clock.works();
        assert_eq!(stage.send(&elsewhere, &stage.header(), |_| {}).set_cookie, Vec::<String>::new());
        assert_eq!(stage.clock.works(), works, "nor to do");
    }
}

/// It has it, or it is too old to be carried.
#[test]
fn a_look_gives_the_browser_nothing_that_it_need_not_carry() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    for milliseconds in [3_000, 80_000, 20_000] {
        stage.wait(milliseconds);
        assert_eq!(stage.send(&here, &stage.header(), |_| {}).set_cookie, Vec::<String>::new());
    }
}

/// How many puts follow when it is looked at 40 seconds after it was made, by `how` it was, and who looks.
fn puts_of_a_look(act: impl Fn(&Stage, &[Sessions]), cookies_can_be_set: bool, looks: usize) -> u32 {
    let stage = Stage::new();
    let isolates = [stage.isolate(0, 0), stage.isolate(1, 1)];
    stage.begins(&isolates[0], 0);
    stage.kv.come_to_rest();
    act(&stage, &isolates);
    stage.wait(40_000);
    let before = stage.kv.written();
    let header = stage.header();
    let incoming = Incoming::new().cookie(&*header);
    let incoming = if cookies_can_be_set { incoming.with_reply() } else { incoming };
    assert_eq!(stage.run(stage.handle(&isolates[looks], &incoming, async |_| Ok(()))).count, Ok(2));
    stage.wait(5_000);
    stage.kv.written() - before
}

#[test]
fn what_is_known_to_be_stored_is_not_stored_late() {
    let counts = |stage: &Stage, isolates: &[Sessions]| {
        stage.kv.freeze(0);
        assert_eq!(stage.count(&isolates[0]), Ok(2));
    };
    assert_eq!(puts_of_a_look(counts, true, 1), 1, "control: nobody there knows");
    assert_eq!(puts_of_a_look(counts, true, 0), 0, "this isolate has seen it accepted");
    assert_eq!(puts_of_a_look(counts, false, 1), 0, "who builds on it could not be told");
    let saves = |stage: &Stage, isolates: &[Sessions]| {
        let reply = stage.run(stage.ask_to(&isolates[0], &stage.header(), save));
        stage.arrives(&reply);
    };
    assert_eq!(puts_of_a_look(saves, true, 1), 0, "its reply said so");
}

/// A look while a write waits for its second stores nothing beside it.
#[test]
fn what_waits_for_its_second_is_stored_once() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    let before = stage.kv.written();
    assert_eq!(stage.count(&here), Ok(2));
    stage.wait(300);
    assert_eq!(stage.count(&here), Ok(3));
    for _ in 0..5 {
        stage.wait(100);
        assert_eq!(stage.send(&here, &stage.header(), |_| {}).set_cookie, Vec::<String>::new());
    }
    stage.wait(20_000);
    assert_eq!(stage.kv.written(), before + 2);
}

#[test]
fn what_is_built_on_a_write_that_kv_shows_is_stored_once() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&here, 0);
    stage.kv.come_to_rest();
    let before = stage.kv.written();
    assert_eq!(stage.count(&elsewhere), Ok(2));
    stage.wait(20_000);
    assert_eq!(stage.kv.written(), before + 1);
}

/// KV is asked whether it shows something newer, and meanwhile the isolate makes that.
#[test]
fn what_is_newer_by_the_time_is_stored_in_place_of_what_was_to_be_stored_once_more() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.counts_twice(&here);
    assert_eq!(stage.count(&elsewhere), Ok(3), "once more after seven seconds");
    stage.wait(6_500);
    stage.kv.order("get session:", Ordered::Takes(2_000));
    let before = stage.kv.written();
    stage.wait(1_000);
    assert_eq!(stage.count(&elsewhere), Ok(4));
    stage.wait(2_500);
    assert_eq!(stage.kv.written(), before + 1);
    assert!(stage.kv.at_last(&stage.name()).unwrap().contains("\"count\":4"));
}

/// KV may have kept an older write, which arrived after its first put.
#[test]
fn a_second_put_that_is_given_up_is_in_the_log() {
    for saves in [false, true] {
        let stage = Stage::new();
        let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
        stage.begins(&elsewhere, 0);
        stage.kv.come_to_rest();
        stage.kv.order("put session:", Ordered::Takes(4_900));
        assert_eq!(stage.count(&elsewhere), Ok(2));
        stage.wait(100);
        let sent = stage.header();
        let reply = if saves { stage.run(stage.ask_to(&here, &sent, save)) } else { stage.send(&here, &sent, count) };
        assert_eq!(reply.count, Ok(3), "once more after seven seconds");
        stage.arrives(&reply);
        stage.wait(5_000);
        stage.puts(4, &Stage::failed());
        stage.wait(20_000);
        let log = stage.clock.log.take();
        assert_eq!(log.iter().filter(|line| line.starts_with("write_given_up: ")).count(), 1, "{saves}: {log:?}");
    }
}

/// A put was abandoned, what relied on its work waits, and this long after a look stores that. The isolate, and how many puts it
/// took.
fn stored_late_after(milliseconds: u64, failures: usize) -> (Stage, Sessions, u32) {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.kv.order("put session:", Ordered::Takes(300));
    assert_eq!(stage.count(&here), Ok(2));
    stage.wait(10);
    assert!(stage.clock.kill(0), "in its put");
    assert_eq!(stage.count(&here), Ok(3), "which relies on the work that is no more");
    stage.wait(milliseconds);
    stage.puts(failures, &Stage::failed());
    let before = stage.kv.written();
    assert_eq!(stage.look(&here), Ok(3));
    stage.wait(8_000);
    let puts = stage.kv.written() - before;
    (stage, here, puts)
}

#[test]
fn what_waits_behind_a_put_that_can_arrive_no_more_is_put_once() {
    for milliseconds in [15_500, 16_500, 18_000, 30_000] {
        assert_eq!(stored_late_after(milliseconds, 0).2, 1, "{milliseconds} ms");
    }
    let (stage, here, puts) = stored_late_after(56_000, 1);
    assert_eq!(puts, 1);
    stage.kv.order("put session:", Ordered::Takes(1_000));
    let began = stage.clock.milliseconds();
    assert_eq!(stage.count(&here), Ok(4));
    assert!(stage.clock.milliseconds() < began + 900, "KV takes writes, and no reply waits for its own");
}

#[test]
fn a_second_put_waits_for_its_second_although_the_first_met_429() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&elsewhere, 0);
    stage.kv.come_to_rest();
    stage.kv.take(0, 0);
    assert_eq!(stage.count(&elsewhere), Ok(2));
    stage.wait(4_900);
    stage.puts(10, &Stage::refused());
    assert_eq!(stage.count(&here), Ok(3));
    let before = stage.kv.refused();
    stage.wait(10_000);
    assert_eq!(stage.kv.refused(), before);
}

/// An isolate whose clock is ahead has stored it late.
#[test]
fn what_kv_shows_is_not_stored_once_more_by_another_clock() {
    let stage = Stage::new();
    let [here, third] = [0, 2].map(|number| stage.isolate(number, number as usize));
    let fast = stage.isolate_ahead(1, 1, 3_000);
    stage.begins(&here, 0);
    stage.kv.come_to_rest();
    assert_eq!(stage.count(&here), Ok(2));
    assert!(stage.clock.kill(0));
    stage.wait(36_000);
    assert_eq!(stage.look(&fast), Ok(2));
    stage.wait(1_000);
    stage.kv.come_to_rest();
    let before = stage.kv.written();
    assert_eq!(stage.look(&third), Ok(2));
    stage.wait(5_000);
    assert_eq!(stage.kv.written(), before);
}

/// By a look whose reply says that it is on its way, and not that it is stored.
#[test]
fn what_was_given_up_after_all_is_stored_late() {
    let stage = Stage::new();
    let (here, elsewhere, third) = (stage.isolate(0, 0), stage.isolate(1, 1), stage.isolate(2, 2));
    stage.begins(&elsewhere, 0);
    stage.kv.come_to_rest();
    stage.kv.order("put session:", Ordered::Takes(9_800));
    assert_eq!(stage.count(&elsewhere), Ok(2));
    stage.wait(100);
    assert_eq!(stage.count(&here), Ok(3), "once more after seven seconds");
    stage.wait(4_600);
    assert!(stage.clock.kill(1) && stage.clock.kill(0), "their work behind is broken off");
    stage.wait(4_000);
    stage.puts(4, &Stage::failed());
    assert_eq!(stage.look(&here), Ok(3), "and stores it once more, in vain");
    stage.wait(33_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.look(&third), Ok(3));
    assert_eq!(stage.at_rest(), Ok(3));
}
