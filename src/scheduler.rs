//! What the threads of one runtime share, and what publishing work means.
//!
//! | queue | holds | pushed by | taken by |
//! |---|---|---|---|
//! | a thread's tasks and LIFO slot | ready futures | the thread, while it serves | the thread; thieves |
//! | `injector` | ready futures | everybody else | serving threads, the duty thread |
//! | `closures` | CPU-bound closures | everybody | serving threads |
//! | (both: a queue for each NUMA node that has workers of its own, see [`injectors`](crate::injectors)) | | | |
//! | a thread's tickets | promoted halves | the thread | thieves; the thread takes its own back |
//! | `addressed` | closures for one processor each | everybody | that processor's holder |
//! | `offers` | scopes with jobs to give away | everybody | serving threads |
//!
//! Closures are the large, outside pieces of work: one first-in-first-out queue keeps them fair. A thread that
//! computes puts tasks it wakes into the injector, since it will not come back to its own queue soon.
//!
//! Waking is thrifty. A thread that serves will see to its own queue, so a sibling is woken only when the
//! backlog, measured in time, is worth more than the wake-up, measured too ([`is_worth_waking`]), and only where others leave
//! it a CPU, or none ([`room`](crate::room)); should the thread get stuck in a poll instead, the
//! [watchdog](crate::watchdog) passes its queue on.
//!
//! # Where
//!
//! If workers are pinned, it matters which core a thread wakes on.
//! - A foreign thread that has woken nobody for [`ALONE`] is likely to sleep again at once: the thread wakes on its core,
//!   which is awake. (A halted one takes some 15 µs more.) Its slice is short as a rule, so it runs before the other goes
//!   on if that does not sleep after all.
//! - A foreign thread that wakes often is busy, and a guest in a region computes: the thread wakes beside it.
//! - A thread of the pool holds the processor of its own core: any other will do.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::addressed::Addressed;
use crate::admission::Admission;
use crate::allotment::Allotment;
use crate::blocking::Pool;
use crate::distances::Distances;
use crate::driver::{Cover, DriverSlot};
use crate::duty::{self, Duty};
use crate::gathering::Gathered;
use crate::injectors::{FirstAt, Injectors};
use crate::jobs::Offers;
use crate::lifecycle::Lifecycle;
use crate::local::{self, Local, Remote, Role, Threads};
use crate::long_polls::LongPolls;
use crate::metrics::{Counters, Metrics};
use crate::os::{self, Affinity, Slice};
use crate::pressure::PressureConfig;
use crate::processors::{Census, ProcessorId, Processors, Seat, Wake, fence};
use crate::rest::Rest;
use crate::room::Room;
use crate::runtime::{Hook, PoolSettings};
use crate::scope::OpenScope;
use crate::task::Runnable;
use crate::task::contained::Contained;
use crate::watchdog::Watchdog;
use crate::worker;

/// How much queued work, in nanoseconds, is worth a core that is awake.
const WORTH_A_CORE: u64 = 40_000;
/// How many wake-ups' time queued work must take to be worth one, and from where on it is in any case, in nanoseconds: for
/// so long what is queued last may wait beside idle cores.
const WAKES: u64 = 8;
const WORTH_ANY_WAKE: u64 = 200_000;
/// How much queued work is worth a wake-up that takes a CPU from somebody else, in nanoseconds.
const WORTH_DISPLACING: u64 = 1_000_000;
/// What a task costs more where it was not spawned, in nanoseconds: its state, its memory and whoever awaits it are in
/// another core's cache. Decision 20.
const MOVE: u64 = 800;
/// From how long a queue on, in nanoseconds, it is shared whatever that costs.
const LONGEST_QUEUE: u64 = 2_000_000;
/// What a wake-up takes its waker before any was measured, and what it is taken to take at most, in nanoseconds: the time of
/// one that takes longer was somebody else's, of the woken thread say, to which the waker lost its core.
const FIRST_MEAN_WAKE: u64 = 10_000;
const MOST_WAKE: u64 = 50_000;
/// How many threads with queues there may be beyond the workers before the next ones are started at leisure.
const SOFT_CAP: usize = 128;
/// With so many tasks queued, whoever awaits a task that ends goes behind them. In the LIFO slot it would run again
/// after each of a batch of tasks that it awaits one by one.
const MANY_TASKS: usize = 8;
/// How many times the mean a measurement counts at most: one poll that spawns thousands of tasks says little about them.
const MOST_GROWTH: u64 = 8;
/// How long a ready task is taken to run before it waits, before any was measured, in nanoseconds.
const FIRST_MEAN_STRETCH: u64 = 1_000;
/// By what part of itself a mean must change for others to be told: each telling costs them a cache miss.
const MEAN_STEP: u64 = 16;
/// How long after a turn of the driver the next one is due beside short polls, in nanoseconds: a turn costs some
/// hundred, and more when two threads take turns at it.
const TURN_PERIOD: u64 = 20_000;

