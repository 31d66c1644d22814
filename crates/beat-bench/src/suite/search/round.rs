//! One round of one engine: searches in the background, light requests measured.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::super::clock::{CpuClock, machine_busy};
use super::super::priority::Priority;
use super::floor::Floor;
use super::heavy::Heavy;
use super::light::{Generator, Light};
use super::options::Options;
use super::server::{Server, Totals};
use crate::Failure;

/// In a quiet round the floor's 99.9th percentile is no more than this.
pub(super) const QUIET_FLOOR: Duration = Duration::from_millis(1);
/// In a quiet round everything that is neither server nor load uses no more cores than this.
pub(super) const QUIET_OTHERS: f64 = 0.1;

/// What a round has measured.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) light: Light,
    /// How late a thread above all others woke meanwhile, in nanoseconds.
    pub(super) floor: Histogram<u64>,
    /// What the kernel granted to that thread.
    pub(super) floor_priority: Priority,
    /// Cores busy with neither server nor load.
    pub(super) others: f64,
    pub(super) wall: Duration,
    /// What the server has done in that time.
    pub(super) server: Totals,
}

impl Round {
    /// Starts a server, loads it, and measures after a warm-up.
    pub(super) fn run(
        program: &Path,
        options: &Options,
        engine: &str,
        floor: &Floor,
    ) -> Result<Self, Failure> {
        let server = Server::start(program, engine, options)?;
        let heavy = Heavy::start(server.addr(), options.searches)?;
        let mut generator = Generator::connect(server.addr(), options.rate)?;
        generator.run(options.warm_up())?;

        let own = CpuClock::of(std::process::id())?;
        let before = server.totals()?;
        floor.take();
        let (busy_before, own_before) = (machine_busy()?, own.read()?);
        let began = Instant::now();
        let light = generator.run(options.requests_a_round())?;
        let wall = began.elapsed();
        let (floor, floor_priority) = floor.take();
        let server = server.totals()?.since(&before);
        let busy = machine_busy()?.saturating_sub(busy_before);
        let ours = server.cpu + own.read()?.saturating_sub(own_before);
        heavy.stop()?;

        let others = busy.saturating_sub(ours).as_secs_f64() / wall.as_secs_f64();
        Ok(Self { light, floor, floor_priority, others, wall, server })
    }

    /// Whether the machine left server and load alone. This looks at no latency of the server's.
    pub(super) fn is_quiet(&self) -> bool {
        let floor = Duration::from_nanos(self.floor.value_at_quantile(0.999));
        floor <= QUIET_FLOOR && self.others <= QUIET_OTHERS
    }

    /// The 99th percentile of the light requests' latency, in nanoseconds.
    pub(super) fn p99(&self) -> u64 {
        self.light.latencies.value_at_quantile(0.99)
    }
}
