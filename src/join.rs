//! `join`: fork two closures, at the price of a few plain stores unless somebody is idle.
//!
//! `b` goes onto the thread's list of *latent* jobs as a job on the caller's stack; `a` runs; if `b` is still
//! latent then, it runs inline. A [heartbeat](crate::heartbeat) may put the oldest latent job of a thread on
//! offer meanwhile; then the caller takes it back if nobody has come for it ([`Ticket::reclaim`]), or waits:
//!
//! 1. it looks for [`SPINS`] rounds whether the thief has finished;
//! 2. it announces that it waits (step 3 of the [ticket](crate::ticket)); if the thief has finished, step 5;
//! 3. it [hands over its processor](crate::processors#handing-over), since it will not use it;
//! 4. it parks until the thief has finished;
//! 5. it takes a processor if one is idle, and goes on at once in either case.
//!
//! Nothing else ever runs on the caller's stack meanwhile, so a lock held across `join` meets no stranger: a
//! program deadlocks on Beat only if its sequential form does. (rayon#592, rayon#1174: there a waiting `join`
//! runs whatever it finds.)
//!
//! *Frame.* The job must not be freed under a thief. It leaves the scope of [`join_here`] in four ways, and in
//! each nobody refers to it any more: popped while latent; reclaimed; done; or, if `a` unwinds, by the guard
//! [`Unwinding`], which does one of these three. Leaving this guard out frees frames under thieves.

use std::any::Any;
use std::cell::UnsafeCell;
use std::mem::{self, ManuallyDrop, MaybeUninit};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::local::{self, Local};
use crate::runtime::outside;
use crate::ticket::{JobHeader, Ticket};

/// How often a joiner looks before it parks: about as long as a park and an unpark take.
const SPINS: u32 = 200;

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
#[inline]
pub fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    local::with(|local| match local {
        Some(local) => join_here(local, a, b),
        None => outside::join(a, b),
    })
}

/// A half on its caller's stack.
#[repr(C)]
struct StackJob<B, RB> {
    /// First, so that a pointer to the header is one to the job.
    header: JobHeader,
    /// Moved out once, by whoever runs or drops the half.
    b: UnsafeCell<ManuallyDrop<B>>,
    /// Written by a thief before it completes the ticket.
    result: UnsafeCell<MaybeUninit<Result<RB, Box<dyn Any + Send>>>>,
}

impl<B, RB> StackJob<B, RB>
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    #[inline]
    fn new(b: B) -> Self {
        Self {
            header: JobHeader::new(Self::execute),
            b: UnsafeCell::new(ManuallyDrop::new(b)),
            result: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

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

    /// What the thief has written.
    ///
    /// # Safety
    ///
    /// The ticket is done, and the result has not been taken.
    unsafe fn result(&self) -> Result<RB, Box<dyn Any + Send>> {
        // SAFETY: the thief will not look at the frame again, and the joiner is here.
        let result = unsafe { &*self.result.get() };
        // SAFETY: written before the ticket was done; taken once, says the caller.
        unsafe { result.assume_init_read() }
    }

    /// Runs a half that was claimed.
    ///
    /// # Safety
    ///
    /// `job` is the header of a live job of this type, and the caller won its claim.
    unsafe fn execute(job: *const JobHeader) {
        // SAFETY: the header is the first field of a `repr(C)` struct, and alive.
        let job = unsafe { &*job.cast::<Self>() };
        // SAFETY: the claim is won once.
        let b = unsafe { job.take() };
        let result = catch_unwind(AssertUnwindSafe(b));
        // SAFETY: the joiner reads the cell after the ticket is done, and nobody else does.
        unsafe { (*job.result.get()).write(result) };
    }
}

/// `join` on a thread that has a state of its own.
#[inline]
pub(crate) fn join_here<A, B, RA, RB>(local: &Local, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    let job = StackJob::new(b);
    // SAFETY: *Frame*.
    let due = unsafe { local.push_job(&raw const job.header) };
    let unwinding = Unwinding { local, job: &job };
    if due {
        crate::worker::beat(local);
    }
    let ra = a();
    mem::forget(unwinding);
    if local.pop_job(&job.header) {
        if local.is_due() {
            // After the pop: the next job is the one below, not the one about to run here.
            beat_owning(local, &job);
        }
        // SAFETY: popped while latent: nobody else has seen the job.
        let b = unsafe { job.take() };
        (ra, b())
    } else {
        (ra, finish_promoted(local, &job))
    }
}

/// A beat while this frame owns a popped half: if the beat unwinds, the half is dropped unrun.
#[cold]
fn beat_owning<B, RB>(local: &Local, job: &StackJob<B, RB>)
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    struct DropHalf<'a, B, RB>(&'a StackJob<B, RB>)
    where
        B: FnOnce() -> RB + Send,
        RB: Send;
    impl<B, RB> Drop for DropHalf<'_, B, RB>
    where
        B: FnOnce() -> RB + Send,
        RB: Send,
    {
        fn drop(&mut self) {
            // SAFETY: popped while latent, and not run: the beat unwinds past the place where it would be.
            drop(unsafe { self.0.take() });
        }
    }
    let half = DropHalf(job);
    crate::worker::beat(local);
    mem::forget(half);
}

/// The half was promoted: take it back, or wait for whoever has it.
#[cold]
fn finish_promoted<B, RB>(local: &Local, job: &StackJob<B, RB>) -> RB
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    if settle(local, job.header.ticket.get()) {
        // SAFETY: reclaimed.
        let b = unsafe { job.take() };
        return b();
    }
    // SAFETY: done.
    let result = unsafe { job.result() };
    result.unwrap_or_else(|payload| resume_unwind(payload))
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
    for _ in 0..SPINS {
        if ticket.is_done() {
            return false;
        }
        std::hint::spin_loop();
    }
    if ticket.announce() {
        crate::worker::wait(local, || ticket.is_done());
    }
    false
}

/// `a` unwinds: the frame may not go before its half is popped, reclaimed or done.
struct Unwinding<'a, B, RB>
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    local: &'a Local,
    job: &'a StackJob<B, RB>,
}

impl<B, RB> Drop for Unwinding<'_, B, RB>
where
    B: FnOnce() -> RB + Send,
    RB: Send,
{
    #[cold]
    fn drop(&mut self) {
        let latent = self.local.pop_job(&self.job.header);
        if latent || settle(self.local, self.job.header.ticket.get()) {
            // SAFETY: popped or reclaimed, and it will not run.
            drop(unsafe { self.job.take() });
        } else {
            // SAFETY: done.
            drop(unsafe { self.job.result() });
        }
    }
}

const _: () = assert!(mem::offset_of!(StackJob<fn(), ()>, header) == 0);
