//! A tower layer that admits HTTP requests, or answers 503.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};
use pin_project::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::request::inside;
use super::{Class, Overloaded, Permit};

/// Admits requests before the inner service sees them: in turn, or at once or not at all.
///
/// A request's permit is kept until its response is there (its body may come later). Whatever the handler spawns is
/// not held back again. Paths marked [critical](Self::critical) always pass.
///
/// ```
/// use axum::{Router, routing::get};
/// use beat::admission::AdmissionLayer;
///
/// let routes: Router = Router::new()
///     .route("/render", get(|| async { "a picture" }))
///     .route("/healthz", get(|| async { "ok" }))
///     .layer(AdmissionLayer::refusing().memory(32 << 20).critical(["/healthz"]));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a layer does nothing until it is applied"]
pub struct AdmissionLayer {
    terms: Arc<Terms>,
}

#[derive(Clone, Debug)]
struct Terms {
    waits: bool,
    class: Class,
    bytes: Option<u64>,
    critical: Vec<String>,
}

impl AdmissionLayer {
    /// Requests wait for their turn.
    ///
    /// ```
    /// use beat::admission::AdmissionLayer;
    ///
    /// let routes: axum::Router = axum::Router::new().layer(AdmissionLayer::waiting());
    /// ```
    pub fn waiting() -> Self {
        Self::new(true)
    }

    /// Requests for which there is no room get the status 503 with a `Retry-After`.
    pub fn refusing() -> Self {
        Self::new(false)
    }

    fn new(waits: bool) -> Self {
        let terms = Terms { waits, class: Class::default(), bytes: None, critical: Vec::new() };
        Self { terms: Arc::new(terms) }
    }

    /// What the requests are worth. Default: [`Class::Normal`].
    ///
    /// ```
    /// use beat::admission::{AdmissionLayer, Class};
    ///
    /// let reports = AdmissionLayer::refusing().class(Class::Background);
    /// # drop(reports);
    /// ```
    pub fn class(mut self, class: Class) -> Self {
        Arc::make_mut(&mut self.terms).class = class;
        self
    }

    /// How many bytes a request will need at most. By default that is learned.
    pub fn memory(mut self, bytes: u64) -> Self {
        Arc::make_mut(&mut self.terms).bytes = Some(bytes);
        self
    }

    /// Requests for exactly these paths always pass, and are not counted.
    pub fn critical<P: Into<String>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        Arc::make_mut(&mut self.terms).critical.extend(paths.into_iter().map(Into::into));
        self
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admitting<S>;

    fn layer(&self, inner: S) -> Admitting<S> {
        Admitting { inner, terms: Arc::clone(&self.terms) }
    }
}

/// A service behind an [`AdmissionLayer`].
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// use std::convert::Infallible;
/// use beat::admission::{AdmissionLayer, Admitting};
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// let length = service_fn(|request: Request<String>| async move {
///     Ok::<_, Infallible>(Response::new(request.into_body().len()))
/// });
/// let admitting: Admitting<_> = AdmissionLayer::waiting().layer(length);
/// let response = admitting.oneshot(Request::new("hello".to_owned())).await.unwrap();
/// assert_eq!(response.into_body(), 5);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Admitting<S> {
    inner: S,
    terms: Arc<Terms>,
}

impl<S, B, R> Service<Request<B>> for Admitting<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready goes with the request.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        if self.terms.critical.iter().any(|path| path == request.uri().path()) {
            return ResponseFuture { stage: Stage::Answers { future: inner.call(request), permit: None } };
        }
        let mut admit = crate::admit().class(self.terms.class);
        if let Some(bytes) = self.terms.bytes {
            admit = admit.memory(bytes);
        }
        let stage = if self.terms.waits {
            Stage::Waits { permit: Box::pin(admit.permit()), call: Some(Box::new((inner, request))) }
        } else {
            match admit.try_permit() {
                Ok(permit) => Stage::Answers { future: inside(|| inner.call(request)), permit: Some(permit) },
                Err(overloaded) => Stage::Refused(overloaded),
            }
        };
        ResponseFuture { stage }
    }
}

/// The answer to a request, or its refusal.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// use std::convert::Infallible;
/// use beat::admission::{AdmissionLayer, ResponseFuture};
/// use http::{Request, Response};
/// use tower::{Layer, Service, service_fn};
///
/// let answer = service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(42)) });
/// let future: ResponseFuture<_, ()> = AdmissionLayer::waiting().layer(answer).call(Request::new(()));
/// assert_eq!(future.await.unwrap().into_body(), 42);
/// # }
/// ```
#[pin_project]
pub struct ResponseFuture<S: Service<Request<B>>, B> {
    #[pin]
    stage: Stage<S, B>,
}

#[pin_project(project = StageProjection)]
enum Stage<S: Service<Request<B>>, B> {
    Waits {
        permit: Pin<Box<dyn Future<Output = Permit> + Send>>,
        /// Empty when the wait is over.
        call: Option<Box<(S, Request<B>)>>,
    },
    Answers {
        #[pin]
        future: S::Future,
        /// `None` on critical paths.
        permit: Option<Permit>,
    },
    Refused(Overloaded),
}

impl<S, B, R> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Output = Result<Response<R>, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.stage.as_mut().project() {
                StageProjection::Waits { permit, call } => {
                    let permit = ready!(permit.as_mut().poll(cx));
                    let (mut inner, request) = *call.take().expect("the wait ends once");
                    let future = inside(|| inner.call(request));
                    this.stage.set(Stage::Answers { future, permit: Some(permit) });
                }
                StageProjection::Answers { future, permit: None } => return future.poll(cx),
                StageProjection::Answers { future, permit: Some(_) } => return inside(|| future.poll(cx)),
                StageProjection::Refused(overloaded) => return Poll::Ready(Ok(refusal(overloaded))),
            }
        }
    }
}

fn refusal<R: Default>(overloaded: &Overloaded) -> Response<R> {
    let mut response = Response::new(R::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let seconds = overloaded.retry_after().as_secs().max(1);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

impl<S: Service<Request<B>>, B> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
