//! A cancellation reaches a task in whatever state it is in, drops everything once, and the handle says so.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Drops, Gate, Latch, Never, at_each_size, fib, runtime, within};

/// Takes all workers, until dropped, with closures that compute.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn all_workers_of(runtime: &beat::Runtime) -> Self {
        let release = Arc::new(AtomicBool::new(false));
        for _ in 0..runtime.metrics().workers {
            let (begun, release) = (Latch::new(), Arc::clone(&release));
            let closure = runtime.spawn_blocking_parallel({
                let begun = Arc::clone(&begun);
                move || {
                    begun.set();
                    while !release.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                }
            });
            drop(closure);
            begun.wait();
        }
        Self(release)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn queued_closures_never_begin() {
    at_each_size(|runtime| {
        let busy = Busy::all_workers_of(runtime);
        let drops = Drops::default();
        let ran = Arc::new(AtomicUsize::new(0));
        let closures: Vec<_> = (0..10)
            .map(|_| {
                let (guard, ran) = (drops.guard(), Arc::clone(&ran));
                runtime.spawn_blocking_parallel(move || {
                    let _guard = guard;
                    ran.fetch_add(1, SeqCst);
                })
            })
            .collect();
        closures.iter().for_each(beat::JoinHandle::abort);
        drop(busy);
        for closure in closures {
            assert!(runtime.block_on(closure).unwrap_err().is_cancelled());
        }
        assert_eq!((ran.load(SeqCst), drops.count()), (0, 10));
    });
}

#[test]
fn futures_end_whether_they_wait_or_were_never_polled() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        // Waiting.
        let polled = Gate::new();
        let waiting = runtime.spawn({
            let (polled, never) = (Arc::clone(&polled), Never(drops.guard()));
            async move {
                polled.open();
                never.await;
            }
        });
        runtime.block_on(polled.wait());
        waiting.abort();
        assert!(runtime.block_on(waiting).unwrap_err().is_cancelled());
        assert_eq!(drops.count(), 1);
        // Perhaps never polled.
        let never_polled = runtime.spawn(Never(drops.guard()));
        never_polled.abort();
        assert!(runtime.block_on(never_polled).unwrap_err().is_cancelled());
        assert_eq!(drops.count(), 2);
    });
}

/// A poll that is under way goes on to its next suspension.
#[test]
fn a_future_that_aborts_itself_ends_at_its_suspension() {
    at_each_size(|runtime| {
        let (send, receive) = tokio::sync::oneshot::channel::<beat::AbortHandle>();
        let drops = Drops::default();
        let went_on = Arc::new(AtomicBool::new(false));
        let task = runtime.spawn({
            let (guard, went_on) = (drops.guard(), Arc::clone(&went_on));
            async move {
                let _guard = guard;
                receive.await.expect("it is sent").abort();
                went_on.store(true, SeqCst);
                beat::yield_now().await;
                unreachable!("it was aborted");
            }
        });
        send.send(task.abort_handle()).expect("the task waits for it");
        assert!(runtime.block_on(task).unwrap_err().is_cancelled());
        assert!(went_on.load(SeqCst));
        assert_eq!(drops.count(), 1);
    });
}

/// The caller has finished its own half and waits for the thief's, which forks for ever.
#[test]
fn a_caller_that_waits_for_a_stolen_half_unwinds_after_it() {
    for workers in [2, 4] {
        let runtime = runtime(workers);
        within(Duration::from_secs(60), || {
            let drops = Drops::default();
            let (stolen, waits) = (Latch::new(), Latch::new());
            let closure = runtime.spawn_blocking_parallel({
                let (stolen, waits, drops) = (Arc::clone(&stolen), Arc::clone(&waits), drops.clone());
                move || {
                    let _outer = drops.guard();
                    beat::join(
                        || {
                            let _a = drops.guard();
                            while !stolen.wait_timeout(Duration::ZERO) {
                                fib(8);
                            }
                            waits.set();
                        },
                        || {
                            let _b = drops.guard();
                            stolen.set();
                            loop {
                                fib(12);
                            }
                        },
                    );
                }
            });
            waits.wait();
            closure.abort();
            assert!(runtime.block_on(closure).unwrap_err().is_cancelled());
            assert_eq!(drops.count(), 3);
        });
    }
}

