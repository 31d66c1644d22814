//! The scheduler loop: what a thread runs next, and what it does when there is nothing.
//!
//! A thread with a processor looks for work in this order:
//!
//! 1. every [`TICK`]th time: events, then the injector; in between, every [`TICK`]th time, a closure, so that
//!    neither starves behind a thread's own tasks;
//! 2. its own tasks: the LIFO slot (the task woken last: its data is warm), then its queue;
//! 3. the injector;
//! 4. halves of joins and jobs of scopes on offer: work that was begun is finished before more is begun;
//! 5. closures;
//! 6. tasks of others who will not see to them soon; closures addressed to its processor (these also every
//!    [`TICK`]th time);
//! 7. if somebody forks: yield once, unless it counts as searching already, or a stranger would go on; ask, and look
//!    again for some [`SEARCH`] nanoseconds; then sleep. At once, if all who fork wait for the core that it is on.
//!
//! Points 4 and 6 try near threads before far ones, and far ones only when there is nothing else
//! (see [`peers`](crate::peers)).
//!
//! A thread that has lost its processor finishes what it is doing and starts nothing new until it has one.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use crate::driver::Token;
use crate::injectors::FirstAt;
use crate::lifecycle;
use crate::local::{Local, Owned, Remote, Role, Turn};
use crate::os;
use crate::peers::{PATIENCE, Reach};
use crate::processors::{self, ProcessorId, fence};
use crate::rest::{Counted, Unit};
use crate::runtime::{Hook, context};
use crate::scheduler::Shared;
use crate::scope::TakenJob;
use crate::task::budget;
use crate::task::contained::Contained;
use crate::task::{self, Runnable};
use crate::ticket::{Claim, Ticket};
use crate::user_code::{self, Computing, hand_over};

/// How often a thread looks past its own queue. A prime, so that it beats with no period of the program's.
pub const TICK: u32 = 61;
/// How long a thread looks for work before it sleeps, while others fork: about what it costs to put it to sleep and to
/// wake it up, in ns.
pub const SEARCH: u64 = 50_000;
/// How many pauses lie between two rounds of a search.
pub const PAUSES: u32 = 40;
/// How many rounds of a search lie between two requests to those who fork.
pub const ROUNDS_PER_REQUEST: u32 = 4;
/// How many threads may sleep without a processor before one of them ends.
pub const SPARE_THREADS: usize = 4;
/// After how many wake-ups without a computing worker the duty thread hands the driver back.
const QUIET_WAKEUPS: u32 = 64;

/// Something to run.
enum Work {
    Task(Runnable),
    Closure(Runnable),
    Half(Claim),
    Job(TakenJob),
}

/// Evidence that this thread counts as searching. Only its methods end that.
struct Searching(());

impl Searching {
    fn start(shared: &Shared) -> Option<Self> {
        shared.processors.start_searching().then_some(Self(()))
    }

    /// The thread has found work. Whoever published more meanwhile may have relied on it: Submit 2 and 3 again.
    fn found(self, local: &Local) {
        let shared = &*local.shared;
        shared.processors.stop_searching(|| {
            let has_tickets = || {
                local.has_open_ticket() || local.find_peer(|peer| peer.has_tickets().then_some(())).is_some()
            };
            if !shared.closures.is_empty() || !shared.offers.is_empty() || has_tickets() {
                shared.wake_if_unattended();
            }
            if !shared.injector.is_empty() {
                shared.notify_injected();
            }
        });
    }
}

/// Those who have been asked for work.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// Some run elsewhere.
    run: bool,
    /// Some wait for the core of whoever asks.
    wait: bool,
}

impl Asked {
    fn note(&mut self, waits: bool) {
        self.wait |= waits;
        self.run |= !waits;
    }

    /// Whether it is worth waiting for an answer. If nobody forks, somebody may begin to.
    fn may_answer(self) -> bool {
        self.run || !self.wait
    }
}

/// How a thread came back from its rest.
enum Rested {
    /// There may be something to do. A waker has counted the thread as searching, or it woke by itself.
    Woken(Option<Searching>),
    /// It did not sleep: enough others do, and it should end.
    Spare(Option<Searching>),
}

