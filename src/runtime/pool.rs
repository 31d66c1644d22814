//! What a runtime that stands for a pool of another library is told besides: see [`__rayon`](crate::__rayon).

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// Which threads the runtime starts itself, one for each processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Starting {
    /// All.
    #[default]
    All,
    /// All but the first, which is a user's thread that never comes to the loop.
    AllButFirst,
    /// None: they are users' threads, and there are never more of them.
    Given,
}

/// See the [module](self).
#[derive(Clone, Default)]
pub(crate) struct PoolSettings {
    /// The names of the threads that are started for each processor, where they have one.
    pub(crate) names: Vec<Option<String>>,
    /// Whose pool the runtime is.
    pub(crate) owner: Option<Arc<dyn Any + Send + Sync>>,
    pub(crate) starting: Starting,
}

impl PoolSettings {
    /// The processors for which the runtime starts threads.
    pub(crate) fn started_here(&self, workers: u32) -> Range<u32> {
        match self.starting {
            Starting::All => 0..workers,
            Starting::AllButFirst => 1..workers,
            Starting::Given => 0..0,
        }
    }

    /// Whether the runtime may start a thread in the place of one that waits.
    pub(crate) fn may_grow(&self) -> bool {
        self.starting != Starting::Given
    }
}
