//! The number of active workers follows what the process is given, in control groups of the test's own: no task or closure
//! is lost on the way.
//!
//! Each test starts itself again, in a group, and changes the group's limits. Where no group can be made it says so and is
//! skipped.

#![cfg(target_os = "linux")]

mod common;
#[path = "../benches/common/cpu_group.rs"]
mod cpu_group;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use beat::{Handle, Pinning, Runtime};
use common::role::{self, Role, orders, say};
use common::{fib, within};
use cpu_group::{Controller, CpuGroup};

const PATIENCE: Duration = Duration::from_secs(120);
/// Within which a busy runtime follows.
const PROMISED: Duration = Duration::from_secs(2);

/// A group, or `None`, with a word about it, where the tests cannot run.
fn group(controller: Controller) -> Option<CpuGroup> {
    let cpus = beat::topology().allowed().len();
    match CpuGroup::new(controller) {
        Ok(group) if cpus >= 2 => return Some(group),
        Ok(_) => eprintln!("skipped: it takes two CPUs, and there is {cpus}"),
        Err(why) => eprintln!("skipped: no cgroup ({why}); it takes root"),
    }
    None
}

/// Asks a busy runtime until it has so many active workers.
fn follows(busy: &mut Role, workers: usize) {
    let start = Instant::now();
    assert_eq!(busy.ask(&format!("follow {workers}")), format!("{workers} active"));
    assert!(start.elapsed() < PROMISED, "{workers} workers after {:?}", start.elapsed());
}

#[test]
fn a_runtime_begins_with_what_the_quota_has_room_for() {
    const TEST: &str = "a_runtime_begins_with_what_the_quota_has_room_for";
    if role::role().is_some() {
        return be_told(&Runtime::builder().build().unwrap());
    }
    let Some(group) = group(Controller::Quota) else { return };
    within(PATIENCE, || {
        for (cpus, workers) in [(1.0, 1), (0.5, 1), (1.25, 2)] {
            group.set_quota(cpus).unwrap();
            let mut runtime = Role::start("a runtime", TEST, &group.enter());
            assert_eq!(runtime.ask("workers"), format!("{workers} of {workers}"), "{cpus} CPUs");
        }
    });
}

#[test]
fn active_workers_follow_the_quota_and_nothing_is_lost() {
    const TEST: &str = "active_workers_follow_the_quota_and_nothing_is_lost";
    if role::role().is_some() {
        return be_told(&Runtime::builder().build().unwrap());
    }
    let Some(group) = group(Controller::Quota) else { return };
    // The tightest group counts, and not only the own one.
    let inner = group.child(Controller::Quota).unwrap();
    within(PATIENCE, || {
        group.set_quota(2.0).unwrap();
        let mut busy = Role::start("busy", TEST, &inner.enter());
        assert_eq!(busy.ask("workers"), "2 of 2");
        assert_eq!(busy.ask("begin"), "begun");
        // In this order: version 1 lets no group have more than the one above it.
        for (group, cpus, workers) in [(&group, 1.0, 1), (&group, 2.0, 2), (&inner, 0.5, 1), (&inner, 2.0, 2)]
        {
            group.set_quota(cpus).unwrap();
            follows(&mut busy, workers);
        }
        let throttled = inner.throttled().unwrap().0;
        let told: u64 = busy.ask("throttled").parse().unwrap();
        assert!(throttled <= told && told <= inner.throttled().unwrap().0);
        assert_eq!(busy.ask("end"), "all have run");
        // An idle one looks when there is work again.
        inner.set_quota(1.0).unwrap();
        assert_eq!(busy.ask("begin"), "begun");
        follows(&mut busy, 1);
        assert_eq!(busy.ask("end"), "all have run");
    });
}

#[test]
fn a_process_that_is_stopped_for_its_quota_is_gathered_until_that_changes() {
    const TEST: &str = "a_process_that_is_stopped_for_its_quota_is_gathered_until_that_changes";
    if role::role().is_some() {
        return be_told(&Runtime::builder().build().unwrap());
    }
    let Some(group) = group(Controller::Quota) else { return };
    within(PATIENCE, || {
        group.set_quota(2.0).unwrap();
        let mut busy = Role::start("busy", TEST, &group.enter());
        let all = busy.ask("cpus");
        assert_eq!(busy.ask("begin"), "begun");
        for quota in [2.0, f64::INFINITY] {
            group.set_quota(1.0).unwrap();
            assert_eq!(busy.ask("until gathered on 1"), "gathered on 1");
            // No thread that one of these starts is.
            assert_eq!(busy.ask("blocking cpus"), all);
            // Another quota ends it, and none.
            group.set_quota(quota).unwrap();
            assert_eq!(busy.ask(&format!("until free on {all}")), format!("free on {all}"));
            follows(&mut busy, 2);
        }
        assert_eq!(busy.ask("end"), "all have run");
    });
}

