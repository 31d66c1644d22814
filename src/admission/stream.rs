//! Sources of work that are read no faster than the work is admitted: streams, and listeners.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::Stream;
use pin_project::pin_project;

use super::{Admission, Admit, Permit};
use crate::runtime::context::with_current_or_global;

/// On its way to a permit.
type Waiting = Pin<Box<dyn Future<Output = Permit> + Send>>;

/// The items of a stream, each with a permit; nothing is read while one waits for its own.
///
/// ```
/// use futures::{StreamExt, stream};
///
/// # #[beat::main]
/// # async fn main() {
/// let lines = stream::iter(["a", "b", "c"]);
/// let mut admitted = beat::admission::AdmittedStream::new(lines, beat::admit().memory(1 << 20));
/// while let Some((line, permit)) = admitted.next().await {
///     beat::spawn(async move {
///         println!("{line}");
///         drop(permit);
///     });
/// }
/// # }
/// ```
#[pin_project]
#[must_use = "streams do nothing unless polled"]
pub struct AdmittedStream<S: Stream> {
    #[pin]
    stream: S,
    request: Admit,
    /// The item that has been read, and its waiting.
    item: Option<(S::Item, Waiting)>,
}

impl<S: Stream> AdmittedStream<S> {
    /// Asks for each item of `stream` as `request` says.
    pub fn new(stream: S, request: Admit) -> Self {
        Self { stream, request, item: None }
    }
}

impl<S: Stream> Stream for AdmittedStream<S> {
    type Item = (S::Item, Permit);

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if this.item.is_none() {
            let Some(item) = ready!(this.stream.poll_next(cx)) else { return Poll::Ready(None) };
            *this.item = Some((item, Box::pin(this.request.clone().permit())));
        }
        let (_, waiting) = this.item.as_mut().expect("it is there now");
        let permit = ready!(waiting.as_mut().poll(cx));
        let item = this.item.take().map(|(item, _)| item);
        Poll::Ready(item.map(|item| (item, permit)))
    }
}

impl<S: Stream> std::fmt::Debug for AdmittedStream<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdmittedStream").field("request", &self.request).finish_non_exhaustive()
    }
}

/// Waits until a new connection may be accepted: at once below the level high, and while fewer admitted tasks run than
/// the guaranteed minimum. For the accept loops of servers; one load while memory is plentiful.
///
/// Connections that nobody accepts wait in the kernel's backlog, and hold no memory of the process.
/// `beat::serve` does so if asked to (`Serve::hold_back_under_pressure`).
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # async fn accept(listener: tokio::net::TcpListener) -> std::io::Result<()> {
/// loop {
///     beat::admission::accept_permitted().await;
///     let (stream, _) = listener.accept().await?;
/// #   drop(stream);
/// }
/// # }
/// ```
///
/// # Cancel safety
///
/// Cancel safe: it takes nothing.
pub async fn accept_permitted() {
    let shared = with_current_or_global(Arc::clone);
    let admission = &shared.admission;
    if admission.queue.is_open() {
        return;
    }
    admission.keep_sampling(&shared);
    let mut waiting = Accepting { admission, number: None };
    poll_fn(|cx| match admission.queue.poll_accept(&mut waiting.number, cx.waker()) {
        None => Poll::Ready(()),
        Some(rings) => {
            if rings {
                admission.rouse_sampler(&shared);
            }
            Poll::Pending
        }
    })
    .await;
}

/// Forgets the waker of an accept loop.
struct Accepting<'a> {
    admission: &'a Admission,
    number: Option<u64>,
}

impl Drop for Accepting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.admission.queue.forget_accept(number);
        }
    }
}
