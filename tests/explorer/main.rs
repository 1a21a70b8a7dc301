//! A deterministic explorer of what can happen to requests on one session: they run at once, the clock moves between any
//! two steps, store calls and their answers are lost, visitors leave, replies arrive in any order or never, two releases
//! answer side by side, and somebody knows the id from before. After each run the promises are checked.
//!
//! First the orders that deviate least from one request after the other, then random ones. A failure prints its schedule, which replays it:
//! `EXPLORER='a login | Kv | 0.2.1' cargo test --features conformance --test explorer replay -- --nocapture`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]
#![allow(unreachable_pub, reason = "its modules are its own")]

mod promises;
mod requests;
mod run;
mod stores;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::collections::VecDeque;

use requests::Act::{self, *};
use requests::By;
use run::{ADVERSARY as A, Run, Scenario, VISITOR as V};
use stores::{Flaw, Kind};
use world::Choices;
use world::Faults::{OfAnything, OfWrites};

/// In how many orders a scenario is tried on each store: those first that deviate least from "the first one goes on", then
/// random ones.
const SYSTEMATIC: usize = 800;
const RANDOM: u64 = 700;

/// `EXPLORER_RUNS=30000` explores for longer: that many random orders.
fn random_runs() -> u64 {
    std::env::var("EXPLORER_RUNS").map_or(RANDOM, |runs| runs.parse().expect("a number"))
}

/// Plays one schedule. An error is what broke, and how to replay it.
fn attempt(scenario: &Scenario, kind: Kind, choices: Choices) -> Result<Vec<(usize, usize)>, String> {
    let run = Run::new(scenario, kind, choices);
    run.play();
    let made = run.world.made();
    match promises::broken(&run) {
        None => Ok(made),
        Some(broken) => {
            let schedule: Vec<_> = made.iter().map(|(chosen, _)| chosen.to_string()).collect();
            let (name, schedule) = (scenario.name, schedule.join("."));
            Err(format!("{broken}\nEXPLORER='{name} | {kind:?} | {schedule}'\n{}", run.world.story()))
        }
    }
}

fn explore(scenario: &Scenario) -> Result<(), String> {
    for kind in scenario.kinds {
        // Breadth first: no deviation, then one, anywhere, then two.
        let mut given = VecDeque::from([Vec::new()]);
        for _ in 0..SYSTEMATIC {
            let Some(choices) = given.pop_front() else { break };
            let fixed = choices.len();
            let made = attempt(scenario, *kind, Choices { given: choices, ..Choices::default() })?;
            for (place, (_, of)) in made.iter().enumerate().skip(fixed) {
                let before: Vec<usize> = made[..place].iter().map(|(chosen, _)| *chosen).collect();
                given.extend((1..*of).map(|other| [&before[..], &[other]].concat()));
            }
        }
        // With nothing left to choose there is nothing to draw.
        if !given.is_empty() {
            for seed in 0..random_runs() {
                attempt(scenario, *kind, Choices { seed: Some(seed), ..Choices::default() })?;
            }
        }
    }
    Ok(())
}

/// With a 401 for who comes with a session that has ended.
const STRICT: &str = r#"{"timeout": 100, "touch_after": 10, "ignore_expiry": false}"#;
/// Bound to the address of who began it.
const BOUND: &str = r#"{"timeout": 100, "touch_after": 10, "ignore_change_ip": false}"#;

