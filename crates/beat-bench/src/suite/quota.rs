//! Light requests and searches under a CPU quota below what the machine shows: how often does the kernel stop the process,
//! and what does it get done?
//!
//! Each turn is a process of its own in a control group with the quota, made before it is started: what it counts as its
//! CPUs is its own affair. Beat is built by default; the pair is tokio's and rayon's pools with as many threads each as
//! there are CPUs, which is what both did before they read quotas, and do where somebody has named a number.
//! Clients, as tasks of the runtime, send one request after the other: a few yields, then work that forks. Where Beat
//! misses a bar, the run is an error; where no group can be made the suite says so and ends.

use std::fmt;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use lexopt::prelude::*;

use self::cpu_group::{Controller, CpuGroup};
use crate::Failure;
use crate::common::machine;
use crate::common::rounds::{Contender, Rounds};
use crate::common::table::Spread;

#[path = "../../../../benches/common/cpu_group.rs"]
#[expect(dead_code, reason = "a test asks for more")]
mod cpu_group;

/// The suite's name for a process under load.
pub(crate) const LOAD: &str = "quota-load";
/// How many of the pair's throttled periods Beat may have.
const THROTTLED: f64 = 0.1;
const CLIENTS: usize = 16;
const YIELDS: usize = 4;
/// A request's work forks down so many levels, and its leaves take so many steps each.
const LEVELS: u32 = 6;
const STEPS: u32 = 10_000;

const HELP: &str = "\
Usage: beat-bench quota [OPTIONS]

  --rounds N    interleaved rounds [default: 7]
  --seconds N   seconds of load in each [default: 4]
  --cpus N      the quota, in CPUs [default: 1]
  --threads N   threads of each of the pair's pools [default: 2]
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Beat,
    Pair,
}

impl Engine {
    const ALL: [Self; 2] = [Self::Beat, Self::Pair];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.to_string() == name)
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Beat => "beat",
            Self::Pair => "tokio+rayon",
        })
    }
}

/// What a turn has shown.
#[derive(Clone, Copy, Debug)]
struct Turn {
    /// Requests a second.
    rate: f64,
    /// A second.
    throttled: f64,
    /// In milliseconds a second.
    stopped: f64,
}

/// Runs the suite.
pub(crate) fn run(mut parser: lexopt::Parser) -> Result<(), Failure> {
    let (mut rounds, mut seconds, mut cpus, mut threads) = (7_usize, 4_u64, 1.0_f64, 2_usize);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => rounds = parser.value()?.parse()?,
            Long("seconds") => seconds = parser.value()?.parse()?,
            Long("cpus") => cpus = parser.value()?.parse()?,
            Long("threads") => threads = parser.value()?.parse()?,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    if rounds == 0 || seconds == 0 || threads == 0 || cpus.is_nan() || cpus <= 0.0 {
        return Err("there is nothing to measure with zero rounds, seconds, threads or CPUs".into());
    }
    if let Err(why) = CpuGroup::new(Controller::Quota).and_then(|group| group.set_quota(cpus)) {
        println!("skipped: no cgroup ({why}). It takes root, and a CPU controller of version 1 or 2.");
        return Ok(());
    }
    println!("{}\n", machine::describe());
    println!(
        "{CLIENTS} clients for {seconds} s, under a quota of {cpus} CPUs; the pair has {threads} + {threads} threads. Medians \
         of {rounds} interleaved rounds (least to greatest), a second.\n"
    );
    let turn = |engine| move || take_turn(engine, cpus, threads, seconds);
    let contenders = Engine::ALL.into_iter().map(|engine| Contender::new(engine, turn(engine))).collect();
    let measured = Rounds { rounds, turns: 1 }.interleave(contenders);
    println!("| engine | requests | throttled periods | stopped for, ms |\n|---|--:|--:|--:|");
    let mut medians = Vec::new();
    for (engine, turns) in measured {
        let turns = turns.into_iter().collect::<Result<Vec<_>, _>>()?;
        let [rate, throttled, stopped] = [
            spread(&turns, |turn| turn.rate),
            spread(&turns, |turn| turn.throttled),
            spread(&turns, |turn| turn.stopped),
        ];
        println!("| {engine} | {} | {} | {} |", told(&rate), told(&throttled), told(&stopped));
        medians.push((rate.median, throttled.median));
    }
    let [(rate, throttled), (pairs_rate, pairs_throttled)] = medians[..] else {
        unreachable!("there are two")
    };
    let mut missed = Vec::new();
    if throttled > THROTTLED * pairs_throttled {
        missed.push(format!(
            "throttled {throttled:.2} times a second, not {:.0} % of the pair's {pairs_throttled:.2}",
            THROTTLED * 100.0
        ));
    }
    if rate < pairs_rate {
        missed.push(format!("{rate:.0} requests a second, and the pair had {pairs_rate:.0}"));
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join("; ")).into()) }
}

