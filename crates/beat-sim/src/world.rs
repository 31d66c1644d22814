//! The simulated runtime: its queues, its threads, and the order of events.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::rc::Rc;

use beat::__sim::{
    self as policy, Beat, Distances, LEAP_LOOKS_PER_REQUEST, LEAP_PATIENCE, PATIENCE, PAUSES, Processors,
    ROUNDS_PER_REQUEST, Reach, SEARCH, SPARE_THREADS, Seat, Woken,
};
use beat::topology::Ring;

use crate::thread::{Frame, Mode, Next, Task, Thread, ThreadId, TicketId, next_random};
use crate::{Costs, Machine, Victims, Workload};

/// A tree of so few nodes is run at a stretch.
const LEAF: u64 = 31;
/// For how long a thread runs at most before others come to their turn, in nanoseconds.
const QUANTUM: u64 = 1_000;
/// When the work is submitted: all threads sleep by then.
const START: u64 = 1_000_000;
/// How long a joiner spins between two looks for a part.
const LEAP_LOOK: u64 = 200;
/// How many tasks come from the injector, or from somebody near, at most. Source: crossbeam-deque.
const BATCH: usize = 32;
/// What all closures, and what all halves, are called in the table of lengths.
const CLOSURE: usize = 64;
const HALF: usize = 65;

/// What a run was like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// From the submission until everything is done, in nanoseconds.
    pub makespan: u64,
    /// Times halves or tasks were stolen, by ring: [`Ring::Smt`] first.
    pub steals: [u64; 6],
    /// Halves that were put on offer.
    pub promotions: u64,
    /// Threads that were woken, or started.
    pub wakes: u64,
    /// Threads there were in the end.
    pub threads: usize,
}

impl Outcome {
    /// Steals from another package.
    pub fn remote_steals(&self) -> u64 {
        self.steals[Ring::Remote as usize]
    }

    /// All steals.
    pub fn all_steals(&self) -> u64 {
        self.steals.iter().sum()
    }
}

/// Runs a workload. The same seed gives the same outcome.
pub fn simulate(machine: &Machine, victims: Victims, workload: &Workload, seed: u64) -> Outcome {
    simulate_with(machine, victims, workload, seed, Costs::default())
}

/// The same, with other costs.
///
/// # Panics
///
/// If nobody runs while there is work left: a wake-up was lost, in the policy or here.
pub fn simulate_with(
    machine: &Machine,
    victims: Victims,
    workload: &Workload,
    seed: u64,
    costs: Costs,
) -> Outcome {
    let mut world = World::new(machine, victims, workload, seed, costs);
    while !world.is_done() {
        let Some(Reverse((now, _, event))) = world.events.pop() else {
            panic!("nobody runs, and there is work left: {:?}", world.processors.census());
        };
        world.take(event, now);
    }
    world.outcome.makespan = world.last_end - START;
    world.outcome.threads = world.threads.len();
    world.outcome
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A thread's turn.
    Turn(ThreadId),
    Closure,
    Request,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Offered,
    Reclaimed,
    Claimed,
    Done,
}

#[derive(Debug)]
struct Ticket {
    nodes: u64,
    state: State,
    joiner: ThreadId,
    joiner_waits: bool,
    root: Option<TicketId>,
    thief: Option<ThreadId>,
    is_wanted: bool,
    /// What the thief's clock of work read when it began.
    began: u64,
    /// How much work there was.
    work: u64,
    /// What the joiner's clock of work read when it came to wait.
    wait_began: u64,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Task(Task),
    Half(TicketId),
    Closure,
}

struct World {
    costs: Costs,
    /// What the scheduler knows.
    known: Rc<Distances>,
    /// How it is.
    distances: Rc<Distances>,
    workers: usize,
    processors: Processors,
    threads: Vec<Thread>,
    thread_at: HashMap<usize, ThreadId>,
    /// Changes when a thread comes or goes.
    version: u64,
    duty: ThreadId,
    tickets: Vec<Ticket>,
    injector: VecDeque<Task>,
    closures: u64,
    closure_nodes: u64,
    closures_to_come: u64,
    closures_left: u64,
    tasks_left: u64,
    requests_to_come: u64,
    every: u64,
    fan_out: u64,
    task: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    events_made: u64,
    seed: u64,
    last_end: u64,
    outcome: Outcome,
}

