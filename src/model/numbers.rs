//! Numbers of processors: never two threads at a time use the same one, and the census goes with the seats.

use loom::sync::atomic::AtomicBool;
use loom::sync::atomic::Ordering::SeqCst;
use loom::thread;

use super::check;
use crate::processors::{ProcessorId, Processors, Seat};
use crate::sync::Arc;

/// A slot for each processor, without a lock: what programs index by the number.
struct World {
    processors: Processors,
    in_use: Vec<AtomicBool>,
    /// Of the threads that hold processors, or may come to.
    seats: Vec<Seat>,
}

impl World {
    /// So many threads that are in closures, of which the first `total` hold processors.
    fn new(total: u32, threads: usize) -> Arc<Self> {
        let processors = Processors::new(total);
        let seats: Vec<_> = (0..threads).map(|_| Seat::new()).collect();
        for (seat, p) in seats.iter().zip(0..total) {
            processors.sit_down(seat, p);
            processors.stop_searching(|| {});
        }
        for seat in &seats {
            processors.begin_computing(seat);
        }
        let in_use = (0..total).map(|_| AtomicBool::new(false)).collect();
        Arc::new(Self { processors, in_use, seats })
    }

    /// The thread uses its slot, and whether it could.
    fn use_slot(&self, number: Option<ProcessorId>) -> bool {
        let Some(slot) = number.map(|p| &self.in_use[p as usize]) else {
            return false;
        };
        assert!(!slot.swap(true, SeqCst), "two threads use the slot");
        thread::yield_now();
        slot.store(false, SeqCst);
        true
    }

    /// `number::find_number`: once, for `to`, beside one other thread.
    fn ask(&self, to: usize, other: usize) -> bool {
        let seat = &self.seats[to];
        let number = seat.number().or_else(|| self.processors.claim(seat));
        let number = number.or_else(|| self.processors.take_over(&self.seats[other], seat));
        self.use_slot(number)
    }

    /// What the census says is what the seats say.
    fn check_census(&self) {
        let held: Vec<_> = self.seats.iter().filter_map(Seat::processor).collect();
        let total = self.in_use.len();
        assert!((0..total as u32).all(|p| held.iter().filter(|&&q| q == p).count() <= 1), "held twice");
        let computing = self.seats.iter().filter(|seat| seat.processor().is_some() && seat.is_computing());
        let census = self.processors.census();
        assert_eq!(census.computing as usize, computing.count());
        assert_eq!(census.idle as usize, total - held.len());
        assert_eq!(census.searching, 0);
    }
}

fn beside(world: &Arc<World>, f: impl FnOnce(&World) + 'static) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || f(&world))
}

/// The watchdog takes the holder's processor for a thread that will ask, and another one asks without a processor.
#[test]
fn two_threads_do_not_use_the_number_of_one_processor() {
    check(|| {
        let world = World::new(1, 3);
        let watchdog = beside(&world, |world| {
            if world.processors.take_away(&world.seats[0]) {
                world.ask(1, 0);
            }
        });
        let without = beside(&world, |world| {
            world.ask(2, 0);
        });
        world.ask(0, 2);
        watchdog.join().unwrap();
        without.join().unwrap();
        world.check_census();
    });
}

/// The holder has been told, and waits: then the number is another's, and again its own if that one is at a fork.
#[test]
fn a_number_is_free_when_its_thread_waits_or_forks() {
    check(|| {
        let world = World::new(1, 2);
        assert!(world.ask(0, 1));
        let other = beside(&world, |world| {
            if world.ask(1, 0) {
                world.processors.forget_number(&world.seats[1]);
                world.ask(1, 0);
            }
        });
        assert!(world.processors.release(&world.seats[0]));
        world.processors.acquire(&world.seats[0]);
        world.ask(0, 1);
        other.join().unwrap();
        world.check_census();
    });
}

/// The item of the holder ends while its processor is taken over: it is taken before that, or not at all.
#[test]
fn a_processor_is_not_taken_over_from_a_thread_whose_item_has_ended() {
    check(|| {
        let world = World::new(1, 2);
        let other = beside(&world, |world| {
            world.ask(1, 0);
        });
        world.processors.end_computing(&world.seats[0]);
        let serves = world.seats[0].processor().is_some();
        other.join().unwrap();
        assert_eq!(world.seats[0].processor().is_some(), serves);
        world.check_census();
    });
}

/// A thread in a short poll takes over from one in a closure: the processor serves again.
#[test]
fn the_census_knows_for_what_a_processor_was_taken_over() {
    check(|| {
        let world = World::new(1, 2);
        world.processors.end_computing(&world.seats[1]);
        let other = beside(&world, |world| {
            world.ask(1, 0);
        });
        let watchdog = beside(&world, |world| {
            world.processors.begin_computing(&world.seats[1]);
        });
        world.processors.end_computing(&world.seats[0]);
        other.join().unwrap();
        watchdog.join().unwrap();
        world.check_census();
    });
}
