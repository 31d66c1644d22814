//! What a builder has chosen, in words, and what on this machine argues against it.

use std::fmt;

use super::Builder;
use super::builder::{self, WORKERS_VARIABLE};
use crate::allotment;
use crate::driver::DriverKind;
use crate::os::{Affinity, Limits, Policy};
use crate::topology::Pinning;

/// What [`Builder::build`] would do here, and why; from [`Builder::explain`]. Displays as lines of text.
///
/// ```
/// let explanation = beat::Runtime::builder().worker_threads(1).explain();
/// println!("{explanation}");
/// for objection in explanation.objections() {
///     eprintln!("{objection}");
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Explanation {
    choices: Vec<(&'static str, String)>,
    objections: Vec<String>,
}

impl Explanation {
    /// What on this machine argues against the choice, one sentence each. Empty if nothing does.
    pub fn objections(&self) -> impl Iterator<Item = &str> {
        self.objections.iter().map(String::as_str)
    }

    fn choose(&mut self, what: &'static str, choice: impl Into<String>) {
        self.choices.push((what, choice.into()));
    }

    fn object(&mut self, objection: impl Into<String>) {
        self.objections.push(objection.into());
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Beat {}", env!("CARGO_PKG_VERSION"))?;
        for (what, choice) in &self.choices {
            writeln!(f, "  {what:<11}  {choice}")?;
        }
        if self.objections.is_empty() {
            return writeln!(f, "Nothing on this machine argues against it.");
        }
        writeln!(f, "On this machine:")?;
        self.objections.iter().try_for_each(|objection| writeln!(f, "  - {objection}"))
    }
}

/// What a configuration meets.
#[derive(Clone, Debug)]
struct Machine {
    /// CPUs in the affinity mask; empty where that is not known.
    cpus: Vec<usize>,
    /// How many CPUs the mask and the quota leave.
    parallelism: usize,
    /// The cgroup's CPU quota, in CPUs.
    quota: Option<f64>,
    limits: Limits,
    /// `BEAT_WORKERS`.
    variable: Option<String>,
}

impl Machine {
    fn look() -> Self {
        let quota = allotment::quota();
        Self {
            cpus: Affinity::current().map(|mask| mask.cpus()).unwrap_or_default(),
            parallelism: builder::parallelism(quota),
            quota,
            limits: Limits::current(),
            variable: std::env::var(WORKERS_VARIABLE).ok(),
        }
    }

    /// How many CPUs the process may use, by its mask.
    fn width(&self) -> usize {
        if self.cpus.is_empty() { self.parallelism } else { self.cpus.len() }
    }
}

impl Builder {
    /// Says in words what [`build`](Self::build) would choose here, and what on this machine argues against it: fewer
    /// CPUs than workers, a cgroup quota below their number, a kernel without slices, a low priority, a single core.
    ///
    /// It starts nothing and changes nothing. `cargo run --example explain` prints it for each preset.
    ///
    /// ```
    /// let explanation = beat::Runtime::builder().worker_threads(2).explain();
    /// assert!(explanation.to_string().contains("2: set by `worker_threads`"));
    /// for objection in explanation.objections() {
    ///     eprintln!("beat: {objection}");
    /// }
    /// ```
    pub fn explain(&self) -> Explanation {
        let mut explanation = self.explain_on(&Machine::look());
        if let Err(error) = self.clone().check() {
            explanation.object(format!("`build` would fail: {error}"));
        }
        explanation
    }

    fn explain_on(&self, machine: &Machine) -> Explanation {
        let mut to = Explanation { choices: Vec::new(), objections: Vec::new() };
        let workers = self.explain_workers(machine, &mut to);
        self.explain_pinning(machine, workers, &mut to);
        self.explain_driver(&mut to);
        to.choose(
            "heartbeat",
            format!("{:?}: how often at most a thread that forks offers work unasked", self.heartbeat),
        );
        self.explain_slices(machine, &mut to);
        self.explain_polls(&mut to);
        to.choose(
            "blocking",
            format!(
                "up to {} threads for closures that block; an idle one ends after {:?}",
                self.max_blocking_threads,
                self.keep_alive.unwrap_or(builder::KEEP_ALIVE)
            ),
        );
        object_to_machine(machine, workers, &mut to);
        to
    }

    fn explain_workers(&self, machine: &Machine, to: &mut Explanation) -> usize {
        let named = machine.variable.as_ref().and_then(|text| text.trim().parse().ok());
        let (workers, why) = match (self.workers, named) {
            (Some(workers), _) => (workers, "set by `worker_threads`".to_owned()),
            (None, Some(workers)) => (workers, format!("set by {WORKERS_VARIABLE}")),
            (None, None) => {
                let why = if machine.parallelism < machine.width() {
                    format!("the cgroup's CPU quota; the affinity mask has {} CPUs", machine.width())
                } else {
                    "one for each CPU that the process may use".to_owned()
                };
                match self.room() {
                    Some(room) if room < machine.parallelism => {
                        (room, "as many as `pinning` has room for".to_owned())
                    }
                    _ => (machine.parallelism, why),
                }
            }
        };
        to.choose("workers", format!("{workers}: {why}"));
        workers
    }

    fn explain_pinning(&self, machine: &Machine, workers: usize, to: &mut Explanation) {
        let fits = !machine.cpus.is_empty() && workers <= machine.cpus.len();
        let yes = |pinning: &Pinning, why: &str| {
            format!("{}, of the CPUs {:?}: {why}", pinning.name(), machine.cpus)
        };
        to.choose(
            "pinning",
            match &self.pinning {
                _ if let Some(machine) = &self.topology => {
                    format!(
                        "none: the workers have places on a machine that was given ({})",
                        machine.source()
                    )
                }
                Some(Pinning::None) => "none: set by `pinning`".to_owned(),
                Some(pinning) => yes(pinning, "set by `pinning`"),
                None if self.pins_if_possible && fits => {
                    yes(&Pinning::Cores, "there is a CPU for each worker")
                }
                None if self.pins_if_possible => "none: there are fewer CPUs than workers".to_owned(),
                None if fits && workers == machine.cpus.len() => {
                    "none, but a CPU each if this becomes the global runtime: there is a worker for each CPU"
                        .to_owned()
                }
                None => {
                    "none: only with a worker for each CPU are those of the global runtime pinned unasked"
                        .to_owned()
                }
            },
        );
    }

    fn explain_driver(&self, to: &mut Explanation) {
        to.choose(
            "driver",
            match self.driver {
                DriverKind::Plain => "plain: no I/O and no timers; threads park on futexes",
                #[cfg(feature = "async-io")]
                DriverKind::AsyncIo => {
                    "async-io: an idle thread parks in the process's one reactor of the smol family"
                }
                #[cfg(feature = "tokio")]
                DriverKind::Tokio if self.start_paused => {
                    "tokio, with its clock paused: time moves when nothing can run"
                }
                #[cfg(feature = "tokio")]
                DriverKind::Tokio => {
                    "tokio: an idle thread parks in one shared tokio runtime and drives its I/O and timers"
                }
            },
        );
    }

    fn explain_slices(&self, machine: &Machine, to: &mut Explanation) {
        let slices = match (self.slices, machine.limits.has_slices) {
            (false, _) => "none: set by `scheduling_slices`",
            (true, true) => {
                "0.1 ms for threads that serve futures, the system's own for closures: the first preempt the second"
            }
            (true, false) => "none: the kernel does not know them for ordinary threads",
        };
        to.choose("slices", slices);
        if self.slices && !machine.limits.has_slices {
            to.object(
                "The kernel has no scheduling slices for ordinary threads (Linux 6.12 and later do): beside closures that \
                 never fork, ready futures wait for the system's tick, some milliseconds.",
            );
        }
    }

    fn explain_polls(&self, to: &mut Explanation) {
        let mut polls = format!("a task yields at an await after {:?}", self.poll_budget);
        if cfg!(feature = "tokio") {
            polls += " or 128 operations of tokio's";
        }
        match self.long_poll_warning {
            Some(limit) => polls += &format!("; polls longer than {limit:?} are reported"),
            None => polls += "; long polls are not reported",
        }
        to.choose("polls", polls);
    }
}

fn object_to_machine(machine: &Machine, workers: usize, to: &mut Explanation) {
    let width = machine.width();
    if workers > width {
        to.object(format!(
            "{workers} workers share {width} CPUs: closures share time with each other, and each takes longer. Set \
             `worker_threads` to {width} unless their work is mostly waiting."
        ));
    }
    if let Some(quota) = machine.quota.filter(|&quota| quota.ceil() < workers as f64) {
        to.object(format!(
            "The cgroup's CPU quota is {quota:.2} CPUs for {workers} workers: when it is spent the kernel stops all \
             threads for the rest of its period. Raise the quota, or set `worker_threads` to {}.",
            allotment::rounded_up(quota)
        ));
    }
    if width == 1 {
        to.object(
            "There is one CPU: closures and futures take turns on it, and `join` gains nothing but promptness.",
        );
    }
    match machine.limits.policy {
        Some(Policy::Ordinary { nice }) if nice > 0 => to.object(format!(
            "The process is niced ({nice}): others come first, and wake-ups are late. Start it without `nice`."
        )),
        Some(Policy::Batch | Policy::Idle) => to.object(
            "The process runs under a background policy (SCHED_BATCH or SCHED_IDLE): threads do not preempt each other \
             on wake-up, so ready futures wait behind closures. Start it under SCHED_OTHER.",
        ),
        Some(Policy::RealTime) => to.object(
            "The process runs under a real-time policy: a closure is not preempted by a future of the same priority, \
             and slices do nothing. Start it under SCHED_OTHER.",
        ),
        Some(Policy::Ordinary { .. } | Policy::Other) | None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpus: usize) -> Machine {
        let limits = Limits { policy: Some(Policy::Ordinary { nice: 0 }), has_slices: true };
        Machine { cpus: (0..cpus).collect(), parallelism: cpus, quota: None, limits, variable: None }
    }

    fn text(builder: &Builder, machine: &Machine) -> String {
        builder.explain_on(machine).to_string()
    }

    #[test]
    fn on_a_good_machine_nothing_argues_against_the_defaults() {
        let explanation = Builder::new().explain_on(&machine(8));
        assert_eq!(explanation.objections().count(), 0, "{explanation}");
        let text = explanation.to_string();
        assert!(text.contains("8: one for each CPU"), "{text}");
        assert!(text.contains("Nothing on this machine"), "{text}");
    }

    #[test]
    fn where_the_number_of_workers_comes_from_is_said() {
        let mut on = machine(8);
        on.parallelism = 3;
        assert!(text(&Builder::new(), &on).contains("3: the cgroup's CPU quota"));
        on.variable = Some("5".into());
        assert!(text(&Builder::new(), &on).contains("5: set by BEAT_WORKERS"));
        assert!(text(&Builder::new().worker_threads(2), &on).contains("2: set by `worker_threads`"));
    }

    #[test]
    fn each_thing_that_argues_against_it_is_named() {
        let objection = |change: &dyn Fn(&mut Machine), says: &str| {
            let mut on = machine(4);
            change(&mut on);
            let explanation = Builder::new().worker_threads(4).explain_on(&on);
            let objections: Vec<_> = explanation.objections().collect();
            assert!(objections.iter().any(|objection| objection.contains(says)), "{says}: {objections:?}");
        };
        objection(&|on| on.cpus.truncate(3), "4 workers share 3 CPUs");
        objection(&|on| on.quota = Some(1.5), "set `worker_threads` to 2");
        objection(&|on| on.quota = Some(0.5), "set `worker_threads` to 1");
        objection(&|on| on.limits.has_slices = false, "no scheduling slices");
        objection(&|on| on.limits.policy = Some(Policy::Ordinary { nice: 10 }), "niced (10)");
        objection(&|on| on.limits.policy = Some(Policy::Batch), "background policy");
        objection(&|on| on.limits.policy = Some(Policy::RealTime), "real-time policy");
        objection(&|on| on.cpus.truncate(1), "There is one CPU");
    }

    #[test]
    fn a_quota_that_suffices_is_no_objection() {
        let mut on = machine(4);
        on.quota = Some(3.5);
        assert_eq!(Builder::new().explain_on(&on).objections().count(), 0);
    }

    #[test]
    fn presets_say_what_they_do() {
        let on = machine(4);
        assert!(text(&Builder::basic(), &on).contains("none: set by `scheduling_slices`"));
        assert!(text(&Builder::performance(), &on).contains("there is a CPU for each worker"));
        assert!(text(&Builder::performance().worker_threads(9), &on).contains("fewer CPUs than workers"));
        assert!(
            text(&Builder::advanced(), &on)
                .contains("a CPU each, of the CPUs [0, 1, 2, 3]: set by `pinning`")
        );
        assert!(text(&Builder::development(), &on).contains("longer than 10ms are reported"));
    }

    #[test]
    fn what_build_would_refuse_is_said() {
        let explanation = Builder::new().worker_threads(0).explain();
        assert!(explanation.objections().any(|objection| objection.contains("`build` would fail")));
    }
}
