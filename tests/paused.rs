//! A paused clock: time jumps to the next timer when nothing can run, and stands while anything can.

#![cfg(feature = "test-util")]

mod common;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use common::{Gate, Latch, within};
use tokio::time::{Instant, advance, interval, sleep, sleep_until, timeout};

const HOUR: Duration = Duration::from_secs(3600);
/// Real time in which a clock that is not held would jump: a few parks.
const A_WHILE: Duration = Duration::from_millis(20);

fn paused(workers: usize) -> beat::Runtime {
    beat::Runtime::builder().worker_threads(workers).start_paused(true).build().unwrap()
}

/// Runs a test on fresh runtimes of each size.
fn at_each_size<F: Future>(test: impl Fn() -> F) {
    for workers in [1, 2, 4] {
        within(Duration::from_secs(60), || paused(workers).block_on(test()));
    }
}

/// Computes for a while of real time.
fn compute() {
    let start = std::time::Instant::now();
    while start.elapsed() < A_WHILE {
        std::hint::spin_loop();
    }
}

async fn sleeps_for(time: Duration) -> Duration {
    let start = Instant::now();
    sleep(time).await;
    start.elapsed()
}

#[test]
fn an_hour_is_over_at_once() {
    at_each_size(|| async { assert_eq!(sleeps_for(HOUR).await, HOUR) });
    at_each_size(|| async { assert_eq!(beat::spawn(sleeps_for(HOUR)).await.unwrap(), HOUR) });
    at_each_size(|| async { assert_eq!(tokio::spawn(sleeps_for(HOUR)).await.unwrap(), HOUR) });
}

#[test]
fn sleeps_end_in_their_order() {
    at_each_size(|| async {
        let start = Instant::now();
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        for seconds in [30_u64, 10, 20] {
            let ended = ended.clone();
            drop(beat::spawn(async move {
                sleep_until(start + Duration::from_secs(seconds)).await;
                ended.send((seconds, start.elapsed().as_secs())).unwrap();
            }));
        }
        for seconds in [10, 20, 30] {
            assert_eq!(ends.recv().await, Some((seconds, seconds)));
        }
    });
}

#[test]
fn a_task_that_computes_holds_time() {
    at_each_size(|| async {
        let start = Instant::now();
        let sleeper = beat::spawn(sleeps_for(HOUR));
        let elapsed = beat::spawn(async move {
            compute();
            start.elapsed()
        });
        assert_eq!(elapsed.await.unwrap(), Duration::ZERO);
        assert_eq!(sleeper.await.unwrap(), HOUR);
    });
}

#[test]
fn a_closure_holds_time_and_so_do_its_halves() {
    at_each_size(|| async {
        let start = Instant::now();
        let sleeper = beat::spawn(sleeps_for(HOUR));
        let closure = beat::spawn_blocking_parallel(move || {
            beat::join(compute, compute);
            common::fib(15);
            start.elapsed()
        });
        assert_eq!(closure.await.unwrap(), Duration::ZERO);
        assert_eq!(sleeper.await.unwrap(), HOUR);
    });
}

#[test]
fn a_blocking_closure_holds_time_even_asleep() {
    at_each_size(|| async {
        let start = Instant::now();
        let begun = Latch::new();
        let sleeper = beat::spawn({
            let begun = Arc::clone(&begun);
            async move {
                begun.set();
                sleeps_for(HOUR).await
            }
        });
        let closure = beat::spawn_blocking(move || {
            begun.wait();
            std::thread::sleep(A_WHILE);
            start.elapsed()
        });
        assert_eq!(closure.await.unwrap(), Duration::ZERO);
        assert_eq!(sleeper.await.unwrap(), HOUR);
    });
    at_each_size(|| async {
        let start = Instant::now();
        let closure = tokio::task::spawn_blocking(move || {
            std::thread::sleep(A_WHILE);
            start.elapsed()
        });
        assert_eq!(closure.await.unwrap(), Duration::ZERO);
    });
}

#[test]
fn the_future_of_block_on_holds_time() {
    at_each_size(|| async {
        let start = Instant::now();
        let sleeper = beat::spawn(sleeps_for(HOUR));
        compute();
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(sleeper.await.unwrap(), HOUR);
    });
}

#[test]
fn between_two_calls_of_block_on_time_stands() {
    within(Duration::from_secs(60), || {
        let runtime = paused(2);
        let (start, sleeper) = runtime.block_on(async { (Instant::now(), beat::spawn(sleeps_for(HOUR))) });
        compute();
        assert_eq!(runtime.block_on(async { start.elapsed() }), Duration::ZERO);
        assert_eq!(runtime.block_on(sleeper).unwrap(), HOUR);
    });
}

