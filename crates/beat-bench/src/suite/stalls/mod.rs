//! Polls that do not yield: who waits for them?
//!
//! [Every worker spins](spinners) for a second while a timer and an echo go on beside them; and [one worker
//! takes an event](event) and then polls for long, while its sibling sleeps (tokio#4730). A bar that Beat misses
//! is an error. A [probe](super::search::floor) watches the machine, the [neighbours] are counted, and what was
//! disturbed is measured again, a few times; the figures say by how much it was.

pub(super) mod engine;
mod event;
pub(super) mod neighbours;
mod spinners;

use std::time::Duration;

use hdrhistogram::Histogram;
use lexopt::prelude::*;

use super::search::floor::Floor;
use crate::Failure;
use crate::common::machine;
use engine::Engine;
use event::Event;
use neighbours::Neighbours;
use spinners::Spinners;

/// What counts as a stall, and the most that p99 of a 1 ms timer may take while every worker spins.
const STALL: Duration = Duration::from_millis(3);
/// In a quiet round everything else on the machine uses no more cores than this.
const QUIET_OTHERS: f64 = 0.1;
/// Among real-time threads: below the probe, above what is measured.
const LEVEL: i32 = 10;

const HELP: &str = "\
Usage: beat-bench stalls [OPTIONS]

  --rounds N    seconds in which every worker spins, for each engine [default: 3]
  --tries N     events followed by a long poll, for each engine [default: 20]
  --workers N   workers that spin [default: 2]
  --again N     how often a round or a try that the machine disturbed is repeated [default: 5]
";

/// Runs the suite.
pub(crate) fn run(mut parser: lexopt::Parser) -> Result<(), Failure> {
    let (mut rounds, mut tries, mut workers, mut again) = (3_u32, 20_u32, 2_usize, 5_u32);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => rounds = parser.value()?.parse()?,
            Long("tries") => tries = parser.value()?.parse()?,
            Long("workers") => workers = parser.value()?.parse()?,
            Long("again") => again = parser.value()?.parse()?,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let floor = Floor::start()?;
    println!("{}\n", machine::describe());
    let mut missed = spin(rounds, workers.max(1), again, &floor)?;
    missed.extend(take_events(tries, again, &floor)?);
    if missed.is_empty() { Ok(()) } else { Err(missed.join("; ").into()) }
}

/// The first table; says which bars were missed.
fn spin(rounds: u32, workers: usize, again: u32, floor: &Floor) -> Result<Vec<String>, Failure> {
    println!(
        "A 1 ms timer and an echo on loopback while every one of {workers} workers is inside a task that spins \
         for 1 s, {rounds} rounds; ms a step.\n\n\
         | engine | timer steps | p50 | p99 | max | echoes | p50 | p99 | max | machine p99 | others' cores | repeated \
         |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    let mut missed = Vec::new();
    for engine in Engine::ALL {
        let (mut all, mut machine, mut others) = (Spinners::new(), histogram(), 0.0_f64);
        let mut repeated = 0;
        for _ in 0..rounds {
            loop {
                floor.take();
                let neighbours = Neighbours::watch()?;
                let mut round = Spinners::new();
                round.measure(engine, workers)?;
                let (late, used) = (floor.take().0, neighbours.cores()?);
                let disturbed = at(&late, 0.99) > STALL / 6 || used > QUIET_OTHERS;
                if disturbed && repeated < again && engine == Engine::Beat {
                    repeated += 1;
                    continue;
                }
                all.timer.add(&round.timer)?;
                all.echo.add(&round.echo)?;
                machine.add(&late)?;
                others = others.max(used);
                break;
            }
        }
        let of = |h: &Histogram<u64>| {
            format!("{} | {} | {} | {}", h.len(), ms(at(h, 0.5)), ms(at(h, 0.99)), ms(at(h, 1.0)))
        };
        let machine = ms(at(&machine, 0.99));
        println!(
            "| {engine} | {} | {} | {machine} | {others:.2} | {repeated} |",
            of(&all.timer),
            of(&all.echo)
        );
        if engine == Engine::Beat {
            for (what, steps) in [("timer", &all.timer), ("echo", &all.echo)] {
                let p99 = at(steps, 0.99);
                // Fewer steps than a fifth of the milliseconds there were: it did not go on.
                if p99 > STALL || steps.len() < u64::from(rounds) * 200 {
                    let steps = steps.len();
                    missed.push(format!(
                        "the {what} made {steps} steps, p99 {} ms, not 3 (others used {others:.2} cores)",
                        ms(p99)
                    ));
                }
            }
        }
    }
    println!();
    Ok(missed)
}

/// The second table; says which bars were missed.
fn take_events(tries: u32, again: u32, floor: &Floor) -> Result<Vec<String>, Failure> {
    println!(
        "An echo after one of 2 workers has taken an event and polls for 30 ms; its sibling is idle; ms.\n\n\
         | engine | tries | stalled for more than 3 ms | p50 | max | others' cores | repeated | client |\n\
         |---|--:|--:|--:|--:|--:|--:|---|"
    );
    let mut missed = Vec::new();
    for engine in Engine::ALL {
        let neighbours = Neighbours::watch()?;
        let event = Event::measure(engine, tries, again, floor)?;
        let Event { echo, tries, stalled, disturbed, client } = event;
        let others = neighbours.cores()?;
        let (p50, max) = (ms(at(&echo, 0.5)), ms(at(&echo, 1.0)));
        println!("| {engine} | {tries} | {stalled} | {p50} | {max} | {others:.2} | {disturbed} | {client} |");
        if engine == Engine::Beat && stalled > 0 {
            missed.push(format!("{stalled} of {tries} tries stalled, not 0 (others used {others:.2} cores)"));
        }
    }
    println!();
    Ok(missed)
}

/// Of nanoseconds, up to a minute.
pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are constants")
}

pub(super) fn at(histogram: &Histogram<u64>, quantile: f64) -> Duration {
    Duration::from_nanos(histogram.value_at_quantile(quantile))
}

pub(super) fn ms(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}
