//! The clients: two that ask in turn, many that do not wait for each other, and one that only wants to know whether the
//! service is there.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use super::super::priority;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is asked for, in turn: the pictures that the example draws.
const NAMES: [&str; 6] = ["dune", "fern", "harbour", "lava", "reef", "storm"];
/// How often the probe asks.
const PROBE_PERIOD: Duration = Duration::from_millis(10);

/// How requests ended.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) made: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
}

impl Counts {
    fn add(&self, status: io::Result<u16>) -> bool {
        let count = match status {
            Ok(200) => &self.made,
            Ok(503) => &self.refused,
            _ => &self.failed,
        };
        count.fetch_add(1, Relaxed);
        matches!(status, Ok(200))
    }
}

/// One request on a connection of its own; its status.
async fn thumbnail(addr: SocketAddr, number: usize) -> io::Result<u16> {
    let exchange = async {
        let mut connection = tokio::net::TcpStream::connect(addr).await?;
        let name = NAMES[number % NAMES.len()];
        let request = format!("GET /thumb/{name}.jpg HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        status.ok_or_else(|| io::Error::other("that is no answer"))
    };
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The thread that all clients but the probe share.
pub(super) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()
}

/// `clients` that each ask again when they have got their answer; thumbnails and refusals a second.
pub(super) fn closed(runtime: &Runtime, addr: SocketAddr, clients: usize, time: Duration) -> (f64, f64) {
    let began = Instant::now();
    let counts = Arc::new(Counts::default());
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let counts = Arc::clone(&counts);
            runtime.spawn(async move {
                let mut number = client;
                while began.elapsed() < time {
                    if !counts.add(thumbnail(addr, number).await) {
                        // A server that has gone refuses faster than anybody can ask.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    number += clients;
                }
            })
        })
        .collect();
    runtime.block_on(async {
        for task in tasks {
            let _ = task.await;
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    (counts.made.load(Relaxed) as f64 / seconds, counts.refused.load(Relaxed) as f64 / seconds)
}

/// Asks `rate` times a second, whatever comes back.
pub(super) fn open(runtime: &Runtime, addr: SocketAddr, rate: f64, time: Duration, counts: &Arc<Counts>) {
    let began = Instant::now();
    runtime.block_on(async {
        for number in 0.. {
            let due = began + Duration::from_secs_f64(number as f64 / rate);
            if due.duration_since(began) >= time {
                break;
            }
            tokio::time::sleep_until(due.into()).await;
            let counts = Arc::clone(counts);
            tokio::spawn(async move { counts.add(thumbnail(addr, number).await) });
        }
    });
}

/// Whether so many at once are all answered.
pub(super) fn all_at_once(runtime: &Runtime, addr: SocketAddr, clients: usize) -> bool {
    runtime.block_on(async {
        let asked: Vec<_> = (0..clients).map(|number| tokio::spawn(thumbnail(addr, number))).collect();
        let mut all = true;
        for answer in asked {
            all &= matches!(answer.await, Ok(Ok(200)));
        }
        all
    })
}

/// One request, blocking; the body.
pub(super) fn get(addr: SocketAddr, path: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&addr, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_nodelay(true)?;
    write!(connection, "GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.into()),
        _ => Err(io::Error::other(format!("{path} was answered with {answer:?}"))),
    }
}

/// Asks for `/healthz` all the time; each answer counts from when its question was due.
#[derive(Debug)]
pub(super) struct Health {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Histogram<u64>>,
}

impl Health {
    pub(super) fn start(addr: SocketAddr) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("health".into()).spawn({
            let stop = Arc::clone(&stop);
            move || probe(addr, &stop)
        })?;
        Ok(Self { stop, thread })
    }

    /// The latencies in microseconds.
    pub(super) fn stop(self) -> Histogram<u64> {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the probe does not panic")
    }
}

fn probe(addr: SocketAddr, stop: &AtomicBool) -> Histogram<u64> {
    let _ = priority::raise(1);
    let mut histogram = Histogram::new(3).expect("three digits are supported");
    let mut due = Instant::now();
    while !stop.load(Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if get(addr, "/healthz").is_err() {
            // Killed: that is counted elsewhere.
            break;
        }
        let latency = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        // Within bounds: the histogram grows. (`saturating_record` would not let it.)
        histogram.record(latency.clamp(1, PATIENCE.as_micros() as u64)).expect("the histogram grows");
        due += PROBE_PERIOD;
    }
    histogram
}
