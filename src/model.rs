//! Loom models of the protocols: Beat's own parker, ticket, processors (also withheld), numbers, addressed closures, duty,
//! driver's token, roll and ticking, with a small queue in place of the deques. Run by `cargo loom` (see `docs/testing.md`).
//!
//! Each model is the smallest program in which the protocol can fail, and loom runs it in every order of its
//! atomic steps (up to a bound on preemptions). A wake-up that is lost shows as a deadlock.

mod addressed;
mod admission;
mod duty;
mod end;
mod numbers;
mod rest;
mod ticking;
mod withhold;

use std::ptr;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicUsize;
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use loom::thread;

use crate::driver::{self, DriverSlot};
use crate::jobs::{End, Jobs, Offer, Offers, Order};
use crate::parker::{Parker, Unpark};
use crate::processors::{Census, ProcessorId, Processors, Rested, Seat, Sleeper, Wake, fence};
use crate::roll::Roll;
use crate::sync::{Arc, Condvar, Mutex};
use crate::ticket::{JobHeader, Ticket};

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(model);
}

// ----- parker -----

#[test]
fn a_token_left_before_or_during_the_park_ends_it() {
    check(|| {
        let parker = Arc::new(Parker::new());
        let data = Arc::new(AtomicUsize::new(0));
        let unparker = thread::spawn({
            let (parker, data) = (Arc::clone(&parker), Arc::clone(&data));
            move || {
                data.store(1, Relaxed);
                assert_eq!(parker.unpark(), Unpark::Done);
            }
        });
        parker.park();
        // What the unparker did before is seen.
        assert_eq!(data.load(Relaxed), 1);
        assert!(!parker.is_notified());
        unparker.join().unwrap();
    });
}

#[test]
fn each_of_two_tokens_is_seen_with_what_came_before_it() {
    check(|| {
        let parker = Arc::new(Parker::new());
        let data = Arc::new(AtomicUsize::new(0));
        let unparkers: Vec<_> = (0..2)
            .map(|_| {
                let (parker, data) = (Arc::clone(&parker), Arc::clone(&data));
                thread::spawn(move || {
                    data.fetch_add(1, Relaxed);
                    let _ = parker.unpark();
                })
            })
            .collect();
        while data.load(Relaxed) < 2 {
            parker.park();
        }
        for unparker in unparkers {
            unparker.join().unwrap();
        }
    });
}

/// The driver's side: the owner registers, looks, and sleeps on a second futex (the driver's) until nudged. Whether it
/// got in or found the token before, it has seen what the unparker did, and the token is gone.
#[test]
fn a_thread_in_the_driver_is_nudged() {
    check(|| {
        let parker = Arc::new(Parker::new());
        let driver = Arc::new(Parker::new());
        let data = Arc::new(AtomicUsize::new(0));
        let unparker = thread::spawn({
            let (parker, driver, data) = (Arc::clone(&parker), Arc::clone(&driver), Arc::clone(&data));
            move || {
                data.store(1, Relaxed);
                if parker.unpark() == Unpark::NudgeDriver {
                    let _ = driver.unpark();
                }
            }
        });
        if parker.enter_driver() {
            while !parker.is_notified() {
                driver.park();
            }
            parker.leave_driver();
        }
        assert_eq!(data.load(Relaxed), 1);
        assert!(!parker.is_notified());
        unparker.join().unwrap();
    });
}

// ----- the driver's token -----

/// A driver that says that it has events, and whose turns loom watches as it does all plain memory.
#[derive(Debug)]
struct Driver {
    turns: UnsafeCell<usize>,
}

// SAFETY: loom checks that accesses are ordered.
unsafe impl Sync for Driver {}

impl driver::Driver for Driver {
    fn has_events(&self) -> bool {
        true
    }

    fn park(&self, _parker: &Parker) {
        unreachable!("the models only take turns");
    }

    fn nudge(&self) {}

    fn turn(&self) {
        // SAFETY: loom checks that nobody else has access.
        self.turns.with_mut(|turns| unsafe { *turns += 1 });
    }

    fn enter(&self) -> driver::Entered {
        None
    }

    fn foreign_tasks(&self) -> driver::Foreign {
        driver::Foreign::default()
    }

    fn shutdown(&self, _timeout: Option<Duration>) {}
}

/// Whoever loses the race for the token must not give back what the winner holds; and turns are a sequence.
#[test]
fn the_token_has_one_holder_at_a_time() {
    check(|| {
        let slot = Arc::new(DriverSlot::new(Box::new(Driver { turns: UnsafeCell::new(0) })));
        let take_turn = |slot: &DriverSlot| {
            if let Some(token) = slot.try_enter() {
                token.turn();
                // Not before: it would order what the token must.
                assert!(slot.is_covered());
            }
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let slot = Arc::clone(&slot);
                thread::spawn(move || take_turn(&slot))
            })
            .collect();
        take_turn(&slot);
        for other in others {
            other.join().unwrap();
        }
        assert!(!slot.is_covered());
    });
}

