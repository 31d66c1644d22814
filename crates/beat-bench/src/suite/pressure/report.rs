//! The suite's table, and its bars.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::report as page;
use super::Measured;
use super::options::Options;
use super::run::Run;
use crate::common::machine;

/// The bars that Beat is to reach.
const LEAST_SHARE: f64 = 0.8;
const MOST_HEALTH: Duration = Duration::from_millis(20);
const MOST_RECOVERY: Duration = Duration::from_secs(5);

/// The median of all runs.
fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<_> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn health(runs: &[Run]) -> Histogram<u64> {
    let mut all = Histogram::new(3).expect("three digits are supported");
    for run in runs {
        // Of the same precision, and it grows by itself.
        let _ = all.add(&run.health);
    }
    all
}

fn share(run: &Run) -> f64 {
    run.goodput / run.peak
}

/// The longest; `None` if somebody was never answered again.
fn recovery(runs: &[Run]) -> Option<Duration> {
    runs.iter().map(|run| run.recovery).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The suite's section of the page.
pub(super) fn section(options: &Options, all: &[Measured]) -> String {
    let mut text = format!(
        "## pressure, profile `{}`\n\n{}.\n\n\
         The thumbnails example in a control group: two clients in turn, for the peak; then an open loop; then rest. \
         `beat` holds back by headroom, `beat-stall-only` by the stalls of its own group alone (PSI), `beat-composite` by \
         the formula of Beat.zig; `tokio-blocking` hands each picture to `spawn_blocking`, and \
         `tokio-semaphore:N` does so with N permits. \
         *refused there*: at the peak, where there is room: refused without need. Limit {} MiB, {} workers, {} times the peak for {} s, {} runs; medians of runs, `/healthz` over all.\n\n\
         | engine | killed | peak/s | refused there/s | made/s | share of peak, least | refused/s | failed | `/healthz` p50, ms | p99 | \
         most MiB | admission back, s at most |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        page::profile(),
        machine::describe(),
        options.limit >> 20,
        options.workers,
        options.factor,
        options.seconds,
        options.runs,
    );
    for Measured { engine, runs } in all {
        let killed = runs.iter().filter(|run| run.killed).count();
        let health = health(runs);
        let ms = |quantile| health.value_at_quantile(quantile) as f64 / 1e3;
        let least = runs.iter().map(share).fold(f64::INFINITY, f64::min);
        let back = recovery(runs).map_or("never".into(), |time| format!("{:.1}", time.as_secs_f64()));
        text += &format!(
            "| {engine} | {killed} of {} | {:.1} | {:.1} | {:.1} | {:.2}, {least:.2} | {:.1} | {} | {:.1} | {:.1} | {} | {back} |\n",
            runs.len(),
            median(runs, |run| run.peak),
            median(runs, |run| run.peak_refused),
            median(runs, |run| run.goodput),
            median(runs, share),
            median(runs, |run| run.refused),
            runs.iter().map(|run| run.failed).sum::<u64>(),
            ms(0.5),
            ms(0.99),
            runs.iter().map(Run::most_used).max().unwrap_or(0) >> 20,
        );
    }
    text
}

/// What Beat has not reached.
pub(super) fn missed(all: &[Measured]) -> Vec<String> {
    let mut missed = Vec::new();
    for Measured { engine, runs } in all.iter().filter(|measured| measured.engine == "beat") {
        if runs.iter().any(|run| run.killed) {
            missed.push(format!("{engine} was killed"));
        }
        let share = median(runs, share);
        if share < LEAST_SHARE {
            missed.push(format!("{engine} made {share:.2} of its peak, and {LEAST_SHARE} are the bar"));
        }
        let p99 = Duration::from_micros(health(runs).value_at_quantile(0.99));
        if p99 > MOST_HEALTH {
            missed.push(format!("/healthz took {p99:?} at p99, and {MOST_HEALTH:?} are the bar"));
        }
        match recovery(runs) {
            Some(time) if time <= MOST_RECOVERY => {}
            other => {
                missed.push(format!("admission was back after {other:?}, and {MOST_RECOVERY:?} are the bar"));
            }
        }
    }
    missed
}
