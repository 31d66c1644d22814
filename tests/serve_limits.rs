//! `beat::serve` beyond one request after the other: HTTP/2, its end in the middle of a thousand streams, listeners of
//! every kind and what goes wrong with them, limits.

#![cfg(feature = "axum")]

mod common;

use std::future::{Future, Ready, pending, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use beat::hyper::BeatExecutor;
use beat::serve::Listener;
use common::{Drops, Gate, Latch, at_each_size};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};

const STREAMS: usize = 1_000;
const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";

/// What stops a server, and the signal that it waits for.
fn stop() -> (oneshot::Sender<()>, impl Future<Output = ()> + Send + 'static) {
    let (stop, stopped) = oneshot::channel();
    let signal = async {
        let _ = stopped.await;
    };
    (stop, signal)
}

async fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

/// A client of HTTP/2 by prior knowledge.
async fn connect(addr: SocketAddr) -> SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(TcpStream::connect(addr).await.unwrap());
    let (sender, connection) = hyper::client::conn::http2::handshake(BeatExecutor::new(), io).await.unwrap();
    drop(beat::spawn(connection));
    sender
}

/// A whole answer, its body included.
async fn get_whole(mut sender: SendRequest<Empty<Bytes>>) -> hyper::Result<(StatusCode, Bytes)> {
    sender.ready().await?;
    let request = Request::get("http://test/").body(Empty::new()).unwrap();
    let response = sender.send_request(request).await?;
    Ok((response.status(), response.into_body().collect().await?.to_bytes()))
}

/// The whole answer to one request of HTTP/1 on a connection that ends with it.
async fn ask(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> String {
    stream.write_all(QUESTION).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn a_shutdown_beside_a_thousand_open_streams_answers_them_all() {
    at_each_size(|runtime| {
        let (begun, all_begun, gate) = (Arc::new(AtomicUsize::new(0)), Latch::new(), Gate::new());
        let handler = {
            let (begun, all_begun, gate) = (Arc::clone(&begun), Arc::clone(&all_begun), Arc::clone(&gate));
            move || async move {
                if begun.fetch_add(1, SeqCst) + 1 == STREAMS {
                    all_begun.set();
                }
                gate.wait().await;
                "whole"
            }
        };
        let (stop, signal) = stop();
        let (addr, server) = runtime.block_on(async {
            let (listener, addr) = bind().await;
            let server = beat::serve(listener, Router::new().route("/", get(handler)))
                .max_concurrent_streams(STREAMS as u32)
                .with_graceful_shutdown(signal);
            (addr, beat::spawn(async { server.await }))
        });
        let client = runtime.block_on(connect(addr));
        let asked: Vec<_> = (0..STREAMS).map(|_| runtime.spawn(get_whole(client.clone()))).collect();
        all_begun.wait();
        stop.send(()).unwrap();
        assert!(!server.is_finished());
        gate.open();
        for answer in asked {
            let (status, body) = runtime.block_on(answer).unwrap().unwrap();
            assert_eq!((status, &*body), (StatusCode::OK, &b"whole"[..]));
        }
        runtime.block_on(server).unwrap().unwrap();
        assert_eq!(begun.load(SeqCst), STREAMS);
        // The connection has ended, and nobody listens.
        assert!(runtime.block_on(get_whole(client)).is_err());
        assert!(std::net::TcpStream::connect(addr).is_err());
    });
}

/// Streams are opened while the server ends: those that a handler has seen are answered, the others are refused.
/// With the client of h2 itself: hyper's may give up a stream that it has opened just before it was told to open none.
#[test]
fn a_shutdown_in_the_middle_of_a_thousand_streams_answers_each_that_was_accepted() {
    at_each_size(|runtime| {
        let begun = Arc::new(AtomicUsize::new(0));
        let (stop, signal) = stop();
        let stop = Arc::new(Mutex::new(Some(stop)));
        let handler = {
            let begun = Arc::clone(&begun);
            move || async move {
                if begun.fetch_add(1, SeqCst) + 1 == STREAMS / 2 {
                    let stop = stop.lock().unwrap().take().expect("the half is reached once");
                    stop.send(()).unwrap();
                }
                tokio::time::sleep(Duration::from_micros(500)).await;
                beat::spawn_blocking_parallel(|| common::fib(8)).await.unwrap().to_string()
            }
        };
        let (answered, refused) = runtime.block_on(async {
            let (listener, addr) = bind().await;
            let server = beat::serve(listener, Router::new().route("/", get(handler)))
                .max_concurrent_streams(STREAMS as u32)
                .with_graceful_shutdown(signal);
            let server = beat::spawn(async { server.await });
            let stream = TcpStream::connect(addr).await.unwrap();
            let (client, connection) = h2::client::handshake(stream).await.unwrap();
            drop(beat::spawn(connection));
            let asked: Vec<_> = (0..STREAMS).map(|_| beat::spawn(get_by_h2(client.clone()))).collect();
            let (mut answered, mut refused) = (0, 0);
            for answer in asked {
                match answer.await.unwrap() {
                    Ok(body) => {
                        assert_eq!(body, b"21");
                        answered += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
            drop(client);
            server.await.unwrap().unwrap();
            (answered, refused)
        });
        assert_eq!(answered, begun.load(SeqCst), "{refused} were refused");
        assert!(answered >= STREAMS / 2 && answered + refused == STREAMS);
    });
}

async fn get_by_h2(client: h2::client::SendRequest<Bytes>) -> Result<Vec<u8>, h2::Error> {
    let request = Request::get("http://test/").body(()).unwrap();
    let (response, _) = client.ready().await?.send_request(request, true)?;
    let response = response.await?;
    assert_eq!(response.status(), StatusCode::OK);
    let (mut stream, mut body) = (response.into_body(), Vec::new());
    while let Some(piece) = stream.data().await {
        body.extend_from_slice(&piece?);
    }
    Ok(body)
}

/// A connection that was accepted, and whose first request is still on the way when the server stops.
#[test]
fn a_connection_that_has_not_asked_yet_at_the_shutdown_is_answered() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let (listener, addr) = bind().await;
            let (accepted, mut was_accepted) = mpsc::unbounded_channel();
            let router = Router::new().route("/", get(|| async { "in time" }));
            let make = tower::service_fn(move |addr: SocketAddr| {
                accepted.send(addr).unwrap();
                ready(Ok(router.clone()))
            });
            let (stop, signal) = stop();
            let server = beat::serve(listener, make).with_graceful_shutdown(signal);
            let server = beat::spawn(async { server.await });
            let mut late = TcpStream::connect(addr).await.unwrap();
            let mut never = TcpStream::connect(addr).await.unwrap();
            was_accepted.recv().await.unwrap();
            was_accepted.recv().await.unwrap();
            stop.send(()).unwrap();
            while TcpStream::connect(addr).await.is_ok() {
                beat::yield_now().await;
            }
            assert!(ask(&mut late).await.ends_with("in time"));
            server.await.unwrap().unwrap();
            // One that asks nothing is let go.
            assert_eq!(never.read(&mut [0]).await.unwrap_or(0), 0);
        });
    });
}

