//! Idle is free: with nothing to do no thread of the process is woken. A test binary of its own, since it counts
//! the switches of the whole process.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, atomic::AtomicBool};
use std::time::Duration;

use common::{Latch, fib};

/// Voluntary context switches of all threads of this process, by thread name.
fn switches() -> Vec<(String, u64)> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let mut switches: Vec<_> = threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .map(|status| {
            let field = |name: &str| {
                let line = status.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_whitespace().nth(1).unwrap().to_owned()
            };
            let pid = field("Pid:");
            (format!("{} {pid}", field("Name:")), field("voluntary_ctxt_switches:").parse().unwrap())
        })
        .collect();
    switches.sort();
    switches
}

/// Nothing happens for five seconds, beginning one second from now.
fn stays_quiet(what: &str) {
    let this = fs::read_link("/proc/thread-self").unwrap();
    let this = this.file_name().unwrap().to_str().unwrap().to_owned();
    // The thread that measures and the one that waits for it are not Beat's.
    let others = |switches: Vec<(String, u64)>| -> Vec<_> {
        switches.into_iter().filter(|(name, _)| name.starts_with("beat") && !name.ends_with(&this)).collect()
    };
    std::thread::sleep(Duration::from_secs(1));
    let before = others(switches());
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(before, others(switches()), "{what}");
}

#[test]
fn an_idle_runtime_makes_no_wake_ups() {
    let runtime = common::runtime(2);
    runtime.block_on(async {
        let closures: Vec<_> = (0..8).map(|_| beat::spawn_blocking_parallel(|| fib(20))).collect();
        let tasks: Vec<_> = (0..1000).map(|_| beat::spawn(beat::yield_now())).collect();
        for closure in closures {
            closure.await.unwrap();
        }
        for task in tasks {
            task.await.unwrap();
        }
        beat::spawn_blocking(|| ()).await.unwrap();
        #[cfg(feature = "tokio")]
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    stays_quiet("after closures, tasks and timers");

    // A closure that is open and blocked, and a task that waits: still nothing to do.
    let (begun, release) = (Latch::new(), Latch::new());
    let closure = runtime.spawn_blocking_parallel({
        let (begun, release) = (Arc::clone(&begun), Arc::clone(&release));
        move || {
            begun.set();
            release.wait();
        }
    });
    begun.wait();
    stays_quiet("with a closure that blocks");
    release.set();
    runtime.block_on(closure).unwrap();

    // Some worker computes, the others stay down.
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Latch::new();
    let closure = runtime.spawn_blocking_parallel({
        let (begun, stop) = (Arc::clone(&begun), Arc::clone(&stop));
        move || {
            begun.set();
            while !stop.load(SeqCst) {
                std::hint::spin_loop();
            }
        }
    });
    begun.wait();
    stays_quiet("with one worker computing");
    stop.store(true, SeqCst);
    runtime.block_on(closure).unwrap();
}
