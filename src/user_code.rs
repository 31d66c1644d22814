//! What a thread that is inside user code does for the scheduler: it says that it computes, looks at the clock when it
//! forks, and hands its processor over when it waits.
//!
//! All of this runs on the user's stack, under whatever locks the user holds: nothing here runs anybody else's code,
//! and nothing here waits but for what the user waits for. Hand-over 1 to 4 are in [`processors`](crate::processors).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::Arc;
use std::thread;

use crate::carried::Carried;
use crate::heartbeat::{Beat, FIRST};
use crate::latent::Owner;
use crate::local::{self, Local, Role};
use crate::os;
use crate::parker::Parker;
use crate::processors::{Census, fence};
use crate::task::contained::Contained;
use crate::task::{self, Runnable, budget};
use crate::ticket::{Claim, Ticket};

/// This worker computes until the guard is dropped.
pub(crate) struct Computing(());

impl Computing {
    /// Does nothing on a thread that is no worker.
    pub(crate) fn begin() -> Self {
        local::with(|local| {
            if let Some(local) = local.filter(|l| l.remote.role() == Role::Worker) {
                local.note_cpu();
                begin_computing(local);
            }
        });
        Self(())
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        local::with(|local| {
            if let Some(local) = local.filter(|l| l.remote.role() == Role::Worker) {
                local.shared.processors.end_computing(local.seat());
            }
        });
    }
}

/// From here on others see to tasks and events.
fn begin_computing(local: &Local) {
    let shared = &*local.shared;
    if shared.processors.begin_computing(local.seat()) {
        local.computes();
        local.set_slice(shared.slice_to_compute());
        local.flush_tasks();
        shared.cover();
    }
}

/// A look at the clock, by a thread that forks.
///
/// # Panics
///
/// Unwinds if the closure it belongs to has been cancelled.
#[cold]
#[inline(never)]
pub(crate) fn beat(latent: Owner<'_>) {
    beat_at(latent, false);
}

/// The same at a fork of rayon's (see [`heartbeat`](crate::heartbeat)).
///
/// # Panics
///
/// As [`beat`].
#[cold]
#[inline(never)]
pub(crate) fn beat_publishing(latent: Owner<'_>) {
    beat_at(latent, true);
}

fn beat_at(latent: Owner<'_>, publish: bool) {
    let local = latent.local();
    if latent.is_empty() && local.puts_first_look_off() {
        // The first look is the first fork's that has something to put on offer: it may be the only one.
        latent.set_countdown(FIRST);
        task::unwind_if_cancelled();
        return;
    }
    let shared = &*local.shared;
    let now = os::now();
    let census = shared.processors.census();
    let census = Census { idle: shared.idle_cores(local, census), ..census };
    let offered = local.has_open_ticket();
    let (beat, is_long, may_yield) = local.look(now, census, publish, |heartbeat| {
        // A shielded or unwinding thread offers nothing: a cancellation must not unwind into it from a thief.
        let may_offer = !local.is_in_turn() && !crate::cancel::is_shielded() && !thread::panicking();
        let beat = if may_offer && !local.latent().is_empty() {
            heartbeat.decide(now, census, offered, local.is_wanted())
        } else {
            heartbeat.calm();
            Beat::Nothing
        };
        let may_yield = shared.duty_may_wait_for_core(now) && heartbeat.yield_is_due(now);
        (beat, heartbeat.is_long(now), may_yield)
    });
    if local.remote.role() != Role::Resident {
        shared.processors.forget_number(local.seat());
    }
    task::unwind_if_cancelled();
    if local.is_in_turn() {
        return;
    }
    if is_long && local.takes_tasks() && local.remote.role() == Role::Worker {
        local.counters().long_polls.add(1);
        begin_computing(local);
    }
    local.look_around(now);
    if local.seat().is_computing() && local.remote.role() == Role::Worker {
        local.set_slice(shared.slice_to_compute());
    }
    if beat != Beat::Nothing {
        shared.begin_taking_core(local);
        local.computes();
        if !offered || matches!(beat, Beat::Spread | Beat::Publish) {
            let jobs = if let Beat::Promote(jobs) = beat { jobs } else { 1 };
            for _ in 0..jobs {
                if !promote(local) {
                    break;
                }
            }
        }
        // Submit 2 and 3 for a ticket.
        fence();
        match beat {
            Beat::PromoteAndWake => shared.wake_if_unattended(),
            Beat::Spread => shared.wake(),
            // Those who sleep are worth waking only if it lasts.
            Beat::Publish if census.idle > 0 => shared.watchdog.ensure(shared),
            Beat::Publish | Beat::Promote(_) | Beat::Nothing => {}
        }
        local.has_offered(now);
    }
    if may_yield && local.remote.role() != Role::Duty {
        thread::yield_now();
    }
}

/// A fork that is no `join`: the thread looks at the clock now and then.
///
/// # Panics
///
/// As [`beat`].
pub(crate) fn count_fork() {
    // SAFETY: used within this call only.
    if let Some(latent) = unsafe { local::latent() }
        && latent.count_fork()
    {
        beat(latent);
    }
}

/// What code an item of work is, where one line spawns all of its kind.
pub(crate) fn place_of<F>() -> usize {
    std::any::type_name::<F>().as_ptr() as usize
}

