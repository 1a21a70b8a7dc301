//! Many requests on the sessions of two users at once, in random orders: calls are lost before and after their effect, or are made
//! twice, of which one arrives late; requests are broken off, clocks differ, and an earlier release changes ids beside this one.
//! `USERS_SEEDS` says how many runs; a failure prints its run, step by step.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::unreachable, reason = "a test may fail")]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use pollster::block_on;

use super::*;
use crate::MemoryStore;
use crate::store::repeat::Answered;

/// What may happen in a run.
#[derive(Clone, Copy, Debug)]
struct Weather {
    losses: bool,
    aborts: bool,
    /// A message to a list that is sent twice may take effect a second time, later. What makes a session is sent once, and may take
    /// effect when it has been given up.
    late_messages: bool,
    /// Seconds between the clocks.
    skew: i64,
    /// Requests of an earlier release change ids.
    earlier: bool,
    /// Whether anything ends sessions at all.
    ends: bool,
    /// How many sessions a user may have, or 0.
    most: u64,
}

/// When a key's session was signed in last: by what is true, and by what the request said.
#[derive(Clone, Debug)]
struct Begun {
    step: u64,
    told_step: Option<u64>,
    began_at: u64,
    handle: SessionHandle,
    user: UserKey,
}

/// Somebody was told that these sessions have ended.
struct Told {
    what: String,
    user: UserKey,
    handle: Option<SessionHandle>,
    spared: Option<SessionHandle>,
    /// When it was asked, and by the clock of who asked.
    step: u64,
    now: u64,
}

struct World {
    sessions: MemoryStore,
    lists: RefCell<BTreeMap<UserKey, String>>,
    now: Cell<u64>,
    random: Cell<u64>,
    step: Cell<u64>,
    weather: Weather,
    late: RefCell<Vec<(u64, Call)>>,
    story: RefCell<Vec<String>>,
    quiet: Cell<bool>,
    begun: RefCell<BTreeMap<RecordKey, Begun>>,
    told: RefCell<BTreeSet<RecordKey>>,
    ends: RefCell<Vec<Told>>,
    browsers: RefCell<Vec<Option<RecordKey>>>,
    names: Cell<u64>,
}

#[derive(Clone, Debug)]
enum Call {
    Load(RecordKey),
    Create(RecordKey, Record),
    Update(RecordKey, Record),
    Delete(RecordKey),
    Ask(UserKey, String, String),
}

enum Got {
    Loaded(Option<Record>),
    Created(Result<(), Error>),
    Updated(Updated),
    Deleted(Deleted),
    Answer(String),
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        Self {
            sessions: MemoryStore::default(),
            lists: RefCell::default(),
            now: Cell::new(1_764_000_000_000),
            random: Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            step: Cell::new(0),
            weather,
            late: RefCell::default(),
            story: RefCell::default(),
            quiet: Cell::new(false),
            begun: RefCell::default(),
            told: RefCell::default(),
            ends: RefCell::default(),
            browsers: RefCell::new(vec![None; 4]),
            names: Cell::new(0),
        }
    }
    fn draw(&self, of: u64) -> u64 {
        let mut x = self.random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % of
    }
    fn one_in(&self, of: u64) -> bool {
        !self.quiet.get() && self.draw(of) == 0
    }
    fn say(&self, line: String) {
        self.story.borrow_mut().push(format!("{:4} {:7} {line}", self.step.get(), self.now.get() - 1_764_000_000_000));
    }
    fn name(&self) -> u64 {
        self.names.set(self.names.get() + 1);
        self.names.get()
    }
    fn key(&self) -> RecordKey {
        RecordKey::from_stored(&format!("{:04x}{}", self.name(), "0".repeat(60))).unwrap()
    }
    fn handle(&self) -> SessionHandle {
        SessionHandle::from_text(&format!("{:04x}{}", self.name(), "f".repeat(12))).unwrap()
    }
    fn effect(&self, call: &Call) -> Got {
        let got = match call {
            Call::Load(key) => Got::Loaded(block_on(self.sessions.load(key)).unwrap()),
            Call::Create(key, record) => Got::Created(block_on(self.sessions.create(key, record))),
            Call::Update(key, record) => Got::Updated(block_on(self.sessions.update(key, record)).unwrap()),
            Call::Delete(key) => {
                let was_there =
                    block_on(self.sessions.load(key)).unwrap().is_some_and(|record| record.successor.is_none());
                Got::Deleted(Deleted { was_there, successor: block_on(self.sessions.delete(key)).unwrap() })
            }
            Call::Ask(user, act, words) => {
                let mut lists = self.lists.borrow_mut();
                let answer = answer(lists.get(user).map(String::as_str), user, act, words, self.now.get());
                if let Some(keeps) = answer.keeps {
                    lists.insert(user.clone(), keeps);
                }
                Got::Answer(answer.text)
            }
        };
        self.say(format!("  {} -> {}", short(call), shown(&got)));
        got
    }
}

