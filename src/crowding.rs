//! When a worker that is bound to a core is let go, and bound again: policy, without effects.
//!
//! A bound worker gains a warm cache, as long as the core is its own. When a neighbour, another process say, runs there too,
//! the worker waits in the core's queue though another core may be free, and so does the region whose half it has.
//! The kernel counts how long each thread has waited so: that time, against what it ran, says how *crowded* its core is.
//!
//! *Looking.* The thread itself looks, while it works, every [`WINDOW`] at most; one that sleeps looks at nothing. A window
//! in which it wanted to run for less than [`LEAST`] says nothing.
//!
//! *Letting go.* After [`PATIENCE`] crowded windows in a row the worker may run on any core. What is crowded depends on where
//! it could go ([`Share`]). If there are cores without a worker, one beside a single neighbour is. If each core has
//! its worker, an unbound one would share a core with another worker, and the kernel leaves them there: the neighbour would
//! have a core and they one together. Bound, the worker has half of a core more, so it stays unless it has hardly any.
//!
//! *Serving.* A worker that only polls short tasks gains little from its core, and may wake at any time: the kernel puts an
//! unbound one where nobody runs at that moment, say beside the client that it answers. So one that has not computed in
//! a window is let go as soon as it has waited for a [`NOTICED`]th of it, and bound again when it computes. Who runs
//! tasks that are long for polls ([`LONG_TASKS`]) computes: bound, each worker has half of a core beside a neighbour, and
//! unbound ones have one core together.
//!
//! *Binding again.* What an unbound worker waits says nothing about the core it left. So it is bound again on trial, after
//! a time that doubles ([`FIRST_HOLD`] to [`LONGEST_HOLD`]) each time that the core is crowded in the first windows after
//! that; one crowded window is enough then. After [`CALM`] windows that are not, the first time counts again. A
//! neighbour that stays costs one window in a hundred in the end.

use std::mem;

use crate::os::RunTimes;

/// How long a window lasts at least, in nanoseconds.
const WINDOW: u64 = 100_000_000;
/// How long a thread must have run or waited in a window, in nanoseconds.
const LEAST: u64 = 10_000_000;
/// How many crowded windows in a row it takes.
const PATIENCE: u32 = 2;
/// What part of the time in which a worker that only serves wanted to run it has waited, if it would do better elsewhere.
const NOTICED: u64 = 16;
/// Tasks that run for so long on average until they wait or end compute, in nanoseconds: some times what it takes to
/// answer a client. What they wait for a CPU meanwhile counts, too.
pub(crate) const LONG_TASKS: u64 = 32_000;
/// How long it is let go, in nanoseconds.
const FIRST_HOLD: u64 = 1_000_000_000;
const LONGEST_HOLD: u64 = 16_000_000_000;
/// How many windows without crowding it takes until the core is trusted again.
const CALM: u32 = 20;

/// How many quarters of the time in which a worker wanted to run it has waited, if its core is crowded. A fair share beside
/// one neighbour is two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Share {
    /// There are cores that neither a worker that works has taken nor a guest with help.
    WithSpareCores = 1,
    /// There are none.
    OfFullMachine = 3,
}

impl Share {
    /// Where so many of so many CPUs are taken, by the caller and others.
    pub(crate) fn on(cpus: usize, taken: u32) -> Self {
        if cpus > taken as usize { Self::WithSpareCores } else { Self::OfFullMachine }
    }
}

/// What a look has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// As it is.
    Stay,
    /// Let the thread run on any core.
    LetGo,
    /// Bind it again.
    Bind,
}

/// What one bound worker remembers; times are nanoseconds on the runtime's clock. See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crowding {
    next_look: u64,
    /// At the last look; `None` before the first, and after the thread was bound.
    before: Option<RunTimes>,
    crowded: u32,
    calm: u32,
    let_go: Option<LetGo>,
    hold: u64,
    /// Whether it has computed in this window.
    has_computed: bool,
}

/// Why a worker is let go, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LetGo {
    /// Its core was crowded: until then.
    Crowded(u64),
    /// It serves: until it computes.
    Serves,
}

