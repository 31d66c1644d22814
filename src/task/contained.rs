//! A value whose destructor must not take anybody down.
//!
//! Outputs and panic payloads are dropped in places that cannot unwind (async-task aborts the process there)
//! and that nobody waits for. A panic in such a destructor is reported by the panic hook and ends here.

use std::mem::{self, ManuallyDrop};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Drops what it holds inside `catch_unwind`.
pub(crate) struct Contained<T>(ManuallyDrop<T>);

impl<T> Contained<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(ManuallyDrop::new(value))
    }

    pub(crate) fn get(&self) -> &T {
        &self.0
    }

    pub(crate) fn into_inner(mut self) -> T {
        // SAFETY: the value is taken once: `self` is forgotten next, so its destructor does not see it.
        let value = unsafe { ManuallyDrop::take(&mut self.0) };
        mem::forget(self);
        value
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        if !mem::needs_drop::<T>() {
            return;
        }
        let value = &mut self.0;
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: dropped once, in the destructor of its only owner.
            unsafe { ManuallyDrop::drop(value) }
        }));
        let Err(payload) = dropped else { return };
        // The payload's own destructor may panic as well; what that throws is not given the chance.
        mem::forget(catch_unwind(AssertUnwindSafe(|| drop(payload))));
    }
}
