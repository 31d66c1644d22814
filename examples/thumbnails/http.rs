//! The service's routes.
//!
//! `/healthz` and `/pressure` are light and always answered. A thumbnail is one closure with an estimate; refused, it
//! is a 503 with `Retry-After`. Nothing in here waits for memory: a browser asks again, and so does a good client.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine::{Engine, Failed};
use super::picture::{Gallery, Source, thumbnail};

/// The largest upload in bytes.
const LARGEST_UPLOAD: usize = 16 << 20;
const WIDTHS: std::ops::RangeInclusive<u32> = 16..=2048;
const DEFAULT_WIDTH: u32 = 480;

/// What the routes share.
#[derive(Debug)]
pub(crate) struct Service {
    engine: Engine,
    gallery: Gallery,
    made: AtomicU64,
    refused: AtomicU64,
}

impl Service {
    pub(crate) fn new(engine: Engine, gallery: Gallery) -> Self {
        Self { engine, gallery, made: AtomicU64::new(0), refused: AtomicU64::new(0) }
    }

    async fn thumb(&self, source: Source, width: Option<u32>) -> Response {
        let width = width.unwrap_or(DEFAULT_WIDTH);
        if !WIDTHS.contains(&width) {
            return failure(StatusCode::BAD_REQUEST, &format!("`width` can be {WIDTHS:?}, but not {width}"));
        }
        let needs = match source.needs() {
            Ok(needs) => needs,
            Err(error) => return failure(StatusCode::UNPROCESSABLE_ENTITY, &error),
        };
        match self.engine.compute(needs, move || thumbnail(&source, width)).await {
            Ok(Ok(jpeg)) => {
                // Relaxed here and below: counts order nothing.
                self.made.fetch_add(1, Relaxed);
                ([(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "no-store")], jpeg)
                    .into_response()
            }
            Ok(Err(error)) => failure(StatusCode::UNPROCESSABLE_ENTITY, &error),
            Err(Failed::Refused(retry_after)) => {
                self.refused.fetch_add(1, Relaxed);
                let seconds = retry_after.as_secs().max(1).to_string();
                let body = failure(StatusCode::SERVICE_UNAVAILABLE, "there is no memory for it now");
                ([(header::RETRY_AFTER, seconds)], body).into_response()
            }
            Err(Failed::Lost(error)) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error),
        }
    }
}

/// All routes.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/thumb/{name}", get(of_gallery))
        .route("/thumb", post(of_upload).layer(DefaultBodyLimit::max(LARGEST_UPLOAD)))
        .route("/pressure", get(pressure))
        .route("/healthz", get(async || "ok"))
        .with_state(service)
}

#[derive(Debug, Deserialize)]
struct Asked {
    width: Option<u32>,
}

async fn of_gallery(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Response {
    match service.gallery.get(&name) {
        Some(source) => service.thumb(source.clone(), asked.width).await,
        None => failure(StatusCode::NOT_FOUND, &format!("there is no picture {name:?}")),
    }
}

async fn of_upload(State(service): State<Arc<Service>>, Query(asked): Query<Asked>, body: Bytes) -> Response {
    service.thumb(Source::Bytes(body.to_vec().into()), asked.width).await
}

async fn pressure(State(service): State<Arc<Service>>) -> Json<Value> {
    let counts = json!({ "made": service.made.load(Relaxed), "refused": service.refused.load(Relaxed) });
    if !matches!(service.engine, Engine::Beat(_)) {
        return Json(json!({ "engine": service.engine.to_string(), "counts": counts }));
    }
    let seen = beat::pressure();
    Json(json!({
        "engine": service.engine.to_string(),
        "level": format!("{:?}", seen.level).to_lowercase(),
        "headroom": seen.headroom(),
        "limit": seen.reading.as_ref().map(|reading| reading.limit),
        "usage": seen.reading.as_ref().map(|reading| reading.usage),
        "reserved": seen.reserved,
        "stalled": seen.stalled,
        "why": seen.why().to_string(),
        "counts": counts,
    }))
}

fn failure(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}

async fn page(State(service): State<Arc<Service>>) -> Html<String> {
    let names: Vec<_> = service.gallery.names().collect();
    // `<` is the only character of JSON that could end the script it stands in.
    let names = json!(names).to_string().replace('<', "\\u003c");
    Html(include_str!("page.html").replace("\"@NAMES@\"", &names))
}
