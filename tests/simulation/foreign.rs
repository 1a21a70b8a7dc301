//! What this release did not make, or not as it should: records of an older one, cookies that a client leaves out or makes up, a
//! write by a wrong clock.

use std::cell::RefCell;

use edge_session::{KvNamespace, Platform, Signer};

use crate::clock::NOW;
use crate::stage::{COOKIE, SECRET, Stage, count, name};

/// An older release, whose records say nothing of writes, stores one under this name.
fn stores(stage: &Stage, name: &str, version: u64, nonce: u32, count: u64, note: &str) {
    let end = NOW + 86_400;
    let note = if note.is_empty() { String::new() } else { format!(" {note}") };
    let text =
        format!("edge-session/1 {version} {nonce} {NOW} {NOW} {end} - 0 -{note}\n{{\"count\":{count},\"pad\":\"\"}}");
    stage.wait(1_000);
    stage.run(stage.kv.at(0).put(name, &text, end)).unwrap();
    stage.kv.come_to_rest();
}

#[test]
fn the_writes_of_an_older_release_are_seen_in_their_order() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    let id = format!("{COOKIE}={}", Signer::from_secret(SECRET).unwrap().sign(COOKIE, &"0".repeat(32)));
    let name = name(&id);
    stores(&stage, &name, 1, 9, 10, "");
    assert_eq!(stage.send(&here, &id, |_| {}).count, Ok(10));
    stores(&stage, &name, 2, 3, 20, "");
    assert_eq!(stage.send(&here, &id, |_| {}).count, Ok(20), "KV shows it, and the isolate an older one");
}

#[test]
fn also_where_a_browser_carries_one_of_them() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&here, 0);
    let name = stage.name();
    let text = stage.kv.at_last(&name).unwrap();
    let note = text.lines().next().unwrap().split(' ').find(|word| word.starts_with("writes=")).unwrap();
    // The older release writes twice, and keeps the note.
    stores(&stage, &name, 2, 9, 10, note);
    assert_eq!(stage.look(&here), Ok(10));
    assert_eq!(stage.header().matches("; ").count(), 1, "it is built on the one that was carried");
    stores(&stage, &name, 3, 10, 20, note);
    assert_eq!(stage.count(&elsewhere), Ok(21));
}

/// Two writes met; a client that brings one of them alone gets back to it, whatever was written since.
#[test]
fn a_client_that_leaves_cookies_out_gets_no_older_state_than_kv_shows() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&here, 0);
    stage.kv.come_to_rest();
    let sent = stage.header();
    let (one, other) = (RefCell::new(None), RefCell::new(None));
    stage.clock.run(vec![
        Box::pin(async { *one.borrow_mut() = Some(stage.ask(&here, &sent, &count).await) }),
        Box::pin(async {
            stage.clock.pause(30).await;
            *other.borrow_mut() = Some(stage.ask(&elsewhere, &sent, &count).await);
        }),
    ]);
    let before = stage.browser.borrow().clone();
    stage.arrives(&one.into_inner().unwrap());
    let fork = stage.browser.replace(before);
    stage.arrives(&other.into_inner().unwrap());
    for expected in 3..=12 {
        stage.wait(3_000);
        assert_eq!(stage.count(&elsewhere), Ok(expected));
    }
    stage.wait(30_000);
    stage.kv.come_to_rest();
    let (all, forked) = (stage.header(), fork.header(stage.clock.milliseconds()));
    assert_eq!(stage.send(&elsewhere, &all, |_| {}).count, Ok(12));
    assert_eq!(stage.send(&elsewhere, &forked, count).count, Ok(13));
}

/// What is made from both names both, wherever it is seen.
#[test]
fn of_two_branches_that_met_neither_is_carried_on() {
    let stage = Stage::new();
    let [a, b, c, d] = [0, 1, 2, 3].map(|number| stage.isolate(number, number as usize));
    stage.begins(&a, 0);
    stage.kv.come_to_rest();
    let sent = stage.header();
    for isolate in [&a, &b] {
        let reply = stage.send(isolate, &sent, count);
        stage.arrives(&reply);
        stage.wait(10);
    }
    assert_eq!(stage.header().matches("; ").count(), 2, "both");
    let lost = stage.send(&c, &stage.header(), count);
    assert_eq!(lost.count, Ok(3));
    stage.wait(30_000);
    stage.kv.come_to_rest();
    assert_eq!(stage.look(&d), Ok(3));
    assert_eq!(stage.header().matches("; ").count(), 1, "the one that is made from both");
}

