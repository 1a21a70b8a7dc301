use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::backing::Shared;
use crate::platform::random_pause;
use crate::{Error, Platform, Record, RecordKey};

/// The requests of one isolate that lost a race on a session, and wait for their turn to try again: one at a time and in the
/// order in which they came, so that they are not in each other's way and none of them loses for ever.
///
/// It is fairness and no more: what is stored is decided by the store alone, which also sees the requests of other isolates
/// and the ones that are here for the first time. So a request that is gone, or does not come back, holds up nobody for long.
///
/// The requests share plain data, and each waits by timers of its own: in the Workers runtime a request cannot wake another.
#[derive(Default)]
pub(crate) struct Queues {
    /// Few, if any.
    queues: RefCell<Vec<(RecordKey, Queue)>>,
    tickets: Cell<u64>,
}

#[derive(Default)]
struct Queue {
    /// In the order of their tickets.
    waiting: Vec<Waiting>,
    turn: Option<Turn>,
    /// How many turns are counted, and how many milliseconds they took together.
    turns: u64,
    took: u64,
    /// How many milliseconds the last one took, if it lost races: then requests of other isolates are in the way.
    gives_way: u64,
    /// The newest record that one of these requests has stored or lost to, and when, in milliseconds. None of a store that does
    /// not say what is there.
    newest: Option<(Record, u64)>,
    /// When one of them looked last.
    looked_at: u64,
}

struct Waiting {
    ticket: u64,
    /// When it will look whether it is its turn, in milliseconds.
    looks_at: u64,
}

#[derive(Clone, Copy)]
struct Turn {
    ticket: u64,
    began: u64,
    /// How many races it has lost.
    lost: u32,
}

/// Who is so far in front takes a turn that is free: the first may be asleep still.
const FRONT: usize = 4;

/// A turn that takes longer, in milliseconds, holds up the next one no more.
const LONGEST_TURN: u64 = 1000;

/// Who is so many milliseconds late for its look does not come back: its visitor has gone.
const PATIENCE: u64 = 100;

/// The longest pause between two looks, in milliseconds.
const LONGEST_PAUSE: u64 = 1000;

/// A visitor waits so many milliseconds, and no longer.
const LONGEST_WAIT: u64 = 10_000;

/// What a request has stored or lost to says what is there for so many milliseconds, and no longer.
const FRESH: u64 = 1000;

/// Who has looked so often goes on, whatever the clock says.
const MOST_LOOKS: u32 = 100;

/// As long as nothing is known, a turn is thought to take so many milliseconds.
const FIRST_GUESS: u64 = 2;

/// The turns by which the pace is known: older ones count less and less.
const REMEMBERED: u64 = 64;

/// The queue for this session, if there is one.
fn found<'a>(queues: &'a [(RecordKey, Queue)], key: &RecordKey) -> Option<&'a Queue> {
    queues.iter().find(|(of, _)| of == key).map(|(_, queue)| queue)
}

fn found_mut<'a>(queues: &'a mut [(RecordKey, Queue)], key: &RecordKey) -> Option<&'a mut Queue> {
    queues.iter_mut().find(|(of, _)| of == key).map(|(_, queue)| queue)
}

impl Queues {
    /// A request stored this, whether it waited or not: for those who wait it is the newest, if their store is one that says
    /// what is there.
    pub(crate) fn stored(&self, key: &RecordKey, record: &Record, now: u64) {
        if let Some(queue) = found_mut(&mut self.queues.borrow_mut(), key)
            && queue.newest.is_some()
        {
            queue.met(record, now);
        }
    }

    /// Whether requests wait for their turn on this session, so that one that comes had better wait as well.
    pub(crate) fn are_waiting(&self, key: &RecordKey, platform: &dyn Platform) -> bool {
        found(&self.queues.borrow(), key).is_some_and(|queue| queue.is_busy(platform.milliseconds()))
    }

    fn look(&self, key: &RecordKey, ticket: u64, now: u64) -> Look {
        let mut queues = self.queues.borrow_mut();
        if let Some(queue) = found_mut(&mut queues, key) {
            return queue.look(ticket, now);
        }
        // A request whose visitor has gone does not leave its queue.
        queues.retain(|(_, queue)| queue.looked_at.saturating_add(LONGEST_WAIT) >= now);
        let mut queue = Queue::default();
        let look = queue.look(ticket, now);
        queues.push((key.clone(), queue));
        look
    }

