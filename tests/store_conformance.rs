//! The contract of `Store`, shown on `MemoryStore`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

use edge_session::{ErrorKind, MemoryStore, Record, RecordKey, SessionId, Store, TestPlatform, Updated};
use pollster::block_on;

fn key() -> RecordKey {
    SessionId::random(&TestPlatform::at(0)).unwrap().record_key()
}

fn record(version: u64, data: &str) -> Record {
    Record {
        version,
        created_at: 1_764_000_000,
        touched_at: 1_764_000_010,
        expires_at: 1_764_086_410,
        ip: Some("2001:db8::1".to_owned()),
        data: data.to_owned(),
    }
}

/// Every sentence of the contract, on any store.
async fn conforms(store: &impl Store) {
    let (used, unused) = (key(), key());

    assert_eq!(store.load(&unused).await.unwrap(), None, "absent is None");
    store.delete(&unused).await.expect("delete of nothing succeeds");

    let first = record(1, r#"{"count":1}"#);
    store.create(&used, &first).await.unwrap();
    assert_eq!(store.load(&used).await.unwrap(), Some(first.clone()), "what was stored comes back");
    let again = store.create(&used, &record(1, "{}")).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Duplicate, "a used key is refused");

    let second = record(2, r#"{"count":2}"#);
    assert_eq!(store.update(&used, &second).await.unwrap(), Updated::Done);
    assert_eq!(store.update(&used, &record(2, "{}")).await.unwrap(), Updated::Stale, "of two writers one loses");
    assert_eq!(store.update(&used, &record(9, "{}")).await.unwrap(), Updated::Stale, "no version is skipped");
    assert_eq!(store.load(&used).await.unwrap(), Some(second), "the loser changed nothing");

    assert_eq!(store.update(&unused, &first).await.unwrap(), Updated::Gone);
    assert_eq!(store.load(&unused).await.unwrap(), None, "update never inserts");

    store.delete(&used).await.unwrap();
    assert_eq!(store.update(&used, &record(3, "{}")).await.unwrap(), Updated::Gone, "killed while in flight");
    assert_eq!(store.load(&used).await.unwrap(), None, "and stays dead");

    let expired = Record { expires_at: 1, ip: None, ..record(1, "[]") };
    store.create(&used, &expired).await.unwrap();
    assert_eq!(store.load(&used).await.unwrap(), Some(expired), "an expired record is handed through");
    store.delete(&used).await.unwrap();

    for data in ["null", "{}", "\"\\u0000 é 名 \u{1F980} \u{10FFFF}\"", &format!("\"{}\"", "x".repeat(1_000_000))] {
        store.create(&used, &record(1, data)).await.unwrap();
        assert_eq!(store.load(&used).await.unwrap().unwrap().data, data, "odd data survives");
        store.delete(&used).await.unwrap();
    }
}

#[test]
fn memory_store_conforms() {
    block_on(conforms(&MemoryStore::default()));
}

#[test]
fn memory_store_frees_what_has_expired_and_nothing_else() {
    let store = MemoryStore::default();
    let (ended, live) = (key(), key());
    block_on(async {
        store.create(&ended, &Record { expires_at: 100, ..record(1, "{}") }).await.unwrap();
        store.create(&live, &Record { expires_at: 101, ..record(1, "{}") }).await.unwrap();
        assert_eq!(store.delete_expired(100).await.unwrap(), 1);
        assert_eq!(store.load(&ended).await.unwrap(), None);
        assert!(store.load(&live).await.unwrap().is_some());
    });
}
