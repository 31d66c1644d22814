//! The suite's tables, in Markdown.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::priority::Priority;
use super::Measured;
use super::light::histogram;
use super::options::Options;
use super::round::{QUIET_FLOOR, QUIET_OTHERS, Round};
use super::server::Totals;

/// Searches and workers that the promises for light requests speak of.
const PROMISED_LOAD: (usize, usize) = (4, 2);
/// What Beat promises for light requests beside them.
const PROMISED_P99: Duration = Duration::from_millis(1);
const PROMISED_P999: Duration = Duration::from_millis(5);
/// What Beat promises for a client that has left.
const PROMISED_STOP: Duration = Duration::from_millis(20);

/// All of it.
pub(super) fn tables(options: &Options, all: &[Measured]) -> String {
    let mut text = String::new();
    write_all(&mut text, options, all).expect("a string takes all text");
    text
}

fn write_all(out: &mut String, options: &Options, all: &[Measured]) -> std::fmt::Result {
    mixed(out, options, all)?;
    if options.tries > 0 {
        dropped(out, all)?;
    }
    writeln!(out)?;
    for measured in all {
        remarks(out, measured)?;
    }
    for measured in all.iter().filter(|measured| measured.engine == "beat") {
        promises(out, options, measured)?;
    }
    Ok(())
}

