use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::Error;

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
    /// When the session began.
    pub created_at: u64,
    /// When its use was last noted; at most once per `touch_after`, so not each use.
    pub touched_at: u64,
    /// When it ends unless it is used again: what a store may delete by.
    pub expires_at: u64,
    /// The creator's address, if sessions are bound to it (`ignore_change_ip = false`).
    pub ip: Option<String>,
    /// The data, as JSON text.
    pub data: String,
}

/// The stored form, as one JSON object. A change to it is never a patch release.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    format: u8,
    version: u64,
    created_at: u64,
    touched_at: u64,
    expires_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
    /// Borrowed, so that the data is never parsed on its way to or from the store.
    #[serde(borrow)]
    data: &'a RawValue,
}

/// The number of this stored form. A later release may write others, and must read this one.
const FORMAT: u8 = 1;

impl Record {
    /// The record as one line of JSON, for stores that keep a single text per session.
    ///
    /// ```
    /// use edge_session::Record;
    ///
    /// let record = Record {
    ///     version: 1,
    ///     created_at: 1_764_000_000,
    ///     touched_at: 1_764_000_000,
    ///     expires_at: 1_764_086_400,
    ///     ip: None,
    ///     data: r#"{"count":1}"#.to_owned(),
    /// };
    /// let text = record.to_text()?;
    /// assert_eq!(
    ///     text,
    ///     r#"{"format":1,"version":1,"created_at":1764000000,"touched_at":1764000000,"expires_at":1764086400,"data":{"count":1}}"#
    /// );
    /// assert_eq!(Record::from_text(&text)?, record);
    /// # Ok::<(), edge_session::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `Unreadable` when the data is no JSON; data that a [`Session`](crate::Session) wrote always is.
    pub fn to_text(&self) -> Result<String, Error> {
        let data: &RawValue = serde_json::from_str(&self.data)
            .map_err(|error| Error::unreadable(format_args!("the data is no JSON: {error}")))?;
        serde_json::to_string(&Stored {
            format: FORMAT,
            version: self.version,
            created_at: self.created_at,
            touched_at: self.touched_at,
            expires_at: self.expires_at,
            ip: self.ip.clone(),
            data,
        })
        .map_err(|error| Error::unreadable(format_args!("the record has no JSON form: {error}")))
    }

    /// Reads what [`Record::to_text`] wrote. Fields that a later release added are passed over.
    ///
    /// # Errors
    ///
    /// `Unreadable` when it is anything else: cut short, not JSON (a pickle, say), or of a format
    /// that this release does not know.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let stored: Stored<'_> = serde_json::from_str(text)
            .map_err(|error| Error::unreadable(format_args!("no session record: {error}")))?;
        if stored.format != FORMAT {
            let format = stored.format;
            return Err(Error::unreadable(format_args!("a record of the unknown format {format}")));
        }
        Ok(Self {
            version: stored.version,
            created_at: stored.created_at,
            touched_at: stored.touched_at,
            expires_at: stored.expires_at,
            ip: stored.ip,
            data: stored.data.get().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn the_stored_form_is_pinned() {
        let text = r#"{"format":1,"version":7,"created_at":1,"touched_at":2,"expires_at":3,"ip":"192.0.2.1","data":{"a":[1,"é"]}}"#;
        let record = Record {
            version: 7,
            created_at: 1,
            touched_at: 2,
            expires_at: 3,
            ip: Some("192.0.2.1".to_owned()),
            data: r#"{"a":[1,"é"]}"#.to_owned(),
        };
        assert_eq!(record.to_text().unwrap(), text);
        assert_eq!(Record::from_text(text).unwrap(), record);
    }

    #[test]
    fn a_field_of_a_later_release_is_passed_over() {
        let text = r#"{"format":1,"version":1,"created_at":1,"touched_at":1,"expires_at":2,"data":{},"later":[1]}"#;
        assert_eq!(Record::from_text(text).unwrap().data, "{}");
    }

    #[test]
    fn anything_else_is_unreadable_and_never_a_panic() {
        let good = r#"{"format":1,"version":1,"created_at":1,"touched_at":1,"expires_at":2,"data":{}}"#;
        let future = good.replace("\"format\":1", "\"format\":2");
        let negative = good.replace("\"version\":1", "\"version\":-1");
        let pickle = "gASVZwAAAAAAAAB9lCiMCnNlc3Npb25faWSU";
        for text in ["", " ", "null", "[]", "{}", "{\"format\":1}", &good[..40], pickle, &future, &negative] {
            let error = Record::from_text(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unreadable, "{text}");
        }
    }

    #[test]
    fn data_that_is_no_json_is_refused_before_it_is_stored() {
        let record = Record {
            version: 1,
            created_at: 1,
            touched_at: 1,
            expires_at: 2,
            ip: None,
            data: "{\"count\":1},\"version\":9".to_owned(),
        };
        assert_eq!(record.to_text().unwrap_err().kind(), ErrorKind::Unreadable);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(version: u64, created_at: u64, touched_at: u64, expires_at: u64,
                                   ip in proptest::option::of("\\PC{0,20}"), word in "\\PC*") {
            let data = serde_json::to_string(&[word]).unwrap();
            let record = Record { version, created_at, touched_at, expires_at, ip, data };
            prop_assert_eq!(Record::from_text(&record.to_text().unwrap()).unwrap(), record);
        }
    }
}
