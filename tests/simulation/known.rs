//! What an isolate knows while its place of KV does not show it, or shows it late.

use std::cell::{Cell, RefCell};

use edge_session::store::simulated_kv::Ordered;
use edge_session::{Incoming, KvFailure, Platform, Session};

use crate::stage::{LARGE, Stage, Visit, count, log_in, save};

/// Large data in one isolate, where its own place shows a write late.
#[test]
fn an_isolate_knows_what_is_too_large_for_a_cookie() {
    for bytes in [5_000, 70_000] {
        let stage = Stage::new();
        let (here, elsewhere) = (stage.isolate_with(0, 0, LARGE), stage.isolate_with(1, 1, LARGE));
        stage.begins(&here, bytes);
        stage.wait(100_000);
        stage.kv.come_to_rest();
        stage.kv.freeze(0);
        assert_eq!(stage.count(&here), Ok(2));
        stage.wait(2_000);
        let sent = stage.header();
        assert_eq!(stage.send(&here, &sent, |_| {}).count, Ok(2), "{bytes}");
        assert_eq!(stage.send(&elsewhere, &sent, |_| {}).count, Err(503), "{bytes}: and no other one does");
    }
}

/// It never got to KV, and its visitor looks every minute.
#[test]
fn what_a_browser_brought_is_believed_for_ninety_seconds_by_who_met_it_too() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&here, 0);
    stage.kv.come_to_rest();
    assert_eq!(stage.count(&here), Ok(2));
    assert!(stage.clock.kill(0), "before it is stored");
    stage.wait(80_000);
    assert_eq!(stage.look(&elsewhere), Ok(2));
    stage.wait(15_000);
    assert_eq!(stage.look(&elsewhere), Ok(1));
    assert_eq!(stage.count(&elsewhere), Ok(2), "and goes on from there");
    assert_eq!(stage.at_rest(), Ok(2));
}

/// A late load stores the browser's write once more, over a newer one that is waiting.
#[test]
fn what_is_stored_late_takes_no_newer_writes_place() {
    // The save's put is under way when the look goes on, or has been accepted.
    for takes in [150, 10] {
        is_looked_at_while_it_is_saved(takes);
    }
}

fn is_looked_at_while_it_is_saved(takes: u32) {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&here, 0);
    // A login, so that loads look for kills.
    stage.visit(&here, log_in).unwrap();
    stage.wait(2_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.count(&here), Ok(2));
    stage.wait(40_000);
    let sent = stage.header();
    let saved = RefCell::new(None);
    for _ in 0..2 {
        stage.kv.order("get session:", Ordered::Takes(20));
    }
    stage.kv.order("get killed:", Ordered::Takes(110));
    stage.kv.order("put session:", Ordered::Takes(takes));
    stage.clock.run(vec![
        Box::pin(async { assert_eq!(stage.ask(&elsewhere, &sent, &|_| {}).await.count, Ok(2)) }),
        Box::pin(async {
            // It saves while the look waits for its answer, and finds in KV what that has not.
            stage.clock.pause(25).await;
            stage.kv.come_to_rest();
            *saved.borrow_mut() = Some(stage.ask_to(&elsewhere, &sent, save).await);
        }),
    ]);
    assert_eq!((saved.into_inner().unwrap().count, stage.at_rest()), (Ok(3), Ok(3)), "{takes} ms");
}

/// The read before the second put hangs for eight seconds.
#[test]
fn a_slow_look_before_the_second_put_takes_nothing_back() {
    for milliseconds in [20, 8_000] {
        let stage = Stage::new();
        stage.kv.travel(0);
        let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
        stage.begins(&here, 0);
        stage.kv.order("put session:", Ordered::Takes(4_000));
        assert_eq!(stage.count(&here), Ok(2));
        let began = stage.clock.milliseconds();
        assert_eq!(stage.count(&elsewhere), Ok(3));
        stage.wait(6_500);
        stage.kv.order("get session:", Ordered::Takes(milliseconds));
        stage.wait(began + 7_600 - stage.clock.milliseconds());
        let reply = stage.run(stage.ask_to(&elsewhere, &stage.header(), save));
        assert!(reply.count.is_ok(), "{milliseconds} ms");
        stage.arrives(&reply);
        assert_eq!(stage.at_rest(), reply.count, "{milliseconds} ms");
    }
}

