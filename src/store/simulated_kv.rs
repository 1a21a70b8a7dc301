//! Workers KV as it behaves in production, for tests.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::{KvFailure, KvNamespace, Platform};

/// Workers KV as it behaves in production, which no local run of it does: for tests of what stands on it.
///
/// - **Places.** A value that is written at one place is seen at another one later, after a delay without an upper bound, and
///   mostly at once where it was written ("not guaranteed": Cloudflare, "How KV works").
/// - **Caches.** Each place keeps what it read for `cacheTtl`, and that it read nothing, too.
/// - **Two back ends.** A write is accepted when one of them has it. The other one may lag behind for a while, and a read
///   may meet either.
/// - **The last write wins**, by its arrival.
/// - **One write a second** under a name: the next one is answered 429, a delete too.
/// - **Expiry**: at least 60 seconds ahead, or the write is answered 400.
/// - **Failures and slow calls**, on order. Who drops a write that is under way, because it took too long or its request is gone,
///   does not stop it: it arrives all the same.
///
/// The time is the platform's, and all delays are drawn with a seed, so that a run can be played again. A clone is another
/// handle on the same namespace.
///
/// ```
/// use edge_session::store::simulated_kv::SimulatedKv;
/// use edge_session::{KvNamespace, TestPlatform};
///
/// # pollster::block_on(async {
/// let platform = TestPlatform::at(1_764_000_000);
/// let kv = SimulatedKv::new(platform.clone(), 1);
/// let (here, elsewhere) = (kv.at(0), kv.at(1));
/// let names = ["name".to_owned()];
/// assert_eq!(elsewhere.get(&names).await?, [None]);
/// here.put("name", "value", 1_764_003_600).await?;
/// // A miss is remembered.
/// platform.advance(29);
/// assert_eq!(elsewhere.get(&names).await?, [None]);
/// // At last everybody sees it.
/// platform.advance(3_000);
/// assert_eq!(elsewhere.get(&names).await?, [Some("value".to_owned())]);
/// # Ok::<(), edge_session::KvFailure>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct SimulatedKv<P> {
    shared: Rc<Shared<P>>,
}

impl<P> Clone for SimulatedKv<P> {
    fn clone(&self) -> Self {
        Self { shared: Rc::clone(&self.shared) }
    }
}

/// One place's view of a [`SimulatedKv`], as a Worker's binding there has it.
#[derive(Debug)]
pub struct Place<P> {
    kv: SimulatedKv<P>,
    place: usize,
}

#[derive(Debug)]
struct Shared<P> {
    platform: P,
    random: Cell<u64>,
    /// All writes under each name, in the order of their arrival.
    writes: RefCell<BTreeMap<String, Vec<Write>>>,
    /// Those whose callers have gone before they arrived.
    abandoned: RefCell<Vec<Sent>>,
    /// What each place has read, by its number and the name.
    cached: RefCell<BTreeMap<(usize, String), Cached>>,
    orders: RefCell<Vec<Order>>,
    frozen: RefCell<BTreeSet<usize>>,
    /// How long a read and a write usually take, in milliseconds.
    usual: Cell<(u32, u32)>,
    /// How long a write usually takes to other places.
    travels: Cell<u64>,
    written: Cell<u32>,
    refused: Cell<u32>,
}

/// A write, or a delete.
#[derive(Clone, Debug)]
struct Write {
    text: Option<String>,
    /// In seconds since 1970 UTC.
    expiration: u64,
    /// In milliseconds since 1970 UTC, as are all times of this model.
    arrived: u64,
    place: usize,
    /// How long it takes to other places, and whether it is seen at its own at once.
    travels: u64,
    is_seen_at_home: bool,
    /// For how long one of the back ends does not have it, and which.
    lags: u64,
    laggard: usize,
    /// The places that were frozen when it arrived.
    hidden_at: BTreeSet<usize>,
}

