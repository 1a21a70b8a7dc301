//! The writes of one session that are on their way to KV: one put a second, the newest at a time, whoever waits for it. Plain
//! data, by a clock that is handed in.

use super::write::{TRIED_FOR, Written};
use crate::KvFailure;

/// For how many milliseconds a write is tried at the least, when others before it have failed.
const TRIED_AT_LEAST: u64 = 1_500;

/// KV takes one write a second under a name. After that the way is left to another isolate for a random part of a while.
const ONE_SECOND: u64 = 1_000;
const WAY_FOR_OTHERS: u64 = 300;

/// Who met 429 has met another isolate, and tries again after this: more often than the other, which writes again after its
/// second.
const ASIDE: u64 = 150;

/// How often it is looked whether another request has stored a write, in milliseconds.
const LOOK_AGAIN: u64 = 50;

/// A put without an answer for so many milliseconds belongs to a request that is no more: the runtime does not say so.
const ABANDONED: u64 = 6_000;

/// Who waits for a write looks after it more often than this, in milliseconds.
const FORGOTTEN: u64 = 2_000;

/// And after so many it may be forgotten.
const KEPT_FOR: u64 = 60_000;

/// A put that is broken off may arrive all the same, for so many milliseconds after it began.
const HANGS_FOR: u64 = 15_000;

/// Who looks after a write has so many milliseconds left at the least: for a put that hangs, the pause after it, and its own.
const ATTENDED_FOR: u64 = ABANDONED + ONE_SECOND + WAY_FOR_OTHERS + 5_000;

#[derive(Debug, Default)]
pub(super) struct Puts {
    /// The number of the last write, in this isolate's order.
    last: u64,
    /// The newest, while it is not stored, or is to be stored once more.
    waiting: Option<Waiting>,
    under_way: Option<UnderWay>,
    /// The last one behind a reply who has begun to look after what waits.
    attendant: Option<Attendant>,
    /// How many there were.
    tasks: u64,
    /// When the last answer came, in milliseconds since 1970 UTC, as are all times here.
    answered: u64,
    /// Until when a put that nobody waits for any more may arrive, after newer ones of this isolate.
    settles_at: u64,
    accepted: u64,
    /// The nonce of what was accepted.
    accepted_nonce: Option<u32>,
    given_up: u64,
    /// Whether what was given up may be stored all the same.
    is_unsure: bool,
    /// Why it was given up.
    failure: Option<KvFailure>,
    /// The last write whose reply has gone out, and the last of these of which it was said that it is given up.
    behind: u64,
    told: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    nonce: u32,
    text: String,
    expires_at: u64,
    /// Since when it is tried.
    since: u64,
    /// When it is to be stored once more, for a write that it is built on may arrive after it.
    again_at: Option<u64>,
    /// The last failure, if there was one, and how many there were.
    failure: Option<KvFailure>,
    failures: u32,
    /// Whether a failed attempt may have been stored.
    is_unsure: bool,
    /// When somebody looked after it.
    looked_after: u64,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    since: u64,
}

/// Work behind a reply. Two may look after the same write, and only one of them is relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    number: u64,
    /// When it ends at the latest, in milliseconds.
    pub(super) until: u64,
}

/// Who looks after a write behind a reply, and so after any newer one that takes its place before it is put.
#[derive(Debug)]
struct Attendant {
    task: Task,
    /// Of the write.
    number: u64,
    /// When it has looked last.
    looked: u64,
}

/// What is to be done for a write, by whoever waits for it.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It, or a newer one, is stored.
    Done,
    /// It is not stored, or not once more, unless one of the attempts was without our knowing. The last failure: of work behind
    /// a reply the first that is told knows it, and says it, unless a newer one was stored.
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
        turn: Turn,
    },
}

/// Whether a write is still to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Care {
    /// It is, or not by this isolate, or not yet once more.
    NotDue,
    /// It waits by this number, and somebody looks after it, who may be gone at any moment.
    Waits(u64),
    /// It waits, and nobody looks after it any more.
    Forgotten,
}

/// Which of its times a put is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    First,
    OnceMore,
}

impl Puts {
    /// Whose numbers begin after this one.
    pub(super) fn after(last: u64) -> Self {
        Self { last, ..Self::default() }
    }

