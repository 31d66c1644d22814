//! From what a backend found to a [`Topology`].
//!
//! A backend may be told anything: a file that is missing, a mask that contradicts another. Here it becomes partitions.
//! Groups are numbered by their first CPU, so that what a backend used for a key shows nowhere.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::io;

use super::{CoreKind, Cpu, CpuSet, Node, Topology, bad};

/// What the firmware tables call local, and what they say of others by default. Source: ACPI, System Locality Information
/// Table; Linux, `LOCAL_DISTANCE` and `REMOTE_DISTANCE`.
pub(super) const LOCAL_DISTANCE: u32 = 10;
pub(super) const REMOTE_DISTANCE: u32 = 20;
/// The speed of the fastest cores. Source: Linux, `SCHED_CAPACITY_SCALE`.
pub(super) const FULL_SPEED: u32 = 1024;
/// Cores whose speeds differ by less than this part are of one kind: a few cores of a package may go a little faster.
const SAME_KIND: u64 = 10;

/// What a backend found.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) source: &'static str,
    /// The CPUs that are online.
    pub(super) cpus: Vec<Part>,
    pub(super) offline: CpuSet,
    /// All, if not told.
    pub(super) allowed: Option<CpuSet>,
    /// By the system's number. A CPU that is in several is taken to be in the first.
    pub(super) nodes: BTreeMap<usize, CpuSet>,
    /// From one node to another, by the system's numbers.
    pub(super) distances: HashMap<(usize, usize), u32>,
}

/// What a backend found out about a CPU that is online. Equal keys: the same object.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub(super) id: usize,
    pub(super) package: usize,
    /// Its own, if not told.
    pub(super) core: Option<usize>,
    /// For levels 1, 2 and 3.
    pub(super) caches: [Option<usize>; 3],
    pub(super) pace: Pace,
}

/// What tells how fast a CPU is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// Whether it is one of the small cores, where the vendor names them.
    pub(super) is_small: Option<bool>,
    /// As the kernel measures it.
    pub(super) capacity: Option<u64>,
    /// The highest, in any unit.
    pub(super) frequency: Option<u64>,
}

/// Numbers keys by the order in which they come, and collects who has each.
struct Groups<K>(HashMap<K, usize>, Vec<CpuSet>);

impl<K: Hash + Eq> Groups<K> {
    fn new() -> Self {
        Self(HashMap::new(), Vec::new())
    }

    fn add(&mut self, key: K, cpu: usize) -> usize {
        let place = *self.0.entry(key).or_insert(self.1.len());
        if place == self.1.len() {
            self.1.push(CpuSet::new());
        }
        self.1[place].insert(cpu);
        place
    }
}

impl Parts {
    /// The topology of these parts.
    pub(super) fn assemble(mut self) -> io::Result<Topology> {
        self.cpus.sort_by_key(|part| part.id);
        self.cpus.dedup_by_key(|part| part.id);
        let online: CpuSet = self.cpus.iter().map(|part| part.id).collect();
        if online.is_empty() {
            return Err(bad(format!("{} shows no CPU that is online: nothing can run there", self.source)));
        }
        let nodes = self.disjoint_nodes(&online);
        let node_of = |id: usize| nodes.iter().position(|node| node.cpus.contains(id)).unwrap_or(0);
        let (kind_of, kinds) = kinds(&self.cpus);
        let (mut cores, mut packages) = (Groups::new(), Groups::new());
        let mut caches = [Groups::new(), Groups::new(), Groups::new()];
        let cpus = self.cpus.iter().zip(kind_of).map(|(part, kind)| Cpu {
            id: part.id,
            core: cores.add(part.core.ok_or(part.id), part.id),
            package: packages.add(part.package, part.id),
            node: node_of(part.id),
            kind,
            caches: [0, 1, 2].map(|level| Some(caches[level].add(part.caches[level]?, part.id))),
        });
        let cpus = cpus.collect();
        let present = online.union(&self.offline);
        let topology = Topology {
            source: self.source.into(),
            present,
            allowed: online.clone(),
            online,
            cpus,
            cores: cores.1,
            packages: packages.1,
            caches: caches.map(|groups| groups.1),
            distances: self.distances_between(&nodes),
            nodes,
            kinds,
        };
        match self.allowed {
            Some(allowed) => topology.with_allowed(&allowed),
            None => Ok(topology),
        }
    }

    /// The nodes, each CPU in one of them.
    fn disjoint_nodes(&self, online: &CpuSet) -> Vec<Node> {
        let mut left = online.clone();
        let mut nodes = Vec::new();
        for (&id, cpus) in &self.nodes {
            let cpus = left.intersection(cpus);
            left = left.difference(&cpus);
            nodes.push(Node { id, cpus });
        }
        // No node wants these.
        match nodes.first_mut() {
            Some(first) => first.cpus.extend(left.iter()),
            None => nodes.push(Node { id: 0, cpus: left }),
        }
        nodes
    }

