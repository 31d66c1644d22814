//! Memory pressure: how much the process may still use, and how short of it it is.
//!
//! *Headroom* leads: `limit − usage + reclaimable − reserved` of the process's own control group, its ancestors or the
//! machine, whichever is tightest. *Stalls* (pressure stall information of the own group) confirm: without swap they
//! come a few milliseconds before the kill, and those of the whole machine are mostly somebody else's.
//! What each source can and cannot tell is in `docs/memory.md`.
//!
//! | part | what |
//! |---|---|
//! //! | `source` | readings, the trait of those who give them, and falling back |
//! | `cgroup` | the control group and the machine |
//! | `level` | policies, hysteresis, hold times |
//! | `sensor` | when to look, and who is told |
//! | `alarm` | how the sampler sleeps |
//!
//! Nothing is looked at while the runtime idles: see [`admission`](crate::admission).

#[cfg(target_os = "linux")]
pub(crate) mod alarm;
#[cfg(not(target_os = "linux"))]
#[path = "alarm_other.rs"]
pub(crate) mod alarm;
#[cfg(target_os = "linux")]
mod cgroup;
mod config;
mod level;
pub(crate) mod sensor;
mod source;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

pub use config::PressureConfig;
pub use level::{Level, Policy};
pub use source::{PressureSource, Reading, Stall, StallLine};

use crate::scheduler::Shared;

/// What is known about the memory of this process; from [`beat::pressure()`](crate::pressure()).
///
/// ```
/// let runtime = beat::Runtime::new()?;
/// let pressure = runtime.handle().pressure();
/// if let Some(headroom) = pressure.headroom() {
///     println!("{:?}, {headroom} bytes left: {}", pressure.level, pressure.why());
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Pressure {
    /// How short memory is. It follows from what is in use, not from what is reserved.
    pub level: Level,
    /// The numbers; `None` where there is nothing to be read, and then nothing is held back.
    pub reading: Option<Reading>,
    /// How many bytes admitted tasks have reserved.
    pub reserved: u64,
    /// The share of the last half second in which some task waited for memory, in per cent.
    pub stalled: f64,
    /// Where the numbers come from.
    pub source: Option<String>,
    /// `None` in what a hook sees.
    runtime: Option<crate::Handle>,
}

impl Pressure {
    /// `limit − usage + reclaimable − reserved`, in bytes; `None` without a source.
    pub fn headroom(&self) -> Option<u64> {
        self.reading.as_ref().map(|reading| reading.available().saturating_sub(self.reserved))
    }

    /// The numbers in one line, for a log.
    pub fn why(&self) -> impl fmt::Display + '_ {
        Why(self)
    }

    /// Waits until the level is another one than in this snapshot; gives the new one.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let watch = beat::spawn(async {
    ///     let mut seen = beat::pressure();
    ///     loop {
    ///         seen = seen.changed().await;
    ///         println!("{:?}: {}", seen.level, seen.why());
    ///     }
    /// });
    /// # watch.abort();
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change that comes meanwhile is seen by the next call on the same snapshot.
    pub async fn changed(&self) -> Self {
        let Some(runtime) = &self.runtime else {
            // Only a hook has such a snapshot, and it cannot wait.
            return crate::pressure();
        };
        let shared = &runtime.shared;
        Changed { runtime: shared, level: self.level, key: None }.await;
        of(shared)
    }

    pub(crate) fn for_runtime(mut self, runtime: &Arc<Shared>) -> Self {
        self.runtime = Some(crate::Handle { shared: Arc::clone(runtime) });
        self
    }
}

/// A snapshot of a runtime's memory.
pub(crate) fn of(shared: &Arc<Shared>) -> Pressure {
    shared.admission.look(sensor::NEAR).for_runtime(shared)
}

struct Why<'a>(&'a Pressure);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        let (Some(reading), Some(source)) = (&self.0.reading, &self.0.source) else {
            return f.write_str("nothing says how much memory there is");
        };
        write!(
            f,
            "{source}: {} of {} MiB used, {} reclaimable, {} reserved, stalled {:.1} % of the time",
            mib(reading.usage),
            mib(reading.limit),
            mib(reading.reclaimable),
            mib(self.0.reserved),
            self.0.stalled
        )
    }
}

/// Waits for another level.
struct Changed<'a> {
    runtime: &'a Arc<Shared>,
    level: Level,
    key: Option<u64>,
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let admission = &self.runtime.admission;
        match admission.sensor.watch(self.key, self.level, cx.waker()) {
            None => {
                self.key = None;
                Poll::Ready(())
            }
            Some(key) => {
                self.key = Some(key);
                // After the waker: the sampler looks for watchers before it falls asleep.
                self.runtime.admission.keep_sampling(self.runtime);
                Poll::Pending
            }
        }
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.runtime.admission.sensor.forget(key);
        }
    }
}
