//! `scope`: jobs that borrow, all ended when it returns; panics and cancellation as promised; `block_in_place`.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use common::{Drops, Latch, at_each_size, fib, panic_message, within};

/// Runs `f` in a closure of the runtime.
fn in_closure<R: Send + 'static>(runtime: &beat::Runtime, f: impl FnOnce() -> R + Send + 'static) -> R {
    runtime.block_on(runtime.spawn_blocking_parallel(f)).unwrap()
}

fn squares(n: usize) -> Vec<usize> {
    let mut squares = vec![0; n];
    beat::scope(|scope| {
        for (i, square) in squares.iter_mut().enumerate() {
            scope.spawn(move |_| *square = i * i);
        }
    });
    squares
}

#[test]
fn jobs_borrow_from_the_caller_and_all_have_run() {
    let expected: Vec<_> = (0..1000).map(|i| i * i).collect();
    at_each_size(|runtime| {
        // In a closure, in a task, in `block_on`, and on a foreign thread.
        assert_eq!(in_closure(runtime, || squares(1000)), expected);
        assert_eq!(runtime.block_on(runtime.spawn(async { squares(1000) })).unwrap(), expected);
        assert_eq!(runtime.block_on(async { squares(1000) }), expected);
        let _entered = runtime.enter();
        assert_eq!(squares(1000), expected);
    });
    // On the global runtime.
    assert_eq!(squares(1000), expected);
}

#[test]
fn a_scope_gives_the_value_of_its_body() {
    assert_eq!(beat::scope(|_| 5), 5);
    let not_send = std::rc::Rc::new(7);
    assert_eq!(*beat::in_place_scope(|_| std::rc::Rc::clone(&not_send)), 7);
    assert_eq!(beat::scope_fifo(|_| 5), 5);
    assert_eq!(*beat::in_place_scope_fifo(|_| std::rc::Rc::clone(&not_send)), 7);
}

#[test]
fn jobs_spawn_jobs() {
    fn tree<'s>(scope: &beat::Scope<'s>, depth: u32, leaves: &'s AtomicUsize) {
        if depth == 0 {
            leaves.fetch_add(1, SeqCst);
            return;
        }
        for _ in 0..2 {
            scope.spawn(move |scope| tree(scope, depth - 1, leaves));
        }
    }
    at_each_size(|runtime| {
        let leaves = in_closure(runtime, || {
            let leaves = AtomicUsize::new(0);
            beat::scope(|scope| tree(scope, 10, &leaves));
            leaves.into_inner()
        });
        assert_eq!(leaves, 1024);
    });
}

/// Jobs come from the body, from jobs on other threads, and from threads that Beat does not know.
#[test]
fn jobs_come_from_inside_and_outside() {
    at_each_size(|runtime| {
        let runs = in_closure(runtime, || {
            let runs = AtomicUsize::new(0);
            let count = |_: &beat::Scope<'_>| {
                runs.fetch_add(1, SeqCst);
            };
            beat::scope(|scope| {
                std::thread::scope(|threads| {
                    for _ in 0..3 {
                        threads.spawn(|| {
                            for _ in 0..100 {
                                scope.spawn(count);
                                scope.spawn(move |scope| {
                                    beat::join(|| scope.spawn(count), || scope.spawn(count));
                                });
                            }
                        });
                    }
                    for _ in 0..100 {
                        scope.spawn(count);
                    }
                });
            });
            runs.into_inner()
        });
        assert_eq!(runs, 3 * 300 + 100);
    });
}

/// With two workers a job runs while the body still does, although nobody forks.
#[test]
fn an_idle_worker_takes_a_job_at_once() {
    let runtime = common::runtime(2);
    within(Duration::from_secs(60), || {
        in_closure(&runtime, || {
            let taken = Latch::new();
            beat::scope(|scope| {
                scope.spawn(|_| taken.set());
                taken.wait();
            });
        });
    });
    assert!(runtime.metrics().steals > 0);
}

/// The offer of a scope goes back for as long as there are jobs, also if each is taken by the same helper.
#[test]
fn all_jobs_of_a_body_that_waits_for_them_are_taken() {
    at_each_size(|runtime| {
        in_closure(runtime, || {
            let taken: Vec<_> = (0..4).map(|_| Latch::new()).collect();
            beat::scope(|scope| {
                for job in &taken {
                    scope.spawn(|_| job.set());
                }
                taken.iter().for_each(|job| job.wait());
            });
        });
    });
}

