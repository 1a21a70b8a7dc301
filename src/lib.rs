#![doc = include_str!("../docs/crate.md")]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::string_slice))]

pub mod cookie;
mod error;
mod hex;
mod id;
mod parameters;
mod platform;
mod record;
mod session;
mod sessions;
mod signer;
mod store;

#[cfg(feature = "app")]
mod app;
#[cfg(feature = "worker")]
mod http;
#[cfg(feature = "worker")]
mod js;

pub use error::{Error, ErrorKind};
pub use id::{RecordKey, SessionId};
pub use parameters::{SameSite, SessionParameters, StoreKind};
pub use platform::{Platform, TestPlatform};
pub use record::Record;
pub use session::Session;
pub use sessions::{Incoming, Outcome, Sessions};
pub use signer::Signer;
pub use store::{MemoryStore, Store, Updated};

#[cfg(feature = "worker")]
pub use {
    http::serve,
    store::{D1Store, KvStore},
};
