//! The list of one user's sessions, as the user's object keeps it: which there are, and which are to end. The sessions' own
//! objects stay the authority on everything else. Plain data, and its form as text.

use crate::store::users::{Claim, Revocation};
use crate::{RecordKey, SessionHandle};

/// What a user's object keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UserList {
    revocation: Option<Revocation>,
    entries: Vec<Entry>,
}

/// One session of theirs, by the key that its object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: RecordKey,
    pub(crate) handle: SessionHandle,
    /// When this key was noted, or its end was, in milliseconds since 1970 UTC.
    pub(crate) noted_at: u64,
    state: State,
    /// When it was signed in, in milliseconds since 1970 UTC, whatever its key was then.
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It is theirs, or about to be.
    Listed,
    /// It is to end: whoever is about to make it theirs has to end it.
    Condemned,
    /// It has ended a moment ago: a request of its own may not know that yet.
    Ended,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Condemned => "condemned",
            Self::Ended => "ended",
        }
    }

    /// What another release calls otherwise is to end.
    fn from_text(text: &str) -> Self {
        [Self::Listed, Self::Ended].into_iter().find(|state| state.as_str() == text).unwrap_or(Self::Condemned)
    }
}

/// For how many milliseconds it is known that a session has ended: for longer than a request takes that finds it alive, and then
/// asks to end others.
const ENDED_FOR: u64 = 60_000;

/// What a change of id says of the session whose id it changes.
pub(crate) struct Moving {
    pub(crate) from: RecordKey,
    pub(crate) handle: SessionHandle,
    /// When its user was signed in, in seconds since 1970 UTC.
    pub(crate) signed_in_at: u64,
}

/// The first word of the stored form. A later release may write another, and must read this one.
const FORMAT: &str = "edge-session-user/1";

/// Stands for what is not there.
const NONE: &str = "-";

impl UserList {
    /// Notes a session that is about to be theirs by a sign-in, in place of what it was noted as by attempts without an answer. Whether
    /// it may be.
    pub(crate) fn register(&mut self, claim: &Claim, key: &RecordKey, now: u64) -> bool {
        if self.revocation.as_ref().is_some_and(|revocation| revocation.refuses(claim)) {
            return false;
        }
        let is_noted = self.note(key, &claim.handle, now, now);
        if is_noted {
            self.forget(&claim.lost, now);
        }
        is_noted
    }

    /// Notes the new key of a session that is theirs. Whether it may have one: not if it is to end.
    pub(crate) fn register_move(&mut self, moving: &Moving, key: &RecordKey, now: u64) -> bool {
        let since = self.entry(&moving.from).map_or(moving.signed_in_at.saturating_mul(1000), |entry| entry.since);
        let ends = match self.entry(&moving.from) {
            Some(entry) => entry.state != State::Listed,
            // It has ended, or the list is younger than the session.
            None => self.revocation.as_ref().is_some_and(|revocation| {
                moving.signed_in_at.saturating_mul(1000) <= revocation.at
                    && revocation.spared.as_ref() != Some(&moving.handle)
            }),
        };
        // Its record is still to be made, and who looks at the list meanwhile leaves it there.
        !ends && self.note(key, &moving.handle, since, now)
    }

    /// Also a second time, when the first answer was lost. Not what is to end, or has ended, by any of its keys.
    fn note(&mut self, key: &RecordKey, handle: &SessionHandle, since: u64, now: u64) -> bool {
        if self.entries.iter().any(|entry| entry.handle == *handle && entry.state != State::Listed) {
            return false;
        }
        if self.entry(key).is_some() {
            return true;
        }
        let handle = handle.clone();
        self.entries.push(Entry { key: key.clone(), handle, noted_at: now, state: State::Listed, since });
        true
    }