#[test]
fn active_workers_follow_the_set_of_cpus() {
    const TEST: &str = "active_workers_follow_the_set_of_cpus";
    let builder = || Runtime::builder().follow_cpu_limits(true);
    match role::role().as_deref() {
        Some("bound") => return be_told(&builder().pinning(Pinning::Cores).build().unwrap()),
        Some(_) => return be_told(&builder().build().unwrap()),
        None => {}
    }
    let Some(group) = group(Controller::Cpuset) else { return };
    let two: Vec<_> = beat::topology().allowed().iter().take(2).collect();
    let both = format!("{},{}", two[0], two[1]);
    within(PATIENCE, || {
        for role in ["bound", "free"] {
            group.set_cpus(&both).unwrap();
            let mut busy = Role::start(role, TEST, &group.enter());
            assert_eq!(busy.ask("workers"), "2 of 2");
            assert_eq!(busy.ask("begin"), "begun");
            for cpu in &two {
                group.set_cpus(&cpu.to_string()).unwrap();
                follows(&mut busy, 1);
                group.set_cpus(&both).unwrap();
                follows(&mut busy, 2);
            }
            assert_eq!(busy.ask("end"), "all have run");
        }
    });
}

#[test]
fn active_workers_follow_the_affinity_mask() {
    const TEST: &str = "active_workers_follow_the_affinity_mask";
    if role::role().is_some() {
        return be_told(&Runtime::builder().build().unwrap());
    }
    let two: Vec<_> = beat::topology().allowed().iter().take(2).collect();
    if two.len() < 2 {
        return eprintln!("skipped: it takes two CPUs");
    }
    within(PATIENCE, || {
        let mut busy = Role::start("busy", TEST, "");
        let all = busy.ask("workers");
        let workers: usize = all.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(busy.ask("begin"), "begun");
        for (cpus, active) in [(&two[..1], 1), (&two[..], workers.min(2))] {
            bind_all(busy.id(), cpus);
            follows(&mut busy, active);
        }
        assert_eq!(busy.ask("end"), "all have run");
    });
}

/// As `taskset --all-tasks` does.
fn bind_all(process: u32, cpus: &[usize]) {
    let mut set = rustix::thread::CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    for thread in std::fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let tid = thread.unwrap().file_name().to_str().unwrap().parse().unwrap();
        // One that has ended meanwhile has no mask.
        let _ = rustix::thread::sched_setaffinity(rustix::thread::Pid::from_raw(tid), &set);
    }
}

#[test]
fn a_named_number_of_workers_stays() {
    const TEST: &str = "a_named_number_of_workers_stays";
    match role::role().as_deref() {
        Some("named") => return be_told(&Runtime::builder().worker_threads(2).build().unwrap()),
        Some(_) => {
            let builder = Runtime::builder().worker_threads(2).follow_cpu_limits(true);
            return be_told(&builder.build().unwrap());
        }
        None => {}
    }
    let Some(group) = group(Controller::Quota) else { return };
    within(PATIENCE, || {
        group.set_quota(1.0).unwrap();
        let mut named = Role::start("named", TEST, &group.enter());
        assert_eq!(named.ask("workers"), "2 of 2");
        assert_eq!(named.ask("begin"), "begun");
        assert_eq!(named.ask("end"), "all have run");
        assert_eq!(named.ask("workers"), "2 of 2");
        drop(named);
        // Named, and told to follow: it may grow.
        let mut follower = Role::start("follower", TEST, &group.enter());
        assert_eq!(follower.ask("begin"), "begun");
        follows(&mut follower, 1);
        assert_eq!(follower.ask("broadcast"), "on 0, 1");
        group.set_quota(2.0).unwrap();
        follows(&mut follower, 2);
        assert_eq!(follower.ask("end"), "all have run");
    });
}

