//! Instructions: one fork, one spawn, one wake-up, on Beat, on its peers and without a scheduler.
//!
//! Counts hardly depend on what else the machine does. This binary runs itself under callgrind: one
//! contender, one program, at a small and a large size. The difference of the two counts, over the difference
//! in forks, spawns or wake-ups, is free of whatever happens once; less the same figure of the sequential
//! program, it is what the scheduler takes. One worker each, for callgrind runs one thread at a time and
//! counts them all.
//!
//! What Beat takes is compared to [`EXPECTED`], which is checked in: a count that is higher or lower by more than
//! [`TOLERANCE`] is an error, so that a regression shows without a quiet machine, and a gain is written down.
//! `cargo bench --bench instructions -- --update` writes it.
//!
//! Heartbeats are stretched to [`HEARTBEAT`]: under callgrind time goes by many times faster than
//! instructions do, so there would be many times as many of them to an instruction.

mod common;

use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs, mem};

use common::fork::{Counted, FORKERS, Fib, Halves, Pool, Program, Tree, beat_runtime};
use common::table::{Column, Row, Spread};
use common::tasks::{self, Executor, tokio_runtime};
use common::{Mode, machine, table};

/// Longer than any run.
const HEARTBEAT: Duration = Duration::from_secs(3600);
/// How often everything is counted.
const REPEATS: usize = 3;
/// What this binary is called with when it runs itself: then come a scenario, a column and a size.
const COUNTED: &str = "--counted";
/// A scenario and Beat's instructions, on each line; the compiler they were counted with comes first.
const EXPECTED: &str = include_str!("instructions.expected");
/// A part of the expected count, or one instruction if that is more.
const TOLERANCE: f64 = 0.03;
/// The sizes whose difference counts.
const SIZES: [u32; 2] = [1, 4];
/// The tree's levels.
const LEVELS: u32 = 16;
/// Which Fibonacci number.
const INDEX: u32 = 23;
/// How many numbers are summed.
const NUMBERS: u64 = 1 << 15;
/// How many tasks are spawned before they are awaited, and how often a task is woken.
const BATCH: u64 = 2_000;
/// Who runs tasks.
const EXECUTORS: [Column; 3] = [Column::Sequential, Column::Beat, Column::Tokio];

fn main() -> ExitCode {
    let args: Vec<_> = env::args().skip(1).collect();
    if let [COUNTED, scenario, column, size] = *args.iter().map(String::as_str).collect::<Vec<_>>() {
        run_counted(scenario, column, size);
        return ExitCode::SUCCESS;
    }
    if Mode::from_args() == Mode::Tiny {
        run_everything_once();
        return ExitCode::SUCCESS;
    }
    let Ok(valgrind) = Command::new("valgrind").arg("--version").output() else {
        println!("instructions: not counted, install valgrind");
        return ExitCode::SUCCESS;
    };
    match count_everything(String::from_utf8_lossy(&valgrind.stdout).trim()) {
        Ok(rows) if args.iter().any(|arg| arg == "--update") => update(&rows),
        Ok(rows) => compare(&rows),
        Err(error) => {
            eprintln!("instructions: not counted: {error}");
            ExitCode::FAILURE
        }
    }
}

// ----- what is counted -----

/// A program, to be repeated as often as its size says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// [`LEVELS`] of them.
    Tree,
    /// Of [`INDEX`].
    Fib,
    /// Of [`NUMBERS`].
    Halves,
    /// [`BATCH`] tasks.
    Spawn,
    /// [`BATCH`] times each of two tasks.
    Wake,
}

impl Scenario {
    const ALL: [Self; 5] = [Self::Tree, Self::Fib, Self::Halves, Self::Spawn, Self::Wake];

    fn name(self) -> &'static str {
        match self {
            Self::Tree => "tree",
            Self::Fib => "fib",
            Self::Halves => "halves",
            Self::Spawn => "spawn",
            Self::Wake => "wake",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Tree => "a join that is not promoted (tree)",
            Self::Fib => "a join that is not promoted (fib)",
            Self::Halves => "a join that is not promoted (sum by halves)",
            Self::Spawn => "spawn and join a task from a task",
            Self::Wake => "wake-up of a task by a task",
        }
    }

    fn columns(self) -> &'static [Column] {
        match self {
            Self::Tree | Self::Fib | Self::Halves => &FORKERS,
            Self::Spawn | Self::Wake => &EXECUTORS,
        }
    }

    /// How many forks, spawns or wake-ups there are at size 1.
    fn operations(self) -> u64 {
        match self {
            Self::Tree => Tree::of_levels(LEVELS).joins(),
            Self::Fib => Fib(INDEX).joins(),
            Self::Halves => Halves::of(NUMBERS).joins(),
            Self::Spawn => BATCH,
            Self::Wake => 2 * BATCH,
        }
    }

    fn run(self, column: Column, size: u32) {
        match self {
            Self::Tree => fork(Tree::of_levels(LEVELS), column, size),
            Self::Fib => fork(Fib(INDEX), column, size),
            Self::Halves => fork(Halves::of(NUMBERS), column, size),
            Self::Spawn | Self::Wake => match column {
                Column::Beat => self.run_tasks(&beat_runtime(1, Some(HEARTBEAT)), size),
                Column::Tokio => self.run_tasks(&tokio_runtime(1), size),
                _ => self.run_by_hand(size),
            },
        }
    }

    fn run_tasks<E: Executor + 'static>(self, runtime: &E, size: u32) {
        runtime.run(async move {
            for _ in 0..size {
                match self {
                    Self::Wake => tasks::wakes::<E>(BATCH).await,
                    _ => tasks::spawn_from_a_worker::<E>(BATCH).await,
                }
            }
        });
    }

    fn run_by_hand(self, size: u32) {
        for _ in 0..size {
            match self {
                Self::Wake => tasks::wakes_by_hand(BATCH),
                _ => tasks::call(BATCH),
            }
        }
    }
}

