//! The thumbnails example, end to end: its own router, on each of its engines, and on Beat with memory made scarce.

mod common;
#[path = "../examples/thumbnails/main.rs"]
#[expect(dead_code, reason = "`main` and what only it calls")]
mod example;

use std::io::Cursor;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use beat::Runtime;
use beat::pressure::{Policy, PressureConfig, Reading};
use common::Memory;
use example::args::{self, Invocation};
use example::engine::Engine;
use example::http::{self, Service};
use example::picture::{self, Gallery};
use http_body_util::BodyExt;
use serde_json::Value;
use tempfile::TempDir;
use tower::ServiceExt;

const BEAT: Engine = Engine::Beat(Policy::Headroom);
const ENGINES: [Engine; 3] = [BEAT, Engine::TokioBlocking, Engine::TokioSemaphore(2)];
const MIB: u64 = 1 << 20;

/// A directory with two pictures and something else.
fn pictures() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("wide.jpg"), picture::draw(1, (320, 160))).unwrap();
    std::fs::write(dir.path().join("tall.JPEG"), picture::draw(2, (80, 240))).unwrap();
    std::fs::write(dir.path().join("notes.txt"), "no picture").unwrap();
    dir
}

fn service(engine: Engine, dir: &TempDir) -> Arc<Service> {
    Arc::new(Service::new(engine, Gallery::read(dir.path()).unwrap()))
}

async fn send(service: &Arc<Service>, request: Request<Body>) -> (Response<()>, Bytes) {
    let (head, body) = http::router(Arc::clone(service)).oneshot(request).await.unwrap().into_parts();
    (Response::from_parts(head, ()), body.collect().await.unwrap().to_bytes())
}

async fn get(service: &Arc<Service>, path: &str) -> (StatusCode, Bytes) {
    let (head, body) = send(service, Request::get(path).body(Body::empty()).unwrap()).await;
    (head.status(), body)
}

async fn post(service: &Arc<Service>, path: &str, body: impl Into<Body>) -> (StatusCode, Bytes) {
    let (head, body) = send(service, Request::post(path).body(body.into()).unwrap()).await;
    (head.status(), body)
}

async fn json(service: &Arc<Service>, path: &str) -> Value {
    serde_json::from_slice(&get(service, path).await.1).unwrap()
}

fn size(jpeg: &[u8]) -> (u32, u32) {
    let picture = image::load_from_memory_with_format(jpeg, image::ImageFormat::Jpeg).unwrap();
    (picture.width(), picture.height())
}

#[test]
fn each_engine_makes_thumbnails() {
    let dir = pictures();
    for engine in ENGINES {
        let service = service(engine, &dir);
        let told = engine.block_on(2, async {
            assert_eq!(get(&service, "/healthz").await, (StatusCode::OK, "ok".into()));
            let (status, page) = get(&service, "/").await;
            let page = String::from_utf8(page.to_vec()).unwrap();
            assert_eq!(status, StatusCode::OK);
            assert!(page.contains("[\"tall.JPEG\",\"wide.jpg\"]"), "{page}");
            assert!(!page.contains("src=\"http") && !page.contains("href=\"http"), "self-contained");
            for (path, expected) in [
                ("/thumb/wide.jpg?width=64", (64, 32)),
                ("/thumb/tall.JPEG?width=120", (40, 120)),
                // Without a width: as large as they come out.
                ("/thumb/wide.jpg", (480, 240)),
            ] {
                let (status, jpeg) = get(&service, path).await;
                assert_eq!((status, size(&jpeg)), (StatusCode::OK, expected), "{path} on {engine}");
            }
            json(&service, "/pressure").await
        });
        let told = told.unwrap();
        assert_eq!((&told["engine"], &told["counts"]["made"]), (&engine.to_string().into(), &3.into()));
        assert_eq!(told["level"].is_string(), engine == BEAT);
    }
}

#[test]
fn uploads_are_read_by_what_is_in_them() {
    let dir = pictures();
    let service = service(BEAT, &dir);
    let answers = BEAT.block_on(2, async {
        let mut png = Vec::new();
        let drawn = image::load_from_memory(&picture::draw(3, (200, 100))).unwrap();
        drawn.write_to(&mut Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
        let (status, jpeg) = post(&service, "/thumb?width=50", png.clone()).await;
        assert_eq!((status, size(&jpeg)), (StatusCode::OK, (50, 25)));
        let half = png.len() / 2;
        [
            post(&service, "/thumb?width=50", "no picture").await,
            post(&service, "/thumb?width=50", png[..half].to_vec()).await,
            post(&service, "/thumb?width=9", png).await,
            get(&service, "/thumb/nobody.jpg").await,
            get(&service, "/thumb/notes.txt").await,
        ]
    });
    let expected = [
        (StatusCode::UNPROCESSABLE_ENTITY, "no picture that can be read"),
        (StatusCode::UNPROCESSABLE_ENTITY, ""),
        (StatusCode::BAD_REQUEST, "`width` can be 16..=2048, but not 9"),
        (StatusCode::NOT_FOUND, "nobody.jpg"),
        (StatusCode::NOT_FOUND, "notes.txt"),
    ];
    for ((status, body), (expected, says)) in answers.unwrap().into_iter().zip(expected) {
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, expected, "{body}");
        assert!(body["error"].as_str().unwrap().contains(says), "{body}");
    }
}

#[test]
fn without_memory_a_thumbnail_is_refused_and_light_routes_are_not() {
    let dir = pictures();
    let config =
        PressureConfig::new().source(|| Memory(Reading::new(100 * MIB, 99 * MIB, 0))).guaranteed_minimum(1);
    let runtime = Runtime::builder().worker_threads(2).pressure(config).build().unwrap();
    let service = service(BEAT, &dir);
    runtime.block_on(async {
        let minimum = beat::admit().try_spawn(std::future::pending::<()>()).expect("one is let in");
        let request = Request::get("/thumb/wide.jpg").body(Body::empty()).unwrap();
        let (head, body) = send(&service, request).await;
        assert_eq!(head.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(head.headers()[header::RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        assert!(String::from_utf8_lossy(&body).contains("no memory"));
        assert_eq!(get(&service, "/healthz").await.0, StatusCode::OK);
        let told = json(&service, "/pressure").await;
        assert_eq!((&told["level"], &told["counts"]["refused"]), (&"critical".into(), &1.into()));
        minimum.abort();
    });
}

#[test]
fn a_bad_argument_says_what_to_do() {
    let parse =
        |args: &[&str]| args::parse(args.iter().map(std::ffi::OsString::from)).map_err(|e| e.to_string());
    assert!(matches!(parse(&["--help"]), Ok(Invocation::Help)));
    for (args, says) in [
        (&["--engine", "rayon"][..], "tokio-semaphore:N"),
        (&["--engine", "tokio-semaphore:0"], "1 to 100000"),
        (&["--workers", "0"], "from 1 to 1024"),
        (&["--nonsense"], "--nonsense"),
    ] {
        let Err(error) = parse(args) else { panic!("{args:?} are taken") };
        assert!(error.contains(says), "{error}");
    }
    let Ok(Invocation::Serve(args)) = parse(&["/nowhere/at/all"]) else {
        panic!("a directory is a good argument")
    };
    let error = example::run(args).unwrap_err();
    assert!(error.contains("/nowhere/at/all") && error.contains("Name a directory"), "{error}");
}
