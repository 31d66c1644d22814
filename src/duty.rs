//! The duty thread: prompt futures while every processor computes.
//!
//! When the last serving thread begins a closure, the driver passes to the duty thread. It is pinned to no core
//! and has a short scheduling slice, so when an event wakes it the kernel lets it preempt one closure in place:
//! it takes the events, leaves the driver, runs the ready tasks on its own stack, and goes back. It never runs
//! closures or halves, so closures do not share time with each other.
//!
//! The duty is a role and not a thread: a thread that holds it and gets stuck in a poll, or waits in one, loses
//! it ([`Duty::resign`], [`Duty::dismiss`]), and the next [`Duty::wake`] starts another.
//!
//! ```text
//!              1 wake (start a thread)          2 take_up
//!   Nobody ─────────────────────────▶ Starting ───────────▶ Thread ──┐ 4 wake (leave a token)
//!     ▲ ▲                                │                  │   ▲    │
//!     │ └───────── 3 not_started ────────┘                  │   └────┘
//!     └───────────────── 5 resign, dismiss ─────────────────┘
//! ```
//!
//! *Wake.* 1. The caller has published work or has found the driver uncovered; 2. it sends for the holder: it
//! leaves a token with the thread's parker, or starts a thread where nobody holds the duty.
//!
//! *Serve.* 1. Once: `take_up`. 2. Look through the injector and run what is there. 3. [`Duty::sleep`]: in the driver
//! if nobody sits there, else on the parker; then 2 again.
//!
//! *Resign.* 1. The thread holds the duty no more; 2. whoever took it from the thread looks whether the driver is
//! covered and the injector empty, and does Wake 2 if not; 3. if it was the watchdog ([`Duty::dismiss`]), it leaves a
//! token with the thread, which may be on its way into Serve 3, where nobody would look for it any more.
//!
//! **What was published while nobody serves is seen.** All looks at the holder are made under one lock. If Wake 2
//! finds `Thread`, the token ends Serve 3, at once if it came between 2 and 3, and Serve 2 sees the work. If it finds
//! `Starting`, `take_up` comes later under the same lock, and Serve 2 after it. If the thread it has left the token
//! with has resigned meanwhile, Resign 1 came later under the lock, and Resign 2 sees the work.
//!
//! # Who waits for a core
//!
//! A thread that wakes preempts a closure only if it has not had more than its share just before: the kernel counts (EEVDF's
//! lag). Then, and when a thread of higher priority had it preempted, it waits in the core's queue, and nothing but a tick,
//! some milliseconds away, makes the kernel choose again. Nor does it preempt one with less than a short slice left of its own.
//! So closures yield at their beats and have long slices. Both cost something where other programs use the cores: a yield
//! gives them up to a slice of the closure's share, and a closure that has waited comes behind them for what it has had
//! before. There (see [`room`](crate::room)) slices are the system's own, and closures yield only while the duty thread
//! may be waiting: from when it is sent for, or runs, until it rests, and for [`RECENTLY`] after that, since what it had
//! before counts when it is woken again. (That an event wakes it is seen only when it runs. Where the kernel knows no slices
//! it does not preempt, so there the thread does not count as resting in the driver.)

use crate::driver::{DriverSlot, Token};
use crate::processors::Seat;
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Arc, Mutex};

/// For how long after it has gone to rest the duty thread may not preempt when it wakes, in nanoseconds.
const RECENTLY: u64 = 200_000;
/// The duty thread does not rest.
const AWAKE: u64 = u64::MAX;
/// There is none, or it sleeps outside the driver.
const NOBODY: u64 = 0;

#[derive(Debug, Default)]
enum Holder {
    #[default]
    Nobody,
    Starting,
    Thread(Arc<Seat>),
}

/// What is left to do for whoever sends for the duty thread.
#[must_use = "nobody else will send for the duty thread"]
#[derive(Debug)]
pub(crate) enum Send {
    /// Nothing: it is being started, and will look.
    Nothing,
    /// Unpark it, wherever it sleeps.
    Unpark(Arc<Seat>),
    /// Start a thread that takes the duty up, or say that there is none ([`Duty::not_started`]).
    Start,
}

/// Who has the duty.
#[derive(Debug, Default)]
pub(crate) struct Duty {
    holder: Mutex<Holder>,
    /// When the holder went to rest, in nanoseconds, or [`AWAKE`], or [`NOBODY`]. Relaxed: a hint.
    rests_since: AtomicU64,
}

impl Duty {
    /// Wake 2: sends the duty thread to look for events and ready tasks.
    pub(crate) fn wake(&self) -> Send {
        let mut holder = self.holder.lock();
        match &*holder {
            Holder::Starting => Send::Nothing,
            Holder::Thread(seat) => {
                self.rests_since.store(AWAKE, Relaxed);
                Send::Unpark(Arc::clone(seat))
            }
            Holder::Nobody => {
                *holder = Holder::Starting;
                self.rests_since.store(AWAKE, Relaxed);
                Send::Start
            }
        }
    }

