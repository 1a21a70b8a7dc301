//! What the documents say is what the code does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::fs;
use std::path::{Path, PathBuf};

use edge_session::SessionParameters;

const PARAMETERS: &str = include_str!("../docs/parameters.md");
const PARAMETERS_ZH: &str = include_str!("../docs/parameters.zh-CN.md");

/// Each document, and its translation.
const TRANSLATED: [(&str, &str); 8] = [
    (include_str!("../README.md"), include_str!("../README.zh-CN.md")),
    (include_str!("../docs/cookbook.md"), include_str!("../docs/cookbook.zh-CN.md")),
    (include_str!("../docs/deploy.md"), include_str!("../docs/deploy.zh-CN.md")),
    (include_str!("../docs/guarantees.md"), include_str!("../docs/guarantees.zh-CN.md")),
    (include_str!("../docs/kv.md"), include_str!("../docs/kv.zh-CN.md")),
    (include_str!("../docs/operations.md"), include_str!("../docs/operations.zh-CN.md")),
    (PARAMETERS, PARAMETERS_ZH),
    (include_str!("../docs/security.md"), include_str!("../docs/security.zh-CN.md")),
];

/// The fenced blocks of a document: the word behind the fence, and the text.
fn blocks(document: &str) -> impl Iterator<Item = (&str, &str)> {
    document.split("```").skip(1).step_by(2).map(|block| block.split_once('\n').unwrap())
}

#[test]
fn every_snippet_is_part_of_what_compiles_or_runs() {
    // The examples compile, and so do those in the documentation of `src/`.
    let source = rust_in(&["src"]);
    let documentation = source.lines().filter_map(|line| line.strip_prefix("/// ")).collect::<Vec<_>>().join("\n");
    let examples = rust_in(&["examples", "template"]).replace("#[rustfmt::skip]\n", "");
    let examples = examples + &documentation;
    let migration = include_str!("../migrations/0001_sessions.sql");
    for (kind, text) in TRANSLATED.iter().flat_map(|(document, _)| blocks(document)) {
        match kind {
            "rust" => assert!(examples.contains(text), "in no example:\n{text}"),
            "sql" => assert!(migration.contains(text), "not in the migration:\n{text}"),
            "toml" => check_toml(text),
            "sh" => check_commands(text),
            // A picture.
            "text" => {}
            // tests/worker/readme.rs runs it.
            "console" => assert!(text.starts_with("$ curl "), "{text}"),
            other => panic!("who checks a block of {other:?}?\n{text}"),
        }
    }
}

