//! What the scheduler asks of the operating system: one whole file for Linux, one for all others.
//!
//! Everything here may be refused. A refusal is reported to the caller, who goes on without.

#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{Affinity, Slice, ThreadClock, current_cpu, forks, probe, set_slice, sleep_on_time};

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{Affinity, Slice, ThreadClock, current_cpu, forks, probe, set_slice, sleep_on_time};

use std::sync::OnceLock;
use std::time::Instant;

/// How the system shares its CPUs out to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "not known there"))]
pub(crate) enum Policy {
    Ordinary { nice: i32 },
    Batch,
    Idle,
    RealTime,
    Other,
}

/// What stands between a process and its CPUs besides its affinity mask, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Limits {
    /// The cgroup's CPU quota, in CPUs.
    pub(crate) quota: Option<f64>,
    pub(crate) policy: Option<Policy>,
    /// Whether the kernel knows scheduling slices.
    pub(crate) has_slices: bool,
}

/// Nanoseconds since some moment before the first call: one clock for all threads.
pub(crate) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    // 64 bits of nanoseconds are 584 years.
    start.elapsed().as_nanos() as u64
}
