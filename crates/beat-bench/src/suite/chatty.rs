//! A chatty task on every worker beside a quiet one: how long does the quiet one wait when it is woken?
//!
//! A chatty task receives for ever from a channel that always has something for it. It never waits, so it yields only
//! because its budget ends. The quiet task is woken from outside, by a thread that keeps to a plan whatever becomes of
//! the earlier wakes (open loop), without timers or sockets. Its delay counts from when the wake was due, so a pause
//! delays all that were due in it. Where Beat misses the bar, the run is an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use lexopt::prelude::*;
use tokio::sync::mpsc;

use super::priority::{self, Priority};
use super::search::floor::Floor;
use super::stalls::engine::{Engine, Runtime};
use super::stalls::neighbours::Neighbours;
use super::stalls::{at, histogram, ms};
use crate::Failure;
use crate::common::machine;

/// The most that p99 of the delay may be with Beat.
const BAR: Duration = Duration::from_millis(1);
/// How many messages lie in a chatty task's channel.
const MESSAGES: usize = 256;
/// Among real-time threads: below the probe, above what is measured.
const LEVEL: i32 = 10;

const HELP: &str = "\
Usage: beat-bench chatty [OPTIONS]

  --wakes N     how often the quiet task is woken, for each engine [default: 1000]
  --every US    microseconds from one wake to the next [default: 2000]
  --workers N   workers, each with a chatty task [default: 2]
";

/// Runs the suite.
pub(crate) fn run(mut parser: lexopt::Parser) -> Result<(), Failure> {
    let (mut wakes, mut every, mut workers) = (1_000_u32, 2_000_u64, 2_usize);
    while let Some(arg) = parser.next()? {
        match arg {
            Long("wakes") => wakes = parser.value()?.parse()?,
            Long("every") => every = parser.value()?.parse()?,
            Long("workers") => workers = parser.value()?.parse()?,
            Short('h') | Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            _ => return Err(arg.unexpected().into()),
        }
    }
    let (wakes, workers, every) = (wakes.max(1), workers.max(1), Duration::from_micros(every.max(1)));
    println!("{}\n", machine::describe());
    println!(
        "A task woken {wakes} times from outside, every {} ms, beside a task that always finds something to receive on \
         each of {workers} workers; ms from when a wake was due until the task ran.\n\n\
         | engine | wakes | p50 | p99 | max | received a wake | machine p99 | others' cores | waker |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|---|",
        ms(every)
    );
    let floor = Floor::start()?;
    let mut missed = None;
    for engine in Engine::ALL {
        floor.take();
        let neighbours = Neighbours::watch()?;
        let chatty = Chatty::measure(engine, workers, wakes, every)?;
        let (machine, used) = (at(&floor.take().0, 0.99), neighbours.cores()?);
        let Chatty { delays, received, waker } = chatty;
        let p99 = at(&delays, 0.99);
        println!(
            "| {engine} | {} | {} | {} | {} | {} | {} | {used:.2} | {waker} |",
            delays.len(),
            ms(at(&delays, 0.5)),
            ms(p99),
            ms(at(&delays, 1.0)),
            received / wakes as usize,
            ms(machine),
        );
        if engine == Engine::Beat && p99 > BAR {
            missed = Some(format!(
                "the quiet task's p99 was {} ms, not {} (others used {used:.2} cores, the machine's own p99 was {} ms)",
                ms(p99),
                ms(BAR),
                ms(machine)
            ));
        }
    }
    missed.map_or(Ok(()), |missed| Err(missed.into()))
}

/// What one run has shown.
#[derive(Debug)]
struct Chatty {
    /// Of the quiet task, in nanoseconds.
    delays: Histogram<u64>,
    /// Messages that the chatty tasks took meanwhile: that they were at it.
    received: usize,
    /// What the kernel granted to the thread that wakes.
    waker: Priority,
}

impl Chatty {
    fn measure(engine: Engine, workers: usize, wakes: u32, every: Duration) -> Result<Self, Failure> {
        let runtime = engine.start(workers)?;
        let state = Arc::new(State::default());
        for _ in 0..workers {
            runtime.spawn(chat(Arc::clone(&state)));
        }
        // Each has begun: every worker has one, or is about to take it from another.
        while state.begun.load(Relaxed) < workers {
            thread::sleep(every);
        }
        let before = state.received.load(Relaxed);
        let (delays, waker) = wake(&runtime, wakes, every)?;
        let received = state.received.load(Relaxed) - before;
        state.ends.store(true, Relaxed);
        if received == 0 {
            return Err("the chatty tasks stood still: nothing was measured".into());
        }
        Ok(Self { delays, received, waker })
    }
}

/// What the chatty tasks share.
#[derive(Debug, Default)]
struct State {
    begun: AtomicUsize,
    received: AtomicUsize,
    ends: AtomicBool,
}

/// Receives what is there, and puts it back.
async fn chat(state: Arc<State>) {
    let (send, mut receive) = mpsc::channel(MESSAGES);
    for message in 0..MESSAGES {
        send.try_send(message).expect("there is room");
    }
    state.begun.fetch_add(1, Relaxed);
    while !state.ends.load(Relaxed) {
        for _ in 0..MESSAGES {
            let message = receive.recv().await.expect("this task holds the sender");
            send.try_send(message).expect("the room that was just made");
        }
        state.received.fetch_add(MESSAGES, Relaxed);
    }
}

/// Wakes the quiet task according to plan, and gives its delays.
fn wake(runtime: &Runtime, wakes: u32, every: Duration) -> Result<(Histogram<u64>, Priority), Failure> {
    let (send, mut receive) = mpsc::unbounded_channel::<Instant>();
    let (done, delays) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let mut delays = histogram();
        while let Some(due) = receive.recv().await {
            delays.saturating_record(due.elapsed().as_nanos() as u64);
        }
        let _ = done.send(delays);
    });
    // A thread of its own, so that nothing else gets its priority.
    let waker = thread::spawn(move || {
        let priority = priority::raise(LEVEL);
        let mut due = Instant::now();
        for _ in 0..wakes {
            due += every;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let _ = send.send(due);
        }
        priority
    });
    let delays = delays.recv()?;
    let priority = waker.join().map_err(|_| "the thread that wakes panicked")?;
    if delays.len() != u64::from(wakes) {
        return Err(format!("of {wakes} wakes {} arrived", delays.len()).into());
    }
    Ok((delays, priority))
}
