//! All that knows the Workers runtime: requests and responses, the environment and its bindings, and the stores on KV, D1
//! and Durable Objects.

pub(crate) mod d1;
mod environment;
mod js;
pub(crate) mod kv;
#[cfg(feature = "object")]
pub(crate) mod object;
pub(crate) mod platform;
mod promise;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod serve;
#[cfg(all(feature = "object", feature = "users"))]
mod user_objects;
