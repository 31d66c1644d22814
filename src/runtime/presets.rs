//! Four starting points for a configuration: what asks nothing of the machine, what makes the most of it, what insists
//! on that, and what helps while a program is being written.

use std::time::Duration;

use super::Builder;
use crate::topology::Pinning;

/// From when on the development preset reports a poll: many times what a prompt service can bear.
const LONG_POLL: Duration = Duration::from_millis(10);

/// # Presets
///
/// Starting points, which further calls may change. All of them schedule in the same way; this is all they differ in:
///
/// | | [`basic`](Self::basic) | [`new`](crate::Runtime::builder) | [`performance`](Self::performance) | [`advanced`](Self::advanced) | [`development`](Self::development) |
/// |---|---|---|---|---|---|
/// | workers pinned to cores | no | the global runtime's, if there is a worker for each CPU | if there is a CPU for each worker | yes, or `build` fails | no |
/// | scheduling slices (Linux 6.12) | no | yes | yes | yes | yes |
/// | long polls reported | no | no | no | no | from 10 ms |
/// | [`explain`](Self::explain) printed by `build` | no | no | no | no | yes |
///
/// There is no memory-aware scheduling yet; it will belong to `advanced`.
impl Builder {
    /// Asks nothing of the machine: no pinning, no scheduling slices. For machines shared with others, and for
    /// containers whose CPUs change.
    ///
    /// ```
    /// let runtime = beat::Builder::basic().worker_threads(2).build()?;
    /// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn basic() -> Self {
        Self::new().pinning(Pinning::None).scheduling_slices(false)
    }

    /// Makes the most of a machine that the program has for itself: workers are pinned if there is a CPU for each.
    ///
    /// ```
    /// let runtime = beat::Builder::performance().build()?;
    /// assert!(runtime.current_num_threads() >= 1);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn performance() -> Self {
        let mut builder = Self::new();
        builder.pins_if_possible = true;
        builder
    }

    /// As [`performance`](Self::performance), but a machine on which workers cannot be pinned is an error of
    /// [`build`](Self::build), not a silent loss.
    ///
    /// ```no_run
    /// let runtime = beat::Builder::advanced().build()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn advanced() -> Self {
        Self::new().pinning(Pinning::Cores)
    }

    /// For a program that is being written: polls of 10 ms and more are
    /// [reported](Self::long_poll_warning) on the standard error, and [`build`](Self::build) prints there what was
    /// chosen and why.
    ///
    /// ```
    /// let runtime = beat::Builder::development().worker_threads(2).build()?;
    /// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn development() -> Self {
        let mut builder = Self::new().pinning(Pinning::None).long_poll_warning(LONG_POLL);
        builder.explains_itself = true;
        builder
    }
}
