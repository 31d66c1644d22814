//! The owner's end of a task.

use std::fmt;
use std::future::Future;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, ready};

use async_task::{FallibleTask, Task};

use super::abort::{AbortHandle, AbortOnDropHandle};
use super::contained::Contained;
use super::inbox::Inbox;
use super::{Id, JoinError, Meta, Output, budget, registry};
use crate::os;
use crate::runtime::block_on;

/// Awaits a spawned task or closure. Dropping it detaches: the task goes on.
///
/// Awaiting gives `Ok(value)`, or a [`JoinError`] if the task panicked, was aborted, or was dropped by the
/// shutdown of its runtime.
///
/// ```
/// # #[beat::main]
/// # async fn main() -> std::io::Result<()> {
/// let task = beat::task::Builder::new().name("endless").spawn(std::future::pending::<()>())?;
/// assert_eq!(task.name(), Some("endless"));
/// println!("task {} was spawned at {}", task.id(), task.spawn_site());
/// assert!(!task.is_finished());
/// task.abort();
/// assert!(task.await.unwrap_err().is_cancelled());
///
/// let task = beat::spawn_blocking_parallel(|| 6 * 7);
/// let stop = task.abort_handle(); // for somebody else to end it with
/// assert_eq!(task.await?, 42);
/// stop.abort(); // too late
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// Cancel safe: a handle that is polled and put aside loses nothing.
#[must_use = "a dropped JoinHandle detaches its task; use `drop` to say so"]
pub struct JoinHandle<T> {
    /// Only empty while being dropped.
    task: Option<FallibleTask<Output<T>, Meta>>,
    /// *Alive*: lies in the task object, to which `task` holds a reference.
    meta: NonNull<Meta>,
}

// SAFETY: `meta` points to a `Sync` header; `FallibleTask` is `Send` for a value that is.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: through a shared handle only the header is reached.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

impl<T> Unpin for JoinHandle<T> {}

// The task catches its panics: none leaves anything torn behind a handle.
impl<T> UnwindSafe for JoinHandle<T> {}
impl<T> RefUnwindSafe for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    pub(super) fn new(task: Task<Output<T>, Meta>) -> Self {
        let meta = NonNull::from(task.metadata());
        Self { task: Some(task.fallible()), meta }
    }

    pub(super) fn meta(&self) -> &Meta {
        // SAFETY: *Alive*.
        unsafe { self.meta.as_ref() }
    }

    /// Asks the task to end.
    ///
    /// A future is dropped at its next suspension point, or when it is next polled; a closure that has not
    /// begun is dropped; a running one unwinds at its next [`join`](crate::join). The handle then gives a
    /// [`JoinError`] with [`is_cancelled`](JoinError::is_cancelled). A task that has finished keeps its value.
    pub fn abort(&self) {
        self.meta().abort();
    }

    /// A handle that can abort the task, and nothing else.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle::new(self.meta())
    }

    /// Turns this into a handle that aborts the task when dropped.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let answer = beat::spawn_blocking_parallel(|| 6 * 7).abort_on_drop();
    /// assert_eq!(answer.await.unwrap(), 42);
    /// # }
    /// ```
    pub fn abort_on_drop(self) -> AbortOnDropHandle<T> {
        AbortOnDropHandle::new(self)
    }

    /// Whether the task has ended, one way or the other.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(FallibleTask::is_finished)
    }

    /// The task's number.
    pub fn id(&self) -> Id {
        self.meta().id
    }

    /// Where the task was spawned.
    pub fn spawn_site(&self) -> &'static std::panic::Location<'static> {
        self.meta().site()
    }

    /// The name that the task was given by a [`task::Builder`](super::Builder).
    pub fn name(&self) -> Option<&str> {
        self.meta().name().map(|name| &**name)
    }

    /// Waits for the task on this thread, and gives what awaiting the handle would give.
    ///
    /// Allowed anywhere, also inside tasks and closures: a worker hands its processor over while it waits. In async
    /// code awaiting the handle is cheaper.
    ///
    /// ```
    /// let runtime = beat::Runtime::new()?;
    /// let task = runtime.spawn(async { 6 * 7 });
    /// assert_eq!(task.join()?, 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The task panicked, was aborted, or was dropped by the shutdown of its runtime.
    ///
    /// # Panics
    ///
    /// Where the wait would never end: inside a task that was given to `tokio::spawn`, which sits in the driver; on
    /// the thread of the [`LocalSet`](super::LocalSet) that the task belongs to, unless it has ended; and in a child
    /// of `fork`, for a task of the parent's.
    #[track_caller]
    pub fn join(mut self) -> Result<T, JoinError> {
        self.wait()
    }

    #[track_caller]
    pub(super) fn wait(&mut self) -> Result<T, JoinError> {
        if !self.is_finished() {
            self.assert_will_end();
        }
        block_on::wait_for("join", self)
    }

    #[track_caller]
    fn assert_will_end(&self) {
        assert!(
            !self.meta().inbox().is_some_and(Inbox::is_here),
            "`join` was called on the thread of the `LocalSet` that the task belongs to: it cannot run while this \
             thread waits. `.await` the handle inside the set instead"
        );
        if os::forks() > 0 {
            registry::with(self.meta(), |_| {
                // SAFETY: *Runtime*: the entry stands in the registry, whose shard is locked here.
                if let Some(shared) = unsafe { self.meta().runtime() } {
                    shared.assert_not_forked();
                }
            });
        }
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.is_finished() {
            // There is nothing to wait for: that is what a budget is for.
            ready!(budget::poll_proceed(cx));
        }
        let this = &mut *self;
        // SAFETY: *Alive*.
        let meta = unsafe { this.meta.as_ref() };
        let task = this.task.as_mut().expect("only empty while being dropped");
        let output = ready!(Pin::new(task).poll(cx));
        // No output: the future was dropped before it had finished.
        Poll::Ready(output.map_or_else(|| Err(JoinError::cancelled(meta)), Contained::into_inner))
    }
}

impl<T> Drop for JoinHandle<T> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.detach();
        }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("JoinHandle");
        shown.field("id", &self.id());
        if let Some(name) = self.name() {
            shown.field("name", &name);
        }
        shown
            .field("spawned_at", &format_args!("{}", self.spawn_site()))
            .field("finished", &self.is_finished())
            .finish()
    }
}
