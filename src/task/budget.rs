//! What keeps a task that is always ready from holding its worker: budgets of a poll.
//!
//! *By time*: awaiting a [`JoinHandle`](super::JoinHandle) or [`consume_budget`] yields when the poll has lasted
//! [`Builder::poll_budget`](crate::Builder::poll_budget). The clock is read at every [`OPERATIONS_PER_LOOK`]th such
//! operation; the poll counts from the first look. *By operations*: tokio's own budget, see the `coop` module of
//! the driver. A poll that does neither is the [watchdog](crate::watchdog)'s business.
//!
//! Source of the idea: tokio's cooperative budget (tokio#2160).

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project::pin_project;

#[cfg(feature = "tokio")]
use crate::driver::coop;
use crate::local;
use crate::os;

/// How many operations pass between two looks at the clock.
const OPERATIONS_PER_LOOK: u32 = 16;

/// What is left of the poll at hand.
#[derive(Clone, Copy)]
struct Left {
    /// Nanoseconds from the first look.
    limit: u64,
    first_look: Option<u64>,
    operations: u32,
}

thread_local! {
    /// `None` outside a task's poll, or without a limit.
    static LEFT: Cell<Option<Left>> = const { Cell::new(None) };
}

/// What fills the budgets of one thread.
#[derive(Debug, Default)]
pub(crate) struct Budgets {
    #[cfg(feature = "tokio")]
    tokio: coop::Budget,
}

impl Budgets {
    /// On a thread that will poll tasks.
    pub(crate) fn prepare(&self) {
        #[cfg(feature = "tokio")]
        self.tokio.begin();
    }

    /// A poll of a task begins, which may last `limit` nanoseconds.
    pub(crate) fn begin_poll(&self, limit: u64) {
        LEFT.set(Some(Left { limit, first_look: None, operations: OPERATIONS_PER_LOOK }));
        #[cfg(feature = "tokio")]
        self.tokio.begin_poll();
    }

    /// Calls `f`, which polls tasks inside the poll of another: each has a budget of its own, and in the end what the
    /// other has left is put back.
    pub(crate) fn inside<R>(&self, f: impl FnOnce() -> R) -> R {
        without(|| {
            #[cfg(feature = "tokio")]
            self.tokio.begin();
            f()
        })
    }

    /// Calls `f`, a poll that is no task's, with budgets of its own, as [`inside`](Self::inside) and
    /// [`begin_poll`](Self::begin_poll).
    pub(crate) fn within<R>(&self, limit: u64, f: impl FnOnce() -> R) -> R {
        self.inside(|| {
            self.begin_poll(limit);
            f()
        })
    }

    /// The poll has ended.
    pub(crate) fn end_poll(&self) {
        LEFT.set(None);
    }
}

/// Calls `f` without a limit: a closure, or the poll of a handle that a thread waits for.
pub(crate) fn without<R>(f: impl FnOnce() -> R) -> R {
    #[cfg(feature = "tokio")]
    let f = || coop::without_budget(f);
    LEFT.with(|left| local::with_value(left, None, f))
}

/// One operation; pending, with the task woken, if the poll has lasted too long.
pub(crate) fn poll_proceed(cx: &mut Context<'_>) -> Poll<()> {
    let Some(mut left) = LEFT.get() else {
        return Poll::Ready(());
    };
    left.operations -= 1;
    if left.operations == 0 {
        let now = os::now();
        let first_look = *left.first_look.get_or_insert(now);
        if now.saturating_sub(first_look) >= left.limit {
            // Whoever polls on all the same, an executor inside the task say, makes some way before the next look.
            left.operations = OPERATIONS_PER_LOOK;
            LEFT.set(Some(left));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        left.operations = OPERATIONS_PER_LOOK;
    }
    LEFT.set(Some(left));
    Poll::Ready(())
}

/// Gives the other ready tasks a turn if this poll has lasted long; costs next to nothing otherwise.
///
/// For loops in a task that may never have to wait. How long is set by
/// [`Builder::poll_budget`](crate::Builder::poll_budget).
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let mut sum = 0_u64;
/// for i in 0..10_000 {
///     sum += i;
///     beat::task::consume_budget().await;
/// }
/// assert_eq!(sum, 49_995_000);
/// # }
/// ```
///
/// # Cancel safety
///
/// Cancel safe: nothing is lost with it.
pub async fn consume_budget() {
    poll_fn(poll_proceed).await;
}

/// Runs a future without the budgets of a poll: neither Beat nor tokio makes it yield.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// assert_eq!(beat::task::unconstrained(async { 5 }).await, 5);
/// # }
/// ```
///
/// # Cancel safety
///
/// As that of the future inside.
pub fn unconstrained<F: Future>(future: F) -> Unconstrained<F> {
    Unconstrained { future }
}

/// The future of [`unconstrained`].
///
/// ```
/// use std::future::{Ready, ready};
///
/// let future: beat::task::Unconstrained<Ready<u8>> = beat::task::unconstrained(ready(5));
/// assert_eq!(beat::Runtime::new()?.block_on(future), 5);
/// # Ok::<(), std::io::Error>(())
/// ```
#[pin_project]
#[derive(Debug)]
#[must_use = "futures do nothing unless you `.await` or poll them"]
pub struct Unconstrained<F> {
    #[pin]
    future: F,
}

impl<F: Future> Future for Unconstrained<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        without(|| self.project().future.poll(cx))
    }
}
