use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use worker::Env;
use worker::js_sys::{Array, Map, Object, Promise, Reflect};

use super::js::{self, Declared};
use super::platform::WorkerPlatform;
use super::promise::Settled;
use crate::{Error, KvFailure, KvNamespace, KvStore};

/// A KV namespace that a Worker is bound to.
#[derive(Debug)]
pub struct KvBinding(Namespace);

#[wasm_bindgen]
extern "C" {
    /// The binding itself. worker's `KvStore` wraps it in builders that serialise their options
    /// through serde, which costs the Worker 10 KB.
    #[derive(Debug)]
    type Namespace;
    #[wasm_bindgen(method, catch)]
    fn get(this: &Namespace, names: &Array, options: &JsValue) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn put(this: &Namespace, name: &str, value: &str, options: &JsValue) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn delete(this: &Namespace, name: &str) -> Result<Promise, JsValue>;
}

/// An R2 bucket has `get`, `put` and `delete` as well.
const DECLARED: Declared =
    Declared { table: "[[kv_namespaces]]", named_by: "binding", with: "", method: "getWithMetadata" };

/// For how many seconds a location may keep what it read: the least that KV takes. It is half of KV's own default, and so
/// half the time for which a location may go on showing an old session.
const CACHE_TTL: f64 = 30.0;

thread_local! {
    /// Made once for an isolate: each call into the runtime costs a request as much as some hundred of our instructions.
    static READ_OPTIONS: JsValue = options("cacheTtl", CACHE_TTL);
}

/// An object with this one property.
fn options(name: &str, value: f64) -> JsValue {
    let options = Object::new();
    // On a new object that cannot fail.
    drop(Reflect::set(&options, &name.into(), &value.into()));
    options.into()
}

impl KvStore<KvBinding, WorkerPlatform> {
    /// A store in the KV namespace that the environment binds to this name. The namespace may hold
    /// other things beside.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when there is no such binding.
    pub fn from_env(env: &Env, binding: &str) -> Result<Self, Error> {
        Ok(Self::new(KvBinding(js::binding(env, binding, &DECLARED)?), WorkerPlatform))
    }
}

impl KvNamespace for KvBinding {
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure> {
        let all: Array = names.iter().map(|name| JsValue::from_str(name)).collect();
        let found: Map = settled(READ_OPTIONS.with(|options| self.0.get(&all, options))).await?.unchecked_into();
        Ok(all.iter().map(|name| found.get(&name).as_string()).collect())
    }

    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure> {
        settled(self.0.put(name, value, &options("expiration", js::float(expiration)))).await.map(|_| ())
    }

    async fn delete(&self, name: &str) -> Result<(), KvFailure> {
        settled(self.0.delete(name)).await.map(|_| ())
    }
}

/// KV tells its errors apart by their text alone: `KV PUT failed: 429 Too Many Requests`.
async fn settled(call: Result<Promise, JsValue>) -> Result<JsValue, KvFailure> {
    Settled::of_call(call).await.map_err(|thrown| {
        let message = js::thrown(&thrown);
        if message.contains("PUT failed: 429") { KvFailure::TooManyWrites } else { KvFailure::Other(message) }
    })
}
