use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::backing::Shared;
use crate::platform::random_pause;
use crate::{Error, Record, RecordKey};

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
    pub(crate) fn are_waiting(&self, key: &RecordKey, now: u64) -> bool {
        found(&self.queues.borrow(), key).is_some_and(|queue| queue.is_busy(now))
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
            let pause = match self.look(now) {
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

    pub(crate) fn is_for(&self, key: &RecordKey) -> bool {
        self.key == *key
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

    fn look(&self, now: u64) -> Look {
        let mut queues = self.shared.queues.queues.borrow_mut();
        if let Some(queue) = found_mut(&mut queues, &self.key) {
            return queue.look(self.ticket, now);
        }
        // A request whose visitor has gone does not leave its queue.
        queues.retain(|(_, queue)| queue.looked_at.saturating_add(LONGEST_WAIT) >= now);
        let mut queue = Queue::default();
        let look = queue.look(self.ticket, now);
        queues.push((self.key.clone(), queue));
        look
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.shared.queues.queues.borrow_mut();
        let Some(place) = queues.iter().position(|(of, _)| *of == self.key) else { return };
        let Some((_, queue)) = queues.get_mut(place) else { return };
        queue.leave(self.ticket, self.shared.platform.milliseconds());
        if queue.waiting.is_empty() && queue.turn.is_none() {
            queues.swap_remove(place);
        }
    }
}

/// What a request finds when it looks.
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
