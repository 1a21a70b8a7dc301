//! Whose session it is, since a sign-in: what a record notes of it.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Extensions, Platform, Record, hex};

/// A user's name may have so many bytes: any text by which your application knows them.
const LONGEST_USER: usize = 256;

/// And what it says of a session, for its user to know it by.
const LONGEST_LABEL: usize = 128;

/// The [extensions](Extensions) of a record that note it. A release that does not know them writes them back, so that the
/// session stays its user's.
const USER: &str = "user";
const KEY: &str = "owner";
const HANDLE: &str = "handle";
const TIME: &str = "signed-in";
const LIFETIME: &str = "lifetime";
const LABEL: &str = "label";

/// A sign-in: to whom the session belongs, since when, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignIn {
    pub(crate) user: String,
    /// In seconds since 1970 UTC.
    pub(crate) at: u64,
    /// For how many seconds it lasts, used or not, if that was said.
    pub(crate) lifetime: Option<u64>,
    pub(crate) handle: SessionHandle,
}

impl SignIn {
    /// The one that a record notes.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let words = &record.extensions;
        Some(Self {
            user: unescaped(words.get(USER)?)?,
            at: time_of(record)?,
            lifetime: words.get(LIFETIME).and_then(|seconds| seconds.parse().ok()),
            handle: SessionHandle::from_text(words.get(HANDLE)?)?,
        })
    }

    /// Whether a record notes any, also one in words that this release does not read.
    pub(crate) fn is_noted_in(record: &Record) -> bool {
        record.extensions.get(KEY).is_some()
    }

    /// Notes it, in place of the one before.
    pub(crate) fn note_in(&self, words: &mut Extensions) -> Result<(), Error> {
        let Self { user, at, lifetime, handle } = self;
        words.set(USER, &escaped(user))?;
        words.set(KEY, UserKey::of(user).as_str())?;
        words.set(HANDLE, handle.as_str())?;
        words.set(TIME, &at.to_string())?;
        match lifetime {
            Some(seconds) => words.set(LIFETIME, &seconds.to_string()),
            None => {
                words.remove(LIFETIME);
                Ok(())
            }
        }
    }

    /// A name as it may be a user's.
    ///
    /// # Errors
    ///
    /// `Unserializable` for one that is empty or too long.
    pub(crate) fn check(user: &str) -> Result<(), Error> {
        if (1..=LONGEST_USER).contains(&user.len()) {
            return Ok(());
        }
        let message = format_args!("a user's name must have 1 to {LONGEST_USER} bytes, and has {}", user.len());
        Err(Error::new(ErrorKind::Unserializable, message))
    }
}

/// When its user was signed in, in seconds since 1970 UTC.
pub(crate) fn time_of(record: &Record) -> Option<u64> {
    record.extensions.get(TIME)?.parse().ok()
}

/// When it ends, used or not, if it was said at the sign-in for how long it lasts.
pub(crate) fn end_of(record: &Record) -> Option<u64> {
    let lifetime: u64 = record.extensions.get(LIFETIME)?.parse().ok()?;
    Some(time_of(record)?.saturating_add(lifetime))
}

/// No browser keeps a cookie for longer, in seconds: 400 days (RFC 6265bis, section 5.5).
pub(crate) const LONGEST_COOKIE: u64 = 400 * 24 * 60 * 60;

/// Whether a session lasts for longer than a browser keeps its cookie, if that is not sent again.
pub(crate) fn outlives_a_cookie(record: &Record) -> bool {
    end_of(record).zip(time_of(record)).is_some_and(|(end, begin)| end.saturating_sub(begin) > LONGEST_COOKIE)
}

/// What the application has called a session.
#[cfg(any(feature = "users", test))]
pub(crate) fn label_of(record: &Record) -> Option<String> {
    unescaped(record.extensions.get(LABEL)?)
}

/// Calls it so, as far as there is room: a label may be made of what a browser says of itself.
pub(crate) fn set_label(words: &mut Extensions, label: &str) -> Result<(), Error> {
    let end = (0..=LONGEST_LABEL.min(label.len())).rev().find(|end| label.is_char_boundary(*end)).unwrap_or_default();
    match label.get(..end).filter(|label| !label.is_empty()) {
        Some(label) => words.set(LABEL, &escaped(label)),
        None => {
            words.remove(LABEL);
            Ok(())
        }
    }
}

/// What a store may know of a user: the SHA-256 of the name, under a label of its own.
///
/// It is not keyed, so that a new `SECRET_KEY` hides no session from its user. Nor is it a secret: whoever reads a store reads
/// the name in the session's record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey(String);

impl UserKey {
    /// Of the user with this name.
    #[must_use]
    pub fn of(user: &str) -> Self {
        Self(hex::encode(&Sha256::new().chain_update("edge-session user\0").chain_update(user).finalize()))
    }

