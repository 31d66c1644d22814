// A service that keeps notes: axum beside tokio's net, time, sync and fs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, broadcast, oneshot};
use tokio::time::{sleep, timeout};

use crate::wire::ask;

struct Notes {
    dir: PathBuf,
    names: Mutex<Vec<String>>,
    written: broadcast::Sender<String>,
}

async fn write(State(notes): State<Arc<Notes>>, Path(name): Path<String>, text: String) -> StatusCode {
    if tokio::fs::write(notes.dir.join(&name), text).await.is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR;
    }
    notes.names.lock().await.push(name.clone());
    let _ = notes.written.send(name);
    StatusCode::CREATED
}

async fn read(State(notes): State<Arc<Notes>>, Path(name): Path<String>) -> Result<String, StatusCode> {
    sleep(Duration::from_millis(1)).await;
    tokio::fs::read_to_string(notes.dir.join(&name)).await.map_err(|_| StatusCode::NOT_FOUND)
}

async fn list(State(notes): State<Arc<Notes>>) -> Json<Vec<String>> {
    let mut names = notes.names.lock().await.clone();
    names.sort();
    Json(names)
}

async fn too_slow() -> StatusCode {
    match timeout(Duration::from_millis(5), std::future::pending::<()>()).await {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[beat::main]
pub(crate) async fn main() {
    let dir = std::env::temp_dir().join(format!("beat-notes-{}", std::process::id()));
    tokio::fs::create_dir_all(&dir).await.unwrap();
    let (written, mut heard) = broadcast::channel(16);
    let notes = Arc::new(Notes { dir: dir.clone(), names: Mutex::default(), written });
    let router = Router::new()
        .route("/notes/{name}", get(read).put(write))
        .route("/notes", get(list))
        .route("/slow", get(too_slow))
        .with_state(notes);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let signal = async { drop(stopped.await) };
    let server = beat::serve(listener, router).with_graceful_shutdown(signal);
    let server = beat::spawn(async { server.await });

    let clients: Vec<_> = (0..8)
        .map(|i| {
            beat::spawn(async move {
                let path = format!("/notes/note{i}");
                let created = ask(addr, "PUT", &path, &format!("text {i}")).await;
                format!("{created}then {}", ask(addr, "GET", &path, "").await)
            })
        })
        .collect();
    for client in clients {
        println!("{}", client.await.unwrap());
        heard.recv().await.unwrap();
    }
    println!("{}", ask(addr, "GET", "/notes", "").await);
    println!("{}", ask(addr, "GET", "/slow", "").await);
    println!("{}", ask(addr, "GET", "/notes/none", "").await);
    stop.send(()).unwrap();
    server.await.unwrap().unwrap();
    tokio::fs::remove_dir_all(dir).await.unwrap();
}
