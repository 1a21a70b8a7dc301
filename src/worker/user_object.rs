//! What a user's object does: it keeps the [list](UserList) of the user's sessions, each of which has an object of its own. A
//! session is noted in the list before it is there, and confirmed when it is; whoever confirms one that is to end ends it.

use super::js;
use super::object::{DONE, GONE, NONE, ObjectStore, failed, parts};
use super::platform::WorkerPlatform;
use crate::sign_in::SignIn;
use crate::store::user_list::{Entry, Moving, UserList};
use crate::{Claim, Error, Platform, Record, RecordKey, SessionHandle, Store, Updated, UserKey, UserStore};

/// What is asked of it.
const REGISTER: &str = "register";
const MOVE: &str = "move";
const CONFIRM: &str = "confirm";
const LIST: &str = "list";
const REVOKE: &str = "revoke";
const CONDEMN: &str = "condemn";
const FORGET: &str = "forget";

/// As many as one request can end, whose Worker may make 50 calls on the free plan.
const MOST_SESSIONS: u64 = 32;

/// A session that is not there is about to be, if it was noted less than so many milliseconds ago.
const IN_THE_MAKING: u64 = 60_000;

impl ObjectStore {
    async fn ask_user(&self, user: &UserKey, act: &str, words: &[&str]) -> Result<String, Error> {
        let name = user.as_str();
        Ok(self.ask_object(&format!("user:{name}"), act, &format!("{name} {}", words.join(" "))).await?.answer)
    }

    /// The keys that it answers.
    async fn keys(&self, user: &UserKey, act: &str, words: &[&str]) -> Result<Vec<RecordKey>, Error> {
        let answer = self.ask_user(user, act, words).await?;
        match parts(&answer) {
            (DONE, keys) => Ok(keys.split(' ').filter_map(RecordKey::from_stored).collect()),
            (other, _) => Err(failed(other)),
        }
    }

    /// Whether the user's list says that this may be, or is.
    async fn is_listed(&self, user: &UserKey, act: &str, words: &[&str]) -> Result<bool, Error> {
        match parts(&self.ask_user(user, act, words).await?).0 {
            DONE => Ok(true),
            GONE => Ok(false),
            other => Err(failed(other)),
        }
    }

    /// Whether a session that is there now is still the user's; otherwise it is ended.
    async fn confirmed(&self, user: &UserKey, key: &RecordKey, before: Option<&RecordKey>) -> Result<Updated, Error> {
        let before = before.map_or(NONE, RecordKey::as_str);
        if self.is_listed(user, CONFIRM, &[key.as_str(), before]).await? {
            return Ok(Updated::Done);
        }
        self.delete(key).await?;
        Ok(Updated::Gone)
    }

    async fn forget(&self, user: &UserKey, keys: &[RecordKey]) -> Result<(), Error> {
        let keys: Vec<_> = keys.iter().map(RecordKey::as_str).collect();
        self.ask_user(user, FORGET, &keys).await.map(|_| ())
    }

    /// Ends the sessions of these keys, wherever they went, and takes them off the list. How many there were.
    async fn end(&self, user: &UserKey, keys: &[RecordKey]) -> Result<u64, Error> {
        let mut ended: u64 = 0;
        for key in keys {
            let mut next = Some(key.clone());
            while let Some(key) = next {
                let found = self.deleted(&key).await?;
                ended = ended.saturating_add(u64::from(found.was_there));
                next = found.successor.map(|successor| successor.key);
            }
        }
        if !keys.is_empty() {
            self.forget(user, keys).await?;
        }
        Ok(ended)
    }

    /// A change of id of a session that is somebody's: its new key is on the list before its old one is retired.
    pub(super) async fn change_id_of(
        &self,
        sign_in: &SignIn,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &Record,
    ) -> Result<Updated, Error> {
        let user = UserKey::of(&sign_in.user);
        let at = sign_in.at.to_string();
        let words = [from.as_str(), to.as_str(), sign_in.handle.as_str(), &at];
        if !self.is_listed(&user, MOVE, &words).await? {
            return Ok(Updated::Gone);
        }
        match self.move_record(from, retired, to, moved).await? {
            Updated::Done => self.confirmed(&user, to, Some(from)).await,
            other => {
                self.forget(&user, std::slice::from_ref(to)).await?;
                Ok(other)
            }
        }
    }
}

impl UserStore for ObjectStore {
    async fn create_for(&self, claim: &Claim, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        if !self.is_listed(&claim.user, REGISTER, &claimed(claim, key, &claim.began_at.to_string())).await? {
            return Ok(Updated::Gone);
        }
        self.create(key, record).await?;
        self.confirmed(&claim.user, key, None).await
    }

