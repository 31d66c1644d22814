//! Where readings come from: a trait, and the chain that falls back from one source to the next.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::task::contained::Contained;

/// What one look at the memory gives. All sizes in bytes.
///
/// ```
/// use beat::pressure::{Reading, Stall};
///
/// let reading = Reading::new(1000, 700, 200).with_stall(Stall::default());
/// assert_eq!(reading.available(), 500);
/// assert_eq!(reading.available_share(), 0.5);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Reading {
    /// How much the tightest limit allows.
    pub limit: u64,
    /// How much counts against that limit.
    pub usage: u64,
    /// How much of the usage the kernel can drop at once: clean page cache that nobody has used twice.
    pub reclaimable: u64,
    /// What the kernel says about stalls, where it does.
    pub stall: Option<Stall>,
}

impl Reading {
    /// A reading without stalls.
    pub fn new(limit: u64, usage: u64, reclaimable: u64) -> Self {
        Self { limit, usage, reclaimable, stall: None }
    }

    /// The same with stalls.
    #[must_use]
    pub fn with_stall(mut self, stall: Stall) -> Self {
        self.stall = Some(stall);
        self
    }

    /// `limit − usage + reclaimable`, at least 0 and at most the limit.
    pub fn available(&self) -> u64 {
        let used = self.usage.saturating_sub(self.reclaimable.min(self.usage));
        self.limit.saturating_sub(used)
    }

    /// The same as a share of the limit, from 0 to 1.
    pub fn available_share(&self) -> f64 {
        if self.limit == 0 { 0.0 } else { self.available() as f64 / self.limit as f64 }
    }
}

/// Pressure stall information: how long tasks have waited for memory.
/// Source: the kernel's `accounting/psi.rst`.
///
/// ```
/// use beat::pressure::{Reading, Stall};
///
/// let mut stall = Stall::default();
/// stall.some.avg10 = 12.5;
/// let reading = Reading::new(1000, 900, 0).with_stall(stall);
/// assert_eq!(reading.stall.unwrap().some.avg10, 12.5);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Times in which at least one task stood still.
    pub some: StallLine,
    /// Times in which all of them did.
    pub full: StallLine,
}

/// One line of it.
///
/// ```
/// use beat::pressure::{Stall, StallLine};
/// use std::time::Duration;
///
/// let some = StallLine { avg10: 1.5, avg60: 0.5, total: Duration::from_millis(20) };
/// let stall = Stall { some, full: StallLine::default() };
/// assert!(stall.full.total <= stall.some.total);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StallLine {
    /// Per cent of the last 10 seconds.
    pub avg10: f32,
    /// Per cent of the last 60 seconds.
    pub avg60: f32,
    /// All of it, since the group was made.
    pub total: Duration,
}

/// Something that can say how much memory there is: a cgroup, the machine, or what a test makes up.
///
/// ```
/// use beat::pressure::{PressureSource, Reading};
/// use std::io;
///
/// /// A service that may use a gigabyte, by its own count.
/// struct Arena;
///
/// impl PressureSource for Arena {
///     fn name(&self) -> String {
///         "the arena".into()
///     }
///     fn read(&mut self) -> io::Result<Reading> {
///         Ok(Reading::new(1 << 30, 300 << 20, 0))
///     }
/// }
/// assert_eq!(Arena.read().unwrap().available(), 724 << 20);
/// ```
pub trait PressureSource: Send {
    /// What messages call it.
    fn name(&self) -> String;

    /// Looks. Called up to a hundred times a second, by one thread at a time, under a lock: it must not ask for the
    /// [pressure](crate::pressure()) itself.
    ///
    /// # Errors
    ///
    /// There is nothing to be seen here (any more): the next source is asked from then on.
    fn read(&mut self) -> io::Result<Reading>;

    /// A file that becomes ready for `POLLPRI` when tasks stall, if the kernel grants one.
    ///
    /// ```
    /// use beat::pressure::{PressureSource, Reading};
    /// use std::fs::File;
    /// use std::os::fd::{AsFd, BorrowedFd};
    ///
    /// struct Watched {
    ///     /// Opened for writing, and a threshold written to it.
    ///     pressure: File,
    /// }
    ///
    /// impl PressureSource for Watched {
    ///     fn name(&self) -> String {
    ///         "a group".into()
    ///     }
    ///     fn read(&mut self) -> std::io::Result<Reading> {
    ///         Ok(Reading::new(1000, 300, 0))
    ///     }
    ///     fn trigger(&self) -> Option<BorrowedFd<'_>> {
    ///         Some(self.pressure.as_fd())
    ///     }
    /// }
    /// ```
    #[cfg(target_os = "linux")]
    fn trigger(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

/// Sources in the order of preference. One that fails is left behind for good, with one line on the standard error.
pub(crate) struct Chain {
    /// The current one last.
    sources: Vec<Box<dyn PressureSource>>,
    /// Whom the lines go to.
    say: fn(&str),
}

impl Chain {
    pub(crate) fn new(mut sources: Vec<Box<dyn PressureSource>>, say: fn(&str)) -> Self {
        sources.reverse();
        Self { sources, say }
    }

    /// What the first source that can says; `None` if there is none left.
    pub(crate) fn read(&mut self) -> Option<Reading> {
        loop {
            let source = self.sources.last_mut()?;
            let read = catch_unwind(AssertUnwindSafe(|| source.read())).unwrap_or_else(|payload| {
                drop(Contained::new(payload));
                Err(io::Error::other("it panicked"))
            });
            let error = match read {
                Ok(reading) if reading.limit > 0 => return Some(reading),
                Ok(_) => io::Error::new(io::ErrorKind::InvalidData, "it says that the limit is zero"),
                Err(error) => error,
            };
            let failed = source.name();
            // Dropped before the message: what it holds open is of no use.
            self.sources.pop();
            let next = self.name().unwrap_or_else(|| "nothing: memory holds no work back from now on".into());
            (self.say)(&format!(
                "beat: memory pressure cannot be read from {failed} ({error}); going on with {next}\n"
            ));
        }
    }

    /// The current source.
    pub(crate) fn name(&self) -> Option<String> {
        self.sources.last().map(|source| source.name())
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn trigger(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.sources.last().and_then(|source| source.trigger())
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain").field("current", &self.name()).finish_non_exhaustive()
    }
}
