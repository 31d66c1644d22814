//! The service's own tail latency, as a client would see it.
//!
//! A handler that times itself cannot see what matters here: how long a request waited before
//! its handler ran. So a thread of its own sends real `GET /healthz` requests over loopback, one
//! each 10 ms, and times each from the moment it was due (an answer that comes late makes the
//! next ones late too, and that is counted). It sends only while somebody looks at the page:
//! an unobserved service is left alone.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The time between two probes.
const PERIOD: Duration = Duration::from_millis(10);
/// How long the probe goes on after the last look at it.
const WATCHED_FOR: Duration = Duration::from_secs(3);
/// The figures cover the last two to three of these.
const SLICE: Duration = Duration::from_secs(10);
/// An answer later than this counts as this.
const PATIENCE: Duration = Duration::from_secs(10);

/// Latencies of the last 20 to 30 seconds, in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tail {
    pub(crate) samples: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

/// A handle to the probing thread. The thread ends some time after the handle is dropped.
#[derive(Debug)]
pub(crate) struct Probe {
    shared: Arc<Shared>,
    thread: Option<Thread>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    last_look: Option<Instant>,
    slices: [Histogram<u64>; 3],
    slice_began: Instant,
}

impl Probe {
    /// Starts the thread, which sleeps until the first [`Probe::look`].
    pub(crate) fn start(service: SocketAddr) -> Self {
        let slice =
            Histogram::new_with_bounds(1, PATIENCE.as_micros() as u64, 3).expect("the bounds are in order");
        let state = State {
            last_look: None,
            slices: [slice.clone(), slice.clone(), slice],
            slice_began: Instant::now(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let weak = Arc::downgrade(&shared);
        let target = reachable(service);
        // Without the thread the page shows no latency; the service works all the same.
        let thread = thread::Builder::new()
            .name("search-probe".into())
            .spawn(move || run(&weak, target))
            .ok()
            .map(|handle| handle.thread().clone());
        Self { shared, thread }
    }

    /// The latest figures; asking for them keeps the probe going.
    pub(crate) fn look(&self) -> Tail {
        let mut state = self.shared.lock();
        let now = Instant::now();
        if !state.is_watched(now) {
            // What was seen before the pause says nothing about now.
            state.slices.iter_mut().for_each(Histogram::reset);
            state.slice_began = now;
        }
        state.last_look = Some(now);
        let tail = state.tail();
        drop(state);
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
        tail
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_watched(&self, now: Instant) -> bool {
        self.last_look.is_some_and(|look| now - look < WATCHED_FOR)
    }

    fn record(&mut self, latency: Duration) {
        if self.slice_began.elapsed() >= SLICE {
            self.slices.rotate_right(1);
            self.slices[0].reset();
            self.slice_began = Instant::now();
        }
        self.slices[0].saturating_record(latency.as_micros() as u64);
    }

    fn tail(&self) -> Tail {
        let mut all = self.slices[0].clone();
        for slice in &self.slices[1..] {
            all.add(slice).expect("the slices have the same bounds");
        }
        Tail {
            samples: all.len(),
            p50_us: all.value_at_quantile(0.5),
            p99_us: all.value_at_quantile(0.99),
            p999_us: all.value_at_quantile(0.999),
            max_us: all.max(),
        }
    }
}

/// An address of this machine where a socket bound to `service` answers.
fn reachable(service: SocketAddr) -> SocketAddr {
    let ip = match service.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, service.port())
}

fn run(shared: &Weak<Shared>, service: SocketAddr) {
    let watched = |shared: &Arc<Shared>| shared.lock().is_watched(Instant::now());
    while let Some(alive) = shared.upgrade() {
        let probed = if watched(&alive) { probe_while_watched(&alive, service) } else { Ok(()) };
        drop(alive);
        match probed {
            // `look` and `Probe::drop` unpark; an unpark that came first is not lost.
            Ok(()) => thread::park(),
            // Not listening yet, or a connection that the service has closed.
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn probe_while_watched(shared: &Shared, service: SocketAddr) -> io::Result<()> {
    let mut connection = TcpStream::connect_timeout(&service, PATIENCE)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {service}\r\n\r\n");
    ask(&mut connection, &request)?;
    let mut due = Instant::now();
    loop {
        due += PERIOD;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // The sleep's own lateness is the kernel's, not the service's: count from the wake-up,
        // unless the last answer is what made this request late.
        let begin = if due.elapsed() < PERIOD { Instant::now() } else { due };
        ask(&mut connection, &request)?;
        let mut state = shared.lock();
        if !state.is_watched(Instant::now()) {
            return Ok(());
        }
        state.record(begin.elapsed());
    }
}

/// Sends one request and reads its answer, which ends in the body `ok`.
fn ask(connection: &mut TcpStream, request: &str) -> io::Result<()> {
    connection.write_all(request.as_bytes())?;
    let mut answer = [0; 1024];
    let mut len = 0;
    while !answer[..len].ends_with(b"\r\n\r\nok") {
        match connection.read(&mut answer[len..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => len += n,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_finds_a_service_bound_to_all_addresses() {
        assert_eq!(reachable("0.0.0.0:80".parse().unwrap()), "127.0.0.1:80".parse().unwrap());
        assert_eq!(reachable("[::]:80".parse().unwrap()), "[::1]:80".parse().unwrap());
        assert_eq!(reachable("10.1.2.3:80".parse().unwrap()), "10.1.2.3:80".parse().unwrap());
    }

    #[test]
    fn an_unobserved_probe_has_no_samples() {
        let probe = Probe::start("127.0.0.1:1".parse().unwrap());
        let tail = probe.look();
        assert_eq!((tail.samples, tail.p999_us), (0, 0));
    }
}
