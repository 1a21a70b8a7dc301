//! Many clients at once on one session of an exact store, in one isolate or in several.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use edge_session::{
    Error, ErrorKind, Incoming, MemoryStore, Outcome, Platform, Record, RecordKey, Session, SessionParameters,
    Sessions, Signer, Store, Successor, Updated,
};

use crate::clock::{Clock, IsolateClock};
use crate::stage::SECRET;

/// A store that is some milliseconds away, there and back.
#[derive(Clone)]
struct Distant {
    inside: MemoryStore,
    clock: Clock,
    /// How many milliseconds there, or back, on average.
    away: u64,
    calls: Rc<Cell<u32>>,
}

impl Distant {
    async fn travel(&self) {
        let mut random = [0];
        self.clock.fill_random(&mut random).unwrap();
        self.clock.pause(self.away / 2 + u64::from(random[0]) % (self.away + 1)).await;
    }

    async fn asked<R>(&self, answer: impl Future<Output = R>) -> R {
        self.calls.set(self.calls.get() + 1);
        self.travel().await;
        let answer = answer.await;
        self.travel().await;
        answer
    }
}

impl Store for Distant {
    async fn load(&self, key: &RecordKey) -> Result<Option<Record>, Error> {
        self.asked(self.inside.load(key)).await
    }

    async fn create(&self, key: &RecordKey, record: &Record) -> Result<(), Error> {
        self.asked(self.inside.create(key, record)).await
    }

    async fn update(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.asked(self.inside.update(key, record)).await
    }

    async fn touch(&self, key: &RecordKey, record: &Record) -> Result<Updated, Error> {
        self.asked(self.inside.touch(key, record)).await
    }

    async fn delete(&self, key: &RecordKey) -> Result<Option<Successor>, Error> {
        self.asked(self.inside.delete(key)).await
    }
}

/// What became of the counts of many clients.
#[derive(Debug, Default)]
struct Contended {
    counted: u32,
    refused: u32,
    attempts: u32,
    most_attempts: u32,
    store_calls: u32,
    /// How many milliseconds the slowest one took, of those that were counted and of those that were refused.
    slowest: u64,
    slowest_refusal: u64,
}

struct Crowd {
    clock: Clock,
    isolates: Vec<Sessions>,
    store: Distant,
    cookie: String,
    contended: RefCell<Contended>,
}

type Client<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

impl Crowd {
    fn new(isolates: u32, away: u64) -> Self {
        let clock = Clock::new(7);
        let store = Distant { inside: MemoryStore::default(), clock: clock.clone(), away, calls: Rc::default() };
        let isolates: Vec<_> = (0..isolates)
            .map(|isolate| {
                let platform = IsolateClock { clock: clock.clone(), isolate, ahead: 0 };
                let signer = Signer::from_secret(SECRET).unwrap();
                Sessions::new(store.clone(), platform, signer, SessionParameters::default()).unwrap()
            })
            .collect();
        let crowd = Self { clock, isolates, store, cookie: String::new(), contended: RefCell::default() };
        let cookie = RefCell::new(String::new());
        crowd.clock.run(vec![Box::pin(async {
            let Ok(Outcome::Replied { set_cookie, .. }) = crowd.isolates[0].run(&Incoming::new(), count).await else {
                panic!("the first count")
            };
            *cookie.borrow_mut() = set_cookie[0].split(';').next().unwrap().to_owned();
        })]);
        Self { cookie: cookie.into_inner(), ..crowd }
    }

    /// A client of its isolate, who counts so often.
    async fn client(&self, number: usize, times: u32) {
        self.client_of(number, times, count).await;
    }

    /// One whose handler takes so many milliseconds.
    async fn slow_client(&self, takes: u64) {
        let slowly = async |session: &mut Session<u32>| {
            self.clock.pause(takes).await;
            count(session).await
        };
        self.client_of(0, 1, slowly).await;
    }

