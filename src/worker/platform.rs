use std::fmt;
use std::future::ready;

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::js_sys::Promise;
use worker::wasm_bindgen_futures::future_to_promise;

use super::js;
use super::promise::Settled;
use crate::Platform;
use crate::platform::{Sleep, Work};

#[wasm_bindgen(module = "cloudflare:workers")]
extern "C" {
    #[wasm_bindgen(js_name = waitUntil, catch)]
    fn wait_until(promise: &Promise) -> Result<(), JsValue>;
}

/// The Workers runtime: for [`Sessions::new`](crate::Sessions::new) over a store of your own, or bindings of other names.
///
/// ```no_run
/// use edge_session::{D1Store, Error, SessionParameters, Sessions, Signer, WorkerPlatform};
///
/// fn sessions(env: &worker::Env) -> Result<Sessions, Error> {
///     let store = D1Store::from_env(env, "SHOP_DB")?.with_table("shop_sessions")?;
///     Sessions::new(store, WorkerPlatform, Signer::from_env(env, "SHOP_KEY")?, SessionParameters::from_env(env, "shop")?)
/// }
/// # fn main() {}
/// ```
///
/// This reads and checks the environment at each call; keep the result in a `thread_local!`.
#[derive(Clone, Copy, Debug)]
pub struct WorkerPlatform;

impl Platform for WorkerPlatform {
    fn now(&self) -> u64 {
        self.milliseconds() / 1000
    }

    fn milliseconds(&self) -> u64 {
        js::milliseconds()
    }

    fn sleep(&self, milliseconds: u32) -> Sleep {
        Box::pin(async move { drop(Settled::after(milliseconds).await) })
    }

    /// The runtime's `waitUntil`, which gives the work up to 30 seconds after the reply. Where there is no request to
    /// wait for, the caller waits.
    fn wait_until(&self, work: Work) -> Work {
        let promise = future_to_promise(async move {
            work.await;
            Ok(JsValue::UNDEFINED)
        });
        match wait_until(&promise) {
            Ok(()) => Box::pin(ready(())),
            Err(_) => Box::pin(async move { drop(Settled::of(&promise).await) }),
        }
    }

    fn log(&self, line: fmt::Arguments<'_>) {
        worker::console_error!("edge-session: {line}");
    }
}
