//! How many CPUs others leave to this process.
//!
//! A worker that is woken for ready tasks needs a CPU that nobody else has. Where another program computes on it, a client
//! of the same machine say, the worker takes turns with that one: what is gained by it is lost there, and every turn is a
//! switch. Which CPUs are busy at this moment says little (who has just been answered is always ready when one looks), so
//! what counts is how much others have used lately.
//!
//! Where they leave no whole CPU it is *scarce*, and for a process that has much to do the rule is the reverse. All threads take turns
//! with others then, and the kernel shares CPUs out by threads. A single one that serves has more than a thread's share, so whoever it
//! answers preempts it, at each answer; two have less, and answer all that is ready in one turn. So workers are woken as if there
//! were room, and as long as no closure is to make way for them, serve with the system's own slice. (With little to do
//! a thread has less than its share anyhow, and a short slice brings it onto a CPU at once.)
//!
//! It also decides how threads in closures make way for the duty thread ([`duty`](crate::duty)).
//!
//! Threads that have work anyway look, one of them every [`PERIOD`] at most: an idle runtime looks at nothing.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::next_look::NextLook;
use crate::os::{self, Affinity, BusyTime};
use crate::sync::Mutex;

/// How long the next look is put off by one, in nanoseconds: some ticks of the kernel's account.
const PERIOD: u64 = 100_000_000;
/// A look after a longer time says nothing about now.
const LONGEST: u64 = 1_000_000_000;
/// A CPU, in the unit of `others`.
const ONE: u32 = 100;
/// CPUs are scarce if others leave less than so much of one, in hundredths.
const SCARCE: u32 = 85;
/// They are not if this process uses less than so much of one, in hundredths.
const MUCH: u32 = 25;
/// What `others` is while it is not known: wake-ups go on, but closures do not rely on being alone.
const UNKNOWN: u32 = u32::MAX;

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Room {
    next_look: NextLook,
    /// How many CPUs others have used, in hundredths, or [`UNKNOWN`]. Relaxed: an estimate.
    others: AtomicU32,
    /// How many this process used between the last two looks, in hundredths. Relaxed: an estimate.
    own: AtomicU32,
    /// How many CPUs there are. Relaxed: an estimate.
    cpus: AtomicU32,
    account: Mutex<Account>,
}

#[derive(Debug)]
struct Account {
    /// `None` where nothing is known.
    busy: Option<BusyTime>,
    /// When the last look was, what all had used until then, and what this process had.
    before: Option<(u64, u64, u64)>,
}

impl Room {
    /// `mask`: the CPUs that the runtime may use; those of single threads may be fewer.
    pub(crate) fn new(mask: Option<Affinity>) -> Self {
        let account = Account { busy: mask.and_then(BusyTime::of), before: None };
        Self {
            next_look: NextLook::at(0),
            others: AtomicU32::new(UNKNOWN),
            own: AtomicU32::new(0),
            cpus: AtomicU32::new(0),
            account: Mutex::new(account),
        }
    }

    /// Whether there is a CPU, or most of one, for one thread more than so many that work now, or none for any.
    pub(crate) fn has_one_more(&self, now: u64, working: u32) -> bool {
        self.look(now);
        self.is_scarce() || leaves(self.cpus.load(Relaxed), self.others.load(Relaxed), working + 1)
    }

    /// Whether others are known to use half a CPU, as of the last look.
    pub(crate) fn has_others(&self) -> bool {
        (ONE / 2..UNKNOWN).contains(&self.others.load(Relaxed))
    }

    /// Whether this process has much to do and others leave it no whole CPU, as of the last look.
    pub(crate) fn is_scarce(&self) -> bool {
        let others = self.others.load(Relaxed);
        // Of a single CPU less may be left by who uses hardly any.
        self.has_others()
            && others.saturating_add(SCARCE) > self.cpus.load(Relaxed) * ONE
            && self.own.load(Relaxed) >= MUCH
    }

    /// Whether the machine is this process's own, but for less than half a CPU, as of the last look.
    pub(crate) fn is_quiet(&self) -> bool {
        self.others.load(Relaxed) < ONE / 2
    }

    /// Looks, if it is time to.
    pub(crate) fn look(&self, now: u64) {
        if self.next_look.claim(now, PERIOD) {
            self.measure(now);
        }
    }

