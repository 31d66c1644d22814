//! Fork-join programs, written once for each contender, and the pools they run in.

use std::hint::black_box;
use std::num::NonZero;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::table::Column;

/// A program that forks without a cut-off.
pub(crate) trait Program: Copy + Send + Sync + 'static {
    fn sequential(self) -> u64;
    fn beat(self) -> u64;
    fn rayon(self) -> u64;
    fn chili(self, scope: &mut chili::Scope<'_>) -> u64;
    /// What all of them return.
    fn result(self) -> u64;
}

/// A program whose forks are counted.
pub(crate) trait Counted: Program {
    /// How often it forks.
    fn joins(self) -> u64;
}

/// The Fibonacci number of this index, by its definition: almost nothing but forks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fib(pub(crate) u32);

impl Program for Fib {
    fn sequential(self) -> u64 {
        let Self(n) = self;
        if n < 2 {
            return n.into();
        }
        let (a, b) = (Self(n - 1).sequential(), Self(n - 2).sequential());
        a + b
    }

    fn beat(self) -> u64 {
        let Self(n) = self;
        if n < 2 {
            return n.into();
        }
        let (a, b) = beat::join(move || Self(n - 1).beat(), move || Self(n - 2).beat());
        a + b
    }

    fn rayon(self) -> u64 {
        let Self(n) = self;
        if n < 2 {
            return n.into();
        }
        let (a, b) = rayon::join(move || Self(n - 1).rayon(), move || Self(n - 2).rayon());
        a + b
    }

    fn chili(self, scope: &mut chili::Scope<'_>) -> u64 {
        let Self(n) = self;
        if n < 2 {
            return n.into();
        }
        let (a, b) = scope.join(move |s| Self(n - 1).chili(s), move |s| Self(n - 2).chili(s));
        a + b
    }

    fn result(self) -> u64 {
        (0..self.0).fold((0, 1), |(a, b), _| (b, a + b)).0
    }
}

impl Counted for Fib {
    fn joins(self) -> u64 {
        Self(self.0 + 1).result() - 1
    }
}

/// The sum of a full binary tree whose nodes lie in one allocation, level by level.
///
/// In that order a walk jumps through memory, as in a tree that has grown; allocated in the order of the walk
/// it would be a scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree {
    root: &'static Node,
    nodes: u32,
}

#[derive(Debug)]
struct Node {
    value: u64,
    /// Empty in a leaf.
    children: OnceLock<[&'static Node; 2]>,
}

impl Tree {
    /// A tree that lives as long as the bench.
    pub(crate) fn of_levels(levels: u32) -> Self {
        let nodes = (1 << levels) - 1;
        let leaf = |value| Node { value, children: OnceLock::new() };
        let arena: &'static [Node] = Vec::leak((0..u64::from(nodes)).map(leaf).collect());
        let (parents, _) = arena.split_at(arena.len() / 2);
        for (parent, children) in parents.iter().zip(arena[1..].as_chunks().0) {
            let [left, right] = children;
            parent.children.set([left, right]).expect("each node is linked once");
        }
        Self { root: &arena[0], nodes }
    }

    pub(crate) fn nodes(self) -> u32 {
        self.nodes
    }
}

impl Program for Tree {
    fn sequential(self) -> u64 {
        self.root.sequential()
    }

    fn beat(self) -> u64 {
        self.root.beat()
    }

    fn rayon(self) -> u64 {
        self.root.rayon()
    }

    fn chili(self, scope: &mut chili::Scope<'_>) -> u64 {
        self.root.chili(scope)
    }

    fn result(self) -> u64 {
        let count = u64::from(self.nodes);
        count * (count - 1) / 2
    }
}

impl Counted for Tree {
    fn joins(self) -> u64 {
        u64::from(self.nodes / 2)
    }
}

impl Node {
    fn sequential(&self) -> u64 {
        let Some([left, right]) = self.children.get() else {
            return self.value;
        };
        let (a, b) = (left.sequential(), right.sequential());
        self.value + a + b
    }

    fn beat(&self) -> u64 {
        let Some(&[left, right]) = self.children.get() else {
            return self.value;
        };
        let (a, b) = beat::join(move || left.beat(), move || right.beat());
        self.value + a + b
    }

    fn rayon(&self) -> u64 {
        let Some(&[left, right]) = self.children.get() else {
            return self.value;
        };
        let (a, b) = rayon::join(move || left.rayon(), move || right.rayon());
        self.value + a + b
    }

