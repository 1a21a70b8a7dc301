//! A Worker with the routes that tests need, over the public API alone.
#![allow(clippy::panic, reason = "a test asks for it")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::mem;
use std::task::Poll;
use std::time::Duration;

use edge_session::store::conformance::{Abilities, check, check_users};
use edge_session::{
    D1Store, HttpResponse, KvStore, ObjectStore, Platform, RecordKey, Session, SessionParameters, Sessions, Signer,
    Store, StoreKind, WorkerPlatform, serve,
};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::{
    Context, Delay, DurableObject, Env, Method, Request, Response, Result, ScheduleContext, ScheduledEvent, State,
    WebSocketPair, durable_object, event, js_sys, wasm_bindgen_futures::JsFuture, web_sys,
};

/// The Durable Object that `routes.toml` declares.
pub use edge_session::SessionObject;

#[derive(Default, Serialize, Deserialize)]
struct Visit {
    #[serde(default)]
    count: u64,
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    let (request, env) = (&request, &env);
    match request.path().as_str() {
        "/count" => count(request, env).await,
        "/reset" => reset(request, env).await,
        "/conformance" => conformance(env).await,
        "/panic" => panics(),
        "/panic-in-the-handler" => serve(request, env, async |_: &mut Session<Visit>| panics()).await,
        "/uncaught" => Response::ok(decoded("%")),
        "/unhandled" => {
            drop(js_sys::Promise::reject(&"nobody handles it".into()));
            Response::ok("")
        }
        "/later" => {
            let kv = env.kv("SESSIONS")?;
            let work = WorkerPlatform.wait_until(Box::pin(async move {
                while !matches!(kv.get("go on").text().await, Ok(Some(_))) {
                    Delay::from(Duration::from_millis(100)).await;
                }
                worker::console_log!("done after the reply");
            }));
            work.await;
            Response::ok("")
        }
        "/pause" => {
            Delay::from(TEN_MINUTES).await;
            Response::ok("")
        }
        // Of the instance, in bytes.
        "/memory" => Response::ok(
            js_sys::Reflect::get(&wasm_bindgen::memory(), &"buffer".into())?
                .unchecked_into::<js_sys::ArrayBuffer>()
                .byte_length()
                .to_string(),
        ),
        "/yield" => yields(request, env).await,
        "/notes" => notes(request, env).await,
        "/login" => login(request, env).await,
        "/login-saved-at-once" => login_saved_at_once(request, env).await,
        "/whoami" => whoami(request, env).await,
        "/slow-count" => slow_count(request, env).await,
        "/slow-look" => slow_look(request, env).await,
        "/slow-update" => slow_update(request, env).await,
        "/slow-reset" => slow_reset(request, env).await,
        "/gate" => gate(request),
        "/swallow" => swallow(request, env).await,
        "/nan" => nan(request, env).await,
        "/returned" => {
            edge_session::serve_from_anywhere(request, env, async |session: &mut Session<Visit>| {
                session.count = session.count.saturating_add(1);
                Response::ok(session.count.to_string())
            })
            .await
        }
        "/user" => of_user(request, env).await,
        "/nested" => nested(request, env).await,
        "/public" => public(request, env).await,
        "/shop" => shop(request, env).await,
        "/table" => table(request, env),
        "/public-count" => public_count(request, env).await,
        "/fetched" => fetched(request, env, |response| response).await.map(Response::from),
        "/fetched-by-worker" => fetched(request, env, Response::from).await,
        "/socket" => opens_socket(request, env).await,
        "/socket-of-a-room" => room(request, env, |response| response).await.map(Response::from),
        "/socket-of-a-room-by-worker" => room(request, env, Response::from).await,
        path => match path.strip_prefix("/stored/") {
            Some(key) => stored(key, env).await,
            None => Response::error("not found", 404),
        },
    }
}

#[event(scheduled)]
async fn scheduled(_event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    if let Err(error) = async { Sessions::from_env(&env)?.delete_expired().await }.await {
        panic!("{error}");
    }
}

