//! The watchdog: a thread that runs no user code, and finds threads that are stuck in some.
//!
//! It exists only while there is something to guard: a driver in which nobody sits, or queued work that nobody
//! has been sent for. It ticks every millisecond while a thread that may be serving is in user code, backs off
//! to ten otherwise, and sleeps without ticking when there has been nothing to guard for a few ticks.
//! At a tick, for a thread that has been in one piece of user code since the tick before:
//!
//! * *serving* (a long poll): it counts as computing from here on; its queued tasks go to the injector, the
//!   driver is covered;
//! * *computing and asleep in the kernel* (its CPU time stands still and the kernel says so), while work waits
//!   and no processor is idle: its processor is taken and given to a sleeping thread or a new one. A thread that
//!   merely computes keeps it, or N long closures would become N threads that share time;
//! * *on duty*: it loses the duty, and another thread takes it up.
//!
//! # Falling asleep
//!
//! 1. lower `ticking` (SeqCst);
//! 2. look once more whether there is something to guard;
//! 3. if so raise it and go on, else park.
//!
//! Whoever queues work without sending for anybody calls [`Watchdog::ensure`]: 1. the push, whose swap of the
//! LIFO slot (SeqCst) or whose fence precedes 2. the read of `ticking` (SeqCst), 3. unpark if it is lowered. One
//! of the two sees the other.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::thread::{self, Thread};
use std::time::Duration;

use crate::local::{Remote, Role};
use crate::processors::fence;
use crate::scheduler::Shared;

const SHORT_TICK: Duration = Duration::from_millis(1);
const LONG_TICK: Duration = Duration::from_millis(10);
/// After how many ticks with nothing to guard it stops ticking.
const QUIET_TICKS: u32 = 3;
/// A thread that used less CPU than this in a tick, in nanoseconds, may be asleep.
const STANDSTILL: u64 = 50_000;

/// Whether the watchdog ticks, and how to wake it.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    ticking: AtomicBool,
    thread: OnceLock<Option<Thread>>,
}

impl Watchdog {
    /// Makes sure that it ticks, or will look again before it sleeps.
    pub(crate) fn ensure(&self, shared: &Shared) {
        // SeqCst: Falling asleep, step 2 of the caller.
        if !self.ticking.load(SeqCst) {
            self.wake(shared);
        }
    }

    #[cold]
    fn wake(&self, shared: &Shared) {
        if shared.is_closed() || self.ticking.swap(true, SeqCst) {
            return;
        }
        let thread = self.thread.get_or_init(|| match start(shared) {
            Ok(thread) => Some(thread),
            Err(error) => {
                shared.lifecycle.report_spawn_failure(&error);
                None
            }
        });
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    /// Whether the caller is the watchdog.
    pub(crate) fn is_current_thread(&self) -> bool {
        let own = |thread: &Thread| thread.id() == thread::current().id();
        matches!(self.thread.get(), Some(Some(thread)) if own(thread))
    }

    /// Unparks it for a shutdown.
    pub(crate) fn release(&self) {
        if let Some(Some(thread)) = self.thread.get() {
            thread.unpark();
        }
    }
}

fn start(shared: &Shared) -> std::io::Result<Thread> {
    let shared = shared.arc().ok_or_else(|| std::io::Error::other("the runtime is being dropped"))?;
    shared.lifecycle.thread_started();
    let spawned = thread::Builder::new()
        .name(format!("{}-watchdog", shared.config.thread_name))
        .stack_size(256 * 1024)
        .spawn({
            let shared = Arc::clone(&shared);
            move || {
                if let Some(mask) = &shared.config.unpinned {
                    // Pinned to a busy core it would come late; nothing else hangs on it.
                    let _ = mask.apply();
                }
                Ticker::default().run(&shared);
                if shared.lifecycle.thread_ended() {
                    crate::lifecycle::finish(&shared, None);
                }
            }
        });
    if spawned.is_err() && shared.lifecycle.thread_ended() {
        crate::lifecycle::finish(&shared, None);
    }
    Ok(spawned?.thread().clone())
}

/// What was seen of a thread at the tick before.
#[derive(Debug)]
struct Seen {
    epoch: u64,
    cpu_time: Option<u64>,
    tick: u64,
}

#[derive(Debug, Default)]
struct Ticker {
    seen: HashMap<*const Remote, Seen>,
    tick: u64,
    quiet: u32,
}

impl Ticker {
    fn run(&mut self, shared: &Shared) {
        let mut interval = SHORT_TICK;
        while !shared.is_closed() {
            thread::park_timeout(interval);
            shared.retired.watchdog_ticks.add_shared(1);
            let busy = self.look(shared);
            if work_waits(shared) {
                // As a rule somebody is on the way. If the system had refused a thread, nobody is.
                shared.wake_if_unattended();
            }
            interval = if busy { SHORT_TICK } else { (interval * 2).min(LONG_TICK) };
            self.quiet = if needs_guard(shared) { 0 } else { self.quiet + 1 };
            if self.quiet >= QUIET_TICKS {
                self.sleep(shared);
                interval = SHORT_TICK;
            }
        }
    }

