//! When a thread that forks looks at the clock, and what it does then: policy, without effects.
//!
//! A fork costs no clock read. One word per thread, the *countdown*, is decremented when a job that was not promoted
//! is popped (a plain load and store), and tested there and at each push; below zero a cold path reads the clock, sets
//! the countdown so that it comes by about [`LOOKS_PER_PERIOD`] times in a period, and acts. Anyone may store
//! [`ASKED`] to be heard at the next fork. Pops count and not pushes, because a recursion that has only pops left to do
//! (down a list, `join(rest, item)`) must be heard too; one that only pushes ends within a stack's depth.
//!
//! *Tuning the countdown.* The rate of forks is not known, and changes. From the time since the last look a
//! look extrapolates how many forks fill the wanted interval, but grows at most [`GROWTH`]-fold and never
//! beyond [`LONGEST`]: a phase of nanosecond forks followed by one of millisecond forks must not go unheard.
//!
//! *Deciding.* A promotion is worth its cost (an allocation, a steal, a switch for the join that waits: some
//! microseconds) only if somebody takes it. So: if an idle thread searches, or a joiner looks for a part of the half
//! that runs here ([`leap`](crate::leap)), it is served as soon as the account has recovered ([`REST`]), a searcher not
//! before the region has lasted [`FIRST_GIFT`]; if all that could help are asleep, once a period, and not before the
//! region has lasted [`FIRST_WAKE`], or, if regions from its place have been short so far, before it is *long*; if nobody is
//! idle, never. Source: heartbeat scheduling (Acar et al., PLDI 2018), with the idle thief in place of the timer.
//!
//! *What a wake-up costs* its waker differs tenfold between machines, so it is measured. A region is *long* if it lasts
//! longer than [`FIRST_WAKE`] and two wake-ups together.
//!
//! *Small jobs.* The oldest job is the largest in a recursion that halves; down a list it is a single item. Whoever is
//! back soon got little: the next gift has twice as many jobs, up to [`MOST_JOBS`].
//!
//! *Coarse work.* A thread is heard at its forks only, and two halves of ten milliseconds have one fork between them,
//! the first. So the first fork of an item of work looks at the clock too (the first that has something to put on offer: a
//! loop of one block has not, nor has a job of a scope), and if items from the same place have been long so far
//! ([`Lengths`]), the item is *eager*: each of its first forks is put on offer at once and somebody woken for it, one for
//! each that does not compute. If they have not, nobody is woken before the item
//! turns out to be long. Of a place that is not known yet the best is hoped. An item's length is the work in it
//! ([`WorkClock`]) and not its time: an eager item waits for whoever it has woken, so by its time it would be long, and eager
//! again, for ever.
//!
//! *Loops that do not fork inside.* Loops of rayon's fork a few times and then run long leaves, during which nobody is
//! heard: halves that are latent then are out of reach, also for a thread that becomes idle only later. So an item whose
//! first fork is one of rayon's is *published*: its first [`PUBLISHED`] forks go on offer whoever is idle. So is a part
//! of a half that a joiner runs on top of such an item.

use std::cell::Cell;
use std::time::Duration;

use crate::processors::Census;

/// The countdown at the start of an item of work: its first fork looks at the clock.
pub const FIRST: i32 = DUE;
/// A countdown that is over.
const DUE: i32 = -1;
/// The countdown after the first look, at most: less if forks were rare in the item before. Sixteen coarse leaves in which
/// nobody is heard are a long time for a duty thread that waits for the core.
const SECOND: u64 = 16;
/// What somebody who wants to be heard stores: below what a countdown reaches by itself.
pub const ASKED: i32 = -1_000;
/// How much the countdown may grow from one look to the next.
const GROWTH: u64 = 4;
/// The countdown's upper end.
const LONGEST: u64 = 512;
/// How often a thread that forks all the time looks at the clock within a period.
const LOOKS_PER_PERIOD: u64 = 4;
/// How long a region must have lasted before it wakes a sleeping thread, in ns.
const FIRST_WAKE: u64 = 20_000;
/// How many forks of a published item go on offer: a path down the tree into which rayon splits a loop, and half of it.
const PUBLISHED: u32 = 8;
/// How long a region must have lasted before it gives work to a thread that searches, in ns.
const FIRST_GIFT: u64 = 2_000;
/// How long a thread works between two gifts to those who search, in ns: about ten times what a gift costs it.
const REST: u64 = 2_000;
/// How many jobs a gift may have.
const MOST_JOBS: u32 = 64;

