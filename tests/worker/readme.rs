//! The documents' transcripts are what the Worker prints.

use crate::launcher::{Store, Worker};
use crate::visitor::{Visitor, without_times};

/// Runs the transcript's curl commands, so far as it uses curl: a jar, a cookie, `-i` and a method.
fn run(worker: &Worker, jar: &mut Visitor, command: &str) -> String {
    let mut words = command.split(' ');
    let mut visitor = Visitor::default();
    let (mut with_jar, mut with_headers, mut method) = (false, false, "GET");
    let mut path = None;
    while let Some(word) = words.next() {
        match word {
            "-c" => assert_eq!(words.next(), Some("jar")),
            "-b" => match words.next().unwrap() {
                "jar" => with_jar = true,
                cookie => visitor.cookie = Some(cookie.to_owned()),
            },
            "-i" => with_headers = true,
            "-X" => method = words.next().unwrap(),
            url => path = url.strip_prefix("localhost:8787/"),
        }
    }
    let visitor = if with_jar { jar } else { &mut visitor };
    let reply = visitor.ask(worker, method, path.expect("a URL"), b"");
    let head =
        if with_headers { format!("HTTP/1.1 {} OK\n{}\n", reply.status, reply.header_lines()) } else { String::new() };
    format!("{head}{}", reply.body)
}

on_each_store! {
    fn the_documents_transcripts_are_what_it_prints(store: Store) {
        // As it is shipped.
        let worker = Worker::with(store, serde_json::json!({"server_timing": true}));
        for (document, least) in [
            (include_str!("../../README.md"), 4),
            (include_str!("../../docs/cookbook.md"), 4),
            (include_str!("../../docs/guarantees.md"), 8),
        ] {
            assert_eq!(document.matches("```console\n").count(), 1, "one transcript, which is run");
            let (_, rest) = document.split_once("```console\n").unwrap();
            let (transcript, _) = rest.split_once("```\n").unwrap();
            let mut jar = Visitor::default();
            let mut commands = 0;
            for entry in transcript.split("$ curl ").skip(1) {
                let (command, expected) = entry.split_once('\n').unwrap();
                let printed = run(&worker, &mut jar, command);
                let (printed, expected) = (without_times(&printed), without_times(expected));
                assert_eq!(printed.trim_end(), expected.trim_end(), "curl {command}");
                commands += 1;
            }
            assert_eq!(commands, transcript.matches("$ ").count(), "every command was run");
            assert!(commands >= least);
        }
    }
}
