//! The cookie header, as visitors, neighbours and attackers write it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]
#![allow(clippy::arithmetic_side_effects, clippy::string_slice, reason = "likewise")]

use edge_session::Signer;
use edge_session::cookie::{Presented, read};
use proptest::prelude::*;

const NAME: &str = "webpy_session_id";
const ID: &str = "000102030405060708090a0b0c0d0e0f";

fn signer() -> Signer {
    Signer::from_secret("first-key-0123456789abcdef012345").unwrap()
}

fn ours() -> String {
    signer().sign(NAME, ID)
}

fn goes_on(header: &str) -> bool {
    read(header, NAME, &signer()).ids().first().is_some_and(|signed| signed.key.as_str().starts_with("be45cb26"))
}

/// The table of `webpy-sessions`: in web.py three of these lose the session.
#[test]
fn no_foreign_cookie_loses_the_session() {
    let pair = format!("{NAME}={}", ours());
    for header in [
        pair.clone(),
        format!("a=b; {pair}; c=\"q;x\""),
        format!("prefs={{theme:dark}}; {pair}"),
        format!("prefs=\"dark\"; {pair}"),
        format!("{pair}; prefs={{\"theme\":\"dark\"}}"),
        format!("bad[name]=1; {pair}"),
        format!("bad[name]=1; {pair}; q=\"1\""),
        format!("x=\"unterminated; {pair}"),
        format!("prefs={{\"theme\":\"dark\"}}; {pair}"),
        format!(";;; = ; =x; nothing; {pair}"),
        format!("a=1;{pair};b=2"),
        format!("é=ü; {pair}"),
        format!("{NAME} = {}", ours()),
        format!("{NAME}=\"{}\"", ours()),
        format!("\t{pair}\t"),
        (0..100).map(|n| format!("foreign{n}={{\"n\": {n}}}; ")).collect::<String>() + &pair,
        (0..100).fold(pair.clone(), |header, n| format!("{header}; foreign{n}=\"")),
    ] {
        assert!(goes_on(&header), "{header}");
    }
}

#[test]
fn of_several_cookies_of_our_name_the_first_that_verifies_counts() {
    let pair = format!("{NAME}={}", ours());
    assert!(goes_on(&format!("{NAME}=0000; {pair}")));
    assert!(goes_on(&format!("{pair}; {NAME}=0000")));
    let other = signer().sign(NAME, "ffffffffffffffffffffffffffffffff");
    assert!(goes_on(&format!("{pair}; {NAME}={other}")));
    assert!(!goes_on(&format!("{NAME}={other}; {pair}")));
}

#[test]
fn what_we_did_not_sign_is_forged_and_what_is_not_ours_is_nothing() {
    let signed = ours();
    let mac = signed.split_once('.').unwrap().1.to_owned();
    let forged = [
        String::new(),
        "zzzz".to_owned(),
        "../x".to_owned(),
        "..%2Fx".to_owned(),
        ID.to_owned(),
        format!("{ID}."),
        format!(".{mac}"),
        mac.clone(),
        signed[..signed.len() - 1].to_owned(),
        format!("{signed}0"),
        format!("{signed}%0A"),
        format!("{signed},foo=bar"),
        signed.to_uppercase(),
        format!("\"{signed}"),
        format!("{signed} x"),
        "a".repeat(8 * 1024),
        format!("{}.{mac}", "0".repeat(8 * 1024)),
        "\u{0}".to_owned(),
        format!("{signed}\u{0}"),
        "é".to_owned(),
        signer().sign("another_cookie", ID),
        Signer::from_secret("another-key-23456789abcdef012345").unwrap().sign(NAME, ID),
        // Signed by us, yet no id: what another release of this crate might have put there.
        signer().sign(NAME, "not an id"),
    ];
    for value in forged {
        assert_eq!(read(&format!("{NAME}={value}"), NAME, &signer()), Presented::Forged, "{value}");
    }
    for header in [
        String::new(),
        " ".to_owned(),
        NAME.to_owned(),
        format!("WEBPY_SESSION_ID={signed}"),
        format!("x{NAME}={signed}"),
        format!("={NAME}={signed}"),
        format!("{NAME}x={signed}"),
        // No blank to a browser, so that a prefix in front of the name was never checked.
        format!("\u{2000}{NAME}={signed}"),
        format!("\u{a0}{NAME}={signed}"),
        format!("\n{NAME}={signed}"),
        // A neighbour's cookie that holds ours.
        format!("x=1, {NAME}={signed}"),
    ] {
        assert_eq!(read(&header, NAME, &signer()), Presented::Nothing, "{header:?}");
    }
}

proptest! {
    #[test]
    fn ours_is_found_among_any_foreign_cookies(
        before in proptest::collection::vec("[^;]{0,30}", 0..5),
        after in proptest::collection::vec("\\PC{0,30}", 0..5),
    ) {
        prop_assume!(before.iter().all(|pair| !pair.trim_matches([' ', '\t']).starts_with(NAME)));
        let header = [before, vec![format!("{NAME}={}", ours())], after].concat().join("; ");
        prop_assert!(goes_on(&header), "{}", header);
    }

    #[test]
    fn any_header_is_read_without_a_panic(header in "\\PC*|[ -~;=\"]*", name in "[a-z_]{1,10}") {
        prop_assert!(read(&header, &name, &signer()).ids().is_empty());
    }

    #[test]
    fn a_cookie_that_was_cut_anywhere_is_forged(at in 0usize..97) {
        let cut = &ours()[..at];
        prop_assert_eq!(read(&format!("{NAME}={cut}"), NAME, &signer()), Presented::Forged);
    }

    #[test]
    fn a_cookie_leads_to_its_own_session_and_to_no_other(first in "[0-9a-f]{32}", second in "[0-9a-f]{32}") {
        prop_assume!(first != second);
        let key = |id: &str| {
            let presented = read(&format!("{NAME}={}", signer().sign(NAME, id)), NAME, &signer());
            presented.ids()[0].key.clone()
        };
        prop_assert_eq!(key(&first), key(&first));
        prop_assert_ne!(key(&first), key(&second));
    }
}
