//! The session's cookie: found among foreign ones, verified, set and expired.
//!
//! Its value is `<id>.<mac>`: 32 hexadecimal digits of session id, a dot, and 64 of signature.

use crate::{SameSite, SessionId, SessionParameters, Signer};

/// What a request's cookies say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// No cookie of our name.
    Nothing,
    /// Cookies of our name, and not one that we signed: a forgery, or a key that is gone.
    Forged,
    /// A cookie that we signed.
    Verified(SessionId),
}

/// Reads a `Cookie` header (RFC 6265, section 5.4).
///
/// Of several cookies of our name the first that verifies counts: a neighbouring site may have set
/// the others, and their order is not to be relied on (RFC 6265, section 4.2.2).
///
/// ```
/// use edge_session::{Signer, cookie};
///
/// let signer = Signer::from_secret("0123456789abcdef0123456789abcdef")?;
/// let ours = signer.sign("sid", "000102030405060708090a0b0c0d0e0f");
/// let header = format!("prefs={{\"theme\":\"dark\"}}; sid=junk; sid={ours}");
/// assert!(matches!(cookie::read(&header, "sid", &signer), cookie::Presented::Verified(_)));
/// assert_eq!(cookie::read("sid=junk", "sid", &signer), cookie::Presented::Forged);
/// assert_eq!(cookie::read("SID=junk", "sid", &signer), cookie::Presented::Nothing);
/// # Ok::<(), edge_session::Error>(())
/// ```
#[must_use]
pub fn read(header: &str, name: &str, signer: &Signer) -> Presented {
    let mut presented = Presented::Nothing;
    for value in values(header, name) {
        let verified = signer.verify(name, value).and_then(SessionId::from_verified);
        match verified {
            Some(id) => return Presented::Verified(id),
            None => presented = Presented::Forged,
        }
    }
    presented
}

/// The values of the cookies called `name`, in the header's order.
///
/// Nothing in a foreign cookie can hide ours: pairs end at `;`, a name ends at the first `=`, and
/// quotes, braces and blanks inside a value are that value's own (web.py stopped at JSON in a
/// neighbour). Only the space and the tab are taken off: other "blanks" would let `\u{2000}__Host-sid`
/// pass for `__Host-sid`, whose prefix the browser did not check. Names are compared exactly.
fn values<'a>(header: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    header.split(';').filter_map(move |pair| {
        let (found, value) = pair.split_once('=')?;
        (found.trim_matches(BLANK) == name).then(|| unquoted(value.trim_matches(BLANK)))
    })
}

const BLANK: [char; 2] = [' ', '\t'];

/// A value may stand in one pair of double quotes (RFC 6265, section 4.1.1).
fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}

/// A `Set-Cookie` header that gives the visitor `id`. `lifetime` is what is left of the session, in seconds.
pub(crate) fn set(
    parameters: &SessionParameters,
    signer: &Signer,
    id: &SessionId,
    lifetime: u64,
    plain_loopback: bool,
) -> String {
    let mut header = format!("{}={}", parameters.cookie_name, signer.sign(&parameters.cookie_name, &id.expose()));
    if parameters.persistent {
        header += &format!("; Max-Age={lifetime}");
    }
    header + &attributes(parameters, plain_loopback)
}

/// A `Set-Cookie` header that takes the cookie away. A browser does that only when name, domain and
/// path are those that it was set with.
pub(crate) fn expire(parameters: &SessionParameters, plain_loopback: bool) -> String {
    let name = &parameters.cookie_name;
    let gone = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    format!("{name}=; {gone}{}", attributes(parameters, plain_loopback))
}

fn attributes(parameters: &SessionParameters, plain_loopback: bool) -> String {
    let mut text = String::new();
    if let Some(domain) = &parameters.cookie_domain {
        text += "; Domain=";
        text += domain;
    }
    if parameters.httponly {
        text += "; HttpOnly";
    }
    text += "; Path=";
    text += &parameters.cookie_path;
    if parameters.secure && !(plain_loopback && may_be_insecure(parameters)) {
        text += "; Secure";
    }
    text += "; SameSite=";
    text += parameters.samesite.as_str();
    text
}

/// Over plain http on loopback, Safari and Python's clients drop a `Secure` cookie, so there it goes
/// without, unless every browser would refuse it without.
fn may_be_insecure(parameters: &SessionParameters) -> bool {
    parameters.samesite != SameSite::None && !parameters.has_prefix("__Host-") && !parameters.has_prefix("__Secure-")
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

    fn set_with(json: &str, plain_loopback: bool) -> String {
        let id = SessionId::from_verified(ID).unwrap();
        let header = set(&parameters(json), &signer(), &id, 60, plain_loopback);
        let (value, attributes) = header.split_once("; ").unwrap();
        assert!(value.contains(&format!("={ID}.")), "{value}");
        attributes.to_owned()
    }

    #[test]
    fn the_cookie_is_pinned() {
        let id = SessionId::from_verified(ID).unwrap();
        assert_eq!(
            set(&SessionParameters::default(), &signer(), &id, 60, false),
            format!("webpy_session_id={ID}.{MAC}; HttpOnly; Path=/; Secure; SameSite=Lax")
        );
        assert_eq!(
            expire(&SessionParameters::default(), false),
            "webpy_session_id=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; Path=/; Secure; SameSite=Lax"
        );
        assert_eq!(
            read(&format!("webpy_session_id={ID}.{MAC}"), "webpy_session_id", &signer()),
            Presented::Verified(id)
        );
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
            assert_eq!(set_with(json, false), expected, "{json}");
        }
    }

    #[test]
    fn plain_http_on_loopback_gets_no_secure_unless_browsers_demand_it() {
        for (json, expected) in [
            ("{}", "HttpOnly; Path=/; SameSite=Lax"),
            (r#"{"samesite": "None"}"#, "HttpOnly; Path=/; Secure; SameSite=None"),
            (r#"{"cookie_name": "__Host-sid"}"#, "HttpOnly; Path=/; Secure; SameSite=Lax"),
            (r#"{"cookie_name": "__secure-sid"}"#, "HttpOnly; Path=/; Secure; SameSite=Lax"),
        ] {
            assert_eq!(set_with(json, true), expected, "{json}");
        }
    }

    #[test]
    fn an_expired_cookie_has_the_attributes_that_it_was_set_with() {
        let json =
            r#"{"cookie_domain": "example.com", "cookie_path": "/app", "samesite": "Strict", "httponly": false}"#;
        for plain_loopback in [false, true] {
            let expired = expire(&parameters(json), plain_loopback);
            let attributes = expired.split_once("GMT; ").unwrap().1;
            assert_eq!(attributes, set_with(json, plain_loopback));
        }
    }
}
