//! Futures: every task runs once, its handle tells how it ended, a panic or an abort stays its own.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use common::{Drops, Gate, Latch, Never, at_each_size};

#[test]
fn every_task_runs_once_from_inside_and_outside() {
    at_each_size(|runtime| {
        let runs = Arc::new(AtomicUsize::new(0));
        let spawn_all = |count: usize| {
            let runs = Arc::clone(&runs);
            (0..count).map(move |i| {
                let runs = Arc::clone(&runs);
                beat::spawn(async move {
                    runs.fetch_add(1, SeqCst);
                    beat::yield_now().await;
                    i
                })
            })
        };
        runtime.block_on(async {
            for (i, task) in spawn_all(1000).collect::<Vec<_>>().into_iter().enumerate() {
                assert_eq!(task.await.unwrap(), i);
            }
            let inner: Vec<_> = spawn_all(1000).collect();
            let outer = beat::spawn(async move {
                let mut sum = 0;
                for task in inner {
                    sum += task.await.unwrap();
                }
                sum
            });
            assert_eq!(outer.await.unwrap(), 999 * 1000 / 2);
        });
        assert_eq!(runs.load(SeqCst), 2000);
    });
}

#[test]
fn a_dropped_handle_detaches() {
    at_each_size(|runtime| {
        let ran = Latch::new();
        let gate = Gate::new();
        drop(runtime.spawn({
            let (ran, gate) = (Arc::clone(&ran), Arc::clone(&gate));
            async move {
                gate.wait().await;
                ran.set();
            }
        }));
        gate.open();
        ran.wait();
    });
}

#[test]
fn abort_drops_a_waiting_future() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        let task = runtime.spawn(Never(drops.guard()));
        let handle = task.abort_handle();
        assert!(!handle.is_finished());
        assert_eq!(handle.id(), task.id());
        handle.abort();
        let error = runtime.block_on(task).unwrap_err();
        assert!(error.is_cancelled() && !error.is_panic());
        assert_eq!(error.id(), handle.id());
        assert!(handle.is_finished());
        assert_eq!(drops.count(), 1);
        // Once more, of a task that is gone.
        handle.abort();
    });
}

#[test]
fn abort_after_the_end_keeps_the_value() {
    at_each_size(|runtime| {
        let task = runtime.spawn(async { 7 });
        while !task.is_finished() {
            std::thread::yield_now();
        }
        task.abort();
        assert_eq!(runtime.block_on(task).unwrap(), 7);
    });
}

#[test]
fn abort_on_drop_aborts_when_dropped() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        let task = runtime.spawn(Never(drops.guard()));
        let end = task.abort_handle();
        drop(task.abort_on_drop());
        while !end.is_finished() {
            std::thread::yield_now();
        }
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_panic_reaches_the_handle_and_no_further() {
    at_each_size(|runtime| {
        for _ in 0..10 {
            let task = runtime.spawn(async { panic!("only mine") });
            let error = runtime.block_on(task).unwrap_err();
            assert!(error.is_panic() && !error.is_cancelled());
            assert!(error.to_string().contains("only mine"), "{error}");
            assert_eq!(*error.into_panic().downcast::<&str>().unwrap(), "only mine");
        }
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
    });
}

#[test]
fn panics_in_destructors_take_nobody_down() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in a destructor");
            }
        }
    }
    struct Thrower;
    impl Drop for Thrower {
        fn drop(&mut self) {
            std::panic::panic_any(Payload);
        }
    }
    struct Payload;
    impl Drop for Payload {
        fn drop(&mut self) {
            // Nothing that has to be freed: nobody catches this but to forget it.
            std::panic::panic_any(());
        }
    }
    at_each_size(|runtime| {
        // In the future, at its end.
        let bomb = Bomb;
        let at_end = runtime.spawn(async move {
            let _bomb = &bomb;
        });
        assert!(runtime.block_on(at_end).unwrap_err().is_panic());
        // In an output that nobody takes.
        let finished = runtime.spawn(async { Bomb });
        while !finished.is_finished() {
            std::thread::yield_now();
        }
        drop(finished);
        // In such an output, and in what it throws.
        let finished = runtime.spawn(async { Thrower });
        while !finished.is_finished() {
            std::thread::yield_now();
        }
        drop(finished);
        // In an aborted future.
        let bomb = Bomb;
        let aborted = runtime.spawn(async move {
            let _bomb = bomb;
            std::future::pending::<()>().await;
        });
        aborted.abort();
        assert!(runtime.block_on(aborted).is_err());
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
    });
}

#[test]
fn yield_now_lets_the_others_run() {
    at_each_size(|runtime| {
        let turns = Arc::new(AtomicUsize::new(0));
        let task = runtime.spawn({
            let turns = Arc::clone(&turns);
            async move {
                let other = beat::spawn({
                    let turns = Arc::clone(&turns);
                    async move {
                        turns.fetch_add(1, SeqCst);
                    }
                });
                let mut yields = 0;
                while turns.load(SeqCst) == 0 {
                    beat::yield_now().await;
                    yields += 1;
                }
                other.await.unwrap();
                yields
            }
        });
        // Somebody's turn came, on one worker too.
        runtime.block_on(task).unwrap();
        assert_eq!(turns.load(SeqCst), 1);
    });
}

#[test]
fn ids_differ_and_are_known_inside() {
    at_each_size(|runtime| {
        let tasks: Vec<_> = (0..100).map(|_| runtime.spawn(async { beat::task::id() })).collect();
        let mut ids: Vec<_> = tasks.iter().map(beat::JoinHandle::id).collect();
        for (task, id) in tasks.into_iter().zip(&ids) {
            assert_eq!(runtime.block_on(task).unwrap(), *id);
        }
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 100);
    });
    assert_eq!(beat::task::try_id(), None);
}

#[test]
fn a_task_knows_where_it_was_spawned() {
    let runtime = common::runtime(1);
    let task = runtime.spawn(async {});
    let site = task.spawn_site();
    assert!(site.file().ends_with("tasks.rs"));
    assert_eq!(site.line(), line!() - 3);
}

#[test]
fn a_waker_from_a_foreign_thread_wakes() {
    at_each_size(|runtime| {
        for _ in 0..200 {
            let gate = Gate::new();
            let task = runtime.spawn({
                let gate = Arc::clone(&gate);
                async move { gate.wait().await }
            });
            let opener = std::thread::spawn(move || gate.open());
            runtime.block_on(task).unwrap();
            opener.join().unwrap();
        }
    });
}

#[test]
fn metrics_count_what_happened() {
    let runtime = common::runtime(2);
    let tasks: Vec<_> = (0..50).map(|_| runtime.spawn(beat::yield_now())).collect();
    let closure = runtime.spawn_blocking_parallel(|| common::fib(10));
    runtime.block_on(async {
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(closure.await.unwrap(), 55);
    });
    let never = runtime.spawn(std::future::pending::<()>());
    let metrics = runtime.metrics();
    assert_eq!(metrics.workers, 2);
    assert_eq!(metrics.spawned, 52);
    assert_eq!(metrics.tasks_alive, 1);
    assert_eq!(metrics.closures, 1);
    assert!(metrics.polls >= 100, "{metrics:?}");
    // A thread counts from its first step on.
    while runtime.metrics().threads < 2 {
        std::thread::yield_now();
    }
    drop(never);
}
