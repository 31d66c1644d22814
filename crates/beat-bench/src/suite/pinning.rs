//! What pinning brings and costs: the same programs on Beat with its workers pinned (the default of a runtime that is
//! the process's own), on Beat without, and on tokio and rayon, alone and beside a process that spins on one core.

use std::process::Command;

use super::figures::{BEAT, Bars, Better, Group, Row, SEQUENTIAL};
use super::options::Options;
use super::process::Process;
use super::report::Section;
use super::{fork, http, idle, tasks};
use crate::Failure;
use crate::common::fork::{Pool, beat_runtime};
use crate::common::table::Column;
use crate::common::tasks::tokio_runtime;

const UNPINNED: &str = "beat, not pinned";
const PAIR: &str = "tokio and rayon";
/// What pinning may cost, alone and beside a neighbour.
const ALONE: f64 = 1.02;
const BESIDE: f64 = 1.05;

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = Options::parse(parser)? else { return Ok(()) };
    let pools = Pools::new(&options)?;
    let alone = Group { title: "Alone".into(), id: "alone", rows: pools.rows(&options)? };
    let rows = beside_a_neighbour(|| pools.rows(&options))??;
    let beside = Group { title: "Beside a process that spins on one core".into(), id: "beside", rows };
    let mut bars = Bars::default();
    if options.workers == 2 {
        for row in &alone.rows {
            hold(&mut bars, row, UNPINNED, ALONE);
        }
        for row in &beside.rows {
            hold(&mut bars, row, UNPINNED, BESIDE);
            hold(&mut bars, row, PAIR, 1.0);
        }
    }
    let section = Section {
        suite: "pinning",
        setup: format!(
            "Medians of {} interleaved rounds, on {} workers. Programs that fork run on rayon, tasks and servers on tokio. \
             The neighbour is an ordinary process, pinned to the first core.",
            options.rounds(),
            options.workers
        ),
        groups: vec![alone, beside],
        bars: bars.0,
    };
    section.publish(&options)
}

/// A row is no worse than a peer's by more than so many times.
fn hold(bars: &mut Bars, row: &Row, peer: &str, limit: f64) {
    match row.better {
        Better::Less => bars.ratio_at_most(Some(row), peer, limit),
        Better::More => bars.ratio_at_least(Some(row), peer, limit.recip()),
    }
}

struct Pools {
    sequential: Pool,
    pinned: Pool,
    unpinned: Pool,
    rayon: Pool,
    tokio: tokio::runtime::Runtime,
}

impl Pools {
    fn new(options: &Options) -> Result<Self, Failure> {
        let unpinned = beat::Runtime::builder().worker_threads(options.workers);
        Ok(Self {
            sequential: Pool::Sequential,
            pinned: Pool::Beat(beat_runtime(options.workers, None)),
            unpinned: Pool::Beat(unpinned.pinning(beat::Pinning::None).build()?),
            rayon: Pool::new(Column::Rayon, options.workers, None),
            tokio: tokio_runtime(options.workers),
        })
    }

    fn rows(&self, options: &Options) -> Result<Vec<Row>, Failure> {
        let forkers = [
            (SEQUENTIAL, &self.sequential),
            (BEAT, &self.pinned),
            (UNPINNED, &self.unpinned),
            (PAIR, &self.rayon),
        ];
        let mut rows = fork::on_pools(options, &forkers);
        rows.push(idle::region_on(options, &forkers));
        if let (Pool::Beat(pinned), Pool::Beat(unpinned)) = (&self.pinned, &self.unpinned) {
            let beat = [(BEAT, pinned), (UNPINNED, unpinned)];
            rows.extend(tasks::on_runtimes(options, &beat, (PAIR, &self.tokio)));
            rows.extend(http::on_runtimes(options, &beat, (PAIR, &self.tokio))?);
        }
        Ok(rows)
    }
}

/// Calls `f` while another process spins on the first core.
fn beside_a_neighbour<R>(f: impl FnOnce() -> R) -> Result<R, Failure> {
    let neighbour = Command::new("sh").args(["-c", "while :; do :; done"]).spawn()?;
    let neighbour = Process(neighbour);
    idle::pin(neighbour.0.id() as i32, 0)?;
    Ok(f())
}
