//! What the core's own work costs, natively and without a server: `make bench-core`.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, missing_docs, reason = "it measures")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use edge_session::cookie::read;
use edge_session::{
    Incoming, MemoryStore, Outcome, Record, Session, SessionParameters, Sessions, Signer, TestPlatform,
};
use pollster::block_on;
use serde::{Deserialize, Serialize};

const NAME: &str = "webpy_session_id";
const ID: &str = "000102030405060708090a0b0c0d0e0f";

#[derive(Default, Serialize, Deserialize)]
struct Visit {
    count: u64,
}

fn core(criterion: &mut Criterion) {
    let signer = Signer::from_secret("first-key-0123456789abcdef012345").unwrap();
    criterion.bench_function("sign an id", |bencher| bencher.iter(|| signer.sign(NAME, black_box(ID))));

    let header = format!("theme=dark; {NAME}={}; lang=en", signer.sign(NAME, ID));
    assert_eq!(read(&header, NAME, &signer).ids().len(), 1);
    criterion.bench_function("parse and verify a cookie", |bencher| {
        bencher.iter(|| read(black_box(&header), NAME, &signer));
    });
    let forged = header.replace("; lang", "0; lang");
    criterion.bench_function("refuse a forged cookie", |bencher| {
        bencher.iter(|| read(black_box(&forged), NAME, &signer));
    });

    for (size, padding) in [("small", 0), ("10 KB", 10_000)] {
        let data = format!(r#"{{"count":7,"padding":"{}"}}"#, "x".repeat(padding));
        let record = Record::new(1_764_000_000, 1_764_086_400, data).with(|record| record.version = 7);
        let text = record.to_text();
        criterion.bench_function(&format!("write a record, {size}"), |bencher| {
            bencher.iter(|| black_box(&record).to_text());
        });
        criterion.bench_function(&format!("read a record, {size}"), |bencher| {
            bencher.iter(|| Record::from_text(black_box(&text)).unwrap());
        });
        let data: serde_json::Value = serde_json::from_str(&record.data).unwrap();
        criterion.bench_function(&format!("serialise and compare, {size}"), |bencher| {
            bencher.iter(|| serde_json::to_string(black_box(&data)).unwrap() == record.data);
        });
    }

    let sessions = Sessions::new(
        MemoryStore::default(),
        TestPlatform::at(1_764_000_000),
        signer.clone(),
        SessionParameters::default(),
    )
    .unwrap();
    let count = async |session: &mut Session<Visit>| -> Result<u64, ()> {
        session.count += 1;
        Ok(session.count)
    };
    let Ok(Outcome::Replied { set_cookie, .. }) = block_on(sessions.run(&Incoming::default(), count)) else {
        return;
    };
    let cookie = set_cookie.first().map_or("", String::as_str).split(';').next().unwrap_or_default().to_owned();
    let incoming = Incoming::new().cookie(&*cookie);
    let read_only = async |session: &mut Session<Visit>| -> Result<u64, ()> { Ok(session.count) };
    criterion.bench_function("a whole request that reads", |bencher| {
        bencher.iter(|| block_on(sessions.run(&incoming, read_only)).is_ok());
    });
}

criterion_group!(benches, core);
criterion_main!(benches);
