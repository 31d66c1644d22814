//! The invariants that no other test pins to one schedule: what may begin where, what is left behind, whose a panic is.
//! `scripts/mutants` breaks each of them in the source, and one of these tests, or of the others, must fail.

mod common;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use beat::Handle;
use common::{Latch, at_each_size, fib, within};

const LIMIT: Duration = Duration::from_secs(60);

fn spin_until(flag: &AtomicBool) {
    while !flag.load(SeqCst) {
        std::hint::spin_loop();
    }
}

/// Forks, so that the half below is offered, until somebody has taken it.
fn fork_until(taken: &AtomicBool) {
    while !taken.load(SeqCst) {
        fib(8);
    }
}

/// I1. Whatever begins above a `join` is below it in the recursion, also while the `join` waits and runs parts of
/// its half that a thief gives away.
#[test]
fn only_parts_of_a_join_begin_above_it() {
    thread_local! {
        static OPEN: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    /// A node of a binary tree: the children of `n` are `2 n` and `2 n + 1`. Every third subtree is a leaf.
    fn visit(node: u64, depth: u32) -> u64 {
        let top = OPEN.with_borrow(|open| open.last().copied().unwrap_or(1));
        let levels = top.leading_zeros().checked_sub(node.leading_zeros());
        assert!(levels.is_some_and(|levels| node >> levels == top), "{node} above {top}");
        if depth == 0 {
            return fib(5);
        }
        OPEN.with_borrow_mut(|open| open.push(node));
        let left = if node.is_multiple_of(3) { 0 } else { depth - 1 };
        let (a, b) = beat::join(|| visit(2 * node, left), || visit(2 * node + 1, depth - 1));
        OPEN.with_borrow_mut(Vec::pop);
        a + b
    }
    at_each_size(|runtime| {
        let expected = runtime.install(|| visit(1, 14));
        for _ in 0..50 {
            assert_eq!(runtime.install(|| visit(1, 14)), expected);
        }
    });
}

/// A joiner whose half was stolen runs parts of it meanwhile: once in a while, for it may be too late, or off its core.
#[test]
fn a_waiting_join_runs_parts_of_its_half() {
    within(5 * LIMIT, || {
        let runtime = common::runtime(2);
        let on_the_joiner = AtomicBool::new(false);
        while !on_the_joiner.load(SeqCst) {
            runtime.install(|| {
                let joiner = std::thread::current().id();
                let taken = AtomicBool::new(false);
                let part = || {
                    // The thief's own thread runs it too, if nobody takes it.
                    let is_there = std::thread::current().id() == joiner;
                    on_the_joiner.fetch_or(is_there, SeqCst);
                    fib(5)
                };
                let half = || {
                    taken.store(true, SeqCst);
                    if std::thread::current().id() != joiner {
                        for _ in 0..50 {
                            beat::join(|| fib(6), part);
                        }
                    }
                };
                beat::join(|| fork_until(&taken), half);
            });
        }
    });
}

/// I1. A closure waits in `join` for a stolen half, under a lock. Another closure, queued meanwhile, wants the lock; the
/// half ends when that one has begun. It must begin, and not on the stack of the first.
#[test]
fn nothing_begins_on_the_stack_of_a_waiting_join() {
    within(LIMIT, || {
        let runtime = common::runtime(2);
        for _ in 0..20 {
            let lock = Arc::new(Mutex::new(0));
            let first = runtime.spawn_blocking_parallel({
                let lock = Arc::clone(&lock);
                move || {
                    let mut held = lock.lock().unwrap();
                    let holder = std::thread::current().id();
                    let (taken, queued) = (AtomicBool::new(false), AtomicBool::new(false));
                    let begun = Arc::new(AtomicBool::new(false));
                    let half = || {
                        taken.store(true, SeqCst);
                        let second = beat::spawn_blocking_parallel({
                            let (begun, lock) = (Arc::clone(&begun), Arc::clone(&lock));
                            move || {
                                begun.store(true, SeqCst);
                                assert_ne!(std::thread::current().id(), holder, "on top of a waiting join");
                                *lock.lock().unwrap() += 1;
                            }
                        });
                        queued.store(true, SeqCst);
                        spin_until(&begun);
                        second
                    };
                    let forks = || {
                        fork_until(&taken);
                        spin_until(&queued);
                    };
                    let ((), second) = beat::join(forks, half);
                    *held += 1;
                    second
                }
            });
            let second = runtime.block_on(first).unwrap();
            runtime.block_on(second).unwrap();
            assert_eq!(*lock.lock().unwrap(), 2);
        }
    });
}

/// I1, for tasks: one polled on the stack of a `block_on` would run under whatever its caller holds.
#[test]
fn no_task_is_polled_on_the_stack_of_a_block_on() {
    within(LIMIT, || {
        common::at_each_size(|runtime| {
            let outer = runtime.spawn(async {
                let lock = Arc::new(Mutex::new(0));
                let held = lock.lock().unwrap();
                let (ran, runs) = std::sync::mpsc::channel();
                let wants_it = beat::spawn({
                    let lock = Arc::clone(&lock);
                    async move {
                        ran.send(()).unwrap();
                        *lock.lock().unwrap() += 1;
                    }
                });
                let told = beat::spawn_blocking(move || runs.recv().unwrap());
                // Neither may run here, and the first one waits for this lock.
                Handle::current().block_on(told).unwrap();
                drop(held);
                (wants_it,)
            });
            runtime.block_on(async { outer.await.unwrap().0.await.unwrap() });
        });
    });
}

/// A thread that waits, in `block_on` or `block_in_place`, gives its processor up at once, and takes it back when its
/// wait is over. There is nothing that waits for a processor, so that no watchdog takes it away.
#[test]
fn a_wait_hands_its_processor_over() {
    let runtime = beat::Runtime::builder().worker_threads(1).driver(beat::DriverKind::Plain).build().unwrap();
    let reach = |idle: usize| {
        while runtime.metrics().idle_workers != idle {
            std::thread::yield_now();
        }
    };
    within(LIMIT, || {
        for in_place in [false, true] {
            reach(1);
            let (begun, waits, gate, opened) =
                (Latch::new(), Latch::new(), common::Gate::new(), Latch::new());
            let (goes_on, end) = (Latch::new(), Latch::new());
            let closure = runtime.spawn_blocking_parallel({
                let (begun, waits, gate, opened) =
                    (begun.clone(), waits.clone(), gate.clone(), opened.clone());
                let (goes_on, end) = (goes_on.clone(), end.clone());
                move || {
                    begun.set();
                    waits.wait();
                    if in_place {
                        beat::block_in_place(|| opened.wait());
                    } else {
                        Handle::current().block_on(gate.wait());
                    }
                    goes_on.set();
                    end.wait();
                }
            });
            begun.wait();
            assert_eq!(runtime.metrics().idle_workers, 0);
            waits.set();
            reach(1);
            gate.open();
            opened.set();
            goes_on.wait();
            assert_eq!(runtime.metrics().idle_workers, 0, "it goes on without the processor that is idle");
            end.set();
            runtime.block_on(closure).unwrap();
        }
    });
}

/// I2. A thread that waits leaves its queue to others: each task in it runs once.
#[test]
fn what_a_waiting_thread_has_queued_runs_once() {
    within(LIMIT, || {
        common::at_each_size(|runtime| {
            let runs = Arc::new(AtomicUsize::new(0));
            let task = runtime.spawn({
                let runs = Arc::clone(&runs);
                async move {
                    let mut behind: Vec<_> = (0..10)
                        .map(|_| {
                            let runs = Arc::clone(&runs);
                            beat::spawn(async move { runs.fetch_add(1, SeqCst) })
                        })
                        .collect();
                    let last = behind.pop().unwrap();
                    Handle::current().block_on(last).unwrap();
                    behind
                }
            });
            runtime.block_on(async {
                for task in task.await.unwrap() {
                    task.await.unwrap();
                }
            });
            assert_eq!(runs.load(SeqCst), 10);
        });
    });
}

/// I2. The tasks that displace each other from the slot for the newest one are not lost.
#[test]
fn of_many_tasks_spawned_by_one_poll_each_runs_once() {
    within(LIMIT, || {
        common::at_each_size(|runtime| {
            let task =
                runtime.spawn(async { (0..100).map(|i| beat::spawn(async move { i })).collect::<Vec<_>>() });
            let tasks = runtime.block_on(task).unwrap();
            for (i, task) in tasks.into_iter().enumerate() {
                assert_eq!(runtime.block_on(task).unwrap(), i);
            }
        });
    });
}

/// I2. Nobody is left to run it: its handle must say so.
#[test]
fn a_task_spawned_after_the_end_is_cancelled() {
    within(LIMIT, || {
        let (runtime, other) = (common::runtime(1), common::runtime(1));
        let handle = runtime.handle().clone();
        drop(runtime);
        assert!(other.block_on(handle.spawn(async {})).unwrap_err().is_cancelled());
        assert!(other.block_on(handle.spawn_blocking_parallel(|| {})).unwrap_err().is_cancelled());
        assert!(other.block_on(handle.spawn_blocking(|| {})).unwrap_err().is_cancelled());
    });
}

/// I6. The thief does not die of it, and the joiner gets it.
#[test]
fn a_panic_in_a_stolen_half_reaches_its_joiner() {
    within(LIMIT, || {
        let runtime = common::runtime(2);
        for _ in 0..20 {
            let closure = runtime.spawn_blocking_parallel(|| {
                let taken = AtomicBool::new(false);
                let joined = std::panic::AssertUnwindSafe(|| {
                    beat::join(
                        || fork_until(&taken),
                        || {
                            taken.store(true, SeqCst);
                            panic!("stolen");
                        },
                    )
                });
                common::panic_message(joined)
            });
            assert_eq!(runtime.block_on(closure).unwrap(), "stolen");
        }
        assert!(runtime.metrics().steals >= 20);
    });
}
