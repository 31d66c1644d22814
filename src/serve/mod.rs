//! Serving HTTP: every connection a Beat task.
//!
//! `axum::serve` and tonic's server spawn their connections with `tokio::spawn`, which puts them all onto the one core
//! that drives tokio. [`serve`](serve()) does the same work on Beat's workers, by hyper-util's connection builder.
//!
//! A connection passes through these places:
//!
//! 1. the [`Gate`]: whatever holds new connections back does it here, before they are accepted;
//! 2. the [`Listener`], which accepts it; what a connection needs before HTTP (TLS) is done in 4;
//! 3. the service that is to answer it is cloned, or made: [`ServiceFor`];
//! 4. a task of its own: the handshake, then HTTP until the connection ends, or the server does
//!    ([`Connection`]).

mod connection;
mod listener;
mod service;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::future::{Future, IntoFuture, Pending, pending};
use std::io;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioTimer;
use hyper_util::server::conn::auto::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

pub use listener::Listener;
pub use service::{Cloned, Made, ServiceFor};
#[cfg(feature = "tls")]
pub use tls::TlsListener;

use crate::admission::accept_permitted;
use crate::hyper::BeatExecutor;
use connection::Connection;

/// How long the accept loop waits when the process has run out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a connection may take before it speaks HTTP: its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves an axum `Router`, tonic's `Routes`, or any other tower service of HTTP requests, on Beat's workers.
///
/// HTTP/1 and HTTP/2, by prior knowledge or by ALPN, with upgrades (WebSockets); over TCP, Unix sockets, TLS (the
/// feature `tls`), or any other [`Listener`]. The service is cloned for each connection. A service of connections is
/// called with the client's address for each instead, which gives the one that answers it: so axum's
/// `into_make_service_with_connect_info` works.
///
/// The future runs until the shutdown signal, if one is [given](Serve::with_graceful_shutdown), and then until the
/// last connection has ended; without a signal it runs for ever.
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
/// With the client's address, and limits:
///
/// ```no_run
/// # #[beat::main]
/// # async fn main() -> std::io::Result<()> {
/// use axum::extract::ConnectInfo;
/// use std::net::SocketAddr;
///
/// let who = |ConnectInfo(addr): ConnectInfo<SocketAddr>| async move { addr.to_string() };
/// let router = axum::Router::new().route("/", axum::routing::get(who));
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
/// beat::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
///     .max_connections(10_000)
///     .max_concurrent_streams(100)
///     .await
/// # }
/// ```
///
/// # Errors
///
/// If making a service for a connection panics. Errors of single connections end those, and a listener that cannot
/// accept for the moment is asked again.
///
/// # Cancel safety
///
/// Dropping the future stops accepting; connections that are open go on as tasks of their own.
pub fn serve<L, M, K>(listener: L, service: M) -> Serve<L, M, K>
where
    L: Listener,
    M: ServiceFor<L::Addr, K>,
{
    let mut http = Builder::new(BeatExecutor::new());
    http.http1().timer(TokioTimer::new());
    // With the connect protocol WebSockets work over HTTP/2.
    http.http2().timer(TokioTimer::new()).enable_connect_protocol();
    Serve {
        listener,
        service,
        signal: pending(),
        http,
        handshake_timeout: HANDSHAKE_TIMEOUT,
        max_connections: None,
        holds_back: false,
        _kind: PhantomData,
    }
}

/// A server that is ready to run: await it. From [`serve`](serve()).
///
/// ```
/// # #[beat::main]
/// # async fn main() -> std::io::Result<()> {
/// use std::time::Duration;
///
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let server = beat::serve(listener, axum::Router::new())
///     .max_connections(1_000)
///     .max_concurrent_streams(50)
///     .header_read_timeout(Duration::from_secs(5))
///     .handshake_timeout(Duration::from_secs(5));
/// println!("listening at {}", server.local_addr()?);
/// server.with_graceful_shutdown(async {}).await?; // at once
/// # Ok(())
/// # }
/// ```
#[must_use = "a server does nothing until it is awaited"]
pub struct Serve<L, M, K, F = Pending<()>> {
    listener: L,
    service: M,
    signal: F,
    http: Builder<BeatExecutor>,
    handshake_timeout: Duration,
    max_connections: Option<usize>,
    holds_back: bool,
    _kind: PhantomData<fn() -> K>,
}

impl<L, M, K, F> Serve<L, M, K, F> {
    /// When `signal` completes, the server accepts no more connections, tells the open ones to end, and waits for
    /// them. Every request that has been accepted is answered:
    ///
    /// - HTTP/1: the one that the connection is at, its body included;
    /// - HTTP/2: all streams that the client opened before it was told (`GOAWAY`);
    /// - a connection that has not asked anything yet, whose first request may be on the way, has a second for it.
    ///
    /// A connection that was upgraded is its handler's and not waited for.
    ///
    /// ```no_run
    /// # #[beat::main]
    /// # async fn main() -> std::io::Result<()> {
    /// # let router = axum::Router::<()>::new();
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:8080").await?;
    /// let signal = async { drop(tokio::signal::ctrl_c().await) };
    /// beat::serve(listener, router).with_graceful_shutdown(signal).await
    /// # }
    /// ```
    pub fn with_graceful_shutdown<G>(self, signal: G) -> Serve<L, M, K, G>
    where
        G: Future<Output = ()> + Send + 'static,
    {
        Serve {
            listener: self.listener,
            service: self.service,
            signal,
            http: self.http,
            handshake_timeout: self.handshake_timeout,
            max_connections: self.max_connections,
            holds_back: self.holds_back,
            _kind: PhantomData,
        }
    }

