//! Who is near whom: the rings around each worker, and the order in which it tries the others.
//!
//! Workers are sorted by package, node, L3, L2 and core, so whoever shares one of these stands in one range of the
//! sorted list, and the ranges of a worker lie inside each other. A ring is a range without the next smaller one:
//!
//! ```text
//! order   ... │ 4  5 ││ 6  7  me 8 ││ 9 ... │ ...        me + Smt ⊂ L2 ⊂ L3 ⊂ Node
//!             │      │└─── L2 ─────┘│       │
//!             └──────┴───── L3 ─────┴───────┘            L3's ring: 4 5 9 ...
//! ```
//!
//! What lies beyond a worker's node is listed once for each node, in tiers by distance. So a worker costs five ranges,
//! and asking costs no allocation.
//!
//! Inside a ring the order is a random one of many: from a random member on, in steps of a random prime. A step that is
//! prime to the ring's size meets each member once. Source: Go's `randomOrder` (runtime/proc.go), which looks for numbers
//! prime to the size; a prime above every size needs no looking.

use std::iter::FusedIterator;
use std::ops::Range;

use super::assemble::{LOCAL_DISTANCE, REMOTE_DISTANCE};
use super::{Cpu, CpuSet, Placement, Topology};

/// How near two CPUs, or the workers on them, are to each other: the smallest thing that they share.
///
/// A thing counts only inside the next larger one: two CPUs with one L3 cache and two NUMA nodes are in one package.
///
/// ```
/// use beat::topology::{Ring, Topology};
///
/// let machine: Topology = "package:2 numanode:2 l3:1 l2:2 core:2 pu:2".parse()?;
/// let rings = [1, 2, 4, 8, 16].map(|other| machine.ring(0, other).unwrap());
/// assert_eq!(rings, [Ring::Smt, Ring::L2, Ring::L3, Ring::Package, Ring::Remote]);
/// assert!(Ring::Smt < Ring::Remote);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ring {
    /// A physical core.
    Smt,
    /// A level 2 cache.
    L2,
    /// A level 3 cache.
    L3,
    /// A NUMA node: the memory, but no cache.
    Node,
    /// A package, but not the memory.
    Package,
    /// The machine.
    Remote,
}

/// The ring of two different CPUs.
pub(super) fn between(a: &Cpu, b: &Cpu) -> Ring {
    if a.package != b.package {
        return Ring::Remote;
    }
    if a.node != b.node {
        return Ring::Package;
    }
    let [_, l2, l3] = [0, 1, 2].map(|level| (a.caches[level], b.caches[level]));
    let shared_l3 = if l3.0.is_some() { Ring::L3 } else { Ring::Node };
    let shared_l2 = if l2.0.is_some() { Ring::L2 } else { shared_l3 };
    match (l3.0 == l3.1, l2.0 == l2.1, a.core == b.core) {
        (false, ..) => Ring::Node,
        (true, false, _) => shared_l3,
        (true, true, false) => shared_l2,
        (true, true, true) => Ring::Smt,
    }
}

/// How near one worker is to another: the least is the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Nearness {
    pub(crate) ring: Ring,
    /// Beyond a node: which of the distances at which the ring has somebody, the nearest first.
    tier: u16,
}

impl Nearness {
    /// As near as can be.
    pub(crate) const NEXT: Self = Self { ring: Ring::Smt, tier: 0 };

    pub(crate) const fn in_node(ring: Ring) -> Self {
        Self { ring, tier: 0 }
    }
}

/// Primes above every number of workers: the largest below 2^32.
const STEPS: [u32; 16] = [
    4_294_967_291,
    4_294_967_279,
    4_294_967_231,
    4_294_967_197,
    4_294_967_189,
    4_294_967_161,
    4_294_967_143,
    4_294_967_111,
    4_294_967_087,
    4_294_967_029,
    4_294_966_997,
    4_294_966_981,
    4_294_966_943,
    4_294_966_927,
    4_294_966_909,
    4_294_966_877,
];
/// The rings inside a node.
const NEAR: [Ring; 4] = [Ring::Smt, Ring::L2, Ring::L3, Ring::Node];
/// A thing that a worker shares with others, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shared {
    /// With all that have this one.
    This(usize),
    /// There is no such thing here.
    Missing,
    /// The worker's CPUs are in several: it shares none of them for sure. Each such worker is apart.
    Several(u32),
}

