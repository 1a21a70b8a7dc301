use std::fmt;

use crate::backing::Backing;
use crate::sign_in::{self, SignIn};
use crate::{Error, Incoming, Session, SessionHandle, Sessions, Spared, UserKey};

/// The sessions of one user: to show them, and to end them (ASVS 5.0, 7.4.2, 7.4.3 and 7.5.2). [`Sessions::of`] gives it.
///
/// ```
/// use edge_session::{Incoming, MemoryStore, Opened, SessionParameters, Sessions, Signer, TestPlatform};
///
/// # pollster::block_on(async {
/// let signer = Signer::from_secret("0123456789abcdef0123456789abcdef")?;
/// let sessions = Sessions::new(MemoryStore::default(), TestPlatform::at(0), signer, SessionParameters::default())?;
/// for browser in ["Firefox on Linux", "Safari on iPhone"] {
///     let Opened::Session(mut session) = sessions.open::<()>(&Incoming::new()).await? else { return Ok(()) };
///     session.sign_in("ada")?;
///     session.set_label(browser);
///     sessions.commit(&mut session).await?;
/// }
/// let ada = sessions.of("ada");
/// let listed = ada.list().await?;
/// assert_eq!(listed.len(), 2);
/// let lost = listed.iter().find(|session| session.label.as_deref() == Some("Safari on iPhone")).unwrap();
/// assert!(ada.end(&lost.handle).await?);
/// assert_eq!(ada.list().await?.len(), 1);
/// assert_eq!(ada.end_all().await?, 1);
/// # Ok::<(), edge_session::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct UserSessions {
    sessions: Sessions,
    user: String,
    key: UserKey,
}

/// One of a user's sessions, as it is listed. All times are whole seconds since 1970 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UserSession {
    /// What it is called: no secret. It is this request's own session if it is [its handle](Session::handle).
    pub handle: SessionHandle,
    /// What the application [called](Session::set_label) it.
    pub label: Option<String>,
    /// When it began, perhaps before its user was signed in.
    pub began_at: u64,
    /// When its user was signed in last.
    pub authenticated_at: u64,
    /// When its use was last noted, which is at most once per `touch_after`.
    pub used_at: u64,
    /// When it ends, if it is not used again.
    pub ends_at: u64,
}

impl Sessions {
    /// The sessions of this user, who was [signed in](Session::sign_in) by this name. It needs the feature `users`.
    ///
    /// Sessions of several kinds in one store (a second cookie name) share their users: give these names that tell them apart, as
    /// `clerk:7` and `customer:7`. On KV, which cannot find them, each call fails with `Misconfigured`; keep a
    /// part of the credential's hash in the session instead, and compare it at each load
    /// (docs/cookbook.md, "Devices").
    #[must_use]
    pub fn of(&self, user: &str) -> UserSessions {
        UserSessions { sessions: self.clone(), user: user.to_owned(), key: UserKey::of(user) }
    }
}

impl UserSessions {
    /// Those that are alive, the last one used first.
    ///
    /// # Errors
    ///
    /// `Misconfigured` on a store that cannot list them, `Unavailable` when the store failed. A user without a session is *not*
    /// an error.
    pub async fn list(&self) -> Result<Vec<UserSession>, Error> {
        let mut listed = self.noted(self.listed().await)?;
        listed.sort_unstable_by(|one, other| (other.used_at, &other.handle).cmp(&(one.used_at, &one.handle)));
        Ok(listed)
    }

    /// Ends one of them, whatever is done with it at the moment, also under a new id. False if this user has none of this handle:
    /// another user's is not found. (Also where the store had to be asked twice, for its first answer was lost, and ended it at
    /// the first.)
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub async fn end(&self, handle: &SessionHandle) -> Result<bool, Error> {
        self.noted(self.backing().end(&self.key, handle).await)
    }

    /// Ends all but this request's own, also those that are about to be signed in by requests that began before: for a change
    /// of password. This one stays also if another tab gives it a new id meanwhile. Gives how many there were.
    ///
    /// One that is not signed in yet may be, after this call, in the same request: for a password that was forgotten.
    ///
    /// Store the new password before this call: whoever asks for the old one after it would be let in.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), and `Ended` if this request's own session was ended since the request began: then the others stay.
    /// (On objects, not if it was signed out at the same moment by its own visitor.) After `Unavailable` some may have ended; do it
    /// again. Where an answer was lost on the way and the store was asked again, those that the first call has ended are not counted, and a
    /// sign-in that was stored twice counts twice.
    pub async fn end_others<T>(&self, session: &Session<T>) -> Result<u64, Error> {
        let spared = self.noted(session.spared_for(&self.user))?;
        self.noted(self.backing().end_all(&self.key, &spared).await)
    }

    /// Ends all, also this request's own, and those that are about to be signed in by requests that began before. Gives how many
    /// there were.
    ///
    /// # Errors
    ///
    /// As [`end_others`](Self::end_others).
    pub async fn end_all(&self) -> Result<u64, Error> {
        self.noted(self.backing().end_all(&self.key, &Spared::None).await)
    }

    /// Notes an error for the request whose handler it is given to: if that returns it, it is answered as what it is.
    fn noted<R>(&self, result: Result<R, Error>) -> Result<R, Error> {
        result.map_err(|error| {
            let error = error.traced();
            if let Some(arrival) = self.sessions.nesting().current() {
                arrival.refused.borrow_mut().push(error.clone());
            }
            error
        })
    }

    async fn listed(&self) -> Result<Vec<UserSession>, Error> {
        let backing = self.backing();
        let now = backing.platform.now();
        let mut listed: Vec<(UserSession, u64)> = Vec::new();
        for (_, record) in backing.list(&self.key).await? {
            let Some(SignIn { user, at, handle, .. }) = SignIn::of(&record) else { continue };
            if user != self.user || record.successor.is_some() || backing.parameters.has_expired(&record, now) {
                continue;
            }
            let session = UserSession {
                handle,
                label: sign_in::label_of(&record),
                began_at: record.created_at,
                authenticated_at: at,
                used_at: record.touched_at,
                ends_at: backing.parameters.ends_at(&record),
            };
            // One that was stored twice, since its answer was lost, changes and is used by the id that its visitor was told.
            let session = (session, record.version);
            let news = |(session, version): &(UserSession, u64)| (*version, session.used_at);
            match listed.iter_mut().find(|(other, _)| other.handle == session.0.handle) {
                Some(other) if news(other) < news(&session) => *other = session,
                Some(_) => {}
                None => listed.push(session),
            }
        }
        Ok(listed.into_iter().map(|(session, _)| session).collect())
    }

    /// For a call of its own: nobody's request.
    fn backing(&self) -> std::rc::Rc<Backing> {
        self.sessions.backing(&Incoming::new())
    }
}

impl fmt::Debug for UserSessions {
    /// Does not show who it is.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("UserSessions").field("key", &self.key).finish_non_exhaustive()
    }
}
