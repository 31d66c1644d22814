//! `beat::iter`: each adaptor and consumer gives what the sequential iterator gives, whoever runs the pieces.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, mpsc};

use beat::Runtime;
use beat::iter::{BeatIterator, BeatIteratorMut, IntoBeatIterator, OnBeat};
use proptest::prelude::*;
use rayon::prelude::*;

/// Runs `f` with one worker and with three: as a guest of theirs, and as a job.
fn everywhere(f: impl Fn() + Sync) {
    static RUNTIMES: OnceLock<Vec<Runtime>> = OnceLock::new();
    let runtimes =
        RUNTIMES.get_or_init(|| [1, 3].map(|n| Runtime::builder().worker_threads(n).build().unwrap()).into());
    for runtime in runtimes {
        let _entered = runtime.enter();
        f();
        beat::scope(|scope| scope.spawn(|_| f()));
    }
}

fn numbers() -> impl Strategy<Value = Vec<u32>> {
    prop_oneof![prop::collection::vec(any::<u32>(), 0..40), prop::collection::vec(any::<u32>(), 0..5000)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn map_filter_collect(v in numbers(), m in 1..7_u32) {
        let expected: Vec<u64> = v.iter().map(|&n| u64::from(n) + 1).filter(|n| n % u64::from(m) == 0).collect();
        everywhere(|| {
            let got: Vec<u64> =
                v.beat_iter().map(|&n| u64::from(n) + 1).filter(|n| n % u64::from(m) == 0).collect();
            assert_eq!(got, expected);
        });
    }

    #[test]
    fn indexed_adaptors(v in numbers(), w in numbers(), skip in 0..50_usize, step in 1..9_usize) {
        let expected: Vec<(usize, (u32, u32))> = v.iter().copied().zip(w.iter().copied())
            .rev().skip(skip).step_by(step).enumerate().collect();
        everywhere(|| {
            let got: Vec<_> = v.par_iter().copied().zip(w.par_iter().copied())
                .rev().skip(skip).step_by(step).enumerate().on_beat().collect();
            assert_eq!(got, expected);
        });
    }

    #[test]
    fn chunks_chain_interleave(v in numbers(), w in numbers(), size in 1..50_usize) {
        let chunks: Vec<Vec<u32>> = v.chunks(size).map(<[_]>::to_vec).collect();
        let chain: Vec<u32> = v.iter().chain(&w).copied().collect();
        everywhere(|| {
            let got: Vec<Vec<u32>> = v.par_iter().copied().chunks(size).on_beat().collect();
            assert_eq!(got, chunks);
            let got: Vec<u32> = v.par_iter().chain(&w).on_beat().copied().collect();
            assert_eq!(got, chain);
            let mut got = Vec::new();
            v.par_iter().interleave(&w).on_beat().copied().collect_into_vec(&mut got);
            assert_eq!(got.len(), chain.len());
            got.sort_unstable();
            let mut sorted = chain.clone();
            sorted.sort_unstable();
            assert_eq!(got, sorted);
        });
    }

    #[test]
    fn fold_and_reduce(v in numbers()) {
        // Concatenation is associative and not commutative: order shows.
        let expected: String = v.iter().map(|n| format!("{n},")).collect();
        everywhere(|| {
            let got = v.beat_iter()
                .fold(String::new, |s, n| s + &format!("{n},"))
                .reduce(String::new, |a, b| a + &b);
            assert_eq!(got, expected);
            assert_eq!(v.beat_iter().map(|&n| u64::from(n)).sum::<u64>(), v.iter().map(|&n| u64::from(n)).sum::<u64>());
            assert_eq!(v.beat_iter().min(), v.iter().min());
            assert_eq!(v.beat_iter().max(), v.iter().max());
            assert_eq!(v.beat_iter().count(), v.len());
        });
    }

    #[test]
    fn searches(v in numbers(), m in 1..2000_u32) {
        let hit = |n: &&u32| n.is_multiple_of(m);
        everywhere(|| {
            assert_eq!(v.beat_iter().find_first(hit), v.iter().find(hit));
            assert_eq!(v.beat_iter().find_last(hit), v.iter().rev().find(hit));
            assert_eq!(v.beat_iter().find_any(hit).is_some(), v.iter().any(|n| hit(&n)));
            assert_eq!(v.beat_iter().any(|n| hit(&n)), v.iter().any(|n| hit(&n)));
            assert_eq!(v.beat_iter().all(|n| hit(&n)), v.iter().all(|n| hit(&n)));
            assert_eq!(v.beat_iter().position_first(|n| hit(&n)), v.iter().position(|n| hit(&n)));
        });
    }

    #[test]
    fn fallible(v in numbers(), limit in any::<u32>()) {
        let check = |n: &u32| if *n <= limit { Ok(*n) } else { Err(()) };
        let expected: Result<Vec<u32>, ()> = v.iter().map(check).collect();
        let sum = |a: u64, b: u64| a.checked_add(b).filter(|&sum| sum < u64::from(limit) * 10);
        everywhere(|| {
            let got: Result<Vec<u32>, ()> = v.beat_iter().map(check).collect();
            assert_eq!(got, expected);
            let got = v.beat_iter().map(|&n| Some(u64::from(n))).try_reduce(|| 0, sum);
            assert_eq!(got, v.iter().map(|&n| u64::from(n)).try_fold(0, sum));
            assert_eq!(v.beat_iter().try_for_each(|n| check(n).map(drop)), expected.clone().map(drop));
        });
    }

    #[test]
    fn many_from_each_and_two_from_each(v in numbers()) {
        let flat: Vec<u32> = v.iter().flat_map(|&n| (0..n % 5).map(move |i| n ^ i)).collect();
        let (even, odd): (Vec<u32>, Vec<u32>) = v.iter().partition(|n| **n % 2 == 0);
        let (a, b): (Vec<u32>, Vec<u64>) = v.iter().map(|&n| (n, u64::from(n) * 2)).unzip();
        everywhere(|| {
            let got: Vec<u32> = v.beat_iter().flat_map_iter(|&n| (0..n % 5).map(move |i| n ^ i)).collect();
            assert_eq!(got, flat);
            let got: (Vec<u32>, Vec<u32>) = v.beat_iter().partition(|n| **n % 2 == 0);
            assert_eq!(got, (even.clone(), odd.clone()));
            let got: (Vec<u32>, Vec<u64>) = v.beat_iter().map(|&n| (n, u64::from(n) * 2)).unzip();
            assert_eq!(got, (a.clone(), b.clone()));
            let set: HashSet<u32> = v.beat_iter().copied().collect();
            assert_eq!(set, v.iter().copied().collect());
        });
    }

    #[test]
    fn in_place(v in numbers(), least in 1..100_usize, most in 1..100_usize) {
        let expected: Vec<u32> = v.iter().map(|n| n.wrapping_mul(3)).collect();
        everywhere(|| {
            let mut got = v.clone();
            got.beat_iter_mut().for_each(|n| *n = n.wrapping_mul(3));
            assert_eq!(got, expected);
            let got: Vec<u32> = v.clone().into_par_iter().with_min_len(least).with_max_len(most).on_beat()
                .map(|n| n.wrapping_mul(3)).collect();
            assert_eq!(got, expected);
        });
    }
}

#[test]
fn every_element_is_visited_and_dropped_once() {
    struct Counted<'a>(&'a AtomicUsize);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    everywhere(|| {
        let drops = AtomicUsize::new(0);
        let items: Vec<Counted<'_>> = (0..10_000).map(|_| Counted(&drops)).collect();
        let visits = AtomicUsize::new(0);
        items.into_beat_iter().for_each(|_item| {
            visits.fetch_add(1, SeqCst);
        });
        assert_eq!((visits.into_inner(), drops.into_inner()), (10_000, 10_000));
    });
}

