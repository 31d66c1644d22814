//! Which service answers a connection: a clone of the one there is, or one made for it.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn, ready};

use http_body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use tower_service::Service;

/// What [`serve`](super::serve()) can serve: a tower service of HTTP requests ([`Cloned`] for each connection), or one
/// of addresses whose response is such a service ([`Made`] for each connection).
///
/// Both implementations are here; `Kind` tells them apart, and is inferred.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// use beat::serve::ServiceFor;
///
/// /// Which service answers `addr`?
/// async fn choose<M: ServiceFor<std::net::SocketAddr, K>, K>(mut maker: M, addr: &str) -> M::Service {
///     maker.service_for(addr.parse().unwrap()).await
/// }
///
/// let router: axum::Router = choose(axum::Router::new(), "127.0.0.1:80").await;
/// # drop(router);
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`beat::serve` cannot serve `{Self}`",
    label = "neither a service of HTTP requests nor one that makes such a service for each client's address",
    note = "it wants a `tower::Service<Request<Incoming>, Response = Response<_>, Error = Infallible>` that is `Clone \
            + Send`, as an axum `Router<()>` or tonic's `Routes` are (give a router its state by `with_state`)",
    note = "or a `tower::Service<Addr>` whose response is such a service, as \
            `Router::into_make_service_with_connect_info::<SocketAddr>()` gives"
)]
pub trait ServiceFor<Addr, Kind>: Send + 'static {
    /// The service of one connection.
    ///
    /// ```
    /// use beat::serve::{Cloned, ServiceFor};
    ///
    /// fn answers<M: ServiceFor<(), Cloned, Service = axum::Router>>(_: M) {}
    /// answers(axum::Router::new());
    /// ```
    type Service: Service<
            Request<Incoming>,
            Response = Response<Self::Body>,
            Error = Infallible,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static;
    /// The body of a response.
    ///
    /// ```
    /// use beat::serve::{Cloned, ServiceFor};
    ///
    /// fn answers<M: ServiceFor<(), Cloned, Body = axum::body::Body>>(_: M) {}
    /// answers(axum::Router::new());
    /// ```
    type Body: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static;

    /// The service for a connection from `addr`.
    fn service_for(&mut self, addr: Addr) -> impl Future<Output = Self::Service> + Send;
}

/// The service itself answers requests; each connection has a clone.
///
/// ```
/// use beat::serve::{Cloned, ServiceFor};
///
/// fn is_cloned<M: ServiceFor<(), Cloned>>(_: M) {}
/// is_cloned(axum::Router::new());
/// ```
#[derive(Debug)]
pub enum Cloned {}

/// A service is made for each connection.
///
/// ```
/// use beat::serve::{Made, ServiceFor};
/// use std::net::SocketAddr;
///
/// fn is_made<M: ServiceFor<SocketAddr, Made>>(_: M) {}
/// is_made(axum::Router::new().into_make_service_with_connect_info::<SocketAddr>());
/// ```
#[derive(Debug)]
pub enum Made {}

impl<S, B, A> ServiceFor<A, Cloned> for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Service = S;
    type Body = B;

    fn service_for(&mut self, _addr: A) -> impl Future<Output = S> + Send {
        ready(self.clone())
    }
}

impl<M, S, B, A> ServiceFor<A, Made> for M
where
    M: Service<A, Response = S, Error = Infallible> + Send + 'static,
    M::Future: Send,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    A: Send,
{
    type Service = S;
    type Body = B;

    async fn service_for(&mut self, addr: A) -> S {
        let Ok(()) = poll_fn(|cx| self.poll_ready(cx)).await;
        let Ok(service) = self.call(addr).await;
        service
    }
}
