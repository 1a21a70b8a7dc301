//! What of a session is to be stored, when its handler asks for it and when it is done, and what became of that.

use std::future::Future;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Asked, Cookie, Intent, NOTHING, Progress, Session, State};
use crate::backing::{Loaded, Retiring};
use crate::cookie::SignedId;
use crate::log::Event;
use crate::sign_in::{self, LONGEST_COOKIE, SignIn};
use crate::{Effect, Error, ErrorKind, Extensions, Record, RecordKey, SessionHandle, SessionId, Updated};

/// For how many seconds an old id is a straggler's after [`Session::cycle_id`], and not a thief's: as long as the
/// requests of one page may be late.
const GRACE: u64 = 30;

/// For how many seconds a retired record stays at the most that keeps data from before a sign-in: a day.
const KEPT_FOR: u64 = 24 * 60 * 60;

impl<T: Serialize + DeserializeOwned> Session<T> {
    /// Stores what is due when the handler is done, and says what was done altogether.
    pub(crate) async fn commit_at_the_end(&mut self) -> Result<(), Error> {
        self.log_ignored();
        self.commit(Asked::AtTheEnd).await?;
        // The reply says that they are signed in.
        if self.signing_in.is_some() && self.intent != Intent::End {
            return Err(if self.progress == Progress::Unsure { unsure() } else { Error::ended() });
        }
        self.renew_cookie().await;
        Ok(())
    }

    /// Looks whether the session is still there, where its cookie is to be sent again for that.
    async fn renew_cookie(&mut self) {
        let State::Stored { key, cookie, .. } = &mut self.state else { return };
        if *cookie == Cookie::Noted && matches!(self.backing.load(key).await, Ok(Loaded::Live(_))) {
            *cookie = Cookie::Due;
        }
    }

    /// Stores what is due. `Dropped` where that was nothing, since the session has ended; `Contended` when another
    /// request stored its version first.
    pub(super) async fn commit(&mut self, asked: Asked) -> Result<Effect, Error> {
        let committed = self.store_what_is_due(asked).await;
        match &committed {
            Ok(_) => self.backing.at_rest(),
            Err(error) if error.kind() == ErrorKind::Contended => {}
            // A handler that ignores it may lose other races.
            Err(_) => self.backing.stop_waiting(),
        }
        committed
    }

    async fn store_what_is_due(&mut self, asked: Asked) -> Result<Effect, Error> {
        self.asked = asked;
        let now = self.backing.platform.now();
        let changed = self.changed(asked == Asked::BySave);
        let changes_nothing = asked == Asked::AtTheEnd
            && self.intent == Intent::Keep
            && self.label.is_none()
            && matches!(changed, Ok(None));
        // A session can be ended twice, and after whatever went wrong.
        if self.intent == Intent::End {
            return self.delete().await;
        }
        match (self.progress, asked) {
            (Progress::Open | Progress::Saved, _) => {}
            (Progress::Unsure, Asked::AtTheEnd) => return Ok(Effect::Nothing),
            (Progress::Untold, Asked::AtTheEnd) => return Err(unsure()),
            (Progress::Unsure | Progress::Untold, Asked::ByUpdate | Asked::BySave) => {
                self.progress = Progress::Unsure;
                return Err(unsure());
            }
        }
        let is_over = self.has_run_out(now) && (changes_nothing || self.has_expired().await?);
        match &self.state {
            // Where nothing was changed, nothing is dropped.
            _ if (is_over || self.has_ended()) && changes_nothing => Ok(Effect::Nothing),
            _ if is_over => Ok(self.end()),
            _ if self.has_ended() => Ok(self.drop_changes()),
            State::Stored { key, record, cookie, .. } => {
                let touch = self.backing.parameters.touch_is_due(record, now, self.notes_use_after(*cookie));
                let ip = record.ip.as_ref().or(self.ip());
                let binds = ip.is_some() && record.ip.is_none();
                let changed = changed?;
                let moves = self.intent == Intent::NewId;
                let words = self.words(&record.extensions)?;
                let is_changed = changed.is_some() || words.is_some();
                if !is_changed && !moves && !binds && !touch {
                    return Ok(Effect::Nothing);
                }
                let mut next = record.clone();
                if touch {
                    next.touched_at = now;
                    // Never shortened: a release with a longer timeout may answer beside this one, which goes by its own
                    // timeout in any case.
                    next.expires_at = self.backing.parameters.expires_at(record, now).max(record.expires_at);
                }
                let key = key.clone();
                if !is_changed && !moves && !binds {
                    return Ok(self.note(&key, next, asked).await);
                }
                let mut next = Record {
                    version: record.version.saturating_add(1),
                    nonce: self.backing.nonce()?,
                    ip: ip.cloned(),
                    extensions: words.unwrap_or(next.extensions),
                    data: match changed {
                        Some(data) => self.storable(data)?,
                        None => next.data,
                    },
                    ..next
                };
                if self.signing_in.is_some() {
                    next.touched_at = now;
                    next.expires_at = self.backing.parameters.expires_at(&next, now);
                }
                match (moves, is_changed) {
                    (true, _) => self.move_to_new_id(key, next).await,
                    (false, true) => self.replace(&key, next, asked).await,
                    (false, false) => Ok(self.note(&key, next, asked).await),
                }
            }
            State::New { .. } | State::Retired { .. } | State::Ended { .. } => match changed? {
                Some(data) => self.create(data, now).await,
                None if asked == Asked::BySave || self.signing_in.is_some() => {
                    self.create(to_json(&self.data)?, now).await
                }
                None => Ok(Effect::Nothing),
            },
        }
    }

