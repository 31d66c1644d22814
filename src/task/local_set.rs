//! Tasks that stay on one thread, and may hold what other threads must not see.
//!
//! A [`LocalSet`] is polled like a future, on the thread that made it; each poll polls its ready tasks, in the order
//! in which they became ready, at most [`TASKS_PER_POLL`] at a time. Tasks woken while the set is polled go into its
//! own queue; all others come through the [inbox](super::inbox), which holds the protocol.
//!
//! A set belongs to a thread and not to a runtime: what its tasks find current (timers, `beat::spawn`) is what
//! whoever polls the set has entered.
//!
//! Source of the batch, and of the idea: tokio's `LocalSet`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::panic::Location;
use std::pin::{Pin, pin};
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::budget::Budgets;
use super::inbox::Inbox;
use super::label::Label;
use super::{Home, JoinHandle, Meta, Runnable, TaskFuture, registry};
use crate::runtime::{Handle, context};

/// How many tasks one poll of a set polls, so that the future beside it has its turn. Source: tokio's
/// `MAX_TASKS_PER_TICK`.
const TASKS_PER_POLL: u32 = 61;

/// Tasks that are polled on the thread of the set alone, and so need not be `Send`.
///
/// Spawn into it with [`spawn_local`](Self::spawn_local), or with [`beat::task::spawn_local`](spawn_local) inside
/// it. They run while the set is polled: in [`run_until`](Self::run_until), in [`block_on`](Self::block_on), or as
/// the set itself is awaited, which ends when all of its tasks have ended. Dropping the set drops the futures of its
/// tasks; their handles say "cancelled".
///
/// Handles are those of any other task and may go to other threads, if the value may. A future that is aborted from
/// there is dropped here, when the set is polled next.
///
/// The set is polled by one future at a time: of several that wait in [`run_until`](Self::run_until), only the one
/// polled last hears of its tasks. Code that calls tokio's own `spawn_local` needs tokio's own `LocalSet`, which
/// works inside [`Handle::block_on`] too.
///
/// # Examples
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// let runtime = beat::Runtime::new()?;
/// let set = beat::LocalSet::new();
/// let count = Rc::new(Cell::new(0));
/// set.block_on(&runtime, async {
///     let tasks: Vec<_> = (0..3)
///         .map(|i| {
///             let count = Rc::clone(&count);
///             beat::task::spawn_local(async move { count.set(count.get() + i) })
///         })
///         .collect();
///     for task in tasks {
///         task.await.unwrap();
///     }
/// });
/// assert_eq!(count.get(), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// It cannot leave its thread:
///
/// ```compile_fail,E0277
/// let set = beat::LocalSet::new();
/// std::thread::spawn(move || drop(set));
/// ```
#[must_use = "dropping a LocalSet drops its tasks; poll it, by `run_until` say"]
pub struct LocalSet {
    owner: Rc<Owner>,
    not_send: PhantomData<*const ()>,
}

/// The set's own side of it, which never leaves its thread. It outlives the set where a guard still refers to it.
struct Owner {
    inbox: Arc<Inbox>,
    /// Tasks that are ready, in the order in which they will be polled.
    queue: RefCell<VecDeque<Runnable>>,
    /// The set is being polled: whatever comes into `queue` is seen to.
    is_polled: Cell<bool>,
    /// The set has been dropped, or is being.
    is_closed: Cell<bool>,
    budgets: Budgets,
}

thread_local! {
    /// The sets entered on this thread, the current one last. Guards may go in any order.
    static STACK: RefCell<Vec<Rc<Owner>>> = const { RefCell::new(Vec::new()) };
}

/// A set entered on this thread, until dropped.
struct Entered(Rc<Owner>);

impl Entered {
    fn new(owner: &Rc<Owner>) -> Self {
        // At the end of a thread the stack may be gone: then nothing is current, and nothing need be taken back.
        let _ = STACK.try_with(|stack| stack.borrow_mut().push(Rc::clone(owner)));
        Self(Rc::clone(owner))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let entry = STACK.try_with(|stack| {
            let mut stack = stack.borrow_mut();
            let place = stack.iter().rposition(|owner| Rc::ptr_eq(owner, &self.0));
            place.map(|place| stack.remove(place))
        });
        drop(entry);
    }
}

/// The set entered last on this thread.
fn current() -> Option<Rc<Owner>> {
    STACK.try_with(|stack| stack.borrow().last().cloned()).ok().flatten()
}

/// async-task's schedule function for a task of a set.
fn schedule(inbox: &Inbox, task: Runnable) {
    let entered = STACK.try_with(|stack| {
        let stack = stack.borrow();
        stack.iter().rev().find(|owner| ptr::eq(&*owner.inbox, inbox)).cloned()
    });
    match entered.ok().flatten() {
        Some(owner) => owner.push(task),
        None => inbox.push(task),
    }
}

