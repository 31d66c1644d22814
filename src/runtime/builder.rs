//! How a runtime is configured, and what of it can be wrong.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::pool::Starting;
use super::{Handle, PoolSettings, Runtime};
use crate::allotment;
use crate::distances::Distances;
use crate::driver::plain::PlainDriver;
use crate::driver::{Driver, DriverKind, DriverSlot};
use crate::gathering::Gathered;
use crate::lifecycle;
use crate::os::{self, Affinity};
use crate::pressure::PressureConfig;
use crate::scheduler::{Config, Hooks, Shared, ThreadName};
use crate::topology::{self, CpuSet, Pinning, Topology};

/// The most workers a runtime may have: what the census has room for.
const MOST_WORKERS: usize = 4096;
pub(super) const WORKERS_VARIABLE: &str = "BEAT_WORKERS";
const HEARTBEAT: Duration = Duration::from_micros(100);
pub(super) const POLL_BUDGET: Duration = Duration::from_micros(500);
/// How long an idle thread for blocking closures waits for the next one.
pub(super) const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// How many threads for blocking closures there are at most. Source: tokio's default.
const MOST_BLOCKING_THREADS: usize = 512;

/// Configures a [`Runtime`]; from [`Runtime::builder`].
///
/// ```
/// let runtime = beat::Runtime::builder()
///     .worker_threads(2)
///     .thread_name("search")
///     .build()?;
/// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    pub(super) workers: Option<usize>,
    follows_limits: Option<bool>,
    pub(super) thread_name: ThreadName,
    pub(super) stack_size: Option<usize>,
    pub(super) heartbeat: Duration,
    pub(super) poll_budget: Duration,
    pub(super) long_poll_warning: Option<Duration>,
    pub(super) pinning: Option<Pinning>,
    /// Another machine than this one.
    pub(super) topology: Option<Topology>,
    /// Pinned if that is possible, whether the runtime is the global one or not.
    pub(super) pins_if_possible: bool,
    pub(super) slices: bool,
    pub(super) max_blocking_threads: usize,
    pub(super) keep_alive: Option<Duration>,
    pub(super) driver: DriverKind,
    pub(super) start_paused: bool,
    pub(super) hooks: Hooks,
    /// Whether `build` says what was chosen.
    pub(super) explains_itself: bool,
    pub(super) warnings: Option<bool>,
    global: bool,
    pool: PoolSettings,
    pressure: PressureConfig,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            workers: None,
            follows_limits: None,
            thread_name: ThreadName::Prefix("beat".into()),
            stack_size: None,
            heartbeat: HEARTBEAT,
            poll_budget: POLL_BUDGET,
            long_poll_warning: None,
            pinning: None,
            topology: None,
            pins_if_possible: false,
            slices: true,
            max_blocking_threads: MOST_BLOCKING_THREADS,
            keep_alive: None,
            driver: DriverKind::default(),
            start_paused: false,
            hooks: Hooks::default(),
            explains_itself: false,
            warnings: None,
            global: false,
            pool: PoolSettings::default(),
            pressure: PressureConfig::new(),
        }
    }

    /// How many workers: threads that may start new work at a time. By default the environment variable
    /// `BEAT_WORKERS`, else as many as the process has CPUs, its affinity mask and cgroup quota (rounded up) included; no
    /// more than there are physical cores or CPUs listed, if [`pinning`](Self::pinning) is by them.
    pub fn worker_threads(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Whether fewer workers are active while the process is given fewer CPUs than there are workers: the CPU quota of
    /// its control groups (version 1 or 2, the tightest on the way up, rounded up to whole CPUs), its set of CPUs, or the
    /// affinity mask of its threads has changed. By default they follow unless the number of workers is set, by
    /// [`worker_threads`](Self::worker_threads) or the environment variable `BEAT_WORKERS`.
    ///
    /// A busy runtime follows within 2 s, an idle one when it gets work. There are never more active workers than the
    /// runtime was built with: to use a quota that may grow, set `worker_threads` to the most that there will be, and turn
    /// this on. A thread too many ends what it runs first; what it has queued is run by others.
    /// [`active_workers`] and [`throttled_periods`] of the metrics tell what has come of it. Where workers are
    /// pinned, their masks are the runtime's own, and only the quota and the set of CPUs are followed. On systems other
    /// than Linux there is nothing to follow.
    ///
    /// Where the quota is a whole number of CPUs and the kernel stops the process for having spent it, the runtime's threads
    /// *gather*: they bind themselves to as many CPUs, where they cannot spend more, for as long as they use it
    /// ([`gathered`] in the metrics). Threads that user code starts meanwhile inherit that mask, as from pinned workers; those
    /// of the blocking pool do not. A thread whose mask the user changes keeps it.
    ///
    /// [`gathered`]: crate::Metrics::gathered
    /// [`active_workers`]: crate::Metrics::active_workers
    /// [`throttled_periods`]: crate::Metrics::throttled_periods
    ///
    /// ```
    /// let runtime = beat::Runtime::builder().worker_threads(4).follow_cpu_limits(true).build()?;
    /// let metrics = runtime.metrics();
    /// assert!((1..=4).contains(&metrics.active_workers));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn follow_cpu_limits(mut self, follow: bool) -> Self {
        self.follows_limits = Some(follow);
        self
    }

    /// How the names of threads begin. Default: `beat`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = ThreadName::Prefix(name.into());
        self
    }

    /// What each thread that runs user code is called: `name` is asked at each start of one.
    ///
    /// It is called on the thread that starts another, outside all locks of Beat's. If it panics, the thread goes
    /// without a name of its own; what follows a zero byte is left out.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    ///
    /// let next = AtomicUsize::new(0);
    /// let runtime = beat::Runtime::builder()
    ///     .worker_threads(1)
    ///     .thread_name_fn(move || format!("search-{}", next.fetch_add(1, Relaxed)))
    ///     .build()?;
    /// let name = runtime.spawn(async { std::thread::current().name().map(String::from) });
    /// assert_eq!(runtime.block_on(name).unwrap().as_deref(), Some("search-0"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn thread_name_fn(mut self, name: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.thread_name = ThreadName::Asked(Arc::new(name));
        self
    }

    /// The stack size of threads, in bytes. Default: that of `std::thread`.
    ///
    /// ```
    /// let runtime = beat::Runtime::builder().thread_stack_size(4 << 20).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn thread_stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// The heartbeat: how often at most a thread that forks puts work on offer unasked, and lets ready futures
    /// have the core. Default: 100 µs.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = beat::Runtime::builder().heartbeat(Duration::from_micros(50)).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn heartbeat(mut self, period: Duration) -> Self {
        self.heartbeat = period;
        self
    }

    /// How long one poll of a task may last before awaiting a [`JoinHandle`](crate::JoinHandle), or
    /// [`consume_budget`](crate::task::consume_budget), yields even if there is nothing to wait for. It counts
    /// from the sixteenth such operation on. Zero: at every sixteenth. Default: 500 µs. tokio's own budget,
    /// 128 operations a poll, applies besides.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = beat::Runtime::builder().poll_budget(Duration::from_micros(200)).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn poll_budget(mut self, limit: Duration) -> Self {
        self.poll_budget = limit;
        self
    }

    /// Says on the standard error when a poll of a task has lasted longer than `limit`, with the place where the task
    /// was spawned: once for each place. Default: never; [`Builder::development`] turns it on.
    ///
    /// A poll is looked at when it has ended. While it lasts, others take over: see [`long_polls`] of the metrics.
    ///
    /// [`long_polls`]: crate::Metrics::long_polls
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = beat::Runtime::builder().long_poll_warning(Duration::from_millis(10)).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn long_poll_warning(mut self, limit: Duration) -> Self {
        self.long_poll_warning = Some(limit);
        self
    }

    /// Whether threads ask the kernel for scheduling slices: a short one while they serve futures, so that those
    /// preempt closures. Linux 6.12 and later know them; elsewhere this changes nothing. Default: yes.
    ///
    /// ```
    /// let runtime = beat::Runtime::builder().scheduling_slices(false).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn scheduling_slices(mut self, slices: bool) -> Self {
        self.slices = slices;
        self
    }

    /// How many threads for blocking closures there are at most, and how many the driver may make beside them for
    /// blocking calls of its own (tokio's `fs`, say). Default: 512 each.
    ///
    /// Closures beyond that wait for a thread.
    ///
    /// ```
    /// let runtime = beat::Runtime::builder().max_blocking_threads(16).build()?;
    /// assert_eq!(runtime.spawn_blocking(|| 6 * 7).join()?, 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn max_blocking_threads(mut self, threads: usize) -> Self {
        self.max_blocking_threads = threads;
        self
    }

    /// How long an idle thread for blocking closures waits for the next one before it ends. Default: 500 ms, and 10 s
    /// for the driver's own.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let runtime = beat::Runtime::builder().thread_keep_alive(Duration::from_secs(5)).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn thread_keep_alive(mut self, time: Duration) -> Self {
        self.keep_alive = Some(time);
        self
    }

    /// Whether and how workers are bound to CPUs. By default only those of the global runtime are, each to a CPU, where
    /// the system supports it and there are as many workers as CPUs. [`affinities`](Handle::affinities) tells where they
    /// are.
    ///
    /// ```
    /// use beat::Pinning;
    ///
    /// let builder = beat::Runtime::builder().worker_threads(1).pinning(Pinning::Cores);
    /// let runtime = builder.build()?; // an error where the system cannot
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = Some(pinning);
        self
    }

    /// Steals and wakes as if the workers sat on this machine, which need not be the one that the program runs on: for tests,
    /// and to see what a larger machine would make of a program. By [`pinning`](Self::pinning) they have places on it (by
    /// default each a CPU), and are bound to nothing.
    ///
    /// ```
    /// use beat::topology::{Ring, Topology};
    ///
    /// let machine: Topology = "package:2 core:2 pu:1".parse()?;
    /// let runtime = beat::Runtime::builder().worker_threads(4).topology(machine).build()?;
    /// println!("{} steals from the other package", runtime.metrics().steals_from(Ring::Remote));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn topology(mut self, machine: Topology) -> Self {
        self.topology = Some(machine);
        self
    }

    /// What threads park in. Default: tokio with the feature `tokio`, else plain.
    ///
    /// ```
    /// use beat::DriverKind;
    ///
    /// let runtime = beat::Runtime::builder().driver(DriverKind::default()).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn driver(mut self, driver: DriverKind) -> Self {
        self.driver = driver;
        self
    }

    /// Runs `hook` on each thread of the scheduler and of the blocking pool when it starts.
    ///
    /// The threads that the driver makes for blocking calls of its own are among them. A panic goes to the panic hook
    /// and no further.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    ///
    /// let (started, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    /// let (starts, stops) = (Arc::clone(&started), Arc::clone(&stopped));
    /// let runtime = beat::Runtime::builder()
    ///     .on_thread_start(move || drop(starts.fetch_add(1, SeqCst)))
    ///     .on_thread_stop(move || drop(stops.fetch_add(1, SeqCst)))
    ///     .build()?;
    /// runtime.spawn(async {}).join()?;
    /// drop(runtime);
    /// assert!(started.load(SeqCst) >= 1);
    /// assert_eq!(started.load(SeqCst), stopped.load(SeqCst));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_thread_start(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.on_thread_start = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on each thread of the scheduler and of the blocking pool when it ends.
    pub fn on_thread_stop(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.on_thread_stop = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on a thread of the scheduler that has found nothing to do, before it sleeps.
    ///
    /// A thread that waits in user code, in a `join` or a `block_on`, does not count. What the hook spawns or wakes
    /// runs, on this thread or another. It must not block: events may be waiting for this thread.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    ///
    /// let parks = Arc::new(AtomicUsize::new(0));
    /// let counted = Arc::clone(&parks);
    /// let runtime = beat::Runtime::builder()
    ///     .on_thread_park(move || {
    ///         counted.fetch_add(1, SeqCst);
    ///     })
    ///     .build()?;
    /// while parks.load(SeqCst) == 0 {
    ///     std::thread::yield_now(); // the workers have nothing to do
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_thread_park(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.on_thread_park = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on a thread of the scheduler when its sleep has ended; see
    /// [`on_thread_park`](Self::on_thread_park).
    ///
    /// ```
    /// let runtime = beat::Runtime::builder().on_thread_unpark(|| { /* count it, say */ }).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on_thread_unpark(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.hooks.on_thread_unpark = Some(Arc::new(hook));
        self
    }

    /// Starts the runtime with tokio's clock paused, for tests. Needs the feature `test-util` and the tokio driver.
    ///
    /// As with tokio: time stands, and jumps to the next timer when nothing can run. Here that is when no task, closure
    /// or blocking closure can run, on any number of workers, and at least one thread from outside waits in
    /// [`block_on`](Runtime::block_on), with no other one that polls. A closure that blocks on anything but Beat's own
    /// waits (`join`, `scope`, `block_on`) holds time. `tokio::time::advance` and `resume` work as ever, and so does
    /// `pause` after a `resume`; timers that `advance` has passed fire when the task that called it yields or
    /// waits. Elsewhere `tokio::time::pause` works too, but time then jumps as soon as one worker has nothing to do.
    ///
    /// ```
    /// # #[cfg(feature = "test-util")] {
    /// use std::time::{Duration, Instant};
    ///
    /// let real = Instant::now();
    /// let runtime = beat::Runtime::builder().start_paused(true).build()?;
    /// let slept = runtime.block_on(async {
    ///     let start = tokio::time::Instant::now();
    ///     tokio::time::sleep(Duration::from_secs(3600)).await;
    ///     start.elapsed()
    /// });
    /// assert_eq!(slept, Duration::from_secs(3600));
    /// assert!(real.elapsed() < slept);
    /// # }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start_paused(mut self, paused: bool) -> Self {
        self.start_paused = paused;
        self
    }

    /// Whether the runtime says on the standard error, once a process each, what works but not as well as it could:
    /// that tasks were given to `tokio::spawn`, and that one kept all timers and sockets waiting. By default it
    /// does, unless the environment variable `BEAT_WARN` is 0.
    ///
    /// ```
    /// let runtime = beat::Runtime::builder().worker_threads(1).warnings(false).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn warnings(mut self, warnings: bool) -> Self {
        self.warnings = Some(warnings);
        self
    }

    /// What is made of memory pressure, and how work is admitted.
    ///
    /// ```
    /// use beat::pressure::PressureConfig;
    ///
    /// let pressure = PressureConfig::new().guaranteed_minimum(4);
    /// let runtime = beat::Runtime::builder().pressure(pressure).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn pressure(mut self, config: PressureConfig) -> Self {
        self.pressure = config;
        self
    }

    /// Whether the runtime will be the global one: its workers are pinned unless told otherwise.
    pub(crate) fn global(mut self, global: bool) -> Self {
        self.global = global;
        self
    }

    /// The runtime will stand for a pool of another library.
    pub(crate) fn pool(mut self, pool: PoolSettings) -> Self {
        self.pool = pool;
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a setting that cannot be honoured, with a sentence that
    /// says what can: no worker or too many, a heartbeat of zero, a thread name with a zero byte, no thread for blocking
    /// closures, workers that cannot be pinned so, a paused clock without tokio's, thresholds of memory pressure out of order.
    /// Otherwise what the system says when it refuses a thread or a descriptor.
    pub fn build(self) -> io::Result<Runtime> {
        os::probe();
        if self.explains_itself {
            lifecycle::say(&self.explain().to_string());
        }
        let kind = self.driver;
        #[cfg(feature = "tokio")]
        let settings = crate::driver::tokio::Settings {
            start_paused: self.start_paused,
            keep_alive: self.keep_alive,
            warnings: self.warnings.map_or_else(default_warnings, Ok)?,
        };
        let config = self.settle()?;
        let driver: Box<dyn Driver> = match kind {
            DriverKind::Plain => Box::new(PlainDriver),
            #[cfg(feature = "async-io")]
            DriverKind::AsyncIo => Box::new(crate::driver::async_io::AsyncIoDriver::default()),
            #[cfg(feature = "tokio")]
            DriverKind::Tokio => Box::new(crate::driver::tokio::TokioDriver::new(&config, settings)?),
        };
        let shared = Shared::new(config, DriverSlot::new(driver));
        if let Err(error) = shared.start() {
            lifecycle::shut_down(&shared, None);
            return Err(error);
        }
        Ok(Runtime::from(Handle { shared }))
    }

    /// What `build` would refuse.
    pub(super) fn check(self) -> io::Result<()> {
        self.settle().map(drop)
    }

    /// Checks everything that can be wrong.
    pub(crate) fn settle(self) -> io::Result<Config> {
        self.check_clock()?;
        let workers = match self.workers {
            Some(workers) => workers,
            None => default_workers()?.min(self.room().unwrap_or(MOST_WORKERS)),
        };
        if workers == 0 {
            return Err(invalid("a runtime needs at least one worker: set `worker_threads` to 1 or more"));
        }
        if workers > MOST_WORKERS {
            return Err(invalid(format!(
                "{workers} workers are more than Beat supports: set `worker_threads` to {MOST_WORKERS} or less"
            )));
        }
        if self.heartbeat.is_zero() {
            return Err(invalid("a heartbeat of zero would never end: use 1 µs or more"));
        }
        if self.max_blocking_threads == 0 {
            return Err(invalid(
                "blocking closures need at least one thread: set `max_blocking_threads` to 1 or more",
            ));
        }
        if matches!(&self.thread_name, ThreadName::Prefix(name) if name.contains('\0')) {
            return Err(invalid("a thread name cannot hold a zero byte: remove it from `thread_name`"));
        }
        self.pressure.check()?;
        let unpinned = Affinity::current().ok();
        let (pins, distances) = self.places(workers, unpinned.as_ref())?;
        let cores = unpinned.as_ref().map_or(usize::MAX, Affinity::count);
        let free = self.free(&pins, unpinned.as_ref());
        let is_named = self.workers.is_some() || std::env::var_os(WORKERS_VARIABLE).is_some();
        // The threads of a user's pool are as many as its user says.
        let may_follow = self.pool.starting == Starting::All;
        Ok(Config {
            workers: workers as u32,
            fills_machine: workers >= cores,
            thread_name: self.thread_name,
            stack_size: self.stack_size,
            heartbeat: self.heartbeat,
            poll_budget: nanoseconds(self.poll_budget),
            long_poll_warning: self.long_poll_warning.map(nanoseconds),
            slices: self.slices && os::has_slices(),
            max_blocking_threads: self.max_blocking_threads,
            keep_alive: self.keep_alive.unwrap_or(KEEP_ALIVE),
            free,
            gathered: Arc::new(Gathered::new(unpinned, !pins.is_empty())),
            pins,
            distances,
            hooks: self.hooks,
            pressure: self.pressure,
            follows_limits: may_follow && self.follows_limits.unwrap_or(!is_named),
            pool: self.pool,
        })
    }

    /// Whether a paused clock can be had.
    fn check_clock(&self) -> io::Result<()> {
        if !self.start_paused {
            return Ok(());
        }
        if cfg!(not(feature = "test-util")) {
            return Err(invalid(
                "`start_paused` needs Beat's feature `test-util`: turn it on for your tests",
            ));
        }
        match self.driver {
            #[cfg(feature = "tokio")]
            DriverKind::Tokio => Ok(()),
            _ => Err(invalid(
                "only tokio's clock can be paused: set `driver` to tokio, or leave `start_paused` out",
            )),
        }
    }

    /// How many workers there can be at most of those that nobody asked for, if the pinning has room for fewer than
    /// there are CPUs.
    pub(super) fn room(&self) -> Option<usize> {
        let pinning = self.pinning.as_ref()?;
        let may_be_fewer = matches!(pinning, Pinning::PhysicalCores | Pinning::Cpus(_));
        let is_asked_for = self.workers.is_some() || std::env::var_os(WORKERS_VARIABLE).is_some();
        let room = || match &self.topology {
            Some(machine) => machine.room(pinning),
            None => topology::topology().room(pinning),
        };
        (may_be_fewer && !is_asked_for).then(|| room().max(1))
    }

    /// Where a pinned worker may run that is let go: who has listed CPUs wants no others.
    fn free(&self, pins: &[Affinity], allowed: Option<&Affinity>) -> Option<Affinity> {
        match self.pinning {
            Some(Pinning::Cpus(_)) => Affinity::of(pins.iter().flat_map(Affinity::cpus)).ok(),
            _ => allowed.cloned(),
        }
    }

    /// One mask for each worker, or none; and how far the workers are from each other.
    fn places(&self, workers: usize, allowed: Option<&Affinity>) -> io::Result<(Vec<Affinity>, Distances)> {
        if let Some(machine) = &self.topology {
            let placement = machine.place(self.pinning.as_ref().unwrap_or(&Pinning::Cores), workers)?;
            return Ok((Vec::new(), Distances::new(machine, &placement)));
        }
        let unbound = (Vec::new(), Distances::unknown());
        let cpus: CpuSet = allowed.map(Affinity::cpus).unwrap_or_default().into_iter().collect();
        let fits = workers <= cpus.len();
        // With fewer workers than CPUs, several such processes would all sit on the first ones.
        let fills = workers == cpus.len();
        match &self.pinning {
            Some(Pinning::None) => Ok(unbound),
            Some(pinning) => masks(pinning, workers, &cpus),
            None if self.global && fills || self.pins_if_possible && fits => {
                Ok(masks(&Pinning::Cores, workers, &cpus).unwrap_or(unbound))
            }
            None => Ok(unbound),
        }
    }
}