/// One worker, asleep in the body until a job has run: another thread takes its place.
#[test]
fn a_body_that_sleeps_until_its_job_has_run_is_not_stranded() {
    at_each_size(|runtime| {
        in_closure(runtime, || {
            let taken = Latch::new();
            beat::scope(|scope| {
                scope.spawn(|_| taken.set());
                taken.wait();
            });
        });
    });
}

#[test]
fn a_single_worker_runs_jobs_in_the_promised_order() {
    let runtime = common::runtime(1);
    // The body computes while it spawns, so that no other thread takes the processor.
    let (fifo, lifo) = in_closure(&runtime, || {
        let (fifo, lifo) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        beat::scope_fifo(|scope| {
            for i in 0..10 {
                let fifo = &fifo;
                scope.spawn_fifo(move |_| fifo.lock().unwrap().push(i));
            }
        });
        beat::scope(|scope| {
            for i in 0..10 {
                let lifo = &lifo;
                scope.spawn(move |_| lifo.lock().unwrap().push(i));
            }
        });
        (fifo.into_inner().unwrap(), lifo.into_inner().unwrap())
    });
    assert_eq!(fifo, (0..10).collect::<Vec<_>>());
    assert_eq!(lifo, (0..10).rev().collect::<Vec<_>>());
}

#[test]
fn a_panic_in_the_body_or_a_job_comes_when_all_jobs_have_run() {
    at_each_size(|runtime| {
        let _entered = runtime.enter();
        for (body, job) in [(true, false), (false, true), (true, true)] {
            let runs = AtomicUsize::new(0);
            let drops = Drops::default();
            let message = panic_message(|| {
                beat::scope(|scope| {
                    for i in 0..10 {
                        let (runs, guard) = (&runs, drops.guard());
                        scope.spawn(move |_| {
                            let _guard = guard;
                            runs.fetch_add(1, SeqCst);
                            assert!(!job || i != 5, "job");
                        });
                    }
                    assert!(!body, "body");
                });
            });
            assert_eq!(message, if body { "body" } else { "job" });
            assert_eq!((runs.into_inner(), drops.count()), (10, 10));
        }
    });
}

/// A thief is inside a job, which refers to the caller's frame, when the body panics.
#[test]
fn a_panic_of_the_body_waits_for_the_jobs_of_others() {
    let runtime = common::runtime(2);
    within(Duration::from_secs(60), || {
        let closure = runtime.spawn_blocking_parallel(|| {
            let frame = [7_u64; 64];
            let (begun, go_on) = (Latch::new(), Latch::new());
            let seen = AtomicBool::new(false);
            let message = panic_message(|| {
                beat::scope(|scope| {
                    scope.spawn(|_| {
                        begun.set();
                        go_on.wait();
                        assert!(frame.iter().all(|&x| x == 7));
                        seen.store(true, SeqCst);
                    });
                    begun.wait();
                    let go_on = Arc::clone(&go_on);
                    // Set while this thread unwinds, or after.
                    drop(beat::spawn(async move { go_on.set() }));
                    panic!("body");
                });
            });
            assert_eq!(message, "body");
            assert!(seen.load(SeqCst));
        });
        runtime.block_on(closure).unwrap();
    });
}

#[test]
fn a_cancelled_closure_drops_the_jobs_that_have_not_begun() {
    at_each_size(|runtime| {
        let begun = Latch::new();
        let drops = Drops::default();
        let spawned = Arc::new(AtomicUsize::new(0));
        let closure = runtime.spawn_blocking_parallel({
            let (begun, drops, spawned) = (Arc::clone(&begun), drops.clone(), Arc::clone(&spawned));
            move || {
                beat::scope(|scope| {
                    begun.set();
                    loop {
                        let guard = drops.guard();
                        spawned.fetch_add(1, SeqCst);
                        scope.spawn(move |_| drop(guard));
                        fib(8);
                    }
                });
            }
        });
        begun.wait();
        closure.abort();
        assert!(runtime.block_on(closure).unwrap_err().is_cancelled());
        assert_eq!(drops.count(), spawned.load(SeqCst));
    });
}

