//! The schedulers that can carry the service, behind one small interface.
//!
//! Everything else in this example is the same code on each of them. An engine runs futures,
//! serves connections, runs one CPU-bound closure at a time for a request ([`Engine::compute`])
//! and runs loops side by side inside such a closure ([`Engine::for_each`]):
//!
//! | | futures | closures | loops |
//! |---|---|---|---|
//! | `beat` | workers | the same workers | `beat_iter` |
//! | `tokio-blocking` | tokio workers | tokio's blocking pool, one thread each | one element after the other |
//! | `tokio-rayon` | tokio workers | rayon's pool | `par_iter` |
//!
//! On all of them, dropping the [`Computation`] cancels the closure. Beat unwinds it where its next
//! loop splits; on the others the closure looks at a flag.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::serve::ListenerExt;
use beat::iter::BeatIterator;
use rayon::prelude::*;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A scheduler to run the service on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// One scheduler for futures and closures.
    Beat,
    /// tokio, with closures on its blocking pool.
    TokioBlocking,
    /// tokio, with closures on rayon's pool.
    TokioRayon,
}

/// A closure's result to come. Dropping it cancels the closure.
pub(crate) type Computation<R> = Pin<Box<dyn Future<Output = Result<R, Lost>> + Send>>;

/// The closure ended without a result: it panicked or was cancelled.
#[derive(Debug)]
pub(crate) struct Lost(String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the search ended without a result: {}", self.0)
    }
}

/// Tells a running closure whether anybody still wants its result.
#[derive(Clone, Debug)]
pub(crate) enum Cancel {
    /// Ask the scheduler, which knows whose closure this thread is in.
    Beat,
    /// Ask a flag that the [`Computation`] raises when it is dropped.
    Flag(Arc<AtomicBool>),
}

impl Cancel {
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Cancel::Beat => beat::is_cancelled(),
            // Relaxed: the flag guards no data; seeing it a moment later is fine.
            Cancel::Flag(flag) => flag.load(Ordering::Relaxed),
        }
    }
}

/// Raises the flag when dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl CancelOnDrop {
    fn new() -> (Self, Cancel) {
        let flag = Arc::new(AtomicBool::new(false));
        (Self(Arc::clone(&flag)), Cancel::Flag(flag))
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Engine {
    const ALL: [Engine; 3] = [Engine::Beat, Engine::TokioBlocking, Engine::TokioRayon];

    fn name(self) -> &'static str {
        match self {
            Engine::Beat => "beat",
            Engine::TokioBlocking => "tokio-blocking",
            Engine::TokioRayon => "tokio-rayon",
        }
    }

    /// Starts the scheduler with `workers` threads and runs `future` on it to its end.
    pub(crate) fn block_on<F: Future>(self, workers: usize, future: F) -> io::Result<F::Output> {
        if self == Engine::Beat {
            let runtime = beat::Runtime::builder().worker_threads(workers).build()?;
            return Ok(runtime.block_on(future));
        }
        if self == Engine::TokioRayon {
            // A second start in the same process (a test) keeps the first pool.
            let _ = rayon::ThreadPoolBuilder::new().num_threads(workers).build_global();
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
        Ok(runtime.block_on(future))
    }

    /// Answers connections until `stop` resolves, then ends the open ones gracefully.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        router: Router,
        stop: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        if self == Engine::Beat {
            beat::serve(listener, router).with_graceful_shutdown(stop).into_future().await
        } else {
            // As `beat::serve` does: a small answer must not wait for an acknowledgement.
            let listener = listener.tap_io(|connection| {
                let _ = connection.set_nodelay(true);
            });
            axum::serve(listener, router).with_graceful_shutdown(stop).into_future().await
        }
    }

    /// Runs a CPU-bound closure beside the futures.
    pub(crate) fn compute<R: Send + 'static>(
        self,
        closure: impl FnOnce(Cancel) -> R + Send + 'static,
    ) -> Computation<R> {
        match self {
            Engine::Beat => {
                let running = beat::spawn_blocking_parallel(move || closure(Cancel::Beat)).abort_on_drop();
                Box::pin(async move { running.await.map_err(|error| Lost(error.to_string())) })
            }
            Engine::TokioBlocking => {
                let (guard, cancel) = CancelOnDrop::new();
                let running = tokio::task::spawn_blocking(move || closure(cancel));
                Box::pin(async move {
                    let _guard = guard;
                    running.await.map_err(|error| Lost(error.to_string()))
                })
            }
            Engine::TokioRayon => {
                let (guard, cancel) = CancelOnDrop::new();
                let (sender, result) = oneshot::channel();
                rayon::spawn(move || {
                    // A panic that reaches rayon's pool aborts the process. Here it drops the
                    // sender, and the receiver tells.
                    if let Ok(value) = catch_unwind(AssertUnwindSafe(|| closure(cancel))) {
                        let _ = sender.send(value);
                    }
                });
                Box::pin(async move {
                    let _guard = guard;
                    result.await.map_err(|_| Lost("it panicked".into()))
                })
            }
        }
    }

    /// Calls `f` with each item, side by side where the engine can and has free threads.
    pub(crate) fn for_each<T: Sync>(self, items: &[T], f: impl Fn(&T) + Send + Sync) {
        match self {
            Engine::Beat => items.beat_iter().for_each(f),
            Engine::TokioBlocking => items.iter().for_each(f),
            Engine::TokioRayon => items.par_iter().for_each(f),
        }
    }

    /// What the scheduler counts about itself. To be called on one of its own threads.
    pub(crate) fn readings(self) -> Vec<Reading> {
        if self == Engine::Beat { beat_readings() } else { tokio_readings() }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Engine::ALL.map(Engine::name).join(", ");
        let engine = Engine::ALL.into_iter().find(|engine| engine.name() == text);
        engine.ok_or_else(|| format!("write one of {names}"))
    }
}