/// A write that is on its way, or was when its caller went.
#[derive(Debug)]
struct Sent {
    arrives: u64,
    place: usize,
    name: String,
    text: Option<String>,
    expiration: u64,
}

#[derive(Debug)]
struct Cached {
    text: Option<String>,
    expiration: u64,
    read: u64,
}

/// What the next call that begins like this comes to.
#[derive(Debug)]
struct Order {
    call: String,
    outcome: Ordered,
}

/// What a call comes to, on order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// It fails and does nothing.
    Fails(KvFailure),
    /// It does its work, and its answer is lost.
    Loses(KvFailure),
    /// It takes so many milliseconds.
    Takes(u32),
    /// It is never sent, and has no answer.
    Hangs,
}

/// For how many milliseconds a place keeps what it read: the least that KV takes for `cacheTtl`.
pub const CACHE_TTL: u64 = 30_000;

/// Between two writes under one name there is at least this time, in milliseconds.
const ONE_SECOND: u64 = 1_000;

impl<P: Platform> SimulatedKv<P> {
    /// An empty namespace. With the same seed and the same calls it behaves in the same way.
    pub fn new(platform: P, seed: u64) -> Self {
        Self {
            shared: Rc::new(Shared {
                platform,
                random: Cell::new(seed),
                writes: RefCell::default(),
                abandoned: RefCell::default(),
                cached: RefCell::default(),
                orders: RefCell::default(),
                frozen: RefCell::default(),
                usual: Cell::default(),
                travels: Cell::new(5_000),
                written: Cell::default(),
                refused: Cell::default(),
            }),
        }
    }

    /// The namespace as it is seen at a place, of which there are as many as you like.
    #[must_use]
    pub fn at(&self, place: usize) -> Place<P> {
        Place { kv: self.clone(), place }
    }

    /// From now on each read takes about so many milliseconds, and each write: up to twice as many, drawn with the seed. At
    /// first they take none.
    pub fn take(&self, read: u32, write: u32) {
        self.shared.usual.set((read, write));
    }

    /// From now on a write usually takes so many milliseconds to other places: 5 seconds at first.
    pub fn travel(&self, milliseconds: u64) {
        self.shared.travels.set(milliseconds);
    }

    /// How many writes and deletes were accepted.
    #[must_use]
    pub fn written(&self) -> u32 {
        self.receive();
        self.shared.written.get()
    }

    /// How many were answered 429.
    #[must_use]
    pub fn refused(&self) -> u32 {
        self.shared.refused.get()
    }

    /// What becomes of the next call that begins like this, as `put session:`.
    pub fn order(&self, call: &str, outcome: Ordered) {
        self.shared.orders.borrow_mut().push(Order { call: call.to_owned(), outcome });
    }

    /// What was [ordered](Self::order) and is still to come does not happen.
    pub fn forget_orders(&self) {
        self.shared.orders.borrow_mut().clear();
    }

    /// From now on this place sees no write that KV accepts, not even its own, until KV [comes to rest](Self::come_to_rest). Those that
    /// were accepted before still come to be seen there, and those that are not seen count for the one write a second all the same.
    pub fn freeze(&self, place: usize) {
        self.shared.frozen.borrow_mut().insert(place);
    }

    /// Every write so far has arrived everywhere, as at last it does, and no place remembers anything or is frozen.
    pub fn come_to_rest(&self) {
        self.receive();
        self.shared.frozen.borrow_mut().clear();
        self.shared.cached.borrow_mut().clear();
        for write in self.shared.writes.borrow_mut().values_mut().flatten() {
            (write.travels, write.lags) = (0, 0);
            write.hidden_at.clear();
        }
    }

    /// What is there once every write has arrived everywhere.
    #[must_use]
    pub fn at_last(&self, name: &str) -> Option<String> {
        self.receive();
        let writes = self.shared.writes.borrow();
        let last = writes.get(name)?.last()?;
        (last.expiration > self.shared.platform.now()).then(|| last.text.clone())?
    }

