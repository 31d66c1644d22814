//! TLS before HTTP, by rustls.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

use super::Listener;

/// What is offered to clients that ask for a protocol (ALPN), the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A listener whose connections speak TLS.
///
/// Each connection shakes hands in a task of its own; one that takes longer than
/// [`handshake_timeout`](super::Serve::handshake_timeout), or fails, is dropped.
///
/// ```no_run
/// # #[beat::main]
/// # async fn main() -> std::io::Result<()> {
/// # let (router, config): (axum::Router, tokio_rustls::rustls::ServerConfig) = todo!();
/// let tcp = tokio::net::TcpListener::bind("0.0.0.0:443").await?;
/// beat::serve(beat::serve::TlsListener::new(tcp, config), router).await
/// # }
/// ```
pub struct TlsListener<L> {
    listener: L,
    acceptor: TlsAcceptor,
}

impl<L> TlsListener<L> {
    /// A listener on top of another. If `config` names no protocols (`alpn_protocols`), HTTP/2 and HTTP/1.1 are
    /// offered.
    pub fn new(listener: L, config: impl Into<Arc<ServerConfig>>) -> Self {
        let mut config = config.into();
        if config.alpn_protocols.is_empty() {
            Arc::make_mut(&mut config).alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        }
        Self { listener, acceptor: TlsAcceptor::from(config) }
    }
}

impl<L: fmt::Debug> fmt::Debug for TlsListener<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsListener").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl<L: Listener> Listener for TlsListener<L> {
    type Io = TlsStream<L::Io>;
    type Handshake = Pin<Box<dyn Future<Output = io::Result<Self::Io>> + Send>>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> io::Result<(Self::Handshake, L::Addr)> {
        let (handshake, addr) = self.listener.accept().await?;
        let acceptor = self.acceptor.clone();
        Ok((Box::pin(async move { acceptor.accept(handshake.await?).await }), addr))
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}