/// Light requests beside searches.
fn mixed(out: &mut String, options: &Options, all: &[Measured]) -> std::fmt::Result {
    let Options { rounds, requests, rate, searches, workers, .. } = options;
    let first = all.first().and_then(|measured| measured.rounds.first());
    let [generator, prober] =
        first.map_or([Priority::Ordinary; 2], |round| [round.light.priority, round.floor_priority]);
    writeln!(
        out,
        "`GET /healthz` beside {searches} endless searches on {workers} workers: {requests} \
         requests at {rate}/s, open loop, µs from the scheduled send, {rounds} interleaved \
         rounds; generator at {generator}.\n"
    )?;
    writeln!(
        out,
        "| engine | p50 | p99 | p99.9 | max | p99 by round | floor p99.9 by round | others' cores \
         by round | searches/s | MB/s scanned | server CPU s | cores |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    )?;
    let mut floor = histogram();
    for measured in all {
        row(out, measured)?;
        floor += measured.merged(|round| &round.floor);
    }
    writeln!(
        out,
        "| floor | {} | | | | | | | |\n\n\
         Floor: how late a thread at {prober} wakes from a sleep in the same rounds, which is what \
         the machine itself takes. Others' cores: busy with neither server nor load. A round is \
         disturbed if the floor's p99.9 is above {} µs or the others' cores are above {QUIET_OTHERS}.",
        quantiles(&floor),
        QUIET_FLOOR.as_micros(),
    )
}

/// Searches whose client leaves.
fn dropped(out: &mut String, all: &[Measured]) -> std::fmt::Result {
    writeln!(
        out,
        "\nA client leaves in the middle of the only search: ms until the last CPU use.\n\n\
         | engine | dropped searches | median | max | the whole search would take |\n\
         |---|--:|--:|--:|--:|"
    )?;
    for Measured { engine, dropped, .. } in all {
        let count = dropped.stopped_after.len();
        let ms = |time: Option<Duration>| time.map_or("–".into(), |time| decimal(time, 1e3, 1));
        let (median, max) = (ms(dropped.median()), ms(dropped.max()));
        let whole = decimal(dropped.whole_search, 1e3, 0);
        writeln!(out, "| {engine} | {count} | {median} | {max} | {whole} |")?;
    }
    Ok(())
}

fn row(out: &mut String, measured: &Measured) -> std::fmt::Result {
    let Measured { engine, rounds, .. } = measured;
    let by_round = |cell: &dyn Fn(&Round) -> String| rounds.iter().map(cell).collect::<Vec<_>>().join(", ");
    let seconds: f64 = rounds.iter().map(|round| round.wall.as_secs_f64()).sum();
    let sum = |part: &dyn Fn(&Totals) -> f64| -> f64 { rounds.iter().map(|round| part(&round.server)).sum() };
    let cpu = sum(&|server| server.cpu.as_secs_f64());
    writeln!(
        out,
        "| {engine} | {} | {} | {} | {} | {:.1} | {:.0} | {cpu:.1} | {:.2} |",
        quantiles(&measured.merged(|round| &round.light.latencies)),
        by_round(&|round| micros(round.p99())),
        by_round(&|round| micros(round.floor.value_at_quantile(0.999))),
        by_round(&|round| format!("{:.2}", round.others)),
        sum(&|server| server.completed as f64) / seconds,
        sum(&|server| server.bytes as f64) / 1e6 / seconds,
        cpu / seconds,
    )
}

/// p50, p99, p99.9 and the maximum as cells.
fn quantiles(histogram: &Histogram<u64>) -> String {
    let cells = [0.5, 0.99, 0.999].map(|q| histogram.value_at_quantile(q));
    let [p50, p99, p999] = cells.map(micros);
    format!("{p50} | {p99} | {p999} | {}", micros(histogram.max()))
}

/// What a reader must know about the figures of one engine.
fn remarks(out: &mut String, measured: &Measured) -> std::fmt::Result {
    let Measured { engine, disturbed, dropped, .. } = measured;
    let p99s: Vec<String> = disturbed.iter().map(|round| micros(round.p99())).collect();
    let longest = dropped.again.last().copied().unwrap_or_default();
    let counted = [
        (disturbed.len(), format!("disturbed rounds measured again; their p99: {}", p99s.join(", "))),
        (measured.disturbed_rounds(), "disturbed rounds that count, for want of quiet ones".into()),
        (measured.unanswered(), "light requests without any answer".into()),
        (
            dropped.again.len(),
            format!("disturbed dropped searches tried again; the longest: {} ms", decimal(longest, 1e3, 1)),
        ),
        (dropped.disturbed, "disturbed dropped searches that count, for want of quiet ones".into()),
        (dropped.too_late, "searches that had ended before their client left".into()),
    ];
    for (count, what) in counted.iter().filter(|(count, _)| *count > 0) {
        writeln!(out, "- {engine}: {count} {what}")?;
    }
    Ok(())
}

/// Whether Beat has kept what it promises; for want of a quiet machine, a breach proves nothing.
fn promises(out: &mut String, options: &Options, measured: &Measured) -> std::fmt::Result {
    let light = measured.merged(|round| &round.light.latencies);
    let at = |quantile| Duration::from_nanos(light.value_at_quantile(quantile));
    let mut promises = Vec::new();
    if (options.searches, options.workers) == PROMISED_LOAD {
        let quiet = measured.disturbed_rounds() == 0;
        promises.push(("p99", at(0.99), PROMISED_P99, quiet));
        promises.push(("p99.9", at(0.999), PROMISED_P999, quiet));
    }
    let quiet = measured.dropped.disturbed == 0;
    promises.extend(measured.dropped.max().map(|max| ("dropped client", max, PROMISED_STOP, quiet)));
    for (what, time, promised, quiet) in promises {
        let kept = match (time <= promised, quiet) {
            (true, _) => "kept",
            (false, true) => "NOT KEPT",
            (false, false) => "not kept on a disturbed machine",
        };
        let (time, promised) = (decimal(time, 1e3, 2), decimal(promised, 1e3, 0));
        writeln!(out, "- {}, {what}: {time} ms, promised {promised} ms: {kept}", measured.engine)?;
    }
    Ok(())
}

impl Measured {
    /// One histogram of all rounds that count.
    fn merged(&self, part: impl Fn(&Round) -> &Histogram<u64>) -> Histogram<u64> {
        self.rounds.iter().fold(histogram(), |mut sum, round| {
            sum += part(round);
            sum
        })
    }

    /// Of the rounds that count.
    fn disturbed_rounds(&self) -> usize {
        self.rounds.iter().filter(|round| !round.is_quiet()).count()
    }

    fn unanswered(&self) -> usize {
        self.rounds.iter().map(|round| round.light.unanswered as usize).sum()
    }
}

fn micros(nanos: u64) -> String {
    decimal(Duration::from_nanos(nanos), 1e6, 0)
}

fn decimal(time: Duration, a_second: f64, digits: usize) -> String {
    format!("{:.digits$}", time.as_secs_f64() * a_second)
}

#[cfg(test)]
mod tests {
    use super::super::dropped::Dropped;
    use super::super::light::Light;
    use super::*;

    fn measured(engine: &str, latency: Duration, others: f64) -> Measured {
        let mut latencies = histogram();
        latencies.record_n(latency.as_nanos() as u64, 1_000).unwrap();
        let light = Light { latencies, unanswered: 0, priority: Priority::RealTime };
        let server =
            Totals { completed: 6, bytes: 4_000_000, cpu: Duration::from_secs(3), ..Totals::default() };
        let wall = Duration::from_secs(2);
        let floor_priority = Priority::RealTime;
        let round = Round { light, floor: histogram(), floor_priority, others, wall, server };
        let stopped_after = vec![Duration::from_millis(3), Duration::from_millis(30)];
        let dropped = Dropped { stopped_after, ..Dropped::default() };
        Measured { engine: engine.into(), rounds: vec![round], disturbed: Vec::new(), dropped }
    }

    fn tables_of(all: &[Measured]) -> String {
        let options = super::super::options::parse(lexopt::Parser::from_args([""; 0]));
        tables(&options.unwrap().unwrap(), all)
    }

    #[test]
    fn a_row_has_a_cell_for_each_heading() {
        let text = tables_of(&[measured("beat", Duration::from_micros(100), 0.0)]);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        let cells = |row: &str| row.matches('|').count();
        assert!(rows[..4].iter().all(|row| cells(row) == cells(rows[0])), "{text}");
        assert!(rows[4..].iter().all(|row| cells(row) == cells(rows[4])), "{text}");
        assert!(rows[2].contains("| 3.0 | 2 | 3.0 | 1.50 |"), "{text}");
    }

    #[test]
    fn a_promise_is_judged_on_a_quiet_machine_only() {
        let fast = Duration::from_micros(900);
        let slow = Duration::from_millis(2);
        let quiet = tables_of(&[measured("beat", slow, 0.0)]);
        assert!(quiet.contains("p99: 2.00 ms, promised 1 ms: NOT KEPT"), "{quiet}");
        assert!(quiet.contains("p99.9: 2.00 ms, promised 5 ms: kept"), "{quiet}");
        assert!(quiet.contains("dropped client: 30.00 ms, promised 20 ms: NOT KEPT"), "{quiet}");
        let disturbed = tables_of(&[measured("beat", slow, 0.5)]);
        assert!(disturbed.contains("promised 1 ms: not kept on a disturbed machine"), "{disturbed}");
        assert!(disturbed.contains("- beat: 1 disturbed rounds that count"), "{disturbed}");
        let kept = tables_of(&[measured("beat", fast, 0.0), measured("tokio-rayon", slow, 0.0)]);
        assert!(kept.contains("promised 1 ms: kept") && !kept.contains("tokio-rayon, p99"), "{kept}");
    }
}
