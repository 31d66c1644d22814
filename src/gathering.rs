//! Keeping a process to as many CPUs as its quota pays for: when, and how its threads follow.
//!
//! All threads spend a CPU quota together, and once it is spent the kernel stops all of them for the rest of its period.
//! With a quota of one CPU one processor is active. But the thread in the driver, the watchdog, or one that has just handed
//! its processor over runs beside the holder now and then, on another CPU: enough to be stopped in most periods, light
//! requests included. Threads that have one CPU between them cannot spend more than one.
//!
//! *Gathering.* When the kernel has [throttled](crate::os::Throttled) the process, and the quota is a whole number of CPUs
//! (n threads on n CPUs spend no more than n; a fraction is spent early all the same), the workers, the duty thread and the
//! watchdog bind themselves to that many of the CPUs where the kernel has just had them run.
//!
//! *Letting go.* The CPU may be a neighbour's too, while others are free; or there is less to do. In both cases the process
//! uses less than its quota ([`USED`]): after [`PATIENCE`] such windows the threads are let go. Had there been less to do,
//! nothing is lost: who uses less than the quota is not stopped. A gathering that ends soon is tried again after a time that
//! doubles ([`FIRST_PAUSE`] to [`LONGEST_PAUSE`]). Another quota ends it too.
//!
//! *Following.* Each thread binds itself, when it comes to its loop or to a beat and finds that the version has changed
//! ([`Follower`]): no thread is bound behind its back, and one that sleeps is let be. Who has another mask than the one
//! that this gave it got it from its user, and keeps it. Threads that a bound one starts inherit its mask: the runtime's
//! own get back the one from before; users' keep it (it has room for the whole quota). A mask that the kernel has changed
//! meanwhile, with the set of CPUs, counts as a user's.
//!
//! Runtimes whose workers are pinned gather nobody: each worker has its CPU already.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::os::Affinity;
use crate::sync::Mutex;

/// How often there is something to be seen, in nanoseconds: the kernel's usual period.
pub(crate) const WINDOW: u64 = 100_000_000;
/// What part of the quota a process uses that is stopped by it alone, in per cent.
const USED: u64 = 90;
/// How many windows in a row must show less.
const PATIENCE: u32 = 3;
/// How long a gathering lasts if it was worth it, in nanoseconds.
const WORTH: u64 = 2_000_000_000;
/// How long none begins after one has ended, in nanoseconds.
const FIRST_PAUSE: u64 = 1_000_000_000;
const LONGEST_PAUSE: u64 = 16_000_000_000;

/// What the kernel has on the process so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// The CPU time of all threads, in nanoseconds.
    pub(crate) used: u64,
    /// Periods in which it was stopped.
    pub(crate) throttled: u64,
}

/// What a look has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// As it is.
    Stay,
    /// Bind the threads to so many CPUs.
    Gather(u32),
    /// Let them run everywhere.
    LetGo,
}

/// The policy; times are nanoseconds on the runtime's clock. See the [module](self).
#[derive(Debug)]
pub(crate) struct Gathering {
    before: Option<(u64, Account)>,
    /// On how many CPUs, and since when.
    gathered: Option<(u32, u64)>,
    low: u32,
    not_before: u64,
    pause: u64,
}

impl Default for Gathering {
    fn default() -> Self {
        Self { before: None, gathered: None, low: 0, not_before: 0, pause: FIRST_PAUSE }
    }
}

