//! Beat alone, through criterion, which keeps the figures and says what has changed since they were taken
//! last.
//!
//! For figures beside other schedulers see `micro` and `instructions`.

mod common;

use std::time::{Duration, Instant};

use common::fork::{Counted, Fib, Halves, Pool, Tree, beat_runtime};
use common::table::Column;
use common::tasks::{self, Executor};
use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1_500))
        .sample_size(30)
        .configure_from_args();
    join(&mut criterion, "tree", Tree::of_levels(16));
    join(&mut criterion, "fib", Fib(22));
    join(&mut criterion, "sum by halves", Halves::of(1 << 15));
    spawn_and_wake(&mut criterion);
    criterion.final_summary();
}

/// Forks on one worker: none is promoted.
fn join(criterion: &mut Criterion, name: &str, program: impl Counted) {
    let pool = Pool::new(Column::Beat, 1, None);
    let mut group = criterion.benchmark_group("join");
    group.throughput(Throughput::Elements(program.joins()));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let nanos: f64 = (0..times).map(|_| pool.time(program)).sum();
            Duration::from_nanos(nanos as u64)
        });
    });
}

/// Tasks on two workers.
fn spawn_and_wake(criterion: &mut Criterion) {
    const COUNT: u64 = 1_000;
    let runtime = beat_runtime(2, None);
    let mut group = criterion.benchmark_group("tasks");
    group.throughput(Throughput::Elements(COUNT));
    group.bench_function("spawn and join from a task", |bencher| {
        bencher.iter_custom(|times| {
            repeat(&runtime, times, || tasks::spawn_from_a_worker::<beat::Runtime>(COUNT))
        });
    });
    group.throughput(Throughput::Elements(2 * COUNT));
    group.bench_function("wake-up by a task", |bencher| {
        bencher.iter_custom(|times| repeat(&runtime, times, || tasks::wakes::<beat::Runtime>(COUNT)));
    });
}

/// How long it takes to run something so many times, in one task.
fn repeat<F>(runtime: &beat::Runtime, times: u64, run: fn() -> F) -> Duration
where
    F: Future<Output = ()> + Send + 'static,
{
    runtime.run(async move {
        let start = Instant::now();
        for _ in 0..times {
            run().await;
        }
        start.elapsed()
    })
}
