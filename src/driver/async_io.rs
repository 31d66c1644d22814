//! async-io as the parking place, for the smol family: `async_io::Async`, `async_io::Timer`, `smol::net`.
//!
//! async-io has one reactor for the process, which whoever calls its `block_on` turns while it waits; a thread of its
//! own (`async-io`) does so when nobody does. A thread with the token parks in that `block_on`, and so turns the
//! reactor if no other thread has it at the time: another runtime's, or async-io's own, which is woken at the end of each
//! `block_on` and as a rule has it before ours is back. Wakers then run there, and a task comes by way of the injector.
//! The public interface has no way to keep the reactor: see decision 7.
//!
//! *Park* and *nudge* are those of the [tokio driver](super::tokio): 1. the owner publishes `DRIVER` in its parker;
//! 2. a small future registers its waker and 3. looks whether the parker is notified; a nudge wakes that waker.
//!
//! Nothing of async-io's belongs to a runtime: there is nothing to enter, and nothing to end.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures::task::AtomicWaker;

use super::{Driver, Entered, Foreign};
use crate::parker::Parker;

#[derive(Debug, Default)]
pub(crate) struct AsyncIoDriver {
    waker: AtomicWaker,
}

impl Driver for AsyncIoDriver {
    fn has_events(&self) -> bool {
        true
    }

    fn park(&self, parker: &Parker) {
        ::async_io::block_on(poll_fn(|cx| {
            self.waker.register(cx.waker());
            if parker.is_notified() { Poll::Ready(()) } else { Poll::Pending }
        }));
    }

    fn nudge(&self) {
        self.waker.wake();
    }

    fn turn(&self) {
        // Woken before it is pending, it is polled again after one look at the reactor.
        let mut turned = false;
        ::async_io::block_on(poll_fn(|cx| {
            if turned {
                return Poll::Ready(());
            }
            turned = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
    }

    fn enter(&self) -> Entered {
        None
    }

    fn foreign_tasks(&self) -> Foreign {
        Foreign::default()
    }

    fn shutdown(&self, _timeout: Option<Duration>) {}
}