    /// A key as it was [stored](Self::as_str); `None` when it is not 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        hex::decode::<32>(text).map(|_| Self(text.to_owned()))
    }

    /// Whose session a record is, if anybody's.
    #[must_use]
    pub fn of_record(record: &Record) -> Option<Self> {
        Self::from_stored(record.extensions.get(KEY)?)
    }

    /// 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "UserKey({}…)", self.0.get(..8).unwrap_or_default())
    }
}

/// What one of a user's sessions is called where it is listed: no secret, and of no use as a cookie. It stays when the
/// session's id is changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionHandle(String);

impl SessionHandle {
    /// A new one, of 64 random bits.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the platform has no random bytes to give.
    pub fn random(platform: &(impl Platform + ?Sized)) -> Result<Self, Error> {
        let mut bytes = [0; 8];
        platform.fill_random(&mut bytes)?;
        Ok(Self(hex::encode(&bytes)))
    }

    /// One as a form or a link has it; `None` if it is none.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        hex::decode::<8>(text).map(|_| Self(text.to_owned()))
    }

    /// Of the session in a record, if it is somebody's.
    #[must_use]
    pub fn of_record(record: &Record) -> Option<Self> {
        Self::from_text(record.extensions.get(HANDLE)?)
    }

    /// 16 lower-case hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionHandle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The text as an extension's value: what is not printable ASCII is `%` and two digits, and so is `%`.
fn escaped(text: &str) -> String {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            value.push(char::from(byte));
        } else {
            value.push('%');
            value += &hex::encode(&[byte]);
        }
    }
    value
}

fn unescaped(value: &str) -> Option<String> {
    let mut parts = value.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.extend(hex::decode::<1>(digits)?);
        bytes.extend(rest.bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestPlatform;
    use proptest::prelude::*;

    fn sign_in(user: &str, lifetime: Option<u64>) -> SignIn {
        let handle = SessionHandle::random(&TestPlatform::at(0)).unwrap();
        SignIn { user: user.to_owned(), at: 1_764_000_000, lifetime, handle }
    }

    #[test]
    fn the_noted_form_is_pinned() {
        let handle = SessionHandle::from_text("00112233445566ff").unwrap();
        let mut record = Record::new(0, 0, "{}");
        let signed_in = SignIn { handle, ..sign_in("Zoë Doe@example.com", Some(60)) };
        signed_in.note_in(&mut record.extensions).unwrap();
        set_label(&mut record.extensions, "Firefox, 50 %").unwrap();
        assert_eq!(
            record.extensions.to_text(),
            "user=Zo%c3%ab%20Doe@example.com owner=4dd9f6befd7fb12d169d3645577f498f205e1e71b56152d56bd6e7fbb25b0545 \
             handle=00112233445566ff signed-in=1764000000 lifetime=60 label=Firefox,%2050%20%25"
        );
        assert_eq!(SignIn::of(&record), Some(signed_in));
        assert_eq!(label_of(&record).as_deref(), Some("Firefox, 50 %"));
        assert_eq!(UserKey::of_record(&record), Some(UserKey::of("Zoë Doe@example.com")));
    }

    #[test]
    fn a_later_sign_in_takes_the_place_of_an_earlier_one() {
        let mut record = Record::new(0, 0, "{}");
        sign_in("ada", Some(60)).note_in(&mut record.extensions).unwrap();
        let later = sign_in("grace", None);
        later.note_in(&mut record.extensions).unwrap();
        assert_eq!(SignIn::of(&record), Some(later));
    }

    #[test]
    fn a_user_has_a_name_of_256_bytes_at_most() {
        assert!(SignIn::check("a").is_ok() && SignIn::check(&"é".repeat(128)).is_ok());
        for user in ["", &"é".repeat(129)] {
            assert_eq!(SignIn::check(user).unwrap_err().kind(), ErrorKind::Unserializable);
        }
    }

    #[test]
    fn a_long_label_is_cut_between_two_characters() {
        let mut record = Record::new(0, 0, "{}");
        set_label(&mut record.extensions, &"é".repeat(100)).unwrap();
        assert_eq!(label_of(&record), Some("é".repeat(64)));
        set_label(&mut record.extensions, "").unwrap();
        assert_eq!(label_of(&record), None);
    }

    #[test]
    fn users_of_other_names_have_other_keys() {
        assert_ne!(UserKey::of("ada"), UserKey::of("Ada"));
        assert_eq!(UserKey::of("ada").as_str(), "87b1319fe9d14135103ff1a2d00e4784258aa2d6b719e7f891f91fcaa9d5079d");
    }

    proptest! {
        #[test]
        fn what_is_noted_is_read(user in "\\PC{1,60}|[ -~\n\0]{1,60}", at: u64, lifetime: Option<u64>) {
            let mut record = Record::new(0, 0, "{}");
            let noted = SignIn { at, ..sign_in(&user, lifetime) };
            noted.note_in(&mut record.extensions).unwrap();
            let again = Record::from_text(&record.to_text()).unwrap();
            prop_assert_eq!(SignIn::of(&again), Some(noted));
        }

        #[test]
        fn any_value_is_read_without_a_panic(value in "[!-~]{1,40}") {
            let _ = unescaped(&value);
        }
    }
}
