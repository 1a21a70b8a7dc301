//! Sessions for axum, and for any [tower](https://docs.rs/tower) service of HTTP: the [`SessionLayer`], and the
//! [`Session`] that handlers take as an argument.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use edge_session::tower::{Session, SessionLayer};
//! use serde::{Deserialize, Serialize};
//! use tower::ServiceExt;
//! use worker::{Context, Env, HttpRequest, Result, event};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Visit {
//!     count: u64,
//! }
//!
//! async fn count(mut session: Session<Visit>) -> String {
//!     session.count += 1;
//!     session.count.to_string()
//! }
//!
//! #[event(fetch)]
//! async fn fetch(request: HttpRequest, env: Env, _context: Context) -> Result<axum::response::Response> {
//!     let layer = match SessionLayer::<Visit>::new(&env) {
//!         Ok(layer) => layer,
//!         Err(error) => {
//!             worker::console_error!("edge-session: {}: {error}", error.kind().as_str());
//!             return Ok(edge_session::tower::response(&error));
//!         }
//!     };
//!     let router = Router::new().route("/count", get(count)).layer(layer);
//!     Ok(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
//! }
//! # fn main() {}
//! ```

mod extractor;
mod headers;
mod layer;
mod replay;
mod send;
mod settle;
mod slot;
mod stack;

pub use extractor::{FromAnywhere, Session};
pub use headers::response;
pub use layer::{SessionLayer, SessionService};
pub use replay::REPLAY_LIMIT;
