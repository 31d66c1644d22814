//! Waiting for a future on the thread at hand.
//!
//! The thread polls its own future and nothing else: running others' tasks here would put them under the
//! caller's locks. Between polls it parks; a thread of the pool hands its processor over first, so a `block_on`
//! inside a task or closure strands nobody.
//!
//! *Wake.* 1. The waker sets `woken`; 2. unparks the thread. *Wait.* 1. The thread takes `woken`; if it was
//! set, it polls again; 2. else it parks, and goes back to 1. The parker's token closes the gap between the two.
//!
//! The thread has nothing else to do, yet each poll of `block_on` has a task's budgets: what is spent makes one branch of
//! a `select!` or `join!` give way to the others, a timeout among them. Each poll begins with full ones.
//!
//! With a clock that can be paused the thread counts as awake, but not while it is parked. The parker sees to that
//! ([`rest`](crate::rest)), unless it is that of another runtime: then `woken` itself stands for a unit.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::AcqRel;
use std::task::{Context, Poll, Wake, Waker};

use super::context;
use crate::driver;
use crate::local::{self, Local};
use crate::parker::{Parker, Unpark};
use crate::rest::{Counted, Rest};
use crate::scheduler::Shared;
use crate::task::budget::{self, Budgets};
use crate::user_code;

struct Unparker {
    woken: AtomicBool,
    parker: crate::sync::Arc<Parker>,
    /// The runtime whose thread this is. A waker may act after `block_on` has returned, when the thread already
    /// sits in its driver again: then the driver must be nudged, or the token would be swallowed.
    owner: Option<Arc<Shared>>,
    /// On another runtime's thread: where `woken` stands for a unit.
    visited: Option<Arc<Rest>>,
}

impl Unparker {
    fn take(&self) -> bool {
        self.woken.swap(false, AcqRel)
    }

    /// The thread gives its unit up, or one of two.
    fn rest(&self) {
        if let Some(rest) = &self.visited {
            rest.end();
        }
    }
}

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // As a parker does it: the unit comes before the token.
        if let Some(rest) = &self.visited {
            rest.begin();
        }
        // AcqRel pairs with `take`.
        if self.woken.swap(true, AcqRel) {
            self.rest();
        }
        match &self.owner {
            Some(shared) => shared.driver.unpark(&self.parker),
            // A thread of nobody's is never in a driver.
            None => {
                let unpark = self.parker.unpark();
                debug_assert_eq!(unpark, Unpark::Done);
            }
        }
    }
}

/// Wakes that come late take no unit, for nobody would give it up.
struct NoMoreUnits<'a>(&'a Unparker);

impl Drop for NoMoreUnits<'_> {
    fn drop(&mut self) {
        if self.0.woken.swap(true, AcqRel) {
            self.0.rest();
        }
    }
}

/// Runs `future` to its end on this thread, with the runtime entered.
#[track_caller]
pub(crate) fn block_on<F: Future>(shared: &Arc<Shared>, future: F) -> F::Output {
    shared.assert_not_forked();
    assert_may_wait("block_on");
    let _entered = context::Entered::new(shared);
    let foreign = Budgets::default();
    let limit = context::poll_budget();
    run(Some(shared), future, |own, poll| own.map_or(&foreign, |own| &own.budgets).within(limit, poll))
}

/// Runs `future` to its end on this thread. `caller`: the user's call, for the panic where that is not allowed.
#[track_caller]
pub(crate) fn wait_for<F: Future>(caller: &str, future: F) -> F::Output {
    assert_may_wait(caller);
    // A handle finds nothing to do for ever.
    run(context::current().as_ref(), future, |_, poll| budget::without(poll))
}

#[track_caller]
pub(crate) fn assert_may_wait(caller: &str) {
    assert!(
        !driver::is_inside(),
        "`{caller}` was called by a task that was given to `tokio::spawn`: it would hold up the driver it sits in. \
         Spawn the task with `beat::spawn`, or `.await` instead of blocking"
    );
}

/// `shared`: the runtime that is entered, whose clock may be paused. `limited`: calls what it is given, with the budgets
/// that a poll shall have, on a thread with this state.
fn run<F: Future>(
    shared: Option<&Arc<Shared>>,
    future: F,
    limited: impl Fn(Option<&Local>, &mut dyn FnMut()),
) -> F::Output {
    let rest = shared.and_then(|shared| shared.rest.as_ref());
    local::with_own(|own| {
        let _counted = Counted::enter(rest, true);
        let unparker = Arc::new(Unparker {
            woken: AtomicBool::new(false),
            parker: own.map_or_else(
                || crate::sync::Arc::new(Parker::counted(rest.cloned())),
                |own| crate::sync::Arc::clone(&own.seat().parker),
            ),
            owner: own.map(|own| Arc::clone(&own.shared)),
            visited: rest.filter(|_| own.zip(shared).is_some_and(|(own, shared)| !shared.owns(own))).cloned(),
        });
        let _last = NoMoreUnits(&unparker);
        let waker = Waker::from(Arc::clone(&unparker));
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            let mut polled = Poll::Pending;
            limited(own, &mut || polled = future.as_mut().poll(&mut cx));
            if let Poll::Ready(output) = polled {
                return output;
            }
            if unparker.take() {
                unparker.rest();
                if let Some(shared) = shared {
                    shared.look_at_the_clock();
                }
                continue;
            }
            unparker.rest();
            user_code::wait_on(own, &unparker.parker, || unparker.take());
        }
    })
}
