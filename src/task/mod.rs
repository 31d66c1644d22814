//! Tasks and closures, under the names that `tokio::task` has for them.
//!
//! `use beat::task` replaces `use tokio::task`; `tokio::task_local!` and `tokio::task::coop` work inside Beat's tasks
//! as they are.
//!
//! ```
//! use beat::task;
//!
//! #[beat::main]
//! async fn main() {
//!     let set = task::LocalSet::new();
//!     let local = set.run_until(async { task::spawn_local(async { task::id() }).await.unwrap() });
//!     let id = local.await;
//!     let other = task::spawn(async { task::id() }).await.unwrap();
//!     assert_ne!(id, other);
//!     assert_eq!(task::spawn_blocking(|| 5).await.unwrap(), task::block_in_place(|| 5));
//! }
//! ```
//!
//! # How it works
//!
//! Each is one heap object, made by `async-task`.
//!
//! A closure is a future that is polled once, on the scheduler loop of a worker, so both kinds share the
//! handle, the header and the registry. The object holds, in this order: async-task's state and vtable, the
//! [`Meta`] header below, and the future wrapped in [`TaskFuture`] (later its output, in the same place).
//!
//! | field of `Meta` | written by | read by |
//! |---|---|---|
//! | `home`, `id`, `label`, `kind` | `spawn` | anyone who holds a reference to the task |
//! | `key` | `spawn`, before the task can be seen by others | abort; drop of the future |
//! | `flags`: `ABORTED` | anyone (`abort`) | the poll; forks of the closure |
//! | `flags`: `ADMITTED` | `spawn` inside an admitted task; the first poll of one | its own code, halves included |
//! | `place` | whoever runs it | a waker without a place; `Near::task` |
//! | `end` | before and after the future's destructor | that itself; `AbortHandle::is_finished` |
//!
//! *Runtime*: the runtime of a task may be dereferenced while the future exists, and no longer. Every task whose future
//! exists stands in the [`registry`], and a runtime's memory is not freed before the registry holds none of
//! its tasks. A task owns nothing of its runtime, so spawning touches no shared reference count.
//!
//! *Set*: a task of a [`LocalSet`] belongs to no runtime. It has a reference to the set's [`inbox`] in its schedule
//! function, so the inbox may be dereferenced while the task object exists.
//!
//! The header travels with stolen work: a promotion ticket carries a pointer to it. Whatever must be visible
//! in a stolen half (cancellation today) belongs in here; what costs something to take along goes with the ticket
//! ([`carried`](crate::carried)).

mod abort;
pub(crate) mod budget;
mod builder;
pub(crate) mod contained;
mod error;
mod executor;
mod id;
mod inbox;
mod join_handle;
pub mod join_set;
mod label;
mod local_set;
mod near;
pub(crate) mod registry;
#[cfg(feature = "tracing")]
mod task_local;
mod yield_now;

pub use abort::{AbortHandle, AbortOnDropHandle};
pub use budget::{Unconstrained, consume_budget, unconstrained};
pub use builder::Builder;
pub use error::JoinError;
pub use id::{Id, id, name, try_id};
pub use join_handle::JoinHandle;
#[doc(inline)]
pub use join_set::JoinSet;
pub use local_set::{LocalEnterGuard, LocalSet, spawn_local};
pub use near::Near;
#[cfg(feature = "tracing")]
pub use task_local::{AccessError, LocalKey, TaskLocalFuture};
pub use yield_now::yield_now;

// Where tokio has them.
pub use crate::runtime::block_in_place;
pub use crate::{spawn, spawn_blocking, spawn_blocking_parallel, spawn_blocking_parallel_on, spawn_on};

use std::cell::Cell;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU32};
use std::task::{Context, Poll};

use async_task::{ScheduleInfo, WithInfo};

use crate::admission::is_inside;
use crate::cancel::Cancelled;
use crate::carried::Carried;
use crate::local;
use crate::processors::ProcessorId;
use crate::scheduler::Shared;
use contained::Contained;
use inbox::Inbox;
use label::Label;

/// A task that is ready to be polled, or a closure that is ready to be run.
pub(crate) type Runnable = async_task::Runnable<Meta>;

/// What a future of ours evaluates to, inside the task object.
type Output<T> = Contained<Result<T, JoinError>>;