#[test]
fn a_service_made_for_each_connection_knows_the_client() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let (listener, addr) = bind().await;
            let handler = |ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.to_string() };
            let router = Router::new().route("/", get(handler));
            let server = beat::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>());
            assert_eq!(server.local_addr().unwrap(), addr);
            let server = beat::spawn(async { server.await }).abort_on_drop();
            for _ in 0..3 {
                let mut client = TcpStream::connect(addr).await.unwrap();
                let own = client.local_addr().unwrap().to_string();
                let answer = ask(&mut client).await;
                assert!(answer.ends_with(&own), "{answer}");
            }
            drop(server);
        });
    });
}

#[cfg(unix)]
#[test]
fn unix_sockets_are_served() {
    at_each_size(|runtime| {
        let path = std::env::temp_dir().join(format!(
            "beat-serve-{}-{}.sock",
            std::process::id(),
            runtime.metrics().workers
        ));
        let _ = std::fs::remove_file(&path);
        runtime.block_on(async {
            let listener = tokio::net::UnixListener::bind(&path).unwrap();
            let router = Router::new().route("/", get(|| async { "by file" }));
            let (stop, signal) = stop();
            let server = beat::serve(listener, router).with_graceful_shutdown(signal);
            assert_eq!(server.local_addr().unwrap().as_pathname(), Some(&*path));
            let server = beat::spawn(async { server.await });
            let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
            assert!(ask(&mut client).await.ends_with("by file"));
            stop.send(()).unwrap();
            server.await.unwrap().unwrap();
        });
        std::fs::remove_file(&path).unwrap();
    });
}

/// What a listener inside the process gives out next.
enum Next {
    Connection(DuplexStream),
    /// A client that never shakes hands.
    Stuck(common::DropGuard),
    Error(io::ErrorKind),
}

/// Connections that count as open until the server drops them.
struct InProcess {
    next: mpsc::UnboundedReceiver<Next>,
    open: Arc<AtomicUsize>,
    most: usize,
}

struct Counted(DuplexStream, Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.fetch_sub(1, SeqCst);
    }
}

macro_rules! forward {
    ($($name:ident: $($arg:ident: $type:ty),* => $out:ty, $as:path;)*) => {$(
        fn $name(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>, $($arg: $type),*) -> std::task::Poll<$out> {
            $as(Pin::new(&mut self.0), cx, $($arg),*)
        }
    )*};
}

