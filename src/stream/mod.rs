//! Streams and parallel work, piped into each other.
//!
//! - A stream's items as closures, a bounded number at once: [`par_map`](ParStreamExt::par_map),
//!   [`par_map_unordered`](ParStreamExt::par_map_unordered), [`par_for_each`](ParStreamExt::par_for_each).
//! - A parallel iterator of rayon's as a stream (feature `rayon`): `IntoStream::into_stream` and
//!   `into_stream_unordered`.
//!
//! ```
//! use beat::stream::ParStreamExt;
//! use futures::{StreamExt, stream};
//!
//! # #[beat::main]
//! # async fn main() {
//! let requests = stream::iter(["one", "three"]);
//! let lengths: Vec<usize> = requests.par_map(2, |text| text.len()).collect().await;
//! assert_eq!(lengths, [3, 5]);
//! # }
//! ```
//!
//! All of them keep to a bound, so that one can feed the other: who reads slowly slows down who writes. No worker is
//! held meanwhile. Dropping what reads ends what writes: closures that have not begun are dropped, those that run are
//! aborted ([`JoinHandle::abort`](crate::JoinHandle::abort)). A panic reaches whoever reads.
//!
//! # How it works
//!
//! Of closures, their handles, and queues of the `futures` crate; there is no protocol of their own. What a stream's
//! items become are closures behind [handles that abort](crate::AbortOnDropHandle), `n` at most, in the order of the
//! stream or in that in which they end. How a parallel iterator becomes a stream stands in `par_iter.rs`.

#[cfg(feature = "rayon")]
mod par_iter;

