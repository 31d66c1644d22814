//! Nanoseconds for each element of a loop: `beat::iter`, rayon with the best `with_min_len` of several, and sequential.
//!
//! As in the other benches all run in this process, on the same inputs, with their results checked, in interleaved
//! [rounds](common::rounds). rayon's least length is chosen for each loop by a trial before; Beat is told nothing.
//! Each turn is a closure of its own that runs its loop once; short loops also run many times in a row, and after the pool has
//! been idle for a while. Arguments choose loops by parts of their names: `cargo bench --features rayon --bench iter --
//! collect dearer`.

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use beat::iter::OnBeat;
use common::fork::beat_runtime;
use common::rounds::{Contender, Rounds};
use common::table::{Column, Row, Spread};
use common::{Mode, machine, table};
use rayon::prelude::*;

const WORKERS: usize = 2;
/// The least lengths that rayon is tried with.
const LEAST: [usize; 5] = [1, 64, 1024, 16_384, 262_144];
/// How often a short loop runs in a row.
const IN_A_ROW: usize = 32;
/// How long the pool is idle before a short loop, in microseconds.
const RESTS: [u64; 2] = [200, 3000];
/// Turns of each trial.
const TRIALS: usize = 5;

/// Who drives a loop.
#[derive(Clone, Copy, Debug)]
enum How {
    Sequential,
    Beat,
    /// With this least length.
    Rayon(usize),
}

/// The same loop, on an iterator of each kind.
macro_rules! driven {
    ($how:expr, $sequential:expr, $parallel:expr, |$iter:ident| $body:expr) => {
        match $how {
            How::Sequential => {
                let $iter = $sequential;
                $body
            }
            How::Beat => {
                let $iter = $parallel.on_beat();
                $body
            }
            How::Rayon(least) => {
                let $iter = $parallel.with_min_len(least);
                $body
            }
        }
    };
}

/// A loop over so many elements, so many times in a row, after a rest; what it gives is a number.
struct Loop {
    name: String,
    elements: usize,
    times: usize,
    rest: Duration,
    run: Arc<dyn Fn(How) -> f64 + Send + Sync>,
}

impl Loop {
    fn new(name: &str, elements: usize, run: impl Fn(How) -> f64 + Send + Sync + 'static) -> Self {
        Self {
            name: format!("{name}, {elements}"),
            elements,
            times: 1,
            rest: Duration::ZERO,
            run: Arc::new(run),
        }
    }

    fn after(self, microseconds: u64) -> Self {
        let rest = Duration::from_micros(microseconds);
        Self { name: format!("{}, after {rest:?}", self.name), rest, ..self }
    }

    fn in_a_row(self) -> Self {
        Self { name: format!("{}, {IN_A_ROW} in a row", self.name), times: IN_A_ROW, ..self }
    }
}

/// Loops over the same numbers.
fn over_numbers(n: usize) -> Vec<Loop> {
    let numbers: Arc<Vec<f64>> = Arc::new((0..n).map(|i| (i % 1000) as f64).collect());
    let with = |f: fn(&[f64], How) -> f64| {
        let numbers = Arc::clone(&numbers);
        move |how| f(&numbers, how)
    };
    vec![
        Loop::new("sum", n, with(|v, how| driven!(how, v.iter(), v.par_iter(), |it| it.sum::<f64>()))),
        Loop::new(
            "map (root) and sum",
            n,
            with(|v, how| driven!(how, v.iter(), v.par_iter(), |it| it.map(|x| x.sqrt()).sum::<f64>())),
        ),
        Loop::new(
            "filter and count",
            n,
            with(|v, how| {
                driven!(how, v.iter(), v.par_iter(), |it| it.filter(|x| **x < 333.0).count()) as f64
            }),
        ),
        Loop::new(
            "map and collect",
            n,
            with(|v, how| {
                let out: Vec<f64> = driven!(how, v.iter(), v.par_iter(), |it| it.map(|x| x + 1.0).collect());
                out.len() as f64 + out.last().copied().unwrap_or_default()
            }),
        ),
    ]
}

/// Element i costs i steps.
fn triangle(n: usize) -> Loop {
    Loop::new("irregular: element i takes i steps", n, move |how| {
        let steps = |i: usize| (0..i as u64).fold(0, |a, b| black_box(a ^ b)) as f64;
        driven!(how, 0..n, (0..n).into_par_iter(), |it| it.map(steps).sum::<f64>())
    })
}

/// All elements cost the same, but for one, which costs a thousand times as much.
fn one_dear(n: usize, at: usize) -> Loop {
    Loop::new(&format!("irregular: element {at} is a thousand times dearer"), n, move |how| {
        let steps = move |i: usize| {
            let steps = if i == at { 100_000 } else { 100 };
            (0..steps).fold(0_u64, |a, b| black_box(a ^ b)) as f64
        };
        driven!(how, 0..n, (0..n).into_par_iter(), |it| it.map(steps).sum::<f64>())
    })
}

