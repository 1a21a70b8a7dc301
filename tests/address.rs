//! Sessions that are bound to their visitor's address: who may use them, and who may end them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use std::cell::{Cell, RefCell};

use edge_session::{
    Effect, Error, ErrorKind, Incoming, KvFailure, KvStore, Opened, Outcome, Session, SessionParameters, Sessions,
    Signer, Store, TestPlatform, Updated,
};
use pollster::block_on;
use support::kv::ModelKv;
use support::{KEY, NOW, Reply, Rig, Visit, Visitor, key_of, known, stored};

const BOUND: &str = r#"{"ignore_change_ip": false}"#;
const OWNER: &str = "192.0.2.1";
const OTHER: &str = "192.0.2.2";

/// A visitor who has counted to one, at the owner's address.
fn at_home(rig: &Rig) -> Visitor {
    let mut visitor = Visitor::at(OWNER);
    assert_eq!(visitor.count(rig), Reply::Ok(1));
    visitor
}

fn open(sessions: &Sessions, visitor: &Visitor) -> Session<Visit> {
    let incoming = Incoming::new().cookie(visitor.cookie.as_deref()).ip(visitor.ip).with_reply();
    match block_on(sessions.open(&incoming)).unwrap() {
        Opened::Session(session) => session,
        other => panic!("{other:?}"),
    }
}

fn kill(sessions: &Sessions, mut session: Session<Visit>) {
    session.kill();
    block_on(sessions.commit(&mut session)).unwrap();
}

#[test]
fn sessions_that_began_unbound_are_bound_at_their_next_use() {
    let rig = Rig::new();
    let mut visitor = at_home(&rig);
    let bound = rig.redeployed(KEY, BOUND);
    rig.store.calls();
    assert_eq!(visitor.read(&bound), Reply::Ok(1), "nobody is logged out");
    assert_eq!(rig.store.calls(), "load load update");
    assert_eq!(visitor.timing.effect, Effect::Touched);
    assert_eq!(stored(&rig, &visitor).unwrap().ip.as_deref(), Some(OWNER));
    let mut thief = Visitor { ip: Some(OTHER), ..visitor.twin() };
    assert_eq!(thief.count(&bound), Reply::Expired("Session expired".to_owned()));
    assert_eq!(visitor.count(&bound), Reply::Ok(2));
    assert_eq!(rig.store.calls(), "load load update", "bound once");
}

#[test]
fn one_that_is_bound_within_its_handler_is_saved_after_that() {
    let rig = Rig::new();
    let mut visitor = at_home(&rig);
    let bound = rig.redeployed(KEY, BOUND);
    let runs = Cell::new(0);
    let (reply, _) = visitor.ask(&bound, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        session.save().await?;
        session.count += 1;
        Ok(session.count)
    });
    assert_eq!((reply, runs.get()), (Reply::Ok(2), 1));
}

/// A request is a use of its session as it began.
#[test]
fn one_that_is_bound_when_its_time_is_over_lives_on_as_any_other() {
    enum Does {
        Nothing,
        Save,
        Change,
    }
    for parameters in [r#"{"timeout": 100}"#, r#"{"timeout": 100, "ignore_change_ip": false}"#] {
        for does in [Does::Nothing, Does::Save, Does::Change] {
            let rig = Rig::with(r#"{"timeout": 100}"#);
            let mut visitor = at_home(&rig);
            let rig = rig.redeployed(KEY, parameters);
            rig.platform.advance(99);
            let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Visit>| {
                rig.platform.advance(2);
                match does {
                    Does::Nothing => {}
                    Does::Save => session.save().await?,
                    Does::Change => session.count += 1,
                }
                Ok(session.count)
            });
            assert!(matches!(reply, Reply::Ok(1 | 2)) && visitor.read(&rig) == reply, "{parameters}: {reply:?}");
        }
    }
}

