use crate::{Error, ErrorKind, RecordKey, Updated};

/// What a store keeps of one session.
///
/// The bookkeeping stands beside the visitor's data, never in it: a data field may be called
/// `session_id`, `ip` or `version` and means nothing to us (web.py's `session.clear` took a server
/// thread down).
///
/// All times are whole seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// 1 when created, one more with each update. An update names the version that it replaces by
    /// carrying the next one.
    pub version: u64,
    /// Random, for each write. A store that repeats a write after a lost answer knows by it whether
    /// the stored version is its own or another's.
    pub nonce: u32,
    /// When the session began.
    pub created_at: u64,
    /// When its use was last noted; at most once per `touch_after`, so not each use.
    pub touched_at: u64,
    /// When it ends unless it is used again: what a store may delete by.
    pub expires_at: u64,
    /// The creator's address, if sessions are bound to it (`ignore_change_ip = false`).
    pub ip: Option<String>,
    /// Where the session went, if its id was changed: this record is retired. It holds no data any more, but for a first sign-in,
    /// whose visitor may send it twice: what was there before it, for a day at the most.
    pub successor: Option<Successor>,
    /// Notes of other releases, or of the store.
    pub extensions: Extensions,
    /// The data, as JSON text.
    pub data: String,
}

/// What is left under the old id of a session whose [id was changed](crate::Session::cycle_id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// The record under the new id. Nobody is given it who comes with the old one: a logout follows to it, and a look whether
    /// it is still there.
    pub key: RecordKey,
    /// Until when the old id is a straggler's rather than a thief's.
    pub until: u64,
}

impl Record {
    /// The first version of a session that begins and ends at these times, for tests of stores of your own. Set the
    /// other fields by [`with`](Self::with).
    #[must_use]
    pub fn new(created_at: u64, expires_at: u64, data: impl Into<String>) -> Self {
        Self {
            version: 1,
            nonce: 0,
            created_at,
            touched_at: created_at,
            expires_at,
            ip: None,
            successor: None,
            extensions: Extensions::default(),
            data: data.into(),
        }
    }

    /// This record with a change.
    ///
    /// ```
    /// use edge_session::Record;
    ///
    /// let record = Record::new(1_764_000_000, 1_764_086_400, r#"{"count":1}"#);
    /// let next = record.clone().with(|next| next.version += 1);
    /// assert_eq!((record.version, next.version), (1, 2));
    /// ```
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// What an update to `next` comes to, where a store holds `stored`. `Done` is to be stored, as
    /// [`replaced_by`](Self::replaced_by) says; if it is there already, that changes nothing.
    pub(crate) fn update_to(stored: Option<&Self>, next: &Self) -> Updated {
        match stored {
            None => Updated::Gone,
            Some(stored) if stored.version.checked_add(1) == Some(next.version) => Updated::Done,
            Some(stored) if stored.is_same_write(next) => Updated::Done,
            Some(stored) => Updated::Stale(Some(Box::new(stored.clone()))),
        }
    }

    /// What is to be stored where `next` replaces this: an update takes no later touch back. What is retired ends when it says.
    pub(crate) fn replaced_by(&self, next: &Self) -> Self {
        if next.successor.is_some() { next.clone() } else { self.touch(next.clone()) }
    }

    /// This record with the touch of another.
    pub(crate) fn touched_by(&self, touch: &Self) -> Self {
        touch.touch(self.clone())
    }

    /// Another record with the touch of this. Both times only go forward: releases with different timeouts may answer side
    /// by side.
    fn touch(&self, other: Self) -> Self {
        Self {
            touched_at: other.touched_at.max(self.touched_at),
            expires_at: other.expires_at.max(self.expires_at),
            ..other
        }
    }

    /// Whether `stored` is what this write stored, the answer to which was lost.
    pub(crate) fn is_same_write(&self, other: &Self) -> bool {
        self.version == other.version && self.nonce == other.nonce
    }
}

/// Words that a record carries beside its bookkeeping, `name=value`: notes of a later release, or of a store.
/// A release that does not know a name keeps it and writes it back.
///
/// A name is lower-case letters, digits, `_` and `-`, and begins with a letter. A value is printable ASCII without
/// blanks, and not empty.
///
/// ```
/// use edge_session::Extensions;
///
/// let mut extensions = Extensions::from_text("owner=7 theme=dark")?;
/// extensions.set("theme", "light")?;
/// assert_eq!(extensions.get("owner"), Some("7"));
/// assert_eq!(extensions.to_text(), "owner=7 theme=light");
/// # Ok::<(), edge_session::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions(Vec<(String, String)>);

