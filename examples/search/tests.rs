//! Whole searches over small trees of files, straight through [`Search`], on rayon's pool.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::body::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::engine::{Cancel, Engine};
use super::search::{DEFAULT_ROWS, Pattern, Search, Summary};
use super::stats::Stats;
use super::walk::{Entry, MAX_DEPTH, Rules};

/// A directory that is removed when dropped.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
        let dir = format!("beat-search-{}-{name}", std::process::id());
        let root = std::env::temp_dir().join(dir);
        for (path, bytes) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        Self(root.canonicalize().unwrap())
    }

    fn search(&self, regex: &str, limit: usize) -> (Vec<(String, u64)>, Summary) {
        let (search, rows) = self.prepare(regex, limit, Arc::default());
        let summary = search.run().expect("nobody cancels");
        (found(rows), summary)
    }

    fn prepare(
        &self,
        regex: &str,
        limit: usize,
        cancelled: Arc<AtomicBool>,
    ) -> (Search, UnboundedReceiver<Bytes>) {
        let engine = Engine::TokioRayon;
        let pattern = Pattern { regex: regex.into(), ignore_case: false, limit };
        let (sender, rows) = unbounded_channel();
        let stats = Arc::new(Stats::new(engine));
        let cancel = Cancel::Flag(cancelled);
        let matcher = pattern.compile().unwrap();
        let root = self.0.clone();
        (Search::new(engine, cancel, matcher, limit, root, sender, stats), rows)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn found(mut rows: UnboundedReceiver<Bytes>) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    while let Ok(batch) = rows.try_recv() {
        for line in batch.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let row: serde_json::Value = serde_json::from_slice(line).unwrap();
            found.push((row["path"].as_str().unwrap().into(), row["line"].as_u64().unwrap()));
        }
    }
    found.sort();
    found
}

fn at(path: &str, line: u64) -> (String, u64) {
    (path.into(), line)
}

#[test]
fn it_finds_every_matching_line_below_the_root() {
    let files: Vec<(String, String)> =
        (0..40).map(|n| (format!("d{}/e{}/f{n}.rs", n % 3, n % 5), format!("one\ntwo {n}\ntwo\n"))).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_bytes())).collect();
    let tree = Tree::new("all", &files);
    let (rows, summary) = tree.search("^two", DEFAULT_ROWS);
    assert_eq!(rows.len(), 80);
    assert!(rows.contains(&at("d1/e2/f7.rs", 2)) && rows.contains(&at("d1/e2/f7.rs", 3)));
    assert_eq!((summary.matches, summary.files, summary.limit_reached), (80, 40, false));
    assert_eq!(summary.bytes, files.iter().map(|(_, text)| text.len() as u64).sum::<u64>());
}

#[test]
fn lines_of_a_file_of_many_chunks_keep_their_numbers() {
    let text: String = (1..=100_000).map(|n| format!("line {n}\n")).collect();
    let tree = Tree::new("chunks", &[("big", text.as_bytes())]);
    let (rows, _) = tree.search("^line (1|50000|99999|100000)$", 10);
    assert_eq!(rows, [1, 50_000, 99_999, 100_000].map(|n| at("big", n)));
}

#[test]
fn hidden_ignored_and_binary_files_are_left_out() {
    let tree = Tree::new(
        "rules",
        &[
            (".hidden/a", b"x"),
            (".gitignore", b"*.log\n/out\n"),
            ("a.log", b"x"),
            ("out/a", b"x"),
            ("sub/out/a", b"x"),
            ("sub/.ignore", b"!keep.log\n"),
            ("sub/keep.log", b"x"),
            ("sub/drop.log", b"x"),
            ("binary", b"x\0x"),
        ],
    );
    let (rows, summary) = tree.search("x", 10);
    assert_eq!(rows, [at("sub/keep.log", 1), at("sub/out/a", 1)]);
    assert_eq!(summary.skipped, 1);
}

#[test]
fn the_limit_is_exact() {
    let text = "x\n".repeat(100);
    let tree = Tree::new("limit", &[("a", text.as_bytes()), ("b", text.as_bytes())]);
    let (rows, summary) = tree.search("x", 7);
    assert_eq!((rows.len(), summary.matches, summary.limit_reached), (7, 7, true));
    let (rows, summary) = tree.search("x", 200);
    assert_eq!((rows.len(), summary.matches, summary.limit_reached), (200, 200, false));
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_found() {
    let tree = Tree::new("unreadable", &[("gone/a", b"x"), ("a", b"x")]);
    let (search, rows) = tree.prepare("x", 10, Arc::default());
    // Permissions do not stop a test that runs as root, a missing directory does.
    let gone = tree.0.join("gone");
    let entry = |path: PathBuf, is_dir| Entry { path, is_dir, hidden: false };
    let entries = [entry(tree.0.join("a"), false), entry(gone.clone(), true), entry(gone.join("a"), false)];
    fs::remove_dir_all(&gone).unwrap();
    search.entries(&entries, &Rules::NONE);
    assert_eq!(found(rows), [at("a", 1)]);
    let unreadable = search.unreadable();
    assert_eq!(unreadable.count, 2);
    assert!(unreadable.first.iter().any(|text| text.starts_with("gone/a: ")));
}

#[test]
fn a_tree_that_is_nested_too_deep_is_named_and_the_rest_is_found() {
    let deep = |depth: usize| format!("{}a", "d/".repeat(depth));
    let files: Vec<String> = (0..100).map(deep).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|path| (path.as_str(), &b"x"[..])).collect();
    let (rows, summary) = Tree::new("deep", &files).search("x", 1_000);
    assert_eq!(rows.len(), MAX_DEPTH);
    assert_eq!(summary.unreadable.count, 1);
    assert!(summary.unreadable.first[0].ends_with("d: it is nested too deep"));
}

#[test]
fn a_cancelled_search_reads_nothing_and_has_no_summary() {
    let tree = Tree::new("cancelled", &[("a", b"x")]);
    let (search, rows) = tree.prepare("x", 10, Arc::new(AtomicBool::new(true)));
    assert!(search.run().is_none());
    assert!(found(rows).is_empty());
}

#[test]
fn a_bad_expression_says_what_is_wrong() {
    let compile =
        |regex: &str| Pattern { regex: regex.into(), ignore_case: false, limit: 1 }.compile().unwrap_err();
    assert!(compile("(").contains("unclosed group"));
    assert!(compile("").contains("q="));
    assert!(compile(&"x".repeat(2_000)).contains("longer than"));
    assert!(compile("\\w{900}").contains("size limit"));
    assert!(compile("a\\nb").contains("\\n"));
}
