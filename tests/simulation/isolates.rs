//! What an isolate knows: requests that are dropped half-way or never, ends that others do not see yet, other releases.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use edge_session::{
    Error, ErrorKind, Incoming, KvFailure, KvNamespace, KvStore, Outcome, Platform, Session, SessionParameters,
    Sessions, Signer,
};
use serde::{Deserialize, Serialize};

use crate::browser::Browser;
use crate::clock::{Clock, IsolateClock, NOW};

const KEY: &str = "first-key-0123456789abcdef012345";
const COOKIE: &str = "webpy_session_id";

#[derive(Default, Clone, Serialize, Deserialize, Debug)]
struct Data {
    count: u64,
    pad: String,
}

type Values = BTreeMap<String, (String, u64)>;

/// A call that is slow once: where, or anywhere, how it begins, and how long it takes there and back.
type Slow = (Option<u32>, String, u64, u64);

/// KV: consistent at once but for places that are frozen; calls take time; one write a second.
#[derive(Clone)]
struct Kv {
    clock: Clock,
    values: Rc<RefCell<Values>>,
    written: Rc<RefCell<BTreeMap<String, u64>>>,
    frozen: Rc<RefCell<BTreeMap<u32, Values>>>,
    /// (place or any, beginning of call, there, back) once
    slow: Rc<RefCell<Vec<Slow>>>,
    calls: Rc<RefCell<Vec<String>>>,
    place: u32,
}

impl Kv {
    fn new(clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            values: Rc::default(),
            written: Rc::default(),
            frozen: Rc::default(),
            slow: Rc::default(),
            calls: Rc::default(),
            place: 0,
        }
    }
    fn at(&self, place: u32) -> Self {
        Self { place, ..self.clone() }
    }
    fn freeze(&self, place: u32) {
        let values = self.values.borrow().clone();
        self.frozen.borrow_mut().insert(place, values);
    }
    fn thaw(&self, place: u32) {
        self.frozen.borrow_mut().remove(&place);
    }
    fn slow(&self, place: impl Into<Option<u32>>, call: &str, there: u64, back: u64) {
        self.slow.borrow_mut().push((place.into(), call.to_owned(), there, back));
    }
    fn takes(&self, call: &str) -> (u64, u64) {
        self.calls.borrow_mut().push(format!(
            "{} ms at {}: {call}",
            self.clock.milliseconds() - NOW * 1000,
            self.place
        ));
        let mut slow = self.slow.borrow_mut();
        match slow
            .iter()
            .position(|(place, beginning, ..)| place.is_none_or(|p| p == self.place) && call.starts_with(beginning))
        {
            Some(at) => {
                let (_, _, there, back) = slow.remove(at);
                (there, back)
            }
            None if call.starts_with("get") => (10, 10),
            None => (75, 75),
        }
    }
    fn write(&self, name: &str, value: Option<(String, u64)>) -> Result<(), KvFailure> {
        let now = self.clock.milliseconds();
        let mut written = self.written.borrow_mut();
        if written.get(name).is_some_and(|at| now < at + 1000) {
            return Err(KvFailure::TooManyWrites);
        }
        written.insert(name.to_owned(), now);
        match value {
            Some(value) => drop(self.values.borrow_mut().insert(name.to_owned(), value)),
            None => drop(self.values.borrow_mut().remove(name)),
        }
        Ok(())
    }
}

impl KvNamespace for Kv {
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure> {
        let (there, back) = self.takes(&format!("get {}", names.join(" ")));
        self.clock.pause(there).await;
        let read = {
            let frozen = self.frozen.borrow();
            let values = self.values.borrow();
            let values = frozen.get(&self.place).unwrap_or(&values);
            let now = self.clock.milliseconds() / 1000;
            names.iter().map(|name| values.get(name).filter(|(_, end)| *end > now).map(|(t, _)| t.clone())).collect()
        };
        self.clock.pause(back).await;
        Ok(read)
    }
    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure> {
        let (there, back) = self.takes(&format!("put {name}"));
        self.clock.pause(there).await;
        let done = self.write(name, Some((value.to_owned(), expiration)));
        self.clock.pause(back).await;
        done
    }
    async fn delete(&self, name: &str) -> Result<(), KvFailure> {
        let (there, back) = self.takes(&format!("delete {name}"));
        self.clock.pause(there).await;
        let done = self.write(name, None);
        self.clock.pause(back).await;
        done
    }
}

fn isolate(kv: &Kv, place: u32, number: u32) -> Sessions {
    isolate_with(kv, place, number, "{}")
}

fn isolate_with(kv: &Kv, place: u32, number: u32, parameters: &str) -> Sessions {
    let clock = IsolateClock { clock: kv.clock.clone(), isolate: number, ahead: 0 };
    let store = KvStore::new(kv.at(place), clock.clone());
    Sessions::new(store, clock, Signer::from_secret(KEY).unwrap(), SessionParameters::from_json(parameters).unwrap())
        .unwrap()
}

type Answer = Result<(u64, Vec<String>), ErrorKind>;

async fn ask(sessions: &Sessions, header: &str, act: impl AsyncFn(&mut Session<Data>) -> Result<(), Error>) -> Answer {
    let incoming = Incoming::new().cookie(header).with_reply();
    ask_by(sessions, &incoming, act).await
}

async fn ask_by(
    sessions: &Sessions,
    incoming: &Incoming<'_>,
    act: impl AsyncFn(&mut Session<Data>) -> Result<(), Error>,
) -> Answer {
    let handler = async |session: &mut Session<Data>| {
        act(session).await?;
        Ok::<_, Error>(session.count)
    };
    match sessions.run(incoming, handler).await {
        Ok(Outcome::Replied { reply, set_cookie, .. }) => Ok((reply, set_cookie)),
        Ok(Outcome::Expired { .. }) => Err(ErrorKind::Ended),
        Ok(Outcome::Failed(error)) => Err(error.kind()),
        Ok(_) => panic!(),
        Err(error) => {
            println!("  error: {error}");
            Err(error.kind())
        }
    }
}