#[test]
fn a_panic_reaches_the_caller_and_nothing_is_lost() {
    struct Counted<'a>(&'a AtomicUsize, usize);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    everywhere(|| {
        let drops = AtomicUsize::new(0);
        let items: Vec<Counted<'_>> = (0..10_000).map(|i| Counted(&drops, i)).collect();
        let result = catch_unwind(AssertUnwindSafe(|| {
            items
                .into_beat_iter()
                .map(|item| if item.1 == 7_777 { panic!("here") } else { item })
                .collect::<Vec<_>>()
        }));
        let payload = result.err().expect("it panicked");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"here"));
        assert_eq!(drops.into_inner(), 10_000);
    });
}

#[test]
fn a_search_stops_early() {
    everywhere(|| {
        let visits = AtomicUsize::new(0);
        let found = (0..1_000_000_usize).into_beat_iter().find_any(|_| {
            visits.fetch_add(1, SeqCst);
            true
        });
        assert!(found.is_some());
        assert!(visits.into_inner() <= 3, "one element for each thread at most");
    });
}

#[test]
fn an_aborted_closure_leaves_its_loop() {
    let runtime = Runtime::builder().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let (started, is_started) = mpsc::channel();
        let started = Mutex::new(Some(started));
        let visited_all = std::sync::Arc::new(AtomicBool::new(false));
        let visited = std::sync::Arc::clone(&visited_all);
        let endless = beat::spawn_blocking_parallel(move || {
            (0..usize::MAX).into_beat_iter().for_each(|i| {
                if i == 0
                    && let Some(started) = started.lock().unwrap().take()
                {
                    started.send(()).unwrap();
                }
            });
            visited.store(true, SeqCst);
        });
        is_started.recv().unwrap();
        endless.abort();
        assert!(endless.await.unwrap_err().is_cancelled());
        assert!(!visited_all.load(SeqCst));
    });
}

