//! What an isolate knows of sessions beside KV: what it has stored or met, and what it has still to store. Plain data: the
//! requests of an isolate share nothing else, for none may wait for another's promise or timer.

use std::collections::VecDeque;
use std::rc::Rc;

use super::write::{CARRIED_FOR, Write, Written};
use crate::{KvFailure, Record, RecordKey};

/// How many bytes of records it keeps.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// A record of more bytes is known as a stub.
const LARGE: usize = 64 * 1024;

/// About what an entry takes beside its data.
const OVERHEAD: usize = 400;

/// For how many milliseconds a write is tried before it is given up.
const TRIED_FOR: u64 = 4_500;

/// KV takes one write a second under a name.
const ONE_SECOND: u64 = 1_000;

/// How often it is looked whether another request has stored a write, in milliseconds.
const LOOK_AGAIN: u64 = 50;

/// How many writes of a session are known to be built in: as many as may be made while a request is on its way.
const MOST_PAST: usize = 1_000;

/// A put that has not answered for so many milliseconds may belong to a request that is no more.
const ABANDONED: u64 = 5_000;

/// A change of id that is not done after so many milliseconds belongs to a request that is no more.
const MOVES_WITHIN: u64 = 15_000;

/// What an isolate knows of a session.
#[derive(Clone, Debug)]
pub(super) enum Head {
    /// Its newest write.
    Whole(Rc<Written>),
    /// Its newest write, whose record is large.
    Large(Write),
    /// A write that failed and may have been stored: nothing is made from what was loaded before it.
    Unsure(Write),
    /// It was killed, or has moved: then its retired record.
    Ended(Option<Record>),
}

impl Head {
    fn of(written: &Rc<Written>) -> Self {
        if written.record.data.len() > LARGE {
            return Self::Large(written.write.clone());
        }
        Self::Whole(Rc::clone(written))
    }

    pub(super) fn write(&self) -> Option<&Write> {
        match self {
            Self::Whole(written) => Some(&written.write),
            Self::Large(write) | Self::Unsure(write) => Some(write),
            Self::Ended(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        let data = match self {
            Self::Whole(written) => written.record.data.len(),
            _ => 0,
        };
        data.saturating_add(OVERHEAD)
    }
}

/// When a reply may leave before its write is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trust {
    /// KV takes writes.
    #[default]
    InKv,
    /// A write was given up: until KV accepts one, replies wait for theirs.
    Lost,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    /// By key. (A map weighs 4 KB more, and there are some thousand at the most.)
    entries: Vec<(RecordKey, Box<Entry>)>,
    bytes: usize,
    trust: Trust,
    /// When the old entries are looked for, in milliseconds.
    swept: u64,
}

#[derive(Debug, Default)]
struct Entry {
    head: Option<Head>,
    /// When the head was stored or met, in milliseconds since 1970 UTC, as are all times here.
    met: u64,
    /// How many requests that run have loaded it.
    users: u32,
    /// The nonce of the last write that was made here.
    own: Option<u32>,
    /// The nonces of what the head is built on, as far as this isolate has seen it: more than a record names.
    past: VecDeque<u32>,
    /// Since when its id is being changed.
    moving: Option<u64>,
    puts: Puts,
}

/// The writes of a session that are on their way to KV, by their order in this isolate.
#[derive(Debug, Default)]
struct Puts {
    /// The number of the last one.
    last: u64,
    /// The newest, while it is not stored, or is to be stored once more.
    waiting: Option<Waiting>,
    /// Since when one is under way.
    under_way: Option<u64>,
    /// When the last answer came.
    answered: u64,
    accepted: u64,
    /// The nonce of what was accepted.
    accepted_nonce: Option<u32>,
    given_up: u64,
    /// Whether what was given up may be stored all the same.
    is_unsure: bool,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    nonce: u32,
    text: String,
    expires_at: u64,
    since: u64,
    /// When it is to be stored once more, for a write that it is built on may arrive after it.
    again_at: Option<u64>,
    /// The last failure, if there was one.
    failure: Option<KvFailure>,
    /// Whether a failed attempt may have been stored.
    is_unsure: bool,
}

/// What an update comes to in this isolate.
pub(super) enum Entered {
    /// It is the newest now: this is its number, and what was known before.
    Made {
        written: Rc<Written>,
        number: u64,
        before: Option<Head>,
    },
    /// It was made from another than the newest.
    Stale,
    Gone,
}

/// What is to be done for a write, by whoever waits for it.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It, or a newer one, is stored.
    Done,
    /// It is not stored, unless one of the attempts was without our knowing. The last failure, for the first who is told.
    GaveUp {
        failure: Option<KvFailure>,
        is_unsure: bool,
    },
    /// Nothing for so many milliseconds.
    Wait(u64),
    Put {
        text: String,
        expires_at: u64,
        number: u64,
    },
}

