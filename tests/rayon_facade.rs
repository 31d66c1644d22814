//! What lies in this crate for `crates/rayon-core`, whose own tests hold it against rayon: where a caller is, work that is
//! addressed to one worker, scopes with broadcasts, and pools whose threads are given.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use beat::__rayon::{self as facade, Settings, Thread};
use beat::{DriverKind, Handle, Runtime};
use common::{fib, within};

const PATIENCE: Duration = Duration::from_secs(60);

fn builder(workers: usize) -> beat::Builder {
    Runtime::builder().worker_threads(workers).driver(DriverKind::Plain)
}

/// Each of a few pools: as any runtime, with given threads, with the caller's.
fn in_each_pool(test: impl Fn(&Handle) + Send + Sync) {
    within(PATIENCE, || {
        for workers in [1, 3] {
            let runtime = facade::build(builder(workers), Settings::default()).unwrap();
            test(runtime.handle());
            drop(runtime);

            let settings = Settings { threads_are_given: true, ..Settings::default() };
            let runtime = facade::build(builder(workers), settings).unwrap();
            let given: Vec<_> = (0..workers)
                .map(|p| {
                    let thread = Thread::new(runtime.handle(), p);
                    std::thread::spawn(move || thread.run())
                })
                .collect();
            test(runtime.handle());
            drop(runtime);
            given.into_iter().for_each(|thread| thread.join().unwrap());

            // A thread that belongs to a pool for good: not the test's.
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let settings = Settings { use_current_thread: true, ..Settings::default() };
                    let runtime = facade::build(builder(workers), settings).unwrap();
                    assert!(facade::is_worker_of(runtime.handle()));
                    test(runtime.handle());
                });
            });
        }
    });
}

#[test]
fn a_caller_knows_where_it_is() {
    let owner: Arc<dyn std::any::Any + Send + Sync> = Arc::new(7_u8);
    let settings = Settings { owner: Some(owner), names: vec![Some("one".into())], ..Settings::default() };
    assert!(format!("{settings:?}").contains("one"));
    let runtime = facade::build(builder(2), settings).unwrap();
    let handle = runtime.handle();
    assert_eq!(facade::owner(handle).unwrap().downcast_ref(), Some(&7_u8));
    assert!(!facade::is_worker() && !facade::is_worker_of(handle) && facade::current().is_none());
    assert_eq!((facade::workers_here(), facade::has_pending(), facade::yield_now()), (None, None, None));
    let here = facade::install(handle, || {
        assert!(facade::is_worker_of(handle) && facade::current().is_some());
        (facade::is_worker(), facade::workers_here(), facade::has_pending())
    });
    assert_eq!(here, (true, Some(2), Some(false)));
}

#[test]
fn a_join_is_a_workers_and_is_given_back_elsewhere() {
    let Err((a, b)) = facade::join_both(|| 1, || 2) else { panic!("this is no worker") };
    assert_eq!((a(), b()), (1, 2));
    in_each_pool(|handle| {
        let both = || facade::join_both(|| fib(15), || fib(16)).map_err(drop).unwrap();
        assert_eq!(facade::install(handle, both), (610, 987));
    });
}

#[test]
fn addressed_closures_run_where_they_should_and_spawned_ones_somewhere() {
    in_each_pool(|handle| {
        let workers = handle.metrics().workers;
        let (sender, told) = channel();
        for p in 0..workers {
            let sender = sender.clone();
            facade::spawn_on(handle, p, move || sender.send((p, beat::current_thread_index())).unwrap());
        }
        // The caller may be one of them, and gives way until all have been heard.
        let mut heard = 0;
        while heard < workers {
            match told.try_recv() {
                Ok((p, index)) => {
                    assert_eq!(index, Some(p));
                    heard += 1;
                }
                Err(_) => drop(facade::yield_now()),
            }
        }
        let sender = sender.clone();
        facade::spawn(handle, move || sender.send((99, None)).unwrap());
        while told.try_recv().is_err() {
            let _ = facade::yield_now();
        }
    });
}

#[test]
fn a_broadcast_in_a_scope_reaches_each_worker_once() {
    in_each_pool(|handle| {
        let workers = handle.metrics().workers;
        let (seen, jobs) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
        facade::in_place_scope(handle, |scope| {
            facade::scope_broadcast(scope, |scope, index, of| {
                assert!(seen.lock().unwrap().insert(index) && of == workers);
                // From inside, and from within that.
                scope.spawn(|scope| {
                    scope.spawn(|_| {
                        jobs.fetch_add(1, SeqCst);
                    });
                });
            });
        });
        assert_eq!((seen.lock().unwrap().len(), jobs.load(SeqCst)), (workers, workers));
        facade::in_place_scope(handle, |scope| {
            facade::scope_broadcast_except(scope, Some(0), |_, index, _| {
                assert_ne!(index, 0);
                jobs.fetch_add(1, SeqCst);
            });
        });
        assert_eq!(jobs.load(SeqCst), 2 * workers - 1);
        facade::in_place_scope_fifo(handle, |scope| {
            facade::scope_fifo_broadcast(scope, |scope, _, _| {
                scope.spawn_fifo(|_| {
                    jobs.fetch_add(1, SeqCst);
                });
            });
        });
        assert_eq!(jobs.load(SeqCst), 3 * workers - 1);
    });
}

#[test]
fn the_panic_of_a_part_is_the_scopes() {
    in_each_pool(|handle| {
        let message = common::panic_message(|| {
            facade::in_place_scope(handle, |scope| {
                facade::scope_broadcast(scope, |_, index, _| assert_ne!(index, 0, "a test's panic"));
            });
        });
        assert!(message.contains("a test's panic"), "{message}");
    });
}

#[test]
fn a_thread_that_is_not_run_leaves_the_pool_to_end() {
    within(PATIENCE, || {
        let settings = Settings { threads_are_given: true, ..Settings::default() };
        let runtime = facade::build(builder(1), settings).unwrap();
        let thread = Thread::new(runtime.handle(), 0);
        assert!(format!("{thread:?}").contains('0'));
        drop(thread);
        drop(runtime);
    });
}

#[test]
fn the_global_runtime_is_made_once() {
    assert!(facade::global().is_none());
    let handle = facade::build_global(builder(2), Settings::default()).expect("the first one").unwrap();
    assert_eq!(facade::install(&handle, || fib(10)), 55);
    assert!(facade::global().is_some());
    assert!(facade::build_global(builder(2), Settings::default()).is_none());
}
