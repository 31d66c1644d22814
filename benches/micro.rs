//! Nanoseconds: a fork, a spawn, a yield and a wake-up, on Beat, on its peers and without a scheduler.
//!
//! All run in this process, on the same inputs, with their results checked, in interleaved
//! [rounds](common::rounds). One Markdown table comes at the end: medians of the rounds, and in brackets the
//! least and the greatest round.

mod common;

use std::time::Instant;

use common::fork::{Counted, Fib, Halves, Pool, Program, Tree, beat_runtime};
use common::idle::{self, INTERVAL};
use common::rounds::{Contender, Rounds};
use common::table::{Column, Row};
use common::tasks::{self, Executor, tokio_runtime};
use common::{Mode, machine, table};

/// How many workers run tasks.
const WORKERS: usize = 2;

fn main() {
    let mode = Mode::from_args();
    let rounds = mode.pick(Rounds { rounds: 9, turns: 9 }, Rounds { rounds: 1, turns: 1 });
    let mut rows = Vec::new();
    fork_rows(&mut rows, rounds, mode);
    task_rows(&mut rows, rounds, mode);
    idle_rows(&mut rows, mode);
    if mode == Mode::Tiny {
        println!("micro: ran everything once, measured nothing");
        return;
    }
    println!("\n# Nanoseconds\n\n{}.", machine::describe());
    println!(
        "Median [least..greatest] of {} rounds, each the median of {} turns.\n",
        rounds.rounds, rounds.turns
    );
    table::print(&rows);
    println!("{NOTES}");
}

const NOTES: &str = "
On one thread nothing is promoted, so the difference is what the fork costs. chili makes one fork in 64
promotable once three are queued. Tasks run on two workers. Two or more workers of Beat are pinned, as those
of `#[beat::main]` are. Sequential tasks are the same futures and channels, polled by hand; a sequential
wake-up from outside unparks a thread.";

// ----- forks -----

fn fork_rows(rows: &mut Vec<Row>, rounds: Rounds, mode: Mode) {
    let tree = Tree::of_levels(mode.pick(20, 8));
    one_thread(rows, rounds, &format!("tree of {} nodes", tree.nodes()), tree);
    let tree = Tree::of_levels(mode.pick(22, 8));
    two_threads(rows, rounds, &format!("tree of {} nodes", tree.nodes()), tree);
    let fib = Fib(mode.pick(27, 10));
    one_thread(rows, rounds, &format!("fib({})", fib.0), fib);
    let fib = Fib(mode.pick(32, 10));
    two_threads(rows, rounds, &format!("fib({})", fib.0), fib);
    let halves = Halves::of(mode.pick(1 << 18, 1 << 8));
    one_thread(rows, rounds, &format!("sum of {} numbers by halves", halves.numbers()), halves);
}

/// Everybody's turn at a program.
fn forkers<P: Program>(pools: &[(Column, Pool)], program: P) -> Vec<Contender<'_, f64>> {
    pools.iter().map(|(column, pool)| Contender::new(*column, move || pool.time(program))).collect()
}

fn one_thread<P: Counted>(rows: &mut Vec<Row>, rounds: Rounds, name: &str, program: P) {
    let pools = Pool::all(1);
    let times = rounds.interleave(forkers(&pools, program));
    let joins = program.joins() as f64;
    rows.push(rounds.row(format!("{name}, 1 thread"), "ms", &times, |time| time / 1e6));
    rows.push(rounds.row_over_sequential(
        "– a join, beyond the sequential calls",
        "ns",
        &times,
        |own, sequential| (own - sequential) / joins,
    ));
    rows.push(
        rounds.row_over_sequential("– time over sequential", "×", &times, |own, sequential| {
            own / sequential
        }),
    );
}

fn two_threads<P: Program>(rows: &mut Vec<Row>, rounds: Rounds, name: &str, program: P) {
    let pools = Pool::all(2);
    let times = rounds.interleave(forkers(&pools, program));
    rows.push(rounds.row(format!("{name}, 2 threads"), "ms", &times, |time| time / 1e6));
    rows.push(rounds.row_over_sequential("– speed-up over sequential", "×", &times, |own, sequential| {
        sequential / own
    }));
}

// ----- tasks -----

