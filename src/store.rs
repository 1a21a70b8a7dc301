//! Where records are kept: the [`Store`] trait and its contract, and the stores that come with this crate.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use crate::{Error, Jar, Record, RecordKey, Successor};

#[cfg(feature = "conformance")]
pub mod conformance;
mod kv;
mod memory;
pub mod repeat;
#[cfg(feature = "conformance")]
pub mod simulated_kv;
#[cfg(all(feature = "users", any(feature = "object", feature = "conformance")))]
mod user_list;
#[cfg(all(feature = "users", any(feature = "object", feature = "conformance")))]
#[doc(hidden)]
pub mod user_objects;
pub(crate) mod users;
pub(crate) use self::users::AnyUserStore;
pub use self::{
    kv::{KvFailure, KvNamespace, KvStore},
    memory::MemoryStore,
    users::{Claim, Spared, UserStore, Users},
};

/// Where records are kept.
///
/// A store keeps, hands back and deletes; it decides nothing. It reads no data and compares no
/// clocks: [`Sessions`](crate::Sessions) decides at each load, by one clock, whether a record has expired. A store
/// may use [`Record::expires_at`] to free space, and for nothing else.
///
/// The contract, which a store's tests should show:
///
/// - `load` gives what was stored, byte for byte, even when `expires_at` has passed.
/// - `create`, `update` and `touch` are different acts. `update` never inserts: a session that was killed
///   while a request was in flight stays dead.
/// - `update` replaces version `record.version - 1` and no other, in one step, so that of two
///   writers of the same version one is told [`Updated::Stale`]. A store that cannot do this in one
///   step says so in its own documentation (KV cannot).
/// - `touch` notes a use and changes neither version nor nonce nor data, so that no update is `Stale` because
///   of it. Neither a late touch nor an update takes a later touch back.
/// - A write that is repeated word for word, because its answer was lost, succeeds again and changes
///   nothing: its [`nonce`](Record::nonce) tells it from another's of the same version.
/// - A store that repeats a write *by itself*, and then finds another's version or nothing, does not know
///   whether its own was stored in between. It answers `Unavailable`: neither `Stale` nor `Gone`, upon which
///   the caller would do it again, nor `Done`. ([`repeat`] does that.)
/// - `delete` of nothing succeeds, and a retired record stays, to say where the session went. So the store or the
///   visitor can repeat a delete whose answer was lost.
/// - A failed call is an [`Error`] and never an absent record: a visitor whose store is down is not
///   a new visitor.
///
/// The futures need not be `Send`, for a Worker has one thread.
///
/// ```
/// use edge_session::{Error, MemoryStore, Record, RecordKey, Store, Successor, Updated};
///
/// /// Counts the loads of the store inside it.
/// struct Counting {
///     inside: MemoryStore,
///     loads: std::cell::Cell<u32>,
/// }
///
/// impl Store for Counting {
///     async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
///         self.loads.set(self.loads.get() + 1);
///         self.inside.load(key).await
///     }
///     async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
///         self.inside.create(key, record).await
///     }
///     async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
///         self.inside.update(key, record).await
///     }
///     async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
///         self.inside.touch(key, record).await
///     }
///     async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
///         self.inside.delete(key).await
///     }
/// }
/// ```
#[expect(async_fn_in_trait, reason = "no Send bound: a Worker has one thread")]
pub trait Store {
    /// The record under `key`, even one past its expiry. Absent is `None`, never an error.
    ///
    /// # Errors
    ///
    /// `Unreadable` when something is stored there that is no record; `Unavailable` when the store
    /// could not be asked.
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error>;

    /// Inserts under a key that must be unused.
    ///
    /// It is sent once, unless a delete leaves what outlives all that arrives late, as KV's marks do. Who sends it again, because
    /// its answer was lost, does so under another key: what arrives after a logout is then under an id that nobody was told.
    /// The session layer does that for an error that is [passing](Error::passing).
    ///
    /// # Errors
    ///
    /// `Duplicate` when the key is used (a store that cannot see this, as KV, overwrites: keys come
    /// from 128 random bits); `Unavailable`.
    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error>;