    fn ordered(&self, call: &str) -> Option<Ordered> {
        let mut orders = self.shared.orders.borrow_mut();
        let place = orders.iter().position(|order| call.starts_with(&order.call))?;
        Some(orders.remove(place).outcome)
    }

    /// splitmix64: a well-mixed number after each number.
    fn draw(&self) -> u64 {
        let next = self.shared.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.shared.random.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Whether it is one of `of`.
    fn one_in(&self, of: u64) -> bool {
        self.draw().is_multiple_of(of)
    }

    /// A delay in milliseconds. Half of them are below `usual`, one in a hundred is above ten times that, and there is no
    /// upper bound: each further doubling is half as likely.
    fn delay(&self, usual: u64) -> u64 {
        let mut longest = usual;
        while longest < u64::from(u32::MAX) && self.one_in(2) {
            longest = longest.saturating_mul(2);
        }
        self.draw().checked_rem(longest).unwrap_or_default()
    }

    /// `sent`: for a write, which arrives by `effect`, and although its caller has gone meanwhile.
    async fn call<R>(
        &self,
        call: &str,
        sent: Option<Sent>,
        effect: impl FnOnce(Option<Sent>) -> Result<R, KvFailure>,
    ) -> Result<R, KvFailure> {
        let order = self.ordered(call);
        let (read, write) = self.shared.usual.get();
        let usual = if call.starts_with("get ") { read } else { write };
        let milliseconds = match order {
            Some(Ordered::Hangs) => return std::future::pending().await,
            Some(Ordered::Takes(milliseconds)) => milliseconds,
            _ => {
                let longest = u64::from(usual).saturating_mul(2).saturating_add(1);
                u32::try_from(self.draw().checked_rem(longest).unwrap_or_default()).unwrap_or(usual)
            }
        };
        // Half the way there, and half the way back.
        let arrives = self.shared.platform.milliseconds().saturating_add(u64::from(milliseconds / 2));
        let sent = sent.filter(|_| !matches!(order, Some(Ordered::Fails(_)))).map(|sent| Sent { arrives, ..sent });
        let mut under_way = UnderWay { kv: self, sent };
        self.pause(milliseconds / 2).await;
        let sent = under_way.sent.take();
        let done = match order {
            Some(Ordered::Fails(failure)) => Err(failure),
            Some(Ordered::Loses(failure)) => effect(sent).and(Err(failure)),
            Some(Ordered::Takes(_) | Ordered::Hangs) | None => effect(sent),
        };
        self.pause(milliseconds / 2).await;
        done
    }

    async fn pause(&self, milliseconds: u32) {
        if milliseconds > 0 {
            self.shared.platform.sleep(milliseconds).await;
        }
    }

    /// What was on its way when its caller went arrives, if it is time.
    fn receive(&self) {
        let now = self.shared.platform.milliseconds();
        let mut abandoned = self.shared.abandoned.borrow_mut();
        let (mut arrived, left): (Vec<_>, _) = abandoned.drain(..).partition(|sent| sent.arrives <= now);
        *abandoned = left;
        drop(abandoned);
        arrived.sort_by_key(|sent| sent.arrives);
        for sent in arrived {
            // Nobody is told that it is refused.
            drop(self.write(sent));
        }
    }

    fn read(&self, place: usize, name: &str) -> Option<String> {
        self.receive();
        let now = self.shared.platform.milliseconds();
        let mut cached = self.shared.cached.borrow_mut();
        let known = cached.get(&(place, name.to_owned())).filter(|known| now < known.read.saturating_add(CACHE_TTL));
        if known.is_none() {
            let back_end = usize::from(self.one_in(2));
            let writes = self.shared.writes.borrow();
            let all = writes.get(name).map_or(&[][..], Vec::as_slice);
            let seen = all.iter().rev().find(|write| write.is_seen(place, back_end, now));
            let read = Cached {
                text: seen.and_then(|write| write.text.clone()),
                expiration: seen.map_or(u64::MAX, |write| write.expiration),
                read: now,
            };
            cached.insert((place, name.to_owned()), read);
        }
        let known = cached.get(&(place, name.to_owned()))?;
        (known.expiration > self.shared.platform.now()).then(|| known.text.clone())?
    }

    fn write(&self, sent: Sent) -> Result<(), KvFailure> {
        let Sent { arrives: now, place, name, text, expiration } = sent;
        let write = Write {
            text,
            expiration,
            arrived: now,
            place,
            travels: self.delay(self.shared.travels.get()),
            is_seen_at_home: !self.one_in(20),
            lags: if self.one_in(10) { self.delay(60_000) } else { 0 },
            laggard: usize::from(self.one_in(2)),
            hidden_at: self.shared.frozen.borrow().clone(),
        };
        let mut all = self.shared.writes.borrow_mut();
        let writes = all.entry(name.clone()).or_default();
        if writes.last().is_some_and(|last| now < last.arrived.saturating_add(ONE_SECOND)) {
            self.shared.refused.set(self.shared.refused.get().saturating_add(1));
            return Err(KvFailure::TooManyWrites);
        }
        if write.is_seen_at_home && !write.hidden_at.contains(&place) {
            self.shared.cached.borrow_mut().remove(&(place, name));
        }
        writes.push(write);
        self.shared.written.set(self.shared.written.get().saturating_add(1));
        Ok(())
    }
}

impl Write {
    /// Whether a read at `place` that meets this back end finds it.
    fn is_seen(&self, place: usize, back_end: usize, now: u64) -> bool {
        let is_home = place == self.place && self.is_seen_at_home;
        let travels = if is_home { 0 } else { self.travels };
        let lags = if back_end == self.laggard && !is_home { self.lags } else { 0 };
        now >= self.arrived.saturating_add(travels.max(lags)) && !self.hidden_at.contains(&place)
    }
}

impl<P: Platform> KvNamespace for Place<P> {
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure> {
        if names.len() > 100 {
            return Err(KvFailure::Other("GET_BULK failed: 400 You can request a maximum of 100 keys".to_owned()));
        }
        let call = format!("get {}", names.join(" "));
        self.kv.call(&call, None, |_| Ok(names.iter().map(|name| self.kv.read(self.place, name)).collect())).await
    }

    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure> {
        if expiration < self.kv.shared.platform.now().saturating_add(60) {
            return Err(KvFailure::Other(format!("PUT failed: 400 Invalid expiration of {expiration}")));
        }
        self.send("put", name, Some(value), expiration).await
    }

