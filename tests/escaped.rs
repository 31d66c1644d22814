//! What is given to `tokio::spawn` runs on one core: it is counted, its long polls are, and somebody says so, once.
#![cfg(feature = "tokio")]

mod common;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use common::{Gate, at_each_size, within};

/// What tells the tests' own child processes which part they play.
const PART: &str = "BEAT_TEST_ESCAPED_PART";

#[test]
fn escaped_tasks_are_counted() {
    at_each_size(|runtime| {
        let before = runtime.metrics();
        assert_eq!((before.foreign_tasks, before.foreign_spawned), (0, 0));
        runtime.block_on(async {
            let metrics = || beat::Handle::current().metrics();
            let gate = Gate::new();
            let mut tasks = Vec::new();
            for round in 1..=3_u64 {
                for _ in 0..100 {
                    let gate = Arc::clone(&gate);
                    tasks.push(tokio::spawn(async move { gate.wait().await }));
                }
                while metrics().foreign_spawned < 100 * round {
                    beat::yield_now().await;
                }
                assert_eq!(
                    (metrics().foreign_spawned, metrics().foreign_tasks),
                    (100 * round, 100 * round as usize)
                );
            }
            gate.open();
            for task in tasks {
                task.await.unwrap();
            }
            while metrics().foreign_tasks > 0 {
                beat::yield_now().await;
            }
            // That they have ended has been noticed once a later one counts anew. What comes and goes between two looks is not
            // seen, so it may take several.
            while metrics().foreign_spawned == 300 {
                tokio::spawn(async {}).await.unwrap();
            }
        });
    });
}

/// Escaped tasks, until three long polls of theirs have been seen: what comes and goes within one stretch is not.
async fn long_polls() {
    while beat::Handle::current().metrics().foreign_long_polls < 3 {
        tokio::spawn(async { std::thread::sleep(Duration::from_millis(5)) }).await.unwrap();
    }
}

#[test]
fn long_polls_of_escaped_tasks_are_counted() {
    at_each_size(|runtime| {
        runtime.block_on(long_polls());
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
    within(Duration::from_secs(60), || {
        runtime.block_on(async {
            beat::spawn(tokio::time::sleep(Duration::from_millis(1))).await.unwrap();
            if part != "none" {
                long_polls().await;
            }
        });
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