/// Keys and handles by their first digits.
fn brief(words: &str) -> String {
    let brief = |word: &'_ str| word.get(..4).filter(|_| word.len() > 14).unwrap_or(word).to_owned();
    words.split(' ').map(brief).collect::<Vec<_>>().join(" ")
}

fn short(call: &Call) -> String {
    let k = |key: &RecordKey| key.as_str()[..4].to_owned();
    match call {
        Call::Load(key) => format!("load {}", k(key)),
        Call::Create(key, _) => format!("create {}", k(key)),
        Call::Update(key, record) => {
            format!("update {} to {:?}", k(key), record.successor.as_ref().map(|next| k(&next.key)))
        }
        Call::Delete(key) => format!("delete {}", k(key)),
        Call::Ask(user, act, words) => {
            format!("{} {act} {}", &user.as_str()[..2], brief(words))
        }
    }
}

fn shown(got: &Got) -> String {
    match got {
        Got::Loaded(record) => match record {
            None => "none".to_owned(),
            Some(record) => match &record.successor {
                None => "alive".to_owned(),
                Some(next) => format!("moved to {}", &next.key.as_str()[..4]),
            },
        },
        Got::Created(done) => format!("{:?}", done.is_ok()),
        Got::Updated(Updated::Done) => "done".to_owned(),
        Got::Updated(Updated::Gone) => "gone".to_owned(),
        Got::Updated(Updated::Stale(_)) => "stale".to_owned(),
        Got::Deleted(deleted) => {
            format!("{} {:?}", deleted.was_there, deleted.successor.as_ref().map(|next| &next.key.as_str()[..4]))
        }
        Got::Answer(text) => text.split('\n').map(brief).collect::<Vec<_>>().join(" | "),
    }
}

/// The objects as one request reaches them, with its own clock.
#[derive(Clone)]
struct View {
    world: Rc<World>,
    skew: i64,
    number: u64,
}

/// A call that nobody waits for any more may arrive all the same, some time later.
struct Sent<'a> {
    view: &'a View,
    call: Option<Call>,
}

impl Drop for Sent<'_> {
    fn drop(&mut self) {
        let world = &self.view.world;
        if let Some(call) = self.call.take()
            && (world.weather.aborts || world.weather.losses)
            && world.draw(2) == 0
        {
            let due = world.step.get() + world.draw(150);
            world.late.borrow_mut().push((due, call));
        }
    }
}

impl View {
    /// Some polls, and then it goes on.
    async fn pause(&self) {
        poll_fn(|_| if self.world.quiet.get() || self.world.draw(2) == 0 { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }

    /// The call's answer, and whether it was made twice.
    async fn call(&self, call: Call) -> Result<Answered<Got>, Error> {
        let world = &self.world;
        let lost = || Error::new(ErrorKind::Unavailable, "lost");
        let mut sent = Sent { view: self, call: Some(call.clone()) };
        self.pause().await;
        if world.weather.losses && world.one_in(40) {
            world.say(format!("#{} loses {}", self.number, short(&call)));
            return Err(lost());
        }
        sent.call = None;
        let mut repeated = false;
        let may_be_late = world.weather.late_messages && matches!(call, Call::Ask(..) | Call::Create(..));
        if may_be_late && world.one_in(12) {
            // Its first message is under way for long.
            let is_create = matches!(call, Call::Create(..));
            if is_create && world.draw(2) == 0 {
                drop(world.effect(&call));
                self.pause().await;
            } else {
                let due = world.step.get() + world.draw(150);
                world.late.borrow_mut().push((due, call.clone()));
            }
            if is_create {
                world.say(format!("#{} gives up {}", self.number, short(&call)));
                return Err(lost().passing());
            }
            repeated = true;
        } else if world.weather.losses && !matches!(call, Call::Create(..)) && world.one_in(15) {
            drop(world.effect(&call));
            self.pause().await;
            repeated = true;
        }
        world.say(format!("#{}", self.number));
        let got = world.effect(&call);
        self.pause().await;
        if world.weather.losses && world.one_in(40) {
            world.say(format!("#{} loses the answer to {}", self.number, short(&call)));
            return Err(lost());
        }
        Ok(Answered { answer: got, repeated })
    }
}

impl Store for View {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        match self.call(Call::Load(key.clone())).await?.answer {
            Got::Loaded(record) => Ok(record),
            _ => unreachable!(),
        }
    }
    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        match self.call(Call::Create(key.clone(), record.clone())).await?.answer {
            Got::Created(created) => created,
            _ => unreachable!(),
        }
    }
    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        match self.call(Call::Update(key.clone(), record.clone())).await? {
            Answered { answer: Got::Updated(answer), repeated } => Answered { answer, repeated }.sure(),
            _ => unreachable!(),
        }
    }
    async fn touch(&self, _: &RecordKey, _: &Record) -> Result<Updated, Error> {
        Ok(Updated::Gone)
    }
    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        Ok(self.deleted(key).await?.successor)
    }
}