async fn add(session: &mut Session<Data>) -> Result<(), Error> {
    session.count += 1;
    Ok(())
}
async fn save(session: &mut Session<Data>) -> Result<(), Error> {
    session.count += 1;
    session.save().await
}
async fn look(_: &mut Session<Data>) -> Result<(), Error> {
    Ok(())
}
async fn log_in(session: &mut Session<Data>) -> Result<(), Error> {
    session.cycle_id();
    Ok(())
}
async fn log_out(session: &mut Session<Data>) -> Result<(), Error> {
    session.kill();
    Ok(())
}

/// Runs one to its end.
fn run<R>(clock: &Clock, future: impl Future<Output = R>) -> R {
    let result = RefCell::new(None);
    clock.run(vec![Box::pin(async {
        let done = future.await;
        *result.borrow_mut() = Some(done);
    })]);
    result.into_inner().unwrap()
}

fn arrive(browser: &mut Browser, clock: &Clock, answer: &Answer) {
    for line in &answer.as_ref().unwrap().1 {
        browser.set(line, clock.milliseconds());
    }
}

fn header(browser: &Browser, clock: &Clock) -> String {
    browser.header(clock.milliseconds())
}

async fn in_time<R>(clock: &Clock, milliseconds: u64, answer: impl Future<Output = R>) -> Option<R> {
    let (mut answer, mut timer) = (Box::pin(answer), pin!(clock.pause(milliseconds)));
    poll_fn(|context| {
        if let Poll::Ready(answer) = answer.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// A session with a count of one, whose writes are at rest and whose cookies are young (`young`) or over.
fn begin(clock: &Clock, sessions: &Sessions, pad: usize) -> Browser {
    let mut browser = Browser::default();
    let answer = run(
        clock,
        ask(sessions, "", async |session| {
            session.count = 1;
            session.pad = "x".repeat(pad);
            Ok(())
        }),
    );
    arrive(&mut browser, clock, &answer);
    run(clock, clock.pause(2_000));
    browser
}

fn burst(pad: usize) -> (u64, usize) {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let mut browser = begin(&clock, &here, pad);
    let sent = header(&browser, &clock);
    let errors = Cell::new(0);
    let mut answers = Vec::new();
    // One after another, with what the browser had when the page was loaded.
    for _ in 0..25 {
        let answer = run(&clock, ask(&here, &sent, add));
        if answer.is_err() {
            errors.set(errors.get() + 1);
        } else {
            answers.push(answer);
        }
    }
    for answer in &answers {
        arrive(&mut browser, &clock, answer);
    }
    run(&clock, clock.pause(600_000));
    let last = run(&clock, ask(&here, &browser.id_alone(COOKIE), look));
    (last.unwrap().0, errors.get())
}

#[test]
fn twenty_five_requests_of_a_page_in_one_isolate_lose_nothing() {
    let (count, errors) = burst(0);
    assert_eq!((count, errors), (26, 0));
}

#[test]
fn nor_do_they_at_once() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let browser = begin(&clock, &here, 0);
    let sent = header(&browser, &clock);
    let all: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = (0..25)
        .map(|n| {
            let (here, sent, clock) = (&here, &sent, &clock);
            Box::pin(async move {
                clock.pause(n * 7).await;
                println!("{:?}", ask(here, sent, add).await.map(|a| a.0));
            }) as Pin<Box<dyn Future<Output = ()> + '_>>
        })
        .collect();
    clock.run(all);
    run(&clock, clock.pause(600_000));
    let last = run(&clock, ask(&here, &browser.id_alone(COOKIE), look));
    assert_eq!(last.unwrap().0, 26);
}

#[test]
fn nor_do_they_with_five_kilobytes() {
    let (count, errors) = burst(5_000);
    assert_eq!((count, errors), (26, 0));
}

/// The client goes away while a put (a save's) is under way, and the page is loaded again at once.
#[test]
fn a_put_whose_request_is_gone_does_not_give_the_next_write_up() {
    for act in ["add", "save"] {
        let clock = Clock::new(1);
        let kv = Kv::new(&clock);
        let here = isolate(&kv, 0, 0);
        let mut browser = begin(&clock, &here, 0);
        let sent = header(&browser, &clock);
        assert!(run(&clock, in_time(&clock, 60, ask(&here, &sent, save))).is_none(), "dropped in its put");
        run(&clock, clock.pause(200));
        let before = clock.milliseconds();
        let answer = match act {
            "add" => run(&clock, ask(&here, &sent, add)),
            _ => run(&clock, ask(&here, &sent, save)),
        };
        println!("{act}: {:?} after {} ms", answer.as_ref().map(|a| a.0), clock.milliseconds() - before);
        let Ok((count, _)) = &answer else { panic!("{act}: {answer:?}") };
        arrive(&mut browser, &clock, &answer);
        run(&clock, clock.pause(600_000));
        let last = run(&clock, ask(&here, &browser.id_alone(COOKIE), look)).unwrap().0;
        println!("{}", clock.log.borrow().join("\n"));
        assert_eq!(last, *count, "{act}: acknowledged, and lost");
    }
}

/// A save that waits for its second is dropped; its write is shown, and nobody stores it.
#[test]
fn a_save_whose_request_is_gone_is_stored_if_it_is_shown() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let mut browser = begin(&clock, &here, 0);
    let answer = run(&clock, ask(&here, &header(&browser, &clock), add));
    arrive(&mut browser, &clock, &answer);
    run(&clock, clock.pause(300));
    // 2 is stored. 3 waits for the second to pass.
    assert!(run(&clock, in_time(&clock, 100, ask(&here, &header(&browser, &clock), save))).is_none());
    run(&clock, clock.pause(100));
    let shown = run(&clock, ask(&here, &header(&browser, &clock), look));
    arrive(&mut browser, &clock, &shown);
    run(&clock, clock.pause(600_000));
    let last = run(&clock, ask(&here, &browser.id_alone(COOKIE), look)).unwrap().0;
    println!("{}", kv.calls.borrow().join("\n"));
    assert_eq!(last, shown.unwrap().0, "what was shown");
}

/// ... and from then on no use is noted in this isolate.
#[test]
fn after_that_uses_are_still_noted() {
    noted(true);
    println!("control passed");
    noted(false);
}

fn noted(is_control: bool) {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate_with(&kv, 0, 0, r#"{"timeout": 3600}"#);
    let mut browser = begin(&clock, &here, 0);
    let answer = run(&clock, ask(&here, &header(&browser, &clock), add));
    arrive(&mut browser, &clock, &answer);
    run(&clock, clock.pause(300));
    if !is_control {
        assert!(run(&clock, in_time(&clock, 100, ask(&here, &header(&browser, &clock), save))).is_none());
    }
    // The visitor reads each five minutes.
    for minute in (5..180).step_by(5) {
        run(&clock, clock.pause(300_000));
        let seen = run(&clock, ask(&here, &header(&browser, &clock), look));
        assert!(matches!(&seen, Ok((count, _)) if *count > 0), "after {minute} minutes: {seen:?}");
    }
}

/// Two overlapping writes in two isolates, of a session too large for a cookie.
#[test]
fn large_writes_that_meet_lock_nobody_out() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let (a, b, c) = (isolate(&kv, 0, 0), isolate(&kv, 1, 1), isolate(&kv, 2, 2));
    let mut browser = begin(&clock, &a, 5_000);
    let sent = header(&browser, &clock);
    let answers = RefCell::new(Vec::new());
    clock.run(vec![
        Box::pin(async {
            kv.slow(0, "put session", 1_500, 75);
            let answer = ask(&a, &sent, add).await;
            answers.borrow_mut().push(answer);
        }),
        Box::pin(async {
            clock.pause(10).await;
            let answer = ask(&b, &sent, add).await;
            answers.borrow_mut().push(answer);
        }),
    ]);
    for answer in answers.borrow().iter() {
        arrive(&mut browser, &clock, answer);
    }
    let mut refused = 0;
    for second in [3, 10, 30, 60, 80] {
        run(
            &clock,
            clock.pause(
                NOW * 1000 + second * 1000 + 2_000 - clock.milliseconds().min(NOW * 1000 + second * 1000 + 2_000),
            ),
        );
        let seen = run(&clock, ask(&c, &header(&browser, &clock), look)).map(|a| a.0);
        println!("{second} s: {seen:?}");
        refused += u32::from(seen.is_err());
    }
    assert_eq!(refused, 0, "of 5");
}

fn during_a_wait(other: impl AsyncFn(&mut Session<Data>) -> Result<(), Error>) -> Result<u64, ErrorKind> {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let mut browser = begin(&clock, &here, 0);
    let answer = run(&clock, ask(&here, &header(&browser, &clock), add));
    arrive(&mut browser, &clock, &answer);
    run(&clock, clock.pause(300));
    let sent = header(&browser, &clock);
    let saved = RefCell::new(None);
    clock.run(vec![
        Box::pin(async {
            let answer = ask(&here, &sent, save).await;
            *saved.borrow_mut() = Some(answer);
        }),
        Box::pin(async {
            clock.pause(100).await;
            ask(&here, &sent, other).await.unwrap();
        }),
    ]);
    saved.into_inner().unwrap().map(|a| a.0)
}

#[test]
fn a_save_that_waits_while_its_session_is_killed_is_told_so() {
    assert_eq!(during_a_wait(log_out), Err(ErrorKind::Ended));
}

#[test]
fn a_save_that_waits_while_the_id_is_changed_is_done() {
    assert_eq!(during_a_wait(log_in), Ok(3), "it went along");
}

#[test]
fn a_login_whose_request_is_gone_locks_nobody_out() {
    let mut worst = 0;
    let mut refused = 0;
    for seed in 0..20 {
        let clock = Clock::new(seed);
        let kv = Kv::new(&clock);
        let here = isolate(&kv, 0, 0);
        let browser = begin(&clock, &here, 0);
        let sent = header(&browser, &clock);
        assert!(run(&clock, in_time(&clock, 80, ask(&here, &sent, log_in))).is_none());
        run(&clock, clock.pause(200));
        let before = clock.milliseconds();
        let answer = run(&clock, ask(&here, &sent, add));
        refused += u32::from(answer.is_err());
        worst = worst.max(clock.milliseconds() - before);
    }
    assert_eq!((refused, worst < 6_000), (0, true), "of 20, {worst} ms");
}

/// A load that began before a logout, and whose answer comes after it.
#[test]
fn a_late_load_does_not_undo_an_end() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let browser = begin(&clock, &here, 0);
    let sent = header(&browser, &clock);
    clock.run(vec![
        Box::pin(async {
            kv.slow(0, "get session", 10, 2_000);
            drop(ask(&here, &sent, look).await);
        }),
        Box::pin(async {
            clock.pause(100).await;
            // This place does not see the mark at once.
            kv.freeze(0);
            println!(
                "logged out: {:?} at {}",
                ask(&here, &sent, log_out).await.map(|a| a.0),
                clock.milliseconds() - NOW * 1000
            );
        }),
    ]);
    // The logout's reply has come; this isolate made it.
    let saved = run(&clock, ask(&here, &sent, save)).map(|a| a.0);
    assert!(!matches!(saved, Ok(2)), "{saved:?}: alive again in the isolate of its logout");
}