/// Where a task is queued when it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A future: a thread's own queue, or the injector.
    Future,
    /// A CPU-bound closure: the queue of closures.
    Closure,
    /// A closure that may block: a thread of the blocking pool.
    Blocking,
    /// A future that stays on its thread: the queue of its [`LocalSet`].
    Local,
}

impl Kind {
    /// Whether it is polled until it is ready; a closure is run once, and unwound when it is aborted.
    fn is_future(self) -> bool {
        matches!(self, Self::Future | Self::Local)
    }
}

/// What a task belongs to.
enum Home<'a> {
    Runtime(&'a Shared, Kind),
    Set(&'a Inbox),
}

/// The header of a task. See the [module](self).
#[derive(Debug)]
pub(crate) struct Meta {
    /// The [`Inbox`] of a set if `kind` is `Local`, else the runtime's [`Shared`].
    home: NonNull<()>,
    id: Id,
    label: Label,
    key: AtomicU32,
    kind: Kind,
    /// [`ABORTED`] and [`ADMITTED`]. Two bits, and not two flags: the header has no room for more.
    flags: AtomicU8,
    /// Where it last ran, as far as there are several homes ([`injectors`](crate::injectors)): the home's number and one, or
    /// zero. Relaxed: a hint.
    place: AtomicU8,
    /// How far the future's destructor is: [`ALIVE`], [`DROPPING`] or [`DONE`].
    end: AtomicU8,
}

/// Somebody has asked for it to end. Set by anyone.
const ABORTED: u8 = 1;
/// What it spawns is never held back ([`admission`](crate::admission)). Set at the spawn, or by its own code.
const ADMITTED: u8 = 2;

/// The future exists.
const ALIVE: u8 = 0;
/// Its destructor runs, or has panicked: it is not to be run again.
const DROPPING: u8 = 1;
/// The destructor has run.
const DONE: u8 = 2;

/// Every task has one.
const _: () = assert!(size_of::<Meta>() == 32);

// SAFETY: `home` points to a `Shared` or an `Inbox`, both `Sync`, and is used under *Runtime* or *Set*; the rest is
// atomic or constant.
unsafe impl Send for Meta {}
// SAFETY: as above.
unsafe impl Sync for Meta {}

impl Meta {
    fn new(home: Home<'_>, label: Label) -> Self {
        let (home, kind) = match home {
            Home::Runtime(shared, kind) => (NonNull::from(shared).cast(), kind),
            Home::Set(inbox) => (NonNull::from(inbox).cast(), Kind::Local),
        };
        Self {
            home,
            id: Id::next(),
            label,
            key: AtomicU32::new(0),
            kind,
            flags: AtomicU8::new(if is_inside() { ADMITTED } else { 0 }),
            place: AtomicU8::new(0),
            end: AtomicU8::new(ALIVE),
        }
    }

    /// The runtime; `None` for a task of a [`LocalSet`].
    ///
    /// # Safety
    ///
    /// The runtime is alive for as long as the result is used; see *Runtime*.
    unsafe fn runtime<'a>(&self) -> Option<&'a Shared> {
        // SAFETY: not of a set, so it points to a `Shared`, which is alive, says the caller.
        (self.kind != Kind::Local).then(|| unsafe { self.home.cast().as_ref() })
    }

    /// The inbox of the task's [`LocalSet`].
    fn inbox(&self) -> Option<&Inbox> {
        // SAFETY: of a set, so it points to an `Inbox`, which is alive: *Set*, and this header lies in the task object.
        (self.kind == Kind::Local).then(|| unsafe { self.home.cast().as_ref() })
    }

    pub(crate) fn site(&self) -> &'static Location<'static> {
        self.label.site()
    }

    fn name(&self) -> Option<&Arc<str>> {
        self.label.name()
    }

    /// In which home it last began to run.
    pub(crate) fn home(&self) -> Option<usize> {
        self.place.load(Relaxed).checked_sub(1).map(usize::from)
    }

    pub(crate) fn set_home(&self, home: usize) {
        // Who has more homes than that goes without the hint.
        self.place.store(u8::try_from(home + 1).unwrap_or(0), Relaxed);
    }

    pub(crate) fn number(&self) -> u64 {
        self.id.number()
    }

    /// The site as a number.
    pub(crate) fn place(&self) -> usize {
        std::ptr::from_ref(self.site()) as usize
    }

    /// Whether somebody has asked for the task to end.
    pub(crate) fn is_aborted(&self) -> bool {
        // Acquire pairs with `abort`: what the aborter did before is seen.
        self.flags.load(Acquire) & ABORTED != 0
    }

    /// Whether the future has been dropped, and its destructor has run.
    fn is_done(&self) -> bool {
        // Acquire pairs with `TaskFuture::drop_future`: what the future did is seen.
        self.end.load(Acquire) == DONE
    }

    fn mark_aborted(&self) {
        // Release pairs with `is_aborted`.
        self.flags.fetch_or(ABORTED, Release);
    }

    /// Asks the task to end: it is polled once more, or its next fork unwinds.
    pub(crate) fn abort(&self) {
        self.mark_aborted();
        let entry = registry::with(self, |waker| {
            // SAFETY: *Runtime*: the entry stands in the registry, whose shard is locked here.
            if let Some(shared) = unsafe { self.runtime() }
                && !self.kind.is_future()
            {
                shared.ask_all();
            }
            waker.clone()
        });
        if let Some(waker) = entry {
            waker.wake();
        }
    }
}

thread_local! {
    /// The task or closure whose code runs on this thread, its own or stolen.
    static CURRENT: Cell<*const Meta> = const { Cell::new(ptr::null()) };
}

/// The header of the task or closure whose code runs on this thread.
pub(crate) fn current() -> *const Meta {
    CURRENT.get()
}

/// Looks at the header of the task or closure whose code runs on this thread.
pub(crate) fn with_current<R>(f: impl FnOnce(Option<&Meta>) -> R) -> R {
    // SAFETY: `Entered` sets the pointer for the time in which the header is alive, and takes it back.
    f(unsafe { CURRENT.get().as_ref() })
}

/// Whether the current task or closure has been admitted, or was spawned by one that has.
pub(crate) fn is_admitted() -> bool {
    // Relaxed: a stolen half is handed over with everything that was written before it.
    with_current(|meta| meta.is_some_and(|meta| meta.flags.load(Relaxed) & ADMITTED != 0))
}

/// The current task or closure has been admitted.
pub(crate) fn mark_admitted() {
    with_current(|meta| {
        if let Some(meta) = meta {
            meta.flags.fetch_or(ADMITTED, Relaxed);
        }
    });
}

/// Makes a task the current one until dropped.
#[derive(Debug)]
pub(crate) struct Entered(*const Meta);

impl Entered {
    /// # Safety
    ///
    /// `meta` is null, or alive until the guard is dropped.
    pub(crate) unsafe fn new(meta: *const Meta) -> Self {
        Self(CURRENT.replace(meta))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

/// A user's future, in a task.
struct TaskFuture<F> {
    /// Alive as long as this future: both lie in the task object.
    meta: *const Meta,
    /// Dropped once: by `drop_future`.
    future: ManuallyDrop<F>,
    /// What goes with it from where it was spawned (feature `tracing`).
    carried: Carried,
}

// SAFETY: `meta` points to a `Sync` header; the future itself is `Send`.
unsafe impl<F: Send> Send for TaskFuture<F> {}

impl<F> TaskFuture<F> {
    fn new(meta: &Meta, future: F) -> Self {
        Self { meta: ptr::from_ref(meta), future: ManuallyDrop::new(future), carried: Carried::span() }
    }

    fn meta(&self) -> &Meta {
        // SAFETY: see the field.
        unsafe { &*self.meta }
    }

    /// Drops the user's future, once. A panic of its destructor is handed to the caller.
    fn drop_future(&mut self) -> Result<(), Box<dyn std::any::Any + Send>> {
        // Relaxed: only the owner of the future comes here. First: a destructor that panics is not run again.
        let end = &self.meta().end;
        if end.load(Relaxed) != ALIVE {
            return Ok(());
        }
        end.store(DROPPING, Relaxed);
        let future = &mut self.future;
        let result = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: not dropped before (`end` was `ALIVE`), and never touched after.
            unsafe { ManuallyDrop::drop(future) }
        }));
        // Release pairs with `is_done`.
        self.meta().end.store(DONE, Release);
        result
    }
}