    /// How many connections may be open at a time; further ones wait in the system's queue, unaccepted. One that is
    /// upgraded counts no longer. Default: no limit but the process's descriptors.
    ///
    /// # Panics
    ///
    /// If `connections` is zero: nothing would ever be served.
    pub fn max_connections(mut self, connections: usize) -> Self {
        assert!(connections > 0, "a server with room for no connection serves nobody: allow 1 or more");
        self.max_connections = Some(connections);
        self
    }

    /// Accepts no connection while memory pressure is high ([`accept_permitted`]):
    /// new ones wait in the system's queue, where they hold no memory of the process. Those that are open go on.
    ///
    /// Off by default: a health check that comes on a connection of its own waits too. To answer it, and others with
    /// 503, leave this off and use the `AdmissionLayer` of the feature `tower`.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() -> std::io::Result<()> {
    /// # let router = axum::Router::<()>::new();
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    /// let server = beat::serve(listener, router).hold_back_under_pressure();
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_back_under_pressure(mut self) -> Self {
        self.holds_back = true;
        self
    }

    /// How many requests a client may have open at a time on one HTTP/2 connection. Default: 200.
    pub fn max_concurrent_streams(mut self, streams: u32) -> Self {
        self.http.http2().max_concurrent_streams(streams);
        self
    }

    /// How long a client of HTTP/1 may take to send the head of a request, from the time that the connection waits
    /// for it. Default: 30 s.
    pub fn header_read_timeout(mut self, limit: Duration) -> Self {
        self.http.http1().header_read_timeout(limit);
        self
    }

    /// How long a connection may take before it speaks HTTP: its TLS handshake. Default: 10 s.
    pub fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }
}

impl<L: Listener, M, K, F> Serve<L, M, K, F> {
    /// The address that the server is bound to.
    ///
    /// # Errors
    ///
    /// Those of the listener.
    pub fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

impl<L: fmt::Debug, M, K, F> fmt::Debug for Serve<L, M, K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serve")
            .field("listener", &self.listener)
            .field("max_connections", &self.max_connections)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("holds_back", &self.holds_back)
            .finish_non_exhaustive()
    }
}

impl<L, M, K, F> IntoFuture for Serve<L, M, K, F>
where
    L: Listener,
    M: ServiceFor<L::Addr, K>,
    K: 'static,
    F: Future<Output = ()> + Send + 'static,
{
    type Output = io::Result<()>;
    type IntoFuture = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            // The accept loop is a task of its own: the thread that awaits the server may be one that only polls
            // its own future, a futex away from the driver.
            let stop = crate::spawn(self.accept_loop()).abort_on_drop().await?;
            stop.send_replace(true);
            // Each connection has a receiver until it ends.
            stop.closed().await;
            Ok(())
        })
    }
}

impl<L, M, K, F> Serve<L, M, K, F>
where
    L: Listener,
    M: ServiceFor<L::Addr, K>,
    F: Future<Output = ()> + Send + 'static,
{
    /// Accepts until the signal; returns what tells the open connections of it.
    async fn accept_loop(mut self) -> watch::Sender<bool> {
        let stop = watch::Sender::new(false);
        let gate = Gate::new(self.max_connections, self.holds_back);
        let http = Arc::new(self.http);
        let mut signal = pin!(self.signal);
        loop {
            let next = async {
                let pass = gate.pass().await;
                let (handshake, addr) = accept(&mut self.listener).await;
                (pass, handshake, self.service.service_for(addr).await)
            };
            let Some((pass, handshake, service)) = until(signal.as_mut(), next).await else {
                return stop;
            };
            let connection = Connection {
                http: Arc::clone(&http),
                stop: stop.subscribe(),
                handshake_timeout: self.handshake_timeout,
            };
            drop(crate::spawn(async move {
                connection.run(handshake, service).await;
                drop(pass);
            }));
        }
    }
}

/// What a connection passes before it is accepted. Whatever holds new work back asks here; what has been accepted is
/// never held back.
#[derive(Debug)]
struct Gate {
    connections: Option<Arc<Semaphore>>,
    /// Nobody is let in while memory pressure is high.
    holds_back: bool,
}

/// The right to be open; given back when the connection has ended.
#[derive(Debug)]
struct Pass {
    _connection: Option<OwnedSemaphorePermit>,
}

impl Gate {
    fn new(max_connections: Option<usize>, holds_back: bool) -> Self {
        let semaphore = |n: usize| Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)));
        Self { connections: max_connections.map(semaphore), holds_back }
    }

    async fn pass(&self) -> Pass {
        let connection = match &self.connections {
            // An error would mean that the semaphore was closed, which nobody does.
            Some(connections) => Arc::clone(connections).acquire_owned().await.ok(),
            None => None,
        };
        if self.holds_back {
            accept_permitted().await;
        }
        Pass { _connection: connection }
    }
}

/// The next connection.
async fn accept<L: Listener>(listener: &mut L) -> (L::Handshake, L::Addr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
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
