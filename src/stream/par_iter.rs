//! A parallel iterator as a stream.
//!
//! ```text
//!   producer: a closure ── blocks ──▶ jobs of a scope ── results ──▶ stream
//!       ▲  waits for room                                              │
//!       └────────────────────── room given back ◀──────────────────────┘
//! ```
//!
//! The *producer* is a closure that holds the iterator; it calls none of it. It splits one block after the other off
//! and spawns each as a job of a [`scope`](crate::scope()), which idle workers take. The room that the buffer has is a
//! number that the producer owns: a block takes as much as it has elements, before it is split off, and the stream gives
//! that back when it has handed out the block's last item. Both ways are unbounded queues of the `futures` crate, in
//! which lies no more than there is room.
//!
//! - **No worker is held** while the buffer is full: the producer is then the only one who waits, in a `block_on`, with
//!   its processor handed over. What it costs is a thread that sleeps.
//! - **The bound is strict**: what is being computed and what nobody has taken are never more than the capacity.
//! - **No deadlock**: blocks that have room never wait for anybody. In an ordered stream the oldest block has room, and
//!   is in the scope's queue, or runs, or is done.
//! - **The end**: a stream that is dropped takes its end of both queues along. The producer, if it waits for room, is told
//!   so by the queue, jobs look between two elements, and what has not begun is dropped by the abort. When the runtime
//!   is shut down while somebody keeps a stream and does not read it, nobody would tell the producer: so it awaits, beside
//!   the room, a task that does nothing, which a shutdown drops.
//!
//! Blocks begin with one element, so that an item which takes long is there as soon as it is done, and grow while they
//! are short. Several of them fit into the buffer for each worker, so that none waits for the slowest.
//!
//! Rejected: halving the iterator as a loop is (halves far from the front are of no use to an ordered stream, and each
//! half that is stolen while the buffer is full is one more thread that waits); giving the rest back as a continuation
//! (what rayon's iterators split into borrows from the frame that the iterator is on).

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::vec;

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::future::{Either, select};
use futures::{Stream, StreamExt};
use rayon::iter::IndexedParallelIterator;
use rayon::iter::plumbing::{Producer, ProducerCallback};

use super::fail;
use crate::cancel::Cancelled;
use crate::os;
use crate::runtime::block_on;
use crate::runtime::context::with_current_or_global;
use crate::scope::in_place_scope_fifo;
use crate::task::contained::Contained;
use crate::task::{self, AbortOnDropHandle, budget};

/// How long a block should take, in nanoseconds: many times what a job costs.
const BLOCK: u64 = 50_000;
/// How many blocks for each worker fit into the buffer.
const PARTS: usize = 4;

