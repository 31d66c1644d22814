//! Which CPUs each worker is bound to.

use std::fmt;
use std::io;

use super::picture::WIDTH;
use super::{Cpu, CpuSet, Topology, bad};

/// Whether and how workers are bound to CPUs, of those that the process was given.
///
/// On a hybrid the fast cores come first, and SMT siblings come after all physical cores, but for `Threads`. Cores that
/// come one after the other are near each other: few workers share caches.
///
/// Threads that user code starts on a worker inherit its mask, and `std::thread::available_parallelism` answers 1 there if
/// the worker has one CPU.
///
/// ```
/// use beat::Pinning;
/// use beat::topology::Topology;
///
/// let machine: Topology = "package:2 l3:2 core:2 pu:2".parse()?;
/// let first = |pinning| machine.place(&pinning, 3).map(|place| place.cpus().iter().map(ToString::to_string).collect::<Vec<_>>());
/// assert_eq!(first(Pinning::Cores)?, ["0", "2", "4"]);
/// assert_eq!(first(Pinning::PhysicalCores)?, ["0-1", "2-3", "4-5"]);
/// assert_eq!(first(Pinning::Threads)?, ["0", "1", "2"]);
/// assert_eq!(first(Pinning::CacheGroup)?, ["0-3", "0-3", "4-7"]);
/// assert_eq!(first(Pinning::Cpus(vec![5, 9, 3]))?, ["5", "9", "3"]);
/// assert_eq!(first(Pinning::None)?, ["0-15", "0-15", "0-15"]);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// ```
/// use beat::Pinning;
///
/// let runtime = beat::Runtime::builder().pinning(Pinning::None).build()?;
/// # drop(runtime);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// A worker that waits for its CPU for more than a fourth of the time, since another program runs there, is let go for a
/// while (for more than three fourths, if there are no more CPUs than workers, and so none to go to): it may run on any CPU
/// of the runtime's (of those listed, with [`Cpus`](Self::Cpus)). Then it is bound again, on trial, after longer times each
/// time that nothing has changed. One that has run nothing but short polls for a tenth of a second (its runtime's tasks take less
/// than 32 µs on average until they wait) is let go if it has waited for more than a sixteenth, and bound again when it begins a
/// closure, shares a fork or has longer tasks: see [`unpins`](crate::Metrics::unpins) and
/// [`unpinned_threads`](crate::Metrics::unpinned_threads) of the metrics. A worker looks while it works, at most ten times a
/// second, and never in the middle of a closure that does not fork.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pinning {
    /// Workers run where the system puts them.
    None,
    /// Each worker is bound to a CPU of its own; SMT siblings of a core that has a worker come last.
    Cores,
    /// Each worker is bound to a physical core of its own, and may run on any of its SMT threads.
    PhysicalCores,
    /// Each worker is bound to a CPU of its own; workers that follow each other share a core.
    Threads,
    /// Each worker is bound to the CPUs around one L3 cache, and not to one of them. As many workers sit around a cache as
    /// `Cores` would put there. Without an L3 cache it is the L2 cache, if cores share it, else the node.
    CacheGroup,
    /// Each worker is bound to the CPUs of one NUMA node, as many to a node as `Cores` would put there.
    Node,
    /// The first worker is bound to the first of these CPUs, the second to the second.
    Cpus(Vec<usize>),
}

impl Pinning {
    /// What messages call it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Cores => "a CPU each",
            Self::Threads => "a CPU each, SMT siblings together",
            Self::Cpus(_) => "listed CPUs",
            Self::PhysicalCores => "a physical core each",
            Self::CacheGroup => "cache groups",
            Self::Node => "NUMA nodes",
        }
    }
}

/// Which CPUs each worker is bound to; from [`Topology::place`].
///
/// ```
/// use beat::Pinning;
/// use beat::topology::Topology;
///
/// let machine: Topology = "core:4 pu:2".parse()?;
/// let placement = machine.place(&Pinning::Cores, 6)?;
/// assert_eq!(placement.cpus().len(), 6);
/// assert_eq!(placement.to_string(), "workers 0-5: CPUs 0-6 by 2 1 3\n");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    cpus: Vec<CpuSet>,
}

