//! When the system refuses threads: a clear error at the start, no hang later, and full strength when it relents.
//!
//! One test, for the limit is that of the whole process: too little address space for another stack.

#![cfg(target_os = "linux")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use beat::Runtime;
use common::{Gate, Latch, fib, nest, within};

/// More than the limit leaves.
const STACK: usize = 1 << 30;

/// The process may not grow by another stack until this is dropped.
struct NoMoreStacks(libc::rlimit);

impl NoMoreStacks {
    fn new() -> Self {
        let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the pointer is to a live rlimit.
        assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut before) }, 0);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmSize:")).unwrap();
        let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        let leaves_half = kilobytes * 1024 + STACK as u64 / 2;
        set(libc::rlimit { rlim_cur: leaves_half, ..before });
        Self(before)
    }
}

impl Drop for NoMoreStacks {
    fn drop(&mut self) {
        set(self.0);
    }
}

fn set(limit: libc::rlimit) {
    // SAFETY: the pointer is to a live rlimit.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}

#[test]
fn refused_threads() {
    the_runtime_goes_on_with_the_threads_it_has();
    a_duty_thread_that_was_refused_comes_later();
    for workers in [1, 2] {
        a_hand_over_without_a_thread_loses_nothing(workers);
    }
}

fn a_hand_over_without_a_thread_loses_nothing(workers: usize) {
    let runtime = Runtime::builder().worker_threads(workers).thread_stack_size(STACK).build().unwrap();
    within(Duration::from_secs(120), || {
        // Those of the start have come up.
        while runtime.metrics().idle_workers < workers {
            std::thread::yield_now();
        }
        let refusing = NoMoreStacks::new();
        let handle = runtime.handle().clone();
        let closure = runtime.spawn_blocking_parallel(move || nest(handle, 10));
        // Every thread waits for a closure that none is left to begin.
        while runtime.metrics().hand_overs < workers as u64 || runtime.metrics().closures_queued == 0 {
            std::thread::yield_now();
        }
        assert!(!closure.is_finished());
        // A task needs a thread as well.
        let task = runtime.spawn(async { 5 });
        drop(refusing);
        assert_eq!(runtime.block_on(closure).unwrap(), 10);
        assert_eq!(runtime.block_on(task).unwrap(), 5);
    });
}

/// The only worker computes, and the system refuses the duty thread: a ready task waits until there can be one.
fn a_duty_thread_that_was_refused_comes_later() {
    let runtime = Runtime::builder().worker_threads(1).thread_stack_size(STACK).build().unwrap();
    within(Duration::from_secs(120), || {
        while runtime.metrics().idle_workers < 1 {
            std::thread::yield_now();
        }
        let refusing = NoMoreStacks::new();
        let (begun, stop) = (Latch::new(), Arc::new(AtomicBool::new(false)));
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
        let task = runtime.spawn(async { 5 });
        drop(refusing);
        assert_eq!(runtime.block_on(task).unwrap(), 5);
        stop.store(true, SeqCst);
        runtime.block_on(closure).unwrap();
    });
}

fn the_runtime_goes_on_with_the_threads_it_has() {
    let builder = || Runtime::builder().worker_threads(1).thread_stack_size(STACK);
    let runtime = builder().build().unwrap();
    within(Duration::from_secs(120), || {
        let refusing = NoMoreStacks::new();
        assert!(builder().build().is_err());

        // What the worker can do alone goes on.
        assert_eq!(runtime.block_on(runtime.spawn(async { 1 })).unwrap(), 1);
        let closure = runtime.spawn_blocking_parallel(|| fib(15));
        assert_eq!(runtime.block_on(closure).unwrap(), 610);

        // Nobody will ever come for this one: its handle says so, instead of waiting for ever.
        let stranded = runtime.spawn_blocking(|| ());
        assert!(runtime.block_on(stranded).unwrap_err().is_cancelled());

        // The only worker waits for a task that no thread can be started for, until it can.
        let (waits, gate) = (Latch::new(), Gate::new());
        let handle = runtime.handle().clone();
        let waiter = runtime.spawn_blocking_parallel({
            let (waits, gate) = (Arc::clone(&waits), Arc::clone(&gate));
            move || {
                handle.block_on(async {
                    waits.set();
                    gate.wait().await;
                });
            }
        });
        waits.wait();
        let opener = runtime.spawn_blocking_parallel(move || gate.open());
        drop(refusing);
        runtime.block_on(async {
            opener.await.unwrap();
            waiter.await.unwrap();
        });
        assert!(runtime.block_on(runtime.spawn_blocking(|| ())).is_ok());
    });
}
