//! Jobs that borrow from whoever opened their scope.

use std::fmt;
use std::ptr;

use beat::{__rayon, Handle};

use crate::broadcast::BroadcastContext;
use crate::pool;

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident $spawn:ident $broadcast:ident $inner:ty;)*) => {$(
        $(#[$doc])*
        #[repr(transparent)]
        pub struct $name<'scope>($inner);

        impl<'scope> $name<'scope> {
            fn of<'a>(inner: &'a $inner) -> &'a Self {
                // SAFETY: transparent: the two have the same layout, and this one adds no invariant.
                unsafe { &*ptr::from_ref(inner).cast() }
            }

            /// Spawns a job, which ends before the scope does.
            ///
            /// It runs on an idle worker, or on the thread that opened the scope if that is a worker of the pool.
            pub fn $spawn<BODY>(&self, body: BODY)
            where
                BODY: FnOnce(&Self) + Send + 'scope,
            {
                self.0.$spawn(move |inner| body(Self::of(inner)));
            }

            /// Spawns a job for each index of the pool; see [`broadcast`](crate::broadcast()).
            pub fn spawn_broadcast<BODY>(&self, body: BODY)
            where
                BODY: Fn(&Self, BroadcastContext<'_>) + Send + Sync + 'scope,
            {
                __rayon::$broadcast(&self.0, move |inner, index, workers| {
                    body(Self::of(inner), BroadcastContext::new(index, workers));
                });
            }
        }

        impl fmt::Debug for $name<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}

scopes! {
    /// A scope whose jobs run newest first where nobody else takes them; see [`scope`](scope()).
    Scope spawn scope_broadcast beat::Scope<'scope>;
    /// A scope whose jobs run oldest first where nobody else takes them; see [`scope_fifo`].
    ScopeFifo spawn_fifo scope_fifo_broadcast beat::ScopeFifo<'scope>;
}

/// Runs `op` in the current pool, and any number of jobs that it spawns; returns when all have ended.
///
/// ```
/// let mut counts = [0; 3];
/// rayon_core::scope(|scope| {
///     for (i, count) in counts.iter_mut().enumerate() {
///         scope.spawn(move |_| *count = i * i);
///     }
/// });
/// assert_eq!(counts, [0, 1, 4]);
/// ```
///
/// # Panics
///
/// With the panic of `op`, or else the first one of a job, when all have ended.
pub fn scope<'scope, OP, R>(op: OP) -> R
where
    OP: FnOnce(&Scope<'scope>) -> R + Send,
    R: Send,
{
    scope_in(op, &pool::current())
}

pub(crate) fn scope_in<'scope, OP, R>(op: OP, pool: &Handle) -> R
where
    OP: FnOnce(&Scope<'scope>) -> R + Send,
    R: Send,
{
    __rayon::install(pool, || in_place_scope_in(op, pool))
}

/// As [`scope`](scope()), but jobs are taken in the order in which they were spawned.
///
/// ```
/// let order = std::sync::Mutex::new(Vec::new());
/// rayon_core::scope_fifo(|scope| {
///     for i in 0..3 {
///         let order = &order;
///         scope.spawn_fifo(move |_| order.lock().unwrap().push(i));
///     }
/// });
/// assert_eq!(order.into_inner().unwrap().len(), 3);
/// ```
pub fn scope_fifo<'scope, OP, R>(op: OP) -> R
where
    OP: FnOnce(&ScopeFifo<'scope>) -> R + Send,
    R: Send,
{
    scope_fifo_in(op, &pool::current())
}

pub(crate) fn scope_fifo_in<'scope, OP, R>(op: OP, pool: &Handle) -> R
where
    OP: FnOnce(&ScopeFifo<'scope>) -> R + Send,
    R: Send,
{
    __rayon::install(pool, || in_place_scope_fifo_in(op, pool))
}

/// As [`scope`](scope()), with `op` on the calling thread; the jobs run in the current pool.
///
/// ```
/// let mut x = 0;
/// rayon_core::in_place_scope(|scope| scope.spawn(|_| x += 1));
/// assert_eq!(x, 1);
/// ```
pub fn in_place_scope<'scope, OP, R>(op: OP) -> R
where
    OP: FnOnce(&Scope<'scope>) -> R,
{
    in_place_scope_in(op, &pool::current())
}

pub(crate) fn in_place_scope_in<'scope, OP, R>(op: OP, pool: &Handle) -> R
where
    OP: FnOnce(&Scope<'scope>) -> R,
{
    __rayon::in_place_scope(pool, |inner| op(Scope::of(inner)))
}

/// As [`scope_fifo`], with `op` on the calling thread; the jobs run in the current pool.
///
/// ```
/// let mut x = 0;
/// rayon_core::in_place_scope_fifo(|scope| scope.spawn_fifo(|_| x += 1));
/// assert_eq!(x, 1);
/// ```
pub fn in_place_scope_fifo<'scope, OP, R>(op: OP) -> R
where
    OP: FnOnce(&ScopeFifo<'scope>) -> R,
{
    in_place_scope_fifo_in(op, &pool::current())
}

pub(crate) fn in_place_scope_fifo_in<'scope, OP, R>(op: OP, pool: &Handle) -> R
where
    OP: FnOnce(&ScopeFifo<'scope>) -> R,
{
    __rayon::in_place_scope_fifo(pool, |inner| op(ScopeFifo::of(inner)))
}
