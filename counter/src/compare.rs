//! The stores side by side: the same routes once more under `/kv`, `/d1` and `/object`, each with a
//! session of its own, where `compare_stores = true` in `[vars]`. The page at `/` shows what differs.

use std::cell::OnceCell;

use edge_session::{Error, ErrorKind, Sessions, StoreKind, Swept};
use worker::Env;
use worker::js_sys::Reflect;

/// The store that a path names, and the path below.
pub(crate) fn store_of(path: &str) -> (Option<StoreKind>, &str) {
    [StoreKind::Kv, StoreKind::D1, StoreKind::Object]
        .into_iter()
        .find_map(|store| {
            let below = path.strip_prefix('/')?.strip_prefix(store.as_str())?;
            below.starts_with('/').then_some((Some(store), below))
        })
        .unwrap_or((None, path))
}

thread_local! {
    static KV: OnceCell<Sessions> = const { OnceCell::new() };
    static D1: OnceCell<Sessions> = const { OnceCell::new() };
    static OBJECT: OnceCell<Sessions> = const { OnceCell::new() };
}

/// The sessions in `store`, whatever store the Worker is set to; `None` if they are not to be compared.
///
/// # Errors
///
/// `Misconfigured`, as [`Sessions::from_env`].
pub(crate) fn sessions(env: &Env, store: StoreKind) -> Result<Option<Sessions>, Error> {
    if !is_on(env)? {
        return Ok(None);
    }
    let kept = match store {
        StoreKind::Kv => &KV,
        StoreKind::D1 => &D1,
        StoreKind::Object => &OBJECT,
        _ => return Ok(None),
    };
    kept.with(|kept| match kept.get() {
        Some(sessions) => Ok(Some(sessions.clone())),
        None => read(env, store).map(|sessions| Some(kept.get_or_init(|| sessions).clone())),
    })
}

/// Whether the reply is to leave the browser's cookie as it is: `?keep_cookie`. For the page's races, which
/// can then see what the old cookie is worth after a logout; scripts cannot put a cookie aside.
pub(crate) fn keeps_cookie(url: &str) -> bool {
    url.ends_with("?keep_cookie")
}

/// A cookie name of its own each, for a browser sends the cookie of `/` below `/kv` as well.
fn read(env: &Env, store: StoreKind) -> Result<Sessions, Error> {
    Sessions::from_env_with(env, |parameters| {
        let name = store.as_str();
        parameters.store = store;
        parameters.cookie_name = format!("{name}_session_id");
        parameters.cookie_path = format!("/{name}");
    })
}

/// Frees the space of expired sessions in D1, the only store that does not do so by itself.
///
/// # Errors
///
/// As [`sessions`], and `Unavailable`.
pub(crate) async fn sweep(env: &Env) -> Result<Swept, Error> {
    match sessions(env, StoreKind::D1)? {
        None => Ok(Swept::default()),
        Some(sessions) => sessions.delete_expired().await,
    }
}

fn is_on(env: &Env) -> Result<bool, Error> {
    let variable = Reflect::get(env, &"compare_stores".into()).unwrap_or_default();
    if variable.is_undefined() || variable.is_null() {
        return Ok(false);
    }
    variable.as_bool().ok_or_else(|| {
        Error::new(ErrorKind::Misconfigured, "`compare_stores` in [vars] must be true or false, without quotes")
    })
}