/// `f`, a closure of such a kind, which says what code it is.
pub(crate) fn placed<F: FnOnce() -> R, R>(f: F) -> impl FnOnce() -> R {
    move || {
        local::with(|local| {
            if let Some(local) = local {
                local.set_place(place_of::<F>());
            }
        });
        let result = f();
        // Before whoever awaits the result is woken: that may take longer than the work.
        local::with(|local| {
            if let Some(local) = local {
                local.measure_item();
            }
        });
        result
    }
}

/// Runs a closure on top of the caller's stack: only where the pool has no other thread for it, and its user asks for
/// that or waits for it.
pub(crate) fn run_here(local: &Local, closure: Runnable) {
    let run = || local.with_claim(ptr::null(), || budget::without(|| closure.run()));
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        drop(Contained::new(payload));
    }
    // The closure has ended what the caller began.
    local.shared.processors.begin_computing(local.seat());
}

/// Runs a claimed half for its joiner.
pub(crate) fn run_half(local: &Local, claim: Claim) {
    claim.tell_thief(Arc::as_ptr(&local.remote).cast());
    let context = claim.context().cast::<task::Meta>();
    // SAFETY: the header outlives the half: its task ends after the join that waits for this claim.
    let entered = unsafe { task::Entered::new(context) };
    let carried = claim.carried();
    let in_place = carried.enter();
    let shared = &*local.shared;
    let start = local.work();
    let before = |ticket: &Ticket| {
        drop((in_place, carried, entered));
        ticket.set_work(local.worked_since(start));
    };
    let unpark = local.with_claim(claim.ticket(), || claim.run_with(before));
    // The joiner may have seen that the half is done, have gone on, and be in the driver already.
    shared.driver.finish_unpark(unpark);
}

/// Puts the oldest latent job on offer; `false` if there is none.
fn promote(local: &Local) -> bool {
    let carried = Carried::of_oldest(local.latent());
    let Some(job) = local.latent().take_oldest() else {
        return false;
    };
    let context = task::current();
    let joiner = crate::sync::Arc::clone(&local.seat().parker);
    let ticket = crate::sync::Arc::new(
        Ticket::new(job, context.cast(), joiner).carrying(carried).part_of(local.claim()),
    );
    // SAFETY: alive until reclaimed or done, which is up to this thread.
    unsafe { &*job }.set_ticket(crate::sync::Arc::into_raw(crate::sync::Arc::clone(&ticket)));
    local.push_ticket(ticket);
    local.counters().promotions.add(1);
    true
}

/// Waits inside user code until `done`, with this thread's processor handed over meanwhile.
pub(crate) fn wait(local: &Local, done: impl Fn() -> bool) {
    debug_assert!(!local.is_in_turn(), "its parker says that it is in the driver");
    if !local.shared.config.pool.may_grow() || local.remote.role() == Role::Resident {
        // There may be no other thread for what is addressed to this one's processor.
        while let Some(closure) = local.shared.addressed_to(local.seat()) {
            run_here(local, closure);
        }
    }
    hand_over(local);
    while !done() {
        local.seat().parker.park();
        local.awoke();
    }
    // Hand-over 4: with or without a processor, at once; without if what blocks is not over yet.
    if local.lent.get() == 0 {
        take_back(local);
    }
}

/// Waits until `done` on a thread with a state, or on one without that sleeps on `parker`.
pub(crate) fn wait_on(local: Option<&Local>, parker: &Parker, done: impl Fn() -> bool) {
    match local {
        Some(local) => wait(local, done),
        None => {
            while !done() {
                parker.park();
            }
        }
    }
}

/// Runs `f`, which will block, with this thread's processor handed over meanwhile.
pub(crate) fn lend<R>(local: &Local, f: impl FnOnce() -> R) -> R {
    struct TakeBack<'a>(&'a Local);
    impl Drop for TakeBack<'_> {
        fn drop(&mut self) {
            let lent = self.0.lent.get() - 1;
            self.0.lent.set(lent);
            if lent == 0 {
                // Hand-over 4.
                take_back(self.0);
            }
        }
    }
    hand_over(local);
    local.lent.set(local.lent.get() + 1);
    let _take_back = TakeBack(local);
    // It may block on a future.
    budget::without(f)
}

/// Hand-over 4.
fn take_back(local: &Local) {
    if local.shared.processors.acquire(local.seat()) {
        local.shared.end_taking_core(local);
    }
}

/// Hand-over 1 and 2.
pub(crate) fn hand_over(local: &Local) {
    // Such a guest has nothing to give up.
    if local.is_in_turn() || local.remote.role() == Role::Resident || local.is_bare_guest() {
        return;
    }
    let shared = &*local.shared;
    let queued = local.flush_tasks();
    if shared.resign_duty(&local.remote) {
        local.counters().hand_overs.add(1);
        shared.cover();
        return;
    }
    if !shared.processors.release(local.seat()) {
        if queued {
            shared.notify_injected();
        }
        return;
    }
    local.counters().hand_overs.add(1);
    let census = shared.processors.published();
    shared.wake_addressed();
    if census.idle == 0 {
        // Hand in 2, if it is not that somebody has taken the processor already.
        shared.cover();
    }
    let uncovered = census.serving() == 0 && !shared.driver.is_covered();
    if queued || uncovered || shared.has_work(local) {
        shared.wake_if_unattended();
    }
}
