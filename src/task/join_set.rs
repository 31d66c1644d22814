//! Many tasks awaited together, in the order in which they end.
//!
//! The handles lie in a [`FuturesUnordered`], which polls those that were woken and no others. It is always polled
//! with the set's own waker, the [`Waiter`]: that passes a wake on to whoever was told `Pending` last. So a look
//! without a context ([`JoinSet::try_join_next`]) leaves the one who waits registered.
//!
//! This stands on the public handles alone: the scheduler knows nothing of sets.

mod builder;

pub use builder::Builder;

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Wake, Waker, ready};

use futures::stream::{FuturesUnordered, StreamExt};
use futures::task::AtomicWaker;

use super::{AbortHandle, Id, JoinError, JoinHandle, LocalSet, budget};
use crate::runtime::Handle;

/// Tasks and closures that end together: awaited as they end, aborted when the set is dropped.
///
/// All have the same result type; futures and closures may be mixed.
///
/// ```
/// use beat::JoinSet;
///
/// # #[beat::main]
/// # async fn main() {
/// let mut set = JoinSet::new();
/// for i in 0..10_u64 {
///     set.spawn(async move { i });
///     set.spawn_blocking_parallel(move || i * i);
/// }
/// let mut sum = 0;
/// while let Some(result) = set.join_next().await {
///     sum += result.unwrap();
/// }
/// assert_eq!(sum, 45 + 285);
/// # }
/// ```
#[must_use = "dropping a JoinSet aborts its tasks; `detach_all` lets them run"]
pub struct JoinSet<T> {
    members: FuturesUnordered<Member<T>>,
    waiter: Arc<Waiter>,
}

/// A handle that gives the task's number with its result. The set drops it when it is ready, and so polls it no
/// more.
struct Member<T>(JoinHandle<T>);

impl<T> Future for Member<T> {
    type Output = (Id, Result<T, JoinError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(Pin::new(&mut self.0).poll(cx));
        Poll::Ready((self.0.id(), result))
    }
}

/// What wakes a set, and whom that wakes.
#[derive(Default)]
struct Waiter {
    /// Whether there was a wake since this was last cleared.
    woken: AtomicBool,
    /// Who was told `Pending` last.
    waker: AtomicWaker,
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Relaxed: it is read by the thread that polls, about wakes of its own.
        self.woken.store(true, Relaxed);
        self.waker.wake();
    }
}

impl<T> JoinSet<T> {
    /// An empty set.
    pub fn new() -> Self {
        Self { members: FuturesUnordered::new(), waiter: Arc::default() }
    }

    /// How many tasks are in the set: those whose results were not taken yet, ended or not.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut set = beat::JoinSet::new();
    /// assert!(set.is_empty());
    /// set.spawn(async { 5 });
    /// assert_eq!(set.len(), 1);
    /// set.join_next().await;
    /// assert!(set.is_empty());
    /// # }
    /// ```
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether every result was taken.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Waits for the next task to end and takes its result; `None` if the set is empty.
    ///
    /// # Errors
    ///
    /// The task panicked, was aborted, or was dropped by the shutdown of its runtime. It has left the set all the
    /// same.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a result leaves the set only with the return of this.
    pub async fn join_next(&mut self) -> Option<Result<T, JoinError>> {
        poll_fn(|cx| self.poll_join_next(cx)).await
    }

