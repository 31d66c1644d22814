//! What the tests share: runtimes of each size, latches, counters of drops, a watchdog against hangs.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

#[cfg(target_os = "linux")]
pub mod idle;
#[cfg(target_os = "linux")]
pub mod role;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A runtime with so many workers.
pub fn runtime(workers: usize) -> beat::Runtime {
    beat::Runtime::builder().worker_threads(workers).build().expect("the machine has room for a few threads")
}

/// Memory of which so much is left, whatever happens.
#[derive(Clone)]
pub struct Memory(pub beat::pressure::Reading);

impl beat::pressure::PressureSource for Memory {
    fn name(&self) -> String {
        "a test".into()
    }

    fn read(&mut self) -> std::io::Result<beat::pressure::Reading> {
        Ok(self.0.clone())
    }
}

/// Runs a test at 1, 2 and 4 workers.
pub fn at_each_size(test: impl Fn(&beat::Runtime)) {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        within(Duration::from_secs(120), || test(&runtime));
    }
}

/// Aborts the process with a message if `f` takes longer: a hang must not look like a slow test.
pub fn within<R>(limit: Duration, f: impl FnOnce() -> R) -> R {
    let done = Arc::new(Latch::default());
    let guard = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            if !done.wait_timeout(limit) {
                eprintln!("hung: not done after {limit:?}");
                std::process::abort();
            }
        }
    });
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
    done.set();
    guard.join().expect("the guard does not panic");
    result.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
}

/// A gate that opens once; waits block the thread.
#[derive(Default)]
pub struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn set(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub fn wait(&self) {
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
    }

    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let open = self.open.lock().unwrap();
        *self.opened.wait_timeout_while(open, limit, |open| !*open).unwrap().0
    }
}

/// A gate that opens once; waits suspend the task.
#[derive(Default)]
pub struct Gate {
    open: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Gate {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn open(&self) {
        self.open.store(true, SeqCst);
        let wakers = std::mem::take(&mut *self.wakers.lock().unwrap());
        wakers.into_iter().for_each(Waker::wake);
    }

    pub async fn wait(&self) {
        std::future::poll_fn(|cx| {
            let mut wakers = self.wakers.lock().unwrap();
            if self.open.load(SeqCst) {
                return Poll::Ready(());
            }
            wakers.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Counts how many of its guards were dropped.
#[derive(Clone, Default)]
pub struct Drops(Arc<AtomicUsize>);

impl Drops {
    pub fn guard(&self) -> DropGuard {
        DropGuard(self.clone())
    }

    pub fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

pub struct DropGuard(Drops);

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, SeqCst);
    }
}

/// A future that never completes and counts its drop.
pub struct Never(pub DropGuard);

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Forks all the way down.
pub fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = beat::join(move || fib(n - 1), move || fib(n - 2));
    a + b
}

/// Closures that wait for closures that have not begun: every level takes a thread.
pub fn nest(handle: beat::Handle, depth: u32) -> u32 {
    if depth == 0 {
        return 0;
    }
    let inner = handle.clone();
    let below = handle.spawn_blocking_parallel(move || nest(inner, depth - 1));
    handle.block_on(below).unwrap() + 1
}

/// `f` must panic; returns the message.
pub fn panic_message<R>(f: impl FnOnce() -> R) -> String {
    let Err(payload) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) else {
        panic!("it was to panic")
    };
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).expect("the payload is text")
}