fn scenarios() -> Vec<Scenario> {
    let of = Scenario::of;
    let halves = |scenario: Scenario| Scenario { by: By::Halves, ..scenario };
    let lossy = |scenario: Scenario| Scenario { faults: OfAnything(3), leaves: 1, loses_replies: true, ..scenario };
    vec![
        // Exact: no update is lost, and none is applied twice.
        of("counts", &[(V, Count), (V, CountByUpdate), (V, Count)]),
        of("saves of nothing", &[(V, Save), (V, Count), (V, Save)]),
        of("counts and looks", &[(V, Count), (V, Look), (V, CountByUpdate), (V, Look)]),
        Scenario { faults: OfWrites(3), ..of("counts, answers lost", &[(V, Count), (V, Count)]) },
        Scenario { faults: OfAnything(4), ..of("counts and looks, all lost", &[(V, Count), (V, Look), (V, Count)]) },
        Scenario { faults: OfWrites(4), ..of("updates, answers lost", &[(V, CountByUpdate), (V, CountAndDeliver)]) },
        Scenario { faults: OfWrites(3), ..of("a handler that goes on", &[(V, CountAndGoOn), (V, Count)]) },
        Scenario { faults: OfWrites(2), ..of("a save that is left", &[(V, CountAndLeaveTheSave), (V, Count)]) },
        of("a save that is left, and a logout", &[(V, CountAndLeaveTheSave), (V, Reset), (V, Count)]),
        Scenario {
            jumps: vec![6, 6],
            leaves: 1,
            ..of("counts past the deadline", &[(V, Count), (V, CountAndDeliver)])
        },
        // Told is true.
        of("a voucher", &[(V, Take), (V, TakeAndSave), (V, Take)]),
        of("a voucher and a logout", &[(V, Take), (V, Reset), (V, TakeAndSave)]),
        Scenario { faults: OfWrites(3), ..of("a voucher, answers lost", &[(V, Take), (V, TakeAndSave)]) },
        // Logout is final.
        of("a logout", &[(V, Count), (V, CountByUpdate), (V, Reset)]),
        Scenario {
            faults: OfWrites(2),
            kinds: &Kind::EXACT,
            ..of("a logout, and one of what begins after it", &[(V, Reset), (V, Count), (V, Reset)])
        },
        of("two logouts", &[(V, Reset), (V, Count), (V, Reset)]),
        of("a logout and a login", &[(V, LogIn), (V, Reset)]),
        of("a logout, a login and a count", &[(V, LogIn), (V, Reset), (V, Count)]),
        of("a logout and two logins", &[(V, LogIn), (V, LogIn), (V, Reset)]),
        Scenario { jumps: vec![31, 31], ..of("a slow logout", &[(V, LogIn), (V, Reset), (V, Look)]) },
        lossy(of("a logout and a login, all lost", &[(V, LogIn), (V, Reset), (V, Count)])),
        Scenario { jumps: vec![40, 61], ..of("a very slow logout", &[(V, Reset), (V, LogIn), (V, LogIn)]) },
        Scenario { faults: OfWrites(4), ..of("logouts, answers lost", &[(V, LogIn), (V, Reset), (V, ResetAndSave)]) },
        Scenario { leaves: 1, ..of("two logouts and a login", &[(V, LogIn), (V, Reset), (V, Reset)]) },
        of("a logout and a login that counts", &[(V, LogInAndCount), (V, Reset), (V, Count)]),
        of("a logout and a login after an update", &[(V, UpdateAndLogIn), (V, LogIn), (V, Reset)]),
        // A login leaves the old id nothing.
        of("a login", &[(V, LogIn), (A, Count), (A, Look)]),
        of("a login and an adversary's", &[(V, LogIn), (A, LogIn), (A, Look)]),
        of("a login and an adversary's save", &[(V, LogInAndSave), (A, CountAndDeliver), (A, LogIn)]),
        Scenario { jumps: vec![29, 2, 10], ..of("a login and time", &[(V, LogIn), (A, LogIn), (A, Reset), (V, Look)]) },
        lossy(of("a login, all lost", &[(V, LogIn), (A, LogIn), (A, Count)])),
        // Replies that arrive late.
        of("a login and a slow page", &[(V, LogIn), (V, Count), (V, Look)]),
        of("a login that is sent twice", &[(V, LogIn), (V, LogIn), (V, Count)]),
        Scenario {
            parameters: STRICT,
            jumps: vec![20, 12],
            ..of("a strict login and a slow page", &[(V, LogIn), (V, Look), (V, Count)])
        },
        Scenario {
            jumps: vec![31],
            ..of("a login and a very slow page", &[(V, LogIn), (V, Count), (V, CountByUpdate)])
        },
        // A sign-in keeps what its visitor had, for one that is sent twice, and nothing of it outlives a logout.
        of("a sign-in and a logout", &[(V, SignIn), (V, Reset), (V, Count)]),
        of("a sign-in that is sent twice, and a logout", &[(V, SignIn), (V, SignIn), (V, Reset)]),
        of("a sign-in and an adversary's", &[(V, SignIn), (A, SignIn), (A, Count)]),
        lossy(of("a sign-in and a logout, all lost", &[(V, SignIn), (V, Reset), (A, Look)])),
        // Whoever comes with what has ended is told so.
        Scenario { parameters: STRICT, ..of("a strict logout and a login", &[(V, Reset), (V, LogIn), (V, Look)]) },
        Scenario {
            parameters: STRICT,
            jumps: vec![31, 70],
            ..lossy(of("a strict logout and a login, all lost", &[(V, LogIn), (V, Reset), (V, Count)]))
        },
        // An address that it is bound to.
        Scenario { parameters: BOUND, ..of("another address", &[(V, Count), (A, Count), (A, Reset), (V, LogIn)]) },
        Scenario {
            parameters: BOUND,
            age: 20,
            jumps: vec![6, 11],
            ..lossy(of("another address, all lost", &[(V, Look), (A, LogIn), (V, Count), (A, Reset)]))
        },
        // Notes of use.
        Scenario { age: 20, ..of("looks with a touch due", &[(V, Look), (V, Look), (V, Count)]) },
        Scenario { age: 20, faults: OfWrites(2), ..of("looks with a touch that fails", &[(V, Look), (V, Look)]) },
        Scenario { age: 20, jumps: vec![6, 11], ..of("looks and time", &[(V, Look), (V, Count), (V, Look)]) },
        Scenario {
            parameters: r#"{"timeout": 100, "touch_after": 10, "persistent": true}"#,
            age: 20,
            ..of("a cookie that is renewed", &[(V, Look), (V, LogIn), (A, Look)])
        },
        Scenario {
            parameters: r#"{"timeout": 100, "touch_after": 10, "persistent": true}"#,
            kinds: &Kind::EXACT,
            age: 20,
            replies: true,
            ..of("a cookie that is renewed by a reply", &[(V, Look), (V, LogIn), (V, Count), (A, Look)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            replies: true,
            rotates: true,
            ..of("a key that is being retired", &[(V, Look), (V, LogIn), (V, Look), (V, Count)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            replies: true,
            rotates: true,
            ..lossy(of("a key that is being retired, all lost", &[(V, Look), (V, LogIn), (V, Reset), (A, Look)]))
        },
        // The end of its time.
        Scenario { jumps: vec![99, 2], ..of("the timeout", &[(V, Count), (V, CountByUpdate), (V, Look)]) },
        // Two releases.
        Scenario { releases: true, ..of("two releases look", &[(V, Look), (V, Look), (V, Look)]) },
        Scenario { releases: true, age: 20, ..of("two releases", &[(V, Count), (V, Look), (V, LogIn), (V, Look)]) },
        // Callers without a handler.
        halves(of("counts by halves", &[(V, Count), (V, CountByUpdate), (V, Count)])),
        halves(Scenario { faults: OfWrites(3), ..of("counts by halves, answers lost", &[(V, Count), (V, Count)]) }),
        halves(of("a voucher by halves", &[(V, Take), (V, Reset), (V, Count)])),
        halves(of("a logout and a login by halves", &[(V, LogIn), (V, Reset), (V, Count)])),
        halves(of("a login and an adversary's by halves", &[(V, LogIn), (A, LogIn), (A, Count)])),
        halves(Scenario { age: 20, jumps: vec![6, 11], ..of("looks and time by halves", &[(V, Look), (V, Count)]) }),
        halves(Scenario { jumps: vec![31], ..lossy(of("halves, all lost", &[(V, LogIn), (V, Reset), (V, Count)])) }),
        // The end of a user's sessions.
        Scenario {
            kinds: &Kind::EXACT,
            ..of("the end of all and two sign-ins", &[(V, SignIn), (A, SignIn), (V, EndAll)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            jumps: vec![1, 1],
            ..of("the end of all, sign-ins and a new id", &[(V, SignIn), (V, EndAll), (V, LogIn), (V, SignIn)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            faults: OfWrites(3),
            ..of("the end of all, answers lost", &[(V, SignIn), (A, SignIn), (V, EndAll)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            jumps: vec![1, 1],
            ..of("the end of the others", &[(V, SignIn), (A, SignIn), (V, EndOthers), (V, Count)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            in_turn: true,
            ..of(
                "the end of the others after another user",
                &[(V, SignIn), (V, SignInOther), (V, SignIn), (V, EndOthers)],
            )
        },
        Scenario {
            kinds: &Kind::EXACT,
            jumps: vec![1, 1],
            in_turn: true,
            ..of(
                "two users in one browser and the end of all",
                &[(V, SignIn), (V, SignInOther), (A, SignIn), (V, EndAll)],
            )
        },
        // A look at them, at any moment.
        Scenario {
            kinds: &Kind::EXACT,
            in_turn: true,
            first: 1,
            ..of("a list and new ids", &[(V, SignIn), (V, LogIn), (V, LogIn), (A, List)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            jumps: vec![61],
            in_turn: true,
            first: 1,
            ..of("a list, a sign-in and new ids", &[(V, SignIn), (V, LogIn), (A, List), (V, SignIn), (V, LogIn)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            jumps: vec![61],
            faults: OfWrites(2),
            in_turn: true,
            first: 1,
            ..of("a list and new ids, answers lost", &[(V, SignIn), (V, LogIn), (V, LogIn), (A, List), (V, Look)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            first: 2,
            ..of(
                "the end of the others while ids change",
                &[(V, SignIn), (A, SignIn), (V, EndOthers), (A, LogIn), (V, LogIn)],
            )
        },
        Scenario {
            kinds: &Kind::EXACT,
            first: 2,
            ..of("the end of all while ids change", &[(V, SignIn), (A, SignIn), (V, EndAll), (A, LogIn), (V, LogIn)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            leaves: 1,
            first: 2,
            ..of("the end of all and who leaves", &[(V, SignIn), (A, SignIn), (V, EndAll), (A, LogIn), (A, List)])
        },
        // More than there may be.
        Scenario {
            kinds: &Kind::EXACT,
            parameters: r#"{"timeout": 100, "touch_after": 10, "max_sessions": 1}"#,
            first: 1,
            ..of("room for one, and a new id", &[(V, SignIn), (V, LogIn), (A, SignIn)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            parameters: r#"{"timeout": 100, "touch_after": 10, "max_sessions": 1}"#,
            jumps: vec![1, 1],
            ..of("sign-ins with room for one", &[(V, SignIn), (A, SignIn), (V, SignIn)])
        },
        Scenario {
            kinds: &Kind::EXACT,
            parameters: r#"{"timeout": 100, "touch_after": 10, "max_sessions": 2}"#,
            jumps: vec![1, 1, 1],
            ..of("sign-ins with room for two", &[(V, SignIn), (A, SignIn), (V, LogIn), (A, SignIn), (V, SignIn)])
        },
        // Everything at once.
        Scenario {
            jumps: vec![6, 30, 20],
            releases: true,
            ..lossy(of("everything", &[(V, LogIn), (V, Count), (V, Reset), (A, LogIn), (V, CountAndDeliver)]))
        },
    ]
}

fn explore_part(part: usize) {
    let only = std::env::var("EXPLORER_ONLY").ok();
    let chosen = |scenario: &&Scenario| only.as_deref().is_none_or(|only| only == scenario.name);
    for scenario in scenarios().iter().skip(part).step_by(2).filter(chosen) {
        if let Err(broken) = explore(scenario) {
            panic!("{}: {broken}", scenario.name);
        }
    }
}

/// In two halves, for two cores.
#[test]
fn the_promises_hold_in_every_order() {
    explore_part(0);
}

#[test]
fn the_promises_hold_in_every_order_too() {
    explore_part(1);
}

/// `EXPLORER='<scenario> | <store> | <schedule>'`, as a failure prints it.
#[test]
fn replay() {
    let Ok(schedule) = std::env::var("EXPLORER") else { return };
    let parts: Vec<&str> = schedule.split(" | ").collect();
    let scenario = scenarios().into_iter().find(|scenario| scenario.name == parts[0]).expect("a scenario");
    let kind = Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == parts[1]).expect("a store");
    let given = parts[2].split('.').map(|choice| choice.parse().unwrap()).collect();
    let run = Run::new(&scenario, kind, Choices { given, ..Choices::default() });
    run.play();
    println!("{}\n{:?}", run.world.story(), promises::broken(&run));
}

#[test]
fn a_use_at_this_time_is_noted_whoever_noted_it() {
    for acts in [&[(V, Look), (V, Look)][..], &[(V, Look), (V, Count), (V, Look)]] {
        let scenario = Scenario { age: 20, kinds: &Kind::EXACT, ..Scenario::of("", acts) };
        for seed in 0..500 {
            let run = Run::new(&scenario, Kind::D1, Choices { seed: Some(seed), ..Choices::default() });
            run.play();
            let record = run.inside.load(&run.keys.borrow()[0], &run.world).unwrap();
            assert_eq!(record.touched_at, run.now(), "{}", run.world.story());
        }
    }
}

/// The explorer must find what each rule of a store is for. The rules of the session layer are taken out one by one by
/// `tests/mutants.mjs`.
#[test]
fn a_store_with_a_flaw_is_found_out() {
    for (flaw, acts, faults, expected) in [
        (Flaw::IgnoresVersions, &[(V, Count), (V, Count)][..], OfWrites(0), "was acknowledged and is lost"),
        (Flaw::Inserts, &[(V, Count), (V, Reset)], OfWrites(0), "alive after a logout"),
        (Flaw::IsSureOfRepetitions, &[(V, CountByUpdate), (V, CountByUpdate)], OfWrites(2), "was applied twice"),
        (Flaw::CreatesAgain, &[(V, LogIn), (V, Reset)], OfWrites(1), "alive after a logout"),
        (Flaw::TouchesByUpdate, &[(V, Look), (V, Count)], OfWrites(0), "was acknowledged and is lost"),
        (Flaw::ForgetsRevocations, &[(V, SignIn), (A, SignIn), (V, EndAll)], OfWrites(0), "after the end of all"),
    ] {
        let scenario = Scenario { flaw, faults, age: 20, kinds: &Kind::EXACT, ..Scenario::of("a flaw", acts) };
        let found = explore(&scenario).expect_err(&format!("{flaw:?}"));
        assert!(found.contains(expected), "{flaw:?}: {found}");
    }
}

/// Two who look are told the same, and `Act` says of each whether it changes anything.
#[test]
fn what_an_act_changes_is_what_its_handler_writes() {
    for (act, changes) in [(Look, false), (Reset, false), (Count, true), (LogIn, true), (Take, true)] {
        assert_eq!(Act::changes_data(act), changes);
    }
}
