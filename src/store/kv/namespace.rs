use std::fmt;

use crate::{Error, ErrorKind};

/// Where a [`KvStore`](crate::KvStore) keeps its values: what it needs of Workers KV.
#[expect(async_fn_in_trait, reason = "no Send bound: a Worker has one thread")]
pub trait KvNamespace {
    /// The values under these names, in their order, `None` for one that is not there. By one call.
    ///
    /// # Errors
    ///
    /// When KV could not be asked. A name that is not there is *not* an error.
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure>;

    /// Stores a value that expires at this time, in seconds since 1970 UTC, 60 seconds ahead at the least.
    ///
    /// # Errors
    ///
    /// When KV did not take it, or its answer was lost.
    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure>;

    /// Removes a value.
    ///
    /// # Errors
    ///
    /// When KV did not do it, or its answer was lost. A name that is not there is *not* an error.
    async fn delete(&self, name: &str) -> Result<(), KvFailure>;
}

/// Why KV did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvFailure {
    /// 429: the name was written less than a second ago. This write was not stored.
    TooManyWrites,
    /// Anything else, with KV's message. A write may have been stored.
    Other(String),
}

impl fmt::Display for KvFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyWrites => formatter.write_str("KV: 429, more than one write a second under one name"),
            Self::Other(message) => write!(formatter, "KV: {message}"),
        }
    }
}

impl From<KvFailure> for Error {
    fn from(failure: KvFailure) -> Self {
        Self::new(ErrorKind::Unavailable, failure)
    }
}