#[test]
fn a_late_load_does_not_undo_a_change_of_id() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let mut browser = begin(&clock, &here, 0);
    let sent = header(&browser, &clock);
    let saved = RefCell::new(None);
    let moved = RefCell::new(None);
    clock.run(vec![
        Box::pin(async {
            kv.slow(0, "get session", 10, 2_000);
            let answer = ask(&here, &sent, save).await;
            *saved.borrow_mut() = Some(answer.map(|a| a.0));
        }),
        Box::pin(async {
            clock.pause(100).await;
            let answer = ask(&here, &sent, log_in).await;
            *moved.borrow_mut() = Some(answer);
        }),
    ]);
    arrive(&mut browser, &clock, &moved.into_inner().unwrap());
    let seen = run(&clock, ask(&here, &header(&browser, &clock), look)).unwrap().0;
    let saved = saved.into_inner().unwrap();
    assert!(saved.is_err() || seen == 2, "the save said {saved:?}, and the session under its new id has {seen}");
}

/// A late load stores the browser's write once more, over a newer one that is waiting.
#[test]
fn what_is_stored_late_takes_no_newer_writes_place() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let (a, b) = (isolate(&kv, 0, 0), isolate(&kv, 1, 1));
    let mut browser = begin(&clock, &a, 0);
    // A login, so that loads look for kills.
    let answer = run(&clock, ask(&a, &header(&browser, &clock), log_in));
    arrive(&mut browser, &clock, &answer);
    run(&clock, clock.pause(2_000));
    kv.freeze(1);
    let answer = run(&clock, ask(&a, &header(&browser, &clock), add));
    arrive(&mut browser, &clock, &answer);
    run(&clock, clock.pause(40_000));
    let sent = header(&browser, &clock);
    let saved = RefCell::new(None);
    clock.run(vec![
        Box::pin(async {
            kv.slow(1, "get killed", 10, 100);
            println!("look: {:?}", ask(&b, &sent, look).await.map(|a| a.0));
        }),
        Box::pin(async {
            // It saves while the look waits for its answer.
            clock.pause(1).await;
            let answer = ask(&b, &sent, async |session| {
                session.count += 1;
                session.save().await
            })
            .await;
            *saved.borrow_mut() = Some(answer.map(|a| a.0));
        }),
    ]);
    run(&clock, clock.pause(600_000));
    kv.thaw(1);
    println!("{}", kv.calls.borrow().join("\n"));
    let last = run(&clock, ask(&b, &browser.id_alone(COOKIE), look)).unwrap().0;
    assert_eq!((saved.into_inner().unwrap(), last), (Ok(3), 3));
}

