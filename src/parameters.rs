use std::fmt;

use serde_json::Value;

use crate::sign_in;
use crate::{Error, Record};

/// The settings of [`Sessions`](crate::Sessions): web.py's `session_parameters`, with web.py's names,
/// and a few of our own.
///
/// In a Worker they come from the table `[vars.session_parameters]` of `wrangler.toml`; what the
/// table leaves out has the default given here. All times are whole seconds.
///
/// ```
/// use edge_session::{SameSite, SessionParameters};
///
/// let parameters = SessionParameters::from_json(r#"{"timeout": 3600, "samesite": "Strict"}"#)?;
/// assert_eq!(parameters.timeout, 3600);
/// assert_eq!(parameters.samesite, SameSite::Strict);
/// assert_eq!(parameters.cookie_name, "webpy_session_id");
///
/// let error = SessionParameters::from_json(r#"{"timout": 3600}"#).unwrap_err();
/// assert!(error.to_string().starts_with("session_parameters: unknown name `timout`"));
/// # Ok::<(), edge_session::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionParameters {
    /// The cookie's name: an RFC 9110 token. Default `webpy_session_id`.
    ///
    /// With the prefix `__Host-`, `__Secure-`, `__Host-Http-` or `__Http-` browsers demand certain attributes
    /// (RFC 6265bis, section 4.1.3), and so does [`check`](Self::check).
    pub cookie_name: String,
    /// `Domain`: also sends the cookie to this domain's subdomains. Default none: this host only. Omitted on
    /// a loopback address, which has no domain.
    pub cookie_domain: Option<String>,
    /// `Path`: the cookie is sent to this path and below. Default `/`.
    pub cookie_path: String,
    /// `SameSite`. Default `Lax`. (web.py: not set.)
    pub samesite: SameSite,
    /// `HttpOnly`: scripts on the page cannot read the cookie. Default true.
    pub httponly: bool,
    /// `Secure`: the cookie travels over https only. Default true. (web.py: false.)
    ///
    /// Omitted for plain http on a loopback address, where some clients would drop the cookie.
    pub secure: bool,
    /// `Max-Age`: whether the cookie outlives the browser's window. Default false, as in web.py.
    pub persistent: bool,
    /// A session unused for this long has ended, unless it was [signed in for](crate::Session::sign_in_for) a time of its own.
    /// Default 86400, a day.
    pub timeout: u64,
    /// A session has ended this long after it began, or was signed in, however much it is used; again unless it was
    /// [signed in for](crate::Session::sign_in_for) a time of its own. Default none.
    pub absolute_timeout: Option<u64>,
    /// The least time between two notes that a session was used, since each note is a write. Default a tenth
    /// of `timeout`. A session may therefore end up to `touch_after` early; one that is only used without replies up to twice
    /// that, with `persistent` or while a key is being retired.
    pub touch_after: Option<u64>,
    /// True, the default: an expired or unknown session is silently a new one. False: its visitor gets
    /// a 401 with [`expired_message`](Self::expired_message), once.
    pub ignore_expiry: bool,
    /// True, the default. False: only the address that began a session (`CF-Connecting-IP`) may use
    /// it; others get the reply to an expired session, and the session stays.
    ///
    /// If you set it to false later, their next use binds the sessions that began before.
    pub ignore_change_ip: bool,
    /// The most bytes that a session's data may have as JSON. Default 262144, 256 KiB. A save of more is a 500, and the
    /// stored data stays. At most what the store can hold: 10000000 on KV, 1900000 on D1, 950000 on objects.
    pub max_data: u64,
    /// How many sessions a user may have who is [signed in](crate::Session::sign_in): one more ends the oldest. Default as many as
    /// the store holds, which is 32 on objects. KV does not count them.
    pub max_sessions: Option<u64>,
    /// The origins of other sites whose pages may send requests that change something, as
    /// `["https://app.example.com"]`: each exactly as browsers write it, of any scheme, and never `null`. Default none. This
    /// Worker's own origin need not be named.
    pub trusted_origins: Vec<String>,
    /// The body of the 401. Default `Session expired`.
    pub expired_message: String,
    /// Whether replies have a `Server-Timing` header: what was done with the session and how long it
    /// took ([`Timing`](crate::Timing)). Default false: it tells anybody whether a cookie is valid.
    pub server_timing: bool,
    /// Which store the Worker uses. Default `kv`, web.py's `DiskStore`.
    pub store: StoreKind,
}

