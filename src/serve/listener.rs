//! Where connections come from.

use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Where connections come from: tokio's TCP and Unix listeners, [`TlsListener`](super::TlsListener) around either of
/// them, or a listener of your own.
///
/// Accepting and shaking hands are apart: the server accepts one connection after the other, and each shakes hands in a
/// task of its own, so that a client that is slow to do so holds up nobody.
///
/// ```
/// use std::future::{Ready, ready};
/// use std::io;
/// use tokio::io::DuplexStream;
/// use tokio::sync::mpsc;
///
/// /// Connections inside the process: for tests, say.
/// struct InProcess(mpsc::Receiver<DuplexStream>);
///
/// impl beat::serve::Listener for InProcess {
///     type Io = DuplexStream;
///     type Handshake = Ready<io::Result<DuplexStream>>;
///     type Addr = ();
///
///     async fn accept(&mut self) -> io::Result<(Self::Handshake, ())> {
///         match self.0.recv().await {
///             Some(stream) => Ok((ready(Ok(stream)), ())),
///             // Nobody is left who could connect.
///             None => std::future::pending().await,
///         }
///     }
///
///     fn local_addr(&self) -> io::Result<()> {
///         Ok(())
///     }
/// }
/// # let (_sender, receiver) = mpsc::channel(1);
/// # drop(beat::serve(InProcess(receiver), axum::Router::new()));
/// ```
pub trait Listener: Send + 'static {
    /// A connection that HTTP can be spoken on.
    ///
    /// ```
    /// async fn first<L: beat::serve::Listener>(mut listener: L) -> std::io::Result<(L::Io, L::Addr)> {
    ///     let (handshake, addr): (L::Handshake, L::Addr) = listener.accept().await?;
    ///     Ok((handshake.await?, addr))
    /// }
    /// # drop(first::<tokio::net::TcpListener>);
    /// ```
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What a connection that was accepted needs before that; [`Ready`] if nothing.
    type Handshake: Future<Output = io::Result<Self::Io>> + Send + 'static;
    /// The address of a client.
    type Addr: Send + 'static;

    /// Takes the next connection.
    ///
    /// # Errors
    ///
    /// The server asks again: at once if the error is that of one connection (`ConnectionAborted`,
    /// `ConnectionRefused`, `ConnectionReset`), else after a pause.
    ///
    /// # Cancel safety
    ///
    /// Must be cancel safe: a call that is dropped loses no connection.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Handshake, Self::Addr)>> + Send;

    /// The address that it listens at.
    ///
    /// # Errors
    ///
    /// Those of the system.
    fn local_addr(&self) -> io::Result<Self::Addr>;
}

impl Listener for TcpListener {
    type Io = TcpStream;
    type Handshake = Ready<io::Result<TcpStream>>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> io::Result<(Self::Handshake, SocketAddr)> {
        let (stream, addr) = TcpListener::accept(self).await?;
        // Answers are written whole: waiting for more to send would only delay them. A socket that is gone
        // already says so at the first read.
        let _ = stream.set_nodelay(true);
        Ok((ready(Ok(stream)), addr))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        TcpListener::local_addr(self)
    }
}

#[cfg(unix)]
impl Listener for tokio::net::UnixListener {
    type Io = tokio::net::UnixStream;
    type Handshake = Ready<io::Result<tokio::net::UnixStream>>;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> io::Result<(Self::Handshake, Self::Addr)> {
        let (stream, addr) = tokio::net::UnixListener::accept(self).await?;
        Ok((ready(Ok(stream)), addr))
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        tokio::net::UnixListener::local_addr(self)
    }
}