#[test]
fn closures_that_wait_for_timers_rest() {
    at_each_size(|| async {
        let closure = |handle: beat::Handle| move || handle.block_on(sleeps_for(HOUR));
        let handle = beat::Handle::current();
        let parallel = beat::spawn_blocking_parallel(closure(handle.clone()));
        let blocking = beat::spawn_blocking(closure(handle.clone()));
        assert_eq!(parallel.await.unwrap(), HOUR);
        assert_eq!(blocking.await.unwrap(), HOUR);
        // Nested, on the thread of the outermost one.
        assert_eq!(handle.block_on(sleeps_for(HOUR)), HOUR);
    });
}

/// The joiner waits for a half that waits for a timer.
#[test]
fn halves_and_jobs_that_wait_for_timers_rest() {
    at_each_size(|| async {
        let start = Instant::now();
        let handle = beat::Handle::current();
        let closure = beat::spawn_blocking_parallel(move || {
            let wait = |hours: u32| handle.block_on(sleep(HOUR * hours));
            beat::scope(|scope| {
                scope.spawn(|_| wait(2));
                scope.spawn(|_| wait(1));
                beat::join(|| wait(1), || wait(1));
            });
            start.elapsed()
        });
        let elapsed = closure.await.unwrap();
        assert!(elapsed >= HOUR * 2 && elapsed <= HOUR * 5, "{elapsed:?}");
    });
}

#[test]
fn a_region_outside_rests_while_it_waits() {
    within(Duration::from_secs(60), || {
        let runtime = paused(2);
        let handle = runtime.handle().clone();
        let slept = runtime.block_on(async move {
            let (a, b) =
                beat::join(|| handle.block_on(sleeps_for(HOUR)), || handle.block_on(sleeps_for(HOUR)));
            a + b
        });
        assert_eq!(slept, HOUR * 2);
    });
}

#[test]
fn another_runtimes_thread_rests_in_block_on() {
    within(Duration::from_secs(60), || {
        let (outer, inner) = (common::runtime(1), Arc::new(paused(1)));
        let (in_task, in_closure) = (Arc::clone(&inner), Arc::clone(&inner));
        let task = outer.spawn(async move { in_task.block_on(sleeps_for(HOUR)) });
        assert_eq!(outer.block_on(task).unwrap(), HOUR);
        let closure = outer.spawn_blocking_parallel(move || {
            let start = in_closure.block_on(async { Instant::now() });
            let handle = in_closure.handle().clone();
            in_closure.block_on(async move { handle.block_on(sleep(HOUR)) });
            in_closure.block_on(async move { start.elapsed() })
        });
        assert_eq!(outer.block_on(closure).unwrap(), HOUR);
    });
}

#[test]
fn a_timeout_strikes_what_waits_and_spares_what_works() {
    at_each_size(|| async {
        let never = Gate::new();
        let start = Instant::now();
        timeout(HOUR, never.wait()).await.unwrap_err();
        assert_eq!(start.elapsed(), HOUR);
        let work = beat::spawn_blocking_parallel(compute);
        timeout(Duration::from_millis(1), work).await.unwrap().unwrap();
        let work = beat::spawn_blocking(compute);
        timeout(Duration::from_millis(1), work).await.unwrap().unwrap();
        let work = beat::spawn(async {
            for _ in 0..100 {
                beat::yield_now().await;
            }
        });
        timeout(Duration::from_millis(1), work).await.unwrap().unwrap();
        assert_eq!(start.elapsed(), HOUR);
    });
}

#[test]
fn an_interval_ticks_at_its_times() {
    at_each_size(|| async {
        let start = Instant::now();
        let ticks = beat::spawn(async move {
            let mut interval = interval(HOUR);
            for hours in 0..24 {
                let tick = interval.tick().await;
                assert_eq!(tick - start, HOUR * hours);
            }
        });
        ticks.await.unwrap();
        assert_eq!(start.elapsed(), HOUR * 23);
    });
}

