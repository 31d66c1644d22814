//! Once on every processor.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use beat::{__rayon, Handle};

use crate::pool::{self, Use};

/// What a broadcast is told about where it runs.
pub struct BroadcastContext<'a> {
    index: usize,
    num_threads: usize,
    /// Neither `Send` nor `Sync`, as rayon's.
    marker: PhantomData<&'a mut dyn Fn()>,
}

impl BroadcastContext<'_> {
    pub(crate) fn new(index: usize, num_threads: usize) -> Self {
        Self { index, num_threads, marker: PhantomData }
    }

    /// The index of the thread, which is also its [`current_thread_index`](crate::current_thread_index).
    #[inline]
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many indices there are.
    #[inline]
    pub fn num_threads(&self) -> usize {
        self.num_threads
    }
}

impl fmt::Debug for BroadcastContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastContext")
            .field("index", &self.index)
            .field("num_threads", &self.num_threads)
            .finish()
    }
}

/// Runs `op` once for each index of the current pool, on a thread that has it then, and returns all results in the
/// order of the indices.
///
/// A thread comes to it when it has nothing else to do.
///
/// ```
/// let indices = rayon_core::broadcast(|context| context.index());
/// assert!(indices.into_iter().eq(0..rayon_core::current_num_threads()));
/// ```
///
/// # Panics
///
/// With the first panic of `op`, after all have ended.
pub fn broadcast<OP, R>(op: OP) -> Vec<R>
where
    OP: Fn(BroadcastContext<'_>) -> R + Sync,
    R: Send,
{
    broadcast_in(op, &pool::current())
}

pub(crate) fn broadcast_in<OP, R>(op: OP, pool: &Handle) -> Vec<R>
where
    OP: Fn(BroadcastContext<'_>) -> R + Sync,
    R: Send,
{
    let n = pool.current_num_threads();
    let slots: Vec<Mutex<Option<R>>> = (0..n).map(|_| Mutex::new(None)).collect();
    let run = |index: usize| {
        let result = op(BroadcastContext::new(index, n));
        *slots[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
    };
    let run = &run;
    __rayon::in_place_scope(pool, |scope| {
        // The caller's own part runs here: it would wait for another thread to do it.
        let own = __rayon::is_worker_of(pool).then(beat::current_thread_index).flatten();
        __rayon::scope_broadcast_except(scope, own, move |_, index, _| run(index));
        own.inspect(|&index| run(index));
    });
    let take = |slot: Mutex<Option<R>>| slot.into_inner().unwrap_or_else(PoisonError::into_inner);
    // None is missing: a panic or a cancellation has left the scope.
    slots.into_iter().filter_map(take).collect()
}

/// Runs `op` once for each index of the current pool; nobody waits for it.
///
/// ```
/// let (sender, receiver) = std::sync::mpsc::channel();
/// rayon_core::spawn_broadcast(move |context| sender.send(context.index()).unwrap());
/// assert_eq!(receiver.iter().count(), rayon_core::current_num_threads());
/// ```
///
/// # Panics
///
/// As [`spawn`](crate::spawn()).
pub fn spawn_broadcast<OP>(op: OP)
where
    OP: Fn(BroadcastContext<'_>) + Send + Sync + 'static,
{
    spawn_broadcast_in(op, &pool::current());
}

pub(crate) fn spawn_broadcast_in<OP>(op: OP, pool: &Handle)
where
    OP: Fn(BroadcastContext<'_>) + Send + Sync + 'static,
{
    let n = pool.current_num_threads();
    let op = Arc::new(op);
    for index in 0..n {
        let (op, alive) = (Arc::clone(&op), Use::of(pool));
        __rayon::spawn_on(pool, index, move || alive.run(move || op(BroadcastContext::new(index, n))));
    }
}
