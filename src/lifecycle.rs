//! The end of a runtime.
//!
//! 1. *Close*: no new task is accepted. `spawn` enters a task in the registry, then looks whether the runtime
//!    is closed; shutdown closes, then looks through the registry. One of the two sees the other.
//! 2. *Call back*: closures that run are aborted, so that they unwind at their next fork; every sleeping thread
//!    is unparked, and everyone leaves the driver. A thread ends when it comes back to its loop.
//! 3. *Wait* until all threads have ended, or the time is up.
//! 4. *Drop the tasks*, with the driver's context entered and outside any turn: each is woken, which puts it
//!    into a queue, and every queue is emptied. Repeated until the registry holds none, since destructors may
//!    spawn and wake. Timers and sockets of tokio keep their wakers, and hence the tasks, alive: so this comes
//!    before
//! 5. *the driver's end*, on a thread that is in no runtime.
//!
//! If the time is up at step 3, threads that are still in user code keep the runtime's memory alive; the last
//! one does steps 4 and 5 when it comes back.
//!
//! A runtime may be dropped by one of its own threads. That thread cannot wait for itself: it does steps 1 and
//! 2, and the last thread does the rest.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::context;
use crate::scheduler::Shared;
use crate::task::{Runnable, registry};

/// Whether a runtime still accepts work, and how many threads it has.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    closed: AtomicBool,
    threads: Mutex<Count>,
    ended: Condvar,
    spawn_failed: AtomicBool,
}

#[derive(Debug, Default)]
struct Count {
    /// Threads of the scheduler, the watchdog and the blocking pool.
    alive: usize,
    /// Nobody waits for them: the last one does steps 4 and 5.
    abandoned: bool,
}

impl Lifecycle {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many threads there are, of any kind.
    pub(crate) fn threads(&self) -> usize {
        self.count().alive
    }

    pub(crate) fn thread_started(&self) {
        self.count().alive += 1;
    }

    /// Returns whether the caller was the last one, and must finish the runtime.
    #[must_use]
    pub(crate) fn thread_ended(&self) -> bool {
        let mut count = self.count();
        count.alive -= 1;
        self.ended.notify_all();
        count.alive == 0 && count.abandoned
    }

    /// Step 3; `false` if the time was up first, and the threads have been left to themselves.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut count = self.count();
        while count.alive > 0 {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            count = match left {
                Some(Duration::ZERO) => {
                    count.abandoned = true;
                    return false;
                }
                Some(left) => {
                    let waited = self.ended.wait_timeout(count, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.ended.wait(count).unwrap_or_else(PoisonError::into_inner),
            };
        }
        true
    }

    /// Says once that the system refuses threads: the runtime goes on with those it has.
    pub(crate) fn report_spawn_failure(&self, error: &io::Error) {
        // Relaxed: said once or twice, nobody minds.
        if !self.spawn_failed.swap(true, Relaxed) {
            eprintln!(
                "beat: the system refused a thread ({error}); going on with fewer. \
                 Raise the limit on threads (`ulimit -u`, pids.max) to get full parallelism back."
            );
        }
    }
}

/// Steps 1 to 5. `None` waits for as long as it takes.
pub(crate) fn shut_down(shared: &Shared, timeout: Option<Duration>) {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    shared.lifecycle.closed.store(true, SeqCst);
    registry::abort_closures(shared);
    for seat in shared.processors.sleepers() {
        shared.driver.unpark(&seat.parker);
    }
    shared.duty.release(shared);
    shared.watchdog.release();
    shared.blocking.release();

    let inside = context::is_own_thread(shared);
    // A thread of the pool cannot wait for itself: it leaves the rest to the last one.
    let deadline = if inside { Some(Instant::now()) } else { deadline };
    if shared.lifecycle.wait(deadline) {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        finish(shared, left);
    }
}

/// Steps 4 and 5: all threads have ended.
pub(crate) fn finish(shared: &Shared, timeout: Option<Duration>) {
    let entered = shared.driver.get().enter();
    drop_tasks(shared, timeout.map(|timeout| Instant::now() + timeout));
    drop(entered);
    shared.driver.get().shutdown(timeout);
}

/// Step 4.
pub(crate) fn drop_tasks(shared: &Shared, deadline: Option<Instant>) {
    loop {
        let wakers = registry::wakers(shared);
        let all_gone = wakers.is_empty();
        for waker in wakers {
            waker.wake();
        }
        while let Some(runnable) = next_queued(shared) {
            drop(runnable);
        }
        if all_gone || deadline.is_some_and(|d| Instant::now() >= d) {
            return;
        }
        // A task that a foreign thread is just spawning is in the registry, but not yet in a queue.
        std::thread::yield_now();
    }
}

fn next_queued(shared: &Shared) -> Option<Runnable> {
    shared.take_injected().or_else(|| shared.take_closure()).or_else(|| shared.blocking.take_queued())
}
