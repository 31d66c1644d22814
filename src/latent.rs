//! The latent jobs of one thread: halves of joins that nobody has asked for yet.
//!
//! A list through the jobs themselves, which lie on the thread's stack, newest last. Joins nest, so the owner
//! pushes and pops at the newer end; a beat takes the oldest. One word besides, the countdown, decides when the
//! owner looks at the clock (see [`heartbeat`](crate::heartbeat)); it lies here so that a fork touches one
//! address. The list is linked and not an array: an array ends at deep recursion.
//!
//! ```text
//!   head ⇄ oldest ⇄ … ⇄ newest ◀── top          empty: top = head
//! ```
//!
//! | field | written by | read by |
//! |---|---|---|
//! | `countdown` | owner (load, store); anyone stores [`ASKED`] | owner |
//! | all others | owner | owner |
//!
//! The owner's side is a type of its own, [`Owner`], which cannot leave its thread; all others can only
//! [`ask`](LatentJobs::ask).

#[cfg(feature = "tracing")]
mod depth;

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering::Relaxed;

use crate::heartbeat::{ASKED, FIRST};
use crate::local::Local;
use crate::ticket::JobHeader;
#[cfg(feature = "tracing")]
pub(crate) use depth::Depth;

/// See the [module](self).
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct LatentJobs {
    /// The newest job, or `head`.
    top: Cell<*const JobHeader>,
    countdown: AtomicI32,
    /// `head.next` is the oldest job if `top` is not `head`.
    head: JobHeader,
    /// The thread's state: null before the first [`Owner`].
    local: Cell<*const Local>,
}

// SAFETY: other threads reach `countdown` only, by `ask`. All else is reached through an `Owner`, which is made on
// the owner's thread and is neither `Send` nor `Sync`.
unsafe impl Sync for LatentJobs {}
// SAFETY: it is moved to its place before there is an owner, and the pointers are the owner's.
unsafe impl Send for LatentJobs {}

unsafe fn never_run(_: *const JobHeader) {
    unreachable!("the head of the latent list is no job");
}

impl LatentJobs {
    pub(crate) fn new() -> Self {
        Self {
            top: Cell::new(ptr::null()),
            countdown: AtomicI32::new(FIRST),
            head: JobHeader::new(never_run),
            local: Cell::new(ptr::null()),
        }
    }

    /// Asks the owner to be heard at its next fork.
    pub(crate) fn ask(&self) {
        // Relaxed: a request, and one that the owner may overwrite; who needs an answer asks again.
        self.countdown.store(ASKED, Relaxed);
    }

    /// The list is where it stays, and belongs to the calling thread, whose state is `local`.
    ///
    /// # Safety
    ///
    /// Called once, before any other thread or [`Owner`] sees the list, which does not move any more.
    pub(crate) unsafe fn settle(&self, local: *const Local) {
        self.top.set(&raw const self.head);
        self.local.set(local);
    }

    /// The owner's side.
    ///
    /// # Safety
    ///
    /// The calling thread has settled the list, and its state outlives the result.
    #[inline]
    pub(crate) unsafe fn owner(&self) -> Owner<'_> {
        Owner { jobs: self, not_send: PhantomData }
    }
}

/// The owner's side of its latent jobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    jobs: &'a LatentJobs,
    not_send: PhantomData<*const ()>,
}

impl<'a> Owner<'a> {
    /// The thread's state.
    pub(crate) fn local(self) -> &'a Local {
        // SAFETY: settled, and alive as long as this, says `owner`.
        unsafe { &*self.jobs.local.get() }
    }

    /// Makes `job` latent: the newest of this thread. `true` if the thread is due to be heard.
    ///
    /// # Safety
    ///
    /// `job` stays put until it is popped, or promoted and then reclaimed or done.
    #[inline]
    pub(crate) unsafe fn push(self, job: *const JobHeader) -> bool {
        let top = self.jobs.top.get();
        // SAFETY: `job` is alive, says the caller.
        let header = unsafe { &*job };
        header.prev.set(top);
        // SAFETY: `top` is `head` or a latent job, which is alive until it is popped.
        let below = unsafe { &*top };
        below.set_next(job);
        self.jobs.top.set(job);
        self.is_due()
    }

    /// Counts a fork that leaves nothing on the list: any more, or ever. `true` if the countdown is over.
    #[inline]
    pub(crate) fn count_fork(self) -> bool {
        // Relaxed load and store, not a read-modify-write: see `ask`.
        let left = self.jobs.countdown.load(Relaxed).wrapping_sub(1);
        self.jobs.countdown.store(left, Relaxed);
        left < 0
    }

    /// Takes `job` out if it is still latent, in which case it is the newest; `false` if it was promoted.
    #[inline]
    pub(crate) fn pop(self, job: &JobHeader) -> bool {
        // All jobs pushed after it are gone (joins nest), and all promoted before it are older: so it is either
        // on top, or promoted.
        let latent = ptr::eq(self.jobs.top.get(), job);
        if latent {
            self.jobs.top.set(job.prev.get());
        }
        latent
    }

    /// Whether somebody has asked, or the countdown is over.
    #[inline]
    fn is_due(self) -> bool {
        // Relaxed: see `ask`.
        self.jobs.countdown.load(Relaxed) < 0
    }

    /// Whether somebody has asked: about one below zero is where a countdown ends by itself.
    pub(crate) fn is_asked(self) -> bool {
        self.jobs.countdown.load(Relaxed) < ASKED / 2
    }

    pub(crate) fn set_countdown(self, forks: i32) {
        self.jobs.countdown.store(forks, Relaxed);
    }

    pub(crate) fn is_empty(self) -> bool {
        ptr::eq(self.jobs.top.get(), &raw const self.jobs.head)
    }

    /// Takes the oldest job out of the list. A raw pointer, for it leads to the whole job and not to the header
    /// alone; alive until the job is reclaimed or done, which is up to this thread.
    pub(crate) fn take_oldest(self) -> Option<*const JobHeader> {
        if self.is_empty() {
            return None;
        }
        let head = &raw const self.jobs.head;
        // SAFETY: the list is not empty, so `head` has a next.
        let oldest = unsafe { self.jobs.head.next() };
        if ptr::eq(self.jobs.top.get(), oldest) {
            self.jobs.top.set(head);
        } else {
            // SAFETY: latent jobs are alive.
            let header = unsafe { &*oldest };
            // SAFETY: it is not the newest, so it has a next, which is latent too.
            let next = unsafe { header.next() };
            // SAFETY: latent, hence alive.
            unsafe { &*next }.prev.set(head);
            self.jobs.head.set_next(next);
        }
        #[cfg(feature = "tracing")]
        {
            // SAFETY: it is promoted now, and hence alive.
            let promoted = unsafe { &*oldest };
            promoted.prev.set(ptr::null());
        }
        Some(oldest)
    }
}
