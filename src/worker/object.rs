#![allow(missing_docs, reason = "#[durable_object] exports functions without documentation")]

use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::{Promise, Reflect};
use worker::wasm_bindgen_futures::future_to_promise;
use worker::{Env, web_sys};

use super::js::{self, Declared};
use super::platform::WorkerPlatform;
use super::promise::Settled;
#[cfg(feature = "users")]
use crate::Users;
use crate::store::repeat::{Answered, repeated};
use crate::{Error, ErrorKind, Record, RecordKey, Store, Successor, Updated};

/// Records in Durable Objects: one object per session, named by its record key, born near its visitor.
///
/// An object has one thread and a SQLite database of its own, so that reading a version and writing
/// the next is one step: no concurrent update is lost, and a logout is final at once. It keeps its
/// record on disk alone, so that its eviction loses nothing; it expires by an alarm.
///
/// A Worker talks to its objects by `fetch`, for objects written in Rust have no RPC. The class is
/// [`SessionObject`].
#[derive(Debug)]
pub struct ObjectStore {
    namespace: Namespace,
}

const DECLARED: Declared = Declared {
    table: "[[durable_objects.bindings]]",
    named_by: "name",
    with: " and `class_name = \"SessionObject\"`, and [exports.SessionObject] with `type = \"durable-object\"` and \
           `storage = \"sqlite\"`,",
    method: "getByName",
};

/// The first word of each message. A Worker and an object may be of different releases for a while
/// during a deployment: an object that does not know a message says so, and the request is a 503.
const PROTOCOL: &str = "edge-session/1";

/// What a message asks, and what is answered.
const LOAD: &str = "load";
const CREATE: &str = "create";
const UPDATE: &str = "update";
const TOUCH: &str = "touch";
const DELETE: &str = "delete";
const DONE: &str = "done";
const STALE: &str = "stale";
const GONE: &str = "gone";
const DUPLICATE: &str = "duplicate";
const NONE: &str = "none";
const RECORD: &str = "record";

#[wasm_bindgen]
extern "C" {
    #[derive(Debug)]
    type Namespace;
}

#[wasm_bindgen(module = "/src/worker/object.js")]
extern "C" {
    /// It throws nothing: what fails rejects the promise.
    fn ask(namespace: &Namespace, name: &str, message: &str) -> Promise;
}

impl ObjectStore {
    /// A store in the Durable Objects that the environment binds to this name.
    ///
    /// # Errors
    ///
    /// `Misconfigured` when there is no such binding.
    pub fn from_env(env: &Env, binding: &str) -> Result<Self, Error> {
        Ok(Self { namespace: js::binding(env, binding, &DECLARED)? })
    }

    /// What the object of `key` answers.
    async fn ask(&self, key: &RecordKey, act: &str, record: Option<&Record>) -> Result<Answered<String>, Error> {
        self.ask_object(key.as_str(), act, &record.map(Record::to_text).unwrap_or_default()).await
    }

    /// What the object of this name answers.
    ///
    /// When the object was moved or reset, the message is sent again, to a new stub, since the old
    /// one is broken; a repeated write is recognised. An overloaded object is left alone.
    pub(super) async fn ask_object(&self, name: &str, act: &str, text: &str) -> Result<Answered<String>, Error> {
        let send = async || self.send(name, act, text).await;
        repeated(&WorkerPlatform, send, Error::passes).await.map_err(Error::lasting)
    }

    /// What the object of this name answers to a message that is sent once, as that of a [create](Store::create) is.
    async fn send(&self, name: &str, act: &str, text: &str) -> Result<String, Error> {
        let message = format!("{PROTOCOL} {act}\n{text}");
        let answer = Settled::of(&ask(&self.namespace, name, &message)).await.map_err(|thrown| {
            let is = |flag: &str| Reflect::get(&thrown, &flag.into()).is_ok_and(|value| value.is_truthy());
            let failure = failed(&js::thrown(&thrown));
            if is("retryable") && !is("overloaded") { failure.passing() } else { failure }
        })?;
        let answer = answer.as_string().unwrap_or_default();
        // What the runtime throws in the object is known by its text alone.
        if parts(&answer).0.contains("SQLite-backed") {
            return Err(Error::misconfigured(
                "the class SessionObject has no SQLite storage: declare it with `storage = \"sqlite\"` below [exports.SessionObject], or \
                 by `new_sqlite_classes` in [[migrations]]; one that is deployed without has to be deleted first",
            ));
        }
        Ok(answer)
    }
}

/// The first word of an answer, and what follows it.
fn parts(answer: &str) -> (&str, &str) {
    answer.split_once('\n').unwrap_or((answer, ""))
}

fn updated(answer: &str) -> Result<Updated, Error> {
    match parts(answer) {
        (DONE, _) => Ok(Updated::Done),
        // An object of an earlier release does not say what is there.
        (STALE, text) => Ok(Updated::Stale(Record::from_text(text).ok().map(Box::new))),
        (GONE, _) => Ok(Updated::Gone),
        (other, _) => Err(failed(other)),
    }
}