/// An older release, whose records say nothing of writes.
fn foreign(version: u64, nonce: u32, count: u64, note: &str) -> String {
    let note = if note.is_empty() { String::new() } else { format!(" {note}") };
    format!(
        "edge-session/1 {version} {nonce} {NOW} {NOW} {} - 0 -{note}\n{{\"count\":{count},\"pad\":\"\"}}",
        NOW + 86_400
    )
}

#[test]
fn the_writes_of_an_older_release_are_seen_in_their_order() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let id = format!("{COOKIE}={}", Signer::from_secret(KEY).unwrap().sign(COOKIE, &"0".repeat(32)));
    let signed = edge_session::cookie::read(&id, COOKIE, &Signer::from_secret(KEY).unwrap());
    let name = format!("session:{}", signed.ids()[0].key.as_str());
    let store = |version, nonce, count| {
        kv.values.borrow_mut().insert(name.clone(), (foreign(version, nonce, count, ""), u64::MAX));
    };
    store(1, 9, 10);
    assert_eq!(run(&clock, ask(&here, &id, look)).unwrap().0, 10);
    store(2, 3, 20);
    assert_eq!(run(&clock, ask(&here, &id, look)).unwrap().0, 20, "KV shows it, and the isolate an older one");
}

#[test]
fn also_where_a_browser_carries_one_of_them() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let mut browser = begin(&clock, &here, 0);
    let name = kv.values.borrow().keys().find(|n| n.starts_with("session:")).unwrap().clone();
    let text = kv.values.borrow()[&name].0.clone();
    let note = text.lines().next().unwrap().split(' ').find(|w| w.starts_with("writes=")).unwrap().to_owned();
    // The older release writes twice, and keeps the note.
    kv.values.borrow_mut().insert(name.clone(), (foreign(2, 9, 10, &note), u64::MAX));
    let answer = run(&clock, ask(&here, &header(&browser, &clock), look));
    assert_eq!(answer.as_ref().unwrap().0, 10);
    arrive(&mut browser, &clock, &answer);
    kv.values.borrow_mut().insert(name.clone(), (foreign(3, 10, 20, &note), u64::MAX));
    let elsewhere = isolate(&kv, 1, 1);
    let answer = run(&clock, ask(&elsewhere, &header(&browser, &clock), add));
    assert_eq!(answer.unwrap().0, 21);
}

/// Two writes met; a client that brings one of them alone gets back to it, whatever was written since.
#[test]
fn a_client_that_leaves_cookies_out_gets_no_older_state_than_kv_shows() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let (a, b) = (isolate(&kv, 0, 0), isolate(&kv, 1, 1));
    let mut browser = begin(&clock, &a, 0);
    let sent = header(&browser, &clock);
    let mut fork = Browser::default();
    for line in sent.split("; ") {
        fork.set(&format!("{line}; Max-Age=90"), clock.milliseconds());
    }
    let answers = RefCell::new(Vec::new());
    clock.run(vec![
        Box::pin(async {
            let answer = ask(&a, &sent, add).await;
            answers.borrow_mut().push(answer);
        }),
        Box::pin(async {
            clock.pause(30).await;
            let answer = ask(&b, &sent, add).await;
            answers.borrow_mut().push(answer);
        }),
    ]);
    let answers = answers.into_inner();
    arrive(&mut fork, &clock, &answers[0]);
    arrive(&mut browser, &clock, &answers[1]);
    for _ in 0..10 {
        run(&clock, clock.pause(3_000));
        let answer = run(&clock, ask(&b, &header(&browser, &clock), add));
        arrive(&mut browser, &clock, &answer);
    }
    run(&clock, clock.pause(30_000));
    let (all, forked) = (header(&browser, &clock), header(&fork, &clock));
    assert_eq!(run(&clock, ask(&b, &all, look)).unwrap().0, 12);
    assert_eq!(run(&clock, ask(&b, &forked, add)).unwrap().0, 13);
}

