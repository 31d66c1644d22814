//! The command line.

use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;
use std::time::Duration;

use lexopt::prelude::*;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Usage: beat-stress [OPTIONS]

  --seed S       the seed of all choices [default: a random one, which is printed]
  --rounds N     programs to run [default: 1000]
  --items N      run until so many items were created, however many rounds that takes
  --first N      the number of the first round, to replay one [default: 0]
  --workers W    workers of each runtime [default: 1 to 8, by the seed]
  --hang S       seconds after which a round counts as hung [default: 120]
  --stay         do not abort when a round hangs: wait for a debugger
";

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) seed: u64,
    pub(crate) rounds: u64,
    pub(crate) items: Option<u64>,
    pub(crate) first: u64,
    pub(crate) workers: Option<usize>,
    pub(crate) hang: Duration,
    pub(crate) stay: bool,
}

impl Options {
    /// How much of the run is done before round `number`: 1 is all.
    pub(crate) fn progress(&self, number: u64, created: u64) -> f64 {
        match self.items {
            Some(items) => created as f64 / items as f64,
            None => (number - self.first) as f64 / self.rounds as f64,
        }
    }
}

/// Reads the arguments; `None` asks for [`HELP`].
pub(crate) fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, lexopt::Error> {
    let mut options = Options {
        seed: RandomState::new().hash_one(()),
        rounds: 1000,
        items: None,
        first: 0,
        workers: None,
        hang: Duration::from_secs(120),
        stay: false,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("seed") => options.seed = parser.value()?.parse()?,
            Long("rounds") => options.rounds = number(&mut parser, 1, u64::MAX)?,
            Long("items") => options.items = Some(number(&mut parser, 1, u64::MAX)?),
            Long("first") => options.first = parser.value()?.parse()?,
            Long("workers") => options.workers = Some(number(&mut parser, 1, 1024)?),
            Long("hang") => options.hang = Duration::from_secs(number(&mut parser, 1, 86_400)?),
            Long("stay") => options.stay = true,
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
    fn options_are_read_and_bounded() {
        let options = of(&["--seed", "7", "--rounds=3", "--workers", "2"]).unwrap().unwrap();
        assert_eq!((options.seed, options.rounds, options.workers), (7, 3, Some(2)));
        assert!(of(&["--workers", "0"]).unwrap_err().to_string().contains("from 1 to 1024"));
        assert_eq!(of(&["--help"]).unwrap(), None);
    }

    #[test]
    fn a_run_ends_by_rounds_or_by_items() {
        let by_rounds = of(&["--rounds", "4", "--first", "10"]).unwrap().unwrap();
        assert!(by_rounds.progress(13, 1_000_000) < 1.0 && by_rounds.progress(14, 0) >= 1.0);
        let by_items = of(&["--items", "100"]).unwrap().unwrap();
        assert!(by_items.progress(1_000_000, 99) < 1.0 && by_items.progress(0, 100) >= 1.0);
    }
}
