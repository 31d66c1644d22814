//! An open-loop generator of `GET /healthz` over keep-alive connections.
//!
//! Request number *n* is due *n / rate* seconds after the start, whatever has become of the
//! requests before it, and its latency counts from when it was due. So a server that stalls for
//! 10 ms is late for all the requests of these 10 ms, and a generator that is late itself says
//! so in its figures. One thread sends, polls and reads, at [real-time
//! priority](super::super::priority) if that is permitted.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::panic::resume_unwind;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::priority::{self, Priority};
use super::http;

/// Keep-alive connections, used in turn.
const CONNECTIONS: usize = 32;
/// How long the last answers may take before they count as missing.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// Among real-time threads: below the floor's probe.
const LEVEL: i32 = 10;

/// What one run has measured.
#[derive(Debug)]
pub(super) struct Light {
    /// From when a request was due to its answer's last byte, in nanoseconds.
    pub(super) latencies: Histogram<u64>,
    pub(super) unanswered: u64,
    pub(super) priority: Priority,
}

/// An empty histogram from 1 ns to a minute, to three digits.
pub(in crate::suite) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order")
}

/// Open connections to a server.
#[derive(Debug)]
pub(super) struct Generator {
    connections: Vec<Connection>,
    request: Vec<u8>,
    rate: u64,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// When the requests under way were due, oldest first.
    due: VecDeque<Instant>,
    unread: Vec<u8>,
}

impl Generator {
    pub(super) fn connect(addr: SocketAddr, rate: u64) -> io::Result<Self> {
        let connect = |_| {
            let stream = TcpStream::connect(addr)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            Ok(Connection { stream, due: VecDeque::new(), unread: Vec::new() })
        };
        let connections = (0..CONNECTIONS).map(connect).collect::<io::Result<_>>()?;
        let request = format!("GET /healthz HTTP/1.1\r\nhost: {addr}\r\n\r\n").into();
        Ok(Self { connections, request, rate })
    }

    /// Sends `requests` at the rate and waits for the answers.
    pub(super) fn run(&mut self, requests: u64) -> io::Result<Light> {
        thread::scope(|scope| {
            let sending = thread::Builder::new().name("light".into()).spawn_scoped(scope, || {
                let priority = priority::raise(LEVEL);
                self.send_and_measure(requests, priority)
            })?;
            sending.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn send_and_measure(&mut self, requests: u64, priority: Priority) -> io::Result<Light> {
        let mut light = Light { latencies: histogram(), unanswered: 0, priority };
        let began = Instant::now();
        let due = |n: u64| began + Duration::from_nanos(n * 1_000_000_000 / self.rate);
        let given_up = due(requests) + LAST_ANSWERS;
        let (mut sent, mut answered) = (0, 0);
        while answered < requests && Instant::now() < given_up {
            while sent < requests && due(sent) <= Instant::now() {
                let turn = sent as usize % CONNECTIONS;
                self.connections[turn].send(&self.request, due(sent))?;
                sent += 1;
            }
            let next = if sent < requests { due(sent) } else { given_up };
            wait(self.connections.iter().map(|connection| &connection.stream), next)?;
            for connection in &mut self.connections {
                answered += connection.receive(&mut light.latencies)?;
            }
        }
        light.unanswered = requests - answered;
        Ok(light)
    }
}

/// Sleeps until one of the streams can be read, or until `deadline`.
pub(in crate::suite) fn wait<'a>(
    streams: impl Iterator<Item = &'a TcpStream>,
    deadline: Instant,
) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = streams.map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match poll(&mut fds, Some(&left)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Connection {
    fn send(&mut self, request: &[u8], due: Instant) -> io::Result<()> {
        self.due.push_back(due);
        match self.stream.write(request) {
            Ok(n) if n == request.len() => Ok(()),
            // Thousands of requests fit in a socket's buffer.
            Ok(_) => Err(io::Error::other("the server no longer reads its requests")),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there; how many answers that completed.
    fn receive(&mut self, latencies: &mut Histogram<u64>) -> io::Result<u64> {
        if self.due.is_empty() {
            return Ok(0);
        }
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a light connection")),
            Ok(n) => self.unread.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        let mut answered = 0;
        while let Some(len) = http::complete_answer(&self.unread)? {
            self.unread.drain(..len);
            let due = self.due.pop_front().ok_or_else(|| io::Error::other("an answer too many"))?;
            latencies.saturating_record((now - due).as_nanos() as u64);
            answered += 1;
        }
        Ok(answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Answers in order on each connection, and stalls once.
    fn server(stall_at: usize, stall: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut streams: Vec<TcpStream> =
                listener.incoming().take(CONNECTIONS).map(Result::unwrap).collect();
            for n in 0.. {
                let stream = &mut streams[n % CONNECTIONS];
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    match stream.read(&mut byte) {
                        Ok(1) => request.push(byte[0]),
                        _ => return,
                    }
                }
                if n == stall_at {
                    thread::sleep(stall);
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        addr
    }

    #[test]
    fn all_requests_of_a_stall_are_late() {
        let stall = Duration::from_millis(100);
        let mut generator = Generator::connect(server(100, stall), 1_000).unwrap();
        let light = generator.run(400).unwrap();
        assert_eq!((light.latencies.len(), light.unanswered), (400, 0));
        assert!(light.latencies.max() >= 99_000_000);
        // A closed loop would count one late request; here are those of some 50 ms.
        let late = light.latencies.count_between(50_000_000, u64::MAX);
        assert!(late >= 40, "{late}");
    }
}
