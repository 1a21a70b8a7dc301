use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use super::carried::{self, Carried, Fate, News};
use super::drive::{NotStored, REPETITIONS};
use super::known::{Entered, Head, Known, Trust};
use super::marks::{
    self, KILLED, MOST_PREDECESSORS, PREDECESSORS_FOR, ended, kept, killed, name, predecessors, session,
};
use super::puts::Care;
use super::write::{Write, Written};
use super::{Kv, KvFailure, KvNamespace};
use crate::session::NOTHING;
use crate::{Error, ErrorKind, Jar, Platform, Record, RecordKey, Store, Successor, Updated};

/// A [`KvStore`](super::KvStore) as one request reaches it.
pub(super) struct Visit<N, P> {
    kv: Rc<Kv<N, P>>,
    /// `None` where there is no request.
    jar: Option<Rc<Jar>>,
    /// What this request has loaded or written last, which its next write is made from.
    bases: RefCell<Vec<(RecordKey, Base)>>,
}

struct Base {
    written: Rc<Written>,
    /// What the browser brought of what was made at the same time elsewhere, and lost to it.
    beside: Vec<Write>,
    /// Until when something of this may yet arrive in KV, as it was when it was loaded.
    settles_at: u64,
    is_in_kv: bool,
}

/// What is known of a session altogether.
enum Newest {
    Nothing,
    /// It was killed, or has moved: then its retired record.
    Ended(Option<Record>),
    Live(Live),
}

struct Live {
    written: Rc<Written>,
    /// Whether KV shows it, or what is built on it.
    is_in_kv: bool,
    /// Whether it is known to be only on its way there.
    fate: Fate,
    /// As in [`Base`].
    beside: Vec<Write>,
    settles_at: u64,
}

/// Marks are kept for at least so many seconds, 90 days, and for twice as long as the record would have lived: longer
/// than any record that a writer who comes late could leave, also one of a release with another `timeout`.
const LEAST_LIFE_OF_A_MARK: u64 = 90 * 24 * 60 * 60;

/// The word of a mark whose session was bound to an address.
const BOUND: &str = "bound";

/// For how many milliseconds a load looks again whether KV shows what the browser was shown, and how often.
const LOOKS_FOR: u64 = 4_000;
const LOOKS_EVERY: u32 = 500;

/// Who waits for a change of id, which takes two writes, looks again after so many milliseconds.
const MOVE_LOOKS_EVERY: u32 = 50;

/// Who brings more than so many carried writes waits for the next one.
const MOST_CARRIED: usize = 8;

/// For how many milliseconds work goes on behind a reply: the platform gives it 30 seconds.
const BEHIND_FOR: u64 = 25_000;

impl<N: KvNamespace + 'static, P: Platform + 'static> Visit<N, P> {
    pub(super) fn new(kv: &Rc<Kv<N, P>>, jar: Option<&Rc<Jar>>) -> Self {
        Self { kv: Rc::clone(kv), jar: jar.cloned(), bases: RefCell::default() }
    }

    fn now(&self) -> u64 {
        self.kv.platform.milliseconds()
    }

    /// The values under two names.
    async fn pair(&self, names: [String; 2]) -> Result<[Option<String>; 2], KvFailure> {
        let mut values = self.kv.namespace.get(&names).await?.into_iter();
        Ok([values.next().flatten(), values.next().flatten()])
    }

