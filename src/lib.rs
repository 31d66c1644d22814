//! Beat is one scheduler for futures and for CPU-bound closures.
//!
//! A service spawns its futures with [`spawn`] and its heavy work with [`spawn_blocking_parallel`]; inside the
//! heavy work [`join`] forks, at the price of a few instructions while nobody is idle. Both share the same
//! workers, one a core, and light requests stay prompt while every core computes. With the feature `tokio` (on
//! by default) tokio's I/O and timers work inside tasks: change `#[tokio::main]` to `#[beat::main]`.
//!
//! ```
//! fn fib(n: u64) -> u64 {
//!     if n < 2 {
//!         return n;
//!     }
//!     let (a, b) = beat::join(move || fib(n - 1), move || fib(n - 2));
//!     a + b
//! }
//!
//! #[beat::main]
//! async fn main() {
//!     let heavy = beat::spawn_blocking_parallel(|| fib(20));
//!     let light = beat::spawn(async { "still here" });
//!     assert_eq!(light.await.unwrap(), "still here");
//!     assert_eq!(heavy.await.unwrap(), 6765);
//! }
//! ```
//!
//! # The source, in reading order
//!
//! 1. `sync`: std or loom. `parker`: putting one thread to sleep.
//! 2. `processors`: who may run; sleep, submit and hand-over, with their proofs. `rest`: when time may jump.
//! 3. `ticket`, `heartbeat`, `latent`, `join`: fork-join. `jobs`, `scope`: many jobs that borrow. `iter`, `stream`: loops.
//! 4. `driver`, `duty`: where threads park, and who serves events while all workers compute.
//! 5. `task`: futures and closures as heap objects, sets of local ones. `cancel`. `carried`: what goes with the work.
//! 6. `local`, `scheduler`, `worker`, `user_code`, `ticking`, `watchdog`, `blocking`: a thread's state, what threads
//!    share, their loop, what they do inside user code, and who watches over it.
//! 7. `runtime`, `roll`, `lifecycle`: making, using and ending it all. `metrics`. `long_polls`. `os`.
//! 8. `pressure`, `admission`: how much memory there is, and who may start work that needs some.
//! 9. `topology`: the machine, where workers sit on it, and who is near whom. `distances`, `peers`: what the scheduler makes
//!    of that.
//! 10. `hyper`, `serve`: HTTP on it. `addressed`, `__rayon`: what rayon's programs need. `__sim`: what the
//!     simulator in `crates/beat-sim` drives. `model`: the loom models.

// The models use a part of each protocol's vocabulary.
#![cfg_attr(loom, allow(dead_code))]

#[cfg(not(loom))]
#[doc(hidden)]
pub mod __rayon;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod __sim;
mod addressed;
pub mod admission;
#[cfg(not(loom))]
mod allotment;
#[cfg(not(loom))]
mod blocking;
#[cfg(not(loom))]
mod cancel;
#[cfg(all(feature = "tracing", not(loom)))]
mod carried;
#[cfg(not(all(feature = "tracing", not(loom))))]
#[path = "carried/off.rs"]
mod carried;
#[cfg(not(loom))]
mod crowding;
#[cfg(not(loom))]
mod distances;
mod driver;
mod duty;
#[cfg(not(loom))]
mod gathering;
#[cfg(not(loom))]
mod heartbeat;
#[cfg(all(feature = "hyper", not(loom)))]
pub mod hyper;
#[cfg(not(loom))]
mod injectors;
#[cfg(all(feature = "rayon", not(loom)))]
pub mod iter;
mod jobs;
#[cfg(not(loom))]
mod join;
#[cfg(not(loom))]
mod latent;
#[cfg(not(loom))]
mod leap;
#[cfg(not(loom))]
mod lifecycle;
#[cfg(not(loom))]
mod local;
#[cfg(not(loom))]
mod long_polls;
#[cfg(not(loom))]
mod metrics;
#[cfg(all(test, loom))]
mod model;
#[cfg(not(loom))]
mod next_look;
#[cfg(not(loom))]
mod os;
mod parker;
#[cfg(not(loom))]
mod peers;
#[cfg(not(loom))]
pub mod pressure;
mod processors;
mod rest;
mod roll;
#[cfg(not(loom))]
mod room;
#[cfg(not(loom))]
mod runtime;
#[cfg(not(loom))]
mod scheduler;
#[cfg(not(loom))]
mod scope;
#[cfg(all(feature = "axum", not(loom)))]
pub mod serve;
#[cfg(not(loom))]
pub mod stream;
mod sync;
#[cfg(not(loom))]
pub mod task;
mod ticket;
mod ticking;
#[cfg(not(loom))]
pub mod topology;
#[cfg(all(feature = "tracing", not(loom)))]
pub mod tracing;
#[cfg(not(loom))]
mod user_code;
#[cfg(not(loom))]
mod watchdog;
#[cfg(not(loom))]
mod worker;

#[cfg(not(loom))]
pub use api::*;

#[cfg(not(loom))]
mod api {
    use std::future::Future;
    use std::panic::Location;

