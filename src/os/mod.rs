//! What the scheduler asks of the operating system: one whole file for Linux, one for all others.
//!
//! Everything here may be refused. A refusal is reported to the caller, who goes on without.

#[cfg(target_os = "linux")]
mod cpu_groups;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) mod parse;
#[cfg(target_os = "linux")]
pub(crate) mod watched;
#[cfg(target_os = "linux")]
pub(crate) use cpu_groups::CpuGroups;
#[cfg(target_os = "linux")]
pub(crate) use linux::{
    Affinity, BusyTime, Schedstat, Slice, ThreadClock, current_cpu, forks, has_slices, probe,
    process_cpu_time, set_slice, sleep_on_time,
};

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{
    Affinity, BusyTime, CpuGroups, Schedstat, Slice, ThreadClock, current_cpu, forks, probe,
    process_cpu_time, set_slice, sleep_on_time,
};

use std::sync::OnceLock;
use std::time::{Duration, Instant};

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
    pub(crate) policy: Option<Policy>,
    /// Whether the kernel knows scheduling slices.
    pub(crate) has_slices: bool,
}

/// How long a thread has run, and how long it has waited for a core, so far, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunTimes {
    pub(crate) ran: u64,
    pub(crate) waited: u64,
}

/// How the kernel has stopped a control group that had spent its CPU quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Throttled {
    /// Periods in which it did.
    pub(crate) periods: u64,
    /// How long, summed over CPUs.
    pub(crate) time: Duration,
}

/// Nanoseconds since some moment before the first call: one clock for all threads.
pub(crate) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    // 64 bits of nanoseconds are 584 years.
    start.elapsed().as_nanos() as u64
}
