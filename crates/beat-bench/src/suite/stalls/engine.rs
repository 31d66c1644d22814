//! The two runtimes behind one face.

use std::fmt;
use std::future::Future;
use std::io;

/// What runs the tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::suite) enum Engine {
    Beat,
    Tokio,
}

impl Engine {
    pub(in crate::suite) const ALL: [Self; 2] = [Self::Beat, Self::Tokio];

    pub(in crate::suite) fn start(self, workers: usize) -> io::Result<Runtime> {
        match self {
            // What a suite gives to `tokio::spawn` it does to measure just that.
            Self::Beat => {
                beat::Runtime::builder().worker_threads(workers).warnings(false).build().map(Runtime::Beat)
            }
            Self::Tokio => tokio::runtime::Builder::new_multi_thread()
                .worker_threads(workers)
                .enable_all()
                .build()
                .map(Runtime::Tokio),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Beat => "Beat",
            Self::Tokio => "tokio multi-thread",
        })
    }
}

/// A runtime of either kind; dropping it shuts it down.
#[derive(Debug)]
pub(in crate::suite) enum Runtime {
    Beat(beat::Runtime),
    Tokio(tokio::runtime::Runtime),
}

impl Runtime {
    pub(in crate::suite) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Beat(runtime) => drop(runtime.spawn(future)),
            Self::Tokio(runtime) => drop(runtime.spawn(future)),
        }
    }

    pub(in crate::suite) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Beat(runtime) => runtime.block_on(future),
            Self::Tokio(runtime) => runtime.block_on(future),
        }
    }
}
