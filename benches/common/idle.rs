//! How long it takes until something that waits runs, when a thread that is none of the runtime's wakes it
//! and everything else is idle.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::table::quantile;
use super::tasks::Executor;

/// How long everything is idle before a wake-up.
pub(crate) const INTERVAL: Duration = Duration::from_millis(1);

/// Latencies of one turn, in µs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// When the last wake-up was sent, in ns since the clock's start, and how many have been heard.
#[derive(Debug)]
struct Clock {
    start: Instant,
    sent: AtomicU64,
    heard: AtomicU64,
}

impl Clock {
    fn new() -> Self {
        Self { start: Instant::now(), sent: AtomicU64::new(0), heard: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Wakes that often, by `wake`; each wake-up has been heard before the next.
    fn send(&self, wakes: u64, wake: impl Fn()) {
        for index in 0..wakes {
            thread::sleep(INTERVAL);
            // Acquire pairs with the store in `hear`.
            while self.heard.load(Acquire) < index {
                thread::sleep(INTERVAL);
            }
            // Release pairs with the load in `hear`; a wake-up that comes early is not lost on either side.
            self.sent.store(self.now(), Release);
            wake();
        }
    }

    fn hear(&self, latencies: &mut Vec<f64>) {
        let now = self.now();
        // Acquire pairs with the store in `send`.
        latencies.push((now - self.sent.load(Acquire)) as f64 / 1e3);
        // Release pairs with the load in `send`.
        self.heard.store(latencies.len() as u64, Release);
    }
}

impl Latency {
    fn of(mut latencies: Vec<f64>) -> Self {
        latencies.sort_by(f64::total_cmp);
        Self { p50: quantile(&latencies, 0.5), p99: quantile(&latencies, 0.99) }
    }
}

/// Wakes a task of an idle runtime.
pub(crate) fn wake_a_task<E: Executor>(runtime: &E, wakes: u64) -> Latency {
    let clock = Arc::new(Clock::new());
    let bell = Arc::new(Notify::new());
    let task = runtime.spawn_from_outside({
        let (clock, bell) = (Arc::clone(&clock), Arc::clone(&bell));
        async move {
            let mut latencies = Vec::with_capacity(wakes as usize);
            for _ in 0..wakes {
                bell.notified().await;
                clock.hear(&mut latencies);
            }
            latencies
        }
    });
    clock.send(wakes, || bell.notify_one());
    Latency::of(runtime.block_on(task).expect("the task ends"))
}

/// Unparks a thread: what the kernel takes.
pub(crate) fn unpark_a_thread(wakes: u64) -> Latency {
    let clock = Arc::new(Clock::new());
    let thread = thread::spawn({
        let clock = Arc::clone(&clock);
        move || {
            let mut latencies = Vec::with_capacity(wakes as usize);
            let mut last = 0;
            while latencies.len() < wakes as usize {
                // Acquire pairs with the store in `send`.
                let sent = clock.sent.load(Acquire);
                if sent == last {
                    thread::park();
                    continue;
                }
                last = sent;
                clock.hear(&mut latencies);
            }
            latencies
        }
    });
    clock.send(wakes, || thread.thread().unpark());
    Latency::of(thread.join().expect("the thread ends"))
}