    /// The number of the last write.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Has a write stored, in place of an older one that waits, and gives its number.
    pub(super) fn wait_for(&mut self, written: &Written, now: u64) -> u64 {
        self.last = self.last.saturating_add(1);
        let unanswered =
            self.waiting.as_ref().filter(|before| before.number > self.settled() && before.has_somebody(now));
        self.waiting = Some(Waiting {
            number: self.last,
            nonce: written.write.nonce,
            text: written.write.noted_in(&written.record).to_text(),
            expires_at: written.record.expires_at,
            since: unanswered.map_or(now, |before| before.with_a_chance(now)),
            again_at: written.write.again_at.filter(|at| *at > now),
            failure: None,
            failures: 0,
            is_unsure: false,
            looked_after: now,
        });
        self.last
    }

    /// Somebody behind a reply looks after the write of this number from now on, until it is settled, or this time; unless
    /// somebody behind an earlier one does: who looks after an older write has the newest stored in its place, and
    /// [goes on](Self::goes_on) to one that came later. `None` where it is not needed.
    pub(super) fn attend(&mut self, number: u64, until: u64, now: u64) -> Option<Task> {
        self.behind = self.behind.max(number);
        let again_at = self.again_at();
        let will_do = |attendant: &Attendant| {
            attendant.number > self.settled()
                && (attendant.looked..attendant.looked.saturating_add(FORGOTTEN)).contains(&now)
                && now.saturating_add(ATTENDED_FOR) < attendant.task.until
                && again_at.is_none_or(|at| at.saturating_add(TRIED_FOR) < attendant.task.until)
        };
        if self.attendant.as_ref().is_some_and(will_do) {
            return None;
        }
        self.tasks = self.tasks.saturating_add(1);
        let task = Task { number: self.tasks, until };
        self.attendant = Some(Attendant { task, number, looked: now });
        Some(task)
    }

    /// A task behind a reply is done with the write of this number. The newer one that relies on it, and that it goes on with.
    pub(super) fn goes_on(&mut self, task: Task, now: u64) -> Option<u64> {
        let attendant = self.attendant.as_mut().filter(|attendant| attendant.task == task)?;
        let number = self.waiting.as_ref()?.number;
        (attendant.number, attendant.looked) = (number, now);
        Some(number)
    }

    /// Each waits for its own write.
    pub(super) fn leave(&mut self) {
        self.attendant = None;
    }

    pub(super) fn again_at(&self) -> Option<u64> {
        self.waiting.as_ref().and_then(|waiting| waiting.again_at)
    }

    /// Nothing has to be stored any more.
    pub(super) fn forget(&mut self) {
        self.waiting = None;
    }

