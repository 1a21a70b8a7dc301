//! The public conformance suite, on `MemoryStore`; and that it finds what a store does wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, reason = "likewise")]

use std::cell::{Cell, RefCell};

use edge_session::store::conformance::{Abilities, Violation, check, check_users};
use edge_session::{
    Error, ErrorKind, Extensions, MemoryStore, Record, RecordKey, SessionId, Store, Successor, Swept, TestPlatform,
    Updated,
};
use pollster::block_on;

const NOW: u64 = 1_764_000_000;

#[test]
fn memory_store_conforms() {
    let store = MemoryStore::default();
    block_on(async {
        check(&store, &TestPlatform::at(NOW), Abilities::ALL).await.unwrap();
        check_users(&store, &TestPlatform::at(NOW)).await.unwrap();
        store.delete_expired(NOW + 3600).await.unwrap();
    });
    assert!(store.is_empty(), "the suite leaves nothing behind but what expires");
}

#[test]
fn memory_store_frees_what_has_expired_and_nothing_else() {
    let store = MemoryStore::default();
    let platform = TestPlatform::at(NOW);
    let key = || SessionId::random(&platform).unwrap().record_key();
    let (ended, live) = (key(), key());
    let record = |expires_at| Record::from_text(&format!("edge-session/1 1 1 1 1 {expires_at} - 0 -\n{{}}")).unwrap();
    block_on(async {
        store.create(&ended, &record(100)).await.unwrap();
        store.create(&live, &record(101)).await.unwrap();
        assert_eq!(store.delete_expired(100).await.unwrap(), Swept { deleted: 1, left: 0 });
        assert_eq!(store.load(&ended).await.unwrap(), None);
        assert!(store.load(&live).await.unwrap().is_some());
    });
}

/// What a store may do wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flaw {
    None,
    ExpiresOnLoad,
    CreateOverwrites,
    UpdateInserts,
    UpdateIgnoresTheVersion,
    UpdateForgetsItsOwnWrite,
    DeleteOfNothingFails,
    DeleteKeeps,
    AbsentIsAnError,
    CutsLongData,
    DropsTheSuccessor,
    DropsWhatItDoesNotKnow,
    DeletesTheRetired,
    SweepsTheLiving,
    UpdateTakesTouchesBack,
    TouchIsANewVersion,
    TouchInserts,
    LateTouchWins,
    TouchesTheRetired,
    RemembersItsWritesAlone,
    MovesWhatWasReplaced,
    KeepsTheRetiredForLonger,
}

struct Flawed {
    inside: MemoryStore,
    flaw: Flaw,
    nonce: Cell<u32>,
    written: RefCell<Option<(RecordKey, u64, u32)>>,
    forgotten: RefCell<Vec<RecordKey>>,
}

