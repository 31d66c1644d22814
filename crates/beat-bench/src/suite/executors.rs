//! The executors that are no part of the benches' own programs: tokio on one thread, async-executor, and futures'
//! `ThreadPool`.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use futures::channel::oneshot;
use futures::executor::ThreadPool;
use futures::task::SpawnExt;

use crate::common::tasks::Executor;

/// Once through the scheduler: for those who have no yield of their own.
fn yield_once() -> impl Future<Output = ()> + Send {
    let mut yielded = false;
    std::future::poll_fn(move |cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// A handle that cannot fail.
#[derive(Debug)]
pub(crate) struct Sure<H>(H);

impl<H: Future + Unpin> Future for Sure<H> {
    type Output = Result<H::Output, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(Ok)
    }
}

// ----- tokio on one thread -----

/// tokio's current-thread scheduler, driven by a thread of its own.
#[derive(Debug)]
pub(crate) struct CurrentThread {
    handle: tokio::runtime::Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl CurrentThread {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("tokio gets its descriptors");
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = thread::spawn(move || {
            // Also if the sender is dropped.
            let _ = runtime.block_on(ended);
        });
        Self { handle, end: Some(end), thread: Some(thread) }
    }
}

impl Drop for CurrentThread {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the thread ends");
        }
    }
}

impl Executor for CurrentThread {
    type Error = tokio::task::JoinError;
    type Handle<T: Send + 'static> = tokio::task::JoinHandle<T>;

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        tokio::spawn(future)
    }

    fn spawn_from_outside<F>(&self, future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(future)
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures::executor::block_on(future)
    }
}

// ----- async-executor -----

/// The executor itself, on threads of ours, which know it for their tasks.
#[derive(Debug)]
pub(crate) struct AsyncExecutor {
    executor: &'static async_executor::Executor<'static>,
    ends: Vec<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

thread_local! {
    static EXECUTOR: Cell<Option<&'static async_executor::Executor<'static>>> = const { Cell::new(None) };
}

/// The one of this thread.
fn executor() -> &'static async_executor::Executor<'static> {
    EXECUTOR.get().expect("a thread of an executor")
}

impl AsyncExecutor {
    /// With the threads waiting for I/O and timers too, as smol's do, or for tasks alone.
    pub(crate) fn new(workers: usize, with_io: bool) -> Self {
        let executor: &'static _ = Box::leak(Box::new(async_executor::Executor::new()));
        let (ends, threads) = (0..workers)
            .map(|_| {
                let (end, ended) = oneshot::channel::<()>();
                let thread = thread::spawn(move || {
                    EXECUTOR.set(Some(executor));
                    let run = executor.run(ended);
                    // Also if the sender is dropped.
                    let _ = if with_io { async_io::block_on(run) } else { futures::executor::block_on(run) };
                });
                (end, thread)
            })
            .unzip();
        Self { executor, ends, threads }
    }
}

impl AsyncExecutor {
    /// Spawns from outside, and lets go of the handle.
    pub(crate) fn spawn_detached_from_outside(&self, future: impl Future<Output = ()> + Send + 'static) {
        self.executor.spawn(future).detach();
    }
}

impl Drop for AsyncExecutor {
    fn drop(&mut self) {
        self.ends.clear();
        for thread in self.threads.drain(..) {
            thread.join().expect("the thread ends");
        }
    }
}

impl Executor for AsyncExecutor {
    type Error = Infallible;
    type Handle<T: Send + 'static> = Sure<async_executor::Task<T>>;

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Sure(executor().spawn(future))
    }

    fn spawn_from_outside<F>(&self, future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Sure(self.executor.spawn(future))
    }

    fn spawn_detached(future: impl Future<Output = ()> + Send + 'static) {
        executor().spawn(future).detach();
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        yield_once()
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures::executor::block_on(future)
    }
}

// ----- futures -----

/// futures' `ThreadPool`; its threads know it, for their tasks.
#[derive(Debug)]
pub(crate) struct FuturesPool(ThreadPool, usize);

thread_local! {
    static POOL: RefCell<Option<ThreadPool>> = const { RefCell::new(None) };
}

impl FuturesPool {
    pub(crate) fn new(workers: usize) -> Self {
        let pool = ThreadPool::builder().pool_size(workers).create().expect("the pool starts its threads");
        let this = Self(pool, workers);
        // Each thread has to have been told: one task a thread, which waits for the others.
        let barrier = Arc::new(std::sync::Barrier::new(workers));
        let told: Vec<_> = (0..workers)
            .map(|_| {
                let (pool, barrier) = (this.0.clone(), Arc::clone(&barrier));
                this.spawn_from_outside(async move {
                    POOL.set(Some(pool));
                    barrier.wait();
                })
            })
            .collect();
        for told in told {
            let Ok(()) = this.block_on(told);
        }
        this
    }
}

impl Drop for FuturesPool {
    /// The threads hold the pool, and it ends with its last holder: each lets go of it.
    fn drop(&mut self) {
        let barrier = Arc::new(std::sync::Barrier::new(self.1));
        for _ in 0..self.1 {
            let barrier = Arc::clone(&barrier);
            self.0.spawn_ok(async move {
                barrier.wait();
                POOL.take();
            });
        }
    }
}

impl Executor for FuturesPool {
    type Error = Infallible;
    type Handle<T: Send + 'static> = Sure<futures::future::RemoteHandle<T>>;

    fn spawn<F>(future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        POOL.with_borrow(|pool| {
            let pool = pool.as_ref().expect("a thread of the pool");
            Sure(pool.spawn_with_handle(future).expect("the pool is there"))
        })
    }

    fn spawn_from_outside<F>(&self, future: F) -> Self::Handle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Sure(self.0.spawn_with_handle(future).expect("the pool is there"))
    }

    fn spawn_detached(future: impl Future<Output = ()> + Send + 'static) {
        POOL.with_borrow(|pool| pool.as_ref().expect("a thread of the pool").spawn_ok(future));
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        yield_once()
    }

    fn block_on<F: Future>(&self, future: F) -> F::Output {
        futures::executor::block_on(future)
    }
}
