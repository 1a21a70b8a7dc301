use std::net::Ipv4Addr;

/// How a request came, which decides what cookies the visitor's client keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection<'a> {
    /// By https, to this host if it is known.
    Secure { host: Option<&'a str> },
    /// By plain http, from the machine that the Worker runs on: in development.
    Loopback,
    /// The same by https, as far as the URL says.
    SecureLoopback,
    /// By plain http over a network.
    Plain { host: &'a str },
}

impl<'a> Connection<'a> {
    /// Of a request for `url`, as the runtime wrote it: scheme and host in lower case, addresses in their usual
    /// form. `ip` is the visitor's address. Under `wrangler dev`, a Worker with `routes` sees their host in the URL
    /// (workers-sdk#14683), and perhaps another scheme; the address tells that the visitor is on this machine all the
    /// same. On Cloudflare no visitor has a loopback address.
    pub(crate) fn of(url: Option<&'a str>, ip: Option<&str>) -> Self {
        let Some((scheme, rest)) = url.and_then(|url| url.split_once("://")) else {
            return Self::Secure { host: None };
        };
        let host = host_of(rest);
        match (scheme, is_loopback_host(host) || ip.is_some_and(is_loopback_address)) {
            ("http", true) => Self::Loopback,
            ("http", false) => Self::Plain { host },
            (_, true) => Self::SecureLoopback,
            (_, false) => Self::Secure { host: Some(host) },
        }
    }

    /// Whether the visitor's address decides: a plain http request to a host that is not loopback.
    #[cfg(feature = "worker")]
    pub(crate) fn asks_for_ip(url: &'a str) -> bool {
        url.strip_prefix("http://").is_some_and(|rest| !is_loopback_host(host_of(rest)))
    }
}

/// The host and port in what follows a URL's `://`, without a user.
pub(crate) fn authority_of(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
}

/// The same without a port.
fn host_of(rest: &str) -> &str {
    let authority = authority_of(rest);
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

fn is_loopback_host(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost") || host == "[::1]" || is_loopback_address(host)
}

/// An IPv4 address may come written as IPv6's, `::ffff:127.0.0.1`; std's own reading of IPv6 would cost 1 KB.
fn is_loopback_address(text: &str) -> bool {
    let v4 = text.strip_prefix("::ffff:").unwrap_or(text);
    text == "::1" || v4.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_to_this_machine_is_loopback() {
        for (url, ip) in [
            ("http://localhost/", None),
            ("http://localhost:8787/count", None),
            ("http://app.localhost:8787/", None),
            ("http://127.0.0.1:8787/count?x=http://a", None),
            ("http://127.1.2.3/", None),
            ("http://[::1]/", None),
            ("http://[::1]:8787/", None),
            ("http://localhost?x", None),
            ("http://shop.example.com/", Some("127.0.0.1")),
            ("http://shop.example.com/", Some("::1")),
            ("http://shop.example.com/", Some("::ffff:127.0.0.1")),
        ] {
            assert_eq!(Connection::of(Some(url), ip), Connection::Loopback, "{url}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for (url, host) in [
            ("http://example.com/", "example.com"),
            ("http://example.com/localhost", "example.com"),
            ("http://localhost.example.com/", "localhost.example.com"),
            ("http://127.evil.example/", "127.evil.example"),
            ("http://localhost:x@evil.example/", "evil.example"),
            ("http://127.0.0.1.example:80/", "127.0.0.1.example"),
            ("http://[::2]:8787/", "[::2]"),
            ("http://[fe80::1]/", "[fe80::1]"),
            ("http://192.168.1.5:8787/", "192.168.1.5"),
        ] {
            assert_eq!(Connection::of(Some(url), Some("192.168.1.7")), Connection::Plain { host }, "{url}");
        }
        for (url, ip) in [("https://localhost/", None), ("https://shop.example.com/", Some("127.0.0.1"))] {
            assert_eq!(Connection::of(Some(url), ip), Connection::SecureLoopback);
        }
        let secure = Connection::of(Some("https://example.com/"), Some("192.0.2.1"));
        assert_eq!(secure, Connection::Secure { host: Some("example.com") });
        for url in [None, Some(""), Some("localhost")] {
            assert_eq!(Connection::of(url, None), Connection::Secure { host: None });
        }
    }
}
