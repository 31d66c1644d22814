//! Light requests beside searches that fill the workers, and how soon a dropped search stops.
//!
//! The search example runs as a process of its own, once for each engine and round. Against it
//! go [endless searches](heavy) and an [open-loop generator](light) of `GET /healthz`, while a
//! [probe](floor) watches the machine; then, on a server that does nothing else, searches whose
//! client [leaves](dropped).

mod dropped;
pub(crate) mod floor;
mod heavy;
pub(super) mod http;
pub(super) mod light;
mod options;
mod report;
mod round;
mod server;

use crate::Failure;
use crate::common::machine;
use dropped::Dropped;
use floor::Floor;
use round::Round;

/// What all rounds of one engine have measured.
#[derive(Debug)]
struct Measured {
    engine: String,
    rounds: Vec<Round>,
    /// Rounds that were measured again, because the machine had disturbed them.
    disturbed: Vec<Round>,
    dropped: Dropped,
}

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = options::parse(parser)? else {
        print!("{}", options::HELP);
        return Ok(());
    };
    let program = match &options.server {
        Some(program) => program.clone(),
        None => server::build()?,
    };
    let mut all: Vec<Measured> = options.engines.iter().map(|engine| Measured::new(engine)).collect();

    let floor = Floor::start()?;
    for number in 1..=options.rounds {
        for Measured { engine, rounds, disturbed, .. } in &mut all {
            let mut again = options.again;
            loop {
                eprintln!("round {number} of {}: {engine}", options.rounds);
                let round = Round::run(&program, &options, engine, &floor)?;
                if round.is_quiet() || again == 0 {
                    rounds.push(round);
                    break;
                }
                eprintln!("disturbed by the machine: once more");
                disturbed.push(round);
                again -= 1;
            }
        }
    }
    drop(floor);
    for measured in &mut all {
        eprintln!("dropped clients: {}", measured.engine);
        measured.dropped = dropped::run(&program, &options, &measured.engine)?;
    }

    println!("{}\n", machine::describe());
    print!("{}", report::tables(&options, &all));
    Ok(())
}

impl Measured {
    fn new(engine: &str) -> Self {
        let dropped = Dropped::default();
        Self { engine: engine.into(), rounds: Vec::new(), disturbed: Vec::new(), dropped }
    }
}