fn spread(turns: &[Turn], figure: impl Fn(&Turn) -> f64) -> Spread {
    Spread::of(turns.iter().map(figure).collect())
}

fn told(spread: &Spread) -> String {
    format!("{:.1} ({:.1} to {:.1})", spread.median, spread.min, spread.max)
}

/// A process under load, in a group of its own.
fn take_turn(engine: Engine, cpus: f64, threads: usize, seconds: u64) -> io::Result<Turn> {
    let group = CpuGroup::new(Controller::Quota)?;
    group.set_quota(cpus)?;
    let script = format!("{} exec \"$0\" \"$@\"", group.enter());
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe()?)
        .args([LOAD, &engine.to_string(), &threads.to_string(), &seconds.to_string()])
        .env_remove("BEAT_WORKERS")
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let requests: u64 =
        text.trim().parse().map_err(|_| io::Error::other(format!("{engine} said {text:?}")))?;
    let (periods, time) = group.throttled()?;
    let a_second = |figure: f64| figure / seconds as f64;
    Ok(Turn {
        rate: a_second(requests as f64),
        throttled: a_second(periods as f64),
        stopped: a_second(time.as_secs_f64() * 1e3),
    })
}

/// In the process: says how many requests it has answered.
pub(crate) fn load(mut parser: lexopt::Parser) -> Result<(), Failure> {
    let engine = parser.value()?.string()?;
    let engine = Engine::named(&engine).ok_or_else(|| format!("there is no engine {engine:?}"))?;
    let (threads, seconds): (usize, u64) = (parser.value()?.parse()?, parser.value()?.parse()?);
    let answered = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    match engine {
        Engine::Beat => {
            let runtime = beat::Runtime::builder().build()?;
            let client = |seed| {
                let answered = Arc::clone(&answered);
                async move {
                    while Instant::now() < end {
                        for _ in 0..YIELDS {
                            beat::yield_now().await;
                        }
                        let work = beat::spawn_blocking_parallel(move || forks(&beat_join, LEVELS, seed));
                        std::hint::black_box(work.await.expect("it does not panic"));
                        answered.fetch_add(1, Relaxed);
                    }
                }
            };
            let clients: Vec<_> = (0..CLIENTS as u64).map(|seed| runtime.spawn(client(seed))).collect();
            clients.into_iter().try_for_each(beat::JoinHandle::join)?;
        }
        Engine::Pair => {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
            let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build()?);
            let client = |seed| {
                let (answered, pool) = (Arc::clone(&answered), Arc::clone(&pool));
                async move {
                    while Instant::now() < end {
                        for _ in 0..YIELDS {
                            tokio::task::yield_now().await;
                        }
                        let (send, receive) = tokio::sync::oneshot::channel();
                        pool.spawn(move || {
                            let _ = send.send(forks(&rayon_join, LEVELS, seed));
                        });
                        std::hint::black_box(receive.await.expect("it does not panic"));
                        answered.fetch_add(1, Relaxed);
                    }
                }
            };
            let clients: Vec<_> = (0..CLIENTS as u64).map(|seed| runtime.spawn(client(seed))).collect();
            runtime.block_on(async {
                for client in clients {
                    client.await?;
                }
                Ok::<(), tokio::task::JoinError>(())
            })?;
        }
    }
    println!("{}", answered.load(Relaxed));
    Ok(())
}

/// Somebody's `join` of two halves.
type Join = dyn Fn(&(dyn Fn() -> u64 + Sync), &(dyn Fn() -> u64 + Sync)) -> (u64, u64) + Sync;

fn beat_join(a: &(dyn Fn() -> u64 + Sync), b: &(dyn Fn() -> u64 + Sync)) -> (u64, u64) {
    beat::join(a, b)
}

fn rayon_join(a: &(dyn Fn() -> u64 + Sync), b: &(dyn Fn() -> u64 + Sync)) -> (u64, u64) {
    rayon::join(a, b)
}

fn forks(join: &Join, levels: u32, seed: u64) -> u64 {
    if levels == 0 {
        return leaf(seed);
    }
    let half = |half| move || forks(join, levels - 1, 2 * seed + half);
    let (a, b) = join(&half(0), &half(1));
    a ^ b
}

/// xorshift64.
fn leaf(seed: u64) -> u64 {
    (0..STEPS).fold(seed | 1, |mut x, _| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^ x << 17
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_do_the_same_work() {
        let runtime = beat::Runtime::builder().worker_threads(2).build().unwrap();
        let own = runtime.install(|| forks(&beat_join, LEVELS, 7));
        assert_eq!(own, forks(&rayon_join, LEVELS, 7));
    }

    #[test]
    fn engines_are_found_by_name() {
        assert_eq!(Engine::named("tokio+rayon"), Some(Engine::Pair));
        assert_eq!(Engine::named("rayon"), None);
    }
}
