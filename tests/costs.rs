//! What a thousand requests cost on each store: counted here, and told in docs/operations.md.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, reason = "likewise")]

mod support;

use edge_session::{Incoming, KvStore, Outcome, SessionParameters, Sessions, Signer, TestPlatform};
use pollster::block_on;
use support::kv::ModelKv;
use support::{KEY, NOW, SpyStore, Visit};

/// Visitors who come so often, ten seconds apart, and change something each so many times.
struct Site {
    name: [&'static str; 2],
    visitors: u32,
    visits: u32,
    changes_every: u32,
}

const SITES: [Site; 2] = [
    Site { name: ["a counter", "计数器"], visitors: 100, visits: 10, changes_every: 1 },
    Site {
        name: ["a hundred looks for each change", "每次修改对应一百次查看"],
        visitors: 10,
        visits: 100,
        changes_every: 100,
    },
];

/// What is billed: its names, how many, the price of a million in dollars, and how many are free each day. (Cloudflare's prices
/// of November 2026; the Worker's own requests, and an object's duration, are apart.)
struct Billed {
    name: [&'static str; 2],
    count: u32,
    price: f64,
    free: f64,
}

/// The requests of a site, in this store.
fn visit(site: &Site, sessions: &Sessions, platform: &TestPlatform) {
    for _ in 0..site.visitors {
        let mut cookie: Option<String> = None;
        for visit in 0..site.visits {
            platform.advance(10);
            let handler = async |session: &mut edge_session::Session<Visit>| {
                if visit % site.changes_every == 0 {
                    session.count += 1;
                }
                Ok::<_, edge_session::Error>(())
            };
            let incoming = Incoming::new().cookie(cookie.as_deref());
            let Ok(Outcome::Replied { set_cookie, .. }) = block_on(sessions.run(&incoming, handler)) else { panic!() };
            if let Some(line) = set_cookie.iter().find(|line| line.starts_with("webpy_session_id=")) {
                cookie = line.split(';').next().map(str::to_owned);
            }
        }
    }
}

fn sessions(store: impl edge_session::Store + 'static, platform: &TestPlatform) -> Sessions {
    let signer = Signer::from_secret(KEY).unwrap();
    Sessions::new(store, platform.clone(), signer, SessionParameters::default()).unwrap()
}

fn on_kv(site: &Site) -> Vec<Billed> {
    let platform = TestPlatform::at(NOW);
    let kv = ModelKv::new(platform.clone());
    visit(site, &sessions(KvStore::new(kv.clone(), platform.clone()), &platform), &platform);
    let calls = kv.calls();
    let count = |act: &str| calls.split(", ").filter(|call| call.starts_with(act)).count() as u32;
    // A read of two names is billed as two.
    let read = calls.split(", ").filter(|call| call.starts_with("get")).map(|call| call.split(' ').count() as u32 - 1);
    vec![
        Billed { name: ["keys read", "个键读取"], count: read.sum(), price: 0.5, free: 100_000.0 },
        Billed { name: ["writes", "次写入"], count: count("put"), price: 5.0, free: 1_000.0 },
        Billed { name: ["deletes", "次删除"], count: count("delete"), price: 5.0, free: 1_000.0 },
    ]
}

/// The calls of the session layer to a store that is asked once for each.
fn calls(site: &Site) -> [u32; 3] {
    let platform = TestPlatform::at(NOW);
    let store = SpyStore::default();
    visit(site, &sessions(store.clone(), &platform), &platform);
    let calls = store.calls();
    ["load", "create", "update"].map(|act| calls.split(' ').filter(|call| *call == act).count() as u32)
}

/// A row has an entry in the index of what expires. A statement that writes reads as well: an update the row and that entry, as
/// `make bench-bill` counts.
fn on_d1(site: &Site) -> Vec<Billed> {
    let [load, create, update] = calls(site);
    vec![
        Billed { name: ["rows read", "行读取"], count: load + create + 2 * update, price: 0.001, free: 5_000_000.0 },
        Billed { name: ["rows written", "行写入"], count: 2 * (create + update), price: 1.0, free: 100_000.0 },
    ]
}

/// An alarm is billed as a row.
fn on_objects(site: &Site) -> Vec<Billed> {
    let [load, create, update] = calls(site);
    vec![
        Billed { name: ["requests", "个请求"], count: load + create + update, price: 0.15, free: 100_000.0 },
        Billed { name: ["rows written", "行写入"], count: 2 * create + update, price: 1.0, free: 100_000.0 },
    ]
}

/// The table's rows, in a language.
fn rows(language: usize) -> String {
    let mut rows = String::new();
    for site in &SITES {
        assert_eq!(site.visitors * site.visits, 1000);
        for (store, billed) in [("KV", on_kv(site)), ("D1", on_d1(site)), ("Durable Objects", on_objects(site))] {
            let what: Vec<_> = billed
                .iter()
                .filter(|billed| billed.count > 0)
                .map(|billed| format!("{} {}", billed.count, billed.name[language]))
                .collect();
            let price: f64 = billed.iter().map(|billed| f64::from(billed.count) / 1000.0 * billed.price).sum();
            // The Worker itself has 100 000 requests a day.
            let free = billed
                .iter()
                .filter(|billed| billed.count > 0)
                .map(|billed| billed.free * 1000.0 / f64::from(billed.count));
            let free = free.fold(100_000.0, f64::min);
            let separator = if language == 0 { ", " } else { "，" };
            rows += &format!(
                "| {} | {store} | {} | ${price:.2} | {free:.0} |\n",
                site.name[language],
                what.join(separator)
            );
        }
    }
    rows
}

#[test]
fn the_documents_tell_what_a_thousand_requests_cost() {
    for (language, document) in
        [include_str!("../docs/operations.md"), include_str!("../docs/operations.zh-CN.md")].into_iter().enumerate()
    {
        let rows = rows(language);
        assert!(document.contains(&rows), "the table is\n{rows}");
    }
}
