//! What a builder sets is what the runtime does: the blocking pool's limits, names, hooks, presets, warnings.

mod common;

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use beat::{Builder, Runtime};
use common::{Latch, within};

#[test]
fn no_more_blocking_closures_run_than_there_may_be_threads() {
    within(Duration::from_secs(60), || {
        let runtime = Runtime::builder().worker_threads(1).max_blocking_threads(2).build().unwrap();
        let (running, most, release) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Latch::new());
        let closures: Vec<_> = (0..5)
            .map(|_| {
                let (running, most, release) =
                    (Arc::clone(&running), Arc::clone(&most), Arc::clone(&release));
                runtime.spawn_blocking(move || {
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    release.wait();
                    running.fetch_sub(1, SeqCst);
                })
            })
            .collect();
        while running.load(SeqCst) < 2 {
            thread::yield_now();
        }
        let metrics = runtime.metrics();
        assert_eq!((metrics.blocking_threads, metrics.blocking_queued), (2, 3));
        release.set();
        for closure in closures {
            runtime.block_on(closure).unwrap();
        }
        assert_eq!(most.load(SeqCst), 2);
    });
}

#[cfg(feature = "tokio")]
#[test]
fn the_limit_of_blocking_threads_is_tokios_too() {
    within(Duration::from_secs(60), || {
        let runtime = Runtime::builder().worker_threads(1).max_blocking_threads(1).build().unwrap();
        let threads = runtime.block_on(async {
            let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let closures: Vec<_> = (0..20)
                .map(|_| {
                    let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                    tokio::task::spawn_blocking(move || {
                        most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                        thread::yield_now();
                        running.fetch_sub(1, SeqCst);
                    })
                })
                .collect();
            for closure in closures {
                closure.await.unwrap();
            }
            most.load(SeqCst)
        });
        assert_eq!(threads, 1);
    });
}

#[test]
fn an_idle_blocking_thread_ends_after_its_time() {
    within(Duration::from_secs(60), || {
        let builder = Runtime::builder().worker_threads(1).thread_keep_alive(Duration::from_millis(1));
        let runtime = builder.build().unwrap();
        runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
        while runtime.metrics().blocking_threads > 0 {
            thread::yield_now();
        }
        // The next closure gets a new one.
        assert_eq!(runtime.block_on(runtime.spawn_blocking(|| 5)).unwrap(), 5);
    });
}

#[test]
fn a_long_keep_alive_keeps_the_thread() {
    within(Duration::from_secs(60), || {
        let builder = Runtime::builder().worker_threads(1).thread_keep_alive(Duration::MAX);
        let runtime = builder.build().unwrap();
        let on = || runtime.block_on(runtime.spawn_blocking(|| thread::current().id())).unwrap();
        let first = on();
        // It may not be idle yet when the next closure comes, which then gets a thread that is kept as well.
        while on() != first {}
    });
}

#[test]
fn no_thread_for_blocking_closures_is_refused() {
    let error = Runtime::builder().max_blocking_threads(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("set `max_blocking_threads` to 1 or more"), "{error}");
}

#[test]
fn a_name_is_asked_for_at_each_start() {
    within(Duration::from_secs(60), || {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let name = move || format!("named-{}", counted.fetch_add(1, SeqCst));
        let runtime = Runtime::builder().worker_threads(2).thread_name_fn(name).build().unwrap();
        let this = || thread::current().name().map(String::from).unwrap();
        let names = runtime.broadcast(|_| this());
        let blocking = runtime.block_on(runtime.spawn_blocking(this)).unwrap();
        let all: HashSet<_> = names.into_iter().chain([blocking]).collect();
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|name| name.starts_with("named-")), "{all:?}");
        assert!(calls.load(SeqCst) >= 3);
    });
}

#[test]
fn a_name_that_cannot_be_had_does_no_harm() {
    within(Duration::from_secs(60), || {
        let this = || thread::current().name().map(String::from).unwrap();
        let runtime = Runtime::builder().worker_threads(1).thread_name_fn(|| "a\0b".into()).build().unwrap();
        assert_eq!(runtime.install(this), "a");
        let panics = || -> String { panic!("on purpose") };
        let runtime = Runtime::builder().worker_threads(1).thread_name_fn(panics).build().unwrap();
        assert_eq!(runtime.install(this), "beat-0");
    });
}

#[test]
fn park_hooks_run_around_each_sleep() {
    /// How often each thread has gone to sleep and come back. (There may be a duty thread beside the worker.)
    type Sleeps = Arc<Mutex<HashMap<ThreadId, [usize; 2]>>>;
    fn count(sleeps: &Sleeps, which: usize) {
        sleeps.lock().unwrap().entry(thread::current().id()).or_default()[which] += 1;
    }
    within(Duration::from_secs(60), || {
        let sleeps = Sleeps::default();
        let (park, unpark) = (Arc::clone(&sleeps), Arc::clone(&sleeps));
        let builder = Runtime::builder()
            .worker_threads(1)
            .on_thread_park(move || count(&park, 0))
            .on_thread_unpark(move || count(&unpark, 1));
        let runtime = builder.build().unwrap();
        let somebody_sleeps = || sleeps.lock().unwrap().values().any(|[parks, unparks]| parks > unparks);
        for _ in 0..10 {
            while !somebody_sleeps() {
                thread::yield_now();
            }
            let own = Arc::clone(&sleeps);
            let task =
                runtime.spawn(async move { own.lock().unwrap().get(&thread::current().id()).copied() });
            let [parks, unparks] = runtime.block_on(task).unwrap().unwrap_or_default();
            assert_eq!(
                parks, unparks,
                "a thread that runs a task has come back as often as it went to sleep"
            );
        }
        drop(runtime);
        assert!(sleeps.lock().unwrap().values().all(|[parks, unparks]| parks == unparks));
    });
}

