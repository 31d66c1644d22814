//! Searches through trees that nobody has built: how many nodes, how many solutions, the best of all.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::forks::{Fork, Forking, Sequential};
use crate::suite::clock::CpuClock;

/// A step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): numbers that look random, from numbers in order.
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

// ----- unbalanced tree -----

/// A binomial tree as in the Unbalanced Tree Search benchmark (Olivier et al., LCPC 2006): each node but the root
/// has [`CHILDREN`](Self::CHILDREN) or none, as its hash says, so subtrees of all sizes lie beside each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unbalanced {
    seed: u64,
    root_children: u64,
    nodes: u64,
}

impl Unbalanced {
    const CHILDREN: u64 = 4;
    /// Of a node to have children, in 2⁻³²: a subtree has 500 nodes on average.
    const CHANCE: u64 = ((1 << 32) / Self::CHILDREN) / 500 * 499;

    pub(super) fn new(root_children: u64) -> Self {
        let mut tree = Self { seed: 42, root_children, nodes: 0 };
        tree.nodes = tree.run::<Sequential>(&mut ());
        tree
    }

    pub(super) fn nodes(self) -> u64 {
        self.nodes
    }

    /// Several steps: UTS uses SHA-1, which costs some 15 ns a node, too.
    fn hash(number: u64) -> u64 {
        mix(mix(mix(mix(number))))
    }

    fn below<F: Fork>(scope: &mut F::Scope<'_>, node: u64) -> u64 {
        if node >> 32 >= Self::CHANCE {
            return 1;
        }
        1 + Self::siblings::<F>(scope, node, 0, Self::CHILDREN)
    }

    /// The nodes of the subtrees of some children.
    fn siblings<F: Fork>(scope: &mut F::Scope<'_>, parent: u64, from: u64, to: u64) -> u64 {
        if to - from == 1 {
            return Self::below::<F>(scope, Self::hash(parent ^ from));
        }
        let middle = from.midpoint(to);
        let (a, b) = F::join(
            scope,
            move |scope| Self::siblings::<F>(scope, parent, from, middle),
            move |scope| Self::siblings::<F>(scope, parent, middle, to),
        );
        a + b
    }
}

impl Forking for Unbalanced {
    fn run<F: Fork>(self, scope: &mut F::Scope<'_>) -> u64 {
        1 + Self::siblings::<F>(scope, mix(self.seed), 0, self.root_children)
    }

    fn result(self) -> u64 {
        self.nodes
    }
}

// ----- queens -----

/// In how many ways that many queens can stand on a board of that size without attacking each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queens(pub(super) u32);

/// The rows above: attacked columns, and diagonals both ways.
#[derive(Clone, Copy, Debug)]
struct Board {
    all: u32,
    columns: u32,
    left: u32,
    right: u32,
}

impl Board {
    fn solutions<F: Fork>(self, scope: &mut F::Scope<'_>) -> u64 {
        if self.columns == self.all {
            return 1;
        }
        let free = self.all & !(self.columns | self.left | self.right);
        self.with_one_of::<F>(scope, free)
    }

    /// With the next queen in one of these places.
    fn with_one_of<F: Fork>(self, scope: &mut F::Scope<'_>, places: u32) -> u64 {
        if places == 0 {
            return 0;
        }
        let first = places & places.wrapping_neg();
        let others = places ^ first;
        let next = Self {
            all: self.all,
            columns: self.columns | first,
            left: (self.left | first) << 1,
            right: (self.right | first) >> 1,
        };
        if others == 0 {
            return next.solutions::<F>(scope);
        }
        let (a, b) = F::join(
            scope,
            move |scope| next.solutions::<F>(scope),
            move |scope| self.with_one_of::<F>(scope, others),
        );
        a + b
    }
}

impl Forking for Queens {
    fn run<F: Fork>(self, scope: &mut F::Scope<'_>) -> u64 {
        Board { all: (1 << self.0) - 1, columns: 0, left: 0, right: 0 }.solutions::<F>(scope)
    }

    fn result(self) -> u64 {
        match self.0 {
            8 => 92,
            12 => 14_200,
            n => panic!("add the number of solutions for {n} queens"),
        }
    }
}

// ----- knapsack -----

/// The most valuable choice of things that fits, by branch and bound: what one finds prunes what others do.
///
/// The search knows a value that is one short of the best, as if by a good guess: how much there is to search then
/// hardly depends on who comes first. (From nothing, one thread may find at once what costs another seconds.)
#[derive(Clone, Copy, Debug)]
pub(super) struct Knapsack {
    /// Weights and values, the most valuable by weight first.
    things: &'static [(u64, u64)],
    capacity: u64,
    best: &'static AtomicU64,
    result: u64,
}