/// What a worker shares, from the package inwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seat {
    /// `None`: the CPUs are in several. All such workers are as near as those of one node.
    package: Option<usize>,
    node: Option<usize>,
    l3: Shared,
    l2: Shared,
    core: Shared,
}

impl Seat {
    fn new(topology: &Topology, worker: u32, cpus: &CpuSet) -> Self {
        let one_of = |what: &dyn Fn(&Cpu) -> Option<usize>| {
            let mut all = cpus.iter().filter_map(|cpu| topology.cpu(cpu)).map(what);
            let first = all.next()?;
            all.all(|other| other == first).then_some(first)
        };
        let shared = |what: &dyn Fn(&Cpu) -> Option<usize>| match one_of(what) {
            Some(Some(this)) => Shared::This(this),
            Some(None) => Shared::Missing,
            None => Shared::Several(worker),
        };
        Self {
            package: one_of(&|cpu| Some(cpu.package)).flatten(),
            node: one_of(&|cpu| Some(cpu.node)).flatten(),
            l3: shared(&|cpu| cpu.caches[2]),
            l2: shared(&|cpu| cpu.caches[1]),
            core: shared(&|cpu| Some(cpu.core)),
        }
    }

    fn home(&self) -> (Option<usize>, Option<usize>) {
        (self.package, self.node)
    }
}

/// Where a worker stands.
#[derive(Clone, Debug)]
struct Place {
    home: u32,
    /// In `order`: itself, then each of [`NEAR`] with all that is inside it. A ring whose thing is missing is as small as
    /// the one before.
    ranges: [Range<u32>; 5],
}

/// A node with workers, and what lies beyond it.
#[derive(Clone, Debug, Default)]
struct Home {
    /// Where it is in the topology's list of nodes; `None`: its workers are in several.
    node: Option<usize>,
    /// The nearest first.
    far: Box<[u32]>,
    tiers: Box<[Tier]>,
    /// By home: in which of the tiers its workers are; none for the home itself.
    tier_of: Box<[u16]>,
    /// All homes: this one, then the others, the nearest first.
    by_distance: Box<[u16]>,
}

/// Workers beyond a node, at one distance.
#[derive(Clone, Debug)]
struct Tier {
    ring: Ring,
    distance: u32,
    /// In [`Home::far`].
    range: Range<u32>,
}

/// The rings around each worker of a [`Placement`], and the order in which it tries the others.
///
/// Workers are numbered as in the placement. Making it allocates; asking it does not.
///
/// ```
/// use beat::Pinning;
/// use beat::topology::{Neighbours, Ring, Topology};
///
/// let machine: Topology = "package:2 l3:1 core:4 pu:1".parse()?;
/// let neighbours = Neighbours::new(&machine, &machine.place(&Pinning::Cores, 8)?);
/// let rings: Vec<_> = neighbours.rings(5).map(|ring| (ring.ring, ring.distance, ring.workers)).collect();
/// assert_eq!(rings, [(Ring::L3, 10, vec![4, 6, 7]), (Ring::Remote, 10, vec![0, 1, 2, 3])]);
///
/// // Each of the others once, the near ones first; `random` is any source of random numbers.
/// let mut random = || 0x9e37_79b9_7f4a_7c15;
/// let mut victims: Vec<_> = neighbours.victims(5, &mut random).collect();
/// assert_eq!(victims.len(), 7);
/// assert!(victims[..3].iter().all(|&victim| victim >= 4));
///
/// // A thief that has failed seldom does not go far.
/// assert_eq!(neighbours.near_victims(5, &mut random).count(), 3);
/// assert_eq!(neighbours.workers(), 8);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// The workers, sorted by what they share.
    order: Box<[u32]>,
    /// By worker.
    places: Box<[Place]>,
    homes: Box<[Home]>,
}

