//! Linux: this machine, and the CPUs that this process was given.

use std::path::Path;
use std::thread;

use super::{CpuSet, Topology, sysfs};
use crate::local;
use crate::os::Affinity;

/// This machine by its files; where they cannot be read, the CPUs in the affinity mask.
pub(super) fn machine() -> Topology {
    if let Ok(machine) = Topology::from_sysfs(Path::new("/sys")) {
        return machine;
    }
    let counted = thread::available_parallelism().map_or(1, usize::from);
    let cpus = allowed().and_then(|cpus| cpus.iter().last()).map_or(counted, |last| last + 1);
    sysfs::counted(cpus).assemble().expect("there is a CPU")
}

/// The CPUs that the calling thread may run on; on a worker, those that its runtime was given. The kernel keeps the mask
/// inside the cpuset and what is online.
pub(super) fn allowed() -> Option<CpuSet> {
    let mask = Affinity::current().ok()?;
    let of_runtime = local::with(|local| {
        let gathered = &local?.shared.config.gathered;
        gathered.free().filter(|_| gathered.is_own(&mask)).cloned()
    });
    Some(of_runtime.unwrap_or(mask).cpus().into_iter().collect())
}
