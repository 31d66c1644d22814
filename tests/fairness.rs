//! Tasks that do not yield hold up nobody: timers, sockets and light tasks go on beside them.
//!
//! The tests ask for progress only, in order and without clocks: who spins goes on until the others are through,
//! or until a limit that no machine reaches by being slow. How prompt the others are is measured by
//! `cargo run --release -p beat-bench -- stalls`.
#![cfg(feature = "tokio")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use beat::{JoinHandle, Runtime};
use common::{Latch, at_each_size};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Who spins for so long has been left alone.
const CAP: Duration = Duration::from_secs(60);

/// Spins until told; `false` if nobody did in time.
fn spin_until(told: &AtomicBool) -> bool {
    let began = Instant::now();
    while !told.load(SeqCst) {
        if began.elapsed() > CAP {
            return false;
        }
        std::hint::spin_loop();
    }
    true
}

/// A connection between two tasks on `runtime`.
fn connection(runtime: &Runtime) -> (TcpStream, TcpStream) {
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, client)
    })
}

/// Sends back what comes, until the other end is closed.
async fn serve(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        stream.write_all(&buffer[..read]).await.unwrap();
    }
}

async fn round_trips(stream: &mut TcpStream, number: u8) {
    for i in 0..number {
        stream.write_all(&[i]).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), i);
    }
}

/// A task on each worker that spins until told, all of which have begun.
fn spinners(runtime: &Runtime, told: &Arc<AtomicBool>) -> Vec<JoinHandle<bool>> {
    let (begun, spinners): (Vec<_>, Vec<_>) = (0..runtime.metrics().workers)
        .map(|_| {
            let (begun, told) = (Latch::new(), Arc::clone(told));
            let spinner = runtime.spawn({
                let begun = Arc::clone(&begun);
                async move {
                    begun.set();
                    spin_until(&told)
                }
            });
            (begun, spinner)
        })
        .unzip();
    begun.iter().for_each(|begun| begun.wait());
    spinners
}

