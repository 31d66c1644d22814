//! From readings to a level: a score, four thresholds, hysteresis, and a time for which relief must last.
//!
//! A level rises at once: memory does not wait. It falls when the score has been below the threshold, less the
//! [hysteresis](HYSTERESIS), for the hold time, and then to the highest level that was due in that time.

use std::time::Duration;

use super::source::{Reading, Stall};

/// How short memory is.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// use beat::pressure::Level;
///
/// let with_details = beat::pressure().level < Level::High;
/// println!("the answer will be {}", if with_details { "long" } else { "short" });
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// There is plenty: admission costs one load.
    #[default]
    None,
    /// Admission counts.
    Low,
    /// Background work is refused where it does not wait.
    Medium,
    /// New connections wait ([`accept_permitted`](crate::admission::accept_permitted)).
    High,
    /// Only the guaranteed minimum runs.
    Critical,
}

impl Level {
    pub(crate) const ALL: [Self; 5] = [Self::None, Self::Low, Self::Medium, Self::High, Self::Critical];

    fn next(self) -> Self {
        Self::ALL[(self as usize + 1).min(Self::ALL.len() - 1)]
    }
}

/// What a level is made from. Each policy gives a score from 0 to 100, and the thresholds are scores.
///
/// ```
/// use beat::pressure::{Policy, PressureConfig};
///
/// let stalls = PressureConfig::new().policy(Policy::StallOnly).thresholds([1.0, 5.0, 20.0, 50.0]);
/// let runtime = beat::Runtime::builder().pressure(stalls).build()?;
/// # drop(runtime);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Policy {
    /// The score is the used share of the limit in per cent; stalls of a tenth of the time raise a level that is not
    /// none by one. Only this policy knows how many bytes there are, and holds reservations against them.
    #[default]
    Headroom,
    /// The score is the share of time in which some task stood still, in per cent.
    StallOnly,
    /// The score is 0.4 × some₁₀ + 0.2 × some₆₀ + 0.3 × full₁₀ + 0.1 × used share, all in per cent. Known from
    /// Beat's predecessor; kept to compare with.
    Composite,
}

impl Policy {
    /// From which scores on the level is low, medium, high and critical.
    pub(crate) fn thresholds(self) -> [f64; 4] {
        match self {
            Self::Headroom => [60.0, 75.0, 85.0, 93.0],
            Self::StallOnly => [5.0, 15.0, 30.0, 60.0],
            Self::Composite => [10.0, 30.0, 60.0, 80.0],
        }
    }

    fn score(self, reading: &Reading, stalled: f64) -> f64 {
        let used = 100.0 * (1.0 - reading.available_share());
        match self {
            Self::Headroom => used,
            Self::StallOnly => stalled,
            Self::Composite => {
                let Stall { some, full } = reading.stall.unwrap_or_default();
                0.4 * f64::from(some.avg10)
                    + 0.2 * f64::from(some.avg60)
                    + 0.3 * f64::from(full.avg10)
                    + 0.1 * used
            }
        }
    }
}

/// How far below a threshold the score must fall for its level to end; below a low one, half of that one.
const HYSTERESIS: f64 = 3.0;
/// Stalls that confirm, in per cent of the time.
const CONFIRMING: f64 = 10.0;
/// Over what time the share of stalls is measured: the kernel renews its own averages every 2 s only.
const WINDOW: Duration = Duration::from_millis(500);

/// The share of time that was lost to stalls lately, from the counter of all of it.
#[derive(Debug, Default)]
struct Stalled {
    /// Time and counter at the beginning of the window, in nanoseconds.
    since: Option<(u64, u64)>,
    share: f64,
}

impl Stalled {
    /// Per cent.
    fn update(&mut self, now: u64, stall: Option<&Stall>) -> f64 {
        let Some(stall) = stall else {
            *self = Self::default();
            return 0.0;
        };
        let total = u64::try_from(stall.some.total.as_nanos()).unwrap_or(u64::MAX);
        match self.since {
            Some((then, before)) if total >= before => {
                let elapsed = now.saturating_sub(then);
                if u128::from(elapsed) >= WINDOW.as_nanos() {
                    self.share = (100.0 * (total - before) as f64 / elapsed as f64).min(100.0);
                    self.since = Some((now, total));
                }
            }
            // The first look, or another source.
            _ => self.since = Some((now, total)),
        }
        self.share
    }
}

/// Turns readings into levels.
#[derive(Debug)]
pub(crate) struct Judge {
    policy: Policy,
    thresholds: [f64; 4],
    hold: u64,
    level: Level,
    stalled: Stalled,
    /// Since when a lower level has been due, and the highest that was.
    relief: Option<(u64, Level)>,
}