/// The owner of a scope has ended its body and waits for a job that a helper runs.
#[test]
fn a_scope_that_waits_for_its_helper_unwinds_after_it() {
    for workers in [2, 4] {
        let runtime = runtime(workers);
        within(Duration::from_secs(60), || {
            let drops = Drops::default();
            let begun = Latch::new();
            let closure = runtime.spawn_blocking_parallel({
                let (begun, drops) = (Arc::clone(&begun), drops.clone());
                move || {
                    let _outer = drops.guard();
                    beat::scope(|scope| {
                        scope.spawn(|_| {
                            let _job = drops.guard();
                            begun.set();
                            loop {
                                fib(12);
                            }
                        });
                        begun.wait();
                    });
                }
            });
            begun.wait();
            closure.abort();
            assert!(runtime.block_on(closure).unwrap_err().is_cancelled());
            assert_eq!(drops.count(), 2);
        });
    }
}

/// A wait for a future is not cut short: the closure unwinds at its first fork after it.
#[test]
fn a_closure_inside_block_on_unwinds_at_the_fork_after_it() {
    at_each_size(|runtime| {
        let (begun, gate) = (Latch::new(), Gate::new());
        let waited = Arc::new(AtomicBool::new(false));
        let closure = runtime.spawn_blocking_parallel({
            let (begun, gate, waited) = (Arc::clone(&begun), Arc::clone(&gate), Arc::clone(&waited));
            let handle = runtime.handle().clone();
            move || {
                begun.set();
                handle.block_on(gate.wait());
                waited.store(true, SeqCst);
                loop {
                    fib(12);
                }
            }
        });
        begun.wait();
        closure.abort();
        gate.open();
        assert!(runtime.block_on(closure).unwrap_err().is_cancelled());
        assert!(waited.load(SeqCst));
    });
}

#[test]
fn a_blocking_closure_that_runs_is_asked() {
    at_each_size(|runtime| {
        let begun = Latch::new();
        let closure = runtime.spawn_blocking({
            let begun = Arc::clone(&begun);
            move || {
                begun.set();
                while !beat::is_cancelled() {
                    std::hint::spin_loop();
                }
                5
            }
        });
        begun.wait();
        closure.abort();
        assert_eq!(runtime.block_on(closure).unwrap(), 5);
    });
}

/// Aborts from several threads race with the tasks' ends and with the end of the runtime: each handle resolves, each
/// task is dropped once.
#[test]
fn aborts_race_with_the_end() {
    for workers in [1, 2, 4] {
        within(Duration::from_secs(120), || {
            for round in 0..50 {
                let runtime = runtime(workers);
                let drops = Drops::default();
                let mut handles = Vec::new();
                for i in 0..30 {
                    let guard = drops.guard();
                    handles.push(match i % 3 {
                        0 => runtime.spawn(async move {
                            let _guard = guard;
                            beat::yield_now().await;
                        }),
                        1 => runtime.spawn(Never(guard)),
                        _ => runtime.spawn_blocking_parallel(move || {
                            let _guard = guard;
                            fib(10);
                        }),
                    });
                }
                let aborts: Vec<_> = handles.iter().map(beat::JoinHandle::abort_handle).collect();
                std::thread::scope(|threads| {
                    for part in aborts.chunks(10) {
                        threads.spawn(move || part.iter().for_each(beat::AbortHandle::abort));
                    }
                    if round % 2 == 0 {
                        drop(runtime);
                    } else {
                        threads.spawn(move || drop(runtime));
                    }
                });
                for handle in handles {
                    match futures::executor::block_on(handle) {
                        Ok(()) => {}
                        Err(error) => assert!(error.is_cancelled(), "{error}"),
                    }
                }
                assert_eq!(drops.count(), 30);
            }
        });
    }
}
