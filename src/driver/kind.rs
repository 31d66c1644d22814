//! The choice of a driver.

/// Which driver a runtime parks in.
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
    /// With another driver they work too, woken by async-io's own thread; with this one a thread of Beat's that has
    /// nothing to do turns the reactor, and wakes the tasks where they will run. async-io starts its own thread all the
    /// same, and that takes its turn at the reactor: a part of the events come by way of it. Each time a thread leaves
    /// the reactor that thread looks for some 60 ms whether it is needed, at first every 50 µs and then less often; a
    /// runtime without events makes no wake-ups.
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