/// Starts a thread: a worker with a processor, or the duty thread.
///
/// # Errors
///
/// See [`lifecycle::start_thread`].
pub(crate) fn start(shared: &Shared, processor: Option<ProcessorId>) -> io::Result<()> {
    let config = &shared.config;
    let name = processor.map_or_else(|| config.thread_name.of("duty"), |p| config.name_of_worker(p));
    // From before the start: whoever relies on the thread may come to rest at once.
    let unit = Unit::take(shared.rest.as_ref());
    let body = move |shared: &_| thread_main(shared, processor, unit);
    lifecycle::start_thread(shared, name, config.stack_size, body).map(drop)
}

pub(crate) fn thread_main(shared: &Arc<Shared>, processor: Option<ProcessorId>, unit: Unit) {
    let _counted = Counted::own_thread(shared.rest.as_ref(), Some(unit));
    let role = if processor.is_some() { Role::Worker } else { Role::Duty };
    // Started by a worker, whose mask it inherits; kept, it would wait for that one core.
    shared.config.gathered.leave();
    let local = Local::new(Arc::clone(shared), role);
    // SAFETY: `local` is boxed, belongs to this thread and is dropped after the guard.
    let installed = unsafe { Owned::new(&raw const *local) };
    local.budgets.prepare();
    let context = context::Entered::own_thread(shared);
    let worker = Worker::new(&local);
    match processor {
        Some(p) => {
            shared.processors.sit_down(local.seat(), p);
            worker.run(worker.run_start_hook(Searching(())));
        }
        None => {
            shared.duty.take_up(local.seat());
            run_hook(shared.config.hooks.on_thread_start.as_ref());
            worker.run(None);
        }
    }
    worker.retire();
    run_hook(shared.config.hooks.on_thread_stop.as_ref());
    drop(context);
    drop(installed);
    drop(local);
}

/// Runs a user's hook; its panic is reported by the panic hook and goes no further.
pub(crate) fn run_hook(hook: Option<&Hook>) {
    if let Some(hook) = hook
        && let Err(payload) = catch_unwind(AssertUnwindSafe(|| budget::without(|| hook())))
    {
        drop(Contained::new(payload));
    }
}

/// A thread at its loop.
struct Worker<'a> {
    local: &'a Local,
    shared: &'a Shared,
}

impl<'a> Worker<'a> {
    fn new(local: &'a Local) -> Self {
        Self { local, shared: &local.shared }
    }

    /// Runs the user's hook, which may take its time: the thread counts as computing meanwhile, and not as
    /// searching, for which all others would wait.
    fn run_start_hook(&self, searching: Searching) -> Option<Searching> {
        if self.shared.config.hooks.on_thread_start.is_none() {
            return Some(searching);
        }
        let _computing = Computing::begin();
        searching.found(self.local);
        run_hook(self.shared.config.hooks.on_thread_start.as_ref());
        None
    }

    fn run(&self, mut searching: Option<Searching>) {
        self.local.start_batch(os::now());
        while !self.shared.is_closed() {
            self.local.follow_gathering();
            if self.local.remote.role() == Role::Duty {
                self.do_duty();
            } else if self.local.take_up_processor() && self.run_next(&mut searching) {
                // There may be more.
            } else {
                match self.rest(searching.take()) {
                    Rested::Woken(evidence) => searching = evidence,
                    Rested::Spare(evidence) => {
                        searching = evidence;
                        break;
                    }
                }
            }
        }
        if let Some(searching) = searching {
            searching.found(self.local);
        }
    }

    /// Leaves the table: the processor, the duty and what is queued here go to others.
    fn retire(&self) {
        hand_over(self.local);
    }