/// Large data in one isolate, where its own place shows a write late.
#[test]
fn an_isolate_knows_what_is_too_large_for_a_cookie() {
    for pad in [5_000, 70_000] {
        let clock = Clock::new(1);
        let kv = Kv::new(&clock);
        let (here, elsewhere) =
            (isolate_with(&kv, 0, 0, r#"{"max_data": 1000000}"#), isolate_with(&kv, 1, 1, r#"{"max_data": 1000000}"#));
        let mut browser = begin(&clock, &here, pad);
        run(&clock, clock.pause(100_000));
        kv.freeze(0);
        kv.freeze(1);
        let answer = run(&clock, ask(&here, &header(&browser, &clock), add));
        arrive(&mut browser, &clock, &answer);
        run(&clock, clock.pause(2_000));
        let own = run(&clock, ask(&here, &header(&browser, &clock), look)).map(|a| a.0);
        let other = run(&clock, ask(&elsewhere, &header(&browser, &clock), look)).map(|a| a.0);
        println!("{pad}: own isolate {own:?}, another place {other:?}");
        if pad == 70_000 {
            assert!(own.is_ok(), "{pad}: {own:?}");
        }
    }
}

/// One isolate writes once a second, another one saves once.
#[test]
fn a_save_beside_an_isolate_that_writes_each_second_is_stored() {
    let mut refused = 0;
    for seed in 0..40 {
        let clock = Clock::new(seed);
        let kv = Kv::new(&clock);
        let (a, b) = (isolate(&kv, 0, 0), isolate(&kv, 1, 1));
        let browser = begin(&clock, &a, 0);
        let sent = header(&browser, &clock);
        let result = RefCell::new(None);
        clock.run(vec![
            Box::pin(async {
                for _ in 0..60 {
                    drop(ask(&a, &browser.id_alone(COOKIE), add).await);
                    clock.pause(200).await;
                }
            }),
            Box::pin(async {
                clock.pause(3_000 + seed * 29).await;
                let answer = ask(&b, &sent, save).await.map(|a| a.0);
                *result.borrow_mut() = Some(answer);
            }),
        ]);
        refused += u32::from(result.into_inner().unwrap().is_err());
    }
    assert_eq!(refused, 0, "of 40");
}

/// One holds a session open (a WebSocket) in an isolate that knows an old write of large data.
#[test]
fn a_large_session_that_is_held_for_long_locks_nobody_out() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let large = r#"{"max_data": 1000000}"#;
    let (a, b) = (isolate_with(&kv, 0, 0, large), isolate_with(&kv, 1, 1, large));
    let mut browser = begin(&clock, &a, 70_000);
    let id = browser.id_alone(COOKIE);
    let incoming = Incoming::new().cookie(id.as_str());
    let held = run(&clock, a.open::<Data>(&incoming)).unwrap();
    for _ in 0..20 {
        run(&clock, clock.pause(2_000));
        let answer = run(&clock, ask(&b, &header(&browser, &clock), add));
        arrive(&mut browser, &clock, &answer);
    }
    run(&clock, clock.pause(3_600_000));
    assert_eq!(run(&clock, ask(&b, &id, look)).map(|a| a.0), Ok(21));
    assert_eq!(run(&clock, ask(&a, &id, look)).map(|a| a.0), Ok(21), "an hour later");
    drop(held);
}

/// One isolate's clock is wrong once.
#[test]
fn a_clock_that_was_an_hour_ahead_for_one_write_does_no_harm() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let (a, b, c) = (isolate(&kv, 0, 0), isolate(&kv, 1, 1), isolate(&kv, 2, 2));
    let mut browser = begin(&clock, &a, 0);
    {
        let ahead = IsolateClock { clock: clock.clone(), isolate: 9, ahead: 3_600_000 };
        let store = KvStore::new(kv.at(0), ahead.clone());
        let wrong =
            Sessions::new(store, ahead, Signer::from_secret(KEY).unwrap(), SessionParameters::default()).unwrap();
        drop(run(&clock, ask(&wrong, &header(&browser, &clock), add)));
    }
    run(&clock, clock.pause(600_000));
    kv.freeze(2);
    let answer = run(&clock, ask(&b, &header(&browser, &clock), add));
    assert_eq!(answer.as_ref().unwrap().0, 3);
    arrive(&mut browser, &clock, &answer);
    run(&clock, clock.pause(2_000));
    assert_eq!(
        run(&clock, ask(&c, &header(&browser, &clock), look)).unwrap().0,
        3,
        "ten minutes after the wrong clock"
    );
}

/// A touch is dropped, as a page that is left; then a write.
#[test]
fn a_touch_whose_request_is_gone_does_not_give_the_next_write_up() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let mut browser = begin(&clock, &here, 0);
    run(&clock, clock.pause(20_000_000));
    assert!(run(&clock, in_time(&clock, 100, ask(&here, &header(&browser, &clock), look))).is_none(), "in its touch");
    run(&clock, clock.pause(100));
    let answer = run(&clock, ask(&here, &header(&browser, &clock), add));
    arrive(&mut browser, &clock, &answer);
    run(&clock, clock.pause(600_000));
    let last = run(&clock, ask(&here, &browser.id_alone(COOKIE), look)).unwrap().0;
    println!("log: {:?}", clock.log.borrow());
    assert_eq!(last, 2, "acknowledged, and lost");
}

/// A logout at a place that does not see the record yet, while its last put is on its way.
#[test]
fn the_mark_of_a_record_that_is_not_seen_lives_long_enough() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let year = r#"{"timeout": 31536000}"#;
    let (a, b) = (isolate_with(&kv, 0, 0, year), isolate_with(&kv, 1, 1, year));
    kv.freeze(1);
    let mut browser = begin(&clock, &a, 0);
    let stolen = browser.id_alone(COOKIE);
    kv.slow(0, "put session", 1_900, 50);
    let answer = run(&clock, ask(&a, &header(&browser, &clock), add));
    arrive(&mut browser, &clock, &answer);
    let out = run(&clock, ask(&b, &header(&browser, &clock), log_out));
    println!("{:?}", out.map(|a| a.0));
    run(&clock, clock.pause(60_000));
    kv.thaw(1);
    for day in 0..100 {
        run(&clock, clock.pause(86_400_000 - 1_000));
        if day % 10 != 9 {
            continue;
        }
        let seen = run(&clock, ask(&isolate_with(&kv, 3, 3, year), &stolen, look)).map(|a| a.0);
        assert!(!matches!(seen, Ok(n) if n > 0), "day {day}: alive again with {seen:?}");
    }
}

