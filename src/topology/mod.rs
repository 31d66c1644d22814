//! The machine: cores and their threads, caches, NUMA nodes, packages, and which CPUs this process was given.
//!
//! ```text
//!  sysfs ─────────┐
//!  hwloc ── XML ──┤ Parts: for each CPU what it shares,     ┌─▶ place: which CPUs each worker is bound to
//!  XML ───────────┤ by arbitrary keys          │            │         │
//!  synthetic ─────┤                        assemble        │         ▼
//!  counted ───────┘                            ▼            │   Neighbours: rings of each worker,
//!                                          Topology ────────┘   and the order in which it tries the others
//! ```
//!
//! A [`Topology`] tells what is there (present, online) apart from what the process may use (allowed). Everything in it is a
//! partition: each CPU that is online is in exactly one core, package, node and kind, and in at most one cache of each
//! level, whatever a backend claimed. From it follows by pure functions where workers sit ([`Placement`]) and in which
//! order they look at each other ([`Neighbours`]); the second allocates when it is made and never when it is asked.
//!
//! | part | what |
//! |---|---|
//! | `cpu_set` | sets of CPUs |
//! | `assemble` | from what a backend found to a [`Topology`] |
//! | `sysfs` | the default backend: the files of Linux |
//! | `given_linux`, `given_other` | this machine, and the CPUs that this process was given |
//! | `xml`, `hwloc` | what hwloc writes (feature `hwloc-xml`), and what it sees (feature `hwloc`) |
//! | `synthetic` | machines made of a line of text |
//! | `picture` | a topology for people to read |
//! | `placement` | which CPUs each worker is bound to |
//! | `ring` | who is near whom |
//!
//! Systems other than Linux: CPUs are counted, and that is all. Untested.

mod assemble;
mod cpu_set;
#[cfg(target_os = "linux")]
#[path = "given_linux.rs"]
mod given;
#[cfg(not(target_os = "linux"))]
#[path = "given_other.rs"]
mod given;
#[cfg(feature = "hwloc")]
mod hwloc;
mod picture;
mod placement;
mod ring;
mod synthetic;
mod sysfs;
#[cfg(feature = "hwloc-xml")]
mod xml;

use std::io;
use std::path::Path;
use std::sync::OnceLock;

pub use cpu_set::CpuSet;
pub use placement::{Pinning, Placement};
pub(crate) use ring::{Circle, Nearness};
pub use ring::{Neighbours, Ring, RingOf, Victims};

/// This machine, and which of its CPUs this process was given.
///
/// The files of Linux are read at the first call, and remembered; which CPUs are given is asked each time, for it changes: it
/// is the affinity mask of the calling thread, which the kernel keeps inside the cpuset and what is online. A worker that
/// its runtime has bound to a core answers for the runtime. Elsewhere CPUs are counted.
///
/// ```
/// let topology = beat::topology();
/// println!("{topology}");
/// assert!(topology.allowed().is_subset(topology.online()));
/// ```
pub fn topology() -> Topology {
    static MACHINE: OnceLock<Topology> = OnceLock::new();
    let machine = MACHINE.get_or_init(given::machine);
    let Some(allowed) = given::allowed() else { return machine.clone() };
    if allowed.is_subset(machine.online()) {
        return machine.clone().with_allowed(&allowed).unwrap_or_else(|_| machine.clone());
    }
    // A CPU has come since.
    let machine = given::machine();
    machine.clone().with_allowed(&allowed).unwrap_or(machine)
}

/// One CPU that is online: what the system schedules threads on. Its places are indices into the lists of its
/// [`Topology`].
///
/// ```
/// use beat::topology::Topology;
///
/// let machine: Topology = "package:2 core:4 pu:2".parse()?;
/// let cpu = machine.cpu(9).unwrap();
/// assert_eq!((cpu.id, cpu.core, cpu.package, cpu.node, cpu.kind), (9, 4, 1, 0, 0));
/// assert_eq!(cpu.caches, [None, None, None]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cpu {
    /// The number that the system gives it.
    pub id: usize,
    /// Which of [`Topology::cores`] it is a thread of.
    pub core: usize,
    /// Which of [`Topology::packages`] it is in.
    pub package: usize,
    /// Which of [`Topology::nodes`] its memory is.
    pub node: usize,
    /// Which of [`Topology::kinds`] its core is.
    pub kind: usize,
    /// Which of [`Topology::caches`] it uses, for levels 1, 2 and 3; `None` where the machine has none or does not say.
    pub caches: [Option<usize>; 3],
}

/// A NUMA node: a piece of memory, and the CPUs that are near it (none, perhaps).
///
/// ```
/// for node in beat::topology().nodes() {
///     println!("node {}: CPUs {}", node.id, node.cpus);
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// The number that the system gives it.
    pub id: usize,
    /// The CPUs that are online and nearer to it than to others.
    pub cpus: CpuSet,
}