    fn leave(&self, key: &RecordKey, ticket: u64, now: u64) {
        let mut queues = self.queues.borrow_mut();
        let Some(place) = queues.iter().position(|(of, _)| of == key) else { return };
        let Some((_, queue)) = queues.get_mut(place) else { return };
        queue.leave(ticket, now);
        if queue.waiting.is_empty() && queue.turn.is_none() {
            queues.swap_remove(place);
        }
    }
}

/// A request's place in the queue of a session. Dropped, it is free.
pub(crate) struct Place {
    shared: Rc<Shared>,
    key: RecordKey,
    ticket: u64,
    since: u64,
}

impl Place {
    /// At the end of the queue for this session.
    pub(crate) fn at_the_end(shared: &Rc<Shared>, key: &RecordKey) -> Self {
        let tickets = &shared.queues.tickets;
        tickets.set(tickets.get().saturating_add(1));
        let since = shared.platform.milliseconds();
        Self { shared: Rc::clone(shared), key: key.clone(), ticket: tickets.get(), since }
    }

    /// Waits for its turn, which lasts until the place is dropped.
    ///
    /// # Errors
    ///
    /// `Contended` when its visitor has waited too long.
    pub(crate) async fn turn(&self) -> Result<(), Error> {
        let platform = &*self.shared.platform;
        for _ in 0..MOST_LOOKS {
            let now = platform.milliseconds();
            let pause = match self.shared.queues.look(&self.key, self.ticket, now) {
                Look::In(pause) => pause,
                Look::TakesItsTurn { gives_way } => {
                    if gives_way > 0 {
                        random_pause(platform, 0, gives_way.try_into().unwrap_or(u32::MAX)).await;
                    }
                    return Ok(());
                }
            };
            // Not by what is expected: when all come at once a turn takes long, and who is refused comes again at once.
            if now.saturating_sub(self.since) >= LONGEST_WAIT {
                return Err(Error::contended());
            }
            let pause = pause.clamp(1, LONGEST_PAUSE);
            platform.sleep(pause.try_into().unwrap_or(u32::MAX)).await;
        }
        Ok(())
    }

    /// It lost its race to this record, at that time.
    pub(crate) fn lost_to(&self, record: &Record, lost_at: u64) {
        if let Some(queue) = found_mut(&mut self.shared.queues.queues.borrow_mut(), &self.key) {
            queue.met(record, lost_at);
        }
    }

    /// The newest record that a request of this isolate has stored, or lost to, a moment ago.
    pub(crate) fn newest(&self) -> Option<Record> {
        let (queues, now) = (self.shared.queues.queues.borrow(), self.shared.platform.milliseconds());
        let queue = found(&queues, &self.key)?;
        let is_fresh = |at: u64| now.saturating_sub(at) <= FRESH;
        queue.newest.as_ref().filter(|(_, at)| is_fresh(*at)).map(|(record, _)| record.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.queues.leave(&self.key, self.ticket, self.shared.platform.milliseconds());
    }
}

/// What a request finds when it looks.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    /// Its turn may come in so many milliseconds.
    In(u64),
    /// Its turn has come. First it gives way for up to so many milliseconds to requests of other isolates that have lost often.
    TakesItsTurn { gives_way: u64 },
}

impl Queue {
    fn look(&mut self, ticket: u64, now: u64) -> Look {
        self.looked_at = now;
        while self.waiting.first().is_some_and(|first| first.looks_at.saturating_add(PATIENCE) < now) {
            self.waiting.remove(0);
        }
        let before = self.place_of(ticket);
        let others = self.turn.filter(|turn| turn.ticket != ticket).map(|turn| now.saturating_sub(turn.began));
        if others.is_none_or(|lasts| lasts > LONGEST_TURN) && before < FRONT {
            return Look::TakesItsTurn { gives_way: self.begin(ticket, now) };
        }
        let one_takes = self.one_takes();
        // One that has taken longer may take half as long again.
        let left = others.map_or(0, |lasts| one_takes.saturating_sub(lasts).max(lasts / 2));
        let pause = u64::try_from(before).unwrap_or(u64::MAX).saturating_mul(one_takes).saturating_add(left);
        let looks_at = now.saturating_add(pause.clamp(1, LONGEST_PAUSE));
        match self.waiting.get_mut(before) {
            Some(waiting) if waiting.ticket == ticket => waiting.looks_at = looks_at,
            _ => self.waiting.insert(before, Waiting { ticket, looks_at }),
        }
        Look::In(pause)
    }

