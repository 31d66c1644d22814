//! Machines that are not here: the files that Linux would show on them.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use beat::topology::{CpuSet, Topology};
use tempfile::TempDir;

/// What one CPU shares with others, by keys.
#[derive(Clone, Copy)]
pub(crate) struct Cpu {
    pub(crate) id: usize,
    pub(crate) package: usize,
    pub(crate) node: usize,
    pub(crate) core: usize,
    pub(crate) l2: Option<usize>,
    pub(crate) l3: Option<usize>,
    /// In kHz.
    pub(crate) frequency: Option<u64>,
    pub(crate) capacity: Option<u64>,
}

impl Cpu {
    /// With a core of its own, in the only package and node.
    pub(crate) fn new(id: usize) -> Self {
        Self { id, package: 0, node: 0, core: id, l2: Some(id), l3: Some(0), frequency: None, capacity: None }
    }
}

#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    pub(crate) cpus: Vec<Cpu>,
    /// Of `cpus`.
    pub(crate) offline: CpuSet,
    /// What the process is given.
    pub(crate) allowed: Option<&'static str>,
    /// From each node to each.
    pub(crate) distances: Vec<Vec<u32>>,
    /// The small cores of a hybrid whose vendor names them.
    pub(crate) small: Option<CpuSet>,
}

impl Machine {
    /// The tree that stands for `/`.
    pub(crate) fn tree(&self) -> TempDir {
        let tree = tempfile::tempdir().unwrap();
        self.write(tree.path());
        tree
    }

    pub(crate) fn topology(&self) -> Topology {
        let topology = Topology::from_sysfs(&self.tree().path().join("sys")).unwrap();
        match self.allowed {
            Some(allowed) => topology.with_allowed(&allowed.parse().unwrap()).unwrap(),
            None => topology,
        }
    }

    fn online(&self) -> impl Iterator<Item = &Cpu> {
        self.cpus.iter().filter(|cpu| !self.offline.contains(cpu.id))
    }

    fn who<K: PartialEq>(&self, key: impl Fn(&Cpu) -> K, of: &Cpu) -> CpuSet {
        self.online().filter(|cpu| key(cpu) == key(of)).map(|cpu| cpu.id).collect()
    }

    fn write(&self, root: &Path) {
        let devices = root.join("sys/devices");
        let all: CpuSet = self.cpus.iter().map(|cpu| cpu.id).collect();
        let online = all.difference(&self.offline);
        for (file, set) in [("present", &all), ("possible", &all), ("online", &online)] {
            write(&devices.join("system/cpu").join(file), set);
        }
        for cpu in &self.cpus {
            self.write_cpu(&devices, cpu);
        }
        for (node, row) in self.distances.iter().enumerate() {
            let cpus: CpuSet = self.online().filter(|cpu| cpu.node == node).map(|cpu| cpu.id).collect();
            let at = devices.join(format!("system/node/node{node}"));
            write(&at.join("cpulist"), &cpus);
            write(&at.join("cpumap"), mask(&cpus));
            write(&at.join("meminfo"), format!("Node {node} MemTotal:       16777216 kB"));
            write(&at.join("distance"), row.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
        }
        if !self.distances.is_empty() {
            write(&devices.join("system/node/online"), (0..self.distances.len()).collect::<CpuSet>());
        }
        if let Some(small) = &self.small {
            write(&devices.join("cpu_atom/cpus"), small);
            write(&devices.join("cpu_core/cpus"), all.difference(small));
        }
    }

    fn write_cpu(&self, devices: &Path, cpu: &Cpu) {
        let at = devices.join(format!("system/cpu/cpu{}", cpu.id));
        fs::create_dir_all(&at).unwrap();
        if self.offline.contains(cpu.id) {
            return write(&at.join("online"), 0);
        }
        write(&at.join("topology/physical_package_id"), cpu.package);
        write(&at.join("topology/core_id"), cpu.core);
        let core = self.who(|cpu| cpu.core, cpu);
        let package = self.who(|cpu| cpu.package, cpu);
        for (name, set) in [("core_cpus", &core), ("thread_siblings", &core), ("package_cpus", &package)] {
            write(&at.join(format!("topology/{name}")), mask(set));
            write(&at.join(format!("topology/{name}_list")), set);
        }
        let l2 = cpu.l2.map(|_| self.who(|cpu| cpu.l2, cpu));
        let l3 = cpu.l3.map(|_| self.who(|cpu| cpu.l3, cpu));
        let l1 = l2.is_some().then_some(core);
        let caches =
            [(1, "Data", l1.clone()), (1, "Instruction", l1), (2, "Unified", l2), (3, "Unified", l3)];
        let there = caches.into_iter().filter_map(|(level, kind, set)| Some((level, kind, set?)));
        for (index, (level, kind, set)) in there.enumerate() {
            let at = at.join(format!("cache/index{index}"));
            write(&at.join("level"), level);
            write(&at.join("type"), kind);
            write(&at.join("size"), "1024K");
            write(&at.join("shared_cpu_list"), &set);
            write(&at.join("shared_cpu_map"), mask(&set));
        }
        if let Some(frequency) = cpu.frequency {
            write(&at.join("cpufreq/cpuinfo_max_freq"), frequency);
        }
        if let Some(capacity) = cpu.capacity {
            write(&at.join("cpu_capacity"), capacity);
        }
    }
}

fn write(file: &Path, text: impl ToString) {
    let text = text.to_string() + "\n";
    if fs::write(file, &text).is_err() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, &text).unwrap();
    }
}