/// The cookie's `SameSite` attribute (RFC 6265bis, section 4.1.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// Sent with requests from this site only.
    Strict,
    /// Also sent when a link on another site is followed.
    Lax,
    /// Sent with every request. Browsers accept it on a `Secure` cookie only.
    None,
}

impl SameSite {
    /// The attribute's value, as it stands in the cookie.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// The store behind the Worker's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreKind {
    /// Workers KV.
    Kv,
    /// D1.
    D1,
    /// Durable Objects.
    Object,
}

impl StoreKind {
    pub(crate) const ALL: [Self; 3] = [Self::Kv, Self::D1, Self::Object];

    /// The store's name, as it stands in the parameters.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::D1 => "d1",
            Self::Object => "object",
        }
    }
}

/// The longest time that a parameter may name: a hundred years. Times stay far below 2^53, up to
/// which JavaScript, and so D1, counts exactly.
pub(crate) const LONGEST: u64 = 100 * 365 * 24 * 60 * 60;

/// Name, value and attributes are kept well under the 4096 bytes that browsers accept of a cookie,
/// and each attribute under its 1024 (RFC 6265bis, section 5.6).
const LONGEST_ATTRIBUTE: usize = 255;

impl Default for SessionParameters {
    fn default() -> Self {
        Self {
            cookie_name: "webpy_session_id".to_owned(),
            cookie_domain: None,
            cookie_path: "/".to_owned(),
            samesite: SameSite::Lax,
            httponly: true,
            secure: true,
            persistent: false,
            timeout: 24 * 60 * 60,
            absolute_timeout: None,
            touch_after: None,
            ignore_expiry: true,
            ignore_change_ip: true,
            max_data: 256 * 1024,
            max_sessions: None,
            trusted_origins: Vec::new(),
            expired_message: "Session expired".to_owned(),
            server_timing: false,
            store: StoreKind::Kv,
        }
    }
}