    pub use crate::cancel::{is_cancelled, uncancellable};
    pub use crate::driver::DriverKind;
    pub use crate::join::join;
    pub use crate::metrics::Metrics;
    pub use crate::runtime::{
        BroadcastContext, Builder, EnterGuard, Explanation, Handle, NoCurrentRuntime, Runtime,
        ThreadAffinity, block_in_place, broadcast, current_num_threads, current_thread_index,
    };
    pub use crate::scope::{Scope, ScopeFifo, in_place_scope, in_place_scope_fifo, scope, scope_fifo};
    pub use crate::task::{
        AbortHandle, AbortOnDropHandle, JoinError, JoinHandle, JoinSet, LocalSet, yield_now,
    };

    pub use crate::topology::{Pinning, topology};

    pub use crate::admission::shorthands::*;
    #[cfg(feature = "axum")]
    pub use crate::serve::{Serve, serve};
    #[cfg(feature = "macros")]
    pub use beat_macros::{main, test};

    use crate::runtime::context::with_current_or_global;
    use crate::task;

    /// Spawns a future: it runs on the workers, beside the caller.
    ///
    /// Inside a Beat task, closure or `block_on` it goes to that runtime; elsewhere to the global one, which is
    /// started if there is none. Dropping the handle detaches the task.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let task = beat::spawn(async { 6 * 7 });
    /// assert_eq!(task.await.unwrap(), 42);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If a global runtime is needed and cannot be started.
    #[track_caller]
    pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let site = Location::caller();
        with_current_or_global(|shared| task::spawn_future(shared, future, site))
    }

    /// Runs a CPU-bound closure on the workers, in parallel with others and, by [`join`], within itself.
    ///
    /// The closure has a worker to itself until it ends; futures stay prompt meanwhile. It may block, and even
    /// wait for closures that have not begun (another thread takes its place), but closures that do nothing but
    /// block belong into [`spawn_blocking`].
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let sum = beat::spawn_blocking_parallel(|| (1..=1_000_u64).sum::<u64>());
    /// assert_eq!(sum.await.unwrap(), 500_500);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If a global runtime is needed and cannot be started.
    #[track_caller]
    pub fn spawn_blocking_parallel<F, R>(f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let site = Location::caller();
        with_current_or_global(|shared| task::spawn_closure(shared, f, site))
    }

    /// Spawns a future that should start near something: a hint, see [`Near`](crate::task::Near).
    ///
    /// It is queued where it should start, behind others, also if that is where the caller is.
    ///
    /// ```
    /// use beat::task::Near;
    ///
    /// # #[beat::main]
    /// # async fn main() {
    /// let task = beat::spawn_on(Near::node(0), async { 6 * 7 });
    /// assert_eq!(task.await.unwrap(), 42);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If a global runtime is needed and cannot be started.
    #[track_caller]
    pub fn spawn_on<F>(near: task::Near, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let site = Location::caller();
        with_current_or_global(|shared| task::spawn_future_on(shared, near, future, site))
    }

    /// Runs a CPU-bound closure that should start near something: a hint, see [`Near`](crate::task::Near).
    ///
    /// What it forks is stolen by near workers before others in any case.
    ///
    /// ```
    /// use beat::task::Near;
    ///
    /// # #[beat::main]
    /// # async fn main() {
    /// let sum = beat::spawn_blocking_parallel_on(Near::node(0), || (1..=1_000_u64).sum::<u64>());
    /// assert_eq!(sum.await.unwrap(), 500_500);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If a global runtime is needed and cannot be started.
    #[track_caller]
    pub fn spawn_blocking_parallel_on<F, R>(near: task::Near, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let site = Location::caller();
        with_current_or_global(|shared| task::spawn_closure_near(shared, near, f, site))
    }

    /// Runs a closure that blocks, on a thread that is no worker.
    ///
    /// For calls that wait in the kernel: files, locks, foreign libraries. There are up to 512 such threads.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() -> std::io::Result<()> {
    /// let entries = beat::spawn_blocking(|| std::fs::read_dir("/").map(Iterator::count)).await??;
    /// assert!(entries > 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If a global runtime is needed and cannot be started.
    #[track_caller]
    pub fn spawn_blocking<F, R>(f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let site = Location::caller();
        with_current_or_global(|shared| task::spawn_blocking_closure(shared, f, site))
    }

    /// What the macros expand to. Not for other use.
    #[doc(hidden)]
    pub mod __private {
        use std::future::Future;

        use crate::runtime::{Builder, global};

        /// The body of `#[beat::main]`.
        pub fn main<F: Future>(builder: Builder, body: F) -> F::Output {
            let (runtime, registered) = global::build(builder)
                .unwrap_or_else(|error| panic!("beat: the runtime could not be started: {error}"));
            let output = runtime.block_on(body);
            drop(registered);
            output
        }

        /// The body of `#[beat::test]`.
        pub fn test<F: Future>(builder: Builder, body: F) -> F::Output {
            let runtime = builder
                .build()
                .unwrap_or_else(|error| panic!("beat: the runtime could not be started: {error}"));
            runtime.block_on(body)
        }
    }
}

/// The programs of that page are tests.
#[cfg(all(doctest, feature = "macros", feature = "tokio"))]
#[doc = include_str!("../docs/examples.md")]
mod examples {}
