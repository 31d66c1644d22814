//! A simulator of Beat's scheduler, for machines that are not at hand: 8 to 1,024 cores.
//!
//! It has no threads and no clock. Events are taken in the order of their times, and what each thread decides is decided by
//! the scheduler's own functions: whom to wake and who may search (`Processors`), when to look at the clock and what to put on
//! offer (`Heartbeat`), in which order to try the others and how far to go (`Peers`, `Reach`), how much comes from afar. What
//! is written anew is what lies between these decisions (the loop of [`src/worker.rs`], [`src/join.rs`], [`src/leap.rs`]) and
//! how long things take ([`Costs`]).
//!
//! Left out: the driver, the watchdog, memory (but for what a stolen item's cold caches cost), other processes. A fork is heard
//! up to a microsecond late; a thread that goes on without a processor has a core to itself.
//!
//! ```
//! use beat_sim::{Machine, Victims, Workload, simulate};
//!
//! let machine = Machine::parse("1x4").unwrap();
//! let outcome = simulate(&machine, Victims::Rings, &Workload::Tree { nodes: 100_000 }, 1);
//! assert!(outcome.makespan > 0);
//! ```
//!
//! [`src/worker.rs`]: ../../../src/worker.rs
//! [`src/join.rs`]: ../../../src/join.rs
//! [`src/leap.rs`]: ../../../src/leap.rs

pub mod calibrate;
mod costs;
mod machine;
mod thread;
mod world;

pub use costs::Costs;
pub use machine::Machine;
pub use world::{Outcome, simulate, simulate_with};

/// In which order threads try each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victims {
    /// As the scheduler does where it knows distances.
    Rings,
    /// As it does where it knows none: any order.
    Random,
}

/// What is run.
#[derive(Clone, Debug)]
pub enum Workload {
    /// One closure that forks down a balanced binary tree.
    Tree {
        /// Nodes, inner ones included.
        nodes: u64,
    },
    /// Closures that fork, so many at a time, beside requests that fan out into light tasks.
    Mixed {
        /// How many closures in all.
        closures: u64,
        /// How many of them are submitted and have not ended, as long as there are more.
        outstanding: u64,
        /// The nodes of each one's tree.
        nodes: u64,
        /// How many requests.
        requests: u64,
        /// Time between two of them, in nanoseconds.
        every: u64,
        /// Into how many tasks each fans out.
        fan_out: u64,
        /// How long each task runs, in nanoseconds.
        task: u64,
    },
}

impl Workload {
    /// The fork suite's tree, so large that each of so many workers has some milliseconds of it.
    pub fn fork(workers: usize) -> Self {
        Self::Tree { nodes: workers as u64 * 125_000 }
    }

    /// The mixed suite: two closures for each eight workers at a time, and a tenth of the time for tasks.
    pub fn mixed(workers: usize) -> Self {
        let workers = workers as u64;
        Self::Mixed {
            closures: workers,
            outstanding: workers / 4 + 1,
            nodes: 100_000,
            requests: workers * 2,
            every: 1_000_000 / workers.max(1),
            fan_out: 32,
            task: 3_000,
        }
    }
}
