//! Runs random programs on Beat, and counts that nothing is lost, run twice or leaked.
//!
//! ```text
//! cargo run --release -p beat-stress -- [OPTIONS]
//! ```
//!
//! A [round] makes one or two runtimes, sends a random [program] into them from several threads,
//! and ends them at a random moment. Every future, closure and half of a join carries a [token]; when the
//! round is over each must have been dropped once, and must have finished unless something was done to it. All
//! choices come from the seed and the number of the round, so the same seed gives the same programs; how their
//! parts interleave is up to the machine.

mod foreign;
mod guard;
mod options;
mod program;
mod rng;
mod round;
mod rss;
mod token;

use std::process::ExitCode;
use std::time::Instant;

use guard::Guard;
use options::Options;
use rss::Rss;
use token::Totals;

fn main() -> ExitCode {
    let options = match options::parse(lexopt::Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("beat-stress: {error}");
            return ExitCode::FAILURE;
        }
    };
    program::silence_planned_panics();
    if run(&options) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the rounds; `false` if memory has grown.
fn run(options: &Options) -> bool {
    println!("seed {}", options.seed);
    let guard = Guard::start(options);
    let foreign = foreign::Service::start();
    let mut totals = Totals::default();
    let mut rss = Rss::default();
    let began = Instant::now();
    let mut said = began;
    let mut number = options.first;
    loop {
        let done = options.progress(number, totals.created());
        rss.sample(done);
        if done >= 1.0 {
            break;
        }
        guard.round(number);
        totals.add(&round::run(options, number, &foreign));
        number += 1;
        if said.elapsed().as_secs() >= 30 {
            said = Instant::now();
            let seconds = began.elapsed().as_secs();
            println!("{seconds} s: {} rounds, {totals}; {}", number - options.first, rss::now());
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{} rounds in {seconds:.1} s, {totals}", number - options.first);
    println!("{:.0} items a second; memory: {rss}", totals.created() as f64 / seconds);
    let grown = rss.has_grown();
    if grown {
        println!("FAILED: memory has grown");
    }
    !grown
}
