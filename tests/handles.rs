//! Handles and errors: what they show, what they say, and what they are turned into.

mod common;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use beat::{Handle, JoinError, Runtime};
use common::{Drops, Gate, Latch, Never, at_each_size, panic_message};

#[test]
fn abort_on_drop_is_still_a_handle() {
    at_each_size(|runtime| {
        let gate = Gate::new();
        let task = runtime.spawn({
            let gate = Arc::clone(&gate);
            async move {
                gate.wait().await;
                beat::task::id()
            }
        });
        let id = task.id();
        let task = task.abort_on_drop();
        assert_eq!(task.id(), id);
        assert!(!task.is_finished());
        assert!(format!("{task:?}").contains("JoinHandle"), "{task:?}");
        gate.open();
        assert_eq!(runtime.block_on(task).unwrap(), id);

        let drops = Drops::default();
        let task = runtime.spawn(Never(drops.guard())).abort_on_drop();
        task.abort();
        let error = runtime.block_on(async {
            while !task.is_finished() {
                beat::yield_now().await;
            }
            task.await.unwrap_err()
        });
        assert!(error.is_cancelled());
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn handles_show_what_they_stand_for() {
    let runtime = common::runtime(1);
    let task = runtime.spawn(std::future::pending::<()>());
    let shown = format!("{task:?}");
    assert!(shown.contains("handles.rs") && shown.contains("finished: false"), "{shown}");
    let abort = task.abort_handle();
    assert_eq!(format!("{abort:?}"), format!("AbortHandle {{ id: {:?} }}", task.id()));
    assert!(format!("{:?}", runtime.handle()).contains("workers: 1"));
    assert!(format!("{runtime:?}").contains("workers: 1"));
    assert!(format!("{:?}", runtime.enter()).contains("EnterGuard"));
    let builder = Runtime::builder().worker_threads(3).thread_name("shown");
    let shown = format!("{builder:?}");
    assert!(shown.contains("Some(3)") && shown.contains("shown"), "{shown}");
}

#[test]
fn an_error_says_what_happened_and_where() {
    let runtime = common::runtime(1);
    let error = |task: beat::JoinHandle<()>| runtime.block_on(task).unwrap_err();
    let aborted = || {
        let task = runtime.spawn(std::future::pending());
        task.abort();
        error(task)
    };
    let cancelled = aborted();
    let id = cancelled.id();
    assert_eq!(cancelled.to_string(), format!("task {id} was cancelled"));
    assert_eq!(format!("{cancelled:?}"), format!("JoinError(task {id} was cancelled)"));
    let cancelled = cancelled.try_into_panic().unwrap_err();
    assert!(cancelled.is_cancelled());
    assert!(panic_message(|| cancelled.into_panic()).contains("ask `is_panic` first"));

    let with_text = error(runtime.spawn(async { panic!("number {}", 7) }));
    assert!(with_text.to_string().ends_with("panicked: number 7"));
    let without = error(runtime.spawn(async { std::panic::panic_any(7) }));
    assert_eq!(without.to_string(), format!("task {} panicked", without.id()));
    assert_eq!(*without.try_into_panic().unwrap().downcast::<i32>().unwrap(), 7);

    // Through `?` in a function of I/O.
    let converted = io::Error::from(aborted());
    assert_eq!(converted.kind(), io::ErrorKind::Other);
    assert!(converted.get_ref().unwrap().is::<JoinError>());
}

#[test]
fn the_current_handle_is_that_of_whoever_runs() {
    let error = Handle::try_current().unwrap_err();
    assert!(error.to_string().contains("`#[beat::main]`"), "{error}");
    assert!(panic_message(Handle::current).contains("no Beat runtime is current"));
    let runtime = Runtime::new().unwrap();
    let workers = runtime.metrics().workers;
    let ask = || Handle::current().metrics().workers;
    assert_eq!(runtime.block_on(runtime.spawn(async move { ask() })).unwrap(), workers);
    assert_eq!(runtime.block_on(runtime.spawn_blocking(ask)).unwrap(), workers);
    assert_eq!(runtime.block_on(runtime.spawn_blocking_parallel(ask)).unwrap(), workers);
    let _entered = runtime.enter();
    assert_eq!(ask(), workers);
}

#[test]
fn a_background_shutdown_waits_for_nobody() {
    let runtime = common::runtime(1);
    let (begun, end) = (Latch::new(), Latch::new());
    let blocked = runtime.spawn_blocking({
        let (begun, end) = (Arc::clone(&begun), Arc::clone(&end));
        move || {
            begun.set();
            end.wait();
        }
    });
    begun.wait();
    common::within(Duration::from_secs(60), || runtime.shutdown_background());
    end.set();
    while !blocked.is_finished() {
        std::thread::yield_now();
    }
}

/// Without a driver that has events, threads park on their own.
#[test]
fn a_plain_runtime_sleeps_and_wakes() {
    for workers in [1, 2, 4] {
        let builder = Runtime::builder().worker_threads(workers).driver(beat::DriverKind::Plain);
        let runtime = builder.build().unwrap();
        for _ in 0..50 {
            let (asleep, gate) = (Latch::new(), Gate::new());
            let task = runtime.spawn({
                let (asleep, gate) = (Arc::clone(&asleep), Arc::clone(&gate));
                async move {
                    asleep.set();
                    gate.wait().await;
                }
            });
            asleep.wait();
            gate.open();
            runtime.block_on(task).unwrap();
        }
        let closure = runtime.spawn_blocking_parallel(|| common::fib(12));
        assert_eq!(runtime.block_on(closure).unwrap(), 144);
    }
}

/// As tokio's: what a handle reaches is not torn by a panic.
#[test]
fn handles_may_cross_an_unwind() {
    fn crosses<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    crosses::<Handle>();
    crosses::<Runtime>();
    crosses::<beat::JoinHandle<std::cell::Cell<u8>>>();
    crosses::<beat::AbortHandle>();
}