    /// Runs one piece of work; `false` if there is none.
    fn run_next(&self, searching: &mut Option<Searching>) -> bool {
        let mut work = self.next();
        if work.is_none() && self.local.find_peer(|p| p.may_fork().then_some(())).is_some() {
            self.local.end_batch(os::now());
            if searching.is_none() {
                // Who waits for this core goes first, the joiner often: the kernel wakes it where it is woken from. Not while
                // others rely on this thread's finding something.
                if self.local.yields_to_joiners() {
                    thread::yield_now();
                }
                *searching = Searching::start(self.shared);
            }
            // One who may not search waits a moment all the same before it goes far.
            let limit = match self.first_reach() {
                _ if searching.is_some() => SEARCH,
                Reach::Near => PATIENCE,
                Reach::Everywhere => 0,
            };
            if limit > 0 {
                work = self.search(limit);
            }
            self.local.start_batch(os::now());
        }
        if work.is_none() && self.first_reach() == Reach::Near {
            work = self.next_foreign(Reach::Everywhere);
        }
        let Some(work) = work else {
            return false;
        };
        if let Some(searching) = searching.take() {
            searching.found(self.local);
        }
        self.run_work(work);
        true
    }

    /// Points 1 to 6 of the [module](self).
    fn next(&self) -> Option<Work> {
        let tick = self.local.next_tick();
        if tick.is_multiple_of(TICK) {
            if let Some(task) = self.look_past_own_queue(tick) {
                return Some(Work::Task(task));
            }
        } else if tick % TICK == TICK / 2
            && let Some(closure) = self.shared.take_closure(self.in_turn_of(tick))
        {
            return Some(Work::Closure(closure));
        } else if tick % TICK == TICK / 3
            && let Some(closure) = self.take_addressed()
        {
            return Some(Work::Closure(closure));
        }
        if let Some(task) = self.local.pop_task() {
            return Some(Work::Task(task));
        }
        if let Some(task) = self.take_injected_batch() {
            return Some(Work::Task(task));
        }
        self.next_foreign(self.first_reach()).or_else(|| self.take_addressed().map(Work::Closure))
    }

    fn first_reach(&self) -> Reach {
        Reach::first(&self.shared.config.distances)
    }

    /// Point 3.
    fn take_injected_batch(&self) -> Option<Runnable> {
        let task = self.shared.take_injected_batch(self.local);
        self.guard_batch(task.is_some());
        task
    }

    /// What came along with a task may be stranded by it.
    fn guard_batch(&self, came: bool) {
        if came && self.local.tasks_len() > 0 {
            // The pushes of a batch have no order of their own before the watchdog's look.
            fence();
            self.shared.watchdog.ensure(self.shared);
        }
    }

    /// Point 1.
    fn look_past_own_queue(&self, tick: u32) -> Option<Runnable> {
        let now = os::now();
        self.local.end_batch(now);
        self.local.look_around(now);
        if self.shared.turn_is_due(now) {
            self.take_turn();
            self.local.start_batch(os::now());
        }
        self.shared.take_injected(self.in_turn_of(tick))
    }

    /// Which home's queue is looked into first when the thread looks past its own.
    fn in_turn_of(&self, tick: u32) -> FirstAt {
        FirstAt::turn(self.local.home(), tick / TICK)
    }

    fn take_turn(&self) {
        if let Some(token) = self.shared.driver.try_enter() {
            self.in_turn(Turn::Passing, || token.turn());
            self.local.counters().driver_turns.add(1);
            self.leave_driver(token);
        }
    }