impl Known {
    fn entry(&self, key: &RecordKey) -> Option<&Entry> {
        let place = self.entries.binary_search_by(|(its, _)| its.cmp(key)).ok()?;
        self.entries.get(place).map(|(_, entry)| &**entry)
    }

    fn entry_mut(&mut self, key: &RecordKey) -> &mut Entry {
        let place = match self.entries.binary_search_by(|(its, _)| its.cmp(key)) {
            Ok(place) => place,
            Err(place) => {
                self.entries.insert(place, (key.clone(), Box::default()));
                place
            }
        };
        #[expect(clippy::indexing_slicing, reason = "it was found there, or put there")]
        let (_, entry) = &mut self.entries[place];
        entry
    }

    pub(super) fn trust(&self) -> Trust {
        self.trust
    }

    /// What is known of a session, for 90 seconds, and while a request runs that loaded it.
    pub(super) fn head(&self, key: &RecordKey, now: u64) -> Option<&Head> {
        let entry = self.entry(key)?;
        entry.head.as_ref().filter(|_| entry.users > 0 || now.saturating_sub(entry.met) < CARRIED_FOR)
    }

    /// A request that runs has loaded it.
    pub(super) fn hold(&mut self, key: &RecordKey) {
        let entry = self.entry_mut(key);
        entry.users = entry.users.saturating_add(1);
    }

    /// That request is done.
    pub(super) fn release(&mut self, key: &RecordKey) {
        let entry = self.entry_mut(key);
        entry.users = entry.users.saturating_sub(1);
    }

    /// A load found this to be the newest.
    pub(super) fn meet(&mut self, key: &RecordKey, written: &Rc<Written>, now: u64) {
        let is_known = self.head(key, now).and_then(Head::write).is_some_and(|known| known.is(&written.write));
        let is_whole = matches!(self.head(key, now), Some(Head::Whole(_) | Head::Large(_)));
        if !(is_known && is_whole) {
            let before = self.set(key, Some(Head::of(written)), now);
            let before = before.as_ref().and_then(Head::write);
            let entry = self.entry_mut(key);
            match before {
                Some(before) if written.write.has(before) => entry.passed(before.nonce),
                _ => entry.past.clear(),
            }
        }
    }

    /// The session has ended: nothing of it has to be stored any more.
    pub(super) fn end(&mut self, key: &RecordKey, retired: Option<Record>, now: u64) {
        self.set(key, Some(Head::Ended(retired)), now);
        self.entry_mut(key).puts.waiting = None;
    }

    /// Its id is being changed, or that was not done: until then nobody else in this isolate stores anything, for the new
    /// record would lack it.
    pub(super) fn moves(&mut self, key: &RecordKey, since: Option<u64>) {
        self.entry_mut(key).moving = since;
    }

    pub(super) fn is_moving(&self, key: &RecordKey, now: u64) -> bool {
        let since = self.entry(key).and_then(|entry| entry.moving);
        since.is_some_and(|since| now < since.saturating_add(MOVES_WITHIN))
    }

    /// Nothing is known of a key, which is used anew.
    pub(super) fn forget(&mut self, key: &RecordKey, now: u64) {
        self.set(key, None, now);
    }

    /// Makes `record` the newest: it was made from `base`, if that is known. In one step with the check, so that in one
    /// isolate nothing is lost.
    /// `again_at`: when it is to be stored once more, if `base` was made elsewhere, or one `beside` it, and may arrive after
    /// it.
    pub(super) fn enter(
        &mut self,
        key: &RecordKey,
        base: Option<&Write>,
        beside: &[Write],
        record: &Record,
        again_at: Option<u64>,
        now: u64,
    ) -> Entered {
        let known = match self.head(key, now) {
            Some(Head::Ended(_)) => return Entered::Gone,
            _ if self.is_moving(key, now) => return Entered::Stale,
            head => head.and_then(Head::write),
        };
        let is_made_from = |known: &Write| match base {
            Some(base) => base.is(known),
            None => known.version.checked_add(1) == Some(record.version),
        };
        let is_again = |known: &Write| known.version == record.version && known.nonce == record.nonce;
        let mut write = match known {
            Some(known) if is_again(known) => known.clone(),
            Some(known) if !is_made_from(known) => return Entered::Stale,
            known => Write::from(base.or(known), beside, record, now),
        };
        // This isolate's own writes arrive in their order.
        let entry = self.entry(key);
        let is_own = |base: &Write| entry.is_some_and(|entry| entry.own == Some(base.nonce));
        let due = entry.and_then(|entry| entry.puts.again_at());
        write.again_at = again_at.filter(|_| !(base.is_some_and(is_own) && beside.is_empty())).max(due);
        let written = Rc::new(Written { write, record: record.clone() });
        let before = self.set(key, Some(Head::of(&written)), now);
        let base = base.or(before.as_ref().and_then(Head::write)).map(|base| base.nonce);
        let entry = self.entry_mut(key);
        entry.own = Some(record.nonce);
        base.into_iter().chain(beside.iter().map(|write| write.nonce)).for_each(|nonce| entry.passed(nonce));
        let number = self.wait_for(key, &written, now);
        Entered::Made { written, number, before }
    }