    /// The newest of what KV shows, the browser carries and the isolate knows. Ends beat all.
    async fn newest(&self, key: &RecordKey) -> Result<Newest, Error> {
        let mut looked_for = 0;
        loop {
            if let Some(ended) = ended_here(&self.kv.known.borrow(), key) {
                return Ok(ended);
            }
            let [stored, mark] = self.pair([session(key), ended(key)]).await?;
            if let Some(newest) = self.chosen(key, stored, mark)? {
                return Ok(newest);
            }
            if looked_for >= LOOKS_FOR {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "KV does not show yet what this session's visitor has seen; it is too large for a cookie",
                ));
            }
            self.kv.platform.sleep(LOOKS_EVERY).await;
            looked_for = looked_for.saturating_add(u64::from(LOOKS_EVERY));
        }
    }

    /// The newest, by what KV shows now. `None` where that is older than what the browser was shown.
    fn chosen(&self, key: &RecordKey, stored: Option<String>, mark: Option<String>) -> Result<Option<Newest>, Error> {
        let now = self.now();
        let mut known = self.kv.known.borrow_mut();
        // Meanwhile; and this isolate may know more than a mark says.
        if let Some(ended) = ended_here(&known, key) {
            return Ok(Some(ended));
        }
        if let Some(mark) = mark {
            // The retired record of a session that moved; anything else stands for a killed one.
            let retired = Record::from_text(&mark).ok().filter(|retired| retired.successor.is_some());
            known.end(key, retired.clone(), now);
            return Ok(Some(Newest::Ended(retired)));
        }
        let stored = stored.map(|text| Record::from_text(&text).map(Write::of)).transpose();
        // What it cannot read it does not write over, whatever the browser brought: it may be the next release's.
        let stored = stored?.map(|(write, record)| Rc::new(Written { write, record }));
        let is_known = |version, nonce| known.own(key, version, nonce, now).cloned();
        let brought = self.jar.as_ref().map(|jar| carried::brought(jar, key, now, &is_known)).unwrap_or_default();
        let head = known.believed(key, now).and_then(Head::whole);
        // Of what is the same write the one with the later note of use counts.
        let all = brought.iter().filter_map(Carried::whole).chain(head).chain(&stored);
        let newest = all.max_by_key(|written| (written.write.rank(), written.record.touched_at)).cloned();
        let due: Vec<_> = brought.iter().map(Carried::write).chain(known.large(key, now)).collect();
        let Some(written) = newest.filter(|newest| has_what_is_due(&newest.write, &due)) else {
            return Ok(due.is_empty().then_some(Newest::Nothing));
        };
        let is_in_kv = |write: &Write| stored.as_ref().is_some_and(|stored| stored.write.has(write));
        let rivals = brought.iter().map(Carried::write).chain(stored.iter().map(|stored| &stored.write));
        // A copy of the newest one may say that it is stored once more.
        let tells_more = |rival: &Write| rival.is(&written.write) && rival.again_at > written.write.again_at;
        let is_rival = |rival: &&Write| !known.has(key, &written.write, rival) || tells_more(rival);
        let beside: Vec<_> = rivals.filter(is_rival).cloned().collect();
        let settles_at =
            beside.iter().chain([&written.write]).map(|write| write.settles_at(is_in_kv(write), now)).max();
        let is_accepted = is_in_kv(&written.write) || known.has_accepted(key, &written.write);
        // What is to be stored once more may yet lose its place.
        let is_stored = is_accepted && written.write.again_at.is_none_or(|again_at| again_at <= now);
        let said = brought.iter().find(|carried| carried.write().is(&written.write)).map(|carried| carried.fate);
        let live = Live {
            is_in_kv: is_in_kv(&written.write),
            fate: if is_stored { Fate::Stored } else { said.unwrap_or(Fate::Sent) },
            settles_at: settles_at.unwrap_or_default(),
            beside,
            written,
        };
        known.meet(key, &live.written, live.is_in_kv, now);
        Ok(Some(Newest::Live(live)))
    }

    /// Notes what a request is made from, and gives the browser what it is shown.
    fn shows(&self, key: &RecordKey, live: Live, news: News) -> Result<(), Error> {
        let Live { written, beside, settles_at, is_in_kv, fate } = live;
        let base = Base { written: Rc::clone(&written), beside, settles_at, is_in_kv };
        let mut bases = self.bases.borrow_mut();
        match bases.iter_mut().find(|(its, _)| its == key) {
            Some((_, its)) => *its = base,
            None => bases.push((key.clone(), base)),
        }
        let now = self.now();
        self.kv.known.borrow_mut().hold(key, now);
        let Some(jar) = &self.jar else { return Ok(()) };
        carried::take_away_if(jar, key, &|nonce| self.kv.known.borrow().is_built_on(key, &written.write, nonce));
        carried::give(jar, &self.kv.platform, key, &written, fate, news, now)
    }

    /// The session has ended: its visitor's browser is given nothing of it any more.
    fn withdraw(&self, key: &RecordKey) {
        if let Some(jar) = &self.jar {
            carried::withdraw(jar, key);
        }
    }

    /// Stores a write, and behind the reply where the visitor need not wait. The write that it is made from is the one that
    /// this request has loaded.
    async fn write(&self, key: &RecordKey, record: &Record, asked: Asked) -> Result<Updated, Error> {
        let now = self.now();
        let entered = {
            let bases = self.bases.borrow();
            let base = bases.iter().find(|(its, _)| its == key).map(|(_, base)| base);
            // What KV did not show may have been stored late meanwhile.
            let settles_at = base.map_or(0, |base| match base.is_in_kv {
                true => base.settles_at,
                false => base.settles_at.max(base.written.write.settles_at(false, now)),
            });
            let beside = base.map(|base| &base.beside[..]).unwrap_or_default();
            self.kv.known.borrow_mut().enter(key, base.map(|base| &base.written.write), beside, record, settles_at, now)
        };
        let (written, number, before) = match entered {
            Entered::Made { written, number, before } => (written, number, before),
            Entered::Stale => return Ok(Updated::Stale(None)),
            Entered::Moving => return Ok(self.after_the_move(key).await),
            Entered::Gone => {
                self.withdraw(key);
                return Ok(Updated::Gone);
            }
        };
        let leaves_before = asked == Asked::AtTheEnd && self.may_leave_before(key, &written);
        let stored = if leaves_before {
            self.behind(key, number).await;
            // Where the platform has no behind, it is known by now what came of it.
            let has_given_up = self.kv.known.borrow().has_given_up(key, number);
            if has_given_up { Err(NotStored::unknown()) } else { Ok(()) }
        } else {
            self.kv.stored(key, number, None).await
        };
        // What it is built on, or an earlier put that was broken off, may yet take its place.
        let again_at = self.kv.known.borrow().again_at(key);
        if stored.is_ok() && !leaves_before && again_at.is_some() {
            self.behind(key, number).await;
        }
        match stored {
            Ok(()) => {}
            // It moved, and took this along.
            Err(NotStored::Ended(Some(version))) if version > record.version => return Ok(Updated::Done),
            Err(NotStored::Ended(_)) => {
                self.withdraw(key);
                return Ok(Updated::Gone);
            }
            Err(NotStored::GivenUp { error, is_unsure }) => {
                self.kv.known.borrow_mut().give_up(key, &written.write, before, is_unsure, self.now());
                return Err(error);
            }
        }
        let fate = if leaves_before || again_at.is_some() { Fate::Sent } else { Fate::Stored };
        let written = written.stored_again_at(again_at);
        self.shows(key, Live { written, is_in_kv: false, beside: Vec::new(), settles_at: 0, fate }, News::Unless)?;
        Ok(Updated::Done)
    }

    /// Waits until the session's id is changed, or is not after all: what comes of that decides what becomes of a write that came
    /// meanwhile, so that who asked for it loads the session again.
    async fn after_the_move(&self, key: &RecordKey) -> Updated {
        let mut waited = 0;
        while waited < LOOKS_FOR && self.kv.known.borrow().is_moving(key, self.now()) {
            self.kv.platform.sleep(MOVE_LOOKS_EVERY).await;
            waited = waited.saturating_add(u64::from(MOVE_LOOKS_EVERY));
        }
        Updated::Stale(None)
    }

    /// Has what a load found stored, where that is due and nobody looks after it.
    async fn stored_late(&self, key: &RecordKey, live: Live) -> (Live, News) {
        let now = self.now();
        if !self.jar.as_ref().is_some_and(|jar| jar.has_reply()) {
            return (live, News::Unless);
        }
        let found = &live.written.write;
        let care = self.kv.known.borrow().care(key, found, now);
        let is_due = match care {
            Care::Waits(number) => {
                self.behind(key, number).await;
                // What is looked after for so long was abandoned before, and may arrive late. Without a behind it is done by now.
                let known = self.kv.known.borrow();
                found.is_slow(now) && !known.has_accepted(key, found) && !known.has_given_up(key, number)
            }
            Care::Forgotten => found.may_be_stored_late(now),
            // KV has had its time.
            Care::NotDue => found.is_late(now) && live.fate == Fate::Sent && !live.is_in_kv,
        };
        if !is_due {
            return (live, News::Unless);
        }
        let written = Rc::clone(&live.written).stored_again_at(Some(now));
        let is_under_way = self.kv.known.borrow().is_busy(key, now);
        let number = self.kv.known.borrow_mut().store_late(key, &written, now);
        match number {
            Some(number) => self.behind(key, number).await,
            None if !is_under_way => return (live, News::Unless),
            None => {}
        }
        // The browser is told, for what is made from it meanwhile.
        (Live { written, is_in_kv: false, fate: Fate::Sent, ..live }, News::Changed)
    }

    /// Whether the reply may leave before its write is stored: the browser has all of it.
    fn may_leave_before(&self, key: &RecordKey, written: &Written) -> bool {
        let jar = self.jar.as_ref().filter(|jar| jar.has_reply());
        jar.is_some_and(|jar| carried::count(jar, key) <= MOST_CARRIED && carried::fits(jar, key, written))
            && self.kv.known.borrow().trust() == Trust::InKv
    }

    /// Has a write stored behind the reply, or now, where the platform has no behind. Of many requests within a second one does
    /// that for all: a task, its promise and its timers cost more than all else that a write takes.
    async fn behind(&self, key: &RecordKey, number: u64) {
        let now = self.now();
        let task = self.kv.known.borrow_mut().attend(key, number, now.saturating_add(BEHIND_FOR), now);
        if task.is_none() {
            return;
        }
        let (kv, of) = (Rc::clone(&self.kv), key.clone());
        let work = async move {
            aside().await;
            drop(kv.stored(&of, number, task).await);
        };
        let mut given_back = self.kv.platform.wait_until(Box::pin(work));
        // Where the platform has no behind, this request has to do it, and may be broken off: nobody relies on it, and it waits for
        // nothing that is to be stored once more.
        let is_taken = poll_fn(|context| Poll::Ready(given_back.as_mut().poll(context).is_ready())).await;
        if !is_taken {
            self.kv.known.borrow_mut().leave(key);
            given_back.await;
        }
    }

    /// Removes a record under a mark, which is only space: nobody waits for it, where the platform has a behind.
    async fn remove_behind(&self, key: &RecordKey) {
        let (kv, name) = (Rc::clone(&self.kv), session(key));
        let work = async move { drop(kv.namespace.delete(&name).await) };
        self.kv.platform.wait_until(Box::pin(work)).await;
    }

    /// Has a retired record's data, and the address that it was bound to, stored beside its mark, while the two writes that follow are
    /// made.
    async fn keep_behind(&self, key: &RecordKey, retired: &Record) {
        let is_kept = retired.data != NOTHING || retired.ip.is_some();
        let Some(successor) = retired.successor.as_ref().filter(|_| is_kept) else { return };
        let (kv, name, text, until) = (Rc::clone(&self.kv), kept(key), retired.to_text(), successor.until);
        let work = async move { drop(kv.put(&name, &text, until).await) };
        self.kv.platform.wait_until(Box::pin(work)).await;
    }

    /// Leaves the mark of a kill. 429 mostly means that it, or one that serves as well, is there: then a look is enough. It
    /// may as well be of a write that failed.
    async fn mark(&self, name: String, until: u64) -> Result<(), KvFailure> {
        let mut repetitions = 0..REPETITIONS;
        loop {
            match self.kv.namespace.put(&name, KILLED, until).await {
                Err(KvFailure::TooManyWrites) => {}
                settled => return settled,
            }
            if self.kv.namespace.get(std::slice::from_ref(&name)).await?.iter().any(Option::is_some) {
                return Ok(());
            }
            if repetitions.next().is_none() {
                return Err(KvFailure::TooManyWrites);
            }
            self.kv.wait_a_second().await;
        }
    }

    /// Until when a mark stays that stands for this record.
    fn end_of_mark(&self, record: Option<&Record>) -> u64 {
        let life = record.map_or(0, |record| record.expires_at.saturating_sub(record.touched_at));
        self.kv.platform.now().saturating_add(life.saturating_mul(2).max(LEAST_LIFE_OF_A_MARK))
    }

    /// Whether one of the keys that the record had before was killed. Those that it had too long ago for that are
    /// taken from its list.
    async fn was_killed_before(&self, record: &mut Record) -> Result<bool, Error> {
        let before = predecessors(&record.extensions)?;
        if before.is_empty() {
            return Ok(false);
        }
        let names: Vec<_> = before.iter().map(|(key, _)| killed(key)).collect();
        if self.kv.namespace.get(&names).await?.iter().any(Option::is_some) {
            return Ok(true);
        }
        let now = self.kv.platform.now();
        let young = |moved_at: u64| now < moved_at.saturating_add(PREDECESSORS_FOR);
        name(&mut record.extensions, before.into_iter().filter(|(_, moved_at)| young(*moved_at)))?;
        Ok(false)
    }
}

