//! What a pool takes when there is nothing to do, and when there is something short now and then.
//!
//! Here everybody's threads are pinned, one a core, and so is the caller: unpinned, a woken thread lands on the
//! core of whoever woke it, and a region of a millisecond gets no speed-up at all, which says more about the kernel
//! than about the pools.

use std::fs;
use std::io;
use std::num::NonZero;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::clock::CpuClock;
use super::figures::{BEAT, Bars, Better, Entrant, Group, Row, SEQUENTIAL, Turn, ns};
use super::fork::searches::Work;
use super::options::Options;
use super::report::Section;
use crate::Failure;
use crate::common::fork::{Pool, beat_runtime};
use crate::common::rounds::Rounds;
use crate::common::table::{Column, Spread};

/// The time between two regions.
const PERIOD: Duration = Duration::from_millis(5);
/// What a leaf of a region takes.
const LEAF: Duration = Duration::from_micros(1);
/// How many leaves a region has: so many microseconds.
const REGIONS: [u64; 4] = [10, 100, 500, 1_000];

const RAYON_CALLER: &str = "rayon, caller as worker";
const WAKEUPS: &str = "wake-ups a second, idle";
const WAKEUPS_OPEN: &str = "wake-ups a second, idle with a region open and blocked";

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = Options::parse(parser)? else { return Ok(()) };
    let idle = Group { title: "Nothing to do".into(), id: "nothing", rows: idle_rows(&options)? };
    let regions = Group { title: "A region every 5 ms".into(), id: "regions", rows: region_rows(&options)? };
    let bars = if options.workers == 2 { bars(&idle, &regions) } else { Bars::default() };
    let section = Section {
        suite: "idle",
        setup: format!(
            "Medians of {} interleaved rounds, on {} workers, pinned one a core, and so is the caller. A region is \
             entered from a thread that is none of the pool's, forks by halves down to leaves of 1 µs, and comes {} ms \
             after the one before. A wake-up is a voluntary context switch of any thread but the measuring one.",
            options.rounds(),
            options.workers,
            PERIOD.as_millis(),
        ),
        groups: [idle, regions].into_iter().filter(|group| !group.rows.is_empty()).collect(),
        bars: bars.0,
    };
    section.publish(&options)
}

// ----- nothing to do -----

/// A pool with a piece of work in it that waits for us, or without.
fn idle_rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let names =
        [(WAKEUPS, "CPU, idle", false), (WAKEUPS_OPEN, "CPU, idle with a region open and blocked", true)];
    for (wakeups, cpu, open) in names.into_iter().filter(|(name, ..)| options.wants(name)) {
        let mut switched = Row::new(wakeups, "/s", Better::Less);
        let mut used = Row::new(cpu, "ms/s", Better::Less);
        for column in [Column::Beat, Column::Rayon, Column::Chili] {
            let idle = || Idle::measure(column, options, open);
            let all = (0..options.pick(5, 1)).map(|_| idle()).collect::<io::Result<Vec<_>>>()?;
            switched.set(column.name(), all.iter().map(|idle| idle.switches).collect());
            used.set(column.name(), all.iter().map(|idle| idle.cpu).collect());
        }
        rows.extend([switched, used]);
    }
    Ok(rows)
}

/// Of a second.
#[derive(Clone, Copy, Debug)]
struct Idle {
    switches: f64,
    /// In milliseconds.
    cpu: f64,
}

impl Idle {
    /// The process has nothing but this pool and the measuring thread.
    fn measure(column: Column, options: &Options, open: bool) -> io::Result<Self> {
        let pool = Pool::new(column, options.workers, None);
        let (close, closed) = mpsc::channel::<()>();
        thread::scope(|scope| {
            if open {
                let pool = &pool;
                let (opened, is_open) = mpsc::channel();
                scope.spawn(move || block_inside(pool, opened, closed));
                is_open.recv().map_err(io::Error::other)?;
            }
            // Until those that have been woken sleep again.
            thread::sleep(options.pick(Duration::from_secs(1), Duration::from_millis(200)));
            let time = options.pick(Duration::from_secs(2), Duration::from_millis(300));
            let (switches, cpu) = (other_switches()?, other_cpu());
            thread::sleep(time);
            let (switches, cpu) = (other_switches()? - switches, other_cpu().saturating_sub(cpu));
            drop(close);
            let seconds = time.as_secs_f64();
            Ok(Self { switches: switches as f64 / seconds, cpu: cpu.as_secs_f64() * 1e3 / seconds })
        })
    }
}

/// Enters a region and waits in it, without computing, until the channel is closed.
fn block_inside(pool: &Pool, opened: mpsc::Sender<()>, closed: mpsc::Receiver<()>) {
    let wait = move || {
        let _ = opened.send(());
        // An error is what is waited for.
        let _ = closed.recv();
    };
    match pool {
        Pool::Sequential => wait(),
        Pool::Beat(runtime) => {
            let closure = runtime.spawn_blocking_parallel(move || beat::join(wait, || ()));
            runtime.block_on(closure).expect("the closure ends");
        }
        Pool::Rayon(pool) => drop(pool.install(move || rayon::join(wait, || ()))),
        Pool::Chili(pool) => drop(pool.scope().join(move |_| wait(), |_| ())),
    }
}

