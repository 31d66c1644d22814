//! A panic belongs to whoever asked for the code that panicked; a worker goes on.

mod common;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use common::{Latch, at_each_size, panic_message};

/// The runtime still runs tasks and closures on each of its workers.
fn works(runtime: &beat::Runtime) {
    let workers = runtime.metrics().workers;
    let all_there = Arc::new(std::sync::Barrier::new(workers));
    let closures: Vec<_> = (0..workers)
        .map(|i| {
            let all_there = Arc::clone(&all_there);
            runtime.spawn_blocking_parallel(move || {
                all_there.wait();
                i
            })
        })
        .collect();
    runtime.block_on(async {
        for (i, closure) in closures.into_iter().enumerate() {
            assert_eq!(closure.await.unwrap(), i);
        }
        assert_eq!(beat::spawn(async { 5 }).await.unwrap(), 5);
    });
}

#[test]
fn hooks_may_panic() {
    for workers in [1, 2, 4] {
        let runs = Arc::new(AtomicUsize::new(0));
        let hook = |runs: &Arc<AtomicUsize>| {
            let runs = Arc::clone(runs);
            move || {
                runs.fetch_add(1, SeqCst);
                panic!("hook");
            }
        };
        let runtime = beat::Runtime::builder()
            .worker_threads(workers)
            .on_thread_start(hook(&runs))
            .on_thread_stop(hook(&runs))
            .build()
            .unwrap();
        works(&runtime);
        let answer = runtime.block_on(runtime.spawn_blocking(|| 5)).unwrap();
        assert_eq!(answer, 5);
        drop(runtime);
        // Start and stop, on each worker and the blocking thread at least.
        assert!(runs.load(SeqCst) >= 2 * (workers + 1));
    }
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("waker");
    }
}

/// The task that wakes somebody runs the waker: its panic is that task's.
#[test]
fn a_wakers_panic_is_that_of_who_wakes() {
    at_each_size(|runtime| {
        let waker = Waker::from(Arc::new(PanickingWaker));
        let task = runtime.spawn({
            let waker = waker.clone();
            async move { waker.wake() }
        });
        assert!(runtime.block_on(task).unwrap_err().to_string().ends_with(": waker"));
        let closure = runtime.spawn_blocking_parallel({
            let waker = waker.clone();
            move || beat::join(|| waker.wake_by_ref(), || ())
        });
        assert!(runtime.block_on(closure).unwrap_err().to_string().ends_with(": waker"));
        works(runtime);
    });
}

/// A future is polled again and again by somebody whose waker panics when a Beat task it waits on is aborted.
#[test]
fn a_future_polled_by_hand_may_be_dropped_with_its_waker() {
    at_each_size(|runtime| {
        let (begun, release) = (Latch::new(), Latch::new());
        let mut closure = runtime.spawn_blocking_parallel({
            let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
            move || {
                begun.set();
                release.wait();
            }
        });
        begun.wait();
        {
            let waker = Waker::from(Arc::new(PanickingWaker));
            let polled = std::pin::Pin::new(&mut closure).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        // The next poll takes the place of that waker, before anybody has called it.
        let closure = runtime.spawn(async move {
            let mut release = Some(release);
            poll_fn(|cx| {
                let polled = std::pin::Pin::new(&mut closure).poll(cx);
                if let Some(release) = release.take() {
                    release.set();
                }
                polled
            })
            .await
        });
        runtime.block_on(closure).unwrap().unwrap();
        works(runtime);
    });
}

struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        // While it unwinds already, a second panic would end the process: that is the language's rule.
        if !std::thread::panicking() {
            panic!("drop");
        }
    }
}

/// What a task captured, what it gives, and what it panics with: each may panic when it is dropped.
#[test]
fn destructors_may_panic_wherever_they_run() {
    at_each_size(|runtime| {
        // Captured by a half, a job, a closure, a future.
        let captured = PanicsOnDrop;
        let half = runtime.spawn_blocking_parallel(move || beat::join(|| 1, move || drop(captured)).0);
        assert!(runtime.block_on(half).unwrap_err().is_panic());
        let captured = PanicsOnDrop;
        let job = runtime.spawn_blocking_parallel(move || beat::scope(|s| s.spawn(move |_| drop(captured))));
        assert!(runtime.block_on(job).unwrap_err().is_panic());
        let captured = PanicsOnDrop;
        let closure = runtime.spawn_blocking_parallel(move || {
            let _captured = captured;
        });
        assert!(runtime.block_on(closure).unwrap_err().is_panic());
        let captured = PanicsOnDrop;
        let future = runtime.spawn(async move {
            let _captured = captured;
            beat::yield_now().await;
        });
        assert!(runtime.block_on(future).unwrap_err().is_panic());
        // An output that nobody takes.
        drop(runtime.spawn(async { PanicsOnDrop }));
        drop(runtime.spawn_blocking_parallel(|| PanicsOnDrop));
        // An aborted future, which is dropped outside of any poll.
        let aborted = runtime.spawn(async {
            let _captured = PanicsOnDrop;
            std::future::pending::<()>().await;
        });
        aborted.abort();
        assert!(runtime.block_on(aborted).is_err());
        works(runtime);
    });
}

/// A destructor that panics in `block_on` or `join` outside is the caller's own affair.
#[test]
fn panics_outside_reach_the_caller() {
    at_each_size(|runtime| {
        assert_eq!(panic_message(|| runtime.block_on(async { panic!("main") })), "main");
        let _entered = runtime.enter();
        assert_eq!(panic_message(|| beat::join(|| (), || panic!("half"))), "half");
        assert_eq!(panic_message(|| beat::scope(|s| s.spawn(|_| panic!("job")))), "job");
        works(runtime);
    });
}

/// Never ready: a poll that panics again and again, each time in another task.
#[test]
fn a_thousand_panics_leave_every_worker_at_work() {
    at_each_size(|runtime| {
        let tasks: Vec<_> = (0..1_000)
            .map(|i| match i % 2 {
                0 => runtime.spawn(poll_fn(|_| -> Poll<()> { panic!("poll") })),
                _ => runtime.spawn_blocking_parallel(|| panic!("closure")),
            })
            .collect();
        runtime.block_on(async {
            for task in tasks {
                assert!(task.await.unwrap_err().is_panic());
            }
        });
        works(runtime);
    });
}