/// Tasks that hand each other on between timers: each is seen at its own time.
#[test]
fn what_a_timer_wakes_runs_before_the_next_jump() {
    at_each_size(|| async {
        let start = Instant::now();
        let tasks: Vec<_> = (1..=20)
            .map(|seconds| {
                beat::spawn(async move {
                    sleep(Duration::from_secs(seconds)).await;
                    for _ in 0..3 {
                        beat::spawn(beat::yield_now()).await.unwrap();
                        beat::spawn_blocking(|| ()).await.unwrap();
                        beat::spawn_blocking_parallel(|| ()).await.unwrap();
                    }
                    assert_eq!(start.elapsed(), Duration::from_secs(seconds));
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn events_come_while_time_is_held() {
    at_each_size(|| async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let start = Instant::now();
        let sleeper = beat::spawn(sleeps_for(HOUR));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let echo = beat::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            socket.read_exact(&mut byte).await.unwrap();
            socket.write_all(&byte).await.unwrap();
        });
        // A foreign client that Beat knows nothing of, but for the closure that waits for it.
        let client = beat::spawn_blocking(move || {
            use std::io::{Read, Write};
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            socket.write_all(&[7]).unwrap();
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            byte[0]
        });
        assert_eq!(client.await.unwrap(), 7);
        echo.await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
        assert_eq!(sleeper.await.unwrap(), HOUR);
    });
}

#[test]
fn advance_and_resume_work_as_ever() {
    at_each_size(|| async {
        let start = Instant::now();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let sleeper = beat::spawn(async {
            let mut sleep = std::pin::pin!(sleep(HOUR));
            let is_pending = poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_pending())).await;
            assert!(is_pending);
            begun.send(()).unwrap();
            sleep.await;
        });
        let busy = Latch::new();
        let closure = beat::spawn_blocking({
            let busy = Arc::clone(&busy);
            move || busy.wait()
        });
        has_begun.await.unwrap();
        advance(HOUR).await;
        assert_eq!(start.elapsed(), HOUR);
        // Time is held: only the advance can have ended it, and nobody but us yields.
        while !sleeper.is_finished() {
            beat::yield_now().await;
        }
        busy.set();
        closure.await.unwrap();
        tokio::time::resume();
        let before = Instant::now();
        sleep(Duration::from_millis(2)).await;
        assert!(before.elapsed() >= Duration::from_millis(2));
        tokio::time::pause();
        // Timers are exact to the millisecond.
        let slept = sleeps_for(HOUR).await;
        assert!(slept >= HOUR && slept < HOUR + Duration::from_millis(2), "{slept:?}");
    });
}

/// A future that is woken at once, over and over, is work.
#[test]
fn yielding_holds_time() {
    at_each_size(|| async {
        let start = Instant::now();
        let mut sleep = std::pin::pin!(sleep(HOUR));
        let mut polls = 0;
        poll_fn(|cx| {
            assert!(sleep.as_mut().poll(cx).is_pending(), "after {polls} polls");
            polls += 1;
            cx.waker().wake_by_ref();
            if polls < 1000 { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
}

#[test]
fn a_runtime_with_timers_pending_ends() {
    for workers in [1, 2] {
        within(Duration::from_secs(60), || {
            let runtime = paused(workers);
            let dropped = common::Drops::default();
            let guard = dropped.guard();
            drop(runtime.spawn(async move {
                let _guard = guard;
                sleep(HOUR).await;
            }));
            runtime.block_on(beat::yield_now());
            drop(runtime);
            assert_eq!(dropped.count(), 1);
        });
    }
}

#[test]
fn the_blocking_pool_keeps_its_limit_beside_the_paused_clock() {
    within(Duration::from_secs(60), || {
        let builder = beat::Runtime::builder().worker_threads(1).max_blocking_threads(1).start_paused(true);
        let done = builder.build().unwrap().block_on(async {
            let path = std::env::current_exe().unwrap();
            let metadata = tokio::fs::metadata(path).await.unwrap();
            beat::spawn_blocking(move || metadata.is_file()).await.unwrap()
        });
        assert!(done);
    });
}

#[test]
fn only_tokios_clock_can_be_paused() {
    let builder = beat::Runtime::builder().driver(beat::DriverKind::Plain).start_paused(true);
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("set `driver` to tokio"), "{error}");
}

/// A thread of nobody's wakes a task while all rest: the hour may be over or not, the task runs.
#[test]
fn a_foreign_wake_is_not_lost() {
    at_each_size(|| async {
        let (gate, go) = (Gate::new(), Arc::new(AtomicBool::new(false)));
        let foreign = std::thread::spawn({
            let (gate, go) = (Arc::clone(&gate), Arc::clone(&go));
            move || {
                while !go.load(SeqCst) {
                    std::thread::yield_now();
                }
                gate.open();
            }
        });
        go.store(true, SeqCst);
        beat::spawn(async move { gate.wait().await }).await.unwrap();
        foreign.join().unwrap();
    });
}