/// Times of one thread's heartbeat, in nanoseconds on the runtime's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    period: u64,
    /// When the item of work at hand was first looked at; `None` before.
    start: Option<u64>,
    last_look: u64,
    last_promotion: u64,
    last_yield: u64,
    countdown: u64,
    /// How many forks of an eager item have still to be put on offer.
    eager: u32,
    /// Whether the item's forks are published, and how many of them have still to be.
    publishes: bool,
    published: u32,
    /// How many jobs the last gift had.
    gift: u32,
    /// After how long the item of work wakes somebody if it is not eager.
    first_wake: u64,
}

/// What a look at the clock decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Go on.
    Nothing,
    /// Put so many of the oldest latent jobs on offer for those who search.
    Promote(u32),
    /// Put it on offer for whoever comes by.
    Publish,
    /// Put it on offer unless there is one, and wake a sleeping thread if none is about.
    PromoteAndWake,
    /// Put it on offer beside others, and wake one more thread.
    Spread,
}

impl Heartbeat {
    pub(crate) fn new(period: Duration) -> Self {
        Self {
            period: u64::try_from(period.as_nanos()).unwrap_or(u64::MAX),
            start: None,
            last_look: 0,
            last_promotion: 0,
            last_yield: 0,
            countdown: SECOND,
            eager: 0,
            publishes: false,
            published: 0,
            gift: 1,
            first_wake: FIRST_WAKE,
        }
    }

    /// A new item of work has begun; the look that follows is its first. `expected`: how long it may last, `wake`: what
    /// a wake-up takes the waker, in ns.
    pub(crate) fn begin_item(&mut self, expected: u64, wake: u64, census: Census, publish: bool) {
        self.start = None;
        self.publishes = publish;
        self.published = if publish { PUBLISHED } else { 0 };
        let long = FIRST_WAKE + 2 * wake;
        let is_long = expected >= long;
        self.eager = if is_long { helpers(census) } else { 0 };
        self.first_wake = if is_long { FIRST_WAKE } else { long };
    }

    /// Whether the item of work is published.
    pub(crate) fn publishes(&self) -> bool {
        self.publishes
    }

    /// A part of a half has begun that a joiner runs on top of a published item: the look that follows is its first.
    pub(crate) fn begin_part(&mut self) {
        self.published = PUBLISHED;
    }

    /// A look at `now`; returns the new countdown. `asked`: somebody wanted to be heard before the countdown
    /// was over, so it says nothing about the rate of forks.
    pub(crate) fn look(&mut self, now: u64, asked: bool) -> i32 {
        let wanted = self.period / LOOKS_PER_PERIOD;
        let next = match self.start {
            None => {
                self.start = Some(now);
                self.countdown.min(SECOND)
            }
            Some(_) if asked => self.countdown,
            // The forks on the way down to the first leaf say nothing about how long the leaves are.
            Some(_) if self.published > 0 => self.countdown.min(SECOND),
            Some(_) => {
                let elapsed = now.saturating_sub(self.last_look).max(1);
                (self.countdown.saturating_mul(wanted) / elapsed).clamp(1, self.countdown * GROWTH)
            }
        };
        self.last_look = now;
        self.countdown = next.min(LONGEST);
        // An eager item looks at each fork.
        if self.eager + self.published > 0 { DUE } else { self.countdown as i32 }
    }

    /// How long the item of work has lasted, as far as it is known.
    pub(crate) fn age(&self, now: u64) -> u64 {
        self.start.map_or(0, |start| now.saturating_sub(start))
    }

    /// Whether the item has lasted for a period: it is no short poll any more.
    pub(crate) fn is_long(&self, now: u64) -> bool {
        self.age(now) >= self.period
    }

    /// Until now the thread slept.
    pub(crate) fn slept_until(&mut self, now: u64) {
        self.last_yield = now;
    }

    /// Whether it is time to let a waiting duty thread have the core: not before the thread has been busy for a period.
    pub(crate) fn yield_is_due(&mut self, now: u64) -> bool {
        let due = now.saturating_sub(self.last_yield) >= self.period;
        if due {
            self.last_yield = now;
        }
        due
    }

