//! Runtimes: bad settings get a clear error, `block_on` works anywhere, shutdown loses nothing.

mod common;

use std::io::ErrorKind::InvalidInput;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use beat::{Handle, Pinning, Runtime};
use common::{Drops, Gate, Latch, Never, at_each_size, fib};

#[test]
fn bad_settings_say_what_to_do() {
    let error = |builder: beat::Builder| {
        let error = builder.build().map(drop).unwrap_err();
        assert_eq!(error.kind(), InvalidInput, "{error}");
        error.to_string()
    };
    assert!(error(Runtime::builder().worker_threads(0)).contains("at least one worker"));
    assert!(error(Runtime::builder().worker_threads(1 << 20)).contains("set `worker_threads` to"));
    assert!(error(Runtime::builder().heartbeat(Duration::ZERO)).contains("use 1 µs or more"));
    assert!(error(Runtime::builder().thread_name("a\0b")).contains("zero byte"));
    let too_many = Runtime::builder().worker_threads(2000).pinning(Pinning::Cores);
    assert!(error(too_many).contains("cannot be pinned"));
}

#[test]
#[cfg(target_os = "linux")]
fn pinned_workers_sit_where_they_should() {
    let cpus = std::thread::available_parallelism().unwrap().get();
    let runtime = Runtime::builder().worker_threads(cpus).pinning(Pinning::Cores).build().unwrap();
    let gates: Vec<_> = (0..cpus).map(|_| Latch::new()).collect();
    let masks: Vec<_> = (0..cpus)
        .map(|i| {
            let gates = gates.clone();
            // Each waits for all others to have begun, so that each has a worker to itself.
            runtime.spawn_blocking_parallel(move || {
                gates[i].set();
                let spins = gates.iter().all(|gate| {
                    while !gate.wait_timeout(Duration::ZERO) {
                        std::hint::spin_loop();
                    }
                    true
                });
                assert!(spins);
                let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
                let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:")).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            })
        })
        .collect();
    let mut masks: Vec<_> = masks.into_iter().map(|mask| runtime.block_on(mask).unwrap()).collect();
    masks.sort();
    masks.dedup();
    assert_eq!(masks.len(), cpus, "each on a CPU of its own: {masks:?}");
    assert!(masks.iter().all(|mask| mask.parse::<u32>().is_ok()), "{masks:?}");
    // A thread of the blocking pool is not bound by it.
    let blocking = runtime.spawn_blocking(|| std::thread::available_parallelism().unwrap().get());
    assert_eq!(runtime.block_on(blocking).unwrap(), cpus);
}

#[test]
fn hooks_run_on_each_thread() {
    let (started, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let runtime = Runtime::builder()
        .worker_threads(3)
        .thread_name("hooked")
        .on_thread_start({
            let started = Arc::clone(&started);
            move || {
                assert!(std::thread::current().name().unwrap().starts_with("hooked"));
                started.fetch_add(1, SeqCst);
            }
        })
        .on_thread_stop({
            let stopped = Arc::clone(&stopped);
            move || {
                stopped.fetch_add(1, SeqCst);
                panic!("goes no further");
            }
        })
        .build()
        .unwrap();
    runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
    drop(runtime);
    assert!(started.load(SeqCst) >= 4);
    assert_eq!(started.load(SeqCst), stopped.load(SeqCst));
}

#[test]
fn a_handle_knows_its_runtime() {
    assert!(Handle::try_current().unwrap_err().to_string().contains("#[beat::main]"));
    assert!(common::panic_message(Handle::current).contains("no Beat runtime is current"));
    at_each_size(|runtime| {
        runtime.block_on(async {
            let handle = Handle::current();
            let inner = beat::spawn(async { Handle::current().metrics().workers });
            assert_eq!(inner.await.unwrap(), handle.metrics().workers);
            let closure = beat::spawn_blocking_parallel(|| Handle::current().spawn(async { 4 }));
            assert_eq!(closure.await.unwrap().await.unwrap(), 4);
        });
        let guard = runtime.enter();
        assert_eq!(Handle::current().block_on(async { 3 }), 3);
        drop(guard);
        assert!(Handle::try_current().is_err());
    });
}

#[test]
fn two_runtimes_do_not_mix() {
    let (small, large) = (common::runtime(1), common::runtime(3));
    let workers = || Handle::current().metrics().workers;
    small.block_on(async {
        assert_eq!(workers(), 1);
        let there = large.spawn(async move { workers() });
        assert_eq!(there.await.unwrap(), 3);
        // One inside the other, and back.
        let large_handle = large.handle().clone();
        let nested = beat::spawn(async move {
            let inside = large_handle.block_on(async move {
                assert_eq!(fib(12), 144);
                (workers(), beat::spawn(async move { workers() }).await.unwrap())
            });
            (inside, workers())
        });
        assert_eq!(nested.await.unwrap(), ((3, 3), 1));
    });
}

#[test]
fn block_on_works_anywhere() {
    at_each_size(|runtime| {
        // In a closure inside a join inside a closure inside a task.
        let task = runtime.spawn(async {
            let closure = beat::spawn_blocking_parallel(|| {
                let wait = || Handle::current().block_on(beat::spawn(async { fib(10) })).unwrap();
                let (a, b) = beat::join(wait, wait);
                a + b
            });
            // In a task, blocking its poll.
            Handle::current().block_on(closure).unwrap()
        });
        assert_eq!(runtime.block_on(task).unwrap(), 110);
        let blocking = runtime.spawn_blocking(|| Handle::current().block_on(beat::spawn(async { 8 })));
        assert_eq!(runtime.block_on(blocking).unwrap().unwrap(), 8);
    });
}

#[test]
fn shutdown_drops_every_pending_task() {
    at_each_size(|runtime| {
        let workers = runtime.metrics().workers;
        let runtime = common::runtime(workers);
        let drops = Drops::default();
        let handles: Vec<_> = (0..100).map(|_| runtime.spawn(Never(drops.guard()))).collect();
        drop(runtime);
        assert_eq!(drops.count(), 100);
        let other = common::runtime(1);
        for handle in handles {
            handle.abort();
            assert!(other.block_on(handle).unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn shutdown_cancels_closures_that_fork() {
    at_each_size(|runtime| {
        let workers = runtime.metrics().workers;
        let runtime = common::runtime(workers);
        let drops = Drops::default();
        let begun = Latch::new();
        for _ in 0..3 * workers {
            let (begun, guard) = (Arc::clone(&begun), drops.guard());
            drop(runtime.spawn_blocking_parallel(move || {
                let _guard = guard;
                begun.set();
                loop {
                    fib(10);
                }
            }));
        }
        begun.wait();
        drop(runtime);
        assert_eq!(drops.count(), 3 * workers);
    });
}

#[test]
fn shutdown_timeout_leaves_what_does_not_end() {
    let runtime = common::runtime(2);
    let (begun, release, ended) = (Latch::new(), Latch::new(), Drops::default());
    let stuck = runtime.spawn_blocking_parallel({
        let (begun, release, guard) = (Arc::clone(&begun), Arc::clone(&release), ended.guard());
        move || {
            let _guard = guard;
            begun.set();
            release.wait();
            7
        }
    });
    begun.wait();
    let pending = Drops::default();
    drop(runtime.spawn(Never(pending.guard())));
    runtime.shutdown_timeout(Duration::from_millis(20));
    assert_eq!(ended.count(), 0);
    release.set();
    // It ends in its thread, and the last thread drops what is left.
    let other = common::runtime(1);
    assert_eq!(other.block_on(stuck).unwrap(), 7);
    while pending.count() == 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_runtime_may_be_dropped_by_its_own_task() {
    at_each_size(|outer| {
        let runtime = common::runtime(outer.metrics().workers);
        let handle = runtime.handle().clone();
        let drops = Drops::default();
        drop(runtime.spawn(Never(drops.guard())));
        let gate = Gate::new();
        let task = handle.spawn({
            let gate = Arc::clone(&gate);
            async move {
                gate.wait().await;
                drop(runtime);
            }
        });
        gate.open();
        outer.block_on(task).unwrap();
        while drops.count() == 0 {
            std::thread::yield_now();
        }
        // A task spawned now is cancelled at once.
        assert!(outer.block_on(handle.spawn(async {})).unwrap_err().is_cancelled());
    });
}

#[test]
fn destructors_that_spawn_at_shutdown_end() {
    struct SpawnsOnDrop(Handle, Drops);
    impl Drop for SpawnsOnDrop {
        fn drop(&mut self) {
            let guard = self.1.guard();
            drop(self.0.spawn(async move {
                let _guard = guard;
            }));
        }
    }
    at_each_size(|outer| {
        let runtime = common::runtime(outer.metrics().workers);
        let drops = Drops::default();
        let spawns = SpawnsOnDrop(runtime.handle().clone(), drops.clone());
        drop(runtime.spawn(async move {
            let _spawns = spawns;
            std::future::pending::<()>().await;
        }));
        drop(runtime);
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn spawning_races_with_shutdown() {
    for round in 0..200 {
        let runtime = common::runtime(1 + round % 3);
        let handle = runtime.handle().clone();
        let drops = Drops::default();
        let go = Latch::new();
        let spawner = std::thread::spawn({
            let (go, drops) = (Arc::clone(&go), drops.clone());
            move || {
                go.set();
                for _ in 0..50 {
                    drop(handle.spawn(Never(drops.guard())));
                }
            }
        });
        go.wait();
        drop(runtime);
        spawner.join().unwrap();
        assert_eq!(drops.count(), 50);
    }
}

#[test]
fn outside_any_runtime_a_global_one_is_started() {
    assert_eq!(fib(12), 144);
    let task = beat::spawn(async { Handle::current().metrics().workers });
    let runtime = common::runtime(1);
    assert!(runtime.block_on(task).unwrap() >= 1);
    assert!(Handle::try_current().is_err());
}

/// A thread that the runtime waits for waits itself, for a task that nobody will poll any more, or for a timer.
#[test]
fn shutdown_frees_those_who_block_on_tasks_and_timers() {
    at_each_size(|outer| {
        let runtime = common::runtime(outer.metrics().workers);
        let handle = runtime.handle().clone();
        let begun = [Latch::new(), Latch::new(), Latch::new()];
        let never = handle.spawn(std::future::pending::<()>());
        let on_task = handle.spawn_blocking({
            let (handle, begun) = (handle.clone(), Arc::clone(&begun[0]));
            move || {
                begun.set();
                handle.block_on(never)
            }
        });
        let in_closure = handle.spawn_blocking_parallel({
            let (handle, begun) = (handle.clone(), Arc::clone(&begun[1]));
            move || {
                let inner = handle.spawn(std::future::pending::<()>());
                begun.set();
                handle.block_on(inner)
            }
        });
        let on_timer = handle.spawn_blocking({
            let (handle, begun) = (handle.clone(), Arc::clone(&begun[2]));
            move || {
                begun.set();
                #[cfg(feature = "tokio")]
                handle.block_on(async { tokio::time::sleep(Duration::from_millis(30)).await });
                drop(handle);
            }
        });
        begun.iter().for_each(|begun| begun.wait());
        drop(runtime);
        assert!(outer.block_on(on_task).unwrap().unwrap_err().is_cancelled());
        assert!(outer.block_on(in_closure).unwrap().unwrap_err().is_cancelled());
        outer.block_on(on_timer).unwrap();
    });
}

/// A waker of `block_on` may be called long after: it must not swallow the next wake-up of the thread.
#[test]
fn a_waker_that_outlives_its_block_on_swallows_nothing() {
    at_each_size(|runtime| {
        let workers = runtime.metrics().workers;
        for _ in 0..50 {
            let kept = Arc::new(std::sync::Mutex::new(Vec::new()));
            for _ in 0..workers {
                let (handle, kept) = (runtime.handle().clone(), Arc::clone(&kept));
                let task = runtime.spawn(async move {
                    handle.block_on(std::future::poll_fn(|cx| {
                        kept.lock().unwrap().push(cx.waker().clone());
                        std::task::Poll::Ready(())
                    }));
                });
                runtime.block_on(task).unwrap();
            }
            // Some of these threads sit in the driver by now, or are on their way.
            let wakers = std::mem::take(&mut *kept.lock().unwrap());
            wakers.into_iter().for_each(std::task::Waker::wake);
            runtime.block_on(runtime.spawn(async {})).unwrap();
        }
    });
}

/// A waker is called on foreign threads while its runtime goes: under AddressSanitizer this finds a runtime that
/// is freed under the waker.
#[test]
fn foreign_wakes_race_with_shutdown() {
    for _ in 0..200 {
        let runtime = common::runtime(1);
        let wakers = Arc::new(std::sync::Mutex::new(Vec::new()));
        for _ in 0..8 {
            let wakers = Arc::clone(&wakers);
            drop(runtime.spawn(std::future::poll_fn::<(), _>(move |cx| {
                wakers.lock().unwrap().push(cx.waker().clone());
                std::task::Poll::Pending
            })));
        }
        while wakers.lock().unwrap().len() < 8 {
            std::thread::yield_now();
        }
        let wakers = Arc::new(std::mem::take(&mut *wakers.lock().unwrap()));
        let go = Latch::new();
        let foreign = std::thread::spawn({
            let go = Arc::clone(&go);
            move || {
                go.set();
                for waker in wakers.iter().cycle().take(100) {
                    waker.wake_by_ref();
                }
            }
        });
        go.wait();
        drop(runtime);
        foreign.join().unwrap();
    }
}

#[test]
fn a_thread_lets_go_of_runtimes_it_has_forked_on() {
    let drops = Drops::default();
    for _ in 0..3 {
        let guard = std::sync::Mutex::new(Some(drops.guard()));
        let runtime = Runtime::builder()
            .worker_threads(1)
            .on_thread_stop(move || drop(guard.lock().unwrap().take()))
            .build()
            .unwrap();
        // As a guest of it; the hook is dropped with the last reference at the latest.
        runtime.block_on(async { assert_eq!(fib(10), 55) });
    }
    common::runtime(1).block_on(async { assert_eq!(fib(10), 55) });
    assert_eq!(drops.count(), 3);
}

#[test]
fn nothing_is_left_of_a_runtime() {
    let (held, is_held) = std::sync::mpsc::channel::<()>();
    let hook = move || {
        // By whatever holds a hook.
        let _ = &held;
    };
    let runtime = Runtime::builder().worker_threads(1).on_thread_start(hook).build().unwrap();
    runtime.block_on(async {
        beat::spawn(async { tokio::time::sleep(Duration::from_millis(1)).await }).await.unwrap();
        beat::spawn_blocking(|| ()).await.unwrap();
    });
    drop(runtime);
    // The last reference may go on a thread that is ending.
    assert_eq!(is_held.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
}

#[test]
fn timeouts_may_be_for_ever() {
    let builder = Runtime::builder().worker_threads(1).heartbeat(Duration::MAX);
    let runtime = builder.build().unwrap();
    assert_eq!(runtime.block_on(runtime.spawn_blocking_parallel(|| fib(15))).unwrap(), 610);
    runtime.shutdown_timeout(Duration::MAX);
}