/// One of the rings around a worker; from [`Neighbours::rings`].
///
/// ```
/// use beat::Pinning;
/// use beat::topology::{Neighbours, Topology};
///
/// let machine: Topology = "core:2 pu:2".parse()?;
/// let neighbours = Neighbours::new(&machine, &machine.place(&Pinning::Threads, 4)?);
/// for ring in neighbours.rings(0) {
///     println!("{:?} at {}: {:?}", ring.ring, ring.distance, ring.workers);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingOf {
    /// What they share with the worker.
    pub ring: Ring,
    /// How far their memory is: 10 is local. See [`Topology::distance`].
    pub distance: u32,
    /// Who they are, ascending.
    pub workers: Vec<usize>,
}

impl Neighbours {
    /// The rings of workers that sit so.
    pub fn new(topology: &Topology, placement: &Placement) -> Self {
        let sets = placement.cpus().iter().enumerate();
        let mut seats: Vec<(Seat, u32)> =
            sets.map(|(worker, cpus)| (Seat::new(topology, worker as u32, cpus), worker as u32)).collect();
        seats.sort_unstable();
        let homes = homes(topology, &seats);
        let mut places = vec![Place { home: 0, ranges: [const { 0..0 }; 5] }; seats.len()];
        let (mut home, mut starts) = (0, [0; 4]);
        for (position, (seat, worker)) in seats.iter().enumerate() {
            let before = position.checked_sub(1).map(|before| seats[before].0);
            home += u32::from(before.is_some_and(|before| before.home() != seat.home()));
            // Where the ranges begin that this worker is in.
            let begins = before.map_or([true; 4], |before| begins(&before, seat));
            for (start, _) in starts.iter_mut().zip(begins).filter(|(_, begins)| *begins) {
                *start = position;
            }
            let place = &mut places[*worker as usize];
            place.home = home;
            place.ranges[0] = position as u32..position as u32 + 1;
            for (range, start) in place.ranges[1..].iter_mut().zip(starts) {
                *range = start as u32..0;
            }
        }
        close_ranges(&seats, &mut places);
        Self { order: seats.iter().map(|(_, worker)| *worker).collect(), places: places.into(), homes }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.places.len()
    }

    /// The rings around a worker that have somebody in them, the nearest first. Allocates: for people and tests.
    pub fn rings(&self, worker: usize) -> impl Iterator<Item = RingOf> + '_ {
        self.segments(worker).map(|segment| {
            let mut workers: Vec<_> = (0..segment.len()).map(|i| segment.member(i)).collect();
            workers.sort_unstable();
            RingOf { ring: segment.ring, distance: segment.distance, workers }
        })
    }

    /// All other workers, ring by ring, in random order inside each. `random` is asked once a ring; its low and its high
    /// bits should be random.
    ///
    /// A worker that there is not has none.
    pub fn victims<R: FnMut() -> u64>(&self, worker: usize, random: R) -> Victims<'_, R> {
        Victims { of: self, worker, segment: 0, segments: usize::MAX, walk: None, random }
    }

    /// Those of [`victims`](Self::victims) that are in the same package; all, if nobody is.
    pub fn near_victims<R: FnMut() -> u64>(&self, worker: usize, random: R) -> Victims<'_, R> {
        let near = self.segments(worker).take_while(|segment| segment.ring < Ring::Remote).count();
        let segments = if near == 0 { usize::MAX } else { near };
        Victims { of: self, worker, segment: 0, segments, walk: None, random }
    }

    /// How near `to` is to `from`, another worker.
    pub(crate) fn nearness(&self, from: usize, to: usize) -> Nearness {
        let (here, there) = (&self.places[from], &self.places[to]);
        if here.home != there.home {
            let home = &self.homes[here.home as usize];
            let tier = home.tier_of[there.home as usize];
            return Nearness { ring: home.tiers[usize::from(tier)].ring, tier };
        }
        let position = there.ranges[0].start;
        let around = here.ranges[1..].iter().position(|range| range.contains(&position));
        Nearness::in_node(NEAR[around.unwrap_or(NEAR.len() - 1)])
    }

    /// The one ring in which everybody is for everybody, if there is no second one.
    pub(crate) fn only_ring(&self) -> Option<Ring> {
        let mut rings = (0..self.workers()).flat_map(|worker| self.segments(worker));
        let Some(first) = rings.next() else { return Some(Ring::Node) };
        let same = |segment: Segment<'_>| (segment.ring, segment.distance) == (first.ring, first.distance);
        rings.all(same).then_some(first.ring)
    }

    /// How many homes there are: nodes with workers.
    pub(crate) fn homes(&self) -> usize {
        self.homes.len()
    }

    /// Which home a worker is in.
    pub(crate) fn home_of(&self, worker: usize) -> usize {
        self.places[worker].home as usize
    }

    /// The home of a node's workers, by the node's place in the topology's list. `None` if it has none of its own.
    pub(crate) fn home_of_node(&self, node: usize) -> Option<usize> {
        self.homes.iter().position(|home| home.node == Some(node))
    }

    /// The first worker of a home.
    pub(crate) fn first_of_home(&self, home: usize) -> Option<usize> {
        self.places.iter().position(|place| place.home as usize == home)
    }

    /// All homes, the nearest to `home` first: itself.
    pub(crate) fn homes_around(&self, home: usize) -> impl Iterator<Item = usize> + '_ {
        self.homes[home].by_distance.iter().map(|&other| usize::from(other))
    }

    /// The rings around a worker that have somebody in them.
    fn segments(&self, worker: usize) -> impl Iterator<Item = Segment<'_>> {
        let place = self.places.get(worker);
        let near = place.into_iter().flat_map(|place| {
            place.ranges.windows(2).zip(NEAR).map(|(ranges, ring)| {
                let (inner, outer) = (&ranges[0], &ranges[1]);
                let members = &self.order[outer.start as usize..outer.end as usize];
                let hole = (inner.start - outer.start) as usize..(inner.end - outer.start) as usize;
                Segment { ring, distance: LOCAL_DISTANCE, members, hole }
            })
        });
        let far = place.into_iter().flat_map(|place| {
            let home = &self.homes[place.home as usize];
            home.tiers.iter().map(|tier| Segment {
                ring: tier.ring,
                distance: tier.distance,
                members: &home.far[tier.range.start as usize..tier.range.end as usize],
                hole: 0..0,
            })
        });
        near.chain(far).filter(|segment| segment.len() > 0)
    }
}

