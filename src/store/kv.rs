use std::fmt;

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Env;
use worker::js_sys::Promise;

use crate::record::Verdict;
use crate::{Error, ErrorKind, Record, RecordKey, Store, Updated, js};

/// Records in Workers KV, web.py's `DiskStore`: one value per session, under `session:<record key>`,
/// which expires by itself.
///
/// For sessions that are read much more than written. What KV cannot do, this store cannot:
///
/// - **Concurrent updates can be lost.** KV has no compare-and-set. `update` reads the version
///   before it writes, so a race is lost only within that moment, or while this location's copy is
///   old; the last writer wins then.
/// - **Other locations see a write up to 60 seconds later**, and a missing key stays missing there as long.
/// - **One write per second and key**: KV answers more with 429, which is `Unavailable` here.
///
/// (Cloudflare, "How KV works" and "Write key-value pairs".) [`D1Store`](crate::D1Store) has none of
/// these limits.
pub struct KvStore {
    namespace: KvNamespace,
    /// `{ cacheTtl }`, made once.
    read: JsValue,
}

#[wasm_bindgen]
extern "C" {
    /// The binding itself. worker's `KvStore` wraps it in builders that serialise their options
    /// through serde, which costs the Worker 10 KB.
    type KvNamespace;

    #[wasm_bindgen(method, catch)]
    fn get(this: &KvNamespace, key: &str, options: &JsValue) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn put(this: &KvNamespace, key: &str, value: &str, options: &JsValue) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn delete(this: &KvNamespace, key: &str) -> Result<Promise, JsValue>;
}

/// The least that KV takes, in seconds. Half of KV's own default, and so half the time for which a
/// location may go on showing an old session.
const CACHE_TTL: u32 = 30;

/// KV refuses an expiration less than 60 seconds ahead. A record is only ever stored before its
/// time is over, so twice that beyond its end always suffices, without asking a clock.
const EXPIRATION_MARGIN: u64 = 120;

impl KvStore {
    /// A store in the KV namespace that the environment binds to this name. The namespace may hold
    /// other things beside.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when there is no such binding.
    pub fn from_env(env: &Env, binding: &str) -> Result<Self, Error> {
        let namespace = js::binding(env, binding, "[[kv_namespaces]]")?;
        Ok(Self { namespace, read: js::options("cacheTtl", CACHE_TTL) })
    }

    async fn put(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        let expiration = record.expires_at.saturating_add(EXPIRATION_MARGIN);
        let options = js::options("expiration", js::number(expiration));
        let put = self.namespace.put(&name(key), &record.to_text(), &options);
        settled(put).await.map(|_| ())
    }
}

async fn settled(call: Result<Promise, JsValue>) -> Result<JsValue, Error> {
    js::settled(call)
        .await
        .map_err(|thrown| Error::new(ErrorKind::Unavailable, format_args!("KV: {}", js::thrown(&thrown))))
}

impl Store for KvStore {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let value = settled(self.namespace.get(&name(key), &self.read)).await?;
        value.as_string().map(|text| Record::from_text(&text)).transpose()
    }

    /// Overwrites a used key: KV cannot insert only. It does not look first either, for KV would
    /// remember that the key was missing and show the new session late.
    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        self.put(key, record).await
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        match Record::update_to(self.load(key).await?.as_ref(), record) {
            Verdict::Answer(updated) => Ok(updated),
            Verdict::Store => self.put(key, record).await.map(|()| Updated::Done),
        }
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let record = match self.load(key).await {
            Err(error) if error.kind() != ErrorKind::Unreadable => return Err(error),
            loaded => loaded.ok().flatten(),
        };
        settled(self.namespace.delete(&name(key))).await?;
        Ok(record)
    }
}

/// The prefix keeps sessions apart from what else the namespace holds, and lets an operator list them.
fn name(key: &RecordKey) -> String {
    format!("session:{}", key.as_str())
}

impl fmt::Debug for KvStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KvStore")
    }
}