    async fn client_of(
        &self,
        number: usize,
        times: u32,
        handler: impl AsyncFn(&mut Session<u32>) -> Result<u32, Error>,
    ) {
        let sessions = &self.isolates[number % self.isolates.len()];
        for _ in 0..times {
            let began = self.now();
            let outcome = sessions.run(&Incoming::new().cookie(&*self.cookie), &handler).await;
            let took = self.now() - began;
            let mut contended = self.contended.borrow_mut();
            match outcome {
                Ok(Outcome::Replied { timing, .. }) => {
                    contended.counted += 1;
                    contended.attempts += timing.attempts;
                    contended.most_attempts = contended.most_attempts.max(timing.attempts);
                    contended.slowest = contended.slowest.max(took);
                }
                Err(error) if error.kind() == ErrorKind::Contended => {
                    contended.refused += 1;
                    contended.slowest_refusal = contended.slowest_refusal.max(took);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// One who leaves after so many milliseconds.
    async fn leaver(&self, number: usize, after: u64) {
        self.forgotten(self.client(number, 1), self.clock.pause(after)).await;
    }

    /// One whose handler hangs in the turn that it had to wait for, and who leaves.
    async fn hanger(&self) {
        let (runs, incoming) = (Cell::new(0), Incoming::new().cookie(&*self.cookie));
        let hangs = async |session: &mut Session<u32>| {
            runs.set(runs.get() + 1);
            if runs.get() > 1 {
                std::future::pending::<()>().await;
            }
            count(session).await
        };
        let request = async { drop(self.isolates[0].run(&incoming, hangs).await) };
        self.forgotten(request, self.clock.pause(500)).await;
    }

    /// The runtime goes on with nothing of a request whose client has left, and ends nothing either.
    async fn forgotten(&self, request: impl Future<Output = ()>, leaves: impl Future<Output = ()>) {
        let (mut request, mut leaves) = (Box::pin(request), Box::pin(leaves));
        let has_left = poll_fn(|context| match request.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(false),
            Poll::Pending => leaves.as_mut().poll(context).map(|()| true),
        });
        if has_left.await {
            std::mem::forget(request);
        }
    }

    fn now(&self) -> u64 {
        self.clock.milliseconds()
    }

    /// Lets these run, and looks what came of it.
    fn run(&self, clients: Vec<Client<'_>>) -> Contended {
        self.store.calls.set(0);
        self.clock.run(clients);
        Contended { store_calls: self.store.calls.get(), ..self.contended.take() }
    }

    fn clients(&self, many: usize, times: u32) -> Contended {
        self.run((0..many).map(|number| Box::pin(self.client(number, times)) as Client<'_>).collect())
    }

    fn stored(&self) -> u32 {
        let stored = Cell::new(0);
        self.run(vec![Box::pin(async {
            let look = async |session: &mut Session<u32>| {
                stored.set(**session);
                Ok::<_, Error>(())
            };
            drop(self.isolates[0].run(&Incoming::new().cookie(&*self.cookie), look).await);
        })]);
        stored.get()
    }
}

async fn count(session: &mut Session<u32>) -> Result<u32, Error> {
    **session += 1;
    Ok(**session)
}

#[test]
fn many_clients_on_one_session_of_an_isolate_are_all_counted_soon_and_none_is_refused() {
    for many in [2, 50, 200, 1000] {
        let crowd = Crowd::new(1, 2);
        let contended = crowd.clients(many, 5);
        println!("{many} clients: {contended:?}");
        let all = u32::try_from(many).unwrap() * 5;
        assert_eq!((contended.counted, contended.refused), (all, 0), "{many}");
        assert_eq!(crowd.stored(), all + 1, "exact");
        // Who comes first meets nobody who waits, and loses; all others run when they come, and again in their turn.
        assert!(contended.attempts <= 2 * all && contended.most_attempts <= 3, "nobody loses for ever: {contended:?}");
        let clients = u32::try_from(many).unwrap();
        assert!(contended.store_calls <= 2 * all + 3 * clients, "a load and an update for each: {contended:?}");
        // A call takes four milliseconds, and so many are before the last.
        assert!(contended.slowest <= 4 * 2 * u64::try_from(many).unwrap() + 20, "no one is passed over: {contended:?}");
    }
}

#[test]
fn clients_of_several_isolates_are_all_counted_and_none_is_refused() {
    for isolates in [2, 5, 10] {
        let crowd = Crowd::new(isolates, 2);
        let contended = crowd.clients(100, 5);
        println!("{isolates} isolates: {contended:?}");
        assert_eq!((contended.counted, contended.refused), (500, 0), "{isolates}");
        assert_eq!(crowd.stored(), 501, "exact");
    }
}

/// After a second another takes the turn; who had it is done all the same, or each would stop the one before it for ever.
#[test]
fn handlers_that_take_longer_than_a_turn_are_all_counted() {
    for takes in [900, 1_300, 2_000] {
        let crowd = Crowd::new(1, 20);
        let contended = crowd.run((0..4).map(|_| Box::pin(crowd.slow_client(takes)) as Client<'_>).collect());
        println!("{takes} ms: {contended:?}");
        assert_eq!((contended.counted, contended.refused), (4, 0), "{takes}");
        assert_eq!(crowd.stored(), 5, "exact");
    }
}

#[test]
fn a_handler_that_hangs_holds_up_the_others_for_a_second() {
    let crowd = Crowd::new(1, 2);
    let others = (0..30).map(|number| Box::pin(crowd.client(number, 5)) as Client<'_>);
    let contended = crowd.run(std::iter::once(Box::pin(crowd.hanger()) as Client<'_>).chain(others).collect());
    println!("{contended:?}");
    assert_eq!((contended.counted, contended.refused), (150, 0));
    assert!((1000..2000).contains(&contended.slowest), "it was in the way, and not for long: {contended:?}");
}

#[test]
fn who_leaves_holds_up_the_others_for_a_moment_only() {
    let crowd = Crowd::new(1, 2);
    let stays = (0..30).map(|number| Box::pin(crowd.client(number, 5)) as Client<'_>);
    let leaves = (0..30).map(|number| Box::pin(crowd.leaver(0, number * 3 % 50)) as Client<'_>);
    let contended = crowd.run(stays.chain(leaves).collect());
    println!("{contended:?}");
    assert_eq!(contended.refused, 0);
    assert!(contended.counted >= 150, "{contended:?}");
    assert!(contended.slowest < 1_000, "{contended:?}");
}

#[test]
fn who_has_waited_too_long_is_told_so() {
    let crowd = Crowd::new(1, 100);
    let contended = crowd.clients(200, 1);
    println!("{contended:?}");
    assert_eq!(contended.counted + contended.refused, 200);
    assert!(contended.counted >= 30 && contended.refused > 0, "{contended:?}");
    assert!(contended.slowest <= 11_000 && contended.slowest_refusal <= 11_000, "{contended:?}");
    assert_eq!(crowd.stored(), contended.counted + 1, "exact");
}

impl Crowd {
    /// One whose handler takes so many milliseconds in its first run, in its second, and so on. How long it took.
    async fn slow(&self, isolate: usize, takes: &[u64]) -> u64 {
        let (began, runs, incoming) = (self.now(), Cell::new(0), Incoming::new().cookie(&*self.cookie));
        let handler = async |session: &mut Session<u32>| {
            let run = runs.replace(runs.get() + 1);
            self.clock.pause(takes[run.min(takes.len() - 1)]).await;
            count(session).await
        };
        assert!(matches!(self.isolates[isolate].run(&incoming, handler).await, Ok(Outcome::Replied { .. })));
        self.now() - began
    }

    async fn at(&self, began: u64, milliseconds: u64) {
        self.clock.pause((began + milliseconds).saturating_sub(self.now())).await;
    }
}

#[test]
fn one_slow_turn_refuses_nobody() {
    for slow in [10, 300, 900] {
        let crowd = Crowd::new(1, 2);
        let others = (0..60).map(|number| {
            let crowd = &crowd;
            Box::pin(async move {
                crowd.clock.pause(if number == 0 { 2 } else { 50 + number % 7 }).await;
                crowd.client(0, 3).await;
            }) as Client<'_>
        });
        let first = Box::pin(async {
            crowd.slow(0, &[5, slow]).await;
        }) as Client<'_>;
        let contended = crowd.run(std::iter::once(first).chain(others).collect());
        assert_eq!((contended.counted, contended.refused), (180, 0), "{slow}");
    }
}

/// However long the turn before it took: its visitor may have gone, and the queue with one who waits no more stays.
#[test]
fn who_gives_way_to_other_isolates_does_so_for_a_moment() {
    let crowd = Crowd::new(2, 2);
    let (crowd, began, took) = (&crowd, crowd.now(), &Cell::new(0));
    crowd.run(vec![
        // Loses to the other isolate, and is slow in its turn.
        Box::pin(async move {
            crowd.slow(0, &[200, 200, 200, 200, 20_000]).await;
        }),
        Box::pin(async move {
            for milliseconds in [100, 300, 500, 720] {
                crowd.at(began, milliseconds).await;
                crowd.client(1, 1).await;
            }
        }),
        Box::pin(async move {
            crowd.at(began, 700).await;
            crowd
                .forgotten(
                    async {
                        crowd.slow(0, &[200]).await;
                    },
                    crowd.clock.pause(280),
                )
                .await;
        }),
        // Loses once, long after.
        Box::pin(async move {
            crowd.at(began, 25_000).await;
            took.set(crowd.slow(0, &[100, 1]).await);
        }),
        Box::pin(async move {
            crowd.at(began, 25_020).await;
            crowd.client(1, 1).await;
        }),
    ]);
    assert!((100..3_000).contains(&took.get()), "{}", took.get());
}

/// A visitor's second cookie is only looked at: its session's version says nothing of what this request has seen of the first.
#[test]
fn who_has_a_second_session_asks_the_store_no_more_often_after_a_lost_race() {
    let mut crowd = Crowd::new(1, 2);
    let first = mem::take(&mut crowd.cookie);
    let second = RefCell::new(String::new());
    let incoming = Incoming::new();
    crowd.run(vec![Box::pin(async {
        let Ok(Outcome::Replied { set_cookie, .. }) = crowd.isolates[0].run(&incoming, count).await else {
            panic!("the first count of the second session")
        };
        let cookie = set_cookie[0].split(';').next().unwrap().to_owned();
        for _ in 0..9 {
            crowd.isolates[0].run(&Incoming::new().cookie(&*cookie), count).await.unwrap();
        }
        *second.borrow_mut() = cookie;
    })]);
    crowd.cookie = format!("{first}; {}", second.into_inner());
    let contended = crowd.run(vec![
        Box::pin(async {
            crowd.slow(0, &[100, 0]).await;
        }),
        Box::pin(async {
            crowd.clock.pause(50).await;
            crowd.client(0, 1).await;
        }),
    ]);
    assert_eq!(contended.counted, 1);
    // Two looks and two updates of the one, a look and an update of the other.
    assert_eq!(contended.store_calls, 6, "{contended:?}");
    assert_eq!(crowd.stored(), 3, "exact");
}