impl Crowding {
    pub(crate) const fn new() -> Self {
        Self {
            next_look: 0,
            before: None,
            crowded: 0,
            calm: CALM,
            let_go: None,
            hold: FIRST_HOLD,
            has_computed: false,
        }
    }

    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.next_look
    }

    /// There is nothing to be seen.
    pub(crate) fn look_no_more(&mut self) {
        self.next_look = u64::MAX;
    }

    /// Whether the worker is let go.
    pub(crate) fn is_let_go(&self) -> bool {
        self.let_go.is_some()
    }

    /// The worker begins to compute, or has been found to.
    pub(crate) fn computes(&mut self) -> Binding {
        self.has_computed = true;
        if self.let_go != Some(LetGo::Serves) {
            return Binding::Stay;
        }
        (self.let_go, self.before, self.crowded) = (None, None, 0);
        Binding::Bind
    }

    /// A look at `now`, if it [is due](Self::is_due), by one that computes or does not.
    pub(crate) fn look(&mut self, now: u64, times: RunTimes, share: Share, computes: bool) -> Binding {
        self.next_look = now.saturating_add(WINDOW);
        match self.let_go {
            Some(LetGo::Crowded(until)) if now >= until => {
                *self = Self {
                    next_look: self.next_look,
                    hold: self.hold,
                    calm: 0,
                    before: Some(times),
                    ..Self::new()
                };
                return Binding::Bind;
            }
            Some(LetGo::Serves) if computes => return self.computes(),
            Some(_) => return Binding::Stay,
            None => {}
        }
        let Some(before) = self.before.replace(times) else {
            return Binding::Stay;
        };
        let ran = times.ran.saturating_sub(before.ran);
        let waited = times.waited.saturating_sub(before.waited);
        if ran.saturating_add(waited) < LEAST {
            // They add up until they say something.
            self.before = Some(before);
            return Binding::Stay;
        }
        let serves = !mem::replace(&mut self.has_computed, computes) && !computes;
        if serves && waited.saturating_mul(NOTICED) >= ran.saturating_add(waited) {
            self.let_go = Some(LetGo::Serves);
            return Binding::LetGo;
        }
        if waited.saturating_mul(4) < ran.saturating_add(waited).saturating_mul(share as u64) {
            self.crowded = 0;
            self.calm = (self.calm + 1).min(CALM);
            return Binding::Stay;
        }
        self.crowded += 1;
        let is_on_trial = self.calm < CALM;
        if !is_on_trial && self.crowded < PATIENCE {
            return Binding::Stay;
        }
        self.hold = if is_on_trial { (self.hold * 2).min(LONGEST_HOLD) } else { FIRST_HOLD };
        self.let_go = Some(LetGo::Crowded(now.saturating_add(self.hold)));
        Binding::LetGo
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A worker that works all the time.
    struct Busy {
        now: u64,
        times: RunTimes,
        crowding: Crowding,
        share: Share,
        /// At the looks.
        computes: bool,
    }

    impl Busy {
        fn new() -> Self {
            Self::on(Share::WithSpareCores)
        }

        fn on(share: Share) -> Self {
            let mut busy = Self {
                now: 0,
                times: RunTimes::default(),
                crowding: Crowding::new(),
                share,
                computes: false,
            };
            assert_eq!(busy.window(0), Binding::Stay);
            busy
        }

        /// A window in which it computes, and waits so many per cent.
        fn window(&mut self, waits: u64) -> Binding {
            assert_eq!(self.crowding.computes(), Binding::Stay);
            self.serving_window(waits)
        }

        /// A window of which it waits so many per cent.
        fn serving_window(&mut self, waits: u64) -> Binding {
            self.now += WINDOW;
            self.times.waited += WINDOW * waits / 100;
            self.times.ran += WINDOW * (100 - waits) / 100;
            assert!(
                self.crowding.is_due(self.now) && !self.crowding.is_due(self.now - 1) || self.now == WINDOW
            );
            self.crowding.look(self.now, self.times, self.share, self.computes)
        }

        /// How long it is let go.
        fn hold(&mut self) -> u64 {
            let start = self.now;
            while self.window(0) == Binding::Stay {}
            self.now - start
        }
    }

    #[test]
    fn a_crowded_worker_is_let_go_and_bound_again() {
        let mut busy = Busy::new();
        assert_eq!(busy.window(24), Binding::Stay);
        assert_eq!(busy.window(50), Binding::Stay);
        assert!(!busy.crowding.is_let_go());
        assert_eq!(busy.window(50), Binding::LetGo);
        assert!(busy.crowding.is_let_go());
        assert_eq!(busy.hold(), FIRST_HOLD);
        assert!(!busy.crowding.is_let_go());
    }

    #[test]
    fn where_each_core_has_its_worker_half_of_one_is_enough() {
        let mut busy = Busy::on(Share::OfFullMachine);
        for _ in 0..10 {
            assert_eq!(busy.window(74), Binding::Stay);
        }
        assert_eq!(busy.window(75), Binding::Stay);
        assert_eq!(busy.window(75), Binding::LetGo);
    }

    #[test]
    fn a_core_whose_worker_rests_is_to_spare() {
        assert_eq!(Share::on(2, 1), Share::WithSpareCores);
        assert_eq!(Share::on(2, 2), Share::OfFullMachine);
        let mut busy = Busy::on(Share::OfFullMachine);
        assert_eq!([(); 3].map(|()| busy.window(50)), [Binding::Stay; 3]);
        busy.share = Share::WithSpareCores;
        assert_eq!(busy.window(50), Binding::Stay);
        assert_eq!(busy.window(50), Binding::LetGo);
    }

    #[test]
    fn who_only_serves_is_let_go_until_it_computes() {
        let mut busy = Busy::on(Share::OfFullMachine);
        assert_eq!([6, 0].map(|waits| busy.serving_window(waits)), [Binding::Stay; 2]);
        assert_eq!(busy.window(7), Binding::Stay);
        assert_eq!(busy.serving_window(7), Binding::LetGo);
        assert!(busy.crowding.is_let_go());
        for _ in 0..1_000 {
            assert_eq!(busy.serving_window(0), Binding::Stay);
        }
        assert_eq!(busy.crowding.computes(), Binding::Bind);
        assert!(!busy.crowding.is_let_go());
        // What it waited elsewhere is no matter.
        assert_eq!([busy.window(100), busy.window(7), busy.serving_window(7)], {
            [Binding::Stay, Binding::Stay, Binding::LetGo]
        });
    }

    #[test]
    fn one_that_serves_is_bound_again_when_it_is_found_to_compute() {
        let mut busy = Busy::on(Share::OfFullMachine);
        assert_eq!(
            [0, 7, 7].map(|waits| busy.serving_window(waits)),
            [Binding::Stay, Binding::LetGo, Binding::Stay]
        );
        busy.computes = true;
        assert_eq!([7, 7].map(|waits| busy.serving_window(waits)), [Binding::Bind, Binding::Stay]);
    }

    #[test]
    fn a_closure_that_spans_windows_computes_in_each() {
        let mut busy = Busy::on(Share::OfFullMachine);
        busy.computes = true;
        assert_eq!([7, 50].map(|waits| busy.serving_window(waits)), [Binding::Stay; 2]);
        busy.computes = false;
        assert_eq!([50, 50].map(|waits| busy.serving_window(waits)), [Binding::Stay, Binding::LetGo]);
    }

    #[test]
    fn a_crowded_core_is_no_better_for_computing() {
        let mut busy = Busy::new();
        busy.window(50);
        assert_eq!(busy.window(50), Binding::LetGo);
        assert_eq!(busy.crowding.computes(), Binding::Stay);
        assert!(busy.crowding.is_let_go());
    }

    #[test]
    fn one_crowded_window_among_others_is_nothing() {
        let mut busy = Busy::new();
        for _ in 0..10 {
            assert_eq!(busy.window(90), Binding::Stay);
            assert_eq!(busy.window(10), Binding::Stay);
        }
    }

    #[test]
    fn a_neighbour_that_stays_is_tried_less_and_less_often() {
        let mut busy = Busy::new();
        busy.window(50);
        busy.window(50);
        let mut hold = FIRST_HOLD;
        for _ in 0..8 {
            assert_eq!(busy.hold(), hold);
            assert_eq!(busy.window(50), Binding::LetGo);
            hold = (hold * 2).min(LONGEST_HOLD);
        }
        // It goes: the core is trusted again after a while.
        busy.hold();
        for _ in 0..CALM {
            assert_eq!(busy.window(0), Binding::Stay);
        }
        assert_eq!(busy.window(50), Binding::Stay);
        assert_eq!(busy.window(50), Binding::LetGo);
        assert_eq!(busy.hold(), FIRST_HOLD);
    }

    #[test]
    fn a_worker_that_hardly_works_says_nothing_until_it_adds_up() {
        let mut crowding = Crowding::new();
        let mut times = RunTimes::default();
        let mut let_go = 0;
        for window in 0..20 {
            times.waited += LEAST / 4;
            let_go += u32::from(
                crowding.look(window * WINDOW, times, Share::OfFullMachine, true) == Binding::LetGo,
            );
        }
        assert_eq!(let_go, 1);
    }
}
