//! Stores whose calls take effect when the schedule says so: an exact one, as D1 and objects are, and Workers KV.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use edge_session::store::repeat::{Answered, repeated};
use edge_session::store::user_objects::{self, Deleted, Objects};
use edge_session::{
    Claim, Error, KvFailure, KvNamespace, KvStore, MemoryStore, Platform, Record, RecordKey, SessionHandle, Spared,
    Store, Successor, Updated, UserKey, UserStore, Users,
};
use pollster::block_on;

use crate::support::kv::ModelKv;
use crate::world::{REFUSED, World};

/// Which store a run is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As D1: a change of id is one step.
    D1,
    /// As objects: a change of id is two.
    Object,
    Kv,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::D1, Self::Object, Self::Kv];
    pub const EXACT: [Self; 2] = [Self::D1, Self::Object];
}

/// A flaw that a store may have, for the tests of the explorer itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    #[default]
    None,
    /// An update does not look which version is there.
    IgnoresVersions,
    /// An update inserts.
    Inserts,
    /// A repeated write that meets another's is a lost race, or a session that is gone.
    IsSureOfRepetitions,
    /// A session whose creation has no answer is created again under the same id.
    CreatesAgain,
    /// A touch writes the whole record.
    TouchesByUpdate,
    /// A sign-in does not look whether its user's sessions were ended.
    ForgetsRevocations,
}

/// What lies in the store, as a request that nobody disturbs finds it.
#[derive(Clone)]
pub enum Inside {
    Memory(MemoryStore),
    Kv(ModelKv<World>),
}

impl Inside {
    pub fn new(kind: Kind, world: &World) -> Self {
        match kind {
            Kind::D1 | Kind::Object => Self::Memory(MemoryStore::default()),
            Kind::Kv => Self::Kv(ModelKv::new(world.clone())),
        }
    }

    pub fn load(&self, key: &RecordKey, world: &World) -> Option<Record> {
        match self {
            Self::Memory(store) => block_on(store.load(key)).unwrap(),
            Self::Kv(kv) => block_on(KvStore::new(kv.clone(), world.clone()).load(key)).unwrap(),
        }
    }
}

/// The keys under which anything was ever stored.
pub type Keys = Rc<RefCell<Vec<RecordKey>>>;

/// Each user's list.
pub type Lists = Rc<RefCell<BTreeMap<UserKey, String>>>;

/// An exact store, over a network.
pub struct Exact {
    pub inside: MemoryStore,
    pub world: World,
    pub kind: Kind,
    pub flaw: Flaw,
    pub keys: Keys,
    /// Of these the ones whose creation had no answer.
    pub unanswered: Keys,
    /// What the users' objects keep.
    pub lists: Lists,
}

impl Exact {
    /// A call that is sent again, twice at most, when its answer is lost.
    async fn call<A: 'static>(
        &self,
        name: &str,
        effect: impl Fn(&MemoryStore) -> Result<A, Error> + Clone + 'static,
    ) -> Result<Answered<A>, Error> {
        let send = async || {
            let (inside, effect) = (self.inside.clone(), effect.clone());
            self.world.send(name, move || effect(&inside)).await
        };
        repeated(&self.world, send, |_| true).await
    }

    /// A call that is not sent again: a session is created again under another id.
    async fn call_once<A: 'static>(
        &self,
        name: &str,
        effect: impl Fn(&MemoryStore) -> Result<A, Error> + 'static,
    ) -> Result<A, Error> {
        let inside = self.inside.clone();
        self.world.send(name, move || effect(&inside)).await.map_err(Error::passing)
    }

    fn sure(&self, answered: Answered<Updated>) -> Result<Updated, Error> {
        if self.flaw == Flaw::IsSureOfRepetitions { Ok(answered.answer) } else { answered.sure() }
    }
}

