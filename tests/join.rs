//! `JoinHandle::join`: waits on the thread at hand, wherever `block_on` may, and strands nobody.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Drops, Gate, Latch, Never, at_each_size, within};

#[test]
fn it_gives_what_awaiting_gives() {
    at_each_size(|runtime| {
        assert_eq!(runtime.spawn(async { 1 }).join().unwrap(), 1);
        assert_eq!(runtime.spawn_blocking(|| 2).join().unwrap(), 2);
        assert_eq!(runtime.spawn_blocking_parallel(|| common::fib(10)).join().unwrap(), 55);
        let error = runtime.spawn(async { panic!("its own") }).join().unwrap_err();
        assert!(error.to_string().ends_with("panicked: its own"), "{error}");
        let drops = Drops::default();
        let aborted = runtime.spawn(Never(drops.guard()));
        aborted.abort();
        assert!(aborted.join().unwrap_err().is_cancelled());
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn it_waits() {
    at_each_size(|runtime| {
        for _ in 0..50 {
            let (gate, begun) = (Gate::new(), Latch::new());
            let task = runtime.spawn({
                let (gate, begun) = (Arc::clone(&gate), Arc::clone(&begun));
                async move {
                    begun.set();
                    gate.wait().await;
                    5
                }
            });
            let opener = runtime.spawn_blocking(move || {
                begun.wait();
                gate.open();
            });
            assert_eq!(task.join().unwrap(), 5);
            opener.join().unwrap();
        }
    });
}

/// Each level of waiting tasks and closures takes a thread; the processor goes on.
#[test]
fn a_worker_that_waits_hands_its_processor_over() {
    fn nest(handle: beat::Handle, depth: u32) -> u32 {
        if depth == 0 {
            return 0;
        }
        let inner = handle.clone();
        let below = match depth % 3 {
            0 => handle.spawn(async move { nest(inner, depth - 1) }),
            1 => handle.spawn_blocking(move || nest(inner, depth - 1)),
            _ => handle.spawn_blocking_parallel(move || nest(inner, depth - 1)),
        };
        below.join().unwrap() + 1
    }
    at_each_size(|runtime| {
        assert_eq!(nest(runtime.handle().clone(), 12), 12);
    });
}

#[test]
fn halves_of_a_join_may_wait() {
    at_each_size(|runtime| {
        let handle = runtime.handle();
        let value = runtime.block_on(async {
            let handle = handle.clone();
            beat::spawn_blocking_parallel(move || {
                let (left, right) = beat::join(
                    || handle.spawn(async { 1 }).join().unwrap(),
                    || handle.spawn(async { 2 }).join().unwrap(),
                );
                left + right
            })
            .await
            .unwrap()
        });
        assert_eq!(value, 3);
    });
}

#[test]
fn the_end_of_the_runtime_ends_the_wait() {
    for workers in [1, 2, 4] {
        let runtime = common::runtime(workers);
        let drops = Drops::default();
        let task = runtime.spawn(Never(drops.guard()));
        let waiter = std::thread::spawn(move || task.join());
        within(Duration::from_secs(60), || drop(runtime));
        assert!(waiter.join().unwrap().unwrap_err().is_cancelled());
        assert_eq!(drops.count(), 1);
    }
}

#[test]
fn a_handle_that_aborts_when_dropped_can_be_joined() {
    at_each_size(|runtime| {
        let gate = Gate::new();
        let task = runtime.spawn({
            let gate = Arc::clone(&gate);
            async move {
                gate.wait().await;
                5
            }
        });
        drop(runtime.spawn(async move { gate.open() }));
        assert_eq!(task.abort_on_drop().join().unwrap(), 5);
    });
}

/// A spent budget of the task outside does not make the wait spin, nor does the wait use it up.
#[test]
fn a_wait_has_no_budget() {
    let runtime = beat::Runtime::builder().worker_threads(1).poll_budget(Duration::ZERO).build().unwrap();
    let all = runtime.spawn(async {
        let mut sum = 0;
        for i in 0..100 {
            sum += beat::spawn(async move { i }).join().unwrap();
        }
        sum
    });
    within(Duration::from_secs(60), || assert_eq!(all.join().unwrap(), 4950));
}

#[cfg(feature = "tokio")]
#[test]
fn inside_a_task_of_tokios_it_is_a_clear_panic() {
    at_each_size(|runtime| {
        let _entered = runtime.enter();
        let drops = Drops::default();
        let task = beat::spawn(Never(drops.guard()));
        let kept = task.abort_handle();
        let foreign = tokio::spawn(async move { task.abort_on_drop().join() });
        let payload = runtime.block_on(foreign).unwrap_err().into_panic();
        let message = payload.downcast_ref::<String>().unwrap();
        assert!(
            message.starts_with("`join` was called by a task that was given to `tokio::spawn`"),
            "{message}"
        );
        // What was not waited for is aborted: its handle was dropped.
        while !kept.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(drops.count(), 1);
    });
}
