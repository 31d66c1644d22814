//! The end of a runtime.
//!
//! 1. *Close*: no new task is accepted. `spawn` enters a task in the registry, then looks whether the runtime
//!    is closed; shutdown closes, then looks through the registry. One of the two sees the other
//!    ([`roll`](crate::roll), as for those who go to sleep).
//! 2. *Call back*: closures that run are aborted, so that they unwind at their next fork; every sleeping thread
//!    is unparked, and everyone leaves the driver. A thread ends when it comes back to its loop.
//! 3. *Drop the tasks*, with the runtime entered and outside any turn: each is woken, which puts it into a
//!    queue, and every queue is emptied, also those of threads that are stuck in user code; a task that runs is
//!    left alone. *Wait* until all threads have ended, or the time is up, and now and then drop tasks again and
//!    turn the driver: a thread may be waiting, in a `block_on` say, for a task that was still running or was
//!    spawned since, or for a timer.
//! 4. Drop tasks until the registry holds none. Timers and sockets of tokio keep their wakers, and hence the
//!    tasks, alive: so this comes before
//! 5. *the driver's end*, on a thread that is in no runtime.
//!
//! If the time is up at step 3 or 4, a thread of its own goes on with it, and does steps 4 and 5: those who are still in
//! user code may be waiting for just that, and a task that a foreign thread is just spawning comes into a queue that
//! nobody else will look at. Should the system refuse the thread, they are left to themselves, and
//! the last one to come back does steps 4 and 5. If there is none left to come back, the caller does them itself, however
//! long that takes.
//!
//! A runtime may be dropped by one of its own threads. That thread cannot wait for itself: for it the time is up
//! at once.

use std::io;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::injectors::FirstAt;
use crate::roll::{Finish, Roll};
use crate::runtime::context;
use crate::scheduler::Shared;
use crate::task::{Runnable, registry};

/// How often shutdown drops tasks again, at least, while somebody waits for it.
const DROP_PERIOD: Duration = Duration::from_millis(10);
/// The same when nobody waits any more.
const LONG_DROP_PERIOD: Duration = Duration::from_secs(1);

/// Whether a runtime still accepts work, which threads it has, and what has been said about them.
#[derive(Debug, Default)]
pub(crate) struct Lifecycle {
    roll: Roll,
    spawn_failed: AtomicBool,
}

impl Lifecycle {
    pub(crate) fn is_closed(&self) -> bool {
        self.roll.is_closed()
    }

    /// Says once that the system refuses threads: the runtime goes on with those it has.
    pub(crate) fn report_spawn_failure(&self, error: &io::Error) {
        // Relaxed: said once or twice, nobody minds.
        if !self.spawn_failed.swap(true, Relaxed) {
            say(&format!(
                "beat: the system refused a thread ({error}); going on with fewer. \
                 Raise the limit on threads (`ulimit -u`, pids.max) to get full parallelism back.\n"
            ));
        }
    }
}

/// Starts a thread of the runtime, which counts as alive until `body` has returned. `body` catches the panics of
/// user code; one of Beat's own ends the process ([`must_return`]).
///
/// # Errors
///
/// The system refused it, or the runtime's last reference is going.
pub(crate) fn start_thread(
    shared: &Shared,
    name: String,
    stack_size: Option<usize>,
    body: impl FnOnce(&Arc<Shared>) + Send + 'static,
) -> io::Result<Thread> {
    let shared = shared.arc().ok_or_else(|| io::Error::other("the runtime is being dropped"))?;
    let mut builder = thread::Builder::new().name(name);
    if let Some(size) = stack_size {
        builder = builder.stack_size(size);
    }
    // Dropped on the thread, or here if it is refused.
    let alive = Alive::new(shared);
    let spawned = builder.spawn(move || alive.run(body))?;
    Ok(spawned.thread().clone())
}

/// Calls `f`, and ends the process if it unwinds. Only a bug in Beat can do that, and what `what` has in hand, a
/// processor or somebody's frame, would be lost: others would wait for ever and nobody knew why, or worse.
pub(crate) fn must_return<R>(what: &'static str, f: impl FnOnce() -> R) -> R {
    let must_return = MustReturn(what);
    let result = f();
    must_return.has_returned();
    result
}

/// The same for what is no call: ends the process if it is dropped before [`has_returned`](Self::has_returned).
#[must_use = "dropped, it ends the process"]
#[derive(Debug)]
pub(crate) struct MustReturn(pub(crate) &'static str);

impl MustReturn {
    pub(crate) fn has_returned(self) {
        mem::forget(self);
    }
}

impl Drop for MustReturn {
    fn drop(&mut self) {
        say(&format!("beat: {} panicked outside user code. This is a bug in Beat; aborting.\n", self.0));
        std::process::abort();
    }
}

/// Writes to the standard error, or to nobody if that is closed. Not by `eprintln`, which panics then, and which test
/// harnesses keep to themselves.
pub(crate) fn say(message: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), message.as_bytes());
}

/// A thread that counts as alive.
#[derive(Debug)]
pub(crate) struct Alive(Arc<Shared>);

impl Alive {
    /// Before the thread is there.
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        shared.lifecycle.roll.enter();
        Self(shared)
    }

    /// On the thread.
    pub(crate) fn run(self, body: impl FnOnce(&Arc<Shared>)) {
        must_return("a thread of the scheduler", || body(&self.0));
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        match self.0.lifecycle.roll.leave() {
            Finish::Caller => finish(&self.0),
            Finish::Other => {}
        }
    }
}

