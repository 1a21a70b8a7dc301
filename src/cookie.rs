//! The session's cookie: found among foreign ones, verified, set and expired.
//!
//! Its value is `<id>.<mac>`: 32 hexadecimal digits of session id, a dot, and 64 of signature.

use crate::connection::Connection;
use crate::jar::Given;
use crate::{RecordKey, SameSite, SessionId, SessionParameters, Signer};

/// What a request's cookies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// No cookie of our name.
    Nothing,
    /// Cookies of our name, and not one that we signed: a forgery, or a key that is gone.
    Forged,
    /// Cookies that we signed: one, or up to three in the header's order.
    Signed(Vec<SignedId>),
}

/// A session id from a cookie that we signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedId {
    /// The id.
    pub id: SessionId,
    /// What its session is stored under.
    pub key: RecordKey,
    /// Whether the current key signed it, rather than one that is being retired.
    pub is_current: bool,
}

/// How many signed cookies of our name are looked at: each may cost a store call.
const MOST: usize = 3;

impl Presented {
    /// The ids that we signed, each once, and nothing else of it.
    pub(crate) fn into_ids(self) -> Vec<SignedId> {
        match self {
            Self::Signed(ids) => ids,
            Self::Nothing | Self::Forged => Vec::new(),
        }
    }

    /// The ids that we signed, each once.
    #[must_use]
    pub fn ids(&self) -> &[SignedId] {
        match self {
            Self::Signed(ids) => ids,
            Self::Nothing | Self::Forged => &[],
        }
    }
}

/// Reads a `Cookie` header (RFC 6265, section 5.4).
///
/// Of several cookies of our name those that verify count: a neighbouring site may have set the others, and nobody can
/// rely on their order (RFC 6265, section 4.2.2). If several verify, an earlier release set them under another
/// `cookie_path` or `cookie_domain`.
///
/// ```
/// use edge_session::{Signer, cookie};
///
/// let signer = Signer::from_secret("0123456789abcdef0123456789abcdef")?;
/// let ours = signer.sign("sid", "000102030405060708090a0b0c0d0e0f");
/// let header = format!("prefs={{\"theme\":\"dark\"}}; sid=junk; sid={ours}");
/// assert_eq!(cookie::read(&header, "sid", &signer).ids().len(), 1);
/// assert_eq!(cookie::read("sid=junk", "sid", &signer), cookie::Presented::Forged);
/// assert_eq!(cookie::read("SID=junk", "sid", &signer), cookie::Presented::Nothing);
/// # Ok::<(), edge_session::Error>(())
/// ```
#[must_use]
pub fn read(header: &str, name: &str, signer: &Signer) -> Presented {
    let mut presented = Presented::Nothing;
    let mut ids: Vec<SignedId> = Vec::new();
    for value in values(header, name) {
        presented = Presented::Forged;
        let Some((text, is_current)) = signer.verify_by(name, value) else { continue };
        let Some(id) = SessionId::from_verified(text) else { continue };
        if let Some(known) = ids.iter_mut().find(|known| known.id == id) {
            known.is_current |= is_current;
        } else if ids.len() < MOST {
            ids.push(SignedId { key: id.record_key(), id, is_current });
        }
    }
    if ids.is_empty() { presented } else { Presented::Signed(ids) }
}

/// What says that this browser was told of an expiry: a cookie of another name, for a minute. While it is there, a
/// dead session's cookie that we cannot take away, since it was set for another path or domain, does not lock its
/// visitor out.
pub(crate) fn was_told(header: &str, name: &str) -> bool {
    values(header, &told_name(name)).next().is_some()
}

fn told_name(name: &str) -> String {
    format!("{name}.told")
}

/// For how many seconds it counts.
const TOLD_FOR: u32 = 60;

/// A `Set-Cookie` header that notes it.
pub(crate) fn told(parameters: &SessionParameters, connection: &Connection<'_>) -> String {
    let name = told_name(&parameters.cookie_name);
    format!("{name}=1; Max-Age={TOLD_FOR}{}", attributes(parameters, connection))
}

/// The values of the cookies called `name`, in the header's order.
///
/// Nothing in a foreign cookie can hide ours: pairs end at `;`, a name ends at the first `=`, and
/// quotes, braces and blanks inside a value are that value's own (web.py stopped at JSON in a
/// neighbour). Only the space and the tab are taken off: other "blanks" would let `\u{2000}__Host-sid`
/// pass for `__Host-sid`, whose prefix the browser did not check. Names are compared exactly.
fn values<'a>(header: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    pairs(header).filter_map(move |(found, value)| (found == name).then_some(value))
}

/// All names and values, in the header's order.
pub(crate) fn pairs(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((without_blanks(name), unquoted(without_blanks(value))))
    })
}

const BLANK: [char; 2] = [' ', '\t'];

fn without_blanks(mut text: &str) -> &str {
    while let Some(rest) = text.strip_prefix(BLANK).or_else(|| text.strip_suffix(BLANK)) {
        text = rest;
    }
    text
}

