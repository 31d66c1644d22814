//! The async-io driver: timers and sockets of the smol family inside Beat tasks, also while every worker computes.

#![cfg(feature = "async-io")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use async_io::{Async, Timer};
use beat::{DriverKind, Runtime};
use common::{Latch, within};
use futures::io::{AsyncReadExt, AsyncWriteExt};

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().worker_threads(workers).driver(DriverKind::AsyncIo).build().unwrap()
}

fn at_each_size(test: impl Fn(&Runtime)) {
    for workers in [1, 2, 4] {
        let runtime = runtime(workers);
        within(Duration::from_secs(120), || test(&runtime));
    }
}

#[test]
fn timers_fire_and_not_too_early() {
    at_each_size(|runtime| {
        let timers: Vec<_> = (1..=20)
            .map(|milliseconds| {
                runtime.spawn(async move {
                    let (start, time) = (Instant::now(), Duration::from_millis(milliseconds));
                    Timer::after(time).await;
                    assert!(start.elapsed() >= time);
                })
            })
            .collect();
        for timer in timers {
            runtime.block_on(timer).unwrap();
        }
        // On the thread outside.
        runtime.block_on(Timer::after(Duration::from_millis(1)));
    });
}

/// Echoes what comes, once.
async fn echo(listener: Async<TcpListener>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).await.unwrap();
    stream.write_all(&buffer).await.unwrap();
}

async fn ask(address: std::net::SocketAddr) {
    let mut stream = Async::<TcpStream>::connect(address).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"hello");
}

fn exchange(runtime: &Runtime) {
    let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
    let address = listener.get_ref().local_addr().unwrap();
    let server = runtime.spawn(echo(listener));
    let client = runtime.spawn(ask(address));
    runtime.block_on(client).unwrap();
    runtime.block_on(server).unwrap();
}

#[test]
fn sockets_echo() {
    at_each_size(|runtime| (0..20).for_each(|_| exchange(runtime)));
}

#[test]
fn events_come_while_all_workers_compute() {
    at_each_size(|runtime| {
        let stop = Arc::new(AtomicBool::new(false));
        let computing: Vec<_> = (0..runtime.current_num_threads())
            .map(|_| {
                let (begun, stop) = (Latch::new(), Arc::clone(&stop));
                let has_begun = Arc::clone(&begun);
                let closure = runtime.spawn_blocking_parallel(move || {
                    begun.set();
                    while !stop.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                });
                has_begun.wait();
                closure
            })
            .collect();
        exchange(runtime);
        let timer = runtime.spawn(async {
            Timer::after(Duration::from_millis(2)).await;
        });
        runtime.block_on(timer).unwrap();
        stop.store(true, SeqCst);
        for closure in computing {
            runtime.block_on(closure).unwrap();
        }
    });
}

/// async-io has one reactor for all runtimes: each sees to its own tasks all the same.
#[test]
fn two_runtimes_share_the_reactor() {
    let runtimes = [runtime(1), runtime(2)];
    within(Duration::from_secs(120), || {
        std::thread::scope(|scope| {
            for runtime in &runtimes {
                scope.spawn(|| (0..50).for_each(|_| exchange(runtime)));
            }
        });
    });
}

#[test]
fn work_that_needs_no_events_goes_on() {
    at_each_size(|runtime| {
        assert_eq!(runtime.install(|| common::fib(15)), 610);
        let tasks: Vec<_> = (0..1000).map(|_| runtime.spawn(beat::yield_now())).collect();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        runtime.block_on(runtime.spawn_blocking(|| ())).unwrap();
    });
}

#[test]
fn a_runtime_ends_with_timers_and_sockets_pending() {
    for workers in [1, 2] {
        within(Duration::from_secs(60), || {
            let runtime = runtime(workers);
            let dropped = common::Drops::default();
            for _ in 0..10 {
                let guard = dropped.guard();
                drop(runtime.spawn(async move {
                    let _guard = guard;
                    let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
                    drop(
                        futures::future::join(Timer::after(Duration::from_secs(3600)), listener.accept())
                            .await,
                    );
                }));
            }
            runtime.block_on(beat::yield_now());
            drop(runtime);
            assert_eq!(dropped.count(), 10);
        });
    }
}
