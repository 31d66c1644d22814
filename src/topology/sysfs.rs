//! The default backend: what Linux tells in files, below `devices/system` of its root.
//!
//! | file | what |
//! |---|---|
//! | `cpu/present`, `cpu/online` | which CPUs there are |
//! | `cpu/cpuN/topology/core_cpus_list` (before 5.4 `thread_siblings_list`), `core_id` | the core |
//! | `cpu/cpuN/topology/physical_package_id` | the package |
//! | `cpu/cpuN/cache/indexM/level`, `type`, `shared_cpu_list` | the caches |
//! | `cpu/cpuN/cpu_capacity`, `cpu/cpuN/cpufreq/cpuinfo_max_freq` | the speed |
//! | `node/nodeN/cpulist`, `distance`, `node/online` | the NUMA nodes |
//! | `../cpu_core/cpus`, `../cpu_atom/cpus` | which cores of a hybrid are large and small |
//!
//! Sources: Linux, `Documentation/ABI/stable/sysfs-devices-system-cpu`, `Documentation/ABI/stable/sysfs-devices-node`.
//!
//! A file that is missing or makes no sense is as if it told nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::assemble::{Pace, Part, Parts};
use super::cpu_set::CpuSet;
use super::{bad, cpu_set};

/// How many caches of a CPU are looked at: there are three to five.
const MOST_CACHES: usize = 16;
/// Sets the keys that are numbers of cores in a package apart from those that are first CPUs.
const BY_CORE_ID: usize = 1 << 31;

pub(super) fn read(root: &Path) -> io::Result<Parts> {
    Tree { devices: root.join("devices") }.read(root)
}

struct Tree {
    devices: PathBuf,
}

impl Tree {
    fn read(&self, root: &Path) -> io::Result<Parts> {
        let present = self.set("system/cpu/present").filter(|set| !set.is_empty());
        let online = self.set("system/cpu/online").filter(|set| !set.is_empty());
        let Some(online) = online.or_else(|| present.clone()) else {
            return Err(bad(format!(
                "no CPU in {}: it should hold devices/system/cpu/online, as /sys does on Linux",
                root.display()
            )));
        };
        let (large, small) = (self.set("cpu_core/cpus"), self.set("cpu_atom/cpus"));
        let is_small = |cpu| {
            let is_in = |set: &Option<CpuSet>| set.as_ref().is_some_and(|set| set.contains(cpu));
            match (is_in(&large), is_in(&small)) {
                (true, false) => Some(false),
                (false, true) => Some(true),
                _ => None,
            }
        };
        let nodes = self.nodes();
        Ok(Parts {
            source: "sysfs",
            cpus: online.iter().map(|cpu| self.cpu(cpu, is_small(cpu))).collect(),
            offline: present.unwrap_or_default().difference(&online),
            allowed: None,
            distances: self.distances(&nodes),
            nodes,
        })
    }

    fn cpu(&self, id: usize, is_small: Option<bool>) -> Part {
        let of = |name: &str| format!("system/cpu/cpu{id}/{name}");
        // -1: the firmware does not say.
        let package = self.parse::<i64>(&of("topology/physical_package_id")).unwrap_or(-1);
        let siblings = ["topology/core_cpus_list", "topology/thread_siblings_list"];
        let by_siblings = siblings.iter().find_map(|name| self.first_of_group(id, &of(name)));
        let by_number = || {
            let core = self.parse::<u16>(&of("topology/core_id"))?;
            Some(BY_CORE_ID.wrapping_add((package as u16 as usize) << 16).wrapping_add(usize::from(core)))
        };
        Part {
            id,
            package: package as usize,
            core: by_siblings.or_else(by_number),
            caches: self.caches(id),
            pace: Pace {
                is_small,
                capacity: self.parse(&of("cpu_capacity")),
                frequency: self.parse(&of("cpufreq/cpuinfo_max_freq")),
            },
        }
    }

    fn caches(&self, cpu: usize) -> [Option<usize>; 3] {
        let mut caches = [None; 3];
        for index in 0..MOST_CACHES {
            let of = |name: &str| format!("system/cpu/cpu{cpu}/cache/index{index}/{name}");
            let Some(level) = self.parse::<usize>(&of("level")) else { break };
            let is_for_data = self.text(&of("type")).is_none_or(|kind| kind.trim() != "Instruction");
            if let (Some(cache @ None), true) = (caches.get_mut(level.wrapping_sub(1)), is_for_data) {
                *cache = self.first_of_group(cpu, &of("shared_cpu_list"));
            }
        }
        caches
    }

    /// The key of the group of CPUs that a file lists, if `cpu` is in it.
    fn first_of_group(&self, cpu: usize, file: &str) -> Option<usize> {
        self.set(file).filter(|group| group.contains(cpu))?.first()
    }

    fn nodes(&self) -> BTreeMap<usize, CpuSet> {
        let ids = self.set("system/node/online").unwrap_or_default();
        let cpus = |id| self.set(&format!("system/node/node{id}/cpulist"));
        ids.iter().filter_map(|id| Some((id, cpus(id)?))).collect()
    }

    /// A node's file has the distances to all nodes that are online, ascending.
    fn distances(&self, nodes: &BTreeMap<usize, CpuSet>) -> HashMap<(usize, usize), u32> {
        let mut distances = HashMap::new();
        let ids = self.set("system/node/online").unwrap_or_default();
        for &from in nodes.keys() {
            let text = self.text(&format!("system/node/node{from}/distance")).unwrap_or_default();
            for (to, distance) in ids.iter().zip(text.split_whitespace()) {
                distances.extend(distance.parse().map(|distance| ((from, to), distance)));
            }
        }
        distances
    }

    fn set(&self, file: &str) -> Option<CpuSet> {
        self.parse(file)
    }

    fn parse<T: FromStr>(&self, file: &str) -> Option<T> {
        self.text(file)?.trim().parse().ok()
    }

    fn text(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.devices.join(file)).ok()
    }
}

/// What is known where nothing can be read: so many CPUs.
pub(super) fn counted(cpus: usize) -> Parts {
    let part = |id| Part { id, ..Part::default() };
    let cpus = (0..cpus.clamp(1, cpu_set::MOST_CPUS)).map(part).collect();
    Parts { source: "counted", cpus, ..Parts::default() }
}
