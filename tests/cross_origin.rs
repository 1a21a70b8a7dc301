//! Requests that a page of another site made a visitor's browser send: they reach no session.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

mod support;

use edge_session::{ErrorKind, Incoming, Opened, Outcome, Refusal};
use pollster::block_on;
use support::{Rig, Visit, count, known, stored};

#[test]
fn another_sites_post_is_refused_before_the_store_is_asked_and_before_the_handler_runs() {
    let rig = Rig::new();
    let visitor = known(&rig);
    let cookie = visitor.cookie.as_deref();
    let incoming =
        Incoming::new().cookie(cookie).method("POST").fetch_site("cross-site").origin("https://evil.example");
    let refused = block_on(rig.sessions.run(&incoming, count)).unwrap_err();
    assert_eq!((refused.kind(), refused.status()), (ErrorKind::CrossOrigin, 403));
    assert!(refused.to_string().contains("https://evil.example"), "the operator learns who: {refused}");
    assert!(!Refusal::from(&refused).text.contains("evil"), "and nobody else");
    let opened = block_on(rig.sessions.open::<Visit>(&incoming)).unwrap_err();
    assert_eq!(opened.kind(), ErrorKind::CrossOrigin);
    assert_eq!(rig.store.calls(), "");
    assert_eq!(stored(&rig, &visitor).unwrap().data, r#"{"count":1}"#, "the session is as it was");
}

#[test]
fn its_link_is_followed_and_a_trusted_sites_post_is_not_refused() {
    let rig = Rig::with(r#"{"trusted_origins": ["https://app.example"]}"#);
    let visitor = known(&rig);
    let incoming = Incoming::new().cookie(visitor.cookie.as_deref());
    let link = incoming.method("GET").fetch_site("cross-site");
    let trusted = incoming.method("POST").fetch_site("cross-site").origin("https://app.example");
    for (incoming, expected) in [(link, 2), (trusted, 3)] {
        let answer = block_on(rig.sessions.run(&incoming, count)).unwrap();
        assert!(matches!(answer, Outcome::Replied { reply, .. } if reply == expected), "{answer:?}");
    }
    let Opened::Session(session) = block_on(rig.sessions.open::<Visit>(&trusted)).unwrap() else { panic!("expired") };
    assert_eq!(session.count, 3);
}
