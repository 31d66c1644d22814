//! The promotion ticket: one half of a `join`, on offer to other threads.
//!
//! A heartbeat puts the oldest latent half of a thread on offer by a small heap object, the [`Ticket`]. Two
//! parties race for the half: the *joiner*, whose stack frame holds it, and at most one *thief*. Whoever loses
//! the race never touches the frame, which is what lets the joiner return while its ticket still lies in
//! somebody's queue.
//!
//! ```text
//!              1 reclaim (joiner)
//!   OFFERED ───────────────────────▶ RECLAIMED     the joiner runs the half inline
//!      │
//!      │ 2 claim (thief)
//!      ▼          3 announce (joiner)
//!   CLAIMED ───────────────────────▶ WAITING       the joiner sleeps
//!      │ 4 complete (thief)             │ 4 complete (thief), then unpark
//!      ▼                                ▼
//!    DONE ◀─────────────────────────────┘          the result lies in the frame
//! ```
//!
//! **No wake-up is lost.** The joiner sleeps only after step 3 succeeded, so the thief's swap (step 4) finds
//! `WAITING` and unparks; if step 4 came first, step 3 fails and the joiner does not sleep.
//!
//! **No freed memory is touched.** After a `claim` that succeeds the frame lives until `complete`, because the
//! joiner does not return before it has seen `DONE`. After the swap of step 4 the thief touches the ticket and
//! the parker only, and holds a reference count on both.
//!
//! Rejected: a state word inside the frame (the loser of the race would read a frame that may be gone), and a
//! separate latch object (a second allocation for one bit).

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;

use crate::carried::{Carried, Slot};
use crate::parker::{Parker, Unpark};
use crate::sync::Arc;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};

const OFFERED: u32 = 0;
const RECLAIMED: u32 = 1;
const CLAIMED: u32 = 2;
const WAITING: u32 = 3;
const DONE: u32 = 4;

/// The part of a stack-allocated half that the scheduler sees: its links in the latent list, and how to run it.
///
/// | field | who | when |
/// |---|---|---|
/// | `prev` | owner thread | written at the push; with the feature `tracing` null from the promotion on |
/// | `next` | owner thread | written when a job is pushed above; unset before |
/// | `ticket` | owner thread | written at promotion, read after `a`; unset before |
/// | `execute` | owner; thief | written at the push, read by the winner of the claim |
///
/// What is unset is not even zeroed: each store counts in a fork.
#[derive(Debug)]
pub(crate) struct JobHeader {
    pub(crate) prev: Cell<*const JobHeader>,
    next: Cell<MaybeUninit<*const JobHeader>>,
    ticket: Cell<MaybeUninit<*const Ticket>>,
    execute: unsafe fn(*const JobHeader),
}

impl JobHeader {
    #[inline]
    pub(crate) const fn new(execute: unsafe fn(*const JobHeader)) -> Self {
        Self {
            prev: Cell::new(ptr::null()),
            next: Cell::new(MaybeUninit::uninit()),
            ticket: Cell::new(MaybeUninit::uninit()),
            execute,
        }
    }

    #[inline]
    pub(crate) fn set_next(&self, next: *const JobHeader) {
        self.next.set(MaybeUninit::new(next));
    }

    /// # Safety
    ///
    /// A job has been pushed above this one.
    pub(crate) unsafe fn next(&self) -> *const JobHeader {
        // SAFETY: set then.
        unsafe { self.next.get().assume_init() }
    }

    pub(crate) fn set_ticket(&self, ticket: *const Ticket) {
        self.ticket.set(MaybeUninit::new(ticket));
    }

    /// # Safety
    ///
    /// The job has been promoted.
    pub(crate) unsafe fn ticket(&self) -> *const Ticket {
        // SAFETY: set then.
        unsafe { self.ticket.get().assume_init() }
    }
}

/// One promoted half. See the [module](self).
#[derive(Debug)]
pub(crate) struct Ticket {
    state: AtomicU32,
    /// *Frame*: points into the joiner's stack; alive from the promotion until the joiner has reclaimed it or
    /// has seen `DONE`. Only the winner of the claim reads through it.
    job: *const JobHeader,
    /// What travels with the work: the header of the task or closure the half belongs to, which outlives it.
    context: *const (),
    /// What else does (feature `tracing`).
    carried: Slot,
    joiner: Arc<Parker>,
    /// The ticket of the half that promoted this one; null if none did. Only compared.
    root: *const Ticket,
    /// Who claimed it: told by the thief, and only compared. Relaxed: who does not see it yet looks again.
    thief: AtomicPtr<()>,
    /// The joiner looks for a part of the half. Relaxed: a request.
    is_wanted: AtomicBool,
    /// How much work was in the half, in nanoseconds. Relaxed: told before step 4, read after `DONE`.
    work: AtomicU64,
}

// SAFETY: `root` is never dereferenced; `job` and `context` are only dereferenced by the one party that won the claim
// (see *Frame*); the half behind `job` is `Send`, which `join` demands of it. All else in a ticket is atomic or
// reference-counted.
unsafe impl Send for Ticket {}
// SAFETY: as above; shared access goes through the atomic state alone.
unsafe impl Sync for Ticket {}

impl Ticket {
    /// Puts the half at `job` on offer.
    pub(crate) fn new(job: *const JobHeader, context: *const (), joiner: Arc<Parker>) -> Self {
        Self {
            state: AtomicU32::new(OFFERED),
            job,
            context,
            carried: Slot::empty(),
            joiner,
            root: ptr::null(),
            thief: AtomicPtr::new(ptr::null_mut()),
            is_wanted: AtomicBool::new(false),
            work: AtomicU64::new(0),
        }
    }