/// Nobody else may touch an uncancellable region, and all of its jobs run.
#[test]
fn a_scope_in_an_uncancellable_region_runs_all_of_its_jobs_here() {
    at_each_size(|runtime| {
        let begun = Latch::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let closure = runtime.spawn_blocking_parallel({
            let (begun, runs) = (Arc::clone(&begun), Arc::clone(&runs));
            move || {
                let here = std::thread::current().id();
                beat::uncancellable(|| {
                    beat::scope(|scope| {
                        for _ in 0..100 {
                            scope.spawn(|_| {
                                assert_eq!(std::thread::current().id(), here);
                                runs.fetch_add(1, SeqCst);
                            });
                        }
                        begun.set();
                        while !beat::is_cancelled() {
                            std::hint::spin_loop();
                        }
                    });
                });
                loop {
                    fib(12);
                }
            }
        });
        begun.wait();
        closure.abort();
        assert!(runtime.block_on(closure).unwrap_err().is_cancelled());
        assert_eq!(runs.load(SeqCst), 100);
    });
}

/// A job that holds a lock opens a scope and pushes into the outer one a job that wants the lock: it must not run
/// inside the inner scope's wait.
#[test]
fn jobs_of_an_outer_scope_do_not_run_inside_an_inner_one() {
    at_each_size(|runtime| {
        in_closure(runtime, || {
            let lock = Mutex::new(0);
            beat::scope(|outer| {
                for _ in 0..50 {
                    let lock = &lock;
                    outer.spawn(move |outer| {
                        let mut held = lock.lock().unwrap();
                        outer.spawn(move |_| *lock.lock().unwrap() += 1);
                        beat::scope(|inner| {
                            for _ in 0..4 {
                                inner.spawn(|_| assert_eq!(fib(5), 5));
                            }
                        });
                        *held += 1;
                    });
                }
            });
            assert_eq!(*lock.lock().unwrap(), 100);
        });
    });
}

/// Scopes in a loop leave nothing behind, also where no helper ever comes.
#[test]
fn a_million_scopes_leave_no_offers() {
    let rounds = if cfg!(debug_assertions) { 20_000 } else { 1_000_000 };
    let runtime = common::runtime(1);
    let sum = in_closure(&runtime, move || {
        let mut sum = 0_u64;
        for _ in 0..rounds {
            beat::scope(|scope| scope.spawn(|_| sum += 1));
        }
        sum
    });
    assert_eq!(sum, rounds);
    let metrics = runtime.metrics();
    assert_eq!(metrics.scopes_queued, 0, "{metrics:?}");
}

/// The runtime ends while a foreign thread is inside a scope of it: the jobs run there.
#[test]
fn a_scope_outlives_its_runtime() {
    at_each_size(|runtime| {
        let workers = runtime.metrics().workers;
        let runtime = common::runtime(workers);
        let handle = runtime.handle().clone();
        let (opened, ended) = (Latch::new(), Latch::new());
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let _entered = handle.enter();
                let runs = AtomicUsize::new(0);
                beat::scope(|scope| {
                    opened.set();
                    ended.wait();
                    for _ in 0..10 {
                        scope.spawn(|_| {
                            runs.fetch_add(1, SeqCst);
                        });
                    }
                });
                assert_eq!(runs.into_inner(), 10);
            });
            opened.wait();
            drop(runtime);
            ended.set();
        });
    });
}

/// Inside the driver nobody can wait for a helper: the jobs run there, and the driver goes on.
#[cfg(feature = "tokio")]
#[test]
fn a_scope_in_a_task_of_tokios_runs_its_jobs_there() {
    at_each_size(|runtime| {
        let task = || async {
            let here = std::thread::current().id();
            let runs = AtomicUsize::new(0);
            beat::scope(|scope| {
                for _ in 0..100 {
                    scope.spawn(|_| {
                        assert_eq!(std::thread::current().id(), here);
                        fib(8);
                        runs.fetch_add(1, SeqCst);
                    });
                }
            });
            runs.into_inner()
        };
        for _ in 0..20 {
            let _entered = runtime.enter();
            let runs = runtime.block_on(tokio::spawn(task())).unwrap();
            assert_eq!(runs, 100);
            // Timers still fire, and workers still work.
            runtime.block_on(tokio::time::sleep(Duration::from_micros(10)));
            assert_eq!(in_closure(runtime, || 5), 5);
        }
    });
}

