//! The suite's command line.

use std::path::PathBuf;
use std::str::FromStr;

use lexopt::prelude::*;

/// The text of `--help`.
pub(super) const HELP: &str = "\
Usage: beat-bench search [OPTIONS]

  --rounds N       interleaved rounds [default: 3]
  --again N        times that a round disturbed by the machine is repeated [default: 3]
  --requests N     light requests for each engine, over all rounds [default: 20000]
  --rate N         light requests a second [default: 2000]
  --searches N     searches that run all the time [default: 4]
  --workers N      the server's workers [default: 2]
  --tries N        dropped searches for each engine [default: 20]
  --engines A,B    some of beat, tokio-rayon, tokio-blocking [default: all]
  --dir DIR        what is searched [default: as the example chooses]
  --server PATH    measure this program instead of building the example
";

/// What to measure, and with which load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) rounds: u64,
    pub(super) again: u64,
    pub(super) requests: u64,
    pub(super) rate: u64,
    pub(super) searches: usize,
    pub(super) workers: usize,
    pub(super) tries: usize,
    pub(super) engines: Vec<String>,
    pub(super) dir: Option<PathBuf>,
    pub(super) server: Option<PathBuf>,
}

impl Options {
    /// Light requests of one round, at least one.
    pub(super) fn requests_a_round(&self) -> u64 {
        self.requests.div_ceil(self.rounds)
    }

    /// Light requests before those that count: one second's.
    pub(super) fn warm_up(&self) -> u64 {
        self.rate
    }
}

/// Reads the arguments after the suite's name; `None` asks for [`HELP`].
pub(super) fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        rounds: 3,
        again: 3,
        requests: 20_000,
        rate: 2_000,
        searches: 4,
        workers: 2,
        tries: 20,
        engines: ["beat", "tokio-rayon", "tokio-blocking"].map(String::from).into(),
        dir: None,
        server: None,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => options.rounds = number(&mut parser, 1, 100)?,
            Long("again") => options.again = number(&mut parser, 0, 100)?,
            Long("requests") => options.requests = number(&mut parser, 1, 10_000_000)?,
            Long("rate") => options.rate = number(&mut parser, 1, 100_000)?,
            Long("searches") => options.searches = number(&mut parser, 0, 64)?,
            Long("workers") => options.workers = number(&mut parser, 1, 1024)?,
            Long("tries") => options.tries = number(&mut parser, 0, 1_000)?,
            Long("engines") => {
                options.engines = parser.value()?.string()?.split(',').map(str::to_owned).collect();
            }
            Long("dir") => options.dir = Some(parser.value()?.into()),
            Long("server") => options.server = Some(parser.value()?.into()),
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Some(options))
}

fn number<N>(parser: &mut lexopt::Parser, least: N, most: N) -> Result<N, lexopt::Error>
where
    N: FromStr + PartialOrd + std::fmt::Display,
{
    parser.value()?.parse_with(|text| match text.parse() {
        Ok(n) if (&least..=&most).contains(&&n) => Ok(n),
        _ => Err(format!("write a number from {least} to {most}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(args: &[&str]) -> Result<Option<Options>, lexopt::Error> {
        parse(lexopt::Parser::from_args(args))
    }

    #[test]
    fn the_defaults_are_the_promised_load() {
        let options = of(&[]).unwrap().unwrap();
        assert_eq!((options.requests, options.rate, options.searches), (20_000, 2_000, 4));
        assert_eq!(options.engines.len(), 3);
    }

    #[test]
    fn options_are_read_and_bounded() {
        let options = of(&["--engines", "beat", "--rounds=2", "--requests", "7"]).unwrap().unwrap();
        assert_eq!((options.engines.len(), options.requests_a_round()), (1, 4));
        assert!(of(&["--rounds", "0"]).unwrap_err().to_string().contains("from 1 to 100"));
        assert_eq!(of(&["--help"]).unwrap(), None);
    }
}