    fn chili(&self, scope: &mut chili::Scope<'_>) -> u64 {
        let Some(&[left, right]) = self.children.get() else {
            return self.value;
        };
        let (a, b) = scope.join(move |s| left.chili(s), move |s| right.chili(s));
        self.value + a + b
    }
}

/// The sum of numbers, halved down to single ones: a fork has two words to carry, where the others have one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halves(&'static [u64]);

impl Halves {
    /// Numbers that live as long as the bench.
    pub(crate) fn of(count: u64) -> Self {
        Self(Vec::leak((0..count).collect()))
    }

    pub(crate) fn numbers(self) -> usize {
        self.0.len()
    }

    fn halves(self) -> (Self, Self) {
        let (left, right) = self.0.split_at(self.0.len() / 2);
        (Self(left), Self(right))
    }
}

impl Program for Halves {
    fn sequential(self) -> u64 {
        if let [number] = self.0 {
            return *number;
        }
        let (left, right) = self.halves();
        left.sequential() + right.sequential()
    }

    fn beat(self) -> u64 {
        if let [number] = self.0 {
            return *number;
        }
        let (left, right) = self.halves();
        let (a, b) = beat::join(move || left.beat(), move || right.beat());
        a + b
    }

    fn rayon(self) -> u64 {
        if let [number] = self.0 {
            return *number;
        }
        let (left, right) = self.halves();
        let (a, b) = rayon::join(move || left.rayon(), move || right.rayon());
        a + b
    }

    fn chili(self, scope: &mut chili::Scope<'_>) -> u64 {
        if let [number] = self.0 {
            return *number;
        }
        let (left, right) = self.halves();
        let (a, b) = scope.join(move |s| left.chili(s), move |s| right.chili(s));
        a + b
    }

    fn result(self) -> u64 {
        let count = self.0.len() as u64;
        count * (count - 1) / 2
    }
}

impl Counted for Halves {
    fn joins(self) -> u64 {
        self.0.len() as u64 - 1
    }
}

/// Where programs run.
#[derive(Debug)]
pub(crate) enum Pool {
    /// The calling thread.
    Sequential,
    Beat(beat::Runtime),
    Rayon(rayon::ThreadPool),
    Chili(chili::ThreadPool),
}

/// Who forks.
pub(crate) const FORKERS: [Column; 4] = [Column::Sequential, Column::Beat, Column::Rayon, Column::Chili];

impl Pool {
    /// A pool with that many threads that run user code; `heartbeat` is for those that have one.
    ///
    /// Several workers of Beat are pinned, as those of `#[beat::main]` are; everybody else is as by default.
    pub(crate) fn new(column: Column, threads: usize, heartbeat: Option<Duration>) -> Self {
        match column {
            Column::Sequential => Self::Sequential,
            Column::Beat => Self::Beat(beat_runtime(threads, heartbeat)),
            Column::Rayon => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
                Self::Rayon(pool.expect("rayon starts its threads"))
            }
            Column::Chili => {
                let mut config =
                    chili::Config { thread_count: NonZero::new(threads), ..chili::Config::default() };
                config.heartbeat_interval = heartbeat.unwrap_or(config.heartbeat_interval);
                Self::Chili(chili::ThreadPool::with_config(config))
            }
            Column::Tokio => panic!("tokio does not fork"),
        }
    }

    /// Pools of the same size for everybody who forks.
    pub(crate) fn all(threads: usize) -> Vec<(Column, Self)> {
        FORKERS.into_iter().map(|column| (column, Self::new(column, threads, None))).collect()
    }

    /// Runs a program, checks its result, and returns how many nanoseconds it took inside the pool.
    pub(crate) fn time<P: Program>(&self, program: P) -> f64 {
        match self {
            Self::Sequential => time(program, P::sequential),
            Self::Beat(runtime) => {
                let closure = runtime.spawn_blocking_parallel(move || time(program, P::beat));
                runtime.block_on(closure).expect("the program ends")
            }
            Self::Rayon(pool) => pool.install(|| time(program, P::rayon)),
            Self::Chili(pool) => {
                let mut scope = pool.scope();
                time(program, |program| program.chili(&mut scope))
            }
        }
    }
}

fn time<P: Program>(program: P, run: impl FnOnce(P) -> u64) -> f64 {
    let start = Instant::now();
    let result = black_box(run(black_box(program)));
    let time = start.elapsed();
    assert_eq!(result, program.result());
    time.as_nanos() as f64
}

/// A runtime of Beat's: with one worker as the builder makes it, with more pinned as `#[beat::main]` does.
pub(crate) fn beat_runtime(workers: usize, heartbeat: Option<Duration>) -> beat::Runtime {
    let mut builder = beat::Runtime::builder().worker_threads(workers);
    if let Some(period) = heartbeat {
        builder = builder.heartbeat(period);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cfg!(target_os = "linux") && (2..=cores).contains(&workers) {
        builder = builder.pinning(beat::Pinning::Cores);
    }
    builder.build().expect("Beat starts its threads")
}