impl World {
    fn new(machine: &Machine, victims: Victims, workload: &Workload, seed: u64, costs: Costs) -> Self {
        let (closures, outstanding, nodes, requests, every, fan_out, task) = match *workload {
            Workload::Tree { nodes } => (1, 1, nodes, 0, 0, 0, 0),
            Workload::Mixed { closures, outstanding, nodes, requests, every, fan_out, task } => {
                (closures, outstanding.min(closures), nodes, requests, every, fan_out, task)
            }
        };
        let distances = Rc::new(machine.distances.clone());
        let known = match victims {
            Victims::Rings => Rc::clone(&distances),
            Victims::Random => Rc::new(Distances::unknown()),
        };
        let mut world = Self {
            costs,
            known,
            distances,
            workers: machine.workers,
            processors: Processors::new(machine.workers as u32),
            threads: Vec::new(),
            thread_at: HashMap::new(),
            version: 0,
            duty: 0,
            tickets: Vec::new(),
            injector: VecDeque::new(),
            closures: 0,
            closure_nodes: nodes,
            closures_to_come: closures - outstanding,
            closures_left: closures,
            tasks_left: requests * (fan_out + 1),
            requests_to_come: requests,
            every,
            fan_out,
            task,
            events: BinaryHeap::new(),
            events_made: 0,
            seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            last_end: START,
            outcome: Outcome::default(),
        };
        for p in 0..machine.workers as u32 {
            let thread = world.add_thread(false);
            world.processors.sit_down(&world.threads[thread].seat, p);
            world.at(0, Event::Turn(thread));
        }
        world.duty = world.add_thread(true);
        for _ in 0..outstanding {
            world.at(START, Event::Closure);
        }
        if requests > 0 {
            world.at(START, Event::Request);
        }
        world
    }

    fn add_thread(&mut self, is_duty: bool) -> ThreadId {
        let thread = self.threads.len();
        let seat = Seat::new();
        self.thread_at.insert(seat.id(), thread);
        let seed = next_random(&mut self.seed);
        self.threads.push(Thread::new(seat, seed, is_duty, self.costs.wake));
        self.version += 1;
        thread
    }

    fn is_done(&self) -> bool {
        self.closures_left == 0 && self.tasks_left == 0
    }

    fn at(&mut self, time: u64, event: Event) {
        // Events of one time come in the order in which they were made.
        self.events_made += 1;
        self.events.push(Reverse((time, self.events_made, event)));
    }

    fn take(&mut self, event: Event, now: u64) {
        match event {
            Event::Closure => self.submit_closure(now),
            Event::Request => {
                self.injector.push_back(Task { spawns: self.fan_out });
                self.notify_injected(now);
                self.requests_to_come -= 1;
                if self.requests_to_come > 0 {
                    self.at(now + self.every, Event::Request);
                }
            }
            Event::Turn(thread) => {
                let now = now + std::mem::take(&mut self.threads[thread].lost);
                if let Some(next) = self.turn(thread, now) {
                    self.at(next.max(now + 1), Event::Turn(thread));
                }
            }
        }
    }

    // ----- submitting and waking -----

    fn submit_closure(&mut self, now: u64) {
        self.closures += 1;
        self.wake_if_unattended(None, now);
    }

    fn notify_injected(&mut self, now: u64) {
        let census = self.processors.census();
        if census.searching() > 0 {
            return;
        }
        if census.serving() == 0 && census.idle() == 0 {
            self.wake_duty(now);
        } else if census.idle() > 0
            && (census.serving() == 0
                || policy::is_worth_waking(self.injector.len(), self.task, self.costs.wake))
        {
            self.wake(None, now);
        }
    }

