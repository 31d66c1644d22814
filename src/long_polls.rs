//! Says which tasks have held their worker up, while a program is being developed.
//!
//! The thread that polls takes the time itself, and reports when the poll has ended: once for each place that spawns
//! tasks. Off, which is the default, it costs a look at the configuration for each poll.

use std::collections::HashSet;
use std::panic::Location;
use std::time::Duration;

use crate::lifecycle::say;
use crate::os;
use crate::sync::Mutex;

/// The places that have been reported.
#[derive(Debug, Default)]
pub(crate) struct LongPolls {
    reported: Mutex<HashSet<&'static Location<'static>>>,
}

impl LongPolls {
    /// A poll begins of a task that was spawned at `site`. `limit`: nanoseconds.
    pub(crate) fn watch(&self, limit: u64, site: &'static Location<'static>) -> Watched<'_> {
        Watched { polls: self, limit, site, start: os::now() }
    }

    fn report(&self, site: &'static Location<'static>, lasted: u64) {
        if self.reported.lock().insert(site) {
            say(&format!(
                "beat: a poll of the task spawned at {site} lasted {:.1?}, and others on its worker waited. \
                 Move the work into `spawn_blocking_parallel`, or let it `.await` now and then. (Said once for each place.)\n",
                Duration::from_nanos(lasted)
            ));
        }
    }
}

/// A poll that is timed.
#[derive(Debug)]
#[must_use = "a poll that is watched must end"]
pub(crate) struct Watched<'a> {
    polls: &'a LongPolls,
    limit: u64,
    site: &'static Location<'static>,
    start: u64,
}

impl Watched<'_> {
    pub(crate) fn end(self) {
        let lasted = os::now().saturating_sub(self.start);
        if lasted > self.limit {
            self.polls.report(self.site, lasted);
        }
    }
}
