//! `axum::serve` and `beat::serve` under Beat, and `axum::serve` under tokio: requests a second.
//!
//! Under Beat the connections of an unmodified `axum::serve` all run on the one thread that drives tokio;
//! `beat::serve` makes each a task. The [load] is closed: each connection has one request under way. It shares the
//! machine with the server, so the figures compare servers and say little of any one.

mod load;
mod server;

use std::time::Duration;

use lexopt::prelude::*;

use super::stalls::neighbours::Neighbours;
use crate::Failure;
use crate::common::machine;
use server::{PATHS, Server};

const HELP: &str = "\
Usage: beat-bench serve [OPTIONS]

  --rounds N        interleaved rounds for each server [default: 3]
  --seconds N       how long a round loads each path [default: 2]
  --connections N   connections that each have one request under way [default: 32]
  --clients N       threads of the load, which share the connections [default: 1]
  --workers N       workers of the server [default: 2]
";

/// What to measure, and with which load.
#[derive(Clone, Copy, Debug)]
struct Options {
    rounds: usize,
    seconds: u64,
    connections: usize,
    clients: usize,
    workers: usize,
}

/// Requests a second, by round.
type Rates = Vec<f64>;

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = parse(parser)? else {
        print!("{HELP}");
        return Ok(());
    };
    println!("{}\n", machine::describe());
    let neighbours = Neighbours::watch()?;
    let mut rates = vec![[const { Rates::new() }; PATHS.len()]; Server::ALL.len()];
    for _ in 0..options.rounds {
        for (server, rates) in Server::ALL.iter().zip(&mut rates) {
            let running = server.start(options.workers)?;
            for (path, rates) in PATHS.iter().zip(rates) {
                let load = load::Load {
                    addr: running.addr(),
                    path: path.0,
                    connections: options.connections,
                    clients: options.clients,
                };
                rates.push(load.run(Duration::from_secs(options.seconds))?);
            }
        }
    }
    print!("{}", table(options, &rates, neighbours.cores()?));
    Ok(())
}

fn table(options: Options, rates: &[[Rates; PATHS.len()]], others: f64) -> String {
    let Options { rounds, seconds, connections, clients, workers } = options;
    let mut text = format!(
        "Requests a second on loopback, {connections} connections with one request each from {clients} threads on the \
         same machine, {workers} workers, {rounds} interleaved rounds of {seconds} s: median (least–most).\n\n| server |"
    );
    for (_, what) in PATHS {
        text += &format!(" {what} |");
    }
    text += "\n|---|--:|--:|\n";
    for (server, rates) in Server::ALL.iter().zip(rates) {
        text += &format!("| {server} |");
        for rates in rates {
            text += &format!(" {} |", summary(rates));
        }
        text += "\n";
    }
    text + &format!("\nEverything else on the machine used {others:.2} cores.\n")
}

/// Median, least and most.
fn summary(rates: &[f64]) -> String {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(least), Some(median), Some(most)) => format!("{median:.0} ({least:.0}–{most:.0})"),
        _ => "–".into(),
    }
}

fn parse(mut parser: lexopt::Parser) -> Result<Option<Options>, Failure> {
    let mut options = Options { rounds: 3, seconds: 2, connections: 32, clients: 1, workers: 2 };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            Long("connections") => options.connections = parser.value()?.parse()?,
            Long("clients") => options.clients = parser.value()?.parse()?,
            Long("workers") => options.workers = parser.value()?.parse()?,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(arg.unexpected().into()),
        }
    }
    if options.rounds == 0 || options.seconds == 0 || options.clients == 0 || options.workers == 0 {
        return Err("rounds, seconds, clients and workers start at 1".into());
    }
    if options.connections < options.clients || options.connections > 1_000 {
        return Err("use at least one connection a client, and 1000 at most".into());
    }
    Ok(Some(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_answers_a_short_load() {
        for server in Server::ALL {
            let running = server.start(1).unwrap();
            for (path, _) in PATHS {
                let load = load::Load { addr: running.addr(), path, connections: 3, clients: 2 };
                assert!(load.run(Duration::from_millis(20)).unwrap() > 0.0, "{server} {path}");
            }
        }
    }

    #[test]
    fn a_table_has_a_cell_for_each_heading() {
        let options = parse(lexopt::Parser::from_args([""; 0])).unwrap().unwrap();
        let rates = vec![[vec![1.0, 30.0, 2.0], vec![5.0]]; Server::ALL.len()];
        let text = table(options, &rates, 0.0);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 2 + Server::ALL.len());
        assert!(rows.iter().all(|row| row.matches('|').count() == 4), "{text}");
        assert!(rows[2].contains("| 2 (1–30) | 5 (5–5) |"), "{text}");
    }

    #[test]
    fn options_are_bounded() {
        let of = |args: &[&str]| parse(lexopt::Parser::from_args(args));
        assert!(of(&["--workers", "0"]).is_err() && of(&["--connections", "9999"]).is_err());
        assert!(of(&["--help"]).unwrap().is_none());
    }
}
