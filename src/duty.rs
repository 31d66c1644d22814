//! The duty thread: prompt futures while every processor computes.
//!
//! When the last serving thread begins a closure, the driver passes to the duty thread. It is pinned to no core
//! and has a short scheduling slice, so when an event wakes it the kernel lets it preempt one closure in place:
//! it takes the events, leaves the driver, runs the ready tasks on its own stack, and goes back. It never runs
//! closures or halves, so closures do not share time with each other.
//!
//! The duty is a role and not a thread: a thread that holds it and gets stuck in a poll, or waits in one, loses
//! it ([`Duty::resign`]), and the next [`Duty::wake`] starts another.
//!
//! *Wake.* 1. The caller has published work or has found the driver uncovered; 2. it leaves a token with the
//! duty thread's parker. *Sleep.* The duty thread looks through the injector, then parks; a token left between
//! the two makes the park return. While the thread is being started ([`Holder::Starting`]) no token is needed:
//! the first thing it does is look.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use crate::local::{Remote, Role};
use crate::scheduler::Shared;
use crate::sync::Mutex;
use crate::worker;

#[derive(Debug, Default)]
enum Holder {
    #[default]
    Nobody,
    Starting,
    Thread(Arc<Remote>),
}

/// Who has the duty.
#[derive(Debug, Default)]
pub(crate) struct Duty {
    holder: Mutex<Holder>,
    active: AtomicBool,
}

impl Duty {
    /// Sends the duty thread to look for events and ready tasks.
    pub(crate) fn wake(&self, shared: &Shared) {
        let mut holder = self.holder.lock();
        match &*holder {
            Holder::Starting => {}
            Holder::Thread(remote) => {
                let seat = Arc::clone(&remote.seat);
                drop(holder);
                shared.driver.unpark(&seat.parker);
            }
            Holder::Nobody => {
                if shared.is_closed() {
                    return;
                }
                *holder = Holder::Starting;
                drop(holder);
                if let Err(error) = worker::start(shared, None) {
                    *self.holder.lock() = Holder::Nobody;
                    shared.lifecycle.report_spawn_failure(&error);
                }
            }
        }
    }

    /// The thread that was started for it takes the duty up.
    pub(crate) fn take_up(&self, remote: &Arc<Remote>) {
        *self.holder.lock() = Holder::Thread(Arc::clone(remote));
    }

    /// The thread is stuck, waits or ends: it has the duty no more. `false` if it did not have it.
    pub(crate) fn resign(&self, remote: &Arc<Remote>) -> bool {
        let mut holder = self.holder.lock();
        let had = matches!(&*holder, Holder::Thread(r) if Arc::ptr_eq(r, remote));
        if had {
            *holder = Holder::Nobody;
            remote.set_role(Role::Worker);
            self.active.store(false, Relaxed);
        }
        had
    }

    /// Whether the duty thread may be waiting for a core: closures yield at their beats.
    pub(crate) fn is_active(&self) -> bool {
        // Relaxed: a hint.
        self.active.load(Relaxed)
    }

    /// Says whether the duty thread, if that is still the caller, may be waiting for a core.
    pub(crate) fn set_active(&self, remote: &Arc<Remote>, active: bool) {
        let holder = self.holder.lock();
        if matches!(&*holder, Holder::Thread(r) if Arc::ptr_eq(r, remote)) {
            self.active.store(active, Relaxed);
        }
    }

    /// Unparks the thread for a shutdown.
    pub(crate) fn release(&self, shared: &Shared) {
        let holder = self.holder.lock();
        if let Holder::Thread(remote) = &*holder {
            let seat = Arc::clone(&remote.seat);
            drop(holder);
            shared.driver.unpark(&seat.parker);
        }
    }
}