/// Which of [`NEAR`]'s ranges, of whoever comes next in the order, begin with it.
fn begins(before: &Seat, next: &Seat) -> [bool; 4] {
    let node = before.home() != next.home();
    let l3 = node || before.l3 != next.l3;
    let l2 = l3 || before.l2 != next.l2;
    let core = l2 || before.core != next.core;
    [core, l2, l3, node]
}

/// Sets where the ranges end. What is no thing to share is as small as what is inside it.
fn close_ranges(seats: &[(Seat, u32)], places: &mut [Place]) {
    let mut ends = [seats.len() as u32; 4];
    for position in (0..seats.len()).rev() {
        let (seat, worker) = seats[position];
        if let Some((next, _)) = seats.get(position + 1) {
            let begins = begins(&seat, next);
            for (end, _) in ends.iter_mut().zip(begins).filter(|(_, begins)| *begins) {
                *end = position as u32 + 1;
            }
        }
        let ranges = &mut places[worker as usize].ranges;
        for (range, end) in ranges[1..].iter_mut().zip(ends) {
            range.end = end;
        }
        for (place, shared) in [(2, seat.l2), (3, seat.l3)] {
            if !matches!(shared, Shared::This(_)) {
                ranges[place] = ranges[place - 1].clone();
            }
        }
    }
}

