//! tokio's cooperative budget inside Beat's tasks.
//!
//! tokio's channels, sockets and timers let a task do 128 operations in a poll and then make it yield. The budget
//! is a thread-local of tokio's, which only tokio's own executors fill: in a foreign executor it is without limit,
//! and a task that always finds a message holds its worker for ever. It can be filled with what is public:
//! [`RestoreOnPending`] puts the budget back to what it was when it was made. So each thread makes one inside a
//! `block_on`, where the budget is full; dropping it before a poll fills the budget, and `poll_proceed` makes the
//! next one, at the price of one operation.
//!
//! [`tokio::task::unconstrained`] takes the budget away while it polls, and puts back what was there: that ends
//! the budget with the poll. Left behind, it would make somebody else's `block_on` on this thread spin.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::task::coop::{RestoreOnPending, poll_proceed};

thread_local! {
    /// Fills the budget when dropped.
    static FULL: Cell<Option<RestoreOnPending>> = const { Cell::new(None) };
}

/// Gives this thread, which is in no runtime of tokio's, what it needs to fill budgets. Without, there is no limit.
pub(crate) fn prepare_thread() {
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() {
        FULL.set(Some(runtime.block_on(poll_fn(poll_proceed))));
    }
}

/// Calls `f` with a full budget.
pub(crate) fn with_full_budget<R>(f: impl FnOnce() -> R) -> R {
    without_budget(|| {
        fill();
        f()
    })
}

/// Calls `f` without a limit.
pub(crate) fn without_budget<R>(f: impl FnOnce() -> R) -> R {
    let mut f = Some(f);
    let call = poll_fn(|_| Poll::Ready(f.take().map(|f| f())));
    let polled = pin!(tokio::task::unconstrained(call)).poll(&mut Context::from_waker(Waker::noop()));
    match polled {
        Poll::Ready(Some(result)) => result,
        Poll::Ready(None) | Poll::Pending => unreachable!("it is ready at its one poll"),
    }
}

fn fill() {
    if let Some(full) = FULL.take() {
        drop(full);
        if let Poll::Ready(full) = poll_proceed(&mut Context::from_waker(Waker::noop())) {
            FULL.set(Some(full));
        }
    }
}
