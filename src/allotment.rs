//! How many processors the process is given CPUs for, and who looks.
//!
//! The number of *active* processors follows the CPU quota of the process's control groups, the set of CPUs and the
//! affinity mask, as they change. It is never above the number that the runtime was built with, and never zero: that of
//! the CPUs, or of the quota, rounded up, if that is less. (With a quota of 1.5 CPUs one worker would leave a third of it
//! unused; two are stopped for a part of each period in which both work all the time.)
//!
//! *Who looks.* There is no timer: an idle runtime looks at nothing. Threads that have work anyway come by, at a beat, at
//! every so many polls, at the end of a closure, before they sleep, and the watchdog at a tick; the first of them after
//! [`PERIOD`] looks, and changes the limit ([*Withholding*](crate::processors#withholding)). So a limit that falls is
//! noticed before more work is begun than is under way, and one that rises by whoever is at work when there is more to do.
//!
//! *Which CPUs.* Workers that are not bound have the mask that their users and the kernel gave them, which lies within the
//! set of CPUs: all of their masks together count (users may have bound each to a CPU of its own). The mask of
//! a worker that is bound says where Beat has put it; there the set of CPUs counts, as far as it lies within the mask that
//! the runtime was built in.
//!
//! *Where.* Whoever looks also decides whether the threads [gather](crate::gathering): then their masks are the runtime's own
//! and not counted. While there is a quota to be looked after, the next look is sooner.
//!
//! A number of workers that the user has named stays as it is, unless told otherwise: who says four wants four, and may
//! know that they wait for something else than CPU most of the time.

use std::path::Path;

use crate::gathering::{self, Account, Advice, Gathered, Gathering};
use crate::local::{Role, Threads};
use crate::next_look::NextLook;
use crate::os::{self, Affinity, CpuGroups, ThreadClock, Throttled};
use crate::scheduler::Config;
use crate::sync::Mutex;
use crate::topology::CpuSet;

/// How long the next look is put off by one, in nanoseconds. What has changed is acted upon within 2 s.
const PERIOD: u64 = 500_000_000;

/// When to look next. See the [module](self).
#[derive(Debug)]
pub(crate) struct Allotment {
    next_look: NextLook,
    /// The control groups of this process; opened by the first who asks. A runtime's, and not the process's: in a child of
    /// `fork` a lock of the process's may be held for ever, and the files are still the parent's.
    groups: Mutex<Option<CpuGroups>>,
    /// Locked by who looks, under `groups`.
    gathering: Mutex<Gathering>,
}

impl Allotment {
    /// `follows`: whether anybody looks.
    pub(crate) fn new(follows: bool) -> Self {
        let next_look = NextLook::at(if follows { 0 } else { u64::MAX });
        Self { next_look, groups: Mutex::new(None), gathering: Mutex::default() }
    }

    pub(crate) fn is_due(&self, now: u64) -> bool {
        self.next_look.is_due(now)
    }

    /// Looks, unless another thread has come first, and calls `limit` with the number of processors. Gives its answer.
    pub(crate) fn look(
        &self,
        now: u64,
        config: &Config,
        threads: &Threads,
        limit: impl FnOnce(u32) -> bool,
    ) -> bool {
        if !self.next_look.claim(now, PERIOD) {
            return false;
        }
        // Kept: an earlier look must not have the last word.
        let mut groups = self.groups.lock();
        let groups = groups.get_or_insert_with(open);
        let quota = groups.quota();
        let gathered = &config.gathered;
        if config.pins.is_empty() && (quota.is_some() || gathered.is_gathered()) {
            self.look_at_quota(now, quota.and_then(whole), groups, config, threads);
        }
        let cpus = if config.pins.is_empty() {
            allowed(config.workers as usize, threads, gathered)
        } else {
            given(gathered.free(), groups.cpuset())
        };
        limit(processors(config.workers, quota, cpus))
    }

    /// Whether the threads are to be gathered, or let go: see [`gathering`](crate::gathering).
    fn look_at_quota(
        &self,
        now: u64,
        cpus: Option<u32>,
        groups: &mut CpuGroups,
        config: &Config,
        threads: &Threads,
    ) {
        let Some(throttled) = groups.throttled() else {
            // The process has left its group.
            if config.gathered.is_gathered() {
                self.gathering.lock().cannot_gather();
                config.gathered.let_go();
            }
            return;
        };
        self.next_look.come_back(now, gathering::WINDOW);
        let account = Account { used: os::process_cpu_time(), throttled: throttled.periods };
        let mut gathering = self.gathering.lock();
        match gathering.look(now, account, cpus) {
            Advice::Stay => {}
            Advice::Gather(cpus) => match place(cpus as usize, config.gathered.free(), threads) {
                Some(bound) => config.gathered.gather(bound),
                None => gathering.cannot_gather(),
            },
            Advice::LetGo => config.gathered.let_go(),
        }
    }