/// By another request of the same visitor, which bound it as well; a note, or a write, finds that.
#[test]
fn a_logout_follows_one_that_was_bound_and_moved_meanwhile() {
    enum Before {
        Nothing,
        ASave,
        AnUpdate,
    }
    for before in [Before::Nothing, Before::ASave, Before::AnUpdate] {
        let rig = Rig::new();
        let mut visitor = at_home(&rig);
        let (rig, elsewhere) = (rig.redeployed(KEY, BOUND), rig.redeployed(KEY, BOUND));
        let mut late = visitor.twin();
        let moving = RefCell::new(&mut visitor);
        let (reply, set_cookie) = late.ask(&rig, async |session: &mut Session<Visit>| {
            moving.borrow_mut().log_in(&elsewhere);
            match before {
                Before::Nothing => {}
                Before::ASave => drop(session.save().await),
                Before::AnUpdate => drop(session.update(|visit| visit.count += 1).await),
            }
            session.kill();
            Ok(())
        });
        assert!(reply == Reply::Ok(()) && set_cookie.unwrap().contains("Max-Age=0"));
        assert_eq!(stored(&rig, &visitor), None);
    }
}

/// It was loaded while it was bound to none, and has moved or not since.
#[test]
fn but_no_other_addresss_logout_ends_it() {
    for moves in [false, true] {
        let rig = Rig::new();
        let mut owner = at_home(&rig);
        let (rig, elsewhere) = (rig.redeployed(KEY, BOUND), rig.redeployed(KEY, BOUND));
        let mut thief = Visitor { ip: Some(OTHER), ..owner.twin() };
        let moving = RefCell::new(&mut owner);
        thief.ask(&rig, async |session: &mut Session<Visit>| {
            if moves {
                moving.borrow_mut().log_in(&elsewhere);
            } else {
                moving.borrow_mut().count(&elsewhere);
            }
            session.kill();
            Ok(())
        });
        assert_eq!(owner.read(&rig), Reply::Ok(if moves { 101 } else { 2 }));
    }
}

/// Which could be anybody's.
#[test]
fn where_it_cannot_be_looked_whose_it_is_a_logout_fails_and_what_is_no_record_it_ends() {
    let rig = Rig::new();
    let visitor = at_home(&rig);
    let bound = rig.redeployed(KEY, BOUND);
    let ends = |before: &dyn Fn()| {
        visitor.twin().ask(&bound, async |session: &mut Session<Visit>| {
            before();
            session.kill();
            Ok(())
        })
    };
    assert_eq!(ends(&|| rig.store.fail("load")).0, Reply::Error(ErrorKind::Unavailable));
    rig.store.fail("");
    assert_eq!(ends(&|| rig.store.garble(&key_of(&visitor))).0, Reply::Ok(()));
    assert!(rig.store.inside.is_empty());
}

/// On KV, where an update does not look.
#[test]
fn a_session_that_another_isolate_has_stored_meanwhile_is_bound_at_the_next_use() {
    let platform = TestPlatform::at(NOW);
    let kv = ModelKv::new(platform.clone());
    let isolate = |parameters| {
        let (signer, parameters) =
            (Signer::from_secret(KEY).unwrap(), SessionParameters::from_json(parameters).unwrap());
        Sessions::new(KvStore::new(kv.clone(), platform.clone()), platform.clone(), signer, parameters).unwrap()
    };
    let incoming = |cookie| Incoming::new().cookie(cookie).ip(Some(OWNER));
    let replied = |outcome| match outcome {
        Ok(Outcome::Replied { reply, set_cookie, .. }) => (reply, set_cookie),
        other => panic!("{other:?}"),
    };
    let (_, set_cookie) = replied(block_on(isolate("{}").run(&incoming(None), support::count)));
    let cookie = set_cookie[0].split(';').next();
    platform.advance(120);
    let [one, other, third] = [(); 3].map(|()| isolate(BOUND));
    let looks = async |session: &mut Session<Visit>| {
        assert_eq!(replied(other.run(&incoming(cookie), support::count).await).0, 2);
        platform.advance(2);
        Ok::<_, Error>(session.count)
    };
    assert_eq!(replied(block_on(one.run(&incoming(cookie), looks))).0, 1);
    platform.advance(120);
    assert_eq!(replied(block_on(third.run(&incoming(cookie), support::count))).0, 3);
}

