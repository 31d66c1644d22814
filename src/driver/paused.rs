//! The tokio driver with a clock that can be paused: who lets time jump.
//!
//! A paused clock of tokio's jumps to the next timer whenever the thread in `block_on` has nothing to do, unless one of
//! tokio's own blocking closures runs. That exception is public, and is what holds time here:
//!
//! *Park.* 1. If somebody is [awake](crate::rest), start a *hold*: a blocking closure of tokio's that waits for its
//! end; 2. enter the driver: it waits for events and does not jump; 3. when everything [settles](Observer::settled)
//! the hold ends, tokio wakes the driver, and time jumps; 4. leave when notified; 5. if somebody stirs while nothing
//! holds time, leave and go back to 1.
//!
//! **No jump comes between a timer and what it wakes.** tokio jumps at most once in each park of its own, fires what
//! is due, and polls the future of its `block_on` before the next park if that was woken. What a timer wakes takes a
//! unit right there, on this thread, which wakes that future ([`Observer::stirred`]): steps 4 and 5.
//!
//! A thread that is none of the runtime's may stir it at any time, by a wake or a `block_on`, also in the middle of a
//! jump; so it may with tokio's own runtime.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use tokio::runtime::Handle;

use crate::parker::Parker;
use crate::rest::{Observer, Rest};
use crate::sync::Mutex;

/// Keeps a clock that can be paused.
pub(super) struct Keeper {
    rest: Arc<Rest>,
    hold: Arc<Mutex<Option<Hold>>>,
}

impl Keeper {
    /// `waker`: that of the future in the driver.
    pub(super) fn new(waker: Arc<AtomicWaker>) -> Self {
        let hold = Arc::new(Mutex::new(None));
        let told = Told { waker, hold: Arc::clone(&hold) };
        Self { rest: Arc::new(Rest::new(Box::new(told))), hold }
    }

    pub(super) fn rest(&self) -> &Arc<Rest> {
        &self.rest
    }

    /// Park 1.
    fn hold(&self, runtime: &Handle) {
        if !self.rest.is_awake() {
            return;
        }
        let (hold, ended) = std::sync::mpsc::channel();
        *self.hold.lock() = Some(Hold(hold));
        // Ends when the sender is dropped. From here on tokio's clock does not jump.
        drop(runtime.spawn_blocking(move || ended.recv()));
        if !self.rest.is_awake() {
            // It may have settled before there was a hold to end.
            self.end_hold();
        }
    }

    fn is_held(&self) -> bool {
        self.hold.lock().is_some()
    }

    fn end_hold(&self) {
        drop(self.hold.lock().take());
    }

    /// Park. `enter` runs a future inside the driver.
    pub(super) fn park(
        &self,
        parker: &Parker,
        runtime: &Handle,
        waker: &AtomicWaker,
        enter: impl Fn(&mut dyn FnMut(&mut Context<'_>) -> Poll<()>),
    ) {
        struct Leave<'a>(&'a Keeper);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.end_hold();
            }
        }
        let _leave = Leave(self);
        while !parker.is_notified() {
            self.hold(runtime);
            enter(&mut |cx| {
                waker.register(cx.waker());
                let must_hold = self.rest.is_awake() && !self.is_held();
                if parker.is_notified() || must_hold { Poll::Ready(()) } else { Poll::Pending }
            });
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("rest", &self.rest).finish_non_exhaustive()
    }
}

/// Dropping it ends the blocking closure.
struct Hold(#[expect(dead_code, reason = "held for its drop")] std::sync::mpsc::Sender<()>);

struct Told {
    waker: Arc<AtomicWaker>,
    hold: Arc<Mutex<Option<Hold>>>,
}

impl Observer for Told {
    fn stirred(&self) {
        self.waker.wake();
    }

    fn settled(&self) {
        drop(self.hold.lock().take());
    }
}
