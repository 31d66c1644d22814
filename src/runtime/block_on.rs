//! Waiting for a future on the thread at hand.
//!
//! The thread polls its own future and nothing else: running others' tasks here would put them under the
//! caller's locks. Between polls it parks; a thread of the pool hands its processor over first, so a `block_on`
//! inside a task or closure strands nobody.
//!
//! *Wake.* 1. The waker sets `woken`; 2. unparks the thread. *Wait.* 1. The thread takes `woken`; if it was
//! set, it polls again; 2. else it parks, and goes back to 1. The parker's token closes the gap between the two.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::task::{Context, Poll, Wake, Waker};

use super::context;
use crate::driver;
use crate::local;
use crate::parker::{Parker, Unpark};
use crate::scheduler::Shared;
use crate::task::budget;
use crate::user_code;

struct Unparker {
    woken: AtomicBool,
    parker: crate::sync::Arc<Parker>,
    /// The runtime whose thread this is. A waker may act after `block_on` has returned, when the thread already
    /// sits in its driver again: then the driver must be nudged, or the token would be swallowed.
    owner: Option<Arc<Shared>>,
}

impl Unparker {
    fn take(&self) -> bool {
        self.woken.swap(false, AcqRel)
    }
}

impl Wake for Unparker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Release pairs with `take`.
        self.woken.store(true, Release);
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

/// Runs `future` to its end on this thread, with the runtime entered.
#[track_caller]
pub(crate) fn block_on<F: Future>(shared: &Arc<Shared>, future: F) -> F::Output {
    shared.assert_not_forked();
    assert_may_wait("block_on");
    let _entered = context::Entered::new(shared);
    run(future)
}

/// Runs `future` to its end on this thread. `caller`: the user's call, for the panic where that is not allowed.
#[track_caller]
pub(crate) fn wait_for<F: Future>(caller: &str, future: F) -> F::Output {
    assert_may_wait(caller);
    run(future)
}

#[track_caller]
fn assert_may_wait(caller: &str) {
    assert!(
        !driver::is_inside(),
        "`{caller}` was called by a task that was given to `tokio::spawn`: it would wait for the driver it sits in. \
         Spawn the task with `beat::spawn`, or `.await` instead of blocking"
    );
}

fn run<F: Future>(future: F) -> F::Output {
    local::with_own(|own| {
        let unparker = Arc::new(Unparker {
            woken: AtomicBool::new(false),
            parker: own.map_or_else(
                || crate::sync::Arc::new(Parker::new()),
                |own| crate::sync::Arc::clone(&own.seat().parker),
            ),
            owner: own.map(|own| Arc::clone(&own.shared)),
        });
        let waker = Waker::from(Arc::clone(&unparker));
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        loop {
            // The thread has nothing else to do, and a budget that is spent would make it spin.
            if let Poll::Ready(output) = budget::without(|| future.as_mut().poll(&mut cx)) {
                return output;
            }
            if unparker.take() {
                continue;
            }
            user_code::wait_on(own, &unparker.parker, || unparker.take());
        }
    })
}