impl Store for Flawed {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let loaded = self.inside.load(key).await?.filter(|_| !self.forgotten.borrow().contains(key));
        Ok(match (self.flaw, loaded) {
            (Flaw::AbsentIsAnError, None) => return Err(Error::new(ErrorKind::Unavailable, "absent")),
            (Flaw::ExpiresOnLoad, Some(record)) => Some(record.with(|record| record.expires_at += 1)),
            (Flaw::CutsLongData, Some(record)) => {
                Some(record.with(|record| record.data = record.data.chars().take(65_535).collect()))
            }
            (Flaw::DropsTheSuccessor, Some(record)) => Some(record.with(|record| record.successor = None)),
            (Flaw::DropsWhatItDoesNotKnow, Some(record)) => {
                Some(record.with(|record| record.extensions = Extensions::default()))
            }
            (_, loaded) => loaded,
        })
    }

    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        if self.flaw == Flaw::CreateOverwrites {
            self.inside.delete(key).await?;
        }
        self.inside.create(key, record).await
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let stored = self.inside.load(key).await?;
        let overwrite = match self.flaw {
            Flaw::UpdateInserts => stored.is_none(),
            Flaw::UpdateIgnoresTheVersion => stored.is_some(),
            _ => false,
        };
        if overwrite {
            self.inside.delete(key).await?;
            self.inside.create(key, record).await?;
            return Ok(Updated::Done);
        }
        let mut record = record.clone();
        match (self.flaw, &stored) {
            (Flaw::KeepsTheRetiredForLonger, Some(stored)) => {
                record.expires_at = record.expires_at.max(stored.expires_at);
            }
            (Flaw::UpdateTakesTouchesBack, Some(stored)) if stored.version + 1 == record.version => {
                self.inside.delete(key).await?;
                self.inside.create(key, &record).await?;
                return Ok(Updated::Done);
            }
            (Flaw::RemembersItsWritesAlone, _) => {
                let write = (key.clone(), record.version, record.nonce);
                if self.written.replace(Some(write.clone())) == Some(write) {
                    return Ok(Updated::Done);
                }
            }
            _ => {}
        }
        if self.flaw == Flaw::UpdateForgetsItsOwnWrite {
            self.nonce.set(self.nonce.get() + 1);
            record.nonce += self.nonce.get();
        }
        self.inside.update(key, &record).await
    }

    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let stored = self.inside.load(key).await?;
        let replacement = match (self.flaw, stored) {
            (Flaw::TouchIsANewVersion, Some(stored)) => {
                record.clone().with(|record| record.version = stored.version + 1)
            }
            (Flaw::TouchInserts, None) => record.clone(),
            (Flaw::TouchesTheRetired, Some(stored)) if stored.successor.is_some() => stored,
            (Flaw::LateTouchWins, Some(stored)) => stored.with(|stored| {
                stored.touched_at = record.touched_at;
                stored.expires_at = record.expires_at;
            }),
            _ => return self.inside.touch(key, record).await,
        };
        self.inside.delete(key).await?;
        self.inside.create(key, &replacement).await?;
        Ok(Updated::Done)
    }

    async fn change_id(
        &self,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        if self.flaw == Flaw::MovesWhatWasReplaced && self.inside.load(from).await?.is_some() {
            self.inside.delete(from).await?;
            self.inside.create(from, retired).await?;
            self.inside.create(to, moved).await?;
            return Ok(Updated::Done);
        }
        if self.flaw == Flaw::KeepsTheRetiredForLonger {
            self.create(to, moved).await?;
            return self.update(from, retired).await;
        }
        self.inside.change_id(from, retired, to, moved).await
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        match self.flaw {
            Flaw::DeleteOfNothingFails if self.inside.load(key).await?.is_none() => {
                Err(Error::new(ErrorKind::Unavailable, "nothing there"))
            }
            Flaw::DeleteKeeps => Ok(self.inside.load(key).await?.and_then(|record| record.successor)),
            Flaw::DeletesTheRetired => {
                let left = self.load(key).await?.and_then(|record| record.successor);
                self.forgotten.borrow_mut().push(key.clone());
                self.inside.delete(key).await?;
                Ok(left)
            }
            _ => self.inside.delete(key).await,
        }
    }

    async fn delete_expired(&self, now: u64) -> Result<Swept, Error> {
        let later = if self.flaw == Flaw::SweepsTheLiving { 1_000_000 } else { 0 };
        self.inside.delete_expired(now + later).await
    }
}

fn verdict_on(flaw: Flaw) -> Result<(), Violation> {
    let platform = TestPlatform::at(NOW);
    let store = Flawed {
        inside: MemoryStore::default(),
        flaw,
        nonce: Cell::new(0),
        written: RefCell::default(),
        forgotten: RefCell::default(),
    };
    block_on(check(&store, &platform, Abilities::ALL))
}

#[test]
fn the_suite_finds_what_a_store_does_wrong() {
    assert_eq!(verdict_on(Flaw::None), Ok(()));
    for (flaw, sentence) in [
        (Flaw::ExpiresOnLoad, "what is created comes back whole"),
        (Flaw::CreateOverwrites, "create refuses a used key as Duplicate"),
        (Flaw::UpdateInserts, "an update of nothing is Gone"),
        (Flaw::UpdateIgnoresTheVersion, "an update of another version is refused as Stale"),
        (Flaw::UpdateForgetsItsOwnWrite, "what is updated comes back whole"),
        (Flaw::DeleteOfNothingFails, "delete of nothing succeeds"),
        (Flaw::DeleteKeeps, "a deleted record is absent"),
        (Flaw::AbsentIsAnError, "no call fails; found the error: absent"),
        (Flaw::CutsLongData, "data comes back as it was stored"),
        (Flaw::DropsTheSuccessor, "what is left under the old id is the retired record"),
        (Flaw::KeepsTheRetiredForLonger, "what is left under the old id is the retired record"),
        (Flaw::DropsWhatItDoesNotKnow, "what is created comes back whole"),
        (Flaw::UpdateTakesTouchesBack, "an update takes no later touch back"),
        (Flaw::TouchIsANewVersion, "a touch changes the times alone"),
        (Flaw::TouchInserts, "a touch of nothing is Gone"),
        (Flaw::LateTouchWins, "a late touch takes no later one back"),
        (Flaw::TouchesTheRetired, "a touch of a retired id is Gone"),
        (Flaw::RemembersItsWritesAlone, "a repeated update that meets another's act is an error"),
        (Flaw::DeletesTheRetired, "delete of a retired id says where the session went, each time"),
        (Flaw::MovesWhatWasReplaced, "a change of id from a version that was replaced is Stale"),
        (Flaw::SweepsTheLiving, "delete_expired spares a record whose time is not over"),
    ] {
        let violation = verdict_on(flaw).expect_err(&format!("{flaw:?}")).to_string();
        assert!(violation.starts_with(sentence), "{flaw:?}: {violation}");
    }
}
