//! Nothing goes with the work: the feature `tracing` is off. See `mod.rs` for what all this is.

#[cfg(not(loom))]
use crate::latent::Owner;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Carried(());

/// What was carried is in place; here, nothing.
pub(crate) struct Entered(());

// Both are dropped by name, where the other file's have to be.
impl Drop for Carried {
    #[inline]
    fn drop(&mut self) {}
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {}
}

/// Calls `f`, and what it spawns carries nothing.
#[cfg(feature = "hyper")]
#[inline]
pub(crate) fn without<R>(f: impl FnOnce() -> R) -> R {
    f()
}

impl Carried {
    #[inline]
    pub(crate) fn here() -> Self {
        Self(())
    }

    #[inline]
    pub(crate) fn values() -> Self {
        Self(())
    }

    #[inline]
    pub(crate) fn span() -> Self {
        Self(())
    }

    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn of_oldest(_owner: Owner<'_>) -> Self {
        Self(())
    }

    #[inline]
    pub(crate) fn enter(&self) -> Entered {
        Entered(())
    }

    #[cfg(feature = "rayon")]
    #[inline]
    pub(crate) fn enter_unless_at(&self, _fork: Fork) -> Option<Entered> {
        None
    }
}

/// See the other file.
#[cfg(feature = "rayon")]
#[derive(Clone, Copy)]
pub(crate) struct Fork(());

#[cfg(feature = "rayon")]
impl Fork {
    #[inline]
    pub(crate) fn here() -> Self {
        Self(())
    }
}

/// See the other file.
#[derive(Debug)]
pub(crate) struct Slot(());

impl Slot {
    #[inline]
    pub(crate) fn empty() -> Self {
        Self(())
    }

    #[inline]
    pub(crate) fn of(_carried: Carried) -> Self {
        Self(())
    }

    #[inline]
    pub(crate) fn take(&self) -> Carried {
        Carried(())
    }
}
