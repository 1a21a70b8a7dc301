//! What is stored of the data: only what changed, all of what changed, and nothing that could not be read again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use std::cell::Cell;
use std::collections::BTreeMap;

use edge_session::{Error, ErrorKind, Session, Store, Updated};
use pollster::block_on;
use serde::{Deserialize, Serialize};
use support::{KEY, Reply, Rig, Visit, Visitor, key_of, known, stored};

/// Puts this text where the visitor's data is, as another release would.
fn store_data(rig: &Rig, visitor: &Visitor, data: &str) {
    let record = stored(rig, visitor).unwrap();
    let next = record.with(|next| {
        next.version += 1;
        next.data = data.to_owned();
    });
    assert_eq!(block_on(rig.store.inside.update(&key_of(visitor), &next)).unwrap(), Updated::Done);
}

#[derive(Default, Serialize, Deserialize)]
struct Measured {
    value: f64,
}

async fn look(session: &mut Session<Measured>) -> Result<f64, Error> {
    Ok(session.value)
}

#[test]
fn data_that_could_not_be_read_again_is_refused_and_the_stored_data_stays() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    let set = |value| {
        async move |session: &mut Session<Measured>| {
            session.value = value;
            Ok(())
        }
    };
    visitor.ask(&rig, set(1.5));
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let (reply, set_cookie) = visitor.ask(&rig, set(value));
        assert_eq!((reply, set_cookie), (Reply::Error(ErrorKind::Unserializable), None));
        assert_eq!(visitor.ask(&rig, look), (Reply::Ok(1.5), None), "the session is as it was");
        let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Measured>| {
            session.value = value;
            session.cycle_id();
            let saved = session.save().await;
            let message = saved.as_ref().unwrap_err().to_string();
            assert!(message.contains("line 1 column") && message.contains("NaN"), "{message}");
            saved
        });
        assert_eq!(reply, Reply::Error(ErrorKind::Unserializable));
    }
    let (reply, _) = Visitor::default().ask(&rig, set(f64::NAN));
    assert_eq!(reply, Reply::Error(ErrorKind::Unserializable), "nor is a session begun with it");
    assert_eq!(rig.store.inside.len(), 1);
}

#[test]
fn a_number_comes_back_as_it_was() {
    let rig = Rig::new();
    let mut visitor = Visitor::default();
    let value = 117.633_313_394_000_17;
    visitor.ask(&rig, async |session: &mut Session<Measured>| {
        session.value = value;
        Ok(())
    });
    rig.store.calls();
    let (reply, set_cookie) = visitor.ask(&rig, look);
    assert_eq!((reply, set_cookie), (Reply::Ok(value), None));
    assert_eq!(rig.store.calls(), "load");
}

#[test]
fn data_is_compared_with_itself_as_it_was_loaded_and_never_with_the_stored_text() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    for text in [r#"{"count":1,"basket":["tea"]}"#, r#"{ "count" : 1.0e0 }"#, "{}"] {
        #[derive(Default, Serialize, Deserialize)]
        struct Later {
            #[serde(default)]
            count: f64,
            #[serde(default)]
            added_since: u8,
        }
        store_data(&rig, &visitor, text);
        rig.store.calls();
        for borrows in [false, true] {
            visitor.ask(&rig, async |session: &mut Session<Later>| {
                if borrows {
                    session.added_since = 0;
                }
                Ok(session.count)
            });
            assert_eq!(rig.store.calls(), "load", "{text}: looking at it is no change, nor is setting what it was");
        }
        assert_eq!(stored(&rig, &visitor).unwrap().data, text);
    }
}

/// Of another release, which knows a field more.
#[test]
fn a_save_of_what_has_not_changed_leaves_what_another_release_stored() {
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let text = r#"{"count":1,"basket":["tea"]}"#;
    store_data(&rig, &visitor, text);
    visitor.ask(&rig, async |session: &mut Session<Visit>| session.save().await);
    assert_eq!(stored(&rig, &visitor).unwrap().data, text);
}

