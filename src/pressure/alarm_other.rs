//! How the sampler sleeps: until its time is up, or somebody rings.

use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// There is none.
pub(crate) type Trigger = std::convert::Infallible;

/// See the [module](self). A ring that comes before the sleep ends it at once.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self::default())
    }

    /// Ends the sleep, this one or the next.
    pub(crate) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_one();
    }

    /// `limit` of `None` sleeps until the ring.
    pub(crate) fn sleep(&self, limit: Option<Duration>, _trigger: &mut Option<Trigger>) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limit.unwrap_or(Duration::MAX);
        let waited = self.bell.wait_timeout_while(rung, limit, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}
