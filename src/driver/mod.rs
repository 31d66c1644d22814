//! Where threads park, and who must.
//!
//! Beat has no reactor of its own. A [`Driver`] is a place that a thread can park in and that knows about
//! events: [`plain`] knows none, [`tokio`] *is* a tokio current-thread runtime, whose epoll and timers turn
//! while an idle worker sits in it, and `async_io` is the `block_on` of the smol family's reactor.
//!
//! At most one thread is inside the driver, the holder of the *token* ([`DriverSlot::try_enter`]); all others
//! park on their own futexes. Somebody is always responsible for it:
//!
//! 1. a thread that goes to sleep with a processor takes the token if it is free and nobody else is serving;
//! 2. a thread that is serving comes by regularly: it takes a turn without blocking every so many polls;
//! 3. a thread that begins to compute, or gives its processor up, *covers* the driver if it was the last one
//!    serving and the token is free: it wakes an idle worker, or else the duty thread, which does 1;
//! 4. a thread stuck in a poll is found by the watchdog, which does 3 in its name.
//!
//! Rules 1 to 3 leave no gap: "last one serving" is decided under the lock of
//! [`Processors`](crate::processors::Processors), and a thread that stops serving by going to sleep does 1.

#[cfg(all(feature = "async-io", not(loom)))]
pub(crate) mod async_io;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) mod coop;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) mod escaped;
#[cfg(not(loom))]
mod kind;
#[cfg(all(feature = "test-util", not(loom)))]
mod paused;
#[cfg(not(loom))]
pub(crate) mod plain;
#[cfg(all(feature = "tokio", not(loom)))]
pub(crate) mod tokio;

#[cfg(not(loom))]
pub use kind::DriverKind;

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

use crate::parker::{Parker, Unpark};
use crate::processors::{Census, Processors};
use crate::rest::Rest;
use crate::sync::Arc;
use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Keeps the driver's own context (tokio's "current handle") entered on this thread until dropped.
pub(crate) type Entered = Option<Box<dyn Any>>;

/// A place to park in that knows about events.
pub(crate) trait Driver: Send + Sync + fmt::Debug {
    /// Whether events can come at all: if not, nobody need sit in it.
    fn has_events(&self) -> bool;

    /// Parks the calling thread, which has called [`Parker::enter_driver`], until `parker` is notified. Wakers
    /// run in here, on this thread.
    fn park(&self, parker: &Parker);

    /// Makes a `park` look at its parker again. From any thread, also from inside the turn.
    fn nudge(&self);

    /// How long until the next millisecond at which timers fall due; `None` if they keep no such grid.
    fn until_edge(&self) -> Option<Duration> {
        None
    }

    /// Takes what events are there, without blocking.
    fn turn(&self);

    /// Makes the driver's context current on this thread; `None` also if the thread is ending, too late for that.
    fn enter(&self) -> Entered;

    /// The tasks that third-party code gave to the driver itself, and that live in there.
    fn foreign_tasks(&self) -> Foreign;

    /// Who must be told who is awake; `None` if nobody asks.
    fn rest(&self) -> Option<Arc<Rest>> {
        None
    }

    /// Ends the driver. Nobody is inside, and all of Beat's own tasks are gone.
    fn shutdown(&self, timeout: Option<Duration>);
}

/// What is known of tasks that live in a driver.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Foreign {
    /// Tasks that have not ended.
    pub(crate) alive: usize,
    /// Tasks that have been seen, alive or not: at least so many there were.
    pub(crate) seen: u64,
    /// Stretches of their polls that lasted longer than a heartbeat.
    pub(crate) long_polls: u64,
}

/// Whom rule 3 sends.
#[must_use = "nobody else will send somebody into the driver"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cover {
    /// Nobody: it is seen to.
    Nobody,
    /// An idle worker.
    Worker,
    /// The duty thread: all processors compute.
    Duty,
}

impl Cover {
    /// Whom to send for what has just been published, or left, by somebody who does not serve.
    pub(crate) fn for_work(census: Census) -> Self {
        if census.serving() > 0 {
            Self::Nobody
        } else if census.idle > 0 {
            Self::Worker
        } else {
            Self::Duty
        }
    }
}

/// The driver of a runtime, with its token.
#[derive(Debug)]
pub(crate) struct DriverSlot {
    driver: Box<dyn Driver>,
    occupied: AtomicBool,
}

impl DriverSlot {
    pub(crate) fn new(driver: Box<dyn Driver>) -> Self {
        Self { driver, occupied: AtomicBool::new(false) }
    }

    /// Whether nobody need be sent: somebody holds the token, or there is nothing to hold it for.
    pub(crate) fn is_covered(&self) -> bool {
        // Relaxed: nothing is read in reliance on it, and what a stale look misses, rule 1 or rule 4 makes good. The
        // watchdog's look before it sleeps comes after a fence.
        !self.driver.has_events() || self.occupied.load(Relaxed)
    }

    /// Rule 3: the caller has stopped serving, or found that somebody has. Ready tasks that wait (`tasks_wait`) are
    /// a reason to send somebody too: whoever has published them may have relied on the caller (Submit 3 of
    /// [`processors`](crate::processors), with the caller still serving).
    pub(crate) fn cover(&self, processors: &Processors, tasks_wait: impl FnOnce() -> bool) -> Cover {
        let to_send = Cover::for_work(processors.published());
        if to_send != Cover::Nobody && self.is_covered() && !tasks_wait() { Cover::Nobody } else { to_send }
    }

    /// Takes the token, unless somebody has it.
    pub(crate) fn try_enter(&self) -> Option<Token<'_>> {
        if !self.driver.has_events() || self.occupied.load(Relaxed) {
            return None;
        }
        // Acquire pairs with the release of `Token::drop`: turns are a sequence. The load above only saves the attempt.
        let won = self.occupied.compare_exchange(false, true, Acquire, Relaxed).is_ok();
        // Lazily: a token that is made is a token that is given back.
        won.then(|| Token(self))
    }

    /// Unparks a thread wherever it sleeps.
    pub(crate) fn unpark(&self, parker: &Parker) {
        self.finish_unpark(parker.unpark());
    }

    /// Does what an unpark has left to do.
    pub(crate) fn finish_unpark(&self, unpark: Unpark) {
        match unpark {
            Unpark::Done => {}
            Unpark::NudgeDriver => self.driver.nudge(),
        }
    }

    pub(crate) fn get(&self) -> &dyn Driver {
        &*self.driver
    }
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread is inside a driver: wakers and third-party code run on it now.
pub(crate) fn is_inside() -> bool {
    INSIDE.get()
}

/// Inside, until dropped: turns do not nest.
struct Inside;

impl Inside {
    fn enter() -> Self {
        INSIDE.set(true);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// The right to be inside the driver.
#[derive(Debug)]
pub(crate) struct Token<'a>(&'a DriverSlot);

impl Token<'_> {
    /// Parks in the driver until notified.
    pub(crate) fn park(&self, parker: &Parker) {
        struct Leave<'a>(&'a Parker);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.leave_driver();
            }
        }
        if parker.enter_driver() {
            // Also if a waker panics in there.
            let _leave = Leave(parker);
            let _inside = Inside::enter();
            self.0.driver.park(parker);
        }
    }

    /// Takes what events are there.
    pub(crate) fn turn(&self) {
        let _inside = Inside::enter();
        self.0.driver.turn();
    }
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        // Release pairs with `try_enter`.
        self.0.occupied.store(false, Release);
    }
}
