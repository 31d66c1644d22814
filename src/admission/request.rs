//! Asking for admission: the request, the waiting, and the task that carries its permit.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project::pin_project;

use super::queue::{Entered, Place};
use super::{Admission, Class, Overloaded, Permit, Reason, Reservation};
use crate::local;
use crate::scheduler::Shared;
use crate::task::{self, JoinHandle};

/// A request for admission; from [`beat::admit`](crate::admit) or [`Handle::admit`](crate::Handle::admit).
///
/// ```
/// use beat::admission::Class;
///
/// # #[beat::main]
/// # async fn main() {
/// let report = beat::admit().class(Class::Background).memory(1 << 20).spawn(async { 6 * 7 }).await;
/// assert_eq!(report.await.unwrap(), 42);
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a request does nothing until it is used"]
pub struct Admit {
    shared: Arc<Shared>,
    class: Class,
    bytes: Option<u64>,
    site: &'static Location<'static>,
}

impl Admit {
    pub(crate) fn new(shared: Arc<Shared>, site: &'static Location<'static>) -> Self {
        Self { shared, class: Class::default(), bytes: None, site }
    }

    /// What the work is worth. Default: [`Class::Normal`].
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// How many bytes the work will need at most. By default an estimate is learned for each place in the source
    /// that asks, and is used while memory is not plentiful.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// A permit without a task, now or not at all.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// match beat::admit().try_permit() {
    ///     Ok(permit) => drop(permit), // when the work is done
    ///     Err(overloaded) => println!("later: {overloaded}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no room.
    pub fn try_permit(self) -> Result<Permit, Overloaded> {
        self.ask()
    }

    fn ask(&self) -> Result<Permit, Overloaded> {
        let Some(bytes) = self.bytes_to_count() else { return Ok(Permit::free()) };
        let admission = self.admission();
        match admission.queue.enter(self.class, bytes, is_inside()) {
            Entered::Admitted => Ok(Permit::counted(admission, bytes, self.place())),
            Entered::Shed => Err(admission.overloaded((), Reason::Level(admission.sensor.level()))),
            Entered::Behind(waiters) => Err(admission.overloaded((), Reason::Waiters(waiters))),
            Entered::Full => Err(admission.overloaded((), Reason::Room)),
        }
    }

    /// A permit without a task, in turn.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let permit = beat::admit().memory(1 << 20).permit().await;
    /// assert_eq!(permit.reservation().bytes(), 1 << 20);
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, it gives its place in the queue up.
    pub async fn permit(self) -> Permit {
        self.turn().await
    }

    async fn turn(&self) -> Permit {
        let Some(bytes) = self.bytes_to_count() else { return Permit::free() };
        Wait { shared: &self.shared, class: self.class, bytes, stage: Stage::New }.await;
        Permit::counted(self.admission(), bytes, self.place())
    }

    /// Spawns a future, now or not at all; see [`beat::try_spawn`](crate::try_spawn).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// match beat::admit().memory(1 << 10).try_spawn(async { 6 * 7 }) {
    ///     Ok(task) => assert_eq!(task.await.unwrap(), 42),
    ///     Err(overloaded) => drop(overloaded.into_inner()),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no room; the error gives the future back.
    pub fn try_spawn<F>(self, future: F) -> Result<JoinHandle<F::Output>, Overloaded<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        match self.ask() {
            Ok(permit) => Ok(start(&self.shared, permit, future, self.site)),
            Err(overloaded) => Err(overloaded.with(future)),
        }
    }

    /// Spawns a future in turn; see [`beat::spawn_admitted`](crate::spawn_admitted).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, it gives its place in the queue up, and the future is dropped.
    pub async fn spawn<F>(self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let permit = self.turn().await;
        start(&self.shared, permit, future, self.site)
    }

    /// The same for a future that may change what is reserved for it.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let task = beat::admit().memory(1 << 20).spawn_with(|memory| async move {
    ///     memory.shrink(1 << 19);
    ///     memory.bytes()
    /// });
    /// assert_eq!(task.await.await.unwrap(), 1 << 19);
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`spawn`](Self::spawn).
    pub async fn spawn_with<M, F>(self, make: M) -> JoinHandle<F::Output>
    where
        M: FnOnce(Reservation) -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let permit = self.turn().await;
        let reservation = permit.reservation();
        start(&self.shared, permit, make(reservation), self.site)
    }

    /// Runs a CPU-bound closure, now or not at all; see
    /// [`beat::try_spawn_blocking_parallel`](crate::try_spawn_blocking_parallel).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// match beat::admit().memory(1 << 10).try_spawn_blocking_parallel(|| 6 * 7) {
    ///     Ok(answer) => assert_eq!(answer.await.unwrap(), 42),
    ///     Err(overloaded) => drop(overloaded.into_inner()),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// There is no room; the error gives the closure back.
    pub fn try_spawn_blocking_parallel<F, R>(self, f: F) -> Result<JoinHandle<R>, Overloaded<F>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        match self.ask() {
            Ok(permit) => Ok(start_closure(&self.shared, permit, f, self.site)),
            Err(overloaded) => Err(overloaded.with(f)),
        }
    }

    /// Runs a CPU-bound closure in turn.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let answer = beat::admit().memory(1 << 10).spawn_blocking_parallel(|| 6 * 7).await;
    /// assert_eq!(answer.await.unwrap(), 42);
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropped, it gives its place in the queue up, and the closure is dropped.
    pub async fn spawn_blocking_parallel<F, R>(self, f: F) -> JoinHandle<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let permit = self.turn().await;
        start_closure(&self.shared, permit, f, self.site)
    }

    /// The same for a closure that may change what is reserved for it.
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let task = beat::admit().memory(1 << 20).spawn_blocking_parallel_with(|memory| {
    ///     memory.grow(1 << 20);
    ///     memory.bytes()
    /// });
    /// assert_eq!(task.await.await.unwrap(), 2 << 20);
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`spawn_blocking_parallel`](Self::spawn_blocking_parallel).
    pub async fn spawn_blocking_parallel_with<F, R>(self, f: F) -> JoinHandle<R>
    where
        F: FnOnce(Reservation) -> R + Send + 'static,
        R: Send + 'static,
    {
        let permit = self.turn().await;
        let reservation = permit.reservation();
        start_closure(&self.shared, permit, move || f(reservation), self.site)
    }

    fn admission(&self) -> &Arc<Admission> {
        &self.shared.admission
    }

    fn place(&self) -> usize {
        std::ptr::from_ref(self.site) as usize
    }

    /// `None` through the open gate.
    #[inline]
    fn bytes_to_count(&self) -> Option<u64> {
        if self.bytes.is_none() && self.admission().queue.is_open() {
            return None;
        }
        self.admission().keep_sampling(&self.shared);
        Some(self.bytes.unwrap_or_else(|| self.admission().sites().need(self.place())))
    }
}