fn fork<P: Program>(program: P, column: Column, size: u32) {
    let pool = Pool::new(column, 1, Some(HEARTBEAT));
    for _ in 0..size {
        pool.time(program);
    }
    // chili's destructor would wait for the next heartbeat.
    mem::forget(pool);
}

fn run_counted(scenario: &str, column: &str, size: &str) {
    let scenario = Scenario::ALL.into_iter().find(|s| s.name() == scenario).expect("a scenario's name");
    let column = Column::named(column).expect("a column's name");
    scenario.run(column, size.parse().expect("a size"));
}

fn run_everything_once() {
    for scenario in Scenario::ALL {
        for column in scenario.columns() {
            scenario.run(*column, 1);
        }
    }
    println!("instructions: ran everything once, counted nothing");
}

// ----- counting -----

fn count_everything(valgrind: &str) -> io::Result<Vec<Row>> {
    let folder = Folder::new()?;
    println!("\n# Instructions\n\n{}.", machine::describe());
    println!("Counted by {valgrind} (callgrind), one worker each.");
    println!("Median [least..greatest] of {REPEATS} counts. Sequential: what the program itself takes; all");
    println!("others: what they take beyond that.\n");
    let rows: Vec<_> =
        Scenario::ALL.into_iter().map(|scenario| row(&folder, scenario)).collect::<io::Result<_>>()?;
    table::print(&rows);
    Ok(rows)
}

// ----- what is expected -----

/// Beat's counts, to a tenth.
fn counts(rows: &[Row]) -> impl Iterator<Item = (Scenario, f64)> {
    let count = |row: &Row| row.get(Column::Beat).map(|count| (count.median * 10.0).round() / 10.0);
    Scenario::ALL.into_iter().zip(rows).filter_map(move |(scenario, row)| Some((scenario, count(row)?)))
}

fn expected(scenario: Scenario) -> Option<f64> {
    let lines = EXPECTED.lines().filter_map(|line| line.split_once(' '));
    lines.filter(|(name, _)| *name == scenario.name()).find_map(|(_, count)| count.parse().ok())
}

fn compare(rows: &[Row]) -> ExitCode {
    println!("\n| Beat's instructions | expected | counted | |\n|---|--:|--:|---|");
    let mut as_expected = true;
    for (scenario, counted) in counts(rows) {
        let Some(expected) = expected(scenario) else {
            println!("| {} | – | {counted:.1} | not expected: update |", scenario.what());
            as_expected = false;
            continue;
        };
        let differs = (counted - expected).abs() > (expected * TOLERANCE).max(1.0);
        as_expected &= !differs;
        let verdict = match differs {
            true if counted > expected => "**more**",
            true => "**less**: update",
            false => "",
        };
        println!("| {} | {expected:.1} | {counted:.1} | {verdict} |", scenario.what());
    }
    println!("\nExpected counts are those of {}.", EXPECTED.lines().next().unwrap_or_default());
    if as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn update(rows: &[Row]) -> ExitCode {
    let mut text = format!("{}\n", machine::rustc());
    for (scenario, count) in counts(rows) {
        text += &format!("{} {count:.1}\n", scenario.name());
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.expected");
    match fs::write(path, text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("instructions: not written to {path}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn row(folder: &Folder, scenario: Scenario) -> io::Result<Row> {
    let mut row = Row::new(scenario.what(), "instructions");
    let mut sequential = 0.0;
    for &column in scenario.columns() {
        let counts =
            (0..REPEATS).map(|_| folder.count_one(scenario, column)).collect::<io::Result<Vec<_>>>()?;
        let counts = Spread::of(counts.into_iter().map(|count| count - sequential).collect());
        if column == Column::Sequential {
            sequential = counts.median;
        }
        row.set(column, counts);
    }
    Ok(row)
}

/// Where callgrind writes what nobody reads; removed in the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // Left to the system if it will not go.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("beat-instructions-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// The instructions of one fork, spawn or wake-up.
    fn count_one(&self, scenario: Scenario, column: Column) -> io::Result<f64> {
        let [small, large] = SIZES;
        let more = self.count(scenario, column, large)? - self.count(scenario, column, small)?;
        Ok(more / (u64::from(large - small) * scenario.operations()) as f64)
    }

    /// The instructions of a whole run.
    fn count(&self, scenario: Scenario, column: Column, size: u32) -> io::Result<f64> {
        let output = Command::new("valgrind")
            .arg("--tool=callgrind")
            .arg(format!("--callgrind-out-file={}", self.0.join("callgrind.out").display()))
            .arg(env::current_exe()?)
            .args([COUNTED, scenario.name(), column.name(), &size.to_string()])
            .output()?;
        let report = String::from_utf8_lossy(&output.stderr);
        let collected = report.lines().find_map(|line| line.split_once("Collected :"));
        match collected.and_then(|(_, count)| count.trim().parse().ok()) {
            Some(count) if output.status.success() => Ok(count),
            _ => Err(io::Error::other(format!("a run under valgrind failed and said:\n{report}"))),
        }
    }
}
