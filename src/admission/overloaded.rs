//! A refusal: it gives back what was to be spawned, and says why and when to ask again.

use std::fmt;
use std::time::Duration;

use crate::pressure::Level;

/// There was no room, so nothing was spawned; [`into_inner`](Self::into_inner) gives back what was to be.
///
/// ```
/// # use beat::pressure::{PressureConfig, PressureSource, Reading};
/// # struct Full;
/// # impl PressureSource for Full {
/// #     fn name(&self) -> String {
/// #         "a machine that is full".into()
/// #     }
/// #     fn read(&mut self) -> std::io::Result<Reading> {
/// #         Ok(Reading::new(1000, 990, 0))
/// #     }
/// # }
/// // Of its memory 99 % are in use.
/// let pressure = PressureConfig::new().source(|| Full);
/// let runtime = beat::Runtime::builder().worker_threads(1).pressure(pressure).build()?;
/// # while runtime.handle().pressure().level != beat::pressure::Level::Critical {}
/// // What runs already is the guaranteed minimum.
/// let running = runtime.handle().admit().memory(100).try_permit();
/// let refused = runtime.handle().admit().memory(100).try_spawn(async { 6 * 7 }).unwrap_err();
/// assert!(refused.is_pressure() && !refused.is_full() && !refused.is_behind());
/// println!("{refused}; try again after {:?}", refused.retry_after());
/// assert_eq!(runtime.block_on(refused.into_inner()), 42);
/// # drop(running);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Overloaded<F = ()> {
    refused: F,
    pub(crate) reason: Reason,
    pub(crate) retry_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Level(Level),
    Waiters(usize),
    Room,
}

impl<F> Overloaded<F> {
    pub(crate) fn new(refused: F, reason: Reason, retry_after: Duration) -> Self {
        Self { refused, reason, retry_after }
    }

    /// What was to be spawned.
    pub fn into_inner(self) -> F {
        self.refused
    }

    /// When it is worth asking again.
    pub fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// Whether the level of memory pressure is too high for the class.
    pub fn is_pressure(&self) -> bool {
        matches!(self.reason, Reason::Level(_))
    }

    /// Whether others were waiting already.
    pub fn is_behind(&self) -> bool {
        matches!(self.reason, Reason::Waiters(_))
    }

    /// Whether the estimate does not fit beside what is used and reserved.
    pub fn is_full(&self) -> bool {
        self.reason == Reason::Room
    }

    pub(crate) fn with<G>(self, refused: G) -> Overloaded<G> {
        Overloaded { refused, reason: self.reason, retry_after: self.retry_after }
    }
}

impl<F> fmt::Display for Overloaded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::Level(level) => write!(f, "memory pressure is {level:?}")?,
            Reason::Waiters(1) => f.write_str("memory is short, and another task waits for it")?,
            Reason::Waiters(n) => write!(f, "memory is short, and {n} tasks wait for it")?,
            Reason::Room => f.write_str("there is not enough memory left")?,
        }
        write!(f, ": wait with `spawn_admitted`, or try again after {:?}", self.retry_after)
    }
}

impl<F> fmt::Debug for Overloaded<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Overloaded({self})")
    }
}

impl<F> std::error::Error for Overloaded<F> {}
