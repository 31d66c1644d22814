//! The watchdog's falling asleep.

use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::SeqCst;
use loom::thread;

use super::{Queue, check};
use crate::processors::fence;
use crate::roll::Roll;
use crate::sync::Arc;
use crate::ticking::Ticking;

#[derive(Default)]
struct World {
    ticking: Ticking,
    queue: Queue,
    roll: Roll,
    seen: AtomicUsize,
}

/// The watchdog, which is about to fall asleep; it ends when it has seen to so much or the runtime is closed.
fn watchdog(world: &Arc<World>, goal: usize) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    assert!(world.ticking.raise());
    thread::spawn(move || {
        while !world.roll.is_closed() {
            while world.queue.pop() {
                if world.seen.fetch_add(1, SeqCst) + 1 == goal {
                    return;
                }
            }
            world.ticking.fall_asleep(|| !world.queue.is_empty(), || world.roll.is_closed(), thread::park);
        }
    })
}

/// `Watchdog::ensure`, after a push.
fn leave_work(world: &World, watchdog: &thread::Thread) {
    world.queue.push();
    // In the deques' push of a LIFO slot, and their pop, there is a barrier that loom does not model.
    fence();
    if !world.ticking.is_raised() && world.ticking.raise() {
        watchdog.unpark();
    }
}

#[test]
fn work_left_while_the_watchdog_falls_asleep_is_seen() {
    check(|| {
        let world = Arc::new(World::default());
        let watchdog = watchdog(&world, 1);
        leave_work(&world, watchdog.thread());
        watchdog.join().unwrap();
    });
}

#[test]
fn of_two_who_leave_work_one_unparks_the_watchdog() {
    check(|| {
        let world = Arc::new(World::default());
        let watchdog = watchdog(&world, 2);
        let other = thread::spawn({
            let (world, watchdog) = (Arc::clone(&world), watchdog.thread().clone());
            move || leave_work(&world, &watchdog)
        });
        leave_work(&world, watchdog.thread());
        other.join().unwrap();
        watchdog.join().unwrap();
    });
}

#[test]
fn the_watchdog_ends_with_its_runtime() {
    check(|| {
        let world = Arc::new(World::default());
        let watchdog = watchdog(&world, 1);
        world.roll.close();
        watchdog.thread().unpark();
        watchdog.join().unwrap();
    });
}
