//! The load: a process of its own, with one thread, so that its CPU time is told apart from the server's.
//!
//! A closed loop: each connection has one request under way. In the end the process says what it has seen, and what
//! its parent, which is the server, has used meanwhile.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::epoll;
use serde_json::{Value, json};

use super::server::BODY;
use crate::Failure;
use crate::suite::clock::CpuClock;
use crate::suite::search::http::complete_answer;
use crate::suite::search::light::histogram;

/// The word that makes this program a generator; then come an address, a target, a number of connections, and
/// milliseconds.
pub(crate) const LOAD: &str = "http-load";
/// Before anything counts.
const WARM_UP: Duration = Duration::from_millis(300);

/// What a generator has seen, and what the server has used meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// A second.
    pub(super) requests: f64,
    /// In µs, like what follows.
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// A request, of this process.
    pub(super) server_cpu: f64,
    pub(super) generator_cpu: f64,
}

/// Has a child load the server, which is in this process.
pub(super) fn measure(
    addr: SocketAddr,
    target: &str,
    connections: usize,
    time: Duration,
) -> Result<Seen, Failure> {
    let output = Command::new(std::env::current_exe()?)
        .args([LOAD, &addr.to_string(), target, &connections.to_string(), &time.as_millis().to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err("the load generator failed, as it said".into());
    }
    let seen: Value = serde_json::from_slice(&output.stdout)?;
    let number = |name: &str| seen[name].as_f64().ok_or_else(|| format!("the load said no {name}: {seen}"));
    let requests = number("requests")?;
    Ok(Seen {
        requests: requests / number("seconds")?,
        p50: number("p50")?,
        p99: number("p99")?,
        server_cpu: number("server_cpu")? * 1e6 / requests,
        generator_cpu: number("cpu")? * 1e6 / requests,
    })
}

/// What the child does.
pub(crate) fn load(mut parser: lexopt::Parser) -> Result<(), Failure> {
    let mut next = || -> Result<String, Failure> {
        match parser.next()? {
            Some(lexopt::Arg::Value(value)) => Ok(value.to_string_lossy().into_owned()),
            _ => Err(format!("usage: {LOAD} ADDRESS TARGET CONNECTIONS MILLISECONDS").into()),
        }
    };
    let (addr, target) = (next()?.parse()?, next()?);
    let (connections, time) = (next()?.parse()?, Duration::from_millis(next()?.parse()?));
    let mut generator = Generator::connect(addr, &target, connections)?;
    let mut latencies = histogram();
    generator.run(WARM_UP, &mut latencies)?;
    latencies.reset();
    let (own, server) = (CpuClock::own(), CpuClock::of(std::os::unix::process::parent_id())?);
    let (began, cpu, server_cpu) = (Instant::now(), own.elapsed(), server.read()?);
    generator.run(time, &mut latencies)?;
    let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    let seen = json!({
        "requests": latencies.len(),
        "seconds": began.elapsed().as_secs_f64(),
        "p50": at(0.5),
        "p99": at(0.99),
        "cpu": (own.elapsed() - cpu).as_secs_f64(),
        "server_cpu": (server.read()? - server_cpu).as_secs_f64(),
    });
    println!("{seen}");
    Ok(())
}

struct Generator {
    epoll: std::os::fd::OwnedFd,
    connections: Vec<Connection>,
    request: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    sent: Instant,
    unread: Vec<u8>,
    /// How long an answer is, once one was read: they are all alike.
    answer: Option<usize>,
}

impl Generator {
    fn connect(addr: SocketAddr, target: &str, connections: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let request = format!("GET {target} HTTP/1.1\r\nhost: {addr}\r\n\r\n").into_bytes();
        let connect = |index: usize| {
            let mut stream = TcpStream::connect(addr)?;
            stream.set_nodelay(true)?;
            let events = epoll::EventFlags::IN;
            epoll::add(&epoll, &stream, epoll::EventData::new_u64(index as u64), events)?;
            stream.write_all(&request)?;
            stream.set_nonblocking(true)?;
            Ok(Connection { stream, sent: Instant::now(), unread: Vec::new(), answer: None })
        };
        let connections = (0..connections).map(connect).collect::<io::Result<_>>()?;
        Ok(Self { epoll, connections, request })
    }

    /// Answers every answer with the next request.
    fn run(&mut self, time: Duration, latencies: &mut Histogram<u64>) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 64];
        while Instant::now() < end {
            let second = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
            let count = match epoll::wait(&self.epoll, &mut events[..], Some(&second)) {
                Err(rustix::io::Errno::INTR) => continue,
                count => count?,
            };
            if count == 0 {
                return Err(io::Error::other("the server has not answered for a second"));
            }
            for event in &events[..count] {
                let index = event.data.u64() as usize;
                self.connections[index].go_on(&self.request, latencies)?;
            }
        }
        Ok(())
    }
}

impl Connection {
    fn go_on(&mut self, request: &[u8], latencies: &mut Histogram<u64>) -> io::Result<()> {
        let mut buffer = [0; 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(n) => self.unread.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        if self.answer.is_none() {
            self.answer = complete_answer(&self.unread)?;
        }
        if self.answer != Some(self.unread.len()) {
            return Ok(());
        }
        let is_right =
            self.unread.starts_with(b"HTTP/1.1 200 OK\r\n") && self.unread.ends_with(BODY.as_bytes());
        if !is_right {
            return Err(io::Error::other("a request was answered with something else"));
        }
        let now = Instant::now();
        latencies.saturating_record((now - self.sent).as_nanos() as u64);
        self.unread.clear();
        self.sent = now;
        match self.stream.write(request) {
            Ok(n) if n == request.len() => Ok(()),
            Ok(_) => Err(io::Error::other("the server no longer reads its requests")),
            Err(error) => Err(error),
        }
    }
}
