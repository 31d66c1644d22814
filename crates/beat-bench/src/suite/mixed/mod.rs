//! Light requests while closures saturate every core.
//!
//! [Requests](light) are tasks spawned from outside, and echoes; [closures](heavy) fork, or run long, or are short;
//! [engines](engine) are Beat, and tokio with everything that people put beside it. Each round starts an engine
//! anew. A [probe](super::search::floor) of the highest priority shows what the machine itself took meanwhile.

mod engine;
mod heavy;
mod light;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use self::engine::{Engine, Running};
use self::heavy::{Heavy, Kind, LEAF};
use self::light::{Generator, Light, Load};
use super::clock::CpuClock;
use super::figures::{Bars, Better, Entrant, Figure, Group, Row};
use super::fork::searches::Work;
use super::options::Options;
use super::priority::Priority;
use super::report::Section;
use super::search::floor::Floor;
use super::search::light::histogram;
use super::slices;
use super::stalls::neighbours::Neighbours;
use crate::Failure;
use crate::common::rounds::Rounds;
use crate::common::table::Spread;

/// Light requests of each engine in each scenario, over all rounds.
const REQUESTS: u64 = 100_000;

/// A load.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    id: &'static str,
    title: &'static str,
    kind: Kind,
    /// Closures under way at any time.
    outstanding: usize,
    /// Light requests a second.
    rate: u64,
    engines: &'static [Engine],
}

const CHOSEN: &[Engine] = &[Engine::Beat, Engine::TokioRayon, Engine::RayonYielding];

const SCENARIOS: [Scenario; 7] = [
    Scenario {
        id: "none",
        title: "no heavy work, 2,000 requests a second",
        kind: Kind::Short,
        outstanding: 0,
        rate: 2_000,
        engines: &[Engine::Beat, Engine::TokioRayon],
    },
    Scenario {
        id: "forking",
        title: "forking closures, 4 outstanding, 2,000 requests a second",
        kind: Kind::Forking,
        outstanding: 4,
        rate: 2_000,
        engines: &Engine::ALL,
    },
    Scenario {
        id: "long",
        title: "closures of 5 ms that never fork, 4 outstanding, 2,000 requests a second",
        kind: Kind::Long,
        outstanding: 4,
        rate: 2_000,
        engines: &Engine::ALL,
    },
    Scenario {
        id: "short",
        title: "closures of 50 µs, 16 outstanding, 2,000 requests a second",
        kind: Kind::Short,
        outstanding: 16,
        rate: 2_000,
        engines: &Engine::ALL,
    },
    Scenario {
        id: "forking16",
        title: "forking closures, 16 outstanding, 2,000 requests a second",
        kind: Kind::Forking,
        outstanding: 16,
        rate: 2_000,
        engines: &[
            Engine::Beat,
            Engine::TokioRayon,
            Engine::RayonYielding,
            Engine::SpawnBlocking,
            Engine::BlockInPlace,
        ],
    },
    Scenario {
        id: "fast",
        title: "forking closures, 4 outstanding, 10,000 requests a second",
        kind: Kind::Forking,
        outstanding: 4,
        rate: 10_000,
        engines: CHOSEN,
    },
    Scenario {
        id: "slow",
        title: "forking closures, 4 outstanding, 500 requests a second",
        kind: Kind::Forking,
        outstanding: 4,
        rate: 500,
        engines: CHOSEN,
    },
];

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = Options::parse(parser)? else { return Ok(()) };
    let has_slices = slices::are_known();
    let measuring = Measuring { options: &options, leaf: Work::lasting(LEAF), floor: Floor::start()? };
    let mut groups = Vec::new();
    let mut generator = Priority::Ordinary;
    for scenario in SCENARIOS.iter().filter(|scenario| options.wants(scenario.title)) {
        let (group, priority) = measuring.group(scenario)?;
        generator = priority;
        groups.push(group);
    }
    let bars = if options.workers == 2 { bars(&groups, has_slices) } else { Bars::default() };
    let section = Section {
        suite: "mixed",
        setup: format!(
            "{} light requests for each engine and load, in {} interleaved rounds, on {} workers: half are spawned from \
             outside, half are echoes on 32 connections; a handler takes 5 µs. Open loop, µs from the scheduled send; \
             quantiles are of all rounds together, in brackets those of the best and of the worst round. The generator \
             runs at {generator}. Heavy work is counted in leaves of 50 µs; cores are leaves done, times 50 µs, over \
             the time. Slices of threads are {} by this kernel.",
            requests(&options) * options.rounds() as u64,
            options.rounds(),
            options.workers,
            if has_slices { "known" } else { "not known" },
        ),
        groups,
        bars: bars.0,
    };
    section.publish(&options)
}

