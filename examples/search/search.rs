//! One search: what is asked for, what all workers share while they look for it, and the summary.
//!
//! [`walk`](super::walk) goes through the directories and [`scan`](super::scan) through a file's
//! text, both by parallel loops, so all workers share one search however lopsided the tree is.
//! What cannot be read is counted and named in the [`Summary`] and never ends a search.
//!
//! **Cancelling.** Every directory, chunk of a file and found line asks
//! [`Search::is_over`]. Between two such questions lies at most one system call or the scan of
//! one chunk.
//!
//! **Backpressure.** Rows leave through an unbounded channel, so that a closure never waits for
//! a client: a client that reads slowly must not hold a worker. What bounds the memory is the
//! limit on rows ([`MAX_ROWS`]) times the limit on a row's length ([`MAX_TEXT`](super::scan::MAX_TEXT)).

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;

use super::engine::{Cancel, Engine};
use super::stats::Stats;
use super::walk::Rules;

/// The most rows that one search gives.
pub(crate) const MAX_ROWS: usize = 10_000;
/// The rows that a search gives when it is not asked for a number.
pub(crate) const DEFAULT_ROWS: usize = 1_000;
/// The longest regular expression, in bytes.
const MAX_PATTERN: usize = 1_000;
/// The most memory that a compiled regular expression may take, in bytes.
const MAX_REGEX: usize = 4 << 20;
/// How many unreadable files the summary names.
const NAMED_UNREADABLE: usize = 5;

/// What to look for.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    pub(crate) regex: String,
    pub(crate) ignore_case: bool,
    pub(crate) limit: usize,
}

impl Pattern {
    /// Compiles the expression, or says in a sentence what is wrong with it.
    pub(crate) fn compile(&self) -> Result<RegexMatcher, String> {
        if self.regex.is_empty() {
            return Err("write a regular expression after `q=`".into());
        }
        if self.regex.len() > MAX_PATTERN {
            return Err(format!("the regular expression is longer than {MAX_PATTERN} bytes"));
        }
        // The matcher wraps the expression before it parses it; so that an error points at what
        // was written, it is parsed once as it is.
        regex_syntax::ParserBuilder::new()
            .utf8(false)
            .build()
            .parse(&self.regex)
            .map_err(|error| error.to_string())?;
        RegexMatcherBuilder::new()
            .case_insensitive(self.ignore_case)
            .line_terminator(Some(b'\n'))
            .size_limit(MAX_REGEX)
            .build(&self.regex)
            .map_err(|error| error.to_string())
    }
}

/// The last line of an answer.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    pub(crate) matches: usize,
    /// There were more matches than the limit allowed.
    pub(crate) limit_reached: bool,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Files that are too large or no text.
    pub(crate) skipped: u64,
    pub(crate) unreadable: Unreadable,
}

/// What could not be read.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Unreadable {
    pub(crate) count: usize,
    /// The first few: path and reason.
    pub(crate) first: Vec<String>,
}

/// A search under way. All workers share it.
#[derive(Debug)]
pub(crate) struct Search {
    engine: Engine,
    cancel: Cancel,
    matcher: RegexMatcher,
    limit: usize,
    root: PathBuf,
    rows: UnboundedSender<Bytes>,
    stats: Arc<Stats>,
    /// Rows asked for by [`Search::claim_row`], also those beyond the limit.
    claimed: AtomicUsize,
    full: AtomicBool,
    files: AtomicU64,
    bytes: AtomicU64,
    skipped: AtomicU64,
    unreadable: Mutex<Unreadable>,
}

impl Search {
    pub(crate) fn new(
        engine: Engine,
        cancel: Cancel,
        matcher: RegexMatcher,
        limit: usize,
        root: PathBuf,
        rows: UnboundedSender<Bytes>,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            engine,
            cancel,
            matcher,
            limit,
            root,
            rows,
            stats,
            claimed: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            unreadable: Mutex::default(),
        }
    }

    /// Searches everything below the root. `None`: it was cancelled on the way.
    pub(crate) fn run(&self) -> Option<Summary> {
        self.directory(&self.root, &Rules::NONE);
        if self.cancel.is_cancelled() {
            return None;
        }
        // Relaxed: the loops in `directory` order these loads after all that was counted.
        Some(Summary {
            matches: self.claimed.load(Ordering::Relaxed).min(self.limit),
            limit_reached: self.full.load(Ordering::Relaxed),
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
            unreadable: mem::take(&mut self.unreadable()),
        })
    }

    /// True once nobody needs more rows: the limit is reached, or the search is cancelled.
    pub(crate) fn is_over(&self) -> bool {
        // Relaxed: a hint to stop; seeing it later costs work, not correctness.
        self.full.load(Ordering::Relaxed) || self.cancel.is_cancelled()
    }

    /// Asks leave to give one more row.
    pub(crate) fn claim_row(&self) -> bool {
        // Relaxed: only the count matters, and it is read after all loops have ended.
        let granted = self.claimed.fetch_add(1, Ordering::Relaxed) < self.limit;
        if !granted {
            self.full.store(true, Ordering::Relaxed);
        }
        granted
    }

    /// Sends finished rows, whole lines of JSON.
    pub(crate) fn send(&self, rows: Vec<u8>) {
        // An error means that the client has gone; then the search is about to be cancelled.
        let _ = self.rows.send(rows.into());
    }

    pub(crate) fn engine(&self) -> Engine {
        self.engine
    }

    pub(crate) fn matcher(&self) -> &RegexMatcher {
        &self.matcher
    }

    pub(crate) fn count_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.stats.searches.scanned_files.inc();
    }

    pub(crate) fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.stats.searches.scanned_bytes.inc_by(bytes);
    }

    pub(crate) fn count_skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_unreadable(&self, path: &Path, why: &dyn std::fmt::Display) {
        let mut unreadable = self.unreadable();
        unreadable.count += 1;
        if unreadable.first.len() < NAMED_UNREADABLE {
            unreadable.first.push(format!("{}: {why}", self.shown(path)));
        }
    }

    pub(crate) fn unreadable(&self) -> MutexGuard<'_, Unreadable> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A path as the client sees it: below the root, with `/`.
    pub(crate) fn shown(&self, path: &Path) -> String {
        let below = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy();
        if std::path::MAIN_SEPARATOR == '/' { below.into() } else { below.replace('\\', "/") }
    }
}