/// A parallel iterator of rayon's as a [`Stream`](futures::Stream).
///
/// Any indexed one: ranges (of 32 bits at most, or `usize`), vectors, and what `map`, `zip`, `enumerate`, `chunks` and
/// others make of them. `filter` and `flat_map` come behind, on the stream, or inside a `map`. Elements should take a
/// microsecond or more; of smaller ones make `chunks`.
///
/// ```
/// use beat::stream::IntoStream;
/// use futures::StreamExt;
/// use rayon::prelude::*;
///
/// # #[beat::main]
/// # async fn main() {
/// let squares = (1..=3_u64).collect::<Vec<_>>().into_par_iter().map(|n| n * n);
/// assert_eq!(squares.into_stream(16).collect::<Vec<_>>().await, [1, 4, 9]);
/// # }
/// ```
pub trait IntoStream: IndexedParallelIterator + 'static {
    /// A stream of the elements, in their order, that are computed in parallel and at most `capacity` ahead.
    ///
    /// Nothing is computed before the first poll; then `capacity` bounds how many elements are being computed or wait
    /// for the reader. While there are so many nothing runs, and no worker is held: all that a slow reader costs is a
    /// thread that sleeps. As no more than `capacity` elements are computed at once, let it be several times the number
    /// of workers; memory is what speaks against more.
    ///
    /// Polled inside a Beat task or closure it computes on that runtime; elsewhere on the global one.
    ///
    /// ```
    /// use beat::stream::IntoStream;
    /// use futures::StreamExt;
    /// use rayon::prelude::*;
    ///
    /// # #[beat::main]
    /// # async fn main() {
    /// let mut endless = (0..usize::MAX).into_par_iter().map(|n| n * 2).into_stream(8);
    /// assert_eq!(endless.next().await, Some(0));
    /// assert_eq!(endless.next().await, Some(2));
    /// drop(endless); // ends the work
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If `capacity` is 0. A poll panics if computing an element does, with its payload, when the elements before it
    /// have been given; and if the runtime is shut down. The stream is over then.
    ///
    /// # Cancel safety
    ///
    /// A poll that is given up loses nothing. Dropping the stream ends the work: elements that are being computed
    /// are dropped when they are done, or abandoned at a fork.
    #[track_caller]
    fn into_stream(self, capacity: usize) -> ParIterStream<Self::Item>
    where
        Self::Item: 'static,
    {
        ParIterStream::new(self, capacity, true)
    }

    /// As [`into_stream`](Self::into_stream), in the order in which elements are done: none holds up those after it.
    ///
    /// ```
    /// use beat::stream::IntoStream;
    /// use futures::StreamExt;
    /// use rayon::prelude::*;
    ///
    /// # #[beat::main]
    /// # async fn main() {
    /// let words = ["b", "a"].into_par_iter().map(str::to_uppercase);
    /// let mut words: Vec<String> = words.into_stream_unordered(16).collect().await;
    /// words.sort();
    /// assert_eq!(words, ["A", "B"]);
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`into_stream`](Self::into_stream).
    ///
    /// # Cancel safety
    ///
    /// As [`into_stream`](Self::into_stream).
    #[track_caller]
    fn into_stream_unordered(self, capacity: usize) -> ParIterStream<Self::Item>
    where
        Self::Item: 'static,
    {
        ParIterStream::new(self, capacity, false)
    }
}

impl<I: IndexedParallelIterator + 'static> IntoStream for I {}

/// What has become of a block.
struct Block<T> {
    number: usize,
    /// How much room it has taken.
    room: usize,
    items: vec::IntoIter<T>,
    /// The panic of the element after these.
    panic: Option<Contained<Box<dyn Any + Send>>>,
}

/// How long blocks are.
struct Pace {
    len: AtomicUsize,
    most: usize,
}

impl Pace {
    fn new(capacity: usize, workers: usize) -> Self {
        Self { len: AtomicUsize::new(1), most: (capacity / (PARTS * workers)).max(1) }
    }

    fn len(&self) -> usize {
        // Relaxed: an estimate.
        self.len.load(Relaxed)
    }

    fn learn(&self, len: usize, took: u64) {
        // Relaxed, and a lost update is no loss.
        let now = self.len();
        if took > 2 * BLOCK {
            self.len.store((len / 2).max(1).min(now), Relaxed);
        } else if took < BLOCK / 2 && len >= now {
            self.len.store((now * 2).min(self.most), Relaxed);
        }
    }
}

/// The producer's part, until it has its hands on the iterator's elements.
struct Produce<T> {
    len: usize,
    /// How many more elements the buffer takes.
    room: usize,
    given_back: UnboundedReceiver<usize>,
    results: UnboundedSender<Block<T>>,
    pace: Pace,
    /// Ready when the runtime is shut down.
    shutdown: AbortOnDropHandle<()>,
}

impl<T: Send> ProducerCallback<T> for Produce<T> {
    type Output = ();

