//! `install`, `broadcast`, and which worker this is: rayon's pool surface.

mod common;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{Latch, at_each_size, fib, panic_message, runtime, within};

#[test]
fn install_runs_on_a_worker_and_borrows() {
    at_each_size(|runtime| {
        let here = thread::current().id();
        let (text, mut calls) = (String::from("borrowed"), 0);
        let (len, there, index) = runtime.install(|| {
            calls += 1;
            (text.len(), thread::current().id(), beat::current_thread_index())
        });
        assert_eq!((len, calls), (8, 1));
        assert_ne!(here, there);
        assert!(index.unwrap() < runtime.current_num_threads());
        assert_eq!(runtime.install(|| fib(15)), 610);
    });
}

#[test]
fn forks_inside_install_belong_to_its_runtime() {
    let (one, two) = (runtime(1), runtime(2));
    assert_eq!(one.install(beat::current_num_threads), 1);
    assert_eq!(two.install(beat::current_num_threads), 2);
    // From a worker of the one to the other, and back.
    let counts = one.install(|| {
        let inside = two.install(|| (beat::current_num_threads(), one.install(beat::current_num_threads)));
        (beat::current_num_threads(), inside)
    });
    assert_eq!(counts, (1, (2, 1)));
}

#[test]
fn install_stays_where_it_is_inside_its_runtime() {
    at_each_size(|runtime| {
        let handle = runtime.handle();
        let same_thread = || {
            let here = thread::current().id();
            handle.install(|| thread::current().id()) == here
        };
        assert!(handle.install(same_thread), "in a closure");
        let handle = handle.clone();
        let in_task = runtime.spawn(async move {
            let here = thread::current().id();
            handle.install(|| (thread::current().id() == here, fib(15)))
        });
        assert_eq!(runtime.block_on(in_task).unwrap(), (true, 610));
        // A blocking closure's thread is no worker.
        let handle = runtime.handle().clone();
        let in_blocking = runtime.spawn_blocking(move || handle.install(beat::current_thread_index));
        assert!(runtime.block_on(in_blocking).unwrap().is_some());
    });
}

/// The one worker's task computes inside `install`; another task runs meanwhile.
#[test]
fn tasks_run_beside_an_install_inside_a_task() {
    let runtime = runtime(1);
    within(Duration::from_secs(60), || {
        let stop = Arc::new(AtomicBool::new(false));
        let (handle, seen) = (runtime.handle().clone(), Arc::clone(&stop));
        let computing = runtime.spawn(async move {
            handle.install(|| {
                drop(beat::spawn(async move { seen.store(true, SeqCst) }));
                while !stop.load(SeqCst) {
                    std::hint::spin_loop();
                }
            });
        });
        runtime.block_on(computing).unwrap();
    });
}

#[test]
fn a_panic_of_install_reaches_the_caller() {
    at_each_size(|runtime| {
        assert_eq!(panic_message(|| runtime.install(|| panic!("on purpose"))), "on purpose");
        assert_eq!(runtime.install(|| 5), 5);
    });
}

#[test]
fn install_in_a_runtime_that_has_ended_says_so() {
    let runtime = runtime(1);
    let handle = runtime.handle().clone();
    drop(runtime);
    let ran = AtomicBool::new(false);
    let message = panic_message(|| handle.install(|| ran.store(true, SeqCst)));
    assert!(message.contains("the runtime has been shut down"), "{message}");
    assert!(!ran.load(SeqCst));
    let message = panic_message(|| handle.broadcast(|_| ran.store(true, SeqCst)));
    assert!(message.contains("the runtime has been shut down"), "{message}");
    assert!(!ran.load(SeqCst));
}

#[test]
fn a_broadcast_has_each_index_once_on_a_thread_of_its_own() {
    at_each_size(|runtime| {
        let workers = runtime.current_num_threads();
        let offset = 100;
        let results = runtime.broadcast(|part| {
            assert_eq!(part.num_threads(), workers);
            (part.index() + offset, thread::current().id())
        });
        let indices: Vec<_> = results.iter().map(|(index, _)| index - offset).collect();
        assert_eq!(indices, (0..workers).collect::<Vec<_>>());
        let threads: HashSet<_> = results.iter().map(|(_, thread)| thread).collect();
        assert_eq!(threads.len(), workers);
    });
}

/// Each part waits for all others: only if all have begun do they end.
#[test]
fn the_parts_of_a_broadcast_run_at_the_same_time() {
    at_each_size(|runtime| {
        let all = std::sync::Barrier::new(runtime.current_num_threads());
        runtime.broadcast(|_| all.wait());
    });
}

#[test]
fn a_broadcast_inside_the_runtime_does_not_wait_for_itself() {
    at_each_size(|runtime| {
        let workers = runtime.current_num_threads();
        let count = || beat::broadcast(|part| part.index()).len();
        assert_eq!(runtime.install(count), workers);
        assert_eq!(runtime.block_on(runtime.spawn(async move { count() })).unwrap(), workers);
        // Inside a part of another one, in all of them at once.
        assert_eq!(runtime.broadcast(|_| count()), vec![workers; workers]);
    });
}