#[test]
fn an_aborted_closure_leaves_loops_of_one_block() {
    let runtime = Runtime::builder().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let (started, is_started) = mpsc::channel();
        let endless = beat::spawn_blocking_parallel(move || {
            for round in 0_u64.. {
                let sum: u64 = [round].beat_iter().sum();
                if sum == 1_000 {
                    started.send(()).unwrap();
                }
            }
        });
        is_started.recv().unwrap();
        endless.abort();
        assert!(endless.await.unwrap_err().is_cancelled());
    });
}

/// Two halves that wait for each other have one fork between them, which must be heard though a loop comes before it.
#[test]
fn a_loop_of_one_block_leaves_the_first_look_to_the_fork_behind_it() {
    let runtime = Runtime::builder().worker_threads(2).build().unwrap();
    // One who is at work already may ask, and be heard, behind the loop.
    while runtime.metrics().idle_workers < 2 {
        std::thread::yield_now();
    }
    let met = runtime.spawn_blocking_parallel(|| {
        assert_eq!([7].beat_iter().sum::<u32>(), 7);
        let barrier = std::sync::Barrier::new(2);
        beat::join(|| barrier.wait(), || barrier.wait());
    });
    runtime.block_on(met).unwrap();
}

/// Two elements that wait for each other are on two threads: a loop of two is split, without being told.
#[test]
fn idle_workers_get_a_part() {
    let runtime = Runtime::builder().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let met = beat::spawn_blocking_parallel(|| {
            let barrier = std::sync::Barrier::new(2);
            (0..2_u32).into_beat_iter().for_each(|_| {
                barrier.wait();
            });
        });
        met.await.unwrap();
    });
}

/// Loops that end early say nothing of how long such a loop takes: the next one is cut all the same.
#[test]
fn a_search_that_finds_at_once_leaves_the_next_one_cut() {
    /// Copied whenever the loop is cut.
    struct Cuts(Arc<AtomicUsize>);
    impl Clone for Cuts {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, SeqCst);
            Self(Arc::clone(&self.0))
        }
    }
    let runtime = Runtime::builder().worker_threads(1).build().unwrap();
    let closure = runtime.spawn_blocking_parallel(|| {
        let search = |wanted: usize| {
            let cuts = Arc::new(AtomicUsize::new(0));
            let numbers = (0..10_000_usize).into_beat_iter().map_with(Cuts(Arc::clone(&cuts)), |_, i| i);
            (numbers.find_any(|&i| i == wanted), cuts.load(SeqCst))
        };
        for _ in 0..100 {
            assert_eq!(search(0).0, Some(0));
        }
        let (found, cuts) = search(10_000);
        assert!(found.is_none() && cuts > 10, "{cuts} cuts");
    });
    runtime.block_on(closure).unwrap();
}
