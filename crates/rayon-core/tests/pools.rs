//! What rayon's own tests do not ask: numbers, which pool it is, Beat's runtime as the pool.

use std::cell::UnsafeCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;

use rayon::prelude::*;
use rayon_core::{ThreadPoolBuilder, Yield};

fn pool(workers: usize) -> rayon_core::ThreadPool {
    ThreadPoolBuilder::new().num_threads(workers).build().unwrap()
}

/// A slot for each number, as unsafe programs have them. It is an error to be in one that somebody else is in.
struct Slots(Vec<(AtomicBool, UnsafeCell<u64>)>);

// SAFETY: the flag says when two threads are in one slot; the test fails then.
unsafe impl Sync for Slots {}

impl Slots {
    fn add(&self, index: usize, work: u64) {
        let (taken, count) = &self.0[index];
        assert!(!taken.swap(true, SeqCst), "two threads have the index {index}");
        // SAFETY: the flag says that nobody else is here.
        unsafe { *count.get() += 1 };
        for i in 0..work {
            std::hint::black_box(i);
        }
        taken.store(false, SeqCst);
    }
}

#[test]
fn no_two_threads_have_the_same_index_at_a_time() {
    for workers in 1..=3 {
        let pool = pool(workers);
        let slots = Slots((0..workers).map(|_| Default::default()).collect());
        pool.install(|| {
            (0..200_u64).into_par_iter().for_each(|i| {
                // Inner loops make threads wait, and go on without a processor.
                let sum: u64 = (0..50_u64).into_par_iter().map(|j| std::hint::black_box(i + j)).sum();
                let index = rayon_core::current_thread_index().expect("a worker has an index");
                slots.add(index, sum % 1000);
            });
        });
        let total: u64 = slots.0.into_iter().map(|(_, count)| count.into_inner()).sum();
        assert_eq!(total, 200);
    }
}

/// A thread that sleeps has the watchdog take its processor, unless it has been told its number.
#[test]
fn a_thread_keeps_the_index_it_was_told_while_it_sleeps() {
    let pool = pool(1);
    let (told, is_told) = mpsc::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let ran = Arc::new(AtomicBool::new(false));
    pool.spawn(move || {
        told.send(rayon_core::current_thread_index()).unwrap();
        wait.recv().unwrap();
        assert_eq!(rayon_core::current_thread_index(), Some(0));
    });
    assert_eq!(is_told.recv().unwrap(), Some(0));
    let (done, is_done) = mpsc::channel();
    pool.spawn({
        let ran = Arc::clone(&ran);
        move || {
            ran.store(true, SeqCst);
            done.send(rayon_core::current_thread_index()).unwrap();
        }
    });
    // Some ticks of the watchdog: long enough to see a failure, and no success depends on it.
    thread::sleep(std::time::Duration::from_millis(30));
    assert!(!ran.load(SeqCst), "the index was given to another thread");
    go_on.send(()).unwrap();
    assert_eq!(is_done.recv().unwrap(), Some(0));
}

#[test]
fn a_broadcast_has_the_index_that_it_says() {
    for workers in [1, 2, 5] {
        let pool = pool(workers);
        let indices = pool.broadcast(|context| (context.index(), rayon_core::current_thread_index()));
        assert!(indices.into_iter().eq((0..workers).map(|i| (i, Some(i)))));
        // From inside, and beside other work.
        let inner = pool.install(|| {
            rayon_core::join(|| pool.broadcast(|c| c.index()), || (0..1000_u32).into_par_iter().sum::<u32>())
        });
        assert!(inner.0.into_iter().eq(0..workers));
    }
}

#[test]
fn the_pool_of_a_beat_closure_is_its_runtime() {
    let runtime = beat::Runtime::builder().worker_threads(2).thread_name("mine").build().unwrap();
    let (names, threads) = runtime.block_on(async {
        beat::spawn_blocking_parallel(|| {
            let names: HashSet<String> = (0..1000)
                .into_par_iter()
                .map(|_| thread::current().name().unwrap_or_default().to_owned())
                .collect();
            (names, rayon_core::current_num_threads())
        })
        .await
        .unwrap()
    });
    assert_eq!(threads, 2);
    assert!(names.iter().all(|name| name.starts_with("mine-")), "{names:?}");
    // On a thread that has entered the runtime, too; there the caller waits.
    let entered = runtime.enter();
    let name = rayon_core::join(|| thread::current().name().unwrap_or_default().to_owned(), || ()).0;
    assert!(name.starts_with("mine-"), "{name}");
    drop(entered);
}

