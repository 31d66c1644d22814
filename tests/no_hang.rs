//! Programs that must not hang, whose sequential forms do not: locks held across forks, waiting inside waiting,
//! nested stealing, polls that do not end.
//!
//! Each program is one test: a function that is called round after round on a runtime of 1, 2 and 4 workers,
//! by [`rounds`]. `BEAT_ROUNDS` says how many rounds; a round that hangs aborts the process and is named.
//!
//! ```text
//! BEAT_ROUNDS=10000 cargo test --release --test no_hang
//! ```

mod common;

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use beat::{Handle, Runtime};
use common::{Gate, Latch, fib, nest};

/// How long a round may take on the worst of machines.
const HUNG: Duration = Duration::from_secs(120);
/// Rounds without `BEAT_ROUNDS`.
const SOME: usize = 100;
/// The same for programs whose rounds take milliseconds.
const FEW: usize = 10;

/// Aborts the process if a round takes longer than [`HUNG`], and names it.
struct Guard {
    round: Arc<AtomicUsize>,
    done: Arc<Latch>,
    thread: Option<JoinHandle<()>>,
}

impl Guard {
    fn of(program: &'static str, workers: usize) -> Self {
        let (round, done) = (Arc::new(AtomicUsize::new(0)), Latch::new());
        let thread = std::thread::spawn({
            let (round, done) = (Arc::clone(&round), Arc::clone(&done));
            move || {
                let mut seen = usize::MAX;
                while seen != round.load(SeqCst) {
                    seen = round.load(SeqCst);
                    if done.wait_timeout(HUNG) {
                        return;
                    }
                }
                eprintln!("hung: {program}, {workers} workers, round {seen}, for {HUNG:?}");
                std::process::abort();
            }
        });
        Self { round, done, thread: Some(thread) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.done.set();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the guard does not panic");
        }
    }
}

/// Runs a program's rounds at each size; `few` of them if nobody asks for more.
fn rounds(program: &'static str, few: usize, round: impl Fn(&Runtime)) {
    let asked = std::env::var("BEAT_ROUNDS").ok();
    let rounds = asked.map_or(few, |text| text.parse().expect("BEAT_ROUNDS is a number"));
    for workers in [1, 2, 4] {
        let runtime = common::runtime(workers);
        let guard = Guard::of(program, workers);
        for number in 0..rounds {
            guard.round.store(number, SeqCst);
            round(&runtime);
        }
    }
}

/// Runs a closure on the runtime, and waits for it from outside.
fn run<R: Send + 'static>(runtime: &Runtime, f: impl FnOnce() -> R + Send + 'static) -> R {
    runtime.block_on(runtime.spawn_blocking_parallel(f)).unwrap()
}

/// Calls `leaf` with each number below `n`, forking down to single ones.
fn in_parallel(n: u64, leaf: &(impl Fn(u64) + Sync)) {
    fn halves(from: u64, to: u64, leaf: &(impl Fn(u64) + Sync)) {
        if to - from == 1 {
            return leaf(from);
        }
        let middle = u64::midpoint(from, to);
        beat::join(move || halves(from, middle, leaf), move || halves(middle, to, leaf));
    }
    halves(0, n, leaf);
}

// ----- waiting inside waiting -----

#[test]
fn block_on_in_both_halves_of_a_join_in_a_closure_in_a_task() {
    /// Waits for a task that must run elsewhere, and yields on its way.
    fn wait(i: u64) -> u64 {
        let inner = beat::spawn(async move {
            beat::yield_now().await;
            beat::spawn(async move { i }).await.unwrap()
        });
        Handle::current().block_on(inner).unwrap()
    }
    rounds("block_on in join", SOME, |runtime| {
        let task = runtime.spawn(async {
            let closure = beat::spawn_blocking_parallel(|| {
                let (a, b) = beat::join(|| wait(1), || wait(2));
                // Again, with halves that live long enough to be stolen.
                let (c, d) = beat::join(|| fib(10) + wait(3), || fib(10) + wait(4));
                a + b + c + d
            });
            // Blocks the task's poll.
            Handle::current().block_on(closure).unwrap()
        });
        assert_eq!(runtime.block_on(task).unwrap(), 1 + 2 + 3 + 4 + 2 * 55);
    });
}

#[test]
fn closures_a_hundred_deep_wait_for_closures_not_yet_begun() {
    rounds("closures a hundred deep", FEW, |runtime| {
        assert_eq!(run(runtime, || nest(Handle::current(), 100)), 100);
    });
}