// ----- ticket -----

/// A half on the joiner's stack: counts its runs, and writes its result where loom sees races.
#[repr(C)]
struct Half {
    header: JobHeader,
    runs: AtomicUsize,
    result: UnsafeCell<usize>,
}

impl Half {
    fn new() -> Self {
        Self { header: JobHeader::new(Self::execute), runs: AtomicUsize::new(0), result: UnsafeCell::new(0) }
    }

    unsafe fn execute(job: *const JobHeader) {
        // SAFETY: the header is the first field of a live half, says the ticket.
        let half = unsafe { &*job.cast::<Self>() };
        half.runs.fetch_add(1, Relaxed);
        // SAFETY: loom checks that nobody else has access.
        half.result.with_mut(|result| unsafe { *result = 42 });
    }
}

/// The joiner's side of `join::settle`, and the inline run.
fn settle(half: &Half, ticket: &Ticket, parker: &Parker) {
    if ticket.reclaim() {
        // SAFETY: reclaimed: this thread has the half.
        unsafe { Half::execute(&raw const half.header) };
        return;
    }
    if !ticket.is_done() && ticket.announce() {
        while !ticket.is_done() {
            parker.park();
        }
    }
}

fn one_half(thieves: usize) {
    let parker = Arc::new(Parker::new());
    let half = Half::new();
    let ticket = Arc::new(Ticket::new(&raw const half.header, ptr::null(), Arc::clone(&parker)));
    let thieves: Vec<_> = (0..thieves)
        .map(|_| {
            let ticket = Arc::clone(&ticket);
            thread::spawn(move || {
                if let Some(claim) = Ticket::claim(ticket) {
                    assert_eq!(claim.run_with(|_| {}), Unpark::Done);
                }
            })
        })
        .collect();
    settle(&half, &ticket, &parker);
    // The frame is the joiner's again: the result is there, once, and nobody else touches it.
    assert_eq!(half.runs.load(Relaxed), 1);
    // SAFETY: loom checks that nobody else has access.
    half.result.with(|result| assert_eq!(unsafe { *result }, 42));
    drop(half);
    for thief in thieves {
        thief.join().unwrap();
    }
}

#[test]
fn a_half_runs_once_and_its_joiner_gets_up() {
    check(|| one_half(1));
}

#[test]
fn two_thieves_do_not_share_a_half() {
    check(|| one_half(2));
}

// ----- scope -----

/// A scope on its owner's stack: the jobs write where loom sees races.
struct Frame {
    runs: UnsafeCell<usize>,
}

/// A job, and how many others it pushes.
type PushingJob = usize;

struct ModelScope {
    jobs: Jobs<PushingJob>,
    frame: *const Frame,
    /// Loom's cell wants accesses one at a time; the scope itself does not order jobs.
    one_at_a_time: crate::sync::Mutex<()>,
}

// SAFETY: the frame is used as `scope` uses a caller's frame, which is what the model checks.
unsafe impl Send for ModelScope {}
// SAFETY: as above.
unsafe impl Sync for ModelScope {}

impl ModelScope {
    fn push(scope: &Arc<Self>, job: PushingJob, offers: &Offers<Self>) {
        if scope.jobs.push(job, true) {
            offers.push(Arc::clone(scope));
        }
    }

    fn run(scope: &Arc<Self>, job: PushingJob, offers: &Offers<Self>) {
        for _ in 0..job {
            Self::push(scope, 0, offers);
        }
        let _one = scope.one_at_a_time.lock();
        // SAFETY: the owner keeps the frame until the scope has ended; loom checks the cell.
        unsafe { &*scope.frame }.runs.with_mut(|runs| unsafe { *runs += 1 });
    }

    /// `OpenScope::help` and `TakenJob::run`.
    fn help(scope: &Arc<Self>, offers: &Offers<Self>) {
        let (job, offer) = scope.jobs.take();
        if offer == Offer::Stays {
            offers.push(Arc::clone(scope));
        }
        if let Some(job) = job {
            Self::run(scope, job, offers);
            let _ = scope.jobs.finish();
        }
    }

    /// `OpenScope::end`.
    fn end(scope: &Arc<Self>, offers: &Offers<Self>, parker: &Parker) {
        loop {
            while let Some(job) = scope.jobs.pop() {
                Self::run(scope, job, offers);
            }
            match scope.jobs.end() {
                End::MoreJobs => {}
                End::Over => return,
                End::TakeOfferBack => return offers.take_back(scope),
                End::Wait => {
                    while !scope.jobs.is_back() {
                        parker.park();
                    }
                }
            }
        }
    }
}

