use std::fmt;

use crate::store::Answer;
use crate::{Error, Record, RecordKey, SessionHandle, Store, Updated, UserKey};

/// What a store can do beside, for sessions that belong to users: find those of one, and end them all for good.
///
/// A store that can, as D1 and objects, gives itself in [`Store::users`]; one that cannot, as KV, does not. The contract:
///
/// - A record is its [owner](UserKey::of_record)'s from the write that notes it in the extensions to its end, whichever
///   release writes it meanwhile, and under each new id. A retired record is nobody's.
/// - `end_all` is final at once: whatever was stored before it is absent after it, and what comes from a request that began
///   before it stores nothing, be it an update, a change of id, or a sign-in with its [`Claim`]. One session may be spared.
///
/// `store::conformance::check_users` is the contract as a test.
#[expect(async_fn_in_trait, reason = "no Send bound: a Worker has one thread")]
pub trait UserStore: Store {
    /// [`create`](Store::create) of a session that is a user's from the first.
    ///
    /// `Gone`, and nothing is stored, if the user's sessions were ended since the request began.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Store::create).
    async fn create_for(&self, claim: &Claim, key: &RecordKey, record: &Record) -> Result<Updated, Error>;

    /// [`change_id`](Store::change_id) of a session that becomes a user's by it.
    ///
    /// `Gone` also if the user's sessions were ended since the request began: then nothing has changed.
    ///
    /// # Errors
    ///
    /// Those of [`change_id`](Store::change_id).
    async fn change_id_for(
        &self,
        claim: &Claim,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error>;

    /// The user's records, in whatever order, and perhaps some that have expired. A session may be there by several, all of its handle,
    /// where a sign-in's answer was lost and it was stored again: it is one.
    ///
    /// # Errors
    ///
    /// `Unavailable`. A record that cannot be read is left out, and is no error.
    async fn list(&self, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error>;

    /// Ends the user's session of this handle, whatever key it has by now. False if the user has none; another user's is left
    /// alone, also if it was this user's a moment ago.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn end(&self, user: &UserKey, handle: &SessionHandle) -> Result<bool, Error>;

    /// Ends all of the user's sessions but the one that is `spared`, which asks for it, and from now on refuses what began
    /// before `now`, in milliseconds since 1970 UTC. Gives how many there were, of which one that was stored again may count twice.
    ///
    /// # Errors
    ///
    /// - `Ended`, and nothing has changed, if the one that is spared has itself ended, or is refused by an earlier end of all.
    /// - `Unavailable`: then some may have ended. To do it again ends the rest.
    async fn end_all(&self, user: &UserKey, now: u64, spared: &Spared) -> Result<u64, Error>;

    /// Ends the oldest of the user's sessions that are alive at `now`, in milliseconds since 1970 UTC, so that no more than `most`
    /// are left. Of the same second the one of this claim is the newest; it may be the oldest, and end, where others were signed in
    /// after it and stored before it. Gives how many it ended.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn end_oldest(&self, claim: &Claim, most: u64, now: u64) -> Result<u64, Error>;

    /// How many sessions a user may have at the most, where the store has a limit.
    fn max_sessions(&self) -> Option<u64> {
        None
    }
}

/// What a request claims that signs a user in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Claim {
    /// For whom.
    pub user: UserKey,
    /// What the session is called in the user's list.
    pub handle: SessionHandle,
    /// When the request began, in milliseconds since 1970 UTC: it may have asked for a password that is another by now.
    pub began_at: u64,
    /// The keys under which the session was to be stored before, by attempts that had no answer: nobody was told them. A store that keeps
    /// a list of a user's sessions takes them off.
    pub lost: Vec<RecordKey>,
}

impl Claim {
    /// For tests of stores of your own.
    #[must_use]
    pub fn new(user: UserKey, handle: SessionHandle, began_at: u64) -> Self {
        Self { user, handle, began_at, lost: Vec::new() }
    }
}

/// The session that an [end of all](UserStore::end_all) spares: the one that asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Spared {
    /// None.
    None,
    /// One of the user's, and the key that it had when the request came: if it has ended since, it ends no others.
    Session(Claim, RecordKey),
    /// One that the request that asks is about to make the user's.
    SigningIn(Claim),
}

