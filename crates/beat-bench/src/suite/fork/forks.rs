//! Programs that are written once: who forks for them is a parameter.

use std::fmt::Debug;

use crate::common::fork::Program;

/// Somebody's `join`.
pub(super) trait Fork: Copy + Debug + Send + Sync + 'static {
    /// What has to be handed from call to call: chili's scope, and nothing for everybody else.
    type Scope<'s>;

    fn join<A, B, RA, RB>(scope: &mut Self::Scope<'_>, a: A, b: B) -> (RA, RB)
    where
        A: for<'x, 'y> FnOnce(&'x mut Self::Scope<'y>) -> RA + Send,
        B: for<'x, 'y> FnOnce(&'x mut Self::Scope<'y>) -> RB + Send,
        RA: Send,
        RB: Send;
}

/// One after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sequential;
#[derive(Clone, Copy, Debug)]
pub(super) struct Beat;
#[derive(Clone, Copy, Debug)]
pub(super) struct Rayon;
#[derive(Clone, Copy, Debug)]
pub(super) struct Chili;

impl Fork for Sequential {
    type Scope<'s> = ();

    #[inline]
    fn join<A, B, RA, RB>((): &mut (), a: A, b: B) -> (RA, RB)
    where
        A: FnOnce(&mut ()) -> RA + Send,
        B: FnOnce(&mut ()) -> RB + Send,
        RA: Send,
        RB: Send,
    {
        (a(&mut ()), b(&mut ()))
    }
}

impl Fork for Beat {
    type Scope<'s> = ();

    #[inline]
    fn join<A, B, RA, RB>((): &mut (), a: A, b: B) -> (RA, RB)
    where
        A: FnOnce(&mut ()) -> RA + Send,
        B: FnOnce(&mut ()) -> RB + Send,
        RA: Send,
        RB: Send,
    {
        beat::join(move || a(&mut ()), move || b(&mut ()))
    }
}

impl Fork for Rayon {
    type Scope<'s> = ();

    #[inline]
    fn join<A, B, RA, RB>((): &mut (), a: A, b: B) -> (RA, RB)
    where
        A: FnOnce(&mut ()) -> RA + Send,
        B: FnOnce(&mut ()) -> RB + Send,
        RA: Send,
        RB: Send,
    {
        rayon::join(move || a(&mut ()), move || b(&mut ()))
    }
}

impl Fork for Chili {
    type Scope<'s> = chili::Scope<'s>;

    #[inline]
    fn join<A, B, RA, RB>(scope: &mut chili::Scope<'_>, a: A, b: B) -> (RA, RB)
    where
        A: for<'x, 'y> FnOnce(&'x mut chili::Scope<'y>) -> RA + Send,
        B: for<'x, 'y> FnOnce(&'x mut chili::Scope<'y>) -> RB + Send,
        RA: Send,
        RB: Send,
    {
        scope.join(a, b)
    }
}

/// A program that forks by whatever `join` it is given.
pub(super) trait Forking: Copy + Debug + Send + Sync + 'static {
    fn run<F: Fork>(self, scope: &mut F::Scope<'_>) -> u64;
    /// What it returns.
    fn result(self) -> u64;
}

/// Such a program for each contender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forks<T>(pub(super) T);

impl<T: Forking> Program for Forks<T> {
    fn sequential(self) -> u64 {
        self.0.run::<Sequential>(&mut ())
    }

    fn beat(self) -> u64 {
        self.0.run::<Beat>(&mut ())
    }

    fn rayon(self) -> u64 {
        self.0.run::<Rayon>(&mut ())
    }

    fn chili(self, scope: &mut chili::Scope<'_>) -> u64 {
        self.0.run::<Chili>(scope)
    }