/// `jobs` with so many `helpers`, who come `once` or as long as there is an offer.
fn one_scope(jobs: &[PushingJob], helpers: usize, once: bool) {
    let offers = Arc::new(Offers::<ModelScope>::new());
    let parker = Arc::new(Parker::new());
    let frame = Frame { runs: UnsafeCell::new(0) };
    let scope = Arc::new(ModelScope {
        jobs: Jobs::new(Order::NewestFirst, Arc::clone(&parker)),
        frame: &raw const frame,
        one_at_a_time: crate::sync::Mutex::new(()),
    });
    let helpers: Vec<_> = (0..helpers)
        .map(|_| {
            let offers = Arc::clone(&offers);
            thread::spawn(move || {
                while let Some(scope) = offers.pop() {
                    ModelScope::help(&scope, &offers);
                    if once {
                        break;
                    }
                }
            })
        })
        .collect();
    for &job in jobs {
        ModelScope::push(&scope, job, &offers);
    }
    ModelScope::end(&scope, &offers, &parker);
    // The frame is the owner's again: every job has run once, and nobody looks at it any more.
    let expected = jobs.len() + jobs.iter().sum::<usize>();
    // SAFETY: loom checks that nobody else has access.
    frame.runs.with_mut(|runs| assert_eq!(unsafe { *runs }, expected));
    drop(frame);
    assert!(offers.is_empty(), "an offer outlives its scope");
    for helper in helpers {
        helper.join().unwrap();
    }
}

#[test]
fn a_scope_ends_when_its_last_job_has_wherever_that_ran() {
    check(|| one_scope(&[0, 0], 1, false));
}

#[test]
fn jobs_pushed_by_jobs_are_waited_for() {
    check(|| one_scope(&[1], 1, false));
}

/// A helper pushes a job and goes, between the owner's look at the queue and its look for those away.
#[test]
fn jobs_left_by_a_helper_that_goes_are_run() {
    check(|| one_scope(&[1], 1, true));
}

#[test]
fn two_helpers_share_a_scope() {
    check(|| one_scope(&[0, 0], 2, false));
}

// ----- processors -----

/// A queue in place of the injector, with no more ordering than a deque has: the fences of the protocol must do.
#[derive(Debug, Default)]
struct Queue(AtomicUsize);

impl Queue {
    fn push(&self) {
        self.0.fetch_add(1, Release);
    }

    fn pop(&self) -> bool {
        self.0.fetch_update(Acquire, Relaxed, |len| len.checked_sub(1)).is_ok()
    }

    fn is_empty(&self) -> bool {
        self.0.load(Acquire) == 0
    }
}

/// A runtime without deques: `Shared` and `worker`, as far as the protocols go.
struct World {
    processors: Processors,
    queue: Queue,
    roll: Roll,
    done: Mutex<usize>,
    changed: Condvar,
    goal: usize,
    /// Each piece of work ends when all have begun, so each needs a thread of its own.
    all_at_once: bool,
}

impl World {
    fn new(total: u32, goal: usize) -> Arc<Self> {
        Arc::new(Self::with(total, goal, false))
    }

    fn with(total: u32, goal: usize, all_at_once: bool) -> Self {
        Self {
            processors: Processors::new(total),
            queue: Queue::default(),
            roll: Roll::default(),
            done: Mutex::new(0),
            changed: Condvar::default(),
            goal,
            all_at_once,
        }
    }

    /// Submit.
    fn submit(world: &Arc<Self>) {
        world.queue.push();
        Self::wake_if_unattended(world, world.processors.published());
    }

    /// The loop of a worker. Whoever does the last piece of work closes the runtime, so that all end.
    fn work(world: &Arc<Self>, seat: &Arc<Seat>, mut searching: bool) {
        while !world.roll.is_closed() {
            // As `Local::take_up_processor`. There is no driver here to cover.
            let hands_in = world.processors.has_surplus() && world.processors.hand_in(seat);
            let holds = || seat.processor().is_some() || world.processors.acquire(seat);
            if !hands_in && holds() && world.queue.pop() {
                if searching {
                    world.processors.stop_searching(|| {
                        if !world.queue.is_empty() {
                            Self::wake_if_unattended(world, world.processors.census());
                        }
                    });
                }
                searching = false;
                world.run();
            } else {
                searching = Self::rest(world, seat, searching) == Rested::Searching;
            }
        }
    }

    /// A thread that was started for the processor `p`, and counts as searching.
    fn start_worker(world: &Arc<Self>, p: ProcessorId) -> thread::JoinHandle<()> {
        let world = Arc::clone(world);
        thread::spawn(move || {
            let seat = Arc::new(Seat::new());
            world.processors.sit_down(&seat, p);
            Self::work(&world, &seat, true);
        })
    }

