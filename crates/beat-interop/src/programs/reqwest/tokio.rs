// reqwest against an axum server: JSON there and back, bodies that stream, a timeout.

use std::time::Duration;

use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Debug, Serialize, Deserialize)]
struct Sum {
    of: Vec<u64>,
    is: u64,
}

async fn add(Json(mut sum): Json<Sum>) -> Json<Sum> {
    sum.is = sum.of.iter().sum();
    Json(sum)
}

async fn stream() -> axum::body::Body {
    let pieces = futures::stream::iter(0..1_000).then(|i| async move {
        tokio::task::yield_now().await;
        Ok::<_, std::io::Error>(format!("{i},"))
    });
    axum::body::Body::from_stream(pieces)
}

#[tokio::main]
pub(crate) async fn main() {
    rustls::crypto::ring::default_provider().install_default().unwrap();
    let router = Router::new()
        .route("/sum", post(add))
        .route("/stream", get(stream))
        .route("/never", get(std::future::pending::<()>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async { axum::serve(listener, router).await });

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let sums: Vec<_> = (1..=8)
        .map(|n| {
            let request = client.post(format!("{base}/sum")).json(&Sum { of: (1..=n).collect(), is: 0 });
            tokio::spawn(async move { request.send().await?.json::<Sum>().await })
        })
        .collect();
    for sum in sums {
        println!("{:?}", sum.await.unwrap().unwrap());
    }
    let mut pieces = client.get(format!("{base}/stream")).send().await.unwrap().bytes_stream();
    let mut length = 0;
    while let Some(piece) = pieces.next().await {
        length += piece.unwrap().len();
    }
    println!("streamed {length} bytes");
    let late = client.get(format!("{base}/never")).timeout(Duration::from_millis(10)).send().await;
    println!("timed out: {}", late.unwrap_err().is_timeout());
    server.abort();
}