impl Store for Exact {
    fn users(&self) -> Option<Users<'_>> {
        Some(Users::of(self))
    }

    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        let key = key.clone();
        Ok(self.call("load", move |inside| block_on(inside.load(&key))).await?.answer)
    }

    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        self.keys.borrow_mut().push(key.clone());
        let (made, record) = (key.clone(), record.clone());
        let create = move |inside: &MemoryStore| block_on(inside.create(&made, &record));
        let created = match self.flaw {
            Flaw::CreatesAgain => self.call("create", create).await.map(|_| ()),
            _ => self.call_once("create", create).await,
        };
        if created.is_err() {
            self.unanswered.borrow_mut().push(key.clone());
        }
        created
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let (key, record, flaw) = (key.clone(), record.clone(), self.flaw);
        let update = move |inside: &MemoryStore| {
            block_on(async {
                let stored = inside.load(&key).await?;
                let overwrites = match flaw {
                    Flaw::IgnoresVersions => stored.is_some(),
                    Flaw::Inserts => stored.is_none(),
                    _ => false,
                };
                if overwrites {
                    inside.delete(&key).await?;
                    inside.create(&key, &record).await?;
                    return Ok(Updated::Done);
                }
                inside.update(&key, &record).await
            })
        };
        let answered = self.call("update", update).await?;
        self.sure(answered)
    }

    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let (key, record, flaw) = (key.clone(), record.clone(), self.flaw);
        let touch = move |inside: &MemoryStore| {
            block_on(async {
                if flaw == Flaw::TouchesByUpdate && inside.delete(&key).await?.is_some() {
                    inside.create(&key, &record).await?;
                    return Ok(Updated::Done);
                }
                inside.touch(&key, &record).await
            })
        };
        Ok(self.call("touch", touch).await?.answer)
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        // What comes after that with objects is on no list: it lasts until its time is over, under an id that nobody was told.
        if self.kind == Kind::Object && self.unanswered.borrow().contains(key) {
            self.keys.borrow_mut().retain(|other| other != key);
        }
        let key = key.clone();
        Ok(self.call("delete", move |inside| block_on(inside.delete(&key))).await?.answer)
    }

    async fn change_id(
        &self,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        if self.kind == Kind::Object {
            return user_objects::change_id(self, from, retired, to, moved).await;
        }
        self.keys.borrow_mut().push(to.clone());
        let (from, retired, to, moved) = (from.clone(), retired.clone(), to.clone(), moved.clone());
        let change = move |inside: &MemoryStore| {
            block_on(async {
                // A repeated change must not bring back what was deleted under the new id.
                let is_done = inside.load(&from).await?.is_some_and(|stored| stored == retired);
                if is_done {
                    Ok(Updated::Done)
                } else {
                    inside.change_id(&from, &retired, &to, &mut moved.clone()).await
                }
            })
        };
        let answered = self.call("change_id", change).await?;
        self.sure(answered)
    }
}

/// As D1, where each act is one step; and as objects, where each is the steps that the library takes.
impl UserStore for Exact {
    async fn create_for(&self, claim: &Claim, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        let claim = self.claimed(claim);
        if self.kind == Kind::Object {
            return user_objects::create_for(self, &claim, key, record).await;
        }
        self.keys.borrow_mut().push(key.clone());
        let (key, record) = (key.clone(), record.clone());
        self.call_once("create", move |inside| block_on(inside.create_for(&claim, &key, &record))).await
    }

    async fn change_id_for(
        &self,
        claim: &Claim,
        from: &RecordKey,
        retired: &Record,
        to: &RecordKey,
        moved: &mut Record,
    ) -> Result<Updated, Error> {
        let claim = self.claimed(claim);
        if self.kind == Kind::Object {
            return user_objects::change_id_for(self, &claim, from, retired, to, moved).await;
        }
        self.keys.borrow_mut().push(to.clone());
        let (from, retired, to, moved) = (from.clone(), retired.clone(), to.clone(), moved.clone());
        let change = move |inside: &MemoryStore| {
            block_on(async {
                let is_done = inside.load(&from).await?.is_some_and(|stored| stored == retired);
                if is_done {
                    Ok(Updated::Done)
                } else {
                    inside.change_id_for(&claim, &from, &retired, &to, &mut moved.clone()).await
                }
            })
        };
        let answered = self.call("change_id", change).await?;
        self.sure(answered)
    }

    async fn list(&self, user: &UserKey) -> Result<Vec<(RecordKey, Record)>, Error> {
        if self.kind == Kind::Object {
            return user_objects::list(self, user).await;
        }
        let user = user.clone();
        Ok(self.call("list", move |inside| block_on(inside.list(&user))).await?.answer)
    }

