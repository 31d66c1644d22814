//! What is given to `tokio::spawn` runs on one core: it is counted, its long polls are, and somebody says so, once.
#![cfg(feature = "tokio")]

mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use common::{Gate, at_each_size};

/// What tells the tests' own child processes which part they play.
const PART: &str = "BEAT_TEST_ESCAPED_PART";

#[test]
fn escaped_tasks_are_counted() {
    at_each_size(|runtime| {
        let before = runtime.metrics();
        assert_eq!((before.foreign_tasks, before.foreign_spawned), (0, 0));
        runtime.block_on(async {
            for round in 1..=3_u64 {
                let gate = Gate::new();
                let tasks: Vec<_> = (0..100)
                    .map(|_| {
                        let gate = Arc::clone(&gate);
                        tokio::spawn(async move { gate.wait().await })
                    })
                    .collect();
                while beat::Handle::current().metrics().foreign_spawned < 100 * round {
                    beat::yield_now().await;
                }
                assert_eq!(beat::Handle::current().metrics().foreign_tasks, 100);
                gate.open();
                for task in tasks {
                    task.await.unwrap();
                }
                // All have ended, and the driver has seen that: what comes next is counted anew.
                let next = tokio::spawn(async {});
                next.await.unwrap();
                while beat::Handle::current().metrics().foreign_tasks > 0 {
                    beat::yield_now().await;
                }
            }
        });
        let spawned = runtime.metrics().foreign_spawned;
        assert!((300..=303).contains(&spawned), "{spawned}");
    });
}

#[test]
fn long_polls_of_escaped_tasks_are_counted() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let long = || std::thread::sleep(Duration::from_millis(5));
            tokio::spawn(async move { long() }).await.unwrap();
            // The poll has ended, its stretch not yet perhaps.
            while beat::Handle::current().metrics().foreign_long_polls == 0 {
                beat::yield_now().await;
            }
        });
    });
}

#[test]
fn nothing_of_beats_own_counts_as_escaped() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let stop = Arc::new(AtomicBool::new(false));
            let ticks = beat::spawn({
                let stop = Arc::clone(&stop);
                async move {
                    while !stop.load(SeqCst) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                }
            });
            let long: Vec<_> =
                (0..4).map(|_| beat::spawn(async { std::thread::sleep(Duration::from_millis(5)) })).collect();
            for task in long {
                task.await.unwrap();
            }
            assert_eq!(tokio::task::spawn_blocking(|| 1).await.unwrap(), 1);
            stop.store(true, SeqCst);
            ticks.await.unwrap();
        });
        let metrics = runtime.metrics();
        assert_eq!((metrics.foreign_spawned, metrics.foreign_long_polls), (0, 0));
    });
}

/// Not a test: what the next ones run in a process of its own, told by [`PART`].
#[test]
fn child() {
    let Ok(part) = std::env::var(PART) else { return };
    let mut builder = beat::Runtime::builder().worker_threads(2);
    if part == "silenced" {
        builder = builder.warnings(false);
    }
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
            eprintln!("{error}");
            return;
        }
    };
    runtime.block_on(async {
        beat::spawn(tokio::time::sleep(Duration::from_millis(1))).await.unwrap();
        if part == "none" {
            return;
        }
        for round in 1..=3 {
            let long = async { std::thread::sleep(Duration::from_millis(5)) };
            tokio::spawn(long).await.unwrap();
            // Two of them in one stretch would count as one.
            while beat::Handle::current().metrics().foreign_long_polls < round {
                beat::yield_now().await;
            }
        }
    });
}

/// What a child writes to its standard error.
fn said(part: &str, warn: Option<&str>) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture"]).env(PART, part).env_remove("BEAT_WARN");
    if let Some(warn) = warn {
        command.env("BEAT_WARN", warn);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn escaped_tasks_are_spoken_of_once_and_can_be_hushed() {
    let text = said("all", None);
    assert_eq!(text.matches("gave a task to `tokio::spawn`").count(), 1, "{text}");
    assert_eq!(text.matches("all timers and sockets waited").count(), 1, "{text}");
    for name in ["beat::spawn", "beat::serve", "BEAT_WARN=0"] {
        assert!(text.contains(name), "{text}");
    }
    assert_eq!(said("all", Some("1")).matches("gave a task").count(), 1);
    for hushed in [said("all", Some("0")), said("silenced", Some("1")), said("none", None)] {
        assert!(!hushed.contains("tokio::spawn"), "{hushed}");
    }
    assert!(said("all", Some("loud")).contains("set it to 0 or 1, or unset it"));
}