/// Each node that has workers, with what lies beyond it, in the order of the seats.
fn homes(topology: &Topology, seats: &[(Seat, u32)]) -> Box<[Home]> {
    let mut all: Vec<_> = seats.iter().map(|(seat, _)| seat.home()).collect();
    all.dedup();
    type At = (Option<usize>, Option<usize>);
    let between = |from: At, to: At| {
        let ring = if from.0 == to.0 { Ring::Package } else { Ring::Remote };
        let distance = from.1.zip(to.1).and_then(|(from, to)| topology.distance(from, to));
        (ring, distance.unwrap_or(REMOTE_DISTANCE))
    };
    let beyond = |&home: &At| {
        let others = seats.iter().filter(|(seat, _)| seat.home() != home);
        let mut far: Vec<_> = others.map(|(seat, worker)| (between(home, seat.home()), *worker)).collect();
        far.sort_unstable();
        let mut tiers = Vec::<Tier>::new();
        for (position, &((ring, distance), _)) in far.iter().enumerate() {
            let position = position as u32;
            match tiers.last_mut() {
                Some(last) if (last.ring, last.distance) == (ring, distance) => last.range.end = position + 1,
                _ => tiers.push(Tier { ring, distance, range: position..position + 1 }),
            }
        }
        let tier = |&other: &At| {
            let (ring, distance) = between(home, other);
            tiers.iter().position(|tier| (tier.ring, tier.distance) == (ring, distance))
        };
        let tier_of: Vec<_> = all.iter().map(|other| tier(other).unwrap_or_default() as u16).collect();
        let mut by_distance: Vec<_> = (0..all.len() as u16).collect();
        by_distance.sort_by_key(|&other| (all[usize::from(other)] != home, tier_of[usize::from(other)]));
        Home {
            node: home.1,
            far: far.into_iter().map(|(_, worker)| worker).collect(),
            tiers: tiers.into(),
            tier_of: tier_of.into(),
            by_distance: by_distance.into(),
        }
    };
    all.iter().map(beyond).collect()
}

/// One ring around a worker: a list without what is inside the ring.
#[derive(Clone, Debug)]
struct Segment<'a> {
    ring: Ring,
    distance: u32,
    members: &'a [u32],
    hole: Range<usize>,
}

impl Segment<'_> {
    fn len(&self) -> usize {
        self.members.len() - self.hole.len()
    }

    fn member(&self, i: usize) -> usize {
        let skipped = if i < self.hole.start { 0 } else { self.hole.len() };
        self.members[i + skipped] as usize
    }
}

/// The numbers below `n`, each once, in one of many orders.
#[derive(Clone, Debug)]
pub(crate) struct Circle {
    n: usize,
    at: usize,
    step: usize,
    left: usize,
}

impl Circle {
    pub(crate) fn new(n: usize, random: u64) -> Self {
        // The low half, scaled; and the highest bits.
        let at = ((random & u64::from(u32::MAX)) * n as u64) >> 32;
        let step = STEPS[(random >> 60) as usize] % (n as u32).max(1);
        Self { n, at: at as usize, step: step as usize, left: n }
    }
}

impl Iterator for Circle {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let at = self.at;
        self.at += self.step;
        if self.at >= self.n {
            self.at -= self.n;
        }
        Some(at)
    }
}

/// A walk through one ring.
#[derive(Clone, Debug)]
struct Walk<'a> {
    segment: Segment<'a>,
    circle: Circle,
}

impl<'a> Walk<'a> {
    fn new(segment: Segment<'a>, random: u64) -> Self {
        let circle = Circle::new(segment.len(), random);
        Self { segment, circle }
    }
}

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.circle.next().map(|i| self.segment.member(i))
    }
}

/// The other workers in the order in which one tries them; from [`Neighbours::victims`].
///
/// ```
/// use beat::Pinning;
/// use beat::topology::{Neighbours, Ring, Topology};
///
/// let machine: Topology = "package:2 core:2 pu:1".parse()?;
/// let neighbours = Neighbours::new(&machine, &machine.place(&Pinning::Cores, 4)?);
/// let mut victims = neighbours.victims(0, || 7);
/// assert_eq!((victims.next(), victims.ring()), (Some(1), Some(Ring::Node)));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy"]
pub struct Victims<'a, R> {
    of: &'a Neighbours,
    worker: usize,
    /// The next ring.
    segment: usize,
    /// How many rings are gone through.
    segments: usize,
    walk: Option<Walk<'a>>,
    random: R,
}

impl<R> Victims<'_, R> {
    /// The ring of the victim that came last.
    pub fn ring(&self) -> Option<Ring> {
        self.walk.as_ref().map(|walk| walk.segment.ring)
    }
}

impl<R: FnMut() -> u64> Iterator for Victims<'_, R> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            if let Some(victim) = self.walk.as_mut().and_then(Iterator::next) {
                return Some(victim);
            }
            if self.segment >= self.segments {
                return None;
            }
            let segment = self.of.segments(self.worker).nth(self.segment)?;
            self.segment += 1;
            self.walk = Some(Walk::new(segment, (self.random)()));
        }
    }
}

impl<R: FnMut() -> u64> FusedIterator for Victims<'_, R> {}
