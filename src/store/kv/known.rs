//! What an isolate knows of sessions beside KV: what it has stored or met, and what it has still to store. Plain data: the
//! requests of an isolate share nothing else, for none may wait for another's promise or timer.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use super::puts::{Care, Puts, Step, Task};
use super::write::{CARRIED_FOR, Write, Written};
use crate::{KvFailure, Record, RecordKey};

/// How many bytes of records it keeps.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// When there are more, old ones are looked for again after so many milliseconds.
const FULL_FOR: u64 = 1_000;

/// A record of more bytes is known as a stub.
const LARGE: usize = 512 * 1024;

/// About what an entry takes beside its data.
const OVERHEAD: usize = 400;

/// For how many milliseconds what a request has loaded is known, so that its own write is not made from something else: longer
/// than requests take. Nobody says when one is done.
const HELD_FOR: u64 = 5 * 60 * 1000;

/// How many writes of a session are known to be built in: as many as may be made while KV shows an older one, which may be two
/// seconds old.
const MOST_PAST: usize = 2_048;

/// Where there is no room, what a request has loaded is known for so many milliseconds: most are done by then, and to hold all for
/// longer would leave no room for what was stored a moment ago.
const IN_FLIGHT: u64 = 30_000;

/// A write is stored once more when what it is made from has settled, if that is within so many milliseconds; and in any case
/// within so many, for work behind a reply ends after 25 seconds.
const ONCE_MORE_WITHIN: u64 = 18_000;
const ONCE_MORE_AT_LAST: u64 = 20_000;

/// A change of id that is not done after so many milliseconds has failed by its deadline.
const MOVES_WITHIN: u64 = 10_000;

/// What an isolate knows of a session.
#[derive(Clone, Debug)]
pub(super) enum Head {
    /// Its newest write.
    Whole(Rc<Written>),
    /// Its newest write, whose record is large.
    Large(Write),
    /// A write that failed and may have been stored, or one whose record there is no room for: nothing is made from what was
    /// loaded before it. With what was known before it.
    Unsure(Write, Option<Rc<Written>>),
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
            Self::Large(write) | Self::Unsure(write, _) => Some(write),
            Self::Ended(_) => None,
        }
    }

    /// The newest write that a load can be given.
    pub(super) fn whole(&self) -> Option<&Rc<Written>> {
        match self {
            Self::Whole(written) | Self::Unsure(_, Some(written)) => Some(written),
            Self::Large(_) | Self::Unsure(_, None) | Self::Ended(_) => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Whole(written) => written.record.data.len(),
            Self::Ended(Some(retired)) => retired.data.len(),
            _ => 0,
        }
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
    /// Where the last one was found: a request asks for the same one several times.
    last: Cell<usize>,
    bytes: usize,
    trust: Trust,
    /// The highest number of a write whose entry was dropped: what comes of it late is no later write's.
    numbers: u64,
    /// When old entries were looked for, in milliseconds, and how many bytes were left.
    swept: u64,
    left: usize,
}

#[derive(Debug, Default)]
struct Entry {
    head: Option<Head>,
    /// When the head was stored or met, in milliseconds since 1970 UTC, as are all times here.
    met: u64,
    /// When a request has loaded it last.
    loaded: u64,
    /// The nonce of the last write that was made here.
    own: Option<u32>,
    /// The nonces of what the head is built on, as far as this isolate has seen it: more than a record names.
    past: VecDeque<u32>,
    /// Since when its id is being changed.
    moving: Option<u64>,
    /// Until when something from elsewhere that the head is built on may arrive in KV.
    settles_at: u64,
    /// The nonces of writes that were given up while newer ones were built on them, and what was known before each.
    given_up: Vec<(u32, Option<Head>)>,
    puts: Puts,
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
    /// Its session's id is being changed.
    Moving,
    Gone,
}

/// What was found of what a write waits for.
pub(super) enum Awaited {
    Step(Step),
    /// Its session has ended meanwhile: killed, or moved, with the version of the retired record.
    Ended(Option<u64>),
}