/// Closures that wait for the broadcast hold no processor meanwhile.
#[test]
fn a_broadcast_comes_through_between_closures_that_wait() {
    at_each_size(|runtime| {
        let release = Latch::new();
        let closures: Vec<_> = (0..8)
            .map(|_| {
                let release = Arc::clone(&release);
                runtime.spawn_blocking_parallel(move || release.wait())
            })
            .collect();
        assert_eq!(runtime.broadcast(|part| part.index()).len(), runtime.current_num_threads());
        release.set();
        for closure in closures {
            runtime.block_on(closure).unwrap();
        }
    });
}

#[test]
fn a_panic_in_a_broadcast_comes_when_all_have_ended() {
    at_each_size(|runtime| {
        let ended = AtomicUsize::new(0);
        let message = panic_message(|| {
            runtime.broadcast(|part| {
                ended.fetch_add(1, SeqCst);
                panic!("part {}", part.index());
            })
        });
        assert_eq!(message, "part 0");
        assert_eq!(ended.load(SeqCst), runtime.current_num_threads());
    });
}

/// A shutdown that comes in the middle: whoever waits is let go, and what was borrowed is not touched any more.
#[test]
fn a_shutdown_lets_a_broadcast_go() {
    for workers in [1, 2] {
        within(Duration::from_secs(60), || {
            let runtime = runtime(workers);
            let handle = runtime.handle().clone();
            let (begun, release) = (Latch::new(), Arc::new(AtomicBool::new(false)));
            // All workers compute, and do not let a closure begin.
            for _ in 0..workers {
                let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
                drop(runtime.spawn_blocking_parallel(move || {
                    begun.set();
                    while !release.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                }));
            }
            begun.wait();
            let outcome = Mutex::new(None);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let borrowed = AtomicUsize::new(0);
                    let message = panic_message(|| {
                        let parts = handle.broadcast(|_| borrowed.fetch_add(1, SeqCst));
                        panic!("it came through, with {} parts", parts.len());
                    });
                    *outcome.lock().unwrap() = Some(message);
                });
                // It may come through while nobody looks: the system may put a closure to sleep, which loses its worker.
                while runtime.metrics().closures_queued == 0 && outcome.lock().unwrap().is_none() {
                    thread::yield_now();
                }
                runtime.shutdown_background();
                release.store(true, SeqCst);
            });
            let message = outcome.lock().unwrap().take().unwrap();
            let went = message.contains("shut down") || message.contains("it came through");
            assert!(went, "{message}");
        });
    }
}

#[test]
fn the_index_of_a_thread_is_below_the_number_of_workers() {
    at_each_size(|runtime| {
        assert_eq!(runtime.current_thread_index(), None);
        let workers = runtime.current_num_threads();
        let tasks: Vec<_> = (0..100)
            .map(|_| runtime.spawn(async { (beat::current_thread_index(), beat::current_num_threads()) }))
            .collect();
        for task in tasks {
            let (index, count) = runtime.block_on(task).unwrap();
            // There is none if all are taken, by threads that have asked and do not get on.
            assert!(index.is_none_or(|index| index < workers));
            assert_eq!(count, workers);
        }
        // Another runtime's thread has no index here.
        let other = common::runtime(1);
        let handle = runtime.handle();
        assert_eq!(other.install(|| handle.current_thread_index()), None);
        assert_eq!(other.install(|| other.current_thread_index()), Some(0));
    });
}

/// Whoever has asked for its index keeps its processor for as long as the poll lasts, and no longer.
#[test]
fn an_index_is_given_up_at_the_end_of_a_poll() {
    within(Duration::from_secs(60), || {
        let runtime = runtime(1);
        let (sender, receiver) = std::sync::mpsc::channel();
        let tasks = runtime.block_on(runtime.spawn(async move {
            // Both wait until this poll is over. The first blocks its thread, which must lose its processor then.
            let blocked = beat::spawn(async move { receiver.recv() });
            let closure = beat::spawn_blocking_parallel(move || sender.send(()));
            assert_eq!(beat::current_thread_index(), Some(0));
            (blocked, closure)
        }));
        let (blocked, closure) = tasks.unwrap();
        assert_eq!(runtime.block_on(blocked).unwrap(), Ok(()));
        assert_eq!(runtime.block_on(closure).unwrap(), Ok(()));
    });
}

/// A thread that runs tasks while all workers compute takes over a processor, and serves with it from then on.
#[test]
fn a_task_beside_workers_that_compute_has_an_index_too() {
    within(Duration::from_secs(60), || {
        let runtime = runtime(1);
        let (begun, go_on) = (Latch::new(), Arc::new(AtomicBool::new(false)));
        let busy = runtime.spawn_blocking_parallel({
            let (begun, go_on) = (begun.clone(), Arc::clone(&go_on));
            move || {
                begun.set();
                while !go_on.load(SeqCst) {
                    std::hint::spin_loop();
                }
            }
        });
        begun.wait();
        assert_eq!(runtime.block_on(runtime.spawn(async { beat::current_thread_index() })).unwrap(), Some(0));
        // Its processor is of use again: a closure begins while the other one still computes.
        runtime.block_on(runtime.spawn_blocking_parallel(move || go_on.store(true, SeqCst))).unwrap();
        runtime.block_on(busy).unwrap();
    });
}
