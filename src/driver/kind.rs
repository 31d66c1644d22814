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
