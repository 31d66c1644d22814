// Middleware of tower around axum handlers: a limit on what runs at a time, load shed beyond it, a timeout, a buffer.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use axum::error_handling::HandleErrorLayer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{BoxError, Router};
use tokio::net::TcpListener;
use tokio::sync::Barrier;
use tower::limit::ConcurrencyLimitLayer;
use tower::load_shed::LoadShedLayer;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use crate::wire::ask;

#[derive(Clone)]
struct Counts {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    meeting: Arc<Barrier>,
}

async fn busy(State(counts): State<Counts>) -> &'static str {
    counts.most.fetch_max(counts.now.fetch_add(1, SeqCst) + 1, SeqCst);
    tokio::time::sleep(Duration::from_millis(1)).await;
    counts.now.fetch_sub(1, SeqCst);
    "done"
}

async fn meet(State(counts): State<Counts>) -> &'static str {
    counts.meeting.wait().await;
    counts.meeting.wait().await;
    "met"
}

async fn refused(error: BoxError) -> StatusCode {
    if error.is::<tower::timeout::error::Elapsed>() {
        StatusCode::REQUEST_TIMEOUT
    } else if error.is::<tower::load_shed::error::Overloaded>() {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

#[tokio::main]
pub(crate) async fn main() {
    let meeting = Arc::new(Barrier::new(2));
    let counts = Counts { now: Arc::default(), most: Arc::default(), meeting: Arc::clone(&meeting) };
    let timeout =
        ServiceBuilder::new().layer(HandleErrorLayer::new(refused)).timeout(Duration::from_millis(10));
    let shed = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(refused))
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1));
    let router = Router::new()
        .route("/busy", get(busy).layer(ConcurrencyLimitLayer::new(2)))
        .route("/never", get(std::future::pending::<()>).layer(timeout))
        .route("/meet", get(meet).layer(shed))
        .with_state(counts.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async { axum::serve(listener, router).await });

    let clients: Vec<_> = (0..16).map(|_| tokio::spawn(ask(addr, "GET", "/busy", ""))).collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), "200 done");
    }
    println!("no more than two at a time: {}", counts.most.load(SeqCst) <= 2);
    println!("too slow: {}", ask(addr, "GET", "/never", "").await);
    let first = tokio::spawn(ask(addr, "GET", "/meet", ""));
    meeting.wait().await;
    println!("beside it: {}", ask(addr, "GET", "/meet", "").await);
    meeting.wait().await;
    println!("the first: {}", first.await.unwrap());

    let double = service_fn(|n: u64| async move { Ok::<_, Infallible>(2 * n) });
    let mut buffered = ServiceBuilder::new().buffer(4).service(double);
    let answer = buffered.ready().await.unwrap().call(21).await.unwrap();
    println!("through a buffer: {answer}");
    server.abort();
}