/// What a hook spawns is run, though the thread was about to sleep; a hook that panics does no harm.
#[test]
fn a_park_hook_may_spawn_and_panic() {
    for workers in [1, 2] {
        within(Duration::from_secs(60), || {
            let (ran, handle) = (Latch::new(), Arc::new(Mutex::new(None::<beat::Handle>)));
            let (sets, inside) = (Arc::clone(&ran), Arc::clone(&handle));
            let hook = move || {
                if let Some(handle) = inside.lock().unwrap().take() {
                    let sets = Arc::clone(&sets);
                    drop(handle.spawn(async move { sets.set() }));
                    panic!("on purpose");
                }
            };
            let runtime = Runtime::builder().worker_threads(workers).on_thread_park(hook).build().unwrap();
            *handle.lock().unwrap() = Some(runtime.handle().clone());
            runtime.block_on(runtime.spawn(async {})).unwrap();
            ran.wait();
        });
    }
}

#[cfg(feature = "tokio")]
#[test]
fn hooks_run_on_the_drivers_own_threads_too() {
    within(Duration::from_secs(60), || {
        let started = Arc::new(Mutex::new(HashSet::new()));
        let names = Arc::clone(&started);
        let hook = move || {
            names.lock().unwrap().insert(thread::current().id());
        };
        let runtime = Runtime::builder().worker_threads(1).on_thread_start(hook).build().unwrap();
        let id = runtime.block_on(async { tokio::task::spawn_blocking(|| thread::current().id()).await });
        assert!(started.lock().unwrap().contains(&id.unwrap()));
    });
}

#[cfg(target_os = "linux")]
mod pinned {
    use super::*;

    /// The CPUs that a worker may run on.
    fn cpus_of_a_worker(builder: Builder) -> usize {
        let runtime = builder.build().unwrap();
        runtime.install(|| thread::available_parallelism().map_or(1, usize::from))
    }

    #[test]
    fn presets_pin_as_they_say() {
        // A quota would be seen in the same number.
        let all = thread::available_parallelism().map_or(1, usize::from);
        assert_eq!(cpus_of_a_worker(Builder::basic()), all);
        assert_eq!(cpus_of_a_worker(Builder::development()), all);
        assert_eq!(cpus_of_a_worker(Builder::performance().worker_threads(1)), 1);
        assert_eq!(cpus_of_a_worker(Builder::advanced().worker_threads(1)), 1);
    }

    #[test]
    fn where_pinning_is_impossible_one_preset_goes_without_and_the_other_says_so() {
        let too_many = 2000;
        let error = Builder::advanced().worker_threads(too_many).build().unwrap_err();
        assert!(error.to_string().contains("cannot be pinned"), "{error}");
        let explanation = Builder::performance().worker_threads(too_many).explain();
        assert!(explanation.to_string().contains("none: there are fewer CPUs than workers"), "{explanation}");
    }
}

/// What a program like this one says on its standard error.
fn standard_error_of(test: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let child = Command::new(this).args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    assert!(child.status.success(), "{child:?}");
    String::from_utf8(child.stderr).unwrap()
}

#[test]
#[ignore = "run by the test below, which looks at what it says"]
fn a_developed_program() {
    let runtime = Builder::development().worker_threads(1).build().unwrap();
    for _ in 0..3 {
        let task = runtime.spawn(async { thread::sleep(Duration::from_millis(15)) });
        runtime.block_on(task).unwrap();
    }
    runtime.block_on(runtime.spawn(async {})).unwrap();
    // A closure is no poll.
    runtime.install(|| thread::sleep(Duration::from_millis(15)));
}

#[test]
fn development_explains_itself_and_reports_a_long_poll_once() {
    let said = standard_error_of("a_developed_program");
    assert_eq!(said.matches("workers      1: set by `worker_threads`").count(), 1, "{said}");
    assert_eq!(said.matches("beat: a poll of the task spawned at").count(), 1, "{said}");
    assert!(said.contains("tests/knobs.rs:"), "{said}");
}

#[test]
#[ignore = "run by the test below, which looks at what it says"]
fn a_program_as_ever() {
    let runtime = common::runtime(1);
    runtime.block_on(runtime.spawn(async { thread::sleep(Duration::from_millis(15)) })).unwrap();
}

#[test]
fn unasked_nothing_is_said() {
    assert_eq!(standard_error_of("a_program_as_ever"), "");
}
