//! Aborts the process when a round hangs, and says which.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::options::Options;

/// A thread that watches the number of the round.
#[derive(Debug)]
pub(crate) struct Guard {
    round: Arc<AtomicU64>,
}

impl Guard {
    pub(crate) fn start(options: &Options) -> Self {
        let round = Arc::new(AtomicU64::new(options.first));
        let (options, theirs) = (options.clone(), Arc::clone(&round));
        thread::spawn(move || watch(&options, &theirs));
        Self { round }
    }

    /// A round begins, so the last one has ended.
    pub(crate) fn round(&self, number: u64) {
        // Relaxed: a progress counter.
        self.round.store(number, Relaxed);
    }
}

fn watch(options: &Options, round: &AtomicU64) {
    let mut seen = u64::MAX;
    while round.load(Relaxed) != seen {
        seen = round.load(Relaxed);
        thread::sleep(options.hang);
    }
    fail(options.seed, seen, &format!("hung for {:?}", options.hang), options.stay);
}

/// Says what is wrong with a round, and ends the process.
pub(crate) fn fail(seed: u64, round: u64, what: &str, stay: bool) -> ! {
    eprintln!("FAILED: {what}; replay with: --seed {seed} --first {round} --rounds 1");
    if stay {
        eprintln!("process {} waits for a debugger", std::process::id());
        loop {
            thread::sleep(Duration::from_secs(3600));
        }
    }
    std::process::abort();
}
