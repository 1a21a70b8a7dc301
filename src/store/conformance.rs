//! The [`Store`] contract as a test, for every store: ours, and one of your own.
//!
//! It runs wherever the store does: natively, or in a Worker behind a route that only tests know.
//!
//! ```
//! use edge_session::store::conformance::{Abilities, check};
//! use edge_session::{MemoryStore, TestPlatform};
//!
//! # pollster::block_on(async {
//! check(&MemoryStore::default(), &TestPlatform::at(1_764_000_000), Abilities::ALL).await?;
//! # Ok::<(), edge_session::store::conformance::Violation>(())
//! # })?;
//! # Ok::<(), edge_session::store::conformance::Violation>(())
//! ```

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::repeat::repeated;
use crate::sign_in::SignIn;
use crate::{
    Claim, Error, ErrorKind, Extensions, Platform, Record, RecordKey, SessionHandle, SessionId, Spared, Store,
    Successor, Updated, UserKey, UserStore,
};

/// What the store can do. Its documentation must say what it cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// `create` refuses a used key. (KV overwrites.)
    pub insert_only: bool,
    /// It refuses an update whose version is not next, or where nothing is there; so of two simultaneous
    /// ones it refuses one. (KV stores whatever comes: the last writer wins, and a killed session stays dead
    /// because `load` says so.)
    pub compare_and_set: bool,
}

impl Abilities {
    /// The whole contract.
    pub const ALL: Self = Self { insert_only: true, compare_and_set: true };
}

/// A sentence of the contract that the store breaks, and what it did instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// Runs the suite. It leaves a retired record or two, which expire, and what a violation prevents it from deleting.
///
/// The platform's clock must be the one that the store expires by, and its `sleep` must let that
/// clock move (or take no time, as a [`TestPlatform`](crate::TestPlatform)'s).
///
/// # Errors
///
/// The first violation that it finds.
pub async fn check(store: &impl Store, platform: &impl Platform, abilities: Abilities) -> Result<(), Violation> {
    let suite = Suite { store, platform, abilities };
    suite.an_absent_record_is_none().await?;
    suite.what_is_stored_comes_back().await?;
    suite.a_used_key_is_refused().await?;
    suite.an_update_replaces_its_version_and_no_other().await?;
    suite.an_update_never_inserts().await?;
    suite.a_repeated_write_is_recognised().await?;
    suite.a_write_whose_answer_is_lost_is_done_once_or_unsure().await?;
    suite.a_touch_is_no_new_version().await?;
    suite.no_write_takes_a_later_touch_back().await?;
    suite.a_change_of_id_moves_the_record_and_retires_the_old_one().await?;
    suite.a_change_of_id_that_comes_too_late_changes_nothing().await?;
    suite.a_session_killed_while_in_flight_stays_dead().await?;
    suite.of_two_writers_one_is_refused().await?;
    suite.expiry_is_handed_through_unread().await?;
    suite.a_sweep_spares_the_living().await?;
    suite.odd_data_survives().await
}

/// Runs the suite of what a [`UserStore`] promises beside, for users that nobody else has.
///
/// # Errors
///
/// The first violation that it finds.
pub async fn check_users(store: &impl UserStore, platform: &impl Platform) -> Result<(), Violation> {
    let suite = Suite { store, platform, abilities: Abilities::ALL };
    suite.a_users_sessions_are_listed_and_nobody_elses().await?;
    suite.a_session_stays_its_users_under_each_new_id().await?;
    suite.one_is_ended_by_its_handle_and_ends_no_others_then().await?;
    suite.all_end_but_the_one_that_is_spared().await?;
    suite.what_began_before_the_end_of_all_is_refused().await?;
    suite.the_oldest_end().await
}

struct Suite<'a, S, P> {
    store: &'a S,
    platform: &'a P,
    abilities: Abilities,
}

/// Long enough for the suite, and for every store's least expiry.
const LIFE: u64 = 3600;