    fn wake_duty(&mut self, now: u64) {
        let duty = self.duty;
        if let Mode::Asleep = self.threads[duty].mode {
            self.threads[duty].mode = Mode::Loop;
            self.at(now + self.costs.latency, Event::Turn(duty));
        }
    }

    /// Returns when the waker goes on.
    fn wake_if_unattended(&mut self, waker: Option<ThreadId>, now: u64) -> u64 {
        let census = self.processors.census();
        if census.searching() == 0 && census.idle() > 0 { self.wake(waker, now) } else { now }
    }

    fn wake(&mut self, waker: Option<ThreadId>, now: u64) -> u64 {
        let place = waker.and_then(|waker| self.threads[waker].seat.home());
        let Some(woken) = self.processors.wake(&self.known, place) else { return now };
        self.outcome.wakes += 1;
        match woken {
            Woken::Sleeper(seat) => {
                let thread = self.thread_at[&seat.id()];
                self.threads[thread].mode = Mode::Loop;
                self.threads[thread].searching = true;
                self.at(now + self.costs.latency, Event::Turn(thread));
            }
            Woken::New(p) => {
                let thread = self.add_thread(false);
                self.processors.sit_down(&self.threads[thread].seat, p);
                self.at(now + self.costs.start, Event::Turn(thread));
            }
        }
        now + self.costs.wake
    }

    // ----- looking for work -----

    /// Looks at the others in reach, until `f` finds something; the looks take their time.
    fn visit<T>(
        &mut self,
        thread: ThreadId,
        reach: Reach,
        now: &mut u64,
        mut f: impl FnMut(&mut Self, ThreadId) -> Option<T>,
    ) -> Option<T> {
        let mut peers = std::mem::take(&mut self.threads[thread].peers);
        if self.threads[thread].peers_known != self.version {
            self.threads[thread].peers_known = self.version;
            let others = self.threads.iter().enumerate();
            let others = others.filter(|&(other, of)| other != thread && !matches!(of.mode, Mode::Gone));
            peers.replace(others.map(|(other, of)| (of.seat.clone(), other)));
        }
        let place = self.threads[thread].seat.home();
        let mut random = self.threads[thread].random;
        let known = Rc::clone(&self.known);
        let found = peers.find(
            place,
            &known,
            reach,
            || next_random(&mut random),
            |other| {
                *now += self.look_at(thread, other);
                f(self, other)
            },
        );
        self.threads[thread].random = random;
        self.threads[thread].peers = peers;
        found
    }

    /// What a look at somebody costs: much only if his queues have changed since the last one.
    fn look_at(&mut self, thread: ThreadId, other: ThreadId) -> u64 {
        let queues = (self.threads[other].tickets.len(), self.threads[other].tasks.len());
        let ring = self.ring(thread, other);
        let seen = &mut self.threads[thread].seen;
        if seen.len() <= other {
            seen.resize(other + 1, (0, 0));
        }
        let has_changed = std::mem::replace(&mut seen[other], queues) != queues;
        if has_changed { Costs::of(&self.costs.probe, ring) } else { self.costs.look_again }
    }

    fn ring(&self, from: ThreadId, to: ThreadId) -> Ring {
        self.distances.ring(self.threads[from].seat.home(), self.threads[to].seat.home())
    }

    fn may_fork(&self, thread: ThreadId) -> bool {
        !self.threads[thread].is_duty && self.threads[thread].seat.is_computing()
    }

    fn may_steal_tasks(&self, from: ThreadId) -> bool {
        let peer = &self.threads[from];
        let will_be_long = peer.seat.is_computing() || peer.seat.processor().is_none() && !peer.is_duty;
        match peer.tasks.len() {
            0 => false,
            tasks => will_be_long || policy::is_worth_a_core(tasks, self.task),
        }
    }

    fn claim(&mut self, thread: ThreadId, ticket: TicketId) -> Option<TicketId> {
        let claimed = &mut self.tickets[ticket];
        if claimed.state != State::Offered {
            return None;
        }
        claimed.state = State::Claimed;
        claimed.thief = Some(thread);
        Some(ticket)
    }

