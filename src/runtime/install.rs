//! rayon's pool surface: `install`, `broadcast`, and which worker this is.
//!
//! In rayon a worker is a thread. Here it is a processor, which threads hand on to each other, so what rayon promises
//! about threads is promised about *parts that run at the same time*: see [`Handle::broadcast`].
//!
//! *Broadcast.* 1. One closure for each worker is spawned; 2. each says at the barrier that it has begun, and waits,
//! with its processor handed over, so that another thread can begin the next one; 3. the last to come lets all go.
//! **No deadlock**: a part that waits holds no processor, so parts that have not begun find one, however few are free.
//! A part that is dropped instead (the runtime is shut down) breaks the barrier, and nobody waits for it.

use std::future::poll_fn;
use std::mem;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{Handle, Runtime, context, number, outside};
use crate::carried::Carried;
use crate::lifecycle;
use crate::local::{self, Role};
use crate::scheduler::Shared;
use crate::sync::Mutex;
use crate::task::contained::Contained;
use crate::task::{self, JoinHandle};
use crate::user_code::{self, Computing};

/// A closure whose lifetime has been erased.
type Erased = Box<dyn FnOnce() + Send>;

/// Spawns a closure that may borrow.
///
/// # Safety
///
/// `'a` does not end before the closure has been run or dropped: before the handle is ready.
unsafe fn spawn_erased<'a>(
    shared: &Arc<Shared>,
    f: impl FnOnce() + Send + 'a,
    site: &'static Location<'static>,
) -> JoinHandle<()> {
    let f: Box<dyn FnOnce() + Send + 'a> = Box::new(f);
    // SAFETY: only the lifetime changes; the closure is gone before it ends, says the caller.
    let f = unsafe { mem::transmute::<Box<dyn FnOnce() + Send + 'a>, Erased>(f) };
    task::spawn_closure(shared, f, site)
}

/// What has become of a closure.
pub(crate) type Outcome<R> = Option<Contained<std::thread::Result<R>>>;

/// The value, or the panic of the closure itself; a panic with `what` if it was dropped or cancelled.
fn unwrap<R>(outcome: Outcome<R>, what: &str) -> R {
    match outcome.map(Contained::into_inner) {
        Some(Ok(value)) => value,
        Some(Err(payload)) if !crate::cancel::Cancelled::is(&*payload) => resume_unwind(payload),
        _ => panic!("{what} was cancelled: the runtime has been shut down"),
    }
}

fn run<R>(f: impl FnOnce() -> R) -> Outcome<R> {
    Some(Contained::new(catch_unwind(AssertUnwindSafe(f))))
}

/// Where one part of a broadcast stands; from [`Handle::broadcast`].
///
/// ```
/// let runtime = beat::Runtime::builder().worker_threads(2).build()?;
/// let parts = runtime.broadcast(|part| (part.index(), part.num_threads()));
/// assert_eq!(parts, [(0, 2), (1, 2)]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BroadcastContext {
    index: usize,
    num_threads: usize,
}

impl BroadcastContext {
    /// Which part this is: from 0 up to [`num_threads`](Self::num_threads), each once.
    pub fn index(&self) -> usize {
        self.index
    }

    /// How many parts there are: the runtime's workers.
    pub fn num_threads(&self) -> usize {
        self.num_threads
    }
}

#[derive(Debug, Default)]
struct Begun {
    missing: usize,
    broken: bool,
    wakers: Vec<Waker>,
}

/// Broadcast 2 and 3.
#[derive(Debug)]
struct Barrier(Mutex<Begun>);

impl Barrier {
    fn new(parts: usize) -> Self {
        Self(Mutex::new(Begun { missing: parts, ..Begun::default() }))
    }