/// How long a foreign thread has woken nobody if it is taken to sleep most of the time, in nanoseconds.
const ALONE: u64 = 200_000;

/// See [*Where*](self#where). Numbers of CPUs.
#[derive(Clone, Copy, Debug)]
enum Where {
    Anywhere,
    At(usize),
    Beside(usize),
}

/// The settled configuration of a runtime.
pub(crate) struct Config {
    pub(crate) workers: u32,
    pub(crate) thread_name: ThreadName,
    pub(crate) stack_size: Option<usize>,
    pub(crate) heartbeat: Duration,
    /// How long a poll may last before it is made to yield, in nanoseconds.
    pub(crate) poll_budget: u64,
    /// How long a poll may last before that is reported, in nanoseconds.
    pub(crate) long_poll_warning: Option<u64>,
    /// Whether threads ask for scheduling slices.
    pub(crate) slices: bool,
    pub(crate) max_blocking_threads: usize,
    /// How long an idle thread for blocking closures waits for the next one.
    pub(crate) keep_alive: Duration,
    /// Whether there are no more cores than workers.
    pub(crate) fills_machine: bool,
    /// One mask per processor; empty if workers are not pinned.
    pub(crate) pins: Vec<Affinity>,
    /// The mask of a pinned worker that is let go.
    pub(crate) free: Option<Affinity>,
    /// Who is near whom, as far as workers have places.
    pub(crate) distances: Distances,
    /// Where threads run that are not pinned.
    pub(crate) gathered: Arc<Gathered>,
    pub(crate) hooks: Hooks,
    pub(crate) pressure: PressureConfig,
    pub(crate) pool: PoolSettings,
    /// Whether the number of active processors follows what the process is given.
    pub(crate) follows_limits: bool,
}

impl Config {
    /// The name of a thread that is started for a processor. Calls the user's function: outside locks.
    pub(crate) fn name_of_worker(&self, p: ProcessorId) -> String {
        let name = self.pool.names.get(p as usize).cloned().flatten();
        name.unwrap_or_else(|| self.thread_name.of(&p.to_string()))
    }
}

/// What users run on threads.
#[derive(Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) on_thread_start: Option<Hook>,
    pub(crate) on_thread_stop: Option<Hook>,
    pub(crate) on_thread_park: Option<Hook>,
    pub(crate) on_thread_unpark: Option<Hook>,
}

/// What threads are called.
#[derive(Clone)]
pub(crate) enum ThreadName {
    /// How the names begin.
    Prefix(String),
    /// What the user says at each start of a thread that runs user code.
    Asked(Arc<dyn Fn() -> String + Send + Sync>),
}

impl ThreadName {
    /// The prefix, for threads that run no user code.
    pub(crate) fn prefix(&self) -> &str {
        match self {
            Self::Prefix(prefix) => prefix,
            Self::Asked(_) => "beat",
        }
    }

    /// The name of a thread that runs user code. Calls the user's function: outside locks.
    pub(crate) fn of(&self, role: &str) -> String {
        if let Self::Asked(name) = self {
            match catch_unwind(AssertUnwindSafe(|| name())) {
                Ok(mut name) => {
                    name.truncate(name.find('\0').unwrap_or(name.len()));
                    return name;
                }
                Err(payload) => drop(Contained::new(payload)),
            }
        }
        format!("{}-{role}", self.prefix())
    }
}

impl std::fmt::Debug for ThreadName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prefix(prefix) => f.debug_tuple("Prefix").field(prefix).finish(),
            Self::Asked(_) => f.debug_tuple("Asked").finish_non_exhaustive(),
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config")
            .field("workers", &self.workers)
            .field("heartbeat", &self.heartbeat)
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

/// Stores a mean's next value, unless it is about the same.
fn tell(mean: &AtomicU64, before: u64, next: u64) {
    if before.abs_diff(next) * MEAN_STEP > before {
        // Relaxed, and a lost update is no loss: an estimate.
        mean.store(next, Relaxed);
    }
}

/// So many polls weigh as much as any number of them.
pub(crate) const FULL_WEIGHT: u32 = 16;

