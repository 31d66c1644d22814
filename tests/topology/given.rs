//! What this process was given, and what cannot be had.

use beat::Pinning;
use beat::topology::{CpuSet, Topology};

fn refusal(machine: &Topology, pinning: Pinning, workers: usize) -> String {
    machine.place(&pinning, workers).unwrap_err().to_string()
}

#[test]
fn what_cannot_be_had_is_said() {
    let machine =
        Topology::from_synthetic("core:4 pu:2").unwrap().with_allowed(&"0-5".parse().unwrap()).unwrap();
    let says = |pinning, workers, text: &str| {
        let error = refusal(&machine, pinning, workers);
        assert!(error.contains(text), "{error}");
    };
    says(Pinning::Cores, 7, "7 workers cannot be pinned to a CPU each: there is room for 6 on the CPUs 0-5");
    says(Pinning::PhysicalCores, 4, "room for 3");
    says(Pinning::CacheGroup, 7, "room for 6");
    says(Pinning::Node, 7, "room for 6");
    says(Pinning::Cpus(vec![0, 1]), 3, "3 workers cannot be pinned to the 2 CPUs listed");
    says(Pinning::Cpus(vec![0, 1, 0]), 3, "CPU 0, which is listed twice");
    says(Pinning::Cpus(vec![0, 6]), 2, "CPU 6, which was not given to this process");
    says(Pinning::Cpus(vec![0, 8]), 2, "CPU 8, which is not there, or switched off");
    assert_eq!(machine.place(&Pinning::None, 100).unwrap().cpus().len(), 100);
    let error = machine.with_allowed(&"9-10".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("none of the CPUs {9-10} is online: choose some of 0-7"), "{error}");
}

#[test]
fn this_machine_is_seen() {
    let machine = beat::topology();
    assert!(machine.allowed().is_subset(machine.online()) && machine.online().is_subset(machine.present()));
    assert!(!machine.allowed().is_empty());
    assert!(machine.to_string().contains("given to this process"), "{machine}");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::thread;

    use beat::{Runtime, ThreadAffinity};

    use super::*;

    /// What the kernel says of the calling thread.
    fn mask() -> CpuSet {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        list.trim().parse().unwrap()
    }

    /// Runs `f` on a thread that may use one CPU only, as after `taskset`.
    fn confined<T: Send>(cpu: usize, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let mut set = rustix::thread::CpuSet::new();
                set.set(cpu);
                rustix::thread::sched_setaffinity(None, &set).unwrap();
                f()
            });
            thread.join().unwrap()
        })
    }

    #[test]
    fn a_mask_is_what_was_given() {
        let all = beat::topology();
        for cpu in all.allowed().iter() {
            let given = confined(cpu, beat::topology);
            assert_eq!(given.allowed(), &CpuSet::from_iter([cpu]));
            assert_eq!((given.online(), given.cpus()), (all.online(), all.cpus()));
        }
    }

    #[test]
    fn a_worker_answers_for_its_runtime() {
        let machine = beat::topology();
        let runtime = Runtime::builder().worker_threads(1).pinning(Pinning::Cores).build().unwrap();
        let (own, given) = runtime.install(|| (mask(), beat::topology()));
        assert_eq!(own.len(), 1);
        assert_eq!(given.allowed(), machine.allowed());
    }

    /// Each worker is where its policy says, by its own account.
    #[test]
    fn workers_sit_where_their_policy_says() {
        let machine = beat::topology();
        let list = machine.allowed().iter().collect::<Vec<_>>().into_iter().rev().collect();
        for pinning in [
            Pinning::Cores,
            Pinning::PhysicalCores,
            Pinning::Threads,
            Pinning::CacheGroup,
            Pinning::Node,
            Pinning::Cpus(list),
        ] {
            let workers = machine.room(&pinning);
            let runtime =
                Runtime::builder().worker_threads(workers).pinning(pinning.clone()).build().unwrap();
            let placement = machine.place(&pinning, workers).unwrap();
            let (masks, reports): (Vec<_>, Vec<_>) = on_each_worker(&runtime, workers).into_iter().unzip();
            let sorted = |masks: &[CpuSet]| {
                let mut masks: Vec<_> = masks.iter().map(CpuSet::to_string).collect();
                masks.sort();
                masks
            };
            assert_eq!(sorted(&masks), sorted(placement.cpus()), "{pinning:?}");
            // The report says the same, place by place.
            for report in reports {
                let at_work: Vec<_> = report.into_iter().filter_map(|t| Some((t.worker?, t.cpus))).collect();
                assert_eq!(at_work.len(), workers);
                for (worker, cpus) in at_work {
                    assert_eq!(cpus, placement.cpus()[worker], "{pinning:?}: {worker}");
                }
            }
        }
    }

    /// What each worker says of itself, and what the report says, while every worker is in a closure that never sleeps: such
    /// a thread keeps its place.
    fn on_each_worker(runtime: &Runtime, workers: usize) -> Vec<(CpuSet, Vec<ThreadAffinity>)> {
        let (begun, looked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let all = move |counter: &AtomicUsize| {
            counter.fetch_add(1, SeqCst);
            while counter.load(SeqCst) < workers {
                std::hint::spin_loop();
            }
        };
        let closures: Vec<_> = (0..workers)
            .map(|_| {
                let (handle, begun, looked) =
                    (runtime.handle().clone(), Arc::clone(&begun), Arc::clone(&looked));
                runtime.spawn_blocking_parallel(move || {
                    all(&begun);
                    let saw = (mask(), handle.affinities());
                    all(&looked);
                    saw
                })
            })
            .collect();
        closures.into_iter().map(|closure| runtime.block_on(closure).unwrap()).collect()
    }

    #[test]
    fn unasked_there_are_as_many_workers_as_the_pinning_has_room_for() {
        let cpu = beat::topology().allowed().first().unwrap();
        let runtime = Runtime::builder().pinning(Pinning::Cpus(vec![cpu])).build().unwrap();
        assert_eq!(runtime.current_num_threads(), 1);
        assert_eq!(runtime.install(mask), CpuSet::from_iter([cpu]));
        let error = Runtime::builder().pinning(Pinning::Cpus(Vec::new())).build().unwrap_err();
        assert!(error.to_string().contains("1 workers cannot be pinned to the 0 CPUs listed"), "{error}");
    }

    #[test]
    fn workers_stay_inside_what_was_given() {
        let cpu = beat::topology().allowed().iter().last().unwrap();
        for pinning in [Pinning::None, Pinning::Cores, Pinning::CacheGroup, Pinning::Node] {
            let masks = confined(cpu, || {
                let runtime = Runtime::builder().worker_threads(1).pinning(pinning).build().unwrap();
                runtime.broadcast(|_| mask())
            });
            assert_eq!(masks, [CpuSet::from_iter([cpu])]);
        }
        let error = confined(cpu, || {
            Runtime::builder().worker_threads(2).pinning(Pinning::Cores).build().unwrap_err().to_string()
        });
        assert!(error.contains(&format!("room for 1 on the CPUs {cpu}")), "{error}");
        let error =
            Runtime::builder().worker_threads(1).pinning(Pinning::Cpus(vec![4000])).build().unwrap_err();
        assert!(error.to_string().contains("CPU 4000, which is not there"), "{error}");
    }
}
