//! The tower layer: requests are admitted in turn or refused with 503, critical paths pass.

#![cfg(all(feature = "tower", feature = "axum"))]

mod common;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use axum::routing::get;
use beat::admission::AdmissionLayer;
use beat::pressure::{PressureConfig, Reading};
use beat::{JoinHandle, Runtime};
use common::{Gate, Latch, Memory, within};
use tower::ServiceExt;

struct World {
    runtime: Runtime,
    router: Router,
    begun: Arc<Latch>,
    gate: Arc<Gate>,
}

impl World {
    fn new(layer: AdmissionLayer) -> Self {
        // 130 bytes are left to be reserved; the guaranteed minimum is one.
        let memory = || Memory(Reading::new(1000, 800, 0));
        let config = PressureConfig::new().guaranteed_minimum(1).source(memory);
        let runtime = Runtime::builder().worker_threads(2).pressure(config).build().unwrap();
        let (begun, gate) = (Latch::new(), Gate::new());
        let heavy = {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            move || async move {
                begun.set();
                gate.wait().await;
                // What the handler admits and spawns is not held back again.
                let inner = beat::admit().memory(500).spawn(async { "inner" }).await.await.unwrap();
                let spawned = beat::spawn(async { beat::admit().memory(500).try_permit().map(drop).is_ok() });
                assert!(spawned.await.unwrap());
                inner
            }
        };
        let router = Router::new().route("/heavy", get(heavy)).route("/healthz", get(async || "ok"));
        Self { runtime, router: router.layer(layer), begun, gate }
    }

    fn ask(&self, path: &str) -> JoinHandle<Response<Body>> {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let router = self.router.clone();
        self.runtime.spawn(async move { router.oneshot(request).await.unwrap() })
    }

    fn answer(&self, asked: JoinHandle<Response<Body>>) -> Response<Body> {
        within(Duration::from_secs(60), || self.runtime.block_on(asked).unwrap())
    }
}

#[test]
fn refused_requests_get_503_and_critical_paths_pass() {
    let world = World::new(AdmissionLayer::refusing().memory(100).critical(["/healthz"]));
    let first = world.ask("/heavy");
    world.begun.wait();
    let refused = world.answer(world.ask("/heavy"));
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1);
    assert_eq!(world.answer(world.ask("/healthz")).status(), StatusCode::OK);
    world.gate.open();
    assert_eq!(world.answer(first).status(), StatusCode::OK);
    assert_eq!(world.answer(world.ask("/heavy")).status(), StatusCode::OK);
    assert_eq!(world.runtime.handle().pressure().reserved, 0);
}

#[test]
fn waiting_requests_come_in_turn() {
    let world = World::new(AdmissionLayer::waiting().memory(100).critical(["/healthz"]));
    let first = world.ask("/heavy");
    world.begun.wait();
    let others: Vec<_> = (0..5).map(|_| world.ask("/heavy")).collect();
    // One of them is dropped in the queue.
    let dropped = world.ask("/heavy");
    dropped.abort();
    assert_eq!(world.answer(world.ask("/healthz")).status(), StatusCode::OK);
    assert!(others.iter().all(|other| !other.is_finished()));
    world.gate.open();
    for asked in others.into_iter().chain([first]) {
        assert_eq!(world.answer(asked).status(), StatusCode::OK);
    }
    within(Duration::from_secs(60), || {
        while world.runtime.handle().pressure().reserved > 0 {
            std::thread::yield_now();
        }
    });
}