    fn callback<P: Producer<Item = T>>(self, producer: P) {
        let Self { len: mut left, mut room, mut given_back, results, pace, mut shutdown } = self;
        let (results, pace) = (&results, &pace);
        in_place_scope_fifo(|scope| {
            let mut rest = producer;
            for number in 0.. {
                let len = pace.len().min(left);
                if len == 0 || !wait_for_room(&mut room, len, &mut given_back, &mut shutdown) {
                    break;
                }
                room -= len;
                left -= len;
                let (block, right) = rest.split_at(len);
                rest = right;
                scope.spawn_fifo(move |_| compute(block, number, len, results, pace));
            }
        });
    }
}

/// Waits until there is room for `len` elements; `false` if the stream has been dropped, or the runtime shut down.
fn wait_for_room(
    room: &mut usize,
    len: usize,
    given_back: &mut UnboundedReceiver<usize>,
    shutdown: &mut AbortOnDropHandle<()>,
) -> bool {
    while *room < len {
        match block_on::wait_for("into_stream", select(given_back.next(), &mut *shutdown)) {
            Either::Left((Some(more), _)) => *room += more,
            Either::Left((None, _)) | Either::Right(_) => return false,
        }
    }
    true
}

/// Computes the elements of a block, and sends what has become of them.
fn compute<P: Producer>(
    block: P,
    number: usize,
    room: usize,
    results: &UnboundedSender<Block<P::Item>>,
    pace: &Pace,
) {
    let start = os::now();
    let mut items = Vec::with_capacity(room);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        for item in block.into_iter() {
            items.push(item);
            if results.is_closed() {
                break;
            }
        }
    }));
    pace.learn(items.len(), os::now().saturating_sub(start));
    let panic = match ended {
        Ok(()) => None,
        Err(payload) if Cancelled::is(&*payload) => resume_unwind(payload),
        Err(payload) => Some(Contained::new(payload)),
    };
    // It fails if the stream has been dropped.
    drop(Contained::new(results.unbounded_send(Block { number, room, items: items.into_iter(), panic })));
}

/// Starts the producer.
type Start<T> =
    Box<dyn FnOnce(UnboundedReceiver<usize>, UnboundedSender<Block<T>>) -> AbortOnDropHandle<()> + Send>;

enum State<T> {
    Waiting(Start<T>),
    Running(Running<T>),
    Over,
}

/// The stream's end of what runs.
struct Running<T> {
    results: UnboundedReceiver<Block<T>>,
    given_back: UnboundedSender<usize>,
    producer: AbortOnDropHandle<()>,
    /// The block whose items are handed out.
    block: Option<Block<T>>,
    /// Blocks that wait for those before them.
    ahead: BTreeMap<usize, Block<T>>,
    /// The number of the block whose turn it is.
    next: usize,
    is_ordered: bool,
}

impl<T> Running<T> {
    fn new(start: Start<T>, is_ordered: bool) -> Self {
        let (results_in, results) = unbounded();
        let (given_back, given_back_out) = unbounded();
        let producer = start(given_back_out, results_in);
        Self { results, given_back, producer, block: None, ahead: BTreeMap::new(), next: 0, is_ordered }
    }

    /// The block whose turn it is; `None` if there are no more.
    fn poll_block(&mut self, cx: &mut Context<'_>) -> Poll<Option<Block<T>>> {
        loop {
            if let Some(block) = self.ahead.remove(&self.next) {
                self.next += 1;
                return Poll::Ready(Some(block));
            }
            let Some(block) = ready!(self.results.poll_next_unpin(cx)) else {
                return Poll::Ready(None);
            };
            // Out of order a block's turn is when it comes.
            let number = if self.is_ordered { block.number } else { self.next };
            self.ahead.insert(number, block);
        }
    }