impl SessionParameters {
    /// Parameters from a JSON object, which is what a `[vars]` table is to a Worker. The result has
    /// been [checked](Self::check).
    ///
    /// # Errors
    ///
    /// `Misconfigured` for an unknown name or an impossible value. The message names the parameter
    /// and the repair. An absent parameter is not an error: it has its default.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        match serde_json::from_str(text) {
            Ok(Value::Object(table)) => Self::from_settings(table.into_iter().map(|(name, value)| {
                let setting = match value {
                    Value::String(text) => Setting::Text(text),
                    Value::Bool(flag) => Setting::Flag(flag),
                    Value::Number(number) => Setting::Number(number.as_f64().unwrap_or(f64::NAN)),
                    other => match texts(&other) {
                        Some(texts) => Setting::Texts(texts),
                        None => Setting::Other(other.to_string()),
                    },
                };
                (name, setting)
            })),
            _ => Err(Self::no_table()),
        }
    }

    /// [`from_json`](Self::from_json), of a table that has been read already.
    pub(crate) fn from_settings(table: impl Iterator<Item = (String, Setting)>) -> Result<Self, Error> {
        let mut parameters = Self::default();
        for (name, setting) in table {
            parameters.set(Given { name: &name, setting })?;
        }
        parameters.check()?;
        Ok(parameters)
    }

    pub(crate) fn no_table() -> Error {
        Error::misconfigured("session_parameters must be a table, as in `[vars.session_parameters]`")
    }

    fn set(&mut self, given: Given<'_>) -> Result<(), Error> {
        match given.name {
            "cookie_name" => self.cookie_name = given.text()?,
            "cookie_domain" => self.cookie_domain = Some(given.text()?),
            "cookie_path" => self.cookie_path = given.text()?,
            "samesite" => self.samesite = given.samesite()?,
            "httponly" => self.httponly = given.flag()?,
            "secure" => self.secure = given.flag()?,
            "persistent" => self.persistent = given.flag()?,
            "timeout" => self.timeout = given.whole(SECONDS)?,
            "absolute_timeout" => self.absolute_timeout = Some(given.whole(SECONDS)?),
            "touch_after" => self.touch_after = Some(given.whole(SECONDS)?),
            "ignore_expiry" => self.ignore_expiry = given.flag()?,
            "ignore_change_ip" => self.ignore_change_ip = given.flag()?,
            "max_data" => self.max_data = given.whole("a whole number of bytes, without quotes")?,
            "max_sessions" => self.max_sessions = Some(given.whole("a whole number, without quotes")?),
            "trusted_origins" => {
                self.trusted_origins = given.texts("a list of origins, as in [\"https://example.com\"]")?
            }
            "expired_message" => self.expired_message = given.text()?,
            "server_timing" => self.server_timing = given.flag()?,
            "store" => self.store = given.store()?,
            "secret_key" => {
                return Err(Error::misconfigured(
                    "session_parameters: `secret_key` would stand in clear in wrangler.toml; remove it there, \
                     and run `openssl rand -hex 32 | npx wrangler secret put SECRET_KEY`",
                ));
            }
            unknown => {
                return Err(Error::misconfigured(format_args!(
                    "session_parameters: unknown name `{unknown}`; the names are {NAMES}"
                )));
            }
        }
        Ok(())
    }

    /// Refuses what cannot work, so that it is found at the first request and not by a visitor.
    /// [`Sessions::new`](crate::Sessions::new) calls it.
    ///
    /// # Errors
    ///
    /// `Misconfigured`; the message names the parameter and the repair.
    pub fn check(&self) -> Result<(), Error> {
        // Of whatever table they come.
        let refuse = |text: fmt::Arguments<'_>| Err(Error::misconfigured(format_args!("session parameters: {text}")));

        if self.cookie_name.is_empty()
            || self.cookie_name.len() > LONGEST_ATTRIBUTE
            || !self.cookie_name.bytes().all(is_token_byte)
        {
            return refuse(format_args!(
                "`cookie_name` must be 1 to {LONGEST_ATTRIBUTE} letters, digits and any of !#$%&'*+-.^_`|~"
            ));
        }
        if !self.cookie_path.starts_with('/') || !is_attribute(&self.cookie_path) {
            return refuse(format_args!(
                "`cookie_path` must begin with / and hold no semicolon and no control character, as in \"/app\""
            ));
        }
        if let Some(domain) = &self.cookie_domain
            && !is_domain(domain)
        {
            return refuse(format_args!(
                "`cookie_domain` must be a domain name, as in \"example.com\", and none below which everybody has hosts, as \
                 \"com\" and \"workers.dev\": browsers refuse those; leave it out for this host only"
            ));
        }
        if let Some(origin) = self.trusted_origins.iter().find(|origin| !is_origin(origin)) {
            return refuse(format_args!(
                "`trusted_origins` has {origin:?}, and must have origins as browsers write them: in lower case, with a scheme, \
                 without a path, a wildcard or the scheme's own port, as in \"https://app.example.com\""
            ));
        }
        if self.samesite == SameSite::None && !self.secure {
            return refuse(format_args!("`samesite = \"None\"` needs `secure = true`: browsers refuse it otherwise"));
        }
        if self.has_prefix("__Host-") && (!self.secure || self.cookie_path != "/" || self.cookie_domain.is_some()) {
            return refuse(format_args!(
                "a `cookie_name` with the prefix __Host- needs `secure = true`, `cookie_path = \"/\"` and no `cookie_domain`"
            ));
        }
        for prefix in ["__Secure-", "__Http-"] {
            if self.has_prefix(prefix) && !self.secure {
                return refuse(format_args!("a `cookie_name` with the prefix {prefix} needs `secure = true`"));
            }
        }
        for prefix in ["__Http-", "__Host-Http-"] {
            if self.has_prefix(prefix) && !self.httponly {
                return refuse(format_args!("a `cookie_name` with the prefix {prefix} needs `httponly = true`"));
            }
        }
        for (name, seconds) in [("timeout", Some(self.timeout)), ("absolute_timeout", self.absolute_timeout)] {
            if seconds.is_some_and(|seconds| !(1..=LONGEST).contains(&seconds)) {
                return refuse(format_args!("`{name}` must be 1 to {LONGEST} seconds"));
            }
        }
        if self.max_data == 0 {
            return refuse(format_args!("`max_data` must be at least 1 byte"));
        }
        if self.max_sessions == Some(0) {
            return refuse(format_args!("`max_sessions` must be at least 1"));
        }
        if self.touch_after.is_some_and(|seconds| seconds >= self.timeout) {
            return refuse(format_args!(
                "`touch_after` must be less than `timeout`, or a session in use would expire; leave it out for a tenth of `timeout`"
            ));
        }
        Ok(())
    }

    /// When a session that is used at this time ends if it is not used again: it says of itself when it began, or was signed
    /// in.
    pub(crate) fn expires_at(&self, record: &Record, touched_at: u64) -> u64 {
        sign_in::end_of(record).unwrap_or_else(|| {
            let idle = self.idle_expires_at(touched_at);
            self.absolute_end(record).map_or(idle, |absolute| idle.min(absolute))
        })
    }

    /// When a session ends in any case. A sign-in counts as a beginning (ASVS 5.0, 7.3.2).
    pub(crate) fn absolute_end(&self, record: &Record) -> Option<u64> {
        let began_at = sign_in::time_of(record).unwrap_or(record.created_at);
        sign_in::end_of(record).or_else(|| self.absolute_expires_at(began_at))
    }

    /// When a session that was last used at this time ends, if it is not used again.
    #[must_use]
    pub fn idle_expires_at(&self, touched_at: u64) -> u64 {
        touched_at.saturating_add(self.timeout)
    }

    /// When a session that began, or was signed in, at this time ends in any case.
    #[must_use]
    pub fn absolute_expires_at(&self, created_at: u64) -> Option<u64> {
        self.absolute_timeout.map(|seconds| created_at.saturating_add(seconds))
    }

    /// When a record ends if it is not used again: by the time stored in it, or by timeouts that were shortened since.
    pub(crate) fn ends_at(&self, record: &Record) -> u64 {
        self.expires_at(record, record.touched_at).min(record.expires_at)
    }

    /// Whether a record has ended.
    pub(crate) fn has_expired(&self, record: &Record, now: u64) -> bool {
        now >= self.ends_at(record)
    }

    /// `touch_after`, or what stands for it.
    pub(crate) fn notes_use_after(&self) -> u64 {
        self.touch_after.unwrap_or(self.timeout / 10).max(1)
    }

    /// Whether a note of use would lengthen the session by so many seconds: since its use was last noted, or because
    /// `timeout` was raised.
    pub(crate) fn touch_is_due(&self, record: &Record, now: u64, least: u64) -> bool {
        let gained = self.expires_at(record, now).saturating_sub(self.ends_at(record));
        // Of one that lasts a fixed time the user is told when it was last used.
        let is_fixed = sign_in::end_of(record).is_some();
        gained >= least || is_fixed && now.saturating_sub(record.touched_at) >= least
    }

    /// Browsers compare the prefixes without regard to case (RFC 6265bis, section 5.7).
    pub(crate) fn has_prefix(&self, prefix: &str) -> bool {
        self.cookie_name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    }
}