/// The mean of what tasks take after so many polls more, of which each took so long: from 50 ns to 10 ms.
fn next_mean_stretch(mean: u64, sample: u64, polls: u32) -> u64 {
    let (sample, weight) = (sample.clamp(50, 10_000_000), u64::from(polls.min(FULL_WEIGHT)));
    (mean * (64 - weight) + sample.min(mean * MOST_GROWTH) * weight) / 64
}

/// How much work, in nanoseconds, another core takes off a thread with `tasks` queued tasks that take so many each: what is
/// left of them when their move is paid.
fn worth(tasks: usize, stretch: u64) -> u64 {
    let (tasks, rest) = (tasks as u64, stretch.saturating_sub(MOVE));
    if tasks * stretch >= LONGEST_QUEUE { tasks * stretch } else { tasks * rest }
}

/// Whether `tasks` queued tasks, which take so many nanoseconds each, are worth a core that is awake.
pub fn is_worth_a_core(tasks: usize, stretch: u64) -> bool {
    worth(tasks, stretch) >= WORTH_A_CORE
}

/// The same for one that is asleep, and takes so many nanoseconds to wake.
pub fn is_worth_waking(tasks: usize, stretch: u64, wake: u64) -> bool {
    // What most threads have queued is not worth it even if the move were free.
    tasks as u64 * stretch >= WORTH_A_CORE
        && worth(tasks, stretch) >= (wake * WAKES).clamp(WORTH_A_CORE, WORTH_ANY_WAKE)
}

/// The same for one whose CPU somebody else uses.
fn is_worth_displacing(tasks: usize, stretch: u64) -> bool {
    worth(tasks, stretch) >= WORTH_DISPLACING
}

/// One runtime, as its threads and handles see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// Whether there are CPUs for those who are woken for tasks.
    pub(crate) room: Room,
    pub(crate) processors: Processors,
    pub(crate) threads: Threads,
    pub(crate) injector: Injectors<Runnable>,
    /// Those that nobody wants anywhere are in the queue of the first home: first in, first out.
    pub(crate) closures: Injectors<Runnable>,
    pub(crate) addressed: Addressed<Runnable>,
    pub(crate) offers: Offers<OpenScope>,
    pub(crate) driver: DriverSlot,
    /// Who is awake, if the clock can be paused.
    pub(crate) rest: Option<Arc<Rest>>,
    pub(crate) duty: Duty,
    pub(crate) watchdog: Watchdog,
    pub(crate) blocking: Pool,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) long_polls: LongPolls,
    pub(crate) admission: Arc<Admission>,
    allotment: Allotment,
    /// The counters of threads that are gone, and of foreign ones.
    pub(crate) retired: Counters,
    /// How many threads wait for a number (see [`processors`](crate::processors#numbers)).
    pub(crate) numbers_wanted: AtomicU32,
    /// How long a ready task runs on average before it waits or ends, in nanoseconds: a poll, or, of tasks that yield,
    /// many.
    mean_stretch: AtomicU64,
    /// What a wake-up takes its waker, in nanoseconds: a mean of the last ones. Relaxed, like the other: an estimate.
    mean_wake: AtomicU64,
    /// When a thread outside the pool last woke somebody, where that matters.
    last_foreign_wake: AtomicU64,
    /// Guests that count for [`idle_cores`](Self::idle_cores).
    guests: AtomicU32,
    /// When a turn of the driver last was due, on the runtime's clock.
    last_turn: AtomicU64,
    /// How many forks old the process was: its children have none of the threads.
    forks: u32,
    me: Weak<Self>,
}

impl Shared {
    pub(crate) fn new(config: Config, driver: DriverSlot) -> Arc<Self> {
        let homes = config.distances.homes();
        Arc::new_cyclic(|me| Self {
            processors: Processors::new(config.workers),
            room: Room::new(config.free.clone()),
            addressed: Addressed::new(config.workers),
            allotment: Allotment::new(config.follows_limits),
            admission: Admission::new(config.pressure.clone(), config.workers as usize),
            config,
            threads: Threads::default(),
            injector: Injectors::new(homes),
            closures: Injectors::new(homes),
            offers: Offers::new(),
            rest: driver.get().rest(),
            driver,
            duty: Duty::default(),
            watchdog: Watchdog::default(),
            blocking: Pool::default(),
            lifecycle: Lifecycle::default(),
            long_polls: LongPolls::default(),
            retired: Counters::default(),
            numbers_wanted: AtomicU32::new(0),
            mean_stretch: AtomicU64::new(FIRST_MEAN_STRETCH),
            mean_wake: AtomicU64::new(FIRST_MEAN_WAKE),
            last_foreign_wake: AtomicU64::new(0),
            guests: AtomicU32::new(0),
            last_turn: AtomicU64::new(0),
            forks: os::forks(),
            me: Weak::clone(me),
        })
    }

