//! A runtime by reference: what tasks and other threads use.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;

use super::{block_on, context};
use crate::local;
use crate::metrics::Metrics;
use crate::scheduler::Shared;
use crate::task::{self, JoinHandle, Near};

/// A handle to a runtime; cheap to clone. It does not keep the runtime going.
///
/// ```
/// let runtime = beat::Runtime::builder().worker_threads(2).build()?;
/// let handle = runtime.handle().clone();
/// std::thread::spawn(move || {
///     // A thread of somebody else's.
///     let light = handle.spawn(async { 1 });
///     let heavy = handle.spawn_blocking_parallel(|| 2);
///     let file = handle.spawn_blocking(|| 3);
///     let admitted = handle.admit().spawn(async { 4 });
///     let sum = handle.block_on(async {
///         Ok::<_, beat::JoinError>(light.await? + heavy.await? + file.await? + admitted.await.await?)
///     });
///     assert_eq!(sum.unwrap(), 10);
///     assert_eq!(handle.current_thread_index(), None);
///     println!("{:?}, {:?}", handle.current_num_threads(), handle.pressure().level);
///     assert_eq!(handle.metrics().spawned, 4);
/// })
/// .join()
/// .unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// The runtime whose code calls this.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let handle = beat::Handle::current();
    /// assert_eq!(handle.spawn(async { 6 * 7 }).await.unwrap(), 42);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If no runtime is current on this thread; see [`try_current`](Self::try_current).
    #[track_caller]
    pub fn current() -> Self {
        match Self::try_current() {
            Ok(handle) => handle,
            Err(error) => panic!("{error}"),
        }
    }

    /// The runtime whose code calls this.
    ///
    /// ```
    /// assert!(beat::Handle::try_current().is_err()); // outside any runtime
    /// let runtime = beat::Runtime::new()?;
    /// assert!(runtime.block_on(async { beat::Handle::try_current() }).is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No runtime is current: the thread is none of a runtime's, is not inside `block_on`, and has not
    /// [`enter`](Self::enter)ed one.
    pub fn try_current() -> Result<Self, NoCurrentRuntime> {
        local::with(|local| local.map(|local| Arc::clone(&local.shared)))
            .or_else(context::current)
            .map(|shared| Self { shared })
            .ok_or(NoCurrentRuntime(()))
    }

    /// Makes this runtime the current one on this thread, for Beat and for its driver, until the guard is
    /// dropped.
    ///
    /// Drop guards in the reverse order of their making: tokio panics otherwise.
    ///
    /// ```
    /// let runtime = beat::Runtime::new()?;
    /// let entered = runtime.handle().enter();
    /// assert_eq!(beat::spawn(async { 6 * 7 }).join()?, 42); // on this runtime
    /// drop(entered);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn enter(&self) -> EnterGuard<'_> {
        EnterGuard { _entered: context::Entered::new(&self.shared), _handle: PhantomData }
    }

    /// Spawns a future on this runtime; see [`beat::spawn`](crate::spawn).
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let site = std::panic::Location::caller();
        task::spawn_future(&self.shared, future, site)
    }

    /// Runs a CPU-bound closure on this runtime; see
    /// [`beat::spawn_blocking_parallel`](crate::spawn_blocking_parallel).
    #[track_caller]
    pub fn spawn_blocking_parallel<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        task::spawn_closure(&self.shared, f, std::panic::Location::caller())
    }

    /// Spawns a future on this runtime that should start near something; see [`beat::spawn_on`](crate::spawn_on).
    ///
    /// ```
    /// use beat::task::Near;
    ///
    /// let runtime = beat::Runtime::new()?;
    /// let first = runtime.handle().spawn_on(Near::node(0), async { 6 });
    /// let second = runtime.handle().spawn_blocking_parallel_on(Near::task(&first), || 7);
    /// assert_eq!(first.join()? * second.join()?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn spawn_on<F>(&self, near: Near, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        task::spawn_future_on(&self.shared, near, future, std::panic::Location::caller())
    }

    /// Runs a CPU-bound closure on this runtime that should start near something; see
    /// [`beat::spawn_blocking_parallel_on`](crate::spawn_blocking_parallel_on) and [`spawn_on`](Self::spawn_on).
    #[track_caller]
    pub fn spawn_blocking_parallel_on<F, R>(&self, near: Near, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        task::spawn_closure_near(&self.shared, near, f, std::panic::Location::caller())
    }

    /// Runs a closure that blocks on a thread of this runtime's own; see
    /// [`beat::spawn_blocking`](crate::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F, R>(&self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        task::spawn_blocking_closure(&self.shared, f, std::panic::Location::caller())
    }

    /// A request for admission to this runtime; see [`beat::admit`](crate::admit).
    #[track_caller]
    pub fn admit(&self) -> crate::admission::Admit {
        crate::admission::Admit::new(Arc::clone(&self.shared), std::panic::Location::caller())
    }

    /// A snapshot of the memory; see [`beat::pressure()`](crate::pressure()).
    pub fn pressure(&self) -> crate::pressure::Pressure {
        crate::pressure::of(&self.shared)
    }

    /// Runs `future` to its end on this thread, with this runtime entered.
    ///
    /// Allowed anywhere, also inside tasks and closures: a worker hands its processor over while it waits.
    ///
    /// # Panics
    ///
    /// Inside a task that was given to `tokio::spawn`, which would wait for the driver it sits in; and if the
    /// future panics.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on::block_on(&self.shared, future)
    }

    /// What the runtime has done so far, and has to do.
    pub fn metrics(&self) -> Metrics {
        self.shared.metrics()
    }
}

// User code runs outside of Beat's locks: a panic leaves nothing torn behind a handle.
impl UnwindSafe for Handle {}
impl RefUnwindSafe for Handle {}

impl AsRef<Handle> for Handle {
    fn as_ref(&self) -> &Handle {
        self
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("workers", &self.shared.config.workers).finish_non_exhaustive()
    }
}

/// Keeps a runtime current on this thread; from [`Handle::enter`].
///
/// ```
/// let runtime = beat::Runtime::new()?;
/// let entered: beat::EnterGuard<'_> = runtime.enter();
/// assert!(beat::Handle::try_current().is_ok());
/// drop(entered);
/// assert!(beat::Handle::try_current().is_err());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "the runtime is left when the guard is dropped"]
pub struct EnterGuard<'a> {
    _entered: context::Entered,
    _handle: PhantomData<&'a Handle>,
}

/// No runtime is current on this thread.
///
/// ```
/// let error: beat::NoCurrentRuntime = beat::Handle::try_current().unwrap_err();
/// println!("{error}");
/// ```
#[derive(Debug)]
pub struct NoCurrentRuntime(());

impl fmt::Display for NoCurrentRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no Beat runtime is current on this thread: call this inside `#[beat::main]`, inside `block_on`, or \
             after `Handle::enter`",
        )
    }
}

impl std::error::Error for NoCurrentRuntime {}