impl Gathering {
    /// A look at `now`. `cpus`: the quota, if it is a whole number of CPUs.
    pub(crate) fn look(&mut self, now: u64, account: Account, cpus: Option<u32>) -> Advice {
        let Some((then, before)) = self.before.replace((now, account)) else { return Advice::Stay };
        let Some((on, since)) = self.gathered else {
            let was_stopped = account.throttled > before.throttled && now >= self.not_before;
            return cpus.filter(|_| was_stopped).map_or(Advice::Stay, |cpus| {
                self.gathered = Some((cpus, now));
                self.low = 0;
                Advice::Gather(cpus)
            });
        };
        if cpus != Some(on) {
            self.gathered = None;
            return Advice::LetGo;
        }
        let used = account.used.saturating_sub(before.used);
        let quota = now.saturating_sub(then).saturating_mul(on.into());
        self.low = if used.saturating_mul(100) < quota.saturating_mul(USED) { self.low + 1 } else { 0 };
        if self.low < PATIENCE {
            return Advice::Stay;
        }
        self.gathered = None;
        let was_short = now.saturating_sub(since) < WORTH;
        self.pause = if was_short { (self.pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
        self.not_before = now.saturating_add(self.pause);
        Advice::LetGo
    }

    /// There were no such CPUs.
    pub(crate) fn cannot_gather(&mut self) {
        self.gathered = None;
    }
}

/// Where the threads of a runtime are to run, for them to follow.
#[derive(Debug)]
pub(crate) struct Gathered {
    /// Changes with `masks`; zero before the first change. Relaxed: who comes late follows late.
    version: AtomicU32,
    masks: Mutex<Masks>,
    /// The mask that the runtime was built in; `None` if that is not known.
    built_in: Option<Affinity>,
    /// Whether workers are pinned: nobody is gathered, and other threads run where the runtime was built.
    pinned: bool,
}

#[derive(Debug, Default)]
struct Masks {
    /// Where the threads are to run, or were to run last.
    place: Option<Affinity>,
    /// They are let go.
    is_over: bool,
}

impl Masks {
    /// Where the threads are to run now, unless they are let go.
    fn bound(&self) -> Option<&Affinity> {
        self.place.as_ref().filter(|_| !self.is_over)
    }
}

impl Gathered {
    pub(crate) fn new(built_in: Option<Affinity>, pinned: bool) -> Self {
        Self { version: AtomicU32::new(0), masks: Mutex::default(), built_in, pinned }
    }

    /// The mask of threads that are neither pinned nor gathered.
    pub(crate) fn free(&self) -> Option<&Affinity> {
        self.built_in.as_ref()
    }

    /// Whether this mask is one that a thread has from the runtime, and not from its user.
    pub(crate) fn is_own(&self, mask: &Affinity) -> bool {
        self.pinned || self.masks.lock().place.as_ref() == Some(mask)
    }

    /// Whether the threads are to run on fewer CPUs than they may.
    pub(crate) fn is_gathered(&self) -> bool {
        self.masks.lock().bound().is_some()
    }

    /// The threads are to run where `bound` says.
    pub(crate) fn gather(&self, bound: Affinity) {
        self.change(|masks| *masks = Masks { place: Some(bound), is_over: false });
    }

    /// They may run again where they ran before.
    pub(crate) fn let_go(&self) {
        self.change(|masks| masks.is_over = true);
    }

    fn change(&self, change: impl FnOnce(&mut Masks)) {
        let mut masks = self.masks.lock();
        change(&mut masks);
        self.version.fetch_add(1, Relaxed);
    }

    /// The calling thread, which has just been started by one of the runtime's, loses a mask that it has inherited and that
    /// is no user's.
    pub(crate) fn leave(&self) {
        let Some(free) = &self.built_in else { return };
        let is_free = !self.pinned && self.version.load(Relaxed) == 0;
        if !is_free && Affinity::current().is_ok_and(|mask| self.is_own(&mask)) {
            // Kept, it would crowd that core, no worse.
            let _ = free.apply();
        }
    }
}

/// What one thread has followed.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    version: u32,
    /// The mask that it was given here, unless it was let go.
    given: Option<Affinity>,
}

impl Follower {
    /// Binds the calling thread, or lets it go, if it has not followed yet.
    #[inline]
    pub(crate) fn follow(&mut self, gathered: &Gathered) {
        if self.version != gathered.version.load(Relaxed) {
            self.follow_change(gathered);
        }
    }