impl tokio::io::AsyncRead for Counted {
    forward! { poll_read: buf: &mut tokio::io::ReadBuf<'_> => io::Result<()>, tokio::io::AsyncRead::poll_read; }
}

impl tokio::io::AsyncWrite for Counted {
    forward! {
        poll_write: buf: &[u8] => io::Result<usize>, tokio::io::AsyncWrite::poll_write;
        poll_flush: => io::Result<()>, tokio::io::AsyncWrite::poll_flush;
        poll_shutdown: => io::Result<()>, tokio::io::AsyncWrite::poll_shutdown;
    }
}

impl Listener for InProcess {
    type Io = Counted;
    type Handshake = Pin<Box<dyn Future<Output = io::Result<Counted>> + Send>>;
    type Addr = ();

    async fn accept(&mut self) -> io::Result<(Self::Handshake, ())> {
        assert!(self.open.load(SeqCst) < self.most, "a connection more than there is room for is accepted");
        match self.next.recv().await {
            Some(Next::Connection(stream)) => {
                self.open.fetch_add(1, SeqCst);
                let io = Counted(stream, Arc::clone(&self.open));
                Ok((Box::pin(async { Ok(io) }), ()))
            }
            Some(Next::Stuck(guard)) => Ok((
                Box::pin(async move {
                    let _guard = guard;
                    pending().await
                }),
                (),
            )),
            Some(Next::Error(kind)) => Err(kind.into()),
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<()> {
        Ok(())
    }
}

fn in_process(most: usize) -> (mpsc::UnboundedSender<Next>, InProcess) {
    let (send, next) = mpsc::unbounded_channel();
    (send, InProcess { next, open: Arc::default(), most })
}

#[test]
fn errors_of_a_listener_end_nothing() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let (send, listener) = in_process(usize::MAX);
            let router = Router::new().route("/", get(|| async { "still here" }));
            let server = beat::serve(listener, router);
            let server = beat::spawn(async { server.await }).abort_on_drop();
            for kind in
                [io::ErrorKind::ConnectionAborted, io::ErrorKind::Other, io::ErrorKind::ConnectionReset]
            {
                assert!(send.send(Next::Error(kind)).is_ok());
                let (mut client, stream) = tokio::io::duplex(1024);
                assert!(send.send(Next::Connection(stream)).is_ok());
                assert!(ask(&mut client).await.ends_with("still here"));
            }
            assert!(!server.is_finished());
        });
    });
}

#[test]
fn a_handshake_that_does_not_end_holds_up_nobody_and_is_dropped() {
    at_each_size(|runtime| {
        runtime.block_on(async {
            let (send, listener) = in_process(usize::MAX);
            let drops = Drops::default();
            let router = Router::new().route("/", get(|| async { "next" }));
            let server = beat::serve(listener, router).handshake_timeout(Duration::from_millis(1));
            let server = beat::spawn(async { server.await }).abort_on_drop();
            assert!(send.send(Next::Stuck(drops.guard())).is_ok());
            let (mut client, stream) = tokio::io::duplex(1024);
            assert!(send.send(Next::Connection(stream)).is_ok());
            assert!(ask(&mut client).await.ends_with("next"));
            while drops.count() == 0 {
                beat::yield_now().await;
            }
            drop(server);
        });
    });
}

#[test]
fn no_more_connections_are_open_than_are_allowed() {
    const MOST: usize = 2;
    at_each_size(|runtime| {
        runtime.block_on(async {
            let (send, listener) = in_process(MOST);
            let router = Router::new().route("/", get(|| async { beat::yield_now().await }));
            let (stop, signal) = stop();
            let server = beat::serve(listener, router).max_connections(MOST).with_graceful_shutdown(signal);
            let server = beat::spawn(async { server.await });
            let clients: Vec<_> = (0..20)
                .map(|_| {
                    let (mut client, stream) = tokio::io::duplex(1024);
                    assert!(send.send(Next::Connection(stream)).is_ok());
                    beat::spawn(async move { ask(&mut client).await })
                })
                .collect();
            for client in clients {
                assert!(client.await.unwrap().starts_with("HTTP/1.1 200"));
            }
            stop.send(()).unwrap();
            // A panic of the listener would come out here.
            server.await.unwrap().unwrap();
        });
    });
}

#[test]
fn a_service_whose_making_panics_is_an_error_of_the_server() {
    let runtime = common::runtime(2);
    let error = runtime.block_on(async {
        let (send, listener) = in_process(usize::MAX);
        let (_client, stream) = tokio::io::duplex(1024);
        assert!(send.send(Next::Connection(stream)).is_ok());
        let make = tower::service_fn(|(): ()| -> Ready<Result<Router, _>> { panic!("no service today") });
        beat::serve(listener, make).await.unwrap_err()
    });
    assert!(error.to_string().contains("no service today"), "{error}");
}

#[test]
fn room_for_no_connection_is_refused() {
    let (_send, listener) = in_process(0);
    let message = common::panic_message(|| beat::serve(listener, Router::new()).max_connections(0));
    assert!(message.contains("allow 1 or more"), "{message}");
}
