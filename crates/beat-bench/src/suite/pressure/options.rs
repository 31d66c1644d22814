//! The suite's command line.

use std::path::PathBuf;

use lexopt::prelude::*;

/// The text of `--help`.
pub(super) const HELP: &str = "\
Usage: beat-bench pressure [OPTIONS]

  --runs N         interleaved runs [default: 10]
  --seconds N      how long each overload lasts [default: 10]
  --factor N       the overload, in times of the peak [default: 4]
  --limit MIB      the memory limit [default: 512]
  --workers N      the server's workers [default: 2]
  --engines A,B    [default: beat with each policy, tokio-blocking, tokio-semaphore:N for 2, 4, 8]
  --plot FILE      where the plot goes [default: target/pressure.svg]
  --report         also write docs/benchmarks.md, with the plot beside it
  --server PATH    measure this program instead of building the example
";

/// Beat with each policy; its peers, and the numbers of permits around the best one.
const DEFAULT_ENGINES: &str = "beat,beat-stall-only,beat-composite,tokio-blocking,tokio-semaphore:2,tokio-semaphore:4,\
                               tokio-semaphore:8";

/// What to measure, and with which load.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) runs: u32,
    pub(super) seconds: u64,
    pub(super) factor: f64,
    pub(super) limit: u64,
    pub(super) workers: usize,
    pub(super) engines: Vec<String>,
    pub(super) plot: PathBuf,
    pub(super) report: bool,
    pub(super) server: Option<PathBuf>,
}

/// Reads the arguments after the suite's name; `None` asks for [`HELP`].
pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let engines = DEFAULT_ENGINES.split(',');
    let mut options = Options {
        runs: 10,
        seconds: 10,
        factor: 4.0,
        limit: 512 << 20,
        workers: 2,
        engines: engines.map(str::to_owned).collect(),
        plot: "target/pressure.svg".into(),
        report: false,
        server: None,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("runs") => options.runs = parser.value()?.parse()?,
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            Long("factor") => options.factor = parser.value()?.parse()?,
            Long("limit") => options.limit = parser.value()?.parse::<u64>()? << 20,
            Long("workers") => options.workers = parser.value()?.parse()?,
            Long("engines") => {
                options.engines = parser.value()?.string()?.split(',').map(str::to_owned).collect();
            }
            Long("plot") => options.plot = parser.value()?.into(),
            Long("report") => options.report = true,
            Long("server") => options.server = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(options))
}
