//! The duty thread, with the driver: what is published while nobody serves is seen by somebody.

use std::time::Duration;

use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use loom::sync::atomic::{AtomicBool, AtomicUsize};
use loom::thread;

use super::{Queue, check};
use crate::driver::{self, Cover, DriverSlot};
use crate::duty::{Duty, Send};
use crate::parker::Parker;
use crate::processors::{Processors, Rested, Seat, Sleeper, Wake};
use crate::roll::Roll;
use crate::sync::{Arc, Mutex};

/// Events, each of which makes one task ready, and where a thread waits for them.
#[derive(Debug)]
struct Events {
    arrived: AtomicUsize,
    inside: Parker,
    ready: Queue,
}

impl Events {
    fn arrive(&self) {
        self.arrived.fetch_add(1, Release);
        let _ = self.inside.unpark();
    }

    /// Whether there were any.
    fn take(&self) -> bool {
        let taken = self.arrived.swap(0, Acquire);
        (0..taken).for_each(|_| self.ready.push());
        taken > 0
    }
}

/// A driver as the one that is a tokio runtime: the thread inside looks at its parker after each wake-up.
#[derive(Debug)]
struct Driver(Arc<Events>);

impl driver::Driver for Driver {
    fn has_events(&self) -> bool {
        true
    }

    fn park(&self, parker: &Parker) {
        while !self.0.take() && !parker.is_notified() {
            self.0.inside.park();
        }
    }

    fn nudge(&self) {
        let _ = self.0.inside.unpark();
    }

    fn turn(&self) {
        self.0.take();
    }

    fn enter(&self) -> driver::Entered {
        None
    }

    fn foreign_tasks(&self) -> driver::Foreign {
        driver::Foreign::default()
    }

    fn shutdown(&self, _timeout: Option<Duration>) {}
}

/// A runtime with one processor, a driver and the duty.
struct World {
    processors: Processors,
    events: Arc<Events>,
    driver: DriverSlot,
    duty: Duty,
    roll: Roll,
    done: AtomicUsize,
    goal: usize,
    /// How many threads were started for the duty.
    started: AtomicUsize,
    /// The first of them has lost it.
    dismissed: AtomicBool,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl World {
    fn new(goal: usize) -> Arc<Self> {
        let events =
            Arc::new(Events { arrived: AtomicUsize::new(0), inside: Parker::new(), ready: Queue::default() });
        Arc::new(Self {
            processors: Processors::new(1),
            driver: DriverSlot::new(Box::new(Driver(Arc::clone(&events)))),
            events,
            duty: Duty::default(),
            roll: Roll::default(),
            done: AtomicUsize::new(0),
            goal,
            started: AtomicUsize::new(0),
            dismissed: AtomicBool::new(false),
            threads: Mutex::default(),
        })
    }

    /// The calling thread is the worker, and serves.
    fn serving(goal: usize) -> (Arc<Self>, Arc<Seat>) {
        let (world, seat) = (Self::new(goal), Arc::new(Seat::new()));
        world.processors.sit_down(&seat, 0);
        world.processors.stop_searching(|| {});
        (world, seat)
    }

    /// The calling thread is the worker, and computes.
    fn computing(goal: usize) -> Arc<Self> {
        let (world, seat) = Self::serving(goal);
        world.processors.begin_computing(&seat);
        world
    }

    fn ready(&self) -> &Queue {
        &self.events.ready
    }

    /// Submit, of a ready task.
    fn submit(world: &Arc<Self>) {
        world.ready().push();
        Self::send(world, Cover::for_work(world.processors.published()));
    }

    fn cover(world: &Arc<Self>) {
        Self::send(world, world.driver.cover(&world.processors, || !world.ready().is_empty()));
    }

    fn send(world: &Arc<Self>, to_send: Cover) {
        match to_send {
            Cover::Nobody => {}
            Cover::Worker => Self::wake_worker(world),
            Cover::Duty => match world.duty.wake() {
                Send::Nothing => {}
                Send::Unpark(seat) => world.driver.unpark(&seat.parker),
                Send::Start => Self::start_duty(world),
            },
        }
    }

    fn wake_worker(world: &Arc<Self>) {
        match world.processors.wake_one() {
            Some(Wake::Unpark(seat)) => world.driver.unpark(&seat.parker),
            Some(Wake::Spawn(_)) => unreachable!("the worker sleeps when its processor is idle"),
            None => {}
        }
    }

    fn start_duty(world: &Arc<Self>) {
        let number = world.started.fetch_add(1, Relaxed);
        let world_of_thread = Arc::clone(world);
        let thread = thread::spawn(move || {
            let world = world_of_thread;
            let seat = Arc::new(Seat::new());
            world.duty.take_up(&seat);
            while !world.roll.is_closed() && !(number == 0 && world.dismissed.load(Relaxed)) {
                if !world.run_ready() {
                    world.duty.sleep(&seat, &world.driver, |token| token.park(&seat.parker));
                }
            }
        });
        world.threads.lock().push(thread);
    }

    /// All threads that were started for the duty end, and all tasks have run.
    fn end(&self) {
        while let Some(thread) = self.take_thread() {
            thread.join().unwrap();
        }
        assert_eq!(self.done.load(Acquire), self.goal);
    }

    fn take_thread(&self) -> Option<thread::JoinHandle<()>> {
        self.threads.lock().pop()
    }

    /// Whether there was a task. The last one closes the runtime, so that all end.
    fn run_ready(&self) -> bool {
        let found = self.ready().pop();
        if found && self.done.fetch_add(1, AcqRel) + 1 == self.goal {
            self.close();
        }
        found
    }

    /// As `lifecycle::shut_down` does it.
    fn close(&self) {
        self.roll.close();
        for sleeper in self.processors.sleepers() {
            self.driver.unpark(&sleeper.parker);
        }
        if let Some(seat) = self.duty.holder() {
            self.driver.unpark(&seat.parker);
        }
    }
}

#[test]
fn tasks_published_while_nobody_serves_are_run_on_duty() {
    check(|| {
        let world = World::computing(2);
        let other = thread::spawn({
            let world = Arc::clone(&world);
            move || World::submit(&world)
        });
        World::submit(&world);
        other.join().unwrap();
        world.end();
        assert_eq!(world.started.load(SeqCst), 1, "one thread has the duty");
    });
}

/// A task is published while the last serving thread, which the submitter may find serving, begins to compute.
fn published_on_the_way_into_a_closure(world: &Arc<World>, seat: &Seat) {
    let submitter = thread::spawn({
        let world = Arc::clone(world);
        move || World::submit(&world)
    });
    world.processors.begin_computing(seat);
    World::cover(world);
    submitter.join().unwrap();
    world.end();
}

#[test]
fn a_task_published_while_the_last_serving_thread_begins_to_compute_is_run() {
    check(|| {
        let (world, seat) = World::serving(1);
        published_on_the_way_into_a_closure(&world, &seat);
    });
}

/// As above, with the duty thread in the driver already: that it is covered is no reason not to look.
#[test]
fn a_task_published_then_is_run_though_the_driver_is_covered() {
    check(|| {
        let (world, seat) = World::serving(1);
        World::send(&world, Cover::Duty);
        published_on_the_way_into_a_closure(&world, &seat);
    });
}

/// The duty thread may find the driver occupied by the turn of a thread that is about to compute.
#[test]
fn an_event_after_the_last_serving_thread_began_to_compute_is_taken() {
    check(|| {
        let (world, seat) = World::serving(1);
        World::send(&world, Cover::Duty);
        if let Some(token) = world.driver.try_enter() {
            token.turn();
        }
        world.processors.begin_computing(&seat);
        World::cover(&world);
        world.events.arrive();
        world.end();
    });
}

/// Whoever relied on the thread that loses the duty is made up for, and that thread does not sleep on.
#[test]
fn a_task_published_while_the_duty_changes_hands_is_run() {
    check(|| {
        let world = World::computing(1);
        World::send(&world, Cover::Duty);
        let watchdog = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let Some(stuck) = world.duty.holder() else {
                    return;
                };
                if world.duty.dismiss(&stuck, &world.driver, || world.dismissed.store(true, Relaxed)) {
                    World::cover(&world);
                }
            }
        });
        World::submit(&world);
        watchdog.join().unwrap();
        world.end();
    });
}

