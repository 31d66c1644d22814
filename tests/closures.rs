//! CPU-bound closures and `join`: sequential results, panics and locks as in the sequential program,
//! cancellation at the next fork.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use common::{Drops, Latch, at_each_size, fib, nest, panic_message};

/// Sums a slice, forking down to single elements.
fn sum(values: &[u64]) -> u64 {
    match values {
        [] => 0,
        [value] => *value,
        _ => {
            let (left, right) = values.split_at(values.len() / 2);
            let (left, right) = beat::join(move || sum(left), move || sum(right));
            left + right
        }
    }
}

/// Runs joins of `spin` long leaves until one half has been stolen, so that the promoted paths are taken.
fn until_stolen(runtime: &beat::Runtime, mut round: impl FnMut()) {
    let before = runtime.metrics().steals;
    while runtime.metrics().steals == before {
        round();
    }
}

#[test]
fn join_gives_both_results() {
    at_each_size(|runtime| {
        let values: Vec<u64> = (0..100_000).collect();
        let closure = runtime.spawn_blocking_parallel(move || sum(&values));
        assert_eq!(runtime.block_on(closure).unwrap(), 99_999 * 100_000 / 2);
        // In a task, in `block_on`, and on a foreign thread.
        assert_eq!(runtime.block_on(runtime.spawn(async { fib(15) })).unwrap(), 610);
        assert_eq!(runtime.block_on(async { fib(15) }), 610);
        let _entered = runtime.enter();
        assert_eq!(fib(15), 610);
    });
}

#[test]
fn join_borrows_from_its_caller() {
    let (mut a, mut b) = (vec![1, 2], vec![3]);
    beat::join(|| a.push(9), || b.push(9));
    assert_eq!((a, b), (vec![1, 2, 9], vec![3, 9]));
}

#[test]
fn halves_are_stolen_and_give_the_same() {
    for workers in [2, 4] {
        let runtime = common::runtime(workers);
        common::within(std::time::Duration::from_secs(60), || {
            until_stolen(&runtime, || {
                assert_eq!(runtime.block_on(runtime.spawn_blocking_parallel(|| fib(24))).unwrap(), 46368);
            });
        });
        assert!(runtime.metrics().promotions >= runtime.metrics().steals);
    }
}

/// Two halves that do not fork themselves: the second one begins while the first one still runs.
#[test]
fn coarse_halves_run_at_the_same_time() {
    for workers in [2, 4] {
        let runtime = common::runtime(workers);
        common::within(std::time::Duration::from_secs(60), || {
            while runtime.metrics().idle_workers < workers {
                std::thread::yield_now();
            }
            let closure = runtime.spawn_blocking_parallel(|| {
                let begun = Latch::new();
                beat::join(|| begun.wait(), || begun.set());
            });
            runtime.block_on(closure).unwrap();
        });
    }
}

#[test]
fn a_panic_in_either_half_reaches_the_caller() {
    at_each_size(|runtime| {
        let _entered = runtime.enter();
        assert_eq!(panic_message(|| beat::join(|| panic!("a"), || 1)), "a");
        assert_eq!(panic_message(|| beat::join(|| 1, || panic!("b"))), "b");
        let closure = runtime.spawn_blocking_parallel(|| beat::join(|| fib(10), || panic!("b")).0);
        let error = runtime.block_on(closure).unwrap_err();
        assert!(error.is_panic() && error.to_string().ends_with(": b"), "{error}");
    });
}

#[test]
fn each_half_is_dropped_once_whoever_panics() {
    at_each_size(|runtime| {
        let _entered = runtime.enter();
        for panics in [(false, false), (true, false), (false, true), (true, true)] {
            let drops = Drops::default();
            let (a, b) = (drops.guard(), drops.guard());
            let joined = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                beat::join(
                    move || {
                        let _a = a;
                        assert!(!panics.0, "a");
                    },
                    move || {
                        let _b = b;
                        assert!(!panics.1, "b");
                    },
                )
            }));
            assert_eq!(joined.is_err(), panics.0 || panics.1);
            assert_eq!(drops.count(), 2);
        }
    });
}

/// It tells when it goes.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// `a` panics while `b` is in a thief's hands: the caller's frame must stay until the thief is done.
#[test]
fn a_panic_waits_for_the_stolen_half() {
    let runtime = common::runtime(2);
    common::within(std::time::Duration::from_secs(60), || {
        let mut stolen = 0;
        while stolen < 20 {
            let begun = Latch::new();
            let (finished, gone) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            let closure = runtime.spawn_blocking_parallel({
                let (finished, gone) = (Arc::clone(&finished), Arc::clone(&gone));
                move || {
                    let _frame = Gone(Arc::clone(&gone));
                    let local = [7_u64; 64];
                    let taken = AtomicBool::new(false);
                    let half = {
                        // What must outlive a frame that goes too early.
                        let (begun, gone) = (Arc::clone(&begun), Arc::clone(&gone));
                        let (local, taken, finished) = (&local, &taken, &finished);
                        move || {
                            taken.store(true, SeqCst);
                            begun.wait();
                            // Time to go in, for a caller that does not wait.
                            for _ in 0..100 {
                                std::thread::yield_now();
                                if gone.load(SeqCst) {
                                    std::process::abort();
                                }
                            }
                            // The frame of the caller is still there.
                            assert!(local.iter().all(|&x| x == 7));
                            finished.store(true, SeqCst);
                        }
                    };
                    beat::join(
                        || {
                            // Fork until somebody has taken `b`, or for long enough.
                            for _ in 0..2_000 {
                                if taken.load(SeqCst) {
                                    break;
                                }
                                fib(8);
                            }
                            begun.set();
                            panic!("a");
                        },
                        half,
                    );
                }
            });
            assert!(runtime.block_on(closure).unwrap_err().is_panic());
            stolen += usize::from(finished.load(SeqCst));
        }
    });
}

