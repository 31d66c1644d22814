//! The other threads of a runtime, in the order in which one of them tries them: for work, or to ask for some.
//!
//! Ring by ring around the processor that the thread holds, in one of many orders inside each ([`Circle`]). A thread may be
//! on another processor than last time, and there are more threads than processors: what counts is the processor that a
//! thread holds, or held last, for there its stack and its data are. One that never held one, a foreign thread in a
//! `join` say, counts as of the same node.
//!
//! The list is in order of nearness as far as that was seen. Whoever is visited may have moved since: that is noted, and
//! the list put in order before the next walk; if he is farther now, he comes last. Whoever has come near unseen is found when one goes far. So no thread
//! tells others that it moves, and nobody reads what he does not visit.
//!
//! Where nobody is nearer than others ([`Distances`]) there is one ring, and no looks at where anybody is.
//!
//! *How far* ([`Reach`]): a trip to another package pays only if there is nothing to be had nearby. Who has run out of work
//! looks around near first, then, while somebody near forks and may yet give something away, searches there for some
//! [`PATIENCE`] nanoseconds; then everywhere; and nobody goes to sleep who has not looked everywhere. From afar one
//! takes more at a time ([`FAR_TASKS`], [`FAR_TICKETS`]).

use std::ops::Range;

use crate::distances::Distances;
use crate::processors::ProcessorId;
use crate::topology::{Circle, Nearness, Ring};

/// How long one who searches stays near those who fork, in nanoseconds: some gifts' worth
/// (see [`heartbeat`](crate::heartbeat)).
pub const PATIENCE: u64 = 10_000;
/// How many tasks come from afar at most, up to half of those that lie there.
pub const FAR_TASKS: usize = 128;
/// How many halves of joins, likewise.
pub const FAR_TICKETS: usize = 8;

/// How far a thread looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Within its package.
    Near,
    Everywhere,
}

impl Reach {
    /// How far a thread looks that has run out of work.
    pub(crate) fn first(distances: &Distances) -> Self {
        if distances.neighbours().is_some() { Self::Near } else { Self::Everywhere }
    }

    /// How far one looks that has searched for so long. `near`: somebody near it forks.
    pub(crate) fn after(self, nanoseconds: u64, near: bool) -> Self {
        if near && nanoseconds < PATIENCE { self } else { Self::Everywhere }
    }
}

impl Ring {
    /// Whether a trip there must pay.
    pub(crate) fn is_far(self) -> bool {
        self == Self::Remote
    }
}

/// A thread, as others see where it is.
pub(crate) trait Peer {
    /// The processor that it holds, or held last.
    fn place(&self) -> Option<ProcessorId>;
}

#[derive(Debug)]
struct Entry<P> {
    peer: P,
    place: Option<ProcessorId>,
    nearness: Nearness,
    /// It has been found to be farther than where it stands in the list, and is still to be visited.
    is_late: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Peers<P> {
    /// The owner's place, when the list was put in order.
    place: Option<ProcessorId>,
    entries: Vec<Entry<P>>,
    /// Entries that are equally near, the nearest first.
    rings: Vec<(Ring, Range<usize>)>,
    in_order: bool,
}

impl<P> Default for Peers<P> {
    fn default() -> Self {
        Self { place: None, entries: Vec::new(), rings: Vec::new(), in_order: true }
    }
}

impl<P: Peer> Peers<P> {
    /// Other peers than before.
    pub(crate) fn replace(&mut self, peers: impl IntoIterator<Item = P>) {
        self.entries.clear();
        let unseen = |peer| Entry { peer, place: None, nearness: Nearness::NEXT, is_late: false };
        self.entries.extend(peers.into_iter().map(unseen));
        for entry in &mut self.entries {
            entry.place = entry.peer.place();
        }
        self.in_order = false;
    }

    /// Calls `f` with each peer in reach, and the ring that it is in around `place`, the owner's, until it returns `Some`.
    pub(crate) fn find<T>(
        &mut self,
        place: Option<ProcessorId>,
        distances: &Distances,
        reach: Reach,
        mut random: impl FnMut() -> u64,
        mut f: impl FnMut(&P, Ring) -> Option<T>,
    ) -> Option<T> {
        if distances.neighbours().is_none() {
            let (entries, ring) = (&self.entries, distances.ring());
            return Circle::new(entries.len(), random()).find_map(|i| f(&entries[i].peer, ring));
        }
        self.put_in_order(place, distances);
        let Self { entries, rings, in_order, .. } = self;
        let mut some_are_late = false;
        for (ring, range) in rings {
            if reach == Reach::Near && ring.is_far() {
                return None;
            }
            for i in Circle::new(range.len(), random()) {
                let entry = &mut entries[range.start + i];
                let seen = entry.peer.place();
                if seen != entry.place {
                    entry.place = seen;
                    entry.nearness = distances.nearness(place, seen);
                    entry.is_late = entry.nearness.ring > *ring;
                    *in_order = false;
                    if entry.is_late {
                        some_are_late = true;
                        continue;
                    }
                }
                let found = f(&entry.peer, entry.nearness.ring);
                if found.is_some() {
                    return found;
                }
            }
        }
        let late = entries.iter().filter(|entry| some_are_late && entry.is_late);
        late.filter(|entry| reach == Reach::Everywhere || !entry.nearness.ring.is_far())
            .find_map(|entry| f(&entry.peer, entry.nearness.ring))
    }