    fn result(self) -> u64 {
        self.0.result()
    }
}

// ----- loops -----

/// Somebody's loop over a slice.
pub(super) trait Loop {
    /// Calls the body with each item and its index.
    fn for_each<T: Send>(&mut self, items: &mut [T], body: impl Fn(usize, &mut T) + Sync);
}

/// A plain `for`.
#[derive(Debug)]
pub(super) struct Plain;

impl Loop for Plain {
    fn for_each<T: Send>(&mut self, items: &mut [T], body: impl Fn(usize, &mut T) + Sync) {
        for (index, item) in items.iter_mut().enumerate() {
            body(index, item);
        }
    }
}

/// Halved by chili's `join` down to single items: it has no parallel iterators.
#[derive(Debug)]
pub(super) struct ChiliHalves<'a, 's>(&'a mut chili::Scope<'s>);

impl Loop for ChiliHalves<'_, '_> {
    fn for_each<T: Send>(&mut self, items: &mut [T], body: impl Fn(usize, &mut T) + Sync) {
        halves(self.0, 0, items, &body);
    }
}

fn halves<T, B>(scope: &mut chili::Scope<'_>, first: usize, items: &mut [T], body: &B)
where
    T: Send,
    B: Fn(usize, &mut T) + Sync,
{
    match items {
        [] => {}
        [item] => body(first, item),
        _ => {
            let half = items.len() / 2;
            let (left, right) = items.split_at_mut(half);
            scope.join(
                move |scope| halves(scope, first, left, body),
                move |scope| halves(scope, first + half, right, body),
            );
        }
    }
}

/// rayon's parallel iterator, driven by Beat.
#[derive(Debug)]
pub(super) struct BeatIter;

impl Loop for BeatIter {
    fn for_each<T: Send>(&mut self, items: &mut [T], body: impl Fn(usize, &mut T) + Sync) {
        use beat::iter::OnBeat;
        use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
        items.par_iter_mut().enumerate().on_beat().for_each(|(index, item)| body(index, item));
    }
}

/// rayon's parallel iterator.
#[derive(Debug)]
pub(super) struct RayonIter;

impl Loop for RayonIter {
    fn for_each<T: Send>(&mut self, items: &mut [T], body: impl Fn(usize, &mut T) + Sync) {
        use rayon::iter::{IndexedParallelIterator, IntoParallelRefMutIterator, ParallelIterator};
        items.par_iter_mut().enumerate().for_each(|(index, item)| body(index, item));
    }
}

/// paralight's: it steals ranges, and has loops only.
pub(super) struct ParalightIter(paralight::threads::ThreadPool);

impl ParalightIter {
    pub(super) fn new(threads: usize) -> Self {
        use paralight::prelude::{CpuPinningPolicy, RangeStrategy, ThreadCount, ThreadPoolBuilder};
        let count = std::num::NonZero::new(threads).expect("there is at least one worker");
        let builder = ThreadPoolBuilder {
            num_threads: ThreadCount::Count(count),
            range_strategy: RangeStrategy::WorkStealing,
            cpu_pinning: CpuPinningPolicy::No,
        };
        Self(builder.build())
    }
}

impl Loop for ParalightIter {
    fn for_each<T: Send>(&mut self, items: &mut [T], body: impl Fn(usize, &mut T) + Sync) {
        use paralight::prelude::*;
        let indices = 0..items.len();
        (indices.into_par_iter(), items.par_iter_mut())
            .zip_eq()
            .with_thread_pool(&mut self.0)
            .for_each(|(index, item)| body(index, item));
    }
}

/// A program of loops.
pub(super) trait Looping: Copy + Debug + Send + Sync + 'static {
    fn run(self, by: &mut impl Loop) -> u64;
    /// What it returns.
    fn result(self) -> u64;
}

/// Such a program for each contender.
#[derive(Clone, Copy, Debug)]
pub(super) struct Loops<T>(pub(super) T);

impl<T: Looping> Program for Loops<T> {
    fn sequential(self) -> u64 {
        self.0.run(&mut Plain)
    }

    fn beat(self) -> u64 {
        self.0.run(&mut BeatIter)
    }

    fn rayon(self) -> u64 {
        self.0.run(&mut RayonIter)
    }

    fn chili(self, scope: &mut chili::Scope<'_>) -> u64 {
        self.0.run(&mut ChiliHalves(scope))
    }

    fn result(self) -> u64 {
        self.0.result()
    }
}