/// The forking closures' load with so many workers.
pub(super) fn forking_rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let measuring = Measuring { options, leaf: Work::lasting(LEAF), floor: Floor::start()? };
    let scenario = Scenario { engines: CHOSEN, ..SCENARIOS[1] };
    Ok(measuring.group(&scenario)?.0.rows)
}

/// Of one round.
fn requests(options: &Options) -> u64 {
    options.pick(REQUESTS.div_ceil(options.rounds() as u64), 200)
}

/// What a round of an engine has measured.
#[derive(Debug)]
struct Round {
    light: Light,
    floor: Histogram<u64>,
    /// In cores, like what follows.
    heavy: f64,
    generator: f64,
    process: f64,
    others: f64,
}

struct Measuring<'o> {
    options: &'o Options,
    leaf: Work,
    floor: Floor,
}

impl Measuring<'_> {
    fn group(&self, scenario: &Scenario) -> Result<(Group, Priority), Failure> {
        let engines = scenario.engines.iter().filter(|engine| engine.runs(scenario.kind));
        let entrants =
            engines.map(|engine| Entrant::new(engine.name(), move || self.round(*engine, scenario)));
        let rounds = Rounds { rounds: self.options.rounds(), turns: 1 };
        let measured = rounds.interleave(entrants.collect());
        let mut all = Vec::new();
        for (who, turns) in measured {
            all.push((who, turns.into_iter().collect::<Result<Vec<Round>, Failure>>()?));
        }
        let unanswered: u64 =
            all.iter().flat_map(|(_, rounds)| rounds).map(|round| round.light.unanswered).sum();
        if unanswered > 0 {
            return Err(format!("{unanswered} requests were not answered ({})", scenario.title).into());
        }
        let priority = all[0].1[0].light.priority;
        Ok((Group { title: scenario.title.into(), id: scenario.id, rows: rows(&all) }, priority))
    }

    /// Starts an engine, loads it, and measures after a warm-up.
    fn round(&self, engine: Engine, scenario: &Scenario) -> Result<Round, Failure> {
        let running = engine.start(self.options.workers)?;
        let heavy = Heavy::new(scenario.kind, self.leaf, engine.yields());
        let outstanding = Outstanding::start(&running, &heavy, scenario.outstanding);
        let mut generator = Generator::connect(&running)?;
        let rate = scenario.rate;
        generator.run(Load { requests: self.options.pick(rate / 2, rate / 10), rate })?;

        self.floor.take();
        let (neighbours, own) = (Neighbours::watch()?, CpuClock::own());
        let (done, cpu, began) = (heavy.done(), own.elapsed(), Instant::now());
        let light = generator.run(Load { requests: requests(self.options), rate })?;
        let (done, cpu, wall) = (heavy.done() - done, own.elapsed() - cpu, began.elapsed());
        let cores = |time: Duration| time.as_secs_f64() / wall.as_secs_f64();
        let round = Round {
            floor: self.floor.take().0,
            heavy: cores(LEAF) * done as f64,
            generator: cores(light.cpu),
            process: cores(cpu),
            others: neighbours.cores()?,
            light,
        };
        outstanding.stop();
        Ok(round)
    }
}

/// Closures that are under way until told to stop.
struct Outstanding {
    goes_on: Arc<AtomicBool>,
    left: Arc<AtomicUsize>,
}

impl Outstanding {
    fn start(running: &Running, heavy: &Heavy, count: usize) -> Self {
        let this = Self { goes_on: Arc::new(AtomicBool::new(true)), left: Arc::new(AtomicUsize::new(count)) };
        for _ in 0..count {
            let (goes_on, left) = (Arc::clone(&this.goes_on), Arc::clone(&this.left));
            running.run_closures(heavy.clone(), move || {
                let goes_on = goes_on.load(SeqCst);
                if !goes_on {
                    left.fetch_sub(1, SeqCst);
                }
                goes_on
            });
        }
        this
    }

