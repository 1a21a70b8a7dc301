//! A user's sessions where each session has an object of its own, and each user one more, which keeps the list of the
//! sessions. A session is noted in the list before it is there, and confirmed when it is; whoever confirms one that is to end
//! ends it.
//!
//! The steps are plain Rust over [`Objects`]: the Durable Objects' binding stands on them, and so does a simulation.

use std::future::{Future, poll_fn};
use std::task::Poll;

use super::user_list::{Entry, Moving, UserList};
use crate::sign_in::SignIn;
use crate::{Claim, Error, ErrorKind, Record, RecordKey, SessionHandle, Spared, Store, Successor, Updated, UserKey};

/// The objects, as one Worker reaches them.
#[expect(async_fn_in_trait, reason = "no Send bound: a Worker has one thread")]
pub trait Objects: Store {
    /// What the object of a user [answers](answer).
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn ask_user(&self, user: &UserKey, act: &str, words: &str) -> Result<String, Error>;

    /// [`delete`](Store::delete), and whether a session was there.
    ///
    /// # Errors
    ///
    /// `Unavailable`.
    async fn deleted(&self, key: &RecordKey) -> Result<Deleted, Error>;

    /// Milliseconds since 1970 UTC.
    fn milliseconds(&self) -> u64;
}

/// What a delete found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// A session that was alive, or had expired.
    pub was_there: bool,
    /// Where it went.
    pub successor: Option<Successor>,
}

/// What is asked of a user's object.
const REGISTER: &str = "register";
const MOVE: &str = "move";
const CONFIRM: &str = "confirm";
const LIST: &str = "list";
const REVOKE: &str = "revoke";
const END: &str = "end";
const OLDEST: &str = "oldest";
const FORGET: &str = "forget";

/// What it answers, in the first line.
const DONE: &str = "done";
const GONE: &str = "gone";

/// Stands for what is not there.
const NONE: &str = "-";

/// As many as one request can end, whose Worker may make 50 calls on the free plan.
pub const MOST_SESSIONS: u64 = 32;

/// How many objects are asked at a time, and how many sessions one list looks at.
const AT_ONCE: usize = 8;
const MOST_LOADED: usize = 40;

/// A session that is not there is about to be, if it was noted less than so many milliseconds ago.
const IN_THE_MAKING: u64 = 60_000;

/// What an object of an earlier release answers.
fn unknown(act: &str) -> String {
    format!("this object does not know how to {act}")
}

/// The first line of an answer, and what follows it.
fn parts(answer: &str) -> (&str, &str) {
    answer.split_once('\n').unwrap_or((answer, ""))
}

fn failed(answer: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format_args!("object of a user: {answer}"))
}

async fn ask(objects: &impl Objects, user: &UserKey, act: &str, words: &[&str]) -> Result<String, Error> {
    objects.ask_user(user, act, &words.join(" ")).await
}

/// A session that is to end, by the key and the handle that it has on the list.
struct Ending {
    key: RecordKey,
    /// Not known of an object of an earlier release.
    handle: Option<SessionHandle>,
}

/// The sessions in an answer, each handle behind its key. (An earlier release reads the keys alone.)
fn endings(answer: &str) -> Result<Vec<Ending>, Error> {
    let (DONE, words) = parts(answer) else { return Err(failed(parts(answer).0)) };
    let mut endings: Vec<Ending> = Vec::new();
    for word in words.split(' ') {
        if let Some(key) = RecordKey::from_stored(word) {
            endings.push(Ending { key, handle: None });
        } else if let Some(last) = endings.last_mut() {
            last.handle = SessionHandle::from_text(word);
        }
    }
    Ok(endings)
}

/// Whether the user's list says that this may be, or is.
async fn is_listed(objects: &impl Objects, user: &UserKey, act: &str, words: &[&str]) -> Result<bool, Error> {
    match parts(&ask(objects, user, act, words).await?).0 {
        DONE => Ok(true),
        GONE => Ok(false),
        other => Err(failed(other)),
    }
}

/// Whether a session that is there now is still the user's; otherwise it is ended.
async fn confirmed(
    objects: &impl Objects,
    user: &UserKey,
    key: &RecordKey,
    before: Option<&RecordKey>,
) -> Result<Updated, Error> {
    let before = before.map_or(NONE, RecordKey::as_str);
    if is_listed(objects, user, CONFIRM, &[key.as_str(), before]).await? {
        return Ok(Updated::Done);
    }
    objects.delete(key).await?;
    Ok(Updated::Gone)
}

async fn forget(objects: &impl Objects, user: &UserKey, keys: &[RecordKey]) -> Result<(), Error> {
    let keys: Vec<_> = keys.iter().map(RecordKey::as_str).collect();
    ask(objects, user, FORGET, &keys).await.map(|_| ())
}

/// Ends these sessions, wherever they went, and takes them off the list, some at a time: so what is done stays
/// done where another one fails. How many there were.
async fn end(objects: &impl Objects, user: &UserKey, endings: &[Ending]) -> Result<u64, Error> {
    let mut many: u64 = 0;
    let mut failure = None;
    for some in endings.chunks(AT_ONCE) {
        let answers = all_of(some.iter().map(|ending| ended(objects, user, ending)).collect()).await;
        let mut done = Vec::new();
        for (ending, answer) in some.iter().zip(answers) {
            match answer {
                Ok(was_there) => {
                    many = many.saturating_add(u64::from(was_there));
                    done.push(ending.key.clone());
                }
                Err(error) => failure = Some(error),
            }
        }
        if !done.is_empty()
            && let Err(error) = forget(objects, user, &done).await
        {
            failure = Some(error);
        }
    }
    failure.map_or(Ok(many), Err)
}

/// Ends the session that had this key, if it is still the same one of this user's where it is now. Whether there was one.
async fn ended(objects: &impl Objects, user: &UserKey, Ending { key, handle }: &Ending) -> Result<bool, Error> {
    let mut found = objects.deleted(key).await?;
    // Its id was changed by an earlier release, or meanwhile, and perhaps once more since it was looked for; or somebody else was
    // signed in over it, and perhaps the same user over that, in a session of another handle.
    while found.successor.is_some() {
        match self::found(objects, user, handle.as_ref(), key).await? {
            Some((key, _)) => found = objects.deleted(&key).await?,
            None => return Ok(false),
        }
    }
    Ok(found.was_there)
}

/// All of these at once, in their order.
async fn all_of<R>(futures: Vec<impl Future<Output = R>>) -> Vec<R> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for (future, answer) in running.iter_mut().filter(|(_, answer)| answer.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(given) => *answer = Some(given),
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, answer)| answer).collect()
}

/// A change of id. The new key of a session that is somebody's is on the list before its old one is retired.
///
/// # Errors
///
/// Those of [`Store::change_id`].
pub async fn change_id(
    objects: &impl Objects,
    from: &RecordKey,
    retired: &Record,
    to: &RecordKey,
    moved: &Record,
) -> Result<Updated, Error> {
    let Some(sign_in) = SignIn::of(moved) else { return move_record(objects, from, retired, to, moved).await };
    let user = UserKey::of(&sign_in.user);
    let at = sign_in.at.to_string();
    let words = [from.as_str(), to.as_str(), sign_in.handle.as_str(), &at];
    if !is_listed(objects, &user, MOVE, &words).await? {
        return Ok(Updated::Gone);
    }
    listed_move(objects, &user, from, retired, to, moved).await
}

/// Once its new key is on the list.
async fn listed_move(
    objects: &impl Objects,
    user: &UserKey,
    from: &RecordKey,
    retired: &Record,
    to: &RecordKey,
    moved: &Record,
) -> Result<Updated, Error> {
    match move_record(objects, from, retired, to, moved).await? {
        Updated::Done => confirmed(objects, user, to, Some(from)).await,
        other => {
            // What stays on the list leads nowhere.
            drop(forget(objects, user, std::slice::from_ref(to)).await);
            Ok(other)
        }
    }
}

/// Creates, then retires: a failure between the two leaves a record that nobody knows the id of.
async fn move_record(
    objects: &impl Objects,
    from: &RecordKey,
    retired: &Record,
    to: &RecordKey,
    moved: &Record,
) -> Result<Updated, Error> {
    objects.create(to, moved).await?;
    let updated = objects.update(from, retired).await?;
    if updated != Updated::Done {
        // What cannot be deleted now is only space, until it expires.
        drop(objects.delete(to).await);
    }
    Ok(updated)
}

/// [`create_for`](crate::UserStore::create_for).
///
/// # Errors
///
/// As there.
pub async fn create_for(
    objects: &impl Objects,
    claim: &Claim,
    key: &RecordKey,
    record: &Record,
) -> Result<Updated, Error> {
    if !is_listed(objects, &claim.user, REGISTER, &claimed(claim, key, &claim.began_at.to_string())).await? {
        return Ok(Updated::Gone);
    }
    objects.create(key, record).await?;
    confirmed(objects, &claim.user, key, None).await
}

/// [`change_id_for`](crate::UserStore::change_id_for).
///
/// # Errors
///
/// As there.
pub async fn change_id_for(
    objects: &impl Objects,
    claim: &Claim,
    from: &RecordKey,
    retired: &Record,
    to: &RecordKey,
    moved: &Record,
) -> Result<Updated, Error> {
    if !is_listed(objects, &claim.user, REGISTER, &claimed(claim, to, &claim.began_at.to_string())).await? {
        return Ok(Updated::Gone);
    }
    listed_move(objects, &claim.user, from, retired, to, moved).await
}