    /// How the kernel has throttled the process's own control group so far.
    pub(crate) fn throttled(&self) -> Option<Throttled> {
        self.groups.lock().get_or_insert_with(open).throttled()
    }
}

/// How many processors of so many workers are active.
fn processors(workers: u32, quota: Option<f64>, cpus: Option<usize>) -> u32 {
    let by_quota = quota.map_or(workers, rounded_up);
    let by_cpus = cpus.map_or(workers, |cpus| u32::try_from(cpus).unwrap_or(workers));
    workers.min(by_quota).min(by_cpus).max(1)
}

/// A quota in whole CPUs.
pub(crate) fn rounded_up(quota: f64) -> u32 {
    // Saturating, as casts of floating-point numbers are.
    (quota.ceil() as u32).max(1)
}

/// A quota that is a whole number of CPUs.
fn whole(quota: f64) -> Option<u32> {
    // As exact as its file is.
    (quota.fract() == 0.0 && quota >= 1.0).then_some(quota as u32)
}

/// So many of the CPUs that are `free`, where threads have been lately: there the kernel has found room for them. `None` if
/// there are no others, and if too few are known.
fn place(cpus: usize, free: Option<&Affinity>, threads: &Threads) -> Option<Affinity> {
    let free = free.filter(|mask| mask.cpus().len() > cpus)?;
    let threads = threads.all();
    let seen = threads.iter().filter_map(|thread| thread.last_cpu());
    let mut place = CpuSet::new();
    for cpu in os::current_cpu().into_iter().chain(seen).filter(|&cpu| free.contains(cpu)) {
        if place.len() < cpus {
            place.insert(cpu);
        }
    }
    Affinity::of(place.iter()).ok().filter(|_| place.len() == cpus)
}

/// The number of CPUs on which workers may run that are not bound by Beat; `None` if that is not known, and if there are
/// `enough`.
fn allowed(enough: usize, threads: &Threads, gathered: &Gathered) -> Option<usize> {
    let mut all = CpuSet::new();
    let threads = threads.all();
    let workers = threads.iter().filter(|thread| thread.role() == Role::Worker);
    for mask in workers.filter_map(|thread| thread.clock().and_then(ThreadClock::affinity)) {
        // One that the runtime has given says nothing of what there is.
        let given = gathered.free().filter(|_| gathered.is_own(&mask));
        all.extend(given.unwrap_or(&mask).cpus());
        if all.len() >= enough {
            return None;
        }
    }
    (!all.is_empty()).then(|| all.len())
}

/// The number of CPUs for workers that are bound; `None` if that is not known.
fn given(mask: Option<&Affinity>, cpuset: Option<&str>) -> Option<usize> {
    let mask: CpuSet = mask?.cpus().into_iter().collect();
    Some(mask.intersection(&cpuset?.parse().ok()?).len())
}

/// The control groups of this process.
fn open() -> CpuGroups {
    CpuGroups::open(Path::new("/"))
}

/// The CPU quota of this process, in CPUs.
pub(crate) fn quota() -> Option<f64> {
    open().quota()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_counts_rounded_up_and_never_zero() {
        assert_eq!(processors(8, None, None), 8);
        assert_eq!(processors(8, Some(0.1), None), 1);
        assert_eq!(processors(8, Some(1.0), None), 1);
        assert_eq!(processors(8, Some(1.5), Some(4)), 2);
        assert_eq!(processors(8, Some(6.0), Some(4)), 4);
        assert_eq!(processors(8, Some(1e300), Some(0)), 1);
        assert_eq!(processors(2, Some(64.0), Some(64)), 2);
    }

    #[test]
    fn one_thread_a_period_looks() {
        let config = crate::Runtime::builder().worker_threads(2).settle().unwrap();
        let threads = Threads::default();
        let allotment = Allotment::new(true);
        let mut looks = 0;
        for now in [0, 1, PERIOD - 1, PERIOD, PERIOD + 1, 2 * PERIOD] {
            if allotment.is_due(now) {
                allotment.look(now, &config, &threads, |limit| {
                    assert!((1..=2).contains(&limit));
                    looks += 1;
                    true
                });
            }
        }
        assert_eq!(looks, 3);
        assert!(!Allotment::new(false).is_due(u64::MAX - 1));
    }

    #[test]
    fn the_cpus_of_bound_workers_are_those_of_the_mask_in_the_set() {
        let mask = Affinity::of([1, 2, 3].into_iter()).unwrap();
        assert_eq!(given(Some(&mask), Some("0-2\n")), Some(2));
        assert_eq!(given(Some(&mask), Some("garbage")), None);
        assert_eq!(given(Some(&mask), None), None);
        assert_eq!(given(None, Some("0-2")), None);
    }
}