use std::fmt;
use std::future::Future;
use std::panic::{Location, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::stream::{Fuse, FuturesOrdered, FuturesUnordered};
use futures::{Stream, StreamExt};
use pin_project::pin_project;

use crate::runtime::context::with_current_or_global;
use crate::task::{self, AbortOnDropHandle, JoinError};

#[cfg(feature = "rayon")]
pub use par_iter::{IntoStream, ParIterStream};

/// Parallel work on the items of a stream.
///
/// ```
/// use beat::stream::ParStreamExt;
/// use futures::{StreamExt, stream};
///
/// # #[beat::main]
/// # async fn main() {
/// let squares: Vec<u64> = stream::iter(1..=4_u64).par_map(2, |n| n * n).collect().await;
/// assert_eq!(squares, [1, 4, 9, 16]);
/// # }
/// ```
pub trait ParStreamExt: Stream + Sized {
    /// Calls `f` with each item, as a CPU-bound closure on the workers, at most `n` at once; gives the results in the
    /// order of the items.
    ///
    /// `n` bounds what is under way: closures that run or wait for a worker, and results that nobody has taken yet.
    /// With more than one for each worker no worker waits for the reader. The stream is read while this one is polled.
    /// Inside a Beat task or closure the closures run on its runtime; elsewhere on the global one.
    ///
    /// ```
    /// use beat::stream::ParStreamExt;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[beat::main]
    /// # async fn main() {
    /// let words = stream::iter(["a", "bb", "ccc"]);
    /// let lengths: Vec<usize> = words.par_map(2, str::len).collect().await;
    /// assert_eq!(lengths, [1, 2, 3]);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If `n` is 0. A poll panics if `f` does, with its payload, in the place of the item's result; and if the runtime
    /// is shut down. The stream is over then.
    ///
    /// # Cancel safety
    ///
    /// A poll that is given up loses nothing. Dropping the stream drops the results that nobody has taken and aborts
    /// the closures that run.
    #[track_caller]
    fn par_map<F, R>(self, n: usize, f: F) -> ParMap<Self, F, R>
    where
        Self::Item: Send + 'static,
        F: Fn(Self::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        ParMap::new(self, n, f, Running::Ordered(FuturesOrdered::new()))
    }

    /// As [`par_map`](Self::par_map), but a result is given as soon as there is one: no item holds up those after it.
    ///
    /// ```
    /// use beat::stream::ParStreamExt;
    /// use futures::{StreamExt, stream};
    ///
    /// # #[beat::main]
    /// # async fn main() {
    /// let sum = stream::iter(0..100_u32).par_map_unordered(4, |n| n + 1);
    /// assert_eq!(sum.fold(0, async |sum, n| sum + n).await, 5050);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`par_map`](Self::par_map).
    ///
    /// # Cancel safety
    ///
    /// As [`par_map`](Self::par_map).
    #[track_caller]
    fn par_map_unordered<F, R>(self, n: usize, f: F) -> ParMap<Self, F, R>
    where
        Self::Item: Send + 'static,
        F: Fn(Self::Item) -> R + Send + Sync + 'static,
        R: Send + 'static,
    {
        ParMap::new(self, n, f, Running::Unordered(FuturesUnordered::new()))
    }

    /// Calls `f` with each item, as a CPU-bound closure on the workers, at most `n` at once. The future is ready when
    /// the stream is over and all calls have returned.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// use beat::stream::ParStreamExt;
    /// use futures::stream;
    ///
    /// # #[beat::main]
    /// # async fn main() {
    /// let sum = Arc::new(AtomicU32::new(0));
    /// let total = Arc::clone(&sum);
    /// let add = move |n| _ = total.fetch_add(n, Ordering::Relaxed);
    /// stream::iter(0..100).par_for_each(4, add).await;
    /// assert_eq!(sum.load(Ordering::Relaxed), 4950);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`par_map`](Self::par_map).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it reads no further and aborts the closures that run: what they have been given is lost.
    #[track_caller]
    fn par_for_each<F>(self, n: usize, f: F) -> ParForEach<Self, F>
    where
        Self::Item: Send + 'static,
        F: Fn(Self::Item) + Send + Sync + 'static,
    {
        ParForEach { calls: self.par_map_unordered(n, f) }
    }
}

impl<S: Stream> ParStreamExt for S {}

/// Closures under way.
enum Running<R> {
    Ordered(FuturesOrdered<AbortOnDropHandle<R>>),
    Unordered(FuturesUnordered<AbortOnDropHandle<R>>),
}

impl<R> Running<R> {
    fn len(&self) -> usize {
        match self {
            Self::Ordered(running) => running.len(),
            Self::Unordered(running) => running.len(),
        }
    }

    fn push(&mut self, closure: AbortOnDropHandle<R>) {
        match self {
            Self::Ordered(running) => running.push_back(closure),
            Self::Unordered(running) => running.push(closure),
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<R, JoinError>>> {
        match self {
            Self::Ordered(running) => running.poll_next_unpin(cx),
            Self::Unordered(running) => running.poll_next_unpin(cx),
        }
    }

    /// Aborts them.
    fn clear(&mut self) {
        *self = match self {
            Self::Ordered(_) => Self::Ordered(FuturesOrdered::new()),
            Self::Unordered(_) => Self::Unordered(FuturesUnordered::new()),
        };
    }
}

/// The results of a function that is called with a stream's items, in parallel; from [`ParStreamExt::par_map`] and
/// [`par_map_unordered`](ParStreamExt::par_map_unordered).
///
/// ```
/// use beat::stream::ParStreamExt;
/// use futures::{StreamExt, stream};
///
/// # #[beat::main]
/// # async fn main() {
/// let mut halves = stream::iter([2, 4]).par_map(1, |n| n / 2);
/// assert_eq!(halves.next().await, Some(1));
/// drop(halves); // what has not begun never does
/// # }
/// ```
#[pin_project]
#[must_use = "streams do nothing unless polled"]
pub struct ParMap<S: Stream, F, R> {
    #[pin]
    items: Fuse<S>,
    f: Arc<F>,
    running: Running<R>,
    most: usize,
    /// After a panic.
    is_over: bool,
    site: &'static Location<'static>,
}

impl<S: Stream, F, R> ParMap<S, F, R> {
    #[track_caller]
    fn new(items: S, n: usize, f: F, running: Running<R>) -> Self {
        assert!(n > 0, "nothing would ever run: allow one closure at a time or more");
        let site = Location::caller();
        Self { items: items.fuse(), f: Arc::new(f), running, most: n, is_over: false, site }
    }
}

impl<S, F, R> Stream for ParMap<S, F, R>
where
    S: Stream<Item: Send + 'static>,
    F: Fn(S::Item) -> R + Send + Sync + 'static,
    R: Send + 'static,
{
    type Item = R;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<R>> {
        let mut this = self.project();
        if *this.is_over {
            return Poll::Ready(None);
        }
        while this.running.len() < *this.most {
            let Poll::Ready(Some(item)) = this.items.as_mut().poll_next(cx) else { break };
            let f = Arc::clone(this.f);
            let site = *this.site;
            let closure = with_current_or_global(|shared| task::spawn_closure(shared, move || f(item), site));
            this.running.push(closure.abort_on_drop());
        }
        match this.running.poll_next(cx) {
            Poll::Ready(Some(Ok(result))) => Poll::Ready(Some(result)),
            Poll::Ready(Some(Err(error))) => {
                *this.is_over = true;
                this.running.clear();
                fail(Some(error), "a closure of a stream")
            }
            Poll::Ready(None) if this.items.is_done() => Poll::Ready(None),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.is_over {
            return (0, Some(0));
        }
        let running = self.running.len();
        let (least, most) = self.items.size_hint();
        (least.saturating_add(running), most.and_then(|most| most.checked_add(running)))
    }
}

/// What becomes of whoever reads from a closure that has not ended well, or before all was done.
fn fail(error: Option<JoinError>, what: &str) -> ! {
    match error.map(JoinError::try_into_panic) {
        Some(Ok(payload)) => resume_unwind(payload),
        Some(Err(_)) | None => panic!("{what} was cancelled: the runtime has been shut down"),
    }
}

impl<S: Stream, F, R> fmt::Debug for ParMap<S, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = self.running.len();
        f.debug_struct("ParMap").field("running", &running).field("most", &self.most).finish_non_exhaustive()
    }
}

/// Ready when a function has been called with all items of a stream; from [`ParStreamExt::par_for_each`].
///
/// ```
/// use beat::stream::ParStreamExt;
/// use futures::stream;
///
/// # #[beat::main]
/// # async fn main() {
/// stream::iter(0..3).par_for_each(2, |n| println!("{n}")).await;
/// # }
/// ```
#[pin_project]
#[must_use = "futures do nothing unless polled"]
pub struct ParForEach<S: Stream, F> {
    #[pin]
    calls: ParMap<S, F, ()>,
}

impl<S, F> Future for ParForEach<S, F>
where
    S: Stream<Item: Send + 'static>,
    F: Fn(S::Item) + Send + Sync + 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut calls = self.project().calls;
        while ready!(calls.as_mut().poll_next(cx)).is_some() {}
        Poll::Ready(())
    }
}

impl<S: Stream, F> fmt::Debug for ParForEach<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParForEach").field("calls", &self.calls).finish()
    }
}