impl<S: Store, P: Platform> Suite<'_, S, P> {
    async fn an_absent_record_is_none(&self) -> Result<(), Violation> {
        let key = self.key()?;
        same("an absent record is None, never an error", &self.store.load(&key).await?, &None)?;
        let deleted = self.store.delete(&key).await.map_err(|error| broken("delete of nothing succeeds", &error))?;
        same("delete of nothing is None", &deleted, &None)
    }

    async fn what_is_stored_comes_back(&self) -> Result<(), Violation> {
        let full = Record {
            ip: Some("2001:db8::1".to_owned()),
            extensions: Extensions::from_text("owner=7 later-word=a:1")?,
            ..self.record(1, r#"{"count":1}"#)
        };
        for record in [full, self.record(1, r#"{"count":1}"#)] {
            let key = self.created(&record).await?;
            same("what is created comes back whole", &self.store.load(&key).await?, &Some(record.clone()))?;
            let (touched_at, expires_at) = (record.touched_at.saturating_add(5), record.expires_at.saturating_add(5));
            let next =
                Record { version: 2, nonce: 9, touched_at, expires_at, data: r#"{"count":2}"#.to_owned(), ..record };
            same("an update of the version before is done", &self.store.update(&key, &next).await?, &Updated::Done)?;
            same("what is updated comes back whole", &self.store.load(&key).await?, &Some(next.clone()))?;
            same("delete of a session that has not moved is None", &self.store.delete(&key).await?, &None)?;
            same("a deleted record is absent", &self.store.load(&key).await?, &None)?;
        }
        Ok(())
    }

    async fn a_used_key_is_refused(&self) -> Result<(), Violation> {
        if !self.abilities.insert_only {
            return Ok(());
        }
        let first = self.record(1, r#"{"count":1}"#);
        let key = self.created(&first).await?;
        let again = self.store.create(&key, &Record { nonce: 9, ..self.record(1, "{}") }).await;
        let refused = again.as_ref().is_err_and(|error| error.kind() == ErrorKind::Duplicate);
        same("create refuses a used key as Duplicate", &refused, &true)?;
        self.ends_with(&key, "a refused create changes nothing", Some(first)).await
    }

    async fn an_update_replaces_its_version_and_no_other(&self) -> Result<(), Violation> {
        if !self.abilities.compare_and_set {
            return Ok(());
        }
        let key = self.created(&self.record(1, "{}")).await?;
        let second = self.record(2, r#"{"count":2}"#);
        same("an update of the version before is done", &self.store.update(&key, &second).await?, &Updated::Done)?;
        for version in [1, 2, 4, 100] {
            let other = Record { nonce: 9, ..self.record(version, "[]") };
            let sentence = "an update of another version is refused as Stale";
            stale(sentence, &self.store.update(&key, &other).await?, &second)?;
        }
        self.ends_with(&key, "a refused update changes nothing", Some(second)).await
    }

    async fn an_update_never_inserts(&self) -> Result<(), Violation> {
        if !self.abilities.compare_and_set {
            return Ok(());
        }
        let key = self.key()?;
        for version in [1, 2] {
            let updated = self.store.update(&key, &self.record(version, "{}")).await?;
            same("an update of nothing is Gone", &updated, &Updated::Gone)?;
        }
        self.ends_with(&key, "an update never inserts", None).await
    }

    async fn a_repeated_write_is_recognised(&self) -> Result<(), Violation> {
        let first = self.record(1, "{}");
        let key = self.created(&first).await?;
        self.store.create(&key, &first).await.map_err(|error| broken("a repeated create succeeds", &error))?;
        let second = self.record(2, r#"{"count":2}"#);
        for _ in 0..2 {
            same("a repeated update is Done", &self.store.update(&key, &second).await?, &Updated::Done)?;
        }
        self.ends_with(&key, "a repeated update changes nothing", Some(second)).await
    }

    /// The store within one that loses the first answer of each write and repeats it, while a rival comes in between.
    async fn a_write_whose_answer_is_lost_is_done_once_or_unsure(&self) -> Result<(), Violation> {
        if !self.abilities.compare_and_set {
            return Ok(());
        }
        for rival in [Rival::None, Rival::Updates, Rival::Deletes] {
            let forgetful = Forgetful { store: self.store, platform: self.platform, rival };
            let first = self.record(1, "{}");
            let key = self.created(&first).await?;
            let second = self.record(2, r#"{"count":2}"#);
            let updated = forgetful.update(&key, &second).await;
            let stored = self.store.load(&key).await?;
            match rival {
                Rival::None => {
                    same("a repeated update is Done", &updated?, &Updated::Done)?;
                    same("a repeated update is stored once", &stored, &Some(second))?;
                }
                Rival::Updates | Rival::Deletes => {
                    let is_unsure = updated.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
                    same(
                        "a repeated update that meets another's act is an error, not Stale, Gone or Done",
                        &is_unsure,
                        &true,
                    )?;
                    let expected = (rival == Rival::Updates).then(|| rivals(&second));
                    same("and leaves that act as it is", &stored, &expected)?;
                }
            }
            self.store.delete(&key).await?;
        }
        Ok(())
    }

    async fn a_touch_is_no_new_version(&self) -> Result<(), Violation> {
        let first = self.record(1, "{}");
        let key = self.created(&first).await?;
        let touched = touched(&first, 10);
        same("a touch of a session that is there is Done", &self.store.touch(&key, &touched).await?, &Updated::Done)?;
        same("a touch changes the times alone", &self.store.load(&key).await?, &Some(touched.clone()))?;
        let second = Record { version: 2, nonce: 9, data: r#"{"count":2}"#.to_owned(), ..touched };
        same("no update is Stale because of a touch", &self.store.update(&key, &second).await?, &Updated::Done)?;
        let late = self.store.touch(&key, &self::touched(&first, 20)).await?;
        if self.abilities.compare_and_set {
            same("a touch of a version that was replaced is Done", &late, &Updated::Done)?;
            // It had the first touch, of ten seconds later, already.
            let noted = self::touched(&second, 10);
            same("and the newer version stays", &self.store.load(&key).await?, &Some(noted))?;
        } else {
            stale("a touch gives way to a newer version", &late, &second)?;
            same("a touch gives way to a newer version", &self.store.load(&key).await?, &Some(second.clone()))?;
        }
        self.store.delete(&key).await?;
        same("a touch of nothing is Gone", &self.store.touch(&key, &second).await?, &Updated::Gone)?;
        self.ends_with(&key, "a touch never inserts", None).await
    }

    async fn no_write_takes_a_later_touch_back(&self) -> Result<(), Violation> {
        let first = self.record(1, "{}");
        let key = self.created(&first).await?;
        for later in [20, 10] {
            let touch = self.store.touch(&key, &touched(&first, later)).await?;
            same("a touch of a session that is there is Done", &touch, &Updated::Done)?;
        }
        let sentence = "a late touch takes no later one back";
        same(sentence, &self.store.load(&key).await?, &Some(touched(&first, 20)))?;
        // Of a release with a shorter timeout.
        let shorter = Record { expires_at: first.expires_at, ..touched(&first, 25) };
        let touch = self.store.touch(&key, &shorter).await?;
        same("a touch of a session that is there is Done", &touch, &Updated::Done)?;
        let noted = Record { touched_at: shorter.touched_at, ..touched(&first, 20) };
        same("a touch shortens no session", &self.store.load(&key).await?, &Some(noted.clone()))?;
        let second = Record { version: 2, nonce: 9, ..first };
        self.store.update(&key, &second).await?.accepted()?;
        let times = Record { touched_at: noted.touched_at, expires_at: noted.expires_at, ..second.clone() };
        let expected = if self.abilities.compare_and_set { times } else { second };
        self.ends_with(&key, "an update takes no later touch back", Some(expected)).await
    }

    async fn a_change_of_id_moves_the_record_and_retires_the_old_one(&self) -> Result<(), Violation> {
        let first = Record { extensions: Extensions::from_text("owner=7")?, ..self.record(1, r#"{"count":1}"#) };
        let (from, to) = (self.created(&first).await?, self.key()?);
        let (retired, mut moved) = self.new_id(&first, &to);
        // Its answer may have been lost: it is done once.
        for _ in 0..2 {
            let changed = self.store.change_id(&from, &retired, &to, &mut moved).await?;
            if self.abilities.compare_and_set {
                same("a change of id, also a repeated one, is Done", &changed, &Updated::Done)?;
            }
            same(
                "what is left under the old id is the retired record",
                &self.store.load(&from).await?,
                &Some(retired.clone()),
            )?;
            let loaded = self.store.load(&to).await?;
            let data = loaded.as_ref().map(|record| (record.data.as_str(), record.extensions.get("owner")));
            same(
                "the record is under the new id, with what other releases noted",
                &data,
                &Some((first.data.as_str(), Some("7"))),
            )?;
        }
        let touch = self.store.touch(&from, &touched(&first, 10)).await?;
        same("a touch of a retired id is Gone", &touch, &Updated::Gone)?;
        let late = Record { version: 2, nonce: 8, ..first };
        let late = self.store.update(&from, &late).await?;
        if self.abilities.compare_and_set {
            stale("an update under a retired id is Stale", &late, &retired)?;
        }
        same("no late write brings a retired id back", &self.store.load(&from).await?, &Some(retired.clone()))?;
        // What the store has noted of it stays with the session, so that its end under the old id is found.
        let third = Record { version: 2, nonce: 6, ..moved.clone() };
        self.store.update(&to, &third).await?.accepted()?;
        for _ in 0..2 {
            let left = self.store.delete(&from).await?;
            same("delete of a retired id says where the session went, each time", &left, &retired.successor)?;
        }
        same("and leaves the retired record", &self.store.load(&from).await?, &Some(retired.clone()))?;
        same("delete of the session there is None", &self.store.delete(&to).await?, &None)?;
        same("a killed session stays dead under its new id", &self.store.load(&to).await?, &None)?;
        Ok(())
    }

    async fn a_change_of_id_that_comes_too_late_changes_nothing(&self) -> Result<(), Violation> {
        let first = self.record(1, "{}");
        let key = self.created(&first).await?;
        let second = Record { version: 2, nonce: 9, ..first.clone() };
        self.store.update(&key, &second).await?.accepted()?;
        let to = self.key()?;
        let (retired, mut moved) = self.new_id(&first, &to);
        let changed = self.store.change_id(&key, &retired, &to, &mut moved).await?;
        stale("a change of id from a version that was replaced is Stale", &changed, &second)?;
        self.ends_with(&to, "and leaves nothing under the new id", None).await?;
        self.ends_with(&key, "and the old record as it was", Some(second)).await?;
        let changed = self.store.change_id(&key, &retired, &to, &mut moved).await?;
        same("a change of the id of a killed session is Gone", &changed, &Updated::Gone)?;
        self.ends_with(&to, "and revives nothing", None).await
    }

    async fn a_session_killed_while_in_flight_stays_dead(&self) -> Result<(), Violation> {
        let key = self.created(&self.record(1, "{}")).await?;
        self.store.delete(&key).await?;
        for _ in 0..2 {
            let updated = self.store.update(&key, &self.record(2, "{}")).await?;
            if self.abilities.compare_and_set {
                same("an update of a killed session is Gone", &updated, &Updated::Gone)?;
            }
            same("a killed session stays dead", &self.store.load(&key).await?, &None)?;
        }
        self.ends_with(&key, "a killed session stays dead", None).await
    }

    async fn of_two_writers_one_is_refused(&self) -> Result<(), Violation> {
        if !self.abilities.compare_and_set {
            return Ok(());
        }
        for _ in 0..10 {
            let key = self.created(&self.record(1, "{}")).await?;
            let (one, other) = (self.record(2, r#""one""#), Record { nonce: 9, ..self.record(2, r#""other""#) });
            let (first, second) = both(self.store.update(&key, &one), self.store.update(&key, &other)).await;
            let (winner, loser) = match (first?, second?) {
                (Updated::Done, loser) => (one, loser),
                (loser, Updated::Done) => (other, loser),
                both => return Err(violation("of two writers of one version one is Done", &both)),
            };
            stale("of two writers of one version one is Stale", &loser, &winner)?;
            self.ends_with(&key, "the winner's record is the one that is stored", Some(winner)).await?;
        }
        Ok(())
    }

    /// A store may free the space of what has expired, and must not otherwise mind.
    async fn expiry_is_handed_through_unread(&self) -> Result<(), Violation> {
        let now = self.platform.now();
        let record = Record { expires_at: now.saturating_add(1), ..self.record(1, "{}") };
        let key = self.created(&record).await?;
        self.platform.sleep(2100).await;
        let loaded = self.store.load(&key).await?;
        if loaded.is_some() {
            same("a record past its expiry comes back whole, or is gone", &loaded, &Some(record))?;
        }
        self.store.delete(&key).await?;
        Ok(())
    }

    async fn a_sweep_spares_the_living(&self) -> Result<(), Violation> {
        let record = self.record(1, "{}");
        let key = self.created(&record).await?;
        self.store.delete_expired(self.platform.now()).await?;
        self.ends_with(&key, "delete_expired spares a record whose time is not over", Some(record)).await
    }

    async fn odd_data_survives(&self) -> Result<(), Violation> {
        let planes: String = (0..=16_u32)
            .filter_map(|plane| char::from_u32(plane.saturating_mul(0x1_0000).saturating_add(0xFFFD)))
            .collect();
        for data in [
            "null".to_owned(),
            "{}".to_owned(),
            r#""""#.to_owned(),
            r#""\u0000\n\"\\ ' -- ; é 名 ""#.to_owned(),
            format!("\"{planes}\u{2028}\u{FEFF}\""),
            format!("\"{}\"", "x".repeat(1_000_000)),
            format!("{}{}", "[".repeat(1000), "]".repeat(1000)),
        ] {
            let record = self.record(1, &data);
            let key = self.created(&record).await?;
            let loaded = self.store.load(&key).await?.map(|record| record.data);
            if loaded.as_ref() != Some(&data) {
                let beginning: String = data.chars().take(40).collect();
                return Err(violation("data comes back as it was stored", &beginning));
            }
            self.store.delete(&key).await?;
        }
        Ok(())
    }

    /// A key that nothing has used.
    fn key(&self) -> Result<RecordKey, Violation> {
        Ok(SessionId::random(self.platform)?.record_key())
    }

    async fn created(&self, record: &Record) -> Result<RecordKey, Violation> {
        let key = self.key()?;
        self.store.create(&key, record).await.map_err(|error| broken("create under an unused key succeeds", &error))?;
        Ok(key)
    }

    fn record(&self, version: u64, data: &str) -> Record {
        let now = self.platform.now();
        Record {
            version,
            nonce: 1,
            created_at: now,
            touched_at: now,
            expires_at: now.saturating_add(LIFE),
            ip: None,
            successor: None,
            extensions: Extensions::default(),
            data: data.to_owned(),
        }
    }

    /// The two records of a change of this one's id to that of `to`.
    fn new_id(&self, first: &Record, to: &RecordKey) -> (Record, Record) {
        let until = self.platform.now().saturating_add(30);
        let next = Record { version: first.version.saturating_add(1), nonce: 7, ..first.clone() };
        let successor = Some(Successor { key: to.clone(), until });
        // It may be kept for less long than the session lives.
        let expires_at = first.expires_at.saturating_sub(60);
        let retired = Record {
            successor,
            expires_at,
            extensions: Extensions::default(),
            data: "null".to_owned(),
            ..next.clone()
        };
        (retired, Record { version: 1, ..next })
    }

    async fn ends_with(&self, key: &RecordKey, sentence: &str, expected: Option<Record>) -> Result<(), Violation> {
        same(sentence, &self.store.load(key).await?, &expected)?;
        self.store.delete(key).await?;
        Ok(())
    }
}

impl<S: UserStore, P: Platform> Suite<'_, S, P> {
    async fn a_users_sessions_are_listed_and_nobody_elses(&self) -> Result<(), Violation> {
        let (ada, grace) = (self.user()?, self.user()?);
        same("a user without a session has none", &self.handles(&ada.0).await?, &Vec::new())?;
        let (_, one) = self.signed_in(&ada, 0).await?;
        let (_, other) = self.signed_in(&ada, 0).await?;
        self.signed_in(&grace, 0).await?;
        self.created(&self.record(1, "{}")).await?;
        same(
            "each of a user's sessions is listed, and no other",
            &self.handles(&ada.0).await?,
            &sorted(vec![one, other]),
        )
    }

    async fn a_session_stays_its_users_under_each_new_id(&self) -> Result<(), Violation> {
        let ada = self.user()?;
        // One that was nobody's, and is theirs by its change of id, which may be sent twice.
        let first = self.record(1, r#"{"count":1}"#);
        let (from, to, claim) = (self.created(&first).await?, self.key()?, self.claim(&ada)?);
        let (retired, mut moved) = self.new_id(&first, &to);
        note(&mut moved, &ada, &claim)?;
        for _ in 0..2 {
            let changed = self.store.change_id_for(&claim, &from, &retired, &to, &mut moved).await?;
            same("a change of id that makes it a user's, also a repeated one, is Done", &changed, &Updated::Done)?;
        }
        let again = self.store.create_for(&claim, &to, &Record { nonce: 9, ..moved.clone() }).await;
        let refused = again.as_ref().is_err_and(|error| error.kind() == ErrorKind::Duplicate);
        same("a sign-in under a used key is refused as Duplicate", &refused, &true)?;
        let keys = |listed: Vec<(RecordKey, Record)>| listed.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let sentence = "it is listed under its new id, and not under its old one";
        same(sentence, &keys(self.store.list(&ada.1).await?), &vec![to.clone()])?;
        // Written by whoever does not know of owners.
        let next = Record { version: 2, nonce: 8, ..moved.clone() };
        self.store.update(&to, &next).await?.accepted()?;
        let third = self.key()?;
        let (retired, mut again) = self.new_id(&next, &third);
        same(
            "a change of its id is Done",
            &self.store.change_id(&to, &retired, &third, &mut again).await?,
            &Updated::Done,
        )?;
        same("it stays its user's under each new id", &keys(self.store.list(&ada.1).await?), &vec![third.clone()])?;
        self.store.delete(&third).await?;
        same("what has ended is not listed", &keys(self.store.list(&ada.1).await?), &Vec::new())
    }

    async fn one_is_ended_by_its_handle_and_ends_no_others_then(&self) -> Result<(), Violation> {
        let (ada, grace) = (self.user()?, self.user()?);
        let (lost, handle) = self.signed_in(&ada, 0).await?;
        let (mine, _) = self.signed_in(&ada, 0).await?;
        same("another user's session is not found", &self.store.end(&grace.1, &handle).await?, &false)?;
        same("and stays", &self.store.load(&lost).await?.is_some(), &true)?;
        let spared = Spared::Session(Claim { handle: handle.clone(), ..self.claim(&ada)? }, lost.clone());
        same("one of the user's sessions is ended", &self.store.end(&ada.1, &handle).await?, &true)?;
        same("one of the user's sessions is ended", &self.store.load(&lost).await?, &None)?;
        same("once", &self.store.end(&ada.1, &handle).await?, &false)?;
        let refused = self.store.end_all(&ada.1, self.platform.milliseconds(), &spared).await;
        let is_ended = refused.as_ref().is_err_and(|error| error.kind() == ErrorKind::Ended);
        same("what has ended ends no others", &is_ended, &true)?;
        self.ends_with_some(&mine, "and the others stay").await?;
        // Another user who signs in meanwhile in the same browser takes it over.
        let (before, handle) = self.signed_in(&ada, 0).await?;
        let first = self.store.load(&before).await?.ok_or_else(|| violation("it is there", &before))?;
        let (to, claim) = (self.key()?, self.claim(&grace)?);
        let (retired, mut moved) = self.new_id(&first, &to);
        note(&mut moved, &grace, &claim)?;
        let changed = self.store.change_id_for(&claim, &before, &retired, &to, &mut moved).await?;
        same("a change of id that makes it another user's is Done", &changed, &Updated::Done)?;
        same("what is another user's by now is not found", &self.store.end(&ada.1, &handle).await?, &false)?;
        self.ends_with_some(&to, "and stays").await
    }

    /// It is there, and is deleted.
    async fn ends_with_some(&self, key: &RecordKey, sentence: &str) -> Result<(), Violation> {
        same(sentence, &self.store.load(key).await?.is_some(), &true)?;
        self.store.delete(key).await?;
        Ok(())
    }

    async fn all_end_but_the_one_that_is_spared(&self) -> Result<(), Violation> {
        let (ada, grace) = (self.user()?, self.user()?);
        let (mine, handle) = self.signed_in(&ada, 0).await?;
        let own = Spared::Session(Claim { handle, ..self.claim(&ada)? }, mine.clone());
        let (lost, _) = self.signed_in(&ada, 0).await?;
        let (hers, _) = self.signed_in(&grace, 0).await?;
        let nobodys = self.created(&self.record(1, "{}")).await?;
        let now = self.platform.milliseconds();
        same("it says how many it ended", &self.store.end_all(&ada.1, now, &own).await?, &1)?;
        same("the others end", &self.store.load(&lost).await?, &None)?;
        for (key, whose) in [(&mine, "the one that is spared"), (&hers, "another user's"), (&nobodys, "nobody's")] {
            same(&format!("{whose} stays"), &self.store.load(key).await?.is_some(), &true)?;
        }
        let update = self.store.update(&lost, &Record { nonce: 9, ..self.record(2, "{}") }).await?;
        same("no update brings one of them back", &update, &Updated::Gone)?;
        same("they all end", &self.store.end_all(&ada.1, now, &Spared::None).await?, &1)?;
        same("they all end", &self.store.load(&mine).await?, &None)?;
        same("there is nothing left to end", &self.store.end_all(&ada.1, now, &Spared::None).await?, &0)?;
        self.store.delete(&hers).await?;
        self.store.delete(&nobodys).await?;
        Ok(())
    }

    async fn what_began_before_the_end_of_all_is_refused(&self) -> Result<(), Violation> {
        let ada = self.user()?;
        let (early, spared) = (self.claim(&ada)?, self.claim(&ada)?);
        let first = self.record(1, "{}");
        let from = self.created(&first).await?;
        let now = early.began_at.saturating_add(1);
        self.store.end_all(&ada.1, now, &Spared::SigningIn(spared.clone())).await?;
        let (to, key) = (self.key()?, self.key()?);
        let (retired, mut moved) = self.new_id(&first, &to);
        note(&mut moved, &ada, &early)?;
        let record = moved.clone();
        for _ in 0..2 {
            let sentence = "a sign-in that began before is Gone";
            same(sentence, &self.store.create_for(&early, &key, &record).await?, &Updated::Gone)?;
            let changed = self.store.change_id_for(&early, &from, &retired, &to, &mut moved).await?;
            same(sentence, &changed, &Updated::Gone)?;
        }
        for key in [&to, &key] {
            same("and stores nothing", &self.store.load(key).await?, &None)?;
        }
        same("and changes nothing", &self.store.load(&from).await?, &Some(first))?;
        let refused = self.store.end_all(&ada.1, now.saturating_add(5), &Spared::SigningIn(early.clone())).await;
        let is_ended = refused.as_ref().is_err_and(|error| error.kind() == ErrorKind::Ended);
        same("an end of the others is Ended that itself began before", &is_ended, &true)?;
        let earlier = self.store.end_all(&ada.1, 5, &Spared::SigningIn(spared.clone())).await?;
        same("an earlier end takes no later one back", &earlier, &0)?;
        let still = self.store.create_for(&early, &key, &record).await?;
        same("an earlier end takes no later one back", &still, &Updated::Gone)?;
        let late = Claim { began_at: now.saturating_add(1), ..self.claim(&ada)? };
        for claim in [spared, late] {
            let (to, mut record) = (self.key()?, self.record(1, "{}"));
            note(&mut record, &ada, &claim)?;
            let done = self.store.create_for(&claim, &to, &record).await?;
            same("the one that is spared may sign in, and what began later", &done, &Updated::Done)?;
        }
        self.store.end_all(&ada.1, now.saturating_add(2), &Spared::None).await?;
        self.store.delete(&from).await?;
        Ok(())
    }

    async fn the_oldest_end(&self) -> Result<(), Violation> {
        let ada = self.user()?;
        let mut handles = Vec::new();
        for age in [40, 30, 20, 10] {
            handles.push(self.signed_in(&ada, age).await?.1);
        }
        let [_, second, third, last] = &handles[..] else { return Err(violation("four sign in", &handles)) };
        let claim = |handle: &SessionHandle| Ok::<_, Violation>(Claim { handle: handle.clone(), ..self.claim(&ada)? });
        let (of_the_second, of_the_last) = (claim(second)?, claim(last)?);
        // What has expired is counted no more, whether it is there or not.
        let (key, expired) = (self.key()?, self.claim(&ada)?);
        let mut record = Record { expires_at: self.platform.now(), ..self.record(1, "{}") };
        note(&mut record, &ada, &expired)?;
        self.store.create_for(&expired, &key, &record).await?.accepted()?;
        // Nor is one counted twice that was stored again, under another key, since its answer was lost.
        let (twin, mut record) = (self.key()?, self.record(1, "{}"));
        record.touched_at = record.touched_at.saturating_sub(10);
        note(&mut record, &ada, &of_the_last)?;
        self.store.create_for(&of_the_last, &twin, &record).await?.accepted()?;
        let now = self.platform.milliseconds();
        same("it says how many it ended", &self.store.end_oldest(&of_the_last, 3, now).await?, &1)?;
        self.store.delete(&key).await?;
        let left = sorted(vec![second.clone(), third.clone(), last.clone()]);
        same("the oldest has ended", &self.handles(&ada.0).await?, &left)?;
        same("and no more than there are too many", &self.store.end_oldest(&of_the_last, 3, now).await?, &0)?;
        same("who comes late may be the oldest", &self.store.end_oldest(&of_the_second, 2, now).await?, &1)?;
        let left = sorted(vec![third.clone(), last.clone()]);
        same("and ends no newer one in its place", &self.handles(&ada.0).await?, &left)?;
        self.store.end_all(&ada.1, now, &Spared::None).await?;
        Ok(())
    }

    /// A name that nobody has.
    fn user(&self) -> Result<(String, UserKey), Violation> {
        let name = format!("é {}", SessionHandle::random(self.platform)?);
        Ok((name.clone(), UserKey::of(&name)))
    }

    fn claim(&self, (_, user): &(String, UserKey)) -> Result<Claim, Violation> {
        let handle = SessionHandle::random(self.platform)?;
        Ok(Claim::new(user.clone(), handle, self.platform.milliseconds()))
    }

    /// A session of this user's, who was signed in so many seconds ago.
    async fn signed_in(&self, user: &(String, UserKey), age: u64) -> Result<(RecordKey, SessionHandle), Violation> {
        let (key, claim) = (self.key()?, self.claim(user)?);
        let mut record = self.record(1, "{}");
        record.touched_at = record.touched_at.saturating_sub(age);
        note(&mut record, user, &claim)?;
        for _ in 0..2 {
            let created = self.store.create_for(&claim, &key, &record).await?;
            same("a session that is a user's, also a repeated one, is Done", &created, &Updated::Done)?;
        }
        Ok((key, claim.handle))
    }

    async fn handles(&self, user: &str) -> Result<Vec<SessionHandle>, Violation> {
        let listed = self.store.list(&UserKey::of(user)).await?;
        let mut handles = sorted(listed.iter().filter_map(|(_, record)| SessionHandle::of_record(record)).collect());
        handles.dedup();
        Ok(handles)
    }
}

fn sorted(mut handles: Vec<SessionHandle>) -> Vec<SessionHandle> {
    handles.sort();
    handles
}

/// Notes whose session it is, as a sign-in does.
fn note(record: &mut Record, (name, _): &(String, UserKey), claim: &Claim) -> Result<(), Error> {
    let sign_in = SignIn { user: name.clone(), at: record.touched_at, lifetime: None, handle: claim.handle.clone() };
    sign_in.note_in(&mut record.extensions)
}

/// What another request does between a write and its repetition.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rival {
    None,
    Updates,
    Deletes,
}

/// What the rival stores over this record.
fn rivals(record: &Record) -> Record {
    Record {
        version: record.version.saturating_add(1),
        nonce: 9,
        data: r#""the rival's""#.to_owned(),
        ..record.clone()
    }
}

/// A store as it is beyond a network that loses the first answer to an update, which is then sent again.
struct Forgetful<'a, S, P> {
    store: &'a S,
    platform: &'a P,
    rival: Rival,
}

impl<S: Store, P: Platform> Forgetful<'_, S, P> {
    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let first = Cell::new(true);
        let send = async || {
            let updated = self.store.update(key, record).await?;
            if !first.replace(false) {
                return Ok(updated);
            }
            match self.rival {
                Rival::None => {}
                Rival::Updates => drop(self.store.update(key, &rivals(record)).await?),
                Rival::Deletes => drop(self.store.delete(key).await?),
            }
            Err(Error::new(ErrorKind::Unavailable, "the answer is lost"))
        };
        repeated(self.platform, send, |_| true).await?.sure()
    }
}

/// The record as it was used so many seconds later.
fn touched(record: &Record, later: u64) -> Record {
    Record {
        touched_at: record.touched_at.saturating_add(later),
        expires_at: record.expires_at.saturating_add(later),
        ..record.clone()
    }
}

impl Updated {
    /// Where nothing else can be right.
    fn accepted(self) -> Result<(), Violation> {
        same("an update of the version before is done", &self, &Self::Done)
    }
}

/// Both futures at once, as two requests are.
async fn both<A: Future, B: Future>(first: A, second: B) -> (A::Output, B::Output) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    poll_fn(move |context| {
        if one.is_none()
            && let Poll::Ready(output) = first.as_mut().poll(context)
        {
            one = Some(output);
        }
        if other.is_none()
            && let Poll::Ready(output) = second.as_mut().poll(context)
        {
            other = Some(output);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            unfinished => {
                (one, other) = unfinished;
                Poll::Pending
            }
        }
    })
    .await
}

fn same<T: PartialEq + fmt::Debug>(sentence: &str, found: &T, expected: &T) -> Result<(), Violation> {
    if found == expected { Ok(()) } else { Err(violation(sentence, &(found, "where this was due", expected))) }
}

/// It lost to what is there, and if it says to what, to that.
fn stale(sentence: &str, found: &Updated, there: &Record) -> Result<(), Violation> {
    match found {
        Updated::Stale(None) => Ok(()),
        Updated::Stale(Some(newer)) => same("Stale comes with the record that is there, or without", &**newer, there),
        Updated::Done | Updated::Gone => Err(violation(sentence, found)),
    }
}

fn violation(sentence: &str, found: &impl fmt::Debug) -> Violation {
    Violation(format!("{sentence}; found {found:?}"))
}

fn broken(sentence: &str, error: &Error) -> Violation {
    Violation(format!("{sentence}; found the error: {error}"))
}

impl From<Error> for Violation {
    fn from(error: Error) -> Self {
        Self(format!("no call fails; found the error: {error}"))
    }
}
