//! The same server on each engine: hyper's HTTP/1, one task a connection.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use smol_hyper::rt::FuturesIo;

use crate::common::tasks::Executor;
use crate::suite::executors::AsyncExecutor;
use crate::suite::fork::searches::Work;

/// The answer's body.
pub(super) const BODY: &str = "hello";
/// The target whose handler computes.
pub(super) const WORKING: &str = "/work";

/// Serves connections for as long as the engine runs, on tokio's sockets.
pub(super) fn start<E: Executor + 'static>(engine: &E, work: Work) -> io::Result<SocketAddr> {
    let (listener, addr) = listener()?;
    drop(engine.spawn_from_outside(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("the engine has tokio's driver");
        while let Ok((stream, _)) = listener.accept().await {
            if stream.set_nodelay(true).is_ok() {
                E::spawn_detached(serve(TokioIo::new(stream), work));
            }
        }
    }));
    Ok(addr)
}

/// The same on async-io's sockets.
pub(super) fn start_smol(engine: &AsyncExecutor, work: Work) -> io::Result<SocketAddr> {
    let (listener, addr) = listener()?;
    let listener = async_io::Async::new(listener)?;
    let accepting = async move {
        while let Ok((stream, _)) = listener.accept().await {
            if stream.get_ref().set_nodelay(true).is_ok() {
                AsyncExecutor::spawn_detached(serve(FuturesIo::new(stream), work));
            }
        }
    };
    engine.spawn_detached_from_outside(accepting);
    Ok(addr)
}

fn listener() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

async fn serve<I>(io: I, work: Work)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(request, work));
    // An error is the client's going away.
    let _ = http1::Builder::new().serve_connection(io, service).await;
}

async fn answer(request: Request<Incoming>, work: Work) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == WORKING {
        std::hint::black_box(work.run(std::hint::black_box(1)));
    }
    Ok(Response::new(Full::new(Bytes::from_static(BODY.as_bytes()))))
}