/// A sparse matrix by rows, of which some are long, and a vector.
fn sparse(rows: usize) -> Loop {
    let mut random = 1_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    let matrix: Vec<Vec<(usize, f64)>> = (0..rows)
        .map(|row| {
            let entries = if row % 97 == 0 { 200 } else { 5 };
            (0..entries).map(|_| (next() % rows, (next() % 8) as f64)).collect()
        })
        .collect();
    let x: Vec<f64> = (0..rows).map(|i| (i % 16) as f64).collect();
    Loop::new("sparse matrix times vector, rows", rows, move |how| {
        let dot = |row: &Vec<(usize, f64)>| row.iter().map(|&(column, a)| a * x[column]).sum::<f64>();
        let y: Vec<f64> = driven!(how, matrix.iter(), matrix.par_iter(), |it| it.map(dot).collect());
        y.iter().sum()
    })
}

/// Steps until each pixel leaves the circle, at most 200.
fn mandelbrot(side: usize) -> Loop {
    Loop::new("Mandelbrot set, pixels", side * side, move |how| {
        let steps = |pixel: usize| {
            let (cx, cy) = ((pixel % side) as f64, (pixel / side) as f64);
            let (cx, cy) = (cx / side as f64 * 3.0 - 2.0, cy / side as f64 * 3.0 - 1.5);
            let (mut x, mut y, mut steps) = (0.0, 0.0, 0_u32);
            while steps < 200 && x * x + y * y <= 4.0 {
                (x, y) = (x * x - y * y + cx, 2.0 * x * y + cy);
                steps += 1;
            }
            f64::from(steps)
        };
        let pixels = side * side;
        driven!(how, 0..pixels, (0..pixels).into_par_iter(), |it| it.map(steps).sum::<f64>())
    })
}

/// Who runs the loops.
struct Pools {
    beat: beat::Runtime,
    rayon: rayon::ThreadPool,
}

impl Pools {
    /// Runs a loop inside its pool; nanoseconds for each element.
    fn time(&self, what: &Loop, how: How, expected: f64) -> f64 {
        let (run, elements, times) = (Arc::clone(&what.run), what.elements, what.times);
        let time = move || {
            let start = Instant::now();
            for _ in 0..times {
                let result = black_box(run(black_box(how)));
                // Sums of numbers with fractions differ by the order of summing.
                assert!(
                    (result - expected).abs() <= expected.abs() * 1e-9,
                    "{how:?} gave {result}, not {expected}"
                );
            }
            start.elapsed().as_nanos() as f64 / (times * elements) as f64
        };
        thread::sleep(what.rest);
        match how {
            How::Sequential => time(),
            How::Beat => {
                let closure = self.beat.spawn_blocking_parallel(time);
                self.beat.block_on(closure).expect("the loop ends")
            }
            How::Rayon(_) => self.rayon.install(time),
        }
    }

    fn best_least(&self, what: &Loop, expected: f64) -> usize {
        let time = |least| {
            let times = (0..TRIALS).map(|_| self.time(what, How::Rayon(least), expected));
            Spread::of(times.collect()).median
        };
        let allowed = LEAST.into_iter().filter(|&least| least <= what.elements);
        let timed = allowed.map(|least| (least, time(least)));
        timed.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(1, |(least, _)| least)
    }

    fn row(&self, rounds: Rounds, what: &Loop) -> Row {
        let expected = (what.run)(How::Sequential);
        let least = self.best_least(what, expected);
        let contender = |column, how| Contender::new(column, move || self.time(what, how, expected));
        let measured = rounds.interleave(vec![
            contender(Column::Sequential, How::Sequential),
            contender(Column::Beat, How::Beat),
            contender(Column::Rayon, How::Rayon(least)),
        ]);
        rounds.row(format!("{}; rayon's least length {least}", what.name), "ns", &measured, |&time| time)
    }
}

fn main() {
    let mode = Mode::from_args();
    let rounds = mode.pick(Rounds { rounds: 9, turns: 9 }, Rounds { rounds: 1, turns: 1 });
    let pools = Pools {
        beat: beat_runtime(WORKERS, None),
        rayon: rayon::ThreadPoolBuilder::new()
            .num_threads(WORKERS)
            .build()
            .expect("rayon starts its threads"),
    };
    let mut loops = Vec::new();
    let lengths = mode.pick([1000, 100_000, 16 << 20], [0, 100, 1000]);
    for n in &lengths[..2] {
        loops.extend(over_numbers(*n).into_iter().map(Loop::in_a_row));
    }
    for n in lengths {
        loops.extend(over_numbers(n));
    }
    for rest in RESTS {
        let short = over_numbers(mode.pick(1000, 100)).swap_remove(0);
        loops.push(short.after(rest));
    }
    loops.push(triangle(mode.pick(10_000, 50)));
    let n = mode.pick(10_000, 50);
    loops.extend([0, n / 3, n - 1].map(|at| one_dear(n, at)));
    loops.push(sparse(mode.pick(100_000, 200)));
    loops.push(mandelbrot(mode.pick(400, 20)));
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    loops.retain(|what| wanted.is_empty() || wanted.iter().any(|part| what.name.contains(part)));
    let rows: Vec<Row> = loops.iter().map(|what| pools.row(rounds, what)).collect();
    if mode == Mode::Tiny {
        println!("iter: ran everything once, measured nothing");
        return;
    }
    println!("\n# Nanoseconds for each element, {WORKERS} workers\n\n{}.\n", machine::describe());
    table::print(&rows);
}
