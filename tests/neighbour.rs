//! Neighbours that spin on a pinned worker's CPU: the worker is let go, and bound again when they have gone. A test
//! binary of its own, since other tests would be neighbours too.

#![cfg(target_os = "linux")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use beat::{Pinning, Runtime};
use common::{Latch, fib, within};

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
fn a_worker_with_neighbours_is_let_go_and_bound_again() {
    let cpus: Vec<_> = beat::topology().allowed().iter().take(2).collect();
    if cpus.len() < 2 || std::fs::read_to_string("/proc/thread-self/schedstat").is_err() {
        return eprintln!("skipped: it takes two CPUs, and a kernel that counts how long threads wait");
    }
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
