//! A crash loses nothing that was acknowledged: the runtime is killed under load, ten times, and
//! started again on the same storage.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread::{self, sleep};
use std::time::Duration;

use crate::launcher::{Store, Worker};
use crate::visitor::Visitor;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const TEMPORARY: &str = env!("CARGO_TARGET_TMPDIR");

/// `wrangler dev` on a storage that outlives it.
struct Runtime {
    config: String,
    storage: String,
    store: Store,
    port: u16,
}

impl Runtime {
    fn new(store: Store) -> Self {
        let name = store.name();
        let storage = format!("{TEMPORARY}/crash-{name}");
        drop(fs::remove_dir_all(&storage));
        let config = format!("wrangler.crash-{name}.toml");
        let shipped = fs::read_to_string(format!("{ROOT}/wrangler.toml")).unwrap();
        // As it is built already.
        let shipped = shipped.replace("RUN_TO_COMPLETION=1 worker-build --release", "true");
        fs::write(format!("{ROOT}/{config}"), shipped.replace("store = \"kv\"", &format!("store = \"{name}\"")))
            .unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { config, storage, store, port }
    }

    fn wrangler(&self, arguments: &[&str]) -> Command {
        let log = File::options().create(true).append(true).open(format!("{}.log", self.storage)).unwrap();
        let mut command = Command::new("node");
        command
            .current_dir(ROOT)
            .arg("node_modules/wrangler/bin/wrangler.js")
            .args(arguments)
            .args(["--config", &self.config, "--persist-to", &self.storage])
            .env("CI", "1")
            .env("WRANGLER_SEND_METRICS", "false")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    fn migrate(&self) {
        let status = self.wrangler(&["d1", "migrations", "apply", "DB", "--local"]).status().unwrap();
        assert!(status.success(), "the migration failed; see {}.log", self.storage);
    }

    /// Starts it in a process group of its own, and waits until it answers.
    fn start(&self) -> (Child, Worker) {
        let port = self.port.to_string();
        let arguments = ["dev", "--port", &port, "--inspector-port", "0", "--show-interactive-dev-session=false"];
        let child = self.wrangler(&arguments).process_group(0).spawn().unwrap();
        let worker = Worker::elsewhere(format!("http://127.0.0.1:{port}/"), self.store);
        for _ in 0..600 {
            if Visitor::default().try_get(&worker, "").is_some_and(|reply| reply.status == 200) {
                return (child, worker);
            }
            sleep(Duration::from_millis(100));
        }
        kill(child);
        panic!("wrangler dev did not start; see {}.log", self.storage);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        drop(fs::remove_file(format!("{ROOT}/{}", self.config)));
    }
}

/// SIGKILL for the runtime and all that it started: nobody gets to tidy up.
fn kill(mut child: Child) {
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-9", "--", &group]).status().unwrap().success());
    child.wait().unwrap();
}

on_d1_and_object! {
    fn no_acknowledged_number_is_given_twice(store: Store) {
        let runtime = Runtime::new(store);
        if store == Store::D1 {
            runtime.migrate();
        }
        let acknowledged = Mutex::new(BTreeSet::new());
        let mut visitor = Visitor::default();
        for round in 0..10 {
            let (child, worker) = runtime.start();
            if round == 0 {
                assert_eq!(visitor.count(&worker), 1);
            }
            let before = acknowledged.lock().unwrap().len();
            thread::scope(|scope| {
                for _ in 0..6 {
                    let mut client = visitor.clone();
                    let (worker, acknowledged) = (&worker, &acknowledged);
                    scope.spawn(move || {
                        while let Some(reply) = client.try_get(worker, "count") {
                            if reply.status == 200 {
                                let number: u64 = reply.body.parse().unwrap();
                                assert!(acknowledged.lock().unwrap().insert(number), "{number} was given twice");
                            }
                        }
                    });
                }
                // In the midst of it: not before it has begun, however slow the machine is.
                for _ in 0..600 {
                    sleep(Duration::from_millis(100));
                    if acknowledged.lock().unwrap().len() > before + 20 {
                        break;
                    }
                }
                kill(child);
            });
            assert!(acknowledged.lock().unwrap().len() > before, "round {round} counted nothing");
        }
        let (child, worker) = runtime.start();
        let last = visitor.count(&worker);
        kill(child);
        let greatest = acknowledged.lock().unwrap().last().copied().unwrap();
        assert!(last > greatest, "{last} after {greatest}");
    }
}
