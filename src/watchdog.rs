//! The watchdog: a thread that runs no user code, and finds threads that are stuck in some.
//!
//! It exists only while there is something to guard: a driver in which nobody sits, or queued work that nobody
//! has been sent for. It ticks every millisecond while a thread that may be serving is in user code, and while
//! threads are to be started beyond the soft cap; it backs off to ten while work only waits for those that compute;
//! and it sleeps without ticking when there has been nothing to guard for a few ticks.
//! At a tick, for a thread that has been in one piece of user code since the tick before:
//!
//! * *serving* (a long poll): it counts as computing from here on; its queued tasks go to the injector, the
//!   driver is covered;
//! * *computing and asleep in the kernel* (its CPU time stands still and the kernel says so), while work waits
//!   and no processor is idle: its processor is taken and given to a sleeping thread or a new one. A thread that
//!   merely computes keeps it, or N long closures would become N threads that share time. The same for a guest, from
//!   its first wait until the end of its region;
//! * *on duty*: it loses the duty, and another thread takes it up.
//!
//! tokio's timers fall due on a grid of milliseconds, and who waits for one in epoll waits whole milliseconds from where
//! the wait begins: up to one too long if anything else came between. While somebody computes and no processor is idle
//! the watchdog ticks on that grid, and lets whoever sits in the driver look (decision 9): a 1 ms timer whose 99th
//! percentile was three of them has one of little over two.
//!
//! How it falls asleep without leaving anything unguarded: [`ticking`](crate::ticking). Whoever leaves work queued
//! without sending for anybody calls [`Watchdog::ensure`].

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, Thread};
use std::time::Duration;

use crate::gathering::Follower;
use crate::lifecycle;
use crate::local::{Remote, Role};
use crate::os::{self, Slice};
use crate::processors::fence;
use crate::scheduler::Shared;
use crate::sync::Mutex;
use crate::ticking::Ticking;

const SHORT_TICK: Duration = Duration::from_millis(1);
const LONG_TICK: Duration = Duration::from_millis(10);
/// After how many ticks with nothing to guard it stops ticking.
const QUIET_TICKS: u32 = 3;
/// It calls nothing of the user's: a small stack will do.
const STACK_SIZE: usize = 256 * 1024;
/// A thread that used less than one part in so many of a tick may be asleep, or napping.
const STANDSTILL: u64 = 4;

/// Whether the watchdog ticks, and how to wake it.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    ticking: Ticking,
    /// `None` until it is first needed.
    thread: Mutex<Option<Thread>>,
}

impl Watchdog {
    /// Makes sure that it ticks, or will look again before it sleeps.
    pub(crate) fn ensure(&self, shared: &Shared) {
        // Ensure 2.
        if !self.ticking.is_raised() {
            self.wake(shared);
        }
    }

    #[cold]
    fn wake(&self, shared: &Shared) {
        // Ensure 3.
        if shared.is_closed() || !self.ticking.raise() {
            return;
        }
        let mut thread = self.thread.lock();
        if let Some(thread) = &*thread {
            thread.unpark();
            return;
        }
        let name = format!("{}-watchdog", shared.config.thread_name.prefix());
        match lifecycle::start_thread(shared, name, Some(STACK_SIZE), thread_main) {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                self.ticking.lower();
                shared.lifecycle.report_spawn_failure(&error);
            }
        }
    }

    /// Whether the caller is the watchdog.
    pub(crate) fn is_current_thread(&self) -> bool {
        self.thread.lock().as_ref().is_some_and(|thread| thread.id() == thread::current().id())
    }

    /// Unparks it for a shutdown.
    pub(crate) fn release(&self) {
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }
}

fn thread_main(shared: &Arc<Shared>) {
    // Pinned to a busy core it would come late; nothing else hangs on it.
    shared.config.gathered.leave();
    if shared.config.slices {
        os::set_slice(Slice::Short);
    }
    os::sleep_on_time();
    Ticker::default().run(shared);
}

/// What was seen of a thread at the tick before.
#[derive(Debug)]
struct Seen {
    epoch: u64,
    at: u64,
    cpu_time: Option<u64>,
    tick: u64,
}

#[derive(Debug, Default)]
struct Ticker {
    seen: HashMap<*const Remote, Seen>,
    follower: Follower,
    tick: u64,
    quiet: u32,
}

