//! Closures addressed to one processor each: parts of a broadcast, which runs once on every one.
//!
//! *Submit*: 1. push into the processor's queue; 2. if the processor is idle, send a thread to it
//! ([`Processors::wake_on`](crate::processors::Processors::wake_on)). *Take*: a thread at its loop looks into the
//! queue of the processor that it holds. *Release*: whoever has let a processor become idle looks whether something
//! is addressed to one that is, and does Submit 2 for it.
//!
//! **None is forgotten.** Processors become idle under the lock that Submit 2 looks under. Either it comes later and
//! sends somebody; or it comes before, then Submit 1 did as well, and Release sees it. A processor that is not idle
//! has a holder, who comes to its loop or lets it become idle.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;

use crate::processors::ProcessorId;
use crate::sync::Mutex;
use crate::task::Runnable;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Addressed {
    queues: Box<[Mutex<VecDeque<Runnable>>]>,
    /// How many lie in all queues: to be read without a lock.
    waiting: AtomicUsize,
}

impl Addressed {
    pub(crate) fn new(processors: u32) -> Self {
        let queues = (0..processors).map(|_| Mutex::new(VecDeque::new())).collect();
        Self { queues, waiting: AtomicUsize::new(0) }
    }

    /// Submit 1.
    pub(crate) fn push(&self, p: ProcessorId, closure: Runnable) {
        let mut queue = self.queues[p as usize].lock();
        queue.push_back(closure);
        // SeqCst, as the load: the lock of the processors orders the two, and a broadcast is dear anyway.
        self.waiting.fetch_add(1, SeqCst);
    }

    /// Take.
    pub(crate) fn pop(&self, p: ProcessorId) -> Option<Runnable> {
        if self.is_empty() {
            return None;
        }
        let closure = self.queues[p as usize].lock().pop_front()?;
        self.waiting.fetch_sub(1, SeqCst);
        Some(closure)
    }

    /// Takes any, for a shutdown.
    pub(crate) fn pop_any(&self) -> Option<Runnable> {
        (0..self.queues.len() as u32).find_map(|p| self.pop(p))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    /// The processors that something is addressed to.
    pub(crate) fn processors(&self) -> impl Iterator<Item = ProcessorId> + '_ {
        (0..self.queues.len() as u32).filter(|&p| !self.queues[p as usize].lock().is_empty())
    }
}
