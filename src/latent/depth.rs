//! How deep in forks something was begun (feature `tracing`; what for is said in [`carried`](crate::carried)).

use std::ptr;

use super::{LatentJobs, Owner};
use crate::ticket::JobHeader;

/// How deep in forks a thread was: its newest latent job then, or the head of the list if there was none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    list: *const LatentJobs,
    newest: *const JobHeader,
}

impl Depth {
    /// That of a thread without a list.
    pub(crate) const OUTSIDE: Self = Self { list: ptr::null(), newest: ptr::null() };
}

/// How many jobs a [`Descent`] passes. A list may be as long as a recursion is deep.
const LONGEST: u32 = 1_000;

impl<'a> Owner<'a> {
    pub(crate) fn depth(self) -> Depth {
        Depth { list: self.jobs, newest: self.jobs.top.get() }
    }

    /// Whether the newest job of `depth` is latent still.
    ///
    /// # Safety
    ///
    /// That job's join has not returned.
    pub(crate) unsafe fn is_latent_at(self, depth: Depth) -> bool {
        if !ptr::eq(depth.list, self.jobs) || self.is_head(depth.newest) {
            return false;
        }
        // SAFETY: a job lives as long as its join, which has not returned, says the caller.
        let job = unsafe { &*depth.newest };
        // Null since its promotion.
        !job.prev.get().is_null()
    }

    /// A look at the latent jobs, from the newest one down.
    pub(crate) fn descend(self) -> Descent<'a> {
        Descent { owner: self, at: self.jobs.top.get(), left: LONGEST }
    }

    fn is_head(self, job: *const JobHeader) -> bool {
        ptr::eq(job, &raw const self.jobs.head)
    }
}

/// See [`Owner::descend`]. The list does not change meanwhile.
pub(crate) struct Descent<'a> {
    owner: Owner<'a>,
    at: *const JobHeader,
    left: u32,
}

impl Descent<'_> {
    /// Whether the newest job of `depth` is latent still. Asked for newer depths before older ones. In a very long list
    /// the answer may be yes where it is not so.
    pub(crate) fn finds(&mut self, depth: Depth) -> bool {
        if !ptr::eq(depth.list, self.owner.jobs) || self.owner.is_head(depth.newest) {
            return false;
        }
        while !self.owner.is_head(self.at) {
            if ptr::eq(self.at, depth.newest) || self.left == 0 {
                return true;
            }
            self.left -= 1;
            // SAFETY: latent jobs are alive.
            self.at = unsafe { &*self.at }.prev.get();
        }
        false
    }
}
