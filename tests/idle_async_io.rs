//! Idle is free with the async-io driver too: neither Beat's threads nor async-io's own are woken without an event. A
//! test binary of its own, since it counts the switches of the whole process.
#![cfg(all(target_os = "linux", feature = "async-io"))]

mod common;

use std::time::Duration;

use async_io::{Async, Timer};
use common::idle::stays_quiet;

#[test]
fn an_idle_runtime_makes_no_wake_ups() {
    let builder = beat::Runtime::builder().worker_threads(2).driver(beat::DriverKind::AsyncIo);
    let runtime = builder.build().unwrap();
    let listener = Async::<std::net::TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
    let waits = runtime.spawn(async move { listener.accept().await.map(drop) });
    runtime.block_on(async {
        for _ in 0..20 {
            Timer::after(Duration::from_millis(1)).await;
            beat::spawn(Timer::after(Duration::from_millis(1))).await.unwrap();
        }
    });
    stays_quiet("with a socket that waits", 0);
    drop(waits);
}