impl Objects for View {
    async fn ask_user(&self, user: &UserKey, act: &str, words: &str) -> Result<String, Error> {
        match self.call(Call::Ask(user.clone(), act.to_owned(), words.to_owned())).await?.answer {
            Got::Answer(text) => Ok(text),
            _ => unreachable!(),
        }
    }
    async fn deleted(&self, key: &RecordKey) -> Result<Deleted, Error> {
        match self.call(Call::Delete(key.clone())).await?.answer {
            Got::Deleted(deleted) => Ok(deleted),
            _ => unreachable!(),
        }
    }
    fn milliseconds(&self) -> u64 {
        self.world.now.get().saturating_add_signed(self.skew * 1000)
    }
}

impl View {
    fn signed_in(&self, user: &str, handle: SessionHandle) -> Record {
        let now = self.milliseconds() / 1000;
        let sign_in = SignIn { user: user.to_owned(), at: now, lifetime: None, handle };
        let mut record = Record { nonce: self.world.name() as u32, ..Record::new(now, now + 1_000_000, "{}") };
        sign_in.note_in(&mut record.extensions).unwrap();
        record
    }
    fn retired(&self, record: &Record, to: &RecordKey) -> Record {
        Record {
            version: record.version + 1,
            nonce: self.world.name() as u32,
            successor: Some(Successor { key: to.clone(), until: 0 }),
            extensions: crate::Extensions::default(),
            ..record.clone()
        }
    }
    /// The visitor is told.
    fn tell(&self, browser: usize, key: &RecordKey) {
        self.world.say(format!("#{} tells {}", self.number, &key.as_str()[..4]));
        self.world.told.borrow_mut().insert(key.clone());
        if let Some(begun) = self.world.begun.borrow_mut().get_mut(key) {
            begun.told_step = begun.told_step.or(Some(self.world.step.get()));
        }
        self.world.browsers.borrow_mut()[browser] = Some(key.clone());
    }

    async fn sign_in(&self, browser: usize, user: &str) -> Result<(), Error> {
        let world = &self.world;
        let (step, began_at) = (world.step.get(), self.milliseconds());
        let old = world.browsers.borrow()[browser].clone();
        let mut before = None;
        if let Some(old) = old
            && let Some(record) = self.load(&old).await?
        {
            if record.successor.is_some() {
                return Ok(());
            }
            before = Some((old, record));
        }
        // The password.
        self.pause().await;
        self.pause().await;
        let is_theirs =
            before.as_ref().is_some_and(|(_, record)| UserKey::of_record(record) == Some(UserKey::of(user)));
        let handle = match &before {
            Some((_, record)) if is_theirs => SessionHandle::of_record(record).unwrap(),
            _ => world.handle(),
        };
        let claim = Claim::new(UserKey::of(user), handle.clone(), began_at);
        let begun = Begun { step, told_step: None, began_at, handle: handle.clone(), user: UserKey::of(user) };
        let write = async |key: &RecordKey, lost: &[RecordKey]| {
            let claim = Claim { lost: lost.to_vec(), ..claim.clone() };
            let record = self.signed_in(user, handle.clone());
            match &before {
                None => create_for(self, &claim, key, &record).await,
                Some((old, there)) => {
                    let record = Record { version: 1, ..record };
                    change_id_for(self, &claim, old, &self.retired(there, key), key, &record).await
                }
            }
        };
        let (updated, key) = self.under_a_new_key(&begun, write).await?;
        if updated == Updated::Done {
            if self.world.weather.most > 0 {
                drop(end_oldest(self, &claim, self.world.weather.most, self.milliseconds()).await);
            }
            self.tell(browser, &key);
        }
        Ok(())
    }