    /// The next item; an error if there is no more to come, whatever the reason.
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, End>> {
        loop {
            if let Some(block) = &mut self.block {
                let item = block.items.next();
                if block.items.len() == 0 && block.panic.is_none() {
                    // The producer may be gone, with nothing left to do.
                    let _ = self.given_back.unbounded_send(block.room);
                    self.block = None;
                }
                if let Some(item) = item {
                    return Poll::Ready(Ok(item));
                }
                if let Some(panic) = self.block.take().and_then(|block| block.panic) {
                    return Poll::Ready(Err(End::Panic(panic.into_inner())));
                }
            }
            self.block = match ready!(self.poll_block(cx)) {
                Some(block) => Some(block),
                None => return Pin::new(&mut self.producer).poll(cx).map(|ended| Err(End::Producer(ended))),
            };
        }
    }
}

/// Why there are no more items.
enum End {
    /// That of an element.
    Panic(Box<dyn Any + Send>),
    Producer(Result<(), task::JoinError>),
}

/// The elements of a parallel iterator as a stream; from [`IntoStream`].
///
/// ```
/// use beat::stream::{IntoStream, ParIterStream};
/// use futures::{Stream, StreamExt};
/// use rayon::prelude::*;
///
/// # #[beat::main]
/// # async fn main() {
/// let mut stream: ParIterStream<u32> = vec![5, 6].into_par_iter().into_stream(4);
/// assert_eq!(stream.size_hint(), (2, Some(2)));
/// assert_eq!(stream.next().await, Some(5));
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct ParIterStream<T> {
    state: State<T>,
    left: usize,
    is_ordered: bool,
}

// No item is ever pinned.
impl<T> Unpin for ParIterStream<T> {}

impl<T: Send + 'static> ParIterStream<T> {
    #[track_caller]
    fn new<I>(iter: I, capacity: usize, is_ordered: bool) -> Self
    where
        I: IndexedParallelIterator<Item = T> + 'static,
    {
        assert!(capacity > 0, "nothing would ever be computed: a stream needs room for one element or more");
        let len = iter.len();
        let site = Location::caller();
        let start = move |given_back, results| {
            with_current_or_global(|shared| {
                let pace = Pace::new(capacity, shared.config.workers as usize);
                let shutdown = task::spawn_future(shared, std::future::pending(), site).abort_on_drop();
                let produce = Produce { len, room: capacity, given_back, results, pace, shutdown };
                task::spawn_closure(shared, move || iter.with_producer(produce), site).abort_on_drop()
            })
        };
        Self { state: State::Waiting(Box::new(start)), left: len, is_ordered }
    }
}

impl<T> Stream for ParIterStream<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let this = &mut *self;
        if let State::Waiting(_) = this.state
            && let State::Waiting(start) = std::mem::replace(&mut this.state, State::Over)
        {
            this.state = State::Running(Running::new(start, this.is_ordered));
        }
        let State::Running(running) = &mut this.state else { return Poll::Ready(None) };
        ready!(budget::poll_proceed(cx));
        let end = match ready!(running.poll_item(cx)) {
            Ok(item) => {
                this.left -= 1;
                return Poll::Ready(Some(item));
            }
            Err(end) => end,
        };
        this.state = State::Over;
        let left = std::mem::take(&mut this.left);
        match end {
            End::Producer(Ok(())) if left == 0 => Poll::Ready(None),
            End::Producer(ended) => fail(ended.err(), "a parallel iterator that is read as a stream"),
            End::Panic(payload) => resume_unwind(payload),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T> fmt::Debug for ParIterStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ParIterStream");
        shown.field("left", &self.left).field("ordered", &self.is_ordered).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_while_they_are_short_and_leave_room_for_others() {
        let pace = Pace::new(128, 4);
        assert_eq!(pace.len(), 1);
        for _ in 0..10 {
            pace.learn(pace.len(), 100);
        }
        assert_eq!(pace.len(), 8);
        // A shorter one, the last, teaches nothing.
        pace.learn(1, 100);
        assert_eq!(pace.len(), 8);
        pace.learn(8, 1_000_000);
        assert_eq!(pace.len(), 4);
        assert_eq!(Pace::new(1, 8).most, 1);
    }
}
