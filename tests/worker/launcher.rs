//! Workers in workerd, started by `launcher.mjs`, and what lies in their stores.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{sleep, spawn};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

pub const KEY: &str = "first-key-0123456789abcdef012345";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Kv,
    D1,
    Object,
}

impl Store {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::D1 => "d1",
            Self::Object => "object",
        }
    }
}

/// A running Worker, with storage of its own. It is stopped when this is dropped.
pub struct Worker {
    /// Ends with `/`.
    pub url: String,
    pub store: Store,
    /// Whether the launcher runs it, rather than its test.
    is_launched: bool,
}

impl Worker {
    /// The Worker as it is shipped, on this store; one for all tests.
    pub fn shared(store: Store) -> &'static Self {
        Self::one_for_all("counter", store, || Self::with(store, json!({})))
    }

    /// The Worker with the routes that only tests have; one for all tests.
    pub fn shared_routes(store: Store) -> &'static Self {
        Self::one_for_all("routes", store, || Self::with_routes(store))
    }

    /// One of `examples/`; one for all tests.
    pub fn example(name: &'static str, store: Store) -> &'static Self {
        let folder = format!("examples/{name}");
        let vars = json!({ "session_parameters": { "store": store.name() } });
        Self::one_for_all(name, store, || {
            Self::of(&format!("{folder}/wrangler.toml"), &format!("{folder}/dist"), store, &vars, Some(KEY), true)
        })
    }

    fn one_for_all(name: &'static str, store: Store, start: impl FnOnce() -> Self) -> &'static Self {
        type All = HashMap<(&'static str, &'static str), &'static OnceLock<Worker>>;
        static ALL: LazyLock<Mutex<All>> = LazyLock::new(Mutex::default);
        let place = *ALL.lock().unwrap().entry((name, store.name())).or_insert_with(|| Box::leak(Box::default()));
        place.get_or_init(start)
    }

    /// A Worker with these session parameters.
    pub fn with(store: Store, mut parameters: Value) -> Self {
        parameters["store"] = store.name().into();
        Self::start(store, &json!({ "session_parameters": parameters }), Some(KEY), true)
    }

    pub fn start(store: Store, vars: &Value, secret: Option<&str>, migrate: bool) -> Self {
        Self::of("wrangler.toml", "dist", store, vars, secret, migrate)
    }

    /// A Worker whose operator forgot the bindings: it has these parameters and perhaps this secret.
    pub fn without_bindings(parameters: &Value, secret: Option<&str>) -> Self {
        let vars = json!({ "session_parameters": parameters });
        Self::of("tests/worker/without-bindings.toml", "dist", Store::Kv, &vars, secret, false)
    }

    /// A Worker with an R2 bucket where KV's namespace should be.
    pub fn with_a_bucket() -> Self {
        let vars = json!({ "session_parameters": { "store": "kv" } });
        Self::of("tests/worker/with-a-bucket.toml", "dist", Store::Kv, &vars, Some(KEY), false)
    }

    /// A Worker whose objects have no SQLite.
    pub fn without_sqlite() -> Self {
        let vars = json!({ "session_parameters": { "store": "object" } });
        Self::of("tests/worker/without-sqlite.toml", "dist", Store::Object, &vars, Some(KEY), false)
    }

    /// A Worker with the routes that only tests have.
    pub fn with_routes(store: Store) -> Self {
        Self::with_routes_and(store, json!({}))
    }

    pub fn with_routes_and(store: Store, mut parameters: Value) -> Self {
        parameters["store"] = store.name().into();
        let vars = json!({ "session_parameters": parameters });
        Self::of("tests/worker/routes/wrangler.toml", "tests/worker/routes/dist", store, &vars, Some(KEY), true)
    }

    pub fn with_routes_and_vars(store: Store, vars: &Value) -> Self {
        Self::of("tests/worker/routes/wrangler.toml", "tests/worker/routes/dist", store, vars, Some(KEY), true)
    }

    /// A Worker whose bindings are these variables.
    pub fn without_bindings_but(vars: &Value) -> Self {
        Self::of("tests/worker/without-bindings.toml", "dist", Store::Kv, vars, None, false)
    }

    /// A Worker that the test runs by itself.
    pub fn elsewhere(url: String, store: Store) -> Self {
        Self { url, store, is_launched: false }
    }

    /// A Worker whose stores fail on [order](Self::order).
    pub fn over_faulty_stores(store: Store) -> Self {
        Self::over_faulty_stores_and(store, json!({}))
    }

    /// With these parameters.
    pub fn over_faulty_stores_and(store: Store, parameters: Value) -> Self {
        Self::over_faulty(store, parameters, "dist")
    }

    /// With the routes that only tests have.
    pub fn over_faulty_stores_with_routes(store: Store) -> Self {
        Self::over_faulty(store, json!({}), "tests/worker/routes/dist")
    }

    /// One of `examples/`.
    pub fn example_over_faulty_stores(name: &str, store: Store) -> Self {
        Self::over_faulty(store, json!({}), &format!("examples/{name}/dist"))
    }

    fn over_faulty(store: Store, mut parameters: Value, dist: &str) -> Self {
        parameters["store"] = store.name().into();
        let vars = json!({ "session_parameters": parameters });
        Self::launched(
            store,
            json!({
                "config": "tests/worker/over-faulty-stores.toml", "dist": dist, "vars": vars,
                "secrets": { "SECRET_KEY": KEY }, "migrate": true, "faulty": true,
            }),
        )
    }

    fn of(config: &str, dist: &str, store: Store, vars: &Value, secret: Option<&str>, migrate: bool) -> Self {
        let secrets = secret.map_or(json!({}), |secret| json!({ "SECRET_KEY": secret }));
        Self::launched(
            store,
            json!({
                "config": config, "dist": dist, "vars": vars, "secrets": secrets, "migrate": migrate,
            }),
        )
    }

    fn launched(store: Store, mut command: Value) -> Self {
        command["command"] = "start".into();
        // The others have no use for the tables, and to make them takes as long as to start.
        if store != Store::D1 {
            command["migrate"] = false.into();
        }
        Self { url: LAUNCHER.send(command).as_str().unwrap().to_owned(), store, is_launched: true }
    }

    /// What the Worker logged so far.
    pub fn log(&self) -> String {
        let lines = self.command(json!({ "command": "logs" }));
        lines.as_array().unwrap().iter().map(|line| format!("{}\n", line.as_str().unwrap_or_default())).collect()
    }

    /// Waits until the Worker has logged this, which may be after the reply that it belongs to, and gives the whole log.
    pub fn has_logged(&self, text: &str) -> String {
        let log = || Some(self.log()).filter(|log| log.contains(text));
        until(log).unwrap_or_else(|| panic!("not in the log: {text}\n{}", self.log()))
    }

    /// Runs the cron trigger.
    pub fn sweep(&self) {
        assert_eq!(self.command(json!({ "command": "scheduled" })), "ok");
    }

    pub fn sql(&self, sql: &str) -> Value {
        self.command(json!({ "command": "d1", "sql": sql }))
    }

    /// Waits until what was written behind replies is stored: KV takes a session's writes one a second.
    pub fn settle(&self) {
        if self.store == Store::Kv {
            sleep(Duration::from_secs(2));
        }
    }

    /// Lets `seconds` pass for the stored sessions, without waiting for them.
    pub fn age(&self, seconds: u64) {
        self.settle();
        match self.store {
            Store::Kv => {
                for key in self.keys() {
                    let text = self.kv_get(&key);
                    let mut record = edge_session::Record::from_text(text.as_str().unwrap()).unwrap();
                    for time in [&mut record.created_at, &mut record.touched_at, &mut record.expires_at] {
                        *time -= seconds;
                    }
                    // Another's write, or the Worker would go by its own.
                    record.version += 1;
                    record.nonce = record.nonce.wrapping_add(1);
                    self.kv_put(&key, record.to_text().into());
                }
            }
            Store::D1 => {
                self.sql(&format!(
                    "UPDATE sessions SET created_at = created_at - {seconds}, atime = atime - {seconds}, \
                     expires_at = expires_at - {seconds}"
                ));
            }
            Store::Object => panic!("an object's storage cannot be changed from outside"),
        }
    }

    pub fn kv_get(&self, key: &str) -> Value {
        self.command(json!({ "command": "kvGet", "key": key }))
    }

    pub fn kv_put(&self, key: &str, value: Value) {
        self.command(json!({ "command": "kvPut", "key": key, "value": value }));
    }

    pub fn kv_keys(&self) -> Value {
        self.command(json!({ "command": "kvKeys" }))
    }

    /// Takes the object of this name out of memory.
    pub fn evict(&self, name: &str) {
        self.command(json!({ "command": "evict", "name": name }));
    }

    /// The next calls of faulty stores go wrong like this (`faulty.mjs` has the words); nothing before counts.
    pub fn order(&self, faults: &[&str]) {
        self.command(json!({ "command": "order", "faults": faults }));
    }

    /// How a faulty KV behaves from now on (`faulty.mjs` has the words).
    pub fn kv_behaves(&self, how: Value) {
        self.command(json!({ "command": "order", "faults": how }));
    }

    /// The calls that faulty stores got since the last order.
    pub fn calls(&self) -> Vec<String> {
        serde_json::from_value(self.command(json!({ "command": "calls" }))).unwrap()
    }

    /// What the object of this name answers to a message.
    pub fn message(&self, name: &str, message: &str) -> String {
        let answer = self.command(json!({ "command": "message", "name": name, "message": message }));
        answer.as_str().unwrap().to_owned()
    }

    /// Makes the tables in D1.
    pub fn migrate(&self) {
        self.command(json!({ "command": "migrate" }));
    }

    /// The names under which sessions are stored.
    pub fn keys(&self) -> Vec<String> {
        let (entries, name) = match self.store {
            Store::Kv => (self.kv_keys(), "name"),
            Store::D1 => (self.sql("SELECT session_id FROM sessions"), "session_id"),
            Store::Object => panic!("an object's name cannot be found out"),
        };
        let names = entries.as_array().unwrap().iter().map(|entry| entry[name].as_str().unwrap().to_owned());
        // In KV a logout leaves a mark.
        names.filter(|name| !name.starts_with("ended:") && !name.starts_with("killed:")).collect()
    }

    fn command(&self, mut command: Value) -> Value {
        assert!(self.is_launched, "its test runs it");
        command["id"] = self.url.as_str().into();
        LAUNCHER.send(command)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.is_launched {
            // Where the launcher has ended, so has the Worker.
            drop(LAUNCHER.ask(json!({ "command": "stop", "id": self.url })));
        }
    }
}

/// Waits until it is there, as long as a busy machine may need.
fn until<T>(is_there: impl Fn() -> Option<T>) -> Option<T> {
    (0..600).find_map(|_| {
        is_there().or_else(|| {
            sleep(Duration::from_millis(50));
            None
        })
    })
}

/// Waits until it is so.
pub fn eventually(what: &str, is_so: impl Fn() -> bool) {
    until(|| is_so().then_some(())).unwrap_or_else(|| panic!("in vain: {what}"));
}

static LAUNCHER: LazyLock<Launcher> = LazyLock::new(Launcher::start);

/// The file of its messages.
const LOG: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/launcher.log");

/// `launcher.mjs`, which runs the Workers of all tests and does what they ask for at the same time.
struct Launcher {
    /// It ends by itself when this closes, at the latest with this process.
    input: Mutex<ChildStdin>,
    /// Who waits for which answer, until it has ended.
    waiting: Mutex<Option<HashMap<usize, Sender<Outcome>>>>,
}

impl Launcher {
    fn start() -> Self {
        // Below the folder that this runs in, which is the package's, or one with Workers that a rule is taken out of.
        assert!(Path::new("dist/index.js").exists(), "the Worker is not built: run `make build` first");
        let mut process = Command::new("node")
            .arg("tests/worker/launcher.mjs")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(LOG).unwrap())
            .spawn()
            .expect("node is on the PATH");
        let input = Mutex::new(process.stdin.take().unwrap());
        let output = process.stdout.take().unwrap();
        spawn(move || {
            LAUNCHER.hand_out(output);
            process.wait()
        });
        Self { input, waiting: Mutex::new(Some(HashMap::new())) }
    }

    /// Each answer to who waits for it. Whoever waits when the launcher ends is told so, and so is whoever comes later.
    fn hand_out(&self, output: ChildStdout) {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            // Whatever else is printed is wrangler's.
            let Some(answer) = line.strip_prefix(b"\x01") else { continue };
            let Ok(Answer { number, outcome }) = serde_json::from_slice(answer) else { break };
            let waiting = lock(&self.waiting).as_mut().and_then(|waiting| waiting.remove(&number));
            // A test that has failed meanwhile waits no more.
            drop(waiting.map(|waiting| waiting.send(outcome)));
        }
        lock(&self.waiting).take();
    }

    fn send(&self, command: Value) -> Value {
        let described = command.to_string();
        self.ask(command).unwrap_or_else(|error| panic!("{described}: {error}"))
    }

    /// # Errors
    ///
    /// What the launcher says is wrong, or that it has ended.
    fn ask(&self, mut command: Value) -> Outcome {
        static SENT: AtomicUsize = AtomicUsize::new(0);
        let number = SENT.fetch_add(1, Ordering::Relaxed);
        command["number"] = number.into();
        let (sender, answer) = channel();
        let ended = || format!("the launcher ended; its messages are in {LOG}");
        lock(&self.waiting).as_mut().ok_or_else(ended)?.insert(number, sender);
        writeln!(lock(&self.input), "{command}").map_err(|_| ended())?;
        answer.recv().map_err(|_| ended())?
    }
}

/// What came of a command, or what is wrong.
type Outcome = Result<Value, String>;

/// What `launcher.mjs` says of a command.
#[derive(Deserialize)]
struct Answer {
    number: usize,
    outcome: Outcome,
}

/// Whatever became of a test that had it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