/// A thread that waits in a poll resigns and looks: it may be the one that the last submitter relied on.
#[test]
fn a_task_published_while_the_duty_thread_resigns_is_run() {
    check(|| {
        let world = World::computing(1);
        let waiter = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let seat = Arc::new(Seat::new());
                if matches!(world.duty.wake(), Send::Start) {
                    world.duty.take_up(&seat);
                    assert!(world.duty.resign(&seat));
                    assert!(!world.duty.resign(&seat));
                    World::cover(&world);
                }
            }
        });
        World::submit(&world);
        waiter.join().unwrap();
        world.end();
    });
}

/// A thread that could not be started is made up for by the next one who sends for it.
#[test]
fn after_a_refused_thread_the_next_wake_starts_one() {
    check(|| {
        let world = World::computing(1);
        let Send::Start = world.duty.wake() else { unreachable!("nobody has the duty") };
        world.duty.not_started();
        World::submit(&world);
        world.end();
    });
}

struct AtRest<'a> {
    world: &'a World,
    seat: &'a Arc<Seat>,
}

impl Sleeper for AtRest<'_> {
    fn has_work(&self) -> bool {
        !self.world.ready().is_empty()
    }

    fn is_closed(&self) -> bool {
        self.world.roll.is_closed()
    }

    fn park(&self, may_drive: bool) {
        match may_drive.then(|| self.world.driver.try_enter()).flatten() {
            Some(token) => {
                self.world.processors.guard_driver(self.seat);
                token.park(&self.seat.parker);
            }
            None => self.seat.parker.park(),
        }
    }

    fn stay_down(&self) {}
}

/// All work has ended, and the duty thread gives the driver to the worker, which has gone to sleep elsewhere.
#[test]
fn an_event_while_the_driver_is_handed_back_is_taken() {
    check(|| {
        let (world, seat) = World::serving(1);
        let on_duty = Arc::new(Seat::new());
        let Send::Start = world.duty.wake() else { unreachable!("nobody has the duty") };
        world.duty.take_up(&on_duty);
        let worker = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                let mut searching = false;
                while !world.roll.is_closed() {
                    if world.run_ready() {
                        continue;
                    }
                    let at_rest = AtRest { world: &world, seat: &seat };
                    let rested = world.processors.rest(&seat, searching, usize::MAX, &at_rest);
                    searching = rested == Rested::Searching;
                }
            }
        });
        let event = thread::spawn({
            let world = Arc::clone(&world);
            move || world.events.arrive()
        });
        while !world.roll.is_closed() {
            if world.run_ready() {
                continue;
            }
            if world.processors.census().idle > 0 {
                World::wake_worker(&world);
                world.duty.sleep_outside(&on_duty);
            } else {
                world.duty.sleep(&on_duty, &world.driver, |token| token.park(&on_duty.parker));
            }
        }
        worker.join().unwrap();
        event.join().unwrap();
    });
}

/// A close finds the duty thread asleep in the driver or outside, about to be, or not yet there.
#[test]
fn a_duty_thread_ends_with_its_runtime() {
    check(|| {
        let world = World::computing(1);
        World::send(&world, Cover::Duty);
        world.close();
    });
}