    /// Has a write stored that is not, and gives its number.
    pub(super) fn wait_for(&mut self, key: &RecordKey, written: &Written, now: u64) -> u64 {
        let puts = &mut self.entry_mut(key).puts;
        puts.last = puts.last.saturating_add(1);
        let before = puts.waiting.take();
        let unanswered = before.as_ref().filter(|before| before.number > puts.accepted.max(puts.given_up));
        puts.waiting = Some(Waiting {
            number: puts.last,
            nonce: written.write.nonce,
            text: written.write.noted_in(&written.record).to_text(),
            expires_at: written.record.expires_at,
            since: unanswered.map_or(now, |before| before.since),
            again_at: written.write.again_at.filter(|at| *at > now),
            failure: None,
            is_unsure: false,
        });
        puts.last
    }

    /// Whether a write is another one, or is built on it. The isolate knows more of its newest one than a record says.
    pub(super) fn has(&self, key: &RecordKey, write: &Write, other: &Write) -> bool {
        let is_past = |entry: &Entry| {
            let is_head = entry.head.as_ref().and_then(Head::write).is_some_and(|head| head.is(write));
            is_head && entry.past.contains(&other.nonce)
        };
        write.has(other) || self.entry(key).is_some_and(is_past)
    }

    /// Whether this isolate has seen KV accept this write.
    pub(super) fn has_accepted(&self, key: &RecordKey, write: &Write) -> bool {
        self.entry(key).is_some_and(|entry| entry.puts.accepted_nonce == Some(write.nonce))
    }

    /// Whether the write of this number was given up.
    pub(super) fn has_given_up(&self, key: &RecordKey, number: u64) -> bool {
        self.entry(key).is_some_and(|entry| entry.puts.accepted < number && entry.puts.given_up >= number)
    }

    /// Whether a put of this session is under way or is to come.
    pub(super) fn is_busy(&self, key: &RecordKey, now: u64) -> bool {
        self.entry(key).is_some_and(|entry| {
            let puts = &entry.puts;
            puts.waiting.is_some() || puts.is_under_way(now)
        })
    }

    /// What is to be done for the write of this number. `and_again`: until it is also stored once more, if that is due.
    pub(super) fn step(&mut self, key: &RecordKey, number: u64, and_again: bool, now: u64) -> Step {
        let step = self.entry_mut(key).puts.step(number, and_again, now);
        // 429 says that KV takes the writes of others.
        if let Step::GaveUp { is_unsure: true, .. } = step {
            self.trust = Trust::Lost;
        }
        step
    }

    /// A put that nobody else waits for begins.
    pub(super) fn begin(&mut self, key: &RecordKey, now: u64) {
        self.entry_mut(key).puts.under_way = Some(now);
    }

    /// The use of the newest write was noted in its record.
    pub(super) fn touched(&mut self, key: &RecordKey, written: &Rc<Written>, now: u64) {
        self.set(key, Some(Head::of(written)), now);
    }

    /// What came of a put.
    pub(super) fn answered(&mut self, key: &RecordKey, number: u64, answer: Result<(), KvFailure>, now: u64) {
        if answer.is_ok() {
            self.trust = Trust::InKv;
        }
        self.entry_mut(key).puts.note(number, answer, now);
    }

    /// A write was given up for whose reply its visitor waited: `before` was known before it. Gives whether it may have been
    /// stored all the same.
    pub(super) fn give_up(&mut self, key: &RecordKey, write: &Write, before: Option<Head>, is_unsure: bool, now: u64) {
        let is_newest = self.entry(key).and_then(|entry| entry.head.as_ref()).and_then(Head::write);
        if is_newest.is_some_and(|newest| newest.is(write)) {
            self.set(key, if is_unsure { Some(Head::Unsure(write.clone())) } else { before }, now);
        }
    }

