//! What the machine itself takes from everybody: the floor under the other figures.
//!
//! A thread above all others in priority sleeps until a deadline, each millisecond, and records
//! how late it woke. Nothing in this system can delay it but interrupts, the hypervisor and the
//! kernel's own work, so no light request can be expected to be prompter.

use std::io;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::super::priority::{self, Priority};
use super::light::histogram;

/// The time between two deadlines.
const PERIOD: Duration = Duration::from_millis(1);
/// Among real-time threads: above the generator.
const LEVEL: i32 = 20;

/// The probing thread. It ends soon after this is dropped.
#[derive(Debug)]
pub(crate) struct Floor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    /// In nanoseconds; and what the kernel granted to the thread.
    seen: Mutex<(Histogram<u64>, Priority)>,
}

impl Floor {
    pub(crate) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            seen: Mutex::new((histogram(), Priority::Ordinary)),
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("floor".into()).spawn(move || theirs.probe())?;
        Ok(Self { shared })
    }

    /// How late the thread has woken since this was last asked, in nanoseconds.
    pub(crate) fn take(&self) -> (Histogram<u64>, Priority) {
        let mut seen = self.shared.lock();
        let (lateness, priority) = &mut *seen;
        (mem::replace(lateness, histogram()), *priority)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (Histogram<u64>, Priority)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn probe(&self) {
        self.lock().1 = priority::raise(LEVEL);
        let mut deadline = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            deadline += PERIOD;
            thread::sleep(deadline.saturating_duration_since(Instant::now()));
            let late = deadline.elapsed();
            self.lock().0.saturating_record(late.as_nanos() as u64);
        }
    }
}