    /// The same, promoted by the half of `root`, if that is not null.
    pub(crate) fn part_of(self, root: *const Ticket) -> Self {
        Self { root, ..self }
    }

    /// The same, with what goes with the half.
    pub(crate) fn carrying(self, carried: Carried) -> Self {
        Self { carried: Slot::of(carried), ..self }
    }

    /// Step 1, joiner: takes the half back; `false` if a thief has it.
    pub(crate) fn reclaim(&self) -> bool {
        let won = self.leave_offer(RECLAIMED);
        if won {
            // A ticket may lie about for long: it keeps nothing.
            drop(self.carried.take());
        }
        won
    }

    /// Step 2, thief: wins the half, or `None` if the joiner took it back.
    pub(crate) fn claim(ticket: Arc<Self>) -> Option<Claim> {
        ticket.leave_offer(CLAIMED).then_some(Claim(ticket))
    }

    fn leave_offer(&self, winner: u32) -> bool {
        // Relaxed: `OFFERED` is what the ticket was made with, so there is no store to acquire from. The frame was
        // written before the ticket was made, and who has the ticket has it from a queue that orders the two. The
        // loser reads nothing.
        self.state.compare_exchange(OFFERED, winner, Relaxed, Relaxed).is_ok()
    }

    /// Joiner: whether the thief has finished, and the result may be read.
    pub(crate) fn is_done(&self) -> bool {
        // Acquire pairs with the release of step 4: the result is in the frame.
        self.state.load(Acquire) == DONE
    }

    /// Joiner: whether it looks for a part of the half, to run it meanwhile (see [`leap`](crate::leap)).
    pub(crate) fn want(&self, wanted: bool) {
        self.is_wanted.store(wanted, Relaxed);
    }

    /// Thief: whether the joiner does.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Relaxed)
    }

    /// Thief: how much work was in the half.
    pub(crate) fn set_work(&self, nanoseconds: u64) {
        self.work.store(nanoseconds, Relaxed);
    }

    /// Joiner, when the thief has finished.
    pub(crate) fn work(&self) -> u64 {
        self.work.load(Relaxed)
    }

    /// Whether the half of `root` promoted this one.
    pub(crate) fn is_part_of(&self, root: &Arc<Self>) -> bool {
        ptr::eq(self.root, Arc::as_ptr(root))
    }

    /// Whether somebody may still claim it: if not, nobody ever will.
    pub(crate) fn is_on_offer(&self) -> bool {
        // Relaxed: whoever acts on a yes races for the claim.
        self.state.load(Relaxed) == OFFERED
    }

    /// Whether it is `thief` who has the half.
    pub(crate) fn is_claimed_by(&self, thief: *const ()) -> bool {
        ptr::eq(self.thief.load(Relaxed), thief)
    }

    /// Step 3, joiner: says that it is going to sleep; `false` if the thief has finished. Once is enough.
    #[must_use = "if the thief has finished nobody will unpark the joiner"]
    pub(crate) fn announce(&self) -> bool {
        // If it fails, acquire pairs with the release of step 4: the joiner reads the result. Else Relaxed: neither
        // party reads anything of the other's yet.
        self.state.compare_exchange(CLAIMED, WAITING, Relaxed, Acquire).is_ok()
    }

    /// Step 4, thief.
    fn complete(&self) -> Unpark {
        // Release publishes the result in the frame, which may be gone right after.
        if self.state.swap(DONE, Release) == WAITING { self.joiner.unpark() } else { Unpark::Done }
    }
}

/// Evidence that this thread won a half: it must run it.
#[must_use = "the joiner waits for a claimed half for ever"]
#[derive(Debug)]
pub(crate) struct Claim(Arc<Ticket>);

impl Claim {
    /// The header of the task or closure the half belongs to.
    pub(crate) fn context(&self) -> *const () {
        self.0.context
    }

    /// The ticket of the half.
    pub(crate) fn ticket(&self) -> *const Ticket {
        Arc::as_ptr(&self.0)
    }

    /// Says who has the half.
    pub(crate) fn tell_thief(&self, thief: *const ()) {
        self.0.thief.store(thief.cast_mut(), Relaxed);
    }

    /// What else goes with the half: once.
    pub(crate) fn carried(&self) -> Carried {
        self.0.carried.take()
    }

    /// Runs the half, then `before`, and reports to the joiner. The half catches its own panics.
    pub(crate) fn run_with(self, before: impl FnOnce(&Ticket)) -> Unpark {
        let job = self.0.job;
        // SAFETY: *Frame*: this claim won the half and has not completed it, so the frame is alive.
        let execute = unsafe { (*job).execute };
        // SAFETY: `execute` wants the live header it was stored in, once; winning the claim is once.
        unsafe { execute(job) };
        before(&self.0);
        self.0.complete()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_a_part_of_its_root_alone() {
        let ticket = || Ticket::new(ptr::null(), ptr::null(), Arc::new(Parker::new()));
        let [root, stranger] = [(); 2].map(|()| Arc::new(ticket()));
        let part = ticket().part_of(Arc::as_ptr(&root));
        assert!(part.is_part_of(&root) && !part.is_part_of(&stranger));
        assert!(!root.is_part_of(&root), "none promoted it");
    }
}