/// Longer than a test waits.
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// Counts, as `counter` does.
async fn count(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(1);
        Response::ok(session.count.to_string())
    })
    .await
}

async fn reset(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        session.kill();
        Response::ok("")
    })
    .await
}

#[wasm_bindgen]
extern "C" {
    /// What it throws nobody catches: the instance ends by something that is no trap.
    #[wasm_bindgen(js_name = decodeURIComponent)]
    fn decoded(text: &str) -> String;
}

/// What no request of ours does, for the tests of what becomes of the Worker then.
fn panics() -> Result<Response> {
    panic!("as it was asked to")
}

/// Lets others go first, before the session is loaded and after it: a task that is woken while it runs.
async fn yields(request: &Request, env: &Env) -> Result<Response> {
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
    serve(request, env, async |session: &mut Session<Visit>| {
        step_aside().await;
        session.count = session.count.saturating_add(1);
        Response::ok(session.count.to_string())
    })
    .await
}

/// Runs the store conformance suite on the configured store.
async fn conformance(env: &Env) -> Result<Response> {
    let platform = &WorkerPlatform;
    let verdict = async {
        let store = Sessions::from_env(env)?.parameters().store;
        match store {
            StoreKind::Kv => {
                // What KV cannot do, and KvStore's documentation says so.
                let abilities = Abilities { insert_only: false, compare_and_set: false };
                check(&KvStore::from_env(env, "SESSIONS")?, platform, abilities).await
            }
            StoreKind::D1 => {
                let store = D1Store::from_env(env, "DB")?;
                check(&store, platform, Abilities::ALL).await?;
                check_users(&store, platform).await
            }
            _ => {
                let store = ObjectStore::from_env(env, "SESSION_OBJECTS")?;
                check(&store, platform, Abilities::ALL).await?;
                check_users(&store, platform).await
            }
        }
    };
    match verdict.await {
        Ok(()) => Response::ok("the store conforms\n"),
        Err(violation) => Response::error(violation.to_string(), 500),
    }
}

/// Whether an object holds a record, expired or not, for the tests of its alarm.
async fn stored(key: &str, env: &Env) -> Result<Response> {
    let key = RecordKey::from_stored(key).ok_or("no key")?;
    let record = ObjectStore::from_env(env, "SESSION_OBJECTS")?.load(&key).await?;
    Response::ok(if record.is_some() { "a record" } else { "nothing" })
}

/// Where slow handlers wait for each other, however slow the machine is: a test sees how many have come, and opens it.
#[derive(Default)]
struct Gate {
    waiting: usize,
    is_open: bool,
}

thread_local! {
    static GATES: RefCell<HashMap<String, Gate>> = RefCell::default();
}

fn at_gate<R>(request: &Request, act: impl FnOnce(&mut Gate) -> R) -> R {
    let name = request.inner().url().split_once("?gate=").map_or_else(String::new, |(_, name)| name.to_owned());
    GATES.with_borrow_mut(|gates| act(gates.entry(name).or_default()))
}

/// `?gate=NAME`: how many wait there; a `POST` opens it.
fn gate(request: &Request) -> Result<Response> {
    let opens = request.method() == Method::Post;
    Response::ok(at_gate(request, |gate| {
        gate.is_open |= opens;
        gate.waiting.to_string()
    }))
}

/// Waits at the gate that the request names.
async fn until_it_opens(request: &Request) {
    at_gate(request, |gate| gate.waiting = gate.waiting.saturating_add(1));
    while !at_gate(request, |gate| gate.is_open) {
        Delay::from(Duration::from_millis(20)).await;
    }
}

/// How often the session was counted, without touching it.
async fn whoami(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| Response::ok(session.count.to_string())).await
}

/// Counts, and is slow about it: for the tests of replies that arrive late.
async fn slow_count(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(1);
        until_it_opens(request).await;
        Response::ok(session.count.to_string())
    })
    .await
}

async fn slow_look(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        until_it_opens(request).await;
        Response::ok(session.count.to_string())
    })
    .await
}

