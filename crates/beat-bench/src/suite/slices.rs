//! What anybody can ask of the kernel for a thread, without privilege: a scheduling slice, a lower share, or the
//! idle policy. With these the peers are given their best form.

use std::io;
use std::mem;

/// How a thread is to be scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheduling {
    /// As everybody, with a slice of so many microseconds (kernels from 6.12), and so nice.
    Slice { us: u64, nice: i32 },
    /// Only when nobody else wants to run: `SCHED_IDLE`.
    Idle,
}

impl Scheduling {
    /// For the calling thread.
    pub(crate) fn apply(self) -> io::Result<()> {
        let size = mem::size_of::<libc::sched_attr>() as u32;
        let (policy, nice, runtime) = match self {
            Self::Slice { us, nice } => (libc::SCHED_OTHER, nice, us * 1_000),
            Self::Idle => (libc::SCHED_IDLE, 0, 0),
        };
        let attributes = libc::sched_attr {
            size,
            sched_policy: policy as u32,
            sched_flags: 0,
            sched_nice: nice,
            sched_priority: 0,
            sched_runtime: runtime,
            sched_deadline: 0,
            sched_period: 0,
        };
        // SAFETY: 0 names the calling thread, and the kernel reads `size` bytes, which is the struct's size.
        let refused = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
        if refused == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// Whether the kernel keeps a slice that it was given.
pub(crate) fn are_known() -> bool {
    let probe = || {
        let wanted = Scheduling::Slice { us: 300, nice: 0 };
        wanted.apply().is_ok_and(|()| current_slice().is_ok_and(|slice| slice == 300_000))
    };
    // A thread of its own, since it keeps the slice.
    std::thread::spawn(probe).join().unwrap_or(false)
}

/// The calling thread's, in nanoseconds.
fn current_slice() -> io::Result<u64> {
    let size = mem::size_of::<libc::sched_attr>();
    let mut attributes = mem::MaybeUninit::<libc::sched_attr>::zeroed();
    // SAFETY: 0 names the calling thread, and the kernel writes `size` bytes at most, which is the struct's size.
    let refused = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, attributes.as_mut_ptr(), size, 0) };
    if refused != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroes are a value of it, and so is what the kernel has written.
    Ok(unsafe { attributes.assume_init() }.sched_runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_make_itself_idle() {
        std::thread::spawn(|| Scheduling::Idle.apply().unwrap()).join().unwrap();
        // Either answer is right; it must not fail.
        are_known();
    }
}
