use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Env;
use worker::js_sys::Promise;

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
}

#[wasm_bindgen(module = "/src/worker/kv.js")]
extern "C" {
    // They throw nothing: what fails rejects the promise.
    fn get(namespace: &Namespace, names: &str) -> Promise;
    fn value(found: &JsValue, place: usize) -> Option<String>;
    fn put(namespace: &Namespace, name: &str, value: &str, expiration: f64) -> Promise;
    fn remove(namespace: &Namespace, name: &str) -> Promise;
}

/// An R2 bucket has `get`, `put` and `delete` as well.
const DECLARED: Declared =
    Declared { table: "[[kv_namespaces]]", named_by: "binding", with: "", method: "getWithMetadata" };

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
        // No name of ours has a blank.
        let found = settled(get(&self.0, &names.join(" "))).await?;
        Ok((0..names.len()).map(|place| value(&found, place)).collect())
    }

    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure> {
        settled(put(&self.0, name, value, js::float(expiration))).await.map(|_| ())
    }

    async fn delete(&self, name: &str) -> Result<(), KvFailure> {
        settled(remove(&self.0, name)).await.map(|_| ())
    }
}

/// KV tells its errors apart by their text alone: `KV PUT failed: 429 Too Many Requests`.
async fn settled(answer: Promise) -> Result<JsValue, KvFailure> {
    Settled::of(&answer).await.map_err(|thrown| {
        let message = js::thrown(&thrown);
        if message.contains("PUT failed: 429") { KvFailure::TooManyWrites } else { KvFailure::Other(message) }
    })
}