/// [`list`](crate::UserStore::list).
///
/// # Errors
///
/// As there.
pub async fn list(objects: &impl Objects, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error> {
    let entries = entries(objects, user).await?;
    let alive = alive(objects, user, &entries).await?;
    Ok(alive.into_iter().map(|(_, session)| session).collect())
}

/// What is on the user's list.
async fn entries(objects: &impl Objects, user: &UserKey) -> Result<Vec<Entry>, Error> {
    let answer = ask(objects, user, LIST, &[]).await?;
    let (DONE, entries) = parts(&answer) else { return Err(failed(&answer)) };
    Ok(entries.lines().filter_map(Entry::from_text).collect())
}

/// A session that is there, and a key by which it is on the list.
type Alive = (RecordKey, (RecordKey, Record));

/// Those of the entries that are alive, each session once. What has ended is taken off the list.
async fn alive(objects: &impl Objects, user: &UserKey, entries: &[Entry]) -> Result<Vec<Alive>, Error> {
    let now = objects.milliseconds();
    // More are left for the next time: the user may have signed in and out very often.
    let looked_at: Vec<_> = ends_of_each(entries).take(MOST_LOADED).collect();
    let (mut listed, mut ended): (Vec<Alive>, _) = (Vec::new(), Vec::new());
    for some in looked_at.chunks(AT_ONCE) {
        let answers =
            all_of(some.iter().map(|entry| found(objects, user, Some(&entry.handle), &entry.key)).collect()).await;
        for (entry, answer) in some.iter().zip(answers) {
            match answer {
                Ok(Some(session)) => {
                    // Its id was changed.
                    let new = entries.iter().find(|other| session.0 != entry.key && other.key == session.0);
                    ended.extend(new.into_iter().flat_map(|new| superseded(entries, entry, new, now)));
                    let key = new.map_or(&entry.key, |new| &new.key);
                    match listed.iter_mut().find(|(_, other)| is_same(&session, other)) {
                        // Its id is being changed, or was not after all: it is used by one of its keys.
                        Some((_, other)) if other.1.touched_at < session.1.touched_at => *other = session,
                        Some(_) => {}
                        None => listed.push((key.clone(), session)),
                    }
                }
                Err(error) if error.kind() != ErrorKind::Unreadable => return Err(error),
                _ if now < entry.noted_at.saturating_add(IN_THE_MAKING) => {}
                Ok(_) => ended.push(entry.key.clone()),
                // Perhaps a later release's.
                Err(_) => {}
            }
        }
    }
    if !ended.is_empty() {
        // Otherwise the next look does it.
        drop(forget(objects, user, &ended).await);
    }
    Ok(listed)
}

/// What nobody needs on the list of a session whose key is `new`'s and was `old`'s. Whoever changed its id confirms that by the old
/// key, and what came to nothing goes with that: where nobody has by now, a look does it. An old key that is noted late is needed by
/// nobody.
fn superseded(entries: &[Entry], old: &Entry, new: &Entry, now: u64) -> Vec<RecordKey> {
    let mut superseded = Vec::new();
    if now >= new.noted_at.saturating_add(IN_THE_MAKING) {
        let before = entries.iter().take_while(|other| other.key != new.key);
        superseded.extend(before.filter(|other| other.handle == old.handle).map(|other| other.key.clone()));
    }
    if old.noted_at > new.noted_at {
        superseded.push(old.key.clone());
    }
    superseded
}

fn is_same((_, one): &(RecordKey, Record), (_, other): &(RecordKey, Record)) -> bool {
    SessionHandle::of_record(one) == SessionHandle::of_record(other)
}

/// Of each session the first and the last key that were noted: by one of them it is there, or found. Those between may be as many as
/// there were changes of its id that came to nothing.
fn ends_of_each(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().enumerate().filter_map(|(place, entry)| {
        let is_same = |other: &Entry| other.handle == entry.handle;
        let (mut before, mut after) = (entries.iter().take(place), entries.iter().skip(place.saturating_add(1)));
        let is_between = before.any(is_same) && after.any(is_same);
        (!is_between).then_some(entry)
    })
}

/// The session that had this key, where it is now, if it is still this user's, and the one of this handle: an earlier release
/// changes an id without a word to the list, and so does who is signed in over somebody else.
async fn found(
    objects: &impl Objects,
    user: &UserKey,
    handle: Option<&SessionHandle>,
    key: &RecordKey,
) -> Result<Option<(RecordKey, Record)>, Error> {
    let mut next = key.clone();
    while let Some(record) = objects.load(&next).await? {
        match record.successor {
            None => {
                let is_theirs = UserKey::of_record(&record).as_ref() == Some(user)
                    && handle.is_none_or(|handle| SessionHandle::of_record(&record).as_ref() == Some(handle));
                return Ok(is_theirs.then_some((next, record)));
            }
            Some(successor) => next = successor.key,
        }
    }
    Ok(None)
}

/// [`end_all`](crate::UserStore::end_all).
///
/// # Errors
///
/// As there.
pub async fn end_all(objects: &impl Objects, user: &UserKey, now: u64, spared: &Spared) -> Result<u64, Error> {
    if let Spared::Session(claim, key) = spared
        && found(objects, user, Some(&claim.handle), key).await?.is_none()
    {
        return Err(Error::ended());
    }
    let spared = spared.claim();
    let (now, began_at) = (now.to_string(), spared.map(|claim| claim.began_at.to_string()).unwrap_or_default());
    let answer =
        ask(objects, user, REVOKE, &[&now, spared.map_or(NONE, |claim| claim.handle.as_str()), &began_at]).await?;
    if parts(&answer).0 == GONE {
        return Err(Error::ended());
    }
    end(objects, user, &endings(&answer)?).await
}

/// [`end`](crate::UserStore::end). First the list says so: what is about to be made again finds it there.
///
/// # Errors
///
/// As there.
pub async fn end_one(objects: &impl Objects, user: &UserKey, handle: &SessionHandle) -> Result<bool, Error> {
    let answer = ask(objects, user, END, &[handle.as_str()]).await?;
    let theirs = if answer == unknown(END) {
        // An object of an earlier release: it has the list all the same.
        let entries = entries(objects, user).await?;
        entries.into_iter().filter(|entry| entry.handle == *handle).map(Ending::from).collect()
    } else {
        endings(&answer)?
    };
    Ok(end(objects, user, &theirs).await? > 0)
}

/// [`end_oldest`](crate::UserStore::end_oldest). The list has those that ended by themselves, too: so they are looked at only where
/// it is too long. What was to end before, and is there still, ends now.
///
/// # Errors
///
/// As there.
pub async fn end_oldest(objects: &impl Objects, claim: &Claim, most: u64, now: u64) -> Result<u64, Error> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (entries, left): (Vec<_>, Vec<_>) =
        entries(objects, &claim.user).await?.into_iter().partition(|entry| !entry.is_to_end());
    let left: Vec<_> = left.into_iter().map(Ending::from).collect();
    let ended = end(objects, &claim.user, &left).await;
    if entries.len() <= most {
        return ended;
    }
    let mut alive = alive(objects, &claim.user, &entries).await?;
    alive.retain(|(_, (_, record))| record.expires_at > now / 1000);
    if alive.len() <= most {
        return ended;
    }
    let most = most.to_string();
    // By their keys too, for an object of an earlier release.
    let handles: Vec<_> = alive.iter().filter_map(|(_, (_, record))| SessionHandle::of_record(record)).collect();
    let words = alive.iter().map(|(key, _)| key.as_str()).chain(handles.iter().map(SessionHandle::as_str));
    let words: Vec<_> = [&*most, claim.handle.as_str()].into_iter().chain(words).collect();
    let answer = ask(objects, &claim.user, OLDEST, &words).await?;
    let oldest = end(objects, &claim.user, &endings(&answer)?).await?;
    Ok(ended?.saturating_add(oldest))
}

impl From<Entry> for Ending {
    fn from(entry: Entry) -> Self {
        Self { key: entry.key, handle: Some(entry.handle) }
    }
}

/// An object of an earlier release reads three of these words.
fn claimed<'a>(claim: &'a Claim, key: &'a RecordKey, began_at: &'a str) -> Vec<&'a str> {
    let lost = claim.lost.iter().map(RecordKey::as_str);
    [key.as_str(), claim.handle.as_str(), began_at].into_iter().chain(lost).collect()
}

/// What a user's object comes to, asked by [`Objects::ask_user`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it answers.
    pub text: String,
    /// What it keeps from now on, if that is something else than before.
    pub keeps: Option<String>,
}

/// Whether what an object keeps is a user's list, and no session's record.
#[must_use]
pub fn is_list(text: &str) -> bool {
    UserList::from_text(text).is_some()
}

/// Whether such a list has sessions on it.
#[must_use]
pub fn lists_some(text: &str) -> bool {
    UserList::from_text(text).is_some_and(|list| !list.is_empty())
}

/// What a user's object answers that keeps this.
#[must_use]
pub fn answer(keeps: Option<&str>, user: &UserKey, act: &str, words: &str, now: u64) -> Answer {
    let refused = |text: String| Answer { text, keeps: None };
    let list = keeps.map_or_else(|| Some(UserList::default()), UserList::from_text);
    let Some(mut list) = list else { return refused("this object cannot read the list that it keeps".to_owned()) };
    let before = list.clone();
    let Some(text) = answered(&mut list, user, act, words, now) else {
        return refused(unknown(act));
    };
    Answer { text, keeps: (list != before).then(|| list.to_text()) }
}