/// Voluntary switches of all threads but the calling one.
fn other_switches() -> io::Result<u64> {
    let own = own_tid().to_string();
    let mut switches = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        if thread.file_name().to_str() == Some(&own) {
            continue;
        }
        // One that has ended meanwhile has no status.
        let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        switches += line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(switches)
}

/// CPU time of all threads but the calling one.
fn other_cpu() -> Duration {
    let own = CpuClock::of_this_thread().elapsed();
    CpuClock::own().elapsed().saturating_sub(own)
}

fn own_tid() -> libc::pid_t {
    // SAFETY: it has no conditions.
    unsafe { libc::gettid() }
}

// ----- a region now and then -----

/// So many leaves, forked by halves.
#[derive(Clone, Copy, Debug)]
struct Region {
    leaf: Work,
    leaves: u64,
}

impl Region {
    fn sequential(self) -> u64 {
        (0..self.leaves).map(|index| self.leaf.run(index)).fold(0, u64::wrapping_add)
    }

    fn beat(self, from: u64, to: u64) -> u64 {
        if to - from == 1 {
            return self.leaf.run(from);
        }
        let middle = from.midpoint(to);
        let (a, b) = beat::join(move || self.beat(from, middle), move || self.beat(middle, to));
        a.wrapping_add(b)
    }

    fn rayon(self, from: u64, to: u64) -> u64 {
        if to - from == 1 {
            return self.leaf.run(from);
        }
        let middle = from.midpoint(to);
        let (a, b) = rayon::join(move || self.rayon(from, middle), move || self.rayon(middle, to));
        a.wrapping_add(b)
    }

    fn chili(self, scope: &mut chili::Scope<'_>, from: u64, to: u64) -> u64 {
        if to - from == 1 {
            return self.leaf.run(from);
        }
        let middle = from.midpoint(to);
        let (a, b) = scope.join(move |s| self.chili(s, from, middle), move |s| self.chili(s, middle, to));
        a.wrapping_add(b)
    }

    /// Called from a thread outside the pool; on Beat that thread forks itself, as a guest.
    fn on(self, pool: &Pool) -> u64 {
        match pool {
            Pool::Sequential => self.sequential(),
            Pool::Beat(runtime) => {
                let _entered = runtime.enter();
                self.beat(0, self.leaves)
            }
            Pool::Rayon(pool) => pool.install(|| self.rayon(0, self.leaves)),
            Pool::Chili(pool) => self.chili(&mut pool.scope(), 0, self.leaves),
        }
    }
}

/// Who runs regions.
enum Caller {
    Outside(Pool),
    /// The caller hands a closure over, and waits.
    BeatClosure(beat::Runtime),
    /// The caller is a thread of the pool.
    RayonInside {
        _pool: rayon::ThreadPool,
    },
}

impl Caller {
    fn region(&self, region: Region) -> u64 {
        let leaves = region.leaves;
        match self {
            Self::Outside(pool) => region.on(pool),
            Self::BeatClosure(runtime) => {
                let closure = runtime.spawn_blocking_parallel(move || region.beat(0, leaves));
                runtime.block_on(closure).expect("the closure ends")
            }
            Self::RayonInside { .. } => region.rayon(0, leaves),
        }
    }
}