/// A value may stand in one pair of double quotes (RFC 6265, section 4.1.1).
fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// A `Set-Cookie` header that gives the visitor `id`. `lifetime` is what is left of the session, in seconds.
pub(crate) fn set(
    parameters: &SessionParameters,
    signer: &Signer,
    id: &SessionId,
    lifetime: Option<u64>,
    connection: &Connection<'_>,
) -> String {
    let mut header = format!("{}={}", parameters.cookie_name, signer.sign(&parameters.cookie_name, &id.expose()));
    if let Some(seconds) = lifetime {
        header += &format!("; Max-Age={seconds}");
    }
    header + &attributes(parameters, connection)
}

/// A `Set-Cookie` header that takes the cookie away. A browser does that only when name, domain and
/// path are those that it was set with.
pub(crate) fn expire(parameters: &SessionParameters, connection: &Connection<'_>) -> String {
    let name = &parameters.cookie_name;
    let gone = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    format!("{name}=; {gone}{}", attributes(parameters, connection))
}

/// A `Set-Cookie` header for what a store gives the browser, or takes away from it.
pub(crate) fn given(parameters: &SessionParameters, given: &Given, connection: &Connection<'_>) -> String {
    let Given { name, value, max_age } = given;
    format!("{name}={value}; Max-Age={max_age}{}", attributes(parameters, connection))
}

fn attributes(parameters: &SessionParameters, connection: &Connection<'_>) -> String {
    let has_domain = !matches!(connection, Connection::Loopback | Connection::SecureLoopback);
    let mut text = String::new();
    // A loopback host is in no domain, and a browser would drop the cookie.
    if let Some(domain) = parameters.cookie_domain.as_deref().filter(|_| has_domain) {
        text += "; Domain=";
        text += domain;
    }
    if parameters.httponly {
        text += "; HttpOnly";
    }
    text += "; Path=";
    text += &parameters.cookie_path;
    if parameters.secure && !(*connection == Connection::Loopback && may_be_insecure(parameters)) {
        text += "; Secure";
    }
    text += "; SameSite=";
    text += parameters.samesite.as_str();
    text
}

/// Over plain http on loopback, Safari and Python's clients drop a `Secure` cookie, so there it goes
/// without, unless every browser would refuse it without.
fn may_be_insecure(parameters: &SessionParameters) -> bool {
    parameters.samesite != SameSite::None
        && !["__Host-", "__Secure-", "__Http-"].iter().any(|prefix| parameters.has_prefix(prefix))
}

