use crate::{Error, RecordKey, Updated};

/// What a store keeps of one session.
///
/// The bookkeeping stands beside the visitor's data, never in it: a data field may be called
/// `session_id`, `ip` or `version` and means nothing to us (web.py's `session.clear` took a server
/// thread down).
///
/// All times are whole seconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// 1 when created, one more with each update. An update names the version that it replaces by
    /// carrying the next one.
    pub version: u64,
    /// Drawn for each write. A store that repeats a write whose answer was lost knows by it whether
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
    /// Where the session is now, if its id was changed: this record is only a sign to there.
    pub successor: Option<Successor>,
    /// The data, as JSON text.
    pub data: String,
}

/// What is left under the old id of a session whose [id was changed](crate::Session::cycle_id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Successor {
    /// The record under the new id.
    pub key: RecordKey,
    /// Until when the old id leads there.
    pub until: u64,
}

/// What an update comes to, as [`Record::update_to`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The new version is next: store it.
    Store,
    /// Nothing is to be stored, and this is the answer.
    Answer(Updated),
}

impl Record {
    /// What a store that holds `stored` has to do about an update to `next`.
    pub(crate) fn update_to(stored: Option<&Self>, next: &Self) -> Verdict {
        match stored {
            None => Verdict::Answer(Updated::Gone),
            Some(stored) if stored.version.checked_add(1) == Some(next.version) => Verdict::Store,
            Some(stored) if stored.is_same_write(next) => Verdict::Answer(Updated::Done),
            Some(_) => Verdict::Answer(Updated::Stale),
        }
    }

    /// Whether `stored` is what this write stored, the answer to which was lost.
    pub(crate) fn is_same_write(&self, other: &Self) -> bool {
        self.version == other.version && self.nonce == other.nonce
    }
}

/// The first word of the stored form. A later release may write another, and must read this one.
const FORMAT: &str = "edge-session/1";

/// Stands for what is not there.
const NONE: &str = "-";

impl Record {
    /// The record as text, for stores that keep a single value per session: a line with the
    /// bookkeeping, then the data as it is. The line has nine words: the format, `version`, `nonce`,
    /// `created_at`, `touched_at`, `expires_at`, the successor's key and end, and `ip`.
    ///
    /// No JSON around the JSON, so that a request parses the data once and nothing else.
    ///
    /// ```
    /// use edge_session::Record;
    ///
    /// let record = Record {
    ///     version: 1,
    ///     nonce: 7,
    ///     created_at: 1_764_000_000,
    ///     touched_at: 1_764_000_000,
    ///     expires_at: 1_764_086_400,
    ///     ip: None,
    ///     successor: None,
    ///     data: r#"{"count":1}"#.to_owned(),
    /// };
    /// let text = record.to_text();
    /// assert_eq!(text, "edge-session/1 1 7 1764000000 1764000000 1764086400 - 0 -\n{\"count\":1}");
    /// assert_eq!(Record::from_text(&text)?, record);
    /// # Ok::<(), edge_session::Error>(())
    /// ```
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { version, nonce, created_at, touched_at, expires_at, ip, successor, data } = self;
        let (key, until) = successor.as_ref().map_or((NONE, 0), |next| (next.key.as_str(), next.until));
        // An address has no blank. Something else that had one would match no visitor's; nor does none.
        let ip = ip.as_deref().filter(|ip| !ip.contains([' ', '\n']) && !ip.is_empty()).unwrap_or(NONE);
        format!("{FORMAT} {version} {nonce} {created_at} {touched_at} {expires_at} {key} {until} {ip}\n{data}")
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
        let record = Self {
            version: word()?.parse().ok()?,
            nonce: word()?.parse().ok()?,
            created_at: word()?.parse().ok()?,
            touched_at: word()?.parse().ok()?,
            expires_at: word()?.parse().ok()?,
            successor: match (word()?, word()?.parse().ok()?) {
                (NONE, _) => None,
                (key, until) => Some(Successor { key: RecordKey::from_stored(key)?, until }),
            },
            ip: word().filter(|ip| *ip != NONE).map(str::to_owned),
            data: data.to_owned(),
        };
        words.next().is_none().then_some(record)
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
                                   created_at: u64, touched_at: u64, expires_at: u64,
                                   ip in proptest::option::of("[0-9a-f:.]{1,40}"), data in "\\PC*|[ -~\n]*") {
            let successor = key.map(|key| Successor { key: RecordKey::from_stored(&key).unwrap(), until });
            let record = Record { version, nonce, created_at, touched_at, expires_at, ip, successor, data };
            prop_assert_eq!(Record::from_text(&record.to_text()).unwrap(), record);
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC*|edge-session/1[ -~\n]*") {
            let _ = Record::from_text(&text);
        }
    }
}