impl Placement {
    /// By worker: the CPUs that it may run on.
    pub fn cpus(&self) -> &[CpuSet] {
        &self.cpus
    }
}

impl Topology {
    /// How many workers can be placed so. Without pinning there is no limit; this is then how many CPUs there are.
    ///
    /// ```
    /// use beat::Pinning;
    /// use beat::topology::Topology;
    ///
    /// let machine: Topology = "core:4 pu:2".parse()?;
    /// let rooms = [Pinning::Cores, Pinning::PhysicalCores, Pinning::Cpus(vec![3])].map(|pinning| machine.room(&pinning));
    /// assert_eq!(rooms, [8, 4, 1]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn room(&self, pinning: &Pinning) -> usize {
        match pinning {
            Pinning::PhysicalCores => self.given_cores().count(),
            Pinning::Cpus(list) => list.len(),
            _ => self.allowed.len(),
        }
    }

    /// Where so many workers sit.
    ///
    /// ```
    /// use beat::Pinning;
    /// use beat::topology::Topology;
    ///
    /// let machine: Topology = "core:4 pu:2".parse()?;
    /// assert_eq!(machine.place(&Pinning::PhysicalCores, 2)?.cpus()[1].to_string(), "2-3");
    /// let error = machine.place(&Pinning::Cores, 9).unwrap_err();
    /// assert!(error.to_string().contains("there is room for 8 on the CPUs 0-7"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If there is no room for so many, or if a list names a CPU twice or one that was not given.
    pub fn place(&self, pinning: &Pinning, workers: usize) -> io::Result<Placement> {
        if let Pinning::None = pinning {
            return Ok(Placement { cpus: vec![self.allowed.clone(); workers] });
        }
        if let Pinning::Cpus(list) = pinning {
            self.check_list(list)?;
        }
        let room = self.room(pinning);
        if workers > room {
            return Err(bad(match pinning {
                Pinning::Cpus(_) => format!(
                    "{workers} workers cannot be pinned to the {room} CPUs listed: set `worker_threads` to that \
                     number or less, or list more"
                ),
                _ => format!(
                    "{workers} workers cannot be pinned to {}: there is room for {room} on the CPUs {} that this \
                     process may use. Set `worker_threads` to that number or less, or `pinning` to none",
                    pinning.name(),
                    self.allowed
                ),
            }));
        }
        let only = |id: usize| CpuSet::from_iter([id]);
        let mut cpus: Vec<CpuSet> = match pinning {
            Pinning::None => Vec::new(),
            Pinning::Cpus(list) => list.iter().map(|&id| only(id)).collect(),
            Pinning::PhysicalCores => self.given_cores().collect(),
            Pinning::Threads => self.given_by(near).into_iter().map(|cpu| only(cpu.id)).collect(),
            Pinning::Cores => self.cores_first().map(|cpu| only(cpu.id)).collect(),
            Pinning::CacheGroup => {
                self.cores_first().map(|cpu| self.given_of(self.cache_group(cpu))).collect()
            }
            Pinning::Node => {
                self.cores_first().map(|cpu| self.given_of(&self.nodes[cpu.node].cpus)).collect()
            }
        };
        cpus.truncate(workers);
        Ok(Placement { cpus })
    }

    fn check_list(&self, list: &[usize]) -> io::Result<()> {
        for (place, &id) in list.iter().enumerate() {
            let why = if list[..place].contains(&id) {
                "is listed twice"
            } else if !self.online.contains(id) {
                "is not there, or switched off"
            } else if !self.allowed.contains(id) {
                "was not given to this process"
            } else {
                continue;
            };
            return Err(bad(format!(
                "no worker can be pinned to CPU {id}, which {why}: list different ones of {}",
                self.allowed
            )));
        }
        Ok(())
    }

    /// The CPUs given, sorted.
    fn given_by<K: Ord>(&self, key: impl Fn(&Cpu) -> K) -> Vec<&Cpu> {
        let mut given: Vec<_> = self.cpus.iter().filter(|cpu| self.allowed.contains(cpu.id)).collect();
        given.sort_by_key(|cpu| key(cpu));
        given
    }

    /// The CPUs given: first one of each core, then the second of each.
    fn cores_first(&self) -> impl Iterator<Item = &Cpu> {
        let mut before = vec![0_u32; self.cores.len()];
        let threads = self.given_by(|cpu| cpu.id);
        let mut ranked: Vec<_> = threads
            .into_iter()
            .map(|cpu| {
                let rank = before[cpu.core];
                before[cpu.core] += 1;
                (rank, near(cpu), cpu)
            })
            .collect();
        ranked.sort_by_key(|&(rank, near, _)| (rank, near));
        ranked.into_iter().map(|(.., cpu)| cpu)
    }

    /// The cores of which a CPU is given, as far as they are.
    fn given_cores(&self) -> impl Iterator<Item = CpuSet> {
        // Not next to each other, if the files have their siblings' caches or kinds differ.
        let mut seen = vec![false; self.cores.len()];
        let mut cores: Vec<_> = self.given_by(near).into_iter().map(|cpu| cpu.core).collect();
        cores.retain(|&core| !std::mem::replace(&mut seen[core], true));
        cores.into_iter().map(|core| self.given_of(&self.cores[core]))
    }

    fn cache_group(&self, cpu: &Cpu) -> &CpuSet {
        let [_, l2, l3] = cpu.caches;
        let cores_around = |cpus: &CpuSet| !cpus.is_subset(&self.cores[cpu.core]);
        let l2 = l2.map(|cache| &self.caches[1][cache]).filter(|cpus| cores_around(cpus));
        l3.map(|cache| &self.caches[2][cache]).or(l2).unwrap_or(&self.nodes[cpu.node].cpus)
    }

    fn given_of(&self, cpus: &CpuSet) -> CpuSet {
        self.allowed.intersection(cpus)
    }
}

