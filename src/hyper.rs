//! Beat as hyper's executor: what hyper spawns becomes a Beat task.

use std::future::Future;

use crate::Handle;
use crate::carried;

/// Spawns hyper's futures on Beat: on one runtime, or on whichever is current.
///
/// For `hyper-util`'s connection builders and clients:
///
/// ```
/// use beat::hyper::BeatExecutor;
/// let builder = hyper_util::server::conn::auto::Builder::new(BeatExecutor::new());
/// # drop(builder);
/// ```
#[derive(Clone, Debug, Default)]
pub struct BeatExecutor {
    handle: Option<Handle>,
}

impl BeatExecutor {
    /// Spawns on the runtime that is current when hyper spawns, as [`beat::spawn`](crate::spawn) does.
    pub fn new() -> Self {
        Self::default()
    }

    /// Spawns on this runtime.
    ///
    /// ```
    /// use beat::hyper::BeatExecutor;
    ///
    /// let runtime = beat::Runtime::new()?;
    /// let builder = hyper_util::server::conn::auto::Builder::new(BeatExecutor::on(runtime.handle().clone()));
    /// # drop(builder);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn on(handle: Handle) -> Self {
        Self { handle: Some(handle) }
    }
}

impl<F> hyper::rt::Executor<F> for BeatExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        // Dropping the handle detaches the task. A connection outlives the request that opens it, whose span would
        // stay open for as long.
        drop(carried::without(|| match &self.handle {
            Some(handle) => handle.spawn(future),
            None => crate::spawn(future),
        }));
    }
}
