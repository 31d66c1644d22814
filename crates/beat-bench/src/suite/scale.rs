//! The other suites by number of workers, from one to as many as the machine has cores.

use super::figures::{Bars, Group, Row};
use super::options::Options;
use super::report::Section;
use super::{fork, http, mixed, tasks};
use crate::Failure;

/// The rows of one suite with so many workers.
type Rows = fn(&Options) -> Result<Vec<Row>, Failure>;

const PARTS: [(&str, &str, Rows); 4] = [
    ("fork", "Fork-join programs", |options| Ok(fork::speed_ups(options))),
    ("async", "Tasks", |options| Ok(tasks::rows(options))),
    ("http", "HTTP", http::hello_rows),
    (
        "mixed",
        "Light requests beside forking closures, 4 outstanding, 2,000 requests a second",
        mixed::forking_rows,
    ),
];

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = Options::parse(parser)? else { return Ok(()) };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut groups = Vec::new();
    for (id, title, rows) in PARTS.into_iter().filter(|(id, ..)| options.wants(id)) {
        let mut all = Vec::new();
        for workers in counts(cores) {
            for mut row in rows(&options.with_workers(workers))? {
                row.what = format!("{}, {workers} workers", row.what);
                all.push(row);
            }
        }
        // What is the same program comes together, by number of workers.
        let program = |row: &Row| row.what.rsplit_once(", ").map(|(program, _)| program.to_owned());
        let order: Vec<_> = all.iter().map(program).collect();
        all.sort_by_key(|row| order.iter().position(|other| *other == program(row)));
        groups.push(Group { title: title.into(), id, rows: all });
    }
    let section = Section {
        suite: "scale",
        setup: format!(
            "Medians of {} interleaved rounds; as in the suites fork, async, http and mixed, on 1 to {cores} workers.",
            options.rounds()
        ),
        groups,
        bars: Bars::default().0,
    };
    section.publish(&options)
}

/// All up to eight, then powers of two and the last.
fn counts(cores: usize) -> Vec<usize> {
    let is_asked = |n: &usize| *n <= 8 || n.is_power_of_two() || *n == cores;
    (1..=cores).filter(is_asked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_machines_are_measured_at_powers_of_two() {
        assert_eq!(counts(2), [1, 2]);
        assert_eq!(counts(48), [1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 48]);
    }
}
