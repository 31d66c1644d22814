//! When to look next at something that all threads may look at, and one at a time should.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// On the runtime's clock, in nanoseconds; never if that is the last moment there is.
#[derive(Debug)]
pub(crate) struct NextLook(
    /// Relaxed: whoever finds it due tries to move it on.
    AtomicU64,
);

impl NextLook {
    pub(crate) const fn at(moment: u64) -> Self {
        Self(AtomicU64::new(moment))
    }

    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.0.load(Relaxed)
    }

    /// Whether the look that is due at `now` is the caller's; the next one is due after `period`.
    pub(crate) fn claim(&self, now: u64, period: u64) -> bool {
        let due = self.0.load(Relaxed);
        let next = now.saturating_add(period);
        now >= due && self.0.compare_exchange(due, next, Relaxed, Relaxed).is_ok()
    }

    /// The look at `now` has found that the next one should come sooner, or later.
    pub(crate) fn come_back(&self, now: u64, period: u64) {
        self.0.store(now.saturating_add(period), Relaxed);
    }
}