    /// Falling asleep.
    fn sleep(&mut self, shared: &Shared) {
        let ticking = &shared.watchdog.ticking;
        ticking.store(false, SeqCst);
        fence();
        if needs_guard(shared) {
            ticking.store(true, SeqCst);
            return;
        }
        self.seen.clear();
        while !ticking.load(SeqCst) && !shared.is_closed() {
            thread::park();
        }
        self.quiet = 0;
    }

    /// One tick; whether some thread is in user code that may turn out a long poll.
    fn look(&mut self, shared: &Shared) -> bool {
        self.tick += 1;
        let mut busy = false;
        for remote in shared.threads.all() {
            let epoch = remote.epoch();
            if remote.role() == Role::Guest || epoch % 2 == 0 {
                continue;
            }
            let cpu_time = remote.clock().and_then(|clock| clock.cpu_time());
            let now = Seen { epoch, cpu_time, tick: self.tick };
            busy |= !remote.seat.is_computing();
            let before = self.seen.insert(Arc::as_ptr(&remote), now);
            let Some(before) = before.filter(|b| b.epoch == epoch && b.tick + 1 == self.tick) else {
                continue;
            };
            let used = cpu_time.zip(before.cpu_time).map(|(now, then)| now.saturating_sub(then));
            found_stuck(shared, &remote, used);
        }
        // Entries of threads that are gone, or have moved on.
        let tick = self.tick;
        self.seen.retain(|_, seen| seen.tick == tick);
        busy
    }
}

/// A thread has been in one piece of user code for a tick, and has `used` so much CPU in it.
fn found_stuck(shared: &Shared, remote: &Arc<Remote>, used: Option<u64>) {
    if remote.role() == Role::Duty {
        pass_tasks_on(shared, remote);
        if shared.duty.resign(remote) {
            // Its poll may just have ended: then it is on its way into the driver or to sleep, where nobody would
            // look for a thread without the duty. The token turns it round.
            shared.driver.unpark(&remote.seat.parker);
            shared.cover();
            shared.notify_injected();
        }
        return;
    }
    if remote.seat.processor().is_none() {
        return;
    }
    if !remote.seat.is_computing() {
        if shared.processors.begin_computing(&remote.seat) {
            shared.retired.long_polls.add_shared(1);
            pass_tasks_on(shared, remote);
            shared.cover();
        }
        return;
    }
    // Tasks may still come onto its queue: from the time before it was found, or by a racing wake.
    if remote.has_tasks() {
        pass_tasks_on(shared, remote);
        shared.notify_injected();
    }
    if shared.processors.census().idle > 0 || !work_waits(shared) {
        return;
    }
    let still = used.is_some_and(|used| used < STANDSTILL);
    let asleep = still && remote.clock().is_some_and(|clock| clock.is_asleep());
    if asleep && shared.processors.release(&remote.seat) {
        shared.retired.hand_overs.add_shared(1);
        fence();
        shared.wake();
    }
}

/// Moves a stuck thread's tasks to where others look.
fn pass_tasks_on(shared: &Shared, remote: &Remote) {
    while let Some(task) = remote.steal_task() {
        shared.injector.push(task);
    }
}

/// Whether work is queued that a free processor could begin.
fn work_waits(shared: &Shared) -> bool {
    let queued = !shared.closures.is_empty() || !shared.injector.is_empty();
    queued || shared.threads.all().iter().any(|t| t.has_tickets())
}

/// Whether there is something to guard: see the [module](self).
fn needs_guard(shared: &Shared) -> bool {
    let census = shared.processors.census();
    let uncovered = !shared.driver.is_covered() && census.idle < census.total;
    uncovered || work_waits(shared) || shared.threads.all().iter().any(|t| t.has_tasks())
}