    /// As [`join_next`](Self::join_next), with the task's number. An error [knows](JoinError::id) its own.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut set = beat::JoinSet::new();
    /// let task = set.spawn(async { 5 });
    /// let (id, value) = set.join_next_with_id().await.unwrap().unwrap();
    /// assert_eq!((id, value), (task.id(), 5));
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`join_next`](Self::join_next).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a result leaves the set only with the return of this.
    pub async fn join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        poll_fn(|cx| self.poll_join_next_with_id(cx)).await
    }

    /// Takes the result of a task that has ended; `None` if there is none at the moment.
    ///
    /// Whoever waits for the set by [`poll_join_next`](Self::poll_join_next) is still woken after this. A task's
    /// result may come a moment after its [`is_finished`](AbortHandle::is_finished).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut set = beat::JoinSet::new();
    /// assert!(set.try_join_next().is_none());
    /// set.spawn(async { 5 });
    /// let value = loop {
    ///     match set.try_join_next() {
    ///         Some(result) => break result.unwrap(),
    ///         None => beat::yield_now().await,
    ///     }
    /// };
    /// assert_eq!(value, 5);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`join_next`](Self::join_next).
    pub fn try_join_next(&mut self) -> Option<Result<T, JoinError>> {
        self.try_next().map(|(_, result)| result)
    }

    /// As [`try_join_next`](Self::try_join_next), with the task's number.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut set = beat::JoinSet::new();
    /// let task = set.spawn(async { 5 });
    /// let result = loop {
    ///     match set.try_join_next_with_id() {
    ///         Some(result) => break result.unwrap(),
    ///         None => beat::yield_now().await,
    ///     }
    /// };
    /// assert_eq!(result, (task.id(), 5));
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`join_next`](Self::join_next).
    pub fn try_join_next_with_id(&mut self) -> Option<Result<(Id, T), JoinError>> {
        self.try_next().map(|(id, result)| result.map(|value| (id, value)))
    }

    /// Waits for all tasks, and gives their values in the order in which they ended.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let set: beat::JoinSet<_> = (0..4).map(|i| async move { i }).collect();
    /// let mut values = set.join_all().await;
    /// values.sort();
    /// assert_eq!(values, [0, 1, 2, 3]);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// With the panic of the first task that panicked, or if one was cancelled. The others are aborted then.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: when this is dropped, the tasks are aborted and the values so far are lost.
    pub async fn join_all(mut self) -> Vec<T> {
        let mut values = Vec::with_capacity(self.len());
        while let Some(result) = self.join_next().await {
            match result.map_err(JoinError::try_into_panic) {
                Ok(value) => values.push(value),
                Err(Ok(payload)) => resume_unwind(payload),
                Err(Err(error)) => panic!("{error}: `join_all` needs every value"),
            }
        }
        values
    }

    /// Aborts all tasks and waits until each has ended; see [`JoinHandle::abort`]. The set is empty then.
    ///
    /// Results are thrown away, panics too.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut set = beat::JoinSet::new();
    /// set.spawn(std::future::pending::<()>());
    /// set.shutdown().await;
    /// assert!(set.is_empty());
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the tasks are aborted by the first poll; those that have not ended stay in the set.
    pub async fn shutdown(&mut self) {
        self.abort_all();
        while self.join_next().await.is_some() {}
    }

    /// Asks all tasks to end; see [`JoinHandle::abort`]. They stay in the set until they are joined.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut set = beat::JoinSet::new();
    /// set.spawn(std::future::pending::<()>());
    /// set.abort_all();
    /// assert!(set.join_next().await.unwrap().unwrap_err().is_cancelled());
    /// # }
    /// ```
    pub fn abort_all(&mut self) {
        for member in &self.members {
            member.0.abort();
        }
    }

    /// Takes all tasks out of the set and lets them run.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let (send, receive) = tokio::sync::oneshot::channel();
    /// let mut set = beat::JoinSet::new();
    /// set.spawn(async { send.send("still here") });
    /// set.detach_all();
    /// drop(set);
    /// assert_eq!(receive.await.unwrap(), "still here");
    /// # }
    /// ```
    pub fn detach_all(&mut self) {
        self.members.clear();
    }

    /// [`join_next`](Self::join_next) as a poll: of the calls that gave `Pending`, the last one's waker is woken.
    ///
    /// `Pending` does not promise that no task has ended: it may have had the waker woken, to be polled again when
    /// others have had a turn. Tasks that are spawned after it wake the waker too.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut set = beat::JoinSet::new();
    /// set.spawn(async { 5 });
    /// let next = std::future::poll_fn(|cx| set.poll_join_next(cx)).await;
    /// assert_eq!(next.unwrap().unwrap(), 5);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`join_next`](Self::join_next).
    pub fn poll_join_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        self.poll_next(cx).map(|next| next.map(|(_, result)| result))
    }

    /// [`join_next_with_id`](Self::join_next_with_id) as a poll; see [`poll_join_next`](Self::poll_join_next).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut set = beat::JoinSet::new();
    /// let task = set.spawn(async { 5 });
    /// let next = std::future::poll_fn(|cx| set.poll_join_next_with_id(cx)).await;
    /// assert_eq!(next.unwrap().unwrap(), (task.id(), 5));
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`join_next`](Self::join_next).
    pub fn poll_join_next_with_id(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<(Id, T), JoinError>>> {
        self.poll_next(cx).map(|next| next.map(|(id, result)| result.map(|value| (id, value))))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Id, Result<T, JoinError>)>> {
        // First: a task that ends from here on wakes it.
        self.waiter.waker.register(cx.waker());
        self.poll_members()
    }

    fn try_next(&mut self) -> Option<(Id, Result<T, JoinError>)> {
        loop {
            // Relaxed: see `Waiter::wake_by_ref`.
            self.waiter.woken.store(false, Relaxed);
            // Without a budget: this cannot yield, and would go round for ever.
            match budget::without(|| self.poll_members()) {
                Poll::Ready(next) => return next,
                // It may have given up before it had looked at all that are ready: then it has woken itself.
                // Relaxed: as above.
                Poll::Pending if self.waiter.woken.load(Relaxed) => {}
                Poll::Pending => return None,
            }
        }
    }

    fn poll_members(&mut self) -> Poll<Option<(Id, Result<T, JoinError>)>> {
        let waker = Waker::from(Arc::clone(&self.waiter));
        self.members.poll_next_unpin(&mut Context::from_waker(&waker))
    }

    fn insert(&mut self, handle: JoinHandle<T>) -> AbortHandle {
        let abort = handle.abort_handle();
        self.members.push(Member(handle));
        // The new member is heard of only once it was polled: whoever waits for the set has to look again.
        self.waiter.waker.wake();
        abort
    }
}