    fn put_in_order(&mut self, place: Option<ProcessorId>, distances: &Distances) {
        if self.in_order && place == self.place {
            return;
        }
        for entry in &mut self.entries {
            entry.nearness = distances.nearness(place, entry.place);
            entry.is_late = false;
        }
        self.entries.sort_unstable_by_key(|entry| entry.nearness);
        self.rings.clear();
        let mut start = 0;
        for run in self.entries.chunk_by(|a, b| a.nearness == b.nearness) {
            self.rings.push((run[0].nearness.ring, start..start + run.len()));
            start += run.len();
        }
        self.place = place;
        self.in_order = true;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::topology::{Pinning, Topology};

    #[derive(Clone)]
    struct Thread(usize, Rc<Cell<Option<ProcessorId>>>);

    impl Peer for Thread {
        fn place(&self) -> Option<ProcessorId> {
            self.1.get()
        }
    }

    fn machine(text: &str, workers: usize) -> Distances {
        let machine: Topology = text.parse().unwrap();
        let placement = machine.place(&Pinning::Threads, workers).unwrap();
        Distances::new(&machine, &placement)
    }

    /// A thread on each of the processors but 0.
    fn threads(processors: u32) -> Vec<Thread> {
        (1..processors).map(|p| Thread(p as usize, Rc::new(Cell::new(Some(p))))).collect()
    }

    fn peers(threads: &[Thread]) -> Peers<Thread> {
        let mut peers = Peers::default();
        peers.replace(threads.iter().cloned());
        peers
    }

    fn order(peers: &mut Peers<Thread>, distances: &Distances, reach: Reach) -> Vec<(usize, Ring)> {
        let mut state = 1_u64;
        let random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state ^ state >> 32
        };
        let mut order = Vec::new();
        let _: Option<()> = peers.find(Some(0), distances, reach, random, |thread, ring| {
            order.push((thread.0, ring));
            None
        });
        order
    }

    fn is_in_order(order: &[(usize, Ring)]) -> bool {
        order.is_sorted_by_key(|&(_, ring)| ring)
    }

    #[test]
    fn each_peer_comes_once_and_the_near_ones_first() {
        let distances = machine("package:2 numanode:2 l3:1 core:2 pu:2", 16);
        let mut peers = peers(&threads(16));
        let all = order(&mut peers, &distances, Reach::Everywhere);
        assert!(is_in_order(&all));
        assert_eq!(all[0], (1, Ring::Smt));
        let rings = |ring| all.iter().filter(|&&(_, other)| other == ring).count();
        assert_eq!([Ring::Smt, Ring::L3, Ring::Package, Ring::Remote].map(rings), [1, 2, 4, 8]);
        let mut met: Vec<_> = all.iter().map(|&(thread, _)| thread).collect();
        met.sort_unstable();
        assert_eq!(met, (1..16).collect::<Vec<_>>());
        assert_eq!(order(&mut peers, &distances, Reach::Near).len(), 7);
    }

    #[test]
    fn a_thread_that_has_moved_is_tried_where_it_is_once_that_was_seen() {
        let distances = machine("package:2 core:2 pu:1", 4);
        let threads = threads(4);
        let mut peers = peers(&threads);
        assert_eq!(order(&mut peers, &distances, Reach::Near), [(1, Ring::Node)]);
        // 1 and 2 change places.
        threads[0].1.set(Some(2));
        threads[1].1.set(Some(1));
        assert_eq!(order(&mut peers, &distances, Reach::Near), []);
        let all = order(&mut peers, &distances, Reach::Everywhere);
        assert_eq!(all.len(), 3);
        assert_eq!(order(&mut peers, &distances, Reach::Near), [(2, Ring::Node)]);
        // And back, seen in one walk.
        threads[0].1.set(Some(1));
        threads[1].1.set(Some(2));
        let all = order(&mut peers, &distances, Reach::Everywhere);
        assert_eq!((all.len(), all[2]), (3, (2, Ring::Remote)));
    }

    #[test]
    fn where_all_are_equally_near_there_is_one_ring_and_everywhere_is_near() {
        let distances = machine("l3:1 core:4 pu:1", 4);
        assert!(distances.neighbours().is_none());
        assert_eq!(Reach::first(&distances), Reach::Everywhere);
        let all = order(&mut peers(&threads(4)), &distances, Reach::Near);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|&(_, ring)| ring == Ring::L3));
    }

    #[test]
    fn a_thread_that_never_had_a_place_counts_as_of_the_same_node() {
        let distances = machine("package:2 l3:1 core:2 pu:1", 4);
        let threads = threads(4);
        threads[2].1.set(None);
        let all = order(&mut peers(&threads), &distances, Reach::Everywhere);
        assert_eq!(all, [(1, Ring::L3), (3, Ring::Node), (2, Ring::Remote)]);
    }

    #[test]
    fn one_who_searches_goes_far_when_nobody_near_gives_anything() {
        let near = Reach::Near;
        assert_eq!(near.after(PATIENCE - 1, true), Reach::Near);
        assert_eq!(near.after(PATIENCE, true), Reach::Everywhere);
        assert_eq!(near.after(0, false), Reach::Everywhere);
    }
}
