//! One connection, from its handshake to its end.
//!
//! ```text
//!   handshake ──▶ fresh: nothing asked yet ──▶ asked ──▶ ended
//!       │ stop + GRACE │ stop + GRACE            │ stop
//!       ▼              ▼                         ▼
//!     ended          ended              told to end (graceful)
//! ```
//!
//! hyper ends a connection that is told to before its first request is there at once, although the request may be in
//! the socket; so a connection that is fresh at the stop has [`GRACE`] for it.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Duration;

use futures::future::{Either, select};
use http_body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::until;
use crate::hyper::BeatExecutor;

/// How long a connection may go on when the server stops, before its first request is there.
const GRACE: Duration = Duration::from_secs(1);

/// What a connection is served with.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) http: Arc<Builder<BeatExecutor>>,
    /// Becomes true when the server stops. Kept until the connection has ended: the server waits for that.
    pub(super) stop: watch::Receiver<bool>,
    pub(super) handshake_timeout: Duration,
}

impl Connection {
    /// Serves until the client, or the server, has had enough. An error is the client's: it went away, or does not
    /// speak HTTP.
    pub(super) async fn run<I, S, B>(mut self, handshake: impl Future<Output = io::Result<I>>, service: S)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<Box<dyn Error + Send + Sync>>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let handshake = timeout(self.handshake_timeout, handshake);
        let Some(Ok(Ok(io))) = until(pin!(stop_and_grace(self.stop.clone())), handshake).await else {
            return;
        };
        let asked = Arc::new(AtomicBool::new(false));
        let service = Asked { service: TowerToHyperService::new(service), asked: Arc::clone(&asked) };
        let serving = self.http.serve_connection_with_upgrades(TokioIo::new(io), service);
        let mut serving = pin!(serving);
        // The connection is polled first: what has come is seen before the stop is.
        if let Either::Left(_) = select(serving.as_mut(), pin!(stopped(&mut self.stop))).await {
            return;
        }
        let first = poll_fn(|cx| match serving.as_mut().poll(cx) {
            Poll::Ready(_) => Poll::Ready(true),
            // The connection calls its service when it is polled, and nowhere else.
            Poll::Pending if asked.load(Relaxed) => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        });
        let ended = timeout(GRACE, first).await.unwrap_or(false);
        if !ended {
            serving.as_mut().graceful_shutdown();
            let _ = serving.await;
        }
    }
}

/// Completes when the server stops; never if it is dropped instead.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn stop_and_grace(mut stop: watch::Receiver<bool>) {
    stopped(&mut stop).await;
    sleep(GRACE).await;
}

/// A service that remembers that it was called.
struct Asked<S> {
    service: S,
    asked: Arc<AtomicBool>,
}

impl<S: hyper::service::Service<Request<Incoming>>> hyper::service::Service<Request<Incoming>> for Asked<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Relaxed: read by the task that has polled this.
        self.asked.store(true, Relaxed);
        self.service.call(request)
    }
}
