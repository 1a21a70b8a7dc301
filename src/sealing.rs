//! Text that a visitor's browser keeps and cannot read: XChaCha20-Poly1305 (RFC 8439, and draft-irtf-cfrg-xchacha).

use base64ct::{Base64UrlUnpadded, Encoding};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};

use crate::{Error, ErrorKind, Platform, Signer};

/// Says what the derived key is for. No `=` stands in it, as in each message that is signed, so that no signature is ever a
/// key.
const LABEL: &[u8] = b"edge-session carried writes 1";

const NONCE: usize = 24;
const TAG: usize = 16;

impl Signer {
    /// The text under the first key, for who has a key of ours and knows what it is bound to. URL-safe Base64 without
    /// padding.
    ///
    /// # Errors
    ///
    /// `Unavailable` when there are no random bytes.
    pub(crate) fn seal(&self, platform: &impl Platform, bound_to: &str, text: &str) -> Result<String, Error> {
        let mut nonce = [0; NONCE];
        platform.fill_random(&mut nonce)?;
        let payload = Payload { msg: text.as_bytes(), aad: bound_to.as_bytes() };
        let sealed = cipher(self.sealing_keys().first().unwrap_or(&[0; 32]))
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| Error::new(ErrorKind::Unavailable, "a text is too long to be sealed"))?;
        let mut bytes = nonce.to_vec();
        bytes.extend_from_slice(&sealed);
        Ok(Base64UrlUnpadded::encode_string(&bytes))
    }

    /// The text, if it was sealed under a key of ours and bound to this. Anything else is none.
    pub(crate) fn unseal(&self, bound_to: &str, sealed: &str) -> Option<String> {
        let bytes = Base64UrlUnpadded::decode_vec(sealed).ok()?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE>()?;
        let open = |key: &[u8; 32]| {
            let payload = Payload { msg: sealed, aad: bound_to.as_bytes() };
            cipher(key).decrypt(&XNonce::from(*nonce), payload).ok()
        };
        String::from_utf8(self.sealing_keys().iter().find_map(open)?).ok()
    }

    /// How long a text of so many bytes is when it is sealed.
    pub(crate) fn sealed_length(text: usize) -> usize {
        text.saturating_add(NONCE + TAG).saturating_mul(4).div_ceil(3)
    }

    /// For each key, one that seals: HKDF-SHA-256 (RFC 5869, section 2.3), the first block. The signing key is itself
    /// what its first step would make (section 3.3).
    fn sealing_keys(&self) -> &[[u8; 32]] {
        self.derived.get_or_init(|| self.keys().map(|key| self.hash(key, &[LABEL, &[1]])).collect())
    }
}

fn cipher(key: &[u8; 32]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestPlatform;
    use proptest::prelude::*;

    const FIRST: &str = "first-key-0123456789abcdef012345";
    const SECOND: &str = "second-key-123456789abcdef012345";

    fn signer(secret: &str) -> Signer {
        Signer::from_secret(secret).unwrap()
    }

    fn sealed(secret: &str, bound_to: &str, text: &str) -> String {
        signer(secret).seal(&TestPlatform::at(0), bound_to, text).unwrap()
    }

    /// Made with Python: hmac.new(key, b"edge-session carried writes 1\x01", hashlib.sha256).hexdigest()
    #[test]
    fn the_key_is_derived_as_rfc_5869_says() {
        let key = signer(FIRST).sealing_keys()[0];
        assert_eq!(crate::hex::encode(&key), "80ad96f280a87838a76b0aabee0c316fdecead890cc9520c8277426b960de92c");
    }

    /// By libsodium, through Python's PyNaCl: crypto_aead_xchacha20poly1305_ietf_encrypt with that key, nonce 00…17.
    #[test]
    fn what_another_implementation_sealed_is_opened() {
        assert_eq!(
            signer(FIRST)
                .unseal("sid.x bound", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXjM6oxk-x_yPX6PgKhvvFAAPVQqM")
                .as_deref(),
            Some("text")
        );
    }

    #[test]
    fn a_text_is_opened_by_any_key_of_ours_and_sealed_by_the_first() {
        let both = format!("{SECOND},{FIRST}");
        let old = sealed(FIRST, "a", "text");
        assert_eq!(signer(&both).unseal("a", &old).as_deref(), Some("text"));
        let new = sealed(&both, "a", "text");
        assert_eq!(signer(SECOND).unseal("a", &new).as_deref(), Some("text"));
        assert_eq!(signer(FIRST).unseal("a", &new), None);
    }

    #[test]
    fn no_two_are_alike_for_each_has_a_nonce_of_its_own() {
        assert_ne!(sealed(FIRST, "a", "text"), sealed(FIRST, "a", "text"));
    }

    proptest! {
        #[test]
        fn what_is_sealed_comes_back_and_has_the_length_that_was_said(text in "\\PC{0,200}", bound_to in "[a-z.]{1,9}") {
            let sealed = sealed(FIRST, &bound_to, &text);
            prop_assert_eq!(sealed.len(), Signer::sealed_length(text.len()));
            prop_assert_eq!(signer(FIRST).unseal(&bound_to, &sealed), Some(text));
            prop_assert_eq!(signer(FIRST).unseal("another", &sealed), None);
        }

        #[test]
        fn a_changed_character_anywhere_is_refused(at in 0usize..60, to in "[A-Za-z0-9_-]") {
            let sealed = sealed(FIRST, "a", "a text of a length");
            let at = at % sealed.len();
            let mut forged = sealed.clone();
            forged.replace_range(at..=at, &to);
            prop_assume!(forged != sealed);
            prop_assert_eq!(signer(FIRST).unseal("a", &forged), None);
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in "\\PC*") {
            prop_assert_eq!(signer(FIRST).unseal("a", &text), None);
        }
    }
}
