//! Systems other than Linux: no pinning, no slices, and nothing known about other threads. Untested.

use std::io;
use std::path::Path;

/// A set of CPUs that a thread may run on: not known here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Affinity;

impl Affinity {
    pub(crate) fn current() -> io::Result<Self> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "pinning is supported on Linux only: use Pinning::None",
        ))
    }

    pub(crate) fn of(_cpus: impl Iterator<Item = usize>) -> io::Result<Self> {
        Ok(Self)
    }

    pub(crate) fn cpus(&self) -> Vec<usize> {
        Vec::new()
    }

    pub(crate) fn count(&self) -> usize {
        0
    }

    pub(crate) fn contains(&self, _cpu: usize) -> bool {
        false
    }

    pub(crate) fn apply(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Not known here.
pub(crate) fn current_cpu() -> Option<usize> {
    None
}

/// How long the system lets a thread run before another may have the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slice {
    Short,
    Long,
    Default,
}

pub(crate) fn set_slice(_slice: Slice) {}

pub(crate) fn probe() {}

pub(crate) fn has_slices() -> bool {
    false
}

/// Not looked at: there are no quotas.
pub(crate) fn process_cpu_time() -> u64 {
    0
}

pub(crate) fn sleep_on_time() {}

/// How another thread of this process is looked at: it cannot be.
#[derive(Debug)]
pub(crate) struct ThreadClock;

impl ThreadClock {
    pub(crate) fn current() -> Option<Self> {
        None
    }

    pub(crate) fn cpu_time(&self) -> Option<u64> {
        None
    }

    pub(crate) fn pin(&self, _mask: &Affinity) {}

    pub(crate) fn affinity(&self) -> Option<Affinity> {
        None
    }

    pub(crate) fn set_slice(&self, _slice: Slice) {}

    pub(crate) fn is_asleep(&self) -> bool {
        false
    }
}

/// Nothing is known of what others use.
#[derive(Debug)]
pub(crate) struct BusyTime;

impl BusyTime {
    pub(crate) fn of(_cpus: Affinity) -> Option<Self> {
        None
    }

    pub(crate) fn read(&mut self) -> Option<(u64, u32)> {
        None
    }
}

/// No account is kept of what threads wait.
#[derive(Debug)]
pub(crate) struct Schedstat;

impl Schedstat {
    pub(crate) fn of_this_thread() -> Option<Self> {
        None
    }

    pub(crate) fn read(&self) -> Option<super::RunTimes> {
        None
    }
}

/// Forks go unnoticed here.
pub(crate) fn forks() -> u32 {
    0
}

/// There are no control groups.
#[derive(Debug)]
pub(crate) struct CpuGroups;

impl CpuGroups {
    pub(crate) fn open(_root: &Path) -> Self {
        Self
    }

    pub(crate) fn quota(&mut self) -> Option<f64> {
        None
    }

    pub(crate) fn cpuset(&mut self) -> Option<&str> {
        None
    }

    pub(crate) fn throttled(&mut self) -> Option<super::Throttled> {
        None
    }
}

impl super::Limits {
    pub(crate) fn current() -> Self {
        Self::default()
    }
}
