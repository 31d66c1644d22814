//! Linux: what stands between a thread and its CPUs besides its affinity mask and quotas: scheduling policies.
//!
//! For what is told to people; nothing depends on it. What cannot be read is not there.

use super::linux::{SELF, get_attributes, has_slices};
use super::{Limits, Policy};

impl Limits {
    /// Those of the calling thread.
    pub(crate) fn current() -> Self {
        let attributes = get_attributes(SELF).ok();
        let policy = attributes.as_ref().map(|a| match a.policy as i32 {
            libc::SCHED_OTHER => Policy::Ordinary { nice: a.nice },
            libc::SCHED_BATCH => Policy::Batch,
            libc::SCHED_IDLE => Policy::Idle,
            libc::SCHED_FIFO | libc::SCHED_RR => Policy::RealTime,
            _ => Policy::Other,
        });
        Self { policy, has_slices: has_slices() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_has_a_policy() {
        assert!(Limits::current().policy.is_some());
    }
}
