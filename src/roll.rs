//! The roll of a runtime: whether it still accepts work, and how many of its threads are still there.
//!
//! This is the part of the [end](crate::lifecycle) in which threads race.
//!
//! # Closing
//!
//! *Closer*: 1. [`Roll::close`]; 2. look through what has been published: the registry of tasks, the list of
//! sleepers, the holder of the duty, the idle threads of the blocking pool, the watchdog.
//! *Publisher* (it spawns, goes to sleep, takes up the duty): 1. publish; 2. [`Roll::is_closed`].
//!
//! **One of the two sees the other.** Both publish and look through under the same lock. If the publisher has it
//! first, the closer finds what was published; else the closer's step 1 happened before the publisher's step 2.
//! A thread that the closer has found is unparked, and the token outlasts what it was about to do.
//!
//! # Ending
//!
//! Threads come in ([`Roll::enter`]) and leave ([`Roll::leave`]); one party waits for all of them
//! ([`Roll::wait`]), passes that on to another thread when its time is up, or leaves them to themselves
//! ([`Roll::abandon`]). **Exactly one party finishes the runtime**: whoever sees, under the lock, that nobody is left
//! and that the finishing has not been given away yet. The one who waited gives it away in the same step in which it
//! sees that somebody is left; the last thread takes it back with the count at zero, and a thread that comes in
//! later finds it taken.

use std::time::{Duration, Instant};

use crate::sync::atomic::AtomicBool;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Condvar, Mutex};

/// How long a waiting party waits before it first does something in the meantime.
const FIRST_PERIOD: Duration = Duration::from_millis(10);

/// See the [module](self).
#[derive(Debug, Default)]
pub(crate) struct Roll {
    closed: AtomicBool,
    count: Mutex<Count>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Count {
    /// Threads of the scheduler, the watchdog and the blocking pool.
    present: usize,
    /// Nobody waits for them: the last one finishes the runtime.
    abandoned: bool,
}

/// Whose it is to finish the runtime.
#[must_use = "a runtime is finished by exactly one party"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The caller's, now.
    Caller,
    /// Somebody else's.
    Other,
}

impl Roll {
    /// Closing, step 1 of the closer.
    pub(crate) fn close(&self) {
        // Relaxed: what is published under the locks named above is ordered by them.
        self.closed.store(true, Relaxed);
    }

    /// Closing, step 2 of a publisher.
    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: as above.
        self.closed.load(Relaxed)
    }

    /// A thread is about to be started.
    pub(crate) fn enter(&self) {
        self.count.lock().present += 1;
    }

    /// A thread has ended, or was refused.
    pub(crate) fn leave(&self) -> Finish {
        let mut count = self.count.lock();
        count.present -= 1;
        self.left.notify_all();
        if count.present == 0 && std::mem::take(&mut count.abandoned) {
            Finish::Caller
        } else {
            Finish::Other
        }
    }

    /// Waits until all threads have left, or the time is up (`false`). `meanwhile` is called now and then, without
    /// the lock: after [`FIRST_PERIOD`], then ever more rarely, but at least every `longest`.
    #[must_use = "if the time is up somebody else has to wait, or nobody does"]
    pub(crate) fn wait(&self, deadline: Option<Instant>, longest: Duration, meanwhile: impl Fn()) -> bool {
        let mut period = FIRST_PERIOD.min(longest);
        let mut count = self.count.lock();
        while count.present > 0 {
            let left = deadline.map_or(period, |d| d.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let (next, timed_out) = self.left.wait_timeout(count, left.min(period));
            count = next;
            if timed_out {
                drop(count);
                meanwhile();
                period = (period * 2).min(longest);
                count = self.count.lock();
            }
        }
        true
    }

    /// Nobody waits any more: the threads are left to themselves.
    pub(crate) fn abandon(&self) -> Finish {
        let mut count = self.count.lock();
        if count.present == 0 {
            return Finish::Caller;
        }
        count.abandoned = true;
        Finish::Other
    }
}