/// Steps 1 to 5. `None` waits for as long as it takes.
pub(crate) fn shut_down(shared: &Shared, timeout: Option<Duration>) {
    if shared.is_forked() {
        // There is nobody to wait for, and what the threads held is theirs.
        return;
    }
    let deadline = timeout.and_then(deadline_after);
    shared.lifecycle.roll.close();
    registry::abort_closures(shared);
    for seat in shared.processors.sleepers() {
        shared.driver.unpark(&seat.parker);
    }
    if let Some(seat) = shared.duty.holder() {
        shared.driver.unpark(&seat.parker);
    }
    shared.watchdog.release();
    shared.admission.close();
    shared.blocking.release();

    let inside = context::is_own_thread(shared);
    // A thread of the pool cannot wait for itself: it leaves the rest to another one.
    let deadline = if inside { Some(Instant::now()) } else { deadline };
    drop_entered(shared);
    let all_ended = shared.lifecycle.roll.wait(deadline, DROP_PERIOD, || help_waiters(shared));
    if !(all_ended && finish_until(shared, deadline)) {
        leave_behind(shared);
    }
}

/// The time is up: a thread of its own does the rest.
fn leave_behind(shared: &Shared) {
    // With the last reference going there are no threads to wait for.
    let Some(kept) = shared.arc() else { return };
    let rest = move || {
        let all_gone = kept.lifecycle.roll.wait(None, LONG_DROP_PERIOD, || help_waiters(&kept));
        debug_assert!(all_gone, "it waits for as long as it takes");
        finish(&kept);
    };
    let builder = thread::Builder::new().name(format!("{}-shutdown", shared.config.thread_name.prefix()));
    if let Err(error) = builder.spawn(rest) {
        shared.lifecycle.report_spawn_failure(&error);
        if shared.lifecycle.roll.abandon() == Finish::Caller {
            finish(shared);
        }
    }
}

/// For threads that wait in user code: ends what they may be waiting for.
fn help_waiters(shared: &Shared) {
    drop_entered(shared);
    take_turn(shared);
}

fn drop_entered(shared: &Shared) {
    let _entered = shared.arc().map(|shared| context::Entered::contained(&shared));
    drop_waiting_tasks(shared);
}

/// Lets events come that a thread may be waiting for in a `block_on`, now that no worker sits in the driver. On a
/// thread of its own: this one may be inside somebody else's runtime, where tokio refuses a turn.
fn take_turn(shared: &Shared) {
    if !shared.driver.get().has_events() {
        return;
    }
    thread::scope(|scope| {
        let turn = || {
            // What third-party tasks in there spawn must find this runtime, and not start a global one.
            let _entered = shared.arc().map(|shared| context::Entered::new(&shared));
            if let Some(token) = shared.driver.try_enter() {
                token.turn();
            }
        };
        // A panic in there is a waker's, and has been reported; without a thread there is no turn this time.
        if let Ok(thread) = thread::Builder::new().spawn_scoped(scope, turn) {
            let _ = thread.join();
        }
    });
}

/// `None` if that is too far away to be told.
fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}

/// Steps 4 and 5: all threads have ended.
fn finish(shared: &Shared) {
    let is_finished = finish_until(shared, None);
    debug_assert!(is_finished, "it takes as long as it takes");
}

/// The same as far as there is time: `false` if it was up before all tasks were gone.
#[must_use = "if the time is up somebody else has to finish"]
fn finish_until(shared: &Shared, deadline: Option<Instant>) -> bool {
    // What destructors spawn must find this runtime, which refuses it, and not start a global one.
    let entered = shared.arc().map(|shared| context::Entered::contained(&shared));
    let all_gone = drop_tasks(shared, deadline);
    drop(entered);
    if all_gone {
        shared.driver.get().shutdown(deadline.map(|d| d.saturating_duration_since(Instant::now())));
    }
    all_gone
}

/// Step 4; `false` if the time was up before all tasks were gone.
pub(crate) fn drop_tasks(shared: &Shared, deadline: Option<Instant>) -> bool {
    loop {
        if drop_waiting_tasks(shared) {
            return true;
        }
        if deadline.is_some_and(|d| Instant::now() >= d) {
            return false;
        }
        // A task that a foreign thread is just spawning is in the registry, but not yet in a queue.
        std::thread::yield_now();
    }
}

/// Drops every task that is not running; `true` if there was none.
fn drop_waiting_tasks(shared: &Shared) -> bool {
    let wakers = registry::wakers(shared);
    let none = wakers.is_empty();
    for waker in wakers {
        waker.wake();
    }
    while let Some(runnable) = next_queued(shared) {
        drop(runnable);
    }
    none
}

fn next_queued(shared: &Shared) -> Option<Runnable> {
    let common =
        shared.take_injected(FirstAt::home(None)).or_else(|| shared.take_closure(FirstAt::home(None)));
    // A thread that is stuck in user code may be waiting for a task on its own queue, and the watchdog has gone.
    let from_threads = || shared.threads.all().iter().find_map(|thread| thread.steal_task());
    common
        .or_else(|| shared.addressed.pop_any())
        .or_else(|| shared.blocking.take_queued())
        .or_else(from_threads)
}
