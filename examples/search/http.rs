//! The service's routes.
//!
//! `/search` answers in NDJSON: one line for each found line, as it is found,
//! `{"path":"a/b.rs","line":12,"parts":["fn ","main","() {"]}` (every second part is a match),
//! and one last line, `{"done":{…}}` with the summary, or `{"error":"…"}`. A request that cannot
//! be answered gets the status 400 and one line `{"error":"…"}`.
//!
//! **Who stops a search.** The response body owns the closure's [`Computation`]. When the client
//! leaves, hyper sees the end of the connection and drops the body; that drops the computation,
//! and that cancels the closure. The same holds while the regular expression is still being
//! compiled: then it is the handler's future that is dropped. No code here waits for a client.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use axum::{Json, Router};
use futures::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::engine::{Computation, Engine, Kind};
use super::probe::Probe;
use super::search::{DEFAULT_ROWS, MAX_ROWS, Pattern, Search, Summary};
use super::stats::{Stats, Ticket};

/// How many batches of rows may share one chunk of the response.
const BATCHES: usize = 64;

/// What the routes share.
#[derive(Debug)]
pub(crate) struct Service {
    engine: Engine,
    workers: usize,
    root: PathBuf,
    stats: Arc<Stats>,
    probe: Probe,
    began: Instant,
}

impl Service {
    /// A service on `engine` that searches `root` and answers at `addr`.
    pub(crate) fn new(engine: Engine, workers: usize, root: PathBuf, addr: SocketAddr) -> Self {
        Self {
            engine,
            workers,
            root,
            stats: Arc::new(Stats::new(engine)),
            probe: Probe::start(addr),
            began: Instant::now(),
        }
    }
}

/// All routes.
pub(crate) fn router(service: Arc<Service>) -> Router {
    let routes: [(&'static str, MethodRouter<Arc<Service>>); 5] = [
        ("/", get(page)),
        ("/search", get(search)),
        ("/stats", get(stats)),
        ("/healthz", get(async || "ok")),
        ("/metrics", get(metrics)),
    ];
    let mut router = Router::new();
    for (path, method) in routes {
        let stats = Arc::clone(&service.stats);
        let counted =
            middleware::from_fn(move |request, next| count(Arc::clone(&stats), path, request, next));
        router = router.route(path, method.layer(counted));
    }
    router.with_state(service)
}

async fn count(stats: Arc<Stats>, route: &'static str, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let response = next.run(request).await;
    stats.answered(route, response.status().as_u16(), began.elapsed());
    response
}

async fn page() -> impl IntoResponse {
    // The page is self-contained, and this holds it to that.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                  connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'";
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::CACHE_CONTROL, "no-cache")];
    (headers, Html(include_str!("page.html")))
}

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    q: String,
    limit: Option<usize>,
    case: Option<String>,
}

impl Asked {
    fn pattern(self) -> Result<Pattern, String> {
        let ignore_case = match self.case.as_deref() {
            None | Some("") => false,
            Some("i") => true,
            Some(other) => return Err(format!("`case` can be `i`, but not {other:?}")),
        };
        let limit = self.limit.unwrap_or(DEFAULT_ROWS).clamp(1, MAX_ROWS);
        Ok(Pattern { regex: self.q, ignore_case, limit })
    }
}

async fn search(
    State(service): State<Arc<Service>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let began = Instant::now();
    let pattern = match asked.map_err(|error| error.body_text()).and_then(|Query(q)| q.pattern()) {
        Ok(pattern) => pattern,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error),
    };

    let (compiled, accepted) = oneshot::channel();
    let (sender, rows) = unbounded_channel();
    let Service { engine, root, stats, .. } = &*service;
    let (engine, root, stats) = (*engine, root.clone(), Arc::clone(stats));
    let mut ticket = Ticket::new(Arc::clone(&stats));
    let searching = engine.compute(move |cancel| {
        ticket.start();
        // Compiling a large expression takes milliseconds: that too is the closure's work.
        let matcher = match pattern.compile() {
            Ok(matcher) => matcher,
            Err(error) => {
                ticket.complete();
                let _ = compiled.send(Err(error));
                return None;
            }
        };
        let _ = compiled.send(Ok(()));
        let search = Search::new(engine, cancel, matcher, pattern.limit, root, sender, stats);
        let summary = search.run();
        if summary.is_some() {
            ticket.complete();
        }
        summary
    });

    match accepted.await {
        Ok(Ok(())) => {
            let headers = [
                (header::CONTENT_TYPE, "application/x-ndjson"),
                (header::CACHE_CONTROL, "no-store"),
                // Browsers hold a stream back while they guess its type.
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, Body::from_stream(answer(rows, searching, began))).into_response()
        }
        Ok(Err(error)) => refusal(StatusCode::BAD_REQUEST, &error),
        Err(_) => {
            let lost = searching.await.err().map_or_else(String::new, |lost| lost.to_string());
            refusal(StatusCode::INTERNAL_SERVER_ERROR, &lost)
        }
    }
}

fn refusal(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

/// The rows as they come, then the last line. Dropping the stream cancels the search.
fn answer(
    rows: UnboundedReceiver<Bytes>,
    searching: Computation<Option<Summary>>,
    began: Instant,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    let rows_then_end = Some((rows, searching));
    stream::unfold(rows_then_end, move |state| async move {
        let (mut rows, searching) = state?;
        let mut batches = Vec::with_capacity(BATCHES);
        // The closure holds the sender: when there is none left, the closure has ended.
        if rows.recv_many(&mut batches, BATCHES).await > 0 {
            return Some((Ok(batches.concat().into()), Some((rows, searching))));
        }
        let end = match searching.await {
            Ok(Some(summary)) => {
                let mut done = json!({ "done": summary });
                done["done"]["elapsed_ms"] = json!(began.elapsed().as_micros() as f64 / 1e3);
                done
            }
            Ok(None) => json!({ "error": "the search was cancelled" }),
            Err(lost) => json!({ "error": lost.to_string() }),
        };
        Some((Ok(format!("{end}\n").into()), None))
    })
}

async fn stats(State(service): State<Arc<Service>>) -> Json<Value> {
    let searches = &service.stats.searches;
    let readings = service.engine.readings();
    let queued: u64 = readings.iter().filter(|r| r.kind == Kind::Queue).map(|r| r.value).sum();
    let scheduler: serde_json::Map<String, Value> =
        readings.iter().map(|r| (r.name.into(), r.value.into())).collect();
    Json(json!({
        "engine": service.engine.to_string(),
        "workers": service.workers,
        "root": service.root.to_string_lossy(),
        "up_seconds": service.began.elapsed().as_secs(),
        "light": service.probe.look(),
        "queued": queued,
        "searches": {
            "waiting": searches.waiting.get(),
            "running": searches.running.get(),
            "completed": searches.completed.get(),
            "cancelled": searches.cancelled.get(),
            "scanned_bytes": searches.scanned_bytes.get(),
        },
        "scheduler": scheduler,
    }))
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match service.stats.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, kind)], text).into_response(),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