/// Takes one, once others have loaded the session as well, and says how many it took.
async fn slow_update(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        until_it_opens(request).await;
        let took = session
            .update(|visit| {
                let one = visit.count.min(1);
                visit.count = visit.count.saturating_sub(one);
                one
            })
            .await?;
        Response::ok(took.to_string())
    })
    .await
}

async fn slow_reset(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        until_it_opens(request).await;
        session.kill();
        Response::ok("")
    })
    .await
}

/// Hides that a save failed, by an error of worker's in between, and fails by itself.
async fn swallow(request: &Request, env: &Env) -> Result<Response> {
    let save = async |session: &mut Session<Visit>| -> Result<()> { Ok(session.save().await?) };
    let served = serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(1);
        match save(session).await {
            Ok(()) => Response::ok("saved"),
            Err(error) => Err(worker::Error::RustError(format!("the handler's own, after: {error}"))),
        }
    });
    served.await.or_else(|error: worker::Error| Response::error(error.to_string(), 418))
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Measured {
    #[serde(default)]
    count: f64,
}

/// Saves what JSON cannot hold.
async fn nan(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Measured>| {
        session.count = f64::NAN;
        Response::ok("")
    })
    .await
}

/// Serves its own request once more within its handler.
async fn nested(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(1);
        whoami(request, env).await
    })
    .await
}

/// Counts in a table, by a key and by parameters of other names.
async fn shop(request: &Request, env: &Env) -> Result<Response> {
    let store = D1Store::from_env(env, "DB")?.with_table("order")?;
    let (signer, parameters) = (Signer::from_env(env, "SHOP_KEY")?, SessionParameters::from_env(env, "shop")?);
    let sessions = Sessions::new(store, WorkerPlatform, signer, parameters)?;
    sessions
        .serve(request, async |session: &mut Session<Visit>| {
            session.count = session.count.saturating_add(1);
            Response::ok(session.count.to_string())
        })
        .await
}

/// What is said of a table of this name.
fn table(request: &Request, env: &Env) -> Result<Response> {
    let url = request.url()?;
    match D1Store::from_env(env, "DB")?.with_table(url.query().unwrap_or_default()) {
        Ok(_) => Response::ok("accepted"),
        Err(error) => Response::ok(error.kind().as_str()),
    }
}

/// Counts, and says of its reply what a browser alone may keep.
async fn public_count(request: &Request, env: &Env) -> Result<Response> {
    counts_and(request, env, async || {
        let response = Response::ok("")?;
        for (name, value) in [
            ("Cache-Control", "private, max-age=60"),
            ("Vary", "Accept-Encoding"),
            ("Cloudflare-CDN-Cache-Control", "max-age=60"),
            ("Surrogate-Control", "max-age=60"),
        ] {
            response.headers().set(name, value)?;
        }
        Ok(response)
    })
    .await
}

/// A handler that says itself who may keep its reply.
async fn public(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        let response = Response::ok(session.count.to_string())?;
        let query = request.inner().url();
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

/// A change of id that is stored before the handler is done, and another change after that.
async fn login_saved_at_once(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        session.cycle_id();
        session.save().await?;
        session.count = session.count.saturating_add(1);
        Response::ok("")
    })
    .await
}

/// Changes the id, for the tests of what the old one is worth then.
async fn login(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(100);
        session.cycle_id();
        Response::ok(session.count.to_string())
    })
    .await
}

/// Counts, and replies with this.
async fn counts_and<R: HttpResponse>(request: &Request, env: &Env, reply: impl AsyncFn() -> Result<R>) -> Result<R> {
    serve(request, env, async |session: &mut Session<Visit>| {
        session.count = session.count.saturating_add(1);
        reply().await
    })
    .await
}

/// Replies with a response that was fetched, whose headers cannot be changed.
async fn fetched<R: HttpResponse>(
    request: &Request,
    env: &Env,
    convert: impl Fn(web_sys::Response) -> R,
) -> worker::Result<R> {
    counts_and(request, env, async || {
        // worker's own makes another response of it.
        let objects: Objects = js_sys::Reflect::get(env, &"SESSION_OBJECTS".into())?.unchecked_into();
        let promise = objects.get_by_name("nobody").fetch("https://session/");
        let fetched: web_sys::Response = JsFuture::from(promise).await?.unchecked_into();
        assert!(fetched.headers().set("x", "y").is_err(), "its headers cannot be changed");
        Ok(convert(fetched))
    })
    .await
}