#[test]
fn what_is_only_read_is_not_serialised() {
    #[derive(Default, Deserialize)]
    struct Watched {
        count: u64,
    }
    thread_local!(static SERIALISED: Cell<u32> = const { Cell::new(0) });
    impl Serialize for Watched {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            SERIALISED.set(SERIALISED.get() + 1);
            BTreeMap::from([("count", self.count)]).serialize(serializer)
        }
    }
    let rig = Rig::new();
    let mut visitor = known(&rig);
    for mut asking in [visitor.twin(), Visitor::default()] {
        asking.ask(&rig, async |session: &mut Session<Watched>| Ok(session.count));
        assert_eq!(SERIALISED.get(), 0);
    }
    visitor.ask(&rig, async |session: &mut Session<Watched>| {
        for _ in 0..10 {
            session.count += 1;
        }
        Ok(())
    });
    assert_eq!(SERIALISED.get(), 2, "before the first change, and at the end");
}

#[test]
fn what_changes_inside_a_cell_is_seen_by_save() {
    #[derive(Default, Serialize, Deserialize)]
    struct Shared {
        count: Cell<u64>,
    }
    let rig = Rig::new();
    let mut visitor = known(&rig);
    let count = |save| {
        async move |session: &mut Session<Shared>| {
            session.count.set(session.count.get() + 1);
            if save { session.save().await } else { Ok(()) }
        }
    };
    rig.store.calls();
    visitor.ask(&rig, count(false));
    assert_eq!(rig.store.calls(), "load", "and by nothing else");
    visitor.ask(&rig, async |session: &mut Session<Shared>| {
        session.count.set(7);
        let _: &mut Shared = session;
        Ok(())
    });
    assert_eq!(rig.store.calls(), "load", "also where a mutable borrow follows");
    visitor.ask(&rig, count(true));
    assert_eq!(rig.store.calls(), "load update");
    assert_eq!(visitor.read(&rig), Reply::Ok(2));
    rig.store.calls();
    visitor.ask(&rig, async |session: &mut Session<Shared>| session.save().await);
    assert_eq!(rig.store.calls(), "load", "a save of what has not changed writes nothing");
    visitor.ask(&rig, async |session: &mut Session<Shared>| {
        session.count.set(7);
        // A mutable borrow, which notes what the data is now.
        let _: &mut Shared = session;
        session.save().await
    });
    assert_eq!(visitor.read(&rig), Reply::Ok(7));
}

#[test]
fn data_larger_than_max_data_is_refused_with_the_parameters_name_and_the_stored_data_stays() {
    #[derive(Default, Serialize, Deserialize)]
    struct Note {
        text: String,
    }
    let rig = Rig::with(r#"{"max_data": 30}"#);
    let mut visitor = Visitor::default();
    let write = |length| {
        async move |session: &mut Session<Note>| {
            session.text = "x".repeat(length);
            session.save().await.inspect_err(|error| {
                assert!(error.to_string().contains("has 31 bytes as JSON, more than `max_data` = 30"), "{error}");
                assert_eq!(error.status(), 500);
            })
        }
    };
    let json = r#"{"text":""}"#.len();
    assert_eq!(visitor.ask(&rig, write(30 - json)).0, Reply::Ok(()));
    assert_eq!(visitor.ask(&rig, write(31 - json)), (Reply::Error(ErrorKind::TooLarge), None));
    let (reply, _) = visitor.ask(&rig, async |session: &mut Session<Note>| Ok(session.text.len()));
    assert_eq!(reply, Reply::Ok(30 - json));
    let (reply, _) = Visitor::default().ask(&Rig::new(), async |session: &mut Session<Note>| {
        session.text = "x".repeat(256 * 1024);
        Ok(())
    });
    assert_eq!(reply, Reply::Error(ErrorKind::TooLarge), "the default is 256 KiB");
}

#[test]
fn more_than_the_store_can_hold_is_no_max_data() {
    let platform = edge_session::TestPlatform::at(support::NOW);
    let kv = edge_session::KvStore::new(support::kv::ModelKv::new(platform.clone()), platform.clone());
    let parameters = |max_data| edge_session::SessionParameters { max_data, ..Default::default() };
    let signer = edge_session::Signer::from_secret(KEY).unwrap();
    let error = edge_session::Sessions::new(kv, platform, signer, parameters(10_000_001)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("`max_data` is 10000001, and must be at most 10000000 bytes"), "{error}");
}

/// As those of a Worker's variables are when they are read.
#[test]
fn parameters_that_are_made_by_hand_are_checked() {
    let parameters = edge_session::SessionParameters { cookie_name: "two words".to_owned(), ..Default::default() };
    let signer = edge_session::Signer::from_secret(KEY).unwrap();
    let platform = edge_session::TestPlatform::at(support::NOW);
    let made = edge_session::Sessions::new(edge_session::MemoryStore::default(), platform, signer, parameters);
    let error = made.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().starts_with("session parameters: `cookie_name`"), "{error}");
}