/// Cores that are alike: the fast ones of a hybrid, say.
///
/// ```
/// let machine = beat::topology();
/// let fastest = &machine.kinds()[0];
/// assert_eq!(fastest.speed, 1024);
/// println!("the fastest cores: CPUs {}", fastest.cpus);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoreKind {
    /// How fast they are beside the fastest, which have 1024. What the kernel calls their capacity where it tells one,
    /// else the ratio of their highest frequencies.
    pub speed: u32,
    /// The CPUs that are online and of this kind.
    pub cpus: CpuSet,
}

/// A machine, and which of its CPUs this process was given; from [`beat::topology()`](topology()).
///
/// It displays as a picture: see `cargo run --example topology`.
///
/// ```
/// use beat::topology::{Ring, Topology};
///
/// // Two sockets, each with two groups of four cores around a cache, and two threads a core.
/// let machine: Topology = "package:2 l3:2 core:4 pu:2".parse()?;
/// assert_eq!((machine.cpus().len(), machine.cores().len(), machine.packages().len()), (32, 16, 2));
/// assert_eq!(machine.caches(3)[1].to_string(), "8-15");
/// assert_eq!(machine.ring(0, 1), Some(Ring::Smt));
/// assert_eq!(machine.ring(0, 2), Some(Ring::L3));
/// assert_eq!(machine.ring(0, 8), Some(Ring::Node));
/// let cpu = machine.cpu(9).unwrap();
/// assert_eq!((cpu.core, cpu.caches[2], cpu.package, machine.nodes()[cpu.node].id), (4, Some(1), 0, 0));
/// assert_eq!((machine.kinds()[cpu.kind].speed, machine.distance(0, 0)), (1024, Some(10)));
///
/// // What was given is kept apart from what is there.
/// let ours = machine.with_allowed(&"0-3,40".parse()?)?;
/// assert_eq!((ours.allowed().len(), ours.online().len(), ours.present().len()), (4, 32, 32));
/// assert_eq!(ours.source(), "synthetic");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Topology {
    source: String,
    present: CpuSet,
    online: CpuSet,
    allowed: CpuSet,
    /// Ascending by number.
    cpus: Vec<Cpu>,
    cores: Vec<CpuSet>,
    packages: Vec<CpuSet>,
    caches: [Vec<CpuSet>; 3],
    nodes: Vec<Node>,
    /// Row by row: from a node to each.
    distances: Vec<u32>,
    /// The fastest first.
    kinds: Vec<CoreKind>,
}

impl Topology {
    /// What the files of Linux tell, below `root` in place of `/sys`: a copy from another machine, say. All CPUs that are
    /// online count as given.
    ///
    /// Files that are missing or make no sense leave the answer without what they would have told.
    ///
    /// # Errors
    ///
    /// If no CPU can be found.
    ///
    /// ```
    /// use beat::topology::Topology;
    ///
    /// if let Ok(machine) = Topology::from_sysfs("/sys".as_ref()) {
    ///     assert!(machine.cpus().len() >= 1);
    /// }
    /// let error = Topology::from_sysfs("/nowhere".as_ref()).unwrap_err();
    /// assert!(error.to_string().contains("no CPU in /nowhere"));
    /// ```
    pub fn from_sysfs(root: &Path) -> io::Result<Self> {
        sysfs::read(root)?.assemble()
    }

