//! Parallel iterators: rayon's adaptors and consumers, driven by Beat (feature `rayon`).
//!
//! [`on_beat`](OnBeat::on_beat) on an indexed iterator of rayon's has what comes after it run by [`join`](crate::join()),
//! on the workers of the current Beat runtime, where light futures stay prompt and a cancelled closure leaves its loops.
//! There is no `with_min_len` to tune.
//!
//! ```
//! use beat::iter::OnBeat;
//! use rayon::prelude::*;
//!
//! let (a, b) = (vec![1.0; 1000], vec![2.0; 1000]);
//! let dot: f64 = a.par_iter().zip(&b).on_beat().map(|(x, y)| x * y).sum();
//! assert_eq!(dot, 2000.0);
//! ```
//!
//! Put it behind the last adaptor that needs an index (`zip`, `enumerate`, `rev`, `chunks`, `take`…), for those drive
//! what is before them by rayon's own means. What needs none (`map`, `filter`, `fold`, `flat_map_iter`…) may come
//! before or after it. The inner iterators of `flat_map` run as they are: on rayon, without an `on_beat` of their own.
//!
//! # How it splits
//!
//! The loop is halved by `join` down to *blocks*, which run in sequence. A half that nobody takes costs some
//! nanoseconds; it is given away, the largest first, when a beat finds somebody idle (see
//! [Beat's `join`](crate::join())). The first blocks are short, and the next ones grow, up the tree of halves, until
//! one takes some microseconds: then the halves cost nothing to speak of, and the thread is heard often enough. A block
//! is at most a sixteenth of what each worker would have of the loop, so that a loop whose cost lies in
//! a few of its elements is shared too. Nothing is allocated but what the consumer allocates for each half.
//!
//! A thread remembers what an element took in the last loops of the same type (two loops of one function may be of one
//! type): the blocks begin with the right length then, and a loop that is over before anybody could help is one block.
//!
//! Sources: lazy binary splitting (Tzannes et al., PPoPP 2010), heartbeat scheduling (Acar et al., PLDI 2018), and
//! rayon's plumbing.

use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use rayon::iter::plumbing::{Consumer, Folder, Producer, ProducerCallback, Reducer, UnindexedConsumer};
use rayon::iter::{
    IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, IntoParallelRefMutIterator,
    ParallelIterator,
};

use crate::carried::{Carried, Fork};
use crate::heartbeat::Lengths;
use crate::join::join;
use crate::local;
use crate::os;
use crate::runtime::context;
use crate::user_code;

/// How long a block should take, in nanoseconds: many forks' worth, and a small part of a heartbeat.
const BLOCK: u64 = 8_000;
/// How many elements the first blocks have.
const FIRST: usize = 64;
/// How many blocks a loop has at least for each worker, if it is worth sharing.
const PARTS: usize = 16;
/// How long a loop must take for that, in nanoseconds: some gifts' worth.
const WORTH_SHARING: u64 = 8_000;
/// Of loops that are not, one in so many is timed: to read the clock twice takes as long as 100 short elements.
const TIMED: u32 = 16;

/// `on_beat`, for every indexed iterator of rayon's.
///
/// ```
/// use beat::iter::OnBeat;
/// use rayon::prelude::*;
///
/// let (a, b) = (vec![1, 2, 3], vec![4, 5, 6]);
/// let product: i32 = a.par_iter().zip(&b).on_beat().map(|(x, y)| x * y).sum();
/// assert_eq!(product, 32);
/// ```
pub trait OnBeat: IndexedParallelIterator {
    /// Has Beat drive this iterator; see the [module](self).
    ///
    /// ```
    /// use beat::iter::OnBeat;
    /// use rayon::prelude::*;
    ///
    /// let even: Vec<u32> = (0..10_u32).into_par_iter().on_beat().filter(|n| n % 2 == 0).collect();
    /// assert_eq!(even, [0, 2, 4, 6, 8]);
    /// ```
    fn on_beat(self) -> BeatIter<Self> {
        BeatIter { base: self }
    }
}

impl<I: IndexedParallelIterator> OnBeat for I {}

