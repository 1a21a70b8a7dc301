use std::cell::OnceCell;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::{Error, hex};

/// Signs cookie values, and verifies what visitors send back: HMAC-SHA-256 (RFC 2104).
///
/// The first key signs, every key verifies. To rotate, deploy three times: `old,new`, so that every version that
/// answers knows the new key; then `new,old`, so that the new key signs cookies again as visitors use their sessions;
/// and, when `timeout` has passed, and the longest lifetime of a [`sign_in_for`](crate::Session::sign_in_for), `new`. Nobody is
/// logged out.
///
/// ```
/// use edge_session::Signer;
///
/// let old = Signer::from_secret("0123456789abcdef0123456789abcdef")?;
/// let new = Signer::from_secret("fedcba9876543210fedcba9876543210,0123456789abcdef0123456789abcdef")?;
/// let signed = old.sign("id", "value");
/// assert_eq!(new.verify("id", &signed), Some("value"));
/// assert_eq!(new.verify("another cookie", &signed), None);
/// # Ok::<(), edge_session::Error>(())
/// ```
#[derive(Clone)]
pub struct Signer {
    /// Each key's schedule is made once and cloned for each message.
    signing: Hmac<Sha256>,
    retired: Vec<Hmac<Sha256>>,
    /// What seals, derived of each, when it is first asked for.
    pub(crate) derived: OnceCell<Vec<[u8; 32]>>,
}

/// The least length of a key in bytes: that of the hash (RFC 2104, section 3).
const KEY_BYTES: usize = 32;

/// Keys that stand in public documents. web.py's cookbook prints this one, and people copy it.
const PUBLISHED_KEYS: [&str; 1] = ["fLjUfxqXtfNoIldA0A0J"];

/// The commands that repair any refused key, in a deployment and on a developer's machine.
const REPAIR: &str = "make a new one with `openssl rand -hex 32 | npx wrangler secret put SECRET_KEY` \
     for the deployed Worker, or put what `openssl rand -hex 32` prints behind `SECRET_KEY=` in .dev.vars locally";

impl Signer {
    /// Keys from the secret's text: one, or several separated by commas, the one that signs first.
    ///
    /// Blanks around a key do not count.
    ///
    /// # Errors
    ///
    /// `Misconfigured` for an empty key, one under 32 bytes, or one that has been published. The
    /// message names the command that repairs it.
    pub fn from_secret(secret: &str) -> Result<Self, Error> {
        let mut keys = secret.split(',').map(str::trim_ascii).zip(1..).map(|(key, position)| {
            let refuse = |reason: fmt::Arguments<'_>| {
                Error::misconfigured(format_args!("SECRET_KEY: key {position} {reason}; {REPAIR}"))
            };
            if PUBLISHED_KEYS.contains(&key) {
                return Err(refuse(format_args!(
                    "is published in web.py's cookbook, so that anybody could sign with it"
                )));
            }
            if key.len() < KEY_BYTES {
                let length = key.len();
                return Err(refuse(format_args!("has {length} bytes, fewer than {KEY_BYTES}")));
            }
            Hmac::new_from_slice(key.as_bytes()).map_err(|error| refuse(format_args!("is no key: {error}")))
        });
        let signing = keys.next().unwrap_or_else(|| Err(Self::missing()))?;
        Ok(Self { signing, retired: keys.collect::<Result<_, _>>()?, derived: OnceCell::new() })
    }

    /// What to say when the secret is bound as an object, whose text is there only later.
    #[cfg(feature = "worker")]
    pub(crate) fn bound_as_an_object() -> Error {
        Error::misconfigured(format_args!(
            "SECRET_KEY is bound as an object, as a secret of the Secrets Store is, and must be a plain secret; {REPAIR}"
        ))
    }

    /// What to say when there is no secret at all.
    pub(crate) fn missing() -> Error {
        Error::misconfigured(format_args!("SECRET_KEY is missing; {REPAIR}"))
    }

    /// `value.mac`: the value, and the first key's signature of the cookie's name with it.
    ///
    /// The name is signed too, so that one cookie's value is worth nothing in another.
    #[must_use]
    pub fn sign(&self, name: &str, value: &str) -> String {
        let mac = message(&self.signing, name, value).finalize().into_bytes();
        format!("{value}.{}", hex::encode(&mac))
    }

    /// The value in `value.mac`, if a key of ours signed it for the cookie `name`.
    ///
    /// The comparison takes the same time wherever the difference is.
    #[must_use]
    pub fn verify<'a>(&self, name: &str, signed: &'a str) -> Option<&'a str> {
        self.verify_by(name, signed).map(|(value, _)| value)
    }

    /// The same, and whether it was the key that signs now, rather than one that is being retired.
    pub(crate) fn verify_by<'a>(&self, name: &str, signed: &'a str) -> Option<(&'a str, bool)> {
        let (value, mac) = signed.rsplit_once('.')?;
        let mac = hex::decode::<32>(mac)?;
        let made_it = |key: &Hmac<Sha256>| message(key, name, value).verify_slice(&mac).is_ok();
        if made_it(&self.signing) {
            return Some((value, true));
        }
        self.retired.iter().any(made_it).then_some((value, false))
    }
}

