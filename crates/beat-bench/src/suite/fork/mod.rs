//! Fork-join programs: what a fork costs on one thread, and what more threads bring.

mod forks;
mod loops;
pub(super) mod searches;
mod sorts;

use std::hint::black_box;
use std::time::Duration;

use self::forks::{Forking, Forks, Looping, Loops, ParalightIter};
use self::loops::{FloydWarshall, Kmeans, Mandelbrot, ShortSum, Spmv};
use self::searches::{Knapsack, List, Queens, Unbalanced, Work};
use self::sorts::{Mergesort, Numbers, Quicksort};
use super::figures::{BEAT, Bars, Better, Entrant, Group, Row, Turn};
use super::options::Options;
use super::report::Section;
use crate::Failure;
use crate::common::fork::{Counted, Fib, Pool, Program, Tree};
use crate::common::rounds::{Measured, Rounds};
use crate::common::table::Column;

/// How often a short region is entered in a turn.
const ENTRIES: u64 = 1_000;
const REGION: &str = "region of 1,023 nodes, entered from outside while hot";

/// Runs the suite.
pub(crate) fn run(parser: lexopt::Parser) -> Result<(), Failure> {
    let Some(options) = Options::parse(parser)? else { return Ok(()) };
    let measuring = Measuring::new(&options);
    let inputs = Inputs::new(&options);
    let groups = [measuring.single(&inputs), measuring.parallel(&inputs), measuring.loops()];
    let bars = if options.workers == 2 { bars(&groups) } else { Bars::default() };
    let section = Section {
        suite: "fork",
        setup: format!(
            "Medians of {} interleaved rounds of {} turns, on {} threads unless said. Beat's workers are pinned, \
             as those of `#[beat::main]` are; everybody else is as by default. chili makes one fork in 64 \
             promotable, and Beat each. CPU is the process's, in the row's unit.",
            options.rounds(),
            measuring.rounds.turns,
            options.workers
        ),
        groups: groups.into_iter().filter(|group| !group.rows.is_empty()).collect(),
        bars: bars.0,
    };
    section.publish(&options)
}

/// The speed-ups of this suite with that many threads.
pub(super) fn speed_ups(options: &Options) -> Vec<Row> {
    let measuring = Measuring::new(options);
    let mut rows = measuring.parallel(&Inputs::new(options)).rows;
    rows.extend(measuring.loops().rows);
    rows
}

