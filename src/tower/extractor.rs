use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use axum_core::extract::{FromRequestParts, OptionalFromRequestParts, Request};
use axum_core::response::{IntoResponse, Response};
use http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::headers::{expired, rejection, response};
use super::send::{SendFuture, SendWrapper};
use super::slot::{Slot, Taken};
use super::stack::{self, Layered};
use crate::cross_origin::Senders;
use crate::{Error, Record, SessionHandle};

/// A visitor's session, as an argument of a handler below a [`SessionLayer`](super::SessionLayer) for the same `T`.
///
/// It stands for its data, as [`edge_session::Session`](crate::Session) does. It is loaded when a handler or a middleware
/// first asks for it; a route that does not costs no store call. It is committed when the handler has answered, and before
/// the response leaves.
///
/// `Option<Session<T>>` is `None` for a visitor without a live session, and creates none. It tells nobody of an expiry: the
/// next handler that takes a `Session<T>` does.
///
/// It does not outlive its handler: a response whose body still holds it, as a stream may, is a 500 and a log line.
///
/// # Rejections
///
/// 401 where the session has expired and the parameters ask to say so, 403 where a page of another site sent what is not for
/// looking ([`FromAnywhere`] lets it), 503 where the store failed, and 500 where there is
/// no layer for `T`, or somebody else holds the session. The layer makes the replies.
pub struct Session<T> {
    slot: SendWrapper<Rc<Slot<T>>>,
    /// There until it is dropped.
    session: Option<SendWrapper<crate::Session<T>>>,
}

/// What the layer leaves in a request for its handlers.
pub(super) struct Handle<T> {
    slot: SendWrapper<Rc<Slot<T>>>,
    /// The run of the handler that the request is for.
    run: u32,
}

impl<T: 'static> Handle<T> {
    pub(super) fn leave_in(request: &mut Request, slot: &Rc<Slot<T>>) {
        request.extensions_mut().insert(Self { slot: SendWrapper(Rc::clone(slot)), run: slot.neighbours().run() });
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Self { slot: self.slot.clone(), run: self.run }
    }
}

impl<T> Session<T> {
    fn inside(&self) -> &crate::Session<T> {
        match &self.session {
            Some(session) => session,
            None => never(),
        }
    }

    fn inside_mut(&mut self) -> &mut crate::Session<T> {
        match &mut self.session {
            Some(session) => session,
            None => never(),
        }
    }

    /// [`Session::kill`](crate::Session::kill): ends the session.
    pub fn kill(&mut self) {
        self.inside_mut().kill();
    }

    /// [`Session::cycle_id`](crate::Session::cycle_id): gives the session a new id, for every login.
    pub fn cycle_id(&mut self) {
        self.inside_mut().cycle_id();
    }

    /// [`Session::sign_out`](crate::Session::sign_out): ends the session of a user.
    pub fn sign_out(&mut self) {
        self.inside_mut().sign_out();
    }

    /// [`Session::user`](crate::Session::user): whose session it is.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.inside().user()
    }

    /// [`Session::authenticated_at`](crate::Session::authenticated_at): when its user was signed in, in seconds since 1970 UTC.
    #[must_use]
    pub fn authenticated_at(&self) -> Option<u64> {
        self.inside().authenticated_at()
    }

    /// [`Session::handle`](crate::Session::handle): what it is called where it is listed.
    #[must_use]
    pub fn handle(&self) -> Option<&SessionHandle> {
        self.inside().handle()
    }

    /// [`Session::set_label`](crate::Session::set_label): what its user knows it by.
    pub fn set_label(&mut self, label: impl Into<String>) {
        self.inside_mut().set_label(label);
    }

    /// [`Session::is_new`](crate::Session::is_new): whether this visitor has no stored session.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.inside().is_new()
    }

    /// [`Session::record`](crate::Session::record): what is stored of this session.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.inside().record()
    }
}

impl<T: Default + Serialize + DeserializeOwned + Send> Session<T> {
    /// [`Session::sign_in`](crate::Session::sign_in): gives the session a new id, and makes it this user's.
    ///
    /// # Errors
    ///
    /// Those of [`Session::sign_in`](crate::Session::sign_in), to be answered as those of [`save`](Self::save).
    pub fn sign_in(&mut self, user: &str) -> Result<(), Error> {
        self.inside_mut().sign_in(user)
    }

    /// [`Session::sign_in_for`](crate::Session::sign_in_for): for so long, used or not.
    ///
    /// # Errors
    ///
    /// As [`sign_in`](Self::sign_in).
    pub fn sign_in_for(&mut self, user: &str, lifetime: Duration) -> Result<(), Error> {
        self.inside_mut().sign_in_for(user, lifetime)
    }
}

