use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use worker::Env;
use worker::js_sys::{Array, Map, Object, Promise};

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
    /// `{ cacheTtl }`, made once.
    read: JsValue,
    /// What each `put` of a record sets its expiration in.
    write: PutOptions,
}

#[wasm_bindgen]
extern "C" {
    /// The binding itself. worker's `KvStore` wraps it in builders that serialise their options
    /// through serde, which costs the Worker 10 KB.
    #[derive(Debug)]
    type KvNamespace;

    /// Of several keys, in one call: a `Map`.
    #[wasm_bindgen(method, catch)]
    fn get(this: &KvNamespace, keys: &Array, options: &JsValue) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn put(this: &KvNamespace, key: &str, value: &str, options: &PutOptions) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn delete(this: &KvNamespace, key: &str) -> Result<Promise, JsValue>;

    #[derive(Debug)]
    type PutOptions;
    #[wasm_bindgen(method, setter)]
    fn set_expiration(this: &PutOptions, seconds: f64);
}

/// The least that KV takes, in seconds. Half of KV's own default, and so half the time for which a
/// location may go on showing an old session.
const CACHE_TTL: u32 = 30;

/// KV refuses an expiration less than 60 seconds ahead. A record is only ever stored before its
/// time is over, so twice that beyond its end always suffices, without asking a clock.
const EXPIRATION_MARGIN: u64 = 120;

/// For how many seconds the mark of a logout is kept when it is not known how long a late writer's record
/// would live: 30 days.
const UNKNOWN_LIFE: u64 = 30 * 24 * 60 * 60;

/// What a session is stored under, and what says that it has ended. The prefixes keep sessions apart
/// from what else the namespace holds, and let an operator list them.
const SESSION: &str = "session:";
const ENDED: &str = "ended:";

impl KvStore {
    /// A store in the KV namespace that the environment binds to this name. The namespace may hold
    /// other things beside.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when there is no such binding.
    pub fn from_env(env: &Env, binding: &str) -> Result<Self, Error> {
        let namespace = js::binding(env, binding, "[[kv_namespaces]]")?;
        Ok(Self { namespace, read: js::options("cacheTtl", CACHE_TTL), write: Object::new().unchecked_into() })
    }

    async fn put(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        let expiration = record.expires_at.saturating_add(EXPIRATION_MARGIN);
        self.write.set_expiration(js::float(expiration));
        let put = self.namespace.put(&name(SESSION, key), &record.to_text(), &self.write);
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
        let (session, ended) = (JsValue::from(name(SESSION, key)), JsValue::from(name(ENDED, key)));
        let found = settled(self.namespace.get(&Array::of2(&session, &ended), &self.read)).await?;
        let found: Map = found.unchecked_into();
        if found.get(&ended).is_string() {
            return Ok(None);
        }
        found.get(&session).as_string().map(|text| Record::from_text(&text)).transpose()
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
        let options = js::options("expirationTtl", js::number(life.saturating_add(EXPIRATION_MARGIN)));
        settled(self.namespace.put(&name(ENDED, key), "", options.unchecked_ref())).await?;
        settled(self.namespace.delete(&name(SESSION, key))).await?;
        Ok(record)
    }
}

fn name(prefix: &str, key: &RecordKey) -> String {
    [prefix, key.as_str()].concat()
}