/// Spawns a future that has been admitted.
pub(super) fn start<F>(
    shared: &Arc<Shared>,
    permit: Permit,
    future: F,
    site: &'static Location<'static>,
) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let admitted = Admitted { future, marked: false, _permit: permit };
    task::spawn_future(shared, admitted, site)
}

/// Runs a closure that has been admitted.
pub(super) fn start_closure<F, R>(
    shared: &Arc<Shared>,
    permit: Permit,
    f: F,
    site: &'static Location<'static>,
) -> JoinHandle<R>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let body = move || {
        // Given back when `f` has ended and dropped what it owned.
        let _permit = permit;
        task::mark_admitted();
        f()
    };
    task::spawn_closure(shared, body, site)
}

impl fmt::Debug for Admit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admit")
            .field("class", &self.class)
            .field("memory", &self.bytes)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// Code that holds a permit is being polled on this thread, in a task that is not itself admitted.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether the code that runs here belongs to something admitted, and hence must not be held back.
pub(crate) fn is_inside() -> bool {
    INSIDE.get() || task::is_admitted()
}

/// Runs a poll as that of something admitted.
#[cfg_attr(not(feature = "tower"), allow(dead_code, reason = "the layer's"))]
pub(super) fn inside<R>(poll: impl FnOnce() -> R) -> R {
    INSIDE.with(|inside| local::with_value(inside, true, poll))
}

/// A future with its permit, which goes after it.
#[pin_project]
struct Admitted<F> {
    #[pin]
    future: F,
    marked: bool,
    _permit: Permit,
}

impl<F: Future> Future for Admitted<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if !*this.marked {
            *this.marked = true;
            task::mark_admitted();
        }
        this.future.poll(cx)
    }
}

#[derive(Clone, Copy)]
enum Stage {
    New,
    Waits(u64),
    Over,
}

/// Waits for its turn.
struct Wait<'a> {
    shared: &'a Arc<Shared>,
    class: Class,
    bytes: u64,
    stage: Stage,
}

impl Future for Wait<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let queue = &self.shared.admission.queue;
        let admitted = match self.stage {
            Stage::New => match queue.enqueue(self.class, self.bytes, is_inside(), cx.waker()) {
                Place::Admitted => true,
                Place::Waits(number, rings) => {
                    self.stage = Stage::Waits(number);
                    if rings {
                        self.shared.admission.rouse_sampler(self.shared);
                    }
                    false
                }
            },
            Stage::Waits(number) => queue.poll_wait(self.class, number, cx.waker()),
            Stage::Over => unreachable!("a wait is polled until it is over"),
        };
        if !admitted {
            return Poll::Pending;
        }
        self.stage = Stage::Over;
        Poll::Ready(())
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Stage::Waits(number) = self.stage {
            self.shared.admission.queue.abandon(self.class, number).wake();
        }
    }
}