    /// The session is there. Whether it is still theirs. The key that it had `before` is no more, and where that was on the list
    /// until now, what else was noted for the session was for changes of its id that came to nothing. (Otherwise this is said
    /// late, or twice.)
    pub(crate) fn confirm(&mut self, key: &RecordKey, before: Option<&RecordKey>, now: u64) -> bool {
        let is_listed = |key: &RecordKey| self.entry(key).filter(|entry| entry.state == State::Listed);
        let handle = is_listed(key).map(|entry| entry.handle.clone());
        let (Some(handle), Some(before)) = (&handle, before) else { return handle.is_some() };
        if is_listed(before).is_some() {
            let others = self.listed().filter(|entry| entry.handle == *handle && entry.key != *key);
            let gone: Vec<_> = others.map(|entry| entry.key.clone()).chain([before.clone()]).collect();
            self.forget(&gone, now);
        }
        true
    }

    /// All that may be alive, also those that are to end.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.state != State::Ended)
    }

    /// Those that are theirs.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.state == State::Listed)
    }

    /// Those that are to end: now all but the one that is spared, under each of its keys. `None` if that may spare nothing,
    /// since it is itself to end, or has ended.
    pub(crate) fn revoke(&mut self, now: u64, spared: Option<&Claim>) -> Option<Vec<&Entry>> {
        let spared_handle = spared.map(|claim| &claim.handle);
        let ends = |entry: &Entry| entry.state != State::Listed && Some(&entry.handle) == spared_handle;
        if self.entries.iter().any(ends) {
            return None;
        }
        self.revocation = Some(Revocation::then(self.revocation.as_ref(), now, spared)?);
        Some(self.condemn(|entry| Some(&entry.handle) != spared_handle))
    }

    /// Those that are to end: now also the oldest of the sessions that are alive by one of their entries, but so many. A session that is
    /// being signed in again has two, and is as new as the newer one.
    pub(crate) fn condemn_oldest(&mut self, most: usize, is_alive: impl Fn(&Entry) -> bool) -> Vec<&Entry> {
        let mut listed: Vec<&Entry> = Vec::new();
        for entry in self.listed() {
            match listed.iter_mut().find(|other| other.handle == entry.handle) {
                Some(other) if other.since < entry.since => *other = entry,
                Some(_) => {}
                None => listed.push(entry),
            }
        }
        listed.retain(|one| self.listed().any(|entry| entry.handle == one.handle && is_alive(entry)));
        // Those of the same time are in the order in which they were noted.
        listed.sort_by_key(|entry| entry.since);
        listed.truncate(listed.len().saturating_sub(most));
        let oldest: Vec<_> = listed.into_iter().map(|entry| entry.handle.clone()).collect();
        self.condemn(|entry| oldest.contains(&entry.handle))
    }

    /// The one of this handle is to end now, under each of its keys, which it gives.
    pub(crate) fn condemn_one(&mut self, handle: &SessionHandle) -> Vec<&Entry> {
        self.condemn(|entry| entry.handle == *handle);
        self.all().filter(|entry| entry.handle == *handle).collect()
    }

    /// Whether it has no session on it.
    pub(crate) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// Those that are to end, these among them.
    fn condemn(&mut self, is_one: impl Fn(&Entry) -> bool) -> Vec<&Entry> {
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Listed && is_one(entry)) {
            entry.state = State::Condemned;
        }
        self.entries.iter().filter(|entry| entry.is_to_end()).collect()
    }

    /// They are no more: those that were to end have ended.
    pub(crate) fn forget(&mut self, keys: &[RecordKey], now: u64) {
        let is_one = |entry: &Entry| keys.contains(&entry.key);
        self.entries.retain(|entry| match entry.state {
            State::Listed => !is_one(entry),
            State::Condemned => true,
            State::Ended => now < entry.noted_at.saturating_add(ENDED_FOR),
        });
        for entry in self.entries.iter_mut().filter(|entry| entry.state == State::Condemned && is_one(entry)) {
            (entry.state, entry.noted_at) = (State::Ended, now);
        }
    }

    fn entry(&self, key: &RecordKey) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == *key)
    }

    /// A line with the revocation, and one for each entry.
    pub(crate) fn to_text(&self) -> String {
        let spared = |revocation: &Revocation| {
            revocation.spared.as_ref().map_or_else(|| NONE.to_owned(), |spared| spared.as_str().to_owned())
        };
        let mut text = match &self.revocation {
            Some(revocation) => format!("{FORMAT} {} {}", revocation.at, spared(revocation)),
            None => format!("{FORMAT} {NONE} {NONE}"),
        };
        for entry in &self.entries {
            text.push('\n');
            text += &entry.to_text();
        }
        text
    }

    /// What [`to_text`](Self::to_text) wrote; `None` for anything else.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let mut lines = text.split('\n');
        let mut words = lines.next()?.split(' ');
        if words.next() != Some(FORMAT) {
            return None;
        }
        let (at, spared) = (words.next()?, words.next()?);
        let revocation = match at {
            NONE => None,
            at => {
                let spared = if spared == NONE { None } else { Some(SessionHandle::from_text(spared)?) };
                Some(Revocation { at: at.parse().ok()?, spared })
            }
        };
        let entries = lines.map(Entry::from_text).collect::<Option<_>>()?;
        Some(Self { revocation, entries })
    }
}

