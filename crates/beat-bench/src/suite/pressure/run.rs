//! One run: the peak, the overload, the recovery.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::Value;

use super::group::Group;
use super::load::{self, Counts, Health};
use super::options::Options;
use super::server::Server;
use crate::Failure;

const WARM_UP: Duration = Duration::from_secs(1);
const PEAK_TIME: Duration = Duration::from_secs(3);
/// After the load has stopped: how long at most until everybody is answered again.
const MOST_RECOVERY: Duration = Duration::from_secs(30);
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);
/// The levels in their order.
pub(super) const LEVELS: [&str; 5] = ["none", "low", "medium", "high", "critical"];

/// What was seen at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Since the overload began, in seconds.
    pub(super) at: f64,
    pub(super) usage: u64,
    /// An index into [`LEVELS`], if the service knows it.
    pub(super) level: Option<usize>,
    pub(super) made: u64,
}

/// What one run has measured.
#[derive(Debug)]
pub(super) struct Run {
    /// Thumbnails a second, of two clients.
    pub(super) peak: f64,
    /// Refusals a second beside them: there was room for all of them.
    pub(super) peak_refused: f64,
    /// The same, and refusals and failures, under the overload.
    pub(super) goodput: f64,
    pub(super) refused: f64,
    pub(super) failed: u64,
    pub(super) killed: bool,
    /// Latencies of `/healthz` under the overload, in microseconds.
    pub(super) health: Histogram<u64>,
    /// From the end of the overload until four at once were answered.
    pub(super) recovery: Option<Duration>,
    pub(super) samples: Vec<Sample>,
}

impl Run {
    pub(super) fn new(program: &Path, options: &Options, engine: &str) -> Result<Self, Failure> {
        let mut server = Server::start(program, engine, options)?;
        let addr = server.addr;
        let runtime = load::runtime()?;
        load::closed(&runtime, addr, options.workers, WARM_UP);
        let (peak, peak_refused) = load::closed(&runtime, addr, options.workers, PEAK_TIME);
        if peak == 0.0 {
            return Err(format!("{engine} makes no thumbnail at all under this limit").into());
        }

        let time = Duration::from_secs(options.seconds);
        let counts = Arc::new(Counts::default());
        let samples = Mutex::new(Vec::new());
        let stop = AtomicBool::new(false);
        let began = Instant::now();
        let (health, made, refused, recovery) = std::thread::scope(|scope| {
            scope.spawn(|| sample(&server.group, addr, began, &counts, &stop, &samples));
            let health = Health::start(addr)?;
            load::open(&runtime, addr, peak * options.factor, time, &counts);
            let health = health.stop();
            let (made, refused) = (counts.made.load(Relaxed), counts.refused.load(Relaxed));
            let ended = Instant::now();
            let mut recovery = None;
            while recovery.is_none() && ended.elapsed() < MOST_RECOVERY && load::get(addr, "/healthz").is_ok()
            {
                let asked = ended.elapsed();
                if load::all_at_once(&runtime, addr, 2 * options.workers) {
                    recovery = Some(asked);
                } else {
                    std::thread::sleep(SAMPLE_PERIOD);
                }
            }
            stop.store(true, Relaxed);
            Ok::<_, Failure>((health, made, refused, recovery))
        })?;
        let seconds = time.as_secs_f64();
        Ok(Self {
            peak,
            peak_refused,
            goodput: made as f64 / seconds,
            refused: refused as f64 / seconds,
            failed: counts.failed.load(Relaxed),
            killed: server.is_killed(),
            health,
            recovery,
            samples: samples.into_inner().unwrap_or_default(),
        })
    }

    /// The most bytes in use.
    pub(super) fn most_used(&self) -> u64 {
        self.samples.iter().map(|sample| sample.usage).max().unwrap_or(0)
    }
}

fn sample(
    group: &Group,
    addr: std::net::SocketAddr,
    began: Instant,
    counts: &Counts,
    stop: &AtomicBool,
    samples: &Mutex<Vec<Sample>>,
) {
    while !stop.load(Relaxed) {
        let said =
            load::get(addr, "/pressure").ok().and_then(|body| serde_json::from_str::<Value>(&body).ok());
        let level = said.and_then(|said| LEVELS.iter().position(|level| said["level"] == *level));
        let Ok(usage) = group.usage() else { break };
        let sample =
            Sample { at: began.elapsed().as_secs_f64(), usage, level, made: counts.made.load(Relaxed) };
        if let Ok(mut samples) = samples.lock() {
            samples.push(sample);
        }
        std::thread::sleep(SAMPLE_PERIOD);
    }
}
