//! A visitor's browser: a cookie jar to which replies are added as they arrive.

use std::collections::{BTreeMap, BTreeSet};

/// The writes that a session's state is made of.
pub type State = BTreeSet<u32>;

#[derive(Default, Clone)]
pub struct Browser {
    /// By name: the value, and when it ends, in milliseconds.
    cookies: BTreeMap<String, (String, u64)>,
    /// What it has been shown.
    pub shown: State,
}

impl Browser {
    /// The `Cookie` header of a request that is sent now.
    pub fn header(&self, now: u64) -> String {
        let live = self.cookies.iter().filter(|(_, (_, end))| now < *end);
        live.map(|(name, (value, _))| format!("{name}={value}")).collect::<Vec<_>>().join("; ")
    }

    /// The session's own cookie, and nothing else.
    pub fn id_alone(&self, name: &str) -> String {
        self.cookies.get(name).map(|(value, _)| format!("{name}={value}")).unwrap_or_default()
    }

    /// A reply arrives with this `Set-Cookie` line.
    pub fn set(&mut self, line: &str, now: u64) {
        let (pair, attributes) = line.split_once(';').unwrap();
        let (name, value) = pair.split_once('=').unwrap();
        assert!(pair.len() <= 4096, "a browser drops it");
        let max_age = attributes.split("; ").find_map(|attribute| attribute.trim().strip_prefix("Max-Age="));
        let end = max_age.map_or(u64::MAX, |seconds| now + seconds.parse::<u64>().unwrap() * 1000);
        if end <= now {
            self.cookies.remove(name);
        } else {
            self.cookies.insert(name.to_owned(), (value.to_owned(), end));
        }
    }
}