/// When a write is stored once more. What it is made from has its own turn for that; where many writes of a few seconds went from
/// isolate to isolate, there is less and less room after it, and each takes a part.
fn turn(settles_at: u64, others_turn: u64, now: u64) -> u64 {
    if settles_at <= now.saturating_add(ONCE_MORE_WITHIN) {
        return settles_at;
    }
    let room = now.saturating_add(ONCE_MORE_AT_LAST).saturating_sub(others_turn);
    let turn = others_turn.saturating_add(room / 3).max(now.saturating_add(ONCE_MORE_WITHIN / 2));
    // By another clock, that one may be later than any.
    turn.min(now.saturating_add(ONCE_MORE_AT_LAST))
}

impl Known {
    /// Where its entry is, or would be.
    fn place(&self, key: &RecordKey) -> Result<usize, usize> {
        let last = self.last.get();
        if self.entries.get(last).is_some_and(|(its, _)| its == key) {
            return Ok(last);
        }
        let place = self.entries.binary_search_by(|(its, _)| its.cmp(key));
        self.last.set(place.unwrap_or_else(|place| place));
        place
    }

    fn entry(&self, key: &RecordKey) -> Option<&Entry> {
        self.entries.get(self.place(key).ok()?).map(|(_, entry)| &**entry)
    }