/// Sorts the fast cores first, and what is near each other together.
fn near(cpu: &Cpu) -> impl Ord + Copy + use<> {
    let [_, l2, l3] = cpu.caches;
    (cpu.kind, cpu.package, cpu.node, l3, l2, cpu.core, cpu.id)
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_single = |set: &CpuSet| set.len() == 1;
        let runs = self.cpus.chunk_by(|a, b| a == b || is_single(a) && is_single(b));
        let mut first = 0;
        for run in runs {
            let workers: CpuSet = (first..first + run.len()).collect();
            first += run.len();
            match run {
                [cpus] if is_single(cpus) => writeln!(f, "worker {workers}: CPU {cpus}")?,
                [cpus] => writeln!(f, "worker {workers}: any of the CPUs {cpus}")?,
                [cpus, ..] if !is_single(cpus) => writeln!(f, "workers {workers}: any of the CPUs {cpus}")?,
                run => {
                    let cpus: Vec<_> = run.iter().filter_map(CpuSet::first).collect();
                    write_wrapped(f, &format!("workers {workers}: CPUs"), &in_order(&cpus))?;
                }
            }
        }
        Ok(())
    }
}

/// The numbers in their order, with runs of the same step put together.
fn in_order(mut numbers: &[usize]) -> Vec<String> {
    let mut words = Vec::new();
    while let [first, rest @ ..] = numbers {
        let step = rest.first().and_then(|second| second.checked_sub(*first)).filter(|&step| step > 0);
        let mut length =
            numbers.windows(2).take_while(|pair| pair[1].checked_sub(pair[0]) == step).count() + 1;
        // The last one may begin a run of neighbours.
        let is_taken = step > Some(1) && numbers.get(length) == Some(&(numbers[length - 1] + 1));
        length -= usize::from(is_taken);
        let (run, others) = numbers.split_at(length);
        match (step, run) {
            (Some(1), [first, _, .., last]) => words.push(format!("{first}-{last}")),
            (Some(step), [first, _, _, .., last]) => words.push(format!("{first}-{last} by {step}")),
            _ => {
                words.push(first.to_string());
                numbers = rest;
                continue;
            }
        }
        numbers = others;
    }
    words
}

fn write_wrapped(f: &mut fmt::Formatter<'_>, head: &str, words: &[String]) -> fmt::Result {
    let mut line = head.to_owned();
    for word in words {
        if line.len() + 1 + word.len() > WIDTH {
            writeln!(f, "{line}")?;
            line = " ".repeat(head.len());
        }
        line = line + " " + word;
    }
    writeln!(f, "{line}")
}