    /// Replaces the version before `record.version`, or reports that another version, or none, is there. A later touch stays, but
    /// not in a record that is [retired](Record::successor): that ends when it says.
    ///
    /// # Errors
    ///
    /// `Unavailable`, also when the store repeated the write and cannot tell whether it was stored. A lost race is
    /// not an error: it is [`Updated::Stale`] or [`Updated::Gone`].
    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error>;

    /// Notes a use: the stored record takes `touched_at` and `expires_at` of `record`, the one that was loaded, unless
    /// it has a later touch already. Nothing else of it changes, whatever its version is meanwhile.
    ///
    /// `Done` if there is such a session, `Gone` if not, or if its id was changed. A store that can only write whole
    /// records, as KV, reads what is there first, and answers `Stale` if that is a newer version.
    ///
    /// # Errors
    ///
    /// `Unavailable`. It fails no request: the next use is noted instead.
    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error>;

    /// Removes the session under `key`. If its id was changed, gives where it is now, for the caller to remove it
    /// there.
    ///
    /// A retired record stays, until it expires: a logout that is tried again finds by it where the session went.
    /// Otherwise the answer is `None`, and nothing stays under `key`, not even what cannot be read.
    ///
    /// # Errors
    ///
    /// `Unavailable`. Nothing under `key` is *not* an error.
    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error>;

    /// Gives the session under `from` the key `to`: `moved` is its record there, and `retired`, the next version of
    /// the old one, is what is left under `from`. `Stale` and `Gone` as for an [`update`](Self::update) to `retired`; then
    /// nothing has changed. What the store notes in `moved`'s extensions is written with each later version. An error that is
    /// [passing](Error::passing) says that nothing has happened under `from`, and will not: it is done again, with another `to`. (Should
    /// `from` lead to this one by then, it counts as done.)
    ///
    /// The default creates, then updates. A failure between the two leaves a record that nobody knows the id of; in
    /// the other order, it would have lost the session. A store that can do both in one step should.
    ///
    /// # Errors
    ///
    /// `Unavailable`, also when it may have been done; `Duplicate`.
    async fn change_id(
        &self,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        self.create(to, moved).await?;
        let updated = self.update(from, retired).await.map_err(Error::lasting)?;
        if updated != Updated::Done {
            // Nobody knows its id: what cannot be deleted now is only space, until it expires.
            drop(self.delete(to).await);
        }
        Ok(updated)
    }

    /// An [`update`](Self::update) at the end of a request with a reply: a store that gives the write to the visitor's
    /// browser ([`for_request`](Self::for_request)) may answer `Done` before it is stored, and finish it behind the reply.
    /// The default is `update`.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    async fn update_behind(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.update(key, record).await
    }

    /// The store as one request reaches it, for a store that keeps something with the visitors' browsers: by the jar it is
    /// given back what it gave them, and gives them more. The default, `None`, is for one that does not.
    ///
    /// A store around another one passes this on, with itself around what it gets.
    fn for_request(&self, jar: &Rc<Jar>) -> Option<RequestStore> {
        let _ = jar;
        None
    }

    /// What it can do for sessions that belong to users, if it can: `Some(Users::of(self))`. The default is that it cannot.
    ///
    /// A store around another one passes this on only as a [`UserStore`] of its own.
    fn users(&self) -> Option<Users<'_>> {
        None
    }

    /// The most bytes of data that it can hold for a session, beside the bookkeeping: the limit of `max_data`.
    fn max_data(&self) -> u64 {
        u64::MAX
    }

    /// Frees the space of records whose `expires_at` is `now` (seconds since 1970 UTC) or earlier.
    ///
    /// The default suits a store whose records expire by themselves: nothing to do.
    ///
    /// # Errors
    ///
    /// `Unavailable`; what was deleted until then stays deleted.
    async fn delete_expired(&self, now: u64) -> Result<Swept, Error> {
        let _ = now;
        Ok(Swept::default())
    }
}

