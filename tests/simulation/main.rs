//! Sessions on Workers KV as it behaves in production: one visitor at several places, isolates that come and go, replies
//! that come late or never, a KV that shows old values and answers 429. Native, by a virtual clock and a seed.
//!
//! `SIMULATION_SEEDS=100000` simulates for longer (`make soak`), `SIMULATION_SEED=7` tells the story of one run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]
#![allow(unreachable_pub, clippy::print_stdout, reason = "its modules are its own; it says what it counted")]

mod abandoned;
mod behind;
mod browser;
mod busy;
mod clock;
mod contention;
mod ends;
mod foreign;
mod known;
mod late;
mod schedules;
mod stage;
mod world;

use std::time::UNIX_EPOCH;

use world::{Conditions, Tally, World};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Whether a single run is asked for, in which not everything happens.
fn is_one() -> bool {
    number("SIMULATION_SEED").is_some()
}

/// Plays these conditions with each seed. `is_right` says whether a run is as it should be.
fn simulate(conditions: Conditions, is_right: impl Fn(&Tally) -> bool) -> Tally {
    let one = number("SIMULATION_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(10_000),
    };
    let (many, began) = (seeds.end >= 100_000 && one.is_none(), UNIX_EPOCH.elapsed().unwrap());
    let mut all = Tally::default();
    for seed in seeds.clone() {
        let world = World::new(seed, conditions);
        let tally = world.play();
        if !is_right(&tally) || one.is_some() {
            println!("{}\n{}", world.story.borrow().join("\n"), world.clock.log.borrow().join("\n"));
        }
        assert!(is_right(&tally), "with SIMULATION_SEED={seed}: {tally:?} under {conditions:?}");
        all.add(tally);
        if many && (seed + 1) % (seeds.end / 20) == 0 {
            let took = (UNIX_EPOCH.elapsed().unwrap() - began).as_secs();
            let left = took * (seeds.end - seed - 1) / (seed + 1);
            println!("{} of {} seeds, about {left} seconds to go: {conditions:?}", seed + 1, seeds.end);
        }
    }
    println!("{conditions:?}\n  {all:?}");
    all
}

const STEADY: Conditions = Conditions {
    requests: 20,
    faults: 0,
    lost_replies: 0,
    aborts: 0,
    deaths: 0,
    skew: 0,
    logs_in: false,
    logs_out: false,
};

const ROUGH: Conditions = Conditions { lost_replies: 8, aborts: 15, deaths: 10, skew: 3_000, ..STEADY };

/// No state older than was shown, no error, and at rest the id alone leads to the last write that was acknowledged.
fn is_kept(tally: &Tally) -> bool {
    tally.older == 0 && tally.refused == 0 && tally.lost == 0
}

#[test]
fn a_visitor_reads_their_own_writes_from_anywhere_meets_no_error_and_loses_nothing() {
    let all = simulate(STEADY, is_kept);
    assert!(is_one() || all.acknowledged > 0 && all.overlapped > 0, "{all:?}");
}

#[test]
fn also_where_replies_are_lost_clients_leave_isolates_die_and_clocks_differ() {
    simulate(ROUGH, is_kept);
}

#[test]
fn nor_do_they_read_an_older_state_where_calls_fail() {
    let all = simulate(Conditions { faults: 5, ..ROUGH }, |tally| tally.older == 0);
    assert!(is_one() || all.refused > 0, "{all:?}");
}

#[test]
fn a_session_that_was_killed_is_dead_everywhere_once_kv_has_come_to_rest() {
    let conditions = Conditions { requests: 12, logs_in: true, logs_out: true, lost_replies: 20, ..STEADY };
    simulate(conditions, |tally| tally.revived == 0);
}

#[test]
fn nobody_is_logged_out_who_did_not_log_out() {
    simulate(Conditions { requests: 12, logs_in: true, ..STEADY }, |tally| tally.logged_out == 0);
}

#[test]
fn a_seed_plays_the_same_run_again() {
    let play = |seed| {
        let world = World::new(seed, Conditions { faults: 5, logs_in: true, logs_out: true, ..ROUGH });
        (world.play(), world.story.into_inner())
    };
    for seed in 0..20 {
        assert_eq!(play(seed), play(seed));
    }
}
