use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use crate::cookie;
use crate::{Error, Platform, Signer};

/// The visitor's browser, as a [`Store`](crate::Store) sees it during one request: a store may hand it cookies, and be given
/// them back by later requests.
///
/// Their names begin with the session cookie's and a dot, they have its attributes, and nobody but us can read or make
/// their values. A store that keeps nothing with browsers never meets one.
pub struct Jar {
    prefix: String,
    signer: Rc<Signer>,
    brought: Vec<(String, String)>,
    has_reply: bool,
    given: RefCell<Vec<Given>>,
}

/// What a reply does to a cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) name: String,
    pub(crate) value: String,
    /// In seconds; 0 takes it away.
    pub(crate) max_age: u32,
}

/// How many cookies of a browser are looked at: it may have collected more, or somebody may have made them up.
const MOST_BROUGHT: usize = 64;

impl Jar {
    /// What a `Cookie` header brings for stores. `has_reply`: whether a reply can set cookies.
    pub(crate) fn of(header: Option<&str>, cookie_name: &str, signer: &Rc<Signer>, has_reply: bool) -> Self {
        let prefix = [cookie_name, "."].concat();
        let brought = header.filter(|header| header.contains(&prefix)).map(|header| {
            let pairs = cookie::pairs(header).filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)));
            pairs.take(MOST_BROUGHT).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        });
        Self {
            prefix,
            signer: Rc::clone(signer),
            brought: brought.unwrap_or_default(),
            has_reply,
            given: RefCell::default(),
        }
    }

    /// The names of the cookies that the request brought, without the session cookie's name and the dot.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.brought.iter().map(|(name, _)| name.as_str())
    }

    /// What a cookie of this name holds, if the request brought one that we sealed under it for `bound_to`.
    #[must_use]
    pub fn get(&self, name: &str, bound_to: &str) -> Option<String> {
        let (_, sealed) = self.brought.iter().find(|(brought, _)| brought == name)?;
        self.signer.unseal(&self.bound(name, bound_to), sealed)
    }

    /// Whether the request has a reply that can set cookies, so that what is given here gets to the browser.
    #[must_use]
    pub fn has_reply(&self) -> bool {
        self.has_reply
    }

    /// A cookie as [`give`](Self::give) takes it: its name, and `text` sealed under it for `bound_to`.
    ///
    /// # Errors
    ///
    /// `Unavailable` when there are no random bytes.
    pub fn seal(&self, platform: &impl Platform, name: &str, bound_to: &str, text: &str) -> Result<String, Error> {
        self.signer.seal(platform, &self.bound(name, bound_to), text)
    }

    /// The length of the cookie that holds a text of this length, name and value together, in bytes.
    #[must_use]
    pub fn length(&self, name: &str, text: &str) -> usize {
        let sealed = Signer::sealed_length(text.len());
        self.prefix.len().saturating_add(name.len()).saturating_add(sealed)
    }

    /// The reply gives the browser this cookie, in place of what this request has given under its name before.
    pub fn give(&self, name: &str, sealed: String, max_age: u32) {
        self.set(Given { name: self.full(name), value: sealed, max_age });
    }

    /// The reply takes the cookies away whose names, as in [`names`](Self::names), pass: those that the request brought, and
    /// what this request has given before.
    pub fn take_away_if(&self, passes: &dyn Fn(&str) -> bool) {
        self.withdraw_if(passes);
        for name in self.names().filter(|name| passes(name)) {
            self.set(Given { name: self.full(name), value: String::new(), max_age: 0 });
        }
    }

    /// What this request has given, or taken away, under names that pass stays as it was.
    pub fn withdraw_if(&self, passes: &dyn Fn(&str) -> bool) {
        self.given.borrow_mut().retain(|given| !given.name.strip_prefix(&self.prefix).is_some_and(passes));
    }

    /// What the reply does to cookies.
    pub(crate) fn given(&self) -> Vec<Given> {
        self.given.borrow().clone()
    }

    fn set(&self, new: Given) {
        let mut given = self.given.borrow_mut();
        given.retain(|given| given.name != new.name);
        given.push(new);
    }

    fn full(&self, name: &str) -> String {
        [&self.prefix, name].concat()
    }

    /// A cookie's name holds no blank, so that no two pairs give the same text.
    fn bound(&self, name: &str, bound_to: &str) -> String {
        [&self.prefix, name, " ", bound_to].concat()
    }
}

impl fmt::Debug for Jar {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Jar({} brought)", self.brought.len())
    }
}