/// Loaded while it was bound to none; the owner binds it; the thief's handler runs again, or its update is applied again.
#[test]
fn a_session_that_was_bound_to_another_address_meanwhile_is_the_others() {
    for updates in [false, true] {
        let rig = Rig::new();
        let owner = at_home(&rig);
        let (rig, elsewhere) = (rig.redeployed(KEY, BOUND), rig.redeployed(KEY, BOUND));
        let mut thief = Visitor { ip: Some(OTHER), ..owner.twin() };
        let owner = RefCell::new(owner);
        let (seen, is_first) = (RefCell::new(Vec::new()), Cell::new(true));
        let (reply, set_cookie) = thief.ask(&rig, async |session: &mut Session<Visit>| {
            seen.borrow_mut().push(session.count);
            if is_first.replace(false) {
                assert_eq!(owner.borrow_mut().count(&elsewhere), Reply::Ok(2));
            }
            if updates {
                return session.update(|visit| visit.count += 1).await;
            }
            session.count += 1;
            Ok(())
        });
        assert!(matches!(reply, Reply::Ok(()) | Reply::Expired(_)) && set_cookie.is_none(), "{reply:?}");
        let log = rig.platform.logged();
        assert_eq!(log.iter().filter(|line| line.starts_with("changes_dropped: ")).count(), 1, "{log:?}");
        assert!(seen.borrow().iter().all(|count| *count < 2), "{seen:?}");
        assert_eq!(owner.borrow_mut().count(&rig), Reply::Ok(3));
    }
}