    /// The machine in a line of text, in the syntax of hwloc's synthetic topologies: from the machine down, each kind of
    /// object and how many each object above has.
    ///
    /// Names are `package`, `numanode`, `l3`, `l2`, `l1`, `core`, `pu` with hwloc's longer and shorter forms; `group`,
    /// `die`, `l4`, `l5` and `l1i` divide and mean nothing here. `[numanode]` hangs a node on each object before it.
    /// `pu:2(indexes=0,2,1,3)` gives the system's numbers. Other attributes are read over.
    ///
    /// # Errors
    ///
    /// If the text is none, with the word at fault.
    ///
    /// ```
    /// use beat::topology::Topology;
    ///
    /// let machine = Topology::from_synthetic("package:2 core:64 pu:2")?;
    /// assert_eq!((machine.cpus().len(), machine.cores().len()), (256, 128));
    /// let error = Topology::from_synthetic("package:2 cora:64 pu:2").unwrap_err();
    /// assert!(error.to_string().contains("\"cora\""));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn from_synthetic(text: &str) -> io::Result<Self> {
        synthetic::parse(text)?.assemble()
    }

    /// The machine that hwloc 2 has written down: `lstopo --of xml`. Needs the feature `hwloc-xml`.
    ///
    /// # Errors
    ///
    /// If the text is no such document, or one without CPUs.
    ///
    /// ```
    /// use beat::topology::Topology;
    ///
    /// let machine = Topology::from_xml(
    ///     r#"<topology version="2.0"><object type="Machine">
    ///            <object type="Core"><object type="PU" os_index="0"/><object type="PU" os_index="4"/></object>
    ///        </object></topology>"#,
    /// )?;
    /// assert_eq!((machine.online().to_string(), machine.cores().len()), ("0,4".into(), 1));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(feature = "hwloc-xml")]
    pub fn from_xml(text: &str) -> io::Result<Self> {
        xml::parse(text)?.assemble()
    }

    /// This machine as hwloc sees it, and which of its CPUs the calling thread may run on. Needs the feature `hwloc`, and
    /// takes some milliseconds.
    ///
    /// # Errors
    ///
    /// If hwloc fails.
    ///
    /// ```
    /// let machine = beat::topology::Topology::from_hwloc()?;
    /// assert_eq!(machine.cpus(), beat::topology().cpus());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[cfg(feature = "hwloc")]
    pub fn from_hwloc() -> io::Result<Self> {
        let machine = hwloc::read()?.assemble()?;
        match given::allowed() {
            Some(allowed) => machine.with_allowed(&allowed),
            None => Ok(machine),
        }
    }

    /// The same machine, of which only some CPUs are given. Those that are not online are left out.
    ///
    /// # Errors
    ///
    /// If none is left.
    pub fn with_allowed(mut self, cpus: &CpuSet) -> io::Result<Self> {
        let allowed = self.online.intersection(cpus);
        if allowed.is_empty() {
            return Err(bad(format!(
                "none of the CPUs {{{cpus}}} is online: choose some of {}",
                self.online
            )));
        }
        self.allowed = allowed;
        Ok(self)
    }

    /// Where it comes from: `sysfs`, `hwloc`, `XML`, `synthetic` or `counted`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The CPUs that are built in, those that are switched off included.
    pub fn present(&self) -> &CpuSet {
        &self.present
    }

    /// The CPUs that run. Only of these more is known.
    pub fn online(&self) -> &CpuSet {
        &self.online
    }

    /// The CPUs that were given to this process. Never empty.
    pub fn allowed(&self) -> &CpuSet {
        &self.allowed
    }

    /// The CPUs that are online, ascending by number.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// A CPU that is online, by its number.
    pub fn cpu(&self, id: usize) -> Option<&Cpu> {
        self.cpus.binary_search_by_key(&id, |cpu| cpu.id).ok().map(|place| &self.cpus[place])
    }

    /// The physical cores: the CPUs of one are its SMT threads.
    pub fn cores(&self) -> &[CpuSet] {
        &self.cores
    }

    /// The packages (sockets).
    pub fn packages(&self) -> &[CpuSet] {
        &self.packages
    }

    /// The caches for data of a level, by who shares them. Empty where there are none or the machine does not say, and for
    /// levels other than 1, 2 and 3.
    pub fn caches(&self, level: usize) -> &[CpuSet] {
        level.checked_sub(1).and_then(|place| self.caches.get(place)).map_or(&[], Vec::as_slice)
    }

    /// The NUMA nodes, ascending by number. At least one.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// How far the memory of one node is from the CPUs of another, by their places in [`nodes`](Self::nodes): 10 is local, 20
    /// costs twice as much. Where the firmware tells nothing, all others are at 20.
    pub fn distance(&self, from: usize, to: usize) -> Option<u32> {
        let n = self.nodes.len();
        (from < n && to < n).then(|| self.distances[from * n + to])
    }

    /// The kinds of cores, the fastest first. More than one on a hybrid.
    pub fn kinds(&self) -> &[CoreKind] {
        &self.kinds
    }

    /// How near two CPUs are to each other; `None` if one is not online, or if they are the same.
    pub fn ring(&self, a: usize, b: usize) -> Option<Ring> {
        let (a, b) = (self.cpu(a)?, self.cpu(b)?);
        (a.id != b.id).then(|| ring::between(a, b))
    }
}

/// Whether they describe the same machine, and the same CPUs of it are given; wherever that was read.
impl PartialEq for Topology {
    fn eq(&self, other: &Self) -> bool {
        let sets = |of: &Self| [of.present.clone(), of.online.clone(), of.allowed.clone()];
        sets(self) == sets(other)
            && self.cpus == other.cpus
            && self.nodes == other.nodes
            && self.distances == other.distances
            && self.kinds == other.kinds
    }
}

impl Eq for Topology {}

impl std::str::FromStr for Topology {
    type Err = io::Error;

    /// See [`from_synthetic`](Self::from_synthetic).
    fn from_str(text: &str) -> io::Result<Self> {
        Self::from_synthetic(text)
    }
}

/// Something that was given makes no sense.
fn bad(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}
