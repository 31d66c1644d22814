//! `join`: Beat's, with rayon's promise that both closures run.

use std::marker::PhantomData;
use std::ptr;

use beat::__rayon;

use crate::pool;

/// What a closure of [`join_context`] is told.
#[derive(Debug)]
pub struct FnContext {
    migrated: bool,
    /// Neither `Send` nor `Sync`, as rayon's.
    marker: PhantomData<*mut ()>,
}

impl FnContext {
    #[inline]
    fn new(migrated: bool) -> Self {
        Self { migrated, marker: PhantomData }
    }

    /// Whether the closure runs on another thread than the one that called [`join_context`].
    #[inline]
    pub fn migrated(&self) -> bool {
        self.migrated
    }
}

/// Runs both closures, possibly in parallel, and returns both results.
///
/// `a` runs on the calling worker at once, `b` there after it unless somebody has taken it by then. Called elsewhere it
/// goes to the current pool, and the caller waits.
///
/// ```
/// let (a, b) = rayon_core::join(|| 1 + 1, || "two");
/// assert_eq!((a, b), (2, "two"));
/// ```
///
/// # Panics
///
/// If a closure panics, after both have run; with the payload of `a` if both do.
#[inline]
pub fn join<A, B, RA, RB>(oper_a: A, oper_b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    match __rayon::join_both(oper_a, oper_b) {
        Ok(results) => results,
        Err((a, b)) => join_elsewhere(a, b),
    }
}

#[cold]
fn join_elsewhere<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    __rayon::install(&pool::current(), || {
        __rayon::join_both(a, b).unwrap_or_else(|_| unreachable!("a pool's closures run on its workers"))
    })
}

/// As [`join`], for closures that want to know whether they were taken to another thread.
///
/// ```
/// let (a, b) = rayon_core::join_context(|a| a.migrated(), |b| b.migrated());
/// // Called from a thread of no pool, both are moved to one.
/// assert!(a && b);
/// ```
///
/// # Panics
///
/// As [`join`].
#[inline]
pub fn join_context<A, B, RA, RB>(oper_a: A, oper_b: B) -> (RA, RB)
where
    A: FnOnce(FnContext) -> RA + Send,
    B: FnOnce(FnContext) -> RB + Send,
    RA: Send,
    RB: Send,
{
    let injected = !__rayon::is_worker();
    let thread = Mark::of_thread();
    join(
        move || oper_a(FnContext::new(injected)),
        // A thread takes no half that waits on its own stack.
        move || oper_b(FnContext::new(injected || thread != Mark::of_thread())),
    )
}

/// Which thread this is. Compared among threads that are there: one of them waits for the other.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mark(usize);

impl Mark {
    #[inline]
    fn of_thread() -> Self {
        thread_local! {
            static HERE: u8 = const { 0 };
        }
        Self(HERE.with(|here| ptr::from_ref(here) as usize))
    }
}
