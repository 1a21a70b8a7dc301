//! A user's sessions on Durable Objects: the binding of what [`user_objects`] does.

use wasm_bindgen::JsValue;

use super::js;
use super::object::{KEY, ObjectStore, SessionObject};
use crate::store::user_objects::{self, Deleted, MOST_SESSIONS, Objects};
use crate::{Claim, Error, Record, RecordKey, SessionHandle, Spared, Updated, UserKey, UserStore};

/// After so many milliseconds without a change a user's list looks whether there is anything on it: 400 days, as long as a
/// browser keeps a cookie (RFC 6265bis, section 5.5). One with sessions on it stays, for these may be in use.
pub(super) const LIST_FOR: f64 = 400.0 * 86_400_000.0;

impl Objects for ObjectStore {
    async fn ask_user(&self, user: &UserKey, act: &str, words: &str) -> Result<String, Error> {
        let name = user.as_str();
        Ok(self.ask_object(&format!("user:{name}"), act, &format!("{name} {words}")).await?.answer)
    }

    async fn deleted(&self, key: &RecordKey) -> Result<Deleted, Error> {
        let Some(record) = self.left_by_delete(key).await? else {
            return Ok(Deleted { was_there: false, successor: None });
        };
        let successor = record.ok().and_then(|record| record.successor);
        Ok(Deleted { was_there: successor.is_none(), successor })
    }

    fn milliseconds(&self) -> u64 {
        js::milliseconds()
    }
}

impl UserStore for ObjectStore {
    async fn create_for(&self, claim: &Claim, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        user_objects::create_for(self, claim, key, record).await
    }

    async fn change_id_for(
        &self,
        claim: &Claim,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        user_objects::change_id_for(self, claim, from, retired, to, moved).await
    }

    async fn list(&self, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error> {
        user_objects::list(self, user).await
    }

    async fn end(&self, user: &UserKey, handle: &SessionHandle) -> Result<bool, Error> {
        user_objects::end_one(self, user, handle).await
    }

    async fn end_all(&self, user: &UserKey, now: u64, spared: &Spared) -> Result<u64, Error> {
        user_objects::end_all(self, user, now, spared).await
    }

    async fn end_oldest(&self, claim: &Claim, most: u64, now: u64) -> Result<u64, Error> {
        user_objects::end_oldest(self, claim, most, now).await
    }

    fn max_sessions(&self) -> Option<u64> {
        Some(MOST_SESSIONS)
    }
}

impl SessionObject {
    /// As the object of a user. Reading and writing the list is one step: what waits is the alarm alone.
    pub(super) async fn answer_for_user(
        &self,
        stored: Option<&str>,
        act: &str,
        words: &str,
    ) -> Result<String, JsValue> {
        let (user, words) = words.split_once(' ').unwrap_or((words, ""));
        let Some(user) = UserKey::from_stored(user) else {
            return Ok(format!("this object does not know how to {act}"));
        };
        let answer = user_objects::answer(stored, &user, act, words, js::milliseconds());
        if let Some(keeps) = &answer.keeps {
            self.storage.kv()?.put(KEY, keeps)?;
            self.wake(js::float(js::milliseconds()) + LIST_FOR).await?;
        }
        Ok(answer.text)
    }
}
