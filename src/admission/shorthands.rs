//! The usual requests, as functions of the crate.

use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use super::request::{start, start_closure};
use super::{Admit, Overloaded, Permit, Reservation};
use crate::pressure::{self, Pressure};
use crate::runtime::context::with_current_or_global;
use crate::task::JoinHandle;

/// A snapshot of the memory of this process: level, headroom, stalls.
///
/// It is at most 10 ms old. The level follows what is in use; what is reserved is subtracted from the headroom.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let pressure = beat::pressure();
/// println!("{:?}, {:?} bytes left: {}", pressure.level, pressure.headroom(), pressure.why());
/// # }
/// ```
pub fn pressure() -> Pressure {
    with_current_or_global(pressure::of)
}

/// A request for admission, for the current runtime or the global one: choose a class, an estimate, and what to spawn.
///
/// ```
/// use beat::admission::Class;
///
/// # #[beat::main]
/// # async fn main() {
/// match beat::admit().class(Class::Background).try_spawn(async { "tidied" }) {
///     Ok(task) => assert_eq!(task.await.unwrap(), "tidied"),
///     Err(overloaded) => println!("later: {overloaded}"),
/// }
/// # }
/// ```
#[track_caller]
pub fn admit() -> Admit {
    Admit::new(with_current_or_global(Arc::clone), Location::caller())
}

/// Spawns a future if there is memory for it now and nobody waits.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// match beat::try_spawn(async { 6 * 7 }) {
///     Ok(task) => assert_eq!(task.await.unwrap(), 42),
///     Err(overloaded) => println!("try again in {:?}", overloaded.retry_after()),
/// }
/// # }
/// ```
///
/// # Errors
///
/// Memory is short; the error gives the future back.
#[track_caller]
pub fn try_spawn<F>(future: F) -> Result<JoinHandle<F::Output>, Overloaded<F>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let site = Location::caller();
    with_current_or_global(|shared| {
        if shared.admission.queue.is_open() {
            // Nothing shared is written: not even a reference is counted.
            return Ok(start(shared, Permit::free(), future, site));
        }
        Admit::new(Arc::clone(shared), site).try_spawn(future)
    })
}

/// Spawns a future as soon as there is memory for it, first in, first out.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let task = beat::spawn_admitted(async { 6 * 7 }).await;
/// assert_eq!(task.await.unwrap(), 42);
/// # }
/// ```
///
/// # Cancel safety
///
/// Cancel safe: dropped before it is ready, it gives its place up, and the future is dropped without being polled.
#[track_caller]
pub fn spawn_admitted<F>(future: F) -> impl Future<Output = JoinHandle<F::Output>> + Send
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    admit().spawn(future)
}

/// Spawns a future as soon as there are so many bytes for it; they stay reserved until it has ended.
///
/// The future gets a [`Reservation`], to correct the estimate with.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let task = beat::spawn_with_memory_estimate(8 << 20, |memory| async move {
///     let buffer = vec![0_u8; 1 << 20];
///     memory.shrink(7 << 20);
///     buffer.len()
/// });
/// assert_eq!(task.await.await.unwrap(), 1 << 20);
/// # }
/// ```
///
/// # Cancel safety
///
/// As [`spawn_admitted`].
#[track_caller]
pub fn spawn_with_memory_estimate<M, F>(
    bytes: u64,
    make: M,
) -> impl Future<Output = JoinHandle<F::Output>> + Send
where
    M: FnOnce(Reservation) -> F + Send + 'static,
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    admit().memory(bytes).spawn_with(make)
}

/// Runs a CPU-bound closure if there is memory for it now and nobody waits.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// match beat::try_spawn_blocking_parallel(|| (1..=1000_u64).sum::<u64>()) {
///     Ok(sum) => assert_eq!(sum.await.unwrap(), 500_500),
///     Err(overloaded) => println!("try again in {:?}", overloaded.retry_after()),
/// }
/// # }
/// ```
///
/// # Errors
///
/// Memory is short; the error gives the closure back.
#[track_caller]
pub fn try_spawn_blocking_parallel<F, R>(f: F) -> Result<JoinHandle<R>, Overloaded<F>>
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    let site = Location::caller();
    with_current_or_global(|shared| {
        if shared.admission.queue.is_open() {
            return Ok(start_closure(shared, Permit::free(), f, site));
        }
        Admit::new(Arc::clone(shared), site).try_spawn_blocking_parallel(f)
    })
}

/// Runs a CPU-bound closure as soon as there is memory for it, first in, first out.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let sum = beat::spawn_blocking_parallel_admitted(|| (1..=1000_u64).sum::<u64>()).await;
/// assert_eq!(sum.await.unwrap(), 500_500);
/// # }
/// ```
///
/// # Cancel safety
///
/// As [`spawn_admitted`].
#[track_caller]
pub fn spawn_blocking_parallel_admitted<F, R>(f: F) -> impl Future<Output = JoinHandle<R>> + Send
where
    F: FnOnce() -> R + Send + 'static,
    R: Send + 'static,
{
    admit().spawn_blocking_parallel(f)
}

/// Runs a CPU-bound closure as soon as there are so many bytes for it; they stay reserved until it has ended.
///
/// ```
/// # #[beat::main]
/// # async fn main() {
/// let length = beat::spawn_blocking_parallel_with_memory_estimate(8 << 20, |memory| {
///     let buffer = vec![0_u8; 16 << 20];
///     memory.grow(8 << 20);
///     buffer.len()
/// });
/// assert_eq!(length.await.await.unwrap(), 16 << 20);
/// # }
/// ```
///
/// # Cancel safety
///
/// As [`spawn_admitted`].
#[track_caller]
pub fn spawn_blocking_parallel_with_memory_estimate<F, R>(
    bytes: u64,
    f: F,
) -> impl Future<Output = JoinHandle<R>> + Send
where
    F: FnOnce(Reservation) -> R + Send + 'static,
    R: Send + 'static,
{
    admit().memory(bytes).spawn_blocking_parallel_with(f)
}
