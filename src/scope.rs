//! `scope`: any number of jobs that borrow from their caller, and end before it goes on.
//!
//! The queue of jobs and how its owner and its helpers meet are in [`jobs`](crate::jobs); here is what users see, and what
//! becomes of panics and of a cancellation:
//!
//! - Every job runs, also if the body or another job panics; the scope ends with the body's panic, or else with the
//!   first one of a job. (As in rayon.)
//! - A job of a cancelled closure that has not begun is dropped; the scope unwinds when all others have ended.
//! - A scope that is opened in an [`uncancellable`](crate::uncancellable) region, or while the thread unwinds, has
//!   no helpers, and all of its jobs run: a cancellation must not come into it from another thread. Nor has one that
//!   is opened inside the driver, by a task that was given to `tokio::spawn`: its owner could not park there.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::cancel::{self, Cancelled};
use crate::carried::Carried;
use crate::jobs::{End, Jobs, Offer, Offers, Order};
use crate::lifecycle;
use crate::local::{self, Local};
use crate::parker::{Parker, Unpark};
use crate::processors::ProcessorId;
use crate::rest::Counted;
use crate::runtime::{Handle, block_on, outside};
use crate::scheduler::Shared;
use crate::task::contained::Contained;
use crate::task::{self, Meta};
use crate::user_code;

/// A job whose lifetime has been erased: see [`Scope::spawn`].
type Job = Box<dyn FnOnce(&Arc<OpenScope>) + Send>;

/// One scope, from its opening until its last job has ended.
pub(crate) struct OpenScope {
    jobs: Jobs<Job>,
    /// *Open*: alive until the scope has ended, for whoever opened it holds a count.
    shared: NonNull<Shared>,
    /// The task or closure that the scope is part of, or null. *Open*: it does not end before the scope does.
    context: *const Meta,
    /// Whether helpers may come.
    has_helpers: bool,
    /// The first panic of a job, or a cancellation.
    panic: Mutex<Option<Contained<Box<dyn Any + Send>>>>,
}

// SAFETY: `context` and `shared` point to what is `Sync`, and are used while the scope is open (*Open*); jobs are
// `Send`, and reached under a lock.
unsafe impl Send for OpenScope {}
// SAFETY: as above.
unsafe impl Sync for OpenScope {}

impl OpenScope {
    fn push(self: &Arc<Self>, job: Job) {
        if self.jobs.push(job, self.has_helpers) {
            // SAFETY: *Open*: whoever pushes is inside the scope.
            let shared = unsafe { self.shared.as_ref() };
            shared.submit_offer(Arc::clone(self));
        }
    }

    /// Help 1 and 2.
    pub(crate) fn help(self: Arc<Self>, offers: &Offers<Self>) -> Option<TakenJob> {
        let (job, offer) = self.jobs.take();
        if offer == Offer::Stays {
            offers.push(Arc::clone(&self));
        }
        job.map(|job| TakenJob { scope: self, job })
    }

    /// Sends a job to one processor. It is away from here on.
    fn address(self: &Arc<Self>, p: ProcessorId, job: Job) {
        self.jobs.send_away(1);
        // SAFETY: *Open*: whoever calls is inside the scope.
        let shared = unsafe { self.shared.as_ref() };
        let Some(shared) = shared.arc() else { unreachable!("whoever opened the scope holds a count") };
        let away = AddressedJob { scope: Arc::clone(self), job: Some(job), shared: Arc::clone(&shared) };
        let site = std::panic::Location::caller();
        // Dropped unrun by a shutdown, it comes back all the same.
        drop(task::spawn_closure_on(&shared, p, move || away.run(), site));
    }

