//! The light requests: tasks spawned from outside, and echoes on TCP connections, in turn.
//!
//! An open loop: each request is due at its time, however slow the ones before were, and its latency counts from
//! then. One thread sends, polls and reads, at real-time priority if that is permitted; its CPU time is told.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::engine::Running;
use crate::suite::clock::CpuClock;
use crate::suite::fork::searches::Work;
use crate::suite::priority::{self, Priority};
use crate::suite::search::light::{histogram, wait};

const CONNECTIONS: usize = 32;
/// How long the last answers may take before they count as missing.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// What a handler takes.
const HANDLER: Duration = Duration::from_micros(5);
/// Among real-time threads: below the floor's probe.
const LEVEL: i32 = 10;

/// What one run has measured; latencies in nanoseconds.
#[derive(Debug)]
pub(super) struct Light {
    pub(super) spawns: Histogram<u64>,
    pub(super) echoes: Histogram<u64>,
    pub(super) unanswered: u64,
    /// Of the generator.
    pub(super) cpu: Duration,
    pub(super) priority: Priority,
}

/// How many requests, how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) requests: u64,
    /// A second.
    pub(super) rate: u64,
}

/// Sends requests to an engine.
#[derive(Debug)]
pub(super) struct Generator<'a> {
    engine: &'a Running,
    connections: Vec<Connection>,
    handler: Work,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// The requests under way, oldest first, and when they were due.
    due: VecDeque<(u64, Instant)>,
    unread: Vec<u8>,
}

/// What the spawned tasks tell: a place for each latency, zero while it is not known.
type Latencies = Arc<[AtomicU64]>;

impl<'a> Generator<'a> {
    /// Starts the engine's echo tasks.
    pub(super) fn connect(engine: &'a Running) -> io::Result<Self> {
        let handler = Work::lasting(HANDLER);
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let connect = |_| {
            let stream = TcpStream::connect(listener.local_addr()?)?;
            let (server, _) = listener.accept()?;
            for end in [&stream, &server] {
                end.set_nodelay(true)?;
                end.set_nonblocking(true)?;
            }
            let server = engine.block_on(async { tokio::net::TcpStream::from_std(server) })?;
            engine.spawn(echo(server, handler));
            Ok(Connection { stream, due: VecDeque::new(), unread: Vec::new() })
        };
        let connections = (0..CONNECTIONS).map(connect).collect::<io::Result<_>>()?;
        Ok(Self { engine, connections, handler })
    }

    /// Sends requests, half of each sort, and waits for the answers.
    pub(super) fn run(&mut self, load: Load) -> io::Result<Light> {
        thread::scope(|scope| {
            let sending = thread::Builder::new().name("light".into()).spawn_scoped(scope, || {
                let priority = priority::raise(LEVEL);
                self.send_and_measure(load, priority)
            })?;
            sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn send_and_measure(&mut self, load: Load, priority: Priority) -> io::Result<Light> {
        let Load { requests, rate } = load;
        let spawned: Latencies = (0..requests.div_ceil(2)).map(|_| AtomicU64::new(0)).collect();
        let mut echoes = histogram();
        let cpu = CpuClock::of_this_thread();
        let (cpu_before, began) = (cpu.elapsed(), Instant::now());
        let due = |n: u64| began + Duration::from_nanos(n * 1_000_000_000 / rate);
        let given_up = due(requests) + LAST_ANSWERS;
        let mut sent = 0;
        while sent < requests {
            while sent < requests && due(sent) <= Instant::now() {
                self.send(sent, due(sent), &spawned)?;
                sent += 1;
            }
            wait(self.connections.iter().map(|c| &c.stream), due(sent))?;
            self.receive(&mut echoes)?;
        }
        let cpu = cpu.elapsed() - cpu_before;
        let is_answered = |echoes: &Histogram<u64>| {
            echoes.len() == requests / 2 && spawned.iter().all(|latency| latency.load(Relaxed) > 0)
        };
        while !is_answered(&echoes) && Instant::now() < given_up {
            wait(self.connections.iter().map(|c| &c.stream), Instant::now() + Duration::from_millis(1))?;
            self.receive(&mut echoes)?;
        }
        let mut spawns = histogram();
        for latency in spawned.iter().map(|latency| latency.load(Relaxed)).filter(|latency| *latency > 0) {
            spawns.saturating_record(latency);
        }
        let unanswered = requests - spawns.len() - echoes.len();
        Ok(Light { spawns, echoes, unanswered, cpu, priority })
    }

    fn send(&mut self, n: u64, due: Instant, spawned: &Latencies) -> io::Result<()> {
        if n % 2 == 1 {
            return self.connections[(n / 2) as usize % CONNECTIONS].send(n, due);
        }
        let (handler, spawned) = (self.handler, Arc::clone(spawned));
        self.engine.spawn(async move {
            std::hint::black_box(handler.run(std::hint::black_box(n)));
            // Relaxed: a figure, that nothing depends on.
            spawned[(n / 2) as usize].store(due.elapsed().as_nanos().max(1) as u64, Relaxed);
        });
        Ok(())
    }

    fn receive(&mut self, echoes: &mut Histogram<u64>) -> io::Result<()> {
        self.connections.iter_mut().try_for_each(|connection| connection.receive(echoes))
    }
}

impl Connection {
    fn send(&mut self, n: u64, due: Instant) -> io::Result<()> {
        self.due.push_back((n, due));
        match self.stream.write(&n.to_le_bytes()) {
            Ok(8) => Ok(()),
            // Thousands of requests fit in a socket's buffer.
            Ok(_) => Err(io::Error::other("the engine no longer reads its requests")),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there, and checks that it is what was sent.
    fn receive(&mut self, echoes: &mut Histogram<u64>) -> io::Result<()> {
        if self.due.is_empty() {
            return Ok(());
        }
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the engine closed a connection")),
            Ok(n) => self.unread.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        let (answers, _) = self.unread.as_chunks::<8>();
        for answer in answers {
            match self.due.pop_front() {
                Some((n, due)) if n.to_le_bytes() == *answer => {
                    echoes.saturating_record((now - due).as_nanos() as u64);
                }
                _ => return Err(io::Error::other("an echo is not what was sent")),
            }
        }
        let read = answers.len() * 8;
        self.unread.drain(..read);
        Ok(())
    }
}

/// Sends back what comes, after some work for each message.
async fn echo(mut stream: tokio::net::TcpStream, handler: Work) {
    let mut message = [0; 8];
    while stream.read_exact(&mut message).await.is_ok() {
        std::hint::black_box(handler.run(std::hint::black_box(u64::from_le_bytes(message))));
        if stream.write_all(&message).await.is_err() {
            break;
        }
    }
}
