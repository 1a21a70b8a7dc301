//! Writes that the visitor's browser carries: each in a cookie of its own, so that the browser's jar is a set that replies
//! add to, in whatever order they arrive.

use std::rc::Rc;

use super::write::{CARRIED_FOR, Write, Written};
use crate::{Error, Jar, Platform, Record, RecordKey};

/// By how many milliseconds the clock that a write was made by may be ahead of ours.
const AHEAD: u64 = 10_000;

/// How many are opened, the newest by their names: each costs a decryption.
const MOST_OPENED: usize = 64;

/// The longest cookie, name and value together, in bytes. A browser takes 4 096 and sends back all that it has.
const LARGEST: usize = 3 * 1024;

/// A write that the browser carries.
pub(super) struct Carried {
    content: Content,
    pub(super) fate: Fate,
}

enum Content {
    /// With its record.
    Whole(Rc<Written>),
    /// Its record is too large for a cookie: what is loaded must have the write.
    Stub(Write),
}

/// Where a write was when the browser was given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// In KV.
    Stored,
    /// On its way there, behind the reply.
    Sent,
}

impl Fate {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Sent => "sent",
        }
    }
}

impl Carried {
    pub(super) fn write(&self) -> &Write {
        match &self.content {
            Content::Whole(written) => &written.write,
            Content::Stub(write) => write,
        }
    }

    pub(super) fn whole(&self) -> Option<&Rc<Written>> {
        match &self.content {
            Content::Whole(written) => Some(written),
            Content::Stub(_) => None,
        }
    }

    /// `<whole or stub> <stored or sent> <the time from which it counts> <the record, or the write>`.
    fn of(key: &RecordKey, name: &Name<'_>, jar: &Jar, now: u64) -> Option<Self> {
        let text = jar.get(name.text, key.as_str())?;
        let mut words = text.splitn(4, ' ');
        let (kind, fate, time, content) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let time: u64 = time.parse().ok()?;
        if now.saturating_sub(time) >= CARRIED_FOR || time > now.saturating_add(AHEAD) {
            return None;
        }
        let fate = if fate == Fate::Stored.as_str() { Fate::Stored } else { Fate::Sent };
        if kind == STUB {
            let write = Write::from_text(name.version, name.nonce, content)?;
            return Some(Self { content: Content::Stub(write), fate });
        }
        let (write, record) = Write::of(Record::from_text(content).ok()?);
        Some(Self { content: Content::Whole(Rc::new(Written { write, record })), fate })
    }
}

/// How the text in a cookie begins.
const WHOLE: &str = "whole";
const STUB: &str = "stub";

/// The name of a carried write, without the session cookie's: the record key's first eight digits, and the write.
struct Name<'a> {
    version: u64,
    nonce: u32,
    text: &'a str,
}

impl<'a> Name<'a> {
    fn of(key: &RecordKey, write: &Write) -> String {
        format!("{}.{}-{:08x}", beginning(key), write.version, write.nonce)
    }

    fn parse(key: &RecordKey, text: &'a str) -> Option<Self> {
        let (version, nonce) = text.strip_prefix(beginning(key))?.strip_prefix('.')?.split_once('-')?;
        let (version, nonce) = (version.parse().ok()?, u32::from_str_radix(nonce, 16).ok()?);
        Some(Self { version, nonce, text })
    }
}

fn beginning(key: &RecordKey) -> &str {
    key.as_str().get(..8).unwrap_or_default()
}

/// How many carried writes of this session the request brought.
pub(super) fn count(jar: &Jar, key: &RecordKey) -> usize {
    jar.names().filter(|name| Name::parse(key, name).is_some()).count()
}

/// The newest of them that can be opened and are young enough. What `known` gives by its version and nonce need not be opened.
pub(super) fn brought(
    jar: &Jar,
    key: &RecordKey,
    now: u64,
    known: &dyn Fn(u64, u32) -> Option<Rc<Written>>,
) -> Vec<Carried> {
    let mut names: Vec<_> = jar.names().filter_map(|name| Name::parse(key, name)).collect();
    while names.len() > MOST_OPENED {
        let oldest = names.iter().enumerate().min_by_key(|(_, name)| (name.version, name.nonce));
        let oldest = oldest.map(|(place, _)| place).unwrap_or_default();
        names.swap_remove(oldest);
    }
    let carried = |name: &Name<'_>| match known(name.version, name.nonce) {
        Some(written) => Some(Carried { content: Content::Whole(written), fate: Fate::Sent }),
        None => Carried::of(key, name, jar, now),
    };
    names.iter().filter_map(carried).collect()
}

/// Whether the browser has the write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Perhaps: it is given where the request did not bring it.
    Unless,
    /// Not as it is now.
    Changed,
}

/// Whether a write fits into a cookie with its record.
pub(super) fn fits(jar: &Jar, key: &RecordKey, written: &Written) -> bool {
    let record = written.write.noted_in(&written.record).to_text();
    has_room_for(jar, &Name::of(key, &written.write), &written.write, &record)
}

/// Whether a cookie of this name has room for a record, in which `write` is noted.
fn has_room_for(jar: &Jar, name: &str, write: &Write, record: &str) -> bool {
    // The longest that stands before the record: its fate and time.
    let before = 32;
    // As it is when it is to be stored once more, which a later reply may say.
    let mut once_more = write.clone();
    once_more.again_at = Some(write.time.saturating_add(99_999));
    let record = record.len().saturating_sub(write.to_text().len()).saturating_add(once_more.to_text().len());
    jar.length(name, record.saturating_add(before)) <= LARGEST
}

/// Gives the browser this write to carry for as long as it is believed: since it was made, or its session used.
///
/// # Errors
///
/// `Unavailable` when there are no random bytes.
pub(super) fn give(
    jar: &Jar,
    platform: &impl Platform,
    key: &RecordKey,
    written: &Written,
    fate: Fate,
    news: News,
    now: u64,
) -> Result<(), Error> {
    let Written { write, record } = written;
    // It may have been made, or used, by a clock that is ahead of ours, and counts from now on.
    let since = write.time.max(record.touched_at.saturating_mul(1000)).min(now);
    let left = CARRIED_FOR.saturating_sub(now.saturating_sub(since));
    if left == 0 {
        return Ok(());
    }
    let is_it = |name: Name<'_>| name.version == write.version && name.nonce == write.nonce;
    if news == News::Unless && jar.names().any(|name| Name::parse(key, name).is_some_and(is_it)) {
        return Ok(());
    }
    let name = Name::of(key, write);
    let whole = write.noted_in(record).to_text();
    let (kind, content) =
        if has_room_for(jar, &name, write, &whole) { (WHOLE, whole) } else { (STUB, write.to_text()) };
    let text = format!("{kind} {} {since} {content}", fate.as_str());
    let sealed = jar.seal(platform, &name, key.as_str(), &text)?;
    jar.give(&name, sealed, u32::try_from(left.div_ceil(1000)).unwrap_or(u32::MAX));
    Ok(())
}

/// What this request has given of a session is given no more.
pub(super) fn withdraw(jar: &Jar, key: &RecordKey) {
    jar.withdraw_if(&|name| Name::parse(key, name).is_some());
}

/// Takes away those whose nonces pass: what the browser is shown is built on them.
pub(super) fn take_away_if(jar: &Jar, key: &RecordKey, passes: &dyn Fn(u32) -> bool) {
    jar.take_away_if(&|name| Name::parse(key, name).is_some_and(|name| passes(name.nonce)));
}
