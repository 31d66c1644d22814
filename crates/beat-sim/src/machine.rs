//! The machine that is simulated.

use beat::__sim::Distances;
use beat::Pinning;
use beat::topology::Topology;

/// A machine, and workers on it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// How many workers there are.
    pub workers: usize,
    pub(crate) distances: Distances,
}

impl Machine {
    /// From `PACKAGESxCORES`, with two threads a core, eight cores around an L3 cache where that goes, and an L2 cache for each
    /// core; from `cores=N`, so many cores around one cache; or from a synthetic topology. A worker for each thread.
    ///
    /// # Errors
    ///
    /// The text is none of these.
    pub fn parse(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|&n| n > 0);
        let synthetic = match text.split_once(['x', '=']) {
            Some(("cores", n)) => number(n).map(|n| format!("l3:1 core:{n} pu:1")),
            Some((packages, cores)) => number(packages).zip(number(cores)).map(|(packages, cores)| {
                let groups = if cores % 8 == 0 { cores / 8 } else { 1 };
                format!("package:{packages} numanode:1 l3:{groups} l2:{} core:1 pu:2", cores / groups)
            }),
            None => None,
        };
        let synthetic = synthetic.as_deref().unwrap_or(text);
        let topology: Topology = synthetic.parse().map_err(|error| format!("{text}: {error}"))?;
        let workers = topology.cpus().len();
        let placement = topology.place(&Pinning::Threads, workers).map_err(|error| error.to_string())?;
        Ok(Self { workers, distances: Distances::new(&topology, &placement) })
    }
}