    async fn change_id_for(
        &self,
        claim: &Claim,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        if !self.is_listed(&claim.user, REGISTER, &claimed(claim, to, &claim.began_at.to_string())).await? {
            return Ok(Updated::Gone);
        }
        match self.move_record(from, retired, to, moved).await? {
            Updated::Done => self.confirmed(&claim.user, to, Some(from)).await,
            other => {
                self.forget(&claim.user, std::slice::from_ref(to)).await?;
                Ok(other)
            }
        }
    }

    async fn list(&self, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error> {
        let answer = self.ask_user(user, LIST, &[]).await?;
        let (DONE, entries) = parts(&answer) else { return Err(failed(&answer)) };
        let now = WorkerPlatform.milliseconds();
        let (mut listed, mut ended) = (Vec::new(), Vec::new());
        for entry in entries.lines().filter_map(Entry::from_text) {
            match self.load(&entry.key).await {
                Ok(Some(record)) if record.successor.is_none() => listed.push((entry.key, record)),
                Err(error) if error.kind() != crate::ErrorKind::Unreadable => return Err(error),
                _ if now < entry.noted_at.saturating_add(IN_THE_MAKING) => {}
                Ok(_) => ended.push(entry.key),
                // Perhaps a later release's.
                Err(_) => {}
            }
        }
        if !ended.is_empty() {
            self.forget(user, &ended).await?;
        }
        Ok(listed)
    }

    async fn end_all(&self, user: &UserKey, now: u64, spared: Option<&SessionHandle>) -> Result<u64, Error> {
        let spared = spared.map_or(NONE, SessionHandle::as_str);
        let keys = self.keys(user, REVOKE, &[&now.to_string(), spared]).await?;
        self.end(user, &keys).await
    }

    /// The list has those that ended by themselves, too: so it is looked at only where it is too long.
    async fn end_oldest(&self, claim: &Claim, most: u64) -> Result<u64, Error> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let answer = self.ask_user(&claim.user, LIST, &[]).await?;
        if parts(&answer).1.lines().count() <= most {
            return Ok(0);
        }
        let mut listed = self.list(&claim.user).await?;
        let is_claimed = |record: &Record| SessionHandle::of_record(record).as_ref() == Some(&claim.handle);
        listed.sort_by_key(|(_, record)| (is_claimed(record), record.created_at));
        listed.truncate(listed.len().saturating_sub(most));
        if listed.is_empty() {
            return Ok(0);
        }
        let oldest: Vec<_> = listed.iter().map(|(key, _)| key.as_str()).collect();
        let keys = self.keys(&claim.user, CONDEMN, &oldest).await?;
        self.end(&claim.user, &keys).await
    }

    fn max_sessions(&self) -> Option<u64> {
        Some(MOST_SESSIONS)
    }
}

fn claimed<'a>(claim: &'a Claim, key: &'a RecordKey, began_at: &'a str) -> [&'a str; 3] {
    [key.as_str(), claim.handle.as_str(), began_at]
}

/// What a user's object answers, and what it keeps from then on. `None` for what it does not understand.
pub(super) fn answer(list: &mut UserList, act: &str, words: &str) -> Option<String> {
    let now = js::milliseconds();
    let mut words = words.split(' ');
    let user = UserKey::from_stored(words.next()?)?;
    let mut word = || words.next();
    let verdict = |is_right| Some(if is_right { DONE } else { GONE }.to_owned());
    let with_keys = |keys: Vec<RecordKey>| {
        let keys: Vec<_> = keys.iter().map(RecordKey::as_str).collect();
        Some(format!("{DONE}\n{}", keys.join(" ")))
    };
    match act {
        REGISTER => {
            let key = RecordKey::from_stored(word()?)?;
            let handle = SessionHandle::from_text(word()?)?;
            verdict(list.register(&Claim::new(user, handle, word()?.parse().ok()?), &key, now))
        }
        MOVE => {
            let (from, to) = (RecordKey::from_stored(word()?)?, RecordKey::from_stored(word()?)?);
            let handle = SessionHandle::from_text(word()?)?;
            verdict(list.register_move(&Moving { from, handle, signed_in_at: word()?.parse().ok()? }, &to, now))
        }
        CONFIRM => {
            let key = RecordKey::from_stored(word()?)?;
            verdict(list.confirm(&key, word().and_then(RecordKey::from_stored).as_ref()))
        }
        LIST => {
            let entries: Vec<_> = list.listed().map(Entry::to_text).collect();
            Some(format!("{DONE}\n{}", entries.join("\n")))
        }
        REVOKE => {
            let at = word()?.parse().ok()?;
            with_keys(list.revoke(at, word().and_then(SessionHandle::from_text).as_ref()))
        }
        CONDEMN => {
            let these: Vec<_> = words.filter_map(RecordKey::from_stored).collect();
            with_keys(list.condemn(|entry| these.contains(&entry.key)))
        }
        FORGET => {
            let these: Vec<_> = words.filter_map(RecordKey::from_stored).collect();
            list.forget(&these);
            verdict(true)
        }
        _ => None,
    }
}