/// A region of a millisecond, from a caller that is not pinned, on pools that somebody else has made; the caller of a
/// runtime of Beat's forks itself.
pub(super) fn region_on(options: &Options, pools: &[(&'static str, &Pool)]) -> Row {
    let region = Region { leaf: Work::lasting(LEAF), leaves: 1_000 };
    let expected = region.sequential();
    let rounds = Rounds { rounds: options.rounds(), turns: 1 };
    let regions = options.pick(40, 5);
    let entrants = pools.iter().map(|&(who, pool)| {
        Entrant::new(who, move || turn(|region| region.on(pool), region, expected, regions))
    });
    Row::of_turns(region_name(region.leaves), rounds, &rounds.interleave(entrants.collect()))
}

/// Latencies and CPU time of regions, in nanoseconds: medians of a turn.
fn turn(run: impl Fn(Region) -> u64, region: Region, expected: u64, regions: u64) -> Turn {
    let clock = CpuClock::own();
    let mut walls = Vec::new();
    let cpu = clock.elapsed();
    for _ in 0..regions {
        thread::sleep(PERIOD);
        let began = Instant::now();
        let result = run(std::hint::black_box(region));
        walls.push(ns(began.elapsed()));
        assert_eq!(result, expected);
    }
    let cpu = ns(clock.elapsed() - cpu) / regions as f64;
    Turn { wall: Spread::of(walls).median, cpu }
}

fn region_rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let leaf = Work::lasting(LEAF);
    let sizes: Vec<_> = REGIONS.into_iter().filter(|size| options.wants(&region_name(*size))).collect();
    if sizes.is_empty() {
        return Ok(Vec::new());
    }
    // A thread of its own, since it is pinned and becomes a thread of rayon's.
    let measuring = thread::spawn({
        let options = options.clone();
        move || measure_regions(&options, leaf, &sizes)
    });
    Ok(measuring.join().map_err(|_| "a region had a wrong result")??)
}

fn region_name(us: u64) -> String {
    format!("region of {us} µs every 5 ms")
}

fn measure_regions(options: &Options, leaf: Work, sizes: &[u64]) -> io::Result<Vec<Row>> {
    // Threads inherit a pin, so theirs come first.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let callers = callers(options.workers, cores)?;
    pin(own_tid(), 0)?;
    let rounds = Rounds { rounds: options.rounds(), turns: 1 };
    let regions = options.pick(40, 5);
    let row = |leaves: &u64| {
        let region = Region { leaf, leaves: *leaves };
        let expected = region.sequential();
        let entrants = callers.iter().map(|(who, caller)| {
            Entrant::new(*who, move || turn(|region| caller.region(region), region, expected, regions))
        });
        Row::of_turns(region_name(*leaves), rounds, &rounds.interleave(entrants.collect()))
    };
    Ok(sizes.iter().map(row).collect())
}

/// Everybody who runs regions; the threads of each are pinned as soon as they are there.
fn callers(workers: usize, cores: usize) -> io::Result<Vec<(&'static str, Caller)>> {
    let others = |from| move |index: usize| (from + index) % cores;
    let beat = beat_runtime(workers, None);
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(workers);
    let outside = pinned(others(0), || rayon.build().map_err(io::Error::other))?;
    let rayon = rayon::ThreadPoolBuilder::new().num_threads(workers).use_current_thread();
    let inside = pinned(others(1), || rayon.build().map_err(io::Error::other))?;
    let config = chili::Config { thread_count: NonZero::new(workers), ..chili::Config::default() };
    // Its caller computes too; who of its threads beats and who works, it does not say.
    let chili = pinned(others(1), || Ok(chili::ThreadPool::with_config(config)))?;
    Ok(vec![
        (SEQUENTIAL, Caller::Outside(Pool::Sequential)),
        (BEAT, Caller::Outside(Pool::Beat(beat))),
        ("beat, as a closure", Caller::BeatClosure(beat_runtime(workers, None))),
        (Column::Rayon.name(), Caller::Outside(Pool::Rayon(outside))),
        (RAYON_CALLER, Caller::RayonInside { _pool: inside }),
        (Column::Chili.name(), Caller::Outside(Pool::Chili(chili))),
    ])
}

/// Makes a pool, and pins the threads that have come by that to the cores that `core` says, in turn.
fn pinned<T>(core: impl Fn(usize) -> usize, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = tids()?;
    let made = make()?;
    // They have been started, if not yet run.
    let new = tids()?.into_iter().filter(|tid| !before.contains(tid));
    for (index, tid) in new.enumerate() {
        pin(tid, core(index))?;
    }
    Ok(made)
}

fn tids() -> io::Result<Vec<libc::pid_t>> {
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name());
    let names = fs::read_dir("/proc/self/task")?.map(name).collect::<io::Result<Vec<_>>>()?;
    let mut tids: Vec<_> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    tids.sort_unstable();
    Ok(tids)
}

pub(super) fn pin(tid: libc::pid_t, core: usize) -> io::Result<()> {
    // SAFETY: zeroes are an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set has room for more cores than these.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the kernel reads as many bytes as the set has.
    let refused = unsafe { libc::sched_setaffinity(tid, size_of::<libc::cpu_set_t>(), &raw const set) };
    if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// For two workers.
fn bars(idle: &Group, regions: &Group) -> Bars {
    let mut bars = Bars::default();
    for name in [WAKEUPS, WAKEUPS_OPEN] {
        bars.at_most(name, idle.row(name).and_then(|row| row.median(BEAT)), 0.0);
    }
    if let Some(short) = regions.row(&region_name(REGIONS[0])) {
        bars.at_most(
            format!("{}: latency, Beat ÷ sequential", short.what),
            short.over_sequential(BEAT),
            10.6 / 10.1,
        );
        let cpu = short.cpu(BEAT).zip(short.cpu(SEQUENTIAL)).map(|(own, plain)| own / plain);
        bars.at_most(format!("{}: CPU, Beat ÷ sequential", short.what), cpu, 31.0 / 28.0);
    }
    for (us, limit) in [(100, 88.0 / 80.0), (500, 290.0 / 287.0), (1_000, 570.0 / 569.0)] {
        bars.ratio_at_most(regions.row(&region_name(us)), RAYON_CALLER, limit);
    }
    bars
}
