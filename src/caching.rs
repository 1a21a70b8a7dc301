//! What a reply that depends on its visitor's session says to caches (RFC 9111): only the visitor's own may keep it, and
//! none where it sets a cookie.

/// The `Cache-Control` of a reply of which the handler has not said the same.
#[cfg(feature = "worker")]
pub(crate) const CACHE_CONTROL: &str = "private, no-store";

/// What some caches ask before `Cache-Control` (RFC 9213), and which therefore goes. (`src/worker/http.js` has it as well.)
#[cfg(feature = "axum")]
pub(crate) const TARGETED: [&str; 3] = ["CDN-Cache-Control", "Cloudflare-CDN-Cache-Control", "Surrogate-Control"];

/// Whether a `Vary` says already that the reply depends on the cookie.
pub(crate) fn varies_by_cookie(vary: &str) -> bool {
    vary.split(',').map(str::trim).any(|name| name == "*" || name.eq_ignore_ascii_case("cookie"))
}

/// Whether a `Cache-Control` keeps shared caches out: `private` or `no-store`, and nothing that lets them in again. With a
/// value, as `private="Set-Cookie"`, it is about one header alone (RFC 9111, section 5.2.2.7).
pub(crate) fn keeps_shared_caches_out(control: &str) -> bool {
    let mut is_private = false;
    let mut is_stored_nowhere = false;
    let mut must_understand = false;
    for directive in directives(control) {
        match directive.to_ascii_lowercase().as_str() {
            "private" => is_private = true,
            "no-store" => is_stored_nowhere = true,
            "must-understand" => must_understand = true,
            "public" => return false,
            other if other.starts_with("s-maxage") => return false,
            _ => {}
        }
    }
    is_private || is_stored_nowhere && !must_understand
}

/// What stands between commas, but for those within quotes.
fn directives(control: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let ends = move |c: char| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    };
    control.split(ends).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_keeps_shared_caches_out_is_left_as_it_is() {
        for control in [
            "private",
            "no-store",
            "max-age=60, Private",
            "PRIVATE,max-age=60",
            "no-store, private",
            "private, must-understand",
        ] {
            assert!(keeps_shared_caches_out(control), "{control}");
        }
        for control in [
            "",
            "public",
            "max-age=60",
            "private, public",
            "private, s-maxage=60",
            "no-store, must-understand",
            "private=\"Set-Cookie\"",
            "max-age=60, ext=\"a, private, b\"",
            "no-cache",
        ] {
            assert!(!keeps_shared_caches_out(control), "{control}");
        }
    }

    #[test]
    fn what_varies_by_the_cookie_already_is_left_as_it_is() {
        for vary in ["Cookie", "Accept-Encoding, cookie", "*"] {
            assert!(varies_by_cookie(vary), "{vary}");
        }
        assert!(!varies_by_cookie("") && !varies_by_cookie("Accept-Encoding, Cookies"));
    }
}