/// Lets whoever has begun this go on for once.
async fn aside() {
    let mut is_later = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_later, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Who asks for a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Nobody: the handler is done.
    AtTheEnd,
    ByTheHandler,
}

/// What this isolate knows of an end.
fn ended_here(known: &Known, key: &RecordKey) -> Option<Newest> {
    match known.head(key) {
        Some(Head::Ended(retired)) => Some(Newest::Ended(retired.clone())),
        _ => None,
    }
}

/// Whether a write is as new as what is due, the newest that the browser brought above all. Of two of these that were made at the
/// same time in two isolates one may be lost: it is enough to have either.
fn has_what_is_due(write: &Write, due: &[&Write]) -> bool {
    let Some(newest) = due.iter().map(|due| due.rank()).max() else { return true };
    let is_outrun = |one: &Write| due.iter().any(|other| !other.is(one) && other.may_have(one));
    write.rank() >= newest || due.iter().any(|due| write.has(due) && !is_outrun(due))
}

impl<N: KvNamespace + 'static, P: Platform + 'static> Store for Visit<N, P> {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let live = match self.newest(key).await? {
            Newest::Nothing => return Ok(None),
            Newest::Ended(retired) => {
                self.withdraw(key);
                return self.with_kept(key, retired).await;
            }
            Newest::Live(live) => live,
        };
        let mut record = live.written.record.clone();
        if self.was_killed_before(&mut record).await? {
            self.withdraw(key);
            return Ok(None);
        }
        let (live, news) = self.stored_late(key, live).await;
        self.shows(key, live, news)?;
        Ok(Some(record))
    }

    /// Overwrites a used key: KV cannot insert only. It does not look first either, for KV would
    /// remember that the key was missing and show the new session late.
    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        self.kv.known.borrow_mut().forget(key, self.now());
        self.write(key, record, Asked::ByTheHandler).await.map(drop)
    }

    /// Without a look at what is there, which would cost each save a read, and guard a moment only.
    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.write(key, record, Asked::ByTheHandler).await
    }

    async fn update_behind(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.write(key, record, Asked::AtTheEnd).await
    }

    /// Writes the whole record, since KV can do no less; so it looks first, and a newer version stays as it is.
    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let Newest::Live(Live { written, .. }) = self.newest(key).await? else { return Ok(Updated::Gone) };
        // One attempt: who writes now, or has written just now, to whom it gives way, notes a use as well.
        let now = self.now();
        if !written.record.is_same_write(record) || self.kv.known.borrow().is_busy(key, now) {
            return Ok(Updated::Stale(None));
        }
        let touched = Rc::new(Written { record: written.record.touched_by(record), write: written.write.clone() });
        let text = touched.write.noted_in(&touched.record).to_text();
        let expiration = self.kv.expiration(touched.record.expires_at);
        self.kv.known.borrow_mut().begin(key, now);
        let answer = self.kv.namespace.put(&session(key), &text, expiration).await;
        let mut known = self.kv.known.borrow_mut();
        known.answered(key, 0, answer.clone(), self.now());
        match answer {
            Err(KvFailure::TooManyWrites) => Ok(Updated::Stale(None)),
            Err(failure) => Err(failure.into()),
            Ok(()) => {
                known.touched(key, &touched, now);
                drop(known);
                if let Some(jar) = &self.jar {
                    carried::give(jar, &self.kv.platform, key, &touched, Fate::Stored, News::Changed, self.now())?;
                }
                Ok(Updated::Done)
            }
        }
    }

    /// The marks decide, and what follows them may fail: a record under a mark is not read, and expires. The mark of a
    /// session that moved stays, and says where it went.
    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        let [stored, mark] = self.pair([session(key), ended(key)]).await?;
        let now = self.now();
        let brought = self.jar.as_ref().map(|jar| carried::brought(jar, key, now, &|_, _| None)).unwrap_or_default();
        let (known, moved) = match self.kv.known.borrow().head(key) {
            Some(Head::Whole(written)) => (Some(Rc::clone(written)), None),
            Some(Head::Ended(retired)) => (None, retired.clone()),
            _ => (None, None),
        };
        let moved = mark.and_then(|mark| Record::from_text(&mark).ok()).or(moved);
        let stored = stored.and_then(|text| Record::from_text(&text).ok());
        let carried = brought.iter().filter_map(Carried::whole).chain(&known);
        let all = carried.map(|written| &written.record).chain(&moved).chain(&stored);
        let until = all.map(|record| self.end_of_mark(Some(record))).max().unwrap_or_else(|| self.end_of_mark(None));
        let successor = moved.and_then(|record| record.successor);
        // In this order, for one that is under the second mark alone would live, and die with its next change of id.
        if successor.is_none() {
            self.mark(ended(key), until).await?;
            self.kv.known.borrow_mut().end(key, None, self.now());
        }
        self.mark(killed(key), until).await?;
        self.remove_behind(key).await;
        if let Some(jar) = &self.jar {
            carried::take_away_if(jar, key, &|_| true);
        }
        Ok(successor)
    }

    /// The new record first, then the mark that retires the old one. A look before it, for a change of id is rare and
    /// must not carry a session past its logout.
    async fn change_id(
        &self,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        let until = match self.newest(from).await? {
            Newest::Nothing | Newest::Ended(None) => return Ok(Updated::Gone),
            Newest::Ended(Some(_)) => return Ok(Updated::Stale(None)),
            // KV may still show a version before the one that was loaded, but not a later one that is not there.
            Newest::Live(Live { written, .. }) if written.record.version >= retired.version => {
                return Ok(Updated::Stale(None));
            }
            // Another request has stored its own meanwhile.
            Newest::Live(Live { written, .. })
                if self
                    .bases
                    .borrow()
                    .iter()
                    .any(|(its, base)| its == from && !base.written.write.is(&written.write)) =>
            {
                return Ok(Updated::Stale(None));
            }
            Newest::Live(_) if self.kv.known.borrow().is_moving(from, self.now()) => {
                return Ok(self.after_the_move(from).await);
            }
            // What is retired may end earlier than a record that a late writer leaves.
            Newest::Live(Live { written, .. }) => {
                self.end_of_mark(Some(&written.record)).max(self.end_of_mark(Some(moved)))
            }
        };
        let mut before = predecessors(&moved.extensions)?;
        before.push((from.clone(), self.kv.platform.now()));
        if before.len() > MOST_PREDECESSORS {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "KV: more than 100 changes of one session's id in two minutes",
            ));
        }
        marks::name(&mut moved.extensions, before.into_iter())?;
        self.kv.known.borrow_mut().moves(from, Some(self.now()));
        let moving = Moving { known: &self.kv.known, key: from };
        let done = self.moved(from, retired, to, moved, until).await;
        drop(moving);
        done?;
        self.kv.known.borrow_mut().end(from, Some(retired.clone()), self.now());
        if let Some(jar) = &self.jar {
            carried::take_away_if(jar, from, &|_| true);
        }
        Ok(Updated::Done)
    }
}

