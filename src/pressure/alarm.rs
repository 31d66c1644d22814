//! How the sampler sleeps: until its time is up, somebody rings, or the kernel says that tasks stall.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// A file that becomes ready when tasks stall.
pub(crate) type Trigger = OwnedFd;

/// See the [module](self). A ring that comes before the sleep ends it at once.
#[derive(Debug)]
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    /// # Errors
    ///
    /// The system refuses a descriptor.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Ends the sleep, this one or the next.
    pub(crate) fn ring(&self) {
        // It fails only if it would overflow, and then it rings anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// `limit` of `None` sleeps until the ring. `trigger` is given up if it has come to its end.
    pub(crate) fn sleep(&self, limit: Option<Duration>, trigger: &mut Option<Trigger>) {
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut files = vec![PollFd::new(&self.0, PollFlags::IN)];
        if let Some(trigger) = trigger {
            files.push(PollFd::new(trigger, PollFlags::PRI));
        }
        // Interrupted or not: who sleeps looks again.
        let _ = poll(&mut files, limit.as_ref());
        let over =
            files.get(1).is_some_and(|file| file.revents().intersects(PollFlags::ERR | PollFlags::NVAL));
        drop(files);
        if over {
            *trigger = None;
        }
        let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
    }
}
