//! The thread that looks at the memory while work is being admitted.
//!
//! It starts with the first admission, and sleeps, without any periodic wake-up, from a second after the last one on
//! (at a level above none, ten): how it falls asleep is *Falling asleep* in the [queue](super::queue). Where the kernel
//! grants a trigger, stalls wake it too.

use std::sync::Arc;
use std::time::Duration;

use super::Admission;
use crate::lifecycle;
use crate::os::{self, Slice};
use crate::pressure::Level;
use crate::pressure::alarm::Alarm;
use crate::scheduler::Shared;

/// Hooks are user code and run here; otherwise less would do.
const STACK_SIZE: usize = 1024 * 1024;

/// Starts the sampler.
///
/// # Errors
///
/// The system refuses a thread or a descriptor.
pub(super) fn start(shared: &Shared, admission: &Arc<Admission>) -> std::io::Result<Arc<Alarm>> {
    let alarm = Arc::new(Alarm::new()?);
    let (admission, bell) = (Arc::clone(admission), Arc::clone(&alarm));
    let main = move |shared: &Arc<Shared>| run(shared, &admission, &bell);
    lifecycle::start_thread(shared, shared.config.thread_name.of("pressure"), Some(STACK_SIZE), main)?;
    Ok(alarm)
}

fn run(shared: &Arc<Shared>, admission: &Admission, alarm: &Alarm) {
    // Pinned to a busy core it would come late; nothing else hangs on it.
    shared.config.gathered.leave();
    // It must come in time beside closures that fill the cores: allocations do not wait for it.
    os::set_slice(Slice::Short);
    os::sleep_on_time();
    let _context = crate::runtime::context::Entered::own_thread(shared);
    let mut trigger = None;
    while !shared.is_closed() {
        let seen = admission.look(Duration::ZERO);
        if let Some(reading) = &seen.reading {
            admission.sites().learn(reading.usage.saturating_sub(reading.reclaimable));
        }
        let patience = if seen.level == Level::None { 1 } else { 10 };
        let sleeps = admission.queue.may_sleep(patience, || admission.sensor.is_watched());
        if trigger.is_none() {
            trigger = admission.sensor.trigger();
        }
        let limit = if sleeps { None } else { Some(admission.sensor.period()) };
        alarm.sleep(limit, &mut trigger);
        if sleeps {
            // Rung, or woken by stalls: they are to be seen to their end.
            let _ = admission.queue.use_it();
        }
    }
}