impl Knapsack {
    pub(super) fn of(things: u64) -> Self {
        let thing = |index| {
            let weight = 500 + mix(index) % 500;
            (weight, weight + mix(index ^ 77) % 10)
        };
        let mut things: Vec<(u64, u64)> = (0..things).map(thing).collect();
        things.sort_by(|a, b| (b.1 * a.0).cmp(&(a.1 * b.0)));
        let capacity = things.iter().map(|thing| thing.0).sum::<u64>() / 2;
        let best = Box::leak(Box::new(AtomicU64::new(0)));
        let mut problem = Self { things: things.leak(), capacity, best, result: 0 };
        problem.result = problem.optimum();
        problem
    }

    /// By dynamic programming: the best value for each capacity.
    fn optimum(self) -> u64 {
        let mut best = vec![0; self.capacity as usize + 1];
        for &(weight, value) in self.things {
            for room in (weight as usize..best.len()).rev() {
                best[room] = best[room].max(best[room - weight as usize] + value);
            }
        }
        best[self.capacity as usize]
    }

    fn search<F: Fork>(self, scope: &mut F::Scope<'_>, next: usize, room: u64, value: u64) {
        let Some(&(weight, worth)) = self.things.get(next) else {
            // Relaxed: a bound that comes late costs time only, and the end of the search publishes the last one.
            self.best.fetch_max(value, Relaxed);
            return;
        };
        // As if what fits in part could be cut.
        let bound = value + room * worth / weight;
        if bound <= self.best.load(Relaxed) {
            return;
        }
        if weight > room {
            return self.search::<F>(scope, next + 1, room, value);
        }
        F::join(
            scope,
            move |scope| self.search::<F>(scope, next + 1, room - weight, value + worth),
            move |scope| self.search::<F>(scope, next + 1, room, value),
        );
    }
}

impl Forking for Knapsack {
    fn run<F: Fork>(self, scope: &mut F::Scope<'_>) -> u64 {
        self.best.store(self.result.saturating_sub(1), Relaxed);
        self.search::<F>(scope, 0, self.capacity, 0);
        self.best.load(Relaxed)
    }

    fn result(self) -> u64 {
        self.result
    }
}

// ----- lists -----

/// Some microseconds of work that nothing can shorten: each step needs the one before.
#[derive(Clone, Copy, Debug)]
pub(in crate::suite) struct Work {
    steps: u64,
}

impl Work {
    /// As many steps as take that long here and now, at the best of many short tries.
    pub(in crate::suite) fn lasting(time: Duration) -> Self {
        const TRIED: Work = Work { steps: 50_000 };
        let clock = CpuClock::of_this_thread();
        let try_once = |index| {
            let began = clock.elapsed();
            std::hint::black_box(TRIED.run(std::hint::black_box(index)));
            clock.elapsed() - began
        };
        let best = (0..200).map(try_once).min().expect("there were tries");
        Self { steps: (TRIED.steps as f64 * time.as_secs_f64() / best.as_secs_f64()) as u64 }
    }

    pub(in crate::suite) fn run(self, seed: u64) -> u64 {
        (0..self.steps).fold(seed, |state, _| mix(state))
    }
}

/// A list: an item, and the rest of the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    items: u64,
    work: Work,
    /// Whether the rest comes first in the `join`.
    rest_first: bool,
    result: u64,
}

impl List {
    pub(super) fn of(items: u64, work: Work, rest_first: bool) -> Self {
        let result = (0..items).fold(0, |sum: u64, index| sum.wrapping_add(work.run(index)));
        Self { items, work, rest_first, result }
    }

    fn from<F: Fork>(self, scope: &mut F::Scope<'_>, index: u64) -> u64 {
        if index == self.items {
            return 0;
        }
        let item = move |_: &mut F::Scope<'_>| self.work.run(index);
        let rest = move |scope: &mut F::Scope<'_>| self.from::<F>(scope, index + 1);
        let (a, b) = if self.rest_first { F::join(scope, rest, item) } else { F::join(scope, item, rest) };
        a.wrapping_add(b)
    }
}

impl Forking for List {
    fn run<F: Fork>(self, scope: &mut F::Scope<'_>) -> u64 {
        self.from::<F>(scope, 0)
    }

    fn result(self) -> u64 {
        self.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queens_and_knapsacks_have_their_known_results() {
        assert_eq!(Queens(8).run::<Sequential>(&mut ()), 92);
        let problem = Knapsack::of(12);
        assert_eq!(problem.run::<Sequential>(&mut ()), problem.result);
        assert!(problem.result > problem.capacity / 2);
    }

    #[test]
    fn a_tree_is_unbalanced() {
        let sizes: Vec<u64> = (0..50).map(|n| Unbalanced::below::<Sequential>(&mut (), mix(n))).collect();
        assert!(sizes.iter().max().unwrap() > &100);
        assert!(sizes.iter().filter(|size| **size == 1).count() > 20);
    }
}