    /// A piece of work.
    fn run(&self) {
        let mut done = self.done.lock();
        *done += 1;
        if *done == self.goal {
            self.changed.notify_all();
            drop(done);
            self.close();
            return;
        }
        while self.all_at_once && *done < self.goal {
            done = self.changed.wait_timeout(done, Duration::MAX).0;
        }
    }

    fn rest(world: &Arc<Self>, seat: &Arc<Seat>, searching: bool) -> Rested {
        world.processors.rest(seat, searching, usize::MAX, &AtRest { world, seat })
    }

    /// As `lifecycle::shut_down` does it.
    fn close(&self) {
        self.roll.close();
        for sleeper in self.processors.sleepers() {
            let _ = sleeper.parker.unpark();
        }
    }

    fn wake_if_unattended(world: &Arc<Self>, census: Census) {
        if census.searching > 0 || census.idle == 0 {
            return;
        }
        match world.processors.wake_one() {
            Some(Wake::Unpark(seat)) => assert_eq!(seat.parker.unpark(), Unpark::Done),
            Some(Wake::Spawn(p)) => drop(Self::start_worker(world, p)),
            None => {}
        }
    }
}

struct AtRest<'a> {
    world: &'a Arc<World>,
    seat: &'a Arc<Seat>,
}

impl Sleeper for AtRest<'_> {
    fn has_work(&self) -> bool {
        !self.world.queue.is_empty()
    }

    fn is_closed(&self) -> bool {
        self.world.roll.is_closed()
    }

    fn park(&self, _may_drive: bool) {
        self.seat.parker.park();
    }

    fn stay_down(&self) {
        fence();
        if self.has_work() {
            World::wake_if_unattended(self.world, self.world.processors.census());
        }
    }
}

#[test]
fn work_submitted_while_the_only_worker_falls_asleep_is_done() {
    check(|| {
        let world = World::new(1, 1);
        let worker = World::start_worker(&world, 0);
        World::submit(&world);
        worker.join().unwrap();
    });
}

/// Who submits relies on a searcher, who finds other work and is busy with it: it must send somebody.
#[test]
fn work_left_behind_by_the_last_searcher_is_done() {
    check(|| {
        let world = Arc::new(World::with(2, 2, true));
        let workers: Vec<_> = (0..2).map(|p| World::start_worker(&world, p)).collect();
        World::submit(&world);
        World::submit(&world);
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

/// One processor. Its thread waits, inside user code, for a piece of work that is submitted meanwhile; the
/// hand-over must let a sleeping thread run it, and the waiting thread goes on with or without a processor.
#[test]
fn a_waiting_thread_hands_its_processor_to_whoever_runs_what_it_waits_for() {
    check(|| {
        let world = World::new(1, 1);
        let waiter_seat = Arc::new(Seat::new());
        world.processors.sit_down(&waiter_seat, 0);
        // It has found its work: it is in a closure.
        world.processors.stop_searching(|| {});
        world.processors.begin_computing(&waiter_seat);

        let standby = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                // A spare thread: it sleeps without a processor until it is given one.
                let seat = Arc::new(Seat::new());
                let rested = World::rest(&world, &seat, false);
                World::work(&world, &seat, rested == Rested::Searching);
            }
        });
        let submitter = thread::spawn({
            let world = Arc::clone(&world);
            move || World::submit(&world)
        });

        // Hand-over 1 and 2.
        assert!(world.processors.release(&waiter_seat));
        let census = world.processors.published();
        if !world.queue.is_empty() {
            World::wake_if_unattended(&world, census);
        }
        // 3: the work sets no latch in this model; that it gets done is what the joins below wait for.
        submitter.join().unwrap();
        standby.join().unwrap();
        // 4.
        world.processors.acquire(&waiter_seat);
        world.processors.end_computing(&waiter_seat);
        assert_eq!(*world.done.lock(), 1);
    });
}

/// The watchdog takes a processor while its thread ends its closure: the census stays true.
#[test]
fn taking_a_processor_races_with_the_end_of_a_closure() {
    check(|| {
        let processors = Arc::new(Processors::new(1));
        processors.stop_searching(|| {});
        let seat = Arc::new(Seat::new());
        processors.sit_down(&seat, 0);
        processors.begin_computing(&seat);
        let watchdog = thread::spawn({
            let (processors, seat) = (Arc::clone(&processors), Arc::clone(&seat));
            move || processors.release(&seat)
        });
        processors.end_computing(&seat);
        watchdog.join().unwrap();
        let census = processors.census();
        assert_eq!((census.idle, census.computing, seat.processor()), (1, 0, None));
        assert!(processors.acquire(&seat));
        assert_eq!(processors.census().serving(), 1);
    });
}