    /// The item's data come from where its owner is.
    fn fetch(&mut self, thread: ThreadId, from: ThreadId, now: &mut u64) {
        let ring = self.ring(thread, from);
        *now += Costs::of(&self.costs.take, ring) + Costs::of(&self.costs.cold, ring);
    }

    /// What a node of a half costs more: its data lie where its joiner is.
    fn extra(&self, thread: ThreadId, ticket: TicketId) -> f64 {
        self.costs.data[self.ring(thread, self.tickets[ticket].joiner) as usize]
    }

    fn steal_half(&mut self, thread: ThreadId, reach: Reach, now: &mut u64) -> Option<TicketId> {
        while let Some(own) = self.threads[thread].tickets.pop_back() {
            if let Some(claimed) = self.claim(thread, own) {
                let joiner = self.tickets[claimed].joiner;
                let ring = self.ring(thread, joiner);
                *now += Costs::of(&self.costs.cold, ring);
                return Some(claimed);
            }
        }
        let (ticket, victim) = self.visit(thread, reach, now, |world, victim| {
            let far = policy::is_far(
                world.known.ring(world.threads[thread].seat.home(), world.threads[victim].seat.home()),
            );
            while let Some(ticket) = world.threads[victim].tickets.pop_front() {
                let batch = if far {
                    policy::FAR_TICKETS.min(world.threads[victim].tickets.len().div_ceil(2))
                } else {
                    0
                };
                let batch: Vec<_> = world.threads[victim].tickets.drain(..batch).collect();
                world.threads[thread].tickets.extend(batch);
                if let Some(claimed) = world.claim(thread, ticket) {
                    return Some((claimed, victim));
                }
            }
            None
        })?;
        self.outcome.steals[self.ring(thread, victim) as usize] += 1;
        self.fetch(thread, victim, now);
        Some(ticket)
    }

    fn steal_tasks(&mut self, thread: ThreadId, reach: Reach, now: &mut u64) -> Option<Task> {
        let (task, victim) = self.visit(thread, reach, now, |world, victim| {
            if !world.may_steal_tasks(victim) {
                return None;
            }
            let places = (world.threads[thread].seat.home(), world.threads[victim].seat.home());
            let most =
                if policy::is_far(world.known.ring(places.0, places.1)) { policy::FAR_TASKS } else { BATCH };
            let half = world.threads[victim].tasks.len().div_ceil(2).min(most);
            let mut batch: Vec<_> = world.threads[victim].tasks.drain(..half).collect();
            let task = batch.remove(0);
            world.threads[thread].tasks.extend(batch);
            Some((task, victim))
        })?;
        self.outcome.steals[self.ring(thread, victim) as usize] += 1;
        self.fetch(thread, victim, now);
        Some(task)
    }

    fn take_injected(&mut self, thread: ThreadId) -> Option<Task> {
        let half = self.injector.len().div_ceil(2).min(BATCH);
        let task = self.injector.pop_front()?;
        let batch: Vec<_> = self.injector.drain(..half - 1).collect();
        self.threads[thread].tasks.extend(batch);
        Some(task)
    }

    /// Points 4 to 6 of the loop.
    fn next_foreign(&mut self, thread: ThreadId, reach: Reach, now: &mut u64) -> Option<Work> {
        if let Some(ticket) = self.steal_half(thread, reach, now) {
            return Some(Work::Half(ticket));
        }
        if self.closures > 0 {
            self.closures -= 1;
            return Some(Work::Closure);
        }
        self.steal_tasks(thread, reach, now).map(Work::Task)
    }

    fn has_work(&mut self, thread: ThreadId, now: &mut u64) -> bool {
        let found = |world: &mut Self, other: ThreadId| {
            (!world.threads[other].tickets.is_empty() || world.may_steal_tasks(other)).then_some(())
        };
        !self.injector.is_empty()
            || self.closures > 0
            || self.visit(thread, Reach::EVERYWHERE, now, found).is_some()
    }

    // ----- a thread's turn -----