    /// A counted reference; `None` only while the last one is being dropped.
    pub(crate) fn arc(&self) -> Option<Arc<Self>> {
        self.me.upgrade()
    }

    /// Whether this process is a child of the one that has the runtime's threads.
    pub(crate) fn is_forked(&self) -> bool {
        os::forks() != self.forks
    }

    /// # Panics
    ///
    /// In a child of the process that has the runtime's threads: it would wait for them for ever.
    #[track_caller]
    pub(crate) fn assert_not_forked(&self) {
        assert!(
            !self.is_forked(),
            "beat: this process was forked from one whose runtime was running, and has none of its threads: \
             start runtimes after `fork`, or `exec` at once"
        );
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lifecycle.is_closed()
    }

    // ----- publishing work -----

    /// A future has become ready.
    pub(crate) fn schedule(&self, task: Runnable, woken_while_running: bool) {
        local::with(|local| match local {
            Some(local) if self.owns(local) && local.takes_tasks() => {
                self.schedule_here(local, task, woken_while_running);
            }
            _ => self.inject(task),
        });
    }

    fn schedule_here(&self, local: &Local, task: Runnable, woken_while_running: bool) {
        if local.is_in_turn() {
            // Events are taken in their order, and the turn must end so that the tasks can run.
            local.push_task(task, true);
            if local.is_parked_in_turn() {
                self.driver.unpark(&local.seat().parker);
            }
            return;
        }
        let awaits_ended = local.ended.replace(false) && local.tasks_len() >= MANY_TASKS;
        local.push_task(task, woken_while_running || awaits_ended);
        if woken_while_running {
            self.look_at_the_clock();
        }
        self.share_backlog(local);
        if !(woken_while_running || awaits_ended) {
            // A task pushed behind others is seen to when the next one is popped.
            self.watchdog.ensure(self);
        }
    }

    /// Submit for a task, from a thread that will not run it itself.
    pub(crate) fn inject(&self, task: Runnable) {
        self.inject_at(self.home_for(&task), task);
    }

    /// The same for a task that should start in a home.
    pub(crate) fn inject_at(&self, home: Option<usize>, task: Runnable) {
        self.injector.push(home, task);
        self.notify_injected_at(home);
    }

    /// Where a task goes that somebody else will run; `None` if there is one home.
    fn home_for(&self, task: &Runnable) -> Option<usize> {
        let homes = self.config.distances.several_homes()?.homes();
        let here = local::with(|local| local.filter(|local| self.owns(local))?.home());
        let home = here.or_else(|| task.metadata().home());
        Some(home.unwrap_or_else(|| task.metadata().number() as usize % homes))
    }

    /// Submit 2 and 3 for the injector.
    pub(crate) fn notify_injected(&self) {
        self.notify_injected_at(None);
    }

    /// The same, of a home's queue.
    fn notify_injected_at(&self, home: Option<usize>) {
        let census = self.processors.published();
        if census.searching > 0 {
            return;
        }
        let to_send = Cover::for_work(census);
        if to_send != Cover::Nobody {
            // Nobody will come by.
            self.send(to_send, home);
            // The duty thread may be in a poll, and it may be a long one.
            self.watchdog.ensure(self);
            return;
        }
        if self.is_worth_waking(self.injector.len(), || census) {
            self.wake_at(home);
        }
        self.watchdog.ensure(self);
    }

    /// Submit for a closure.
    pub(crate) fn submit_closure(&self, closure: Runnable) {
        self.submit_closure_at(None, closure);
    }

    /// The same for a closure that should start in a home.
    pub(crate) fn submit_closure_at(&self, home: Option<usize>, closure: Runnable) {
        self.closures.push(home, closure);
        self.notify_submitted(home);
    }

    /// Submit for a closure that is addressed to one processor.
    pub(crate) fn submit_addressed(&self, p: ProcessorId, closure: Runnable) {
        self.carry_out(self.addressed.submit(p, closure, &self.processors));
        // Its holder may be asleep in the kernel.
        self.watchdog.ensure(self);
    }

    /// Release, in [`addressed`](crate::addressed): a processor has become idle.
    pub(crate) fn wake_addressed(&self) {
        for wake in self.addressed.released(&self.processors) {
            self.carry_out(Some(wake));
        }
    }

    /// Submit for a scope that has jobs to give away.
    pub(crate) fn submit_offer(&self, offer: Arc<OpenScope>) {
        self.offers.push(offer);
        self.notify_submitted(None);
    }