    fn set(&mut self, key: &RecordKey, head: Option<Head>, now: u64) -> Option<Head> {
        self.make_room(now);
        let entry = self.entry_mut(key);
        let bytes = |head: &Option<Head>| head.as_ref().map_or(0, Head::bytes);
        let before = std::mem::replace(&mut entry.head, head);
        entry.met = now;
        let more = bytes(&entry.head);
        self.bytes = self.bytes.saturating_add(more).saturating_sub(bytes(&before));
        before
    }

    /// Drops what is old, and where that is not enough, what is oldest.
    fn make_room(&mut self, now: u64) {
        let is_full = self.bytes > MOST_BYTES;
        if !is_full && now < self.swept.saturating_add(CARRIED_FOR / 4) {
            return;
        }
        self.swept = now;
        let mut age = CARRIED_FOR;
        self.drop_older(age, now);
        while is_full && self.bytes > MOST_BYTES / 2 && age > 0 {
            age /= 2;
            self.drop_older(age, now);
        }
    }

    fn drop_older(&mut self, age: u64, now: u64) {
        self.entries.retain(|(_, entry)| entry.is_needed(now) || now.saturating_sub(entry.met) < age);
        self.bytes = self.entries.iter().filter_map(|(_, entry)| entry.head.as_ref()).map(Head::bytes).sum();
    }
}

impl Entry {
    /// The head is built on the write of this nonce.
    fn passed(&mut self, nonce: u32) {
        self.past.push_back(nonce);
        if self.past.len() > MOST_PAST {
            self.past.pop_front();
        }
    }

    fn is_needed(&self, now: u64) -> bool {
        self.users > 0 || self.puts.is_under_way(now) || self.puts.waiting.is_some()
    }
}

impl Puts {
    fn is_under_way(&self, now: u64) -> bool {
        self.under_way.is_some_and(|started| now < started.saturating_add(ABANDONED))
    }

    fn again_at(&self) -> Option<u64> {
        self.waiting.as_ref().and_then(|waiting| waiting.again_at)
    }

    fn step(&mut self, number: u64, and_again: bool, now: u64) -> Step {
        let is_done = self.accepted >= number;
        let is_over = is_done || self.given_up >= number;
        if is_over && !(and_again && self.again_at().is_some()) {
            return if is_done { Step::Done } else { Step::GaveUp { failure: None, is_unsure: self.is_unsure } };
        }
        if self.is_under_way(now) {
            return Step::Wait(LOOK_AGAIN);
        }
        let Some(waiting) = &self.waiting else { return Step::GaveUp { failure: None, is_unsure: true } };
        let is_first = waiting.number > self.accepted.max(self.given_up);
        let due = if is_first { waiting.since.min(now) } else { waiting.again_at.unwrap_or(now) };
        // Who met 429 has met another isolate, and does not come back together with it.
        let aside = if waiting.failure.is_some() { u64::from(waiting.nonce % 256) } else { 0 };
        let next = due.max(self.answered.min(now).saturating_add(ONE_SECOND).saturating_add(aside));
        if now.max(next) >= due.saturating_add(TRIED_FOR) {
            return self.give_up(is_first);
        }
        if now < next {
            return Step::Wait(next.saturating_sub(now));
        }
        self.under_way = Some(now);
        let Waiting { text, expires_at, number, .. } = waiting;
        Step::Put { text: text.clone(), expires_at: *expires_at, number: *number }
    }

    /// Gives the newest up. It is still stored once more, if that is to come.
    fn give_up(&mut self, is_first: bool) -> Step {
        let Some(waiting) = &mut self.waiting else { return Step::Done };
        self.given_up = self.given_up.max(waiting.number);
        self.is_unsure = waiting.is_unsure;
        let given_up = Step::GaveUp { failure: waiting.failure.take(), is_unsure: waiting.is_unsure };
        if !(is_first && waiting.again_at.is_some()) {
            self.waiting = None;
        }
        given_up
    }

    fn note(&mut self, number: u64, answer: Result<(), KvFailure>, now: u64) {
        self.under_way = None;
        self.answered = now;
        let Some(waiting) = &mut self.waiting else { return };
        match answer {
            Ok(()) if waiting.number == number => {
                if self.accepted.max(self.given_up) >= number {
                    waiting.again_at = None;
                }
                self.accepted = number;
                self.accepted_nonce = Some(waiting.nonce);
                if waiting.again_at.is_none() {
                    self.waiting = None;
                }
            }
            Ok(()) => {
                self.accepted = self.accepted.max(number);
                waiting.since = now;
            }
            Err(failure) => {
                waiting.is_unsure |= failure != KvFailure::TooManyWrites;
                waiting.failure = Some(failure);
            }
        }
    }
}