impl<T: Serialize + DeserializeOwned + Send> Session<T> {
    /// [`Session::save`](crate::Session::save): commits at once, for handlers with effects outside the session.
    ///
    /// # Errors
    ///
    /// Those of [`Session::save`](crate::Session::save). Answer with each as it is: it is a response, of which the layer
    /// knows what to do. A lost race then runs the handler again.
    pub fn save(&mut self) -> impl Future<Output = Result<(), Error>> + Send + '_ {
        SendFuture::new(async move {
            let slot = self.slot.clone();
            slot.written(self.inside_mut(), async |session| session.save().await).await
        })
    }

    /// [`Session::update`](crate::Session::update): applies a small change and commits it at once, for handlers that must
    /// run once.
    ///
    /// # Errors
    ///
    /// Those of [`Session::update`](crate::Session::update), to be answered as those of [`save`](Self::save).
    pub fn update<R: Send>(
        &mut self,
        change: impl FnMut(&mut T) -> R + Send,
    ) -> impl Future<Output = Result<R, Error>> + Send {
        SendFuture::new(async move {
            let slot = self.slot.clone();
            slot.written(self.inside_mut(), async |session| session.update(change).await).await
        })
    }
}

/// For what asks for the session itself, as [`UserSessions::end_others`](crate::UserSessions::end_others).
impl<T> AsRef<crate::Session<T>> for Session<T> {
    fn as_ref(&self) -> &crate::Session<T> {
        self.inside()
    }
}

impl<T> Deref for Session<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inside()
    }
}

impl<T: Serialize> DerefMut for Session<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inside_mut()
    }
}

/// Gives the session back, for the layer to commit.
impl<T> Drop for Session<T> {
    fn drop(&mut self) {
        if let Some(SendWrapper(session)) = self.session.take() {
            self.slot.put(session);
        }
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inside().fmt(formatter)
    }
}

/// Where there is no layer nobody else logs it.
#[cfg(target_family = "wasm")]
fn log_unheard(error: &Error) {
    worker::console_error!("edge-session: {}: {error}", error.kind().as_str());
}

/// Outside of a Worker there is no log but a platform's, which a layer knows.
#[cfg(not(target_family = "wasm"))]
const fn log_unheard(_error: &Error) {}

/// The session is there from its making to its drop.
#[expect(clippy::unreachable, reason = "only the drop takes it")]
fn never() -> ! {
    unreachable!("a session that is dropped is not used")
}

impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Session<T> {
    async fn extracted(parts: &mut Parts, senders: Senders) -> Result<Taken<Self>, Error> {
        let Some(Handle { slot, run }) = parts.extensions.get::<Handle<T>>().cloned() else {
            let error = Error::misconfigured(format_args!(
                "a handler asks for a Session<{name}>, and there is no SessionLayer::<{name}> around it",
                name = std::any::type_name::<T>()
            ));
            let error = error.traced();
            match stack::innermost(parts) {
                Some(layer) => layer.neighbours().note_rejected(&error),
                None => log_unheard(&error),
            }
            return Err(error);
        };
        let taken = SendFuture::new(slot.take(run, senders)).await.map_err(|error| {
            let error = error.traced();
            slot.neighbours().note_rejected(&error);
            error
        });
        Ok(match taken? {
            Taken::Session(session) => Taken::Session(Self { slot: slot.clone(), session: Some(SendWrapper(session)) }),
            Taken::Expired { message } => Taken::Expired { message },
        })
    }
}

impl<T: Default + Serialize + DeserializeOwned + Send + 'static> Session<T> {
    async fn or_rejected(parts: &mut Parts, senders: Senders) -> Result<Self, Response> {
        match Self::extracted(parts, senders).await {
            Ok(Taken::Session(session)) => Ok(session),
            Ok(Taken::Expired { message }) => {
                if let Some(Handle { slot, .. }) = parts.extensions.get::<Handle<T>>() {
                    slot.tell();
                }
                Err(expired::<T>(&message))
            }
            Err(error) => Err(rejection::<T>(&error)),
        }
    }
}

impl<S, T> FromRequestParts<S> for Session<T>
where
    S: Sync,
    T: Default + Serialize + DeserializeOwned + Send + 'static,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        Self::or_rejected(parts, Senders::ThisSite).await
    }
}

/// A [`Session`] for a route that pages of other sites may send to, as the return from a payment or a login elsewhere (OAuth's
/// `form_post`, SAML): the handler has to see for itself who sent what.
///
/// ```
/// use edge_session::tower::{FromAnywhere, Session};
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Visit {
///     paid: bool,
/// }
///
/// async fn returned(FromAnywhere(mut session): FromAnywhere<Session<Visit>>) {
///     session.paid = true;
/// }
/// ```
#[derive(Debug)]
pub struct FromAnywhere<S>(pub S);

impl<S, T> FromRequestParts<S> for FromAnywhere<Session<T>>
where
    S: Sync,
    T: Default + Serialize + DeserializeOwned + Send + 'static,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Response> {
        Session::or_rejected(parts, Senders::AnySite).await.map(Self)
    }
}

impl<S, T> OptionalFromRequestParts<S> for Session<T>
where
    S: Sync,
    T: Default + Serialize + DeserializeOwned + Send + 'static,
{
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Option<Self>, Response> {
        match Self::extracted(parts, Senders::ThisSite).await {
            Ok(Taken::Session(session)) => Ok(Some(session).filter(|session| session.record().is_some())),
            Ok(Taken::Expired { .. }) => Ok(None),
            Err(error) => Err(rejection::<T>(&error)),
        }
    }
}

/// So that `session.save().await?` works in a handler: the error is the response, of which the layer knows what to do.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        response(&self)
    }
}
