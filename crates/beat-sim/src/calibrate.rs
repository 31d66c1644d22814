//! The same tree for real and simulated, side by side.

use std::hint::black_box;
use std::time::Instant;

use crate::{Costs, Machine, Victims, Workload, simulate_with};

/// How often the tree is run; the median counts.
const ROUNDS: usize = 15;

/// A real run, and what was predicted for it, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// On how many workers.
    pub workers: usize,
    /// How long it took: the median.
    pub real: f64,
    /// How long it should take.
    pub predicted: f64,
}

/// Runs a tree of so many nodes with Beat on 1 and 2 workers (and on 16, if the machine has as many CPUs), and simulates it with
/// the costs of a node and of a fork measured on one thread, each for itself.
///
/// # Errors
///
/// The runtime cannot be built.
pub fn compare(nodes: u64) -> Result<Vec<Comparison>, String> {
    // A tree that is small enough not to be worth a beat, without and with forks: what a node and what a fork cost.
    let node = median(|| sequential(nodes)) / nodes as f64;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let sizes = [1, 2, 16].into_iter().filter(|&workers| workers <= cpus.max(2));
    let compare = |workers: usize| {
        let runtime = beat::Runtime::builder().worker_threads(workers).build().map_err(|e| e.to_string())?;
        let real = median(|| runtime.install(|| forked(nodes)));
        let machine = Machine::parse(&format!("cores={workers}"))?;
        // A virtual machine's other core has halted: see docs/decisions/0012.
        let costs = Costs { node, latency: 50_000, ..Costs::default() };
        let outcome = simulate_with(&machine, Victims::Rings, &Workload::Tree { nodes }, 1, costs);
        Ok(Comparison { workers, real, predicted: outcome.makespan as f64 })
    };
    sizes.map(compare).collect()
}

fn median(mut run: impl FnMut() -> u64) -> f64 {
    let mut times: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(run());
            start.elapsed().as_nanos() as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

/// Some ten nanoseconds of work that the compiler cannot leave out.
fn node(seed: u64) -> u64 {
    (0..4).fold(black_box(seed), |x, _| (x ^ x >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn sequential(nodes: u64) -> u64 {
    if nodes <= 1 {
        return node(nodes);
    }
    let first = (nodes - 1) / 2;
    node(nodes) ^ sequential(first) ^ sequential(nodes - 1 - first)
}

fn forked(nodes: u64) -> u64 {
    if nodes <= 1 {
        return node(nodes);
    }
    let first = (nodes - 1) / 2;
    let (a, b) = beat::join(move || forked(first), move || forked(nodes - 1 - first));
    node(nodes) ^ a ^ b
}
