//! A model of Workers KV without its delays: the last write wins, each name takes one write a second, values expire. What
//! else the real one does, it does not.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use edge_session::{KvFailure, KvNamespace, Platform};

/// A clone is another handle on the same namespace.
#[derive(Clone)]
pub struct ModelKv<P> {
    platform: P,
    values: Rc<RefCell<BTreeMap<String, Value>>>,
    /// Whether a second write of a name within a second is refused.
    pub is_limited: Rc<Cell<bool>>,
    /// Each call, as `put session`.
    calls: Rc<RefCell<Vec<String>>>,
    /// Calls that fail once, by their beginning: each is taken off when it has failed.
    failing: Rc<RefCell<Vec<(String, KvFailure)>>>,
}

struct Value {
    /// `None` once it was deleted: a delete counts as a write.
    text: Option<String>,
    expiration: u64,
    written_at: u64,
}

impl<P: Platform> ModelKv<P> {
    pub fn new(platform: P) -> Self {
        Self {
            platform,
            values: Rc::default(),
            is_limited: Rc::default(),
            calls: Rc::default(),
            failing: Rc::default(),
        }
    }

    /// The calls since the last time that this was asked.
    pub fn calls(&self) -> String {
        self.calls.take().join(", ")
    }

    /// Makes the next call that begins like this fail.
    pub fn fail(&self, call: &str, failure: KvFailure) {
        self.failing.borrow_mut().push((call.to_owned(), failure));
    }

    /// No further call fails.
    pub fn heal(&self) {
        self.failing.borrow_mut().clear();
    }

    /// The names that are there, without what follows their prefix.
    pub fn names(&self) -> Vec<String> {
        let now = self.platform.now();
        let is_there = |value: &Value| value.text.is_some() && value.expiration > now;
        self.values.borrow().iter().filter(|(_, value)| is_there(value)).map(|(name, _)| prefix(name)).collect()
    }

    fn called(&self, act: &str, names: &[String]) -> Result<(), KvFailure> {
        let call = format!("{act} {}", names.iter().map(|name| prefix(name)).collect::<Vec<_>>().join(" "));
        self.calls.borrow_mut().push(call.clone());
        let mut failing = self.failing.borrow_mut();
        match failing.iter().position(|(beginning, _)| call.starts_with(beginning.as_str())) {
            Some(place) => Err(failing.remove(place).1),
            None => Ok(()),
        }
    }

    fn write(&self, name: &str, text: Option<String>, expiration: u64) -> Result<(), KvFailure> {
        let now = self.platform.now();
        let mut values = self.values.borrow_mut();
        if self.is_limited.get() && values.get(name).is_some_and(|value| value.written_at == now) {
            return Err(KvFailure::TooManyWrites);
        }
        values.insert(name.to_owned(), Value { text, expiration, written_at: now });
        Ok(())
    }
}

fn prefix(name: &str) -> String {
    name.split(':').next().unwrap().to_owned()
}

impl<P: Platform> KvNamespace for ModelKv<P> {
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure> {
        self.called("get", names)?;
        assert!(names.len() <= 100, "KV reads 100 names at most");
        let (now, values) = (self.platform.now(), self.values.borrow());
        let get = |name| values.get(name).filter(|value| value.expiration > now).and_then(|value| value.text.clone());
        Ok(names.iter().map(get).collect())
    }

    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure> {
        self.called("put", &[name.to_owned()])?;
        if expiration < self.platform.now() + 60 {
            return Err(KvFailure::Other("400 Invalid expiration".to_owned()));
        }
        self.write(name, Some(value.to_owned()), expiration)
    }

    async fn delete(&self, name: &str) -> Result<(), KvFailure> {
        self.called("delete", &[name.to_owned()])?;
        self.write(name, None, u64::MAX)
    }
}

/// A namespace before each call of which others may go first, and after which they may: an answer is on its way.
#[derive(Clone)]
pub struct Aside<N>(pub N);

impl<N: KvNamespace> KvNamespace for Aside<N> {
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure> {
        super::step_aside().await;
        self.0.get(names).await
    }

    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure> {
        super::step_aside().await;
        self.0.put(name, value, expiration).await
    }

    async fn delete(&self, name: &str) -> Result<(), KvFailure> {
        super::step_aside().await;
        self.0.delete(name).await
    }
}
