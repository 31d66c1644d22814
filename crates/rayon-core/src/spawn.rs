//! Jobs that nobody waits for.

use beat::{__rayon, Handle};

use crate::pool::{self, Use};

/// Runs a job in the current pool; nobody waits for it.
///
/// Jobs start in the order in which they were spawned, closures of Beat's among them.
///
/// ```
/// let (sender, receiver) = std::sync::mpsc::channel();
/// rayon_core::spawn(move || sender.send(42).unwrap());
/// assert_eq!(receiver.recv(), Ok(42));
/// ```
///
/// # Panics
///
/// A panic of the job goes to the pool's panic handler; if it has none, the process is aborted.
pub fn spawn<F>(func: F)
where
    F: FnOnce() + Send + 'static,
{
    spawn_in(func, &pool::current());
}

/// As [`spawn`]: on Beat that is first in, first out already.
///
/// ```
/// let (sender, receiver) = std::sync::mpsc::channel();
/// rayon_core::spawn_fifo(move || sender.send(42).unwrap());
/// assert_eq!(receiver.recv(), Ok(42));
/// ```
pub fn spawn_fifo<F>(func: F)
where
    F: FnOnce() + Send + 'static,
{
    spawn(func);
}

pub(crate) fn spawn_in<F>(func: F, pool: &Handle)
where
    F: FnOnce() + Send + 'static,
{
    let alive = Use::of(pool);
    __rayon::spawn(pool, move || alive.run(func));
}
