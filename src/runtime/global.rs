//! The global runtime: the first `#[beat::main]`, or one that is started when first needed.

use std::io;
use std::sync::Arc;

use super::{Builder, Runtime};
use crate::scheduler::Shared;
use crate::sync::Mutex;

#[derive(Debug)]
enum Global {
    Nobody,
    /// Owned by somebody's `#[beat::main]`.
    Main(Arc<Shared>),
    /// Started because it was needed; lives as long as the process.
    Lazy(Runtime),
}

impl Global {
    fn get(&self) -> Option<Arc<Shared>> {
        match self {
            Self::Main(shared) => Some(Arc::clone(shared)),
            Self::Lazy(runtime) => Some(Arc::clone(&runtime.handle().shared)),
            Self::Nobody => None,
        }
    }

    /// There is none yet.
    fn start(&mut self, builder: Builder) -> io::Result<Arc<Shared>> {
        let runtime = builder.global(true).build()?;
        let shared = Arc::clone(&runtime.handle().shared);
        *self = Self::Lazy(runtime);
        Ok(shared)
    }
}

static GLOBAL: Mutex<Global> = Mutex::new(Global::Nobody);

/// The global runtime's shared part; starts a runtime if there is none.
///
/// # Panics
///
/// If the system refuses the threads or descriptors that a runtime needs.
pub(crate) fn get_or_start() -> Arc<Shared> {
    try_get_or_start().unwrap_or_else(|error| {
        panic!(
            "beat: no runtime is current, and a global one could not be started: {error}. \
             Start one with `#[beat::main]` or `Runtime::new`"
        )
    })
}

/// As [`get_or_start`].
///
/// # Errors
///
/// The system refuses the threads or descriptors that a runtime needs.
pub(crate) fn try_get_or_start() -> io::Result<Arc<Shared>> {
    let mut global = GLOBAL.lock();
    global.get().map_or_else(|| global.start(Builder::new()), Ok)
}

/// The global runtime, if there is one.
pub(crate) fn get() -> Option<Arc<Shared>> {
    GLOBAL.lock().get()
}

/// Builds the global runtime; `None` if there is one.
pub(crate) fn build_first(builder: Builder) -> Option<io::Result<Arc<Shared>>> {
    let mut global = GLOBAL.lock();
    matches!(*global, Global::Nobody).then(|| global.start(builder))
}

/// Builds a runtime, which becomes the global one if there is none; the guard ends that.
pub(crate) fn build(builder: Builder) -> io::Result<(Runtime, Option<Registered>)> {
    let mut global = GLOBAL.lock();
    let is_first = matches!(*global, Global::Nobody);
    let runtime = builder.global(is_first).build()?;
    if is_first {
        *global = Global::Main(Arc::clone(&runtime.handle().shared));
    }
    Ok((runtime, is_first.then(|| Registered(()))))
}

/// The main runtime is the global one until this is dropped.
#[derive(Debug)]
pub(crate) struct Registered(());

impl Drop for Registered {
    fn drop(&mut self) {
        let was = std::mem::replace(&mut *GLOBAL.lock(), Global::Nobody);
        drop(was);
    }
}