/// `None` for what it does not understand.
fn answered(list: &mut UserList, user: &UserKey, act: &str, words: &str, now: u64) -> Option<String> {
    let mut words = words.split(' ');
    let mut word = || words.next();
    let verdict = |is_right| Some(if is_right { DONE } else { GONE }.to_owned());
    let with_entries = |entries: Vec<&Entry>| {
        let words: Vec<_> = entries.iter().flat_map(|entry| [entry.key.as_str(), entry.handle.as_str()]).collect();
        Some(format!("{DONE}\n{}", words.join(" ")))
    };
    match act {
        REGISTER => {
            let key = RecordKey::from_stored(word()?)?;
            let handle = SessionHandle::from_text(word()?)?;
            let mut claim = Claim::new(user.clone(), handle, word()?.parse().ok()?);
            claim.lost.extend(words.filter_map(RecordKey::from_stored));
            verdict(list.register(&claim, &key, now))
        }
        MOVE => {
            let (from, to) = (RecordKey::from_stored(word()?)?, RecordKey::from_stored(word()?)?);
            let handle = SessionHandle::from_text(word()?)?;
            verdict(list.register_move(&Moving { from, handle, signed_in_at: word()?.parse().ok()? }, &to, now))
        }
        CONFIRM => {
            let key = RecordKey::from_stored(word()?)?;
            verdict(list.confirm(&key, word().and_then(RecordKey::from_stored).as_ref(), now))
        }
        LIST => {
            let entries: Vec<_> = list.all().map(Entry::to_text).collect();
            Some(format!("{DONE}\n{}", entries.join("\n")))
        }
        REVOKE => {
            let at = word()?.parse().ok()?;
            let spared = match word()? {
                NONE => None,
                handle => Some(Claim::new(user.clone(), SessionHandle::from_text(handle)?, word()?.parse().ok()?)),
            };
            match list.revoke(at, spared.as_ref()) {
                Some(entries) => with_entries(entries),
                None => verdict(false),
            }
        }
        END => with_entries(list.condemn_one(&SessionHandle::from_text(word()?)?)),
        OLDEST => {
            let most = word()?.parse().ok()?;
            // The one that comes, which an object of an earlier release never ends.
            word()?;
            // By their handles, for since it was looked at a session's id may have been changed. A Worker of an earlier release
            // says their keys, or does not say which are alive.
            let alive: Vec<_> = words.collect();
            let is_alive = |entry: &Entry| {
                alive.is_empty() || alive.contains(&entry.handle.as_str()) || alive.contains(&entry.key.as_str())
            };
            with_entries(list.condemn_oldest(most, is_alive))
        }
        FORGET => {
            let these: Vec<_> = words.filter_map(RecordKey::from_stored).collect();
            list.forget(&these, now);
            verdict(true)
        }
        _ => None,
    }
}

#[cfg(feature = "conformance")]
#[cfg(test)]
mod fuzz;