impl Ticker {
    fn run(&mut self, shared: &Shared) {
        let mut interval = SHORT_TICK;
        while !shared.is_closed() {
            let census = shared.processors.census();
            let on_grid = interval == SHORT_TICK && census.idle == 0 && census.computing > 0;
            let edge = on_grid.then(|| shared.driver.get().until_edge()).flatten();
            thread::park_timeout(edge.map_or(interval, after_half_a_tick));
            if edge.is_some() {
                shared.driver.get().nudge();
            }
            shared.retired.watchdog_ticks.add_shared(1);
            shared.follow_limits(os::now());
            self.follower.follow(&shared.config.gathered);
            let busy = self.look(shared);
            // As a rule somebody is on the way already. If a thread was refused, nobody is.
            shared.cover();
            let waits = shared.work_waits();
            if waits {
                shared.wake_addressed();
                shared.wake_if_unattended();
            }
            // A processor that is idle all the same waits for a thread, and beyond the soft cap for a tick.
            let starts = waits && shared.processors.census().idle > 0;
            let guards = needs_guard(shared);
            // With nothing to guard it is about to sleep: a long poll that begins before that must not wait longer
            // than one that begins after it, and wakes it.
            let is_short = busy || starts || !guards;
            interval = if is_short { SHORT_TICK } else { (interval * 2).min(LONG_TICK) };
            self.quiet = if guards { 0 } else { self.quiet + 1 };
            if self.quiet >= QUIET_TICKS {
                self.sleep(shared);
                interval = SHORT_TICK;
            }
        }
    }

    /// Falling asleep.
    fn sleep(&mut self, shared: &Shared) {
        let ticking = &shared.watchdog.ticking;
        if ticking.fall_asleep(|| needs_guard(shared), || shared.is_closed(), thread::park) {
            self.seen.clear();
            self.quiet = 0;
            // Whoever has woken it may be in the long poll already: the first tick can tell.
            self.look(shared);
        }
    }

    /// One tick; whether some thread is in user code that may turn out a long poll.
    fn look(&mut self, shared: &Shared) -> bool {
        self.tick += 1;
        let mut busy = false;
        for remote in shared.threads.all() {
            let epoch = remote.epoch();
            if !is_in_reach(&remote, epoch) {
                continue;
            }
            let cpu_time = remote.clock().and_then(os::ThreadClock::cpu_time);
            let seen = Seen { epoch, at: os::now(), cpu_time, tick: self.tick };
            busy |= !remote.seat.is_computing();
            let before = self.seen.insert(Arc::as_ptr(&remote), seen);
            let Some(before) = before.filter(|b| b.epoch == epoch && b.tick + 1 == self.tick) else {
                continue;
            };
            let used = cpu_time.zip(before.cpu_time).map(|(now, then)| now.saturating_sub(then));
            let still = used
                .is_some_and(|used| used.saturating_mul(STANDSTILL) < os::now().saturating_sub(before.at));
            found_stuck(shared, &remote, still);
        }
        // Entries of threads that are gone, or have moved on.
        let tick = self.tick;
        self.seen.retain(|_, seen| seen.tick == tick);
        busy
    }
}

/// Until an edge of the driver's grid, but no shorter than what a thread must stay in one piece of code to be found.
fn after_half_a_tick(edge: Duration) -> Duration {
    if edge < SHORT_TICK / 2 { edge + SHORT_TICK } else { edge }
}

/// Whether a thread is in user code, and has something that may have to be taken from it.
fn is_in_reach(remote: &Remote, epoch: u64) -> bool {
    match remote.role() {
        Role::Guest => remote.seat.processor().is_some(),
        Role::Worker | Role::Duty => epoch % 2 == 1,
        // It serves nobody, and keeps its processor.
        Role::Resident => false,
    }
}

/// A thread has been in one piece of user code for a tick, and has used hardly any CPU in it if it stands `still`.
fn found_stuck(shared: &Shared, remote: &Arc<Remote>, still: bool) {
    if remote.role() == Role::Duty {
        pass_tasks_on(shared, remote);
        if shared.duty.dismiss(&remote.seat, &shared.driver, || remote.set_role(Role::Worker)) {
            lengthen_slice(shared, remote);
            // Resign 2.
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
            lengthen_slice(shared, remote);
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
    if shared.processors.census().idle > 0 || !shared.work_waits() {
        return;
    }
    let asleep = still && remote.clock().is_some_and(os::ThreadClock::is_asleep);
    if asleep && shared.processors.take_away(&remote.seat) {
        shared.retired.hand_overs.add_shared(1);
        fence();
        shared.wake();
    }
}

/// Whoever serves now must be able to preempt it.
fn lengthen_slice(shared: &Shared, remote: &Remote) {
    if shared.config.slices {
        remote.lengthen_slice(shared.slice_to_compute());
    }
}

/// Moves a stuck thread's tasks to where others look.
fn pass_tasks_on(shared: &Shared, remote: &Remote) {
    let home = shared.config.distances.home_of(|| remote.seat.home());
    while let Some(task) = remote.steal_task() {
        shared.injector.push(home, task);
    }
}

/// Whether there is something to guard: see the [module](self).
fn needs_guard(shared: &Shared) -> bool {
    !shared.driver.is_covered() || shared.work_waits() || shared.threads.all().iter().any(|t| t.has_tasks())
}