/// What it says of sessions is accepted, and what it binds is bound in wrangler.toml likewise.
fn check_toml(text: &str) {
    let snippet: toml::Table = toml::from_str(text).unwrap_or_else(|error| panic!("{error}:\n{text}"));
    let wrangler: toml::Table = toml::from_str(include_str!("../wrangler.toml")).unwrap();
    // What a Worker set up by hand is built by is what the template is built by.
    let template: toml::Table = toml::from_str(include_str!("../template/wrangler.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(include_str!("../template/Cargo.toml")).unwrap();
    for (name, model) in [("build", &template), ("compatibility_date", &template), ("profile", &manifest)] {
        assert!(snippet.get(name).is_none_or(|given| Some(given) == model.get(name)), "{text}");
    }
    if let Some(parameters) = snippet.get("vars").and_then(|vars| vars.get("session_parameters")) {
        SessionParameters::from_json(&serde_json::to_string(parameters).unwrap()).unwrap();
    }
    for table in ["kv_namespaces", "d1_databases", "durable_objects", "exports", "triggers", "secrets"] {
        let plain = |table: Option<&toml::Value>| {
            table.map(|table| serde_json::to_string(table).unwrap().replace("my-sessions", "edge-session"))
        };
        if snippet.contains_key(table) {
            assert_eq!(plain(snippet.get(table)), plain(wrangler.get(table)), "{text}");
        }
    }
}

/// The make targets that it calls are there.
fn check_commands(text: &str) {
    let makefile = include_str!("../Makefile");
    for target in text.lines().filter_map(|line| line.strip_prefix("make ")?.split(' ').next()) {
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
    }
}

#[test]
fn the_defaults_to_copy_are_the_defaults() {
    let defaults = blocks(PARAMETERS).find(|(_, text)| text.contains("cookie_name")).unwrap().1;
    let table: toml::Table = toml::from_str(defaults).unwrap();
    let parameters = &table["vars"]["session_parameters"];
    let read = SessionParameters::from_json(&serde_json::to_string(parameters).unwrap()).unwrap();
    assert_eq!(read, SessionParameters::default());
    for name in names() {
        assert!(PARAMETERS.contains(&format!("`{name}`")), "{name}");
        // Four have no value for a default.
        let shown = parameters.get(&name).is_some();
        assert_ne!(
            shown,
            ["cookie_domain", "absolute_timeout", "touch_after", "max_sessions"].contains(&name.as_str()),
            "{name}"
        );
    }
}

#[test]
fn the_translations_are_in_step() {
    for (document, translation) in TRANSLATED {
        assert_eq!(blocks(document).collect::<Vec<_>>(), blocks(translation).collect::<Vec<_>>());
        // The same headings, entries of lists, rows and pictures, in the same order.
        let shape = |document: &str| -> Vec<String> {
            let text: Vec<_> = document.split("```").step_by(2).collect();
            let starts = ["# ", "## ", "### ", "- ", "| `", "| ", "![", "**"];
            let start =
                |line: &str| starts.iter().find(|start| line.starts_with(**start)).map(|start| (*start).to_owned());
            text.join("").lines().filter_map(start).collect()
        };
        assert_eq!(shape(document), shape(translation));
    }
}

/// Where the sections of a document are linked to, as GitHub spells it.
fn anchors(document: &str) -> Vec<String> {
    let heading = |line: &str| Some(line.trim_start_matches('#').strip_prefix(' ')?.to_lowercase());
    let spelled = |heading: String| {
        heading.replace(' ', "-").chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    let text: Vec<_> = document.split("```").step_by(2).collect();
    text.join("").lines().filter(|line| line.starts_with('#')).filter_map(heading).map(spelled).collect()
}

#[test]
fn every_link_leads_to_a_file_and_its_section() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = fs::read_dir(root).unwrap().chain(fs::read_dir(root.join("docs")).unwrap());
    let documents: Vec<PathBuf> = documents.map(|entry| entry.unwrap().path()).collect();
    let is_document = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "md");
    for path in documents.iter().filter(is_document) {
        let document = fs::read_to_string(path).unwrap();
        for link in document.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            let found =
                section.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).iter().any(|a| a == section);
            assert!(found, "{}: {link}", path.display());
            // A translation leads to translations, but for its own original.
            let has_translation = target.with_extension("zh-CN.md").exists();
            let is_original = target.with_extension("zh-CN.md") == *path;
            let is_translation = path.to_string_lossy().ends_with(".zh-CN.md");
            assert!(!is_translation || !has_translation || is_original, "{}: {link}", path.display());
        }
    }
}

/// The names of all parameters, in order.
fn names() -> Vec<String> {
    let refusal = SessionParameters::from_json(r#"{"?": 1}"#).unwrap_err().to_string();
    let (_, names) = refusal.split_once("the names are ").unwrap();
    names.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_table_lists_every_parameter_and_no_other() {
    for (document, first) in [(PARAMETERS, "| Name | Default"), (PARAMETERS_ZH, "| 名称 | 默认值")] {
        let mut listed: Vec<_> = document
            .lines()
            .skip_while(|line| !line.starts_with(first))
            .take_while(|line| line.starts_with('|'))
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        listed.sort_unstable();
        assert_eq!(listed, names());
    }
}

#[test]
fn the_tables_defaults_are_the_defaults() {
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
        assert!(PARAMETERS.contains(&row) && PARAMETERS_ZH.contains(&row), "{row}");
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

#[test]
fn every_line_of_the_asvs_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // What a row names, behind its last bar: files, each with its tests.
    let named = |document: &'static str| -> Vec<(&str, Vec<&str>)> {
        let rows = document.lines().filter(|line| line.starts_with("| 7.") || line.starts_with("| 3."));
        let last = |row: &'static str| row.trim_end_matches(" |").rsplit("| ").next().unwrap();
        rows.map(|row| (row.get(..7).unwrap_or(row), last(row).split('`').skip(1).step_by(2).collect())).collect()
    };
    let lines = named(include_str!("../docs/security.md"));
    assert_eq!(lines, named(include_str!("../docs/security.zh-CN.md")));
    // ASVS 5.0 has 19 lines in V7.
    assert_eq!(lines.iter().filter(|(line, _)| line.starts_with("| 7.")).count(), 19);
    for (line, names) in lines {
        // 7.1.3 asks for a document alone.
        assert!(!names.is_empty() || line == "| 7.1.3", "{line} names no test");
        let mut file = String::new();
        for name in names {
            if name.contains('/') {
                file = fs::read_to_string(root.join(name)).unwrap_or_else(|error| panic!("{line}: {name}: {error}"));
            } else {
                let is_there = file.contains(&format!("fn {name}(")) || file.contains(&format!("test(\"{name}\""));
                assert!(is_there, "{line} names {name}, which is not there");
            }
        }
    }
}