    /// A part has begun, or (`broken`) will not.
    fn arrive(&self, broken: bool) {
        let mut begun = self.0.lock();
        begun.missing -= 1;
        begun.broken |= broken;
        let all = begun.missing == 0 || begun.broken;
        let wakers = if all { mem::take(&mut begun.wakers) } else { Vec::new() };
        drop(begun);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits for all parts; `false` if one will not come.
    fn wait(&self, shared: &Arc<Shared>) -> bool {
        super::block_on::block_on(
            shared,
            poll_fn(|cx| {
                let mut begun = self.0.lock();
                if begun.missing > 0 && !begun.broken {
                    begun.wakers.push(cx.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(!begun.broken)
            }),
        )
    }
}

/// A part that has not begun; dropped, it breaks the barrier.
struct Expected<'a>(&'a Barrier);

impl Expected<'_> {
    fn begin(self) {
        self.0.arrive(false);
        mem::forget(self);
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.0.arrive(true);
    }
}

impl Handle {
    /// Runs `f` on a worker of this runtime, as a CPU-bound closure, and waits for it.
    ///
    /// `join` and `scope` inside `f` use this runtime's workers. Unlike
    /// [`spawn_blocking_parallel`](Self::spawn_blocking_parallel) it may borrow from the caller. Called by a task or a
    /// closure of this runtime it calls `f` in place; others see to tasks and events meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = beat::Runtime::builder().worker_threads(2).build()?;
    /// let values = [1, 2, 3, 4];
    /// let (left, right) = values.split_at(2);
    /// let sums = runtime.install(|| beat::join(|| left.iter().sum::<i32>(), || right.iter().sum::<i32>()));
    /// assert_eq!(sums, (3, 7));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If `f` panics; if the runtime is shut down before `f` has ended; and inside a task that was given to
    /// `tokio::spawn`, as [`block_on`](Self::block_on).
    ///
    /// Source: rayon's `ThreadPool::install`.
    #[track_caller]
    pub fn install<F, R>(&self, f: F) -> R
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        if let Some(computing) = local::with(|local| {
            let may_stay = |local: &&local::Local| {
                self.shared.owns(local) && local.remote.role() != Role::Guest && !local.is_in_turn()
            };
            let local = local.filter(may_stay)?;
            // A closure counts as computing already, and goes on doing so.
            Some((!local.seat().is_computing()).then(Computing::begin))
        }) {
            let result = f();
            drop(computing);
            return result;
        }
        unwrap(self.install_away(f), "a closure given to `install`")
    }

    /// Runs `f` as a closure of this runtime, whose thread the caller need not be, and waits for it. `None` if `f` was
    /// dropped unrun: the runtime has been shut down.
    ///
    /// # Panics
    ///
    /// As [`block_on`](Self::block_on).
    #[track_caller]
    pub(crate) fn install_away<F, R>(&self, f: F) -> Outcome<R>
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        let site = Location::caller();
        let mut outcome = None;
        let to = &mut outcome;
        self.wait_for(|| {
            // The closure has the span.
            let carried = Carried::values();
            let body = move || {
                let _in_place = carried.enter();
                *to = run(user_code::placed(f));
            };
            // SAFETY: `wait_for` returns when the closure has been run or dropped; what it borrows is older.
            [unsafe { spawn_erased(&self.shared, body, site) }]
        });
        outcome
    }

    /// Runs `f` once for each worker of this runtime, all at the same time, and returns the results by index.
    ///
    /// A worker is not a thread in Beat. What is promised: there are as many calls as workers; their
    /// [indices](BroadcastContext::index) are 0, 1, 2 and so on, each once; no call begins before all have a
    /// thread of their own, so they run on that many different threads. What is not: that these are the threads which
    /// later run tasks, or those of other broadcasts. To set threads up, use
    /// [`Builder::on_thread_start`](crate::Builder::on_thread_start).
    ///
    /// It waits for workers that compute, as any closure does. Called on a worker of this runtime, that worker is free
    /// for the others while it waits.
    ///
    /// # Examples
    ///
    /// ```
    /// let runtime = beat::Runtime::builder().worker_threads(3).build()?;
    /// let factor = 10;
    /// assert_eq!(runtime.broadcast(|part| part.index() * factor), [0, 10, 20]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If a call panics, with the panic of the lowest index, when all have ended; else as [`install`](Self::install).
    ///
    /// Source: rayon's `broadcast`.
    #[track_caller]
    pub fn broadcast<F, R>(&self, f: F) -> Vec<R>
    where
        F: Fn(BroadcastContext) -> R + Sync,
        R: Send,
    {
        let site = Location::caller();
        let parts = self.current_num_threads();
        let barrier = Barrier::new(parts);
        let mut outcomes: Vec<Outcome<R>> = (0..parts).map(|_| None).collect();
        // The closures have the span.
        let carried = &Carried::values();
        let (f, barrier, to) = (&f, &barrier, &mut outcomes);
        self.wait_for(move || {
            let spawn = |(index, to): (usize, &mut Outcome<R>)| {
                let expected = Expected(barrier);
                let body = move || {
                    expected.begin();
                    if barrier.wait(&self.shared) {
                        let _in_place = carried.enter();
                        *to = run(|| f(BroadcastContext { index, num_threads: parts }));
                    }
                };
                // SAFETY: as in `install`.
                unsafe { spawn_erased(&self.shared, body, site) }
            };
            to.iter_mut().enumerate().map(spawn).collect::<Vec<_>>()
        });
        outcomes.into_iter().map(|outcome| unwrap(outcome, "a broadcast")).collect()
    }

    /// Spawns closures that borrow, and waits until each has been run or dropped.
    #[track_caller]
    fn wait_for<I: IntoIterator<Item = JoinHandle<()>>>(&self, spawn: impl FnOnce() -> I) {
        let closures = async {
            // From here on closures hold borrows, until the handles are ready.
            let must_return = lifecycle::MustReturn("the wait for closures that borrow");
            for handle in spawn() {
                // Whether it has ended or was dropped shows in what it has written.
                let _ = handle.await;
            }
            must_return.has_returned();
        };
        // A thread of another runtime gives its processor up for the time.
        outside::lend(|| super::block_on::block_on(&self.shared, closures));
    }

    /// The number of the processor that the calling worker holds: from 0 up to the number of workers. `None` on a
    /// thread that is no worker of this runtime.
    ///
    /// The number is the thread's own from here on, so that it can index an array with a slot for each worker: no other
    /// thread is told it until this one waits, ends its closure or the poll of its task, or forks (a fork may look
    /// around). Until then the thread keeps its processor, also if it sleeps where Beat does not see it.
    ///
    /// A thread that has waited may have lost its processor. It then takes an idle one, or that of a worker which has
    /// not asked; if all have, it waits up to 100 ms for one, and the answer is `None` if there is none by then.
    pub fn current_thread_index(&self) -> Option<usize> {
        local::with(|local| number::of(local.filter(|local| self.shared.owns(local))))
    }

    /// How many workers this runtime has.
    pub fn current_num_threads(&self) -> usize {
        self.shared.config.workers as usize
    }
}