    /// Runs a job, or drops it if it is cancelled. Its panic is kept for the owner.
    fn run(self: &Arc<Self>, job: Job) {
        let result = if self.has_helpers && task::is_cancelled_here() {
            drop(Contained::new(job));
            Err(Cancelled::payload())
        } else {
            catch_unwind(AssertUnwindSafe(|| job(self)))
        };
        if let Err(payload) = result {
            let payload = Contained::new(payload);
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            let unwanted = if first.is_none() { first.replace(payload) } else { Some(payload) };
            drop(first);
            // Outside the lock: its destructor is the user's.
            drop(unwanted);
        }
    }

    /// End, by an owner that is no thread of the runtime: its jobs run there, and it waits.
    fn end_away(self: &Arc<Self>, shared: &Arc<Shared>, parker: &Parker) {
        loop {
            while let Some(job) = self.jobs.pop() {
                let mut first = Some(job);
                let drain = || {
                    // SAFETY: *Open*: the owner is here.
                    let _entered = unsafe { task::Entered::new(self.context) };
                    let mut next = first.take();
                    while let Some(job) = next {
                        self.run(job);
                        next = self.jobs.pop();
                    }
                };
                // It fails if the runtime has been shut down, with the job unrun.
                match (Handle { shared: Arc::clone(shared) }.install_away(drain), first) {
                    (Some(ended), _) => ended.into_inner().unwrap_or_else(|payload| resume_unwind(payload)),
                    (None, Some(job)) => self.run(job),
                    (None, None) => {}
                }
            }
            match self.jobs.end() {
                End::MoreJobs => {}
                End::Over => return,
                End::TakeOfferBack => return shared.offers.take_back(self),
                End::Wait => outside::lend(|| user_code::wait_on(None, parker, || self.jobs.is_back())),
            }
        }
    }

    /// End.
    fn end(self: &Arc<Self>, shared: &Shared, local: Option<&Local>, parker: &Parker) {
        loop {
            while let Some(job) = self.jobs.pop() {
                self.run(job);
            }
            match self.jobs.end() {
                End::MoreJobs => {}
                End::Over => return,
                End::TakeOfferBack => return shared.offers.take_back(self),
                End::Wait => user_code::wait_on(local, parker, || self.jobs.is_back()),
            }
        }
    }
}

impl fmt::Debug for OpenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenScope").field("has_helpers", &self.has_helpers).finish_non_exhaustive()
    }
}

/// Evidence that this thread took a job, which counts as away: it must run it.
#[must_use = "the scope waits for a job that was taken for ever"]
pub(crate) struct TakenJob {
    scope: Arc<OpenScope>,
    job: Job,
}

impl TakenJob {
    /// The header of the task or closure that the scope is part of.
    pub(crate) fn context(&self) -> *const Meta {
        self.scope.context
    }

    /// Help 3 and 4. The job's panic is the scope's.
    pub(crate) fn run(self) -> Unpark {
        let Self { scope, job } = self;
        // SAFETY: *Open*: the scope is open until `finish`.
        let entered = unsafe { task::Entered::new(scope.context) };
        scope.run(job);
        drop(entered);
        scope.jobs.finish()
    }
}

/// A job that was sent to one processor.
struct AddressedJob {
    scope: Arc<OpenScope>,
    job: Option<Job>,
    shared: Arc<Shared>,
}

impl AddressedJob {
    fn run(mut self) {
        if let Some(job) = self.job.take() {
            // SAFETY: *Open*: the scope is open until `finish`, when this is dropped.
            let _entered = unsafe { task::Entered::new(self.scope.context) };
            self.scope.run(job);
        }
    }
}

impl Drop for AddressedJob {
    /// Help 4.
    fn drop(&mut self) {
        drop(Contained::new(self.job.take()));
        self.shared.driver.finish_unpark(self.scope.jobs.finish());
    }
}

/// A number for the code of `f`.
fn place_of<F>(_f: &F) -> usize {
    std::any::type_name::<F>().as_ptr() as usize
}