#[test]
fn closures_and_tasks_wait_for_each_other_in_turn() {
    fn nest(depth: u32) -> u32 {
        let handle = Handle::current();
        match depth {
            0 => 0,
            _ if depth.is_multiple_of(2) => {
                1 + handle.block_on(beat::spawn_blocking_parallel(move || nest(depth - 1))).unwrap()
            }
            _ => 1 + handle.block_on(beat::spawn(async move { nest(depth - 1) })).unwrap(),
        }
    }
    rounds("closures and tasks in turn", FEW, |runtime| assert_eq!(run(runtime, || nest(40)), 40));
}

#[test]
fn each_leaf_of_a_fork_waits_for_a_closure() {
    rounds("each leaf waits for a closure", FEW, |runtime| {
        let sum = run(runtime, || {
            let sum = AtomicU64::new(0);
            in_parallel(32, &|i| {
                let closure = beat::spawn_blocking_parallel(move || fib(5) + i);
                sum.fetch_add(Handle::current().block_on(closure).unwrap(), SeqCst);
            });
            sum.into_inner()
        });
        assert_eq!(sum, 32 * 5 + 31 * 16);
    });
}

// ----- locks held across forks -----

/// rayon#592: parallel leaves take a lock and fork under it. There a join that waits under the lock runs another
/// leaf, which waits for the lock that its own stack holds.
#[test]
fn parallel_leaves_fork_under_one_lock() {
    rounds("leaves fork under one lock", SOME, |runtime| {
        let sum = run(runtime, || {
            let sum = Mutex::new(0);
            in_parallel(16, &|_| {
                let mut held = sum.lock().unwrap();
                let (a, b) = beat::join(|| fib(8), || fib(8));
                *held += a + b;
            });
            sum.into_inner().unwrap()
        });
        assert_eq!(sum, 16 * 42);
    });
}

/// The same with readers and writers, from several closures and tasks at once.
#[test]
fn closures_and_tasks_fork_under_a_read_write_lock() {
    rounds("forks under a read-write lock", SOME, |runtime| {
        let lock = Arc::new(RwLock::new(0));
        let work: Vec<_> = (0..8)
            .map(|i| {
                let lock = Arc::clone(&lock);
                let body = move || {
                    in_parallel(4, &|j| {
                        if (i + j) % 4 == 0 {
                            let mut held = lock.write().unwrap();
                            let (a, b) = beat::join(|| fib(6), || fib(6));
                            *held += a + b;
                        } else {
                            let held = lock.read().unwrap();
                            let (a, b) = beat::join(|| fib(6) + *held, || fib(6));
                            black_box(a + b);
                        }
                    });
                };
                if i % 2 == 0 {
                    runtime.spawn_blocking_parallel(body)
                } else {
                    runtime.spawn(async move { body() })
                }
            })
            .collect();
        for handle in work {
            runtime.block_on(handle).unwrap();
        }
        assert_eq!(*lock.read().unwrap(), 8 * 16);
    });
}

/// rayon#1174: a value that is made on first use, by parallel work, inside work that is parallel itself.
#[test]
fn a_lazy_value_is_made_by_forks_in_parallel_leaves() {
    rounds("lazy value made by forks", SOME, |runtime| {
        let sum = run(runtime, || {
            let (first, second, sum) = (OnceLock::new(), OnceLock::new(), AtomicU64::new(0));
            in_parallel(16, &|_| {
                let inner = || *second.get_or_init(|| beat::join(|| fib(8), || fib(8)).0);
                let value = *first.get_or_init(|| {
                    let (a, b) = beat::join(inner, || fib(9));
                    a + b
                });
                sum.fetch_add(value + inner(), SeqCst);
            });
            sum.into_inner()
        });
        assert_eq!(sum, 16 * (21 + 34 + 21));
    });
}

/// A thread-local borrowed across a fork: whoever ran something else on top of it would meet the borrow.
#[test]
fn a_thread_local_borrowed_across_a_fork_is_met_by_nobody() {
    thread_local! {
        static SCRATCH: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }
    rounds("thread-local across a fork", SOME, |runtime| {
        let closures: Vec<_> = (0..3)
            .map(|_| {
                runtime.spawn_blocking_parallel(|| {
                    in_parallel(16, &|i| {
                        SCRATCH.with_borrow_mut(|scratch| {
                            scratch.clear();
                            let (a, b) = beat::join(|| fib(7), || fib(7));
                            scratch.extend([a, b, i]);
                            assert_eq!(scratch.len(), 3);
                        });
                    });
                })
            })
            .collect();
        for closure in closures {
            runtime.block_on(closure).unwrap();
        }
    });
}

