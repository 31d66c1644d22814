//! The search example, end to end: its own router on a free port, on each of its engines, asked
//! by a client over TCP. The example's unit tests run here too, as part of its modules.

#![cfg(all(feature = "axum", feature = "rayon"))]

#[path = "../examples/search/main.rs"]
#[expect(dead_code, reason = "`main` and what only it calls")]
mod example;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use example::args::Args;
use example::engine::Engine;
use example::http;
use serde_json::Value;
use tokio::sync::oneshot;

const ENGINES: [Engine; 3] = [Engine::Beat, Engine::TokioBlocking, Engine::TokioRayon];

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory that is removed when dropped.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let dir = format!("beat-search-example-{}-{name}", std::process::id());
        let root = std::env::temp_dir().join(dir);
        fs::create_dir_all(&root).unwrap();
        Self(root.canonicalize().unwrap())
    }

    fn file(self, path: &str, text: &str) -> Self {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Gigabytes of text for a megabyte of disk: hard links to one file.
    fn endless(name: &str) -> Self {
        let line = "the quick brown fox jumps over the lazy dog, again and again and again\n";
        let tree = Self::new(name).file("d0/f0", &line.repeat((1 << 20) / line.len()));
        for d in 0..100 {
            let dir = tree.0.join(format!("d{d}"));
            fs::create_dir_all(&dir).unwrap();
            for f in 0..100 {
                if (d, f) != (0, 0) {
                    fs::hard_link(tree.0.join("d0/f0"), dir.join(format!("f{f}"))).unwrap();
                }
            }
        }
        tree
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The service on a thread of its own. Dropping it shuts it down gracefully.
struct Server {
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(engine: Engine, tree: &Tree) -> Self {
        let root = tree.0.clone();
        let (stop, stopped) = oneshot::channel();
        let (sender, addr) = mpsc::channel();
        let thread = thread::spawn(move || {
            let service = async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                let addr = listener.local_addr().unwrap();
                sender.send(addr).unwrap();
                let router = http::router(Arc::new(http::Service::new(engine, 2, root, addr)));
                let stop = async {
                    let _ = stopped.await;
                };
                engine.serve(listener, router, stop).await.unwrap();
            };
            engine.block_on(2, service).unwrap();
        });
        let addr = addr.recv_timeout(PATIENCE).expect("the service starts");
        Self { addr, stop: Some(stop), thread: Some(thread) }
    }

    /// A request under way.
    fn send(&self, target: &str) -> TcpStream {
        let mut connection = TcpStream::connect(self.addr).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).unwrap();
        connection
    }

    /// The status and the body.
    fn get(&self, target: &str) -> (u16, String) {
        let mut answer = Vec::new();
        self.send(target).read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").expect("a complete head");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (status, if chunked { unchunk(body) } else { body.into() })
    }

    /// The rows as (path, line, parts), and the last line.
    fn search(&self, query: &str) -> (Vec<(String, u64, Value)>, Value) {
        let (status, body) = self.get(&format!("/search?q={query}"));
        assert_eq!(status, 200, "{body}");
        let mut lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let done = lines.pop().expect("a last line")["done"].take();
        let mut rows: Vec<_> = lines
            .into_iter()
            .map(|mut row| {
                let path = row["path"].as_str().unwrap().to_owned();
                (path, row["line"].as_u64().unwrap(), row["parts"].take())
            })
            .collect();
        rows.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        (rows, done)
    }

    fn stats(&self) -> Value {
        serde_json::from_str(&self.get("/stats").1).unwrap()
    }

    /// Asks for the counts of searches until they are as wanted.
    fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let searches = self.stats()["searches"].take();
            if wanted(&searches) {
                return searches;
            }
            assert!(began.elapsed() < PATIENCE, "no {what}: {searches}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.expect("the service ends well");
        }
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    loop {
        let (size, rest) = body.split_once("\r\n").expect("the size of a chunk");
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
}

#[test]
fn light_requests_are_answered() {
    let tree = Tree::new("light").file("a.rs", "fn main() {}\n");
    for engine in ENGINES {
        let server = Server::start(engine, &tree);
        assert_eq!(server.get("/healthz"), (200, "ok".into()));
        let (status, page) = server.get("/");
        assert_eq!(status, 200);
        assert!(page.contains("<!doctype html>"));
        assert!(!page.contains("src=\"http") && !page.contains("href=\"http"), "self-contained");
        let stats = server.stats();
        assert_eq!(stats["engine"], engine.to_string());
        assert_eq!(stats["workers"], 2);
        assert_eq!(server.get("/nothing").0, 404);
    }
}

#[test]
fn a_search_streams_rows_and_a_summary() {
    let tree = Tree::new("rows")
        .file("src/a.rs", "use std::io;\n\nfn alpha() {}\n")
        .file("src/deep/b.rs", "// fn in a comment\nFN beta\n");
    for engine in ENGINES {
        let server = Server::start(engine, &tree);
        let (rows, done) = server.search("fn%20(%5Ba-z%5D%2B)");
        let row = |path: &str, line, parts: &[&str]| (path.to_owned(), line, parts.into());
        assert_eq!(
            rows,
            [
                row("src/a.rs", 3, &["", "fn alpha", "() {}"]),
                row("src/deep/b.rs", 1, &["// ", "fn in", " a comment"]),
            ]
        );
        assert_eq!(done["matches"], 2);
        assert_eq!(done["files"], 2);
        assert_eq!(done["limit_reached"], false);
        assert_eq!(done["unreadable"]["count"], 0);

        let (rows, done) = server.search("fn&case=i&limit=2");
        assert_eq!((rows.len(), &done["matches"], &done["limit_reached"]), (2, &2.into(), &true.into()));

        let (_, metrics) = server.get("/metrics");
        for line in [
            "search_completed_total 2",
            "search_running 0",
            "search_http_requests_total{route=\"/search\",status=\"200\"} 2",
            "search_http_request_seconds_count{route=\"/search\"} 2",
            "search_scheduler_workers 2",
        ] {
            assert!(metrics.contains(line), "{line} is missing from\n{metrics}");
        }
    }
}

#[test]
fn a_bad_request_is_told_what_is_wrong() {
    let tree = Tree::new("bad");
    for engine in ENGINES {
        let server = Server::start(engine, &tree);
        for (query, why) in [
            ("q=(", "unclosed group"),
            ("q=", "write a regular expression"),
            ("", "write a regular expression"),
            ("q=a&limit=many", "limit"),
            ("q=a&case=upper", "case"),
        ] {
            let (status, body) = server.get(&format!("/search?{query}"));
            assert_eq!(status, 400, "{query}: {body}");
            let body: Value = serde_json::from_str(&body).unwrap();
            assert!(body["error"].as_str().unwrap().contains(why), "{query}: {body}");
        }
        assert_eq!(server.get("/healthz").0, 200);
    }
}

#[test]
fn a_search_whose_client_left_is_cancelled() {
    let tree = Tree::endless("left");
    for engine in ENGINES {
        let server = Server::start(engine, &tree);
        let begun = |searches: &Value| searches["scanned_bytes"].as_u64() > Some(0);
        for left in 1..=3 {
            let client = server.send("/search?q=(%5Cw%2B%20)%7B3%7D%5B0-9%5D");
            server.wait_for("search under way", |s| s["running"] == 1 && begun(s));
            drop(client);
            server.wait_for("end of the search", |s| s["cancelled"] == left && s["running"] == 0);
        }
        let searches = server.stats()["searches"].take();
        assert_eq!((&searches["completed"], &searches["waiting"]), (&0.into(), &0.into()));
    }
}

#[test]
fn light_requests_are_answered_while_searches_fill_all_workers() {
    let tree = Tree::endless("busy");
    for engine in ENGINES {
        let server = Server::start(engine, &tree);
        let clients: Vec<TcpStream> =
            (0..4).map(|n| server.send(&format!("/search?q=(%5Cw%2B%20)%7B3%7D%5B{n}9%5D"))).collect();
        server.wait_for("four searches", |s| {
            s["running"].as_u64().unwrap() + s["waiting"].as_u64().unwrap() == 4
        });
        for _ in 0..20 {
            assert_eq!(server.get("/healthz"), (200, "ok".into()));
        }
        drop(clients);
        server.wait_for("end of the searches", |s| s["cancelled"] == 4);
    }
}

#[test]
fn what_cannot_be_served_says_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let tree = Tree::new("refused");
    let args =
        |root: PathBuf| Args { root, addr: taken.local_addr().unwrap(), engine: Engine::Beat, workers: 1 };
    let missing = example::run(args(tree.0.join("missing"))).unwrap_err();
    assert_eq!(missing.code, 2);
    assert!(missing.message.contains("missing") && missing.message.contains("search DIR"));
    let refused = example::run(args(tree.0.clone())).unwrap_err();
    assert_eq!(refused.code, 1);
    assert!(refused.message.contains("taken") && refused.message.contains("--addr"));
}
