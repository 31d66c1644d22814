//! What other threads see of a [`LocalSet`](super::LocalSet): the roll of its tasks, and the queue of those woken
//! by somebody who is not polling it.
//!
//! *Wake.* 1. The task goes into the queue, under its lock; 2. whoever polled the set last is woken. *Poll.* 1. The
//! poller registers its waker; 2. takes what is in the queue.
//!
//! **No wake-up is lost.** If a wake's step 1 comes before a poll's step 2, the poll finds the task. Else, by the
//! lock, the poll's step 1 comes before the wake's step 2, which finds the waker.
//!
//! *Own thread*: a task of a set is polled and dropped on the thread of the set. Its runnable is in one of three
//! places: the set's own queue, which never leaves the thread; the queue in here, which only the set takes from; or
//! the hands of a thread that is bringing it in here. Nor does it go with the inbox: every task keeps a reference
//! to the inbox in its schedule function, so there is no inbox to be dropped while a runnable lies in it.
//!
//! The end of a set ([`Inbox::wait`]) waits for those that are being brought: their futures must not outlive it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::thread::{self, ThreadId};
use std::time::Duration;

use futures::task::AtomicWaker;

use super::registry::Shard;
use super::{Runnable, registry};
use crate::sync::{Condvar, Mutex};

/// How long a set that is being dropped waits before it looks again. It is told of each arrival; the time only
/// bounds what a bug would cost.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// See the [module](self).
pub(crate) struct Inbox {
    owner: ThreadId,
    /// The tasks whose futures exist.
    pub(super) tasks: Shard,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// Whoever polled the set last.
    poller: AtomicWaker,
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Runnable>,
    /// The set is being dropped, and waits for what arrives.
    is_closing: bool,
}

impl Inbox {
    /// Of a set that belongs to the calling thread.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            owner: thread::current().id(),
            tasks: Shard::default(),
            queue: Mutex::default(),
            arrived: Condvar::default(),
            poller: AtomicWaker::new(),
        })
    }

    /// Whether the set belongs to the calling thread.
    pub(super) fn is_here(&self) -> bool {
        self.owner == thread::current().id()
    }

    /// How many tasks have not ended.
    pub(super) fn len(&self) -> usize {
        self.tasks.lock().len()
    }

    /// The wakers of all tasks that have not ended.
    pub(super) fn wakers(&self) -> Vec<Waker> {
        registry::wakers_in(&self.tasks)
    }

    /// Poll 1.
    pub(super) fn register(&self, poller: &Waker) {
        self.poller.register(poller);
    }

    /// Wake 2.
    pub(super) fn wake_poller(&self) {
        self.poller.wake();
    }

    /// Nobody will poll the set any more.
    pub(super) fn forget_poller(&self) {
        drop(self.poller.take());
    }

    /// Wake 1 and 2, from anywhere.
    pub(super) fn push(&self, task: Runnable) {
        let mut queue = self.queue.lock();
        queue.tasks.push(task);
        if queue.is_closing {
            self.arrived.notify_all();
        }
        drop(queue);
        self.wake_poller();
    }

    /// Poll 2, for the set alone: what has arrived goes behind what is in `queue`.
    pub(super) fn take(&self, queue: &mut VecDeque<Runnable>) {
        queue.extend(self.queue.lock().tasks.drain(..));
    }

    /// Waits until something has arrived. For a set that is being dropped and still has tasks: each of them has
    /// been woken, so those that are not here are being brought.
    pub(super) fn wait(&self) {
        let mut queue = self.queue.lock();
        queue.is_closing = true;
        while queue.tasks.is_empty() {
            queue = self.arrived.wait_timeout(queue, LOOK_AGAIN).0;
        }
    }
}

#[cfg(test)]
impl Inbox {
    /// Whether the set is being dropped and waits.
    pub(super) fn is_closing(&self) -> bool {
        self.queue.lock().is_closing
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("owner", &self.owner).finish_non_exhaustive()
    }
}
