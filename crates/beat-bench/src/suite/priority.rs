//! A priority above the load, so that a measuring thread measures the load and not itself.

use std::fmt;

use rustix::process::setpriority_process;

/// What the kernel granted to a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// `SCHED_FIFO`: before all ordinary threads.
    RealTime,
    /// Nice −20: a larger share, but no precedence.
    Nice,
    /// As everybody else.
    Ordinary,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Priority::RealTime => "real-time priority",
            Priority::Nice => "nice -20 (real-time priority was refused)",
            Priority::Ordinary => "ordinary priority (more was refused): its own waits are in the figures",
        })
    }
}

/// Raises the calling thread as far as is permitted; among real-time threads, to `level`.
pub(crate) fn raise(level: i32) -> Priority {
    let param = libc::sched_param { sched_priority: level };
    // SAFETY: 0 names the calling thread, and `param` lives across the call.
    let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &param) };
    if refused == 0 {
        return Priority::RealTime;
    }
    // On Linux a priority belongs to a thread; `None` is the calling one.
    match setpriority_process(None, -20) {
        Ok(()) => Priority::Nice,
        Err(_) => Priority::Ordinary,
    }
}