    /// Waits for those that have begun.
    fn stop(self) {
        self.goes_on.store(false, SeqCst);
        while self.left.load(SeqCst) > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

const SPAWN_P50: &str = "spawn, p50";
const SPAWN_P99: &str = "spawn, p99";
const SPAWN_P999: &str = "spawn, p99.9";
const ECHO_P99: &str = "echo, p99";
const ECHO_P999: &str = "echo, p99.9";
const HEAVY: &str = "heavy work";
const GENERATOR: &str = "the generator's own CPU";
const PROCESS: &str = "CPU of the process";
const FLOOR_P999: &str = "the machine: how late a real-time thread woke, p99.9";

type Latencies = fn(&Round) -> &Histogram<u64>;
type Cores = fn(&Round) -> f64;

fn rows(all: &[(&'static str, Vec<Round>)]) -> Vec<Row> {
    let (spawns, echoes): (Latencies, Latencies) = (|round| &round.light.spawns, |round| &round.light.echoes);
    let latencies: [(&str, Latencies, f64); 8] = [
        (SPAWN_P50, spawns, 0.5),
        (SPAWN_P99, spawns, 0.99),
        (SPAWN_P999, spawns, 0.999),
        ("echo, p50", echoes, 0.5),
        (ECHO_P99, echoes, 0.99),
        (ECHO_P999, echoes, 0.999),
        ("the machine: how late a real-time thread woke, p99", |round| &round.floor, 0.99),
        (FLOOR_P999, |round| &round.floor, 0.999),
    ];
    let cores: [(&str, Better, Cores); 4] = [
        (HEAVY, Better::More, |round| round.heavy),
        (GENERATOR, Better::Less, |round| round.generator),
        (PROCESS, Better::Less, |round| round.process),
        ("others' CPU", Better::Less, |round| round.others),
    ];
    let mut rows = Vec::new();
    for (name, of, quantile) in latencies {
        let mut row = Row::new(name, "µs", Better::Less);
        for (who, rounds) in all {
            let value = pooled(rounds, of, quantile);
            row.figures.push(Figure { who, value, turns: Vec::new(), cpu: None });
        }
        rows.push(row);
    }
    for (name, better, of) in cores {
        let mut row = Row::new(name, "cores", better);
        for (who, rounds) in all {
            row.set(who, rounds.iter().map(of).collect());
        }
        rows.push(row);
    }
    rows
}

/// A quantile of all rounds together, in µs, with the least and the greatest of single rounds.
fn pooled(rounds: &[Round], of: Latencies, quantile: f64) -> Spread {
    let at = |latencies: &Histogram<u64>| latencies.value_at_quantile(quantile) as f64 / 1e3;
    let mut all = histogram();
    for round in rounds {
        all += of(round);
    }
    let single = Spread::of(rounds.iter().map(|round| at(of(round))).collect());
    Spread { median: at(&all), ..single }
}

/// For two workers.
fn bars(groups: &[Group], has_slices: bool) -> Bars {
    let mut bars = Bars::default();
    let group = |id: &str| groups.iter().find(|group| group.id == id);
    let (plain, yielding) = (Engine::TokioRayon.name(), Engine::RayonYielding.name());
    if let Some(forking) = group("forking") {
        let row = |name: &str| forking.row(name);
        bars.ratio_at_most(row(SPAWN_P50), yielding, 35.0 / 31.0);
        bars.ratio_at_most(row(SPAWN_P99), yielding, 75.0 / 78.0);
        at_most_or_floor(&mut bars, forking, SPAWN_P999, 200.0 / 493.0);
        bars.ratio_at_most(row(ECHO_P99), yielding, 1.0);
        at_most_or_floor(&mut bars, forking, ECHO_P999, 250.0 / 486.0);
        bars.ratio_at_least(row(HEAVY), plain, 1.01);
        let of_beat = |group: &Group, name: &str| group.row(name).and_then(|row| row.median("beat"));
        let light = group("none").and_then(|none| Some(of_beat(none, PROCESS)? - of_beat(none, GENERATOR)?));
        let left = light.and_then(|light| Some(2.0 - light - of_beat(forking, GENERATOR)?));
        let share = left.and_then(|left| Some(of_beat(forking, HEAVY)? / left));
        bars.at_least("heavy work ÷ the CPU that light work (alone) and generator leave", share, 0.98);
    }
    // Elsewhere published, not held.
    if let Some(long) = group("long").filter(|_| has_slices) {
        bars.ratio_at_most(long.row(SPAWN_P99), Engine::RayonNiced.name(), 1.0);
        bars.ratio_at_least(long.row(HEAVY), plain, 0.97);
    }
    for (id, limit) in [("fast", 150.0 / 2_447.0), ("forking16", 130.0 / 818.0)] {
        bars.ratio_at_most(group(id).and_then(|group| group.row(SPAWN_P99)), plain, limit);
    }
    bars
}

/// A ratio to the yielding pair, or what the machine itself took and 100 µs.
fn at_most_or_floor(bars: &mut Bars, group: &Group, name: &str, ratio: f64) {
    let of = |name: &str, who: &str| group.row(name).and_then(|row| row.median(who));
    let peer = of(name, Engine::RayonYielding.name());
    let limit = peer.unwrap_or(0.0) * ratio;
    let limit = limit.max(of(FLOOR_P999, "beat").unwrap_or(0.0) + 100.0);
    bars.at_most(
        format!("{name}, µs: {ratio:.2} × the yielding pair, or the machine's floor + 100"),
        of(name, "beat"),
        limit,
    );
}