    fn met(&mut self, record: &Record, now: u64) {
        if self.newest.as_ref().is_none_or(|(newest, _)| newest.version < record.version) {
            self.newest = Some((record.clone(), now));
        }
    }

    /// Whether somebody waits, or has a turn, who is still there.
    fn is_busy(&self, now: u64) -> bool {
        let is_there = |waiting: &Waiting| waiting.looks_at.saturating_add(PATIENCE) >= now;
        let is_in_time = |turn: Turn| now.saturating_sub(turn.began) <= LONGEST_TURN;
        self.turn.is_some_and(is_in_time) || self.waiting.iter().any(is_there)
    }

    /// How many milliseconds a turn takes, as far as is known.
    fn one_takes(&self) -> u64 {
        self.took.checked_div(self.turns).unwrap_or(FIRST_GUESS).max(1)
    }

    /// How many are waiting before this ticket, which is where it waits, if it does.
    fn place_of(&self, ticket: u64) -> usize {
        self.waiting.partition_point(|waiting| waiting.ticket < ticket)
    }

    /// A turn, or another attempt in it. For how long it gives way.
    fn begin(&mut self, ticket: u64, now: u64) -> u64 {
        self.stop_waiting(ticket);
        match &mut self.turn {
            Some(turn) if turn.ticket == ticket => {
                turn.lost = turn.lost.saturating_add(1);
                0
            }
            turn => {
                *turn = Some(Turn { ticket, began: now, lost: 0 });
                self.gives_way.saturating_mul(3).min(LONGEST_PAUSE)
            }
        }
    }

    fn stop_waiting(&mut self, ticket: u64) {
        let place = self.place_of(ticket);
        if self.waiting.get(place).is_some_and(|waiting| waiting.ticket == ticket) {
            self.waiting.remove(place);
        }
    }