#[test]
fn timers_and_sockets_go_on_while_every_worker_spins() {
    at_each_size(|runtime| {
        let told = Arc::new(AtomicBool::new(false));
        let (server, mut client) = connection(runtime);
        drop(runtime.spawn(serve(server)));
        let spinners = spinners(runtime, &told);
        let ticks = runtime.spawn(async {
            for _ in 0..50 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let echoes = runtime.spawn(async move { round_trips(&mut client, 50).await });
        runtime.block_on(ticks).unwrap();
        runtime.block_on(echoes).unwrap();
        told.store(true, SeqCst);
        for spinner in spinners {
            assert!(runtime.block_on(spinner).unwrap(), "a spinner was left alone");
        }
    });
}

/// Light tasks that are spawned, woken and joined; from inside and from outside.
#[test]
fn light_tasks_and_closures_go_on_while_tasks_spin() {
    at_each_size(|runtime| {
        let told = Arc::new(AtomicBool::new(false));
        // One worker fewer for closures: they are not started beside as many polls as there are workers.
        let workers = runtime.metrics().workers;
        let spinners: Vec<_> = (1..workers)
            .map(|_| {
                let told = Arc::clone(&told);
                runtime.spawn(async move { spin_until(&told) })
            })
            .collect();
        let light = runtime.spawn(async {
            for i in 0..50 {
                let task = beat::spawn(async move {
                    beat::yield_now().await;
                    i
                });
                assert_eq!(task.await.unwrap(), i);
                assert_eq!(beat::spawn_blocking_parallel(|| common::fib(5)).await.unwrap(), 5);
            }
        });
        runtime.block_on(light).unwrap();
        for i in 0..50 {
            assert_eq!(runtime.block_on(runtime.spawn(async move { i })).unwrap(), i);
        }
        told.store(true, SeqCst);
        for spinner in spinners {
            assert!(runtime.block_on(spinner).unwrap(), "a spinner was left alone");
        }
    });
}

/// tokio#4730: a worker takes an event and then polls for long. The events of others, which it has left in the
/// driver, reach somebody.
#[test]
fn who_takes_an_event_and_spins_strands_no_other_event() {
    at_each_size(|runtime| {
        let (server, mut client) = connection(runtime);
        drop(runtime.spawn(serve(server)));
        for _ in 0..20 {
            let told = Arc::new(AtomicBool::new(false));
            let (mut event, mut trigger) = connection(runtime);
            let begun = Latch::new();
            let spinner = runtime.spawn({
                let (begun, told) = (Arc::clone(&begun), Arc::clone(&told));
                async move {
                    assert_eq!(event.read_u8().await.unwrap(), 1);
                    begun.set();
                    spin_until(&told)
                }
            });
            runtime.block_on(async { trigger.write_all(&[1]).await.unwrap() });
            begun.wait();
            runtime.block_on(round_trips(&mut client, 5));
            told.store(true, SeqCst);
            assert!(runtime.block_on(spinner).unwrap(), "a spinner was left alone");
        }
    });
}

/// Without a driver that has events nothing but queued work keeps the watchdog up: a poll on duty that waits for a
/// task behind it must not wait for ever.
#[test]
fn a_long_poll_on_duty_strands_nobody_without_a_driver() {
    let runtime = beat::Runtime::builder().worker_threads(1).driver(beat::DriverKind::Plain).build().unwrap();
    common::within(std::time::Duration::from_secs(60), || {
        let (begun, stop) = (common::Latch::new(), common::Latch::new());
        let closure = runtime.spawn_blocking_parallel({
            let (begun, stop) = (std::sync::Arc::clone(&begun), std::sync::Arc::clone(&stop));
            move || {
                begun.set();
                while !stop.wait_timeout(std::time::Duration::ZERO) {
                    std::hint::spin_loop();
                }
            }
        });
        begun.wait();
        for _ in 0..20 {
            let (polled, opened) = (common::Latch::new(), common::Latch::new());
            let waits = runtime.spawn({
                let (polled, opened) = (std::sync::Arc::clone(&polled), std::sync::Arc::clone(&opened));
                async move {
                    polled.set();
                    opened.wait();
                }
            });
            polled.wait();
            let opens = runtime.spawn(async move { opened.set() });
            runtime.block_on(async {
                opens.await.unwrap();
                waits.await.unwrap();
            });
        }
        stop.set();
        runtime.block_on(closure).unwrap();
    });
}

/// One turn of the driver can make many tasks ready, all on the thread that took it. If they last, a sleeping worker
/// takes its share at once: the watchdog, who finds a thread that is stuck, need not find this one.
#[test]
fn events_of_one_turn_that_are_worth_a_core_get_one() {
    const ROUNDS: usize = 50;
    let runtime = common::runtime(2);
    let busy = |micros| {
        let began = Instant::now();
        while began.elapsed() < Duration::from_micros(micros) {
            std::hint::spin_loop();
        }
    };
    // So that a poll is known to last.
    for _ in 0..200 {
        runtime.block_on(runtime.spawn(async move { busy(100) })).unwrap();
    }
    let unaided = (0..ROUNDS).filter(|_| {
        let before = runtime.metrics().long_polls;
        let both = Arc::new(std::sync::Barrier::new(2));
        let due = tokio::time::Instant::now() + Duration::from_millis(2);
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let both = Arc::clone(&both);
                runtime.spawn(async move {
                    tokio::time::sleep_until(due).await;
                    // Each waits for the other inside its poll.
                    both.wait();
                    busy(100);
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());
        runtime.metrics().long_polls == before
    });
    // The machine may disturb some rounds, and a worker that has just gone to look may help in a few.
    let unaided = unaided.count();
    assert!(unaided > ROUNDS / 4, "one stayed behind the other, but for {unaided} of {ROUNDS} times");
}
