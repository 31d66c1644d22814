//! Programs that hang or overflow on rayon's own pool end here: each `BEAT_ROUNDS` times (50 by default), on one worker
//! and on two. So does one that needs all pieces of its loop within reach.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;

use rayon::prelude::*;
use rayon_core::{ThreadPool, ThreadPoolBuilder};

fn rounds() -> usize {
    std::env::var("BEAT_ROUNDS").map_or(50, |text| text.parse().expect("BEAT_ROUNDS is a number"))
}

/// Runs `program` with pools of one worker and of two.
fn on_one_and_two(program: impl Fn(&ThreadPool)) {
    for workers in 1..=2 {
        let pool = ThreadPoolBuilder::new().num_threads(workers).build().unwrap();
        for _ in 0..rounds() {
            program(&pool);
        }
    }
}

/// rayon#592: a thread that holds a lock waits in `par_iter`, takes another piece of the outer loop meanwhile, and
/// waits for its own lock.
#[test]
fn a_lock_held_across_par_iter() {
    on_one_and_two(|pool| {
        let lock = Mutex::new(0);
        pool.install(|| {
            (0..8).into_par_iter().for_each(|_| {
                let mut sum = lock.lock().unwrap();
                *sum += (0..64_usize).into_par_iter().map(std::hint::black_box).sum::<usize>();
            });
        });
        assert_eq!(lock.into_inner().unwrap(), 8 * 2016);
    });
}

/// The same with initialisation that happens once (rayon#592, and `lazy_static` in many programs).
#[test]
fn a_cell_initialised_by_par_iter() {
    on_one_and_two(|pool| {
        let cell = std::sync::OnceLock::new();
        let total: usize = pool.install(|| {
            (0..8)
                .into_par_iter()
                .map(|_| *cell.get_or_init(|| (0..64_usize).into_par_iter().sum::<usize>()))
                .sum()
        });
        assert_eq!(total, 8 * 2016);
    });
}

/// How much of the stack of the thread it began on the deepest point of a program takes.
struct Depth {
    deepest: AtomicUsize,
    top: usize,
    thread: thread::ThreadId,
}

impl Depth {
    #[inline(never)]
    fn look(&self) {
        let here = 0_u8;
        if thread::current().id() == self.thread {
            self.deepest.fetch_max(self.top.abs_diff(std::ptr::from_ref(&here) as usize), Relaxed);
        }
    }
}

/// rayon#854: jobs that wait in an inner loop steal further jobs of the outer one, and those do so again: the stack
/// grows with the number of jobs. On 256 KiB that ends here as the sequential program does.
#[test]
fn inner_loops_do_not_pile_up_outer_jobs() {
    for workers in 1..=2 {
        let pool = ThreadPoolBuilder::new().num_threads(workers).stack_size(256 * 1024).build().unwrap();
        for _ in 0..rounds() {
            let done = AtomicUsize::new(0);
            pool.scope(|scope| {
                for _ in 0..64 {
                    scope.spawn(|_| {
                        // A frame that sixteen nested ones would fill a stack with.
                        let frame = std::hint::black_box([1_u8; 16 * 1024]);
                        let sum: usize =
                            (0..16_usize).into_par_iter().map(|i| i + usize::from(frame[i])).sum();
                        assert_eq!(sum, 136);
                        done.fetch_add(1, Relaxed);
                    });
                }
            });
            assert_eq!(done.into_inner(), 64);
        }
    }
}

/// rayon#1174: `par_iter` nested in `par_iter`, each level under a lock of its own.
#[test]
fn deep_nesting_under_locks() {
    fn level(locks: &[Mutex<usize>], depth: &Depth) {
        depth.look();
        let Some((lock, inner)) = locks.split_first() else { return };
        (0..2).into_par_iter().for_each(|_| {
            let mut count = lock.lock().unwrap();
            *count += 1;
            level(inner, depth);
        });
    }
    on_one_and_two(|pool| {
        let locks: [Mutex<usize>; 5] = Default::default();
        let deepest = pool.install(|| {
            let here = 0_u8;
            let top = std::ptr::from_ref(&here) as usize;
            let depth = Depth { deepest: AtomicUsize::new(0), top, thread: thread::current().id() };
            level(&locks, &depth);
            depth.deepest.into_inner()
        });
        let counts = locks.map(|lock| lock.into_inner().unwrap());
        assert_eq!(counts, [2, 4, 8, 16, 32]);
        assert!(deepest < 200_000, "the stack has grown beyond the program's own nesting");
    });
}

/// The pieces of this loop end when a piece to the right has found something: all of them must be within reach, also of
/// those that a joiner runs while it waits.
#[test]
fn a_search_from_the_far_end_of_a_long_range() {
    let pool = ThreadPoolBuilder::new().num_threads(8).build().unwrap();
    // Where nobody searches, each of its 60 levels waits for a tick of the watchdog: some rounds take 0.2 s.
    for _ in 0..rounds().min(200) {
        let last = pool.install(|| (0..u64::MAX >> 1).into_par_iter().find_last(|_| true));
        assert_eq!(last, Some((u64::MAX >> 1) - 1));
    }
}
