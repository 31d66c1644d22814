//! A closed load: threads that write a request on each of their connections, read an answer from each, and begin anew.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked, of whom, by how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) addr: SocketAddr,
    pub(super) path: &'static str,
    pub(super) connections: usize,
    pub(super) clients: usize,
}

impl Load {
    /// Requests a second that were answered.
    pub(super) fn run(self, time: Duration) -> io::Result<f64> {
        let began = Instant::now();
        let counts: io::Result<Vec<u64>> = thread::scope(|scope| {
            let clients: Vec<_> = (0..self.clients)
                .map(|i| {
                    let share = self.connections / self.clients;
                    let connections = share + usize::from(i < self.connections % self.clients);
                    scope.spawn(move || self.client(connections, began + time))
                })
                .collect();
            let join = |client: thread::ScopedJoinHandle<'_, _>| {
                client.join().unwrap_or_else(|_| Err(io::Error::other("a client panicked")))
            };
            clients.into_iter().map(join).collect()
        });
        Ok(counts?.iter().sum::<u64>() as f64 / began.elapsed().as_secs_f64())
    }

    /// One thread's part: how many answers it had.
    fn client(self, connections: usize, end: Instant) -> io::Result<u64> {
        let request = format!("GET {} HTTP/1.1\r\nhost: {}\r\n\r\n", self.path, self.addr);
        let mut streams: Vec<TcpStream> =
            (0..connections).map(|_| connect(self.addr)).collect::<io::Result<_>>()?;
        // All answers are as long as the first.
        let mut length = 0;
        let mut answers = 0;
        let mut buffer = [0; 4096];
        loop {
            for stream in &mut streams {
                stream.write_all(request.as_bytes())?;
            }
            for stream in &mut streams {
                if length == 0 {
                    length = first_answer(stream, &mut buffer)?;
                } else {
                    stream.read_exact(&mut buffer[..length])?;
                }
                answers += 1;
            }
            // Once at least, however late the thread came.
            if Instant::now() >= end {
                return Ok(answers);
            }
        }
    }
}

fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Reads an answer whose body is `ok`; its length.
fn first_answer(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while !buffer[..length].ends_with(b"\r\n\r\nok") {
        match stream.read(&mut buffer[length..])? {
            0 => {
                let text = String::from_utf8_lossy(&buffer[..length]);
                return Err(io::Error::other(format!("the server answered {text:?}")));
            }
            n => length += n,
        }
    }
    if buffer.starts_with(b"HTTP/1.1 200 ") {
        Ok(length)
    } else {
        Err(io::Error::other("the server did not answer 200"))
    }
}