    /// Submit 2 and 3 for a closure or an offer.
    fn notify_submitted(&self, home: Option<usize>) {
        let census = self.processors.published();
        if census.searching == 0 && census.idle > 0 {
            self.wake_at(home);
        } else {
            self.watchdog.ensure(self);
        }
    }

    /// A closure that may block.
    pub(crate) fn submit_blocking(&self, closure: Runnable) {
        self.blocking.submit(self, closure);
    }

    /// Whether an idle processor's thread should be woken for `tasks` queued tasks.
    fn is_worth_waking(&self, tasks: usize, census: impl FnOnce() -> Census) -> bool {
        let stretch = self.mean_stretch();
        if !is_worth_waking(tasks, stretch, self.mean_wake()) {
            return false;
        }
        let census = census();
        let has_room = || self.room.has_one_more(os::now(), census.working());
        census.searching == 0 && census.idle > 0 && (is_worth_displacing(tasks, stretch) || has_room())
    }

    /// Takes a new measurement into the running mean: so many polls took so long, and in all the tasks came to wait, or
    /// ended, so many times.
    pub(crate) fn measured_stretches(&self, nanoseconds: u64, stretches: u32, polls: u32) {
        let (mean, sample) = (self.mean_stretch(), nanoseconds / u64::from(stretches.max(1)));
        tell(&self.mean_stretch, mean, next_mean_stretch(mean, sample, polls));
    }

    /// How long a ready task runs until it waits or ends, in nanoseconds, with what it waits for a CPU meanwhile.
    pub(crate) fn mean_stretch(&self) -> u64 {
        // Relaxed: an estimate.
        self.mean_stretch.load(Relaxed)
    }

    /// What a wake-up takes its waker, in nanoseconds.
    pub(crate) fn mean_wake(&self) -> u64 {
        // Relaxed: an estimate.
        self.mean_wake.load(Relaxed)
    }

    fn measured_wake(&self, nanoseconds: u64) {
        let mean = self.mean_wake();
        tell(&self.mean_wake, mean, (mean * 7 + nanoseconds.min(MOST_WAKE)) / 8);
    }

    /// Whether a thread that serves should take a turn of the driver now. The caller then does.
    pub(crate) fn turn_is_due(&self, now: u64) -> bool {
        // Relaxed, and two may find it due at once: the token lets one of them in.
        let due = now.saturating_sub(self.last_turn.load(Relaxed)) >= TURN_PERIOD;
        if due {
            self.last_turn.store(now, Relaxed);
        }
        due
    }

    // ----- waking -----

    /// Wakes an idle processor's thread, unless somebody is searching already.
    pub(crate) fn wake_if_unattended(&self) {
        let census = self.processors.census();
        if census.searching == 0 && census.idle > 0 {
            self.wake();
        }
    }

    /// Sends somebody for a part of a thread's own tasks, if they are worth a wake-up.
    pub(crate) fn share_backlog(&self, local: &Local) {
        let census = || {
            let census = self.processors.census();
            // Who has just left the driver will work, too, and has its processor not yet, the duty thread none.
            Census { total: census.total + u32::from(local.seat().processor().is_none()), ..census }
        };
        if self.is_worth_waking(local.tasks_len(), census) {
            self.wake();
        }
    }

    /// Gives an idle processor, if there is one, to a thread: see [*Where*](self#where).
    pub(crate) fn wake(&self) {
        self.wake_at(None);
    }

    /// The same for work that lies in a home.
    fn wake_at(&self, home: Option<usize>) {
        let pins = &self.config.pins;
        let place = if pins.is_empty() || home.is_some() { Where::Anywhere } else { self.place_to_wake() };
        let has = |p: ProcessorId, cpu| pins.get(p as usize).is_some_and(|mask| mask.contains(cpu));
        let suits = |p| match place {
            Where::Anywhere => true,
            Where::At(cpu) => has(p, cpu),
            Where::Beside(cpu) => !has(p, cpu),
        };
        let distances = &self.config.distances;
        let from = distances.neighbours().and_then(|neighbours| match home {
            Some(home) => neighbours.first_of_home(home).map(|p| p as ProcessorId),
            None => self.place_of_caller(place),
        });
        let wake =
            self.processors.wake_where(distances.near(from), suits, |seat, p| self.pin_asleep(seat, p));
        // On the caller's own core the woken thread may run first.
        let is_measured = matches!(wake, Some(Wake::Unpark(_))) && !matches!(place, Where::At(_));
        let start = is_measured.then(os::now);
        self.carry_out(wake);
        if let Some(start) = start {
            self.measured_wake(os::now().saturating_sub(start));
        }
    }