impl Owner {
    fn spawn<F>(&self, future: F, label: Label) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let inbox = Arc::clone(&self.inbox);
        let builder = async_task::Builder::new().metadata(Meta::new(Home::Set(&self.inbox), label));
        // SAFETY: 1. the future need not be `Send`: *Own thread*, and this is the set's. 2. It is `'static`; what it
        // refers to, the header, lies in the same object. 3. The schedule function is `Send`, `Sync` and `'static`.
        // 4. The handle is `Send` for a value that is.
        let (runnable, task) = unsafe {
            builder.spawn_unchecked(
                move |meta| TaskFuture::new(meta, future),
                move |runnable| schedule(&inbox, runnable),
            )
        };
        let handle = JoinHandle::new(task);
        registry::insert(runnable.metadata(), runnable.waker());
        if self.is_closed.get() {
            drop(runnable);
        } else {
            runnable.schedule();
        }
        handle
    }

    /// Queues a task that was woken on this thread, with the set entered.
    fn push(&self, task: Runnable) {
        self.queue.borrow_mut().push_back(task);
        if !self.is_polled.get() {
            self.inbox.wake_poller();
        }
    }

    fn pop(&self) -> Option<Runnable> {
        self.queue.borrow_mut().pop_front()
    }

    /// Poll 2 of the [inbox](super::inbox).
    fn take_arrived(&self) {
        self.inbox.take(&mut self.queue.borrow_mut());
    }

    /// Polls `beside`, then tasks of the set.
    fn poll<R>(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        beside: impl FnOnce(&mut Context<'_>) -> Poll<R>,
    ) -> Poll<R> {
        let _entered = Entered::new(self);
        if self.is_polled.get() {
            // By one of its own tasks. The poll further up goes on with the others when this one has returned:
            // here they would run on top of it.
            return beside(cx);
        }
        // Poll 1 of the inbox.
        self.inbox.register(cx.waker());
        let _polling = Polling::begin(self);
        let polled = beside(cx);
        if polled.is_pending() {
            self.poll_tasks();
        }
        polled
    }

    fn poll_tasks(&self) {
        self.take_arrived();
        let limit = context::poll_budget();
        self.budgets.inside(|| {
            for _ in 0..TASKS_PER_POLL {
                let Some(task) = self.pop() else { return };
                self.budgets.begin_poll(limit);
                // Whether it was woken while it ran is its schedule function's business.
                let _ = task.run();
                self.budgets.end_poll();
            }
        });
    }

    /// Drops all tasks.
    fn close(self: &Rc<Self>) {
        let _entered = Entered::new(self);
        self.is_closed.set(true);
        self.inbox.forget_poller();
        loop {
            // Each that is in no queue comes into one, or is being brought by whoever has woken it.
            for waker in self.inbox.wakers() {
                waker.wake();
            }
            self.take_arrived();
            while let Some(task) = self.pop() {
                drop(task);
            }
            if self.inbox.len() == 0 {
                return;
            }
            self.inbox.wait();
        }
    }
}

/// The set is being polled, until this is dropped.
struct Polling<'a>(&'a Owner);

impl<'a> Polling<'a> {
    fn begin(owner: &'a Owner) -> Self {
        owner.is_polled.set(true);
        Self(owner)
    }
}

impl Drop for Polling<'_> {
    /// Whatever is left in the queue, after a full batch or because the future beside the set has ended or has
    /// panicked, came without a wake.
    fn drop(&mut self) {
        self.0.is_polled.set(false);
        if !self.0.queue.borrow().is_empty() {
            self.0.inbox.wake_poller();
        }
    }
}

impl LocalSet {
    /// An empty set, of the calling thread.
    pub fn new() -> Self {
        let owner = Owner {
            inbox: Inbox::new(),
            queue: RefCell::default(),
            is_polled: Cell::new(false),
            is_closed: Cell::new(false),
            budgets: Budgets::default(),
        };
        Self { owner: Rc::new(owner), not_send: PhantomData }
    }