fn task_rows(rows: &mut Vec<Row>, rounds: Rounds, mode: Mode) {
    let (beat, tokio) = (beat_runtime(WORKERS, None), tokio_runtime(WORKERS));
    let count = mode.pick(10_000, 10);
    let (yielders, times) = mode.pick((200, 1_000), (2, 10));

    let mut row = |what: String, operations: u64, contenders| {
        let times = rounds.interleave(contenders);
        rows.push(rounds.row(what, "ns", &times, |time| time / operations as f64));
    };
    row(
        format!("spawn and join {count} tasks from a task, each"),
        count,
        vec![
            Contender::new(Column::Sequential, || time(|| tasks::call(count))),
            Contender::new(Column::Beat, || {
                on_a_worker(&beat, tasks::spawn_from_a_worker::<beat::Runtime>(count))
            }),
            Contender::new(Column::Tokio, || {
                on_a_worker(&tokio, tasks::spawn_from_a_worker::<tokio::runtime::Runtime>(count))
            }),
        ],
    );
    row(
        format!("spawn and join {count} tasks from outside, each"),
        count,
        vec![
            Contender::new(Column::Sequential, || time(|| tasks::call(count))),
            Contender::new(Column::Beat, || time(|| tasks::spawn_from_outside(&beat, count))),
            Contender::new(Column::Tokio, || time(|| tasks::spawn_from_outside(&tokio, count))),
        ],
    );
    row(
        format!("yield, {yielders} tasks"),
        yielders * times,
        vec![
            Contender::new(Column::Sequential, || time(|| tasks::yields_by_hand(yielders, times))),
            Contender::new(Column::Beat, || {
                on_a_worker(&beat, tasks::yields::<beat::Runtime>(yielders, times))
            }),
            Contender::new(Column::Tokio, || {
                on_a_worker(&tokio, tasks::yields::<tokio::runtime::Runtime>(yielders, times))
            }),
        ],
    );
    row(
        "oneshot ping-pong with a new task, each".into(),
        count,
        vec![
            Contender::new(Column::Sequential, || time(|| tasks::ping_pong_by_hand(count))),
            Contender::new(Column::Beat, || on_a_worker(&beat, tasks::ping_pong::<beat::Runtime>(count))),
            Contender::new(Column::Tokio, || {
                on_a_worker(&tokio, tasks::ping_pong::<tokio::runtime::Runtime>(count))
            }),
        ],
    );
    row(
        "wake-up of a task by a task".into(),
        2 * count,
        vec![
            Contender::new(Column::Sequential, || time(|| tasks::wakes_by_hand(count))),
            Contender::new(Column::Beat, || on_a_worker(&beat, tasks::wakes::<beat::Runtime>(count))),
            Contender::new(Column::Tokio, || {
                on_a_worker(&tokio, tasks::wakes::<tokio::runtime::Runtime>(count))
            }),
        ],
    );
}

/// How many nanoseconds something takes.
fn time(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_nanos() as f64
}

/// How many nanoseconds something takes in a task.
fn on_a_worker<E: Executor>(runtime: &E, run: impl Future<Output = ()> + Send + 'static) -> f64 {
    runtime.run(async move {
        let start = Instant::now();
        run.await;
        start.elapsed().as_nanos() as f64
    })
}

// ----- idle -----

fn idle_rows(rows: &mut Vec<Row>, mode: Mode) {
    let (beat, tokio) = (beat_runtime(WORKERS, None), tokio_runtime(WORKERS));
    let wakes = mode.pick(400, 3);
    let rounds = Rounds { rounds: mode.pick(9, 1), turns: 1 };
    let latencies = rounds.interleave(vec![
        Contender::new(Column::Sequential, || idle::unpark_a_thread(wakes)),
        Contender::new(Column::Beat, || idle::wake_a_task(&beat, wakes)),
        Contender::new(Column::Tokio, || idle::wake_a_task(&tokio, wakes)),
    ]);
    let what = |p| format!("wake-up from outside, idle for {INTERVAL:?}, {wakes} a round: {p}");
    rows.push(rounds.row(what("p50"), "µs", &latencies, |latency| latency.p50));
    rows.push(rounds.row(what("p99"), "µs", &latencies, |latency| latency.p99));
}
