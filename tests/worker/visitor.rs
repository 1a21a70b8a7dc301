//! A visitor: an HTTP client with a cookie jar that says what it got.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::launcher::{KEY, Worker, eventually};

/// A client that keeps the Worker's cookies, as a browser does.
#[derive(Clone, Default)]
pub struct Visitor {
    /// The session's: `name=value`.
    pub cookie: Option<String>,
    /// The writes that it carries for KV, by their cookies' names.
    pub carried: BTreeMap<String, String>,
    pub ip: Option<&'static str>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
    headers: Vec<(String, String)>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The `Set-Cookie` line of the session's own cookie.
    pub fn set_cookie(&self) -> Option<&str> {
        self.set_cookies().find(|line| !is_carried(line) && !line.contains(".told="))
    }

    /// The `Set-Cookie` lines about carried writes.
    pub fn carried(&self) -> Vec<&str> {
        self.set_cookies().filter(|line| is_carried(line)).collect()
    }

    fn set_cookies(&self) -> impl Iterator<Item = &str> {
        let lines = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"));
        lines.map(|(_, value)| value.as_str())
    }

    /// The headers as curl prints them, each with its words capitalised.
    pub fn header_lines(&self) -> String {
        let capitalised = |name: &str| {
            let words: Vec<_> = name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            words.join("-")
        };
        self.headers.iter().map(|(name, value)| format!("{}: {value}\n", capitalised(name))).collect()
    }

    /// Asserts that it is a 503 as we mean it: it asks to come again, and takes no cookie away.
    pub fn is_unavailable(&self) {
        assert_eq!(self.brief(), (503, "Service unavailable. Please try again in a moment.\n"));
        assert_eq!(self.header("retry-after"), Some("1"));
        assert_eq!(self.header("cache-control"), Some("private, no-store"));
        assert_eq!(self.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(self.set_cookie(), None);
    }

    /// Status and body.
    pub fn brief(&self) -> (u16, &str) {
        (self.status, &self.body)
    }
}

impl Visitor {
    pub fn with_cookie(cookie: impl Into<String>) -> Self {
        Self { cookie: Some(cookie.into()), ..Self::default() }
    }

    pub fn get(&mut self, worker: &Worker, path: &str) -> Reply {
        self.ask(worker, "GET", path, &[])
    }

    /// `/count`, which must be a number.
    pub fn count(&mut self, worker: &Worker) -> u64 {
        let reply = self.get(worker, "count");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body.parse().unwrap_or_else(|_| panic!("{reply:?}"))
    }

    /// The session id and signature, as the cookie has them.
    pub fn value(&self) -> &str {
        self.cookie.as_deref().expect("a cookie").split_once('=').unwrap().1
    }

    /// What its session is stored under in KV.
    pub fn kv_name(&self) -> String {
        let signer = edge_session::Signer::from_secret(KEY).unwrap();
        let presented = edge_session::cookie::read(self.cookie.as_deref().unwrap(), "webpy_session_id", &signer);
        format!("session:{}", presented.ids()[0].key.as_str())
    }

    /// Waits until KV holds this data of the session, where it gets behind the replies, and sees that it stays.
    pub fn comes_to_be_in_kv(&self, worker: &Worker, data: &str) {
        let is_there = || worker.kv_get(&self.kv_name()).as_str().is_some_and(|text| text.lines().last() == Some(data));
        eventually(&format!("KV holds {data}"), is_there);
        worker.settle();
        assert!(is_there(), "KV holds {data} no more");
    }

    /// A form.
    pub fn post_form(&mut self, worker: &Worker, path: &str, form: &[u8]) -> Reply {
        self.ask(worker, "POST", path, form)
    }

    pub fn ask(&mut self, worker: &Worker, method: &str, path: &str, body: &[u8]) -> Reply {
        self.send(worker, method, path, body, &[]).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// A request with these headers.
    pub fn ask_with(&mut self, worker: &Worker, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.send(worker, method, path, b"", headers).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// `GET`, of a Worker that may be gone before it has answered.
    pub fn try_get(&mut self, worker: &Worker, path: &str) -> Option<Reply> {
        self.send(worker, "GET", path, b"", &[]).ok()
    }

    fn send(
        &mut self,
        worker: &Worker,
        method: &str,
        path: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<Reply, ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // No answer is a failure, not a test that never ends.
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .into();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", worker.url));
        let carried = self.carried.iter().map(|(name, value)| format!("{name}={value}"));
        let cookies: Vec<_> = self.cookie.iter().cloned().chain(carried).collect();
        if !cookies.is_empty() {
            let cookies = ureq::http::HeaderValue::from_bytes(cookies.join("; ").as_bytes()).unwrap();
            request = request.header("Cookie", cookies);
        }
        if let Some(ip) = self.ip {
            request = request.header("CF-Connecting-IP", ip);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_empty() {
            request = request.header("Content-Type", "application/x-www-form-urlencoded");
        }
        let agent = agent.configure_request(request.body(body).unwrap()).allow_non_standard_methods(true).build();
        let mut response = ureq::run(agent)?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        let reply = Reply { status: response.status().as_u16(), body: response.body_mut().read_to_string()?, headers };
        self.keep(&reply);
        Ok(reply)
    }

    fn keep(&mut self, reply: &Reply) {
        if let Some(set_cookie) = reply.set_cookie() {
            let pair = set_cookie.split(';').next().unwrap().to_owned();
            self.cookie = (!set_cookie.contains("Max-Age=0")).then_some(pair);
        }
        for line in reply.carried() {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.carried.remove(name);
            } else {
                self.carried.insert(name.to_owned(), value.to_owned());
            }
        }
    }
}

/// Whether a `Set-Cookie` line is about a write that the browser carries: `<cookie>.<key>.<version>-<nonce>=…`.
fn is_carried(line: &str) -> bool {
    line.split('=').next().is_some_and(|name| name.matches('.').count() == 2)
}

/// The text with `N` for each time that a `Server-Timing` header tells: how long something takes is not asserted.
pub fn without_times(text: &str) -> String {
    let mut parts = text.split("dur=");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + "dur=N" + part.trim_start_matches(|c: char| c.is_ascii_digit()))
}

/// The whole answer to `GET /count` with these header lines, byte for byte as given: for what no
/// client library would send.
pub fn raw_count(worker: &Worker, header_lines: &[u8]) -> String {
    let mut stream = sent(worker, "count", &[b"Connection: close\r\n", header_lines].concat());
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Asks for a WebSocket, and gives the answer's head, once its greeting `hello` has arrived.
pub fn raw_upgrade(worker: &Worker, path: &str) -> String {
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let mut stream = sent(worker, path, upgrade.as_bytes());
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        let mut byte = [0];
        let read = stream.read(&mut byte).unwrap();
        assert_eq!(read, 1, "{}", String::from_utf8_lossy(&answer));
        answer.extend(byte);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn sent(worker: &Worker, path: &str, header_lines: &[u8]) -> TcpStream {
    let authority = worker.url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(authority).unwrap();
    let head = format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\n");
    stream.write_all(&[head.as_bytes(), header_lines, b"\r\n\r\n"].concat()).unwrap();
    stream
}
