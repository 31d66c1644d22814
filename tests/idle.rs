//! Idle is free: with nothing to do no thread of the process is woken. A test binary of its own, since it counts
//! the switches of the whole process.
#![cfg(target_os = "linux")]

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, atomic::AtomicBool};

use common::idle::stays_quiet;
use common::{Latch, fib};

#[test]
fn an_idle_runtime_makes_no_wake_ups() {
    let runtime = common::runtime(2);
    runtime.block_on(async {
        let closures: Vec<_> = (0..8).map(|_| beat::spawn_blocking_parallel(|| fib(20))).collect();
        let tasks: Vec<_> = (0..1000).map(|_| beat::spawn(beat::yield_now())).collect();
        for closure in closures {
            closure.await.unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
        beat::spawn_blocking(|| ()).await.unwrap();
        #[cfg(feature = "tokio")]
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    });
    stays_quiet("after closures, tasks and timers");

    // A closure that is open and blocked, and a task that waits: still nothing to do.
    let (begun, release) = (Latch::new(), Latch::new());
    let closure = runtime.spawn_blocking_parallel({
        let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
        move || {
            begun.set();
            release.wait();
        }
    });
    begun.wait();
    stays_quiet("with a closure that blocks");
    release.set();
    runtime.block_on(closure).unwrap();

    // Some worker computes, the others stay down.
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Latch::new();
    let closure = runtime.spawn_blocking_parallel({
        let (begun, stop) = (Arc::clone(&begun), Arc::clone(&stop));
        move || {
            begun.set();
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
        }
    });
    begun.wait();
    stays_quiet("with one worker computing");
    stop.store(true, SeqCst);
    runtime.block_on(closure).unwrap();
}
