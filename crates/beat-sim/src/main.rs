//! Simulates Beat's scheduler on machines that are not at hand.
//!
//! ```text
//! cargo run --release -p beat-sim -- 2x64 8x16 "package:2 core:64 pu:2"    rings beside random victims
//! cargo run --release -p beat-sim -- scale                                 8 to 1,024 cores
//! cargo run --release -p beat-sim -- calibrate                             beside real runs on this machine
//! ```

use std::process::ExitCode;

use beat_sim::{Costs, Machine, Outcome, Victims, Workload, calibrate, simulate_with};
use lexopt::Arg;

const HELP: &str = "\
beat-sim: simulates Beat's scheduler, by its own policy code

beat-sim [--seeds N] MACHINE...   rings beside random victims, for the fork suite and the mixed one
beat-sim [--seeds N] scale        the same on 8 to 1,024 cores
beat-sim calibrate [--nodes N]    a tree for real on this machine, and as simulated

--no-data: a node costs the same wherever its data are.

A MACHINE is PACKAGESxCORES (two threads a core), or hwloc's synthetic text.
";
/// 8 to 1,024 cores, one thread each.
const SCALE: [&str; 5] = [
    "package:1 l3:1 l2:8 core:1 pu:1",
    "package:2 l3:2 l2:8 core:1 pu:1",
    "package:2 l3:8 l2:8 core:1 pu:1",
    "package:4 l3:8 l2:8 core:1 pu:1",
    "package:8 numanode:2 l3:8 l2:8 core:1 pu:1",
];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("beat-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = lexopt::Parser::from_env();
    let (mut seeds, mut nodes, mut words) = (3, 4_000_000, Vec::new());
    let mut costs = Costs::default();
    while let Some(argument) = arguments.next().map_err(|e| e.to_string())? {
        match argument {
            Arg::Long("seeds") => seeds = number(&mut arguments)?,
            Arg::Long("nodes") => nodes = number(&mut arguments)?,
            Arg::Long("no-data") => costs.data = [0.0; 6],
            Arg::Long("help") | Arg::Short('h') => {
                print!("{HELP}");
                return Ok(());
            }
            Arg::Value(word) => words.push(word.to_string_lossy().into_owned()),
            other => return Err(other.unexpected().to_string()),
        }
    }
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => print!("{HELP}"),
        ["calibrate"] => print_comparison(nodes)?,
        ["scale"] => print_table(&SCALE, seeds, &costs)?,
        ref machines => print_table(machines, seeds, &costs)?,
    }
    Ok(())
}

/// The number after an option: 1 or more.
fn number(arguments: &mut lexopt::Parser) -> Result<u64, String> {
    let value = arguments.value().map_err(|error| error.to_string())?;
    let value = value.to_string_lossy();
    value.parse().ok().filter(|&n| n > 0).ok_or_else(|| format!("{value} is no number from 1 on"))
}

fn print_comparison(nodes: u64) -> Result<(), String> {
    println!("A tree of {nodes} nodes: median of real runs, and the simulated one.\n");
    println!("| workers | real, ms | simulated, ms | simulated / real |\n|---|---|---|---|");
    for comparison in calibrate::compare(nodes)? {
        let (real, predicted) = (comparison.real / 1e6, comparison.predicted / 1e6);
        println!("| {} | {real:.2} | {predicted:.2} | {:.2} |", comparison.workers, predicted / real);
    }
    Ok(())
}

fn print_table(machines: &[&str], seeds: u64, costs: &Costs) -> Result<(), String> {
    println!("Sums of {seeds} seeds, makespans in ms; steals by ring: smt, L2, L3, node, package, remote.\n");
    println!(
        "| machine | suite | victims | makespan | steals by ring | promotions | wake-ups | remote steals, random / rings |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for name in machines {
        let machine = Machine::parse(name)?;
        for (suite, workload) in
            [("fork", Workload::fork(machine.workers)), ("mixed", Workload::mixed(machine.workers))]
        {
            let sum = |victims| sum(&machine, victims, &workload, seeds, costs);
            let (rings, random) = (sum(Victims::Rings), sum(Victims::Random));
            let ratio = random.remote_steals() as f64 / rings.remote_steals() as f64;
            print_row(name, suite, "random", &random, "");
            let ratio = if random.remote_steals() == 0 { String::new() } else { format!("{ratio:.1}") };
            print_row(name, suite, "rings", &rings, &ratio);
        }
    }
    Ok(())
}

fn sum(machine: &Machine, victims: Victims, workload: &Workload, seeds: u64, costs: &Costs) -> Outcome {
    let runs = (1..=seeds).map(|seed| simulate_with(machine, victims, workload, seed, costs.clone()));
    runs.fold(Outcome::default(), |mut sum, run| {
        sum.makespan += run.makespan;
        sum.promotions += run.promotions;
        sum.wakes += run.wakes;
        for (sum, steals) in sum.steals.iter_mut().zip(run.steals) {
            *sum += steals;
        }
        sum
    })
}

fn print_row(machine: &str, suite: &str, victims: &str, outcome: &Outcome, ratio: &str) {
    let steals = outcome.steals.map(|steals| steals.to_string()).join(" ");
    println!(
        "| {machine} | {suite} | {victims} | {:.3} | {steals} | {} | {} | {ratio} |",
        outcome.makespan as f64 / 1e6,
        outcome.promotions,
        outcome.wakes
    );
}