/// The futures of requests that workerd broke off are neither driven nor dropped.
#[test]
fn requests_that_are_never_dropped_leave_nothing_behind() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let large = r#"{"max_data": 1000000}"#;
    let (a, b) = (isolate_with(&kv, 0, 0, large), isolate_with(&kv, 1, 1, large));
    let mut browser = begin(&clock, &a, 70_000);
    let id = browser.id_alone(COOKIE);
    let a: &'static Sessions = Box::leak(Box::new(a));
    let held: &'static str = Box::leak(id.clone().into_boxed_str());
    let held_clock: &'static Clock = Box::leak(Box::new(clock.clone()));
    let mut forgotten: Pin<Box<dyn Future<Output = Answer>>> = Box::pin(ask(a, held, async |_| {
        held_clock.pause(2_000).await;
        Ok(())
    }));
    run(&clock, async {
        let mut timer = pin!(clock.pause(500));
        poll_fn(|context| {
            assert!(forgotten.as_mut().poll(context).is_pending());
            timer.as_mut().poll(context)
        })
        .await;
    });
    std::mem::forget(forgotten);
    for _ in 0..20 {
        run(&clock, clock.pause(2_000));
        let answer = run(&clock, ask(&b, &header(&browser, &clock), add));
        arrive(&mut browser, &clock, &answer);
    }
    run(&clock, clock.pause(3_600_000));
    assert_eq!(run(&clock, ask(a, &id, look)).map(|a| a.0), Ok(21), "an hour later");
}

/// Junk in cookies.
#[test]
fn cookies_of_whatever_form_do_no_harm() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let browser = begin(&clock, &here, 0);
    let good = header(&browser, &clock);
    let name = kv.values.borrow().keys().find(|n| n.starts_with("session:")).unwrap()[8..16].to_owned();
    let carried = good.split("; ").find(|p| p.contains(&name)).unwrap().to_owned();
    let id = browser.id_alone(COOKIE);
    let (its_name, value) = carried.split_once('=').unwrap();
    let mut junk = Vec::new();
    for n in 0..3_000u64 {
        let cut = usize::try_from(n).unwrap() % value.len();
        junk.push(format!("{COOKIE}.{name}.{}-{n:08x}={}", u64::MAX - n, &value[..cut]));
    }
    for extra in [
        junk.join("; "),
        format!("{its_name}={}", &value[..30]),
        format!("{its_name}=é{value}"),
        format!("{COOKIE}.{name}.+1-+1={value}; {COOKIE}.{name}.-=x; {COOKIE}.{name}.1-={value}; {COOKIE}.="),
    ] {
        for header in [format!("{id}; {extra}"), format!("{extra}; {id}"), format!("{extra}; {good}")] {
            let answer = run(&clock, ask(&here, &header, look));
            assert!(answer.is_ok());
            let lines = answer.unwrap().1;
            let answer = run(&clock, ask(&here, &header, add));
            println!("{} and {} lines", lines.len(), answer.as_ref().unwrap().1.len());
            run(&clock, clock.pause(2_000));
        }
    }
}

/// Messages of a WebSocket, each of which opens the session by the handshake's cookies.
#[test]
fn messages_of_a_socket_lose_nothing() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate(&kv, 0, 0);
    let browser = begin(&clock, &here, 0);
    let sent = header(&browser, &clock);
    let mut counts = Vec::new();
    for _ in 0..20 {
        let answer = run(&clock, ask_by(&here, &Incoming::new().cookie(sent.as_str()), save));
        counts.push(answer.unwrap().0);
        run(&clock, clock.pause(1_500));
    }
    assert_eq!(counts.last(), Some(&21), "{counts:?}");
}

/// One write after another, each in another isolate of three.
#[test]
fn writes_that_go_round_three_isolates_are_found_at_rest() {
    let mut lost = Vec::new();
    for seed in 0..100 {
        let clock = Clock::new(seed);
        let kv = Kv::new(&clock);
        let all = [isolate(&kv, 0, 0), isolate(&kv, 1, 1), isolate(&kv, 2, 2)];
        let mut browser = begin(&clock, &all[0], 0);
        let mut last = 0;
        for n in 0..12 {
            let answer = run(&clock, ask(&all[n % 3], &header(&browser, &clock), add));
            arrive(&mut browser, &clock, &answer);
            last = answer.unwrap().0;
            run(&clock, clock.pause(300 + seed * 5));
        }
        run(&clock, clock.pause(600_000));
        let seen = run(&clock, ask(&all[0], &browser.id_alone(COOKIE), look)).unwrap().0;
        if seen != last {
            lost.push((seed, seen, last));
        }
    }
    assert!(lost.is_empty(), "{} of 100: {lost:?}", lost.len());
}

/// A put behind is given up for 429, although KV takes calls.
#[test]
fn nothing_is_given_up_behind_a_reply_for_429() {
    let mut lost = 0;
    let mut logged = 0;
    for seed in 0..40 {
        let clock = Clock::new(seed);
        let kv = Kv::new(&clock);
        let (a, b) = (isolate(&kv, 0, 0), isolate(&kv, 1, 1));
        let browser = begin(&clock, &a, 0);
        let sent = header(&browser, &clock);
        // The others only note uses and save, as a second device of the same id.
        clock.run(vec![
            Box::pin(async {
                for _ in 0..60 {
                    drop(ask(&a, &browser.id_alone(COOKIE), add).await);
                    clock.pause(200).await;
                }
            }),
            Box::pin(async {
                clock.pause(3_000 + seed * 29).await;
                drop(ask(&b, &sent, add).await);
            }),
        ]);
        lost += 1;
        logged += u32::from(!clock.log.borrow().is_empty());
    }
    println!("{logged} of {lost} gave a write up");
    assert_eq!(logged, 0);
}

