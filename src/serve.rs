//! Serving HTTP: every connection a Beat task.
//!
//! `axum::serve` spawns its connections with `tokio::spawn`, which puts them all onto the one core that drives
//! tokio. [`serve`] does the same work on Beat's workers, by hyper-util's connection builder: HTTP/1 and, by
//! prior knowledge, HTTP/2, with upgrades.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture, pending};
use std::io;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::time::Duration;

use http_body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

use crate::hyper::BeatExecutor;

/// How long the accept loop waits when the process has run out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves an axum `Router`, or any other tower service of HTTP requests, on Beat's workers.
///
/// The service is cloned for each connection. The future runs until the shutdown signal, if one is
/// [given](Serve::with_graceful_shutdown), and then until the last connection has ended; without a signal it
/// runs for ever.
///
/// ```no_run
/// #[beat::main]
/// async fn main() -> std::io::Result<()> {
///     let router = axum::Router::new().route("/", axum::routing::get(|| async { "hello" }));
///     let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
///     beat::serve(listener, router).await
/// }
/// ```
///
/// # Errors
///
/// None today: errors of single connections end those, and a listener that cannot accept for the moment is
/// asked again. The `Result` leaves room.
///
/// # Cancel safety
///
/// Dropping the future stops accepting; connections that are open go on as tasks of their own.
pub fn serve<S, B>(listener: TcpListener, service: S) -> Serve<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    Serve { listener, service, signal: pending(), _body: PhantomData }
}

/// A server that is ready to run: await it. From [`serve`].
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve<S, B, F = std::future::Pending<()>> {
    listener: TcpListener,
    service: S,
    signal: F,
    _body: PhantomData<fn() -> B>,
}

impl<S, B, F> Serve<S, B, F> {
    /// When `signal` completes, the server accepts no more connections, tells the open ones to end after the
    /// request they are at, and waits for them.
    pub fn with_graceful_shutdown<G>(self, signal: G) -> Serve<S, B, G>
    where
        G: Future<Output = ()> + Send + 'static,
    {
        Serve { listener: self.listener, service: self.service, signal, _body: PhantomData }
    }
}

impl<S, B, F> fmt::Debug for Serve<S, B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl<S, B, F> IntoFuture for Serve<S, B, F>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = ()> + Send + 'static,
{
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            // The accept loop is a task of its own: the thread that awaits the server may be one that only polls
            // its own future, a futex away from the driver.
            let accepting = crate::spawn(accept_loop(self.listener, self.service, self.signal));
            let graceful = accepting.abort_on_drop().await?;
            graceful.shutdown().await;
            Ok(())
        })
    }
}

/// Accepts until the signal; returns who watches the open connections.
async fn accept_loop<S, B, F>(listener: TcpListener, service: S, signal: F) -> GracefulShutdown
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    F: Future<Output = ()> + Send + 'static,
{
    let mut builder = Builder::new(BeatExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new());
    let graceful = GracefulShutdown::new();
    let mut signal = pin!(signal);
    while let Some(stream) = until(signal.as_mut(), accept(&listener)).await {
        // Answers are written whole: waiting for more to send would only delay them. A socket that is gone
        // already says so at the first read.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(service.clone());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let watched = graceful.watch(connection);
        drop(crate::spawn(async move {
            // An error here is the client's: it went away, or does not speak HTTP.
            let _ = watched.await;
        }));
    }
    graceful
}

/// The next connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_one_connection(&error) => {}
            // Out of descriptors, say: open connections will give some back.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// `Some` of the second future, or `None` if the first completes before it.
async fn until<T>(signal: Pin<&mut impl Future<Output = ()>>, future: impl Future<Output = T>) -> Option<T> {
    use futures::future::{Either, select};
    match select(signal, pin!(future)).await {
        Either::Left(((), _)) => None,
        Either::Right((value, _)) => Some(value),
    }
}
