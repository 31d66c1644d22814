//! What the scheduler asks of the operating system: one whole file for Linux, one for all others.
//!
//! Everything here may be refused. A refusal is reported to the caller, who goes on without.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::{Affinity, Slice, ThreadClock, forks, probe, set_slice, sleep_on_time};

#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{Affinity, Slice, ThreadClock, forks, probe, set_slice, sleep_on_time};

use std::sync::OnceLock;
use std::time::Instant;

/// Nanoseconds since some moment before the first call: one clock for all threads.
pub(crate) fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    // 64 bits of nanoseconds are 584 years.
    start.elapsed().as_nanos() as u64
}
