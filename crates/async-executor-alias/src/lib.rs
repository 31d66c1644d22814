//! async-executor's types on Beat's, for the tests of async-executor that `scripts/tokio-tests` runs.
//!
//! An executor is a runtime, and its tasks run without being driven: `run` polls what it is given and no more, and a
//! tick waits until a task has been polled that no tick has told of. Tasks must be `'static`, as Beat's are.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use beat::{AbortOnDropHandle, JoinError, LocalSet, Runtime};

/// Ends its future when dropped; panics as that did, or when it was cancelled.
#[derive(Debug)]
pub struct Task<T>(AbortOnDropHandle<T>);

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.unwrap_or_else(|error| rethrow(error)))
    }
}

fn rethrow(error: JoinError) -> ! {
    match error.try_into_panic() {
        Ok(payload) => std::panic::resume_unwind(payload),
        Err(cancelled) => panic!("{cancelled}"),
    }
}

/// How many polls there have been that no tick has told of.
#[derive(Debug, Default)]
struct Polls {
    untold: AtomicUsize,
    ticking: Mutex<Vec<Waker>>,
}

impl Polls {
    fn count(&self) {
        self.untold.fetch_add(1, Release);
        for waker in self.ticking.lock().unwrap().drain(..) {
            waker.wake();
        }
    }

    fn tell(&self) -> bool {
        self.untold.try_update(AcqRel, Acquire, |untold| untold.checked_sub(1)).is_ok()
    }

    fn poll_tell(&self, cx: &Context<'_>) -> Poll<()> {
        self.ticking.lock().unwrap().push(cx.waker().clone());
        if self.tell() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Counts a poll when it is over, by a panic too.
struct Counted(Arc<Polls>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count();
    }
}

/// An executor for futures that are `Send`.
#[derive(Debug)]
pub struct Executor<'a> {
    runtime: Runtime,
    polls: Arc<Polls>,
    borrowed: PhantomData<&'a ()>,
}

impl Default for Executor<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl Executor<'_> {
    pub fn new() -> Self {
        Self {
            runtime: Runtime::new().expect("a runtime starts"),
            polls: Arc::default(),
            borrowed: PhantomData,
        }
    }

    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let polls = Arc::clone(&self.polls);
        let task = self.runtime.spawn(async move {
            let mut future = pin!(future);
            poll_fn(|cx| {
                let _counted = Counted(Arc::clone(&polls));
                future.as_mut().poll(cx)
            })
            .await
        });
        Task(task.abort_on_drop())
    }

    pub fn spawn_many<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        futures: impl IntoIterator<Item = F>,
        handles: &mut impl Extend<Task<T>>,
    ) {
        handles.extend(futures.into_iter().map(|future| self.spawn(future)));
    }

    /// Waits for a poll; one must have been made, or be due.
    pub fn try_tick(&self) -> bool {
        self.runtime.block_on(self.tick());
        true
    }

    pub async fn tick(&self) {
        poll_fn(|cx| self.polls.poll_tell(cx)).await;
    }

    pub async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        future.await
    }
}

/// An executor for futures of one thread.
#[derive(Debug, Default)]
pub struct LocalExecutor<'a>(LocalSet, PhantomData<&'a ()>);

impl LocalExecutor<'_> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn spawn<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> Task<T> {
        Task(self.0.spawn_local(future).abort_on_drop())
    }

    pub fn spawn_many<T: 'static, F: Future<Output = T> + 'static>(
        &self,
        futures: impl IntoIterator<Item = F>,
        handles: &mut impl Extend<Task<T>>,
    ) {
        handles.extend(futures.into_iter().map(|future| self.spawn(future)));
    }

    pub async fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.0.run_until(future).await
    }
}
