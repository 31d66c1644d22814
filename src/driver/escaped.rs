//! Escaped tasks: what a program, or a library in it, gave to `tokio::spawn`. They run, inside the driver, on one core.
//!
//! tokio's stable interface says how many are alive, and no more; what is wanted besides is had from outside:
//!
//! - *How many there have been*: tokio is asked whenever a stretch of polls begins or ends. A task that comes and goes
//!   within one stretch is not seen, nor one that takes the place of another there. The count is a lower bound.
//! - *Long polls*: a *stretch* lasts from where tokio has been entered, or has come back from its events, to where it
//!   goes to wait for events, or is left. One that lasts longer than a heartbeat while there are foreign tasks held one
//!   long poll, many short ones in a row, or a waker that took its time. It is wall-clock time, as for those who wait.
//!   A task whose first poll comes in a stretch that began without foreign tasks is not timed there: a lower bound, too.
//!
//! Without foreign tasks a stretch costs two looks at tokio's count of them and no look at the clock.
//!
//! All methods but [`Escaped::counts`] are called by the thread that is inside tokio, under the lock of its runtime.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

use tokio::runtime::RuntimeMetrics;

use super::Foreign;
use crate::lifecycle::say;
use crate::{metrics::Counter, os};

/// What is known of the foreign tasks of one runtime.
#[derive(Debug)]
pub(crate) struct Escaped {
    /// Given when tokio's runtime has been built, which needs the hooks first.
    tokio: OnceLock<RuntimeMetrics>,
    heartbeat: u64,
    warns: bool,
    /// How many were alive at the last look.
    alive: AtomicUsize,
    seen: Counter,
    long_polls: Counter,
    /// When the stretch at hand began, in ns; zero if none is measured.
    since: AtomicU64,
}

impl Escaped {
    pub(crate) fn new(heartbeat: Duration, warns: bool) -> Self {
        Self {
            tokio: OnceLock::new(),
            heartbeat: u64::try_from(heartbeat.as_nanos()).unwrap_or(u64::MAX),
            warns,
            alive: AtomicUsize::new(0),
            seen: Counter::default(),
            long_polls: Counter::default(),
            since: AtomicU64::new(0),
        }
    }

    /// Where to look.
    pub(crate) fn watch(&self, tokio: RuntimeMetrics) {
        // The first and only time.
        let _ = self.tokio.set(tokio);
    }

    /// A stretch begins.
    pub(crate) fn begin_stretch(&self) {
        if self.look() > 0 {
            // Relaxed, and loads and stores, here and below: the lock orders them.
            self.since.store(os::now().max(1), Relaxed);
        }
    }

    /// It ends.
    pub(crate) fn end_stretch(&self) {
        // First: who sees a long poll counted may give tokio the next task, which must not pass for the one that has ended.
        self.look();
        let since = self.since.load(Relaxed);
        if since > 0 {
            self.since.store(0, Relaxed);
            let lasted = os::now().saturating_sub(since);
            if lasted > self.heartbeat {
                self.long_polls.add(1);
                self.warn_of_long_poll(lasted);
            }
        }
    }

    /// How many foreign tasks are alive now.
    fn look(&self) -> usize {
        let alive = self.alive_now();
        let before = self.alive.load(Relaxed);
        if alive != before {
            self.alive.store(alive, Relaxed);
        }
        if alive > before {
            self.seen.add((alive - before) as u64);
            self.warn_of_first();
        }
        alive
    }

    fn alive_now(&self) -> usize {
        self.tokio.get().map_or(0, RuntimeMetrics::num_alive_tasks)
    }

    pub(crate) fn counts(&self) -> Foreign {
        Foreign { alive: self.alive_now(), seen: self.seen.get(), long_polls: self.long_polls.get() }
    }

    fn warn_of_first(&self) {
        static SAID: AtomicBool = AtomicBool::new(false);
        self.say_once(&SAID, || {
            "beat: the program, or a library in it, gave a task to `tokio::spawn`. Such tasks run, but all on the one \
             thread that drives tokio, where a long poll holds up all timers and sockets. Spawn with `beat::spawn`, \
             serve with `beat::serve`, give hyper `beat::hyper::BeatExecutor`."
                .into()
        });
    }

    fn warn_of_long_poll(&self, nanoseconds: u64) {
        static SAID: AtomicBool = AtomicBool::new(false);
        self.say_once(&SAID, || {
            let micros = nanoseconds / 1_000;
            format!(
                "beat: tasks that were given to `tokio::spawn` kept the thread that drives tokio for {micros} µs in one \
                 go; all timers and sockets waited. Spawn them with `beat::spawn`, or their long part with \
                 `beat::spawn_blocking_parallel`; serve with `beat::serve`. `Handle::metrics` counts how often it \
                 happens (`foreign_long_polls`)."
            )
        });
    }

    /// Once a process: programs make many runtimes in their tests.
    fn say_once(&self, said: &AtomicBool, message: impl FnOnce() -> String) {
        // Relaxed: whoever swaps first says it.
        if self.warns && !said.load(Relaxed) && !said.swap(true, Relaxed) {
            let message = message();
            say(&format!("{message} Said once; BEAT_WARN=0 or `Builder::warnings(false)` silences it.\n"));
        }
    }
}