#[test]
fn a_use_that_was_noted_here_is_not_forgotten_here() {
    let stage = Stage::new();
    let here = stage.isolate_with(0, 0, r#"{"timeout": 3600}"#);
    stage.begins(&here, 0);
    stage.wait(3_580_000);
    stage.kv.freeze(0);
    assert_eq!(stage.look(&here), Ok(1));
    stage.wait(30_000);
    assert_eq!(stage.look(&here), Ok(1), "its use was noted half a minute ago, in this isolate");
}

/// Messages of a WebSocket, whose place does not see what is saved there: two saves, and perhaps one between them that fails. What
/// the two were told, and what is there at rest.
fn saves_where_nothing_is_seen(one_fails: bool) -> (Vec<Result<u64, u16>>, Result<u64, u16>) {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    stage.wait(100_000);
    stage.kv.freeze(0);
    let id = stage.id();
    let message = Incoming::new().cookie(&*id);
    let saves = || {
        let told = stage.run(stage.handle(&here, &message, save)).count;
        stage.wait(2_000);
        told
    };
    let mut told = vec![saves()];
    if one_fails {
        stage.puts(4, &Stage::failed());
        assert_eq!(saves(), Err(503));
    }
    told.push(saves());
    (told, stage.at_rest())
}

#[test]
fn a_failed_save_does_not_make_its_isolate_forget_the_save_before() {
    assert_eq!(saves_where_nothing_is_seen(false), (vec![Ok(2), Ok(3)], Ok(3)), "control");
    let (told, last) = saves_where_nothing_is_seen(true);
    assert!(told.iter().all(Result::is_ok), "{told:?}");
    assert!(last.is_ok_and(|last| last >= 3), "two saves said so: {told:?}, and {last:?} is there");
}

/// Half a megabyte, of a client that keeps the id alone: only the isolate knows that there is something newer.
#[test]
fn a_session_that_is_too_large_to_be_known_is_not_shown_as_it_was_before() {
    let stage = Stage::new();
    let here = stage.isolate_with(0, 0, LARGE);
    stage.begins(&here, 600_000);
    stage.wait(100_000);
    stage.kv.come_to_rest();
    let id = stage.id();
    stage.kv.freeze(0);
    assert_eq!(stage.send(&here, &id, count).count, Ok(2));
    stage.wait(2_000);
    assert_eq!(stage.send(&here, &id, |_| {}).count, Err(503));
    stage.kv.come_to_rest();
    assert_eq!(stage.send(&here, &id, |_| {}).count, Ok(2));
}

/// A message of a socket counts while a look notes its use, and the place sees neither.
#[test]
fn a_use_that_was_noted_takes_no_newer_writes_place() {
    let stage = Stage::new();
    let here = stage.isolate_with(0, 0, r#"{"timeout": 3600}"#);
    stage.begins(&here, 0);
    stage.wait(3_580_000);
    stage.kv.freeze(0);
    stage.kv.order("put session:", Ordered::Takes(500));
    let id = stage.id();
    stage.clock.run(vec![
        Box::pin(async { assert_eq!(stage.ask(&here, &id, &|_| {}).await.count, Ok(1)) }),
        Box::pin(async {
            stage.clock.pause(150).await;
            assert_eq!(stage.handle(&here, &Incoming::new().cookie(&*id), save).await.count, Ok(2));
        }),
    ]);
    assert_eq!(stage.send(&here, &id, |_| {}).count, Ok(2));
    assert_eq!(stage.at_rest(), Ok(2));
}

/// What a request has loaded is changed meanwhile by a save that fails, and may be stored.
#[test]
fn what_may_have_been_stored_is_not_written_over_by_who_does_not_know_of_it() {
    for is_lost in [true, false] {
        let stage = Stage::new();
        let here = stage.isolate(0, 0);
        stage.begins(&here, 0);
        let id = stage.id();
        for _ in 0..60 {
            let failure = || KvFailure::Other("KV PUT failed: 500".to_owned());
            let answer = if is_lost { Ordered::Loses(failure()) } else { Ordered::Fails(KvFailure::TooManyWrites) };
            stage.kv.order("put session:", answer);
        }
        let runs = Cell::new(0);
        stage.clock.run(vec![
            Box::pin(async {
                let slowly = async |session: &mut Session<Visit>| {
                    runs.set(runs.get() + 1);
                    stage.clock.pause(if runs.get() == 1 { 9_000 } else { 0 }).await;
                    save(session).await
                };
                let message = Incoming::new().cookie(&*id);
                let counted = stage.handle(&here, &message, slowly).await.count;
                assert_eq!(counted, Ok(if is_lost { 3 } else { 2 }));
            }),
            Box::pin(async {
                stage.clock.pause(200).await;
                let message = Incoming::new().cookie(&*id);
                assert_eq!(stage.handle(&here, &message, save).await.count, Err(503));
                stage.kv.forget_orders();
            }),
        ]);
        assert_eq!(runs.get(), if is_lost { 2 } else { 1 }, "of a write that was certainly refused nobody has to know");
    }
}

/// It counts as a put that is under way.
#[test]
fn what_is_written_while_a_use_is_noted_is_stored_after_it() {
    let stage = Stage::new();
    let here = stage.isolate_with(0, 0, r#"{"timeout": 3600}"#);
    stage.begins(&here, 0);
    stage.wait(3_580_000);
    stage.kv.order("put session:", Ordered::Takes(3_000));
    let id = stage.id();
    stage.clock.run(vec![
        Box::pin(async { assert_eq!(stage.ask(&here, &id, &|_| {}).await.count, Ok(1)) }),
        Box::pin(async {
            stage.clock.pause(200).await;
            assert_eq!(stage.ask_to(&here, &id, save).await.count, Ok(2));
        }),
    ]);
    assert_eq!(stage.at_rest(), Ok(2));
}

#[test]
fn of_two_looks_at_once_one_notes_the_use() {
    let stage = Stage::new();
    let here = stage.isolate_with(0, 0, r#"{"timeout": 3600}"#);
    stage.begins(&here, 0);
    stage.wait(3_580_000);
    let (written, refused) = (stage.kv.written(), stage.kv.refused());
    let id = stage.id();
    let look = async || assert_eq!(stage.ask(&here, &id, &|_| {}).await.count, Ok(1));
    stage.clock.run(vec![Box::pin(look()), Box::pin(look())]);
    assert_eq!((stage.kv.written(), stage.kv.refused()), (written + 1, refused));
}

/// Its place sees the write while the request looks again.
#[test]
fn who_brings_a_stub_waits_until_kv_shows_the_write() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&here, 5_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.count(&here), Ok(2));
    let sent = stage.header();
    stage.clock.run(vec![
        Box::pin(async { assert_eq!(stage.ask(&elsewhere, &sent, &|_| {}).await.count, Ok(2)) }),
        Box::pin(async {
            stage.clock.pause(1_200).await;
            stage.kv.come_to_rest();
        }),
    ]);
}

/// It was built on what the browser carries, which is the newest again.
#[test]
fn a_save_that_was_refused_takes_no_carried_write_away() {
    for is_stored in [true, false] {
        let stage = Stage::new();
        let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
        stage.begins(&here, 0);
        stage.kv.come_to_rest();
        assert_eq!(stage.look(&elsewhere), Ok(1));
        assert_eq!(stage.count(&here), Ok(2));
        if is_stored {
            stage.wait(1_000);
        }
        stage.puts(100, &Stage::refused());
        assert_eq!(stage.run(stage.ask_to(&here, &stage.header(), save)).count, Err(503));
        stage.kv.forget_orders();
        assert_eq!(stage.look(&here), Ok(2));
        assert_eq!(stage.look(&elsewhere), Ok(2), "the browser carries it still");
        stage.wait(36_000);
        assert_eq!(stage.look(&elsewhere), Ok(2));
        assert_eq!(stage.at_rest(), Ok(2), "is stored: {is_stored}");
    }
}

/// Two counts of a session that is too large for a cookie meet, one of them by a clock that is ahead.
#[test]
fn what_is_made_from_one_stub_beside_another_is_later_than_both() {
    let stage = Stage::new();
    let (a, b) = (stage.isolate(0, 0), stage.isolate_ahead(1, 1, 3_000));
    stage.begins(&a, 5_000);
    stage.kv.come_to_rest();
    stage.wait(100_000);
    assert_eq!(stage.look(&a), Ok(1));
    let sent = stage.header();
    let replies = RefCell::new(Vec::new());
    for takes in [20, 20] {
        stage.kv.order("get session:", Ordered::Takes(takes));
    }
    for takes in [50, 1_200] {
        stage.kv.order("put session:", Ordered::Takes(takes));
    }
    let counts = async |isolate, after| {
        stage.clock.pause(after).await;
        let reply = stage.ask(isolate, &sent, &count).await;
        replies.borrow_mut().push(reply);
    };
    stage.clock.run(vec![Box::pin(counts(&a, 0)), Box::pin(counts(&b, 10))]);
    replies.take().iter().for_each(|reply| stage.arrives(reply));
    assert_eq!(stage.count(&a), Ok(3));
    assert_eq!(stage.look(&stage.isolate(3, 1)), Err(503), "that place shows the two of the other branch");
    assert_eq!(stage.at_rest(), Ok(3));
}

/// Its place does not see the note of use yet.
#[test]
fn a_use_that_was_noted_elsewhere_counts() {
    let stage = Stage::new();
    let parameters = r#"{"timeout": 3600}"#;
    let (here, elsewhere) = (stage.isolate_with(0, 0, parameters), stage.isolate_with(1, 1, parameters));
    stage.begins(&here, 0);
    stage.kv.come_to_rest();
    stage.wait(3_580_000);
    assert_eq!(stage.look(&here), Ok(1));
    stage.wait(30_000);
    assert_eq!(stage.look(&elsewhere), Ok(1), "its session was used half a minute ago");
    assert_eq!(
        stage.send(&elsewhere, &stage.header(), |_| {}).set_cookie,
        Vec::<String>::new(),
        "which the browser carries"
    );
    stage.wait(60_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.send(&elsewhere, &stage.header(), |_| {}).set_cookie, Vec::<String>::new(), "for ninety seconds");
}