impl<F: Future> Future for TaskFuture<F> {
    type Output = Output<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // SAFETY: the user's future is not moved: it is polled in place and dropped in place.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: the header lives in the task object, as does this future, which is being polled.
        let entered = unsafe { Entered::new(this.meta) };
        let carried = this.carried.enter();
        let output = if this.meta().is_aborted() {
            Err(JoinError::cancelled(this.meta()))
        } else {
            // SAFETY: `this` was pinned; no one moves out of it.
            let future = unsafe { Pin::new_unchecked(&mut *this.future) };
            match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(value)) => Ok(value),
                Err(payload) => Err(JoinError::from_payload(this.meta(), payload)),
            }
        };
        let dropped = this.drop_future();
        drop(carried);
        drop(entered);
        local::with(|local| {
            if let Some(local) = local {
                local.ended.set(true);
            }
        });
        Poll::Ready(Contained::new(match dropped {
            Ok(()) => output,
            Err(payload) => {
                drop(Contained::new(output));
                Err(JoinError::from_payload(this.meta(), payload))
            }
        }))
    }
}

impl<F> Drop for TaskFuture<F> {
    fn drop(&mut self) {
        // Relaxed: only the owner of the future comes here. One that has ended has been dropped in its place already.
        let is_alive = self.meta().end.load(Relaxed) == ALIVE;
        let carried = is_alive.then(|| self.carried.enter());
        let dropped = self.drop_future();
        drop(carried);
        if let Err(payload) = dropped {
            // The handle reports the cancellation that this drop is part of; a panic has nowhere to go.
            drop(Contained::new(payload));
        }
        // SAFETY: *Runtime*: the task is struck out only after this.
        if let Some(shared) = unsafe { self.meta().runtime() } {
            shared.count_finish();
        }
        registry::remove(self.meta());
    }
}