    async fn end(&self, user: &UserKey, handle: &SessionHandle) -> Result<bool, Error> {
        if self.kind == Kind::Object {
            return user_objects::end_one(self, user, handle).await;
        }
        let (user, handle) = (user.clone(), handle.clone());
        Ok(self.call("end", move |inside| block_on(inside.end(&user, &handle))).await?.answer)
    }

    async fn end_all(&self, user: &UserKey, now: u64, spared: &Spared) -> Result<u64, Error> {
        if self.kind == Kind::Object {
            return user_objects::end_all(self, user, now, spared).await;
        }
        let (user, spared) = (user.clone(), spared.clone());
        Ok(self.call("end_all", move |inside| block_on(inside.end_all(&user, now, &spared))).await?.answer)
    }

    async fn end_oldest(&self, claim: &Claim, most: u64, now: u64) -> Result<u64, Error> {
        if self.kind == Kind::Object {
            return user_objects::end_oldest(self, claim, most, now).await;
        }
        let claim = claim.clone();
        Ok(self.call("end_oldest", move |inside| block_on(inside.end_oldest(&claim, most, now))).await?.answer)
    }
}

impl Objects for Exact {
    async fn ask_user(&self, user: &UserKey, act: &str, words: &str) -> Result<String, Error> {
        let (lists, world) = (Rc::clone(&self.lists), self.world.clone());
        let (user, words, asked) = (user.clone(), words.to_owned(), act.to_owned());
        let ask = move |_: &MemoryStore| {
            // An object has a clock of its own.
            let now = world.milliseconds();
            let mut lists = lists.borrow_mut();
            let answer = user_objects::answer(lists.get(&user).map(String::as_str), &user, &asked, &words, now);
            if let Some(keeps) = answer.keeps {
                lists.insert(user.clone(), keeps);
            }
            Ok(answer.text)
        };
        Ok(self.call(act, ask).await?.answer)
    }

    async fn deleted(&self, key: &RecordKey) -> Result<Deleted, Error> {
        let key = key.clone();
        let delete = move |inside: &MemoryStore| {
            block_on(async {
                let was_there = inside.load(&key).await?.is_some_and(|record| record.successor.is_none());
                Ok(Deleted { was_there, successor: inside.delete(&key).await? })
            })
        };
        Ok(self.call("delete", delete).await?.answer)
    }

    fn milliseconds(&self) -> u64 {
        self.world.milliseconds()
    }
}

impl Exact {
    /// With the flaw, no sign-in is too late.
    fn claimed(&self, claim: &Claim) -> Claim {
        let mut claimed = claim.clone();
        if self.flaw == Flaw::ForgetsRevocations {
            claimed.began_at = u64::MAX;
        }
        claimed
    }
}

/// A KV namespace, over a network. Who asks is told of a failure, and asks once.
pub struct ScheduledKv {
    pub inside: ModelKv<World>,
    pub world: World,
    pub keys: Keys,
}

impl ScheduledKv {
    async fn call<A: 'static>(
        &self,
        name: String,
        effect: impl FnOnce(&ModelKv<World>) -> Result<A, KvFailure> + 'static,
    ) -> Result<A, KvFailure> {
        let inside = self.inside.clone();
        let sent = self.world.send(&name, move || effect(&inside).map_err(Error::from));
        sent.await.map_err(|error| {
            let message = error.to_string();
            if message == REFUSED { KvFailure::TooManyWrites } else { KvFailure::Other(message) }
        })
    }
}

/// `put session`, of a name.
fn called(act: &str, name: &str) -> String {
    format!("{act} {}", name.split(':').next().unwrap())
}

impl KvNamespace for ScheduledKv {
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure> {
        let names = names.to_vec();
        self.call(called("get", &names[0]), move |inside| block_on(inside.get(&names))).await
    }

    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure> {
        if let Some(key) = name.strip_prefix("session:") {
            self.keys.borrow_mut().push(RecordKey::from_stored(key).unwrap());
        }
        let (name, value) = (name.to_owned(), value.to_owned());
        self.call(called("put", &name), move |inside| block_on(inside.put(&name, &value, expiration))).await
    }

    async fn delete(&self, name: &str) -> Result<(), KvFailure> {
        let name = name.to_owned();
        self.call(called("delete", &name), move |inside| block_on(inside.delete(&name))).await
    }
}
