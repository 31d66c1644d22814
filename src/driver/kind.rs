//! The choice of a driver.

/// Which driver a runtime parks in.
///
/// ```
/// use beat::DriverKind;
///
/// let runtime = beat::Runtime::builder().driver(DriverKind::Plain).build()?;
/// assert_eq!(runtime.block_on(async { 6 * 7 }), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DriverKind {
    /// No I/O and no timers: threads park on futexes.
    Plain,
    /// One shared tokio current-thread runtime: `tokio::net`, `tokio::time` and what builds on them work.
    #[cfg(feature = "tokio")]
    Tokio,
    /// async-io's reactor: `async_io::Async`, `async_io::Timer`, `smol::net` and what builds on them work.
    ///
    /// With another driver they work too, woken by async-io's own thread. With this one a thread of Beat's that has
    /// nothing to do waits in async-io's `block_on`, which turns the reactor if it is free. It seldom is: async-io's own
    /// thread is woken whenever ours leaves, and takes it (all but a hundredth of the events came by way of that thread
    /// when measured; decision 7). A runtime without events makes no wake-ups, with either driver.
    ///
    /// tokio's I/O and timers do not work in a runtime with this driver.
    #[cfg(feature = "async-io")]
    AsyncIo,
}

impl Default for DriverKind {
    /// `Tokio` with the feature `tokio`, else `Plain`.
    fn default() -> Self {
        #[cfg(feature = "tokio")]
        return Self::Tokio;
        #[cfg(not(feature = "tokio"))]
        Self::Plain
    }
}
