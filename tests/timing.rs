//! What a reply may say of what was done with its session, and how long it took.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use edge_session::{Effect, Session};
use support::{Interference, NOW, Reply, Rig, Visit, Visitor};

#[test]
fn a_reply_tells_what_was_done() {
    let rig = Rig::with(r#"{"touch_after": 60}"#);
    let mut visitor = Visitor::default();
    let did = |visitor: &Visitor| (visitor.timing.loaded, visitor.timing.effect, visitor.timing.attempts);

    visitor.read(&rig);
    assert_eq!(did(&visitor), (false, Effect::Nothing, 1));
    visitor.count(&rig);
    assert_eq!(did(&visitor), (false, Effect::Created, 1));
    visitor.count(&rig);
    assert_eq!(did(&visitor), (true, Effect::Saved, 1));
    visitor.read(&rig);
    assert_eq!(did(&visitor), (true, Effect::Nothing, 1));
    rig.platform.advance(60);
    visitor.read(&rig);
    assert_eq!(did(&visitor), (true, Effect::Touched, 1));
    let login = async |session: &mut Session<Visit>| {
        session.cycle_id();
        Ok(())
    };
    visitor.ask(&rig, login);
    assert_eq!(did(&visitor), (true, Effect::Moved, 1));
    rig.store.interfere(&[Interference::Update(r#"{"count":7}"#)]);
    assert_eq!(visitor.count(&rig), Reply::Ok(8));
    assert_eq!(did(&visitor), (true, Effect::Saved, 2), "the race was lost once");
    rig.store.interfere(&[Interference::Delete]);
    let mut late = visitor.twin();
    late.count(&rig);
    assert_eq!(did(&late), (true, Effect::Dropped, 1));
    let mut other = Visitor::default();
    other.count(&rig);
    other.reset(&rig);
    assert_eq!(did(&other), (true, Effect::Killed, 1));
    other.reset(&rig);
    assert_eq!(did(&other), (false, Effect::Nothing, 1));
}

#[test]
fn a_reply_tells_how_long_each_part_took_all_attempts_together() {
    let rig = Rig::with(r#"{"server_timing": true}"#);
    let mut visitor = Visitor::default();
    visitor.count(&rig);
    rig.store.slow_down(&rig.platform, 2);
    rig.store.interfere(&[Interference::Update(r#"{"count":7}"#)]);
    let clock = rig.platform.clone();
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        clock.advance(3);
        session.count += 1;
        Ok(())
    });
    let timing = visitor.timing;
    assert_eq!((timing.load, timing.handler, timing.save), (2000, 6000, 4000), "one load, two attempts");
    assert_eq!(
        timing.to_string(),
        "load;desc=loaded;dur=2000, handler;dur=6000, save;desc=saved;dur=4000, attempts;desc=2"
    );
}

#[test]
fn without_server_timing_nothing_is_measured() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    rig.store.slow_down(&rig.platform, 2);
    visitor.count(&rig);
    assert_eq!((visitor.timing.load, visitor.timing.handler, visitor.timing.save), (0, 0, 0));
}

#[test]
fn a_handler_can_look_at_what_is_stored() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    let look = async |session: &mut Session<Visit>| Ok(session.record().cloned());
    assert_eq!(visitor.ask(&rig, look).0, Reply::Ok(None), "of a new visitor, nothing");
    visitor.count(&rig);
    rig.platform.advance(60);
    let (Reply::Ok(Some(record)), _) = visitor.ask(&rig, look) else { panic!("a record") };
    assert_eq!((record.created_at, record.expires_at), (NOW, NOW + 86400));
    assert_eq!(record.data, r#"{"count":1}"#);
    let (saved, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.count += 1;
        session.save().await?;
        Ok(session.record().map(|record| record.data.clone()))
    });
    assert_eq!(saved, Reply::Ok(Some(r#"{"count":2}"#.to_owned())), "and after a save, what was saved");
}
