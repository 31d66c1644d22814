//! What the scheduler has done so far: counters that cost a plain add, summed when asked for.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::topology::Ring;

/// A counter that only one thread writes.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        // One writer: load and store suffice. Relaxed: a count orders nothing.
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    /// For counters with many writers.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters of one thread, or of all threads that are gone.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Counter,)*
        }

        impl Counters {
            /// Adds another set of counters to this one.
            pub(crate) fn absorb(&self, other: &Self) {
                $(self.$name.add_shared(other.$name.get());)*
            }
        }

        impl Metrics {
            pub(crate) fn add_counters(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.get();)*
            }
        }

        /// A snapshot of what a runtime has done since it started, and of what it has to do.
        ///
        /// The counts of different threads are read one after the other: they need not add up to the last one.
        ///
        /// ```
        /// let runtime = beat::Runtime::builder().worker_threads(2).build()?;
        /// runtime.spawn(async {}).join()?;
        /// let metrics = runtime.metrics();
        /// assert_eq!((metrics.workers, metrics.spawned), (2, 1));
        /// assert!(metrics.polls >= 1);
        /// # Ok::<(), std::io::Error>(())
        /// ```
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Metrics {
            /// Processors: how many threads may start new work at a time, at most.
            pub workers: usize,
            /// Processors that are not withheld: fewer than [`workers`](Self::workers) while the process is given less CPU
            /// than these could use ([`Builder::follow_cpu_limits`](crate::Builder::follow_cpu_limits)). One that is to be
            /// withheld counts until its thread has ended what it runs.
            pub active_workers: usize,
            /// Whether the threads are kept to as few CPUs as the process's CPU quota pays for, since the kernel has stopped
            /// it ([`Builder::follow_cpu_limits`](crate::Builder::follow_cpu_limits)).
            pub gathered: bool,
            /// Active processors nobody runs on now.
            pub idle_workers: usize,
            /// Threads of pinned workers that may run on any CPU for now, since others have kept them waiting for their
            /// own ([`Pinning`](crate::Pinning)).
            pub unpinned_threads: usize,
            /// Threads of the scheduler, waiting ones and the duty thread included; without the blocking pool.
            pub threads: usize,
            /// Threads of the pool for blocking closures.
            pub blocking_threads: usize,
            /// Tasks and closures that have been spawned and have not ended.
            pub tasks_alive: usize,
            /// Tasks that are ready and wait for their turn.
            pub tasks_queued: usize,
            /// CPU-bound closures that wait for a worker.
            pub closures_queued: usize,
            /// Blocking closures that wait for a thread.
            pub blocking_queued: usize,
            /// Halves of joins that are on offer.
            pub tickets_queued: usize,
            /// Scopes with jobs that others may take.
            pub scopes_queued: usize,
            /// Tasks that were given to `tokio::spawn`, by third-party code say, and have not ended. They run on the
            /// one thread that drives tokio.
            pub foreign_tasks: usize,
            /// Tasks that have been given to `tokio::spawn`: at least so many. One that came and went
            /// between two of the driver's looks for events is not seen.
            pub foreign_spawned: u64,
            /// Times such tasks kept the thread that drives tokio for longer than a heartbeat in one go: by a long
            /// poll, or by many short ones in a row. All timers and sockets waited.
            pub foreign_long_polls: u64,
            /// Periods (of 100 ms, as a rule) in which the kernel stopped threads of the process's own control group, since
            /// the group had spent its CPU quota: as the kernel counts them, from when the group was made and whoever was
            /// in it. 0 where there is no such group. Limits of groups above it are counted there, and not here.
            pub throttled_periods: u64,
            /// How long it stopped them then, in all: summed over CPUs. Resolution: 1 µs.
            pub throttled_time: Duration,
            $($(#[$doc])* pub $name: u64,)*
        }
    };
}

counters! {
    /// Tasks and closures spawned.
    spawned,
    /// Tasks and closures that have ended.
    finished,
    /// Polls of futures.
    polls,
    /// CPU-bound closures begun.
    closures,
    /// Times a thread went to sleep.
    parks,
    /// Turns of the driver taken without blocking.
    driver_turns,
    /// Tasks taken from another thread.
    tasks_stolen,
    /// Halves of joins and jobs of scopes taken from another thread.
    steals,
    /// Times halves of joins or tasks were taken from a thread on the same physical core; see [`Metrics::steals_from`].
    steals_smt,
    /// Likewise around the same level 2 cache.
    steals_l2,
    /// Likewise around the same level 3 cache.
    steals_l3,
    /// Likewise of the same NUMA node, without a common cache, or in a place that is not known.
    steals_node,
    /// Likewise in the same package, of another NUMA node.
    steals_package,
    /// Likewise in another package.
    steals_remote,
    /// Halves of joins put on offer.
    promotions,
    /// Processors given up by a waiting thread, or taken from a sleeping one.
    hand_overs,
    /// Times the duty thread woke to serve events and tasks beside computing workers.
    duty_wakeups,
    /// Times a long poll was found by a beat or by the watchdog, and others took over the driver.
    long_polls,
    /// Times a pinned worker was let go from its CPU, since others kept it waiting.
    unpins,
    /// Ticks of the watchdog.
    watchdog_ticks,
}

impl Counters {
    /// Times something was stolen in a ring.
    pub(crate) fn steals_in(&self, ring: Ring) -> &Counter {
        match ring {
            Ring::Smt => &self.steals_smt,
            Ring::L2 => &self.steals_l2,
            Ring::L3 => &self.steals_l3,
            Ring::Node => &self.steals_node,
            Ring::Package => &self.steals_package,
            Ring::Remote => &self.steals_remote,
        }
    }
}

impl Metrics {
    /// Times halves of joins or tasks were taken from a thread so near: of the processor that it held, or held last. What
    /// comes along counts once; jobs of scopes, which are offered to all, are not in it.
    ///
    /// Distances are known where workers are bound to CPUs ([`Builder::pinning`](crate::Builder::pinning)). Elsewhere, and of
    /// foreign threads that fork, [`Ring::Node`] is what all are in.
    ///
    /// ```
    /// use beat::topology::Ring;
    ///
    /// let runtime = beat::Runtime::builder().worker_threads(2).build()?;
    /// let metrics = runtime.metrics();
    /// assert_eq!(metrics.steals_from(Ring::Remote), metrics.steals_remote);
    /// let near = metrics.steals_smt + metrics.steals_l2 + metrics.steals_l3 + metrics.steals_node + metrics.steals_package;
    /// println!("{near} near, {} far", metrics.steals_remote);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn steals_from(&self, ring: Ring) -> u64 {
        match ring {
            Ring::Smt => self.steals_smt,
            Ring::L2 => self.steals_l2,
            Ring::L3 => self.steals_l3,
            Ring::Node => self.steals_node,
            Ring::Package => self.steals_package,
            Ring::Remote => self.steals_remote,
        }
    }
}
