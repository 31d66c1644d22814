//! A worker takes one event from a socket and then polls for 30 ms, its sibling sleeps: does another socket wait?

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::AsyncReadExt;

use super::engine::{Engine, Runtime};
use super::spinners::serve;
use super::{LEVEL, STALL, histogram};
use crate::suite::priority::{self, Priority};
use crate::suite::search::floor::Floor;

/// How long the poll takes.
const POLL: Duration = Duration::from_millis(30);
/// How long everything rests before each try.
const REST: Duration = Duration::from_millis(20);
/// How often the client looks whether the poll has begun.
const LOOK: Duration = Duration::from_micros(50);

/// What the tries have shown.
#[derive(Debug)]
pub(super) struct Event {
    /// Round trips, in nanoseconds.
    pub(super) echo: Histogram<u64>,
    pub(super) tries: u32,
    /// Tries that took longer than [`STALL`].
    pub(super) stalled: u32,
    /// Tries that were made again, because the machine had disturbed them.
    pub(super) disturbed: u32,
    /// What the kernel granted to the client.
    pub(super) client: Priority,
}

impl Event {
    pub(super) fn measure(engine: Engine, tries: u32, again: u32, floor: &Floor) -> io::Result<Self> {
        // One that polls, and an idle sibling.
        let runtime = engine.start(2)?;
        let spins = Arc::new(AtomicBool::new(false));
        let (server, mut trigger) = connection()?;
        let server = in_runtime(&runtime, server)?;
        runtime.spawn(poll_long(server, Arc::clone(&spins)));
        let (server, mut client) = connection()?;
        let server = in_runtime(&runtime, server)?;
        runtime.spawn(serve(server));

        let mut event =
            Self { echo: histogram(), tries: 0, stalled: 0, disturbed: 0, client: Priority::Ordinary };
        // A thread of its own, so that nothing else gets its priority.
        thread::scope(|scope| {
            let tries = scope.spawn(|| -> io::Result<()> {
                event.client = priority::raise(LEVEL);
                while event.tries < tries {
                    event.try_once(&spins, &mut trigger, &mut client, floor, again)?;
                }
                Ok(())
            });
            tries.join().expect("the client does not panic")
        })?;
        Ok(event)
    }

    fn try_once(
        &mut self,
        spins: &AtomicBool,
        trigger: &mut TcpStream,
        client: &mut TcpStream,
        floor: &Floor,
        again: u32,
    ) -> io::Result<()> {
        thread::sleep(REST);
        floor.take();
        spins.store(false, SeqCst);
        trigger.write_all(&[1])?;
        while !spins.load(SeqCst) {
            // Not a yield: this thread may be above all that it waits for.
            thread::sleep(LOOK);
        }
        let began = Instant::now();
        client.write_all(&[2])?;
        client.read_exact(&mut [0])?;
        let took = began.elapsed();
        // The poll ends.
        thread::sleep(POLL);
        let machine = Duration::from_nanos(floor.take().0.max());
        if took > STALL && machine > STALL / 2 && self.disturbed < again {
            self.disturbed += 1;
            return Ok(());
        }
        self.tries += 1;
        self.stalled += u32::from(took > STALL);
        self.echo.saturating_record(took.as_nanos() as u64);
        Ok(())
    }
}

/// A server's end and a blocking client's end.
fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    server.set_nonblocking(true)?;
    Ok((server, client))
}

fn in_runtime(runtime: &Runtime, stream: TcpStream) -> io::Result<tokio::net::TcpStream> {
    runtime.block_on(async { tokio::net::TcpStream::from_std(stream) })
}

/// Polls for long after each byte.
async fn poll_long(mut stream: tokio::net::TcpStream, spins: Arc<AtomicBool>) {
    while stream.read_u8().await.is_ok() {
        spins.store(true, SeqCst);
        let began = Instant::now();
        while began.elapsed() < POLL {
            std::hint::spin_loop();
        }
    }
}