/// A few of the programs, on pools that somebody else has made.
pub(super) fn on_pools(options: &Options, pools: &[(&'static str, &Pool)]) -> Vec<Row> {
    let measuring = Measuring::new(options);
    let mut rows = Vec::new();
    let tree = Tree::of_levels(options.pick(20, 10));
    measuring.on_pools(&mut rows, pools, &tree_name(tree), |pool| turn(pool, tree));
    let queens = options.pick(12, 8);
    let name = format!("{queens} queens");
    measuring.on_pools(&mut rows, pools, &name, |pool| turn(pool, Forks(Queens(queens))));
    let numbers = Numbers::new(options.pick(1_000_000, 10_000));
    measuring.on_pools(&mut rows, pools, MERGESORT, |pool| {
        numbers.shuffle();
        let turn = turn(pool, Forks(Mergesort(numbers)));
        numbers.check();
        turn
    });
    rows
}

/// A program that is too short to be timed once.
#[derive(Clone, Copy)]
struct Often<P>(P, u64);

impl<P: Program> Often<P> {
    fn repeat(self, mut run: impl FnMut(P) -> u64) -> u64 {
        (0..self.1).map(|_| run(black_box(self.0))).fold(0, u64::wrapping_add)
    }
}

impl<P: Program> Program for Often<P> {
    fn sequential(self) -> u64 {
        self.repeat(P::sequential)
    }

    fn beat(self) -> u64 {
        self.repeat(P::beat)
    }

    fn rayon(self) -> u64 {
        self.repeat(P::rayon)
    }

    fn chili(self, scope: &mut chili::Scope<'_>) -> u64 {
        self.repeat(|program| program.chili(scope))
    }

    fn result(self) -> u64 {
        self.0.result().wrapping_mul(self.1)
    }
}

/// How often a turn runs a tree.
fn times(tree: Tree) -> u64 {
    if tree.nodes() < 5_000 { ENTRIES } else { 1 }
}

/// What is too large to be made twice.
struct Inputs {
    trees: Vec<Tree>,
    fib: Fib,
}

impl Inputs {
    fn new(options: &Options) -> Self {
        let levels: &[u32] = options.pick(&[10, 20, 24], &[10, 12]);
        let wanted = levels.iter().filter(|_| options.wants("tree"));
        Self {
            trees: wanted.map(|levels| Tree::of_levels(*levels)).collect(),
            fib: Fib(options.pick(35, 15)),
        }
    }
}

fn tree_name(tree: Tree) -> String {
    format!("tree of {} nodes", tree.nodes())
}

fn fib_name(fib: Fib) -> String {
    format!("fib({}) without cut-off", fib.0)
}

struct Measuring<'o> {
    options: &'o Options,
    rounds: Rounds,
}

impl<'o> Measuring<'o> {
    fn new(options: &'o Options) -> Self {
        Self { options, rounds: Rounds { rounds: options.rounds(), turns: options.pick(3, 1) } }
    }

    // ----- one thread -----

    fn single(&self, inputs: &Inputs) -> Group {
        let mut rows = Vec::new();
        for tree in &inputs.trees {
            self.single_row(&mut rows, tree_name(*tree), *tree, times(*tree));
        }
        self.single_row(&mut rows, fib_name(inputs.fib), inputs.fib, 1);
        Group { title: "What a fork costs that nobody takes: one thread".into(), id: "one", rows }
    }

    fn single_row(&self, rows: &mut Vec<Row>, name: String, program: impl Counted, times: u64) {
        if !self.options.wants(&name) {
            return;
        }
        let pools = Pool::all(1);
        let measured = self.rounds.interleave(entrants(&pools, program, times));
        let sequential = measured.iter().find(|(who, _)| *who == Column::Sequential.name());
        let mut row = Row::new(join_name(&name), "ns", Better::Less);
        if let Some((_, sequential)) = sequential {
            for (who, turns) in measured.iter().filter(|(who, _)| *who != Column::Sequential.name()) {
                let beyond = turns.iter().zip(sequential).map(|(own, plain)| own.wall - plain.wall);
                row.set(who, beyond.map(|beyond| beyond / program.joins() as f64).collect());
            }
        }
        rows.push(self.row(format!("{name}, 1 thread"), &measured));
        rows.push(row);
    }

    // ----- several threads -----

    fn parallel(&self, inputs: &Inputs) -> Group {
        let mut rows = Vec::new();
        for tree in &inputs.trees {
            self.program_often(&mut rows, &tree_name(*tree), *tree, times(*tree));
        }
        self.program(&mut rows, &fib_name(inputs.fib), inputs.fib);
        self.searches(&mut rows);
        self.sorts(&mut rows);
        if self.options.wants(REGION) {
            rows.push(self.region());
        }
        Group { title: format!("Programs that fork: {} threads", self.options.workers), id: "fork", rows }
    }

    fn searches(&self, rows: &mut Vec<Row>) {
        if self.options.wants("unbalanced tree") {
            let tree = Unbalanced::new(self.options.pick(6_000, 60));
            self.program(rows, &format!("unbalanced tree of {} nodes", tree.nodes()), Forks(tree));
        }
        let queens = self.options.pick(12, 8);
        self.program(rows, &format!("{queens} queens"), Forks(Queens(queens)));
        if self.options.wants("knapsack") {
            let things = self.options.pick(60, 14);
            self.program(rows, &format!("knapsack, {things} things"), Forks(Knapsack::of(things)));
        }
        let work = Work::lasting(Duration::from_nanos(1_900));
        let items = self.options.pick(4_000, 100);
        for (rest_first, name) in [(true, LIST_REST), (false, LIST_ITEM)] {
            if self.options.wants(name) {
                self.program(rows, name, Forks(List::of(items, work, rest_first)));
            }
        }
    }

    fn sorts(&self, rows: &mut Vec<Row>) {
        if !self.options.wants(QUICKSORT) && !self.options.wants(MERGESORT) {
            return;
        }
        let numbers = Numbers::new(self.options.pick(4_000_000, 10_000));
        self.sort(rows, QUICKSORT, numbers, Quicksort(numbers));
        self.sort(rows, MERGESORT, numbers, Mergesort(numbers));
    }

    fn sort(&self, rows: &mut Vec<Row>, name: &str, numbers: Numbers, sort: impl Forking) {
        if !self.options.wants(name) {
            return;
        }
        let pools = Pool::all(self.options.workers);
        let entrants = pools.iter().map(|(column, pool)| {
            Entrant::new(column.name(), move || {
                numbers.shuffle();
                let turn = turn(pool, Forks(sort));
                numbers.check();
                turn
            })
        });
        let measured = self.rounds.interleave(entrants.collect());
        rows.push(self.row(name, &measured));
    }

    fn program(&self, rows: &mut Vec<Row>, name: &str, program: impl Program) {
        self.program_often(rows, name, program, 1);
    }

    fn program_often(&self, rows: &mut Vec<Row>, name: &str, program: impl Program, times: u64) {
        if !self.options.wants(name) {
            return;
        }
        let pools = Pool::all(self.options.workers);
        let measured = self.rounds.interleave(entrants(&pools, program, times));
        rows.push(self.row(name, &measured));
    }

    /// A short region, again and again, from a thread that is none of the pool's.
    fn region(&self) -> Row {
        let tree = Tree::of_levels(10);
        let pools = Pool::all(self.options.workers);
        let entrants = pools.iter().map(|(column, pool)| {
            Entrant::new(column.name(), move || {
                let turn = Turn::of(|| enter_often(pool, tree));
                turn.each(ENTRIES)
            })
        });
        let measured = self.rounds.interleave(entrants.collect());
        self.row(REGION, &measured)
    }

    // ----- loops -----

    fn loops(&self) -> Group {
        let mut rows = Vec::new();
        let options = self.options;
        let size = options.pick(800, 32);
        self.looping(&mut rows, &format!("mandelbrot, {size} rows"), || Mandelbrot::new(size));
        let count = options.pick(200_000, 500);
        self.looping(&mut rows, &format!("spmv, {count} rows"), || Spmv::new(count));
        let count = options.pick(200_000, 500);
        self.looping(&mut rows, &format!("kmeans, {count} points"), || Kmeans::new(count, 5));
        let nodes = options.pick(512, 32);
        self.looping(&mut rows, &format!("floyd-warshall, {nodes} nodes"), || FloydWarshall::new(nodes));
        self.short_sums(&mut rows);
        Group { title: format!("Loops: {} threads", options.workers), id: "loops", rows }
    }

    /// Inside the pool, and from a thread that is none of the pool's.
    fn short_sums(&self, rows: &mut Vec<Row>) {
        type Sum = fn(&Pool) -> Turn;
        let inside: Sum = |pool| turn(pool, Often(ShortSum::new(), ENTRIES));
        let outside: Sum = |pool| Turn::of(|| enter_often(pool, ShortSum::new()));
        for (name, sum) in [(SUM_INSIDE, inside), (SUM_OUTSIDE, outside)] {
            if self.options.wants(name) {
                let pools = Pool::all(self.options.workers);
                let entrants = pools
                    .iter()
                    .map(|(column, pool)| Entrant::new(column.name(), move || sum(pool).each(ENTRIES)));
                rows.push(self.row(name, &self.rounds.interleave(entrants.collect())));
            }
        }
    }

    fn looping<L: Looping>(&self, rows: &mut Vec<Row>, name: &str, input: impl FnOnce() -> L) {
        if !self.options.wants(name) {
            return;
        }
        let program = input();
        let pools = Pool::all(self.options.workers);
        let mut entrants = entrants(&pools, Loops(program), 1);
        let mut paralight = ParalightIter::new(self.options.workers);
        entrants.push(Entrant::new("paralight", move || {
            Turn::of(|| assert_eq!(black_box(program).run(&mut paralight), program.result()))
        }));
        let measured = self.rounds.interleave(entrants);
        rows.push(self.row(name, &measured));
    }

    fn on_pools(
        &self,
        rows: &mut Vec<Row>,
        pools: &[(&'static str, &Pool)],
        name: &str,
        run: impl Fn(&Pool) -> Turn,
    ) {
        if self.options.wants(name) {
            let run = &run;
            let entrants = pools.iter().map(|&(who, pool)| Entrant::new(who, move || run(pool)));
            rows.push(self.row(name, &self.rounds.interleave(entrants.collect())));
        }
    }

    fn row(&self, name: impl Into<String>, measured: &Measured<Turn, &'static str>) -> Row {
        Row::of_turns(name, self.rounds, measured)
    }
}

const LIST_REST: &str = "list, join(rest, item)";
const LIST_ITEM: &str = "list, join(item, rest)";
const QUICKSORT: &str = "quicksort";
const MERGESORT: &str = "mergesort";
const SUM_INSIDE: &str = "sum of 1,000 f64 in parallel form, inside the pool";
const SUM_OUTSIDE: &str = "sum of 1,000 f64 in parallel form, from outside";

fn join_name(program: &str) -> String {
    format!("– a join of it, beyond the sequential calls ({program})")
}

fn entrants<P: Program>(pools: &[(Column, Pool)], program: P, times: u64) -> Vec<Entrant<'_>> {
    let entrants = pools.iter().map(|(column, pool)| {
        Entrant::new(column.name(), move || turn(pool, Often(program, times)).each(times))
    });
    entrants.collect()
}

/// The wall time is taken inside the pool, the CPU time around it.
fn turn(pool: &Pool, program: impl Program) -> Turn {
    let mut wall = 0.0;
    let outer = Turn::of(|| wall = pool.time(program));
    Turn { wall, cpu: outer.cpu }
}

fn enter_often(pool: &Pool, program: impl Program) {
    let entered = match pool {
        Pool::Beat(runtime) => Some(runtime.enter()),
        _ => None,
    };
    for _ in 0..ENTRIES {
        let program = black_box(program);
        let result = match pool {
            Pool::Sequential => program.sequential(),
            Pool::Beat(_) => program.beat(),
            Pool::Rayon(pool) => pool.install(|| program.rayon()),
            Pool::Chili(pool) => program.chili(&mut pool.scope()),
        };
        assert_eq!(result, program.result());
    }
    drop(entered);
}

/// For two workers.
fn bars([single, parallel, loops]: &[Group; 3]) -> Bars {
    let mut bars = Bars::default();
    let largest =
        |group: &Group, prefix: &str| group.rows.iter().rfind(|row| row.what.starts_with(prefix)).cloned();
    for (program, of_one_machine, over_chili) in [("tree", 0.2, 0.67), ("fib", 1.2, 0.92)] {
        let name =
            largest(single, program).and_then(|row| row.what.strip_suffix(", 1 thread").map(join_name));
        let row = name.and_then(|name| single.row(&name));
        // A difference of almost nothing has no meaningful ratio.
        let limit = row.and_then(|row| row.median(Column::Chili.name())).map(|chili| chili * over_chili);
        bars.at_most(
            format!("ns of a join nobody takes, {program} (≤ {of_one_machine}, or {over_chili} × chili)"),
            row.and_then(|row| row.median(BEAT)),
            limit.unwrap_or(0.0).max(of_one_machine),
        );
    }
    let speed_up = |row: Option<&Row>| row.and_then(|row| row.over_sequential(BEAT)).map(f64::recip);
    for (prefix, limit) in [
        ("tree", 1.9),
        ("fib", 0.95),
        ("unbalanced tree", 1.5),
        ("12 queens", 1.75),
        (QUICKSORT, 1.85),
        (MERGESORT, 1.8),
        (LIST_REST, 1.85),
        (LIST_ITEM, 1.6),
    ] {
        let row = largest(parallel, prefix);
        bars.at_least(format!("{prefix}: speed-up over sequential"), speed_up(row.as_ref()), limit);
    }
    let over = |row: Option<&Row>| row.and_then(|row| row.over_sequential(BEAT));
    bars.at_most(format!("{REGION}: Beat ÷ sequential"), over(parallel.row(REGION)), 2.4 / 2.2);
    for name in [SUM_INSIDE, SUM_OUTSIDE] {
        bars.at_most(format!("{name}: Beat ÷ sequential"), over(loops.row(name)), 1.05);
    }
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_agrees_on_every_program() {
        let pools = Pool::all(2);
        for (_, pool) in &pools {
            pool.time(Forks(Unbalanced::new(20)));
            pool.time(Forks(Knapsack::of(12)));
            pool.time(Loops(Mandelbrot::new(16)));
            pool.time(Loops(Spmv::new(100)));
            pool.time(Loops(Kmeans::new(100, 2)));
            pool.time(Loops(FloydWarshall::new(16)));
            pool.time(ShortSum::new());
            enter_often(pool, Tree::of_levels(4));
        }
    }
}
