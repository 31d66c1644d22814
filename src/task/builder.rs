//! Spawning with a name.

use std::future::Future;
use std::io;
use std::panic::Location;
use std::sync::Arc;

use super::label::Label;
use super::local_set::spawn_local_labelled;
use super::{JoinHandle, LocalSet};
use crate::runtime::Handle;
use crate::runtime::context::try_with_current_or_global;

/// Spawns a task with a name.
///
/// The name is shown by the [`Display`](std::fmt::Display) of the task's [`JoinError`](super::JoinError) and by the
/// `Debug` of its handles; inside the task, [`task::name`](super::name) gives it. A task without a name pays nothing
/// for this; one with a name, two allocations.
///
/// # Examples
///
/// ```
/// # #[beat::main]
/// # async fn main() -> std::io::Result<()> {
/// let task = beat::task::Builder::new().name("summer").spawn(async { panic!("too hot") })?;
/// assert_eq!(task.name(), Some("summer"));
/// let error = task.await.unwrap_err();
/// assert_eq!(error.to_string(), format!("task {} \"summer\" panicked: too hot", error.id()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it spawns"]
pub struct Builder {
    name: Option<Arc<str>>,
}

impl Builder {
    /// A builder that gives no name yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name of the task.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = Some(name.as_ref().into());
        self
    }

    #[track_caller]
    fn label(self) -> Label {
        Label::new(Location::caller(), self.name)
    }

    /// Spawns a future; see [`beat::spawn`](crate::spawn).
    ///
    /// # Errors
    ///
    /// A global runtime is needed, and the system refuses the threads or descriptors for it.
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> io::Result<JoinHandle<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let label = self.label();
        try_with_current_or_global(|shared| super::spawn_future(shared, future, label))
    }

    /// Spawns a future on `runtime`; see [`Handle::spawn`].
    ///
    /// ```
    /// let runtime = beat::Runtime::new()?;
    /// let task = beat::task::Builder::new().name("answer").spawn_on(async { 42 }, runtime.handle())?;
    /// assert_eq!(task.join()?, 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None at present.
    #[track_caller]
    pub fn spawn_on<F>(self, future: F, runtime: &Handle) -> io::Result<JoinHandle<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        Ok(super::spawn_future(&runtime.shared, future, self.label()))
    }

    /// Spawns a future into the current [`LocalSet`]; see [`spawn_local`](super::spawn_local).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() {
    /// let local = beat::LocalSet::new();
    /// let name = local.run_until(async {
    ///     let task = beat::task::Builder::new().name("near").spawn_local(async { beat::task::name() });
    ///     task.unwrap().await.unwrap()
    /// });
    /// assert_eq!(name.await.as_deref(), Some("near"));
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None at present.
    ///
    /// # Panics
    ///
    /// Outside of a `LocalSet`.
    #[track_caller]
    pub fn spawn_local<F>(self, future: F) -> io::Result<JoinHandle<F::Output>>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        Ok(spawn_local_labelled(future, self.label()))
    }

    /// Spawns a future into `set`; see [`LocalSet::spawn_local`].
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() -> std::io::Result<()> {
    /// let local = beat::LocalSet::new();
    /// let task = beat::task::Builder::new().name("near").spawn_local_on(async { 42 }, &local)?;
    /// assert_eq!(local.run_until(task).await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// None at present.
    #[track_caller]
    pub fn spawn_local_on<F>(self, future: F, set: &LocalSet) -> io::Result<JoinHandle<F::Output>>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        Ok(set.spawn_labelled(future, self.label()))
    }

    /// Runs a closure that blocks; see [`beat::spawn_blocking`](crate::spawn_blocking).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() -> std::io::Result<()> {
    /// let task = beat::task::Builder::new().name("list").spawn_blocking(|| std::fs::read_dir("/").is_ok())?;
    /// assert!(task.await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A global runtime is needed, and the system refuses the threads or descriptors for it.
    #[track_caller]
    pub fn spawn_blocking<F, R>(self, f: F) -> io::Result<JoinHandle<R>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let label = self.label();
        try_with_current_or_global(|shared| super::spawn_blocking_closure(shared, f, label))
    }

    /// Runs a closure that blocks on a thread of `runtime`; see [`Handle::spawn_blocking`].
    ///
    /// ```
    /// let runtime = beat::Runtime::new()?;
    /// let list = || std::fs::read_dir("/").is_ok();
    /// let task = beat::task::Builder::new().name("list").spawn_blocking_on(list, runtime.handle())?;
    /// assert!(task.join()?);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None at present.
    #[track_caller]
    pub fn spawn_blocking_on<F, R>(self, f: F, runtime: &Handle) -> io::Result<JoinHandle<R>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        Ok(super::spawn_blocking_closure(&runtime.shared, f, self.label()))
    }

    /// Runs a CPU-bound closure; see [`beat::spawn_blocking_parallel`](crate::spawn_blocking_parallel).
    ///
    /// ```
    /// # #[beat::main]
    /// # async fn main() -> std::io::Result<()> {
    /// let task = beat::task::Builder::new().name("answer").spawn_blocking_parallel(|| 6 * 7)?;
    /// assert_eq!(task.await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// A global runtime is needed, and the system refuses the threads or descriptors for it.
    #[track_caller]
    pub fn spawn_blocking_parallel<F, R>(self, f: F) -> io::Result<JoinHandle<R>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let label = self.label();
        try_with_current_or_global(|shared| super::spawn_closure(shared, f, label))
    }

    /// Runs a CPU-bound closure on `runtime`; see [`Handle::spawn_blocking_parallel`].
    ///
    /// ```
    /// let runtime = beat::Runtime::new()?;
    /// let task = beat::task::Builder::new().name("answer").spawn_blocking_parallel_on(|| 42, runtime.handle())?;
    /// assert_eq!(task.join()?, 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// None at present.
    #[track_caller]
    pub fn spawn_blocking_parallel_on<F, R>(self, f: F, runtime: &Handle) -> io::Result<JoinHandle<R>>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        Ok(super::spawn_closure(&runtime.shared, f, self.label()))
    }
}
