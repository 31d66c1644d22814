//! Shutdown: who publishes and who closes see each other, and exactly one party finishes the runtime.

use std::time::{Duration, Instant};

use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::Relaxed;
use loom::thread;

use super::{World, check};
use crate::processors::{Rested, Seat};
use crate::roll::{Finish, Roll};
use crate::sync::{Arc, Mutex};

/// Spawn enters the registry and then looks whether the runtime is closed; a closed one looks through the registry.
#[test]
fn a_task_spawned_while_the_runtime_closes_is_dropped_by_somebody() {
    check(|| {
        let roll = Arc::new(Roll::default());
        let registry = Arc::new(Mutex::new(Vec::new()));
        let spawner = thread::spawn({
            let (roll, registry) = (Arc::clone(&roll), Arc::clone(&registry));
            move || {
                registry.lock().push("task");
                roll.is_closed()
            }
        });
        roll.close();
        let found = !registry.lock().is_empty();
        let refused = spawner.join().unwrap();
        assert!(found || refused);
    });
}

#[test]
fn a_thread_that_falls_asleep_while_the_runtime_closes_ends() {
    check(|| {
        let world = World::new(1, 1);
        let worker = World::start_worker(&world, 0);
        world.close();
        worker.join().unwrap();
    });
}

#[test]
fn a_spare_thread_without_a_processor_ends_too() {
    check(|| {
        let world = World::new(1, 1);
        let spare = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let seat = Arc::new(Seat::new());
                assert_eq!(World::rest(&world, &seat, false), Rested::Closed);
                assert!(world.processors.sleepers().is_empty());
            }
        });
        world.close();
        spare.join().unwrap();
    });
}

/// The period plays no part: loom's clock stands still.
const PERIOD: Duration = Duration::from_secs(1);

/// Two threads leave while one party waits until `deadline`; and if there is a `late` one, it comes and goes meanwhile.
fn one_party_finishes(deadline: Option<Instant>, late: bool) {
    let roll = Arc::new(Roll::default());
    let finished = Arc::new(AtomicUsize::new(0));
    let count = |finish: Finish, finished: &AtomicUsize| {
        if finish == Finish::Caller {
            finished.fetch_add(1, Relaxed);
        }
    };
    roll.enter();
    roll.enter();
    let mut threads: Vec<_> = (0..2)
        .map(|_| {
            let (roll, finished) = (Arc::clone(&roll), Arc::clone(&finished));
            thread::spawn(move || count(roll.leave(), &finished))
        })
        .collect();
    if late {
        let (roll, finished) = (Arc::clone(&roll), Arc::clone(&finished));
        threads.push(thread::spawn(move || {
            roll.enter();
            count(roll.leave(), &finished);
        }));
    }
    let all_gone = roll.wait(deadline, PERIOD, || {});
    count(if all_gone { Finish::Caller } else { roll.abandon() }, &finished);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(finished.load(Relaxed), 1);
}

#[test]
fn whoever_waits_for_all_threads_finishes() {
    check(|| one_party_finishes(None, false));
}

#[test]
fn the_last_of_abandoned_threads_finishes() {
    check(|| one_party_finishes(Some(Instant::now()), false));
}

/// A foreign thread may be starting one of the runtime's while it ends.
#[test]
fn a_thread_that_comes_late_does_not_finish_again() {
    check(|| one_party_finishes(Some(Instant::now()), true));
}