const NAMES: &str = "absolute_timeout, cookie_domain, cookie_name, cookie_path, expired_message, httponly, \
     ignore_change_ip, ignore_expiry, max_data, max_sessions, persistent, samesite, secure, server_timing, store, timeout, \
     touch_after, trusted_origins";

const SECONDS: &str = "a whole number of seconds, without quotes";

/// A value as it stands in the table, whatever the table was written in.
pub(crate) enum Setting {
    Text(String),
    Flag(bool),
    Number(f64),
    Texts(Vec<String>),
    /// Anything else, as JSON: nothing that a parameter can be.
    Other(String),
}

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(formatter, "\"{text}\""),
            Self::Flag(flag) => write!(formatter, "{flag}"),
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Texts(texts) => write!(formatter, "{texts:?}"),
            Self::Other(json) => formatter.write_str(json),
        }
    }
}

/// The texts in a list that has nothing else.
fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// One entry of the table, to be read as what its name asks for.
struct Given<'a> {
    name: &'a str,
    setting: Setting,
}

impl Given<'_> {
    fn text(self) -> Result<String, Error> {
        match self.setting {
            Setting::Text(text) => Ok(text),
            _ => self.refuse("a text"),
        }
    }

    fn texts(self, wanted: &str) -> Result<Vec<String>, Error> {
        match self.setting {
            Setting::Texts(texts) => Ok(texts),
            _ => self.refuse(wanted),
        }
    }

    fn flag(&self) -> Result<bool, Error> {
        match self.setting {
            Setting::Flag(flag) => Ok(flag),
            _ => self.refuse("true or false, without quotes"),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and not negative; what is beyond 64 bits is refused by check, as the greatest u64 is"
    )]
    fn whole(&self, wanted: &str) -> Result<u64, Error> {
        match self.setting {
            Setting::Number(number) if number >= 0.0 && number.fract() == 0.0 => Ok(number as u64),
            _ => self.refuse(wanted),
        }
    }

    fn samesite(&self) -> Result<SameSite, Error> {
        [SameSite::Strict, SameSite::Lax, SameSite::None]
            .into_iter()
            .find(|samesite| self.is(samesite.as_str()))
            .map_or_else(|| self.refuse("\"Strict\", \"Lax\" or \"None\""), Ok)
    }

    fn store(&self) -> Result<StoreKind, Error> {
        StoreKind::ALL
            .into_iter()
            .find(|store| self.is(store.as_str()))
            .map_or_else(|| self.refuse("\"kv\", \"d1\" or \"object\""), Ok)
    }

    fn is(&self, name: &str) -> bool {
        matches!(&self.setting, Setting::Text(text) if text.eq_ignore_ascii_case(name))
    }

    fn refuse<T>(&self, wanted: &str) -> Result<T, Error> {
        let Self { name, setting } = self;
        Err(Error::misconfigured(format_args!("session_parameters: `{name}` must be {wanted}, and is {setting}")))
    }
}