impl Spared {
    /// What it claims.
    #[must_use]
    pub fn claim(&self) -> Option<&Claim> {
        match self {
            Self::None => None,
            Self::Session(claim, _) | Self::SigningIn(claim) => Some(claim),
        }
    }
}

/// That a user's sessions were ended: when, and which one was spared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revocation {
    /// In milliseconds since 1970 UTC.
    pub(crate) at: u64,
    pub(crate) spared: Option<SessionHandle>,
}

impl Revocation {
    /// The next one, which spares this, or none if it is refused itself.
    pub(crate) fn then(before: Option<&Self>, now: u64, spared: Option<&Claim>) -> Option<Self> {
        if before.zip(spared).is_some_and(|(before, spared)| before.refuses(spared)) {
            return None;
        }
        let at = before.map_or(now, |before| before.at.max(now));
        Some(Self { at, spared: spared.map(|claim| claim.handle.clone()) })
    }

    /// Whether it refuses this.
    pub(crate) fn refuses(&self, claim: &Claim) -> bool {
        claim.began_at <= self.at && self.spared.as_ref() != Some(&claim.handle)
    }
}

/// A [`UserStore`], as [`Store::users`] gives it.
pub struct Users<'a>(pub(crate) &'a dyn AnyUserStore);

impl<'a> Users<'a> {
    /// This store.
    pub fn of(store: &'a impl UserStore) -> Self {
        Self(store)
    }
}

impl fmt::Debug for Users<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Users")
    }
}

/// A [`UserStore`] behind a pointer.
#[cfg_attr(not(feature = "users"), expect(dead_code, reason = "without it nobody lists and ends"))]
pub(crate) trait AnyUserStore {
    fn create_for<'a>(&'a self, claim: &'a Claim, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated>;
    fn change_id_for<'a>(
        &'a self,
        claim: &'a Claim,
        from: &'a RecordKey,
        retired: &'a Record,
        to: &'a RecordKey,
        moved: &'a mut Record,
    ) -> Answer<'a, Updated>;
    fn list<'a>(&'a self, user: &'a UserKey) -> Answer<'a, Vec<(RecordKey, Record)>>;
    fn end<'a>(&'a self, user: &'a UserKey, handle: &'a SessionHandle) -> Answer<'a, bool>;
    fn end_all<'a>(&'a self, user: &'a UserKey, now: u64, spared: &'a Spared) -> Answer<'a, u64>;
    fn end_oldest<'a>(&'a self, claim: &'a Claim, most: u64, now: u64) -> Answer<'a, u64>;
    fn max_sessions(&self) -> Option<u64>;
}

impl<S: UserStore> AnyUserStore for S {
    fn create_for<'a>(&'a self, claim: &'a Claim, key: &'a RecordKey, record: &'a Record) -> Answer<'a, Updated> {
        Box::pin(UserStore::create_for(self, claim, key, record))
    }

    fn change_id_for<'a>(
        &'a self,
        claim: &'a Claim,
        from: &'a RecordKey,
        retired: &'a Record,
        to: &'a RecordKey,
        moved: &'a mut Record,
    ) -> Answer<'a, Updated> {
        Box::pin(UserStore::change_id_for(self, claim, from, retired, to, moved))
    }

    fn list<'a>(&'a self, user: &'a UserKey) -> Answer<'a, Vec<(RecordKey, Record)>> {
        Box::pin(UserStore::list(self, user))
    }

    fn end<'a>(&'a self, user: &'a UserKey, handle: &'a SessionHandle) -> Answer<'a, bool> {
        Box::pin(UserStore::end(self, user, handle))
    }

    fn end_all<'a>(&'a self, user: &'a UserKey, now: u64, spared: &'a Spared) -> Answer<'a, u64> {
        Box::pin(UserStore::end_all(self, user, now, spared))
    }

    fn end_oldest<'a>(&'a self, claim: &'a Claim, most: u64, now: u64) -> Answer<'a, u64> {
        Box::pin(UserStore::end_oldest(self, claim, most, now))
    }

    fn max_sessions(&self) -> Option<u64> {
        UserStore::max_sessions(self)
    }
}
