use std::cell::OnceCell;

use wasm_bindgen::{JsCast, JsValue};
use worker::Env;
use worker::js_sys::{Array, JSON, Object};

use super::js;
use super::platform::WorkerPlatform;
use crate::parameters::Setting;
use crate::{D1Store, Error, KvStore, SessionParameters, Sessions, Signer, StoreKind};

/// The bindings that [`Sessions::from_env`] looks for.
const PARAMETERS: &str = "session_parameters";
const SECRET: &str = "SECRET_KEY";
const KV_NAMESPACE: &str = "SESSIONS";
const D1_DATABASE: &str = "DB";
#[cfg(feature = "object")]
const OBJECTS: &str = "SESSION_OBJECTS";

thread_local! {
    /// Parameters and keys are read and checked once in the life of an isolate. Only what passed is
    /// kept, and it is never needed to be: after a panic the instance starts anew without it.
    static SESSIONS: OnceCell<Sessions> = const { OnceCell::new() };
}

impl Sessions {
    /// The sessions that the Worker's environment describes: the parameters in the table
    /// `[vars.session_parameters]`, the keys in the secret `SECRET_KEY`, and, as `store` says, the KV
    /// namespace `SESSIONS`, the D1 database `DB` or the Durable Objects `SESSION_OBJECTS`.
    ///
    /// # Errors
    ///
    /// `Misconfigured`; the message names what is wrong and how to repair it. A missing table of
    /// parameters is *not* an error: each parameter has its default.
    pub fn from_env(env: &Env) -> Result<Self, Error> {
        SESSIONS.with(|kept| match kept.get() {
            Some(sessions) => Ok(sessions.clone()),
            None => Self::from_env_with(env, |_| {}).map(|sessions| kept.get_or_init(|| sessions).clone()),
        })
    }

    /// [`from_env`](Self::from_env), with the environment's parameters as `change` changes them: for a second
    /// kind of session in one Worker, which needs a cookie name of its own.
    ///
    /// It reads and checks the environment at each call; keep the result in a `thread_local!`.
    ///
    /// # Errors
    ///
    /// `Misconfigured`, as [`from_env`](Self::from_env).
    pub fn from_env_with(env: &Env, change: impl FnOnce(&mut SessionParameters)) -> Result<Self, Error> {
        let mut parameters = SessionParameters::from_env(env, PARAMETERS)?;
        change(&mut parameters);
        in_store(env, Signer::from_env(env, SECRET)?, parameters)
    }
}

impl SessionParameters {
    /// The parameters in a table of the environment, `[vars.<name>]` in `wrangler.toml`.
    ///
    /// # Errors
    ///
    /// `Misconfigured`, as [`from_json`](Self::from_json). A missing table is *not* an error: each parameter has its
    /// default.
    pub fn from_env(env: &Env, name: &str) -> Result<Self, Error> {
        match js::variable(env, name) {
            None => Ok(Self::default()),
            Some(table) => {
                settings(table).and_then(Self::from_settings).map_err(|error| named(error, PARAMETERS, name))
            }
        }
    }
}

impl Signer {
    /// The keys in a secret of the environment.
    ///
    /// # Errors
    ///
    /// `Misconfigured`, as [`from_secret`](Self::from_secret), or if there is no such secret, or it is bound as an object.
    pub fn from_env(env: &Env, name: &str) -> Result<Self, Error> {
        let signer = match js::variable(env, name) {
            None => Err(Self::missing()),
            Some(secret) => {
                secret.as_string().map_or_else(|| Err(Self::bound_as_an_object()), |text| Self::from_secret(&text))
            }
        };
        signer.map_err(|error| named(error, SECRET, name))
    }
}

/// What is wrong with a binding that has another name than the usual one, and what repairs it.
fn named(error: Error, usual: &str, name: &str) -> Error {
    if name == usual { error } else { Error::misconfigured(error.to_string().replace(usual, name)) }
}

/// Sessions in the store that the parameters name.
fn in_store(env: &Env, signer: Signer, parameters: SessionParameters) -> Result<Sessions, Error> {
    match parameters.store {
        StoreKind::Kv => Sessions::new(KvStore::from_env(env, KV_NAMESPACE)?, WorkerPlatform, signer, parameters),
        StoreKind::D1 => Sessions::new(D1Store::from_env(env, D1_DATABASE)?, WorkerPlatform, signer, parameters),
        #[cfg(feature = "object")]
        StoreKind::Object => {
            Sessions::new(super::object::ObjectStore::from_env(env, OBJECTS)?, WorkerPlatform, signer, parameters)
        }
        #[cfg(not(feature = "object"))]
        StoreKind::Object => Err(Error::misconfigured(
            "session_parameters: `store = \"object\"` needs edge-session's feature `object`: write features = [\"object\"] \
                 in Cargo.toml, and `pub use edge_session::SessionObject;` in the Worker",
        )),
    }
}

/// The entries of a `[vars]` table.
fn settings(table: JsValue) -> Result<impl Iterator<Item = (String, Setting)>, Error> {
    let table = table
        .dyn_into::<Object>()
        .ok()
        .filter(|table| !Array::is_array(table))
        .ok_or_else(SessionParameters::no_table)?;
    Ok(Object::entries(&table).into_iter().map(|entry| {
        let entry = Array::from(&entry);
        (entry.get(0).as_string().unwrap_or_default(), setting(&entry.get(1)))
    }))
}

fn setting(value: &JsValue) -> Setting {
    if let Some(text) = value.as_string() {
        Setting::Text(text)
    } else if let Some(flag) = value.as_bool() {
        Setting::Flag(flag)
    } else if let Some(number) = value.as_f64() {
        Setting::Number(number)
    } else if let Some(texts) = texts(value) {
        Setting::Texts(texts)
    } else {
        let json = JSON::stringify(value).ok().and_then(|json| json.as_string());
        Setting::Other(json.unwrap_or_default())
    }
}

/// The texts in a list that has nothing else.
fn texts(value: &JsValue) -> Option<Vec<String>> {
    value.dyn_ref::<Array>()?.iter().map(|text| text.as_string()).collect()
}