    /// Returns when its next one is.
    fn turn(&mut self, thread: ThreadId, now: u64) -> Option<u64> {
        match self.threads[thread].mode {
            Mode::Loop if self.threads[thread].is_duty => self.do_duty(thread, now),
            Mode::Loop => self.at_loop(thread, now),
            Mode::Search { start, round, reach } => self.search(thread, now, start, round, reach),
            Mode::Run => self.run(thread, now),
            Mode::Leap { ticket, since, round } => self.leap(thread, now, ticket, since, round),
            Mode::Waits(ticket) => {
                debug_assert_eq!(self.tickets[ticket].state, State::Done);
                // Hand-over 4.
                self.processors.acquire(&self.threads[thread].seat);
                self.end_wait(thread, now, ticket);
                self.run(thread, now)
            }
            Mode::Asleep | Mode::Gone => None,
        }
    }

    fn do_duty(&mut self, thread: ThreadId, now: u64) -> Option<u64> {
        let task = self.threads[thread].tasks.pop_front().or_else(|| self.injector.pop_front());
        let Some(task) = task else {
            self.threads[thread].mode = Mode::Asleep;
            return None;
        };
        let end = self.run_task(thread, task, now);
        // It has preempted a closure.
        let place = next_random(&mut self.seed) as usize % self.workers;
        self.threads[place].lost += end - now;
        Some(end)
    }

    fn at_loop(&mut self, thread: ThreadId, mut now: u64) -> Option<u64> {
        let seat = self.threads[thread].seat.clone();
        if seat.processor().is_none() && !self.processors.acquire(&seat) {
            return self.rest(thread, now);
        }
        let work = match self.threads[thread].tasks.pop_front().or_else(|| self.take_injected(thread)) {
            Some(task) => Some(Work::Task(task)),
            None => self.next_foreign(thread, self.known.first_reach(), &mut now),
        };
        if let Some(work) = work {
            return Some(self.begin(thread, work, now));
        }
        let forks = |world: &mut Self, other: ThreadId| world.may_fork(other).then_some(());
        if self.visit(thread, Reach::EVERYWHERE, &mut now, forks).is_some() {
            if !self.threads[thread].searching {
                self.threads[thread].searching = self.processors.start_searching();
            }
            if self.threads[thread].searching || self.known.first_reach() == Reach::NEAR {
                let mut reach = self.known.first_reach();
                if reach == Reach::NEAR {
                    let near = self.visit(thread, Reach::NEAR, &mut now, forks).is_some();
                    reach = reach.after(0, near);
                }
                self.threads[thread].mode = Mode::Search { start: now, round: 0, reach };
                return Some(now);
            }
        }
        self.look_everywhere(thread, now)
    }

    /// The last look before a thread sleeps.
    fn look_everywhere(&mut self, thread: ThreadId, mut now: u64) -> Option<u64> {
        if self.known.first_reach() == Reach::NEAR
            && let Some(work) = self.next_foreign(thread, Reach::EVERYWHERE, &mut now)
        {
            return Some(self.begin(thread, work, now));
        }
        self.rest(thread, now)
    }

    fn search(
        &mut self,
        thread: ThreadId,
        mut now: u64,
        start: u64,
        round: u32,
        mut reach: Reach,
    ) -> Option<u64> {
        if let Some(work) = self.next_foreign(thread, reach, &mut now) {
            return Some(self.begin(thread, work, now));
        }
        if let Some(task) = self.take_injected(thread) {
            return Some(self.begin(thread, Work::Task(task), now));
        }
        if round.is_multiple_of(ROUNDS_PER_REQUEST) {
            now += self.costs.look;
            let searched = now - start;
            let limit = if self.threads[thread].searching { SEARCH } else { PATIENCE };
            if searched > limit {
                self.threads[thread].mode = Mode::Loop;
                return self.look_everywhere(thread, now);
            }
            reach = reach.after(searched, true);
            let _: Option<()> = self.visit(thread, reach, &mut now, |world, other| {
                if world.may_fork(other) && world.threads[other].tickets.is_empty() {
                    world.threads[other].heartbeat.ask();
                }
                None
            });
        }
        self.threads[thread].mode = Mode::Search { start, round: round + 1, reach };
        Some(now + self.costs.pause * u64::from(PAUSES))
    }