#[test]
fn a_session_that_cannot_be_bound_this_time_fails_nobody_and_is_bound_later() {
    let rig = Rig::new();
    let mut visitor = at_home(&rig);
    let bound = rig.redeployed(KEY, BOUND);
    rig.store.fail("update");
    assert_eq!(visitor.read(&bound), Reply::Ok(1));
    assert!(rig.platform.logged()[0].starts_with("touch_failed: "), "{:?}", rig.platform.logged());
    rig.store.fail("");
    let runs = Cell::new(0);
    rig.store.interfere(&[support::Interference::Update(r#"{"count":5}"#)]);
    let (reply, _) = visitor.ask(&bound, async |session: &mut Session<Visit>| {
        runs.set(runs.get() + 1);
        Ok(session.count)
    });
    assert_eq!((reply, runs.get()), (Reply::Ok(1), 1), "another was faster, and nothing runs again for it");
    visitor.read(&bound);
    assert_eq!(stored(&rig, &visitor).unwrap().ip.as_deref(), Some(OWNER));
}

/// Not even by one who says that they were told: their logout must not remove it.
#[test]
fn a_session_that_is_another_addresss_stays_whatever_its_thief_sends() {
    let rig = Rig::with(BOUND);
    let mut visitor = at_home(&rig);
    let stolen = visitor.cookie.clone().unwrap();
    let thief = |cookie: String| Visitor { ip: Some(OTHER), ..Visitor::with(cookie) };
    let told = format!("{stolen}; webpy_session_id.told=1");
    assert_eq!(thief(told.clone()).read(&rig), Reply::Ok(0), "a new session");
    thief(told).reset(&rig);
    let gone = known(&rig).cookie.unwrap();
    Visitor::with(gone.clone()).reset(&rig);
    thief(format!("{stolen}; {gone}; webpy_session_id.told=1")).reset(&rig);
    assert_eq!(visitor.count(&rig), Reply::Ok(2));
}

/// It was bound to none when they opened it, by a release that did not ask, and moved meanwhile.
#[test]
fn nor_by_a_request_that_was_under_way_when_it_was_bound_and_moved() {
    for by_update in [false, true] {
        let rig = Rig::new();
        let binds = rig.redeployed(KEY, BOUND);
        let mut visitor = at_home(&rig);
        let incoming = Incoming::new().cookie(visitor.cookie.as_deref()).ip(OTHER);
        let Opened::Session(mut session) = block_on(binds.sessions.open::<Visit>(&incoming)).unwrap() else { panic!() };
        visitor.log_in(&binds);
        if by_update {
            assert!(block_on(session.update(|visit| visit.count += 1)).is_err());
        } else {
            session.count += 1;
            assert!(block_on(session.save()).is_err());
            session = block_on(binds.sessions.reopen(session)).unwrap();
        }
        session.kill();
        block_on(binds.sessions.commit(&mut session)).unwrap();
        assert_eq!(visitor.read(&binds), Reply::Ok(101), "{by_update}");
    }
}

/// A logout with the id from before ends the session where it is now, for those who may use it.
#[test]
fn nor_does_it_end_by_its_id_from_before_a_login() {
    let sign_in = async |session: &mut Session<Visit>| session.sign_in("ada");
    for signs_in in [false, true] {
        let rig = Rig::with(BOUND);
        let mut visitor = at_home(&rig);
        let old = visitor.twin();
        let thief = || Visitor { ip: Some(OTHER), ..old.twin() };
        if signs_in {
            visitor.ask(&rig, sign_in);
        } else {
            visitor.log_in(&rig);
        }
        let expired = || "Session expired".to_owned();
        assert_eq!(thief().reset(&rig).0, Reply::Expired(expired()));
        assert_eq!(thief().read(&rig), Reply::Expired(expired()));
        // The visitor's own is a straggler.
        let mut late = block_on(rig.sessions.open::<Visit>(&Incoming::new().cookie(old.cookie.as_deref()).ip(OWNER)));
        let Ok(Opened::Session(late)) = late.as_mut() else { panic!() };
        assert_eq!(late.count, 0, "a straggler");
        assert_eq!(visitor.read(&rig), Reply::Ok(if signs_in { 1 } else { 101 }));
        old.twin().reset(&rig);
        assert_eq!(visitor.read(&rig), Reply::Ok(0), "by their own it ends");
    }
}

/// It moved while it was bound to none, by a release that binds none, and was bound where it moved to.
#[test]
fn nor_where_it_was_bound_after_it_moved() {
    for is_under_way in [true, false] {
        let rig = Rig::new();
        let visitor = at_home(&rig);
        let (here, old) = (rig.redeployed(KEY, BOUND), visitor.twin());
        let under_way = open(&here.sessions, &old);
        let mut other = Visitor { ip: Some(OTHER), ..visitor };
        other.log_in(&rig);
        other.count(&here);
        kill(&here.sessions, if is_under_way { under_way } else { open(&here.sessions, &old) });
        assert_eq!(other.read(&here), Reply::Ok(102), "{is_under_way}");
        assert!(rig.platform.logged().iter().any(|line| line.starts_with("changes_dropped: ")));
    }
}

/// This release keeps nothing of a session that is bound; another one may.
#[test]
fn a_request_of_another_address_that_is_opened_again_finds_nothing_that_is_kept() {
    let rig = Rig::new();
    let mut visitor = at_home(&rig);
    let (here, old) = (rig.redeployed(KEY, BOUND), visitor.twin());
    let mut late = open(&here.sessions, &Visitor { ip: Some(OTHER), ..visitor.twin() });
    visitor.ask(&here, async |session: &mut Session<Visit>| session.sign_in("ada"));
    let keeps = stored(&rig, &old).unwrap().with(|retired| {
        retired.version += 1;
        retired.data = r#"{"count":7}"#.to_owned();
    });
    assert_eq!(block_on(rig.store.inside.update(&key_of(&old), &keeps)).unwrap(), Updated::Done);
    late.count += 1;
    block_on(here.sessions.commit(&mut late)).unwrap_err();
    let mut late = block_on(here.sessions.reopen(late)).unwrap();
    late.sign_in("mallory").unwrap();
    assert_eq!(late.count, 0);
}

/// What has expired is nobody's.
#[test]
fn a_logout_removes_what_has_expired_whosever_it_was() {
    let rig = Rig::with(BOUND);
    let visitor = at_home(&rig);
    rig.platform.advance(100_000);
    Visitor { ip: Some(OTHER), ..visitor }.reset(&rig);
    assert!(rig.store.inside.is_empty());
    assert_eq!(rig.platform.logged(), Vec::<String>::new());
}

/// However long ago that was by now.
#[test]
fn nor_by_one_that_is_opened_again_when_the_grace_is_over() {
    for seconds in [1, 40] {
        let rig = Rig::new();
        let visitor = at_home(&rig);
        let (here, elsewhere) = (rig.redeployed(KEY, BOUND), rig.redeployed(KEY, BOUND));
        let mut late = open(&here.sessions, &visitor);
        let mut other = Visitor { ip: Some(OTHER), ..visitor };
        other.log_in(&elsewhere);
        rig.platform.advance(seconds);
        late.count += 1;
        block_on(late.save()).unwrap_err();
        kill(&here.sessions, block_on(here.sessions.reopen(late)).unwrap());
        assert_eq!(other.read(&here), Reply::Ok(101), "{seconds}");
    }
}

#[test]
fn a_session_that_is_bound_keeps_the_time_that_it_was_given_meanwhile() {
    let rig = Rig::new();
    let visitor = at_home(&rig);
    let (here, longer) = (rig.redeployed(KEY, BOUND), rig.redeployed(KEY, r#"{"timeout": 9999999}"#));
    let mut late = open(&here.sessions, &visitor);
    rig.platform.advance(10);
    visitor.twin().read(&longer);
    block_on(here.sessions.commit(&mut late)).unwrap();
    assert_eq!(rig.store.updated_to().expires_at, NOW + 10 + 9_999_999);
}

// On KV, whose marks do not say for long whose a session was, and whose answers come late.

/// A namespace, and isolates over it.
struct Kv {
    platform: TestPlatform,
    namespace: ModelKv<TestPlatform>,
}

impl Kv {
    fn new() -> Self {
        let platform = TestPlatform::at(NOW);
        Self { namespace: ModelKv::new(platform.clone()), platform }
    }

    /// A use is noted after ten seconds.
    fn isolate(&self, binds: bool) -> Sessions {
        let parameters = format!(r#"{{"ignore_change_ip": {}, "touch_after": 10}}"#, !binds);
        let parameters = SessionParameters::from_json(&parameters).unwrap();
        let (store, signer) =
            (KvStore::new(self.namespace.clone(), self.platform.clone()), Signer::from_secret(KEY).unwrap());
        Sessions::new(store, self.platform.clone(), signer, parameters).unwrap()
    }

    /// What one who does this is left with, in an isolate that nobody has used yet.
    fn after(&self, binds: bool, visitor: &Visitor, does: impl FnOnce(&mut Session<Visit>)) -> Visitor {
        let sessions = self.isolate(binds);
        let mut session = open(&sessions, visitor);
        does(&mut session);
        let set_cookie = block_on(sessions.commit(&mut session)).unwrap();
        let own =
            set_cookie.iter().find_map(|line| line.split(';').next().filter(|_| line.starts_with("webpy_session_id=")));
        Visitor { cookie: own.map(str::to_owned).or(visitor.cookie.clone()), ..visitor.twin() }
    }

    fn is_alive(&self, visitor: &Visitor) -> bool {
        self.platform.advance(120);
        open(&self.isolate(true), visitor).record().is_some()
    }
}

/// What is kept beside the mark for a moment says whose it was. It is stored behind the reply, and here it never is.
#[test]
fn a_logout_follows_a_session_of_which_kv_does_not_say_whose_it_was() {
    enum Before {
        Nothing,
        ASave,
        /// Its own change of id lost the race.
        AnotherRun,
    }
    for was_bound in [false, true] {
        for before in [Before::Nothing, Before::ASave, Before::AnotherRun] {
            let kv = Kv::new();
            let visitor = kv.after(was_bound, &Visitor::at(OWNER), |session| session.count += 1);
            kv.platform.advance(120);
            let here = kv.isolate(true);
            let mut late = open(&here, &visitor);
            kv.namespace.fail("put kept", KvFailure::Other("503".to_owned()));
            let visitor = kv.after(true, &visitor, Session::cycle_id);
            kv.platform.advance(1);
            match before {
                Before::Nothing => {}
                Before::ASave => assert_eq!(block_on(late.save()).unwrap_err().kind(), ErrorKind::Ended),
                Before::AnotherRun => {
                    late.cycle_id();
                    assert_eq!(block_on(late.save()).unwrap_err().kind(), ErrorKind::Contended);
                    late = block_on(here.reopen(late)).unwrap();
                }
            }
            kill(&here, late);
            assert!(!kv.is_alive(&visitor), "was bound: {was_bound}");
        }
    }
}

/// Whether it asked before, and had an address itself; and also where its update has taken it for its own, for an update does not look.
#[test]
fn no_other_addresss_logout_ends_a_session_on_kv_however_late_it_is() {
    enum Before {
        Nothing,
        ASave,
        AnUpdate,
    }
    for address in [Some(OWNER), None] {
        for seconds in [1, 40] {
            for before in [Before::Nothing, Before::ASave, Before::AnUpdate] {
                let kv = Kv::new();
                let visitor =
                    kv.after(false, &Visitor { ip: address, ..Visitor::default() }, |session| session.count += 1);
                kv.platform.advance(120);
                let here = kv.isolate(true);
                let mut late = open(&here, &visitor);
                let other = kv.after(true, &Visitor { ip: Some(OTHER), ..visitor }, Session::cycle_id);
                kv.platform.advance(seconds);
                match before {
                    Before::Nothing => {}
                    Before::ASave => drop(block_on(late.save())),
                    Before::AnUpdate => drop(block_on(late.update(|visit| visit.count += 1))),
                }
                kill(&here, late);
                assert!(kv.is_alive(&other), "{address:?} {seconds}");
            }
        }
    }
}