/// What a [sweep](Store::delete_expired) did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many expired records were deleted.
    pub deleted: u64,
    /// How many are left, since its time was over; they are for the next sweep.
    pub left: u64,
}

impl Swept {
    /// Both sweeps together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { deleted: self.deleted.saturating_add(other.deleted), left: self.left.saturating_add(other.left) }
    }
}

/// The result of an [update](Store::update), a [touch](Store::touch) or a [change of id](Store::change_id).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an update that lost its race has stored nothing"]
pub enum Updated {
    /// The record is stored.
    Done,
    /// Another request stored a version of its own first; nothing was changed. With what a load would have given at that
    /// moment, where the store has it at hand: it saves the next attempt its load.
    Stale(Option<Box<Record>>),
    /// There is no such record any more: it was killed, or has expired. Nothing was stored.
    Gone,
}

pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + 'a>>;

/// A [`Store`] behind a pointer, so that `Sessions` and `Session<T>` need not carry its type.
///
/// The boxes are ours: nobody who writes a store meets them.
pub(crate) trait AnyStore {
    fn load<'a>(&'a self, key: &'a RecordKey) -> Answer<'a, Option<Record>>;
    /// `Done`, as a change of id is.
    fn create<'a>(&'a self, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated>;
    fn update<'a>(&'a self, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated>;
    fn touch<'a>(&'a self, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated>;
    fn delete<'a>(&'a self, key: &'a RecordKey) -> Answer<'a, Option<Successor>>;
    fn change_id<'a>(
        &'a self,
        from: &'a RecordKey,
        retired: &'a Record,
        to: &'a RecordKey,
        moved: &'a mut Record,
    ) -> Answer<'a, Updated>;
    fn update_behind<'a>(&'a self, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated>;
    fn for_request(&self, jar: &Rc<Jar>) -> Option<RequestStore>;
    fn users(&self) -> Option<&dyn AnyUserStore>;
    fn delete_expired(&self, now: u64) -> Answer<'_, Swept>;
}

/// A [`Store`] as [one request](Store::for_request) reaches it.
pub struct RequestStore(Box<dyn AnyStore>);

impl RequestStore {
    /// This store.
    pub fn new(store: impl Store + 'static) -> Self {
        Self(Box::new(store))
    }

    pub(crate) fn inside(&self) -> &dyn AnyStore {
        &*self.0
    }
}

impl fmt::Debug for RequestStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RequestStore")
    }
}

impl<S: Store> AnyStore for S {
    fn load<'a>(&'a self, key: &'a RecordKey) -> Answer<'a, Option<Record>> {
        Box::pin(Store::load(self, key))
    }

    fn create<'a>(&'a self, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated> {
        Box::pin(async move { Store::create(self, key, record).await.map(|()| Updated::Done) })
    }

    fn update<'a>(&'a self, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated> {
        Box::pin(Store::update(self, key, record))
    }

    fn touch<'a>(&'a self, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated> {
        Box::pin(Store::touch(self, key, record))
    }

    fn delete<'a>(&'a self, key: &'a RecordKey) -> Answer<'a, Option<Successor>> {
        Box::pin(Store::delete(self, key))
    }

    fn change_id<'a>(
        &'a self,
        from: &'a RecordKey,
        retired: &'a Record,
        to: &'a RecordKey,
        moved: &'a mut Record,
    ) -> Answer<'a, Updated> {
        Box::pin(Store::change_id(self, from, retired, to, moved))
    }

    fn update_behind<'a>(&'a self, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated> {
        Box::pin(Store::update_behind(self, key, record))
    }

    fn for_request(&self, jar: &Rc<Jar>) -> Option<RequestStore> {
        Store::for_request(self, jar)
    }

    fn users(&self) -> Option<&dyn AnyUserStore> {
        Store::users(self).map(|users| users.0)
    }

    fn delete_expired(&self, now: u64) -> Answer<'_, Swept> {
        Box::pin(Store::delete_expired(self, now))
    }
}
