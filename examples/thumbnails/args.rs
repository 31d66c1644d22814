//! The command line: what the service is asked to do, or a sentence that says what is wrong.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use lexopt::prelude::*;

use super::engine::Engine;
use beat::pressure::Policy;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
A web service that makes thumbnails, and outlives a rush for them.

Usage: thumbnails [OPTIONS] [DIR]

  DIR               a directory with PNG and JPEG files [default: six drawn pictures of 12 megapixels]
  --addr IP:PORT    where to listen; port 0 takes any free port [default: 127.0.0.1:8080]
  --engine ENGINE   beat (or beat-stall-only, beat-composite: other measures of memory pressure), tokio-blocking, or
                    tokio-semaphore:N for at most N at a time [default: beat]
  --workers N       threads that do the work [default: one for each core]
  --help            this text
";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Run the service.
    Serve(Args),
    /// Print [`HELP`].
    Help,
}

/// The options of a run.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) addr: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) workers: usize,
}

/// Reads the arguments that follow the program's name.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, lexopt::Error> {
    let mut dir = None;
    let mut addr = SocketAddr::from(([127, 0, 0, 1], 8080));
    let mut engine = Engine::Beat(Policy::default());
    let mut workers = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parser = lexopt::Parser::from_args(args);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("addr") => {
                addr = parser
                    .value()?
                    .parse_with(|text| text.parse().map_err(|_| "write IP:PORT, such as 127.0.0.1:8080"))?;
            }
            Long("engine") => engine = parser.value()?.parse()?,
            Long("workers") => {
                workers = parser.value()?.parse_with(|text| match text.parse() {
                    Ok(n @ 1..=1024) => Ok(n),
                    _ => Err("write a number from 1 to 1024"),
                })?;
            }
            Short('h') | Long("help") => return Ok(Invocation::Help),
            Value(first) if dir.is_none() => dir = Some(PathBuf::from(first)),
            Value(second) => {
                let second = second.to_string_lossy();
                return Err(format!("one DIR is enough, but {second:?} is a second one").into());
            }
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Invocation::Serve(Args { dir, addr, engine, workers }))
}