    pub(super) fn waits(&self, number: u64) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.number == number)
    }

    /// A put that nobody else waits for begins.
    pub(super) fn begin(&mut self, now: u64) {
        self.break_off(now);
        self.under_way = Some(UnderWay { number: 0, since: now });
    }

    pub(super) fn has_accepted(&self, nonce: u32) -> bool {
        self.accepted_nonce == Some(nonce)
    }

    /// Until when one of its puts may arrive after newer ones, for it was broken off.
    pub(super) fn settles_at(&self) -> u64 {
        self.settles_at
    }

    /// Whether the write of this number was given up.
    pub(super) fn has_given_up(&self, number: u64) -> bool {
        self.accepted < number && self.given_up >= number
    }

    /// Whether one is under way, or somebody is about to make one.
    pub(super) fn is_busy(&self, now: u64) -> bool {
        self.is_under_way(now) || self.waiting.as_ref().is_some_and(|waiting| waiting.has_somebody(now))
    }

    /// Whether the write of this nonce waits to be stored, and for whom.
    pub(super) fn care(&self, nonce: u32, now: u64) -> Care {
        let Some(waiting) = self.waiting.as_ref().filter(|waiting| waiting.nonce == nonce) else { return Care::NotDue };
        let is_first = waiting.number > self.settled();
        match self.is_busy(now) {
            true if is_first => Care::Waits(waiting.number),
            false if is_first || waiting.again_at.is_some_and(|at| at <= now) => Care::Forgotten,
            _ => Care::NotDue,
        }
    }

    /// Whether it is to be kept also where there is no room.
    pub(super) fn is_needed(&self, now: u64) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| now < waiting.looked_after.saturating_add(KEPT_FOR))
    }

    pub(super) fn bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.text.len())
    }

    fn is_under_way(&self, now: u64) -> bool {
        // A clock may have been put back meanwhile.
        let is_young = |put: &UnderWay| (put.since..put.since.saturating_add(ABANDONED)).contains(&now);
        self.under_way.as_ref().is_some_and(is_young)
    }

    /// What is to be done for the write of this number: by the task that attends to it, until it is also stored once more, if that is due.
    pub(super) fn step(&mut self, number: u64, task: Option<Task>, now: u64) -> Step {
        if let Some(waiting) = &mut self.waiting {
            if waiting.has_somebody(now) {
                // A clock may have been put back meanwhile.
                waiting.since = waiting.since.min(now);
            } else {
                waiting.since = now;
                waiting.again_at = waiting.again_at.map(|at| at.max(now));
            }
            waiting.looked_after = now;
        }
        self.answered = self.answered.min(now);
        let attendant = self.attendant.as_mut().filter(|attendant| Some(attendant.task) == task);
        let attends = attendant.map(|attendant| attendant.looked = now).is_some();
        let (is_done, settled) = (self.accepted >= number, self.settled());
        if settled >= number && !(attends && self.again_at().is_some()) {
            return if is_done { Step::Done } else { self.gave_up(task) };
        }
        if self.is_under_way(now) {
            return Step::Wait(LOOK_AGAIN);
        }
        let was_abandoned = self.under_way.is_some();
        self.break_off(now);
        let Some(waiting) = &mut self.waiting else { return Step::GaveUp { failure: None, is_unsure: true } };
        if was_abandoned {
            waiting.since = waiting.with_a_chance(now);
        }
        let turn = if waiting.number > settled { Turn::First } else { Turn::OnceMore };
        let due = match turn {
            Turn::First => waiting.since,
            Turn::OnceMore => waiting.again_at.unwrap_or(now),
        };
        let pause = match &waiting.failure {
            Some(KvFailure::TooManyWrites) => ASIDE,
            _ => ONE_SECOND.saturating_add(waiting.random_part_of(WAY_FOR_OTHERS)),
        };
        let next = due.max(self.answered.saturating_add(pause));
        if next >= due.saturating_add(TRIED_FOR) {
            self.give_up(turn);
            if turn == Turn::First {
                return self.gave_up(task);
            }
            // It was accepted, and an older one may have taken its place.
            self.told = self.behind;
            return Step::GaveUp { failure: self.failure.clone(), is_unsure: self.is_unsure };
        }
        if now < next {
            return Step::Wait(next.saturating_sub(now));
        }
        self.under_way = Some(UnderWay { number: waiting.number, since: now });
        let Waiting { text, expires_at, number, .. } = waiting;
        Step::Put { text: text.clone(), expires_at: *expires_at, number: *number, turn }
    }

    /// Gives the newest up. It is still stored once more, if that is to come.
    fn give_up(&mut self, turn: Turn) {
        let Some(waiting) = &mut self.waiting else { return };
        self.given_up = self.given_up.max(waiting.number);
        self.is_unsure = waiting.is_unsure;
        self.failure = waiting.failure.take().or_else(|| Some(KvFailure::Other("no answer".to_owned())));
        if turn == Turn::OnceMore || waiting.again_at.is_none() {
            self.waiting = None;
        }
    }

    fn gave_up(&mut self, task: Option<Task>) -> Step {
        let has_news = self.behind > self.accepted.max(self.told);
        if task.is_some() {
            self.told = self.behind;
        }
        let failure = self.failure.clone().filter(|_| task.is_none() || has_news);
        Step::GaveUp { failure, is_unsure: self.is_unsure }
    }

    /// What came of a put.
    pub(super) fn note(&mut self, number: u64, answer: Result<(), KvFailure>, now: u64) {
        self.is_back(number);
        self.answered = now;
        let settled = self.settled();
        let Some(waiting) = &mut self.waiting else { return };
        // Who waited for its answer looks after it now, however long that took.
        waiting.looked_after = now;
        let is_its = waiting.number == number;
        if !is_its {
            waiting.since = if answer.is_ok() { now } else { waiting.with_a_chance(now) };
        }
        match answer {
            Ok(()) => {
                self.accepted = self.accepted.max(number);
                if is_its {
                    self.accepted_nonce = Some(waiting.nonce);
                    waiting.failure = None;
                    waiting.again_at = waiting.again_at.filter(|_| settled < number);
                    self.waiting.take_if(|waiting| waiting.again_at.is_none());
                }
            }
            Err(failure) => {
                waiting.is_unsure |= is_its && failure != KvFailure::TooManyWrites;
                waiting.failures = waiting.failures.saturating_add(1);
                waiting.failure = Some(failure);
            }
        }
    }

    /// A put has no answer, and is waited for no longer.
    pub(super) fn is_broken_off(&mut self, number: u64, now: u64) {
        if self.under_way.as_ref().is_some_and(|put| put.number == number) {
            self.break_off(now);
        }
        // One that hangs alone is tried once more: it took the time of more than one.
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.number == number && waiting.failures == 0)
        {
            waiting.since = waiting.with_a_chance(now);
        }
        self.note(number, Err(KvFailure::Other("no answer to a put".to_owned())), now);
    }

    /// The put that is under way is waited for no longer. What waits behind it is stored once more, when that can have arrived.
    fn break_off(&mut self, now: u64) {
        let Some(put) = self.under_way.take() else { return };
        // A clock may have been put back meanwhile.
        let arrives = if now > put.since { put.since.saturating_add(HANGS_FOR) } else { now };
        self.settles_at = self.settles_at.max(arrives);
        match &mut self.waiting {
            Some(waiting) if waiting.number == put.number => waiting.is_unsure = true,
            Some(waiting) if now <= arrives => waiting.again_at = waiting.again_at.max(Some(arrives)),
            _ => {}
        }
    }

    /// What was to be stored once more need not be: a newer write is there.
    pub(super) fn is_outrun(&mut self, number: u64) {
        self.is_back(number);
        self.waiting.take_if(|waiting| waiting.number == number);
    }

    /// The put of this number is under way no more.
    fn is_back(&mut self, number: u64) {
        self.under_way.take_if(|put| put.number == number);
    }

    /// The number of the last write of which it is known what came of it.
    fn settled(&self) -> u64 {
        self.accepted.max(self.given_up)
    }
}

