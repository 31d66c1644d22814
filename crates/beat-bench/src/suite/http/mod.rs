//! An HTTP server on loopback: an answer that costs nothing, and one that costs 30 µs.

mod load;
mod server;

use std::net::SocketAddr;
use std::time::Duration;

use self::load::Seen;
pub(crate) use self::load::{LOAD, load};
use super::executors::{AsyncExecutor, CurrentThread};
use super::figures::{BEAT, Bars, Better, Entrant, Group, Row};
use super::fork::searches::Work;
use super::options::Options;
use super::report::Section;
use crate::Failure;
use crate::common::fork::beat_runtime;
use crate::common::rounds::Rounds;
use crate::common::tasks::tokio_runtime;

const TOKIO: &str = "tokio multi-thread";
/// What the handler that computes takes.
const HANDLER: Duration = Duration::from_micros(30);
const CONNECTIONS: [usize; 3] = [16, 64, 256];
/// A handler's name and its target.
const HANDLERS: [(&str, &str); 2] = [("hello", "/"), ("30 µs handler", server::WORKING)];

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = Options::parse(parser)? else { return Ok(()) };
    let servers = Servers::start(options.workers)?;
    let mut groups = Vec::new();
    for (index, (handler, target)) in HANDLERS.into_iter().enumerate() {
        let mut rows = Vec::new();
        for connections in CONNECTIONS {
            let name = name(handler, connections);
            if options.wants(&name) {
                rows.extend(measure(&servers.addrs, &options, &name, target, connections)?);
            }
        }
        if !rows.is_empty() {
            groups.push(Group { title: format!("HTTP, {handler}"), id: ["hello", "work"][index], rows });
        }
    }
    let bars = if options.workers == 2 { bars(&groups) } else { Bars::default() };
    let section = Section {
        suite: "http",
        setup: format!(
            "Medians of {} interleaved rounds, on {} workers (tokio current-thread: one). The load is a process with \
             one thread on the same machine, in a closed loop: a request under way on each connection. CPU is told \
             apart for server and load.",
            options.rounds(),
            options.workers
        ),
        groups,
        bars: bars.0,
    };
    section.publish(&options)
}

/// One row of each kind, with so many workers.
pub(super) fn hello_rows(options: &Options) -> Result<Vec<Row>, Failure> {
    measure(&Servers::start(options.workers)?.addrs, options, &name("hello", 64), "/", 64)
}

/// Requests a second at 64 connections, of each kind, on runtimes that are there. Their servers go with them.
pub(super) fn on_runtimes(
    options: &Options,
    beat: &[(&'static str, &beat::Runtime)],
    tokio: (&'static str, &tokio::runtime::Runtime),
) -> Result<Vec<Row>, Failure> {
    let work = Work::lasting(HANDLER);
    let mut addrs = vec![(tokio.0, server::start(tokio.1, work)?)];
    for (who, runtime) in beat {
        addrs.push((who, server::start(*runtime, work)?));
    }
    let mut requests = Vec::new();
    for (handler, target) in HANDLERS {
        let name = name(handler, 64);
        if !options.wants(&name) {
            continue;
        }
        let rows = measure(&addrs, options, &name, target, 64)?;
        requests.extend(rows.into_iter().filter(|row| row.what.ends_with(RATE)));
    }
    Ok(requests)
}

fn name(handler: &str, connections: usize) -> String {
    format!("{handler}, {connections} connections")
}

/// Everybody's server. All but the one under load are idle.
struct Servers {
    addrs: Vec<(&'static str, SocketAddr)>,
    _engines: (beat::Runtime, tokio::runtime::Runtime, CurrentThread, AsyncExecutor),
}

impl Servers {
    fn start(workers: usize) -> Result<Self, Failure> {
        let work = Work::lasting(HANDLER);
        let (beat, tokio) = (beat_runtime(workers, None), tokio_runtime(workers));
        let (current, smol) = (CurrentThread::new(), AsyncExecutor::new(workers, true));
        let addrs = vec![
            (BEAT, server::start(&beat, work)?),
            (TOKIO, server::start(&tokio, work)?),
            ("tokio current-thread", server::start(&current, work)?),
            ("smol", server::start_smol(&smol, work)?),
        ];
        Ok(Self { addrs, _engines: (beat, tokio, current, smol) })
    }
}

/// Loads each server in turn: a row of each figure.
fn measure(
    addrs: &[(&'static str, SocketAddr)],
    options: &Options,
    name: &str,
    target: &str,
    connections: usize,
) -> Result<Vec<Row>, Failure> {
    let time = options.pick(Duration::from_secs(1), Duration::from_millis(100));
    let entrants = addrs
        .iter()
        .map(|(who, addr)| Entrant::new(*who, move || load::measure(*addr, target, connections, time)));
    let rounds = Rounds { rounds: options.rounds(), turns: 1 };
    let measured = rounds.interleave(entrants.collect());
    let figures: [Column; 5] = [
        (RATE, "/s", Better::More, |seen| seen.requests),
        (CPU, "µs", Better::Less, |seen| seen.server_cpu),
        ("p50", "µs", Better::Less, |seen| seen.p50),
        (P99, "µs", Better::Less, |seen| seen.p99),
        ("CPU of the load, a request", "µs", Better::Less, |seen| seen.generator_cpu),
    ];
    let mut rows = figures.map(|(what, unit, better, _)| Row::new(format!("{name}: {what}"), unit, better));
    for (who, turns) in measured {
        let turns = turns.into_iter().collect::<Result<Vec<Seen>, Failure>>()?;
        for (row, (.., of)) in rows.iter_mut().zip(figures) {
            row.set(who, turns.iter().map(of).collect());
        }
    }
    Ok(rows.into())
}

/// Name, unit, and what of a turn it is.
type Column = (&'static str, &'static str, Better, fn(&Seen) -> f64);

const RATE: &str = "requests";
const CPU: &str = "CPU of the server, a request";
const P99: &str = "p99";

/// For two workers.
fn bars(groups: &[Group]) -> Bars {
    let mut bars = Bars::default();
    let row = |handler: &str, what: &str| {
        let name = format!("{}: {what}", name(handler, 64));
        groups.iter().find_map(|group| group.row(&name))
    };
    let [(hello, _), (work, _)] = HANDLERS;
    bars.ratio_at_least(row(hello, RATE), TOKIO, 1.1);
    bars.ratio_at_most(row(hello, CPU), TOKIO, 0.95);
    bars.ratio_at_most(row(hello, P99), TOKIO, 0.75);
    bars.ratio_at_least(row(work, RATE), TOKIO, 1.0);
    bars.ratio_at_most(row(work, P99), TOKIO, 1.0);
    bars
}