/// Spawns `future` on `shared`.
pub(crate) fn spawn_future<F>(
    shared: &Arc<Shared>,
    future: F,
    label: impl Into<Label>,
) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_kind(shared, Kind::Future, future, label)
}

/// The same, to start near something.
pub(crate) fn spawn_future_on<F>(
    shared: &Arc<Shared>,
    near: Near,
    future: F,
    label: impl Into<Label>,
) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_with(shared, Kind::Future, near.home(shared), future, label, WithInfo(schedule))
}

/// Spawns a future, or a closure as one. It is scheduled before this returns.
fn spawn_kind<F>(
    shared: &Arc<Shared>,
    kind: Kind,
    future: F,
    label: impl Into<Label>,
) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_with(shared, kind, None, future, label, WithInfo(schedule))
}

/// `home`: where it should start.
fn spawn_with<F>(
    shared: &Arc<Shared>,
    kind: Kind,
    home: Option<usize>,
    future: F,
    label: impl Into<Label>,
    schedule: impl async_task::Schedule<Meta> + Send + Sync + 'static,
) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    shared.assert_not_forked();
    let (runnable, handle) = enter(shared, kind, future, label.into(), schedule);
    if shared.is_closed() {
        // Shutdown looks through the registry after it has closed: either it finds this task or it is seen here.
        drop(runnable);
        return handle;
    }
    match (home, kind) {
        (Some(_), Kind::Future) => shared.inject_at(home, runnable),
        (Some(_), Kind::Closure) => shared.submit_closure_at(home, runnable),
        _ => runnable.schedule(),
    }
    handle
}

/// Makes a task that stands in the registry, and in no queue.
fn enter<F>(
    shared: &Arc<Shared>,
    kind: Kind,
    future: F,
    label: Label,
    schedule: impl async_task::Schedule<Meta> + Send + Sync + 'static,
) -> (Runnable, JoinHandle<F::Output>)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let meta = Meta::new(Home::Runtime(shared, kind), label);
    let (runnable, task) =
        async_task::Builder::new().metadata(meta).spawn(move |meta| TaskFuture::new(meta, future), schedule);
    shared.count_spawn();
    registry::insert(runnable.metadata(), runnable.waker());
    (runnable, JoinHandle::new(task))
}

/// async-task's schedule function: where a task goes that has become ready.
fn schedule(runnable: Runnable, info: ScheduleInfo) {
    let kind = runnable.metadata().kind;
    with_runtime(runnable, |shared, runnable| match kind {
        Kind::Future | Kind::Local => shared.schedule(runnable, info.woken_while_running),
        Kind::Closure => shared.submit_closure(runnable),
        Kind::Blocking => shared.submit_blocking(runnable),
    });
}

