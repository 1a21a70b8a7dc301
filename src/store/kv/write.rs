//! One write of a session's record among others: which is newer, and which was made from which.

use std::rc::Rc;

use crate::Record;

/// One write of a session's record.
///
/// KV keeps what arrives last and shows what it likes, so that neither says which of two writes is the newer one. This
/// does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Write {
    /// When it was made, in milliseconds since 1970 UTC; always later than what it was made from.
    pub(super) time: u64,
    /// The record's.
    pub(super) version: u64,
    /// The record's.
    pub(super) nonce: u32,
    /// When it is stored once more, if it is: what it is built on may arrive after it.
    pub(super) again_at: Option<u64>,
    /// The nonces of the last writes that it is built on, the latest first.
    built_on: Vec<u32>,
}

/// A record, and the write that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) write: Write,
    /// Without the note of its write.
    pub(super) record: Record,
}

impl Written {
    /// The same, to be stored once more at this time, if it is not to be later already.
    pub(super) fn stored_again_at(self: Rc<Self>, again_at: Option<u64>) -> Rc<Self> {
        if again_at <= self.write.again_at {
            return self;
        }
        Rc::new(Self { write: Write { again_at, ..self.write.clone() }, record: self.record.clone() })
    }
}

/// How many a record names: more than are under way at once, and than a browser mostly brings.
const MOST_BUILT_ON: usize = 16;

/// The [extension](crate::Extensions) of a stored record that holds its write, as `<time>:<nonce>,<nonces built on>`, with
/// `+<milliseconds>` after the time where it is stored once more.
const WORD: &str = "writes";

/// For how long a browser carries a write, in milliseconds. KV needs 60 seconds "or more"; after this its record counts,
/// whatever it shows.
pub(super) const CARRIED_FOR: u64 = 90_000;

/// What a browser carries and KV does not show after so many milliseconds is stored once more.
const SHOWN_AFTER: u64 = 35_000;

/// After so many milliseconds it is not stored any more. What is built on it while that is under way has to know of it, so the
/// browser must carry the news for long enough: until it has arrived, by clocks that differ.
const STORED_UNTIL: u64 = 70_000;

/// For how many milliseconds a write is tried before it is given up.
pub(super) const TRIED_FOR: u64 = 4_500;

/// For how many milliseconds after it was made, or after the time for once more, a write may arrive in KV: it is tried for
/// so long, and a put takes two and a half seconds.
const ARRIVES_WITHIN: u64 = 7_000;

impl Write {
    /// The one that made a record, and the record without the note of it.
    pub(super) fn of(mut record: Record) -> (Self, Record) {
        let (version, nonce) = (record.version, record.nonce);
        let noted = record.extensions.get(WORD).and_then(Noted::parse);
        record.extensions.remove(WORD);
        let write = match noted {
            Some(noted) if noted.nonce() == Some(nonce) => noted.of(version),
            // A release that does not know the note has made its own write from this one, and kept the note.
            Some(Noted { time, nonces, .. }) => {
                Self { time: time.saturating_add(1), version, nonce, again_at: None, built_on: nonces }
            }
            None => Self { time: 0, version, nonce, again_at: None, built_on: Vec::new() },
        };
        (write, record)
    }

    /// The one that makes `record` at this time, from what another one made. Those `beside` it, which were made at the same
    /// time elsewhere and lost to it, count as built in: they are not to come back.
    pub(super) fn from(base: Option<&Self>, beside: &[Self], record: &Record, now: u64) -> Self {
        let before = base.map(|base| &base.built_on[..]).unwrap_or_default();
        let nonces = base.into_iter().chain(beside).map(|write| write.nonce).chain(before.iter().copied());
        // A stub beside it may be later than what was found in its place.
        let last = base.into_iter().chain(beside).map(|write| write.time).max();
        Self {
            time: last.map_or(now, |last| now.max(last.saturating_add(1))),
            version: record.version,
            nonce: record.nonce,
            again_at: None,
            built_on: nonces.take(MOST_BUILT_ON).collect(),
        }
    }

    /// The record with a note of it, as it is stored.
    pub(super) fn noted_in(&self, record: &Record) -> Record {
        let mut record = record.clone();
        // It is of the form that an extension has.
        drop(record.extensions.set(WORD, &self.to_text()));
        record
    }

