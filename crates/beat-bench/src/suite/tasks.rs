//! Tasks: spawning, yielding, waking, and the memory of one that waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::allocations;
use super::executors::{AsyncExecutor, CurrentThread, FuturesPool};
use super::figures::{Bars, Better, Entrant, Group, Row, SEQUENTIAL, Turn, ns};
use super::options::Options;
use super::report::Section;
use crate::Failure;
use crate::common::fork::beat_runtime;
use crate::common::idle::{self, INTERVAL, Latency};
use crate::common::rounds::Rounds;
use crate::common::tasks::{self, Executor, tokio_runtime};

const TOKIO: &str = "tokio multi-thread";

const FROM_OUTSIDE: &str = "spawn and join 10,000 tasks from outside, each";
const FROM_WORKER: &str = "spawn and join 10,000 tasks from a worker, each";
const YIELD: &str = "yield, 200 tasks, each";
const PING_PONG: &str = "ping-pong of 1,000 pairs, each";
const CHAIN: &str = "chained spawn, each";
const WAKE_P50: &str = "wake-up of an idle runtime, p50";
const WAKE_P99: &str = "wake-up of an idle runtime, p99";
const BYTES: &str = "bytes of an idle task (64 B future)";
const ALLOCATIONS: &str = "allocations of an idle task";

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = Options::parse(parser)? else { return Ok(()) };
    let speed = Group { title: "Tasks".into(), id: "tasks", rows: rows(&options) };
    let idle = Group { title: "Wake-ups and memory".into(), id: "idle", rows: idle_rows(&options) };
    let bars = if options.workers == 2 { bars(&speed, &idle) } else { Bars::default() };
    let section = Section {
        suite: "async",
        setup: format!(
            "Medians of {} interleaved rounds, on {} workers. Sequential: the same futures polled by hand on one \
             thread; of a wake-up: a thread is unparked. A wake-up comes from another thread, every {} ms or later, when the last has been heard. Memory: \
             live bytes after as many spawns, over their number, without those that the runtime had before.",
            options.rounds(),
            options.workers,
            INTERVAL.as_millis(),
        ),
        groups: [speed, idle].into_iter().filter(|group| !group.rows.is_empty()).collect(),
        bars: bars.0,
    };
    section.publish(&options)
}

/// Everybody who runs tasks.
struct Runtimes {
    beat: beat::Runtime,
    tokio: tokio::runtime::Runtime,
    current: CurrentThread,
    executor: AsyncExecutor,
    futures: FuturesPool,
}

impl Runtimes {
    fn new(workers: usize) -> Self {
        Self {
            beat: beat_runtime(workers, None),
            tokio: tokio_runtime(workers),
            current: CurrentThread::new(),
            executor: AsyncExecutor::new(workers, false),
            futures: FuturesPool::new(workers),
        }
    }

    /// An entrant for each.
    fn entrants<'a, T: 'a>(&'a self, program: impl Scenario<T> + 'a) -> Vec<Entrant<'a, T>> {
        vec![
            Entrant::new("beat", move || program.run(&self.beat)),
            Entrant::new(TOKIO, move || program.run(&self.tokio)),
            Entrant::new("tokio current-thread", move || program.run(&self.current)),
            Entrant::new("async-executor", move || program.run(&self.executor)),
            Entrant::new("futures ThreadPool", move || program.run(&self.futures)),
        ]
    }
}

/// What one turn does on a runtime.
trait Scenario<T>: Copy {
    fn run<E: Executor + 'static>(self, runtime: &E) -> T;
}

/// Programs of tasks, of so many operations.
#[derive(Clone, Copy, Debug)]
enum Program {
    SpawnFromOutside(u64),
    SpawnFromWorker(u64),
    Yield(u64, u64),
    PingPong(u64),
    Chain(u64),
}

impl Program {
    fn operations(self) -> u64 {
        match self {
            Self::Yield(tasks, times) => tasks * times,
            Self::SpawnFromOutside(n) | Self::SpawnFromWorker(n) | Self::PingPong(n) | Self::Chain(n) => n,
        }
    }

    fn by_hand(self) -> Turn {
        let turn = Turn::of(|| match self {
            Self::SpawnFromOutside(n) | Self::SpawnFromWorker(n) | Self::Chain(n) => tasks::call(n),
            Self::Yield(tasks, times) => tasks::yields_by_hand(tasks, times),
            Self::PingPong(n) => tasks::ping_pong_by_hand(n),
        });
        turn.each(self.operations())
    }
}

