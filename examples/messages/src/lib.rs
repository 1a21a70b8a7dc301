//! Sessions where there is no request: in the messages of a WebSocket, and in those of a queue. Both `open` the session by
//! the `Cookie` header that the visitor came with, and `commit` it for each message.

use edge_session::{Error, ErrorKind, Incoming, Opened, Session, Sessions};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use worker::{
    Context, Env, MessageBatch, MessageExt, Method, Request, Response, Result, WebSocket, WebSocketPair,
    WebsocketEvent, event, wasm_bindgen_futures::spawn_local,
};

/// The Durable Object, where `store = "object"`.
pub use edge_session::SessionObject;

#[derive(Default, Serialize, Deserialize)]
struct Visitor {
    messages: u64,
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    let sessions = match Sessions::from_env(&env) {
        Ok(sessions) => sessions,
        Err(error) => return Ok(error.into_reply()),
    };
    let cookie = request.headers().get("Cookie")?;
    match request.path().as_str() {
        // Stores the session, so that the visitor has its cookie: neither a socket nor a queue can give one.
        "/" => {
            sessions
                .serve(&request, async |session: &mut Session<Visitor>| {
                    session.save().await?;
                    Response::ok(session.messages.to_string())
                })
                .await
        }
        // By `serve`, as what follows: it refuses what a page of another site sends. A message's `open` judges nothing.
        "/socket" => {
            sessions
                .serve(&request, async |_: &mut Session<Visitor>| {
                    let WebSocketPair { client, server } = WebSocketPair::new()?;
                    server.accept()?;
                    spawn_local(answer(server, sessions.clone(), cookie.clone()));
                    Response::from_websocket(client)
                })
                .await
        }
        "/later" if request.method() == Method::Post => {
            sessions
                .serve(&request, async |_: &mut Session<Visitor>| {
                    env.queue("LATER")?.send(Job { cookie: cookie.clone() }).await?;
                    Response::ok("later")
                })
                .await
        }
        _ => Response::error("not found", 404),
    }
}

/// Each message of a socket is a small request of its own. The session is not kept from one to the next: another request
/// may have changed it, or ended it.
async fn answer(socket: WebSocket, sessions: Sessions, cookie: Option<String>) {
    let Ok(mut events) = socket.events() else { return };
    while let Some(Ok(WebsocketEvent::Message(_))) = events.next().await {
        let said = match count(&sessions, cookie.as_deref()).await {
            Ok(Some(messages)) => socket.send_with_str(messages.to_string()),
            // Logged out, or never logged in.
            Ok(None) => socket.close(Some(4401), Some("no session")),
            Err(error) => {
                worker::console_error!("edge-session: {}: {error}", error.kind().as_str());
                socket.close(Some(1013), Some("try again later"))
            }
        };
        if said.is_err() {
            return;
        }
    }
}

/// Adds a message to the session that the cookie leads to, if one does.
async fn count(sessions: &Sessions, cookie: Option<&str>) -> std::result::Result<Option<u64>, Error> {
    let Opened::Session(mut session) = sessions.open::<Visitor>(&Incoming::new().cookie(cookie)).await? else {
        return Ok(None);
    };
    if session.is_new() {
        return Ok(None);
    }
    // By `update`, which wins a lost race by itself.
    let updated = session
        .update(|visitor| {
            visitor.messages = visitor.messages.saturating_add(1);
            visitor.messages
        })
        .await;
    let messages = match updated {
        Err(error) if error.kind() == ErrorKind::Ended => return Ok(None),
        updated => updated?,
    };
    // Notes its use as well. A cookie that has to be renewed waits for a reply (docs/guarantees.md).
    sessions.commit(&mut session).await?;
    Ok(Some(messages))
}

/// What is to be done for a visitor later. The cookie is a secret: keep it out of logs, and let jobs be short-lived.
#[derive(Serialize, Deserialize)]
struct Job {
    cookie: Option<String>,
}

#[event(queue)]
async fn queue(batch: MessageBatch<Job>, env: Env, _context: Context) -> Result<()> {
    let sessions = Sessions::from_env(&env).map_err(worker::Error::from)?;
    for message in batch.messages()? {
        match count(&sessions, message.body().cookie.as_deref()).await {
            Ok(_) => message.ack(),
            // Queues deliver at least once, and so does this: a write may have been stored although it failed.
            Err(error) => {
                worker::console_error!("edge-session: {}: {error}", error.kind().as_str());
                message.retry();
            }
        }
    }
    Ok(())
}