    async fn delete(&self, name: &str) -> Result<(), KvFailure> {
        self.send("delete", name, None, u64::MAX).await
    }
}

impl<P: Platform> Place<P> {
    async fn send(&self, call: &str, name: &str, text: Option<&str>, expiration: u64) -> Result<(), KvFailure> {
        let (name, text) = (name.to_owned(), text.map(str::to_owned));
        let call = format!("{call} {name}");
        let sent = Sent { arrives: 0, place: self.place, name, text, expiration };
        let arrive = |sent: Option<Sent>| {
            self.kv.receive();
            let arrives = self.kv.shared.platform.milliseconds();
            sent.map_or(Ok(()), |sent| self.kv.write(Sent { arrives, ..sent }))
        };
        self.kv.call(&call, Some(sent), arrive).await
    }
}

/// A call that may be dropped.
struct UnderWay<'a, P: Platform> {
    kv: &'a SimulatedKv<P>,
    sent: Option<Sent>,
}

impl<P: Platform> Drop for UnderWay<'_, P> {
    fn drop(&mut self) {
        self.kv.shared.abandoned.borrow_mut().extend(self.sent.take());
    }
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;
    use crate::TestPlatform;

    const NOW: u64 = 1_764_000_000;

    fn kv(seed: u64) -> (TestPlatform, SimulatedKv<TestPlatform>) {
        let platform = TestPlatform::at(NOW);
        (platform.clone(), SimulatedKv::new(platform, seed))
    }

    fn get(place: &Place<TestPlatform>) -> Option<String> {
        block_on(place.get(&["name".to_owned()])).unwrap().remove(0)
    }

    fn put(place: &Place<TestPlatform>, value: &str) -> Result<(), KvFailure> {
        block_on(place.put("name", value, NOW + 1_000_000))
    }

    /// A platform whose pauses do not end.
    struct Hangs(TestPlatform);

    impl Platform for Hangs {
        fn now(&self) -> u64 {
            self.0.now()
        }

        fn fill_random(&self, bytes: &mut [u8]) -> Result<(), crate::Error> {
            self.0.fill_random(bytes)
        }

        fn sleep(&self, _milliseconds: u32) -> crate::platform::Sleep {
            Box::pin(std::future::pending())
        }

        fn log(&self, line: std::fmt::Arguments<'_>) {
            self.0.log(line);
        }
    }

    /// In how many of a thousand runs.
    fn how_often(run: impl Fn(TestPlatform, SimulatedKv<TestPlatform>) -> bool) -> usize {
        (0..1000)
            .filter(|seed| {
                let (platform, kv) = kv(*seed);
                run(platform, kv)
            })
            .count()
    }

    #[test]
    fn a_write_is_mostly_seen_at_once_where_it_was_made_and_later_elsewhere() {
        let seen_after = |place, seconds| {
            how_often(|platform, kv| {
                put(&kv.at(0), "value").unwrap();
                platform.advance(seconds);
                get(&kv.at(place)).is_some()
            })
        };
        assert!((900..1000).contains(&seen_after(0, 0)), "{}", seen_after(0, 0));
        assert!(seen_after(1, 0) < 10, "{}", seen_after(1, 0));
        assert!((300..900).contains(&seen_after(1, 5)), "{}", seen_after(1, 5));
        assert!((900..1000).contains(&seen_after(1, 60)), "{}", seen_after(1, 60));
        assert_eq!(seen_after(1, 10_000_000), 0, "expired");
    }

    #[test]
    fn a_place_keeps_what_it_read_and_that_it_read_nothing() {
        let (platform, kv) = kv(0);
        let (here, elsewhere) = (kv.at(0), kv.at(1));
        assert_eq!(get(&elsewhere), None);
        put(&here, "one").unwrap();
        platform.advance(29);
        assert_eq!(get(&elsewhere), None, "as it read");
        platform.advance(3000);
        assert_eq!(get(&elsewhere).as_deref(), Some("one"));
        put(&here, "two").unwrap();
        platform.advance(29);
        assert_eq!(get(&elsewhere).as_deref(), Some("one"));
        platform.advance(3000);
        assert_eq!(get(&elsewhere).as_deref(), Some("two"));
    }

    #[test]
    fn a_place_that_is_frozen_sees_not_even_its_own_writes_until_all_is_at_rest() {
        let (platform, kv) = kv(0);
        let here = kv.at(0);
        put(&here, "one").unwrap();
        platform.advance(3000);
        kv.freeze(0);
        put(&here, "two").unwrap();
        platform.advance(3000);
        assert_eq!(get(&here).as_deref(), Some("one"));
        assert_eq!(get(&kv.at(1)).as_deref(), Some("two"), "as ever");
        kv.come_to_rest();
        assert_eq!(get(&here).as_deref(), Some("two"));
        platform.advance(1);
        put(&here, "three").unwrap();
        platform.advance(3000);
        assert_eq!(get(&here).as_deref(), Some("three"), "and from now on");
    }

    #[test]
    fn what_was_read_may_be_read_no_more_for_one_back_end_lags() {
        let goes_back = how_often(|platform, kv| {
            put(&kv.at(0), "one").unwrap();
            platform.advance(10_000);
            put(&kv.at(0), "two").unwrap();
            (0..20).any(|_| {
                let before = get(&kv.at(1));
                platform.advance(31);
                before.as_deref() == Some("two") && get(&kv.at(1)).as_deref() == Some("one")
            })
        });
        assert!((1..100).contains(&goes_back), "{goes_back}");
    }

    #[test]
    fn the_last_write_wins_by_its_arrival_and_a_delete_is_one() {
        let (platform, kv) = kv(3);
        put(&kv.at(0), "one").unwrap();
        platform.advance(1);
        put(&kv.at(1), "two").unwrap();
        assert_eq!(kv.at_last("name").as_deref(), Some("two"));
        platform.advance(1);
        block_on(kv.at(2).delete("name")).unwrap();
        assert_eq!(kv.at_last("name"), None);
        platform.advance(3000);
        assert_eq!(get(&kv.at(0)), None);
    }

    #[test]
    fn a_name_takes_one_write_a_second_and_deletes_count() {
        let (platform, kv) = kv(0);
        put(&kv.at(0), "one").unwrap();
        assert_eq!(put(&kv.at(1), "two"), Err(KvFailure::TooManyWrites));
        assert_eq!(block_on(kv.at(0).delete("name")), Err(KvFailure::TooManyWrites));
        platform.advance(1);
        put(&kv.at(1), "two").unwrap();
        block_on(kv.at(0).put("another name", "one", NOW + 100)).unwrap();
    }

    #[test]
    fn an_expiration_is_a_minute_ahead_at_least_and_is_kept_although_it_is_cached() {
        let (platform, kv) = kv(0);
        let soon = block_on(kv.at(0).put("name", "one", NOW + 59));
        assert!(matches!(&soon, Err(KvFailure::Other(message)) if message.contains("400")), "{soon:?}");
        block_on(kv.at(0).put("name", "one", NOW + 60)).unwrap();
        platform.advance(59);
        assert_eq!(get(&kv.at(0)).as_deref(), Some("one"));
        platform.advance(1);
        assert_eq!(get(&kv.at(0)), None);
    }

    #[test]
    fn calls_fail_and_are_slow_on_order() {
        let (platform, kv) = kv(0);
        let here = kv.at(0);
        let failure = KvFailure::Other("PUT failed: 500".to_owned());
        kv.order("put name", Ordered::Fails(failure.clone()));
        assert_eq!(put(&here, "one"), Err(failure.clone()));
        assert_eq!(kv.at_last("name"), None);
        kv.order("put", Ordered::Loses(failure.clone()));
        assert_eq!(put(&here, "one"), Err(failure));
        assert_eq!(kv.at_last("name").as_deref(), Some("one"));
        kv.order("get", Ordered::Takes(150));
        assert_eq!(get(&here).as_deref(), Some("one"));
        assert_eq!(platform.slept(), [75, 75]);
    }

    #[test]
    fn a_write_that_its_caller_gives_up_arrives_all_the_same() {
        let platform = TestPlatform::at(NOW);
        let kv = SimulatedKv::new(Hangs(platform.clone()), 0);
        let here = kv.at(0);
        kv.order("put", Ordered::Takes(20_000));
        {
            let mut put = std::pin::pin!(here.put("name", "one", NOW + 1_000_000));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(put.as_mut().poll(&mut context).is_pending());
        }
        platform.advance(9);
        assert_eq!(kv.at_last("name"), None);
        platform.advance(1);
        assert_eq!(kv.at_last("name").as_deref(), Some("one"));
    }

    #[test]
    fn a_seed_plays_the_same_run_again() {
        let run = |seed| {
            let (platform, kv) = kv(seed);
            let step = |number: usize| {
                platform.advance(3);
                drop(put(&kv.at(number % 3), &number.to_string()));
                get(&kv.at(number % 2))
            };
            (0..100).map(step).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }
}
