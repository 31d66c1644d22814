//! What the service counts about itself, for `/metrics` and for the page's status line.
//!
//! Counting is a handful of relaxed additions for a request and two for a scanned chunk, so it
//! is always on. A search is counted in exactly one place at a time: waiting, running, completed
//! or cancelled; its [`Ticket`] moves it from one to the next, also when the search unwinds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::engine::{Engine, Kind};

/// Upper bounds in seconds: fine where light requests should be, coarse beyond.
const BUCKETS: [f64; 13] =
    [25e-6, 50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 50e-3, 0.2, 1.0, 5.0];

/// Which request a number is about.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Answered {
    pub(crate) route: &'static str,
    pub(crate) status: u16,
}

/// Which route a number is about.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Route {
    route: &'static str,
}

/// The service's counters.
#[derive(Debug)]
pub(crate) struct Stats {
    registry: Registry,
    pub(crate) searches: Searches,
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
}

/// The searches, by where they are, and what they have read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Searches {
    pub(crate) waiting: Gauge,
    pub(crate) running: Gauge,
    pub(crate) completed: Counter,
    pub(crate) cancelled: Counter,
    pub(crate) scanned_bytes: Counter,
    pub(crate) scanned_files: Counter,
}

impl Stats {
    pub(crate) fn new(engine: Engine) -> Self {
        let mut registry = Registry::with_prefix("search");
        let requests = Family::<Answered, Counter>::default();
        let seconds =
            Family::<Route, Histogram, fn() -> Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let searches = Searches::default();

        registry.register("http_requests", "Answered requests", requests.clone());
        registry.register_with_unit(
            "http_request",
            "Time in the service, up to the first byte of the answer",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register("waiting", "Searches not yet begun", searches.waiting.clone());
        registry.register("running", "Searches under way", searches.running.clone());
        registry.register("completed", "Searches that ended", searches.completed.clone());
        registry.register(
            "cancelled",
            "Searches whose client left or asked something else",
            searches.cancelled.clone(),
        );
        registry.register_with_unit(
            "scanned",
            "Source text scanned",
            Unit::Bytes,
            searches.scanned_bytes.clone(),
        );
        registry.register("scanned_files", "Source files scanned", searches.scanned_files.clone());
        registry.register_collector(Box::new(Scheduler(engine)));
        Self { registry, searches, requests, seconds }
    }

    /// Counts one answer.
    pub(crate) fn answered(&self, route: &'static str, status: u16, after: Duration) {
        self.requests.get_or_create(&Answered { route, status }).inc();
        self.seconds.get_or_create(&Route { route }).observe(after.as_secs_f64());
    }

    /// All of it as Prometheus text. To be called on one of the scheduler's threads.
    pub(crate) fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Reads the scheduler's own counters at each scrape.
#[derive(Debug)]
struct Scheduler(Engine);

impl Collector for Scheduler {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for reading in self.0.readings() {
            let name = format!("scheduler_{}", reading.name);
            let help = format!("{}.", reading.help);
            let metric: &dyn EncodeMetric = match reading.kind {
                Kind::Counter => &ConstCounter::new(reading.value),
                Kind::Gauge | Kind::Queue => &ConstGauge::new(reading.value),
            };
            let metric_encoder = encoder.encode_descriptor(&name, &help, None, metric.metric_type())?;
            metric.encode(metric_encoder)?;
        }
        Ok(())
    }
}

/// One search's place in the counts.
#[derive(Debug)]
pub(crate) struct Ticket {
    stats: Arc<Stats>,
    at: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting,
    Running,
    Completed,
}

impl Ticket {
    /// A search that waits for a worker.
    pub(crate) fn new(stats: Arc<Stats>) -> Self {
        stats.searches.waiting.inc();
        Self { stats, at: Place::Waiting }
    }

    /// The search begins.
    pub(crate) fn start(&mut self) {
        self.leave();
        self.stats.searches.running.inc();
        self.at = Place::Running;
    }

    /// The search has its result.
    pub(crate) fn complete(mut self) {
        self.leave();
        self.stats.searches.completed.inc();
        self.at = Place::Completed;
    }

    fn leave(&self) {
        match self.at {
            Place::Waiting => _ = self.stats.searches.waiting.dec(),
            Place::Running => _ = self.stats.searches.running.dec(),
            Place::Completed => {}
        }
    }
}

impl Drop for Ticket {
    /// Without [`Ticket::complete`], the search was dropped in the queue or unwound.
    fn drop(&mut self) {
        if self.at != Place::Completed {
            self.leave();
            self.stats.searches.cancelled.inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(stats: &Stats) -> [u64; 4] {
        let s = &stats.searches;
        [s.waiting.get() as u64, s.running.get() as u64, s.completed.get(), s.cancelled.get()]
    }

    #[test]
    fn a_search_is_counted_in_one_place_at_a_time() {
        let stats = Arc::new(Stats::new(Engine::Beat));
        let mut ticket = Ticket::new(Arc::clone(&stats));
        assert_eq!(counts(&stats), [1, 0, 0, 0]);
        ticket.start();
        assert_eq!(counts(&stats), [0, 1, 0, 0]);
        ticket.complete();
        assert_eq!(counts(&stats), [0, 0, 1, 0]);

        drop(Ticket::new(Arc::clone(&stats)));
        assert_eq!(counts(&stats), [0, 0, 1, 1]);
        let mut ticket = Ticket::new(Arc::clone(&stats));
        ticket.start();
        drop(ticket);
        assert_eq!(counts(&stats), [0, 0, 1, 2]);
    }
}