impl Runtime {
    /// Runs `f` on a worker, and waits for it; see [`Handle::install`].
    #[track_caller]
    pub fn install<F, R>(&self, f: F) -> R
    where
        F: FnOnce() -> R + Send,
        R: Send,
    {
        self.handle().install(f)
    }

    /// Runs `f` once for each worker, all at the same time; see [`Handle::broadcast`].
    #[track_caller]
    pub fn broadcast<F, R>(&self, f: F) -> Vec<R>
    where
        F: Fn(BroadcastContext) -> R + Sync,
        R: Send,
    {
        self.handle().broadcast(f)
    }

    /// The number of the processor that the calling worker holds; see [`Handle::current_thread_index`].
    pub fn current_thread_index(&self) -> Option<usize> {
        self.handle().current_thread_index()
    }

    /// How many workers the runtime has.
    pub fn current_num_threads(&self) -> usize {
        self.handle().current_num_threads()
    }
}

/// Runs `f` once for each worker of the current runtime, or else of the global one; see [`Handle::broadcast`].
///
/// ```
/// let indices = beat::broadcast(|part| part.index());
/// assert_eq!(indices.len(), beat::current_num_threads());
/// ```
///
/// # Panics
///
/// As [`Handle::broadcast`], and if a global runtime is needed and cannot be started.
#[track_caller]
pub fn broadcast<F, R>(f: F) -> Vec<R>
where
    F: Fn(BroadcastContext) -> R + Sync,
    R: Send,
{
    context::with_current_or_global(|shared| Handle { shared: Arc::clone(shared) }).broadcast(f)
}

/// The number of the processor that the calling worker holds, whatever runtime it is of; see
/// [`Handle::current_thread_index`].
///
/// ```
/// assert_eq!(beat::current_thread_index(), None); // no runtime's thread
/// let runtime = beat::Runtime::builder().worker_threads(1).build()?;
/// assert_eq!(runtime.install(beat::current_thread_index), Some(0));
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn current_thread_index() -> Option<usize> {
    local::with(number::of)
}

/// How many workers the current runtime has, or else the global one, which is started if there is none.
///
/// ```
/// assert!(beat::current_num_threads() >= 1);
/// ```
///
/// # Panics
///
/// If a global runtime is needed and cannot be started.
pub fn current_num_threads() -> usize {
    context::with_current_or_global(|shared| shared.config.workers as usize)
}
