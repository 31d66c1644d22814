//! The API of rayon-core on the workers of [Beat](beat): `par_iter`, in a program and in all of its dependencies,
//! runs where the program's futures run, and leaves them prompt.
//!
//! Name it in the program's `Cargo.toml`:
//!
//! ```toml
//! [patch.crates-io]
//! rayon-core = { path = "…/beat/crates/rayon-core" }
//! ```
//!
//! # Which pool
//!
//! As in rayon: on a worker, the pool that it belongs to. Elsewhere, the Beat runtime that is entered there (inside
//! `#[beat::main]`, `block_on`, `Handle::enter`); else the global one. That is one for Beat and rayon together: the
//! first `#[beat::main]`, or what [`ThreadPoolBuilder::build_global`] made, or one that is started when first needed,
//! with `RAYON_NUM_THREADS` workers. If there is one already, `build_global` says
//! that it has been initialised. A [`ThreadPool`] is a Beat runtime of its own, without I/O.
//!
//! # What is different
//!
//! *Nothing runs on top of a waiting stack.* A `join` that waits for its stolen half runs nothing else; another thread
//! goes on in its place. So a lock held across `par_iter` meets no stranger, and nesting is no deeper than the
//! program's own. There are therefore more threads than [`current_num_threads`], though not more that run jobs at a
//! time; thread handlers are called on each.
//!
//! *The index* is that of the processor that the thread holds: below [`current_num_threads`], and no other thread of
//! the pool is told the same one as long as this one runs on: until it forks, waits or its job ends. After a
//! `join`, a `scope`, an `install` into another pool or a yield it may be another, so ask again after them. A thread
//! that goes on without a processor takes one over from a thread that has not asked; only if all have (and stay in
//! their jobs for a tenth of a second) is the answer `None`. It is also `None` in a task given to `tokio::spawn`.
//!
//! *Thread-locals*: a job stays on its thread, but a broadcast reaches every index and not every thread.
//!
//! *Order*: jobs of [`spawn`] start in the order in which they came, as those of [`spawn_fifo`]: rayon's newest-first
//! order needs a queue for each thread, which Beat's closures do not have. Jobs of a [`scope`](scope()) that nobody
//! has taken run newest first, those of a [`scope_fifo`] oldest first, as in rayon.
//!
//! *Yielding*: [`yield_now`] and [`yield_local`] do the same: they let another thread go on for a moment. Only in pools
//! whose threads are given (below) do they run a job on the caller's stack.
//!
//! *Given threads*: with [`spawn_handler`](ThreadPoolBuilder::spawn_handler),
//! [`build_scoped`](ThreadPoolBuilder::build_scoped) and, for the calling thread,
//! [`use_current_thread`](ThreadPoolBuilder::use_current_thread) a pool has the threads it is given and no others: then
//! nobody goes on in place of one that waits. Two such pools whose threads all wait for each other wait for ever.
//!
//! *Cancellation*: inside a Beat closure that is aborted, forks unwind with a private payload, as Beat's own do. A job
//! of [`spawn`] that the end of its runtime finds unbegun is dropped.
//!
//! `breadth_first` is taken and has no effect, as its documentation allows. The feature `web_spin_lock` has none.

mod broadcast;
mod builder;
mod configuration;
mod error;
mod join;
mod pool;
mod scope;
mod spawn;
mod thread;
mod thread_pool;

pub use broadcast::{BroadcastContext, broadcast, spawn_broadcast};
pub use builder::ThreadPoolBuilder;
#[allow(deprecated)]
pub use configuration::{Configuration, initialize};
pub use error::ThreadPoolBuildError;
pub use join::{FnContext, join, join_context};
pub use scope::{Scope, ScopeFifo, in_place_scope, in_place_scope_fifo, scope, scope_fifo};
pub use spawn::{spawn, spawn_fifo};
pub use thread::ThreadBuilder;
pub use thread_pool::{
    ThreadPool, Yield, current_thread_has_pending_tasks, current_thread_index, yield_local, yield_now,
};

/// The most threads a pool may have. A higher number is lowered to this one.
pub fn max_num_threads() -> usize {
    4096
}

/// How many threads of the current pool run jobs at a time; see the [crate's page](crate) for which one that is.
///
/// ```
/// let pool = rayon_core::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
/// assert_eq!(pool.install(rayon_core::current_num_threads), 3);
/// ```
pub fn current_num_threads() -> usize {
    beat::__rayon::workers_here().unwrap_or_else(|| pool::current().current_num_threads())
}
