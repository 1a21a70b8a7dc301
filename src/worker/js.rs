//! What JavaScript holds and throws.

use wasm_bindgen::{JsCast, JsValue};
use worker::{Env, js_sys};

use crate::Error;

/// The variable, secret or binding `name`, if the environment has it.
pub(super) fn variable(env: &Env, name: &str) -> Option<JsValue> {
    js_sys::Reflect::get(env, &JsValue::from_str(name)).ok().filter(|value| !value.is_undefined() && !value.is_null())
}

/// How `wrangler.toml` declares a binding.
pub(super) struct Declared {
    pub(super) table: &'static str,
    /// The key of the table that has the binding's name.
    pub(super) named_by: &'static str,
    /// What has to stand there beside.
    pub(super) with: &'static str,
    /// A method that a binding of this kind has, and no other kind.
    pub(super) method: &'static str,
}

/// The binding that a store is made of.
///
/// # Errors
///
/// `Misconfigured` when the environment has no such object.
pub(super) fn binding<T: JsCast>(env: &Env, name: &str, declared: &Declared) -> Result<T, Error> {
    let Declared { table, named_by, with, method } = declared;
    let has_method = |binding: &JsValue| {
        js_sys::Reflect::get(binding, &JsValue::from_str(method)).is_ok_and(|method| method.is_function())
    };
    let binding = variable(env, name).filter(JsValue::is_object);
    if binding.as_ref().is_some_and(|binding| !has_method(binding)) {
        return Err(Error::misconfigured(format_args!(
            "the binding {name} is of another kind than the sessions' store needs: bind it in {table}"
        )));
    }
    binding.map(JsCast::unchecked_into).ok_or_else(|| {
        Error::misconfigured(format_args!(
            "the sessions' store needs the binding {name}; add {table} with `{named_by} = \"{name}\"`{with} to wrangler.toml"
        ))
    })
}

/// The message of a thrown value.
pub(super) fn thrown(value: &JsValue) -> String {
    match value.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => value.as_string().unwrap_or_else(|| "an error without a message".to_owned()),
    }
}

/// Milliseconds since 1970-01-01 UTC. worker's `Date::now` makes a `Date` for it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and after 1970")]
pub(super) fn milliseconds() -> u64 {
    js_sys::Date::now() as u64
}

/// A JavaScript number.
pub(super) fn number(value: u64) -> JsValue {
    JsValue::from_f64(float(value))
}

/// Times and versions stay below 2^53, up to where JavaScript's numbers are exact.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}