/// One of a scheduler's own numbers.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) value: u64,
}

/// How a [`Reading`] moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only up.
    Counter,
    /// Up and down.
    Gauge,
    /// Up and down, and it counts work that waits.
    Queue,
}

impl Reading {
    fn new(name: &'static str, kind: Kind, value: impl TryInto<u64>, help: &'static str) -> Self {
        let value = value.try_into().unwrap_or(u64::MAX);
        Self { name, help, kind, value }
    }
}

fn beat_readings() -> Vec<Reading> {
    use Kind::{Counter, Gauge, Queue};
    let now = beat::Handle::current().metrics();
    vec![
        Reading::new("workers", Gauge, now.workers, "Processors"),
        Reading::new("active_workers", Gauge, now.active_workers, "Processors that may run now"),
        Reading::new("idle_workers", Gauge, now.idle_workers, "Processors without work"),
        Reading::new(
            "throttled_periods",
            Counter,
            now.throttled_periods,
            "Periods in which the kernel stopped the group for its quota",
        ),
        Reading::new("threads", Gauge, now.threads, "Threads that exist"),
        Reading::new("parks", Counter, now.parks, "Times a thread went to sleep"),
        Reading::new("polls", Counter, now.polls, "Polls of tasks"),
        Reading::new("steals", Counter, now.steals, "Takings from another worker's queue"),
        Reading::new("promotions", Counter, now.promotions, "Forks offered to other workers"),
        Reading::new("hand_overs", Counter, now.hand_overs, "Processors passed to a standby thread"),
        Reading::new("duty_wakeups", Counter, now.duty_wakeups, "Events the duty thread took"),
        Reading::new("long_polls", Counter, now.long_polls, "Polls found to block others"),
        Reading::new("tasks_alive", Gauge, now.tasks_alive, "Tasks not yet finished"),
        Reading::new("tasks_queued", Queue, now.tasks_queued, "Tasks ready to be polled"),
        Reading::new("closures_queued", Queue, now.closures_queued, "Closures not yet begun"),
        Reading::new("tickets_queued", Queue, now.tickets_queued, "Promoted forks not yet begun"),
    ]
}

fn tokio_readings() -> Vec<Reading> {
    use Kind::{Gauge, Queue};
    let now = tokio::runtime::Handle::current().metrics();
    vec![
        Reading::new("workers", Gauge, now.num_workers(), "Worker threads"),
        Reading::new("tasks_alive", Gauge, now.num_alive_tasks(), "Tasks not yet finished"),
        Reading::new("tasks_queued", Queue, now.global_queue_depth(), "Tasks in the shared queue"),
    ]
}
