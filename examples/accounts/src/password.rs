//! Passwords, which are kept as Argon2id's hashes (ASVS 5.0, 11.4.2).

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use sha2::{Digest, Sha256};

/// The least that OWASP's Password Storage Cheat Sheet asks for: 19 MiB, twice through them, by one thread. A Worker has 128 MB.
const PARAMETERS: (u32, u32, u32) = (19 * 1024, 2, 1);

/// For names that nobody has: made with the parameters above, of a password that was thrown away.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$eEpn66J4Q/uxojr1j7K/Mw$/ap4EvuXriYErN6feAJ0xHcq0mHyjxdOSXQNMS8rDUs";

/// So many characters (ASVS 5.0, 6.2.1 and 6.2.9).
const SHORTEST: usize = 8;
const LONGEST: usize = 1000;

/// What is wrong with a new password, if anything is. Any characters will do (6.2.5).
pub(crate) fn objection(password: &str) -> Option<&'static str> {
    match password.chars().count() {
        0 => Some("Please choose a password."),
        1..SHORTEST => Some("That password is too short: please take 8 characters or more."),
        SHORTEST..=LONGEST => None,
        _ => Some("That password is too long: please take 1000 characters or fewer."),
    }
}

/// Of a new password, with a random salt.
pub(crate) fn hash(password: &str) -> worker::Result<String> {
    let (memory, passes, threads) = PARAMETERS;
    let hasher = Params::new(memory, passes, threads, None)
        .map(|parameters| Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters))
        .map_err(|error| worker::Error::RustError(error.to_string()))?;
    let hash =
        hasher.hash_password(password.as_bytes()).map_err(|error| worker::Error::RustError(error.to_string()))?;
    Ok(hash.to_string())
}

/// Whether it is the password with this hash. Where there is no user there is no hash, and it takes as long all the same, so
/// that the time tells nobody who has an account (ASVS 5.0, 6.3.8).
pub(crate) fn is_right(password: &str, hash: Option<&str>) -> bool {
    let known = PasswordHash::new(hash.unwrap_or(NOBODYS));
    let is_right = known.is_ok_and(|known| Argon2::default().verify_password(password.as_bytes(), &known).is_ok());
    is_right && hash.is_some()
}

/// What a session keeps of the hash, to see that it has changed: enough for that, and too little to try passwords on.
pub(crate) fn stamp(hash: &str) -> String {
    Sha256::digest(hash).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