    /// Spawns a task into the set. It is first polled when the set is.
    ///
    /// ```
    /// let set = beat::LocalSet::new();
    /// let task = set.spawn_local(async { 6 * 7 });
    /// let answer = set.block_on(&beat::Runtime::new()?, task);
    /// assert_eq!(answer.unwrap(), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_local<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.spawn_labelled(future, Label::from(Location::caller()))
    }

    pub(super) fn spawn_labelled<F>(&self, future: F, label: Label) -> JoinHandle<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.owner.spawn(future, label)
    }

    /// Runs `future` to its end, and the set's tasks meanwhile. What has not ended then stays in the set.
    ///
    /// `future` comes first in each poll, then at most 61 tasks; so neither starves the other.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let set = beat::LocalSet::new();
    /// let shared = std::rc::Rc::new(5);
    /// let sum = set.run_until(async {
    ///     let mine = shared.clone();
    ///     let task = beat::task::spawn_local(async move { *mine });
    ///     *shared + task.await.unwrap()
    /// });
    /// assert_eq!(sum.await, 10);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If `future` panics. Panics of tasks go to their handles.
    ///
    /// # Cancel safety
    ///
    /// As that of `future`; the tasks stay in the set.
    pub async fn run_until<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.owner.poll(cx, |cx| future.as_mut().poll(cx))).await
    }

    /// Runs `future` to its end on this thread, and the set's tasks meanwhile, with `runtime` entered: a
    /// [`Runtime`](crate::Runtime) or a [`Handle`]. See [`run_until`](Self::run_until).
    ///
    /// # Panics
    ///
    /// As [`Handle::block_on`]; and inside a task of this very set, whose other tasks could not run meanwhile.
    #[track_caller]
    pub fn block_on<F: Future>(&self, runtime: &impl AsRef<Handle>, future: F) -> F::Output {
        assert!(
            !self.owner.is_polled.get(),
            "`LocalSet::block_on` was called by a task of the same set: the set's other tasks would have to run on \
             top of it. `.await` instead of blocking"
        );
        runtime.as_ref().block_on(self.run_until(future))
    }

    /// Makes this the set that [`spawn_local`] spawns into on this thread, until the guard is dropped.
    ///
    /// ```
    /// let set = beat::LocalSet::new();
    /// let entered = set.enter();
    /// let task = beat::task::spawn_local(async { 5 });
    /// drop(entered);
    /// assert_eq!(set.block_on(&beat::Runtime::new()?, task).unwrap(), 5);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn enter(&self) -> LocalEnterGuard {
        LocalEnterGuard { _entered: Entered::new(&self.owner) }
    }
}

/// Polls the set's tasks; ready when all of them have ended.
impl Future for LocalSet {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.owner.poll(cx, |_| Poll::<()>::Pending);
        if self.owner.inbox.len() == 0 { Poll::Ready(()) } else { polled }
    }
}

impl Default for LocalSet {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for LocalSet {
    fn drop(&mut self) {
        self.owner.close();
    }
}

impl fmt::Debug for LocalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSet").field("tasks", &self.owner.inbox.len()).finish()
    }
}

/// Keeps a [`LocalSet`] current on this thread; from [`LocalSet::enter`].
///
/// ```
/// let set = beat::LocalSet::new();
/// let entered: beat::task::LocalEnterGuard = set.enter();
/// let task = beat::task::spawn_local(async { 5 });
/// drop(entered);
/// assert_eq!(set.block_on(&beat::Runtime::new()?, task)?, 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use = "the set is left when the guard is dropped"]
pub struct LocalEnterGuard {
    _entered: Entered,
}

impl fmt::Debug for LocalEnterGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalEnterGuard").finish_non_exhaustive()
    }
}

/// Spawns a task that stays on this thread, into the current [`LocalSet`].
///
/// That is the set whose task or `run_until` calls this, or which was [entered](LocalSet::enter).
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let set = beat::LocalSet::new();
/// let answer = set.run_until(async { beat::task::spawn_local(async { 6 * 7 }).await });
/// assert_eq!(answer.await.unwrap(), 42);
/// # }
/// ```
///
/// # Panics
///
/// Outside of a `LocalSet`.
#[track_caller]
pub fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_local_labelled(future, Label::from(Location::caller()))
}

#[track_caller]
pub(super) fn spawn_local_labelled<F>(future: F, label: Label) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    match current() {
        Some(owner) => owner.spawn(future, label),
        None => panic!(
            "`spawn_local` was called outside of a `LocalSet`: call it inside `LocalSet::run_until`, inside \
             `LocalSet::block_on` or after `LocalSet::enter`; a future that is `Send` can go to `beat::spawn`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;

    use super::*;

    /// Says that it was dropped.
    struct SaysSo(Arc<AtomicBool>);

    impl Drop for SaysSo {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }

    /// The one moment of a wake that no user can hold: the task is scheduled, and in no queue yet.
    #[test]
    fn a_set_that_is_dropped_waits_for_a_task_that_somebody_brings() {
        let set = LocalSet::new();
        let dropped = Arc::new(AtomicBool::new(false));
        let guard = SaysSo(Arc::clone(&dropped));
        let task = set.spawn_local(async move { drop(guard) });
        let inbox = Arc::clone(&set.owner.inbox);
        let mut arrived = VecDeque::new();
        inbox.take(&mut arrived);
        let in_hand = arrived.pop_front().expect("it was spawned from outside of a poll");
        let somebody = std::thread::spawn(move || {
            while !inbox.is_closing() {
                std::thread::yield_now();
            }
            inbox.push(in_hand);
        });
        drop(set);
        assert!(dropped.load(SeqCst));
        assert!(task.join().unwrap_err().is_cancelled());
        somebody.join().unwrap();
    }
}
