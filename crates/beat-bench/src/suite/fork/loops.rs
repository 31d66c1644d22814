//! Programs of parallel loops, as in the papers on heartbeat scheduling (Acar et al., PLDI 2018; Rainey et al.,
//! PLDI 2021).

use std::sync::Mutex;

use super::forks::{Loop, Looping, Plain};
use super::searches::mix;
use crate::common::fork::Program;

/// What a program works on, and writes to: one at a time, made once.
type Room<T> = &'static Mutex<T>;

fn room<T>(value: T) -> Room<T> {
    Box::leak(Box::new(Mutex::new(value)))
}

fn with<T, R>(room: Room<T>, run: impl FnOnce(&mut T) -> R) -> R {
    run(&mut room.lock().expect("no program panics"))
}

/// Runs a program once, to know its result.
fn result_of(program: impl Looping) -> u64 {
    program.run(&mut Plain)
}

/// From 0 to 1.
fn fraction(seed: u64) -> f64 {
    (mix(seed) >> 11) as f64 / (1_u64 << 53) as f64
}

// ----- mandelbrot -----

/// How often each point of a square picture can be squared before it escapes: rows differ by orders of magnitude.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mandelbrot {
    size: usize,
    rows: Room<Vec<u64>>,
    result: u64,
}

impl Mandelbrot {
    const MOST: u64 = 200;

    pub(super) fn new(size: usize) -> Self {
        let mut program = Self { size, rows: room(vec![0; size]), result: 0 };
        program.result = result_of(program);
        program
    }

    fn row(self, y: usize) -> u64 {
        let place = |n: usize, from: f64, to: f64| from + (to - from) * n as f64 / self.size as f64;
        let ci = place(y, -1.25, 1.25);
        (0..self.size).map(|x| Self::point(place(x, -2.0, 0.5), ci)).sum()
    }

    fn point(cr: f64, ci: f64) -> u64 {
        let (mut r, mut i) = (0.0, 0.0);
        for n in 0..Self::MOST {
            if r * r + i * i > 4.0 {
                return n;
            }
            (r, i) = (r * r - i * i + cr, 2.0 * r * i + ci);
        }
        Self::MOST
    }
}

impl Looping for Mandelbrot {
    fn run(self, by: &mut impl Loop) -> u64 {
        with(self.rows, |rows| {
            by.for_each(rows, |y, row| *row = self.row(y));
            rows.iter().sum()
        })
    }

    fn result(self) -> u64 {
        self.result
    }
}

// ----- sparse matrix by vector -----

/// A sparse matrix in compressed rows, times a vector. Most rows are short, few are very long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spmv {
    matrix: &'static Matrix,
    product: Room<Vec<f64>>,
    result: u64,
}

#[derive(Debug)]
struct Matrix {
    /// Where each row begins.
    starts: Vec<usize>,
    entries: Vec<(u32, f64)>,
    vector: Vec<f64>,
}

impl Spmv {
    pub(super) fn new(rows: usize) -> Self {
        let (mut starts, mut entries) = (vec![0], Vec::new());
        for row in 0..rows as u64 {
            // A power law: half of the rows have four entries or less, one in thousand a thousand or more.
            let len = (2.0 / fraction(row).max(2e-4)) as u64;
            entries.extend((0..len).map(|n| {
                let seed = row << 20 | n;
                ((mix(seed) % rows as u64) as u32, fraction(seed ^ 1 << 60))
            }));
            starts.push(entries.len());
        }
        let vector = (0..rows as u64).map(fraction).collect();
        let matrix = Box::leak(Box::new(Matrix { starts, entries, vector }));
        let mut program = Self { matrix, product: room(vec![0.0; rows]), result: 0 };
        program.result = result_of(program);
        program
    }
}

impl Looping for Spmv {
    fn run(self, by: &mut impl Loop) -> u64 {
        let Matrix { starts, entries, vector } = self.matrix;
        with(self.product, |product| {
            by.for_each(product, |row, out| {
                let entries = &entries[starts[row]..starts[row + 1]];
                *out = entries.iter().map(|(column, value)| value * vector[*column as usize]).sum();
            });
            // Rows are added up in the same order by everybody, so the bits agree.
            product.iter().fold(0, |hash, value| mix(hash ^ value.to_bits()))
        })
    }

    fn result(self) -> u64 {
        self.result
    }
}

// ----- k-means -----

const DIMENSIONS: usize = 4;
const CENTRES: usize = 16;
type Point = [f64; DIMENSIONS];

/// Some rounds of Lloyd's algorithm: points look for their nearest centre in parallel, centres move one by one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kmeans {
    points: &'static [Point],
    rounds: usize,
    nearest: Room<Vec<usize>>,
    result: u64,
}

impl Kmeans {
    pub(super) fn new(points: u64, rounds: usize) -> Self {
        let point = |n: u64| std::array::from_fn(|d| fraction(n << 8 | d as u64));
        let points: Vec<Point> = (0..points).map(point).collect();
        let nearest = room(vec![0; points.len()]);
        let mut program = Self { points: points.leak(), rounds, nearest, result: 0 };
        program.result = result_of(program);
        program
    }

