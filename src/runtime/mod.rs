//! Runtimes: their making, their use from outside, their end.

mod affinity;
pub(crate) mod block_on;
mod builder;
pub(crate) mod context;
mod explain;
pub(crate) mod global;
mod handle;
mod in_place;
mod install;
mod number;
pub(crate) mod outside;
mod pool;
mod presets;

pub use affinity::ThreadAffinity;
pub use builder::Builder;
pub use explain::Explanation;
pub use handle::{EnterGuard, Handle, NoCurrentRuntime};
pub use in_place::block_in_place;
pub use install::{BroadcastContext, broadcast, current_num_threads, current_thread_index};
pub(crate) use pool::{PoolSettings, Starting};

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::lifecycle;
use crate::task::JoinHandle;

/// What a user runs on each thread.
pub(crate) type Hook = Arc<dyn Fn() + Send + Sync>;

/// A scheduler with its threads and its driver.
///
/// Most programs have one, made by `#[beat::main]`. Dropping it shuts it down: new work is
/// refused, closures that run are cancelled at their next fork, polls and closures that do not fork are waited
/// for, and every task that has not ended is dropped; its handle says "cancelled".
///
/// ```
/// use beat::Runtime;
/// use std::time::Duration;
///
/// let runtime = Runtime::builder().worker_threads(2).build()?;
/// let light = runtime.spawn(async { 1 });
/// let heavy = runtime.spawn_blocking_parallel(|| 2);
/// let file = runtime.spawn_blocking(|| 3);
/// let sum = runtime.block_on(async { light.await.unwrap() + heavy.await.unwrap() + file.await.unwrap() });
/// assert_eq!(sum, 6);
/// assert_eq!(runtime.metrics().spawned, 3);
/// assert!(runtime.install(|| runtime.current_thread_index().is_some()));
/// assert_eq!(runtime.broadcast(|part| part.index()).len(), runtime.current_num_threads());
///
/// let entered = runtime.enter();
/// assert!(beat::Handle::try_current().is_ok());
/// drop(entered);
/// println!("{:?}", runtime.handle());
/// runtime.shutdown_timeout(Duration::from_secs(1));
///
/// Runtime::new()?.shutdown_background();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
}

impl Runtime {
    /// A runtime with the default settings.
    ///
    /// # Errors
    ///
    /// See [`Builder::build`].
    pub fn new() -> io::Result<Self> {
        Builder::new().build()
    }

    /// Settings for a runtime.
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn from(handle: Handle) -> Self {
        Self { handle }
    }

    /// A handle that others can use.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `future` to its end on this thread; see [`Handle::block_on`].
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// Spawns a future; see [`beat::spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// Runs a closure that blocks; see [`beat::spawn_blocking`](crate::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.handle.spawn_blocking(f)
    }

    /// Runs a CPU-bound closure; see [`beat::spawn_blocking_parallel`](crate::spawn_blocking_parallel).
    #[track_caller]
    pub fn spawn_blocking_parallel<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.handle.spawn_blocking_parallel(f)
    }

    /// Makes this runtime the current one on this thread; see [`Handle::enter`].
    pub fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// What the runtime has done so far, and has to do.
    pub fn metrics(&self) -> crate::Metrics {
        self.handle.metrics()
    }

    /// Shuts down, and waits at most `timeout` for polls and closures that do not end. Those go on in their
    /// threads; what they leave is dropped when they come back. Tasks that wait are dropped by the caller first, however long
    /// their destructors take.
    pub fn shutdown_timeout(self, timeout: Duration) {
        lifecycle::shut_down(&self.handle.shared, Some(timeout));
    }

    /// Shuts down without waiting for anything that runs; allowed inside a task. Tasks that wait are dropped by the caller,
    /// however long their destructors take.
    pub fn shutdown_background(self) {
        self.shutdown_timeout(Duration::ZERO);
    }
}

impl AsRef<Handle> for Runtime {
    fn as_ref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Runtime {
    /// See [`Runtime`]. Dropped by one of its own tasks or closures it does not wait, for it would wait for
    /// itself.
    fn drop(&mut self) {
        if !self.handle.shared.is_closed() {
            lifecycle::shut_down(&self.handle.shared, None);
        }
    }
}
