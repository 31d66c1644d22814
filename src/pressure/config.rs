//! How a runtime is told what to make of memory pressure.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::source::PressureSource;
use super::{Level, Policy, Pressure};

/// Makes the source of a runtime, when it is first needed.
type MakeSource = Arc<dyn Fn() -> Box<dyn PressureSource> + Send + Sync>;
/// What a user runs when the level changes.
pub(crate) type OnChange = Arc<dyn Fn(&Pressure) + Send + Sync>;

/// Settings for memory pressure and admission; for [`Builder::pressure`](crate::Builder::pressure).
///
/// ```
/// use beat::pressure::{Level, Policy, PressureConfig};
/// use std::time::Duration;
///
/// let pressure = PressureConfig::new()
///     .policy(Policy::Headroom)
///     .thresholds([50.0, 70.0, 80.0, 90.0])
///     .hold(Duration::from_secs(1))
///     .on_change(|now| println!("memory pressure is {:?}: {}", now.level, now.why()));
/// let runtime = beat::Runtime::builder().pressure(pressure).build()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "settings do nothing until a builder gets them"]
pub struct PressureConfig {
    pub(crate) policy: Policy,
    pub(crate) thresholds: Option<[f64; 4]>,
    pub(crate) hold: Duration,
    pub(crate) minimum: Option<usize>,
    pub(crate) sources: Vec<MakeSource>,
    pub(crate) root: PathBuf,
    pub(crate) on_change: Option<OnChange>,
}

impl PressureConfig {
    /// The default settings: [`Policy::Headroom`], a hold time of 500 ms, the process's own control group.
    pub fn new() -> Self {
        Self {
            policy: Policy::default(),
            thresholds: None,
            hold: Duration::from_millis(500),
            minimum: None,
            sources: Vec::new(),
            root: "/".into(),
            on_change: None,
        }
    }

    /// What levels are made from.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// From which scores on, 0 to 100, the level is low, medium, high and critical. Default: 60, 75, 85 and 93 per
    /// cent of the limit; for [`StallOnly`](Policy::StallOnly) 5, 15, 30 and 60 per cent of the time; for
    /// [`Composite`](Policy::Composite) 10, 30, 60 and 80.
    pub fn thresholds(mut self, scores: [f64; 4]) -> Self {
        self.thresholds = Some(scores);
        self
    }

    /// For how long relief must last before the level falls. Default: 500 ms.
    pub fn hold(mut self, time: Duration) -> Self {
        self.hold = time;
        self
    }

    /// How many admitted tasks run however short memory is. Default: as many as there are workers.
    ///
    /// It keeps a service going whose allocator does not give pages back: choose it so that so many of the largest
    /// requests fit beside what the service always holds.
    ///
    /// ```
    /// use beat::pressure::PressureConfig;
    ///
    /// let pressure = PressureConfig::new().guaranteed_minimum(2);
    /// let runtime = beat::Runtime::builder().pressure(pressure).build()?;
    /// # drop(runtime);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn guaranteed_minimum(mut self, tasks: usize) -> Self {
        self.minimum = Some(tasks);
        self
    }

    /// Looks at this source. Called several times: each is used when those before it have failed, and the control
    /// group and the machine after all of them.
    ///
    /// ```
    /// use beat::pressure::{PressureConfig, PressureSource, Reading};
    ///
    /// struct Arena;
    /// impl PressureSource for Arena {
    ///     fn name(&self) -> String {
    ///         "the arena".into()
    ///     }
    ///     fn read(&mut self) -> std::io::Result<Reading> {
    ///         Ok(Reading::new(1000, 300, 0))
    ///     }
    /// }
    ///
    /// let pressure = PressureConfig::new().source(|| Arena);
    /// let runtime = beat::Runtime::builder().pressure(pressure).build()?;
    /// assert_eq!(runtime.handle().pressure().headroom(), Some(700));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn source<S: PressureSource + 'static>(
        mut self,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Self {
        self.sources.push(Arc::new(move || Box::new(make())));
        self
    }

    /// Where `proc` and the mount points of control groups are found. Default: `/`.
    ///
    /// ```
    /// use beat::pressure::PressureConfig;
    ///
    /// // In a container that has the host's root mounted there.
    /// let pressure = PressureConfig::new().root("/host");
    /// # drop(pressure);
    /// ```
    pub fn root(mut self, directory: impl Into<PathBuf>) -> Self {
        self.root = directory.into();
        self
    }

    /// Runs `hook` each time the level has changed, on the thread that noticed. A panic in it is reported and
    /// swallowed. Levels are watched while work is admitted or waits, or somebody awaits
    /// [`changed`](Pressure::changed); not while the runtime idles.
    pub fn on_change(mut self, hook: impl Fn(&Pressure) + Send + Sync + 'static) -> Self {
        self.on_change = Some(Arc::new(hook));
        self
    }

    pub(crate) fn scores(&self) -> [f64; 4] {
        self.thresholds.unwrap_or_else(|| self.policy.thresholds())
    }

    /// # Errors
    ///
    /// Thresholds that are no scores or not in order; a minimum of zero.
    pub(crate) fn check(&self) -> io::Result<()> {
        let invalid = |message: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        let scores = self.scores();
        let in_range = scores.iter().all(|score| (0.0..=100.0).contains(score));
        if !in_range || !scores.is_sorted() {
            return invalid(
                "the thresholds of memory pressure must be four numbers from 0 to 100, the lowest level's first",
            );
        }
        if self.minimum == Some(0) {
            return invalid(
                "with a guaranteed minimum of zero tasks a service could stay shut for ever: set \
                 `guaranteed_minimum` to 1 or more",
            );
        }
        Ok(())
    }
}

impl Default for PressureConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PressureConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureConfig")
            .field("policy", &self.policy)
            .field("thresholds", &self.scores())
            .field("hold", &self.hold)
            .field("guaranteed_minimum", &self.minimum)
            .finish_non_exhaustive()
    }
}

impl Level {
    /// From how many of the limit's bytes on nothing is reserved: the part above the last threshold.
    pub(crate) fn margin(limit: u64, scores: [f64; 4]) -> u64 {
        (limit as f64 * (100.0 - scores[3]) / 100.0) as u64
    }
}
