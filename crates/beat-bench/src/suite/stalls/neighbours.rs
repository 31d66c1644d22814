//! What everybody else on the machine uses.

use std::io;
use std::time::{Duration, Instant};

use crate::suite::clock::{CpuClock, machine_busy};

/// A span of time in which others may compute.
#[derive(Debug)]
pub(in crate::suite) struct Neighbours {
    began: Instant,
    busy: Duration,
    own: Duration,
}

impl Neighbours {
    /// The span begins.
    pub(in crate::suite) fn watch() -> io::Result<Self> {
        Ok(Self { began: Instant::now(), busy: machine_busy()?, own: own()? })
    }

    /// How many cores others have used since, to some hundredths a second.
    pub(in crate::suite) fn cores(&self) -> io::Result<f64> {
        let others = (machine_busy()? - self.busy).saturating_sub(own()? - self.own);
        Ok(others.as_secs_f64() / self.began.elapsed().as_secs_f64())
    }
}

fn own() -> io::Result<Duration> {
    CpuClock::own().read()
}