/// Why the visitor's client will drop a cookie that these parameters make, and how to mend it; `None` if it will not.
pub(crate) fn objection(parameters: &SessionParameters, connection: &Connection<'_>) -> Option<String> {
    if let Connection::Plain { host } = connection
        && parameters.secure
    {
        return Some(format!(
            "the cookie is `Secure`, and this request came by plain http to {host}: use https, or http://localhost in \
             development"
        ));
    }
    let (Connection::Plain { host } | Connection::Secure { host: Some(host) }) = connection else { return None };
    let domain = parameters.cookie_domain.as_deref()?;
    let domain = domain.strip_prefix('.').unwrap_or(domain).to_ascii_lowercase();
    let covers = host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    (!covers).then(|| {
        format!("`cookie_domain` is {domain}, and this request came to {host}, which is not in it: leave it out, or use a host in it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "000102030405060708090a0b0c0d0e0f";
    const MAC: &str = "14bb82465bfab2395ec575398f19f338511ba2e23c1094f545b56815734cfe92";

    fn signer() -> Signer {
        Signer::from_secret("first-key-0123456789abcdef012345").unwrap()
    }

    fn parameters(json: &str) -> SessionParameters {
        SessionParameters::from_json(json).unwrap()
    }

    const SECURE: Connection<'_> = Connection::Secure { host: None };

    fn set_with(json: &str, connection: &Connection<'_>) -> String {
        let id = SessionId::from_verified(ID).unwrap();
        let parameters = parameters(json);
        let header = set(&parameters, &signer(), &id, parameters.persistent.then_some(60), connection);
        let (value, attributes) = header.split_once("; ").unwrap();
        assert!(value.contains(&format!("={ID}.")), "{value}");
        attributes.to_owned()
    }

    #[test]
    fn the_cookie_is_pinned() {
        let id = SessionId::from_verified(ID).unwrap();
        assert_eq!(
            set(&SessionParameters::default(), &signer(), &id, None, &SECURE),
            format!("webpy_session_id={ID}.{MAC}; HttpOnly; Path=/; Secure; SameSite=Lax")
        );
        assert_eq!(
            expire(&SessionParameters::default(), &SECURE),
            "webpy_session_id=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Path=/; Secure; SameSite=Lax"
        );
        assert_eq!(
            told(&SessionParameters::default(), &SECURE),
            "webpy_session_id.told=1; Max-Age=60; HttpOnly; Path=/; Secure; SameSite=Lax"
        );
        let key = id.record_key();
        assert_eq!(
            read(&format!("webpy_session_id={ID}.{MAC}"), "webpy_session_id", &signer()),
            Presented::Signed(vec![SignedId { id, key, is_current: true }])
        );
    }

    #[test]
    fn up_to_three_signed_cookies_are_read_in_their_order_and_each_id_once() {
        let ids: Vec<String> = (0..5).map(|n| format!("{n:032x}")).collect();
        let value = |id: &str, signer: &Signer| format!("sid={}", signer.sign("sid", id));
        let header = |values: &[String]| values.join("; ");
        let read = |header: &str| -> Vec<(String, bool)> {
            let rotated =
                Signer::from_secret("second-key-123456789abcdef012345,first-key-0123456789abcdef012345").unwrap();
            read(header, "sid", &rotated).ids().iter().map(|signed| (signed.id.expose(), signed.is_current)).collect()
        };
        let all: Vec<String> = ids.iter().map(|id| value(id, &signer())).collect();
        let found = read(&header(&all));
        assert_eq!(found, [(ids[0].clone(), false), (ids[1].clone(), false), (ids[2].clone(), false)]);
        let second = Signer::from_secret("second-key-123456789abcdef012345").unwrap();
        let both = [value(&ids[0], &signer()), "sid=junk".to_owned(), value(&ids[0], &second)];
        assert_eq!(read(&header(&both)), [(ids[0].clone(), true)], "one id, signed by either key");
    }

    #[test]
    fn the_operator_is_told_why_a_client_drops_the_cookie() {
        let plain = |host| Connection::Plain { host };
        let secure = |host| Connection::Secure { host: Some(host) };
        for (json, connection, expected) in [
            ("{}", plain("192.168.1.5"), "plain http to 192.168.1.5"),
            (r#"{"cookie_domain": "Example.com"}"#, secure("shop.workers.dev"), "`cookie_domain` is example.com"),
            (r#"{"cookie_domain": "example.com"}"#, secure("badexample.com"), "`cookie_domain` is example.com"),
            (r#"{"cookie_domain": "example.com", "secure": false}"#, plain("10.0.0.1"), "`cookie_domain`"),
        ] {
            let objection = objection(&parameters(json), &connection).unwrap();
            assert!(objection.contains(expected), "{objection}");
        }
        for (json, connection) in [
            ("{}", secure("example.com")),
            ("{}", SECURE),
            ("{}", Connection::Loopback),
            (r#"{"secure": false}"#, plain("192.168.1.5")),
            (r#"{"cookie_domain": ".example.com"}"#, secure("example.com")),
            (r#"{"cookie_domain": "example.com"}"#, secure("a.example.com")),
            (r#"{"cookie_domain": "example.com"}"#, Connection::Loopback),
        ] {
            assert_eq!(objection(&parameters(json), &connection), None, "{json} {connection:?}");
        }
    }

    #[test]
    fn each_parameter_shows_in_the_attributes() {
        for (json, expected) in [
            (r#"{"cookie_domain": "example.com"}"#, "Domain=example.com; HttpOnly; Path=/; Secure; SameSite=Lax"),
            (r#"{"cookie_path": "/app"}"#, "HttpOnly; Path=/app; Secure; SameSite=Lax"),
            (r#"{"samesite": "strict"}"#, "HttpOnly; Path=/; Secure; SameSite=Strict"),
            (r#"{"samesite": "none"}"#, "HttpOnly; Path=/; Secure; SameSite=None"),
            (r#"{"httponly": false}"#, "Path=/; Secure; SameSite=Lax"),
            (r#"{"secure": false}"#, "HttpOnly; Path=/; SameSite=Lax"),
            (r#"{"persistent": true}"#, "Max-Age=60; HttpOnly; Path=/; Secure; SameSite=Lax"),
        ] {
            assert_eq!(set_with(json, &SECURE), expected, "{json}");
        }
    }

    #[test]
    fn plain_http_on_loopback_gets_no_secure_unless_browsers_demand_it() {
        for (json, expected) in [
            ("{}", "HttpOnly; Path=/; SameSite=Lax"),
            (r#"{"samesite": "None"}"#, "HttpOnly; Path=/; Secure; SameSite=None"),
            (r#"{"cookie_name": "__Host-sid"}"#, "HttpOnly; Path=/; Secure; SameSite=Lax"),
            (r#"{"cookie_name": "__secure-sid"}"#, "HttpOnly; Path=/; Secure; SameSite=Lax"),
            (r#"{"cookie_name": "__Http-sid"}"#, "HttpOnly; Path=/; Secure; SameSite=Lax"),
            (r#"{"cookie_domain": "example.com"}"#, "HttpOnly; Path=/; SameSite=Lax"),
        ] {
            assert_eq!(set_with(json, &Connection::Loopback), expected, "{json}");
        }
    }

    #[test]
    fn an_expired_cookie_has_the_attributes_that_it_was_set_with() {
        let json =
            r#"{"cookie_domain": "example.com", "cookie_path": "/app", "samesite": "Strict", "httponly": false}"#;
        for connection in [SECURE, Connection::Loopback, Connection::Plain { host: "a" }] {
            let expired = expire(&parameters(json), &connection);
            let attributes = expired.split_once("GMT; ").unwrap().1;
            assert_eq!(attributes, set_with(json, &connection));
        }
    }
}