    fn leave(&mut self, ticket: u64, now: u64) {
        self.stop_waiting(ticket);
        let Some(turn) = self.turn.take_if(|turn| turn.ticket == ticket) else { return };
        self.turns = self.turns.saturating_add(1);
        // One that took longer held up nobody any more.
        let took = now.saturating_sub(turn.began).min(LONGEST_TURN);
        self.took = self.took.saturating_add(took);
        self.gives_way = if turn.lost > 2 { took } else { 0 };
        if self.turns > REMEMBERED {
            (self.turns, self.took) = (self.turns / 2, self.took / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SessionId, TestPlatform};

    fn keys() -> [RecordKey; 2] {
        let platform = TestPlatform::at(0);
        [(); 2].map(|()| SessionId::random(&platform).unwrap().record_key())
    }

    const AT_ONCE: Look = Look::TakesItsTurn { gives_way: 0 };

    #[test]
    fn who_has_the_turn_is_alone_and_the_others_wait_in_the_order_of_their_tickets() {
        let mut queue = Queue::default();
        assert_eq!(queue.look(1, 0), AT_ONCE);
        assert!(matches!(queue.look(3, 0), Look::In(_)));
        assert!(matches!(queue.look(2, 0), Look::In(_)));
        assert_eq!(queue.waiting.iter().map(|waiting| waiting.ticket).collect::<Vec<_>>(), [2, 3]);
        queue.leave(1, 0);
        assert_eq!(queue.look(2, 0), AT_ONCE);
    }

    #[test]
    fn how_long_one_waits_is_what_the_turns_of_others_took_and_the_last_ones_count_most() {
        let mut queue = Queue::default();
        let turns = |queue: &mut Queue, from: u64, number: u64, each: u64| {
            for turn in 0..number {
                let began = turn.saturating_mul(each).saturating_add(from);
                assert_eq!(queue.look(1, began), AT_ONCE);
                queue.leave(1, began.saturating_add(each));
            }
        };
        turns(&mut queue, 0, 3, 100);
        assert_eq!(queue.look(1, 400), AT_ONCE);
        assert_eq!((queue.look(2, 400), queue.look(3, 400)), (Look::In(100), Look::In(200)));
        queue.leave(1, 500);
        queue.leave(2, 500);
        queue.leave(3, 500);
        turns(&mut queue, 500, 200, 10);
        turns(&mut queue, 9_000, 200, 90);
        assert!(queue.one_takes() > 70, "{}", queue.one_takes());
    }

    #[test]
    fn turns_that_take_no_time_are_thought_to_take_some_and_a_long_one_half_as_long_again() {
        let mut queue = Queue::default();
        assert_eq!(queue.look(1, 0), AT_ONCE);
        queue.leave(1, 0);
        assert_eq!(queue.look(1, 0), AT_ONCE);
        assert!(matches!(queue.look(2, 0), Look::In(_)));
        assert_eq!(queue.look(3, 0), Look::In(2), "there is one before it, and one has its turn");
        assert_eq!(queue.look(2, 600), Look::In(300));
    }

    /// Timers are late.
    #[test]
    fn who_looks_a_little_late_has_its_place_still() {
        let mut queue = Queue::default();
        assert_eq!(queue.look(1, 0), AT_ONCE);
        assert!(matches!(queue.look(2, 0), Look::In(_)));
        queue.leave(1, 1);
        assert!(queue.is_busy(50), "somebody is expected");
        assert!(matches!(queue.look(9, 50), Look::TakesItsTurn { .. }), "who comes is far enough in front");
        assert_eq!(queue.waiting.iter().map(|waiting| waiting.ticket).collect::<Vec<_>>(), [2]);
        queue.leave(9, 50);
        assert!(!queue.is_busy(500), "who does not come is not waited for");
    }

    #[test]
    fn who_leaves_while_it_waits_is_waited_for_no_more() {
        let mut queue = Queue::default();
        assert_eq!(queue.look(1, 0), AT_ONCE);
        assert!(matches!(queue.look(2, 0), Look::In(_)));
        queue.leave(2, 0);
        queue.leave(1, 0);
        assert!(!queue.is_busy(0));
    }

    /// Requests of other isolates are in the way.
    #[test]
    fn after_a_turn_that_lost_more_than_twice_the_next_gives_way_for_three_times_as_long() {
        for (lost, lasts, gives_way) in [(2, 100, 0), (3, 100, 300), (3, 900, LONGEST_PAUSE)] {
            let mut queue = Queue::default();
            for _ in 0..=lost {
                assert_eq!(queue.look(1, 0), AT_ONCE);
            }
            queue.leave(1, lasts);
            assert_eq!(queue.look(2, lasts), Look::TakesItsTurn { gives_way }, "{lost} {lasts}");
        }
    }

    /// It held up nobody for longer.
    #[test]
    fn a_turn_of_an_hour_counts_as_the_longest() {
        let mut queue = Queue::default();
        assert_eq!(queue.look(1, 0), AT_ONCE);
        queue.leave(1, 3_600_000);
        assert_eq!(queue.one_takes(), LONGEST_TURN);
    }

    #[test]
    fn a_queue_is_there_as_long_as_somebody_is_in_it() {
        let (queues, [key, _]) = (Queues::default(), keys());
        queues.look(&key, 1, 0);
        queues.look(&key, 2, 0);
        queues.leave(&key, 1, 1);
        assert_eq!(queues.queues.borrow().len(), 1);
        queues.look(&key, 2, 1);
        queues.leave(&key, 2, 2);
        assert_eq!(queues.queues.borrow().len(), 0);
    }

    /// Its visitor has gone, and nobody drops its place.
    #[test]
    fn one_that_nobody_looks_at_any_more_is_forgotten_when_another_begins() {
        for (looks_again_at, left) in [(0, 1), (5_000, 2)] {
            let (queues, [one, other]) = (Queues::default(), keys());
            queues.look(&one, 1, 0);
            queues.look(&one, 2, looks_again_at);
            queues.look(&other, 3, LONGEST_WAIT.saturating_add(1));
            assert_eq!(queues.queues.borrow().len(), left, "{looks_again_at}");
        }
    }
}