/// `into_beat_iter`: short for `into_par_iter().on_beat()`.
///
/// ```
/// use beat::iter::IntoBeatIterator;
/// use rayon::prelude::*;
///
/// let squares: Vec<u32> = (0..4_u32).into_beat_iter().map(|n| n * n).collect();
/// assert_eq!(squares, [0, 1, 4, 9]);
/// ```
pub trait IntoBeatIterator: Sized + IntoParallelIterator<Iter: IndexedParallelIterator> {
    /// A parallel iterator on Beat over what this is or refers to.
    ///
    /// ```
    /// use beat::iter::IntoBeatIterator;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!((0..100_u32).into_beat_iter().sum::<u32>(), 4950);
    /// ```
    fn into_beat_iter(self) -> BeatIter<Self::Iter> {
        self.into_par_iter().on_beat()
    }
}

impl<T: IntoParallelIterator<Iter: IndexedParallelIterator>> IntoBeatIterator for T {}

/// `beat_iter`: short for `par_iter().on_beat()`.
///
/// ```
/// use beat::iter::BeatIterator;
/// use rayon::prelude::*;
///
/// assert!([2, 4, 6].beat_iter().all(|n| n % 2 == 0));
/// ```
pub trait BeatIterator<'a>: IntoParallelRefIterator<'a, Iter: IndexedParallelIterator> {
    /// A parallel iterator on Beat over references.
    ///
    /// ```
    /// use beat::iter::BeatIterator;
    /// use rayon::prelude::*;
    ///
    /// assert_eq!(vec![3, 1, 2].beat_iter().max(), Some(&3));
    /// ```
    fn beat_iter(&'a self) -> BeatIter<Self::Iter> {
        self.par_iter().on_beat()
    }
}

impl<'a, T: ?Sized + IntoParallelRefIterator<'a, Iter: IndexedParallelIterator>> BeatIterator<'a> for T {}

/// `beat_iter_mut`: short for `par_iter_mut().on_beat()`.
///
/// ```
/// use beat::iter::BeatIteratorMut;
/// use rayon::prelude::*;
///
/// let mut values = [1, 2, 3];
/// values.beat_iter_mut().for_each(|value| *value *= 10);
/// assert_eq!(values, [10, 20, 30]);
/// ```
pub trait BeatIteratorMut<'a>: IntoParallelRefMutIterator<'a, Iter: IndexedParallelIterator> {
    /// A parallel iterator on Beat over exclusive references.
    ///
    /// ```
    /// use beat::iter::BeatIteratorMut;
    /// use rayon::prelude::*;
    ///
    /// let mut numbers = vec![1, 2, 3];
    /// numbers.beat_iter_mut().for_each(|n| *n *= 2);
    /// assert_eq!(numbers, [2, 4, 6]);
    /// ```
    fn beat_iter_mut(&'a mut self) -> BeatIter<Self::Iter> {
        self.par_iter_mut().on_beat()
    }
}

impl<'a, T: ?Sized + IntoParallelRefMutIterator<'a, Iter: IndexedParallelIterator>> BeatIteratorMut<'a>
    for T
{
}

/// A parallel iterator that Beat drives; from [`OnBeat::on_beat`].
///
/// ```
/// use beat::iter::IntoBeatIterator;
/// use rayon::prelude::*;
///
/// let numbers = (0..1_000_u32).into_beat_iter();
/// assert_eq!(numbers.find_any(|&n| n == 700), Some(700));
/// ```
#[derive(Clone, Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct BeatIter<I> {
    base: I,
}

impl<I: IndexedParallelIterator> ParallelIterator for BeatIter<I> {
    type Item = I::Item;

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
        self.drive(consumer)
    }

    fn opt_len(&self) -> Option<usize> {
        Some(self.base.len())
    }
}

impl<I: IndexedParallelIterator> IndexedParallelIterator for BeatIter<I> {
    fn len(&self) -> usize {
        self.base.len()
    }

    fn drive<C: Consumer<Self::Item>>(self, consumer: C) -> C::Result {
        let len = self.base.len();
        self.base.with_producer(Drive { len, consumer })
    }

    fn with_producer<CB: ProducerCallback<Self::Item>>(self, callback: CB) -> CB::Output {
        self.base.with_producer(callback)
    }
}

/// What is done with the producer of the loop.
struct Drive<C> {
    len: usize,
    consumer: C,
}

impl<T, C: Consumer<T>> ProducerCallback<T> for Drive<C> {
    type Output = C::Result;