    /// Nothing may be put on offer here: an eager item need not look at each fork for it.
    pub(crate) fn calm(&mut self) {
        self.eager = 0;
        self.published = 0;
    }

    /// Decides at `now`. `offered`: an earlier offer of this thread still waits for a taker. `wanted`: a joiner looks for a
    /// part of the half that runs here.
    pub(crate) fn decide(&mut self, now: u64, census: Census, offered: bool, wanted: bool) -> Beat {
        if self.eager > 0 {
            if helpers(census) > 0 {
                self.eager -= 1;
                self.last_promotion = now;
                self.published = self.published.saturating_sub(1);
                return Beat::Spread;
            }
            self.eager = 0;
        }
        if self.published > 0 {
            self.published -= 1;
            self.last_promotion = now;
            return Beat::Publish;
        }
        let age = self.age(now);
        let since = now.saturating_sub(self.last_promotion);
        let beat = if wanted || census.searching > 0 {
            if !offered && (wanted || age >= FIRST_GIFT) && since >= REST {
                let is_back_soon = since < self.period / LOOKS_PER_PERIOD;
                self.gift = if is_back_soon { (self.gift * 2).min(MOST_JOBS) } else { 1 };
                Beat::Promote(self.gift)
            } else {
                Beat::Nothing
            }
        } else if census.idle > 0 && age >= self.first_wake && since >= self.period {
            Beat::PromoteAndWake
        } else {
            Beat::Nothing
        };
        if beat != Beat::Nothing {
            self.last_promotion = now;
        }
        beat
    }
}

/// Reads how much work a thread has done, in nanoseconds, of which only differences mean something: its time, but
/// instead of a wait for a half the work that was in that half.
#[derive(Debug, Default)]
pub(crate) struct WorkClock {
    /// Wraps: it is behind the time after waits.
    ahead: Cell<u64>,
}

impl WorkClock {
    pub(crate) fn read(&self, now: u64) -> u64 {
        now.wrapping_add(self.ahead.get())
    }

    /// A wait is over that began at the reading `start`, for a half with so much work.
    pub(crate) fn waited(&self, now: u64, start: u64, work: u64) {
        self.ahead.set(start.wrapping_add(work).wrapping_sub(now));
    }
}

/// How many threads would take work, or could be woken for it: also those that serve, which are about to look for some
/// before they sleep, or to search. (The thread itself is one of them while it does not compute: an offer too many.)
fn helpers(census: Census) -> u32 {
    census.idle + census.serving()
}

