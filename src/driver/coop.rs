//! tokio's cooperative budget inside Beat's tasks.
//!
//! tokio's channels, sockets and timers let a task do 128 operations in a poll and then make it yield. The budget
//! is a thread-local of tokio's, which only tokio's own executors fill: in a foreign executor it is without limit,
//! and a task that always finds a message holds its worker for ever. It can be filled with what is public:
//! [`RestoreOnPending`] puts the budget back to what it was when it was made. So each thread makes one inside an
//! executor of tokio's that needs no runtime, a `LocalSet`, where the budget is full; dropping it fills the budget,
//! and `poll_proceed` makes the next one, at the price of one operation.
//!
//! What is left of a budget stays on the thread when the poll is over. So all else that polls there, closures that
//! block on a future say, must do so [`without_budget`]: a spent one would make it spin.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Handle;
use tokio::task::LocalSet;
use tokio::task::coop::{RestoreOnPending, has_budget_remaining, poll_proceed};

/// What fills the budget of one thread.
#[derive(Default)]
pub(crate) struct Budget {
    /// Fills it when dropped.
    full: Cell<Option<RestoreOnPending>>,
}

impl Budget {
    /// Gives the calling thread, which is always the same, a full budget. Without, there is no limit.
    pub(crate) fn begin(&self) {
        let full = self.full.take().or_else(full);
        self.full.set(full);
        self.fill();
    }

    /// A poll begins on a thread that has a budget: it has some budget, if not a full one. Filling it each time
    /// would cost a hundred instructions a poll; a yield too many at every 128th operation costs less.
    pub(crate) fn begin_poll(&self) {
        if !has_budget_remaining() {
            self.fill();
        }
    }

    fn fill(&self) {
        if let Some(full) = self.full.take() {
            drop(full);
            if let Poll::Ready(full) = poll_proceed(&mut Context::from_waker(Waker::noop())) {
                self.full.set(Some(full));
            }
        }
    }
}

impl Drop for Budget {
    /// What fills a budget fills it once more when dropped: not that of whoever drops it, on a thread that may have none.
    fn drop(&mut self) {
        if let Some(full) = self.full.take() {
            without_budget(|| drop(full));
        }
    }
}

/// Whether the calling thread is ending, and tokio's thread-locals on it are gone.
pub(super) fn is_too_late() -> bool {
    Handle::try_current().is_err_and(|error| error.is_thread_local_destroyed())
}

/// What fills the calling thread's budget; `None` if the thread is ending: then there is no budget, and no limit.
fn full() -> Option<RestoreOnPending> {
    if is_too_late() {
        return None;
    }
    let mut set = LocalSet::new();
    let full = Rc::new(Cell::new(None));
    let made = Rc::clone(&full);
    drop(set.spawn_local(async move { made.set(Some(poll_fn(poll_proceed).await)) }));
    let polled = pin!(&mut set).poll(&mut Context::from_waker(Waker::noop()));
    debug_assert!(polled.is_ready(), "a full budget lets it proceed");
    full.take()
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").finish_non_exhaustive()
    }
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
