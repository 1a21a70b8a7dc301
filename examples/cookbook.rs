//! The parts of docs/cookbook.md and README.md that are no program by themselves.
#![allow(clippy::arithmetic_side_effects, reason = "a count of visits does not overflow")]

use edge_session::Session;
use serde::{Deserialize, Serialize};
use worker::{Context, Env, Request, Response, Result, event};

#[derive(Serialize, Deserialize)]
struct Shop {
    count: u64,
    language: String,
    #[serde(default)] // a field that was added when sessions were already stored
    basket: Vec<String>,
}

impl Default for Shop {
    fn default() -> Self {
        Self { count: 0, language: "zh".to_owned(), basket: Vec::new() }
    }
}

/// Sends a mail, or charges a card.
async fn deliver(_basket: &[String]) {}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    edge_session::serve(&request, &env, async |session: &mut Session<Shop>| match request.path().as_str() {
        "/add" => {
            session.basket.push("tea".to_owned());
            Response::ok(session.basket.len().to_string())
        }
        "/order" => {
            let basket = std::mem::take(&mut session.basket);
            session.save().await?; // if another request was faster, the closure runs again from the start
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
            session.cycle_id();
            Response::ok("a new id, the same data")
        }
        _ => Response::error("not found", 404),
    })
    .await
}
