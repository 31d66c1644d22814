//! Admission: new work from outside is held back while memory is short.
//!
//! [`spawn`](crate::spawn) is never held back, nor is anything that an admitted task spawns: only waiting can be
//! refused, never finishing. What comes from outside (requests, connections, items of a stream) asks:
//!
//! | | for futures | for closures |
//! |---|---|---|
//! | now or not at all | [`try_spawn`](crate::try_spawn) | [`try_spawn_blocking_parallel`](crate::try_spawn_blocking_parallel) |
//! | in turn | [`spawn_admitted`](crate::spawn_admitted) | [`spawn_blocking_parallel_admitted`](crate::spawn_blocking_parallel_admitted) |
//! | in turn, with an estimate | [`spawn_with_memory_estimate`](crate::spawn_with_memory_estimate) | [`spawn_blocking_parallel_with_memory_estimate`](crate::spawn_blocking_parallel_with_memory_estimate) |
//! | all of these, and a [`Class`] | [`admit`](crate::admit) | |
//!
//! While memory is plentiful, work without an estimate passes by one load. What is reserved counts from then on against
//! the headroom of the last [look](mod@crate::pressure) at the memory. A guaranteed minimum of tasks runs in any case.
//!
//! The protocol, and why it is right, is in `queue`; `permit` is what a task holds; `sampler` looks at the memory
//! while there is something to admit; `estimate` learns what tasks need that do not say so.

mod class;
#[cfg(not(loom))]
mod estimate;
#[cfg(all(feature = "tower", not(loom)))]
mod layer;
#[cfg(not(loom))]
mod overloaded;
#[cfg(not(loom))]
mod permit;
pub(crate) mod queue;
#[cfg(not(loom))]
mod request;
#[cfg(not(loom))]
mod sampler;
#[cfg(not(loom))]
pub(crate) mod shorthands;
#[cfg(not(loom))]
mod stream;

pub use class::Class;
#[cfg(all(feature = "tower", not(loom)))]
pub use layer::{AdmissionLayer, Admitting, ResponseFuture};
#[cfg(not(loom))]
pub use overloaded::Overloaded;
#[cfg(not(loom))]
pub use permit::{Permit, Reservation};
#[cfg(not(loom))]
pub use request::Admit;
#[cfg(not(loom))]
pub use stream::{AdmittedStream, accept_permitted};

#[cfg(not(loom))]
pub(crate) use self::runtime::Admission;
#[cfg(not(loom))]
use overloaded::Reason;
#[cfg(not(loom))]
pub(crate) use request::is_inside;

#[cfg(not(loom))]
mod runtime {
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
    use std::time::Duration;

    use super::estimate::Sites;
    use super::queue::{Queue, Terms};
    use super::{Class, Overloaded, Reason, sampler};
    use crate::pressure::alarm::Alarm;
    use crate::pressure::sensor::Sensor;
    use crate::pressure::{Level, Pressure, PressureConfig};
    use crate::scheduler::Shared;

    /// After how long those who were refused may ask again, by how many wait.
    const RETRY_LEAST: Duration = Duration::from_secs(1);
    const RETRY_MOST: Duration = Duration::from_secs(30);

    /// The part of a runtime that admits work.
    #[derive(Debug)]
    pub(crate) struct Admission {
        pub(crate) queue: Queue,
        pub(crate) sensor: Sensor,
        sites: Mutex<Sites>,
        /// How to ring the sampler, once it has been started.
        sampler: Mutex<Option<Arc<Alarm>>>,
    }

    impl Admission {
        pub(crate) fn new(config: PressureConfig, workers: usize) -> Arc<Self> {
            Arc::new(Self {
                queue: Queue::new(config.minimum.unwrap_or(workers)),
                sensor: Sensor::new(config),
                sites: Mutex::default(),
                sampler: Mutex::default(),
            })
        }

        pub(crate) fn sites(&self) -> MutexGuard<'_, Sites> {
            self.sites.lock().unwrap_or_else(PoisonError::into_inner)
        }

        fn sampler(&self) -> MutexGuard<'_, Option<Arc<Alarm>>> {
            self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Looks at the memory unless that has been done within `age`, and lets in whom it allows.
        pub(crate) fn look(&self, age: Duration) -> Pressure {
            let mut seen = self.sensor.sample(age);
            self.queue.set_terms(self.terms(&seen)).wake();
            seen.reserved = self.queue.load().0;
            seen
        }

        fn terms(&self, seen: &Pressure) -> Terms {
            let refused = match seen.level {
                Level::None | Level::Low => Class::COUNT,
                Level::Medium | Level::High => Class::Background as usize,
                Level::Critical => Class::Normal as usize,
            };
            Terms {
                room: self.sensor.room(seen),
                refused,
                accepts: seen.level < Level::High,
                plenty: seen.level == Level::None,
            }
        }

        /// Makes sure that somebody looks at the memory, and looks now if nobody did.
        pub(crate) fn keep_sampling(self: &Arc<Self>, shared: &Shared) {
            if self.queue.use_it() {
                self.rouse_sampler(shared);
            }
        }

        /// Nobody looks at the memory: looks, and rings.
        #[cold]
        pub(crate) fn rouse_sampler(self: &Arc<Self>, shared: &Shared) {
            // What was known is old.
            self.look(Duration::from_millis(1));
            if shared.is_closed() {
                return;
            }
            let mut sampler = self.sampler();
            match &*sampler {
                Some(alarm) => alarm.ring(),
                None => match sampler::start(shared, self) {
                    Ok(alarm) => *sampler = Some(alarm),
                    Err(error) => {
                        drop(sampler);
                        shared.lifecycle.report_spawn_failure(&error);
                        // Everybody who comes looks for himself.
                        self.queue.lose_sampler();
                    }
                },
            }
        }

        pub(crate) fn overloaded<F>(&self, refused: F, reason: Reason) -> Overloaded<F> {
            let waiters = u32::try_from(self.queue.load().2).unwrap_or(u32::MAX);
            let retry_after = (RETRY_LEAST * (1 + waiters.min(1000) / 8)).min(RETRY_MOST);
            Overloaded::new(refused, reason, retry_after)
        }

        /// The runtime ends: nobody waits any more.
        pub(crate) fn close(&self) {
            self.queue.close().wake();
            if let Some(alarm) = &*self.sampler() {
                alarm.ring();
            }
        }
    }
}