/// How long items of work have lasted, by the place they come from: a small table, in which a newcomer drives out
/// whoever has its slot.
#[derive(Debug, Default)]
pub(crate) struct Lengths {
    slots: [Cell<Length>; Self::SLOTS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Length {
    place: usize,
    nanoseconds: u64,
}

impl Lengths {
    const SLOTS: usize = 16;

    fn slot(&self, place: usize) -> &Cell<Length> {
        // Places are addresses of static data: the low bits say little, the high ones less.
        &self.slots[(place ^ place >> 4 ^ place >> 8) % Self::SLOTS]
    }

    /// How long the next item from `place` may last, in ns; the longest there is if nothing is known.
    pub(crate) fn expected(&self, place: usize) -> u64 {
        self.known(place).unwrap_or(u64::MAX)
    }

    /// The same, if anything is known.
    pub(crate) fn known(&self, place: usize) -> Option<u64> {
        let length = self.slot(place).get();
        (length.place == place && length.nanoseconds > 0).then_some(length.nanoseconds)
    }

    /// An item from `place` has lasted so long.
    pub(crate) fn measured(&self, place: usize, nanoseconds: u64) {
        let slot = self.slot(place);
        let mean = self
            .known(place)
            .map_or(nanoseconds, |known| known.saturating_mul(3).saturating_add(nanoseconds) / 4);
        slot.set(Length { place, nanoseconds: mean.max(1) });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const WAKE: u64 = 10_000;
    /// From how long on an item is long.
    const LONG: u64 = FIRST_WAKE + 2 * WAKE;

    fn census(idle: u32, searching: u32) -> Census {
        Census { total: 1 + idle + searching, idle, computing: 1, searching }
    }

    fn started() -> Heartbeat {
        let mut beat = Heartbeat::new(Duration::from_micros(100));
        beat.look(1_000_000, false);
        beat
    }

    #[test]
    fn nothing_is_promoted_when_nobody_is_idle() {
        assert_eq!(started().decide(9_000_000, census(0, 0), false, false), Beat::Nothing);
    }

    #[test]
    fn a_sleeper_is_woken_only_after_the_region_has_lasted() {
        let mut beat = started();
        assert_eq!(beat.decide(1_000_000 + FIRST_WAKE - 1, census(1, 0), false, false), Beat::Nothing);
        assert_eq!(beat.decide(1_000_000 + FIRST_WAKE, census(1, 0), false, false), Beat::PromoteAndWake);
        assert_eq!(beat.decide(1_000_000 + FIRST_WAKE + 1, census(1, 0), false, false), Beat::Nothing);
    }

    #[test]
    fn an_eager_item_spreads_to_all_who_are_idle_and_then_beats_as_any_other() {
        let mut beat = Heartbeat::new(Duration::from_micros(100));
        beat.begin_item(LONG, WAKE, census(1, 1), false);
        assert_eq!(beat.look(1_000_000, false), DUE);
        assert_eq!(beat.decide(1_000_000, census(2, 0), false, false), Beat::Spread);
        assert_eq!(beat.decide(1_000_001, census(1, 1), true, false), Beat::Spread);
        assert_eq!(beat.decide(1_000_002, census(1, 0), false, false), Beat::Nothing);
        assert!(beat.look(1_000_003, false) > 0);
        // Somebody else has taken them meanwhile.
        beat.begin_item(LONG, WAKE, census(2, 0), false);
        beat.look(2_000_000, false);
        assert_eq!(beat.decide(2_000_000, census(0, 0), false, false), Beat::Nothing);
        beat.begin_item(LONG - 1, WAKE, census(2, 0), false);
        beat.look(3_000_000, false);
        assert_eq!(beat.decide(3_000_000, census(2, 0), false, false), Beat::Nothing);
    }

    #[test]
    fn nobody_is_woken_before_an_item_from_a_place_of_short_ones_is_long() {
        let mut beat = Heartbeat::new(Duration::from_micros(100));
        beat.begin_item(1_000, WAKE, census(1, 0), false);
        beat.look(1_000_000, false);
        assert_eq!(beat.decide(1_000_000 + LONG - 1, census(1, 0), false, false), Beat::Nothing);
        assert_eq!(beat.decide(1_000_000 + LONG, census(1, 0), false, false), Beat::PromoteAndWake);
    }

    #[test]
    fn where_a_wake_up_is_dear_items_are_long_later() {
        for wake in [2_000, 30_000] {
            let mut beat = Heartbeat::new(Duration::from_micros(100));
            let is_eager = |beat: &mut Heartbeat, expected| {
                beat.begin_item(expected, wake, census(1, 0), false);
                beat.eager > 0
            };
            let long = FIRST_WAKE + 2 * wake;
            assert!(!is_eager(&mut beat, long - 1) && is_eager(&mut beat, long));
        }
    }

    #[test]
    fn a_published_item_offers_its_first_forks_whoever_is_idle() {
        let mut beat = Heartbeat::new(Duration::from_micros(100));
        beat.begin_item(1, WAKE, census(0, 0), true);
        for fork in 0..u64::from(PUBLISHED) {
            assert_eq!(beat.look(1_000_000 + fork, false), DUE);
            assert_eq!(beat.decide(1_000_000 + fork, census(0, 0), fork > 0, false), Beat::Publish);
        }
        assert!(beat.look(1_000_100, false) > 0);
        assert_eq!(beat.decide(1_000_100, census(0, 0), true, false), Beat::Nothing);
    }

    #[test]
    fn a_part_that_a_joiner_runs_is_published_as_an_item_is() {
        let mut beat = Heartbeat::new(Duration::from_micros(100));
        beat.begin_item(1, WAKE, census(0, 0), true);
        let looks = |beat: &mut Heartbeat| {
            let mut published = 0;
            while beat.look(1_000_000, true) == DUE {
                assert_eq!(beat.decide(1_000_000, census(0, 0), true, false), Beat::Publish);
                published += 1;
            }
            published
        };
        assert_eq!(looks(&mut beat), PUBLISHED);
        assert!(beat.publishes());
        beat.begin_part();
        assert_eq!(looks(&mut beat), PUBLISHED);
        beat.begin_item(1, WAKE, census(0, 0), false);
        assert!(!beat.publishes());
    }

    #[test]
    fn lengths_are_known_by_place() {
        let lengths = Lengths::default();
        assert_eq!(lengths.expected(64), u64::MAX);
        lengths.measured(64, 1_000);
        assert_eq!(lengths.expected(64), 1_000);
        lengths.measured(64, 5_000);
        assert_eq!(lengths.expected(64), 2_000);
        assert_eq!(lengths.expected(128), u64::MAX);
    }

    #[test]
    fn the_core_is_left_to_the_duty_thread_once_a_period_and_not_right_after_sleep() {
        let mut beat = started();
        beat.slept_until(1_000_000);
        assert!(!beat.yield_is_due(1_099_999));
        assert!(beat.yield_is_due(1_100_000));
        assert!(!beat.yield_is_due(1_199_999));
        assert!(beat.yield_is_due(1_200_000));
    }

    #[test]
    fn a_wait_counts_as_the_work_that_was_waited_for() {
        let clock = WorkClock::default();
        let begin = clock.read(1_000);
        clock.waited(51_000, clock.read(1_500), 700);
        assert_eq!(clock.read(51_100) - begin, 500 + 700 + 100);
        clock.waited(52_000, clock.read(51_100), 9_000);
        assert_eq!(clock.read(52_000) - begin, 1_300 + 9_000);
    }

    #[test]
    fn a_searcher_is_served_unless_an_offer_is_open() {
        assert_eq!(started().decide(1_010_000, census(0, 1), true, false), Beat::Nothing);
        assert_eq!(started().decide(1_010_000, census(0, 1), false, false), Beat::Promote(1));
    }

    #[test]
    fn a_joiner_is_served_at_the_first_fork_of_its_half() {
        let mut beat = started();
        assert_eq!(beat.decide(1_000_000, census(0, 0), false, true), Beat::Promote(1));
        assert_eq!(beat.decide(1_000_000 + REST - 1, census(0, 0), false, true), Beat::Nothing);
        assert_eq!(beat.decide(1_000_000 + REST, census(0, 0), true, true), Beat::Nothing);
    }

    #[test]
    fn whoever_is_back_soon_gets_twice_as_many_jobs() {
        let mut beat = started();
        let mut now = 1_010_000;
        assert_eq!(beat.decide(now, census(0, 1), false, false), Beat::Promote(1));
        assert_eq!(beat.decide(now + REST - 1, census(0, 1), false, false), Beat::Nothing);
        for jobs in [2, 4, 8, 16, 32, MOST_JOBS, MOST_JOBS] {
            now += REST;
            assert_eq!(beat.decide(now, census(0, 1), false, false), Beat::Promote(jobs));
        }
        now += 100_000;
        assert_eq!(beat.decide(now, census(0, 1), false, false), Beat::Promote(1));
    }

    #[test]
    fn an_item_after_one_of_dear_forks_is_looked_at_from_the_first() {
        let mut beat = started();
        for look in 1..5 {
            beat.look(1_000_000 + look * 50_000, false);
        }
        beat.begin_item(0, 0, census(0, 0), false);
        assert_eq!(beat.look(2_000_000, false), 1);
        // Cheap ones are soon left alone.
        let looks = [2_000_010, 2_000_030, 2_000_090].map(|now| beat.look(now, false));
        assert_eq!(looks, [4, 16, 64]);
        beat.begin_item(0, 0, census(0, 0), false);
        assert_eq!(beat.look(3_000_000, false) as u64, SECOND);
    }

    #[test]
    fn the_countdown_grows_for_cheap_forks_and_falls_to_one_for_dear_ones() {
        let mut beat = started();
        let mut now = 1_000_000;
        let mut countdown = 0;
        for _ in 0..10 {
            now += 100;
            countdown = beat.look(now, false);
        }
        assert_eq!(countdown as u64, LONGEST);
        assert_eq!(beat.look(now + 1_000_000_000, false), 1);
    }
}