impl Extensions {
    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(its, _)| its == name).map(|(_, value)| value.as_str())
    }

    /// Gives `name` a value in place of the one that it had.
    ///
    /// # Errors
    ///
    /// `Unserializable` when the name or the value is not of the form above.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if !is_name(name) || !is_value(value) {
            return Err(Error::new(
                ErrorKind::Unserializable,
                "an extension's name or value is not of the documented form",
            ));
        }
        match self.0.iter_mut().find(|(its, _)| its == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
        Ok(())
    }

    /// Takes `name` away, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(its, _)| its != name);
    }

    /// Nothing noted?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All words, with a blank between two.
    #[must_use]
    pub fn to_text(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        words.join(" ")
    }

    /// Reads what [`to_text`](Self::to_text) wrote. An empty text is no words, and not an error.
    ///
    /// # Errors
    ///
    /// `Unreadable` for a word that is not of the form above, or a name that stands there twice.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        Self::of(text.split(' ').filter(|_| !text.is_empty()))
            .ok_or_else(|| Error::unreadable("a record's extensions are not of the documented form"))
    }

    fn of<'a>(words: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut extensions = Self::default();
        for word in words {
            let (name, value) = word.split_once('=')?;
            if extensions.get(name).is_some() {
                return None;
            }
            extensions.set(name, value).ok()?;
        }
        Some(extensions)
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte))
}

fn is_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The first word of the stored form. A later release may write another, and must read this one.
const FORMAT: &str = "edge-session/1";

/// Stands for what is not there.
const NONE: &str = "-";