    /// So many seconds after a use was noted another one is. A note of use renews a cookie that ends: browsers keep none for long,
    /// and a request without a reply leaves it for a while to one that has a reply.
    fn notes_use_after(&self, cookie: Cookie) -> u64 {
        let parameters = &self.backing.parameters;
        let usual = parameters.notes_use_after();
        match cookie {
            Cookie::Known => usual,
            _ if self.arrival().has_reply => usual.min(LONGEST_COOKIE / 10),
            _ => usual.saturating_mul(2).min(parameters.timeout / 2).max(usual),
        }
    }

    /// Whether nothing of it can be stored any more. One who came late with a retired id can begin a session of their own.
    pub(super) fn has_ended(&self) -> bool {
        match self.state {
            State::Ended { .. } => true,
            State::Retired { .. } => self.intent != Intent::NewId,
            State::New { .. } | State::Stored { .. } => false,
        }
    }

    /// What its record is to note beside its data, whose it is and what it is called, if that is something else than before.
    fn words(&self, before: &Extensions) -> Result<Option<Extensions>, Error> {
        if self.signing_in.is_none() && self.label.is_none() {
            return Ok(None);
        }
        let mut words = before.clone();
        if let Some(sign_in) = &self.signing_in {
            let is_anothers = self.signed_in.as_ref().map_or(self.is_somebodys(), |before| before.user != sign_in.user);
            if is_anothers {
                sign_in::set_label(&mut words, "")?;
            }
            sign_in.note_in(&mut words)?;
        }
        if let Some(label) = self.label.as_ref().filter(|_| self.sign_in_by_now().is_some()) {
            sign_in::set_label(&mut words, label)?;
        }
        Ok(Some(words).filter(|words| words != before))
    }

    /// Whether its time is over, as far as this request knows, which is a use of it as it began.
    fn has_run_out(&self, now: u64) -> bool {
        let State::Stored { record, .. } = &self.state else { return false };
        let used_at = record.touched_at.max(self.backing.arrival.began_at / 1000);
        now >= self.backing.parameters.expires_at(record, used_at)
    }

