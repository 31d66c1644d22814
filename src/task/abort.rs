//! Ending a task from outside.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::ptr::NonNull;
use std::task::{Context, Poll, Waker};

use super::{Id, JoinError, JoinHandle, Meta, registry};

/// Aborts one task; see [`JoinHandle::abort`]. Cheap to clone, and does not keep the task's value.
///
/// ```
/// # #[beat::main]
/// # async fn main() -> std::io::Result<()> {
/// let task = beat::task::Builder::new().name("endless").spawn(std::future::pending::<()>())?;
/// let other = task.abort_handle();
/// assert_eq!((other.id(), other.name()), (task.id(), Some("endless")));
/// other.abort();
/// assert!(task.await.unwrap_err().is_cancelled());
/// assert!(other.is_finished());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AbortHandle {
    id: Id,
    /// `None` if the task had finished already.
    task: Option<Reference>,
}

/// A reference to a task object: the waker keeps it allocated.
#[derive(Clone)]
struct Reference {
    /// *Alive*: lies in the object that the waker refers to.
    meta: NonNull<Meta>,
    _waker: Waker,
}

// SAFETY: `meta` points to a `Sync` header.
unsafe impl Send for Reference {}
// SAFETY: as above.
unsafe impl Sync for Reference {}

impl Reference {
    fn meta(&self) -> &Meta {
        // SAFETY: *Alive*.
        unsafe { self.meta.as_ref() }
    }
}

impl AbortHandle {
    pub(super) fn new(meta: &Meta) -> Self {
        let task =
            registry::with(meta, |waker| Reference { meta: NonNull::from(meta), _waker: waker.clone() });
        Self { id: meta.id, task }
    }

    /// Asks the task to end; see [`JoinHandle::abort`].
    pub fn abort(&self) {
        if let Some(task) = &self.task {
            task.meta().abort();
        }
    }

    /// Whether the task has ended, one way or the other.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(|task| task.meta().is_done())
    }

    /// The task's number.
    pub fn id(&self) -> Id {
        self.id
    }

    /// The name that the task was given by a [`task::Builder`](super::Builder); `None` too if it had finished when
    /// this handle was made.
    pub fn name(&self) -> Option<&str> {
        self.task.as_ref()?.meta().name().map(|name| &**name)
    }
}

impl fmt::Debug for AbortHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("AbortHandle");
        shown.field("id", &self.id);
        if let Some(name) = self.name() {
            shown.field("name", &name);
        }
        shown.finish()
    }
}

/// Awaits a task like [`JoinHandle`], and aborts it when dropped: work whose client has gone ends.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let (send, receive) = tokio::sync::oneshot::channel::<()>();
/// let task = beat::spawn(async move {
///     let _keeps = send;
///     std::future::pending::<()>().await;
/// })
/// .abort_on_drop();
/// assert!(!task.is_finished());
/// println!("task {} will end with this handle", task.id());
/// drop(task);
/// assert!(receive.await.is_err());
///
/// let task = beat::spawn(std::future::pending::<()>()).abort_on_drop();
/// task.abort();
/// assert!(task.await.unwrap_err().is_cancelled());
/// # }
/// ```
#[must_use = "the task is aborted when this is dropped"]
#[derive(Debug)]
pub struct AbortOnDropHandle<T> {
    handle: JoinHandle<T>,
}

impl<T> AbortOnDropHandle<T> {
    pub(super) fn new(handle: JoinHandle<T>) -> Self {
        Self { handle }
    }

    /// Asks the task to end now.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Whether the task has ended, one way or the other.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }

    /// The task's number.
    pub fn id(&self) -> Id {
        self.handle.id()
    }

    /// Waits for the task on this thread; see [`JoinHandle::join`].
    ///
    /// ```
    /// let runtime = beat::Runtime::new()?;
    /// assert_eq!(runtime.spawn(async { 6 * 7 }).abort_on_drop().join()?, 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The task panicked, was aborted, or was dropped by the shutdown of its runtime.
    ///
    /// # Panics
    ///
    /// See [`JoinHandle::join`]. The task is aborted then.
    #[track_caller]
    pub fn join(mut self) -> Result<T, JoinError> {
        self.handle.wait()
    }
}

impl<T> Future for AbortOnDropHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(cx)
    }
}

impl<T> Drop for AbortOnDropHandle<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