    fn callback<P: Producer<Item = T>>(self, producer: P) -> C::Result {
        // A loop of one block has no fork, and may be one of endless many.
        user_code::count_fork();
        let place = user_code::place_of::<(P, C)>();
        let begun =
            local::with(|local| local.map(|local| local.loops.begin(place, self.len, || local.work())));
        let Begun { known, is_worth_sharing, start } = begun.unwrap_or_default();
        let (result, is_whole) = if is_worth_sharing || self.len > producer.max_len() {
            let pace = Pace::new(self.len, known, producer.min_len(), producer.max_len());
            let result = halve(&pace, self.len, producer, self.consumer);
            // Relaxed: the joins order it.
            (result, !pace.is_cut_short.load(Relaxed))
        } else {
            let folder = producer.fold_with(self.consumer.into_folder());
            let is_whole = !folder.full();
            (folder.complete(), is_whole)
        };
        // A search that has found something says nothing of how long one takes that does not.
        if let Some(start) = start.filter(|_| is_whole) {
            local::with(|local| {
                if let Some(local) = local {
                    local.loops.measured(place, self.len, local.worked_since(start));
                }
            });
        }
        result
    }
}

/// What a thread knows of the loops it has run.
#[derive(Debug, Default)]
pub(crate) struct Loops {
    /// Picoseconds for an element, by code.
    elements: Lengths,
    /// How many loops have run.
    runs: Cell<u32>,
}

impl Loops {
    /// `clock` is read if the loop shall be timed.
    fn begin(&self, place: usize, len: usize, clock: impl FnOnce() -> u64) -> Begun {
        let known = self.elements.known(place);
        let is_worth_sharing =
            known.is_none_or(|element| element.saturating_mul(len as u64) >= WORTH_SHARING * 1000);
        let run = self.runs.get();
        self.runs.set(run.wrapping_add(1));
        // Spread evenly, and in no step with a program that runs several loops in turn.
        let is_turn = run.wrapping_mul(0x9E37_79B9) < u32::MAX / TIMED;
        let is_timed = is_worth_sharing || is_turn;
        Begun { known, is_worth_sharing, start: is_timed.then(clock) }
    }

    fn measured(&self, place: usize, len: usize, nanoseconds: u64) {
        if len > 0 {
            self.elements.measured(place, nanoseconds.saturating_mul(1000) / len as u64);
        }
    }
}

/// Halves a part of the loop down to blocks.
fn halve<P, C>(pace: &Pace, len: usize, producer: P, consumer: C) -> C::Result
where
    P: Producer,
    C: Consumer<P::Item>,
{
    if consumer.full() {
        pace.is_cut_short.store(true, Relaxed);
        return consumer.into_folder().complete();
    }
    if !pace.splits(len) {
        let folder = pace.timed(len, || producer.fold_with(consumer.into_folder()));
        if folder.full() {
            pace.is_cut_short.store(true, Relaxed);
        }
        return folder.complete();
    }
    let mid = len / 2;
    let (left_producer, right_producer) = producer.split_at(mid);
    let (left_consumer, right_consumer, reducer) = consumer.split_at(mid);
    let fork = Fork::here();
    let (left, right) = join(
        move || halve(pace, mid, left_producer, left_consumer),
        move || {
            let _in_place = pace.carried.enter_unless_at(fork);
            halve(pace, len - mid, right_producer, right_consumer)
        },
    );
    reducer.reduce(left, right)
}

/// A loop has begun.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// How many picoseconds an element may take.
    known: Option<u64>,
    is_worth_sharing: bool,
    /// What the thread's clock of work read, if the loop shall be timed.
    start: Option<u64>,
}

impl Default for Begun {
    /// Of a loop that is not known yet the best is hoped.
    fn default() -> Self {
        Self { known: None, is_worth_sharing: true, start: None }
    }
}

/// How long the blocks of one loop are: shared by all threads that run a part of it.
struct Pace {
    /// A part that is no longer than this is a block.
    block: AtomicUsize,
    /// Blocks do not grow beyond this.
    most: usize,
    /// What the user asked for with `with_min_len` and `with_max_len`.
    least_allowed: usize,
    most_allowed: usize,
    /// What goes with halves that are stolen.
    carried: Carried,
    /// The consumer wants no more.
    is_cut_short: AtomicBool,
}

impl Pace {
    /// `known`: how many picoseconds an element takes.
    fn new(len: usize, known: Option<u64>, least_allowed: usize, most_allowed: usize) -> Self {
        let workers = context::with_current_or_global(|shared| shared.config.workers as usize);
        let most = (len / (PARTS * workers)).max(1);
        let first = known.map_or(FIRST, |element| (BLOCK * 1000 / element.max(1)).max(1) as usize);
        Self {
            block: AtomicUsize::new(first.min(most)),
            most,
            least_allowed: least_allowed.max(1),
            most_allowed: most_allowed.max(1),
            carried: Carried::span(),
            is_cut_short: AtomicBool::new(false),
        }
    }

