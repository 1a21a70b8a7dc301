use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;

use crate::{Error, ErrorKind, Record, RecordKey, Store, Successor, Swept, Updated};

/// Records in this process's memory: the reference that other stores are measured by, and the
/// store for tests.
///
/// Not for a deployed Worker, whose visitors meet many isolates, each with a memory of its own. A
/// clone is another handle on the same records.
///
/// ```
/// use edge_session::MemoryStore;
///
/// let store = MemoryStore::default();
/// assert!(store.is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    records: Rc<RefCell<BTreeMap<RecordKey, Record>>>,
}

impl MemoryStore {
    /// How many records there are, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.borrow().len()
    }

    /// No record at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.borrow().is_empty()
    }
}

impl Store for MemoryStore {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        Ok(self.records.borrow().get(key).cloned())
    }

    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        match self.records.borrow_mut().entry(key.clone()) {
            Entry::Occupied(place) if place.get().is_same_write(record) => Ok(()),
            Entry::Occupied(_) => Err(Error::new(ErrorKind::Duplicate, "the key is used")),
            Entry::Vacant(place) => {
                place.insert(record.clone());
                Ok(())
            }
        }
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let mut records = self.records.borrow_mut();
        let mut stored = records.get_mut(key);
        let updated = Record::update_to(stored.as_deref(), record);
        if let (Updated::Done, Some(stored)) = (updated, &mut stored) {
            **stored = stored.replaced_by(record);
        }
        Ok(updated)
    }

    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        match self.records.borrow_mut().get_mut(key) {
            Some(stored) if stored.successor.is_none() => {
                *stored = stored.touched_by(record);
                Ok(Updated::Done)
            }
            _ => Ok(Updated::Gone),
        }
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        let mut records = self.records.borrow_mut();
        let successor = records.get(key).and_then(|record| record.successor.clone());
        if successor.is_none() {
            records.remove(key);
        }
        Ok(successor)
    }

    async fn delete_expired(&self, now: u64) -> Result<Swept, Error> {
        let mut records = self.records.borrow_mut();
        let before = records.len();
        records.retain(|_, record| record.expires_at > now);
        let deleted = before.abs_diff(records.len()).try_into().unwrap_or(u64::MAX);
        Ok(Swept { deleted, left: 0 })
    }
}
