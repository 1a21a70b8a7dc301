//! Routes that only the tests' build has.

use std::future::poll_fn;
use std::mem;
use std::task::Poll;

use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use worker::{Env, Request, Response, js_sys, web_sys};

use super::Visit;
use crate::http::{HttpResponse, WorkerPlatform, text};
use crate::promise::{self, Settled};
use crate::store::conformance::{Abilities, check};
use crate::{
    D1Store, KvStore, ObjectStore, RecordKey, Session, SessionParameters, Sessions, Signer, Store, StoreKind, js,
};

/// In milliseconds: longer than a test waits.
const TEN_MINUTES: u32 = 600_000;

/// The answer, if the path is one of these.
pub(super) async fn answer(request: &web_sys::Request, path: &str, env: &Env) -> Option<web_sys::Response> {
    let answer = match path {
        "/conformance" => Ok(conformance(env).await),
        "/panic" => panics(),
        "/panic-in-the-handler" => crate::serve(request, env, async |_: &mut Session<Visit>| panics()).await,
        "/uncaught" => Ok(text(200, &decoded("%"))),
        "/unhandled" => {
            drop(js_sys::Promise::reject(&"nobody handles it".into()));
            Ok(text(200, ""))
        }
        "/pause" => {
            drop(Settled::after(TEN_MINUTES).await);
            Ok(text(200, ""))
        }
        "/yield" => yields(request, env).await,
        "/awaited" => Ok(text(200, &promise::awaited().to_string())),
        "/notes" => notes(&Request::from(Clone::clone(request)), env).await.map(Into::into),
        "/login" => login(request, env).await,
        "/whoami" => whoami(request, env).await,
        "/slow-count" => slow_count(request, env).await,
        "/slow-look" => slow_look(request, env).await,
        "/slow-update" => slow_update(request, env).await,
        "/slow-reset" => slow_reset(request, env).await,
        "/swallow" => swallow(request, env).await,
        "/nan" => nan(request, env).await,
        "/nested" => nested(request, env).await,
        "/public" => public(request, env).await,
        "/shop" => shop(request, env).await,
        "/fetched" => fetched(request, env, |response| response).await,
        "/fetched-by-worker" => fetched(request, env, Response::from).await.map(Into::into),
        _ => stored(path.strip_prefix("/stored/")?, env).await,
    };
    Some(answer.unwrap_or_else(|error| text(500, &error.to_string())))
}

#[wasm_bindgen]
extern "C" {
    /// What it throws nobody catches: the instance ends by something that is no trap.
    #[wasm_bindgen(js_name = decodeURIComponent)]
    fn decoded(text: &str) -> String;
}

/// What no request of ours does, for the tests of what becomes of the Worker then.
#[expect(clippy::panic, reason = "for that")]
fn panics() -> worker::Result<web_sys::Response> {
    panic!("as it was asked to")
}

/// Lets others go first, before the session is loaded and after it: a task that is woken while it runs.
async fn yields(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    let step_aside = async || {
        for _ in 0..3 {
            let mut been = false;
            poll_fn(|context| {
                if mem::replace(&mut been, true) {
                    return Poll::Ready(());
                }
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
        }
    };
    step_aside().await;
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        step_aside().await;
        session.count = session.count.saturating_add(1);
        Ok(text(200, &session.count.to_string()))
    })
    .await
}

/// Runs the store conformance suite on the configured store.
async fn conformance(env: &Env) -> web_sys::Response {
    let platform = &WorkerPlatform;
    let verdict = async {
        let store = Sessions::from_env(env)?.parameters().store;
        match store {
            StoreKind::Kv => {
                // What KV cannot do, and KvStore's documentation says so.
                let abilities = Abilities { insert_only: false, compare_and_set: false };
                check(&KvStore::from_env(env, "SESSIONS")?, platform, abilities).await
            }
            StoreKind::D1 => check(&D1Store::from_env(env, "DB")?, platform, Abilities::ALL).await,
            StoreKind::Object => check(&ObjectStore::from_env(env, "SESSION_OBJECTS")?, platform, Abilities::ALL).await,
        }
    };
    match verdict.await {
        Ok(()) => text(200, "the store conforms\n"),
        Err(violation) => text(500, &violation.to_string()),
    }
}

/// Whether an object holds a record, expired or not, for the tests of its alarm.
async fn stored(key: &str, env: &Env) -> worker::Result<web_sys::Response> {
    let key = RecordKey::from_stored(key).ok_or("no key")?;
    let record = ObjectStore::from_env(env, "SESSION_OBJECTS")?.load(&key).await?;
    Ok(text(200, if record.is_some() { "a record" } else { "nothing" }))
}

/// In milliseconds: long enough for another request to come and go.
const A_WHILE: u32 = 1500;

