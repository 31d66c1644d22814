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
    match &*global {
        Global::Main(shared) => Ok(Arc::clone(shared)),
        Global::Lazy(runtime) => Ok(Arc::clone(&runtime.handle().shared)),
        Global::Nobody => {
            let runtime = Builder::new().global(true).build()?;
            let shared = Arc::clone(&runtime.handle().shared);
            *global = Global::Lazy(runtime);
            Ok(shared)
        }
    }
}

/// The global runtime, if there is one.
pub(crate) fn get() -> Option<Arc<Shared>> {
    match &*GLOBAL.lock() {
        Global::Main(shared) => Some(Arc::clone(shared)),
        Global::Lazy(runtime) => Some(Arc::clone(&runtime.handle().shared)),
        Global::Nobody => None,
    }
}

/// Builds the global runtime; `None` if there is one.
pub(crate) fn build_first(builder: Builder) -> Option<std::io::Result<Arc<Shared>>> {
    let mut global = GLOBAL.lock();
    matches!(*global, Global::Nobody).then(|| {
        let runtime = builder.global(true).build()?;
        let shared = Arc::clone(&runtime.handle().shared);
        *global = Global::Lazy(runtime);
        Ok(shared)
    })
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
