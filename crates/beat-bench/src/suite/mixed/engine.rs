//! Who serves the light requests, and who runs the heavy closures.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::heavy::{Heavy, Kind};
use crate::Failure;
use crate::common::fork::beat_runtime;
use crate::suite::slices::Scheduling;

/// A way to run both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Beat,
    TokioRayon,
    /// rayon's threads run when nobody else wants to.
    RayonIdle,
    /// tokio's threads have short slices, rayon's long ones and a smaller share.
    RayonNiced,
    /// tokio's threads have short slices, rayon's very long ones, and closures call `sched_yield` each 100 µs.
    RayonYielding,
    SpawnBlocking,
    BlockInPlace,
    Inline,
}

impl Engine {
    pub(super) const ALL: [Self; 8] = [
        Self::Beat,
        Self::TokioRayon,
        Self::RayonIdle,
        Self::RayonNiced,
        Self::RayonYielding,
        Self::SpawnBlocking,
        Self::BlockInPlace,
        Self::Inline,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Beat => "beat",
            Self::TokioRayon => "tokio + rayon",
            Self::RayonIdle => "tokio + rayon under SCHED_IDLE",
            Self::RayonNiced => "tokio with short slices + rayon at nice 10",
            Self::RayonYielding => "tokio with short slices + rayon yielding",
            Self::SpawnBlocking => "tokio + spawn_blocking",
            Self::BlockInPlace => "tokio + block_in_place",
            Self::Inline => "tokio, inline with yields",
        }
    }

    /// Whether it can run such closures: those that never fork have no place to yield in either.
    pub(super) fn runs(self, kind: Kind) -> bool {
        self != Self::RayonYielding || kind != Kind::Long
    }

    pub(super) fn yields(self) -> bool {
        self == Self::RayonYielding
    }

    /// For tokio's threads.
    fn serving(self) -> Option<Scheduling> {
        match self {
            Self::RayonNiced | Self::RayonYielding => Some(Scheduling::Slice { us: 100, nice: 0 }),
            _ => None,
        }
    }

    /// For rayon's threads.
    fn computing(self) -> Option<Scheduling> {
        match self {
            Self::RayonIdle => Some(Scheduling::Idle),
            Self::RayonNiced => Some(Scheduling::Slice { us: 10_000, nice: 10 }),
            Self::RayonYielding => Some(Scheduling::Slice { us: 100_000, nice: 0 }),
            _ => None,
        }
    }

    pub(super) fn start(self, workers: usize) -> Result<Running, Failure> {
        if self == Self::Beat {
            return Ok(Running::Beat(beat_runtime(workers, None)));
        }
        let serving = self.serving();
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .on_thread_start(move || set(serving))
            .build()?;
        let closures = match self {
            Self::SpawnBlocking => Closures::SpawnBlocking,
            Self::BlockInPlace => Closures::BlockInPlace,
            Self::Inline => Closures::Inline,
            _ => {
                let computing = self.computing();
                let pool = rayon::ThreadPoolBuilder::new().num_threads(workers);
                Closures::Rayon(Arc::new(pool.start_handler(move |_| set(computing)).build()?))
            }
        };
        Ok(Running::Tokio(tokio, closures))
    }
}

/// Where slices are not known the engine runs without; the report says whether they are.
fn set(scheduling: Option<Scheduling>) {
    if let Some(scheduling) = scheduling {
        let _ = scheduling.apply();
    }
}

/// Who runs closures beside tokio.
#[derive(Clone, Debug)]
pub(super) enum Closures {
    Rayon(Arc<rayon::ThreadPool>),
    SpawnBlocking,
    BlockInPlace,
    Inline,
}

/// An engine that runs; dropping it shuts it down.
#[derive(Debug)]
pub(super) enum Running {
    Beat(beat::Runtime),
    Tokio(tokio::runtime::Runtime, Closures),
}

impl Running {
    pub(super) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Beat(runtime) => drop(runtime.spawn(future)),
            Self::Tokio(runtime, _) => drop(runtime.spawn(future)),
        }
    }

    pub(super) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Beat(runtime) => runtime.block_on(future),
            Self::Tokio(runtime, _) => runtime.block_on(future),
        }
    }

    /// A task that runs one closure after the other, until it may not go on.
    pub(super) fn run_closures(&self, heavy: Heavy, goes_on: impl Fn() -> bool + Send + 'static) {
        match self {
            Self::Beat(_) => self.spawn(async move {
                while goes_on() {
                    let heavy = heavy.clone();
                    beat::spawn_blocking_parallel(move || heavy.beat()).await.expect("the closure ends");
                }
            }),
            Self::Tokio(_, closures) => {
                let closures = closures.clone();
                self.spawn(async move {
                    while goes_on() {
                        closures.run(heavy.clone()).await;
                    }
                });
            }
        }
    }
}

impl Closures {
    async fn run(&self, heavy: Heavy) {
        match self {
            Self::Rayon(pool) => {
                let (end, ended) = oneshot::channel();
                pool.spawn(move || {
                    heavy.rayon();
                    // Nobody waits any more if the runtime is shutting down.
                    let _ = end.send(());
                });
                ended.await.expect("the closure ends");
            }
            Self::SpawnBlocking => {
                tokio::task::spawn_blocking(move || heavy.sequential()).await.expect("the closure ends");
            }
            Self::BlockInPlace => {
                tokio::task::block_in_place(|| heavy.sequential());
                tokio::task::yield_now().await;
            }
            Self::Inline => heavy.inline().await,
        }
    }
}
