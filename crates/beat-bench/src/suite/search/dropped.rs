//! How soon the server stops working for a client that has left.
//!
//! On a server that does nothing else, a client asks for a long search and closes its connection
//! in the middle. From then on the server's CPU clock is read each half millisecond. The search
//! has ended at the first reading after which no more than [`UNWINDING`] of CPU time was used.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::super::clock::{CpuClock, machine_busy};
use super::super::priority;
use super::heavy::EXPRESSIONS;
use super::http;
use super::options::Options;
use super::round::QUIET_OTHERS;
use super::server::Server;
use crate::Failure;

/// CPU time that is not the search's any more: closing a socket, counting, going to sleep.
const UNWINDING: Duration = Duration::from_micros(200);
/// How long the CPU clock is watched after the client has left.
const WATCHED: Duration = Duration::from_millis(300);
/// The time between two readings.
const PERIOD: Duration = Duration::from_micros(500);
/// In a quiet try no two readings are further apart.
const QUIET_GAP: Duration = Duration::from_millis(3);
/// A search shorter than this is over before its client can leave in its middle.
const LONG_ENOUGH: Duration = Duration::from_millis(60);
/// Among real-time threads: as the light requests' generator.
const LEVEL: i32 = 10;

/// What the tries of one engine have measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped {
    /// From the disconnect to the last work, shortest first.
    pub(super) stopped_after: Vec<Duration>,
    /// How many of these the machine disturbed, for want of quiet ones.
    pub(super) disturbed: usize,
    /// Those that were tried again, because the machine had disturbed them.
    pub(super) again: Vec<Duration>,
    /// Searches that had ended before their client left.
    pub(super) too_late: usize,
    /// How long one search takes if its client stays.
    pub(super) whole_search: Duration,
}

/// One search whose client has left in its middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Left {
    stopped_after: Duration,
    /// The machine kept the watching thread, which is above all others, or the server waiting.
    disturbed: bool,
}

impl Dropped {
    /// The median.
    pub(super) fn median(&self) -> Option<Duration> {
        self.stopped_after.get(self.stopped_after.len() / 2).copied()
    }

    /// The longest.
    pub(super) fn max(&self) -> Option<Duration> {
        self.stopped_after.last().copied()
    }
}

/// Measures one engine.
pub(super) fn run(program: &Path, options: &Options, engine: &str) -> Result<Dropped, Failure> {
    let mut dropped = Dropped::default();
    if options.tries == 0 {
        return Ok(dropped);
    }
    let server = Server::start(program, engine, options)?;
    let target = http::search_target(EXPRESSIONS[0]);
    // Twice: the first time reads the files into the page cache.
    for _ in 0..2 {
        dropped.whole_search = whole_search(server.addr(), &target)?;
    }
    if dropped.whole_search < LONG_ENOUGH {
        let took = dropped.whole_search.as_millis();
        return Err(format!(
            "a whole search takes {took} ms, too short to leave in its middle: \
             name a larger directory with `--dir DIR`"
        )
        .into());
    }
    let mut again = options.again as usize * options.tries;
    let mut n = 0;
    while n < options.tries {
        // At different places: from one sixth to four sixths of the way.
        let stay = dropped.whole_search * (1 + n as u32 % 4) / 6;
        match leave(&server, &target, stay)? {
            Some(left) if left.disturbed && again > 0 => {
                again -= 1;
                dropped.again.push(left.stopped_after);
                continue;
            }
            Some(left) => {
                dropped.disturbed += usize::from(left.disturbed);
                dropped.stopped_after.push(left.stopped_after);
            }
            None => dropped.too_late += 1,
        }
        n += 1;
    }
    dropped.stopped_after.sort();
    dropped.again.sort();
    Ok(dropped)
}

fn whole_search(addr: SocketAddr, target: &str) -> Result<Duration, Failure> {
    let began = Instant::now();
    let body = http::get(addr, target)?;
    if !body.contains("\"done\"") {
        return Err(format!("a search ended without a summary: {body:?}").into());
    }
    Ok(began.elapsed())
}

/// One try; `None` if the search had ended before the client left.
fn leave(server: &Server, target: &str, stay: Duration) -> Result<Option<Left>, Failure> {
    let before = server.totals()?;
    let client = http::send(server.addr(), target)?;
    thread::sleep(stay);
    let own = CpuClock::of(std::process::id())?;
    let (busy_before, own_before, server_before) = (machine_busy()?, own.read()?, server.cpu()?);
    let readings = thread::scope(|scope| scope.spawn(|| watch(server, client)).join());
    let readings = readings.map_err(|_| "the watching thread panicked")??;
    let ours = own.read()?.saturating_sub(own_before) + server.cpu()?.saturating_sub(server_before);
    let others = machine_busy()?.saturating_sub(busy_before).saturating_sub(ours);
    let cancelled = server.totals()?.since(&before).cancelled;

    let gaps = readings.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let held_up = gaps.max().is_none_or(|gap| gap > QUIET_GAP);
    let disturbed = held_up || others.as_secs_f64() > QUIET_OTHERS * WATCHED.as_secs_f64();
    let left = Left { stopped_after: last_work(&readings), disturbed };
    Ok((cancelled == 1).then_some(left))
}

/// Closes the connection and reads the server's CPU clock for [`WATCHED`]: when, and how much.
fn watch(server: &Server, client: TcpStream) -> io::Result<Vec<(Duration, Duration)>> {
    priority::raise(LEVEL);
    let left = Instant::now();
    drop(client);
    let mut readings = Vec::new();
    while left.elapsed() < WATCHED {
        let cpu = server.cpu()?;
        readings.push((left.elapsed(), cpu));
        thread::sleep(PERIOD);
    }
    Ok(readings)
}

/// The first time after which the clock went on by no more than [`UNWINDING`].
fn last_work(readings: &[(Duration, Duration)]) -> Duration {
    let end = readings.last().map_or(Duration::ZERO, |(_, cpu)| *cpu);
    let stopped = readings.iter().find(|(_, cpu)| end - *cpu <= UNWINDING);
    stopped.map_or(WATCHED, |(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_work_is_where_the_clock_stops_but_for_the_unwinding() {
        let ms = Duration::from_millis;
        let us = Duration::from_micros;
        let readings = [
            (ms(0), ms(100)),
            (ms(1), ms(102)),
            (ms(2), ms(102)),
            (ms(3), ms(103)),
            (ms(4), ms(103) + us(150)),
            (ms(5), ms(103) + us(150)),
        ];
        assert_eq!(last_work(&readings), ms(3));
    }

    #[test]
    fn the_median_and_the_longest_are_of_sorted_tries() {
        let stopped_after = [1, 2, 9].map(Duration::from_millis).into();
        let dropped = Dropped { stopped_after, ..Dropped::default() };
        assert_eq!(dropped.median(), Some(Duration::from_millis(2)));
        assert_eq!(dropped.max(), Some(Duration::from_millis(9)));
        assert_eq!(Dropped::default().max(), None);
    }
}