    /// Runs `f` inside the driver, where wakers and third-party code run: a panic of theirs, which has been
    /// reported, ends the turn and no more.
    fn in_turn(&self, turn: Turn, f: impl FnOnce()) {
        self.local.set_turn(turn);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            drop(Contained::new(payload));
        }
        self.local.set_turn(Turn::Outside);
    }

    /// Points 4 to 6.
    fn next_foreign(&self, reach: Reach) -> Option<Work> {
        if let Some(claim) = self.local.claim_own().or_else(|| self.steal_half(reach)) {
            return Some(Work::Half(claim));
        }
        if let Some(job) = self.take_job() {
            return Some(Work::Job(job));
        }
        if let Some(closure) = self.shared.take_closure(FirstAt::home(self.local.home())) {
            return Some(Work::Closure(closure));
        }
        let stolen = self.local.find_peer_within(reach, |peer, ring| {
            if !self.shared.may_steal_tasks(peer) {
                return None;
            }
            let task = peer.steal_tasks(self.local.task_deque(), ring.is_far())?;
            Some((task, ring))
        });
        self.guard_batch(stolen.is_some());
        let (task, ring) = stolen?;
        self.local.counters().tasks_stolen.add(1);
        self.local.counters().steals_in(ring).add(1);
        Some(Work::Task(task))
    }

    /// Point 6.
    fn take_addressed(&self) -> Option<Runnable> {
        let (shared, seat) = (self.shared, self.local.seat());
        shared.addressed_to(seat).or_else(|| {
            let is_exchanged = !shared.addressed.is_empty()
                && shared.processors.exchange(seat, |p| shared.addressed.waits_for(p));
            is_exchanged.then(|| shared.addressed_to(seat)).flatten()
        })
    }

    fn steal_half(&self, reach: Reach) -> Option<Claim> {
        let (claim, ring) = self.local.find_peer_within(reach, |peer, ring| {
            while peer.has_tickets() {
                let ticket = match ring.is_far() {
                    false => peer.steal_ticket(),
                    true => peer.steal_tickets(self.local.ticket_deque()),
                };
                // A ticket that its joiner took back is dropped here.
                if let Some(claim) = ticket.and_then(Ticket::claim) {
                    return Some((claim, ring));
                }
            }
            None
        })?;
        self.local.counters().steals.add(1);
        self.local.counters().steals_in(ring).add(1);
        Some(claim)
    }

    fn take_job(&self) -> Option<TakenJob> {
        while let Some(offer) = self.shared.offers.pop() {
            // An offer whose jobs the owner has run itself ends here.
            if let Some(job) = offer.help(&self.shared.offers) {
                self.local.counters().steals.add(1);
                if !self.shared.offers.is_empty() {
                    // Put back by whoever may not count as searching: Submit 2 and 3 again.
                    fence();
                    self.shared.wake_if_unattended();
                }
                return Some(job);
            }
        }
        None
    }

    /// Point 7, for some `limit` nanoseconds.
    fn search(&self, limit: u64) -> Option<Work> {
        let start = os::now();
        let mut round = 0u32;
        let mut reach = self.first_reach();
        if reach == Reach::Near {
            reach = reach.after(0, self.is_near_one_who_forks());
        }
        while !self.shared.is_closed() {
            if let Some(work) = self.next_foreign(reach) {
                return Some(work);
            }
            if let Some(task) = self.take_injected_batch() {
                return Some(Work::Task(task));
            }
            if round.is_multiple_of(ROUNDS_PER_REQUEST) {
                let searched = os::now().saturating_sub(start);
                if searched > limit {
                    break;
                }
                reach = reach.after(searched, true);
                if !self.ask_peers(reach) && reach == Reach::Everywhere {
                    break;
                }
            }
            round += 1;
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
        }
        None
    }

    fn is_near_one_who_forks(&self) -> bool {
        let forks = |peer: &Arc<Remote>, _| peer.may_fork().then_some(());
        self.local.find_peer_within(Reach::Near, forks).is_some()
    }

    /// Asks those who fork, and have nothing on offer, for work. `false` if all of them that are in reach wait for this
    /// thread's core: the sooner it sleeps, the sooner they can answer.
    fn ask_peers(&self, reach: Reach) -> bool {
        let cpu = os::current_cpu();
        let mut asked = Asked::default();
        // Nobody is who is looked for: each is visited.
        let _: Option<()> = self.local.find_peer_within(reach, |peer, _| {
            if peer.may_fork() {
                asked.note(peer.was_on(cpu));
                if !peer.has_tickets() {
                    peer.ask();
                }
            }
            None
        });
        asked.may_answer()
    }

    fn run_work(&self, work: Work) {
        match work {
            Work::Task(task) => {
                self.local.counters().polls.add(1);
                self.note_home(&task);
                let config = &self.shared.config;
                let watch = |limit| self.shared.long_polls.watch(limit, task.metadata().site());
                let watched = config.long_poll_warning.map(watch);
                self.local.budgets.begin_poll(config.poll_budget);
                let goes_on = self.run_item(task);
                self.local.count_poll(goes_on);
                self.local.budgets.end_poll();
                if let Some(watched) = watched {
                    watched.end();
                }
            }
            Work::Closure(closure) => {
                self.local.counters().closures.add(1);
                self.note_home(&closure);
                budget::without(|| self.run_item(closure));
                self.start_batch();
            }
            Work::Half(claim) => {
                // Outside of what is caught: a claim that is dropped on the way is waited for without end.
                let computing = Computing::begin();
                let place = stolen_place(claim.context().cast());
                budget::without(|| self.run_user_code(place, || user_code::run_half(self.local, claim)));
                drop(computing);
                self.start_batch();
            }
            Work::Job(job) => {
                let computing = Computing::begin();
                let place = stolen_place(job.context());
                let run = || self.shared.driver.finish_unpark(job.run());
                budget::without(|| self.run_user_code(place, run));
                drop(computing);
                self.start_batch();
            }
        }
    }

    /// A longer piece of work has ended.
    fn start_batch(&self) {
        let now = os::now();
        self.local.start_batch(now);
        self.local.look_around(now);
    }

    /// Where an item runs, as far as there are several homes.
    fn note_home(&self, item: &Runnable) {
        if let Some(home) = self.local.home() {
            item.metadata().set_home(home);
        }
    }

    /// Whether it was woken while it ran, and is queued again.
    fn run_item(&self, item: Runnable) -> bool {
        let mut goes_on = false;
        self.run_user_code(item.metadata().place(), || goes_on = item.run());
        goes_on
    }

    /// Runs user code. Tasks and halves catch the panics of their own; one that still comes here (from a waker)
    /// is reported by the panic hook, and the worker goes on. `place`: where the code comes from.
    fn run_user_code(&self, place: usize, item: impl FnOnce()) {
        self.local.begin_item(place);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(item)) {
            drop(Contained::new(payload));
        }
        self.local.end_item();
        // Guards of other runtimes that user code has left behind are its own affair, this thread's state is not.
        self.local.reinstall();
        if self.local.seat().is_computing() {
            // The watchdog or a beat found the item to be long.
            self.shared.processors.end_computing(self.local.seat());
        } else {
            // Numbers 3.
            self.shared.processors.forget_number(self.local.seat());
        }
    }

    /// Sleep (see [`processors`](crate::processors)); returns when there may be something to do, or if enough
    /// threads sleep without this one.
    fn rest(&self, searching: Option<Searching>) -> Rested {
        let (local, shared) = (self.local, self.shared);
        let now = os::now();
        local.end_batch(now);
        shared.follow_limits(now);
        local.set_slice(shared.slice_to_serve());
        let most = shared.config.workers as usize + SPARE_THREADS;
        let rested = shared.processors.rest(local.seat(), searching.is_some(), most, self);
        match rested {
            processors::Rested::Spare => Rested::Spare(searching),
            // The evidence went with Sleep 1; it comes back from a waker, or if the look of Sleep 3 found something.
            processors::Rested::Searching => {
                local.start_batch(os::now());
                Rested::Woken(Some(Searching(())))
            }
            processors::Rested::Serving => {
                local.start_batch(os::now());
                Rested::Woken(None)
            }
            processors::Rested::Closed => Rested::Woken(None),
        }
    }

    fn park_in_driver(&self, token: Token<'_>) {
        self.shared.processors.guard_driver(self.local.seat());
        self.park_with(&token);
        self.leave_driver(token);
    }

    fn leave_driver(&self, token: Token<'_>) {
        drop(token);
        self.left_driver();
    }

    /// Nobody sits in the driver now, and what came from it may be a long poll: the watchdog must know.
    fn left_driver(&self) {
        // It lowers its flag before it looks whether the driver is covered; here the order is the reverse.
        fence();
        self.shared.watchdog.ensure(self.shared);
        // In the turn nobody was woken: until it ended, it was not known how many would come.
        self.shared.share_backlog(self.local);
    }

    fn park_with(&self, token: &Token<'_>) {
        let parker = &self.local.seat().parker;
        // It leaves the parker by itself, also when it unwinds.
        self.in_turn(Turn::Parked, || token.park(parker));
    }

    /// One round of the duty: see [`duty`](crate::duty).
    fn do_duty(&self) {
        let (local, shared) = (self.local, self.shared);
        local.set_slice(shared.slice_to_serve());
        shared.duty.begin_serving(local.seat());
        while let Some(task) = self.next_on_duty() {
            self.run_work(Work::Task(task));
            if shared.is_closed() || local.remote.role() != Role::Duty {
                return;
            }
        }
        run_hook(shared.config.hooks.on_thread_park.as_ref());
        local.end_batch(os::now());
        let hands_back = self.hand_driver_back();
        if hands_back {
            shared.duty.sleep_outside(local.seat());
        } else {
            if shared.config.slices {
                shared.duty.begin_rest(local.seat(), os::now());
            }
            shared.duty.sleep(local.seat(), &shared.driver, |token| self.park_with(token));
            self.left_driver();
        }
        local.start_batch(os::now());
        run_hook(shared.config.hooks.on_thread_unpark.as_ref());
        local.counters().duty_wakeups.add(1);
    }

    fn next_on_duty(&self) -> Option<Runnable> {
        let tick = self.local.next_tick();
        if tick.is_multiple_of(TICK)
            && let Some(task) = self.look_past_own_queue(tick)
        {
            return Some(task);
        }
        self.local.pop_task().or_else(|| self.shared.take_injected(FirstAt::turn(self.local.home(), tick)))
    }

    /// Gives the driver to an idle worker, if there has been one for a while. It takes the token when it goes
    /// back to sleep; `true` if there is somebody.
    fn hand_driver_back(&self) -> bool {
        let census = self.shared.processors.census();
        let quiet = census.computing == 0 && census.idle > 0;
        let wakeups = if quiet { self.local.quiet.get() + 1 } else { 0 };
        self.local.quiet.set(wakeups);
        if wakeups < QUIET_WAKEUPS {
            return false;
        }
        self.local.quiet.set(0);
        self.shared.wake();
        true
    }
}

