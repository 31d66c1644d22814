//! How long things take.

use beat::topology::Ring;

/// Nanoseconds. By ring: [`Ring::Smt`] first, [`Ring::Remote`] last.
///
/// The defaults are a server's, in orders of magnitude: what moves between caches from the tables of a cache-to-cache
/// benchmark, what threads cost from what was measured on the machine that Beat is developed on.
#[derive(Clone, Debug)]
pub struct Costs {
    /// A node's work.
    pub node: f64,
    /// A fork that nobody hears.
    pub fork: f64,
    /// A look at the clock.
    pub look: u64,
    /// A half that is put on offer.
    pub promote: u64,
    /// A half that is taken back.
    pub reclaim: u64,
    /// To see what somebody has on his queues, if that has changed.
    pub probe: [u64; 6],
    /// If it has not: the looker's own cache has it.
    pub look_again: u64,
    /// To take something from somebody.
    pub take: [u64; 6],
    /// What an item's data cost that lie in another's caches.
    pub cold: [u64; 6],
    /// What a node costs more whose data lie in another's caches or memory.
    pub data: [f64; 6],
    /// To wake a thread, for the waker.
    pub wake: u64,
    /// Until it runs.
    pub latency: u64,
    /// Until a new thread runs.
    pub start: u64,
    /// To go to sleep.
    pub park: u64,
    /// One pause of a thread that spins.
    pub pause: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            node: 10.0,
            fork: 0.5,
            look: 30,
            promote: 80,
            reclaim: 30,
            probe: [10, 30, 40, 80, 120, 200],
            look_again: 3,
            take: [40, 80, 120, 200, 300, 600],
            cold: [0, 200, 400, 800, 1_200, 2_500],
            data: [0.0, 0.0, 0.0, 0.5, 1.5, 3.0],
            wake: 2_000,
            latency: 15_000,
            start: 30_000,
            park: 2_000,
            pause: 10,
        }
    }
}

impl Costs {
    pub(crate) fn of(table: &[u64; 6], ring: Ring) -> u64 {
        table[ring as usize]
    }
}
