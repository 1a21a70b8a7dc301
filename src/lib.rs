//! Server-side sessions for Cloudflare Workers: web.py's `web.session` at the edge.
//!
//! A visitor's cookie holds a signed random id and nothing else; the data is yours, typed, and kept in
//! Workers KV ([`KvStore`]), D1 ([`D1Store`]) or Durable Objects (`ObjectStore`, by the feature
//! `object`). In a Worker, [`serve`] is all you need; its documentation has the whole program.
//! The same without HTTP and without a runtime, as in a test:
//!
//! ```
//! use edge_session::{Error, Incoming, MemoryStore, Outcome, Session, SessionParameters, Sessions, Signer, TestPlatform};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Visit {
//!     count: u64, // a new visitor's is Default's: web.py's initializer={'count': 0}
//! }
//!
//! # pollster::block_on(async {
//! let sessions = Sessions::new(
//!     MemoryStore::default(),
//!     TestPlatform::at(1_764_000_000),
//!     Signer::from_secret("0123456789abcdef0123456789abcdef")?,
//!     SessionParameters::default(),
//! )?;
//!
//! let count = async |session: &mut Session<Visit>| {
//!     session.count += 1;
//!     Ok::<_, Error>(session.count)
//! };
//!
//! // A first visit: a session is made, and its cookie is to be set.
//! let Outcome::Replied { reply: 1, set_cookie, .. } = sessions.run(&Incoming::default(), count).await? else { panic!() };
//!
//! // The next one brings the cookie.
//! let cookie = set_cookie.first().and_then(|line| line.split(';').next());
//! let visit = Incoming::new().cookie(cookie);
//! let Outcome::Replied { reply: 2, .. } = sessions.run(&visit, count).await? else { panic!() };
//! # Ok::<(), Error>(())
//! # })?;
//! # Ok::<(), edge_session::Error>(())
//! ```
//!
//! # How to read the code
//!
//! [`Sessions::run`] is the life of a request, from the `Cookie` header to the `Set-Cookie` header. Each concept is in
//! the file of its name: the cookie and its [signature](Signer), the [`Session`], the [`Record`] that a store keeps,
//! and the [`Store`] trait with its contract. All that is plain Rust. Only `src/worker/`, by the feature `worker` (on
//! by default), knows the Workers runtime: the stores' bindings, and [`serve`]. `src/tower/`, by the feature `axum`,
//! is the same for axum.
//!
//! Words: a *session* has an *id*, a secret; its *record* is what a *store* keeps, under the id's hash; *data* is the
//! visitor's values, your type; to *kill* is to end a session; to *touch* is to note its use. A *retired* id is one
//! that the session had before a change of id, and a *straggler* a request that still comes with it. A *tombstone* is
//! what KV keeps of a logout or of a change of id. Times are whole seconds, points in time seconds since 1970-01-01
//! UTC.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::string_slice))]

mod arrival;
mod backing;
#[cfg(any(feature = "worker", test))]
mod caching;
mod connection;
pub mod cookie;
mod cross_origin;
mod error;
mod hex;
mod id;
mod jar;
mod log;
mod nesting;
#[cfg(not(feature = "users"))]
mod no_users;
mod parameters;
mod platform;
mod queue;
mod record;
mod refusal;
mod sealing;
mod session;
mod sessions;
mod sign_in;
mod signer;
pub mod store;
mod timing;
#[cfg(feature = "users")]
mod users;

#[cfg(feature = "axum")]
pub mod tower;
#[cfg(feature = "worker")]
mod worker;

pub use arrival::Incoming;
pub use error::{Error, ErrorKind};
pub use id::{RecordKey, SessionId};
pub use jar::Jar;
pub use parameters::{SameSite, SessionParameters, StoreKind};
pub use platform::{Platform, Sleep, TestPlatform, Work};
pub use record::{Extensions, Record, Successor};
pub use refusal::Refusal;
pub use session::Session;
pub use sessions::{Opened, Outcome, Sessions};
pub use sign_in::{SessionHandle, UserKey};
pub use signer::Signer;
pub use store::{
    Claim, KvFailure, KvNamespace, KvStore, MemoryStore, RequestStore, Spared, Store, Swept, Updated, UserStore, Users,
};
pub use timing::{Effect, Timing};
#[cfg(feature = "users")]
pub use users::{UserSession, UserSessions};

#[cfg(feature = "object")]
pub use self::worker::object::{ObjectStore, SessionObject};
#[cfg(feature = "worker")]
pub use self::worker::{
    d1::D1Store,
    kv::KvBinding,
    platform::WorkerPlatform,
    request::HttpRequest,
    response::{HttpResponse, SessionHeaders},
    serve::{serve, serve_from_anywhere, serve_with},
};
