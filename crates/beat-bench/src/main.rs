//! Measures services on Beat beside the same services on its peers, in the same run.
//!
//! ```text
//! cargo run --release -p beat-bench -- SUITE [OPTIONS]
//! ```
//!
//! A suite is a module under `suite/` with a `run` function and a line in [`SUITES`]. It prints
//! Markdown: the machine first, then its tables. All load is bounded and stays on loopback.

use std::process::ExitCode;

/// Programs, rounds and the like: what the benches of `beat` itself use too.
#[cfg(target_os = "linux")]
#[path = "../../../benches/common/mod.rs"]
mod common;
#[cfg(target_os = "linux")]
mod suite;

/// Why a suite ended early: a sentence that says what to do.
type Failure = Box<dyn std::error::Error>;

/// A name, what it measures, and the function that does.
type Suite = (&'static str, &'static str, fn(lexopt::Parser) -> Result<(), Failure>);

/// The suites in the order of `--help`.
#[cfg(target_os = "linux")]
const SUITES: &[Suite] = &[
    ("fork", "fork-join programs, on Beat, rayon, chili and others", suite::fork::run),
    ("async", "tasks, on Beat, tokio, async-executor and futures", suite::tasks::run),
    (
        "mixed",
        "light requests beside closures, on Beat and on tokio with all that stands beside it",
        suite::mixed::run,
    ),
    ("idle", "nothing to do, and a short region now and then, on Beat, rayon and chili", suite::idle::run),
    ("http", "an HTTP server on loopback, on Beat, tokio and smol", suite::http::run),
    ("scale", "the others by number of workers", suite::scale::run),
    (
        "pressure",
        "thumbnails under a memory limit, offered four times what they can do",
        suite::pressure::run,
    ),
    (
        "pinning",
        "programs with pinned workers and without, alone and beside a neighbour",
        suite::pinning::run,
    ),
    ("search", "light requests beside searches that fill the workers", suite::search::run),
    ("serve", "requests a second of `beat::serve` and of `axum::serve`", suite::serve::run),
    ("stalls", "timers and sockets beside polls that do not yield", suite::stalls::run),
    ("chatty", "a quiet task beside tasks that always find something to do", suite::chatty::run),
    (
        "quota",
        "requests that compute, under a CPU quota below what the machine shows, also on tokio and rayon",
        suite::quota::run,
    ),
];

/// The suites read `/proc` and Linux clocks.
#[cfg(not(target_os = "linux"))]
const SUITES: &[Suite] = &[];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("beat-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let mut parser = lexopt::Parser::from_env();
    let suite = match parser.next()? {
        Some(lexopt::Arg::Value(name)) => name,
        Some(lexopt::Arg::Long("help") | lexopt::Arg::Short('h')) | None => {
            print!("{}", help());
            return Ok(());
        }
        Some(other) => return Err(other.unexpected().into()),
    };
    #[cfg(target_os = "linux")]
    if suite == suite::http::LOAD {
        return suite::http::load(parser);
    }
    #[cfg(target_os = "linux")]
    if suite == suite::quota::LOAD {
        return suite::quota::load(parser);
    }
    match SUITES.iter().find(|(name, ..)| suite == *name) {
        Some((_, _, run)) => run(parser),
        None if SUITES.is_empty() => Err("the suites need Linux".into()),
        None => Err(format!("there is no suite {suite:?}\n{}", help()).into()),
    }
}

fn help() -> String {
    let mut text = String::from("Usage: beat-bench SUITE [OPTIONS]; beat-bench SUITE --help\n");
    for (name, what, _) in SUITES {
        text += &format!("\n  {name:<10} {what}");
    }
    text + "\n"
}
