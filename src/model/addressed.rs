//! Closures addressed to one processor: each is run, on that processor, however its holder is busy or falls asleep.

use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::SeqCst;
use loom::thread;

use super::check;
use crate::addressed::Addressed;
use crate::parker::Unpark;
use crate::processors::{ProcessorId, Processors, Rested, Seat, Sleeper, Wake};
use crate::roll::Roll;
use crate::sync::{Arc, Mutex};

/// A runtime in which nothing but addressed closures is run; each is the number that it is addressed to.
struct World {
    processors: Processors,
    addressed: Addressed<ProcessorId>,
    roll: Roll,
    done: AtomicUsize,
    goal: usize,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl World {
    fn new(total: u32, goal: usize) -> Arc<Self> {
        Arc::new(Self {
            processors: Processors::new(total),
            addressed: Addressed::new(total),
            roll: Roll::default(),
            done: AtomicUsize::new(0),
            goal,
            threads: Mutex::default(),
        })
    }

    /// `Shared::submit_addressed`.
    fn submit(world: &Arc<Self>, p: ProcessorId) {
        Self::carry_out(world, world.addressed.submit(p, p, &world.processors));
    }

    /// `Shared::wake_addressed`.
    fn released(world: &Arc<Self>) {
        for wake in world.addressed.released(&world.processors) {
            Self::carry_out(world, Some(wake));
        }
    }

    /// Hand-over 1 and 2.
    fn hand_over(world: &Arc<Self>, seat: &Seat) {
        assert!(world.processors.release(seat));
        let _ = world.processors.published();
        Self::released(world);
    }

    fn carry_out(world: &Arc<Self>, wake: Option<Wake>) {
        match wake {
            Some(Wake::Unpark(seat)) => assert_eq!(seat.parker.unpark(), Unpark::Done),
            Some(Wake::Spawn(p)) => Self::start_worker(world, p),
            None => {}
        }
    }

    fn start_worker(world: &Arc<Self>, p: ProcessorId) {
        let of_thread = Arc::clone(world);
        let thread = thread::spawn(move || {
            let seat = Arc::new(Seat::new());
            of_thread.processors.sit_down(&seat, p);
            Self::work(&of_thread, &seat, true);
        });
        world.threads.lock().push(thread);
    }

    /// The loop of a worker. Whoever runs the last closure closes the runtime, so that all end.
    fn work(world: &Arc<Self>, seat: &Arc<Seat>, mut searching: bool) {
        while !world.roll.is_closed() {
            let held = seat.processor();
            if let Some(p) = held.and_then(|p| world.addressed.pop(p)) {
                if searching {
                    world.processors.stop_searching(|| {});
                    searching = false;
                }
                assert_eq!(held, Some(p));
                if world.done.fetch_add(1, SeqCst) + 1 == world.goal {
                    world.close();
                }
            } else {
                let rested = world.processors.rest(seat, searching, usize::MAX, &AtRest { world, seat });
                searching = rested == Rested::Searching;
            }
        }
    }

    /// As `lifecycle::shut_down` does it.
    fn close(&self) {
        self.roll.close();
        for sleeper in self.processors.sleepers() {
            let _ = sleeper.parker.unpark();
        }
    }

    /// All closures are run, and all threads that were started end.
    fn end(&self) {
        while let Some(thread) = self.take_thread() {
            thread.join().unwrap();
        }
        assert_eq!(self.done.load(SeqCst), self.goal);
    }

    fn take_thread(&self) -> Option<thread::JoinHandle<()>> {
        self.threads.lock().pop()
    }
}

struct AtRest<'a> {
    world: &'a Arc<World>,
    seat: &'a Arc<Seat>,
}

impl Sleeper for AtRest<'_> {
    fn has_work(&self) -> bool {
        World::released(self.world);
        false
    }

    fn is_closed(&self) -> bool {
        self.world.roll.is_closed()
    }

    fn park(&self, _may_drive: bool) {
        self.seat.parker.park();
    }

    fn stay_down(&self) {
        World::released(self.world);
    }
}

fn submitter(world: &Arc<World>, p: ProcessorId) -> thread::JoinHandle<()> {
    let world = Arc::clone(world);
    thread::spawn(move || World::submit(&world, p))
}

/// A thread that holds processor 0, in a closure.
fn computing(world: &World) -> Arc<Seat> {
    let seat = Arc::new(Seat::new());
    world.processors.sit_down(&seat, 0);
    world.processors.begin_computing(&seat);
    world.processors.stop_searching(|| {});
    seat
}

#[test]
fn a_closure_addressed_to_a_processor_whose_thread_falls_asleep_is_run() {
    check(|| {
        let world = World::new(1, 2);
        World::start_worker(&world, 0);
        let other = submitter(&world, 0);
        World::submit(&world, 0);
        other.join().unwrap();
        world.end();
    });
}

/// Two workers fall asleep, the one that is addressed first or last.
#[test]
fn a_closure_addressed_to_one_of_two_processors_is_run_there() {
    check(|| {
        let world = World::new(2, 1);
        (0..2).for_each(|p| World::start_worker(&world, p));
        World::submit(&world, 0);
        world.end();
    });
}

/// The holder waits, for what is addressed to its processor: somebody else must run it.
#[test]
fn a_closure_addressed_to_a_processor_that_is_handed_over_is_run() {
    check(|| {
        let world = World::new(1, 1);
        let seat = computing(&world);
        let other = submitter(&world, 0);
        World::hand_over(&world, &seat);
        other.join().unwrap();
        world.end();
    });
}

/// The wait is over at once, and the holder takes its processor again, if nobody else has it; then it comes to its
/// loop.
#[test]
fn a_closure_addressed_to_a_processor_that_is_taken_again_is_run() {
    check(|| {
        let world = World::new(1, 1);
        let seat = computing(&world);
        let other = submitter(&world, 0);
        World::hand_over(&world, &seat);
        world.processors.acquire(&seat);
        world.processors.end_computing(&seat);
        World::work(&world, &seat, false);
        other.join().unwrap();
        world.end();
    });
}