    #[cold]
    fn follow_change(&mut self, gathered: &Gathered) {
        let (version, bound) = {
            let masks = gathered.masks.lock();
            (gathered.version.load(Relaxed), masks.bound().cloned())
        };
        self.version = version;
        let Some(free) = gathered.free() else { return };
        let own = self.given.take();
        if Affinity::current().is_ok_and(|mask| mask == *own.as_ref().unwrap_or(free)) {
            // A refusal leaves the mask as it is: throttled more often, or slower, nothing lost.
            let _ = bound.as_ref().unwrap_or(free).apply();
            self.given = bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process under a quota of one CPU of two.
    #[derive(Default)]
    struct Process {
        now: u64,
        account: Account,
        gathering: Gathering,
    }

    impl Process {
        fn new() -> Self {
            let mut process = Self::default();
            assert_eq!(process.window(100, true), Advice::Stay);
            process
        }

        /// A window in which it uses so many per cent of the quota.
        fn window(&mut self, used: u64, throttled: bool) -> Advice {
            self.window_with(used, throttled, Some(1))
        }

        fn window_with(&mut self, used: u64, throttled: bool, cpus: Option<u32>) -> Advice {
            self.now += WINDOW;
            self.account.used += WINDOW * used / 100;
            self.account.throttled += u64::from(throttled);
            self.gathering.look(self.now, self.account, cpus)
        }

        /// For how many windows of a throttled process nothing changes.
        fn pause(&mut self) -> u64 {
            let mut windows = 0;
            while self.window(100, true) == Advice::Stay {
                windows += 1;
            }
            windows
        }
    }

    #[test]
    fn who_is_throttled_is_gathered_for_as_long_as_the_quota_is_used() {
        let mut process = Process::new();
        assert_eq!(process.window(100, false), Advice::Stay);
        assert_eq!(process.window(100, true), Advice::Gather(1));
        for _ in 0..30 {
            assert_eq!(process.window(90, false), Advice::Stay);
        }
        let least = [89, 89, 100, 89, 89].map(|used| process.window(used, false));
        assert_eq!(least, [Advice::Stay; 5]);
        assert_eq!(process.window(89, false), Advice::LetGo);
        // It was worth it: the shortest pause.
        assert_eq!(process.pause(), FIRST_PAUSE / WINDOW - 1);
    }

    #[test]
    fn a_neighbour_that_stays_is_tried_less_and_less_often() {
        let mut process = Process::new();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push((process.pause() + 1) * WINDOW);
            let windows = [50; 3].map(|used| process.window(used, false));
            assert_eq!(windows, [Advice::Stay, Advice::Stay, Advice::LetGo]);
        }
        assert_eq!(pauses[1..], [2, 4, 8, 16, 16].map(|times| times * FIRST_PAUSE));
    }

    #[test]
    fn another_quota_ends_it_and_a_fraction_begins_none() {
        let mut process = Process::new();
        assert_eq!(process.window_with(100, true, None), Advice::Stay);
        assert_eq!(process.window(100, true), Advice::Gather(1));
        assert_eq!(process.window_with(100, false, None), Advice::LetGo);
        assert_eq!(process.window(100, true), Advice::Gather(1));
        assert_eq!(process.window_with(100, false, Some(2)), Advice::LetGo);
        process.window(100, true);
        process.gathering.cannot_gather();
        assert_eq!(process.window(100, true), Advice::Gather(1));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_follow_unless_their_user_has_bound_them() {
        // On a thread of its own, whose mask goes with it.
        let follow = || {
            let free = Affinity::current().unwrap();
            let cpus = free.cpus();
            let bound = Affinity::of(cpus.iter().copied().take(1)).unwrap();
            let gathered = Gathered::new(Some(free.clone()), false);
            let mut follower = Follower::default();
            gathered.gather(bound.clone());
            assert!(gathered.is_gathered() && gathered.is_own(&bound));
            follower.follow(&gathered);
            assert_eq!(Affinity::current().unwrap(), bound);
            gathered.let_go();
            assert!(!gathered.is_gathered());
            follower.follow(&gathered);
            assert_eq!(Affinity::current().unwrap(), free);
            let last = Affinity::of(cpus.iter().copied().rev().take(1)).unwrap();
            gathered.gather(bound.clone());
            follower.follow(&gathered);
            if cpus.len() > 1 {
                last.apply().unwrap();
                gathered.let_go();
                follower.follow(&gathered);
                assert_eq!(Affinity::current().unwrap(), last);
            }
            // One that has just been started, by one that was bound, and by one that its user has bound.
            bound.apply().unwrap();
            gathered.leave();
            assert_eq!(Affinity::current().unwrap(), free);
            last.apply().unwrap();
            gathered.leave();
            assert_eq!(Affinity::current().unwrap(), last);
        };
        std::thread::spawn(follow).join().unwrap();
    }
}
