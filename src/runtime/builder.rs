//! How a runtime is configured, and what of it can be wrong.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::{Handle, Hook, Runtime};
#[cfg(feature = "tokio")]
use crate::driver::escaped::Escaped;
use crate::driver::plain::PlainDriver;
use crate::driver::{Driver, DriverKind, DriverSlot};
use crate::lifecycle;
use crate::os::{self, Affinity};
use crate::scheduler::{Config, Shared};

/// Whether workers are bound to cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pinning {
    /// Workers run where the system puts them.
    None,
    /// Worker *i* is bound to the *i*-th CPU that the process may use. Linux only.
    ///
    /// Threads that user code starts on a worker inherit its mask, and `std::thread::available_parallelism`
    /// answers 1 there.
    Cores,
}

/// The most workers a runtime may have: what the census has room for.
const MOST_WORKERS: usize = 4096;
const HEARTBEAT: Duration = Duration::from_micros(100);
const POLL_BUDGET: Duration = Duration::from_micros(500);

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
    workers: Option<usize>,
    thread_name: String,
    stack_size: Option<usize>,
    heartbeat: Duration,
    poll_budget: Duration,
    pinning: Option<Pinning>,
    driver: DriverKind,
    on_thread_start: Option<Hook>,
    on_thread_stop: Option<Hook>,
    warnings: Option<bool>,
    global: bool,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            workers: None,
            thread_name: "beat".into(),
            stack_size: None,
            heartbeat: HEARTBEAT,
            poll_budget: POLL_BUDGET,
            pinning: None,
            driver: DriverKind::default(),
            on_thread_start: None,
            on_thread_stop: None,
            warnings: None,
            global: false,
        }
    }

    /// How many workers: threads that may start new work at a time. By default the environment variable
    /// `BEAT_WORKERS`, else as many as the process has CPUs, its affinity mask and cgroup quota included.
    pub fn worker_threads(mut self, workers: usize) -> Self {
        self.workers = Some(workers);
        self
    }

    /// How the names of threads begin. Default: `beat`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// The stack size of threads, in bytes. Default: that of `std::thread`.
    pub fn thread_stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// The heartbeat: how often at most a thread that forks puts work on offer unasked, and lets ready futures
    /// have the core. Default: 100 µs.
    pub fn heartbeat(mut self, period: Duration) -> Self {
        self.heartbeat = period;
        self
    }

    /// How long one poll of a task may last before awaiting a [`JoinHandle`](crate::JoinHandle), or
    /// [`consume_budget`](crate::task::consume_budget), yields even if there is nothing to wait for. It counts
    /// from the sixteenth such operation on. Zero: at every sixteenth. Default: 500 µs. tokio's own budget,
    /// 128 operations a poll, applies besides.
    pub fn poll_budget(mut self, limit: Duration) -> Self {
        self.poll_budget = limit;
        self
    }

    /// Whether workers are bound to cores. By default only those of the global runtime are, where the system
    /// supports it and there are as many workers as CPUs.
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = Some(pinning);
        self
    }

    /// What threads park in. Default: tokio with the feature `tokio`, else plain.
    pub fn driver(mut self, driver: DriverKind) -> Self {
        self.driver = driver;
        self
    }

    /// Runs `hook` on each thread of the scheduler and of the blocking pool when it starts.
    pub fn on_thread_start(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_thread_start = Some(Arc::new(hook));
        self
    }

    /// Runs `hook` on each thread of the scheduler and of the blocking pool when it ends.
    pub fn on_thread_stop(mut self, hook: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_thread_stop = Some(Arc::new(hook));
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

    /// Whether the runtime will be the global one: its workers are pinned unless told otherwise.
    pub(crate) fn global(mut self, global: bool) -> Self {
        self.global = global;
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for a setting that cannot be honoured, with a sentence that
    /// says what can: no worker or too many, a heartbeat of zero, a thread name with a zero byte, more pinned
    /// workers than CPUs. Otherwise what the system says when it refuses a thread or a descriptor.
    pub fn build(self) -> io::Result<Runtime> {
        os::probe();
        let driver = self.driver;
        #[cfg(feature = "tokio")]
        let warnings = self.warnings.map_or_else(default_warnings, Ok)?;
        let config = self.settle()?;
        let driver: Box<dyn Driver> = match driver {
            DriverKind::Plain => Box::new(PlainDriver),
            #[cfg(feature = "tokio")]
            DriverKind::Tokio => {
                let unpinned = config.unpinned.clone();
                let escaped = Escaped::new(config.heartbeat, warnings);
                Box::new(crate::driver::tokio::TokioDriver::new(escaped, move || {
                    if let Some(mask) = &unpinned {
                        // As for the blocking pool.
                        let _ = mask.apply();
                    }
                })?)
            }
        };
        let shared = Shared::new(config, DriverSlot::new(driver));
        if let Err(error) = shared.start() {
            lifecycle::shut_down(&shared, None);
            return Err(error);
        }
        Ok(Runtime::from(Handle { shared }))
    }

    /// Checks everything that can be wrong.
    fn settle(self) -> io::Result<Config> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => default_workers()?,
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
        if self.thread_name.contains('\0') {
            return Err(invalid("a thread name cannot hold a zero byte: remove it from `thread_name`"));
        }
        let unpinned = Affinity::current().ok();
        let pins = self.pins(workers, unpinned.as_ref())?;
        Ok(Config {
            workers: workers as u32,
            thread_name: self.thread_name,
            stack_size: self.stack_size,
            heartbeat: self.heartbeat,
            poll_budget: u64::try_from(self.poll_budget.as_nanos()).unwrap_or(u64::MAX),
            // Masks are given back only to threads that inherit a pin.
            unpinned: unpinned.filter(|_| !pins.is_empty()),
            pins,
            on_thread_start: self.on_thread_start,
            on_thread_stop: self.on_thread_stop,
        })
    }

    /// One mask for each worker, or none.
    fn pins(&self, workers: usize, allowed: Option<&Affinity>) -> io::Result<Vec<Affinity>> {
        let cpus = allowed.map(Affinity::cpus).unwrap_or_default();
        let fits = workers <= cpus.len();
        // With fewer workers than CPUs, several such processes would all sit on the first ones.
        let fills = workers == cpus.len();
        match self.pinning {
            Some(Pinning::None) => Ok(Vec::new()),
            None if !self.global || !fills => Ok(Vec::new()),
            Some(Pinning::Cores) if !fits => Err(invalid(format!(
                "{workers} workers cannot be pinned to the {} CPUs this process may use: set `worker_threads` to \
                 that number or less, or `pinning` to none",
                cpus.len()
            ))),
            None | Some(Pinning::Cores) => {
                let masks: Vec<_> = cpus.into_iter().take(workers).map(Affinity::only).collect();
                match try_masks(&masks) {
                    Err(error) if self.pinning.is_some() => Err(error),
                    Err(_) => Ok(Vec::new()),
                    Ok(()) => Ok(masks),
                }
            }
        }
    }
}

/// Tries each mask on a thread of its own, so that an impossible one is an error here and not a surprise later.
fn try_masks(masks: &[Affinity]) -> io::Result<()> {
    thread::scope(|scope| {
        let attempt = || masks.iter().try_for_each(Affinity::apply);
        let thread = thread::Builder::new().spawn_scoped(scope, attempt)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the attempt to pin a thread panicked")))
    })
}

fn default_workers() -> io::Result<usize> {
    match std::env::var("BEAT_WORKERS") {
        Ok(text) => match text.trim().parse::<usize>() {
            Ok(workers @ 1..=MOST_WORKERS) => Ok(workers),
            _ => Err(invalid(format!(
                "BEAT_WORKERS is {text:?}: set it to a number from 1 to {MOST_WORKERS}, or unset it"
            ))),
        },
        Err(_) => Ok(thread::available_parallelism().map_or(1, usize::from).min(MOST_WORKERS)),
    }
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