    /// Whether it has ended where its time is over: another request may have noted a use. Where that has stored its own as well, the
    /// race is lost.
    async fn has_expired(&mut self) -> Result<bool, Error> {
        let State::Stored { key, .. } = &self.state else { return Ok(false) };
        let (backing, key) = (Rc::clone(&self.backing), key.clone());
        // As a write: who is told that it failed is told so of all that follows.
        let Loaded::Live(there) = self.written(backing.load(&key)).await? else { return Ok(true) };
        let State::Stored { record, .. } = &mut self.state else { return Ok(false) };
        if !there.is_same_write(record) {
            return Err(self.backing.lost(Some(Box::new(there))));
        }
        *record = there;
        Ok(false)
    }

    /// The data's JSON, if it was changed since it was loaded or saved. What was not borrowed mutably has changed only
    /// inside a `Cell`, for which it is looked if that is `thorough`.
    pub(super) fn changed(&self, thorough: bool) -> Result<Option<String>, Error> {
        let is_same = |data: &String| match (&self.unchanged, &self.state) {
            (Some(unchanged), _) if data != unchanged => false,
            (_, State::Stored { record, .. }) if thorough => *data == record.data || Self::reads_as(&record.data, data),
            (unchanged, _) => unchanged.is_some(),
        };
        if self.unchanged.is_none() && !thorough {
            return Ok(None);
        }
        let data = to_json(&self.data)?;
        Ok((!is_same(&data)).then_some(data))
    }

    /// Whether what is stored is this data, in the words of another release.
    fn reads_as(stored: &str, data: &str) -> bool {
        serde_json::from_str::<T>(stored).is_ok_and(|stored| to_json(&stored).is_ok_and(|stored| stored == data))
    }