    fn rest(&mut self, thread: ThreadId, mut now: u64) -> Option<u64> {
        let seat = self.threads[thread].seat.clone();
        let searching = std::mem::take(&mut self.threads[thread].searching);
        let has_processor = seat.processor().is_some();
        if !self.processors.sleep(&seat, searching, self.workers + SPARE_THREADS) {
            // Enough sleep already: it ends.
            if searching {
                self.processors.stop_searching();
            }
            self.threads[thread].mode = Mode::Gone;
            self.version += 1;
            self.processors.release(&seat);
            if self.has_work(thread, &mut now) {
                self.wake_if_unattended(Some(thread), now);
            }
            return None;
        }
        if has_processor && self.has_work(thread, &mut now) && self.processors.wake_self(&seat, searching) {
            self.threads[thread].searching = searching;
            self.threads[thread].mode = Mode::Loop;
            return Some(now);
        }
        self.threads[thread].mode = Mode::Asleep;
        None
    }

    /// A thread that has found work begins with it; returns when it goes on.
    fn begin(&mut self, thread: ThreadId, work: Work, mut now: u64) -> u64 {
        if std::mem::take(&mut self.threads[thread].searching) && self.processors.stop_searching() {
            if self.closures > 0 {
                now = self.wake_if_unattended(Some(thread), now);
            }
            if !self.injector.is_empty() {
                self.notify_injected(now);
            }
        }
        self.threads[thread].mode = Mode::Loop;
        let (frame, nodes, place) = match work {
            Work::Task(task) => return self.run_task(thread, task, now),
            Work::Half(ticket) => {
                let frame = Frame::Half { ticket, outer_claim: None, outer_extra: 0.0, leap: None };
                self.threads[thread].claim = Some(ticket);
                self.tickets[ticket].began = self.threads[thread].heartbeat.work(now);
                self.threads[thread].extra = self.extra(thread, ticket);
                (frame, self.tickets[ticket].nodes, HALF)
            }
            Work::Closure => (Frame::Closure, self.closure_nodes, CLOSURE),
        };
        self.processors.begin_computing(&self.threads[thread].seat);
        self.flush_tasks(thread, now);
        let this = &mut self.threads[thread];
        this.heartbeat.begin_item(place);
        this.frames.push(frame);
        this.next = Next::Down(nodes);
        this.mode = Mode::Run;
        now
    }

    fn flush_tasks(&mut self, thread: ThreadId, now: u64) {
        let tasks = std::mem::take(&mut self.threads[thread].tasks);
        if !tasks.is_empty() {
            self.injector.extend(tasks);
            self.notify_injected(now);
        }
    }

    fn run_task(&mut self, thread: ThreadId, task: Task, now: u64) -> u64 {
        let mut end = now + self.task;
        if task.spawns > 0 {
            let spawned = (0..task.spawns).map(|_| Task { spawns: 0 });
            self.threads[thread].tasks.extend(spawned);
            if policy::is_worth_waking(self.threads[thread].tasks.len(), self.task, self.costs.wake) {
                end = self.wake_if_unattended(Some(thread), end);
            }
        }
        self.tasks_left -= 1;
        self.last_end = self.last_end.max(end);
        end
    }

    // ----- fork-join -----