impl Waiting {
    /// Whether somebody looks after it.
    fn has_somebody(&self, now: u64) -> bool {
        now < self.looked_after.saturating_add(FORGOTTEN)
    }

    /// Since when it counts as tried, where others before it have failed: not for so long that nothing is left for it.
    fn with_a_chance(&self, now: u64) -> u64 {
        self.since.max(now.saturating_sub(TRIED_FOR.saturating_sub(TRIED_AT_LEAST)))
    }

    /// Another number after each failure.
    fn random_part_of(&self, end: u64) -> u64 {
        let mixed = self.nonce.wrapping_add(self.failures).wrapping_mul(0x9E37_79B9);
        u64::from(mixed >> 16).checked_rem(end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Record;
    use crate::store::kv::write::Write;

    /// Some time.
    const T: u64 = 10_000_000;

    fn written(nonce: u32, now: u64) -> Written {
        let record = Record::from_text(&format!("edge-session/1 1 {nonce} 0 0 9999999999 - 0 -\n{{}}")).unwrap();
        Written { write: Write::from(None, &[], &record, now), record }
    }

    /// The platform gives work behind a reply 30 seconds.
    #[test]
    fn who_comes_when_the_work_behind_an_earlier_reply_is_about_to_end_looks_after_the_write() {
        let (mut puts, until) = (Puts::default(), 25_000);
        let first = puts.wait_for(&written(1, 0), 0);
        let task = puts.attend(first, until, 0);
        assert!(task.is_some());
        for (now, nonce) in (1_000..=13_000).step_by(1_000).zip(2..) {
            let number = puts.wait_for(&written(nonce, now), now);
            if let Step::Put { number, .. } = puts.step(first, task, now) {
                puts.note(number, Err(KvFailure::TooManyWrites), now);
            }
            let is_about_to_end = now + ATTENDED_FOR >= until;
            assert_eq!(puts.attend(number, now + 25_000, now).is_some(), is_about_to_end, "{now}");
        }
    }

    /// The work behind an earlier reply does, if it has the time for that.
    #[test]
    fn who_has_a_write_stored_once_more_looks_after_it() {
        let mut puts = Puts::default();
        let first = puts.wait_for(&written(1, 0), 0);
        assert!(puts.attend(first, 25_000, 0).is_some());
        let mut again = written(2, 100);
        again.write.again_at = Some(7_000);
        let second = puts.wait_for(&again, 100);
        assert_eq!(puts.attend(second, 25_100, 100), None, "it has");
        again.write.again_at = Some(21_000);
        let third = puts.wait_for(&again, 200);
        assert!(puts.attend(third, 25_200, 200).is_some(), "it has not");
        assert!(puts.attend(third, 25_300, 300).is_some(), "nor has that one");
    }

    /// A request that waits for its own save, which the work behind an earlier reply goes on with.
    #[test]
    fn who_waits_for_a_write_that_is_given_up_is_told_and_nobody_else() {
        for is_under_way in [false, true] {
            let mut puts = Puts::default();
            let first = puts.wait_for(&written(1, 100_000), 100_000);
            let task = puts.attend(first, 125_000, 100_000);
            assert!(matches!(puts.step(first, task, 100_000), Step::Put { .. }));
            let mut second = 0;
            if is_under_way {
                second = puts.wait_for(&written(2, 100_050), 100_050);
            }
            puts.note(first, Ok(()), 100_100);
            if !is_under_way {
                second = puts.wait_for(&written(2, 100_200), 100_200);
            }
            assert_eq!(puts.step(first, task, 100_210), Step::Done);
            assert_eq!(puts.goes_on(task.unwrap(), 100_210), Some(second));
            let mut now = 100_220;
            assert_eq!(given_up(&mut puts, second, &mut now), Some(KvFailure::TooManyWrites));
            assert_eq!(puts.step(second, task, now), Step::GaveUp { failure: None, is_unsure: false });
        }
    }

    /// It was to be stored once more, and another write that failed as well has taken its place.
    #[test]
    fn a_write_whose_reply_had_gone_out_is_told_of_whatever_came_after_it() {
        let mut puts = Puts::default();
        let first = puts.wait_for(&written(1, 100_000), 100_000);
        let mut again = written(2, 100_000);
        again.write.again_at = Some(115_000);
        let second = puts.wait_for(&again, 100_000);
        let task = puts.attend(second, 125_000, 100_000);
        let mut now = 100_000;
        assert!(given_up(&mut puts, first, &mut now).is_some());
        let third = puts.wait_for(&written(3, now), now);
        assert!(given_up(&mut puts, third, &mut now).is_some());
        assert!(matches!(puts.step(second, task, now), Step::GaveUp { failure: Some(_), .. }));
        assert!(matches!(puts.step(second, task, now), Step::GaveUp { failure: None, .. }), "once");
    }

    /// Who waits for a write on a KV that refuses each is told of it.
    fn given_up(puts: &mut Puts, number: u64, now: &mut u64) -> Option<KvFailure> {
        loop {
            match puts.step(number, None, *now) {
                Step::Put { number, .. } => puts.note(number, Err(KvFailure::TooManyWrites), *now),
                Step::Wait(milliseconds) => *now += milliseconds,
                Step::GaveUp { failure, .. } => return failure,
                Step::Done => panic!("nothing is stored"),
            }
        }
    }

    /// By the clock of another machine, or one that was set right.
    #[test]
    fn a_clock_that_is_put_back_holds_no_write_up() {
        let after = T - 3_600_000;
        let soon = |puts: &mut Puts, number| match puts.step(number, None, after) {
            Step::Wait(milliseconds) => milliseconds <= ONE_SECOND + WAY_FOR_OTHERS,
            step => matches!(step, Step::Put { .. }),
        };
        let mut answered = Puts::default();
        let first = answered.wait_for(&written(1, T), T);
        assert!(matches!(answered.step(first, None, T), Step::Put { .. }));
        answered.note(first, Ok(()), T);
        let second = answered.wait_for(&written(2, after), after);
        assert!(soon(&mut answered, second), "after the answer to another");

        let Step::Wait(pause) = answered.step(second, None, after) else { panic!("a second has not passed") };
        assert!(matches!(answered.step(second, None, after + pause), Step::Put { .. }), "and it is put then");

        let mut waiting = Puts::default();
        let number = waiting.wait_for(&written(1, T), T);
        assert!(soon(&mut waiting, number), "while it waits");
        let mut waiting = Puts::default();
        let number = waiting.wait_for(&written(1, T), T);
        let mut now = after;
        assert!(given_up(&mut waiting, number, &mut now).is_some());
        assert!(now < after + TRIED_FOR + ONE_SECOND, "and it is not tried for an hour");

        let mut under_way = Puts::default();
        let number = under_way.wait_for(&written(1, T), T);
        assert!(matches!(under_way.step(number, None, T), Step::Put { .. }));
        assert!(matches!(under_way.step(number, None, after), Step::Put { .. }), "while its put is under way");
        assert!(under_way.settles_at() <= after, "nor is each write of an hour stored twice");
    }

    #[test]
    fn what_was_accepted_was_not_given_up_whatever_became_of_the_next_one() {
        let mut puts = Puts::default();
        let first = puts.wait_for(&written(1, T), T);
        assert!(matches!(puts.step(first, None, T), Step::Put { .. }));
        puts.note(first, Ok(()), T + 10);
        let second = puts.wait_for(&written(2, T + 20), T + 20);
        assert!(given_up(&mut puts, second, &mut (T + 20)).is_some());
        assert!(puts.has_given_up(second) && !puts.has_given_up(first));
    }

    /// A timer may be late.
    #[test]
    fn what_nobody_could_store_once_more_in_time_is_stored_late() {
        let mut puts = Puts::default();
        let mut again = written(1, T);
        again.write.again_at = Some(T + 7_000);
        let number = puts.wait_for(&again, T);
        let task = puts.attend(number, T + 25_000, T);
        assert!(matches!(puts.step(number, task, T), Step::Put { turn: Turn::First, .. }));
        puts.note(number, Ok(()), T + 10);
        assert_eq!(puts.step(number, task, T + 20), Step::Wait(6_980));
        for now in [T + 15_000, T + 16_000] {
            assert!(matches!(puts.step(number, task, now), Step::Put { turn: Turn::OnceMore, .. }));
            puts.note(number, Err(KvFailure::TooManyWrites), now);
        }
    }

    /// They have waited for long already.
    #[test]
    fn who_waits_behind_a_put_that_hangs_is_told_soon_after_it() {
        let mut puts = Puts::default();
        let first = puts.wait_for(&written(1, T), T);
        assert!(matches!(puts.step(first, None, T), Step::Put { .. }));
        let second = puts.wait_for(&written(2, T + 10), T + 10);
        for now in (T + 10..T + 5_000).step_by(50) {
            assert_eq!(puts.step(second, None, now), Step::Wait(LOOK_AGAIN));
        }
        puts.is_broken_off(first, T + 5_000);
        let mut now = T + 5_000;
        assert!(given_up(&mut puts, second, &mut now).is_some());
        assert!(now < T + 7_500, "{}", now - T);
    }

    /// By a timer that is late.
    #[test]
    fn what_is_broken_off_is_its_own_put() {
        let mut puts = Puts::default();
        let first = puts.wait_for(&written(1, T), T);
        assert!(matches!(puts.step(first, None, T), Step::Put { .. }));
        let second = puts.wait_for(&written(2, T + 10), T + 10);
        assert!(matches!(puts.step(second, None, T + ABANDONED), Step::Put { .. }));
        let third = puts.wait_for(&written(3, T + ABANDONED), T + ABANDONED);
        puts.is_broken_off(first, T + ABANDONED + 10);
        assert_eq!(puts.step(third, None, T + ABANDONED + 20), Step::Wait(LOOK_AGAIN), "for the second");
    }

    #[test]
    fn who_waits_for_what_nobody_knows_of_is_not_told_that_it_is_stored() {
        assert_eq!(Puts::default().step(1, None, 0), Step::GaveUp { failure: None, is_unsure: true });
    }

    /// The first put of it may arrive, although all that followed were refused.
    #[test]
    fn what_was_given_up_after_a_put_that_hangs_is_unsure() {
        for hangs in [false, true] {
            let mut puts = Puts::default();
            let number = puts.wait_for(&written(1, T), T);
            assert!(matches!(puts.step(number, None, T), Step::Put { .. }));
            let mut now = T + if hangs { ABANDONED } else { 10 };
            if !hangs {
                puts.note(number, Err(KvFailure::TooManyWrites), now);
            }
            assert!(given_up(&mut puts, number, &mut now).is_some());
            assert_eq!(
                puts.step(number, None, now),
                Step::GaveUp { failure: Some(KvFailure::TooManyWrites), is_unsure: hangs }
            );
        }
    }

    #[test]
    fn who_is_about_to_end_takes_no_place_of_who_follows() {
        let mut puts = Puts::default();
        let first = puts.wait_for(&written(1, 0), 0);
        let old = puts.attend(first, 25_000, 0).unwrap();
        let follower = puts.attend(first, 38_000, 13_000).unwrap();
        assert!(matches!(puts.step(first, Some(old), 13_000), Step::Put { .. }));
        let second = puts.wait_for(&written(2, 13_500), 13_500);
        assert_eq!(puts.attend(second, 38_500, 13_500), None);
        puts.note(first, Ok(()), 14_000);
        assert_eq!(puts.goes_on(old, 14_000), None);
        assert_eq!(puts.goes_on(follower, 14_050), Some(second));
    }
}
