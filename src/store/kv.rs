use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Env;
use worker::js_sys::Promise;

use crate::promise::Settled;
use crate::{Error, ErrorKind, Record, RecordKey, Store, Updated, js};

/// Records in Workers KV, web.py's `DiskStore`: one value per session, under `session:<record key>`,
/// which expires by itself.
///
/// For sessions that are read much more than written. What KV cannot do, this store cannot:
///
/// - **Concurrent updates can be lost.** KV has no compare-and-set: an update is stored without a look at
///   what is there, and the last writer wins.
/// - **Other locations see a write up to 60 seconds later**, and a missing key stays missing there as long.
/// - **One write per second and key**: KV answers more with 429, which is `Unavailable` here.
///
/// (Cloudflare, "How KV works" and "Write key-value pairs".) [`D1Store`](crate::D1Store) has none of
/// these limits.
///
/// A logout is final all the same, once it has reached a location: it leaves a mark under
/// `ended:<record key>`, which is read together with the record, so that a writer who comes late writes
/// in vain.
#[derive(Debug)]
pub struct KvStore {
    namespace: KvNamespace,
}

#[wasm_bindgen(module = "/src/store/kv.js")]
extern "C" {
    /// The binding itself. worker's `KvStore` wraps it in builders that serialise their options
    /// through serde, which costs the Worker 10 KB.
    #[derive(Debug)]
    type KvNamespace;
    /// A record's text, or null when there is none, or a mark of its end.
    fn load(namespace: &KvNamespace, key: &str) -> Promise;
    fn put(namespace: &KvNamespace, key: &str, text: &str, expiration: f64) -> Promise;
    /// Leaves the mark, for so many seconds, and deletes.
    fn end(namespace: &KvNamespace, key: &str, expiration_ttl: f64) -> Promise;
}

/// KV refuses an expiration less than 60 seconds ahead. A record is only ever stored before its
/// time is over, so twice that beyond its end always suffices, without asking a clock.
const EXPIRATION_MARGIN: u64 = 120;

/// For how many seconds the mark of a logout is kept when it is not known how long a late writer's record
/// would live: 30 days.
const UNKNOWN_LIFE: u64 = 30 * 24 * 60 * 60;

impl KvStore {
    /// A store in the KV namespace that the environment binds to this name. The namespace may hold
    /// other things beside.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when there is no such binding.
    pub fn from_env(env: &Env, binding: &str) -> Result<Self, Error> {
        Ok(Self { namespace: js::binding(env, binding, "[[kv_namespaces]]")? })
    }

    async fn put(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        let expiration = record.expires_at.saturating_add(EXPIRATION_MARGIN);
        settled(put(&self.namespace, key.as_str(), &record.to_text(), js::float(expiration))).await.map(|_| ())
    }
}

async fn settled(call: Promise) -> Result<JsValue, Error> {
    Settled::of(&call)
        .await
        .map_err(|thrown| Error::new(ErrorKind::Unavailable, format_args!("KV: {}", js::thrown(&thrown))))
}

impl Store for KvStore {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let found = settled(load(&self.namespace, key.as_str())).await?;
        found.as_string().map(|text| Record::from_text(&text)).transpose()
    }

    /// Overwrites a used key: KV cannot insert only. It does not look first either, for KV would
    /// remember that the key was missing and show the new session late.
    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        self.put(key, record).await
    }

    /// Without a look at what is there, but for a change of id, which is rare and must not carry a session
    /// past its logout.
    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        if record.successor.is_some() && self.load(key).await?.is_none() {
            return Ok(Updated::Gone);
        }
        self.put(key, record).await.map(|()| Updated::Done)
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let record = match self.load(key).await {
            Err(error) if error.kind() != ErrorKind::Unreadable => return Err(error),
            loaded => loaded.ok().flatten(),
        };
        // As long as what a late writer stores would live: as long as this record from its last use.
        let life = record.as_ref().map_or(UNKNOWN_LIFE, |record| record.expires_at.saturating_sub(record.touched_at));
        let life = js::float(life.saturating_add(EXPIRATION_MARGIN));
        settled(end(&self.namespace, key.as_str(), life)).await?;
        Ok(record)
    }
}