#[test]
fn tasks_run_beside_a_par_iter_on_the_same_workers() {
    let runtime = beat::Runtime::builder().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let (go_on, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        // It ends only when a task has run on the runtime whose one worker it has.
        let heavy = beat::spawn_blocking_parallel(move || {
            (0..4_usize).into_par_iter().for_each(|i| {
                if i == 0 {
                    wait.lock().unwrap().recv().unwrap();
                }
            });
        });
        beat::spawn(async move { go_on.send(()).unwrap() }).await.unwrap();
        heavy.await.unwrap();
    });
}

#[test]
fn an_aborted_closure_leaves_its_par_iter() {
    let runtime = beat::Runtime::builder().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let (started, is_started) = mpsc::channel();
        let started = Mutex::new(Some(started));
        let endless = beat::spawn_blocking_parallel(move || {
            loop {
                if let Some(started) = started.lock().unwrap().take() {
                    started.send(()).unwrap();
                }
                (0..100_u32).into_par_iter().for_each(|i| assert!(std::hint::black_box(i) < 100));
            }
        });
        is_started.recv().unwrap();
        endless.abort();
        assert!(endless.await.unwrap_err().is_cancelled());
    });
}

#[test]
fn both_closures_of_a_join_run_whoever_panics() {
    let pool = pool(1);
    let ran = AtomicUsize::new(0);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        pool.join(|| panic!("a"), || ran.fetch_add(1, SeqCst));
    }));
    assert_eq!(*result.unwrap_err().downcast_ref::<&str>().unwrap(), "a");
    assert_eq!(ran.into_inner(), 1);
}

#[test]
fn a_thread_that_yields_lets_a_job_go_first() {
    let pool = pool(1);
    let done = Arc::new(AtomicBool::new(false));
    pool.install(|| {
        rayon_core::spawn({
            let done = Arc::clone(&done);
            move || done.store(true, SeqCst)
        });
        while !done.load(SeqCst) {
            assert!(rayon_core::yield_now().is_some());
        }
        assert_eq!(rayon_core::yield_local(), Some(Yield::Idle));
    });
}

#[test]
fn a_pool_of_the_current_thread_alone_runs_its_jobs_when_that_yields() {
    thread::spawn(|| {
        let pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
        let (sender, receiver) = mpsc::channel();
        pool.spawn(move || sender.send(rayon_core::current_thread_index()).unwrap());
        assert_eq!(rayon_core::yield_now(), Some(Yield::Executed));
        assert_eq!(receiver.try_recv(), Ok(Some(0)));
        assert_eq!(pool.broadcast(|context| context.index()), [0]);
        assert_eq!((0..100_u32).into_par_iter().sum::<u32>(), 4950);
        let mut sum = 0;
        pool.scope(|scope| scope.spawn(|_| sum += 1));
        assert_eq!(sum, 1);
        // One that is not let go of at a scope's end would be waited for here.
        pool.scope(|scope| scope.spawn_broadcast(|_, context| assert_eq!(context.index(), 0)));
    })
    .join()
    .unwrap();
}

/// Splitting goes by what was stolen: with two threads at work there are more pieces than without.
#[test]
fn stolen_pieces_are_split_further() {
    let pool = pool(2);
    let barrier = Barrier::new(2);
    let stolen = AtomicUsize::new(0);
    pool.install(|| {
        rayon_core::join_context(
            |a| {
                barrier.wait();
                assert!(!a.migrated());
            },
            |b| {
                barrier.wait();
                stolen.fetch_add(usize::from(b.migrated()), SeqCst);
            },
        )
    });
    assert_eq!(stolen.into_inner(), 1);
}

/// The halves of a loop are within reach also when nobody was idle when it forked.
#[test]
fn a_long_leaf_does_not_lock_its_siblings_up() {
    let pool = pool(2);
    let barrier = Barrier::new(2);
    pool.install(|| {
        // The first leaf ends only when the last one has begun, wherever both are.
        (0..2_usize).into_par_iter().with_max_len(1).for_each(|_| {
            barrier.wait();
        });
    });
}