    fn move_centres(self, nearest: &[usize], centres: &mut [Point; CENTRES]) {
        let mut sums = [([0.0; DIMENSIONS], 0_u32); CENTRES];
        for (point, &centre) in self.points.iter().zip(nearest) {
            let (sum, count) = &mut sums[centre];
            sum.iter_mut().zip(point).for_each(|(sum, x)| *sum += x);
            *count += 1;
        }
        for (centre, (sum, count)) in centres.iter_mut().zip(sums).filter(|(_, (_, count))| *count > 0) {
            *centre = sum.map(|x| x / f64::from(count));
        }
    }
}

fn nearest_to(point: &Point, centres: &[Point; CENTRES]) -> usize {
    let distance = |centre: &Point| point.iter().zip(centre).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
    let mut best = (f64::INFINITY, 0);
    for (index, centre) in centres.iter().enumerate() {
        let distance = distance(centre);
        if distance < best.0 {
            best = (distance, index);
        }
    }
    best.1
}

impl Looping for Kmeans {
    fn run(self, by: &mut impl Loop) -> u64 {
        with(self.nearest, |nearest| {
            let mut centres: [Point; CENTRES] = std::array::from_fn(|n| self.points[n]);
            for _ in 0..self.rounds {
                by.for_each(nearest, |n, nearest| *nearest = nearest_to(&self.points[n], &centres));
                self.move_centres(nearest, &mut centres);
            }
            centres.as_flattened().iter().fold(0, |hash, x| mix(hash ^ x.to_bits()))
        })
    }

    fn result(self) -> u64 {
        self.result
    }
}

// ----- shortest paths -----

/// Floyd's and Warshall's shortest paths between all pairs: a short loop over the rows, once for each node.
#[derive(Clone, Copy, Debug)]
pub(super) struct FloydWarshall {
    nodes: usize,
    rows: Room<Vec<Vec<u32>>>,
    result: u64,
}

impl FloydWarshall {
    pub(super) fn new(nodes: usize) -> Self {
        let mut program = Self { nodes, rows: room(Vec::new()), result: 0 };
        program.result = result_of(program);
        program
    }

    /// The lengths of the edges; a tenth of the pairs have one.
    fn edges(self) -> Vec<Vec<u32>> {
        let length = |from: usize, to: usize| match mix((from * self.nodes + to) as u64) {
            _ if from == to => 0,
            hash if hash % 10 == 0 => (hash >> 32) as u32 % 1000 + 1,
            _ => u32::MAX / 2,
        };
        (0..self.nodes).map(|from| (0..self.nodes).map(|to| length(from, to)).collect()).collect()
    }
}

impl Looping for FloydWarshall {
    fn run(self, by: &mut impl Loop) -> u64 {
        with(self.rows, |rows| {
            *rows = self.edges();
            for through in 0..self.nodes {
                let via = rows[through].clone();
                by.for_each(rows, |_, row| {
                    let first = row[through];
                    row.iter_mut().zip(&via).for_each(|(best, second)| *best = (*best).min(first + second));
                });
            }
            rows.iter().flatten().map(|length| u64::from(*length)).sum()
        })
    }

    fn result(self) -> u64 {
        self.result
    }
}

// ----- a short sum -----

/// The sum of so few numbers that nobody should fork for it, in the form in which one would fork.
#[derive(Clone, Copy, Debug)]
pub(super) struct ShortSum {
    numbers: &'static [f64],
}

impl ShortSum {
    /// Where Beat and chili, which have no parallel iterators, stop halving.
    pub(super) const CUT_OFF: usize = 128;

    pub(super) fn new() -> Self {
        Self { numbers: (0..1_000).map(f64::from).collect::<Vec<_>>().leak() }
    }
}

fn sum_by_halves<F: super::forks::Fork>(scope: &mut F::Scope<'_>, numbers: &[f64]) -> f64 {
    if numbers.len() <= ShortSum::CUT_OFF {
        return numbers.iter().sum();
    }
    let (left, right) = numbers.split_at(numbers.len() / 2);
    let (a, b) = F::join(
        scope,
        move |scope| sum_by_halves::<F>(scope, left),
        move |scope| sum_by_halves::<F>(scope, right),
    );
    a + b
}

impl Program for ShortSum {
    fn sequential(self) -> u64 {
        self.numbers.iter().sum::<f64>() as u64
    }

    fn beat(self) -> u64 {
        sum_by_halves::<super::forks::Beat>(&mut (), self.numbers) as u64
    }

    fn rayon(self) -> u64 {
        use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
        self.numbers.par_iter().sum::<f64>() as u64
    }

    fn chili(self, scope: &mut chili::Scope<'_>) -> u64 {
        sum_by_halves::<super::forks::Chili>(scope, self.numbers) as u64
    }

    /// Whole numbers, so the order in which they are added does not matter.
    fn result(self) -> u64 {
        499_500
    }
}