#[test]
fn an_orphan_that_is_shown_after_five_seconds_is_stored() {
    for wait in [100, 3_000, 5_000, 20_000] {
        let clock = Clock::new(1);
        let kv = Kv::new(&clock);
        let here = isolate(&kv, 0, 0);
        let mut browser = begin(&clock, &here, 0);
        let answer = run(&clock, ask(&here, &header(&browser, &clock), add));
        arrive(&mut browser, &clock, &answer);
        run(&clock, clock.pause(300));
        assert!(run(&clock, in_time(&clock, 100, ask(&here, &header(&browser, &clock), save))).is_none());
        run(&clock, clock.pause(wait));
        let shown = run(&clock, ask(&here, &header(&browser, &clock), look));
        arrive(&mut browser, &clock, &shown);
        run(&clock, clock.pause(600_000));
        let last = run(&clock, ask(&here, &browser.id_alone(COOKIE), look)).unwrap().0;
        println!("{wait}: shown {}, last {last}, log {:?}", shown.as_ref().unwrap().0, clock.log.borrow());
        assert_eq!(last, shown.unwrap().0, "what was shown, {wait} ms later");
    }
}

#[derive(Clone)]
struct Failing {
    kv: Kv,
    fails: Rc<Cell<bool>>,
}

impl KvNamespace for Failing {
    async fn get(&self, names: &[String]) -> Result<Vec<Option<String>>, KvFailure> {
        self.kv.get(names).await
    }
    async fn put(&self, name: &str, value: &str, expiration: u64) -> Result<(), KvFailure> {
        if self.fails.get() {
            self.kv.clock.pause(50).await;
            return Err(KvFailure::Other("KV PUT failed: 500".to_owned()));
        }
        self.kv.put(name, value, expiration).await
    }
    async fn delete(&self, name: &str) -> Result<(), KvFailure> {
        self.kv.delete(name).await
    }
}

fn unsure(fails: bool) -> (Vec<Result<u64, ErrorKind>>, u64) {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let failing = Failing { kv: kv.clone(), fails: Rc::default() };
    let platform = IsolateClock { clock: clock.clone(), isolate: 0, ahead: 0 };
    let store = KvStore::new(failing.clone(), platform.clone());
    let here = Sessions::new(store, platform, Signer::from_secret(KEY).unwrap(), SessionParameters::default()).unwrap();
    let browser = begin(&clock, &here, 0);
    run(&clock, clock.pause(100_000));
    kv.freeze(0);
    let id = browser.id_alone(COOKIE);
    let message = Incoming::new().cookie(id.as_str());
    let mut all = Vec::new();
    all.push(run(&clock, ask_by(&here, &message, save)).map(|a| a.0));
    run(&clock, clock.pause(2_000));
    if fails {
        failing.fails.set(true);
        all.push(run(&clock, ask_by(&here, &message, save)).map(|a| a.0));
        failing.fails.set(false);
        run(&clock, clock.pause(2_000));
    }
    all.push(run(&clock, ask_by(&here, &message, save)).map(|a| a.0));
    run(&clock, clock.pause(600_000));
    kv.thaw(0);
    let last = run(&clock, ask(&isolate(&kv, 1, 1), &id, look)).unwrap().0;
    (all, last)
}

#[test]
fn a_failed_save_does_not_make_its_isolate_forget_the_save_before() {
    println!("control {:?}", unsure(false));
    let (all, last) = unsure(true);
    println!("{all:?} {last}");
    assert!(last >= 3, "two saves said so: {all:?}, and {last} is there");
}

fn pressure(pad: usize, others: usize) -> u64 {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate_with(&kv, 0, 0, r#"{"max_data": 10000000}"#);
    let browser = begin(&clock, &here, 0);
    run(&clock, clock.pause(100_000));
    let sent = header(&browser, &clock);
    let create = async |pad: usize| {
        ask(&here, "", async |session| {
            session.count = 1;
            session.pad = "x".repeat(pad);
            Ok(())
        })
        .await
        .unwrap();
    };
    clock.run(vec![
        Box::pin(async {
            // It is slow.
            ask(&here, &sent, async |session| {
                session.count += 1;
                clock.pause(4_000).await;
                Ok(())
            })
            .await
            .unwrap();
        }),
        Box::pin(async {
            clock.pause(100).await;
            assert_eq!(ask(&here, &sent, save).await.unwrap().0, 2);
        }),
        Box::pin(async {
            clock.pause(1_500).await;
            for _ in 0..others {
                create(pad).await;
            }
        }),
        Box::pin(async {
            clock.pause(1_550).await;
            if pad > 0 {
                create(10).await;
            }
        }),
    ]);
    run(&clock, clock.pause(600_000));
    run(&clock, ask(&here, &browser.id_alone(COOKIE), look)).unwrap().0
}

#[test]
fn memory_pressure_control() {
    assert_eq!(pressure(0, 0), 3);
}

#[test]
fn one_large_session_of_another_visitor_makes_nobody_lose_an_update() {
    assert_eq!(pressure(5_000_000, 1), 3);
}

#[test]
fn nor_do_seventeen_of_the_largest_by_default() {
    assert_eq!(pressure(250_000, 17), 3);
}

#[test]
fn a_change_of_id_by_a_longer_branch_takes_no_update_along_in_one_isolate() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let (a, b, c) = (isolate(&kv, 0, 0), isolate(&kv, 1, 1), isolate(&kv, 2, 2));
    let browser = begin(&clock, &a, 0);
    let first = header(&browser, &clock);
    let mut long = Browser::default();
    for line in first.split("; ") {
        long.set(&format!("{line}; Max-Age=90"), clock.milliseconds());
    }
    kv.freeze(0);
    kv.freeze(1);
    kv.freeze(2);
    for _ in 0..4 {
        let answer = run(&clock, ask(&b, &header(&long, &clock), add));
        arrive(&mut long, &clock, &answer);
    }
    let long = header(&long, &clock);
    let mut short = Browser::default();
    for line in first.split("; ") {
        short.set(&format!("{line}; Max-Age=90"), clock.milliseconds());
    }
    let answer = run(
        &clock,
        ask(&c, &first, async |session| {
            session.count = 100;
            Ok(())
        }),
    );
    arrive(&mut short, &clock, &answer);
    let short = header(&short, &clock);
    let (moved, added) = (RefCell::new(None), RefCell::new(None));
    clock.run(vec![
        Box::pin(async {
            let answer = ask(&a, &long, async |session| {
                clock.pause(500).await;
                session.cycle_id();
                Ok(())
            })
            .await;
            *moved.borrow_mut() = Some(answer);
        }),
        Box::pin(async {
            clock.pause(100).await;
            let answer = ask(&a, &short, save).await;
            *added.borrow_mut() = Some(answer);
        }),
    ]);
    println!("added {:?}", added.borrow().as_ref().unwrap().as_ref().map(|a| a.0));
    let mut browser = Browser::default();
    arrive(&mut browser, &clock, &moved.into_inner().unwrap());
    let seen = run(&clock, ask(&a, &header(&browser, &clock), look)).unwrap().0;
    assert_eq!(seen, 101);
}

