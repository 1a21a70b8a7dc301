use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use worker::Env;
use worker::js_sys::{Array, Promise};

use crate::http::WorkerPlatform;
use crate::promise::Settled;
use crate::{Error, KvFailure, KvNamespace, KvStore, js};

/// A KV namespace that a Worker is bound to.
#[derive(Debug)]
pub struct KvBinding(Namespace);

#[wasm_bindgen(module = "/src/store/kv_binding.js")]
extern "C" {
    /// The binding itself. worker's `KvStore` wraps it in builders that serialise their options
    /// through serde, which costs the Worker 10 KB.
    #[derive(Debug)]
    type Namespace;
    /// The names cross in one text. The answer is a list of values, or the first of them, if the others are not there.
    fn get(namespace: &Namespace, names: &str) -> Promise;
    fn put(namespace: &Namespace, name: &str, value: &str, expiration: f64) -> Promise;
    fn remove(namespace: &Namespace, name: &str) -> Promise;
}

impl KvStore<KvBinding, WorkerPlatform> {
    /// A store in the KV namespace that the environment binds to this name. The namespace may hold
    /// other things beside.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when there is no such binding.
    pub fn from_env(env: &Env, binding: &str) -> Result<Self, Error> {
        Ok(Self::new(KvBinding(js::binding(env, binding, "[[kv_namespaces]]", "put")?), WorkerPlatform))
    }
}

impl KvNamespace for KvBinding {
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure> {
        let answer = settled(get(&self.0, &names.join("\n"))).await?;
        let mut values = match answer.dyn_into::<Array>() {
            Ok(all) => all.iter().map(|value| value.as_string()).collect(),
            Err(first) => vec![first.as_string()],
        };
        values.resize(names.len(), None);
        Ok(values)
    }

    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure> {
        settled(put(&self.0, name, value, js::float(expiration))).await.map(|_| ())
    }

    async fn delete(&self, name: &str) -> Result<(), KvFailure> {
        settled(remove(&self.0, name)).await.map(|_| ())
    }
}

/// KV tells its errors apart by their text alone: `KV PUT failed: 429 Too Many Requests`.
async fn settled(call: Promise) -> Result<JsValue, KvFailure> {
    Settled::of(&call).await.map_err(|thrown| {
        let message = js::thrown(&thrown);
        let is_too_many = ["PUT failed: 429", "DELETE failed: 429"].iter().any(|text| message.contains(text));
        if is_too_many { KvFailure::TooManyWrites } else { KvFailure::Other(message) }
    })
}
