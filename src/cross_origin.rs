//! Requests that another site made a visitor's browser send. They come with the visitor's cookies, and must not act for them.
//!
//! A browser says where a request comes from, in two headers that a page cannot write: `Sec-Fetch-Site` (W3C, Fetch Metadata
//! Request Headers) and `Origin` (Fetch Standard, section 3.2). So no token is needed, and no state (OWASP, Cross-Site Request
//! Forgery Prevention Cheat Sheet; ASVS 5.0, 3.5.1 and 3.5.3).

use crate::Incoming;
use crate::connection::authority_of;

/// Which sites' pages may send a request that changes something.
#[cfg(any(feature = "worker", feature = "axum"))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Senders {
    /// This one, and the trusted ones.
    ThisSite,
    AnySite,
}

/// Whether another site made the visitor's browser send a request that is not for looking.
///
/// Safe methods are never judged, for they are for looking (RFC 9110, section 9.2.1), unless they open a WebSocket, through
/// which everything may be done.
pub(crate) fn is_from_elsewhere(incoming: &Incoming<'_>, trusted_origins: &[String]) -> bool {
    let is_safe = incoming.method.is_none_or(|method| ["GET", "HEAD", "OPTIONS"].contains(&method));
    if is_safe && !incoming.opens_socket {
        return false;
    }
    let is_trusted = |origin: &str| trusted_origins.iter().any(|trusted| trusted == origin);
    match (incoming.origin, incoming.fetch_site) {
        (Some(origin), _) if is_trusted(origin) => false,
        // A page without an origin (sandboxed, or a file), unless the browser knows that it is this site's.
        (Some("null"), Some(site)) => site != "same-origin",
        // `same-site` is refused: another Worker of the account, or another user's, may be that.
        (_, Some(site)) => !["same-origin", "none"].contains(&site),
        // A browser of before 2023, or a page that is not secure.
        (Some(origin), None) => !is_of_host(origin, incoming.url),
        // No browser.
        (None, None) => false,
    }
}

/// Whether an origin is of the host and port that the request is for. The scheme may differ: TLS may end before us.
fn is_of_host(origin: &str, url: Option<&str>) -> bool {
    let authority = |url: &str| url.split_once("://").map(|(_, rest)| authority_of(rest).to_ascii_lowercase());
    authority(origin).is_some_and(|its| url.and_then(authority) == Some(its))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://shop.example/basket";

    fn is_refused(method: &str, origin: Option<&str>, fetch_site: Option<&str>) -> bool {
        let incoming = Incoming::new().url(URL).method(method).origin(origin).fetch_site(fetch_site);
        is_from_elsewhere(&incoming, &["https://app.example".to_owned(), "capacitor://localhost".to_owned()])
    }

    #[test]
    fn what_another_site_sends_is_refused() {
        for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE", "post"] {
            for site in ["cross-site", "same-site", "", "SAME-ORIGIN", "same-origin, none", "a later word"] {
                assert!(is_refused(method, None, Some(site)), "{method} {site}");
                assert!(
                    is_refused(method, Some("https://shop.example"), Some(site)),
                    "the newer header counts: {site}"
                );
            }
            let origins = [
                "https://evil.example",
                "null",
                "",
                "https://shop.example.evil.example",
                "https://evilshop.example",
                "https://sub.shop.example",
                "https://shop.example:8443",
                "https://user@evil.example",
                "shop.example",
                "https://app.example:443",
                "https://app.example/",
                "http://app.example",
            ];
            for origin in origins {
                assert!(is_refused(method, Some(origin), None), "{method} {origin}");
            }
        }
        for site in ["cross-site", "none", ""] {
            assert!(is_refused("POST", Some("null"), Some(site)), "{site}");
        }
    }

    #[test]
    fn what_this_site_a_trusted_one_or_no_browser_sends_is_not() {
        for method in ["POST", "DELETE"] {
            assert!(!is_refused(method, None, None), "no browser");
            for site in ["same-origin", "none"] {
                for origin in [None, Some("https://shop.example")] {
                    assert!(!is_refused(method, origin, Some(site)), "{site} {origin:?}");
                }
            }
            assert!(!is_refused(method, Some("null"), Some("same-origin")));
            for origin in ["https://shop.example", "http://shop.example", "https://SHOP.example"] {
                assert!(!is_refused(method, Some(origin), None), "{origin}");
            }
            for origin in ["https://app.example", "capacitor://localhost"] {
                assert!(!is_refused(method, Some(origin), Some("cross-site")), "{origin}");
                assert!(!is_refused(method, Some(origin), None), "{origin}");
            }
        }
    }

    #[test]
    fn a_look_is_never_judged_and_a_socket_always() {
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert!(!is_refused(method, Some("https://evil.example"), Some("cross-site")), "{method}");
            let incoming = Incoming::new().url(URL).method(method).fetch_site("cross-site").opens_socket(true);
            assert!(is_from_elsewhere(&incoming, &[]), "{method}");
        }
        assert!(
            !is_from_elsewhere(&Incoming::new().fetch_site("cross-site"), &[]),
            "of a queue's message no method is known"
        );
        let socket = Incoming::new().url("http://shop.example:8787/live").method("GET").opens_socket(true);
        assert!(!is_from_elsewhere(&socket.origin("http://shop.example:8787"), &[]));
        assert!(is_from_elsewhere(&socket.origin("http://shop.example"), &[]));
    }
}