impl<T: 'static> JoinSet<T> {
    /// Spawns a future that stays on this thread into this set, and into the current [`LocalSet`]; see
    /// [`spawn_local`](super::spawn_local).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// use std::rc::Rc;
    ///
    /// let local = beat::LocalSet::new();
    /// let values = local.run_until(async {
    ///     let shared = Rc::new(5);
    ///     let mut set = beat::JoinSet::new();
    ///     set.spawn_local(async move { *shared });
    ///     set.join_all().await
    /// });
    /// assert_eq!(values.await, [5]);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Outside of a `LocalSet`.
    #[track_caller]
    pub fn spawn_local<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        self.insert(super::spawn_local(future))
    }

    /// Spawns a future that stays on this thread into this set and into `local`; see [`LocalSet::spawn_local`].
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let local = beat::LocalSet::new();
    /// let mut set = beat::JoinSet::new();
    /// let shared = std::rc::Rc::new(5);
    /// set.spawn_local_on(async move { *shared }, &local);
    /// assert_eq!(local.run_until(set.join_all()).await, [5]);
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn_local_on<F>(&mut self, future: F, local: &LocalSet) -> AbortHandle
    where
        F: Future<Output = T> + 'static,
    {
        self.insert(local.spawn_local(future))
    }

    /// Spawns a task with a name into the set; see [`task::Builder`](super::Builder).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() -> std::io::Result<()> {
    /// let mut set = beat::JoinSet::new();
    /// set.build_task().name("answer").spawn_blocking_parallel(|| 6 * 7)?;
    /// assert_eq!(set.join_all().await, [42]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn build_task(&mut self) -> Builder<'_, T> {
        Builder { set: self, builder: super::Builder::new() }
    }
}