    fn run(&mut self, thread: ThreadId, mut now: u64) -> Option<u64> {
        let end = now + QUANTUM;
        while now < end {
            match self.threads[thread].next {
                Next::Down(nodes) if nodes <= LEAF => {
                    let forks = nodes / 2;
                    let node = self.costs.node + self.threads[thread].extra;
                    now += (nodes as f64 * node + forks as f64 * self.costs.fork).round() as u64;
                    self.threads[thread].heartbeat.count_forks(forks as i32);
                    self.threads[thread].next = Next::Up;
                    now = self.beat_if_due(thread, now);
                }
                Next::Down(nodes) => {
                    let first = (nodes - 1) / 2;
                    self.threads[thread].frames.push(Frame::Latent(nodes - 1 - first));
                    self.threads[thread].next = Next::Down(first);
                    let node = self.costs.node + self.threads[thread].extra;
                    now += (node + self.costs.fork).round() as u64;
                    now = self.beat_if_due(thread, now);
                }
                Next::Up => match self.threads[thread].frames.pop() {
                    None | Some(Frame::Second) => {}
                    Some(Frame::Latent(nodes)) => {
                        self.begin_second(thread, nodes);
                        self.threads[thread].heartbeat.count_forks(1);
                        now = self.beat_if_due(thread, now);
                    }
                    Some(Frame::Promoted(ticket)) => match self.tickets[ticket].state {
                        State::Offered => {
                            now += self.costs.reclaim;
                            self.tickets[ticket].state = State::Reclaimed;
                            let tickets = &mut self.threads[thread].tickets;
                            if tickets.back() == Some(&ticket) {
                                tickets.pop_back();
                            }
                            let nodes = self.tickets[ticket].nodes;
                            self.begin_second(thread, nodes);
                        }
                        State::Claimed => {
                            self.threads[thread].frames.push(Frame::Promoted(ticket));
                            self.tickets[ticket].is_wanted = true;
                            self.tickets[ticket].wait_began = self.threads[thread].heartbeat.work(now);
                            self.threads[thread].mode = Mode::Leap { ticket, since: now, round: 0 };
                            return Some(now);
                        }
                        State::Done | State::Reclaimed => {}
                    },
                    Some(Frame::Half { ticket, outer_claim, outer_extra, leap }) => {
                        self.threads[thread].extra = outer_extra;
                        return Some(self.end_half(thread, now, ticket, outer_claim, leap));
                    }
                    Some(Frame::Closure) => {
                        self.end_item(thread, now);
                        self.closures_left -= 1;
                        self.last_end = self.last_end.max(now);
                        if self.closures_to_come > 0 {
                            self.closures_to_come -= 1;
                            self.submit_closure(now);
                        }
                        return Some(now);
                    }
                },
            }
        }
        Some(now)
    }

    fn begin_second(&mut self, thread: ThreadId, nodes: u64) {
        self.threads[thread].frames.push(Frame::Second);
        self.threads[thread].next = Next::Down(nodes);
    }

    fn end_item(&mut self, thread: ThreadId, now: u64) {
        self.threads[thread].heartbeat.end_item(now);
        self.threads[thread].mode = Mode::Loop;
        self.processors.end_computing(&self.threads[thread].seat);
    }

    fn end_half(
        &mut self,
        thread: ThreadId,
        mut now: u64,
        ticket: TicketId,
        outer_claim: Option<TicketId>,
        leap: Option<TicketId>,
    ) -> u64 {
        let work = self.threads[thread].heartbeat.work(now) - self.tickets[ticket].began;
        self.tickets[ticket].work = work;
        self.tickets[ticket].state = State::Done;
        if self.tickets[ticket].joiner_waits {
            let joiner = self.tickets[ticket].joiner;
            self.at(now + self.costs.latency, Event::Turn(joiner));
            now += self.costs.wake;
        }
        self.threads[thread].claim = outer_claim;
        match leap {
            Some(ticket) => {
                self.tickets[ticket].is_wanted = true;
                self.threads[thread].mode = Mode::Leap { ticket, since: now, round: 0 };
            }
            None => self.end_item(thread, now),
        }
        now
    }