/// Opens a scope on the calling thread, runs `op` in it, then ends it.
fn open<R>(order: Order, op: impl FnOnce(&Arc<OpenScope>) -> R) -> R {
    local::with(|local| match local {
        Some(local) => open_on(&local.shared, Some(local), order, op),
        None => outside::in_region(place_of(&op), |shared, local| open_on(shared, local, order, op)),
    })
}

fn open_on<R>(
    shared: &Arc<Shared>,
    local: Option<&Local>,
    order: Order,
    op: impl FnOnce(&Arc<OpenScope>) -> R,
) -> R {
    let new_parker = || crate::sync::Arc::new(Parker::new());
    let parker = local.map_or_else(new_parker, |local| crate::sync::Arc::clone(&local.seat().parker));
    let has_helpers = !local.is_some_and(Local::is_in_turn);
    run_open(shared, &parker, has_helpers, order, op, |scope| scope.end(shared, local, &parker))
}

/// Opens a scope of `shared` on a thread that is none of its workers: `op` runs here, jobs run there alone.
fn open_away<R>(shared: &Arc<Shared>, order: Order, op: impl FnOnce(&Arc<OpenScope>) -> R) -> R {
    block_on::assert_may_wait("in_place_scope");
    shared.assert_not_forked();
    let _counted = Counted::enter(shared.rest.as_ref(), false);
    // Not the thread's own: that would be unparked through the wrong runtime's driver.
    let parker = crate::sync::Arc::new(Parker::counted(shared.rest.clone()));
    run_open(shared, &parker, true, order, op, |scope| scope.end_away(shared, &parker))
}

fn run_open<R>(
    shared: &Arc<Shared>,
    parker: &crate::sync::Arc<Parker>,
    has_helpers: bool,
    order: Order,
    op: impl FnOnce(&Arc<OpenScope>) -> R,
    end: impl FnOnce(&Arc<OpenScope>),
) -> R {
    let scope = Arc::new(OpenScope {
        jobs: Jobs::new(order, crate::sync::Arc::clone(parker)),
        shared: NonNull::from(&**shared),
        context: task::current(),
        has_helpers: has_helpers && !cancel::is_shielded() && !thread::panicking(),
        panic: Mutex::new(None),
    });
    let result = catch_unwind(AssertUnwindSafe(|| op(&scope)));
    // Jobs refer to the caller's frame until this returns.
    lifecycle::must_return("a scope's end", || end(&scope));
    let panic = scope.panic.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (result, panic) {
        (Err(payload), _) => resume_unwind(payload),
        (Ok(_), Some(payload)) => resume_unwind(payload.into_inner()),
        (Ok(value), None) => value,
    }
}