impl processors::Sleeper for Worker<'_> {
    fn has_work(&self) -> bool {
        self.shared.wake_addressed();
        self.shared.has_work(self.local)
    }

    fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    fn park(&self, may_drive: bool) {
        debug_assert!(
            self.shared.is_closed() || self.local.tasks_len() == 0,
            "nobody looks for tasks on a thread that sleeps"
        );
        self.local.counters().parks.add(1);
        run_hook(self.shared.config.hooks.on_thread_park.as_ref());
        match may_drive.then(|| self.shared.driver.try_enter()).flatten() {
            Some(token) => self.park_in_driver(token),
            None => self.local.seat().parker.park(),
        }
        self.local.awoke();
        run_hook(self.shared.config.hooks.on_thread_unpark.as_ref());
    }

    fn stay_down(&self) {
        self.local.flush_tasks();
        // As Sleep 2: whoever relied on this thread has seen it before the change that took it out of the census. And Hand
        // in 2.
        fence();
        self.shared.cover();
        self.shared.wake_addressed();
        if self.shared.has_work(self.local) {
            self.shared.wake_if_unattended();
        }
    }
}

/// The place that a stolen part of a task or closure comes from: not the same as the whole.
fn stolen_place(context: *const task::Meta) -> usize {
    // SAFETY: null, or the header of a task that does not end before this part of it.
    unsafe { context.as_ref() }.map_or(0, task::Meta::place) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_waits_for_the_askers_core_cannot_answer() {
        let may_answer = |waiting: &[bool]| {
            let mut asked = Asked::default();
            waiting.iter().for_each(|&waits| asked.note(waits));
            asked.may_answer()
        };
        assert!(may_answer(&[]) && may_answer(&[false]) && may_answer(&[true, false]));
        assert!(!may_answer(&[true]) && !may_answer(&[true, true]));
    }
}