impl Scenario<Turn> for Program {
    fn run<E: Executor + 'static>(self, runtime: &E) -> Turn {
        let mut wall = 0.0;
        let turn = Turn::of(|| match self {
            Self::SpawnFromOutside(n) => wall = time(|| tasks::spawn_from_outside(runtime, n)),
            Self::SpawnFromWorker(n) => wall = on_a_worker(runtime, tasks::spawn_from_a_worker::<E>(n)),
            Self::Yield(tasks, times) => wall = on_a_worker(runtime, tasks::yields::<E>(tasks, times)),
            Self::PingPong(n) => wall = on_a_worker(runtime, tasks::ping_pong_at_once::<E>(n)),
            Self::Chain(n) => wall = on_a_worker(runtime, tasks::chain::<E>(n)),
        });
        Turn { wall, cpu: turn.cpu }.each(self.operations())
    }
}

fn time(run: impl FnOnce()) -> f64 {
    let began = Instant::now();
    run();
    ns(began.elapsed())
}

/// How long a future takes in a task.
fn on_a_worker<E: Executor>(runtime: &E, future: impl Future<Output = ()> + Send + 'static) -> f64 {
    runtime.run(async move {
        let began = Instant::now();
        future.await;
        ns(began.elapsed())
    })
}

fn rounds_of_programs(options: &Options) -> Rounds {
    Rounds { rounds: options.rounds(), turns: options.pick(5, 1) }
}

/// Those that are wanted.
fn programs(options: &Options) -> Vec<(&'static str, Program)> {
    let few = options.pick(10, 1);
    let programs = [
        (FROM_OUTSIDE, Program::SpawnFromOutside(1_000 * few)),
        (FROM_WORKER, Program::SpawnFromWorker(1_000 * few)),
        (YIELD, Program::Yield(200, 100 * few)),
        (PING_PONG, Program::PingPong(100 * few)),
        (CHAIN, Program::Chain(1_000 * few)),
    ];
    programs.into_iter().filter(|(name, _)| options.wants(name)).collect()
}

/// The rows of times.
pub(super) fn rows(options: &Options) -> Vec<Row> {
    let rounds = rounds_of_programs(options);
    let wanted = programs(options);
    if wanted.is_empty() {
        return Vec::new();
    }
    let runtimes = Runtimes::new(options.workers);
    let row = |(name, program): (&str, Program)| {
        let mut entrants = vec![Entrant::new(SEQUENTIAL, move || program.by_hand())];
        entrants.extend(runtimes.entrants(program));
        Row::of_turns(name, rounds, &rounds.interleave(entrants))
    };
    wanted.into_iter().map(row).collect()
}

/// A few of the programs, on runtimes that somebody else has made.
pub(super) fn on_runtimes(
    options: &Options,
    beat: &[(&'static str, &beat::Runtime)],
    tokio: (&'static str, &tokio::runtime::Runtime),
) -> Vec<Row> {
    let rounds = rounds_of_programs(options);
    let row = |(name, program): (&str, Program)| {
        let mut entrants: Vec<_> =
            beat.iter().map(|&(who, runtime)| Entrant::new(who, move || program.run(runtime))).collect();
        entrants.push(Entrant::new(tokio.0, move || program.run(tokio.1)));
        Row::of_turns(name, rounds, &rounds.interleave(entrants))
    };
    let few = |(name, _): &(&str, Program)| [FROM_WORKER, YIELD, PING_PONG].contains(name);
    programs(options).into_iter().filter(few).map(row).collect()
}

// ----- idle -----

/// Waking a task of an idle runtime so many times.
#[derive(Clone, Copy, Debug)]
struct Wakes(u64);

impl Scenario<Latency> for Wakes {
    fn run<E: Executor + 'static>(self, runtime: &E) -> Latency {
        idle::wake_a_task(runtime, self.0)
    }
}

/// Spawning so many tasks that only wait; bytes and allocations of each.
#[derive(Clone, Copy, Debug)]
struct Idlers(u64);

/// A future of 64 bytes that is never ready, but when told to end.
#[derive(Debug)]
struct Idler {
    end: &'static End,
    _ballast: [u64; 7],
}

/// Tells all idlers of a turn to end, so that they are there for the turn only.
#[derive(Debug, Default)]
struct End {
    wakers: Mutex<(bool, Vec<Waker>)>,
    begun: AtomicU64,
    ended: AtomicU64,
}

impl Future for Idler {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut wakers = self.end.wakers.lock().expect("nobody panics here");
        if wakers.0 {
            return Poll::Ready(());
        }
        // There is room for it: the list is made before anybody counts.
        wakers.1.push(cx.waker().clone());
        self.end.begun.fetch_add(1, Release);
        Poll::Pending
    }
}

impl Drop for Idler {
    fn drop(&mut self) {
        self.end.ended.fetch_add(1, Release);
    }
}

impl Scenario<(f64, f64)> for Idlers {
    fn run<E: Executor + 'static>(self, runtime: &E) -> (f64, f64) {
        let Self(count) = self;
        let end: &'static End = Box::leak(Box::default());
        end.wakers.lock().expect("nobody panics here").1.reserve(count as usize);
        assert_eq!(size_of::<Idler>(), 64);
        let (bytes, calls) = allocations::of_all_threads(|| {
            runtime.run(async move {
                for spawned in 1..=count {
                    E::spawn_detached(Idler { end, _ballast: [0; 7] });
                    // Queues stay short: what they hold is not the tasks'.
                    while spawned % 64 == 0 && end.begun.load(Acquire) < spawned {
                        E::yield_now().await;
                    }
                }
            });
            // Acquire pairs with the addition in `poll`.
            while end.begun.load(Acquire) < count {
                std::thread::yield_now();
            }
        });
        let wakers = {
            let mut wakers = end.wakers.lock().expect("nobody panics here");
            wakers.0 = true;
            std::mem::take(&mut wakers.1)
        };
        wakers.into_iter().for_each(Waker::wake);
        // Acquire pairs with the addition in `drop`. What ends now must not be in the next turn's count.
        while end.ended.load(Acquire) < count {
            std::thread::yield_now();
        }
        (bytes as f64 / count as f64, calls as f64 / count as f64)
    }
}

