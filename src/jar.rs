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

impl Jar {
    /// What a `Cookie` header brings for stores. `has_reply`: whether a reply can set cookies.
    pub(crate) fn of(header: Option<&str>, cookie_name: &str, signer: &Rc<Signer>, has_reply: bool) -> Self {
        let prefix = [cookie_name, "."].concat();
        let brought = header.map(|header| {
            let pairs = cookie::pairs(header).filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?, value)));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
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

    /// The length of the cookie that holds a text of so many bytes, name and value together, in bytes.
    #[must_use]
    pub fn length(&self, name: &str, text: usize) -> usize {
        let sealed = Signer::sealed_length(text);
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

    /// What the reply does to cookies. What it takes away comes last: curl, with one file to read and to write, heeds only the
    /// last line of a reply that does.
    pub(crate) fn given(&self) -> Vec<Given> {
        let given = self.given.borrow();
        let (mut all, taken_away): (Vec<_>, Vec<_>) = given.iter().cloned().partition(|given| given.max_age > 0);
        all.extend(taken_away);
        all
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestPlatform;

    fn signer() -> Rc<Signer> {
        Rc::new(Signer::from_secret("first-key-0123456789abcdef012345").unwrap())
    }

    fn jar(header: &str) -> Jar {
        Jar::of(Some(header), "sid", &signer(), true)
    }

    #[test]
    fn what_was_given_comes_back_under_its_name_and_to_whom_it_is_bound() {
        let platform = TestPlatform::at(0);
        let sealed = jar("").seal(&platform, "a.1", "bound", "text").unwrap();
        let length = jar("").length("a.1", 4);
        assert_eq!("sid.a.1".len() + sealed.len(), length);
        let back = jar(&format!("sid=x; sid.a.1={sealed}; sid.a.2={sealed}; other.a.1={sealed}"));
        assert_eq!(back.names().collect::<Vec<_>>(), ["a.1", "a.2"]);
        assert_eq!(back.get("a.1", "bound").as_deref(), Some("text"));
        assert_eq!(back.get("a.1", "another"), None);
        assert_eq!(back.get("a.2", "bound"), None, "a name is worth nothing under another");
        let other = Jar::of(Some(&format!("tid.a.1={sealed}")), "tid", &signer(), true);
        assert_eq!(other.get("a.1", "bound"), None);
    }

    #[test]
    fn what_is_taken_away_is_no_more_given_and_what_was_not_brought_needs_no_line() {
        let jar = jar("sid.a=1; sid.b=2");
        jar.give("a", "new".to_owned(), 90);
        jar.give("c", "new".to_owned(), 90);
        jar.take_away_if(&|name| name != "b");
        let given =
            |name: &str, value: &str, max_age| Given { name: name.to_owned(), value: value.to_owned(), max_age };
        assert_eq!(jar.given(), [given("sid.a", "", 0)]);
        jar.give("c", "new".to_owned(), 90);
        jar.give("c", "newer".to_owned(), 90);
        assert_eq!(jar.given(), [given("sid.c", "newer", 90), given("sid.a", "", 0)], "what is taken away comes last");
        jar.withdraw_if(&|name| name == "a");
        assert_eq!(jar.given(), [given("sid.c", "newer", 90)]);
    }
}
