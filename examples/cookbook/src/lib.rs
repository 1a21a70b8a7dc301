//! The parts of docs/cookbook.md, docs/operations.md and README.md that are no program by themselves.
#![allow(clippy::arithmetic_side_effects, reason = "a count of visits does not overflow")]

use std::time::Duration;

use edge_session::{D1Store, Session, SessionParameters, Sessions, Signer, WorkerPlatform};
use serde::{Deserialize, Serialize};
use worker::{Context, Env, FormEntry, Request, Response, Result, event};

#[derive(Serialize, Deserialize)]
struct Shop {
    count: u64,
    language: String,
    #[serde(default)] // a field that was added when sessions were already stored
    basket: Vec<String>,
    message: Option<String>, // an Option needs no default: what is not stored is None
}

impl Default for Shop {
    fn default() -> Self {
        Self { count: 0, language: "zh".to_owned(), basket: Vec::new(), message: None }
    }
}

/// Sends a mail, or charges a card.
async fn deliver(_basket: &[String]) {}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    match request.path().as_str() {
        "/paid" => return paid(&request, &env).await,
        "/reports" => return shop_sessions(&env)?.serve(&request, report).await,
        _ => {}
    }
    edge_session::serve(&request, &env, async |session: &mut Session<Shop>| match request.path().as_str() {
        "/" => {
            let message = session.message.take(); // read once; where there is none, nothing changes
            Response::ok(message.unwrap_or_default())
        }
        "/add" => {
            session.basket.push("tea".to_owned());
            Response::ok(session.basket.len().to_string())
        }
        "/order" => {
            let basket = std::mem::take(&mut session.basket);
            if basket.is_empty() {
                return Response::ok("nothing to order"); // another request was faster, or there was nothing
            }
            session.save().await?; // a lost race: from the start. Logged out meanwhile: a 401, and nothing is delivered
            deliver(&basket).await; // from here on it runs once
            Response::ok("ordered")
        }
        "/visit" => {
            let count = session
                .update(|shop| {
                    shop.count += 1;
                    shop.count
                })
                .await?;
            Response::ok(count.to_string())
        }
        "/login" => {
            session.sign_in("ada")?;
            session.message = Some("Welcome.".to_owned()); // for the next page
            redirect_home(&request)
        }
        "/remember" => {
            session.sign_in_for("ada", THIRTY_DAYS)?;
            redirect_home(&request)
        }
        _ => Response::error("not found", 404),
    })
    .await
}

fn redirect_home(request: &Request) -> Result<Response> {
    Response::redirect_with_status(request.url()?.join("/")?, 303)
}

/// Another site's page sends this form: the payment's.
async fn paid(request: &Request, env: &Env) -> Result<Response> {
    edge_session::serve_from_anywhere(request, env, async |session: &mut Session<Shop>| {
        let Ok(form) = request.clone()?.form_data().await else {
            return Response::error("a form, please", 400); // anybody may call this route
        };
        let Some(FormEntry::Field(receipt)) = form.get("receipt") else {
            return Response::error("receipt, please", 400);
        };
        if !is_signed_by_the_bank(&receipt) {
            return Response::error("this is no receipt", 403);
        }
        session.message = Some("Thank you.".to_owned());
        redirect_home(request)
    })
    .await
}

/// Stands for your own check of who sent it.
fn is_signed_by_the_bank(receipt: &str) -> bool {
    receipt.starts_with("signed:")
}

/// How long who asks for it stays logged in.
const THIRTY_DAYS: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Sessions in a database, a table, a key and parameters of their own.
fn shop_sessions(env: &Env) -> Result<Sessions> {
    let store = D1Store::from_env(env, "SHOP_DB")?.with_table("shop_sessions")?;
    let (signer, parameters) = (Signer::from_env(env, "SHOP_KEY")?, SessionParameters::from_env(env, "shop")?);
    Ok(Sessions::new(store, WorkerPlatform, signer, parameters)?)
}

async fn report(session: &mut Session<Shop>) -> Result<Response> {
    Response::ok(session.user().unwrap_or("nobody"))
}
