//! What a spawn, a closure and a fork allocate: one task, one task, and nothing.

#[path = "../benches/common/allocations.rs"]
#[allow(dead_code, reason = "the benches use the other half")]
mod allocations;
mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use allocations::of_this_thread;
use common::within;

/// How many of each are counted.
const COUNT: i64 = 1_000;
/// A queue for many threads allocates a block for so many entries; one more may have been begun.
const BLOCK: i64 = 31;

/// One worker, so that nobody steals, and no heartbeat, so that nothing is promoted.
fn runtime() -> beat::Runtime {
    let builder = beat::Runtime::builder().worker_threads(1).heartbeat(Duration::from_secs(3600));
    builder.build().expect("the machine has room for a few threads")
}

/// How many of the calls would be blocks of a queue.
fn blocks(count: i64) -> i64 {
    count / BLOCK + 1
}

#[test]
fn a_spawn_from_a_task_allocates_the_task() {
    let runtime = runtime();
    let counted = within(Duration::from_secs(60), || {
        let spawning = runtime.spawn(async {
            let mut counted = Vec::new();
            // The first time queue and registry grow.
            for _ in 0..3 {
                let mut handles = Vec::with_capacity(COUNT as usize);
                let (calls, ()) = of_this_thread(|| {
                    handles.extend((0..COUNT).map(|number| beat::spawn(async move { number })));
                });
                let mut sum = 0;
                for handle in handles {
                    sum += handle.await.unwrap();
                }
                assert_eq!(sum, COUNT * (COUNT - 1) / 2);
                counted.push(calls);
            }
            counted
        });
        runtime.block_on(spawning).unwrap()
    });
    // A thread that has been in one poll for long gives to the queue that all threads share.
    for calls in &counted[1..] {
        assert!((COUNT..=COUNT + blocks(COUNT)).contains(calls), "{counted:?}");
    }
}

#[test]
fn a_spawn_from_outside_allocates_the_task() {
    let runtime = runtime();
    let spawn = || {
        let mut handles = Vec::with_capacity(COUNT as usize);
        let (calls, ()) = of_this_thread(|| {
            handles.extend((0..COUNT).map(|number| runtime.spawn(async move { number })));
        });
        let sum: i64 = handles.into_iter().map(|handle| runtime.block_on(handle).unwrap()).sum();
        assert_eq!(sum, COUNT * (COUNT - 1) / 2);
        calls
    };
    let counted = within(Duration::from_secs(60), || [spawn(), spawn(), spawn()]);
    for calls in &counted[1..] {
        assert!((COUNT..=COUNT + blocks(COUNT)).contains(calls), "{counted:?}");
    }
}

#[test]
fn a_closure_allocates_its_task() {
    let runtime = runtime();
    let spawn = || {
        let mut handles = Vec::with_capacity(COUNT as usize);
        let (calls, ()) = of_this_thread(|| {
            handles.extend((0..COUNT).map(|number| runtime.spawn_blocking_parallel(move || number)));
        });
        let sum: i64 = handles.into_iter().map(|handle| runtime.block_on(handle).unwrap()).sum();
        assert_eq!(sum, COUNT * (COUNT - 1) / 2);
        calls
    };
    let counted = within(Duration::from_secs(60), || [spawn(), spawn(), spawn()]);
    for calls in &counted[1..] {
        assert!((COUNT..=COUNT + blocks(COUNT)).contains(calls), "{counted:?}");
    }
}

fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = beat::join(move || fib(n - 1), move || fib(n - 2));
    a + b
}

#[test]
fn a_fork_that_nobody_takes_allocates_nothing() {
    let runtime = runtime();
    let (calls, result) = within(Duration::from_secs(60), || {
        let closure = runtime.spawn_blocking_parallel(|| of_this_thread(|| fib(20)));
        runtime.block_on(closure).unwrap()
    });
    assert_eq!((calls, result), (0, 6765));
}

#[test]
fn a_fork_outside_allocates_nothing_after_the_first() {
    let runtime = runtime();
    let _entered = runtime.enter();
    // The worker computes all the while: an idle one would be offered a half, in a ticket on the heap.
    let (begun, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let busy = runtime.spawn_blocking_parallel({
        let (begun, over) = (Arc::clone(&begun), Arc::clone(&over));
        move || {
            begun.store(true, SeqCst);
            while !over.load(SeqCst) {
                std::hint::spin_loop();
            }
        }
    });
    while !begun.load(SeqCst) {
        std::thread::yield_now();
    }
    // The first makes the thread a guest, and leaves room for the next ones.
    assert_eq!(fib(10), 55);
    let (calls, result) = of_this_thread(|| fib(10));
    over.store(true, SeqCst);
    runtime.block_on(busy).unwrap();
    assert_eq!((calls, result), (0, 55));
}

/// A thief asks at each look for work.
#[test]
fn asking_who_is_near_allocates_nothing() {
    use beat::topology::{Neighbours, Topology};

    let machine: Topology = "package:2 numanode:2 l3:2 core:4 pu:2".parse().unwrap();
    let neighbours = Neighbours::new(&machine, &machine.place(&beat::Pinning::Cores, 64).unwrap());
    let mut state = 1_u64;
    let (calls, victims) = of_this_thread(|| {
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state
        };
        (0..64).map(|worker| neighbours.victims(worker, &mut random).count()).sum::<usize>()
    });
    assert_eq!((calls, victims), (0, 64 * 63));
}
