//! `beat::serve`: requests are answered on Beat's workers, and a shutdown lets open ones end.

#![cfg(feature = "axum")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use beat::hyper::BeatExecutor;
use common::{Drops, Gate, Latch, at_each_size};
use hyper::rt::Executor;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A server on a free port: its address, what stops it, and its end.
async fn start(router: Router) -> (SocketAddr, oneshot::Sender<()>, beat::JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let signal = async {
        let _ = stopped.await;
    };
    let server = beat::serve(listener, router).with_graceful_shutdown(signal);
    assert!(format!("{server:?}").contains("Serve"), "{server:?}");
    (addr, stop, beat::spawn(async { server.await }))
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// The whole answer to one request; the server closes the connection after it.
fn ask(addr: SocketAddr, path: &str) -> String {
    let mut stream = connect(addr);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn requests_are_answered_on_the_workers() {
    at_each_size(|runtime| {
        let fib = || async {
            beat::task::id();
            beat::spawn_blocking_parallel(|| common::fib(12)).await.unwrap().to_string()
        };
        let (addr, stop, server) = runtime.block_on(start(Router::new().route("/fib", get(fib))));
        let clients: Vec<_> = (0..8).map(|_| std::thread::spawn(move || ask(addr, "/fib"))).collect();
        for client in clients {
            let answer = client.join().unwrap();
            assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("144"), "{answer}");
        }
        // Who does not speak HTTP harms nobody.
        let mut stranger = connect(addr);
        stranger.write_all(b"\0\0\0 not a request\r\n\r\n").unwrap();
        let _ = stranger.read_to_end(&mut Vec::new());
        assert!(ask(addr, "/missing").starts_with("HTTP/1.1 404"));
        stop.send(()).unwrap();
        runtime.block_on(server).unwrap().unwrap();
    });
}

#[test]
fn a_graceful_shutdown_waits_for_the_request_that_is_at_work() {
    at_each_size(|runtime| {
        let (begun, gate) = (Latch::new(), Gate::new());
        let handler = {
            let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
            move || async move {
                begun.set();
                gate.wait().await;
                "whole"
            }
        };
        let (addr, stop, server) = runtime.block_on(start(Router::new().route("/", get(handler))));
        let client = std::thread::spawn(move || ask(addr, "/"));
        begun.wait();
        stop.send(()).unwrap();
        assert!(!server.is_finished());
        gate.open();
        assert!(client.join().unwrap().ends_with("whole"));
        runtime.block_on(server).unwrap().unwrap();
        assert!(TcpStream::connect(addr).is_err());
    });
}

#[test]
fn a_server_that_is_dropped_accepts_no_more() {
    at_each_size(|runtime| {
        let drops = Drops::default();
        let guard = Arc::new(drops.guard());
        let handler = move || {
            let guard = Arc::clone(&guard);
            async move { drop(guard) }
        };
        let (addr, _stop, server) = runtime.block_on(start(Router::new().route("/", get(handler))));
        assert!(ask(addr, "/").starts_with("HTTP/1.1 200"));
        server.abort();
        assert!(runtime.block_on(server).unwrap_err().is_cancelled());
        // The service and the listener go with the accept loop and the last connection.
        while drops.count() == 0 || TcpStream::connect(addr).is_ok() {
            std::thread::yield_now();
        }
    });
}

#[test]
fn the_executor_spawns_on_its_own_runtime_or_on_the_current_one() {
    let own = common::runtime(1);
    let current = common::runtime(2);
    for (executor, workers) in [(BeatExecutor::on(own.handle().clone()), 1), (BeatExecutor::new(), 2)] {
        let (told, tell) = std::sync::mpsc::channel();
        let _entered = current.enter();
        executor.execute(async move {
            told.send(beat::Handle::current().metrics().workers).unwrap();
        });
        assert_eq!(tell.recv().unwrap(), workers);
    }
}
