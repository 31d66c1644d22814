//! The CPU time of another process, in nanoseconds, and of the whole machine.
//!
//! A process's CPU clock counts all its threads, also those that have ended. The kernel adds a
//! running thread's time at its ticks and whenever it stops running: so the clock may lag behind
//! a process that computes, and is exact for one that has stopped.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

/// A process's CPU clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuClock(libc::clockid_t);

impl CpuClock {
    /// This process's; it is exact, for the kernel brings a thread's own time up to date when asked.
    pub(crate) fn own() -> Self {
        Self(libc::CLOCK_PROCESS_CPUTIME_ID)
    }

    /// The calling thread's.
    pub(crate) fn of_this_thread() -> Self {
        Self(libc::CLOCK_THREAD_CPUTIME_ID)
    }

    /// As [`read`](Self::read), of a clock that is always there.
    pub(crate) fn elapsed(self) -> Duration {
        self.read().expect("a process can read its own clocks")
    }

    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let mut clock = 0;
        let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
        // SAFETY: `clock` is a valid place for the result.
        match unsafe { libc::clock_getcpuclockid(pid, &mut clock) } {
            0 => Ok(Self(clock)),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    pub(crate) fn read(self) -> io::Result<Duration> {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: `time` is a valid place for the result.
        if unsafe { libc::clock_gettime(self.0, time.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so it has written `time`.
        let time = unsafe { time.assume_init() };
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}

/// The time that all cores together have been busy or stolen since the machine started, to a
/// clock tick.
pub(crate) fn machine_busy() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let ticks = busy_ticks(&stat).ok_or_else(|| io::Error::other("/proc/stat is not as known"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The sum of all states in the first line but the idle ones and the guests' (which are in
/// user time already).
fn busy_ticks(stat: &str) -> Option<u64> {
    let states = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let states: Vec<u64> = states.map(|ticks| ticks.parse().ok()).collect::<Option<_>>()?;
    let [user, nice, system, _idle, _iowait, irq, softirq, steal] = *states.first_chunk()?;
    Some(user + nice + system + irq + softirq + steal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_computing_process_uses_cpu_time() {
        let clock = CpuClock::of(std::process::id()).unwrap();
        let before = clock.read().unwrap();
        let began = Instant::now();
        while clock.read().unwrap() < before + Duration::from_millis(20) {
            assert!(began.elapsed() < Duration::from_secs(60));
        }
    }

    #[test]
    fn idle_time_and_guests_are_not_busy() {
        let stat = "cpu  1 2 4 1000 1000 8 16 32 1000 1000\ncpu0 1\n";
        assert_eq!(busy_ticks(stat), Some(63));
        assert_eq!(busy_ticks("cpu  1 2\n"), None);
        assert!(machine_busy().unwrap() > Duration::ZERO);
    }
}