impl Judge {
    pub(crate) fn new(policy: Policy, thresholds: [f64; 4], hold: Duration) -> Self {
        Self {
            policy,
            thresholds,
            hold: u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX),
            level: Level::None,
            stalled: Stalled::default(),
            relief: None,
        }
    }

    /// The level at the time `now`, in nanoseconds, and the share of stalls in per cent.
    pub(crate) fn judge(&mut self, now: u64, reading: &Reading) -> (Level, f64) {
        let stalled = self.stalled.update(now, reading.stall.as_ref());
        let score = self.policy.score(reading, stalled);
        let confirmed = self.policy == Policy::Headroom && stalled >= CONFIRMING;
        let due = |slack: f64| {
            // Half of a low threshold at most, or no score would be low enough.
            let is_reached = |threshold: &&f64| score >= **threshold - slack.min(**threshold / 2.0);
            let reached = self.thresholds.iter().take_while(is_reached).count();
            let level = Level::ALL[reached];
            if confirmed && level > Level::None { level.next() } else { level }
        };
        let (rising, falling) = (due(0.0), due(HYSTERESIS));
        if rising >= self.level {
            self.level = rising;
            self.relief = None;
        } else if falling >= self.level {
            self.relief = None;
        } else {
            let (since, highest) = self.relief.unwrap_or((now, falling));
            let highest = highest.max(falling);
            self.relief = Some((since, highest));
            if now.saturating_sub(since) >= self.hold {
                self.level = highest;
                self.relief = None;
            }
        }
        (self.level, stalled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn used(percent: u64) -> Reading {
        Reading::new(1000, percent * 10, 0)
    }

    fn judge(policy: Policy) -> Judge {
        Judge::new(policy, policy.thresholds(), Duration::from_millis(500))
    }

    #[test]
    fn a_level_rises_at_once_and_to_any_height() {
        let mut judge = judge(Policy::Headroom);
        assert_eq!(judge.judge(0, &used(10)).0, Level::None);
        assert_eq!(judge.judge(MS, &used(95)).0, Level::Critical);
    }

    #[test]
    fn a_level_falls_only_after_relief_has_lasted() {
        let mut judge = judge(Policy::Headroom);
        assert_eq!(judge.judge(0, &used(86)).0, Level::High);
        // Inside the hysteresis nothing is due, for however long.
        assert_eq!(judge.judge(5_000 * MS, &used(83)).0, Level::High);
        assert_eq!(judge.judge(6_000 * MS, &used(10)).0, Level::High);
        // One look in between that is not relieved starts the time anew.
        assert_eq!(judge.judge(6_400 * MS, &used(84)).0, Level::High);
        assert_eq!(judge.judge(6_500 * MS, &used(10)).0, Level::High);
        assert_eq!(judge.judge(6_999 * MS, &used(10)).0, Level::High);
        assert_eq!(judge.judge(7_000 * MS, &used(10)).0, Level::None);
    }

    #[test]
    fn a_level_falls_to_the_highest_that_was_due_meanwhile() {
        let mut judge = judge(Policy::Headroom);
        judge.judge(0, &used(95));
        judge.judge(MS, &used(10));
        judge.judge(200 * MS, &used(76));
        assert_eq!(judge.judge(501 * MS, &used(10)).0, Level::Medium);
        assert_eq!(judge.judge(502 * MS, &used(10)).0, Level::Medium);
        assert_eq!(judge.judge(1_002 * MS, &used(10)).0, Level::None);
    }

    fn stalled(total: Duration, percent_used: u64) -> Reading {
        let mut stall = Stall::default();
        stall.some.total = total;
        used(percent_used).with_stall(stall)
    }

    #[test]
    fn stalls_confirm_but_raise_no_alarm_alone() {
        for (used, expected) in [(10, Level::None), (61, Level::Medium), (90, Level::Critical)] {
            let mut judge = judge(Policy::Headroom);
            judge.judge(0, &stalled(Duration::ZERO, used));
            let (level, share) = judge.judge(1_000 * MS, &stalled(Duration::from_millis(200), used));
            assert_eq!((level, share.round()), (expected, 20.0), "{used} % used");
        }
    }

    #[test]
    fn a_level_of_a_low_threshold_falls_too() {
        let mut judge = Judge::new(Policy::StallOnly, [1.0, 5.0, 20.0, 50.0], Duration::ZERO);
        let mut at = |seconds: u64, millis: u64| {
            judge.judge(seconds * 1_000 * MS, &stalled(Duration::from_millis(millis), 50)).0
        };
        assert_eq!(at(0, 0), Level::None);
        assert_eq!(at(1, 10), Level::Low);
        assert_eq!(at(2, 16), Level::Low, "0.6 per cent");
        assert_eq!(at(3, 20), Level::None, "0.4 per cent");
    }

    #[test]
    fn a_counter_that_starts_again_is_no_stall() {
        let mut judge = judge(Policy::StallOnly);
        judge.judge(0, &stalled(Duration::from_secs(100), 50));
        assert_eq!(judge.judge(1_000 * MS, &stalled(Duration::from_secs(1), 50)), (Level::None, 0.0));
        assert_eq!(judge.judge(2_000 * MS, &stalled(Duration::from_millis(1_350), 50)).0, Level::High);
    }

    #[test]
    fn the_composite_is_the_predecessors() {
        let mut stall = Stall::default();
        (stall.some.avg10, stall.some.avg60, stall.full.avg10) = (50.0, 40.0, 30.0);
        let mut judge = judge(Policy::Composite);
        // 20 + 8 + 9 + 9 = 46.
        assert_eq!(judge.judge(0, &used(90).with_stall(stall)).0, Level::Medium);
        // Full memory without stalls makes 10 at most.
        assert_eq!(self::judge(Policy::Composite).judge(0, &used(100)).0, Level::Low);
    }
}