    /// Whether a part is halved: as rayon does, never below the least length unless it is above the most.
    fn splits(&self, len: usize) -> bool {
        if len > self.most_allowed {
            return true;
        }
        // Relaxed: an estimate.
        len > self.block.load(Relaxed) && len / 2 >= self.least_allowed
    }

    /// Runs a block, and learns from how long it took.
    fn timed<R>(&self, len: usize, block: impl FnOnce() -> R) -> R {
        if self.block.load(Relaxed) >= self.most {
            // They do not grow, and are a small part of the loop.
            return block();
        }
        let start = os::now();
        let result = block();
        let took = os::now().saturating_sub(start);
        self.learn(len, took);
        result
    }

    fn learn(&self, len: usize, took: u64) {
        // Relaxed, and a lost update is no loss.
        let block = self.block.load(Relaxed);
        let is_typical = len > block / 2;
        if took > 2 * BLOCK {
            self.block.store((len / 2).max(1).min(block), Relaxed);
        } else if took < BLOCK / 2 && is_typical && block < self.most {
            self.block.store((block * 2).min(self.most), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(len: usize, block: usize, most: usize) -> Pace {
        Pace { block: AtomicUsize::new(block), most, ..Pace::new(len, None, 1, usize::MAX) }
    }

    #[test]
    fn blocks_grow_while_they_are_short_and_shrink_when_they_are_long() {
        let pace = pace(1 << 20, FIRST, 1 << 16);
        pace.learn(FIRST, 100);
        assert!(!pace.splits(2 * FIRST) && pace.splits(2 * FIRST + 1));
        pace.learn(2 * FIRST, BLOCK);
        assert!(!pace.splits(2 * FIRST) && pace.splits(2 * FIRST + 1));
        pace.learn(2 * FIRST, 1_000_000);
        assert!(!pace.splits(FIRST) && pace.splits(FIRST + 1));
        for _ in 0..100 {
            let block = pace.block.load(Relaxed);
            pace.learn(block, 100);
        }
        assert_eq!(pace.block.load(Relaxed), 1 << 16);
    }

    #[test]
    fn a_loop_that_is_known_to_be_short_is_not_cut_until_it_turns_out_dear() {
        let loops = Loops::default();
        let begin = |len| loops.begin(64, len, || 7);
        let first = begin(1000);
        assert!(first.is_worth_sharing && first.known.is_none());
        assert_eq!(first.start, Some(7));
        loops.measured(64, 1000, 1000);
        let timed = (0..1600).filter(|_| {
            let begun = begin(1000);
            assert!(!begun.is_worth_sharing);
            begun.start.is_some()
        });
        assert!((80..=120).contains(&timed.count()), "one in {TIMED}");
        assert!(begin(1_000_000).is_worth_sharing, "the same code over more elements");
        loops.measured(64, 1000, 1_000_000);
        let dear = begin(1000);
        assert!(dear.is_worth_sharing && dear.start.is_some());
        loops.measured(64, 0, 1000);
    }

    #[test]
    fn blocks_begin_with_the_length_that_is_known_to_be_right() {
        let block = |len, known| Pace::new(len, known, 1, usize::MAX).block.into_inner();
        assert_eq!(block(1 << 24, None), FIRST);
        // 8 ns an element.
        assert_eq!(block(1 << 24, Some(8_000)), BLOCK as usize / 8);
        assert_eq!(block(1 << 24, Some(1_000_000_000)), 1);
        let most = Pace::new(1 << 10, None, 1, usize::MAX).most;
        assert_eq!(block(1 << 10, Some(1)), most, "a small part of the loop");
    }

    #[test]
    fn a_short_rest_teaches_nothing() {
        let pace = pace(1 << 20, 1024, 1 << 16);
        pace.learn(3, 100);
        assert_eq!(pace.block.load(Relaxed), 1024);
    }

    #[test]
    fn the_lengths_that_the_user_allows_are_kept() {
        let pace = Pace { least_allowed: 100, most_allowed: 1000, ..pace(1 << 20, 1, 1 << 16) };
        assert!(pace.splits(200) && !pace.splits(199));
        let pace = Pace { block: AtomicUsize::new(1 << 16), ..pace };
        assert!(pace.splits(1001) && !pace.splits(1000));
    }
}
