//! Clients that search without end, one search each at a time.
//!
//! The expressions have no literal to jump to and hardly ever match: nearly all their time is
//! the regex engine's, hardly any the disk's, the socket's or the client's.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::http;
use crate::Failure;

/// What is searched for, in turn.
pub(super) const EXPRESSIONS: [&str; 4] = [
    r"(\w+\s+){3}[0-9]{7}[a-z]",
    r"\b\w{40,60}\b\s+\d\d\d\d",
    r"\w\w\w\s.*\d{12}.*\w{3}[A-Z]{9}",
    r"(\w+[ ,.(]+){12}\d{6}",
];

/// The running clients.
#[derive(Debug)]
pub(super) struct Heavy {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<(), String>>>,
}

impl Heavy {
    pub(super) fn start(addr: SocketAddr, searches: usize) -> Result<Self, Failure> {
        let mut heavy = Self { stop: Arc::default(), clients: Vec::new() };
        for n in 0..searches {
            let stop = Arc::clone(&heavy.stop);
            let target = http::search_target(EXPRESSIONS[n % EXPRESSIONS.len()]);
            let client = thread::Builder::new()
                .name(format!("heavy-{n}"))
                .spawn(move || search_until(&stop, addr, &target))?;
            heavy.clients.push(client);
        }
        Ok(heavy)
    }

    /// Ends the clients, and tells if one of them had failed before.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().map_err(|_| "a search client panicked")??;
        }
        Ok(())
    }
}

impl Drop for Heavy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn search_until(stop: &AtomicBool, addr: SocketAddr, target: &str) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        let answered = http::send(addr, target).map_err(|error| format!("a search: {error}"))?;
        read_until(stop, answered)?;
    }
    Ok(())
}

/// Reads an answer to its end, or until there is no need to.
fn read_until(stop: &AtomicBool, mut answer: TcpStream) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("a search's answer: {error}");
    answer.set_read_timeout(Some(Duration::from_millis(100))).map_err(fail)?;
    let mut buffer = [0; 16 << 10];
    let mut end = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match answer.read(&mut buffer) {
            Ok(0) if find(&end, b"\"done\"") => return Ok(()),
            Ok(0) => {
                return Err(format!("a search ended in {:?}", String::from_utf8_lossy(&end)));
            }
            Ok(n) => keep_end(&mut end, &buffer[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(fail(error)),
        }
    }
    Ok(())
}

/// Appends, and forgets all but the last kilobyte.
fn keep_end(end: &mut Vec<u8>, more: &[u8]) {
    end.extend_from_slice(more);
    end.drain(..end.len().saturating_sub(1024));
}

fn find(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}
