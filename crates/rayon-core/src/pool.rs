//! Which Beat runtime is the pool at hand, and what a runtime that was made as a pool knows besides.
//!
//! A pool lives as long as its [`ThreadPool`](crate::ThreadPool) or a job that was spawned into it: each is counted in
//! [`Owner::uses`], and the last one shuts the runtime down.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::abort;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use beat::__rayon::{self, Settings};
use beat::{Handle, Runtime};

use crate::builder::workers_by_default;

pub(crate) type Payload = Box<dyn Any + Send>;
pub(crate) type PanicHandler = dyn Fn(Payload) + Send + Sync;

/// What a runtime that stands for a pool knows besides.
pub(crate) struct Owner {
    panic_handler: Option<Box<PanicHandler>>,
    uses: AtomicUsize,
    runtime: Mutex<Option<Runtime>>,
}

impl Owner {
    pub(crate) fn new(panic_handler: Option<Box<PanicHandler>>) -> Arc<Self> {
        Arc::new(Self { panic_handler, uses: AtomicUsize::new(0), runtime: Mutex::new(None) })
    }

    /// The runtime is there, and ends with the last use.
    pub(crate) fn set_runtime(&self, runtime: Runtime) {
        *self.runtime.lock().unwrap_or_else(PoisonError::into_inner) = Some(runtime);
    }

    fn of(handle: &Handle) -> Option<Arc<Self>> {
        __rayon::owner(handle)?.downcast().ok()
    }

    /// A panic that nobody waits for.
    pub(crate) fn panicked(owner: Option<&Self>, payload: Payload) {
        let Some(handler) = owner.and_then(|owner| owner.panic_handler.as_ref()) else {
            eprintln!(
                "rayon on Beat: a job that nobody waits for panicked, and there is no panic handler; aborting. Set one \
                 with `ThreadPoolBuilder::panic_handler`."
            );
            abort();
        };
        if catch_unwind(AssertUnwindSafe(|| handler(payload))).is_err() {
            eprintln!("rayon on Beat: the panic handler panicked; aborting.");
            abort();
        }
    }
}

/// Keeps a pool going. Runtimes that are not made as pools have no owner, and end when Beat says so.
pub(crate) struct Use(Option<Arc<Owner>>);

impl Use {
    pub(crate) fn of(handle: &Handle) -> Self {
        Self::new(Owner::of(handle))
    }

    pub(crate) fn new(owner: Option<Arc<Owner>>) -> Self {
        if let Some(owner) = &owner {
            // Relaxed: whoever makes a use has one already, or the runtime.
            owner.uses.fetch_add(1, Relaxed);
        }
        Self(owner)
    }

    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.0.as_deref()
    }

    /// Runs a job that nobody waits for.
    pub(crate) fn run(self, job: impl FnOnce()) {
        match catch_unwind(AssertUnwindSafe(job)) {
            Ok(()) => {}
            // Beat's own business.
            Err(payload) if __rayon::is_cancellation(&*payload) => resume_unwind(payload),
            Err(payload) => Owner::panicked(self.owner(), payload),
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let Some(owner) = &self.0 else { return };
        // AcqRel: the last one sees what all others did.
        if owner.uses.fetch_sub(1, AcqRel) == 1 {
            let runtime = owner.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(runtime) = runtime {
                // As in rayon, nobody waits for the threads.
                runtime.shutdown_background();
            }
        }
    }
}

/// The pool at hand.
///
/// # Panics
///
/// If it has to be started and cannot be.
pub(crate) fn current() -> Handle {
    __rayon::current().unwrap_or_else(global)
}

fn global() -> Handle {
    loop {
        if let Some(handle) = __rayon::global() {
            return handle;
        }
        let mut builder = Runtime::builder();
        if let Some(workers) = workers_by_default() {
            builder = builder.worker_threads(workers.min(crate::max_num_threads()));
        }
        // `None`: somebody was faster.
        if let Some(built) = __rayon::build_global(builder, Settings::default()) {
            return built
                .unwrap_or_else(|error| panic!("the global thread pool could not be started: {error}"));
        }
    }
}