/// The lock's holder waits for a task, and tasks wait for the lock.
#[test]
fn a_lock_is_held_while_its_holder_waits_for_a_task() {
    rounds("lock held while waiting for a task", FEW, |runtime| {
        let sum = Arc::new(Mutex::new(0));
        let work: Vec<_> = (0..6)
            .map(|i| {
                let sum = Arc::clone(&sum);
                let body = move || {
                    let mut held = sum.lock().unwrap();
                    *held += Handle::current().block_on(beat::spawn(async { fib(4) })).unwrap();
                };
                if i % 2 == 0 {
                    runtime.spawn_blocking_parallel(body)
                } else {
                    runtime.spawn(async move { body() })
                }
            })
            .collect();
        for handle in work {
            runtime.block_on(handle).unwrap();
        }
        assert_eq!(*sum.lock().unwrap(), 6 * 3);
    });
}

// ----- nested stealing -----

/// rayon#854: joins that wait run other work, which forks and waits in turn, until the stack ends. Here each
/// thread that runs a part of a closure says so, and meets no other closure below it on its stack.
#[test]
fn nobody_steals_on_top_of_a_wait() {
    thread_local! {
        static CLOSURE: Cell<u64> = const { Cell::new(0) };
    }
    fn part<R>(closure: u64, f: impl FnOnce() -> R) -> R {
        let below = CLOSURE.replace(closure);
        assert!(below == 0 || below == closure, "{closure} began on top of {below}");
        let result = f();
        CLOSURE.set(below);
        result
    }
    fn tree(closure: u64, depth: u32) -> u64 {
        if depth == 0 {
            // A leaf waits for the work of others.
            let other = beat::spawn_blocking_parallel(move || part(1000 + closure, || fib(8)));
            return Handle::current().block_on(other).unwrap();
        }
        let half = move || part(closure, || tree(closure, depth - 1));
        let (a, b) = beat::join(half, half);
        a + b
    }
    rounds("nobody steals on top of a wait", FEW, |runtime| {
        let closures: Vec<_> =
            (1..=4).map(|i| runtime.spawn_blocking_parallel(move || part(i, || tree(i, 4)))).collect();
        for closure in closures {
            assert_eq!(runtime.block_on(closure).unwrap(), 16 * 21);
        }
    });
}

/// The same as a limit on the stack: what one chain of forks needs is all that a thread ever needs, however many
/// chains there are.
#[test]
fn stacks_do_not_grow_by_stealing() {
    fn chain(depth: u64) -> u64 {
        if depth == 0 {
            return fib(6);
        }
        let (a, b) = beat::join(move || chain(depth - 1), || fib(6));
        a + b
    }
    let builder = || Runtime::builder().thread_stack_size(256 << 10);
    // One chain fits into half of the stack.
    let (small, deep) = (builder().thread_stack_size(128 << 10).worker_threads(1).build().unwrap(), 100);
    assert_eq!(run(&small, move || chain(deep)), 8 * 101);
    let asked = std::env::var("BEAT_ROUNDS").ok().and_then(|text| text.parse().ok());
    for workers in [1, 2, 4] {
        let runtime = builder().worker_threads(workers).build().unwrap();
        let guard = Guard::of("stacks do not grow", workers);
        for number in 0..asked.unwrap_or(SOME) {
            guard.round.store(number, SeqCst);
            let closures: Vec<_> =
                (0..16).map(|_| runtime.spawn_blocking_parallel(move || chain(deep))).collect();
            for closure in closures {
                assert_eq!(runtime.block_on(closure).unwrap(), 8 * 101);
            }
        }
    }
}

// ----- polls that do not end -----

/// tokio#4730: whoever takes an event and then polls for long takes the driver, and what it has queued, with it.
/// Here a task that spins until timers, light tasks and closures have gone on gets its way.
#[cfg(feature = "tokio")]
#[test]
fn a_task_spins_until_others_have_gone_on() {
    rounds("a task spins until others have gone on", FEW, |runtime| {
        let workers = runtime.metrics().workers;
        let told = Arc::new(AtomicBool::new(false));
        let spinners: Vec<_> = (0..workers)
            .map(|i| {
                let told = Arc::clone(&told);
                runtime.spawn(async move {
                    if i % 2 == 0 {
                        // It comes from the driver.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    let queued = beat::spawn(async { 1 });
                    while !told.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                    queued.await.unwrap()
                })
            })
            .collect();
        let light = runtime.spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                beat::spawn(beat::yield_now()).await.unwrap();
            }
            told.store(true, SeqCst);
        });
        runtime.block_on(light).unwrap();
        for spinner in spinners {
            assert_eq!(runtime.block_on(spinner).unwrap(), 1);
        }
    });
}

