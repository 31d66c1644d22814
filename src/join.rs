//! `join`: fork two closures, at the price of a few plain stores unless somebody is idle.
//!
//! `b` goes onto the thread's list of *latent* jobs as a job on the caller's stack; `a` runs; if `b` is still
//! latent then, it runs inline. A [heartbeat](crate::heartbeat) may put the oldest latent job of a thread on
//! offer meanwhile; then the caller takes it back if nobody has come for it ([`Ticket::reclaim`]), or waits:
//!
//! 1. it looks for a while whether the thief has finished, and runs parts of the half meanwhile ([`leap`]);
//! 2. it announces that it waits (step 3 of the [ticket](crate::ticket)); if the thief has finished, step 5;
//! 3. it [hands over its processor](crate::processors#handing-over), since it will not use it;
//! 4. it parks until the thief has finished;
//! 5. it takes a processor if one is idle, and goes on at once in either case.
//!
//! Nothing but parts of the half runs on the caller's stack meanwhile, so a lock held across `join` meets no
//! stranger: a program deadlocks on Beat only if its sequential form does. (rayon#592, rayon#1174: there a waiting
//! `join` runs whatever it finds.)
//!
//! *Frame.* The job must not be freed under a thief. It leaves the scope of [`join_here`] in four ways, and in
//! each nobody refers to it any more: popped while latent; reclaimed; done; or, if `a` unwinds, by the guard
//! [`Unwinding`], which does one of these three. Leaving it out frees frames under thieves.

use std::any::Any;
use std::cell::UnsafeCell;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::latent::Owner;
use crate::leap;
use crate::local::{self, Local};
use crate::runtime::outside;
use crate::task::contained::Contained;
use crate::ticket::{JobHeader, Ticket};

/// Runs `a` and `b`, possibly in parallel, and returns both results.
///
/// `a` runs on the calling thread at once. `b` runs there after it, unless an idle worker has taken it by then.
/// A fork that nobody takes costs a few instructions, so fork down to leaves of a few dozen nanoseconds: there
/// is no grain size to tune. Closures that capture by `move` compile to the best code.
///
/// Inside a Beat task or closure the workers of its runtime help; elsewhere those of the global runtime, which
/// is started if there is none.
///
/// # Examples
///
/// ```
/// fn sum(values: &[u64]) -> u64 {
///     match values {
///         [] => 0,
///         [value] => *value,
///         _ => {
///             let (left, right) = values.split_at(values.len() / 2);
///             let (left, right) = beat::join(move || sum(left), move || sum(right));
///             left + right
///         }
///     }
/// }
/// assert_eq!(sum(&(0..1000).collect::<Vec<_>>()), 499_500);
/// ```
///
/// # Panics
///
/// A panic in either closure reaches the caller, after the other one has finished or been taken back. If `a`
/// panics, `b` may not run at all; if both panic, the payload is `a`'s. Inside a cancelled closure `join` itself
/// unwinds, see [`JoinHandle::abort`](crate::JoinHandle::abort).
///
/// Source of the algorithm: heartbeat scheduling (Acar et al., PLDI 2018), in the form with a latent list that
/// Spice (judofyr/spice) and chili use.
// Two forms, see `fits_registers`.
#[inline(always)]
pub fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    if const { fits_registers::<A>() && fits_registers::<B>() && fits_registers::<(RA, RB)>() } {
        join_apart(a, b)
    } else {
        join_inlined(a, b)
    }
}

/// Whether a value is passed in registers: of two words or less. A `join` of such closures and results is a function
/// of its own, and its caller saves no registers on the way to a leaf: a function that has to clean up when it unwinds,
/// as a fork does, saves them before anything else. Of others it is inlined: out of line, closures and results
/// go through memory, and what was written by halves is read whole, which the processor cannot forward (6 ns).
const fn fits_registers<T>() -> bool {
    mem::size_of::<T>() <= 2 * mem::size_of::<usize>()
}

#[inline(never)]
fn join_apart<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    join_inlined(a, b)
}