    /// Where the calling thread wants somebody to wake up.
    fn place_to_wake(&self) -> Where {
        let caller = local::with(|local| local.map(|local| local.remote.role()));
        if !matches!(caller, None | Some(Role::Guest)) {
            return Where::Anywhere;
        }
        let Some(cpu) = os::current_cpu() else {
            return Where::Anywhere;
        };
        let now = os::now();
        // Relaxed: an estimate.
        let since = now.saturating_sub(self.last_foreign_wake.swap(now, Relaxed));
        if caller.is_none() && self.config.slices && since >= ALONE {
            Where::At(cpu)
        } else {
            Where::Beside(cpu)
        }
    }

    /// The processor that the calling thread holds or held, or that of the core it is on.
    fn place_of_caller(&self, place: Where) -> Option<ProcessorId> {
        let own = local::with(|local| local.filter(|local| self.owns(local))?.seat().home());
        own.or_else(|| {
            let (Where::At(cpu) | Where::Beside(cpu)) = place else { return None };
            let at = self.config.pins.iter().position(|mask| mask.contains(cpu))?;
            ProcessorId::try_from(at).ok()
        })
    }

    /// A thread that sleeps gets another processor than it had: it wakes on that one's core.
    fn pin_asleep(&self, seat: &Seat, p: ProcessorId) {
        let Some(mask) = self.config.pins.get(p as usize) else { return };
        if let Some(thread) = self.threads.of(seat) {
            thread.pin_asleep(p, mask);
        }
    }

    /// How many processors are idle that have a core: guests compute without one, and if there are no more cores than
    /// processors, each takes that of one.
    pub(crate) fn idle_cores(&self, local: &Local, census: Census) -> u32 {
        if !self.config.fills_machine {
            return census.idle;
        }
        // Relaxed: an estimate.
        let guests = self.guests.load(Relaxed) + u32::from(local.is_bare_guest() && !local.takes_core.get());
        census.idle.saturating_sub(guests)
    }

    /// How many cores have a worker that works, or a guest with help.
    pub(crate) fn taken_cores(&self) -> u32 {
        // Relaxed: an estimate.
        self.processors.census().working() + self.guests.load(Relaxed)
    }