impl Store for ObjectStore {
    /// A value may have 2 MB, and one whose text is not all Latin takes two bytes for each character.
    fn max_data(&self) -> u64 {
        950_000
    }

    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        match parts(&self.ask(key, LOAD, None).await?.answer) {
            (NONE, _) => Ok(None),
            (RECORD, text) => Record::from_text(text).map(Some),
            (other, _) => Err(failed(other)),
        }
    }

    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        match parts(&self.send(key.as_str(), CREATE, &record.to_text()).await?).0 {
            DONE => Ok(()),
            DUPLICATE => Err(Error::new(ErrorKind::Duplicate, "object: the key is used")),
            other => Err(failed(other)),
        }
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let Answered { answer, repeated } = self.ask(key, UPDATE, Some(record)).await?;
        Answered { answer: updated(&answer)?, repeated }.sure()
    }

    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        // Only its times are looked at.
        let touch = Record { data: "null".to_owned(), ..record.clone() };
        updated(&self.ask(key, TOUCH, Some(&touch)).await?.answer)
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        Ok(self.left_by_delete(key).await?.and_then(|record| record.ok()?.successor))
    }

    #[cfg(feature = "users")]
    async fn change_id(
        &self,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        crate::store::user_objects::change_id(self, from, retired, to, moved).await
    }

    #[cfg(feature = "users")]
    fn users(&self) -> Option<Users<'_>> {
        Some(Users::of(self))
    }
}

impl ObjectStore {
    /// What a delete found, if it was a record: it is gone, unless it is retired.
    pub(super) async fn left_by_delete(&self, key: &RecordKey) -> Result<Option<Result<Record, Error>>, Error> {
        match parts(&self.ask(key, DELETE, None).await?.answer) {
            (NONE, _) => Ok(None),
            (RECORD, text) => Ok(Some(Record::from_text(text))),
            (other, _) => Err(failed(other)),
        }
    }
}

fn failed(message: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format_args!("object: {message}"))
}

#[wasm_bindgen]
extern "C" {
    /// An object's storage, with its synchronous half, which worker does not bind: between a read and
    /// a write of it no other message can come.
    #[derive(Clone, Debug)]
    pub(super) type Storage;
    #[wasm_bindgen(method, catch, getter)]
    pub(super) fn kv(this: &Storage) -> Result<Values, JsValue>;
    #[wasm_bindgen(method, catch, js_name = setAlarm)]
    fn set_alarm(this: &Storage, milliseconds: f64) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, catch, js_name = deleteAll)]
    fn delete_all(this: &Storage) -> Result<Promise, JsValue>;

    pub(super) type Values;
    #[wasm_bindgen(method, catch)]
    fn get(this: &Values, key: &str) -> Result<JsValue, JsValue>;
    #[wasm_bindgen(method, catch)]
    pub(super) fn put(this: &Values, key: &str, value: &str) -> Result<(), JsValue>;
}

/// The Durable Object behind [`ObjectStore`]: it holds one session's record, as text.
///
/// `wrangler.toml` declares it with `[exports.SessionObject]` and binds it to `SESSION_OBJECTS`.
///
/// It is worker's `DurableObject` without its conversions of request and response.
#[wasm_bindgen]
#[derive(Clone, Debug)]
pub struct SessionObject {
    pub(super) storage: Storage,
}

/// Under which the text is kept.
pub(super) const KEY: &str = "record";

/// After how long an object whose record it cannot read looks again, in milliseconds: a day. It may be
/// a newer release's record, after a rollback.
const LOOK_AGAIN: f64 = 86_400_000.0;

#[wasm_bindgen]
impl SessionObject {
    /// Called by the runtime, with the object's state.
    #[wasm_bindgen(constructor)]
    pub fn new(state: &JsValue, _env: &JsValue) -> Self {
        // Every object has it; on one that had not, each call would throw, and be answered as failed.
        let storage = Reflect::get(state, &"storage".into()).unwrap_or_default();
        Self { storage: storage.unchecked_into() }
    }

    /// Called by the runtime, with a message.
    pub fn fetch(&self, request: web_sys::Request) -> Promise {
        let object = self.clone();
        future_to_promise(async move {
            let message = Settled::of_call(request.text()).await?.as_string().unwrap_or_default();
            // An `Err` would reach the Worker as an exception, with a stack for a message.
            let answer = object.answer(&message).await.unwrap_or_else(|thrown| js::thrown(&thrown));
            Ok(web_sys::Response::new_with_opt_str(Some(&answer))?.into())
        })
    }

    /// Called by the runtime, when the alarm is due.
    pub fn alarm(&self) -> Promise {
        let object = self.clone();
        future_to_promise(async move { object.expire().await.map(|()| JsValue::UNDEFINED) })
    }
}