    /// The thread that was to be started is not. Whoever relied on it has to be made up for.
    pub(crate) fn not_started(&self) {
        *self.holder.lock() = Holder::Nobody;
        self.rests_since.store(NOBODY, Relaxed);
    }

    /// Serve 1: the thread that was started for it takes the duty up.
    pub(crate) fn take_up(&self, seat: &Arc<Seat>) {
        *self.holder.lock() = Holder::Thread(Arc::clone(seat));
    }

    /// Serve 3. `in_driver` parks the thread with the driver's token.
    pub(crate) fn sleep(&self, seat: &Arc<Seat>, driver: &DriverSlot, in_driver: impl FnOnce(&Token<'_>)) {
        match driver.try_enter() {
            Some(token) => in_driver(&token),
            None => self.sleep_outside(seat),
        }
    }

    /// Serve 3 while somebody else is known to see to the driver.
    pub(crate) fn sleep_outside(&self, seat: &Arc<Seat>) {
        // Nothing but a call wakes it there.
        self.set_rest(seat, NOBODY);
        seat.parker.park();
    }

    /// Resign 1, by the thread itself: it waits or ends. `false` if it did not have the duty.
    pub(crate) fn resign(&self, seat: &Arc<Seat>) -> bool {
        let mut holder = self.holder.lock();
        let had = matches!(&*holder, Holder::Thread(s) if Arc::ptr_eq(s, seat));
        if had {
            *holder = Holder::Nobody;
            self.rests_since.store(NOBODY, Relaxed);
        }
        had
    }

    /// Resign 1 and 3, by the watchdog: the thread is stuck. `step_down` lets the thread know, when it looks.
    pub(crate) fn dismiss(&self, seat: &Arc<Seat>, driver: &DriverSlot, step_down: impl FnOnce()) -> bool {
        let had = self.resign(seat);
        if had {
            step_down();
            driver.unpark(&seat.parker);
        }
        had
    }

    /// Whether the duty thread may be waiting for a core at `now`: see [*Who waits for a core*](self#who-waits-for-a-core).
    /// `is_quiet`: nobody else uses the cores.
    pub(crate) fn may_wait_for_core(&self, now: u64, is_quiet: bool) -> bool {
        match self.rests_since.load(Relaxed) {
            NOBODY => false,
            AWAKE => true,
            since => is_quiet || now.saturating_sub(since) < RECENTLY,
        }
    }

    /// The duty thread, if that is still the caller, has woken.
    pub(crate) fn begin_serving(&self, seat: &Arc<Seat>) {
        self.set_rest(seat, AWAKE);
    }

    /// It goes to rest at `now`.
    pub(crate) fn begin_rest(&self, seat: &Arc<Seat>, now: u64) {
        self.set_rest(seat, now.clamp(NOBODY + 1, AWAKE - 1));
    }

    fn set_rest(&self, seat: &Arc<Seat>, since: u64) {
        let holder = self.holder.lock();
        if matches!(&*holder, Holder::Thread(s) if Arc::ptr_eq(s, seat)) {
            self.rests_since.store(since, Relaxed);
        }
    }

    /// The thread that has the duty, to be told of a shutdown. One that is being started looks by itself.
    pub(crate) fn holder(&self) -> Option<Arc<Seat>> {
        match &*self.holder.lock() {
            Holder::Thread(seat) => Some(Arc::clone(seat)),
            Holder::Nobody | Holder::Starting => None,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn closures_yield_while_the_duty_thread_may_wait_and_no_longer() {
        let (duty, [seat, other]) = (Duty::default(), [(); 2].map(|()| Arc::new(Seat::counted(None))));
        let at = |now| duty.may_wait_for_core(now, false);
        let if_quiet = |now| duty.may_wait_for_core(now, true);
        assert!(!at(RECENTLY) && !if_quiet(1));
        assert!(matches!(duty.wake(), Send::Start));
        assert!(at(RECENTLY * 9), "it may wait for a core to begin on");
        duty.not_started();
        assert!(!at(RECENTLY * 9));
        assert!(matches!(duty.wake(), Send::Start));
        duty.take_up(&seat);
        duty.begin_serving(&seat);
        assert!(at(1) && at(u64::MAX - 1));
        duty.begin_rest(&seat, 1_000);
        assert!(at(1_000) && at(RECENTLY + 999) && !at(RECENTLY + 1_000));
        assert!(if_quiet(u64::MAX - 1));
        // Sent for, it waits until it runs.
        assert!(matches!(duty.wake(), Send::Unpark(_)));
        assert!(at(RECENTLY * 9));
        duty.begin_rest(&other, 1_000);
        assert!(at(RECENTLY * 9), "not the duty thread");
        assert!(duty.resign(&seat));
        assert!(!at(RECENTLY * 9));
    }
}