impl<N: KvNamespace + 'static, P: Platform + 'static> Visit<N, P> {
    async fn moved(
        &self,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &Record,
        until: u64,
    ) -> Result<(), Error> {
        // Before the mark, for who finds that asks for it, and KV remembers where nothing was.
        self.keep_behind(from, retired).await;
        self.create(to, moved).await?;
        // It stays for long: an address does not, but that there was one.
        let mut mark = Record { data: NOTHING.to_owned(), ip: None, ..retired.clone() };
        if retired.ip.is_some() {
            mark.extensions.set(BOUND, "1")?;
        }
        self.kv.put(&ended(from), &mark.to_text(), until).await?;
        self.remove_behind(from).await;
        Ok(())
    }

    /// A retired record, with what is kept beside it for a moment.
    async fn with_kept(&self, key: &RecordKey, retired: Option<Record>) -> Result<Option<Record>, Error> {
        let Some(mut retired) = retired else { return Ok(None) };
        let now = self.kv.platform.now();
        if retired.data == NOTHING && retired.successor.as_ref().is_some_and(|successor| now < successor.until) {
            let [found, _] = self.pair([kept(key), ended(key)]).await?;
            // One of another sign-in may have come to nothing.
            let found = found.and_then(|text| Record::from_text(&text).ok());
            retired = found.filter(|found| found.is_same_write(&retired)).unwrap_or(retired);
            // Where that is not found, it is nobody's.
            if retired.ip.is_none() && retired.extensions.get(BOUND).is_some() {
                retired.ip = Some(String::new());
            }
        }
        Ok(Some(retired))
    }
}

/// While it lives, the session's id is being changed.
struct Moving<'a> {
    known: &'a RefCell<Known>,
    key: &'a RecordKey,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.known.borrow_mut().moves(self.key, None);
    }
}
