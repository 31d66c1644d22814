//! Which runtime the code on this thread belongs to.

use std::cell::{Cell, RefCell};
use std::io;
use std::sync::Arc;

use crate::driver;
use crate::local::{self, Aside};
use crate::runtime::builder::POLL_BUDGET;
use crate::runtime::global;
use crate::scheduler::Shared;
use crate::task::contained::Contained;

thread_local! {
    /// The runtimes entered on this thread, the current one last. Guards may go in any order.
    static STACK: RefCell<Vec<(u64, Arc<Shared>)>> = const { RefCell::new(Vec::new()) };
    static NEXT_KEY: Cell<u64> = const { Cell::new(0) };
    /// The runtime that this thread was made by: compared, never dereferenced.
    static MAKER: Cell<usize> = const { Cell::new(0) };
}

/// A runtime entered on this thread, until dropped.
pub(crate) struct Entered {
    key: u64,
    /// Another runtime's state steps aside.
    _aside: Option<Aside>,
    _driver: driver::Entered,
}

impl Entered {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let key = NEXT_KEY.get();
        NEXT_KEY.set(key + 1);
        // At the end of a thread the stack may be gone: then nothing is current, and nothing need be taken back.
        let _ = STACK.try_with(|stack| stack.borrow_mut().push((key, Arc::clone(shared))));
        let foreign = local::with(|local| local.is_some_and(|local| !shared.owns(local)));
        Self { key, _aside: foreign.then(Aside::new), _driver: shared.driver.get().enter() }
    }

    /// Around user code that nobody waits for. It may leave guards of its own behind: what tokio has to say about
    /// that when this is dropped after all is reported by the panic hook, and takes nobody down.
    pub(crate) fn contained(shared: &Arc<Shared>) -> Contained<Self> {
        Contained::new(Self::new(shared))
    }

    /// On a thread that the runtime itself has made.
    pub(crate) fn own_thread(shared: &Arc<Shared>) -> Contained<Self> {
        MAKER.set(Arc::as_ptr(shared) as usize);
        Self::contained(shared)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let key = self.key;
        let entry = STACK.try_with(|stack| {
            let mut stack = stack.borrow_mut();
            let place = stack.iter().rposition(|(k, _)| *k == key);
            place.map(|place| stack.remove(place))
        });
        // Outside the borrow: it may be the last reference to a runtime.
        drop(entry);
    }
}

impl std::fmt::Debug for Entered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entered").finish_non_exhaustive()
    }
}

/// The thread is not the runtime's any more, though it goes on.
pub(crate) fn disown_thread() {
    MAKER.set(0);
}

/// Whether this thread was made by `shared`, and hence must not wait for its end.
pub(crate) fn is_own_thread(shared: &Shared) -> bool {
    MAKER.get() == std::ptr::from_ref(shared) as usize
}

/// The runtime entered on this thread.
pub(crate) fn current() -> Option<Arc<Shared>> {
    STACK.try_with(|stack| stack.borrow().last().map(|(_, shared)| Arc::clone(shared))).ok().flatten()
}

/// How long a poll on this thread may last, in nanoseconds.
pub(crate) fn poll_budget() -> u64 {
    let here = local::with(|local| local.map(|local| local.shared.config.poll_budget));
    here.or_else(|| current().map(|shared| shared.config.poll_budget))
        .unwrap_or(POLL_BUDGET.as_nanos() as u64)
}

/// Calls `f` with the runtime of this thread: that of its state, the one entered, or the global one, which is
/// started if there is none.
#[inline]
pub(crate) fn with_current_or_global<R>(f: impl FnOnce(&Arc<Shared>) -> R) -> R {
    local::with(|local| match local {
        Some(local) => f(&local.shared),
        None => f(&current().unwrap_or_else(global::get_or_start)),
    })
}

/// As [`with_current_or_global`], and the error if a global runtime is needed and cannot be started.
pub(crate) fn try_with_current_or_global<R>(f: impl FnOnce(&Arc<Shared>) -> R) -> io::Result<R> {
    local::with(|local| match local {
        Some(local) => Ok(f(&local.shared)),
        None => current().map_or_else(global::try_get_or_start, Ok).map(|shared| f(&shared)),
    })
}