// ----- block_in_place -----

/// Every worker sleeps in `block_in_place`; what they wait for runs all the same, without a watchdog's delay.
#[test]
fn block_in_place_lets_others_run() {
    at_each_size(|runtime| {
        let workers = runtime.metrics().workers;
        runtime.block_on(async {
            let (send, receive) = mpsc::channel();
            let receive = Arc::new(Mutex::new(receive));
            let blocked: Vec<_> = (0..workers)
                .map(|_| {
                    let receive = Arc::clone(&receive);
                    beat::spawn(
                        async move { beat::block_in_place(|| receive.lock().unwrap().recv().unwrap()) },
                    )
                })
                .collect();
            beat::spawn(async move { (0..workers).for_each(|i| send.send(i).unwrap()) }).await.unwrap();
            let mut sum = 0;
            for task in blocked {
                sum += task.await.unwrap();
            }
            assert_eq!(sum, workers * (workers - 1) / 2);
        });
        assert!(runtime.metrics().hand_overs >= workers as u64);
    });
}

#[test]
fn block_in_place_gives_the_value_and_the_panic() {
    // Outside any runtime, and in a closure.
    assert_eq!(beat::block_in_place(|| 5), 5);
    at_each_size(|runtime| {
        assert_eq!(in_closure(runtime, || beat::block_in_place(|| fib(10))), 55);
        let closure = runtime.spawn_blocking_parallel(|| beat::block_in_place(|| panic!("inside")));
        let error = runtime.block_on(closure).unwrap_err();
        assert!(error.to_string().ends_with(": inside"), "{error}");
        // The worker goes on.
        assert_eq!(in_closure(runtime, || 5), 5);
    });
}

/// What waits inside takes the right to run back, but not before the whole call is over.
#[test]
fn block_in_place_stays_in_force_after_a_wait_inside() {
    let runtime = common::runtime(1);
    within(Duration::from_secs(60), || {
        let (send, receive) = mpsc::channel();
        let handle = runtime.handle().clone();
        let task = runtime.spawn(async move {
            beat::block_in_place(|| {
                handle.block_on(beat::yield_now());
                handle.block_on(async { beat::spawn(async {}).await.unwrap() });
                beat::block_in_place(|| ());
                // Given up once more: the processor is there for the task that sends.
                drop(beat::spawn(async move { send.send(5).unwrap() }));
                receive.recv().unwrap()
            })
        });
        assert_eq!(runtime.block_on(task).unwrap(), 5);
    });
}

/// A thread outside the runtime gets a processor when it has waited for a job, and keeps it for the rest of its region.
/// If it falls asleep there, and another thread spins on the other processor, a closure still begins.
#[test]
fn a_guest_that_sleeps_with_a_processor_strands_nobody() {
    // It gets one if it has to wait, and if one is idle at that moment: as a rule.
    for _ in 0..20 {
        let runtime = common::runtime(2);
        let _entered = runtime.enter();
        within(Duration::from_secs(120), || beat::scope(|_| sleep_as_a_guest(&runtime)));
    }
}

fn sleep_as_a_guest(runtime: &beat::Runtime) {
    let taken = Latch::default();
    beat::scope(|scope| {
        scope.spawn(|_| {
            taken.set();
            // Longer than the body takes to end, so that the owner waits.
            fib(22);
        });
        taken.wait();
    });
    let (spinning, done) = (Latch::new(), Arc::new(AtomicBool::new(false)));
    let spinner = runtime.spawn_blocking_parallel({
        let (spinning, done) = (Arc::clone(&spinning), Arc::clone(&done));
        move || {
            spinning.set();
            while !done.load(SeqCst) {
                std::hint::spin_loop();
            }
        }
    });
    spinning.wait();
    let (tell, told) = mpsc::channel();
    let closure = runtime.spawn_blocking_parallel(move || tell.send(5).unwrap());
    assert_eq!(told.recv(), Ok(5));
    done.store(true, SeqCst);
    runtime.block_on(async { (closure.await.unwrap(), spinner.await.unwrap()) });
}