    fn leap(
        &mut self,
        thread: ThreadId,
        mut now: u64,
        ticket: TicketId,
        since: u64,
        round: u32,
    ) -> Option<u64> {
        if self.tickets[ticket].state == State::Done {
            self.tickets[ticket].is_wanted = false;
            self.end_wait(thread, now, ticket);
            self.threads[thread].next = Next::Up;
            return Some(now);
        }
        let thief = self.tickets[ticket].thief.expect("a claimed half has a thief");
        now += Costs::of(&self.costs.probe, self.ring(thread, thief));
        let mut may_wait = now - since > LEAP_PATIENCE || !self.injector.is_empty() || self.closures > 0;
        if let Some(part) = self.threads[thief].tickets.pop_front() {
            if self.tickets[part].root != Some(ticket) {
                self.threads[thread].tickets.push_back(part);
                now = self.wake_if_unattended(Some(thread), now);
                may_wait = true;
            } else if self.claim(thread, part).is_some() {
                self.fetch(thread, thief, &mut now);
                let extra = self.extra(thread, part);
                let this = &mut self.threads[thread];
                self.tickets[part].began = this.heartbeat.work(now);
                let outer_claim = this.claim.replace(part);
                let outer_extra = std::mem::replace(&mut this.extra, extra);
                this.frames.push(Frame::Half { ticket: part, outer_claim, outer_extra, leap: Some(ticket) });
                this.next = Next::Down(self.tickets[part].nodes);
                this.mode = Mode::Run;
                return Some(now);
            }
        } else if round.is_multiple_of(LEAP_LOOKS_PER_REQUEST) {
            self.threads[thief].heartbeat.ask();
        }
        if may_wait {
            return self.wait(thread, now, ticket);
        }
        self.threads[thread].mode = Mode::Leap { ticket, since, round: round + 1 };
        Some(now + LEAP_LOOK)
    }

    fn wait(&mut self, thread: ThreadId, mut now: u64, ticket: TicketId) -> Option<u64> {
        self.tickets[ticket].is_wanted = false;
        self.tickets[ticket].joiner_waits = true;
        self.threads[thread].mode = Mode::Waits(ticket);
        self.threads[thread].next = Next::Up;
        self.flush_tasks(thread, now);
        let seat = self.threads[thread].seat.clone();
        if self.processors.release(&seat) && self.has_work(thread, &mut now) {
            self.wake_if_unattended(Some(thread), now + self.costs.park);
        }
        None
    }

    fn end_wait(&mut self, thread: ThreadId, now: u64, ticket: TicketId) {
        let Ticket { wait_began, work, .. } = self.tickets[ticket];
        self.threads[thread].heartbeat.waited(now, wait_began, work);
        self.threads[thread].mode = Mode::Run;
    }

    fn beat_if_due(&mut self, thread: ThreadId, now: u64) -> u64 {
        if self.threads[thread].heartbeat.is_due() { self.beat(thread, now) } else { now }
    }

    fn beat(&mut self, thread: ThreadId, now: u64) -> u64 {
        let census = self.processors.census();
        let claim = self.threads[thread].claim;
        let wanted = claim.is_some_and(|claim| self.tickets[claim].is_wanted);
        let this = &mut self.threads[thread];
        let offered = !this.tickets.is_empty();
        let may_offer = this.has_latent();
        let beat = this.heartbeat.look(now, census, may_offer, offered, wanted);
        let start = now;
        let mut now = now + self.costs.look;
        let jobs = match beat {
            Beat::Nothing => return now,
            Beat::Promote(jobs) if !offered => jobs,
            Beat::PromoteAndWake if !offered => 1,
            Beat::Spread => 1,
            Beat::Promote(_) | Beat::PromoteAndWake => 0,
        };
        for _ in 0..jobs {
            let ticket = self.tickets.len();
            let Some(nodes) = self.threads[thread].promote_oldest(ticket) else { break };
            let state = State::Offered;
            let joiner = thread;
            self.tickets.push(Ticket {
                nodes,
                state,
                joiner,
                joiner_waits: false,
                root: claim,
                thief: None,
                is_wanted: false,
                began: 0,
                work: 0,
                wait_began: 0,
            });
            self.threads[thread].tickets.push_back(ticket);
            self.outcome.promotions += 1;
            now += self.costs.promote;
        }
        match beat {
            Beat::PromoteAndWake => now = self.wake_if_unattended(Some(thread), now),
            Beat::Spread => now = self.wake(Some(thread), now),
            Beat::Promote(_) | Beat::Nothing => {}
        }
        self.threads[thread].heartbeat.has_offered(start, now);
        now
    }
}