/// A byte of a token (RFC 9110, section 5.6.2), which a cookie's name is (RFC 6265, section 4.1.1).
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// An attribute's value: what would end it, or the header, is not in it.
fn is_attribute(text: &str) -> bool {
    text.len() <= LONGEST_ATTRIBUTE && text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b';')
}

/// Scheme, host and perhaps a port, as a browser serializes them (HTML Standard, "serialization of an origin").
fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    // An IPv6 address has colons of its own, in brackets.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_default = |port: &str| matches!((scheme, port), ("http", "80") | ("https", "443"));
    // As a number is written; and the default one is not.
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|number| number.to_string() == port) && !is_default(port);
    let is_scheme = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    let is_name = |byte: u8| byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && !b"/?#@\\,*:[]".contains(&byte);
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => {
            address.bytes().all(|byte| byte == b':' || byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
        }
        None => !host.is_empty() && host.bytes().all(is_name),
    };
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(is_scheme)
        && is_host
        && port.is_none_or(is_port)
}

/// Of the public suffixes, which browsers take no cookie for (RFC 6265, section 5.3), it knows those of a single label and
/// Cloudflare's own.
fn is_domain(text: &str) -> bool {
    let name = text.strip_prefix('.').unwrap_or(text);
    name.len() <= 253
        && (name.contains('.') || name.eq_ignore_ascii_case("localhost"))
        && !["workers.dev", "pages.dev"].iter().any(|suffix| name.eq_ignore_ascii_case(suffix))
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(table: &Value) -> Result<SessionParameters, Error> {
        SessionParameters::from_json(&table.to_string())
    }

    /// By the table where one was read, and without it where they may be of any.
    fn names_the_parameters(message: &str) -> bool {
        ["session_parameters: ", "session parameters: "].iter().any(|start| message.starts_with(start))
    }

    fn refusal(table: &Value) -> String {
        let error = read(table).expect_err(&table.to_string());
        assert_eq!(error.kind(), crate::ErrorKind::Misconfigured);
        error.to_string()
    }

    #[test]
    fn an_empty_table_means_the_defaults() {
        assert_eq!(read(&json!({})).unwrap(), SessionParameters::default());
    }

    #[test]
    fn every_parameter_is_read() {
        let parameters = read(&json!({
            "cookie_name": "sid", "cookie_domain": "example.com", "cookie_path": "/app",
            "samesite": "strict", "httponly": false, "secure": false, "persistent": true,
            "timeout": 60, "absolute_timeout": 600, "touch_after": 6,
            "ignore_expiry": false, "ignore_change_ip": false, "max_data": 1000, "max_sessions": 5, "expired_message": "Bye",
            "trusted_origins": ["https://a.example", "web+app-1.0://localhost", "http://[::1]:8080", "http://[::1]"],
            "server_timing": true, "store": "d1",
        }));
        assert_eq!(
            parameters.unwrap(),
            SessionParameters {
                cookie_name: "sid".to_owned(),
                cookie_domain: Some("example.com".to_owned()),
                cookie_path: "/app".to_owned(),
                samesite: SameSite::Strict,
                httponly: false,
                secure: false,
                persistent: true,
                timeout: 60,
                absolute_timeout: Some(600),
                touch_after: Some(6),
                ignore_expiry: false,
                ignore_change_ip: false,
                max_data: 1000,
                max_sessions: Some(5),
                expired_message: "Bye".to_owned(),
                trusted_origins: ["https://a.example", "web+app-1.0://localhost", "http://[::1]:8080", "http://[::1]"]
                    .map(str::to_owned)
                    .to_vec(),
                server_timing: true,
                store: StoreKind::D1,
            }
        );
    }

    #[test]
    fn the_list_of_names_is_the_list_of_what_is_read() {
        for name in NAMES.split(", ") {
            let message = refusal(&json!({ name: [1] }));
            assert!(message.contains(&format!("`{name}` must be")), "{message}");
        }
    }

    #[test]
    fn an_impossible_value_is_refused_by_name_with_the_repair() {
        for (table, expected) in [
            (json!({"timout": 1}), "unknown name `timout`; the names are absolute_timeout,"),
            (json!({"secret_key": "x"}), "wrangler secret put SECRET_KEY"),
            (
                json!({"timeout": [86400]}),
                "`timeout` must be a whole number of seconds, without quotes, and is [86400]",
            ),
            (json!({"timeout": "86400"}), "`timeout` must be a whole number of seconds"),
            (json!({"timeout": 1.5}), "`timeout` must be a whole number of seconds"),
            (json!({"timeout": -1}), "`timeout` must be a whole number of seconds"),
            (json!({"timeout": 0}), "`timeout` must be 1 to"),
            (json!({"timeout": u64::MAX}), "`timeout` must be 1 to"),
            (json!({"absolute_timeout": 0}), "`absolute_timeout` must be 1 to"),
            (json!({"timeout": 60, "touch_after": 60}), "`touch_after` must be less than `timeout`"),
            (json!({"samesite": "bogus"}), "`samesite` must be \"Strict\", \"Lax\" or \"None\", and is \"bogus\""),
            (json!({"samesite": "None", "secure": false}), "needs `secure = true`"),
            (json!({"store": "disk"}), "`store` must be \"kv\", \"d1\" or \"object\", and is \"disk\""),
            (json!({"httponly": "yes"}), "`httponly` must be true or false"),
            (json!({"cookie_name": ""}), "`cookie_name` must be"),
            (json!({"cookie_name": "a b"}), "`cookie_name` must be"),
            (json!({"cookie_name": "a=b"}), "`cookie_name` must be"),
            (json!({"cookie_name": "é"}), "`cookie_name` must be"),
            (json!({"cookie_name": "a".repeat(256)}), "`cookie_name` must be"),
            (json!({"cookie_path": ""}), "`cookie_path` must begin with /"),
            (json!({"cookie_path": "app"}), "`cookie_path` must begin with /"),
            (json!({"cookie_path": "/;Domain=x"}), "`cookie_path` must begin with /"),
            (json!({"cookie_path": "/\r\nX: y"}), "`cookie_path` must begin with /"),
            (json!({"cookie_domain": ""}), "`cookie_domain` must be a domain name"),
            (json!({"cookie_domain": "a..b"}), "`cookie_domain` must be a domain name"),
            (json!({"cookie_domain": "a;b"}), "`cookie_domain` must be a domain name"),
            (json!({"cookie_domain": "a_b.example.com"}), "`cookie_domain` must be a domain name"),
            (json!({"cookie_domain": "-a.example.com"}), "`cookie_domain` must be a domain name"),
            (json!({"cookie_domain": "a-.example.com"}), "`cookie_domain` must be a domain name"),
            (json!({"cookie_domain": "com"}), "none below which everybody has hosts"),
            (json!({"cookie_domain": ".Workers.dev"}), "none below which everybody has hosts"),
            (json!({"cookie_domain": "pages.dev"}), "none below which everybody has hosts"),
            (json!({"cookie_name": "__Host-sid", "cookie_path": "/app"}), "prefix __Host- needs"),
            (json!({"cookie_name": "__Host-sid", "cookie_domain": "example.com"}), "prefix __Host- needs"),
            (json!({"cookie_name": "__host-sid", "secure": false}), "prefix __Host- needs"),
            (json!({"cookie_name": "__Secure-sid", "secure": false}), "prefix __Secure- needs"),
            (json!({"cookie_name": "__Host-Http-x", "httponly": false}), "prefix __Host-Http- needs `httponly = true`"),
            (json!({"cookie_name": "__Host-Http-x", "cookie_path": "/app"}), "prefix __Host- needs"),
            (json!({"cookie_name": "__Http-x", "httponly": false}), "prefix __Http- needs `httponly = true`"),
            (json!({"cookie_name": "__http-x", "secure": false}), "prefix __Http- needs `secure = true`"),
            (json!({"trusted_origins": "https://a.example"}), "`trusted_origins` must be a list of origins"),
            (json!({"trusted_origins": [1]}), "`trusted_origins` must be a list of origins"),
            (json!({"trusted_origins": ["https://a.example", "null"]}), "`trusted_origins` has \"null\""),
            (json!({"trusted_origins": ["https://A.example"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://a.example/"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["*"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://*.a.example"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://a.example:443"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["http://a.example:80"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://a.example:"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://a.example:x"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://a.example:08"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://[::1"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://[::G]"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["https://[::z]"]}), "`trusted_origins` has"),
            (json!({"trusted_origins": ["web_app://a.example"]}), "`trusted_origins` has"),
            (json!({"max_sessions": 0}), "`max_sessions` must be at least 1"),
            (json!({"max_data": 0}), "`max_data` must be at least 1 byte"),
            (json!({"max_data": "1MB"}), "`max_data` must be a whole number of bytes"),
        ] {
            let message = refusal(&table);
            assert!(message.contains(expected), "{table}: {message}");
            assert!(names_the_parameters(&message), "{message}");
        }
        for text in ["", "[]", "null", "\"x\"", "{"] {
            let message = SessionParameters::from_json(text).unwrap_err().to_string();
            assert!(message.contains("must be a table"), "{text}: {message}");
        }
    }

    #[test]
    fn a_prefixed_name_with_what_it_demands_is_accepted() {
        assert!(read(&json!({"cookie_name": "__Host-sid"})).is_ok());
        assert!(read(&json!({"cookie_name": "__Secure-sid", "cookie_path": "/app"})).is_ok());
        assert!(read(&json!({"cookie_name": "__Host-Http-sid"})).is_ok());
        assert!(read(&json!({"cookie_name": "__Http-sid", "cookie_path": "/app"})).is_ok());
    }

    #[test]
    fn the_earlier_of_both_timeouts_ends_a_session() {
        let parameters = read(&json!({"timeout": 100, "absolute_timeout": 250})).unwrap();
        let record = record(1000, 1100);
        assert_eq!(parameters.expires_at(&record, 1000), 1100);
        assert_eq!(parameters.expires_at(&record, 1140), 1240);
        assert_eq!(parameters.expires_at(&record, 1200), 1250);
    }

    /// In the record's words: signed in a hundred seconds after it began.
    fn signed_in(lifetime: Option<u64>) -> Record {
        let handle = crate::SessionHandle::from_text("00112233445566ff").unwrap();
        let sign_in = sign_in::SignIn { user: "ada".to_owned(), at: 1100, lifetime, handle };
        record(1100, 9000).with(|record| sign_in.note_in(&mut record.extensions).unwrap())
    }

    #[test]
    fn after_a_sign_in_the_absolute_timeout_counts_from_it() {
        let parameters = read(&json!({"timeout": 100, "absolute_timeout": 250})).unwrap();
        assert_eq!(parameters.expires_at(&signed_in(None), 1300), 1350);
        assert_eq!(parameters.absolute_end(&signed_in(None)), Some(1350));
        assert_eq!(read(&json!({})).unwrap().absolute_end(&signed_in(None)), None);
    }

    #[test]
    fn one_that_is_for_so_long_ends_by_neither_timeout_and_its_use_is_noted() {
        for table in [json!({"timeout": 100, "absolute_timeout": 250}), json!({"timeout": 100})] {
            let (parameters, record) = (read(&table).unwrap(), signed_in(Some(1000)));
            assert_eq!(parameters.expires_at(&record, 1100), 2100);
            assert!(!parameters.has_expired(&record, 2099) && parameters.has_expired(&record, 2100));
            let due = (1100..3000).find(|&now| parameters.touch_is_due(&record, now, parameters.notes_use_after()));
            assert_eq!(due, Some(1110));
        }
    }

    fn record(touched_at: u64, expires_at: u64) -> Record {
        let text = format!("edge-session/1 1 0 1000 {touched_at} {expires_at} - 0 -\n{{}}");
        Record::from_text(&text).unwrap()
    }

    #[test]
    fn a_shortened_timeout_ends_sessions_stored_under_the_longer_one() {
        let record = record(1000, 1100);
        let with = |timeout| read(&json!({ "timeout": timeout })).unwrap();
        assert!(!with(100).has_expired(&record, 1099));
        assert!(with(100).has_expired(&record, 1100));
        assert!(with(50).has_expired(&record, 1050));
        assert!(with(500).has_expired(&record, 1100), "what the store may have deleted is over");
    }

    #[test]
    fn a_touch_is_due_when_it_lengthens_the_session_by_touch_after() {
        let due = |parameters: Value, record: &Record| -> Option<u64> {
            let parameters = read(&parameters).unwrap();
            (1000..2000).find(|&now| parameters.touch_is_due(record, now, parameters.notes_use_after()))
        };
        assert_eq!(due(json!({"timeout": 100}), &record(1000, 1100)), Some(1010));
        assert_eq!(due(json!({"timeout": 100, "touch_after": 0}), &record(1000, 1100)), Some(1001));
        assert_eq!(due(json!({"timeout": 1000}), &record(1000, 1100)), Some(1000), "timeout was raised: at once");
        assert_eq!(due(json!({"timeout": 100}), &record(1000, 9000)), Some(1010), "timeout was shortened");
        let absolute = json!({"timeout": 100, "absolute_timeout": 120, "touch_after": 15});
        assert_eq!(due(absolute.clone(), &record(1000, 1100)), Some(1015));
        assert_eq!(due(absolute, &record(1015, 1115)), None, "near its absolute end a touch gains too little");
    }

    proptest! {
        #[test]
        fn any_json_is_parameters_or_a_message(name in "[a-z_]{1,12}", text in "\\PC*", number: f64) {
            for value in [json!(text), json!(number), json!([text]), json!(null)] {
                if let Err(error) = read(&json!({ name.as_str(): value })) {
                    prop_assert!(names_the_parameters(&error.to_string()));
                }
            }
        }

        #[test]
        fn no_accepted_setting_can_end_its_attribute(path in "/\\PC{0,20}|/[ -~\r\n]{0,20}", domain in "[ -~]{0,12}") {
            if read(&json!({"cookie_path": path, "cookie_domain": domain})).is_ok() {
                prop_assert!(!path.contains([';', '\r', '\n']) && !domain.contains([';', '\r', '\n']));
            }
        }
    }
}