impl SessionObject {
    async fn answer(&self, message: &str) -> Result<String, JsValue> {
        let (head, text) = message.split_once('\n').unwrap_or((message, ""));
        let (PROTOCOL, act) = head.split_once(' ').unwrap_or((head, "")) else {
            return Ok(format!("this object does not speak {head}"));
        };
        let stored = self.stored()?;
        match (act, Record::from_text(text)) {
            (LOAD, _) => Ok(found(stored)),
            (CREATE, Ok(record)) => self.create(stored.as_deref(), &record, text).await,
            (UPDATE, Ok(record)) => self.update(stored.as_deref(), &record).await,
            (TOUCH, Ok(touch)) => self.touch(stored.as_deref(), &touch),
            (DELETE, _) => {
                let record = stored.as_deref().map(Record::from_text);
                let is_retired = matches!(&record, Some(Ok(record)) if record.successor.is_some());
                if !is_retired {
                    Settled::of_call(self.storage.delete_all()).await?;
                }
                Ok(found(stored))
            }
            #[cfg(feature = "users")]
            (other, _) => self.answer_for_user(stored.as_deref(), other, text).await,
            #[cfg(not(feature = "users"))]
            (other, _) => Ok(format!("this object does not know how to {other}")),
        }
    }

    async fn create(&self, stored: Option<&str>, record: &Record, text: &str) -> Result<String, JsValue> {
        match stored.map(Record::from_text) {
            None => {
                self.storage.kv()?.put(KEY, text)?;
                self.wake_at(record.expires_at).await?;
                Ok(DONE.to_owned())
            }
            Some(Ok(stored)) if stored.is_same_write(record) => Ok(DONE.to_owned()),
            Some(_) => Ok(DUPLICATE.to_owned()),
        }
    }

    /// The alarm mostly stays as it is: when it fires, it finds the later expiry and is set again, which
    /// saves a write for each use of the session. Only what is to be gone earlier sets it.
    async fn update(&self, stored: Option<&str>, next: &Record) -> Result<String, JsValue> {
        let parsed = match stored.map(Record::from_text).transpose() {
            Ok(parsed) => parsed,
            Err(error) => return Ok(error.to_string()),
        };
        match Record::update_to(parsed.as_ref(), next) {
            Updated::Done => {
                if let Some(parsed) = parsed {
                    let is_earlier = next.expires_at < parsed.expires_at;
                    let alarm = is_earlier.then(|| self.storage.set_alarm(js::float(next.expires_at) * 1000.0));
                    // Before the alarm is awaited: no other message comes between the look at the version and this.
                    self.storage.kv()?.put(KEY, &parsed.replaced_by(next).to_text())?;
                    if let Some(alarm) = alarm {
                        Settled::of_call(alarm).await?;
                    }
                }
                Ok(DONE.to_owned())
            }
            Updated::Stale(_) => Ok(format!("{STALE}\n{}", stored.unwrap_or_default())),
            Updated::Gone => Ok(GONE.to_owned()),
        }
    }

    fn touch(&self, stored: Option<&str>, touch: &Record) -> Result<String, JsValue> {
        Ok(match stored.map(Record::from_text) {
            Some(Ok(stored)) if stored.successor.is_none() => {
                self.storage.kv()?.put(KEY, &stored.touched_by(touch).to_text())?;
                DONE.to_owned()
            }
            Some(Err(error)) => error.to_string(),
            Some(Ok(_)) | None => GONE.to_owned(),
        })
    }

    fn stored(&self) -> Result<Option<String>, JsValue> {
        Ok(self.storage.kv()?.get(KEY)?.as_string())
    }

    /// At the end nothing is left, not even the alarm, and the object ceases to be.
    async fn expire(&self) -> Result<(), JsValue> {
        let now = js::milliseconds();
        let stored = self.stored()?;
        #[cfg(feature = "users")]
        if stored.as_deref().is_some_and(crate::store::user_objects::lists_some) {
            return self.wake(js::float(now) + super::user_objects::LIST_FOR).await;
        }
        #[cfg(feature = "users")]
        if stored.as_deref().is_some_and(crate::store::user_objects::is_list) {
            return Settled::of_call(self.storage.delete_all()).await.map(|_| ());
        }
        match stored.map(|stored| Record::from_text(&stored)) {
            Some(Ok(record)) if record.expires_at > now / 1000 => self.wake_at(record.expires_at).await,
            Some(Err(_)) => self.wake(js::float(now) + LOOK_AGAIN).await,
            Some(Ok(_)) | None => Settled::of_call(self.storage.delete_all()).await.map(|_| ()),
        }
    }

    async fn wake_at(&self, seconds: u64) -> Result<(), JsValue> {
        self.wake(js::float(seconds) * 1000.0).await
    }

    pub(super) async fn wake(&self, milliseconds: f64) -> Result<(), JsValue> {
        Settled::of_call(self.storage.set_alarm(milliseconds)).await.map(|_| ())
    }
}

/// The answer that gives what is stored.
fn found(stored: Option<String>) -> String {
    stored.map_or_else(|| NONE.to_owned(), |stored| format!("{RECORD}\n{stored}"))
}
