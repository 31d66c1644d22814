//! The plain driver: everything that needs no events works, and nothing is entered that could bring any.

mod common;

use std::sync::Arc;
use std::time::Duration;

use beat::{DriverKind, Runtime};
use common::{Drops, Gate, Never, fib, nest, within};

fn at_each_size(test: impl Fn(&Runtime)) {
    for workers in [1, 2, 4] {
        let runtime = Runtime::builder().worker_threads(workers).driver(DriverKind::Plain).build().unwrap();
        within(Duration::from_secs(60), || test(&runtime));
    }
}

#[test]
fn tasks_run_and_wake_each_other() {
    at_each_size(|runtime| {
        let tasks: Vec<_> = (0..500)
            .map(|i| {
                runtime.spawn(async move {
                    beat::yield_now().await;
                    beat::spawn(async move { i }).await.unwrap()
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(runtime.block_on(task).unwrap(), i);
        }
    });
}

#[test]
fn a_thread_of_nobodys_wakes_a_sleeping_runtime() {
    at_each_size(|runtime| {
        for _ in 0..50 {
            let gate = Gate::new();
            let waits = Arc::clone(&gate);
            let task = runtime.spawn(async move { waits.wait().await });
            std::thread::spawn(move || gate.open()).join().unwrap();
            runtime.block_on(task).unwrap();
        }
    });
}

#[test]
fn closures_fork_and_wait_for_each_other() {
    at_each_size(|runtime| {
        assert_eq!(runtime.install(|| fib(20)), 6765);
        let handle = runtime.handle().clone();
        assert_eq!(runtime.install(|| nest(handle, 8)), 8);
        assert_eq!(runtime.block_on(runtime.spawn_blocking(|| 5)).unwrap(), 5);
        assert_eq!(runtime.broadcast(|part| part.index()).len(), runtime.current_num_threads());
    });
}

/// With every worker in a closure the duty thread runs tasks, without any events to wait for.
#[test]
fn tasks_run_beside_closures_that_compute() {
    at_each_size(|runtime| {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let closures: Vec<_> = (0..runtime.current_num_threads())
            .map(|_| {
                let stop = Arc::clone(&stop);
                runtime.spawn_blocking_parallel(move || {
                    while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        for _ in 0..50 {
            runtime.block_on(runtime.spawn(beat::yield_now())).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        for closure in closures {
            runtime.block_on(closure).unwrap();
        }
    });
}

#[test]
fn its_end_drops_what_waits() {
    for workers in [1, 2] {
        within(Duration::from_secs(60), || {
            let runtime =
                Runtime::builder().worker_threads(workers).driver(DriverKind::Plain).build().unwrap();
            let drops = Drops::default();
            for _ in 0..10 {
                drop(runtime.spawn(Never(drops.guard())));
            }
            drop(runtime);
            assert_eq!(drops.count(), 10);
        });
    }
}

#[test]
fn there_is_no_tokio_in_it() {
    at_each_size(|runtime| {
        let nothing = || tokio::runtime::Handle::try_current().is_err();
        assert!(runtime.block_on(async { nothing() }));
        assert!(runtime.block_on(runtime.spawn(async move { nothing() })).unwrap());
        assert!(runtime.install(nothing));
        assert_eq!(runtime.metrics().foreign_tasks, 0);
    });
}