/// Junk in cookies.
#[test]
fn cookies_of_whatever_form_do_no_harm() {
    let stage = Stage::new();
    let here = stage.isolate(0, 0);
    stage.begins(&here, 0);
    let good = stage.header();
    let name = &stage.name()["session:".len()..][..8];
    let carried = good.split("; ").find(|pair| pair.contains(name)).unwrap();
    let id = stage.id();
    let (its_name, value) = carried.split_once('=').unwrap();
    let junk: Vec<_> = (0..3_000)
        .map(|number: usize| {
            let cut = &value[..number % value.len()];
            format!("{COOKIE}.{name}.{}-{number:08x}={cut}", usize::MAX - number)
        })
        .collect();
    for extra in [
        junk.join("; "),
        format!("{its_name}={}", &value[..30]),
        format!("{its_name}=é{value}"),
        format!("{COOKIE}.{name}.+1-+1={value}; {COOKIE}.{name}.-=x; {COOKIE}.{name}.1-={value}; {COOKIE}.="),
    ] {
        for header in [format!("{id}; {extra}"), format!("{extra}; {id}"), format!("{extra}; {good}")] {
            assert!(stage.send(&here, &header, |_| {}).count.is_ok(), "{header:.100}");
            assert!(stage.send(&here, &header, count).count.is_ok(), "{header:.100}");
            stage.wait(2_000);
        }
    }
}

/// By how much a clock may be ahead.
#[test]
fn a_carried_write_from_too_far_ahead_is_ignored() {
    for (ahead, seen) in [(9_000, 2), (11_000, 1)] {
        let stage = Stage::new();
        let [fast, elsewhere] = [stage.isolate_ahead(0, 0, ahead), stage.isolate(1, 1)];
        stage.begins(&elsewhere, 0);
        stage.kv.come_to_rest();
        assert_eq!(stage.count(&fast), Ok(2));
        assert_eq!(stage.look(&elsewhere), Ok(seen), "{ahead} ms ahead");
    }
}

/// Of one page, whose replies have all arrived.
#[test]
fn a_look_elsewhere_takes_away_all_that_its_own_is_built_on() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&here, 0);
    let sent = stage.header();
    let replies: Vec<_> = (0..8).map(|_| stage.send(&here, &sent, count)).collect();
    for reply in &replies {
        stage.arrives(reply);
    }
    assert!(stage.header().matches("; ").count() >= 8, "each its own");
    assert_eq!(stage.look(&elsewhere), Ok(9));
    assert_eq!(stage.header().matches("; ").count(), 1, "the newest names those before it");
}

/// One isolate's clock is wrong once.
#[test]
fn a_clock_that_was_an_hour_ahead_for_one_write_does_no_harm() {
    let stage = Stage::new();
    let [a, b, c] = [0, 1, 2].map(|number| stage.isolate(number, number as usize));
    stage.begins(&a, 0);
    let wrong = stage.isolate_ahead(9, 0, 3_600_000);
    drop(stage.send(&wrong, &stage.header(), count));
    stage.wait(600_000);
    stage.kv.come_to_rest();
    stage.kv.freeze(2);
    assert_eq!(stage.count(&b), Ok(3));
    stage.wait(2_000);
    assert_eq!(stage.look(&c), Ok(3), "ten minutes after the wrong clock");
}

/// It may be the next release's, and is written over by nobody who was brought an older write.
#[test]
fn a_record_that_cannot_be_read_stays_under_what_a_browser_carries() {
    let stage = Stage::new();
    let (here, elsewhere) = (stage.isolate(0, 0), stage.isolate(1, 1));
    stage.begins(&here, 0);
    stage.wait(3_000);
    assert_eq!(stage.count(&here), Ok(2));
    stage.wait(2_000);
    let later = "edge-session/2 whatever\n{}";
    stage.run(stage.kv.at(0).put(&stage.name(), later, NOW + 86_400)).unwrap();
    stage.kv.come_to_rest();
    stage.wait(36_000);
    assert_eq!(stage.look(&elsewhere), Ok(0), "a new session, as for whoever comes without");
    stage.wait(5_000);
    assert_eq!(stage.kv.at_last(&stage.name()).as_deref(), Some(later));
}
