//! A service under a memory limit that is offered several times what it can do.
//!
//! The thumbnails example runs as a process of its own in a control group with a limit, once for each engine and run:
//! first two clients in turn, for the peak; then an open loop at a multiple of that, with a [probe](load::Health) of
//! `/healthz` beside it; then nothing, until four requests at once are all answered again. Where no group can be made
//! the suite says so and ends.

#[path = "../../../../../benches/common/group.rs"]
#[expect(dead_code, reason = "a test asks for more")]
mod group;
mod load;
mod options;
mod plot;
mod report;
mod run;
mod server;

use super::report as page;
use crate::Failure;
use run::Run;

/// All runs of one engine.
#[derive(Debug)]
struct Measured {
    engine: String,
    runs: Vec<Run>,
}

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = options::parse(parser)? else {
        print!("{}", options::HELP);
        return Ok(());
    };
    if let Err(why) = group::Group::new(options.limit) {
        println!("skipped: no cgroup ({why}). It takes root, and a memory controller of version 1 or 2.");
        return Ok(());
    }
    let program = match &options.server {
        Some(program) => program.clone(),
        None => server::build()?,
    };
    let mut all: Vec<Measured> =
        options.engines.iter().map(|engine| Measured { engine: engine.clone(), runs: Vec::new() }).collect();
    for number in 1..=options.runs {
        for Measured { engine, runs } in &mut all {
            eprintln!("run {number} of {}: {engine}", options.runs);
            runs.push(Run::new(&program, &options, engine)?);
        }
    }
    let text = report::section(&options, &all);
    print!("{text}");
    let last: Vec<_> =
        all.iter().filter_map(|measured| Some((measured.engine.as_str(), measured.runs.last()?))).collect();
    plot::write(&options.plot, options.limit, &last)?;
    println!("\nThe last run of each engine over time: {}", options.plot.display());
    if options.report {
        let plot = format!("pressure-{}.svg", page::profile());
        std::fs::copy(&options.plot, page::plots()?.join(&plot))?;
        let plot = format!("\n![Usage, level and thumbnails over the last run of each](benchmarks/{plot})\n");
        page::write_section("pressure", &(text + &plot))?;
    }
    let missed = report::missed(&all);
    if missed.is_empty() { Ok(()) } else { Err(format!("missed: {}", missed.join("; ")).into()) }
}
