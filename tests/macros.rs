//! `#[beat::main]` and `#[beat::test]` do what they promise: the body runs on a runtime built with
//! the options, its value comes back, and every mistake is reported at its place.
//!
//! The files in `tests/ui` are programs. Those named `pass_` must build and run; beside those named
//! `fail_` stands what the compiler says, which `TRYBUILD=overwrite cargo test --test macros`
//! rewrites.

#![cfg(feature = "macros")]

use std::num::ParseIntError;
use std::process::ExitCode;

#[test]
fn programs() {
    let programs = trybuild::TestCases::new();
    programs.pass("tests/ui/pass_*.rs");
    programs.compile_fail("tests/ui/fail_*.rs");
}

#[beat::test]
async fn a_body_may_end_without_a_value() {
    std::future::ready(()).await;
}

#[beat::test]
async fn a_result_is_returned_and_question_marks_work() -> Result<(), ParseIntError> {
    let number: u32 = std::future::ready("42").await.parse()?;
    assert_eq!(number, 42);
    Ok(())
}

#[beat::test]
async fn a_test_may_return_an_exit_code() -> ExitCode {
    ExitCode::SUCCESS
}

#[beat::test]
async fn an_early_return_ends_the_test() {
    if std::future::ready(true).await {
        return;
    }
    panic!("the return above was not taken");
}

#[beat::test]
#[should_panic(expected = "on purpose")]
async fn a_panic_reaches_the_harness() {
    std::future::ready(()).await;
    panic!("on purpose");
}

#[beat::test]
#[ignore = "shows that the attribute is kept"]
async fn an_ignored_test_does_not_run() {
    panic!("this test is ignored");
}

#[beat::test(
    worker_threads = 1,
    flavor = "current_thread",
    pinning = "none",
    heartbeat_us = 200,
    thread_name = "macro-test",
    thread_stack_size = 2_097_152,
    crate = beat
)]
async fn options_reach_the_runtime() -> Result<(), beat::JoinError> {
    let name = beat::spawn(async { std::thread::current().name().map(str::to_owned) }).await?;
    let name = name.expect("a worker's thread has a name");
    assert!(name.starts_with("macro-test"), "{name}");
    Ok(())
}

#[cfg(feature = "test-util")]
#[beat::test(start_paused = true)]
async fn a_paused_clock_is_asked_for_by_name() {
    let (real, start) = (std::time::Instant::now(), tokio::time::Instant::now());
    tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    assert_eq!(start.elapsed().as_secs(), 3600);
    assert!(real.elapsed().as_secs() < 60);
}

#[beat::main]
async fn parsed() -> Result<u32, ParseIntError> {
    let number: u32 = std::future::ready("four").await.parse()?;
    panic!("{number} was parsed");
}

#[test]
fn an_error_is_returned() {
    assert!(parsed().is_err());
}

mod visible {
    #[beat::main(worker_threads = 1)]
    pub(super) async fn answer() -> u32 {
        beat::spawn(async { 42 }).await.expect("the task does not panic")
    }
}

/// The inner one is a runtime of its own; the outer one stays the global one.
#[test]
fn main_works_inside_main() {
    #[beat::main(worker_threads = 2)]
    async fn outer() -> (u32, usize) {
        let inner = beat::spawn_blocking(visible::answer).await.expect("no panic");
        // A thread of nobody's asks the global runtime.
        let foreign = std::thread::spawn(|| beat::spawn(async { beat::Handle::current().metrics().workers }));
        (inner, foreign.join().expect("no panic").await.expect("no panic"))
    }
    assert_eq!(outer(), (42, 2));
}

#[test]
fn main_works_on_another_function_and_more_than_once() {
    assert_eq!(visible::answer(), 42);
    assert_eq!(visible::answer(), 42);
}