/// The read before the second put hangs for eight seconds.
#[test]
fn a_slow_look_before_the_second_put_takes_nothing_back() {
    for back in [20, 8_000] {
        let clock = Clock::new(1);
        let kv = Kv::new(&clock);
        let (a, b) = (isolate(&kv, 0, 0), isolate(&kv, 1, 1));
        let mut browser = begin(&clock, &a, 0);
        kv.slow(0, "put session", 2_000, 75);
        let answer = run(&clock, ask(&a, &header(&browser, &clock), add));
        arrive(&mut browser, &clock, &answer);
        let began = clock.milliseconds();
        let answer = run(&clock, ask(&b, &header(&browser, &clock), add));
        arrive(&mut browser, &clock, &answer);
        run(&clock, clock.pause(6_500));
        kv.slow(1, "get session", 10, back);
        run(&clock, clock.pause(began + 7_600 - clock.milliseconds()));
        let asked = clock.milliseconds();
        let answer = run(&clock, ask(&b, &header(&browser, &clock), save));
        println!("{back}: {:?} after {} ms", answer.as_ref().map(|a| a.0), clock.milliseconds() - asked);
        arrive(&mut browser, &clock, &answer);
        run(&clock, clock.pause(600_000));
        println!("{}", kv.calls.borrow().join("\n"));
        let last = run(&clock, ask(&a, &browser.id_alone(COOKIE), look)).unwrap().0;
        assert_eq!(last, answer.unwrap().0, "{back}");
    }
}

#[test]
fn a_use_that_was_noted_here_is_not_forgotten_here() {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let here = isolate_with(&kv, 0, 0, r#"{"timeout": 3600}"#);
    let mut browser = begin(&clock, &here, 0);
    run(&clock, clock.pause(3_580_000));
    kv.freeze(0);
    let seen = run(&clock, ask(&here, &header(&browser, &clock), look));
    arrive(&mut browser, &clock, &seen);
    assert_eq!(seen.unwrap().0, 1);
    run(&clock, clock.pause(30_000));
    let seen = run(&clock, ask(&here, &header(&browser, &clock), look));
    println!("{}", kv.calls.borrow().join("\n"));
    assert_eq!(seen.map(|a| a.0), Ok(1), "its use was noted half a minute ago, in this isolate");
}

/// One put hangs; what waits behind it is given up without having been tried.
#[test]
fn what_waits_behind_a_put_that_hangs_is_tried() {
    for act in ["save", "add"] {
        let clock = Clock::new(1);
        let kv = Kv::new(&clock);
        let here = isolate(&kv, 0, 0);
        let mut browser = begin(&clock, &here, 0);
        kv.slow(0, "put session", 10_000, 0);
        let answer = run(&clock, ask(&here, &header(&browser, &clock), add));
        arrive(&mut browser, &clock, &answer);
        run(&clock, clock.pause(100));
        let sent = header(&browser, &clock);
        let answer = match act {
            "save" => run(&clock, ask(&here, &sent, save)),
            _ => run(&clock, ask(&here, &sent, add)),
        };
        let told = answer.as_ref().map(|a| a.0).map_err(|e| *e);
        run(&clock, clock.pause(600_000));
        let puts = kv.calls.borrow().iter().filter(|c| c.contains("put session")).count();
        let last = run(&clock, ask(&here, &browser.id_alone(COOKIE), look)).unwrap().0;
        println!("{act}: {told:?}, {puts} puts, last {last}, {:?}", clock.log.borrow());
        assert_eq!((told, last), (Ok(3), 3), "{act}");
    }
}

fn renewed(parameters: &str) -> u64 {
    let clock = Clock::new(1);
    let kv = Kv::new(&clock);
    let (here, elsewhere) = (isolate_with(&kv, 0, 0, parameters), isolate_with(&kv, 1, 1, parameters));
    let mut browser = begin(&clock, &here, 0);
    run(&clock, clock.pause(1_800_000));
    kv.slow(0, "put session", 3_000, 75);
    let answer = run(&clock, ask(&here, &header(&browser, &clock), add));
    arrive(&mut browser, &clock, &answer);
    assert!(clock.kill(0));
    run(&clock, clock.pause(40_000));
    assert_eq!(run(&clock, ask(&elsewhere, &header(&browser, &clock), look)).unwrap().0, 2);
    run(&clock, clock.pause(600_000));
    run(&clock, ask(&elsewhere, &browser.id_alone(COOKIE), look)).unwrap().0
}

#[test]
fn a_cookie_that_is_renewed_does_not_say_that_the_write_is_stored() {
    assert_eq!(renewed(r#"{"timeout": 3600}"#), 2, "control");
    assert_eq!(renewed(r#"{"timeout": 3600, "persistent": true}"#), 2);
}