impl Entry {
    pub(crate) fn is_to_end(&self) -> bool {
        self.state == State::Condemned
    }

    pub(crate) fn to_text(&self) -> String {
        let Self { key, handle, noted_at, state, since } = self;
        format!("{} {handle} {noted_at} {} {since}", key.as_str(), state.as_str())
    }

    pub(crate) fn from_text(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (key, handle) = (RecordKey::from_stored(words.next()?)?, SessionHandle::from_text(words.next()?)?);
        let noted_at = words.next()?.parse().ok()?;
        let state = State::from_text(words.next()?);
        // An earlier release had one time for both.
        let since = words.next().map_or(Some(noted_at), |since| since.parse().ok())?;
        Some(Self { key, handle, noted_at, state, since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Platform, SessionId, TestPlatform, UserKey};

    fn key(platform: &TestPlatform) -> RecordKey {
        SessionId::random(platform).unwrap().record_key()
    }

    fn keys(entries: Vec<&Entry>) -> Vec<RecordKey> {
        entries.into_iter().map(|entry| entry.key.clone()).collect()
    }

    fn claim(platform: &TestPlatform) -> Claim {
        Claim::new(UserKey::of("ada"), SessionHandle::random(platform).unwrap(), platform.milliseconds())
    }

    #[test]
    fn what_is_kept_is_read() {
        let platform = TestPlatform::at(1_764_000_000);
        let (mut list, one, other) = (UserList::default(), claim(&platform), claim(&platform));
        assert_eq!(UserList::from_text(&list.to_text()), Some(list.clone()));
        assert!(list.register(&one, &key(&platform), 5) && list.register(&other, &key(&platform), 6));
        assert!(list.revoke(one.began_at, Some(&one)).is_some());
        assert_eq!(UserList::from_text(&list.to_text()), Some(list.clone()));
        assert!(list.revoke(one.began_at + 1, None).is_some());
        assert_eq!(UserList::from_text(&list.to_text()), Some(list));
        for text in ["", "edge-session-user/2 - -", "edge-session-user/1 - -\nx", "edge-session/1 1 1"] {
            assert_eq!(UserList::from_text(text), None, "{text}");
        }
    }

    #[test]
    fn what_ends_while_it_is_made_is_not_confirmed() {
        let platform = TestPlatform::at(1_764_000_000);
        let (mut list, one, at) = (UserList::default(), claim(&platform), key(&platform));
        for _ in 0..2 {
            assert!(list.register(&one, &at, 5), "also a second time");
        }
        assert_eq!(list.listed().count(), 1);
        assert_eq!(list.revoke(one.began_at - 1, None).map(keys), Some(vec![at.clone()]));
        assert!(!list.confirm(&at, None, 6));
        assert!(!list.register(&one, &at, 6), "although it began later: this one is to end");
        list.forget(std::slice::from_ref(&at), 7);
        assert!(!list.confirm(&at, None, 8), "nor when it has ended");
        assert!(list.is_empty());
    }

    #[test]
    fn what_was_ended_is_not_made_again_under_another_key() {
        let platform = TestPlatform::at(1_764_000_000);
        let (mut list, one, at) = (UserList::default(), claim(&platform), key(&platform));
        list.register(&one, &at, 5);
        assert_eq!(keys(list.condemn_one(&one.handle)), std::slice::from_ref(&at));
        assert!(!list.register(&one, &key(&platform), 6), "its answer was lost, and so it is sent again");
        list.forget(std::slice::from_ref(&at), 7);
        assert!(!list.register(&one, &key(&platform), 8), "nor when it has ended");
        assert!(list.is_empty());
    }

    #[test]
    fn of_too_many_the_oldest_end_in_one_step() {
        let platform = TestPlatform::at(1_764_000_000);
        let mut list = UserList::default();
        let all: Vec<_> = (0..4).map(|at| (claim(&platform), key(&platform), at)).collect();
        for (claim, key, at) in &all {
            assert!(list.register(claim, key, *at));
        }
        let oldest = keys(list.condemn_oldest(2, |_| true));
        assert_eq!(oldest, [all[0].1.clone(), all[1].1.clone()]);
        assert_eq!(list.condemn_oldest(2, |_| true).len(), 2, "which the next one finds done");
    }

    #[test]
    fn a_new_id_takes_the_place_of_the_old_one_and_a_session_that_is_to_end_gets_none() {
        let platform = TestPlatform::at(1_764_000_000);
        let (mut list, one) = (UserList::default(), claim(&platform));
        let (from, to) = (key(&platform), key(&platform));
        list.register(&one, &from, 5);
        let moving =
            |from: &RecordKey| Moving { from: from.clone(), handle: one.handle.clone(), signed_in_at: platform.now() };
        assert!(list.register_move(&moving(&from), &to, 6));
        assert_eq!(list.listed().count(), 2, "until it is there");
        assert!(list.confirm(&to, Some(&from), 6));
        assert_eq!(list.listed().map(|entry| &entry.key).collect::<Vec<_>>(), [&to]);
        assert!(list.revoke(one.began_at, None).is_some());
        assert!(!list.register_move(&moving(&to), &key(&platform), 7));
        list.forget(std::slice::from_ref(&to), 7);
        list.forget(&[], 7 + ENDED_FOR);
        assert!(!list.register_move(&moving(&to), &key(&platform), 7), "also when it is forgotten");
        assert!(list.revoke(one.began_at, Some(&one)).is_none(), "nor does it end others");
    }

    #[test]
    fn what_was_noted_for_a_session_before_its_new_id_came_to_nothing() {
        let platform = TestPlatform::at(1_764_000_000);
        let (mut list, one, other) = (UserList::default(), claim(&platform), claim(&platform));
        let keys: Vec<_> = (0..5).map(|_| key(&platform)).collect();
        assert!(list.register(&one, &keys[0], 1) && list.register(&other, &keys[1], 2));
        let moves = |list: &mut UserList, from: usize, to: usize| {
            let (from, handle) = (keys[from].clone(), one.handle.clone());
            assert!(list.register_move(&Moving { from, handle, signed_in_at: platform.now() }, &keys[to], 3));
        };
        let listed = |list: &UserList| list.listed().map(|entry| entry.key.clone()).collect::<Vec<_>>();
        moves(&mut list, 0, 2);
        moves(&mut list, 0, 3);
        assert!(list.confirm(&keys[3], Some(&keys[0]), 4));
        assert_eq!(listed(&list), [keys[1].clone(), keys[3].clone()]);
        moves(&mut list, 3, 4);
        assert!(list.confirm(&keys[3], Some(&keys[0]), 5), "said again, and late");
        assert_eq!(listed(&list), [keys[1].clone(), keys[3].clone(), keys[4].clone()]);
    }

    /// Its message was stuck, and the one that was sent in its place was answered long ago.
    #[test]
    fn a_change_of_id_that_is_noted_late_takes_the_session_off_no_list() {
        let platform = TestPlatform::at(1_764_000_000);
        let (mut list, one) = (UserList::default(), claim(&platform));
        let keys: Vec<_> = (0..3).map(|_| key(&platform)).collect();
        let moves = |list: &mut UserList, from: usize, to: usize| {
            let (from, handle) = (keys[from].clone(), one.handle.clone());
            assert!(list.register_move(&Moving { from, handle, signed_in_at: platform.now() }, &keys[to], 3));
        };
        assert!(list.register(&one, &keys[0], 1));
        moves(&mut list, 0, 1);
        moves(&mut list, 1, 2);
        assert!(list.confirm(&keys[2], Some(&keys[1]), 4));
        list.forget(std::slice::from_ref(&keys[0]), 5);
        moves(&mut list, 0, 1);
        assert!(list.confirm(&keys[1], Some(&keys[0]), 6));
        assert!(list.listed().any(|entry| entry.key == keys[2]));
    }

    #[test]
    fn a_new_id_makes_no_session_younger_than_another() {
        let platform = TestPlatform::at(1_764_000_000);
        let (mut list, older, newer, third) =
            (UserList::default(), claim(&platform), claim(&platform), claim(&platform));
        let keys: Vec<_> = (0..4).map(|_| key(&platform)).collect();
        assert!(list.register(&older, &keys[0], 1) && list.register(&newer, &keys[1], 2));
        let moving = Moving { from: keys[0].clone(), handle: older.handle.clone(), signed_in_at: platform.now() };
        assert!(list.register_move(&moving, &keys[2], 50) && list.confirm(&keys[2], Some(&keys[0]), 51));
        assert!(list.register(&third, &keys[3], 60));
        let list = UserList::from_text(&list.to_text()).unwrap();
        assert_eq!(self::keys(list.clone().condemn_oldest(2, |_| true)), [keys[2].clone()]);
        assert_eq!(list.all().map(|entry| entry.noted_at).collect::<Vec<_>>(), [2, 50, 60], "when each key was");
    }

    #[test]
    fn what_has_ended_ends_no_others_for_a_minute() {
        let platform = TestPlatform::at(1_764_000_000);
        let (mut list, one, other) = (UserList::default(), claim(&platform), claim(&platform));
        let (at, others) = (key(&platform), key(&platform));
        assert!(list.register(&one, &at, 1) && list.register(&other, &others, 2));
        assert_eq!(keys(list.condemn_one(&one.handle)), std::slice::from_ref(&at));
        list.forget(std::slice::from_ref(&at), 3);
        assert_eq!(list.all().map(|entry| &entry.key).collect::<Vec<_>>(), [&others]);
        list.forget(&[], 4);
        let mut list = UserList::from_text(&list.to_text()).unwrap();
        assert!(list.revoke(one.began_at, Some(&one)).is_none());
        assert!(list.condemn_one(&one.handle).is_empty(), "and is not ended again");
        list.forget(&[], 3 + ENDED_FOR);
        assert_eq!(list.entries.len(), 1, "then it is looked for in vain");
    }

    #[test]
    fn a_sign_in_over_the_same_session_that_is_under_way_costs_no_session_more() {
        let platform = TestPlatform::at(1_764_000_000);
        let mut list = UserList::default();
        let (a, b, c) = (claim(&platform), claim(&platform), claim(&platform));
        let keys: Vec<_> = (0..4).map(|_| key(&platform)).collect();
        assert!(list.register(&a, &keys[0], 1));
        assert!(list.register(&b, &keys[1], 5));
        // It is signed in again, and so gets a new id: the old record is not retired yet, or never, since its Worker died.
        assert!(list.register(&a, &keys[2], 10));
        assert!(list.register(&c, &keys[3], 11));
        let oldest = self::keys(list.condemn_oldest(2, |_| true));
        assert_eq!(oldest, [keys[1].clone()], "three sessions: the oldest ends");
    }

    #[test]
    fn and_what_is_signed_in_again_is_as_new_as_that_whatever_is_noted_late() {
        let platform = TestPlatform::at(1_764_000_000);
        let mut list = UserList::default();
        let (a, b, c) = (claim(&platform), claim(&platform), claim(&platform));
        let keys: Vec<_> = (0..5).map(|_| key(&platform)).collect();
        assert!(list.register(&a, &keys[0], 1) && list.register(&b, &keys[1], 5) && list.register(&a, &keys[2], 10));
        let moving = Moving { from: keys[0].clone(), handle: a.handle.clone(), signed_in_at: platform.now() };
        assert!(list.register_move(&moving, &keys[3], 11) && list.register(&c, &keys[4], 12));
        assert_eq!(self::keys(list.condemn_oldest(2, |_| true)), [keys[1].clone()]);
    }

    #[test]
    fn one_that_is_to_end_is_none_of_those_that_are_too_many() {
        let platform = TestPlatform::at(1_764_000_000);
        let mut list = UserList::default();
        let all: Vec<_> = (0..3).map(|at| (claim(&platform), key(&platform), at)).collect();
        for (claim, key, at) in &all {
            assert!(list.register(claim, key, *at));
        }
        list.condemn_one(&all[2].0.handle);
        assert_eq!(keys(list.condemn_oldest(2, |_| true)), [all[2].1.clone()]);
    }

    #[test]
    fn of_two_that_are_to_end_the_one_has_ended_and_the_other_is_still_to() {
        let platform = TestPlatform::at(1_764_000_000);
        let (mut list, keys) = (UserList::default(), [(); 2].map(|()| key(&platform)));
        for key in &keys {
            assert!(list.register(&claim(&platform), key, 1));
        }
        assert_eq!(list.revoke(platform.milliseconds(), None).map(|ends| ends.len()), Some(2));
        list.forget(&keys[..1], 2);
        assert_eq!(self::keys(list.all().collect()), keys[1..]);
        assert!(list.all().all(Entry::is_to_end));
    }

    /// As where the feature came later than the session.
    #[test]
    fn a_session_that_is_not_on_the_list_is_as_old_as_its_sign_in() {
        let platform = TestPlatform::at(1_764_000_000);
        let at = platform.milliseconds();
        let moving = |claim: &Claim, seconds_ago: u64| Moving {
            from: key(&platform),
            handle: claim.handle.clone(),
            signed_in_at: platform.now() - seconds_ago,
        };
        // It was signed in ten seconds before now, and the other one twenty.
        let (mut list, one, other) = (UserList::default(), claim(&platform), claim(&platform));
        let keys = [(); 2].map(|()| key(&platform));
        assert!(list.register(&other, &keys[0], at - 20_000));
        assert!(list.register_move(&moving(&one, 10), &keys[1], at));
        assert_eq!(self::keys(list.condemn_oldest(1, |_| true)), [keys[0].clone()]);
        // All were ended fifteen seconds before now, but for the one that was spared.
        let (mut list, spared) = (UserList::default(), claim(&platform));
        assert!(list.revoke(at - 15_000, Some(&Claim { began_at: at - 15_000, ..spared.clone() })).is_some());
        assert!(list.register_move(&moving(&one, 10), &key(&platform), at));
        assert!(!list.register_move(&moving(&other, 20), &key(&platform), at));
        assert!(list.register_move(&moving(&spared, 20), &key(&platform), at));
    }

    #[test]
    fn a_clock_that_is_put_back_takes_no_end_of_all_back() {
        let platform = TestPlatform::at(1_764_000_000);
        let mut list = UserList::default();
        assert!(list.revoke(100, None).is_some() && list.revoke(50, None).is_some());
        assert!(!list.register(&Claim { began_at: 80, ..claim(&platform) }, &key(&platform), 110));
    }

    #[test]
    fn an_entry_of_an_earlier_release_is_as_old_as_it_was_noted() {
        let platform = TestPlatform::at(1_764_000_000);
        let (key, claim) = (key(&platform), claim(&platform));
        let entry = Entry::from_text(&format!("{} {} 5 listed", key.as_str(), claim.handle)).unwrap();
        assert_eq!((entry.noted_at, entry.since), (5, 5));
    }
}