/// Calls `submit` with a task that has become ready, and its runtime.
#[inline]
fn with_runtime(runnable: Runnable, submit: impl FnOnce(&Shared, Runnable)) {
    // SAFETY: *Runtime*: a task is scheduled only while its future exists. Once it is queued that may end at any
    // moment, so from there on something else must keep the runtime: this thread's state does if it belongs to it,
    // otherwise a reference of our own.
    let Some(shared) = (unsafe { runnable.metadata().runtime() }) else {
        unreachable!("a set's tasks have a schedule function of their own");
    };
    let keeps = local::with(|local| local.is_some_and(|local| shared.owns(local)));
    let reference = if keeps { None } else { shared.arc() };
    if !keeps && reference.is_none() {
        // The last reference is going, and with it all tasks: nobody need be woken for this one.
        shared.injector.push(None, runnable);
        return;
    }
    submit(shared, runnable);
    drop(reference);
}

/// A closure as a future that is polled once.
struct ClosureFuture<F>(Option<F>);

// The closure is moved out before it is called: nothing in here is ever pinned.
impl<F> Unpin for ClosureFuture<F> {}

impl<F: FnOnce() -> R, R> Future for ClosureFuture<F> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<R> {
        let f = self.0.take().expect("a closure is polled once");
        Poll::Ready(f())
    }
}

/// Spawns a CPU-bound closure: it runs on a worker that counts as computing for the time.
pub(crate) fn spawn_closure<F, R>(shared: &Arc<Shared>, f: F, label: impl Into<Label>) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    spawn_kind(shared, Kind::Closure, computing(f), label)
}

/// The same, to start near something.
pub(crate) fn spawn_closure_near<F, R>(
    shared: &Arc<Shared>,
    near: Near,
    f: F,
    label: impl Into<Label>,
) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    spawn_with(shared, Kind::Closure, near.home(shared), computing(f), label, WithInfo(schedule))
}

/// The same for a closure that is addressed to one processor: it goes to that one's queue.
pub(crate) fn spawn_closure_on<F, R>(
    shared: &Arc<Shared>,
    processor: ProcessorId,
    f: F,
    label: impl Into<Label>,
) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let schedule = move |runnable| {
        with_runtime(runnable, |shared, runnable| shared.submit_addressed(processor, runnable));
    };
    spawn_with(shared, Kind::Closure, None, computing(f), label, schedule)
}

/// A CPU-bound closure as a future.
fn computing<F: FnOnce() -> R, R>(f: F) -> ClosureFuture<impl FnOnce() -> R> {
    ClosureFuture(Some(move || {
        // Dropped before the handle is told, so that what the handle wakes runs on this thread next.
        let _computing = crate::user_code::Computing::begin();
        f()
    }))
}

/// Spawns a closure that may block: it runs on a thread of the blocking pool.
pub(crate) fn spawn_blocking_closure<F, R>(
    shared: &Arc<Shared>,
    f: F,
    label: impl Into<Label>,
) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    spawn_kind(shared, Kind::Blocking, ClosureFuture(Some(f)), label)
}

/// Whether the current closure has been cancelled, and may unwind here.
pub(crate) fn is_cancelled_here() -> bool {
    let cancelled = with_current(|meta| meta.is_some_and(|meta| !meta.kind.is_future() && meta.is_aborted()));
    cancelled && cfg!(panic = "unwind") && !std::thread::panicking()
}

/// Unwinds if the current closure must do so at this fork.
pub(crate) fn unwind_if_cancelled() {
    if is_cancelled_here() {
        Cancelled::unwind();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::driver::{DriverSlot, plain::PlainDriver};
    use crate::{Runtime, lifecycle};

    /// All threads have ended and nobody waits, but a foreign thread is at `spawn_with`, between the registry and the queue.
    #[test]
    fn a_task_that_is_just_being_spawned_is_dropped_by_a_shutdown_whose_time_is_up() {
        let config = Runtime::builder().worker_threads(1).settle().unwrap();
        let shared = Shared::new(config, DriverSlot::new(Box::new(PlainDriver)));
        let (guard, dropped) = mpsc::channel::<()>();
        let future = async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        };
        let label = Location::caller().into();
        let (runnable, handle) = enter(&shared, Kind::Future, future, label, WithInfo(schedule));
        assert!(!shared.is_closed());

        lifecycle::shut_down(&shared, Some(Duration::ZERO));
        runnable.schedule();
        assert_eq!(dropped.recv_timeout(Duration::from_secs(60)), Err(mpsc::RecvTimeoutError::Disconnected));
        drop(handle);
    }
}
