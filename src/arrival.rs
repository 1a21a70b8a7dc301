use std::cell::RefCell;
use std::rc::Rc;

use crate::connection::Connection;
use crate::cookie::{self, SignedId};
use crate::cross_origin;
use crate::{Error, Jar, SessionParameters, Signer};

/// What a session needs to know of a request.
///
/// ```
/// use edge_session::Incoming;
///
/// let incoming = Incoming::new().cookie("webpy_session_id=…").url("https://example.com/count");
/// assert_eq!(incoming.ip, None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Incoming<'a> {
    /// The `Cookie` header.
    pub cookie: Option<&'a str>,
    /// The visitor's address, from a source that visitors cannot write to: `CF-Connecting-IP`.
    pub ip: Option<&'a str>,
    /// The request's URL, as the runtime wrote it: on plain http to a loopback address the cookie goes without `Secure`.
    /// A request without one counts as https.
    pub url: Option<&'a str>,
    /// Whether there will be a reply that sets the cookies which the commit gives. A store may then finish a write behind
    /// the reply ([`Store::update_behind`](crate::Store::update_behind)); otherwise each commit waits for it.
    pub has_reply: bool,
    /// The request's method. With one, a request that another site made a browser send is refused
    /// ([`CrossOrigin`](crate::ErrorKind::CrossOrigin)), unless the method is `GET`, `HEAD` or `OPTIONS`.
    pub method: Option<&'a str>,
    /// Whether it opens a WebSocket: then it is judged whatever its method.
    pub opens_socket: bool,
    /// The `Sec-Fetch-Site` header.
    pub fetch_site: Option<&'a str>,
    /// The `Origin` header.
    pub origin: Option<&'a str>,
}

impl<'a> Incoming<'a> {
    /// Nothing known: a visitor without a cookie.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this `Cookie` header, if there is one.
    #[must_use]
    pub fn cookie(self, cookie: impl Into<Option<&'a str>>) -> Self {
        Self { cookie: cookie.into(), ..self }
    }

    /// From this address, if it is known.
    #[must_use]
    pub fn ip(self, ip: impl Into<Option<&'a str>>) -> Self {
        Self { ip: ip.into(), ..self }
    }

    /// For this URL, if it is known.
    #[must_use]
    pub fn url(self, url: impl Into<Option<&'a str>>) -> Self {
        Self { url: url.into(), ..self }
    }

    /// By this method, if it may not be made by other sites.
    #[must_use]
    pub fn method(self, method: impl Into<Option<&'a str>>) -> Self {
        Self { method: method.into(), ..self }
    }

    /// Opens a WebSocket, or not.
    #[must_use]
    pub fn opens_socket(self, opens_socket: bool) -> Self {
        Self { opens_socket, ..self }
    }

    /// With this `Sec-Fetch-Site` header, if there is one.
    #[must_use]
    pub fn fetch_site(self, fetch_site: impl Into<Option<&'a str>>) -> Self {
        Self { fetch_site: fetch_site.into(), ..self }
    }

    /// With this `Origin` header, if there is one.
    #[must_use]
    pub fn origin(self, origin: impl Into<Option<&'a str>>) -> Self {
        Self { origin: origin.into(), ..self }
    }

    /// Answered by a reply that sets the cookies which the commit gives. (A note of use renews a cookie that ends: without a reply it
    /// is made later, for one that can to come first.)
    #[must_use]
    pub fn with_reply(self) -> Self {
        Self { has_reply: true, ..self }
    }
}

/// A request that has come in, with its cookies verified: what a session keeps of it until its commit.
pub(crate) struct Arrival {
    /// The ids that its cookies hold, signed by us, in the header's order.
    pub(crate) ids: Vec<SignedId>,
    /// Whether it has a cookie of our name, signed or not.
    pub(crate) has_cookie: bool,
    /// Whether the visitor's browser was told of an expiry a moment ago, and has a dead cookie all the same.
    pub(crate) was_told: bool,
    /// The origin that made the visitor's browser send it, if that is another site's.
    pub(crate) elsewhere: Option<String>,
    /// The errors that its handler was given of calls on other sessions than its own.
    pub(crate) refused: RefCell<Vec<Error>>,
    /// When it came, in milliseconds since 1970 UTC.
    pub(crate) began_at: u64,
    /// Whether its reply is known to set the cookies that its commit gives.
    pub(crate) has_reply: bool,
    pub(crate) ip: Option<String>,
    url: Option<String>,
    /// What its browser keeps for the store.
    pub(crate) jar: Rc<Jar>,
}

impl Arrival {
    pub(crate) fn of(
        incoming: &Incoming<'_>,
        parameters: &SessionParameters,
        signer: &Signer,
        jar: Rc<Jar>,
        began_at: u64,
    ) -> Self {
        let name = &parameters.cookie_name;
        let presented = incoming.cookie.map(|header| cookie::read(header, name, signer));
        let has_cookie = presented.as_ref().is_some_and(|presented| *presented != cookie::Presented::Nothing);
        Self {
            ids: presented.map(cookie::Presented::into_ids).unwrap_or_default(),
            has_cookie,
            was_told: !(parameters.ignore_expiry && parameters.ignore_change_ip)
                && incoming.cookie.is_some_and(|header| cookie::was_told(header, name)),
            elsewhere: cross_origin::is_from_elsewhere(incoming, &parameters.trusted_origins)
                .then(|| incoming.origin.unwrap_or("an origin that the browser does not name").to_owned()),
            refused: RefCell::default(),
            began_at,
            has_reply: incoming.has_reply,
            ip: incoming.ip.map(str::to_owned),
            url: incoming.url.map(str::to_owned),
            jar,
        }
    }

    pub(crate) fn connection(&self) -> Connection<'_> {
        Connection::of(self.url.as_deref(), self.ip.as_deref())
    }

    /// Whether it is the same request, or one of the same visitor: by its ids, or where it brings none, its URL.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.ids.iter().any(|id| other.ids.contains(id))
            || self.ids.is_empty() && other.ids.is_empty() && self.url.is_some() && self.url == other.url
    }
}
