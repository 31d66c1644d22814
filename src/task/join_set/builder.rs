//! Spawning with a name, into a set.

use std::future::Future;
use std::io;

use super::JoinSet;
use crate::runtime::Handle;
use crate::task::{self, AbortHandle, LocalSet};

/// Spawns a task with a name into a [`JoinSet`]; from [`JoinSet::build_task`].
///
/// ```
/// # #[beat::main]
/// # async fn main() -> std::io::Result<()> {
/// use beat::JoinSet;
///
/// let runtime = beat::Handle::current();
/// let mut set = JoinSet::new();
/// set.build_task().name("a future").spawn(async { 1 })?;
/// set.build_task().name("a future there").spawn_on(async { 2 }, &runtime)?;
/// set.build_task().name("a file").spawn_blocking(|| 3)?;
/// set.build_task().name("a file there").spawn_blocking_on(|| 4, &runtime)?;
/// set.build_task().name("a sum").spawn_blocking_parallel(|| 5)?;
/// let sum = set.build_task().name("a sum there").spawn_blocking_parallel_on(|| 6, &runtime)?;
/// # let _ = sum;
/// assert_eq!(set.join_all().await.iter().sum::<i32>(), 21);
///
/// let local = beat::LocalSet::new();
/// let mut set = JoinSet::new();
/// let task = set.build_task().name("around").spawn_local_on(async { 1 }, &local)?;
/// assert_eq!(task.name(), Some("around"));
/// let inside = local.run_until(async {
///     set.build_task().name("inside").spawn_local(async { 2 })?;
///     std::io::Result::Ok(set.join_all().await)
/// });
/// assert_eq!(inside.await?.iter().sum::<i32>(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder<'a, T> {
    pub(super) set: &'a mut JoinSet<T>,
    pub(super) builder: task::Builder,
}

impl<T: 'static> Builder<'_, T> {
    /// The name of the task.
    pub fn name(self, name: impl AsRef<str>) -> Self {
        Self { builder: self.builder.name(name), ..self }
    }

    /// Spawns a future that stays on this thread; see [`JoinSet::spawn_local`].
    ///
    /// # Errors
    ///
    /// As those of [`task::Builder`](task::Builder::spawn_local).
    ///
    /// # Panics
    ///
    /// Outside of a `LocalSet`.
    #[track_caller]
    pub fn spawn_local<F>(self, future: F) -> io::Result<AbortHandle>
    where
        F: Future<Output = T> + 'static,
    {
        Ok(self.set.insert(self.builder.spawn_local(future)?))
    }

    /// Spawns a future that stays on this thread into `local`; see [`JoinSet::spawn_local_on`].
    ///
    /// # Errors
    ///
    /// As those of [`task::Builder`](task::Builder::spawn_local_on).
    #[track_caller]
    pub fn spawn_local_on<F>(self, future: F, local: &LocalSet) -> io::Result<AbortHandle>
    where
        F: Future<Output = T> + 'static,
    {
        Ok(self.set.insert(self.builder.spawn_local_on(future, local)?))
    }
}

impl<T: Send + 'static> Builder<'_, T> {
    /// Spawns a future; see [`JoinSet::spawn`].
    ///
    /// # Errors
    ///
    /// As those of [`task::Builder`](task::Builder::spawn).
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> io::Result<AbortHandle>
    where
        F: Future<Output = T> + Send + 'static,
    {
        Ok(self.set.insert(self.builder.spawn(future)?))
    }

    /// Spawns a future on `runtime`; see [`JoinSet::spawn_on`].
    ///
    /// # Errors
    ///
    /// As those of [`task::Builder`](task::Builder::spawn_on).
    #[track_caller]
    pub fn spawn_on<F>(self, future: F, runtime: &Handle) -> io::Result<AbortHandle>
    where
        F: Future<Output = T> + Send + 'static,
    {
        Ok(self.set.insert(self.builder.spawn_on(future, runtime)?))
    }

    /// Runs a closure that blocks; see [`JoinSet::spawn_blocking`].
    ///
    /// # Errors
    ///
    /// As those of [`task::Builder`](task::Builder::spawn_blocking).
    #[track_caller]
    pub fn spawn_blocking<F>(self, f: F) -> io::Result<AbortHandle>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        Ok(self.set.insert(self.builder.spawn_blocking(f)?))
    }

    /// Runs a closure that blocks on `runtime`; see [`JoinSet::spawn_blocking_on`].
    ///
    /// # Errors
    ///
    /// As those of [`task::Builder`](task::Builder::spawn_blocking_on).
    #[track_caller]
    pub fn spawn_blocking_on<F>(self, f: F, runtime: &Handle) -> io::Result<AbortHandle>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        Ok(self.set.insert(self.builder.spawn_blocking_on(f, runtime)?))
    }

    /// Runs a CPU-bound closure; see [`JoinSet::spawn_blocking_parallel`].
    ///
    /// # Errors
    ///
    /// As those of [`task::Builder`](task::Builder::spawn_blocking_parallel).
    #[track_caller]
    pub fn spawn_blocking_parallel<F>(self, f: F) -> io::Result<AbortHandle>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        Ok(self.set.insert(self.builder.spawn_blocking_parallel(f)?))
    }

    /// Runs a CPU-bound closure on `runtime`; see [`JoinSet::spawn_blocking_parallel_on`].
    ///
    /// # Errors
    ///
    /// As those of [`task::Builder`](task::Builder::spawn_blocking_parallel_on).
    #[track_caller]
    pub fn spawn_blocking_parallel_on<F>(self, f: F, runtime: &Handle) -> io::Result<AbortHandle>
    where
        F: FnOnce() -> T + Send + 'static,
    {
        Ok(self.set.insert(self.builder.spawn_blocking_parallel_on(f, runtime)?))
    }
}
