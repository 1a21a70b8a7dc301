//! What the documents say is what the code does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::fs;
use std::path::Path;

use edge_session::SessionParameters;

const README: &str = include_str!("../README.md");

#[test]
fn the_readmes_program_is_the_example_that_compiles() {
    let (_, rest) = README.split_once("```rust\n").unwrap();
    let (program, _) = rest.split_once("```\n").unwrap();
    let (_, example) = include_str!("../examples/count.rs").split_once("\n\n").unwrap();
    assert_eq!(program, example.replace("#[rustfmt::skip]\n", ""));
}

#[test]
fn the_readme_lists_every_parameter_and_no_other() {
    let refusal = SessionParameters::from_json(r#"{"?": 1}"#).unwrap_err().to_string();
    let (_, names) = refusal.split_once("the names are ").unwrap();
    let mut listed: Vec<_> = README
        .lines()
        .skip_while(|line| !line.starts_with("| Name | Default"))
        .take_while(|line| line.starts_with('|'))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    listed.sort_unstable();
    assert_eq!(listed.join(", "), names);
}

#[test]
fn the_readmes_defaults_are_the_defaults() {
    let SessionParameters { cookie_name, cookie_path, samesite, httponly, secure, persistent, .. } =
        SessionParameters::default();
    let SessionParameters { timeout, ignore_expiry, ignore_change_ip, expired_message, server_timing, .. } =
        SessionParameters::default();
    for (name, default) in [
        ("cookie_name", format!("{cookie_name:?}")),
        ("cookie_path", format!("{cookie_path:?}")),
        ("samesite", format!("{:?}", samesite.as_str())),
        ("httponly", httponly.to_string()),
        ("secure", secure.to_string()),
        ("persistent", persistent.to_string()),
        ("timeout", timeout.to_string()),
        ("ignore_expiry", ignore_expiry.to_string()),
        ("ignore_change_ip", ignore_change_ip.to_string()),
        ("expired_message", format!("{expired_message:?}")),
        ("server_timing", server_timing.to_string()),
        ("store", "\"kv\"".to_owned()),
    ] {
        let row = format!("| `{name}` | `{default}` |");
        assert!(README.contains(&row), "{row}");
    }
}

/// All Rust below these folders, as one text.
fn rust_in(folders: &[&str]) -> String {
    fn read(path: &Path, text: &mut String) {
        if path.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| read(&entry.unwrap().path(), text));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let mut text = String::new();
    folders.iter().for_each(|folder| read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut text));
    text
}

#[test]
fn every_defect_of_webpy_names_a_test_that_there_is_or_says_why_not() {
    let rust = rust_in(&["src", "tests"]);
    let document = include_str!("../docs/webpy.md");
    for number in 1..=26 {
        let start = format!("| W{number} |");
        let row = document.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{start}"));
        let shown_by = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        let tests: Vec<_> = shown_by.split('`').skip(1).step_by(2).collect();
        for test in &tests {
            assert!(rust.contains(&format!("fn {test}(")), "{start} names {test}, which is not there");
        }
        // W22: what is mended by a type needs no test.
        assert!(!tests.is_empty() || number == 22, "{start} names no test");
    }
}
