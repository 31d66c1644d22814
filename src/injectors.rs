//! Queues for what is pushed by somebody who will not run it himself: one for each home, a NUMA node with workers of its own.
//!
//! On a machine with one node, or where it is not known where workers are, there is one queue, and all of this comes to that
//! queue. With more:
//!
//! * *Push*: a worker pushes where it is. Of a thread that has no place it is not known where its data are: a task goes where
//!   it last ran, else its number decides, so that they are spread without anything that all of them write.
//! * *Take*: from the own home's queue, then from those of others, the nearest first.
//! * *Nothing starves* in a home whose workers are all busy while those of others have enough of their own: in its rare looks
//!   past its own queue ([`worker`](crate::worker), point 1) a thread begins every second time at another home, each in turn.
//!   So do threads without a place, always.
//!
//! Whether there is anything, and how much, is asked of all queues together: the fences of Submit and Sleep
//! ([`processors`](crate::processors)) order the looks at all of them.

use crossbeam_deque::{Injector, Steal, Worker as Deque};

use crate::distances::Distances;
use crate::local::steal;
use crate::topology::Neighbours;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Injectors<T> {
    first: Injector<T>,
    /// Those of the other homes.
    others: Box<[Injector<T>]>,
}

/// Whose queue is looked at first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstAt {
    home: Option<usize>,
    turn: Option<u32>,
}

impl FirstAt {
    /// The own home's; that of the first for a thread without a place.
    pub(crate) fn home(home: Option<usize>) -> Self {
        Self { home, turn: None }
    }

    /// The own home's in every second turn, else another's; without a place always another's.
    pub(crate) fn turn(home: Option<usize>, turn: u32) -> Self {
        Self { home, turn: Some(turn) }
    }

    fn start(self, homes: usize) -> usize {
        match (self.home, self.turn) {
            (Some(home), None) => home,
            (Some(home), Some(turn)) if turn.is_multiple_of(2) => home,
            (_, Some(turn)) => (turn / 2) as usize % homes,
            (None, None) => 0,
        }
    }
}

impl<T> Injectors<T> {
    pub(crate) fn new(homes: usize) -> Self {
        Self { first: Injector::new(), others: (1..homes).map(|_| Injector::new()).collect() }
    }

    /// How many there are.
    pub(crate) fn homes(&self) -> usize {
        1 + self.others.len()
    }

    /// `None`: nobody wants it anywhere.
    pub(crate) fn push(&self, home: Option<usize>, item: T) {
        self.of(home.unwrap_or(0)).push(item);
    }

    pub(crate) fn take(&self, distances: &Distances, from: FirstAt) -> Option<T> {
        self.find(distances, from, Injector::steal)
    }

    /// Takes several, into `into`; returns one of them.
    pub(crate) fn take_batch(&self, distances: &Distances, from: FirstAt, into: &Deque<T>) -> Option<T> {
        self.find(distances, from, |queue| queue.steal_batch_and_pop(into))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_empty() && self.others.iter().all(Injector::is_empty)
    }

    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.others.iter().map(Injector::len).sum::<usize>()
    }

    fn of(&self, home: usize) -> &Injector<T> {
        home.checked_sub(1).and_then(|other| self.others.get(other)).unwrap_or(&self.first)
    }

    fn find(
        &self,
        distances: &Distances,
        from: FirstAt,
        attempt: impl Fn(&Injector<T>) -> Steal<T>,
    ) -> Option<T> {
        let take = |queue| steal(|| attempt(queue));
        match distances.several_homes() {
            None => take(&self.first),
            Some(neighbours) => self.find_among(neighbours, from, take),
        }
    }

    #[cold]
    fn find_among<'a>(
        &'a self,
        neighbours: &Neighbours,
        from: FirstAt,
        take: impl Fn(&'a Injector<T>) -> Option<T>,
    ) -> Option<T> {
        let start = from.start(self.homes());
        neighbours.homes_around(start).find_map(|home| take(self.of(home)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Pinning, Topology};

    fn machine(text: &str) -> Distances {
        let machine: Topology = text.parse().unwrap();
        let workers = machine.cpus().len();
        Distances::new(&machine, &machine.place(&Pinning::Threads, workers).unwrap())
    }

    /// One item in each queue: its home.
    fn filled(distances: &Distances) -> Injectors<usize> {
        let injectors = Injectors::new(distances.homes());
        for home in 0..distances.homes() {
            injectors.push(Some(home), home);
        }
        injectors
    }

    #[test]
    fn the_own_home_comes_first_and_then_the_nearest() {
        let distances = machine("package:2 numanode:2 core:2 pu:1");
        let injectors = filled(&distances);
        assert_eq!((injectors.homes(), injectors.len()), (4, 4));
        let order: Vec<_> =
            std::iter::from_fn(|| injectors.take(&distances, FirstAt::home(Some(3)))).collect();
        assert_eq!(order[..2], [3, 2]);
        assert_eq!(order.len(), 4);
        assert!(injectors.is_empty());
    }

    #[test]
    fn in_every_second_turn_each_of_the_others_is_first_once() {
        let distances = machine("package:3 core:2 pu:1");
        let first = |turn| filled(&distances).take(&distances, FirstAt::turn(Some(1), turn)).unwrap();
        assert_eq!((0..8).map(first).collect::<Vec<_>>(), [1, 0, 1, 1, 1, 2, 1, 0]);
        let first = |turn| filled(&distances).take(&distances, FirstAt::turn(None, turn)).unwrap();
        assert_eq!((0..6).map(first).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn with_one_node_there_is_one_queue() {
        let distances = machine("l3:2 core:2 pu:1");
        let injectors = filled(&distances);
        assert_eq!((injectors.homes(), injectors.len()), (1, 1));
        assert_eq!(injectors.take(&distances, FirstAt::home(Some(0))), Some(0));
    }

    #[test]
    fn a_batch_comes_from_one_queue() {
        let distances = machine("package:2 core:2 pu:1");
        let injectors = Injectors::new(2);
        for item in 0..10 {
            injectors.push(Some(1), item);
        }
        let own = Deque::new_fifo();
        assert_eq!(injectors.take_batch(&distances, FirstAt::home(Some(0)), &own), Some(0));
        assert!(!own.is_empty());
        assert_eq!(own.len() + injectors.len(), 9);
    }
}