    fn distances_between(&self, nodes: &[Node]) -> Vec<u32> {
        let default = |from, to| if from == to { LOCAL_DISTANCE } else { REMOTE_DISTANCE };
        let told = |from, to| self.distances.get(&(from, to)).copied().filter(|&distance| distance > 0);
        let row = |from: usize| nodes.iter().map(move |to| told(from, to.id).unwrap_or(default(from, to.id)));
        nodes.iter().flat_map(|from| row(from.id)).collect()
    }
}

/// The kinds of cores, and which one each CPU is.
fn kinds(parts: &[Part]) -> (Vec<usize>, Vec<CoreKind>) {
    let paces = || parts.iter().map(|part| part.pace);
    let told = |what: fn(Pace) -> Option<u64>| {
        paces().map(|pace| what(pace).filter(|&speed| speed > 0)).collect::<Option<Vec<_>>>()
    };
    let by_name =
        |pace: Pace| pace.is_small.map(|small| u64::from(if small { FULL_SPEED / 2 } else { FULL_SPEED }));
    let speeds = told(|pace| pace.capacity)
        .or_else(|| told(|pace| pace.frequency))
        .or_else(|| told(by_name))
        .unwrap_or_else(|| vec![1; parts.len()]);
    let are_named = paces().all(|pace| pace.is_small.is_some());
    let fastest = speeds.iter().copied().max().unwrap_or(1).max(1);

    // The fastest first; of equally fast ones those that are not called small.
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(speeds[i]), parts[i].pace.is_small));
    let (mut kind_of, mut kinds) = (vec![0; parts.len()], Vec::<(CoreKind, Pace, u64)>::new());
    for i in order {
        let belongs = |(_, leader, speed): &(CoreKind, Pace, u64)| match are_named {
            true => leader.is_small == parts[i].pace.is_small,
            false => u128::from(speed - speeds[i]) * u128::from(SAME_KIND) <= u128::from(*speed),
        };
        let kind = kinds.iter().position(belongs).unwrap_or_else(|| {
            let speed = u128::from(speeds[i]) * u128::from(FULL_SPEED) / u128::from(fastest);
            let kind = CoreKind { speed: (speed as u32).max(1), cpus: CpuSet::new() };
            kinds.push((kind, parts[i].pace, speeds[i]));
            kinds.len() - 1
        });
        kinds[kind].0.cpus.insert(parts[i].id);
        kind_of[i] = kind;
    }
    (kind_of, kinds.into_iter().map(|(kind, ..)| kind).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speeds(paces: &[Pace]) -> Vec<(u32, String)> {
        let part = |(id, &pace)| Part { id, pace, ..Part::default() };
        let parts = Parts { cpus: paces.iter().enumerate().map(part).collect(), ..Parts::default() };
        let kinds = parts.assemble().unwrap().kinds;
        kinds.into_iter().map(|kind| (kind.speed, kind.cpus.to_string())).collect()
    }

    fn at(frequency: u64) -> Pace {
        Pace { frequency: Some(frequency), ..Pace::default() }
    }

    #[test]
    fn a_core_that_may_go_a_little_faster_is_no_kind_of_its_own() {
        assert_eq!(speeds(&[at(4700), at(5000), at(4800)]), [(1024, "0-2".into())]);
        assert_eq!(speeds(&[at(3800), at(5000), at(3800)]), [(1024, "1".into()), (778, "0,2".into())]);
    }

    #[test]
    fn capacity_goes_before_frequency_and_names_go_before_both() {
        let capacity = |capacity, frequency| Pace { capacity: Some(capacity), ..at(frequency) };
        assert_eq!(speeds(&[capacity(1024, 1), capacity(512, 2)]), [(1024, "0".into()), (512, "1".into())]);
        let named = |small, pace| Pace { is_small: Some(small), ..pace };
        let hybrid = [named(true, at(3800)), named(false, at(5000)), named(false, at(4000))];
        assert_eq!(speeds(&hybrid), [(1024, "1-2".into()), (778, "0".into())]);
        let unmeasured = [true, false].map(|small| named(small, Pace::default()));
        assert_eq!(speeds(&unmeasured), [(1024, "1".into()), (512, "0".into())]);
    }

    #[test]
    fn half_an_answer_is_none() {
        assert_eq!(speeds(&[at(1000), Pace::default()]), [(1024, "0-1".into())]);
        assert_eq!(speeds(&[at(0), at(1)]), [(1024, "0-1".into())]);
        assert_eq!(speeds(&[at(u64::MAX), at(1)]), [(1024, "0".into()), (1, "1".into())]);
    }

    #[test]
    fn a_cpu_of_two_nodes_is_in_the_first_and_one_of_none_too() {
        let part = |id| Part { id, ..Part::default() };
        let set = |text: &str| text.parse::<CpuSet>().unwrap();
        let nodes = BTreeMap::from([(3, set("1-2")), (5, set("2-9"))]);
        let parts = Parts { cpus: (0..5).map(part).collect(), nodes, ..Parts::default() };
        let topology = parts.assemble().unwrap();
        let nodes: Vec<_> = topology.nodes().iter().map(|node| (node.id, node.cpus.to_string())).collect();
        assert_eq!(nodes, [(3, "0-2".into()), (5, "3-4".into())]);
    }
}