fn idle_rows(options: &Options) -> Vec<Row> {
    let mut rows = Vec::new();
    if [WAKE_P50, WAKE_P99].iter().any(|name| options.wants(name)) {
        let rounds = Rounds { rounds: options.rounds(), turns: 1 };
        let wakes = options.pick(1_000, 50);
        let runtimes = Runtimes::new(options.workers);
        let mut entrants = vec![Entrant::new(SEQUENTIAL, move || idle::unpark_a_thread(wakes))];
        entrants.extend(runtimes.entrants(Wakes(wakes)));
        let measured = rounds.interleave(entrants);
        for (name, part) in [
            (WAKE_P50, (|latency: &Latency| latency.p50) as fn(&Latency) -> f64),
            (WAKE_P99, |latency: &Latency| latency.p99),
        ] {
            let mut row = Row::new(name, "µs", Better::Less);
            for (who, turns) in &measured {
                row.set(who, turns.iter().map(part).collect());
            }
            rows.push(row);
        }
    }
    if [BYTES, ALLOCATIONS].iter().any(|name| options.wants(name)) {
        rows.extend(memory(options));
    }
    rows
}

fn memory(options: &Options) -> [Row; 2] {
    let count = options.pick(100_000, 1_000);
    let turn = || {
        // New ones: registries that have grown stay as they are.
        let runtimes = Runtimes::new(options.workers);
        let turn = |mut entrant: Entrant<'_, (f64, f64)>| (entrant.who, (entrant.turn)());
        runtimes.entrants(Idlers(count)).into_iter().map(turn).collect::<Vec<_>>()
    };
    let turns: Vec<_> = (0..3).map(|_| turn()).collect();
    let mut rows = [Row::new(BYTES, "B", Better::Less), Row::new(ALLOCATIONS, "", Better::Less)];
    for (entrant, (who, _)) in turns[0].iter().enumerate() {
        let of = |part: fn((f64, f64)) -> f64| turns.iter().map(|turn| part(turn[entrant].1)).collect();
        rows[0].set(who, of(|(bytes, _)| bytes));
        rows[1].set(who, of(|(_, allocations)| allocations));
    }
    rows
}

/// For two workers.
fn bars(speed: &Group, idle: &Group) -> Bars {
    let mut bars = Bars::default();
    for (name, limit) in
        [(FROM_OUTSIDE, 0.5), (FROM_WORKER, 0.33), (PING_PONG, 0.4), (CHAIN, 0.5), (YIELD, 1.0)]
    {
        bars.ratio_at_most(speed.row(name), TOKIO, limit);
    }
    bars.ratio_at_most(idle.row(WAKE_P50), TOKIO, 0.4);
    bars.ratio_at_most(idle.row(WAKE_P99), TOKIO, 0.9);
    // Queues and registries that grow allocate now and then.
    for (name, limit) in [(BYTES, 160.0), (ALLOCATIONS, 1.05)] {
        bars.at_most(name, idle.row(name).and_then(|row| row.median("beat")), limit);
    }
    bars
}
