//! Processors that are withheld while others work, and given back: no work is lost, and the census goes with them.

use loom::thread;

use super::{World, check};
use crate::processors::{Processors, Seat, Wake, fence};
use crate::sync::Arc;

/// `Shared::look_at_limits`.
fn limit_to(world: &Arc<World>, limit: u32) {
    if world.processors.limit_to(limit) {
        fence();
        if !world.queue.is_empty() {
            World::wake_if_unattended(world, world.processors.census());
        }
    }
}

/// Two workers, of which one is to hand its processor in, wherever it is: it may be the one that was relied upon.
#[test]
fn work_submitted_while_a_processor_is_withheld_is_done() {
    check(|| {
        let world = World::new(2, 1);
        let workers: Vec<_> = (0..2).map(|p| World::start_worker(&world, p)).collect();
        let limiter = thread::spawn({
            let world = Arc::clone(&world);
            move || limit_to(&world, 1)
        });
        World::submit(&world);
        limiter.join().unwrap();
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(*world.done.lock(), 1);
    });
}

/// Two pieces that end together: the second can begin only when the processor has come back.
#[test]
fn a_processor_that_comes_back_is_given_to_work_that_waits() {
    check(|| {
        let world = Arc::new(World::with(2, 2, true));
        limit_to(&world, 1);
        let workers: Vec<_> = (0..2).map(|p| World::start_worker(&world, p)).collect();
        World::submit(&world);
        World::submit(&world);
        limit_to(&world, 2);
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

/// Two processors, and threads that hold them and search no more.
fn two_that_serve() -> (Arc<Processors>, [Arc<Seat>; 2]) {
    let processors = Arc::new(Processors::new(2));
    let seats = std::array::from_fn(|_| Arc::new(Seat::new()));
    for (p, seat) in seats.iter().enumerate() {
        processors.sit_down(seat, p as u32);
        processors.stop_searching(|| {});
    }
    (processors, seats)
}

/// Of two threads in closures one waits, and one comes to its loop, while the limit falls and rises again.
#[test]
fn the_census_goes_with_what_is_withheld() {
    check(|| {
        let (processors, seats) = two_that_serve();
        processors.begin_computing(&seats[0]);
        let waits = thread::spawn({
            let (processors, seat) = (Arc::clone(&processors), Arc::clone(&seats[0]));
            move || {
                processors.release(&seat);
                processors.acquire(&seat);
            }
        });
        let limiter = thread::spawn({
            let processors = Arc::clone(&processors);
            move || {
                processors.limit_to(1);
                let census = processors.census();
                assert!(census.total == 1 || census.total == 2 && census.idle == 0, "{census:?}");
            }
        });
        processors.hand_in(&seats[1]);
        waits.join().unwrap();
        limiter.join().unwrap();

        let held = |processors: &Processors| {
            let census = processors.census();
            let held = seats.iter().filter(|seat| seat.processor().is_some()).count();
            assert_eq!(census.working(), held as u32);
            let computing = seats[0].processor().is_some();
            assert_eq!(census.computing, u32::from(computing));
            census
        };
        let census = held(&processors);
        assert!(census.total >= 1);
        assert_eq!(processors.has_surplus(), census.total > 1);
        // All come back, and nothing is lacking any more.
        assert_eq!(processors.limit_to(2), census.total < 2);
        assert_eq!(held(&processors).total, 2);
        assert!(!processors.has_surplus());
        assert!(processors.acquire(&seats[1]));
        assert!(!processors.hand_in(&seats[1]));
    });
}

/// Something is addressed to a processor while that is withheld: it is run on it by whoever holds the other one.
#[test]
fn what_is_addressed_to_a_withheld_processor_finds_a_holder() {
    check(|| {
        let (processors, seats) = two_that_serve();
        processors.limit_to(1);
        assert!(processors.hand_in(&seats[1]));
        // The holder of 0 waits, while somebody sends for 1.
        let sender = thread::spawn({
            let processors = Arc::clone(&processors);
            move || matches!(processors.wake_on(1), Some(Wake::Spawn(1)))
        });
        processors.release(&seats[0]);
        // `Shared::wake_addressed`.
        let released = matches!(processors.wake_on(1), Some(Wake::Spawn(1)));
        assert!(sender.join().unwrap() != released, "one of the two sends a thread");
        processors.sit_down(&seats[1], 1);
        // At its loop: the other one is withheld now.
        assert!(processors.exchange(&seats[1], |p| p == 0));
        assert_eq!(seats[1].processor(), Some(0));
        assert!(!processors.exchange(&seats[1], |p| p == 0));
        assert_eq!(processors.census().total, 1);
    });
}