    /// A guest has got help: from here until it gets a processor, or to the end of its region, it counts for
    /// [`idle_cores`](Self::idle_cores) and [`taken_cores`](Self::taken_cores).
    pub(crate) fn begin_taking_core(&self, local: &Local) {
        if local.is_bare_guest() && !local.takes_core.replace(true) {
            self.guests.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn end_taking_core(&self, local: &Local) {
        if local.takes_core.replace(false) {
            self.guests.fetch_sub(1, Relaxed);
        }
    }

    fn carry_out(&self, wake: Option<Wake>) {
        match wake {
            None => {}
            Some(Wake::Unpark(seat)) => self.driver.unpark(&seat.parker),
            Some(Wake::Spawn(processor)) => {
                if self.is_closed() || !self.may_start_thread() {
                    self.processors.undo_spawn(processor);
                    self.watchdog.ensure(self);
                } else if let Err(error) = worker::start(self, Some(processor)) {
                    self.processors.undo_spawn(processor);
                    // The processor is idle and the work is queued: whoever finishes next takes it, and the
                    // watchdog tries again.
                    self.lifecycle.report_spawn_failure(&error);
                    self.watchdog.ensure(self);
                }
            }
        }
    }

    /// Beyond the soft cap threads are started one a tick of the watchdog. A hard cap would deadlock closures that
    /// wait for closures not yet begun.
    fn may_start_thread(&self) -> bool {
        if !self.config.pool.may_grow() {
            return false;
        }
        self.threads.len() < self.config.workers as usize + SOFT_CAP || self.watchdog.is_current_thread()
    }

    /// The calling thread stops serving: makes sure that somebody sees to the driver and to ready tasks.
    pub(crate) fn cover(&self) {
        let to_send = self.driver.cover(&self.processors, || !self.injector.is_empty());
        self.send(to_send, None);
        if to_send == Cover::Nobody && !self.injector.is_empty() {
            self.notify_injected();
        }
    }

    fn send(&self, to_send: Cover, home: Option<usize>) {
        match to_send {
            Cover::Nobody => {}
            Cover::Worker => self.wake_at(home),
            Cover::Duty => self.wake_duty(),
        }
    }

    /// Sends the duty thread to look for events and ready tasks.
    fn wake_duty(&self) {
        match self.duty.wake() {
            duty::Send::Nothing => {}
            duty::Send::Unpark(seat) => self.driver.unpark(&seat.parker),
            duty::Send::Start if self.is_closed() => self.duty.not_started(),
            duty::Send::Start => {
                if let Err(error) = worker::start(self, None) {
                    self.duty.not_started();
                    self.lifecycle.report_spawn_failure(&error);
                    // Others may have relied on that thread. The watchdog tries again.
                    self.watchdog.ensure(self);
                }
            }
        }
    }

    /// The calling thread waits or ends: it has the duty no more. `false` if it did not have it.
    pub(crate) fn resign_duty(&self, remote: &Remote) -> bool {
        let had = self.duty.resign(&remote.seat);
        if had {
            remote.set_role(Role::Worker);
        }
        had
    }

    /// Asks every thread that forks to be heard at its next fork.
    pub(crate) fn ask_all(&self) {
        for thread in self.threads.all() {
            thread.ask();
        }
    }

    /// The slice of a thread in a closure.
    pub(crate) fn slice_to_compute(&self) -> Slice {
        if self.room.is_quiet() { Slice::Long } else { Slice::Default }
    }

    /// The slice of a thread that serves, until it rests or serves again: a closure that begins meanwhile may keep it waiting
    /// once.
    pub(crate) fn slice_to_serve(&self) -> Slice {
        if !self.room.is_scarce() {
            return Slice::Short;
        }
        // Where tasks are few, the last look was long ago: this one is for the next time.
        self.room.look(os::now());
        // Relaxed: an estimate.
        let preempts = self.processors.census().computing > 0 || self.guests.load(Relaxed) > 0;
        if preempts { Slice::Short } else { Slice::Default }
    }

    /// Whether a closure should yield at a beat: see [*Who waits for a core*](crate::duty#who-waits-for-a-core).
    pub(crate) fn duty_may_wait_for_core(&self, now: u64) -> bool {
        self.duty.may_wait_for_core(now, self.room.is_quiet())
    }

    /// Somebody yields, and may be waiting for what a paused clock has been advanced past: whoever sits in the driver
    /// fires the timers that are due.
    pub(crate) fn look_at_the_clock(&self) {
        if self.rest.is_some() {
            self.driver.get().nudge();
        }
    }

    /// Looks, now and then, how many processors the process is given, by a thread that has work anyway.
    pub(crate) fn follow_limits(&self, now: u64) {
        if self.allotment.is_due(now) {
            self.look_at_limits(now);
        }
    }

    #[cold]
    fn look_at_limits(&self, now: u64) {
        let limit = |given| self.processors.limit_to(given);
        if self.allotment.look(now, &self.config, &self.threads, limit) {
            // Limit 2. Whoever is woken sends for the next one.
            fence();
            self.wake_addressed();
            if self.work_waits() {
                self.wake_if_unattended();
                self.watchdog.ensure(self);
            }
        }
    }

    // ----- looking for work -----

    pub(crate) fn take_closure(&self, from: FirstAt) -> Option<Runnable> {
        self.closures.take(&self.config.distances, from)
    }

    pub(crate) fn addressed_to(&self, seat: &Seat) -> Option<Runnable> {
        if self.addressed.is_empty() { None } else { self.addressed.pop(seat.processor()?) }
    }

    pub(crate) fn take_injected(&self, from: FirstAt) -> Option<Runnable> {
        self.injector.take(&self.config.distances, from)
    }

    pub(crate) fn take_injected_batch(&self, local: &Local) -> Option<Runnable> {
        let from = FirstAt::home(local.home());
        self.injector.take_batch(&self.config.distances, from, local.task_deque())
    }

    /// Whether anything lies in the queues that all threads share.
    pub(crate) fn has_queued(&self) -> bool {
        !self.injector.is_empty() || !self.closures.is_empty() || !self.offers.is_empty()
    }

    /// Whether work is queued that a free processor could begin.
    pub(crate) fn work_waits(&self) -> bool {
        self.has_queued()
            || !self.addressed.is_empty()
            // Relaxed: the watchdog, who asks, is woken after it has changed.
            || self.numbers_wanted.load(Relaxed) > 0
            || self.threads.all().iter().any(|t| t.has_tickets())
    }

    /// Whether there is anything that an idle worker should run (Sleep 3), on the thread's own queue too.
    pub(crate) fn has_work(&self, local: &Local) -> bool {
        self.has_queued()
            || local.has_open_ticket()
            || local
                .find_peer(|peer| (peer.has_tickets() || self.may_steal_tasks(peer)).then_some(()))
                .is_some()
    }

    /// Whether a peer's tasks are better off elsewhere: it computes, or its backlog is worth a core.
    pub(crate) fn may_steal_tasks(&self, peer: &Remote) -> bool {
        match peer.tasks_len() {
            0 => false,
            // Relaxed: an estimate.
            tasks => peer.will_be_long() || is_worth_a_core(tasks, self.mean_stretch()),
        }
    }

    /// Whether a thread's state belongs to this runtime.
    pub(crate) fn owns(&self, local: &Local) -> bool {
        std::ptr::eq(&raw const *local.shared, self)
    }

    // ----- counting -----

    fn count(&self, counter: impl Fn(&Counters) -> &crate::metrics::Counter) {
        local::with(|local| match local {
            Some(local) if self.owns(local) => counter(local.counters()).add(1),
            _ => counter(&self.retired).add_shared(1),
        });
    }

    pub(crate) fn count_spawn(&self) {
        self.count(|counters| &counters.spawned);
    }

    pub(crate) fn count_finish(&self) {
        self.count(|counters| &counters.finished);
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let census = self.processors.census();
        let threads = self.threads.all();
        let foreign = self.driver.get().foreign_tasks();
        let throttled = self.allotment.throttled().unwrap_or_default();
        let mut metrics = Metrics {
            workers: self.config.workers as usize,
            active_workers: census.total as usize,
            gathered: self.config.gathered.is_gathered(),
            idle_workers: census.idle as usize,
            throttled_periods: throttled.periods,
            throttled_time: throttled.time,
            threads: threads.iter().filter(|t| t.role() != Role::Guest).count(),
            unpinned_threads: threads.iter().filter(|t| t.is_unpinned()).count(),
            blocking_threads: self.blocking.threads(),
            tasks_queued: self.injector.len() + threads.iter().map(|t| t.tasks_len()).sum::<usize>(),
            closures_queued: self.closures.len(),
            blocking_queued: self.blocking.queued(),
            scopes_queued: self.offers.len(),
            tickets_queued: threads.iter().map(|t| t.tickets_len()).sum(),
            foreign_tasks: foreign.alive,
            foreign_spawned: foreign.seen,
            foreign_long_polls: foreign.long_polls,
            ..Metrics::default()
        };
        metrics.add_counters(&self.retired);
        for thread in &threads {
            metrics.add_counters(&thread.counters);
        }
        metrics.tasks_alive = metrics.spawned.saturating_sub(metrics.finished) as usize;
        metrics
    }

    /// Starts the threads that a new runtime has: one for each processor.
    ///
    /// # Errors
    ///
    /// The system refused a thread.
    pub(crate) fn start(&self) -> io::Result<()> {
        let now = os::now();
        // The one opens its files, the other has something to measure from: neither on the way of a closure.
        self.follow_limits(now);
        self.room.look(now);
        for processor in self.config.pool.started_here(self.config.workers) {
            worker::start(self, Some(processor))?;
        }
        Ok(())
    }
}

impl Drop for Shared {
    /// The last reference goes: no thread is left, and every task that still exists is dropped (*Runtime* in
    /// the [task module](crate::task)).
    fn drop(&mut self) {
        crate::lifecycle::drop_tasks(self, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_worth_so_many_wake_ups_within_bounds() {
        // Where a wake-up takes next to nothing, what it is worth is the core. A task of 1.8 us saves one of them.
        let stretch = MOVE + 1_000;
        assert!(!is_worth_waking(39, stretch, 0) && is_worth_waking(40, stretch, 0));
        assert_eq!([39, 40].map(|tasks| is_worth_a_core(tasks, stretch)), [false, true]);
        assert!(!is_worth_waking(79, stretch, 10_000) && is_worth_waking(80, stretch, 10_000));
        assert!(!is_worth_waking(199, stretch, 1_000_000) && is_worth_waking(200, stretch, 1_000_000));
    }

    #[test]
    fn one_long_poll_says_little_about_the_tasks_around_it() {
        // One that spawned for 1.3 ms, and sixty of 50 ns.
        assert!(next_mean_stretch(100, 1_303_000 / 61, 61) < MOVE);
        // What takes longer from now on is believed after some rounds.
        let believed = (0..5).fold(100, |mean, _| next_mean_stretch(mean, 20_000, 61));
        assert!((5_000..=20_000).contains(&believed), "{believed}");
        assert_eq!(next_mean_stretch(50, 1, 61), 50);
    }

    #[test]
    fn short_tasks_are_not_worth_their_move_unless_the_queue_is_long() {
        assert!(!is_worth_a_core(2_499, MOVE) && is_worth_a_core(2_500, MOVE));
        assert!(!is_worth_waking(39_999, 50, 0) && is_worth_waking(40_000, 50, u64::MAX / WAKES));
    }
}
