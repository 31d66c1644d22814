//! Pools that a program makes itself.

use std::fmt;

use beat::{__rayon, Handle};

use crate::broadcast::{BroadcastContext, broadcast_in, spawn_broadcast_in};
use crate::join;
use crate::pool::Use;
use crate::scope::{Scope, ScopeFifo, in_place_scope_fifo_in, in_place_scope_in, scope_fifo_in, scope_in};
use crate::spawn::spawn_in;

/// A pool of threads: a Beat runtime of its own, without I/O. Made by a
/// [`ThreadPoolBuilder`](crate::ThreadPoolBuilder).
///
/// Dropped, it ends when its last job has; nobody waits for that.
///
/// ```
/// let pool = rayon_core::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
/// assert_eq!(pool.install(|| 6 * 7), 42);
/// ```
pub struct ThreadPool {
    pub(crate) handle: Handle,
    pub(crate) _alive: Use,
}

impl ThreadPool {
    /// Deprecated in favour of `ThreadPoolBuilder::build`.
    ///
    /// # Errors
    ///
    /// As there.
    #[deprecated(note = "Use `ThreadPoolBuilder::build`")]
    #[allow(deprecated)]
    pub fn new(configuration: crate::Configuration) -> Result<Self, Box<dyn std::error::Error>> {
        configuration.build()
    }

    /// Runs `op` in the pool and waits for it: here, if this is one of its workers.
    ///
    /// A worker of another pool lets another thread go on in its place while it waits.
    ///
    /// # Panics
    ///
    /// If `op` does.
    pub fn install<OP, R>(&self, op: OP) -> R
    where
        OP: FnOnce() -> R + Send,
        R: Send,
    {
        __rayon::install(&self.handle, op)
    }

    /// Runs `op` once for each index of the pool; see [`broadcast`](crate::broadcast()).
    pub fn broadcast<OP, R>(&self, op: OP) -> Vec<R>
    where
        OP: Fn(BroadcastContext<'_>) -> R + Sync,
        R: Send,
    {
        broadcast_in(op, &self.handle)
    }

    /// How many threads of the pool run jobs at a time.
    #[inline]
    pub fn current_num_threads(&self) -> usize {
        self.handle.current_num_threads()
    }

    /// The index of this thread, if it belongs to the pool; see [`current_thread_index`].
    #[inline]
    pub fn current_thread_index(&self) -> Option<usize> {
        if self.is_here() { current_thread_index() } else { None }
    }

    /// As [`current_thread_has_pending_tasks`], if this thread belongs to the pool.
    #[inline]
    pub fn current_thread_has_pending_tasks(&self) -> Option<bool> {
        if self.is_here() { current_thread_has_pending_tasks() } else { None }
    }

    fn is_here(&self) -> bool {
        __rayon::is_worker_of(&self.handle)
    }

    /// [`join`](crate::join()) in the pool.
    pub fn join<A, B, RA, RB>(&self, oper_a: A, oper_b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        self.install(|| join(oper_a, oper_b))
    }

    /// [`scope`](crate::scope()) in the pool.
    pub fn scope<'scope, OP, R>(&self, op: OP) -> R
    where
        OP: FnOnce(&Scope<'scope>) -> R + Send,
        R: Send,
    {
        scope_in(op, &self.handle)
    }

    /// [`scope_fifo`](crate::scope_fifo()) in the pool.
    pub fn scope_fifo<'scope, OP, R>(&self, op: OP) -> R
    where
        OP: FnOnce(&ScopeFifo<'scope>) -> R + Send,
        R: Send,
    {
        scope_fifo_in(op, &self.handle)
    }

    /// [`in_place_scope`](crate::in_place_scope()) with the pool's threads for its jobs.
    pub fn in_place_scope<'scope, OP, R>(&self, op: OP) -> R
    where
        OP: FnOnce(&Scope<'scope>) -> R,
    {
        in_place_scope_in(op, &self.handle)
    }

    /// [`in_place_scope_fifo`](crate::in_place_scope_fifo()) with the pool's threads for its jobs.
    pub fn in_place_scope_fifo<'scope, OP, R>(&self, op: OP) -> R
    where
        OP: FnOnce(&ScopeFifo<'scope>) -> R,
    {
        in_place_scope_fifo_in(op, &self.handle)
    }

    /// [`spawn`](crate::spawn()) in the pool.
    pub fn spawn<OP>(&self, op: OP)
    where
        OP: FnOnce() + Send + 'static,
    {
        spawn_in(op, &self.handle);
    }

    /// [`spawn_fifo`](crate::spawn_fifo()) in the pool.
    pub fn spawn_fifo<OP>(&self, op: OP)
    where
        OP: FnOnce() + Send + 'static,
    {
        spawn_in(op, &self.handle);
    }

    /// [`spawn_broadcast`](crate::spawn_broadcast()) in the pool.
    pub fn spawn_broadcast<OP>(&self, op: OP)
    where
        OP: Fn(BroadcastContext<'_>) + Send + Sync + 'static,
    {
        spawn_broadcast_in(op, &self.handle);
    }

    /// [`yield_now`], if this thread belongs to the pool.
    pub fn yield_now(&self) -> Option<Yield> {
        if self.is_here() { yield_now() } else { None }
    }

    /// [`yield_local`], if this thread belongs to the pool.
    pub fn yield_local(&self) -> Option<Yield> {
        if self.is_here() { yield_local() } else { None }
    }
}

impl fmt::Debug for ThreadPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPool").field("num_threads", &self.current_num_threads()).finish_non_exhaustive()
    }
}

/// The index of this thread in its pool; `None` on a thread of no pool. See *The index* on the [crate's page](crate).
///
/// ```
/// assert_eq!(rayon_core::current_thread_index(), None);
/// let index = rayon_core::join(rayon_core::current_thread_index, || ()).0.unwrap();
/// assert!(index < rayon_core::current_num_threads());
/// ```
#[inline]
pub fn current_thread_index() -> Option<usize> {
    beat::current_thread_index()
}

/// Whether this thread has forked halves that nobody has begun, or jobs were spawned that nobody has; `None` on a
/// thread of no pool.
///
/// ```
/// assert_eq!(rayon_core::current_thread_has_pending_tasks(), None);
/// ```
#[inline]
pub fn current_thread_has_pending_tasks() -> Option<bool> {
    __rayon::has_pending()
}

/// Whether there was something to yield to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yield {
    /// There was a job, and a thread to run it.
    Executed,
    /// There was nothing to do.
    Idle,
}

/// Lets another thread go on for a moment with the right to run of this one; `None` on a thread of no pool.
///
/// Unlike rayon's it runs no job on this stack (but in pools whose threads are given).
///
/// ```
/// assert_eq!(rayon_core::yield_now(), None);
/// ```
pub fn yield_now() -> Option<Yield> {
    __rayon::yield_now().map(|work| if work { Yield::Executed } else { Yield::Idle })
}

/// As [`yield_now`]: on Beat jobs do not wait for a certain thread.
///
/// ```
/// assert_eq!(rayon_core::yield_local(), None);
/// ```
pub fn yield_local() -> Option<Yield> {
    yield_now()
}