/// A runtime that does what it is told, and says how it is.
fn be_told(runtime: &Runtime) {
    let mut load: Option<Load> = None;
    for order in orders() {
        let metrics = runtime.metrics();
        match order.as_str() {
            "workers" => say(format_args!("{} of {}", metrics.active_workers, metrics.workers)),
            "throttled" => say(metrics.throttled_periods),
            "begin" => {
                load = Some(Load::begin(runtime.handle()));
                say("begun");
            }
            "end" => say(load.take().unwrap().end(runtime)),
            "broadcast" => {
                let mut on: Vec<_> = runtime.broadcast(|context| context.index().to_string());
                on.sort();
                say(format_args!("on {}", on.join(", ")));
            }
            "cpus" => say(own_cpus()),
            "blocking cpus" => {
                let blocking = || beat::spawn_blocking(own_cpus).join().unwrap();
                say(runtime.spawn_blocking_parallel(blocking).join().unwrap());
            }
            order if order.starts_with("until ") => {
                let goal = order.strip_prefix("until ").unwrap();
                // Only a thread with work to do looks where it is to run.
                while goal != place(runtime) {
                    thread::sleep(Duration::from_millis(5));
                }
                say(goal);
            }
            follows => {
                let workers: usize = follows.strip_prefix("follow ").unwrap().parse().unwrap();
                while runtime.metrics().active_workers != workers {
                    thread::sleep(Duration::from_millis(5));
                }
                say(format_args!("{workers} active"));
            }
        }
    }
}

/// Whether the threads are gathered, and on how many CPUs one of them may run.
fn place(runtime: &Runtime) -> String {
    let cpus = runtime.spawn_blocking_parallel(own_cpus).join().unwrap();
    let gathered = if runtime.metrics().gathered { "gathered" } else { "free" };
    format!("{gathered} on {cpus}")
}

/// On how many CPUs this thread may run.
fn own_cpus() -> u32 {
    rustix::thread::sched_getaffinity(None).unwrap().count()
}

/// More closures that fork, and more tasks, than the workers can do, from outside and from inside.
struct Load {
    stop: Arc<AtomicBool>,
    /// How many have been spawned, and how many have run.
    counts: Arc<[AtomicU64; 2]>,
    feeder: thread::JoinHandle<()>,
}

impl Load {
    fn begin(handle: &Handle) -> Self {
        let (stop, counts): (Arc<AtomicBool>, Arc<[AtomicU64; 2]>) = Default::default();
        let feeder = thread::spawn({
            let (handle, stop, counts) = (handle.clone(), Arc::clone(&stop), Arc::clone(&counts));
            move || {
                let mut batches = Vec::new();
                while !stop.load(SeqCst) {
                    batches.push((0..4).map(|_| closure(&handle, &counts)).collect::<Vec<_>>());
                    batches.push((0..32).map(|_| task(&handle, &counts)).collect());
                    if batches.len() >= 8 {
                        // The oldest first: there is always more.
                        batches.drain(..2).flatten().for_each(|handle| handle.join().unwrap());
                    }
                }
                batches.into_iter().flatten().for_each(|handle| handle.join().unwrap());
            }
        });
        // An end that came before the feeder's first batch would find nothing that has run.
        while counts[1].load(SeqCst) == 0 {
            thread::yield_now();
        }
        Self { stop, counts, feeder }
    }

    fn end(self, runtime: &Runtime) -> String {
        self.stop.store(true, SeqCst);
        self.feeder.join().unwrap();
        // What was spawned inside may not have ended.
        while runtime.metrics().tasks_alive > 0 {
            thread::yield_now();
        }
        let [spawned, ran] = &*self.counts;
        let (spawned, ran) = (spawned.load(SeqCst), ran.load(SeqCst));
        if spawned == ran && ran > 0 { "all have run".into() } else { format!("{ran} of {spawned} have run") }
    }
}

/// A closure that forks, and spawns a task.
fn closure(handle: &Handle, counts: &Arc<[AtomicU64; 2]>) -> beat::JoinHandle<()> {
    counts[0].fetch_add(1, SeqCst);
    let (inside, counts) = (handle.clone(), Arc::clone(counts));
    handle.spawn_blocking_parallel(move || {
        std::hint::black_box(fib(18));
        drop(task(&inside, &counts));
        counts[1].fetch_add(1, SeqCst);
    })
}

/// A task that yields.
fn task(handle: &Handle, counts: &Arc<[AtomicU64; 2]>) -> beat::JoinHandle<()> {
    counts[0].fetch_add(1, SeqCst);
    let counts = Arc::clone(counts);
    handle.spawn(async move {
        for _ in 0..4 {
            beat::yield_now().await;
        }
        counts[1].fetch_add(1, SeqCst);
    })
}
