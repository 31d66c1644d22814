//! The heavy work: closures of three kinds, made of equal leaves, so that what was done is counted alike.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::suite::fork::searches::Work;

/// What a leaf takes.
pub(super) const LEAF: Duration = Duration::from_micros(50);

/// What a closure is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 256 leaves, forked by halves.
    Forking,
    /// 100 leaves in a row: 5 ms without a fork.
    Long,
    /// One leaf.
    Short,
}

/// What all closures of a run have in common.
#[derive(Clone, Debug)]
pub(super) struct Heavy {
    pub(super) kind: Kind,
    leaf: Work,
    /// Each second leaf ends with a `sched_yield`.
    yields: bool,
    done: Arc<AtomicU64>,
}

impl Heavy {
    pub(super) fn new(kind: Kind, leaf: Work, yields: bool) -> Self {
        Self { kind, leaf, yields, done: Arc::default() }
    }

    /// Leaves that are done.
    pub(super) fn done(&self) -> u64 {
        // Relaxed: a count, that nothing depends on.
        self.done.load(Relaxed)
    }

    fn leaves(&self) -> u64 {
        match self.kind {
            Kind::Forking => 256,
            Kind::Long => 100,
            Kind::Short => 1,
        }
    }

    fn leaf(&self, index: u64) {
        std::hint::black_box(self.leaf.run(std::hint::black_box(index)));
        self.done.fetch_add(1, Relaxed);
        if self.yields && index % 2 == 1 {
            std::thread::yield_now();
        }
    }

    pub(super) fn sequential(&self) {
        (0..self.leaves()).for_each(|index| self.leaf(index));
    }

    pub(super) fn beat(&self) {
        match self.kind {
            Kind::Forking => self.by_beat(0, self.leaves()),
            Kind::Long | Kind::Short => self.sequential(),
        }
    }

    fn by_beat(&self, from: u64, to: u64) {
        if to - from == 1 {
            return self.leaf(from);
        }
        let middle = from.midpoint(to);
        beat::join(move || self.by_beat(from, middle), move || self.by_beat(middle, to));
    }

    pub(super) fn rayon(&self) {
        match self.kind {
            Kind::Forking => self.by_rayon(0, self.leaves()),
            Kind::Long | Kind::Short => self.sequential(),
        }
    }

    fn by_rayon(&self, from: u64, to: u64) {
        if to - from == 1 {
            return self.leaf(from);
        }
        let middle = from.midpoint(to);
        rayon::join(move || self.by_rayon(from, middle), move || self.by_rayon(middle, to));
    }

    /// In a task, which yields wherever a closure could fork.
    pub(super) async fn inline(&self) {
        match self.kind {
            Kind::Forking | Kind::Short => {
                for index in 0..self.leaves() {
                    self.leaf(index);
                    tokio::task::yield_now().await;
                }
            }
            Kind::Long => {
                self.sequential();
                tokio::task::yield_now().await;
            }
        }
    }
}