impl<T: Send + 'static> JoinSet<T> {
    /// Spawns a future into the set; see [`beat::spawn`](crate::spawn).
    ///
    /// # Panics
    ///
    /// If a global runtime is needed and cannot be started.
    #[track_caller]
    pub fn spawn<F>(&mut self, future: F) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.insert(crate::spawn(future))
    }

    /// Spawns a future on `runtime`, into the set; see [`Handle::spawn`].
    ///
    /// ```
    /// let runtime = beat::Runtime::new()?;
    /// let mut set = beat::JoinSet::new();
    /// set.spawn_on(async { 5 }, runtime.handle());
    /// assert_eq!(runtime.block_on(set.join_all()), [5]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_on<F>(&mut self, future: F, runtime: &Handle) -> AbortHandle
    where
        F: Future<Output = T> + Send + 'static,
    {
        self.insert(runtime.spawn(future))
    }

    /// Runs a closure that blocks, in the set; see [`beat::spawn_blocking`](crate::spawn_blocking).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut set = beat::JoinSet::new();
    /// set.spawn_blocking(|| std::fs::read_dir("/").is_ok());
    /// assert_eq!(set.join_all().await, [true]);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If a global runtime is needed and cannot be started.
    #[track_caller]
    pub fn spawn_blocking<F>(&mut self, f: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.insert(crate::spawn_blocking(f))
    }

    /// Runs a closure that blocks on `runtime`, in the set; see [`Handle::spawn_blocking`].
    ///
    /// ```
    /// let runtime = beat::Runtime::new()?;
    /// let mut set = beat::JoinSet::new();
    /// set.spawn_blocking_on(|| std::fs::read_dir("/").is_ok(), runtime.handle());
    /// assert_eq!(runtime.block_on(set.join_all()), [true]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_blocking_on<F>(&mut self, f: F, runtime: &Handle) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.insert(runtime.spawn_blocking(f))
    }

    /// Runs a CPU-bound closure in the set; see
    /// [`beat::spawn_blocking_parallel`](crate::spawn_blocking_parallel).
    ///
    /// # Panics
    ///
    /// If a global runtime is needed and cannot be started.
    #[track_caller]
    pub fn spawn_blocking_parallel<F>(&mut self, f: F) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.insert(crate::spawn_blocking_parallel(f))
    }

    /// Runs a CPU-bound closure on `runtime`, in the set; see [`Handle::spawn_blocking_parallel`].
    ///
    /// ```
    /// let runtime = beat::Runtime::new()?;
    /// let mut set = beat::JoinSet::new();
    /// set.spawn_blocking_parallel_on(|| 6 * 7, runtime.handle());
    /// assert_eq!(runtime.block_on(set.join_all()), [42]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn_blocking_parallel_on<F>(&mut self, f: F, runtime: &Handle) -> AbortHandle
    where
        F: FnOnce() -> T + Send + 'static,
    {
        self.insert(runtime.spawn_blocking_parallel(f))
    }
}

impl<T> Drop for JoinSet<T> {
    fn drop(&mut self) {
        self.abort_all();
    }
}

impl<T> Default for JoinSet<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for JoinSet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSet").field("len", &self.len()).finish()
    }
}

/// Spawns each future into a new set; see [`JoinSet::spawn`].
impl<T, F> FromIterator<F> for JoinSet<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    #[track_caller]
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> Self {
        let mut set = Self::new();
        set.extend(futures);
        set
    }
}

/// Spawns each future into the set; see [`JoinSet::spawn`].
impl<T, F> Extend<F> for JoinSet<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    #[track_caller]
    fn extend<I: IntoIterator<Item = F>>(&mut self, futures: I) {
        for future in futures {
            self.spawn(future);
        }
    }
}
