//! Every worker is inside a task that spins and does not yield: do a timer and an echo go on?

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::engine::Engine;
use super::histogram;

/// How long each task spins.
const SPIN: Duration = Duration::from_secs(1);

/// How long each step of the timer loop and of the echo loop took, in nanoseconds.
#[derive(Debug)]
pub(super) struct Spinners {
    pub(super) timer: Histogram<u64>,
    pub(super) echo: Histogram<u64>,
}

impl Spinners {
    pub(super) fn new() -> Self {
        Self { timer: histogram(), echo: histogram() }
    }

    /// One second of spinning on each worker.
    pub(super) fn measure(&mut self, engine: Engine, workers: usize) -> io::Result<()> {
        let runtime = engine.start(workers)?;
        let state = Arc::new(State { left: AtomicUsize::new(workers), begun: OnceLock::new(), workers });
        let (timer, timer_steps) = channel();
        let (echo, echo_steps) = channel();
        let (ready, is_ready) = channel();
        runtime.spawn(tick(Arc::clone(&state), timer, ready.clone()));
        let (server, client) = runtime.block_on(connection())?;
        runtime.spawn(serve(server));
        runtime.spawn(ping(client, Arc::clone(&state), echo, ready));
        // Both loops turn before anything spins.
        for _ in 0..2 {
            is_ready.recv().map_err(io::Error::other)?;
        }
        let begun = Arc::new(AtomicUsize::new(0));
        for _ in 0..workers {
            runtime.spawn(spin(Arc::clone(&state), Arc::clone(&begun)));
        }
        timer_steps.iter().for_each(|step| self.timer.saturating_record(step));
        echo_steps.iter().for_each(|step| self.echo.saturating_record(step));
        Ok(())
    }
}

/// How far the spinning is.
#[derive(Debug)]
struct State {
    workers: usize,
    /// When the last one began.
    begun: OnceLock<Instant>,
    /// How many have not ended.
    left: AtomicUsize,
}

impl State {
    /// Sends what a step took if it ended while all were spinning; `false` when all have ended.
    fn step(&self, began: Instant, steps: &Sender<u64>) -> bool {
        let counts = self.begun.get().is_some();
        let goes_on = self.left.load(SeqCst) == self.workers;
        if counts {
            // The receiver waits for the sender's end.
            let _ = steps.send(began.elapsed().as_nanos() as u64);
        }
        goes_on
    }
}

async fn spin(state: Arc<State>, begun: Arc<AtomicUsize>) {
    let began = Instant::now();
    if begun.fetch_add(1, SeqCst) + 1 == state.workers {
        let _ = state.begun.set(began);
    }
    // A second from when the last one began.
    while state.begun.get().is_none_or(|begun| begun.elapsed() < SPIN) {
        std::hint::spin_loop();
    }
    state.left.fetch_sub(1, SeqCst);
}

/// The timer loop.
async fn tick(state: Arc<State>, steps: Sender<u64>, ready: Sender<()>) {
    loop {
        let began = Instant::now();
        tokio::time::sleep(Duration::from_millis(1)).await;
        let _ = ready.send(());
        if !state.step(began, &steps) {
            break;
        }
    }
}

async fn connection() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = TcpStream::connect(listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((server, client))
}

/// Sends back what comes.
pub(super) async fn serve(mut stream: TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

/// The echo loop: a round trip each millisecond.
async fn ping(mut stream: TcpStream, state: Arc<State>, steps: Sender<u64>, ready: Sender<()>) {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let began = Instant::now();
        if stream.write_all(&[1]).await.is_err() || stream.read_u8().await.is_err() {
            break;
        }
        let _ = ready.send(());
        if !state.step(began, &steps) {
            break;
        }
    }
}