#[cfg(feature = "conformance")]
#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use pollster::block_on;

    use super::*;
    use crate::store::conformance::{Abilities, check, check_users};
    use crate::{MemoryStore, Platform, SessionId, TestPlatform, UserStore, Users};

    /// Objects in memory.
    struct InMemory {
        sessions: MemoryStore,
        lists: RefCell<BTreeMap<UserKey, String>>,
        platform: TestPlatform,
        /// What is under this key fails to be loaded.
        failing: RefCell<Option<(RecordKey, ErrorKind)>>,
    }

    impl InMemory {
        fn new() -> Self {
            let platform = TestPlatform::at(1_764_000_000);
            Self { sessions: MemoryStore::default(), lists: RefCell::default(), platform, failing: RefCell::default() }
        }

        fn is_on_the_list(&self, key: &RecordKey) -> bool {
            self.lists.borrow().values().any(|list| list.contains(key.as_str()))
        }
    }

    impl Store for InMemory {
        async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
            if let Some((_, kind)) = self.failing.borrow().as_ref().filter(|(failing, _)| failing == key) {
                return Err(Error::new(*kind, "it fails"));
            }
            self.sessions.load(key).await
        }
        async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
            self.sessions.create(key, record).await
        }
        async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
            self.sessions.update(key, record).await
        }
        async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
            self.sessions.touch(key, record).await
        }
        async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
            self.sessions.delete(key).await
        }
        async fn change_id(
            &self,
            from: &RecordKey,
            retired: &Record,
            to: &RecordKey,
            moved: &mut Record,
        ) -> Result<Updated, Error> {
            change_id(self, from, retired, to, moved).await
        }
        fn users(&self) -> Option<Users<'_>> {
            Some(Users::of(self))
        }
    }

    impl Objects for InMemory {
        async fn ask_user(&self, user: &UserKey, act: &str, words: &str) -> Result<String, Error> {
            let mut lists = self.lists.borrow_mut();
            let answer = answer(lists.get(user).map(String::as_str), user, act, words, self.milliseconds());
            if let Some(keeps) = answer.keeps {
                lists.insert(user.clone(), keeps);
            }
            Ok(answer.text)
        }
        async fn deleted(&self, key: &RecordKey) -> Result<Deleted, Error> {
            let was_there = self.load(key).await?.is_some_and(|record| record.successor.is_none());
            Ok(Deleted { was_there, successor: self.delete(key).await? })
        }
        fn milliseconds(&self) -> u64 {
            self.platform.milliseconds()
        }
    }

    impl UserStore for InMemory {
        async fn create_for(&self, claim: &Claim, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
            create_for(self, claim, key, record).await
        }
        async fn change_id_for(
            &self,
            claim: &Claim,
            from: &RecordKey,
            retired: &Record,
            to: &RecordKey,
            moved: &mut Record,
        ) -> Result<Updated, Error> {
            change_id_for(self, claim, from, retired, to, moved).await
        }
        async fn list(&self, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error> {
            list(self, user).await
        }
        async fn end(&self, user: &UserKey, handle: &SessionHandle) -> Result<bool, Error> {
            end_one(self, user, handle).await
        }
        async fn end_all(&self, user: &UserKey, now: u64, spared: &Spared) -> Result<u64, Error> {
            end_all(self, user, now, spared).await
        }
        async fn end_oldest(&self, claim: &Claim, most: u64, now: u64) -> Result<u64, Error> {
            end_oldest(self, claim, most, now).await
        }
    }

    #[test]
    fn what_is_built_of_objects_conforms() {
        let objects = InMemory::new();
        block_on(async {
            check(&objects, &objects.platform, Abilities::ALL).await.unwrap();
            check_users(&objects, &objects.platform).await.unwrap();
        });
    }

    /// A session of ada's, whose id an earlier release has changed: it tells the list nothing. With the key that it has now.
    async fn moved_by_an_earlier_release(objects: &InMemory) -> (Claim, RecordKey) {
        let platform = &objects.platform;
        let key = || SessionId::random(platform).unwrap().record_key();
        let (from, to, (claim, record)) = (key(), key(), signed_in(objects, "ada"));
        let retired = retired(&record, &to, platform);
        assert_eq!(objects.create_for(&claim, &from, &record).await.unwrap(), Updated::Done);
        assert_eq!(move_record(objects, &from, &retired, &to, &record).await.unwrap(), Updated::Done);
        (claim, to)
    }

    /// So many sessions of ada's, signed in one after another.
    fn adas(objects: &InMemory, many: usize) -> (Vec<RecordKey>, Vec<Claim>) {
        let one = |_| {
            objects.platform.advance(1);
            let key = SessionId::random(&objects.platform).unwrap().record_key();
            let (claim, record) = signed_in(objects, "ada");
            assert_eq!(block_on(objects.create_for(&claim, &key, &record)).unwrap(), Updated::Done);
            (key, claim)
        };
        (0..many).map(one).unzip()
    }

    fn signed_in(objects: &InMemory, user: &str) -> (Claim, Record) {
        let platform = &objects.platform;
        let handle = SessionHandle::random(platform).unwrap();
        let claim = Claim::new(UserKey::of(user), handle.clone(), objects.milliseconds());
        let sign_in = SignIn { user: user.to_owned(), at: platform.now(), lifetime: None, handle };
        let mut record = Record::new(platform.now(), platform.now() + 10_000, "{}");
        sign_in.note_in(&mut record.extensions).unwrap();
        (claim, record)
    }

    fn retired(record: &Record, to: &RecordKey, platform: &TestPlatform) -> Record {
        let successor = Some(Successor { key: to.clone(), until: platform.now() + 30 });
        Record { version: 2, successor, extensions: crate::Extensions::default(), ..record.clone() }
    }

    /// It may be a later release's.
    #[test]
    fn a_session_that_cannot_be_read_is_left_on_the_list_and_hides_no_other() {
        let objects = InMemory::new();
        let (keys, _) = adas(&objects, 2);
        block_on(async {
            let (claim, _) = signed_in(&objects, "ada");
            objects.platform.advance(3600);
            *objects.failing.borrow_mut() = Some((keys[0].clone(), ErrorKind::Unreadable));
            let listed = objects.list(&claim.user).await.unwrap();
            assert_eq!(listed.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&keys[1]]);
            *objects.failing.borrow_mut() = Some((keys[0].clone(), ErrorKind::Unavailable));
            assert_eq!(objects.list(&claim.user).await.unwrap_err().kind(), ErrorKind::Unavailable);
            *objects.failing.borrow_mut() = None;
            assert_eq!(objects.list(&claim.user).await.unwrap().len(), 2);
        });
    }

    #[test]
    fn what_has_ended_is_taken_off_the_list_by_a_look_when_nobody_can_be_making_it() {
        let objects = InMemory::new();
        let key = SessionId::random(&objects.platform).unwrap().record_key();
        block_on(async {
            let (claim, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&claim, &key, &record).await.unwrap(), Updated::Done);
            objects.sessions.delete(&key).await.unwrap();
            for (seconds, is_left) in [(0, true), (3600, false)] {
                objects.platform.advance(seconds);
                assert_eq!(objects.list(&claim.user).await.unwrap(), []);
                assert_eq!(objects.is_on_the_list(&key), is_left, "{seconds}");
            }
        });
    }

    #[test]
    fn a_change_of_id_that_lost_its_race_leaves_nothing_on_the_list() {
        let objects = InMemory::new();
        let [from, to] = [(); 2].map(|()| SessionId::random(&objects.platform).unwrap().record_key());
        block_on(async {
            let (claim, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&claim, &from, &record).await.unwrap(), Updated::Done);
            let newer = Record { version: 2, nonce: 7, ..record.clone() };
            assert_eq!(objects.update(&from, &newer).await.unwrap(), Updated::Done);
            let retired = retired(&record, &to, &objects.platform);
            let changed = objects.change_id(&from, &retired, &to, &mut record.clone()).await.unwrap();
            assert!(matches!(changed, Updated::Stale(_)), "{changed:?}");
            assert!(objects.is_on_the_list(&from) && !objects.is_on_the_list(&to));
        });
    }

    #[test]
    fn a_list_that_cannot_be_tidied_is_shown_all_the_same() {
        let inside = InMemory::new();
        let before = |act: &str, _: &str| (act == FORGET).then(|| Err(overloaded()));
        let objects = Disturbed { objects: &inside, before: &before };
        let [ended, alive] = [(); 2].map(|()| SessionId::random(&inside.platform).unwrap().record_key());
        block_on(async {
            let (claim, record) = signed_in(&inside, "ada");
            assert_eq!(create_for(&inside, &claim, &ended, &record).await.unwrap(), Updated::Done);
            assert_eq!(inside.delete(&ended).await.unwrap(), None);
            let (claim, record) = signed_in(&inside, "ada");
            assert_eq!(create_for(&inside, &claim, &alive, &record).await.unwrap(), Updated::Done);
            inside.platform.advance(IN_THE_MAKING / 1000);
            let listed = list(&objects, &claim.user).await.unwrap();
            assert_eq!(listed.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&alive]);
            assert!(inside.is_on_the_list(&ended), "until the next look");
            list(&inside, &claim.user).await.unwrap();
            assert!(!inside.is_on_the_list(&ended));
        });
    }

    /// A create whose answer is lost, though it is done or not, is made again under another key.
    async fn made_again(
        inside: &InMemory,
        is_done: bool,
        between: impl AsyncFn(&Claim),
    ) -> (Updated, [RecordKey; 2], Claim) {
        let [first, second] = [(); 2].map(|()| SessionId::random(&inside.platform).unwrap().record_key());
        let (mut claim, record) = signed_in(inside, "ada");
        let before = |act: &str, key: &str| {
            (act == "create").then(|| {
                if is_done {
                    block_on(inside.create(&RecordKey::from_stored(key).unwrap(), &record)).unwrap();
                }
                Err(overloaded().passing())
            })
        };
        let objects = Disturbed { objects: inside, before: &before };
        assert!(create_for(&objects, &claim, &first, &record).await.unwrap_err().passes());
        between(&claim).await;
        inside.delete(&first).await.unwrap();
        claim.lost.push(first.clone());
        (create_for(inside, &claim, &second, &record).await.unwrap(), [first, second], claim)
    }

    #[test]
    fn what_is_ended_between_two_attempts_is_not_made_again() {
        for is_done in [true, false] {
            let inside = InMemory::new();
            block_on(async {
                let (made, ..) = made_again(&inside, is_done, async |claim| {
                    assert_eq!(list(&inside, &claim.user).await.unwrap().len(), usize::from(is_done));
                    assert_eq!(end_one(&inside, &claim.user, &claim.handle).await.unwrap(), is_done);
                })
                .await;
                assert_eq!(made, Updated::Gone);
            });
        }
    }

    /// A look takes one of the first and the last key of a session for the one that it has.
    #[test]
    fn a_key_that_was_lost_is_taken_off_the_list_by_the_next_attempt() {
        let inside = InMemory::new();
        let key = || SessionId::random(&inside.platform).unwrap().record_key();
        block_on(async {
            let (made, [first, second], claim) = made_again(&inside, false, async |_| {}).await;
            assert_eq!(made, Updated::Done);
            assert!(!inside.is_on_the_list(&first) && inside.is_on_the_list(&second));
            // And where a change of its id is cut short, there is still one that leads to it.
            let third = key();
            let before = |act: &str, _: &str| (act == "create").then(|| Err(overloaded()));
            let objects = Disturbed { objects: &inside, before: &before };
            let record = inside.load(&second).await.unwrap().unwrap();
            let retired = retired(&record, &third, &inside.platform);
            assert!(change_id(&objects, &second, &retired, &third, &record).await.is_err());
            let (other, another) = signed_in(&inside, "ada");
            assert_eq!(create_for(&inside, &other, &key(), &another).await.unwrap(), Updated::Done);
            assert_eq!(list(&inside, &claim.user).await.unwrap().len(), 2);
            assert_eq!(end_oldest(&inside, &other, 1, inside.milliseconds()).await.unwrap(), 1);
            assert_eq!(inside.load(&second).await.unwrap(), None);
        });
    }

    #[test]
    fn an_id_that_an_earlier_release_has_changed_leads_to_its_session() {
        let objects = InMemory::new();
        block_on(async {
            let (claim, to) = moved_by_an_earlier_release(&objects).await;
            let listed = objects.list(&claim.user).await.unwrap();
            assert_eq!(listed.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&to]);
            let (newer, _) = signed_in(&objects, "ada");
            assert_eq!(objects.end_oldest(&newer, 0, objects.milliseconds()).await.unwrap(), 1);
            assert_eq!(objects.load(&to).await.unwrap(), None);
        });
    }

    #[test]
    fn its_end_is_found_as_well() {
        let objects = InMemory::new();
        block_on(async {
            let (claim, to) = moved_by_an_earlier_release(&objects).await;
            assert_eq!(objects.end_all(&claim.user, objects.milliseconds(), &Spared::None).await.unwrap(), 1);
            assert_eq!(objects.load(&to).await.unwrap(), None);
        });
    }

    /// In one browser, after ada, without a sign-out.
    #[test]
    fn the_end_of_one_users_sessions_ends_no_other_users() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (from, to) = (key(), key());
        let ((ada, hers), (grace, mut theirs)) = (signed_in(&objects, "ada"), signed_in(&objects, "grace"));
        let retired = retired(&hers, &to, &objects.platform);
        block_on(async {
            assert_eq!(objects.create_for(&ada, &from, &hers).await.unwrap(), Updated::Done);
            let changed = objects.change_id_for(&grace, &from, &retired, &to, &mut theirs).await.unwrap();
            assert_eq!(changed, Updated::Done);
            assert_eq!(objects.list(&ada.user).await.unwrap(), []);
            assert_eq!(objects.end_all(&ada.user, objects.milliseconds(), &Spared::None).await.unwrap(), 0);
            assert_eq!(objects.load(&to).await.unwrap(), Some(theirs));
        });
    }

    /// In one browser, before grace and after her, without a sign-out: the key that she had first leads to the session that she has
    /// now, which is another.
    #[test]
    fn the_end_of_the_others_spares_who_signed_in_again_after_another_user() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (first, second, third) = (key(), key(), key());
        let ((ada, hers), (grace, mut theirs), (again, mut back)) =
            (signed_in(&objects, "ada"), signed_in(&objects, "grace"), signed_in(&objects, "ada"));
        let (to_grace, to_ada) =
            (retired(&hers, &second, &objects.platform), retired(&theirs, &third, &objects.platform));
        block_on(async {
            assert_eq!(objects.create_for(&ada, &first, &hers).await.unwrap(), Updated::Done);
            let moved = objects.change_id_for(&grace, &first, &to_grace, &second, &mut theirs).await.unwrap();
            assert_eq!(moved, Updated::Done);
            let moved = objects.change_id_for(&again, &second, &to_ada, &third, &mut back).await.unwrap();
            assert_eq!(moved, Updated::Done);
            let now = objects.milliseconds();
            let gone = Spared::Session(ada.clone(), first.clone());
            assert_eq!(objects.end_all(&ada.user, now, &gone).await.unwrap_err().kind(), ErrorKind::Ended);
            assert!(!objects.end(&ada.user, &ada.handle).await.unwrap(), "it is no more");
            let spared = Spared::Session(again.clone(), third.clone());
            assert_eq!(objects.end_all(&ada.user, now, &spared).await.unwrap(), 0);
            assert_eq!(objects.load(&third).await.unwrap(), Some(back));
        });
    }

    #[test]
    fn a_session_that_was_to_end_and_is_there_still_ends_with_the_next_sign_in() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let begin = async |at: &RecordKey| {
            objects.platform.advance(1);
            let (claim, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&claim, at, &record).await.unwrap(), Updated::Done);
            claim
        };
        let (first, second, third) = (key(), key(), key());
        block_on(async {
            begin(&first).await;
            let claim = begin(&second).await;
            // Who asked for this has left, or the first one's object gave no answer.
            let words = ["1", claim.handle.as_str(), first.as_str(), second.as_str()];
            ask(&objects, &claim.user, OLDEST, &words).await.unwrap();
            objects.delete(&second).await.unwrap();
            let claim = begin(&third).await;
            assert_eq!(objects.end_oldest(&claim, 2, objects.milliseconds()).await.unwrap(), 1);
            assert_eq!(objects.load(&first).await.unwrap(), None);
            assert!(objects.load(&third).await.unwrap().is_some());
        });
    }

    /// Its Worker died after the new record and before the old one was retired: nobody knows that id. Then it is changed once more.
    #[test]
    fn a_session_whose_id_was_not_changed_after_all_is_listed_once_and_goes_on() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (from, nobodys, to, (ada, hers)) = (key(), key(), key(), signed_in(&objects, "ada"));
        let keys = async || {
            let listed = objects.list(&ada.user).await.unwrap();
            listed.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        block_on(async {
            assert_eq!(objects.create_for(&ada, &from, &hers).await.unwrap(), Updated::Done);
            let at = objects.platform.now().to_string();
            let words = [from.as_str(), nobodys.as_str(), ada.handle.as_str(), &at];
            assert!(is_listed(&objects, &ada.user, MOVE, &words).await.unwrap());
            objects.create(&nobodys, &hers).await.unwrap();
            assert_eq!(keys().await, std::slice::from_ref(&from));
            objects.platform.advance(61);
            assert_eq!(keys().await, std::slice::from_ref(&from));
            let (retired, mut moved) = (retired(&hers, &to, &objects.platform), hers.clone());
            let changed = objects.change_id(&from, &retired, &to, &mut moved).await.unwrap();
            assert_eq!(changed, Updated::Done);
            objects.platform.advance(61);
            assert_eq!(keys().await, std::slice::from_ref(&to));
            assert!(objects.load(&to).await.unwrap().is_some());
        });
    }

    /// Its Worker died each time, as if somebody held it up.
    #[test]
    fn changes_of_id_that_came_to_nothing_hide_no_other_session() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (from, other, (ada, hers)) = (key(), key(), signed_in(&objects, "ada"));
        block_on(async {
            assert_eq!(objects.create_for(&ada, &from, &hers).await.unwrap(), Updated::Done);
            for _ in 0..50 {
                let (to, at) = (key(), objects.platform.now().to_string());
                let words = [from.as_str(), to.as_str(), ada.handle.as_str(), &at];
                assert!(is_listed(&objects, &ada.user, MOVE, &words).await.unwrap());
                objects.create(&to, &hers).await.unwrap();
            }
            objects.platform.advance(61);
            let used = Record { touched_at: objects.platform.now(), ..hers.clone() };
            assert_eq!(objects.touch(&from, &used).await.unwrap(), Updated::Done);
            let (second, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&second, &other, &record).await.unwrap(), Updated::Done);
            let listed = objects.list(&ada.user).await.unwrap();
            assert_eq!(listed.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&from, &other]);
            objects.end_oldest(&second, 1, objects.milliseconds()).await.unwrap();
            assert_eq!(objects.load(&from).await.unwrap(), None);
            assert!(objects.load(&other).await.unwrap().is_some());
        });
    }

    /// Its Worker died before it told the list that the id was changed, and the next change of it has not made its record yet.
    #[test]
    fn a_session_whose_id_is_changed_twice_at_once_is_listed_and_counts() {
        let objects = InMemory::new();
        block_on(async {
            let to = moved_and_not_confirmed(&objects).await;
            let session = objects.load(&to).await.unwrap().unwrap();
            let (user, handle) = (UserKey::of_record(&session).unwrap(), SessionHandle::of_record(&session).unwrap());
            let (next, at) =
                (SessionId::random(&objects.platform).unwrap().record_key(), objects.platform.now().to_string());
            assert!(
                is_listed(&objects, &user, MOVE, &[to.as_str(), next.as_str(), handle.as_str(), &at]).await.unwrap()
            );
            for _ in 0..2 {
                let listed = objects.list(&user).await.unwrap();
                assert_eq!(listed.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&to]);
            }
        });
    }

    #[test]
    fn a_look_before_a_change_of_id_is_confirmed_leaves_it_to_take_off_what_came_to_nothing() {
        let objects = InMemory::new();
        block_on(async {
            let to = moved_and_not_confirmed(&objects).await;
            let user = UserKey::of_record(&objects.load(&to).await.unwrap().unwrap()).unwrap();
            let first = entries(&objects, &user).await.unwrap().swap_remove(0);
            let (from, late) = (first.key, SessionId::random(&objects.platform).unwrap().record_key());
            let words = [from.as_str(), late.as_str(), first.handle.as_str(), "1"];
            assert!(is_listed(&objects, &user, MOVE, &words).await.unwrap());
            assert_eq!(objects.list(&user).await.unwrap().len(), 1);
            assert_eq!(confirmed(&objects, &user, &to, Some(&from)).await.unwrap(), Updated::Done);
            let left = entries(&objects, &user).await.unwrap();
            assert_eq!(left.iter().map(|entry| &entry.key).collect::<Vec<_>>(), [&to]);
        });
    }

    #[test]
    fn what_came_to_nothing_goes_with_a_change_of_id_that_nobody_confirms() {
        let objects = InMemory::new();
        block_on(async {
            let to = moved_and_not_confirmed(&objects).await;
            let user = UserKey::of_record(&objects.load(&to).await.unwrap().unwrap()).unwrap();
            for (seconds, left) in [(59, 3), (2, 1)] {
                objects.platform.advance(seconds);
                assert_eq!(objects.list(&user).await.unwrap().len(), 1);
                assert_eq!(entries(&objects, &user).await.unwrap().len(), left);
            }
        });
    }

    /// The first message of a sign-in comes when its repetition is long done, and the id was changed since.
    #[test]
    fn an_old_key_that_is_noted_late_makes_no_session_the_newest() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        block_on(async {
            let (from, to, (ada, hers)) = (key(), key(), signed_in(&objects, "ada"));
            assert_eq!(objects.create_for(&ada, &from, &hers).await.unwrap(), Updated::Done);
            let retired = retired(&hers, &to, &objects.platform);
            assert_eq!(objects.change_id(&from, &retired, &to, &mut hers.clone()).await.unwrap(), Updated::Done);
            objects.platform.advance(1);
            let (second, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&second, &key(), &record).await.unwrap(), Updated::Done);
            objects.platform.advance(1);
            let words = claimed(&ada, &from, "0");
            assert!(is_listed(&objects, &ada.user, REGISTER, &words).await.unwrap());
            let (third, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&third, &key(), &record).await.unwrap(), Updated::Done);
            assert_eq!(objects.end_oldest(&third, 2, objects.milliseconds()).await.unwrap(), 1);
            assert!(objects.load(&to).await.unwrap().is_none(), "it is the oldest");
        });
    }

    /// It gave its password again, and its old record is not retired yet.
    #[test]
    fn a_session_that_is_being_signed_in_again_is_not_the_oldest() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (old, again, between, newest) = (key(), key(), key(), key());
        let begin = async |at: &RecordKey| {
            objects.platform.advance(1);
            let (claim, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&claim, at, &record).await.unwrap(), Updated::Done);
            claim
        };
        block_on(async {
            let claim = begin(&old).await;
            begin(&between).await;
            objects.platform.advance(1);
            let began_at = objects.milliseconds().to_string();
            assert!(is_listed(&objects, &claim.user, REGISTER, &claimed(&claim, &again, &began_at)).await.unwrap());
            objects.create(&again, &objects.load(&old).await.unwrap().unwrap()).await.unwrap();
            let last = begin(&newest).await;
            assert_eq!(objects.end_oldest(&last, 2, objects.milliseconds()).await.unwrap(), 1);
            assert_eq!(objects.load(&between).await.unwrap(), None);
            assert!(objects.load(&again).await.unwrap().is_some());
        });
    }

    /// Of two at once with room for one, the one that was signed in first may be the last to be stored.
    #[test]
    fn no_more_sessions_are_left_than_there_may_be_whoever_is_slow() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (first, second) = (key(), key());
        let (slow, record) = signed_in(&objects, "ada");
        block_on(async {
            let began_at = slow.began_at.to_string();
            assert!(is_listed(&objects, &slow.user, REGISTER, &claimed(&slow, &first, &began_at)).await.unwrap());
            objects.platform.advance(1);
            let (quick, its) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&quick, &second, &its).await.unwrap(), Updated::Done);
            assert_eq!(objects.end_oldest(&quick, 1, objects.milliseconds()).await.unwrap(), 0);
            objects.create(&first, &record).await.unwrap();
            assert_eq!(confirmed(&objects, &slow.user, &first, None).await.unwrap(), Updated::Done);
            assert_eq!(objects.end_oldest(&slow, 1, objects.milliseconds()).await.unwrap(), 1);
            assert_eq!(objects.load(&first).await.unwrap(), None);
            assert!(objects.load(&second).await.unwrap().is_some());
        });
    }

    /// Of a session of ada's, whose Worker died before it told the list that the id was changed.
    async fn moved_and_not_confirmed(objects: &InMemory) -> RecordKey {
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (from, to, (ada, hers)) = (key(), key(), signed_in(objects, "ada"));
        let retired = retired(&hers, &to, &objects.platform);
        assert_eq!(objects.create_for(&ada, &from, &hers).await.unwrap(), Updated::Done);
        let at = objects.platform.now().to_string();
        // The first one came to nothing.
        for to in [&key(), &to] {
            let words = [from.as_str(), to.as_str(), ada.handle.as_str(), &at];
            assert!(is_listed(objects, &ada.user, MOVE, &words).await.unwrap());
        }
        assert_eq!(move_record(objects, &from, &retired, &to, &hers).await.unwrap(), Updated::Done);
        to
    }

    #[test]
    fn a_session_that_is_on_the_list_by_two_keys_is_one() {
        for is_looked_at in [false, true] {
            let objects = InMemory::new();
            let key = SessionId::random(&objects.platform).unwrap().record_key();
            block_on(async {
                let to = moved_and_not_confirmed(&objects).await;
                objects.platform.advance(1000);
                let (second, record) = signed_in(&objects, "ada");
                assert_eq!(objects.create_for(&second, &key, &record).await.unwrap(), Updated::Done);
                if is_looked_at {
                    assert_eq!(objects.list(&second.user).await.unwrap().len(), 2);
                }
                assert_eq!(objects.end_oldest(&second, 2, objects.milliseconds()).await.unwrap(), 0, "there are two");
                assert!(objects.load(&to).await.unwrap().is_some());
                assert_eq!(objects.end_oldest(&second, 1, objects.milliseconds()).await.unwrap(), 1);
                assert!(objects.load(&to).await.unwrap().is_none());
            });
        }
    }

    #[test]
    fn sign_ins_that_came_to_nothing_cost_no_session_more() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        block_on(async {
            for _ in 0..3 {
                objects.platform.advance(100);
                let (claim, record) = signed_in(&objects, "ada");
                assert_eq!(objects.create_for(&claim, &key(), &record).await.unwrap(), Updated::Done);
            }
            objects.platform.advance(100);
            for _ in 0..3 {
                let (claim, _) = signed_in(&objects, "ada");
                let began_at = claim.began_at.to_string();
                let at = key();
                assert!(is_listed(&objects, &claim.user, REGISTER, &claimed(&claim, &at, &began_at)).await.unwrap());
            }
            objects.platform.advance(1);
            let (claim, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&claim, &key(), &record).await.unwrap(), Updated::Done);
            let ended = objects.end_oldest(&claim, 3, objects.milliseconds()).await.unwrap();
            assert_eq!(ended, 1, "the fourth ends the oldest, and no other");
        });
    }

    #[test]
    fn a_session_that_is_ended_while_its_creation_is_repeated_stays_ended() {
        let objects = InMemory::new();
        let at = SessionId::random(&objects.platform).unwrap().record_key();
        let (claim, record) = signed_in(&objects, "ada");
        block_on(async {
            let began_at = claim.began_at.to_string();
            assert!(is_listed(&objects, &claim.user, REGISTER, &claimed(&claim, &at, &began_at)).await.unwrap());
            // Its answer is lost.
            objects.create(&at, &record).await.unwrap();
            assert!(objects.end(&claim.user, &claim.handle).await.unwrap());
            objects.create(&at, &record).await.unwrap();
            let confirmed = confirmed(&objects, &claim.user, &at, None).await.unwrap();
            assert_eq!((confirmed, objects.load(&at).await.unwrap()), (Updated::Gone, None));
        });
    }

    #[test]
    fn a_list_is_kept_as_long_as_there_is_something_on_it() {
        let objects = InMemory::new();
        let at = SessionId::random(&objects.platform).unwrap().record_key();
        let (claim, record) = signed_in(&objects, "ada");
        block_on(async {
            assert_eq!(objects.create_for(&claim, &at, &record).await.unwrap(), Updated::Done);
            let kept = || objects.lists.borrow().get(&claim.user).cloned().unwrap();
            assert!(is_list(&kept()) && lists_some(&kept()));
            objects.end_all(&claim.user, objects.milliseconds(), &Spared::None).await.unwrap();
            assert!(is_list(&kept()) && !lists_some(&kept()));
        });
    }

    #[test]
    fn who_looks_at_the_list_while_an_id_is_changed_ends_no_session() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (from, to, (ada, hers)) = (key(), key(), signed_in(&objects, "ada"));
        let retired = retired(&hers, &to, &objects.platform);
        block_on(async {
            assert_eq!(objects.create_for(&ada, &from, &hers).await.unwrap(), Updated::Done);
            objects.platform.advance(61);
            let at = objects.platform.now().to_string();
            let words = [from.as_str(), to.as_str(), ada.handle.as_str(), &at];
            assert!(is_listed(&objects, &ada.user, MOVE, &words).await.unwrap());
            assert_eq!(objects.list(&ada.user).await.unwrap().len(), 1, "by its old key: the new one is not there yet");
            let moved = listed_move(&objects, &ada.user, &from, &retired, &to, &hers).await;
            assert_eq!(moved.unwrap(), Updated::Done);
            assert_eq!(objects.list(&ada.user).await.unwrap().len(), 1);
        });
    }

    #[test]
    fn who_is_ended_while_they_end_all_others_ends_nobody() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (stolen, own) = (key(), key());
        let ((thief, record), (ada, hers)) = (signed_in(&objects, "ada"), signed_in(&objects, "ada"));
        block_on(async {
            assert_eq!(objects.create_for(&thief, &stolen, &record).await.unwrap(), Updated::Done);
            assert_eq!(objects.create_for(&ada, &own, &hers).await.unwrap(), Updated::Done);
            // It looks, and its next message is late.
            assert!(found(&objects, &thief.user, None, &stolen).await.unwrap().is_some());
            assert!(objects.end(&ada.user, &thief.handle).await.unwrap());
            let (now, began_at) = (objects.milliseconds().to_string(), thief.began_at.to_string());
            let answer = ask(&objects, &ada.user, REVOKE, &[&now, thief.handle.as_str(), &began_at]).await.unwrap();
            assert_eq!(answer, GONE);
            assert_eq!(objects.list(&ada.user).await.unwrap().len(), 1);
        });
    }

    /// What the test does first, and what it answers in an object's place.
    type Before<'a> = &'a dyn Fn(&str, &str) -> Option<Result<String, Error>>;

    fn overloaded() -> Error {
        Error::new(ErrorKind::Unavailable, "it is overloaded")
    }

    /// Objects of which some are answered for by the test, or asked when something else has happened.
    struct Disturbed<'a> {
        objects: &'a InMemory,
        /// Before this act with these words, or a create or delete of this key. With an answer it is never asked.
        before: Before<'a>,
    }

    impl Store for Disturbed<'_> {
        async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
            self.objects.load(key).await
        }
        async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
            match (self.before)("create", key.as_str()) {
                Some(answer) => answer.map(drop),
                None => self.objects.create(key, record).await,
            }
        }
        async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
            self.objects.update(key, record).await
        }
        async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
            self.objects.touch(key, record).await
        }
        async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
            match (self.before)("delete", key.as_str()) {
                Some(answer) => answer.map(|_| None),
                None => self.objects.delete(key).await,
            }
        }
    }

    impl Objects for Disturbed<'_> {
        async fn ask_user(&self, user: &UserKey, act: &str, words: &str) -> Result<String, Error> {
            match (self.before)(act, words) {
                Some(answer) => answer,
                None => self.objects.ask_user(user, act, words).await,
            }
        }
        async fn deleted(&self, key: &RecordKey) -> Result<Deleted, Error> {
            match (self.before)("delete", key.as_str()) {
                Some(answer) => answer.map(|_| Deleted { was_there: false, successor: None }),
                None => self.objects.deleted(key).await,
            }
        }
        fn milliseconds(&self) -> u64 {
            self.objects.milliseconds()
        }
    }

    /// What an earlier release answers for a user's object.
    fn earlier(act: &str, _: &str) -> Option<Result<String, Error>> {
        (act == END).then(|| Ok("this object does not know how to end".to_owned()))
    }

    #[test]
    fn a_session_can_be_ended_while_an_earlier_release_answers_for_its_user() {
        let inside = InMemory::new();
        let objects = Disturbed { objects: &inside, before: &earlier };
        let at = SessionId::random(&inside.platform).unwrap().record_key();
        let (claim, record) = signed_in(&inside, "ada");
        block_on(async {
            assert_eq!(create_for(&objects, &claim, &at, &record).await.unwrap(), Updated::Done);
            assert_eq!(
                end_one(&objects, &claim.user, &claim.handle).await.map_err(|error| error.to_string()),
                Ok(true)
            );
        });
    }

    /// An earlier release changes the id, which its list does not know, once more after the end has found it.
    #[test]
    fn what_moves_once_more_while_it_is_ended_ends() {
        for ends_all in [true, false] {
            let objects = InMemory::new();
            let last = SessionId::random(&objects.platform).unwrap().record_key();
            block_on(async {
                let (claim, to) = moved_by_an_earlier_release(&objects).await;
                let record = objects.load(&to).await.unwrap().unwrap();
                let retired = Record { version: record.version + 1, ..retired(&record, &last, &objects.platform) };
                let before = |act: &str, key: &str| {
                    if act == "delete" && key == to.as_str() {
                        let moved = block_on(move_record(&objects, &to, &retired, &last, &record));
                        assert!(matches!(moved, Ok(Updated::Done | Updated::Gone)));
                    }
                    None
                };
                let disturbed = Disturbed { objects: &objects, before: &before };
                let many = if ends_all {
                    end_all(&disturbed, &claim.user, objects.milliseconds(), &Spared::None).await.unwrap()
                } else {
                    u64::from(end_one(&disturbed, &claim.user, &claim.handle).await.unwrap())
                };
                assert_eq!((many, objects.load(&last).await.unwrap()), (1, None));
            });
        }
    }

    /// All of this release: it is signed in again over the key that is to end, and its id is changed after that.
    #[test]
    fn what_is_signed_in_again_and_moves_while_it_is_ended_ends() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (first, second, third, (claim, record)) = (key(), key(), key(), signed_in(&objects, "ada"));
        block_on(async {
            assert_eq!(objects.create_for(&claim, &first, &record).await.unwrap(), Updated::Done);
            let before = |act: &str, key: &str| {
                let (from, to) = match (act, key) {
                    ("delete", key) if key == first.as_str() => (&first, &second),
                    ("delete", key) if key == second.as_str() => (&second, &third),
                    _ => return None,
                };
                let retired = retired(&record, to, &objects.platform);
                let mut moved = record.clone();
                let changed = if from == &first {
                    block_on(objects.change_id_for(&claim, from, &retired, to, &mut moved))
                } else {
                    block_on(objects.change_id(from, &retired, to, &mut moved))
                };
                assert!(matches!(changed, Ok(Updated::Done | Updated::Gone)));
                None
            };
            let disturbed = Disturbed { objects: &objects, before: &before };
            assert!(end_one(&disturbed, &claim.user, &claim.handle).await.unwrap());
            assert_eq!(objects.load(&third).await.unwrap(), None);
        });
    }

    /// What an object answers that is neither of the two is neither.
    #[test]
    fn an_object_that_does_not_understand_fails_the_call() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (at, (claim, record)) = (key(), signed_in(&objects, "ada"));
        block_on(async {
            for act in [REGISTER, CONFIRM] {
                let before = |asked: &str, _: &str| (asked == act).then(|| Ok(unknown(act)));
                let disturbed = Disturbed { objects: &objects, before: &before };
                let refused = create_for(&disturbed, &claim, &at, &record).await.unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::Unavailable, "{act}");
            }
        });
    }

    #[test]
    fn where_one_cannot_be_ended_the_others_are_and_it_is_when_that_is_done_again() {
        let objects = InMemory::new();
        let (keys, _) = adas(&objects, 2 * AT_ONCE + 1);
        block_on(async {
            let (user, now) = (UserKey::of("ada"), objects.milliseconds());
            *objects.failing.borrow_mut() = Some((keys[0].clone(), ErrorKind::Unavailable));
            let failed = objects.end_all(&user, now, &Spared::None).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Unavailable);
            *objects.failing.borrow_mut() = None;
            for (place, key) in keys.iter().enumerate() {
                assert_eq!(objects.load(key).await.unwrap().is_some(), place == 0, "{place}");
            }
            assert_eq!(objects.end_all(&user, now, &Spared::None).await.unwrap(), 1);
            assert_eq!(objects.load(&keys[0]).await.unwrap(), None);
        });
    }

    /// The first one is to end and cannot, and one more is too many.
    #[test]
    fn who_ends_the_oldest_is_told_of_one_that_was_to_end_and_could_not() {
        let objects = InMemory::new();
        let (keys, claims) = adas(&objects, 3);
        block_on(async {
            ask(&objects, &claims[0].user, END, &[claims[0].handle.as_str()]).await.unwrap();
            *objects.failing.borrow_mut() = Some((keys[0].clone(), ErrorKind::Unavailable));
            let failed = objects.end_oldest(&claims[2], 1, objects.milliseconds()).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Unavailable);
            *objects.failing.borrow_mut() = None;
            assert_eq!(objects.load(&keys[1]).await.unwrap(), None, "all the same");
        });
    }

    #[test]
    fn a_session_that_is_to_end_gets_no_new_id_and_stays_as_it_is_until_then() {
        let objects = InMemory::new();
        let [from, to] = [(); 2].map(|()| SessionId::random(&objects.platform).unwrap().record_key());
        block_on(async {
            let (claim, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&claim, &from, &record).await.unwrap(), Updated::Done);
            ask(&objects, &claim.user, END, &[claim.handle.as_str()]).await.unwrap();
            let retired = retired(&record, &to, &objects.platform);
            let changed = objects.change_id(&from, &retired, &to, &mut record.clone()).await.unwrap();
            assert_eq!(changed, Updated::Gone);
            assert_eq!(objects.load(&from).await.unwrap(), Some(record), "nothing has changed");
            assert_eq!(objects.load(&to).await.unwrap(), None);
        });
    }

    /// A second record would be told from none.
    #[test]
    fn a_sign_in_that_is_refused_is_not_even_tried() {
        let objects = InMemory::new();
        let at = SessionId::random(&objects.platform).unwrap().record_key();
        let ((claim, record), (_, other)) = (signed_in(&objects, "ada"), signed_in(&objects, "ada"));
        block_on(async {
            objects.end_all(&claim.user, objects.milliseconds(), &Spared::None).await.unwrap();
            let other = Record { nonce: 7, ..other };
            objects.create(&at, &other).await.unwrap();
            assert_eq!(objects.create_for(&claim, &at, &record).await.unwrap(), Updated::Gone);
            assert_eq!(objects.load(&at).await.unwrap(), Some(other));
        });
    }

    #[test]
    fn a_change_of_id_takes_the_old_key_off_the_list_at_once() {
        let objects = InMemory::new();
        let [from, to] = [(); 2].map(|()| SessionId::random(&objects.platform).unwrap().record_key());
        block_on(async {
            let (claim, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&claim, &from, &record).await.unwrap(), Updated::Done);
            let retired = retired(&record, &to, &objects.platform);
            assert_eq!(objects.change_id(&from, &retired, &to, &mut record.clone()).await.unwrap(), Updated::Done);
            assert!(!objects.is_on_the_list(&from) && objects.is_on_the_list(&to));
        });
    }

    #[test]
    fn a_look_asks_no_more_objects_than_a_request_may() {
        let objects = InMemory::new();
        block_on(async {
            for _ in 0..=MOST_LOADED {
                let (claim, record) = signed_in(&objects, "ada");
                let at = SessionId::random(&objects.platform).unwrap().record_key();
                assert_eq!(objects.create_for(&claim, &at, &record).await.unwrap(), Updated::Done);
            }
            assert_eq!(objects.list(&UserKey::of("ada")).await.unwrap().len(), MOST_LOADED);
        });
    }

    /// What was signed in before its list was there: a first change of its id came to nothing, and a second did not.
    #[test]
    fn of_two_records_of_one_session_the_one_that_is_used_is_listed() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (from, nobodys, to, (ada, hers)) = (key(), key(), key(), signed_in(&objects, "ada"));
        block_on(async {
            objects.create(&from, &hers).await.unwrap();
            let at = objects.platform.now().to_string();
            let words = [from.as_str(), nobodys.as_str(), ada.handle.as_str(), &at];
            assert!(is_listed(&objects, &ada.user, MOVE, &words).await.unwrap());
            objects.create(&nobodys, &hers).await.unwrap();
            let retired = retired(&hers, &to, &objects.platform);
            assert_eq!(objects.change_id(&from, &retired, &to, &mut hers.clone()).await.unwrap(), Updated::Done);
            objects.platform.advance(61);
            let used = Record { touched_at: objects.platform.now(), ..hers.clone() };
            assert_eq!(objects.touch(&to, &used).await.unwrap(), Updated::Done);
            let listed = objects.list(&ada.user).await.unwrap();
            assert_eq!(listed.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&to]);
        });
    }

    #[test]
    fn what_is_superseded_is_of_the_same_session() {
        let objects = InMemory::new();
        let other = SessionId::random(&objects.platform).unwrap().record_key();
        block_on(async {
            let (claim, record) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&claim, &other, &record).await.unwrap(), Updated::Done);
            moved_and_not_confirmed(&objects).await;
            objects.platform.advance(61);
            for _ in 0..2 {
                assert_eq!(objects.list(&claim.user).await.unwrap().len(), 2);
            }
        });
    }

    /// The old key goes off the list by the same look, and an object of an earlier release knows a session by its key alone.
    #[test]
    fn what_is_alive_is_called_by_the_key_that_stays_on_the_list() {
        let objects = InMemory::new();
        block_on(async {
            let to = moved_and_not_confirmed(&objects).await;
            objects.platform.advance(61);
            let user = UserKey::of("ada");
            let alive = alive(&objects, &user, &entries(&objects, &user).await.unwrap()).await.unwrap();
            assert_eq!(alive.iter().map(|(key, _)| key).collect::<Vec<_>>(), [&to]);
            assert!(objects.is_on_the_list(&to));
        });
    }

    /// Of an object of an earlier release, which names the keys alone.
    #[test]
    fn without_handles_too_the_end_of_one_users_sessions_ends_no_other_users() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (from, to) = (key(), key());
        let ((ada, hers), (grace, mut theirs)) = (signed_in(&objects, "ada"), signed_in(&objects, "grace"));
        let retired = retired(&hers, &to, &objects.platform);
        block_on(async {
            assert_eq!(objects.create_for(&ada, &from, &hers).await.unwrap(), Updated::Done);
            let changed = objects.change_id_for(&grace, &from, &retired, &to, &mut theirs).await.unwrap();
            assert_eq!(changed, Updated::Done);
            let before = |act: &str, _: &str| (act == REVOKE).then(|| Ok(format!("{DONE}\n{}", from.as_str())));
            let disturbed = Disturbed { objects: &objects, before: &before };
            assert_eq!(end_all(&disturbed, &ada.user, objects.milliseconds(), &Spared::None).await.unwrap(), 0);
            assert_eq!(objects.load(&to).await.unwrap(), Some(theirs));
        });
    }

    /// None is alive, which the object would take for a Worker that does not say which are.
    #[test]
    fn sign_ins_under_way_are_not_too_many_where_no_session_is_alive() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let keys = [key(), key()];
        block_on(async {
            for at in &keys {
                let (claim, _) = signed_in(&objects, "ada");
                let began_at = claim.began_at.to_string();
                assert!(is_listed(&objects, &claim.user, REGISTER, &claimed(&claim, at, &began_at)).await.unwrap());
            }
            let (claim, _) = signed_in(&objects, "ada");
            assert_eq!(objects.end_oldest(&claim, 1, objects.milliseconds()).await.unwrap(), 0);
            for at in &keys {
                assert_eq!(confirmed(&objects, &claim.user, at, None).await.unwrap(), Updated::Done);
            }
        });
    }

    /// As a Worker of an earlier release asks.
    #[test]
    fn who_does_not_say_which_are_alive_means_all() {
        let objects = InMemory::new();
        let (keys, _) = adas(&objects, 2);
        block_on(async {
            let (claim, _) = signed_in(&objects, "ada");
            let answer = ask(&objects, &claim.user, OLDEST, &["1", claim.handle.as_str()]).await.unwrap();
            let oldest = endings(&answer).unwrap();
            assert_eq!(oldest.iter().map(|ending| &ending.key).collect::<Vec<_>>(), [&keys[0]]);
        });
    }

    /// And by its key it is not known any more.
    #[test]
    fn the_oldest_ends_though_its_id_was_changed_since_it_was_looked_at() {
        let objects = InMemory::new();
        let key = || SessionId::random(&objects.platform).unwrap().record_key();
        let (first, second, new, (oldest, record)) = (key(), key(), key(), signed_in(&objects, "ada"));
        block_on(async {
            assert_eq!(objects.create_for(&oldest, &first, &record).await.unwrap(), Updated::Done);
            objects.platform.advance(1);
            let (claim, its) = signed_in(&objects, "ada");
            assert_eq!(objects.create_for(&claim, &second, &its).await.unwrap(), Updated::Done);
            let before = |act: &str, words: &str| {
                if act == OLDEST {
                    // By both, for an object of an earlier release knows the keys alone.
                    assert!(words.contains(first.as_str()) && words.contains(oldest.handle.as_str()), "{words}");
                    let retired = retired(&record, &new, &objects.platform);
                    let changed = block_on(objects.change_id(&first, &retired, &new, &mut record.clone()));
                    assert_eq!(changed.unwrap(), Updated::Done);
                }
                None
            };
            let disturbed = Disturbed { objects: &objects, before: &before };
            assert_eq!(end_oldest(&disturbed, &claim, 1, objects.milliseconds()).await.unwrap(), 1);
            assert_eq!(objects.load(&new).await.unwrap(), None);
            assert!(objects.load(&second).await.unwrap().is_some());
        });
    }

    #[test]
    fn a_list_that_cannot_be_read_is_left_alone_and_one_that_is_as_before_is_not_written() {
        let (user, platform) = (UserKey::of("ada"), TestPlatform::at(1_764_000_000));
        let later = answer(Some("edge-session-user/2 -"), &user, REVOKE, "5 - ", platform.milliseconds());
        assert!(later.keeps.is_none() && ![DONE, GONE].contains(&parts(&later.text).0), "{later:?}");
        assert_eq!(answer(None, &user, LIST, "", platform.milliseconds()).keeps, None);
    }

    #[test]
    fn a_lost_race_is_one_also_where_nothing_can_be_tidied_up() {
        for act in ["delete", FORGET] {
            let objects = InMemory::new();
            let [from, to] = [(); 2].map(|()| SessionId::random(&objects.platform).unwrap().record_key());
            block_on(async {
                let (claim, record) = signed_in(&objects, "ada");
                assert_eq!(objects.create_for(&claim, &from, &record).await.unwrap(), Updated::Done);
                let newer = Record { version: 2, nonce: 7, ..record.clone() };
                assert_eq!(objects.update(&from, &newer).await.unwrap(), Updated::Done);
                let retired = retired(&record, &to, &objects.platform);
                let before = |asked: &str, _: &str| (asked == act).then(|| Err(overloaded()));
                let disturbed = Disturbed { objects: &objects, before: &before };
                let changed = change_id(&disturbed, &from, &retired, &to, &record).await.unwrap();
                assert!(matches!(changed, Updated::Stale(_)), "{act}: {changed:?}");
            });
        }
    }

    #[test]
    fn a_session_that_ended_while_it_was_made_and_cannot_be_deleted_is_no_end() {
        let objects = InMemory::new();
        let (at, (claim, record)) =
            (SessionId::random(&objects.platform).unwrap().record_key(), signed_in(&objects, "ada"));
        block_on(async {
            let before = |act: &str, _: &str| match act {
                CONFIRM => {
                    block_on(ask(&objects, &claim.user, END, &[claim.handle.as_str()])).unwrap();
                    None
                }
                "delete" => Some(Err(overloaded())),
                _ => None,
            };
            let disturbed = Disturbed { objects: &objects, before: &before };
            let failed = create_for(&disturbed, &claim, &at, &record).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Unavailable, "it is there");
        });
    }

    #[test]
    fn while_an_earlier_release_answers_for_its_user_no_other_session_ends_with_it() {
        let inside = InMemory::new();
        let objects = Disturbed { objects: &inside, before: &earlier };
        let keys = [(); 2].map(|()| SessionId::random(&inside.platform).unwrap().record_key());
        let (claim, record) = signed_in(&inside, "ada");
        let (other, its) = signed_in(&inside, "ada");
        block_on(async {
            assert_eq!(create_for(&objects, &claim, &keys[0], &record).await.unwrap(), Updated::Done);
            assert_eq!(create_for(&objects, &other, &keys[1], &its).await.unwrap(), Updated::Done);
            assert!(end_one(&objects, &claim.user, &claim.handle).await.unwrap());
            assert_eq!(objects.load(&keys[0]).await.unwrap(), None);
            assert_eq!(objects.load(&keys[1]).await.unwrap(), Some(its));
        });
    }

    #[test]
    fn those_that_were_to_end_count_beside_the_oldest() {
        let objects = InMemory::new();
        let (_, claims) = adas(&objects, 3);
        block_on(async {
            ask(&objects, &claims[0].user, END, &[claims[0].handle.as_str()]).await.unwrap();
            assert_eq!(objects.end_oldest(&claims[2], 1, objects.milliseconds()).await.unwrap(), 2);
        });
    }

    /// The user's object gives no answer for a moment, and the sessions' own do.
    #[test]
    fn where_the_list_cannot_be_told_the_others_end_all_the_same() {
        let objects = InMemory::new();
        let (keys, _) = adas(&objects, AT_ONCE + 1);
        block_on(async {
            let before = |act: &str, _: &str| (act == FORGET).then(|| Err(overloaded()));
            let (disturbed, user) = (Disturbed { objects: &objects, before: &before }, UserKey::of("ada"));
            let failed = end_all(&disturbed, &user, objects.milliseconds(), &Spared::None).await.unwrap_err();
            assert_eq!(failed.kind(), ErrorKind::Unavailable);
            for key in &keys {
                assert_eq!(objects.load(key).await.unwrap(), None);
            }
        });
    }

    /// Its end has been asked for, and its object gave no answer.
    #[test]
    fn who_is_to_end_and_has_not_yet_ends_nobody_either() {
        let objects = InMemory::new();
        let keys = [(); 2].map(|()| SessionId::random(&objects.platform).unwrap().record_key());
        let ((thief, record), (ada, hers)) = (signed_in(&objects, "ada"), signed_in(&objects, "ada"));
        block_on(async {
            assert_eq!(objects.create_for(&thief, &keys[0], &record).await.unwrap(), Updated::Done);
            assert_eq!(objects.create_for(&ada, &keys[1], &hers).await.unwrap(), Updated::Done);
            *objects.failing.borrow_mut() = Some((keys[0].clone(), ErrorKind::Unavailable));
            objects.end(&ada.user, &thief.handle).await.unwrap_err();
            *objects.failing.borrow_mut() = None;
            let spared = Spared::Session(thief.clone(), keys[0].clone());
            let refused = objects.end_all(&ada.user, objects.milliseconds(), &spared).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Ended);
            assert!(objects.load(&keys[1]).await.unwrap().is_some());
        });
    }
}
