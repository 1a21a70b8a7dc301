use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::rc::Rc;

use super::users::{Claim, Revocation, Spared, UserStore, Users};
use crate::sign_in;
use crate::{Error, ErrorKind, Record, RecordKey, SessionHandle, Store, Successor, Swept, Updated, UserKey};

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
    /// When a user's sessions were ended.
    revocations: Rc<RefCell<BTreeMap<UserKey, Revocation>>>,
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

    fn removed(&self, these: &[(RecordKey, Record)]) -> u64 {
        let mut records = self.records.borrow_mut();
        these.iter().filter(|(key, _)| records.remove(key).is_some()).count().try_into().unwrap_or(u64::MAX)
    }

    fn is_refused(&self, claim: &Claim) -> bool {
        self.revocations.borrow().get(&claim.user).is_some_and(|revocation| revocation.refuses(claim))
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
        if let (Updated::Done, Some(stored)) = (&updated, &mut stored) {
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

    fn users(&self) -> Option<Users<'_>> {
        Some(Users::of(self))
    }

    async fn delete_expired(&self, now: u64) -> Result<Swept, Error> {
        let mut records = self.records.borrow_mut();
        let before = records.len();
        records.retain(|_, record| record.expires_at > now);
        let deleted = before.abs_diff(records.len()).try_into().unwrap_or(u64::MAX);
        Ok(Swept { deleted, left: 0 })
    }
}

impl UserStore for MemoryStore {
    async fn create_for(&self, claim: &Claim, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        if self.is_refused(claim) {
            return Ok(Updated::Gone);
        }
        self.create(key, record).await.map(|()| Updated::Done)
    }

    async fn change_id_for(
        &self,
        claim: &Claim,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        if self.is_refused(claim) {
            return Ok(Updated::Gone);
        }
        self.change_id(from, retired, to, moved).await
    }

    async fn list(&self, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error> {
        let records = self.records.borrow();
        let theirs = records.iter().filter(|(_, record)| UserKey::of_record(record).as_ref() == Some(user));
        Ok(theirs.map(|(key, record)| (key.clone(), record.clone())).collect())
    }

    async fn end(&self, user: &UserKey, handle: &SessionHandle) -> Result<bool, Error> {
        let mut theirs = self.list(user).await?;
        theirs.retain(|(_, record)| SessionHandle::of_record(record).as_ref() == Some(handle));
        Ok(self.removed(&theirs) > 0)
    }

    async fn end_all(&self, user: &UserKey, now: u64, spared: &Spared) -> Result<u64, Error> {
        let mut theirs = self.list(user).await?;
        let before = theirs.len();
        let handle = spared.claim().map(|claim| &claim.handle);
        theirs.retain(|(_, record)| handle.is_none() || SessionHandle::of_record(record).as_ref() != handle);
        let has_ended = matches!(spared, Spared::Session(..)) && theirs.len() == before;
        let revoked = self.revocations.borrow().get(user).cloned();
        let revocation = Revocation::then(revoked.as_ref(), now, spared.claim()).filter(|_| !has_ended);
        let Some(revocation) = revocation else { return Err(Error::ended()) };
        self.revocations.borrow_mut().insert(user.clone(), revocation);
        Ok(self.removed(&theirs))
    }

    async fn end_oldest(&self, claim: &Claim, most: u64, now: u64) -> Result<u64, Error> {
        let mut theirs = self.list(&claim.user).await?;
        theirs.retain(|(_, record)| record.expires_at > now / 1000);
        let mut times = BTreeMap::new();
        for (_, record) in &theirs {
            let at = times.entry(SessionHandle::of_record(record)).or_default();
            *at = sign_in::time_of(record).max(*at);
        }
        let mut newest: Vec<_> = times.into_iter().collect();
        newest.sort_by_key(|(handle, at)| Reverse((*at, handle.as_ref() == Some(&claim.handle))));
        newest.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        theirs.retain(|(_, record)| newest.iter().all(|(handle, _)| *handle != SessionHandle::of_record(record)));
        Ok(self.removed(&theirs))
    }
}
