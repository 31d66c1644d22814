//! Systems other than Linux: CPUs are counted. Untested.

use std::thread;

use super::{CpuSet, Topology, sysfs};

pub(super) fn machine() -> Topology {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    sysfs::counted(cpus).assemble().expect("there is a CPU")
}

pub(super) fn allowed() -> Option<CpuSet> {
    None
}
