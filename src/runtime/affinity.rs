//! Where the threads of a runtime may run, by the kernel's account.

use super::{Handle, Runtime};
use crate::local::Role;
use crate::os::ThreadClock;
use crate::topology::CpuSet;

/// Where a thread of the scheduler may run; from [`Handle::affinities`].
///
/// ```
/// let runtime = beat::Runtime::builder().worker_threads(1).build()?;
/// for thread in runtime.affinities() {
///     println!("worker {:?}: CPUs {}", thread.worker, thread.cpus);
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThreadAffinity {
    /// The worker whose place the thread has now; `None` while it sleeps or waits. If workers are pinned, a thread is bound
    /// to the CPUs of a place before it begins work there, and stays so until it begins some in another place, or is let go for
    /// a while ([`Pinning`](crate::Pinning)).
    pub worker: Option<usize>,
    /// The CPUs that it may run on, as the kernel has just said.
    pub cpus: CpuSet,
}

impl Handle {
    /// Where each thread that runs user code as a worker may run: asked of the kernel, thread by thread, at each call.
    ///
    /// There are at least as many such threads as workers; those that took over for one that waits are among them. The
    /// duty thread, which is bound to nothing, and the blocking pool are not. Empty on systems other than Linux.
    ///
    /// ```
    /// use beat::Pinning;
    ///
    /// let runtime = beat::Runtime::builder().worker_threads(1).pinning(Pinning::Cores).build()?;
    /// let placement = beat::topology().place(&Pinning::Cores, 1)?;
    /// let inside = runtime.install(|| beat::Handle::current().affinities());
    /// let on_worker_0 = inside.iter().find(|thread| thread.worker == Some(0)).unwrap();
    /// assert_eq!(on_worker_0.cpus, placement.cpus()[0]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn affinities(&self) -> Vec<ThreadAffinity> {
        let threads = self.shared.threads.all();
        let workers = threads.iter().filter(|thread| thread.role() == Role::Worker);
        let affinity = workers.filter_map(|thread| {
            let mask = thread.clock().and_then(ThreadClock::affinity)?;
            let worker = thread.seat.processor().map(|p| p as usize);
            Some(ThreadAffinity { worker, cpus: mask.cpus().into_iter().collect() })
        });
        affinity.collect()
    }
}

impl Runtime {
    /// Where each thread that runs user code as a worker may run; see [`Handle::affinities`].
    ///
    /// ```
    /// let runtime = beat::Runtime::builder().worker_threads(1).build()?;
    /// assert!(runtime.affinities().iter().all(|thread| !thread.cpus.is_empty()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn affinities(&self) -> Vec<ThreadAffinity> {
        self.handle().affinities()
    }
}