/// How often the session was counted, without touching it.
async fn whoami(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    crate::serve(request, env, async |session: &mut Session<Visit>| Ok(text(200, &session.count.to_string()))).await
}

/// Counts, and is slow about it: for the tests of replies that arrive late.
async fn slow_count(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(1);
        drop(Settled::after(A_WHILE).await);
        Ok(text(200, &session.count.to_string()))
    })
    .await
}

async fn slow_look(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        drop(Settled::after(A_WHILE).await);
        Ok(text(200, &session.count.to_string()))
    })
    .await
}

/// Takes one, once others have loaded the session as well, and says how many it took.
async fn slow_update(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        drop(Settled::after(A_WHILE).await);
        let took = session
            .update(|visit| {
                let one = visit.count.min(1);
                visit.count = visit.count.saturating_sub(one);
                one
            })
            .await?;
        Ok(text(200, &took.to_string()))
    })
    .await
}

async fn slow_reset(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        drop(Settled::after(A_WHILE).await);
        session.kill();
        Ok(text(200, ""))
    })
    .await
}

/// Hides that a save failed, by an error of worker's in between, and fails by itself.
async fn swallow(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    let save = async |session: &mut Session<Visit>| -> worker::Result<()> { Ok(session.save().await?) };
    let served = crate::serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(1);
        match save(session).await {
            Ok(()) => Ok(text(200, "saved")),
            Err(error) => Err(worker::Error::RustError(format!("the handler's own, after: {error}"))),
        }
    });
    Ok(served.await.unwrap_or_else(|error: worker::Error| text(418, &error.to_string())))
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Measured {
    #[serde(default)]
    count: f64,
}

/// Saves what JSON cannot hold.
async fn nan(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    crate::serve(request, env, async |session: &mut Session<Measured>| {
        session.count = f64::NAN;
        Ok(text(200, ""))
    })
    .await
}

/// Serves its own request once more within its handler.
async fn nested(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(1);
        whoami(request, env).await
    })
    .await
}

/// Counts in a table, by a key and by parameters of other names.
async fn shop(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    let store = D1Store::from_env(env, "DB")?.with_table("shop_sessions")?;
    let (signer, parameters) = (Signer::from_env(env, "SHOP_KEY")?, SessionParameters::from_env(env, "shop")?);
    let sessions = Sessions::new(store, WorkerPlatform, signer, parameters)?;
    sessions
        .serve(request, async |session: &mut Session<Visit>| {
            session.count = session.count.saturating_add(1);
            Ok(text(200, &session.count.to_string()))
        })
        .await
}

/// A handler that says itself who may keep its reply.
async fn public(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        let response = web_sys::Response::new_with_opt_str(Some(&session.count.to_string()))?;
        let query = request.url();
        response.headers().set(
            "Cache-Control",
            &query
                .split_once('?')
                .map_or_else(|| "public, max-age=60".to_owned(), |(_, value)| value.replace("%22", "\"")),
        )?;
        response.headers().set("CDN-Cache-Control", "max-age=60")?;
        response.headers().set("Vary", "Accept-Encoding, cookie")?;
        Ok(response)
    })
    .await
}

/// Changes the id, for the tests of what the old one is worth then.
async fn login(request: &web_sys::Request, env: &Env) -> worker::Result<web_sys::Response> {
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(100);
        session.cycle_id();
        Ok(text(200, &session.count.to_string()))
    })
    .await
}

/// Replies with a response that was fetched, whose headers cannot be changed.
async fn fetched<R: HttpResponse>(
    request: &web_sys::Request,
    env: &Env,
    convert: impl Fn(web_sys::Response) -> R,
) -> worker::Result<R> {
    crate::serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(1);
        let objects: JsValue = js::binding(env, "SESSION_OBJECTS", "[[durable_objects.bindings]]", "getByName")?;
        let object = method(&objects, "getByName", "nobody")?;
        let fetched = Settled::of(method(&object, "fetch", "https://session/")?.unchecked_ref()).await?;
        Ok(convert(fetched.unchecked_into()))
    })
    .await
}

fn method(object: &JsValue, name: &str, argument: &str) -> Result<JsValue, JsValue> {
    let method: js_sys::Function = js_sys::Reflect::get(object, &name.into())?.unchecked_into();
    method.call1(object, &argument.into())
}

/// Appends the request's body to the session, for the tests of handlers that run again: the body is
/// there each time, since each run reads a copy.
async fn notes(request: &Request, env: &Env) -> worker::Result<Response> {
    crate::serve(request, env, async |session: &mut Session<Vec<String>>| {
        let note = request.clone()?.text().await?;
        if !note.is_empty() {
            session.push(note);
        }
        Response::ok(session.join(" "))
    })
    .await
}
