//! Sessions in Workers KV. Start at [`Visit`], which is what a request does; `write` has the order of writes, `carried` what
//! browsers carry, `known` what an isolate
//! knows, `puts` what it has still to store, `marks` what is left of a session that has ended.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::store::RequestStore;
use crate::{Error, Jar, Platform, Record, RecordKey, Store, Successor, Updated};

mod carried;
mod drive;
mod known;
mod marks;
mod namespace;
mod puts;
mod visit;
mod write;

use self::known::Known;
pub use self::namespace::{KvFailure, KvNamespace};
use self::visit::Visit;

/// Records in Workers KV, web.py's `DiskStore`: one value per session, under `session:<record key>`,
/// which expires by itself.
///
/// For sessions that are read much more than written. KV alone would show a visitor older states, lose their writes and
/// refuse them: another location sees a write 60 seconds later "or more", and that a key is missing as long; of two writes
/// the last to arrive wins; a key takes one write a second. (Cloudflare, "How KV works" and "Write key-value pairs".) So
/// what it cannot do, the visitor's browser does:
///
/// - **A visitor reads their own writes**, from anywhere: each reply that wrote also gives the browser the write, sealed, in
///   a cookie of its own for 90 seconds. What the browser has brought is never older than what it was shown.
/// - **No visitor waits for a write** that only their own reply tells of, and none meets a 429: it goes to KV behind the
///   reply, one a second for a session. ([`Session::save`](crate::Session::save) and all else that is asked for waits.)
/// - **Within one isolate no update is lost.** Requests on one session that overlap in two isolates can still lose each
///   other's updates. `D1Store` has no such limit.
///
/// A logout is final, and the id from before a login is worthless, once that has reached a location. Both
/// leave tombstones (in the code: marks), keys beside the record, which no late write of the record can undo:
///
/// - `ended:<record key>`: one call reads it together with the record. It says that the session was killed, or holds
///   the retired record, which says where it moved to.
/// - `killed:<record key>`: only a kill writes it, so that a late change of id cannot hide the kill. The record of a
///   session that moved names the keys that it had during the last two minutes (in the [extension](crate::Extensions)
///   `predecessors`), and is dead if one of them was killed.
///
/// Beside the mark of a session that was signed in stands `kept:<record key>` for three minutes at the most: what it held before,
/// for who sends the sign-in twice.
///
/// Keep one for the life of an isolate, as [`Sessions::from_env`](crate::Sessions) does: what the isolate knows is in it. It
/// has the rules; a [`KvNamespace`] has the values: a Worker's binding, or a model in a test.
pub struct KvStore<N, P> {
    kv: Rc<Kv<N, P>>,
}

/// What the requests of an isolate share.
struct Kv<N, P> {
    namespace: N,
    platform: P,
    known: RefCell<Known>,
}

impl<N, P> fmt::Debug for KvStore<N, P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KvStore")
    }
}

impl<N: KvNamespace + 'static, P: Platform + 'static> KvStore<N, P> {
    /// A store in `namespace`, by the platform's clock and pauses.
    pub fn new(namespace: N, platform: P) -> Self {
        Self { kv: Rc::new(Kv { namespace, platform, known: RefCell::default() }) }
    }

    /// For who has no request, and so no browser.
    fn visit(&self) -> Visit<N, P> {
        Visit::new(&self.kv, None)
    }
}

impl<N: KvNamespace + 'static, P: Platform + 'static> Store for KvStore<N, P> {
    /// A value may have 25 MiB, and a Worker has 128 MB for all that it holds at once, a value several times over.
    fn max_data(&self) -> u64 {
        10_000_000
    }

    fn for_request(&self, jar: &Rc<Jar>) -> Option<RequestStore> {
        Some(RequestStore::new(Visit::new(&self.kv, Some(jar))))
    }

    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        self.visit().load(key).await
    }

    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        self.visit().create(key, record).await
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.visit().update(key, record).await
    }

    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.visit().touch(key, record).await
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        self.visit().delete(key).await
    }

    async fn change_id(
        &self,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        self.visit().change_id(from, retired, to, moved).await
    }
}