#[inline(always)]
fn join_inlined<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    // SAFETY: used within this call only; whatever `a` or `b` install steps aside before they return.
    match unsafe { local::latent() } {
        Some(latent) => join_here::<false, _, _, _, _>(latent, a, b),
        // As a pair, made on this path: passed by reference one by one, both closures would have to lie in memory
        // on the other path too, at the price of store-forwarding stalls (3 ns a join).
        None => outside::join((a, b)),
    }
}

/// A half on its caller's stack.
#[repr(C)]
struct StackJob<B, RB> {
    /// First, so that a pointer to the header is one to the job. `prev` pointing to the header itself says that
    /// the half is settled: nobody has it, and [`Unwinding`] has nothing to do.
    header: JobHeader,
    /// Moved out once, by whoever runs or drops the half.
    b: UnsafeCell<ManuallyDrop<B>>,
    /// Written by whoever ran the half by [`execute`](Self::execute): a thief, before it completes the ticket, or the joiner.
    result: UnsafeCell<MaybeUninit<Result<RB, Box<dyn Any + Send>>>>,
}

impl<B: FnOnce() -> RB, RB> StackJob<B, RB> {
    #[inline]
    fn new(b: B) -> Self {
        Self {
            header: JobHeader::new(Self::execute),
            b: UnsafeCell::new(ManuallyDrop::new(b)),
            result: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Runs a half through its header: a thief's, or the joiner's own that was promoted and taken back.
    ///
    /// # Safety
    ///
    /// 1. `job` is the header of a live job of this type. 2. The caller has the half for itself (popped, reclaimed or
    ///    claimed), and calls this once.
    unsafe fn execute(job: *const JobHeader) {
        // SAFETY: the header is the first field of a `repr(C)` struct, and alive: 1.
        let job = unsafe { &*job.cast::<Self>() };
        // SAFETY: 2.
        let b = unsafe { job.take() };
        let result = catch_unwind(AssertUnwindSafe(b));
        // SAFETY: 2; the joiner reads the cell only after this has returned on its own thread, or the ticket is done.
        unsafe { (*job.result.get()).write(result) };
    }
}

impl<B, RB> StackJob<B, RB> {
    /// # Safety
    ///
    /// The caller has the half for itself (popped, reclaimed or claimed), and calls this once.
    #[inline]
    unsafe fn take(&self) -> B {
        // SAFETY: the caller is the only one to look at the cell.
        let b = unsafe { &mut *self.b.get() };
        // SAFETY: once, says the caller.
        unsafe { ManuallyDrop::take(b) }
    }

    /// What running the half gave.
    ///
    /// # Safety
    ///
    /// [`execute`](Self::execute) has returned on this thread, or the ticket is done; the result has not been taken.
    unsafe fn result(&self) -> Result<RB, Box<dyn Any + Send>> {
        // SAFETY: whoever ran the half will not look at the frame again, and the joiner is here.
        let result = unsafe { &*self.result.get() };
        // SAFETY: written by `execute`; taken once, says the caller.
        unsafe { result.assume_init_read() }
    }

    fn mark_settled(&self) {
        self.header.prev.set(&raw const self.header);
    }

    /// The caller unwinds: pops, reclaims or waits, and drops the half (after it has run, if `BOTH`) or its result.
    #[cold]
    #[inline(never)]
    fn abandon<const BOTH: bool>(&self, latent: Owner<'_>)
    where
        B: FnOnce() -> RB,
    {
        if std::ptr::eq(self.header.prev.get(), &raw const self.header) {
            return;
        }
        let reclaimed = latent.pop(&self.header) || {
            // SAFETY: neither settled nor latent, hence promoted.
            let ticket = unsafe { self.header.ticket() };
            settle(latent.local(), ticket)
        };
        if reclaimed {
            if !BOTH || crate::cancel::is_cancelled() {
                // SAFETY: popped or reclaimed.
                drop(unsafe { self.take() });
                return;
            }
            // SAFETY: 1: this frame's own job. 2: popped or reclaimed, and not taken.
            unsafe { Self::execute(&raw const self.header) };
        }
        // Its result, or its panic, goes nowhere: `a`'s is on its way.
        // SAFETY: run here, or done by a thief.
        drop(Contained::new(unsafe { self.result() }));
    }
}

/// Settles the half if the caller unwinds. It keeps the list that the half was pushed to: user code may have left
/// another one installed.
struct Unwinding<'a, const BOTH: bool, B: FnOnce() -> RB, RB> {
    latent: Owner<'a>,
    job: &'a StackJob<B, RB>,
}

impl<const BOTH: bool, B: FnOnce() -> RB, RB> Drop for Unwinding<'_, BOTH, B, RB> {
    // Inlined into the landing pad, so that the guard lives in registers and a fork does not store it.
    #[inline(always)]
    fn drop(&mut self) {
        self.job.abandon::<BOTH>(self.latent);
    }
}

/// `join` on a thread that has a state of its own. Inlined always, as [`join`]. `BOTH`, for rayon: `b` runs also if `a`
/// panics, and the fork may be published.
#[inline(always)]
pub(crate) fn join_here<const BOTH: bool, A, B, RA, RB>(latent: Owner<'_>, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    let job = StackJob::new(b);
    let unwinding = Unwinding::<BOTH, _, _> { latent, job: &job };
    // SAFETY: *Frame*.
    if unsafe { latent.push((&raw const job).cast()) } {
        if BOTH {
            crate::user_code::beat_publishing(latent);
        } else {
            crate::user_code::beat(latent);
        }
    }
    let ra = a();
    if latent.pop(&job.header) {
        if latent.count_fork() {
            // After the pop: the next job is the one below, not the one about to run here.
            beat_owning(latent, &job);
        }
        // SAFETY: popped while latent: nobody else has seen the job.
        let b = unsafe { job.take() };
        mem::forget(unwinding);
        (ra, b())
    } else {
        let rb = finish_promoted(latent, &job);
        mem::forget(unwinding);
        (ra, rb.unwrap_or_else(|payload| resume_unwind(payload)))
    }
}

/// A beat while this frame owns a popped half: if the beat unwinds, the half is dropped unrun.
#[cold]
fn beat_owning<B, RB>(latent: Owner<'_>, job: &StackJob<B, RB>) {
    if latent.is_empty() {
        // Nothing to put on offer: the thread is heard at its next fork, which will have something.
        return;
    }
    struct DropHalf<'a, B, RB>(&'a StackJob<B, RB>);
    impl<B, RB> Drop for DropHalf<'_, B, RB> {
        fn drop(&mut self) {
            self.0.mark_settled();
            // SAFETY: popped while latent, and not run: the beat unwinds past the place where it would be.
            drop(unsafe { self.0.take() });
        }
    }
    let half = DropHalf(job);
    crate::user_code::beat(latent);
    mem::forget(half);
}

