//! What JavaScript holds and throws.

use wasm_bindgen::{JsCast, JsValue};
use worker::{Env, js_sys};

use crate::platform::part_of;
use crate::promise::Settled;
use crate::{Error, ErrorKind};

/// The variable, secret or binding `name`, if the environment has it.
pub(crate) fn variable(env: &Env, name: &str) -> Option<JsValue> {
    js_sys::Reflect::get(env, &JsValue::from_str(name)).ok().filter(|value| !value.is_undefined() && !value.is_null())
}

/// The binding that a store is made of, which `wrangler.toml` declares in `table`.
///
/// # Errors
///
/// `Misconfigured` when the environment has no such object.
pub(crate) fn binding<T: JsCast>(env: &Env, name: &str, table: &str) -> Result<T, Error> {
    variable(env, name).filter(JsValue::is_object).map(JsCast::unchecked_into).ok_or_else(|| {
        Error::misconfigured(format_args!(
            "the sessions' store needs the binding {name}; add {table} with `binding = \"{name}\"` to wrangler.toml"
        ))
    })
}

/// The message of a thrown value.
pub(crate) fn thrown(value: &JsValue) -> String {
    match value.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => value.as_string().unwrap_or_else(|| "an error without a message".to_owned()),
    }
}

/// Milliseconds since 1970-01-01 UTC. worker's `Date::now` makes a `Date` for it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and after 1970")]
pub(crate) fn milliseconds() -> u64 {
    js_sys::Date::now() as u64
}

/// A JavaScript number.
pub(crate) fn number(value: u64) -> JsValue {
    JsValue::from_f64(float(value))
}

/// Times and versions stay below 2^53, up to where JavaScript's numbers are exact.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
pub(crate) fn float(value: u64) -> f64 {
    value as f64
}

/// Before each retry of a store's call, a random pause of at most so many milliseconds.
const RETRY_AFTER: [u32; 2] = [100, 400];

/// What a call came to.
pub(crate) struct Answered {
    pub(crate) value: JsValue,
    /// It was made more than once, and an earlier one may have had its effect.
    pub(crate) repeated: bool,
}

/// What `call` came to, when it is made again, at most twice, after a failure that `passes` by itself.
/// For calls that may be made twice: they recognise their own effect, or have the same one again.
pub(crate) async fn retried(
    call: impl AsyncFn() -> Result<JsValue, JsValue>,
    passes: impl Fn(&JsValue) -> bool,
) -> Result<Answered, JsValue> {
    let mut repeated = false;
    for longest in RETRY_AFTER {
        match call().await {
            Err(thrown) if passes(&thrown) => pause(longest).await,
            settled => return settled.map(|value| Answered { value, repeated }),
        }
        repeated = true;
    }
    call().await.map(|value| Answered { value, repeated })
}

/// For a delete that was repeated and found nothing. Perhaps its first call removed the record, and what
/// that answered, where the session had just moved to, is lost: this logout must not be called done.
pub(crate) fn unsure_what_was_deleted() -> Error {
    Error::new(ErrorKind::Unavailable, "the answer to a delete was lost, so that it may have to be done again")
}

/// So that those who failed together do not return together.
async fn pause(longest: u32) {
    let mut random = [0; 1];
    // Without random bytes the pause is the longest.
    let [random] = getrandom::fill(&mut random).map_or([u8::MAX], |()| random);
    drop(Settled::after(part_of(longest, random)).await);
}