/// The mask of each worker, tried.
fn masks(pinning: &Pinning, workers: usize, cpus: &CpuSet) -> io::Result<(Vec<Affinity>, Distances)> {
    // Says why, where there are no masks.
    Affinity::current()?;
    let machine = topology::topology().with_allowed(cpus)?;
    let placement = machine.place(pinning, workers)?;
    let masks = placement.cpus().iter().map(|cpus| Affinity::of(cpus.iter()));
    let masks = masks.collect::<io::Result<Vec<_>>>()?;
    try_masks(&masks)?;
    Ok((masks, Distances::new(&machine, &placement)))
}

/// Tries each mask on a thread of its own, so that an impossible one is an error here and not a surprise later.
fn try_masks(masks: &[Affinity]) -> io::Result<()> {
    thread::scope(|scope| {
        let attempt = || masks.iter().try_for_each(Affinity::apply);
        let thread = thread::Builder::new().spawn_scoped(scope, attempt)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the attempt to pin a thread panicked")))
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(super) fn default_workers() -> io::Result<usize> {
    match std::env::var(WORKERS_VARIABLE) {
        Ok(text) => match text.trim().parse::<usize>() {
            Ok(workers @ 1..=MOST_WORKERS) => Ok(workers),
            _ => Err(invalid(format!(
                "{WORKERS_VARIABLE} is {text:?}: set it to a number from 1 to {MOST_WORKERS}, or unset it"
            ))),
        },
        Err(_) => Ok(parallelism(allotment::quota()).min(MOST_WORKERS)),
    }
}

/// How many CPUs the process is given: those of the mask, or of the quota, if that is less.
pub(super) fn parallelism(quota: Option<f64>) -> usize {
    // What the standard library says has the quota in it, rounded down.
    let by_mask = Affinity::current().map_or(0, |mask| mask.count());
    let cpus = if by_mask > 0 { by_mask } else { thread::available_parallelism().map_or(1, usize::from) };
    quota.map_or(cpus, |quota| cpus.min(allotment::rounded_up(quota) as usize))
}

#[cfg(feature = "tokio")]
fn default_warnings() -> io::Result<bool> {
    match std::env::var("BEAT_WARN") {
        Ok(text) => match text.trim() {
            "0" => Ok(false),
            "1" => Ok(true),
            _ => Err(invalid(format!("BEAT_WARN is {text:?}: set it to 0 or 1, or unset it"))),
        },
        Err(_) => Ok(true),
    }
}

fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message.into())
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("worker_threads", &self.workers)
            .field("thread_name", &self.thread_name)
            .field("heartbeat", &self.heartbeat)
            .field("poll_budget", &self.poll_budget)
            .field("pinning", &self.pinning)
            .field("driver", &self.driver)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}