/// A set in the kernel's other form: words of 32 bits in hexadecimal, the highest first.
fn mask(set: &CpuSet) -> String {
    let words = set.iter().last().map_or(1, |last| last / 32 + 1);
    let word = |word: usize| {
        (0..32).filter(|bit| set.contains(word * 32 + bit)).map(|bit| 1_u32 << bit).sum::<u32>()
    };
    (0..words).rev().map(|place| format!("{:08x}", word(place))).collect::<Vec<_>>().join(",")
}

fn rows(rows: &[&[u32]]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| row.to_vec()).collect()
}

/// 6 large cores with two threads each, of which two go a little faster, and 8 small ones in fours around an L2 cache.
fn laptop() -> Machine {
    let large = (0..12).map(|id| {
        let frequency = if id < 4 { 5_200_000 } else { 5_000_000 };
        Cpu { core: id / 2, l2: Some(id / 2), frequency: Some(frequency), ..Cpu::new(id) }
    });
    let small = (12..20).map(|id| Cpu { l2: Some(id / 4 + 100), frequency: Some(3_900_000), ..Cpu::new(id) });
    Machine {
        name: "laptop",
        cpus: large.chain(small).collect(),
        distances: rows(&[&[10]]),
        small: Some((12..20).collect()),
        ..Machine::default()
    }
}

/// Two sockets with so many cores in so many nodes each; the second threads are numbered after all the first ones.
fn server(
    name: &'static str,
    cores: usize,
    per_node: usize,
    per_l3: usize,
    distances: Vec<Vec<u32>>,
) -> Machine {
    let cpu = |id: usize| {
        let core = id % (2 * cores);
        Cpu {
            package: core / cores,
            node: core / per_node,
            core,
            l2: Some(core),
            l3: Some(core / per_l3),
            ..Cpu::new(id)
        }
    };
    Machine { name, cpus: (0..4 * cores).map(cpu).collect(), distances, ..Machine::default() }
}

fn two_by_64() -> Machine {
    server("two_by_64", 64, 64, 8, rows(&[&[10, 32], &[32, 10]]))
}

/// Four nodes a socket.
fn epyc_8_nodes() -> Machine {
    let distance = |from: usize, to: usize| match (from == to, from / 4 == to / 4) {
        (true, _) => 10,
        (_, true) => 12,
        (_, false) => 32,
    };
    let row = |from| (0..8).map(|to| distance(from, to)).collect();
    server("epyc_8_nodes", 32, 8, 4, (0..8).map(row).collect())
}

fn single_core() -> Machine {
    Machine { name: "single_core", cpus: vec![Cpu::new(0)], distances: rows(&[&[10]]), ..Machine::default() }
}

/// The second threads are switched off.
fn smt_off() -> Machine {
    let machine = server("smt_off", 8, 8, 8, rows(&[&[10, 21], &[21, 10]]));
    Machine { offline: (16..32).collect(), ..machine }
}

/// A container on a server: a few CPUs here and there; one core is switched off.
fn sparse() -> Machine {
    let machine = server("sparse", 8, 8, 4, rows(&[&[10, 21], &[21, 10]]));
    Machine { offline: CpuSet::from_iter([5, 21]), allowed: Some("1,3,5,8-10,17,24"), ..machine }
}

/// Nodes of different sizes at different distances, which depend on the direction; the last has no CPUs.
fn asymmetric() -> Machine {
    let node = |id| match id {
        0..8 => 0,
        8..12 => 1,
        _ => 2,
    };
    let cpu = |id| Cpu { package: node(id), node: node(id), l3: Some(node(id)), ..Cpu::new(id) };
    Machine {
        name: "asymmetric",
        cpus: (0..14).map(cpu).collect(),
        distances: rows(&[&[10, 31, 16, 28], &[30, 10, 22, 28], &[16, 22, 10, 17], &[28, 28, 17, 10]]),
        ..Machine::default()
    }
}

/// Four small and four large cores, the small ones first, each four around an L2 cache; no L3.
fn phone() -> Machine {
    let cpu = |id| Cpu {
        l2: Some(id / 4),
        l3: None,
        capacity: Some(if id < 4 { 446 } else { 1024 }),
        ..Cpu::new(id)
    };
    Machine {
        name: "phone",
        cpus: (0..8).map(cpu).collect(),
        distances: rows(&[&[10]]),
        ..Machine::default()
    }
}

/// A virtual machine that tells nothing of caches.
fn no_caches() -> Machine {
    let cpu = |id| Cpu { package: id / 2, core: id, l2: None, l3: None, ..Cpu::new(id) };
    Machine { name: "no_caches", cpus: (0..4).map(cpu).collect(), ..Machine::default() }
}

pub(crate) fn all() -> Vec<Machine> {
    vec![
        laptop(),
        two_by_64(),
        epyc_8_nodes(),
        single_core(),
        smt_off(),
        sparse(),
        asymmetric(),
        phone(),
        no_caches(),
    ]
}

/// All, as they are read. Their files are written once.
pub(crate) fn topologies() -> impl Iterator<Item = (&'static str, Topology)> {
    static READ: OnceLock<Vec<(&'static str, Topology)>> = OnceLock::new();
    let read = || {
        let mut read: Vec<_> = all().iter().map(|machine| (machine.name, machine.topology())).collect();
        read.push(("1024_cpus", LARGE.parse().unwrap()));
        read
    };
    READ.get_or_init(read).iter().cloned()
}

/// 1,024 CPUs, in words.
pub(crate) const LARGE: &str = "package:4 numanode:2 l3:8 l2:8 core:1 pu:2";
