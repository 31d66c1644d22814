//! The schedulers that can carry the service.
//!
//! | | futures | closures | when memory is short |
//! |---|---|---|---|
//! | `beat` | workers | the same workers | refuses what does not fit |
//! | `beat-stall-only`, `beat-composite` | workers | the same workers | the same, by another policy |
//! | `tokio-blocking` | tokio workers | tokio's blocking pool | goes on |
//! | `tokio-semaphore:N` | tokio workers | the same, at most N at a time | goes on; refuses all beyond N |

use std::fmt;
use std::future::Future;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use beat::pressure::{Policy, PressureConfig};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// A scheduler to run the service on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Beat(Policy),
    TokioBlocking,
    TokioSemaphore(usize),
}

/// Why a closure gave no result.
#[derive(Debug)]
pub(crate) enum Failed {
    /// There is no room: ask again after this time.
    Refused(Duration),
    /// It panicked.
    Lost(String),
}

impl Engine {
    /// Starts the scheduler with `workers` threads and runs `future` on it to its end.
    pub(crate) fn block_on<F: Future>(self, workers: usize, future: F) -> io::Result<F::Output> {
        if let Engine::Beat(policy) = self {
            let pressure = PressureConfig::new().policy(policy);
            let runtime = beat::Runtime::builder().worker_threads(workers).pressure(pressure).build()?;
            return Ok(runtime.block_on(future));
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
        Ok(runtime.block_on(future))
    }

    /// Answers connections until `stop` resolves.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        router: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        match self {
            Engine::Beat(_) => beat::serve(listener, router).with_graceful_shutdown(stop).await,
            _ => axum::serve(listener, router).with_graceful_shutdown(stop).await,
        }
    }

    /// Runs a closure that will need `bytes` of memory.
    pub(crate) async fn compute<R: Send + 'static>(
        self,
        bytes: u64,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, Failed> {
        let lost = |error: &dyn fmt::Display| Failed::Lost(error.to_string());
        match self {
            Engine::Beat(_) => {
                let task = beat::admit().memory(bytes).try_spawn_blocking_parallel(f);
                let task = task.map_err(|overloaded| Failed::Refused(overloaded.retry_after()))?;
                // Nobody needs the picture of a client that has left.
                task.abort_on_drop().await.map_err(|error| lost(&error))
            }
            Engine::TokioBlocking => tokio::task::spawn_blocking(f).await.map_err(|error| lost(&error)),
            Engine::TokioSemaphore(most) => {
                static PERMITS: OnceLock<Arc<Semaphore>> = OnceLock::new();
                let permits = PERMITS.get_or_init(|| Arc::new(Semaphore::new(most)));
                let permit = Arc::clone(permits).try_acquire_owned();
                let permit = permit.map_err(|_| Failed::Refused(Duration::from_secs(1)))?;
                let body = move || {
                    let _permit = permit;
                    f()
                };
                tokio::task::spawn_blocking(body).await.map_err(|error| lost(&error))
            }
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Engine::Beat(Policy::StallOnly) => f.write_str("beat-stall-only"),
            Engine::Beat(Policy::Composite) => f.write_str("beat-composite"),
            Engine::Beat(_) => f.write_str("beat"),
            Engine::TokioBlocking => f.write_str("tokio-blocking"),
            Engine::TokioSemaphore(most) => write!(f, "tokio-semaphore:{most}"),
        }
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "beat" => Ok(Engine::Beat(Policy::Headroom)),
            None if text == "beat-stall-only" => Ok(Engine::Beat(Policy::StallOnly)),
            None if text == "beat-composite" => Ok(Engine::Beat(Policy::Composite)),
            None if text == "tokio-blocking" => Ok(Engine::TokioBlocking),
            Some(("tokio-semaphore", most)) => match most.parse() {
                Ok(most @ 1..=100_000) => Ok(Engine::TokioSemaphore(most)),
                _ => Err("write a number from 1 to 100000 after `tokio-semaphore:`".into()),
            },
            _ => Err(
                "the engines are beat, beat-stall-only, beat-composite, tokio-blocking and tokio-semaphore:N"
                    .into(),
            ),
        }
    }
}