/// The same with tasks that sleep in the kernel, unknown to Beat.
#[test]
fn a_task_blocks_until_others_have_gone_on() {
    rounds("a task blocks until others have gone on", FEW, |runtime| {
        let workers = runtime.metrics().workers;
        let (told, gate) = (Latch::new(), Gate::new());
        let blocked: Vec<_> = (0..workers)
            .map(|_| {
                let (told, gate) = (Arc::clone(&told), Arc::clone(&gate));
                runtime.spawn(async move {
                    gate.wait().await;
                    let queued = beat::spawn(async { 1 });
                    told.wait();
                    queued.await.unwrap()
                })
            })
            .collect();
        gate.open();
        let light = runtime.spawn(async move {
            beat::spawn(beat::yield_now()).await.unwrap();
            assert_eq!(beat::spawn_blocking_parallel(|| fib(8)).await.unwrap(), 21);
            told.set();
        });
        runtime.block_on(light).unwrap();
        for task in blocked {
            assert_eq!(runtime.block_on(task).unwrap(), 1);
        }
    });
}

// ----- deep stacks -----

/// Jobs come from the scope's body, from its jobs on other threads, from tasks, and from threads that Beat does not
/// know, all at once; some wait for others.
#[test]
fn a_scope_is_spawned_into_from_both_sides() {
    rounds("scope, both sides", SOME, |runtime| {
        let runs = run(runtime, || {
            let runs = AtomicU64::new(0);
            let count = |_: &beat::Scope<'_>| {
                runs.fetch_add(1, SeqCst);
            };
            beat::scope(|scope| {
                std::thread::scope(|threads| {
                    threads.spawn(|| {
                        for _ in 0..8 {
                            scope.spawn(move |inner| inner.spawn(count));
                        }
                    });
                    for _ in 0..8 {
                        scope.spawn(move |inner| {
                            beat::join(|| inner.spawn(count), || inner.spawn(count));
                            // Jobs of a scope inside, while those of the outer one are queued.
                            beat::scope(|innermost| {
                                innermost.spawn(count);
                                innermost.spawn(|_| inner.spawn(count));
                            });
                        });
                    }
                });
            });
            runs.into_inner()
        });
        assert_eq!(runs, 8 + 8 * 4);
    });
}

/// Each job waits for a task, and each task for a closure that opens a scope of its own.
#[test]
fn jobs_of_a_scope_wait_for_tasks_that_wait_for_scopes() {
    rounds("scope, waiting", SOME, |runtime| {
        let sum = run(runtime, || {
            let sum = AtomicU64::new(0);
            beat::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|_| {
                        let task = beat::spawn(async {
                            let closure = beat::spawn_blocking_parallel(|| {
                                let inner = AtomicU64::new(0);
                                beat::scope(|scope| {
                                    for _ in 0..4 {
                                        scope.spawn(|_| {
                                            inner.fetch_add(fib(5), SeqCst);
                                        });
                                    }
                                });
                                inner.into_inner()
                            });
                            closure.await.unwrap()
                        });
                        sum.fetch_add(Handle::current().block_on(task).unwrap(), SeqCst);
                    });
                }
            });
            sum.into_inner()
        });
        assert_eq!(sum, 6 * 4 * 5);
    });
}

/// The address of a local of the deepest call, set by it.
type Deepest = AtomicUsize;

fn here() -> usize {
    let local = 0_u8;
    black_box(&raw const local) as usize
}

/// The recursion with plain calls.
#[inline(never)]
fn plain(levels: u64, deepest: &Deepest) -> u64 {
    if levels == 0 {
        deepest.store(here(), SeqCst);
        return 0;
    }
    let (a, b) = (plain(levels - 1, deepest), black_box(levels));
    black_box(a + b)
}

#[inline(never)]
fn forked(levels: u64, deepest: &Deepest) -> u64 {
    if levels == 0 {
        deepest.store(here(), SeqCst);
        return 0;
    }
    let (a, b) = beat::join(move || forked(levels - 1, deepest), move || black_box(levels));
    black_box(a + b)
}

#[test]
fn a_million_deep_join_takes_at_most_three_times_the_stack_of_plain_calls() {
    const LEVELS: u64 = 1_000_000;
    let sum = LEVELS * (LEVELS + 1) / 2;
    let measure = |runtime: &Runtime, recurse: fn(u64, &Deepest) -> u64| {
        run(runtime, move || {
            let deepest = Deepest::new(0);
            let top = here();
            assert_eq!(recurse(LEVELS, &deepest), sum);
            (top - deepest.into_inner()) as f64 / LEVELS as f64
        })
    };
    for workers in [1, 2, 4] {
        let runtime = Runtime::builder().worker_threads(workers).thread_stack_size(2 << 30).build().unwrap();
        let _guard = Guard::of("a million deep join", workers);
        let (plain, forked) = (measure(&runtime, plain), measure(&runtime, forked));
        println!("{workers} workers: {plain:.0} bytes a level, forked {forked:.0}: {:.2}", forked / plain);
        // Without optimisation both are what the compiler happens to make of them.
        assert!(cfg!(debug_assertions) || forked <= 3.0 * plain, "{forked} against {plain} bytes a level");
    }
}