/// The half was promoted: takes it back and runs it, or waits for whoever has it.
#[cold]
fn finish_promoted<B, RB>(latent: Owner<'_>, job: &StackJob<B, RB>) -> Result<RB, Box<dyn Any + Send>>
where
    B: FnOnce() -> RB,
{
    // SAFETY: not latent any more, hence promoted.
    let ticket = unsafe { job.header.ticket() };
    let reclaimed = settle(latent.local(), ticket);
    job.mark_settled();
    if reclaimed {
        // As a thief runs it: where `b` is called it may be inlined, and this place is rare.
        // SAFETY: 1: the caller's own job. 2: reclaimed, and not taken.
        unsafe { StackJob::<B, RB>::execute(&raw const job.header) };
    }
    // SAFETY: run here, or done by a thief.
    unsafe { job.result() }
}

/// Takes a promoted half back (`true`), or waits until its thief has finished (`false`). Lets go of the
/// joiner's reference to the ticket.
#[cold]
fn settle(local: &Local, ticket: *const Ticket) -> bool {
    // SAFETY: the promotion stored what `Arc::into_raw` gave; it is taken back once, here.
    let ticket = unsafe { crate::sync::Arc::from_raw(ticket) };
    if ticket.reclaim() {
        local.discard_ticket(crate::sync::Arc::as_ptr(&ticket));
        return true;
    }
    let start = local.work();
    leap::leap(local, &ticket);
    if ticket.announce() {
        crate::user_code::wait(local, || ticket.is_done());
    }
    local.waited(start, ticket.work());
    false
}

const _: () = assert!(mem::offset_of!(StackJob<fn(), ()>, header) == 0);