    /// As the session layer does: what has no answer is made again under another key, and what the first attempt may have left is
    /// deleted before.
    async fn under_a_new_key(
        &self,
        begun: &Begun,
        write: impl AsyncFn(&RecordKey, &[RecordKey]) -> Result<Updated, Error>,
    ) -> Result<(Updated, RecordKey), Error> {
        let mut lost = Vec::new();
        loop {
            let key = self.world.key();
            self.world.begun.borrow_mut().insert(key.clone(), begun.clone());
            match write(&key, &lost).await {
                Err(error) if error.passes() && lost.len() < 2 => self.pause().await,
                made => return Ok((made?, key)),
            }
            self.delete(&key).await?;
            lost.push(key);
        }
    }

    async fn cycle(&self, browser: usize, is_earlier: bool) -> Result<(), Error> {
        let world = &self.world;
        let Some(old) = world.browsers.borrow()[browser].clone() else { return Ok(()) };
        let Some(record) = self.load(&old).await? else { return Ok(()) };
        if record.successor.is_some() {
            return Ok(());
        }
        let begun = world.begun.borrow().get(&old).cloned().unwrap();
        let write = async |key: &RecordKey, _: &[RecordKey]| {
            let moved = Record { version: 1, nonce: world.name() as u32, ..record.clone() };
            let retired = self.retired(&record, key);
            if is_earlier {
                move_record(self, &old, &retired, key, &moved).await
            } else {
                change_id(self, &old, &retired, key, &moved).await
            }
        };
        let (updated, key) = self.under_a_new_key(&begun, write).await?;
        if updated == Updated::Done {
            self.tell(browser, &key);
        }
        Ok(())
    }

    async fn sign_out(&self, browser: usize) -> Result<(), Error> {
        let mut next = self.world.browsers.borrow()[browser].clone();
        while let Some(key) = next {
            next = self.delete(&key).await?.map(|next| next.key);
        }
        Ok(())
    }

    async fn end(&self, user: &str) -> Result<(), Error> {
        let user = UserKey::of(user);
        let listed = list(self, &user).await?;
        if listed.is_empty() {
            return Ok(());
        }
        let (_, record) = &listed[self.world.draw(listed.len() as u64) as usize];
        let handle = SessionHandle::of_record(record).unwrap();
        let step = self.world.step.get();
        end_one(self, &user, &handle).await?;
        self.ended("end", user, Some(handle), None, step, 0);
        Ok(())
    }

    async fn end_all(&self, user: &str) -> Result<(), Error> {
        let user = UserKey::of(user);
        let (step, now) = (self.world.step.get(), self.milliseconds());
        end_all(self, &user, now, &Spared::None).await?;
        self.ended("end_all", user, None, None, step, now);
        Ok(())
    }

    async fn end_others(&self, browser: usize, user: &str) -> Result<(), Error> {
        let began_at = self.milliseconds();
        let Some(key) = self.world.browsers.borrow()[browser].clone() else { return Ok(()) };
        let Some(record) = self.load(&key).await? else { return Ok(()) };
        let user = UserKey::of(user);
        if UserKey::of_record(&record).as_ref() != Some(&user) {
            return Ok(());
        }
        self.pause().await;
        let handle = SessionHandle::of_record(&record).unwrap();
        let spared = Spared::Session(Claim::new(user.clone(), handle.clone(), began_at), key);
        let (step, now) = (self.world.step.get(), self.milliseconds());
        end_all(self, &user, now, &spared).await?;
        self.ended("end_others", user, None, Some(handle), step, now);
        Ok(())
    }

    fn ended(
        &self,
        what: &str,
        user: UserKey,
        handle: Option<SessionHandle>,
        spared: Option<SessionHandle>,
        step: u64,
        now: u64,
    ) {
        self.world.say(format!("#{} {what} is Ok", self.number));
        let what = format!("#{} {what}", self.number);
        self.world.ends.borrow_mut().push(Told { what, user, handle, spared, step, now });
    }
}

/// The living of whom somebody has the id.
fn living(world: &World) -> Vec<(RecordKey, Begun)> {
    let told = world.told.borrow();
    let begun = world.begun.borrow();
    told.iter()
        .filter(|key| block_on(world.sessions.load(key)).unwrap().is_some_and(|record| record.successor.is_none()))
        .map(|key| (key.clone(), begun[key].clone()))
        .collect()
}

