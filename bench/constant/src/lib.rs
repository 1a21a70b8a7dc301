//! A Rust Worker that answers a constant: the floor of what a Worker in Rust costs, with the same shim.

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::js_sys::Promise;
use worker::wasm_bindgen_futures::future_to_promise;
use worker::web_sys::{Request, Response};

#[wasm_bindgen]
pub fn fetch(_request: Request, _env: JsValue, _context: JsValue) -> Promise {
    future_to_promise(async { Response::new_with_opt_str(Some("1")).map(Into::into) })
}

#[wasm_bindgen]
pub fn scheduled(_event: JsValue, _env: JsValue, _context: JsValue) -> Promise {
    future_to_promise(async { Ok(JsValue::UNDEFINED) })
}

/// For the shim, which has one.
#[wasm_bindgen]
pub struct SessionObject;
