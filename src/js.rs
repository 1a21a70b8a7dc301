//! What JavaScript holds and throws.

use std::time::Duration;

use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::Promise;
use worker::wasm_bindgen_futures::JsFuture;
use worker::{Env, js_sys};

use crate::Error;

/// The variable, secret or binding `name`, if the environment has it.
pub(crate) fn variable(env: &Env, name: &str) -> Option<JsValue> {
    js_sys::Reflect::get(env, &JsValue::from_str(name)).ok().filter(|value| !value.is_undefined() && !value.is_null())
}

/// What to say of a store whose binding is not there, or is something else.
pub(crate) fn misbound(table: &str, binding: &str) -> Error {
    Error::misconfigured(format_args!(
        "the sessions' store needs the binding {binding}; \
         add {table} with `binding = \"{binding}\"` to wrangler.toml"
    ))
}

/// The message of a platform error.
///
/// Its `Display` will not do: it prints JavaScript stacks.
#[cfg(feature = "app")]
pub(crate) fn message(error: &worker::Error) -> String {
    match error {
        worker::Error::UnknownJsError { message, .. } => message.clone(),
        worker::Error::Internal(value) => thrown(value),
        worker::Error::RustError(text) | worker::Error::JsError(text) | worker::Error::BindingError(text) => {
            text.clone()
        }
        other => other.to_string(),
    }
}

/// The message of a thrown value.
pub(crate) fn thrown(value: &JsValue) -> String {
    match value.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => value.as_string().unwrap_or_else(|| "an error without a message".to_owned()),
    }
}

/// An object of one property, for a call's options.
pub(crate) fn options(name: &str, value: impl Into<JsValue>) -> JsValue {
    let object = js_sys::Object::new().into();
    set(&object, name, value);
    object
}

/// Sets a property of a plain object, which cannot fail.
pub(crate) fn set(object: &JsValue, name: &str, value: impl Into<JsValue>) {
    drop(js_sys::Reflect::set(object, &JsValue::from_str(name), &value.into()));
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

/// A random pause of at most so many milliseconds, so that those who failed together do not return together.
pub(crate) async fn pause(longest: u32) {
    let mut random = [0; 1];
    // Without random bytes the pause is the longest.
    let [random] = getrandom::fill(&mut random).map_or([u8::MAX], |()| random);
    let milliseconds = longest.saturating_mul(u32::from(random)) >> 8;
    worker::Delay::from(Duration::from_millis(milliseconds.into())).await;
}

/// What the call's promise came to, or what was thrown.
pub(crate) async fn settled(call: Result<Promise, JsValue>) -> Result<JsValue, JsValue> {
    JsFuture::from(call?).await
}
