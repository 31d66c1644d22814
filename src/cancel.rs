//! Cancelling closures that run.
//!
//! `abort` sets a flag in the closure's header and asks all threads that fork to be heard ([`ASKED`]); at its
//! next fork each thread that runs a part of the closure sees the flag and unwinds with [`Cancelled`], which no
//! panic hook sees. The unwinding takes the way of a panic: a `join` waits for its stolen half first, a half
//! reports to its joiner, the closure's task turns the payload into a
//! [`JoinError`](crate::JoinError) that says "cancelled". Code that swallows the payload unwinds again at its
//! next fork. A thread that is panicking already is left alone, as is a region inside [`uncancellable`].
//!
//! [`ASKED`]: crate::heartbeat::ASKED

use std::any::Any;
use std::cell::Cell;
use std::panic::resume_unwind;

use crate::task;

thread_local! {
    /// How many [`uncancellable`] regions this thread is in.
    static SHIELDS: Cell<u32> = const { Cell::new(0) };
}

/// The payload with which a cancelled closure unwinds.
pub(crate) struct Cancelled(());

impl Cancelled {
    /// Unwinds, unless the thread is in an [`uncancellable`] region.
    pub(crate) fn unwind() {
        if SHIELDS.get() == 0 {
            resume_unwind(Self::payload());
        }
    }

    pub(crate) fn payload() -> Box<dyn Any + Send> {
        Box::new(Self(()))
    }

    pub(crate) fn is(payload: &(dyn Any + Send)) -> bool {
        payload.is::<Self>()
    }
}

/// Whether this thread is in an [`uncancellable`] region.
pub(crate) fn is_shielded() -> bool {
    SHIELDS.get() > 0
}

/// Whether the task or closure whose code calls this has been asked to end.
///
/// In a closure the answer holds in every part of it, on whatever thread. Long loops that do not fork should
/// ask now and then; under `panic = "abort"` it is the only sign of a cancellation.
///
/// ```
/// assert!(!beat::is_cancelled()); // outside any task
/// ```
pub fn is_cancelled() -> bool {
    task::with_current(|meta| meta.is_some_and(task::Meta::is_aborted))
}

/// Runs `f` in a region in which a cancellation does not unwind this thread.
///
/// For foreign frames that must not be unwound through: a C callback, say. Meanwhile the thread offers none of
/// its forks to others: `f` runs on this thread alone.
///
/// ```
/// let sum = beat::uncancellable(|| {
///     // Called back from C, say: no unwinding from here.
///     let (a, b) = beat::join(|| 1, || 2);
///     a + b
/// });
/// assert_eq!(sum, 3);
/// ```
pub fn uncancellable<R>(f: impl FnOnce() -> R) -> R {
    struct Shield;
    impl Drop for Shield {
        fn drop(&mut self) {
            SHIELDS.set(SHIELDS.get() - 1);
        }
    }
    SHIELDS.set(SHIELDS.get() + 1);
    let _shield = Shield;
    f()
}
