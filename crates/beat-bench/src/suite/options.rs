//! The command line that the suites of figures have in common.

use lexopt::prelude::*;

use crate::Failure;

const HELP: &str = "\
Options of this suite:

  --quick        small inputs and few rounds: to see that everything works, not how fast it is
  --report       also write docs/benchmarks.md and its plots (the section of this suite and profile)
  --workers N    threads that run user code [default: 2]
  --rounds N     interleaved rounds [default: 15; with --quick 2]
  --only TEXT    what contains this text in its name

Bars are held in the profile `lto`: cargo run --profile lto -p beat-bench -- SUITE
";

/// How to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) report: bool,
    pub(crate) workers: usize,
    rounds: Option<usize>,
    only: Option<String>,
}

impl Options {
    /// Reads the arguments after the suite's name; `None` if they asked for help, which is printed.
    pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Self>, Failure> {
        let mut options = Self { quick: false, report: false, workers: 2, rounds: None, only: None };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("quick") => options.quick = true,
                Long("report") => options.report = true,
                Long("workers") => options.workers = at_least_one(&mut parser)?,
                Long("rounds") => options.rounds = Some(at_least_one(&mut parser)?),
                Long("only") => options.only = Some(parser.value()?.string()?),
                Short('h') | Long("help") => {
                    print!("{HELP}");
                    return Ok(None);
                }
                _ => return Err(arg.unexpected().into()),
            }
        }
        if options.report && (options.quick || options.only.is_some()) {
            return Err("a report has all figures of full inputs: leave out --quick and --only".into());
        }
        Ok(Some(options))
    }

    /// The value for full or quick runs.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(self.pick(15, 2))
    }

    /// The same with all parts of a suite, and that many workers.
    pub(crate) fn with_workers(&self, workers: usize) -> Self {
        Self { workers, only: None, ..self.clone() }
    }

    /// Whether to measure what has this name.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }
}

fn at_least_one(parser: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    parser.value()?.parse_with(|text| match text.parse() {
        Ok(0) | Err(_) => Err("write a number from 1"),
        Ok(n) => Ok(n),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Result<Option<Options>, Failure> {
        Options::parse(lexopt::Parser::from_args(args))
    }

    #[test]
    fn a_report_is_of_full_runs() {
        assert!(of(&["--report"]).unwrap().unwrap().report);
        assert!(of(&["--report", "--quick"]).is_err());
        assert!(of(&["--rounds", "0"]).is_err());
        let quick = of(&["--quick", "--only", "tree"]).unwrap().unwrap();
        assert_eq!((quick.rounds(), quick.wants("a tree"), quick.wants("fib")), (2, true, false));
    }
}