/// Runs a job in `scope`, wherever it was taken to.
macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident $(#[$spawn_doc:meta])* $spawn:ident;)*) => {$(
        $(#[$doc])*
        pub struct $name<'scope> {
            open: Arc<OpenScope>,
            /// Invariant in `'scope`, and as a consumer of what jobs capture.
            marker: PhantomData<Box<dyn FnOnce(&$name<'scope>) + Send + Sync + 'scope>>,
        }

        impl<'scope> $name<'scope> {
            fn of(open: &Arc<OpenScope>) -> Self {
                Self { open: Arc::clone(open), marker: PhantomData }
            }

            $(#[$spawn_doc])*
            ///
            /// It may borrow whatever outlives the scope, and spawn further jobs through the reference that it gets.
            /// May be called from any thread that can see the scope.
            ///
            /// # Panics
            ///
            /// In a cancelled closure it unwinds, as [`join`](crate::join) does, and the job is dropped.
            pub fn $spawn<F>(&self, f: F)
            where
                F: FnOnce(&Self) + Send + 'scope,
            {
                user_code::count_fork();
                let carried = Carried::here();
                let job: Box<dyn FnOnce(&Arc<OpenScope>) + Send + 'scope> = Box::new(move |open| {
                    let _in_place = carried.enter();
                    f(&Self::of(open));
                });
                // SAFETY: only the lifetime changes. Whoever opened the scope does not return before the job has
                // run or been dropped (`OpenScope::end`), and `'scope` outlives that call.
                let job = unsafe {
                    mem::transmute::<Box<dyn FnOnce(&Arc<OpenScope>) + Send + 'scope>, Job>(job)
                };
                self.open.push(job);
            }

            /// Runs `f` once on each processor but `except`, with its number and how many there are, before the scope
            /// ends.
            pub(crate) fn broadcast<F>(&self, except: Option<ProcessorId>, f: F)
            where
                F: Fn(&Self, usize, usize) + Send + Sync + 'scope,
            {
                let f = Arc::new(f);
                // SAFETY: *Open*: whoever calls is inside the scope.
                let workers = unsafe { self.open.shared.as_ref() }.config.workers;
                for p in (0..workers).filter(|&p| Some(p) != except) {
                    let f = Arc::clone(&f);
                    let carried = Carried::here();
                    let job: Box<dyn FnOnce(&Arc<OpenScope>) + Send + 'scope> = Box::new(move |open| {
                        let _in_place = carried.enter();
                        f(&Self::of(open), p as usize, workers as usize);
                    });
                    // SAFETY: as in the spawn of a single job: it counts as away until it has run or been dropped.
                    let job = unsafe {
                        mem::transmute::<Box<dyn FnOnce(&Arc<OpenScope>) + Send + 'scope>, Job>(job)
                    };
                    self.open.address(p, job);
                }
            }
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

scopes! {
    /// A scope that jobs can be spawned into; see [`scope`].
    ///
    /// ```
    /// fn count<'scope>(scope: &beat::Scope<'scope>, of: &'scope mut [usize]) {
    ///     if let [first, rest @ ..] = of {
    ///         *first = rest.len();
    ///         scope.spawn(move |scope| count(scope, rest));
    ///     }
    /// }
    ///
    /// let mut counts = [0; 4];
    /// beat::scope(|scope| count(scope, &mut counts));
    /// assert_eq!(counts, [3, 2, 1, 0]);
    /// ```
    Scope
    /// Spawns a job, which runs on this thread when the scope's body has returned, or on an idle worker before.
    spawn;

    /// A scope whose jobs are taken in the order in which they were spawned; see [`scope_fifo`].
    ///
    /// ```
    /// let mut halves = [0; 2];
    /// let (a, b) = halves.split_at_mut(1);
    /// beat::scope_fifo(|scope: &beat::ScopeFifo<'_>| {
    ///     scope.spawn_fifo(|_| a[0] = 1);
    ///     scope.spawn_fifo(|_| b[0] = 2);
    /// });
    /// assert_eq!(halves, [1, 2]);
    /// ```
    ScopeFifo
    /// Spawns a job behind those that wait already.
    spawn_fifo;
}