/// rayon#592 and #1174: a lock held across `join`, which tasks and other closures want as well.
#[test]
fn a_lock_held_across_join_deadlocks_nobody() {
    const ROUNDS: usize = 10_000;
    at_each_size(|runtime| {
        let lock = Arc::new(Mutex::new(0_u64));
        runtime.block_on(async {
            for _ in 0..ROUNDS / 100 {
                let mut work = Vec::new();
                for i in 0..100 {
                    let lock = Arc::clone(&lock);
                    work.push(match i % 3 {
                        0 => beat::spawn(async move { *lock.lock().unwrap() += 1 }),
                        1 => beat::spawn_blocking_parallel(move || *lock.lock().unwrap() += 1),
                        _ => beat::spawn_blocking_parallel(move || {
                            let mut held = lock.lock().unwrap();
                            let (a, b) = beat::join(|| fib(6), || fib(6));
                            *held += (a + b) / 16;
                        }),
                    });
                }
                for handle in work {
                    handle.await.unwrap();
                }
            }
        });
        assert_eq!(*lock.lock().unwrap(), ROUNDS as u64);
    });
}

#[test]
fn closures_wait_for_closures_that_have_not_begun() {
    at_each_size(|runtime| {
        let handle = runtime.handle().clone();
        // Deeper than threads are started at once.
        let closure = runtime.spawn_blocking_parallel(move || nest(handle, 200));
        assert_eq!(runtime.block_on(closure).unwrap(), 200);
        // The threads that this took end again.
        while runtime.metrics().threads > runtime.metrics().workers + 6 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn closures_asleep_on_each_other_strand_nobody() {
    at_each_size(|runtime| {
        // As many closures as workers wait, unknown to Beat, for one that comes last.
        let latch = Latch::new();
        let waiting: Vec<_> = (0..runtime.metrics().workers)
            .map(|_| {
                let latch = Arc::clone(&latch);
                runtime.spawn_blocking_parallel(move || latch.wait())
            })
            .collect();
        let last = runtime.spawn_blocking_parallel(move || latch.set());
        runtime.block_on(async {
            last.await.unwrap();
            for closure in waiting {
                closure.await.unwrap();
            }
        });
    });
}

#[test]
fn abort_unwinds_a_running_closure_at_its_next_fork() {
    at_each_size(|runtime| {
        let begun = Latch::new();
        let drops = Drops::default();
        let closure = runtime.spawn_blocking_parallel({
            let (begun, guard) = (Arc::clone(&begun), drops.guard());
            move || {
                let _guard = guard;
                begun.set();
                loop {
                    fib(12);
                }
            }
        });
        begun.wait();
        closure.abort();
        let error = runtime.block_on(closure).unwrap_err();
        assert!(error.is_cancelled(), "{error}");
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_closure_can_ask_whether_it_is_cancelled() {
    at_each_size(|runtime| {
        let begun = Latch::new();
        let closure = runtime.spawn_blocking_parallel({
            let begun = Arc::clone(&begun);
            move || {
                assert!(!beat::is_cancelled());
                begun.set();
                while !beat::is_cancelled() {
                    std::hint::spin_loop();
                }
                5
            }
        });
        begun.wait();
        closure.abort();
        // It ended by itself: its value counts.
        assert_eq!(runtime.block_on(closure).unwrap(), 5);
    });
}

#[test]
fn an_aborted_closure_that_has_not_begun_never_runs() {
    let runtime = common::runtime(1);
    let (begun, release) = (Latch::new(), Latch::new());
    let first = runtime.spawn_blocking_parallel({
        let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
        move || {
            begun.set();
            // Computes, so that its processor is not given to anybody.
            while !release.wait_timeout(std::time::Duration::ZERO) {
                std::hint::spin_loop();
            }
        }
    });
    begun.wait();
    let ran = Arc::new(AtomicUsize::new(0));
    let second = runtime.spawn_blocking_parallel({
        let ran = Arc::clone(&ran);
        move || ran.fetch_add(1, SeqCst)
    });
    second.abort();
    release.set();
    assert!(runtime.block_on(second).unwrap_err().is_cancelled());
    runtime.block_on(first).unwrap();
    assert_eq!(ran.load(SeqCst), 0);
}

#[test]
fn an_uncancellable_region_is_not_unwound() {
    at_each_size(|runtime| {
        let begun = Latch::new();
        let through = Arc::new(AtomicBool::new(false));
        let closure = runtime.spawn_blocking_parallel({
            let (begun, through) = (Arc::clone(&begun), Arc::clone(&through));
            move || {
                beat::uncancellable(|| {
                    begun.set();
                    while !beat::is_cancelled() {
                        std::hint::spin_loop();
                    }
                    fib(15);
                    through.store(true, SeqCst);
                });
                loop {
                    fib(12);
                }
            }
        });
        begun.wait();
        closure.abort();
        assert!(runtime.block_on(closure).unwrap_err().is_cancelled());
        assert!(through.load(SeqCst));
    });
}

#[test]
fn a_swallowed_cancellation_comes_again() {
    at_each_size(|runtime| {
        let begun = Latch::new();
        let swallowed = Arc::new(AtomicUsize::new(0));
        let closure = runtime.spawn_blocking_parallel({
            let (begun, swallowed) = (Arc::clone(&begun), Arc::clone(&swallowed));
            move || {
                begun.set();
                while swallowed.load(SeqCst) < 3 {
                    if std::panic::catch_unwind(|| fib(12)).is_err() {
                        swallowed.fetch_add(1, SeqCst);
                    }
                }
                loop {
                    fib(12);
                }
            }
        });
        begun.wait();
        closure.abort();
        assert!(runtime.block_on(closure).unwrap_err().is_cancelled());
        assert_eq!(swallowed.load(SeqCst), 3);
    });
}

#[test]
fn a_million_deep_join_fits_the_stack_it_would_need_without() {
    fn depth(levels: u64) -> u64 {
        if levels == 0 {
            return 0;
        }
        let (a, b) = beat::join(move || depth(levels - 1), move || 1);
        a + b
    }
    let runtime = beat::Runtime::builder().worker_threads(2).thread_stack_size(1 << 30).build().unwrap();
    let closure = runtime.spawn_blocking_parallel(|| depth(1_000_000));
    assert_eq!(runtime.block_on(closure).unwrap(), 1_000_000);
}

#[test]
fn spawn_blocking_runs_beside_full_workers() {
    at_each_size(|runtime| {
        let workers = runtime.metrics().workers;
        let release = Arc::new(AtomicBool::new(false));
        let closures: Vec<_> = (0..workers)
            .map(|_| {
                let release = Arc::clone(&release);
                runtime.spawn_blocking_parallel(move || {
                    while !release.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        let blocking = runtime.spawn_blocking(move || release.store(true, SeqCst));
        runtime.block_on(async {
            blocking.await.unwrap();
            for closure in closures {
                closure.await.unwrap();
            }
        });
    });
}

/// The unwinding of a cancelled closure runs a destructor that forks: its halves must not be cancelled in turn,
/// for a second unwinding would abort the process.
#[test]
fn a_destructor_that_forks_survives_the_cancellation() {
    struct ForksOnDrop(Arc<AtomicUsize>);
    impl Drop for ForksOnDrop {
        fn drop(&mut self) {
            self.0.fetch_add(fib(18) as usize, SeqCst);
        }
    }
    at_each_size(|runtime| {
        for _ in 0..20 {
            let begun = Latch::new();
            let sum = Arc::new(AtomicUsize::new(0));
            let closure = runtime.spawn_blocking_parallel({
                let (begun, forks) = (Arc::clone(&begun), ForksOnDrop(Arc::clone(&sum)));
                move || {
                    let _forks = forks;
                    begun.set();
                    loop {
                        fib(12);
                    }
                }
            });
            begun.wait();
            closure.abort();
            assert!(runtime.block_on(closure).unwrap_err().is_cancelled());
            assert_eq!(sum.load(SeqCst), 2584);
        }
    });
}

/// A guard of another runtime, dropped inside `a`, must not lead the unwinding to another thread's list.
#[test]
fn guards_of_other_runtimes_do_not_mislead_an_unwinding_join() {
    let (here, there) = (common::runtime(1), common::runtime(1));
    let there = there.handle().clone();
    let task = here.spawn_blocking_parallel(move || {
        let guard = std::cell::RefCell::new(Some(there.enter()));
        let drops = Drops::default();
        let half = drops.guard();
        // A guest of `there`, which becomes a worker of `here` in the middle of `a`.
        let message = panic_message(|| {
            let cell = std::panic::AssertUnwindSafe(NotSend(&guard));
            beat::join(
                move || {
                    let cell = cell;
                    drop(cell.0.0.take());
                    panic!("a");
                },
                move || drop(half),
            );
        });
        assert_eq!(message, "a");
        assert_eq!(drops.count(), 1);
    });
    here.block_on(task).unwrap();
}

/// `a` runs on the calling thread, always: what it captures need not be fit for another one.
struct NotSend<T>(T);
// SAFETY: only used in the first half of a join, which stays on its thread.
unsafe impl<T> Send for NotSend<T> {}