    #[cold]
    fn measure(&self, now: u64) {
        let mut account = self.account.lock();
        let Some((busy, cpus)) = account.busy.as_mut().and_then(BusyTime::read) else {
            // Nobody is known to be there.
            self.next_look.come_back(now, u64::MAX);
            return;
        };
        let own = os::process_cpu_time();
        let before = account.before.replace((now, busy, own));
        self.cpus.store(cpus, Relaxed);
        let others = before.and_then(|(then, busy_then, own_then)| {
            let time = now.checked_sub(then).filter(|time| (1..=LONGEST).contains(time))?;
            let own = own.saturating_sub(own_then);
            self.own.store(used(time, own), Relaxed);
            Some(used(time, busy.saturating_sub(busy_then).saturating_sub(own)))
        });
        // Half of what was thought before, since the kernel's account is coarse.
        let mean = others.map(|others| match self.others.load(Relaxed) {
            UNKNOWN => others,
            before => before.midpoint(others),
        });
        self.others.store(mean.unwrap_or(UNKNOWN), Relaxed);
    }
}

/// How many CPUs were used, in hundredths, by who was busy for so long of a time.
fn used(time: u64, busy: u64) -> u32 {
    let hundredths = busy.saturating_mul(ONE.into()) / time;
    u32::try_from(hundredths).unwrap_or(UNKNOWN - 1).min(UNKNOWN - 1)
}

/// Whether so many threads have a CPU each, or the last of them at least half of one.
fn leaves(cpus: u32, others: u32, threads: u32) -> bool {
    others == UNKNOWN || threads.saturating_mul(ONE).saturating_add(others) <= cpus * ONE + ONE / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_are_counted_in_hundredths() {
        assert_eq!([used(100, 150), used(100, 0), used(1, u64::MAX)], [150, 0, UNKNOWN - 1]);
    }

    #[test]
    fn there_is_room_for_a_thread_that_has_half_a_cpu() {
        assert!(leaves(2, 0, 2) && leaves(2, 50, 2) && !leaves(2, 51, 2));
        assert!(leaves(2, 150, 1) && !leaves(2, 0, 3));
        let room = Room::new(None);
        assert!(!room.is_quiet(), "nothing is known");
        assert_eq!(
            [49, 50].map(|others| {
                room.others.store(others, Relaxed);
                room.is_quiet()
            }),
            [true, false]
        );
        assert!(leaves(0, UNKNOWN, 7), "nothing is known");
        room.others.store(UNKNOWN, Relaxed);
        assert!(!room.is_scarce(), "nothing is known");
    }

    #[test]
    fn where_no_whole_cpu_is_left_there_is_room_for_all() {
        let room = Room::new(None);
        room.cpus.store(2, Relaxed);
        room.next_look.come_back(0, u64::MAX);
        room.own.store(MUCH, Relaxed);
        let with = |others| {
            room.others.store(others, Relaxed);
            (room.is_scarce(), room.has_one_more(0, 1))
        };
        assert_eq!(
            [50, 51, 115, 116, 200].map(with),
            [(false, true), (false, false), (false, false), (true, true), (true, true)]
        );
        room.own.store(MUCH - 1, Relaxed);
        assert_eq!(with(200), (false, false), "little to do");
        room.own.store(MUCH, Relaxed);
        room.cpus.store(1, Relaxed);
        assert_eq!([49, 50].map(|others| with(others).0), [false, true], "a single CPU");
        assert!(room.has_others());
        room.others.store(UNKNOWN, Relaxed);
        assert!(!room.has_others());
    }

    #[test]
    fn a_look_is_worth_one_period() {
        let mask = Affinity::current().ok();
        let cpus = mask.as_ref().map_or(0, |mask| mask.cpus().len());
        // Begun by a thread that may not run everywhere.
        let begin = || {
            let _ = mask.as_ref().map(|mask| Affinity::of(mask.cpus().into_iter().take(1))?.apply());
            Room::new(mask.clone())
        };
        let room = std::thread::scope(|scope| scope.spawn(begin).join().unwrap());
        assert!(room.has_one_more(1, 0));
        assert_eq!(room.cpus.load(Relaxed) as usize, cpus);
        room.others.store(cpus as u32 * ONE, Relaxed);
        if cpus > 0 {
            assert!(!room.has_one_more(PERIOD, cpus as u32), "not looked yet");
            // A look after a long time forgets.
            assert!(room.has_one_more(PERIOD + 2 * LONGEST, cpus as u32) && !room.is_quiet());
        }
    }
}
