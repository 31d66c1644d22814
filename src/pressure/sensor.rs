//! One runtime's view of its memory: when to look, what was seen, and who is told.
//!
//! Nobody looks by himself. Whoever samples (the [sampler](crate::admission) while work is being admitted, or a caller
//! of [`beat::pressure()`](crate::pressure())) holds the lock on the source; user code (hooks, wakers) runs after it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Waker;
use std::time::Duration;

use super::config::{OnChange, PressureConfig};
use super::level::Judge;
use super::source::{Chain, Reading};
use super::{Level, Pressure};
use crate::os;
use crate::task::contained::Contained;

/// How often memory is looked at far from its limit, and near it.
pub(crate) const FAR: Duration = Duration::from_millis(100);
pub(crate) const NEAR: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct State {
    /// Opened at the first look.
    chain: Option<Chain>,
    judge: Judge,
    last: Pressure,
    looked_at: Option<u64>,
    /// How fast the available memory falls, in bytes a second.
    falling: f64,
}

/// Those who wait for another level.
#[derive(Debug, Default)]
struct Watchers {
    next: u64,
    wakers: BTreeMap<u64, Waker>,
    /// The level that they have been told of.
    level: Level,
}

/// See the [module](self).
pub(crate) struct Sensor {
    config: PressureConfig,
    state: Mutex<State>,
    watchers: Mutex<Watchers>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sensor {
    pub(crate) fn new(config: PressureConfig) -> Self {
        let judge = Judge::new(config.policy, config.scores(), config.hold);
        let last = Pressure::default();
        Self {
            config,
            state: Mutex::new(State { chain: None, judge, last, looked_at: None, falling: 0.0 }),
            watchers: Mutex::default(),
        }
    }

    /// Looks, unless somebody has within `age`. Tells those who wait for another level.
    pub(crate) fn sample(&self, age: Duration) -> Pressure {
        let mut state = lock(&self.state);
        let now = os::now();
        let fresh = state.looked_at.is_some_and(|at| u128::from(now.saturating_sub(at)) < age.as_nanos());
        if !fresh {
            self.look(&mut state, now);
        }
        let seen = state.last.clone();
        // Within the lock, so that the last level told is the last one seen; wakers and hooks run after it.
        let told = self.tell(seen.level);
        drop(state);
        if let Some(wakers) = told {
            wakers.into_values().for_each(Waker::wake);
            if let Some(hook) = &self.config.on_change {
                run(hook, &seen);
            }
        }
        seen
    }

    fn look(&self, state: &mut State, now: u64) {
        let chain = state.chain.get_or_insert_with(|| self.open());
        let reading = chain.read();
        let source = chain.name();
        let elapsed = state.looked_at.map_or(0, |at| now.saturating_sub(at));
        state.looked_at = Some(now);
        let Some(reading) = reading else {
            state.last = Pressure::default();
            return;
        };
        if let Some(before) = state.last.reading.as_ref().filter(|_| elapsed > 0) {
            let fell = before.available() as f64 - reading.available() as f64;
            state.falling = fell * 1e9 / elapsed as f64;
        }
        let (level, stalled) = state.judge.judge(now, &reading);
        state.last =
            Pressure { level, stalled, reading: Some(reading), reserved: 0, source, ..Pressure::default() };
    }

    fn open(&self) -> Chain {
        #[allow(unused_mut, reason = "elsewhere there are no others")]
        let mut sources: Vec<_> = self.config.sources.iter().map(|make| make()).collect();
        #[cfg(target_os = "linux")]
        sources.extend(super::cgroup::sources(&self.config.root, crate::lifecycle::say));
        Chain::new(sources, crate::lifecycle::say)
    }

    /// Those to be woken, if the level is another one than they know.
    fn tell(&self, level: Level) -> Option<BTreeMap<u64, Waker>> {
        let mut watchers = lock(&self.watchers);
        (watchers.level != level).then(|| {
            watchers.level = level;
            std::mem::take(&mut watchers.wakers)
        })
    }

    /// Registers a waker for the next change away from `level`; `None` if it has come already.
    pub(crate) fn watch(&self, key: Option<u64>, level: Level, waker: &Waker) -> Option<u64> {
        let mut watchers = lock(&self.watchers);
        if watchers.level != level {
            return None;
        }
        let key = key.unwrap_or_else(|| {
            watchers.next += 1;
            watchers.next
        });
        let before = watchers.wakers.insert(key, waker.clone());
        drop(watchers);
        drop(before);
        Some(key)
    }

    pub(crate) fn forget(&self, key: u64) {
        let gone = lock(&self.watchers).wakers.remove(&key);
        drop(gone);
    }

    pub(crate) fn is_watched(&self) -> bool {
        !lock(&self.watchers).wakers.is_empty()
    }

    /// The level that was last told.
    pub(crate) fn level(&self) -> Level {
        lock(&self.watchers).level
    }

    /// How long the next look may wait: the nearer the limit, and the faster it comes nearer, the shorter.
    pub(crate) fn period(&self) -> Duration {
        let state = lock(&self.state);
        state
            .last
            .reading
            .as_ref()
            .map_or(FAR, |reading| period(reading, state.falling, self.config.scores()))
    }

    /// What wakes a sleeping sampler when tasks stall, if the kernel grants it.
    #[cfg(target_os = "linux")]
    pub(crate) fn trigger(&self) -> Option<super::alarm::Trigger> {
        let state = lock(&self.state);
        state.chain.as_ref()?.trigger()?.try_clone_to_owned().ok()
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn trigger(&self) -> Option<super::alarm::Trigger> {
        None
    }

    /// How many bytes may be reserved in all; `u64::MAX` if they are not what counts.
    pub(crate) fn room(&self, seen: &Pressure) -> u64 {
        let Some(reading) = &seen.reading else { return u64::MAX };
        match self.config.policy {
            super::Policy::Headroom if seen.level == Level::Critical => 0,
            super::Policy::Headroom => {
                reading.available().saturating_sub(Level::margin(reading.limit, self.config.scores()))
            }
            _ if seen.level >= Level::High => 0,
            _ => u64::MAX,
        }
    }
}

/// At most half the time in which the available memory would be down to the level "high", and between [`NEAR`] and
/// [`FAR`] by how much there is.
fn period(reading: &Reading, falling: f64, scores: [f64; 4]) -> Duration {
    let used = 100.0 * (1.0 - reading.available_share());
    let [low, medium, high, _] = scores;
    let nearness = ((used - low / 2.0) / (medium - low / 2.0).max(1.0)).clamp(0.0, 1.0);
    let by_share = FAR.as_secs_f64() - nearness * (FAR - NEAR).as_secs_f64();
    let left = (high - used).max(0.0) / 100.0 * reading.limit as f64;
    let by_speed = if falling > 0.0 { left / falling / 2.0 } else { f64::INFINITY };
    Duration::from_secs_f64(by_share.min(by_speed).max(NEAR.as_secs_f64()))
}

fn run(hook: &OnChange, seen: &Pressure) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| hook(seen))) {
        // The panic hook has reported it.
        drop(Contained::new(payload));
    }
}

impl std::fmt::Debug for Sensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sensor")
            .field("config", &self.config)
            .field("level", &self.level())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_is_long_far_from_the_limit_and_short_near_it() {
        let scores = super::super::Policy::Headroom.thresholds();
        let used = |percent: u64| Reading::new(1000, percent * 10, 0);
        assert_eq!(period(&used(10), 0.0, scores), FAR);
        assert_eq!(period(&used(80), 0.0, scores), NEAR);
        assert!(period(&used(50), 0.0, scores) < FAR);
        // 75 % are left up to "high", at ten times that a second.
        assert_eq!(period(&used(10), 7_500.0, scores), Duration::from_millis(50));
        assert_eq!(period(&used(10), 1e9, scores), NEAR);
    }
}