/// Runs `op`, and any number of jobs that it spawns, possibly in parallel; returns when all have ended.
///
/// `op` runs on the calling thread at once. Jobs may borrow from the caller, as those of [`join`](crate::join) do.
/// When `op` has returned, the calling thread runs those of its jobs that no idle worker has taken, the newest
/// first; then it waits for the others, and its worker does other things meanwhile, on another stack. Jobs of
/// outer scopes never run inside this call.
///
/// Inside a Beat task or closure the workers of its runtime help; elsewhere those of the global runtime, which is
/// started if there is none. Inside a task that was given to `tokio::spawn` nobody helps.
///
/// A job costs an allocation and three short locks: for fine-grained work use [`join`](crate::join).
///
/// # Examples
///
/// ```
/// let mut counts = [0; 3];
/// beat::scope(|scope| {
///     for (i, count) in counts.iter_mut().enumerate() {
///         scope.spawn(move |_| *count = i * i);
///     }
/// });
/// assert_eq!(counts, [0, 1, 4]);
/// ```
///
/// Nothing that is borrowed may end before the scope:
///
/// ```compile_fail
/// beat::scope(|scope| {
///     let local = 5;
///     scope.spawn(|_| println!("{local}"));
/// });
/// ```
///
/// # Panics
///
/// A panic in `op`, or else the first one in a job, reaches the caller when all jobs have ended; no panic keeps a
/// job from running. In a cancelled closure jobs that have not begun are dropped, and the scope unwinds. Also if a
/// global runtime is needed and cannot be started.
///
/// Source: rayon's `scope`, with a queue for each scope.
pub fn scope<'scope, F, R>(op: F) -> R
where
    F: FnOnce(&Scope<'scope>) -> R + Send,
    R: Send,
{
    in_place_scope(op)
}

/// As [`scope`], for an `op` that is not [`Send`].
///
/// In rayon `scope` moves to a thread of the pool and `in_place_scope` stays; on Beat both stay on the calling
/// thread.
///
/// ```
/// let not_send = std::rc::Rc::new(5);
/// let mut square = 0;
/// let result = &mut square;
/// beat::in_place_scope(|scope| {
///     let value = *not_send;
///     scope.spawn(move |_| *result = value * value);
/// });
/// assert_eq!(square, 25);
/// ```
pub fn in_place_scope<'scope, F, R>(op: F) -> R
where
    F: FnOnce(&Scope<'scope>) -> R,
{
    open(Order::NewestFirst, |open| op(&Scope::of(open)))
}

/// As [`scope`], but jobs are taken in the order in which they were spawned.
///
/// ```
/// let order = std::sync::Mutex::new(Vec::new());
/// beat::scope_fifo(|scope| {
///     let order = &order;
///     for i in 0..3 {
///         scope.spawn_fifo(move |_| order.lock().unwrap().push(i));
///     }
/// });
/// assert_eq!(order.into_inner().unwrap().len(), 3);
/// ```
///
/// # Panics
///
/// As [`scope`].
pub fn scope_fifo<'scope, F, R>(op: F) -> R
where
    F: FnOnce(&ScopeFifo<'scope>) -> R + Send,
    R: Send,
{
    in_place_scope_fifo(op)
}

/// As [`scope_fifo`], for an `op` that is not [`Send`].
///
/// ```
/// let not_send = std::rc::Rc::new(5);
/// let mut square = 0;
/// let result = &mut square;
/// beat::in_place_scope_fifo(|scope| {
///     let value = *not_send;
///     scope.spawn_fifo(move |_| *result = value * value);
/// });
/// assert_eq!(square, 25);
/// ```
pub fn in_place_scope_fifo<'scope, F, R>(op: F) -> R
where
    F: FnOnce(&ScopeFifo<'scope>) -> R,
{
    open(Order::OldestFirst, |open| op(&ScopeFifo::of(open)))
}

/// As [`in_place_scope`], with the workers of `shared`, whose thread the caller need not be.
pub(crate) fn in_place_scope_of<'scope, R>(shared: &Arc<Shared>, op: impl FnOnce(&Scope<'scope>) -> R) -> R {
    open_of(shared, Order::NewestFirst, |open| op(&Scope::of(open)))
}

/// As [`in_place_scope_fifo`], with the workers of `shared`, whose thread the caller need not be.
pub(crate) fn in_place_scope_fifo_of<'scope, R>(
    shared: &Arc<Shared>,
    op: impl FnOnce(&ScopeFifo<'scope>) -> R,
) -> R {
    open_of(shared, Order::OldestFirst, |open| op(&ScopeFifo::of(open)))
}

fn open_of<R>(shared: &Arc<Shared>, order: Order, op: impl FnOnce(&Arc<OpenScope>) -> R) -> R {
    local::with(|local| match local.filter(|local| shared.owns(local) && local.is_of_pool()) {
        Some(local) => open_on(shared, Some(local), order, op),
        None => open_away(shared, order, op),
    })
}