impl Record {
    /// The record as text, for stores that keep a single value per session: a line with the
    /// bookkeeping, then the data as it is. The line has nine words: the format, `version`, `nonce`,
    /// `created_at`, `touched_at`, `expires_at`, the successor's key and end, and `ip`. After them stand the
    /// [extensions](Extensions), as `name=value`.
    ///
    /// No JSON around the JSON, so that a request parses the data once and nothing else.
    ///
    /// ```
    /// use edge_session::Record;
    ///
    /// let record = Record::new(1_764_000_000, 1_764_086_400, r#"{"count":1}"#).with(|record| record.nonce = 7);
    /// let text = record.to_text();
    /// assert_eq!(text, "edge-session/1 1 7 1764000000 1764000000 1764086400 - 0 -\n{\"count\":1}");
    /// assert_eq!(Record::from_text(&text)?, record);
    /// # Ok::<(), edge_session::Error>(())
    /// ```
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { version, nonce, created_at, touched_at, expires_at, ip, successor, extensions, data } = self;
        let (key, until) = successor.as_ref().map_or((NONE, 0), |next| (next.key.as_str(), next.until));
        // An address has no blank. Something else that had one would match no visitor's; nor does none.
        let ip = ip.as_deref().filter(|ip| !ip.contains([' ', '\n']) && !ip.is_empty()).unwrap_or(NONE);
        let mut line = format!("{FORMAT} {version} {nonce} {created_at} {touched_at} {expires_at} {key} {until} {ip}");
        if !extensions.is_empty() {
            line.push(' ');
            line += &extensions.to_text();
        }
        line.push('\n');
        line + data
    }

    /// Reads what [`Record::to_text`] wrote.
    ///
    /// # Errors
    ///
    /// `Unreadable` when it is anything else: cut short, a pickle, or of a format that this release
    /// does not know. Whether the data is JSON shows when it is read.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        Self::parse(text).ok_or_else(|| Error::unreadable("not a session record that this release knows"))
    }

    fn parse(text: &str) -> Option<Self> {
        let (line, data) = text.split_once('\n')?;
        let mut words = line.split(' ');
        if words.next() != Some(FORMAT) {
            return None;
        }
        let mut word = || words.next();
        Some(Self {
            version: word()?.parse().ok()?,
            nonce: word()?.parse().ok()?,
            created_at: word()?.parse().ok()?,
            touched_at: word()?.parse().ok()?,
            expires_at: word()?.parse().ok()?,
            successor: match (word()?, word()?.parse().ok()?) {
                (NONE, _) => None,
                (key, until) => Some(Successor { key: RecordKey::from_stored(key)?, until }),
            },
            ip: Some(word()?).filter(|ip| *ip != NONE).map(str::to_owned),
            extensions: Extensions::of(words)?,
            data: data.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    const KEY: &str = "be45cb2605bf36bebde684841a28f0fd43c69850a3dce5fedba69928ee3a8991";

    #[test]
    fn the_stored_form_is_pinned() {
        let text = "edge-session/1 7 5 1 2 3 - 0 192.0.2.1\n{\"a\":[1,\"é\"]}";
        let record = Record {
            version: 7,
            nonce: 5,
            created_at: 1,
            touched_at: 2,
            expires_at: 3,
            ip: Some("192.0.2.1".to_owned()),
            successor: None,
            extensions: Extensions::default(),
            data: r#"{"a":[1,"é"]}"#.to_owned(),
        };
        assert_eq!(record.to_text(), text);
        assert_eq!(Record::from_text(text).unwrap(), record);
    }

    #[test]
    fn a_retired_record_is_pinned_too() {
        let text = format!("edge-session/1 2 5 1 2 3 {KEY} 12 -\nnull");
        let record = Record::from_text(&text).unwrap();
        assert_eq!(record.successor, Some(Successor { key: RecordKey::from_stored(KEY).unwrap(), until: 12 }));
        assert_eq!(record.to_text(), text);
    }

    #[test]
    fn words_that_this_release_does_not_know_are_kept_and_written_back() {
        let text = "edge-session/1 2 5 1 2 3 - 0 - owner=7 later-word=a:1,b=2\n{}";
        let record = Record::from_text(text).unwrap();
        assert_eq!((record.extensions.get("owner"), record.extensions.get("later-word")), (Some("7"), Some("a:1,b=2")));
        assert_eq!(record.to_text(), text);
        let next = Record { version: 3, ..record.clone() };
        assert_eq!(record.replaced_by(&next).extensions, record.extensions);
    }

    #[test]
    fn an_extension_that_would_break_the_line_is_refused() {
        let mut extensions = Extensions::default();
        for (name, value) in [("a", "b c"), ("a", "b\nc"), ("a", ""), ("a b", "c"), ("", "c"), ("A", "c"), ("a=", "c")]
        {
            assert_eq!(extensions.set(name, value).unwrap_err().kind(), ErrorKind::Unserializable, "{name} {value}");
        }
        assert!(extensions.is_empty());
        extensions.set("a", "b=c").unwrap();
        extensions.set("a", "d").unwrap();
        assert_eq!(extensions.to_text(), "a=d");
        extensions.remove("a");
        assert_eq!(extensions, Extensions::from_text("").unwrap());
    }

    #[test]
    fn an_update_takes_no_later_touch_back() {
        let stored = Record::from_text("edge-session/1 1 5 1 20 30 - 0 -\n{}").unwrap();
        let next = |touched_at, expires_at| Record { version: 2, touched_at, expires_at, ..stored.clone() };
        let times = |record: Record| (record.version, record.touched_at, record.expires_at);
        assert_eq!(times(stored.replaced_by(&next(15, 25))), (2, 20, 30));
        assert_eq!(times(stored.replaced_by(&next(20, 90))), (2, 20, 90));
        assert_eq!(times(stored.replaced_by(&next(21, 25))), (2, 21, 30), "nor time away");
    }

    #[test]
    fn anything_else_is_unreadable_and_never_a_panic() {
        let good = "edge-session/1 1 1 1 1 2 - 0 -\n{}";
        assert!(Record::from_text(good).is_ok());
        let pickle = "gASVZwAAAAAAAAB9lCiMCnNlc3Npb25faWSU\nMjFhMjc2\n";
        for text in [
            "",
            " ",
            "\n",
            "null",
            "{}",
            "{\"count\":1}",
            pickle,
            &good[..10],
            &good[..good.len() - 4],
            &good.replace("/1", "/2"),
            &good.replace("/1 1", "/1 -1"),
            &good.replace("/1 1", "/1 1.5"),
            &good.replace("/1 1", "/1  1"),
            &good.replace("/1 1 1", "/1 1 4294967296"),
            &good.replace("- 0", "be45 0"),
            &good.replace("- 0", "- x"),
            &good.replace("0 -", "0 - -"),
            &good.replace("0 -", "0"),
            &good.replace("0 -", "0 - a=1 a=2"),
            &good.replace("0 -", "0 -  a=1"),
            &good.replace("0 -", "0 - a="),
            &good.replace("0 -", "0 - =a"),
        ] {
            let error = Record::from_text(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unreadable, "{text}");
        }
    }

    #[test]
    fn data_cannot_pass_for_bookkeeping() {
        let data = "x\nedge-session/1 9 9 9 9 9 - 0 -\n{}";
        let text = format!("edge-session/1 1 1 1 1 2 - 0 -\n{data}");
        let record = Record::from_text(&text).unwrap();
        assert_eq!((record.version, record.data.as_str()), (1, data));
    }

    #[test]
    fn an_address_that_is_none_is_not_stored() {
        let record = Record::from_text("edge-session/1 1 1 1 1 2 - 0 -\n{}").unwrap();
        for ip in ["", "a b", "a\nb", "-"] {
            let text = Record { ip: Some(ip.to_owned()), ..record.clone() }.to_text();
            assert_eq!(Record::from_text(&text).unwrap().ip, None, "{ip:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(version: u64, nonce: u32, until: u64, key in proptest::option::of("[0-9a-f]{64}"),
                                   created_at: u64, touched_at: u64, expires_at: u64, words in "(|[a-z][a-z0-9_-]{0,5}=[!-~]{1,9})",
                                   ip in proptest::option::of("[0-9a-f:.]{1,40}"), data in "\\PC*|[ -~\n]*") {
            let successor = key.map(|key| Successor { key: RecordKey::from_stored(&key).unwrap(), until });
            let extensions = Extensions::from_text(&words).unwrap();
            let record = Record { version, nonce, created_at, touched_at, expires_at, ip, successor, extensions, data };
            prop_assert_eq!(Record::from_text(&record.to_text()).unwrap(), record);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*|edge-session/1[ -~\n]*") {
            let _ = Record::from_text(&text);
        }
    }
}
