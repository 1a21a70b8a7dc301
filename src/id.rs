use std::fmt;

use sha2::{Digest, Sha256};

use crate::{Error, Platform, hex};

/// The secret name of a session: 128 random bits, known to the visitor's cookie and to nobody else.
///
/// There are two ways to get one, and neither lets a visitor choose it: [`SessionId::random`], and
/// a cookie whose signature verified. Stores see its hash, the [`RecordKey`]; logs see nothing.
///
/// ```
/// use edge_session::{Platform, SessionId, TestPlatform};
///
/// let platform = TestPlatform::at(1_764_000_000);
/// let id = SessionId::random(&platform)?;
/// assert_eq!(format!("{id:?}"), "SessionId(…)");
/// # Ok::<(), edge_session::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// A new id from 128 bits of the platform's randomness (OWASP ASVS 5.0, 7.2.3).
    ///
    /// # Errors
    ///
    /// `Unavailable` when the platform has no random bytes to give.
    pub fn random(platform: &(impl Platform + ?Sized)) -> Result<Self, Error> {
        let mut bytes = [0; 16];
        platform.fill_random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The name under which stores keep this session.
    #[must_use]
    pub fn record_key(&self) -> RecordKey {
        RecordKey(hex::encode(&Sha256::digest(self.0)))
    }

    /// The id in a cookie's verified value: 32 lower-case hexadecimal digits.
    pub(crate) fn from_verified(text: &str) -> Option<Self> {
        hex::decode(text).map(Self)
    }

    /// The form for the cookie, and for nothing else.
    pub(crate) fn expose(&self) -> String {
        hex::encode(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SessionId(…)")
    }
}

/// What a store, an operator and a log may know of a session: the SHA-256 of its id.
///
/// 64 lower-case hexadecimal digits. A leaked table of these is no set of live logins, for the id
/// cannot be told from its hash. `Debug` shows the first eight digits, enough to match log lines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(String);

impl RecordKey {
    /// A key as it was [stored](Self::as_str), in a record's [`Successor`](crate::Successor); `None`
    /// when it is not 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        hex::decode::<32>(text).map(|_| Self(text.to_owned()))
    }

    /// The 64 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RecordKey({}…)", self.0.get(..8).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestPlatform;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_random_and_differ() {
        let platform = TestPlatform::at(0);
        let ids: HashSet<_> = (0..1000).map(|_| SessionId::random(&platform).unwrap().expose()).collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn a_record_key_is_the_sha_256_of_the_id() {
        let id = SessionId::from_verified("000102030405060708090a0b0c0d0e0f").unwrap();
        assert_eq!(id.record_key().as_str(), "be45cb2605bf36bebde684841a28f0fd43c69850a3dce5fedba69928ee3a8991");
    }

    #[test]
    fn debug_output_shows_no_secret() {
        let id = SessionId::from_verified("000102030405060708090a0b0c0d0e0f").unwrap();
        assert_eq!(format!("{id:?}"), "SessionId(…)");
        assert_eq!(format!("{:?}", id.record_key()), "RecordKey(be45cb26…)");
    }

    proptest! {
        #[test]
        fn only_32_lower_case_digits_are_an_id(text in "\\PC{0,40}|[0-9a-fA-F]{30,34}") {
            let well_formed = text.len() == 32
                && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            prop_assert_eq!(SessionId::from_verified(&text).is_some(), well_formed);
            if let Some(id) = SessionId::from_verified(&text) {
                prop_assert_eq!(id.expose(), text);
            }
        }
    }
}
