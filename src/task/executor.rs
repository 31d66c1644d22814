//! Beat as the executor of code that is generic over one: the traits of `futures::task`.
//!
//! Of other crates with such traits none is adapted here: `executor-trait` boxes every future and is kept up passively;
//! `async_executors` builds on these very traits, and brings more dependencies than the scheduler has.

use futures::task::{FutureObj, LocalFutureObj, LocalSpawn, Spawn, SpawnError};

use super::LocalSet;
use crate::runtime::{Handle, Runtime};

/// Spawns on this runtime, and detaches the task.
///
/// ```
/// use futures::task::SpawnExt;
///
/// let runtime = beat::Runtime::new()?;
/// let answer = runtime.handle().spawn_with_handle(async { 6 * 7 }).unwrap();
/// assert_eq!(runtime.block_on(answer), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
impl Spawn for Handle {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.status()?;
        drop(self.spawn(future));
        Ok(())
    }

    /// Whether the runtime takes tasks: not once it shuts down.
    fn status(&self) -> Result<(), SpawnError> {
        if self.shared.is_closed() { Err(SpawnError::shutdown()) } else { Ok(()) }
    }
}

/// Spawns on this runtime, and detaches the task.
impl Spawn for Runtime {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        self.handle().spawn_obj(future)
    }

    fn status(&self) -> Result<(), SpawnError> {
        self.handle().status()
    }
}

/// Spawns into this set, and detaches the task.
impl LocalSpawn for LocalSet {
    fn spawn_local_obj(&self, future: LocalFutureObj<'static, ()>) -> Result<(), SpawnError> {
        drop(self.spawn_local(future));
        Ok(())
    }
}

/// Spawns into this set, and detaches the task: what may go anywhere may also stay.
impl Spawn for LocalSet {
    fn spawn_obj(&self, future: FutureObj<'static, ()>) -> Result<(), SpawnError> {
        drop(self.spawn_local(future));
        Ok(())
    }
}