    fn entry_mut(&mut self, key: &RecordKey) -> &mut Entry {
        let place = match self.place(key) {
            Ok(place) => place,
            Err(place) => {
                self.bytes = self.bytes.saturating_add(OVERHEAD);
                let entry = Entry { puts: Puts::after(self.numbers), ..Entry::default() };
                self.entries.insert(place, (key.clone(), Box::new(entry)));
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

    /// What a load is given of a session, for 90 seconds. A carried write is believed for 90 seconds after it was made, whoever has
    /// met it since.
    pub(super) fn believed(&self, key: &RecordKey, now: u64) -> Option<&Head> {
        let entry = self.entry(key).filter(|entry| now < entry.met.saturating_add(CARRIED_FOR))?;
        entry.head.as_ref()
    }

    /// What is known of a session: for 90 seconds, where there is room, and while a request may run that loaded it; and for longer,
    /// until it is looked for what is old.
    pub(super) fn head(&self, key: &RecordKey) -> Option<&Head> {
        self.entry(key)?.head.as_ref()
    }

    /// The write of a record that is too large to be known, while KV may not show it yet.
    pub(super) fn large(&self, key: &RecordKey, now: u64) -> Option<&Write> {
        match self.believed(key, now) {
            Some(Head::Large(write)) => Some(write),
            _ => None,
        }
    }

    /// A request has loaded it.
    pub(super) fn hold(&mut self, key: &RecordKey, now: u64) {
        self.entry_mut(key).loaded = now;
    }

    /// A load found this to be the newest. What KV does not show the browser has brought.
    pub(super) fn meet(&mut self, key: &RecordKey, written: &Rc<Written>, is_in_kv: bool, now: u64) {
        let is_known = match self.head(key) {
            Some(Head::Unsure(..)) | None => false,
            Some(head) => head.write().is_some_and(|known| known.is(&written.write)),
        };
        if is_known {
            return;
        }
        self.set(key, Some(Head::of(written)), now);
        let entry = self.entry_mut(key);
        entry.past.clear();
        entry.given_up.clear();
        if !is_in_kv {
            entry.met = written.write.time.min(now);
        }
    }

    /// Whether a write, if it is the newest one, is built on another. The isolate knows more of it than a record says.
    pub(super) fn has(&self, key: &RecordKey, write: &Write, other: &Write) -> bool {
        write.is(other) || self.is_built_on(key, write, other.nonce)
    }

    /// The same of the write of this nonce. None is built on itself, also where one that was built on it was refused.
    pub(super) fn is_built_on(&self, key: &RecordKey, write: &Write, nonce: u32) -> bool {
        let is_past = |entry: &Entry| entry.is_at(write) && entry.past.contains(&nonce);
        nonce != write.nonce && (write.is_built_on(nonce) || self.entry(key).is_some_and(is_past))
    }

    /// The session has ended: nothing of it is stored any more.
    pub(super) fn end(&mut self, key: &RecordKey, retired: Option<Record>, now: u64) {
        self.set(key, Some(Head::Ended(retired)), now);
        let entry = self.entry_mut(key);
        let bytes = entry.puts.bytes();
        entry.puts.forget();
        entry.given_up.clear();
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Its id is being changed, or is no more: meanwhile nobody else in this isolate stores anything, for the new record would
    /// lack it.
    pub(super) fn moves(&mut self, key: &RecordKey, since: Option<u64>) {
        let entry = self.entry_mut(key);
        entry.moving = since;
        entry.loaded = entry.loaded.max(since.unwrap_or_default());
    }

    pub(super) fn is_moving(&self, key: &RecordKey, now: u64) -> bool {
        let since = self.entry(key).and_then(|entry| entry.moving);
        since.is_some_and(|since| (since..since.saturating_add(MOVES_WITHIN)).contains(&now))
    }

    /// Nothing is known of a key, which is used anew.
    pub(super) fn forget(&mut self, key: &RecordKey, now: u64) {
        self.set(key, None, now);
    }

    /// Makes `record` the newest: it was made from `base`, if that is known. In one step with the check, so that in one
    /// isolate nothing is lost. `settles_at`: until when `base` may arrive after it, if that was made elsewhere, or one `beside`
    /// it: then it is stored once more.
    pub(super) fn enter(
        &mut self,
        key: &RecordKey,
        base: Option<&Write>,
        beside: &[Write],
        record: &Record,
        settles_at: u64,
        now: u64,
    ) -> Entered {
        let known = match self.head(key) {
            Some(Head::Ended(_)) => return Entered::Gone,
            _ if self.is_moving(key, now) => return Entered::Moving,
            head => head.and_then(Head::write),
        };
        let is_made_from = |known: &Write| match base {
            Some(base) => base.is(known),
            None => known.version.checked_add(1) == Some(record.version),
        };
        let is_again = |known: &Write| known.version == record.version && known.nonce == record.nonce;
        let base_or_known = base.or(known).cloned();
        let mut write = match known {
            Some(known) if is_again(known) => known.clone(),
            Some(known) if !is_made_from(known) => return Entered::Stale,
            _ => Write::from(base_or_known.as_ref(), beside, record, now),
        };
        // This isolate's own writes arrive in their order.
        let entry = self.entry(key);
        let is_own = |base: &Write| entry.is_some_and(|entry| entry.own == Some(base.nonce));
        let is_of_here = base.is_some_and(is_own) && beside.is_empty();
        let settles_at = if is_of_here { 0 } else { settles_at };
        let settles_at = settles_at.max(entry.map_or(0, |entry| entry.settles_at.max(entry.puts.settles_at())));
        let own_turn = entry.and_then(|entry| entry.puts.again_at()).filter(|_| is_of_here);
        let others_turn = base.into_iter().chain(beside).filter_map(|write| write.again_at).max().unwrap_or_default();
        write.again_at = (now < settles_at).then(|| own_turn.unwrap_or_else(|| turn(settles_at, others_turn, now)));
        let written = Rc::new(Written { write, record: record.clone() });
        let before = self.set(key, Some(Head::of(&written)), now);
        let entry = self.entry_mut(key);
        entry.own = Some(record.nonce);
        entry.settles_at = settles_at;
        base_or_known.iter().chain(beside).for_each(|write| entry.passed(write.nonce));
        let number = self.wait_for(key, &written, now);
        Entered::Made { written, number, before }
    }

    /// Has a write stored that is not, and gives its number.
    fn wait_for(&mut self, key: &RecordKey, written: &Written, now: u64) -> u64 {
        let puts = &mut self.entry_mut(key).puts;
        let before = puts.bytes();
        let number = puts.wait_for(written, now);
        let more = puts.bytes();
        self.bytes = self.bytes.saturating_add(more).saturating_sub(before);
        number
    }

    /// Has the newest stored late, or once more, unless it is another by now, or is on its way.
    pub(super) fn store_late(&mut self, key: &RecordKey, written: &Written, now: u64) -> Option<u64> {
        let entry = self.entry(key)?;
        let is_due = entry.is_at(&written.write) && !entry.puts.is_busy(now);
        is_due.then(|| self.wait_for(key, written, now))
    }

    /// Whether a write waits to be stored, and for whom.
    pub(super) fn care(&self, key: &RecordKey, write: &Write, now: u64) -> Care {
        self.entry(key).map_or(Care::NotDue, |entry| entry.puts.care(write.nonce, now))
    }

    /// The newest write, if it was made here and is of this version and nonce: while nobody can know more of it, as that it is stored
    /// once more.
    pub(super) fn own(&self, key: &RecordKey, version: u64, nonce: u32, now: u64) -> Option<&Rc<Written>> {
        let entry = self.entry(key).filter(|entry| entry.own == Some(nonce))?;
        match &entry.head {
            Some(Head::Whole(written))
                if (written.write.version, written.write.nonce) == (version, nonce) && written.write.is_new(now) =>
            {
                Some(written)
            }
            _ => None,
        }
    }

    /// When what waits is to be stored once more, if it is.
    pub(super) fn again_at(&self, key: &RecordKey) -> Option<u64> {
        self.entry(key)?.puts.again_at()
    }

    /// Whether this isolate has seen KV accept this write.
    pub(super) fn has_accepted(&self, key: &RecordKey, write: &Write) -> bool {
        self.entry(key).is_some_and(|entry| entry.puts.has_accepted(write.nonce))
    }

    /// Whether the write of this number was given up.
    pub(super) fn has_given_up(&self, key: &RecordKey, number: u64) -> bool {
        self.entry(key).is_some_and(|entry| entry.puts.has_given_up(number))
    }

    /// Whether a put of this session is under way or is to come.
    pub(super) fn is_busy(&self, key: &RecordKey, now: u64) -> bool {
        self.entry(key).is_some_and(|entry| entry.puts.is_busy(now))
    }

    /// What is to be done for the write of this number: by the task that attends to it, until it is also stored once more, if that is due.
    pub(super) fn step(&mut self, key: &RecordKey, number: u64, task: Option<Task>, now: u64) -> Awaited {
        let entry = self.entry_mut(key);
        if let Some(Head::Ended(retired)) = &entry.head {
            return Awaited::Ended(retired.as_ref().map(|retired| retired.version));
        }
        let step = entry.puts.step(number, task, now);
        // 429 says that KV takes the writes of others.
        if let Step::GaveUp { is_unsure: true, .. } = step {
            self.trust = Trust::Lost;
        }
        Awaited::Step(step)
    }

    /// The task that has to look after the write of this number behind a reply until this time, if one has to.
    pub(super) fn attend(&mut self, key: &RecordKey, number: u64, until: u64, now: u64) -> Option<Task> {
        self.entry_mut(key).puts.attend(number, until, now)
    }

    /// The newer write that relies on a task which is done with its own.
    pub(super) fn goes_on(&mut self, key: &RecordKey, task: Task, now: u64) -> Option<u64> {
        self.entry_mut(key).puts.goes_on(task, now)
    }

    /// Nobody looks after a write for another.
    pub(super) fn leave(&mut self, key: &RecordKey) {
        self.entry_mut(key).puts.leave();
    }

    /// A put that nobody else waits for begins.
    pub(super) fn begin(&mut self, key: &RecordKey, now: u64) {
        let entry = self.entry_mut(key);
        entry.loaded = now;
        entry.puts.begin(now);
    }

    /// The use of the newest write was noted in its record.
    pub(super) fn touched(&mut self, key: &RecordKey, written: &Rc<Written>, now: u64) {
        let newest = self.head(key).and_then(Head::write);
        if newest.is_some_and(|newest| newest.is(&written.write)) {
            self.set(key, Some(Head::of(written)), now);
        }
    }

    /// What came of a put.
    pub(super) fn answered(&mut self, key: &RecordKey, number: u64, answer: Result<(), KvFailure>, now: u64) {
        let is_ok = answer.is_ok();
        if is_ok {
            self.trust = Trust::InKv;
        }
        let entry = self.entry_mut(key);
        if is_ok {
            entry.given_up.clear();
        }
        entry.puts.note(number, answer, now);
    }

    /// Whether the write of this number is still the one that waits.
    pub(super) fn waits(&self, key: &RecordKey, number: u64) -> bool {
        self.entry(key).is_some_and(|entry| entry.puts.waits(number))
    }

    /// A put has no answer, and may arrive whenever it likes.
    pub(super) fn is_broken_off(&mut self, key: &RecordKey, number: u64, now: u64) {
        self.entry_mut(key).puts.is_broken_off(number, now);
    }

    /// What was to be stored once more need not be: KV shows what is built on it.
    pub(super) fn is_outrun(&mut self, key: &RecordKey, number: u64) {
        self.entry_mut(key).puts.is_outrun(number);
    }

    /// A write was given up for whose reply its visitor waited: `before` was known before it, and is again, unless it was given up
    /// as well.
    pub(super) fn give_up(&mut self, key: &RecordKey, write: &Write, before: Option<Head>, is_unsure: bool, now: u64) {
        let entry = self.entry_mut(key);
        let mut before = before;
        while let Some(nonce) = before.as_ref().and_then(Head::write).map(|known| known.nonce)
            && let Some(place) = entry.given_up.iter().position(|(given_up, _)| *given_up == nonce)
        {
            before = entry.given_up.swap_remove(place).1;
        }
        let known = before.as_ref().and_then(Head::whole).cloned();
        let head = match &entry.head {
            _ if entry.is_at(write) && is_unsure => Some(Head::Unsure(write.clone(), known)),
            _ if entry.is_at(write) => before,
            // One that was built on it was given up first.
            Some(Head::Unsure(newer, Some(shown))) if shown.write.is(write) => Some(Head::Unsure(newer.clone(), known)),
            _ => {
                entry.given_up.push((write.nonce, before));
                return;
            }
        };
        self.set(key, head, now);
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

    /// Drops what is old, and where that is not enough, what is oldest. What requests have loaded a moment ago stays, however much it
    /// is: so that it is not looked for at each write that there is something to drop.
    fn make_room(&mut self, now: u64) {
        let is_full = self.bytes > MOST_BYTES;
        let is_due = now >= self.swept.saturating_add(if is_full { FULL_FOR } else { CARRIED_FOR / 4 });
        let has_grown = self.bytes > MOST_BYTES.max(self.left).saturating_add(MOST_BYTES / 8);
        if !is_due && !has_grown {
            return;
        }
        self.swept = now;
        self.retain(|entry| now < entry.is_known_until());
        let mut age = CARRIED_FOR;
        while is_full && self.bytes > MOST_BYTES / 2 && age > 0 {
            age /= 2;
            let is_old = |entry: &Entry| !entry.puts.is_needed(now) && now >= entry.met.saturating_add(age);
            let is_held = |entry: &Entry| now < entry.loaded.saturating_add(IN_FLIGHT);
            for (_, entry) in &mut self.entries {
                if is_old(entry)
                    && is_held(entry)
                    && let Some(Head::Whole(written)) = &entry.head
                {
                    entry.head = Some(Head::Unsure(written.write.clone(), None));
                }
            }
            self.retain(|entry| !is_old(entry) || is_held(entry));
        }
        self.left = self.bytes;
    }

    fn retain(&mut self, is_kept: impl Fn(&Entry) -> bool) {
        let mut numbers = self.numbers;
        self.entries.retain(|(_, entry)| {
            let stays = is_kept(entry);
            if !stays {
                numbers = numbers.max(entry.puts.last());
            }
            stays
        });
        self.numbers = numbers;
        self.bytes = self.entries.iter().map(|(_, entry)| entry.bytes()).sum();
    }
}

impl Entry {
    /// Whether this write is the newest that is known.
    fn is_at(&self, write: &Write) -> bool {
        self.head.as_ref().and_then(Head::write).is_some_and(|newest| newest.is(write))
    }

    /// The head is built on the write of this nonce.
    fn passed(&mut self, nonce: u32) {
        self.past.push_back(nonce);
        if self.past.len() > MOST_PAST {
            self.past.pop_front();
        }
    }

    fn is_known_until(&self) -> u64 {
        self.met.saturating_add(CARRIED_FOR).max(self.loaded.saturating_add(HELD_FOR))
    }

    fn bytes(&self) -> usize {
        let head = self.head.as_ref().map_or(0, Head::bytes);
        let past = self.past.len().saturating_mul(size_of::<u32>());
        OVERHEAD.saturating_add(head).saturating_add(past).saturating_add(self.puts.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of more sessions at once than there is room for.
    #[test]
    fn what_cannot_be_dropped_is_not_looked_through_at_each_write() {
        let platform = crate::TestPlatform::at(0);
        let mut known = Known::default();
        let met = |known: &mut Known, now| {
            let key = crate::SessionId::random(&platform).unwrap().record_key();
            let record = Record::from_text("edge-session/1 1 1 0 0 9 - 0 -\n1").unwrap();
            let (write, record) = Write::of(record);
            known.meet(&key, &Rc::new(Written { write, record }), true, now);
            known.hold(&key, now);
        };
        let mut sweeps = 0;
        for _ in 0..2 * MOST_BYTES / OVERHEAD {
            let before = known.left;
            met(&mut known, 1_000_000);
            sweeps += u32::from(known.left != before);
        }
        assert!(
            known.entries.len() > MOST_BYTES / OVERHEAD,
            "requests may be about to change them: {}",
            known.entries.len()
        );
        assert!((1..20).contains(&sweeps), "{sweeps}");
        met(&mut known, 1_000_000 + IN_FLIGHT);
        assert_eq!(known.entries.len(), 1, "when they are done there is room");
    }

    fn key() -> RecordKey {
        crate::SessionId::random(&crate::TestPlatform::at(0)).unwrap().record_key()
    }

    /// Of this version, which is its nonce as well.
    fn record(version: u64) -> Record {
        Record::from_text(&format!("edge-session/1 {version} {version} 0 0 9 - 0 -\n1")).unwrap()
    }

    /// Enters it, made from this write beside others.
    fn entered(
        known: &mut Known,
        key: &RecordKey,
        base: Option<&Write>,
        beside: &[Write],
        version: u64,
    ) -> Option<Write> {
        match known.enter(key, base, beside, &record(version), 0, 1_000) {
            Entered::Made { written, .. } => Some(written.write.clone()),
            _ => None,
        }
    }

    /// By who has no request, and so has not loaded it here.
    #[test]
    fn what_is_written_without_a_look_is_built_on_what_the_isolate_knows() {
        let (mut known, key) = (Known::default(), key());
        let first = entered(&mut known, &key, None, &[], 1).unwrap();
        let second = entered(&mut known, &key, None, &[], 2).unwrap();
        assert!(second.has(&first) && second.time > first.time);
        assert_eq!(entered(&mut known, &key, None, &[], 2), Some(second), "the same again");
        assert_eq!(entered(&mut known, &key, None, &[], 5), None, "it is not made from the second");
    }

    /// More than a record names; a reply of an earlier write takes nothing away for what only a later one is built on.
    #[test]
    fn the_newest_write_alone_is_built_on_what_the_isolate_has_seen() {
        let (mut known, key) = (Known::default(), key());
        let beside = Write::from(None, &[], &record(99), 1_000);
        let first = entered(&mut known, &key, None, &[], 1).unwrap();
        let second = entered(&mut known, &key, Some(&first), std::slice::from_ref(&beside), 2).unwrap();
        let mut last = second;
        for version in 3..=40 {
            last = entered(&mut known, &key, Some(&last), &[], version).unwrap();
        }
        assert!(!last.has(&first) && !last.has(&beside), "a record does not name so many");
        assert!(known.has(&key, &last, &first) && known.has(&key, &last, &beside));
        assert!(!known.has(&key, &first, &beside) && !known.is_built_on(&key, &first, first.nonce));
        // One from elsewhere, of which it is not known what it is built on.
        let (write, record) = Write::of(record(50));
        known.meet(&key, &Rc::new(Written { write: write.clone(), record }), true, 1_000);
        assert!(!known.has(&key, &write, &first));
    }

    /// By a clock that is ahead of this one, or by many that write by turns.
    #[test]
    fn a_write_is_stored_once_more_before_the_work_behind_its_reply_ends() {
        for others_turn in [0, 5_000, 19_000, 60_000] {
            let turn = turn(90_000, others_turn, 1_000);
            assert!((1_000..=1_000 + ONCE_MORE_AT_LAST).contains(&turn), "{turn}");
        }
    }

    #[test]
    fn by_a_clock_that_is_put_back_no_id_is_changed_for_an_hour() {
        let (mut known, key) = (Known::default(), key());
        known.moves(&key, Some(10_000_000));
        assert!(known.is_moving(&key, 10_000_001));
        assert!(!known.is_moving(&key, 6_400_000));
    }

    /// An answer that comes after minutes is of a write that is known no more.
    #[test]
    fn what_was_forgotten_says_nothing_of_what_was_written_since() {
        let (mut known, key, another) = (Known::default(), key(), key());
        for version in 1..=3 {
            assert!(entered(&mut known, &key, None, &[], version).is_some());
        }
        let later = 1_000 + HELD_FOR;
        known.forget(&another, later);
        assert!(known.head(&key).is_none());
        let Entered::Made { number, .. } = known.enter(&key, None, &[], &record(4), 0, later) else { panic!("made") };
        let task = known.attend(&key, number, later + 25_000, later).unwrap();
        known.answered(&key, 3, Ok(()), later);
        assert!(!matches!(known.step(&key, number, Some(task), later), Awaited::Step(Step::Done)));
        assert_eq!(known.goes_on(&key, task, later), Some(number), "it is still to be stored");
        known.answered(&key, number, Ok(()), later);
        assert_eq!(known.goes_on(&key, task, later), None);
    }

    /// By who has loaded it more than five minutes before.
    #[test]
    fn what_is_under_way_is_known() {
        let later = 1_000 + HELD_FOR;
        for moves in [false, true] {
            let (mut known, key, another) = (Known::default(), key(), key());
            assert!(entered(&mut known, &key, None, &[], 1).is_some());
            if moves {
                known.moves(&key, Some(later))
            } else {
                known.begin(&key, later)
            }
            known.forget(&another, later);
            assert_eq!((known.is_moving(&key, later), known.is_busy(&key, later)), (moves, !moves));
        }
    }

    /// Its data may be large, and nobody stores it any more.
    #[test]
    fn of_what_nobody_stores_nothing_takes_room() {
        let (mut known, key) = (Known::default(), key());
        let before = known.bytes;
        assert!(entered(&mut known, &key, None, &[], 1).is_some());
        known.end(&key, None, 1_000);
        assert_eq!(known.bytes, before + OVERHEAD);
        assert_eq!(known.entry(&key).unwrap().bytes(), OVERHEAD);
        let puts = |now| {
            let mut puts = Puts::default();
            puts.wait_for(&Written { write: Write::from(None, &[], &record(1), 0), record: record(1) }, 0);
            puts.is_needed(now)
        };
        assert!(puts(59_000) && !puts(60_000), "where there is no room");
    }

    /// What was known before a write that was given up is kept until then.
    #[test]
    fn what_was_given_up_is_forgotten_when_kv_takes_a_write_or_what_is_known_is_another() {
        let key = key();
        let accepted = |known: &mut Known| known.answered(&key, 2, Ok(()), 1_000);
        let ended = |known: &mut Known| known.end(&key, None, 1_000);
        let met = |known: &mut Known| {
            let (write, record) = Write::of(record(50));
            known.meet(&key, &Rc::new(Written { write, record }), true, 1_000);
        };
        for happens in [&accepted as &dyn Fn(&mut Known), &ended, &met] {
            let mut known = Known::default();
            let first = entered(&mut known, &key, None, &[], 1).unwrap();
            assert!(entered(&mut known, &key, Some(&first), &[], 2).is_some());
            known.give_up(&key, &first, None, true, 1_000);
            assert_eq!(known.entry(&key).unwrap().given_up.len(), 1);
            happens(&mut known);
            assert_eq!(known.entry(&key).unwrap().given_up.len(), 0);
        }
    }

    /// A request may be about to change each: it is known which write they have loaded, and no more.
    #[test]
    fn of_sessions_that_there_is_no_room_for_the_data_is_forgotten_first() {
        let mut known = Known::default();
        let keys: Vec<_> = (0..40).map(|_| key()).collect();
        for (number, key) in (1_u32..).zip(&keys) {
            let text = format!("edge-session/1 1 {number} 0 0 9 - 0 -\n\"{}\"", "x".repeat(300_000));
            let (write, record) = Write::of(Record::from_text(&text).unwrap());
            let now = 1_000_000 + 1_000 * u64::from(number);
            known.meet(key, &Rc::new(Written { write, record }), true, now);
            known.hold(key, now + 25_000);
        }
        assert!(known.bytes <= MOST_BYTES + MOST_BYTES / 8, "{}", known.bytes);
        assert!(keys.iter().all(|key| known.head(key).and_then(Head::write).is_some()), "each is known");
    }

    #[test]
    fn what_is_kept_of_a_session_that_ended_takes_room_too() {
        let key = crate::SessionId::random(&crate::TestPlatform::at(0)).unwrap().record_key();
        let mut known = Known::default();
        let text = format!("edge-session/1 2 1 0 0 9 - 0 -\n\"{}\"", "x".repeat(1000));
        known.end(&key, Some(Record::from_text(&text).unwrap()), 0);
        assert!(known.bytes > OVERHEAD + 1000, "{}", known.bytes);
        known.forget(&key, 0);
        assert_eq!(known.bytes, OVERHEAD);
    }
}
