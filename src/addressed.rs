//! Closures addressed to one processor each: parts of a broadcast, which runs once on every one.
//!
//! *Submit*: 1. push into the processor's queue; 2. if the processor is idle, send a thread to it
//! ([`Processors::wake_on`]). *Take*: a thread at its loop looks into the queue of the processor that it holds.
//! *Release*: whoever has let a processor become idle looks whether something is addressed to one that is, and does
//! Submit 2 for it.
//!
//! **None is forgotten.** Processors become idle under the lock that Submit 2 looks under. Either it comes later and
//! sends somebody; or it comes before, then Submit 1 did as well, and Release sees it. A processor that is not idle
//! has a holder, who comes to its loop or lets it become idle. In the place of one that is withheld (*Withholding* in
//! [`processors`](crate::processors)) an idle one is, or, if none is, the first whose holder comes to its loop.

use std::collections::VecDeque;

use crate::processors::{ProcessorId, Processors, Wake};
use crate::sync::Mutex;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Addressed<T> {
    queues: Box<[Mutex<VecDeque<T>>]>,
    /// How many lie in all queues. Relaxed: a hint that saves the locks, which order what they guard; in Release the
    /// lock of the processors orders it too.
    waiting: AtomicUsize,
}

impl<T> Addressed<T> {
    pub(crate) fn new(processors: u32) -> Self {
        let queues = (0..processors).map(|_| Mutex::new(VecDeque::new())).collect();
        Self { queues, waiting: AtomicUsize::new(0) }
    }

    /// Submit. The wake is to be carried out.
    pub(crate) fn submit(&self, p: ProcessorId, closure: T, processors: &Processors) -> Option<Wake> {
        let mut queue = self.queues[p as usize].lock();
        queue.push_back(closure);
        self.waiting.fetch_add(1, Relaxed);
        drop(queue);
        processors.wake_on(p)
    }

    /// Take.
    pub(crate) fn pop(&self, p: ProcessorId) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let closure = self.queues[p as usize].lock().pop_front()?;
        self.waiting.fetch_sub(1, Relaxed);
        Some(closure)
    }

    /// Whether something is addressed to `p`.
    pub(crate) fn waits_for(&self, p: ProcessorId) -> bool {
        !self.queues[p as usize].lock().is_empty()
    }

    /// Release. The wakes are to be carried out.
    pub(crate) fn released(&self, processors: &Processors) -> impl Iterator<Item = Wake> {
        let all = if self.is_empty() { 0..0 } else { 0..self.queues.len() as ProcessorId };
        let addressed = all.filter(|&p| self.waits_for(p));
        addressed.filter_map(|p| processors.wake_on(p))
    }

    /// Takes any, for a shutdown.
    pub(crate) fn pop_any(&self) -> Option<T> {
        (0..self.queues.len() as ProcessorId).find_map(|p| self.pop(p))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(Relaxed) == 0
    }
}