impl Signer {
    /// The key that signs, then those that only verify.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Hmac<Sha256>> {
        std::iter::once(&self.signing).chain(&self.retired)
    }

    /// These parts under one of the [keys](Self::keys).
    pub(crate) fn hash(&self, key: &Hmac<Sha256>, parts: &[&[u8]]) -> [u8; 32] {
        parts.iter().fold(key.clone(), |hash, part| hash.chain_update(part)).finalize().into_bytes().into()
    }
}

/// `name=value` under `key`. A cookie's name holds no `=`, so no two pairs give the same message.
fn message(key: &Hmac<Sha256>, name: &str, value: &str) -> Hmac<Sha256> {
    key.clone().chain_update(name).chain_update("=").chain_update(value)
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.retired.len().saturating_add(1);
        write!(formatter, "Signer({keys} keys)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FIRST: &str = "first-key-0123456789abcdef012345";
    const SECOND: &str = "second-key-123456789abcdef012345";

    fn signer(secret: &str) -> Signer {
        Signer::from_secret(secret).unwrap()
    }

    fn refusal(secret: &str) -> String {
        let error = Signer::from_secret(secret).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Misconfigured);
        error.to_string()
    }

    /// Made with Python: hmac.new(key, b"webpy_session_id=000102…0f", hashlib.sha256).hexdigest()
    #[test]
    fn the_signature_is_hmac_sha_256_over_name_and_value() {
        assert_eq!(
            signer(FIRST).sign("webpy_session_id", "000102030405060708090a0b0c0d0e0f"),
            "000102030405060708090a0b0c0d0e0f.14bb82465bfab2395ec575398f19f338511ba2e23c1094f545b56815734cfe92"
        );
    }

    #[test]
    fn keys_rotate_without_a_cookie_losing_its_worth() {
        let before = signer(FIRST).sign("id", "v");
        let rotated = signer(&format!("{SECOND},{FIRST}"));
        assert_eq!(rotated.verify("id", &before), Some("v"));
        let after = rotated.sign("id", "v");
        assert_ne!(before, after);
        assert_eq!(signer(SECOND).verify("id", &after), Some("v"));
        assert_eq!(signer(FIRST).verify("id", &after), None, "the first key signs");
        assert_eq!(signer(SECOND).verify("id", &before), None, "the old key is gone");
    }

    #[test]
    fn a_missing_short_or_published_key_is_refused_with_the_command_that_repairs_it() {
        let published = refusal("fLjUfxqXtfNoIldA0A0J");
        assert!(published.contains("published"), "{published}");
        assert!(refusal("0123456789abcdef0123456789abcde").contains("has 31 bytes"));
        assert!(refusal("").contains("has 0 bytes"));
        assert!(refusal(&format!("{FIRST},")).contains("key 2 has 0 bytes"));
        assert!(refusal(&format!("{FIRST}, fLjUfxqXtfNoIldA0A0J ")).contains("key 2 is published"));
        for message in [published, refusal(""), Signer::missing().to_string()] {
            assert!(message.contains("openssl rand -hex 32 | npx wrangler secret put SECRET_KEY"), "{message}");
            assert!(!message.contains("fLjUfxqXtfNoIldA0A0J"), "{message}");
        }
    }

    #[test]
    fn blanks_and_a_line_end_around_a_key_do_not_count() {
        let signed = signer(&format!(" {FIRST}\n")).sign("id", "v");
        assert_eq!(signer(FIRST).verify("id", &signed), Some("v"));
    }

    #[test]
    fn debug_output_shows_no_key() {
        assert_eq!(format!("{:?}", signer(&format!("{FIRST},{SECOND}"))), "Signer(2 keys)");
    }

    proptest! {
        #[test]
        fn what_is_signed_verifies_as_it_was(name in "[a-z_]{1,8}", value in "\\PC{0,40}") {
            let signed = signer(FIRST).sign(&name, &value);
            prop_assert_eq!(signer(FIRST).verify(&name, &signed), Some(value.as_str()));
            prop_assert_eq!(signer(SECOND).verify(&name, &signed), None);
        }

        #[test]
        fn a_changed_character_anywhere_is_refused(value in "[0-9a-f]{32}", at in 0usize..97, to in "[0-9a-f.A-F~]") {
            let signed = signer(FIRST).sign("id", &value);
            let mut forged = signed.clone();
            forged.replace_range(at..=at, &to);
            prop_assume!(forged != signed);
            prop_assert_eq!(signer(FIRST).verify("id", &forged), None);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in "\\PC*") {
            prop_assert_eq!(signer(FIRST).verify("id", &text), None);
        }
    }
}