    /// Itself, as [`from_text`](Self::from_text) reads it.
    pub(super) fn to_text(&self) -> String {
        let mut text = self.time.to_string();
        if let Some(again_at) = self.again_at {
            text += &format!("+{}", again_at.saturating_sub(self.time));
        }
        text += &format!(":{:08x}", self.nonce);
        for nonce in &self.built_on {
            text += &format!(",{nonce:08x}");
        }
        text
    }

    /// The one of this version and nonce that wrote this.
    pub(super) fn from_text(version: u64, nonce: u32, text: &str) -> Option<Self> {
        let noted = Noted::parse(text)?;
        (noted.nonce() == Some(nonce)).then(|| noted.of(version))
    }

    /// Whether it is this write.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.version == other.version && self.nonce == other.nonce
    }

    /// Whether it is this write, or is built on it.
    pub(super) fn has(&self, other: &Self) -> bool {
        self.is(other) || self.is_built_on(other.nonce)
    }

    /// Whether it is built on the write of this nonce.
    pub(super) fn is_built_on(&self, nonce: u32) -> bool {
        self.built_on.contains(&nonce)
    }

    /// Whether it is built on an older write, as far as can be told: one that is further back than a record names may be.
    pub(super) fn may_have(&self, older: &Self) -> bool {
        self.has(older) || self.version.saturating_sub(older.version) >= MOST_BUILT_ON as u64
    }

    /// The newer one has the higher rank: it is built on the other, or was made later without it. (By the version where a
    /// release that notes no times has made both.)
    pub(super) fn rank(&self) -> (u64, u64, u32) {
        (self.time, self.version, self.nonce)
    }

    /// Until when it, or what it is built on, may arrive in KV, and take the place of what is built on it. `is_in_kv`: KV
    /// shows it.
    pub(super) fn settles_at(&self, is_in_kv: bool, now: u64) -> u64 {
        if self.again_at.is_none() && is_in_kv {
            return self.time;
        }
        let may_be_late = !is_in_kv && (SHOWN_AFTER..CARRIED_FOR).contains(&self.age(now));
        // Another isolate that is brought it may store it just now.
        let last = if may_be_late { now } else { self.again_at.unwrap_or(self.time) };
        last.saturating_add(ARRIVES_WITHIN)
    }

    /// Whether another isolate that was brought it has no reason yet to store it once more, by whatever clock.
    pub(super) fn is_new(&self, now: u64) -> bool {
        self.age(now) < SHOWN_AFTER / 2
    }

    /// Whether it should have been stored by now, or given up.
    pub(super) fn is_slow(&self, now: u64) -> bool {
        self.age(now) > TRIED_FOR
    }

    /// Whether KV has had its time to show it, so that who is brought it and does not find it there stores it once more.
    pub(super) fn is_late(&self, now: u64) -> bool {
        self.age(now) >= SHOWN_AFTER && self.may_be_stored_late(now)
    }

    /// Whether what is built on it meanwhile would learn of it.
    pub(super) fn may_be_stored_late(&self, now: u64) -> bool {
        self.age(now) < STORED_UNTIL
    }

    /// For how many milliseconds it has been there. A clock that was a little ahead of ours counts as ours.
    pub(super) fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.time)
    }
}

/// What a record notes of its write.
struct Noted {
    time: u64,
    again_at: Option<u64>,
    /// Its own first.
    nonces: Vec<u32>,
}

impl Noted {
    fn parse(text: &str) -> Option<Self> {
        let (times, nonces) = text.split_once(':')?;
        let (time, again) = times.split_once('+').map_or((times, None), |(time, again)| (time, Some(again)));
        let time: u64 = time.parse().ok()?;
        let again: Option<u64> = again.map(str::parse).transpose().ok()?;
        let nonces: Option<Vec<_>> = nonces.split(',').map(|nonce| u32::from_str_radix(nonce, 16).ok()).collect();
        Some(Self { time, again_at: again.map(|again| time.saturating_add(again)), nonces: nonces? })
    }

    fn nonce(&self) -> Option<u32> {
        self.nonces.first().copied()
    }

    fn of(self, version: u64) -> Write {
        let Self { time, again_at, nonces } = self;
        let mut nonces = nonces.into_iter();
        Write { time, version, nonce: nonces.next().unwrap_or_default(), again_at, built_on: nonces.collect() }
    }
}