/// An object holds the list of a user's sessions.
#[test]
fn more_sessions_than_the_store_can_end_at_once_are_no_max_sessions() {
    let made = |max_sessions| {
        let store = support::SpyStore::default();
        store.hold_sessions(3);
        let parameters = edge_session::SessionParameters { max_sessions: Some(max_sessions), ..Default::default() };
        let platform = edge_session::TestPlatform::at(support::NOW);
        let signer = edge_session::Signer::from_secret(KEY).unwrap();
        edge_session::Sessions::new(store, platform, signer, parameters)
    };
    assert!(made(3).is_ok());
    let error = made(4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misconfigured);
    assert!(error.to_string().contains("`max_sessions` is 4, and must be at most 3"), "{error}");
}

#[test]
fn the_log_quotes_no_data() {
    #[derive(Default, Serialize, Deserialize)]
    enum Level {
        #[default]
        Low,
    }
    let rig = Rig::new();
    let mut visitor = known(&rig);
    store_data(&rig, &visitor, r#""x\nedge-session: misconfigured: SECRET""#);
    visitor.ask(&rig, async |session: &mut Session<Level>| Ok(matches!(**session, Level::Low)));
    let log = rig.platform.logged();
    assert_eq!(log.len(), 1, "{log:?}");
    assert!(log[0].starts_with("unreadable: RecordKey(") && log[0].contains("line 1 column"), "{log:?}");
    assert!(!log[0].contains("SECRET") && !log[0].contains('\n'), "{log:?}");

    struct Leaking;
    impl Serialize for Leaking {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("SECRET"))
        }
    }
    impl<'a> Deserialize<'a> for Leaking {
        fn deserialize<D: serde::Deserializer<'a>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("SECRET"))
        }
    }
    #[derive(Default, Serialize, Deserialize)]
    struct Holder {
        leaking: Option<Leaking>,
    }
    visitor.ask(&rig, async |session: &mut Session<Holder>| {
        session.leaking = Some(Leaking);
        session.save().await.inspect_err(|error| assert!(!error.to_string().contains("SECRET"), "{error}"))
    });
}

/// Two releases with different types answer side by side on one session.
#[test]
fn two_releases_that_look_lose_nothing_of_each_others() {
    #[derive(Default, Serialize, Deserialize)]
    struct Next {
        count: u64,
        #[serde(default)]
        basket: Vec<String>,
    }
    let rig = Rig::new();
    let next = rig.redeployed(KEY, "{}");
    let mut visitor = Visitor::default();
    visitor.ask(&next, async |session: &mut Session<Next>| {
        session.basket.push("tea".to_owned());
        Ok(())
    });
    rig.store.calls();
    for _ in 0..3 {
        assert_eq!(visitor.read(&rig), Reply::Ok(0));
        let (reply, _) = visitor.ask(&next, async |session: &mut Session<Next>| Ok(session.basket.len()));
        assert_eq!(reply, Reply::Ok(1));
    }
    assert_eq!(rig.store.calls(), "load load load load load load");
    visitor.ask(&rig, async |session: &mut Session<Visit>| {
        session.cycle_id();
        Ok(())
    });
    let (reply, _) = visitor.ask(&next, async |session: &mut Session<Next>| Ok(session.basket.len()));
    assert_eq!(reply, Reply::Ok(1), "a new id by the one keeps what the other knows");
}
