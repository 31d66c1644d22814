//! Neighbours that spin on a pinned worker's CPU: the worker is let go, and bound again when they have gone. A test
//! binary of its own, since other tests would be neighbours too.

#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use beat::{Pinning, Runtime};
use common::{Latch, fib, within};

/// The tests' spinners are nobody else's neighbours.
static ALONE: Mutex<()> = Mutex::new(());

fn waits_are_counted() -> bool {
    std::fs::read_to_string("/proc/thread-self/schedstat").is_ok()
}

/// The CPUs that the calling thread may run on.
fn own_cpus() -> Vec<usize> {
    let mask = rustix::thread::sched_getaffinity(None).unwrap();
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect()
}

/// Runs until told to stop, on one CPU.
fn spin_on(cpu: usize, stop: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let (begun, stop) = (Latch::new(), Arc::clone(stop));
    let spinner = thread::spawn({
        let begun = Arc::clone(&begun);
        move || {
            let mut set = rustix::thread::CpuSet::new();
            set.set(cpu);
            rustix::thread::sched_setaffinity(None, &set).unwrap();
            begun.set();
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
        }
    });
    begun.wait();
    spinner
}

/// Closures that fork, more than there are workers, until `done`.
fn work_until(runtime: &Runtime, workers: usize, mut done: impl FnMut(&beat::Metrics) -> bool) {
    while !done(&runtime.metrics()) {
        let closures: Vec<_> =
            (0..2 * workers).map(|_| runtime.spawn_blocking_parallel(|| fib(20))).collect();
        for closure in closures {
            let _ = closure.join().unwrap();
        }
    }
}

#[test]
fn a_worker_that_only_serves_is_bound_when_it_computes() {
    if beat::topology().allowed().len() < 2 || !waits_are_counted() {
        return eprintln!("skipped: it takes two CPUs, and a kernel that counts how long threads wait");
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = Runtime::builder().worker_threads(1).pinning(Pinning::Cores).build().unwrap();
    within(Duration::from_secs(300), || {
        let own = runtime.install(own_cpus);
        assert_eq!(own.len(), 1);
        let stop = Arc::new(AtomicBool::new(false));
        let spinner = spin_on(own[0], &stop);
        // Short polls, and none that forks or computes for long.
        while runtime.metrics().unpinned_threads == 0 {
            let tasks: Vec<_> = (0..100)
                .map(|_| runtime.spawn(async { std::hint::black_box(1..10u64).sum::<u64>() }))
                .collect();
            for task in tasks {
                runtime.block_on(task).unwrap();
            }
        }
        let served = runtime.block_on(runtime.spawn(async { own_cpus() })).unwrap();
        let computed = runtime.block_on(runtime.spawn_blocking_parallel(own_cpus)).unwrap();
        stop.store(true, SeqCst);
        spinner.join().unwrap();
        assert!(served.len() > 1, "{served:?}");
        assert_eq!(computed, own);
        assert_eq!(runtime.metrics().unpinned_threads, 0);
    });
}

#[test]
fn a_worker_with_neighbours_is_let_go_and_bound_again() {
    let cpus: Vec<_> = beat::topology().allowed().iter().take(2).collect();
    if cpus.len() < 2 || !waits_are_counted() {
        return eprintln!("skipped: it takes two CPUs, and a kernel that counts how long threads wait");
    }
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = Runtime::builder().worker_threads(2).pinning(Pinning::Cpus(cpus.clone())).build().unwrap();
    within(Duration::from_secs(300), || {
        let stop = Arc::new(AtomicBool::new(false));
        // Where each core has its worker, that beside one neighbour stays.
        let spinners: Vec<_> = (0..5).map(|_| spin_on(cpus[0], &stop)).collect();
        work_until(&runtime, 2, |metrics| metrics.unpinned_threads > 0);
        assert!(runtime.metrics().unpins > 0);
        let free = runtime.affinities().into_iter().filter(|thread| thread.cpus.len() == cpus.len());
        assert!(free.count() > 0, "{:?}", runtime.affinities());
        stop.store(true, SeqCst);
        spinners.into_iter().for_each(|spinner| spinner.join().unwrap());
        // If the machine has other neighbours, on trial only.
        let mut before = 0;
        work_until(&runtime, 2, |metrics| {
            let is_bound = metrics.unpinned_threads < before;
            before = metrics.unpinned_threads;
            is_bound
        });
    });
}