#[wasm_bindgen]
extern "C" {
    type Objects;
    #[wasm_bindgen(method, js_name = getByName)]
    fn get_by_name(this: &Objects, name: &str) -> Object;

    type Object;
    #[wasm_bindgen(method)]
    fn fetch(this: &Object, url: &str) -> js_sys::Promise;
}

/// Greets by a WebSocket.
fn socket() -> Result<Response> {
    let WebSocketPair { client, server } = WebSocketPair::new()?;
    server.accept()?;
    server.send_with_str("hello")?;
    Response::from_websocket(client)
}

async fn opens_socket(request: &Request, env: &Env) -> Result<Response> {
    counts_and(request, env, async || socket()).await
}

/// An object that greets: its response is one that was fetched.
#[durable_object]
struct Room;

impl DurableObject for Room {
    fn new(_state: State, _env: Env) -> Self {
        Self
    }

    async fn fetch(&self, _request: Request) -> Result<Response> {
        socket()
    }
}

async fn room<R: HttpResponse>(
    request: &Request,
    env: &Env,
    convert: impl Fn(web_sys::Response) -> R,
) -> worker::Result<R> {
    counts_and(request, env, async || {
        let room = env.durable_object("ROOMS")?.get_by_name("lobby")?;
        Ok(convert(room.fetch_with_request(request.clone()?).await?.into()))
    })
    .await
}

/// Appends the request's body to the session, for the tests of handlers that run again: the body is
/// there each time, since each run reads a copy.
async fn notes(request: &Request, env: &Env) -> Result<Response> {
    serve(request, env, async |session: &mut Session<Vec<String>>| {
        let note = request.clone()?.text().await?;
        if !note.is_empty() {
            session.push(note);
        }
        Response::ok(session.join(" "))
    })
    .await
}

/// `/user?act=count&user=ada&after=50`: does this for a user, so many milliseconds after it has loaded the session.
async fn of_user(request: &Request, env: &Env) -> Result<Response> {
    let url = request.url()?;
    let word = |name: &str| {
        let found = url.query_pairs().find(|(its, _)| its == name).map(|(_, value)| value.into_owned());
        found.unwrap_or_default()
    };
    let (act, user) = (word("act"), word("user"));
    let after = Duration::from_millis(word("after").parse().unwrap_or_default());
    let sessions = Sessions::from_env(env)?;
    sessions
        .serve(request, async |session: &mut Session<Visit>| {
            let began = WorkerPlatform.milliseconds();
            if !after.is_zero() {
                Delay::from(after).await;
            }
            let theirs = sessions.of(&user);
            let answer = match act.as_str() {
                "count" => {
                    session.count = session.count.saturating_add(1);
                    session.count.to_string()
                }
                "login" => {
                    session.count = session.count.saturating_add(1);
                    session.cycle_id();
                    "a new id".to_owned()
                }
                "sign-in" => {
                    session.sign_in(&user)?;
                    session.set_label(word("label"));
                    began.to_string()
                }
                "end-all" => {
                    let began = WorkerPlatform.milliseconds();
                    theirs.end_all().await?;
                    began.to_string()
                }
                "end-others" => theirs.end_others(session).await?.to_string(),
                "end" => {
                    let handle = edge_session::SessionHandle::from_text(&word("handle")).ok_or("no handle")?;
                    theirs.end(&handle).await?.to_string()
                }
                "list" => {
                    let name = |listed: &edge_session::UserSession| {
                        format!("{} {}", listed.handle, listed.label.as_deref().unwrap_or("-"))
                    };
                    theirs.list().await?.iter().map(name).collect::<Vec<_>>().join("\n")
                }
                _ => session.user().unwrap_or("nobody").to_owned(),
            };
            Response::ok(answer)
        })
        .await
}