fn broken(world: &World) -> Option<String> {
    let living = living(world);
    for end in &*world.ends.borrow() {
        for (key, begun) in &living {
            let is_one = begun.user == end.user
                && Some(&begun.handle) != end.spared.as_ref()
                && match &end.handle {
                    // Its sign-in began before.
                    Some(handle) => *handle == begun.handle && begun.step < end.step,
                    // Its sign-in was answered before, or began so by the two clocks.
                    None => {
                        begun.told_step.is_some_and(|told| told < end.step)
                            || begun.began_at <= end.now && begun.step < end.step
                    }
                };
            if is_one {
                return Some(format!("{} was told so, and {} lives", end.what, &key.as_str()[..4]));
            }
        }
    }
    None
}

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Request = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

fn run(seed: u64, weather: Weather) -> Result<(), (String, Vec<String>)> {
    let world = Rc::new(World::new(seed, weather));
    let mut tasks: Vec<(u64, u64, Task)> = Vec::new();
    let mut number = 0;
    let fail = |text: String| Err((text, world.story.take()));
    let mut context = Context::from_waker(Waker::noop());
    let mut left = 12 + world.draw(26);
    let concurrency = 1 + world.draw(5) as usize;
    while left > 0 || !tasks.is_empty() {
        world.step.set(world.step.get() + 1);
        let is_due = world.late.borrow().iter().position(|(due, _)| *due <= world.step.get());
        if let Some(place) = is_due {
            let (_, call) = world.late.borrow_mut().swap_remove(place);
            world.say("late".to_owned());
            drop(world.effect(&call));
        }
        if left > 0 && (tasks.is_empty() || tasks.len() < concurrency && world.draw(3) == 0) {
            left -= 1;
            number += 1;
            let skew = if weather.skew > 0 { world.draw(2 * weather.skew as u64 + 1) as i64 - weather.skew } else { 0 };
            let view = View { world: Rc::clone(&world), skew, number };
            let (browser, user) = (world.draw(4) as usize, if world.draw(5) == 0 { "grace" } else { "ada" });
            let kind = world.draw(20);
            let (name, task): (_, Request) = match kind {
                0 => (
                    "sign_in twice",
                    Box::pin(async move {
                        view.sign_in(browser, user).await?;
                        if view.world.draw(2) == 0 {
                            view.cycle(browser, false).await?;
                        }
                        view.sign_in(browser, user).await?;
                        view.cycle(browser, false).await
                    }),
                ),
                1..=6 => ("sign_in", Box::pin(async move { view.sign_in(browser, user).await })),
                7..=11 => {
                    let is_earlier = weather.earlier && world.draw(2) == 0;
                    (
                        if is_earlier { "earlier cycle" } else { "cycle" },
                        Box::pin(async move { view.cycle(browser, is_earlier).await }),
                    )
                }
                12 if weather.ends => ("sign_out", Box::pin(async move { view.sign_out(browser).await })),
                13..=14 => ("list", Box::pin(async move { list(&view, &UserKey::of(user)).await.map(drop) })),
                15..=16 if weather.ends => ("end", Box::pin(async move { view.end(user).await })),
                17..=18 if weather.ends => ("end_all", Box::pin(async move { view.end_all(user).await })),
                19 if weather.ends => ("end_others", Box::pin(async move { view.end_others(browser, user).await })),
                _ => ("list", Box::pin(async move { list(&view, &UserKey::of(user)).await.map(drop) })),
            };
            world.say(format!("#{number} {name} browser {browser} user {user} clock {skew}"));
            let (it, n) = (Rc::clone(&world), number);
            let task = Box::pin(async move {
                if let Err(error) = task.await {
                    it.say(format!("#{n} fails: {error}"));
                }
            });
            tasks.push((number, world.now.get(), task));
        }
        // Time goes on; what takes ten seconds has failed.
        match world.draw(40) {
            0 => world.now.set(world.now.get() + 1000 * (1 + world.draw(6))),
            1 if tasks.is_empty() => world.now.set(world.now.get() + 1000 * (1 + world.draw(130))),
            _ => world.now.set(world.now.get() + world.draw(50)),
        }
        tasks.retain(|(number, began, _)| {
            let is_over = *began + 10_000 < world.now.get();
            if is_over {
                world.say(format!("#{number} takes too long"));
            }
            !is_over
        });
        if tasks.is_empty() {
            continue;
        }
        let place = world.draw(tasks.len() as u64) as usize;
        if weather.aborts && world.one_in(60) {
            world.say(format!("#{} is broken off", tasks[place].0));
            drop(tasks.swap_remove(place));
            continue;
        }
        if tasks[place].2.as_mut().poll(&mut context).is_ready() {
            drop(tasks.swap_remove(place));
            if let Some(text) = broken(&world) {
                return fail(text);
            }
        }
    }
    while let Some((_, call)) = world.late.borrow_mut().pop() {
        world.say("late".to_owned());
        drop(world.effect(&call));
    }
    if let Some(text) = broken(&world) {
        return fail(text);
    }
    // At rest each one that lives is listed, once.
    world.quiet.set(true);
    let view = View { world: Rc::clone(&world), skew: 0, number: 0 };
    for round in 0..3 {
        if round == 1 {
            world.now.set(world.now.get() + 100_000);
        }
        for user in ["ada", "grace"].map(UserKey::of) {
            let listed = block_on(list(&view, &user)).unwrap();
            let handles: Vec<_> = listed.iter().map(|(_, record)| SessionHandle::of_record(record).unwrap()).collect();
            if handles.iter().collect::<BTreeSet<_>>().len() != handles.len() {
                return fail("listed twice".to_owned());
            }
            for (key, begun) in living(&world).iter().filter(|(_, begun)| begun.user == user) {
                if !handles.contains(&begun.handle) {
                    return fail(format!("{} lives and is not listed in round {round}", &key.as_str()[..4]));
                }
            }
        }
    }
    // Where nothing ends a session, and nothing is lost, each one that somebody has is there.
    if !weather.ends && !weather.losses && !weather.aborts && weather.most == 0 {
        let told = world.told.borrow();
        for (browser, key) in world.browsers.borrow().iter().enumerate() {
            if let Some(mut key) = key.clone() {
                while let Some(next) = block_on(world.sessions.load(&key)).unwrap().and_then(|record| record.successor)
                {
                    key = next.key;
                }
                if block_on(world.sessions.load(&key)).unwrap().is_none() && told.contains(&key) {
                    return fail(format!("browser {browser} has lost {}", &key.as_str()[..4]));
                }
            }
        }
    }
    // One more sign-in, and no more are left than there may be; and then all end.
    if weather.most > 0 {
        for _ in 0..2 {
            let (key, handle) = (world.key(), world.handle());
            let claim = Claim::new(UserKey::of("ada"), handle.clone(), view.milliseconds() + 20_000);
            let record = view.signed_in("ada", handle);
            assert_eq!(block_on(create_for(&view, &claim, &key, &record)).unwrap(), Updated::Done);
            block_on(end_oldest(&view, &claim, weather.most, view.milliseconds())).unwrap();
            if block_on(world.sessions.load(&key)).unwrap().is_none() {
                return fail("the newest has ended".to_owned());
            }
            world.now.set(world.now.get() + 1000);
        }
        let left = living(&world).iter().filter(|(_, begun)| begun.user == UserKey::of("ada")).count();
        if left as u64 + 1 > weather.most {
            return fail(format!("{left} others are left of {}", weather.most));
        }
        if block_on(list(&view, &UserKey::of("ada"))).unwrap().len() as u64 > weather.most {
            return fail("too many are listed".to_owned());
        }
    }
    for user in ["ada", "grace"] {
        block_on(view.end_all(user)).unwrap();
    }
    if let Some(text) = broken(&world) {
        return fail(text);
    }
    for user in ["ada", "grace"].map(UserKey::of) {
        if let Some((key, _)) = living(&world).iter().find(|(_, begun)| begun.user == user) {
            return fail(format!("{} lives at the end", &key.as_str()[..4]));
        }
    }
    Ok(())
}

#[test]
fn whatever_happens_what_somebody_was_told_has_ended_is_dead() {
    let seeds = std::env::var("USERS_SEEDS").map_or(10_000, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let bit = |place: u32| seed >> place & 1 == 1;
        let weather = Weather {
            losses: bit(0),
            aborts: bit(1),
            late_messages: bit(2),
            skew: if bit(3) { 4 } else { 0 },
            earlier: bit(4),
            ends: seed % 8 != 0,
            most: if seed % 3 == 0 { 1 + seed % 4 } else { 0 },
        };
        if let Err((text, story)) = run(seed, weather) {
            panic!("{}\nseed {seed}, {weather:?}: {text}", story.join("\n"));
        }
    }
}