    /// The data's JSON, if it may be stored: not too large, and known to be readable again.
    fn storable(&self, data: String) -> Result<String, Error> {
        let most = self.backing.parameters.max_data;
        if data.len() as u64 > most {
            let message = format_args!(
                "the session's data has {} bytes as JSON, more than `max_data` = {most} allows; \
                 it was not saved",
                data.len()
            );
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        serde_json::from_str::<T>(&data).map_err(|error| Error::data_would_be_lost(&error))?;
        Ok(data)
    }

    async fn create(&mut self, data: String, now: u64) -> Result<Effect, Error> {
        let mut record = Record {
            version: 1,
            // As it is stored, it gets one.
            nonce: 0,
            created_at: now,
            touched_at: now,
            expires_at: now,
            ip: self.ip().cloned(),
            successor: None,
            extensions: self.words(&Extensions::default())?.unwrap_or_default(),
            data: self.storable(data)?,
        };
        record.expires_at = self.backing.parameters.expires_at(&record, now);
        let (backing, sign_in) = (Rc::clone(&self.backing), self.signing_in.clone());
        let untold = backing.untold.borrow().clone();
        let stored = backing.store_under_new_id(&mut record, None, sign_in.as_ref());
        let (updated, id, key) = self.written(stored).await?;
        if updated == Updated::Done {
            return Ok(self.stored_as(id, key, record, Effect::Created));
        }
        backing.untold.replace(untold);
        self.state = State::Ended { key: self.known_by().cloned() };
        Ok(self.drop_changes())
    }

    async fn replace(&mut self, key: &RecordKey, next: Record, asked: Asked) -> Result<Effect, Error> {
        let backing = Rc::clone(&self.backing);
        if self.may_run_again() && backing.gives_way(key) {
            return Err(backing.lost(None));
        }
        let write = async {
            match asked {
                Asked::AtTheEnd => backing.update_behind(key, &next).await,
                Asked::ByUpdate | Asked::BySave => backing.update(key, &next).await,
            }
        };
        match self.written(write).await? {
            Updated::Done => {
                backing.queues.stored(key, &next, backing.platform.milliseconds());
                self.replaced_by(next);
                self.unchanged = None;
                self.label = None;
                self.effect = Effect::Saved;
                Ok(self.effect)
            }
            Updated::Stale(newer) => Err(backing.lost(newer)),
            Updated::Gone => Ok(self.end()),
        }
    }

    /// Notes the use, or the address that it is bound to by it, of a session that nothing else was done to. It fails no request.
    async fn note(&mut self, key: &RecordKey, mut next: Record, asked: Asked) -> Effect {
        let State::Stored { record, .. } = &self.state else { return self.effect };
        // A note of use makes no new version.
        let noted = if next.version == record.version {
            self.backing.touch(key, &next).await
        } else {
            self.backing.bind(key, record, &mut next).await
        };
        match noted {
            Ok(Updated::Gone) => return self.found_gone(asked),
            // A newer version that it gave way to is a session that is there.
            Ok(Updated::Stale(_)) => self.note_found(asked),
            Ok(Updated::Done) => {
                self.replaced_by(next);
                self.note_found(asked);
                if self.effect == Effect::Nothing {
                    self.effect = Effect::Touched;
                }
            }
            Err(error) => {
                let sentence = format_args!("the use of {key:?} was not noted: {error}");
                self.backing.log(Event::TouchFailed, sentence);
            }
        }
        self.effect
    }

    /// A note found that the session has ended: whose handler asked is told so, and at the end nothing is dropped.
    fn found_gone(&mut self, asked: Asked) -> Effect {
        if asked == Asked::AtTheEnd { self.effect } else { self.end() }
    }

    /// The store has this version now.
    fn replaced_by(&mut self, next: Record) {
        if let State::Stored { record, cookie, .. } = &mut self.state {
            if *cookie == Cookie::Ageing && next.touched_at > record.touched_at {
                *cookie = Cookie::Noted;
            }
            let before = std::mem::replace(record, next);
            self.loaded.get_or_insert(before.data);
        }
    }

    /// A touch found the session there: after the handler, that decides about its cookie.
    fn note_found(&mut self, asked: Asked) {
        if let State::Stored { cookie: cookie @ (Cookie::Ageing | Cookie::Noted), .. } = &mut self.state {
            *cookie = if asked == Asked::AtTheEnd { Cookie::Due } else { Cookie::Noted };
        }
    }

    async fn move_to_new_id(&mut self, old: RecordKey, next: Record) -> Result<Effect, Error> {
        let mut moved = Record { version: 1, ..next.clone() };
        let now = self.backing.platform.now();
        let before = match &self.state {
            // Not of one that is bound to an address: an earlier release asks nobody for theirs who comes with the old id.
            State::Stored { record, .. }
                if self.signing_in.is_some() && !SignIn::is_noted_in(record) && next.ip.is_none() =>
            {
                self.loaded.as_deref().unwrap_or(&record.data)
            }
            // The data has moved; a copy of it would outlive a logout.
            _ => NOTHING,
        };
        let kept_until = now.saturating_add(KEPT_FOR);
        let retired = Record {
            expires_at: if before == NOTHING { next.expires_at } else { next.expires_at.min(kept_until) },
            extensions: Extensions::default(),
            data: before.to_owned(),
            ..next
        };
        let retiring = Retiring { key: &old, retired, until: now.saturating_add(GRACE) };
        let (backing, sign_in) = (Rc::clone(&self.backing), self.signing_in.clone());
        let untold = backing.untold.borrow().clone();
        let stored = backing.store_under_new_id(&mut moved, Some(retiring), sign_in.as_ref());
        let refused = match self.written(stored).await? {
            (Updated::Done, id, key) => return Ok(self.stored_as(id, key, moved, Effect::Moved)),
            (Updated::Stale(newer), ..) => Err(backing.lost(newer)),
            (Updated::Gone, ..) => Ok(self.end()),
        };
        backing.untold.replace(untold);
        refused
    }

    fn stored_as(&mut self, id: SessionId, key: RecordKey, record: Record, effect: Effect) -> Effect {
        self.signed_in = SignIn::of(&record);
        (self.signing_in, self.label, self.loaded) = (None, None, None);
        let is_used = |next: &SessionHandle| self.signed_in.as_ref().is_some_and(|sign_in| sign_in.handle == *next);
        self.backing.next_handle.borrow_mut().take_if(|next| is_used(next));
        self.backing.untold.replace(Some(key.clone()));
        self.signed = Some(SignedId { id: id.clone(), key: key.clone(), is_current: true });
        self.state = State::Stored { id, key, record, cookie: Cookie::Due };
        // A session that has just begun has a new id.
        self.intent = Intent::Keep;
        self.unchanged = None;
        self.effect = effect;
        effect
    }

    /// Awaits a write. One that failed may have been stored all the same, and so may one that is dropped while it is under
    /// way, by a handler that waits for something else as well.
    async fn written<R>(&mut self, write: impl Future<Output = Result<R, Error>>) -> Result<R, Error> {
        let before = self.progress;
        self.progress = Progress::Untold;
        let result = write.await;
        self.progress = match (&result, self.asked) {
            (Ok(_), _) => before,
            (Err(_), Asked::ByUpdate | Asked::BySave) => Progress::Unsure,
            (Err(_), Asked::AtTheEnd) => Progress::Untold,
        };
        result
    }

    /// Another request killed the session, or changed its id.
    fn end(&mut self) -> Effect {
        let effect = self.drop_changes();
        if let State::Stored { key, .. } | State::Retired { key, .. } = &self.state {
            self.backing.is_told(key);
            self.state = State::Ended { key: Some(key.clone()) };
        }
        effect
    }

    /// Says that nothing is stored of what this request changed.
    pub(super) fn drop_changes(&mut self) -> Effect {
        if let State::Stored { key, .. } | State::Retired { key, .. } | State::Ended { key: Some(key) } = &self.state
            && self.effect != Effect::Dropped
        {
            self.backing.log(
                Event::ChangesDropped,
                format_args!(
                    "{key:?} ended while a request was in flight, or is another address's by now; \
                     the request's changes are dropped"
                ),
            );
        }
        self.effect = Effect::Dropped;
        self.effect
    }

    /// What a logout ends, if anything.
    fn known_by(&self) -> Option<&RecordKey> {
        match &self.state {
            State::New { presented: key } | State::Ended { key } => key.as_ref(),
            State::Stored { key, .. } | State::Retired { key, .. } => Some(key),
        }
    }

    /// Deletes what the visitor's cookie leads to, also when it could not be read.
    async fn delete(&mut self) -> Result<Effect, Error> {
        if let Some(key) = self.known_by() {
            let done = self.backing.kill(key).await?;
            self.effect = if done == Effect::Dropped { self.drop_changes() } else { done };
        }
        self.state = State::Ended { key: None };
        Ok(self.effect)
    }

    /// Takes the data that another request stored.
    pub(super) async fn reload(&mut self) -> Result<(), Error> {
        let State::Stored { key, record, .. } = &mut self.state else { return Ok(()) };
        match self.backing.load_again(key, record.version).await? {
            // Bound since this request loaded it.
            Loaded::Live(newer) if !self.backing.admits(newer.ip.as_ref()) => {
                self.end();
            }
            Loaded::Live(newer) => {
                match serde_json::from_str(&newer.data) {
                    Ok(data) => self.data = data,
                    // Perhaps a later release's, and not to be overwritten.
                    Err(error) => {
                        let error = Error::unreadable(format_args!("{key:?}: {}", Error::data_unreadable(&error)));
                        self.effect = Effect::Dropped;
                        self.state = State::Ended { key: Some(key.clone()) };
                        return Err(error);
                    }
                }
                (self.unchanged, self.loaded) = (None, None);
                *record = newer;
            }
            Loaded::Retired { .. } | Loaded::Former | Loaded::Absent | Loaded::Unreadable => {
                self.end();
            }
        }
        Ok(())
    }
}

pub(super) fn to_json(data: &impl Serialize) -> Result<String, Error> {
    // serde's own message may quote the data.
    serde_json::to_string(data).map_err(|_| {
        Error::new(
            ErrorKind::Unserializable,
            "the session's data has no JSON form: a map has keys that are no texts or numbers, or a value's own \
             `Serialize` failed",
        )
    })
}

/// For a commit after one that may have been stored although it failed.
pub(crate) fn unsure() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "an earlier write of this request failed, or was not waited for, and may have been stored; this one was not tried, so that nothing is done twice",
    )
}
